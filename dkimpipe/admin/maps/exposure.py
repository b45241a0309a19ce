"""Who else can change the filter's files, or put others in their place, and so controls the signing.

Each file is reached through directories and symbolic links, and anyone who can write one of them can replace
what is below it. Root, the filter's user and the calling user may; any other user or group may not.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Collection, Iterable
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import accounts, acl
from dkimpipe.admin.maps.way import Step, way

_MOVE = "# move the files to a directory that only root can write, such as /etc/dkimpipe"
_KEYS = "/etc/dkimpipe/keys"
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is created there


def exposed(paths: Iterable[str], user: str = "", checked: Collection[str] = ()) -> list[Finding]:
    """Return who else can change a file, or a directory or link on the way to it: one finding for each.

    Files come first. ``user``: the filter's, as in user= of pipe(8). ``checked``: those of the files that are
    secret, and whose mode the filter itself checks: who else can read them is reported, too.
    """
    trusted = _trusted(user)
    groups = _trusted_groups(user)
    found: dict[str, tuple[bool, Finding | None]] = {}
    ways = {path: way(os.path.join(os.getcwd(), path)) for path in dict.fromkeys(paths)}
    moves = _moves(ways, trusted, checked)
    for path, steps in ways.items():
        for step in reversed(steps):
            if not step.status:
                found[step.path] = True, _creation(step, trusted)
            elif step.path not in found:
                is_directory = stat.S_ISDIR(step.status.st_mode)
                is_secret = path in checked and stat.S_ISREG(step.status.st_mode)
                readers = _readers(step, trusted, groups) if is_secret else []
                if not _groups_of(user):  # the group of the file may be the one that will be the filter's
                    readers = [each for each in readers if not _is_own(each)]
                fault = _fault(step, trusted, readers, is_secret)
                if fault and step.path in moves and step.status.st_uid not in trusted:
                    fault = fault._replace(hint="\n".join(moves[step.path]))
                found[step.path] = is_directory, fault
    return [fault for _, fault in sorted(found.values(), key=lambda each: each[0]) if fault]


def _moves(ways: dict[str, list[Step]], trusted: set[int], keys: Collection[str]) -> dict[str, list[str]]:
    """Return the steps on the ways that lead through a person's directory, with how to move the files away.

    The directory stays theirs: a hint must not take it from them.
    """
    moves: dict[str, list[str]] = {}
    for path, steps in ways.items():
        if not any(_is_foreign_home(step, trusted) for step in steps):
            continue
        status = steps[-1].status
        is_key = path in keys and status and stat.S_ISREG(status.st_mode)
        lines = _copy_of_key(path, status) if is_key and status else [_MOVE]
        for step in steps:
            moves[step.path] = list(dict.fromkeys([*moves.get(step.path, []), *lines]))
    return moves


def _is_foreign_home(step: Step, trusted: set[int]) -> bool:
    status = step.status
    if not status or not stat.S_ISDIR(status.st_mode) or status.st_uid in trusted:
        return False
    return accounts.is_persons(step.path, status.st_uid)


def _copy_of_key(path: str, status: os.stat_result) -> list[str]:
    """Return the command that copies a key to the directory of the others, and what is left to do."""
    names = [name for name in path.split("/") if name]
    name = next(("-".join(names[at:]) for at in range(len(names))[::-1] if _is_free(names[at:])), names[-1])
    new = f"{_KEYS}/{name}"
    mode = stat.S_IMODE(status.st_mode) & 0o440
    command = f"install -D -m {mode:04o} -o root -g {status.st_gid}"
    return [
        f"{command} {shlex.quote(path)} {shlex.quote(new)}",
        f"# then write key={new} in the entry, and delete {path}",
    ]


def _is_free(names: list[str]) -> bool:
    return not os.path.lexists(os.path.join(_KEYS, "-".join(names)))


def _trusted(user: str) -> set[int]:
    trusted = {0, os.geteuid()}
    try:
        trusted.add(pwd.getpwnam(user.partition(":")[0]).pw_uid)
    except KeyError:
        pass
    return trusted


def _trusted_groups(user: str) -> set[int]:
    """Return root's group, our own, and that of the filter's user: the one that pipe(8) leaves."""
    return {0, os.getegid(), *_groups_of(user)}


def _groups_of(user: str) -> list[int]:
    """Return the group that pipe(8) leaves to a user; none if it does not exist."""
    name, _, group = user.partition(":")
    try:
        return [grp.getgrnam(group).gr_gid if group else pwd.getpwnam(name).pw_gid]
    except KeyError:
        return []


def _readers(step: Step, trusted: set[int], groups: set[int]) -> list[acl.Entry]:
    """Return who else can read a file by its mode or ACL; GROUP_OBJ has the group of the file as its ID."""
    path, _, status = step
    found = acl.holders(path, acl.READ)
    if found is None and status and status.st_mode & stat.S_IRGRP:
        found = [acl.Entry(acl.GROUP_OBJ, acl.READ, 0)]
    found = [each._replace(id=status.st_gid) if _is_own(each) and status else each for each in found or []]
    may = {acl.USER: trusted, acl.GROUP: groups, acl.GROUP_OBJ: groups}
    return [each for each in found if each.tag in may and each.id not in may[each.tag]]


def _is_own(entry: acl.Entry) -> bool:
    return entry.tag == acl.GROUP_OBJ


class _Writers(NamedTuple):
    """Who can write a file or directory and is not trusted.

    ``words``   describe them, without the file's owner
    ``entries`` are those of its ACL
    """

    words: list[str]
    entries: list[acl.Entry]


def _writers(path: str, status: os.stat_result, trusted: set[int]) -> _Writers:
    """Return them, whether or not a sticky bit limits what they can do. A link's mode has no meaning."""
    if stat.S_ISLNK(status.st_mode):
        return _Writers([], [])
    entries = acl.holders(path, acl.WRITE)
    groups = [accounts.group(status.st_gid)]
    by_mode = groups if status.st_mode & stat.S_IWGRP and status.st_gid else []
    if entries is not None:
        entries = [each for each in entries if each.tag == acl.GROUP_OBJ or not _may(each, trusted)]
        is_group = status.st_gid and any(each.tag == acl.GROUP_OBJ for each in entries)
        by_mode = groups if is_group else []
        entries = [each for each in entries if each.tag != acl.GROUP_OBJ]
    others = ["others"] if status.st_mode & stat.S_IWOTH else []
    return _Writers([*by_mode, *others], entries or [])


