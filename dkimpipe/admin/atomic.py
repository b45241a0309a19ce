"""Write files completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from dkimpipe.errors import ConfigError


def write(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a file, replacing an existing one. Raises OSError."""
    _write_temporary(path, octets, mode, owner, group).replace(path)


def write_like(path: Path, octets: bytes, model: Path) -> None:
    """Write a file with the mode and owner of another. Raises OSError."""
    status = model.stat()
    write(path, octets, status.st_mode & 0o7777, status.st_uid, status.st_gid)


def edit(path: Path, before: bytes, after: bytes) -> None:
    """Replace the contents of a file if they are still ``before``, keeping its mode and owner.

    Raises OSError, and ConfigError after a concurrent change.
    """
    status = path.stat()
    new = _write_temporary(path, after, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    if path.read_bytes() != before:
        new.unlink()
        raise ConfigError(f"{path} was changed in the meantime and is left unchanged", "try again")
    new.replace(path)


def copy(source: Path, target: Path) -> None:
    """Write a file with the contents, mode, owner and times of another. Raises OSError."""
    status = source.stat()
    write_like(target, source.read_bytes(), source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def set_mode_and_owner(path: Path, status: os.stat_result) -> None:
    """Set the mode and owner of a file to those in ``status``. Raises OSError."""
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o7777)


def create(path: Path, octets: bytes, mode: int, owner: int, group: int) -> None:
    """Write a new file, which never has wider permissions than these. Raises OSError, FileExistsError."""
    new = _write_temporary(path, octets, mode, owner, group)
    try:
        os.link(new, path)
    finally:
        new.unlink()


def remove_temporary(path: Path) -> None:
    """Remove the temporary name that a killed ``create`` left behind. Raises OSError."""
    _temporary(path).unlink(missing_ok=True)


def _owner(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_uid, status.st_gid


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _write_temporary(path: Path, octets: bytes, mode: int, owner: int, group: int) -> Path:
    """Write a complete file in the same directory under a temporary name, and return its path."""
    new = _temporary(path)
    new.unlink(missing_ok=True)  # from an interrupted run
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    is_complete = False
    try:
        with open(descriptor, "wb") as file:
            if (owner, group) != _owner(descriptor):
                os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, mode)
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        is_complete = True
    except OSError as error:  # the exception does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if not is_complete:
            new.unlink()
    return new
