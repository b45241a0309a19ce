"""The certificate that a service for users presents, and whether clients accept it."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import sources
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.distribution import install_command

_PARAMETERS = ("smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_eccert_file")
_CHAIN = _PARAMETERS[0]  # from Postfix 3.4; the other parameters are ignored if it is set
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_VERSION = 0xA0  # the tag of a field that may be missing


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield what is wrong with the certificates of the services for users who log in."""
    causes: dict[tuple[str, str, str], list[str]] = {}
    for service in postconf.running("smtpd"):
        has_logins = postconf.value("smtpd_sasl_auth_enable", service.id) == "yes"
        if has_logins and service.port in sources.SUBMISSION_PORTS and offers_tls(postconf, service.id):
            what, level = fault(postconf, service.id)
            if what:
                causes.setdefault((what, command(postconf, service.id), level), []).append(service.id)
    for (what, hint, level), services in causes.items():
        yield Finding(f"{', '.join(services)}: {what}", hint, level)


def fault(postconf: Postconf, service: str = "") -> tuple[str, str]:
    """Return what is wrong with the certificate of a service, and its level; two empty strings if nothing."""
    names = _PARAMETERS[:1] if postconf.words(_CHAIN, service) else _PARAMETERS
    files = [path for name in names for path in postconf.words(name, service) if path != "none"]
    if not files:
        return "there is no certificate, so that TLS cannot start", "error"
    for path in files:
        try:
            octets = Path(path).read_bytes()
        except PermissionError:
            continue  # only root can look
        except OSError as error:
            return f"{path}: {(error.strerror or str(error)).lower()}: TLS cannot start", "error"
        if _is_self_signed(octets):
            return f"{path} is self-signed: clients refuse it, or warn their users", "warning"
    return "", ""


def command(postconf: Postconf, service: str = "") -> str:
    """Return the commands that get a certificate from Let's Encrypt, and name it where the present one is."""
    host = postconf.value("myhostname")
    live = f"/etc/letsencrypt/live/{host}"
    files = {"smtpd_tls_cert_file": f"{live}/fullchain.pem", "smtpd_tls_key_file": f"{live}/privkey.pem"}
    if any(postconf.words(name, service) for name in (_CHAIN, "smtpd_tls_eccert_file")):
        files = {_CHAIN: f"{live}/privkey.pem,{live}/fullchain.pem"}
    is_own = any(postconf.own(name, service) for name in _PARAMETERS) if service else False
    commands = [
        "" if shutil.which("certbot") else install_command("certbot"),
        shlex.join(["certbot", "certonly", "--standalone", "-d", host]),
        postconf.setting_command(files, service if is_own else ""),
    ]
    return " && ".join(filter(None, commands))


def offers_tls(postconf: Postconf, service: str) -> bool:
    """Return whether clients can use TLS at a service, or have to, if there is a certificate."""
    level = postconf.value("smtpd_tls_security_level", service)
    older = ("smtpd_use_tls", "smtpd_enforce_tls")  # which the level overrides
    names = ("smtpd_tls_wrappermode", *(() if level else older))
    return level not in ("", "none") or any(postconf.value(name, service) == "yes" for name in names)


def _is_self_signed(octets: bytes) -> bool:
    """Return whether the first certificate of a PEM file names itself as its issuer (RFC 5280 section 4.1).

    False as well if there is none: smtpd(8) reports it.
    """
    block = _BLOCK.search(octets)
    try:
        certificate = _elements(base64.b64decode(block[1] if block else b""))[0][1]
        fields = [each for each in _elements(_elements(certificate)[0][1]) if each[0] != _VERSION]
        return fields[2] == fields[4]  # after the serial number and the algorithm: issuer, validity, subject
    except (ValueError, IndexError):
        return False


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of a structure in DER, each with its tag. Raises IndexError."""
    found, at = [], 0
    while at < len(der):
        length, start = der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        found.append((der[at], der[start : start + length]))
        at = start + length
    return found
