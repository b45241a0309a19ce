"""``dkimpipe setup``: set up the signing of mail, or undo it.

Each step is printed as an equivalent command, and skipped if it is already done, so setup can be run again
for another domain or after an interruption.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from dkimpipe import publickey, senders
from dkimpipe.address import Mailbox
from dkimpipe.admin import newkey
from dkimpipe.admin.dns import record
from dkimpipe.admin.findings import NOTE, Finding, print_findings
from dkimpipe.admin.invocation import NAME, runnable
from dkimpipe.admin.postfix import (
    apply,
    arguments,
    backup,
    doctor,
    fatal,
    filter_service,
    filter_user,
    open_services,
    origin,
    planning,
    requirements,
    routing,
    submission,
)
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.selftest import trial
from dkimpipe.admin.selinux import survey
from dkimpipe.admin.verbs import held_back, postfix, setup_entries, setup_steps
from dkimpipe.admin.verbs.setup_removal import removal
from dkimpipe.admin.verbs.steps import take
from dkimpipe.config import SENDER_MAP, Settings, read_settings
from dkimpipe.errors import ConfigError
from dkimpipe.options import complete, macros

_BY_POSTFIX = (
    f"# take over the files of DKIMproxy first: man dkimpipe-dkimproxy\n{NAME} postfix --apply --reload"
)
_DEFAULTS = {"user": SIGN.name, "directory": os.environ.get("MAIL_CONFIG")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("domains", nargs="*", metavar="DOMAIN", help="sign mail of this domain")
    postfix.add_instance(parser)
    parser.add_argument("--selector", help="the selector of the keys (default: year and month)")
    parser.add_argument(
        "--ed25519", action="store_true", help="create a second key for each domain, of type Ed25519"
    )
    parser.add_argument(
        "--now", action="store_true", help="sign mail of a further domain before its record is in DNS"
    )
    parser.add_argument("--dry-run", action="store_true", help="print each step without taking it")
    postfix.add_kinds(parser)
    postfix.add_open(parser)
    postfix.add_submission(parser)
    parser.add_argument("--remove", action="store_true", help="undo the setup, for these domains or for all")
    parser.add_argument(
        "--reload", action="store_true", help="reload Postfix afterwards (never done by default)"
    )


def run(options: argparse.Namespace) -> int:
    """Take or print the steps, and print what remains to be done; return 0, or 78 if there are errors."""
    if not options.dry_run and os.geteuid() != 0:
        raise ConfigError(
            "setup must be run as root", "--dry-run prints the steps, before the first setup as any user"
        )
    domains = list(dict.fromkeys(map(newkey.to_domain, options.domains)))
    newkey.selectors(options.selector, ())  # refuse an invalid one before anything is done
    postconf = Postconf(options.directory)
    user, group = _account(postconf, options.user)
    service = filter_service.find(postconf)
    settings = read_settings(doctor.options(service) if service else [])
    path = _senders(settings)
    try:
        refuse_unsafe_files(
            [setup_entries.DIRECTORY, setup_entries.KEYS], [path, *setup_entries.KEYS.glob("*.pem")]
        )
        if options.remove:
            _refuse_if_used(postconf, domains)
            take(removal(postconf, user, domains, path, settings), options.dry_run)
            return 0
        changes = _changes(postconf, options)
        filter_user.refuse_user(postconf, user, group)
        take(setup_steps.setup(postconf, (user, group), domains, options, path, changes), options.dry_run)
    except PermissionError as error:
        cause = f"{error.filename}: {error.strerror}"
        if not options.dry_run or os.geteuid() == 0:
            raise ConfigError(cause, "run it as root") from None
        what = f"dkimpipe is set up here, and only root can see which steps are left: {cause}"
        again = shlex.join(["sudo", NAME, "setup", *_given(options), *options.domains])
        raise ConfigError(what, again) from None
    if options.dry_run:
        return 0
    return _conclude(options, Postconf(options.directory) if changes else postconf, domains, settings)


def _changes(postconf: Postconf, options: argparse.Namespace) -> list[Change]:
    """Return the changes of Postfix's configuration. Raises ConfigError if they would do harm."""
    if not options.domains:
        raise ConfigError("no domain given", shlex.join([NAME, "setup", *_given(options), "example.com"]))
    fatal.refuse(postconf)
    arguments.refuse(postconf)
    if options.submission:
        postconf = postconf.assuming(submission.missing(postconf))
    routing.refuse_another_filter(postconf)
    chosen = planning.plan(postconf, SIGN, options.sign, options.relay)
    if not options.open:
        open_services.refuse(postconf)
    changes = [*postconf.assumed, *requirements.missing(postconf, options.user, SIGN, chosen)]
    if not options.dry_run:
        apply.refuse_gap(postconf, changes, _BY_POSTFIX)
    return changes


