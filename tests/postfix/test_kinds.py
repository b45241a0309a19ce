"""All mail of one server: what is signed, by each way back, and what is not.

One Postfix, set up by dkimpipe itself, signs all kinds of mail that it is told to, and verifies mail from
outside. What comes out is looked at message by message: at the sink, and in the mailboxes.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import witness
from installing import NO_WAIT, dkimpipe, printed_records, setup
from throwaway import Machine

from postfix import Message, Sink

ARCHIVE = "archive@example.org"

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=local.test,mx.example.com \\
    'mynetworks=127.0.0.0/8 192.168.7.0/24' 'relayhost=[127.0.0.1]:SINK' inet_protocols=ipv4 \\
    always_bcc=archive@example.org alias_maps=hash:/etc/postfix/aliases \\
    'virtual_alias_maps=inline:{{info@example.net=info@example.net,boss@example.net}}' \\
    'transport_maps=inline:{{slow.test=smtp:[127.0.0.1]:1}}' \\
    notify_classes=2bounce 2bounce_notice_recipient=pm@example.net delay_warning_time=1s \\
    minimal_backoff_time=1s queue_run_delay=1s local_recipient_maps= mail_spool_directory=/var/mail
cat >/etc/postfix/aliases <<'END'
friends: "|/usr/local/bin/list"
away: "|/usr/local/bin/away"
forward: friend@example.net
END
postalias /etc/postfix/aliases
cat >/usr/local/bin/list <<'END'
#!/bin/sh
sed '1{/^From /d}; s/^Subject: /&[list] /' |
    /usr/sbin/sendmail -i -f list-bounces@example.com member@example.net
END
cat >/usr/local/bin/away <<'END'
#!/bin/sh
cat >/dev/null
printf 'From: away@example.com\\nTo: writer@example.net\\nSubject: away\\n\\nAway.\\n' |
    /usr/sbin/sendmail -i -f '' writer@example.net
END
chmod 755 /usr/local/bin/list /usr/local/bin/away
install -d -m 1777 /var/mail; useradd --no-create-home carol
ip addr add 192.168.7.1/24 dev lo; ip addr add 203.0.113.5/24 dev lo
"""
SWAKS = "swaks --silent 2 --server {address} --port {port} --local-interface {address} --helo c.test"
OURS, OUTSIDE = "alice@example.com", "eve@example.org"


def by_smtp(server: str, port: int, sender: str, recipient: str, author: str = OURS) -> str:
    """Return a command that sends one message by SMTP, from the address of the server itself."""
    swaks = SWAKS.format(address=server, port=port)
    return f"{swaks} --from '{sender}' --to '{recipient}' --header-From '{author}' --header-Subject SUBJECT"


def by_program(options: str, author: str = OURS) -> str:
    """Return a command that gives a message to sendmail(1)."""
    header = f"From: {author}\\nSubject: SUBJECT\\n" if author else "Subject: SUBJECT\\n"
    return f"printf '{header}\\nHello.\\n' | /usr/sbin/sendmail {options}"


