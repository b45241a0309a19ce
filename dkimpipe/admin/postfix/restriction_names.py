"""Words in lists of restrictions that smtpd(8) does not know: it defers all mail that reaches them.

The words of its version are those in the program itself. Parameters name the classes of one's own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Postconf, list_command
from dkimpipe.admin.postfix.restriction_lists import is_list, split_restrictions, takes_argument
from dkimpipe.admin.postfix.syntax import split

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
    classes = postconf.words("smtpd_restriction_classes", service)
    unknown, lacking = _faults(postconf.words(parameter, service), classes, program)
    names = _names(program, classes)
    similar = {name: difflib.get_close_matches(name.lower(), names, 1, 0.75) for name in unknown}
    new = [(similar.get(word) or [word])[0] for word in words]
    hint = list_command(postconf, service, parameter, new) if new != words else ""
    for name in unknown:
        what = f"{place}: {name} is not a restriction of this Postfix: smtpd(8) defers mail that reaches it"
        yield Finding(what, hint if similar[name] else "")
    for name in lacking:
        kept = [word for word in words if word != name]
        hint = list_command(postconf, service, parameter, kept)
        effect = ""
        if not kept:
            hint, effect = postconf.removal(parameter, service), f" {postconf.without(parameter, service)}"
        what = f"{place}: {name} lacks its argument: smtpd(8) defers mail that reaches it"
        yield Finding(what, f"# add it, or leave the restriction out{effect}:\n{hint}")


def _faults(words: list[str], classes: list[str], program: bytes) -> tuple[list[str], list[str]]:
    """Return the names that smtpd(8) does not know, and those that lack their argument."""
    unknown: list[str] = []
    lacking, after_unknown = [], False
    for *_, name, argument in split_restrictions(words):
        if after_unknown and name not in classes and not _FORM.fullmatch(name.lower()):
            continue  # it may be the argument
        after_unknown = bool(name) and name not in classes and not _is_known(name.lower(), program)
        if takes_argument(name) and not argument:
            lacking.append(name)
        elif after_unknown:
            unknown.append(name)
    return unknown, lacking


def _is_known(name: str, program: bytes) -> bool:
    return bool(_FORM.fullmatch(name)) and f"{name}\0".encode() in program


def _names(program: bytes, classes: list[str]) -> list[str]:
    found = (name.decode() for name in _IN_PROGRAM.findall(program))
    return sorted({*found, *_SHORT, *classes})
