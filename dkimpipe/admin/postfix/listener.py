"""The listener through which mail comes back by SMTP (``relay``), instead of sendmail(1).

It is an smtpd(8) on a loopback address, and only for the filters. What main.cf restricts, checks, changes or
filters has happened on the first pass, and must not happen again here.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe import relay
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import cleanup_service, filter_service, incoming, strangers
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.restrictions import Restrictions
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

_SYSLOG_NAME = "dkimpipe"  # after that of the instance
FIRST_PORT = 10028  # where DKIMproxy has it
RETURN = "dkimpipe-return"
SIZE_MARGIN = 16384  # bytes that signatures, or the results of verifying them, may add to a message
_BROKEN_LINES = 256  # a message of long lines grows by less than this part: 3 bytes for each 997
ANY_OF_BOTH = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_WORDS = ("no_unknown_recipient_checks", "no_header_body_checks", "no_milters")
_LOOPBACK = ("127.0.0.0/8", "[::1]/128")  # by IPv4, and by IPv6
_HOSTS = {"ipv4": "127.0.0.1", "ipv6": "[::1]"}
_PERMIT = "permit_mynetworks,reject"
_WHY_RETURN = {
    "enable_original_recipient": "aliases and always_bcc apply before and after the filter: duplicate mail",
    "message_size_limit": "mail near the limit exceeds it with its new fields, and stays in the queue",
}
_REFUSED = "mail from the filter may be refused"
_NO_LISTENER = "there is no listener for the mail that comes back"


class _Override(NamedTuple):
    """A parameter that main.cf could set for all services, its value here, and the harm it could do."""

    name: str
    value: str
    why: str
    level: str = "error"


# As many as in any message from the filter: what smtpd(8) refuses, qmgr(8) would offer again for days.
_RECIPIENT_LIMIT = 1000000
_LIMITS = ("smtpd_recipient_limit", "smtpd_soft_error_limit", "smtpd_hard_error_limit")
_NOT_VALID = " by many recipients whose addresses are not valid"
_EMPTY = (
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions",
)
_OVERRIDES = (
    _Override("content_filter", "", "mail goes to the filter again and again"),
    _Override("smtpd_proxy_filter", "", "mail goes to another filter after it was signed"),
    *(_Override(name, "", _REFUSED) for name in _EMPTY),
    _Override("smtpd_relay_restrictions", _PERMIT, _REFUSED),
    _Override("smtpd_recipient_restrictions", _PERMIT, _REFUSED),
    _Override("smtpd_recipient_limit", str(_RECIPIENT_LIMIT), "mail to many is refused again and again"),
    _Override("smtpd_soft_error_limit", str(_RECIPIENT_LIMIT), f"mail is delayed{_NOT_VALID}", "warning"),
    _Override("smtpd_hard_error_limit", str(_RECIPIENT_LIMIT), f"mail is held up{_NOT_VALID}", "warning"),
    _Override("smtpd_helo_required", "no", _REFUSED),
    _Override("smtpd_sasl_auth_enable", "no", "the filter does not log in"),
    _Override("smtpd_tls_security_level", "none", "the filter does not speak TLS"),
    _Override("smtpd_tls_wrappermode", "no", "the filter does not speak TLS"),
    _Override("smtpd_discard_ehlo_keywords", "", "the listener does not offer what the filter uses"),
    _Override("smtpd_upstream_proxy_protocol", "", "the filter does not speak the protocol of a proxy"),
    _Override("smtpd_command_filter", "", "what the filter says is changed"),
    _Override("local_header_rewrite_clients", "", "header fields are rewritten after they were signed"),
)


def relay_of(postconf: Postconf, job: Job) -> str:
    """Return the relay of the filter service that does a job, or will; empty for sendmail(1)."""
    service = filter_service.find(postconf, job)
    return filter_service.relay_of(service, job) if service else filter_service.relay_in(job.conf_file)


def find(postconf: Postconf, address: str) -> Service | None:
    """Return the listener at a relay address; None if this Postfix has none, or mail comes in there."""
    try:
        host, port = relay.address(address, "relay")
    except ConfigError:
        return None
    names = {host.decode(), "", ANY_OF_BOTH[":" in host.decode()]}
    if host in (b"127.0.0.1", b"::1", b"localhost"):
        names |= {"localhost"} if host != b"localhost" else {"127.0.0.1", "::1", *ANY_OF_BOTH}
    for service in postconf.running("smtpd"):
        listens, _, number = service.name.rpartition(":")
        is_there = service.id.endswith("/inet") and number == str(port) and listens.strip("[]") in names
        if is_there and not incoming.is_one(postconf, service):
            return service
    return None


def all_of(postconf: Postconf) -> list[Service]:
    """Return the listeners of the services that sign and verify."""
    addresses = [relay_of(postconf, job) for job in filter_service.JOBS]
    return [found for found in (find(postconf, each) for each in addresses if each) if found]


def unused_address(postconf: Postconf) -> str:
    """Return the address of a listener that dkimpipe created earlier, or a free one on loopback."""
    for service in postconf.running("smtpd"):
        is_usable = strangers.is_local_only(postconf, service) and not _is_excluded(postconf, service.name)
        if _is_ours(postconf, service) and ":" in service.name and is_usable:
            return service.name
    return new_address(postconf)


def new_address(postconf: Postconf) -> str:
    """Return a free address for a listener, on loopback."""
    hosts = [host for family, host in _HOSTS.items() if family in postconf.families]
    taken = {service.port for each in _instances(postconf) for service in each.services.values()}
    for host in hosts:
        for port in range(FIRST_PORT, FIRST_PORT + 1000):
            if str(port) not in taken and _is_free(host.strip("[]"), port):
                return f"{host}:{port}"
    raise ConfigError(f"no port from {FIRST_PORT} on is free on a loopback address")


def _syslog_name(postconf: Postconf) -> str:
    """Return the syslog_name of a listener: it begins with that of the instance."""
    return f"{postconf.value('syslog_name')}/{_SYSLOG_NAME}"


def _is_ours(postconf: Postconf, service: Service) -> bool:
    """Return whether dkimpipe created a listener, judging by its syslog_name."""
    return postconf.overrides[service.id].get("syslog_name", "").endswith(f"/{_SYSLOG_NAME}")


def usable_relay_of(postconf: Postconf, job: Job) -> str:
    """Return the relay of a job; empty for sendmail(1), and if mail cannot come back there."""
    address = relay_of(postconf, job)
    return "" if _is_excluded(postconf, address) or incoming.find(postconf, address) else address


def _is_excluded(postconf: Postconf, address: str) -> bool:
    """Return whether inet_protocols excludes the family of a loopback address, HOST:PORT."""
    host = address.rpartition(":")[0].strip("[]")
    if not host or host == "localhost" or not strangers.is_loopback(host):
        return False
    return ("ipv6" if ":" in host else "ipv4") not in postconf.families


def is_replaced(postconf: Postconf, service: Service) -> bool:
    """Return whether this is a listener of dkimpipe for which Postfix cannot listen any more."""
    is_used = service in all_of(postconf) or _is_ours(postconf, service)
    return is_used and _is_excluded(postconf, service.name)


def replaced(postconf: Postconf) -> Iterator[Change]:
    """Yield the edits that remove these listeners: Postfix does not start with them."""
    for service in filter(lambda each: is_replaced(postconf, each), postconf.running("smtpd")):
        why = f"Postfix does not start: inet_protocols = {postconf.value('inet_protocols')} excludes it"
        yield Change("-MX", service.id, why)


def _instances(postconf: Postconf) -> Iterator[Postconf]:
    """Yield this instance, and all others of the machine that can be read: they may not be running now."""
    yield postconf
    with contextlib.suppress(ConfigError):
        default = Postconf() if postconf.is_chosen else postconf
        yield default
        for directory in default.words("multi_instance_directories"):
            with contextlib.suppress(ConfigError):
                yield Postconf(directory)


def missing(postconf: Postconf, address: str, is_mapped: bool) -> Iterator[Change]:
    """Yield the edits that create the listener, or complete it.

    ``is_mapped``  whether aliases apply to mail before the filter as well
    """
    service = find(postconf, address)
    if service:
        yield from _incomplete(postconf, service)
        yield from returning(postconf, service, is_mapped, is_larger=True)
        return
    host, port = relay.address(address, "argv in master.cf, or the conf file")
    if not strangers.is_loopback(host.decode()) or not _silence(address):
        return  # a Postfix on another host, or another instance here
    name = f"[{host.decode()}]:{port}" if b":" in host else f"{host.decode()}:{port}"
    network = _LOOPBACK[b":" in host]
    settings = {
        "syslog_name": _syslog_name(postconf),
        "receive_override_options": ",".join(_WORDS),
        "mynetworks": network,
        "smtpd_authorized_xforward_hosts": network,
        "smtpd_client_event_limit_exceptions": network,
        **_larger_limit(postconf),
        **{each.name: each.value for each in _OVERRIDES if each.name in postconf.effective},
    }
    plain = Service(f"{name}/inet", "n", "-", "n", "-", "-", "smtpd", "")
    for change in returning(postconf, plain, is_mapped, is_larger=True):
        if change.option == "-P" and change.argument.startswith(plain.id):
            settings["cleanup_service_name"] = RETURN
        else:
            yield change
    options = " ".join(f"-o {name}={value}" for name, value in settings.items())
    yield Change("-M", f"{plain.id}={plain._replace(arguments=options).line}", _NO_LISTENER)


def returning(
    postconf: Postconf, service: Service, is_mapped: bool, is_larger: bool = False
) -> Iterator[Change]:
    """Yield the edits that the cleanup(8) service for the second pass needs.

    ``is_mapped``  If aliases have applied before the filter, they must not send duplicates after it. Without
    the original recipient, cleanup(8) compares recipients by address alone, and adds nobody who is there
    already. X-Original-To stays: local(8) goes by its own setting. Without aliases, nothing is needed.

    ``is_larger``  It accepts mail just below message_size_limit, which exceeds it with its new fields.
    """
    used, needed = postconf.value("cleanup_service_name", service.id), {}
    if is_mapped and any(postconf.value(name) for name in cleanup_service.MAPPINGS):
        needed["enable_original_recipient"] = "no"
    needed.update(_larger_limit(postconf) if is_larger else {})
    lacking = {
        name: value
        for name, value in needed.items()
        if not _is_enough(value, postconf.value(name, f"{used}/unix"))
    }
    if not lacking:
        return
    why = "; ".join(_WHY_RETURN[name] for name in lacking)
    if f"{RETURN}/unix" in postconf.services:
        for name, value in needed.items():
            if not _is_enough(value, postconf.value(name, f"{RETURN}/unix")):
                yield Change("-P", f"{RETURN}/unix/{name}={value}", why)
    else:
        yield cleanup_service.copy(postconf, RETURN, used, needed, why)
    if used != RETURN:
        yield Change("-P", f"{service.id}/cleanup_service_name={RETURN}", why)


def _is_enough(needed: str, value: str) -> bool:
    """Return whether a value is as good as the one needed: a limit may be somewhat lower, and 0 is none."""
    if not (needed.isdigit() and value.isdigit()):
        return value == needed
    return int(value) == 0 or int(value) >= int(needed) - SIZE_MARGIN // 4 * 3


def offers_smtputf8(postconf: Postconf, address: str) -> bool:
    """Return whether a relay is a listener of this Postfix with SMTPUTF8, or will be one.

    One that is on another host, or of another instance, is not asked.
    """
    if not address:
        return False
    if service := find(postconf, address):
        return "no" not in (postconf.own("smtputf8_enable", service.id), postconf.own("smtputf8_enable"))
    host, _ = relay.address(address, "relay")
    return strangers.is_loopback(host.decode()) and bool(_silence(address))


def _silence(address: str) -> str:
    """Return why no SMTP server answers at an address; empty if one does."""
    from dkimpipe.admin.postfix import answering  # smtplib takes 10 ms

    return answering.fault(address)


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield what is wrong with the listener, and cannot be fixed by an override."""
    address = relay_of(postconf, job)
    service = find(postconf, address) if address else None
    if address:
        yield from _unanswered(postconf, address, service)
        yield from _filtered_elsewhere(postconf, address, service)
    if service and not strangers.is_local_only(postconf, service):
        what = f"{service.id}: the listener for mail that was {job.participle} is reachable from other hosts"
        host = _HOSTS["ipv4" if "ipv4" in postconf.families else "ipv6"]
        new = service._replace(id=f"{host}:{service.port}/inet")
        hint = f"{postconf.command(Change('-MX', service.id, ''))} && "
        yield Finding(what, hint + postconf.command(Change("-M", f"{new.id}={new.line}", "")))