def _may(entry: acl.Entry, trusted: set[int]) -> bool:
    return entry.id in trusted if entry.tag == acl.USER else not entry.id


def _fault(
    step: Step, trusted: set[int], readers: list[acl.Entry], mode_is_checked: bool = False
) -> Finding | None:
    """Return who can change this file, directory or link, or read a secret; None if nobody else can."""
    path, directory, status = step
    if not status:
        return None
    writers = _writers(path, status, trusted)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        writers = _Writers([], [])  # the sticky bit, as of /tmp, keeps what is in it from others
    if mode_is_checked:
        writers = writers._replace(words=[])
    is_foreign = status.st_uid not in trusted
    if is_foreign and stat.S_ISLNK(status.st_mode):
        # Its owner cannot change a link, but can replace it in a sticky directory.
        above = os.stat(directory)
        is_foreign = bool(above.st_mode & stat.S_ISVTX) and any(_writers(directory, above, trusted))
    return _finding(path, status, is_foreign, writers, readers)


def _creation(step: Step, trusted: set[int]) -> Finding | None:
    """Return who could create a file that the filter would read, in a sticky directory."""
    status = os.stat(step.directory)
    writers = _writers(step.directory, status, trusted)
    names = [*writers.words, *map(_name, writers.entries)]
    if not status.st_mode & stat.S_ISVTX or not names:
        return None
    what = f"{step.directory}: {' and '.join(names)} can create {os.path.basename(step.path)} there"
    return Finding(what, _MOVE)


def _finding(
    path: str, status: os.stat_result, is_foreign: bool, writers: _Writers, readers: list[acl.Entry]
) -> Finding | None:
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    faults = []
    if is_foreign:
        faults.append(f"owned by {accounts.user(status.st_uid)}")
    if writers.words:
        faults.append(f"writable by {' and '.join(writers.words)} ({mode})")
    if writers.entries:
        faults.append(f"writable by {' and '.join(map(_name, writers.entries))} (ACL)")
    by_mode = [each for each in readers if _is_own(each)]
    by_acl = [each for each in readers if not _is_own(each)]
    if by_mode:
        faults.append(f"readable by {_name(by_mode[0])} ({mode})")
    if by_acl:
        faults.append(f"readable by {' and '.join(map(_name, by_acl))} (ACL)")
        writers = writers._replace(entries=list(dict.fromkeys([*writers.entries, *by_acl])))
    if not faults:
        return None
    what = f"{path}: {', '.join(faults)}"
    groups = [status.st_gid] if by_mode or (writers.words and writers.words[0] != "others") else []
    if accounts.is_unmapped(status.st_uid if is_foreign else 0, *groups):
        hint = f"# check it outside the container: namei -l {shlex.quote(path)}"
        return Finding(f"{what}; nobody may be a user outside this container", hint, "warning")
    closing = _closing(path) if by_mode else ""
    return Finding(what, " && ".join(filter(None, [_fix(path, status, is_foreign, writers), closing])))


def _closing(path: str) -> str:
    """Return the command after which the group of a file cannot read it; with an ACL, its mode is a mask."""
    command = "chmod g-r" if acl.holders(path, acl.READ) is None else "setfacl -m g::-"
    return f"{command} {shlex.quote(path)}"


def _fix(path: str, status: os.stat_result, is_foreign: bool, writers: _Writers) -> str:
    """Return the command after which nobody else can write."""
    quoted = shlex.quote(path)
    commands = []
    if is_foreign:
        commands.append(f"chown {'-h ' if stat.S_ISLNK(status.st_mode) else ''}root {quoted}")
    if writers.entries:
        listed = ",".join(f"{_letter(each)}:{each.id}" for each in writers.entries)
        commands.append(f"setfacl -x {listed} {quoted}")
    if writers.words:
        if path in _TEMPORARY:
            commands.append(f"chmod +t {quoted}")
        else:
            who = ("g" if writers.words[0] != "others" else "") + ("o" if "others" in writers.words else "")
            commands.append(f"chmod {who}-w {quoted}")
    return " && ".join(commands)


def _letter(entry: acl.Entry) -> str:
    return "u" if entry.tag == acl.USER else "g"


def _name(entry: acl.Entry) -> str:
    return accounts.user(entry.id) if entry.tag == acl.USER else accounts.group(entry.id)
