"""``dkimpipe index``: index maps of many thousands of lines, for fast lookups.

The index never affects the result: a map that has changed since is scanned as if there were no index. Run it
after each change, or from cron; if the index is up to date, it does nothing.
"""

from __future__ import annotations

import argparse

from dkimpipe import mapindex
from dkimpipe.admin.maps import configured, index
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    filter_files.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Create each index that is missing or out of date; return 0. Raises ConfigError, OSError."""
    for path in configured.maps(read_settings(filter_files.arguments(options))):
        keys = index.make(path)
        if keys:
            print(f"{mapindex.path_of(path)}: {keys} keys")
    return 0
