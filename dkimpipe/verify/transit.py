"""What was changed in transit, after signing: common changes are undone, one at a time.

If the signature is valid without a change, that is the cause.
"""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_qp
from collections.abc import Iterator
from itertools import islice
from typing import Callable

from dkimpipe import digest
from dkimpipe.body import EMPTY
from dkimpipe.canonical import Body
from dkimpipe.errors import printable
from dkimpipe.message import Field, Message
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.keyrecord import KeyRecord
from dkimpipe.verify.signature import Signature

_BROKEN = re.compile(rb"^([^\n]{998}(?:\n [^\n]{997})*)\n ([^\n]*)", re.MULTILINE)
_MAX_GUESSES = 200  # at changes of a header; each costs a hash of it


def _without_trailing_white_space(text: bytes) -> bytes:
    return b"\n".join([line.rstrip(b" \t") for line in text.split(b"\n")])


# Changes of the body, and how to undo them in LF text.
_BODY_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "white space at line ends was added": _without_trailing_white_space,
    "'From ' at the start of a line became '>From '": lambda text: re.sub(rb"(?m)^>From ", b"From ", text),
    "lines over 998 octets were broken": lambda text: _BROKEN.sub(lambda m: m[0].replace(b"\n ", b""), text),
    "CRs were added": lambda text: text.replace(b"\r", b""),
    "lone CRs were converted to line ends": lambda text: text.replace(b"\r", b"\n"),
    "empty lines were added at the top": lambda text: text.lstrip(b"\n"),
    "8-bit text was converted to quoted-printable": a2b_qp,
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
    """Return the change that makes the body hash wrong; ``text`` is the body as LF text."""
    for change, undo in _BODY_UNDO.items():
        if _body_hash(signature, undo(text)) == signature.body_hash:
            return f"{change} after signing"
    line = _last_signed_line(signature, text)
    if line:
        return f"everything from line {line + 1} of the body on was added after signing"
    return "the text was changed after signing, perhaps by a mailing list, a virus scanner or a gateway"


def _body_hash(signature: Signature, text: bytes) -> bytes:
    form = signature.body_canonicalization
    octets: list[bytes] = []
    body = Body(form, octets.append, EMPTY[form])
    body.update(text)
    body.finish()
    return hashlib.new(signature.hash_name, b"".join(octets)[: signature.body_length]).digest()


def _last_signed_line(signature: Signature, text: bytes) -> int:
    """Return the number of signed lines of the body, if the rest was added; otherwise 0."""
    octets: list[bytes] = []
    body = Body(signature.body_canonicalization, octets.append)
    body.update(text)
    body.finish()
    so_far = hashlib.new(signature.hash_name)
    for number, line in enumerate(b"".join(octets).splitlines(keepends=True), 1):
        so_far.update(line)
        if so_far.digest() == signature.body_hash:
            return number
    return 0


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
