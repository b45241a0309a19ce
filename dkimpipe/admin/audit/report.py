"""The counts, and their output: text, JSON, and metrics for Prometheus."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from dkimpipe.admin.audit.advice import OTHERS, Advice, Row
from dkimpipe.admin.audit.message import Deferred
from dkimpipe.admin.audit.verdict import FORWARDED, NOT_FILTERED, RELAYED, SIGNED, UNKNOWN, UNSIGNED, Verdict
from dkimpipe.admin.postfix.kinds import KINDS
from dkimpipe.errors import one_line

ROWS = 500  # of each table; others write the domains and causes
_METRIC_ROWS = 50
_KINDS = (*KINDS, RELAYED)


class Counts:
    """What is counted; memory is bounded whatever the log contains."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.outcomes: Counter[str] = Counter()
        self.signatures: Counter[tuple[str, str, str]] = Counter()
        self.unsigned: Counter[Row] = Counter()
        self.deferred: Counter[Deferred] = Counter()

    def add(self, verdict: Verdict) -> None:
        """Count one message that has left."""
        self.outcomes[verdict.outcome] += 1
        for signature in verdict.signatures:
            _count(self.signatures, tuple(signature), (OTHERS, OTHERS, OTHERS))
        if verdict.outcome == UNSIGNED:
            row = Row(verdict.kind, verdict.source, verdict.domain, _common(verdict.reason))
            _count(self.unsigned, row, Row(OTHERS, "", "", NOT_FILTERED))

    def add_deferred(self, deferred: Iterable[Deferred]) -> None:
        """Count the messages that are still in the queue."""
        for each in deferred:
            _count(self.deferred, each, Deferred(OTHERS, ""))

    @property
    def left(self) -> int:
        """How many messages have left."""
        return sum(self.outcomes.values())


