"""``dkimpipe rotate``: replace old keys with new ones, step by step, with valid signatures throughout.

For cron: each run takes the steps that are due, and is silent if there are none. A key is generated, then its
record is published; once every name server has served it for longer than any resolver may cache its absence,
the key becomes active in the senders file. The old key is retiring: its record is kept for mail that is still
in transit, and then revoked.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from dkimpipe.admin import newkey
from dkimpipe.admin.dns import alias, publishing
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.findings import NOTE, hint_lines
from dkimpipe.admin.reports import database, own
from dkimpipe.admin.rotation import state
from dkimpipe.admin.rotation.steps import Run
from dkimpipe.admin.verbs import filter_files, held_back
from dkimpipe.config import read_settings
from dkimpipe.errors import one_line
from dkimpipe.options import seconds

AGE = "180d"
KEEP = "30d"  # Postfix gives up after 5 days; people read, and forward, later
REPORTS_WITHIN = "14d"  # reports are about a day, and come a day or two later; small domains get few


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(fail=parser.error)
    add = parser.add_argument
    add("domains", nargs="*", metavar="DOMAIN", help="rotate only the keys of these domains")
    add(
        "--age",
        type=_time,
        default=AGE,
        metavar="TIME",
        help="replace keys of this age or older (%(default)s)",
    )
    add(
        "--keep",
        type=_time,
        default=KEEP,
        metavar="TIME",
        help="keep old records for this long (%(default)s)",
    )
    add("--now", action="store_true", help="replace keys of any age")
    add(
        "--dry-run",
        action="store_true",
        help="print the state of each key and the steps that are due, and do nothing",
    )
    add(
        "--directory",
        type=Path,
        default=Path(newkey.DIRECTORY),
        help="where the key states are stored (%(default)s)",
    )
    filter_files.add_arguments(parser)
    words = "look up records here, not at the resolver and the zone's name servers; repeatable"
    add("--look-at", type=server, action="append", metavar=FORM, help=words)
    alias.add_arguments(parser.add_argument_group("fixed selectors"))
    group = parser.add_argument_group("changes of DNS")
    words = "publish and delete records in DNS; by default, update it (RFC 2136)"
    group.add_argument("--publish", action="store_true", help=words)
    publishing.add_arguments(group)
    group.add_argument(
        "--ttl", type=publishing.ttl, default=publishing.TTL, metavar="SECONDS", help="(%(default)s)"
    )
    group.add_argument("--revoke", action="store_true", help="at the end, leave a record with an empty p=")
    _add_reports(parser.add_argument_group("reports of receivers"))


def _add_reports(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--reports", action="store_true", help="a new key is final once receivers report valid signatures")
    add("--auto-back", action="store_true", help="sign with the old key again if they report the opposite")
    words = "final after this long if there are no reports (%(default)s)"
    add("--reports-within", type=_time, default=REPORTS_WITHIN, metavar="TIME", help=words)
    words = "of dkimpipe reports (%(default)s)"
    add("--database", metavar="FILE", type=database.place, default=database.DATABASE, help=words)
    words = "an IP address of this server, as receivers see it; repeatable"
    add("--own", metavar="ADDRESS", action="append", type=own.address, default=[], help=words)


def run(options: argparse.Namespace) -> int:
    """Take the steps that are due; return 0, or 78 if some could not be taken. Raises ConfigError."""
    return rotate(options, int(time.time()))


def rotate(options: argparse.Namespace, now: int) -> int:
    """Take the steps that are due at a time, in seconds since 1970."""
    options.publish = options.publish or bool(options.publish_command)
    for wrong, words in (
        *publishing.conflicts(options, options.publish, "--publish"),
        (options.revoke and not options.publish, "--revoke requires --publish"),
        (options.auto_back and not options.reports, "--auto-back requires --reports"),
    ):
        if wrong:
            options.fail(words)
    settings = read_settings(filter_files.arguments(options))
    domains = set(map(newkey.to_domain, options.domains))
    with state.lock(options.directory):
        status = Run(options, settings, now).take_due_steps()
    for each in held_back.waiting(settings, options.directory):
        if not domains or each.domain in domains:
            _print_waiting(each, options)
    return status


def _print_waiting(each: held_back.Waiting, options: argparse.Namespace) -> None:
    """Print a key of setup that waits for its record in vain; with ``--dry-run`` any that waits.

    It is not put to use here: an entry may be in preparation that says who may use the key.
    """
    finding = each.finding(each.published(options.look_at or ()))
    if options.dry_run or finding.level != NOTE:
        print(one_line(finding.what), *hint_lines(finding.script), sep="\n")


def _time(text: str) -> int:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
