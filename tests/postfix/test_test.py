"""``dkimpipe test``: a message through this machine's own Postfix, in throwaway copies of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from installing import DKIMPIPE, NO_WAIT, setup
from nameserver import NameServer
from throwaway import Done, Machine

from dkimpipe import publickey
from dkimpipe.admin.audit.actions import Parties
from dkimpipe.admin.audit.follow import Follower
from postfix import Sink


@pytest.fixture(scope="module")
def machine(fresh: Path) -> Iterator[Machine]:
    """Postfix signs mail of example.com from submission, networks and bounces, and passes it to a sink."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        main = f"myorigin=example.com 'relayhost=[127.0.0.1]:{sink.port}'"
        machine.shell(f"postconf -e {main}\n{NO_WAIT}")
        assert setup(machine, "example.com").status == 0
        machine.shell(f"{NO_WAIT}\npostfix start")
        yield machine


def hops(done: Done) -> list[str]:
    """Return the lines of the log that were printed, with queue IDs as letters and without what varies."""
    ids: dict[str, str] = {}
    lines = []
    for queue_id, text in re.findall(r"^(\w+)  (\S+: \S+)", done.stdout, re.MULTILINE):
        lines.append(f"{ids.setdefault(queue_id, 'ABCD'[len(ids)])} {re.sub('=.*', '', text)}")
    return lines


def test_a_message_to_localhost(machine: Machine) -> None:
    done = machine.run(DKIMPIPE, "test", "bob@example.net")
    assert (done.status, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r"sent <\S+@example\.com> from root@example\.com to bob@example\.net, by smtp", first)
    assert re.fullmatch(r"dkimpipe: signed d=example\.com s=\w+ a=rsa-sha256, and delivered", last)
    found = hops(done)
    assert found[0] == "A postfix/smtpd: client"
    assert {
        "A postfix/pipe: to",
        "B postfix/pickup: uid",
        "B postfix/smtp: to",
        "B postfix/qmgr: removed",
    } <= {*found}


def test_a_kind_of_mail_that_is_not_signed(machine: Machine) -> None:
    done = machine.run(DKIMPIPE, "test", "bob@example.net", "--via", "sendmail")
    assert done.status == 78
    assert done.stdout.endswith(
        "dkimpipe: error: not signed\nhint: dkimpipe check --postfix shows which kinds of mail are signed\n"
    )
    assert hops(done)[0] == "A postfix/pickup: uid"


def test_an_author_without_an_entry(machine: Machine) -> None:
    done = machine.run(DKIMPIPE, "test", "bob@example.net", "--from", "a@example.org")
    assert done.status == 78
    assert done.stdout.endswith(
        "\ndkimpipe: error: not signed: no entry for a@example.org\nhint: dkimpipe setup example.org\n"
    )


def test_a_message_that_stays_in_the_queue(machine: Machine) -> None:
    chmod = "chmod 0644 /etc/dkimpipe/keys/*.pem"
    machine.shell(chmod)
    done = machine.run(DKIMPIPE, "test", "bob@example.net", "--wait", "5")
    machine.shell("chmod 0440 /etc/dkimpipe/keys/*.pem; postsuper -d ALL 2>/dev/null")
    assert done.status == 78
    assert "status=deferred" in done.stdout
    last, hint = done.stdout.splitlines()[-2:]
    assert last.startswith(
        "dkimpipe: error: not signed, and still in the queue: /etc/dkimpipe/senders, line 2: key file /"
    )
    assert last.endswith(".pem is readable by others (mode 0644)")
    assert re.fullmatch(r"hint: chmod 0640 /etc/dkimpipe/keys/example\.com\.\w+\.pem", hint)


REFUSED = {
    "an address with a line break": (["a\nb@example.net"], "an address with a line break"),
    "submission without a login": (
        ["bob@example.net", "--via", "submission"],
        "--via submission needs --login",
    ),
}


