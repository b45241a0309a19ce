"""How OpenDKIM is started on this host, as far as that matters to a configuration that is imported."""

from __future__ import annotations

from pathlib import Path

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.opendkim.commandline import Command
from dkimpipe.admin.opendkim.conf import Conf
from dkimpipe.admin.opendkim.started import Started


def remark(started: Started, conf: Conf, foreign: Foreign) -> None:
    """Remark whether OpenDKIM is started with a configuration, and what else it is started with."""
    if not started.commands:
        return
    command = started.command(conf.path)
    if not command:
        first = started.commands[0]
        text = f"OpenDKIM is started with {_name(started, first)}, not with this file: {first.place}"
        foreign.remark(conf.place, CHANGED, text)
        return
    for option in command.values(command.daemon.conf)[-1:]:
        foreign.remark(option.place, SAME, f"{option.name}: OpenDKIM is started with {conf.path}")
    for option in command.without_effect:
        foreign.remark(option.place, SAME, f"{option.name}: for tests only")
    _remark_others(started, command, foreign)
    _remark_unused(started, command, foreign)


def _remark_others(started: Started, command: Command, foreign: Foreign) -> None:
    """Remark what else signs."""
    for other in started.commands:
        if started.signs(other) and _effect(started, other) != _effect(started, command):
            text = (
                f"another OpenDKIM is started with {_name(started, other)}: what that signs is not imported"
            )
            foreign.remark(other.place, LOST, f"{text}; import it with --output, and merge the files")


def _remark_unused(started: Started, command: Command, foreign: Foreign) -> None:
    """Remark what a script would sign, if units did not start OpenDKIM."""
    used = [(each.name, each.value) for one in started.commands for each in one.signing]
    for setting in (each for script in started.unused for each in script.signing):
        if (setting.name, setting.value) not in used:
            text = f"{setting.name} {setting.value}: not in use: {command.place} starts OpenDKIM"
            foreign.remark(setting.place, SAME, text)


def _effect(started: Started, command: Command) -> tuple[Path | None, dict[str, str]]:
    return started.conf_of(command), {each.name: each.value for each in command.signing}


def _name(started: Started, command: Command) -> str:
    """Return the conf file and the options that replace its lines, for messages."""
    path = started.conf_of(command)
    options = [f"{each.name} {each.value}" for each in command.signing]
    return " and ".join(filter(None, [str(path) if path else "", ", ".join(options)]))
