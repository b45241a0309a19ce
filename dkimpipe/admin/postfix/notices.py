"""Postfix's own notices: a cleanup(8) service for them alone passes them to the filter that signs.

bounce(8) has no content_filter. But its mail can have header checks (internal_mail_filter_classes), and one
with FILTER does the same. No other check, and no milter, gets to see the notices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import cleanup_service, filter_service, milter_lists
from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf
from dkimpipe.admin.postfix.service import Service

NAME = "dkimpipe-sign"
TABLE_FILE = "dkimpipe-notices.regexp"
_CLASSES = "internal_mail_filter_classes"
_SERVICE_NAME = "cleanup_service_name"
_MILTERS = milter_lists.PARAMETERS[1]
_WHY = "Postfix's own notices are not signed"
_BY_BOUNCE = ("bounce", "2bounce", "delay")  # the classes of notify_classes that bounce(8) sends
_LOCAL = ("mydestination", "virtual_mailbox_domains")
_OTHER_CHECKS = ("body_checks", "mime_header_checks", "nested_header_checks", _MILTERS)


def in_use(postconf: Postconf) -> bool:
    """Return whether any of these services passes its notices to the filter, or is meant to."""
    return any(
        _has_table(postconf, service) or postconf.value(_SERVICE_NAME, service.id) == NAME
        for service in _services(postconf)
    )


def pass_milters(postconf: Postconf, milters: Sequence[str]) -> bool:
    """Return whether one of these milters gets the notices of bounce(8)."""
    return any(
        "bounce" in _classes(postconf, service)
        and milter_lists.has(postconf, _cleanup(postconf, service), _MILTERS, milters)
        for service in _services(postconf)
    )


def others_pass_milters(postconf: Postconf, milters: Sequence[str]) -> bool:
    """Return whether one of these milters gets the notices of smtpd(8) or smtp(8)."""
    return any(
        "notify" in _classes(postconf, service)
        and milter_lists.has(postconf, _cleanup(postconf, service), _MILTERS, milters)
        for service in postconf.running("smtpd", "smtp", "lmtp")
    )


class Others(NamedTuple):
    """The notices that leave this host and cannot be signed: those of other programs than bounce(8)."""

    mail: str
    cause: str
    hint: str


def others(postconf: Postconf) -> Others | None:
    """Return the notices that cannot be signed.

    smtpd(8) and smtp(8) report to the postmaster by the cleanup(8) service of all mail, where a header check
    could not tell their notices from forged ones.
    """
    recipient = postconf.value("error_notice_recipient")
    domain = recipient.rpartition("@")[2].lower() if "@" in recipient else ""
    words = postconf.words("notify_classes")
    kept = [word for word in words if word.lower() in _BY_BOUNCE]
    classes = ", ".join(word for word in words if word not in kept)
    if not classes or not domain or _is_local(postconf, domain):
        return None
    hint = "# set error_notice_recipient to an address of this host, or do without these notices:\n"
    change = Change("-e", f"notify_classes={','.join(kept)}", "")
    mail = f"notices of smtpd(8) and smtp(8) to {recipient}"
    return Others(mail, f"notify_classes has {classes}", hint + postconf.command(change))


def unsigned(postconf: Postconf) -> Iterator[Finding]:
    """Yield a note of notices that leave this host and cannot be signed."""
    if found := others(postconf):
        yield Finding(f"not signed: {found.mail}: {found.cause}", found.hint, NOTE)


def _is_local(postconf: Postconf, domain: str) -> bool:
    """Return whether mail for a domain stays on this host."""
    words = [word.lower() for name in _LOCAL for word in postconf.words(name)]
    return domain in words or any(":" in word and postconf.lookup(word, domain) for word in words)


def missing(postconf: Postconf) -> Iterator[Change]:
    """Yield the edits by which the notices pass to the filter."""
    services = (service for service in _services(postconf) if not _passes(postconf, service))
    yield from dict.fromkeys(change for service in services for change in _connect(postconf, service))


def _services(postconf: Postconf) -> list[Service]:
    """Return bounce, defer and trace."""
    return postconf.running("bounce")


def _passes(postconf: Postconf, service: Service) -> bool:
    return "bounce" in _classes(postconf, service) and _has_table(postconf, service)


def _classes(postconf: Postconf, service: Service) -> list[str]:
    """Return which notices of a service have header checks and milters, in lower case."""
    return [word.lower() for word in postconf.words(_CLASSES, service.id)]


def _cleanup(postconf: Postconf, service: Service) -> str:
    return f"{postconf.value(_SERVICE_NAME, service.id)}/unix"


def _has_table(postconf: Postconf, service: Service) -> bool:
    """Return whether the cleanup service of these notices has a header check with our filter."""
    cleanup = _cleanup(postconf, service)
    name = filter_service.name(postconf)
    return cleanup in postconf.services and any(
        postconf.lookup(table, "From: MAILER-DAEMON").startswith(f"FILTER {name}:")
        for table in postconf.words("header_checks", cleanup)
    )


def _connect(postconf: Postconf, service: Service) -> Iterator[Change]:
    pattern = f"/^From:/ FILTER {filter_service.name(postconf)}:dummy"
    table = f"regexp:{postconf.directory / TABLE_FILE}"
    if postconf.version >= (3, 7):
        table = f"regexp:{{{{{pattern}}}}}"
    else:
        yield Change(FILE, f"{TABLE_FILE}={pattern}", "a table for the next line")
    if f"{NAME}/unix" not in postconf.services:
        settings = {"header_checks": table, **dict.fromkeys(_OTHER_CHECKS, "")}
        original = postconf.value(_SERVICE_NAME, service.id)
        yield cleanup_service.copy(postconf, NAME, original, settings, _WHY)
    if postconf.value(_SERVICE_NAME, service.id) != NAME:
        yield Change("-P", f"{service.id}/{_SERVICE_NAME}={NAME}", _WHY)
    classes = postconf.words(_CLASSES, service.id)
    if "bounce" not in map(str.lower, classes):
        yield Change("-P", f"{service.id}/{_CLASSES}={','.join([*classes, 'bounce'])}", _WHY)
