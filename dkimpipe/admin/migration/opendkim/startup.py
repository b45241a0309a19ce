"""The sockets of OpenDKIM that are set where it is started: in a unit of systemd, or for a script of init(8).

Debian's unit ignores ``/etc/default/opendkim``, and the script of its package reads it. RHEL's unit has its
options from ``/etc/sysconfig/opendkim``, and FreeBSD's script from ``/etc/rc.conf``. A file that nobody reads
does no harm: a socket matters only if it is in Postfix's lists of milters.
"""

from __future__ import annotations

import getopt
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.migration.sources import lines
from dkimpipe.files import Place

_OPTIONS = "Ab:c:d:De:fF:k:lL:no:p:P:Qrs:S:t:T:u:vVWx:X?"  # CMDLINEOPTS in opendkim/opendkim.c
_CONFS = ("/etc/opendkim.conf", "/etc/opendkim/opendkim.conf", "/etc/mail/opendkim.conf")
_FREEBSD_CONF = "/usr/local/etc/mail/opendkim.conf"
_UNIT = "opendkim.service"
_UNIT_DIRECTORIES = (
    *("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system"),
    *("usr/lib/systemd/system", "lib/systemd/system"),
)
_SCRIPTS = ("etc/default/opendkim", "etc/sysconfig/opendkim", "etc/rc.conf", "etc/rc.conf.local")
# Names of variables in them: a socket, and options of the command line.
_SOCKETS = ("SOCKET", "milteropendkim_socket")
_COMMAND_LINES = ("DAEMON_OPTS", "OPTIONS", "milteropendkim_flags")
_KNOWN = {"NAME": "opendkim", "RUNDIR": "/run/opendkim"}  # before the file is read
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PREFIXES = "@-:+!|"  # of a command in a unit


class Socket(NamedTuple):
    """A socket as OpenDKIM writes it, and where it is set."""

    value: str
    place: Place


def sockets(conf: Path, root: Path = Path("/")) -> list[Socket]:
    """Return the sockets with which OpenDKIM is started on this host with a configuration.

    Raises ConfigError if a file cannot be read.
    """
    commands = list(_commands(root))
    named = [path for each in commands for path in _values(each.value, "-x")]
    if str(conf) not in (*_CONFS, _FREEBSD_CONF, *named):
        return []  # a copy, or of another host
    found = [Socket(word, each.place) for each in commands for word in _values(each.value, "-p")]
    for name in _SCRIPTS:
        if (root / name).is_file():
            found += _of_script(root / name)
    first: dict[str, Socket] = {}
    for each in found:
        first.setdefault(each.value, each)
    return list(first.values())


def _of_script(path: Path) -> Iterator[Socket]:
    """Yield the sockets in a file of assignments for sh(1)."""
    for name, value, place in _assignments(path):
        if name in _SOCKETS and value:
            yield Socket(value, place)
        elif name in _COMMAND_LINES:
            yield from (Socket(word, place) for word in _values(value, "-p"))


def _assignments(path: Path) -> Iterator[tuple[str, str, Place]]:
    values = dict(_KNOWN)
    for number, line in lines(path):
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            words = _words(match[2])
            values[match[1]] = _expanded(words[0], values) if words else ""
            yield match[1], values[match[1]], Place(str(path), number)


def _commands(root: Path) -> Iterator[Socket]:
    """Yield the command lines of the unit, with its environment."""
    found: list[Socket] = []
    environment: dict[str, str] = {}
    for path in _unit_files(root):
        for name, value, place in _settings(path):
            if name == "ExecStart":
                found = [*found, Socket(value, place)] if value else []
            elif name == "Environment":
                environment.update(word.partition("=")[::2] for word in _words(value))
            elif name == "EnvironmentFile" and value:
                file = root / value.lstrip("-").lstrip("/")
                if file.is_file():
                    environment.update((each, text) for each, text, _ in _assignments(file))
    for each in found:
        yield each._replace(value=_expanded(each.value.lstrip(_PREFIXES), environment))


def _unit_files(root: Path) -> Iterator[Path]:
    """Yield the unit and what is dropped in, in the order of systemd.unit(5)."""
    directories = [root / name for name in _UNIT_DIRECTORIES]
    yield from [each / _UNIT for each in directories if (each / _UNIT).is_file()][:1]
    dropped: dict[str, Path] = {}
    for directory in reversed(directories):
        dropped.update((path.name, path) for path in (directory / f"{_UNIT}.d").glob("*.conf"))
    yield from (dropped[name] for name in sorted(dropped) if dropped[name].is_file())


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


def _values(command: str, option: str) -> list[str]:
    """Return the values of an option in a command line; none if opendkim(8) would refuse it."""
    words = _words(command)
    if words and os.path.basename(words[0]) == "opendkim":
        words = words[1:]
    try:
        options, _ = getopt.getopt(words, _OPTIONS)
    except getopt.GetoptError:
        return []
    return [value for name, value in options if name == option]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # no closing quote
        return []


def _expanded(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), text)
