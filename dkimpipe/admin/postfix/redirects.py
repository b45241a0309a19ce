"""FILTER in access tables: it passes mail of our own to another filter, and overrides content_filter.

A table of senders has keys by sender, so it is looked up for the domains and addresses that have a key. What
a table may have for certain recipients, clients or HELO names is read in its text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import configured, entries
from dkimpipe.admin.postfix import filter_service, networks, other_filters, sources
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.restriction_lists import LISTS, is_list, split_restrictions
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table, split
from dkimpipe.errors import Trouble

_CLIENT = "198.41.0.4"  # far from all of mynetworks
_FILTER = re.compile(r"(!?/(?:\\.|[^/\\])*/\w*|\S+)\s+FILTER\s+([^\s:{}]+:[^\s{}]*)", re.IGNORECASE)
_ACTION = re.compile(r"(!?/(?:\\.|[^/\\])*/\w*|\S+)\s+(\S.*)")
_INLINE = re.compile(r"\{([^{}]+)\}")
_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_FILES = {"hash": "postmap", "btree": "postmap", "lmdb": "postmap", "cdb": "postmap"}
_COMBINED = ("pipemap", "unionmap")
ANYTHING = "anything"
_AS_TEXT = ("texthash", "cidr", "regexp", "pcre")
_SENDER = "check_sender_access"
_PERMITS = ("permit", "permit_sasl_authenticated")  # what follows does not concern users
_ENDS = (*_PERMITS, "reject", "defer")
_MANY = 50  # domains that are looked up
_ANYONE = "someone@"  # of a domain
_STRANGER = f"{_ANYONE}sender.invalid"  # in no table by name


class Redirect(NamedTuple):
    """A line of an access table with FILTER: the list, the restriction, the table, the key and the filter."""

    place: str
    check: str
    table: str
    key: str
    content_filter: str


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the tables that pass mail from users, or from mynetworks, to another filter."""
    senders = senders_of(postconf)
    found: dict[tuple[str, str, str], Finding] = {}
    for service in sources.submission_services(postconf):
        lines = list(_lines(postconf, service))
        certain = _certain(postconf, service, senders)
        for content_filter, whose in certain.items():
            what = f"{service.id}: a table has FILTER {content_filter}, so mail from {whose} is not signed"
            fix = hint(content_filter, [each for each in lines if each.content_filter == content_filter])
            found[service.id, content_filter, ""] = Finding(what, fix)
        for line in lines:
            if line.content_filter not in certain and may_match(line, senders):
                what = (
                    f"{line.place}: {line.table}: mail that matches {line.key} goes to {line.content_filter}"
                )
                key = line.table, line.key, line.content_filter
                found[key] = Finding(
                    f"{what}, and is not signed", hint(line.content_filter, [line]), "warning"
                )
    yield from found.values()


def _certain(postconf: Postconf, service: Service, senders: list[str]) -> dict[str, str]:
    """Return the filters that mail from users gets for sure, and from whom: of certain senders, or all."""
    found: dict[str, list[str]] = {}
    for sender in (_STRANGER, *senders):
        content_filter = networks.filter_for(postconf, service, _CLIENT, True, sender) or ""
        if content_filter and not is_signed(postconf, content_filter):
            whose = "users" if sender == _STRANGER else sender.removeprefix(_ANYONE)
            found.setdefault(content_filter, []).append(whose)
    return {each: "users" if "users" in whose else ", ".join(whose) for each, whose in found.items()}


def senders_of(postconf: Postconf) -> list[str]:
    """Return addresses for which the filter signs: one of each domain, and those with a key of their own."""
    service = filter_service.find(postconf)
    try:
        lines = configured.lines(filter_service.settings_of(service, SIGN)) if service else []
    except Trouble:  # the test run reports it
        return []
    keys = (entries.canonical(line.key).decode(errors="replace") for line in lines if line.key.strip("."))
    return [key if "@" in key else f"{_ANYONE}{key}" for key in dict.fromkeys(keys)][:_MANY]


def is_signed(postconf: Postconf, content_filter: str) -> bool:
    """Return whether a filter is ours, signs as well, or is one from which mail comes back to ours."""
    transport = content_filter.partition(":")[0]
    if transport == filter_service.name(postconf):
        return True
    first = sources.before_another_filter(postconf, SIGN)
    known = [postconf.value("content_filter", each.id) for each in first]
    return content_filter in known or other_filters.signs(postconf.services.get(f"{transport}/unix"))


