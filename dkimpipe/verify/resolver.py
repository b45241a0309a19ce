"""TXT records, for keys and for policies, within one time limit.

UDP, then TCP if an answer is too long, several servers, aliases: dnspython does all that. This module asks
again without EDNS if there is no answer with it, because some servers and firewalls refuse or drop it
(RFC 6891 section 6.2.2). It adds a time limit, however many names a message refers to, and however slow their
servers are. The time is shared: names with slow servers take none of it from other names.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.name
import dns.resolver

from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.verify.nameserver import Server

BUDGET = 30.0  # seconds for all keys of a message, and again for policies: far from the 280 of the filter
_ONE_NAME = 10.0  # seconds
_WITH_EDNS = 2 / 3  # of the time for a name; the rest is for a query without EDNS
_PAYLOAD = 1232  # octets over UDP, DNS Flag Day 2020


class Answer(NamedTuple):
    """The TXT records of a name, the strings of each joined; ``authentic``: AD flag set by the resolver."""

    texts: list[bytes]
    authentic: bool = False


class Resolver:
    """Looks up TXT records; each name once."""

    def __init__(
        self,
        server: Server | None = None,
        known: Mapping[str, bytes] | None = None,
        budget: float = BUDGET,
    ) -> None:
        """Use this server, or those of the system. ``known`` are records by name, which need no lookup."""
        self._answers: dict[str, Answer | TemporaryError] = {
            name.lower(): Answer([text]) for name, text in (known or {}).items()
        }
        self._server = server
        self._resolver: dns.resolver.Resolver | None = None
        self._left = budget
        self._kept = 0.0  # the part reserved for others

    def share(self, parties: int) -> None:
        """Limit the next lookups to one of that many equal shares of the remaining time."""
        self._kept = self._left - self._left / parties

    def texts(self, name: str) -> Answer:
        """Return the records of a name in A-labels, none if it has none. Raises TemporaryError."""
        name = name.lower()
        if name not in self._answers:
            started = time.monotonic()
            try:
                self._answers[name] = self._query(name)
            except TemporaryError as error:
                self._answers[name] = error
            self._left -= time.monotonic() - started
        answer = self._answers[name]
        if isinstance(answer, TemporaryError):
            raise answer
        return answer

    def _query(self, name: str) -> Answer:
        seconds = self._left - self._kept
        if seconds <= 0:
            raise TemporaryError("no time left for DNS")
        try:
            found = self._resolve(dns.name.from_text(name), min(seconds, _ONE_NAME))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Answer([])
        except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong, dns.name.BadEscape):
            return Answer([])  # such a name cannot exist
        except dns.resolver.NoNameservers:
            raise TemporaryError(f"the name servers of {name} fail") from None
        except dns.exception.Timeout:
            raise TemporaryError(f"no answer for {name}") from None
        except (OSError, dns.exception.DNSException) as error:
            raise TemporaryError(f"no usable answer for {name}: {type(error).__name__}") from None
        authentic = bool(found.response.flags & dns.flags.AD)
        return Answer([b"".join(record.strings) for record in found], authentic)

    def _resolve(self, name: dns.name.Name, seconds: float) -> dns.resolver.Answer:
        """Return the answer to a query with EDNS, or else to one without it."""
        resolver = self._configured()
        limit = time.monotonic() + seconds
        resolver.use_edns(0, 0, _PAYLOAD)
        try:
            return resolver.resolve(name, "TXT", lifetime=seconds * _WITH_EDNS, search=False)
        except (dns.resolver.NoNameservers, dns.exception.Timeout):
            resolver.use_edns(False)
            left = max(0.0, limit - time.monotonic())
            return resolver.resolve(name, "TXT", lifetime=left, search=False)

    def _configured(self) -> dns.resolver.Resolver:
        """Return dnspython's resolver, with the configured server or those of the system."""
        if not self._resolver:
            try:
                self._resolver = dns.resolver.Resolver(configure=not self._server)
            except dns.exception.DNSException as error:
                raise TemporaryError(f"no DNS resolver: {error}") from None
            if self._server:
                self._resolver.nameservers = [self._server.address]
                self._resolver.port = self._server.port
            self._resolver.flags = dns.flags.RD | dns.flags.AD  # RFC 6840 section 5.7
        return self._resolver