class Report(NamedTuple):
    """A complete audit.

    ``names``       of the logs
    ``since``       seconds since 1970, as ``first`` and ``last``, the times of the first and last line
    ``unreadable``  deliveries that could not be read, ``forgotten`` messages of which too many were queued
    ``doubts``      what was not understood of each log, with its name
    ``advice``      on the mail that left unsigned
    """

    counts: Counts
    names: tuple[str, ...]
    since: float
    first: float
    last: float
    unreadable: int
    forgotten: int
    doubts: tuple[str, ...]
    advice: Advice

    @property
    def is_good(self) -> bool:
        """Whether the log proves that nothing left unsigned."""
        outcomes = self.counts.outcomes
        is_complete = not (self.unreadable or self.forgotten or self.doubts)
        return is_complete and not (outcomes[UNSIGNED] or outcomes[UNKNOWN])

    def text(self) -> list[str]:
        """Return the report for people."""
        return [one_line(line) for line in self._text()]

    def _text(self) -> Iterator[str]:
        counts = self.counts
        yield f"log: {', '.join(self.names)}, {_minute(self.first)} to {_minute(self.last)}"
        for doubt in self.doubts:
            yield f"    {doubt}"
        yield f"left by SMTP since {_minute(self.since)}: {_messages(counts.left)}"
        if self.first > self.since:
            yield "    the log does not reach further back than its first line"
        yield f"{counts.outcomes[SIGNED]:>7} signed"
        for (domain, selector, by), number in counts.signatures.most_common():
            yield f"{number:>13} d={domain} s={selector}{'' if by == 'dkimpipe' else f', by {by}'}"
        yield f"{counts.outcomes[FORWARDED]:>7} forwarded: mail of others, which is not signed"
        if counts.outcomes[UNKNOWN]:
            yield f"{counts.outcomes[UNKNOWN]:>7} of unknown source: the log does not have their beginning"
        if self.unreadable:
            yield f"{self.unreadable:>7} deliveries that could not be read"
        if self.forgotten:
            yield f"{self.forgotten:>7} that could not be followed: too many messages were queued at once"
        yield f"{counts.outcomes[UNSIGNED]:>7} unsigned"
        for row, number in sorted(counts.unsigned.items(), key=_order):
            origin = " ".join(filter(None, [f"{row.kind}:", row.source and f"{row.source},"]))
            yield f"{number:>13} {origin} {_sender(row.domain)}: {row.reason}"
            yield f"{'':13}     {self.advice.on(row)}"
        yield f"{sum(counts.deferred.values()):>7} deferred, still in the queue"
        for deferred, number in counts.deferred.most_common():
            yield f"{number:>13} {deferred.service}: {deferred.cause}".rstrip(": ")

    def json(self) -> str:
        """Return the same for programs; times in seconds since 1970."""
        counts = self.counts
        found: dict[str, Any] = {
            "logs": self.names,
            "since": int(self.since),
            "first": int(self.first),
            "last": int(self.last),
            "left": counts.left,
            **{name: counts.outcomes[name] for name in (SIGNED, FORWARDED, UNKNOWN, UNSIGNED)},
            "unreadable": self.unreadable,
            "forgotten": self.forgotten,
            "not_understood": self.doubts,
            "deferred": sum(counts.deferred.values()),
            "signatures": [
                {"domain": domain, "selector": selector, "by": by, "messages": number}
                for (domain, selector, by), number in counts.signatures.most_common()
            ],
            "sources": [
                {**row._asdict(), "hint": self.advice.on(row), "messages": number}
                for row, number in sorted(counts.unsigned.items(), key=_order)
            ],
            "causes": [
                {**each._asdict(), "messages": number} for each, number in counts.deferred.most_common()
            ],
        }
        return json.dumps(found, indent=2)

    def prometheus(self) -> str:
        """Return metrics for the textfile collector of node_exporter."""
        return "".join(f"{line}\n" for line in self._metrics())

    def _metrics(self) -> Iterator[str]:
        counts = self.counts
        yield from _family("dkimpipe_audit_since_timestamp_seconds", "Beginning of the time that is counted.")
        yield f"dkimpipe_audit_since_timestamp_seconds {int(self.since)}"
        yield from _family("dkimpipe_audit_last_line_timestamp_seconds", "Time of the last line of the log.")
        yield f"dkimpipe_audit_last_line_timestamp_seconds {int(self.last)}"
        yield from _family("dkimpipe_audit_messages", "Messages that left by SMTP, by outcome.")
        for outcome in (SIGNED, UNSIGNED, FORWARDED, UNKNOWN):
            yield _sample("dkimpipe_audit_messages", counts.outcomes[outcome], outcome=outcome)
        yield from _family("dkimpipe_audit_not_followed", "Deliveries that could not be read or followed.")
        yield f"dkimpipe_audit_not_followed {self.unreadable + self.forgotten}"
        yield from _family("dkimpipe_audit_not_understood", "Logs of which something was not understood.")
        yield f"dkimpipe_audit_not_understood {len(self.doubts)}"
        yield from _family("dkimpipe_audit_signed", "Signed messages, by signing domain and selector.")
        for (domain, selector, by), number in _largest(counts.signatures, (OTHERS, OTHERS, OTHERS)):
            yield _sample("dkimpipe_audit_signed", number, domain=domain, selector=selector, by=by)
        yield from _family("dkimpipe_audit_unsigned", "Unsigned messages, by kind and envelope domain.")
        unsigned: Counter[tuple[str, str]] = Counter()
        for row, number in counts.unsigned.items():
            unsigned[row.kind, row.domain] += number
        for (kind, domain), number in _largest(unsigned, (OTHERS, OTHERS)):
            yield _sample("dkimpipe_audit_unsigned", number, kind=kind, domain=domain)
        yield from _family(
            "dkimpipe_audit_deferred", "Messages in the queue after a failed attempt, by service."
        )
        services: Counter[str] = Counter()
        for each, number in counts.deferred.items():
            services[each.service] += number
        for service, number in _largest(services, OTHERS):
            yield _sample("dkimpipe_audit_deferred", number, service=service)


def _count(counter: Counter[Any], key: Any, other: Any) -> None:
    counter[key if key in counter or len(counter) < ROWS else other] += 1


def _largest(counter: Counter[Any], other: Any) -> list[tuple[Any, int]]:
    """Return the largest counts, and the sum of the others."""
    listed = counter.most_common()
    rest = sum(number for _, number in listed[_METRIC_ROWS:])
    return listed[:_METRIC_ROWS] + ([(other, rest)] if rest else [])


def _common(reason: str) -> str:
    """Return a reason that is the same for all addresses of a domain, and for all From fields without any."""
    if reason.startswith("no address in '"):
        return "no address in From"
    return re.sub(r"(?<=^no entry for )\S*(?=@)", "", reason)


def _order(item: tuple[Row, int]) -> tuple[int, int, Row]:
    row, number = item
    return (_KINDS.index(row.kind) if row.kind in _KINDS else len(_KINDS)), -number, row


def _sender(domain: str) -> str:
    return domain or "null sender"


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "unknown"


def _family(name: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} gauge"


def _sample(name: str, value: int, **labels: str) -> str:
    escaped = (f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{','.join(escaped)}}} {value}"


def _escaped(text: str) -> str:
    return one_line(text).replace("\\", r"\\").replace('"', r"\"")
