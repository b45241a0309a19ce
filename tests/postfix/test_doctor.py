"""``dkimpipe check --postfix`` names what is wrong with a configuration, and nothing where all is right.

In the tables PROGRAM is the command that runs the filter, VERIFIER the one that verifies, SITE the directory
where they are, and DIR the configuration directory.
"""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from configurations import postconf_of
from conftest import INTERPRETER, PROJECT, copy_program
from conftest import MAIN as MAIN_FILE

from dkimpipe import __version__
from dkimpipe.admin.cli import run_verb
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import doctor
from dkimpipe.admin.postfix.postconf import Postconf
from postfix import shared_directory

PYTHON = "/usr/bin/python3"
NEEDS = {"Debian's package postfix": shutil.which("postconf"), PYTHON: Path(PYTHON).exists()}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests of the doctor need {missing}", allow_module_level=True)

PROGRAM = f"{PYTHON} -IS SITE/dkimpipe/__main__.py --conf_file SITE/conf"
INSTALLED = f"""#!{PYTHON} -IS
import sys
sys.path.append("SITE")
from dkimpipe.__main__ import main
sys.exit(main())
"""
VERIFIER = f"{INTERPRETER} -I SITE/dkimpipe/__main__.py verify --conf_file SITE/verify.conf"
GOOD = (0, "dkimpipe: Postfix is set up\n")

# What every master.cf has besides: nothing of it is for the filter, though maildrop is a pipe as well.
REST = """
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       y       -       -       lmtp
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
"""
PORT_25 = "smtp      inet  n       -       y       -       -       smtpd\n"
OPTIONS = """\
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o content_filter=dkimpipe:dummy
  -o receive_override_options=no_address_mappings
  -o cleanup_service_name=dkimpipe-cleanup
  -o smtpd_discard_ehlo_keywords=dsn,smtputf8,silent-discard
  -o message_size_limit=10223616
"""
OWN_CLEANUP = "  -o cleanup_service_name=dkimpipe-cleanup\n"
SUBMISSION = f"""\
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
{OPTIONS}"""
PICKUP = """\
pickup    unix  n       -       y       60      1       pickup
  -o receive_override_options=no_header_body_checks,no_milters
  -o smtputf8_autodetect_classes=verify
"""
TOLD = "--login=${sasl_username} --client=${client_address}"
FILTER = r"""
dkimpipe-cleanup unix n -       y       -       0       cleanup
  -o always_add_missing_headers=yes
dkimpipe  unix  -       n       n       -       4       pipe
  -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}
  flags=q null_sender= user=nobody argv=PROGRAM TOLD -f ${sender} -- ${recipient}
"""
MAIN = """
compatibility_level = 3.6
myhostname = mx.example.com
dkimpipe_destination_recipient_limit = 1000
disable_mime_output_conversion = yes
header_size_limit = 1048576
"""
MASTER = PORT_25 + PICKUP + SUBMISSION + FILTER
INBOUND = """\
  -o content_filter=dkimpipe-verify:dummy
  -o receive_override_options=no_address_mappings
  -o smtpd_discard_ehlo_keywords=dsn,silent-discard
  -o message_size_limit=10223616
"""
VERIFY = r"""
dkimpipe-verify unix - n n - 4 pipe
  -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}
  flags=q null_sender= user=daemon argv=VERIFIER -f ${sender} -- ${recipient}
"""
MAIN_BOTH = f"{MAIN}dkimpipe-verify_destination_recipient_limit = 1000\n"
AMAVIS_IN_MAIN = "verified behind amavis for all mail"
NOTHING_SIGNED = "mail from outside is verified, and nothing signed"
MASTER_BOTH = PORT_25 + INBOUND + PICKUP + SUBMISSION + FILTER + VERIFY

