"""``dkimpipe setup``: set up the signing of mail, or undo it.

Each step is printed as an equivalent command, and skipped if it is already done, so setup can be run again
for another domain or after an interruption.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from dkimpipe import publickey, senders
from dkimpipe.address import Mailbox, to_u_labels
from dkimpipe.admin import atomic, newkey
from dkimpipe.admin.dns import record
from dkimpipe.admin.findings import NOTE, Finding, print_findings
from dkimpipe.admin.postfix import (
    apply,
    backup,
    doctor,
    filter_service,
    filter_user,
    open_services,
    program,
    requirements,
    routing,
)
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.selftest import trial
from dkimpipe.admin.rotation import state
from dkimpipe.admin.selinux import survey
from dkimpipe.admin.verbs import postfix
from dkimpipe.config import SENDER_MAP, Settings, read_settings
from dkimpipe.errors import ConfigError
from dkimpipe.options import complete, macros

DIRECTORY = Path(SENDER_MAP).parent
KEYS = Path(newkey.DIRECTORY)
KEY_TYPES = {"rsa": f"{newkey.BITS}-bit RSA", "ed25519": "Ed25519"}
NO_HOME = "/nonexistent"
USER_COMMENT = "dkimpipe setup"  # the comment in passwd(5) of a user that setup created
AFTER_REMOVAL = "then: postfix reload, and postsuper -r ALL if the queue holds mail for the filter"
HEADER = "# who    what to add\n"


class Step(NamedTuple):
    """One step: its reason, its command, and a function that does the same."""

    why: str
    command: str
    take: Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("domains", nargs="*", metavar="DOMAIN", help="sign mail of this domain")
    postfix.add_instance(parser)
    parser.add_argument("--selector", help="the selector of the keys (default: year and month)")
    parser.add_argument(
        "--ed25519", action="store_true", help="create a second key for each domain, of type Ed25519"
    )
    parser.add_argument("--dry-run", action="store_true", help="print each step without taking it")
    postfix.add_kinds(parser)
    postfix.add_open(parser)
    parser.add_argument("--remove", action="store_true", help="undo the setup, for these domains or for all")
    parser.add_argument(
        "--reload", action="store_true", help="reload Postfix afterwards (never done by default)"
    )


def run(options: argparse.Namespace) -> int:
    """Take or print the steps, and print what remains to be done; return 0, or 78 if there are errors."""
    if not options.dry_run and os.geteuid() != 0:
        raise ConfigError(
            "setup must be run as root", "--dry-run prints the steps, and can be run as any user"
        )
    domains = list(dict.fromkeys(map(newkey.to_domain, options.domains)))
    newkey.selectors(options.selector, ())  # refuse an invalid one before anything is done
    postconf = Postconf(options.directory)
    user, group = _account(postconf, options.user)
    service = filter_service.find(postconf)
    settings = read_settings(doctor.options(service) if service else [])
    path = _senders(settings)
    try:
        refuse_unsafe_files([DIRECTORY, KEYS], [path, *KEYS.glob("*.pem")])
        if options.remove:
            _refuse_if_used(postconf, domains)
            _take_steps(_removal_steps(postconf, user, domains, path), options.dry_run)
            return 0
        changes = _changes(postconf, options)
        filter_user.refuse_user(postconf, user, group)
        _take_steps(_setup_steps(postconf, (user, group), domains, options, path, changes), options.dry_run)
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", "run it as root") from None
    return 0 if options.dry_run else _conclude(options, domains, settings)


def _changes(postconf: Postconf, options: argparse.Namespace) -> list[Change]:
    """Return the changes of Postfix's configuration. Raises ConfigError if they would do harm."""
    if not options.domains:
        raise ConfigError("no domain given", "dkimpipe setup example.com")
    routing.refuse_another_filter(postconf)
    chosen = requirements.plan(postconf, SIGN, options.sign, options.relay)
    if not options.open:
        open_services.refuse(postconf)
    return requirements.missing(postconf, options.user, SIGN, chosen)


def _conclude(options: argparse.Namespace, domains: list[str], settings: Settings) -> int:
    """Check the result, and print what remains to be done; return 0, or 78 if there are errors."""
    postconf = Postconf(options.directory)
    print()
    findings = _findings(postconf, options.user, domains, _senders(settings))
    success = f"Postfix is set up, and signs mail from {', '.join(domains)}"
    status = print_findings([each for each in findings if each.level != NOTE], success)
    for domain in domains:
        _print_records(domain, settings)
    if options.reload and not status:
        apply.reload(postconf)
    elif not status:
        print("\nMake Postfix use the new configuration:\n\n    postfix reload")
    for note in (each for each in findings if each.level == NOTE):
        hint = note.hint.replace("\n", "\n    ")
        print(f"\n{note.what[0].upper()}{note.what[1:]}\n\n    {hint}")
    return status


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


