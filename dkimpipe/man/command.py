"""The usage and options of a command, read from its argparse parser or its usage text.

The help that argparse prints is not used: it depends on the version of Python and on the terminal.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from dkimpipe.admin.cli import parser_of


class Option(NamedTuple):
    """One option or argument.

    ``names``  such as ``--json``; empty for an argument
    ``value``  its value, such as ``FILE`` or ``yes|no``; empty if it takes none
    ``text``   its help text
    """

    names: tuple[str, ...]
    value: str
    text: str


class Command(NamedTuple):
    """A command.

    ``summary``  what it does, in one phrase; empty if it was read from a usage text
    ``usage``    its usage lines, each a list of parts that are not broken across lines
    ``groups``   its options by the title of their group, which may be empty
    """

    summary: str
    usage: list[list[str]]
    groups: dict[str, list[Option]]


def read(verb: str) -> Command:
    """Return the command of a verb, or of the filter for an empty string."""
    parser = parser_if_any(verb)
    if parser:
        return _of_parser(parser)
    command = [sys.executable, "-m", "dkimpipe", *filter(None, [verb]), "--help"]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - no shell
    return _of_text(done.stdout.decode())


def parser_if_any(verb: str) -> argparse.ArgumentParser | None:
    """Return the parser of a verb; None if it parses its command line itself."""
    name = f"dkimpipe.admin.verbs.{verb}"
    has_parser = verb and find_spec(name) and hasattr(import_module(name), "add_arguments")
    return parser_of(verb) if has_parser else None


def _of_parser(parser: argparse.ArgumentParser) -> Command:
    groups: dict[str, list[Option]] = {}
    for number, group in enumerate(parser._action_groups):
        title = (group.title or "") if number > 1 else ""  # the first two are those of argparse
        shown = [_option(parser, action) for action in group._group_actions if _is_shown(action)]
        if shown:
            groups[title] = groups.get(title, []) + shown
    summary = (parser.description or "").rstrip(".")
    return Command(summary[:1].lower() + summary[1:], [[parser.prog, *_usage(parser)]], groups)


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return Option(tuple(action.option_strings), _value(action), text)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(action.choices) if action.choices else action.dest.upper()


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    """Return the parts of the usage line: options first, mutually exclusive ones as one part."""
    parts: dict[str, None] = {}
    actions = [action for action in parser._actions if _is_shown(action) and action.dest != "help"]
    for action in sorted(actions, key=lambda action: not action.option_strings):
        groups = [group for group in parser._mutually_exclusive_groups if action in group._group_actions]
        if groups:
            part = " | ".join(map(_part, groups[0]._group_actions))
            parts[f"({part})" if groups[0].required else f"[{part}]"] = None
        else:
            parts[f"[{_part(action)}]" if _is_optional(action) else _part(action)] = None
    return list(parts)


def _is_optional(action: argparse.Action) -> bool:
    """Return whether an option or argument can be omitted; argparse's ``required`` varies for arguments."""
    return not action.required if action.option_strings else action.nargs in ("?", "*")


def _part(action: argparse.Action) -> str:
    several = "..." if action.nargs in ("*", "+") else ""
    return " ".join(filter(None, [*action.option_strings[:1], _value(action)])) + several


def _of_text(text: str) -> Command:
    """Return the command described by a usage text.

    Options are at column 2; their help follows two spaces, or is in the column of the first one's help.
    """
    head, _, rest = text.partition("\n\n")
    lines = [line.removeprefix("usage:").strip().partition("  ")[0] for line in head.split("\n")]
    first = re.search(r"^  -.*?  +(?=\S)", rest, re.MULTILINE)
    column = len(first[0]) if first else 0
    groups: dict[str, list[Option]] = {}
    title = ""
    for line in rest.splitlines():
        if line.startswith("  -"):
            groups.setdefault(title, []).append(_option_of(line.strip(), column - 2))
        elif line.startswith(" " * column) and title in groups:
            last = groups[title].pop()
            groups[title].append(last._replace(text=f"{last.text} {line.strip()}".strip()))
        elif not line or line.endswith(":"):
            title = line[:-1]
    return Command("", [re.findall(r"\[[^]]*\]\S*|\S+", line) for line in lines], groups)


def _option_of(line: str, column: int) -> Option:
    term, _, text = line.partition("  ")
    if not text:
        term, text = line[:column], line[column:]
    *names, last = term.strip().split(", ")
    name, _, value = last.partition(" ")
    return Option((*names, name), value, text.strip())
