"""The records of the keys in rotation: look up, publish, and withdraw them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence

from dkimpipe.admin.dns import compare, lookup, update
from dkimpipe.admin.dns.compare import Holds, Need
from dkimpipe.admin.dns.lookup import Answer
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.dns.update import Primary
from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError

_MIN_CACHE_TIME = 3600  # seconds; even with a TTL of 0, secondary servers may lag behind


class KeyRecords:
    """The key records in DNS, and their updates with ``--publish``."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._servers = lookup.NameServers(options.look_at or ())

    def faults(self, needs: Mapping[str, Sequence[Need]]) -> list[Finding]:
        """Return the problems with the records at these names, on any server, warnings included."""
        return [each for name in needs for each in self._servers.findings(name, list(needs[name]))]

    def publish(self, needs: Mapping[str, Sequence[Need]]) -> list[Finding]:
        """Return the same, after publishing missing records, with ``--publish``.

        Raises ConfigError, also if there is another record at a name.
        """
        found = {name: self.faults({name: each}) for name, each in needs.items()}
        missing = [name for name, findings in found.items() if errors(findings)]
        if missing and self._options.publish:
            self._publish([Record(name, needs[name][0].value) for name in missing])
            found.update((name, self.faults({name: needs[name]})) for name in missing)
        return [finding for findings in found.values() for finding in findings]

    def are_free(self, names: Iterable[str]) -> bool:
        """Return whether no server has a key at these names. Raises ConfigError if one does not answer.

        An invalid record may be someone's key, so its name is not free.
        """
        texts = [text for name in names for answer in self._certain_answers(name) for text in answer.texts]
        return all(compare.holds(text) is Holds.NOTHING for text in texts)

    def cache_time(self, names: Iterable[str], others: Iterable[str]) -> int:
        """Return the seconds for which resolvers may cache answers for these names, or for others.

        Raises ConfigError if a server does not answer for ``names``.
        """
        answers = [answer for name in names for answer in self._certain_answers(name)]
        answers += [answer for name in others for _, answer in self._servers.answers(name)]
        return max([_MIN_CACHE_TIME, *(answer.ttl for answer in answers)])

    def _certain_answers(self, name: str) -> list[Answer]:
        answers = list(self._servers.answers(name))
        for at, answer in answers:
            if not answer.certain:
                raise ConfigError(f"{name}: {answer.failure}, according to {at}")
        return [answer for _, answer in answers]

    def names_with_key(self, names: Iterable[str], value: str) -> list[str]:
        """Return the names at which a server has this key, or may have it.

        A server may have it if it fails, does not answer, or has an invalid record. An empty value means any
        key.
        """
        gone = (Holds.NOTHING, Holds.OTHER)
        return [
            name
            for name in names
            if any(
                not answer.certain or any(compare.holds(text, value) not in gone for text in answer.texts)
                for _, answer in self._servers.answers(name)
            )
        ]

    def withdraw(self, record: Record) -> None:
        """Delete a record from DNS, or revoke it.

        Raises ConfigError, also if the primary server has another key at this name, or an invalid record that
        may contain one.
        """
        primary = update.primary(self._options)
        for text in update.texts(primary, record.name, self._options.zone or ""):
            found = compare.holds(text, record.value)
            if found not in (Holds.OURS, Holds.NOTHING):
                what = f"{record.name} holds {found.value} from the one that was there"
                raise ConfigError(what, "check what it is for")
        if self._options.revoke:
            revoked = re.sub(r"\bp=.*", "p=", record.value)
            self._publish([Record(record.name, revoked)], primary, replace=True)
        elif self._options.dry_run:
            print(f"{record.name}: to be deleted from DNS")
        else:
            update.delete(primary, [record], self._options.zone or "", replace=True)

    def _publish(self, records: list[Record], primary: Primary | None = None, replace: bool = False) -> None:
        if self._options.dry_run:
            print(*(f"{each.name}: to be published" for each in records), sep="\n")
            return
        primary = primary or update.primary(self._options)
        try:
            update.publish(primary, records, self._options.ttl, self._options.zone or "", replace)
        except update.OccupiedError as error:
            hint = "delete it from DNS; the next run publishes the right one"
            raise ConfigError(str(error), hint) from None


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are errors."""
    return [finding for finding in findings if finding.level == "error"]
