"""Header fields that main.cf rewrites: what check and --apply say of them, and how they stay rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import witness
from arriving import Server, serving
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, SUBMISSION, check, edit, run, write
from installing import NO_WAIT, dkimpipe, printed_records, setup

from postfix import Message

REWRITES = "masquerade_domains = example.com\nsender_canonical_maps = inline:{{root=admin@example.com}}\n"
BOTH = (
    "sender_canonical_maps, masquerade_domains no longer rewrite the header fields of this mail, only its"
    " envelope"
)


@pytest.mark.parametrize(
    ("line", "signed"),
    [
        ("masquerade_domains = example.com\nmasquerade_classes = envelope_sender", "local"),
        ("canonical_maps = static:x\ncanonical_classes = envelope_recipient", "local"),
        ("masquerade_domains = example.com", "networks,bounces"),
        ("smtp_generic_maps =", "local"),
    ],
    ids=["the envelope alone", "of recipients alone", "mail that keeps it", "after the filter"],
)
def test_where_nothing_is_lost_nothing_is_found(
    line: str, signed: str, tmp_path: Path, words: dict[str, str]
) -> None:
    """And of submission nothing is said where there is no such service."""
    main = f"{MAIN}mynetworks = 127.0.0.1\n{line}\n"
    directory = write(tmp_path / "postfix", main, MASTER.replace(SUBMISSION, ""), words)
    output = run(directory, "postfix", "--apply", "--relay", "--sign", signed)
    settled(directory / "main.cf")
    assert output[0] == 0
    assert "header fields" not in output[1] + check(directory)[1]


def test_without_header_rewriting_for_clients(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "-e masquerade_domains=example.com local_header_rewrite_clients=", words)
    assert check(directory) == GOOD


def test_apply_says_what_it_switches_off(tmp_path: Path, words: dict[str, str]) -> None:
    directory = write(tmp_path / "postfix", MAIN + REWRITES, MASTER.replace(SUBMISSION, ""), words)
    status, output = run(directory, "postfix", "--apply", "--sign", "local")
    assert status == 0
    assert f"# pickup/unix: {BOTH}\n# to rewrite them before they are signed:\n# postconf -c " in output
    settled(directory / "main.cf")
    for command in re.findall(r"^# (postconf .*)", output, re.MULTILINE):
        edit(directory, command.partition(f"-c {directory} ")[2], words)
    assert "header fields" not in check(directory)[1]
    assert run(directory, "postfix", "--apply")[1].startswith("nothing to change\n")


@pytest.fixture(scope="module")
def server(fresh: Path) -> Iterator[Server]:
    commands = f"""\
postconf -e myhostname=mail.example.com myorigin=mail.example.com mydestination= inet_protocols=ipv4 \\
    'relayhost=[127.0.0.1]:SINK' always_bcc=archive@example.org masquerade_domains=example.com \\
    'sender_canonical_maps=inline:{{{{root@mail.example.com=admin@mail.example.com}}}}' mynetworks=127.0.0.1
{NO_WAIT}; postfix start; sleep 1
"""
    with serving(fresh, commands) as server:
        yield server


RECIPIENTS = ["archive@example.org", "z@example.net"]


def _recipients(messages: list[Message]) -> list[str]:
    return sorted(each for one in messages for each in one.recipients)


def _sent(server: Server, name: str) -> tuple[str, list[Message]]:
    """Send a message by sendmail(1) and return its From field, once its copy is there as well."""
    count = len(server.sink.messages)
    server.machine.run("sendmail", "z@example.net", stdin=f"Subject: {name}\n\nx\n")
    found = server.sink.wait(count + 1)[count:]
    if len(_recipients(found)) < len(RECIPIENTS):
        found = server.sink.wait(count + 2)[count:]
    assert _recipients(found) == RECIPIENTS
    (field,) = {re.findall(rb"^From: .*<(.*)>", each.data, re.MULTILINE)[0] for each in found}
    return field.decode(), found


def test_local_mail_is_rewritten_again_by_the_hint_and_signed(server: Server) -> None:
    machine = server.machine
    assert _sent(server, "before")[0] == "admin@example.com"
    done = setup(machine, "example.com", "--sign", "local,networks,bounces")
    assert done.status == 0
    machine.shell(f"{NO_WAIT}; postfix reload; sleep 1")
    assert _sent(server, "without")[0] == "root@mail.example.com"
    machine.shell(server.hints(f"pickup/unix: {BOTH}") + f"\n{NO_WAIT}; postfix reload; sleep 1")
    address, found = _sent(server, "after")
    assert address == "admin@example.com"
    verdicts = witness.dkimpy_verdicts([each.data for each in found], printed_records(done))
    assert verdicts == [["pass"]] * len(found)
    assert f"pickup/unix: {BOTH}" not in dkimpipe(machine, "check", "--postfix").stdout
    before = machine.shell("postconf -M pickup/unix; postconf -P")
    assert "nothing to change" in dkimpipe(machine, "postfix", "--apply").stdout
    assert machine.shell("postconf -M pickup/unix; postconf -P") == before
