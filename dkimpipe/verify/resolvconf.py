"""The system's resolvers, /etc/resolv.conf, read as the C library reads it (resolv.conf(5)).

Search lists are not used: all names are complete. EDNS is always tried, and the other options are for
programs that look up addresses.
"""

from __future__ import annotations

import posix

PATH = "/etc/resolv.conf"
_MAX_FILE = 65536
_MAX_SERVERS = 3
_PORT = 53
_MAX_TIMEOUT, _MAX_ATTEMPTS = 30, 5


class SystemResolvers:
    """The content of the file.

    ``servers``   address and port of each: IPv4, or IPv6 with or without a scope; 127.0.0.1 if none is given
    ``timeout``   seconds for one query to one server; None if not set
    ``attempts``  queries to each server; None if not set
    ``rotate``    whether to begin with any of the servers
    ``trust_ad``  whether their flag AD is to be believed
    ``use_tcp``   whether to query by TCP only
    """

    __slots__ = ("attempts", "rotate", "servers", "timeout", "trust_ad", "use_tcp")

    def __init__(self, text: str) -> None:
        self.servers: list[tuple[str, int]] = []
        self.timeout: int | None = None
        self.attempts: int | None = None
        self.rotate = self.trust_ad = self.use_tcp = False
        for line in text.split("\n"):
            words = line.split()
            if len(words) < 2 or line[:1].isspace():
                continue
            if words[0] == "nameserver" and is_address(words[1]):
                self.servers.append((words[1], _PORT))
            if words[0] == "options":
                for option in words[1:]:
                    self._set(option)
        self.servers = self.servers[:_MAX_SERVERS] or [("127.0.0.1", _PORT)]

    def _set(self, option: str) -> None:
        name, _, value = option.partition(":")
        if value.isdecimal() and name == "timeout":
            self.timeout = max(1, min(int(value[:9]), _MAX_TIMEOUT))
        elif value.isdecimal() and name == "attempts":
            self.attempts = max(1, min(int(value[:9]), _MAX_ATTEMPTS))
        elif option == "rotate":
            self.rotate = True
        elif option == "trust-ad":
            self.trust_ad = True
        elif option == "use-vc":
            self.use_tcp = True


def read(path: str = PATH) -> SystemResolvers:
    """Return the content of the file; a file that cannot be read is an empty one."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            octets = posix.read(descriptor, _MAX_FILE)
        finally:
            posix.close(descriptor)
    except OSError:
        octets = b""
    return SystemResolvers(octets.decode("utf-8", "replace"))


def is_address(text: str) -> bool:
    """Return whether this is an IPv4 address or an IPv6 address, the latter perhaps with a scope."""
    import _socket

    address, percent, scope = text.partition("%")
    for family in (_socket.AF_INET6,) if percent and scope else (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, address if percent else text)
            return bool(scope) or not percent
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
    return False
