"""Services where mail comes in: a relay that leads to one sends mail to the filter again and again.

They are those on the ports for users and for other hosts, whose mail passes to a filter in one way or
another, and those that pass to ours, by a content_filter of their own, mail from clients or another filter.
"""

from __future__ import annotations

import contextlib
import socket

from dkimpipe import relay
from dkimpipe.admin.postfix import filter_service, strangers
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

PUBLIC_PORTS = ("smtp", "25", "smtpd")
SUBMISSION_PORTS = ("submission", "submissions", "smtps", "587", "465")
_PROGRAMS = ("smtpd", "postscreen")
_ANY = ("", "0.0.0.0", "[::]", "::")  # noqa: S104 - compared, not bound
_LOCAL = ("127.0.0.1", "::1", "localhost")


def find(postconf: Postconf, address: str) -> Service | None:
    """Return the service where mail comes in that listens at a relay address; None if there is none."""
    try:
        host, port = relay.address(address, "relay")
    except ConfigError:
        return None
    for service in postconf.running(*_PROGRAMS):
        if _listens(service, host.decode(), port) and is_one(postconf, service):
            return service
    return None


def is_one(postconf: Postconf, service: Service) -> bool:
    """Return whether mail comes in at a service."""
    if service.port in (*PUBLIC_PORTS, *SUBMISSION_PORTS):
        return True
    if not _is_ours(postconf, postconf.own("content_filter", service.id)):
        return False
    return not strangers.is_local_only(postconf, service) or any(
        other and not _is_ours(postconf, other)
        for each in postconf.running("smtpd")
        for other in (postconf.value(name, each.id) for name in ("content_filter", "smtpd_proxy_filter"))
    )


def _is_ours(postconf: Postconf, content_filter: str) -> bool:
    names = [filter_service.name(postconf, job) for job in filter_service.JOBS]
    return content_filter.partition(":")[0] in names


def _listens(service: Service, host: str, port: int) -> bool:
    """Return whether a network service listens at an address, or may."""
    if not service.id.endswith("/inet") or _number(service.port) != port:
        return False
    at = service.name.rpartition(":")[0]
    if at in _ANY:
        return host in _LOCAL or _is_own(host)
    return at.strip("[]") == host or {at.strip("[]"), host} <= {*_LOCAL}


def _number(port: str) -> int:
    """Return the number of a port; 0 if its name is unknown."""
    with contextlib.suppress(OSError):
        return int(port) if port.isdigit() else socket.getservbyname(port, "tcp")
    return 0


def _is_own(host: str) -> bool:
    """Return whether a name or address is one of this host."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        for family, *_, where in found:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(where)
    except (OSError, UnicodeError):
        return False
    return True
