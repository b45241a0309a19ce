"""Prose to the macros of man(7).

The prose is Markdown, and little of it: ``# SECTION``, ``## Part``, paragraphs, examples behind four blanks,
``- `` items, and terms, a line each, with ``: text`` below. Within a line there are only `` `literal` `` and
``*VALUE*``. A line of prose is a line of the page, in US-ASCII, whatever the locale.
"""

from __future__ import annotations

import re

_ESCAPES = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",  # not the hyphen, which no shell takes
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
    }
)
_MARKS = re.compile(r"`(?P<literal>[^`]+)`|\*(?P<value>[^*]+)\*")
_BOLD = re.compile(r"(?<![\w-])--[a-z][\w-]*|[a-z][\w.-]*(?=\([1-8]\))")  # an option, a page
_USAGE = re.compile(
    r"(?P<plain>,?\.{3}|\(\.{3}\)|[\s\[\]|]+)|(?P<value>[A-Z][A-Z-]+)|(?P<literal>[^\s\[\]|A-Z]+)"
)
_INDENT = "    "
_BLOCKS = re.compile(r"(?:^ {4}.*\n(?:\n+(?= {4}))?)+|(?:^(?! {4}).+\n)+", re.MULTILINE)


def escape(text: str) -> str:
    """Return text as roff prints it."""
    octets = text.translate(_ESCAPES)
    return "".join([c if c.isascii() else f"\\[u{ord(c):04X}]" for c in octets])


def plain(text: str) -> str:
    """Return text without marks of its own; options and pages in it become bold."""
    parts, at = [], 0
    for found in _BOLD.finditer(text):
        parts += [escape(text[at : found.start()]), _bold(found[0])]
        at = found.end()
    return "".join([*parts, escape(text[at:])])


def marked(text: str) -> str:
    """Return text of the prose."""
    parts, at = [], 0
    for found in _MARKS.finditer(text):
        mark = _bold(found["literal"]) if found["literal"] else _italic(found["value"])
        parts += [plain(text[at : found.start()]), mark]
        at = found.end()
    return "".join([*parts, plain(text[at:])])


def usage(text: str) -> str:
    """Return a part of a usage line, such as ``--server IP[#PORT]``: what is in capitals is a value."""
    return "".join(
        [
            escape(found["plain"])
            if found["plain"]
            else _italic(found["value"])
            if found["value"]
            else _bold(found["literal"])
            for found in _USAGE.finditer(text)
        ]
    )


def unbroken(text: str) -> str:
    """Return a part of a usage line that stays on one line, and ends no sentence."""
    return usage(text).replace(" ", r"\ ") + r"\&"


def sections(prose: str) -> dict[str, str]:
    """Return the prose by section, in order."""
    parts = re.split(r"^# (.+)\n", prose, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def body(prose: str) -> list[str]:
    """Return what stands in a section as lines of roff."""
    lines: list[str] = []
    for block in _BLOCKS.findall(prose):
        begins = not lines or lines[-1].startswith(".SS")
        lines += _block(block, [] if begins else [".PP"])
    return lines


def examples(prose: str) -> list[str]:
    """Return the examples of a page, as they stand there."""
    blocks = [block for block in _BLOCKS.findall(prose) if block.startswith(_INDENT)]
    return [re.sub(f"^{_INDENT}", "", block, flags=re.MULTILINE).strip("\n") + "\n" for block in blocks]


def _block(block: str, paragraph: list[str]) -> list[str]:
    if block.startswith("## "):
        return [f".SS {marked(block[3:].strip())}"]
    if block.startswith(_INDENT):
        (example,) = examples(block)
        return [*paragraph, ".RS 4", ".EX", *map(_line, escape(example).splitlines()), ".EE", ".RE"]
    if block.startswith("- "):
        return [line for item in block[2:].split("\n- ") for line in (r".IP \(bu 2", *_text(item))]
    term, definition, text = block.partition("\n: ")
    return [".TP", marked(term), *_text(text)] if definition else [*paragraph, *_text(block)]


def _text(prose: str) -> list[str]:
    return [_line(marked(line.strip())) for line in prose.strip("\n").split("\n")]


def _line(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _bold(text: str) -> str:
    return rf"\fB{escape(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{escape(text)}\fR"
