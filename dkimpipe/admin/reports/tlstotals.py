"""The sums of TLS reports: by domain and policy, and by what failed. Both are limited in number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.reports.analysis import OTHERS, Strangers
from dkimpipe.admin.reports.concerns import Concern, day_of, number
from dkimpipe.admin.reports.signed import Signed
from dkimpipe.admin.reports.store import TlsResult
from dkimpipe.admin.reports.tls import Policy

_MOST = 500
_HINT = "see RFC 8460 section 4.3; check the certificate of that MX, its MTA-STS policy and TLSA records"


class TlsCount(NamedTuple):
    """TLS sessions for one domain, under one type of policy (RFC 8460)."""

    domain: str
    type: str
    successful: int
    failed: int


@dataclass
class _Failed:
    sessions: int = 0
    since: int = 1 << 62
    latest: int = 0


@dataclass
class TlsTotals:
    """Sums of results, which are added one by one."""

    _counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _failures: dict[tuple[str, str, str], _Failed] = field(default_factory=dict)

    def add(self, result: TlsResult, signed: Signed, strangers: Strangers) -> None:
        """Count a result, or its report if it is on a domain that is not ours."""
        policy = result.policy
        if not signed.covers(policy.domain):
            strangers.add(result.number, policy.domain)
            return
        failures, failed = _failed(policy)
        place = policy.domain, policy.type
        if place not in self._counts and len(self._counts) >= _MOST:
            place = OTHERS, ""
        count = self._counts.setdefault(place, [0, 0])
        count[0] += policy.successful
        count[1] += failed
        for (reason, mx), sessions in failures.items():
            key = policy.domain, reason, mx
            if key not in self._failures and len(self._failures) >= _MOST:
                key = OTHERS, OTHERS, ""
            entry = self._failures.setdefault(key, _Failed())
            entry.sessions += sessions
            entry.since = min(entry.since, result.begin)
            entry.latest = max(entry.latest, result.number)

    def counts(self) -> list[TlsCount]:
        """Return the sessions by domain and policy."""
        return [TlsCount(*key, *count) for key, count in sorted(self._counts.items())]

    def concerns(self, now: int) -> list[Concern]:
        """Return where others could not deliver to us by TLS, by domain, reason and server."""
        found = []
        for (domain, reason, mx), each in sorted(self._failures.items()):
            if each.sessions:
                sessions = number(each.sessions, "TLS session")
                since = day_of(each.since, now)
                what = f"{domain}: {sessions} with {mx or 'the MX'} failed since {since}: {reason}"
                topic = f"tls {domain} {reason} {mx}"
                found.append(Concern(topic, each.sessions, each.latest, Finding(what, _HINT)))
        return found


def _failed(policy: Policy) -> tuple[dict[tuple[str, str], int], int]:
    """Return the failed sessions by reason and server, and all of them.

    A session is in the details once for each thing that failed (RFC 8460 section 4.4), so the summary is the
    limit of each; if it has none, the largest of the details is a lower bound.
    """
    details: Counter[tuple[str, str]] = Counter()
    for failure in policy.failures:
        details[failure.result, failure.mx] += failure.sessions
    most = policy.failed or max(details.values(), default=0)
    return {key: min(sessions, most) for key, sessions in details.items()}, most
