"""A command that starts OpenDKIM or OpenDMARC, and its options as lines of the conf file: they replace those.

A shell, env(1) and the like before the program are skipped.
"""

from __future__ import annotations

import getopt
import os
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from dkimpipe.admin.opendkim.conf import Setting
from dkimpipe.admin.opendkim.programs import Daemon
from dkimpipe.files import Place

_LAUNCHERS = ("exec", "env", "nice", "ionice", "chroot", "setpriv", "setuidgid", "chpst", "su-exec", "sudo")
_SHELLS = ("sh", "ash", "bash", "dash", "ksh")
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_OPERATOR = re.compile(r"[();<>|&]+")


class Option(NamedTuple):
    """An option by its letter, such as ``-b``, its value, which may be empty, and its place."""

    name: str
    value: str
    place: Place


class Command(NamedTuple):
    """The options with which a program is started, in order, and where the command is.

    ``usual``  the conf file unless an option names it; None for that of the program
    """

    daemon: Daemon
    options: Sequence[Option]
    place: Place
    usual: Optional[Path] = None  # noqa: UP045 - Python 3.9

    def values(self, name: str) -> list[Option]:
        """Return each use of an option."""
        return [each for each in self.options if each.name == name]

    @property
    def conf(self) -> Path | None:
        """The conf file that it names; None for that of the program."""
        named = self.values(self.daemon.conf)
        return Path("/", named[-1].value) if named else self.usual

    @property
    def settings(self) -> list[Setting]:
        """What replaces lines of the conf file: of an option that is repeated, the last."""
        return self._settings(self.daemon.settings)

    @property
    def signing(self) -> list[Setting]:
        """Those of the settings that make a difference to signatures."""
        return self._settings(self.daemon.of_signatures)

    @property
    def without_effect(self) -> list[Option]:
        """The options that change nothing about a daemon."""
        return [each for each in self.options if each.name in self.daemon.of_tests]

    def _settings(self, options: Collection[str]) -> list[Setting]:
        found = {}
        for name, value, place in self.options:
            if name in options:
                setting, fixed = self.daemon.settings[name]
                found[setting] = Setting(setting, fixed or value, place)
        return list(found.values())


def options(daemon: Daemon, text: str, place: Place) -> list[Option] | None:
    """Return the options in a command; None if it does not start the daemon, or that would refuse them."""
    arguments = _arguments(daemon, words(text))
    return None if arguments is None else _parsed(daemon, arguments, place)


def options_alone(daemon: Daemon, text: str, place: Place) -> list[Option]:
    """Return options as in a variable, without the program, and none if that would refuse them."""
    found = words(text)
    if found and os.path.basename(found[0]) == daemon.name:
        found = found[1:]
    return _parsed(daemon, found, place) or []


def words(text: str) -> list[str]:
    """Return the words of a command; none if a quote is not closed."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []


def _parsed(daemon: Daemon, arguments: Sequence[str], place: Place) -> list[Option] | None:
    try:
        found, rest = getopt.getopt(list(arguments), daemon.options)
    except getopt.GetoptError:
        return None
    if rest or any(name in daemon.no_daemon for name, _ in found):
        return None
    return [Option(name, value, place) for name, value in found]


def _arguments(daemon: Daemon, command: Sequence[str]) -> list[str] | None:
    """Return what follows the program in a command; None if it does not start it."""
    left = list(command)
    while left and _ASSIGNMENT.fullmatch(left[0]):
        left = left[1:]
    name = os.path.basename(left[0]) if left else ""
    if name == daemon.name:
        return left[1:]
    if name in _SHELLS:
        return next((found for word in left[1:] if (found := _of_script(daemon, word)) is not None), None)
    names = [os.path.basename(word) for word in left]
    if name in _LAUNCHERS:
        for number, each in enumerate(names[1:], 1):
            if each == daemon.name or each in _SHELLS:
                found = _arguments(daemon, left[number:])
                return found[1:] if found and found[0] == "--" else found
    return None


def _of_script(daemon: Daemon, text: str) -> list[str] | None:
    """Return the arguments in a script for sh(1) on one line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    try:
        for word in [*lexer, ";"]:
            if not _OPERATOR.fullmatch(word):
                command.append(word)
                continue
            found = _arguments(daemon, command)
            if found is not None:
                return found
            command = []
    except ValueError:  # no closing quote
        pass
    return None
