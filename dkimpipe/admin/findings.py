"""The findings of a check, and how they are printed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from dkimpipe.admin.invocation import runnable
from dkimpipe.errors import Trouble, one_line

NOTE = "note"
_BLOCKED = re.compile(
    r"namei -l .* shows what blocks user .*"
)  # of the filter's code, which is not to be root
# The programs of hints; a line that begins otherwise, or leaves a name open, is advice for people.
_PROGRAMS = (
    *("dkimpipe", "sudo", "postconf", "postfix", "postmap", "postalias", "postqueue", "postsuper", "ss"),
    *("chgrp", "chmod", "chown", "cp", "df", "echo", "install", "ls", "mv", "printf", "rm", "sed", "setfacl"),
    *("groupadd", "useradd", "usermod", "systemctl", "alternatives", "update-alternatives"),
    *("apk", "apt", "apt-get", "dnf", "microdnf", "pacman", "yum", "zypper", "pip"),
    *("ausearch", "chcon", "restorecon", "semanage", "semodule", "setsebool"),
)
_COMMAND = re.compile(rf"(?!.*\bNEWFILE\b)(?:{'|'.join(_PROGRAMS)}|/\S+) ")
ERRORS_FOUND = 78  # sysexits(3): EX_CONFIG


class Finding(NamedTuple):
    """One problem.

    ``what``   the place and the problem, on one line
    ``hint``   the fix, on one or more lines, each a command or advice; empty if there is none
    ``level``  error; warning for what may be intended; note for what is intended
    """

    what: str
    hint: str = ""
    level: str = "error"

    def as_dict(self) -> dict[str, str]:
        """Return its fields by name; the hint runs in sh(1): what is not a command is a comment."""
        return {**self._asdict(), "hint": runnable(self.script)}

    @property
    def script(self) -> str:
        """The hint with advice as comments."""
        return "\n".join(map(_commented, _for_this_user(self.hint).splitlines()))


def print_findings(findings: Sequence[Finding], success: str, as_json: bool = False) -> int:
    """Print the findings, or ``success`` if there are none. Return 0, or 78 if there are errors."""
    if as_json:
        print(json.dumps([each.as_dict() for each in findings], indent=2))
    else:
        _print(findings, success)
    return ERRORS_FOUND if any(finding.level == "error" for finding in findings) else 0


def error_lines(trouble: Trouble) -> list[str]:
    """Return an error and its hints as lines that are safe to print on a terminal."""
    return [one_line(f"dkimpipe: {trouble}"), *hint_lines(trouble.hint)]


def hint_lines(hint: str) -> list[str]:
    """Return a hint as lines that are safe to print on a terminal, with commands that run when pasted."""
    return [one_line(f"hint: {line}") for line in runnable(_for_this_user(hint)).splitlines()]


def _for_this_user(hint: str) -> str:
    """Return a hint for who runs this: what a user must not read is for root to look at."""
    return "run it as root" if os.geteuid() != 0 and _BLOCKED.fullmatch(hint) else hint


def _commented(line: str) -> str:
    return line if line.startswith("# ") or _COMMAND.match(line) else f"# {line}"


def _print(findings: Sequence[Finding], success: str) -> None:
    notes = [finding for finding in findings if finding.level == NOTE]
    others = [finding for finding in findings if finding.level != NOTE]
    if not others:
        print(f"dkimpipe: {success}")
    for finding in (*others, *notes):
        print(f"dkimpipe: {finding.level}: {one_line(finding.what)}")
        print(*(f"{line}\n" for line in hint_lines(finding.script)), sep="", end="")
