"""The steps of ``dkimpipe setup``. Each is left out if it is already done."""

from __future__ import annotations

import argparse
import grp
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import atomic, invocation, newkey
from dkimpipe.admin.maps import exposure
from dkimpipe.admin.postfix import backup, filter_service, filter_user, program
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.verbs import held_back
from dkimpipe.admin.verbs.setup_entries import (
    DIRECTORY,
    HEADER,
    KEY_TYPES,
    KEYS,
    entry,
    has_entries,
    missing_pairs,
    own_line,
)
from dkimpipe.admin.verbs.steps import Step, by_command

LINK = Path("/usr/local/bin", invocation.NAME)  # in the PATH of root and, except on RHEL, of sudo(8)
_NO_HOME = "/nonexistent"
USER_COMMENT = "dkimpipe setup"  # the comment in passwd(5) of a user that setup created


def setup(
    postconf: Postconf,
    account: tuple[str, str],
    domains: list[str],
    options: argparse.Namespace,
    path: Path,
    changes: list[Change],
) -> Iterator[Step]:
    """Yield the steps that set up the signing of mail from these domains."""
    user, group = account
    yield from _user_steps(user)
    yield from _directory_steps(group, path)
    is_held = bool(domains) and not options.now and _is_signing(postconf, path)
    for domain in domains:
        if pairs := missing_pairs(domain, options, path):
            yield from _key_steps(domain, pairs, group, options.ed25519)
            yield from _entry_steps(domain, pairs, group, path, is_held)
        else:
            foreign = options.ed25519 and not own_line(domain, path)
            why = "setup did not write it: add a second signature by hand" if foreign else ""
            print(f"# {domain} has an entry in {path}, which is left unchanged{why and f' ({why})'}")
    interpreter, _, main = filter_service.installed_command(SIGN)
    package = Path(main).parent
    if not program.is_compiled(package, interpreter):
        yield by_command(
            "compile once, not again for each message", program.compile_command(package, interpreter)
        )
    if changes:
        commands = [f"# {change.why}\n{postconf.command(change)}" for change in changes]
        why = f"Postfix: pass mail to dkimpipe (main.cf and master.cf are backed up in {backup.NAME}...)"
        yield Step(why, "\n".join(commands), lambda: backup.edit(postconf, changes))
    yield from _link_steps()


