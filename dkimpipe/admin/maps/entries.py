"""The entries of a map, as written, each with its place.

The lines come from ``senders.physical_lines``, which the filter itself uses to look up a single entry.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from dkimpipe import senders
from dkimpipe.address import to_a_labels, to_lower
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place, open_file, why
from dkimpipe.senders import PhysicalLine, Signature

BY_SENDER, BY_LIST, BY_NOTHING = "sender", "list", "nothing"  # what chooses an entry


class Line(NamedTuple):
    """An entry as written in a map, or its equivalent from the conf file or the command line.

    ``place``  of its first line
    ``key``    as written: in any case, in either spelling of a domain; empty where all mail is signed
    ``parts``  the lines after the key, without comments: offset in the file, and text
    ``by``     what chooses it: the address of the sender, the List-Id, or nothing
    ``only``   limits it to one sender's domain, with the value of ``$keydomain``: see ``expansion``

    Bytes that are not valid UTF-8 are lone surrogates.
    """

    place: Place
    key: str
    parts: tuple[tuple[int, str], ...]
    by: str = BY_SENDER
    only: tuple[bytes, bytes] | None = None

    @property
    def text(self) -> str:
        """The text after the key, with continuation lines joined by a space."""
        return " ".join([text for _, text in self.parts])

    @property
    def is_for_all(self) -> bool:
        """Whether it can sign for a sender of any domain."""
        return self.by != BY_SENDER or self.key == "."

    def items(self) -> list[str]:
        """Return its signatures as text, one at least. Raises ConfigError."""
        senders.refuse_long(self.text, self.place)
        return [item or "," for item in senders.split(self.text)] or [""]  # "," fails as an empty one does

    def signatures(self) -> list[Signature]:
        """Return the signatures that it lists. Raises ConfigError."""
        return [each for item in self.items() for each in senders.parse(item, self.place)]


def entries(path: str, by: str = BY_SENDER) -> Iterator[Line]:
    """Yield all entries of a map in their order, those too whose key comes again. Raises ConfigError.

    A line that continues nothing belongs to no entry.
    """
    with _opened(path) as file:
        yield from entries_of(file, path, by)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    descriptor, _ = open_file(path, "map")
    try:
        with open(descriptor, "rb") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"map {path}: {why(error)}") from None


def entries_of(lines: Iterable[bytes], path: str, by: str = BY_SENDER) -> Iterator[Line]:
    """Yield the entries of lines that are, or will be, in this file."""
    first: PhysicalLine | None = None
    parts: list[tuple[int, str]] = []
    for line in senders.physical_lines(lines):
        if not line.continues:
            if first and first.key:
                yield Line(Place(path, first.number), first.key, tuple(parts), by)
            first, parts = line, []
        if line.value:
            parts.append((_offset_of_value(line), line.value))
    if first and first.key:
        yield Line(Place(path, first.number), first.key, tuple(parts), by)


def _offset_of_value(line: PhysicalLine) -> int:
    before = len(line.text) - len(line.text[len(line.key) :].lstrip())
    return line.offset + len(line.text[:before].encode("utf-8", "surrogateescape"))


def orphans(path: str) -> list[Place]:
    """Return the places of the lines that would continue an entry, but precede the first one.

    Raises ConfigError.
    """
    with _opened(path) as file:
        before = itertools.takewhile(lambda line: line.continues, senders.physical_lines(file))
        return [Place(path, line.number) for line in before]


def canonical(key: str) -> bytes:
    """Return a key in lower case and its domain in A-labels: so keys that match the same are the same."""
    local_part, at, domain = lower(key).rpartition(b"@")
    try:
        return local_part + at + to_a_labels(domain)
    except ValueError:  # no UTF-8, and no domain
        return local_part + at + domain


def lower(key: str) -> bytes:
    """Return a key in lower case, as octets of the file."""
    return to_lower(key.encode("utf-8", "surrogateescape"))
