"""What the reports mean: one explanation for each record, and the counts by explanation.

A server is ours if it has an address of this host, or if SPF passes for the domain of From: then the domain
itself says so. A signature is ours if its domain is aligned with From (relaxed, RFC 9989 section 4.4, but
without queries: one domain is the other, or a parent of it; for a server of ours, both may have a parent in
common).

Strangers choose domains, addresses, selectors, and the receivers that they claim to be: how many of each are
kept is limited, and the rest counted together.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dkimpipe.admin.reports.aggregate import Dkim, Record, are_aligned
from dkimpipe.admin.reports.signed import Signed
from dkimpipe.admin.reports.store import Reported
from dkimpipe.verify.alignment import have_common_parent

WEEK = 7 * 86400  # seconds
_MONDAY = 4 * 86400  # 1970 began on a Thursday

# Why a record has no valid, aligned signature.
FAILED = "failed"  # our signature was not valid in mail from a server of ours
UNPROVEN = "unproven"  # it could not be verified, in mail from a server that is not known as ours
UNSIGNED = "unsigned"  # from a server of ours, without our signature
ALTERED = "altered"  # on the way, by a mailing list or a forwarder
SERVICE = "service"  # from a server that answers for it in another name
FORGED = "forged"  # from a server with nothing to show for itself
_NOT_JUDGED = ("permerror", "temperror")  # of a signature: the key was not found, or is not valid
# Of several signatures of one message, the worst are to blame; others are 0.
_RANKS = {"temperror": 1, "neutral": 2, "none": 2, "pass": 3}
OTHERS = "others"  # the name of what exceeds a limit
_MOST = 100  # sources of each explanation, selectors, receivers, weeks: of each domain
_MOST_ADDRESSES = 10_000
_MOST_DOMAINS = 50  # that no entry names


@dataclass
class Share:
    """Messages, and how many of them had a valid, aligned signature."""

    messages: int = 0
    passed: int = 0

    def add(self, messages: int, passed: bool) -> None:
        """Count messages that have all passed, or all failed."""
        self.messages += messages
        self.passed += messages * passed


@dataclass
class Source:
    """Messages with the same explanation and source.

    ``since``      when the first period began in which there were any, seconds since 1970
    ``receivers``  messages by the organisation that reported them
    ``results``    of our signatures
    ``delivered``  messages that the receiver neither rejected nor treated as spam
    ``addresses``  that they came from
    ``selectors``  of our signatures
    ``latest``     the number of the latest report on them
    """

    messages: int = 0
    since: int = 1 << 62
    receivers: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    addresses: set[str] = field(default_factory=set)
    selectors: set[str] = field(default_factory=set)
    latest: int = 0

    def merge(self, other: Source) -> None:
        """Count the messages of another source, too."""
        self.messages += other.messages
        self.since = min(self.since, other.since)
        self.receivers += other.receivers
        self.results += other.results
        self.delivered += other.delivered
        if len(self.addresses) < _MOST_ADDRESSES:
            self.addresses |= other.addresses
        self.selectors |= other.selectors
        self.latest = max(self.latest, other.latest)


@dataclass
class DomainReport:
    """All that is reported of mail from one domain.

    ``policy``     as published in the latest report, such as p=none, by ``publisher``
    ``selectors``  by selector and receiver
    ``weeks``      by their beginnings, Mondays at 0:00 UTC, in seconds since 1970
    ``sources``    of messages without a valid, aligned signature, by explanation and name: the selector for
                   FAILED and UNPROVEN, the IP address for UNSIGNED and FORGED, the IP address or domain for
                   the others
    ``listing``    receivers that report results of signatures, ``silent`` those that report only whether
                   one was valid (perhaps both)
    """

    policy: str = ""
    publisher: str = ""
    total: Share = field(default_factory=Share)
    selectors: dict[str, dict[str, Share]] = field(default_factory=dict)
    weeks: dict[int, Share] = field(default_factory=lambda: defaultdict(Share))
    sources: dict[tuple[str, str], Source] = field(default_factory=dict)
    listing: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    _kinds: Counter[str] = field(default_factory=Counter)

    def add(self, reported: Reported, own: frozenset[str]) -> None:
        """Count a record; ``own`` are the addresses of this host."""
        record = reported.record
        if reported.policy:
            self.policy, self.publisher = reported.policy, reported.domain
        week = reported.begin - (reported.begin - _MONDAY) % WEEK
        for share in (self.total, self.weeks[week]):
            share.add(record.messages, record.dkim_aligned)
        ours = _ours(record, own)
        passed = {each.selector for each in ours if each.result == "pass"}
        for selector in {each.selector for each in ours}:
            receivers = self.selectors.setdefault(_bounded(selector, self.selectors), {})
            share = receivers.setdefault(_bounded(reported.organisation, receivers), Share())
            share.add(record.messages, selector in passed)
        if record.signatures:
            self.listing.add(reported.organisation)
        elif record.dkim_aligned:
            self.silent.add(reported.organisation)
        if not record.dkim_aligned:
            kind, names = explain(record, own)
            for name in names:
                blamed = [each for each in ours if kind not in (FAILED, UNPROVEN) or each.selector == name]
                _add(self._source(kind, name), reported, blamed)

    def by_week(self) -> list[tuple[int, Share]]:
        """Return the beginning of each of the last weeks and its messages, also of weeks without any."""
        last = max(self.weeks)
        first = max(min(self.weeks), last - _MOST * WEEK)
        return [(week, self.weeks.get(week, Share())) for week in range(first, last + 1, WEEK)]

    def finish(self) -> None:
        """Count as forged what names a selector that is reported for nothing else: anyone can write that."""
        unknown = {
            selector
            for selector, receivers in self.selectors.items()
            if not any(share.passed for share in receivers.values())
        }
        for key, source in list(self.sources.items()):
            kind, name = key
            has_no_name = kind == UNPROVEN or (kind == ALTERED and name in source.addresses)
            if kind == UNPROVEN and (FAILED, name) in self.sources:
                self.sources[FAILED, name].merge(self.sources.pop(key))
            elif has_no_name and source.selectors <= unknown:
                self._source(FORGED, min(source.addresses)).merge(self.sources.pop(key))
        others = (source.selectors for (kind, _), source in self.sources.items() if kind != FORGED)
        for selector in unknown.difference(*others):
            del self.selectors[selector]

    def _source(self, kind: str, name: str) -> Source:
        if (kind, name) not in self.sources:
            if self._kinds[kind] < _MOST:
                self._kinds[kind] += 1
            else:
                name = OTHERS
        return self.sources.setdefault((kind, name), Source())


def _bounded(name: str, known: Mapping[str, object]) -> str:
    return name if name in known or len(known) < _MOST else OTHERS


def _add(source: Source, reported: Reported, blamed: Iterable[Dkim]) -> None:
    record = reported.record
    source.messages += record.messages
    source.since = min(source.since, reported.begin)
    source.latest = max(source.latest, reported.number)
    source.receivers[_bounded(reported.organisation, source.receivers)] += record.messages
    if len(source.addresses) < _MOST_ADDRESSES:
        source.addresses.add(record.ip)
    source.delivered += record.messages * (record.disposition in ("none", "pass", ""))
    source.selectors |= (
        {signature.selector for signature in blamed} if len(source.selectors) < _MOST else {OTHERS}
    )
    for result in {signature.result for signature in blamed}:
        source.results[_bounded(result, source.results)] += record.messages


class Chosen(NamedTuple):
    """The domains of From to be analysed, and how many more are ours."""

    names: Container[str]
    more: int


def choose(domains: Iterable[tuple[str, int]], signed: Signed) -> Chosen:
    """Choose from all domains of From, each with its messages: those that entries name, and the largest."""
    named = set()
    more = 0

    def rest() -> Iterable[tuple[int, str]]:
        nonlocal more
        for domain, messages in domains:
            if signed.names(domain):
                named.add(domain)
            elif signed.covers(domain):
                more += 1
                yield messages, domain

    largest = heapq.nlargest(_MOST_DOMAINS, rest())
    return Chosen(named.union(domain for _, domain in largest), more - len(largest))


@dataclass
class Strangers:
    """Reports on domains whose mail we do not sign.

    ``numbers``   of the reports
    ``example``   one of the domains
    """

    numbers: set[int] = field(default_factory=set)
    example: str = ""

    def add(self, number: int, domain: str) -> None:
        """Count a report."""
        self.numbers.add(number)
        self.example = self.example or domain


def analyse(
    reports: Iterable[Reported],
    own: frozenset[str],
    chosen: Container[str],
    signed: Signed,
    strangers: Strangers,
) -> dict[str, DomainReport]:
    """Return what is reported, by domain of From, of those that are chosen."""
    domains: dict[str, DomainReport] = defaultdict(DomainReport)
    for reported in reports:
        domain = reported.record.header_from
        if domain in chosen:
            domains[domain].add(reported, own)
        elif not signed.covers(domain):
            strangers.add(reported.number, domain)
    for each in domains.values():
        each.finish()
    return dict(sorted(domains.items()))


def is_own(record: Record, own: frozenset[str]) -> bool:
    """Return whether messages came from a server of ours."""
    return record.ip in own or record.spf_aligned


def explain(record: Record, own: frozenset[str]) -> tuple[str, list[str]]:
    """Return why a record has no valid, aligned signature, and the names of its sources, one at least."""
    ours = _ours(record, own)
    from_us = is_own(record, own)
    if ours and from_us:
        return FAILED, _worst(ours)
    if ours and all(each.result in _NOT_JUDGED for each in ours):
        return UNPROVEN, _worst(ours)[:1]
    if from_us:
        return UNSIGNED, [record.ip]
    other = _other_domain(record)
    if ours:
        return ALTERED, [other or record.ip]
    return (SERVICE, [other]) if other else (FORGED, [record.ip])


def _worst(ours: Iterable[Dkim]) -> list[str]:
    """Return the selectors of the signatures that are to blame."""
    ranks = {each: _RANKS.get(each.result, 0) for each in ours}
    return list(dict.fromkeys(each.selector for each, rank in ranks.items() if rank == min(ranks.values())))


def _ours(record: Record, own: frozenset[str]) -> list[Dkim]:
    from_us = is_own(record, own)
    return [
        each
        for each in record.signatures
        if (each.selector or each.result != "none")  # a receiver's way to say that there was none
        and (are_aligned(each.domain, record.header_from) or (from_us and _may_be_aligned(each, record)))
    ]


def _may_be_aligned(signature: Dkim, record: Record) -> bool:
    return have_common_parent(signature.domain.encode(), record.header_from.encode())


def _other_domain(record: Record) -> str:
    """Return the domain of another that answers for the messages, by a signature or by SPF."""
    names = [each.domain for each in record.signatures if each.result == "pass"]
    domain, result = record.spf
    names += [domain] if result == "pass" else []
    return next((name for name in names if not are_aligned(name, record.header_from)), "")
