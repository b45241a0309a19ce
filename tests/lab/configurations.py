"""Configurations of Postfix as Debian makes them, and postconf(1) of another version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SHIPPED = Path("/usr/share/postfix")


SUBMISSION = """
submission inet n       -       y       -       -       smtpd
  # mail from our users
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_discard_ehlo_keywords=chunking
  -o receive_override_options=no_unknown_recipient_checks
submissions     inet  n       -       y       -       -       smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
"""


# As Debian's package makes them: what is added to main.cf, and to master.cf.
CONFIGURATIONS = {
    "internet site": (
        "myhostname = mx.example.com\nmydestination = $myhostname, localhost\nrelayhost =\n",
        "",
    ),
    "satellite": ("relayhost = [smtp.example.com]\ninet_interfaces = loopback-only\n", ""),
    "local only": (
        "default_transport = error\nrelay_transport = error\ninet_interfaces = loopback-only\n",
        "",
    ),
    "submission": ("message_size_limit = 20480000\nsmtpd_sasl_type = dovecot\n", SUBMISSION),
}


def postconf_of(version: str, directory: Path, more: str = "") -> dict[str, str]:
    """Return an environment in which postconf(1) is of another version, and knows these parameters more."""
    program = directory / "postconf"
    program.write_text(
        f'#!/bin/sh\n{shutil.which("postconf")} "$@" || exit\n'
        f'case "$*" in *-d|*-x) echo "mail_version = {version}";; esac\n'
        f'case "$*" in *-x) echo "{more}";; esac\n'
    )
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
