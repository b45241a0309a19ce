"""What a command tells of itself: usage and options, from its argparse parser or from its usage text.

Never from the text that argparse makes: it differs between versions of Python, and with the terminal.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from dkimpipe.admin.verbs import parser_of


class Option(NamedTuple):
    """One option or argument.

    ``names``  such as ``--json``; none for an argument
    ``value``  what it takes, such as ``FILE`` or ``yes|no``; empty for none
    ``text``   its help
    """

    names: tuple[str, ...]
    value: str
    text: str


class Command(NamedTuple):
    """A command.

    ``words``   what it does, in few of them; empty if its usage text is all there is
    ``usage``   how it is called, each a list of parts that no line end should cut
    ``groups``  its options by the title that they stand under, which may be empty
    """

    words: str
    usage: list[list[str]]
    groups: dict[str, list[Option]]


def read(verb: str) -> Command:
    """Return a verb, or the filter for an empty string."""
    parser = parser_if_any(verb)
    if parser:
        return _of_parser(parser)
    command = [sys.executable, "-m", "dkimpipe", *filter(None, [verb]), "--help"]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - no shell
    return _of_text(done.stdout.decode())


def parser_if_any(verb: str) -> argparse.ArgumentParser | None:
    """Return the parser of a verb, None for what reads its command line itself."""
    name = f"dkimpipe.admin.{verb}"
    has_one = verb and find_spec(name) and hasattr(import_module(name), "add_arguments")
    return parser_of(verb) if has_one else None


def _of_parser(parser: argparse.ArgumentParser) -> Command:
    groups: dict[str, list[Option]] = {}
    for number, group in enumerate(parser._action_groups):
        title = (group.title or "") if number > 1 else ""  # argparse has two of its own
        shown = [_option(parser, action) for action in group._group_actions if _is_shown(action)]
        if shown:
            groups[title] = groups.get(title, []) + shown
    words = (parser.description or "").rstrip(".")
    return Command(words[:1].lower() + words[1:], [[parser.prog, *_usage(parser)]], groups)


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
    """Return the parts of the usage line: options first, those together of which only one can be given."""
    parts: dict[str, None] = {}
    actions = [action for action in parser._actions if _is_shown(action) and action.dest != "help"]
    for action in sorted(actions, key=lambda action: not action.option_strings):
        together = [group for group in parser._mutually_exclusive_groups if action in group._group_actions]
        members = together[0]._group_actions if together else [action]
        part = " | ".join(
            " ".join(filter(None, [*each.option_strings[:1], _value(each)])) for each in members
        )
        several = "..." if action.nargs in ("*", "+") else ""
        optional = action.nargs in ("?", "*") if not action.option_strings else not action.required
        parts[f"[{part}{several}]" if optional else part + several] = None
    return list(parts)


def _of_text(text: str) -> Command:
    """Return what a usage text says. Its options stand at column 2, their help in a column of its own."""
    head, _, rest = text.partition("\n\n")
    lines = [line.removeprefix("usage:").split("  ")[0] for line in map(str.strip, head.split("\n"))]
    usage = [re.findall(r"\[[^]]*\]\S*|\S+", line.strip()) for line in lines]
    column = next(found.end() for found in re.finditer(r"^  -.*?  +(?=\S)", rest, re.MULTILINE))
    column -= rest.rfind("\n", 0, column) + 1
    groups: dict[str, list[Option]] = {}
    title = ""
    for line in rest.splitlines():
        if line.startswith("  -"):
            groups.setdefault(title, []).append(_option_of(line[:column].strip(), line[column:].strip()))
        elif line.startswith(" " * column) and groups:
            last = groups[title].pop()
            groups[title].append(last._replace(text=f"{last.text} {line.strip()}"))
        elif line.endswith(":"):
            title = line[:-1]
        elif not line:
            title = ""
    return Command("", usage, groups)


def _option_of(term: str, text: str) -> Option:
    *names, last = term.split(", ")
    name, _, value = last.partition(" ")
    return Option((*names, name), value, text)
