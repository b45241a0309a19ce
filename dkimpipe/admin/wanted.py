"""What Postfix must be told, and why. What a configuration lacks of it follows, as edits.

A value that does the same as ours is as good: what the owner of the configuration wrote stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin import filter_service
from dkimpipe.admin.postconf import Change, Postconf, Service
from dkimpipe.guard import TIME_LIMIT
from dkimpipe.message import HEADER_LIMIT

PICKUP = "pickup/unix"  # takes what sendmail(1) is given
PUBLIC_PORTS = ("smtp", "25", "smtpd")
SUBMISSION_PORTS = ("submission", "submissions", "smtps", "587", "465")
SIZE_MARGIN = 16384  # octets by which signatures may lengthen a message
RECIPIENTS = 1000  # Postfix itself takes no more in one message, if smtpd_recipient_limit is its default


class Lack(NamedTuple):
    """A parameter that should have another value, and why."""

    name: str
    value: str
    why: str


def missing(postconf: Postconf, user: str) -> list[Change]:
    """Return the edits that this configuration needs; none if all stands there already."""
    name = filter_service.name(postconf)
    changes = filter_service.missing(postconf, user)
    for service in submission_services(postconf):
        changes += _overrides(service.id, _submission(postconf, service.id, name))
    if pickup(postconf) in postconf.services:
        changes += _overrides(pickup(postconf), _pickup(postconf, pickup(postconf)))
    changes += [Change("-e", f"{lack.name}={lack.value}", lack.why) for lack in _main(postconf, name)]
    return changes


def pickup(postconf: Postconf) -> str:
    """Return the service that takes what sendmail(1) is given; it was a fifo in old versions."""
    return PICKUP if PICKUP in postconf.services or "pickup/fifo" not in postconf.services else "pickup/fifo"


def submission_services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is to be signed.

    They are those for mail from users, by their port (RFC 6409, RFC 8314), and those that have our filter,
    but for a public port 25. Those that have another filter are left to it, if ours stands behind it.
    """
    name = filter_service.name(postconf)
    ours = [
        service
        for service in postconf.running("smtpd")
        if passes_to(postconf, service.id, name) and not _is_public(postconf, service)
    ]
    return [
        service
        for service in postconf.running("smtpd")
        if service in ours or (service.port in SUBMISSION_PORTS and not goes_elsewhere(postconf, service))
    ]


