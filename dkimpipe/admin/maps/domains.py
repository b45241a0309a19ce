"""The domains that an entry with macros in key= signs for: those that have a key file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dkimpipe.files import open_directory
from dkimpipe.templates import Template

_ALIASES = {"key": "keydomain"}


class KeyFile(NamedTuple):
    """A file that fits a template, and the domains in its path: for ``keydomain`` and ``senderdomain``."""

    path: str
    domains: Mapping[str, str]


def key_files(template: Template) -> list[KeyFile]:
    """Return the files that fit a template, in order; also those whose domain is not valid.

    Raises ConfigError if there is no directory for them.
    """
    descriptor, _ = open_directory(f"{template.directory}/", "key directory")
    os.close(descriptor)
    return list(_below(template.directory, _components(template), {}))


def pattern(template: Template) -> str:
    """Return the path of a template with ``*`` for each domain."""
    return "*".join([text for _, text in template.path])


def _components(template: Template) -> list[list[tuple[str, str]]]:
    """Return the components of the path below the directory, each as its macros with the text after them."""
    components: list[list[tuple[str, str]]] = []
    below = [("", template.path[0][1][len(template.directory) :]), *template.path[1:]]
    for name, text in below:
        first, *more = text.split("/")
        if components:
            components[-1].append((_ALIASES.get(name, name), first))
        components += [[("", each)] for each in more]
    return components


def _below(
    directory: str, components: Sequence[list[tuple[str, str]]], known: Mapping[str, str]
) -> Iterator[KeyFile]:
    first, *rest = components
    expression = _expression(first, known)
    for name in _names(directory):
        match = expression.fullmatch(name)
        if not match:
            continue
        path, domains = f"{directory}/{name}", {**known, **match.groupdict()}
        if rest:
            yield from _below(path, rest, domains)
        else:
            yield KeyFile(path, domains)


def _names(directory: str) -> list[str]:
    """Return the names in a directory that are not hidden; none for what is not a directory."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []


def _expression(component: Sequence[tuple[str, str]], known: Mapping[str, str]) -> re.Pattern[str]:
    expression, seen = "", set()
    for name, text in component:
        if name in known:
            expression += re.escape(known[name])
        elif name:
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>.+)"
            seen.add(name)
        expression += re.escape(text)
    return re.compile(expression, re.DOTALL)
