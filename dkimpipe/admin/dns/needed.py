"""The records that signatures need: one for each selector and domain, shared by all entries that use it.

A record must fit all of them: tags that would make one of their signatures fail are omitted, with a note.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable

from dkimpipe import publickey
from dkimpipe.admin.dns import compare, record
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.maps.entries import Line
from dkimpipe.admin.maps.entrylint import verdict
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.files import Place


class NeededRecords:
    """The signatures, by the name of the record that they need.

    ``notes``   omissions and their reasons, one line each
    ``errors``  problems that prevent records
    """

    def __init__(self, lines: dict[Line, bool], settings: Settings) -> None:
        """Take entries, each with whether it was requested. The others only show what else uses a record.

        An entry with an error signs no mail, and needs no record.
        """
        self.notes: list[str] = []
        self.errors: list[ConfigError] = []
        self._lines = lines
        self._uses: dict[str, list[Use]] = {}
        self._public = functools.cache(publickey.public)
        self._verdict = functools.cache(lambda line: verdict(line, settings))
        for line, is_requested in lines.items():
            all_uses = [each.use for each in outcomes([line], settings)]
            uses = [use for use in all_uses if isinstance(use, Use)]
            if is_requested:  # problems of other entries are not reported
                found = self._verdict(line)
                uses = found.uses
                self.errors += found.errors
                self.notes += found.never_signed
                if found.errors:
                    continue
                self.notes += [str(use) for use in all_uses if isinstance(use, NotSigned)]
            for use in uses:
                self._uses.setdefault(use.name, []).append(use)

    def records(self, options: argparse.Namespace) -> list[Record]:
        """Return the records of the requested entries, and the policies of their domains."""
        records, domains = [], []
        for name, uses in self._uses.items():
            if not any(self._lines[use.line] for use in uses):
                continue
            try:
                records.append(self._selector_record(name, uses, options))
            except ConfigError as error:
                self.errors.append(error)
            else:
                domains.append(uses[0].options.domain.decode())
        for domain in dict.fromkeys(domains):
            records += self._policies(domain, options)
        return records

    def domains(self) -> list[str]:
        """Return the signing domains of the requested entries."""
        uses = [use for each in self._uses.values() for use in each if self._lines[use.line]]
        return list(dict.fromkeys(use.options.domain.decode() for use in uses))

    def refuse_if_needed(self) -> None:
        """Raise ConfigError if another entry needs a record of the requested ones."""
        for name, uses in self._uses.items():
            others = [use for use in uses if not self._lines[use.line]]
            if others and len(others) < len(uses):
                place = others[0].line.place
                raise ConfigError(f"{name}: {place} also needs this record", "name that entry as well")

    def _selector_record(self, name: str, uses: list[Use], options: argparse.Namespace) -> Record:
        uses = [use for use in uses if not self._verdict(use.line).errors]
        place = uses[0].line.place
        keys = [self._key(use) for use in uses]
        kind, octets = keys[0]
        for use, key in zip(uses, keys):
            if key != keys[0]:
                what = "another key" if key[0] == kind else f"a key for {kind}, and here one for {key[0]},"
                cause = f"{use.line.place}: {name} has {what} in {place}"
                raise ConfigError(cause, "use a separate selector for each key")
        value = publickey.key_record(kind, octets, self._tags(name, uses, options))
        self._note_faults(name, uses, value)
        return Record(name, value)

    def _note_faults(self, name: str, uses: list[Use], value: str) -> None:
        """Note what ``check --dns`` would report as an error, such as --notes that are too long."""
        needs = dict.fromkeys(compare.need_of(use, value) for use in uses)
        found = [fault for each in needs for fault in compare.faults(each, [value.encode()])]
        self.notes += dict.fromkeys(f"{name}: {what}" for what, level in found if level == "error")

    def _key(self, use: Use) -> tuple[str, str]:
        """Return k= and p= for a signature. Raises ConfigError."""
        try:
            return self._public(use.options.keyfile)
        except ConfigError as error:
            raise error.at(use.options.keyfile_place) from None

    def _tags(self, name: str, uses: list[Use], options: argparse.Namespace) -> dict[str, str]:
        """Return the requested tags, except those that would make a signature fail."""
        domainkeys = _first_place(use for use in uses if use.options.type == "domainkeys")
        sha1 = domainkeys or _first_place(use for use in uses if use.options.algorithm == "rsa-sha1")
        below = _first_place(use for use in uses if use.below)
        tags = {**_common_tags(options), "h": options.hash, "s": options.service}
        if options.hash == "sha256" and sha1:
            tags["h"] = "sha1:sha256"
            self.notes.append(f"{name}: h=sha1:sha256, not sha256 alone: {sha1} signs with rsa-sha1")
        if options.strict and (domainkeys or below):
            why = f"{domainkeys} is for DomainKeys" if domainkeys else f"{below} has i= below d="
            self.notes.append(f"{name}: t=s is left out: {why}")
        elif options.strict:
            tags["t"] = "y:s" if options.testing else "s"
        dkim = _first_place(use for use in uses if use.options.type == "dkim")
        if options.granularity and (dkim or not domainkeys):
            why = (
                f"{dkim} is for DKIM, where Mail::DKIM enforces it"
                if domainkeys
                else "nothing signs with DomainKeys"
            )
            self.notes.append(f"{name}: g= is left out: {why}")
        else:
            tags["g"] = options.granularity
        return {tag: value for tag, value in tags.items() if value}

    def _policies(self, domain: str, options: argparse.Namespace) -> list[Record]:
        records = []
        if options.policy:
            tags = {**_common_tags(options), **({"r": options.report[0]} if options.report else {})}
            records.append(Record(record.policy_name(domain), record.policy(options.policy, tags)))
        if options.dmarc:
            addresses = list(dict.fromkeys(options.report))
            records.append(Record(record.dmarc_name(domain), record.dmarc(addresses)))
            for host in dict.fromkeys(address.rpartition("@")[2] for address in addresses):
                if consent := record.consent(domain, host):
                    condition = f"only if {consent.name} publishes {consent.value} (RFC 9990)"
                    self.notes.append(f"{domain}: DMARC reports go to {host} {condition}")
        return records


def _common_tags(options: argparse.Namespace) -> dict[str, str]:
    """Return the tags that key records and DomainKeys policies share."""
    tags = {"t": "y" if options.testing else "", "n": record.notes(options.notes or "")}
    return {tag: value for tag, value in tags.items() if value}


def _first_place(uses: Iterable[Use]) -> Place | None:
    """Return the place of the first one, if there is any."""
    return next((use.line.place for use in uses), None)
