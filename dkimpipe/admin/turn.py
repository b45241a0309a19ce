"""One turn of ``dkimpipe rotate``: each key takes the step that is due, if it can be taken safely now."""

from __future__ import annotations

import argparse
import functools
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from dkimpipe.admin import atomic, genkey, mapedit, mapfile, publish, published, record, rotation
from dkimpipe.admin.findings import ERRORS_FOUND, Finding
from dkimpipe.admin.mapedit import Pair
from dkimpipe.admin.record import Record
from dkimpipe.admin.rotation import Key
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned, Trouble
from dkimpipe.files import exists
from dkimpipe.keys import read_key

_MOST_TRIES = 20  # selectors in one month
_LEAST_WAIT = 3600  # seconds; a zone that says 0 may still have servers that are late


class _Use(NamedTuple):
    """What signs with a pair: the names of its records, and whether these are all, whoever the sender is."""

    names: set[str]
    depends: set[str]


def _what_signs(settings: Settings) -> dict[Pair | None, _Use]:
    """Return what the maps use; what has selector or key from the conf file stands under None.

    Raises ConfigError for the first thing that is wrong: what cannot be read may sign, too.
    """
    maps = mapfile.maps(settings)
    uses: dict[Pair | None, _Use] = {}
    for line, signature, use in mapfile.every_signature(mapfile.lines(settings), settings):
        if isinstance(use, ConfigError):
            raise use
        pair = mapedit.pair(signature) if signature and line.path in maps else None
        found = uses.setdefault(pair, _Use(set(), set()))
        if isinstance(use, NotSigned):
            found.depends.add(str(use))
        else:
            found.names.add(use.name)
    return uses


