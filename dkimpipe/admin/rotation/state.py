"""The state that ``dkimpipe rotate`` keeps between runs: each key, its state, and since when.

It is stored as JSON, without secrets, in the directory of the keys. The senders file alone determines which
keys sign, so killed runs and manual edits do no harm.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkimpipe.address import is_domain
from dkimpipe.admin import atomic
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.errors import ConfigError, one_line

NAME = "rotation.json"
WAITING = ("generated", "published")
STATES = (*WAITING, "active", "retiring", "revoked")
_SIZES = {True: (2,), False: (0, 2)}  # of ``replaces``, for keys that wait to sign, and for others
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass
class Key:
    """A key and its state.

    ``selector``, ``keyfile``  as in s= and key= of the senders file
    ``names``      the names of its records
    ``state``      generated: not every server has its records yet; published: every server has; active: it
                   signs; retiring: it no longer signs, but its records are needed; revoked: they are gone
    ``since``      when it entered this state: seconds since 1970
    ``value``      the value of its records, empty until the key exists
    ``wait``       seconds that its records must be visible before it may sign: a resolver may cache their
                   absence, or others, for that long; revoked: a resolver may cache its records for that long
    ``replaces``   the pair that it replaces when it becomes active
    ``switching``  the replacement is in progress, one map after another
    ``zone``       the zone of its records, if the names of its records are aliases (CNAME) of names in it
    ``trial``      it signs, but is not final: receivers have yet to report its signatures as valid
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
    zone: str = ""
    trial: bool = False

    @property
    def pair(self) -> Pair:
        """Its selector and key file in the senders file."""
        return Pair(self.selector, self.keyfile)

    def enter(self, state: str, now: int) -> None:
        """Enter another state, or the same again."""
        self.trial = self.trial and state == self.state
        self.state, self.since, self.switching = state, now, False


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Exclude other runs. Raises ConfigError if one is in progress, OSError if there is no directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"{directory}: another run is in progress") from None
    finally:
        os.close(descriptor)


def load(directory: Path, maps: Iterable[str]) -> list[Key]:
    """Return the keys of the last run; none on the first run.

    Raises ConfigError if they cannot be read, or if they cover a map that is not among these: the keys of
    that map would seem to sign no longer.
    """
    path = directory / NAME
    try:
        saved = json.loads(path.read_bytes())
        keys = [_key(values) for values in saved["keys"]]
        missing = sorted(set(map(_string, saved["maps"])) - set(map(os.path.abspath, maps)))
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
    """Save the keys for the next run, atomically, if they are not saved already. Raises OSError."""
    values = [{**vars(key), "since": time.strftime(_TIME, time.gmtime(key.since))} for key in keys]
    for each in values:
        for name in ("zone", "trial"):
            if not each[name]:  # as in the files of earlier versions
                del each[name]
    saved = {"maps": list(map(os.path.abspath, maps)), "keys": values}
    path, status = directory / NAME, directory.stat()
    if not _has(path, saved):
        octets = json.dumps(saved, indent=2).encode() + b"\n"
        atomic.write(path, octets, 0o640, status.st_uid, status.st_gid)


def _has(path: Path, saved: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_bytes()) == saved)
    except (FileNotFoundError, ValueError):
        return False


def _key(values: dict[str, Any]) -> Key:
    """Return a key. Raises ValueError, KeyError or TypeError: the file may have been edited by hand."""
    key = Key(**values)
    for text in (key.selector, key.keyfile, key.value, key.zone, *key.names, *key.replaces):
        _string(text)
    if key.state not in STATES:
        raise ValueError(f"no such state: {key.state!r}")
    if not isinstance(key.names, list) or not all(is_domain(name.encode()) for name in key.names):
        raise ValueError(f"invalid names of records: {key.names!r}")
    if not isinstance(key.replaces, list) or len(key.replaces) not in _SIZES[key.state in WAITING]:
        raise ValueError(f"invalid 'replaces': {key.replaces!r}")
    if type(key.wait) is not int or key.wait < 0 or type(key.switching) is not bool:
        raise ValueError(f"invalid 'wait' or 'switching': {key.wait!r}, {key.switching!r}")
    if type(key.trial) is not bool or (key.trial and not key.replaces):
        raise ValueError(f"invalid 'trial': {key.trial!r}")
    if key.zone and not is_domain(key.zone.encode()):
        raise ValueError(f"invalid 'zone': {key.zone!r}")
    key.since = calendar.timegm(time.strptime(_string(key.since), _TIME))
    return key


def _string(value: object) -> str:
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError(f"not a string: {value!r}")
    return value
