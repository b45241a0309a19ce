"""Look up the record of a key at every authoritative server, and report what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
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
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.BADVERS)


class Answer(NamedTuple):
    """The answer of a server.

    ``failure``  why there is no TXT record, or empty
    ``texts``    the TXT records, with the strings of each joined
    ``ttl``      seconds for which a resolver may cache this answer, also a negative one (RFC 2308)
    ``absent``   there is definitely no record: the server answered without failure
    ``silent``   the server did not answer
    ``aliases``  the names that this one is an alias (CNAME) of, one after another
    ``leads_on``  the server does not know the name at the end of the aliases: it may be in another zone
    """

    failure: str
    texts: list[bytes]
    ttl: int = 0
    absent: bool = False
    silent: bool = False
    aliases: tuple[str, ...] = ()
    leads_on: bool = False

    @property
    def alias(self) -> str:
        """The name at the end of the aliases; empty if this name is none."""
        return self.aliases[-1] if self.aliases else ""

    @property
    def certain(self) -> bool:
        """Whether the contents of the name are certain."""
        return bool(self.texts) or self.absent


def servers_of(owner: str) -> list[Server]:
    """Return the system's resolver, then the authoritative servers of a name (RFC 1034).

    Raises ConfigError.
    """
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


def obstacle(owner: str) -> str:
    """Return why the system's resolver cannot be asked at all; empty if it answers, whatever it says."""
    try:
        dns.resolver.Resolver().resolve(owner, "TXT", lifetime=TIME_OUT)
    except dns.resolver.NoResolverConfiguration:
        return "/etc/resolv.conf names no resolver"
    except dns.exception.Timeout:
        return f"the resolver gave no answer within {TIME_OUT} s"
    except dns.resolver.NoNameservers as error:
        errors = error.kwargs.get("errors", ())
        return "the resolver cannot be reached" if all(each[-1] is None for each in errors) else ""
    except dns.exception.DNSException:
        return ""
    return ""


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
    return _read(response, _aliases(owner, response))


def _aliases(owner: str, response: dns.message.Message) -> tuple[str, ...]:
    """Return the names to which the aliases in an answer lead from a name, in this order."""
    sets = [each for each in response.answer if each.rdtype == dns.rdatatype.CNAME]
    targets = {each.name: each[0].target for each in sets}
    found: list[str] = []
    name = dns.name.from_text(owner)
    while name in targets and len(found) < len(targets):
        name = targets[name]
        found.append(name.to_text(omit_final_dot=True).lower())
    return tuple(found)


def _read(response: dns.message.Message, aliases: tuple[str, ...]) -> Answer:
    code = response.rcode()
    of = _alias(aliases[-1] if aliases else "")
    longest = max([each.ttl for each in response.answer], default=0)
    negative = max(longest, _negative_ttl(response))
    if code == dns.rcode.NXDOMAIN:
        return Answer(f"{of}there is no such name (NXDOMAIN)", [], negative, absent=True, aliases=aliases)
    if code != dns.rcode.NOERROR:
        what = f"{of}the server failed ({dns.rcode.to_text(code)})"
        return Answer(what, [], longest, aliases=aliases)
    sets = [each for each in response.answer if each.rdtype == dns.rdatatype.TXT]
    texts = [b"".join(each.strings) for records in sets for each in records]
    if texts:
        return Answer("", texts, longest, aliases=aliases)
    if aliases:
        return Answer(f"{of}the name has no TXT record", [], negative, aliases=aliases, leads_on=True)
    return Answer("the name exists, but has no TXT record", [], negative, absent=True)


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
        self._ttls: dict[str, int] = {}
        self.texts: dict[
            bytes, str
        ] = {}  # all TXT records in the answers so far, each with a name that has it

    def findings(self, owner: str, needs: list[Need]) -> Iterator[Finding]:
        """Yield the problems with a record, at any server, for any of the signatures that use it."""
        return self._by_finding(owner, lambda answer, at: _findings(owner, needs, answer, at))

    def answers(self, owner: str) -> Iterator[tuple[Server, Answer]]:
        """Yield the answer of each server for a name. Raises ConfigError if the servers cannot be found."""
        yield from self._answers(owner, self._only or self._servers_of(owner))

    def own_answers(self, owner: str) -> Iterator[tuple[Server, Answer]]:
        """Yield the same, but of the authoritative servers only, and without the records of wildcards."""
        for at, answer in self._answers(owner, self._only or self._servers_of(owner)[1:]):
            yield at, _without_wildcard(owner, answer, at)

    def alias_findings(self, owner: str, target: str, needs: list[Need]) -> Iterator[Finding]:
        """Yield the problems with a name that must be an alias of ``target``, at any server.

        With ``needs``, the record must be right where a server, such as a resolver, has followed the alias.
        """
        return self._by_finding(owner, lambda answer, at: _alias_findings(owner, target, needs, answer, at))

    def _by_finding(
        self, owner: str, findings_of: Callable[[Answer, Server], Iterator[Finding]]
    ) -> Iterator[Finding]:
        """Yield each finding once, with the servers whose answers lead to it."""
        found: dict[Finding, list[str]] = {}
        try:
            for at, answer in self.answers(owner):
                for finding in findings_of(answer, at):
                    found.setdefault(finding, []).append(str(at))
        except ConfigError as error:
            yield Finding(str(error), error.hint)
        for finding, (*others, last) in found.items():
            servers = f"{', '.join(others)} and {last}" if others else last
            yield finding._replace(what=f"{finding.what}, according to {servers}")

    def _answers(self, owner: str, servers: Sequence[Server]) -> Iterator[tuple[Server, Answer]]:
        for at in servers:
            place = at.address, at.port
            if self._unanswered.get(place, 0) >= PATIENCE:
                yield at, Answer(f"not queried, after {PATIENCE} queries without an answer", [])
                continue
            answer = ask(owner, at)
            self._unanswered[place] = self._unanswered.get(place, 0) + answer.silent
            self.texts = {**dict.fromkeys(answer.texts, owner), **self.texts}
            self._ttls[owner] = max(self.longest_ttl(owner), answer.ttl)
            yield at, answer

    def longest_ttl(self, owner: str) -> int:
        """Return the longest time to live of the answers for a name so far, in seconds."""
        return self._ttls.get(owner, 0)

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
    is_lost = any(mangled.is_exposed(what) for what, _ in found)
    is_wrong = bool(answer.texts) and any(level == "error" for _, level in found)
    if is_wrong and not is_lost and _is_wildcard(owner, answer, at):
        what = f"a wildcard record answers; the name itself has none: '{printable(answer.texts[0], 40)}'"
        found = {(what, "error"): needs[0]}
    for (what, level), each in found.items():
        hint = f"publish: {record.zone_line(owner, each.value)}"
        if mangled.is_exposed(what):
            hint = mangled.another_key(what, owner)
        if not answer.certain:
            hint = _check_server(at)
        yield Finding(f"{owner}: {what}", hint, level)


