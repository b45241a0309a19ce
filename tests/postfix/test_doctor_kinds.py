"""``dkimpipe check --postfix``: mail from mynetworks, notices, local mail, and the listener for relay."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import (
    GOOD,
    MAIN,
    MASTER,
    PICKUP,
    PORT_25,
    SUBMISSION,
    Fault,
    check,
    damage,
    edit,
    error,
    fill,
    fix,
    hints,
    run,
    warning,
    with_commands,
    write,
)

from dkimpipe.admin.cli import run_verb
from dkimpipe.admin.postfix import coverage, notices, planning
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf

# All kinds are signed, and mail comes back by SMTP: as --apply makes it.
NOTICES = """
defer     unix  -       -       y       -       0       bounce
trace     unix  -       -       y       -       0       bounce
"""
KINDS_MAIN = f"{MAIN}mynetworks = 127.0.0.0/8 192.0.2.0/28\n"
L = "127.0.0.1:RETURN_PORT/inet"
TABLE = "dkimpipe-networks.cidr"
REFUSED = "mail from the filter may be refused"
NOT_SIGNED = "Postfix's own notices are not signed"
LOOP = "mail comes back by sendmail(1), which is filtered, and not by 127.0.0.1:RETURN_PORT: it loops"
SERVICE = (
    r"postconf -c DIR -M 'dkimpipe/unix=dkimpipe unix - n n - 4 pipe"
    r" -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}} flags=q null_sender= user=nobody"
    " argv=PROGRAM TOLD TRACE --relay=127.0.0.1:RETURN_PORT -f ${sender} -- ${recipient}'"
)
TRACE = "--queue_id=${queue_id} --client_name=${client_hostname}"
NEAR = "mail near the limit exceeds it with its new fields, and stays in the queue"
SPAMD = (
    "spam unix - n n - - pipe user=daemon argv=/usr/bin/spamc -e /usr/sbin/sendmail -i -f $sender $recipient"
)
OUTSIDE = "mail from outside comes back from it by sendmail(1), and is signed"
INSTEAD = (
    "# let it come back by SMTP: in place of sendmail and its options, let it run"
    " START --sign_clients=authenticated --login= --client=0.0.0.0 --relay=127.0.0.1:RETURN_PORT"
    " -f SENDER -- RECIPIENT..."
)


def table(*networks: str) -> str:
    """Return the command that writes the table of networks."""
    lines = " ".join(f"'{each} FILTER dkimpipe:dummy'" for each in networks)
    return f"printf '%s\\n' {lines} > DIR/{TABLE}"


FAULTS: dict[str, Fault] = {
    # mynetworks.
    "a network more in mynetworks": (
        "-e 'mynetworks=127.0.0.0/8 192.0.2.0/28 198.51.100.0/24'",
        error(
            f"{TABLE}: 198.51.100.0/24 is in mynetworks, and its mail is not signed",
            table("127.0.0.0/8", "192.0.2.0/28", "198.51.100.0/24"),
        ),
    ),
    "a network less in mynetworks": (
        "-e mynetworks=127.0.0.0/8",
        error(
            f"{TABLE}: 192.0.2.0/28 is not in mynetworks, and its mail is signed",
            table("127.0.0.0/8"),
        ),
    ),
    "a smaller network": (
        "-e 'mynetworks=127.0.0.0/8 192.0.2.0/30'",
        error(
            f"{TABLE}: 192.0.2.0/30 is in mynetworks, and its mail is not signed;"
            " 192.0.2.0/28 is not in mynetworks, and its mail is signed",
            table("127.0.0.0/8", "192.0.2.0/30"),
        ),
    ),
    "a name in mynetworks": (
        "-e 'mynetworks=127.0.0.0/8 192.0.2.0/28 .example.com'",
        warning(
            "submission/inet/mynetworks: the filter may not sign, or defers, mail from clients that this"
            " admits without a login",
            "# set sign_clients any in SITE/conf",
        )
        + error(
            "networks: mynetworks: .example.com is not a network, and cannot be in an access table",
            "# list addresses and networks in mynetworks itself",
        ),
    ),
    "everyone in mynetworks": (
        "-e mynetworks=0.0.0.0/0",
        error(
            "submission/inet: clients that do not log in may send here, and only --client= in argv keeps"
            " their mail unsigned",
            "postconf -c DIR -P submission/inet/smtpd_relay_restrictions=permit_sasl_authenticated,reject",
        )
        + error("networks: mynetworks: 0.0.0.0/0 includes strangers", "# list your own networks only"),
    ),
    "the table has strangers": (
        "-e smtpd_client_restrictions=check_client_access,static:{FILTER\\ dkimpipe:dummy}",
        error(
            "smtp/inet: clients that do not log in may send here, and only --client= in argv keeps their mail"
            " unsigned",
            "# a table has FILTER dkimpipe for strangers: limit it to your own clients",
        ),
    ),
    "a restriction permits them before the table": (
        f"-P smtp/inet/smtpd_end_of_data_restrictions=permit_mynetworks,check_client_access,cidr:DIR/{TABLE}",
        error(
            "smtp/inet: mail from 127.0.0.0/8 is not signed: a restriction permits it",
            "postconf -c DIR -P smtp/inet/smtpd_end_of_data_restrictions="
            f"check_client_access,cidr:DIR/{TABLE},permit_mynetworks",
        ),
    ),
    "a misspelt filter in the table": (
        "TABLE dkimpipe => dkimipe",
        error(
            f"{TABLE}: there is no service dkimipe in master.cf, and mail that needs it waits",
            table("127.0.0.0/8", "192.0.2.0/28"),
        ),
    ),
    "a filter that is missing, in another table": (
        "-P smtp/inet/smtpd_end_of_data_restrictions="
        f"check_client_access,cidr:DIR/{TABLE},check_client_access,cidr:SITE/spam.cidr",
        error(
            "networks: smtp/inet: a table has FILTER spam:dummy: there is no service spam in master.cf, and"
            " mail that needs it waits"
        ),
    ),
    "another filter for mynetworks": (
        "-M 'amavis/unix=amavis unix - - n - 2 smtp'\n"
        "-P smtp/inet/smtpd_end_of_data_restrictions="
        f"check_client_access,cidr:DIR/{TABLE},check_client_access,cidr:SITE/amavis.cidr",
        error(
            "networks: smtp/inet: amavis:[127.0.0.1]:10024 gets this mail, and a message can have only one"
            " filter",
            "# sign it where it comes back from there, on a port only for mail of your own",
        ),
    ),
    "another filter for users, by a table": (
        "-M 'amavis/unix=amavis unix - - n - 2 smtp'\n"
        "-P submission/inet/smtpd_sender_restrictions=check_sender_access,cidr:SITE/amavis.cidr"
        ",check_client_access,cidr:SITE/amavis.cidr",
        error(
            "submission/inet: a table has FILTER amavis:[127.0.0.1]:10024, so mail from users is not signed",
            "# sign it where it comes back from amavis:[127.0.0.1]:10024, or, which switches"
            " amavis:[127.0.0.1]:10024 off for it:\n"
            "sed -i '\\|FILTER[[:space:]]*amavis:\\[127\\.0\\.0\\.1\\]:10024|Is/^/# /' SITE/amavis.cidr",
        ),
    ),
    # Notices.
    "bounces, but not delays": (
        "-PX defer/unix/cleanup_service_name",
        error(
            f"defer/unix/cleanup_service_name: {NOT_SIGNED}",
            "postconf -c DIR -P defer/unix/cleanup_service_name=dkimpipe-sign",
        ),
    ),
    "notices without header checks": (
        "-PX bounce/unix/internal_mail_filter_classes\n-PX defer/unix/internal_mail_filter_classes\n"
        "-PX trace/unix/internal_mail_filter_classes",
        "".join(
            error(
                f"{name}/unix/internal_mail_filter_classes: {NOT_SIGNED}",
                f"postconf -c DIR -P {name}/unix/internal_mail_filter_classes=bounce",
            )
            for name in ("bounce", "defer", "trace")
        ),
    ),
    # Local mail, and the way back.
    "local mail is filtered, and comes back by sendmail(1)": (
        " --relay=127.0.0.1:RETURN_PORT => ",
        error(f"dkimpipe/unix: {LOOP}", SERVICE),
    ),
    "aliases before the filter and after it": (
        "-P pickup/unix/receive_override_options=no_milters",
        error(
            "pickup/unix/receive_override_options: aliases and always_bcc apply twice: duplicate mail",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_milters,no_address_mappings",
        ),
    ),
    "another filter of mail from outside ends in sendmail(1)": (
        f"-M 'spam/unix={SPAMD}'\n-P smtp/inet/content_filter=spam:dummy\n"
        "-PX smtp/inet/smtpd_end_of_data_restrictions",
        error(f"spam/unix: {OUTSIDE}", INSTEAD),
    ),
    "another filter ends in sendmail(1), in a script, and by a table": (
        f"-M 'spam/unix={SPAMD.partition('argv=')[0]}argv=SITE/disclaimer -f $sender -- $recipient'\n"
        "-P smtp/inet/smtpd_client_restrictions=check_client_access,cidr:SITE/spam.cidr\n"
        "-PX smtp/inet/smtpd_end_of_data_restrictions",
        error(f"spam/unix: {OUTSIDE}", INSTEAD),
    ),
    "a milter signs local mail as well": (
        "-e non_smtpd_milters=inet:localhost:8891\n"
        "-P pickup/unix/receive_override_options=no_address_mappings",
        warning(
            "pickup/unix/receive_override_options: inet:localhost:8891 may sign mail from local programs as"
            " well",
            "postconf -c DIR -P pickup/unix/receive_override_options=no_address_mappings,no_milters",
        ),
    ),
    # Two services.
    "two services run the filter": (
        "-M 'again/unix=again unix - n n - 4 pipe flags=q null_sender= user=nobody argv=PROGRAM TOLD"
        " -f ${sender} -- ${recipient}'",
        warning(
            "master.cf: 2 services run the filter that signs: dkimpipe, again", "# only dkimpipe is checked"
        ),
    ),
    # The listener.
    "no listener": (
        f"-MX {L}",
        error(
            f"{L}: there is no listener for the mail that comes back",
            "postconf -c DIR -M '127.0.0.1:RETURN_PORT/inet=127.0.0.1:RETURN_PORT inet n - n - - smtpd"
            " -o syslog_name=postfix/dkimpipe"
            " -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters"
            " -o mynetworks=127.0.0.0/8 -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
            " -o smtpd_client_event_limit_exceptions=127.0.0.0/8 -o message_size_limit=10296384"
            " -o content_filter= -o smtpd_proxy_filter= -o smtpd_client_restrictions="
            " -o smtpd_helo_restrictions= -o smtpd_sender_restrictions= -o smtpd_data_restrictions="
            " -o smtpd_end_of_data_restrictions= -o smtpd_relay_restrictions=permit_mynetworks,reject"
            " -o smtpd_recipient_restrictions=permit_mynetworks,reject -o smtpd_recipient_limit=1000000"
            " -o smtpd_soft_error_limit=1000000 -o smtpd_hard_error_limit=1000000"
            " -o smtpd_helo_required=no -o smtpd_sasl_auth_enable=no -o smtpd_tls_security_level=none"
            " -o smtpd_tls_wrappermode=no"
            " -o smtpd_discard_ehlo_keywords= -o smtpd_upstream_proxy_protocol= -o smtpd_command_filter="
            " -o local_header_rewrite_clients="
            " -o cleanup_service_name=dkimpipe-return'",
        ),
    ),
    "a listener for everyone": (
        f"-MX {L}\n-M 'RETURN_PORT/inet=RETURN_PORT inet n - n - - smtpd LISTENER'",
        error(
            "RETURN_PORT/inet: the listener for mail that was signed is reachable from other hosts",
            "postconf -c DIR -MX RETURN_PORT/inet"
            f" && postconf -c DIR -M '{L}=127.0.0.1:RETURN_PORT inet n - n - - smtpd LISTENER'",
        ),
    ),
    "a filter at the listener": (
        f"-P {L}/content_filter=dkimpipe:dummy",
        error(
            f"{L}/content_filter: mail goes to the filter again and again",
            f"postconf -c DIR -P {L}/content_filter=",
        ),
    ),
    "what main.cf restricts, at the listener": (
        f"-e smtpd_client_restrictions=reject_unknown_client_hostname\n-PX {L}/smtpd_client_restrictions",
        error(
            f"{L}/smtpd_client_restrictions: {REFUSED}",
            f"postconf -c DIR -P {L}/smtpd_client_restrictions=",
        ),
    ),
    "a restriction after a harmless one": (
        f"-P {L}/smtpd_data_restrictions=reject_unauth_pipelining,check_policy_service,inet:127.0.0.1:10023",
        error(f"{L}/smtpd_data_restrictions: {REFUSED}", f"postconf -c DIR -P {L}/smtpd_data_restrictions="),
    ),
    "checks and milters at the listener": (
        f"-PX {L}/receive_override_options",
        error(
            f"{L}/receive_override_options: mail is checked or changed again, or aliases are not applied",
            f"postconf -c DIR -P {L}/receive_override_options="
            "no_unknown_recipient_checks,no_header_body_checks,no_milters",
        ),
    ),
    "no aliases at the listener": (
        f"-P {L}/receive_override_options=no_address_mappings,no_unknown_recipient_checks"
        ",no_header_body_checks,no_milters",
        error(
            f"{L}/receive_override_options: mail is checked or changed again, or aliases are not applied",
            f"postconf -c DIR -P {L}/receive_override_options="
            "no_unknown_recipient_checks,no_header_body_checks,no_milters",
        ),
    ),
    "few recipients at the listener": (
        f"-P {L}/smtpd_recipient_limit=100",
        error(
            f"{L}/smtpd_recipient_limit: mail to many is refused again and again",
            f"postconf -c DIR -P {L}/smtpd_recipient_limit=1000000",
        ),
    ),
    "few errors at the listener": (
        f"-P {L}/smtpd_hard_error_limit=999\n-PX {L}/smtpd_soft_error_limit",
        warning(
            f"{L}/smtpd_soft_error_limit: mail is delayed by many recipients whose addresses are not valid",
            f"postconf -c DIR -P {L}/smtpd_soft_error_limit=1000000",
        )
        + warning(
            f"{L}/smtpd_hard_error_limit: mail is held up by many recipients whose addresses are not valid",
            f"postconf -c DIR -P {L}/smtpd_hard_error_limit=1000000",
        ),
    ),
    "TLS at the listener": (
        "-e smtpd_tls_wrappermode=yes\n-P submission/inet/smtpd_tls_wrappermode=no\n"
        f"-PX {L}/smtpd_tls_wrappermode",
        error(
            f"{L}/smtpd_tls_wrappermode: the filter does not speak TLS",
            f"postconf -c DIR -P {L}/smtpd_tls_wrappermode=no",
        ),
    ),
    "other mynetworks at the listener": (
        f"-e mynetworks=192.0.2.0/28\n-PX {L}/mynetworks",
        error(f"{L}/mynetworks: {REFUSED}", f"postconf -c DIR -P {L}/mynetworks=127.0.0.0/8")
        + error(f"{TABLE}: 127.0.0.0/8 is not in mynetworks, and its mail is signed", table("192.0.2.0/28")),
    ),
    "the limit of all mail at the listener": (
        f"-PX {L}/message_size_limit",
        error(f"{L}/message_size_limit: {NEAR}", f"postconf -c DIR -P {L}/message_size_limit=10296384"),
    ),
    "the limit of all mail behind the listener": (
        "-PX dkimpipe-return/unix/message_size_limit",
        error(
            f"dkimpipe-return/unix/message_size_limit: {NEAR}",
            "postconf -c DIR -P dkimpipe-return/unix/message_size_limit=10296384",
        ),
    ),
    "always_bcc before the filter and after it": (
        "-e always_bcc=archive@example.com",
        error(
            "dkimpipe-return/unix/enable_original_recipient:"
            " aliases and always_bcc apply before and after the filter: duplicate mail",
            "postconf -c DIR -P dkimpipe-return/unix/enable_original_recipient=no",
        ),
    ),
}


# Good configurations, written by hand: main.cf, and master.cf.
INLINE = "inline:{{127.0.0.1=FILTER dkimpipe:dummy}}"
SMALLER = "  -o message_size_limit=10223616\n"
BY_RELAY = MASTER.replace("TOLD", f"TOLD {TRACE} --relay=127.0.0.1:10026").replace("dsn,smtputf8,", "dsn,")
OWN_LISTENER = """
127.0.0.1:10026 inet n - n - 10 smtpd
  -o content_filter=
  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o smtpd_relay_restrictions=
  -o mynetworks=127.0.0.0/8
  -o local_header_rewrite_clients=
  -o smtpd_soft_error_limit=1000
  -o smtpd_hard_error_limit=2000
  -o message_size_limit=0
  -o cleanup_service_name=unlimited
