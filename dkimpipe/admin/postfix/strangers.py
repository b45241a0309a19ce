"""Strangers: clients that neither log in nor are in mynetworks, and the services that accept their mail.

Sessions are tried with what a stranger controls: client names and addresses, HELO or none, senders and
recipients. One accepted session is enough. Bare ``postmaster`` is not tried: smtpd(8) accepts mail for it
from every client, regardless of the lists before DATA (RFC 5321 section 4.5.1).
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator

from dkimpipe.admin.postfix.network_patterns import fault_of_network, network
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.restriction_lists import REJECTS, UNAUTH_DESTINATION, split_restrictions
from dkimpipe.admin.postfix.restrictions import PERMIT, Restrictions, Session
from dkimpipe.admin.postfix.service import Service

# Addresses in nobody's mynetworks, unless all are: those of a root server and of example.com. Addresses for
# documentation are in use on test networks. Each half of IPv4 has one, for a mynetworks of 0.0.0.0/1.
_CLIENTS = {
    "ipv4": (("unknown", "198.41.0.4"), ("mail.example.net", "93.184.215.14")),
    "ipv6": (("unknown", "2001:503:ba3e::2:30"),),
}
_HELO = "mail.example.net"
_DOMAINS = ("virtual_alias_domains", "virtual_mailbox_domains", "relay_domains")
RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
_ELSEWHERE = "someone@example.net"
_LOOPBACK = ("loopback-only", "localhost")


def may_send(postconf: Postconf, service: Service) -> bool:
    """Return whether a stranger can send a message through a service, at least to a local recipient."""
    return bool(content_filters(postconf, service))


def content_filters(postconf: Postconf, service: Service) -> list[str]:
    """Return the content filters for strangers' mail at a service; empty if it accepts none from them."""
    if is_local_only(postconf, service) or _requires_certificates(postconf, service.id):
        return []
    sessions, found = list(_sessions(postconf, service)), {}
    restrictions = Restrictions(postconf, service.id, lambda: sessions)
    own = postconf.value("content_filter", service.id)
    for session in sessions:
        if restrictions.accepts(session):
            found[restrictions.filter or own] = True
    return list(found)


def guest_setting(postconf: Postconf, service: Service) -> str:
    """Return the setting by which the administrator admits guests on purpose; empty if there is none.

    Guests are clients for which pipe(8) passes neither a login nor an address in mynetworks: admitted by
    certificate, by table, by name in mynetworks, or behind another filter that passes on their address by
    XFORWARD, but not their login.
    """
    if is_local_only(postconf, service):
        if postconf.value("smtpd_authorized_xforward_hosts", service.id):
            return "smtpd_authorized_xforward_hosts"
        restrictions = Restrictions(postconf, service.id)
        if not any(restrictions.is_in("mynetworks", "localhost", host) for host in ("127.0.0.1", "::1")):
            return "mynetworks"
        if not postconf.value("smtpd_authorized_xclient_hosts", service.id):
            return ""
        if any(restrictions.accepts(session) for session in _sessions(postconf, service)):
            return "smtpd_authorized_xclient_hosts"
    if not all(map(_is_network, postconf.words("mynetworks", service.id))):
        return "mynetworks"
    restrictions = Restrictions(postconf, service.id, guest=True)
    for session in _sessions(postconf, service):
        if restrictions.accepts(session):
            if _requires_certificates(postconf, service.id):
                return "smtpd_tls_req_ccert"
            if restrictions.permitted_by:
                return restrictions.permitted_by
    return ""


def _is_network(pattern: str) -> bool:
    """Return whether an item of mynetworks is an address or a network.

    pipe(8) does not pass host names, and the filter's user may be unable to read files and tables: the mail
    would be deferred.
    """
    word = pattern.lstrip("!")
    return network(word) is not None or bool(fault_of_network(word))  # which is reported as such


def is_local_only(postconf: Postconf, service: Service) -> bool:
    """Return whether only programs on this host can connect to a service."""
    kind = service.id.rpartition("/")[2]
    if kind == "pass":
        postscreens = postconf.running("postscreen")
        return bool(postscreens) and all(is_local_only(postconf, postscreen) for postscreen in postscreens)
    if kind != "inet":
        return True
    host = service.name.rpartition(":")[0].strip("[]")
    hosts = [host] if host else postconf.words("inet_interfaces")
    # Behind a proxy that passes on addresses, clients may be anywhere.
    is_proxied = postconf.value("smtpd_upstream_proxy_protocol", service.id)
    return all(map(is_loopback, hosts)) and not is_proxied


