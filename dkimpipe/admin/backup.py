"""A backup of Postfix's configuration before it is edited, and the way back.

A backup holds main.cf and master.cf as they were ``before`` and ``after`` the edits. As long as nobody has
changed them since, the way back is octet for octet; after that, setting by setting.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import atomic
from dkimpipe.admin.filter_service import STATUS_FILE
from dkimpipe.admin.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

NAME = "dkimpipe-backup-"
FILES = ("main.cf", "master.cf", STATUS_FILE)  # the last is there only with old versions


def backups(directory: Path) -> list[Path]:
    """Return the backups of a configuration, the newest first."""
    return sorted(directory.glob(f"{NAME}*"), reverse=True)


def edit(postconf: Postconf, changes: list[Change]) -> Path:
    """Make the edits, keep what was before and after them, and return where."""
    backup = _new_directory(postconf.directory)
    _copy(postconf.directory, backup / "before")
    for path in map(postconf.directory.joinpath, FILES[:2]):
        if not path.read_bytes().endswith(b"\n"):  # old versions of postconf(1) would glue their lines to it
            path.write_bytes(path.read_bytes() + b"\n")
    for change in changes:
        postconf.edit(change)
    for name in FILES:
        _like(postconf.directory / name, backup / "before" / name)  # postconf(1) leaves mode 0644
    _copy(postconf.directory, backup / "after")
    return backup


def _new_directory(directory: Path) -> Path:
    name = f"{NAME}{time.strftime('%Y%m%dT%H%M%S')}"
    for later in ("", *"bcdefghij"):  # in the same second; in the order of their names
        with contextlib.suppress(FileExistsError):
            (directory / f"{name}{later}").mkdir(mode=0o700)
            return directory / f"{name}{later}"
    raise ConfigError(f"{directory / name} is there already")


def undo(postconf: Postconf, backup: Path) -> Iterator[str]:
    """Undo the edits that a backup belongs to, and remove it. Yields what is done, a line each."""
    directory, before, after = postconf.directory, backup / "before", backup / "after"
    if not after.exists() or _contents(directory) == _contents(after):
        for name in FILES:
            if (before / name).exists():
                atomic.copy(before / name, directory / name)
                yield f"restored {directory / name}"
            else:
                (directory / name).unlink(missing_ok=True)
    else:
        yield f"{directory} was changed since {backup.name}: undoing the edits one by one"
        for change in _way_back(Postconf(before), Postconf(after), postconf):
            postconf.edit(change)
            yield postconf.command(change)
        for name in FILES:
            _like(directory / name, after / name)
    shutil.rmtree(backup)


def _way_back(before: Postconf, after: Postconf, now: Postconf) -> Iterator[Change]:
    """Yield the edits that undo what was edited and still stands so."""
    for name, value in after.explicit.items():
        if now.explicit.get(name) == value != before.explicit.get(name):
            yield _set("-e", name, before.explicit.get(name))
    for service in after.services.values():
        if now.services.get(service.id) == service and service.id not in before.services:
            yield Change("-MX", service.id, "")
        elif now.services.get(service.id) == service and service.command == "pipe":
            if service != before.services[service.id]:
                yield Change("-M", f"{service.id}={before.services[service.id].line}", "")
        elif service.id in now.services and service.id in before.services:
            earlier = before.overrides[service.id]
            for name, value in after.overrides[service.id].items():
                if now.overrides[service.id].get(name) == value != earlier.get(name):
                    yield _set("-P", f"{service.id}/{name}", earlier.get(name))


def _set(option: str, name: str, value: str | None) -> Change:
    if value is None:
        return Change({"-e": "-X", "-P": "-PX"}[option], name, "")
    if option == "-P":  # it takes no blanks, and lists are all that we edit
        value = ",".join(value.replace(",", " ").split())
    return Change(option, f"{name}={value}", "")


def _contents(directory: Path) -> list[bytes]:
    return [path.read_bytes() if path.exists() else b"" for path in map(directory.joinpath, FILES)]


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for name in FILES:
        if (source / name).exists():
            atomic.copy(source / name, target / name)


def _like(path: Path, model: Path) -> None:
    """Give a file owner and mode of another, if there are both."""
    if path.exists() and model.exists():
        status = model.stat()
        os.chown(path, status.st_uid, status.st_gid)
        path.chmod(status.st_mode & 0o777)
