"""The services for mail from users (RFC 6409, RFC 8314): what creates them, and what keeps users out.

Created with what there is: the SASL server that answers, and the certificate that main.cf names. Clients must
log in, over TLS, so the services are closed to strangers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import certificate, logins, sources, strangers
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

_NAMES = {587: ("submission",), 465: ("submissions", "smtps")}  # as services(5) may have them
_TLS = {587: "smtpd_tls_security_level=encrypt", 465: "smtpd_tls_wrappermode=yes"}
_WHY = {
    587: "a service for mail from users who log in, with STARTTLS",
    465: "a service for mail from users who log in, with TLS from the start",
}

_NO_LOGINS = "users cannot log in here"
_AUTH, _WRAPPER, _LEVEL = "smtpd_sasl_auth_enable", "smtpd_tls_wrappermode", "smtpd_tls_security_level"
_LOGIN = "permit_sasl_authenticated"
_LISTS = tuple(f"smtpd_{each}_restrictions" for each in ("client", "helo", "sender", "relay", "recipient"))
# With one of these, a proxy in front of Postfix may have the logins, or TLS.
_PROXIED = ("smtpd_upstream_proxy_protocol", "smtpd_authorized_xclient_hosts")


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the settings with which users cannot log in, or not safely, where their programs try to."""
    for service in _services(postconf):
        yield from _unusable(postconf, service)


def _services(postconf: Postconf) -> Iterator[Service]:
    """Yield the services for mail from users who connect to them directly."""
    for service in postconf.running("smtpd"):
        is_direct = not any(postconf.value(name, service.id) for name in _PROXIED)
        if (
            service.port in sources.SUBMISSION_PORTS
            and is_direct
            and not strangers.is_local_only(postconf, service)
        ):
            yield service


def _wraps(service: Service) -> bool:
    """Return whether clients begin with TLS on the port of a service."""
    return service.port in (*_NAMES[465], "465")


def _start(service: Service) -> dict[str, str]:
    """Return the settings with which TLS begins as clients expect it."""
    return {_WRAPPER: "yes"} if _wraps(service) else {_WRAPPER: "no", _LEVEL: "encrypt"}


def _unusable(postconf: Postconf, service: Service) -> Iterator[Finding]:
    """Yield what keeps users from a service: no logins, TLS that begins in the wrong way, or none."""
    wraps = _wraps(service)
    if postconf.value(_AUTH, service.id) != "yes":
        yield from _closed(postconf, service)
    elif wraps != (postconf.value(_WRAPPER, service.id) == "yes"):
        what = "clients begin with TLS on this port" if wraps else "clients begin without TLS on this port"
        hint = logins.enabling(postconf, service, _start(service))
        yield Finding(f"{service.id}: nobody can log in: {what}: {_WRAPPER}", hint)
    elif not certificate.offers_tls(postconf, service.id) and not _is_auth_only(postconf, service):
        hint = logins.enabling(postconf, service, {_LEVEL: "encrypt"})
        yield Finding(f"{service.id}/{_LEVEL}: there is no TLS: passwords are sent in the clear", hint)


def _login_settings(postconf: Postconf, service: Service) -> dict[str, str]:
    """Return the settings by which a service without logins gets them, and TLS as far as it lacks it."""
    is_wrapped = postconf.value(_WRAPPER, service.id) == "yes"
    settings = {_AUTH: "yes", **({} if is_wrapped == _wraps(service) else _start(service))}
    if not certificate.offers_tls(postconf, service.id) and _WRAPPER not in settings:
        settings[_LEVEL] = "encrypt"
    return settings


def _closed(postconf: Postconf, service: Service) -> Iterator[Finding]:
    """Yield a finding if a service has no logins, and no other way in but mynetworks.

    Without a list that needs logins, it may be meant for clients in mynetworks.
    """
    if strangers.guest_setting(postconf, service) not in ("", "mynetworks"):
        return
    hint = logins.enabling(postconf, service, _login_settings(postconf, service))
    if _needs_logins(postconf, service):
        yield Finding(f"{service.id}: nobody can log in: {_AUTH} is not set, and {_LOGIN} needs it", hint)
    else:
        otherwise = "# or leave it, if only clients in mynetworks are to send here"
        yield Finding(f"{service.id}/{_AUTH}: users cannot log in here", f"{hint}\n{otherwise}", "warning")


