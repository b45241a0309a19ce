"""Removes forged Authentication-Results fields: those that claim to be ours (RFC 8601 section 5).

A bare CR ends a line for some readers: a field that contains such a field, for them, is removed, too.
"""

from __future__ import annotations

import re

from dkimpipe.address import to_u_labels
from dkimpipe.message import Field
from dkimpipe.verify.authres import NAME
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.message import Message

_patterns: dict[str, re.Pattern[str]] = {}
_SMUGGLED = re.compile(rb"\r" + NAME + rb"[ \t]*:", re.IGNORECASE)
_ENCODED_WORD = re.compile(rb"=\?[^?]+\?[bBqQ]\?")


def without_forged(message: Message, authserv_id: str) -> bytes:
    """Return the header, raw, without the fields that claim to be ours; all other octets are unchanged."""
    kept = []
    begin = at = 0
    for field in message.fields:
        start = at
        for _ in range(field.text.count(b"\n") + 1):
            at = message.header.find(b"\n", at) + 1 or len(message.header)
        if any(claims_to_be_ours(each, authserv_id) for each in (field, *_smuggled(field))):
            kept.append(message.header[begin:start])
            begin = at
    return b"".join([*kept, message.header[begin:]])


def _smuggled(field: Field) -> list[Field]:
    """Return the fields of this name that begin behind a bare CR within a field."""
    pieces = _SMUGGLED.split(field.text)[1:] if b"\r" in field.text else []
    return [Field(NAME, b":" + piece) for piece in pieces]


def claims_to_be_ours(field: Field, authserv_id: str) -> bool:
    """Return whether this is an Authentication-Results field that some reader could take for ours.

    ``authserv_id`` is in lower-case A-labels. The search covers the beginning of each part between
    semicolons, as seen by readers that parse comments and quotes and by those that do not: in any case and
    width, in A-labels or U-labels, followed or interrupted by anything but letters, digits, dots, hyphens and
    underscores, such as spaces, accents, quotes and control characters, and with a version.

    A field without a name before its first semicolon, or with an unterminated comment or quoted string there,
    is ambiguous: each reader ends it elsewhere, and no list of disguises would be complete. It is taken for
    ours, as section 5 allows for any field. So is one with an encoded word (RFC 2047), which can mean
    anything to a reader that decodes first. The fields of other hosts stay, even if our name is elsewhere in
    them.
    """
    if field.name != NAME:
        return False
    value = field.value
    known: list[bytes] = []
    try:
        for part in parts(value):
            known.append(part)
    except ValueError:
        pass  # the naive reading covers the rest
    if not known or not _plain(known[0]).strip() or _ENCODED_WORD.search(value):
        return True
    ours = _patterns.get(authserv_id) or _patterns.setdefault(authserv_id, _pattern(authserv_id))
    return any(ours.search(_plain(reading)) for reading in (b";".join(known), value))


class _Plain(dict[int, str]):
    """A table for str.translate from each character to a lower-case letter, or a space.

    Character by character, with accents separate: to compose a long row of accents takes quadratic time.
    """

    def __missing__(self, code: int) -> str:
        from unicodedata import normalize

        letters = normalize("NFKD", chr(code)).lower().replace("\u3002", ".")
        kept = [c if c.isalnum() or c in "._-;" else " " for c in letters]
        self[code] = "".join(kept)
        return self[code]


_PLAIN = _Plain()


def _plain(value: bytes) -> str:
    return value.decode("utf-8", "replace").translate(_PLAIN)


def _pattern(authserv_id: str) -> re.Pattern[str]:
    """Return a pattern for this name, with spaces anywhere in it, at the start of a part of plain text."""
    labels = []
    for label in authserv_id.encode().split(b"."):
        spellings = {_plain(label), _plain(to_u_labels(label))}
        labels.append("(?:" + "|".join(" *".join(map(re.escape, each)) for each in spellings) + ")")
    return re.compile(r"(?:^|;) *" + r" *\. *".join(labels) + r"\.*(?![\w.-])")