# Good configurations: main.cf, and master.cf without REST.
CONFIGURATIONS = {
    "submission only": (MAIN, MASTER),
    "submission and submissions": (
        MAIN,
        f"""
{PORT_25}{PICKUP}{SUBMISSION}
submissions     inet  n       -       y       -       -       smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=ORIGINATING
{OPTIONS}{FILTER}
""",
    ),
    "smtps by number, and a port of one's own": (
        MAIN,
        f"""
{PORT_25}{PICKUP}{FILTER}
465       inet  n       -       n       -       -       smtpd
  -o smtpd_tls_wrappermode=yes
{OPTIONS}
2525      inet  n       -       n       -       -       smtpd
  -o smtpd_sasl_auth_enable=yes
{OPTIONS}
""",
    ),
    "bound to addresses": (
        MAIN,
        f"""
192.0.2.1:smtp      inet  n       -       n       -       -       smtpd
127.0.0.1:submission inet n       -       n       -       -       smtpd
{OPTIONS}
[::1]:587 inet n       -       n       -       -       smtpd
{OPTIONS}{PICKUP}{FILTER}
""",
    ),
    "comments and tabs between the lines": (
        MAIN,
        f"""
# ==========================================================================
# service type  private unpriv  chroot  wakeup  maxproc command + args
# ==========================================================================
{PORT_25}#submission inet n - y - - smtpd
#  -o smtpd_reject_unlisted_recipient=no
submission\tinet\tn\t-\ty\t-\t-\tsmtpd
\t-o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
\t-o content_filter=dkimpipe:dummy
# aliases: once
\t-o receive_override_options=no_address_mappings

   # for mail programs without a clock
\t-o\tcleanup_service_name=dkimpipe-cleanup -o smtpd_discard_ehlo_keywords=dsn,smtputf8
\t-o message_size_limit=10223616
#submissions inet n - y - - smtpd
{PICKUP}{FILTER}
""",
    ),
    "restrictions by macros": (
        f"""{MAIN}
mua_client_restrictions = permit_sasl_authenticated, reject
mua_discarded = dsn, smtputf8
mua_cleanup = dkimpipe-cleanup
""",
        f"""
{PORT_25}{PICKUP}{FILTER}
submission inet n       -       y       -       -       smtpd
  -o smtpd_client_restrictions=$mua_client_restrictions
  -o content_filter=dkimpipe:dummy
  -o receive_override_options=no_address_mappings,no_unknown_recipient_checks
  -o cleanup_service_name=$mua_cleanup
  -o smtpd_discard_ehlo_keywords=$mua_discarded
  -o message_size_limit=10223616
""",
    ),
    "lists with blanks in braces": (
        MAIN,
        f"""
{PORT_25}{FILTER}
submission inet n - y - - smtpd
  -o {{ smtpd_relay_restrictions = permit_sasl_authenticated, reject }}
  -o {{ content_filter = dkimpipe:dummy }}
  -o {{ receive_override_options = no_address_mappings, no_unknown_recipient_checks }}
  -o {{ cleanup_service_name = dkimpipe-cleanup }}
  -o {{ smtpd_discard_ehlo_keywords = CHUNKING, DSN, SMTPUTF8, silent-discard }}
  -o {{ message_size_limit = 10223616 }}
pickup unix n - y 60 1 pickup
  -o {{ receive_override_options = no_milters, no_header_body_checks }}
  -o {{ smtputf8_autodetect_classes = verify, bounce }}
""",
    ),
    "a filter with another name": (
        """
compatibility_level = 3.6
signer_time_limit = 10m
signer_destination_recipient_limit = 5000
disable_mime_output_conversion = yes
header_size_limit = 2097152
""",
        MASTER.replace("dkimpipe:dummy", "signer:dummy").replace("dkimpipe  unix", "signer unix"),
    ),
    "limits as good as ours": (
        """
compatibility_level = 3.6
dkimpipe_time_limit = 600s
dkimpipe_destination_recipient_limit = 0
message_size_limit = 52428800
disable_mime_output_conversion = yes
header_size_limit = 1048577
""",
        MASTER,
    ),
    "limits for all transports": (
        """
compatibility_level = 3.6
command_time_limit = 5m
default_destination_recipient_limit = 2000
message_size_limit = 0
disable_mime_output_conversion = yes
header_size_limit = 1048576
""",
        MASTER.replace("  -o message_size_limit=10223616\n", ""),
    ),
    "header fields added to all mail": (
        f"{MAIN}always_add_missing_headers = yes\n",
        MASTER.replace(OWN_CLEANUP, ""),
    ),
    "header fields added by a cleanup service of the owner": (
        MAIN,
        MASTER.replace("dkimpipe-cleanup", "subcleanup").replace(
            "-o always_add_missing_headers=yes",
            "-o header_checks=regexp:/etc/postfix/checks -o { always_add_missing_headers = yes }",
        ),
    ),
    "a cleanup service for all mail, with another name": (
        f"{MAIN}cleanup_service_name = clean\nalways_add_missing_headers = yes\n",
        f"{MASTER.replace(OWN_CLEANUP, '')}clean unix n - y - 0 cleanup\n",
    ),
    "header addresses rewritten for clients on this host alone": (
        f"{MAIN}local_header_rewrite_clients = permit_inet_interfaces\n",
        MASTER,
    ),
    "header addresses rewritten for nobody": (
        f"{MAIN}local_header_rewrite_clients = permit_mynetworks, static:all\n",
        MASTER.replace(OWN_CLEANUP, f"{OWN_CLEANUP}  -o local_header_rewrite_clients=\n"),
    ),
    "keywords discarded on all ports": (
        f"{MAIN}smtpd_discard_ehlo_keywords = dsn, smtputf8, etrn, silent-discard\n",
        MASTER.replace("  -o smtpd_discard_ehlo_keywords=dsn,smtputf8,silent-discard\n", ""),
    ),
    "no SMTPUTF8 at all": (
        f"{MAIN}smtputf8_enable = no\n",
        MASTER.replace("dsn,smtputf8,silent-discard", "dsn").replace(
            "  -o smtputf8_autodetect_classes=verify\n", ""
        ),
    ),
    "lines of any length go out": (
        f"{MAIN}smtp_line_length_limit = 0\n",
        MASTER.replace("PROGRAM", "PROGRAM --normalize no"),
    ),
    "amavis before dkimpipe": (
        f"{MAIN}max_servers = 2\n",
        f"""
{PORT_25}{PICKUP}{FILTER}
submission inet n       -       y       -       -       smtpd
  -o content_filter=smtp-amavis:[127.0.0.1]:10026
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
smtp-amavis unix -      -       n       -       2       smtp
  -o smtp_data_done_timeout=1200
  -o smtp_send_xforward_command=yes
  -o disable_dns_lookups=yes
127.0.0.1:10025 inet n  -       n       -       -       smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o smtpd_milters=
{OPTIONS}
""",
    ),
    "amavis on port 25 only, before the queue": (
        MAIN,
        f"""
{PORT_25}  -o smtpd_proxy_filter=127.0.0.1:10024
127.0.0.1:10025 inet n  -       n       -       -       smtpd
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
{PICKUP}{SUBMISSION}{FILTER}
""",
    ),
    "postscreen on port 25": (
        MAIN,
        f"""
smtp      inet  n       -       y       -       1       postscreen
smtpd     pass  -       -       y       -       -       smtpd
dnsblog   unix  -       -       y       -       0       dnsblog
{PICKUP}{SUBMISSION}{FILTER}
""",
    ),
    "OpenDKIM verifies on port 25": (
        f"{MAIN}milter_default_action = accept\n",
        f"""
{PORT_25}  -o smtpd_milters=inet:localhost:8891
{PICKUP}{SUBMISSION}{FILTER}
""",
    ),
    "OpenDKIM everywhere but where mail is signed": (
        f"{MAIN}smtpd_milters = unix:opendkim/opendkim.sock\nnon_smtpd_milters = $smtpd_milters\n",
        MASTER.replace("no_address_mappings", "no_address_mappings,no_milters"),
    ),
    "a milter that checks for viruses": (
        f"{MAIN}smtpd_milters = {{ unix:/run/clamav/clamav-milter.ctl, default_action=tempfail }}\n",
        MASTER,
    ),
    "header and body checks": (
        f"""{MAIN}
header_checks = regexp:/etc/postfix/header_checks
mime_header_checks = regexp:/etc/postfix/mime_header_checks
nested_header_checks =
body_checks = pcre:/etc/postfix/body_checks
smtp_header_checks =
""",
        MASTER,
    ),
    "envelope addresses are rewritten": (
        f"""{MAIN}
canonical_maps = hash:/etc/postfix/canonical
canonical_classes = envelope_sender
sender_canonical_maps = hash:/etc/postfix/sender_canonical
sender_canonical_classes = envelope_sender
recipient_canonical_maps = hash:/etc/postfix/recipient_canonical
recipient_canonical_classes = envelope_recipient
masquerade_domains = example.com
masquerade_classes = envelope_sender, envelope_recipient
virtual_alias_maps = hash:/etc/postfix/virtual
always_bcc = archive@example.com
""",
        MASTER,
    ),
    "a relay host that wants a password": (
        f"""{MAIN}
relayhost = [smtp.example.net]:submission
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_tls_security_level = encrypt
inet_interfaces = loopback-only
mydestination =
""",
        MASTER,
    ),
    "the status table in a file": (
        MAIN,
        MASTER.replace(
            r"{pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}",
            "pipe_delivery_status_filter=regexp:SITE/status.regexp",
        ),
    ),
    "the installed program, with arguments": (
        MAIN,
        MASTER.replace(
            "PROGRAM", "SITE/bin/dkimpipe --conf_file SITE/conf --syslog=yes --match from --verbose"
        ),
    ),
    "a filter with a group, a directory and two flags": (
        MAIN,
        MASTER.replace(
            "flags=q null_sender= user=nobody",
            "flags=qX null_sender= directory=/ user=nobody:nogroup eol=\\n",
        ),
    ),
    "a filter in one line": (
        MAIN,
        MASTER.replace("\n  flags=q", " flags=q").replace(
            "argv=PROGRAM", f"argv={PYTHON} -IS {{ SITE/dkimpipe/__main__.py }} --conf_file SITE/conf"
        ),
    ),
    "one instance of several": (
        f"""{MAIN}
multi_instance_enable = yes
multi_instance_group = mta
multi_instance_name = postfix-out
authorized_submit_users = root, nobody
local_login_sender_maps = inline:{{nobody=*}}
export_environment = TZ LANG MAIL_CONFIG
defer_transports = smtp
""",
        MASTER,
    ),
    "values by macros": (
        f"""{MAIN}
my_filter = dkimpipe:dummy
my_limit = 990
no_checks =
status = regexp:SITE/status.regexp
smtp_line_length_limit = ${{my_limit?{{998}}:{{$my_limit}}}}
smtp_header_checks = $no_checks
""",
        MASTER.replace("=dkimpipe:dummy", "=$my_filter").replace(
            r"{pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}",
            "pipe_delivery_status_filter=$status",
        ),
    ),
    "the filter in main.cf, but not on port 25 and for local mail": (
        f"{MAIN}content_filter = dkimpipe:dummy\n",
        MASTER.replace("  -o content_filter=dkimpipe:dummy\n", "")
        .replace(PORT_25, f"{PORT_25}  -o content_filter=\n")
        .replace(PICKUP, f"{PICKUP}  -o content_filter=\n"),
    ),
    "amavis for all mail, dkimpipe behind it, and users on all ports": (
        f"{MAIN}smtpd_sasl_auth_enable = yes\ncontent_filter = smtp-amavis:[127.0.0.1]:10024\n",
        f"""
{PORT_25}  -o smtpd_sasl_auth_enable=no
{PICKUP}  -o content_filter=
{FILTER}
submission inet n - y - - smtpd
  -o content_filter=smtp-amavis:[127.0.0.1]:10026
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
submissions inet n - y - - smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
  -o content_filter=
127.0.0.1:10027 inet n - n - - smtpd
{OPTIONS}
""",
    ),
    "amavis before the queue, dkimpipe behind it": (
        MAIN,
        f"""
{PORT_25}{PICKUP}{FILTER}
submission inet n - y - - smtpd
  -o smtpd_proxy_filter=127.0.0.1:10024
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
127.0.0.1:10025 inet n - n - - smtpd
{OPTIONS}
""",
    ),
    "port 25 inside, for our own clients": (
        MAIN,
        f"""
10.0.0.1:smtp inet n - y - - smtpd
  -o {{ smtpd_client_restrictions = permit_mynetworks, reject }}
{OPTIONS}{PICKUP}{FILTER}
""",
    ),
    "a pickup as old versions had it": (MAIN, MASTER.replace("pickup    unix", "pickup    fifo")),
    "the envelope in another spelling, and before an option": (
        MAIN,
        MASTER.replace("-f ${sender} -- ${recipient}", "-f $sender --verbose -- $(recipient)"),
    ),
    "as a module, without a limit of size": (
        MAIN,
        MASTER.replace("flags=q", "size=0 flags=q").replace(
            "PROGRAM", f"/usr/bin/env PYTHONPATH=SITE {PYTHON} -m dkimpipe --conf_file SITE/conf"
        ),
    ),
    "told who logged in": (
        MAIN,
        MASTER.replace(
            "PROGRAM TOLD",
            "PROGRAM --sender_map SITE/for-some --login=$(sasl_username) --client=$client_address",
        ),
    ),
    "told who logged in, in two words": (
        MAIN,
        MASTER.replace(
            "PROGRAM TOLD",
            "PROGRAM --login $sasl_username --client $client_address --sender_map SITE/for-some",
        ),
    ),
    "told one login for all": (
        MAIN,
        MASTER.replace("--login=${sasl_username}", "--login=alice --sender_map SITE/for-some"),
    ),
    "all are signed for, and no client address": (
        MAIN,
        MASTER.replace("PROGRAM TOLD", "PROGRAM --conf_file SITE/any.conf --login=${sasl_username}"),
    ),
    "all are signed for, and no login": (
        MAIN,
        MASTER.replace("PROGRAM TOLD", "PROGRAM --conf_file SITE/any.conf --client=${client_address}"),
    ),
    "status filter and time limit elsewhere": (
        MAIN
        + r"""
pipe_delivery_status_filter = regexp:{{/^5(\.3\..*)/ 4$$1}}
command_time_limit = 60s
""",
        MASTER.replace(
            r"  -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}",
            "  -o dkimpipe_time_limit=300s",
        ),
    ),
    "who may submit, in tables and files": (
        f"""{MAIN}
authorized_submit_users = !www-data, SITE/submitters
local_login_sender_maps = inline:{{root=*, nobody=*}}
export_environment = TZ MAIL_CONFIG=/etc/postfix
""",
        MASTER,
    ),
    "no SMTPUTF8 where mail is submitted": (
        MAIN,
        MASTER.replace("dsn,smtputf8,silent-discard", "dsn\n  -o smtputf8_enable=no").replace(
            "smtputf8_autodetect_classes=verify", "smtputf8_enable=no"
        ),
    ),
    "a name in Latin-1": (f"{MAIN}mail_name = M\udcfcller\n", MASTER),
    "mail from outside is verified": (MAIN_BOTH, MASTER_BOTH),
    NOTHING_SIGNED: (
        "compatibility_level = 3.6\ndkimpipe-verify_destination_recipient_limit = 0\n",
        f"{PORT_25}{INBOUND}{PICKUP}{VERIFY}\nsubmission inet n - y - - smtpd\n",
    ),
    "verified behind postscreen, by a service with another name": (
        MAIN_BOTH.replace("dkimpipe-verify", "judge"),
        f"""
smtp      inet  n       -       y       -       1       postscreen
smtpd     pass  -       -       y       -       -       smtpd
{INBOUND}{PICKUP}{SUBMISSION}{FILTER}{VERIFY}
""".replace("dkimpipe-verify", "judge"),
    ),
    "verified behind amavis": (
        MAIN_BOTH,
        f"""
{PORT_25}  -o content_filter=smtp-amavis:[127.0.0.1]:10024
smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
{INBOUND}{PICKUP}{SUBMISSION}{FILTER}{VERIFY}
""",
    ),
    AMAVIS_IN_MAIN: (
        f"{MAIN_BOTH}content_filter = smtp-amavis:[127.0.0.1]:10024\n",
        f"""
{PORT_25}smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
{INBOUND}{PICKUP}  -o content_filter=
{SUBMISSION}{FILTER}{VERIFY}
""",
    ),
    "verified behind amavis before the queue": (
        MAIN_BOTH,
        f"""
{PORT_25}  -o smtpd_proxy_filter=127.0.0.1:10024
127.0.0.1:10025 inet n - n - - smtpd
{INBOUND}{PICKUP}{SUBMISSION}{FILTER}{VERIFY}
""",
    ),
    "port 25 inside for users, another one for mail from outside": (
        MAIN_BOTH,
        f"""
10.0.0.1:smtp inet n - y - - smtpd
  -o {{ smtpd_client_restrictions = permit_mynetworks, reject }}
{OPTIONS}
192.0.2.1:smtp inet n - y - - smtpd
{INBOUND}{PICKUP}{FILTER}{VERIFY}
""",
    ),
    "very small mail only": (f"{MAIN}message_size_limit = 4000\n", MASTER.replace("10223616", "1")),
    "a file of another instance copied": (f"{MAIN}config_directory = /etc/postfix\n", MASTER),
    "from the days before compatibility levels": (
        MAIN.replace("compatibility_level = 3.6\n", ""),
        MASTER,
    ),
}


