"""``dkimpipe index``: an index for a map of many thousands of lines, so that its length costs nothing.

It takes no part in what is signed: a map that was changed since is scanned, as one without an index. Run it
after each change, or from cron; where the index is fresh it does nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from dkimpipe import mapindex, senders
from dkimpipe.admin import atomic, filter_files, mapfile
from dkimpipe.config import read_settings
from dkimpipe.errors import ConfigError
from dkimpipe.files import open_file

_SETTLED = (
    2  # seconds: an edit in the same tick of the file system's clock could not be told from what was read
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    filter_files.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Make what is missing or out of date; return 0. Raises ConfigError, OSError."""
    for path in mapfile.maps(read_settings(filter_files.arguments(options))):
        make(path)
    return 0


def is_fresh(path: str, status: os.stat_result) -> bool:
    """Tell whether a map of this status has an index that counts."""
    descriptor = mapindex.load(path, status)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def make(path: str) -> None:
    """Make the index of a map, unless it is fresh, or the map is short. Raises ConfigError, OSError."""
    descriptor, status = open_file(path, "map")
    with open(descriptor, "rb") as file:
        if status.st_size < mapindex.LEAST:
            return
        if is_fresh(path, status):
            return
        time.sleep(max(0, min(_SETTLED, _SETTLED - time.time() + max(status.st_mtime, status.st_ctime))))
        places = dict(senders.places(file))
        if mapindex.header(os.stat(path)) != mapindex.header(status):
            raise ConfigError(f"map {path} was changed meanwhile", "try again")
    slots = 1 << (2 * len(places)).bit_length()
    octets = mapindex.header(status) + mapindex.table(places.items(), slots)
    atomic.write_like(Path(mapindex.path_of(path)), octets, Path(path))
    print(f"{mapindex.path_of(path)}: {len(places)} keys")
