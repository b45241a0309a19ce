"""The settings that Postfix needs, and why; those missing in a configuration, as edits.

A value with the same effect as ours is accepted: the administrator's settings are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.postfix import (
    cleanup_service,
    filter_service,
    kinds,
    listener,
    networks,
    notices,
    strangers,
)
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION, Plan
from dkimpipe.admin.postfix.listener import SIZE_MARGIN
from dkimpipe.admin.postfix.networks import PUBLIC_PORTS
from dkimpipe.admin.postfix.postconf import Change, Postconf, Service
from dkimpipe.errors import ConfigError
from dkimpipe.guard import TIME_LIMIT
from dkimpipe.message import HEADER_LIMIT

PICKUP = "pickup/unix"  # receives mail from sendmail(1)
SUBMISSION_PORTS = ("submission", "submissions", "smtps", "587", "465")
RECIPIENTS = 1000  # per message; the default smtpd_recipient_limit

# Options with which the filter only passes mail on: it comes from a client that may not have it signed.
_UNSIGNED = ("--sign_clients=authenticated", "--login=", "--client=0.0.0.0")
_SCRIPT_SIZE = 1 << 20  # octets


class Setting(NamedTuple):
    """The value that a parameter should have, and the problem without it."""

    name: str
    value: str
    why: str


def plan(postconf: Postconf, job: Job = SIGN, sign: Sequence[str] = (), relay: bool = False) -> Plan:
    """Return what is to be set up: what is there already, these kinds of mail, and a relay if it is wanted.

    Mail from users is always signed. A new installation signs all kinds but local mail, where that is
    possible. Raises ConfigError if one of ``sign`` is not possible.
    """
    refuse_obstacles(postconf, sign)
    addresses = [listener.relay_of(postconf, each) for each in (job, filter_service.other(job))]
    used = kinds_in_use(postconf)
    signed = kinds.ordered([SUBMISSION, *used, *sign])
    if not (used or sign or filter_service.find(postconf)):
        signed = kinds.INITIAL if not networks.obstacle(postconf)[0] else (SUBMISSION, BOUNCES)
    if relay or addresses[0] or LOCAL in signed:
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
        SUBMISSION: any(passes_to(postconf, each.id, name) for each in postconf.running("smtpd")),
        NETWORKS: networks.in_use(postconf),
        BOUNCES: notices.in_use(postconf),
        LOCAL: is_local_filtered(postconf),
    }
    return tuple(kind for kind, is_used in in_use.items() if is_used)


def is_local_filtered(postconf: Postconf) -> bool:
    """Return whether mail from programs on this host passes to the filter that signs."""
    content_filter = postconf.overrides.get(pickup(postconf), {}).get("content_filter", "")
    return content_filter.partition(":")[0] == filter_service.name(postconf)


def _obstacle_to_local(postconf: Postconf) -> tuple[str, str]:
    """Return why mail from programs on this host cannot be signed, and a hint."""
    service = pickup(postconf)
    if other := foreign_filter(postconf, postconf.value("content_filter", service)):
        return f"{service}: {other} gets this mail, and a message can have only one filter", ""
    for pipe in postconf.running("pipe"):
        if _calls_sendmail(pipe) and _gets_mail_from_outside(postconf, pipe.name):
            words = [*_UNSIGNED, f"--relay={_relay_for_others(postconf)}"]
            command = [*filter_service.installed_command(SIGN), *words]
            return (
                f"{pipe.id}: mail from outside comes back from it by sendmail(1), and would be signed",
                "let it come back by SMTP: in place of sendmail and its options, let it run"
                f" {shlex.join(command)} -f SENDER -- RECIPIENT...",
            )
    return "", ""


def _relay_for_others(postconf: Postconf) -> str:
    """Return the listener through which the mail of another filter can come back."""
    addresses = filter(None, (listener.relay_of(postconf, job) for job in filter_service.JOBS))
    return next(addresses, "") or listener.unused_address(postconf)


def _calls_sendmail(pipe: Service) -> bool:
    """Return whether another filter calls sendmail(1), by its command line or by the text of its script."""
    if filter_service.command(pipe) or filter_service.program(pipe):
        return False
    words = [word for word in pipe.argv if not word.startswith(("--sendmail", "$"))]
    if any("--relay" in word for word in words):
        return False
    return any("sendmail" in word or "sendmail" in _script(word) for word in words)


def _script(path: str) -> str:
    """Return the text of a script; nothing for any other file."""
    try:
        octets = Path(path).read_bytes()[:_SCRIPT_SIZE] if path.startswith("/") else b""
    except OSError:
        return ""
    return octets.decode(errors="replace") if octets.startswith(b"#!") else ""


def _gets_mail_from_outside(postconf: Postconf, name: str) -> bool:
    """Return whether mail from strangers passes to a filter."""
    return any(
        name in [each.partition(":")[0] for each in strangers.content_filters(postconf, service)]
        for service in postconf.running("smtpd")
    )


def missing(postconf: Postconf, user: str, job: Job = SIGN, chosen: Plan | None = None) -> list[Change]:
    """Return the edits that this configuration needs for a job; none if it is complete.

    Without a plan: for what is set up, or for a new installation.
    """
    signed, relay = chosen or plan(postconf, job)
    with_client = job is SIGN and not guest_setting(postconf)
    changes = filter_service.missing(postconf, user, job, with_client, relay)
    if LOCAL in signed and filter_service.find(postconf, VERIFY):
        changes += filter_service.missing(postconf, VERIFY.name, VERIFY, relay=relay)
    is_mapped = bool({NETWORKS, BOUNCES} & {*signed})
    if relay:
        changes += listener.missing(postconf, relay, is_mapped)
    for service in services(postconf, job):
        changes += _overrides(service.id, _before_filter(postconf, service.id, job))
    if job is SIGN:
        changes += cleanup_service.missing(postconf, submission_services(postconf))
    if NETWORKS in signed:
        changes += networks.missing(postconf)
        for service in networks.services(postconf):
            changes += _overrides(service.id, _size_limit(postconf, service.id, SIGN))
    if BOUNCES in signed:
        changes += notices.missing(postconf)
    changes += _way_back(postconf, job, signed, not relay, is_mapped)
    settings = [*_transport(postconf, job), *(_main(postconf) if job is SIGN else ())]
    return changes + [Change("-e", f"{setting.name}={setting.value}", setting.why) for setting in settings]


def _way_back(
    postconf: Postconf, job: Job, signed: Sequence[str], by_pickup: bool, is_mapped: bool
) -> Iterator[Change]:
    """Yield the edits of pickup(8): for the second pass, if mail comes back that way, and for local mail."""
    service = pickup(postconf)
    if by_pickup and service in postconf.services:
        yield from _overrides(service, _pickup(postconf, service, job))
        yield from listener.returning(postconf, postconf.services[service], is_mapped)
    if LOCAL in signed and service in postconf.services:
        yield from _overrides(service, _local(postconf, service))


def _local(postconf: Postconf, service: str) -> Iterator[Setting]:
    """Yield the settings by which mail from programs on this host passes to the filter."""
    if not is_local_filtered(postconf):
        name = filter_service.name(postconf)
        yield Setting("content_filter", f"{name}:dummy", "mail from local programs is not signed")
    why = "aliases and always_bcc apply twice: duplicate mail"
    yield from _words(postconf, service, "receive_override_options", ["no_address_mappings"], why)


def pickup(postconf: Postconf) -> str:
    """Return the service that receives mail from sendmail(1): a fifo in old versions of Postfix."""
    return PICKUP if PICKUP in postconf.services or "pickup/fifo" not in postconf.services else "pickup/fifo"


def in_use(postconf: Postconf) -> list[Job]:
    """Return the jobs that are set up, at least in part; signing if there are none."""
    return [
        job
        for job in filter_service.JOBS
        if filter_service.find(postconf, job)
        or any(
            passes_to(postconf, each.id, filter_service.name(postconf, job))
            for each in postconf.running("smtpd")
        )
    ] or [SIGN]


def services(postconf: Postconf, job: Job) -> list[Service]:
    """Return the services whose mail a job handles."""
    return submission_services(postconf) if job is SIGN else inbound_services(postconf)


def guest_setting(postconf: Postconf) -> str:
    """Return the first setting that admits clients with neither a login nor an address in mynetworks.

    Their mail has to be signed, although pipe(8) passes neither a login nor an address in mynetworks.
    """
    found = ((each.id, strangers.guest_setting(postconf, each)) for each in submission_services(postconf))
    return next((f"{service}/{setting}" for service, setting in found if setting), "")


def inbound_services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is to be verified.

    They are those on port 25, also behind postscreen(8), and those with our filter; not those whose mail is
    signed, which are for users, nor those with another filter if ours is behind it.
    """
    name, signed = filter_service.name(postconf, VERIFY), submission_services(postconf)
    return [
        service
        for service in postconf.running("smtpd")
        if service not in (*signed, *listener.all_of(postconf))
        and (
            passes_to(postconf, service.id, name)
            or (service.port in PUBLIC_PORTS and not another_filter_is_first(postconf, service, VERIFY))
        )
    ]


