"""Public keys for verification: read from the octets of p=, and used by OpenSSL.

An RSA key is a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), or an RSAPublicKey alone (RFC 8017 appendix
A.1.1), in DER and nothing else; an Ed25519 key is its 32 octets (RFC 8463 section 4.2).
"""

from __future__ import annotations

from binascii import b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.verify.openssl import PublicLibrary
    from dkimpipe.verify.opensslpackage import PublicPackage

_INTEGER, _BIT_STRING, _NULL, _OID, _SEQUENCE = 2, 3, 5, 6, 48
_RSA = bytes.fromhex("2a864886f70d010101")  # RFC 8017 appendix C
_PSS = bytes.fromhex("2a864886f70d01010a")
_OTHERS = (
    bytes.fromhex("2b6570"),  # Ed25519, RFC 8410 section 3
    bytes.fromhex("2a8648ce3d0201"),  # EC, RFC 5480 section 2.1.1
    bytes.fromhex("2a8648ce380401"),  # DSA, RFC 3279 section 2.3.2
)
_RSA_HEAD = bytes.fromhex("300d06092a864886f70d0101010500")  # AlgorithmIdentifier
_libraries: list[PublicLibrary | PublicPackage] = []


class OtherKeyError(ValueError):
    """The octets are a key, but not of RSA."""


class PssKeyError(ValueError):
    """The octets are a key for RSASSA-PSS alone (RFC 4055 section 1.2), which DKIM does not use."""


class VerificationKey:
    """A public key.

    ``type``    rsa or ed25519
    ``octets``  RSAPublicKey in DER, or the 32 octets
    ``bits``    its size
    """

    __slots__ = ("bits", "octets", "type")

    def __init__(self, kind: str, octets: bytes) -> None:
        """Read a key of this type. Raises ValueError if it is none."""
        self.type = kind
        if kind == "ed25519":
            if len(octets) != 32:
                raise ValueError("not 32 octets")
            self.octets, self.bits = octets, 256
        else:
            self.octets = _bare(octets)
            modulus, exponent = _numbers(self.octets)
            if not 3 <= exponent < modulus or not exponent & 1:  # RFC 8017 section 3.1
                raise ValueError("not an exponent of RSA")
            self.bits = modulus.bit_length()

    @property
    def base64(self) -> str:
        """The usual form of p=: a SubjectPublicKeyInfo for RSA."""
        octets = self.octets
        if self.type == "rsa":
            octets = encoded(_SEQUENCE, _RSA_HEAD + encoded(_BIT_STRING, b"\0" + octets))
        return b2a_base64(octets, newline=False).decode()

    def verifies(self, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """Return whether this key made a signature: RSASSA-PKCS1-v1_5 (RFC 8017), or PureEdDSA (RFC 8463)."""
        if self.type == "ed25519":
            return _openssl().verifies_ed25519(self.octets, signature, digest)
        return _openssl().verifies_rsa(self.octets, signature, digest, hash_name)

    def made(self, signature: bytes) -> bool | None:
        """Return whether this key made a signature, of any data; None if its type does not show it."""
        return None if self.type == "ed25519" else _openssl().made_rsa(self.octets, signature)


def _openssl() -> PublicLibrary | PublicPackage:
    """Return OpenSSL's library or, if that is not usable, the cryptography package."""
    if not _libraries:
        try:
            from dkimpipe.verify.openssl import PublicLibrary

            _libraries.append(PublicLibrary())
        except (ImportError, OSError, AttributeError, TypeError):  # _ctypes is internal to CPython
            from dkimpipe.verify.opensslpackage import PublicPackage

            _libraries.append(PublicPackage())
    return _libraries[0]


def _bare(der: bytes) -> bytes:
    """Return the RSAPublicKey of a SubjectPublicKeyInfo, or the octets if they begin otherwise."""
    at, end = _element(der, 0, _SEQUENCE)
    if end != len(der):
        raise ValueError("octets after the key")
    if der[at : at + 1] != bytes([_SEQUENCE]):
        return der
    start, at = _element(der, at, _SEQUENCE)
    oid, parameters = _element(der, start, _OID)
    algorithm = der[oid:parameters]
    if algorithm == _PSS:
        raise PssKeyError
    if algorithm in _OTHERS:
        raise OtherKeyError
    if algorithm != _RSA or der[parameters:at] not in (b"", bytes([_NULL, 0])):
        raise ValueError("of an unknown type")
    start, end = _element(der, at, _BIT_STRING)
    if end != len(der) or der[start : start + 1] != b"\0":
        raise ValueError("not whole octets")
    return der[start + 1 : end]


def _numbers(der: bytes) -> tuple[int, int]:
    """Return modulus and exponent of an RSAPublicKey."""
    at, end = _element(der, 0, _SEQUENCE)
    modulus, at = _integer(der, at)
    exponent, at = _integer(der, at)
    if not at == end == len(der):
        raise ValueError("octets after the key")
    return modulus, exponent


def _integer(der: bytes, at: int) -> tuple[int, int]:
    """Return a positive INTEGER, and where it ends."""
    start, end = _element(der, at, _INTEGER)
    first, second = (der[start:end] + b"\0\0")[:2]
    if start == end or first > 127 or (not first and second < 128):
        raise ValueError("not a positive number in its shortest form")
    return int.from_bytes(der[start:end], "big"), end


def _element(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the content of an element begins and ends (X.690 section 8.1, in the form of DER)."""
    if der[at : at + 1] != bytes([tag]) or at + 2 > len(der):
        raise ValueError("another structure")
    length, start = der[at + 1], at + 2
    if length > 127:
        start += length - 128
        length = int.from_bytes(der[at + 2 : start], "big")
        if length < 128 or der[at + 2] == 0:
            raise ValueError("not in DER")
    if start + length > len(der):
        raise ValueError("truncated")
    return start, start + length


def encoded(tag: int, content: bytes) -> bytes:
    """Return an element in DER."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag, *([0x80 + len(octets)] if size > 127 else []), *octets]) + content
