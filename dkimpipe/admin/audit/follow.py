"""Follow one message through the log while it is being written."""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.audit import actions, lines, logfiles
from dkimpipe.admin.audit.actions import Parties
from dkimpipe.admin.audit.events import Event
from dkimpipe.errors import ConfigError, printable

_PAUSE = 0.2  # seconds between two looks
_SETTLED = 1.0  # seconds in which nothing more happens
_SHOWN = 300  # octets of a line


class Hop(NamedTuple):
    """One line about the message: the service that logged it, the queue ID, and what happened.

    ``text``   for people: a long line is cut
    ``event``  the same, as logged
    """

    service: str
    queue_id: str
    text: str
    event: Event

    @property
    def program(self) -> str:
        """The program of Postfix, such as ``smtp``."""
        return self.service.rpartition("/")[2]


class Follower:
    """Reads what is added to a log from now on."""

    def __init__(self, path: Path | None) -> None:
        """Follow this file, which may not exist yet, or the journal. Raises ConfigError."""
        self._path = path
        self._begun = time.time()
        self._at = 0
        try:  # before anything is sent
            if path:
                with path.open("rb") as file:
                    self._at = file.seek(0, os.SEEK_END)
            else:
                collections.deque(self._blocks(), maxlen=0)
        except FileNotFoundError:
            pass  # postlogd(8) makes it when there is something to log
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", "run it as root") from None

    def hops(self, message_id: str, parties: Parties, seconds: float) -> list[Hop]:
        """Return the lines about the message with this Message-ID, in any queue file, in their order.

        Among them is what ``actions`` finds of mail between these parties. Wait until it has left the queue
        under each queue ID, at most this long. Raises ConfigError.
        """
        mark = f"<{message_id}>".encode()
        end = time.monotonic() + seconds
        found: list[Hop] = []
        settled = 0.0
        while time.monotonic() < end:
            time.sleep(_PAUSE)
            ours = self._about(mark, parties)
            if len(ours) > len(found):
                found, settled = [_hop(event) for event in ours], 0.0
            elif found and _has_left(ours):
                settled += _PAUSE
                if settled >= _SETTLED:
                    break
        return found

    def _about(self, mark: bytes, parties: Parties) -> list[Event]:
        found: list[Event] = []
        done: list[Event] = []
        for block in self._blocks():
            found += lines.read(block)
            done += actions.read(block, parties)
        ids = {each.queue_id for each in found if each.keyword == b"message-id=" and each.text == mark}
        ids |= {each.queue_id for each in done}
        return [*done, *(each for each in found if each.queue_id in ids)]

    def _blocks(self) -> Iterator[bytes]:
        if not self._path:
            yield from logfiles.journal(self._begun).blocks
            return
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(self._at if self._at <= size else 0)  # it was rotated
                octets = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}", "run it as root") from None
        yield octets[: octets.rfind(b"\n") + 1]


def _has_left(found: list[Event]) -> bool:
    """Return whether each queue file of the message is gone."""
    return {each.queue_id for each in found if each.keyword != actions.REDIRECT} == {
        each.queue_id for each in found if each.keyword in (b"removed", actions.DISCARD)
    }


def _hop(event: Event) -> Hop:
    service = f"{event.path.decode('ascii', 'replace')}{event.program.decode('ascii', 'replace')}"
    text = printable(event.keyword + event.text, _SHOWN)
    return Hop(service, event.queue_id.decode("ascii"), text, event)
