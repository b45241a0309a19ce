"""Settings with which no program of Postfix starts, and those with which postconf(1) cannot be used.

postconf(1) prints most fatal errors without complaint. All other programs check them first, postmap(1)
included. An option ``-oname=value`` in master.cf is right for these programs, but postconf(1) also takes each
further ``o`` in it for an option: it shows other settings than apply, and writes them with the next edit.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

from dkimpipe.admin.postfix import remedies
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.syntax import parameters
from dkimpipe.errors import ConfigError

_DIRECTORIES = (
    "queue_directory",
    "daemon_directory",
    "command_directory",
    "meta_directory",
)
_JOINED = re.compile(r"(?<!\S)(-[cdDlSuVvz]*o)(\w+=)(\S*)")  # flags, the name of a setting, its value


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError if Postfix's programs do not start, with their message, or postconf(1) misreads."""
    message = postconf.failure_of("postmap", "-q", "x", "static:x")
    if message:
        known = {name: postconf.effective[name] for name in postconf.explicit if name in postconf.effective}
        default = parameters(postconf.run("-d", *known)) if known else {}
        # A message may name two, as of users and groups that must differ: the one with its default is right.
        known = dict(sorted(known.items(), key=lambda each: default.get(each[0]) == each[1]))
        hint = remedies.for_fatal_error(postconf.directory, message, postconf.defaults, known)
        raise ConfigError(f"no program of Postfix starts: {message}", hint)
    for parameter in _DIRECTORIES:
        path = postconf.value(parameter)
        if path and not os.path.isdir(path):
            hint = "# reinstall Postfix: it has lost a directory"
            if parameter in postconf.explicit:
                hint = postconf.setting_or_removal(parameter, "", "")
            what = f"Postfix does not start: {parameter} = {path}: there is no such directory"
            raise ConfigError(what, hint)
    _refuse_misread(postconf)


def _refuse_misread(postconf: Postconf) -> None:
    file = postconf.directory / "master.cf"
    found = [
        (line, flags, name)
        for line, flags, name, value in _joined(file.read_text(errors="replace"))
        if "o" in name + value
    ]
    if found:
        line, flags, name = found[0]
        edits = " ".join(f"-e '{line}s/{flags}{name}/{flags} {name}/'" for line, flags, name in found)
        raise ConfigError(
            f"{file}, line {line}: postconf(1) misreads {flags}{name}: -o needs a space after it",
            f"sed -i {edits} {shlex.quote(str(file))}",
        )


def _joined(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, flags, name and value of each option without a space after -o, but those of commands."""
    is_command = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        is_command = is_command and line[:1].isspace()
        options, argv, _ = ("", "", "") if is_command else line.partition("argv=")
        for found in _JOINED.finditer(options):
            yield number, found[1], found[2], found[3]
        is_command = is_command or bool(argv)
