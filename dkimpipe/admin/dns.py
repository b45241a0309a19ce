"""``dkimpipe dns``: the records that the signatures need, computed from their keys, shown or published.

One record a selector and domain, however many entries name it. It is fitted to all of them: what would make
a signature of one of them fail is not written, and stderr says why.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterable, Sequence
from typing import Callable

from dkimpipe.address import first_mailbox, is_at_or_below, is_domain
from dkimpipe.admin import filter_files, mapfile, publish, record, recordfaults, zone
from dkimpipe.admin.findings import ERRORS_FOUND, error_lines
from dkimpipe.admin.mapfile import Line, Use
from dkimpipe.admin.record import Record
from dkimpipe.config import Settings, read_settings
from dkimpipe.dkim import KEY_TYPES
from dkimpipe.errors import ConfigError, NotSigned, Trouble, one_line

_LOCAL_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/?^_`{|}~.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    words = "keys of the maps, or domains of the conf file; all of them if none is given"
    parser.add_argument("keys", nargs="*", metavar="ADDRESS-OR-DOMAIN", help=words)
    add = parser.add_argument
    filter_files.add_arguments(parser)
    add("--format", choices=zone.FORMATS, default="bind", help="(%(default)s)")
    add("--ttl", type=publish.ttl, default=publish.TTL, metavar="SECONDS", help="time to live (%(default)s)")
    add("--relative", type=publish.domain, metavar="ORIGIN", help="bind: names relative to this zone")
    _add_tags(parser.add_argument_group("what stands in the records"))
    _add_update(parser.add_argument_group("dynamic update"))


def _add_tags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--hash", choices=("sha256", "sha1:sha256"), help="h=: no other hash is good")
    add("--service", choices=("email", "*"), help="s=: the key is for this service")
    add("--testing", action="store_true", help="t=y: verifiers are to mind no failure")
    add("--strict", action="store_true", help="t=s: i= never is in a subdomain of d=")
    add("--granularity", type=_local_part, metavar="LOCAL-PART", help="g=, DomainKeys: for this address only")
    add("--notes", metavar="TEXT", help="n=: for people")
    add("--policy", choices=("~", "-", "!", "."), help="the DomainKeys policy of each domain, too")
    add("--dmarc", action="store_true", help="a first DMARC policy of each domain, too")
    add("--report", type=_address, metavar="ADDRESS", help="where --policy and --dmarc want reports")


def _add_update(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--publish", action="store_true", help="put the records into DNS (RFC 2136)")
    add("--delete", action="store_true", help="take them out of it")
    add("--replace", action="store_true", help="even if the name holds another TXT record")
    publish.add_arguments(group)


def run(options: argparse.Namespace) -> int:
    """Print or publish the records; return 0, or 78 if some could not be made. Raises ConfigError."""
    _check_combination(options)
    settings = read_settings(filter_files.arguments(options))
    needed = Needed(mapfile.asked_for(settings, options.keys), settings)
    records = needed.records(options)
    for note in needed.notes:
        print(f"dkimpipe: {one_line(note)}", file=sys.stderr)
    for error in needed.errors:
        print(*error_lines(error), sep="\n", file=sys.stderr)
    if not records and not needed.errors:
        raise ConfigError(f"{mapfile.files(settings)}: no record to make")
    if options.publish or options.delete:
        if needed.errors:
            raise ConfigError("nothing is changed in DNS", "mend this, or name the entries that are good")
        if options.delete:
            needed.refuse_if_needed()
        _update(records, options)
    else:
        _show(records, options)
    return ERRORS_FOUND if needed.errors else 0


def _check_combination(options: argparse.Namespace) -> None:
    """End with a usage error if an option is without the one that it belongs to."""
    updates = options.publish or options.delete
    for wrong, words in (
        (options.publish and options.delete, "--publish or --delete, not both"),
        (updates and not (options.server and options.tsig), "an update needs --server and --tsig"),
        (not updates and (options.server or options.tsig or options.zone), "no --publish or --delete"),
        (not updates and options.replace, "--replace goes with --publish or --delete"),
        (options.delete and not options.keys, "--delete takes the entries whose records are to go"),
        (options.report and not (options.policy or options.dmarc), "--report goes with --policy or --dmarc"),
        (options.relative and options.format != "bind", "--relative goes with --format bind"),
    ):
        if wrong:
            options.fail(words)


def _show(records: Sequence[Record], options: argparse.Namespace) -> None:
    form: Callable[[Sequence[Record], int], str] = zone.FORMATS[options.format]
    if options.relative:
        form = functools.partial(zone.bind, origin=options.relative)
    print(form(records, options.ttl), end="")


def _update(records: Sequence[Record], options: argparse.Namespace) -> None:
    server = publish.server(options)
    if options.delete:
        publish.delete(server, records, options.zone or "", options.replace)
    else:
        publish.publish(server, records, options.ttl, options.zone or "", options.replace)


class Needed:
    """The signatures by the name of the record that they need.

    ``notes``   what is left out, and why, a line each
    ``errors``  what keeps records from being made
    """

    def __init__(self, lines: dict[Line, bool], settings: Settings) -> None:
        """Take entries, each with whether it is asked for: the others only tell what else a record serves."""
        self.notes: list[str] = []
        self.errors: list[Trouble] = []
        self._lines = lines
        self._uses: dict[str, list[Use]] = {}
        self._public = functools.cache(record.public)
        for line, _, use in mapfile.every_signature(lines, settings):
            if isinstance(use, Use):
                self._uses.setdefault(use.name, []).append(use)
            elif lines[line]:  # what is wrong with one that nobody asks for is not told
                self._tell(use)

    def records(self, options: argparse.Namespace) -> list[Record]:
        """Return the records of the entries that are asked for, and the policies of their domains."""
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

    def refuse_if_needed(self) -> None:
        """Raise ConfigError if an entry that is not asked for signs with a record of one that is."""
        for name, uses in self._uses.items():
            others = [use for use in uses if not self._lines[use.line]]
            if others and len(others) < len(uses):
                place = others[0].line.place()
                raise ConfigError(f"{name}: {place} needs this record, too", "name that entry as well")

    def _tell(self, reason: Trouble | NotSigned) -> None:
        if isinstance(reason, NotSigned):
            self.notes.append(str(reason))
        else:
            self.errors.append(reason)

    def _selector_record(self, name: str, uses: list[Use], options: argparse.Namespace) -> Record:
        place = uses[0].line.place()
        if not is_domain(name.encode()):
            raise ConfigError(f"{place}: {name} is too long for DNS", "choose a shorter selector")
        keys = [self._key(use) for use in uses]
        kind, octets = keys[0]
        for use, key in zip(uses, keys):
            if key != keys[0]:
                what = "another key" if key[0] == kind else f"a key for {kind}, and here one for {key[0]},"
                cause = f"{use.line.place()}: {name} has {what} in {place}"
                raise ConfigError(cause, "give each key a selector of its own")
        value = record.key_record(kind, octets, self._tags(name, uses, options))
        self._note_faults(name, uses, value)
        return Record(name, value)

    def _note_faults(self, name: str, uses: list[Use], value: str) -> None:
        """Say what ``check --dns`` would call an error, such as --notes that are too long for a verifier."""
        needs = dict.fromkeys(recordfaults.need_of(use, value) for use in uses)
        found = [fault for each in needs for fault in recordfaults.faults(each, [value.encode()])]
        self.notes += dict.fromkeys(f"{name}: {what}" for what, level in found if level == "error")

    def _key(self, use: Use) -> tuple[str, str]:
        """Return k= and p= for a signature. Raises ConfigError, also if its algorithm is for another type."""
        options = use.options
        try:
            kind, octets = self._public(options.keyfile)
        except ConfigError as error:
            raise type(error)(f"{options.keyfile_where()}: {error}", error.mend) from None
        algorithm = "rsa-sha1" if options.type == "domainkeys" else options.algorithm
        if algorithm and KEY_TYPES[algorithm] != kind:
            what = f"{options.type} with {algorithm}, but key file {options.keyfile} is for {kind}"
            raise ConfigError(f"{use.line.place()}: {what}")
        return kind, octets

    def _tags(self, name: str, uses: list[Use], options: argparse.Namespace) -> dict[str, str]:
        """Return the tags that are wished, less those that would make a signature fail."""
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
            tags = {**_common_tags(options), **({"r": options.report} if options.report else {})}
            records.append(Record(record.policy_name(domain), record.policy(options.policy, tags)))
        if options.dmarc:
            records.append(Record(record.dmarc_name(domain), record.dmarc(options.report or "")))
            host = (options.report or domain).rpartition("@")[2]
            if not _related(host.encode(), domain.encode()):
                consent = f"only if {domain}._report._dmarc.{host} says v=DMARC1 (RFC 7489 section 7.1)"
                self.notes.append(f"{domain}: DMARC reports go to {host} {consent}")
        return records


def _common_tags(options: argparse.Namespace) -> dict[str, str]:
    """Return the tags that records of selectors and policies of DomainKeys share."""
    tags = {"t": "y" if options.testing else "", "n": record.notes(options.notes or "")}
    return {tag: value for tag, value in tags.items() if value}


def _first_place(uses: Iterable[Use]) -> str:
    """Return the place of the first, empty for none."""
    return next((use.line.place() for use in uses), "")


def _related(one: bytes, other: bytes) -> bool:
    return is_at_or_below(one, other) or is_at_or_below(other, one)


def _local_part(text: str) -> str:
    if not text or not _LOCAL_PART.issuperset(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no local part")
    return text


def _address(text: str) -> str:
    try:
        mailbox = first_mailbox(text.encode("utf-8", "surrogateescape"))
        return f"{_local_part(mailbox.local_part.decode())}@{mailbox.domain.decode()}"
    except (NotSigned, ValueError):
        raise argparse.ArgumentTypeError(f"'{text}' is no address") from None
