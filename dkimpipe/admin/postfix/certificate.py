"""The certificate that a service for users presents, and whether clients accept it."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import sources
from dkimpipe.admin.postfix.postconf import Postconf

_PARAMETERS = ("smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_eccert_file")
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_VERSION = 0xA0  # the tag of a field that may be missing


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield what is wrong with the certificates of the services for users who log in."""
    causes: dict[tuple[str, str], list[str]] = {}
    for service in postconf.running("smtpd"):
        has_logins = postconf.value("smtpd_sasl_auth_enable", service.id) == "yes"
        if has_logins and service.port in sources.SUBMISSION_PORTS and _requires_tls(postconf, service.id):
            what, level = fault(postconf, service.id)
            if what:
                causes.setdefault((what, level), []).append(service.id)
    for (what, level), services in causes.items():
        yield Finding(f"{', '.join(services)}: {what}", command(postconf), level)


def fault(postconf: Postconf, service: str = "") -> tuple[str, str]:
    """Return what is wrong with the certificate of a service, and its level; two empty strings if nothing."""
    files = [path for name in _PARAMETERS for path in postconf.words(name, service) if path != "none"]
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


def command(postconf: Postconf) -> str:
    """Return the commands that get a certificate from Let's Encrypt, and name it in main.cf."""
    host = postconf.value("myhostname")
    live = f"/etc/letsencrypt/live/{host}"
    files = [f"smtpd_tls_cert_file={live}/fullchain.pem", f"smtpd_tls_key_file={live}/privkey.pem"]
    change = shlex.join(["postconf", "-c", str(postconf.directory), "-e", *files])
    return f"certbot certonly --standalone -d {host}\n{change}"


def _requires_tls(postconf: Postconf, service: str) -> bool:
    """Return whether a service is of no use without TLS."""
    level = postconf.value("smtpd_tls_security_level", service)
    return postconf.value("smtpd_tls_wrappermode", service) == "yes" or level == "encrypt"


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
