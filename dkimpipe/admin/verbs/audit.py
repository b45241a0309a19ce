"""``dkimpipe audit``: report the mail that left this server unsigned."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from dkimpipe.admin import atomic
from dkimpipe.admin.audit import logfiles, rotation
from dkimpipe.admin.audit.advice import Advice
from dkimpipe.admin.audit.logfiles import Log
from dkimpipe.admin.audit.report import Counts, Report
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.trace import Trace
from dkimpipe.admin.findings import ERRORS_FOUND
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError
from dkimpipe.options import seconds

_WEEK = "7d"
_NAME_IT = "name the log that Postfix writes to: dkimpipe audit FILE"
_FORMS = "LOGS in dkimpipe-audit(1) lists the forms that it reads"
_EARLIER = 86400  # seconds of the journal before the time: the beginnings of messages that left in it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    parser.add_argument("files", metavar="FILE", nargs="*", help="logs to read, - for standard input")
    parser.add_argument("--journal", action="store_true", help="read the systemd journal")
    parser.add_argument(
        "-c",
        metavar="DIR",
        dest="directory",
        default=os.environ.get("MAIL_CONFIG"),
        help="configuration directory, for another instance",
    )
    parser.add_argument("--since", metavar="TIME", default=_WEEK, type=_time, help="the last 12h, 30d (7d)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print a JSON object")
    what.add_argument("--cron", action="store_true", help="print nothing unless something left unsigned")
    parser.add_argument(
        "--prometheus", metavar="FILE", type=Path, help="also write metrics to a file (*.prom)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the report; return 0, or 78 if the log does not prove that nothing left unsigned."""
    if options.journal and options.files:
        options.fail("--journal or files, not both")
    since = time.time() - options.since
    site = Site(Postconf(options.directory))
    counts = Counts()
    trace = Trace(site, since, counts.add, counts.reset)
    logs = _logs(options, site, since)
    read = [trace.read(log.blocks, log.clock) for log in logs]
    counts.add_deferred(trace.finish())
    names = tuple(log.name for log in logs)
    doubts = tuple(f"{name}: {each.doubt}" for name, each in zip(names, read) if each.doubt)
    if not trace.last:
        what = " is empty" if all(each.is_empty for each in read) else ": no line of Postfix"
        raise ConfigError(doubts[0], _FORMS) if doubts else ConfigError(", ".join(names) + what, _NAME_IT)
    report = Report(
        counts, names, since, trace.first, trace.last, trace.unreadable, trace.forgotten, doubts, Advice(site)
    )
    if options.prometheus:
        atomic.write(options.prometheus, report.prometheus().encode(), 0o644, os.geteuid(), os.getegid())
    if options.json:
        print(report.json())
    elif not (options.cron and report.is_good):
        print(*report.text(), sep="\n")
    return 0 if report.is_good else ERRORS_FOUND


def _time(text: str) -> int:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _logs(options: argparse.Namespace, site: Site, since: float) -> list[Log]:
    """Return the logs to read, in the order of time. Raises ConfigError."""
    if options.files:
        paths = [Path(name) for name in options.files if name != logfiles.STANDARD_INPUT]
        logs = logfiles.files(paths)
        return [*logs, logfiles.standard_input()] if len(paths) < len(options.files) else logs
    path = site.log or logfiles.usual(since)
    if options.journal or not path:
        return [logfiles.journal(since - _EARLIER)]
    if path.is_relative_to("/dev"):
        hint = "read the log of the container: docker logs CONTAINER | dkimpipe audit -"
        raise ConfigError(f"Postfix logs to {path}, which cannot be read", hint)
    return logfiles.files(rotation.files(path, since))
