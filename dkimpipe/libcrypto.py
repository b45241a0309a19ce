"""The private-key operation, through OpenSSL's own library: RSA_sign(3), EVP_DigestSign(3).

A child process ``openssl`` costs half as much again, and the cryptography package three times as much. So
does ctypes, hence its internal module. The functions are the same from OpenSSL 1.1 to 4. OpenSSL's
configuration file is not read: it could load other code to sign with.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    _ctypes: Any
else:
    import _ctypes

_NAMES = ("libcrypto.so.3", "libcrypto.so.4", "libcrypto.so.1.1")
_FLAGS = 2 | 8  # RTLD_NOW, RTLD_DEEPBIND: it prefers its own symbols to those of other libraries
_LOADED = 4  # RTLD_NOLOAD: fail if it is not loaded yet
# OPENSSL_init_crypto(3): NO_LOAD_CONFIG, NO_ADD_ALL_CIPHERS, NO_ADD_ALL_DIGESTS, NO_ATEXIT. The tables
# of names are not used here; building and freeing them costs a tenth of the signature.
_BARE = 0x80 | 0x10 | 0x20 | 0x80000
# The random numbers that blind the private-key operation, from a DRBG (NIST SP 800-90A) that needs no cipher:
# for the default one OpenSSL 3 sets up all ciphers first, which takes as long as the operation.
_DRBG = (None, b"HASH-DRBG", None, None, b"SHA256")
_HASHES = {"sha1": 64, "sha256": 672}  # NID_sha1, NID_sha256
_ED25519 = 1087  # EVP_PKEY_ED25519


# C types. Any other argument is an int, a char * or NULL.
class _Int(_ctypes._SimpleCData):
    _type_ = "i"


class _Long(_ctypes._SimpleCData):
    _type_ = "L"  # pointers and size_t, too, on Linux


class _Octets(_ctypes._SimpleCData):
    _type_ = "z"


class _Octet(_ctypes._SimpleCData):
    _type_ = "c"


class _Signature(_ctypes.Array):
    _type_ = _Octet
    _length_ = 2048  # octets, for an RSA key of 16384 bits, the longest that OpenSSL accepts


class _IntFunction(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = _Int


class _PointerFunction(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = _Long


class Library:
    """OpenSSL's library. Raises OSError, as all methods do, if it or one of its functions is missing."""

    def __init__(self) -> None:
        if "hashlib" in sys.modules:  # a program that uses OpenSSL itself: its settings must stay as they are
            try:
                self._handle = _load(_FLAGS | _LOADED)
                self._int("ERR_clear_error")  # of what that program did
                return
            except OSError:
                pass
        self._handle = _load(_FLAGS)
        self._int("OPENSSL_init_crypto", _Long(_BARE), None)
        try:
            self._int("RAND_set_DRBG_type", *_DRBG)
        except OSError:  # OpenSSL 1.1 does not have it
            pass

    def function(self, name: str) -> "Callable[..., int]":
        """Return a function of the library that returns an int. Its pointers can be arrays of _ctypes."""
        function: Callable[..., int] = _IntFunction(_ctypes.dlsym(self._handle, name))
        return function

    def sign_rsa(self, key: bytes, digest: bytes, hash_name: str) -> bytes:
        """Return the RSASSA-PKCS1-v1_5 signature (RFC 8017) of a digest, empty if OpenSSL refuses.

        ``key``: RSAPrivateKey in DER (RFC 8017 appendix A.1.2).
        """
        rsa = self._pointer("d2i_RSAPrivateKey", None, _address(_Octets(key)), _Long(len(key)))
        signature, length = _Signature(), _Int()
        outputs = _address(signature), _address(length)
        done = rsa.value and self._int("RSA_sign", _HASHES[hash_name], digest, len(digest), *outputs, rsa)
        self._int("RSA_free", rsa)
        return signature.raw[: length.value] if done == 1 else b""

    def reason(self) -> str:
        """Return OpenSSL's words for why an operation failed, empty without any; forget all errors."""

        class Text(_ctypes.CFuncPtr):
            _flags_ = _ctypes.FUNCFLAG_CDECL
            _restype_ = _Octets

        codes = list(iter(lambda: self._pointer("ERR_get_error").value, 0))
        if not codes:
            return ""
        words: bytes | None = Text(_ctypes.dlsym(self._handle, "ERR_reason_error_string"))(_Long(codes[0]))
        return (words or b"").decode()

    def sign_ed25519(self, seed: bytes, text: bytes) -> bytes:
        """Return the Ed25519 signature (RFC 8032) of a text, empty if OpenSSL refuses.

        ``seed``: the 32 octets of the private key.
        """
        key = self._pointer("EVP_PKEY_new_raw_private_key", _ED25519, None, seed, _Long(len(seed)))
        context = self._pointer("EVP_MD_CTX_new")
        signature, length = _Signature(), _Long(_Signature._length_)
        outputs = _address(signature), _address(length)
        done = (
            key.value
            and self._int("EVP_DigestSignInit", context, None, None, None, key) == 1
            and self._int("EVP_DigestSign", context, *outputs, text, _Long(len(text)))
        )
        self._int("EVP_MD_CTX_free", context)
        self._int("EVP_PKEY_free", key)
        return signature.raw[: length.value] if done == 1 else b""

    def public_ed25519(self, seed: bytes) -> bytes:
        """Return the public half of an Ed25519 key, 32 octets; empty if OpenSSL refuses."""
        key = self._pointer("EVP_PKEY_new_raw_private_key", _ED25519, None, seed, _Long(len(seed)))
        public, length = _Signature(), _Long(_Signature._length_)
        done = key.value and self._int("EVP_PKEY_get_raw_public_key", key, _address(public), _address(length))
        self._int("EVP_PKEY_free", key)
        return public.raw[: length.value] if done == 1 else b""

    def _int(self, name: str, *arguments: object) -> int:
        """Call a function whose result is an int or is ignored."""
        return self.function(name)(*arguments)

    def _pointer(self, name: str, *arguments: object) -> _Long:
        """Call a function that returns a pointer; 0 is NULL."""
        return _Long(_PointerFunction(_ctypes.dlsym(self._handle, name))(*arguments))


def _address(variable: object) -> "Any":
    address = _Long(_ctypes.addressof(variable))
    address.variable = variable  # keeps it alive as long as its address
    return address


def _load(flags: int) -> "Any":
    """Return a handle of the library. Raises OSError."""
    for name in _NAMES[:-1]:
        try:
            return _ctypes.dlopen(name, flags)
        except OSError:
            continue
    return _ctypes.dlopen(_NAMES[-1], flags)
