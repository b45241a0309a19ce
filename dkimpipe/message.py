"""Parsing of octets into header fields and body chunks. Nothing is re-serialised: the input is kept as read.

Two forms of octets are used in this package. *Raw* octets are the unchanged input. *LF text* is the same
with every line end (CRLF or LF) as one LF; other CRs stay. The header of a message is kept in both forms,
the body is processed in chunks.
"""

import posix

from dkimpipe.errors import HeaderError, InputError
from dkimpipe.files import CHUNK, why
from dkimpipe.longlines import BodyLines, fold_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    Read = Callable[[int], bytes]

READ_AHEAD = 4 * CHUNK
HEADER_LIMIT = 1 << 20
MAX_FIELDS = 350_000  # as many as fit into HEADER_LIMIT; fields cost memory, so a higher limit allows no more
_NO_SUCH_MAIL = "no mail program writes such a header: inspect the message, then remove it from the queue"

# RFC 5322 section 2.2: a field name is printable US-ASCII without the colon.
_NAME_OCTETS = bytes(octet for octet in range(33, 127) if octet != ord(":"))


def read_standard_input(size: int) -> bytes:
    """Return at most that many octets, none at the end. Raises InputError."""
    try:
        return posix.read(0, size)
    except BlockingIOError:
        posix.set_blocking(0, True)
        return read_standard_input(size)
    except OSError as error:
        raise InputError(f"cannot read standard input: {why(error)}") from None


class Field:
    """One header field: ``name`` in lower case, ``text`` as LF text without the LF at its end."""

    __slots__ = ("name", "text")

    def __init__(self, name: bytes, text: bytes) -> None:
        self.name = name
        self.text = text

    @property
    def value(self) -> bytes:
        """The text after the colon, unfolded (RFC 5322 section 2.2.3), without surrounding white space."""
        return self.text.partition(b":")[2].replace(b"\n", b"").strip(b" \t\r")


class Message:
    """A message whose header block has been read, and whose body has not.

    ``envelope_line``  raw octets of the mbox ``From `` lines before the header, usually empty
    ``header``         raw octets of the header fields and of the empty line after them, if any
    ``fields``         the header fields, top down
    ``by_name``        the same by lower-case name
    ``line_end``       CRLF or LF, as at the end of the first header line
    ``small``          the whole message was read ahead: at most READ_AHEAD octets
    """

    __slots__ = (
        "_begun",
        "_lines",
        "_long_fields",
        "_read",
        "by_name",
        "envelope_line",
        "fields",
        "header",
        "line_end",
        "small",
    )

    def __init__(self, read: "Read", header_limit: int = HEADER_LIMIT) -> None:
        """Read the header block with ``read(size)``, which returns at most that many octets, none at the end.

        Raises HeaderError if the header block has more than ``header_limit`` octets, or MAX_FIELDS fields.
        """
        self._read = read
        begun, self.small = _read_ahead(read, READ_AHEAD)
        start = _after_envelope_lines(begun)
        scanned = _scan(begun, start, self.small)
        if not scanned:
            more, ended = _read_ahead(read, header_limit + CHUNK)
            begun += more
            scanned = _scan(begun, start, ended)
        if not scanned or scanned[-1] - start > header_limit:
            raise HeaderError(f"the header block is larger than {header_limit} bytes", _NO_SUCH_MAIL)
        self.fields, end = scanned
        self.envelope_line = begun[:start]
        self.header = begun[start:end]
        self.line_end = b"\r\n" if self.header.partition(b"\n")[0].endswith(b"\r") else b"\n"
        self._begun = begun[end:]
        self._lines: BodyLines | None = None
        self._long_fields = 0
        self.by_name = _by_name(self.fields)

    def break_long_lines(self) -> None:
        """Break all lines of header and body after 998 octets. Call this before using them."""
        self.header, self._long_fields = fold_header(self.header, self.line_end)
        if self._long_fields:
            scanned = _scan(self.header, 0, ended=True)
            self.fields = scanned[0] if scanned else []
            self.by_name = _by_name(self.fields)
        self._lines = BodyLines(self.line_end)

    @property
    def long_lines(self) -> int:
        """The number of lines broken so far."""
        return self._long_fields + (self._lines.broken if self._lines else 0)

    def body(self) -> "Iterator[bytes]":
        """Yield the body once, raw, in chunks split anywhere."""
        chunk = self._begun or (b"" if self.small else self._read(CHUNK))
        self._begun = b""
        while chunk:
            yield self._lines.update(chunk) if self._lines else chunk
            chunk = b"" if self.small else self._read(CHUNK)
        if self._lines:
            yield self._lines.finish()


