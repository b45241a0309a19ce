"""Whether master(8) can listen where the network services of master.cf say: it ends if one of them fails.

It opens them all when it starts, and those that are new when it is reloaded (src/master/master_listen.c).
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import listener
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_NAMES = {"ipv4": "IPv4", "ipv6": "IPv6"}
_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465}  # RFC 5321, 6409, 8314
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_INTERFACES = {
    "all": {"ipv4": "0.0.0.0", "ipv6": "::"},  # noqa: S104 - probed, not served
    "loopback-only": {"ipv4": "127.0.0.1", "ipv6": "::1"},
}
_MOMENT = 1.0  # seconds
_STOPS = "Postfix does not start"


class _Unusable(ConfigError):
    """Why nobody can listen at an address, and the fix that is best."""


class _Endpoint(NamedTuple):
    """Where a service listens; the address is empty for those of inet_interfaces if it has names."""

    address: str
    port: int


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the network services for which master(8) cannot listen, and those that share an address."""
    taken: dict[_Endpoint, Service] = {}
    for service in _enabled(postconf):
        if listener.is_replaced(postconf, service):
            continue
        try:
            endpoints = list(_endpoints(postconf, service))
        except _Unusable as error:
            hint = error.hint or _without(postconf, service, "correct it")
            yield Finding(f"{service.id}: {_STOPS}: {error}", hint)
            continue
        if held := _held(postconf, endpoints):
            yield held._replace(what=f"{service.id}: {held.what}")
        for endpoint in endpoints:
            if taken.setdefault(endpoint, service) is not service:
                yield _shared(postconf, taken[endpoint], service)
                break


def _held(postconf: Postconf, endpoints: list[_Endpoint]) -> Finding | None:
    """Return a finding if another program listens at one of these; None if Postfix runs, which may do so."""
    for address, port in endpoints:
        for each in [address] if address else _everywhere(postconf):
            if not _is_taken(each, port) or postconf.is_running:
                continue
            what = f"{_STOPS}: another program listens at {each}, port {port}"
            return Finding(what, f"# stop it, or change the port; which one it is:\nss -ltnp sport = :{port}")
    return None


def _everywhere(postconf: Postconf) -> list[str]:
    """Return the addresses that ``inet_interfaces`` means without naming them."""
    found = _INTERFACES.get(postconf.value("inet_interfaces"), {})
    return [address for family, address in found.items() if family in postconf.families]


def _is_taken(address: str, port: int) -> bool:
    """Return whether a program listens where nobody else then can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE and _is_listening(family, address, port)
    return False


def _is_listening(family: int, address: str, port: int) -> bool:
    """Return whether a connection is accepted: a port may also be taken for a moment, as by a client."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(_MOMENT)
            client.connect((address, port))
    except OSError:
        return False
    return True


def _enabled(postconf: Postconf) -> list[Service]:
    """Return the network services that master_service_disable does not switch off."""
    return [
        service
        for service in postconf.services.values()
        if service.id.endswith("/inet") and not postconf.is_disabled(service.id)
    ]


def _endpoints(postconf: Postconf, service: Service) -> Iterator[_Endpoint]:
    """Yield where a service listens. Raises _Unusable."""
    host, colon, name = service.name.rpartition(":")
    if (colon and not host) or host.startswith("[") is not host.endswith("]"):
        raise _Unusable(f"{service.name} is not an address and a port")
    port = _port(postconf, service, name)
    if not host:
        yield from (_Endpoint(address, port) for address in [*_literals(postconf)] or [""])
    for address in _addresses(postconf, host.strip("[]")) if host else ():
        if _is_absent(address):
            raise _Unusable(f"this host does not have the address {address}")
        yield _Endpoint(address, port)


def _port(postconf: Postconf, service: Service, name: str) -> int:
    """Return the number of a port. Raises _Unusable."""
    if name.isdigit():
        return int(name)
    with contextlib.suppress(OSError):
        return socket.getservbyname(name, "tcp")
    close = difflib.get_close_matches(name, _PORTS, 1, 0.8)
    if not close:
        raise _Unusable(f"services(5) has no port {name!r}")
    right = f"{service.name[: len(service.name) - len(name)]}{_PORTS[close[0]]}"
    before = service.name[: len(service.name) - len(name)]
    same = [f"{before}{port}/inet" for port, number in _PORTS.items() if number == _PORTS[close[0]]]
    if not {f"{right}/inet", *same}.isdisjoint(postconf.services):  # a second one could differ from it
        raise _Unusable(f"services(5) has no port {name!r}")
    change = Change("-F", f"{service.id}/service={right}", "")
    raise _Unusable(f"services(5) has no port {name!r}", postconf.command(change))


def _addresses(postconf: Postconf, host: str) -> list[str]:
    """Return the addresses of a host that inet_protocols allows. Raises _Unusable."""
    allowed = [_FAMILIES[each] for each in postconf.families]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Unusable(f"the host name {host} cannot be resolved") from None
    addresses = {str(each[4][0]): each[0] for each in found}
    usable = [address for address, family in addresses.items() if family in allowed]
    if not usable:
        excluded = [name for name, family in _FAMILIES.items() if family in addresses.values()]
        names = " and ".join(_NAMES[each] for each in excluded)
        both = postconf.command(Change("-e", "inet_protocols=all", ""))
        raise _Unusable(
            f"inet_protocols = {postconf.value('inet_protocols')} excludes {names}",
            f"# correct the address, or allow {names} as well:\n{both}",
        )
    return usable


def _literals(postconf: Postconf) -> Iterator[str]:
    """Yield the addresses in inet_interfaces."""
    for word in postconf.words("inet_interfaces"):
        with contextlib.suppress(ValueError):
            yield str(ipaddress.ip_address(word.strip("[]")))


def _is_absent(address: str) -> bool:
    """Return whether this host does not have an address."""
    try:
        family, *_, where = socket.getaddrinfo(address, 0, flags=socket.AI_NUMERICHOST)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(where)
    except OSError as error:
        return error.errno in _NOT_HERE
    return False


def _shared(postconf: Postconf, first: Service, second: Service) -> Finding:
    """Return a finding for two services at the same address and port.

    Postfix uses only the last of them, or shares out the connections (SO_REUSEPORT), or does not start.
    """
    unwanted = first if second in listener.all_of(postconf) else second
    what = f"{first.id} and {second.id} listen at the same address and port: mail goes to either of them"
    return Finding(what, _without(postconf, unwanted, "keep one of them"))


def _without(postconf: Postconf, service: Service, otherwise: str) -> str:
    """Return the command that turns a service into a comment, and what may be better."""
    if "*" in service.name:  # postconf(1) takes it for a pattern
        return f"correct or remove the line of {service.name} in master.cf"
    return f"# {otherwise}; without {service.id}:\n{postconf.command(Change('-M#', service.id, ''))}"