# The edits that make a fault, and all that the check then prints. A line of the edits is the end of a
# `postconf -c DIR` command, or OLD => NEW in the text of master.cf. They change the first good configuration.


def error(what: str, hint: str = "") -> str:
    """What the check prints for an error."""
    return "".join([f"dkimpipe: error: {what}\n", *(f"    {line}\n" for line in hint.splitlines())])


def warning(what: str, hint: str = "") -> str:
    """What the check prints for a warning."""
    return error(what, hint).replace("error", "warning", 1)


NEW_SERVICE = (
    r"postconf -c DIR -M 'dkimpipe/unix=dkimpipe unix - n n - PROCESSES pipe"
    r" -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}} flags=q null_sender= user=USER"
    " argv=COMMAND -f ${sender} -- ${recipient}'"
)
SERVICE = NEW_SERVICE.replace("PROCESSES", "4").replace("USER", "nobody").replace("COMMAND", "PROGRAM TOLD")
NEW_SUBMISSION = (
    "postconf -c DIR -M 'submission/inet=submission inet n - y - - smtpd"
    " -o syslog_name=postfix/submission -o smtpd_tls_security_level=encrypt"
    " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject'"
)
NO_CLIENT = "argv does not pass the client address: mail from strangers is signed if Postfix lets it in"
SIGNED = "clients that do not log in may send here, and their mail is signed"
CLOSE = (
    "postconf -c DIR -P submission/inet/smtpd_relay_restrictions="
    "permit_mynetworks,permit_sasl_authenticated,reject"
)
UNSIGNED = "the filter may not sign, or defers, mail from clients that this admits without a login"
AMAVIS = "-M 'smtp-amavis/unix=smtp-amavis unix - - n - 2 smtp'"
SENT_SO_OFTEN = "one message to many is signed and sent once per"
NOT_CONVERTED = "8-bit text is converted after signing for old next hops"
TOO_LATE = "Postfix kills the filter before the filter's own time limit of 280 s"
CHANGES = "changes mail after it was signed"
MAY_CHANGE = "may change what is signed"
CHANGED_FIRST = "the message or its addresses are changed before they are signed"
KEEPS = "mail from submission keeps its header fields: only the envelope is rewritten"
REWRITE = "use the public addresses in mail programs, or rewrite before submission"
MAY_NOT = "the filter's user nobody may not submit mail with sendmail(1)"
AGAIN = "signed mail is checked, changed or signed again"
ASK = "senders request notifications that get lost, and SMTPUTF8, which few hosts accept"
NO_LIMIT = "postconf -c DIR -e smtp_line_length_limit=0"
GROWS = "its signatures make mail exceed the limit"

INCOMPLETE = "messages without Date or Message-ID are signed without them"
NO_CLEANUP = "there is no cleanup service that adds missing header fields before signing"
ADDED = "missing header fields are added to mail that is not signed here: its signatures may break"
DAMAGE = (
    "names such as 'Doe, Jane <jane@example.com>' in From and To become 'Doe@host, Jane <...>',"
    " and mail goes unsigned"
)
NEW_CLEANUP = (
    "postconf -c DIR -M 'dkimpipe-cleanup/unix=dkimpipe-cleanup unix n - y - 0 cleanup"
    " -o always_add_missing_headers=yes'"
)
OUR_CLEANUP = "postconf -c DIR -P submission/inet/cleanup_service_name=dkimpipe-cleanup"
ADD = "postconf -c DIR -P dkimpipe-cleanup/unix/always_add_missing_headers=yes"
NOT_REWRITTEN = "postconf -c DIR -PX submission/inet/local_header_rewrite_clients"
REWRITE_NOTHING = "postconf -c DIR -P submission/inet/local_header_rewrite_clients="
SUBCLEANUP = (
    "-M 'subcleanup/unix=subcleanup unix n - y - 5 cleanup -o {header_checks=regexp:{{/^X:/ IGNORE}}}'"
)

