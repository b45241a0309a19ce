"""The options of a verb that name the filter's files."""

from __future__ import annotations

import argparse

NAMES = ("conf_file", "sender_map", "listid_map")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add these options."""
    for name in NAMES:
        parser.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", metavar="FILE", help="as for the filter"
        )


def arguments(options: argparse.Namespace) -> list[str]:
    """Return the options that were given, in the form of the filter's command line."""
    return [f"--{name}={value}" for name in NAMES if (value := getattr(options, name))]
