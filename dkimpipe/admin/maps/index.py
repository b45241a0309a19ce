"""The index of a map: made, and whether it is fresh. The filter reads it (dkimpipe.mapindex)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dkimpipe import mapindex, senders
from dkimpipe.admin import atomic
from dkimpipe.errors import ConfigError
from dkimpipe.files import open_file

_SETTLED = 2  # seconds: an edit within one tick of the file system's clock looks like what was read


def is_fresh(path: str, status: os.stat_result) -> bool:
    """Tell whether a map of this status has an index that counts."""
    descriptor = mapindex.load(path, status)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def make(path: str) -> int:
    """Make the index of a map, unless it is fresh, or the map is short; return how many keys it has, or 0.

    Raises ConfigError, OSError.
    """
    descriptor, status = open_file(path, "map")
    with open(descriptor, "rb") as file:
        if status.st_size < mapindex.LEAST:
            return 0
        if is_fresh(path, status):
            return 0
        time.sleep(max(0, min(_SETTLED, _SETTLED - time.time() + max(status.st_mtime, status.st_ctime))))
        places = dict(senders.places(file))
        if mapindex.header(os.stat(path)) != mapindex.header(status):
            raise ConfigError(f"map {path} was changed meanwhile", "try again")
    slots = 1 << (2 * len(places)).bit_length()
    octets = mapindex.header(status) + mapindex.table(places.items(), slots)
    atomic.write_like(Path(mapindex.path_of(path)), octets, Path(path))
    return len(places)
