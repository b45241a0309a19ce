"""The whole server and what it talks to, in one copy of a system: configuration files, and how they start.

192.0.2.10  mail.example.com, the server: Postfix, Dovecot, Roundcube, PHP, cron
192.0.2.20  mx.example.net, the receiver: a second Postfix, OpenDKIM, dkimpipe verify
192.0.2.53  the name server: BIND
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from throwaway import Machine

SERVER, RECEIVER, NAMES = "192.0.2.10", "192.0.2.20", "192.0.2.53"
RECEIVED = "/var/mail/received"
MAILDIR = f"{RECEIVED}/all"
LOG, RECEIVER_LOG = "/var/log/mail.log", "/var/log/receiver.log"
PASSWORD = "correct horse"
USERS = ("alice", "bob")

_NAMED = """\
options { directory "/var/cache/bind"; listen-on { 192.0.2.53; }; listen-on-v6 { none; };
          recursion no; dnssec-validation no; empty-zones-enable no; notify no; };
controls { };
zone "." { type primary; file "/etc/bind/root"; };
zone "example.com" { type primary; file "/etc/bind/example.com"; };
zone "example.net" { type primary; file "/etc/bind/example.net"; };
zone "2.0.192.in-addr.arpa" { type primary; file "/etc/bind/reverse"; };
"""
_SOA = """\
$TTL 60
@ IN SOA ns.example.net. hostmaster.example.net. {} 3600 600 86400 1
@ IN NS ns.example.net.
"""
_ZONES = {
    "root": "ns.example.net. IN A 192.0.2.53\n",
    "example.com": '@ IN MX 10 mail\n@ IN TXT "v=spf1 mx -all"\nmail IN A 192.0.2.10\n',
    "example.net": "@ IN MX 10 mx\nmx IN A 192.0.2.20\nns IN A 192.0.2.53\n",
    "reverse": "10 IN PTR mail.example.com.\n20 IN PTR mx.example.net.\n",
}
_MAIN = {
    "myhostname": "mail.example.com",
    "myorigin": "example.com",
    "mydestination": "example.com, mail.example.com, localhost",
    "inet_interfaces": f"{SERVER}, 127.0.0.1",
    "inet_protocols": "ipv4",
    "smtp_bind_address": SERVER,
    "maillog_file": LOG,
    "smtpd_tls_cert_file": "/etc/ssl/mail.pem",
    "smtpd_tls_key_file": "/etc/ssl/mail.key",
    "mailbox_transport": "lmtp:unix:private/dovecot-lmtp",
    "recipient_delimiter": "+",
    "delay_warning_time": "1s",
}
# Up to Dovecot 2.3, and from 2.4 on.
_DOVECOT = """\
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
auth_username_format = %n
passdb {
  driver = pam
}
userdb {
  driver = passwd
}
protocol lmtp {
  mail_plugins = sieve
}
plugin {
  sieve = ~/.dovecot.sieve
  sieve_vacation_dont_check_recipient = yes
}
"""
_DOVECOT_2_4 = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
auth_username_format = %{user|username}
passdb pam {
}
userdb passwd {
}
protocol lmtp {
  mail_plugins {
    sieve = yes
  }
}
sieve_script personal {
  path = ~/.dovecot.sieve
}
sieve_vacation_check_recipient = no
"""
_DOVECOT_ANY = """\
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
log_path = /var/log/dovecot.log
postmaster_address = postmaster@example.com
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
service lmtp {
  unix_listener /var/spool/postfix/private/dovecot-lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
}
"""
_RECEIVER = {
    "myhostname": "mx.example.net",
    "mydestination": "",
    "inet_interfaces": RECEIVER,
    "smtp_bind_address": RECEIVER,
    "queue_directory": "/var/spool/receiver",
    "data_directory": "/var/lib/receiver",
    "maillog_file": RECEIVER_LOG,
    "virtual_mailbox_domains": "example.net",
    "virtual_mailbox_maps": "static:all/",
    "virtual_mailbox_base": RECEIVED,
    "virtual_uid_maps": "static:65534",
    "virtual_gid_maps": "static:65534",
    "smtpd_milters": "inet:127.0.0.1:8899",
    "mailbox_transport": "",
    "alias_maps": "",
}
# What Debian's start script for Postfix copies: its services run in a chroot.
ALIASES = """\
postmaster: root
forwarded: bob@example.net
broken: "|exit 1"
stuck: "|exit 75"
"""
_CHROOT = "mkdir -p {0}/etc; cp -L /etc/resolv.conf /etc/hosts /etc/services /etc/nsswitch.conf {0}/etc"
_OPENDKIM = """\
Mode v
Socket inet:8899@127.0.0.1
AuthservID opendkim.example.net
Nameservers 192.0.2.53
Syslog no
"""
_ROUNDCUBE = """\
<?php
$config = [];
include("/etc/roundcube/debian-db-roundcube.php");
$config['imap_host'] = '127.0.0.1:143';
$config['smtp_host'] = 'tls://mail.example.com:587';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['smtp_conn_options'] = ['ssl' => ['cafile' => '/etc/ssl/mail.pem']];
$config['mail_domain'] = 'example.com';
$config['des_key'] = 'rcmail-!24ByteDESkey*Str';
$config['skin'] = 'elastic';
$config['plugins'] = [];
$config['htmleditor'] = 1;
"""


