"""Breaking of lines over 998 octets (RFC 5322 section 2.1.1) before signing, since smtp(8) would do it after.

Postfix's SMTP client breaks a line after 998 octets and continues with a space, then again every 997 octets
(smtp_line_length_limit); no signature survives that. A header line is folded at existing white space, if any,
which preserves its value. A message without such lines is not changed.
"""

LIMIT = 998


class BodyLines:
    """A stream filter for a raw body in chunks split anywhere; ``broken`` counts the long lines."""

    __slots__ = ("_column", "_held", "_line_end", "_long", "broken")

    def __init__(self, line_end: bytes) -> None:
        """``line_end`` is inserted where a line is broken."""
        self._line_end = line_end
        self._column = 0  # octets of the line so far
        self._long = False  # it has already been broken
        self._held = b""
        self.broken = 0

    def update(self, octets: bytes) -> bytes:
        """Return the octets so far, except for a CR at the very end, which may belong to a line end."""
        octets = self._held + octets if self._held else octets
        self._held = b"\r" if octets.endswith(b"\r") else b""
        return self._break(octets[:-1] if self._held else octets)

    def finish(self) -> bytes:
        """Return what was held back."""
        return self._break(self._held)

    def _break(self, octets: bytes) -> bytes:
        pieces = []
        start = at = 0
        while at < len(octets):
            room = LIMIT - self._column
            # All lines that end within this many octets are short enough.
            ended = octets.rfind(b"\n", at, at + room + 1) + 1
            if not ended and octets[at + room : at + room + 2] == b"\r\n":
                ended = at + room + 2
            if ended:
                at, self._column, self._long = ended, 0, False
            elif len(octets) - at <= room:
                self._column += len(octets) - at
                break
            else:
                self.broken += not self._long
                self._long = True
                pieces += [octets[start : at + room], self._line_end, b" "]
                start = at = at + room
                self._column = 1
        return b"".join([*pieces, octets[start:]]) if pieces else octets


def fold_header(octets: bytes, line_end: bytes) -> "tuple[bytes, int]":
    """Return a raw header block without lines over the limit, and the number of such lines."""
    folded = []
    broken = 0
    for line in octets.split(b"\n"):
        content = line[:-1] if line.endswith(b"\r") else line
        if len(content) > LIMIT:
            broken += 1
            line = line_end.join(_fold(content)) + line[len(content) :]
        folded.append(line)
    return (b"\n".join(folded), broken) if broken else (octets, 0)


def _fold(line: bytes) -> "list[bytes]":
    """Return a header line in pieces, each but the first beginning with white space."""
    pieces = []
    while len(line) > LIMIT:
        start = _last_white_space(line)
        pieces.append(line[: start or LIMIT])
        line = line[start:] if start else b" " + line[LIMIT:]
    return [*pieces, line]


def _last_white_space(line: bytes) -> int:
    """Return the start of the last white space at which a line can be folded; 0 if there is none.

    There must be text before it: many programs take an empty or white-space line for the end of the header.
    """
    head = line[: LIMIT + 1].replace(b"\t", b" ")
    start = len(head[: head.rfind(b" ") + 1].rstrip(b" "))
    before = head[:start].partition(b":")[2] if head[:1] != b" " else head[:start]
    return start if before.strip(b" ") else 0
