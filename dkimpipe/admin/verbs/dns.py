"""``dkimpipe dns``: print or publish the DNS records of the signing keys.

There is one record for each selector and domain, shared by all entries that use it: tags that would make one
of their signatures fail are omitted, and the reason is printed to standard error.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Callable

from dkimpipe.address import first_mailbox
from dkimpipe.admin.dns import formats, update
from dkimpipe.admin.dns.needed import NeededRecords
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.findings import ERRORS_FOUND, error_lines
from dkimpipe.admin.maps import entries
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import read_settings
from dkimpipe.errors import ConfigError, NotSigned, one_line

_LOCAL_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/?^_`{|}~.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(fail=parser.error)
    words = "keys of the maps, or domains of the conf file (default: all)"
    parser.add_argument("keys", nargs="*", metavar="ADDRESS-OR-DOMAIN", help=words)
    add = parser.add_argument
    filter_files.add_arguments(parser)
    add("--format", choices=formats.FORMATS, default="bind", help="(%(default)s)")
    add("--ttl", type=update.ttl, default=update.TTL, metavar="SECONDS", help="time to live (%(default)s)")
    add(
        "--relative",
        type=update.domain,
        metavar="ORIGIN",
        help="with bind: print names relative to this zone",
    )
    _add_tags(parser.add_argument_group("contents of the records"))
    _add_update(parser.add_argument_group("dynamic update"))


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
    add("--report", type=_address, metavar="ADDRESS", help="report address for --policy and --dmarc")


def _add_update(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--publish", action="store_true", help="publish the records in DNS (RFC 2136)")
    add("--delete", action="store_true", help="delete the records from DNS")
    add("--replace", action="store_true", help="even if the name has another TXT record")
    update.add_arguments(group)


def run(options: argparse.Namespace) -> int:
    """Print or publish the records; return 0, or 78 if some could not be computed. Raises ConfigError."""
    _check_combination(options)
    settings = read_settings(filter_files.arguments(options))
    needed = NeededRecords(entries.requested(settings, options.keys), settings)
    records = needed.records(options)
    for note in needed.notes:
        print(f"dkimpipe: {one_line(note)}", file=sys.stderr)
    for error in needed.errors:
        print(*error_lines(error), sep="\n", file=sys.stderr)
    if not records and not needed.errors:
        raise ConfigError(f"{entries.files(settings)}: no records to print or publish")
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


def _check_combination(options: argparse.Namespace) -> None:
    """Exit with a usage error if options conflict, or one lacks another that it requires."""
    updates = options.publish or options.delete
    for wrong, words in (
        (options.publish and options.delete, "--publish or --delete, not both"),
        (updates and not (options.server and options.tsig), "an update needs --server and --tsig"),
        (
            not updates and (options.server or options.tsig or options.zone),
            "--server, --tsig and --zone require --publish or --delete",
        ),
        (not updates and options.replace, "--replace requires --publish or --delete"),
        (options.delete and not options.keys, "--delete requires the entries whose records to delete"),
        (options.report and not (options.policy or options.dmarc), "--report requires --policy or --dmarc"),
        (options.relative and options.format != "bind", "--relative requires --format bind"),
    ):
        if wrong:
            options.fail(words)


def _show(records: Sequence[Record], options: argparse.Namespace) -> None:
    form: Callable[[Sequence[Record], int], str] = formats.FORMATS[options.format]
    if options.relative:
        form = functools.partial(formats.bind, origin=options.relative)
    print(form(records, options.ttl), end="")


def _update(records: Sequence[Record], options: argparse.Namespace) -> None:
    primary = update.primary(options)
    if options.delete:
        update.delete(primary, records, options.zone or "", options.replace)
    else:
        update.publish(primary, records, options.ttl, options.zone or "", options.replace)


def _local_part(text: str) -> str:
    if not text or not _LOCAL_PART.issuperset(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid local part")
    return text


def _address(text: str) -> str:
    try:
        mailbox = first_mailbox(text.encode("utf-8", "surrogateescape"))
        return f"{_local_part(mailbox.local_part.decode())}@{mailbox.domain.decode()}"
    except (NotSigned, ValueError):
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid address") from None
