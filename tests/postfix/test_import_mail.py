"""A server moves from OpenDKIM to dkimpipe: its mail before, meanwhile and after, and back again.

In a throwaway copy of this machine, its own Postfix has a real OpenDKIM as a milter.
"""

from __future__ import annotations

import contextlib
import email.policy
import itertools
import re
import smtplib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import opendkim
import pytest
import witness
from conftest import Keys
from installing import NO_WAIT, dkimpipe, listing, postfix_files
from throwaway import Done, File, Machine

from postfix import Message, Sink

pytestmark = opendkim.NEEDED
SHAPE = opendkim.SHAPES["docker-mailserver"]
COUNT = 200
# The socket in opendkim.conf, and the milter in main.cf.
SOCKETS = {
    "by TCP": ("inet:8891@localhost", "inet:127.0.0.1:8891"),
    "by a socket where smtpd(8) is confined": (
        "local:/var/spool/postfix/opendkim/opendkim.sock",
        "local:opendkim/opendkim.sock",
    ),
}
MAIN = """\
postconf -e 'relayhost=[127.0.0.1]:SINK' inet_protocols=ipv4 mydestination= milter_default_action=accept \\
    smtpd_milters=MILTER 'non_smtpd_milters=$smtpd_milters' local_header_rewrite_clients= max_use=1
chown -R opendkim /etc/opendkim
install -d -o opendkim -g postfix -m 0750 /var/spool/postfix/opendkim
sed -i 's|^Socket .*|Socket SOCKET|; s|^UserID .*|UserID opendkim:postfix|' /etc/opendkim/opendkim.conf
"""
START = "opendkim -x /etc/opendkim/opendkim.conf"
STOP = "kill $(cat /etc/opendkim/opendkim.pid); while pidof opendkim; do sleep 0.1; done"

STEPS = """
# all records are still right
dkimpipe check --dns
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
dkimpipe postfix -c /etc/postfix --apply --sign submission,networks,local --replace-milter MILTER --reload
dkimpipe check --postfix
"""
REFUSED = """\
dkimpipe: Postfix is running: to change smtpd_milters now would leave mail unsigned until the next reload
hint: add --reload: this setting is then changed last
"""
LISTING = """\
drwxr-xr-x root:root /etc/dkimpipe
-rw-r--r-- root:dkimpipe /etc/dkimpipe/dkimpipe.conf
drwxr-x--- root:dkimpipe /etc/dkimpipe/keys
-r--r----- root:dkimpipe /etc/dkimpipe/keys/example.com.mail.pem
-r--r----- root:dkimpipe /etc/dkimpipe/keys/example.org.mail.pem
-rw-r----- root:dkimpipe /etc/dkimpipe/senders
"""


class Move(NamedTuple):
    """What arrived in each phase, and what the commands said."""

    before: list[Message]
    meanwhile: list[Message]
    after: list[Message]
    back: list[Message]
    again: list[Message]
    imported: Done
    refused: Done
    second: Done
    files: dict[str, dict[str, File]]
    listing: str
    records: dict[str, list[bytes]]
    milter: str


def send(port: int, messages: list[bytes]) -> None:
    """Send messages by SMTP in one session, as a client of this host does."""
    with smtplib.SMTP("127.0.0.1", port, "client.test", timeout=60) as client:
        for message in messages:
            sender = re.findall(rb"[\w.+'-]+@[\w.-]+", message.partition(b"From: ")[2])[0].decode()
            client.sendmail(sender, ["bob@example.net"], message.replace(b"\n", b"\r\n"))


class Server:
    """The copy, and the sink where all its mail arrives."""

    def __init__(self, machine: Machine, sink: Sink) -> None:
        self._machine = machine
        self._sink = sink
        self._seen = 0

    def send(self, messages: list[bytes], port: int = 25) -> None:
        """Send messages from within the network of the copy."""
        with self._machine.network():
            send(port, messages)

    @contextlib.contextmanager
    def sending(self, messages: list[bytes], port: int) -> Iterator[list[bytes]]:
        """Go on sending messages until this context is left; yield those that were sent so far."""
        over, sent = threading.Event(), list[bytes]()

        def go_on() -> None:
            for message in itertools.cycle(messages):
                self.send([message], port)
                sent.append(message)
                if over.is_set():
                    return

        with ThreadPoolExecutor(1) as pool:
            thread = pool.submit(go_on)
            try:
                yield sent
            finally:
                over.set()
            thread.result()

    def arrived(self, count: int) -> list[Message]:
        """Return the messages that arrived since the last call; there must be exactly that many."""
        found = self._sink.wait(self._seen + count, 60)[self._seen :]
        self._seen += count
        assert len(found) == count
        return found

    def local(self, number: int) -> None:
        """Send a message by sendmail(1)."""
        text = f"From: root@example.com\\nSubject: local {number}\\n\\nHello.\\n"
        self._machine.shell(f"printf '{text}' | /usr/sbin/sendmail -i -f root@example.com bob@example.net")


