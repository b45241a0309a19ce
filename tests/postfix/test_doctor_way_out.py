"""``dkimpipe check --postfix``: other ways to the filter, the way back from it, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import (
    AGAIN,
    AMAVIS,
    NOT_BY_PICKUP,
    TOO_LATE,
    Fault,
    check,
    checks_of,
    damage,
    error,
    run,
    warning,
)

SENT_SO_OFTEN = "one message to many is signed and sent once per"
NOT_CONVERTED = "8-bit text is converted after signing for old next hops"
CHANGES = "changes mail after it was signed"
MAY_CHANGE = "may change what is signed"
REWRITE = "\n".join(
    [
        "# to rewrite them before they are signed:",
        *(
            f"postconf -c DIR -P dkimpipe-cleanup/unix/{name}="
            for name in ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps", "virtual_alias_maps")
        ),
        "postconf -c DIR -P submission/inet/receive_override_options=",
    ]
)
MAY_NOT = "the filter's user nobody may not submit mail with sendmail(1)"

FAULTS: dict[str, Fault] = {
    # Other ways to the filter.
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
            NOT_BY_PICKUP,
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
    "another content_filter at pickup": (
        f"{AMAVIS}\n-P pickup/unix/content_filter=smtp-amavis:[127.0.0.1]:10024",
        warning(
            "pickup/unix/content_filter: smtp-amavis:[127.0.0.1]:10024 gets the mail after it was signed,"
            " and must not change it",
            NOT_BY_PICKUP,
        ),
    ),
    "users on a port of one's own": (
        "-M '2525/inet=2525 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes'",
        warning(
            "2525/inet/smtpd_sasl_auth_enable: mail from users who log in here is not signed",
            "postconf -c DIR -P 2525/inet/content_filter=dkimpipe:dummy\ndkimpipe postfix -c DIR --apply",
        ),
    ),
    "a content_filter in main.cf that there is not": (
        "-e content_filter=scan:dummy",
        error("content_filter: there is no service scan in master.cf"),
    ),
    # The way back.
    "there is no pickup": (
        "-MX pickup/unix",
        error("pickup/unix: without it signed mail stays in the maildrop directory for ever"),
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
            "# remove the filter from it",
        ),
    ),
    "no second try": (
        "-e maximal_queue_lifetime=0",
        warning(
            "maximal_queue_lifetime: mail that the filter defers bounces at once",
            "postconf -c DIR -X maximal_queue_lifetime",
        ),
    ),
    "fixes in one setting do not undo each other": (
        "-P pickup/unix/receive_override_options=no_address_mappings",
        error(
            f"pickup/unix/receive_override_options: {AGAIN};"
            " with no_address_mappings aliases apply neither before nor after the filter",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_header_body_checks,no_milters",
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
    "config_directory of another instance": (
        "-e config_directory=/etc/postfix header_size_limit=5000",
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
            f"-e {parameter}=texthash:SITE/nothing",
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
            f"-e {parameter}=texthash:SITE/nothing",
            warning(f"{parameter}: {MAY_CHANGE}", f"postconf -c DIR -X {parameter}"),
        )
        for parameter in ("smtp_header_checks", "smtp_mime_header_checks")
    },
    "smtp_header_checks of one service": (
        "-P relay/unix/smtp_header_checks=texthash:SITE/nothing",
        warning(
            f"relay/unix/smtp_header_checks: {MAY_CHANGE}",
            "postconf -c DIR -PX relay/unix/smtp_header_checks",
        ),
    ),
    "a signed field is changed": (
        "-e 'smtp_header_checks=regexp:{{/^Subject: (.*)/ REPLACE Subject: x}}'",
        error(
            f"smtp_header_checks: {CHANGES}: /^Subject: (.*)/ REPLACE Subject: x",
            "postconf -c DIR -X smtp_header_checks",
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
            f"-e {parameter}={'example.com' if 'domains' in parameter else 'static:x'}",
            warning(
                f"submission/inet: {parameter} no longer rewrites the header fields of this mail, only its"
                " envelope",
                REWRITE,
            ),
        )
        for parameter in (
            "canonical_maps",
            "sender_canonical_maps",
            "recipient_canonical_maps",
            "masquerade_domains",
        )
    },
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


test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(FAULTS)


@pytest.mark.parametrize("name", ["another content_filter in main.cf", "another content_filter at pickup"])
def test_mail_that_returns_by_smtp_does_not_pass_the_other_filter(
    name: str, directory: Path, words: dict[str, str]
) -> None:
    damage(directory, FAULTS[name], words)
    assert run(directory, "postfix", "--apply", "--relay")[0] == 0
    assert "pickup/unix/content_filter" not in check(directory)[1]
