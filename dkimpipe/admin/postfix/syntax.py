"""The syntax of main.cf and master.cf: lists, names with values, tables."""

from __future__ import annotations

import functools


def split(text: str, separators: str = "") -> list[str]:
    """Return the words, separated by white space and separators except within braces."""
    return list(_words(text, separators))


@functools.lru_cache(maxsize=4096)  # a check asks for the same lists again and again
def _words(text: str, separators: str) -> tuple[str, ...]:
    words, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if (letter.isspace() or letter in separators) and depth <= 0:
            words.append("")
        else:
            words[-1] += letter
    return tuple(filter(None, words))


def parameters(text: str) -> dict[str, str]:
    """Return what ``name = value`` on each line says."""
    lines = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def real_table(table: str) -> str:
    """Return the table that proxymap(8) opens for others."""
    while table.startswith("proxy:"):
        table = table[len("proxy:") :]
    return table
