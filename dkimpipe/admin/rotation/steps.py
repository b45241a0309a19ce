"""One run of ``dkimpipe rotate``: take the step that is due for each key, if it is safe now."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Callable, TextIO

from dkimpipe import publickey
from dkimpipe.admin import atomic, newkey
from dkimpipe.admin.dns import alias, mangled
from dkimpipe.admin.dns.compare import Need, need_of
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.findings import ERRORS_FOUND, Finding, hint_lines
from dkimpipe.admin.maps import configured, edit
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.admin.maps.entrylint import verdict
from dkimpipe.admin.postfix import known_settings
from dkimpipe.admin.reports.own import own_addresses
from dkimpipe.admin.rotation import selectors, state, trial
from dkimpipe.admin.rotation.records import KeyRecords, errors
from dkimpipe.admin.rotation.selectors import NoneFree
from dkimpipe.admin.rotation.selectors import domain_of as _domain
from dkimpipe.admin.rotation.selectors import timestamp as _timestamp
from dkimpipe.admin.rotation.state import WAITING, Key
from dkimpipe.admin.rotation.trial import Outcome
from dkimpipe.admin.rotation.uses import Uses, signing_pairs
from dkimpipe.config import CONF_FILE, Settings
from dkimpipe.errors import ConfigError, Trouble, one_line
from dkimpipe.files import exists, why
from dkimpipe.keys import read_key


class Run:
    """One run over all keys. The state is saved after each step, so that nothing is lost if it is killed."""

    def __init__(self, options: argparse.Namespace, settings: Settings, now: int) -> None:
        self._options = options
        self._settings = settings
        self._maps = list(configured.named_maps(settings))
        self._files = configured.files(settings)
        self._signing = signing_pairs(settings)
        self._now = now
        self._keys = state.load(options.directory, self._maps)
        self._records = KeyRecords(options)
        self._reported: set[str] = set()
        self._domains = set(map(newkey.to_domain, options.domains))

    def take_due_steps(self) -> int:
        """Take all steps that are due, independently for each key; return the exit status."""
        signing = any(pair or use.varying for pair, use in self._signing.items())
        if not signing and any(key.state == "active" for key in self._keys):
            raise ConfigError(
                f"{self._files}: all signatures are gone",
                f"if this is intended: rm {self._options.directory / state.NAME}",
            )
        self._update_states()
        for domain in self._domains - {_domain(name) for key in self._keys for name in key.names}:
            reasons = self._signing[None].varying if None in self._signing else []
            raise ConfigError(
                f"{self._files}: no signature for {domain} that can be rotated",
                "\n".join(sorted(reasons)),
            )
        self._save()
        if self._options.dry_run:
            self._print_states()
        for key in filter(self._is_due, list(self._keys)):
            self._take(self._choose_new_key, key)
        for key in filter(self._is_selected, list(self._keys)):
            self._take(_STEPS[key.state], self, key)
        return ERRORS_FOUND if self._reported else 0

    def _print_states(self) -> None:
        for key in filter(self._is_selected, self._keys):
            final = ", on trial" if key.trial else ""
            print(f"{key.state:<10} since {_timestamp(key.since)}: {_names(key)}, {key.keyfile}{final}")
        for reason in sorted(reason for use in self._signing.values() for reason in use.varying):
            print(f"never       {reason}")

    def _take(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Trouble as trouble:
            self._report_errors([Finding(str(trouble), trouble.hint)])
        except OSError as error:
            self._report_errors([Finding(f"{error.filename}: {why(error)}")])
        self._save()

    def _report_errors(self, findings: list[Finding]) -> None:
        new = [finding for finding in findings if finding.what not in self._reported]
        _print([Finding(f"dkimpipe: {what}", hint) for what, hint, _ in new], sys.stderr)
        self._reported.update(finding.what for finding in new)

    def _save(self) -> None:
        if not self._options.dry_run:
            state.save(self._options.directory, self._keys, self._maps)

    def _update_states(self) -> None:
        """Update the states from the senders file, which may have been edited, and from the clock."""
        for key in self._keys:
            use = self._signing.get(key.pair)
            if key.since > self._now:
                print(
                    f"{_names(key)}: {key.state} since {_timestamp(key.since)}, in the future; reset to now"
                )
                key.enter("generated" if key.state == "published" else key.state, self._now)
            if key.switching:  # a run was killed during this step, which is resumed
                continue
            if use and key.state != "active":
                print(f"{_names(key)}: signs {'now' if key.state in WAITING else 'again'}")
                key.enter("active", self._now)
            elif not use and key.state == "active":
                until = _timestamp(self._now + self._options.keep)
                print(f"{_names(key)}: no longer signs; its records are kept until {until}")
                key.enter("retiring", self._now)
            elif key.state in WAITING and Pair(*key.replaces) not in self._signing:
                key.enter("retiring", self._now)
            key.names = sorted(use.names) or key.names if use else key.names
            if key.state == "active":
                key.zone = key.zone or alias.zone_of(key.selector, self._options)
        known = {key.pair for key in self._keys}
        for pair, use in self._signing.items():
            if pair and use.names and pair not in known:
                zone = alias.zone_of(pair.selector, self._options)
                since = self._created(pair.keyfile)
                self._keys.append(Key(*pair, sorted(use.names), "active", since, zone=zone))

    def _created(self, path: str) -> int:
        """Return when a key file was created, or the current time if that is unknown."""
        try:
            return min(self._now, int(Path(path).stat().st_mtime))
        except OSError:
            return self._now

    def _is_selected(self, key: Key) -> bool:
        domains = set(map(_domain, key.names))
        return not self._domains or bool(self._domains & domains)

    def _is_due(self, key: Key) -> bool:
        if key.state != "active":
            return False
        is_old = self._options.now or self._now - key.since >= self._options.age
        has_successor = any(new.replaces == list(key.pair) for new in self._keys if new.state in WAITING)
        varying = self._signing[key.pair].varying
        return bool(is_old) and not has_successor and not varying and self._is_selected(key)

    def _choose_new_key(self, old: Key) -> None:
        """Choose the selector and file of the new key. They are saved before it exists, in case of a kill."""
        self._refuse_wrong_entries(old.pair)
        options = self._options
        try:
            if options.selectors:
                new = selectors.new_fixed_key(
                    old, self._keys, self._records, options.selectors, options.zone, self._now
                )
            else:
                kind = read_key(old.keyfile).type
                new = selectors.new_key(old, self._keys, self._records, kind, self._now)
        except NoneFree as reason:
            if options.now or options.dry_run:
                print(reason)
        else:
            self._keys.append(new)

    def _refuse_wrong_entries(self, pair: Pair) -> None:
        """Raise ConfigError if an entry that uses a key has an error: it signs no mail."""
        signatures = self._signing[pair].signatures if pair in self._signing else {}
        for line in dict.fromkeys(use.line for uses in signatures.values() for use in uses):
            for error in verdict(line, self._settings).errors:
                raise error

    def _generated(self, key: Key) -> None:
        """Create the key if necessary; publish its records, or check them. Raises ConfigError."""
        self._refuse_wrong_entries(Pair(*key.replaces))
        if not key.value and not exists(key.keyfile):
            if not self._options.dry_run:
                _create(key)
            print(f"{_names(key)}: a new key, {key.keyfile}")
            if self._options.dry_run:
                return
        if self._is_file_lost(key):
            self._abandon(key)
            return
        if not self._options.dry_run:
            atomic.remove_temporary(Path(key.keyfile))
        key.value = publickey.record_value(key.keyfile)
        self._cover_all_domains(key)
        faults = self._records.publish(self._needs(key), key.zone)
        if faults:
            _print([_with_hint_if_lost(key, each) for each in faults])
            key.wait = max(key.wait, self._records.longest_ttl(key.names, key.zone))
        else:
            print(f"{_names(key)}: published; it will sign from {_timestamp(self._now + key.wait)}")
            key.enter("published", self._now)

    def _published(self, key: Key) -> None:
        """Start signing with the key if its records have been visible for long enough."""
        if self._is_file_lost(key):
            self._abandon(key)
            return
        if self._cover_all_domains(key):
            self._generated(key)
        elif self._records.faults(self._needs(key), key.zone):
            # Resolvers may have seen the fault: the wait begins again.
            key.wait = max(key.wait, self._records.longest_ttl(key.names, key.zone))
            key.enter("generated", self._now)
            self._generated(key)
        elif key.switching or self._now - key.since > key.wait:
            self._switch(key)

    def _needs(self, key: Key) -> dict[str, list[Need]]:
        """Return the requirements for each record of a key, from all signatures that use or will use it."""
        needs: dict[str, list[Need]] = {name: [] for name in key.names}
        for pair in (Pair(*key.replaces), key.pair) if key.state in WAITING else (key.pair,):
            signatures = self._signing[pair].signatures if pair in self._signing else {}
            for old_name, uses in signatures.items():
                name = publickey.record_name(key.selector, _domain(old_name))
                needs.setdefault(name, []).extend(need_of(use, key.value) for use in uses)
        return {name: needs[name] or [Need(key.value)] for name in key.names}

    def _is_file_lost(self, key: Key) -> bool:
        """Return whether a key is no longer in its file. Raises ConfigError if the file cannot be read."""
        return bool(key.value) and not (
            exists(key.keyfile) and publickey.record_value(key.keyfile) == key.value
        )

    def _abandon(self, key: Key) -> None:
        print(f"{_names(key)}: given up: its key is no longer in {key.keyfile}")
        key.enter("retiring", self._now)

    def _cover_all_domains(self, key: Key) -> bool:
        """Give a key records for every domain that the old one signs for; return whether any were added.

        Raises ConfigError if DNS does not show how long their absence may be cached.
        """
        uses = [self._signing[pair] for pair in (Pair(*key.replaces), key.pair) if pair in self._signing]
        domains = {_domain(name) for use in uses for name in use.names}
        names = sorted(publickey.record_name(key.selector, domain) for domain in domains) or key.names
        more = [name for name in names if name not in key.names]
        if more:
            old = [publickey.record_name(key.replaces[0], _domain(name)) for name in more]
            key.wait = max(key.wait, self._records.cache_time(more, old, key.zone))
            print(f"{', '.join(more)}: the key s={key.selector} will also sign for this")
            key.enter("generated", self._now)
        key.names = names
        return bool(more)

    def _switch(self, key: Key) -> None:
        """Start signing with a key; with ``--reports`` it is on trial."""
        old = Pair(*key.replaces)
        self._replace(old, key)
        key.enter("active", self._now)
        key.trial = self._options.reports
        final = "; it is final once receivers report valid signatures" if key.trial else ""
        print(f"{_names(key)}: signs from now on, replacing s={old.selector}{final}")
        for other in self._keys:
            if other.pair == old:
                other.enter("retiring", self._now)

    def _replace(self, old: Pair, key: Key) -> None:
        """Put a key into the maps, which are read again in case they were edited in the meantime."""
        before = {path: Path(path).read_bytes() for path in configured.maps(self._settings)}
        use = signing_pairs(self._settings).get(old, Uses({}, set()))
        for reason in sorted(use.varying):
            hint = "give it a d=, or a separate selector and key"
            raise ConfigError(f"{_names(key)}: cannot replace s={old.selector}: {reason}", hint)
        if not {publickey.record_name(key.selector, _domain(name)) for name in use.names} <= set(key.names):
            raise ConfigError(f"{self._files}: changed in the meantime", "try again")
        if not self._options.dry_run:
            key.switching = key.state in WAITING
            self._save()
            for path, octets in before.items():
                edit.replace(path, octets, old, key.pair)

    def _active(self, key: Key) -> None:
        """Save the value of the records, which outlive the key file, and report incorrect records."""
        key.value = publickey.record_value(key.keyfile)
        self._report_errors(errors(self._records.publish(self._needs(key), key.zone)))
        if key.trial and self._options.reports:
            self._judge(key, trial.outcome(self._options.database, key, own_addresses(self._options.own)))

    def _judge(self, key: Key, found: Outcome) -> None:
        """End the trial of a key if receivers report valid signatures, or if none reports anything."""
        if found.invalid:
            back = f"to return to s={key.replaces[0]}: --auto-back"
            few = f"--auto-back waits for {trial.ENOUGH} failed messages, and more than 5% of all"
            more = few if self._options.auto_back else back
            if self._options.auto_back and found.is_enough:
                more = ""
            what = f"{_names(key)}: signatures reported as invalid by {', '.join(found.invalid)}"
            self._report_errors([Finding(what, f"dkimpipe check --dns\n{more}".rstrip())])
            if self._options.auto_back and found.is_enough:
                self._switch_back(key)
        elif found.valid >= set(key.names):
            print(f"{_names(key)}: final: signatures reported as valid by {', '.join(found.by)}")
            key.trial = False
        elif self._now - key.since >= self._options.reports_within:
            _print(trial.final_without_reports(key, found))
            key.trial = False

    def _switch_back(self, key: Key) -> None:
        """Sign with the key before again, if its records are still in DNS. Raises ConfigError.

        A killed run needs no note: the next one sees which key signs in which map, and the same reports.
        """
        selector, keyfile = key.replaces
        old = next((each for each in self._keys if each.pair == (selector, keyfile)), None)
        if old is None or old.state == "revoked" or not exists(keyfile) or self._is_file_lost(old):
            raise ConfigError(f"{_names(key)}: cannot return to s={selector}: its key or record is gone")
        value = publickey.record_value(keyfile)
        needs = {
            publickey.record_name(selector, _domain(name)): [need_of(use, value) for use in uses]
            for name, uses in self._signing[key.pair].signatures.items()
        }
        for error in errors(self._records.faults(needs, old.zone)):
            raise ConfigError(f"{_names(key)}: cannot return to s={selector}: {error.what}", error.hint)
        old.names = sorted({*old.names, *needs})
        self._replace(key.pair, old)
        key.enter("retiring", self._now)
        old.enter("active", self._now)
        print(f"{_names(old)}: signs again, replacing s={key.selector}")

    def _retiring(self, key: Key) -> None:
        """Withdraw the records once no mail in transit needs them."""
        if self._now - key.since < self._options.keep or self._may_return(key) or self._signs_elsewhere(key):
            return
        names = [name for name in key.names if not self._is_needed(name, key)]
        if key.zone:  # another key will get these names
            key.wait = max(key.wait, self._records.cache_time_of_targets(names, key.zone))
            self._save()  # a killed run would not know how long the record that it deletes was cached
        remaining = self._records.with_key(names, key.value, key.zone)
        if remaining and self._options.publish:
            for place in remaining:
                self._records.withdraw(Record(place, key.value), key.zone)
            remaining = self._records.with_key(names, key.value, key.zone)
        for name in remaining:
            print(f"{name}: delete this record from DNS: its key no longer signs")
        if not remaining:
            print(f"{_names(key)}: revoked{self._note_on_file(key)}")
            key.enter("revoked", self._now)

    def _may_return(self, key: Key) -> bool:
        """Return whether the key that replaced this one is on trial."""
        return self._options.reports and any(
            new.trial and new.state == "active" and new.replaces == list(key.pair) for new in self._keys
        )

    def _signs_elsewhere(self, key: Key) -> bool:
        """Return whether another filter of this machine signs with a key that the maps no longer use.

        Raises Trouble if that is unknown.
        """
        keyfiles, records = self._needed_elsewhere
        return os.path.realpath(key.keyfile) in keyfiles or not records.isdisjoint(map(str.lower, key.names))

    @functools.cached_property
    def _needed_elsewhere(self) -> known_settings.Needed:
        own = [*configured.maps(self._settings), self._settings.get("conf_file", CONF_FILE)]
        return known_settings.needed(frozenset(map(os.path.realpath, own)))

    def _is_needed(self, name: str, key: Key) -> bool:
        """Return whether anything else needs the record of a key at this name.

        A key that waits for a fixed selector needs another record there.
        """
        others = [other for other in self._keys if other.state in WAITING and name in other.names]
        active = [other for other in self._keys if other.state == "active" and name in other.names]
        signing = any(name in use.names for use in self._signing.values())
        return signing or bool(active) or any(other.value == key.value for other in others)

    def _note_on_file(self, key: Key) -> str:
        """Return a note that the key file can be removed; empty if something else uses it."""
        used = {pair.keyfile for pair in self._signing if pair} | {self._settings.get("keyfile")}
        if key.keyfile in used or not exists(key.keyfile) or self._is_file_lost(key):
            return ""
        return f"; its file is no longer needed: rm {key.keyfile}"

    def _revoked(self, key: Key) -> None:
        """Forget the key if its file is gone, and no resolver can have its record in the cache."""
        if not exists(key.keyfile) and self._now - key.since > key.wait:
            self._keys.remove(key)


_STEPS = {
    "generated": Run._generated,
    "published": Run._published,
    "active": Run._active,
    "retiring": Run._retiring,
    "revoked": Run._revoked,
}


def _create(key: Key) -> None:
    """Create a key with the type and owner of the one that it replaces. Raises ConfigError, OSError."""
    old = Path(key.replaces[1])
    kind, bits = read_key(str(old)).type, read_key(str(old)).bits
    status = old.stat()
    octets = newkey.new_key(kind, max(bits, newkey.BITS))
    atomic.create(Path(key.keyfile), octets, status.st_mode & 0o777, status.st_uid, status.st_gid)


def _with_hint_if_lost(key: Key, finding: Finding) -> Finding:
    """Return a finding with another hint if it says that the private key was published."""
    if not mangled.is_exposed(finding.what):
        return finding
    return finding._replace(hint=f"# the next runs choose another key:\nrm {shlex.quote(key.keyfile)}")


def _names(key: Key) -> str:
    return ", ".join(key.names)


def _print(findings: Iterable[Finding], out: TextIO | None = None) -> None:
    """Print the findings, then each hint once."""
    hints = dict.fromkeys(line for finding in findings for line in hint_lines(finding.script))
    for line in (*(one_line(finding.what) for finding in findings), *hints):
        print(line, file=out)