def _unanswered(postconf: Postconf, address: str, service: Service | None) -> Iterator[Finding]:
    """Yield a finding if nothing answers at the relay, unless this Postfix, which has it, does not run."""
    host = address.rpartition(":")[0].strip("[]")
    if not service and strangers.is_loopback(host):
        return  # it is missing, or another instance has it
    if not (fault := _silence(address)):
        return
    what = f"relay {address}: no SMTP server answers, and mail stays in the queue: {fault}"
    if not service:
        yield Finding(what, f"see what runs there: nc -v {host} {address.rpartition(':')[2]}")
    elif postconf.is_running and not postconf.is_disabled(service.id):
        yield Finding(what, postconf.program_command("reload"), "warning")


def _filtered_elsewhere(postconf: Postconf, address: str, service: Service | None) -> Iterator[Finding]:
    """Yield a finding if another instance of this machine has the relay, and filters its mail."""
    for instance in () if service else _instances(postconf):
        found = find(instance, address) if instance is not postconf else None
        content_filter = instance.value("content_filter", found.id) if found else ""
        if found and content_filter:
            what = f"{instance.directory}: {found.id}/content_filter: {content_filter} gets signed mail"
            hint = instance.command(Change("-P", f"{found.id}/content_filter=", ""))
            yield Finding(what, hint)