RECIPIENT = "hint: send it to an ADDRESS that this server accepts, or without ADDRESS\n"
REFUSED |= {
    "a malformed recipient": (
        ["bob@-"],
        f"dkimpipe: localhost, port 25: 501 5.1.3 Bad recipient address syntax\n{RECIPIENT}",
    ),
    "a malformed author": (
        ["bob@example.net", "--from", "a@-"],
        "hint: --from with an ADDRESS that this server accepts\n",
    ),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(machine: Machine, words: list[str], said: str) -> None:
    done = machine.run(DKIMPIPE, "test", *words)
    assert done.status in (64, 78)
    assert said in done.stderr


def test_without_postfix(machine: Machine) -> None:
    machine.shell("postfix stop")
    done = machine.run(DKIMPIPE, "test", "bob@example.net")
    machine.shell("postfix start")
    assert done.status == 78
    assert done.stderr == (
        "dkimpipe: localhost, port 25: [Errno 111] Connection refused\n"
        "hint: is Postfix running? postfix status\n"
        "hint: if it is: dkimpipe check --postfix\n"
    )


def test_without_a_log(machine: Machine) -> None:
    machine.shell(f"postconf -e maillog_file=; {NO_WAIT}; postfix reload; rm /var/log/mail.log")
    done = machine.run(DKIMPIPE, "test", "bob@example.net", "--wait", "1")
    machine.shell(f"postconf -e maillog_file=/var/log/mail.log; {NO_WAIT}; postfix reload")
    assert done.status == 78
    log = "postconf -c /etc/postfix -e maillog_file=/var/log/mail.log && postfix -c /etc/postfix reload"
    assert done.stderr == (
        "dkimpipe: the message was sent, but is not in the log\n"
        f"hint: if no syslog daemon takes Postfix's log: {log}\n"
    )


def test_without_the_service_that_writes_the_log(machine: Machine) -> None:
    service = machine.shell("postconf -M postlog/unix-dgram").strip()
    machine.shell(f"postconf -MX postlog/unix-dgram; {NO_WAIT}; postfix reload; rm /var/log/mail.log")
    done = machine.run(DKIMPIPE, "test", "bob@example.net", "--wait", "1")
    machine.shell(f"postconf -M 'postlog/unix-dgram={service}'; {NO_WAIT}; postfix reload")
    assert done.status == 78
    assert done.stderr == (
        "dkimpipe: the message was sent, but is not in the log\n"
        "hint: /var/log/mail.log does not exist: does master.cf have the service postlog? postconf -M\n"
    )


LOG = (
    "Nov  1 08:00:00 mx postfix/cleanup[1]: 4A2B3C4D5E: message-id=<1@example.com>\n"
    "Nov  1 08:00:00 mx postfix/qmgr[1]: 4A2B3C4D5E: removed\n"
)


@pytest.mark.parametrize("before", ["", "another line\n" * 100], ids=["new", "rotated"])
def test_a_log_that_begins_after_the_message_was_sent(before: str, tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    if before:
        path.write_text(before)
    follower = Follower(path)
    path.unlink(missing_ok=True)
    assert follower.hops("1@example.com", Parties(b"a@example.com", b"b@example.com"), 0.5) == []
    path.write_text(LOG)
    assert [
        hop.text for hop in follower.hops("1@example.com", Parties(b"a@example.com", b"b@example.com"), 5)
    ] == [
        "message-id=<1@example.com>",
        "removed",
    ]


# Without an address: to a mailbox on this host, and verified there


@pytest.fixture(scope="module")
def dns(machine: Machine) -> Iterator[NameServer]:
    """A name server in the copy that has the record."""
    (key,) = (machine.root / "etc/dkimpipe/keys").glob("*.pem")
    name = f"{key.name.split('.')[2]}._domainkey.example.com"
    record = publickey.record_value(str(key)).encode()
    with contextlib.ExitStack() as stack:
        with machine.network():
            server = stack.enter_context(NameServer({name: [record]}))
        yield server


def verified(machine: Machine, dns: NameServer, *options: str, user: str = "") -> Done:
    environment = {"SUDO_USER": user} if user else {}
    words = ["--dns-server", f"127.0.0.1#{dns.port}", *options]
    return machine.run(DKIMPIPE, "test", *words, environment=environment)


@pytest.mark.parametrize("user", ["", "nobody"], ids=["root", "by sudo"])
def test_without_an_address_it_goes_to_ones_own_mailbox(machine: Machine, dns: NameServer, user: str) -> None:
    done = verified(machine, dns, user=user)
    name = user or "root"
    assert (done.status, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f"from root@example.com to {name}@localhost, by smtp")
    at = lines.index(f"verified in /var/mail/{name}:")
    assert re.fullmatch(r"dkimpipe: signed d=example\.com s=\w+ a=rsa-sha256, and delivered", lines[at - 1])
    assert re.fullmatch(r"dkim: pass \(\w+\._domainkey\.example\.com\)", lines[at + 1])
    assert at + 2 == len(lines)


def test_in_a_maildir(machine: Machine, dns: NameServer) -> None:
    machine.shell(f"postconf -e home_mailbox=Maildir/; {NO_WAIT}; postfix reload")
    done = verified(machine, dns)
    machine.shell(f"postconf -X home_mailbox; {NO_WAIT}; postfix reload")
    assert (done.status, done.stderr) == (0, "")
    assert "\nverified in /root/Maildir/new/" in done.stdout


def test_without_a_record_it_is_not_valid(machine: Machine, dns: NameServer) -> None:
    records = dict(dns.records)
    dns.records.clear()
    try:
        done = verified(machine, dns)
    finally:
        dns.records.update(records)
    assert done.status == 78
    assert "\ndkim: permerror: no key (" in done.stdout
    assert done.stdout.endswith("\ndkimpipe: error: not valid\nhint: dkimpipe check --dns\n")


def test_a_mailbox_that_is_elsewhere(machine: Machine, dns: NameServer) -> None:
    machine.shell(
        "echo 'root bob@example.net' > /etc/aliases.test\n"
        f"postconf -e alias_maps=texthash:/etc/aliases.test; {NO_WAIT}; postfix reload"
    )
    done = verified(machine, dns)
    machine.shell(f"postconf -X alias_maps; {NO_WAIT}; postfix reload")
    assert done.status == 78
    assert done.stdout.endswith(
        ", and delivered\n"
        "dkimpipe: error: not verified: the message is in no mailbox of root that can be read here\n"
        "hint: send it to a mailbox that shows the results: dkimpipe test ADDRESS\n"
    )


def test_an_alias_for_another_user(machine: Machine, dns: NameServer) -> None:
    machine.shell(
        "echo 'root nobody@localhost' > /etc/aliases.test\n"
        f"postconf -e alias_maps=texthash:/etc/aliases.test; {NO_WAIT}; postfix reload"
    )
    done = verified(machine, dns)
    machine.shell(f"postconf -X alias_maps; {NO_WAIT}; postfix reload")
    assert (done.status, done.stderr) == (0, "")
    assert "\nverified in /var/mail/nobody:\ndkim: pass " in done.stdout


def test_no_mailboxes_here(machine: Machine) -> None:
    machine.shell(f"postconf -e mydestination=; {NO_WAIT}")
    done = machine.run(DKIMPIPE, "test")
    machine.shell(f"postconf -X mydestination; {NO_WAIT}")
    said = "dkimpipe: no domain has mailboxes on this host (mydestination)\nhint: dkimpipe test ADDRESS\n"
    assert (done.status, done.stderr) == (78, said)


def test_a_user_that_there_is_not(machine: Machine) -> None:
    done = machine.run(DKIMPIPE, "test", environment={"SUDO_USER": "nowhere"})
    said = "dkimpipe: there is no user nowhere\nhint: dkimpipe test ADDRESS\n"
    assert (done.status, done.stderr) == (78, said)
