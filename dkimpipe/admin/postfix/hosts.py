"""The hosts of milters, compared by what they mean here: names of this host, and its addresses, are one."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

HERE = "localhost"
_HERE = ("", HERE, "localhost6", "*", "*v4", "*v6")


@lru_cache(maxsize=64)
def meanings(host: str) -> frozenset[str]:
    """Return what a name or an address, perhaps in brackets, means: HERE for this host, or addresses.

    A name that is not known means itself.
    """
    host = host.strip("[]").lower()
    if host in _HERE:
        return frozenset([HERE])
    try:
        found = [str(ipaddress.ip_address(host))]
    except ValueError:
        found = _looked_up(host)
    return frozenset(HERE if _is_here(address) else address for address in found) or frozenset([host])


def _looked_up(name: str) -> list[str]:
    """Return the addresses of a name by /etc/hosts and DNS, as Postfix looks it up."""
    try:
        return [str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _is_here(address: str) -> bool:
    """Return whether an address is one of this host: only to those a socket can be bound."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_loopback or parsed.is_unspecified:
        return True
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