def submission_services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is to be signed.

    They are the submission services, by port (RFC 6409, RFC 8314), and those with our filter, except a public
    port 25. Services with another filter are excluded if ours is behind it.
    """
    name = filter_service.name(postconf)
    listeners = listener.all_of(postconf)
    ours = [
        service
        for service in postconf.running("smtpd")
        if passes_to(postconf, service.id, name)
        and service not in listeners
        and not _is_public(postconf, service)
    ]
    return [
        service
        for service in postconf.running("smtpd")
        if service in ours
        or (service.port in SUBMISSION_PORTS and not another_filter_is_first(postconf, service))
    ]


def _is_public(postconf: Postconf, service: Service) -> bool:
    """Return whether this is port 25 and open to strangers."""
    return service.port in PUBLIC_PORTS and strangers.may_send(postconf, service)


def another_filter_is_first(postconf: Postconf, service: Service, job: Job = SIGN) -> bool:
    """Return whether mail passes another filter first, and returns to a service with ours."""
    name = filter_service.name(postconf, job)
    behind = any(
        passes_to(postconf, each.id, name) and each.port not in (*SUBMISSION_PORTS, *PUBLIC_PORTS)
        for each in postconf.running("smtpd")
    )
    content_filter = postconf.value("content_filter", service.id)
    return behind and bool(
        foreign_filter(postconf, content_filter) or postconf.value("smtpd_proxy_filter", service.id)
    )


def another_filter(postconf: Postconf, service: Service, job: Job = SIGN) -> str:
    """Return the content_filter of a service itself, if it is not ours and exists in master.cf.

    For mail to be verified, one in main.cf and a proxy filter count as well: the mail would pass both.
    """
    if job is SIGN:
        return foreign_filter(postconf, postconf.own("content_filter", service.id))
    proxy = postconf.value("smtpd_proxy_filter", service.id)
    return foreign_filter(postconf, postconf.value("content_filter", service.id)) or proxy


def foreign_filter(postconf: Postconf, content_filter: str) -> str:
    """Return this content_filter if it is neither of ours and exists in master.cf; otherwise nothing."""
    transport = content_filter.partition(":")[0]
    ours = [filter_service.name(postconf, job) for job in filter_service.JOBS]
    return content_filter if transport not in ours and f"{transport}/unix" in postconf.services else ""


def passes_to(postconf: Postconf, service: str, name: str) -> bool:
    """Return whether a service passes mail to a filter; main.cf counts only if pickup overrides it."""
    pickup_overrides = "content_filter" in postconf.overrides.get(pickup(postconf), {})
    content_filter = (postconf.value if pickup_overrides else postconf.own)("content_filter", service)
    return content_filter.partition(":")[0] == name


def _before_filter(postconf: Postconf, service: str, job: Job) -> Iterator[Setting]:
    """Yield the settings that a service needs to pass its mail to a filter."""
    name, content_filter = filter_service.name(postconf, job), postconf.value("content_filter", service)
    if not passes_to(postconf, service, name):
        if not another_filter(postconf, postconf.services[service], job):
            yield Setting("content_filter", f"{name}:dummy", f"nothing is {job.participle}")
    elif content_filter in (name, f"{name}:") and not postconf.value("default_filter_nexthop", service):
        why = f"mail to several domains is {job.participle} and sent once per domain"
        yield Setting("content_filter", f"{name}:dummy", why)
    yield from _words(
        postconf,
        service,
        "receive_override_options",
        ["no_address_mappings"],
        "aliases and always_bcc apply twice: duplicate mail",
    )
    if job is SIGN:
        yield from _submission(postconf, service)
    else:
        why = "senders request notifications that get lost"
        yield from _words(postconf, service, "smtpd_discard_ehlo_keywords", ["dsn"], why, ["silent-discard"])
    yield from _size_limit(postconf, service, job)


def _size_limit(postconf: Postconf, service: str, job: Job) -> Iterator[Setting]:
    """Yield a limit for the first pass that leaves room for what the filter adds."""
    places = ("", pickup(postconf))  # for sendmail(1) and pickup(8)
    limit = min(filter(None, (postconf.number("message_size_limit", place) for place in places)), default=0)
    own = postconf.number("message_size_limit", service)
    if limit and not 0 < own <= max(1, limit - SIZE_MARGIN // 4):  # 0: none
        why = {SIGN: "its signatures", VERIFY: "its results"}[job]
        why = f"{why} make mail exceed the limit"
        yield Setting("message_size_limit", str(max(1, limit - SIZE_MARGIN)), why)


def _submission(postconf: Postconf, service: str) -> Iterator[Setting]:
    """Yield the EHLO keywords that a service for mail from users should not offer."""
    words = ["dsn", "smtputf8"] if _smtputf8(postconf, service) else ["dsn"]
    why = "senders request notifications that get lost, and SMTPUTF8, which few hosts accept"
    yield from _words(postconf, service, "smtpd_discard_ehlo_keywords", words, why, ["silent-discard"])


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
    return [Change("-P", f"{service}/{setting.name}={setting.value}", setting.why) for setting in settings]