unlimited unix n - n - 0 cleanup -o message_size_limit=0
"""
NOTICES_BY_HAND = """
own-notices unix n - y - 0 cleanup
  -o { header_checks = regexp:{{/^From: MAILER/ DUNNO}} regexp:{{/./ FILTER dkimpipe:notices}} }
  -o body_checks=
""" + "".join(
    f"{name} unix - - y - 0 bounce -o internal_mail_filter_classes=bounce,notify"
    " -o { cleanup_service_name = own-notices }\n"
    for name in ("bounce", "defer", "trace")
)
GOODS = {
    "one address, inline, among the restrictions of clients": (
        f"{MAIN}mynetworks = 127.0.0.1\nsmtpd_client_restrictions = check_client_access {INLINE}\n",
        MASTER.replace(PORT_25, PORT_25 + SMALLER).replace(
            SUBMISSION, f"{SUBMISSION}  -o smtpd_client_restrictions=\n"
        ),
    ),
    "networks in a hash table, among the restrictions of recipients": (
        f"{MAIN}mynetworks = 10.0.0.0/8 192.0.2.0/24\n",
        MASTER.replace(
            PORT_25,
            f"{PORT_25}{SMALLER}  -o {{ smtpd_recipient_restrictions ="
            " check_client_access inline:{{10=FILTER dkimpipe:a}, {192.0.2=FILTER dkimpipe:b}},"
            " permit_mynetworks, reject_unauth_destination }\n",
        ),
    ),
    "networks in a table of their own, by a class": (
        f"""{MAIN}mynetworks = 127.0.0.0/8 [::1]
