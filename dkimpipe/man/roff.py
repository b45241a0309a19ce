"""Convert prose to the macros of man(7).

The prose is a subset of Markdown: ``# SECTION``, ``## Part``, paragraphs, examples indented by four spaces,
``- `` items, and terms, each on one line, with ``: text`` below. Within a line there are only `` `literal` ``
and ``*VALUE*``. A line of prose becomes a line of the page, in US-ASCII, regardless of the locale.
"""

from __future__ import annotations

import re

_ESCAPES = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",  # a minus sign: shells do not accept a hyphen
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
    }
)
_MARKS = re.compile(r"`(?P<literal>[^`]+)`|\*(?P<value>[^*]+)\*")
_BOLD = re.compile(r"(?<![\w-])--[a-z][\w-]*|[a-z][\w.-]*(?=\([1-8]\))")  # options and pages
_USAGE = re.compile(
    r"(?P<plain>,?\.{3}|\(\.{3}\)|[\s\[\]|]+)|(?P<value>[A-Z][A-Z-]+)|(?P<literal>[^\s\[\]|A-Z]+)"
)
_INDENT = "    "
_BLOCKS = re.compile(r"(?:^ {4}.*\n(?:\n+(?= {4}))?)+|(?:^(?! {4}).+\n)+", re.MULTILINE)


def escape(text: str) -> str:
    """Return text escaped for roff."""
    octets = text.translate(_ESCAPES)
    return "".join([c if c.isascii() else f"\\[u{ord(c):04X}]" for c in octets])


def plain(text: str) -> str:
    """Return text that contains no markup; options and pages in it become bold."""
    parts, at = [], 0
    for found in _BOLD.finditer(text):
        parts += [escape(text[at : found.start()]), _bold(found[0])]
        at = found.end()
    return "".join([*parts, escape(text[at:])])


def marked(text: str) -> str:
    """Return text with its markup converted."""
    parts, at = [], 0
    for found in _MARKS.finditer(text):
        mark = _bold(found["literal"]) if found["literal"] else _italic(found["value"])
        parts += [plain(text[at : found.start()]), mark]
        at = found.end()
    return "".join([*parts, plain(text[at:])])


def usage(text: str) -> str:
    """Return a part of a usage line, such as ``--server IP[#PORT]``: a word in capitals is a value."""
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
    """Return a part of a usage line that is not broken, and does not end a sentence."""
    return usage(text).replace(" ", r"\ ") + r"\&"


def sections(prose: str) -> dict[str, str]:
    """Return the prose by section, in order."""
    parts = re.split(r"^# (.+)\n", prose, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def body(prose: str) -> list[str]:
    """Return the contents of a section as lines of roff."""
    lines: list[str] = []
    for block in _BLOCKS.findall(prose):
        is_first = not lines or lines[-1].startswith(".SS")
        lines += _block(block, [] if is_first else [".PP"])
    return lines


def examples(prose: str) -> list[str]:
    """Return the examples of a page, without their indentation."""
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