LAN, HOST, WORLD = "192.168.7.1", "127.0.0.1", "203.0.113.5"
MAILS = {
    "user": by_smtp(HOST, 587, OURS, "bob@example.net"),
    "user-to-alias": by_smtp(HOST, 587, OURS, "info@example.net"),
    "host": by_smtp(HOST, 25, OURS, "bob@example.net"),
    "lan": by_smtp(LAN, 25, OURS, "bob@example.net"),
    "lan-to-alias": by_smtp(LAN, 25, OURS, "info@example.net"),
    "lan-to-local-user": by_smtp(LAN, 25, OURS, "carol@local.test"),
    "program": by_program("-i bob@example.net"),
    "cron": (
        "printf 'From: root (Cron Daemon)\\nTo: bob@example.net\\nSubject: SUBJECT\\n\\nDone.\\n' |"
        " /usr/sbin/sendmail -FCronDaemon -odi -oem -oi -t"
    ),
    "php": by_program("-t -i -f alice@example.com", OURS + "\\nTo: bob@example.net"),
    "list": by_smtp(HOST, 587, OURS, "friends@local.test"),
    "vacation": by_smtp(WORLD, 25, OUTSIDE, "away@local.test", OUTSIDE),
    "bounce": by_smtp(HOST, 587, OURS, "gone@local.test"),
    "bounce-to-outside": by_program("-i -f writer@example.net gone@local.test", OUTSIDE),
    "double-bounce": by_program("-i -f x@local.test gone@local.test", OUTSIDE),
    "delay": by_smtp(HOST, 587, OURS, "someone@slow.test"),
    "outside-to-user": by_smtp(WORLD, 25, OUTSIDE, "carol@local.test", OUTSIDE),
    "outside-to-forward": by_smtp(WORLD, 25, OUTSIDE, "forward@local.test", OUTSIDE),
    "forged": by_smtp(WORLD, 25, OUTSIDE, "forward@local.test", OURS),
}

# At the sink: subject, recipients but for the archive, and the kind of mail that has to be signed for one
# signature to be there that verifies.
NOTICE = "Undelivered Mail Returned to Sender"
BOUNCES = "bounces"
ARRIVING = [
    ("user", "bob@example.net", "submission"),
    ("user-to-alias", "boss@example.net info@example.net", "submission"),
    ("host", "bob@example.net", "networks"),
    ("lan", "bob@example.net", "networks"),
    ("lan-to-alias", "boss@example.net info@example.net", "networks"),
    ("program", "bob@example.net", "local"),
    ("cron", "bob@example.net", "local"),
    ("php", "bob@example.net", "local"),
    ("[list] list", "member@example.net", "local"),
    ("away", "writer@example.net", "local"),
    (NOTICE, "alice@example.com", BOUNCES),
    (NOTICE, "writer@example.net", BOUNCES),
    ("Postmaster Copy: Undelivered Mail", "pm@example.net", BOUNCES),
    ("Delayed Mail (still being retried)", "alice@example.com", BOUNCES),
    ("outside-to-forward", "friend@example.net", ""),
    ("forged", "friend@example.net", ""),
]
WAYS = {
    "by sendmail(1)": ((), ("submission", "networks", "bounces")),
    "by SMTP": (("--sign", "all"), ("submission", "networks", "bounces", "local")),
}


class Server(NamedTuple):
    """What came out of the server, what it was told to sign, and what is in its mailbox and its log."""

    messages: list[Message]
    kinds: tuple[str, ...]
    records: dict[str, list[bytes]]
    mailbox: bytes
    log: str
    audit: dict[str, Any]

    def found(self, subject: str, recipients: str) -> list[Message]:
        """Return the messages at the sink with this subject for these recipients, and perhaps the archive."""
        return [
            message
            for message in self.messages
            if sorted({*message.recipients} - {ARCHIVE}) == sorted(recipients.split())
            and header(message, "Subject") == [subject]
        ]

    def passed(self, message: Message) -> int:
        """Return how many signatures of example.com verify."""
        (verdicts,) = witness.dkimpy_verdicts([message.data], self.records)
        return verdicts.count("pass")


def header(message: Message, name: str) -> list[str]:
    """Return the values of the fields of this name, unfolded."""
    text = message.data.partition(b"\r\n\r\n")[0].decode()
    text = re.sub(r"\n[ \t]+", " ", text.replace("\r\n", "\n"))
    return re.findall(rf"^{name}: (.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module", params=WAYS)
