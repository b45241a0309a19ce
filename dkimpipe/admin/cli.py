"""The verbs of the command line, one module each; exit status 0, 64 wrong usage, or 78 errors found."""

from __future__ import annotations

import argparse
import io
import os
import sys
from importlib import import_module
from typing import NoReturn

from dkimpipe.admin.findings import ERRORS_FOUND, error_lines, hint_lines
from dkimpipe.errors import Trouble, one_line

USAGE = 64  # sysexits(3)
# These verbs change things: if what they print goes into a pipe that nobody reads any more, they go on.
_CHANGING = ("import", "postfix", "rotate", "setup")
# For --help and the manual. They are not taken from docstrings, which python -OO removes.
DESCRIPTIONS = {
    "audit": "Report mail that left this server unsigned, according to the log of Postfix.",
    "check": "Check the conf file, the maps and the keys, and report every problem.",
    "dns": "Print or publish the DNS records of the signing keys.",
    "explain": "Show how a message is signed, and why.",
    "genkey": "Create a private key, and print its senders file entry and DNS record.",
    "import": "Take over the configuration and the keys of OpenDKIM, rspamd or dkimpy-milter.",
    "index": "Index a large map, so that its length does not slow down the filter.",
    "postfix": "Set up Postfix to sign or verify mail, check the setup, or undo it.",
    "reflect": "Answer a message with the state of its signatures. For an alias.",
    "reports": "Show what receivers report about mail from your domains.",
    "rotate": "Replace old keys with new ones, step by step, with valid signatures throughout.",
    "test": "Send a message along the real road, and show what happens to it.",
    "setup": "Set up the signing of mail, or undo it.",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {one_line(message)}\n")


class _Unread(io.TextIOWrapper):
    """Standard output that is discarded, with a word on standard error, after its reader has gone.

    ``hint``  how to see what was not read
    """

    hint = ""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            _discard_output()
            print("dkimpipe: nobody reads the output: the rest is done without it", file=sys.stderr)
            for line in hint_lines(self.hint):
                print(line, file=sys.stderr)
            return len(text)


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise the interpreter reports it at exit


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
        if name in _CHANGING and sys.stdout is sys.__stdout__:
            given = sys.stdout
            unread = sys.stdout = _Unread(
                given.buffer, given.encoding, given.errors, line_buffering=True, write_through=True
            )
            unread.hint = "dkimpipe dns prints the records of the keys" if name == "setup" else ""
    try:
        status: int = module.run(parser.parse_args(rest))
        return status
    except Trouble as trouble:
        print(*error_lines(trouble), sep="\n", file=sys.stderr)
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        place = f"{one_line(str(error.filename))}: " if error.filename else ""
        print(f"dkimpipe: {place}{error.strerror}", file=sys.stderr)
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            print("hint: run it as root", file=sys.stderr)
    return ERRORS_FOUND
