"""``dkimpipe check --postfix``: settings with which a program of Postfix does not start, or mail stops."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from diagnosis import (
    GOOD,
    MAIN,
    MASTER,
    check,
    checks_of,
    edit,
    error,
    fill,
    fix,
    hints,
    removed,
    write,
)

SMTPD = "smtp/inet, submission/inet: smtpd(8) does not start: "
SMTP = "smtp/unix, relay/unix: smtp(8) does not start: "
CLEANUP = "cleanup/unix, dkimpipe-cleanup/unix: cleanup(8) does not start: "
LOST = "other programs do not find"
FAULTS = {
    # The values that programs read when they start.
    "a time in words": (
        "-e 'smtp_connect_timeout = 30 sec'",
        error(
            f"{SMTP}parameter smtp_connect_timeout: bad time value or unit: 30 sec",
            "postconf -c DIR -e smtp_connect_timeout=30s",
        ),
    ),
    "a time of several programs": (
        "-e 'delay_warning_time = 4 hours'",
        error(
            "cleanup/unix, bounce/unix, dkimpipe-cleanup/unix: cleanup(8) and bounce(8) do not start:"
            " parameter delay_warning_time: bad time value or unit: 4 hours",
            "postconf -c DIR -e delay_warning_time=4h",
        ),
    ),
    "a time by a macro": (
        "-e 'patience = 5 min' 'smtpd_timeout = $patience'",
        error(
            f"{SMTPD}parameter smtpd_timeout: bad time value or unit: 5 min",
            "postconf -c DIR -e smtpd_timeout=5m",
        ),
    ),
    "a time that depends on stress": (
        "-e 'smtpd_timeout = ${stress?{10}:{300}} s'",
        error(
            f"{SMTPD}parameter smtpd_timeout: bad time value or unit: 300 s",
            "postconf -c DIR -e smtpd_timeout=300s",
        ),
    ),
    "a time with an unknown unit": (
        "-e 'smtp_helo_timeout = 5 fortnights'",
        error(
            f"{SMTP}parameter smtp_helo_timeout: bad time value or unit: 5 fortnights",
            removed("smtp_helo_timeout", "300s"),
        ),
    ),
    "a number with a unit": (
        "-e 'smtpd_recipient_limit = 1k'",
        error(
            f"{SMTPD}bad numerical configuration: smtpd_recipient_limit = 1k",
            "postconf -c DIR -e smtpd_recipient_limit=1000",
        ),
    ),
    "a number that is too low": (
        "-e 'initial_destination_concurrency = 0'",
        error(
            "qmgr/unix: qmgr(8) does not start: invalid initial_destination_concurrency parameter value"
            " 0 < 1",
            removed("initial_destination_concurrency", "5"),
        ),
    ),
    "a yes in other words": (
        "-e 'smtpd_helo_required = true'",
        error(
            f"{SMTPD}bad boolean configuration: smtpd_helo_required = true",
            "postconf -c DIR -e smtpd_helo_required=yes",
        ),
    ),
    "a size with a unit": (
        "-P submission/inet/header_size_limit=10M",
        error(
            "submission/inet: smtpd(8) does not start: bad numerical configuration: header_size_limit = 10M",
            "postconf -c DIR -P submission/inet/header_size_limit=10485760",
        ),
    ),
    "a number with spaces": (
        "-e 'smtpd_recipient_limit = 1 000'",
        error(
            f"{SMTPD}bad numerical configuration: smtpd_recipient_limit = 1 000",
            "postconf -c DIR -e smtpd_recipient_limit=1000",
        ),
    ),
    "a comment behind a yes": (
        "-e 'smtpd_helo_required = yes # of spammers'",
        error(
            f"{SMTPD}bad boolean configuration: smtpd_helo_required = yes # of spammers",
            "postconf -c DIR -e smtpd_helo_required=yes",
        ),
    ),
    "a comment behind a time": (
        "-e 'smtpd_timeout = 30 # seconds'",
        error(
            f"{SMTPD}parameter smtpd_timeout: bad time value or unit: 30 # seconds",
            "postconf -c DIR -e smtpd_timeout=30",
        ),
    ),
    "of one service": (
        "-P submission/inet/smtpd_timeout=5M",
        error(
            "submission/inet: smtpd(8) does not start: parameter smtpd_timeout: bad time value or unit: 5M",
            "postconf -c DIR -P submission/inet/smtpd_timeout=5m",
        ),
    ),
    "of one service, and it is not known what is meant": (
        "-P submission/inet/smtpd_hard_error_limit=many",
        error(
            "submission/inet: smtpd(8) does not start: bad numerical configuration:"
            " smtpd_hard_error_limit = many",
            removed("smtpd_hard_error_limit", "20", "submission/inet/"),
        ),
    ),
    "virtual(8) delivers, and has no mailboxes": (
        "-e virtual_mailbox_domains=example.org",
        error(
            "virtual/unix: virtual(8) does not start: bad string length 0 < 1: virtual_mailbox_base = ",
        ).replace("base = \n", "base =\n"),
    ),
    # Words.
    "a word with a typing error": (
        "-e masquerade_classes=envelope_sender,header_sendr",
        error(
            "masquerade_classes: cleanup(8) does not start: header_sendr is not one of envelope_sender,"
            " envelope_recipient, header_sender, header_recipient",
            "postconf -c DIR -e masquerade_classes=envelope_sender,header_sender",
        ),
    ),
    "an unknown word": (
        "-e smtp_address_preference=first",
        error(
            "smtp_address_preference: smtp(8) does not start: first is not one of ipv4, ipv6, any",
            removed("smtp_address_preference", "any"),
        ),
    ),
    "a word in capitals": ("-e smtp_host_lookup=DNS", GOOD[1]),
    "an override with a typing error": (
        "-P submission/inet/receive_override_options=no_address_mappings,no_milter",
        error(
            "submission/inet/receive_override_options: smtpd(8) does not start: no_milter is not one of"
            " no_unknown_recipient_checks, no_address_mappings, no_header_body_checks, no_milters",
            "postconf -c DIR -P submission/inet/receive_override_options=no_address_mappings,no_milters",
        ),
    ),
    "encrypted": (
        "-e smtp_tls_security_level=encrypted",
        error(
            "smtp_tls_security_level: smtp(8) does not start: encrypted is not one of none, may, encrypt,"
            " dane, dane-only, fingerprint, verify, secure",
            "postconf -c DIR -e smtp_tls_security_level=encrypt",
        ),
    ),
    "another word for encrypt": (
        "-e smtp_tls_security_level=must",
        error(
            "smtp_tls_security_level: smtp(8) does not start: must is not one of none, may, encrypt, dane,"
            " dane-only, fingerprint, verify, secure",
            "postconf -c DIR -e smtp_tls_security_level=encrypt",
        ),
    ),
    "TLS is on for users": (
        "-P submission/inet/smtpd_tls_security_level=on",
        error(
            "submission/inet/smtpd_tls_security_level: smtpd(8) does not start: on is not one of none, may,"
            " encrypt, dane, dane-only, fingerprint, verify, secure",
            "postconf -c DIR -P submission/inet/smtpd_tls_security_level=encrypt",
        ),
    ),
    "a level of TLS that is not known": (
        "-e smtp_tls_security_level=paranoid",
        error(
            "smtp_tls_security_level: smtp(8) does not start: paranoid is not one of none, may, encrypt,"
            " dane, dane-only, fingerprint, verify, secure",
            removed("smtp_tls_security_level", "empty, and mail is sent without TLS"),
        ),
    ),
    "two words that are equally similar": (
        "-e smtp_address_preference=ipv5",
        error(
            "smtp_address_preference: smtp(8) does not start: ipv5 is not one of ipv4, ipv6, any",
            removed("smtp_address_preference", "any"),
        ),
    ),
    # The columns of master.cf.
    "a process limit": (
        "-F cleanup/unix/process_limit=10",
        error(
            "cleanup/unix: cleanup(8) does not start: it requires a process limit of 0",
            "postconf -c DIR -F cleanup/unix/process_limit=0",
        ),
    ),
    "several processes": (
        "-F qmgr/unix/process_limit=-",
        error(
            "qmgr/unix: qmgr(8) does not start: it requires a process limit of 1",
            "postconf -c DIR -F qmgr/unix/process_limit=1",
        ),
    ),
    "unprivileged": (
        "-F local/unix/unprivileged=y",
        error(
            "local/unix: local(8) does not start: it requires privileged operation",
            "postconf -c DIR -F local/unix/unprivileged=n",
        ),
    ),
    "a program that does not exist": (
        "-F rewrite/unix/command=trivial-rewrit",
        error(
            "rewrite/unix: Postfix cannot run DAEMONS/trivial-rewrit: no such file",
            "postconf -c DIR -M 'rewrite/unix=rewrite unix - - y - - trivial-rewrite'",
        ),
    ),
    "a program that does not exist, with options": (
        "relay     unix  -       -       y       -       -       smtp => relay unix - - y - - smpt",
        error(
            "relay/unix: Postfix cannot run DAEMONS/smpt: no such file",
            "postconf -c DIR -M 'relay/unix=relay unix - - y - - smtp -o syslog_name=postfix/$service_name'",
        ),
    ),
    "private cleanup": (
        "-F cleanup/unix/private=-",
        error(f"cleanup/unix: private is -: {LOST} cleanup(8)", "postconf -c DIR -F cleanup/unix/private=n"),
    ),
    "public rewrite": (
        "-F rewrite/unix/private=n",
        error(
            f"rewrite/unix: private is n: {LOST} trivial-rewrite(8)",
            "postconf -c DIR -F rewrite/unix/private=y",
        ),
    ),
    "a public filter": (
        "-F dkimpipe/unix/private=n",
        error(f"dkimpipe/unix: private is n: {LOST} pipe(8)", "postconf -c DIR -F dkimpipe/unix/private=y"),
    ),
    "no qmgr": (
        "-MX qmgr/unix",
        error(
            "qmgr/unix: there is no service qmgr, which all mail needs",
            "postconf -c DIR -M 'qmgr/unix=qmgr unix n - n 300 1 qmgr'",
        ),
    ),
    # What qmgr(8) reads at the first message.
    "a limit of the filter": (
        "-e dkimpipe_initial_destination_concurrency=0",
        error(
            "dkimpipe_initial_destination_concurrency: 0 is less than 1: qmgr(8) ends, and mail stays in the"
            " queue",
            removed("dkimpipe_initial_destination_concurrency", "5"),
        ),
    ),
    "a delay of a transport": (
        "-e 'smtp_destination_rate_delay = 2 sec'",
        error(
            "smtp_destination_rate_delay: 2 sec is not valid: qmgr(8) ends, and mail stays in the queue",
            "postconf -c DIR -e smtp_destination_rate_delay=2s",
        ),
    ),
    "a time limit of another program": (
        "-e maildrop_time_limit=0",
        error(
            "maildrop_time_limit: 0 is less than 1: pipe(8) ends, and mail stays in the queue",
            removed("maildrop_time_limit", "1000s"),
        ),
    ),
}
ALL_FAULTS = {
    name: (edits, output.replace("DAEMONS", "/usr/lib/postfix/sbin"))
    for name, (edits, output) in FAULTS.items()
}
test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(ALL_FAULTS)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("yess", id="typing error"),
        pytest.param('"yes"', id="quotes"),
        pytest.param("true", id="another word"),
        pytest.param("yes;", id="semicolon"),
    ],
)
def test_logins_stay_on_when_their_setting_is_corrected(
    value: str, directory: Path, words: dict[str, str]
) -> None:
    edit(directory, f"-P 'submission/inet/smtpd_sasl_auth_enable={value}'", words)
    message = f"bad boolean configuration: smtpd_sasl_auth_enable = {value}"
    hint = f"postconf -c {directory} -P submission/inet/smtpd_sasl_auth_enable=yes"
    output = check(directory)[1]
    assert output.startswith(error(f"submission/inet: smtpd(8) does not start: {message}", hint))
    fix(directory, output)
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    ("setting", "then"),
    [
        ("smtpd_sasl_auth_enable=maybe", "no, and nobody can log in"),
        ("smtpd_tls_auth_only=maybe", "no, and passwords may come without TLS"),
        ("smtpd_tls_security_level=paranoid", "empty, and there is no TLS"),
    ],
)
def test_a_hint_that_shuts_users_out_or_ends_tls_says_so(
    setting: str, then: str, directory: Path, words: dict[str, str]
) -> None:
    edit(directory, f"-P submission/inet/{setting}", words)
    name = setting.partition("=")[0]
    hint = fill(removed(name, then, "submission/inet/"), {"DIR": str(directory)})
    assert hint.splitlines() == hints(check(directory)[1])[:2]


def test_free_space(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "-e queue_minfree=900000000000000", words)
    _, output = check(directory)
    said = re.sub(r"\d+ MiB", "N MiB", output)
    what = "smtpd(8) rejects all mail while only N MiB are free in /var/spool/postfix"
    hint = "# free some space there, or remove it (then queue_minfree is 0):"
    hint += f"\npostconf -c {directory} -X queue_minfree"
    assert said == error(f"smtp/inet, submission/inet: queue_minfree = 900000000000000: {what}", hint)
    fix(directory, output)
    assert check(directory) == GOOD


def test_a_message_may_need_more_space_than_there_is(directory: Path, words: dict[str, str]) -> None:
    free = os.statvfs("/var/spool/postfix")
    edit(directory, f"-P submission/inet/message_size_limit={free.f_bavail * free.f_frsize}", words)
    assert "error: submission/inet: submission/inet/message_size_limit = " in check(directory)[1]


def test_each_program_of_postfix_is_asked_and_starts_with_its_defaults(tmp_path: Path) -> None:
    """Debian's own master.cf: nothing is said of it, with any of its comments removed either."""
    shipped = Path("/usr/share/postfix/master.cf.dist").read_text()
    others = re.sub(r"^#(?=(\w+ +(inet|unix|pass) )|  -o )", "", shipped, flags=re.MULTILINE)
    for number, text in enumerate((shipped, others)):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "main.cf").write_text("compatibility_level = 3.6\n")
        (directory / "master.cf").write_text(text)
        assert asked(directory) == []


def asked(directory: Path) -> list[str]:
    """Return what is said of the programs and of delivery, for each service in master.cf."""
    from dkimpipe.admin.postfix import arguments, daemons, delivery
    from dkimpipe.admin.postfix.postconf import Postconf

    postconf = Postconf(directory)
    found = [*arguments.findings(postconf, arguments.faults(postconf))]
    return [each.what for each in (*found, *daemons.findings(postconf), *delivery.findings(postconf))]


def test_asking_leaves_nothing_in_the_log_or_the_queue(tmp_path: Path, words: dict[str, str]) -> None:
    queue, log = tmp_path / "queue", tmp_path / "log"
    main = f"{MAIN}queue_directory = {queue}\nmaillog_file = {log}\nmaillog_file_prefixes = {tmp_path}\n"
    queue.mkdir()
    directory = write(tmp_path / "postfix", f"{main}smtp_connect_timeout = 30 sec\n", MASTER, words)
    assert [each for each in asked(directory) if "smtp_connect_timeout" in each]
    assert not log.exists()
    assert list(queue.iterdir()) == []
