"""Mail to port 25 from clients in mynetworks: an access table passes it to the filter that signs.

The table lists the networks of mynetworks: no other restriction can tell these clients from strangers and
let both go on. FILTER in it overrides content_filter, and applies to the one message (access(5)). It belongs
to a list that smtpd(8) evaluates for each message even if smtpd_delay_reject is off.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Iterator
from typing import Union

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import dkimproxy, filter_service, incoming
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.kinds import NETWORKS
from dkimpipe.admin.postfix.network_patterns import network
from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf, finding_for, list_command
from dkimpipe.admin.postfix.restriction_lists import split_restrictions
from dkimpipe.admin.postfix.restrictions import Restrictions, Session
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.errors import ConfigError

TABLE_FILE = "dkimpipe-networks.cidr"
PUBLIC_PORTS = incoming.PUBLIC_PORTS
# The lists of restrictions that are evaluated for each message, and hardly ever set, first.
_LISTS = (
    "smtpd_end_of_data_restrictions",
    "smtpd_data_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_recipient_restrictions",
)
_CHECK = "check_client_access"
_WHY = "mail to port 25 from mynetworks is not signed"
# Addresses beyond any network of one's own: a prefix this short includes strangers. The first number is for
# private networks, such as 10.0.0.0/8 and fd00::/8.
_SHORTEST = {4: (8, 16), 6: (8, 32)}
_NOBODY = "there is no service {} in master.cf, and mail that needs it waits"
_HELO, _ELSEWHERE = "client.example.net", "someone@example.net"

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
    return any(_is_used(postconf, service) for service in services(postconf))


def obstacle(postconf: Postconf) -> tuple[str, str]:
    """Return why this mail cannot be signed, and a hint; two empty strings if it can."""
    ports = services(postconf)
    if not ports:
        return "there is no service on port 25 in master.cf", ""
    for service in ports:
        proxy = postconf.value("smtpd_proxy_filter", service.id)
        other = proxy
        try:
            items = list(_items(postconf, service.id))
            if not proxy and not _is_complete(postconf, service):  # FILTER overrides it
                other = _foreign(postconf, postconf.value("content_filter", service.id))
        except ConfigError as error:
            return str(error), error.hint
        if not items:
            return f"{service.id}: mynetworks is empty", ""
        for item in items:
            found = _foreign(postconf, _filter(postconf, service, item) or "")
            if transport := _unknown(postconf, found):
                if _is_misspelt(postconf, service, transport):
                    continue  # the table is written again
                return f"{service.id}: a table has FILTER {found}: {_NOBODY.format(transport)}", ""
            other = other or found
        if other:
            hint = "sign it where it comes back from there, on a port only for mail of your own"
            return f"{service.id}: {other} gets this mail, and a message can have only one filter", hint
        if _table(postconf, service) != _table(postconf, ports[0]):
            return f"{service.id} and {ports[0].id} differ in mynetworks", "set mynetworks only in main.cf"
        if not (_is_used(postconf, service) or _list(postconf, service)):
            lists = ", ".join(_LISTS)
            return f"{service.id}: there is no list for {_CHECK}: {lists}", "take the spaces out of one"
    return "", ""


def missing(postconf: Postconf) -> Iterator[Change]:
    """Yield the edits by which this mail passes to the filter; none if there is an obstacle."""
    for service in services(postconf) if not obstacle(postconf)[0] else ():
        is_ours, text = _uses_file(postconf, service), _table(postconf, service)
        if is_ours and _file(postconf) == text:
            continue
        if is_ours or not _is_complete(postconf, service):
            if _file(postconf) != text:
                yield Change(FILE, f"{TABLE_FILE}={text}", _difference(postconf, text, is_ours))
            if not is_ours:
                name = _list(postconf, service)
                table = f"cidr:{postconf.directory / TABLE_FILE}"
                value = ",".join([_CHECK, table, *postconf.words(name, service.id)])
                yield Change("-P", f"{service.id}/{name}={value}", _WHY)


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield what keeps mail from mynetworks unsigned, and cannot be fixed by the table."""
    if not in_use(postconf):
        return
    if cause := obstacle(postconf)[0]:
        yield Finding(f"{NETWORKS}: {cause}", obstacle(postconf)[1])
        return
    yield from _hidden(postconf)
    for service in services(postconf):
        if _uses_file(postconf, service) and _file(postconf) == _table(postconf, service):
            unsigned = [each for each in _items(postconf, service.id) if not _passes(postconf, service, each)]
            for item in unsigned[:1]:
                what = f"{service.id}: mail from {item} is not signed: a restriction permits it"
                yield Finding(what, to_be_first(postconf, service))


