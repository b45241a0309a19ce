"""Whether the filter's user can read its files."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.accounts import is_persons
from dkimpipe.admin.maps.way import way
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place

_OURS = "/etc/dkimpipe"  # no other group needs what is there


def unreadable(files: Mapping[str, Place | None], user: str) -> Iterator[Finding]:
    """Yield the files that a user of pipe(8), ``USER`` or ``USER:GROUP``, cannot read.

    ``files``: each with the place that names it, or None. Raises ConfigError if the check fails.
    """
    name, _, group = user.partition(":")
    try:
        account = pwd.getpwnam(name)
        number = grp.getgrnam(group).gr_gid if group else account.pw_gid
        group = group or grp.getgrgid(number).gr_name
    except KeyError:
        yield Finding(f"there is no user {user} to read the files", "# name the filter's user: --user")
        return
    there = [path for path in files if os.path.exists(path)]  # the filter's own code reports the others
    if os.geteuid() not in (0, account.pw_uid):
        what = f"whether user {name} can read the files was not checked: only root can"
        yield Finding(what, "sudo dkimpipe check", "warning")
        return
    reader = _Reader(name, account.pw_uid, group, number)
    for path in _unreadable(there, reader.user, reader.group):
        where = f"{files[path]}: key file " if files[path] else ""
        yield Finding(f"{where}{path}: user {name} cannot read it", _fix(path, reader))


class _Reader(NamedTuple):
    """A user with the one group that pipe(8) leaves."""

    name: str
    user: int
    group_name: str
    group: int


def _fix(path: str, reader: _Reader) -> str:
    """Return the commands that let a user through each directory to a file, and read it."""
    commands = []
    for step in way(os.path.join(os.getcwd(), path)):
        status = step.status
        if not status or stat.S_ISLNK(status.st_mode):
            continue
        is_directory = stat.S_ISDIR(status.st_mode)
        access = "x" if is_directory else "r"
        if is_directory and step.path == os.path.realpath(path):
            access = "rx"
        if _may(status, access, reader):
            continue
        if is_directory and is_persons(step.path, status.st_uid):
            return f"# move the files to a directory that user {reader.name} can enter, such as /etc/dkimpipe"
        commands.append(_command(step.path, status, access, reader))
    return "\n".join(commands) or f"# what prevents access: namei -l {shlex.quote(path)}"


def _may(status: os.stat_result, access: str, reader: _Reader) -> bool:
    """Return whether a mode gives a user access: r, x or rx."""
    shift = 6 if status.st_uid == reader.user else 3 if status.st_gid == reader.group else 0
    wanted = sum({"r": 4, "x": 1}[letter] for letter in access)
    return reader.user == 0 or status.st_mode >> shift & wanted == wanted


def _command(path: str, status: os.stat_result, access: str, reader: _Reader) -> str:
    """Return what gives a user access, and takes it from nobody else."""
    quoted = shlex.quote(path)
    if status.st_uid == reader.user:
        return f"chmod u+{access} {quoted}"
    if status.st_gid == reader.group:
        return f"chmod g+{access} {quoted}"
    is_ours = path == _OURS or path.startswith(f"{_OURS}/")
    is_shared = status.st_gid and status.st_mode & stat.S_IXGRP and _exists(status.st_gid)
    if stat.S_ISDIR(status.st_mode) and is_shared and not is_ours:
        return f"chmod o+{access} {quoted}"  # another group needs it, and a file has permissions of its own
    return f"chgrp {reader.group_name} {quoted} && chmod g+{access} {quoted}"


def _exists(group: int) -> bool:
    try:
        grp.getgrgid(group)
    except KeyError:
        return False
    return True


def _unreadable(paths: list[str], user: int, group: int) -> list[str]:
    """Return the paths that a user cannot read with only one group, as under pipe(8)."""
    come, go = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            if os.geteuid() == 0 != user:
                os.setgroups([])
                os.setresgid(group, group, group)
                os.setresuid(user, user, user)
            with open(go, "wb") as out:
                out.write(bytes(os.access(path, os.R_OK) for path in paths))
            status = 0
        finally:
            os._exit(status)
    os.close(go)
    with open(come, "rb") as answers:
        readable = answers.read()
    if os.waitpid(child, 0)[1] or len(readable) != len(paths):
        raise ConfigError(f"cannot become user {user} to check the files")
    return [path for path, answer in zip(paths, readable) if not answer]