def _given(options: argparse.Namespace) -> Iterator[str]:
    """Yield the words of the command line without the domains; options with their default are left out."""
    for name, value in vars(options).items():
        if not value or value == _DEFAULTS.get(name) or name == "domains":
            continue
        yield "-c" if name == "directory" else f"--{name.replace('_', '-')}"
        if value is not True:
            yield value if isinstance(value, str) else ",".join(value)


def _conclude(options: argparse.Namespace, postconf: Postconf, domains: list[str], settings: Settings) -> int:
    """Check the result, and print what remains to be done; return 0, or 78 if there are errors.

    ``postconf`` is the configuration after the steps.
    """
    instance = ["-c", options.directory] if options.directory else []
    print()
    findings = _findings(postconf, options.user, domains, _senders(settings))
    signed = [domain for domain in domains if setup_entries.entry(domain, _senders(settings))]
    success = f"Postfix is set up, and signs mail from {', '.join(signed)}" if signed else "Postfix is set up"
    status = print_findings([each for each in findings if each.level != NOTE], success)
    for domain in signed:
        _print_records(domain, settings)
    if signed:
        _print_command("When DNS has this, the check finds no error", ["check", *instance, "--dns"])
    if _print_held(domains, options, _senders(settings)):
        return status
    if options.reload and not status:
        apply.reload(postconf)
    elif not status:
        print("\nMake Postfix use the new configuration:\n\n    postfix reload")
    for note in (each for each in findings if each.level == NOTE):
        hint = runnable(note.hint).replace("\n", "\n    ")
        print(f"\n{note.what[0].upper()}{note.what[1:]}\n\n    {hint}")
    return status


def _print_held(domains: list[str], options: argparse.Namespace, path: Path) -> bool:
    """Print the records of the keys that are held back, if any, and how they come to sign."""
    pairs = {domain: setup_entries.missing_pairs(domain, options, path) for domain in domains}
    held = [domain for domain in domains if pairs[domain]]
    for domain in held:
        for owner, value in held_back.records(domain, pairs[domain]):
            _print_record(owner, domain, value)
    if held:
        words = ["setup", *(["-c", options.directory] if options.directory else [])]
        words += ["--selector", options.selector] if options.selector else []
        words += ["--ed25519"] if options.ed25519 else []
        _print_command("Mail is signed with this when DNS has it, and this is run again", [*words, *held])
        print("\nWith --now it is signed at once.")
    return bool(held)


def refuse_unsafe_files(directories: list[Path], files: list[Path]) -> None:
    """Raise ConfigError unless these are of the right kind and not writable by others: root edits them."""
    for path in (*directories, *files):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        is_right_kind = stat.S_ISDIR if path in directories else stat.S_ISREG
        if not is_right_kind(status.st_mode):
            what = "directory" if path in directories else "regular file"
            raise ConfigError(f"{path} is not a {what}", f"see what it is: ls -ld {path}")
        if status.st_mode & 0o022 or (path in directories and status.st_uid):
            mode = status.st_mode & 0o755
            raise ConfigError(f"others can write {path}", f"chown root {path}; chmod {mode:04o} {path}")


