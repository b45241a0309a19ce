"""Replace a selector and key in a senders file, and keep every other byte."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe import senders
from dkimpipe.admin import atomic
from dkimpipe.admin.maps import entries
from dkimpipe.admin.maps.entries import Line
from dkimpipe.errors import ConfigError
from dkimpipe.senders import Signature

_ITEM = re.compile(r"\(([^()]*)\)")
_OPTION = re.compile(r"([^,=]*)=\s*([^,]*?)\s*(?:,|$)")


class Pair(NamedTuple):
    """Selector and key file as written in s= and key= of a signature."""

    selector: str
    keyfile: str


def pair(signature: Signature) -> Pair | None:
    """Return both options of a signature; None if one of them has macros or comes from the conf file."""
    options = signature.options
    if "selector" in options and "keyfile" in options and not has_macros(signature):
        return Pair(options["selector"], options["keyfile"])
    return None


def has_macros(signature: Signature) -> bool:
    """Return whether the selector or key file of a signature depends on the domain."""
    return any("$" in signature.options.get(name, "") for name in ("selector", "keyfile"))


def replace(path: str, before: bytes, old: Pair, new: Pair) -> None:
    """Replace the old pair with the new one in all signatures of a senders file, atomically.

    ``before`` is the contents that were read. Raises ConfigError if they have changed, and if the result
    would have any other effect.
    """
    lines = list(entries.entries_of(io.BytesIO(before), path))
    after = before
    for start, end, value in sorted(
        {edit for line in lines for edit in _edits(line, old, new)}, reverse=True
    ):
        after = after[:start] + value.encode("utf-8", "surrogateescape") + after[end:]
    wanted = [(line.key, _meaning(line, {old: new})) for line in lines]
    if wanted != [(line.key, _meaning(line, {})) for line in entries.entries_of(io.BytesIO(after), path)]:
        raise ConfigError(
            f"{path}: cannot find s={old.selector} and key={old.keyfile}",
            f"replace them with s={new.selector} and key={new.keyfile}",
        )
    if after != before:
        atomic.edit(Path(path), before, after)


def _edits(line: Line, old: Pair, new: Pair) -> Iterator[tuple[int, int, str]]:
    """Yield start and end in the file of each value to change, and its replacement."""
    for item in _ITEM.finditer(line.text):
        spans = {}
        for option in _OPTION.finditer(item[1]):
            spans[senders.LONG_NAMES.get(option[1].strip(), option[1].strip())] = [
                item.start(1) + at for at in option.span(2)
            ]
        values = {name: line.text[start:end] for name, (start, end) in spans.items()}
        if (values.get("selector"), values.get("keyfile")) == old:
            for name, value in zip(("selector", "keyfile"), new):
                start, end = spans[name]
                yield _offset(line, start), _offset(line, end - 1) + len(_octets(line.text[end - 1])), value


def _offset(line: Line, at: int) -> int:
    """Return the offset in the file of a character of an entry's text."""
    for offset, text in line.parts:
        if at < len(text):
            return offset + len(_octets(text[:at]))
        at -= len(text) + 1  # the space between two parts
    raise IndexError(at)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _meaning(line: Line, renamed: dict[Pair, Pair]) -> object:
    """Return the meaning of an entry, with pairs renamed; for an invalid one its text, which must be kept."""
    try:
        signatures = senders.parse(line.text, line.place)
    except ConfigError:
        return line.text
    meaning = []
    for signature in signatures:
        options = dict(signature.options)
        known = pair(signature)
        if known in renamed:
            options["selector"], options["keyfile"] = renamed[known]
        meaning.append((signature.type, options))
    return meaning
