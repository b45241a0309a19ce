"""The message that is to leave, in an anonymous file until it is complete.

Written into sendmail(1) as it comes, a filter that is killed would leave half a message behind it, and
that half would be delivered. A file without a name needs no cleaning up either, however we end.
The new fields are known last and stand first: room for them is left at the top, a hole that takes no space.
"""

import posix

from dkimpipe.errors import OutputError, SpoolError
from dkimpipe.files import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_CHUNK = 65536
_IN_MEMORY = 1 << 20
_DIRECTORIES = ("/var/tmp", "/tmp")  # noqa: S108 - a file without a name cannot be anybody's trap


class Spool:
    """An anonymous file: in memory while it is small, on disk when it grows."""

    __slots__ = ("_end", "_on_disk", "_start", "descriptor")

    def __init__(self, room: int) -> None:
        """Leave that many octets for what is put on top. Raises SpoolError, as all methods do."""
        self._start = self._end = room
        self._on_disk = False
        try:
            self.descriptor = posix.memfd_create("dkimpipe", posix.MFD_CLOEXEC)
        except OSError as error:
            _fail(error)

    def write(self, octets: bytes) -> None:
        """Add octets at the end."""
        if not self._on_disk and self._end - self._start > _IN_MEMORY:
            self._move_to_disk()
        self._write_at(self._end, octets)
        self._end += len(octets)

    def put_on_top(self, octets: bytes) -> None:
        """Add octets at the beginning."""
        if len(octets) > self._start:
            raise SpoolError("the new header fields are larger than expected")
        self._start -= len(octets)
        self._write_at(self._start, octets)

    def rewind(self) -> int:
        """Return the descriptor, set to the first octet."""
        posix.lseek(self.descriptor, self._start, 0)
        return self.descriptor

    def copy_to(self, descriptor: int) -> None:
        """Write all of it to a descriptor. Raises OutputError unless every octet was taken."""
        try:
            at = self._start
            while chunk := posix.pread(self.descriptor, _CHUNK, at):
                at += _write(descriptor, chunk)
            posix.close(posix.dup(descriptor))  # a network file system tells of a full disk only on close
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {why(error)}") from None

    def _write_at(self, at: int, octets: bytes) -> None:
        try:
            while octets:
                written = posix.pwrite(self.descriptor, octets, at)
                octets = octets[written:]
                at += written
        except OSError as error:
            _fail(error)

    def _move_to_disk(self) -> None:
        self._on_disk = True
        for directory in _DIRECTORIES:
            try:
                descriptor = posix.open(directory, posix.O_TMPFILE | posix.O_RDWR | posix.O_CLOEXEC, 0o600)
            except OSError:
                continue
            memory, self.descriptor = self.descriptor, descriptor
            at = self._start
            while chunk := posix.pread(memory, _CHUNK, at):
                self._write_at(at, chunk)
                at += len(chunk)
            posix.close(memory)
            return


def _write(descriptor: int, octets: bytes) -> int:
    try:
        return posix.write(descriptor, octets)
    except BlockingIOError:
        posix.set_blocking(descriptor, True)
        return 0


def _fail(error: OSError) -> "NoReturn":
    raise SpoolError(f"cannot keep the message until it is complete: {why(error)}") from None
