"""All that can choose signatures with these settings: the entries of the maps, and their equivalents.

The filter itself looks up a single entry (``senders.lookup``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe import choose, senders
from dkimpipe.address import Mailbox
from dkimpipe.admin.maps.entries import BY_LIST, BY_NOTHING, BY_SENDER, Line, canonical, entries
from dkimpipe.admin.maps.expansion import expanded
from dkimpipe.config import CONF_FILE, Settings
from dkimpipe.errors import ConfigError, one_line
from dkimpipe.files import exists


def maps(settings: Settings) -> dict[str, str]:
    """Return the maps that the filter reads, in order, each with what chooses an entry in it.

    Raises ConfigError if the directory of the senders file cannot be read.
    """
    found = {}
    for path, by in named_maps(settings).items():
        found[path] = by
        found.update(dict.fromkeys(senders.more_maps(path) if by == BY_SENDER else (), by))
    return found


def named_maps(settings: Settings) -> dict[str, str]:
    """Return the same without those in the directory of the senders file."""
    paths = {choose.sender_map(settings): BY_SENDER, settings.get("listid_map"): BY_LIST}
    return {path: by for path, by in paths.items() if path}


def files(settings: Settings) -> str:
    """Return the names of the maps, or that of the conf file, to begin an error with."""
    names = []
    for path, by in named_maps(settings).items():
        directory = senders.directory_of(path)
        names += [path, *([directory] if by == BY_SENDER and exists(directory) else [])]
    return ", ".join(names) or settings.get("conf_file", CONF_FILE)


def lines(settings: Settings) -> list[Line]:
    """Return all that can choose signatures: the entries of the maps, and their equivalents.

    Raises ConfigError.
    """
    found: dict[tuple[str, bytes], Line] = {}
    for path, by in maps(settings).items():
        for line in _effective(path, by):
            found.setdefault((by, canonical(line.key)), line)
    return [*found.values(), *without_map(settings)]


def lines_by_domain(settings: Settings) -> list[Line]:
    """Return the same, and those whose key files depend on the sender also by domain (``expansion``)."""
    return expanded(lines(settings), settings)


def _effective(path: str, by: str = BY_SENDER) -> list[Line]:
    """Return the entries of a map that apply: of several with one key the last. Raises ConfigError."""
    return list({canonical(line.key): line for line in entries(path, by)}.values())


def without_map(settings: Settings) -> Iterator[Line]:
    """Yield the entries of ``domain`` and ``signature``, which apply to mail without an entry in a map.

    Raises ConfigError.
    """
    names = choose.domains(settings)
    for domain in dict.fromkeys(names):
        for text, place in choose.signatures_without_map(settings):
            by = BY_SENDER if len(names) > 1 else BY_NOTHING
            if domain or by == BY_NOTHING:
                key = domain.decode("utf-8", "surrogateescape")
                yield Line(place, key, ((0, text),), by)


def requested(settings: Settings, keys: Sequence[str]) -> dict[Line, bool]:
    """Return all that can choose signatures, and whether it is one of these keys.

    No keys mean all of them; a domain also means its patterns, and its part of an entry with macros in key=.
    Raises ConfigError for an unknown key.
    """
    found = lines_by_domain(settings)
    known = {name for line in found for name in _names(line)}
    wanted = {canonical(key): key for key in keys}
    for key, written in wanted.items():
        if key not in known:
            raise ConfigError(
                f"{files(settings)}: no entry for {one_line(written)}", _what_signs(settings, key)
            )
    return {line: not keys or not wanted.keys().isdisjoint(_names(line)) for line in found}


def _names(line: Line) -> set[bytes]:
    """Return what an entry can be asked for by: its key, for a pattern also its domain."""
    key = canonical(line.key)
    if line.only:
        return {key, line.only[0]}
    return {key, choose.domain_of_key(key)} if key.startswith(senders.AT_ANY) else {key}


def _what_signs(settings: Settings, key: bytes) -> str:
    local_part, _, domain = key.rpartition(b"@")
    path = choose.sender_map(settings)
    keys = choose.lookup_keys(Mailbox(local_part, domain))
    entry = senders.lookup_in_all(path, keys) if path else None
    return f"the entry that signs for it: {entry.key.decode('utf-8', 'replace')}" if entry else ""
