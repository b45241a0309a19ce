"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from dkimpipe.errors import ConfigError


def write(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a file, replacing an existing one. Raises OSError."""
    _beside(path, octets, mode, owner, group).replace(path)


def write_like(path: Path, octets: bytes, model: Path) -> None:
    """Write a file with the mode and owner of another. Raises OSError."""
    status = model.stat()
    write(path, octets, status.st_mode & 0o7777, status.st_uid, status.st_gid)


def edit(path: Path, before: bytes, after: bytes) -> None:
    """Replace the contents of a file, with the same mode and owner, if they are still ``before``.

    Raises OSError, and ConfigError after a concurrent change.
    """
    status = path.stat()
    new = _beside(path, after, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    if path.read_bytes() != before:
        new.unlink()
        raise ConfigError(f"{path} was changed in the meantime and is left unchanged", "try again")
    new.replace(path)


def copy(source: Path, target: Path) -> None:
    """Write a file with the contents, mode, owner and times of another. Raises OSError."""
    status = source.stat()
    write_like(target, source.read_bytes(), source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def give(path: Path, status: os.stat_result) -> None:
    """Give a file the mode and owner of this status. Raises OSError."""
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o7777)


def create(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a new file that is never readable by others than it may be. Raises OSError, FileExistsError."""
    new = _beside(path, octets, mode, owner, group)
    try:
        os.link(new, path)
    finally:
        new.unlink()


def tidy(path: Path) -> None:
    """Remove what a killed ``create`` left behind: a second name of the same file. Raises OSError."""
    _new(path).unlink(missing_ok=True)


def _owner(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_uid, status.st_gid


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _beside(path: Path, octets: bytes, mode: int, owner: int, group: int) -> Path:
    """Write a complete file beside this path, and return its path."""
    new = _new(path)
    new.unlink(missing_ok=True)  # from an interrupted run
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    done = False
    try:
        with open(descriptor, "wb") as file:
            if (owner, group) != _owner(descriptor):
                os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, mode)
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        done = True
    except OSError as error:  # it does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if not done:
            new.unlink()
    return new