def to_be_first(postconf: Postconf, service: Service) -> str:
    """Return the command that puts our table before all else in its list; advice if it cannot."""
    ours = our_table(postconf)
    for name in _LISTS:
        parts = list(split_restrictions(postconf.words(name, service.id)))
        if any(part[-1] == ours for part in parts):
            rest = [word for part in parts if part[-1] != ours for word in part if word]
            command = list_command(postconf, service.id, name, [_CHECK, ours, *rest])
            if command:
                return command
    return f"put {_CHECK} {ours} before it"


def our_table(postconf: Postconf) -> str:
    """Return our table, as lists name it."""
    return f"cidr:{postconf.directory / TABLE_FILE}"


def _hidden(postconf: Postconf) -> Iterator[Finding]:
    """Yield the lists of main.cf that the override with our table hides."""
    for service in services(postconf):
        for name in _LISTS:
            ours = split(postconf.overrides[service.id].get(name, ""), ",")
            lost = [word for word in postconf.words(name) if word not in ours]
            if lost and name in postconf.explicit and f"cidr:{postconf.directory / TABLE_FILE}" in ours:
                why = f"main.cf has {', '.join(lost)}, which does not apply here"
                argument = f"{service.id}/{name}={','.join([*ours, *lost])}"
                yield finding_for(postconf, "-P", argument, why, "warning")


def _is_used(postconf: Postconf, service: Service) -> bool:
    """Return whether the mail of at least one network passes to the filter."""
    if _uses_file(postconf, service):
        return True
    name = filter_service.name(postconf)
    found = (network(word) for word in postconf.words("mynetworks", service.id))
    return any((_filter(postconf, service, item) or "").partition(":")[0] == name for item in found if item)


def _is_complete(postconf: Postconf, service: Service) -> bool:
    """Return whether the mail of all mynetworks passes to the filter."""
    return all(_passes(postconf, service, item) for item in _items(postconf, service.id))


def _passes(postconf: Postconf, service: Service, item: _Network) -> bool:
    """Return whether mail from a network passes to the filter, or is rejected."""
    found = _filter(postconf, service, item)
    return found is None or found.partition(":")[0] == filter_service.name(postconf)


def _filter(postconf: Postconf, service: Service, item: _Network) -> str | None:
    """Return the FILTER for mail from the first or the last address of a network that differs from ours.

    Ours if there is no difference, empty for none, and None if all its mail is rejected.
    """
    name, found = filter_service.name(postconf), None
    for address in _ends(item):
        for each in _filters_for(postconf, service, address):
            if each.partition(":")[0] != name:
                return each
            found = each
    return found


def _filters_for(postconf: Postconf, service: Service, address: str) -> Iterator[str]:
    """Yield the FILTER for each mail from a client that is not rejected; empty for none."""
    restrictions = Restrictions(postconf, service.id, functools.partial(_all_sessions, postconf, service))
    for session in _sessions(address):
        if restrictions.accepts(session):
            yield from (restrictions.filter, restrictions.for_one)


def filter_for(
    postconf: Postconf, service: Service, address: str, has_login: bool = False, sender: str = _ELSEWHERE
) -> str | None:
    """Return the FILTER for mail from a client; empty for none, and None if its mail is rejected."""
    expected = functools.partial(_all_sessions, postconf, service)
    restrictions = Restrictions(postconf, service.id, expected, has_login=has_login)
    for session in _sessions(address, sender):
        if restrictions.accepts(session):
            return restrictions.filter
    return None


def _sessions(address: str, sender: str = _ELSEWHERE) -> Iterator[Session]:
    """Yield the sessions that tell what happens to mail from a client."""
    for recipient, is_final in ((_ELSEWHERE, False), ("someone@example.com", True)):
        yield Session("unknown", address, _HELO, sender, recipient, is_final)


def _all_sessions(postconf: Postconf, service: Service) -> Iterator[Session]:
    """Yield the sessions for all of mynetworks."""
    found = (network(word.lstrip("!")) for word in postconf.words("mynetworks", service.id))
    for address in itertools.chain.from_iterable(_ends(item) for item in found if item):
        yield from _sessions(address)


def _ends(item: _Network) -> list[str]:
    """Return the first and the last address of a network."""
    return list(dict.fromkeys(map(str, (item[0], item[-1]))))


