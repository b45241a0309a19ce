"""Mail through this machine's own Postfix, in throwaway copies of it, after ``dkimpipe setup``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from conftest import PROJECT
from installing import DKIMPIPE, IS_SET_UP, NO_WAIT, dkimpipe, printed_records, setup
from nameserver import NameServer
from throwaway import Done, Machine

from postfix import Message, Sink


class Arrived(NamedTuple):
    """What came out at the other end, and what setup and the log said."""

    setup: Done
    signed: Message
    log: str
    unsigned: Message


@pytest.fixture(scope="module")
def arrived(fresh: Path) -> Iterator[Arrived]:
    """A message through this machine's own Postfix after setup, and one more after ``setup --remove``."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(f"postconf -e 'relayhost=[127.0.0.1]:{sink.port}'\n{NO_WAIT}")
        done = setup(machine, "example.com")
        swaks = "swaks --server 127.0.0.1 --port 587 --silent 2 --from alice@example.com --to bob@example.net"
        machine.shell("postfix start")
        machine.shell(swaks)
        (signed,) = sink.wait()
        machine.shell(f"{DKIMPIPE} setup --remove\n{NO_WAIT}\npostfix reload")
        machine.shell("until grep 'reload -- version' /var/log/mail.log; do sleep 0.1; done")
        machine.shell(swaks)
        yield Arrived(done, signed, (machine.root / "var/log/mail.log").read_text(), sink.wait(2)[1])


def test_the_message_arrives(arrived: Arrived) -> None:
    assert (arrived.signed.sender, arrived.signed.recipients) == ("alice@example.com", ["bob@example.net"])


def test_the_log_says_how_it_was_signed(arrived: Arrived) -> None:
    said = r"\(delivered via dkimpipe service \(dkimpipe: signed d=example\.com s=\d{6} a=rsa-sha256; "
    assert re.search(f"status=sent {said}", arrived.log)


def test_it_verifies_with_the_record_that_was_printed(arrived: Arrived) -> None:
    with NameServer(printed_records(arrived.setup)) as server:
        look_up = witness.nameserver_dnsfunc(server.port)
        assert witness.dkimpy_verdicts([arrived.signed.data], {}, look_up) == [["pass"]]


def test_after_its_removal_mail_arrives_unsigned(arrived: Arrived) -> None:
    assert witness.dkimpy_verdicts([arrived.unsigned.data], {}) == [[]]


def unfolded(message: bytes) -> bytes:
    return re.sub(rb"\r\n[ \t]+", b" ", message)


def test_a_verifier_that_may_not_look_for_its_conf_file_is_named(signing: Machine) -> None:
    """/etc/dkimpipe as earlier versions made it: all mail from outside was deferred."""
    signing.shell(
        "\n".join(
            [
                *printed_commands("Verify mail from port 25")[:2],
                "chgrp dkimpipe /etc/dkimpipe; chmod 0750 /etc/dkimpipe",
            ]
        )
    )
    done = dkimpipe(signing, "check", "--postfix")
    what = "/etc/dkimpipe: user dkimpipe-verify cannot look for verify.conf there: its mail stays queued"
    assert (done.status, done.stdout.splitlines()[:2]) == (
        78,
        [f"dkimpipe: error: {what}", "hint: chmod 0755 /etc/dkimpipe"],
    )
    signing.shell("chmod 0755 /etc/dkimpipe")
    assert dkimpipe(signing, "check", "--postfix").stdout == IS_SET_UP


def printed_commands(heading: str) -> list[str]:
    """Return the commands that README.md prints under a heading."""
    text = (PROJECT / "README.md").read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^    (\S.*)$", text, re.MULTILINE)


def test_signing_and_verifying_by_the_commands_of_the_readme(fresh: Path) -> None:
    """As printed, one after the other; then Postfix signs mail from users and verifies mail from outside."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        main = f"relay_domains=example.net 'relayhost=[127.0.0.1]:{sink.port}'"
        machine.shell(f"postconf -e {main}\n{NO_WAIT}\npostfix start")
        signing = [line for line in printed_commands("Five minutes to a signed message") if "setup" in line]
        assert len(signing) == 1
        verifying = printed_commands("Verify mail from port 25")
        assert len(verifying) == 3
        machine.shell("\n".join([*signing, "postfix reload", "sleep 1.1", *verifying]))
        machine.shell(
            "echo hostname mx.example.com > /etc/dkimpipe/verify.conf\n"
            "until [ $(grep -c 'reload -- version' /var/log/mail.log) = 2 ]; do sleep 0.1; done"
        )
        swaks = "swaks --silent 2 --to bob@example.net --from"
        machine.shell(
            "ip addr add 203.0.113.5/24 dev lo\n"
            f"{swaks} eve@example.org --server 203.0.113.5 --local-interface 203.0.113.5\n"
            f"{swaks} alice@example.com --server 127.0.0.1 --port 587"
        )
        mail = {message.sender: message.data for message in sink.wait(2)}
        log = (machine.root / "var/log/mail.log").read_text()
    assert b"\r\nAuthentication-Results: mx.example.com; dkim=none\r\n" in unfolded(
        mail["eve@example.org"]
    ), log
    assert b"DKIM-Signature: " not in mail["eve@example.org"]
    assert re.search(rb"\r\nDKIM-Signature: .* d=example\.com;", unfolded(mail["alice@example.com"])), log
    assert b"Authentication-Results: " not in mail["alice@example.com"]