def addresses(machine: Machine) -> None:
    """Give the copy its addresses, and a resolver."""
    machine.shell("".join(f"ip addr add {address}/32 dev lo\n" for address in (SERVER, RECEIVER, NAMES)))
    _write(machine, "etc/resolv.conf", f"nameserver {NAMES}\n")
    _write(machine, "etc/hosts", f"127.0.0.1 localhost\n{SERVER} mail.example.com mail\n")


def name_server(machine: Machine, records: str = "") -> None:
    """Start BIND, or let it read the zones again; ``records`` are lines for the zone example.com."""
    serial = int(time.time())
    for name, text in _ZONES.items():
        more = records if name == "example.com" else ""
        _write(machine, f"etc/bind/{name}", f"{_SOA.format(serial)}{text}{more}\n")
    _write(machine, "etc/bind/named.conf", _NAMED)
    machine.shell("pkill -HUP named || named -u bind")
    wait_for(machine, f"dig +short +time=1 +tries=1 @{NAMES} mail.example.com A | grep -q .")


def server(machine: Machine) -> None:
    """Start the server's programs, as they are before dkimpipe: there are users, mail, and a certificate."""
    for user in USERS:
        machine.shell(f"useradd --create-home {user}\necho '{user}:{PASSWORD}' | chpasswd")
    _write(machine, "etc/aliases", ALIASES)
    machine.shell(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/ssl/mail.key -out /etc/ssl/mail.pem -days 9"
        " -subj /CN=mail.example.com -addext subjectAltName=DNS:mail.example.com 2>/dev/null"
    )
    is_new = not machine.shell("dovecot --version").startswith("2.3")
    _write(machine, "etc/dovecot/dovecot.conf", (_DOVECOT_2_4 if is_new else _DOVECOT) + _DOVECOT_ANY)
    _postconf(machine, "/etc/postfix", _MAIN)
    machine.shell(_CHROOT.format("/var/spool/postfix"))
    machine.shell("newaliases; touch -d @0 /etc/postfix/main.cf; postfix start >/dev/null 2>&1")
    machine.shell("dovecot >/dev/null 2>&1")  # it needs the directory that Postfix creates
    wait_for(machine, "test -S /var/spool/postfix/private/auth")


def receiver(machine: Machine) -> None:
    """Start the receiver: whatever arrives for example.net ends in one directory."""
    _write(machine, "etc/opendkim-receiver.conf", _OPENDKIM)
    machine.shell(
        "cp -a /etc/postfix /etc/receiver; rm -rf /etc/receiver/dkimpipe*\n"
        f"install -d -o nobody -g nogroup {RECEIVED}; install -d -o postfix /var/lib/receiver\n"
        "mkdir /var/spool/receiver; opendkim -x /etc/opendkim-receiver.conf\n"
        "postconf -e alternate_config_directories=/etc/receiver"
    )
    _postconf(machine, "/etc/receiver", _RECEIVER)
    machine.shell(_CHROOT.format("/var/spool/receiver"))
    machine.shell(
        "touch -d @0 /etc/postfix/main.cf /etc/receiver/main.cf\n"
        "postfix -c /etc/receiver start >/dev/null 2>&1"
    )


def verifying(machine: Machine, dkimpipe: str) -> None:
    """Let the receiver verify, as README.md says."""
    machine.shell(
        "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
        "touch -d @0 /etc/receiver/main.cf\n"
        f"{dkimpipe} postfix -c /etc/receiver --verify --apply\n"
        "touch -d @0 /etc/receiver/main.cf; postfix -c /etc/receiver reload >/dev/null 2>&1"
    )


def roundcube(machine: Machine) -> None:
    """Start Roundcube in PHP's own web server."""
    _write(machine, "etc/roundcube/config.inc.php", _ROUNDCUBE)
    machine.shell(
        "chown -R www-data /var/lib/roundcube /var/lib/dbconfig-common/sqlite3 2>/dev/null || true\n"
        "cd /var/lib/roundcube/public_html; setsid setpriv --reuid=www-data --regid=www-data --clear-groups"
        " php -S 127.0.0.1:8080 >/var/log/php.log 2>&1 &"
    )
    wait_for(machine, "ss -ltn | grep -q 127.0.0.1:8080")


def settle(machine: Machine) -> None:
    """Make Postfix's configuration look old: its programs wait until it is two seconds old."""
    machine.shell("touch -d @0 /etc/postfix/main.cf /etc/postfix/master.cf")


def wait_for(machine: Machine, test: str, seconds: float = 30) -> None:
    """Return when a shell command succeeds. Raises TimeoutError."""
    until(lambda: machine.run("sh", "-c", test).status == 0, test, seconds)


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return when a condition holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def _write(machine: Machine, path: str, text: str) -> None:
    Path(machine.root, path).write_text(text)


def _postconf(machine: Machine, directory: str, values: Mapping[str, str]) -> None:
    settings = [f"{name}={value}" for name, value in values.items()]
    done = machine.run("postconf", "-c", directory, "-e", *settings)
    if done.status:
        raise RuntimeError(done.stderr)