def _user_steps(user: str) -> Iterator[Step]:
    if not filter_user.exists(user):
        own_group = ["--gid", user] if _group_id(user) is not None else ["--user-group"]
        command = ["useradd", "--system", *own_group, "--no-create-home", "--home-dir", _NO_HOME]
        command += ["--shell", shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"]
        command += ["--comment", USER_COMMENT, user]
        yield by_command("the user that the filter runs as: it owns nothing and cannot log in", command)


def _directory_steps(group: str, path: Path) -> Iterator[Step]:
    # The user that verifies has its conf file there, too; only the keys need a private directory.
    if not (DIRECTORY.exists() and DIRECTORY.stat().st_mode & 0o001):
        command = ["install", "-d", "-o", "root", "-g", "root", "-m", "0755", str(DIRECTORY)]
        yield by_command("a directory for conf files and the senders file", command)
    if not (KEYS.exists() and _gives_access(KEYS, group, 0o010)):
        command = ["install", "-d", "-o", "root", "-g", group, "-m", "0750", str(KEYS)]
        yield by_command("a directory for the keys", command)
    if path.exists() and not _gives_access(path, group, 0o040):
        yield by_command("let that user read the senders file", ["chgrp", group, str(path)])


def _is_signing(postconf: Postconf, path: Path) -> bool:
    """Return whether Postfix runs the filter, and the senders file or its directory has an entry."""
    if not filter_service.find(postconf):
        return False
    lines = path.read_text(errors="surrogateescape").splitlines(keepends=True) if path.exists() else []
    return has_entries(path, lines)


def _link_steps() -> Iterator[Step]:
    """Yield the step that puts the command into PATH, unless the name is in use or others can change it."""
    script, found = invocation.script(), invocation.in_path()
    if script is None or script in (found, Path(os.path.realpath(LINK))):
        return
    if found or os.path.lexists(LINK):
        print(f"# {found or LINK} is not this program, and is left unchanged: run {script}")
    elif not LINK.parent.is_dir() or os.statvfs(LINK.parent).f_flag & os.ST_RDONLY:
        print(f"# there can be no link in {LINK.parent}: run {script}")
    elif exposure.exposed([str(script)]):
        print(f"# others can change {script}: there is no link to it in {LINK.parent}")
    else:
        yield by_command("the command in PATH", ["ln", "-s", str(script), str(LINK)])


def _key_steps(domain: str, pairs: list[held_back.Pair], group: str, with_ed25519: bool) -> Iterator[Step]:
    for selector, path in pairs:
        kind = "ed25519" if with_ed25519 and selector.endswith("e") else "rsa"
        if path.exists():
            status = path.stat()
            if status.st_gid != _group_id(group):
                yield by_command(f"use the existing key for {domain}", ["chgrp", group, str(path)])
            if status.st_mode & 0o777 != 0o440:
                yield by_command("let that user read it", ["chmod", "0440", str(path)])
            continue
        command = f"genkey {domain} --type {kind} --selector {selector} --group {group}"
        yield Step(
            f"a key for {domain}, {KEY_TYPES[kind]}",
            f"{invocation.by_path()} {command}",
            lambda path=path, kind=kind: newkey.create(path, kind, newkey.BITS, group),  # type: ignore[misc]
        )


def _entry_steps(
    domain: str, pairs: list[held_back.Pair], group: str, path: Path, is_held: bool
) -> Iterator[Step]:
    """Yield the step that signs with these keys; if it is held back, with those whose records are in DNS."""
    known = held_back.published(domain, pairs) if is_held else pairs
    signing = held_back.usable(pairs, known)
    absent = [pair for pair in pairs if pair not in known]
    if signing:
        yield _entry_step(domain, signing, group, path)
    else:
        which = " with the second key" if entry(domain, path) else ""
        print(f"# mail of {domain} is not signed{which} before its record is in DNS: see below")
    if known and absent:
        names = ", ".join(name for name, _ in held_back.records(domain, absent))
        print(f"# DNS does not have {names}")
    if signing and absent:
        command = invocation.runnable(shlex.join([invocation.NAME, "setup", "--ed25519", domain]))
        print(f"# when it has, sign with this key, too: {command}")
        print(f"# to give this key up: {held_back.giving_up(absent)}")


def _entry_step(domain: str, pairs: list[held_back.Pair], group: str, path: Path) -> Step:
    """Return the step that writes the entry of a domain, or adds signatures to it."""
    line = newkey.senders_line(domain, pairs)
    if not (own := own_line(domain, path)):
        return Step(f"sign mail of {domain}", f"echo '{line}' >> {path}", lambda: _append(path, line, group))
    more = f", {line.partition('  ')[2]}"
    before = path.read_bytes()
    longer = own.replace(b")\n", f"){more}\n".encode()) if own.endswith(b"\n") else own + more.encode()
    after = b"".join(longer if line == own else line for line in before.splitlines(keepends=True))
    command = ["sed", "-i", f"/^{re.escape(domain)} /s|$|{more}|", str(path)]
    why = f"sign mail of {domain} with the second key, too"
    return Step(why, shlex.join(command), lambda: atomic.edit(path, before, after))


def _append(path: Path, line: str, group: str) -> None:
    if path.exists():
        octets = path.read_bytes()
        line_end = b"" if octets.endswith(b"\n") or not octets else b"\n"
        atomic.write_like(path, octets + line_end + line.encode() + b"\n", path)
    else:
        atomic.create(path, f"{HEADER}{line}\n".encode(), 0o640, 0, grp.getgrnam(group).gr_gid)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _gives_access(path: Path, group: str, bit: int) -> bool:
    """Return whether a group, or everyone, may search a directory (0o010) or read a file (0o040)."""
    status = path.stat()
    return bool((status.st_gid == _group_id(group) and status.st_mode & bit) or status.st_mode & bit >> 3)
