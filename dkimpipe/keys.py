"""Private keys: read, checked, and used for signing. Here and in libcrypto alone is OpenSSL known.

A key is read and checked here without OpenSSL, so that each fault has a name and a hint; the
private-key operation itself is OpenSSL's, never Python's (whose integers leak time): by its library, or
by the cryptography package, which costs three times as much and brings its own, where there is none.
"""

import posix
from binascii import Error as Base64Error
from binascii import a2b_base64

from dkimpipe.errors import PrivateKeyError, SigningError
from dkimpipe.files import open_file, why

MAX_FILE = 65536
MIN_RSA_BITS = 1024  # RFC 8301 section 3.2

_REFUSED_LABELS = {
    b"ENCRYPTED PRIVATE KEY": "is encrypted",
    b"PUBLIC KEY": "holds a public key",
    b"RSA PUBLIC KEY": "holds a public key",
    b"CERTIFICATE": "holds a certificate",
    b"EC PRIVATE KEY": "holds an EC key",
    b"DSA PRIVATE KEY": "holds a DSA key",
    b"OPENSSH PRIVATE KEY": "is in the format of OpenSSH",
}
_HINTS = {
    "is encrypted": "openssl pkey -in {path} -out NEWFILE makes one without a passphrase",
    "holds a public key": "name the private key; the public one belongs into DNS",
    # It leaves an Ed25519 key as it is.
    "is in the format of OpenSSH": (
        "ssh-keygen -p -m PEM -f {path} makes an RSA key PEM; an Ed25519 key must be made anew"
    ),
}
_NEW_KEY = "openssl genrsa -out NEWFILE 2048 makes a key that can sign"

_EXPOSED = ((0o004, "readable by others"), (0o002, "writable by others"), (0o020, "writable by the group"))

_RSA = bytes.fromhex("2a864886f70d010101")  # RFC 8017 appendix C
_ED25519 = bytes.fromhex("2b6570")  # RFC 8410 section 3
_REFUSED_TYPES = {
    bytes.fromhex("2a8648ce3d0201"): "holds an EC key",
    bytes.fromhex("2a8648ce380401"): "holds a DSA key",
}


