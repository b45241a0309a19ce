"""Whether DNS holds the record of a key, at every server that answers for it, and what is wrong if not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import dns.exception
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError, printable

TIME_OUT = 5  # seconds for one question
PORT = 53


class Server(NamedTuple):
    """A name server: how to call it in a message, its address, its port."""

    name: str
    address: str
    port: int = PORT


class Answer(NamedTuple):
    """What a server says.

    ``failure``  why there is no TXT record, in a few words, or empty
    ``texts``    of all TXT records, the strings of each joined
    ``ttl``      seconds for which a resolver may keep this answer, also one that nothing is there (RFC 2308)
    ``absent``   the server says for certain that there is none: it is neither silent nor at a loss
    """

    failure: str
    texts: list[bytes]
    ttl: int = 0
    absent: bool = False

    @property
    def keys(self) -> set[bytes]:
        """The keys in the records. One that is revoked is none (RFC 6376 section 3.6.1)."""
        return keys_of(*self.texts)

    @property
    def may_hold_key(self) -> bool:
        """Whether there is a key, or may be one behind an answer that tells nothing."""
        return bool(self.keys) or not (self.texts or self.absent)


def server(text: str) -> Server:
    """Return the server of ``IP`` or ``IP#PORT``. Raises ConfigError."""
    address, _, port = text.partition("#")
    if not (port or str(PORT)).isdigit() or not dns.inet.is_address(address):
        raise ConfigError(f"'{text}' is no server", "such as 192.0.2.1 or 192.0.2.1#5353")
    return Server(text, address, int(port or PORT))


def servers_of(owner: str) -> list[Server]:
    """Return the system's resolver and the servers that answer for a name (RFC 1034). Raises ConfigError."""
    try:
        resolver = dns.resolver.Resolver()
        found = [Server("the resolver", str(resolver.nameservers[0]))]
        zone = dns.resolver.zone_for_name(owner, resolver=resolver, lifetime=TIME_OUT)
        for name in sorted(str(record.target) for record in resolver.resolve(zone, "NS")):
            for kind in ("A", "AAAA"):
                answer = resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=TIME_OUT)
                found += [
                    Server(f"{name.rstrip('.')} ({record})", str(record)) for record in answer.rrset or ()
                ]
    except dns.exception.DNSException as error:
        raise ConfigError(f"cannot find the name servers of {owner}: {error}") from None
    return found


def ask(owner: str, at: Server) -> Answer:
    """Ask a server for the TXT records of a name, by UDP, and by TCP where the answer is too long."""
    query = dns.message.make_query(owner, dns.rdatatype.TXT, use_edns=True, payload=1232)
    try:
        response, _ = dns.query.udp_with_fallback(query, at.address, TIME_OUT, port=at.port)
    except dns.exception.Timeout:
        return Answer(f"no answer within {TIME_OUT} s", [])
    except (OSError, dns.exception.DNSException) as error:
        return Answer(f"no answer: {error}", [])
    code = response.rcode()
    if code == dns.rcode.NXDOMAIN:
        return Answer("there is no such name (NXDOMAIN)", [], _negative_ttl(response), absent=True)
    if code != dns.rcode.NOERROR:
        return Answer(f"the server fails ({dns.rcode.to_text(code)})", [])
    sets = [each for each in response.answer if each.rdtype == dns.rdatatype.TXT]
    texts = [b"".join(record.strings) for each in sets for record in each]
    if texts:
        return Answer("", texts, max(each.ttl for each in response.answer))
    aliases = [each for each in response.answer if each.rdtype == dns.rdatatype.CNAME]
    if aliases:
        return Answer(f"it is an alias (CNAME) of {aliases[-1][0].target}, which has no TXT record", [])
    return Answer("the name is there, but has no TXT record", [], _negative_ttl(response), absent=True)


def _negative_ttl(response: dns.message.Message) -> int:
    """Return the seconds for which an answer that nothing is there is kept (RFC 2308 section 5)."""
    kinds = (each for each in response.authority if each.rdtype == dns.rdatatype.SOA)
    return max([min(each.ttl, each[0].minimum) for each in kinds], default=0)


def findings(owner: str, value: str, servers: list[Server]) -> Iterator[Finding]:
    """Yield what is wrong with the record ``owner``, whose value should be ``value``, at these servers."""
    for at in servers:
        what, level = _fault(owner, value, ask(owner, at), at)
        if what:
            yield Finding(f"{owner}: {what}, says {at.name}", f'publish: {owner}. IN TXT "{value}"', level)


def _fault(owner: str, value: str, answer: Answer, at: Server) -> tuple[str, str]:
    """Return what is wrong with an answer, and how bad it is; nothing if all is right."""
    wanted = _tags(value.encode())
    if answer.failure:
        return _absent(owner, answer, at), "error"
    if len(answer.texts) > 1:
        return (
            f"{len(answer.texts)} TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
            "error",
        )
    text = answer.texts[0]
    tags = _tags(text)
    if b"p" not in tags:
        wildcard = ask(f"{os.urandom(6).hex()}.{owner.partition('.')[2]}", at)
        if wildcard.texts == answer.texts:
            return f"a wildcard record answers, which is no key: '{printable(text)}'", "error"
        return f"it is no key record: '{printable(text)}'", "error"
    if not tags[b"p"]:
        return "the key is revoked: p= is empty", "error"
    if tags[b"p"] != wanted[b"p"]:
        plain = text.translate(None, b'"\\ \t')
        if wanted[b"p"] in plain:
            return "quotes, backslashes or blanks stand within the value, where it was split", "error"
        if wanted[b"p"].startswith(tags[b"p"]) or wanted[b"p"].endswith(tags[b"p"]):
            return f"p= is cut: {len(tags[b'p'])} of {len(wanted[b'p'])} characters are there", "error"
        return "it is another key than the private key's", "error"
    if tags.get(b"v", b"DKIM1") != b"DKIM1" or tags.get(b"k", b"rsa") != wanted[b"k"]:
        return f"v= or k= is wrong: '{printable(text, 40)}'", "error"
    if b"sha256" not in tags.get(b"h", b"sha256").split(b":"):
        return f"h={tags[b'h'].decode('ascii', 'replace')} does not allow sha256", "error"
    if not {b"*", b"email"}.intersection(tags.get(b"s", b"*").split(b":")):
        return f"s={tags[b's'].decode('ascii', 'replace')} does not allow email", "error"
    if b"y" in tags.get(b"t", b"").split(b":"):
        return "t=y is left on: verifiers treat the mail as unsigned", "warning"
    return "", ""


def _absent(owner: str, answer: Answer, at: Server) -> str:
    """Return what is wrong where there is no record; a name whose zone was written twice is a usual slip."""
    domain = owner.partition("._domainkey.")[2]
    if not ask(f"{owner}.{domain}", at).failure:
        return f"the record stands at {owner}.{domain}; leave the domain out where it is entered"
    return answer.failure


def keys_of(*texts: bytes) -> set[bytes]:
    """Return the keys in these records: p= in base64."""
    return {key for text in texts if (key := _tags(text).get(b"p", b""))}


def _tags(text: bytes) -> dict[bytes, bytes]:
    """Return the tags of a record (RFC 6376 section 3.2), without the blanks that may stand anywhere."""
    pairs = (part.partition(b"=") for part in text.split(b";"))
    return {name.strip(): b"".join(value.split()) for name, _, value in pairs if name.strip()}