smtpd_restriction_classes = sign
sign = check_client_access cidr:SITE/own.cidr
""",
        MASTER.replace(PORT_25, f"{PORT_25}{SMALLER}  -o smtpd_data_restrictions=sign\n"),
    ),
    "a network that may not send is not signed for": (
        f"{MAIN}mynetworks = 127.0.0.1 192.0.2.0/28\n",
        MASTER.replace(
            PORT_25,
            f"{PORT_25}{SMALLER}"
            "  -o { smtpd_client_restrictions = check_client_access cidr:SITE/none.cidr,"
            f" check_client_access {INLINE} }}\n",
        ),
    ),
    "notices by a cleanup service of one's own": (MAIN, MASTER + NOTICES_BY_HAND),
    "a listener of one's own": (MAIN, BY_RELAY + OWN_LISTENER),
    "all kinds, and a listener of one's own": (
        f"{MAIN}mynetworks = 127.0.0.1\nalways_bcc = archive@example.com\n",
        BY_RELAY.replace(
            PORT_25, f"{PORT_25}{SMALLER}  -o {{ smtpd_data_restrictions = check_client_access {INLINE} }}\n"
        ).replace(
            PICKUP,
            "pickup unix n - y 60 1 pickup -o content_filter=dkimpipe:dummy"
            " -o receive_override_options=no_address_mappings\n",
        )
        + OWN_LISTENER.replace(" 0 cleanup", " 0 cleanup -o enable_original_recipient=no")
        + NOTICES_BY_HAND,
    ),
    "a milter signs what local programs send": (
        f"{MAIN}non_smtpd_milters = inet:localhost:8891\n",
        BY_RELAY.replace(PICKUP, "pickup unix n - y 60 1 pickup\n") + OWN_LISTENER,
    ),
    "another filter of mail from outside comes back by SMTP": (
        f"{MAIN}mynetworks = 127.0.0.1\n",
        BY_RELAY.replace(PORT_25, f"{PORT_25}  -o content_filter=spam:dummy\n").replace(
            PICKUP,
            "pickup unix n - y 60 1 pickup -o content_filter=dkimpipe:dummy"
            " -o receive_override_options=no_address_mappings\n",
        )
        + OWN_LISTENER
        + "spam unix - n n - - pipe user=daemon argv=/usr/bin/spamc -e PROGRAM"
        " --sign_clients=authenticated --login= --client=0.0.0.0 --relay=127.0.0.1:10026"
        " -f $sender -- $recipient\n",
    ),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, words: dict[str, str], site: Path) -> Path:
    """A good configuration that signs all kinds, as --apply makes it."""
    (site / "amavis.cidr").write_text("0.0.0.0/0 FILTER amavis:[127.0.0.1]:10024\n")
    (site / "spam.cidr").write_text("0.0.0.0/0 FILTER spam:dummy\n")
    script = site / "disclaimer"
    script.write_text('#!/bin/sh\nsed "s/^$/&/" | /usr/sbin/sendmail -G -i "$@"\n')
    directory = write(tmp_path_factory.mktemp("everything") / "postfix", KINDS_MAIN, MASTER + NOTICES, words)
    argv = f"PROGRAM TOLD {TRACE} --relay=127.0.0.1:RETURN_PORT -f ${{sender}} -- ${{recipient}}"
    text = (directory / "master.cf").read_text()
    old = fill("argv=PROGRAM TOLD -f ${sender} -- ${recipient}", words)
    (directory / "master.cf").write_text(text.replace(old, fill(f"argv={argv}", words)))
    settled(directory / "main.cf")
    assert run(directory, "postfix", "--sign", "all", "--apply")[0] == 0
    settled(directory / "main.cf")
    assert check(directory) == GOOD
    return directory


@pytest.fixture
def everything(template: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    directory = tmp_path / "postfix"
    directory.mkdir()
    for path in filter(Path.is_file, template.iterdir()):
        copy = directory / path.name
        copy.write_text(path.read_text().replace(str(template), str(directory)))
        copy.chmod(path.stat().st_mode)
        settled(copy)
    return directory


def damaged(name: str, directory: Path, words: dict[str, str]) -> str:
    """Make a fault, and return what the check should print."""
    line = next(
        line
        for line in (directory / "master.cf").read_text().replace("\n    ", " ").splitlines()
        if line.startswith(fill("127.0.0.1:RETURN_PORT ", words))
    )
    edits, output = FAULTS[name]
    if edits.startswith("TABLE "):
        old, new = edits.removeprefix("TABLE ").split(" => ")
        (directory / TABLE).write_text((directory / TABLE).read_text().replace(old, new))
        return fill(output, {"DIR": str(directory)})
    more = {"LISTENER": line.partition(" smtpd ")[2], "TRACE": TRACE, "DIR": str(directory)}
    return damage(directory, (edits, output), {**more, **words})


@pytest.mark.parametrize(
    "edits",
    [
        "-M 'amavis/unix=amavis unix - - n - 2 smtp'\n-e content_filter=amavis:[127.0.0.1]:10024",
        "-P 'pickup/unix/content_filter=${mine?$mine}'\n-e mine=dkimpipe:dummy",
    ],
    ids=["a filter in main.cf, which FILTER overrides", "local mail, by a condition"],
)
def test_what_is_signed_is_not_called_unsigned(edits: str, everything: Path, words: dict[str, str]) -> None:
    edit(everything, edits, words)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run_verb(["check", "--postfix", "-c", str(everything)])
    assert "gets this mail" not in output.getvalue()
    assert "not signed" not in output.getvalue()


@pytest.mark.parametrize("name", FAULTS)
def test_of_a_fault_it_prints_this_and_nothing_else_and_the_commands_fix_it(
    name: str, everything: Path, words: dict[str, str]
) -> None:
    output = damaged(name, everything, words)
    assert check(everything)[1] == output
    if name in COMMANDS:
        fix(everything, output)
        assert check(everything) == GOOD


COMMANDS = [*with_commands(FAULTS), *(name for name, (_, output) in FAULTS.items() if "printf" in output)]


def test_the_names_of_faults_with_commands_are_each_there_once() -> None:
    assert len(COMMANDS) == len({*COMMANDS}) > 15
    assert hints(FAULTS["no listener"][1])


def good(tmp_path: Path, name: str, words: dict[str, str]) -> Path:
    """Write a good configuration, without the usual service for notices where it has one of its own."""
    directory = write(tmp_path / "postfix", *GOODS[name], words)
    if NOTICES_BY_HAND in GOODS[name][1]:
        text = (directory / "master.cf").read_text()
        (directory / "master.cf").write_text(re.sub(r"^bounce    unix .*\n", "", text, flags=re.MULTILINE))
        settled(directory / "main.cf")
    return directory


@pytest.mark.parametrize("name", GOODS)
def test_nothing_is_found_in_a_good_configuration(
    name: str, tmp_path: Path, words: dict[str, str], site: Path
) -> None:
    (site / "own.cidr").write_text("127.0.0.0/8 FILTER dkimpipe:x\n::1 FILTER dkimpipe:y\n")
    assert check(good(tmp_path, name, words)) == GOOD


# What the note says of these: the kinds that are not signed.
NOTES = {
    "one address, inline, among the restrictions of clients": "bounces local",
    "networks in a hash table, among the restrictions of recipients": "bounces local",
    "networks in a table of their own, by a class": "bounces local",
    "notices by a cleanup service of one's own": "networks local",
    "a listener of one's own": "networks bounces local",
    "all kinds, and a listener of one's own": "",
}


@pytest.mark.parametrize("name", NOTES)
def test_the_note_names_what_is_not_signed(
    name: str, tmp_path: Path, words: dict[str, str], site: Path
) -> None:
    (site / "own.cidr").write_text("127.0.0.0/8 FILTER dkimpipe:x\n::1 FILTER dkimpipe:y\n")
    directory = good(tmp_path, name, words)
    postconf = Postconf(directory)
    note = coverage.unsigned(postconf, planning.kinds_in_use(postconf))
    command = f"dkimpipe postfix -c {directory} --apply --sign {NOTES[name].replace(' ', ',')}"
    assert (note.hint if note else "") == (command if NOTES[name] else "")


def test_the_note_says_why_a_kind_cannot_be_signed(tmp_path: Path, words: dict[str, str]) -> None:
    master = MASTER.replace(PORT_25, f"{PORT_25}  -o content_filter=spam:dummy\n") + f"{SPAMD}\n"
    directory = write(tmp_path / "postfix", f"{MAIN}mynetworks = 127.0.0.1\n", master, words)
    postconf = Postconf(directory)
    note = coverage.unsigned(postconf, planning.kinds_in_use(postconf))
    assert note
    lines = note.hint.splitlines()
    assert lines[0] == f"dkimpipe postfix -c {directory} --apply --sign bounces"
    assert lines[1].startswith("networks: smtp/inet: spam:dummy gets this mail, and a message can have only")
    assert lines[2].startswith("local: spam/unix: mail from outside comes back from it by sendmail(1), and")


# The settings of notices, and what of them is not signed.
NOTICES_OF_OTHERS = {
    "the default": ("", ""),
    "to an address elsewhere": ("error_notice_recipient=pm@remote.example", "resource, software"),
    "of sessions": (
        "notify_classes=bounce,protocol,policy error_notice_recipient=pm@remote.example",
        "protocol, policy",
    ),
    "of bounce(8) alone": (
        "notify_classes=bounce,2bounce,delay error_notice_recipient=pm@remote.example",
        "",
    ),
    "to this host": ("error_notice_recipient=pm@mx.example.com mydestination=mx.example.com", ""),
    "to a domain of a table": (
        "error_notice_recipient=pm@example.com 'virtual_mailbox_domains=static:x'",
        "",
    ),
}


@pytest.mark.parametrize("name", NOTICES_OF_OTHERS)
def test_notices_of_other_programs_are_noted_if_they_leave(
    name: str, everything: Path, words: dict[str, str]
) -> None:
    settings, classes = NOTICES_OF_OTHERS[name]
    if settings:
        edit(everything, f"-e {settings}", words)
    found = list(notices.unsigned(Postconf(everything)))
    assert [each.what.rpartition(" has ")[2] for each in found] == ([classes] if classes else [])
    for each in found:
        assert each in coverage.findings(Postconf(everything), SIGN)
        subprocess.run(["sh", "-c", each.hint], check=True)
        settled(everything / "main.cf")
        assert list(notices.unsigned(Postconf(everything))) == []
