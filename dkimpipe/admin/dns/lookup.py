"""Look up the record of a key at every authoritative server, and report what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from dkimpipe.admin.dns import compare, mangled, record
from dkimpipe.admin.dns.compare import Need
from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError, one_line, printable
from dkimpipe.verify.nameserver import PORT, Server

TIME_OUT = 5  # seconds for one query, in two attempts
PATIENCE = 3  # queries without an answer, after which a server is not queried again
_MAX_ALIASES = 8
_PAYLOAD = 1232  # bytes over UDP, DNS Flag Day 2020
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.SERVFAIL, dns.rcode.BADVERS)


class Answer(NamedTuple):
    """The answer of a server.

    ``failure``  why there is no TXT record, or empty
    ``texts``    the TXT records, with the strings of each joined
    ``ttl``      seconds for which a resolver may cache this answer, also a negative one (RFC 2308)
    ``absent``   there is definitely no record: the server answered without failure
    ``silent``   the server did not answer
    ``alias``    the name that this one is an alias of, if there is no TXT record
    """

    failure: str
    texts: list[bytes]
    ttl: int = 0
    absent: bool = False
    silent: bool = False
    alias: str = ""

    @property
    def certain(self) -> bool:
        """Whether the contents of the name are certain."""
        return bool(self.texts) or self.absent


def servers_of(owner: str) -> list[Server]:
    """Return the system's resolver and the authoritative servers of a name (RFC 1034). Raises ConfigError."""
    try:
        resolver = dns.resolver.Resolver()
        found = [_resolver(resolver)]
        zone = dns.resolver.zone_for_name(owner, resolver=resolver, lifetime=TIME_OUT)
        for name in sorted(str(each.target) for each in resolver.resolve(zone, "NS", lifetime=TIME_OUT)):
            for kind in ("A", "AAAA"):
                answer = resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=TIME_OUT)
                addresses = [str(each) for each in answer.rrset or () if kind == "A" or _has_route(str(each))]
                found += [Server(address, name=f"{name.rstrip('.')} ({address})") for address in addresses]
    except dns.exception.DNSException as error:
        what = f"cannot find the name servers of {owner}: {one_line(str(error))}"
        raise ConfigError(what, "check that the resolver in /etc/resolv.conf answers") from error
    return found


def _has_route(address: str) -> bool:
    """Return whether this host has a route to an IPv6 address: many have none. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, PORT))
    except OSError:
        return False
    return True


def _resolver(resolver: dns.resolver.Resolver) -> Server:
    return Server(str(resolver.nameservers[0]), name="the resolver")


def ask(owner: str, at: Server) -> Answer:
    """Query a server for the TXT records of a name, over UDP, and over TCP if the answer is too long."""
    try:
        response = _response(owner, at)
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
        return Answer(f"{_alias(alias)}the server failed ({dns.rcode.to_text(code)})", [])
    sets = [each for each in response.answer if each.rdtype == dns.rdatatype.TXT]
    texts = [b"".join(each.strings) for records in sets for each in records]
    if texts:
        return Answer("", texts, max(each.ttl for each in response.answer))
    if alias:
        return Answer(f"{_alias(alias)}the name has no TXT record", [], alias=alias)
    return Answer("the name exists, but has no TXT record", [], _negative_ttl(response), absent=True)


def _response(owner: str, at: Server) -> dns.message.Message:
    """Return the answer to a query. UDP can lose packets: there is one retry.

    It is without EDNS, which some servers refuse and some firewalls drop (RFC 6891 section 6.2.2).
    """
    first = dns.message.make_query(owner, dns.rdatatype.TXT, use_edns=True, payload=_PAYLOAD)
    with contextlib.suppress(dns.exception.Timeout):
        response, _ = dns.query.udp_with_fallback(first, at.address, TIME_OUT / 2, port=at.port)
        if response.rcode() not in _NO_EDNS:
            return response
    second = dns.message.make_query(owner, dns.rdatatype.TXT)
    response, _ = dns.query.udp_with_fallback(second, at.address, TIME_OUT / 2, port=at.port)
    return response


def _alias(name: str) -> str:
    return f"it is an alias (CNAME) of {name}: " if name else ""


def _negative_ttl(response: dns.message.Message) -> int:
    """Return the seconds for which a negative answer is cached (RFC 2308 section 5)."""
    kinds = (each for each in response.authority if each.rdtype == dns.rdatatype.SOA)
    return max([min(each.ttl, each[0].minimum) for each in kinds], default=0)


class NameServers:
    """Looks up the records of many names.

    A server that has not answered ``PATIENCE`` queries is not queried again: a silent server costs a quarter
    of a minute, regardless of the number of names.
    """

    def __init__(self, only: Sequence[Server] = ()) -> None:
        """Take the servers to query; by default the resolver and the authoritative servers of each name."""
        self._only = list(only)
        self._unanswered: dict[tuple[str, int] | None, int] = {}

    def findings(self, owner: str, needs: list[Need]) -> Iterator[Finding]:
        """Yield the problems with a record, at any server, for any of the signatures that use it."""
        try:
            for at, answer in self.answers(owner):
                yield from _findings(owner, needs, answer, at)
        except ConfigError as error:
            yield Finding(str(error), error.hint)

    def answers(self, owner: str) -> Iterator[tuple[Server, Answer]]:
        """Yield the answer of each server for a name. Raises ConfigError if the servers cannot be found."""
        for at in self._only or self._servers_of(owner):
            place = at.address, at.port
            if self._unanswered.get(place, 0) >= PATIENCE:
                yield at, Answer(f"not queried, after {PATIENCE} queries without an answer", [])
                continue
            answer = ask(owner, at)
            self._unanswered[place] = self._unanswered.get(place, 0) + answer.silent
            yield at, answer

    def _servers_of(self, owner: str) -> list[Server]:
        if self._unanswered.get(None, 0) >= PATIENCE:
            what = f"cannot find the name servers of {owner}: the resolver gave no answer {PATIENCE} times"
            raise ConfigError(what, "check that the resolver in /etc/resolv.conf answers")
        try:
            return servers_of(owner)
        except ConfigError as error:
            self._unanswered[None] = self._unanswered.get(None, 0) + isinstance(
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
        for fault in compare.faults(each, answer.texts):
            found.setdefault(fault, each)
    if answer.texts and "error" in [level for _, level in found] and _is_wildcard(owner, answer, at):
        what = f"a wildcard record answers; the name itself has none: '{printable(answer.texts[0], 40)}'"
        found = {(what, "error"): needs[0]}
    for (what, level), each in found.items():
        hint = f"publish: {record.zone_line(owner, each.value)}"
        if what == mangled.PRIVATE:
            domain = owner.partition("._domainkey.")[2]
            hint = f"create another key: dkimpipe genkey {domain}\nsign with it, and delete this record"
        if not answer.certain:
            hint = f"check that {at.address} answers on port {at.port}, over UDP and TCP"
        yield Finding(f"{owner}: {what}, according to {at}", hint, level)


def _follow(answer: Answer, at: Server) -> Answer:
    """Return the answer at the end of an alias; a server may not know the other zones."""
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
    """Return a finding if the record is under a name with the zone appended twice, a common error."""
    domain = owner.partition("._domainkey.")[2]
    if ask(f"{owner}.{domain}", at).failure:
        return ""
    return f"the record is at {owner}.{domain}; omit the domain when entering the name"