def _lines(postconf: Postconf, service: Service) -> Iterator[Redirect]:
    """Yield the lines with FILTER in all tables that smtpd(8) may look up for a user of a service."""
    classes = postconf.words("smtpd_restriction_classes", service.id)
    lists = [f"smtpd_{stage}_restrictions" for stage in LISTS]
    for parameter in [*lists, *classes]:
        if not is_list(postconf, parameter):
            continue
        stage = parameter.partition("_")[2].rpartition("_")[0]
        own = parameter in postconf.overrides.get(service.id, {})
        place = f"{service.id}/{parameter}" if own else parameter
        for *_, name, argument in split_restrictions(postconf.words(parameter, service.id)):
            check = name.lower() or LISTS.get(stage, "")
            if check in _ENDS:
                break
            is_broken = real_table(argument) in postconf.broken_tables  # that is reported instead
            for key, content_filter in () if is_broken else redirecting(argument):
                if not is_signed(postconf, content_filter):
                    yield Redirect(place, check, argument, key, content_filter)


def redirecting(table: str) -> Iterator[tuple[str, str]]:
    """Yield the keys in the text of a table that have FILTER, each with the filter."""
    for text in lines_of(table) or ():
        if found := _FILTER.match(text.strip()):
            yield found[1].strip(), found[2]


def actions(table: str) -> list[tuple[str, str]] | None:
    """Return the keys in the text of a table, each with its action; None if it has no text."""
    lines = lines_of(table)
    found = (_ACTION.match(line.strip()) for line in lines or ())
    return None if lines is None else [(each[1], each[2]) for each in found if each]


def lines_of(table: str) -> list[str] | None:
    """Return the lines in the text of a table, ``KEY ACTION``; None if it has no text."""
    kind, _, rest = real_table(table).partition(":")
    if kind in _COMBINED:
        parts = [lines_of(each) for each in split(rest.strip()[1:-1], ",")]
        return None if None in parts else [line for part in parts for line in part or ()]
    if kind == "static":
        return [f"{ANYTHING} {rest.strip('{} ')}"]
    if rest.startswith("{"):
        if kind != "inline":
            return rules(rest)
        texts = (each.strip("{} ") for each in split(rest.strip()[1:-1], ","))
        return [text.replace("=", " ", 1) for text in texts]
    return _logical_lines(rest) if kind in (*_FILES, *_AS_TEXT) and Path(rest).exists() else None


def rules(text: str) -> list[str]:
    """Return the rules of a table that is written in line, in braces."""
    return [rule.strip() for rule in _INLINE.findall(text)]


def _logical_lines(path: str) -> list[str]:
    text = "\n".join(
        line for line in _physical_lines(path) if line.strip() and not line.lstrip().startswith("#")
    )
    return re.sub(r"\n\s+", " ", text).split("\n")


def _physical_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def may_match(line: Redirect, senders: list[str]) -> bool:
    """Return whether a line may match mail that is signed: of senders, only those that have a key."""
    if line.check != _SENDER or not senders:
        return line.check != _SENDER
    kind, key = real_table(line.table).partition(":")[0], line.key.lower()
    named = _DOMAIN.findall(key.replace("\\", ""))
    if key == "<>" or not named:
        return key != "<>"
    domains = [sender.rpartition("@")[2] for sender in senders]
    if kind not in ("regexp", "pcre") and "@" in key and key in senders:
        return True
    return any(
        name == domain or name.endswith(f".{domain}") or domain.endswith(f".{name}")
        for name in named
        for domain in domains
    )


def hint(content_filter: str, lines: list[Redirect]) -> str:
    """Return how this mail is signed: where it comes back, or without the lines of the table."""
    back, commands = _back(content_filter), []
    for table in dict.fromkeys(real_table(line.table) for line in lines):
        kind, _, path = table.partition(":")
        if path.startswith("{") or kind == "static" or _is_continued(path, content_filter):
            return f"{back}, or remove FILTER in {table}"
        pattern = re.sub(r"([.\[\]*^$\\|])", r"\\\1", content_filter)
        edit = shlex.join(["sed", "-i", rf"\|FILTER[[:space:]]*{pattern}|Is/^/# /", path])
        commands.append(f"{edit} && postmap {table}" if kind in _FILES else edit)
    if not commands:
        return f"remove it, or {back}"
    return "\n".join([remark(content_filter), *commands])


def remark(content_filter: str) -> str:
    """Return what is better than to remove a line with FILTER, as a comment."""
    return f"# {_back(content_filter)}, or, which switches {content_filter} off for it:"


def _back(content_filter: str) -> str:
    return f"sign it where it comes back from {content_filter}"


def _is_continued(path: str, content_filter: str) -> bool:
    """Return whether a filter is in a line that continues another one, which would be left without action."""
    lines = _physical_lines(path)
    return any(line[:1].isspace() and content_filter in line for line in lines)
