"""Print, apply and revert changes to Postfix's configuration, and reload Postfix."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dkimpipe.admin.invocation import runnable
from dkimpipe.admin.postfix import (
    arguments,
    backup,
    coverage,
    fatal,
    filter_service,
    filter_user,
    header_rewriting,
    open_services,
    planning,
    requirements,
    routing,
)
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import Plan
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError


def apply(
    postconf: Postconf,
    user: str,
    job: Job,
    chosen: Plan,
    write: bool,
    allow_open: bool,
    more: Sequence[Change] = (),
) -> None:
    """Print the changes, and make them if ``write`` is set. Raises ConfigError if they would do harm.

    ``allow_open`` accepts services that sign mail and let strangers send. ``more`` is changed as well.
    """
    fatal.refuse(postconf)
    arguments.refuse(postconf)
    changes = [*postconf.assumed, *requirements.missing(postconf, user, job, chosen), *more]
    routing.refuse_another_filter(postconf, job)
    planning.refuse_obstacles(postconf, chosen.kinds)
    if job is SIGN and not allow_open:
        open_services.refuse(postconf)
    if job is VERIFY:
        filter_user.refuse_key_reader(postconf, user)
    if not changes:
        print("nothing to change")
        return
    print(*_change_lines(postconf, changes), sep="\n")
    if any("DKIMproxy" in change.why for change in changes):
        print("# DKIMproxy gets no more mail: stop it when the queue holds none for it (postqueue -p)")
    if job is SIGN and header_rewriting.is_set(postconf):
        for finding in header_rewriting.findings(postconf.assuming(changes), job):
            print(
                *(f"# {line.removeprefix('# ')}" for line in [finding.what, *finding.hint.splitlines()]),
                sep="\n",
            )
    note = coverage.unsigned(postconf, chosen.kinds) if job is SIGN else None
    if note:
        print(f"# {note.what}")
        for line in runnable(note.hint).splitlines():
            print(f"# to sign it: {line}")
    if write:
        print(f"# backup in {backup.edit(postconf, changes, job)}; postfix reload activates the changes")
        if more and postconf.is_running:
            print("# do it at once: new processes pass mail to no milter, and not yet to the filter")
    else:
        print(f"# {runnable(job.setup_command)} --apply makes these changes")


def _change_lines(postconf: Postconf, changes: list[Change]) -> list[str]:
    return [f"# {change.why}\n{postconf.command(change)}" for change in changes]


def revert(postconf: Postconf, job: Job = SIGN, with_reload: bool = False) -> None:
    """Undo all changes applied for a job, and reload Postfix if wanted. Raises ConfigError if there are none.

    Later changes for the other job are undone first and applied again afterwards, so that the files can be
    restored byte for byte and settings that both jobs need are kept.
    """
    directory, other = postconf.directory, filter_service.other(job)
    if not (ours := backup.backups(directory, job)):
        raise ConfigError(f"no backup in {directory}", f"{job.setup_command} --apply was not run here")
    backups, other_service = backup.backups(directory), filter_service.find(postconf, other)
    chosen = planning.plan(postconf, other)
    undone = backups[: backups.index(ours[-1]) + 1]
    tables = backup.new_tables(undone)
    # All of it before anything is printed: a reader that ends, such as head(1), must not stop it halfway.
    lines = [line for each in undone for line in backup.undo(directory, each)]
    is_running = postconf.is_running
    _remove([] if is_running else backup.unused(directory, tables))
    if other_service and set(undone) != set(ours):
        now = Postconf(directory)
        changes = requirements.missing(now, other_service.attribute("user") or other.name, other, chosen)
        backup.edit(now, changes, other)
        lines.append(f"# {runnable(other.setup_command)} --apply, which was undone as well, is applied again")
        lines += _change_lines(now, changes)
    lines += _without_filter(Postconf(directory))
    print(*lines, sep="\n")
    left = backup.unused(directory, tables)
    if with_reload:
        reload(postconf)
    elif is_running:
        remove = f" && rm {shlex.join(map(str, left))}" if left else ""
        print(f"# Postfix still uses the settings that were undone: postfix reload{remove}")
        return
    _remove(left)


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _without_filter(postconf: Postconf) -> list[str]:
    """Let no mail pass to a filter service that is gone, where it would stay in the queue."""
    gone = [job.name for job in JOBS if not filter_service.find(postconf, job)]
    changes = [
        Change("-PX" if place else "-X", f"{place}/content_filter".lstrip("/"), "the filter service is gone")
        for place in ("", *postconf.services)
        if postconf.own("content_filter", place).partition(":")[0] in gone
    ]
    postconf.edit(changes)
    return _change_lines(postconf, changes)


def reload(postconf: Postconf) -> None:
    """Reload Postfix to activate the changes. Raises ConfigError."""
    command = ["postfix", "-c", str(postconf.directory), "reload"]
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
    if status:
        raise ConfigError(f"postfix reload exited with status {status}")
