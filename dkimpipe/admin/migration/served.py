"""The mail that passes the other signer today: the kinds of it, and what would no longer be signed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dkimpipe.admin.migration.foreign import Foreign
from dkimpipe.admin.postfix import filter_service, milter_lists, notices, planning, sources, strangers
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION
from dkimpipe.admin.postfix.network_patterns import network
from dkimpipe.admin.postfix.networks import PUBLIC_PORTS
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.restrictions import Restrictions, Session
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.sources import SUBMISSION_PORTS
from dkimpipe.config import CONF_FILE, MYNETWORKS

_LIST = milter_lists.PARAMETERS[0]
_PORTS = {SUBMISSION: SUBMISSION_PORTS, NETWORKS: PUBLIC_PORTS}
_NAME = "milter_macro_daemon_name"
_HOST, _ADDRESS = "mail.example.net", "someone@example.net"


class Unsigned(NamedTuple):
    """Mail that would no longer be signed: a kind of mail, or a service of Postfix; why; and a hint."""

    mail: str
    cause: str
    hint: str

    @property
    def lines(self) -> list[str]:
        """What is said about it between commands."""
        hints = [f"# {line.removeprefix('# ')}" for line in self.hint.splitlines()]
        return [f"# not signed any more: {self.mail}: {self.cause}", *hints]


def kinds(postconf: Postconf, foreign: Foreign, milters: Sequence[str], is_local: bool) -> list[str]:
    """Return the kinds of mail that it signs in the services which have it as a milter.

    If none has, as far as can be seen, they are all that it would sign.

    ``milters``   those that are, or may be, the other signer
    ``is_local``  whether it may have mail from programs on this host
    """
    found, returns = [], _signs_after_filters(postconf, foreign)
    for kind, ports in _PORTS.items():
        services = [each for each in postconf.running("smtpd") if each.port in ports]
        if kind in foreign.kinds and (
            not services
            or any(
                _has(postconf, each, foreign) or (returns and _is_filtered(postconf, each.id))
                for each in services
            )
        ):
            found.append(kind)
    found = found or [kind for kind in foreign.kinds if kind in _PORTS]
    if LOCAL not in foreign.kinds:
        return found
    found += [BOUNCES] if notices.pass_milters(postconf, milters) else []
    is_local = is_local or (returns and _is_filtered(postconf, sources.pickup(postconf)))
    return [*found, *([LOCAL] if is_local else [])]


def _signs_after_filters(postconf: Postconf, foreign: Foreign) -> bool:
    """Return whether it signs mail that another filter returns by SMTP, as a client on this host."""
    return LOCAL in foreign.kinds and any(
        _has(postconf, each, foreign)
        for each in _elsewhere(postconf)
        if strangers.is_local_only(postconf, each)
    )


def _elsewhere(postconf: Postconf) -> list[Service]:
    """Return the services on other ports than the usual ones."""
    usual = [port for ports in _PORTS.values() for port in ports]
    return [each for each in postconf.running("smtpd") if each.port not in usual]


def _is_filtered(postconf: Postconf, service: str) -> bool:
    return bool(postconf.value("content_filter", service) or postconf.value("smtpd_proxy_filter", service))


def lost(
    postconf: Postconf, foreign: Foreign, milters: Sequence[str], kinds: Sequence[str]
) -> Iterator[Unsigned]:
    """Yield the mail that it signs, of these kinds and of other services, and the filter would not."""
    for kind in kinds:
        cause, hint = planning.obstacle(postconf, kind)
        if cause:
            yield Unsigned(kind, cause, hint)
    others = notices.others(postconf)
    if others and LOCAL in foreign.kinds and notices.others_pass_milters(postconf, milters):
        yield Unsigned(*others)
    name = filter_service.name(postconf)
    for service in _elsewhere(postconf):
        users = postconf.value("smtpd_sasl_auth_enable", service.id).lower() == "yes"
        passes = sources.passes_to(postconf, service.id, name)
        if users and not passes and _has(postconf, service, foreign):
            cause = "users can log in there, and it has neither port 587 nor 465"
            change = Change("-P", f"{service.id}/content_filter={name}:dummy", "")
            yield Unsigned(service.id, cause, f"then pass it to the filter: {postconf.command(change)}")


def _has(postconf: Postconf, service: Service, foreign: Foreign) -> bool:
    options = map(str.lower, postconf.words("receive_override_options", service.id))
    return "no_milters" not in options and milter_lists.has(postconf, service.id, _LIST, foreign.milters)


def unsigned(postconf: Postconf, foreign: Foreign) -> Iterator[str]:
    """Yield the services that sign all mail by their name, with the clients whose mail will be unsigned."""
    for service in postconf.running("smtpd"):
        name = postconf.value(_NAME, service.id)
        if name not in foreign.daemon_names or not _has(postconf, service, foreign):
            continue
        today = f"# {service.id}: all mail is signed today, because of {_NAME}={name}; from now on"
        networks = list(_networks(postconf, service, foreign))
        if networks:
            yield (
                f"{today} mail from {', '.join(networks)} is signed only with a login: let these clients log"
                f" in, or add their addresses, or mynetworks, to sign_clients in {CONF_FILE}"
            )
        if strangers.may_send(postconf, service):
            yield f"{today} mail from strangers is not"


def _networks(postconf: Postconf, service: Service, foreign: Foreign) -> Iterator[str]:
    """Yield the items of mynetworks that are not in sign_clients, and may send without a login."""
    words = foreign.directives["sign_clients"][0].split(",") if "sign_clients" in foreign.directives else []
    signed = [each for each in map(network, words) if each]
    restrictions = Restrictions(postconf, service.id)
    for pattern in postconf.words("mynetworks", service.id) if MYNETWORKS not in words else ():
        clients = network(pattern)
        if not clients:
            if not pattern.startswith("!"):
                yield pattern
            continue
        address = next(iter(clients.hosts()), clients.network_address)
        meant = ipaddress.ip_network(str(address)) if clients.is_loopback else clients
        is_signed = any(meant.version == each.version and meant.subnet_of(each) for each in signed)  # type: ignore[arg-type]
        session = Session("unknown", str(address), _HOST, _ADDRESS, _ADDRESS, False)
        if not is_signed and restrictions.accepts(session):
            yield pattern
