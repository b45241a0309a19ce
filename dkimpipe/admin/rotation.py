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

from dkimpipe.admin import atomic
from dkimpipe.admin.mapedit import Pair
from dkimpipe.errors import ConfigError

NAME = "rotation.json"
STATES = ("generated", "published", "active", "retiring", "revoked")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class Key:
    """A key on its way through the states.

    ``selector``, ``keyfile``  as in s= and key= of the senders file
    ``names``     of its records
    ``state``     generated: its records are not at every server yet; published: they are; active: it signs;
                  retiring: it signs no more, but its records are still needed; revoked: they are gone
    ``since``     when it came into this state: seconds since 1970
    ``value``     what its records say, empty as long as there is no key
    ``wait``      seconds that its records must have been seen before it may sign: a resolver may remember for
                  so long that there was none
    ``replaces``  the pair whose place it takes when it becomes active
    """

    selector: str
    keyfile: str
    names: list[str]
    state: str
    since: int
    value: str = ""
    wait: int = 0
    replaces: list[str] = field(default_factory=list)

    @property
    def pair(self) -> Pair:
        """What stands for it in the senders file."""
        return Pair(self.selector, self.keyfile)

    def become(self, state: str, now: int) -> None:
        """Take another state."""
        self.state, self.since = state, now


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold off other runs. Raises ConfigError if there is one, OSError without the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"{directory}: another run is at work") from None
    finally:
        os.close(descriptor)


def load(directory: Path) -> list[Key]:
    """Return what the last run left; nothing at the first. Raises ConfigError if it cannot be read."""
    path = directory / NAME
    try:
        return [_key(values) for values in json.loads(path.read_bytes())["keys"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        mend = "move it away: rotation begins anew, and records of keys that were retiring stay in DNS"
        raise ConfigError(f"{path} is damaged: {error}", mend) from None


def save(directory: Path, keys: Iterable[Key]) -> None:
    """Keep this for the next run: all of it, or what was there before. Raises OSError."""
    values = [{**asdict(key), "since": time.strftime(_TIME, time.gmtime(key.since))} for key in keys]
    status = directory.stat()
    octets = json.dumps({"keys": values}, indent=2).encode() + b"\n"
    atomic.write(directory / NAME, octets, 0o640, status.st_uid, status.st_gid)


def _key(values: dict[str, object]) -> Key:
    key = Key(**values)  # type: ignore[arg-type]
    if key.state not in STATES:
        raise ValueError(f"no such state: {key.state}")
    key.since = calendar.timegm(time.strptime(str(key.since), _TIME))
    return key
