"""The listener through which mail comes back by SMTP (``relay``), instead of sendmail(1).

It is an smtpd(8) on a loopback address, and only for the filters. What main.cf restricts, checks, changes or
filters has happened on the first pass, and must not happen again here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe import relay
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import cleanup_service, filter_service, strangers
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Change, Postconf, Service
from dkimpipe.errors import ConfigError

FIRST_PORT = 10028  # where DKIMproxy has it
RETURN = "dkimpipe-return"
SIZE_MARGIN = 16384  # bytes that signatures, or the results of verifying them, may add to a message
_WORDS = ("no_unknown_recipient_checks", "no_header_body_checks", "no_milters")
_PERMIT = "permit_mynetworks,reject"
_WHY_RETURN = "aliases and always_bcc apply before and after the filter: duplicate mail"
_NO_LISTENER = "there is no listener for the mail that comes back"


class _Override(NamedTuple):
    """A parameter that main.cf could set for all services, its value here, and the harm it could do."""

    name: str
    value: str
    why: str


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
    *(_Override(name, "", "mail from the filter may be refused") for name in _EMPTY),
    _Override("smtpd_relay_restrictions", _PERMIT, "mail from the filter may be refused"),
    _Override("smtpd_recipient_restrictions", _PERMIT, "mail from the filter may be refused"),
    _Override("smtpd_helo_required", "no", "mail from the filter may be refused"),
    _Override("smtpd_sasl_auth_enable", "no", "the filter does not log in"),
    _Override("smtpd_tls_security_level", "none", "the filter does not speak TLS"),
    _Override("smtpd_discard_ehlo_keywords", "", "the listener does not offer what the filter uses"),
    _Override("local_header_rewrite_clients", "", "header fields are rewritten after they were signed"),
)


def relay_of(postconf: Postconf, job: Job) -> str:
    """Return the relay of the filter service that does a job; empty for sendmail(1)."""
    service = filter_service.find(postconf, job)
    return filter_service.relay_of(service, job) if service else ""


def find(postconf: Postconf, address: str) -> Service | None:
    """Return the service that listens at a relay address; None if this Postfix has none."""
    try:
        host, port = relay.address(address, "relay")
    except ConfigError:
        return None
    names = {host.decode(), "127.0.0.1" if host == b"localhost" else ""}
    for service in postconf.running("smtpd"):
        listens, _, number = service.name.rpartition(":")
        if service.id.endswith("/inet") and number == str(port) and listens.strip("[]") in {*names, ""}:
            return service
    return None


def new_address(postconf: Postconf) -> str:
    """Return a free address for a listener, on loopback."""
    hosts = ("[::1]",) if postconf.words("inet_protocols") == ["ipv6"] else ("127.0.0.1", "[::1]")
    taken = {service.port for service in postconf.services.values()}
    for host in hosts:
        for port in range(FIRST_PORT, FIRST_PORT + 1000):
            if str(port) not in taken and _is_free(host.strip("[]"), port):
                return f"{host}:{port}"
    raise ConfigError(f"no port from {FIRST_PORT} on is free on a loopback address")


def missing(postconf: Postconf, address: str) -> Iterator[Change]:
    """Yield the edits that create the listener, or complete it."""
    service = find(postconf, address)
    if service:
        yield from _incomplete(postconf, service)
        return
    host, port = relay.address(address, "relay")
    if not strangers.is_loopback(host.decode()):
        return  # a Postfix on another host
    name = f"[{host.decode()}]:{port}" if b":" in host else f"{host.decode()}:{port}"
    network = "[::1]/128" if b":" in host else "127.0.0.0/8"
    settings = {
        "syslog_name": "postfix/dkimpipe",
        "cleanup_service_name": RETURN,
        "receive_override_options": ",".join(_WORDS),
        "mynetworks": network,
        "smtpd_authorized_xforward_hosts": network,
        "smtpd_client_event_limit_exceptions": network,
        **_larger_limit(postconf),
        **{each.name: each.value for each in _OVERRIDES if each.name in postconf.effective},
    }
    yield from _return_service(postconf, postconf.value("cleanup_service_name"))
    options = " ".join(f"-o {name}={value}" for name, value in settings.items())
    yield Change("-M", f"{name}/inet={name} inet n - n - - smtpd {options}", _NO_LISTENER)


def deduplicating(postconf: Postconf, service: Service) -> Iterator[Change]:
    """Yield the edits by which a second pass does not send duplicates after the first has applied aliases.

    Without the original recipient, cleanup(8) compares recipients by address alone, and always_bcc and
    aliases that include themselves add nobody who is there already.
    """
    used = postconf.value("cleanup_service_name", service.id)
    if postconf.value("enable_original_recipient", f"{used}/unix") == "no":
        return
    yield from _return_service(postconf, used)
    yield Change("-P", f"{service.id}/cleanup_service_name={RETURN}", _WHY_RETURN)


def _return_service(postconf: Postconf, original: str) -> Iterator[Change]:
    if f"{RETURN}/unix" not in postconf.services:
        settings = {"enable_original_recipient": "no", **_larger_limit(postconf)}
        yield cleanup_service.copy(postconf, RETURN, original, settings, _WHY_RETURN)


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield what is wrong with the listener, and cannot be fixed by an override."""
    address = relay_of(postconf, job)
    service = find(postconf, address) if address else None
    if service and not strangers.is_local_only(postconf, service):
        what = f"{service.id}: the listener for mail that was {job.participle} is reachable from other hosts"
        host = "[::1]" if postconf.words("inet_protocols") == ["ipv6"] else "127.0.0.1"
        new = service._replace(id=f"{host}:{service.port}/inet")
        hint = f"{postconf.command(Change('-MX', service.id, ''))}\n"
        yield Finding(what, hint + postconf.command(Change("-M", f"{new.id}={new.line}", "")))


def _incomplete(postconf: Postconf, service: Service) -> Iterator[Change]:
    """Yield the edits that a listener needs: values that do no harm stay."""
    for each in _OVERRIDES:
        value = postconf.value(each.name, service.id)
        if each.name in postconf.effective and value != each.value and not _is_harmless(each, value):
            yield Change("-P", f"{service.id}/{each.name}={each.value}", each.why)
    words = postconf.words("receive_override_options", service.id)
    new = [word for word in _WORDS if word not in map(str.lower, words)]
    if new or "no_address_mappings" in map(str.lower, words):
        kept = [word for word in words if word.lower() != "no_address_mappings"]
        why = "mail is checked or changed again, or aliases are not applied"
        yield Change("-P", f"{service.id}/receive_override_options={','.join([*kept, *new])}", why)


def _larger_limit(postconf: Postconf) -> dict[str, str]:
    """Return a limit that mail just below message_size_limit does not exceed with its new fields."""
    limit = postconf.number("message_size_limit")
    return {"message_size_limit": str(limit + SIZE_MARGIN)} if limit else {}


def _is_harmless(override: _Override, value: str) -> bool:
    """Return whether another value lets all mail of the filter through, too."""
    words = value.replace(",", " ").lower().split()
    if override.value == _PERMIT:
        return words[:1] == ["permit_mynetworks"] or (not words and "relay" in override.name)
    if override.name in _EMPTY:
        return words[:1] in (["permit_mynetworks"], ["permit"], ["reject_unauth_pipelining"])
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