def _foreign(postconf: Postconf, content_filter: str) -> str:
    """Return this content_filter if it is neither ours nor replaced by ours."""
    ours = [filter_service.name(postconf, job) for job in filter_service.JOBS]
    if content_filter.partition(":")[0] in ours or dkimproxy.is_replaced(postconf, content_filter, SIGN):
        return ""
    return content_filter


def _unknown(postconf: Postconf, content_filter: str) -> str:
    """Return the transport of a filter if master.cf has no such service; empty if it has."""
    transport = content_filter.partition(":")[0]
    return transport if transport and f"{transport}/unix" not in postconf.services else ""


def _is_misspelt(postconf: Postconf, service: Service, transport: str) -> bool:
    """Return whether our table names a service that master.cf does not have."""
    return _uses_file(postconf, service) and f"FILTER {transport}:" in (_file(postconf) or "")


def _uses_file(postconf: Postconf, service: Service) -> bool:
    """Return whether our table is in one of the lists."""
    table = f"cidr:{postconf.directory / TABLE_FILE}"
    return any(
        argument == table
        for name in _LISTS
        for *_, argument in split_restrictions(postconf.words(name, service.id))
    )


def _list(postconf: Postconf, service: Service) -> str:
    """Return the list to add our table to: an empty one, if there is any. postconf -P takes no spaces."""
    possible = [
        name
        for name in _LISTS
        if not any(any(map(str.isspace, word)) for word in postconf.words(name, service.id))
    ]
    return next((name for name in possible if not postconf.words(name, service.id)), "".join(possible[:1]))


def _items(postconf: Postconf, service: str) -> Iterator[_Network]:
    """Yield each network of mynetworks but for those excluded by ``!``. Raises ConfigError."""
    for is_negated, found in _patterns(postconf, service):
        if not is_negated:
            yield found


def _patterns(postconf: Postconf, service: str) -> Iterator[tuple[bool, _Network]]:
    """Yield each network of mynetworks, and whether it is excluded. Raises ConfigError."""
    own = "mynetworks" in postconf.explicit or "mynetworks" in postconf.overrides[service]
    for word in postconf.words("mynetworks", service):
        pattern = word.lstrip("!")
        found = network(pattern)
        if not found:
            raise ConfigError(
                f"mynetworks: {pattern} is not a network, and cannot be in an access table",
                "list addresses and networks in mynetworks itself",
            )
        negated = (len(word) - len(pattern)) % 2 == 1
        if not negated and found.prefixlen < _SHORTEST[found.version][not _is_private(found)]:
            raise ConfigError(f"mynetworks: {found} includes strangers", "list your own networks only")
        if not own and not _is_private(found) and found.num_addresses > 1:
            raise ConfigError(
                f"mynetworks_style = {postconf.value('mynetworks_style')}: {found} includes strangers",
                "set mynetworks, and list your own networks only",
            )
        yield negated, found


def _is_private(found: _Network) -> bool:
    """Return whether a network is not one of the Internet; an IPv4-mapped one is judged as IPv4."""
    if found.version == 6 and found.prefixlen >= 96 and (mapped := found[0].ipv4_mapped):
        return mapped.is_private
    return found.is_private


def _table(postconf: Postconf, service: Service) -> str:
    """Return the text of the table; the first line that matches applies, as in mynetworks."""
    name = filter_service.name(postconf)
    lines = [
        f"{found} {'DUNNO' if negated else f'FILTER {name}:dummy'}"
        for negated, found in _patterns(postconf, service.id)
    ]
    return "\n".join(lines)


def _difference(postconf: Postconf, text: str, is_used: bool) -> str:
    """Return what is wrong with the table that is there, or what a new one is for."""
    if not is_used:
        return "the networks whose mail is signed: mynetworks"
    now, new = (_signed(each) for each in (_file(postconf) or "", text))
    filters = re.findall(r"FILTER\s+(\S+)", _file(postconf) or "")
    unknown = [each for each in dict.fromkeys(_unknown(postconf, each) for each in filters) if each]
    if unknown and _unknown(postconf, f"{filter_service.name(postconf)}:") not in unknown:
        return "; ".join(map(_NOBODY.format, unknown))
    faults = [f"{each} is in mynetworks, and its mail is not signed" for each in new if each not in now]
    faults += [f"{each} is not in mynetworks, and its mail is signed" for each in now if each not in new]
    return "; ".join(faults) or "it differs from mynetworks"


def _signed(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if "FILTER" in line]


def _file(postconf: Postconf) -> str | None:
    try:
        return (postconf.directory / TABLE_FILE).read_text().rstrip("\n")
    except (OSError, UnicodeError):
        return None
