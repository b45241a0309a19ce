"""What smtp_header_checks and its relatives change after signing, read in their tables.

Many of them remove fields that are not signed, for privacy: these are to stay.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.maps import configured
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.redirects import rules
from dkimpipe.admin.postfix.syntax import real_table
from dkimpipe.errors import Trouble
from dkimpipe.options import ALWAYS, AS_IT_OCCURS, RECOMMENDED

MAIN = "smtp_header_checks"
MIME = "smtp_mime_header_checks"
WHOLE = ("smtp_nested_header_checks", "smtp_body_checks")  # each line that they see is in the body
_PATTERNS = ("regexp", "pcre")
_SIGNATURES = (b"dkim-signature", b"domainkey-signature")
_MIME_FIELDS = ("content-", "mime-version")  # by their beginnings: mime_header_checks sees no others
_RULE = re.compile(
    r"(?P<not>!?)/(?P<pattern>(?:\\.|[^/\\])*)/(?P<flags>\w*)\s+(?P<action>\w+)\s*(?P<text>.*)"
)
_IF = re.compile(r"if\s+(?P<not>!?)/(?P<pattern>(?:\\.|[^/\\])*)/(?P<flags>\w*)\s*$", re.IGNORECASE)
_REMOVING = ("IGNORE", "STRIP", "REPLACE")
_ADDING = ("REPLACE", "PREPEND")
_FLAGS = re.compile(r"[imsIMS]*")  # that do not change what a pattern begins with
_GROUP = re.compile(r"\^?\((?:\?:)?\^?([\w|:-]+)\)(?![?*{])")
_NAME = re.compile(r"([A-Za-z0-9-]+):")


class Rule(NamedTuple):
    """A rule of a table that changes mail, or may.

    ``lines``     first and last in the file; 0 in main.cf
    ``names``     how the fields that it matches begin, in lower case, with the colon if that is all of the
                  name; an empty one for any field
    ``text``      as written
    """

    lines: tuple[int, int]
    names: tuple[str, ...]
    action: str
    new: str
    text: str


class Verdict(NamedTuple):
    """What a parameter does: ``error``, ``warning``, or nothing; why; and the fix, empty for its removal."""

    level: str
    why: str
    hint: str = ""


def verdict(postconf: Postconf, parameter: str, place: str) -> Verdict | None:
    """Return what the tables of a parameter do to mail that was signed; None if they cannot be read."""
    found: list[tuple[str, Rule]] = []
    for table in postconf.words(parameter, place):
        known = _rules(real_table(table))
        if known is None:
            return None
        found += [(real_table(table), rule) for rule in known]
    signed = _signed(postconf) if parameter == MAIN else {}
    bad: list[tuple[str, Rule]] = []
    is_unsure = False
    for table, rule in found:
        breaks = _breaks(rule, signed) if parameter == MAIN else _changes_body(rule, parameter)
        if breaks:
            bad.append((table, rule))
        is_unsure = is_unsure or breaks is None
    if bad:
        shown = "; ".join(dict.fromkeys(rule.text for _, rule in bad))
        hint = "" if len(bad) == len(found) else _without(bad)
        return Verdict("error", f"changes mail after it was signed: {shown}", hint)
    return Verdict("warning", "may change what is signed") if is_unsure else Verdict("", "")


def _signed(postconf: Postconf) -> dict[str, int]:
    """Return the fields that are signed, by default or by an entry: names in lower case, and how often."""
    names = dict(RECOMMENDED)
    service = filter_service.find(postconf)
    try:
        settings = filter_service.settings_of(service, SIGN) if service else None
        for *_, use in outcomes(configured.lines_by_domain(settings), settings) if settings else ():
            if isinstance(use, Use):
                names.update(dict.fromkeys(map(bytes.lower, use.options.headers), ALWAYS))
                names.update(use.options.fields)
    except Trouble:  # the test run reports it
        pass
    names.update(dict.fromkeys(_SIGNATURES, AS_IT_OCCURS))
    return {name.decode("ascii", "replace"): how for name, how in names.items()}


def _breaks(rule: Rule, signed: dict[str, int]) -> bool | None:
    """Return whether a rule for header fields changes one that is signed; None if that is not known."""
    changed = _matches(rule, signed) if rule.action in _REMOVING else False
    if changed or rule.action not in _ADDING:
        return changed
    added = _NAME.match(rule.new)
    how = signed.get(added[1].lower()) if added else AS_IT_OCCURS
    if how is None:
        return changed
    return True if how != AS_IT_OCCURS else None


def _matches(rule: Rule, signed: dict[str, int]) -> bool | None:
    may_match = [[name for name in signed if f"{name}:".startswith(each)] for each in rule.names]
    if any(each.endswith(":") and names for each, names in zip(rule.names, may_match)):
        return True
    return None if any(may_match) else False


def _changes_body(rule: Rule, parameter: str) -> bool | None:
    """Return whether a rule changes a line of the body; None if that is not known."""
    if parameter in WHOLE:
        return True
    if "" in rule.names:
        return None
    return any(
        each.startswith(begin) or begin.startswith(each) for each in rule.names for begin in _MIME_FIELDS
    )


def _rules(table: str) -> list[Rule] | None:
    """Return the rules of a table that change something; None if it cannot be read."""
    kind, _, rest = table.partition(":")
    if kind == "static":
        return list(_changing((0, 0), ("",), rest.strip("{} "), table))
    if kind not in _PATTERNS:
        return None
    if rest.startswith("{"):
        lines = [((0, 0), rule) for rule in rules(rest)]
    else:
        try:
            lines = list(_logical_lines(Path(rest).read_text(errors="replace")))
        except OSError:
            return None
    found: list[Rule] = []
    outer: list[tuple[str, ...]] = []
    for span, text in lines:
        if condition := _IF.match(text):
            outer.append(_names(condition))
        elif text.lower().startswith("endif"):
            del outer[-1:]
        elif rule := _RULE.match(text):
            names = next((each for each in (_names(rule), *reversed(outer)) if "" not in each), ("",))
            found += _changing(span, names, f"{rule['action']} {rule['text']}", text)
        else:
            return None
    return found


def _changing(span: tuple[int, int], names: tuple[str, ...], result: str, text: str) -> Iterator[Rule]:
    action, _, new = result.partition(" ")
    if action.upper() in {*_REMOVING, *_ADDING}:
        yield Rule(span, names, action.upper(), new.strip(), text)


def _names(found: re.Match[str]) -> tuple[str, ...]:
    """Return how the fields begin that a pattern matches; an empty beginning if that is not known."""
    pattern = found["pattern"]
    if found["not"] or not _FLAGS.fullmatch(found["flags"]):
        return ("",)
    if (group := _GROUP.match(pattern)) and "^" in pattern[: group.start(1)]:
        after = _literal(pattern[group.end() :])
        return tuple(each if ":" in each else each + after for each in map(str.lower, group[1].split("|")))
    if not pattern.startswith("^") or "|" in pattern:
        return ("",)
    return (_literal(pattern[1:]),)


def _literal(pattern: str) -> str:
    """Return the literal beginning of a pattern, up to the colon."""
    plain = re.match(r"[A-Za-z0-9-]*:?", pattern.replace("\\-", "-"))
    literal = plain[0] if plain else ""
    rest = pattern.replace("\\-", "-")[len(literal) :]
    return (literal[:-1] if rest[:1] in ("?", "*", "{") and rest else literal).lower()


def _logical_lines(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield the lines of a table with those that continue them, and the numbers of first and last."""
    current: list[str] = []
    begin = end = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and current:
            current.append(line.strip())
            end = number
            continue
        if current:
            yield (begin, end), " ".join(current)
        current, begin, end = [line.strip()], number, number
    if current:
        yield (begin, end), " ".join(current)


def _without(bad: list[tuple[str, Rule]]) -> str:
    """Return how only these rules are taken out of their tables."""
    commands = ["# the rest of the table is kept:"]
    for table in dict.fromkeys(table for table, _ in bad):
        spans = [rule.lines for each, rule in bad if each == table]
        if (0, 0) in spans:
            return f"# remove only {'; '.join(rule.text for _, rule in bad)}"
        edit = ";".join(f"{begin},{end}s/^/# /" for begin, end in spans)
        commands.append(shlex.join(["sed", "-i", edit, table.partition(":")[2]]))
    return "\n".join(commands)
