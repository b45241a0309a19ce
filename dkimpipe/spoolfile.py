"""A large message, until it is complete, in an unnamed file: memory use does not grow with the message.

Under SELinux the policies of Fedora and RHEL let sendmail(1) read such a file in /var/tmp if it is opened for
reading only. No policy allows a file opened for reading and writing, or one in memory.
"""

import posix

from dkimpipe.errors import SpoolError
from dkimpipe.files import CHUNK, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

_DIRECTORIES = ("/var/tmp", "/tmp")  # noqa: S108 - nobody can tamper with an unnamed file
_MEMORY = "memory"
_ENOSPC, _EDQUOT = 28, 122  # errno(3); the module is not among those that the filter loads
# The interpreter may have been built with headers older than this kernel, and lack the constant.
_O_TMPFILE = getattr(posix, "O_TMPFILE", posix.O_DIRECTORY | 0o20000000)


class SpoolFile:
    """A message in a file.

    The new fields are known last but come first: a hole at the top, which takes no space, is left for them.
    """

    __slots__ = ("_descriptor", "_end", "_place", "_start")

    def __init__(self, room: int) -> None:
        """Reserve that many octets at the top. Raises SpoolError, as all methods do."""
        self._start = self._end = room
        self._descriptor, self._place = _file_without_name()

    def write(self, octets: bytes) -> None:
        """Add octets at the end."""
        self._write_at(self._end, octets)
        self._end += len(octets)

    def put_on_top(self, octets: bytes) -> None:
        """Add octets at the beginning."""
        if len(octets) > self._start:
            raise SpoolError("the new header fields are larger than expected")
        self._start -= len(octets)
        self._write_at(self._start, octets)

    @property
    def size(self) -> int:
        """The number of octets so far."""
        return self._end - self._start

    def reader(self) -> int:
        """Return a read-only descriptor for the whole message."""
        try:
            reading = posix.open(f"/proc/self/fd/{self._descriptor}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:  # without /proc use this one
            reading = self._descriptor
        try:
            posix.lseek(reading, self._start, 0)
        except OSError as error:
            _fail(error, self._place)
        return reading

    def pieces(self) -> "Iterator[bytes]":
        """Yield the whole message, in pieces."""
        at = self._start
        while at < self._end:
            try:
                chunk = posix.pread(self._descriptor, CHUNK, at)
            except OSError as error:
                _fail(error, self._place)
            if not chunk:
                _fail(OSError("unexpected end of file"), self._place)
            yield chunk
            at += len(chunk)

    def close(self) -> None:
        """Free its space at once; the filter leaves that to the end of the process."""
        posix.close(self._descriptor)

    def _write_at(self, at: int, octets: bytes) -> None:
        try:
            while octets:
                written = posix.pwrite(self._descriptor, octets, at)
                octets = octets[written:]
                at += written
        except OSError as error:
            _fail(error, self._place)


def _file_without_name() -> "tuple[int, str]":
    """Return a descriptor for reading and writing, and the directory whose disk it is on."""
    for directory in _DIRECTORIES:
        try:
            return posix.open(directory, _O_TMPFILE | posix.O_RDWR | posix.O_CLOEXEC, 0o600), directory
        except OSError:
            continue
    try:
        return posix.memfd_create("dkimpipe", posix.MFD_CLOEXEC), _MEMORY
    except (OSError, AttributeError) as error:
        _fail(error, _MEMORY)


def _fail(error: Exception, place: str) -> "NoReturn":
    is_full = getattr(error, "errno", 0) in (_ENOSPC, _EDQUOT) and place != _MEMORY
    hint = f"free space there (df -h {place}), then run postqueue -f" if is_full else ""
    raise SpoolError(f"cannot spool the message in {place}: {why(error)}", hint) from None