def _is_public(postconf: Postconf, service: Service) -> bool:
    """Tell whether strangers can send here: on port 25, if no list of restrictions ends in a reject."""
    lists = (f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender", "relay", "recipient"))
    return service.port in PUBLIC_PORTS and not any(
        postconf.words(each, service.id)[-1:] == ["reject"] for each in lists
    )


def goes_elsewhere(postconf: Postconf, service: Service) -> bool:
    """Tell whether mail goes through another filter first, and comes back where ours is the next one."""
    name = filter_service.name(postconf)
    behind = any(
        passes_to(postconf, each.id, name) and each.port not in (*SUBMISSION_PORTS, *PUBLIC_PORTS)
        for each in postconf.running("smtpd")
    )
    road = postconf.value("content_filter", service.id)
    return behind and bool(_another(postconf, road) or postconf.value("smtpd_proxy_filter", service.id))


def another_filter(postconf: Postconf, service: Service) -> str:
    """Return the content_filter of a service itself, if it is not ours and there is such a service."""
    return _another(postconf, postconf.own("content_filter", service.id))


def _another(postconf: Postconf, road: str) -> str:
    transport = road.partition(":")[0]
    is_another = transport != filter_service.name(postconf) and f"{transport}/unix" in postconf.services
    return road if is_another else ""


def passes_to(postconf: Postconf, service: str, name: str) -> bool:
    """Tell whether a service passes its mail to this filter. Main.cf for all counts if pickup is excepted."""
    excepted = "content_filter" in postconf.overrides.get(pickup(postconf), {})
    road = (postconf.value if excepted else postconf.own)("content_filter", service)
    return road.partition(":")[0] == name


def _submission(postconf: Postconf, service: str, name: str) -> Iterator[Lack]:
    def value(parameter: str) -> str:
        return postconf.value(parameter, service)

    if not passes_to(postconf, service, name) and not another_filter(postconf, postconf.services[service]):
        yield Lack("content_filter", f"{name}:dummy", "nothing is signed")
    elif value("content_filter") in (name, f"{name}:") and not value("default_filter_nexthop"):
        why = "mail to several domains is signed and sent once per domain"
        yield Lack("content_filter", f"{name}:dummy", why)
    yield from _words(
        postconf,
        service,
        "receive_override_options",
        ["no_address_mappings"],
        "aliases and always_bcc apply twice: doubled mail",
    )
    clients = postconf.words("local_header_rewrite_clients", service)
    adds = {"static:all", "permit_sasl_authenticated"}.intersection(clients)
    if not adds and value("always_add_missing_headers") != "yes":
        why = "missing Date and Message-ID stay missing, and unsigned"
        yield Lack("local_header_rewrite_clients", "static:all", why)
    words = ["dsn", "smtputf8"] if _smtputf8(postconf, service) else ["dsn"]
    why = "senders ask for notices that get lost, and for SMTPUTF8 that few hosts take"
    yield from _words(postconf, service, "smtpd_discard_ehlo_keywords", words, why, ["silent-discard"])
    places = ("", pickup(postconf))  # sendmail(1) and pickup(8)
    limit = min(filter(None, (postconf.number("message_size_limit", place) for place in places)), default=0)
    own = postconf.number("message_size_limit", service)
    if limit and not 0 < own <= max(1, limit - SIZE_MARGIN // 4):  # 0: none
        why = "mail grows past the limit by its signatures"
        yield Lack("message_size_limit", str(max(1, limit - SIZE_MARGIN)), why)


def _smtputf8(postconf: Postconf, service: str) -> bool:
    """Tell whether a service takes SMTPUTF8 mail, or would with a higher compatibility_level."""
    return "no" not in (postconf.own("smtputf8_enable", service), postconf.own("smtputf8_enable"))


def _pickup(postconf: Postconf, service: str) -> Iterator[Lack]:
    standing = postconf.words("receive_override_options", service)
    kept = [word for word in standing if word.lower() != "no_address_mappings"]
    new = [word for word in ("no_header_body_checks", "no_milters") if word not in map(str.lower, standing)]
    whys = ["signed mail is checked, changed or signed again"] if new else []
    if kept != standing:
        whys.append("with no_address_mappings aliases apply neither before nor after the filter")
    if whys:
        yield Lack("receive_override_options", ",".join([*kept, *new]), "; ".join(whys))
    classes = {"sendmail", "all"}.intersection(postconf.words("smtputf8_autodetect_classes", service))
    if classes and _smtputf8(postconf, service):
        why = "an 8-bit Subject makes signed mail SMTPUTF8, which hosts bounce"
        yield Lack("smtputf8_autodetect_classes", "verify", why)


def _main(postconf: Postconf, name: str) -> Iterator[Lack]:
    own = f"{name}_time_limit"  # not known before there is the service
    service = f"{name}/unix"
    if (
        postconf.seconds(own if postconf.value(own, service) else "command_time_limit", service)
        < TIME_LIMIT + 10
    ):
        why = f"Postfix kills the filter before it gives up by itself, after {TIME_LIMIT} s"
        yield Lack(own, f"{TIME_LIMIT + 20}s", why)
    own = f"{name}_destination_recipient_limit"
    number = postconf.number(own if postconf.value(own) else "default_destination_recipient_limit")
    if 0 < number < RECIPIENTS:  # 0: no limit
        yield Lack(
            own, str(RECIPIENTS), f"one message to many is signed and sent once per {number} recipients"
        )
    converted = postconf.value("force_mime_input_conversion") == "yes"  # Postfix 3.9: before the filter
    clients = postconf.running("smtp")
    everywhere = clients and all(
        postconf.own("disable_mime_output_conversion", each.id) == "yes" for each in clients
    )
    by_default = postconf.value("disable_mime_output_conversion")
    if by_default != "yes" and not everywhere and not converted:
        why = "8-bit text is converted after signing for old next hops"
        yield Lack("disable_mime_output_conversion", "yes", why)
    if postconf.number("header_size_limit") < HEADER_LIMIT:
        why = "a field near the limit grows past it and is cut after signing"
        yield Lack("header_size_limit", str(HEADER_LIMIT), why)


def _words(
    postconf: Postconf, service: str, name: str, words: list[str], why: str, also: list[str] | None = None
) -> Iterator[Lack]:
    """Yield what a list lacks of these words; those that stand there stay."""
    standing = postconf.words(name, service)
    lower = [word.lower() for word in standing]
    if not set(words) <= set(lower):
        new = [word for word in [*words, *(also or [])] if word not in lower]
        yield Lack(name, ",".join([*standing, *new]), why)


def _overrides(service: str, lacks: Iterator[Lack]) -> list[Change]:
    return [Change("-P", f"{service}/{lack.name}={lack.value}", lack.why) for lack in lacks]
