"""``dkimpipe verify --explain``: what is wrong with a signature, in terms that a postmaster can act on.

Common changes in transit are undone, one at a time: if that makes the signature valid, the cause is found.
This keeps the message in memory, and is for interactive use.
"""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_qp
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Callable

from dkimpipe import digest
from dkimpipe.body import EMPTY
from dkimpipe.canonical import Body
from dkimpipe.errors import printable
from dkimpipe.message import Field, LineEnds, Message
from dkimpipe.verify import second_opinion
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.signature import Signature
from dkimpipe.verify.verifier import Check, SignatureResult, Verifier

_BROKEN = re.compile(rb"^([^\n]{998}(?:\n [^\n]{997})*)\n ([^\n]*)", re.MULTILINE)
_MAX_GUESSES = 200  # at changes of a header; each costs a hash of it


def _without_trailing_white_space(text: bytes) -> bytes:
    return b"\n".join([line.rstrip(b" \t") for line in text.split(b"\n")])


# Possible changes to the body, and how to undo them in LF text.
_BODY_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "white space at line ends was added": _without_trailing_white_space,
    "'From ' at the start of a line became '>From '": lambda text: re.sub(rb"(?m)^>From ", b"From ", text),
    "lines over 998 octets were broken": lambda text: _BROKEN.sub(lambda m: m[0].replace(b"\n ", b""), text),
    "CRs were added": lambda text: text.replace(b"\r", b""),
    "lone CRs were converted to line ends": lambda text: text.replace(b"\r", b"\n"),
    "empty lines were added at the top": lambda text: text.lstrip(b"\n"),
    "8-bit text was converted to quoted-printable": a2b_qp,
}
# Possible changes to a field.
_FIELD_UNDO: dict[str, Callable[[bytes], bytes]] = {
    "was refolded": lambda text: text.replace(b"\n", b""),
    "was given a tag in brackets": lambda text: re.sub(
        rb"^([^:]*:\s*)((?:re|fwd?|aw):\s*)?\[[^]]*\]\s*", rb"\1\2", text, flags=re.I
    ),
    "was given white space at line ends": _without_trailing_white_space,
}


def explain(
    message: Message, body: bytes, verifier: Verifier, results: Sequence[SignatureResult], resolver: Resolver
) -> Iterator[str]:
    """Yield the verdict on each signature and its reasons, line by line; ``body`` is raw."""
    ends = LineEnds()
    text = ends.update(body) + ends.finish()
    if not results:
        yield "no signature"
    for number, each in enumerate(results):
        signature = each.signature
        yield f"{each.field.name.decode()}: {each.result}{': ' if each.reason else ''}{each.reason}"
        if signature:
            yield from _facts(each, signature)
        if each.result != "pass":
            yield from _why(each, verifier.check(number), message, text)
        if signature and each.method == "dkim":
            opinion = second_opinion.ask(message, body, each.field, resolver)
            yield f"    dkimpy, another verifier: {opinion}"
    if verifier.unchecked:
        yield f"{verifier.unchecked} more signatures were not checked"


def _facts(each: SignatureResult, signature: Signature) -> Iterator[str]:
    c = signature.header_canonicalization
    if signature.method == "dkim":
        c += f"/{signature.body_canonicalization}"
    yield f"    d={signature.domain.decode()} s={signature.selector.decode()} a={signature.algorithm} c={c}"
    if each.record:
        proven = ", secured by DNSSEC" if each.authentic else ""
        yield f"    key: {signature.key_name}, {each.record.type}, {each.record.bits} bits{proven}"


def _why(each: SignatureResult, check: Check | None, message: Message, text: bytes) -> Iterator[str]:
    """Yield the probable cause, and how to proceed."""
    signature = each.signature
    if each.reason == "no key" and signature:
        yield f"    check: dig +short TXT {signature.key_name}"
    elif each.reason == "body altered" and signature:
        yield from _body(signature, text)
    elif each.record and each.reason.endswith("another key"):
        yield "    the record was replaced, or the message was signed with a key that was never published"
    if each.record and isinstance(check, DkimCheck) and each.reason.startswith("header "):
        yield from _header(each, check, message)


def _body(signature: Signature, text: bytes) -> Iterator[str]:
    for happened, undo in _BODY_UNDO.items():
        if _body_hash(signature, undo(text)) == signature.body_hash:
            yield f"    {happened} after signing"
            return
    line = _last_signed_line(signature, text)
    if line:
        yield f"    everything from line {line + 1} of the body on was added after signing"
        return
    yield "    the text was changed after signing, perhaps by a mailing list, a virus scanner or a gateway"


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


def _header(each: SignatureResult, check: DkimCheck, message: Message) -> Iterator[str]:
    """Yield the field that was changed, if undoing the change makes the signature valid."""
    for what, by_name in islice(_other_headers(check.signature, message), _MAX_GUESSES):
        if each.record and each.record.verifies(
            check.signature.signature, _hash(check, by_name), check.signature.hash_name
        ):
            yield f"    {what} after signing"
            return
    copies = _copies(check.signature)
    for name, value in copies.items():
        there = [field.value for field in message.by_name.get(name, ())]
        if not any(_without_white_space(value) == _without_white_space(each) for each in there):
            yield f"    {name.decode()} was '{printable(value)}' when signed (z=)"
    if not copies:
        names = ", ".join(dict.fromkeys(name.decode("ascii", "replace") for name in check.signature.names))
        yield f"    one of these was changed, added or removed after signing: {names}"


def _other_headers(signature: Signature, message: Message) -> Iterator[tuple[str, dict[bytes, list[Field]]]]:
    """Yield a possible change of one field, and the fields by name with it undone."""
    for name in dict.fromkeys(signature.names):
        fields = message.by_name.get(name, [])
        for field in fields:
            others = [other for other in fields if other is not field]
            yield f"another {name.decode()} field was added", {**message.by_name, name: others}
            for happened, undo in _FIELD_UNDO.items():
                undone = Field(name, undo(field.text))
                changed = [undone if other is field else other for other in fields]
                yield f"{name.decode()} {happened}", {**message.by_name, name: changed}


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
