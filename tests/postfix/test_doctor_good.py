"""``dkimpipe check --postfix`` finds nothing in a good configuration, however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PROJECT, settled
from diagnosis import (
    AMAVIS_IN_MAIN,
    BEHIND,
    FILTER,
    GOOD,
    INBOUND,
    INBOUND_BEHIND,
    LOGINS,
    MAIN,
    MAIN_BOTH,
    MASTER,
    MASTER_BOTH,
    NOTHING_SIGNED,
    OPTIONS,
    OWN_CLEANUP,
    PICKUP,
    PORT_25,
    PYTHON,
    SIZE_LIMIT,
    SUBMISSION,
    VERIFY,
    check,
    run,
    write,
)

# Good configurations: main.cf, and master.cf.
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
  -o smtpd_sasl_auth_enable=yes
{OPTIONS}
2525      inet  n       -       n       -       -       smtpd
  -o smtpd_sasl_auth_enable=yes
{OPTIONS}
""",
    ),
    "bound to addresses": (
        MAIN,
        f"""
127.0.0.2:smtp      inet  n       -       n       -       -       smtpd
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
        f"""
compatibility_level = 3.6
{LOGINS}signer_time_limit = 10m
signer_destination_recipient_limit = 5000
disable_mime_output_conversion = yes
header_size_limit = 2097152
""",
        MASTER.replace("dkimpipe:dummy", "signer:dummy").replace("dkimpipe  unix", "signer unix"),
    ),
    "limits as good as ours": (
        f"""
compatibility_level = 3.6
{LOGINS}dkimpipe_time_limit = 600s
dkimpipe_destination_recipient_limit = 0
message_size_limit = 52428800
disable_mime_output_conversion = yes
header_size_limit = 1048577
""",
        MASTER,
    ),
    "limits for all transports": (
        f"""
compatibility_level = 3.6
{LOGINS}command_time_limit = 5m
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
            "-o header_checks=regexp:SITE/nothing -o { always_add_missing_headers = yes }",
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
  -o message_size_limit=10223616
smtp-amavis unix -      -       n       -       2       smtp
  -o smtp_data_done_timeout=1200
  -o smtp_send_xforward_command=yes
  -o disable_dns_lookups=yes
127.0.0.1:10025 inet n  -       n       -       -       smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o smtpd_milters=
{BEHIND}
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
        f"{MAIN}smtpd_milters = unix:opendkim/opendkim.sock\n",
        MASTER.replace("no_address_mappings", "no_address_mappings,no_milters"),
    ),
    "a milter that checks for viruses": (
        f"{MAIN}smtpd_milters = {{ unix:/run/clamav/clamav-milter.ctl, default_action=tempfail }}\n",
        MASTER,
    ),
    "header and body checks": (
        f"""{MAIN}
header_checks = regexp:{{{{/^X-Mailer:/ IGNORE}}}}
mime_header_checks = regexp:SITE/nothing
nested_header_checks =
body_checks = regexp:SITE/nothing
smtp_header_checks =
""",
        MASTER,
    ),
    "envelope addresses are rewritten": (
        f"""{MAIN}
canonical_maps = texthash:SITE/nothing
canonical_classes = envelope_sender
sender_canonical_maps = texthash:SITE/nothing
sender_canonical_classes = envelope_sender
recipient_canonical_maps = texthash:SITE/nothing
recipient_canonical_classes = envelope_recipient
masquerade_domains = example.com
masquerade_classes = envelope_sender, envelope_recipient
virtual_alias_maps = texthash:SITE/nothing
always_bcc = archive@example.com
""",
        MASTER,
    ),
    "a relay host that wants a password": (
        f"""{MAIN}
relayhost = [smtp.example.net]:submission
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:SITE/nothing
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
  -o message_size_limit=10223616
submissions inet n - y - - smtpd
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o message_size_limit=10223616
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
  -o content_filter=
127.0.0.1:10027 inet n - n - - smtpd
{BEHIND}
""",
    ),
    "amavis before the queue, dkimpipe behind it": (
        MAIN,
        f"""
{PORT_25}{PICKUP}{FILTER}
submission inet n - y - - smtpd
  -o smtpd_proxy_filter=127.0.0.1:10024
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o message_size_limit=10223616
127.0.0.1:10025 inet n - n - - smtpd
{BEHIND}
""",
    ),
    "port 25 inside, for our own clients": (
        MAIN,
        f"""
INSIDE:smtp inet n - y - - smtpd
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
    "mail from outside is verified, and nothing signed": NOTHING_SIGNED,
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
{SIZE_LIMIT}smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
{INBOUND_BEHIND}{PICKUP}{SUBMISSION}{FILTER}{VERIFY}
""",
    ),
    "verified behind amavis for all mail": AMAVIS_IN_MAIN,
    "verified behind amavis before the queue": (
        MAIN_BOTH,
        f"""
{PORT_25}  -o smtpd_proxy_filter=127.0.0.1:10024
{SIZE_LIMIT}127.0.0.1:10025 inet n - n - - smtpd
{INBOUND_BEHIND}{PICKUP}{SUBMISSION}{FILTER}{VERIFY}
""",
    ),
    "port 25 inside for users, another one for mail from outside": (
        MAIN_BOTH,
        f"""
INSIDE:smtp inet n - y - - smtpd
  -o {{ smtpd_client_restrictions = permit_mynetworks, reject }}
{OPTIONS}
smtp inet n - y - - smtpd
{INBOUND}{PICKUP}{FILTER}{VERIFY}
""",
    ),
    "very small mail only": (f"{MAIN}message_size_limit = 4000\n", MASTER.replace("10223616", "1")),
    "a file of another instance copied": (f"{MAIN}config_directory = /etc/postfix\n", MASTER),
    "a directory of its own, for a name without a path": (
        MAIN,
        MASTER.replace("flags=q", "directory=SITE flags=q").replace(
            "--conf_file SITE/conf", "--conf_file conf"
        ),
    ),
    "the directory that pipe(8) has anyway": (MAIN, MASTER.replace("flags=q", "directory=. flags=q")),
    "ends of lines as they are anyway": (MAIN, MASTER.replace("flags=q", r"eol=\n flags=q")),
    "macros in each form": (
        MAIN,
        MASTER.replace("PROGRAM", "PROGRAM --queue_id=$(queue_id) --client_name=$client_hostname"),
    ),
    "from the days before compatibility levels": (
        MAIN.replace("compatibility_level = 3.6", "smtpd_relay_restrictions = reject_unauth_destination"),
        MASTER,
    ),
}


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
    main += f"{LOGINS}smtpd_relay_restrictions = reject_unauth_destination\n"
    assert check(write(tmp_path / "postfix", main, PORT_25 + master, words)) == GOOD


def test_nothing_is_found_in_what_apply_wrote(tmp_path: Path, words: dict[str, str]) -> None:
    service = "dkimpipe unix - n n - - pipe user=nobody argv=PROGRAM"
    login = "-o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
    bare = f"{PORT_25}pickup unix n - y 60 1 pickup\nsubmission inet n - y - - smtpd {login}\n{service}\n"
    directory = write(tmp_path / "postfix", f"compatibility_level = 3.6\n{LOGINS}", bare, words)
    run(directory, "postfix", "--apply")
    settled(directory / "main.cf")
    assert check(directory) == GOOD
