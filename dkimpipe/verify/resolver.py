"""TXT records, for keys and for policies, within one time limit.

Servers are asked in turn until one answers, with growing pauses; one that fails is not asked again. If there
is no answer, all are asked again without EDNS, because some servers and firewalls refuse or drop it (RFC 6891
section 6.2.2). A time limit applies, however many names a message refers to, and however slow their servers
are. The time is shared: names with slow servers take none of it from other names.
"""

from __future__ import annotations

import posix
import time

from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dkimpipe.verify.dnsmessage import Response
    from dkimpipe.verify.exchange import Exchange
    from dkimpipe.verify.nameserver import Server
    from dkimpipe.verify.resolvconf import SystemResolvers

BUDGET = 30.0  # seconds for all keys of a message, and again for policies: far from the 280 of the filter
_ONE_NAME = 10.0  # seconds
_WITH_EDNS = 2 / 3  # of the time for a name; the rest is for a query without EDNS
_ONE_QUERY = 2.0  # seconds; the C library's default of 5 leaves no time for a second server
_PAUSES = (0.1, 2.0)  # seconds, the first and the longest


class Answer:
    """The TXT records of a name, the strings of each joined.

    ``authentic``  whether the resolver set the flag AD
    ``exists``     whether the name exists, with records of any type or names below it
    """

    __slots__ = ("authentic", "exists", "texts")

    def __init__(self, texts: list[bytes], authentic: bool = False, exists: bool = True) -> None:
        self.texts = texts
        self.authentic = authentic
        self.exists = exists


class Resolver:
    """Looks up TXT records; each name once."""

    def __init__(
        self,
        server: Server | None = None,
        known: Mapping[str, bytes] | None = None,
        budget: float = BUDGET,
        system: SystemResolvers | None = None,
    ) -> None:
        """Use this server, or those of the system, by default as in resolv.conf(5).

        ``known`` are records by name, which need no lookup.
        """
        self._answers: dict[str, Answer | TemporaryError] = {
            name.lower(): Answer([text]) for name, text in (known or {}).items()
        }
        self._server = server
        self._system = system
        self._begun: dict[str, Exchange] = {}
        self._left = budget
        self._kept = 0.0  # the part reserved for others

    def share(self, parties: int) -> None:
        """Limit the next lookups to one of that many equal shares of the remaining time."""
        self._kept = self._left - self._left / parties

    def ask(self, names: Iterable[str]) -> None:
        """Send the queries for names that will be looked up, so that their servers work at the same time."""
        for name in {name.lower() for name in names}.difference(self._answers):
            address, port = self._servers()[0]
            try:
                self._begun[name] = self._exchange(name, address, port, edns=True)
            except (OSError, ValueError):  # the lookup meets this again
                continue

    def texts(self, name: str) -> Answer:
        """Return the records of a name in A-labels, none if it has none. Raises TemporaryError."""
        name = name.lower()
        if name not in self._answers:
            started = time.monotonic()
            try:
                self._answers[name] = self._look_up(name)
            except TemporaryError as error:
                self._answers[name] = error
            self._left -= time.monotonic() - started
        answer = self._answers[name]
        if isinstance(answer, TemporaryError):
            raise answer
        return answer

    def _look_up(self, name: str) -> Answer:
        seconds = min(self._left - self._kept, _ONE_NAME)
        if seconds <= 0:
            raise TemporaryError("no time left for DNS")
        now = time.monotonic()
        try:
            try:
                return self._query(name, now + seconds * _WITH_EDNS, edns=True)
            except TemporaryError:
                return self._query(name, now + seconds, edns=False)
        except ValueError:  # such a name cannot exist
            return Answer([], exists=False)

    def _query(self, name: str, limit: float, edns: bool) -> Answer:
        """Return the answer of the first server that has one. Raises TemporaryError, and ValueError."""
        servers = self._servers()
        pause, longest = _PAUSES
        attempts = self._system.attempts if self._system else None
        while servers:
            for server in servers[:]:
                try:
                    response = self._response(name, server, limit, edns)
                except ConnectionRefusedError:  # it may be starting
                    continue
                except OSError:
                    servers.remove(server)
                    continue
                texts = response.texts() if response else None
                if response and texts is not None:
                    return Answer(texts, response.authentic and self._trusts, response.exists)
                if response:
                    servers.remove(server)
            attempts = attempts - 1 if attempts else None
            if servers and (attempts == 0 or time.monotonic() + pause >= limit):
                raise TemporaryError(f"no answer for {name}")
            if servers:
                time.sleep(pause)
                pause = min(2 * pause, longest)
        raise TemporaryError(f"the name servers of {name} fail")

    def _response(self, name: str, server: tuple[str, int], limit: float, edns: bool) -> Response | None:
        """Return the response of a server, None if there is none in time. Raises OSError and ValueError."""
        from dkimpipe.verify.exchange import Silence

        begun = self._begun.pop(name, None) if edns else None
        exchange = begun or self._exchange(name, *server, edns=edns)
        seconds = (self._system and self._system.timeout) or _ONE_QUERY
        try:
            return exchange.response(min(limit, exchange.began + seconds))
        except Silence:
            return None

    def _exchange(self, name: str, address: str, port: int, edns: bool) -> Exchange:
        from dkimpipe.verify.exchange import Exchange

        return Exchange(name, address, port, edns, tcp=bool(self._system and self._system.use_tcp))

    def _servers(self) -> list[tuple[str, int]]:
        """Return addresses and ports, in the order in which they are asked."""
        if self._server:
            return [(self._server.address, self._server.port)]
        if not self._system:
            from dkimpipe.verify import resolvconf

            self._system = resolvconf.read()
        servers = self._system.servers
        first = posix.urandom(1)[0] % len(servers) if self._system.rotate else 0
        return servers[first:] + servers[:first]

    @property
    def _trusts(self) -> bool:
        """Whether the flag AD of these servers is believed: of those of the system only by trust-ad."""
        return bool(self._server or (self._system and self._system.trust_ad))
