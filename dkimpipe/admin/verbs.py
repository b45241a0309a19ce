"""The verbs of the command line, a module each, and how they end: 0, 64 wrong usage, 78 errors found."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from dkimpipe.admin import postfix
from dkimpipe.errors import Trouble

USAGE, ERRORS_FOUND = 64, 78  # sysexits(3)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def run_verb(arguments: list[str]) -> int:
    """Run ``VERB [OPTION]...`` and return the exit status."""
    parser = _Parser(prog="dkimpipe", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    words = "tell Postfix to sign, check that it does, and undo it"
    verb = verbs.add_parser("postfix", help=words, description=f"{words.capitalize()}. Prints the changes.")
    postfix.add_arguments(verb)
    options = parser.parse_args(arguments)
    try:
        return postfix.run(options)
    except Trouble as trouble:
        print(f"dkimpipe: {trouble}", *filter(None, [trouble.mend]), sep="\n", file=sys.stderr)
        return ERRORS_FOUND
