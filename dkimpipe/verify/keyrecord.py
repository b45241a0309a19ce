"""Key records: RFC 6376 section 3.6.1, RFC 8463 section 4, and for DomainKeys RFC 4870 section 3.2.3."""

from __future__ import annotations

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
_HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}


class KeyRecord(NamedTuple):
    """A key record that can be used.

    ``type``         rsa or ed25519
    ``hashes``       h=: the only hashes that are good; none for any
    ``services``     s=
    ``flags``        t=
    ``granularity``  g=, which DomainKeys minds and DKIM does not; None if it is not there
    ``is_dkim``      v=DKIM1 stands there
    """

    key: PublicKey
    type: str
    hashes: frozenset[bytes]
    services: frozenset[bytes]
    flags: frozenset[bytes]
    granularity: bytes | None
    is_dkim: bool

    @property
    def bits(self) -> int:
        """The size of the key."""
        return self.key.key_size if isinstance(self.key, rsa.RSAPublicKey) else 256

    def verifies(self, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """Tell whether a signature is this key's: RSASSA-PKCS1-v1_5 (RFC 8017), or PureEdDSA (RFC 8463)."""
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
        """Tell whether a signature, of whatever, was made by this key; None if its type does not show it."""
        if not isinstance(self.key, rsa.RSAPublicKey):
            return None
        try:
            self.key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse(text: bytes) -> KeyRecord:
    """Return what a TXT record says. Raises PermanentError, in words, if it is no key that can be used."""
    if len(text) > _MAX_TEXT:
        raise PermanentError("key record is too large")
    try:
        tags = taglist.parse(text)
    except ValueError as error:
        raise PermanentError(f"key record: {error}") from None
    if b"p" not in tags:
        raise PermanentError("no key record: it has no p=")
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        raise PermanentError("key record: v= is not DKIM1, or does not stand first")
    kind = tags.get(b"k", b"rsa").decode("utf-8").lower()
    if kind not in ("rsa", "ed25519"):
        raise PermanentError("key record: k= is unknown")
    return KeyRecord(
        _public_key(kind, tags[b"p"]),
        kind,
        frozenset(taglist.words(tags.get(b"h", b""))) - {b""},
        frozenset(taglist.words(tags.get(b"s", b"*"))),
        frozenset(taglist.words(tags.get(b"t", b""))),
        tags.get(b"g"),
        b"v" in tags,
    )


def _public_key(kind: str, base64: bytes) -> PublicKey:
    if not base64:
        raise PermanentError("key is revoked")
    try:
        octets = taglist.base64(base64)
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        key = load_der_public_key(octets)  # a SubjectPublicKeyInfo, or an RSAPublicKey alone
    except (ValueError, UnsupportedAlgorithm):
        raise PermanentError("key record: p= holds no key") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise PermanentError("key record: p= holds a key of another type than k=")
    if key.key_size < MIN_RSA_BITS:
        raise PermanentError(f"key has {key.key_size} bits, less than {MIN_RSA_BITS}")  # RFC 8301 section 3.2
    if key.key_size > _MAX_RSA_BITS:
        raise PermanentError(f"key has {key.key_size} bits, more than {_MAX_RSA_BITS}")
    return key