def _incomplete(postconf: Postconf, service: Service) -> Iterator[Change]:
    """Yield the edits that a listener needs: values that do no harm stay."""
    limits = [filter_service.recipient_limit(postconf, job) for job in filter_service.JOBS]
    recipients = max(limits) if all(limits) else _RECIPIENT_LIMIT
    for each in _OVERRIDES:
        value = postconf.value(each.name, service.id)
        is_known = each.name in postconf.effective
        if is_known and value != each.value and not _is_harmless(each, value, recipients):
            yield Change("-P", f"{service.id}/{each.name}={each.value}", each.why, each.level)
    if _is_ours(postconf, service) and postconf.own("syslog_name", service.id) != _syslog_name(postconf):
        why = "audit does not find the log of the listener: it has the name of another instance"
        yield Change("-P", f"{service.id}/syslog_name={_syslog_name(postconf)}", why, "warning")
    if not _lets_in(postconf, service):
        yield Change("-P", f"{service.id}/mynetworks={_LOOPBACK['::' in service.id]}", _REFUSED)
    for name, limit in _larger_limit(postconf).items():
        if not _is_enough(limit, postconf.value(name, service.id)):
            yield Change("-P", f"{service.id}/{name}={limit}", _WHY_RETURN[name])
    words = postconf.words("receive_override_options", service.id)
    new = [word for word in _WORDS if word not in map(str.lower, words)]
    if new or "no_address_mappings" in map(str.lower, words):
        kept = [word for word in words if word.lower() != "no_address_mappings"]
        why = "mail is checked or changed again, or aliases are not applied"
        yield Change("-P", f"{service.id}/receive_override_options={','.join([*kept, *new])}", why)


