"""``dkimpipe dns``: the records that the signatures need, computed from their keys, shown or published.

One record a selector and domain, however many entries name it. It is fitted to all of them: what would make
a signature of one of them fail is not written, and stderr says why.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Callable

from dkimpipe.address import first_mailbox
from dkimpipe.admin.dns import formats, update
from dkimpipe.admin.dns.needed import Needed
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.findings import ERRORS_FOUND, error_lines
from dkimpipe.admin.maps import entries
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import read_settings
from dkimpipe.errors import ConfigError, NotSigned, one_line

_LOCAL_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/?^_`{|}~.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    words = "keys of the maps, or domains of the conf file; all of them if none is given"
    parser.add_argument("keys", nargs="*", metavar="ADDRESS-OR-DOMAIN", help=words)
    add = parser.add_argument
    filter_files.add_arguments(parser)
    add("--format", choices=formats.FORMATS, default="bind", help="(%(default)s)")
    add("--ttl", type=update.ttl, default=update.TTL, metavar="SECONDS", help="time to live (%(default)s)")
    add("--relative", type=update.domain, metavar="ORIGIN", help="bind: names relative to this zone")
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
    update.add_arguments(group)


def run(options: argparse.Namespace) -> int:
    """Print or publish the records; return 0, or 78 if some could not be made. Raises ConfigError."""
    _check_combination(options)
    settings = read_settings(filter_files.arguments(options))
    needed = Needed(entries.asked_for(settings, options.keys), settings)
    records = needed.records(options)
    for note in needed.notes:
        print(f"dkimpipe: {one_line(note)}", file=sys.stderr)
    for error in needed.errors:
        print(*error_lines(error), sep="\n", file=sys.stderr)
    if not records and not needed.errors:
        raise ConfigError(f"{entries.files(settings)}: no record to make")
    if options.publish or options.delete:
        if needed.errors:
            raise ConfigError("nothing is changed in DNS", "fix this, or name the entries that are good")
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
    form: Callable[[Sequence[Record], int], str] = formats.FORMATS[options.format]
    if options.relative:
        form = functools.partial(formats.bind, origin=options.relative)
    print(form(records, options.ttl), end="")


def _update(records: Sequence[Record], options: argparse.Namespace) -> None:
    server = update.server(options)
    if options.delete:
        update.delete(server, records, options.zone or "", options.replace)
    else:
        update.publish(server, records, options.ttl, options.zone or "", options.replace)


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
