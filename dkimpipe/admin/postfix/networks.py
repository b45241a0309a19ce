"""Mail to port 25 from clients in mynetworks: an access table passes it to the filter that signs.

The table lists the networks of mynetworks: no other restriction can tell these clients from strangers and
let both go on. FILTER in it overrides content_filter, and applies to the one message (access(5)). It belongs
to a list that smtpd(8) evaluates for each message even if smtpd_delay_reject is off.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Union

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf, Service
from dkimpipe.admin.postfix.restrictions import network, split_restrictions
from dkimpipe.errors import ConfigError

TABLE_FILE = "dkimpipe-networks.cidr"
PUBLIC_PORTS = ("smtp", "25", "smtpd")
# The lists of restrictions that are evaluated for each message, and hardly ever set, first.
_LISTS = (
    "smtpd_end_of_data_restrictions",
    "smtpd_data_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_recipient_restrictions",
)
_CHECK = "check_client_access"
_WHY = "mail to port 25 from mynetworks is not signed"
# Addresses beyond any network of one's own: a prefix this short includes strangers.
_SHORTEST = {4: 8, 6: 16}

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def services(postconf: Postconf) -> list[Service]:
    """Return the services on port 25, also behind postscreen(8), except those whose mail is all signed."""
    name = filter_service.name(postconf)
    return [
        service
        for service in postconf.running("smtpd")
        if service.port in PUBLIC_PORTS
        and postconf.value("content_filter", service.id).partition(":")[0] != name
    ]


def in_use(postconf: Postconf) -> bool:
    """Return whether mail from any of mynetworks at port 25 passes to the filter by an access table."""
    return any(_passed(postconf, service) for service in services(postconf))


def obstacle(postconf: Postconf) -> tuple[str, str]:
    """Return why this mail cannot be signed, and a hint; two empty strings if it can."""
    if not services(postconf):
        return "there is no service on port 25 in master.cf", ""
    for service in services(postconf):
        proxy = postconf.value("smtpd_proxy_filter", service.id)
        transport = postconf.value("content_filter", service.id).partition(":")[0]
        ours = [filter_service.name(postconf, job) for job in filter_service.JOBS]
        other = proxy or (transport if transport not in ours and transport else "")
        if other:
            hint = "sign it where it comes back from there, on a port only for mail of your own"
            return f"{service.id}: {other} gets this mail, and a message can have only one filter", hint
        try:
            _table(postconf, service)
        except ConfigError as error:
            return str(error), error.hint
    return "", ""


def missing(postconf: Postconf) -> Iterator[Change]:
    """Yield the edits by which this mail passes to the filter."""
    for service in services(postconf):
        if _is_complete(postconf, service):
            continue
        table = f"cidr:{postconf.directory / TABLE_FILE}"
        text = _table(postconf, service)
        if _file(postconf) != text:
            yield Change(FILE, f"{TABLE_FILE}={text}", "the networks whose mail is signed: mynetworks")
        if table not in _tables(postconf, service):
            name = next((each for each in _LISTS if not postconf.words(each, service.id)), _LISTS[0])
            value = ",".join([_CHECK, table, *postconf.words(name, service.id)])
            yield Change("-P", f"{service.id}/{name}={value}", _WHY)


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the networks whose mail is signed although they are not in mynetworks."""
    for service in services(postconf):
        if not _uses_file(postconf, service):
            continue
        listed = [network(word.lstrip("!")) for word in postconf.words("mynetworks", service.id)]
        for line in (_file(postconf) or "").splitlines():
            found = network(line.split()[0]) if "FILTER" in line else None
            if found and not any(each and _is_within(found, each) for each in listed):
                what = f"{TABLE_FILE}: {found} is not in mynetworks, and its mail is signed"
                yield Finding(what, f"dkimpipe postfix -c {postconf.directory} --apply")


def _is_complete(postconf: Postconf, service: Service) -> bool:
    """Return whether the mail of all mynetworks passes to the filter, by our table or another."""
    if _uses_file(postconf, service):
        return _file(postconf) == _table(postconf, service)
    items = _items(postconf, service.id)
    return all(_passes(postconf, service, each) for is_negated, each in items if not is_negated)


def _passed(postconf: Postconf, service: Service) -> bool:
    """Return whether the mail of at least one network passes to the filter."""
    if _uses_file(postconf, service):
        return True
    return any(
        _passes(postconf, service, found)
        for found in (network(word) for word in postconf.words("mynetworks", service.id))
        if found
    )


def _passes(postconf: Postconf, service: Service, found: _Network) -> bool:
    """Return whether the first and the last address of a network have FILTER with our service."""
    name = filter_service.name(postconf)
    return all(
        any(
            postconf.lookup(table, str(address)).split()[:2][-1:] in ([f"{name}:dummy"], [f"{name}:"], [name])
            for table in _tables(postconf, service)
        )
        for address in {found[0], found[-1]}
    )


def _uses_file(postconf: Postconf, service: Service) -> bool:
    return f"cidr:{postconf.directory / TABLE_FILE}" in _tables(postconf, service)


def _tables(postconf: Postconf, service: Service) -> list[str]:
    """Return the client access tables that are searched for each message."""
    return [
        argument
        for name in _LISTS
        for *_, restriction, argument in split_restrictions(postconf.words(name, service.id))
        if restriction.lower() == _CHECK
    ]


def _items(postconf: Postconf, service: str) -> Iterator[tuple[bool, _Network]]:
    """Yield each network of mynetworks, and whether it is negated. Raises ConfigError."""
    for word in postconf.words("mynetworks", service):
        pattern = word.lstrip("!")
        found = network(pattern)
        if not found:
            raise ConfigError(
                f"mynetworks: {pattern} is not a network, and cannot be in an access table",
                "list addresses and networks in mynetworks itself",
            )
        negated = (len(word) - len(pattern)) % 2 == 1
        if not negated and found.prefixlen < _SHORTEST[found.version]:
            raise ConfigError(f"mynetworks: {found} includes strangers", "list your own networks only")
        yield negated, found


def _table(postconf: Postconf, service: Service) -> str:
    """Return the text of the table; the first line that matches applies, as in mynetworks."""
    name = filter_service.name(postconf)
    lines = [
        f"{found} {'DUNNO' if negated else f'FILTER {name}:dummy'}"
        for negated, found in _items(postconf, service.id)
    ]
    return "\n".join(lines)


def _file(postconf: Postconf) -> str | None:
    try:
        return (postconf.directory / TABLE_FILE).read_text().rstrip("\n")
    except (OSError, UnicodeError):
        return None


def _is_within(inner: _Network, outer: _Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
