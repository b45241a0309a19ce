"""Users and groups that own files: what they are called, and which of them are people."""

from __future__ import annotations

import grp
import os
import pwd

_FIRST_PERSON = 1000  # the first user ID of people; those below are of the system: login.defs(5), UID_MIN
_NOBODY = 65534  # the kernel's overflowuid and overflowgid: any ID that is not mapped in a container
_ALL_IDS = ["0", "0", "4294967295"]  # the map outside containers: user_namespaces(7)


def user(number: int) -> str:
    """Return a user ID as ``user NAME``."""
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user ID {number}"


def group(number: int) -> str:
    """Return a group ID as ``group NAME``."""
    try:
        return f"group {grp.getgrgid(number).gr_name}"
    except KeyError:
        return f"group ID {number}"


def is_persons(directory: str, user: int) -> bool:
    """Return whether a directory is a person's, or the home directory of any user: it must stay theirs."""
    if user >= _FIRST_PERSON and user != _NOBODY:
        return True
    try:
        return os.path.samefile(pwd.getpwuid(user).pw_dir, directory)
    except (KeyError, OSError):
        return False


def is_unmapped(*numbers: int) -> bool:
    """Return whether one of these IDs may stand for one that is not mapped in this user namespace."""
    if _NOBODY not in numbers:
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != _ALL_IDS
    except OSError:
        return False
