"""Sender and List-Id maps: key lookup, and the grammar of one entry.

A line is a key, white space, and a list of signatures; a line that begins with white space continues the
one before; ``#`` and ``;`` begin comments. The lookup scans the file for its keys and parses only the entry
that it finds: an error in one entry does not hold up other domains, and the length of the map costs next to
nothing.
"""

import posix

from dkimpipe.address import to_lower
from dkimpipe.errors import ConfigError, MissingFileError, shown
from dkimpipe.files import CHUNK, Place, open_directory, open_file, refuse_changed, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONG_MAP = 1 << 20  # octets; from this size on a map may have an index: scanning a smaller one costs less
_MAX_ENTRY = 65536  # characters
_LAST_OFFSET = (1 << 63) - CHUNK  # pread(2) cannot read beyond
_WHITE_SPACE = b" \t\r\n"
AT_ANY = b"*@"  # before a domain: every address in it
AT_SUBDOMAINS = b"*@*."  # before a domain: every address in its subdomains
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CAPITALS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

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
    "missing": "missing",
    "s": "selector",
    "t": "timestamp",
    "x": "lifetime",
}
TYPES = ("dkim", "domainkeys")
# The options that limit who may use it. Items between colons must not be empty: an empty login is that of a
# client that did not log in.
PERMISSIONS = ("login", "envelope")


class Entry:
    """An entry as found: its ``key``, the ``text`` after the key, and its ``place``."""

    __slots__ = ("key", "place", "text")

    def __init__(self, key: bytes, text: str, place: Place) -> None:
        self.key = key
        self.text = text
        self.place = place


class _PlaceInMap(Place):
    """The place of the line at an offset. The lines before it are counted on demand: errors are rare."""

    __slots__ = ("_offset",)

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(path)
        self._offset = offset

    @property
    def line(self) -> int:
        """The number of the line, from 1. Raises ConfigError if the map can no longer be opened."""
        number = 1
        descriptor, _ = open_file(self.path, "map")
        left = self._offset
        while left and (chunk := posix.read(descriptor, min(left, CHUNK))):
            number += chunk.count(b"\n")
            left -= len(chunk)
        posix.close(descriptor)
        return number


class PhysicalLine:
    """A line of a map that is neither empty nor a comment.

    ``number``  of the line, from 1
    ``offset``  of ``text``, in octets; both from where the reading began
    ``text``    with its line end, without a byte order mark; octets that are not UTF-8 are lone surrogates
    """

    __slots__ = ("number", "offset", "text")

    def __init__(self, number: int, offset: int, text: str) -> None:
        self.number = number
        self.offset = offset
        self.text = text

    @property
    def continues(self) -> bool:
        """Whether it continues the entry of the lines before, if there is one."""
        return self.text[0] in " \t"

    @property
    def key(self) -> str:
        """The key as written: a quoted local part may have spaces. Empty if the line continues an entry."""
        end = 0
        if self.text[0] == '"':
            end = self.text.replace("\\\\", "  ").replace('\\"', "  ").find('"', 1) + 1
        rest = self.text[end:].replace("\t", " ").replace("\r", " ").replace("\n", " ")
        return self.text[:end] + rest.partition(" ")[0]

    @property
    def value(self) -> str:
        """The text after the key, without surrounding white space and a comment."""
        text = " " + self.text[len(self.key) :].strip().replace("\t", " ")
        return text.partition(" #")[0].partition(" ;")[0].strip()


def physical_lines(lines: "Iterable[bytes]") -> "Iterator[PhysicalLine]":
    """Yield the lines that are neither empty nor comments, from all lines of a map with their ends."""
    offset = 0
    for number, octets in enumerate(lines, 1):
        mark = len(_BYTE_ORDER_MARK) if number == 1 and octets.startswith(_BYTE_ORDER_MARK) else 0
        text = octets[mark:].decode("utf-8", "surrogateescape")
        if text.strip() and text[0] not in "#;":
            yield PhysicalLine(number, offset + mark, text)
        offset += len(octets)


class Signature:
    """One item of an entry, as text.

    ``type``     dkim or domainkeys
    ``options``  the options in its parentheses, by long name
    ``place``    of the entry
    """

    __slots__ = ("options", "place", "type")

    def __init__(self, type: str, options: "dict[str, str]", place: Place) -> None:
        self.type = type
        self.options = options
        self.place = place


