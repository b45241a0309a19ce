"""What ``dkimpipe rotate`` remembers from one run to the next: each key, its state, and since when.

It is kept in the directory of the keys, as JSON that people can read, and holds no secrets. Which keys sign
is not taken from it but from the senders file: a run that was killed, or an edit by hand, confuses nothing.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dkimpipe.address import is_domain
from dkimpipe.admin import atomic
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.errors import ConfigError, one_line

NAME = "rotation.json"
WAITING = ("generated", "published")
STATES = (*WAITING, "active", "retiring", "revoked")
_SIZES = {True: (2,), False: (0, 2)}  # of ``replaces``, for a key that waits
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class Key:
    """A key on its way through the states.

    ``selector``, ``keyfile``  as in s= and key= of the senders file
    ``names``      of its records
    ``state``      generated: its records are not at every server yet; published: they are; active: it signs;
                   retiring: it signs no more, but its records are still needed; revoked: they are gone
    ``since``      when it came into this state: seconds since 1970
    ``value``      what its records say, empty as long as there is no key
    ``wait``       seconds that its records must have been seen before it may sign: a resolver may remember
                   for so long that there was none
    ``replaces``   the pair whose place it takes when it becomes active
    ``switching``  it is being put there, in one map after the other
    """

    selector: str
    keyfile: str
    names: list[str]
    state: str
    since: int
    value: str = ""
    wait: int = 0
    replaces: list[str] = field(default_factory=list)
    switching: bool = False

    @property
    def pair(self) -> Pair:
        """What stands for it in the senders file."""
        return Pair(self.selector, self.keyfile)

    def become(self, state: str, now: int) -> None:
        """Take another state."""
        self.state, self.since, self.switching = state, now, False


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold off other runs. Raises ConfigError if there is one, OSError without the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"{directory}: another run is in progress") from None
    finally:
        os.close(descriptor)


def load(directory: Path, maps: Iterable[str]) -> list[Key]:
    """Return what the last run left; nothing at the first.

    Raises ConfigError if it cannot be read, and if it knows of a map that is not among these: the keys of
    that one would seem to sign no more.
    """
    path = directory / NAME
    try:
        kept = json.loads(path.read_bytes())
        keys = [_key(values) for values in kept["keys"]]
        missing = sorted(set(map(_text, kept["maps"])) - set(map(os.path.abspath, maps)))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "move it away: rotation starts over, and records of keys that were retiring stay in DNS"
        raise ConfigError(f"{path} is damaged: {one_line(str(error))}", hint) from None
    if missing:
        raise ConfigError(
            f"{path} also covers {', '.join(missing)}, which this run does not read",
            "use another --directory for other maps; remove a map that is no longer used from this file",
        )
    return keys


def save(directory: Path, keys: Iterable[Key], maps: Iterable[str]) -> None:
    """Keep this for the next run: all of it, or what was there before. Raises OSError."""
    values = [{**asdict(key), "since": time.strftime(_TIME, time.gmtime(key.since))} for key in keys]
    status = directory.stat()
    kept = {"maps": list(map(os.path.abspath, maps)), "keys": values}
    octets = json.dumps(kept, indent=2).encode() + b"\n"
    atomic.write(directory / NAME, octets, 0o640, status.st_uid, status.st_gid)


def _key(values: dict[str, Any]) -> Key:
    """Return a key. Raises ValueError, KeyError and TypeError: people may have edited it."""
    key = Key(**values)
    for text in (key.selector, key.keyfile, key.value, *key.names, *key.replaces):
        _text(text)
    if key.state not in STATES:
        raise ValueError(f"no such state: {key.state!r}")
    if not isinstance(key.names, list) or not all(is_domain(name.encode()) for name in key.names):
        raise ValueError(f"invalid names of records: {key.names!r}")
    if not isinstance(key.replaces, list) or len(key.replaces) not in _SIZES[key.state in WAITING]:
        raise ValueError(f"invalid 'replaces': {key.replaces!r}")
    if type(key.wait) is not int or key.wait < 0 or type(key.switching) is not bool:
        raise ValueError(f"invalid 'wait' or 'switching': {key.wait!r}, {key.switching!r}")
    key.since = calendar.timegm(time.strptime(_text(key.since), _TIME))
    return key


def _text(value: object) -> str:
    if not isinstance(value, str) or any(ord(character) < 32 for character in value):
        raise ValueError(f"not a string: {value!r}")
    return value
