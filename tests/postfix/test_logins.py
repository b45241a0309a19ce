"""``check --postfix`` asks the submission services of a running Postfix for AUTH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dovecot import Dovecot
from installing import NO_WAIT, dkimpipe, setup
from throwaway import Machine

ENCRYPT = "hint: postconf -c /etc/postfix -P submission/inet/smtpd_tls_security_level=encrypt\n"
RESTART = f"{NO_WAIT}; postfix stop; postfix start"  # a reload is not over when its command is
LOG = "hint: # see the log: warning: and fatal: in the lines of smtpd\n"


@pytest.fixture(scope="module")
def machine(fresh: Path) -> Iterator[Machine]:
    """Postfix runs with ports 587 and 465, where users can log in."""
    with Machine(fresh, network=True) as machine:
        machine.shell(
            "openssl req -x509 -newkey ed25519 -nodes -subj /CN=mx.example.com -days 9"
            " -keyout /etc/ssl/mail.key -out /etc/ssl/mail.pem 2>/dev/null\n"
            "postconf -MX submission/inet; rm -rf /etc/dovecot /var/spool/postfix/private/auth\n"
            "postconf -e myhostname=mx.example.com smtpd_tls_cert_file=/etc/ssl/mail.pem"
            f" smtpd_tls_key_file=/etc/ssl/mail.key; {NO_WAIT}"
        )
        with Dovecot(at=machine.root / "var/spool/postfix/private/auth"):
            machine.shell("chown postfix /var/spool/postfix/private/auth")
            assert setup(machine, "--submission", "example.com").status == 0
            machine.shell(f"cp -a /etc/postfix /root/good; {NO_WAIT}; postfix start")
            yield machine


# What check --postfix adds to its findings.
FINDINGS = """
from dkimpipe.admin.findings import print_findings
from dkimpipe.admin.postfix import logins
from dkimpipe.admin.postfix.postconf import Postconf
if found := list(logins.findings(Postconf())):
    print_findings(found, "")
"""
# Commands that change the settings, whether Postfix is started again, and what is said of logins.
FAULTS = {
    "none, nor a port that nobody listens at": ("postconf -MX submissions/inet", True, ""),
    "AUTH is withheld": (
        "postconf -P submission/inet/smtpd_discard_ehlo_keywords=chunking,AUTH,dsn,smtputf8",
        True,
        "dkimpipe: error: submission/inet: nobody can log in: smtpd_discard_ehlo_keywords withholds AUTH\n"
        "hint: postconf -c /etc/postfix"
        " -P submission/inet/smtpd_discard_ehlo_keywords=chunking,dsn,smtputf8\n",
    ),
    "no TLS": (
        "postconf -P submission/inet/smtpd_tls_security_level=none submission/inet/smtpd_tls_auth_only=yes",
        True,
        "dkimpipe: error: submission/inet: nobody can log in:"
        f" STARTTLS is not offered, and AUTH only after it\n{ENCRYPT}",
    ),
    "a key of another certificate": (
        "openssl genpkey -algorithm ed25519 -out /etc/ssl/other.key\n"
        "postconf -e smtpd_tls_key_file=/etc/ssl/other.key",
        True,
        f"dkimpipe: error: submission/inet: nobody can log in: it replies 454\n{LOG}"
        f"dkimpipe: error: submissions/inet: nobody can log in: it closes the connection\n{LOG}",
    ),
    "settings that are not in use yet": (
        f"postconf -P submission/inet/smtpd_sasl_auth_enable=no; {RESTART}\n"
        "postconf -P submission/inet/smtpd_sasl_auth_enable=yes",
        False,
        "dkimpipe: error: submission/inet: nobody can log in: the reply to EHLO has no AUTH\n"
        "hint: # if the settings are new; otherwise see the log:\nhint: postfix reload\n",
    ),
    "a name that EHLO may not have": (
        "postconf -e smtpd_delay_reject=no smtpd_helo_restrictions=reject_non_fqdn_helo_hostname",
        True,
        "",
    ),
    "not for this host": ("postconf -e smtpd_sasl_exceptions_networks=127.0.0.0/8", True, ""),
    "no mechanism that is allowed": (
        "postconf -e smtpd_sasl_security_options=noanonymous,noplaintext",
        True,
        "dkimpipe: error: submission/inet, submissions/inet: nobody can log in:"
        f" it closes the connection\n{LOG}",
    ),
    "a server that master(8) does not start again": (
        "",
        False,
        "dkimpipe: error: submission/inet, submissions/inet: nobody can log in: no reply within 3 s\n" + LOG,
    ),
}


def as_set_up(machine: Machine) -> None:
    """Restore the settings: a service that starts meanwhile must not find them missing."""
    copies = (
        f"cp -a /root/good/{name} /etc/postfix/new; mv /etc/postfix/new /etc/postfix/{name}"
        for name in ("main.cf", "master.cf")
    )
    machine.shell("\n".join(copies))


def test_it_is_part_of_the_check(machine: Machine) -> None:
    as_set_up(machine)
    machine.shell(f"postconf -P submission/inet/smtpd_discard_ehlo_keywords=auth\n{RESTART}")
    assert "withholds AUTH" in dkimpipe(machine, "check", "--postfix").stdout


@pytest.mark.parametrize(("edits", "restarts", "expected"), FAULTS.values(), ids=FAULTS)
def test_it_asks_for_auth(machine: Machine, edits: str, restarts: bool, expected: str) -> None:
    as_set_up(machine)
    machine.shell(f"{edits}\n{RESTART if restarts else ''}")
    said = machine.run("/opt/dkimpipe/bin/python3", "-I", "-c", FINDINGS).stdout
    assert said == expected
