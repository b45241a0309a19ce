"""The cleanup(8) service for mail to be signed: it adds missing header fields and rewrites nothing.

The alternative, local_header_rewrite_clients, also rewrites addresses, and parses an unquoted display name
with a comma or a colon as two addresses or a group: ``From: Doe, Jane <jane@example.com>`` becomes
``From: Doe@host, Jane <jane@example.com>``, which no entry of the senders file matches.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import split

NAME = "dkimpipe-cleanup"
ADD_HEADERS = "always_add_missing_headers"  # From, Date and Message-ID; since Postfix 2.6
# What adds or replaces recipients. With none of these, nobody is added before the filter and again after it.
MAPPINGS = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps", "virtual_alias_maps")
_SERVICE_NAME = "cleanup_service_name"
_REWRITE_CLIENTS = "local_header_rewrite_clients"
_EARLIER_VALUE = "static:all"  # what earlier versions of dkimpipe set
_DEFAULT_VALUE = "permit_inet_interfaces"
_WHY_ADD = "messages without Date or Message-ID are signed without them"
_DAMAGE = (
    "names such as 'Doe, Jane <jane@example.com>' in From and To become 'Doe@host, Jane <...>',"
    " and mail goes unsigned"
)


def missing(postconf: Postconf, services: list[Service]) -> list[Change]:
    """Return the edits that add missing header fields to the mail of all services whose mail is signed.

    The override set by earlier versions of dkimpipe is removed; any other value is kept.
    """
    changes: list[Change] = []
    for service in services:
        if not _adds_by_rewriting(postconf, service):
            changes += _changes_to_add(postconf, service, services)
        if _has_earlier_override(postconf, service):
            changes.append(Change("-PX", f"{service.id}/{_REWRITE_CLIENTS}", _DAMAGE))
    return list(dict.fromkeys(changes))


def rewriting(postconf: Postconf, service: Service, services: list[Service]) -> Iterator[Finding]:
    """Yield a finding if the administrator's settings make a service rewrite header addresses.

    ``services`` are those whose mail is signed; this one may precede them.
    """
    is_signed, clients = service in services, postconf.words(_REWRITE_CLIENTS, service.id)
    if {*clients} <= {_DEFAULT_VALUE} or (is_signed and _has_earlier_override(postconf, service)):
        return
    adds = is_signed and _adds_by_rewriting(postconf, service)
    to_add = _changes_to_add(postconf, service, services) if adds else ()
    commands = [*to_add, Change("-P", f"{service.id}/{_REWRITE_CLIENTS}=", "")]
    hint = " && ".join(map(postconf.command, commands))
    yield Finding(f"{service.id}/{_REWRITE_CLIENTS}: {_DAMAGE}", hint, "warning")


def maps_nothing(postconf: Postconf, service: str) -> bool:
    """Return whether the cleanup service that a service uses switches off aliases and copies itself."""
    overrides = postconf.overrides.get(f"{postconf.value(_SERVICE_NAME, service)}/unix", {})
    return all(overrides.get(name) == "" for name in MAPPINGS)


def is_ours(name: str) -> bool:
    """Return whether dkimpipe created a cleanup service, judging by its name."""
    return name == NAME or name.startswith(f"{NAME}-")


def _has_earlier_override(postconf: Postconf, service: Service) -> bool:
    return postconf.overrides[service.id].get(_REWRITE_CLIENTS) == _EARLIER_VALUE


def _adds_by_rewriting(postconf: Postconf, service: Service) -> bool:
    """Return whether the administrator's settings add missing fields by rewriting."""
    clients = postconf.words(_REWRITE_CLIENTS, service.id)
    adds = {"static:all", "permit_sasl_authenticated"}.intersection(clients)
    return bool(adds) and not _has_earlier_override(postconf, service)


def _changes_to_add(postconf: Postconf, service: Service, services: list[Service]) -> Iterator[Change]:
    """Yield the edits that make the cleanup service used by this service add missing fields."""
    used = postconf.value(_SERVICE_NAME, service.id)
    if f"{used}/unix" in postconf.services:
        if postconf.value(ADD_HEADERS, f"{used}/unix") == "yes":
            return
    elif used != postconf.value(_SERVICE_NAME) and not is_ours(used):
        return  # a configuration error, which the doctor reports
    name = _name(postconf, used, services)
    if f"{name}/unix" not in postconf.services:
        yield _copy(postconf, name)
    elif postconf.value(ADD_HEADERS, f"{name}/unix") != "yes":
        yield Change("-P", f"{name}/unix/{ADD_HEADERS}=yes", _WHY_ADD)
    if name != used:
        yield Change("-P", f"{service.id}/{_SERVICE_NAME}={name}", _WHY_ADD)


def _name(postconf: Postconf, used: str, services: list[Service]) -> str:
    """Return the name of the cleanup service to use: the current one, unless it also handles other mail.

    Adding fields to other mail may break signatures: of mail from outside, or ours after the filter.
    """
    if is_ours(used):
        return used
    if used == postconf.value(_SERVICE_NAME):
        return NAME
    others = [each for each in postconf.services.values() if each not in services]
    return (
        f"{NAME}-{used}" if any(postconf.value(_SERVICE_NAME, each.id) == used for each in others) else used
    )


def _copy(postconf: Postconf, name: str) -> Change:
    """Return the edit that creates a copy of the service it replaces, with the same chroot and options."""
    original = name.removeprefix(f"{NAME}-")
    why = "there is no cleanup service that adds missing header fields before signing"
    return copy(postconf, name, original, {ADD_HEADERS: "yes"}, why)


def copy(postconf: Postconf, name: str, original: str, settings: dict[str, str], why: str) -> Change:
    """Return the edit that creates a copy of a cleanup service, with these settings in addition."""
    if f"{original}/unix" not in postconf.services:
        original = postconf.value(_SERVICE_NAME)
    plain = Service(f"{original}/unix", "n", "-", "n", "-", "0", "cleanup", "")
    service = postconf.services.get(plain.id, plain)
    words, arguments = iter(split(service.arguments)), []
    for word in words:
        setting = next(words, "") if word == "-o" else ""
        if setting.strip("{ ").partition("=")[0].strip() not in settings:
            arguments += [word, setting] if setting else [word]
    for parameter, value in settings.items():
        arguments += [
            "-o",
            f"{{{parameter}={value}}}" if any(map(str.isspace, value)) else f"{parameter}={value}",
        ]
    new = service._replace(id=f"{name}/unix", arguments=" ".join(arguments))
    return Change("-M", f"{new.id}={new.line}", why)
