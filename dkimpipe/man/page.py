"""A page: its prose, and what the commands tell of themselves.

A page of a command gets NAME and SYNOPSIS before its prose. Under three headings of the prose stands what
``_FILLED`` makes: its options, all verbs, and the options that can stand in the conf file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from dkimpipe import __version__
from dkimpipe.config import COMMAND_LINE_ONLY, OPTIONS
from dkimpipe.man import command, roff
from dkimpipe.man.command import Command, Option

DIRECTORY = Path(__file__).parent
RELEASED = "2026-11-25"  # the day of the version: no page may differ from one day to the next
FILTER = "dkimpipe"


def prose() -> dict[str, str]:
    """Return the prose of all pages by page, such as ``dkimpipe-check.1``."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(DIRECTORY.glob("*.md"))}


def pages() -> dict[str, str]:
    """Return all pages, by name."""
    return {name: page(name, text) for name, text in prose().items()}


def page(name: str, text: str) -> str:
    """Return a page as roff."""
    title, _, number = name.rpartition(".")
    lines = [
        f'.\\" Made by "make man" from {name}.md and the options of the command: change those.',
        ".nr HY 0",  # no hyphenation: names would be cut, too
        f'.TH {title.upper()} {number} {RELEASED} "dkimpipe {__version__}"',
        ".ad l",
        ".SH NAME",
        rf"{roff.escape(title)} \- {roff.marked(_words(name, text))}",
    ]
    if number == "1":
        lines += [".SH SYNOPSIS", *_synopsis(_command(name))]
    for heading, section in roff.sections(text).items():
        if heading != "NAME":
            lines += [f".SH {heading}", *roff.body(section)]
            lines += _FILLED.get(heading, _nothing)(name)
    return "\n".join(lines) + "\n"


def _words(name: str, text: str) -> str:
    """Return what a page is about: what its prose says, else the verb itself."""
    return roff.sections(text).get("NAME", "").strip() or _command(name).words


def _command(name: str) -> Command:
    return command.read(name.rpartition(".")[0].removeprefix(FILTER).removeprefix("-"))


def _synopsis(of: Command) -> list[str]:
    lines = []
    for parts in of.usage:
        lines += [f'.SY "{parts[0]}"', *(roff.unbroken(part) for part in parts[1:])]
    return [*lines, ".YS"]


def _nothing(name: str) -> list[str]:
    return []


def _options(name: str) -> list[str]:
    return _groups(_command(name).groups, _term)


def _directives(name: str) -> list[str]:
    """Return the options that can stand in the conf file, without hyphens."""
    allowed = [f"--{each}" for each in OPTIONS if each not in COMMAND_LINE_ONLY]
    groups = {
        title: [option for option in options if option.names[0] in allowed]
        for title, options in command.read("").groups.items()
    }
    return _groups(groups, lambda option: _term(option).replace(r"\-\-", "", 1))


def _groups(groups: dict[str, list[Option]], term: Callable[[Option], str]) -> list[str]:
    lines = []
    for title, options in groups.items():
        if title and options:
            lines.append(f".SS {roff.plain(title[:1].upper() + title[1:])}")
        for option in options:
            lines += [".TP", term(option), roff.plain(option.text)]
    return lines


def _term(option: Option) -> str:
    names = ", ".join(map(roff.usage, option.names))
    return " ".join(filter(None, [names, roff.usage(option.value)]))


def _verbs(name: str) -> list[str]:
    lines = []
    for each, text in prose().items():
        if each.startswith(f"{FILTER}-") and each.endswith(".1"):
            verb = each.rpartition(".")[0]
            words = f"{roff.marked(_words(each, text))}: see {roff.plain(f'{verb}(1)')}"
            lines += [".TP", roff.usage(verb.replace("-", " ", 1)), words]
    return lines


_FILLED: dict[str, Callable[[str], list[str]]] = {
    "OPTIONS": _options,
    "VERBS": _verbs,
    "DIRECTIVES": _directives,
}
