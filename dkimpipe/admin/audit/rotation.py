"""The files that a log was renamed to: by logrotate(8), savelog(8), "postfix logrotate" and syslog daemons.

logrotate's options dateformat, extension, compressext and olddir change the names. What begins with the name
of the log and goes on with numbers, or ``.old``, was a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.audit import compression
from dkimpipe.admin.audit.logfiles import modified

# A number or a date, in any form that dateformat has: .1, -20260103, .2026-01-03, -1767398400, _2026W01
_NUMBER = r"(?:[._-]?\d[\dTWZ:._-]*|[._-](?:old|prev|last|bak)|~)"
_COMPRESSED = r"(?:\.\w{1,8})?"
LOGROTATE = (Path("/etc/logrotate.conf"), Path("/etc/logrotate.d"))
_OLDDIR = re.compile(r"^\s*olddir\s+[\"']?([^\s\"']+)", re.MULTILINE)


def files(path: Path, since: float, configuration: tuple[Path, ...] = LOGROTATE) -> list[Path]:
    """Return a log and its rotated files that were written to since then, without a copy in compression."""
    found = {path}
    for directory in dict.fromkeys([path.parent, *_old_directories(path, configuration)]):
        found.update(each for each in _renamed(path, directory) if modified(each) >= since)
    return sorted(each for each in found if _plain(each) not in found - {each})


def _plain(path: Path) -> Path:
    """Return the name of a file without the end that compression adds."""
    return path.with_suffix("") if path.suffix in compression.SUFFIXES else path


def _renamed(path: Path, directory: Path) -> Iterator[Path]:
    """Yield the files in a directory that a log may have been renamed to."""
    name, stem, extension = map(re.escape, (path.name, path.stem, path.suffix))
    pattern = f"{name}{_NUMBER}{_COMPRESSED}"
    if path.suffix:  # logrotate's extension keeps the end of the name
        pattern += f"|{stem}{_NUMBER}{extension}{_COMPRESSED}"
    renamed = re.compile(pattern)
    try:
        yield from (each for each in directory.iterdir() if renamed.fullmatch(each.name) and each.is_file())
    except OSError:  # that the log itself is missing is said where it is opened
        return


def _old_directories(path: Path, configuration: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the directories that logrotate(8) moves logs to, relative to that of the log."""
    for place in configuration:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            try:
                text = file.read_text(errors="replace")
            except OSError:
                continue
            yield from (path.parent / each for each in _OLDDIR.findall(text))
