"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from dkimpipe.errors import ConfigError


def write(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a file in the place of what is there, if something is. Raises OSError."""
    _beside(path, octets, mode, owner, group).replace(path)


def write_like(path: Path, octets: bytes, model: Path) -> None:
    """Write a file with mode and owner of another. Raises OSError."""
    status = model.stat()
    write(path, octets, status.st_mode & 0o7777, status.st_uid, status.st_gid)


def edit(path: Path, before: bytes, after: bytes) -> None:
    """Write a file anew, with mode and owner as they are, if it still says what it did.

    Raises OSError, and ConfigError if somebody was faster.
    """
    status = path.stat()
    new = _beside(path, after, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    if path.read_bytes() != before:
        new.unlink()
        raise ConfigError(f"{path} was changed in the meantime and is left unchanged", "try again")
    new.replace(path)


def copy(source: Path, target: Path) -> None:
    """Write a file with octets, mode, owner and time of another. Raises OSError."""
    status = source.stat()
    write_like(target, source.read_bytes(), source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def give(path: Path, status: os.stat_result) -> None:
    """Give a file the mode and owner of this status. Raises OSError."""
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o7777)


def create(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a new file; nobody can read it who may not, at no time. Raises OSError, FileExistsError too."""
    new = _beside(path, octets, mode, owner, group)
    try:
        os.link(new, path)
    finally:
        new.unlink()


def tidy(path: Path) -> None:
    """Take away what a killed ``create`` left: another name of the same file. Raises OSError."""
    _new(path).unlink(missing_ok=True)


def _owner(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_uid, status.st_gid


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _beside(path: Path, octets: bytes, mode: int, owner: int, group: int) -> Path:
    """Write a file beside this path, whole, and return where."""
    new = _new(path)
    new.unlink(missing_ok=True)  # of one that was interrupted
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
    except OSError as error:  # which does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if not done:
            new.unlink()
    return new