def _refuse_if_used(postconf: Postconf, domains: list[str]) -> None:
    """Raise ConfigError if a Postfix instance that --remove does not change still runs the filter."""
    if domains:
        return
    system = Postconf()
    others = [system.directory, *map(Path, system.words("multi_instance_directories"))]
    for directory in dict.fromkeys(others):
        other = postconf if directory == postconf.directory else Postconf(directory)
        is_ours = directory == postconf.directory and backup.backups(directory, SIGN)
        if filter_service.find(other) and not is_ours:
            raise ConfigError(
                f"{directory / 'master.cf'} still runs the filter, and was not changed by setup",
                f"dkimpipe postfix -c {directory} --revert, or remove the service by hand",
            )


def _account(postconf: Postconf, wanted_user: str) -> tuple[str, str]:
    """Return the user and group that pipe(8) runs the filter as."""
    service = filter_service.find(postconf)
    user, _, group = ((service and service.attribute("user")) or wanted_user).partition(":")
    if not group and filter_user.exists(user):
        group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    return user, group or user


def prepare(postconf: Postconf, wanted_user: str) -> str:
    """Create the filter's user and directories, as far as they are missing; return its group.

    Raises ConfigError and OSError.
    """
    user, group = _account(postconf, wanted_user)
    filter_user.refuse_user(postconf, user, group)
    steps = list(setup_steps.setup(postconf, (user, group), [], argparse.Namespace(), Path(SENDER_MAP), []))
    if steps:
        take(iter(steps), dry_run=False)
    return group


def _findings(postconf: Postconf, user: str, domains: list[str], path: Path) -> list[Finding]:
    """Check the whole setup, and run the filter as its user with a message for each domain.

    If an entry is limited to certain senders, it is enough that the filter runs.
    """
    findings = doctor.findings(postconf, user)
    service = filter_service.find(postconf)
    if service:
        for domain in domains:
            report = "signed " if _is_for_all(setup_entries.entry(domain, path)) else ""
            findings += trial(service, f"postmaster@{domain}", report)
        findings += origin.findings(postconf)
    return [*findings, *survey.findings(postconf, SIGN, map(str, setup_entries.KEYS.glob("*.pem")))]


def _print_records(domain: str, settings: Settings) -> None:
    """Print the records to publish for a domain."""
    entry = setup_entries.entry(domain, _senders(settings))
    for signature in senders.parse(entry.text, entry.place) if entry else ():
        sender = Mailbox(b"postmaster", domain.encode())
        options = complete(signature, settings, macros(sender, sender.domain))
        owner = publickey.record_name(options.selector.decode(), signature.options.get("domain", domain))
        value = publickey.record_value(options.keyfile)
        _print_record(owner, signature.options.get("domain", domain), value)


def _print_record(owner: str, domain: str, value: str) -> None:
    # At the beginning of the line: in a zone file, a blank there means the name of the record before.
    print(f"\nPublish in DNS:\n\n{record.zone_line(owner, value)}\n")
    short = owner[: -len(domain) - 1]
    print(f"In a web form, the type is TXT. Many forms append {domain} to the name themselves:\n")
    print(f"    the whole name: {owner}\n    the form appends {domain}: {short}\n")
    print(f"The value is\n\n    {value}")


def _print_command(why: str, words: list[str]) -> None:
    print(f"\n{why}:\n\n    {runnable(shlex.join([NAME, *words]))}")


def _senders(settings: Settings) -> Path:
    return Path(settings.get("sender_map", SENDER_MAP))


def _is_for_all(entry: senders.Entry | None) -> bool:
    """Return whether an entry has a signature that is not limited to certain senders."""
    signatures = senders.parse(entry.text, entry.place) if entry else []
    return any(each.options.keys().isdisjoint(senders.PERMISSIONS) for each in signatures)
