"""Print, make and undo the edits of Postfix's files, and reload Postfix."""

from __future__ import annotations

import subprocess

from dkimpipe.admin.postfix import backup, filter_service, filter_user, openings, requirements, routing
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError


def apply(postconf: Postconf, user: str, job: Job, make: bool, is_open: bool) -> None:
    """Print the changes, and with ``make`` make them. Raises ConfigError if they would do harm.

    With ``is_open``, strangers may send to services whose mail is signed.
    """
    changes = requirements.missing(postconf, user, job)
    routing.refuse_another_filter(postconf, job)
    if job is SIGN and not is_open:
        openings.refuse(postconf)
    if job is VERIFY:
        filter_user.refuse_reader_of_keys(postconf, user)
    if not changes:
        print("nothing to change")
        return
    _tell(postconf, changes)
    if make:
        print(f"# backup in {backup.edit(postconf, changes, job)}; postfix reload activates the changes")
    else:
        print(f"# {job.setting_up} --apply makes these changes")


def _tell(postconf: Postconf, changes: list[Change]) -> None:
    for change in changes:
        print(f"# {change.why}\n{postconf.command(change)}")


def revert(postconf: Postconf, job: Job = SIGN) -> None:
    """Undo all changes that were applied for a job. Raises ConfigError if there are none.

    Later changes for the other job are undone first and then applied again: so the files can be restored
    byte for byte, and a setting that both jobs need is kept.
    """
    directory, other = postconf.directory, filter_service.other(job)
    if not (ours := backup.backups(directory, job)):
        raise ConfigError(f"no backup in {directory}", f"{job.setting_up} --apply was not run here")
    backups, beside = backup.backups(directory), filter_service.find(postconf, other)
    undone = backups[: backups.index(ours[-1]) + 1]
    for each in undone:
        for line in backup.undo(Postconf(directory), each):
            print(line)
    if beside and set(undone) != set(ours):
        print(f"# {other.setting_up} --apply, which was undone as well, is applied again")
        now = Postconf(directory)
        changes = requirements.missing(now, beside.attribute("user") or other.name, other)
        _tell(now, changes)
        backup.edit(now, changes, other)


def reload(postconf: Postconf) -> None:
    """Reload Postfix to activate the changes. Raises ConfigError."""
    command = ["postfix", "-c", str(postconf.directory), "reload"]
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
    if status:
        raise ConfigError(f"postfix reload exited with status {status}")
