"""The public-key operation by the cryptography package, which includes an OpenSSL of its own.

It costs three times as much as OpenSSL's library, and is for systems without the latter.
"""

from __future__ import annotations

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dkimpipe.verify.verdict import REFUSED, Neutral

_HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}


class PublicPackage:
    """The same methods as PublicLibrary has. Those that verify raise Neutral if OpenSSL does not allow it."""

    def verifies_rsa(self, key: bytes, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """Return whether a key, RSAPublicKey in DER, made the signature of a digest."""
        try:
            algorithm = utils.Prehashed(_HASHES[hash_name]())
            _rsa(key).verify(signature, digest, padding.PKCS1v15(), algorithm)
        except (InvalidSignature, ValueError):
            return False
        except (InternalError, UnsupportedAlgorithm):
            raise Neutral(REFUSED) from None
        return True

    def made_rsa(self, key: bytes, signature: bytes) -> bool:
        """Return whether a key made such a signature, of any data."""
        try:
            _rsa(key).recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verifies_ed25519(self, key: bytes, signature: bytes, text: bytes) -> bool:
        """Return whether a key, 32 octets, made the signature of a text."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        except (InternalError, UnsupportedAlgorithm):
            raise Neutral(REFUSED) from None
        return True


def _rsa(key: bytes) -> rsa.RSAPublicKey:
    """Return the key. Raises ValueError."""
    loaded = load_der_public_key(key)
    if not isinstance(loaded, rsa.RSAPublicKey):
        raise ValueError("not a key of RSA")
    return loaded