FAULTS = {
    # The service that runs the filter.
    "there is no filter": (
        "-MX dkimpipe/unix\n-e default_destination_recipient_limit=1000",
        error(
            "dkimpipe/unix: there is no filter service",
            NEW_SERVICE.replace("USER", "dkimpipe").replace("COMMAND", "START TOLD"),
        )
        + error("submission/inet/content_filter: there is no service dkimpipe in master.cf"),
    ),
    "argv runs another program": (
        "argv=PROGRAM => argv=/opt/signer/sign",
        error(
            "dkimpipe/unix: argv does not run dkimpipe: nothing is signed",
            SERVICE.replace("PROGRAM", "START"),
        ),
        # and is not run: who knows what it does
    ),
    "the program went with the Python of before": (
        "SITE/dkimpipe/__main__.py => SITE/gone/dkimpipe/__main__.py",
        error(
            "dkimpipe/unix: argv: SITE/gone/dkimpipe/__main__.py does not exist: mail stays in the queue",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        )
        + error(
            f"as user nobody: {PYTHON}: can't open file 'SITE/gone/dkimpipe/__main__.py':"
            " [Errno 2] No such file or directory"
        ),
    ),
    "the program is one of before": (
        "SITE/dkimpipe/__main__.py => SITE/old/dkimpipe/__main__.py",
        warning(
            f"dkimpipe/unix: argv runs dkimpipe 0.0.1, but this is {__version__}",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        ),
    ),
    "the program is not compiled": (
        "SITE/dkimpipe/__main__.py => SITE/source/dkimpipe/__main__.py",
        warning(
            f"SITE/source/dkimpipe is not compiled for {PYTHON}: each message costs several times as much",
            f"{PYTHON} -Im compileall -q SITE/source/dkimpipe",
        ),
    ),
    "the program was compiled before it was changed": (
        "SITE/dkimpipe/__main__.py => SITE/changed/dkimpipe/__main__.py",
        warning(
            f"SITE/changed/dkimpipe is not compiled for {PYTHON}: each message costs several times as much",
            f"{PYTHON} -Im compileall -q SITE/changed/dkimpipe",
        ),
    ),
    "unprivileged": (
        "-F dkimpipe/unix/unprivileged=y",
        error("dkimpipe/unix: unprivileged: pipe(8) cannot switch to the filter's user", SERVICE),
    ),
    "unprivileged by default": (
        "-F dkimpipe/unix/unprivileged=-",
        error("dkimpipe/unix: unprivileged: pipe(8) cannot switch to the filter's user", SERVICE),
    ),
    "chroot": (
        "-F dkimpipe/unix/chroot=y",
        error("dkimpipe/unix: chroot: the filter cannot find its interpreter there", SERVICE),
    ),
    "chroot by default, as it was before compatibility levels": (
        "-F dkimpipe/unix/chroot=-\n-X compatibility_level",
        error("dkimpipe/unix: chroot: the filter cannot find its interpreter there", SERVICE),
    ),
    "a chroot of the filter's own": (
        "flags=q => chroot=/var/empty flags=q",
        error("dkimpipe/unix: chroot=: the filter cannot find its interpreter there", SERVICE),
    ),
    "the flags of a mailbox": (
        "flags=q => flags=Rqu",
        error(f"dkimpipe/unix: flags with Ru: {CHANGED_FIRST}", SERVICE),
    ),
    "no flags": (
        "flags=q => ",
        error(
            'dkimpipe/unix: flags without q: mail to "a b"@example.com is misdelivered',
            SERVICE,
        ),
    ),
    "no null_sender": (
        "null_sender= => ",
        error(
            "dkimpipe/unix: null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "a null_sender with a name": (
        "null_sender= => null_sender=MAILER-DAEMON",
        error(
            "dkimpipe/unix: null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "a limit of size": (
        "flags=q => size=1000000 flags=q",
        error("dkimpipe/unix: size=: mail over that size bounces", SERVICE),
    ),
    "no status filter": (
        "-PX dkimpipe/unix/pipe_delivery_status_filter",
        error(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce", SERVICE
        ),
    ),
    "a status filter for something else": (
        "regexp:{{/^5(\\.3\\..*)/ 4$$1}} => inline:{5.7.1=4.7.1}",
        error(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce", SERVICE
        ),
    ),
    "recipients without --": (
        "-f ${sender} -- ${recipient} => -f ${sender} ${recipient}",
        error(
            "dkimpipe/unix: argv does not end in -f ${sender} -- ${recipient}:"
            " mail is rejected or misdelivered",
            SERVICE,
        ),
    ),
    "no recipients": (
        "-f ${sender} -- ${recipient} => ",
        error(
            "dkimpipe/unix: argv does not end in -f ${sender} -- ${recipient}:"
            " mail is rejected or misdelivered",
            SERVICE,
        ),
    ),
    "two slips in one service": (
        "-F dkimpipe/unix/chroot=y\nnull_sender= => ",
        error(
            "dkimpipe/unix: chroot: the filter cannot find its interpreter there;"
            " null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "not told who logged in": (
        "PROGRAM TOLD => PROGRAM --sender_map SITE/for-some",
        error(
            "dkimpipe/unix: argv does not pass the login, and SITE/for-some, line 3 has login=:"
            f" its mail is deferred; {NO_CLIENT}",
            SERVICE.replace("PROGRAM", "PROGRAM --sender_map SITE/for-some"),
        ),
    ),
    "a login that whoever sends can choose": (
        "PROGRAM --login=${sasl_username} => PROGRAM --login=$(sender) --verbose",
        error(
            "dkimpipe/unix: argv takes the login from ${sender}, which the sender can choose",
            SERVICE.replace("PROGRAM", "PROGRAM --verbose"),
        ),
    ),
    "a client address that the sender can choose": (
        "--client=${client_address} => --client=${client_helo}",
        error(
            "dkimpipe/unix: argv takes the client address from ${client_helo}, which the sender can choose",
            SERVICE,
        ),
    ),
    "the client address, and no login": (
        "--login=${sasl_username} => --verbose",
        error(
            "dkimpipe/unix: argv passes the client address and no login: mail to be signed is deferred",
            SERVICE.replace("PROGRAM", "PROGRAM --verbose"),
        )
        + error(
            "as user nobody: 4.3.5 dkimpipe: --client was given, but no --login",
            "add --login=${sasl_username} to argv in master.cf",
        ),
    ),
    "no client address": (
        " --client=${client_address} => ",
        warning(f"dkimpipe/unix: {NO_CLIENT}", SERVICE),
    ),
    "neither client address nor login": (
        "PROGRAM TOLD => PROGRAM",
        warning(f"dkimpipe/unix: {NO_CLIENT}", SERVICE),
    ),
    "no client address, and a login by name": (
        "PROGRAM TOLD => PROGRAM --login=alice",
        warning(
            f"dkimpipe/unix: {NO_CLIENT}",
            SERVICE.replace("PROGRAM TOLD", "PROGRAM --login=alice --client=${client_address}"),
        ),
    ),
    # Strangers.
    "strangers may send, and the filter knows them": (
        "-PX submission/inet/smtpd_relay_restrictions",
        error(
            "submission/inet: clients that do not log in may send here,"
            " and only --client= in argv keeps their mail unsigned",
            CLOSE,
        ),
    ),
    "strangers may send, and the filter does not know them": (
        "-PX submission/inet/smtpd_relay_restrictions\n --client=${client_address} => ",
        warning(f"dkimpipe/unix: {NO_CLIENT}", SERVICE) + error(f"submission/inet: {SIGNED}", CLOSE),
    ),
    "strangers may send, and all are signed for": (
        "-PX submission/inet/smtpd_relay_restrictions\n--conf_file SITE/conf => --conf_file SITE/any.conf",
        error(f"submission/inet: {SIGNED}", CLOSE),
    ),
    "strangers may send by a filter before ours": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-PX submission/inet/smtpd_relay_restrictions\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(f"submission/inet: {SIGNED}", CLOSE),
    ),
    "mail from outside comes back to be signed": (
        f"{AMAVIS}\n-P smtp/inet/content_filter=smtp-amavis:[127.0.0.1]:10024\n-MX submission/inet\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            f"smtp/inet: {SIGNED}",
            "let mail from outside return on a separate port, without content_filter=dkimpipe:dummy",
        ),
    ),
    "all mail from outside gets a FILTER": (
        "-P smtp/inet/smtpd_client_restrictions=check_client_access,cidr:SITE/filter.cidr",
        error(
            "smtp/inet: clients that do not log in may send here,"
            " and only --client= in argv keeps their mail unsigned",
            "a table has FILTER dkimpipe for strangers: limit it to your own clients",
        ),
    ),
    # Clients whom the owner lets in on purpose, without a login.
    "a certificate instead of a login": (
        "-P submission/inet/smtpd_tls_ask_ccert=yes\n"
        "-P submission/inet/smtpd_relay_restrictions=permit_tls_clientcerts,permit_sasl_authenticated,reject",
        warning(f"submission/inet/permit_tls_clientcerts: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "clients by name, which pipe(8) does not pass": (
        "-e 'mynetworks=127.0.0.0/8 printer.example.com'",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a table, which the filter may not read": (
        "-e mynetworks=127.0.0.0/8,cidr:/etc/postfix/networks",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a file, which the filter may not read": (
        "-e mynetworks=127.0.0.0/8,/etc/postfix/networks",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a table in line": (
        "-e 'mynetworks=127.0.0.0/8, inline:{{10.0.0.1=yes}}'",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "a table instead of a login": (
        "-P submission/inet/smtpd_relay_restrictions="
        "check_client_access,cidr:SITE/some.cidr,permit_sasl_authenticated,reject",
        warning(f"submission/inet/check_client_access: {UNSIGNED}", "set sign_clients any in SITE/conf"),
    ),
    "addresses by XFORWARD": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        warning(
            f"127.0.0.1:10025/inet/smtpd_authorized_xforward_hosts: {UNSIGNED}",
            "set sign_clients any in SITE/conf",
        ),
    ),
    # The user that it runs as.
    "no user": (
        "user=nobody => ",
        error("dkimpipe/unix: there is no user=: pipe(8) does not start"),
    ),
    "a user that there is not": (
        "user=nobody => user=dkimpipe-none",
        error(
            "dkimpipe/unix: there is no user dkimpipe-none",
            "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-none",
        ),
    ),
    "root": (
        "user=nobody => user=root",
        error("dkimpipe/unix: pipe(8) refuses user=root: use a separate user"),
    ),
    "the user of Postfix": (
        "user=nobody => user=OWNER",
        error("dkimpipe/unix: pipe(8) refuses user=OWNER: use a separate user"),
    ),
    "the group of the maildrop": (
        "user=nobody => user=nobody:postdrop",
        error("dkimpipe/unix: pipe(8) refuses user=nobody:postdrop: use a separate user"),
    ),
    # Submission.
    "there is no submission": (
        "-MX submission/inet",
        error(
            "submission/inet: there is no service for mail from users, so nothing is signed",
            f"{NEW_SUBMISSION}\ndkimpipe postfix -c DIR --apply",
        ),
    ),
    "no content_filter": (
        "-PX submission/inet/content_filter",
        error(
            "submission/inet/content_filter: nothing is signed",
            "postconf -c DIR -P submission/inet/content_filter=dkimpipe:dummy",
        ),
    ),
    "a second port for submission": (
        "-M '[::1]:465/inet=[::1]:465 inet n - n - - smtpd'\n"
        "-P [::1]:465/inet/receive_override_options=no_address_mappings\n"
        "-P [::1]:465/inet/cleanup_service_name=dkimpipe-cleanup\n"
        "-P [::1]:465/inet/smtpd_discard_ehlo_keywords=dsn,smtputf8\n"
        "-P [::1]:465/inet/message_size_limit=5000000",
        error(
            "[::1]:465/inet/content_filter: nothing is signed",
            "postconf -c DIR -P '[::1]:465/inet/content_filter=dkimpipe:dummy'",
        ),
    ),
    "a content_filter that there is not": (
        "-P submission/inet/content_filter=scan:dummy",
        error(
            "submission/inet/content_filter: nothing is signed",
            "postconf -c DIR -P submission/inet/content_filter=dkimpipe:dummy",
        )
        + error("submission/inet/content_filter: there is no service scan in master.cf"),
    ),
    "another content_filter": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10024",
        error(
            "submission/inet/content_filter: smtp-amavis:[127.0.0.1]:10024 gets this mail, and a"
            " service can have only one filter",
            "put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it",
        ),
    ),
    "a proxy filter": (
        "-P submission/inet/smtpd_proxy_filter=127.0.0.1:10024",
        error(
            "submission/inet/smtpd_proxy_filter:"
            " mail returned by the proxy filter arrives where nothing is signed",
            "postconf -c DIR -P submission/inet/smtpd_proxy_filter=",
        ),
    ),
    "a proxy filter for all ports": (
        "-e smtpd_proxy_filter=127.0.0.1:10024",
        error(
            "submission/inet/smtpd_proxy_filter:"
            " mail returned by the proxy filter arrives where nothing is signed",
            "postconf -c DIR -P submission/inet/smtpd_proxy_filter=",
        ),
    ),
    "aliases before the filter as well": (
        "-PX submission/inet/receive_override_options",
        error(
            "submission/inet/receive_override_options: aliases and always_bcc apply twice: duplicate mail",
            "postconf -c DIR -P submission/inet/receive_override_options=no_address_mappings",
        ),
    ),
    "other receive_override_options": (
        "-P submission/inet/receive_override_options=no_milters,no_header_body_checks",
        error(
            "submission/inet/receive_override_options: aliases and always_bcc apply twice: duplicate mail",
            "postconf -c DIR -P submission/inet/receive_override_options="
            "no_milters,no_header_body_checks,no_address_mappings",
        ),
    ),
    "no Date and Message-ID": (
        "-PX submission/inet/cleanup_service_name",
        error(f"submission/inet/cleanup_service_name: {INCOMPLETE}", OUR_CLEANUP),
    ),
    "the cleanup service adds nothing": (
        "-P dkimpipe-cleanup/unix/always_add_missing_headers=no",
        error(f"dkimpipe-cleanup/unix/always_add_missing_headers: {INCOMPLETE}", ADD),
    ),
    "the cleanup service was edited": (
        "-PX dkimpipe-cleanup/unix/always_add_missing_headers\n"
        "-P dkimpipe-cleanup/unix/header_checks=regexp:/x",
        error(f"dkimpipe-cleanup/unix/always_add_missing_headers: {INCOMPLETE}", ADD),
    ),
    "the cleanup service is gone": (
        "-MX dkimpipe-cleanup/unix",
        error(f"dkimpipe-cleanup/unix: {NO_CLEANUP}", NEW_CLEANUP)
        + error("submission/inet/cleanup_service_name: there is no service dkimpipe-cleanup in master.cf"),
    ),
    "no cleanup service, and none is named": (
        "-MX dkimpipe-cleanup/unix\n-PX submission/inet/cleanup_service_name",
        error(f"dkimpipe-cleanup/unix: {NO_CLEANUP}", NEW_CLEANUP)
        + error(f"submission/inet/cleanup_service_name: {INCOMPLETE}", OUR_CLEANUP),
    ),
    "a cleanup service of the owner adds nothing": (
        f"{SUBCLEANUP}\n-P submission/inet/cleanup_service_name=subcleanup",
        error(
            f"subcleanup/unix/always_add_missing_headers: {INCOMPLETE}",
            "postconf -c DIR -P subcleanup/unix/always_add_missing_headers=yes",
        ),
    ),
    "a cleanup service of the owner, and port 25 has it as well": (
        f"{SUBCLEANUP}\n-P submission/inet/cleanup_service_name=subcleanup"
        "\n-P smtp/inet/cleanup_service_name=subcleanup",
        error(
            f"dkimpipe-cleanup-subcleanup/unix: {NO_CLEANUP}",
            "postconf -c DIR -M 'dkimpipe-cleanup-subcleanup/unix=dkimpipe-cleanup-subcleanup unix n - y - 5"
            " cleanup -o {header_checks=regexp:{{/^X:/ IGNORE}}} -o always_add_missing_headers=yes'",
        )
        + error(
            f"submission/inet/cleanup_service_name: {INCOMPLETE}",
            "postconf -c DIR -P submission/inet/cleanup_service_name=dkimpipe-cleanup-subcleanup",
        ),
    ),
    "port 25 has the cleanup service of submission": (
        "-P smtp/inet/cleanup_service_name=dkimpipe-cleanup",
        warning(
            f"smtp/inet/cleanup_service_name: {ADDED}", "postconf -c DIR -PX smtp/inet/cleanup_service_name"
        ),
    ),
    "port 25 has the cleanup service of submission, which adds nothing": (
        "-P smtp/inet/cleanup_service_name=dkimpipe-cleanup\n"
        "-PX dkimpipe-cleanup/unix/always_add_missing_headers",
        error(f"dkimpipe-cleanup/unix/always_add_missing_headers: {INCOMPLETE}", ADD)
        + warning(
            f"smtp/inet/cleanup_service_name: {ADDED}", "postconf -c DIR -PX smtp/inet/cleanup_service_name"
        ),
    ),
    "pickup has the cleanup service of submission": (
        "-P pickup/unix/cleanup_service_name=dkimpipe-cleanup",
        warning(
            f"pickup/unix/cleanup_service_name: {ADDED}",
            "postconf -c DIR -PX pickup/unix/cleanup_service_name",
        ),
    ),
    # Header addresses rewritten.
    "as earlier versions set it": (
        "-P submission/inet/local_header_rewrite_clients=static:all",
        error(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", NOT_REWRITTEN),
    ),
    "as earlier versions set it, in braces, and nothing else": (
        "-PX submission/inet/cleanup_service_name\n-MX dkimpipe-cleanup/unix\n"
        "  -o syslog_name=postfix/submission =>   -o { local_header_rewrite_clients = static:all }",
        error(f"dkimpipe-cleanup/unix: {NO_CLEANUP}", NEW_CLEANUP)
        + error(f"submission/inet/cleanup_service_name: {INCOMPLETE}", OUR_CLEANUP)
        + error(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", NOT_REWRITTEN),
    ),
    **{
        f"rewritten for {clients}": (
            f"-P submission/inet/local_header_rewrite_clients={clients}",
            warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
        )
        for clients in (
            "permit_mynetworks,static:all",
            "permit_inet_interfaces,permit_sasl_authenticated",
            "permit_mynetworks",
            "check_address_map,hash:/etc/postfix/clients",
        )
    },
    "rewritten for all in main.cf": (
        "-e local_header_rewrite_clients=static:all",
        warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
    ),
    "rewritten by a macro": (
        "-e all_clients=static:all\n  -o syslog_name=postfix/submission =>"
        "   -o local_header_rewrite_clients=$all_clients",
        warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
    ),
    "rewritten and so added to": (
        "-PX submission/inet/cleanup_service_name\n"
        "-P submission/inet/local_header_rewrite_clients=permit_sasl_authenticated",
        warning(
            f"submission/inet/local_header_rewrite_clients: {DAMAGE}", f"{OUR_CLEANUP}\n{REWRITE_NOTHING}"
        ),
    ),
    "rewritten for some, and added to nothing": (
        "-PX submission/inet/cleanup_service_name\n"
        "-P submission/inet/local_header_rewrite_clients=permit_mynetworks",
        error(f"submission/inet/cleanup_service_name: {INCOMPLETE}", OUR_CLEANUP)
        + warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
    ),
    "rewritten before another filter": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-P submission/inet/local_header_rewrite_clients=static:all\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
    ),
    "nothing added behind another filter": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            f"127.0.0.1:10025/inet/cleanup_service_name: {INCOMPLETE}",
            "postconf -c DIR -P 127.0.0.1:10025/inet/cleanup_service_name=dkimpipe-cleanup",
        ),
    ),
    "all EHLO keywords": (
        "-PX submission/inet/smtpd_discard_ehlo_keywords",
        error(
            f"submission/inet/smtpd_discard_ehlo_keywords: {ASK}",
            "postconf -c DIR -P submission/inet/smtpd_discard_ehlo_keywords=dsn,smtputf8,silent-discard",
        ),
    ),
    "DSN": (
        "-P submission/inet/smtpd_discard_ehlo_keywords=CHUNKING,SMTPUTF8",
        error(
            f"submission/inet/smtpd_discard_ehlo_keywords: {ASK}",
            "postconf -c DIR -P submission/inet/smtpd_discard_ehlo_keywords="
            "CHUNKING,SMTPUTF8,dsn,silent-discard",
        ),
    ),
    "SMTPUTF8": (
        "-P submission/inet/smtpd_discard_ehlo_keywords=dsn",
        error(
            f"submission/inet/smtpd_discard_ehlo_keywords: {ASK}",
            "postconf -c DIR -P submission/inet/smtpd_discard_ehlo_keywords=dsn,smtputf8,silent-discard",
        ),
    ),
    "one message_size_limit for all": (
        "-PX submission/inet/message_size_limit",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    "no message_size_limit at submission": (
        "-P submission/inet/message_size_limit=0",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    "a lower message_size_limit afterwards": (
        "-e message_size_limit=5000000",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=4983616",
        ),
    ),
    "a milter that may sign": (
        "-P submission/inet/smtpd_milters=inet:localhost:11332",
        warning(
            "submission/inet/smtpd_milters: inet:localhost:11332 may sign as well; remove the domain"
            " there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=",
        ),
    ),
    "a milter that may sign, for all ports": (
        "-e signer=unix:/run/rspamd/milter.sock smtpd_milters=$signer",
        warning(
            "submission/inet/smtpd_milters: unix:/run/rspamd/milter.sock may sign as well; remove"
            " the domain there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=",
        ),
    ),
    # Other roads.
    "this content_filter in main.cf": (
        "-e content_filter=dkimpipe:dummy",
        error(
            "content_filter: here it filters the signed mail again and again, until it has too many hops",
            "postconf -c DIR -e content_filter=",
        ),
    ),
    "another content_filter in main.cf": (
        f"{AMAVIS}\n-e content_filter=smtp-amavis:[127.0.0.1]:10024",
        warning(
            "pickup/unix/content_filter: smtp-amavis:[127.0.0.1]:10024 gets the mail after it was signed,"
            " and must not change it",
            "postconf -c DIR -P pickup/unix/content_filter=",
        ),
    ),
    "this content_filter on port 25": (
        "-P smtp/inet/content_filter=dkimpipe:dummy",
        error(
            "smtp/inet/content_filter: mail from strangers is signed",
            "postconf -c DIR -PX smtp/inet/content_filter",
        ),
    ),
    "this content_filter behind postscreen": (
        "-M 'smtpd/pass=smtpd pass - - y - - smtpd -o content_filter=dkimpipe:dummy'",
        error(
            "smtpd/pass/content_filter: mail from strangers is signed",
            "postconf -c DIR -PX smtpd/pass/content_filter",
        ),
    ),
    "a content_filter on port 25 that there is not": (
        "-P smtp/inet/content_filter=scan:dummy",
        error("smtp/inet/content_filter: there is no service scan in master.cf"),
    ),
    "users on port 25": (
        "-P smtp/inet/smtpd_sasl_auth_enable=yes",
        warning(
            "smtp/inet/smtpd_sasl_auth_enable: mail from users who log in here is not signed;"
            " let them use submission",
            "postconf -c DIR -P smtp/inet/smtpd_sasl_auth_enable=no",
        ),
    ),
    # The way back.
    "there is no pickup": (
        "-MX pickup/unix",
        error("pickup/unix: without it signed mail stays in the maildrop directory for ever"),
    ),
    "this content_filter at pickup": (
        "-P pickup/unix/content_filter=dkimpipe:dummy",
        error(
            "pickup/unix/content_filter: signed mail loops",
            "postconf -c DIR -PX pickup/unix/content_filter",
        ),
    ),
    "checks and milters at pickup": (
        "-PX pickup/unix/receive_override_options",
        error(
            f"pickup/unix/receive_override_options: {AGAIN}",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
        ),
    ),
    "milters at pickup": (
        "-P pickup/unix/receive_override_options=no_header_body_checks",
        error(
            f"pickup/unix/receive_override_options: {AGAIN}",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
        ),
    ),
    "no aliases at all": (
        "-P pickup/unix/receive_override_options=no_header_body_checks,no_milters,no_address_mappings",
        error(
            "pickup/unix/receive_override_options:"
            " with no_address_mappings aliases apply neither before nor after the filter",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
        ),
    ),
    "SMTPUTF8 found at pickup": (
        "-PX pickup/unix/smtputf8_autodetect_classes",
        error(
            "pickup/unix/smtputf8_autodetect_classes:"
            " an 8-bit Subject makes signed mail SMTPUTF8, which many hosts reject",
            "postconf -c DIR -P pickup/unix/smtputf8_autodetect_classes=verify",
        ),
    ),
    "a domain for remote header fields": (
        "-e remote_header_rewrite_domain=invalid.example",
        error(
            "remote_header_rewrite_domain: header fields are rewritten after they were signed",
            "postconf -c DIR -e remote_header_rewrite_domain=",
        ),
    ),
    "sendmail(1) for some users only": (
        "-e 'authorized_submit_users=root, cron'",
        error(
            f"authorized_submit_users: {MAY_NOT}",
            "postconf -c DIR -e 'authorized_submit_users=nobody, root, cron'",
        ),
    ),
    "senders for some users only": (
        "-e 'local_login_sender_maps=inline:{root=*}'",
        error(
            f"local_login_sender_maps: {MAY_NOT}",
            "postconf -c DIR -e 'local_login_sender_maps=inline:{nobody=*}, inline:{root=*}'",
        ),
    ),
    "an environment without MAIL_CONFIG": (
        "-e 'export_environment=TZ, LANG=C'",
        error(
            "export_environment: without MAIL_CONFIG sendmail(1) may submit the mail to another"
            " Postfix instance",
            "postconf -c DIR -e 'export_environment=TZ LANG=C MAIL_CONFIG'",
        ),
    ),
    "the filter is deferred": (
        "-e 'defer_transports=uucp, dkimpipe'",
        error(
            "defer_transports: mail to be signed stays in the queue",
            "postconf -c DIR -e defer_transports=uucp",
        ),
    ),
    "mail goes to the filter by default": (
        "-e default_transport=dkimpipe:x",
        error(
            "default_transport: signed mail goes to the filter again: it loops",
            "postconf -c DIR -X default_transport",
        ),
    ),
    "mail goes to the filter by a table": (
        "-e transport_maps=static:dkimpipe:",
        error(
            "transport_maps: signed mail goes to the filter again: it loops",
            "remove the filter from it",
        ),
    ),
    "a cleanup service of the owner that there is not": (
        "-P submission/inet/cleanup_service_name=cleanup2",
        error("submission/inet/cleanup_service_name: there is no service cleanup2 in master.cf"),
    ),
    "no second try": (
        "-e maximal_queue_lifetime=0",
        warning(
            "maximal_queue_lifetime: mail that the filter defers bounces at once",
            "postconf -c DIR -X maximal_queue_lifetime",
        ),
    ),
    # Limits.
    "a short time limit": (
        "-e dkimpipe_time_limit=289s",
        error(f"dkimpipe_time_limit: {TOO_LATE}", "postconf -c DIR -e dkimpipe_time_limit=300s"),
    ),
    "a short time limit for all commands": (
        "-e command_time_limit=4m",
        error(f"dkimpipe_time_limit: {TOO_LATE}", "postconf -c DIR -e dkimpipe_time_limit=300s"),
    ),
    "Postfix's own recipient limit": (
        "-X dkimpipe_destination_recipient_limit",
        error(
            f"dkimpipe_destination_recipient_limit: {SENT_SO_OFTEN} 50 recipients",
            "postconf -c DIR -e dkimpipe_destination_recipient_limit=1000",
        ),
    ),
    "one recipient at a time": (
        "-e dkimpipe_destination_recipient_limit=1",
        error(
            f"dkimpipe_destination_recipient_limit: {SENT_SO_OFTEN} 1 recipients",
            "postconf -c DIR -e dkimpipe_destination_recipient_limit=1000",
        ),
    ),
    "the filter has another name than its limit": (
        "dkimpipe:dummy => signer:dummy\ndkimpipe  unix => signer unix",
        error(
            f"signer_destination_recipient_limit: {SENT_SO_OFTEN} 50 recipients",
            "postconf -c DIR -e signer_destination_recipient_limit=1000",
        ),
    ),
    "Postfix's own header_size_limit": (
        "-X header_size_limit",
        error(
            "header_size_limit: a header field near the limit exceeds it and is truncated after signing",
            "postconf -c DIR -e header_size_limit=1048576",
        ),
    ),
    # On the way out.
    "8-bit text is converted": (
        "-X disable_mime_output_conversion",
        error(
            f"disable_mime_output_conversion: {NOT_CONVERTED}",
            "postconf -c DIR -e disable_mime_output_conversion=yes",
        ),
    ),
    "8-bit text is converted by one service": (
        "-P smtp/unix/disable_mime_output_conversion=no",
        error(
            "smtp/unix/disable_mime_output_conversion: converts 8-bit text after signing",
            "postconf -c DIR -PX smtp/unix/disable_mime_output_conversion",
        ),
    ),
    **{
        parameter: (
            f"-e {parameter}=regexp:/etc/postfix/{parameter}",
            error(f"{parameter}: {CHANGES}", f"postconf -c DIR -X {parameter}"),
        )
        for parameter in (
            "smtp_generic_maps",
            "smtp_nested_header_checks",
            "smtp_body_checks",
        )
    },
    **{
        parameter: (
            f"-e {parameter}=regexp:/etc/postfix/{parameter}",
            warning(f"{parameter}: {MAY_CHANGE}", f"postconf -c DIR -X {parameter}"),
        )
        for parameter in ("smtp_header_checks", "smtp_mime_header_checks")
    },
    "smtp_header_checks of one service": (
        "-P relay/unix/smtp_header_checks=regexp:/etc/postfix/relay_checks",
        warning(
            f"relay/unix/smtp_header_checks: {MAY_CHANGE}",
            "postconf -c DIR -PX relay/unix/smtp_header_checks",
        ),
    ),
    "short lines": (
        "-e smtp_line_length_limit=990",
        error(
            "smtp_line_length_limit: breaks lines after they were signed",
            "postconf -c DIR -X smtp_line_length_limit",
        ),
    ),
    "short lines by one service": (
        "-P relay/unix/smtp_line_length_limit=512",
        error(
            "relay/unix/smtp_line_length_limit: breaks lines after they were signed",
            "postconf -c DIR -PX relay/unix/smtp_line_length_limit",
        ),
    ),
    **{
        f"{parameter} for header fields": (
            f"-e {parameter}=example.com",
            warning(f"{parameter}: {KEEPS}", REWRITE),
        )
        for parameter in (
            "canonical_maps",
            "sender_canonical_maps",
            "recipient_canonical_maps",
            "masquerade_domains",
        )
    },
    # The settings of the filter.
    "an option that there is not": (
        "PROGRAM => PROGRAM --frobnicate",
        error("as user nobody: 4.3.5 dkimpipe: unknown option '--frobnicate'", "see dkimpipe --help"),
    ),
    "another sendmail(1)": (
        "PROGRAM => PROGRAM --sendmail=/bin/true",
        error(
            "/bin/true is not this Postfix's sendmail(1)",
            "use --sendmail=SENDMAIL, or sendmail in dkimpipe.conf",
        ),
    ),
    "another Postfix": (
        "-e sendmail_path=/opt/postfix/sbin/sendmail",
        error(
            "/usr/sbin/sendmail is not this Postfix's sendmail(1)",
            "use --sendmail=/opt/postfix/sbin/sendmail, or sendmail in dkimpipe.conf",
        ),
    ),
    "long lines are left to Postfix": (
        "PROGRAM => PROGRAM --normalize no",
        error("command line: normalize no: lines over 998 bytes break after signing", NO_LIMIT),
    ),
    "long lines are left to Postfix, in the conf file": (
        "--conf_file SITE/conf => --conf_file SITE/long-lines.conf",
        error(
            "SITE/long-lines.conf, line 2: normalize no: lines over 998 bytes break after signing", NO_LIMIT
        ),
    ),
    "unsigned after an error": (
        "PROGRAM => PROGRAM --on_error accept",
        warning("command line: on_error accept: after an error, mail is sent unsigned"),
    ),
    # The filter itself.
    "an interpreter that there is not": (
        f"{PYTHON} => /usr/bin/python-none",
        error(
            "dkimpipe/unix: argv: /usr/bin/python-none does not exist: mail stays in the queue",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        )
        + error("user nobody cannot run /usr/bin/python-none: No such file or directory"),
    ),
    "a senders file that there is not": (
        "PROGRAM => PROGRAM --sender_map SITE/none",
        error(
            "as user nobody: 4.3.5 dkimpipe: map SITE/none: No such file or directory",
            "create it, or fix the path",
        ),
    ),
    "a group that there is not": (
        "user=nobody => user=nobody:dkimpipe-none",
        error("dkimpipe/unix: there is no group dkimpipe-none", "groupadd --system dkimpipe-none"),
    ),
    "fixes in one setting do not undo each other": (
        "-P pickup/unix/receive_override_options=no_address_mappings",
        error(
            f"pickup/unix/receive_override_options: {AGAIN};"
            " with no_address_mappings aliases apply neither before nor after the filter",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
        ),
    ),
    "config_directory of another instance": (
        "-e config_directory=/etc/postfix header_size_limit=5000",
        error(
            "header_size_limit: a header field near the limit exceeds it and is truncated after signing",
            "postconf -c DIR -e header_size_limit=1048576",
        ),
    ),
    "a content_filter without next hop": (
        "-P submission/inet/content_filter=dkimpipe:",
        error(
            "submission/inet/content_filter: mail to several domains is signed and sent once per domain",
            "postconf -c DIR -P submission/inet/content_filter=dkimpipe:dummy",
        ),
    ),
    "another content_filter at pickup": (
        f"{AMAVIS}\n-P pickup/unix/content_filter=smtp-amavis:[127.0.0.1]:10024",
        warning(
            "pickup/unix/content_filter: smtp-amavis:[127.0.0.1]:10024 gets the mail after it was signed,"
            " and must not change it",
            "postconf -c DIR -P pickup/unix/content_filter=",
        ),
    ),
    "amavis before dkimpipe, and after it": (
        f"{AMAVIS}\n-e content_filter=smtp-amavis:[127.0.0.1]:10024\n-PX submission/inet/content_filter\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            f"smtp/inet: {SIGNED}",
            "let mail from outside return on a separate port, without content_filter=dkimpipe:dummy",
        )
        + error(
            "pickup/unix/content_filter: smtp-amavis:[127.0.0.1]:10024 gets the mail after it was signed"
            " and returns it to be signed: it loops",
            "postconf -c DIR -P pickup/unix/content_filter=",
        ),
    ),
    "amavis, and nothing behind it": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '465/inet=465 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            "submission/inet/content_filter: smtp-amavis:[127.0.0.1]:10026 gets this mail, and a"
            " service can have only one filter",
            "put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it",
        ),
    ),
    "users on a port of one's own": (
        "-M '2525/inet=2525 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes'",
        warning(
            "2525/inet/smtpd_sasl_auth_enable: mail from users who log in here is not signed",
            "postconf -c DIR -P 2525/inet/content_filter=dkimpipe:dummy\ndkimpipe postfix -c DIR --apply",
        ),
    ),
    "a milter that may sign, among others": (
        "-P submission/inet/smtpd_milters=unix:/run/clamav.sock,inet:localhost:11332",
        warning(
            "submission/inet/smtpd_milters: inet:localhost:11332 may sign as well; remove the domain"
            " there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=unix:/run/clamav.sock",
        ),
    ),
    "this user may not submit": (
        "-e 'authorized_submit_users=!nobody, static:anyone'",
        error(
            f"authorized_submit_users: {MAY_NOT}",
            "postconf -c DIR -e 'authorized_submit_users=nobody, !nobody, static:anyone'",
        ),
    ),
    "this user may not submit for everybody": (
        "-e 'local_login_sender_maps=inline:{nobody=nobody@example.com}'",
        error(
            f"local_login_sender_maps: {MAY_NOT}",
            "postconf -c DIR -e 'local_login_sender_maps=inline:{nobody=*},"
            " inline:{nobody=nobody@example.com}'",
        ),
    ),
    "a higher limit for pickup alone": (
        "-P pickup/unix/message_size_limit=20000000\n-P submission/inet/message_size_limit=15000000",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    "a content_filter in main.cf that there is not": (
        "-e content_filter=scan:dummy",
        error("content_filter: there is no service scan in master.cf"),
    ),
    # More than one.
    "two settings": (
        "-X header_size_limit\n-e smtp_line_length_limit=990",
        error(
            "header_size_limit: a header field near the limit exceeds it and is truncated after signing",
            "postconf -c DIR -e header_size_limit=1048576",
        )
        + error(
            "smtp_line_length_limit: breaks lines after they were signed",
            "postconf -c DIR -X smtp_line_length_limit",
        ),
    ),
}


