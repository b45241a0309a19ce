"""The index of a map: create it, and check that it is up to date. The filter reads it (dkimpipe.mapindex)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dkimpipe import mapindex, senders
from dkimpipe.admin import atomic
from dkimpipe.errors import ConfigError
from dkimpipe.files import open_file

_SETTLED = 2  # seconds: an edit within one tick of the file system's clock would go unnoticed


def is_fresh(path: str, status: os.stat_result) -> bool:
    """Return whether a map with this status has a valid index."""
    descriptor = mapindex.load(path, status)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def make(path: str) -> int:
    """Create the index of a map, unless it is up to date or the map is short; return its key count, or 0.

    Raises ConfigError, OSError.
    """
    descriptor, status = open_file(path, "map")
    with open(descriptor, "rb") as file:
        if status.st_size < senders.LONG_MAP:
            return 0
        if is_fresh(path, status):
            return 0
        time.sleep(max(0, min(_SETTLED, _SETTLED - time.time() + max(status.st_mtime, status.st_ctime))))
        offsets = dict(_keys(file))
        if mapindex.header(os.stat(path)) != mapindex.header(status):
            raise ConfigError(f"map {path} was changed meanwhile", "try again")
    slots = 1 << (2 * len(offsets)).bit_length()
    octets = mapindex.header(status) + mapindex.table(offsets.items(), slots)
    atomic.write_like(Path(mapindex.path_of(path)), octets, Path(path))
    return len(offsets)


def _keys(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield each key as the filter looks it up, with the offset of its line."""
    for line in senders.physical_lines(lines):
        if line.key:
            yield senders.lower(line.key.encode("utf-8", "surrogateescape")), line.offset
