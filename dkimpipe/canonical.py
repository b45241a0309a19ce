"""Canonicalizations as streams: simple, relaxed (RFC 6376 section 3.4) and nofws (RFC 4870 section 3.4.2.2).

The input is LF text, split anywhere; the output is canonical octets with CRLF. White space is SP and HTAB
only (RFC 6376 section 2.8). Memory use does not grow with the message.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

_CRLF = b"\r\n"
_SOME_LINES = 8192


def field(canonicalization: str, text: bytes) -> bytes:
    """Return one header field, LF text without its last LF, in canonical form with CRLF at its end."""
    return _FIELDS[canonicalization](text) + _CRLF


class Body:
    """Sends a body, or any text, to ``sink`` in canonical form, without the empty lines at its end.

    ``empty`` is the canonical form of a body without text.
    """

    __slots__ = ("_any", "_empty", "_held", "_line_ends", "_lines", "_sink")

    def __init__(self, canonicalization: str, sink: "Callable[[bytes], object]", empty: bytes = b"") -> None:
        self._lines, self._held = _BODIES[canonicalization], b""
        self._sink = sink
        self._empty = empty
        self._any = False
        self._line_ends = 0

    def update(self, text: bytes) -> None:
        """Process more LF text."""
        text, self._held = self._lines(self._held + text if self._held else text)
        kept = text.rstrip(b"\n")
        if kept:
            self._send_line_ends()
            self._sink(kept.replace(b"\n", _CRLF))
            self._any = True
        self._line_ends += len(text) - len(kept)

    def finish(self) -> None:
        """Finish: terminate a last line that has no line end, and drop trailing empty lines."""
        self._sink(_CRLF if self._any else self._empty)

    def _send_line_ends(self) -> None:
        while self._line_ends:
            some = min(self._line_ends, _SOME_LINES)
            self._sink(_CRLF * some)
            self._line_ends -= some


def _squeeze(text: bytes) -> bytes:
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _simple_field(text: bytes) -> bytes:
    return text.replace(b"\n", _CRLF)


def _relaxed_field(text: bytes) -> bytes:
    name, _, value = text.partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _squeeze(value.replace(b"\n", b"")).strip(b" ")


def _nofws_field(text: bytes) -> bytes:
    return text.translate(None, b" \t\r\n")


# Each of these returns the lines in canonical form, and a last space if its fate depends on the next octets.


def _simple_lines(text: bytes) -> "tuple[bytes, bytes]":
    return text, b""


def _relaxed_lines(text: bytes) -> "tuple[bytes, bytes]":
    text = _squeeze(text).replace(b" \n", b"\n")
    return (text[:-1], b" ") if text.endswith(b" ") else (text, b"")


def _nofws_lines(text: bytes) -> "tuple[bytes, bytes]":
    return text.translate(None, b" \t\r"), b""


_FIELDS = {"simple": _simple_field, "relaxed": _relaxed_field, "nofws": _nofws_field}
_BODIES = {"simple": _simple_lines, "relaxed": _relaxed_lines, "nofws": _nofws_lines}
