"""Header fields that main.cf rewrites: canonical_maps and masquerade_domains, before they are signed.

Where aliases must not apply before the filter, no_address_mappings switches off this rewriting as well, and
after the filter header fields stay as they were signed. A cleanup(8) service without aliases and copies, in
place of no_address_mappings, keeps the rewriting. Mail from mynetworks and notices have it anyway: aliases
apply to them before the filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import cleanup_service, filter_service, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service

NAME = "dkimpipe-rewrite"
# The parameters that rewrite header fields, each with the one that says where.
PARAMETERS = {
    "canonical_maps": "canonical_classes",
    "sender_canonical_maps": "sender_canonical_classes",
    "recipient_canonical_maps": "recipient_canonical_classes",
    "masquerade_domains": "masquerade_classes",
}
_OPTIONS, _NO_MAPPINGS = "receive_override_options", "no_address_mappings"
_SERVICE_NAME = "cleanup_service_name"
_CLIENTS = "local_header_rewrite_clients"


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield the settings of main.cf that do not rewrite the header fields of mail to be signed any more."""
    for service in _services(postconf):
        if names := _without_effect(postconf, service):
            verb = "rewrites" if len(names) == 1 else "rewrite"
            what = (
                f"{service.id}: {', '.join(names)} no longer {verb} the header fields of this mail,"
                " only its envelope"
            )
            commands = map(postconf.command, _keeping(postconf, service))
            hint = "\n".join(["# to rewrite them before they are signed:", *commands])
            yield Finding(what, hint, "warning")


def is_set(postconf: Postconf) -> bool:
    """Return whether anything rewrites header fields."""
    return any(map(postconf.value, PARAMETERS))


def _services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is signed, and has no aliases before the filter."""
    found = sources.submission_services(postconf)
    pickup = sources.pickup(postconf)
    if pickup in postconf.services and sources.is_local_filtered(postconf):
        found = [*found, postconf.services[pickup]]
    return found


def _without_effect(postconf: Postconf, service: Service) -> list[str]:
    """Return the parameters that would rewrite header fields of mail from a service without the filter."""
    name = filter_service.name(postconf)
    is_mapped = _NO_MAPPINGS not in map(str.lower, postconf.words(_OPTIONS, service.id))
    is_local = service.command != "smtpd" or bool(postconf.words(_CLIENTS, service.id))
    if is_mapped or not is_local or not sources.passes_to(postconf, service.id, name):
        return []
    cleanup = f"{postconf.value(_SERVICE_NAME, service.id)}/unix"
    return [
        parameter
        for parameter, classes in PARAMETERS.items()
        if postconf.value(parameter, cleanup) and "header" in postconf.value(classes, cleanup)
    ]


def _keeping(postconf: Postconf, service: Service) -> Iterator[Change]:
    """Yield the edits by which header fields are rewritten before they are signed, and aliases are not."""
    used = postconf.value(_SERVICE_NAME, service.id)
    settings = dict.fromkeys(cleanup_service.MAPPINGS, "")
    others = [each for each in postconf.services.values() if each not in _services(postconf)]
    if any(postconf.value(_SERVICE_NAME, each.id) == used for each in others):
        if f"{NAME}/unix" not in postconf.services:
            yield cleanup_service.copy(postconf, NAME, used, settings, "")
        yield Change("-P", f"{service.id}/{_SERVICE_NAME}={NAME}", "")
    else:
        yield from (Change("-P", f"{used}/unix/{name}={value}", "") for name, value in settings.items())
    words = [word for word in postconf.words(_OPTIONS, service.id) if word.lower() != _NO_MAPPINGS]
    yield Change("-P", f"{service.id}/{_OPTIONS}={','.join(words)}", "")
