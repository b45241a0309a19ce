"""What is known of a message under one queue ID, and which messages continue it under others."""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe.admin.audit.events import Client, Delivery, Signature

_DOMAINS = 3  # of recipients, kept for each message
_CHAIN = 8  # queue IDs of one message


class Deferred(NamedTuple):
    """A message that is still in the queue after a failed attempt.

    ``service``  what could not deliver it: the program, or the name of the filter's service
    ``cause``    from the log, in part in the words of another server
    """

    service: str
    cause: str


class Message:
    """What is known of one queue ID.

    ``key``           under which it is kept: instance and queue ID
    ``client``        if it came by SMTP, to the service with the syslog name ``path``
    ``uid``           of the user who ran sendmail(1), if that was not a filter
    ``from_filter``   if a filter ran sendmail(1), ``may_return`` if another filter may have sent it
    ``is_bounce``     if it is a notice of Postfix itself, ``is_named`` if bounce(8) has logged its queue ID
    ``parent``        the message that this one continues, ``is_forwarded`` if local(8) has forwarded it,
                      ``is_requeued`` if postsuper(1) has queued it anew
    ``is_continued``  if another program took it and brought it back
    ``is_carried``    if pipe(8) gave it to another filter
    ``sender``        hash of it, as of ``message_id``: both are equal before and after the filter
    ``reported``      the signatures that the filter reported, or ``reason``; None if it has not taken it
    ``added``         the signatures that a milter reported
    ``runs``          to how many recipients a filter passed it on, ``taken`` how many of them came back
    ``is_cut``        whether its report may have lost the queue ID under which it came back by SMTP
    ``left``          whether it has left within the time
    ``domains``       of recipients that are no aliases, to whom it has left or another filter took it
    """

    __slots__ = (
        "added", "client", "deferred", "domain", "domains", "from_filter", "is_bounce", "is_carried",
        "is_continued", "is_cut", "is_forwarded", "is_named", "is_requeued", "key", "left", "may_return",
        "message_id", "parent", "path", "reason", "recipients", "reported", "runs", "sender", "taken", "uid",
    )  # fmt: skip

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.client: Client | None = None
        self.path = self.domain = b""
        self.uid: int | None = None
        self.parent: Message | None = None
        self.from_filter = self.is_bounce = self.is_forwarded = self.is_continued = False
        self.is_cut = self.left = self.is_requeued = self.is_carried = self.may_return = self.is_named = False
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

    def take_domain(self, found: Delivery) -> None:
        """Note the domain of a recipient."""
        if not found.is_alias and found.domain not in self.domains and len(self.domains) < _DOMAINS:
            self.domains += (found.domain,)

    def chain(self) -> list[Message]:
        """Return this message and those that it continues, the first one last."""
        found = [self]
        while (parent := found[-1].parent) and len(found) < _CHAIN and parent not in found:
            found.append(parent)
        return found


def may_become(passed: Message, returned: Message) -> bool:
    """Return whether a filter may have passed on one message as another, by sendmail(1) or by SMTP."""
    return (
        passed.is_left_to_take
        and passed is not returned
        and (returned.from_filter or passed.is_cut or (returned.may_return and passed.is_carried))
    )


class Links:
    """Messages by sender and Message-ID, with a bound for both."""

    _EACH = 100  # with the same sender and Message-ID

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[tuple[int | None, int | None], list[Message]] = {}

    def add(self, link: tuple[int | None, int | None], message: Message) -> None:
        """Add a message, and forget the oldest if there are too many."""
        messages = self._found.setdefault(link, [])
        if message not in messages:
            messages.append(message)
        del messages[: -self._EACH]
        if len(self._found) > self._limit:
            del self._found[next(iter(self._found))]

    def of(self, link: tuple[int | None, int | None]) -> list[Message]:
        """Return the messages with this sender and Message-ID, the oldest first."""
        return self._found.get(link, [])
