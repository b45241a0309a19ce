"""Public keys, and the records that hold them: RFC 6376 section 3.6.1, RFC 8463 section 4.

It needs the cryptography package. Verification and the verbs use this module; the signing filter does not.
"""

from __future__ import annotations

import base64
import functools
import hashlib  # noqa: F401 - with it libcrypto keeps OpenSSL's configuration, as cryptography does
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_public_key,
)

from dkimpipe.cryptopolicy import RefusedKeyError
from dkimpipe.errors import ConfigError, PrivateKeyError
from dkimpipe.keys import PrivateKey, read_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_ORDER = "vkhsgtnp"  # v= must be first


def record_name(selector: str, domain: str) -> str:
    """Return the name of the record of a selector, without the final dot."""
    return f"{selector}._domainkey.{domain}"


def record_value(path: str) -> str:
    """Return the text of the record for a private key file, unsplit. Raises ConfigError."""
    return key_record(*public(path), {})


def key_record(kind: str, key: str, tags: Mapping[str, str]) -> str:
    """Return the record of a selector: k=, p=, and further tags."""
    return tag_list(_ORDER, {"v": "DKIM1", "k": kind, "p": key, **tags})


def public(path: str) -> tuple[str, str]:
    """Return k= and p= of a private key file: its type, and its public half in base64. Raises ConfigError.

    For RSA the octets are a SubjectPublicKeyInfo in DER (RFC 5280), for Ed25519 the 32 of the key (RFC 8032).
    """
    key = read_key(path)
    return key.type, base64_of(_private(key).public_key())


@functools.cache
def sound(path: str) -> None:
    """Have OpenSSL check the consistency of a key that ``public`` accepts: 40 ms. Raises PrivateKeyError."""
    _private(read_key(path), check=True)


def _private(key: PrivateKey, check: bool = False) -> RSAPrivateKey | Ed25519PrivateKey:
    """Return the key as OpenSSL has it, an RSA key checked or not. Raises PrivateKeyError."""
    fault = "its components are inconsistent" if check else "OpenSSL rejects it"
    try:
        if key.type == "ed25519":
            return Ed25519PrivateKey.from_private_bytes(key.secret)
        loaded = load_der_private_key(key.secret, None, unsafe_skip_rsa_key_validation=not check)
        if isinstance(loaded, RSAPrivateKey):
            return loaded
    except (InternalError, UnsupportedAlgorithm, ValueError):
        pass
    try:
        key.sign(bytes(32), "sha256")
    except RefusedKeyError:
        raise
    except PrivateKeyError:
        pass
    from dkimpipe.keyhints import RESTORE

    raise PrivateKeyError(f"key file {key.path} is damaged: {fault}", RESTORE)


def public_key_file(path: str) -> tuple[str, str]:
    """Return the same of a public key file, PEM. Raises ConfigError."""
    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"key file {path} contains no public key") from None
    if isinstance(key, RSAPublicKey):
        return "rsa", base64_of(key)
    if isinstance(key, Ed25519PublicKey):
        return "ed25519", base64_of(key)
    raise ConfigError(f"key file {path} contains a key that is neither RSA nor Ed25519")


def base64_of(key: PublicKeyTypes) -> str:
    """Return a public key in the form of p=."""
    if isinstance(key, Ed25519PublicKey):
        octets = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def tag_list(order: str, tags: Mapping[str, str]) -> str:
    """Return a tag list (RFC 6376 section 3.2): the given tags, in ``order``."""
    return "; ".join([f"{tag}={tags[tag]}" for tag in order if tag in tags])
