"""Open services: those through which mail from strangers reaches the filter that signs."""

from __future__ import annotations

from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import client_options, filter_service, networks, sources, strangers
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

WHY = "clients that do not log in may send here, and their mail is signed"
WHY_ONLY_CLIENT = (
    "clients that do not log in may send here, and only --client= in argv keeps their mail unsigned"
)
OPEN = "use --open to connect it anyway"


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield each service that lets strangers in, with the command that closes it.

    It is an error even if the filter leaves their mail unsigned because of the client address: that is a
    second line of defense, and submission services are not for strangers.
    """
    signer, name = filter_service.find(postconf), filter_service.name(postconf)
    known_clients_only = signer is not None and client_options.requires_known_client(
        filter_service.own_options(signer)
    )
    for service in postconf.running("smtpd"):
        content_filters = strangers.content_filters(postconf, service)
        fix = content_filters and _fix(postconf, service, content_filters)
        if fix:
            is_connected = name in [each.partition(":")[0] for each in content_filters]
            why = WHY_ONLY_CLIENT if known_clients_only and is_connected else WHY
            yield Finding(f"{service.id}: {why}", fix)


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError if there is an open service."""
    for finding in findings(postconf):
        raise ConfigError(finding.what, f"{finding.hint}\n{OPEN}")


def _fix(postconf: Postconf, service: Service, content_filters: list[str]) -> str:
    """Return the fix that keeps mail with these content filters unsigned; empty if it is unsigned already."""
    name = filter_service.name(postconf)
    if service in sources.submission_services(postconf):
        return postconf.command(strangers.closing_change(postconf, service.id))
    by_table = (each for each in content_filters if each != postconf.value("content_filter", service.id))
    if any(each.partition(":")[0] == name for each in by_table):
        return f"a table has FILTER {name} for strangers: limit it to your own clients"
    if not sources.another_filter_is_first(postconf, service):
        return ""
    if service.port not in networks.PUBLIC_PORTS:
        return postconf.command(strangers.closing_change(postconf, service.id))
    returning = [each for each in postconf.running("smtpd") if _may_receive_returned_mail(each)]
    if all(sources.passes_to(postconf, each.id, name) for each in returning):
        return f"let mail from outside return on a separate port, without content_filter={name}:dummy"
    return ""


def _may_receive_returned_mail(service: Service) -> bool:
    """Return whether a service may receive the mail that returns from another filter."""
    return service.port not in (*networks.PUBLIC_PORTS, *sources.SUBMISSION_PORTS)
