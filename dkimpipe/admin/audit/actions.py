"""What access tables and header or body checks did with a message: DISCARD and REDIRECT.

smtpd(8) logs it before the message has a queue ID, and cleanup(8) perhaps before it has read the Message-ID.
So it is found by sender and recipient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.audit.events import QUEUE_ID, Event
from dkimpipe.admin.audit.timestamps import STAMP

NO_QUEUE_ID = b"NOQUEUE"
DISCARD, REDIRECT = b"discard: ", b"redirect: "
_LINE = re.compile(
    rb"^(" + STAMP + rb") \S+ ((?:[\w.-]+/)*)(cleanup|smtpd)\[\d+\]: (" + QUEUE_ID + rb"|NOQUEUE): "
    rb"(discard: |redirect: )(.*?; from=<([^>]*)> to=<([^>]*)>.*)$",
    re.MULTILINE,
)
_TEXT = re.compile(
    rb"(.*?); from=<[^>]*> to=<[^>]*>(?: (?:proto|helo|sasl_username)=(?:<[^>]*>|[^\s:]*))*(?:: (.*))?$"
)
_TRIGGERED = re.compile(rb"[A-Z-]+ from \S+\[[\w.:]+\]: (.*)")
_CHECKED = re.compile(rb"((\w+) .*) from \S+(?:\[[\w.:]+\])?$")


class Parties(NamedTuple):
    """The addresses of a message, in lower case."""

    sender: bytes
    recipient: bytes


class Action(NamedTuple):
    """What was done and why.

    ``target``   where a message was redirected to, if that is not in ``cause``
    ``context``  what was looked up: header or body; empty for an access table
    """

    cause: bytes
    target: bytes = b""
    context: bytes = b""


def read(block: bytes, parties: Parties) -> Iterator[Event]:
    """Yield the lines about messages of these parties in a block of whole lines."""
    for found in _LINE.finditer(block):
        if Parties(found[7].lower(), found[8].lower()) == parties:
            yield Event(*found.groups()[:6])


def parse(text: bytes) -> Action:
    """Return what such a line says."""
    found = _TEXT.match(text)
    said, target = (found[1], found[2] or b"") if found else (text, b"")
    if triggered := _TRIGGERED.match(said):
        return Action(triggered[1])
    checked = _CHECKED.match(said)
    return Action(checked[1], target, checked[2]) if checked else Action(said, target)
