"""Edit Postfix's configuration after taking a backup, and undo the edits.

The edits are made on copies. A backup holds the files ``before`` and ``after`` the edits, and is complete and
on disk before any file of Postfix is replaced. Files unmodified since then are restored byte for byte; in
modified files, the edits are undone one setting at a time.
"""

from __future__ import annotations

import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dkimpipe.admin import atomic
from dkimpipe.admin.postfix import networks, notices, status_filter
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

NAME = "dkimpipe-backup-"
MAIN_FILES = ("main.cf", "master.cf")
# Some of them exist only with old versions of Postfix.
TABLES = (status_filter.OURS.file, notices.TABLE_FILE, networks.TABLE_FILE)
FILES = (*TABLES, *MAIN_FILES)  # master.cf comes last: it depends on the others
_NAME = re.compile(NAME + r"\d{8}T\d{6}[b-z]?(-verify)?")


def backups(directory: Path, *jobs: Job) -> list[Path]:
    """Return the backups of a configuration for these jobs, or for all, newest first.

    Raises ConfigError if one is incomplete.
    """
    found = []
    for path in sorted(directory.glob(f"{NAME}*"), reverse=True):
        if _NAME.fullmatch(path.name) and stat.S_ISDIR(path.lstat().st_mode):
            for part in (path / side / name for side in ("before", "after") for name in MAIN_FILES):
                if not part.is_file():
                    raise ConfigError(f"{path}: {part} is missing", "move this directory away")
            found.append(path)
    return [path for path in found if _job_of(path) in (jobs or JOBS)]


def _job_of(path: Path) -> Job:
    return next(job for job in reversed(JOBS) if path.name.endswith(_suffix(job)))


def _suffix(job: Job) -> str:
    return f"-{job.verb}" if job.verb else ""


def edit(postconf: Postconf, changes: list[Change], job: Job = SIGN) -> Path:
    """Make the edits that a job needs, and return the path of the backup.

    Raises ConfigError if nothing was changed, or OSError if a file cannot be replaced: undo() reverts that.
    """
    for name in MAIN_FILES:
        if (postconf.directory / name).is_symlink():
            link = postconf.directory / name
            raise ConfigError(
                f"{link} is a symbolic link", f"cp --remove-destination {link.resolve()} {link}"
            )
    backup = _new_path(postconf.directory, job)
    incomplete = backup.with_name(f".{backup.name}")
    for interrupted in postconf.directory.glob(f".{NAME}*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    try:
        incomplete.mkdir(mode=0o700)
        for side in ("before", "after"):
            _copy(postconf.directory, incomplete / side)
        for path in (incomplete / "after" / name for name in MAIN_FILES):
            octets = path.read_bytes()
            if not octets.endswith(b"\n"):  # old versions of postconf(1) would append to the last line
                atomic.write_like(path, octets + b"\n", path)
        postconf.edit(changes, incomplete / "after")
        incomplete.rename(backup)
    except OSError as error:
        raise ConfigError(f"nothing was changed: {incomplete}: {error.strerror}") from None
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
    for new in (backup / "after" / name for name in FILES):
        if new.exists():
            old = backup / "before" / new.name
            model = old if old.exists() else new  # postconf(1) leaves mode 0644
            atomic.write_like(postconf.directory / new.name, new.read_bytes(), model)
    return backup


def undo(directory: Path, backup: Path) -> Iterator[str]:
    """Undo the edits recorded in a backup, and remove it. Yields one line for each action.

    New tables stay: a running Postfix uses them until it is reloaded.
    """
    before, after = backup / "before", backup / "after"
    changed = [name for name in MAIN_FILES if not _is_one_of(directory / name, before / name, after / name)]
    for name in changed:
        yield f"{directory / name} was changed since {backup.name}: undoing the edits one by one"
    if changed:
        postconf = Postconf(directory)
        found = _reversals(Postconf(before), Postconf(after), postconf)
        changes = [change for change in found if _file_of(change) in changed]
        postconf.edit(changes)
        yield from map(postconf.command, changes)
    for name in MAIN_FILES:
        if name in changed:  # postconf(1) leaves mode 0644
            atomic.set_mode_and_owner(directory / name, (before / name).stat())
        elif (directory / name).read_bytes() != (before / name).read_bytes():
            atomic.copy(before / name, directory / name)
            yield f"restored {directory / name}"
    for name in TABLES:
        if (before / name).exists():
            atomic.copy(before / name, directory / name)
        elif _is_new(backup, name) and _is_named(directory, name):  # smtpd(8) would refuse all mail without
            (directory / name).write_bytes(b"")
            yield f"{directory / name} is still used, and now empty"
    finished = backup.with_name(f".{backup.name}")
    backup.rename(finished)  # a partly deleted directory must never look like a backup
    shutil.rmtree(finished)


def _file_of(change: Change) -> str:
    """Return the name of the file that an edit is for."""
    return "main.cf" if change.option in ("-e", "-X") else "master.cf"


def new_tables(found: Iterable[Path]) -> list[str]:
    """Return the names of the tables that came with these backups."""
    return [name for name in TABLES if any(_is_new(each, name) for each in found)]


def unused(directory: Path, tables: Iterable[str]) -> list[Path]:
    """Return those of these tables that are there, and that no setting names."""
    found = [directory / name for name in tables if not _is_named(directory, name)]
    return [path for path in found if path.exists()]


def _is_new(backup: Path, name: str) -> bool:
    return (backup / "after" / name).exists() and not (backup / "before" / name).exists()


def _is_named(directory: Path, name: str) -> bool:
    return any(name.encode() in (directory / each).read_bytes() for each in MAIN_FILES)


def _new_path(directory: Path, job: Job) -> Path:
    name = f"{NAME}{time.strftime('%Y%m%dT%H%M%S')}"
    for later in ("", *"bcdefghijklmnopqrstuvwxyz"):  # backups within one second; names sort by age
        if not any((directory / f"{name}{later}{_suffix(each)}").exists() for each in JOBS):
            return directory / f"{name}{later}{_suffix(job)}"
    raise ConfigError(f"{directory / name} already exists")


def _reversals(before: Postconf, after: Postconf, now: Postconf) -> Iterator[Change]:
    """Yield the edits that undo the settings whose values are unchanged since."""
    for name, value in after.explicit.items():
        if now.explicit.get(name) == value != before.explicit.get(name):
            yield _restoring("-e", name, before.explicit.get(name))
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
                    yield _restoring("-P", f"{service.id}/{name}", earlier.get(name))
            removed = earlier.keys() - after.overrides[service.id].keys()
            for name in sorted(removed - now.overrides[service.id].keys()):
                yield _restoring("-P", f"{service.id}/{name}", earlier[name])


def _restoring(option: str, name: str, value: str | None) -> Change:
    if value is None:
        return Change({"-e": "-X", "-P": "-PX"}[option], name, "")
    if option == "-P":  # -P accepts no spaces, and only lists are edited
        value = ",".join(value.replace(",", " ").split())
    return Change(option, f"{name}={value}", "")


def _is_one_of(path: Path, *others: Path) -> bool:
    return path.read_bytes() in [other.read_bytes() for other in others]


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for name in FILES:
        if (source / name).exists():
            atomic.copy(source / name, target / name)
