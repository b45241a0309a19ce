"""The documents in whatever people have: report mail, mbox, Maildir, files, gzip and zip, one in another.

What something is shows in its first octets: senders of reports disagree about media types and file names.
Everything is untrusted: sizes and numbers of parts are limited before anything is parsed.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from email.parser import BytesFeedParser
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin import access
from dkimpipe.errors import ConfigError, one_line
from dkimpipe.files import why
from dkimpipe.verify.mimepart import Part

XML, JSON = "xml", "json"
LARGEST = 64 << 20  # octets of one file or mail, together with all that is unpacked from it
LARGEST_MAIL = 20 << 20  # octets; also of a zip file. They are kept in memory, a mail several times.
_CHUNK = 1 << 16
_LINES = 400_000  # of a mail; as many as base64 of the largest has. Lines cost the email package memory.
_BOUNDARIES = 2000  # lines that may separate parts
_NESTED = 3  # gzip or zip, one in another
_MEMBERS = 100  # of a zip file
_PARTS = 200  # of a mail
_SHOWN = 100  # characters of a name from outside
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK")  # also without files, or in parts
# Other formats by their first octets: no receiver is known to send them.
_OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x9d": "compress",
    **dict.fromkeys((b"x\x01", b"x\x9c", b"x\xda"), "zlib without gzip"),
}
_ARCHIVES = {b"MSCF": "a cabinet", b"ustar": "a tar archive"}
_TAR = 257  # where its mark is
# APPNOTE 4.4.5. Only the first two are read: zipfile unpacks others without a limit.
_STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}
_ENCRYPTED = 1  # a flag of a file in a zip file
# What zipfile raises for octets that are not as they should be, depending on the version of Python.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, LookupError, OverflowError, RuntimeError),
)
_FIELD = re.compile(rb"\s*[!-9;-~]+[ \t]*:")  # of a header (RFC 5322 section 3.6.8)
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Unreadable(Exception):
    """Why something is not a report, in words."""


class Document(NamedTuple):
    """One report, still unread.

    ``name``    where it comes from, for messages
    ``kind``    XML or JSON
    ``chunks``  its octets; raises Unreadable
    """

    name: str
    kind: str
    chunks: Iterator[bytes]


class _Allowance:
    """What may still be read of one file or mail: small files can unpack to any size."""

    def __init__(self) -> None:
        self._left = LARGEST

    def limit(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the same octets. Raises Unreadable if there are too many."""
        for chunk in chunks:
            self._left -= len(chunk)
            if self._left < 0:
                raise Unreadable(f"larger than {LARGEST >> 20} MiB")
            yield chunk


class Fault(NamedTuple):
    """What is not a report. ``cause`` in words."""

    name: str
    cause: str


def from_path(path: Path) -> Iterator[Document | Fault]:
    """Yield the documents of a file, an mbox, a Maildir, or a directory of all these. Raises ConfigError."""
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
        if is_directory:
            os.listdir(path)
        else:
            path.open("rb").close()
    except OSError as error:
        hint = f"let {access.user()} read it" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{path}: {why(error)}", hint) from None
    for each in _files(path) if is_directory else [path]:
        try:
            yield from _from_file(each)
        except OSError as error:
            yield Fault(one_line(str(each)), why(error))


def _files(directory: Path) -> Iterator[Path]:
    """Yield the regular files in a directory and those below; of a Maildir, its messages."""
    for place, directories, names in os.walk(directory):
        if {"cur", "new"} <= set(directories):
            directories[:] = ["cur", "new"]  # neither its folders nor what is still being delivered
            continue
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _from_file(path: Path) -> Iterator[Document | Fault]:
    name = one_line(str(path))
    with path.open("rb") as file:
        first = file.read(_CHUNK)
        if first.startswith(b"From "):
            file.seek(0)
            yield from _from_mbox(name, file)
        elif _FIELD.match(first) and not _kind(first):
            yield from from_mail(name, _chunks(first, file))
        else:
            yield from _from_octets(name, _chunks(first, file), _Allowance())


