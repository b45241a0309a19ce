"""rspamd's maps: files of keys and values, or lists in the configuration itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.foreignfiles import lines
from dkimpipe.admin.rspamd import ucl
from dkimpipe.admin.rspamd.conf import Setting, text_of
from dkimpipe.files import Place

# In front of the name of a file. Other types, such as regular expressions, are not read.
_FILE_PREFIXES = ("hash;", "plain;", "glob;", "set;", "radix;", "ipnet;")
_FILE_SCHEMES = ("fallback+file://", "file://")


class NotReadError(Exception):
    """Why a map is not read, in words that complete a sentence beginning with its setting."""


class Line(NamedTuple):
    """A key in lower case, its value, which may be empty, and its place."""

    key: str
    value: str
    place: Place


def read(setting: Setting) -> list[Line]:
    """Return the lines of a map. Raises NotReadError, and ConfigError if a file cannot be read."""
    if isinstance(setting.value, ucl.Object):
        raise NotReadError("is in an external map, which is not read")
    nodes = setting.value if isinstance(setting.value, ucl.Array) else [_node(setting)]
    found: list[Line] = []
    for node in nodes:
        text = text_of(node.value)
        path = _path(text)
        if path:
            found += _lines(path)
        elif isinstance(setting.value, ucl.Array) and "://" not in text:
            found += _line(text, node.place)
        else:
            raise NotReadError(f"is in {text}, which is not read")
    return found


def _node(setting: Setting) -> ucl.Node:
    node = ucl.Node(setting.place)
    node.value = setting.value
    return node


def _path(text: str) -> str:
    """Return the file that a map is in; empty if it is none."""
    for prefix in (*_FILE_PREFIXES, *_FILE_SCHEMES):
        text = text[len(prefix) :] if text.startswith(prefix) else text
    return text if text.startswith("/") else ""


def _lines(path: str) -> list[Line]:
    return [each for number, line in lines(Path(path)) for each in _line(line, Place(path, number))]


def _line(text: str, place: Place) -> list[Line]:
    """Return a line of a map, none if it is empty. A key can be in quotes; ``#`` begins a comment."""
    text = text.partition("#")[0].strip()
    if text.startswith('"'):
        key, _, value = text[1:].partition('"')
    else:
        key, value = (*text.split(None, 1), "", "")[:2]
    return [Line(key.lower(), value.strip(), place)] if key else []
