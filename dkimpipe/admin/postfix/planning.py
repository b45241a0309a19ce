"""The plan: which kinds of mail are signed, which are to be, what is in the way, and how mail comes back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dkimpipe.admin.postfix import (
    dkimproxy,
    filter_service,
    kinds,
    listener,
    networks,
    notices,
    other_filters,
    other_relays,
    sources,
    strangers,
)
from dkimpipe.admin.postfix.filter_service import SIGN, Job
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION, Plan
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError


def plan(postconf: Postconf, job: Job = SIGN, sign: Sequence[str] = (), relay: bool = False) -> Plan:
    """Return what is to be set up: what is there already, these kinds of mail, and a relay if it is wanted.

    Mail from users is always signed. A new installation signs all kinds but local mail, where that is
    possible. Raises ConfigError if one of ``sign`` is not possible.
    """
    refuse_obstacles(postconf, sign)
    addresses = [listener.relay_of(postconf, each) for each in (job, filter_service.other(job))]
    used = kinds_in_use(postconf)
    by_dkimproxy = _signed_by_dkimproxy(postconf)
    refuse_obstacles(postconf, by_dkimproxy)
    signed = kinds.ordered([SUBMISSION, *used, *sign, *by_dkimproxy])
    if not (used or sign or filter_service.find(postconf)):
        initial = kinds.INITIAL if not networks.obstacle(postconf)[0] else (SUBMISSION, BOUNCES)
        signed = kinds.ordered([*signed, *initial])
    if relay or addresses[0] or LOCAL in signed:
        addresses = [listener.usable_relay_of(postconf, each) for each in (job, filter_service.other(job))]
        theirs = dkimproxy.relay(job)
        if theirs and listener.find(postconf, theirs):
            addresses.append(theirs)
        address = next(filter(None, addresses), "") or listener.unused_address(postconf)
    else:
        address = ""
    return Plan(signed if job is SIGN else (), address)


def refuse_obstacles(postconf: Postconf, signed: Sequence[str]) -> None:
    """Raise ConfigError if mail of one of these kinds cannot be signed."""
    for kind in signed:
        cause, hint = obstacle(postconf, kind)
        if cause:
            raise ConfigError(f"--sign {kind}: {cause}", hint)


def obstacle(postconf: Postconf, kind: str) -> tuple[str, str]:
    """Return why mail of a kind cannot be signed, and a hint; two empty strings if it can."""
    if kind == NETWORKS:
        return networks.obstacle(postconf)
    return _obstacle_to_local(postconf) if kind == LOCAL else ("", "")


def kinds_in_use(postconf: Postconf) -> tuple[str, ...]:
    """Return the kinds of mail that pass to the filter that signs."""
    name = filter_service.name(postconf)
    in_use = {
        SUBMISSION: any(sources.passes_to(postconf, each.id, name) for each in postconf.running("smtpd")),
        NETWORKS: networks.in_use(postconf),
        BOUNCES: notices.in_use(postconf),
        LOCAL: sources.is_local_filtered(postconf),
    }
    return tuple(kind for kind, is_used in in_use.items() if is_used)


def _signed_by_dkimproxy(postconf: Postconf) -> list[str]:
    """Return the kinds of mail that DKIMproxy signs so far, by content_filter."""

    def passes(services: list[Service]) -> bool:
        filters = (postconf.value("content_filter", each.id) for each in services)
        return any(dkimproxy.is_replaced(postconf, each, SIGN) for each in filters)

    pickup = postconf.services.get(sources.pickup(postconf))
    is_signed = {NETWORKS: passes(networks.services(postconf)), LOCAL: passes([pickup] if pickup else [])}
    return [kind for kind, is_so in is_signed.items() if is_so]


def _obstacle_to_local(postconf: Postconf) -> tuple[str, str]:
    """Return why mail from programs on this host cannot be signed, and a hint."""
    service = sources.pickup(postconf)
    if other := sources.foreign_filter(postconf, postconf.value("content_filter", service)):
        return f"{service}: {other} gets this mail, and a message can have only one filter", ""
    for pipe in postconf.running("pipe"):
        if other_filters.calls_sendmail(pipe) and gets_mail_from_outside(postconf, pipe.name):
            return (
                f"{pipe.id}: mail from outside comes back from it by sendmail(1), and would be signed",
                _by_smtp(postconf, _relay_for_others(postconf)),
            )
    return "", ""


def _by_smtp(postconf: Postconf, address: str) -> str:
    """Return how the mail of another filter comes back by SMTP: first of all, there has to be a listener."""
    words = [*filter_service.installed_command(SIGN), *other_filters.UNSIGNED, f"--relay={address}"]
    edit = (
        "let it come back by SMTP: in place of sendmail and its options, let it run"
        f" {shlex.join(words)} -f SENDER -- RECIPIENT..."
    )
    commands = other_relays.listener_commands(postconf, address)
    if not commands:
        return edit
    return "\n".join([f"create the listener {address}, and reload Postfix:", *commands, f"then {edit}"])


def _relay_for_others(postconf: Postconf) -> str:
    """Return the listener through which the mail of another filter can come back."""
    addresses = filter(None, (listener.usable_relay_of(postconf, job) for job in filter_service.JOBS))
    return next(addresses, "") or listener.unused_address(postconf)


def gets_mail_from_outside(postconf: Postconf, name: str) -> bool:
    """Return whether mail from strangers passes to a filter."""
    return any(
        name in [each.partition(":")[0] for each in strangers.content_filters(postconf, service)]
        for service in postconf.running("smtpd")
    )
