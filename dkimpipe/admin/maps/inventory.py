"""The files that the filter reads, and those that it would read if they were there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from dkimpipe import choose, mapindex, senders
from dkimpipe.admin.maps import configured
from dkimpipe.admin.maps.expansion import templates
from dkimpipe.admin.maps.outcomes import outcomes
from dkimpipe.admin.maps.samples import samples
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.files import exists
from dkimpipe.options import complete, macros


def files(settings: Settings, keyfiles: Iterable[str]) -> list[str]:
    """Return what the filter reads with these settings: conf file, maps with their indexes, and keys.

    A file that does not exist is among them if the filter would read it: conf file, index, another map.
    """
    found = [settings.get("conf_file", settings.conf_file)]
    try:
        maps = list(configured.maps(settings))
    except ConfigError:  # reported when they are read
        maps = []
    for path in maps:
        index = mapindex.path_of(path)
        is_long = os.path.isfile(path) and os.path.getsize(path) >= senders.LONG_MAP
        found += [path, index] if is_long or exists(index) else [path]
    more = senders.directory_of(choose.sender_map(settings))
    if os.path.isdir(more):
        found.append(f"{more}/NEW.conf")
    return [*found, *_template_directories(settings), *keyfiles]


def _template_directories(settings: Settings) -> Iterator[str]:
    """Yield the directories of the keys that macros choose: there may be none yet."""
    with contextlib.suppress(ConfigError):  # reported when they are read
        for line in configured.lines(settings):
            for template in templates(line, settings):
                if os.path.isdir(template.directory):
                    yield template.directory


def keyfiles(settings: Settings) -> list[str]:
    """Return the key files that the entries name, unread; those with an error are left out."""
    found: dict[str, None] = {}
    with contextlib.suppress(ConfigError):
        for line, signature, _ in outcomes(configured.lines(settings), settings):
            with contextlib.suppress(ConfigError, NotSigned):
                if signature:
                    sender, domain = samples(line)[0]
                    found.setdefault(complete(signature, settings, macros(sender, domain)).keyfile)
    return list(found)
