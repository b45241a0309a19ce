"""Sender and List-Id maps: looking a key up, and the grammar of one entry.

A line is a key, blanks, and a list of signatures; a line that begins with a blank continues the one
before; ``#`` and ``;`` begin comments. The lookup scans the file for its keys and parses nothing but
the entry that it finds: a slip in another line stops nobody's mail, and the length of the map costs
next to nothing.
"""

import posix

from dkimpipe.address import to_lower
from dkimpipe.errors import ConfigError, shown
from dkimpipe.files import open_file, open_still_file, refuse_changed, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Callable

_CHUNK = 65536
_MAX_ENTRY = 65536
_LONG = 1 << 20  # octets; a map of as many may have an index
_LAST_OFFSET = (1 << 63) - 65536
_BLANKS = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Short and long names of the options of a signature.
LONG_NAMES = {
    "a": "algorithm",
    "c": "method",
    "d": "domain",
    "envelope": "envelope",
    "h": "headers",
    "i": "identity",
    "key": "keyfile",
    "login": "login",
    "s": "selector",
    "t": "timestamp",
    "x": "lifetime",
}
TYPES = ("dkim", "domainkeys")
# Those that tell who may have it. Somebody must stand on each side of a colon: an empty login is that of
# whoever did not log in.
FOR_WHOM = ("login", "envelope")


class Entry:
    """A list of signatures as it was found: its ``key``, its ``text`` behind the key, and where it stands."""

    __slots__ = ("_offset", "_path", "key", "text")

    def __init__(self, path: str, offset: int, key: bytes, text: str) -> None:
        self._path = path
        self._offset = offset
        self.key = key
        self.text = text

    def place(self) -> str:
        """Return ``PATH, line N``, counted only when somebody asks."""
        number = 1
        descriptor, _ = open_file(self._path, "map")
        left = self._offset
        while left and (chunk := posix.read(descriptor, min(left, _CHUNK))):
            number += chunk.count(b"\n")
            left -= len(chunk)
        posix.close(descriptor)
        return f"{self._path}, line {number}"


class Signature:
    """One item of an entry, as text.

    ``type``     dkim or domainkeys
    ``options``  what its parentheses hold, by long name
    ``where``    gives the place of the entry, such as ``PATH, line N``, to begin an error with
    """

    __slots__ = ("options", "type", "where")

    def __init__(self, type: str, options: "dict[str, str]", where: "Callable[[], str]") -> None:
        self.type = type
        self.options = options
        self.where = where


