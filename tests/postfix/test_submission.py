"""``dkimpipe setup --submission``, and whether users can log in: Dovecot's socket and the certificate."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from diagnosis import Fault, check, checks_of, edit, error, run, warning
from dovecot import END, GREETING, MECHANISMS, Dovecot, certificate
from installing import NO_WAIT, dkimpipe, postfix_files, setup
from throwaway import Machine

from dkimpipe.admin.postfix.postconf import Postconf

QUEUE = subprocess.check_output(["postconf", "-h", "queue_directory"], text=True).strip()
OWNER = subprocess.check_output(["postconf", "-h", "mail_owner"], text=True).strip()
HAS_DOVECOT = Path("/etc/dovecot").is_dir() or shutil.which("dovecot")
INSTALL = "" if HAS_DOVECOT else "apt install dovecot-imapd && "
INSTALL_CERTBOT = "" if shutil.which("certbot") else "apt install certbot && "
BLOCK = (
    f"printf '%s\\n' 'service auth {{' '  unix_listener {QUEUE}/private/auth {{' '    mode = 0660'"
    f" '    user = {OWNER}' '    group = {OWNER}' '  }}' '}}'"
    " > /etc/dovecot/conf.d/99-postfix.conf && systemctl restart dovecot"
)
CERTIFICATE = (
    f"{INSTALL_CERTBOT}certbot certonly --standalone -d mx.example.com && "
    "postconf -c DIR -e smtpd_tls_cert_file=/etc/letsencrypt/live/mx.example.com/fullchain.pem"
    " smtpd_tls_key_file=/etc/letsencrypt/live/mx.example.com/privkey.pem"
)
ENCRYPT = "postconf -c DIR -P submission/inet/smtpd_tls_security_level=encrypt"
USE_DOVECOT = f"{INSTALL}{BLOCK} && postconf -c DIR -e smtpd_sasl_type=dovecot smtpd_sasl_path=private/auth"
FAULTS: dict[str, Fault] = {
    "Cyrus by default, without any configuration": (
        "-X smtpd_sasl_type smtpd_sasl_path",
        error(
            "submission/inet: nobody can log in: Cyrus SASL has no configuration (smtpd.conf)", USE_DOVECOT
        ),
    ),
    "no socket": (
        "-e smtpd_sasl_path=SITE/nowhere",
        error(
            f"submission/inet: nobody can log in: {QUEUE}SITE/nowhere: no such file or directory",
            f"{INSTALL}{BLOCK} && postconf -c DIR -e smtpd_sasl_path=private/auth",
        ),
    ),
    "two services, and one socket that there is not": (
        "-e smtpd_sasl_path=private/nowhere\n-P smtp/inet/smtpd_sasl_auth_enable=yes",
        warning(
            "smtp/inet/smtpd_sasl_auth_enable: mail from users who log in here is not signed;"
            " let them use submission",
            "postconf -c DIR -P smtp/inet/smtpd_sasl_auth_enable=no",
        )
        + error(
            "smtp/inet, submission/inet: nobody can log in:"
            f" {QUEUE}/private/nowhere: no such file or directory",
            f"{INSTALL}{BLOCK}".replace("private/auth", "private/nowhere"),
        ),
    ),
    "a socket that nobody listens at": (
        "-e smtpd_sasl_path=inet:127.0.0.1:1",
        error(
            "submission/inet: nobody can log in: inet:127.0.0.1:1: connection refused",
            f"{INSTALL}{BLOCK} && postconf -c DIR -e smtpd_sasl_path=private/auth",
        ),
    ),
    "no certificate": (
        "-X smtpd_tls_cert_file",
        error("submission/inet: there is no certificate, so that TLS cannot start", CERTIFICATE),
    ),
    "a certificate that is not there": (
        "-e smtpd_tls_cert_file=/nowhere.pem",
        error("submission/inet: /nowhere.pem: no such file or directory: TLS cannot start", CERTIFICATE),
    ),
    "a certificate of one's own": (
        "-e smtpd_tls_cert_file=SITE/tls/self.pem",
        warning(
            "submission/inet: SITE/tls/self.pem is self-signed: clients refuse it, or warn their users",
            CERTIFICATE,
        ),
    ),
    "Cyrus in master.cf, and Dovecot answers": (
        "-P submission/inet/smtpd_sasl_type=cyrus submission/inet/smtpd_sasl_path=smtpd",
        error(
            "submission/inet: nobody can log in: Cyrus SASL has no configuration (smtpd.conf)",
            "postconf -c DIR -P submission/inet/smtpd_sasl_type=dovecot"
            " submission/inet/smtpd_sasl_path=DOVECOT",
        ),
    ),
    "a wrong path in master.cf, and Dovecot answers": (
        "-P submission/inet/smtpd_sasl_path=private/nosuch",
        error(
            f"submission/inet: nobody can log in: {QUEUE}/private/nosuch: no such file or directory",
            "postconf -c DIR -P submission/inet/smtpd_sasl_path=DOVECOT",
        ),
    ),
    "no logins, for mynetworks or by mistake": (
        "-P submission/inet/smtpd_sasl_auth_enable=no"
        " submission/inet/smtpd_relay_restrictions=permit_mynetworks,reject",
        warning(
            "submission/inet/smtpd_sasl_auth_enable: users cannot log in here",
            "postconf -c DIR -P submission/inet/smtpd_sasl_auth_enable=yes\n"
            "# or leave it, if only clients in mynetworks are to send here",
        ),
    ),
    "no logins, and restrictions that expect them": (
        "-P submission/inet/smtpd_sasl_auth_enable=no"
        " submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject",
        error(
            "submission/inet: nobody can log in: smtpd_sasl_auth_enable is not set, and"
            " permit_sasl_authenticated needs it",
            "postconf -c DIR -P submission/inet/smtpd_sasl_auth_enable=yes",
        ),
    ),
    "no logins, no TLS, and no certificate": (
        "-P submission/inet/smtpd_sasl_auth_enable=no submission/inet/smtpd_tls_security_level=none"
        " submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject\n-X smtpd_tls_cert_file",
        error(
            "submission/inet: nobody can log in: smtpd_sasl_auth_enable is not set, and"
            " permit_sasl_authenticated needs it",
            f"{CERTIFICATE} && postconf -c DIR -P submission/inet/smtpd_sasl_auth_enable=yes"
            " submission/inet/smtpd_tls_security_level=encrypt",
        ),
    ),
    "passwords in the clear": (
        "-P submission/inet/smtpd_tls_security_level=none",
        error(
            "submission/inet/smtpd_tls_security_level: there is no TLS: passwords are sent in the clear",
            ENCRYPT,
        ),
    ),
    "TLS that begins too early": (
        "-P submission/inet/smtpd_tls_wrappermode=yes",
        error(
            "submission/inet: nobody can log in: clients begin without TLS on this port:"
            " smtpd_tls_wrappermode",
            "postconf -c DIR -P submission/inet/smtpd_tls_wrappermode=no"
            " submission/inet/smtpd_tls_security_level=encrypt",
        ),
    ),
    "a certificate of one's own where TLS may be used": (
        "-P submission/inet/smtpd_tls_security_level=may\n-e smtpd_tls_cert_file=SITE/tls/self.pem",
        warning(
            "submission/inet: SITE/tls/self.pem is self-signed: clients refuse it, or warn their users",
            CERTIFICATE,
        ),
    ),
    "a certificate in master.cf that is not there": (
        "-P submission/inet/smtpd_tls_chain_files=/nowhere.pem",
        error(
            "submission/inet: /nowhere.pem: no such file or directory: TLS cannot start",
            f"{INSTALL_CERTBOT}certbot certonly --standalone -d mx.example.com && postconf -c DIR"
            " -P submission/inet/smtpd_tls_chain_files=/etc/letsencrypt/live/mx.example.com/privkey.pem,"
            "/etc/letsencrypt/live/mx.example.com/fullchain.pem",
        ),
    ),
}


test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(FAULTS)


def test_without_certbot_the_certificate_of_main_cf_stays(directory: Path, tmp_path: Path) -> None:
    subprocess.run(["postconf", "-c", str(directory), "-e", "smtpd_tls_cert_file=/nowhere.pem"], check=True)
    hint = check(directory)[1].partition("hint: ")[2]
    before = (directory / "main.cf").read_bytes()
    (tmp_path / "postconf").symlink_to(shutil.which("postconf") or "")
    done = subprocess.run(
        ["/bin/sh", "-c", hint], env={"PATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert "smtpd_tls_cert_file=/etc/letsencrypt" in hint
    assert done.returncode == 127
    assert (directory / "main.cf").read_bytes() == before


def test_nobody_can_log_in_where_auth_needs_tls_and_there_is_none(directory: Path) -> None:
    edits = [
        f"submission/inet/{each}" for each in ("smtpd_tls_security_level=none", "smtpd_tls_auth_only=yes")
    ]
    subprocess.run(["postconf", "-c", str(directory), "-P", *edits], check=True)
    cause = "STARTTLS is not offered, and AUTH only after it"
    expected = error(f"submission/inet: nobody can log in: {cause}", ENCRYPT.replace("DIR", str(directory)))
    assert check(directory)[1] == expected


def at(directory: Path, path: str) -> None:
    subprocess.run(["postconf", "-c", str(directory), "-e", f"smtpd_sasl_path={path}"], check=True)
    # Not in a chroot: the socket is outside the queue directory.
    subprocess.run(["postconf", "-c", str(directory), "-F", "submission/inet/chroot=n"], check=True)


@pytest.mark.parametrize(
    ("mechanisms", "has_logins"),
    [
        (MECHANISMS, True),
        (b"MECH\tSCRAM-SHA-256\tmutual-auth\n", True),
        (b"", False),
        (b"MECH\tANONYMOUS\tanonymous\n", False),
        (b"MECH\tPLAIN\tplaintext\tprivate\n", False),
    ],
    ids=["plain and login", "SCRAM", "none", "anonymous", "private"],
)
def test_users_can_log_in_with_any_mechanism_but_anonymous(
    directory: Path, tmp_path: Path, mechanisms: bytes, has_logins: bool
) -> None:
    tmp_path.chmod(0o755)
    with Dovecot(mechanisms) as dovecot:
        at(directory, dovecot.path)
        said = check(directory)[1]
    expected = error(
        f"submission/inet: nobody can log in: {dovecot.path} offers no mechanism",
        "# set auth_mechanisms = plain login in Dovecot's configuration",
    )
    assert said == ("dkimpipe: Postfix is set up\n" if has_logins else expected)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"220 mx.example.com ESMTP\r\n" * 4000, "it is not Dovecot's authentication socket"),
        (GREETING + END.replace(b"DONE\n", b"DONE"), "no answer"),
    ],
    ids=["another server", "no end"],
)
def test_a_server_that_does_not_answer_as_dovecot_does_is_an_error(
    directory: Path, answer: bytes, cause: str
) -> None:
    with Dovecot(answer=answer) as dovecot:
        at(directory, dovecot.path)
        said = check(directory)[1]
    what = f"dkimpipe: error: submission/inet: nobody can log in: {dovecot.path}: {cause}\n"
    assert said.startswith(what)


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to become Postfix's user")
@pytest.mark.parametrize("is_allowed", [True, False], ids=["its own", "root's"])
def test_the_socket_must_be_postfixs(directory: Path, site: Path, is_allowed: bool) -> None:
    socket = site / f"auth-{is_allowed}"
    with Dovecot(at=socket):
        os.chmod(socket, 0o600)
        if is_allowed:
            os.chown(socket, pwd.getpwnam(OWNER).pw_uid, 0)
        at(directory, str(socket))
        said = check(directory)[1]
    cause = f"{socket}: user {OWNER} may not connect to it"
    hint = BLOCK.replace(f"{QUEUE}/private/auth", str(socket))
    expected = error(f"submission/inet: nobody can log in: {cause}", hint)
    assert said == ("dkimpipe: Postfix is set up\n" if is_allowed else expected)


def test_a_further_service_is_created_and_nothing_is_asked_of_the_first(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert run(directory, "postfix", "--apply", "--submission")[0] == 0
    assert check(directory) == (0, "dkimpipe: Postfix is set up\n")
    listed = subprocess.check_output(["postconf", "-c", str(directory), "-M"], text=True)
    assert [line.split()[0] for line in listed.splitlines() if " inet " in line] == [
        "smtp",
        "submission",
        "submissions",
    ]
    assert run(directory, "postfix", "--revert")[0] == 0
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_of_mail_from_outside_there_is_no_submission(directory: Path) -> None:
    status, _ = run(directory, "postfix", "--verify", "--apply", "--submission")
    assert status == 78


# Services without logins, and what --submission adds to them.
NO_AUTH = "-PX submission/inet/smtpd_sasl_auth_enable"
NO_TLS = "-PX submission/inet/smtpd_tls_security_level"
RELAY = "-P submission/inet/smtpd_relay_restrictions"
AUTH, ENCRYPTED = ("smtpd_sasl_auth_enable", "yes"), ("smtpd_tls_security_level", "encrypt")
LOGIN_ONLY = f"{RELAY}=permit_sasl_authenticated,reject"
COMPLETED: dict[str, tuple[str, dict[str, str]]] = {
    "AUTH was forgotten": (NO_AUTH, dict([AUTH])),
    "AUTH and TLS were forgotten": (f"{NO_AUTH}\n{NO_TLS}\n{LOGIN_ONLY}", dict([AUTH, ENCRYPTED])),
    "it has no list of its own": (
        f"{NO_AUTH}\n-PX submission/inet/smtpd_relay_restrictions\n"
        "-e smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject",
        dict([AUTH]),
    ),
    "it begins without TLS on 465": (
        "submission inet n => submissions inet n\n"
        + "\n".join([NO_AUTH, NO_TLS, LOGIN_ONLY]).replace("submission/", "submissions/"),
        dict([AUTH, ("smtpd_tls_wrappermode", "yes")]),
    ),
    "it may be without TLS, and main.cf offers it": (
        f"{NO_AUTH}\n{NO_TLS}\n-e smtpd_tls_security_level=may",
        dict([AUTH]),
    ),
}
LEFT = {
    "it has logins": "-P submission/inet/syslog_name=mail",
    "AUTH is off on purpose": "-P submission/inet/smtpd_sasl_auth_enable=no",
    "it is for mynetworks": f"{NO_AUTH}\n{RELAY}=permit_mynetworks,reject",
    "clients in mynetworks may send there without TLS": f"{NO_AUTH}\n{NO_TLS}",
    "clients log in by certificates": f"{NO_AUTH}\n{RELAY}=permit_tls_all_clientcerts,reject",
    "a proxy has the logins": f"{NO_AUTH}\n-P submission/inet/smtpd_upstream_proxy_protocol=haproxy",
    "only this host can connect": f"{NO_AUTH}\n-e inet_interfaces=loopback-only",
}
SETTINGS = (AUTH[0], ENCRYPTED[0], "smtpd_tls_wrappermode", "smtpd_sasl_type", "smtpd_sasl_path")


def logins_of(directory: Path) -> dict[str, dict[str, str]]:
    """Return the settings of logins and TLS of each submission service."""
    found = Postconf(directory).overrides
    return {
        service: {name: value for name, value in found[service].items() if name in SETTINGS}
        for service in ("submission/inet", "submissions/inet")
        if service in found
    }


@pytest.mark.parametrize(("edits", "added"), COMPLETED.values(), ids=COMPLETED)
def test_an_existing_service_gets_logins(edits: str, added: dict[str, str], directory: Path) -> None:
    edit(directory, edits, {})
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    ((service, before),) = logins_of(directory).items()
    said = check(directory)[1]
    assert "users cannot log in here" in said or "nobody can log in" in said
    assert run(directory, "postfix", "--apply", "--submission")[0] == 0
    assert logins_of(directory)[service] == {**before, **added}
    assert check(directory) == (0, "dkimpipe: Postfix is set up\n")
    assert run(directory, "postfix", "--submission") == (0, "nothing to change\n")
    assert run(directory, "postfix", "--revert")[0] == 0
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == files


@pytest.mark.parametrize("edits", LEFT.values(), ids=LEFT)
def test_a_service_that_is_meant_to_be_without_logins_keeps_its_settings(edits: str, directory: Path) -> None:
    edit(directory, edits, {})
    before = logins_of(directory)
    assert run(directory, "postfix", "--apply", "--submission")[0] == 0
    after = logins_of(directory)
    assert after.pop("submissions/inet")[AUTH[0]] == "yes"
    assert after == before


def test_a_service_without_logins_and_certificate_is_refused(directory: Path) -> None:
    assert run(directory, "postfix", "--apply", "--submission")[0] == 0
    edit(directory, f"{NO_AUTH}\n-X smtpd_tls_cert_file", {})
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert run(directory, "postfix", "--apply", "--submission")[0] == 78
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == before


# In a copy of this machine.

SELF = "/etc/ssl/mail.pem"


@pytest.fixture
def bare(machine: Machine) -> Machine:
    """A copy whose Postfix has no submission service, and a certificate of its own."""
    (machine.root / SELF[1:]).write_bytes(certificate("mx.example.com", "mx.example.com"))
    machine.shell(
        f"postconf -MX submission/inet; postconf -e smtpd_tls_cert_file={SELF}; {NO_WAIT}\n"
        "rm -rf /etc/dovecot /var/spool/postfix/private/auth /etc/postfix/sasl/smtpd.conf"
    )
    return machine


def listen(machine: Machine) -> Dovecot:
    return Dovecot(at=machine.root / "var/spool/postfix/private/auth")


def test_setup_creates_the_services_with_what_it_finds(bare: Machine) -> None:
    before = postfix_files(bare)
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        done = setup(bare, "--submission", "example.com")
        again = setup(bare, "--submission", "example.com")
        bare.shell(NO_WAIT)
        checked = dkimpipe(bare, "check", "--postfix")
    assert (done.status, done.stderr) == (0, "")
    assert "nothing to do" in again.stdout
    assert checked.stdout.startswith(
        "dkimpipe: warning: submission/inet, submissions/inet: /etc/ssl/mail.pem is self-signed:"
    )
    listed = bare.shell("postconf -P submission/inet submissions/inet").splitlines()
    assert "submission/inet/smtpd_sasl_path = private/auth" in listed
    assert "submission/inet/smtpd_tls_security_level = encrypt" in listed
    assert "submissions/inet/smtpd_tls_wrappermode = yes" in listed
    assert "submission/inet/content_filter = dkimpipe:dummy" in listed
    assert setup(bare, "--remove").status == 0
    assert postfix_files(bare) == before


def test_a_dry_run_prints_the_same_and_changes_nothing(bare: Machine) -> None:
    before = postfix_files(bare)
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        dry = setup(bare, "--submission", "example.com", "--dry-run").stdout
        bare.shell("rm /var/spool/postfix/private/auth")
        assert postfix_files(bare) == before
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        assert setup(bare, "--submission", "example.com").stdout.startswith(dry)


@pytest.mark.parametrize("missing", ["logins", "certificate"])
def test_without_logins_or_certificate_it_refuses_and_names_the_command(bare: Machine, missing: str) -> None:
    if missing == "certificate":
        bare.shell(f"rm {SELF}")
    before = postfix_files(bare)
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        if missing == "logins":
            bare.shell("rm /var/spool/postfix/private/auth")
        done = setup(bare, "--submission", "example.com")
    assert done.status == 78
    assert postfix_files(bare) == before
    causes = {
        "logins": "dkimpipe: nobody could log in: there is no Dovecot at /var/spool/postfix/private/auth\n"
        "hint: apt install dovecot-imapd && printf ",
        "certificate": f"dkimpipe: no service for mail from users: {SELF}: no such file or directory:"
        f" TLS cannot start\nhint: {INSTALL_CERTBOT}certbot certonly --standalone -d mx.example.com &&",
    }
    assert done.stderr.startswith(causes[missing])


@pytest.mark.parametrize("has_tls", [True, False], ids=["with TLS", "without TLS"])
def test_an_existing_service_is_completed_once_it_is_closed(has_tls: bool, bare: Machine) -> None:
    """The first line of Debian's example, without those below it.

    If clients in mynetworks may send there without TLS, the command is printed.
    """
    bare.shell(f"postconf -M 'submission/inet=submission inet n - y - - smtpd'; {NO_WAIT}")
    if has_tls:
        bare.shell(f"postconf -e smtpd_tls_security_level=may; {NO_WAIT}")
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        refused = setup(bare, "--submission", "example.com")
        assert "submission/inet: clients that do not log in may send here" in refused.stderr
        bare.shell(f"{refused.stderr.splitlines()[1].removeprefix('hint: ')}; {NO_WAIT}")
        done = setup(bare, "--submission", "example.com")
        again = setup(bare, "--submission", "example.com")
        assert (done.status, done.stderr) == (0, "")
        assert "nothing to do" in again.stdout
        steps, _, findings = done.stdout.partition("\n\n")
        what = "submission/inet/smtpd_sasl_auth_enable: users cannot log in here\nhint: "
        assert ("# users cannot log in here" in steps, what in findings) == (has_tls, not has_tls)
        if not has_tls:
            bare.shell(findings.partition(what)[2].partition("\n")[0])
        listed = bare.shell(f"postconf -xP submission/inet; {NO_WAIT}").splitlines()
        checked = dkimpipe(bare, "check", "--postfix").stdout
    assert "submission/inet/smtpd_sasl_auth_enable = yes" in listed
    assert "log in" not in checked


def test_a_service_that_is_open_stays_unconnected(bare: Machine) -> None:
    bare.shell(
        "postconf -M 'submission/inet=submission inet n - y - - smtpd'\n"
        f"postconf -e smtpd_relay_restrictions=permit smtpd_recipient_restrictions=permit; {NO_WAIT}"
    )
    before = postfix_files(bare)
    with listen(bare):
        bare.shell("chown postfix /var/spool/postfix/private/auth")
        done = setup(bare, "--submission", "example.com")
    assert done.status == 78
    assert "submission/inet: clients that do not log in may send here" in done.stderr
    assert postfix_files(bare) == before