class LineEnds:
    """A stream filter from raw octets to LF text, for chunks split anywhere."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def update(self, octets: bytes) -> bytes:
        """Return the LF text of the octets so far, except for a CR at the end: it may belong to a CRLF."""
        if self._held:
            octets = self._held + octets
            self._held = b""
        if b"\r" not in octets:
            return octets
        if octets.endswith(b"\r"):
            self._held = b"\r"
            octets = octets[:-1]
        return octets.replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """Return what was held back."""
        return self._held


def _by_name(fields: "list[Field]") -> "dict[bytes, list[Field]]":
    by_name: dict[bytes, list[Field]] = {}
    for field in fields:
        by_name.setdefault(field.name, []).append(field)
    return by_name


def _read_ahead(read: "Read", least: int) -> "tuple[bytes, bool]":
    """Return at least that many octets if available, and whether the input ended before."""
    chunks: list[bytes] = []
    size = 0
    while size < least:
        chunk = read(CHUNK)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks), False


def _after_envelope_lines(begun: bytes) -> int:
    """Return the start of the header, after the lines that sendmail(1) strips from the top of its input.

    They are the ``From `` lines of an mbox, quoted by ``>`` or not. An obsolete ``From :`` is a field.
    """
    at = 0
    while begun[at : at + 512].lstrip(b">").startswith(b"From "):
        end = begun.find(b"\n", at) + 1
        if not end or _field_name(begun[at:end]):
            break
        at = end
    return at


def _field_name(line: bytes) -> bytes:
    """Return the lower-case name of the field that begins with this line, empty if there is none.

    White space before the colon are obsolete syntax (RFC 5322 section 4.5) and allowed, as in Postfix.
    """
    name, colon, _ = line.partition(b":")
    name = name.rstrip(b" \t")
    return name.lower() if colon and not name.translate(None, _NAME_OCTETS) else b""


def _scan(octets: bytes, at: int, ended: bool) -> "tuple[list[Field], int] | None":
    """Return the fields of the header that begins at ``at``, and the start of the body.

    The header ends with an empty line, which belongs to it, or before the first line that is not a field
    (Postfix inserts an empty line there), or with the input. None: more input is needed. Raises HeaderError.
    """
    names: list[bytes] = []
    starts: list[int] = []
    end = size = len(octets)
    # Without line ends before continuation lines, a search for the end of a line finds that of a field.
    unfolded = octets.replace(b"\n ", b"\0 ").replace(b"\n\t", b"\0\t")
    while at < size:
        after = octets.find(b"\n", at) + 1
        if not after and not ended:
            return None
        line = octets[at : after or size]
        name = _field_name(line)
        if not name:
            end = after if line in (b"\n", b"\r\n") else at
            break
        after = unfolded.find(b"\n", at) + 1
        if not after and not ended:
            return None
        if len(names) == MAX_FIELDS:
            raise HeaderError(f"the header has more than {MAX_FIELDS} fields", _NO_SUCH_MAIL)
        names.append(name)
        starts.append(at)
        at = after or size
    else:
        if not ended:
            return None
    fields = []
    for name, start, stop in zip(names, starts, [*starts[1:], at]):
        text = octets[start:stop].replace(b"\r\n", b"\n")
        fields.append(Field(name, text[:-1] if text.endswith(b"\n") else text))
    return fields, end
