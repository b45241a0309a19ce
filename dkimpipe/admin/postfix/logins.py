"""Logins at smtpd(8): which SASL server answers, with which mechanisms, what clients see of it, and how to
connect one.

Dovecot is asked as smtpd(8) asks it (Dovecot's authentication protocol, version 1): a handshake without a
login. Cyrus SASL runs within smtpd(8), so only its configuration can be looked for.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import certificate, listener, restriction_lists, sources, strangers
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError

SOCKET = "private/auth"  # below the queue directory, so that it can be reached from a chroot
_SOCKETS = (SOCKET, "private/dovecot-auth")  # where packages and guides have Dovecot listen
_NO_MECHANISM = "set auth_mechanisms = plain login in Dovecot's configuration"
TIME_LIMIT = 3.0  # seconds for each step of the handshake
_LIMIT = 65536  # octets; an answer is much shorter
_CYRUS_DIRECTORIES = ("/etc/postfix/sasl", "/etc/sasl2", "/usr/lib/sasl2", "/usr/lib64/sasl2", "/etc/sasl")
_CYRUS_PASSWORDS = "/etc/sasldb2"
_PORTS = {"submission": 587, "submissions": 465, "smtps": 465}
# With one of these, what this host is offered says little about other clients.
_DEPENDING = (
    "smtpd_sasl_exceptions_networks",
    "smtpd_discard_ehlo_keyword_address_maps",
    "smtpd_upstream_proxy_protocol",
    "smtpd_tls_req_ccert",
)
_NO_STARTTLS = "STARTTLS is not offered, and AUTH only after it"
_LOG = "see the log: warning: and fatal: in the lines of smtpd"
_DOVECOT = Path("/etc/dovecot")
_DOVECOT_FILE = _DOVECOT / "conf.d/99-postfix.conf"


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield why nobody can log in at services that offer it, once for services with one cause."""
    causes: dict[tuple[str, str, str], list[str]] = {}
    for service in postconf.running("smtpd"):
        if postconf.value("smtpd_sasl_auth_enable", service.id) == "yes":
            cause, hint, level = (*(_without_tls(postconf, service) or obstacle(postconf, service)), "error")
            starts = restriction_lists.has_required(postconf, service.id)  # if not, `starting` reports it
            if not cause and postconf.is_running and starts and service.port in sources.SUBMISSION_PORTS:
                cause, hint, level = refusal(postconf, service)
            if cause:
                causes.setdefault((cause, hint, level), []).append(service.id)
    for (cause, hint, level), services in causes.items():
        yield Finding(f"{', '.join(services)}: nobody can log in: {cause}", hint, level)


def obstacle(postconf: Postconf, service: Service) -> tuple[str, str]:
    """Return why nobody can log in at a service, and a hint; two empty strings if it is not known."""
    kind = postconf.value("smtpd_sasl_type", service.id)
    path = postconf.value("smtpd_sasl_path", service.id)
    if kind == "cyrus":
        if has_cyrus(postconf, path):
            return "", ""
        return f"Cyrus SASL has no configuration ({path}.conf)", _use_dovecot(postconf, service)
    if kind != "dovecot":
        return "", ""
    try:
        mechanisms = ask(postconf, path, service.chroot == "y")
    except PermissionError as error:
        if os.geteuid() != 0:
            return "", ""  # only root can look
        owner = postconf.value("mail_owner")
        hint = _use_dovecot(postconf, service, error.filename)
        return f"{error.filename}: user {owner} may not connect to it", hint
    except OSError as error:
        where = error.filename or path
        cause = error.strerror or str(error)
        return f"{where}: {cause[0].lower()}{cause[1:]}", _use_dovecot(postconf, service)
    offered = [name for name, words in mechanisms if name != "ANONYMOUS" and "private" not in words]
    if not offered:
        return f"{path} offers no mechanism", _NO_MECHANISM
    return "", ""


def _without_tls(postconf: Postconf, service: Service) -> tuple[str, str] | None:
    """Return why nobody can log in where AUTH needs TLS and the settings have none; None otherwise."""
    if certificate.offers_tls(postconf, service.id) or not _wants_tls(postconf, service):
        return None
    return _NO_STARTTLS, enabling(postconf, service, {"smtpd_tls_security_level": "encrypt"})


def enabling(postconf: Postconf, service: Service, settings: Mapping[str, str]) -> str:
    """Return the commands that give a service logins or TLS, after what these need to work.

    Otherwise smtpd(8) would no longer start, or would refuse clients for want of TLS.
    """
    cause, first = obstacle(postconf, service)
    if cause and first == _NO_MECHANISM:
        return first
    _, level = certificate.fault(postconf, service.id)
    commands = [
        first,
        certificate.command(postconf, service.id) if level == "error" else "",
        postconf.setting_command(settings, service.id),
    ]
    return " && ".join(filter(None, commands))


