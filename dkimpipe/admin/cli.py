"""The verbs of the command line, a module each, and how they end: 0, 64 wrong usage, 78 errors found."""

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {one_line(message)}\n")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a verb."""
    module = import_module(f"dkimpipe.admin.verbs.{name}")
    words = (module.__doc__ or "").partition(": ")[2].partition("\n")[0]
    parser = _Parser(prog=f"dkimpipe {name}", description=words[:1].upper() + words[1:], allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def run_verb(arguments: list[str]) -> int:
    """Run ``VERB [OPTION]...`` and return the exit status."""
    name, *rest = arguments
    module = import_module(f"dkimpipe.admin.verbs.{name}")
    parser = parser_of(name)
    if isinstance(sys.stdout, io.TextIOWrapper):  # in one order with what goes to standard error
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # keys are in any script
    try:
        status: int = module.run(parser.parse_args(rest))
        return status
    except Trouble as trouble:
        print(*error_lines(trouble), sep="\n", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
    except OSError as error:
        place = f"{one_line(str(error.filename))}: " if error.filename else ""
        print(f"dkimpipe: {place}{error.strerror}", file=sys.stderr)
    return ERRORS_FOUND
