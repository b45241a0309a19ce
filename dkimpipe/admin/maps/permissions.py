"""Whether the filter's user can read its files."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
from collections.abc import Iterator, Mapping

from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place


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
        yield Finding(f"there is no user {user} to read the files", "name the filter's user: --user")
        return
    there = [path for path in files if os.path.lexists(path)]  # the filter's own code reports the others
    if os.geteuid() not in (0, account.pw_uid):
        what = f"whether user {name} can read the files was not checked: only root can"
        yield Finding(what, "sudo dkimpipe check", "warning")
        return
    for path in _unreadable(there, account.pw_uid, number):
        where = f"{files[path]}: key file " if files[path] else ""
        quoted = shlex.quote(path)
        hint = (
            f"chgrp {group} {quoted} && chmod g+r {quoted}\nnamei -l {quoted} shows what else prevents access"
        )
        yield Finding(f"{where}{path}: user {name} cannot read it", hint)


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
