"""Structured field values, split outside of comments and quoted strings (RFC 5322 section 3.2)."""

from __future__ import annotations

import re

from dkimpipe.address import after_comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^"(),;]+|[,;]', re.DOTALL)


def parts(value: bytes, separator: bytes = b";", comment: bytes = b" ") -> Iterator[bytes]:
    """Yield the parts of an unfolded field value between separators, semicolons or commas.

    ``comment`` replaces each comment; quotes stay. Raises ValueError for one of either without an end.
    """
    part, at = [], 0
    while at < len(value):
        if value[at] == ord("("):
            at = after_comment(value, at)
            part.append(comment)
            continue
        found = _PIECE.match(value, at)
        if not found:
            raise ValueError("an unterminated quoted string, or a parenthesis out of place")
        at = found.end()
        if found[0] == separator:
            yield b"".join(part)
            part = []
        else:
            part.append(found[0])
    yield b"".join(part)
