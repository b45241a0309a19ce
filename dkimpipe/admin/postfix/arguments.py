"""The arguments of services in master.cf: options that Postfix's programs do not understand.

A value with a space needs braces, ``-o {name = a, b}``. Without them the rest of the value is an argument,
with which most programs do not start; postconf(1) shows the value without that rest, and no option after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.errors import ConfigError

# The programs of Postfix that master(8) runs.
DAEMONS = (
    *("anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local", "nqmgr"),
    *("oqmgr", "pickup", "pipe", "postlogd", "postscreen", "proxymap", "qmgr", "qmqpd", "scache", "showq"),
    *("smtp", "smtpd", "spawn", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual"),
)
_COMMANDS = ("pipe", "spawn")  # these take attributes after the options, and a command line
_ATTRIBUTE = re.compile(r"\{?\s*(argv|chroot|directory|eol|flags|null_sender|size|user)\s*=")
_IGNORING = ("lmtp", "smtp")  # these start nevertheless, without the options that follow
_FLAGS = re.compile(r"-[cdDlSuvVz]+")
_DASHES = ("-o", "\u2013o", "\u2014o")  # a word processor makes dashes of it
_SETTING = re.compile(r"\s*([\w.-]+)\s*=\s*(.*?)\s*", re.DOTALL)
_MEANT = re.compile(r"\s*([\w.-]+)(?:\s*[=:]\s*|\s+)(.*?)\s*", re.DOTALL)
_COMMENTS = ("#", "//")
_QUOTES = "\"'\u2018\u2019\u201c\u201d"
_UNCLOSED = re.compile(r"\s+-o\s+")  # postconf(1) adds the brace at the end


class Fault(NamedTuple):
    """A service whose arguments are wrong: why, and the edit that corrects them, if that is sure."""

    service: Service
    why: str
    change: Change | None


def options(service: Service) -> list[str]:
    """Return the arguments of a service as master(8) passes them, without those of a command to be run."""
    words = [_unbraced(word) for word in split(service.arguments)]
    if service.command in _COMMANDS:
        return words[: next((at for at, word in enumerate(words) if _ATTRIBUTE.match(word)), len(words))]
    return words


def faults(postconf: Postconf) -> list[Fault]:
    """Return the services with arguments that their programs do not understand, or ignore."""
    found = []
    for service in postconf.running(*DAEMONS):
        if why := _fault(service):
            arguments = _corrected(postconf, service)
            corrected = service._replace(arguments=arguments)
            is_sure = arguments and not _fault(corrected)
            change = Change("-M", f"{service.id}={corrected.line}", "") if is_sure else None
            found.append(Fault(service, why, change))
    return found


def findings(postconf: Postconf, found: list[Fault]) -> Iterator[Finding]:
    """Yield these faults, with the commands that correct them."""
    for service, why, change in found:
        hint = postconf.command(change) if change else "# write -o name=value, or -o {name = value}"
        yield Finding(f"{service.id}: {why}", hint)


def corrected(postconf: Postconf, found: list[Fault]) -> Postconf:
    """Return the configuration as it will be without these faults. Raises ConfigError."""
    return postconf.assuming([fault.change for fault in found if fault.change])


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError if a service does not start with its arguments: edits would end up among them."""
    for finding in findings(postconf, [each for each in faults(postconf) if "not start" in each.why]):
        raise ConfigError(finding.what, finding.hint)


def _fault(service: Service) -> str:
    """Return what is wrong with the arguments of a service; empty if nothing is."""
    left = iter(options(service))
    for word in left:
        if _FLAGS.fullmatch(word):
            continue
        if not word.startswith("-o"):
            effect = "ignores the options after" if service.command in _IGNORING else "does not start with"
            why = "a value that contains spaces needs braces, and each setting its own -o"
            if word.startswith(_COMMENTS):
                why = "a comment needs a line of its own"
            return f"{service.command}(8) {effect} the argument {word!r}: {why}"
        value = word[2:] or next(left, "")
        if "=" in value and value[0] in _QUOTES:
            effect = "ignores" if value[-1] in _QUOTES else "does not start with"
            return f"{service.command}(8) {effect} -o {value}: the quotes become part of the name"
        if _UNCLOSED.search(value):
            return (
                f"master(8) does not start with -o {{{_UNCLOSED.split(value)[0]}: it lacks the closing brace"
            )
        if not _SETTING.fullmatch(value):
            return (
                f"{service.command}(8) does not start with -o {value}: a setting needs a name and a value,"
                " name=value without spaces or in braces"
            )
    if stray := _stray(service):
        return (
            f"{service.command}(8) does not understand {stray!r} among its attributes: -o comes before them"
        )
    return ""


def _stray(service: Service) -> str:
    """Return the first word among the attributes of a service that is none; empty if all are."""
    if service.command not in _COMMANDS:
        return ""
    words = split(service.arguments.partition("argv=")[0])[len(options(service)) :]
    return next((word for word in words if not _ATTRIBUTE.match(word)), "")


def _corrected(postconf: Postconf, service: Service) -> str:
    """Return the arguments in the form that was meant; empty if that is not known."""
    flags: list[str] = []
    settings: list[list[str]] = []
    rest: list[str] = []
    words, is_comment = _closed(split(service.arguments)), False
    for at, word in enumerate(words):
        is_comment = (is_comment or word.startswith(_COMMENTS)) and word not in _DASHES
        if is_comment or word == "}":
            continue
        if service.command in _COMMANDS and _ATTRIBUTE.match(word):
            if word.startswith("argv="):
                rest += words[at:]
                break
            rest.append(word)
        elif word in _DASHES:
            settings.append([])
        elif word.startswith("-o"):
            settings.append([word[2:]])
        elif _FLAGS.fullmatch(word):
            flags.append(word)
        elif not settings or _begins(postconf, settings[-1], word):
            settings.append([word])
        else:
            settings[-1].append(word)
    found = [_option(" ".join(map(_unbraced, each))) for each in settings if each]
    names = [each.partition("=")[0].replace("{", "") for each in found]
    is_sure = all(found) and len(set(names)) == len(names)
    return " ".join([*flags, *found, *rest]) if is_sure else ""


def _begins(postconf: Postconf, before: list[str], word: str) -> bool:
    """Return whether a word after a complete setting is another one, which lacks its -o."""
    name, equals, _ = word.partition("=")
    is_complete = "=" in "".join(before) and not before[-1].endswith((",", "="))
    return bool(is_complete and equals and name in postconf.effective)


def _option(setting: str) -> str:
    """Return the option for ``name = value``, without spaces if that is the same; empty if it is none."""
    found = _MEANT.fullmatch(setting.strip(_QUOTES))
    if not found:
        return ""
    name, value = found[1], found[2].strip(_QUOTES)
    value = re.sub(r"(?<=[^\s{}]),\s+|\s+,\s*(?=[^\s{}])", ",", value)
    return f"-o {name}={value}" if len(split(value)) <= 1 else f"-o {{{name}={value}}}"


def _closed(words: list[str]) -> list[str]:
    """Return the words with an option in braces that others follow in these taken apart."""
    return [part for word in words for part in (_taken_apart(word) if word.startswith("{") else [word])]


def _taken_apart(word: str) -> list[str]:
    first, *others = _UNCLOSED.split(_unbraced(word))
    return [f"{{{first}}}", *(part for each in others for part in ("-o", *split(each)))] if others else [word]


def _unbraced(word: str) -> str:
    return word[1:-1].strip() if word.startswith("{") and word.endswith("}") else word