class Turn:
    """One run over all keys. What it does is kept on disk step by step, so that a kill loses nothing."""

    def __init__(self, options: argparse.Namespace, settings: Settings, now: int) -> None:
        self._options = options
        self._maps = list(mapfile.maps(settings))
        self._signing = _what_signs(settings)
        self._now = now
        self._keys = rotation.load(options.directory)
        self._servers = functools.cache(self._servers_of)
        self._told: set[str] = set()
        self._domains = set(map(genkey.to_domain, options.domains))

    def all_keys(self) -> int:
        """Take all steps that are due, one key's trouble stopping no other's; return the exit status."""
        self._notice_what_signs()
        for domain in self._domains - {_domain(name) for key in self._keys for name in key.names}:
            raise ConfigError(f"{', '.join(self._maps)}: no signature for {domain} that can be rotated")
        self._save()
        if self._options.dry_run:
            for key in filter(self._is_asked_for, self._keys):
                print(f"{key.state:<10} since {_day(key.since)}: {_who(key)}, {key.keyfile}")
            for reason in sorted(reason for use in self._signing.values() for reason in use.depends):
                print(f"never       {reason}")
        for key in filter(self._is_due, list(self._keys)):
            self._take(self._begin, key)
        for key in filter(self._is_asked_for, list(self._keys)):
            self._take(_STEPS[key.state], self, key)
        return ERRORS_FOUND if self._told else 0

    def _take(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Trouble as trouble:
            self._report(trouble)
        self._save()

    def _report(self, trouble: Trouble) -> None:
        if str(trouble) not in self._told:
            print(f"dkimpipe: {trouble}", *filter(None, [trouble.mend]), sep="\n", file=sys.stderr)
        self._told.add(str(trouble))

    def _save(self) -> None:
        if not self._options.dry_run:
            rotation.save(self._options.directory, self._keys)

    def _do(self, what: str, function: Callable[[], object]) -> None:
        print(what)
        if not self._options.dry_run:
            function()

    def _notice_what_signs(self) -> None:
        """Bring the states in line with the senders file, whoever changed it."""
        for key in self._keys:
            use = self._signing.get(key.pair)
            if use and key.state != "active":
                if key.state == "retiring":
                    print(f"{_who(key)}: signs again")
                elif key.state == "revoked":
                    mend = "\n".join(f"publish: {record.zone_line(name, key.value)}" for name in key.names)
                    self._report(ConfigError(f"{_who(key)}: signs again, without a record in DNS", mend))
                key.become("active", self._now)
            elif not use and key.state == "active":
                until = _day(self._now + self._options.keep)
                print(f"{_who(key)}: signs no more; its records stay until {until}")
                key.become("retiring", self._now)
            elif key.state in ("generated", "published") and Pair(*key.replaces) not in self._signing:
                key.become("retiring", self._now)
            key.names = sorted(use.names) or key.names if use else key.names
        known = {key.pair for key in self._keys}
        for pair, use in self._signing.items():
            if pair and use.names and pair not in known:
                made = Path(pair.keyfile).stat().st_mtime if exists(pair.keyfile) else self._now
                self._keys.append(Key(*pair, sorted(use.names), "active", int(made)))

    def _is_asked_for(self, key: Key) -> bool:
        domains = set(map(_domain, key.names))
        return not self._domains or bool(self._domains & domains)

    def _is_due(self, key: Key) -> bool:
        if key.state != "active":
            return False
        of_age = self._options.now or self._now - key.since >= self._options.age
        is_succeeded = any(
            new.replaces == list(key.pair) for new in self._keys if new.state in rotation.STATES[:2]
        )
        depends = self._signing[key.pair].depends
        return bool(of_age) and not is_succeeded and not depends and self._is_asked_for(key)

    def _begin(self, old: Key) -> None:
        """Choose where the new key will be. That is kept before it is made: who is killed between goes on."""
        directory = Path(old.keyfile).parent
        taken = {name for key in self._keys for name in key.names}
        for selector in self._selectors(read_key(old.keyfile).type):
            path = genkey.key_path(directory, _domain(old.names[0]), selector)
            names = [record.name(selector, _domain(name)) for name in old.names]
            if taken.intersection(names) or exists(str(path)):
                continue
            answers = [self._sure_answer(name, at) for name in names for at in self._servers(name)]
            if not any(answer.keys for answer in answers):
                known = [published.ask(name, at) for name in old.names for at in self._servers(name)]
                wait = max(_LEAST_WAIT, *(answer.ttl for answer in answers + known))
                replaces = list(old.pair)
                self._keys.append(Key(selector, str(path), names, "generated", self._now, "", wait, replaces))
                return
        raise ConfigError(f"{names[0]}: there is a key already", "is there a wildcard record in the zone?")

    def _selectors(self, kind: str) -> Iterator[str]:
        month = time.strftime("%Y%m", time.gmtime(self._now))
        yield month
        yield month + kind[0]
        yield from (f"{month}{kind[0]}{number}" for number in range(2, _MOST_TRIES))

    def _generated(self, key: Key) -> None:
        """Make the key, if that is not done; let its records be seen."""
        if not exists(key.keyfile):
            self._do(f"{_who(key)}: a new key, {key.keyfile}", lambda: _make(key))
        if not exists(key.keyfile):  # --dry-run
            return
        key.value = record.value(key.keyfile)
        missing = self._missing(key)
        if missing and self._options.publish:
            self._publish([Record(name, key.value) for name in key.names])
            missing = self._missing(key)
        if missing:
            _tell(missing)
        else:
            print(f"{_who(key)}: published; it signs from {_day(self._now + key.wait)} on")
            key.become("published", self._now)

    def _published(self, key: Key) -> None:
        """Let the key sign, if its records have been there for long enough."""
        missing = self._missing(key)
        if missing or key.since > self._now:  # or somebody put the clock back
            _tell(missing)
            key.become("generated", self._now)
        elif self._now - key.since > key.wait:
            old = Pair(*key.replaces)
            words = f"{_who(key)}: signs from now on, in the place of s={old.selector}"
            self._do(words, lambda: self._replace(old, key.pair))
            key.become("active", self._now)
            for other in self._keys:
                if other.pair == old:
                    other.become("retiring", self._now)

    def _replace(self, old: Pair, new: Pair) -> None:
        for path in self._maps:
            mapedit.replace(path, old, new)

    def _active(self, key: Key) -> None:
        """Keep what its records say: they outlive the key's file."""
        key.value = record.value(key.keyfile)

    def _retiring(self, key: Key) -> None:
        """Let the records go, if mail on its way needs them no longer."""
        if self._now - key.since < self._options.keep:
            return
        needed = {name for other in self._keys if other.state in _NEEDS_RECORD for name in other.names}
        needed.update(*(use.names for use in self._signing.values()))
        names = [name for name in key.names if name not in needed]
        there = list(filter(self._may_hold_key, names))
        if there and self._options.publish:
            for name in there:
                self._withdraw(Record(name, key.value))
            there = list(filter(self._may_hold_key, names))
        for name in there:
            print(f"{name}: take this record out of DNS: nothing signs with its key any more")
        if not there:
            print(f"{_who(key)}: revoked; its file is of no more use: rm {key.keyfile}")
            key.become("revoked", self._now)

    def _revoked(self, key: Key) -> None:
        """Forget the key, if its file is gone."""
        if not exists(key.keyfile):
            self._keys.remove(key)

    def _missing(self, key: Key) -> list[Finding]:
        """Return what is wrong with the records of a key, at any server."""
        found = [
            finding
            for name in key.names
            for finding in published.findings(name, key.value, self._servers(name))
        ]
        return [finding for finding in found if finding.level == "error"]

    def _may_hold_key(self, name: str) -> bool:
        return any(published.ask(name, at).may_hold_key for at in self._servers(name))

    def _sure_answer(self, name: str, at: published.Server) -> published.Answer:
        answer = published.ask(name, at)
        if answer.texts or answer.absent:
            return answer
        raise ConfigError(f"{name}: {answer.failure}, says {at.name}")

    def _servers_of(self, name: str) -> list[published.Server]:
        return self._options.look_at or published.servers_of(name)

    def _publish(self, records: list[Record], replace: bool = False) -> None:
        if self._options.dry_run:
            print(*(f"{each.name}: to be published" for each in records), sep="\n")
            return
        server = publish.server(self._options)
        publish.publish(server, records, self._options.ttl, self._options.zone or "", replace)

    def _withdraw(self, there: Record) -> None:
        """Take a record out of DNS, or revoke it; but none that somebody has put in its place."""
        server = publish.server(self._options)
        keys = published.ask(there.name, published.Server(str(server), server.address, server.port)).keys
        if keys - published.keys_of(there.value.encode()):
            raise ConfigError(
                f"{there.name} holds another key than the one that was there", "look what it is for"
            )
        if self._options.revoke:
            value = re.sub(r"\bp=.*", "p=", there.value)
            self._publish([Record(there.name, value)], replace=True)
        elif self._options.dry_run:
            print(f"{there.name}: to be taken out of DNS")
        else:
            publish.delete(server, [there], self._options.zone or "", replace=True)


_STEPS = {
    "generated": Turn._generated,
    "published": Turn._published,
    "active": Turn._active,
    "retiring": Turn._retiring,
    "revoked": Turn._revoked,
}
_NEEDS_RECORD = ("generated", "published", "active")


def _make(key: Key) -> None:
    """Make a key of the type and for the user of the one that it replaces. Raises ConfigError."""
    old = Path(key.replaces[1])
    kind, bits = read_key(str(old)).type, read_key(str(old)).bits
    status = old.stat()
    octets = genkey.pem(kind, max(bits, genkey.BITS))
    atomic.create(Path(key.keyfile), octets, status.st_mode & 0o777, status.st_uid, status.st_gid)


def _who(key: Key) -> str:
    return ", ".join(key.names)


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _domain(name: str) -> str:
    return name.partition("._domainkey.")[2]


def _tell(findings: list[Finding]) -> None:
    """Say what is wrong, and each mend once."""
    for finding in findings:
        print(finding.what)
    print(*dict.fromkeys(finding.mend for finding in findings), sep="\n")
