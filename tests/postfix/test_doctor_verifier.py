"""``dkimpipe check --postfix``: faults of the service that verifies, where mail is signed as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from configurations import postconf_of
from diagnosis import (
    AGAIN,
    AMAVIS,
    AMAVIS_IN_MAIN,
    GOOD,
    NOT_BY_PICKUP,
    NOTHING_SIGNED,
    SERVICE,
    TOO_LATE,
    Fault,
    check,
    damage,
    edit,
    error,
    fix,
    run,
    warning,
    with_commands,
    write,
)

NEW_VERIFIER = SERVICE.replace("dkimpipe/unix=dkimpipe", "dkimpipe-verify/unix=dkimpipe-verify").replace(
    "user=nobody argv=PROGRAM TOLD", "user=daemon argv=VERIFIER"
)
READS_KEYS = "this user can read the keys, and verification needs none: use a separate user"
ANOTHER = "gets this mail, and a service can have only one filter"
PUT_BEHIND = (
    "# put dkimpipe-verify behind it: -o content_filter=dkimpipe-verify:dummy where mail returns from it,"
    " on a port only for mail from outside"
)

FAULTS: dict[str, Fault] = {
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
            "# and user=dkimpipe-verify in master.cf",
        ),
    ),
    "it runs with the group of the filter that signs": (
        "user=daemon => user=daemon:nogroup",
        error(
            f"dkimpipe-verify/unix: {READS_KEYS}",
            "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
            "# and user=dkimpipe-verify in master.cf",
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
            "# its results under this host's authserv-id are removed: give it another one (RFC 8601)",
        ),
    ),
    "another sendmail": (
        "argv=VERIFIER => argv=VERIFIER --sendmail /bin/true",
        error(
            "/bin/true is not this Postfix's sendmail(1)",
            "# use --sendmail=SENDMAIL, or sendmail in verify.conf",
        ),
    ),
    "an option that it does not know": (
        "argv=VERIFIER => argv=VERIFIER --normalize no",
        error(
            "as user daemon: 4.3.5 dkimpipe: unknown option '--normalize'",
            "# see dkimpipe verify --help",
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


@pytest.mark.parametrize("name", FAULTS)
def test_of_a_fault_of_the_verifier_it_prints_this_and_nothing_else_and_the_commands_fix_it(
    name: str, both: Path, words: dict[str, str]
) -> None:
    output = damage(both, FAULTS[name], words)
    assert check(both)[1] == output
    if name in with_commands(FAULTS):
        fix(both, output)
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
    directory = write(tmp_path / "postfix", *NOTHING_SIGNED, words)
    edit(directory, "-P submission/inet/content_filter=dkimpipe-verify:dummy", words)
    hint = f"postconf -c {directory} -P submission/inet/content_filter="
    found = error("submission/inet/content_filter: mail from users is verified", hint)
    assert check(directory) == (78, found)


def test_where_another_filter_gets_verified_mail_again_it_says_that_it_loops(
    tmp_path: Path, words: dict[str, str]
) -> None:
    directory = write(tmp_path / "postfix", *AMAVIS_IN_MAIN, words)
    edit(directory, "-PX pickup/unix/content_filter", words)
    what = "smtp-amavis:[127.0.0.1]:10024 gets the mail after it was"
    hint = NOT_BY_PICKUP.replace("DIR", str(directory))
    assert check(directory)[1] == warning(
        f"pickup/unix/content_filter: {what} signed, and must not change it", hint
    ) + error(
        f"pickup/unix/content_filter: {what} verified and returns it to be verified: it loops",
        hint.replace("dkimpipe postfix", "dkimpipe postfix --verify"),
    )


def test_from_3_9_what_is_converted_before_it_is_verified_is_named(
    both: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = postconf_of("3.9.1", tmp_path, "force_mime_input_conversion = yes")
    monkeypatch.setenv("PATH", env["PATH"])
    hint = f"postconf -c {both} -e force_mime_input_conversion=no"
    what = "force_mime_input_conversion: 8-bit text is converted before it is verified"
    assert check(both) == (78, error(what, hint))