def _lets_in(postconf: Postconf, service: Service) -> bool:
    """Return whether the filter may send through a listener, apart from the lists that are emptied."""
    permits = [f"smtpd_{each}_restrictions" for each in ("relay", "recipient")]
    if not any("permit_mynetworks" in postconf.words(each, service.id) for each in permits):
        return True
    host = "::1" if "::" in service.id else "127.0.0.1"
    return Restrictions(postconf, service.id).is_in("mynetworks", "localhost", host)


def _larger_limit(postconf: Postconf) -> dict[str, str]:
    """Return a limit that mail just below message_size_limit does not exceed with its new fields."""
    limit = postconf.number("message_size_limit")
    return {"message_size_limit": str(limit + SIZE_MARGIN + limit // _BROKEN_LINES)} if limit else {}


def _is_harmless(override: _Override, value: str, recipients: int) -> bool:
    """Return whether another value lets all mail of the filter through, too.

    ``recipients``  the most that a message from the filter may have
    """
    words = value.replace(",", " ").lower().split()
    if override.value == _PERMIT:
        return words[:1] == ["permit_mynetworks"] or (not words and "relay" in override.name)
    if override.name in _EMPTY:
        return words[:1] in (["permit_mynetworks"], ["permit"]) or words == ["reject_unauth_pipelining"]
    if override.name in _LIMITS:
        return not value.isdigit() or int(value) >= recipients
    if override.name == "smtpd_tls_security_level":
        return value in ("", "none", "may")
    if override.name == "smtpd_discard_ehlo_keywords":
        return not {"8bitmime", "pipelining", "xforward", "size", "smtputf8"} & {*words}
    return override.name == "smtpd_helo_required"  # the filter sends EHLO


def _is_free(host: str, port: int) -> bool:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True
