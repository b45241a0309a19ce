"""``dkimpipe index``: index maps of many thousands of lines, for fast lookups.

It takes no part in what is signed: a map that was changed since is scanned, as one without an index. Run it
after each change, or from cron; where the index is fresh it does nothing.
"""

from __future__ import annotations

import argparse

from dkimpipe import mapindex
from dkimpipe.admin.maps import entries, index
from dkimpipe.admin.verbs import filter_files
from dkimpipe.config import read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    filter_files.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Make what is missing or out of date; return 0. Raises ConfigError, OSError."""
    for path in entries.maps(read_settings(filter_files.arguments(options))):
        keys = index.make(path)
        if keys:
            print(f"{mapindex.path_of(path)}: {keys} keys")
    return 0
