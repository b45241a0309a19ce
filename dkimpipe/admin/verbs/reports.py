"""``dkimpipe reports``: read what receivers report, and print what needs doing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dkimpipe import log
from dkimpipe.admin import atomic
from dkimpipe.admin.findings import ERRORS_FOUND, Finding, print_findings
from dkimpipe.admin.reports import database, documents, store
from dkimpipe.admin.reports.analysis import Strangers, analyse, choose
from dkimpipe.admin.reports.concerns import about_more, about_strangers, by_level, concerns, shown, unsaid
from dkimpipe.admin.reports.documents import Document, Fault
from dkimpipe.admin.reports.overview import Overview
from dkimpipe.admin.reports.own import address, own_addresses
from dkimpipe.admin.reports.signed import Signed, signed_domains
from dkimpipe.admin.reports.store import Store, Which
from dkimpipe.admin.reports.tlstotals import TlsTotals
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import read_settings
from dkimpipe.errors import ConfigError, one_line
from dkimpipe.options import seconds

_SINCE = "28d"
_KEEP = "400d"
_AGAIN = 7 * 86400  # seconds after which a warning is repeated
_TRY_AGAIN = 75  # sysexits(3): for local(8)
_STANDARD_INPUT = "standard input"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    add = parser.add_argument
    add("files", metavar="FILE", nargs="*", type=Path, help="read these, not the database; - for a mail")
    add("--store", action="store_true", help="store a mail from standard input, or the files")
    add("--database", metavar="FILE", type=database.place, default=database.DATABASE, help="(%(default)s)")
    add("--since", metavar="TIME", type=_time, help=f"reports on the last 7d, 12h ({_SINCE})")
    add("--keep", metavar="TIME", type=_time, default=_KEEP, help="delete older reports (%(default)s)")
    words = "an IP address of this server; repeatable"
    add("--own", metavar="ADDRESS", action="append", type=address, default=[], help=words)
    filter_files.add_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print a JSON object")
    what.add_argument("--cron", action="store_true", help="print only what is wrong in new reports")
    what.add_argument("--html", metavar="FILE", type=Path, help="write an HTML page")


def run(options: argparse.Namespace) -> int:
    """Store reports, or print what they say. Return 0, or 78 if something calls for action."""
    return report(options, int(time.time()))


def report(options: argparse.Namespace, now: int) -> int:
    """Do it at a time, in seconds since 1970."""
    if options.store:
        for name in ("json", "cron", "html", "since", "own"):
            if getattr(options, name):
                options.fail(f"--store prints nothing: it cannot be combined with --{name}")
        return _store(options, now)
    begin = 0 if options.files and not options.since else now - (options.since or seconds(_SINCE))
    signed = _signed(options)
    if options.files:
        with Store(database.IN_MEMORY) as base:
            faults = store.add_all(base, _documents(options.files), now)
            status = _print(options, _overview(options, signed, base, begin, now)._replace(faults=faults))
        return status or (ERRORS_FOUND if faults else 0)
    if options.cron:
        _become_owner(options.database.absolute().parent)
        with Store(options.database, "rw") as base:
            return _cron(_overview(options, signed, base, begin, now), base, now)
    with Store(options.database, "ro") as base:
        faults = base.unreadable(begin)
        return _print(options, _overview(options, signed, base, begin, now)._replace(faults=faults))


def _become_owner(directory: Path) -> None:
    """Go on as the owner of a directory: root would follow the links that its owner can put there."""
    if os.geteuid() == 0 and directory.is_dir() and directory.stat().st_uid != 0:
        status = directory.stat()
        os.setgroups([status.st_gid])
        os.setgid(status.st_gid)
        os.setuid(status.st_uid)


def _cron(overview: Overview, base: Store, now: int) -> int:
    """Print what is new, and remember it, unless that fails: then the next run prints it."""
    found = unsaid(overview.concerns, base.last_cron(), base.said(now - _AGAIN))
    findings = [each.finding for each in found]
    if findings:
        print_findings(shown(findings), "")
    sys.stdout.flush()
    base.remember(overview.latest, {each.topic: each.messages for each in found}, now)
    return _status(findings)


def _store(options: argparse.Namespace, now: int) -> int:
    """Store reports. A mail is never returned to the sender of a report: what is not one is only logged."""
    found = _documents(options.files or [Path("-")])
    _become_owner(options.database.absolute().parent)
    try:
        with Store(options.database) as base:
            faults = store.add_all(base, found, now)
            base.expire(now - options.keep)
    except (ConfigError, OSError) as error:
        if options.files:
            raise
        hint = getattr(error, "hint", "")
        lines = [f"4.3.0 dkimpipe: {error}", *([f"hint: {hint}"] if hint else [])]
        print(*map(one_line, lines), sep="\n", file=sys.stderr)
        return _TRY_AGAIN
    for fault in faults:
        log.to_syslog(f"reports: {fault.name}: {fault.cause}", "warning")
        if options.files:
            print(f"dkimpipe: {fault.name}: {fault.cause}", file=sys.stderr)
    return ERRORS_FOUND if faults and options.files else 0


def _documents(files: Iterable[Path]) -> Iterator[Document | Fault]:
    for path in files:
        if str(path) == "-":
            chunks = iter(lambda: sys.stdin.buffer.read(65536), b"")
            yield from documents.from_mail(_STANDARD_INPUT, chunks)
            for _ in chunks:  # of a mail that is too large: otherwise its writer gets an error
                pass
        else:
            yield from documents.from_path(path)


def _overview(options: argparse.Namespace, signed: Signed, base: Store, begin: int, now: int) -> Overview:
    """Return what the reports say about the time since then."""
    own = own_addresses(options.own)
    which = Which(0, base.latest(), begin)
    strangers = Strangers()
    chosen = choose(base.authors(which), signed)
    domains = analyse(base.records(which), own, chosen.names, signed, strangers)
    tls = TlsTotals()
    for result in base.tls_results(which):
        tls.add(result, signed, strangers)
    about_others = [*about_strangers(strangers), *about_more(chosen.more, which.upto)]
    found = by_level([*about_others, *concerns(domains, own, now), *tls.concerns(now)])
    first, end = base.period(which)
    return Overview(first or begin, end, which.upto, domains, tls.counts(), found, [])


def _signed(options: argparse.Namespace) -> Signed:
    """Return the domains that we sign for; all of them where the filter's files are not, or not readable."""
    arguments = filter_files.arguments(options)
    try:
        return signed_domains(read_settings(arguments))
    except ConfigError:
        if arguments:
            raise
        return Signed(None)


def _print(options: argparse.Namespace, overview: Overview) -> int:
    if options.html:
        from dkimpipe.admin.reports.page import page

        atomic.write(options.html, page(overview).encode(), 0o644, os.geteuid(), os.getegid())
    elif options.json:
        print(overview.json())
    elif not options.cron:
        print(*overview.text(), sep="\n")
    elif findings := [*shown(overview.findings), *shown(overview.not_reports())]:
        print_findings(findings, "")
    return _status(overview.findings)


def _status(findings: Iterable[Finding]) -> int:
    return ERRORS_FOUND if any(finding.level == "error" for finding in findings) else 0


def _time(text: str) -> int:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
