"""The Authentication-Results field (RFC 8601): written, and forged ones found and taken out (section 5).

What is found is removed rather than kept: a field claims our authserv-id if its grammar (section 2.2) says
so, or if it is not in that grammar and holds the id anywhere, for nobody knows how others read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dkimpipe.address import after_comment, after_quoted, to_a_labels, to_u_labels
from dkimpipe.message import Field, Message

NAME = b"authentication-results"

_WIDTH = 76
_LONGEST = 320  # octets of a value: 64 of local part, @, 255 of domain (RFC 5321 section 4.5.3.1)

# No authserv-id of more times the length of ours is ours: a letter and its marks, in UTF-8, not composed.
_OCTETS_A_LETTER = 12

# What needs no quotes: a token (RFC 2045 section 5.1); in a pvalue (RFC 8601 section 2.2) an address, too.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PVALUE = re.compile(rf"{_TOKEN.pattern}|(?:{_ATOM}(?:\.{_ATOM})*)?@{_LABEL}(?:\.{_LABEL})*")

# In fields of others a token may hold UTF-8, too (RFC 8601 section 2.2 and RFC 6532).
_UTF8_TOKEN = re.compile(rb'[^\x00-\x20\x7f()<>@,;:\\"/\[\]?=]+')
_BLANKS = re.compile(rb"[ \t\r\n]*")
_DIGITS = re.compile(rb"[0-9]*")
_ENCODED_WORD = "=?"  # RFC 2047 allows none here, but who decodes the whole value may find our id in it


class Result(NamedTuple):
    """What became of one signature, or of none: a resinfo of RFC 8601 section 2.2.

    ``method``      dkim or domainkeys
    ``verdict``     none, pass, fail, policy, neutral, temperror or permerror
    ``properties``  such as ("header.d", "example.com"); the second of each pair may be of any origin, and is
                    not written where it is empty
    ``reason``      why, for people; of any origin
    """

    method: str
    verdict: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def write(authserv_id: str, results: Sequence[Result]) -> bytes:
    """Return the whole field as LF text, folded, without an LF at its end."""
    lines = [_folded(["Authentication-Results:", _value(_ours(authserv_id), _TOKEN)])]
    lines += [_folded(_words(result)) for result in results] or [" none"]
    return ";\n".join(lines).encode("ascii")


def claims(field: Field, authserv_id: str) -> bool:
    """Tell whether this is an Authentication-Results field that claims, or may claim, our authserv-id."""
    if field.name != NAME:
        return False
    ours = _ours(authserv_id)
    value = field.text.partition(b":")[2]
    try:
        theirs = _authserv_id(value)
    except ValueError:
        needles = [_bare(ours.encode()), _bare(to_u_labels(ours.encode())), _ENCODED_WORD]
        texts = [_bare(value), _bare(_without_comments(value))]
        return any(needle in text for needle in needles for text in texts)
    too_long = len(theirs) > _OCTETS_A_LETTER * len(ours)
    return not too_long and _canonical(theirs) == ours


def without_claims(message: Message, authserv_id: str) -> bytes:
    """Return the raw header of a message without the fields that claim our authserv-id."""
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


def _words(result: Result) -> list[str]:
    """Return a resinfo in the pieces that a line may be folded between."""
    words = [f" {result.method}={result.verdict}"]
    if result.reason:
        words.append(f"reason={_value(result.reason, _TOKEN)}")
    return words + [f"{name}={_value(value, _PVALUE)}" for name, value in result.properties if value]


def _folded(words: list[str]) -> str:
    text, column = words[0], len(words[0])
    for word in words[1:]:
        if column + len(" " + word + ";") > _WIDTH:
            text, column = text + "\n", 0
        text, column = text + " " + word, column + len(" " + word)
    return text


def _value(text: str, bare: re.Pattern[str]) -> str:
    """Return text as it is where that is a bare value, or else as a quoted-string."""
    text = _printable(text)
    return text if bare.fullmatch(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _printable(text: str) -> str:
    """Return text in US-ASCII without controls, and not endless."""
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return "".join([letter if " " <= letter <= "~" else "?" for letter in text])


def _ours(authserv_id: str) -> str:
    """Return our authserv-id as it is written and compared."""
    return _printable(_canonical(authserv_id.encode("utf-8", "replace"))).rstrip(".")


def _canonical(authserv_id: bytes) -> str:
    """Return an authserv-id, UTF-8, in lower case and A-labels, without the dot that may end a domain."""
    return to_a_labels(authserv_id).decode().rstrip(".")


def _authserv_id(value: bytes) -> bytes:
    """Return the authserv-id of a field. Raises ValueError if it is not in the grammar that far."""
    at = _after_blanks_and_comments(value, 0)
    if value[at : at + 1] == b'"':
        end = after_quoted(value, at)
        name = re.sub(rb"\\(.)", rb"\1", value[at + 1 : end - 1], flags=re.DOTALL)
    else:
        token = _UTF8_TOKEN.match(value, at)
        name, end = (token[0], token.end()) if token else (b"", at)
    at = _after_blanks_and_comments(value, end)
    at = _after_blanks_and_comments(value, _after(_DIGITS, value, at))
    if value[at : at + 1] not in (b"", b";"):
        raise ValueError("text behind the authserv-id")
    if not _UTF8_TOKEN.fullmatch(name) or not name.decode("utf-8").isprintable():
        raise ValueError("no authserv-id")
    return name


def _after_blanks_and_comments(value: bytes, at: int) -> int:
    at = _after(_BLANKS, value, at)
    while value[at : at + 1] == b"(":
        at = _after(_BLANKS, value, after_comment(value, at))
    return at


def _after(pattern: re.Pattern[bytes], value: bytes, at: int) -> int:
    found = pattern.match(value, at)
    return found.end() if found else at


def _without_comments(value: bytes) -> bytes:
    """Return a value without its comments, as far as one that does not end."""
    kept = []
    at = 0
    try:
        while (start := value.find(b"(", at)) >= 0:
            kept.append(value[at:start])
            at = after_comment(value, start)
        kept.append(value[at:])
    except ValueError:
        pass
    return b"".join(kept)


def _bare(octets: bytes) -> str:
    """Return octets in lower case without blanks, quotes, backslashes and all that cannot be seen."""
    text = octets.decode("utf-8", "ignore").lower()
    return "".join([letter for letter in text if letter.isprintable() and letter not in ' "\\'])
