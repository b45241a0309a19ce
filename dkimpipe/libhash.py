"""Hash functions of OpenSSL's library, for large messages and for interpreters without their own.

SHA1_Init(3) and SHA256_Init(3), the same from OpenSSL 1.1 to 4. They need no provider and no configuration
file.
"""

from dkimpipe.libcrypto import Library, _ctypes, _Long, _Octet

_SIZES = {"sha1": 20, "sha256": 32}  # octets


class _State(_ctypes.Array):
    _type_ = _Octet
    _length_ = 256  # SHA256_CTX has 112 octets, SHA_CTX 96


class LibraryHash:
    """A hash object like those of hashlib."""

    __slots__ = ("_final", "_size", "_state", "_update")

    def __init__(self, name: str) -> None:
        """Start ``sha1`` or ``sha256``. Raises OSError if the library or the function is missing."""
        library = Library()
        initialize, self._update, self._final = (
            library.function(f"{name.upper()}_{step}") for step in ("Init", "Update", "Final")
        )
        self._size = _SIZES[name]
        self._state = _State()
        initialize(self._state)

    def update(self, octets: bytes, /) -> None:
        """Hash some more octets."""
        self._update(self._state, octets, _Long(len(octets)))

    def digest(self) -> bytes:
        """Return the hash of all octets so far; more may follow."""
        result, state = _State(), _State.from_buffer_copy(self._state)
        self._final(result, state)
        digest: bytes = result.raw[: self._size]
        return digest
