"""The overview as one HTML page: no script, nothing from elsewhere, charts in SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from dkimpipe.admin.invocation import runnable
from dkimpipe.admin.reports.analysis import DomainReport
from dkimpipe.admin.reports.concerns import number, shown
from dkimpipe.admin.reports.overview import Overview, day, percent
from dkimpipe.errors import one_line

_WIDTH, _HEIGHT, _GAP = 640, 120, 4  # of a chart, in its own units
_SOURCES = 50  # rows
_STYLE = """
:root { color-scheme: light dark; --good: #2a7d4f; --bad: #c0392b; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: left; }
td { overflow-wrap: anywhere; } th:last-child, td:last-child { padding-right: 0; }
figure { margin: 0 0 1rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: currentColor; font-size: 11px; }
.good { fill: var(--good); } .bad { fill: var(--bad); }
li { margin-bottom: .75rem; overflow-wrap: anywhere; } li.error { border-left: 4px solid var(--bad); }
ul { list-style: none; padding: 0; } li { padding-left: .75rem; border-left: 4px solid var(--line); }
.hint { color: color-mix(in srgb, currentColor 70%, transparent); white-space: pre-line; }
@media (max-width: 36rem) { svg text { font-size: 19px; } table { font-size: .875rem; } }
"""
_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>DKIM and DMARC reports</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>DKIM and DMARC, as receivers report it</h1>
"""


def page(overview: Overview) -> str:
    """Return the page."""
    return _HEAD + "\n".join(_body(overview)) + "\n</body>\n</html>\n"


def _text(text: str) -> str:
    """Return a text for people; what cannot be printed is shown, such as marks that reverse the rest."""
    return escape(one_line(text))


def _body(overview: Overview) -> Iterator[str]:
    if overview.end:
        yield f"<p>Mail of {day(overview.begin)} to {day(overview.end)}.</p>"
    else:
        yield f"<p>No reports since {day(overview.begin)}.</p>"
    if overview.findings:
        yield "<h2>What needs attention</h2>\n<ul>"
        for finding in shown(overview.findings):
            lines = "\n".join(map(_text, runnable(finding.hint).splitlines()))
            hint = f'<div class="hint">{lines}</div>' if lines else ""
            yield f'<li class="{_text(finding.level)}">{_text(finding.what)}{hint}</li>'
        yield "</ul>"
    for name, domain in overview.domains.items():
        yield f"<h2>{_text(name)}</h2>"
        yield from _domain(domain)
    if overview.tls:
        rows = [(each.domain, each.type, f"{each.successful:,}", f"{each.failed:,}") for each in overview.tls]
        yield "<h2>TLS</h2>"
        yield _table(("domain", "policy", "#sessions", "#failed"), rows)
    if overview.faults:
        yield "<h2>Not reports</h2>"
        yield _table(("from", "cause"), [tuple(fault) for fault in overview.faults[:_SOURCES]])
        if len(overview.faults) > _SOURCES:
            yield f"<p>and {len(overview.faults) - _SOURCES:,} more</p>"


def _domain(domain: DomainReport) -> Iterator[str]:
    policy = f" Policy: {_text(domain.policy)}." if domain.policy else ""
    yield (
        f"<p>{number(domain.total.messages, 'message')}; {percent(domain.total)} have a valid signature of"
        f" this domain.{policy}</p>"
    )
    yield _chart(domain)
    rows = [
        (selector or "not reported", receiver, f"{share.messages:,}", percent(share))
        for selector, receivers in sorted(domain.selectors.items())
        for receiver, share in sorted(receivers.items(), key=lambda item: -item[1].messages)
    ]
    yield _table(("selector", "receiver", "#messages", "#valid"), rows[:_SOURCES])
    if len(rows) > _SOURCES:
        yield f"<p>and {len(rows) - _SOURCES:,} more rows</p>"
    if domain.sources:
        sources = sorted(domain.sources.items(), key=lambda item: -item[1].messages)
        yield "<h3>Without a valid signature of this domain</h3>"
        yield _table(
            ("explanation", "source", "#messages"),
            [(kind, name, f"{source.messages:,}") for (kind, name), source in sources[:_SOURCES]],
        )
        if len(sources) > _SOURCES:
            yield f"<p>and {len(sources) - _SOURCES:,} more sources</p>"


def _chart(domain: DomainReport) -> str:
    """Return a bar for each week: below what passed, above the rest."""
    weeks = domain.by_week()
    most = max([share.messages for _, share in weeks] + [1])
    step = _WIDTH / max(len(weeks), 4)
    parts = []
    for place, (week, share) in enumerate(weeks):
        left = place * step
        passed = _HEIGHT * share.passed / most
        rest = _HEIGHT * (share.messages - share.passed) / most
        title = f"<title>week of {day(week)}: {share.messages:,} messages, {percent(share)}</title>"
        parts.append(f"<g>{title}{_bar('good', left, step, _HEIGHT - passed, passed)}")
        parts.append(f"{_bar('bad', left, step, _HEIGHT - passed - rest, rest)}</g>")
        if place % (1 + len(weeks) // 8) == 0:
            parts.append(f'<text x="{left:.1f}" y="{_HEIGHT + 18}">{day(week)[5:]}</text>')
    label = f"messages by week, at most {most:,}; green: with a valid signature"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT + 24}" role="img"'
        f' aria-label="{label}">{"".join(parts)}</svg><figcaption>{label}</figcaption></figure>'
    )


def _bar(name: str, left: float, step: float, top: float, height: float) -> str:
    if not height:
        return ""
    width = step - _GAP
    return f'<rect class="{name}" x="{left:.1f}" y="{top:.2f}" width="{width:.1f}" height="{height:.2f}"/>'


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table; a name that begins with # is that of a column of numbers."""
    marks = [' class="number"' if name.startswith("#") else "" for name in names]
    head = "".join(f"<th{mark}>{_text(name.lstrip('#'))}</th>" for name, mark in zip(names, marks))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{_text(text)}</td>" for text, mark in zip(row, marks)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'
