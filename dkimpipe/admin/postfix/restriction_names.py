"""Words in lists of restrictions that smtpd(8) does not know: it defers all mail that reaches them.

The words of its version are those in the program itself. Parameters name the classes of one's own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf, list_command, split
from dkimpipe.admin.postfix.restrictions import is_list, split_restrictions, takes_argument

_FORM = re.compile(r"(permit|reject|defer|check|warn_if|sleep)\w*")
_IN_PROGRAM = re.compile(rb"\0((?:permit|reject|defer|check|warn_if|sleep)[a-z0-9_]*)(?=\0)")
_SHORT = ("permit", "reject", "defer")  # the linker stores them as the ends of longer words


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the words that are no restrictions, and the restrictions that lack their argument."""
    try:
        program = Path(postconf.value("daemon_directory"), "smtpd").read_bytes()
    except OSError:
        return
    for service, settings in {"": postconf.explicit, **postconf.overrides}.items():
        for parameter in settings:
            if is_list(postconf, parameter):
                yield from _of_list(postconf, service, parameter, program)


def _of_list(postconf: Postconf, service: str, parameter: str, program: bytes) -> Iterator[Finding]:
    place = f"{service}/{parameter}" if service else parameter
    words = split((postconf.overrides[service] if service else postconf.explicit)[parameter], ",")
    restrictions = list(split_restrictions(postconf.words(parameter, service)))
    classes = postconf.words("smtpd_restriction_classes", service)
    unknown = ""
    for *_, name, argument in restrictions:
        new: list[str] = []
        if unknown and not _FORM.fullmatch(name.lower()) and name not in classes:
            continue  # it may be the argument
        unknown = ""
        if takes_argument(name) and not argument:
            what = f"{place}: {name} lacks its argument"
            hint = "# add it, or leave the restriction out:\n"
            new = [word for word in words if word != name]
        elif name and name not in classes and not _is_known(name.lower(), program):
            unknown = name
            what, hint = f"{place}: {name} is not a restriction of this Postfix", ""
            close = difflib.get_close_matches(name.lower(), _names(program, classes), 1, 0.75)
            new = [close[0] if word == name else word for word in words] if close else []
        else:
            continue
        command = list_command(postconf, service, parameter, new) if new and new != words else ""
        if hint and not new:
            command = postconf.command(Change("-PX" if service else "-X", place, ""))
        yield Finding(f"{what}: smtpd(8) defers mail that reaches it", (hint + command) * bool(command))


def _is_known(name: str, program: bytes) -> bool:
    return bool(_FORM.fullmatch(name)) and f"{name}\0".encode() in program


def _names(program: bytes, classes: list[str]) -> list[str]:
    found = (name.decode() for name in _IN_PROGRAM.findall(program))
    return sorted({*found, *_SHORT, *classes})
