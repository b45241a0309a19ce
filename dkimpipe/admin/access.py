"""Why a user may not use a file or a directory of a verb, and the command that changes it."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path


def user() -> str:
    """Return the name of the user that this process runs as."""
    return _name(os.geteuid())


def barrier(path: Path) -> tuple[str, str]:
    """Return which directory above an absolute path this user cannot enter, and a hint; nothing if none."""
    for directory in reversed(path.parents):
        if directory.exists() and not os.access(directory, os.X_OK):
            mode = stat.S_IMODE(directory.stat().st_mode)
            return f"{user()} cannot enter {directory} (mode {mode:04o})", f"chmod a+x {_quoted(directory)}"
    return "", ""


def wrong_owner(path: Path) -> tuple[str, str]:
    """Return why this user cannot write a file and its directory, and a hint; nothing if that is unknown."""
    parent = path.parent.stat()
    if parent.st_uid not in (0, os.geteuid()):
        owner = _name(parent.st_uid)
        return f"{path.parent} belongs to {owner}, not to {user()}", f"run it as {owner}"
    if not os.access(path.parent, os.W_OK):
        return f"{user()} cannot write to {path.parent}", f"chown -h {user()}: {_quoted(path.parent)}"
    if path.is_symlink() or not path.exists() or path.stat().st_uid == os.geteuid():
        return "", ""
    owner = _name(path.stat().st_uid)
    return f"it belongs to {owner}, not to {user()}", f"chown -h {user()}: {_quoted(path)}"


def wrong_user(path: Path) -> tuple[str, str]:
    """Return why this user cannot use a file that is there, and a hint; nothing if that is unknown."""
    keeper = path.parent.stat().st_uid
    if keeper == os.geteuid():
        return wrong_owner(path)
    return f"it belongs to {_name(path.stat().st_uid)}, not to {user()}", f"run it as {_name(keeper)}"


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