NEW_VERIFIER = SERVICE.replace("dkimpipe/unix=dkimpipe", "dkimpipe-verify/unix=dkimpipe-verify").replace(
    "user=nobody argv=PROGRAM TOLD", "user=daemon argv=VERIFIER"
)
READS_KEYS = "this user can read the keys, and verification needs none: use a separate user"
ANOTHER = "gets this mail, and a service can have only one filter"
PUT_BEHIND = (
    "put dkimpipe-verify behind it: -o content_filter=dkimpipe-verify:dummy where mail returns from it,"
    " on a port only for mail from outside"
)

# The same for the service that verifies, in a configuration that signs as well.
VERIFIER_FAULTS = {
    "there is no verifier": (
        "-MX dkimpipe-verify/unix\n-e default_destination_recipient_limit=1000",
        error("smtp/inet/content_filter: there is no service dkimpipe-verify in master.cf")
        + error(
            "dkimpipe-verify/unix: there is no filter service",
            NEW_VERIFIER.replace(" 4 pipe", " MANY pipe")
            .replace("user=daemon", "user=dkimpipe-verify")
            .replace("VERIFIER", "JUDGE"),
        ),
    ),
    "the verb is forgotten": (
        "argv=VERIFIER => argv=PROGRAM",
        error(
            "dkimpipe-verify/unix: argv does not run dkimpipe verify: nothing is verified",
            NEW_VERIFIER.replace("VERIFIER", "JUDGE"),
        ),
    ),
    "the flags of a mailbox": (
        "flags=q null_sender= user=daemon => flags=Rq null_sender= user=daemon",
        error(
            "dkimpipe-verify/unix: flags with R:"
            " the message or its addresses are changed before they are verified",
            NEW_VERIFIER,
        ),
    ),
    "what is rejected is kept back": (
        r"/^5(\.3\..*)/ => /^5(\..*)/",
        error(
            "dkimpipe-verify/unix: pipe_delivery_status_filter: rejected mail is retried for days",
            NEW_VERIFIER,
        ),
    ),
    "it runs as the user of the filter that signs": (
        "user=daemon => user=nobody",
        error(
            f"dkimpipe-verify/unix: {READS_KEYS}",
            "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
            "and user=dkimpipe-verify in master.cf",
        ),
    ),
    "it runs with the group of the filter that signs": (
        "user=daemon => user=daemon:nogroup",
        error(
            f"dkimpipe-verify/unix: {READS_KEYS}",
            "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
            "and user=dkimpipe-verify in master.cf",
        ),
    ),
    "there is no such user": (
        "user=daemon => user=judge",
        error(
            "dkimpipe-verify/unix: there is no user judge",
            "useradd --system --no-create-home --shell /usr/sbin/nologin judge",
        ),
    ),
    "nothing is verified": (
        "-PX smtp/inet/content_filter",
        error(
            "smtp/inet/content_filter: nothing is verified",
            "postconf -c DIR -P smtp/inet/content_filter=dkimpipe-verify:dummy",
        ),
    ),
    "mail from strangers is signed": (
        "-P smtp/inet/content_filter=dkimpipe:dummy",
        error(
            "smtp/inet/content_filter: mail from strangers is signed",
            "postconf -c DIR -PX smtp/inet/content_filter",
        )
        + error(
            "smtp/inet/content_filter: nothing is verified",
            "postconf -c DIR -P smtp/inet/content_filter=dkimpipe-verify:dummy",
        ),
    ),
    "mail from users is verified": (
        "-P submission/inet/content_filter=dkimpipe-verify:dummy",
        error(
            "submission/inet/content_filter: nothing is signed",
            "postconf -c DIR -P submission/inet/content_filter=dkimpipe:dummy",
        ),
    ),
    "aliases apply twice": (
        "-PX smtp/inet/receive_override_options",
        error(
            "smtp/inet/receive_override_options: aliases and always_bcc apply twice: duplicate mail",
            "postconf -c DIR -P smtp/inet/receive_override_options=no_address_mappings",
        ),
    ),
    "DSN is offered": (
        "-PX smtp/inet/smtpd_discard_ehlo_keywords",
        error(
            "smtp/inet/smtpd_discard_ehlo_keywords: senders request notifications that get lost",
            "postconf -c DIR -P smtp/inet/smtpd_discard_ehlo_keywords=dsn,silent-discard",
        ),
    ),
    "no lower limit of size": (
        "-PX smtp/inet/message_size_limit",
        error(
            "smtp/inet/message_size_limit: its results make mail exceed the limit",
            "postconf -c DIR -P smtp/inet/message_size_limit=10223616",
        ),
    ),
    "the filter is killed before it gives up": (
        "-e dkimpipe-verify_time_limit=60s",
        error(
            f"dkimpipe-verify_time_limit: {TOO_LATE}", "postconf -c DIR -e dkimpipe-verify_time_limit=300s"
        ),
    ),
    "many runs for one message": (
        "-X dkimpipe-verify_destination_recipient_limit",
        error(
            "dkimpipe-verify_destination_recipient_limit:"
            " one message to many is verified and sent once per 50 recipients",
            "postconf -c DIR -e dkimpipe-verify_destination_recipient_limit=1000",
        ),
    ),
    "another filter on port 25": (
        f"{AMAVIS}\n-P smtp/inet/content_filter=smtp-amavis:[127.0.0.1]:10024",
        error(f"smtp/inet/content_filter: smtp-amavis:[127.0.0.1]:10024 {ANOTHER}", PUT_BEHIND),
    ),
    "another filter before the queue": (
        "-P smtp/inet/smtpd_proxy_filter=127.0.0.1:10024",
        error(f"smtp/inet/smtpd_proxy_filter: 127.0.0.1:10024 {ANOTHER}", PUT_BEHIND),
    ),
    "verified mail goes there again": (
        "-P pickup/unix/content_filter=dkimpipe-verify:dummy",
        error(
            "pickup/unix/content_filter: verified mail loops",
            "postconf -c DIR -PX pickup/unix/content_filter",
        ),
    ),
    "a transport": (
        "-e relay_transport=dkimpipe-verify",
        error(
            "relay_transport: verified mail goes to the filter again: it loops",
            "postconf -c DIR -X relay_transport",
        ),
    ),
    "a milter that says the same": (
        "-P smtp/inet/smtpd_milters=inet:localhost:11332",
        warning(
            "smtp/inet/smtpd_milters: inet:localhost:11332 may verify as well",
            "its results under this host's authserv-id are removed: give it another one (RFC 8601)",
        ),
    ),
    "another sendmail": (
        "argv=VERIFIER => argv=VERIFIER --sendmail /bin/true",
        error(
            "/bin/true is not this Postfix's sendmail(1)",
            "use --sendmail=SENDMAIL, or sendmail in verify.conf",
        ),
    ),
    "an option that it does not know": (
        "argv=VERIFIER => argv=VERIFIER --normalize no",
        error(
            "as user daemon: 4.3.5 dkimpipe: unknown option '--normalize'",
            "see dkimpipe verify --help",
        ),
    ),
    "verified mail is checked again": (
        "-P pickup/unix/receive_override_options=no_header_body_checks",
        error(
            f"pickup/unix/receive_override_options: {AGAIN}",  # said once, of the signed mail
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
        ),
    ),
}