def _follow(answer: Answer, at: Server) -> Answer:
    """Return the answer at the end of the aliases; a server may not know the other zones."""
    first = answer.alias if answer.leads_on else ""
    for _ in range(_MAX_ALIASES):
        if not answer.leads_on:
            break
        answer = _next(answer, at)
    return answer._replace(failure=_alias(first) + answer.failure) if first and answer.failure else answer


def _next(before: Answer, at: Server) -> Answer:
    """Return the answer for the name that an alias leads to."""
    answer = ask(before.alias, at)
    if not (answer.certain or answer.leads_on):
        with contextlib.suppress(dns.resolver.NoResolverConfiguration):
            answer = ask(before.alias, _resolver(dns.resolver.Resolver()))
    return answer._replace(aliases=before.aliases + answer.aliases)


def _alias_findings(
    owner: str, target: str, needs: list[Need], answer: Answer, at: Server
) -> Iterator[Finding]:
    for _ in range(_MAX_ALIASES):
        if not answer.leads_on or target in answer.aliases:
            break
        answer = _next(answer, at)
    if target in answer.aliases:
        if needs and not answer.leads_on:
            yield from _findings(owner, needs, answer, at)
        return
    if not answer.alias and not answer.certain:
        yield Finding(f"{owner}: {answer.failure}", _check_server(at))
        return
    what = f"it is an alias (CNAME) of {answer.alias}, not of {target}"
    if not answer.alias:
        what = "it has a TXT record, and is not an alias (CNAME)" if answer.texts else answer.failure
    hint = f"publish: {record.line_of(record.Record(owner, target, 'CNAME'))}"
    yield Finding(f"{owner}: {what}", hint)


def _check_server(at: Server) -> str:
    return f"check that {at.address} answers on port {at.port}, over UDP and TCP"


def _without_wildcard(owner: str, answer: Answer, at: Server) -> Answer:
    """Return what a name itself has: an answer without the records that any name beside it has as well."""
    if (answer.texts or answer.aliases) and _is_wildcard(owner, answer, at):
        return Answer("a wildcard record answers", [], answer.ttl, absent=True)
    return answer


def _is_wildcard(owner: str, answer: Answer, at: Server) -> bool:
    other = ask(f"{os.urandom(6).hex()}.{owner.partition('.')[2]}", at)
    return (other.texts, other.aliases) == (answer.texts, answer.aliases)


def _elsewhere(owner: str, at: Server) -> str:
    """Return a finding if the record is under a name with the zone appended twice, a common error."""
    domain = owner.partition("._domainkey.")[2]
    if ask(f"{owner}.{domain}", at).failure:
        return ""
    return f"the record is at {owner}.{domain}; omit the domain when entering the name"
