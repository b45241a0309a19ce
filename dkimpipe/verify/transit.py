"""What was changed in transit, after signing: common changes are undone, one at a time.

If the signature is valid without a change, that is the cause.
"""

from __future__ import annotations

import hashlib
import re
from binascii import Error as NotBase64
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from itertools import islice
from typing import Callable

from dkimpipe import digest
from dkimpipe.body import EMPTY
from dkimpipe.canonical import Body
from dkimpipe.errors import printable
from dkimpipe.files import CHUNK
from dkimpipe.message import Field, Message
from dkimpipe.verify import keyrecord
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.keyrecord import KeyRecord
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.signature import Signature

_BROKEN = re.compile(rb"^([^\n]{998}(?:\n [^\n]{997})*)\n ([^\n]*)", re.MULTILINE)
_AT_LINE_ENDS = re.compile(rb"(?<![ \t])[ \t]+(?=\n|\Z)")
_LINE = re.compile(rb"[^\r\n][^\n]*\n")  # one that is not empty, and a CR that is not at its end
_ENCODED = re.compile(
    rb"^content-transfer-encoding:[ \t]*(?P<encoding>base64|quoted-printable)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TEXT_PART = re.compile(rb"^content-type:[ \t]*text/", re.IGNORECASE | re.MULTILINE)
_MAX_PARTS = 100  # of a multipart, whose transfer encoding is undone
_MAX_PART_HEADER = 1 << 16  # octets
_MAX_GUESSES = 200  # at changes of a header; each costs a hash of it


def _without_trailing_white_space(text: bytes) -> bytes:
    return _AT_LINE_ENDS.sub(b"", text)


def _by_chunks(undo: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a function that undoes a change in some lines at a time: each change costs memory."""
    return lambda text: b"".join(map(undo, _chunks(text)))


def _chunks(text: bytes) -> Iterator[bytes]:
    """Yield LF text in pieces of whole lines."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at + CHUNK) + 1 or len(text)
        yield text[at:end]
        at = end


def _of_base64(text: bytes) -> bytes:
    """Return the text that was encoded, as LF text; nothing if it is not base64."""
    try:
        return a2b_base64(text).replace(b"\r\n", b"\n")
    except NotBase64:
        return b""


def _of_quoted_printable(text: bytes) -> bytes:
    return a2b_qp(text).replace(b"\r\n", b"\n")


_DECODE = {b"base64": _of_base64, b"quoted-printable": _of_quoted_printable}


def _parts_in_8bit(text: bytes) -> bytes:
    """Return a multipart with the text parts that are encoded, and need not be, as 8-bit text."""
    pieces = []
    at = 0
    for found in islice(_ENCODED.finditer(text), _MAX_PARTS):
        start, end = found.span("encoding")
        delimiter = text.rfind(b"\n--", max(0, start - _MAX_PART_HEADER), start) + 1
        content = text.find(b"\n\n", end, end + _MAX_PART_HEADER) + 2
        line = text[delimiter : text.find(b"\n", delimiter)]
        after = text.find(b"\n" + line, content) if content > 1 else -1
        if delimiter < at or after < 0 or not _TEXT_PART.search(text, delimiter, content):
            continue
        decoded = _DECODE[found["encoding"].lower()](text[content:after])
        if not decoded.isascii():
            pieces += [text[at:start], b"8bit", text[end:content], decoded]
            at = after
    return b"".join([*pieces, text[at:]])


# Changes of the body, and how to undo them in LF text.
_BODY_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "white space at line ends was added": _by_chunks(_without_trailing_white_space),
    "'From ' at the start of a line became '>From '": _by_chunks(
        lambda text: re.sub(rb"(?m)^>From ", b"From ", text)
    ),
    "lines over 998 octets were broken": lambda text: _BROKEN.sub(lambda m: m[0].replace(b"\n ", b""), text),
    "CRs were added": lambda text: text.replace(b"\r", b""),
    "lone CRs were converted to line ends": lambda text: text.replace(b"\r", b"\n"),
    "empty lines were added at the top": lambda text: text.lstrip(b"\n"),
    "8-bit text was converted to quoted-printable": _of_quoted_printable,
    "8-bit text was converted to base64": _of_base64,
    "8-bit text in parts was converted to quoted-printable or base64": _parts_in_8bit,
}
# Changes of a field, likewise.
_FIELD_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "was refolded": lambda text: text.replace(b"\n", b""),
    "was given a tag in brackets": lambda text: re.sub(
        rb"^([^:]*:\s*)((?:re|fwd?|aw):\s*)?\[[^]]*\]\s*", rb"\1\2", text, flags=re.I
    ),
    "was given white space at line ends": _without_trailing_white_space,
}