def _from_mbox(name: str, file: io.BufferedReader) -> Iterator[Document | Fault]:
    message: list[bytes] = []
    number = size = 0
    is_start = True  # of the file, or after an empty line
    while line := file.readline(_CHUNK):
        if is_start and line.startswith(b"From "):
            if number:
                yield from from_mail(f"{name}, message {number}", iter(message))
            number += 1
            message, size = [], 0
        elif size <= LARGEST_MAIL:  # one octet more, and from_mail() refuses it
            message.append(line)
            size += len(line)
        is_start = not line.strip(b"\r\n")
    yield from from_mail(f"{name}, message {number}", iter(message))


def from_mail(place: str, chunks: Iterator[bytes]) -> Iterator[Document | Fault]:
    """Yield the documents in a mail (RFC 5322), whatever the structure of its parts."""
    allowance = _Allowance()
    name = place
    found = False
    try:
        message = _parsed(allowance.limit(chunks))
        name = _mail_name(place, message)
        parts = list(itertools.islice(message.walk(), _PARTS))
    except (Unreadable, RecursionError) as error:
        yield Fault(name, "parts nested too deeply" if isinstance(error, RecursionError) else str(error))
        return
    for part in parts:
        octets = b"" if part.is_multipart() else _content(part)
        if _is_report(octets):
            found = True
            yield from _from_octets(_part_name(name, part), _slices(octets), allowance)
    if not found:
        yield Fault(name, "no report in this mail")


def _joined(chunks: Iterator[bytes]) -> bytes:
    """Return all octets. Raises Unreadable if they are more than fit well into memory."""
    octets = bytearray()
    for chunk in chunks:
        octets += chunk
        if len(octets) > LARGEST_MAIL:
            raise Unreadable(f"larger than {LARGEST_MAIL >> 20} MiB")
    return bytes(octets)


def _parsed(chunks: Iterator[bytes]) -> Part:
    """Return a mail. Raises Unreadable if it is too large, RecursionError if parts are nested too deeply.

    The structured fields are left unparsed (the package's older policy): they can be malformed in any way.
    """
    parser = BytesFeedParser(Part)
    size = lines = boundaries = 0
    for chunk in chunks:
        size += len(chunk)
        lines += max(chunk.count(b"\n"), chunk.count(b"\r"))
        boundaries += chunk.count(b"\n--") + chunk.count(b"\r--")
        if size > LARGEST_MAIL:
            raise Unreadable(f"larger than {LARGEST_MAIL >> 20} MiB")
        if lines > _LINES:
            raise Unreadable(f"a mail of more than {_LINES:,} lines")
        if boundaries > _BOUNDARIES:
            raise Unreadable("a mail with too many parts")
        parser.feed(chunk)
    return parser.close()


def _mail_name(place: str, message: Part) -> str:
    """Return what identifies a mail to the administrator, who may have to find it in a log or mailbox."""
    fields = [(word, message[field]) for word, field in (("from", "From"), ("message-id", "Message-ID"))]
    facts = [f"{word} {_cut(' '.join(str(value).split()))}" for word, value in fields if value]
    return ", ".join([place, *facts])


