"""How OpenDKIM and OpenDMARC are started by systemd: by units of any name, and what is dropped in.

The order of files is that of systemd.unit(5). Debian's units ignore ``/etc/default/NAME``, and RHEL's have
their options from ``/etc/sysconfig/NAME``.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dkimpipe.admin.foreignfiles import lines, read
from dkimpipe.admin.opendkim.commandline import Command, options, words
from dkimpipe.admin.opendkim.programs import Daemon
from dkimpipe.admin.opendkim.variables import assignments, expanded
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place

_UNIT_DIRECTORIES = (
    *("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system"),
    *("usr/lib/systemd/system", "lib/systemd/system"),
)
_ENABLED = ("*.wants", "*.requires")
_PREFIXES = "@-:+!|"  # of a command in a unit
_SPECIFIER = re.compile(r"%(.)")
_SPECIFIERS = {"t": "/run", "E": "/etc", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "%": "%"}


def units(daemon: Daemon, root: Path) -> dict[str, list[Command]]:
    """Return the commands of all units, those with the name of the program first. Raises ConfigError."""
    return {name: list(_of_unit(daemon, root, name)) for name in _unit_names(daemon, root)}


def in_use(root: Path, names: Iterable[str]) -> list[str]:
    """Return the units that are not masked, and if some of them are enabled, only these."""
    found = [each for each in names if "@." not in each and not _is_masked(root, each)]
    enabled = _enabled(root)
    return [each for each in found if each in enabled] or found


def _unit_names(daemon: Daemon, root: Path) -> list[str]:
    """Return the units in which the program is mentioned; of a template, its instances that are enabled."""
    found = set()
    for directory in {(root / each).resolve() for each in _UNIT_DIRECTORIES}:
        for path in [*directory.glob("*.service"), *directory.glob("*.service.d/*.conf")]:
            if _mentions(daemon, path):
                found.add(path.name if path.suffix == ".service" else path.parent.name[: -len(".d")])
    for template in [each for each in found if "@." in each]:
        instances = fnmatch.filter(_enabled(root), template.replace("@.", "@?*."))
        found = found - {template} | set(instances) if instances else found
    return sorted(found, key=lambda name: (not name.startswith(daemon.name), name))


def _mentions(daemon: Daemon, path: Path) -> bool:
    try:
        return path.is_file() and daemon.name.encode() in read(path)
    except ConfigError:
        return False


def _enabled(root: Path) -> set[str]:
    """Return the names of the units that others start."""
    found = [path for each in _UNIT_DIRECTORIES for kind in _ENABLED for path in (root / each).glob(kind)]
    return {name for directory in found if directory.is_dir() for name in os.listdir(directory)}


def _is_masked(root: Path, name: str) -> bool:
    first = [path for each in _UNIT_DIRECTORIES if os.path.lexists(path := root / each / name)][:1]
    return any(os.path.realpath(path) == os.devnull for path in first)


def _of_unit(daemon: Daemon, root: Path, name: str) -> Iterator[Command]:
    """Yield the commands of a unit, with its environment."""
    found: list[tuple[str, Place]] = []
    environment: dict[str, str] = {}
    for path in _unit_files(root, name):
        for variable, value, place in _settings(path):
            text = _specified(value, name)
            if variable == "ExecStart":
                found = [*found, (text, place)] if text else []
            elif variable == "Environment":
                environment.update(word.partition("=")[::2] for word in words(text))
            elif variable == "EnvironmentFile" and text:
                file = root / text.lstrip("-").lstrip("/")
                if file.is_file():
                    environment.update((each, value) for each, value, _ in assignments(daemon, file))
    for text, place in found:
        used = options(daemon, expanded(_without_prefix(text), environment), place)
        if used is not None:
            yield Command(daemon, used, place)


def _without_prefix(command: str) -> str:
    """Return a command without its prefixes; with ``@`` the second word is its argv[0]."""
    text = command.lstrip(_PREFIXES)
    if "@" in command[: len(command) - len(text)]:
        program, *rest = text.split(None, 2)
        return " ".join([program, *rest[1:]])
    return text


def _specified(text: str, unit: str) -> str:
    """Return text without the specifiers of systemd.unit(5), but those that depend on the host."""
    name = unit.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    known = {**_SPECIFIERS, "n": unit, "N": name, "p": prefix, "i": instance, "I": instance}
    return _SPECIFIER.sub(lambda match: known.get(match[1], match[0]), text)


def _unit_files(root: Path, name: str) -> Iterator[Path]:
    """Yield the unit and what is dropped in, in the order of systemd.unit(5)."""
    directories = [root / each for each in _UNIT_DIRECTORIES]
    template = re.sub(r"@.*\.", "@.", name)
    names = dict.fromkeys([name, template])
    yield from [path for each in names for path in _existing(directories, each)][:1]
    dropped: dict[str, Path] = {}
    for each in reversed(list(names)):
        for directory in reversed(directories):
            dropped.update((path.name, path) for path in (directory / f"{each}.d").glob("*.conf"))
    yield from (dropped[each] for each in sorted(dropped) if dropped[each].is_file())


def _existing(directories: Sequence[Path], name: str) -> list[Path]:
    return [each / name for each in directories if (each / name).is_file()]


def _settings(path: Path) -> Iterator[tuple[str, str, Place]]:
    """Yield the names and values of a unit, with continued lines in one."""
    before, first = "", 0
    for number, line in lines(path):
        if line.lstrip()[:1] in ("#", ";"):
            continue
        before, first = before + line.rstrip(), first or number
        if before.endswith("\\"):
            before = before[:-1] + " "
            continue
        name, equals, value = before.partition("=")
        if equals:
            yield name.strip(), value.strip(), Place(str(path), first)
        before, first = "", 0
