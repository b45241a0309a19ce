"""One query to one name server: over UDP, and over TCP if the response is too long for that (RFC 7766).

The query has a random ID, and comes from a random port, chosen by the system. The socket is connected: it
receives nothing from elsewhere. What it does receive, but is not the response, is ignored.
"""

from __future__ import annotations

import _socket
import posix
from time import monotonic

from dkimpipe.verify.dnsmessage import Query, Response

_MAX_MESSAGE = 65535


class Silence(Exception):
    """The server has not answered in time."""


class Exchange:
    """A query that is under way."""

    __slots__ = ("_peer", "_query", "_socket", "began")

    def __init__(self, name: str, address: str, port: int, edns: bool = True, tcp: bool = False) -> None:
        """Send the query, by UDP unless ``tcp``. Raises OSError, and ValueError for an impossible name."""
        self._query = Query(name, posix.urandom(2), edns)
        self._socket: _socket.socket | None = None
        found = _socket.getaddrinfo(address.encode(), port, 0, _socket.SOCK_DGRAM, 0, _socket.AI_NUMERICHOST)
        self._peer = found[0]
        self.began = monotonic()
        if not tcp:
            self._socket = _socket.socket(self._peer[0], _socket.SOCK_DGRAM)
            self._socket.connect(self._peer[4])
            self._socket.send(self._query.octets)

    def response(self, limit: float) -> Response:
        """Return the response, until this time of the monotonic clock. Raises Silence and OSError."""
        try:
            response = self._by_udp(self._socket, limit) if self._socket else None
            if response is None or response.truncated:
                response = self._by_tcp(limit)
            return response
        except _socket.timeout:
            raise Silence from None
        finally:
            if self._socket:
                self._socket.close()

    def _by_udp(self, socket: _socket.socket, limit: float) -> Response:
        while True:
            _limit_time(socket, limit)
            response = self._query.response(socket.recv(_MAX_MESSAGE))
            if response:
                return response

    def _by_tcp(self, limit: float) -> Response:
        octets = self._query.octets
        socket = _socket.socket(self._peer[0], _socket.SOCK_STREAM)
        try:
            _limit_time(socket, limit)
            socket.connect(self._peer[4])
            socket.sendall(len(octets).to_bytes(2, "big") + octets)
            length = int.from_bytes(_received(socket, 2, limit), "big")
            response = self._query.response(_received(socket, length, limit))
        finally:
            socket.close()
        if not response or response.truncated:
            raise OSError("not a response")
        return response


def _received(socket: _socket.socket, size: int, limit: float) -> bytes:
    """Return that many octets."""
    octets = b""
    while len(octets) < size:
        _limit_time(socket, limit)
        more = socket.recv(size - len(octets))
        if not more:
            raise OSError("the connection was closed")
        octets += more
    return octets


def _limit_time(socket: _socket.socket, limit: float) -> None:
    """Limit the next call, to a moment at least: what has arrived is received."""
    socket.settimeout(max(0.001, limit - monotonic()))
