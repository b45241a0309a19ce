"""A whole senders file, line by line, for the verbs that look at all of it.

The filter itself looks one entry up and reads no more (``senders.lookup``). The rules are the same: a line
that begins with a blank continues the one before, over blank lines and comments; ``#`` and ``;`` begin
comments at the start of a line or behind a blank; lines end in LF or CRLF; a byte order mark may stand first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dkimpipe import senders
from dkimpipe.address import Mailbox, to_a_labels, to_lower
from dkimpipe.choose import Choice, lookup_keys
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned, one_line
from dkimpipe.files import open_file, why
from dkimpipe.options import SignatureOptions
from dkimpipe.senders import Signature

MAX_ENTRY = 65536  # characters behind a key, as for the filter
_BYTE_ORDER_MARK = "\ufeff"
_KEY = re.compile(r"[^ \t\r\n]*")


class Line(NamedTuple):
    """An entry as it stands in the file.

    ``number``  of its first line
    ``key``     as written: in any case, in either spelling of a domain
    ``parts``   what stands behind the key, line by line without comments: offset in the file, and text
    ``path``    of the file

    Octets that are no UTF-8 stand in it as lone surrogates.
    """

    number: int
    key: str
    parts: tuple[tuple[int, str], ...]
    path: str

    @property
    def text(self) -> str:
        """What stands behind the key, continuation lines joined by a blank."""
        return " ".join([text for _, text in self.parts])

    def place(self) -> str:
        """Return ``PATH, line N``."""
        return f"{self.path}, line {self.number}"

    def signatures(self) -> list[Signature]:
        """Return the signatures that it lists. Raises ConfigError."""
        if len(self.text) > MAX_ENTRY:
            raise ConfigError(f"{self.place()}: the entry is over {MAX_ENTRY} octets")
        return senders.parse(self.text, self.place)


def entries(path: str) -> Iterator[Line]:
    """Yield all entries of a map in their order, those too whose key comes again. Raises ConfigError.

    A line that continues nothing belongs to no entry.
    """
    descriptor, _ = open_file(path, "map")
    try:
        with open(descriptor, "rb") as file:
            yield from entries_of(file, path)
    except OSError as error:
        raise ConfigError(f"map {path}: {why(error)}") from None


def entries_of(lines: Iterable[bytes], path: str) -> Iterator[Line]:
    """Yield the entries of lines that stand, or will stand, in this file."""
    first, key, at = 0, "", 0
    parts: list[tuple[int, str]] = []
    for number, octets in enumerate(lines, 1):
        line = octets.decode("utf-8", "surrogateescape")
        start, at = at, at + len(octets)
        if number == 1 and line.startswith(_BYTE_ORDER_MARK):
            start, line = start + _size(_BYTE_ORDER_MARK), line[1:]
        if not line.strip() or line[0] in "#;":
            continue
        if line[0] not in " \t":
            if key:
                yield Line(first, key, tuple(parts), path)
            key = _KEY.match(line)[0]  # type: ignore[index] # it matches the empty string
            first, parts, line = number, [], line[len(key) :]
            start += _size(key)
        text = senders.without_comment(line).strip()
        if text:
            parts.append((start + _size(line[: len(line) - len(line.lstrip())]), text))
    if key:
        yield Line(first, key, tuple(parts), path)


def canonical(key: str) -> bytes:
    """Return a key in lower case and its domain in A-labels: so keys that match the same are the same."""
    local_part, at, domain = _lower(key).rpartition(b"@")
    try:
        return local_part + at + to_a_labels(domain)
    except ValueError:  # no UTF-8, and no domain
        return local_part + at + domain


def select(path: str, keys: Sequence[str]) -> dict[Line, bool]:
    """Return all entries that count, of several with one key the last, and whether it is one of these keys.

    No keys mean all of them. Raises ConfigError for a key that the map does not have.
    """
    by_key = {canonical(line.key): line for line in entries(path)}
    wanted = {canonical(key): key for key in keys}
    for key, written in wanted.items():
        if key not in by_key:
            raise ConfigError(f"{path}: no entry for {one_line(written)}", _what_signs(path, key))
    return {line: not keys or key in wanted for key, line in by_key.items()}


def _what_signs(path: str, key: bytes) -> str:
    local_part, _, domain = key.rpartition(b"@")
    entry = senders.lookup(path, lookup_keys(Mailbox(local_part, domain)))
    return f"the entry that signs for it: {entry.key.decode('utf-8', 'replace')}" if entry else ""


class Use(NamedTuple):
    """A signature of an entry, complete, with a fixed domain.

    ``below``  whether its i= can be in a subdomain of d=
    """

    line: Line
    options: SignatureOptions
    below: bool


def use(line: Line, signature: Signature, settings: Settings) -> Use:
    """Return what the filter makes of a signature.

    Raises ConfigError, and NotSigned if it never signs, or if d= depends on the sender: then its record has
    no fixed name.
    """
    key = _lower(line.key)
    found = []
    for mailbox in _mailboxes(key):
        domain = mailbox.domain if key == b"." else key.rpartition(b"@")[2]
        try:
            found += Choice(mailbox, key, domain, [signature], settings).signatures
        except NotSigned as reason:
            if not found:
                raise NotSigned(f"{line.place()}: {reason}") from None
            found = []
    if len({options.domain for options in found}) != 1:
        d = f"d={signature.options.get('domain', '$keydomain')} of {one_line(line.key)}"
        raise NotSigned(f"{line.place()}: {d} depends on the sender: its records have no fixed name")
    hosts = {options.identity.rpartition(b"@")[2] or options.domain for options in found}
    return Use(line, found[0], hosts != {found[0].domain})


def _mailboxes(key: bytes) -> list[Mailbox]:
    """Return senders that an entry is for: the one, or two that differ in all that macros stand for."""
    key = canonical(key.decode("utf-8", "surrogateescape"))
    local_part, at, domain = key.rpartition(b"@")
    if at:
        return [Mailbox(local_part, domain)]
    domains = (b"a.example", b"b.example") if key == b"." else (domain, b"sub." + domain)
    return [Mailbox(b"postmaster", domain) for domain in domains]


def _lower(text: str) -> bytes:
    return to_lower(text.encode("utf-8", "surrogateescape"))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