class PrivateKey:
    """A key that can sign.

    ``type``      rsa or ed25519
    ``bits``      its size
    ``path``      where it came from
    ``modulus``   of an RSA key, and ``exponent`` its public one; 0 for Ed25519
    ``secret``    RSAPrivateKey in DER (RFC 8017 appendix A.1.2), or the 32 octets of Ed25519: not to be shown
    """

    __slots__ = ("bits", "exponent", "modulus", "path", "secret", "type")

    def __init__(self, path: str, octets: bytes) -> None:
        """Take the first PEM block of the octets. Raises PrivateKeyError; never shows key material."""
        self.path = path
        try:
            self.type, self.secret, self.modulus, self.exponent = _parse(*_pem_block(octets))
        except _RefusedError as refused:
            fault = str(refused)
            raise PrivateKeyError(
                f"key file {path} {fault}", _HINTS.get(fault, _NEW_KEY).format(path=path)
            ) from None
        self.bits = self.modulus.bit_length() if self.type == "rsa" else 256

    def sign(self, digest: bytes, hash_name: str) -> bytes:
        """Return the signature of a digest: RSASSA-PKCS1-v1_5 (RFC 8017), or PureEdDSA over it (RFC 8463).

        Raises PrivateKeyError if OpenSSL fails, or makes a signature that the key's own public half refuses.
        """
        try:
            signature, fault = self._sign_by_libcrypto(digest, hash_name), "it fails"
        except (ImportError, OSError, AttributeError, TypeError) as error:  # _ctypes is CPython's own affair
            signature, fault = b"", str(error)
        if not self._fits(signature, digest):
            signature = self._sign_by_package(digest, hash_name, fault)
        if not self._fits(signature, digest):
            raise PrivateKeyError(
                f"key file {self.path} is damaged: its public half refuses what it signs", _NEW_KEY
            )
        return signature

    def _fits(self, signature: bytes, digest: bytes) -> bool:
        """Tell whether a signature can be right: the public operation shows a damaged key at once."""
        if len(signature) != (64 if self.type == "ed25519" else (self.bits + 7) // 8):
            return False
        if self.type == "ed25519":
            return True
        opened = pow(int.from_bytes(signature, "big"), self.exponent, self.modulus)
        return opened.to_bytes(self.bits // 8 + 1, "big").endswith(digest)

    def _sign_by_libcrypto(self, digest: bytes, hash_name: str) -> bytes:
        """Return what OpenSSL's library makes; nothing if it refuses.

        Raises ImportError and OSError, and AttributeError and TypeError where _ctypes is not as we know it.
        """
        from dkimpipe.libcrypto import Library

        if self.type == "ed25519":
            return Library().sign_ed25519(self.secret, digest)
        return Library().sign_rsa(self.secret, digest, hash_name)

    def _sign_by_package(self, digest: bytes, hash_name: str, fault: str) -> bytes:
        """Return the same by the cryptography package; ``fault`` is why the library could not serve."""
        try:
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
            from cryptography.hazmat.primitives.serialization import load_der_private_key
        except (ImportError, OSError):
            hint = "install OpenSSL's library (libssl3), or cryptography beside dkimpipe"
            raise SigningError(f"cannot sign by libcrypto: {fault}", hint) from None
        try:
            if self.type == "ed25519":
                return ed25519.Ed25519PrivateKey.from_private_bytes(self.secret).sign(digest)
            key = load_der_private_key(self.secret, None, unsafe_skip_rsa_key_validation=True)
            if not isinstance(key, rsa.RSAPrivateKey):
                raise ValueError("another key type than its structure says")
            algorithm = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}[hash_name]()
            return key.sign(digest, padding.PKCS1v15(), utils.Prehashed(algorithm))
        except ValueError:
            raise PrivateKeyError(f"key file {self.path} is damaged: OpenSSL refuses it", _NEW_KEY) from None


def read_key(path: str) -> PrivateKey:
    """Return the private key in a file that nobody but its owner and group can read.

    PKCS#1 and PKCS#8 PEM (RFC 7468), with LF or CRLF, and any text before. Raises ConfigError or
    PrivateKeyError with the file, the fault and the hint.
    """
    descriptor, status = open_file(path, "key file")
    try:
        mode = status.st_mode & 0o777
        for bits, exposed in _EXPOSED:
            if mode & bits:
                hint = f"chmod {mode & 0o640:04o} {path}"
                raise PrivateKeyError(f"key file {path} is {exposed} (mode {mode:04o})", hint)
        octets = posix.read(descriptor, MAX_FILE)
    except OSError as error:
        raise PrivateKeyError(f"key file {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)
    return PrivateKey(path, octets)


class _RefusedError(Exception):
    """What is wrong with a key, as the rest of a sentence that begins with its file."""


def _pem_block(octets: bytes) -> "tuple[bytes, bytes]":
    """Return label and DER of the first block that is no mere parameters."""
    octets = b"\n".join([line.rstrip() for line in octets.split(b"\n")]) + b"\n"
    _, found, rest = octets.partition(b"-----BEGIN ")
    if rest.startswith((b"EC PARAMETERS", b"DSA PARAMETERS")):
        _, found, rest = rest.partition(b"-----BEGIN ")
    if not found:
        raise _RefusedError("holds no PEM block")
    label, _, rest = rest.partition(b"-----\n")
    if label in _REFUSED_LABELS:
        raise _RefusedError(_REFUSED_LABELS[label])
    if label not in (b"RSA PRIVATE KEY", b"PRIVATE KEY"):
        raise _RefusedError("holds no private key")
    body, found, _ = rest.partition(b"-----END " + label + b"-----")
    if b"ENCRYPTED" in body:
        raise _RefusedError("is encrypted")
    if not found:
        raise _RefusedError("is truncated: it has no END line")
    try:
        der = a2b_base64(body)
    except Base64Error:
        raise _RefusedError("is damaged: its base64 does not decode") from None
    return label, der


def _parse(label: bytes, der: bytes) -> "tuple[str, bytes, int, int]":
    """Return key type, key, modulus and public exponent (0 for Ed25519) of a PKCS#1 or PKCS#8 structure.

    The key is RSAPrivateKey in DER, or the 32 octets of Ed25519 (RFC 8032 section 5.1.5).
    """
    if label == b"PRIVATE KEY":  # RFC 5208, and RFC 5958 with more behind: version, algorithm, the key itself
        at, end = _element(der, 0, len(der), _SEQUENCE)
        _, at = _element(der, at, end, _INTEGER)
        start, at = _element(der, at, end, _SEQUENCE)
        oid, oid_end = _element(der, start, at, _OID)
        algorithm = der[oid:oid_end]
        at, end = _element(der, at, end, _OCTET_STRING)
        der = der[at:end]
        if algorithm == _ED25519:
            start, end = _element(der, 0, len(der), _OCTET_STRING)
            if end - start != 32:
                raise _RefusedError(f"is damaged: it holds {end - start} octets of an Ed25519 key, not 32")
            return "ed25519", der[start:end], 0, 0
        if algorithm != _RSA:
            raise _RefusedError(_REFUSED_TYPES.get(algorithm, "holds a key that DKIM does not know"))
    at, end = _element(
        der, 0, len(der), _SEQUENCE
    )  # RFC 8017 appendix A.1.2: version, modulus, exponent, ...
    numbers = []
    while at < end:
        start, at = _element(der, at, end, _INTEGER)
        numbers.append(der[start:at])
    if len(numbers) < 9:
        raise _RefusedError("is truncated")
    modulus, exponent = (int.from_bytes(number, "big") for number in numbers[1:3])
    if modulus.bit_length() < MIN_RSA_BITS:
        bits = modulus.bit_length()
        raise _RefusedError(f"holds an RSA key of {bits} bits; verifiers refuse less than {MIN_RSA_BITS}")
    return "rsa", der, modulus, exponent


_INTEGER, _OCTET_STRING, _OID, _SEQUENCE = 2, 4, 6, 48


def _element(der: bytes, at: int, end: int, tag: int) -> "tuple[int, int]":
    """Return where the content of the DER element at ``at`` begins and ends."""
    if at + 2 > end:
        raise _RefusedError("is truncated")
    length = der[at + 1]
    start = at + 2
    if length > 127:
        start += length - 128
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > end:
        raise _RefusedError("is truncated")
    if der[at] != tag:
        raise _RefusedError("is damaged: it is no key structure")
    return start, start + length
