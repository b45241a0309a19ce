"""Settings that stop all mail: where services are looked for, limits of a transport, and free space.

postconf(1) accepts them, and the programs concerned start, but then wait for each other, or end at the first
message (src/qmgr/qmgr_transport.c), or reject each (src/smtpd/smtpd_check.c).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf, finding_for
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

# Programs that others look for in the directory public of the queue, and those that they look for in private.
_PUBLIC = ("cleanup", "flush", "nqmgr", "oqmgr", "pickup", "postlogd", "qmgr", "showq")
_TRANSPORTS = ("discard", "error", "lmtp", "local", "pipe", "smtp", "virtual")
_PRIVATE = (
    *_TRANSPORTS,
    *("anvil", "bounce", "dnsblog", "proxymap", "scache", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify"),
)
# Services without which no mail is accepted: the parameter with the name, and the rest of the line.
_NEEDED = {
    "cleanup_service_name": "unix n - n - 0 cleanup",
    "queue_service_name": "unix n - n 300 1 qmgr",
    "rewrite_service_name": "unix - - n - - trivial-rewrite",
}
# The settings of a single transport, by the ends of their names, with the lowest value of each.
_NUMBERS = {
    "destination_concurrency_failed_cohort_limit": 0,
    "destination_concurrency_limit": 0,
    "destination_recipient_limit": 0,
    "initial_destination_concurrency": 1,
    "delivery_slot_cost": 0,
    "delivery_slot_discount": 0,
    "delivery_slot_loan": 0,
    "minimum_delivery_slots": 0,
    "recipient_limit": 0,
    "extra_recipient_limit": 0,
    "recipient_refill_limit": 1,
}
_TIMES = {
    "destination_rate_delay": 0,
    "recipient_refill_delay": 1,
    "time_limit": 1,
    "transport_rate_delay": 0,
}
_ROOM = 1.5  # times message_size_limit: smtpd(8) rejects all mail with less


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the services that others do not find, invalid limits of transports, and too little space."""
    yield from _unreachable(postconf)
    for service in postconf.running(*_TRANSPORTS):
        yield from _limits(postconf, service)
    yield from _space(postconf)


def _unreachable(postconf: Postconf) -> Iterator[Finding]:
    """Yield the services that are missing, or have their socket in the wrong directory."""
    for parameter, columns in _NEEDED.items():
        name = postconf.value(parameter)
        if name and not any(service.name == name for service in postconf.services.values()):
            why = f"there is no service {name}, which all mail needs"
            yield finding_for(postconf, "-M", f"{name}/unix={name} {columns}", why)
    for service in postconf.services.values():
        if service.id.endswith("/inet"):
            continue
        is_private = service.private != "n"
        if service.command in (_PUBLIC if is_private else _PRIVATE):
            right = "n" if is_private else "y"
            what = (
                f"{service.id}: private is {service.private}: other programs do not find {service.command}(8)"
            )
            yield Finding(what, postconf.command(Change("-F", f"{service.id}/private={right}", "")))


def _limits(postconf: Postconf, service: Service) -> Iterator[Finding]:
    """Yield the settings of a transport with which qmgr(8) or the transport ends at its first message."""
    for parses, limits in ((postconf.number, _NUMBERS), (postconf.seconds, _TIMES)):
        for ending, lowest in limits.items():
            parameter = f"{service.name}_{ending}"
            if parameter not in postconf.explicit:
                continue
            try:
                if parses(parameter) >= lowest:
                    continue
                cause = f"{postconf.value(parameter)} is less than {lowest}"
                hint = postconf.setting_or_removal(parameter, "", "")
            except ConfigError as error:
                cause, hint = f"{postconf.value(parameter)} is not valid", error.hint
            program = f"{service.command}(8)" if ending == "time_limit" else "qmgr(8)"
            yield Finding(f"{parameter}: {cause}: {program} ends, and mail stays in the queue", hint)


def _space(postconf: Postconf) -> Iterator[Finding]:
    """Yield a finding if smtpd(8) rejects all mail because the file system of the queue is too full."""
    queue = postconf.value("queue_directory")
    try:
        found = os.statvfs(queue)
    except OSError:  # that is reported elsewhere
        return
    free = found.f_bavail * found.f_frsize
    faults: dict[tuple[str, str], list[str]] = {}
    for service in postconf.running("smtpd"):
        for parameter, factor in (("queue_minfree", 1), ("message_size_limit", _ROOM)):
            if postconf.number(parameter, service.id) * factor < free:
                continue
            is_own = parameter in postconf.overrides[service.id]
            place = f"{service.id}/{parameter}" if is_own else parameter
            is_set = is_own or parameter in postconf.explicit
            own = service.id if is_own else ""
            hint = f"# free some space there: df -h {queue}"
            if is_set:
                hint = f"# free some space there, or remove it {postconf.without(parameter, own)}:"
                hint += f"\n{postconf.removal(parameter, own)}"
            why = f"{place} = {postconf.value(parameter, service.id)}"
            faults.setdefault((why, hint), []).append(service.id)
    for (why, hint), services in faults.items():
        what = f"smtpd(8) rejects all mail while only {free >> 20} MiB are free in {queue}"
        yield Finding(f"{', '.join(services)}: {why}: {what}", hint)
