"""The milters in Postfix's configuration: find one by its address, and take it out of the lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.admin.postfix.postconf import Change, Postconf, list_command
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.errors import ConfigError

PARAMETERS = ("smtpd_milters", "non_smtpd_milters")
_MACRO = re.compile(r"\$(?:\((\w+)\)|\{(\w+)\}|(\w+))")
_ANY_MACRO = re.compile(r"\$[({]?(\w+)")
_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")
_MAX_DEPTH = 9  # of macros in macros


class Use(NamedTuple):
    """A word of a list that is, or stands for, one of the milters looked for.

    ``service``    of master.cf whose own list it is; empty for main.cf
    ``parameter``  the list
    """

    service: str
    parameter: str
    word: str

    @property
    def where(self) -> str:
        """The list, for messages."""
        return f"{self.service}/{self.parameter}" if self.service else self.parameter


def uses(postconf: Postconf, milters: Sequence[str]) -> list[Use]:
    """Return where these milters are used. Raises ConfigError if one cannot be taken out alone."""
    wanted = {spelling for milter in milters for each in _milters(postconf, milter) for spelling in each}
    found = []
    for service, parameter, value in _lists(postconf):
        for word in split(value, ","):
            if not set(PARAMETERS).isdisjoint(_ANY_MACRO.findall(word)):
                continue  # it follows the other list
            use = Use(service, parameter, word)
            if "$" in _MACRO.sub("", word):
                expanded = postconf.words(parameter, service)
                if any(not wanted.isdisjoint(each) for each in _all_milters(postconf, expanded)):
                    text = f"{use.where}: {word} has conditions, which cannot be edited"
                    raise ConfigError(text, _by_hand(postconf, use, wanted))
                continue
            are_wanted = [not wanted.isdisjoint(each) for each in _milters(postconf, word)]
            if any(are_wanted) and not all(are_wanted):
                text = f"{use.where}: {word} stands for several milters"
                raise ConfigError(text, _by_hand(postconf, use, wanted))
            found += [use] if any(are_wanted) else []
    return found


def _all_milters(postconf: Postconf, words: Sequence[str]) -> Iterator[set[tuple[str, str]]]:
    for word in words:
        yield from _milters(postconf, word)


def _by_hand(postconf: Postconf, use: Use, wanted: set[tuple[str, str]]) -> str:
    """Return the command that sets a list to the other milters, each written out."""
    words = postconf.words(use.parameter, use.service)
    left = [each for each in words if all(map(wanted.isdisjoint, _milters(postconf, each)))]
    return list_command(postconf, use.service, use.parameter, left) or "write the milters in its place"


def for_local_mail(postconf: Postconf, found: Sequence[Use]) -> bool:
    """Return whether one of these milters has mail from programs on this host: non_smtpd_milters."""
    lists = {parameter: value for service, parameter, value in _lists(postconf) if not service}
    follows = PARAMETERS[0] in _macros(lists.get(PARAMETERS[1], ""))
    return any(use.parameter == PARAMETERS[1] or (follows and not use.service) for use in found)


def without(postconf: Postconf, milters: Sequence[str]) -> list[Change]:
    """Return the edits that take these milters out of all lists. Raises ConfigError."""
    found = uses(postconf, milters)
    changes = []
    for service, parameter, value in _lists(postconf):
        gone = [use.word for use in found if (use.service, use.parameter) == (service, parameter)]
        if not gone:
            continue
        left = [word for word in split(value, ",") if word not in gone]
        why = f"the milter {', '.join(gone)} is replaced"
        if service and any(" " in word for word in left):  # -P accepts no spaces
            where = Use(service, parameter, "").where
            raise ConfigError(f"{where}: cannot edit {value}", "take the milter out by hand")
        if service:
            changes.append(Change("-P", f"{service}/{parameter}={','.join(left)}", why))
        else:
            changes.append(Change("-e", f"{parameter}={', '.join(left)}", why))
    return changes


def _lists(postconf: Postconf) -> Iterator[tuple[str, str, str]]:
    """Yield the lists that are set: service, parameter, value."""
    for parameter in PARAMETERS:
        if parameter in postconf.explicit:
            yield "", parameter, postconf.explicit[parameter]
    for service, overrides in postconf.overrides.items():
        for parameter in PARAMETERS:
            if parameter in overrides:
                yield service, parameter, overrides[parameter]


def _macros(word: str) -> list[str]:
    return [found[1] or found[2] or found[3] for found in _MACRO.finditer(word)]


def _milters(postconf: Postconf, word: str, depth: int = 0) -> Iterator[set[tuple[str, str]]]:
    """Yield the milters that a word of a list stands for, each as the set of addresses that it can mean."""
    if _macros(word):
        value = _MACRO.sub(lambda found: postconf.value(found[1] or found[2] or found[3]), word)
        for each in split(value, ",") if depth < _MAX_DEPTH else ():
            yield from _milters(postconf, each, depth + 1)
        return
    if word.startswith("{"):  # an address with settings of its own
        word = (split(word[1:-1], ",") or [""])[0]
    kind, _, rest = word.partition(":")
    if kind in ("unix", "local"):  # smtpd(8) may be confined to the queue directory
        queue = postconf.value("queue_directory")
        yield {("unix", os.path.realpath(os.path.join(queue, path))) for path in (rest, rest.lstrip("/"))}
    elif kind in ("inet", "inet6"):
        host, _, port = rest.rpartition(":")
        host = host.strip("[]").lower()
        yield {("localhost" if host in _LOOPBACK else host, port)}