def lookup(path: str, keys: "Sequence[bytes]", still: bool = False) -> "Entry | None":
    """Return the entry of the first of these keys (lower case) that the map has, None if it has none.

    If a key stands in the map more than once its last line counts, as in DKIMproxy. ``still``: wait until
    nobody writes to the map. Raises ConfigError.
    """
    keys = [key for key in keys if key and key[:1] not in b"#; \t\r\n"]  # a blank or a comment is no key
    descriptor, status = open_still_file(path, "map") if still else open_file(path, "map")
    try:
        if still:
            refuse_empty(path, status)
        found = _find(path, descriptor, status, keys)
        entry = _entry(path, descriptor, *found) if found else None
        refuse_changed(path, "map", descriptor, status)
        return entry
    except OSError as error:
        raise ConfigError(f"map {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)


def refuse_empty(path: str, status: "posix.stat_result") -> None:
    """Raise ConfigError for a map without an octet: whoever is writing it anew has not come far."""
    if not status.st_size:
        raise ConfigError(f"map {path} is empty", "if it is meant so, write a comment into it")


def _entry(path: str, descriptor: int, key: bytes, offset: int) -> Entry:
    entry = Entry(path, offset, key, "")
    for line in _lines(descriptor, offset + len(key)):
        entry.text += " " + without_comment(line)
        if len(entry.text) > _MAX_ENTRY:
            raise ConfigError(f"{entry.place()}: the entry is over {_MAX_ENTRY} octets")
    entry.text = entry.text.strip()
    return entry


def parse(text: str, where: "Callable[[], str]") -> "list[Signature]":
    """Return the signatures that an entry lists: ``TYPE`` or ``TYPE(NAME=VALUE,...)``, divided by commas.

    Raises ConfigError; ``where`` gives the place it begins with.
    """
    signatures = []
    for item in split(text):
        name, opening, inside = item.partition("(")
        name = name.strip()
        if not item:
            raise ConfigError(f"{where()}: nothing between two commas, or behind the last")
        if name not in TYPES:
            hint = f"known are {' and '.join(TYPES)}"
            raise ConfigError(f"{where()}: unknown type of signature: '{shown(item)}'", hint)
        if opening and not inside.endswith(")"):
            fault = "text behind the closing parenthesis" if ")" in inside else "no closing parenthesis"
            raise ConfigError(f"{where()}: {fault}: '{shown(item)}'")
        options = _options(inside[:-1], where) if inside[:-1].strip() else {}
        signatures.append(Signature(name, options, where))
    if not signatures:
        raise ConfigError(f"{where()}: no signature behind the key", "such as: dkim(s=SELECTOR,key=FILE)")
    return signatures


def _options(text: str, where: "Callable[[], str]") -> "dict[str, str]":
    options: dict[str, str] = {}
    for option in text.split(","):
        name, _, value = (part.strip() for part in option.partition("="))
        long_name = LONG_NAMES.get(name, name)
        if long_name not in LONG_NAMES.values():
            raise ConfigError(
                f"{where()}: unknown option: '{shown(option.strip())}'", f"known are {' '.join(LONG_NAMES)}"
            )
        if not value:
            raise ConfigError(f"{where()}: no value: '{shown(option.strip())}'")
        if long_name in options:
            raise ConfigError(f"{where()}: given twice: '{shown(option.strip())}'")
        if long_name in FOR_WHOM and not all(item.strip(" @") for item in value.split(":")):
            raise ConfigError(f"{where()}: nobody on one side of a colon: '{shown(option.strip())}'")
        options[long_name] = value
    return options


def split(text: str) -> "list[str]":
    """Return the items between the commas that stand outside parentheses."""
    items, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "," and depth <= 0:
            items.append(text[start:at].strip())
            start = at + 1
        depth += (letter == "(") - (letter == ")")
    items.append(text[start:].strip())
    return items if items != [""] else []


def _find(
    path: str, descriptor: int, status: "posix.stat_result", keys: "Sequence[bytes]"
) -> "tuple[bytes, int] | None":
    """Return the first of these keys that the map has, and where its last line begins."""
    if status.st_size >= _LONG:
        from dkimpipe import mapindex

        index = mapindex.load(path, status)
        if index >= 0:
            try:
                return mapindex.find(index, keys, lambda key, at: _stands_at(descriptor, key, at))
            finally:
                posix.close(index)
    return _scan(descriptor, keys)


def _stands_at(descriptor: int, key: bytes, offset: int) -> bool:
    """Tell whether the line at this offset is that of a key."""
    if offset > _LAST_OFFSET:
        return False
    before = min(offset, len(_BYTE_ORDER_MARK))
    octets = posix.pread(descriptor, before + len(key) + 1, offset - before)
    begins = octets[:before] in (b"", _BYTE_ORDER_MARK) or octets[before - 1 : before] == b"\n"
    line = octets[before:]
    return begins and _lower(line[: len(key)]) == key and line[len(key) :] in (b"", b" ", b"\t", b"\r", b"\n")


def _scan(descriptor: int, keys: "Sequence[bytes]") -> "tuple[bytes, int] | None":
    """Return the first of these keys that the map has, and where its last line begins.

    A sender's addresses and its domain end alike, so one search for that end tells of most of a long map
    that none of them is there. The parents of the domain, and the dot, are only looked for after that.
    """
    particular = next((number for number, key in enumerate(keys, 1) if b"@" not in key), len(keys))
    for some in (keys[:particular], keys[particular:]):
        alike = all(key.endswith(some[-1]) for key in some)
        found = _scan_once(descriptor, some, some[-1] if alike else b"") if some else None
        if found:
            return found
    return None


def _scan_once(descriptor: int, keys: "Sequence[bytes]", common_end: bytes) -> "tuple[bytes, int] | None":
    found = None
    best = len(keys)
    needles = [b"\n" + key for key in keys]
    start = -1  # where ``octets`` begin in the file
    octets = b"\n" + posix.pread(descriptor, _CHUNK, 0)
    if octets.startswith(b"\n" + _BYTE_ORDER_MARK):
        octets = b"\n" * 4 + octets[4:]
    while True:
        last = len(octets) < _CHUNK
        octets = _lower(octets + b"\n" if last else octets)
        # From the last line end it is read again, so that a key and the blank behind it are never cut apart.
        whole = octets.rfind(b"\n")
        end = whole if whole > 0 else len(octets) - 1
        if octets.rfind(common_end) >= 0:
            for rank in range(min(best + 1, len(keys))):
                line = _last_line(octets, needles[rank], end)
                if line >= 0:
                    best, found = rank, (keys[rank], start + line + 1)
                    break
        if last:
            return found
        start += whole if whole > 0 else len(octets)
        octets = posix.pread(descriptor, _CHUNK, start)


def places(lines: "Iterable[bytes]") -> "Iterator[tuple[bytes, int]]":
    """Yield each key of a map, in lower case, with the offset of its line: what the lookup can find."""
    offset = 0
    for line in lines:
        at = len(_BYTE_ORDER_MARK) if not offset and line.startswith(_BYTE_ORDER_MARK) else 0
        if line[at : at + 1] not in (b"", b"#", b";", b" ", b"\t", b"\r", b"\n"):
            key = line[at:].replace(b"\t", b" ").replace(b"\r", b" ").replace(b"\n", b" ").partition(b" ")[0]
            yield _lower(key), offset + at
        offset += len(line)


def _lower(octets: bytes) -> bytes:
    """Return octets in lower case, in as many octets, so that what stands where stays there."""
    lowered = to_lower(octets)
    return lowered if len(lowered) == len(octets) else octets.lower()


def _last_line(octets: bytes, needle: bytes, end: int) -> int:
    """Return where the last line of this key begins, before ``end``; -1 if there is none."""
    while True:
        at = octets.rfind(needle, 0, end)
        if at < 0 or octets[at + len(needle)] in _BLANKS:
            return at
        end = at


def _lines(descriptor: int, at: int) -> "Iterator[str]":
    """Yield the rest of the line at this offset, and the lines that continue it."""
    for number, line in enumerate(_all_lines(descriptor, at)):
        if number and line[:1] not in (" ", "\t"):
            if line.strip() and line[0] not in "#;":
                return
            continue
        yield line


def _all_lines(descriptor: int, at: int) -> "Iterator[str]":
    held = b""
    while chunk := posix.pread(descriptor, _CHUNK, at):
        at += len(chunk)
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")
        held = held[: 2 * _MAX_ENTRY]  # enough to be refused
    yield held.decode("utf-8", "surrogateescape")


def without_comment(line: str) -> str:
    """Return a line without the blanks round it and the comment at its end."""
    line = " " + line.strip().replace("\t", " ")
    return line.partition(" #")[0].partition(" ;")[0]
