"""Figures, the tables that show them, and the bars that they must keep."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

Series = dict[str, list[float]]  # unit -> one figure a round
Figures = dict[str, dict[str, Series]]  # part -> name -> series

UNITS = {
    "cpu": ("CPU ms", 1000.0),
    "wall": ("wall ms", 1000.0),
    "memory": ("memory MiB", 1 / 1024),
    "instructions": ("instructions, millions", 1e-6),
    "rate": ("messages a second", 1.0),
    "latency": ("one alone, ms", 1000.0),
    "others": ("others' load, %", 100.0),
}


def rounded(figures: Figures) -> Figures:
    """Return all figures to six places, as they are written: medians of others could differ."""
    return {
        part: {
            name: {unit: [round(figure, 6) for figure in series] for unit, series in units.items()}
            for name, units in names.items()
        }
        for part, names in figures.items()
    }


def as_json(figures: Figures, measured: Mapping[str, object]) -> str:
    """Return figures, a line for each series, and where and when they were measured."""
    text = json.dumps({"measured": measured, "figures": figures}, indent=1)
    return re.sub(r"\n *([-\d\]])", r" \1", text) + "\n"


def value(figures: Figures, part: str, name: str, unit: str) -> float | None:
    """Return a median in the unit that people read, None if it was not measured."""
    series = figures.get(part, {}).get(name, {}).get(unit)
    return median(series) * UNITS[unit][1] if series else None


def ratio(figures: Figures, part: str, unit: str, name: str, other: str) -> float | None:
    """Return the median of the ratios of the rounds, None if one of both was not measured, or not of them."""
    if unit == "others":
        return None
    one, two = (figures[part].get(each, {}).get(unit, []) for each in (name, other))
    return median(a / b for a, b in zip(one, two)) if one and two else None


def markdown(rows: list[list[str]]) -> str:
    """Return a table: its head, and its lines."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


class Table(NamedTuple):
    """A table of one part: medians, ranges, and ratios to one of its lines."""

    part: str
    title: str
    units: tuple[str, ...]
    reference: str

    def text(self, figures: Figures) -> str:
        """Return it in Markdown."""
        units = [unit for unit in self.units if any(unit in each for each in figures[self.part].values())]
        rows = [[self.title, *(head for unit in units for head in (UNITS[unit][0], "ratio"))]]
        for name, values in figures[self.part].items():
            cells = [name]
            for unit in units:
                cells += self._cells(figures, unit, name, values.get(unit, []))
            rows.append(cells)
        return markdown(rows)

    def _cells(self, figures: Figures, unit: str, name: str, values: list[float]) -> list[str]:
        if not values:
            return ["", ""]
        low, middle, high = (each(values) * UNITS[unit][1] for each in (min, median, max))
        against = ratio(figures, self.part, unit, name, self.reference)
        return [f"{middle:.1f} ({low:.1f} to {high:.1f})", f"{against:.2f}" if against else ""]

    def brief(self, figures: Figures) -> str:
        """Return it without ranges, and with the ratio of its first unit only."""
        first, *others = [unit for unit in self.units if unit in ("cpu", "rate", "latency")]
        rows = [[self.title, UNITS[first][0], "ratio", *(UNITS[unit][0] for unit in others)]]
        for name in figures[self.part]:
            against = ratio(figures, self.part, first, name, self.reference)
            cells = [value(figures, self.part, name, unit) for unit in (first, *others)]
            texts = ["" if each is None else f"{each:.1f}" for each in cells]
            rows.append([name, texts[0], f"{against:.2f}" if against else "", *texts[1:]])
        return markdown(rows)


class Dimension(NamedTuple):
    """Something that grows: its points, each with its label, and what is measured at each of them."""

    part: str
    title: str
    unit: str
    points: dict[int, str]
    series: tuple[str, ...]

    def name(self, series: str, point: int) -> str:
        """Return the name of the figures of a point."""
        return f"{series}, {self.points[point]}"

    def tick(self, point: int) -> str:
        """Return the label of a point on an axis: a size with its unit, otherwise the number."""
        return self.points[point] if self.points[point].endswith("B") else f"{point:,}"

    def line(self, figures: Figures, series: str, unit: str = "") -> dict[int, float]:
        """Return the medians of a series by point, where it was measured."""
        medians = {
            point: value(figures, self.part, self.name(series, point), unit or self.unit)
            for point in self.points
        }
        return {point: each for point, each in medians.items() if each is not None}

    def text(self, figures: Figures) -> str:
        """Return a table in Markdown: medians, a column for each point."""
        lines = {series: self.line(figures, series) for series in self.series}
        points = [point for point in self.points if any(point in line for line in lines.values())]
        rows = [[f"{self.title}: {UNITS[self.unit][0]}", *(self.points[point] for point in points)]]
        for series, line in filter(lambda item: item[1], lines.items()):
            rows.append([series, *(f"{line[point]:.1f}" if point in line else "" for point in points)])
        return markdown(rows)


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
        measured = f"{against:.2f}, " if against else ""
        return f"- {self.unit} of {self.name} / {self.other}: {measured}{wanted}: {_word(self, figures)}"


class Growth(NamedTuple):
    """The cost must grow no faster than the work.

    ``points``   three of the dimension; from the second to the third a unit of work must not cost more than
                 ``at_most`` times what it cost from the first to the second
    """

    dimension: Dimension
    series: str
    points: tuple[int, int, int]
    at_most: float

    @property
    def part(self) -> str:
        """The part that has its figures."""
        return self.dimension.part

    def _measured(self, figures: Figures) -> float | None:
        line = self.dimension.line(figures, self.series)
        if not line.keys() >= set(self.points):
            return None
        first, second, third = self.points
        # A difference of less than a twentieth is noise: what is level is not to be compared with nothing.
        before = max(line[second] - line[first], line[first] / 20) / (second - first)
        return (line[third] - line[second]) / (third - second) / before

    def is_kept(self, figures: Figures) -> bool | None:
        """Tell whether it is kept, None if it was not measured."""
        measured = self._measured(figures)
        return None if measured is None else measured <= self.at_most

    def text(self, figures: Figures) -> str:
        """Return it as a line: what is asked, what was measured."""
        measured = self._measured(figures)
        labels = [self.dimension.points[point] for point in self.points]
        what = f"{self.dimension.unit} of {self.series} for more work"
        span = f"{labels[1]} to {labels[2]} / {labels[0]} to {labels[1]}"
        shown = "" if measured is None else f"{measured:.2f}, "
        return f"- {what}, {span}: {shown}at most {self.at_most:g}: {_word(self, figures)}"


def _word(bar: Bar | Growth, figures: Figures) -> str:
    return {True: "kept", False: "NOT KEPT", None: "not measured"}[bar.is_kept(figures)]
