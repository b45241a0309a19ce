"""The milters in Postfix's configuration: find one by its address, and take it out of the lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.admin.postfix import hosts
from dkimpipe.admin.postfix.postconf import Change, Postconf, list_command
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.errors import ConfigError

PARAMETERS = ("smtpd_milters", "non_smtpd_milters")
_MACRO = re.compile(r"\$(?:\((\w+)\)|\{(\w+)\}|(\w+))")
_ANY_MACRO = re.compile(r"\$[({]?(\w+)")
_MAX_DEPTH = 9  # of macros in macros


class Use(NamedTuple):
    """A word of a list that is, or stands for, one of the milters looked for.

    ``service``    of master.cf whose own list it is; empty for main.cf
    ``parameter``  the list
    ``milters``    those looked for, without macros
    ``others``     what else the word stands for
    """

    service: str
    parameter: str
    word: str
    milters: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def where(self) -> str:
        """The list, for messages."""
        return f"{self.service}/{self.parameter}" if self.service else self.parameter


def uses(postconf: Postconf, milters: Sequence[str]) -> list[Use]:
    """Return where these milters are used. Raises ConfigError if one cannot be taken out alone."""
    wanted = _wanted(postconf, milters)

    def is_wanted(milter: str) -> bool:
        return not wanted.isdisjoint(_addresses(postconf, milter))

    found = []
    for service, parameter, value in _lists(postconf):
        for word in split(value, ","):
            if not set(PARAMETERS).isdisjoint(_ANY_MACRO.findall(word)):
                continue  # it follows the other list
            has_conditions = "$" in _MACRO.sub("", word)
            all_words = postconf.words(parameter, service) if has_conditions else _expanded(postconf, word)
            ours = tuple(filter(is_wanted, all_words))
            others = tuple(each for each in all_words if each not in ours)
            use = Use(service, parameter, word, ours, others)
            if ours and has_conditions:
                by_hand = list_command(postconf, service, parameter, others)
                text = f"{use.where}: {word} has conditions, which cannot be edited"
                raise ConfigError(text, by_hand)
            found += [use] if ours else []
    return found


def _wanted(postconf: Postconf, milters: Sequence[str]) -> set[tuple[str, str]]:
    """Return all addresses that these milters can mean."""
    words = [word for each in milters for word in _expanded(postconf, each)]
    return {address for word in words for address in _addresses(postconf, word)}


def for_local_mail(postconf: Postconf, found: Sequence[Use]) -> bool:
    """Return whether one of these milters has mail from programs on this host: non_smtpd_milters."""
    lists = {parameter: value for service, parameter, value in _lists(postconf) if not service}
    follows = PARAMETERS[0] in _macros(lists.get(PARAMETERS[1], ""))
    return any(use.parameter == PARAMETERS[1] or (follows and not use.service) for use in found)


def has(postconf: Postconf, service: str, parameter: str, milters: Sequence[str]) -> bool:
    """Return whether the list that applies to a service has one of these milters."""
    wanted = _wanted(postconf, milters)
    return any(
        not wanted.isdisjoint(_addresses(postconf, each)) for each in postconf.words(parameter, service)
    )


def addresses(postconf: Postconf) -> Iterator[tuple[str, str]]:
    """Yield each milter in all lists: the list, for messages, and the address."""
    for service, parameter, _ in _lists(postconf):
        for word in postconf.words(parameter, service):
            address = (split(word[1:-1], ",") or [""])[0] if word.startswith("{") else word
            yield Use(service, parameter, word, (), ()).where, address


def without(postconf: Postconf, milters: Sequence[str]) -> list[Change]:
    """Return the edits that take these milters out of all lists. Raises ConfigError."""
    found = uses(postconf, milters)
    changes = []
    for service, parameter, value in _lists(postconf):
        gone = {use.word: use for use in found if (use.service, use.parameter) == (service, parameter)}
        if not gone:
            continue
        left = [
            milter
            for word in split(value, ",")
            for milter in (gone[word].others if word in gone else (word,))
        ]
        why = f"the milter {', '.join(each for use in gone.values() for each in use.milters)} is replaced"
        if service and any(" " in word for word in left):  # -P accepts no spaces
            what = f"{service}/{parameter}: cannot edit {value}"
            raise ConfigError(what, "take the milter out by hand")
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


def _expanded(postconf: Postconf, word: str, depth: int = 0) -> list[str]:
    """Return the milters that a word of a list stands for, without macros."""
    if not _macros(word):
        return [word]
    value = _MACRO.sub(lambda found: postconf.value(found[1] or found[2] or found[3]), word)
    words = split(value, ",") if depth < _MAX_DEPTH else []
    return [milter for each in words for milter in _expanded(postconf, each, depth + 1)]


def _addresses(postconf: Postconf, milter: str) -> set[tuple[str, str]]:
    """Return the addresses that a milter, as in a list, can mean."""
    if milter.startswith("{"):  # an address with settings of its own
        milter = (split(milter[1:-1], ",") or [""])[0]
    kind, _, rest = milter.partition(":")
    if kind in ("unix", "local"):  # smtpd(8) may be confined to the queue directory
        queue = postconf.value("queue_directory")
        return {("unix", os.path.realpath(os.path.join(queue, path))) for path in (rest, rest.lstrip("/"))}
    if kind in ("inet", "inet6"):
        host, _, port = rest.rpartition(":")
        return {(meaning, port) for meaning in hosts.meanings(host)}
    return set()
