"""The figures as a picture: bars for what is compared, and lines for what a message costs as things grow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from figures import UNITS, Dimension, Figures, value

_ROW, _LEFT, _WIDTH = 22, 200, 400
_BARS = (
    ("message", "cpu", "Signing one small message: CPU ms"),
    ("verify", "cpu", "Verifying one small message: CPU ms"),
    ("postfix", "rate", "Signing, through Postfix: messages a second"),
    ("inbound", "rate", "Verifying, through Postfix: messages a second"),
    ("postfix", "latency", "Signing, through Postfix: one message alone, ms"),
    ("inbound", "latency", "Verifying, through Postfix: one message alone, ms"),
)
_OURS, _OTHERS = ("#2a7", "#26b", "#83a", "#b60"), "#999"
_NOT_OURS = ("dkimsign", "openssl dgst and cat", "no filter")  # of the lines
_PANEL = (350, 258)  # width and height of a plot with its texts
_PLOT = (280, 150)
_LEFT_OF_PLOT, _TOP_OF_PLOT = 48, 26
_STEPS = [digit * 10.0**exponent for exponent in range(-3, 7) for digit in (1, 2, 5)]
_MOST_STEPS = 7
_LETTER = 7  # width of a letter of a label, with room to spare


def of(figures: Figures, dimensions: Iterable[Dimension]) -> str:
    """Return an SVG picture of what was measured."""
    rows: list[str] = []
    at = 4
    for part, unit, title in _BARS:
        values = {name: value(figures, part, name, unit) for name in figures.get(part, {})}
        known = {name: each for name, each in values.items() if each}
        if known:
            rows += _bars(title, known, at)
            at += (len(known) + 1) * _ROW + _ROW // 2
    panels = [each for each in dimensions if any(each.line(figures, series) for series in each.series)]
    for number, dimension in enumerate(panels):
        left, top = number % 2 * _PANEL[0], at + number // 2 * _PANEL[1]
        rows += [f'<g transform="translate({left} {top})">', *_Panel(figures, dimension).rows(), "</g>"]
    height = at + (len(panels) + 1) // 2 * _PANEL[1]
    width = 2 * _PANEL[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    background = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', background, *rows, "</svg>", ""])


def _bars(title: str, values: dict[str, float], at: int) -> list[str]:
    rows = [f'<text x="4" y="{at + 16}" font-weight="bold">{escape(title)}</text>']
    for number, (name, each) in enumerate(values.items(), 1):
        top = at + number * _ROW
        length = each / max(values.values()) * _WIDTH
        colour = _OURS[0] if name.startswith("dkimpipe") else _OTHERS
        rows += [
            f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top + 3}" width="{length:.1f}" height="{_ROW - 6}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{top + 15}">{each:.1f}</text>',
        ]
    return rows


class _Panel:
    """A dimension in a plot with both axes logarithmic: what grows as the work does has a slope of one."""

    def __init__(self, figures: Figures, dimension: Dimension) -> None:
        self._dimension = dimension
        found = {series: dimension.line(figures, series) for series in dimension.series}
        self._lines = {series: line for series, line in found.items() if line}
        values = [each for line in self._lines.values() for each in line.values()]
        self._low = max(step for step in _STEPS if step <= min(values))
        self._high = max(min(step for step in _STEPS if step >= max(values)), 10 * self._low)

    def rows(self) -> list[str]:
        """Return the elements of the picture."""
        title = f"{self._dimension.title}: {UNITS[self._dimension.unit][0]}"
        rows = [f'<text x="4" y="14" font-weight="bold">{escape(title)}</text>', *self._axes()]
        ours = iter(_OURS)
        for number, series in enumerate(self._lines):
            is_other = series in _NOT_OURS
            dashes = ' stroke-dasharray="4 3"' if is_other and number % 2 else ""
            colour = _OTHERS if is_other else next(ours)
            rows += self._line(series, number, f'stroke="{colour}" stroke-width="2"{dashes}', colour)
        return rows

    def _x(self, point: int) -> float:
        first, *_, last = self._dimension.points
        return _LEFT_OF_PLOT + math.log(point / first) / math.log(last / first) * _PLOT[0]

    def _y(self, each: float) -> float:
        return _TOP_OF_PLOT + (1 - math.log(each / self._low) / math.log(self._high / self._low)) * _PLOT[1]

    def _axes(self) -> list[str]:
        steps = [step for step in _STEPS if self._low <= step <= self._high]
        if len(steps) > _MOST_STEPS:
            steps = [step for step in steps if f"{step:g}".strip("0.") == "1"]
        rows = []
        for step in steps:
            at = self._y(step)
            rows.append(f'<path d="M{_LEFT_OF_PLOT} {at:.1f}h{_PLOT[0]}" stroke="#ddd"/>')
            rows.append(f'<text x="{_LEFT_OF_PLOT - 5}" y="{at + 4:.1f}" text-anchor="end">{step:,g}</text>')
        room = math.inf  # to the left of the label before
        for point in reversed(self._dimension.points):
            if self._x(point) < room:
                place = f'x="{self._x(point):.1f}" y="{_TOP_OF_PLOT + _PLOT[1] + 16}"'
                label = self._dimension.tick(point)
                rows.append(f'<text {place} text-anchor="middle" font-size="10">{label}</text>')
                room = self._x(point) - _LETTER * len(label)
        return rows

    def _line(self, series: str, number: int, stroke: str, colour: str) -> list[str]:
        corners = [(self._x(point), self._y(each)) for point, each in self._lines[series].items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        key_x = _LEFT_OF_PLOT + number % 2 * 140
        key_y = _TOP_OF_PLOT + _PLOT[1] + 34 + number // 2 * 16
        return [
            f'<polyline points="{path}" fill="none" {stroke}/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in corners),
            f'<path d="M{key_x} {key_y - 4}h16" {stroke}/>',
            f'<text x="{key_x + 20}" y="{key_y}" font-size="11">{escape(series)}</text>',
        ]