def hints(output: str) -> list[str]:
    """Return what is to be done."""
    return [line[4:] for line in output.splitlines() if line.startswith("    ")]


def with_commands(faults: dict[str, tuple[str, str]]) -> list[str]:
    """Return the faults that commands fix, but for those that then read /etc/dkimpipe."""
    return [
        name
        for name, (_, output) in faults.items()
        if hints(output)
        and all(line.startswith("postconf ") for line in hints(output))
        and not re.search("START|JUDGE", output)
    ]


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """A directory that all may read, with the filter and its files."""
    with shared_directory() as directory:
        copy_program(directory)
        files = {
            "senders": "example.com dkim(s=a,key=/nowhere)\n",
            "for-some": "example.com dkim(s=a,key=/login)\nexample.net dkim(s=a\n"
            "example.org dkim(s=a,key=/nowhere),\n dkim(s=b,key=/nowhere,login=alice)\n",
            "conf": "sender_map SITE/senders\n",
            "any.conf": "sender_map SITE/senders\nsign_clients any\n",
            "filter.cidr": "0.0.0.0/0 FILTER dkimpipe:dummy\n::/0 FILTER dkimpipe:dummy\n",
            "some.cidr": "192.0.2.0/28 OK\n",
            "none.cidr": "192.0.2.0/28 REJECT\n",
            "long-lines.conf": "sender_map SITE/senders\nnormalize no\n",
            "submitters": "root\nnobody, cron\n",
            "status.regexp": "# status codes\n/^5(\\.3\\..*)/ 4$1\n",
            "bin/dkimpipe": INSTALLED,
            "verify.conf": "hostname mx.example.com\n",
        }
        (directory / "bin").mkdir()
        for name, text in files.items():
            (directory / name).write_text(text.replace("SITE", str(directory)))
        (directory / "bin" / "dkimpipe").chmod(0o755)
        for name in ("old", "source", "changed"):
            left_out = shutil.ignore_patterns("__pycache__" if name == "source" else "")
            shutil.copytree(directory / "dkimpipe", directory / name / "dkimpipe", ignore=left_out)
        (directory / "old" / "dkimpipe" / "__init__.py").write_text('__version__ = "0.0.1"\n')
        with (directory / "changed" / "dkimpipe" / "pipe.py").open("a") as module:
            module.write("# changed\n")
        yield directory


