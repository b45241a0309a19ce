"""Print, apply and revert changes to Postfix's configuration, and reload Postfix."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.invocation import runnable
from dkimpipe.admin.postfix import (
    arguments,
    backup,
    coverage,
    draining,
    fatal,
    filter_service,
    filter_user,
    header_rewriting,
    open_services,
    planning,
    requirements,
    routing,
    running,
    signers_left,
)
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import Plan
from dkimpipe.admin.postfix.milter_lists import PARAMETERS as MILTERS
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

_SIGNERS = (*MILTERS, "content_filter")  # where main.cf names other programs that sign


class Wanted(NamedTuple):
    """What the administrator has asked for.

    ``write``   make the changes
    ``reload``  reload Postfix afterwards, which is left to the caller
    ``open``    accept services that sign mail and let strangers send
    """

    write: bool
    reload: bool
    open: bool


def apply(postconf: Postconf, user: str, job: Job, chosen: Plan, wanted: Wanted) -> None:
    """Print the changes, and make them if that is wanted. Raises ConfigError if they would do harm."""
    fatal.refuse(postconf)
    arguments.refuse(postconf)
    changes = [*postconf.assumed, *requirements.missing(postconf, user, job, chosen)]
    routing.refuse_another_filter(postconf, job)
    planning.refuse_obstacles(postconf, chosen.kinds)
    if job is SIGN and not wanted.open:
        open_services.refuse(postconf)
    if job is VERIFY:
        filter_user.refuse_key_reader(postconf, user)
    if not changes:
        print("nothing to change")
        return
    if wanted.write and not wanted.reload:
        refuse_gap(postconf, changes, "add --reload: this setting is then changed last")
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
    if wanted.write:
        _write(postconf, changes, job)
    else:
        print(f"# {runnable(job.setup_command)} --apply makes these changes")


def _write(postconf: Postconf, changes: Sequence[Change], job: Job) -> None:
    """Make the changes: another signer gets mail until the running Postfix passes it to the filter."""
    last = _withdrawals(changes) if postconf.is_running else []
    first = [change for change in changes if change not in last]
    if last:
        if first:
            print(f"# backup in {backup.edit(postconf, first, job)}")
        reload(postconf, wait=True)
    print(f"# backup in {backup.edit(postconf, last or first, job)}; postfix reload activates the changes")


def refuse_gap(postconf: Postconf, changes: Sequence[Change], hint: str) -> None:
    """Raise ConfigError if these edits, made at once, would let mail leave unsigned until a reload.

    A new process of Postfix reads main.cf as it is, and has the options of master.cf as of the last reload.
    """
    names = [change.what for change in _withdrawals(changes)]
    if names and postconf.is_running:
        named = ", ".join(names)
        what = f"Postfix is running: to change {named} now would leave mail unsigned until the next reload"
        raise ConfigError(what, hint)


def _withdrawals(changes: Sequence[Change]) -> list[Change]:
    """Return the edits of main.cf by which another signer gets no more mail."""
    return [each for each in changes if each.option in ("-e", "-X") and each.what in _SIGNERS]


def _change_lines(postconf: Postconf, changes: list[Change]) -> list[str]:
    return [f"# {change.why}\n{postconf.command(change)}" for change in changes]


def revert(postconf: Postconf, job: Job = SIGN, with_reload: bool = False) -> None:
    """Undo all changes applied for a job, and reload Postfix if wanted. Raises ConfigError if there are none.

    Later changes for the other job are undone first and applied again afterwards, so that the files can be
    restored byte for byte and settings that both jobs need are kept.
    """
    directory, other = postconf.directory, filter_service.other(job)
    if not (ours := backup.backups(directory, job)):
        raise ConfigError(f"no backup in {directory}", _never_applied(postconf, job))
    backups, other_service = backup.backups(directory), filter_service.find(postconf, other)
    chosen = planning.plan(postconf, other)
    undone = backups[: backups.index(ours[-1]) + 1]
    tables = backup.new_tables(undone)
    before = Postconf(undone[-1] / "before")
    is_running = postconf.is_running
    if with_reload and is_running and set(undone) == set(ours):
        draining.drain(postconf, undone, lambda: reload(postconf, wait=True))
    # All of it before anything is printed: a reader that ends, such as head(1), must not stop it halfway.
    lines = list(dict.fromkeys(line for each in undone for line in backup.undo(directory, each)))
    _remove([] if is_running else backup.unused(directory, tables))
    if other_service and set(undone) != set(ours):
        now = Postconf(directory)
        changes = requirements.missing(now, other_service.attribute("user") or other.name, other, chosen)
        backup.edit(now, changes, other)
        lines.append(f"# {runnable(other.setup_command)} --apply, which was undone as well, is applied again")
        lines += _change_lines(now, changes)
    lines += _without_filter(Postconf(directory))
    if job is SIGN:
        lines += signers_left.not_back(before, Postconf(directory))
        lines += signers_left.lines(Postconf(directory))
    print(*lines, sep="\n")
    left = backup.unused(directory, tables)
    if with_reload:
        reload(postconf)
    elif is_running:
        remove = f" && rm {shlex.join(map(str, left))}" if left else ""
        command = postconf.program_command("reload") + remove
        print(f"# Postfix still uses the settings that were undone: {command}")
    if with_reload or not is_running:
        _remove(left)
    for line in signers_left.waiting(postconf, job):
        print(line)


def _never_applied(postconf: Postconf, job: Job) -> str:
    """Return the hint of a job that has nothing to undo."""
    hint = f"# {job.setup_command} --apply was not run here, or is undone already"
    if not postconf.is_running:
        return hint
    return f"{hint}; if Postfix still uses the settings:\n{postconf.program_command('reload')}"


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


def reload(postconf: Postconf, *, wait: bool = False) -> None:
    """Reload Postfix, and wait, if wanted, until all new processes use the changes. Raises ConfigError."""
    command = ["postfix", "-c", str(postconf.directory), "reload"]
    before = running.managers(postconf)
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
    if status:
        raise ConfigError(f"postfix reload exited with status {status}")
    if wait:
        running.wait_for_reload(postconf, before)
