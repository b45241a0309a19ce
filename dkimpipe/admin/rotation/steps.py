"""One run of ``dkimpipe rotate``: each key takes the step that is due, if it is safe now."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable, NamedTuple, TextIO

from dkimpipe import publickey
from dkimpipe.admin import atomic, newkey
from dkimpipe.admin.dns.compare import Need, need_of
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.findings import ERRORS_FOUND, Finding
from dkimpipe.admin.maps import edit, entries
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.admin.maps.entries import Use
from dkimpipe.admin.rotation import state
from dkimpipe.admin.rotation.records import KeyRecords
from dkimpipe.admin.rotation.state import WAITING, Key
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned, Trouble, one_line
from dkimpipe.files import exists, why
from dkimpipe.keys import read_key

_MOST_TRIES = 20  # selectors in one month


class _Use(NamedTuple):
    """The signatures that use a pair.

    ``signatures``  by the name of the record that they need
    ``depends``     reasons for further names, which depend on the sender
    """

    signatures: dict[str, list[Use]]
    depends: set[str]

    @property
    def names(self) -> set[str]:
        """The names of its records."""
        return set(self.signatures)


def _what_signs(settings: Settings) -> dict[Pair | None, _Use]:
    """Return the pairs in the maps; None is for signatures with selector or key from the conf file.

    Raises ConfigError for the first error: an entry that cannot be parsed may sign as well.
    """
    maps = entries.maps(settings)
    uses: dict[Pair | None, _Use] = {}
    for line, signature, use in entries.every_signature(entries.lines(settings), settings):
        if isinstance(use, ConfigError):
            raise use
        pair = edit.pair(signature) if signature and line.path in maps else None
        found = uses.setdefault(pair, _Use({}, set()))
        if isinstance(use, NotSigned):
            found.depends.add(str(use))
        else:
            found.signatures.setdefault(use.name, []).append(use)
    return uses


class Turn:
    """One run over all keys. The state is saved after each step, so that a kill loses nothing."""

    def __init__(self, options: argparse.Namespace, settings: Settings, now: int) -> None:
        self._options = options
        self._settings = settings
        self._maps = list(entries.maps(settings))
        self._signing = _what_signs(settings)
        self._now = now
        self._keys = state.load(options.directory, self._maps)
        self._records = KeyRecords(options)
        self._told: set[str] = set()
        self._domains = set(map(newkey.to_domain, options.domains))

    def all_keys(self) -> int:
        """Take all steps that are due, independently for each key; return the exit status."""
        if not any(self._signing) and any(key.state == "active" for key in self._keys):
            raise ConfigError(
                f"{', '.join(self._maps)}: all signatures are gone",
                f"if this is intended: rm {self._options.directory / state.NAME}",
            )
        self._notice_what_signs()
        for domain in self._domains - {_domain(name) for key in self._keys for name in key.names}:
            raise ConfigError(f"{', '.join(self._maps)}: no signature for {domain} that can be rotated")
        self._save()
        if self._options.dry_run:
            self._tell_states()
        for key in filter(self._is_due, list(self._keys)):
            self._take(self._begin, key)
        for key in filter(self._is_asked_for, list(self._keys)):
            self._take(_STEPS[key.state], self, key)
        return ERRORS_FOUND if self._told else 0

    def _tell_states(self) -> None:
        for key in filter(self._is_asked_for, self._keys):
            print(f"{key.state:<10} since {_day(key.since)}: {_who(key)}, {key.keyfile}")
        for reason in sorted(reason for use in self._signing.values() for reason in use.depends):
            print(f"never       {reason}")

    def _take(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Trouble as trouble:
            self._report([Finding(str(trouble), trouble.hint)])
        except OSError as error:
            self._report([Finding(f"{error.filename}: {why(error)}")])
        self._save()

    def _report(self, findings: list[Finding]) -> None:
        new = [finding for finding in findings if finding.what not in self._told]
        _tell([Finding(f"dkimpipe: {what}", hint) for what, hint, _ in new], sys.stderr)
        self._told.update(finding.what for finding in new)

    def _save(self) -> None:
        if not self._options.dry_run:
            state.save(self._options.directory, self._keys, self._maps)

    def _notice_what_signs(self) -> None:
        """Update the states from the senders file, which may have been edited, and from the clock."""
        for key in self._keys:
            use = self._signing.get(key.pair)
            if key.since > self._now:
                print(f"{_who(key)}: {key.state} since {_day(key.since)}, in the future; reset to now")
                key.become("generated" if key.state == "published" else key.state, self._now)
            if key.switching:  # a run was killed during this step, which continues
                continue
            if use and key.state != "active":
                print(f"{_who(key)}: signs {'now' if key.state in WAITING else 'again'}")
                key.become("active", self._now)
            elif not use and key.state == "active":
                until = _day(self._now + self._options.keep)
                print(f"{_who(key)}: no longer signs; its records are kept until {until}")
                key.become("retiring", self._now)
            elif key.state in WAITING and Pair(*key.replaces) not in self._signing:
                key.become("retiring", self._now)
            key.names = sorted(use.names) or key.names if use else key.names
        known = {key.pair for key in self._keys}
        for pair, use in self._signing.items():
            if pair and use.names and pair not in known:
                self._keys.append(Key(*pair, sorted(use.names), "active", self._made(pair.keyfile)))

    def _made(self, path: str) -> int:
        """Return when a key file was created, or the current time if that is unknown."""
        try:
            return min(self._now, int(Path(path).stat().st_mtime))
        except OSError:
            return self._now

    def _is_asked_for(self, key: Key) -> bool:
        domains = set(map(_domain, key.names))
        return not self._domains or bool(self._domains & domains)

    def _is_due(self, key: Key) -> bool:
        if key.state != "active":
            return False
        of_age = self._options.now or self._now - key.since >= self._options.age
        is_succeeded = any(new.replaces == list(key.pair) for new in self._keys if new.state in WAITING)
        depends = self._signing[key.pair].depends
        return bool(of_age) and not is_succeeded and not depends and self._is_asked_for(key)

    def _begin(self, old: Key) -> None:
        """Choose selector and file of the new key. They are saved before it exists, in case of a kill."""
        directory = Path(old.keyfile).parent
        taken = {name for key in self._keys for name in key.names}
        for selector in self._selectors(read_key(old.keyfile).type):
            path = newkey.key_path(directory, _domain(old.names[0]), selector)
            names = [publickey.record_name(selector, _domain(name)) for name in old.names]
            if taken.intersection(names) or exists(str(path)) or not self._records.are_free(names):
                continue
            wait = self._records.wait(names, old.names)
            new = Key(selector, str(path), names, "generated", self._now, "", wait, list(old.pair))
            self._keys.append(new)
            return
        raise ConfigError(f"{names[0]}: a key already exists", "check for a wildcard record in the zone")

    def _selectors(self, kind: str) -> Iterator[str]:
        month = time.strftime("%Y%m", time.gmtime(self._now))
        yield month
        yield month + kind[0]
        yield from (f"{month}{kind[0]}{number}" for number in range(2, _MOST_TRIES))

    def _generated(self, key: Key) -> None:
        """Create the key if necessary; publish its records, or check them."""
        if not key.value and not exists(key.keyfile):
            if not self._options.dry_run:
                _make(key)
            print(f"{_who(key)}: a new key, {key.keyfile}")
            if self._options.dry_run:
                return
        if self._is_lost(key):
            self._give_up(key)
            return
        if not self._options.dry_run:
            atomic.tidy(Path(key.keyfile))
        key.value = publickey.record_value(key.keyfile)
        self._sign_for_all(key)
        faults = self._records.faults(self._needs(key))
        if faults:
            _tell(faults)
        else:
            print(f"{_who(key)}: published; it will sign from {_day(self._now + key.wait)}")
            key.become("published", self._now)

    def _published(self, key: Key) -> None:
        """Make the key sign, if its records have been visible for long enough."""
        if self._is_lost(key):
            self._give_up(key)
            return
        if self._sign_for_all(key):
            self._generated(key)
            return
        faults = self._records.faults(self._needs(key))
        if faults:
            _tell(faults)
            key.become("generated", self._now)
        elif key.switching or self._now - key.since > key.wait:
            self._switch(key)

    def _needs(self, key: Key) -> dict[str, list[Need]]:
        """Return the requirements for each record of a key, from all signatures that use it, or will."""
        needs: dict[str, list[Need]] = {name: [] for name in key.names}
        for pair in (Pair(*key.replaces), key.pair) if key.state in WAITING else (key.pair,):
            signatures = self._signing[pair].signatures if pair in self._signing else {}
            for old_name, uses in signatures.items():
                name = publickey.record_name(key.selector, _domain(old_name))
                needs.setdefault(name, []).extend(need_of(use, key.value) for use in uses)
        return {name: needs[name] or [Need(key.value)] for name in key.names}

    def _is_lost(self, key: Key) -> bool:
        """Return whether a key is no longer in its file. Raises ConfigError if that cannot be read."""
        return bool(key.value) and not (
            exists(key.keyfile) and publickey.record_value(key.keyfile) == key.value
        )

    def _give_up(self, key: Key) -> None:
        print(f"{_who(key)}: given up: its key is no longer in {key.keyfile}")
        key.become("retiring", self._now)

    def _sign_for_all(self, key: Key) -> bool:
        """Give a waiting key records wherever the old one signs; return whether there are new names.

        Raises ConfigError if DNS does not show for how long their absence may be cached.
        """
        uses = [self._signing[pair] for pair in (Pair(*key.replaces), key.pair) if pair in self._signing]
        domains = {_domain(name) for use in uses for name in use.names}
        names = sorted(publickey.record_name(key.selector, domain) for domain in domains) or key.names
        more = [name for name in names if name not in key.names]
        if more:
            old = [publickey.record_name(key.replaces[0], _domain(name)) for name in more]
            key.wait = max(key.wait, self._records.wait(more, old))
            print(f"{', '.join(more)}: the key s={key.selector} will also sign for this")
            key.become("generated", self._now)
        key.names = names
        return bool(more)

    def _switch(self, key: Key) -> None:
        """Put a key into the maps, which are read again: they may have been edited in the meantime."""
        old = Pair(*key.replaces)
        before = {path: Path(path).read_bytes() for path in self._maps}
        use = _what_signs(self._settings).get(old, _Use({}, set()))
        for reason in sorted(use.depends):
            hint = "give it a d=, or a separate selector and key"
            raise ConfigError(f"{_who(key)}: cannot replace s={old.selector}: {reason}", hint)
        if not {publickey.record_name(key.selector, _domain(name)) for name in use.names} <= set(key.names):
            raise ConfigError(f"{', '.join(self._maps)}: changed in the meantime", "try again")
        if not self._options.dry_run:
            key.switching = True
            self._save()
            for path, octets in before.items():
                edit.replace(path, octets, old, key.pair)
        print(f"{_who(key)}: signs from now on, replacing s={old.selector}")
        key.become("active", self._now)
        for other in self._keys:
            if other.pair == old:
                other.become("retiring", self._now)

    def _active(self, key: Key) -> None:
        """Save the value of the records, which outlive the key file. Report incorrect records."""
        key.value = publickey.record_value(key.keyfile)
        self._report(self._records.faults(self._needs(key)))

    def _retiring(self, key: Key) -> None:
        """Withdraw the records, once no mail in transit needs them."""
        if self._now - key.since < self._options.keep:
            return
        needed = {name for other in self._keys if other.state in _NEEDS_RECORD for name in other.names}
        needed.update(*(use.names for use in self._signing.values()))
        names = [name for name in key.names if name not in needed]
        there = self._records.there(names, key.value)
        if there and self._options.publish:
            for name in there:
                self._records.withdraw(Record(name, key.value))
            there = self._records.there(there, key.value)
        for name in there:
            print(f"{name}: delete this record from DNS: its key no longer signs")
        if not there:
            print(f"{_who(key)}: revoked{self._use_of_file(key)}")
            key.become("revoked", self._now)

    def _use_of_file(self, key: Key) -> str:
        """Return a note that the key file can be removed, if nothing else uses it."""
        used = {pair.keyfile for pair in self._signing if pair} | {self._settings.get("keyfile")}
        if key.keyfile in used or not exists(key.keyfile) or self._is_lost(key):
            return ""
        return f"; its file is no longer needed: rm {key.keyfile}"

    def _revoked(self, key: Key) -> None:
        """Forget the key, if its file is gone."""
        if not exists(key.keyfile):
            self._keys.remove(key)


_STEPS = {
    "generated": Turn._generated,
    "published": Turn._published,
    "active": Turn._active,
    "retiring": Turn._retiring,
    "revoked": Turn._revoked,
}
_NEEDS_RECORD = (*WAITING, "active")


def _make(key: Key) -> None:
    """Create a key with the type and owner of the one that it replaces. Raises ConfigError, OSError."""
    old = Path(key.replaces[1])
    kind, bits = read_key(str(old)).type, read_key(str(old)).bits
    status = old.stat()
    octets = newkey.pem(kind, max(bits, newkey.BITS))
    atomic.create(Path(key.keyfile), octets, status.st_mode & 0o777, status.st_uid, status.st_gid)


def _who(key: Key) -> str:
    return ", ".join(key.names)


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _domain(name: str) -> str:
    return name.partition("._domainkey.")[2]


def _tell(findings: Iterable[Finding], out: TextIO | None = None) -> None:
    """Print the findings, and each hint once."""
    hints = dict.fromkeys(finding.hint for finding in findings if finding.hint)
    for line in (*(finding.what for finding in findings), *hints):
        print(one_line(line), file=out)