@pytest.fixture(scope="module", params=SOCKETS)
def move(fresh: Path, keys: Keys, request: pytest.FixtureRequest) -> Iterator[Move]:
    socket, milter = SOCKETS[request.param]
    generated = opendkim.generate(COUNT)
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        SHAPE.write(machine.root / "etc/opendkim", keys, "/etc/opendkim")
        main = MAIN.replace("SINK", str(sink.port)).replace("SOCKET", socket)
        machine.shell(main.replace("MILTER", milter))
        machine.shell(f"{START}\n{NO_WAIT}\npostfix start")
        server, files = Server(machine, sink), {"before": postfix_files(machine)}
        server.send(generated)
        server.local(1)
        before = server.arrived(COUNT + 1)

        imported = dkimpipe(machine, "import", "opendkim", "/etc/opendkim/opendkim.conf", "--apply")
        assert imported.status == 0, imported
        listed = listing(machine)
        steps = imported.stdout.partition("# let Postfix")[2].splitlines()[1]
        without = [word for word in steps.split()[1:] if word != "--reload"]
        refused = dkimpipe(machine, *without)
        assert postfix_files(machine) == files["before"]
        with server.sending(generated, 587) as sent:
            replaced = dkimpipe(machine, *steps.split()[1:])
            assert replaced.status == 0, replaced
        meanwhile = server.arrived(len(sent))
        machine.shell(STOP)

        server.send(generated)
        server.local(2)
        after = server.arrived(COUNT + 1)
        checked = dkimpipe(machine, "check", "--postfix")
        assert checked.stdout.startswith("dkimpipe: Postfix is set up"), checked
        second = dkimpipe(machine, "import", "opendkim", "/etc/opendkim/opendkim.conf", "--apply")
        files["after"] = postfix_files(machine)
        assert dkimpipe(machine, *steps.split()[1:]).stdout == "nothing to change\n"
        machine.shell(f"{START}; sleep 1")
        if request.param == "by TCP":
            reverted = dkimpipe(machine, "postfix", "--revert")
            server.send(generated[:10])
            back = server.arrived(10)
            reload = reverted.stdout.partition("settings that were undone: ")[2].partition("\n")[0]
            machine.shell(f"{NO_WAIT}; {reload}; sleep 1.5")
        else:
            with server.sending(generated, 587) as sent, server.sending(generated, 25) as also_sent:
                assert dkimpipe(machine, "postfix", "--revert", "--reload").status == 0
            back = server.arrived(len(sent) + len(also_sent))
        files["reverted"] = postfix_files(machine)
        server.send(generated[:20])
        again = server.arrived(20)
        time.sleep(0.5)
        assert sink.messages == before + meanwhile + after + back + again  # nothing came twice
        records = {
            f"mail._domainkey.{domain}": keys.records["rsa2048._domainkey.example.com"]
            for domain in ("example.com", "example.org")
        }
        yield Move(
            before, meanwhile, after, back, again, imported, refused, second, files, listed, records, milter
        )


def signatures(messages: list[Message]) -> dict[str, list[tuple[str, str]]]:
    """Return d= and s= of each signature, by subject and Message-ID."""
    found = {}
    for message in messages:
        parsed = email.message_from_bytes(message.data, policy=email.policy.compat32)
        fields = ["".join(str(field).split()) for field in parsed.get_all("DKIM-Signature", [])]
        pairs = [
            (re.findall(r";d=([^;]+)", field)[0], re.findall(r";s=([^;]+)", field)[0]) for field in fields
        ]
        found[str(parsed["Message-ID"]) if "local" not in str(parsed["Subject"]) else "local"] = pairs
    return found


def test_each_message_has_the_same_signatures_before_and_after(move: Move) -> None:
    before, after = signatures(move.before), signatures(move.after)
    assert before == after
    assert len(before) == COUNT + 1
    assert sum(map(len, before.values())) >= 40
    assert before["local"] == [("example.com", "mail")]


@pytest.mark.parametrize("phase", ["before", "meanwhile", "after", "back", "again"])
def test_every_signature_verifies_with_the_same_records(move: Move, phase: str) -> None:
    messages: list[Message] = getattr(move, phase)
    verdicts = witness.dkimpy_verdicts([message.data for message in messages], move.records)
    assert {each for one in verdicts for each in one} == {"pass"}
    made = [len(pairs) for message in messages for pairs in signatures([message]).values()]
    assert [len(one) for one in verdicts] == made


@pytest.mark.parametrize("phase", ["meanwhile", "back", "again"])
def test_no_message_is_unsigned_that_was_signed_before(move: Move, phase: str) -> None:
    before, messages = signatures(move.before), getattr(move, phase)
    for message in messages:
        for message_id, pairs in signatures([message]).items():
            assert set(pairs) == set(before[message_id])


def test_the_next_steps_are_printed(move: Move) -> None:
    assert move.imported.stdout.endswith(STEPS.replace("MILTER", move.milter))


def test_without_a_reload_it_is_refused(move: Move) -> None:
    assert move.refused == Done(78, "", REFUSED)


def test_keys_are_readable_for_root_and_the_filter_only(move: Move) -> None:
    assert move.listing == LISTING


def test_a_second_import_changes_nothing(move: Move) -> None:
    written = [line for line in move.second.stdout.splitlines() if line.startswith("/etc/dkimpipe/")]
    assert written == [
        "/etc/dkimpipe/keys/example.com.mail.pem: unchanged",
        "/etc/dkimpipe/keys/example.org.mail.pem: unchanged",
        "/etc/dkimpipe/dkimpipe.conf: unchanged",
        "/etc/dkimpipe/senders: unchanged",
    ]


def test_the_milter_is_taken_out_and_revert_restores_it_byte_for_byte(move: Move) -> None:
    before, after = move.files["before"]["main.cf"], move.files["after"]["main.cf"]
    assert f"smtpd_milters = {move.milter}".encode() in before.content
    assert move.milter.encode() not in after.content
    assert move.files["reverted"] == move.files["before"]