def lookup(path: str, keys: "Sequence[bytes]", wait: bool = False) -> "Entry | None":
    """Return the entry of the first of these keys (lower case) that is in the map, None if there is none.

    If a key is in the map more than once its last line applies, as in DKIMproxy. ``wait`` until the
    map is no longer being written to. Raises ConfigError.
    """
    keys = [
        key for key in keys if key and key[:1] not in b"#; \t\r\n"
    ]  # white space or a comment is not a key
    descriptor, status = open_file(path, "map", wait)
    try:
        if wait:
            refuse_empty(path, status)
        found = _find(path, descriptor, status, keys)
        entry = _entry(path, descriptor, *found) if found else None
        refuse_changed(path, "map", descriptor, status)
        return entry
    except OSError as error:
        raise ConfigError(f"map {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)


def lookup_in_all(path: str, keys: "Sequence[bytes]", wait: bool = False) -> "Entry | None":
    """Return the same from the map and the maps of its directory: see ``directory_of``.

    The most particular key wins, wherever it is; of several maps that have it the first one.
    """
    directory = directory_of(path)
    try:
        descriptor, status = open_directory(directory, "directory", wait)
    except MissingFileError:
        return lookup(path, keys, wait)
    except ConfigError:
        lookup(path, keys, wait)  # its own fault, if it has one, is the cause
        raise
    found = None
    try:
        for each in [path, *_maps_in(directory, descriptor)]:
            entry = lookup(each, keys, wait)
            if entry:
                found, keys = entry, keys[: keys.index(entry.key)]
            if not keys:
                break
        refuse_changed(directory, "directory", descriptor, status)
        return found
    finally:
        posix.close(descriptor)


def directory_of(path: str) -> str:
    """Return the directory with more maps, which need not exist: the files in it whose names end in .conf."""
    return path + ".d"


def more_maps(path: str) -> "list[str]":
    """Return the maps in the directory of a map, in order of name. Raises ConfigError."""
    directory = directory_of(path)
    try:
        descriptor, _ = open_directory(directory, "directory")
    except MissingFileError:
        return []
    try:
        return _maps_in(directory, descriptor)
    finally:
        posix.close(descriptor)


def _maps_in(directory: str, descriptor: int) -> "list[str]":
    try:
        names = posix.listdir(descriptor)
    except OSError as error:
        raise ConfigError(f"directory {directory}: {why(error)}") from None
    return [f"{directory}/{name}" for name in sorted(names) if name.endswith(".conf") and name[0] != "."]


def refuse_empty(path: str, status: "posix.stat_result") -> None:
    """Raise ConfigError for an empty map: it may be in the middle of being rewritten."""
    if not status.st_size:
        raise ConfigError(f"map {path} is empty", "if this is intended, put a comment in it")


def _entry(path: str, descriptor: int, key: bytes, offset: int) -> Entry:
    entry = Entry(key, "", _PlaceInMap(path, offset))
    for line in physical_lines(_lines_from(descriptor, offset + len(key))):
        if not line.continues:
            break
        entry.text = f"{entry.text} {line.value}".strip()
        refuse_long(entry.text, entry.place)
    return entry


def _lines_from(descriptor: int, offset: int) -> "Iterator[bytes]":
    """Yield a space instead of a key, with the rest of its line, and all lines below; long ones in part."""
    held = b" "
    while chunk := posix.pread(descriptor, CHUNK, offset):
        offset += len(chunk)
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        held = held[: 2 * _MAX_ENTRY]  # enough to exceed the limit
    yield held


def refuse_long(text: str, place: Place) -> None:
    """Raise ConfigError if the text of an entry exceeds the limit."""
    if len(text) > _MAX_ENTRY:
        raise ConfigError(f"{place}: the entry is longer than {_MAX_ENTRY} bytes")


def parse(text: str, place: Place) -> "list[Signature]":
    """Return the signatures that an entry lists: ``TYPE`` or ``TYPE(NAME=VALUE,...)``, separated by commas.

    Raises ConfigError, which begins with the place.
    """
    signatures = []
    for item in split(text):
        name, opening, inside = item.partition("(")
        name = name.strip()
        if not item:
            raise ConfigError(f"{place}: empty item or trailing comma")
        if name not in TYPES:
            hint = f"known types: {', '.join(TYPES)}"
            raise ConfigError(f"{place}: unknown signature type: '{shown(item)}'", hint)
        if opening and not inside.endswith(")"):
            fault = "text after the closing parenthesis" if ")" in inside else "no closing parenthesis"
            raise ConfigError(f"{place}: {fault}: '{shown(item)}'")
        options = _options(inside[:-1], place) if inside[:-1].strip() else {}
        signatures.append(Signature(name, options, place))
    if not signatures:
        raise ConfigError(f"{place}: no signature after the key", "for example: dkim(s=SELECTOR,key=FILE)")
    return signatures


def _options(text: str, place: Place) -> "dict[str, str]":
    options: dict[str, str] = {}
    for option in text.split(","):
        name, _, value = (part.strip() for part in option.partition("="))
        long_name = LONG_NAMES.get(name, name)
        if long_name not in LONG_NAMES.values():
            raise ConfigError(
                f"{place}: unknown option: '{shown(option.strip())}'",
                f"known options: {' '.join(LONG_NAMES)}",
            )
        if not value:
            raise ConfigError(f"{place}: no value: '{shown(option.strip())}'")
        if long_name in options:
            raise ConfigError(f"{place}: duplicate option: '{shown(option.strip())}'")
        if long_name in PERMISSIONS and not all(item.strip(" @") for item in value.split(":")):
            raise ConfigError(f"{place}: empty item next to a colon: '{shown(option.strip())}'")
        options[long_name] = value
    return options


def split(text: str) -> "list[str]":
    """Return the items separated by commas outside parentheses."""
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
    """Return the first of these keys that is in the map, and the offset of its last line."""
    if status.st_size >= LONG_MAP:
        from dkimpipe import mapindex

        index = mapindex.load(path, status)
        if index >= 0:
            try:
                return mapindex.find(index, keys, lambda key, at: _is_line_of(descriptor, key, at))
            finally:
                posix.close(index)
    return _scan(descriptor, keys)


def _is_line_of(descriptor: int, key: bytes, offset: int) -> bool:
    """Return whether the line at this offset is that of a key."""
    if offset > _LAST_OFFSET:
        return False
    before = min(offset, len(_BYTE_ORDER_MARK))
    octets = posix.pread(descriptor, before + len(key) + 1, offset - before)
    begins = octets[:before] in (b"", _BYTE_ORDER_MARK) or octets[before - 1 : before] == b"\n"
    line = octets[before:]
    return begins and lower(line[: len(key)]) == key and line[len(key) :] in (b"", b" ", b"\t", b"\r", b"\n")


def _scan(descriptor: int, keys: "Sequence[bytes]") -> "tuple[bytes, int] | None":
    """Return the first of these keys that is in the map, and the offset of its last line.

    A sender's addresses and its domain have the same ending, so one search for that ending rules out most of
    a long map. The parents of the domain, and the dot, are searched for only after that.
    """
    first_parent = next((number for number, key in enumerate(keys, 1) if b"@" not in key), len(keys))
    for group in filter(None, (keys[:first_parent], keys[first_parent:])):
        share_end = all(key.endswith(group[-1]) for key in group)
        found = _scan_once(descriptor, group, group[-1] if share_end else b"")
        if found:
            return found
    return None


def _scan_once(descriptor: int, keys: "Sequence[bytes]", common_end: bytes) -> "tuple[bytes, int] | None":
    found = None
    best = len(keys)
    needles = [b"\n" + key for key in keys]
    for_subdomains = [key.startswith(AT_SUBDOMAINS) for key in keys]
    all_keys = b"".join(keys)
    start = -1  # offset of ``octets`` in the file
    octets = b"\n" + posix.pread(descriptor, CHUNK, 0)
    if octets.startswith(b"\n" + _BYTE_ORDER_MARK):
        octets = b"\n" * 4 + octets[4:]
    while True:
        at_end = len(octets) < CHUNK
        if at_end:
            octets += b"\n"
        # Reading resumes at the last line end, so that a key and the white space after it are never split.
        line_end = octets.rfind(b"\n")
        end = line_end if line_end > 0 else len(octets) - 1
        octets = _lower_for(octets, common_end)
        if octets.rfind(common_end) >= 0:
            octets = _lower_for(octets, all_keys)
            # Few maps have such a pattern; the search for an asterisk costs next to nothing.
            no_pattern = b"*" not in octets or b"\n" + AT_SUBDOMAINS not in octets
            for rank in range(min(best + 1, len(keys))):
                if no_pattern and for_subdomains[rank]:
                    continue
                line = _last_line(octets, needles[rank], end)
                if line >= 0:
                    best, found = rank, (keys[rank], start + line + 1)
                    break
        if at_end:
            return found
        start += line_end if line_end > 0 else len(octets)
        octets = posix.pread(descriptor, CHUNK, start)


def _lower_for(octets: bytes, text: bytes) -> bytes:
    """Return octets in lower case, or unchanged if it makes no difference to a search for parts of the text.

    To search for each capital that the text could have costs half as much as the change of all octets.
    """
    if octets.isascii():
        for capital in _CAPITALS.intersection(text.upper()):
            if capital in octets:
                break
        else:
            return octets
    return lower(octets)


def lower(octets: bytes) -> bytes:
    """Return octets in lower case, without changing their number, so that offsets stay valid."""
    lowered = to_lower(octets)
    return lowered if len(lowered) == len(octets) else octets.lower()


def _last_line(octets: bytes, needle: bytes, end: int) -> int:
    """Return the start of the last line of this key before ``end``; -1 if there is none."""
    while True:
        at = octets.rfind(needle, 0, end)
        if at < 0 or octets[at + len(needle)] in _WHITE_SPACE:
            return at
        end = at
