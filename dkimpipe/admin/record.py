"""The record that publishes a key in DNS (RFC 6376 section 3.6.1, RFC 8463 section 4)."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from dkimpipe.keys import read_key

STRING_LIMIT = 255  # octets in one string of a TXT record, RFC 1035 section 3.3


def name(selector: str, domain: str) -> str:
    """Return where the record stands, without the last dot."""
    return f"{selector}._domainkey.{domain}"


def value(path: str) -> str:
    """Return what the record of a private key file says, in one piece. Raises ConfigError."""
    key = read_key(path)
    octets = Path(path).read_bytes()
    private = load_pem_private_key(octets[octets.index(b"-----BEGIN") :], None)
    if isinstance(private, Ed25519PrivateKey):
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k={key.type}; p={base64.b64encode(public).decode()}"


def zone_line(owner: str, text: str) -> str:
    """Return a TXT record as one line of a zone file (RFC 1035 section 5.1), in strings that fit."""
    strings = [f'"{text[at : at + STRING_LIMIT]}"' for at in range(0, len(text), STRING_LIMIT)]
    return f"{owner}. IN TXT ( {' '.join(strings)} )"
