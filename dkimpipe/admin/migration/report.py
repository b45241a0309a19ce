"""What an import would write, and what becomes of each setting, as lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.foreignfiles import without_keys
from dkimpipe.admin.migration.files import CONF, KEYS, SENDERS, Files
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign

_EFFECTS = (SAME, CHANGED, LOST)  # what needs attention comes last


def lines(made: Files, foreign: Foreign, directory: Path) -> Iterator[str]:
    """Yield the files, the keys and the remarks."""
    if made.keys:
        for name, text in ((SENDERS, made.senders), (CONF, made.conf)):
            yield f"### {directory / name}"
            yield from text.splitlines()
            yield ""
        for key in made.keys:
            yield f"key: {without_keys(key.source)} becomes {directory / KEYS / key.name}"
        yield ""
    remarks = [f"{each.effect}: {each.place}: {without_keys(each.text)}" for each in foreign.remarks]
    for effect in _EFFECTS:
        yield from dict.fromkeys(line for line in remarks if line.startswith(f"{effect}: "))
