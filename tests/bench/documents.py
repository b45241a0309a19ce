"""The figures in README.md and tests/README.md: ``make bench`` writes them, and a test compares them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bars import BARS, DIMENSIONS, TABLES
from figures import Figures, value

PROJECT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("README.md", "tests/README.md")
_BEGIN, _END = "<!-- written by make bench -->\n", "<!-- up to here -->\n"
_BUSY = 0.1  # the share of other programs
_NAMES = ("dkimpipe", "OpenDKIM, milter", "", "DKIMproxy")
_VERIFIERS = ("dkimpipe verify", "OpenDKIM, milter", "", "DKIMproxy.in")
# The lines of README.md: how they begin, and what they show of which programs, by column.
_ROWS = (
    ("signed per second, 4 sessions", "postfix", "rate", _NAMES),
    ("verified per second, 4 sessions", "inbound", "rate", _VERIFIERS),
    ("one message alone, signed, ms", "postfix", "latency", _NAMES),
)


def update(figures: Figures, measured: Mapping[str, Any]) -> None:
    """Put the figures into the documents."""
    for name in DOCUMENTS:
        path = PROJECT / name
        path.write_text(with_figures(name, path.read_text(), figures, measured))


def with_figures(name: str, text: str, figures: Figures, measured: Mapping[str, Any]) -> str:
    """Return the text of a document with these figures. Raises ValueError if there is no place for them."""
    if name == "README.md":
        for row, part, unit, programs in _ROWS:
            cells = [row, *(_cell(figures, part, program, unit) for program in programs)]
            text = _replaced(rf"^\| {re.escape(row)} \|.*$", f"| {' | '.join(cells)} |", text)
        return _replaced(r"^Figures: [\s\S]*?`make\s+bench`\.$", _source(measured), text)
    section = _BEGIN + _section(figures, measured) + _END
    return _replaced(re.escape(_BEGIN) + r"[\s\S]*?" + re.escape(_END), section, text)


def _replaced(pattern: str, new: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"{len(found)} times in the document: {pattern}")
    return re.sub(pattern, lambda _: new, text, flags=re.MULTILINE)


def _cell(figures: Figures, part: str, program: str, unit: str) -> str:
    """Return the figure of a program, and a second one if mail can return to it by SMTP."""
    shown = [value(figures, part, name, unit) for name in (program, f"{program}, relay")]
    return " / ".join(f"{each:.0f}" for each in shown if each is not None) or "not measured"


def _source(measured: Mapping[str, Any]) -> str:
    cores = measured["machine"].partition(",")[0]
    return (
        f"Figures: 4 KB messages through Postfix, {cores}, {measured['date']}; of two figures the second is\n"
        "by SMTP (`--relay`); [measured](tests/README.md#cost-of-a-message) with `make bench`."
    )


def _section(figures: Figures, measured: Mapping[str, Any]) -> str:
    rounds = measured["rounds"]
    head = (
        f"Measured on {measured['date']} ({measured['machine']}):\n"
        f"medians of {rounds['message']} interleaved rounds, or {rounds['postfix']} through Postfix."
        f"{_warning(figures)}\n"
    )
    tables = [table.brief(figures) for table in TABLES if table.part in figures]
    dimensions = [dimension.text(figures) for dimension in DIMENSIONS if dimension.part in figures]
    bars = [bar for bar in BARS if bar.part in figures and bar.is_kept(figures) is not None]
    missed = [bar.text(figures) + "\n" for bar in bars if not bar.is_kept(figures)]
    kept = (
        f"{len(bars) - len(missed)} of {len(bars)} requirements are kept{', but not:' if missed else '.'}\n"
    )
    return "\n".join(["", head, *tables, *dimensions, kept, *filter(None, ["".join(missed)])]) + "\n"


def _warning(figures: Figures) -> str:
    """Return a sentence if other programs took much of the machine meanwhile, otherwise nothing."""
    loads = [
        median(series["others"])
        for part in figures.values()
        for series in part.values()
        if series.get("others")
    ]
    if max(loads, default=0) <= _BUSY:
        return ""
    return f"\nOther programs took up to {max(loads):.0%} of the machine meanwhile: rates cannot be compared."
