"""How OpenDKIM and OpenDMARC are started: in a unit of systemd, or by a script of init(8).

Debian's unit ignores ``/etc/default/NAME``, and the script of its package reads it. RHEL's unit has its
options from ``/etc/sysconfig/NAME``, and FreeBSD's script from ``/etc/rc.conf``. A socket in a file that
nobody reads does no harm: it matters only if it is in Postfix's lists of milters.
"""

from __future__ import annotations

import getopt
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.foreignfiles import lines
from dkimpipe.files import Place

_UNIT_DIRECTORIES = (
    *("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system"),
    *("usr/lib/systemd/system", "lib/systemd/system"),
)
_SOCKET = "-p"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PREFIXES = "@-:+!|"  # of a command in a unit
_RUN = re.compile("%t")  # systemd.unit(5): /run


class Daemon(NamedTuple):
    """One of the two programs.

    ``name``      of the program, of its unit, and of its files
    ``options``   of its command line, for getopt(3): CMDLINEOPTS in its source
    ``conf``      the option that names the conf file
    ``freebsd``   what its variables in rc.conf begin with
    ``socket``    the end of the name of the one for the socket
    """

    name: str
    options: str
    conf: str
    freebsd: str
    socket: str

    @property
    def confs(self) -> tuple[str, ...]:
        """The usual places of the conf file: a package has one of them."""
        file = f"{self.name}.conf"
        return f"/etc/{file}", f"/etc/{self.name}/{file}", f"/etc/mail/{file}", f"/usr/local/etc/mail/{file}"

    @property
    def scripts(self) -> tuple[str, ...]:
        """The files of assignments that scripts, and some units, read."""
        return f"etc/default/{self.name}", f"etc/sysconfig/{self.name}", "etc/rc.conf", "etc/rc.conf.local"


OPENDKIM = Daemon(
    "opendkim", "Ab:c:d:De:fF:k:lL:no:p:P:Qrs:S:t:T:u:vVWx:X?", "-x", "milteropendkim", "socket"
)
OPENDMARC = Daemon("opendmarc", "Ac:flnp:P:t:u:vV", "-c", "opendmarc", "socketspec")


class Word(NamedTuple):
    """A command line, or a word of one, and where it is set."""

    value: str
    place: Place


def sockets(daemon: Daemon, root: Path = Path("/")) -> list[Word]:
    """Return the sockets with which a program is started on this host, as it writes them.

    Raises ConfigError if a file cannot be read.
    """
    found = [*_of(daemon, _SOCKET, _commands(daemon, root))]
    for name in daemon.scripts:
        if (root / name).is_file():
            found += _of_script(daemon, root / name)
    first: dict[str, Word] = {}
    for each in found:
        first.setdefault(each.value, each)
    return list(first.values())


def options(daemon: Daemon, option: str, root: Path = Path("/")) -> list[Word]:
    """Return the values of an option on the command line: of the unit, or without one of the script.

    Raises ConfigError if a file cannot be read.
    """
    commands = list(_commands(daemon, root))
    if not commands:
        files = [root / name for name in daemon.scripts if (root / name).is_file()]
        commands = [each for file in files for each in _command_lines(daemon, file)]
    return list(_of(daemon, option, commands))


def conf(daemon: Daemon, root: Path = Path("/")) -> Path | None:
    """Return the conf file that a program uses, as seen from here; None if there is none.

    Raises ConfigError if a file cannot be read.
    """
    named = [each.value for each in options(daemon, daemon.conf, root)]
    for name in named[-1:] or daemon.confs:
        if (path := root / name.lstrip("/")).is_file():
            return path
    return None


def is_used(daemon: Daemon, path: Path, root: Path = Path("/")) -> bool:
    """Return whether a conf file may be that of this host, not a copy or that of another one.

    Raises ConfigError if a file cannot be read.
    """
    named = _of(daemon, daemon.conf, _commands(daemon, root))
    return str(path) in (*daemon.confs, *(each.value for each in named))


def _of_script(daemon: Daemon, path: Path) -> Iterator[Word]:
    """Yield the sockets in a file of assignments for sh(1)."""
    for name, value, place in _assignments(daemon, path):
        if name in ("SOCKET", f"{daemon.freebsd}_{daemon.socket}") and value:
            yield Word(value, place)
    yield from _of(daemon, _SOCKET, _command_lines(daemon, path))


def _command_lines(daemon: Daemon, path: Path) -> Iterator[Word]:
    """Yield the options of the command line in such a file."""
    for name, value, place in _assignments(daemon, path):
        if name in ("DAEMON_OPTS", "OPTIONS", f"{daemon.freebsd}_flags"):
            yield Word(value, place)
        elif name == f"{daemon.freebsd}_cfgfile" and value:
            yield Word(f"{daemon.conf} {shlex.quote(value)}", place)


def _assignments(daemon: Daemon, path: Path) -> Iterator[tuple[str, str, Place]]:
    values = {"NAME": daemon.name, "RUNDIR": f"/run/{daemon.name}"}  # before the file is read
    for number, line in lines(path):
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            words = _words(match[2])
            values[match[1]] = _expanded(words[0], values) if words else ""
            yield match[1], values[match[1]], Place(str(path), number)


def _commands(daemon: Daemon, root: Path) -> Iterator[Word]:
    """Yield the command lines of the unit, with its environment."""
    found: list[Word] = []
    environment: dict[str, str] = {}
    for path in _unit_files(f"{daemon.name}.service", root):
        for name, value, place in _settings(path):
            if name == "ExecStart":
                found = [*found, Word(value, place)] if value else []
            elif name == "Environment":
                environment.update(word.partition("=")[::2] for word in _words(value))
            elif name == "EnvironmentFile" and value:
                file = root / value.lstrip("-").lstrip("/")
                if file.is_file():
                    environment.update((each, text) for each, text, _ in _assignments(daemon, file))
    for each in found:
        command = _RUN.sub("/run", each.value.lstrip(_PREFIXES))
        yield each._replace(value=_expanded(command, environment))


def _unit_files(unit: str, root: Path) -> Iterator[Path]:
    """Yield the unit and what is dropped in, in the order of systemd.unit(5)."""
    directories = [root / name for name in _UNIT_DIRECTORIES]
    yield from [each / unit for each in directories if (each / unit).is_file()][:1]
    dropped: dict[str, Path] = {}
    for directory in reversed(directories):
        dropped.update((path.name, path) for path in (directory / f"{unit}.d").glob("*.conf"))
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


def _of(daemon: Daemon, option: str, commands: Iterable[Word]) -> Iterator[Word]:
    """Yield the values of an option in command lines; none of one that the program would refuse."""
    for command in commands:
        words = [part for word in _words(command.value) for part in _words(word)]  # also of ``sh -c '...'``
        names = [os.path.basename(word) for word in words]
        if daemon.name in names:  # it may be started by env(1), or by a shell
            words = words[names.index(daemon.name) + 1 :]
        try:
            found, _ = getopt.getopt(words, daemon.options)
        except getopt.GetoptError:
            continue
        yield from (Word(value, command.place) for name, value in found if name == option)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # no closing quote
        return []


def _expanded(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), text)
