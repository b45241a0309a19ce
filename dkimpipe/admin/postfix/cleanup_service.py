"""The cleanup(8) service for mail to be signed: it adds missing header fields and rewrites none.

The alternative, local_header_rewrite_clients, also rewrites addresses, and parses an unquoted display name
with a comma or a colon as two addresses or a group: ``From: Doe, Jane <jane@example.com>`` becomes
``From: Doe@host, Jane <jane@example.com>``, which no entry of the senders file matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf, Service

NAME = "dkimpipe-cleanup"
ADDS = "always_add_missing_headers"  # From, Date and Message-ID; since Postfix 2.6
_NAMES = "cleanup_service_name"
_REWRITES = "local_header_rewrite_clients"
_EARLIER = "static:all"  # what earlier versions of dkimpipe set
_BY_DEFAULT = "permit_inet_interfaces"
_UNSIGNED = "messages without Date or Message-ID are signed without them"
_DAMAGE = (
    "names such as 'Doe, Jane <jane@example.com>' in From and To become 'Doe@host, Jane <...>',"
    " and mail goes unsigned"
)


def missing(postconf: Postconf, services: list[Service]) -> list[Change]:
    """Return the edits that add missing fields to the mail of these services, which are all that sign.

    The override that earlier versions of dkimpipe set is removed; any other value is the owner's choice.
    """
    changes: list[Change] = []
    for service in services:
        if not _adds_by_rewriting(postconf, service):
            changes += _adding(postconf, service, services)
        if _is_earlier(postconf, service):
            changes.append(Change("-PX", f"{service.id}/{_REWRITES}", _DAMAGE))
    return list(dict.fromkeys(changes))


def rewriting(postconf: Postconf, service: Service, services: list[Service]) -> Iterator[Finding]:
    """Yield a finding if the owner's settings make a service rewrite header addresses.

    ``services`` are those whose mail is signed; this one may precede them.
    """
    is_signed, clients = service in services, postconf.words(_REWRITES, service.id)
    if {*clients} <= {_BY_DEFAULT} or (is_signed and _is_earlier(postconf, service)):
        return
    adds = is_signed and _adds_by_rewriting(postconf, service)
    adding = _adding(postconf, service, services) if adds else ()
    commands = [*adding, Change("-P", f"{service.id}/{_REWRITES}=", "")]
    hint = "\n".join(map(postconf.command, commands))
    yield Finding(f"{service.id}/{_REWRITES}: {_DAMAGE}", hint, "warning")


def is_ours(name: str) -> bool:
    """Return whether dkimpipe made a cleanup service, according to its name."""
    return name == NAME or name.startswith(f"{NAME}-")


def _is_earlier(postconf: Postconf, service: Service) -> bool:
    return postconf.overrides[service.id].get(_REWRITES) == _EARLIER


def _adds_by_rewriting(postconf: Postconf, service: Service) -> bool:
    """Return whether the owner's settings add missing fields together with rewriting."""
    clients = postconf.words(_REWRITES, service.id)
    adds = {"static:all", "permit_sasl_authenticated"}.intersection(clients)
    return bool(adds) and not _is_earlier(postconf, service)


def _adding(postconf: Postconf, service: Service, services: list[Service]) -> Iterator[Change]:
    """Yield the edits that make the cleanup service of this service add missing fields."""
    used = postconf.value(_NAMES, service.id)
    if f"{used}/unix" in postconf.services:
        if postconf.value(ADDS, f"{used}/unix") == "yes":
            return
    elif used != postconf.value(_NAMES) and not is_ours(used):
        return  # the owner's error, which the doctor reports
    name = _name(postconf, used, services)
    if f"{name}/unix" not in postconf.services:
        yield _copy(postconf, name)
    elif postconf.value(ADDS, f"{name}/unix") != "yes":
        yield Change("-P", f"{name}/unix/{ADDS}=yes", _UNSIGNED)
    if name != used:
        yield Change("-P", f"{service.id}/{_NAMES}={name}", _UNSIGNED)


def _name(postconf: Postconf, used: str, services: list[Service]) -> str:
    """Return the name of the cleanup service to use: the current one, unless other mail also passes it.

    Adding fields to other mail may break signatures: those of mail from outside, or ours after the filter.
    """
    if is_ours(used):
        return used
    if used == postconf.value(_NAMES):
        return NAME
    others = [each for each in postconf.services.values() if each not in services]
    return f"{NAME}-{used}" if any(postconf.value(_NAMES, each.id) == used for each in others) else used


def _copy(postconf: Postconf, name: str) -> Change:
    """Return the edit that creates a service like the one it replaces, including chroot and checks."""
    original = name.removeprefix(f"{NAME}-")
    if f"{original}/unix" not in postconf.services:
        original = postconf.value(_NAMES)
    plain = Service(f"{original}/unix", "n", "-", "n", "-", "0", "cleanup", "")
    service = postconf.services.get(plain.id, plain)
    options = re.sub(rf"-o {ADDS}=\S*", "", service.arguments)
    arguments = " ".join(f"{options} -o {ADDS}=yes".split())
    line = service._replace(id=f"{name}/unix", arguments=arguments).line
    why = "there is no cleanup service that adds missing header fields before signing"
    return Change("-M", f"{name}/unix={line}", why)
