"""``dkimpipe postfix``: set up Postfix to sign or verify mail, check the setup, or undo it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dkimpipe.admin.findings import Finding, print_findings
from dkimpipe.admin.postfix import (
    arguments,
    daemons,
    delivery,
    doctor,
    endpoints,
    enumerations,
    fatal,
    filter_service,
    kinds,
    milter_lists,
    milters,
    origin,
    planning,
    restriction_names,
    running,
    sources,
    submission,
    tables,
)
from dkimpipe.admin.postfix.apply import Wanted, apply, reload, revert
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.selftest import trial
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.admin.selinux import survey
from dkimpipe.errors import ConfigError, one_line

SUCCESS = "Postfix is set up"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_instance(parser, user="")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="verify mail from outside (default: sign mail from users)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="make the changes, after a dated backup")
    what.add_argument("--revert", action="store_true", help="undo what --apply did, byte for byte")
    what.add_argument(
        "--check", action="store_true", help="report what is wrong, and run the filter as its user"
    )
    add_kinds(parser)
    add_open(parser)
    add_submission(parser)
    text = "also take these milters out of smtpd_milters and non_smtpd_milters"
    parser.add_argument(
        "--replace-milter", metavar="MILTER,...", dest="milters", type=_milters, default=(), help=text
    )
    parser.add_argument(
        "--reload", action="store_true", help="reload Postfix afterwards (never done by default)"
    )


def add_instance(parser: argparse.ArgumentParser, user: str = SIGN.name) -> None:
    """Add the options for the Postfix instance and the user, whose default depends on the job."""
    parser.add_argument(
        "-c",
        metavar="DIR",
        dest="directory",
        default=os.environ.get("MAIL_CONFIG"),
        help="configuration directory, for another instance",
    )
    names = user or " or ".join(job.name for job in JOBS)
    parser.add_argument("--user", default=user, help=f"the user that runs the filter ({names})")


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which mail is signed, and how it comes back."""
    parser.add_argument(
        "--sign",
        metavar="KIND,...",
        type=kinds.parse,
        default=(),
        help="also sign these kinds of mail: submission, networks, bounces, local, or all"
        " (new installation: all but local)",
    )
    parser.add_argument(
        "--relay",
        action="store_true",
        help="let mail come back by SMTP, to a listener of Postfix, not by sendmail(1)",
    )


def _milters(text: str) -> list[str]:
    return split(text, ",")


def add_open(parser: argparse.ArgumentParser) -> None:
    """Add the option that accepts open services."""
    parser.add_argument(
        "--open", action="store_true", help="connect a service even if strangers may send there"
    )


def add_submission(parser: argparse.ArgumentParser) -> None:
    """Add the option that creates services for mail from users."""
    text = "create the services for mail from users on ports 587 and 465, or give them logins"
    parser.add_argument("--submission", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    """Print, make, undo or check the changes; return 0, or 78 if the check finds errors."""
    postconf = Postconf(options.directory)
    job = VERIFY if options.verify else SIGN
    if options.check:
        return check(postconf, options.user, [job] if options.verify else [])
    if options.revert:
        revert(postconf, job, options.reload)
        return 0
    _set_up(options, postconf, job)
    if options.reload:
        reload(postconf)
    return 0


def _set_up(options: argparse.Namespace, postconf: Postconf, job: Job) -> None:
    if options.submission and job is VERIFY:
        raise ConfigError("--submission is for mail from users, and --verify for mail from outside")
    if options.submission:
        postconf = postconf.assuming(submission.missing(postconf))
    if options.milters:  # before the services are copied that have them
        postconf = postconf.assuming(_without_milters(postconf, options.milters))
    chosen = planning.plan(postconf, job, options.sign, options.relay)
    wanted = Wanted(options.apply, options.reload, options.open)
    apply(postconf, options.user or job.name, job, chosen, wanted)


def _without_milters(postconf: Postconf, replaced: Sequence[str]) -> list[Change]:
    """Return the edits that take milters out of all lists; warn if none has them. Raises ConfigError."""
    if dependent := milters.dmarc_after(postconf, milter_lists.uses(postconf, replaced)):
        raise ConfigError(
            f"{', '.join(dependent)} is OpenDMARC: without the results of {one_line(', '.join(replaced))} it"
            " rejects good mail from outside",
            "leave out --replace-milter, and let the other signer only verify: Mode v in its conf file",
        )
    changes = milter_lists.without(postconf, replaced)
    if not changes:
        named = one_line(", ".join(replaced))
        print(f"dkimpipe: warning: no list of milters has {named}", file=sys.stderr)
    return changes


def check(postconf: Postconf, user: str, jobs: Sequence[Job] = ()) -> int:
    """Check the setup, and print the findings. Return 0, or 78 if there are errors."""
    return print_findings(findings(postconf, user, jobs), SUCCESS)


def findings(postconf: Postconf, user: str, jobs: Sequence[Job] = ()) -> list[Finding]:
    """Return what is wrong with the setup, also when each filter is run once. Raises ConfigError.

    Without jobs, those that are set up, at least in part, are checked.
    """
    fatal.refuse(postconf)
    faults = arguments.faults(postconf)
    everything = list(arguments.findings(postconf, faults))
    postconf = arguments.corrected(postconf, faults)
    for module in (daemons, enumerations, delivery, endpoints):
        everything += module.findings(postconf)
    everything += [*tables.findings(postconf), *restriction_names.findings(postconf)]
    broken = dict(postconf.broken_tables)
    for job in jobs or sources.in_use(postconf):
        known = set(map(_same, everything))
        found = doctor.findings(postconf, user or job.name, job)
        service = filter_service.find(postconf, job)
        fault = trial(service) if service else []
        found += fault
        found += origin.findings(postconf) if job is SIGN and service and not fault else []
        found += survey.findings(postconf, job)
        everything += [each for each in found if _same(each) not in known]
    everything += [*tables.others(postconf, broken), *running.findings(postconf)]
    return everything


def _same(finding: Finding) -> tuple[str, str, str]:
    """Return a value that is the same for both jobs if one fix solves the problem for both."""
    return finding.level, finding.what.partition(": ")[0], finding.hint or finding.what
