"""Parsing of a signature field, with all checks that need nothing else (RFC 6376 section 6.1.1).

DKIM-Signature (section 3.5) and DomainKey-Signature (RFC 4870 section 3.3) differ in the table below.
"""

from __future__ import annotations

from dkimpipe.address import is_at_or_below, is_domain, to_a_labels
from dkimpipe.dkim import KEY_TYPES
from dkimpipe.options import CANONICALIZATIONS
from dkimpipe.verify import taglist
from dkimpipe.verify.authres import METHODS
from dkimpipe.verify.verdict import PermanentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.message import Field

_REQUIRED = {
    "dkim": (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"),
    "domainkeys": (b"b", b"c", b"d", b"q", b"s"),
}
# RFC 8301 section 3.1: rsa-sha1 has permanently failed for DKIM.
_ALGORITHMS = {"dkim": ("rsa-sha256", "ed25519-sha256"), "domainkeys": ("rsa-sha1",)}
_QUERIES = {"dkim": (b"dns/txt", b"dns"), "domainkeys": (b"dns",)}  # "dns" alone: before RFC 4871
OF_DKIM = (b"i", b"l", b"t", b"x")  # DomainKeys ignores these (RFC 4870 section 3.3)
_MAX_FIELD = 65536  # octets
_MAX_NUMBER = 76  # digits: RFC 6376 section 3.5, l=
_HEXADECIMAL = b"0123456789ABCDEF"


class Signature:
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

    __slots__ = (
        "algorithm",
        "body_canonicalization",
        "body_hash",
        "body_length",
        "domain",
        "expires",
        "field",
        "hash_name",
        "header_canonicalization",
        "identity",
        "key_type",
        "method",
        "names",
        "selector",
        "signature",
        "tags",
    )

    def __init__(
        self, method: str, field: Field, tags: dict[bytes, bytes], algorithms: tuple[str, ...] = ()
    ) -> None:
        """Raise ValueError with the fault in words. ``algorithms``: by default those that are secure."""
        if method == "dkim" and tags[b"v"] != b"1":
            raise ValueError("v= is not 1")
        if not set(taglist.words(tags.get(b"q", b"dns/txt"))).intersection(_QUERIES[method]):
            raise ValueError("q= is unknown")
        self.method, self.field, self.tags = method, field, tags
        # Only DomainKeys may omit it (RFC 4870 section 3.3).
        self.algorithm = _text(tags.get(b"a", b"rsa-sha1"))
        if self.algorithm not in (algorithms or _ALGORITHMS[method]):
            raise ValueError("a= is unknown or obsolete")
        self.key_type, self.hash_name = KEY_TYPES[self.algorithm], self.algorithm.partition("-")[2]
        self.header_canonicalization, self.body_canonicalization = _canonicalizations(
            method, _text(tags.get(b"c", b"simple"))
        )
        self.domain, self.selector = _name(tags, b"d"), _name(tags, b"s")
        names = tuple(taglist.words(tags.get(b"h", b"")))
        if method == "dkim" and b"from" not in names:
            raise ValueError("h= does not include from")
        self.names = names if b"h" in tags else ()
        signed, self.expires = _number(tags, b"t"), _number(tags, b"x")
        if self.expires is not None and self.expires < (signed or 0):
            raise ValueError("x= is before t=")
        self.identity = _identity(tags, self.domain)
        self.body_hash = _base64(tags, b"bh") if method == "dkim" else b""
        self.signature = _base64(tags, b"b")
        self.body_length = _number(tags, b"l")

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
            tags = {tag: value for tag, value in tags.items() if tag not in OF_DKIM}
        return Signature(method, field, tags)
    except ValueError as error:
        raise PermanentError(str(error)) from None


def without_value(signature: Signature) -> bytes:
    """Return the field as LF text with an empty b=, as it was when it was signed (RFC 6376 section 3.7)."""
    name, colon, value = signature.field.text.partition(b":")
    specs = value.split(b";")
    for place, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if equals and tag.strip(taglist.FWS) == b"b":
            specs[place] = tag + equals
            break
    return name + colon + b";".join(specs)


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
    identity = _unquoted(taglist.unfolded(tags[b"i"]))
    local_part, at, host = identity.rpartition(b"@")
    host = _a_labels(host)
    if not at or not is_domain(host) or not is_at_or_below(host, domain):
        raise ValueError("i= is not at or below d=")
    return local_part + at + host


def _unquoted(text: bytes) -> bytes:
    """Return dkim-quoted-printable decoded (RFC 6376 section 2.11)."""
    first, *pieces = text.split(b"=")
    for piece in pieces:
        quoted = len(piece) > 1 and not piece[:2].translate(None, _HEXADECIMAL)
        first += bytes([int(piece[:2], 16)]) + piece[2:] if quoted else b"=" + piece
    return first


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
