"""``dkimpipe check --postfix``: faults of the services that take mail from users."""

from __future__ import annotations

from pathlib import Path

from diagnosis import AMAVIS, GOOD, Fault, check, checks_of, damage, error, run, warning

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
    "-M 'subcleanup/unix=subcleanup unix n - y - 0 cleanup -o {header_checks=regexp:{{/^X:/ IGNORE}}}'"
)
ASK = "senders request notifications that get lost, and SMTPUTF8, which few hosts accept"
GROWS = "its signatures make mail exceed the limit"

BEHIND_AMAVIS = (
    f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
    "-M '127.0.0.1:10027/inet=127.0.0.1:10027 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
    " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
    " -o smtpd_discard_ehlo_keywords=dsn,smtputf8LIMIT'"
)
BOUNCES = "mail that was accepted and returns from another filter exceeds it, and bounces"

BEHIND_PROXY = (
    "# put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it, on a port only"
    " for mail from users\n"
    "# or, which switches 127.0.0.1:10024 off for mail from users: postconf -c DIR -P"
    " submission/inet/smtpd_proxy_filter="
)
FAULTS: dict[str, Fault] = {
    # The way to the filter.
    "there is no submission": (
        "-MX submission/inet",
        error(
            "submission/inet: there is no service for mail from users, so nothing is signed",
            "dkimpipe postfix -c DIR --apply --submission",
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
            "# put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it",
        ),
    ),
    "a proxy filter": (
        "-P submission/inet/smtpd_proxy_filter=127.0.0.1:10024",
        error(
            "submission/inet/smtpd_proxy_filter:"
            " mail returned by the proxy filter arrives where nothing is signed",
            BEHIND_PROXY,
        ),
    ),
    "a proxy filter for all ports": (
        "-e smtpd_proxy_filter=127.0.0.1:10024",
        error(
            "submission/inet/smtpd_proxy_filter:"
            " mail returned by the proxy filter arrives where nothing is signed",
            BEHIND_PROXY,
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
    "a content_filter without next hop": (
        "-P submission/inet/content_filter=dkimpipe:",
        error(
            "submission/inet/content_filter: mail to several domains is signed and sent once per domain",
            "postconf -c DIR -P submission/inet/content_filter=dkimpipe:dummy",
        ),
    ),
    "amavis, and nothing behind it": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '465/inet=465 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes"
        " -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            "submission/inet/content_filter: smtp-amavis:[127.0.0.1]:10026 gets this mail, and a"
            " service can have only one filter",
            "# put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it",
        ),
    ),
    # Header fields added.
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
        "-P dkimpipe-cleanup/unix/header_checks=regexp:SITE/nothing",
        error(f"dkimpipe-cleanup/unix/always_add_missing_headers: {INCOMPLETE}", ADD),
    ),
    "the cleanup service is gone": (
        "-MX dkimpipe-cleanup/unix",
        error(f"dkimpipe-cleanup/unix: {NO_CLEANUP}", NEW_CLEANUP),
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
            "postconf -c DIR -M 'dkimpipe-cleanup-subcleanup/unix=dkimpipe-cleanup-subcleanup unix n - y - 0"
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
    "nothing added behind another filter": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8'",
        error(
            f"127.0.0.1:10025/inet/cleanup_service_name: {INCOMPLETE}",
            "postconf -c DIR -P 127.0.0.1:10025/inet/cleanup_service_name=dkimpipe-cleanup",
        ),
    ),
    "a cleanup service of the owner that there is not": (
        "-P submission/inet/cleanup_service_name=cleanup2",
        error(
            "submission/inet/cleanup_service_name: there is no service cleanup2 in master.cf, and mail that"
            " needs it waits",
            "postconf -c DIR -P submission/inet/cleanup_service_name=dkimpipe-cleanup",
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
            "check_address_map,texthash:SITE/nothing",
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
            f"submission/inet/local_header_rewrite_clients: {DAMAGE}", f"{OUR_CLEANUP} && {REWRITE_NOTHING}"
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
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8'",
        warning(f"submission/inet/local_header_rewrite_clients: {DAMAGE}", REWRITE_NOTHING),
    ),
    # Behind another filter.
    "as large as ever where clients submit": (
        BEHIND_AMAVIS.replace("LIMIT", "") + "\n-PX submission/inet/message_size_limit",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    "limited only where it returns": (
        BEHIND_AMAVIS.replace("LIMIT", " -o message_size_limit=10223616")
        + "\n-PX submission/inet/message_size_limit",
        error(
            f"127.0.0.1:10027/inet/message_size_limit: {BOUNCES}",
            "postconf -c DIR -PX 127.0.0.1:10027/inet/message_size_limit",
        )
        + error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    "limited at both ends alike": (
        BEHIND_AMAVIS.replace("LIMIT", " -o message_size_limit=10223616"),
        error(
            f"127.0.0.1:10027/inet/message_size_limit: {BOUNCES}",
            "postconf -c DIR -PX 127.0.0.1:10027/inet/message_size_limit",
        ),
    ),
    "logins that never come back": (
        BEHIND_AMAVIS.replace("LIMIT", "") + "\n--conf_file SITE/conf => --sender_map SITE/for-some",
        error(
            "SITE/for-some, line 3: login= never matches mail from submission/inet: it comes back from"
            " smtp-amavis:[127.0.0.1]:10026 without",
            "# remove login= there; reject_sender_login_mismatch ties senders to logins before the filter",
        ),
    ),
    # What is offered to clients.
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
    "a higher limit for pickup alone": (
        "-P pickup/unix/message_size_limit=20000000\n-P submission/inet/message_size_limit=15000000",
        error(
            f"submission/inet/message_size_limit: {GROWS}",
            "postconf -c DIR -P submission/inet/message_size_limit=10223616",
        ),
    ),
    # Milters.
    "a milter that may sign": (
        "-P submission/inet/smtpd_milters=inet:localhost:8891",
        warning(
            "submission/inet/smtpd_milters: inet:localhost:8891 may sign as well; remove the domain"
            " there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=",
        ),
    ),
    "a milter that may sign, for all ports": (
        "-e signer=unix:/run/opendkim/opendkim.sock smtpd_milters=$signer",
        warning(
            "submission/inet/smtpd_milters: unix:/run/opendkim/opendkim.sock may sign as well; remove"
            " the domain there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=",
        ),
    ),
    "a milter that may sign, among others": (
        "-P submission/inet/smtpd_milters=unix:/run/clamav.sock,inet:localhost:8891",
        warning(
            "submission/inet/smtpd_milters: inet:localhost:8891 may sign as well; remove the domain"
            " there, or let it verify only",
            "postconf -c DIR -P submission/inet/smtpd_milters=unix:/run/clamav.sock",
        ),
    ),
}


test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(FAULTS)


def test_the_submission_that_it_makes_needs_apply_and_nothing_more(
    directory: Path, words: dict[str, str]
) -> None:
    damage(directory, FAULTS["there is no submission"], words)
    run(directory, "postfix", "--apply", "--submission")
    assert check(directory) == GOOD


# A milter that may only verify.
