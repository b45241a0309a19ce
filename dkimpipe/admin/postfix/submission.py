"""The services for mail from users (RFC 6409, RFC 8314): the edits that create them.

Created with what there is: the SASL server that answers, and the certificate that main.cf names. Clients must
log in, over TLS, so the services are closed to strangers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from dkimpipe.admin.postfix import certificate, logins, strangers
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

_NAMES = {587: ("submission",), 465: ("submissions", "smtps")}  # as services(5) may have them
_TLS = {587: "smtpd_tls_security_level=encrypt", 465: "smtpd_tls_wrappermode=yes"}
_WHY = {
    587: "a service for mail from users who log in, with STARTTLS",
    465: "a service for mail from users who log in, with TLS from the start",
}


def missing(postconf: Postconf) -> list[Change]:
    """Return the edits that create the services on ports 587 and 465; none if both exist.

    Raises ConfigError, with the command that helps, if users could not log in or TLS could not start.
    """
    ports = [port for port, names in _NAMES.items() if not _exists(postconf, (*names, str(port)))]
    if not ports:
        return []
    sasl = logins.settings(postconf)
    what, level = certificate.fault(postconf)
    if level == "error":
        raise ConfigError(f"no service for mail from users: {what}", certificate.command(postconf))
    return [_change(postconf, port, sasl) for port in ports]


def _exists(postconf: Postconf, ports: tuple[str, ...]) -> bool:
    return any(
        service.port in ports and service.id.endswith(("/inet", "/pass"))
        for service in postconf.services.values()
    )


def _change(postconf: Postconf, port: int, sasl: dict[str, str]) -> Change:
    name = next(_known(port), str(port))
    settings = [
        f"syslog_name=postfix/{_NAMES[port][0]}",
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
