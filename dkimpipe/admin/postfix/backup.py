"""Edits of Postfix's configuration, with a backup before, and their reversal.

The edits are made on copies. A backup contains the files ``before`` and ``after`` the edits; it is complete,
and on disk, before any file of Postfix is replaced. Unmodified files are restored byte for byte; in files
that were modified since, the edits are undone setting by setting.
"""

from __future__ import annotations

import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import atomic
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, STATUS_FILE, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

NAME = "dkimpipe-backup-"
MAIN_FILES = ("main.cf", "master.cf")
FILES = (STATUS_FILE, *MAIN_FILES)  # the first exists only with old versions, and the last depends on it
_NAME = re.compile(NAME + r"\d{8}T\d{6}[b-z]?(-verify)?")


def backups(directory: Path, *jobs: Job) -> list[Path]:
    """Return the backups of a configuration, the newest first, for these jobs or for all.

    Raises ConfigError if one is incomplete.
    """
    found = []
    for path in sorted(directory.glob(f"{NAME}*"), reverse=True):
        if _NAME.fullmatch(path.name) and stat.S_ISDIR(path.lstat().st_mode):
            for part in (path / side / name for side in ("before", "after") for name in MAIN_FILES):
                if not part.is_file():
                    raise ConfigError(f"{path}: {part} is missing", "move this directory away")
            found.append(path)
    return [path for path in found if _job(path) in (jobs or JOBS)]


def _job(path: Path) -> Job:
    return next(job for job in reversed(JOBS) if path.name.endswith(_suffix(job)))


def _suffix(job: Job) -> str:
    return f"-{job.verb}" if job.verb else ""


def edit(postconf: Postconf, changes: list[Change], job: Job = SIGN) -> Path:
    """Make the edits that a job needs, and return the path of the backup.

    Raises ConfigError if nothing was changed, or OSError if a file cannot be replaced: then undo() reverts.
    """
    for name in MAIN_FILES:
        if (postconf.directory / name).is_symlink():
            link = postconf.directory / name
            raise ConfigError(
                f"{link} is a symbolic link", f"cp --remove-destination {link.resolve()} {link}"
            )
    backup = _free_name(postconf.directory, job)
    making = backup.with_name(f".{backup.name}")
    for interrupted in postconf.directory.glob(f".{NAME}*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    try:
        making.mkdir(mode=0o700)
        for side in ("before", "after"):
            _copy(postconf.directory, making / side)
        for path in (making / "after" / name for name in MAIN_FILES):
            octets = path.read_bytes()
            if not octets.endswith(b"\n"):  # old versions of postconf(1) would append to the last line
                atomic.write_like(path, octets + b"\n", path)
        for change in changes:
            postconf.edit(change, making / "after")
        making.rename(backup)
    except OSError as error:
        raise ConfigError(f"nothing was changed: {making}: {error.strerror}") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    for new in (backup / "after" / name for name in FILES):
        if new.exists():
            old = backup / "before" / new.name
            model = old if old.exists() else new  # postconf(1) leaves mode 0644
            atomic.write_like(postconf.directory / new.name, new.read_bytes(), model)
    return backup


def undo(postconf: Postconf, backup: Path) -> Iterator[str]:
    """Undo the edits of a backup, and remove it. Yields one line for each action."""
    directory, before, after = postconf.directory, backup / "before", backup / "after"
    if all(_is_one_of(directory / name, before / name, after / name) for name in MAIN_FILES):
        for name in MAIN_FILES:
            if (directory / name).read_bytes() != (before / name).read_bytes():
                atomic.copy(before / name, directory / name)
                yield f"restored {directory / name}"
    else:
        yield f"{directory} was changed since {backup.name}: undoing the edits one by one"
        for change in _way_back(Postconf(before), Postconf(after), postconf):
            postconf.edit(change)
            yield postconf.command(change)
        for name in MAIN_FILES:  # postconf(1) leaves mode 0644
            atomic.give(directory / name, (before / name).stat())
    if not (before / STATUS_FILE).exists() and (after / STATUS_FILE).exists():
        (directory / STATUS_FILE).unlink(missing_ok=True)
    done = backup.with_name(f".{backup.name}")
    backup.rename(done)  # an incomplete one must never look like a backup
    shutil.rmtree(done)


def _free_name(directory: Path, job: Job) -> Path:
    name = f"{NAME}{time.strftime('%Y%m%dT%H%M%S')}"
    for later in ("", *"bcdefghijklmnopqrstuvwxyz"):  # within the same second; names sort by age
        if not any((directory / f"{name}{later}{_suffix(each)}").exists() for each in JOBS):
            return directory / f"{name}{later}{_suffix(job)}"
    raise ConfigError(f"{directory / name} already exists")


def _way_back(before: Postconf, after: Postconf, now: Postconf) -> Iterator[Change]:
    """Yield the edits that undo settings which still have their edited values."""
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
            removed = earlier.keys() - after.overrides[service.id].keys()
            for name in sorted(removed - now.overrides[service.id].keys()):
                yield _set("-P", f"{service.id}/{name}", earlier[name])


def _set(option: str, name: str, value: str | None) -> Change:
    if value is None:
        return Change({"-e": "-X", "-P": "-PX"}[option], name, "")
    if option == "-P":  # it accepts no spaces, and we edit only lists
        value = ",".join(value.replace(",", " ").split())
    return Change(option, f"{name}={value}", "")


def _is_one_of(path: Path, *others: Path) -> bool:
    return path.read_bytes() in [other.read_bytes() for other in others]


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for name in FILES:
        if (source / name).exists():
            atomic.copy(source / name, target / name)
