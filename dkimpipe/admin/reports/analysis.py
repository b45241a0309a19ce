"""What the reports mean: one explanation for each record, and the counts by explanation.

A server is ours if it has an address of this host, or if SPF passes for the domain of From: then the domain
itself says so. A signature is ours if its domain is aligned with From (relaxed, RFC 9989 section 4.4, but
without queries: one domain is the other, or a parent of it).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dkimpipe.admin.reports.aggregate import Dkim, Record
from dkimpipe.admin.reports.store import Reported

WEEK = 7 * 86400  # seconds
_MONDAY = 4 * 86400  # 1970 began on a Thursday

# Why a record has no valid, aligned signature.
FAILED = "failed"  # our signature was not valid where no other server can have altered the mail
UNSIGNED = "unsigned"  # from a server of ours, without our signature
ALTERED = "altered"  # on the way, by a mailing list or a forwarder
SERVICE = "service"  # from a server that answers for it in another name
FORGED = "forged"  # from a server with nothing to show for itself
NOT_JUDGED = ("permerror", "temperror")  # of a signature: the key was not found, or is not valid


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
    ``own``        messages from our own servers
    ``latest``     the number of the latest report on them
    """

    messages: int = 0
    since: int = 1 << 62
    receivers: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    addresses: set[str] = field(default_factory=set)
    selectors: set[str] = field(default_factory=set)
    own: int = 0
    latest: int = 0

    def merge(self, other: Source) -> None:
        """Count the messages of another source, too."""
        self.messages += other.messages
        self.since = min(self.since, other.since)
        self.receivers += other.receivers
        self.results += other.results
        self.delivered += other.delivered
        self.addresses |= other.addresses
        self.selectors |= other.selectors
        self.own += other.own
        self.latest = max(self.latest, other.latest)


@dataclass
class DomainReport:
    """All that is reported of mail from one domain.

    ``policy``     as published, in the latest report
    ``selectors``  by selector and receiver
    ``weeks``      by their beginnings, Mondays at 0:00 UTC, in seconds since 1970
    ``sources``    of messages without a valid, aligned signature, by explanation and name: the selector for
                   FAILED, the IP address for UNSIGNED and FORGED, the IP address or domain for the others
    """

    policy: str = ""
    total: Share = field(default_factory=Share)
    selectors: dict[str, dict[str, Share]] = field(default_factory=dict)
    weeks: dict[int, Share] = field(default_factory=lambda: defaultdict(Share))
    sources: dict[tuple[str, str], Source] = field(default_factory=lambda: defaultdict(Source))

    def add(self, reported: Reported, own: frozenset[str]) -> None:
        """Count a record; ``own`` are the addresses of this host."""
        record = reported.record
        self.policy = reported.policy or self.policy
        week = reported.begin - (reported.begin - _MONDAY) % WEEK
        for share in (self.total, self.weeks[week]):
            share.add(record.messages, record.dkim_aligned)
        passed = {each.selector for each in _ours(record) if each.result == "pass"}
        for selector in {each.selector for each in _ours(record)}:
            share = self.selectors.setdefault(selector, {}).setdefault(reported.organisation, Share())
            share.add(record.messages, selector in passed)
        if not record.dkim_aligned:
            self._add_source(self.sources[explain(record, own)], reported, own)

    def by_week(self) -> list[tuple[int, Share]]:
        """Return the beginning of each week and its messages, also of weeks without any."""
        return [
            (week, self.weeks.get(week, Share()))
            for week in range(min(self.weeks), max(self.weeks) + 1, WEEK)
        ]

    def finish(self) -> None:
        """Count as forged what names a selector that is reported for nothing else: anyone can write that."""
        unknown = {
            selector
            for selector, receivers in self.selectors.items()
            if not any(share.passed for share in receivers.values())
        }
        for key, source in list(self.sources.items()):
            kind, name = key
            has_no_name = kind == FAILED or (kind == ALTERED and name in source.addresses)
            if has_no_name and not source.own and source.selectors <= unknown:
                del self.sources[key]
                self.sources[FORGED, min(source.addresses)].merge(source)
        others = (source.selectors for (kind, _), source in self.sources.items() if kind != FORGED)
        for selector in unknown.difference(*others):
            del self.selectors[selector]

    def _add_source(self, source: Source, reported: Reported, own: frozenset[str]) -> None:
        record = reported.record
        source.own += record.messages * is_own(record, own)
        source.messages += record.messages
        source.since = min(source.since, reported.begin)
        source.latest = max(source.latest, reported.number)
        source.receivers[reported.organisation] += record.messages
        source.addresses.add(record.ip)
        source.delivered += record.messages * (record.disposition in ("none", "pass", ""))
        source.selectors |= {signature.selector for signature in _ours(record)}
        for result in {signature.result for signature in _ours(record)}:
            source.results[result] += record.messages


def analyse(reports: Iterable[Reported], own: frozenset[str]) -> dict[str, DomainReport]:
    """Return what is reported, by domain of From."""
    domains: dict[str, DomainReport] = defaultdict(DomainReport)
    for reported in reports:
        domains[reported.record.header_from].add(reported, own)
    for domain in domains.values():
        domain.finish()
    return dict(sorted(domains.items()))


def is_own(record: Record, own: frozenset[str]) -> bool:
    """Return whether messages came from a server of ours."""
    return record.ip in own or record.spf_aligned


def explain(record: Record, own: frozenset[str]) -> tuple[str, str]:
    """Return why a record has no valid, aligned signature, and the name of its source."""
    ours = _ours(record)
    from_us = is_own(record, own)
    if ours and (from_us or all(each.result in NOT_JUDGED for each in ours)):
        return FAILED, ours[0].selector
    if from_us:
        return UNSIGNED, record.ip
    other = _other_domain(record)
    if ours:
        return ALTERED, other or record.ip
    return (SERVICE, other) if other else (FORGED, record.ip)


def _ours(record: Record) -> list[Dkim]:
    return [each for each in record.signatures if _are_aligned(each.domain, record.header_from)]


def _other_domain(record: Record) -> str:
    """Return the domain of another that answers for the messages, by a signature or by SPF."""
    names = [each.domain for each in record.signatures if each.result == "pass"]
    domain, result = record.spf
    names += [domain] if result == "pass" else []
    return next((name for name in names if not _are_aligned(name, record.header_from)), "")


def _are_aligned(domain: str, header_from: str) -> bool:
    if "." not in domain:
        return False
    return domain == header_from or domain.endswith(f".{header_from}") or header_from.endswith(f".{domain}")
