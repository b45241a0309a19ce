"""The findings of a check, and their output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from dkimpipe.errors import Trouble, one_line

ERRORS_FOUND = 78  # sysexits(3): EX_CONFIG


class Finding(NamedTuple):
    """One problem.

    ``what``   the place and the problem, one line
    ``hint``   the fix, on lines of its own, or empty
    ``level``  error or warning; a warning may be intended
    """

    what: str
    hint: str = ""
    level: str = "error"


def tell(findings: Sequence[Finding], good: str, as_json: bool = False) -> int:
    """Print the findings, or ``good`` if there are none; return 0, or 78 if there are errors."""
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        _print(findings, good)
    return ERRORS_FOUND if any(finding.level == "error" for finding in findings) else 0


def error_lines(trouble: Trouble) -> list[str]:
    """Return an error and its hints, one on a line, as lines that are safe on a terminal."""
    hints = (f"hint: {hint}" for hint in trouble.hint.splitlines())
    return [one_line(line) for line in (f"dkimpipe: {trouble}", *hints)]


def _print(findings: Sequence[Finding], good: str) -> None:
    for finding in findings:
        print(f"dkimpipe: {finding.level}: {one_line(finding.what)}")
        for line in finding.hint.splitlines():
            print(f"    {one_line(line)}")
    if not findings:
        print(f"dkimpipe: {good}")
