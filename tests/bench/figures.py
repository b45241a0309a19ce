"""Figures, the tables that show them, and the bars that they must keep."""

from __future__ import annotations

import json
import re
from statistics import median
from typing import NamedTuple

# part -> name -> unit -> one figure a round
Figures = dict[str, dict[str, dict[str, list[float]]]]

UNITS = {
    "cpu": ("CPU ms", 1000.0),
    "wall": ("wall ms", 1000.0),
    "memory": ("memory MiB", 1 / 1024),
    "instructions": ("instructions, millions", 1e-6),
    "rate": ("messages a second", 1.0),
    "latency": ("one alone, ms", 1000.0),
    "others": ("others' load, %", 100.0),
}


def as_json(figures: Figures) -> str:
    """Return all figures to six places, a line for each series."""
    rounded = {
        part: {
            name: {unit: [round(figure, 6) for figure in series] for unit, series in units.items()}
            for name, units in names.items()
        }
        for part, names in figures.items()
    }
    return re.sub(r"\n *([-\d\]])", r" \1", json.dumps(rounded, indent=1)) + "\n"


def ratio(figures: Figures, part: str, unit: str, name: str, other: str) -> float | None:
    """Return the median of the ratios of the rounds, None if one of both was not measured, or not of them."""
    if unit == "others":
        return None
    one, two = (figures[part].get(each, {}).get(unit, []) for each in (name, other))
    return median(a / b for a, b in zip(one, two)) if one and two else None


class Table(NamedTuple):
    """A table of one part: medians, ranges, and ratios to one of its lines."""

    part: str
    title: str
    units: tuple[str, ...]
    reference: str

    def text(self, figures: Figures) -> str:
        """Return it in Markdown."""
        units = [unit for unit in self.units if any(unit in each for each in figures[self.part].values())]
        heads = [self.title, *(head for unit in units for head in (UNITS[unit][0], "ratio"))]
        lines = [heads, ["---"] * len(heads)]
        for name, values in figures[self.part].items():
            cells = [name]
            for unit in units:
                cells += self._cells(figures, unit, name, values.get(unit, []))
            lines.append(cells)
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def _cells(self, figures: Figures, unit: str, name: str, values: list[float]) -> list[str]:
        if not values:
            return ["", ""]
        low, middle, high = (each(values) * UNITS[unit][1] for each in (min, median, max))
        against = ratio(figures, self.part, unit, name, self.reference)
        return [f"{middle:.1f} ({low:.1f} to {high:.1f})", f"{against:.2f}" if against else ""]


class Bar(NamedTuple):
    """What the ratio of two figures must be, or how near they must be to each other."""

    part: str
    unit: str
    name: str
    other: str
    at_most: float = 0
    at_least: float = 0
    within: float = 0

    def is_kept(self, figures: Figures) -> bool | None:
        """Tell whether it is kept, None if it was not measured."""
        if self.within:
            one, other = (figures[self.part].get(each, {}).get(self.unit) for each in (self.name, self.other))
            return median(one) - median(other) <= self.within if one and other else None
        against = ratio(figures, self.part, self.unit, self.name, self.other)
        if against is None:
            return None
        return against <= self.at_most if self.at_most else against >= self.at_least

    def text(self, figures: Figures) -> str:
        """Return it as a line: what is asked, what was measured."""
        against = ratio(figures, self.part, self.unit, self.name, self.other)
        wanted = (
            f"within {self.within / 1024:g} MiB"
            if self.within
            else f"at most {self.at_most:g}"
            if self.at_most
            else f"at least {self.at_least:g}"
        )
        word = {True: "kept", False: "NOT KEPT", None: "not measured"}[self.is_kept(figures)]
        measured = f"{against:.2f}, " if against else ""
        return f"- {self.unit} of {self.name} / {self.other}: {measured}{wanted}: {word}"
