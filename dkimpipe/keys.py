"""Private keys: reading, checking, and signing. Only this module and libcrypto know OpenSSL.

A key is read and checked here without OpenSSL, so that each fault has a message and a hint. The
private-key operation itself is OpenSSL's, never Python's (whose integers leak timing): through its library
or, without it, through the cryptography package, which costs three times as much and includes its own.
"""

import posix
from binascii import Error as Base64Error
from binascii import a2b_base64

from dkimpipe.errors import PrivateKeyError, SigningError, for_shell
from dkimpipe.files import open_file, why

MAX_FILE = 65536
MIN_RSA_BITS = 1024  # RFC 8301 section 3.2

_EXPOSED = ((0o004, "readable by others"), (0o002, "writable by others"), (0o020, "writable by the group"))

_RSA = bytes.fromhex("2a864886f70d010101")  # RFC 8017 appendix C
_ED25519 = bytes.fromhex("2b6570")  # RFC 8410 section 3
_REFUSED_TYPES = {
    bytes.fromhex("2a8648ce3d0201"): "contains an EC key",
    bytes.fromhex("2a8648ce380401"): "contains a DSA key",
}


class PrivateKey:
    """A signing key.

    ``type``      rsa or ed25519
    ``bits``      its size
    ``path``      where it came from
    ``modulus``   of an RSA key, and ``exponent`` its public one; 0 for Ed25519
    ``secret``    RSAPrivateKey in DER (RFC 8017 appendix A.1.2), or the 32 octets of Ed25519: not to be shown
    """

    __slots__ = ("bits", "exponent", "modulus", "path", "secret", "type")

    def __init__(self, path: str, octets: bytes) -> None:
        """Read the first private key. Raises PrivateKeyError, which never shows key material."""
        self.path = path
        try:
            self.type, self.secret, self.modulus, self.exponent = _read(path, octets)
        except _RefusedError as refused:
            raise _error(path, str(refused)) from None
        self.bits = self.modulus.bit_length() if self.type == "rsa" else 256

    def sign(self, digest: bytes, hash_name: str) -> bytes:
        """Return the signature of a digest: RSASSA-PKCS1-v1_5 (RFC 8017), or PureEdDSA over it (RFC 8463).

        Raises PrivateKeyError if OpenSSL fails, or if the key's public half does not verify the signature,
        and SigningError without OpenSSL.
        """
        try:
            signature, fault = self._sign_by_libcrypto(digest, hash_name), "its signature is wrong"
        except (ImportError, OSError, AttributeError, TypeError) as error:  # _ctypes is internal to CPython
            signature, fault = b"", str(error)
        if not self._fits(signature, digest):
            signature = self._sign_by_package(digest, hash_name, fault)
        if not self._fits(signature, digest):
            raise _error(self.path, "is damaged: its public key does not verify its signatures")
        return signature

    def _fits(self, signature: bytes, digest: bytes) -> bool:
        """Return whether a signature is plausible: the public-key operation detects a damaged key at once."""
        if len(signature) != (64 if self.type == "ed25519" else (self.bits + 7) // 8):
            return False
        if self.type == "ed25519":
            return True
        opened = pow(int.from_bytes(signature, "big"), self.exponent, self.modulus)
        return opened.to_bytes(self.bits // 8 + 1, "big").endswith(digest)

    def _sign_by_libcrypto(self, digest: bytes, hash_name: str) -> bytes:
        """Return the signature made by OpenSSL's library.

        Raises OSError if it refuses, with its reason; ImportError and OSError if there is no library, and
        AttributeError and TypeError if _ctypes is not as expected.
        """
        from dkimpipe.libcrypto import Library

        library = Library()
        if self.type == "ed25519":
            signature = library.sign_ed25519(self.secret, digest)
        else:
            signature = library.sign_rsa(self.secret, digest, hash_name)
        if not signature:
            raise OSError(library.reason())
        return signature

    def _sign_by_package(self, digest: bytes, hash_name: str, fault: str) -> bytes:
        """Return the same, made by the cryptography package; ``fault`` is why the library is not usable."""
        from dkimpipe import cryptopolicy

        try:
            from cryptography.exceptions import InternalError, UnsupportedAlgorithm

            return self._signed_by_package(digest, hash_name)
        except (ImportError, OSError, TypeError) as error:  # TypeError: of a version that is too old
            if not cryptopolicy.is_cause(fault):
                raise _no_openssl(fault, error) from None
        except ValueError:
            if self.type == "rsa" and not cryptopolicy.is_cause(fault):  # of Ed25519, any 32 octets are a key
                raise _error(self.path, "is damaged: OpenSSL rejects it") from None
        except (InternalError, UnsupportedAlgorithm):  # InternalError: it finds no reason
            fault = fault if cryptopolicy.is_cause(fault) else "unsupported"
        algorithm = f"{self.type}-{hash_name}"
        raise cryptopolicy.refusal(algorithm, self.bits, self.path, fault)

    def _signed_by_package(self, digest: bytes, hash_name: str) -> bytes:
        """Return the signature. Raises ValueError for a damaged key, and the errors of the package."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        if self.type == "ed25519":
            return ed25519.Ed25519PrivateKey.from_private_bytes(self.secret).sign(digest)
        key = load_der_private_key(self.secret, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("the key type does not match its structure")
        algorithm = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}[hash_name]()
        return key.sign(digest, padding.PKCS1v15(), utils.Prehashed(algorithm))


def _no_openssl(fault: str, error: Exception) -> SigningError:
    """Return the error where neither OpenSSL's library nor the package can be used, each for its reason."""
    if isinstance(error, TypeError):
        return SigningError(f"the Python package cryptography is too old: {error}")
    from dkimpipe.distribution import install_command

    hint = f"{install_command('libcrypto')}, or install the Python package cryptography"
    return SigningError(f"cannot sign with libcrypto: {fault or 'the operation failed'}", hint)


def read_key(path: str) -> PrivateKey:
    """Return the private key in a file that only its owner and group can read.

    PKCS#1 and PKCS#8 PEM (RFC 7468), with LF or CRLF, and any text before it; ``keyforms`` reads the forms
    of other tools. Raises ConfigError or PrivateKeyError with the file, the fault and the hint.
    """
    descriptor, status = open_file(path, "key file")
    try:
        mode = status.st_mode & 0o777
        for bits, exposed in _EXPOSED:
            if mode & bits:
                hint = f"chmod {mode & 0o640:04o} {for_shell(path)}"
                raise PrivateKeyError(f"key file {path} is {exposed} (mode {mode:04o})", hint)
        octets = posix.read(descriptor, MAX_FILE)
    except OSError as error:
        raise PrivateKeyError(f"key file {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)
    return PrivateKey(path, octets)


class _RefusedError(Exception):
    """A fault of a key, in words that complete a sentence beginning with its file."""


def _error(path: str, fault: str) -> PrivateKeyError:
    """Return the error for a fault of a key, with its hint."""
    from dkimpipe.keyhints import hint

    return PrivateKeyError(f"key file {path} {fault}", hint(fault))


def _read(path: str, octets: bytes) -> "tuple[str, bytes, int, int]":
    """Return key type, key, modulus and public exponent of a key file: see ``_parse``."""
    try:
        return _parse(_pem_block(octets))
    except _RefusedError:
        from dkimpipe import keyforms

        return _parse(keyforms.structure(path, octets))


def _pem_block(octets: bytes) -> bytes:
    """Return the DER of a file whose first PEM block is a private key, with its lines as usual."""
    octets = b"\n".join([line.rstrip() for line in octets.split(b"\n")]) + b"\n"
    label, _, rest = octets.partition(b"-----BEGIN ")[2].partition(b"-----\n")
    body, found, _ = rest.partition(b"-----END " + label + b"-----")
    if not found or label not in (b"RSA PRIVATE KEY", b"PRIVATE KEY"):
        raise _RefusedError
    try:
        return a2b_base64(body)
    except Base64Error:
        raise _RefusedError from None


def _parse(der: bytes) -> "tuple[str, bytes, int, int]":
    """Return key type, key, modulus and public exponent (0 for Ed25519) of a PKCS#1 or PKCS#8 structure.

    The key is RSAPrivateKey in DER, or the 32 octets of Ed25519 (RFC 8032 section 5.1.5).
    """
    at, end = _element(der, 0, len(der), _SEQUENCE)
    if end != len(der):  # base64 with characters inserted: the key may be another one
        raise _RefusedError("is damaged: bytes after the key structure")
    _, after = _element(der, at, end, _INTEGER)  # the version, in both
    if (
        der[after : after + 1] == b"\x30"
    ):  # RFC 5208 or RFC 5958: algorithm, the key in a structure of its own
        start, at = _element(der, after, end, _SEQUENCE)
        oid, oid_end = _element(der, start, at, _OID)
        algorithm = der[oid:oid_end]
        at, end = _element(der, at, end, _OCTET_STRING)
        der = der[at:end]
        if algorithm == _ED25519:
            start, end = _element(der, 0, len(der), _OCTET_STRING)
            if end - start != 32:
                raise _RefusedError(f"is damaged: its Ed25519 key has {end - start} bytes, not 32")
            return "ed25519", der[start:end], 0, 0
        if algorithm != _RSA:
            raise _RefusedError(
                _REFUSED_TYPES.get(algorithm, "contains a key type that DKIM does not support")
            )
        at, end = _element(der, 0, len(der), _SEQUENCE)
    numbers: list[bytes] = []  # RFC 8017 appendix A.1.2: version, modulus, exponent, ...
    while at < end:
        if len(numbers) == 9 and der[at] == _SEQUENCE:  # otherPrimeInfos
            raise _RefusedError("contains an RSA key with more than two primes, which few programs support")
        start, at = _element(der, at, end, _INTEGER)
        numbers.append(der[start:at])
    if len(numbers) < 9:
        raise _RefusedError("is truncated")
    modulus, exponent = (int.from_bytes(number, "big") for number in numbers[1:3])
    if modulus.bit_length() < MIN_RSA_BITS:
        bits = modulus.bit_length()
        raise _RefusedError(f"contains an RSA key of {bits} bits; verifiers reject keys below {MIN_RSA_BITS}")
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
        raise _RefusedError("is damaged: not a key structure")
    return start, start + length
