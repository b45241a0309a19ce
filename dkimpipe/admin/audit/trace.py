"""The life of each message, from queue ID to queue ID, and the verdict when it has left.

A message gets a new queue ID each time that it comes back: from our filter (through pickup(8) or smtpd(8)),
from another one, or because local(8) forwards it. The lines of both IDs may come in any order, so the verdict
waits until many later messages have ended. Only live messages and a bounded number of ended ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from dkimpipe.admin.audit import events
from dkimpipe.admin.audit.events import Delivery, Event, Filtered
from dkimpipe.admin.audit.lines import Lines
from dkimpipe.admin.audit.message import Deferred, Links, Message, may_become
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.timestamps import Clock
from dkimpipe.admin.audit.verdict import Verdict, verdict
from dkimpipe.errors import printable

LIVE = 20_000  # messages in the queue at once
ENDED = 2_000  # messages that have ended, and may still be linked to others
PASSED = 5_000  # messages that have passed a filter, and may still have to be picked up
_CAUSE = 120  # octets of a cause that are kept
_MESSAGE_ID = 1000  # octets that are compared: Postfix cuts longer lines, not all at the same place
_NO_MESSAGE_ID = hash(b"<>")


class Trace:
    """Follows the messages of a log.

    ``unreadable``  deliveries by smtp(8) that do not match the grammar
    ``forgotten``   messages dropped because too many were in the queue
    ``first``       time of the first line of Postfix, ``last`` of the last one, in seconds since 1970; 0 for
                    no line
    """

    def __init__(
        self, site: Site, since: float, judged: Callable[[Verdict], None], reset: Callable[[], None]
    ) -> None:
        """``judged`` gets each verdict; ``reset`` takes them all back: the lines were of another year."""
        self._site, self._since, self._judged, self._reset = site, since, judged, reset
        self._clock, self._lines = Clock(0), Lines()
        self._live: dict[bytes, Message] = {}
        self._ended: dict[bytes, Message] = {}
        self._passed = Links(PASSED)
        self._returned = Links(ENDED)
        self._instances: dict[bytes, None] = {b"": None}
        self._instance = b""  # of the line that is read
        self.unreadable = self.forgotten = 0
        self.first = self.last = 0.0
        self._on: dict[bytes, Callable[[Message, Event], None]] = {
            b"client=": self._client,
            b"uid=": self._picked_up,
            b"message-id=": self._message_id,
            b"resent-message-id=": self._message_id,
            b"from=<": self._queued,
            b"to=<": self._delivery,
        }

    def read(self, blocks: Iterable[bytes], clock: Clock) -> Lines:
        """Follow the lines of one log, and return the account of them."""
        self._clock, self._lines = clock, Lines()
        for block in blocks:
            self._events(self._lines.events(block))
        self._events(self._lines.rest())
        return self._lines

    def _events(self, found: Iterable[Event]) -> None:
        for event in found:
            self.first = self.first or self._seconds(self._lines.first)  # before any later stamp
            self._event(event)
        if self._lines.last:
            self.first = self.first or self._seconds(self._lines.first)
            self.last = max(self.last, self._seconds(self._lines.last))

    def finish(self) -> list[Deferred]:
        """Give the verdicts on all that is left, and return what is in the queue after a failed attempt."""
        for message in (*self._ended.values(), *self._live.values()):
            self._judge(message)
        return [message.deferred for message in self._live.values() if message.deferred]

    def _seconds(self, stamp: bytes) -> float:
        found = self._clock.seconds(stamp)
        if found is None:
            self._lines.refuse(stamp)
            return 0.0
        if self._clock.turned:
            self._clock.turned = False
            self.unreadable, self.first = 0, found
            for message in (*self._ended.values(), *self._live.values()):
                message.left = False
            self._reset()
        return found

    def _event(self, event: Event) -> None:
        key, keyword = event.queue_id, event.keyword
        self._instance = b""
        if event.path.startswith(b"postfix-"):
            self._instance = event.path.partition(b"/")[0]
            self._instances[self._instance] = None
            key = b"%b/%b" % (self._instance, key)
        if keyword in (b"removed", b"requeued"):
            self._end(key)
        elif keyword in self._on:
            if keyword in (b"client=", b"uid=") and key in self._live:  # its end is not in the log
                self._end(key)
            found = self._live.get(key) or self._of_other_name(key, event) or self._new(key)
            self._on[keyword](found, event)
        elif event.program == b"bounce" and (notice := self._find(event.text)):
            notice.is_bounce = notice.is_named = True
        elif event.program == b"opendkim" and (message := self._find(event.queue_id)):
            message.added += events.by_milter(event.text)

    def _new(self, key: bytes) -> Message:
        message = self._live[key] = Message(key)
        if len(self._live) > LIVE:
            self._end(next(iter(self._live)))
            self.forgotten += 1
        return message

    def _of_other_name(self, key: bytes, event: Event) -> Message | None:
        """Return a message that came in at a service whose syslog_name is not that of its instance."""
        if event.program != b"cleanup":
            return None
        for instance in self._instances:
            other = b"%b/%b" % (instance, event.queue_id) if instance else event.queue_id
            message = self._live.get(other)
            if message and message.client and message.message_id is None:
                message.key = key
                self._live[key] = self._live.pop(other)
                return message
        return None

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

    def _find(self, queue_id: bytes) -> Message | None:
        """Return a message by its queue ID: of the instance of this line, or of another."""
        for instance in (self._instance, *self._instances):
            key = b"%b/%b" % (instance, queue_id) if instance else queue_id
            if found := self._live.get(key) or self._ended.get(key):
                return found
        return None

    def _client(self, message: Message, event: Event) -> None:
        client = events.client(event.text)
        if not (client and event.program in (b"smtpd", b"qmqpd")):
            return
        if client.parent and (parent := self._find(client.parent)):
            message.parent, parent.is_continued = parent, True
        if not client.parent or message.parent or not client.is_local:
            message.client, message.path = client, event.path
            message.may_return = client.is_local and not client.login

    def _picked_up(self, message: Message, event: Event) -> None:
        found = events.picked_up(event.text)
        if not found or event.program != b"pickup":
            return
        uid, sender, former = found
        message.sender, message.domain = hash(sender), events.domain_of(sender)
        if former:  # postsuper -r, which need not log each message
            message.parent, message.is_requeued = self._find(former), True
            if message.parent:
                self._end(message.parent.key)
        elif uid in self._site.filter_uids:
            message.from_filter = True
        else:
            message.uid, message.may_return = uid, uid in self._site.other_uids

    def _message_id(self, message: Message, event: Event) -> None:
        if message.message_id is None and event.program == b"cleanup":
            message.message_id = hash(event.text[:_MESSAGE_ID])

    def _queued(self, message: Message, event: Event) -> None:
        found = events.queued(event.text)
        if not found or event.program not in (b"qmgr", b"nqmgr", b"oqmgr"):
            return
        sender, message.recipients = found
        message.domain = events.domain_of(sender)
        if message.from_filter or (
            message.may_return and not message.client
        ):  # whose sender may have been rewritten since
            self._link(message)
            return
        message.sender = hash(sender)
        if message.client and message.client.is_local and not message.client.login:
            self._link(message)
        # Postfix's notices to postmaster; the beginning of its other notices is a line of bounce(8).
        if sender.startswith(b"double-bounce@") and message.message_id is not None:
            message.is_bounce = not (message.client or message.uid is not None or message.parent)

    def _link(self, message: Message) -> None:
        """Find the message that a filter has passed on as this one, or wait for the line that reports it."""
        if message.parent or message.message_id is None:
            return
        links = [message.link]
        if message.may_return:  # sendmail(1) adds a Message-ID to mail without one
            links.append((message.sender, _NO_MESSAGE_ID))
        passed = chain.from_iterable(map(self._passed.of, links))
        candidates = [each for each in passed if may_become(each, message)]
        if candidates:  # those that cannot be distinguished: the worse one first
            self._take(message, min(candidates, key=lambda each: bool(each.reported)))
        else:
            for link in links:
                self._returned.add(link, message)

    def _take(self, message: Message, parent: Message) -> None:
        message.parent = parent
        parent.taken += max(1, message.recipients)

    def _delivery(self, message: Message, event: Event) -> None:
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

    def _filter(self, message: Message, found: Delivery) -> None:
        """Note that pipe(8) took it for a filter, or a program that does not bring it back."""
        is_other = found.relay in self._site.other_filters
        if not is_other and found.relay not in self._site.filters and found.relay not in self._site.verifiers:
            return
        message.runs += 1
        message.is_carried |= is_other
        if is_other:
            message.take_domain(found)
        if is_other or found.relay in self._site.filters:
            report = events.filtered(found) or Filtered()
            if found.relay in self._site.filters and message.reported != ():  # of several runs the worst one
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
            if not waiting.parent and may_become(message, waiting):
                self._take(waiting, message)

    def _sent(self, message: Message, found: Delivery, event: Event) -> None:
        """Note that it has left by smtp(8), unless another program took it to bring it back."""
        is_local = events.is_loopback(found.relay)
        following = self._find(events.queued_as(found.text))
        if following and is_local and following.client and not following.parent and following is not message:
            following.parent, message.is_continued = message, True
        is_back = following is not None and following.parent is message
        if is_back or (message.is_continued and is_local) or event.program == b"lmtp":
            return
        if self._seconds(event.stamp) >= self._since:
            message.left = True
            message.take_domain(found)

    def _judge(self, message: Message) -> None:
        if message.left:
            self._judged(verdict(message, self._site))
