"""What became of a message for the recipient that it was sent to, according to Postfix's log.

Other recipients do not count, such as that of ``always_bcc``; those that an alias leads to do. Each queue
file of the message is judged by itself: one that the filter took is continued by the next.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from dkimpipe.admin.audit import events
from dkimpipe.admin.audit.events import Delivery
from dkimpipe.admin.audit.follow import Hop
from dkimpipe.errors import printable

DELIVERED = "delivered"
BOUNCED = "bounced"
EXPIRED = "expired, and returned to the sender"
DISCARDED = "discarded"
HELD = "on hold"
QUEUED = "still in the queue"
GONE = "not delivered, and not in the queue"
_EXPIRED = re.compile(rb".*>, status=(?:force-)?expired\b")
_SHOWN = 300  # octets of a cause


class Outcome(NamedTuple):
    """How the message ended for its recipient.

    ``cause``    as logged; empty if nothing was
    ``program``  that logged it, such as ``smtp``
    """

    state: str
    queue_id: str
    cause: str = ""
    program: str = ""


class _Attempt(NamedTuple):
    hop: Hop
    found: Delivery
    recipient: bytes
    original: bytes

    def outcome(self, state: str) -> Outcome:
        return Outcome(state, self.hop.queue_id, printable(self.found.text, _SHOWN), self.hop.program)


def of(hops: Sequence[Hop], recipient: str, filters: Collection[str], queues: Mapping[str, str]) -> Outcome:
    """Return the worst that happened to the message on its way to this address.

    ``filters``  the services that run the filter, which brings the message back
    ``queues``   the queue of each message that is in one now, by queue ID
    """
    attempts = _attempts_for(hops, recipient.lower().encode())
    ended = {(each.hop.queue_id, each.recipient): each for each in attempts}  # the last attempt applies
    expired = {hop.queue_id for hop in hops if hop.program == "qmgr" and _EXPIRED.match(hop.event.text)}
    for state, status in ((BOUNCED, b"bounced"), (EXPIRED, b"deferred"), (QUEUED, b"deferred")):
        for each in ended.values():
            if each.found.status == status and (state != EXPIRED or each.hop.queue_id in expired):
                is_held = state == QUEUED and queues.get(each.hop.queue_id) == "hold"
                return each.outcome(HELD if is_held else state)
    removed = {hop.queue_id for hop in hops if hop.event.keyword == b"removed"}
    files = list(dict.fromkeys(hop.queue_id for hop in hops))
    for queue_id in files:
        if queue_id not in removed and not any(key[0] == queue_id for key in ended):
            queue = queues.get(queue_id)
            return Outcome(HELD if queue == "hold" else QUEUED if queue else GONE, queue_id)
    if not ended:
        return Outcome(GONE, files[-1])
    last = max(ended.values(), key=lambda each: files.index(each.hop.queue_id))
    if last.found.relay.decode(errors="replace") in filters:
        return Outcome(GONE, last.hop.queue_id)
    return last.outcome(DISCARDED if last.hop.program == "discard" else DELIVERED)


def _attempts_for(hops: Sequence[Hop], recipient: bytes) -> list[_Attempt]:
    """Return the attempts to deliver to a recipient, or to one that replaced it; all if there are none."""
    attempts = [
        _Attempt(hop, found, *(each.lower() for each in events.recipients(hop.event.text)))
        for hop in hops
        if hop.event.keyword == b"to=<" and (found := events.delivery(hop.event.text))
    ]
    ours, before = {recipient}, 0
    while len(ours) > before:
        before = len(ours)
        ours |= {each.recipient for each in attempts if each.original in ours}
    return [each for each in attempts if each.recipient in ours] or attempts