def _own_lists(postconf: Postconf, service: Service) -> list[list[str]]:
    """Return the words of each restriction list that a service has itself."""
    return [postconf.words(name, service.id) for name in _LISTS if postconf.own(name, service.id)]


def _needs_logins(postconf: Postconf, service: Service) -> bool:
    """Return whether a list of its own admits nobody without a login."""
    return any(
        _LOGIN in words and "permit_mynetworks" not in words for words in _own_lists(postconf, service)
    )


def _is_to_complete(postconf: Postconf, service: Service) -> bool:
    """Return whether a service lacks logins, and nothing shows that this is intended.

    Clients in mynetworks that send without a login can still do so: where TLS would have to change, no list
    admits them anyway.
    """
    if _AUTH in postconf.overrides[service.id] or postconf.value(_AUTH, service.id) == "yes":
        return False
    if strangers.guest_setting(postconf, service) not in ("", "mynetworks"):
        return False
    if _needs_logins(postconf, service):
        return True
    lists = _own_lists(postconf, service)
    admits_logins = not lists or any(_LOGIN in words for words in lists)
    return admits_logins and _login_settings(postconf, service).keys() == {_AUTH}


def _is_auth_only(postconf: Postconf, service: Service) -> bool:
    """Return whether AUTH needs TLS; logins.findings reports it if there is none."""
    return postconf.value("smtpd_tls_auth_only", service.id) == "yes"


def missing(postconf: Postconf) -> list[Change]:
    """Return the edits that create the services on ports 587 and 465, or give them logins; none if both have.

    Raises ConfigError, with the command that helps, if users could not log in or TLS could not start.
    """
    ports = [port for port, names in _NAMES.items() if not _exists(postconf, (*names, str(port)))]
    incomplete = [service for service in _services(postconf) if _is_to_complete(postconf, service)]
    if not ports and not incomplete:
        return []
    sasl = logins.settings(postconf)
    for place in (*([""] if ports else []), *(service.id for service in incomplete)):
        what, level = certificate.fault(postconf, place)
        if level == "error":
            raise ConfigError(f"no service for mail from users: {what}", certificate.command(postconf, place))
    changes = [_change(postconf, port, sasl) for port in ports]
    for service in incomplete:
        own = postconf.overrides[service.id]
        settings = {
            **_login_settings(postconf, service),
            **{name: value for name, value in sasl.items() if name not in own},
        }
        changes += [
            Change("-P", f"{service.id}/{name}={value}", _NO_LOGINS) for name, value in settings.items()
        ]
    return changes


def _exists(postconf: Postconf, ports: tuple[str, ...]) -> bool:
    return any(
        service.port in ports and service.id.endswith(("/inet", "/pass"))
        for service in postconf.services.values()
    )


def _change(postconf: Postconf, port: int, sasl: dict[str, str]) -> Change:
    name = next(_known(port), str(port))
    settings = [
        f"syslog_name={postconf.value('syslog_name')}/{_NAMES[port][0]}",
        _TLS[port],
        "smtpd_sasl_auth_enable=yes",
        *(f"{parameter}={value}" for parameter, value in sasl.items()),
        "smtpd_client_restrictions=permit_sasl_authenticated,reject",
        "smtpd_helo_restrictions=",
        "smtpd_recipient_restrictions=",
        f"{strangers.relay_list(postconf)}=permit_sasl_authenticated,reject",
    ]
    if strangers.relay_list(postconf) == strangers.RECIPIENT:
        settings.remove("smtpd_recipient_restrictions=")
    options = "".join(f" -o {setting}" for setting in settings)
    return Change("-M", f"{name}/inet={name} inet n - {postconf.smtp_chroot} - - smtpd{options}", _WHY[port])


def _known(port: int) -> Iterator[str]:
    """Yield the names of a port that services(5) has here."""
    for name in _NAMES[port]:
        try:
            if socket.getservbyname(name, "tcp") == port:
                yield name
        except OSError:
            continue
