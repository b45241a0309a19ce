"""Services that accept nothing: smtpd(8) ends before its greeting, or nobody answers although Postfix runs.

smtpd(8) refuses to start if no restriction in two of its lists keeps it from relaying for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import logins, restriction_lists, sources, strangers
from dkimpipe.admin.postfix.networks import PUBLIC_PORTS
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service

_NO_GREETING = ("smtpd_upstream_proxy_protocol", "smtpd_tls_wrappermode")
_LOG = "see the log: fatal: in the lines of smtpd"


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the services that cannot start, and if Postfix runs, those that do not greet."""
    causes: dict[tuple[str, str], list[str]] = {}
    for service in postconf.running("smtpd"):
        fault, is_asked = ("", ""), _is_asked(postconf, service)
        if not restriction_lists.has_required(postconf, service.id):
            lists = strangers.relay_list(postconf), strangers.RECIPIENT
            where = " and ".join(dict.fromkeys(lists))
            why = f"smtpd(8) does not start, because nothing in {where} keeps it from relaying for everybody"
            fault = why, _hint(postconf, service)
        elif is_asked and postconf.is_running and (why := logins.silence(postconf, service)):
            fault = f"no mail can be sent here: {why}", _LOG
        if fault[0]:
            causes.setdefault(fault, []).append(service.id)
    for (why, hint), services in causes.items():
        yield Finding(f"{', '.join(services)}: {why}", hint)


def _hint(postconf: Postconf, service: Service) -> str:
    """Return the command with which a service can start and relays for nobody but users."""
    name = strangers.relay_list(postconf)
    is_own = name in postconf.overrides.get(service.id, {})
    if service.port in sources.SUBMISSION_PORTS:
        return postconf.command(strangers.closing_change(postconf, service.id))
    if name == strangers.RECIPIENT or "permit" in map(str.lower, postconf.words(name, service.id)):
        return f"add reject_unauth_destination to {name}"
    words = [*postconf.words(name, service.id), "reject_unauth_destination"]
    if words == ["reject_unauth_destination"]:
        words = ["permit_mynetworks", "permit_sasl_authenticated", *words]
    value = f"{name}={','.join(words)}"
    change = Change("-P", f"{service.id}/{value}", "") if is_own else Change("-e", value, "")
    return postconf.command(change)


def _is_asked(postconf: Postconf, service: Service) -> bool:
    """Return whether a service greets at once, in plain text, and is not asked for AUTH anyway."""
    if any(postconf.value(name, service.id) not in ("", "no") for name in _NO_GREETING):
        return False
    has_login = postconf.value("smtpd_sasl_auth_enable", service.id) == "yes"
    is_submission = service.port in sources.SUBMISSION_PORTS and not has_login
    return service.id.endswith("/inet") and (is_submission or service.port in PUBLIC_PORTS)
