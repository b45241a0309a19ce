"""The text of a log as octets in UTF-8 with LF, in whatever encoding another system has saved it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from dkimpipe.admin.audit.compression import Readable

# By the byte order mark; that of UTF-32 begins with that of UTF-16. PowerShell redirects in UTF-16.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def blocks(file: Readable, size: int) -> Iterator[bytes]:
    """Yield what is left of a file, read in blocks of this size; CRLF is kept."""
    found = _decoded(file, size)
    first = next(found, b"")
    # Within a line, CR may be a part of a message: others can write that.
    has_cr_alone = b"\r" in first and b"\n" not in first
    while first:
        yield first.replace(b"\r", b"\n") if has_cr_alone else first
        first = next(found, b"")


def _decoded(file: Readable, size: int) -> Iterator[bytes]:
    block = file.read(size)
    encoding = next((name for mark, name in _ENCODINGS if block.startswith(mark)), "")
    if not encoding:
        while block:
            yield block
            block = file.read(size)
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while block:
        if found := decoder.decode(block).encode("utf-8", "replace"):
            yield found
        block = file.read(size)
    if found := decoder.decode(b"", True).encode():
        yield found
