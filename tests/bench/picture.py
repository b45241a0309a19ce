"""The figures as bars: CPU time of one small message, and messages a second through Postfix."""

from __future__ import annotations

from html import escape
from statistics import median

from figures import Figures

_ROW, _LEFT, _WIDTH = 22, 190, 420
_SHOWN = (
    ("message", "cpu", "one small message, CPU ms", 1000.0),
    ("postfix", "rate", "messages a second", 1.0),
)


def of(figures: Figures) -> str:
    """Return an SVG picture of what was measured."""
    rows: list[str] = []
    at = 0
    for part, unit, title, scale in _SHOWN:
        values = {
            name: median(units[unit]) * scale
            for name, units in figures.get(part, {}).items()
            if units.get(unit)
        }
        if not values:
            continue
        rows.append(f'<text x="0" y="{at + 16}" font-weight="bold">{escape(title)}</text>')
        at += _ROW
        for name, value in values.items():
            length = value / max(values.values()) * _WIDTH
            colour = "#2a7" if name.startswith("dkimpipe") else "#999"
            rows += [
                f'<text x="{_LEFT - 8}" y="{at + 15}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{_LEFT}" y="{at + 3}" width="{length:.1f}" height="{_ROW - 6}" fill="{colour}"/>',
                f'<text x="{_LEFT + length + 6:.1f}" y="{at + 15}">{value:.1f}</text>',
            ]
            at += _ROW
        at += _ROW // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 60}" height="{at}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', *rows, "</svg>", ""])