@pytest.fixture(scope="module")
def words(site: Path) -> dict[str, str]:
    """What stands for what in configurations and outputs."""
    asked = ["postconf", "-dh", "mail_owner", "sendmail_path"]
    owner, sendmail = subprocess.check_output(asked, text=True).split()
    interpreter = os.path.realpath(sys.executable)
    if interpreter == os.path.realpath(PYTHON):
        interpreter = PYTHON
    return {
        "TOLD": TOLD,
        "PROGRAM": PROGRAM,
        "START": f"{interpreter} -IS {MAIN_FILE}",
        "JUDGE": f"{sys.executable} -I {MAIN_FILE} verify --hostname=mx.example.com",
        "VERIFIER": VERIFIER,
        "SITE": str(site),
        "OWNER": owner,
        "SENDMAIL": sendmail,
        "PROCESSES": str(2 * (os.cpu_count() or 1)),
        "MANY": str(2 * (os.cpu_count() or 1) + 8),
    }


def fill(text: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def write(directory: Path, main: str, master: str, words: dict[str, str]) -> Path:
    directory.mkdir()
    (directory / "main.cf").write_text(fill(main, words), errors="surrogateescape")
    (directory / "master.cf").write_text(fill(REST + master, words))
    return settled(directory)


def settled(directory: Path) -> Path:
    """Make main.cf older than the two seconds for which Postfix's programs would wait."""
    os.utime(directory / "main.cf", (0, 0))
    return directory


def edit(directory: Path, edits: str, words: dict[str, str]) -> None:
    master = directory / "master.cf"
    for line in edits.split("\n"):
        if " => " in line:
            old, new = fill(line, words).split(" => ")
            assert old in master.read_text()
            master.write_text(master.read_text().replace(old, new))
        else:
            subprocess.run(["postconf", "-c", str(directory), *shlex.split(fill(line, words))], check=True)
            settled(directory)


def damage(
    directory: Path, fault: str, words: dict[str, str], faults: dict[str, tuple[str, str]] = FAULTS
) -> str:
    """Make a fault, and return what the check should print."""
    edits, output = faults[fault]
    edit(directory, edits, words)
    return fill(output, {**words, "DIR": str(directory)})


def run(directory: Path, *verb: str) -> tuple[int, str]:
    """Run a verb on a configuration; return exit status and output."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = run_verb([*verb, "-c", str(directory)])
    return status, output.getvalue()


def check(directory: Path) -> tuple[int, str]:
    return run(directory, "check", "--postfix")


@pytest.fixture
def directory(tmp_path: Path, words: dict[str, str]) -> Path:
    """A good configuration, to be damaged."""
    return write(tmp_path / "postfix", MAIN, MASTER, words)


@pytest.fixture
def both(tmp_path: Path, words: dict[str, str]) -> Path:
    """A good configuration that signs and verifies, to be damaged."""
    return write(tmp_path / "postfix", MAIN_BOTH, MASTER_BOTH, words)


@pytest.mark.parametrize("name", VERIFIER_FAULTS)
def test_of_a_fault_of_the_verifier_it_prints_this_and_nothing_else(
    name: str, both: Path, words: dict[str, str]
) -> None:
    output = damage(both, name, words, VERIFIER_FAULTS)
    assert check(both)[1] == output


@pytest.mark.parametrize("name", with_commands(VERIFIER_FAULTS))
def test_the_commands_that_it_prints_fix_the_fault_of_the_verifier(
    name: str, both: Path, words: dict[str, str]
) -> None:
    for line in hints(damage(both, name, words, VERIFIER_FAULTS)):
        subprocess.run(["sh", "-c", line], check=True)
        settled(both)
    assert check(both) == GOOD


def test_asked_for_the_verifier_alone_it_does_not_look_at_the_signer(
    directory: Path, words: dict[str, str]
) -> None:
    edit(directory, "-X header_size_limit", words)
    output = run(directory, "postfix", "--verify", "--check")[1]
    assert "dkimpipe: error: smtp/inet/content_filter: nothing is verified\n" in output
    assert "header_size_limit" not in output


def test_with_a_verifier_and_no_signer_mail_from_users_is_not_to_be_verified(
    tmp_path: Path, words: dict[str, str]
) -> None:
    directory = write(tmp_path / "postfix", *CONFIGURATIONS[NOTHING_SIGNED], words)
    edit(directory, "-P submission/inet/content_filter=dkimpipe-verify:dummy", words)
    hint = f"postconf -c {directory} -P submission/inet/content_filter="
    found = error("submission/inet/content_filter: mail from users is verified", hint)
    assert check(directory) == (78, found)


def test_where_another_filter_gets_verified_mail_again_it_says_that_it_loops(
    tmp_path: Path, words: dict[str, str]
) -> None:
    directory = write(tmp_path / "postfix", *CONFIGURATIONS[AMAVIS_IN_MAIN], words)
    edit(directory, "-PX pickup/unix/content_filter", words)
    what = "smtp-amavis:[127.0.0.1]:10024 gets the mail after it was"
    hint = f"postconf -c {directory} -P pickup/unix/content_filter="
    assert check(directory)[1] == warning(
        f"pickup/unix/content_filter: {what} signed, and must not change it", hint
    ) + error(f"pickup/unix/content_filter: {what} verified and returns it to be verified: it loops", hint)


def test_from_3_9_what_is_converted_before_it_is_verified_is_named(
    both: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = postconf_of("3.9.1", tmp_path, "force_mime_input_conversion = yes")
    monkeypatch.setenv("PATH", env["PATH"])
    hint = f"postconf -c {both} -e force_mime_input_conversion=no"
    what = "force_mime_input_conversion: 8-bit text is converted before it is verified"
    assert check(both) == (78, error(what, hint))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_found_in_a_good_configuration(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    assert check(write(tmp_path / "postfix", *CONFIGURATIONS[name], words)) == GOOD


def test_nothing_is_found_in_the_fragments_as_shipped(tmp_path: Path, words: dict[str, str]) -> None:
    main, master = ((PROJECT / "postfix" / name).read_text() for name in ("main.cf", "master.cf"))
    for old, new in (
        (" user=dkimpipe ", " user=nobody "),
        ("/opt/dkimpipe/bin/dkimpipe ", "SITE/bin/dkimpipe --conf_file SITE/conf "),
    ):
        assert old in master
        master = master.replace(old, new)
    assert check(write(tmp_path / "postfix", main, PORT_25 + master, words)) == GOOD


def test_nothing_is_found_in_what_apply_wrote(tmp_path: Path, words: dict[str, str]) -> None:
    service = "dkimpipe unix - n n - - pipe user=nobody argv=PROGRAM"
    login = "-o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
    bare = f"{PORT_25}pickup unix n - y 60 1 pickup\nsubmission inet n - y - - smtpd {login}\n{service}\n"
    directory = write(tmp_path / "postfix", "compatibility_level = 3.6\n", bare, words)
    run(directory, "postfix", "--apply")
    assert check(settled(directory)) == GOOD


@pytest.mark.parametrize("name", FAULTS)
def test_of_a_fault_it_prints_this_and_nothing_else(
    name: str, directory: Path, words: dict[str, str]
) -> None:
    output = damage(directory, name, words)
    assert check(directory)[1] == output


@pytest.mark.parametrize("name", with_commands(FAULTS))
def test_the_commands_that_it_prints_fix_the_fault(name: str, directory: Path, words: dict[str, str]) -> None:
    for line in hints(damage(directory, name, words)):
        subprocess.run(["sh", "-c", line], check=True)
        settled(directory)
    assert check(directory) == GOOD


@pytest.mark.parametrize("name", ["there is no filter", "argv runs another program"])
def test_the_filter_that_it_makes_needs_nothing_more(
    name: str, directory: Path, words: dict[str, str]
) -> None:
    (line,) = hints(damage(directory, name, words))
    subprocess.run(["sh", "-c", line], check=True)
    assert run(directory, "postfix") == (0, "nothing to change\n")


def test_the_submission_that_it_makes_needs_apply_and_nothing_more(
    directory: Path, words: dict[str, str]
) -> None:
    service, _ = hints(damage(directory, "there is no submission", words))
    subprocess.run(["sh", "-c", service], check=True)
    run(directory, "postfix", "--apply")
    assert check(directory) == GOOD


def test_an_error_among_warnings_ends_in_status_78(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "PROGRAM => PROGRAM --on_error accept\n-X header_size_limit", words)
    assert check(directory)[0] == 78


def test_warnings_alone_end_in_status_0(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "PROGRAM => PROGRAM --on_error accept", words)
    assert check(directory)[0] == 0


@pytest.mark.parametrize("fault", ["users on port 25", "no content_filter"])
def test_both_verbs_say_the_same(fault: str, directory: Path, words: dict[str, str]) -> None:
    damage(directory, fault, words)
    assert run(directory, "postfix", "--check") == check(directory)


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to become the filter's user")
def test_what_the_filters_user_may_not_read_is_found(
    directory: Path, site: Path, words: dict[str, str]
) -> None:
    senders = site / "senders-of-root"
    senders.write_text("")
    senders.chmod(0o600)
    nobody = pwd.getpwnam("nobody").pw_uid
    edit(directory, f"PROGRAM => PROGRAM --sender_map {senders}", words)
    output = error(
        f"as user nobody: 4.3.5 dkimpipe: map {senders}: Permission denied",
        f"let user ID {nobody} read it; namei -l {senders} shows what blocks access",
    )
    assert check(directory) == (78, output)


# What depends on other files of the machine.

MAY_SIGN = Finding(
    "submission/inet/smtpd_milters: inet:localhost:8891 may sign as well; remove the domain there,"
    " or let it verify only",
    "postconf -c DIR -P submission/inet/smtpd_milters=",
    "warning",
)


@pytest.mark.parametrize(
    ("conf", "found"),
    [
        (None, [MAY_SIGN]),
        ("Syslog yes\n", [MAY_SIGN]),
        ("# Mode v\nMode sv\n", [MAY_SIGN]),
        ("Syslog yes\nMode\tv\nSocket inet:8891@localhost\n", []),
    ],
    ids=["no conf file", "by default", "signs and verifies", "verifies only"],
)
def test_opendkim_may_sign_unless_its_conf_file_says_that_it_verifies(
    conf: str | None, found: list[Finding], directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "opendkim.conf"
    if conf is not None:
        path.write_text(conf)
    monkeypatch.setattr(doctor, "OPENDKIM_CONF", path)
    edit(directory, "-P submission/inet/smtpd_milters=inet:localhost:8891", {})
    named = [Finding(what, hint.replace("DIR", str(directory)), level) for what, hint, level in found]
    assert doctor.findings(Postconf(directory), "nobody") == named


def test_before_3_7_the_status_filter_needs_a_file(directory: Path, words: dict[str, str]) -> None:
    damage(directory, "no status filter", words)
    postconf = Postconf(directory)
    postconf.version = (3, 6)
    table = f"{directory}/dkimpipe-status.regexp"
    hint = SERVICE.replace(r"{{/^5(\.3\..*)/ 4$$1}}", table).replace("DIR", str(directory))
    assert doctor.findings(postconf, "nobody") == [
        Finding(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce",
            rf"echo '/^5(\.3\..*)/ 4$1' > {table}" + f"\n{fill(hint, words)}",
        ),
    ]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("message_size_limit = 10M", "message_size_limit = 10M: not a valid number; Postfix rejects it\n"),
        ("dkimpipe_time_limit = 5M", "dkimpipe_time_limit = 5M: not a valid duration; Postfix rejects it\n"),
    ],
)
def test_numbers_that_are_none_are_named(
    setting: str, said: str, tmp_path: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(write(tmp_path / "postfix", f"{MAIN}{setting}\n", MASTER, words)) == (78, "")
    assert capsys.readouterr().err == f"dkimpipe: {said}"


def test_a_service_that_stands_twice_is_named(tmp_path: Path, words: dict[str, str]) -> None:
    directory = write(tmp_path / "postfix", MAIN, MASTER + SUBMISSION, words)
    output = error("submission/inet: defined twice in master.cf; Postfix uses the last", "remove one of them")
    assert check(directory) == (78, output)


def test_a_conf_file_of_opendkim_in_latin_1_is_read(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opendkim.conf").write_bytes(b"# M\xfcller\n")
    monkeypatch.setattr(doctor, "OPENDKIM_CONF", tmp_path / "opendkim.conf")
    assert check(directory) == GOOD