def is_loopback(host: str) -> bool:
    """Return whether an address, or a name as in inet_interfaces, is one of loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in _LOOPBACK


def _requires_certificates(postconf: Postconf, service: str) -> bool:
    """Return whether TLS fails for a client without a certificate that smtpd(8) trusts."""
    enforced = (
        postconf.value("smtpd_tls_wrappermode", service) == "yes"
        or postconf.value("smtpd_tls_security_level", service) == "encrypt"
        or postconf.value("smtpd_enforce_tls", service) == "yes"
    )
    return enforced and postconf.value("smtpd_tls_req_ccert", service) == "yes"


def _sessions(postconf: Postconf, service: Service) -> Iterator[Session]:
    """Yield the sessions that strangers may try."""
    helos = [_HELO] if postconf.value("smtpd_helo_required", service.id) == "yes" else ["", _HELO]
    final = list(_recipients(postconf, service.id))
    senders = ["", _ELSEWHERE, *final[:1]]
    recipients = [*((recipient, True) for recipient in final), (_ELSEWHERE, False)]
    for parts in itertools.product(_clients(postconf, service), helos, senders, recipients):
        (name, address), helo, sender, (recipient, is_final) = parts
        yield Session(name, address, helo, sender, recipient, is_final)


def _clients(postconf: Postconf, service: Service) -> Iterator[tuple[str, str]]:
    """Yield names and addresses of strangers that can reach a service."""
    host = service.name.rpartition(":")[0]
    for protocol, clients in _CLIENTS.items():
        is_bound = ("ipv6" if ":" in host else "ipv4") == protocol if host else True
        if is_bound and protocol in postconf.families:
            yield from clients


def _recipients(postconf: Postconf, service: str) -> Iterator[str]:
    """Yield recipients for whom Postfix accepts mail from any client."""
    domains = [domain for name in _DOMAINS for domain in postconf.words(name)[:1]]
    checked = postconf.value("smtpd_reject_unlisted_recipient", service) == "yes"
    options = map(str.lower, postconf.words("receive_override_options", service))
    checked = checked and "no_unknown_recipient_checks" not in options
    if not (checked and postconf.value("local_transport").startswith(("error", "retry"))):
        # Mail for the addresses of this host is local even without mydestination.
        domains = [*postconf.words("mydestination")[:1], *domains] or ["[127.0.0.1]"]
    for domain in domains:
        name = domain if ":" not in domain and "/" not in domain else "example.org"
        yield from (f"{local_part}@{name}" for local_part in ("postmaster", "someone"))


def closing_change(postconf: Postconf, service: str) -> Change:
    """Return the smallest edit that closes a service to strangers.

    It makes the list that decides who may relay end in a reject. Restrictions that permit other clients are
    kept, unless they permit strangers, too.
    """
    words = postconf.words(RELAY, service) or postconf.words(RECIPIENT, service)
    kept = _kept_restrictions(postconf, service, words)
    login = [] if "permit_sasl_authenticated" in map(str.lower, kept) else ["permit_sasl_authenticated"]
    return Change("-P", f"{service}/{relay_list(postconf)}={','.join([*kept, *login, 'reject'])}", "")


def relay_list(postconf: Postconf) -> str:
    """Return the list that decides who may relay: a separate one from Postfix 2.10."""
    return RELAY if RELAY in postconf.effective else RECIPIENT


def _kept_restrictions(postconf: Postconf, service: str, words: list[str]) -> list[str]:
    """Return the words of the restrictions that are kept."""
    sessions, kept = list(_sessions(postconf, postconf.services[service])), []
    restrictions = Restrictions(postconf, service, lambda: sessions)
    for restriction in split_restrictions(words):
        *_, name, argument = restriction
        used = [word for word in restriction if word]
        is_end = name.lower() in (*REJECTS, *UNAUTH_DESTINATION)
        if is_end or any(map(str.isspace, argument)):  # postconf -P accepts no spaces
            continue
        if not any(restrictions.evaluate(used, session, "recipient") == PERMIT for session in sessions):
            kept += used
    return kept