def change_of_body(signature: Signature, text: bytes) -> str:
    """Return the change that makes the body hash wrong, if it is found; ``text`` is the body as LF text."""
    for change, undo in _BODY_UNDO.items():
        if _body_hash(signature, undo(text)) == signature.body_hash:
            return f"{change} after signing"
    line = _last_signed_line(signature, text)
    return f"everything from line {line + 1} of the body on was added after signing" if line else ""


def _canonical(signature: Signature, text: bytes, empty: bytes = b"") -> bytearray:
    octets = bytearray()
    body = Body(signature.body_canonicalization, octets.extend, empty)
    for chunk in _chunks(text):
        body.update(chunk)
    body.finish()
    return octets


def _body_hash(signature: Signature, text: bytes) -> bytes:
    octets = _canonical(signature, text, EMPTY[signature.body_canonicalization])
    return hashlib.new(signature.hash_name, memoryview(octets)[: signature.body_length]).digest()


def _last_signed_line(signature: Signature, text: bytes) -> int:
    """Return the number of signed lines of the body, if the rest was added; otherwise 0.

    An empty line is never the last one: canonicalization drops it.
    """
    octets = _canonical(signature, text)
    view = memoryview(octets)
    so_far = hashlib.new(signature.hash_name)
    at = number = 0
    for line in _LINE.finditer(octets):
        so_far.update(view[at : line.end()])
        number += octets.count(b"\n", at, line.end())
        at = line.end()
        if so_far.digest() == signature.body_hash:
            return number
    return 0


def state_of_header(check: DkimCheck, message: Message, resolver: Resolver) -> list[str]:
    """Return whether the header is unchanged, and what was changed, line by line; nothing without a key.

    Raises Verdict.
    """
    signature = check.signature
    keys = [keyrecord.parse(text) for text in resolver.texts(signature.key_name).texts]
    hash_value = check.digest()
    if any(key.verifies(signature.signature, hash_value, signature.hash_name) for key in keys):
        return ["the header is unchanged"]
    altered = "the header was altered, or signed with another key"
    return [altered, *changes_of_header(keys[0], check, message)] if keys else []


def changes_of_header(record: KeyRecord, check: DkimCheck, message: Message) -> list[str]:
    """Return the change that makes the header hash wrong, or what is known of the changes."""
    signature = check.signature
    for change, by_name in islice(_other_headers(signature, message), _MAX_GUESSES):
        if record.verifies(signature.signature, _hash(check, by_name), signature.hash_name):
            return [f"{change} after signing"]
    copies = _copies(signature)
    if not copies:
        names = ", ".join(dict.fromkeys(name.decode("ascii", "replace") for name in signature.names))
        return [f"one of these was changed, added or removed after signing: {names}"]
    return [
        f"{name.decode()} was '{printable(value)}' when signed (z=)"
        for name, value in copies.items()
        if _without_white_space(value) not in _values(message, name)
    ]


def _values(message: Message, name: bytes) -> list[bytes]:
    return [_without_white_space(field.value) for field in message.by_name.get(name, ())]


def _other_headers(signature: Signature, message: Message) -> Iterator[tuple[str, dict[bytes, list[Field]]]]:
    """Yield a possible change of one field, and the fields by name with it undone."""
    for name in dict.fromkeys(signature.names):
        fields = message.by_name.get(name, [])
        for field in fields:
            others = [other for other in fields if other is not field]
            yield f"another {name.decode()} field was added", {**message.by_name, name: others}
            for change, undo in _FIELD_UNDO.items():
                undone = Field(name, undo(field.text))
                changed = [undone if other is field else other for other in fields]
                yield f"{name.decode()} {change}", {**message.by_name, name: changed}


def _hash(check: DkimCheck, by_name: dict[bytes, list[Field]]) -> bytes:
    header = digest.new(check.signature.hash_name)
    header.update(check.data(by_name))
    return header.digest()


def _copies(signature: Signature) -> dict[bytes, bytes]:
    """Return the fields as copied in z= when signed, if it is present (RFC 6376 section 3.5)."""
    pairs = (part.partition(b":") for part in signature.tags.get(b"z", b"").split(b"|"))
    unquote = re.compile(rb"=([0-9A-F]{2})")
    return {
        name.strip().lower(): unquote.sub(lambda found: bytes.fromhex(found[1].decode()), value)
        for name, colon, value in pairs
        if colon
    }


def _without_white_space(value: bytes) -> bytes:
    return b"".join(value.split())
