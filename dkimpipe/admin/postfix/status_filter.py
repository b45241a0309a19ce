"""The status filter of a pipe service, ``pipe_delivery_status_filter``: it defers mail that would bounce.

It is a list of tables: the first that has the status decides. Ours is inline, or a file before Postfix 3.7.
"""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf

NAME = "pipe_delivery_status_filter"


class Rule(NamedTuple):
    """The line of a regexp table, and the name of its file before Postfix 3.7."""

    line: str
    file: str


# Failures that the filter cannot catch (no interpreter, time limit) are 5.3.x.
OURS = Rule(r"/^5(\.3\..*)/ 4$1", "dkimpipe-status.regexp")
# How sh(1) ends if it cannot find or run a program. Another filter chooses all other states itself.
OTHERS = Rule(r"/^5(\.3\.0 Command died with status 12[67]:.*)/ 4$1", "dkimpipe-not-found.regexp")
_NOT_FOUND = '5.3.0 Command died with status 127: "/bin/filter"'


def table(postconf: Postconf, rule: Rule) -> str:
    """Return the table with this rule."""
    if postconf.version >= (3, 7):
        return f"regexp:{{{{{_literal(rule.line)}}}}}"
    return f"regexp:{postconf.directory / rule.file}"


def file_changes(postconf: Postconf, rule: Rule) -> list[Change]:
    """Return the edit that writes the file of this rule; none if it is inline."""
    if postconf.version >= (3, 7):
        return []
    return [Change(FILE, f"{rule.file}={rule.line}", "a table for the next line")]


def answer(postconf: Postconf, service: str, status: str) -> str:
    """Return what the status filter of a service makes of a status; empty if it leaves it as it is."""
    found = (postconf.lookup(each, status) for each in postconf.words(NAME, service))
    return next(filter(None, found), "")


def defers_missing_programs(postconf: Postconf, service: str) -> bool:
    """Return whether mail is deferred where a script cannot find or run a program."""
    return answer(postconf, service, _NOT_FOUND).startswith("4.")


def with_missing_programs(postconf: Postconf, service: str) -> str:
    """Return the value that also defers mail where a script cannot find or run a program."""
    tables = [*map(_literal, postconf.words(NAME, service)), table(postconf, OTHERS)]
    return ", ".join(tables)


def _literal(text: str) -> str:
    """Return text as master.cf has it: a dollar sign begins the name of a parameter there."""
    return text.replace("$", "$$")
