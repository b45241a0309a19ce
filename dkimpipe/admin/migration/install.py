"""Write imported files and keys: new ones at once, existing ones only if they are the same, or on request."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


class _Write(NamedTuple):
    path: Path
    octets: bytes
    mode: int


def write(files: Files, directory: Path, access: Access, overwrite: bool) -> Iterator[str]:
    """Write the files into an existing directory, keys first. Yields one line for each.

    What exists with other contents is kept, and nothing is written: ConfigError. With ``overwrite`` it is
    replaced, and a copy is kept with ``.old`` at its end, or ``.old.1`` if there is one. Raises OSError.
    """
    wanted = list(_writes(files, directory))
    others = [each for each in wanted if each.path.exists() and each.path.read_bytes() != each.octets]
    if others and not overwrite:
        names = ", ".join(str(each.path) for each in others)
        raise ConfigError(
            f"{names} exists and is not the same: nothing was written",
            "--output DIR writes it elsewhere, to compare; --overwrite replaces it and keeps a copy",
        )
    for each in wanted:
        if each in others:
            old = _unused(each.path.with_name(each.path.name + _OLD))
            atomic.copy(each.path, old)
            atomic.write(each.path, each.octets, each.mode, access.user, access.group)
            yield f"{each.path}: replaced; the old one is {old}"
        elif each.path.exists():
            yield f"{each.path}: unchanged"
        else:
            atomic.create(each.path, each.octets, each.mode, access.user, access.group)
            yield f"{each.path}: written"


def _unused(path: Path) -> Path:
    """Return the path, with a number at its end if something is there: an older copy may be the only one."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(1))
    return next(each for each in chain([path], numbered) if not os.path.lexists(each))


def _writes(files: Files, directory: Path) -> Iterator[_Write]:
    for key in files.keys:
        yield _Write(directory / KEYS / key.name, key.octets, 0o440)
    yield _Write(directory / CONF, files.conf.encode("utf-8", "surrogateescape"), 0o644)
    yield _Write(directory / SENDERS, files.senders.encode("utf-8", "surrogateescape"), 0o640)
