"""The index of a long map, made by ``dkimpipe index``: ``PATH.index`` locates the line of each key.

It is valid as long as the map is the unchanged file that it was made from; otherwise the map is scanned. So
an index can be missing or out of date, but never wrong. It contains 8-octet numbers, least significant octet
first: a magic number, and inode, size, mtime and ctime of the map, in nanoseconds; then a hash table, at most
half full, of positions in the map, each the offset of a line plus one, or 0. The search for a key starts at
the slot of its CRC-32.
"""

import posix
from binascii import crc32

from dkimpipe.errors import ConfigError
from dkimpipe.files import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Callable

_MAGIC = int.from_bytes(b"dkimpi1\n", "little")
_NUMBER = 8  # octets
_HEADER = 5 * _NUMBER


def path_of(path: str) -> str:
    """Return the path of the index of a map."""
    return path + ".index"


def header(status: "posix.stat_result") -> bytes:
    """Return the header of an index that is valid for a map of this status."""
    numbers = (_MAGIC, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return b"".join([number.to_bytes(_NUMBER, "little") for number in numbers])


def table(offsets: "Iterable[tuple[bytes, int]]", slots: int) -> bytes:
    """Return a hash table from each key, in lower case, to its offset in the map."""
    octets = bytearray(slots * _NUMBER)
    for key, offset in offsets:
        at = crc32(key) % slots * _NUMBER
        while any(octets[at : at + _NUMBER]):
            at = (at + _NUMBER) % len(octets)
        octets[at : at + _NUMBER] = (offset + 1).to_bytes(_NUMBER, "little")
    return bytes(octets)


def load(path: str, status: "posix.stat_result") -> int:
    """Return a descriptor of the index of a map of this status, -1 if there is no valid one."""
    try:
        descriptor, own = open_file(path_of(path), "index")
    except ConfigError:
        return -1
    size = own.st_size - _HEADER
    if size >= _NUMBER and size % _NUMBER == 0 and posix.pread(descriptor, _HEADER, 0) == header(status):
        return descriptor
    posix.close(descriptor)
    return -1


def find(
    index: int, keys: "Sequence[bytes]", is_line_of: "Callable[[bytes, int], bool]"
) -> "tuple[bytes, int] | None":
    """Return the first of these keys that is in the map, with its offset; None if there is none.

    ``is_line_of`` returns whether the line at an offset of the map is that of a key.
    """
    slots = (posix.fstat(index).st_size - _HEADER) // _NUMBER
    for key in keys:
        first = crc32(key) % slots
        for number in range(first, first + slots):
            octets = posix.pread(index, _NUMBER, _HEADER + number % slots * _NUMBER)
            offset = int.from_bytes(octets, "little") - 1
            if offset < 0:
                break
            if is_line_of(key, offset):
                return key, offset
    return None
