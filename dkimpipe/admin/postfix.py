"""``dkimpipe postfix``: tell Postfix to sign or to verify, check that it still does, and undo it."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence

from dkimpipe.admin import backup, doctor, filter_service, filter_user, openings, roads, selinux, wanted
from dkimpipe.admin.filter_service import JOBS, SIGN, VERIFY, Job
from dkimpipe.admin.findings import Finding, tell
from dkimpipe.admin.postconf import Change, Postconf
from dkimpipe.admin.trial import trial
from dkimpipe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add_instance(parser, user="")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="look at mail from outside, to be verified; not at that from users, to be signed",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="make the changes, with a dated backup")
    what.add_argument("--revert", action="store_true", help="undo what --apply did, byte for byte")
    what.add_argument(
        "--check", action="store_true", help="tell what is wrong, and run the filter as its user"
    )
    add_open(parser)
    parser.add_argument("--reload", action="store_true", help="reload Postfix afterwards; never done unasked")


def add_instance(parser: argparse.ArgumentParser, user: str = SIGN.name) -> None:
    """Describe the options that say which Postfix, and which user; by default of the job that it is for."""
    parser.add_argument(
        "-c",
        metavar="DIR",
        dest="directory",
        default=os.environ.get("MAIL_CONFIG"),
        help="configuration directory, for another instance",
    )
    names = user or " or ".join(job.name for job in JOBS)
    parser.add_argument("--user", default=user, help=f"the user that runs the filter ({names})")


def add_open(parser: argparse.ArgumentParser) -> None:
    """Describe the option that lets an open service be."""
    parser.add_argument(
        "--open", action="store_true", help="connect a service even if strangers may send there"
    )


def run(options: argparse.Namespace) -> int:
    """Print, make, undo or check the changes; return 0, or 78 if the check finds errors."""
    postconf = Postconf(options.directory)
    job = VERIFY if options.verify else SIGN
    if options.check:
        return check(postconf, options.user, jobs=[job] if options.verify else [])
    if options.revert:
        revert(postconf, job)
    else:
        apply(postconf, options.user or job.name, job, options.apply, options.open)
    if options.reload:
        reload(postconf)
    return 0


def apply(postconf: Postconf, user: str, job: Job, make: bool, is_open: bool) -> None:
    """Print the changes, and make them if wanted. Raises ConfigError where they would do harm.

    With ``is_open`` strangers may send where mail is to be signed.
    """
    changes = wanted.missing(postconf, user, job)
    roads.refuse_another_filter(postconf, job)
    if job is SIGN and not is_open:
        openings.refuse(postconf)
    if job is VERIFY:
        filter_user.refuse_reader_of_keys(postconf, user)
    if not changes:
        print("nothing to change")
        return
    _tell(postconf, changes)
    if make:
        print(f"# backup in {backup.edit(postconf, changes, job)}; postfix reload makes the changes work")
    else:
        print(f"# {job.setting_up} --apply makes these changes")


def _tell(postconf: Postconf, changes: list[Change]) -> None:
    for change in changes:
        print(f"# {change.why}\n{postconf.command(change)}")


def revert(postconf: Postconf, job: Job = SIGN) -> None:
    """Undo all that was applied for a job. Raises ConfigError if nothing was.

    What was applied later for the other job is undone first, and then made again: so the files can go back
    octet for octet, and both may need one setting.
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
        print(f"# {other.setting_up} --apply, which was undone with it, is made again")
        now = Postconf(directory)
        changes = wanted.missing(now, beside.attribute("user") or other.name, other)
        _tell(now, changes)
        backup.edit(now, changes, other)


def check(postconf: Postconf, user: str, as_json: bool = False, jobs: Sequence[Job] = ()) -> int:
    """Print what is wrong, and what the filters say when their users run them; return 0, or 78 with errors.

    Without jobs it looks at those that Postfix has something of.
    """
    findings: list[Finding] = []
    for job in jobs or wanted.in_use(postconf):
        known = set(map(_same, findings))
        found = doctor.findings(postconf, user or job.name, job)
        service = filter_service.find(postconf, job)
        found += trial(service) if service else []
        found += selinux.findings(postconf, job)
        findings += [each for each in found if _same(each) not in known]
    return tell(findings, "Postfix is set up", as_json)


def _same(finding: Finding) -> tuple[str, str, str]:
    """Return what is the same if one setting is wrong for both jobs, and is mended at once."""
    return finding.level, finding.what.partition(": ")[0], finding.mend or finding.what


def reload(postconf: Postconf) -> None:
    """Let the changes work."""
    command = ["postfix", "-c", str(postconf.directory), "reload"]
    status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell
    if status:
        raise ConfigError(f"postfix reload ended with status {status}")
