"""Data sets of OpenDKIM: lists and tables, in the configuration or in files. See opendkim(8), DATA SETS.

Databases and scripts are not read: their answers may change with each message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.foreignfiles import lines
from dkimpipe.admin.opendkim.conf import Conf, Setting
from dkimpipe.files import Place

_ELSEWHERE = {
    "db": "a Berkeley DB file",
    "dsn": "an SQL database",
    "erlang": "an Erlang function",
    "ldap": "an LDAP directory",
    "ldapi": "an LDAP directory",
    "ldaps": "an LDAP directory",
    "lua": "a Lua script",
    "mdb": "a memory database",
    "memcache": "a memcached server",
    "socket": "a socket",
}


_PLAIN = re.compile(r"[\w.+@-]*")


class NotReadError(Exception):
    """Why a data set is not read, in words that complete a sentence beginning with its setting."""


class Record(NamedTuple):
    """A key of a data set, its value, which may be empty, and its place."""

    key: str
    value: str
    place: Place


class Dataset:
    """The records of a data set, in order.

    ``patterns``  whether the keys are patterns (``refile:``), in which only ``*`` has a meaning of its own
    """

    def __init__(self, records: Sequence[Record], patterns: bool) -> None:
        self.records = records
        self.patterns = patterns
        self._literal: dict[str, int] = {}  # the number of the first record, so that long tables are quick
        for number, record in enumerate(records):
            self._literal.setdefault(record.key, number)
        self._wild = [each for each in enumerate(records) if patterns and not _PLAIN.fullmatch(each[1].key)]

    def find(self, key: str) -> Record | None:
        """Return the first record for a key; upper and lower case differ."""
        found = [number for number, record in self._wild if fits(record.key, key)]
        found += [self._literal[key]] if key in self._literal else []
        return self.records[min(found)] if found else None

    @property
    def keys(self) -> list[str]:
        """All keys, in order."""
        return [record.key for record in self.records]


def fits(pattern: str, text: str) -> bool:
    """Return whether a pattern of a ``refile:`` fits a whole text: dkimf_mkregexp in opendkim/util.c."""
    expression = pattern.replace("+", r"\+").replace(".", r"\.").replace("*", ".*")
    try:
        return bool(re.fullmatch(expression, text, re.DOTALL))
    except re.error:
        return False


def dataset(conf: Conf, setting: Setting) -> Dataset:
    """Return a data set that a setting names. Raises NotReadError, and ConfigError for a file."""
    kind, rest = _kind(setting.value)
    if kind == "list":
        return Dataset(_items(rest, setting.place), False)
    if kind in ("file", "refile"):
        return Dataset(_lines(absolute(conf, rest), kind == "refile"), kind == "refile")
    raise NotReadError(f"is in {_ELSEWHERE.get(kind, 'a data set of an unknown type')}, which is not read")


def absolute(conf: Conf, path: str) -> Path:
    """Return a path as the daemon finds it, which runs in BaseDirectory, or in the root directory."""
    base = conf.get("BaseDirectory")
    return Path("/", base.value if base else "", path)


def _kind(text: str) -> tuple[str, str]:
    """Return the type of a data set and what comes after it: dkimf_db_open in opendkim/opendkim-db.c."""
    kind, colon, rest = text.partition(":")
    if colon and "," not in kind:
        kind = kind.lower()
        return ("list" if kind == "csl" else kind), rest
    if text.endswith(".db"):
        return "db", text
    return ("file" if text.startswith("/") else "list"), text


def _items(text: str, place: Place) -> list[Record]:
    items = (item.partition("=") for item in text.split(",") if item)
    return [Record(key.strip(), value.strip(), place) for key, _, value in items]


def _lines(path: Path, patterns: bool) -> list[Record]:
    found = []
    for number, line in lines(path):
        line = line.partition("#")[0]
        key, *value = line.split(None, 1) or [""]
        if key:
            is_key = not (patterns and line[0].isspace())  # such a pattern is empty, and fits nothing
            found.append(Record(key if is_key else "", "".join(value).strip(), Place(str(path), number)))
    return found
