"""Hash functions at the lowest cost: the interpreter's own for small messages, OpenSSL's for large ones.

OpenSSL hashes several times faster. hashlib is the last resort: for a small message the import costs more
than all hashing, and makes OpenSSL read its configuration file, which can load other code.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """The part of a hash object that a signature needs."""

        def update(self, octets: bytes, /) -> None:
            """Hash some more octets."""

        def digest(self) -> bytes:
            """Return the hash of all octets so far."""


def new(name: str, large: bool = False) -> "Hash":
    """Return a hash object for ``sha1`` or ``sha256``; ``large`` for large amounts of data."""
    if not large:
        try:
            return _light(name)
        except (ImportError, AttributeError):  # an interpreter built with OpenSSL's hashes only, as on RHEL
            pass
    try:
        from dkimpipe.libhash import LibraryHash

        return LibraryHash(name)
    except (ImportError, OSError, AttributeError, TypeError):  # no such library, or another _ctypes
        import hashlib

        return hashlib.new(name)


def _light(name: str) -> "Hash":
    if name == "sha1":
        module = __import__("_sha1")
    else:
        module = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    light: Hash = getattr(module, name)()
    return light
