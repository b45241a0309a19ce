"""The selector of a new key: a new one, made of year and month, or the next of the fixed ones.

A fixed selector is used again only when the key that had it is revoked, and no resolver can have its record
in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dkimpipe import publickey
from dkimpipe.admin import newkey
from dkimpipe.admin.rotation.records import KeyRecords
from dkimpipe.admin.rotation.state import Key
from dkimpipe.errors import ConfigError
from dkimpipe.files import exists

_MAX_NAMES = 20  # selectors or key files in one month


def new_key(old: Key, keys: Sequence[Key], records: KeyRecords, kind: str, now: int) -> Key:
    """Return the key that replaces an old one, under a new selector. Raises ConfigError.

    ``kind`` is the type of the key, rsa or ed25519.
    """
    names: list[str] = []
    for selector in _monthly(kind, now):
        path = newkey.key_path(Path(old.keyfile).parent, domain_of(old.names[0]), selector)
        names = names_of(selector, old)
        taken = {name for key in keys for name in key.names}
        if taken.intersection(names) or exists(str(path)) or records.taken(names):
            continue
        wait = records.cache_time(names, old.names)
        return Key(selector, str(path), names, "generated", now, "", wait, list(old.pair))
    raise ConfigError(f"{names[0]}: a key already exists", "check for a wildcard record in the zone")


def new_fixed_key(
    old: Key, keys: Sequence[Key], records: KeyRecords, selectors: Sequence[str], zone: str, now: int
) -> Key:
    """Return the key that replaces an old one, under the first fixed selector that is free.

    Raises ConfigError if none can become free, and NoneFree if one will.
    """
    reasons, is_final = [], True
    for selector in selectors:
        names = names_of(selector, old)
        users = [key for key in keys if set(key.names).intersection(names)]
        busy = [key for key in users if key.state != "revoked" or now - key.since <= key.wait]
        if busy:
            reasons.append(f"s={selector} is {busy[0].state} since {timestamp(busy[0].since)}")
            is_final = is_final and busy[0].state == "active"
            continue
        if place := records.taken(names, zone):
            reasons.append(f"s={selector} has a key at {place} that is not in rotation")
            continue
        wait = records.cache_time(names, old.names, zone)
        path = _new_file(old, selector, keys, now)
        return Key(selector, str(path), names, "generated", now, "", wait, list(old.pair), zone=zone)
    cause = f"{', '.join(old.names)}: no selector is free: {', '.join(reasons)}"
    if is_final:
        raise ConfigError(cause, "name one more selector, or delete records that no signature needs")
    raise NoneFree(cause)


class NoneFree(Exception):
    """Not an error: ``str()`` is why no selector is free yet."""


def _new_file(old: Key, selector: str, keys: Sequence[Key], now: int) -> Path:
    """Return a path for a key of a selector that has had others. Raises ConfigError."""
    month = time.strftime("%Y%m", time.gmtime(now))
    known = {key.keyfile for key in keys}
    for text in (month, *(f"{month}-{number}" for number in range(2, _MAX_NAMES))):
        path = newkey.key_path(Path(old.keyfile).parent, domain_of(old.names[0]), f"{selector}.{text}")
        if not exists(str(path)) and str(path) not in known:
            return path
    raise ConfigError(f"{path} already exists, and so do others", "remove the files of revoked keys")


def _monthly(kind: str, now: int) -> Iterator[str]:
    month = time.strftime("%Y%m", time.gmtime(now))
    yield month
    yield month + kind[0]
    yield from (f"{month}{kind[0]}{number}" for number in range(2, _MAX_NAMES))


def names_of(selector: str, old: Key) -> list[str]:
    """Return the names of the records of a selector, for all domains of another key."""
    return [publickey.record_name(selector, domain_of(name)) for name in old.names]


def domain_of(name: str) -> str:
    """Return the domain in the name of a record."""
    return name.partition("._domainkey.")[2]


def timestamp(seconds: int) -> str:
    """Return a time, in seconds since 1970, for output."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
