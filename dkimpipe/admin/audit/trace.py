"""The life of each message, from queue ID to queue ID, and the verdict when it has left.

A message gets a new queue ID each time that it comes back: from our filter (through pickup(8) or smtpd(8)),
from another one, or because local(8) forwards it. The lines of both IDs may come in any order, so the verdict
waits until many later messages have ended. Only live messages and a bounded number of ended ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dkimpipe.admin.audit import events
from dkimpipe.admin.audit.events import Client, Delivery, Event, Filtered, Signature
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.timestamps import Clock
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION
from dkimpipe.errors import printable

LIVE = 20_000  # messages in the queue at once
ENDED = 2_000  # messages that have ended, and may still be linked to others
PASSED = 5_000  # messages that have passed a filter, and may still have to be picked up
_CHAIN = 8  # queue IDs of one message
_DOMAINS = 3  # of recipients, kept for each message
_CAUSE = 120  # octets of it that are kept
_MESSAGE_ID = 1000  # octets of it that are compared: Postfix cuts longer lines, not all at the same place

RELAYED = "relayed"
SIGNED, UNSIGNED, FORWARDED, UNKNOWN = "signed", "unsigned", "forwarded", "unknown"
NOT_FILTERED = "did not pass the filter"
NO_REPORT = "the filter reported neither a signature nor a reason"


class Verdict(NamedTuple):
    """A message that has left, once for each queue ID under which it left.

    ``outcome``     signed, unsigned, forwarded or unknown
    ``signatures``  if it is signed
    ``kind``        submission, networks, bounces, local, or relayed: for a client that neither logged in nor
                    is in mynetworks, and not to a domain of this server
    ``source``      service and client, or the user
    ``domain``      of the envelope sender; empty for the null sender
    ``reason``      why it is not signed
    """

    outcome: str
    signatures: tuple[Signature, ...] = ()
    kind: str = ""
    source: str = ""
    domain: str = ""
    reason: str = ""


class Deferred(NamedTuple):
    """A message that is still in the queue after a failed attempt.

    ``service``  what could not deliver it: the program, or the name of the filter's service
    ``cause``    from the log, in part in the words of another server
    """

    service: str
    cause: str


class _Message:
    """What is known of one queue ID.

    ``key``           under which it is kept: instance and queue ID
    ``client``        if it came by SMTP, to the service with the syslog name ``path``
    ``uid``           of the user who ran sendmail(1), if that was not a filter
    ``from_filter``   if a filter ran sendmail(1)
    ``is_bounce``     if it is a notice of Postfix itself
    ``parent``        the message that this one continues, ``is_forwarded`` if local(8) has forwarded it
    ``is_continued``  if another program took it and brought it back
    ``sender``        hash of it, as of ``message_id``: both are equal before and after the filter
    ``reported``      the signatures that the filter reported, or ``reason``; None if it has not taken it
    ``added``         the signatures that a milter reported
    ``runs``          to how many recipients a filter passed it on, ``taken`` how many of them came back
    ``is_cut``        whether its report may have lost the queue ID under which it came back by SMTP
    ``left``          whether it has left within the time, ``domains`` of recipients that are no aliases
    """

    __slots__ = (
        "added", "client", "deferred", "domain", "domains", "from_filter", "is_bounce", "is_continued",
        "is_cut", "is_forwarded", "key", "left", "message_id", "parent", "path", "reason", "recipients",
        "reported", "runs", "sender", "taken", "uid",
    )  # fmt: skip

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.client: Client | None = None
        self.path = self.domain = b""
        self.uid: int | None = None
        self.parent: _Message | None = None
        self.from_filter = self.is_bounce = self.is_forwarded = self.is_continued = False
        self.is_cut = self.left = False
        self.sender: int | None = None
        self.message_id: int | None = None
        self.recipients = self.runs = self.taken = 0
        self.reported: tuple[Signature, ...] | None = None
        self.added: tuple[Signature, ...] = ()
        self.reason = ""
        self.domains: tuple[bytes, ...] = ()
        self.deferred: Deferred | None = None

    @property
    def link(self) -> tuple[int | None, int | None]:
        """What is equal before and after the filter."""
        return self.sender, self.message_id

    @property
    def is_left_to_take(self) -> bool:
        """Whether more of it may come back from a filter."""
        return bool(self.runs) and (not self.taken or self.runs > self.taken)

    def chain(self) -> list[_Message]:
        """Return this message and those that it continues, the first one last."""
        found = [self]
        while (parent := found[-1].parent) and len(found) < _CHAIN and parent not in found:
            found.append(parent)
        return found


class Trace:
    """Follows the messages of a log.

    ``unreadable``  deliveries by smtp(8) that do not match the grammar
    ``forgotten``   messages dropped because too many were in the queue
    ``first``       time of the first line, ``last`` of the last one, in seconds since 1970; 0 for no line
    """

    def __init__(
        self, site: Site, since: float, judged: Callable[[Verdict], None], reset: Callable[[], None]
    ) -> None:
        """``judged`` gets each verdict; ``reset`` takes them all back: the lines were of another year."""
        self._site, self._since, self._judged, self._reset = site, since, judged, reset
        self._clock = Clock(0)
        self._live: dict[bytes, _Message] = {}
        self._ended: dict[bytes, _Message] = {}
        self._passed = _Links(PASSED)
        self._returned = _Links(ENDED)
        self._instances: dict[bytes, None] = {b"": None}
        self.unreadable = self.forgotten = 0
        self.first = self.last = 0.0
        self._on: dict[bytes, Callable[[_Message, Event], None]] = {
            b"client=": self._client,
            b"uid=": self._picked_up,
            b"message-id=": self._message_id,
            b"resent-message-id=": self._message_id,
            b"from=<": self._queued,
            b"to=<": self._delivery,
        }

    def read(self, blocks: Iterable[bytes], clock: Clock) -> None:
        """Follow the lines of one log."""
        self._clock = clock
        for block in blocks:
            event = None
            for event in events.read(block):
                self._event(event)
            if event:
                self.first = self.first or self._seconds(events.first_stamp(block))
                self.last = max(self.last, self._seconds(event.stamp))

    def finish(self) -> list[Deferred]:
        """Give the verdicts on all that is left, and return what is in the queue after a failed attempt."""
        for message in (*self._ended.values(), *self._live.values()):
            self._judge(message)
        return [message.deferred for message in self._live.values() if message.deferred]

    def _seconds(self, stamp: bytes) -> float:
        found = self._clock.seconds(stamp) or 0.0
        if self._clock.turned:
            self._clock.turned = False
            self.unreadable, self.first = 0, found
            for message in (*self._ended.values(), *self._live.values()):
                message.left = False
            self._reset()
        return found

    def _event(self, event: Event) -> None:
        key, keyword = event.queue_id, event.keyword
        if event.path.startswith(b"postfix-"):
            instance = event.path.partition(b"/")[0]
            self._instances[instance] = None
            key = b"%b/%b" % (instance, key)
        if keyword in (b"removed", b"requeued"):
            self._end(key)
        elif keyword in self._on:
            if keyword in (b"client=", b"uid=") and key in self._live:  # its end is not in the log
                self._end(key)
            self._on[keyword](self._live.get(key) or self._new(key), event)
        elif event.program == b"bounce" and (notice := self._find(event.text)):
            notice.is_bounce = True
        elif event.program == b"opendkim" and (message := self._find(event.queue_id)):
            message.added += events.by_milter(event.text)

    def _new(self, key: bytes) -> _Message:
        message = self._live[key] = _Message(key)
        if len(self._live) > LIVE:
            self._end(next(iter(self._live)))
            self.forgotten += 1
        return message

    def _end(self, key: bytes) -> None:
        message = self._live.pop(key, None)
        if not message:
            return
        earlier = self._ended.pop(key, None)
        self._ended[key] = message
        if not earlier and len(self._ended) > ENDED:
            earlier = self._ended.pop(next(iter(self._ended)))
        if earlier:
            self._judge(earlier)

    def _find(self, queue_id: bytes) -> _Message | None:
        """Return a message by its queue ID, whatever its instance."""
        for instance in self._instances:
            key = b"%b/%b" % (instance, queue_id) if instance else queue_id
            if found := self._live.get(key) or self._ended.get(key):
                return found
        return None

    def _client(self, message: _Message, event: Event) -> None:
        client = events.client(event.text)
        if not (client and event.program in (b"smtpd", b"qmqpd")):
            return
        if client.parent and (parent := self._find(client.parent)):
            message.parent, parent.is_continued = parent, True
        if not client.parent or message.parent or not client.is_local:
            message.client, message.path = client, event.path

    def _picked_up(self, message: _Message, event: Event) -> None:
        found = events.picked_up(event.text)
        if not found or event.program != b"pickup":
            return
        uid, sender, former = found
        message.sender, message.domain = hash(sender), events.domain_of(sender)
        if former:
            message.parent = self._find(former)
        elif uid in self._site.filter_uids:
            message.from_filter = True
        else:
            message.uid = uid

    def _message_id(self, message: _Message, event: Event) -> None:
        if message.message_id is None and event.program == b"cleanup":
            message.message_id = hash(event.text[:_MESSAGE_ID])

    def _queued(self, message: _Message, event: Event) -> None:
        found = events.queued(event.text)
        if not found or event.program not in (b"qmgr", b"nqmgr", b"oqmgr"):
            return
        sender, message.recipients = found
        message.domain = events.domain_of(sender)
        if message.from_filter:  # whose sender may have been rewritten since
            self._link(message)
            return
        message.sender = hash(sender)
        if message.client and message.client.is_local and not message.client.login:
            self._link(message)
        # Postfix's notices to postmaster; the beginning of its other notices is a line of bounce(8).
        if sender.startswith(b"double-bounce@") and message.message_id is not None:
            message.is_bounce = not (message.client or message.uid is not None or message.parent)

    def _link(self, message: _Message) -> None:
        """Find the message that a filter has passed on as this one, or wait for the line that reports it."""
        if message.parent or message.message_id is None:
            return
        candidates = [each for each in self._passed.of(message.link) if _may_become(each, message)]
        if candidates:  # those that cannot be distinguished: the worse one first
            self._take(message, min(candidates, key=lambda each: bool(each.reported)))
        else:
            self._returned.add(message.link, message)

    def _take(self, message: _Message, parent: _Message) -> None:
        message.parent = parent
        parent.taken += max(1, message.recipients)

    def _delivery(self, message: _Message, event: Event) -> None:
        found = events.delivery(event.text)
        if not found:
            self.unreadable += event.program == b"smtp" and self._seconds(event.stamp) >= self._since
        elif found.status == b"deferred":
            service = found.relay if event.program == b"pipe" else event.program
            message.deferred = Deferred(printable(service, 40), printable(found.text, _CAUSE))
        elif found.status == b"sent":
            if event.program == b"pipe":
                self._filter(message, found)
            elif event.program == b"local":
                if (copy := self._find(events.forwarded_as(found.text))) and copy is not message:
                    copy.parent, copy.is_forwarded = message, True
            elif event.program in (b"smtp", b"lmtp"):
                self._sent(message, found, event)

    def _filter(self, message: _Message, found: Delivery) -> None:
        """A service of pipe(8) took it: one of our filters, or a program that does not bring it back."""
        if found.relay not in self._site.filters and found.relay not in self._site.verifiers:
            return
        message.runs += 1
        if found.relay in self._site.filters:
            report = events.filtered(found) or Filtered()
            if message.reported != ():  # of several runs the worst one
                message.reported, message.reason = report.signatures, report.reason
            message.is_cut |= report.is_cut
            following = self._find(report.next_id)
            if following and following.client and following.client.is_local and not following.parent:
                self._take(following, message)
        if message.message_id is None or message.sender is None:
            return
        if message.runs == 1:
            self._passed.add(message.link, message)
        for waiting in self._returned.of(message.link):
            if not waiting.parent and _may_become(message, waiting):
                self._take(waiting, message)

    def _sent(self, message: _Message, found: Delivery, event: Event) -> None:
        """It has left by smtp(8), unless another program took it to bring it back."""
        is_local = events.is_loopback(found.relay)
        following = self._find(events.queued_as(found.text))
        if following and is_local and following.client and not following.parent and following is not message:
            following.parent, message.is_continued = message, True
        is_back = following is not None and following.parent is message
        if is_back or (message.is_continued and is_local) or event.program == b"lmtp":
            return
        if self._seconds(event.stamp) >= self._since:
            message.left = True
            if not found.is_alias and found.domain not in message.domains and len(message.domains) < _DOMAINS:
                message.domains += (found.domain,)

    def _judge(self, message: _Message) -> None:
        if message.left:
            self._judged(self._verdict(message))

    def _verdict(self, message: _Message) -> Verdict:
        chain = message.chain()
        signatures = dict.fromkeys(one for each in chain for one in (*each.added, *(each.reported or ())))
        domain = printable(message.domain, 253)
        if signatures:
            return Verdict(SIGNED, tuple(signatures), domain=domain)
        origin = chain[-1]
        reason = next((each.reason or NO_REPORT for each in chain if each.reported is not None), NOT_FILTERED)
        if origin.client:
            kind, source = self._client_of(origin.client, origin.path)
            if kind == RELAYED and (
                any(each.is_forwarded for each in chain) or all(map(self._site.has_domain, message.domains))
            ):
                return Verdict(FORWARDED, domain=domain)
            return Verdict(UNSIGNED, (), kind, source, domain, reason)
        if origin.uid is not None:
            return Verdict(UNSIGNED, (), LOCAL, self._site.user(origin.uid), domain, reason)
        if origin.is_bounce:
            return Verdict(UNSIGNED, (), BOUNCES, "", domain, reason)
        return Verdict(UNKNOWN, domain=domain)

    def _client_of(self, client: Client, path: bytes) -> tuple[str, str]:
        """Return the kind of mail that comes from a client, and the service and client."""
        service = printable(path.rstrip(b"/"), 40)
        address = printable(client.address, 45)
        if client.login:
            return SUBMISSION, f"{service}, login {printable(client.login, 80)}"
        if self._site.is_submission(path):
            return SUBMISSION, f"{service}, client {address}"
        kind = NETWORKS if self._site.is_in_mynetworks(client.address) else RELAYED
        return kind, f"{service}, client {address}"


def _may_become(passed: _Message, returned: _Message) -> bool:
    """Return whether a filter may have passed on one message as another, by sendmail(1) or by SMTP."""
    return passed.is_left_to_take and passed is not returned and (returned.from_filter or passed.is_cut)


class _Links:
    """Messages by sender and Message-ID, with a bound for both."""

    _EACH = 100  # with the same sender and Message-ID

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[tuple[int | None, int | None], list[_Message]] = {}

    def add(self, link: tuple[int | None, int | None], message: _Message) -> None:
        """Add a message, and forget the oldest if there are too many."""
        messages = self._found.setdefault(link, [])
        if message not in messages:
            messages.append(message)
        del messages[: -self._EACH]
        if len(self._found) > self._limit:
            del self._found[next(iter(self._found))]

    def of(self, link: tuple[int | None, int | None]) -> list[_Message]:
        """Return the messages with this sender and Message-ID, the oldest first."""
        return self._found.get(link, [])
