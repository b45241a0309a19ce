"""The complete message before any of it leaves: a small one in memory, a large one in a file without a name.

A filter that is killed while it writes into sendmail(1) leaves half a message behind, and that half would be
delivered. So sendmail(1) is only given what is complete: a pipe that already holds the whole message and
whose writing end is closed, or a file. Neither has a name, so nothing is left to clean up however we end.

Under SELinux sendmail(1) runs in another domain, and the kernel takes away each descriptor that this domain
may not use. A pipe is allowed wherever sendmail(1) may be run by a filter at all.
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
_F_SETPIPE_SZ = 1031  # fcntl(2); the module has the name from Python 3.10 on


def new(small: bool, room: int) -> "Spool":
    """Return an empty spool. Raises SpoolError.

    ``small``: the message is in memory already. ``room``: more octets than will be put on top.
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

    def reader(self) -> int:
        """Return a descriptor that gives the whole message and then ends. Raises SpoolError."""
        octets = b"".join(self._pieces)
        try:
            reading = _filled_pipe(octets)
        except OSError as error:
            raise SpoolError(f"cannot put the message into a pipe: {why(error)}") from None
        if reading is not None:
            return reading
        file = new(small=False, room=0)
        file.write(octets)
        return file.reader()

    def pieces(self) -> "list[bytes]":
        """Return the whole message, in pieces."""
        return self._pieces


def _filled_pipe(octets: bytes) -> "int | None":
    """Return the reading end of a pipe that holds all of this, None if no pipe does. Raises OSError."""
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
    """Ask for room for that many octets; the kernel may refuse (/proc/sys/fs/pipe-max-size)."""
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, size)
    except OSError:
        pass
