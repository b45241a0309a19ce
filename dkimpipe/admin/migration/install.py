"""Write imported files and keys: new ones at once, existing ones only if they are the same, or on request."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin import atomic
from dkimpipe.admin.migration.files import CONF, KEYS, SENDERS, Files
from dkimpipe.errors import ConfigError

_OLD = ".old"


class Access(NamedTuple):
    """User and group IDs of what is written. The group can read all, others only the conf file."""

    user: int
    group: int


class Planned(NamedTuple):
    """A file to be written.

    ``modified``  the time of the last change that it gets, in ns since 1970; 0 for the current time
    """

    path: Path
    octets: bytes
    mode: int
    modified: int = 0

    @property
    def is_other(self) -> bool:
        """Whether it exists with other contents. Raises OSError."""
        return self.path.exists() and self.path.read_bytes() != self.octets


def plan(files: Files, directory: Path, overwrite: bool) -> list[Planned]:
    """Return what is to be written, keys first. Raises OSError, and ConfigError if that would replace a file.

    With ``overwrite`` it may.
    """
    planned = list(_planned(files, directory))
    names = ", ".join(str(each.path) for each in planned if each.is_other)
    if names and not overwrite:
        raise ConfigError(
            f"{names} exists and is not the same: nothing was written",
            "--output DIR writes it elsewhere, to compare; --overwrite replaces it and keeps a copy",
        )
    return planned


def write(planned: Sequence[Planned], access: Access) -> Iterator[str]:
    """Write these files into existing directories. Yields one line for each. Raises OSError.

    Of a file that is replaced a copy is kept with ``.old`` at its end, or ``.old.1`` if there is one.
    """
    for each in planned:
        if each.is_other:
            old = _unused(each.path.with_name(each.path.name + _OLD))
            atomic.copy(each.path, old)
            atomic.write(each.path, each.octets, each.mode, access.user, access.group)
            yield f"{each.path}: replaced; the old one is {old}"
        elif each.path.exists():
            yield f"{each.path}: unchanged"
            continue
        else:
            atomic.create(each.path, each.octets, each.mode, access.user, access.group)
            yield f"{each.path}: written"
        if each.modified:  # rotate takes it as the age of the key
            os.utime(each.path, ns=(each.modified, each.modified))


def _unused(path: Path) -> Path:
    """Return the path, with a number at its end if something is there: an older copy may be the only one."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(1))
    return next(each for each in chain([path], numbered) if not os.path.lexists(each))


def _planned(files: Files, directory: Path) -> Iterator[Planned]:
    for key in files.keys:
        yield Planned(directory / KEYS / key.name, key.octets, 0o440, key.modified)
    yield Planned(directory / CONF, files.conf.encode("utf-8", "surrogateescape"), 0o644)
    yield Planned(directory / SENDERS, files.senders.encode("utf-8", "surrogateescape"), 0o640)
