"""The files that an administrator names: conf, maps and keys. Nothing but a regular file will do."""

import posix
import time

from dkimpipe.errors import ConfigError

# No symbolic link as the last part of the path, no waiting for the writer of a FIFO.
_FLAGS = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY
_MAX_FILE = 1 << 20
_STILL = 1.0  # seconds
_MOST_WAITS = 20


def open_file(path: str, what: str) -> "tuple[int, posix.stat_result]":
    """Return a descriptor for reading and the status of a file; raise ConfigError, saying ``what`` it is."""
    try:
        if is_regular(posix.lstat(path)):
            descriptor = posix.open(path, _FLAGS)
            return descriptor, posix.fstat(descriptor)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} {path}: {why(error)}", _hint(error, path)) from None
    raise ConfigError(f"{what} {path}: not a regular file", f"name the file itself: ls -l {path}")


def open_still_file(path: str, what: str) -> "tuple[int, posix.stat_result]":
    """Return the same of a file that nobody has written to for a second, and wait until it is so.

    Who writes a file anew where it stands empties it first: half of it could choose another signature, or
    none. Raises ConfigError.
    """
    for _ in range(_MOST_WAITS):
        descriptor, status = open_file(path, what)
        age = time.time() - status.st_mtime
        if not 0 <= age < _STILL:  # in the future: no clock tells
            return descriptor, status
        posix.close(descriptor)
        time.sleep(_STILL - age)
    raise ConfigError(f"{what} {path}: it changes again and again", "let mv(1) put a new file in its place")


def refuse_changed(path: str, what: str, descriptor: int, before: "posix.stat_result") -> None:
    """Raise ConfigError if somebody has written to a file since it was opened."""
    now = posix.fstat(descriptor)
    if (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size):
        raise ConfigError(
            f"{what} {path}: it was changed at this moment", "let mv(1) put a new file in its place"
        )


def read_file(path: str, what: str, still: bool = False) -> bytes:
    """Return the octets of a file of at most 1 MiB, ``still`` or not. Raises ConfigError."""
    descriptor, status = open_still_file(path, what) if still else open_file(path, what)
    try:
        if status.st_size > _MAX_FILE:
            raise ConfigError(f"{what} {path}: over {_MAX_FILE} octets")
        octets = b""
        while chunk := posix.read(descriptor, _MAX_FILE):
            octets += chunk
        refuse_changed(path, what, descriptor, status)
        return octets
    except OSError as error:
        raise ConfigError(f"{what} {path}: {why(error)}") from None
    finally:
        posix.close(descriptor)


def is_regular(status: "posix.stat_result") -> bool:
    """Tell whether this is the status of a regular file. The module stat costs more than two masks."""
    return status.st_mode & 0o170000 == 0o100000


def exists(path: str) -> bool:
    """Tell whether something is at this path, or may be: what cannot be looked at is not passed over."""
    try:
        posix.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def why(error: Exception) -> str:
    """Return the system's words for an error, without number and path."""
    return getattr(error, "strerror", None) or str(error)


def _hint(error: Exception, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "create it, or fix the path"
    if isinstance(error, PermissionError):
        return f"let user ID {posix.geteuid()} read it; namei -l {path} shows what stands in the way"
    return ""