def _cut(text: str) -> str:
    return one_line(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _content(part: Part) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _slices(octets: bytes) -> Iterator[bytes]:
    return (octets[at : at + _CHUNK] for at in range(0, len(octets), _CHUNK))


def _is_report(octets: bytes) -> bool:
    """Return whether a part may be a report, and not the text for people beside it."""
    if _kind(octets) == XML:
        start = octets[:1000].lower()
        return b"<html" not in start and b"<!doctype html" not in start
    if octets.startswith((_GZIP, *_ZIP, *_OTHERS)) or _archive(octets):
        return True
    return _kind(octets) == JSON and not _is_list(octets)


def _part_name(name: str, part: Part) -> str:
    file_name = part.get_filename()
    return f"{name}, {_cut(file_name)}" if file_name else name


def _from_octets(
    name: str, chunks: Iterator[bytes], allowance: _Allowance, nested: int = _NESTED
) -> Iterator[Document | Fault]:
    """Yield the documents in octets that may be compressed."""
    chunks = allowance.limit(chunks)
    try:
        first = next(chunks, b"")
        kind = _kind(first)
        if kind:
            yield Document(name, kind, _again(first, chunks))
        elif not first:
            yield Fault(name, "empty")
        elif not first.startswith((_GZIP, *_ZIP)):
            yield Fault(name, _not_a_report(first))
        elif not nested:
            yield Fault(name, f"compressed more than {_NESTED} times")
        elif first.startswith(_ZIP):
            yield from _from_zip(name, _joined(_again(first, chunks)), allowance, nested)
        else:
            yield from _from_octets(name, _gunzipped(_again(first, chunks)), allowance, nested - 1)
    except Unreadable as cause:
        yield Fault(name, str(cause))


def _from_zip(name: str, octets: bytes, allowance: _Allowance, nested: int) -> Iterator[Document | Fault]:
    if octets.count(b"PK\1\2") > _MEMBERS:  # before zipfile makes an object for each
        yield Fault(name, f"a zip file with more than {_MEMBERS} files")
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(octets))
    except _DAMAGED as error:
        yield Fault(name, f"damaged zip file: {one_line(str(error))}")
        return
    members = [each for each in archive.infolist() if not each.filename.endswith("/")]
    if not members:
        yield Fault(name, "a zip file without files")
    for member in members:
        member_name = f"{name}, {_cut(member.filename)}" if member.filename else name
        yield from _from_octets(member_name, _unzipped(archive, member), allowance, nested - 1)


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    if member.flag_bits & _ENCRYPTED:
        raise Unreadable("encrypted")
    method = member.compress_type
    if method not in _STORED_OR_DEFLATED:
        raise Unreadable(f"compressed by {_METHODS.get(method, 'an unknown method')} (method {method})")
    try:
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except _DAMAGED as error:
        raise Unreadable(f"damaged zip file: {one_line(str(error))}") from None


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the octets of all members of a gzip file (RFC 1952).

    What follows them and is not another member is ignored, as gzip(1) does: Mimecast adds a line end.
    """
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    for chunk in chunks:
        while chunk:
            if unpacker.eof:
                if not chunk.startswith(_GZIP[:1]):
                    return
                unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
            try:
                octets = unpacker.decompress(chunk, _CHUNK)
                while octets:
                    yield octets
                    octets = unpacker.decompress(unpacker.unconsumed_tail, _CHUNK)
            except zlib.error as error:
                raise Unreadable(f"damaged gzip file: {error}") from None
            chunk = unpacker.unused_data
    if not unpacker.eof:
        raise Unreadable("the gzip file is cut off")


def _kind(first: bytes) -> str:
    """Return XML or JSON by the first octets, nothing for anything else."""
    text = _text(first)
    return XML if text.startswith(b"<") else JSON if text.startswith((b"{", b"[")) else ""


def _is_list(first: bytes) -> bool:
    """Return whether JSON is a list: a report is an object, and texts for people begin in this way, too."""
    return _text(first).startswith(b"[")


def _text(first: bytes) -> bytes:
    text = first[:200]
    for mark in _MARKS:
        text = text.removeprefix(mark)
    return text.replace(b"\0", b"").lstrip()  # UTF-16


def _not_a_report(first: bytes) -> str:
    for start, name in _OTHERS.items():
        if first.startswith(start):
            return f"compressed by {name}: only gzip and zip are read"
    if archive := _archive(first):
        return f"{archive}: only gzip and zip are read"
    return "neither a mail nor XML nor JSON"


def _archive(first: bytes) -> str:
    """Return which archive this is, other than zip."""
    marks = (first[:4], first[_TAR : _TAR + 5])
    return next((_ARCHIVES[mark] for mark in marks if mark in _ARCHIVES), "")


def _chunks(first: bytes, file: io.BufferedReader) -> Iterator[bytes]:
    while first:
        yield first
        first = file.read(_CHUNK)


def _again(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks
