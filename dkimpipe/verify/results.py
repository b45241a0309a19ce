"""The Authentication-Results field (RFC 8601): writing, and removal of forged ones.

Text from a message or DNS cannot inject anything: a value that is not a token, domain or address (section
2.2) is written as a quoted string, without any octet that could end it, even for a reader that does not parse
quoted pairs (such as Mail::AuthenticationResults), or quotes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unicodedata import normalize

from dkimpipe.address import to_u_labels
from dkimpipe.message import Field, Message
from dkimpipe.tags import WIDTH

NAME = b"authentication-results"
_MAX_VALUE = 255  # characters
_ENDS = '"\\;()'
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"  # a token of RFC 2045; a domain is one, too
# RFC 5322, without "/", "=" and "?": a token has none of them, and not all read header.i==@example.com.
_ATOM = r"[A-Za-z0-9!#$%&'*+^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_-]+"
_SAFE = re.compile(rf"{_WORD}|(?:{_ATOM}(?:\.{_ATOM})*)?@{_LABEL}(?:\.{_LABEL})*")


class Result(NamedTuple):
    """The result for one signature.

    ``method``      dkim or domainkeys
    ``verdict``     none pass fail policy neutral temperror permerror (section 2.7.1)
    ``properties``  such as ("header.d", "example.com")
    ``reason``      in words, or empty
    """

    method: str
    verdict: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def write(authserv_id: str, results: Sequence[Result]) -> bytes:
    """Return the field as LF text, folded at WIDTH columns where its parts allow it, no LF at its end."""
    lines = [f"Authentication-Results: {authserv_id}"]
    for result in results:
        lines[-1] += ";"
        words = [f"{result.method}={result.verdict}"]
        if result.reason:
            words.append(f"reason={_value(result.reason)}")
        words += [f"{name}={_value(value)}" for name, value in result.properties]
        lines.append("")
        for word in words:
            if lines[-1] and len(lines[-1]) + 1 + len(word) >= WIDTH:
                lines.append("")
            lines[-1] += " " + word
    if not results:
        lines[-1] += "; none"
    return "\n".join(lines).encode("ascii")


def _value(text: str) -> str:
    """Return a value in a form that is safe in the field: at most _MAX_VALUE characters of it."""
    text = "".join([c if " " <= c <= "~" and c not in _ENDS else "?" for c in text[:_MAX_VALUE]])
    return text if _SAFE.fullmatch(text) else f'"{text}"'


def without_claims(message: Message, authserv_id: str) -> bytes:
    """Return the header, raw, without the fields that claim to be ours; all other octets are unchanged."""
    if NAME not in message.by_name:
        return message.header
    kept = []
    begin = at = 0
    for field in message.fields:
        start = at
        for _ in range(field.text.count(b"\n") + 1):
            at = message.header.find(b"\n", at) + 1 or len(message.header)
        if claims(field, authserv_id):
            kept.append(message.header[begin:start])
            begin = at
    return b"".join([*kept, message.header[begin:]])


def claims(field: Field, authserv_id: str) -> bool:
    """Return whether this is a results field that any reader could take for ours (section 5).

    ``authserv_id`` is in lower-case A-labels. The search covers the beginning of each part between
    semicolons, as seen by readers that parse comments and quotes and by those that do not: in any case and
    width, in A-labels or U-labels, followed or interrupted by anything but letters, digits, dots, hyphens and
    underscores, such as spaces, accents, quotes and control characters, and with a version.

    A field without a name before its first semicolon, or with an unterminated comment or quote there, is
    ambiguous: each reader ends it elsewhere, and no list of disguises would be complete. It is taken for
    ours, as section 5 allows for any. So is one with an encoded word (RFC 2047), which can mean anything to a
    reader that decodes first. Fields of others stay, even if they contain our name elsewhere.
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
    ours = _at_the_beginning(authserv_id)
    return any(ours.search(_plain(reading)) for reading in (b";".join(known), value))


_ENCODED_WORD = re.compile(rb"=\?[^?]+\?[bBqQ]\?")


class _Plain(dict[int, str]):
    """A table for str.translate from each character to a lower-case letter, or a space.

    Character by character, with accents separate: to compose a long row of accents takes quadratic time.
    """

    def __missing__(self, code: int) -> str:
        letters = normalize("NFKD", chr(code)).lower().replace("\u3002", ".")
        kept = [c if c.isalnum() or c in "._-;" else " " for c in letters]
        self[code] = "".join(kept)
        return self[code]


_PLAIN = _Plain()


def _plain(value: bytes) -> str:
    return value.decode("utf-8", "replace").translate(_PLAIN)


@functools.lru_cache(maxsize=1)
def _at_the_beginning(authserv_id: str) -> re.Pattern[str]:
    """Return a pattern for this name, with spaces anywhere in it, at the start of a part of plain text."""
    labels = []
    for label in authserv_id.encode().split(b"."):
        spellings = {_plain(label), _plain(to_u_labels(label))}
        labels.append("(?:" + "|".join(" *".join(map(re.escape, each)) for each in spellings) + ")")
    return re.compile(r"(?:^|;) *" + r" *\. *".join(labels) + r"\.*(?![\w.-])")


_PIECE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^"(),;]+|[,;]', re.DOTALL)
_COMMENT = re.compile(rb"[^()\\]+|\\.|\(|\)", re.DOTALL)


def parts(value: bytes, separator: bytes = b";") -> Iterator[bytes]:
    """Yield the parts between separators (semicolon or comma) outside comments and quotes.

    A comment becomes a space; quotes stay. Raises ValueError for an unterminated comment or quote.
    """
    part, at = [], 0
    while at < len(value):
        if value[at] == ord("("):
            at = _after_comment(value, at)
            part.append(b" ")
            continue
        found = _PIECE.match(value, at)
        if not found:
            raise ValueError("a quote without an end, or a parenthesis")
        at = found.end()
        if found[0] == separator:
            yield b"".join(part)
            part = []
        else:
            part.append(found[0])
    yield b"".join(part)


def _after_comment(value: bytes, at: int) -> int:
    """Return the end of a comment, including nested ones. Raises ValueError if there is none."""
    depth = 0
    for found in _COMMENT.finditer(value, at):
        depth += (found[0] == b"(") - (found[0] == b")")
        if not depth:
            return found.end()
    raise ValueError("a comment without an end")
