"""``dkimpipe test``: the verdict follows the recipient, through each queue file of the message."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from installing import DKIMPIPE, NO_WAIT, setup
from throwaway import Done, Machine

from postfix import Sink

TRANSPORTS = (
    "bounces.example refusing:\n"
    "refused.example smtp:[127.0.0.1]:9\n"
    "gone.example discard:\n"
    "pipe.example mailbox:\n"
)
ALIASES = (
    "alias@example.net bob@bounces.example\n"
    "all@example.net carol@example.net, bob@refused.example\n"
    "signed@example.net bob@example.net\n"
)
SERVICES = (
    "'mailbox/unix=mailbox unix - n n - - pipe user=nobody argv=/bin/cat'"
    " 'refusing/unix=refusing unix - n n - - pipe user=nobody argv=/bin/false'"
)


@pytest.fixture(scope="module")
def machine(fresh: Path) -> Iterator[Machine]:
    """Postfix signs mail of example.com, and has a copy of each message delivered to root."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        (machine.root / "etc/postfix/transport").write_text(TRANSPORTS)
        (machine.root / "etc/postfix/virtual").write_text(ALIASES)
        (machine.root / "etc/aliases.test").write_text("other bob@bounces.example\n")
        main = (
            f"myorigin=example.com 'relayhost=[127.0.0.1]:{sink.port}'"
            " always_bcc=root@localhost local_recipient_maps= transport_maps=texthash:/etc/postfix/transport"
            " alias_maps=texthash:/etc/aliases.test"
            " virtual_alias_maps=texthash:/etc/postfix/virtual"
        )
        machine.shell(f"postconf -e {main}; postconf -M {SERVICES}\n{NO_WAIT}")
        assert setup(machine, "example.com").status == 0
        machine.shell(f"{NO_WAIT}\npostfix start")
        yield machine


def sent(machine: Machine, recipient: str, *options: str, edit: str = "", undo: str = "") -> Done:
    """Send a test message, with settings that are made for it and undone."""
    if edit:
        machine.shell(f"{edit}; {NO_WAIT}; postfix reload; sleep 1")
    done = machine.run(DKIMPIPE, "test", recipient, "--wait", "5", *options)
    if edit:
        machine.shell(f"{undo}; {NO_WAIT}; postfix reload; sleep 1")
    machine.shell("postsuper -d ALL 2>/dev/null")
    return done


def verdict(done: Done) -> str:
    """Return the last lines, without the queue ID."""
    lines = done.stdout[done.stdout.rindex("\ndkimpipe: ") + 1 :]
    return re.sub(r"(-H |log: )\w+", r"\1ID", lines)


@pytest.mark.parametrize("recipient", ["BOB@example.net", "signed@example.net", "bob@pipe.example"])
def test_delivered(machine: Machine, recipient: str) -> None:
    done = sent(machine, recipient)
    assert (done.status, done.stderr) == (0, "")
    assert re.fullmatch(r"dkimpipe: signed d=example\.com s=\w+ a=rsa-sha256, and delivered\n", verdict(done))


REFUSED = "connect to 127.0.0.1[127.0.0.1]:9: Connection refused"
START = "hint: start the program that listens at 127.0.0.1, port 9; then: postqueue -f\n"
ELSEWHERE = {
    "bounced": ("bob@bounces.example", 'bounced: Command died with status 1: "/bin/false"\n'),
    "an alias that leads there": ("alias@example.net", 'bounced: Command died with status 1: "/bin/false"\n'),
    "a local alias that leads there": (
        "other@localhost",
        'bounced: Command died with status 1: "/bin/false"\n',
    ),
    "deferred": ("bob@refused.example", f"still in the queue: {REFUSED}\n{START}"),
    "one of two deferred": ("all@example.net", f"still in the queue: {REFUSED}\n{START}"),
    "discarded": ("bob@gone.example", "discarded: gone.example\n"),
}