def refusal(postconf: Postconf, service: Service) -> tuple[str, str, str]:
    """Return why a running service does not offer AUTH, a hint, and the level; empty strings if it does.

    A service that does not listen, or not to this host, is not judged.
    """
    from dkimpipe.admin.postfix import answering

    if any(postconf.value(name, service.id) not in ("", "no") for name in _DEPENDING):
        return "", "", ""
    try:
        where = _address(postconf, service)
        keywords = answering.offered(*where, _begins_with_tls(postconf, service), TIME_LIMIT)
    except (ConnectionAbortedError, TimeoutError) as error:
        return error.strerror or str(error), _LOG, "error"
    except OSError:
        return "", "", ""
    return (*_unoffered(postconf, service, keywords), "error") if "auth" not in keywords else ("", "", "")


def silence(postconf: Postconf, service: Service) -> str:
    """Return why a service that listens does not greet this host; empty if it does, or refuses it."""
    from dkimpipe.admin.postfix import answering

    try:
        return answering.silence(*_address(postconf, service), TIME_LIMIT)
    except OSError:  # the name of its port is unknown
        return ""


def _begins_with_tls(postconf: Postconf, service: Service) -> bool:
    return postconf.value("smtpd_tls_wrappermode", service.id) == "yes"


def _unoffered(postconf: Postconf, service: Service, keywords: Mapping[str, str]) -> tuple[str, str]:
    """Return why AUTH is not among the keywords of EHLO, and a hint."""
    words = postconf.words("smtpd_discard_ehlo_keywords", service.id)
    kept = [word for word in words if word.lower() != "auth"]
    if kept != words:
        change = Change("-P", f"{service.id}/smtpd_discard_ehlo_keywords={','.join(kept)}", "")
        return "smtpd_discard_ehlo_keywords withholds AUTH", postconf.command(change)
    has_tls = _begins_with_tls(postconf, service)
    if not has_tls and "starttls" not in keywords and _wants_tls(postconf, service):
        return _NO_STARTTLS, certificate.command(postconf, service.id)
    return (
        "the reply to EHLO has no AUTH",
        "# if the settings are new; otherwise see the log:\npostfix reload",
    )


def _wants_tls(postconf: Postconf, service: Service) -> bool:
    """Return whether AUTH is offered within TLS only."""
    level = postconf.value("smtpd_tls_security_level", service.id)
    return level == "encrypt" or postconf.value("smtpd_tls_auth_only", service.id) == "yes"


def _address(postconf: Postconf, service: Service) -> tuple[str, int]:
    """Return where a service listens: on loopback, if it listens there as well. Raises OSError."""
    host, _, port = service.name.rpartition(":")
    names = [host] if host else postconf.words("inet_interfaces")
    is_ipv6 = postconf.words("inet_protocols") == ["ipv6"]
    loopback = "::1" if is_ipv6 else "127.0.0.1"
    if {"all", "loopback-only", "localhost", loopback, *listener.ANY_OF_BOTH} & {
        each.strip("[]") for each in names
    }:
        host = loopback
    number = int(port) if port.isdigit() else _PORTS.get(port) or socket.getservbyname(port)
    return (host or names[0]).strip("[]"), number


def ask(postconf: Postconf, path: str, in_chroot: bool = False) -> list[tuple[str, list[str]]]:
    """Return the mechanisms that Dovecot offers to smtpd(8), each with its properties.

    Raises OSError, with the path of the socket, if Dovecot cannot be asked.
    """
    queue = Path(postconf.value("queue_directory"))
    kind, _, rest = path.partition(":")
    if kind == "inet":
        host, _, port = rest.rpartition(":")
        address: object = (host.strip("[]"), int(port)) if port.isdigit() else None
        if not address:
            raise OSError(None, "not an address", path)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    else:
        place = rest if kind == "unix" else path
        address = str(queue / (place.lstrip("/") if in_chroot else place))
        family = socket.AF_UNIX
    try:
        with _as_owner(postconf), socket.socket(family, socket.SOCK_STREAM) as server:
            server.settimeout(TIME_LIMIT)
            server.connect(address)  # type: ignore[arg-type]
            server.sendall(b"VERSION\t1\t0\nCPID\t%d\n" % os.getpid())
            return _mechanisms(_handshake(server))
    except OSError as error:
        name = address if family == socket.AF_UNIX else path
        cause = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise type(error)(error.errno, cause, name) from None


def _handshake(server: socket.socket) -> bytes:
    """Return Dovecot's part of the handshake, up to DONE. Raises OSError."""
    answer = b""
    while not answer.endswith(b"DONE\n"):
        octets = server.recv(4096)
        if not octets or len(answer) > _LIMIT:
            raise OSError(None, "it is not Dovecot's authentication socket")
        answer += octets
    return answer


