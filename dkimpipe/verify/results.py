"""The Authentication-Results field (RFC 8601): written, and forged ones recognised and taken out.

What a message or DNS says cannot inject anything: a value that is no token, domain or address of section 2.2
is written as a quoted string, without any octet that could end it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.address import to_a_labels
from dkimpipe.message import Field, Message
from dkimpipe.tags import WIDTH

NAME = b"authentication-results"
_MAX_VALUE = 255  # characters
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
_SAFE = re.compile(
    rf"[A-Za-z0-9!#$%&'*+.^_`{{|}}~-]+|({_ATOM})?@[A-Za-z0-9._-]+"
)  # RFC 2045 token, or address


class Result(NamedTuple):
    """What became of one signature.

    ``method``      dkim or domainkeys
    ``verdict``     none pass fail policy neutral temperror permerror (section 2.7.1)
    ``properties``  such as ("header.d", "example.com")
    ``reason``      for people, or empty
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
    """Return a value as it can stand in the field, whatever it holds."""
    text = "".join([c if " " <= c <= "~" else "?" for c in text[:_MAX_VALUE]])
    if _SAFE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def without_claims(message: Message, authserv_id: str) -> bytes:
    """Return the header, raw, without the fields that claim to be ours; every other octet is as it was."""
    if NAME not in message.by_name:
        return message.header
    kept, number, claim = [], -1, False
    for line in io.BytesIO(message.header):
        if line[0] not in b" \t":
            number += 1
            claim = number < len(message.fields) and claims(message.fields[number], authserv_id)
        if not claim:
            kept.append(line)
    return b"".join(kept)


def claims(field: Field, authserv_id: str) -> bool:
    """Tell whether this is a results field that anybody could take for ours (section 5).

    ``authserv_id`` is in lower-case A-labels. The field's own is read as the RFC says, with comments, quotes
    and a version; and as a careless reader might, without its blanks. If it cannot be read, because a comment
    or a quote has no end, it is ours wherever it holds our name.
    """
    if field.name != NAME:
        return False
    try:
        words = _words(field.value)
    except ValueError:
        return authserv_id.encode() in field.value.lower()
    readings = {b"".join(words), *words[:1], *(word.partition(b"/")[0] for word in words[:1])}
    return authserv_id.encode() in {_normal(reading) for reading in readings}


def _normal(name: bytes) -> bytes:
    try:
        return to_a_labels(name).rstrip(b".")
    except ValueError:  # no UTF-8
        return name


def _words(value: bytes) -> list[bytes]:
    """Return the words before the first semicolon, without comments and quotes. Raises ValueError."""
    words = [b""]
    for kind, text in _pieces(value):
        if kind == b";":
            break
        if kind == b" ":
            words.append(b"")
        else:
            words[-1] += text
    return [word for word in words if word]


_PIECE = re.compile(
    rb'(?P<blank>[ \t\r\n]+)|(?P<quote>"(?:[^"\\]|\\.)*")|(?P<text>[^ \t\r\n"();]+)', re.DOTALL
)
_COMMENT = re.compile(rb"[^()\\]+|\\.|\(|\)", re.DOTALL)


def _pieces(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and text of what stands there, a comment as a blank. Raises ValueError."""
    at = 0
    while at < len(value):
        if value[at : at + 1] == b";":
            yield b";", b""
            return
        if value[at : at + 1] == b"(":
            at = _after_comment(value, at)
            yield b" ", b""
            continue
        found = _PIECE.match(value, at)
        if not found:
            raise ValueError("a quote without an end, or a parenthesis")
        at = found.end()
        if found["blank"]:
            yield b" ", b""
        elif found["quote"]:
            yield b"a", re.sub(rb"(?s)\\(.)", rb"\1", found["quote"][1:-1])
        else:
            yield b"a", found["text"]


def _after_comment(value: bytes, at: int) -> int:
    """Return where a comment ends, with those in it. Raises ValueError if it does not."""
    depth = 0
    for found in _COMMENT.finditer(value, at):
        depth += (found[0] == b"(") - (found[0] == b")")
        if not depth:
            return found.end()
    raise ValueError("a comment without an end")
