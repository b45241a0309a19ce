"""POSIX access control lists as Linux stores them: acl(5), <linux/posix_acl_xattr.h>.

Where a file has one, the group bits of its mode are only a mask, and say nothing of its group.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

USER, GROUP_OBJ, GROUP = 0x02, 0x04, 0x08
READ, WRITE = 0o4, 0o2
_MASK = 0x10
_NAME = "system.posix_acl_access"
_VERSION = 2
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")


class Entry(NamedTuple):
    """What a user or a group may do.

    ``tag``          USER, GROUP, or GROUP_OBJ for the file's own group
    ``permissions``  as written, without the mask: three bits, as in a mode
    ``id``           of the user or group; without meaning for GROUP_OBJ
    """

    tag: int
    permissions: int
    id: int


def holders(path: str, permission: int) -> list[Entry] | None:
    """Return the users and groups that can read or write a file; None if it has no ACL."""
    try:
        octets = os.getxattr(path, _NAME)
    except (OSError, AttributeError):  # AttributeError: not on this system
        return None
    return parse(octets, permission)


def parse(octets: bytes, permission: int) -> list[Entry] | None:
    """Return those that have a permission according to an ACL; None if it is of an unknown version."""
    if len(octets) < _HEADER.size or _HEADER.unpack_from(octets) != (_VERSION,):
        return None
    entries = list(_entries(octets))
    mask = next((each.permissions for each in entries if each.tag == _MASK), permission)
    if not mask & permission:
        return []
    return [
        each for each in entries if each.tag in (USER, GROUP_OBJ, GROUP) and each.permissions & permission
    ]


def _entries(octets: bytes) -> Iterator[Entry]:
    whole = (len(octets) - _HEADER.size) // _ENTRY.size
    for place in range(whole):
        yield Entry(*_ENTRY.unpack_from(octets, _HEADER.size + place * _ENTRY.size))
