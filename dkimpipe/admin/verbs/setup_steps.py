"""The steps of ``dkimpipe setup``, and those that undo it.

Each has an equivalent command, and is left out if it is already done.
"""

from __future__ import annotations

import argparse
import grp
import itertools
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from dkimpipe import publickey, senders
from dkimpipe.address import to_u_labels
from dkimpipe.admin import atomic, invocation, newkey
from dkimpipe.admin.maps import configured, entries, exposure
from dkimpipe.admin.postfix import apply, backup, filter_service, filter_user, program
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.rotation import state
from dkimpipe.admin.verbs import held_back
from dkimpipe.config import SENDER_MAP, Settings
from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError

DIRECTORY = Path(SENDER_MAP).parent
KEYS = Path(newkey.DIRECTORY)
LINK = Path("/usr/local/bin", invocation.NAME)  # in the PATH of root and, except on RHEL, of sudo(8)
_KEY_TYPES = {"rsa": f"{newkey.BITS}-bit RSA", "ed25519": "Ed25519"}
_NO_HOME = "/nonexistent"
_USER_COMMENT = "dkimpipe setup"  # the comment in passwd(5) of a user that setup created
_AFTER_REMOVAL = "then: postfix reload, and postsuper -r ALL if the queue holds mail for the filter"
_HEADER = "# who    what to add\n"
_LAST_REMOVED = """\
# this was the last entry: Postfix still passes mail to the filter, which signs none of it
# to take the filter out of Postfix: dkimpipe setup --remove && postfix reload"""


class Step(NamedTuple):
    """One step: its reason, its command, and a function that does the same."""

    why: str
    command: str
    take: Callable[[], object]


