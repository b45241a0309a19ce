"""The options that tell a verb which files the filter uses."""

from __future__ import annotations

import argparse

_NAMES = ("conf_file", "sender_map", "listid_map")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe them."""
    for name in _NAMES:
        parser.add_argument(
            f"--{name}", f"--{name.replace('_', '-')}", metavar="FILE", help="as for the filter"
        )


def arguments(options: argparse.Namespace) -> list[str]:
    """Return those that were given, as the filter takes them."""
    return [f"--{name}={value}" for name in _NAMES if (value := getattr(options, name))]
