"""The files that an administrator configures: conf, maps and keys. Only regular files are accepted."""

import posix
import time

from dkimpipe.errors import ConfigError, MissingFileError, for_shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

# No symbolic link as the last part of the path, no waiting for the writer of a FIFO.
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
SENDER_MAP = "/etc/dkimpipe/senders"  # of setup
CHUNK = 65536  # octets to read at once from a file or a pipe, also by other modules
_MAX_FILE = 1 << 20  # octets
_SETTLED = 1.0  # seconds without a write
_MAX_WAITS = 20
_MAX_LINKS = 8  # symbolic links, one to the next
_USE_MV = "write a new file and move it into place with mv(1)"


class Place:
    """Where something was given: a line of a file, or the command line. ``str()`` begins an error."""

    __slots__ = ("_line", "path")

    def __init__(self, path: str, line: int = 0) -> None:
        self.path = path
        self._line = line

    @property
    def line(self) -> int:
        """The number of the line, from 1; 0 on the command line."""
        return self._line

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}" if self.line else self.path


COMMAND_LINE = Place("command line")


def open_file(path: str, what: str, wait: bool = False) -> "tuple[int, posix.stat_result]":
    """Return a descriptor for reading and the status of a file. Raises ConfigError, with ``what`` in front.

    It is a MissingFileError if there is no such file. ``wait`` until nothing has been written to it for a
    second: a program that rewrites a file in place truncates it first, and half of it could choose another
    signature, or none.
    """
    return _settled(_open, path, what) if wait else _open(path, what)


def _open(path: str, what: str) -> "tuple[int, posix.stat_result]":
    try:
        if is_regular(posix.lstat(path)):
            descriptor = posix.open(path, _FLAGS)
            return descriptor, posix.fstat(descriptor)
    except (OSError, ValueError) as error:
        raise _error(path, what, error) from None
    raise ConfigError(f"{what} {path}: not a regular file", f"name the file itself: {_itself(path)}")


def _error(path: str, what: str, error: Exception) -> ConfigError:
    """Return the error for a file or directory that cannot be opened."""
    missing = isinstance(error, FileNotFoundError) or _is_too_long(error)
    return (MissingFileError if missing else ConfigError)(f"{what} {path}: {why(error)}", _hint(error, path))


def _is_too_long(error: Exception) -> bool:
    """Return whether a file cannot exist because the file system allows no such long name."""
    from errno import ENAMETOOLONG

    return isinstance(error, OSError) and error.errno == ENAMETOOLONG


def _itself(path: str) -> str:
    """Return the regular file that a symbolic link leads to, otherwise the command that shows what is there.

    Links among its directories stay: those of a secret in Kubernetes or Docker change with its versions.
    """
    target = path
    try:
        for _ in range(_MAX_LINKS):
            if is_regular(posix.lstat(target)):
                return target
            directory, slash, _ = target.rpartition("/")
            link = posix.readlink(target)
            target = link if link.startswith("/") else directory + slash + link
    except (OSError, ValueError):  # not a link, or one to nothing
        pass
    return f"ls -l {for_shell(path)}"


def open_directory(path: str, what: str, wait: bool = False) -> "tuple[int, posix.stat_result]":
    """Return the same for a directory; it is a symbolic link only if the path ends with a slash."""
    return _settled(_open_directory, path, what) if wait else _open_directory(path, what)


def _open_directory(path: str, what: str) -> "tuple[int, posix.stat_result]":
    try:
        descriptor = posix.open(path, _FLAGS | posix.O_DIRECTORY)
        return descriptor, posix.fstat(descriptor)
    except (OSError, ValueError) as error:
        raise _error(path, what, error) from None


def _settled(
    open_: "Callable[[str, str], tuple[int, posix.stat_result]]", path: str, what: str
) -> "tuple[int, posix.stat_result]":
    for _ in range(_MAX_WAITS):
        descriptor, status = open_(path, what)
        age = time.time() - status.st_mtime
        if not 0 <= age < _SETTLED:  # in the future: the clock is no help
            return descriptor, status
        posix.close(descriptor)
        time.sleep(_SETTLED - age)
    raise ConfigError(f"{what} {path}: it keeps changing", _USE_MV)


def refuse_changed(path: str, what: str, descriptor: int, before: "posix.stat_result") -> None:
    """Raise ConfigError if a file has changed since it was opened."""
    now = posix.fstat(descriptor)
    if (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size):
        raise ConfigError(f"{what} {path}: it changed while it was being read", _USE_MV)


def read_file(path: str, what: str, wait: bool = False) -> bytes:
    """Return the octets of a file, opened by ``open_file``. Raises ConfigError, also if it is too large."""
    descriptor, status = open_file(path, what, wait)
    try:
        if status.st_size > _MAX_FILE:
            raise ConfigError(f"{what} {path}: larger than {_MAX_FILE} bytes")
        octets = b""
        while chunk := posix.read(descriptor, CHUNK):
            octets += chunk
        refuse_changed(path, what, descriptor, status)
        return octets
    except OSError as error:
        raise ConfigError(f"{what} {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)


def is_regular(status: "posix.stat_result") -> bool:
    """Return whether this is the status of a regular file, without the cost of importing stat."""
    return status.st_mode & 0o170000 == 0o100000


def exists(path: str) -> bool:
    """Return whether something exists at this path, or may: an inaccessible file must not be ignored."""
    try:
        posix.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def why(error: Exception) -> str:
    """Return the system's message for an error, without number and path."""
    return getattr(error, "strerror", None) or str(error)


def _hint(error: Exception, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "dkimpipe setup example.com" if path == SENDER_MAP else "create it, or fix the path"
    if isinstance(error, PermissionError):
        return f"namei -l {for_shell(path)} shows what blocks {_user()}"
    return ""


def _user() -> str:
    import pwd

    number = posix.geteuid()
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user ID {number}"
