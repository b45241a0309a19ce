"""Entries of access lists by which certain mail from mynetworks bypasses our table, or overrides its FILTER.

One before the table ends the list if it permits, and of several with FILTER the last one applies (access(5)).
Which mail they match is read in the text of a table. What has no text is unknown, and is named as such.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import networks, redirects
from dkimpipe.admin.postfix.network_patterns import network
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.redirects import Redirect
from dkimpipe.admin.postfix.restriction_lists import DEPTH, LISTS, split_restrictions
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table, split

_CLIENT, _SENDER = "check_client_access", "check_sender_access"
_POLICY = "check_policy_service"
_HERE = "permit_inet_interfaces"
_MAY_PERMIT = (_HERE, "permit_tls_clientcerts", "permit_tls_all_clientcerts", "permit_dnswl_client")


class _Entry(NamedTuple):
    """A restriction: where it is, its name, and its argument."""

    place: str
    name: str
    argument: str


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield what keeps certain mail unsigned, or may."""
    for service in networks.services(postconf):
        before, after = _around_our_table(postconf, service)
        first = networks.to_be_first(postconf, service)
        for entry in before:
            yield from (Finding(what, first, level) for what, level in _permitted(postconf, service, entry))
        for entry in after:
            yield from _redirected(postconf, service, entry)


def _around_our_table(postconf: Postconf, service: Service) -> tuple[list[_Entry], list[_Entry]]:
    """Return what smtpd(8) evaluates before our table in its list, and all that it does afterwards."""
    before: list[_Entry] = []
    after: list[_Entry] = []
    ours, is_found = networks.our_table(postconf), False
    for stage in LISTS:
        entries = list(_entries(postconf, service, f"smtpd_{stage}_restrictions", LISTS[stage]))
        at = next((at for at, each in enumerate(entries) if each.argument == ours), None)
        if at is not None:
            before, is_found = entries[:at], True
        if is_found:
            after += entries[at + 1 :] if at is not None else entries
    return before, after


def _entries(
    postconf: Postconf, service: Service, parameter: str, bare: str, depth: int = 0
) -> Iterator[_Entry]:
    """Yield the restrictions of a list, and of the classes in it."""
    own = parameter in postconf.overrides.get(service.id, {})
    place = f"{service.id}/{parameter}" if own else parameter
    classes = postconf.words("smtpd_restriction_classes", service.id)
    for *_, name, argument in split_restrictions(postconf.words(parameter, service.id)):
        if name in classes and depth < DEPTH:
            yield from _entries(postconf, service, name, bare, depth + 1)
        else:
            yield _Entry(place, name.lower() or bare, argument)


def _permitted(postconf: Postconf, service: Service, entry: _Entry) -> Iterator[tuple[str, str]]:
    """Yield which mail an entry before our table permits, and the level."""
    place, name, table = entry
    if name in (_POLICY, *_MAY_PERMIT):
        why = f"{service.id}: mail from mynetworks that {name} permits is not signed"
        yield f"{why}: it comes before the table of networks", "error" if name == _HERE else "warning"
    if not name.endswith("_access") or real_table(table) in postconf.broken_tables:
        return
    found = redirects.actions(table)
    if found is None:
        yield (
            f"{place}: {table}: mail from mynetworks is not signed if that permits it, which is unknown",
            "warning",
        )
    for key, action in found or ():
        if _permits(postconf, service, action) and (level := _level(postconf, service, name, table, key)):
            yield f"{place}: {table}: mail from mynetworks that matches {key} is not signed", level


def _redirected(postconf: Postconf, service: Service, entry: _Entry) -> Iterator[Finding]:
    """Yield which mail an entry after our table passes to another filter."""
    place, name, table = entry
    if not name.endswith("_access") or real_table(table) in postconf.broken_tables:
        return
    for key, content_filter in redirects.redirecting(table):
        level = (
            ""
            if redirects.is_signed(postconf, content_filter)
            else _level(postconf, service, name, table, key)
        )
        if level:
            what = f"mail from mynetworks that matches {key} goes to {content_filter}, and is not signed"
            line = Redirect(place, name, table, key, content_filter)
            yield Finding(f"{place}: {table}: {what}", redirects.hint(content_filter, [line]), level)


def _permits(postconf: Postconf, service: Service, action: str) -> bool:
    """Return whether an action of access(5) ends the list, or may."""
    words = split(action, ",")
    classes = postconf.words("smtpd_restriction_classes", service.id)
    return (
        words[0].upper() in ("OK", "RELAY")
        or action.strip().isdigit()
        or any(word.lower().startswith("permit") or word in classes for word in words)
    )


def _level(postconf: Postconf, service: Service, name: str, table: str, key: str) -> str:
    """Return how sure it is that a key matches mail that would be signed; empty if it does not."""
    if key == redirects.ANYTHING:
        return "error"
    if name == _SENDER:
        senders = redirects.senders_of(postconf)
        line = Redirect("", name, table, key, "")
        if senders and not redirects.may_match(line, senders):
            return ""
        return "error" if senders and not key.startswith(("/", "!/")) else "warning"
    clients = network(_whole(key)) if name == _CLIENT else None
    if clients is None:
        return "warning"
    words = postconf.words("mynetworks", service.id)
    ours = [found for found in map(network, words) if found]
    return "error" if any(each.version == clients.version and each.overlaps(clients) for each in ours) else ""


def _whole(key: str) -> str:
    """Return a key with the first numbers of an IPv4 address, ``192.0.2``, as a network."""
    numbers = key.rstrip(".").split(".")
    if len(numbers) > 3 or not all(map(str.isdigit, numbers)):
        return key
    return f"{'.'.join([*numbers, *['0'] * (4 - len(numbers))])}/{8 * len(numbers)}"