def _take_steps(steps: Iterator[Step], dry_run: bool) -> None:
    taken = False
    for step in steps:
        print(f"# {step.why}\n{step.command}")
        taken = True
        if not dry_run:
            step.take()
    if not taken:
        print("nothing to do")


def _setup_steps(
    postconf: Postconf,
    account: tuple[str, str],
    domains: list[str],
    options: argparse.Namespace,
    path: Path,
    changes: list[Change],
) -> Iterator[Step]:
    user, group = account
    if not filter_user.exists(user):
        own_group = ["--gid", user] if _group_id(user) is not None else ["--user-group"]
        command = ["useradd", "--system", *own_group, "--no-create-home", "--home-dir", NO_HOME]
        command += ["--shell", shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"]
        command += ["--comment", USER_COMMENT, user]
        yield _command("the user that the filter runs as: it owns nothing and cannot log in", command)
    # The user that verifies has its conf file there, too; only the keys need a private directory.
    if not (DIRECTORY.exists() and DIRECTORY.stat().st_mode & 0o001):
        command = ["install", "-d", "-o", "root", "-g", "root", "-m", "0755", str(DIRECTORY)]
        yield _command("a directory for conf files and the senders file", command)
    if not (KEYS.exists() and _gives_access(KEYS, group, 0o010)):
        command = ["install", "-d", "-o", "root", "-g", group, "-m", "0750", str(KEYS)]
        yield _command("a directory for the keys", command)
    if path.exists() and not _gives_access(path, group, 0o040):
        yield _command("let that user read the senders file", ["chgrp", group, str(path)])
    for domain in domains:
        if _entry(domain, path):
            print(f"# {domain} has an entry in {path}, which is left unchanged")
        else:
            yield from _domain_steps(domain, group, options, path)
    interpreter, _, main = filter_service.installed_command(SIGN)
    package = Path(main).parent
    if not program.is_compiled(package, interpreter):
        yield _command(
            "compile once, not again for each message", program.compile_command(package, interpreter)
        )
    if changes:
        commands = [f"# {change.why}\n{postconf.command(change)}" for change in changes]
        why = f"Postfix: pass mail to dkimpipe (main.cf and master.cf are backed up in {backup.NAME}...)"
        yield Step(why, "\n".join(commands), lambda: backup.edit(postconf, changes))


def _domain_steps(domain: str, group: str, options: argparse.Namespace, senders_path: Path) -> Iterator[Step]:
    types = ("rsa", "ed25519") if options.ed25519 else ("rsa",)
    pairs = []
    for kind, selector in newkey.selectors(options.selector, types).items():
        path = newkey.key_path(KEYS, domain, selector)
        pairs.append((selector, path))
        if path.exists():
            yield _command(f"use the existing key for {domain}", ["chgrp", group, str(path)])
            yield _command("let that user read it", ["chmod", "0440", str(path)])
            continue
        command = f"dkimpipe genkey {domain} --type {kind} --selector {selector} --group {group}"
        yield Step(
            f"a key for {domain}, {KEY_TYPES[kind]}",
            command,
            lambda path=path, kind=kind: newkey.create(path, kind, newkey.BITS, group),  # type: ignore[misc]
        )
    line = newkey.senders_line(domain, pairs)
    command = f"echo '{line}' >> {senders_path}"
    yield Step(f"sign mail of {domain}", command, lambda: _append(senders_path, line, group))


def _append(path: Path, line: str, group: str) -> None:
    if path.exists():
        octets = path.read_bytes()
        line_end = b"" if octets.endswith(b"\n") or not octets else b"\n"
        atomic.write_like(path, octets + line_end + line.encode() + b"\n", path)
    else:
        atomic.create(path, f"{HEADER}{line}\n".encode(), 0o640, 0, grp.getgrnam(group).gr_gid)


def _removal_steps(postconf: Postconf, user: str, domains: list[str], path: Path) -> Iterator[Step]:
    """Yield the steps that undo the setup of these domains, or all of it. Keys and edited lines are kept."""
    if not domains and backup.backups(postconf.directory, SIGN):
        command = shlex.join(["dkimpipe", "postfix", "-c", str(postconf.directory), "--revert"])
        yield Step("restore the configuration of Postfix", command, lambda: apply.revert(postconf))
    if path.exists():
        yield from _entry_removal_steps(path, domains)
    elif domains:
        print(f"# there is no {path}")
    if domains:
        return
    for left in (*sorted(KEYS.glob("*.pem")), KEYS / state.NAME, KEYS, DIRECTORY):
        if left.is_dir() and not list(left.iterdir()):
            yield _command("remove the empty directory", ["rmdir", str(left)])
        elif left.exists():
            print(f"# {left} is kept")
            if left.stat().st_gid:
                yield _command("make it readable for root only", ["chown", "root:root", str(left)])
    if filter_user.exists(user):
        if pwd.getpwnam(user).pw_gecos == USER_COMMENT:
            yield _command("remove the user", ["userdel", user])
        else:
            print(f"# user {user} was not created by setup, and is kept")
    print(f"# leave the records in DNS for some weeks: messages in transit need them\n# {AFTER_REMOVAL}")


def _entry_removal_steps(path: Path, domains: list[str]) -> Iterator[Step]:
    lines = path.read_text(errors="surrogateescape").splitlines(keepends=True)
    ours = [line for line in lines if _is_ours(line, domains)]
    left = [line for line in lines if line not in ours]
    for domain in domains:
        if _entry(domain, path) and not any(line.split(" ")[0] == domain for line in ours):
            print(f"# the entry of {domain} was not written by setup: remove it from {path} by hand")
    for line in ours:
        print(f"# remove: {line.strip()}")
    entries = [line for line in left if line.strip() and line[0] not in "#;"]
    if ours and not entries and "".join(left) == HEADER:
        yield _command("remove the senders file, which setup created", ["rm", str(path)])
        return
    if ours:
        octets = "".join(left).encode(errors="surrogateescape")
        command = ["sed", "-i", *(f"-e /^{re.escape(line.split(' ')[0])} /d" for line in ours), str(path)]
        yield Step("keep the other lines", shlex.join(command), lambda: atomic.write_like(path, octets, path))
    if not domains and path.stat().st_gid:
        yield _command("make it readable for root only", ["chown", "root:root", str(path)])


def _is_ours(line: str, domains: list[str]) -> bool:
    """Return whether setup wrote this line, for one of these domains or, without domains, for any."""
    domain = line.split(" ")[0]
    item = rf"dkim\(s=[^,()]+,key={re.escape(str(KEYS))}/{re.escape(domain)}\.[^,()/]+\.pem\)"
    return bool(re.fullmatch(rf"\S+  {item}(, {item})*\n?", line)) and (not domains or domain in domains)


def _findings(postconf: Postconf, user: str, domains: list[str], path: Path) -> list[Finding]:
    """Check the whole setup, and run the filter as its user with a message for each domain.

    If an entry is limited to certain senders, it is enough that the filter runs.
    """
    findings = doctor.findings(postconf, user)
    service = filter_service.find(postconf)
    if service:
        for domain in domains:
            report = "signed " if _is_for_all(_entry(domain, path)) else ""
            findings += trial(service, f"postmaster@{domain}", report)
    return [*findings, *survey.findings(postconf, SIGN, map(str, KEYS.glob("*.pem")))]


def _print_records(domain: str, settings: Settings) -> None:
    """Print the records to publish for a domain, and how to test them."""
    entry = _entry(domain, _senders(settings))
    for signature in senders.parse(entry.text, entry.place) if entry else ():
        sender = Mailbox(b"postmaster", domain.encode())
        options = complete(signature, settings, macros(sender, sender.domain))
        owner = publickey.record_name(options.selector.decode(), signature.options.get("domain", domain))
        value = publickey.record_value(options.keyfile)
        print(f"\nPublish in DNS:\n\n    {record.zone_line(owner, value)}\n")
        print(f"In a web form, the name is {owner}, the type TXT, and the value\n\n    {value}\n")
        print(f"Test it:\n\n    dig +short TXT {owner}")


def _senders(settings: Settings) -> Path:
    return Path(settings.get("sender_map", SENDER_MAP))


def _entry(domain: str, path: Path) -> senders.Entry | None:
    """Return the entry of the senders file for this very domain."""
    keys = dict.fromkeys([domain.encode(), to_u_labels(domain.encode())])
    return senders.lookup(str(path), list(keys)) if path.exists() else None


def _is_for_all(entry: senders.Entry | None) -> bool:
    """Return whether an entry has a signature that is not limited to certain senders."""
    signatures = senders.parse(entry.text, entry.place) if entry else []
    return any(each.options.keys().isdisjoint(senders.PERMISSIONS) for each in signatures)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _gives_access(path: Path, group: str, bit: int) -> bool:
    """Return whether a group, or everyone, may search a directory (0o010) or read a file (0o040)."""
    status = path.stat()
    return bool((status.st_gid == _group_id(group) and status.st_mode & bit) or status.st_mode & bit >> 3)


def _command(why: str, command: list[str]) -> Step:
    return Step(why, shlex.join(command), lambda: _run(command))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    except OSError as error:
        raise ConfigError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise ConfigError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")