def server(fresh: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    options, kinds = WAYS[request.param]
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(MAIN.replace("SINK", str(sink.port)))
        done = setup(machine, "example.com", "--selector", "s1", *options)
        assert (done.status, done.stderr) == (0, "")
        machine.shell("useradd --system --no-create-home dkimpipe-verify")
        assert dkimpipe(machine, "postfix", "--verify", "--apply").status == 0
        machine.shell("echo hostname mx.example.com >/etc/dkimpipe/verify.conf")
        checked = dkimpipe(machine, "check", "--postfix")
        assert checked.stdout.startswith("dkimpipe: Postfix is set up\n"), checked
        machine.shell(f"{NO_WAIT}; postfix start")
        for name, command in MAILS.items():
            machine.shell(command.replace("SUBJECT", name))
        time.sleep(1.1)  # delay_warning_time
        machine.shell("postqueue -f")
        expected = {(subject, recipients) for subject, recipients, _ in ARRIVING}
        deadline = time.monotonic() + 30
        mailbox = machine.root / "var/mail/carol"
        result = None
        while time.monotonic() < deadline:
            text = mailbox.read_bytes() if mailbox.exists() else b""
            log = (machine.root / "var/log/mail.log").read_text()
            result = Server(list(sink.messages), kinds, printed_records(done), text, log, {})
            if all(result.found(*each) for each in expected) and text.count(b"\nSubject: ") == 2:
                break
            time.sleep(0.2)
        time.sleep(1)  # for what comes twice
        assert result
        audit = json.loads(dkimpipe(machine, "audit", "--json", "/var/log/mail.log").stdout)
        yield result._replace(messages=list(sink.messages), mailbox=mailbox.read_bytes(), audit=audit)


@pytest.mark.parametrize(("subject", "recipients", "kind"), ARRIVING, ids=lambda value: value or "outside")
def test_it_arrives_once_and_is_signed_once_or_not_at_all(
    server: Server, subject: str, recipients: str, kind: str
) -> None:
    found = server.found(subject, recipients)
    assert len(found) == 1, server.log
    assert server.passed(found[0]) == (1 if kind in server.kinds else 0)
    assert len(found[0].recipients) == len({*found[0].recipients})
    assert len(header(found[0], "Authentication-Results")) == (kind == "")


def test_nothing_else_arrives(server: Server) -> None:
    """But for the copies that always_bcc sends to the archive alone."""
    expected = {(subject, *sorted(recipients.split())) for subject, recipients, _ in ARRIVING}
    others = [message for message in server.messages if {*message.recipients} != {ARCHIVE}]
    arrived = {(*header(each, "Subject"), *sorted({*each.recipients} - {ARCHIVE})) for each in others}
    assert arrived == expected


def test_nothing_loops(server: Server) -> None:
    assert "too many hops" not in server.log
    assert max(len(header(message, "Received")) for message in server.messages) <= 6


def test_the_archive_has_one_copy_of_each_message(server: Server) -> None:
    copies = [
        (*header(each, "Message-I[Dd]"), *header(each, "Subject"))
        for each in server.messages
        if ARCHIVE in each.recipients
    ]
    assert len(copies) == len({*copies})


def test_in_the_mailbox_mail_from_the_network_is_signed_and_mail_from_outside_verified(
    server: Server,
) -> None:
    ours, theirs = sorted(server.mailbox.split(b"\nFrom ")[:2], key=lambda text: b"outside-to-user" in text)
    assert (ours.count(b"\nDKIM-Signature: "), ours.count(b"Authentication-Results")) == (1, 0)
    assert (theirs.count(b"DKIM-Signature: "), theirs.count(b"\nAuthentication-Results: ")) == (0, 1)


def test_audit_counts_what_has_left_as_the_sink_does(server: Server) -> None:
    """To several recipients, a message is one. What strangers send on, or the archive gets, is not ours."""
    left = len(server.messages)
    signed = sum(server.passed(message) > 0 for message in server.messages)
    outside = sum(len(header(message, "Authentication-Results")) for message in server.messages)
    audit = server.audit
    assert (audit["left"], audit["signed"], audit["forwarded"]) == (left, signed, outside)
    assert audit["unsigned"] == left - signed - outside
    assert {source["kind"] for source in audit["sources"]} <= {"local"}
    assert (audit["unknown"], audit["unreadable"], audit["forgotten"]) == (0, 0, 0)
