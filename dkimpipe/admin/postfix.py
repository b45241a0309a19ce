"""``dkimpipe postfix``: tell Postfix to sign, check that it still does, and undo it."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from dkimpipe.admin import wanted
from dkimpipe.admin.postconf import Change, Postconf, like, write_like
from dkimpipe.errors import ConfigError

BACKUP = "dkimpipe-backup-"
MESSAGE = b"From: dkimpipe-check@invalid\n\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "-c", metavar="DIR", dest="directory", help="configuration directory, for another instance"
    )
    parser.add_argument("--user", default="dkimpipe", help="the user that runs the filter (%(default)s)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="make the changes, with a dated backup")
    what.add_argument(
        "--revert", action="store_true", help="restore the backup of the last --apply, byte for byte"
    )
    what.add_argument(
        "--check", action="store_true", help="tell what is missing, and run the filter as its user"
    )
    parser.add_argument("--reload", action="store_true", help="reload Postfix afterwards; never done unasked")


def run(options: argparse.Namespace) -> int:
    """Print, make, undo or check the changes; return 0, or 78 if the check finds something."""
    postconf = Postconf(options.directory or os.environ.get("MAIL_CONFIG"))
    if options.revert:
        _revert(postconf)
    elif options.check:
        return _check(postconf, options.user)
    else:
        _apply(postconf, wanted.missing(postconf, options.user), make=options.apply)
    if options.reload:
        _reload(postconf)
    return 0


def _apply(postconf: Postconf, changes: list[Change], make: bool) -> None:
    if not changes:
        print("nothing to change")
        return
    backup = _back_up(postconf) if make else None
    for change in changes:
        print(f"# {change.why}\n{_command(postconf, change)}")
        if make:
            postconf.apply(change)
    if not backup:
        print("# dkimpipe postfix --apply makes these changes")
        return
    for path in postconf.files():
        like(path, backup / path.name)  # postconf(1) leaves mode 0644
        write_like(backup / f"{path.name}.after", path.read_bytes(), path)
    print(f"# backup in {backup}; postfix reload makes the changes work")


def _back_up(postconf: Postconf) -> Path:
    backup = postconf.directory / f"{BACKUP}{time.strftime('%Y%m%dT%H%M%S')}"
    backup.mkdir(mode=0o700)
    for path in postconf.files():
        write_like(backup / path.name, path.read_bytes(), path)
    return backup


def _revert(postconf: Postconf) -> None:
    """Restore the last backup. Raise ConfigError if the files were changed since: that would be lost."""
    backups = sorted(postconf.directory.glob(f"{BACKUP}*"))
    if not backups:
        raise ConfigError(f"no backup in {postconf.directory}", "dkimpipe postfix --apply was not run here")
    backup = backups[-1]
    for path in postconf.files():
        after = backup / f"{path.name}.after"  # missing if --apply was interrupted
        if after.exists() and path.read_bytes() != after.read_bytes():
            mend = f"undo by hand what diff -u {backup / path.name} {path} shows of dkimpipe"
            raise ConfigError(f"{path} was changed after --apply; --revert would lose that", mend)
    for path in postconf.files():
        write_like(path, (backup / path.name).read_bytes(), backup / path.name)
        print(f"restored {path}")
    for path in backup.iterdir():
        path.unlink()
    backup.rmdir()


def _check(postconf: Postconf, user: str) -> int:
    """Print what is missing, and what the filter says when its user runs it."""
    findings = [
        f"{change.argument.partition('=')[0]}: {change.why}\n{_command(postconf, change)}"
        for change in wanted.missing(postconf, user)
    ]
    line = postconf.services().get(wanted.SERVICE, "")
    if line:
        findings += _try(line)
    for finding in findings:
        print(f"dkimpipe: {finding}")
    if not findings:
        print("dkimpipe: Postfix is set up")
    return 78 if findings else 0


def _try(line: str) -> list[str]:
    """Run the service's command as pipe(8) would, on a message that nobody signs; return what is wrong."""
    name, _, group_name = _attribute(line, "user=").partition(":")
    command = line.partition("argv=")[2].removesuffix(wanted.ENVELOPE).split()
    try:
        user = pwd.getpwnam(name)
        group = grp.getgrnam(group_name).gr_gid if group_name else user.pw_gid
        rights: dict[str, Any] = {"user": user.pw_uid, "group": group, "extra_groups": []}
        done = subprocess.run(  # noqa: S603 - what pipe(8) runs
            command,
            input=MESSAGE,
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            **(rights if os.geteuid() == 0 else {}),
        )
    except KeyError:
        mend = "useradd --system --no-create-home --shell /usr/sbin/nologin"
        return [f"user={name}: there is no such user or group\n{mend} {name}"]
    except OSError as error:
        return [f"user {name} cannot run {command[0]}: {error.strerror}"]
    if done.returncode:
        return [f"as user {name}: {done.stderr.decode(errors='backslashreplace').strip()}"]
    return []


def _attribute(line: str, name: str) -> str:
    return next((word[len(name) :] for word in line.split() if word.startswith(name)), "")


def _command(postconf: Postconf, change: Change) -> str:
    return shlex.join(["postconf", "-c", str(postconf.directory), change.option, change.argument])


def _reload(postconf: Postconf) -> None:
    status = subprocess.run(["postfix", "-c", str(postconf.directory), "reload"], check=False).returncode  # noqa: S603, S607
    if status:
        raise ConfigError(f"postfix reload ended with status {status}")
