"""What the reports of a period say, for people at a terminal and for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dkimpipe.admin.findings import Finding, hint_lines
from dkimpipe.admin.reports.analysis import DomainReport, Share
from dkimpipe.admin.reports.concerns import Concern, number, shown
from dkimpipe.admin.reports.documents import Fault
from dkimpipe.admin.reports.tlstotals import TlsCount
from dkimpipe.errors import one_line

_BAR = 30  # columns
_SELECTORS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Overview(NamedTuple):
    """All that the reports of a period say.

    ``begin``     of the period, ``end`` of the latest report, seconds since 1970; 0 if there are no reports
    ``latest``    the number of the last report
    ``domains``   by domain of From
    ``concerns``  what calls for action
    ``faults``    what came and was not a report
    """

    begin: int
    end: int
    latest: int
    domains: Mapping[str, DomainReport]
    tls: Sequence[TlsCount]
    concerns: Sequence[Concern]
    faults: Sequence[Fault]

    @property
    def findings(self) -> list[Finding]:
        """What calls for action, for people."""
        return [concern.finding for concern in self.concerns]

    def text(self) -> list[str]:
        """Return the lines for a terminal."""
        return [one_line(line) for line in self._text()]

    def _text(self) -> Iterator[str]:
        if not self.end:
            yield f"no reports since {day(self.begin)}"
        else:
            yield f"mail of {day(self.begin)} to {day(self.end)}, as receivers report it"
        for name, domain in self.domains.items():
            yield ""
            valid = percent(domain.total)
            yield f"{name}: {number(domain.total.messages, 'message')}, {valid} with a valid signature of it"
            yield from _selectors(domain)
            yield from _weeks(domain)
        for count in self.tls:
            yield ""
            sessions = f"{number(count.successful + count.failed, 'session')}, {count.failed:,} failed"
            yield f"{count.domain}, TLS ({count.type}): {sessions}"
        yield from self._findings()

    def _findings(self) -> Iterator[str]:
        for finding in shown(self.findings):
            yield ""
            yield f"{finding.level}: {finding.what}"
            yield from hint_lines(finding.hint)
        for finding in shown(self.not_reports()):
            yield finding.what

    def not_reports(self) -> list[Finding]:
        """Return what came and was not a report."""
        return [Finding(f"not a report: {fault.name}: {fault.cause}") for fault in self.faults]

    def json(self) -> str:
        """Return the same for programs."""
        found: dict[str, Any] = {
            "begin": self.begin,
            "end": self.end,
            "domains": {name: _domain(domain) for name, domain in self.domains.items()},
            "tls": [count._asdict() for count in self.tls],
            "concerns": [finding.as_dict() for finding in self.findings],
            "unreadable": [fault._asdict() for fault in self.faults],
        }
        return json.dumps(found, indent=2)


def day(seconds: int) -> str:
    """Return a date in UTC, as in the reports."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def percent(share: Share) -> str:
    """Return the part that passed, rounded down: 100 % means all of them."""
    return f"{share.passed * 1000 // share.messages / 10:g} %" if share.messages else "none"


def _selectors(domain: DomainReport) -> Iterator[str]:
    for selector, receivers in sorted(domain.selectors.items())[:_SELECTORS]:
        yield f"  selector {selector or '(not reported)'}"
        for receiver, share in sorted(receivers.items(), key=lambda item: -item[1].messages):
            yield f"    {share.passed:>9,} of {share.messages:>9,} valid at {receiver}"
    if len(domain.selectors) > _SELECTORS:
        yield f"  and {len(domain.selectors) - _SELECTORS:,} more selectors"


def _weeks(domain: DomainReport) -> Iterator[str]:
    most = max(share.messages for share in domain.weeks.values())
    yield "  week of"
    for week, share in domain.by_week():
        yield f"  {day(week)} {_bar(share.messages, most):<{_BAR}} {share.messages:>9,} {percent(share):>7}"


def _bar(value: int, most: int) -> str:
    eighths = value * _BAR * 8 // most if most else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _domain(domain: DomainReport) -> dict[str, Any]:
    return {
        "policy": domain.policy.partition(", ")[0].partition("=")[2],
        "messages": domain.total.messages,
        "passed": domain.total.passed,
        "selectors": [
            {"selector": selector, "receiver": receiver, "messages": share.messages, "passed": share.passed}
            for selector, receivers in domain.selectors.items()
            for receiver, share in receivers.items()
        ],
        "weeks": [
            {"begin": week, "messages": share.messages, "passed": share.passed}
            for week, share in domain.by_week()
        ],
        "sources": [
            {
                "kind": kind,
                "source": name,
                "messages": source.messages,
                "since": source.since,
                "delivered": source.delivered,
                "addresses": len(source.addresses),
            }
            for (kind, name), source in domain.sources.items()
        ],
    }