@pytest.mark.parametrize(("recipient", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_another_recipient_gets_it_signed(machine: Machine, recipient: str, said: str) -> None:
    done = sent(machine, recipient)
    assert (done.status, done.stderr) == (78, "")
    assert verdict(done) == f"dkimpipe: error: signed, but {said}"


HOLD = "postconf -e 'header_checks=regexp:{{/^Subject: dkimpipe test/ HOLD}}'"
SETTINGS = {
    "the filter is deferred": (
        "postconf -e defer_transports=dkimpipe",
        "postconf -X defer_transports",
        "not signed, and still in the queue: deferred transport\nhint: dkimpipe check --postfix\n",
    ),
    "another filter is down": (
        "postconf -e 'header_checks=regexp:{{/^Subject: dkimpipe test/ FILTER smtp:[127.0.0.1]:9}}'",
        "postconf -X header_checks",
        f"not signed, and still in the queue: {REFUSED}\n{START}",
    ),
    "on hold": (
        HOLD,
        "postconf -X header_checks",
        "not signed, and on hold\nhint: postsuper -c /etc/postfix -H ID\n",
    ),
}


@pytest.mark.parametrize(("edit", "undo", "said"), SETTINGS.values(), ids=SETTINGS)
def test_before_the_filter(machine: Machine, edit: str, undo: str, said: str) -> None:
    done = sent(machine, "bob@example.net", edit=edit, undo=undo)
    assert (done.status, done.stderr) == (78, "")
    assert verdict(done) == f"dkimpipe: error: {said}"


# Tables that take the message away before it is signed, and their parameter; by smtpd(8) or cleanup(8).
SHOW = "hint: postconf -c /etc/postfix"
SENDER = "<root@example.com>: Sender address triggers"
TABLES = {
    "a header is discarded": (
        "header_checks=regexp:{{/^Subject: dkimpipe test/ DISCARD spam; from=<x> to=<y>}}",
        f"not signed, and discarded: header Subject: dkimpipe test\n{SHOW} header_checks\n",
    ),
    "the first header is discarded": (
        "header_checks=regexp:{{/^From: root@example/ DISCARD}}",
        f"not signed, and discarded: header From: root@example.com\n{SHOW} header_checks\n",
    ),
    "a body is discarded": (
        "body_checks=regexp:{{/^This message/ DISCARD}}",
        "not signed, and discarded: body This message shows whether mail from this server is signed"
        " with DKIM.\n"
        f"{SHOW} body_checks\n",
    ),
    "a sender is discarded": (
        "smtpd_sender_restrictions=check_sender_access inline:{{example.com=DISCARD}}",
        f"not signed, and discarded: {SENDER} DISCARD action\n{SHOW} -n | grep _access\n",
    ),
    "a header is redirected": (
        "header_checks=regexp:{{/^Subject: dkimpipe test/ REDIRECT z@example.org}}",
        f"not signed: redirected to z@example.org by header Subject: dkimpipe test\n{SHOW} header_checks\n",
    ),
    "a sender is redirected": (
        "smtpd_sender_restrictions=check_sender_access inline:{{example.com=REDIRECT z@example.org}}",
        f"not signed: {SENDER} REDIRECT z@example.org\n{SHOW} -n | grep _access\n",
    ),
}


@pytest.mark.parametrize(("setting", "said"), TABLES.values(), ids=TABLES)
def test_a_table_takes_it_away(machine: Machine, setting: str, said: str) -> None:
    undo = f"postconf -X {setting.partition('=')[0]}"
    done = sent(machine, "bob@example.net", edit=f"postconf -e '{setting}'", undo=undo)
    assert (done.status, done.stderr) == (78, "")
    assert verdict(done) == f"dkimpipe: error: {said}"


def test_expired(machine: Machine) -> None:
    done = sent(
        machine,
        "bob@refused.example",
        edit="postconf -e maximal_queue_lifetime=0",
        undo="postconf -X maximal_queue_lifetime",
    )
    assert verdict(done) == f"dkimpipe: error: signed, but expired, and returned to the sender: {REFUSED}\n"


# How a session by submission fails.

NEW = "certbot certonly --standalone -d localhost && "
SESSIONS = {
    "expired": ("localhost", (-9, -2), True, "certificate has expired", NEW),
    "of another name": ("a.example", (-1, 9), True, "Hostname mismatch", "--server with the name in "),
    "of an authority that nobody knows": (
        "localhost",
        (-1, 9),
        False,
        "unable to get local issuer certificate",
        NEW,
    ),
}


@pytest.mark.parametrize(("name", "days", "is_trusted", "cause", "hint"), SESSIONS.values(), ids=SESSIONS)
def test_a_certificate_that_is_refused(
    machine: Machine,
    tmp_path: Path,
    name: str,
    days: tuple[int, int],
    is_trusted: bool,
    cause: str,
    hint: str,
) -> None:
    authority = Authority(tmp_path / "ca.pem")
    (machine.root / "etc/server.pem").write_bytes(authority.issue(name, days))
    (machine.root / "etc/ca.pem").write_bytes(authority.path.read_bytes() if is_trusted else b"")
    settings = "smtpd_tls_security_level=may smtpd_tls_cert_file=/etc/server.pem myhostname=localhost"
    machine.shell(f"postconf -e {settings}; {NO_WAIT}; postfix reload; sleep 1")
    done = machine.run(
        DKIMPIPE,
        *("test", "bob@example.net", "--via", "submission", "--login", "bob"),
        environment={"SSL_CERT_FILE": "/etc/ca.pem", "SSL_CERT_DIR": "/nowhere"},
    )
    first, last = done.stderr.splitlines()
    assert cause in first
    assert hint in last
