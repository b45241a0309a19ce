"""Whether DNS holds the record of a key, at every server that answers for it, and what is wrong if not."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from dkimpipe.admin import record
from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError, one_line, printable
from dkimpipe.options import SignatureOptions

TIME_OUT = 5  # seconds for one question, in two tries
PATIENCE = 3  # questions without an answer, then a server is asked no more
PORT = 53
_MAX_ALIASES = 8


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
    ``silent``   it says nothing at all
    ``alias``    the name that this one is an alias of, if there is no TXT record
    """

    failure: str
    texts: list[bytes]
    ttl: int = 0
    absent: bool = False
    silent: bool = False
    alias: str = ""

    @property
    def keys(self) -> set[bytes]:
        """The keys in the records. One that is revoked is none (RFC 6376 section 3.6.1)."""
        return keys_of(*self.texts)

    @property
    def certain(self) -> bool:
        """Whether it says for certain what is there."""
        return bool(self.texts) or self.absent


class Need(NamedTuple):
    """What a record has to say so that a signature verifies.

    ``value``       the record as ``dkimpipe dns`` writes it
    ``hash``        sha256, or sha1 for DomainKeys and a=rsa-sha1
    ``below``       i= can be in a subdomain of d=
    ``domainkeys``  it is a DomainKeys signature
    ``local_part``  of the only sender, if there is only one
    """

    value: str
    hash: str = "sha256"
    below: bool = False
    domainkeys: bool = False
    local_part: str = ""


def need(options: SignatureOptions, below: bool, local_part: str) -> Need:
    """Return what the record of a signature has to say. Raises ConfigError if its key cannot be read."""
    domainkeys = options.type == "domainkeys"
    sha1 = domainkeys or options.algorithm == "rsa-sha1"
    return Need(record.value(options.keyfile), "sha1" if sha1 else "sha256", below, domainkeys, local_part)


def server(text: str) -> Server:
    """Return the server of ``IP`` or ``IP#PORT``. Raises ConfigError."""
    address, mark, port = text.partition("#")
    number = int(port) if port.isascii() and port.isdigit() else 0
    if not dns.inet.is_address(address) or (mark and not 0 < number < 65536):
        raise ConfigError(f"'{one_line(text)}' is no server", "such as 192.0.2.1 or 192.0.2.1#5353")
    return Server(text, address, number or PORT)


def servers_of(owner: str) -> list[Server]:
    """Return the system's resolver and the servers that answer for a name (RFC 1034). Raises ConfigError."""
    try:
        resolver = dns.resolver.Resolver()
        found = [_resolver(resolver)]
        zone = dns.resolver.zone_for_name(owner, resolver=resolver, lifetime=TIME_OUT)
        for name in sorted(str(each.target) for each in resolver.resolve(zone, "NS", lifetime=TIME_OUT)):
            for kind in ("A", "AAAA"):
                answer = resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=TIME_OUT)
                addresses = [str(each) for each in answer.rrset or () if kind == "A" or _has_way(str(each))]
                found += [Server(f"{name.rstrip('.')} ({address})", address) for address in addresses]
    except dns.exception.DNSException as error:
        what = f"cannot find the name servers of {owner}: {one_line(str(error))}"
        raise ConfigError(what, "does the resolver of /etc/resolv.conf answer?") from error
    return found