def take(steps: Iterator[Step], dry_run: bool) -> None:
    """Print each step, and take it unless this is a dry run."""
    taken = False
    for step in steps:
        print(f"# {step.why}\n{step.command}")
        taken = True
        if not dry_run:
            step.take()
    if not taken:
        print("nothing to do")


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
    if not filter_user.exists(user):
        own_group = ["--gid", user] if _group_id(user) is not None else ["--user-group"]
        command = ["useradd", "--system", *own_group, "--no-create-home", "--home-dir", _NO_HOME]
        command += ["--shell", shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"]
        command += ["--comment", _USER_COMMENT, user]
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
    is_held = bool(domains) and not options.now and _is_signing(postconf, path)
    for domain in domains:
        if pairs := missing_pairs(domain, options, path):
            yield from _key_steps(domain, pairs, group, options.ed25519)
            yield from _entry_steps(domain, pairs, group, path, is_held)
        else:
            foreign = options.ed25519 and not _own_line(domain, path)
            why = "setup did not write it: add a second signature by hand" if foreign else ""
            print(f"# {domain} has an entry in {path}, which is left unchanged{why and f' ({why})'}")
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
    yield from _link_steps()


def _is_signing(postconf: Postconf, path: Path) -> bool:
    """Return whether Postfix runs the filter, and the senders file or its directory has an entry."""
    if not filter_service.find(postconf):
        return False
    lines = path.read_text(errors="surrogateescape").splitlines(keepends=True) if path.exists() else []
    return _has_entries(path, lines)


def _has_entries(path: Path, lines: list[str]) -> bool:
    """Return whether there is an entry in these lines of the senders file, or in its directory."""
    octets = (line.encode(errors="surrogateescape") for line in lines)
    more = (entry for each in senders.more_maps(str(path)) for entry in entries.entries(each))
    return any(True for _ in itertools.chain(entries.entries_of(octets, str(path)), more))


def removal(
    postconf: Postconf, user: str, domains: list[str], path: Path, settings: Settings
) -> Iterator[Step]:
    """Yield the steps that undo the setup of these domains, or all of it. Keys and edited lines are kept."""
    if not domains and backup.backups(postconf.directory, SIGN):
        command = f"{invocation.by_path()} postfix -c {shlex.quote(str(postconf.directory))} --revert"
        yield Step("restore the configuration of Postfix", command, lambda: apply.revert(postconf))
    if path.exists():
        yield from _entry_removal_steps(postconf, path, domains)
    elif domains:
        print(f"# there is no {path}")
    if domains:
        yield from _set_aside_steps(domains, path, settings)
        return
    for left in (*sorted(KEYS.glob("*.pem")), KEYS / state.NAME, KEYS, DIRECTORY):
        if left.is_dir() and not list(left.iterdir()):
            yield _command("remove the empty directory", ["rmdir", str(left)])
        elif left.exists():
            print(f"# {left} is kept")
            if left.stat().st_gid:
                yield _command("make it readable for root only", ["chown", "root:root", str(left)])
    if filter_user.exists(user):
        if pwd.getpwnam(user).pw_gecos == _USER_COMMENT:
            yield _command("remove the user", ["userdel", user])
        else:
            print(f"# user {user} was not created by setup, and is kept")
    if LINK.is_symlink() and Path(os.path.realpath(LINK)) == invocation.script():
        yield _command("remove the command from PATH", ["rm", str(LINK)])
    print(f"# leave the records in DNS for some weeks: messages in transit need them\n# {_AFTER_REMOVAL}")


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
        yield _command("the command in PATH", ["ln", "-s", str(script), str(LINK)])


def _key_steps(domain: str, pairs: list[held_back.Pair], group: str, with_ed25519: bool) -> Iterator[Step]:
    for selector, path in pairs:
        kind = "ed25519" if with_ed25519 and selector.endswith("e") else "rsa"
        if path.exists():
            status = path.stat()
            if status.st_gid != _group_id(group):
                yield _command(f"use the existing key for {domain}", ["chgrp", group, str(path)])
            if status.st_mode & 0o777 != 0o440:
                yield _command("let that user read it", ["chmod", "0440", str(path)])
            continue
        command = f"genkey {domain} --type {kind} --selector {selector} --group {group}"
        yield Step(
            f"a key for {domain}, {_KEY_TYPES[kind]}",
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
    if not (own := _own_line(domain, path)):
        return Step(f"sign mail of {domain}", f"echo '{line}' >> {path}", lambda: _append(path, line, group))
    more = f", {line.partition('  ')[2]}"
    before = path.read_bytes()
    longer = own.replace(b")\n", f"){more}\n".encode()) if own.endswith(b"\n") else own + more.encode()
    after = b"".join(longer if line == own else line for line in before.splitlines(keepends=True))
    command = ["sed", "-i", f"/^{re.escape(domain)} /s|$|{more}|", str(path)]
    why = f"sign mail of {domain} with the second key, too"
    return Step(why, shlex.join(command), lambda: atomic.edit(path, before, after))


def missing_pairs(domain: str, options: argparse.Namespace, path: Path) -> list[held_back.Pair]:
    """Return the selectors and key files that the entry of a domain is to get; none if it has them.

    An entry that setup wrote can get an Ed25519 key.
    """
    found = entry(domain, path)
    if not found:
        return pairs_of(domain, options)
    if not (options.ed25519 and _own_line(domain, path)):
        return []
    keys = [signature.options["keyfile"] for signature in senders.parse(found.text, found.place)]
    if any(publickey.public(key)[0] == "ed25519" for key in keys):
        return []
    earlier = held_back.ed25519_key(KEYS, domain) if options.selector is None else None
    selector = newkey.selectors(options.selector, tuple(_KEY_TYPES))["ed25519"]
    return [earlier or (selector, newkey.key_path(KEYS, domain, selector))]


def pairs_of(domain: str, options: argparse.Namespace) -> list[held_back.Pair]:
    """Return the selectors and key files of a new entry: those of an earlier run, if there are any."""
    earlier = held_back.keys(KEYS, domain) if options.selector is None else []
    if not (options.ed25519 or all(held_back.is_given_up(key) for _, key in earlier)):
        earlier = [pair for pair in earlier if not held_back.is_given_up(pair[1])] or earlier
    if earlier and options.ed25519 and not earlier[-1][0].endswith("e"):
        second = f"{earlier[0][0][:6]}e"
        earlier.append((second, newkey.key_path(KEYS, domain, second)))
    types = ("rsa", "ed25519") if options.ed25519 else ("rsa",)
    selectors = newkey.selectors(options.selector, types).values()
    return earlier or [(each, newkey.key_path(KEYS, domain, each)) for each in selectors]


def _append(path: Path, line: str, group: str) -> None:
    if path.exists():
        octets = path.read_bytes()
        line_end = b"" if octets.endswith(b"\n") or not octets else b"\n"
        atomic.write_like(path, octets + line_end + line.encode() + b"\n", path)
    else:
        atomic.create(path, f"{_HEADER}{line}\n".encode(), 0o640, 0, grp.getgrnam(group).gr_gid)


def _own_line(domain: str, path: Path) -> bytes:
    """Return the line that setup wrote for a domain, with its end; empty if there is none."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    ours = [line for line in lines if _is_ours(line.decode(errors="surrogateescape"), [domain])]
    return ours[0] if len(ours) == 1 else b""


def _entry_removal_steps(postconf: Postconf, path: Path, domains: list[str]) -> Iterator[Step]:
    lines = path.read_text(errors="surrogateescape").splitlines(keepends=True)
    ours = [line for line in lines if _is_ours(line, domains)]
    left = [line for line in lines if line not in ours]
    for domain in domains:
        if entry(domain, path) and not any(line.split(" ")[0] == domain for line in ours):
            print(f"# the entry of {domain} was not written by setup: remove it from {path} by hand")
    for line in ours:
        print(f"# remove: {line.strip()}")
    is_bare = "".join(left) in ("", _HEADER)
    if is_bare and not domains:
        yield _command("remove the senders file, which setup created", ["rm", str(path)])
        return
    if ours:
        octets = "".join(left or [_HEADER]).encode(errors="surrogateescape")
        command = ["sed", "-i", *(f"-e /^{re.escape(line.split(' ')[0])} /d" for line in ours), str(path)]
        why = "keep the file: without it, the filter defers all mail" if is_bare else "keep the other lines"
        shown = shlex.join(command) if left else f"echo '{_HEADER.strip()}' > {path}"
        yield Step(why, shown, lambda: atomic.write_like(path, octets, path))
        if domains and filter_service.find(postconf) and not _has_entries(path, left):
            print(_LAST_REMOVED)
    if not domains and path.stat().st_gid:
        yield _command("make it readable for root only", ["chown", "root:root", str(path)])


def _set_aside_steps(domains: list[str], path: Path, settings: Settings) -> Iterator[Step]:
    """Yield the steps that keep the keys of these domains from the filter, unless other entries use them."""
    for domain in domains:
        for key in keys_of(domain):
            if _stays_in_use(key, domains, path, settings):
                continue
            print(f"# {key} is kept")
            if key.stat().st_gid:
                yield _command("make it readable for root only", ["chown", "root:root", str(key)])


def keys_of(domain: str) -> list[Path]:
    """Return the key files of a domain, and not those of another that begins with it."""
    return sorted(path for path in KEYS.glob(f"{domain}.*.pem") if "." not in path.stem[len(domain) + 1 :])


def _stays_in_use(key: Path, domains: list[str], path: Path, settings: Settings) -> bool:
    """Return whether an entry that is not removed with these domains may use a key; True if unsure."""
    try:
        lines = configured.lines(settings)
    except ConfigError:
        return True
    ours = [_own_line(domain, path).decode(errors="surrogateescape") for domain in domains]
    texts = [line.text for line in lines if f"{line.key}  {line.text}" not in map(str.strip, ours)]
    return settings.get("keyfile") == str(key) or any(str(key) in text or "$" in text for text in texts)


def _is_ours(line: str, domains: list[str]) -> bool:
    """Return whether setup wrote this line, for one of these domains or, without domains, for any.

    An earlier version wrote lines without c=.
    """
    domain = line.split(" ")[0]
    key = rf"{re.escape(str(KEYS))}/{re.escape(domain)}\.[^,()/]+\.pem"
    item = rf"dkim\((c=relaxed/relaxed,)?s=[^,()]+,key={key}\)"
    return bool(re.fullmatch(rf"\S+  {item}(, {item})*\n?", line)) and (not domains or domain in domains)


def entry(domain: str, path: Path) -> senders.Entry | None:
    """Return the entry of the senders file for this very domain."""
    keys = dict.fromkeys([domain.encode(), to_u_labels(domain.encode())])
    return senders.lookup_in_all(str(path), list(keys)) if path.exists() else None


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
        hint = install_command(command[0]) if command[0] == "useradd" else ""
        raise ConfigError(f"cannot run {command[0]}: {error.strerror}", hint) from None
    if done.returncode:
        raise ConfigError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")
