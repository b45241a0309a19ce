"""The complete message before any of it leaves: a small one in memory, a large one in a file without a name.

A filter that is killed while it writes into sendmail(1) leaves half a message behind, and that half would be
delivered. So sendmail(1) is only given what is complete: a pipe that already holds the whole message and
whose writing end is closed, or a file. Neither has a name, so nothing is left to clean up however we end.

Under SELinux sendmail(1) runs in another domain, and the kernel takes away each descriptor that this domain
may not use. A pipe passes every policy. A file in /var/tmp, opened for reading only, passes those of Fedora
and RHEL; a memfd, or any file opened for reading and writing, passes none.
"""

import posix

from dkimpipe.errors import OutputError, SpoolError
from dkimpipe.files import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Union

    Spool = Union["MemorySpool", "FileSpool"]

_CHUNK = 65536
_PIPE_CAPACITY = 65536  # octets, pipe(7); a user with many pipes may get less
_F_SETPIPE_SZ = 1031  # fcntl(2); the module has the name from Python 3.10 on
# The interpreter may have been built with older headers than this kernel's, and lack the name.
_O_TMPFILE = getattr(posix, "O_TMPFILE", posix.O_DIRECTORY | 0o20000000)
_DIRECTORIES = ("/var/tmp", "/tmp")  # noqa: S108 - a file without a name cannot be anybody's trap


def new(small: bool, room: int) -> "Spool":
    """Return an empty spool. Raises SpoolError.

    ``small``: the message is in memory already. ``room``: more octets than will be put on top.
    """
    return MemorySpool() if small else FileSpool(room)


class MemorySpool:
    """A message in memory."""

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
            _fail(error)
        if reading is None:
            file = FileSpool(room=0)
            file.write(octets)
            reading = file.reader()
        return reading

    def copy_to(self, descriptor: int) -> None:
        """Write all of it to a descriptor. Raises OutputError unless every octet was taken."""
        try:
            _write_all(descriptor, b"".join(self._pieces))
            _settle(descriptor)
        except OSError as error:
            _fail_output(error)


class FileSpool:
    """A message in a file.

    The new fields are known last and come first: a hole at the top, which takes no space, is room for them.
    """

    __slots__ = ("_descriptor", "_end", "_place", "_start")

    def __init__(self, room: int) -> None:
        """Leave that many octets for what is put on top. Raises SpoolError, as all methods do."""
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

    def reader(self) -> int:
        """Return a descriptor, for reading only, that gives the whole message and then ends."""
        try:
            reading = posix.open(f"/proc/self/fd/{self._descriptor}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:  # without /proc this one has to do
            reading = self._descriptor
        try:
            posix.lseek(reading, self._start, 0)
        except OSError as error:
            _fail(error)
        return reading

    def copy_to(self, descriptor: int) -> None:
        """Write all of it to a descriptor. Raises OutputError unless every octet was taken."""
        try:
            at = self._start
            while chunk := posix.pread(self._descriptor, _CHUNK, at):
                _write_all(descriptor, chunk)
                at += len(chunk)
            _settle(descriptor)
        except OSError as error:
            _fail_output(error)

    def _write_at(self, at: int, octets: bytes) -> None:
        try:
            while octets:
                written = posix.pwrite(self._descriptor, octets, at)
                octets = octets[written:]
                at += written
        except OSError as error:
            _fail(error, self._place)


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


def _file_without_name() -> "tuple[int, str]":
    """Return a descriptor for reading and writing, and the directory whose disk it is on."""
    for directory in _DIRECTORIES:
        try:
            return posix.open(directory, _O_TMPFILE | posix.O_RDWR | posix.O_CLOEXEC, 0o600), directory
        except OSError:
            continue
    try:
        return posix.memfd_create("dkimpipe", posix.MFD_CLOEXEC), "memory"
    except (OSError, AttributeError) as error:
        _fail(error)


def _write_all(descriptor: int, octets: bytes) -> None:
    while octets:
        try:
            octets = octets[posix.write(descriptor, octets) :]
        except BlockingIOError:
            posix.set_blocking(descriptor, True)


def _settle(descriptor: int) -> None:
    """Raise OSError if what was written did not fit: a network file system reports a full disk on close."""
    posix.close(posix.dup(descriptor))


def _fail(error: Exception, place: str = "") -> "NoReturn":
    where = f" in {place}" if place else ""
    raise SpoolError(f"cannot keep the message{where} until it is complete: {why(error)}") from None


def _fail_output(error: OSError) -> "NoReturn":
    raise OutputError(f"cannot write to standard output: {why(error)}") from None
