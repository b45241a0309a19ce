"""Private keys of other signers as PKCS#8 in PEM, the form that all tools read (RFC 5958, RFC 7468)."""

from __future__ import annotations

from base64 import b64encode

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from dkimpipe.errors import PrivateKeyError
from dkimpipe.keyforms import structure
from dkimpipe.keyhints import RESTORE
from dkimpipe.keys import PrivateKey

_SEQUENCE = b"\x30"
_ED25519_SIZES = (32, 64)  # octets: the private half, or both; rspamd reads a file with nothing else


def pkcs8(path: str, octets: bytes) -> bytes:
    """Return the private key in a file as PKCS#8 in PEM, with LF. Raises PrivateKeyError.

    Read are PEM, DER, either of them in base64, and Ed25519 keys as dkimpy, rspamd and OpenSSH write them.
    ``path`` is for errors only.
    """
    if len(octets) in _ED25519_SIZES and not octets.isascii():
        octets = b64encode(octets)
    try:
        der = octets if octets.startswith(_SEQUENCE) and not octets.isascii() else structure(path, octets)
        key = load_der_private_key(der, None)
    except (ValueError, TypeError) as error:
        fault = "is encrypted" if isinstance(error, TypeError) else "is damaged: OpenSSL rejects it"
        raise PrivateKeyError(f"key file {path} {fault}", RESTORE) from None
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    PrivateKey(path, pem)
    return pem
