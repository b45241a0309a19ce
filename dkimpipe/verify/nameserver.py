"""A name server, as users write it: ``ADDRESS`` or ``ADDRESS#PORT``, for IPv4 and IPv6 alike."""

from __future__ import annotations

from dkimpipe.verify.resolvconf import is_address

PORT = 53
_MAX_PORT = 65535


class Server:
    """A name server.

    ``address``  IPv4 or IPv6; the latter with a zone, such as fe80::1%eth0, where it needs one
    ``name``     its name in messages, by default address and port
    """

    __slots__ = ("address", "name", "port")

    def __init__(self, address: str, port: int = PORT, name: str = "") -> None:
        self.address = address
        self.port = port
        self.name = name

    def __str__(self) -> str:
        return self.name or (self.address if self.port == PORT else f"{self.address}#{self.port}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Server) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, str]:
        return self.address, self.port, self.name

    @classmethod
    def parse(cls, text: str) -> Server:
        """Return the server of ``ADDRESS`` or ``ADDRESS#PORT``. Raises ValueError."""
        address, mark, port = text.partition("#")
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not is_address(address) or (mark and not 0 < number <= _MAX_PORT):
            raise ValueError(f"'{text}' is not the address of a name server")
        return cls(address, number or PORT)
