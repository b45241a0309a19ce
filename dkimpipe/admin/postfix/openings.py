"""Services through which mail from strangers reaches the filter that signs: reported and refused."""

from __future__ import annotations

from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import client_options, filter_service, requirements, strangers
from dkimpipe.admin.postfix.postconf import Postconf, Service
from dkimpipe.errors import ConfigError

WHY = "clients that do not log in may send here, and their mail is signed"
LOCKED = "clients that do not log in may send here, and only --client= in argv keeps their mail unsigned"
OPEN = "use --open to connect it anyway"


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield each service that lets strangers in, with the command that closes it.

    It is an error even if the filter leaves their mail unsigned by the client address: that is a second line
    of defense, and submission services are not for strangers.
    """
    signer = filter_service.find(postconf)
    is_locked = signer is not None and client_options.is_locked(filter_service.own_options(signer))
    signs = filter_service.name(postconf)
    for service in postconf.running("smtpd"):
        roads = strangers.roads(postconf, service)
        fix = roads and _fix(postconf, service, roads)
        if fix:
            is_connected = signs in [road.partition(":")[0] for road in roads]
            yield Finding(f"{service.id}: {LOCKED if is_locked and is_connected else WHY}", fix)


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError if mail from strangers would be signed."""
    for finding in findings(postconf):
        raise ConfigError(finding.what, f"{finding.hint}\n{OPEN}")


def _fix(postconf: Postconf, service: Service, roads: list[str]) -> str:
    """Return the fix that keeps mail with these content filters unsigned; empty if it is not signed."""
    signs = filter_service.name(postconf)
    if service in requirements.submission_services(postconf):
        return postconf.command(strangers.closing(postconf, service.id))
    by_table = (road for road in roads if road != postconf.value("content_filter", service.id))
    if any(road.partition(":")[0] == signs for road in by_table):
        return f"a table has FILTER {signs} for strangers: limit it to your own clients"
    if not requirements.goes_elsewhere(postconf, service):
        return ""
    if service.port not in requirements.PUBLIC_PORTS:
        return postconf.command(strangers.closing(postconf, service.id))
    back = [each for each in postconf.running("smtpd") if _takes_back(each)]
    if all(requirements.passes_to(postconf, each.id, signs) for each in back):
        return f"let mail from outside return on a separate port, without content_filter={signs}:dummy"
    return ""


def _takes_back(service: Service) -> bool:
    """Return whether a service may receive the mail that returns from another filter."""
    return service.port not in (*requirements.PUBLIC_PORTS, *requirements.SUBMISSION_PORTS)
