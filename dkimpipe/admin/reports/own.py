"""The addresses of this server, as receivers see them."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Iterable

from dkimpipe.admin.postfix.postconf import values_of
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.errors import ConfigError

_PROXY = "proxy_interfaces"  # addresses that a translator or proxy gives to others


def address(text: str) -> str:
    """Return an IP address as in reports, for argparse. Raises ArgumentTypeError."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid IP address") from None
    return str(getattr(found, "ipv4_mapped", None) or found)


def own_addresses(given: Iterable[str] = ()) -> frozenset[str]:
    """Return the addresses that others see mail of this server come from, as far as they are known here."""
    names: list[str] = []
    try:
        for value in values_of("smtp_bind_address", "smtp_bind_address6", "myhostname", _PROXY).values():
            names += split(value, ",")
    except ConfigError:  # reports can be read on any host
        names.append(socket.getfqdn())
    found = set(given)
    for name in filter(None, names):
        try:
            found |= {str(place[4][0]) for place in socket.getaddrinfo(name, None)}
        except (OSError, UnicodeError):
            continue
    return frozenset(found)