def _has_way(address: str) -> bool:
    """Tell whether this machine has a way to an IPv6 address: many have none. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, PORT))
    except OSError:
        return False
    return True


def _resolver(resolver: dns.resolver.Resolver) -> Server:
    return Server("the resolver", str(resolver.nameservers[0]))


def ask(owner: str, at: Server) -> Answer:
    """Ask a server for the TXT records of a name, by UDP, and by TCP where the answer is too long."""
    try:
        query = dns.message.make_query(owner, dns.rdatatype.TXT, use_edns=True, payload=1232)
        response = _response(query, at)
    except dns.exception.Timeout:
        return Answer(f"no answer within {TIME_OUT} s", [], silent=True)
    except (OSError, dns.exception.DNSException) as error:
        return Answer(f"no answer: {error}", [])
    code = response.rcode()
    aliases = [each for each in response.answer if each.rdtype == dns.rdatatype.CNAME]
    alias = str(aliases[-1][0].target).rstrip(".") if aliases else ""
    if code == dns.rcode.NXDOMAIN:
        what = f"{_alias(alias)}there is no such name (NXDOMAIN)"
        return Answer(what, [], _negative_ttl(response), absent=True)
    if code != dns.rcode.NOERROR:
        return Answer(f"{_alias(alias)}the server fails ({dns.rcode.to_text(code)})", [])
    sets = [each for each in response.answer if each.rdtype == dns.rdatatype.TXT]
    texts = [b"".join(each.strings) for records in sets for each in records]
    if texts:
        return Answer("", texts, max(each.ttl for each in response.answer))
    if alias:
        return Answer(f"{_alias(alias)}the name has no TXT record", [], alias=alias)
    return Answer("the name is there, but has no TXT record", [], _negative_ttl(response), absent=True)


def _response(query: dns.message.Message, at: Server) -> dns.message.Message:
    """Return the answer to a query. UDP can lose one: the second time-out is the last."""
    try:
        response, _ = dns.query.udp_with_fallback(query, at.address, TIME_OUT / 2, port=at.port)
    except dns.exception.Timeout:
        response, _ = dns.query.udp_with_fallback(query, at.address, TIME_OUT / 2, port=at.port)
    return response


def _alias(name: str) -> str:
    return f"it is an alias (CNAME) of {name}: " if name else ""


def _negative_ttl(response: dns.message.Message) -> int:
    """Return the seconds for which an answer that nothing is there is kept (RFC 2308 section 5)."""
    kinds = (each for each in response.authority if each.rdtype == dns.rdatatype.SOA)
    return max([min(each.ttl, each[0].minimum) for each in kinds], default=0)


class Asker:
    """Looks at the records of many names.

    A server that has let ``PATIENCE`` questions go unanswered is asked no more: the silence of one costs a
    quarter of a minute, however many names there are.
    """

    def __init__(self, only: Sequence[Server] = ()) -> None:
        """Take the servers to ask; none means the resolver, and for each name those that answer for it."""
        self._only = list(only)
        self._unanswered: dict[str, int] = {}

    def findings(self, owner: str, needs: list[Need]) -> Iterator[Finding]:
        """Yield what is wrong with a record, at any server, for any of the signatures that it serves."""
        try:
            for at, answer in self.answers(owner):
                yield from _findings(owner, needs, answer, at)
        except ConfigError as error:
            yield Finding(str(error), error.mend)

    def answers(self, owner: str) -> Iterator[tuple[Server, Answer]]:
        """Yield what each server says of a name. Raises ConfigError if they cannot be found."""
        for at in self._only or self._servers_of(owner):
            place = f"{at.address}#{at.port}"
            if self._unanswered.get(place, 0) >= PATIENCE:
                yield at, Answer(f"not asked for, after {PATIENCE} questions without an answer", [])
                continue
            answer = ask(owner, at)
            self._unanswered[place] = self._unanswered.get(place, 0) + answer.silent
            yield at, answer

    def _servers_of(self, owner: str) -> list[Server]:
        if self._unanswered.get("", 0) >= PATIENCE:
            what = f"cannot find the name servers of {owner}: the resolver gave no answer {PATIENCE} times"
            raise ConfigError(what, "does the resolver of /etc/resolv.conf answer?")
        try:
            return servers_of(owner)
        except ConfigError as error:
            self._unanswered[""] = self._unanswered.get("", 0) + isinstance(
                error.__cause__, dns.exception.Timeout
            )
            raise


def _findings(owner: str, needs: list[Need], answer: Answer, at: Server) -> Iterator[Finding]:
    found: dict[tuple[str, str], Need] = {}
    answer = _follow(answer, at)
    if answer.failure:
        elsewhere = _elsewhere(owner, at) if answer.absent else ""
        found[elsewhere or answer.failure, "error"] = needs[0]
    for each in needs if answer.texts else ():
        for fault in _faults(each, answer.texts):
            found.setdefault(fault, each)
    if answer.texts and "error" in [level for _, level in found] and _is_wildcard(owner, answer, at):
        what = f"a wildcard record answers, there is none of this name: '{printable(answer.texts[0], 40)}'"
        found = {(what, "error"): needs[0]}
    for (what, level), each in found.items():
        mend = f"publish: {record.zone_line(owner, each.value)}"
        if not answer.certain:
            mend = f"does {at.address} answer at port {at.port}, by UDP and TCP?"
        yield Finding(f"{owner}: {what}, says {at.name}", mend, level)


def _follow(answer: Answer, at: Server) -> Answer:
    """Return what an alias leads to; what is in the zones of others, a server need not know."""
    first = answer.alias
    for _ in range(_MAX_ALIASES):
        if not answer.alias:
            break
        name = answer.alias
        answer = ask(name, at)
        if not (answer.texts or answer.alias or answer.absent):
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):
                answer = ask(name, _resolver(dns.resolver.Resolver()))
    return answer._replace(failure=_alias(first) + answer.failure) if first and answer.failure else answer


def _is_wildcard(owner: str, answer: Answer, at: Server) -> bool:
    return ask(f"{os.urandom(6).hex()}.{owner.partition('.')[2]}", at).texts == answer.texts


def _elsewhere(owner: str, at: Server) -> str:
    """Return where the record stands instead: a name whose zone was written twice is a usual slip."""
    domain = owner.partition("._domainkey.")[2]
    if ask(f"{owner}.{domain}", at).failure:
        return ""
    return f"the record stands at {owner}.{domain}; leave the domain out where it is entered"


def _faults(needed: Need, texts: list[bytes]) -> list[tuple[str, str]]:
    """Return what is wrong with the records of a name, and how bad it is."""
    if len(texts) > 1:
        what = f"{len(texts)} TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)"
        return [(what, "error")]
    tags = _tags(texts[0])
    what = _fault_of_key(_tags(needed.value.encode()), tags, texts[0])
    return [(what, "error")] if what else list(_faults_of_tags(needed, tags))


def _fault_of_key(wanted: dict[bytes, bytes], tags: dict[bytes, bytes], text: bytes) -> str:
    """Return what keeps a record from holding the wanted key, nothing if it holds it."""
    if b"p" not in tags:
        return f"it is no key record: '{printable(text)}'"
    if not tags[b"p"]:
        return "the key is revoked: p= is empty"
    if tags[b"p"] != wanted[b"p"]:
        if wanted[b"p"] in text.translate(None, b'"\\ \t'):
            return "quotes, backslashes or blanks stand within the value, where it was split"
        if _is_in_other_form(tags[b"p"], wanted[b"p"]):
            return ""
        if wanted[b"p"].startswith(tags[b"p"]) or wanted[b"p"].endswith(tags[b"p"]):
            return f"p= is cut: {len(tags[b'p'])} of {len(wanted[b'p'])} characters are there"
        return "it is another key than the private key's"
    if tags.get(b"v", b"DKIM1") != b"DKIM1" or tags.get(b"k", b"rsa") != wanted[b"k"]:
        return f"v= or k= is wrong: '{printable(text, 40)}'"
    return ""


def _is_in_other_form(there: bytes, wanted: bytes) -> bool:
    """Tell whether a key is the wanted one as RSAPublicKey (RFC 8017 appendix A.1.1), without its type."""
    try:
        bare, whole = base64.b64decode(there, validate=True), base64.b64decode(wanted)
    except ValueError:
        return False
    header = b"\x30\x82" + (len(bare) - 4).to_bytes(2, "big") if len(bare) > 259 else b"\x30"
    return bare.startswith(header) and whole.endswith(b"\0" + bare)


def _faults_of_tags(needed: Need, tags: dict[bytes, bytes]) -> Iterator[tuple[str, str]]:
    """Yield what in a record of the right key is against the signature (RFC 6376 3.6.1, RFC 4870 3.2.3)."""
    values = {name: printable(value) for name, value in tags.items()}
    if tags[b"p"] != _tags(needed.value.encode())[b"p"]:
        yield "p= is the bare key (RSAPublicKey), which some verifiers refuse", "warning"
    hashes, services, flags = (values.get(tag, "").split(":") for tag in (b"h", b"s", b"t"))
    if b"h" in tags and needed.hash not in hashes:
        yield f"h={values[b'h']} does not allow {needed.hash}", "error"
    if b"s" in tags and not needed.domainkeys and not {"*", "email"}.intersection(services):
        yield f"s={values[b's']} does not allow email", "error"
    if "s" in flags and needed.domainkeys:
        yield (
            "t=s: DomainKeys, which uses the key, too, knows only t=y (RFC 4870 section 3.2.3)",
            "warning",
        )
    if "s" in flags and needed.below and not needed.domainkeys:
        yield "t=s does not allow i= in a subdomain of d=", "error"
    if "y" in flags:
        yield "t=y is left on: verifiers treat the mail as unsigned", "warning"
    granularity = values.get(b"g", "")
    begin, star, end = granularity.partition("*")
    fits = (
        needed.local_part.startswith(begin) and needed.local_part.endswith(end) if star else not granularity
    )
    if needed.domainkeys and not fits and granularity != needed.local_part:
        yield f"g={granularity}: DomainKeys verifies mail of this local part only", "warning"


def keys_of(*texts: bytes) -> set[bytes]:
    """Return the keys in these records: p= in base64."""
    return {key for text in texts if (key := _tags(text).get(b"p", b""))}


def _tags(text: bytes) -> dict[bytes, bytes]:
    """Return the tags of a record (RFC 6376 section 3.2), without the blanks that may stand anywhere."""
    pairs = (part.partition(b"=") for part in text.split(b";"))
    return {name.strip(): b"".join(value.split()) for name, _, value in pairs if name.strip()}
