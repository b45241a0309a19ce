"""A new key on trial: what receivers report of its signatures (DMARC aggregate reports, RFC 9990).

For each record and receiver the latest report decides, so that what has been fixed is forgotten. Few failures
are normal: some mail is always altered on the way. Only failures of mail from a server of ours count: anyone
can forge mail with a signature that fails in any way. A receiver to which the signatures of the key before
were invalid as well has no say: not all of them verify Ed25519.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dkimpipe import publickey
from dkimpipe.address import is_at_or_below
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.reports.aggregate import Dkim, Record
from dkimpipe.admin.reports.analysis import is_own
from dkimpipe.admin.reports.store import Store, Which
from dkimpipe.admin.rotation.selectors import domain_of, timestamp
from dkimpipe.admin.rotation.state import Key

_NORMAL = 0.05  # of the messages
_MANY = 1000  # addresses
ENOUGH = 10  # failed messages, for a return to the key before
_BEFORE = 30 * 86400  # seconds for which reports on the key before are read
_UNDECIDED = ("none", "temperror", "")


class Outcome(NamedTuple):
    """What receivers report of a key.

    ``valid``    the names of its records with which signatures were valid
    ``by``       the receivers that reported this
    ``invalid``  the receivers that reported the opposite, with the number of messages
    ``is_enough``  for a return to the key before: of all messages of the trial, as many have failed
    ``others``   what else is reported, by the name of the record; the rest says nothing about the key
    """

    valid: frozenset[str]
    by: tuple[str, ...]
    invalid: tuple[str, ...]
    is_enough: bool
    others: Mapping[str, Others]


@dataclass
class Others:
    """Messages that say nothing about a key.

    ``failed``    with a signature by it that was not valid, by result
    ``elsewhere``  of these, by address, those that did not come from a server of ours
    ``unsigned``  from a server of ours without one
    """

    failed: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    unsigned: int = 0

    def __str__(self) -> str:
        results = ", ".join(f"{count:,} {result or 'none'}" for result, count in self.failed.most_common())
        origin = "".join(f", most from {address}" for address, _ in self.elsewhere.most_common(1))
        failed = f"messages whose signature was not valid ({results}){origin}"
        unsigned = f"{self.unsigned:,} messages from servers of this domain without the signature"
        return " and ".join([failed] * bool(self.failed) + [unsigned] * bool(self.unsigned))


@dataclass
class _Latest:
    """The latest report of a receiver on the signatures with one record, and the sum of all its reports."""

    begin: int = 0
    messages: int = 0
    failed: int = 0
    results: set[str] = field(default_factory=set)
    all: int = 0
    all_failed: int = 0

    def add(self, begin: int, messages: int, result: str) -> None:
        """Count messages of a report; reports come in the order of their beginnings."""
        if begin != self.begin:
            self.begin, self.messages, self.failed, self.results = begin, 0, 0, set()
        self.messages += messages
        self.all += messages
        if result != "pass":
            self.failed += messages
            self.all_failed += messages
            self.results.add(result)

    @property
    def is_bad(self) -> bool:
        return self.failed > self.messages * _NORMAL

    def __str__(self) -> str:
        return f"{self.failed:,} of {self.messages:,} ({', '.join(sorted(self.results))})"


_Reports = Mapping[tuple[str, str], _Latest]  # by the name of the record and the receiver


def outcome(database: Path, key: Key, own: frozenset[str]) -> Outcome:
    """Return what receivers report of an active key; nothing if there is no database yet.

    ``own`` are the addresses of this server. Raises ConfigError if the database cannot be read, OSError.
    """
    if not database.exists():
        return Outcome(frozenset(), (), (), False, {})
    names = {name.lower(): name for name in key.names}
    before = {publickey.record_name(key.replaces[0], domain_of(name)).lower(): name for name in key.names}
    with Store(database, "ro") as base:
        reports = _latest(base, Which(0, base.latest(), key.since), names, own)
        earlier = _latest(base, Which(0, base.latest(), key.since - _BEFORE), before, own, key.since)
        others = _others(base, Which(0, base.latest(), key.since), names, own)
    judged = {
        place: each for place, each in reports.items() if not (place in earlier and earlier[place].is_bad)
    }
    bad = [
        f"{receiver}: {each}{f' for {domain_of(name)}' if len(names) > 1 else ''}"
        for (name, receiver), each in judged.items()
        if each.is_bad
    ]
    good = [place for place, each in judged.items() if not each.is_bad]
    receivers = tuple(dict.fromkeys(receiver for _, receiver in good))
    failing = {name for (name, _), each in judged.items() if each.is_bad}
    enough = any(_is_enough([each for (of, _), each in judged.items() if of == name]) for name in failing)
    return Outcome(frozenset(name for name, _ in good), receivers, tuple(bad), enough, others)


def final_without_reports(key: Key, found: Outcome) -> list[Finding]:
    """Return what to say of the records that nobody has reported as valid when the trial ends."""
    since = timestamp(key.since)
    rest = [name for name in key.names if name not in found.valid]
    findings = []
    if silent := [name for name in rest if name not in found.others]:
        what = f"{', '.join(silent)}: final, although nobody has reported on it since {since}"
        hint = "reports come to rua= of the DMARC record, and into the database by dkimpipe reports --store"
        findings.append(Finding(what, hint))
    for name in rest:
        if others := found.others.get(name):
            what = f"{name}: final, although nobody has reported a valid signature since {since}: {others}"
            likely = others.elsewhere.most_common(1)
            hints = [f"if {address} is a server of yours: --own {address}" for address, _ in likely]
            hints += ["dkimpipe audit"] * bool(others.unsigned)
            findings.append(Finding(what, "\n".join(hints)))
    return findings


def _is_enough(reports: list[_Latest]) -> bool:
    """Return whether all that receivers have reported of a record is enough to return to the key before."""
    failed = sum(each.all_failed for each in reports)
    messages = sum(each.all for each in reports)
    return failed >= ENOUGH and failed > messages * _NORMAL


def _latest(
    base: Store, which: Which, names: Mapping[str, str], own: frozenset[str], before: int = 1 << 62
) -> _Reports:
    """Return the latest reports on records that begin before a time, by what their names stand for."""
    found: dict[tuple[str, str], _Latest] = {}
    for reported in base.records(which):
        for name, signature in _by_name(reported.record.signatures) if reported.begin < before else ():
            if name in names and _tells(reported.record, signature, own):
                place = names[name], reported.organisation
                found.setdefault(place, _Latest()).add(
                    reported.begin, reported.record.messages, signature.result
                )
    return found


def _others(base: Store, which: Which, names: Mapping[str, str], own: frozenset[str]) -> Mapping[str, Others]:
    """Return the messages that say nothing about records, by what their names stand for."""
    found: dict[str, Others] = {}
    for reported in base.records(which):
        record = reported.record
        signed = dict(_by_name(record.signatures))
        is_ours = is_own(record, own)
        for name, stands_for in names.items():
            signature = signed.get(name)
            if signature and not _tells(record, signature, own):
                others = found.setdefault(stands_for, Others())
                others.failed[signature.result] += record.messages
                if not is_ours and (record.ip in others.elsewhere or len(others.elsewhere) < _MANY):
                    others.elsewhere[record.ip] += record.messages
            elif signature is None and is_ours and _is_of(record, domain_of(name)):
                found.setdefault(stands_for, Others()).unsigned += record.messages
    return found


def _is_of(record: Record, domain: str) -> bool:
    return is_at_or_below(record.header_from.encode(), domain.encode())


def _by_name(signatures: Iterable[Dkim]) -> Iterable[tuple[str, Dkim]]:
    """Return one signature for each record, in lower case as they are read; a valid one if there is one."""
    ordered = sorted(signatures, key=lambda each: each.result == "pass")
    return {publickey.record_name(each.selector, each.domain): each for each in ordered}.items()


def _tells(record: Record, signature: Dkim, own: frozenset[str]) -> bool:
    """Return whether a result tells about the key: others may have altered or forged a message."""
    return signature.result == "pass" or (signature.result not in _UNDECIDED and is_own(record, own))
