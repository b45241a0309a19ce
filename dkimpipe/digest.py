"""Hash functions by the lightest way: the interpreter's own for small messages, OpenSSL's for large ones.

OpenSSL hashes several times faster. hashlib is the last resort: to import it costs a small message more than
all of its hashing, and it has OpenSSL read its configuration file, which can name other code to run.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """What a signature needs of a hash object."""

        def update(self, octets: bytes, /) -> None:
            """Hash some more octets."""

        def digest(self) -> bytes:
            """Return the hash of all octets so far."""


def new(name: str, large: bool = False) -> "Hash":
    """Return a hash object for ``sha1`` or ``sha256``; ``large`` where there is much to hash."""
    if not large:
        try:
            return _light(name)
        except (ImportError, AttributeError):  # an interpreter built with OpenSSL's hashes only, as RHEL's
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
