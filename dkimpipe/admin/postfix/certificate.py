"""The certificate that a service for users presents, and whether clients accept it.

Without its private key, which only root can read, the name and the certificate authority are not checked.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import sources
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.distribution import install_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from cryptography import x509

_PARAMETERS = ("smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_eccert_file")
_KEYS = {"smtpd_tls_cert_file": "smtpd_tls_key_file", "smtpd_tls_eccert_file": "smtpd_tls_eckey_file"}
_CHAIN = _PARAMETERS[0]  # from Postfix 3.4; the other parameters are ignored if it is set
_KEY_LABEL = b"PRIVATE KEY-----"
_LETS_ENCRYPT = "/etc/letsencrypt/live/"
_RENEWAL = "certbot renew && postfix reload"
_REFUSED = "clients refuse it, or warn their users"


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
    pairs = list(_pairs(postconf, service))
    if not pairs:
        return "there is no certificate, so that TLS cannot start", "error"
    for path, key in pairs:
        try:
            octets = Path(path).read_bytes()
        except PermissionError:
            continue  # only root can look
        except OSError as error:
            return f"{path}: {(error.strerror or str(error)).lower()}: TLS cannot start", "error"
        what, level = _refusal(postconf, octets, path, key, service)
        if what:
            return f"{path} {what}", level
    return "", ""


def _pairs(postconf: Postconf, service: str) -> Iterator[tuple[str, str]]:
    """Yield each file with a certificate, and the one with its private key."""
    key = ""
    for path in postconf.words(_CHAIN, service):
        octets = _octets(path)
        key = path if _KEY_LABEL in octets else key  # Postfix wants a key before its certificate
        if b"-----BEGIN CERTIFICATE-----" in octets or _KEY_LABEL not in octets:
            yield path, key
    for name in () if postconf.words(_CHAIN, service) else _PARAMETERS[1:]:
        for path in postconf.words(name, service):
            if path != "none":
                yield path, postconf.value(_KEYS[name], service)


def _octets(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _refusal(postconf: Postconf, octets: bytes, path: str, key: str, service: str) -> tuple[str, str]:
    """Return why clients refuse a certificate, and the level; empty if they accept it or it is not PEM."""
    from cryptography import x509  # not for those who only edit Postfix's configuration

    from dkimpipe.admin.postfix import handshake

    try:
        found = x509.load_pem_x509_certificate(octets)
    except ValueError:
        return "", ""  # smtpd(8) reports it
    begin, end = _validity(found)
    now = datetime.now(timezone.utc)
    if now > end:
        return f"expired on {end:%Y-%m-%d}: clients refuse it", "error"
    if now < begin:
        return f"is not valid before {begin:%Y-%m-%d}: clients refuse it", "error"
    if found.issuer == found.subject:
        return f"is self-signed: {_REFUSED}", "warning"
    host = postconf.value("myhostname")
    error = handshake.refusal(path, key, host)
    if error and error.verify_code == handshake.WRONG_NAME:
        if postconf.value("tls_server_sni_maps", service):
            return "", ""  # clients that ask for this name may get another
        names = ", ".join(_names(found)) or "no name"
        return (
            f"is for {names}, not for {host} (myhostname): clients that connect to that refuse it",
            "warning",
        )
    if error:
        return f"is not trusted: {error.verify_message}: {_REFUSED}", "warning"
    return "", ""


def _validity(found: x509.Certificate) -> tuple[datetime, datetime]:
    """Return from when until when a certificate is valid."""
    if hasattr(found, "not_valid_after_utc"):  # since version 42
        return found.not_valid_before_utc, found.not_valid_after_utc
    utc = timezone.utc
    return found.not_valid_before.replace(tzinfo=utc), found.not_valid_after.replace(tzinfo=utc)


def _names(found: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []  # a common name alone is not enough (RFC 9525)
    return extension.value.get_values_for_type(x509.DNSName)


def remedy(postconf: Postconf, error: ssl.SSLCertVerificationError, service: str) -> str:
    """Return what helps if a client refuses the certificate of a service with this error."""
    from dkimpipe.admin.postfix import handshake

    if error.verify_code == handshake.WRONG_NAME:
        return "--server with the name in the certificate"
    return command(postconf, service)


def command(postconf: Postconf, service: str = "") -> str:
    """Return the commands that get a certificate from Let's Encrypt, and name it where the present one is.

    One that is from there is renewed, or used with its chain.
    """
    host = postconf.value("myhostname")
    what, _ = fault(postconf, service)
    path = what.partition(" ")[0]
    if path.startswith(_LETS_ENCRYPT) and " expired " in what:
        return _RENEWAL
    if (
        path.endswith("/cert.pem")
        and " not trusted" in what
        and (whole := Path(path).with_name("fullchain.pem")).exists()
    ):
        own = service if any(postconf.own(name, service) for name in _PARAMETERS) and service else ""
        names = [name for name in _PARAMETERS if path in postconf.words(name, service)]
        words = [str(whole) if each == path else each for each in postconf.words(names[0], service)]
        return postconf.setting_command({names[0]: ",".join(words)}, own)
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
