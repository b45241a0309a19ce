"""Lines over 998 octets (RFC 5322 section 2.1.1) broken before signing, where smtp(8) would break them after.

Postfix's SMTP client ends a line after 998 octets and goes on behind a blank, every 997 octets more
(smtp_line_length_limit); no signature survives that. A header line is folded at a blank of its own, if there
is one, for then its value stays the same. A message without such lines is not touched.
"""

LIMIT = 998


class BodyLines:
    """A stream of a raw body, whatever the cuts between the chunks; ``broken`` counts the long lines."""

    __slots__ = ("_column", "_held", "_line_end", "_long", "broken")

    def __init__(self, line_end: bytes) -> None:
        """``line_end`` is put in where a line is broken."""
        self._line_end = line_end
        self._column = 0  # octets of the line so far
        self._long = False  # it has been broken
        self._held = b""
        self.broken = 0

    def update(self, octets: bytes) -> bytes:
        """Return the octets so far, but for a CR at the very end: it may belong to a line end."""
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
            # All lines that end within so many octets are short enough.
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
    """Return a raw header block without lines over the limit, and how many of them there were."""
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
    """Return a header line in pieces, each but the first beginning with a blank."""
    pieces = []
    while len(line) > LIMIT:
        start = _last_blanks(line)
        pieces.append(line[: start or LIMIT])
        line = line[start:] if start else b" " + line[LIMIT:]
    return [*pieces, line]


def _last_blanks(line: bytes) -> int:
    """Return where the last blanks begin that a line can be folded at; 0 if there are none.

    Before them something must stand: an empty line, or one of blanks alone, would end the header for many.
    """
    head = line[: LIMIT + 1].replace(b"\t", b" ")
    start = len(head[: head.rfind(b" ") + 1].rstrip(b" "))
    before = head[:start].partition(b":")[2] if head[:1] != b" " else head[:start]
    return start if before.strip(b" ") else 0
