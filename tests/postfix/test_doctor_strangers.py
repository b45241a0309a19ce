"""``dkimpipe check --postfix``: mail from clients that do not log in."""

from __future__ import annotations

from diagnosis import (
    AMAVIS,
    NO_CLIENT,
    NOT_BY_PICKUP,
    SERVICE,
    SIGNED,
    Fault,
    checks_of,
    error,
    warning,
)

CLOSE = (
    "postconf -c DIR -P submission/inet/smtpd_relay_restrictions="
    "permit_mynetworks,permit_sasl_authenticated,reject"
)
UNSIGNED = "the filter may not sign, or defers, mail from clients that this admits without a login"

FAULTS: dict[str, Fault] = {
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
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8'",
        error(f"submission/inet: {SIGNED}", CLOSE),
    ),
    "mail from outside comes back to be signed": (
        f"{AMAVIS}\n-P smtp/inet/content_filter=smtp-amavis:[127.0.0.1]:10024\n-MX submission/inet\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8 -o message_size_limit=10223616'",
        error(
            f"smtp/inet: {SIGNED}",
            "# let mail from outside return on a separate port, without content_filter=dkimpipe:dummy",
        ),
    ),
    "all mail from outside gets a FILTER": (
        "-P smtp/inet/smtpd_client_restrictions=check_client_access,cidr:SITE/filter.cidr",
        error(
            "smtp/inet/message_size_limit: its signatures make mail exceed the limit",
            "postconf -c DIR -P smtp/inet/message_size_limit=10223616",
        )
        + error(
            "smtp/inet: clients that do not log in may send here,"
            " and only --client= in argv keeps their mail unsigned",
            "# a table has FILTER dkimpipe for strangers: limit it to your own clients",
        ),
    ),
    "amavis before dkimpipe, and after it": (
        f"{AMAVIS}\n-e content_filter=smtp-amavis:[127.0.0.1]:10024\n-PX submission/inet/content_filter\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8'",
        error(
            f"smtp/inet: {SIGNED}",
            "# let mail from outside return on a separate port, without content_filter=dkimpipe:dummy",
        )
        + error(
            "pickup/unix/content_filter: smtp-amavis:[127.0.0.1]:10024 gets the mail after it was signed"
            " and returns it to be signed: it loops",
            NOT_BY_PICKUP,
        ),
    ),
    # Clients that the owner lets in on purpose, without a login.
    "a certificate instead of a login": (
        "-P submission/inet/smtpd_tls_ask_ccert=yes\n"
        "-P submission/inet/smtpd_relay_restrictions=permit_tls_clientcerts,permit_sasl_authenticated,reject",
        warning(f"submission/inet/permit_tls_clientcerts: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "clients by name, which pipe(8) does not pass": (
        "-e 'mynetworks=127.0.0.0/8 printer.example.com'",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a table, which the filter may not read": (
        "-e mynetworks=127.0.0.0/8,cidr:SITE/none.cidr",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a file, which the filter may not read": (
        "-e mynetworks=127.0.0.0/8,SITE/networks",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "mynetworks in a table in line": (
        "-e 'mynetworks=127.0.0.0/8, inline:{{10.0.0.1=yes}}'",
        warning(f"submission/inet/mynetworks: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "a table instead of a login": (
        "-P submission/inet/smtpd_relay_restrictions="
        "check_client_access,cidr:SITE/some.cidr,permit_sasl_authenticated,reject",
        warning(f"submission/inet/check_client_access: {UNSIGNED}", "# set sign_clients any in SITE/conf"),
    ),
    "addresses by XFORWARD": (
        f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10026\n"
        "-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
        " -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
        " -o receive_override_options=no_address_mappings -o cleanup_service_name=dkimpipe-cleanup"
        " -o smtpd_discard_ehlo_keywords=dsn,smtputf8'",
        warning(
            f"127.0.0.1:10025/inet/smtpd_authorized_xforward_hosts: {UNSIGNED}",
            "# set sign_clients any in SITE/conf",
        ),
    ),
}


test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(FAULTS)
