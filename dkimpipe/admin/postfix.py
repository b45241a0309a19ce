"""``dkimpipe postfix``: tell Postfix to sign, check that it still does, and undo it."""

from __future__ import annotations

import argparse
import os
import subprocess

from dkimpipe.admin import backup, doctor, filter_service, wanted
from dkimpipe.admin.findings import tell
from dkimpipe.admin.postconf import Postconf
from dkimpipe.admin.trial import trial
from dkimpipe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_instance(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="make the changes, with a dated backup")
    what.add_argument("--revert", action="store_true", help="undo what --apply did, byte for byte")
    what.add_argument(
        "--check", action="store_true", help="tell what is wrong, and run the filter as its user"
    )
    parser.add_argument("--reload", action="store_true", help="reload Postfix afterwards; never done unasked")


def add_instance(parser: argparse.ArgumentParser) -> None:
    """Describe the options that say which Postfix, and which user."""
    parser.add_argument(
        "-c",
        metavar="DIR",
        dest="directory",
        default=os.environ.get("MAIL_CONFIG"),
        help="configuration directory, for another instance",
    )
    parser.add_argument("--user", default="dkimpipe", help="the user that runs the filter (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print, make, undo or check the changes; return 0, or 78 if the check finds errors."""
    postconf = Postconf(options.directory)
    if options.check:
        return check(postconf, options.user)
    if options.revert:
        revert(postconf)
    else:
        apply(postconf, options.user, make=options.apply)
    if options.reload:
        reload(postconf)
    return 0


def apply(postconf: Postconf, user: str, make: bool) -> None:
    """Print the changes, and make them if wanted. Raises ConfigError where they would do harm."""
    changes = wanted.missing(postconf, user)
    doctor.refuse_another_filter(postconf)
    if not changes:
        print("nothing to change")
        return
    for change in changes:
        print(f"# {change.why}\n{postconf.command(change)}")
    if make:
        print(f"# backup in {backup.edit(postconf, changes)}; postfix reload makes the changes work")
    else:
        print("# dkimpipe postfix --apply makes these changes")


def revert(postconf: Postconf) -> None:
    """Undo all that was applied. Raises ConfigError if nothing was."""
    backups = backup.backups(postconf.directory)
    if not backups:
        raise ConfigError(f"no backup in {postconf.directory}", "dkimpipe postfix --apply was not run here")
    for each in backups:
        for line in backup.undo(Postconf(postconf.directory), each):
            print(line)


def check(postconf: Postconf, user: str, as_json: bool = False) -> int:
    """Print what is wrong, and what the filter says when its user runs it; return 0, or 78 with errors."""
    findings = doctor.findings(postconf, user)
    service = filter_service.find(postconf)
    return tell([*findings, *(trial(service) if service else [])], "Postfix is set up", as_json)


def reload(postconf: Postconf) -> None:
    """Let the changes work."""
    command = ["postfix", "-c", str(postconf.directory), "reload"]
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
    if status:
        raise ConfigError(f"postfix reload ended with status {status}")
