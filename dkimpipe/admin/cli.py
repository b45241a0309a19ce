"""The verbs of the command line, one module each; exit status 0, 64 wrong usage, or 78 errors found."""

from __future__ import annotations

import argparse
import io
import os
import sys
from importlib import import_module
from typing import NoReturn

from dkimpipe.admin.findings import ERRORS_FOUND, error_lines
from dkimpipe.errors import Trouble, one_line

USAGE = 64  # sysexits(3)
# What --help and the manual say of each. Not from docstrings, which python -OO does not have.
DESCRIPTIONS = {
    "check": "What is wrong, all of it in one run.",
    "dns": "The records that the signatures need, computed from their keys, shown or published.",
    "explain": "Why a message is signed as it is, or is not.",
    "genkey": "A new private key, the line of the senders file for it, and its record.",
    "index": "An index for a map of many thousands of lines, so that its length costs nothing.",
    "postfix": "Tell Postfix to sign or to verify, check that it still does, and undo it.",
    "rotate": "New keys in the place of old ones, step by step, without a moment of bad signatures.",
    "setup": "From nothing to signed mail, and back.",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {one_line(message)}\n")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a verb."""
    module = import_module(f"dkimpipe.admin.verbs.{name}")
    parser = _Parser(prog=f"dkimpipe {name}", description=DESCRIPTIONS[name], allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def run_verb(arguments: list[str]) -> int:
    """Run ``VERB [OPTION]...`` and return the exit status."""
    name, *rest = arguments
    module = import_module(f"dkimpipe.admin.verbs.{name}")
    parser = parser_of(name)
    if isinstance(sys.stdout, io.TextIOWrapper):  # keeps the order relative to standard error
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # keys can be in any script
    try:
        status: int = module.run(parser.parse_args(rest))
        return status
    except Trouble as trouble:
        print(*error_lines(trouble), sep="\n", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise the interpreter reports it at exit
    except OSError as error:
        place = f"{one_line(str(error.filename))}: " if error.filename else ""
        print(f"dkimpipe: {place}{error.strerror}", file=sys.stderr)
    return ERRORS_FOUND
