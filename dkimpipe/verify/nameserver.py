"""A name server, as users write it: ``ADDRESS`` or ``ADDRESS#PORT``, for IPv4 and IPv6 alike."""

from __future__ import annotations

from typing import NamedTuple

import dns.inet

PORT = 53
_MAX_PORT = 65535


class Server(NamedTuple):
    """A name server.

    ``address``  IPv4 or IPv6; the latter with a zone, such as fe80::1%eth0, where it needs one
    ``name``     its name in messages, by default address and port
    """

    address: str
    port: int = PORT
    name: str = ""

    def __str__(self) -> str:
        return self.name or (self.address if self.port == PORT else f"{self.address}#{self.port}")

    @classmethod
    def parse(cls, text: str) -> Server:
        """Return the server of ``ADDRESS`` or ``ADDRESS#PORT``. Raises ValueError."""
        address, mark, port = text.partition("#")
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not dns.inet.is_address(address) or (mark and not 0 < number <= _MAX_PORT):
            raise ValueError(f"'{text}' is not the address of a name server")
        return cls(address, number or PORT)
