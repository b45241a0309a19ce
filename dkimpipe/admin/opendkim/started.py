"""What OpenDKIM or OpenDMARC runs with on a host: a conf file, and options that replace its lines.

Of several commands the first that signs is meant; a configuration that none of them names is read as it is.
A socket that nobody listens at does no harm: it matters only if it is in Postfix's lists of milters.
"""

from __future__ import annotations

import os
from pathlib import Path

from dkimpipe.admin.opendkim.commandline import Command, Option
from dkimpipe.admin.opendkim.conf import Conf
from dkimpipe.admin.opendkim.programs import SOCKET, Daemon
from dkimpipe.admin.opendkim.scripts import scripts
from dkimpipe.admin.opendkim.units import in_use, units

_BOOTED = "run/systemd/system"  # sd_booted(3)


class Started:
    """A program on a host: the ``commands`` that start it, those that sign first, and the ``unused`` ones.

    Raises ConfigError if a file cannot be read.
    """

    def __init__(self, daemon: Daemon, root: Path = Path("/")) -> None:
        """Look for them below the root of a system."""
        self.daemon, self._root = daemon, root
        of_units, of_scripts = units(daemon, root), list(scripts(daemon, root))
        used = self._used([each for name in in_use(root, of_units) for each in of_units[name]], of_scripts)
        self.commands = sorted(used, key=lambda each: not self.signs(each))
        self.unused = [each for each in of_scripts if each not in used]
        self._every = [*(each for found in of_units.values() for each in found), *of_scripts]

    def _used(self, of_units: list[Command], of_scripts: list[Command]) -> list[Command]:
        """Return the commands of units if there are any, otherwise those of scripts.

        Where systemd is not running, a script with options goes before units without.
        """
        is_unit = (self._root / _BOOTED).is_dir() or any(map(_says_something, of_units))
        if of_units and (is_unit or not any(map(_says_something, of_scripts))):
            return of_units
        return of_scripts or of_units

    @property
    def sockets(self) -> list[Option]:
        """The sockets in all commands, used or not."""
        first: dict[str, Option] = {}
        for option in (each for command in self._every for each in command.values(SOCKET)):
            first.setdefault(option.value, option)
        return list(first.values())

    @property
    def conf_files(self) -> list[Path]:
        """The conf files that may be those of this host: others are copies, or of another host."""
        return [*(each.conf for each in self._every if each.conf), *self.daemon.confs]

    @property
    def conf_file(self) -> Path | None:
        """The conf file; None if the program is started with options alone."""
        return self.conf_of(self.commands[0]) if self.commands else self._usual or self.daemon.confs[0]

    def configuration(self, path: Path | None, *, as_far_as_possible: bool = False) -> Conf:
        """Return a configuration, with the options of the command that uses it, if one does.

        Raises ConfigError as Conf does.
        """
        command = self.command(path)
        settings = command.settings if command else ()
        return Conf(path, settings, self._root, as_far_as_possible=as_far_as_possible)

    def command(self, path: Path | None) -> Command | None:
        """Return the command that starts the program with a conf file, or without one."""
        return next((each for each in self.commands if _is_same(self.conf_of(each), path)), None)

    def conf_of(self, command: Command) -> Path | None:
        """Return the conf file of a command; None if there is none, and it has options in its place."""
        named = command.conf
        if named and (named != command.usual or self._exists(named)):
            return named
        return self._usual or (None if command.signing else self.daemon.confs[0])

    @property
    def _usual(self) -> Path | None:
        return next(filter(self._exists, self.daemon.confs), None)

    def _exists(self, path: Path) -> bool:
        return os.path.lexists(self._root / path.relative_to("/"))

    def signs(self, command: Command) -> bool:
        """Return whether OpenDKIM signs if it is started by this command, as far as that is known."""
        conf = Conf(self.conf_of(command), command.settings, self._root, as_far_as_possible=True)
        mode = conf.get("Mode")
        return not mode or "s" in mode.value


def _says_something(command: Command) -> bool:
    return bool(command.signing or command.values(command.daemon.conf))


def _is_same(one: Path | None, other: Path | None) -> bool:
    return os.path.realpath(one) == os.path.realpath(other) if one and other else one is other
