"""Files of assignments for sh(1), as scripts of init(8) and units of systemd read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dkimpipe.admin.foreignfiles import lines
from dkimpipe.admin.opendkim.commandline import words
from dkimpipe.admin.opendkim.programs import Daemon
from dkimpipe.files import Place

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def assignments(daemon: Daemon, path: Path) -> Iterator[tuple[str, str, Place]]:
    """Yield the names and values in a file, and their places. Raises ConfigError if it cannot be read."""
    values = {"NAME": daemon.name, "RUNDIR": f"/run/{daemon.name}"}  # before the file is read
    for number, line in lines(path):
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            found = words(match[2])
            values[match[1]] = expanded(found[0], values) if found else ""
            yield match[1], values[match[1]], Place(str(path), number)


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Return text with the values of variables; those that are unknown are empty."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), text)
