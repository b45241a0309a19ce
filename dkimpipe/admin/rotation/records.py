"""The records of the keys in rotation: look up, publish, and withdraw them.

With a ``zone``, the names are aliases (CNAME) of names in this zone, which contains the records.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence

from dkimpipe.admin.dns import alias, compare, lookup, publishing, update
from dkimpipe.admin.dns.compare import Holds, Need
from dkimpipe.admin.dns.lookup import Answer
from dkimpipe.admin.dns.publishing import Publisher
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError

_MIN_CACHE_TIME = 3600  # seconds; even with a TTL of 0, secondary servers may lag behind


class KeyRecords:
    """The key records in DNS, and their updates with ``--publish``."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._servers = lookup.NameServers(options.look_at or ())

    def faults(self, needs: Mapping[str, Sequence[Need]], zone: str = "") -> list[Finding]:
        """Return the problems with the records at these names, on any server, warnings included."""
        places = {name: alias.target(name, zone) for name in needs}
        return self._with_alias_faults(
            needs, {name: self._at(places[name], needs[name]) for name in needs}, zone
        )

    def publish(self, needs: Mapping[str, Sequence[Need]], zone: str = "") -> list[Finding]:
        """Return the same, after publishing missing records, with ``--publish``.

        Raises ConfigError, also if there is another record at a name.
        """
        places = {name: alias.target(name, zone) for name in needs}
        found = {name: self._at(places[name], each) for name, each in needs.items()}
        missing = [name for name, findings in found.items() if errors(findings)]
        if missing and self._may_change(zone):
            self._publish([Record(places[name], needs[name][0].value) for name in missing])
            found.update((name, self._at(places[name], needs[name])) for name in missing)
        return self._with_alias_faults(needs, found, zone)

    def _may_change(self, zone: str) -> bool:
        """Return whether records may be changed: with fixed selectors, only those in the hoster's zone."""
        return bool(self._options.publish and (zone or not self._options.selectors))

    def _at(self, name: str, needs: Sequence[Need]) -> list[Finding]:
        return list(self._servers.findings(name, list(needs)))

    def _with_alias_faults(
        self, needs: Mapping[str, Sequence[Need]], found: Mapping[str, list[Finding]], zone: str
    ) -> list[Finding]:
        """Return all findings, and with a zone those about the aliases."""
        for name, findings in found.items() if zone else ():
            wanted = [] if errors(findings) else list(needs[name])
            findings += self._servers.alias_findings(name, alias.target(name, zone), wanted)
        return [finding for findings in found.values() for finding in findings]

    def taken(self, names: Iterable[str], zone: str = "") -> str:
        """Return a name that has a key on some server, or whose alias has; empty if all are free.

        An invalid record may be someone's key, so its name is not free. Raises ConfigError if a server does
        not answer.
        """
        for place in _places(names, zone):
            texts = [text for answer in self._certain_answers(place, zone) for text in answer.texts]
            if any(compare.holds(text) is not Holds.NOTHING for text in texts):
                return place
        return ""

    def cache_time(self, names: Iterable[str], others: Iterable[str], zone: str = "") -> int:
        """Return the seconds for which resolvers may cache answers for these names, or for others.

        With a zone, this covers the aliases and what they lead to. Raises ConfigError if a server does not
        answer for ``names``.
        """
        places = _places(names, zone)
        answers = [answer for place in places for answer in self._certain_answers(place, zone)]
        for place in _places(others, zone):
            answers += [answer for _, answer in self._servers.answers(place)]
        return max([_MIN_CACHE_TIME, *(answer.ttl for answer in answers)])

    def cache_time_of_targets(self, names: Iterable[str], zone: str) -> int:
        """Return the same for the records in a zone; the servers of their aliases may fail to answer."""
        names = list(names)
        return self.cache_time([alias.target(name, zone) for name in names], names)

    def longest_ttl(self, names: Iterable[str], zone: str) -> int:
        """Return the longest time to live of all answers for these names so far, in seconds."""
        return max([self._servers.longest_ttl(place) for place in _places(names, zone)], default=0)

    def _certain_answers(self, name: str, zone: str) -> list[Answer]:
        answers = list(self._servers.answers(name))
        for at, answer in answers:
            if not (answer.certain or (zone and answer.leads_on)):
                raise ConfigError(f"{name}: {answer.failure}, according to {at}")
        return [answer for _, answer in answers]

    def with_key(self, names: Iterable[str], value: str, zone: str = "") -> list[str]:
        """Return the names, or with a zone those of the records, at which a server may have this key.

        A server may have it if it fails, does not answer, or has an invalid record. An empty value means any
        key.
        """
        gone = (Holds.NOTHING, Holds.OTHER)
        return [
            name
            for name in [alias.target(name, zone) for name in names]
            if any(
                not answer.certain or any(compare.holds(text, value) not in gone for text in answer.texts)
                for _, answer in self._servers.answers(name)
            )
        ]

    def withdraw(self, record: Record, zone: str = "") -> None:
        """Delete a record from DNS, or revoke it, if this zone may be changed.

        Raises ConfigError, also if the primary server has another key at this name, or an invalid record that
        may contain one.
        """
        if not self._may_change(zone):
            return
        publisher = self._publisher()
        for text in publisher.texts(record.name):
            found = compare.holds(text, record.value)
            if found not in (Holds.OURS, Holds.NOTHING):
                what = f"{record.name} holds {found.value} from the one that was there"
                raise ConfigError(what, "check what it is for")
        if self._options.revoke:
            revoked = re.sub(r"\bp=.*", "p=", record.value)
            self._publish([Record(record.name, revoked)], publisher, replace=True)
        elif self._options.dry_run:
            print(f"{record.name}: to be deleted from DNS")
        else:
            publisher.delete([record], self._options.ttl, replace=True)

    def _publisher(self) -> Publisher:
        return publishing.publisher(self._options, self._servers)

    def _publish(
        self, records: list[Record], publisher: Publisher | None = None, replace: bool = False
    ) -> None:
        if self._options.dry_run:
            print(*(f"{each.name}: to be published" for each in records), sep="\n")
            return
        publisher = publisher or self._publisher()
        revoked = [each for each in records if not replace and _is_revoked(publisher.texts(each.name))]
        others = [each for each in records if each not in revoked]
        try:
            publisher.publish(others, self._options.ttl, replace)
        except update.OccupiedError as error:
            hint = "delete it from DNS; the next run publishes the right one"
            raise ConfigError(str(error), hint) from None
        publisher.publish(revoked, self._options.ttl, replace=True)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are errors."""
    return [finding for finding in findings if finding.level == "error"]


def _is_revoked(texts: Sequence[bytes]) -> bool:
    """Return whether a name has nothing but the record of a revoked key, which a new one may replace."""
    return bool(texts) and all(map(compare.is_revoked, texts))


def _places(names: Iterable[str], zone: str) -> list[str]:
    """Return all names that a verifier looks up: these, and what they are aliases of, which come first."""
    return list(dict.fromkeys(place for name in names for place in (alias.target(name, zone), name)))
