"""``dkimpipe dns``: print or publish the DNS records of the signing keys.

There is one record for each selector and domain, shared by all entries that use it: tags that would make one
of their signatures fail are omitted, and the reason is printed to standard error.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from dkimpipe.address import as_a_labels, is_domain
from dkimpipe.admin import newkey
from dkimpipe.admin.dns import alias, formats, publishing
from dkimpipe.admin.dns.lookup import NameServers
from dkimpipe.admin.dns.needed import NeededRecords
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.findings import ERRORS_FOUND, error_lines
from dkimpipe.admin.maps import configured, entries
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import Settings, read_settings
from dkimpipe.errors import ConfigError, one_line

_LOCAL_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/?^_`{|}~.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(fail=parser.error)
    words = "keys of the maps, or domains of the conf file (default: all)"
    parser.add_argument("keys", nargs="*", metavar="ADDRESS-OR-DOMAIN", help=words)
    add = parser.add_argument
    filter_files.add_arguments(parser)
    add("--format", choices=formats.FORMATS, default="bind", help="(%(default)s)")
    add(
        "--ttl",
        type=publishing.ttl,
        default=publishing.TTL,
        metavar="SECONDS",
        help="time to live (%(default)s)",
    )
    add(
        "--relative",
        type=publishing.domain,
        metavar="ORIGIN",
        help="with bind: print names relative to this zone",
    )
    _add_tags(parser.add_argument_group("contents of the records"))
    _add_aliases(parser.add_argument_group("fixed selectors"))
    _add_update(parser.add_argument_group("changes of DNS"))


def _add_tags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--hash", choices=("sha256", "sha1:sha256"), help="h=: the only acceptable hash algorithms")
    add("--service", choices=("email", "*"), help="s=: the service type of the key")
    add("--testing", action="store_true", help="t=y: the domain is testing DKIM")
    add("--strict", action="store_true", help="t=s: i= must not be in a subdomain of d=")
    add(
        "--granularity",
        type=_local_part,
        metavar="LOCAL-PART",
        help="g=, for DomainKeys: the only local part",
    )
    add("--notes", metavar="TEXT", help="n=: notes for people")
    add("--policy", choices=("~", "-", "!", "."), help="add the DomainKeys policy of each domain")
    add("--dmarc", action="store_true", help="add an initial DMARC policy for each domain")
    add(
        "--report",
        type=_addresses,
        action="extend",
        default=[],
        metavar="ADDRESS",
        help="report address for --policy and --dmarc; for --dmarc repeatable, or several with commas",
    )


def _add_aliases(group: argparse._ArgumentGroup) -> None:
    alias.add_arguments(group)
    words = "print these aliases, not the records: a customer publishes them once"
    group.add_argument("--cname", action="store_true", help=words)


def _add_update(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--publish", action="store_true", help="publish the records in DNS; by default, update it (RFC 2136)")
    add("--delete", action="store_true", help="delete the records from DNS")
    add("--replace", action="store_true", help="even if the name has another TXT record")
    publishing.add_arguments(group)
    words = "with --publish-command: look up records here, not at the zone's name servers; repeatable"
    add("--look-at", type=server, action="append", metavar=FORM, help=words)


def run(options: argparse.Namespace) -> int:
    """Print or publish the records; return 0, or 78 if some could not be computed. Raises ConfigError."""
    options.publish = options.publish or bool(options.publish_command and not options.delete)
    _check_combination(options)
    settings = read_settings(filter_files.arguments(options))
    new = _new_domains(options, settings) if options.cname else {}
    keys = [key for key in options.keys if key not in new]
    needed = NeededRecords(_requested(settings, keys) if keys or not new else {}, settings)
    needed.notes += [f"{domain}: no entry for it yet" for domain in new.values()]
    if options.cname:
        records = alias.records(dict.fromkeys([*needed.domains(), *new.values()]), options)
    else:
        records = [alias.moved(record, options) for record in needed.records(options)]
    for note in needed.notes:
        print(f"dkimpipe: {one_line(note)}", file=sys.stderr)
    for error in needed.errors:
        print(*error_lines(error), sep="\n", file=sys.stderr)
    if not records and not needed.errors:
        raise ConfigError(f"{configured.files(settings)}: no records to print or publish")
    if options.publish or options.delete:
        if needed.errors:
            raise ConfigError(
                "nothing was changed in DNS", "fix this, or name only the entries without errors"
            )
        if options.delete:
            needed.refuse_if_needed()
        _update(records, options)
    else:
        _show(records, options)
    return ERRORS_FOUND if needed.errors else 0


def _requested(settings: Settings, keys: Sequence[str]) -> dict[entries.Line, bool]:
    """Return the entries, each with whether it is requested. Raises ConfigError for an unknown key.

    A domain whose entry setup holds back has a key and a record already.
    """
    try:
        return configured.requested(settings, keys)
    except ConfigError as error:
        from dkimpipe.admin.verbs import held_back

        wanted = {entries.canonical(key).decode() for key in keys}
        for each in held_back.waiting(settings, Path(newkey.DIRECTORY)):
            if not error.hint and each.domain in wanted:
                hint = f"{each.domain} waits for its record, which this prints: {each.command}"
                raise ConfigError(str(error), hint) from None
        raise


def _new_domains(options: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """Return the domains on the command line without an entry: their aliases may be published before.

    Raises ConfigError for what is not a domain.
    """
    known = {entries.canonical(line.key) for line in configured.lines(settings)}
    return {key: newkey.to_domain(key) for key in options.keys if entries.canonical(key) not in known}


def _check_combination(options: argparse.Namespace) -> None:
    """Exit with a usage error if options conflict, or one lacks another that it requires."""
    updates = options.publish or options.delete
    for wrong, words in (
        (options.publish and options.delete, "--publish or --delete, not both"),
        *publishing.conflicts(options, updates, "--publish or --delete"),
        (not updates and options.replace, "--replace requires --publish or --delete"),
        (options.delete and not options.keys, "--delete requires the entries whose records to delete"),
        (options.report and not (options.policy or options.dmarc), "--report requires --policy or --dmarc"),
        (options.policy and len(options.report) > 1, "--policy takes one --report address: r= is not a list"),
        (options.relative and options.format != "bind", "--relative requires --format bind"),
        (options.cname and not options.selectors, "--cname requires --selectors and --zone"),
        (options.cname and updates, "--cname prints records for other zones: it cannot publish them"),
        (options.look_at and not options.publish_command, "--look-at requires --publish-command"),
    ):
        if wrong:
            options.fail(words)


def _show(records: Sequence[Record], options: argparse.Namespace) -> None:
    form: Callable[[Sequence[Record], int], str] = formats.FORMATS[options.format]
    if options.relative:
        form = functools.partial(formats.bind, origin=options.relative)
    print(form(records, options.ttl), end="")


def _update(records: Sequence[Record], options: argparse.Namespace) -> None:
    publisher = publishing.publisher(options, NameServers(options.look_at or ()))
    if options.delete:
        publisher.delete(records, options.ttl, options.replace)
    else:
        publisher.publish(records, options.ttl, options.replace)


def _local_part(text: str) -> str:
    if not text or not _LOCAL_PART.issuperset(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid local part")
    return text


def _addresses(text: str) -> list[str]:
    """Return the addresses in a list, with domains in A-labels."""
    return list(map(_address, text.split(",")))


def _address(text: str) -> str:
    """Return an address, which may have a display name in front, or ``mailto:``."""
    _, bracket, in_brackets = text.rpartition("<")
    address = in_brackets.rstrip().removesuffix(">") if bracket else text.strip()
    local_part, _, host = re.sub("^mailto:", "", address, flags=re.IGNORECASE).rpartition("@")
    domain = as_a_labels(host.encode("utf-8", "surrogateescape"))
    if not host or not is_domain(domain):
        raise argparse.ArgumentTypeError(f"'{text.strip()}' is not a valid address: it lacks a domain")
    try:
        return f"{_local_part(local_part)}@{domain.decode()}"
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"'{text.strip()}' is not a valid address") from None
