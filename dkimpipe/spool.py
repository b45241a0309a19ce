"""The complete message before any of it is sent: a small one in memory, a large one in an unnamed file.

If a filter is killed while it writes to sendmail(1), half a message would be delivered. So sendmail(1) only
gets complete messages: a pipe that already contains the whole message and whose writing end is closed, or a
file. Neither has a name, so there is nothing to clean up, however the filter ends.

Under SELinux sendmail(1) runs in another domain, and the kernel withholds each descriptor that this domain
may not use. A pipe is allowed wherever a filter may run sendmail(1) at all.
"""

import posix

from dkimpipe.errors import SpoolError
from dkimpipe.files import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from dkimpipe.spoolfile import SpoolFile

    Spool = Union["SpoolMemory", SpoolFile]

_PIPE_CAPACITY = 65536  # octets, pipe(7); a user with many pipes may get less
_F_SETPIPE_SZ = 1031  # fcntl(2); in the module fcntl since Python 3.10


def new(small: bool, room: int) -> "Spool":
    """Return an empty spool. Raises SpoolError.

    ``small``: the message is already in memory. ``room``: an upper bound for the octets put on top.
    """
    if small:
        return SpoolMemory()
    from dkimpipe.spoolfile import SpoolFile

    return SpoolFile(room)


class SpoolMemory:
    """A message in memory, until it is in a pipe."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, octets: bytes) -> None:
        """Add octets at the end."""
        self._pieces.append(octets)

    def put_on_top(self, octets: bytes) -> None:
        """Add octets at the beginning."""
        self._pieces.insert(0, octets)

    @property
    def size(self) -> int:
        """The number of octets so far."""
        return sum(map(len, self._pieces))

    def reader(self) -> int:
        """Return a descriptor for reading the whole message. Raises SpoolError."""
        octets = b"".join(self._pieces)
        try:
            reading = _filled_pipe(octets)
        except OSError as error:
            raise SpoolError(f"cannot write the message to a pipe: {why(error)}") from None
        if reading is not None:
            return reading
        file = new(small=False, room=0)
        file.write(octets)
        return file.reader()

    def pieces(self) -> "list[bytes]":
        """Return the whole message, in pieces."""
        return self._pieces


def _filled_pipe(octets: bytes) -> "int | None":
    """Return the reading end of a pipe with all of this in it, None if it does not fit. Raises OSError."""
    reading, writing = posix.pipe()
    posix.set_blocking(writing, False)
    if len(octets) > _PIPE_CAPACITY:
        _enlarge(writing, len(octets))
    try:
        held = posix.write(writing, octets)
    except BlockingIOError:
        held = 0
    posix.close(writing)
    if held == len(octets):
        return reading
    posix.close(reading)
    return None


def _enlarge(pipe: int, size: int) -> None:
    """Request a capacity of that many octets; the kernel may refuse (/proc/sys/fs/pipe-max-size)."""
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, size)
    except OSError:
        pass
