"""The settings that Postfix needs, and why; those missing in a configuration, as edits.

A value with the same effect as ours is accepted: the administrator's settings are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.admin.postfix import (
    cleanup_service,
    disabled,
    dkimproxy,
    filter_service,
    listener,
    networks,
    notices,
    other_filters,
    planning,
    service_line,
    sources,
)
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, Plan
from dkimpipe.admin.postfix.listener import SIZE_MARGIN
from dkimpipe.admin.postfix.networks import PUBLIC_PORTS
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.guard import TIME_LIMIT
from dkimpipe.message import HEADER_LIMIT

_REPLACED = "DKIMproxy gets this mail, and dkimpipe replaces it"
_LOST = "senders request notifications that get lost"
_DISCARDED = "smtpd_discard_ehlo_keywords"
_BY_SENDMAIL = "smtputf8,silent-discard"  # the end of what it is set to where mail comes back by sendmail(1)
RECIPIENTS = 1000  # per message; the default smtpd_recipient_limit


class Setting(NamedTuple):
    """The value that a parameter should have, the problem without it, and its level."""

    name: str
    value: str
    why: str
    level: str = "error"


def missing(postconf: Postconf, user: str, job: Job = SIGN, chosen: Plan | None = None) -> list[Change]:
    """Return the edits that this configuration needs for a job; none if it is complete.

    Without a plan: for what is set up, or for a new installation.
    """
    chosen = chosen or planning.plan(postconf, job)
    signed, relay = chosen
    with_client = job is SIGN and not sources.guest_setting(postconf)
    changes = service_line.missing(postconf, user, job, with_client, relay)
    other = filter_service.other(job)
    is_moved = bool(listener.relay_of(postconf, other)) and not listener.usable_relay_of(postconf, other)
    if filter_service.find(postconf, other) and is_moved:
        changes += service_line.missing(postconf, other.name, other, relay=relay)
    elif LOCAL in signed and filter_service.find(postconf, VERIFY):
        changes += service_line.missing(postconf, VERIFY.name, VERIFY, relay=relay)
    is_mapped = bool({NETWORKS, BOUNCES} & {*signed})
    if relay:
        changes += [*listener.missing(postconf, relay, is_mapped), *listener.replaced(postconf)]
    first = sources.before_another_filter(postconf, job)
    for service in sources.of(postconf, job):
        changes += _overrides(service.id, _before_filter(postconf, service.id, job, relay))
        if first and service.port not in (*sources.SUBMISSION_PORTS, *PUBLIC_PORTS):
            changes += _without_limit(postconf, service.id, first)
        else:
            changes += _overrides(service.id, _size_limit(postconf, service.id, job))
    for service in first:
        changes += _overrides(service.id, _size_limit(postconf, service.id, job))
    if job is SIGN:
        changes += cleanup_service.missing(postconf, sources.submission_services(postconf))
    if NETWORKS in signed:
        changes += networks.missing(postconf)
        for service in networks.services(postconf):
            changes += _overrides(service.id, _size_limit(postconf, service.id, SIGN))
    if BOUNCES in signed:
        changes += notices.missing(postconf)
    changes += _way_back(postconf, job, signed, not relay, is_mapped)
    changes += _without_dkimproxy(postconf, job)
    changes += disabled.changes(postconf, job, chosen)
    settings = [*_transport(postconf, job), *(_main(postconf) if job is SIGN else ())]
    return changes + [Change("-e", f"{setting.name}={setting.value}", setting.why) for setting in settings]


def _way_back(
    postconf: Postconf, job: Job, signed: Sequence[str], by_pickup: bool, is_mapped: bool
) -> Iterator[Change]:
    """Yield the edits of pickup(8): for the second pass, if mail comes back that way, and for local mail."""
    service = sources.pickup(postconf)
    if by_pickup and service in postconf.services:
        yield from _overrides(service, _pickup(postconf, service, job))
        yield from listener.returning(postconf, postconf.services[service], is_mapped)
    if LOCAL in signed and service in postconf.services:
        yield from _overrides(service, _local(postconf, service))


def _without_dkimproxy(postconf: Postconf, job: Job) -> Iterator[Change]:
    """Yield the edits by which no other service passes mail to DKIMproxy."""
    connected = [*(each.id for each in sources.of(postconf, job)), sources.pickup(postconf)]
    for place in dkimproxy.fed(postconf, job):
        if not place:
            yield Change("-X", "content_filter", _REPLACED)
        elif place not in connected:
            yield Change("-PX", f"{place}/content_filter", _REPLACED)


def _local(postconf: Postconf, service: str) -> Iterator[Setting]:
    """Yield the settings by which mail from programs on this host passes to the filter."""
    if not sources.is_local_filtered(postconf):
        name, content_filter = filter_service.name(postconf), postconf.value("content_filter", service)
        replaced = dkimproxy.is_replaced(postconf, content_filter, SIGN)
        why = _REPLACED if replaced else "mail from local programs is not signed"
        yield Setting("content_filter", f"{name}:dummy", why)
    yield from _no_mappings(postconf, service)


def _no_mappings(postconf: Postconf, service: str) -> Iterator[Setting]:
    """Yield the setting by which aliases do not apply before the filter."""
    if not cleanup_service.maps_nothing(postconf, service):
        why = "aliases and always_bcc apply twice: duplicate mail"
        yield from _words(postconf, service, "receive_override_options", ["no_address_mappings"], why)


def _before_filter(postconf: Postconf, service: str, job: Job, relay: str) -> Iterator[Setting]:
    """Yield the settings that a service needs to pass its mail to a filter."""
    name, content_filter = filter_service.name(postconf, job), postconf.value("content_filter", service)
    if not sources.passes_to(postconf, service, name):
        if not sources.another_filter(postconf, postconf.services[service], job):
            replaced = dkimproxy.is_replaced(postconf, content_filter, job)
            why = _REPLACED if replaced else f"nothing is {job.participle}"
            yield Setting("content_filter", f"{name}:dummy", why)
    elif content_filter in (name, f"{name}:") and not postconf.value("default_filter_nexthop", service):
        why = f"mail to several domains is {job.participle} and sent once per domain"
        yield Setting("content_filter", f"{name}:dummy", why)
    yield from _no_mappings(postconf, service)
    if dkimproxy.is_replaced(postconf, postconf.value("smtpd_proxy_filter", service), job):
        yield Setting("smtpd_proxy_filter", "", _REPLACED)
    if job is SIGN:
        yield from _submission(postconf, service, relay)
    else:
        yield from _words(postconf, service, _DISCARDED, ["dsn"], _LOST, ["silent-discard"])


def _size_limit(postconf: Postconf, service: str, job: Job) -> Iterator[Setting]:
    """Yield a limit for the first pass that leaves room for what the filter adds."""
    places = ("", sources.pickup(postconf))  # for sendmail(1) and pickup(8)
    limit = min(filter(None, (postconf.number("message_size_limit", place) for place in places)), default=0)
    own = postconf.number("message_size_limit", service)
    if limit and not 0 < own <= max(1, limit - SIZE_MARGIN // 4):  # 0: none
        why = {SIGN: "its signatures", VERIFY: "its results"}[job]
        why = f"{why} make mail exceed the limit"
        yield Setting("message_size_limit", str(max(1, limit - SIZE_MARGIN)), why)


def _without_limit(postconf: Postconf, service: str, first: list[Service]) -> Iterator[Change]:
    """Yield the edit that removes the limit of a service where mail returns from another filter.

    That filter adds something as well: what exceeds the limit here was accepted from the client, and bounces.
    """
    own = postconf.number("message_size_limit", service)
    limits = [postconf.number("message_size_limit", each.id) for each in first]
    is_own = bool(postconf.own("message_size_limit", service))
    if is_own and own and (not all(limits) or own < max(limits) + SIZE_MARGIN // 4):
        why = "mail that was accepted and returns from another filter exceeds it, and bounces"
        yield Change("-PX", f"{service}/message_size_limit", why)


def _submission(postconf: Postconf, service: str, relay: str) -> Iterator[Setting]:
    """Yield the EHLO keywords that a service for mail from users should not offer.

    SMTPUTF8 is offered where the way back can request it again. What withholds it there from the days of
    sendmail(1) is removed, but not a list of the administrator's own.
    """
    transport = postconf.value("content_filter", service).partition(":")[0]
    pipe = postconf.services.get(f"{transport}/unix")
    is_other = pipe is not None and pipe.command == "pipe" and other_filters.calls_sendmail(pipe)
    is_offered = not is_other and listener.offers_smtputf8(postconf, relay)
    value = postconf.overrides.get(service, {}).get(_DISCARDED, "")
    if is_offered and value.endswith(_BY_SENDMAIL):
        why = "addresses that are not ASCII are refused, although the way back by SMTP takes them"
        yield Setting(_DISCARDED, value.replace(_BY_SENDMAIL, "silent-discard"), why, "warning")
    elif is_offered or not _smtputf8(postconf, service):
        yield from _words(postconf, service, _DISCARDED, ["dsn"], _LOST, ["silent-discard"])
    else:
        why = f"{_LOST}, and SMTPUTF8, which few hosts accept"
        yield from _words(postconf, service, _DISCARDED, ["dsn", "smtputf8"], why, ["silent-discard"])


def _smtputf8(postconf: Postconf, service: str) -> bool:
    """Return whether a service accepts SMTPUTF8 mail, or would with a higher compatibility_level."""
    return "no" not in (postconf.own("smtputf8_enable", service), postconf.own("smtputf8_enable"))


def _pickup(postconf: Postconf, service: str, job: Job) -> Iterator[Setting]:
    current = postconf.words("receive_override_options", service)
    kept = [word for word in current if word.lower() != "no_address_mappings"]
    new = [word for word in ("no_header_body_checks", "no_milters") if word not in map(str.lower, current)]
    reasons = [f"{job.participle} mail is checked, changed or signed again"] if new else []
    if kept != current:
        reasons.append("with no_address_mappings aliases apply neither before nor after the filter")
    if reasons:
        yield Setting("receive_override_options", ",".join([*kept, *new]), "; ".join(reasons))
    classes = {"sendmail", "all"}.intersection(postconf.words("smtputf8_autodetect_classes", service))
    if classes and _smtputf8(postconf, service):
        why = f"an 8-bit Subject makes {job.participle} mail SMTPUTF8, which many hosts reject"
        yield Setting("smtputf8_autodetect_classes", "verify", why)


def _transport(postconf: Postconf, job: Job) -> Iterator[Setting]:
    """Yield the limits of the filter service that are too low."""
    name = filter_service.name(postconf, job)
    own = f"{name}_time_limit"  # unknown until the service exists
    service = f"{name}/unix"
    if (
        postconf.seconds(own if postconf.value(own, service) else "command_time_limit", service)
        < TIME_LIMIT + 10
    ):
        why = f"Postfix kills the filter before the filter's own time limit of {TIME_LIMIT} s"
        yield Setting(own, f"{TIME_LIMIT + 20}s", why)
    number = filter_service.recipient_limit(postconf, job)
    if 0 < number < RECIPIENTS:
        yield Setting(
            f"{name}_destination_recipient_limit",
            str(RECIPIENTS),
            f"one message to many is {job.participle} and sent once per {number} recipients",
        )


def _main(postconf: Postconf) -> Iterator[Setting]:
    """Yield the settings that prevent changes after signing."""
    converted = postconf.value("force_mime_input_conversion") == "yes"  # Postfix 3.9: before the filter
    clients = postconf.running("smtp")
    everywhere = clients and all(
        postconf.own("disable_mime_output_conversion", each.id) == "yes" for each in clients
    )
    by_default = postconf.value("disable_mime_output_conversion")
    if by_default != "yes" and not everywhere and not converted:
        why = "8-bit text is converted after signing for old next hops"
        yield Setting("disable_mime_output_conversion", "yes", why)
    if postconf.number("header_size_limit") < HEADER_LIMIT:
        why = "a header field near the limit exceeds it and is truncated after signing"
        yield Setting("header_size_limit", str(HEADER_LIMIT), why)


def _words(
    postconf: Postconf, service: str, name: str, words: list[str], why: str, also: list[str] | None = None
) -> Iterator[Setting]:
    """Yield a list with these words added, if any is missing; its own words are kept."""
    current = postconf.words(name, service)
    lower = [word.lower() for word in current]
    if not set(words) <= set(lower):
        new = [word for word in [*words, *(also or [])] if word not in lower]
        yield Setting(name, ",".join([*current, *new]), why)


def _overrides(service: str, settings: Iterator[Setting]) -> list[Change]:
    return [Change("-P", f"{service}/{each.name}={each.value}", each.why, each.level) for each in settings]
