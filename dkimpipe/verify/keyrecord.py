"""Key records: RFC 6376 section 3.6.1, RFC 8463 section 4, and for DomainKeys RFC 4870 section 3.2.3."""

from __future__ import annotations

from dkimpipe.verify import taglist
from dkimpipe.verify.verdict import PermanentError
from dkimpipe.verify.verificationkey import OtherKeyError, PssKeyError, VerificationKey

MIN_RSA_BITS = 1024  # RFC 8301 section 3.2
MAX_RSA_BITS = 16384  # OpenSSL takes no more
_MAX_TEXT = 16384  # octets; such a key has 3000 of them
NO_KEY = "not a key record: no p="
REVOKED = "key is revoked"
_BASE64 = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/="
# Visible characters that base64 does not have, such as quotes where a value was split.
_FOREIGN = bytes(range(0x21, 0x7F)).translate(None, _BASE64)


class KeyRecordError(PermanentError):
    """A record that is not a usable key.

    ``tag``    the tag at fault, empty if it is the record as a whole
    ``value``  its value, of any content, where that helps
    """

    def __init__(self, what: str, tag: bytes = b"", value: bytes = b"") -> None:
        super().__init__(what)
        self.tag = tag
        self.value = value


class KeyRecord:
    """A usable key record.

    ``type``         rsa or ed25519
    ``tags``         as in the record; those named below in lower case
    ``hashes``       h=: the only allowed hashes; None if absent: any
    ``services``     s=
    ``flags``        t=
    ``granularity``  g=, which DomainKeys enforces and DKIM does not; None if absent
    """

    __slots__ = ("flags", "granularity", "hashes", "key", "services", "tags", "type")

    def __init__(self, key: VerificationKey, tags: dict[bytes, bytes]) -> None:
        self.key = key
        self.type = key.type
        self.tags = tags
        # An empty h= allows no hash: RFC 6376 section 3.2, an empty value is the empty string.
        self.hashes = frozenset(taglist.words(tags[b"h"])) - {b""} if b"h" in tags else None
        self.services = frozenset(taglist.words(tags.get(b"s", b"*")))
        self.flags = frozenset(taglist.words(tags.get(b"t", b"")))
        self.granularity = tags.get(b"g")

    @property
    def bits(self) -> int:
        """The size of the key."""
        return self.key.bits

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
        """Return whether this key made the signature of a digest."""
        return self.key.verifies(signature, digest, hash_name)

    def made(self, signature: bytes) -> bool | None:
        """Return whether this key made a signature, of any data; None if its type does not show it."""
        return self.key.made(signature)


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
    return KeyRecord(_key(kind, tags[b"p"]), tags)


def _check_version(tags: dict[bytes, bytes]) -> None:
    """Raise KeyRecordError if v= is there, but is not DKIM1 or not the first tag (RFC 6376 section 3.6.1)."""
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise KeyRecordError("key record: v= is not DKIM1", b"v", tags[b"v"])
    if b"v" in tags and next(iter(tags)) != b"v":
        raise KeyRecordError("key record: v=DKIM1 must be first", b"v")


def foreign(base64: bytes) -> set[bytes]:
    """Return the characters of p= that are ignored, as base64 does not have them (RFC 2045 section 6.8)."""
    return {bytes([octet]) for octet in base64 if octet in _FOREIGN}


def key_octets(base64: bytes) -> bytes:
    """Return the octets of p=. Raises ValueError."""
    return taglist.base64(base64.translate(None, _FOREIGN))


def _key(kind: str, base64: bytes) -> VerificationKey:
    if not base64:
        raise KeyRecordError(REVOKED)
    try:
        key = VerificationKey(kind, key_octets(base64))
    except PssKeyError:
        raise KeyRecordError("key record: p= is a key for RSASSA-PSS, not for DKIM") from None
    except OtherKeyError:
        raise KeyRecordError("key record: p= does not match k=", b"p", base64) from None
    except ValueError:
        raise KeyRecordError("key record: p= is not a valid key", b"p", base64) from None
    if key.type == "rsa" and key.bits < MIN_RSA_BITS:
        raise KeyRecordError(f"key has {key.bits} bits, less than {MIN_RSA_BITS}")
    if key.bits > MAX_RSA_BITS:
        raise KeyRecordError(f"key has {key.bits} bits, more than {MAX_RSA_BITS}")
    return key
