"""``dkimpipe audit`` on a whole server: the commands that it prints are run, and then such mail is signed."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from installing import NO_WAIT, dkimpipe, setup
from throwaway import Machine

from postfix import Message, Sink

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=mx.example.com mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' inet_protocols=ipv4 'virtual_alias_domains=alias.test' \\
    'virtual_alias_maps=inline:{{away@alias.test=friend@example.net}}'
ip addr add 203.0.113.5/24 dev lo
"""
SWAKS = "swaks --silent 2 --server {client} --port 25 --local-interface {client} --helo c.test"
HOST, OUTSIDE = "127.0.0.1", "203.0.113.5"


class Audited(NamedTuple):
    """Before the commands and after them: what the sink got, by subject, and what the audit said."""

    before: dict[str, Message]
    after: dict[str, Message]
    report: dict[str, Any]
    later: dict[str, Any]
    text: str


def by_smtp(client: str, sender: str, recipient: str, subject: str) -> str:
    swaks = SWAKS.format(client=client)
    return f"{swaks} --from {sender} --to {recipient} --header-From {sender} --header-Subject {subject}"


MAILS = (
    by_smtp(HOST, "alice@example.com", "bob@example.net", "network"),
    by_smtp(HOST, "alice@further.test", "bob@example.net", "further"),
    by_smtp(OUTSIDE, "eve@example.org", "away@alias.test", "outside"),
    "printf 'From: cron@example.com\\nSubject: local\\n\\nHello.\\n' |"
    " /usr/sbin/sendmail -i -f cron@example.com bob@example.net",
)


@pytest.fixture(scope="module")
def audited_server(fresh: Path) -> Iterator[Audited]:
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(MAIN.replace("SINK", str(sink.port)))
        assert setup(machine, "example.com", "--selector", "s1").status == 0
        machine.shell(f"{NO_WAIT}; postfix start")
        before = exchanged(machine, sink)
        text = dkimpipe(machine, "audit", "/var/log/mail.log").stdout
        report = audited(machine)
        for command in commands(report):
            machine.shell(command)
        since = len((machine.root / "var/log/mail.log").read_bytes())
        machine.shell("postfix reload; sleep 1")
        after = exchanged(machine, sink)
        with (machine.root / "var/log/mail.log").open("rb") as log:
            log.seek(since)
            (machine.root / "var/log/later.log").write_bytes(log.read())
        yield Audited(before, after, report, audited(machine, "/var/log/later.log"), text)


def exchanged(machine: Machine, sink: Sink) -> dict[str, Message]:
    """Send a message of each kind, and return what the sink gets."""
    known = len(sink.messages)
    for command in MAILS:
        machine.shell(command)
    sink.wait(known + len(MAILS))
    time.sleep(0.5)  # for the last lines of the log
    return {subject(message): message for message in sink.messages[known:]}


def subject(message: Message) -> str:
    found = re.search(rb"(?m)^Subject: (\w+)", message.data)
    assert found
    return found[1].decode()


def is_signed(message: Message) -> bool:
    return b"DKIM-Signature: " in message.data.partition(b"\r\n\r\n")[0]


def audited(machine: Machine, log: str = "/var/log/mail.log") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dkimpipe(machine, "audit", "--json", log).stdout)
    return found


def commands(report: dict[str, Any]) -> list[str]:
    """Return the commands in a report; the record of a new key is in no DNS here, so it signs at once."""
    hints = (re.search(r"(\S+) (setup|postfix) (.*?)(?:, and|$)", each["hint"]) for each in report["sources"])
    return [f"{each[1]} {each[2]} {'--now ' * (each[2] == 'setup')}{each[3]}" for each in hints if each]


def test_before(audited_server: Audited) -> None:
    found = {name: is_signed(message) for name, message in audited_server.before.items()}
    assert found == {"network": True, "further": False, "outside": False, "local": False}
    report = audited_server.report
    assert (report["signed"], report["unsigned"], report["forwarded"], report["unknown"]) == (1, 2, 1, 0)


def test_the_commands(audited_server: Audited) -> None:
    found = [re.sub(r"\S*/dkimpipe ", "dkimpipe ", each) for each in commands(audited_server.report)]
    assert found == ["dkimpipe setup --now further.test", "dkimpipe postfix --apply --sign local"]


def test_after(audited_server: Audited) -> None:
    found = {name: is_signed(message) for name, message in audited_server.after.items()}
    assert found == {"network": True, "further": True, "outside": False, "local": True}
    report = audited_server.later
    assert (report["signed"], report["unsigned"], report["forwarded"], report["unknown"]) == (3, 0, 1, 0)
    assert (report["unreadable"], report["not_understood"]) == (0, [])
