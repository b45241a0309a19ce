"""opendkim.conf(5) and opendmarc.conf(5): lines of a name and a value. ``#`` ends a line anywhere; nothing is
quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.foreignfiles import lines
from dkimpipe.errors import ConfigError, shown
from dkimpipe.files import Place

_MAX_LEVEL = 5  # of files included by others: MAXLEVEL in opendkim/config.c
_YES = tuple("tTyY1")


class Setting(NamedTuple):
    """One line: the name as written, the value without surrounding white space, and its place."""

    name: str
    value: str
    place: Place

    @property
    def yes(self) -> bool:
        """The value of a Boolean: only its first letter is looked at."""
        return self.value.startswith(_YES)


class Conf:
    """A configuration: of several lines with one name the last applies, and the others are ``replaced``."""

    def __init__(
        self,
        path: Path | None,
        options: Sequence[Setting] = (),
        root: Path = Path("/"),
        *,
        as_far_as_possible: bool = False,
    ) -> None:
        """Read a file, if there is one, and those that it includes, below the root of a system.

        ``options``  of the command line, which replace lines of the file

        Raises ConfigError if the program would not start with it, unless it is to be read as far as possible.
        """
        self.path = path
        self.options = options
        self.settings: dict[str, Setting] = {}
        self.replaced: list[tuple[Setting, Setting]] = []
        self._root = root
        try:
            if path:
                self._read(self._below(path), 0)
        except ConfigError:
            if not as_far_as_possible:
                raise
        for setting in options:
            self._set(setting)

    def _below(self, path: Path) -> Path:
        return self._root / path.relative_to("/") if path.is_absolute() else path

    def _read(self, path: Path, level: int) -> None:
        if level > _MAX_LEVEL:
            raise ConfigError(f"{path}: more than {_MAX_LEVEL} levels of Include")
        for number, line in lines(path):
            words = line.partition("#")[0].partition("\r")[0].split(None, 1)
            if not words:
                continue
            place = Place(str(path), number)
            if len(words) == 1:
                raise ConfigError(f"{place}: {shown(words[0])} has no value: OpenDKIM does not start")
            setting = Setting(words[0], words[1].strip(), place)
            if setting.name.lower() == "include":
                self._read(self._below(Path("/", setting.value)), level + 1)  # it runs in the root directory
            else:
                self._set(setting)

    def _set(self, setting: Setting) -> None:
        earlier = self.settings.pop(setting.name.lower(), None)
        self.replaced += [(earlier, setting)] if earlier else []
        self.settings[setting.name.lower()] = setting

    def get(self, name: str) -> Setting | None:
        """Return a setting by its name in any case; None if it is not set."""
        return self.settings.get(name.lower())

    def yes(self, name: str) -> bool:
        """Return the value of a Boolean, whose default is no."""
        setting = self.get(name)
        return bool(setting and setting.yes)

    @property
    def place(self) -> Place:
        """The place of what the file leaves out; without a file, that of the command line."""
        if self.path is None and self.options:
            return self.options[0].place
        return Place(str(self.path))