def _mechanisms(answer: bytes) -> list[tuple[str, list[str]]]:
    lines = (line.split("\t") for line in answer.decode(errors="replace").splitlines())
    return [(words[1], words[2:]) for words in lines if words[0] == "MECH" and len(words) > 1]


@contextlib.contextmanager
def _as_owner(postconf: Postconf) -> Iterator[None]:
    """Be Postfix's user for a while, if this is root: smtpd(8) connects as this user."""
    if os.geteuid() != 0:
        yield
        return
    owner, groups = pwd.getpwnam(postconf.value("mail_owner")), os.getgroups()
    os.setgroups([])
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def has_cyrus(postconf: Postconf, path: str) -> bool:
    """Return whether Cyrus SASL has a configuration for smtpd(8), or its own database of passwords."""
    configured = postconf.value("cyrus_sasl_config_path").split(":")
    files = (Path(each, f"{path}.conf") for each in (*filter(None, configured), *_CYRUS_DIRECTORIES))
    multiarch = Path("/usr/lib").glob(f"*/sasl2/{path}.conf")
    return any(map(Path.exists, files)) or any(multiarch) or Path(_CYRUS_PASSWORDS).exists()


def has_dovecot() -> bool:
    """Return whether Dovecot is installed."""
    return _DOVECOT.is_dir() or shutil.which("dovecot") is not None


def settings(postconf: Postconf) -> dict[str, str]:
    """Return the SASL settings of a service for users, as far as main.cf has none that work.

    Dovecot's socket is used if it answers, or else Cyrus SASL if it is configured. Raises ConfigError, with
    the command that helps, if neither is there.
    """
    if "smtpd_sasl_type" in postconf.explicit:
        assumed = Service("", "n", "-", postconf.smtp_chroot, "-", "-", "smtpd", "")
        cause, hint = obstacle(postconf, assumed)
        if cause:
            raise ConfigError(f"nobody could log in: {cause}", hint)
        return {}
    try:
        ask(postconf, SOCKET)
    except OSError:
        if has_cyrus(postconf, postconf.value("smtpd_sasl_path")):
            return {}
        what = "Dovecot does not answer at" if has_dovecot() else "there is no Dovecot at"
        where = Path(postconf.value("queue_directory"), SOCKET)
        raise ConfigError(f"nobody could log in: {what} {where}", _start_dovecot(postconf)) from None
    return {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": SOCKET}


def _use_dovecot(postconf: Postconf, service: Service, refused: str = "") -> str:
    """Return the commands that connect a service to Dovecot, installed or not.

    A socket where Dovecot answers is used as it is. Without one, Dovecot gets one where Postfix looks for it,
    if that is where sockets of Postfix are.

    ``refused``  a socket of Dovecot's that Postfix may not use
    """
    path = postconf.value("smtpd_sasl_path", service.id)
    kind, _, address = path.partition(":")
    if kind == "inet" and not strangers.is_loopback(address.rpartition(":")[0]):
        return shlex.join(["nc", "-v", *address.replace("[", "").replace("]", "").rsplit(":", 1)])
    for known in dict.fromkeys((postconf.value("smtpd_sasl_path"), *_SOCKETS)):
        with contextlib.suppress(OSError):
            ask(postconf, known, service.chroot == "y")
            return _point_to(postconf, service, known)
    place = path if refused or path.startswith("private/") else SOCKET
    start = listener_command(postconf, refused) if refused else _start_dovecot(postconf, place)
    commands = [start, _point_to(postconf, service, place)]
    return " && ".join(filter(None, commands))


def _point_to(postconf: Postconf, service: Service, path: str) -> str:
    """Return the command that connects a service to a socket of Dovecot's; empty if it is connected."""
    wanted = {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": path}
    changed = {name: value for name, value in wanted.items() if postconf.value(name, service.id) != value}
    own = postconf.overrides.get(service.id, {})
    return postconf.setting_command(changed, service.id if own.keys() & changed else "") if changed else ""


def _start_dovecot(postconf: Postconf, path: str = SOCKET) -> str:
    """Return the commands by which Dovecot answers where smtpd(8) can ask it."""
    install = "" if has_dovecot() else f"{install_command('dovecot')} && "
    return f"{install}{listener_command(postconf, path)}"


def listener_command(postconf: Postconf, path: str = SOCKET) -> str:
    """Return the command that gives Dovecot (2.3 and 2.4) a socket for smtpd(8)."""
    owner, place = postconf.value("mail_owner"), Path(postconf.value("queue_directory"), path)
    lines = (
        "service auth {",
        f"  unix_listener {place} {{",
        "    mode = 0660",
        f"    user = {owner}",
        f"    group = {owner}",
        "  }",
        "}",
    )
    words = " ".join(shlex.quote(line) for line in lines)
    return f"printf '%s\\n' {words} > {_DOVECOT_FILE} && systemctl restart dovecot"
