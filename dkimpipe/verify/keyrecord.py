"""Key records: RFC 6376 section 3.6.1, RFC 8463 section 4, and for DomainKeys RFC 4870 section 3.2.3."""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dkimpipe.keys import MIN_RSA_BITS
from dkimpipe.verify import taglist
from dkimpipe.verify.verdict import PermanentError

PublicKey = Union[rsa.RSAPublicKey, ed25519.Ed25519PublicKey]

_MAX_RSA_BITS = 16384  # OpenSSL takes no more
_MAX_TEXT = 16384  # octets; such a key has 3000 of them
NO_KEY = "not a key record: no p="
REVOKED = "key is revoked"
# Visible characters that base64 does not have, such as quotes where a value was split.
_FOREIGN = re.compile(rb"[\x21-\x7e](?<![A-Za-z0-9+/=])")
_HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}


class KeyRecordError(PermanentError):
    """A record that is not a usable key.

    ``tag``    the tag at fault, empty if it is the record as a whole
    ``value``  its value, of any content, where that helps
    """

    def __init__(self, what: str, tag: bytes = b"", value: bytes = b"") -> None:
        super().__init__(what)
        self.tag = tag
        self.value = value


class KeyRecord(NamedTuple):
    """A usable key record.

    ``type``         rsa or ed25519
    ``tags``         as in the record; those named below in lower case
    ``hashes``       h=: the only allowed hashes; None if absent: any
    ``services``     s=
    ``flags``        t=
    ``granularity``  g=, which DomainKeys enforces and DKIM does not; None if absent
    ``is_dkim``      whether v=DKIM1 is present
    """

    key: PublicKey
    type: str
    tags: dict[bytes, bytes]
    hashes: frozenset[bytes] | None
    services: frozenset[bytes]
    flags: frozenset[bytes]
    granularity: bytes | None
    is_dkim: bool

    @property
    def bits(self) -> int:
        """The size of the key."""
        return self.key.key_size if isinstance(self.key, rsa.RSAPublicKey) else 256

    def allows_hash(self, name: str) -> bool:
        """Return whether the key may sign a hash such as sha256 (RFC 6376 section 3.6.1, h=)."""
        return self.hashes is None or name.encode() in self.hashes

    @property
    def allows_email(self) -> bool:
        """Whether the key is for email (RFC 6376 section 3.6.1, s=)."""
        return not self.services.isdisjoint((b"*", b"email"))

    def allows_local_part(self, local_part: bytes) -> bool:
        """Return whether the key is for this sender; DomainKeys only (RFC 4870 section 3.2.3, g=)."""
        begin, star, end = (self.granularity or b"*").partition(b"*")  # one *: RFC 4871 section 3.6.1
        if not star:
            return local_part == begin
        fits = local_part.startswith(begin) and local_part.endswith(end)
        return fits and len(begin + end) <= len(local_part)

    def verifies(self, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """Return whether this key made a signature: RSASSA-PKCS1-v1_5 (RFC 8017), or PureEdDSA (RFC 8463)."""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                algorithm = utils.Prehashed(_HASHES[hash_name]())
                self.key.verify(signature, digest, padding.PKCS1v15(), algorithm)
            else:
                self.key.verify(signature, digest)
        except (InvalidSignature, ValueError):
            return False
        return True

    def made(self, signature: bytes) -> bool | None:
        """Return whether this key made a signature, of any data; None if its type does not show it."""
        if not isinstance(self.key, rsa.RSAPublicKey):
            return None
        try:
            self.key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse(text: bytes) -> KeyRecord:
    """Return the key record in a TXT record.

    Raises KeyRecordError if it is not a usable key; its cause is a TagListError if it is not a tag list.
    """
    if len(text) > _MAX_TEXT:
        raise KeyRecordError("key record is too large")
    try:
        tags = taglist.parse(text)
    except taglist.TagListError as error:
        raise KeyRecordError(f"key record: {error}") from error
    if b"p" not in tags:
        raise KeyRecordError(NO_KEY)
    _check_version(tags)
    kind = tags.get(b"k", b"rsa").decode("utf-8").lower()
    if kind not in ("rsa", "ed25519"):
        raise KeyRecordError("key record: k= is unknown", b"k", tags[b"k"])
    return KeyRecord(
        _public_key(kind, tags[b"p"]),
        kind,
        tags,
        # An empty h= allows no hash: RFC 6376 section 3.2, an empty value is the empty string.
        frozenset(taglist.words(tags[b"h"])) - {b""} if b"h" in tags else None,
        frozenset(taglist.words(tags.get(b"s", b"*"))),
        frozenset(taglist.words(tags.get(b"t", b""))),
        tags.get(b"g"),
        b"v" in tags,
    )


def _check_version(tags: dict[bytes, bytes]) -> None:
    """Raise KeyRecordError if v= is there, but is not DKIM1 or not the first tag (RFC 6376 section 3.6.1)."""
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise KeyRecordError("key record: v= is not DKIM1", b"v", tags[b"v"])
    if b"v" in tags and next(iter(tags)) != b"v":
        raise KeyRecordError("key record: v=DKIM1 must be first", b"v")


def foreign(base64: bytes) -> set[bytes]:
    """Return the characters of p= that are ignored, as base64 does not have them (RFC 2045 section 6.8)."""
    return set(_FOREIGN.findall(base64))


def key_octets(base64: bytes) -> bytes:
    """Return the octets of p=. Raises ValueError."""
    return taglist.base64(_FOREIGN.sub(b"", base64))


def _public_key(kind: str, base64: bytes) -> PublicKey:
    if not base64:
        raise KeyRecordError(REVOKED)
    try:
        octets = key_octets(base64)
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        key = load_der_public_key(octets)  # a SubjectPublicKeyInfo, or an RSAPublicKey alone
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRecordError("key record: p= is not a valid key", b"p", base64) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyRecordError("key record: p= does not match k=", b"p", base64)
    if key.key_size < MIN_RSA_BITS:  # RFC 8301 section 3.2
        raise KeyRecordError(f"key has {key.key_size} bits, less than {MIN_RSA_BITS}")
    if key.key_size > _MAX_RSA_BITS:
        raise KeyRecordError(f"key has {key.key_size} bits, more than {_MAX_RSA_BITS}")
    return key
