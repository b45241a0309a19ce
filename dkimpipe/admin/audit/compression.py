"""How a log is compressed: by the end of its name, or by its first octets whatever it is called."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import IO, Callable, NamedTuple, Protocol

MAGIC = 8  # octets that are compared


class Readable(Protocol):
    """A file that yields octets."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many octets; none at the end."""


class Method(NamedTuple):
    """One way of compression.

    ``suffixes``  of files, such as logrotate(8) makes them
    ``magic``     the first octets; empty if there are none
    ``reader``    what reads it; if None, ``command`` does, from standard input to standard output
    ``hint``      the command for a person if nothing does, with ``{path}``
    """

    name: str
    suffixes: tuple[str, ...]
    magic: bytes
    reader: Callable[[IO[bytes]], Readable] | None = None
    command: tuple[str, ...] = ()
    hint: str = ""


METHODS = (
    Method("gzip", (".gz",), b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    Method("bzip2", (".bz2",), b"BZh", bz2.BZ2File),
    Method("xz", (".xz",), b"\xfd7zXZ\0", lzma.LZMAFile),
    Method("lzma", (".lzma",), b"\x5d\0\0", lzma.LZMAFile),
    Method("zstd", (".zst", ".zstd"), b"\x28\xb5\x2f\xfd", None, ("zstd", "-dcq")),
    Method("lz4", (".lz4",), b"\x04\x22\x4d\x18", None, ("lz4", "-dcq")),
    Method("lzip", (".lz",), b"LZIP", None, ("lzip", "-dcq")),
    Method("lzop", (".lzo",), b"\x89LZO\0", None, ("lzop", "-dcq")),
    Method("brotli", (".br",), b"", None, ("brotli", "-dc")),
    Method("compress", (".Z",), b"\x1f\x9d", None, ("gzip", "-dcq")),
    Method("zip", (".zip",), b"PK\x03\x04", hint="unzip -p {path} | dkimpipe audit -"),
    Method("7-Zip", (".7z",), b"7z\xbc\xaf\x27\x1c", hint="7z x -so {path} | dkimpipe audit -"),
    Method("rar", (".rar",), b"Rar!", hint="unrar p -inul {path} | dkimpipe audit -"),
)
SUFFIXES = tuple(suffix for method in METHODS for suffix in method.suffixes)


def of(name: str, beginning: bytes) -> Method | None:
    """Return how a file of this name that begins so is compressed; None if it is not."""
    for method in METHODS:
        if name.endswith(method.suffixes):
            return method
    return next((each for each in METHODS if each.magic and beginning.startswith(each.magic)), None)
