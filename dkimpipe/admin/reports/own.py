"""The addresses of this server, as receivers see them."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError


def own_addresses(given: Iterable[str] = ()) -> frozenset[str]:
    """Return the addresses that others see mail of this server come from, as far as they are known here."""
    names = list(given)
    try:
        postconf = Postconf(None)
        names += [postconf.value(name) for name in ("smtp_bind_address", "smtp_bind_address6", "myhostname")]
        names += postconf.words("proxy_interfaces")
    except ConfigError:  # reports can be read on any host
        names.append(socket.getfqdn())
    found = set()
    for name in filter(None, names):
        try:
            found |= {str(place[4][0]) for place in socket.getaddrinfo(name, None)}
        except (OSError, UnicodeError):
            continue
    return frozenset(found)
