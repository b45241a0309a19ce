"""Parsing of a signature field, with all checks that need nothing else (RFC 6376 section 6.1.1).

DKIM-Signature (section 3.5) and DomainKey-Signature (RFC 4870 section 3.3) differ in the table below.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dkimpipe.address import is_at_or_below, is_domain, to_a_labels
from dkimpipe.dkim import KEY_TYPES
from dkimpipe.message import Field
from dkimpipe.options import CANONICALIZATIONS
from dkimpipe.verify import taglist
from dkimpipe.verify.verdict import PermanentError

METHODS = {b"dkim-signature": "dkim", b"domainkey-signature": "domainkeys"}
_REQUIRED = {
    "dkim": (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"),
    "domainkeys": (b"b", b"c", b"d", b"q", b"s"),
}
# RFC 8301 section 3.1: rsa-sha1 has permanently failed for DKIM.
_ALGORITHMS = {"dkim": ("rsa-sha256", "ed25519-sha256"), "domainkeys": ("rsa-sha1",)}
_QUERIES = {"dkim": (b"dns/txt", b"dns"), "domainkeys": (b"dns",)}  # "dns" alone: before RFC 4871
_OF_DKIM = (b"i", b"l", b"t", b"x")  # DomainKeys ignores these (RFC 4870 section 3.3)
_MAX_FIELD = 65536  # octets
_MAX_NUMBER = 76  # digits: RFC 6376 section 3.5, l=
_QUOTED = re.compile(rb"=([0-9A-F]{2})")
_B_VALUE = re.compile(rb"(?s)((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")


class Signature(NamedTuple):
    """The content of a signature field.

    ``method``       dkim or domainkeys
    ``tags``         as written; those named below are checked
    ``algorithm``    a=, of which ``hash_name`` and ``key_type`` are the halves
    ``domain``       d=, in A-labels and lower case; ``selector`` s= likewise
    ``identity``     i= without its quoting, by default ``@`` and d=
    ``names``        h=, in lower case; empty if a DomainKey-Signature has none: all fields below it
    ``body_hash``    bh=, ``signature`` b=
    ``body_length``  l=, None for all of the body
    ``expires``      x=, seconds since 1970, None for never
    """

    method: str
    field: Field
    tags: dict[bytes, bytes]
    algorithm: str
    key_type: str
    hash_name: str
    header_canonicalization: str
    body_canonicalization: str
    domain: bytes
    selector: bytes
    identity: bytes
    names: tuple[bytes, ...]
    body_hash: bytes
    signature: bytes
    body_length: int | None
    expires: int | None

    @property
    def key_name(self) -> str:
        """The name of the key record."""
        return f"{self.selector.decode()}._domainkey.{self.domain.decode()}"


def parse(field: Field) -> Signature:
    """Return the content of a signature field. Raises PermanentError with the fault in words."""
    method = METHODS[field.name]
    if len(field.text) > _MAX_FIELD:
        raise PermanentError("signature field is too large")
    try:
        tags = taglist.parse(field.text.partition(b":")[2])
        for tag in _REQUIRED[method]:
            if tag not in tags:
                raise ValueError(f"{tag.decode()}= is missing")
        if method == "domainkeys":
            tags = {tag: value for tag, value in tags.items() if tag not in _OF_DKIM}
        return _checked(method, field, tags)
    except ValueError as error:
        raise PermanentError(str(error)) from None


def _checked(method: str, field: Field, tags: dict[bytes, bytes]) -> Signature:
    if method == "dkim" and tags[b"v"] != b"1":
        raise ValueError("v= is not 1")
    if not set(taglist.words(tags.get(b"q", b"dns/txt"))).intersection(_QUERIES[method]):
        raise ValueError("q= is unknown")
    algorithm = _text(tags.get(b"a", b"rsa-sha1"))  # only DomainKeys may omit it (RFC 4870 section 3.3)
    if algorithm not in _ALGORITHMS[method]:
        raise ValueError("a= is unknown or obsolete")
    header, body = _canonicalizations(method, _text(tags.get(b"c", b"simple")))
    domain, selector = _name(tags, b"d"), _name(tags, b"s")
    names = tuple(taglist.words(tags.get(b"h", b"")))
    if method == "dkim" and b"from" not in names:
        raise ValueError("h= does not include from")
    signed, expires = _number(tags, b"t"), _number(tags, b"x")
    if expires is not None and expires < (signed or 0):
        raise ValueError("x= is before t=")
    return Signature(
        method,
        field,
        tags,
        algorithm,
        KEY_TYPES[algorithm],
        algorithm.partition("-")[2],
        header,
        body,
        domain,
        selector,
        _identity(tags, domain),
        names if b"h" in tags else (),
        _base64(tags, b"bh") if method == "dkim" else b"",
        _base64(tags, b"b"),
        _number(tags, b"l"),
        expires,
    )


def without_value(signature: Signature) -> bytes:
    """Return the field as LF text with an empty b=, as it was when it was signed (RFC 6376 section 3.7)."""
    name, colon, value = signature.field.text.partition(b":")
    return name + colon + _B_VALUE.sub(rb"\1", value, count=1)


def _text(value: bytes) -> str:
    return value.decode("utf-8").lower()


def _canonicalizations(method: str, value: str) -> tuple[str, str]:
    if value not in CANONICALIZATIONS[method]:
        raise ValueError("c= is unknown")
    header, _, body = value.partition("/")
    return header, body or ("simple" if method == "dkim" else header)


def _name(tags: dict[bytes, bytes], tag: bytes) -> bytes:
    name = _a_labels(tags[tag])
    if not is_domain(name) or (tag == b"d" and b"." not in name):
        raise ValueError(f"{tag.decode()}= is not a valid {'domain' if tag == b'd' else 'selector'}")
    return name


def _a_labels(name: bytes) -> bytes:
    """Return a name in A-labels, empty if it is invalid."""
    try:
        return to_a_labels(name)
    except ValueError:
        return b""


def _identity(tags: dict[bytes, bytes], domain: bytes) -> bytes:
    if b"i" not in tags:
        return b"@" + domain
    identity = _QUOTED.sub(lambda found: bytes.fromhex(found[1].decode()), taglist.unfolded(tags[b"i"]))
    local_part, at, host = identity.rpartition(b"@")
    host = _a_labels(host)
    if not at or not is_domain(host) or not is_at_or_below(host, domain):
        raise ValueError("i= is not at or below d=")
    return local_part + at + host


def _number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    if tag not in tags:
        return None
    digits = tags[tag]
    if not digits.isdigit() or len(digits) > _MAX_NUMBER:
        raise ValueError(f"{tag.decode()}= is not a number")
    return int(digits)


def _base64(tags: dict[bytes, bytes], tag: bytes) -> bytes:
    try:
        return taglist.base64(tags[tag])
    except ValueError:
        raise ValueError(f"{tag.decode()}= is not valid base64") from None
