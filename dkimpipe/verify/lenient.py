"""Signatures and key records read as the most lenient of other verifiers read them.

No message is rejected because of a signature that may be right. ``permerror`` is often a matter of taste:
dkimpy, Mail::DKIM or OpenDKIM accept a tag that appears twice, junk between semicolons or in base64, RSA with
SHA-1, a record with an odd h= or with octets after the key. If a signature, read in this way, is valid by the
key that its domain has published, the domain vouches for the message: a forger does not have that key. The
result stays ``permerror``.

Not accepted, though some accept it, because a forger could use it: a signature that does not cover From or
all of the body (no h=, h= without from, no bh=, l= too short), one that has expired, a key that can be
factored, and one that is revoked or not for email.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from dkimpipe.dkim import KEY_TYPES
from dkimpipe.verify import taglist
from dkimpipe.verify.authres import METHODS
from dkimpipe.verify.keyrecord import MAX_RSA_BITS, MIN_RSA_BITS, KeyRecord
from dkimpipe.verify.signature import OF_DKIM, Signature
from dkimpipe.verify.verdict import Neutral, PermanentError, TemporaryError, Unacceptable
from dkimpipe.verify.verificationkey import VerificationKey, encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.message import Field
    from dkimpipe.verify.resolver import Resolver
    from dkimpipe.verify.verifier import Check

_MAX_RECORDS = 5
_DIGITS = 18  # more are as good as any other large number
_MAX_FIELD = 1 << 20  # octets
_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_BASE64 = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
_ALL = bytes(range(256))
_JUNK = _ALL.translate(None, _BASE64 + b"=")
# What can precede the name of a tag: blanks, quotes, controls, a byte order mark, the name of a record.
_BEFORE_NAME = bytes([*range(0x21), *b"\"'", *range(0x7F, 0x100)])
_TO_SPACE = bytes.maketrans(_BEFORE_NAME, b" " * len(_BEFORE_NAME))
_SEQUENCE, _BIT_STRING, _INTEGER = 48, 3, 2


def signature(field: Field) -> Signature | None:
    """Return the content of a signature field, None if no verifier can use it."""
    method = METHODS[field.name]
    tags = _tags(field.text.partition(b":")[2]) if len(field.text) <= _MAX_FIELD else {}
    if method == "dkim":
        tags[b"v"] = b"1"
        for tag in (b"l", b"x"):
            tags[tag] = _digits(tags.get(tag, b""))
        tags[b"bh"] = _base64_again(tags.get(b"bh", b""))
    else:
        tags = {tag: value for tag, value in tags.items() if tag not in OF_DKIM}
    for tag in (b"a", b"c"):
        tags[tag] = taglist.unfolded(tags.get(tag, b""))
    for tag in (b"d", b"s"):
        tags[tag] = taglist.unfolded(tags.get(tag, b"")).rstrip(b".")
    tags[b"b"] = _base64_again(tags.get(b"b", b""))
    tags = {tag: value for tag, value in tags.items() if value and tag != b"t"}
    tags[b"q"] = b"dns"  # like t=, it says nothing about whether the signature is right
    required = {b"d", b"s", b"b"} | ({b"a", b"bh", b"h"} if method == "dkim" else set())
    algorithms = tuple(KEY_TYPES) if method == "dkim" else ()
    try:
        return Signature(method, field, tags, algorithms) if required.issubset(tags) else None
    except ValueError:
        return None


def vouching(check: Check, resolver: Resolver, now: int) -> bytes:
    """Return the domain whose key made a signature, or may have if DNS does not answer; otherwise nothing."""
    signature = check.signature
    if (signature.expires is not None and signature.expires < now) or not check.has_right_body():
        return b""
    try:
        check.check_coverage()
        texts = resolver.texts(signature.key_name).texts
    except Unacceptable:
        return b""
    except TemporaryError:
        return signature.domain
    digest = check.digest()
    for record in [record for text in texts[:_MAX_RECORDS] for record in _records(text, signature)]:
        octets = signature.signature
        if record.type == "rsa":
            octets = octets.lstrip(b"\0").rjust((record.bits + 7) // 8, b"\0")
        try:
            if _may_sign(check, record) and record.verifies(octets, digest, signature.hash_name):
                return signature.domain
        except Neutral:
            return signature.domain
    return b""


def _may_sign(check: Check, record: KeyRecord) -> bool:
    """Return whether a key may sign this: g= of DomainKeys, which all enforce."""
    try:
        if check.signature.method == "domainkeys":
            check.check_key(record)
    except PermanentError:
        return False
    return True


def _records(text: bytes, signature: Signature) -> list[KeyRecord]:
    """Return the key records that a TXT record can be read as, if it may be the one of this signature."""
    found = _tags(text)
    tags = {tag: taglist.unfolded(value).lower() for tag, value in found.items()}
    if tags.get(b"v", b"") not in (b"", b"dkim1") or tags.get(b"k", b"") not in (b"", b"rsa", b"ed25519"):
        return []
    if not {b"", b"*", b"email"}.intersection(taglist.words(tags.get(b"s", b"*"))):
        return []
    if signature.hash_name == "sha1" and b"sha1" not in taglist.words(tags.get(b"h", b"sha1")):
        return []
    records = []
    for octets in _decoded(found.get(b"p", b"")):
        try:
            key = VerificationKey(signature.key_type, octets if signature.key_type != "rsa" else _rsa(octets))
        except (ValueError, IndexError):
            continue
        if key.type != "rsa" or MIN_RSA_BITS <= key.bits <= MAX_RSA_BITS:
            records.append(KeyRecord(key, found))
    return records


def _tags(text: bytes) -> dict[bytes, bytes]:
    """Return the tags of a list, the last of each name, without anything that is not a tag."""
    tags = {}
    for spec in text.split(b";"):
        name, equals, value = spec.partition(b"=")
        name = name.translate(_TO_SPACE).strip().rpartition(b" ")[2]
        if equals and name and not name.translate(None, _NAME):
            tags[name] = value.strip(taglist.FWS)
    return tags


def _digits(value: bytes) -> bytes:
    """Return the number at the beginning of a value, empty if there is none."""
    value = taglist.unfolded(value).lstrip(b"+")
    digits = value[: len(value) - len(value.lstrip(b"0123456789"))]
    return b"9" * _DIGITS if len(digits) > _DIGITS else digits


def _decoded(text: bytes) -> list[bytes]:
    """Return the octets of base64 with junk in it and any padding: up to the first padding, or of all."""
    text = text.translate(None, _JUNK)
    found = []
    for digits in dict.fromkeys((text.partition(b"=")[0], text.replace(b"=", b""))):
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        if digits:
            found.append(a2b_base64(digits + b"==="))
    return found


def _base64_again(text: bytes) -> bytes:
    return b"".join([b2a_base64(octets, newline=False) for octets in _decoded(text)[:1]])


def _rsa(octets: bytes) -> bytes:
    """Return an RSAPublicKey in DER, from BER, with any algorithm named, and with anything after it.

    Raises ValueError and IndexError if there is none.
    """
    at, _ = _element(octets, 0, _SEQUENCE)
    if octets[at] == _SEQUENCE:
        _, at = _element(octets, at, _SEQUENCE)
        at, _ = _element(octets, at, _BIT_STRING)
        at, _ = _element(octets, at + 1, _SEQUENCE)
    start, at = _element(octets, at, _INTEGER)
    modulus = int.from_bytes(octets[start:at], "big")
    start, at = _element(octets, at, _INTEGER)
    exponent = int.from_bytes(octets[start:at], "big")
    return encoded(_SEQUENCE, _integer(modulus) + _integer(exponent))


def _integer(number: int) -> bytes:
    return encoded(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _element(octets: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the content of an element begins and ends, its length in any form."""
    if octets[at] != tag:
        raise ValueError("another structure")
    length, start = octets[at + 1], at + 2
    if length > 127:
        start += length - 128
        length = int.from_bytes(octets[at + 2 : start], "big")
    return start, min(start + length, len(octets))
