"""The way back by SMTP through a real Postfix: submission, pipe(8), dkimpipe, a listener, out to a sink."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import smtplib
import socket
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Keys, Report
from relaying import MESSAGE, RECIPIENT, SENDER, wait
from test_transit import (
    HOSTS,
    NEW_FIELDS,
    Ways,
    apply,
    at_last_host,
    same_as_without_the_filter,
    send_all,
    site,
    submission_without_filter,
    valid_signatures,
)

from dkimpipe.config import read_command_line
from dkimpipe.relay import send
from dkimpipe.spool import SpoolMemory
from postfix import Message, Postfix, Sink, shared_directory

LISTENER = """\
127.0.0.1:{port} inet n - n - - smtpd
    -o content_filter=
    -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters
    -o smtpd_recipient_restrictions=permit_mynetworks,reject
    -o mynetworks=127.0.0.0/8
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8
    -o local_header_rewrite_clients=
    -o smtpd_discard_ehlo_keywords=smtputf8,silent-discard
"""
MACROS = ("--login=${sasl_username}", "--client=${client_address}", "--client_name=${client_hostname}")


class Way(NamedTuple):
    """A Postfix whose filter hands mail over to a listener on this port, and the sink behind it."""

    postfix: Postfix
    sink: Sink
    port: int
    argv: list[str]

    def submit(
        self, message: bytes = MESSAGE, sender: str = SENDER, recipients: tuple[str, ...] = (RECIPIENT,)
    ) -> str:
        """Submit a message and return its queue ID."""
        return self.postfix.submit(sender, recipients, message)

    def arrived(self, count: int = 1) -> list[Message]:
        """Return what the sink got since it was asked last, once the queue is empty."""
        assert wait(lambda: len(self.sink.messages) >= count and not self.postfix.queue()), self.postfix.log()
        messages = list(self.sink.messages)
        self.sink.messages.clear()
        return messages


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def options(port: int) -> list[str]:
    """Return the options of a filter that hands mail over to this port."""
    return [f"--relay=127.0.0.1:{port}", "--sign_clients=any", *MACROS, "--queue_id=${queue_id}"]


# The corpus

BY_LISTENER = re.compile(
    rb"Received: from \S+ \(\S* ?\[127\.0\.0\.1\]\)\r\n\tby mx\.test \(Postfix\) with ESMTP id [^\r\n]+\r\n"
    rb"(?:\tfor [^\r\n]+\r\n)?(?:\t[^\r\n]+\r\n)?"
    + NEW_FIELDS.pattern[NEW_FIELDS.pattern.index(b"((?:(?:DKIM") :]
)


@pytest.fixture(scope="module")
def ways(keys: Keys) -> Iterator[Ways]:
    with contextlib.ExitStack() as stack:
        sinks = {
            host: stack.enter_context(Sink(eightbitmime=eightbitmime, smtputf8=smtputf8))
            for host, (eightbitmime, smtputf8) in HOSTS.items()
        }
        routes = (f"{{{host} = smtp:[127.0.0.1]:{sink.port}}}" for host, sink in sinks.items())
        main = {"myorigin": "example.com", "transport_maps": f"inline:{{{' '.join(routes)}}}"}
        fragments = stack.enter_context(shared_directory())
        apply(fragments)
        plain, service = submission_without_filter((fragments / "master.cf").read_text())
        port = free_port()
        command = stack.enter_context(site(keys))
        postfix = stack.enter_context(
            Postfix(
                stack.enter_context(shared_directory()),
                [*command, *options(port)],
                sinks["both.test"].port,
                extra_main=main,
                extra_master=service + LISTENER.format(port=port),
                fragments=fragments,
            )
        )
        two = dict(list(sinks.items())[:2])  # that all hosts get the same is in test_transit.py
        yield Ways(send_all(postfix.submission_port, sinks), send_all(plain, two))


def test_the_corpus_arrives_once_and_as_without_the_filter(ways: Ways, report: Report) -> None:
    folded = 0
    for transit, expected in ((ways.signed, list(HOSTS)), (ways.plain, list(HOSTS)[:2])):
        assert transit.refused == {}
        hosts = {name: [host for host, _ in arrived] for name, arrived in transit.arrived.items()}
        assert {name: at for name, at in hosts.items() if at != expected} == {}
        octets = {name: {message.data for _, message in got} for name, got in transit.arrived.items()}
        assert [name for name, each in octets.items() if len(each) != 1] == []
    for name, arrived in ways.signed.arrived.items():
        plain = ways.plain.arrived[name][0][1].data
        folded += not same_as_without_the_filter(name, arrived[0][1].data, plain, BY_LISTENER)
    report(f"{len(ways.signed.arrived)} messages by relay, {folded} with header lines folded at other places")


def test_outcomes_of_the_corpus_is_valid(keys: Keys, ways: Ways, report: Report) -> None:
    report(f"by relay: {valid_signatures(keys, at_last_host(ways.signed))}")


# Envelope, log, and what goes wrong


@pytest.fixture(scope="module")
def running(keys: Keys) -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(smtputf8=False))
        directory = stack.enter_context(shared_directory())
        port, command = free_port(), stack.enter_context(site(keys))
        hold = directory / "filter"
        hold.write_text(HOLD)
        hold.chmod(0o755)
        argv = [str(hold), *command, *options(port)]
        main = {"inet_protocols": "all"}  # otherwise smtpd(8) refuses an IPv6 address in XFORWARD
        postfix = Postfix(
            directory, argv, sink.port, extra_main=main, extra_master=LISTENER.format(port=port)
        )
        yield Way(stack.enter_context(postfix), sink, port, argv)


@pytest.fixture
def way(running: Way) -> Way:
    running.sink.messages.clear()
    return running


# Stops where pipe(8) starts it, before there is an interpreter, while the file beside it is there.
HOLD = '#!/bin/sh\nif [ -e "$0.hold" ]; then kill -STOP $$; fi; exec "$@"\n'


def signed(message: Message, original: bytes = MESSAGE) -> bool:
    """Return whether this is the original below the signatures, which are there once."""
    end = message.data.endswith(original)
    return end and len(re.findall(rb"^DKIM-Signature:", message.data, re.MULTILINE)) == 8


def test_the_log_connects_both_passes(way: Way) -> None:
    queue_id = way.submit()
    (message,) = way.arrived()
    assert signed(message)
    log = way.postfix.log()
    second = re.search(
        rf"smtpd\[\d+\]: (\w+): client=[^,]+, orig_queue_id={queue_id}, orig_client=unknown\[127\.0\.0\.1\]$",
        log,
        re.MULTILINE,
    )
    assert second, log
    sent = re.search(rf"pipe\[\d+\]: {queue_id}: .* dsn=2\.0\.0, status=sent \((.*)\)$", log, re.MULTILINE)
    assert sent, log
    assert sent[1].startswith("delivered via dkimpipe service (dkimpipe: signed d=example.com s=")


def relayed(way: Way, *words: str, recipients: tuple[str, ...] = (RECIPIENT,), sender: str = SENDER) -> str:
    """Hand a message over to the listener from this process, and return the queue ID."""
    spool = SpoolMemory()
    spool.write(MESSAGE)
    addresses = ["-f", sender, "--", *recipients]
    settings = read_command_line([f"--relay=127.0.0.1:{way.port}", *words, *addresses])
    return send(spool, settings, lambda those, _: pytest.fail(str(those)))[10:]


@pytest.mark.parametrize(
    ("words", "origin"),
    [
        (("--client=2001:db8::1", "--client_name=a.example"), r"orig_client=a\.example\[2001:db8::1\]"),
        (
            ("--client=unknown", "--client_name=unknown", "--queue_id=4A"),
            r"orig_queue_id=4A",
        ),
        (("--client=", "--client_name=", "--queue_id=4B"), r"orig_queue_id=4B"),
    ],
    ids=["IPv6", "unknown", "local"],
)
def test_postfix_understands_xforward(way: Way, words: tuple[str, ...], origin: str) -> None:
    queue_id = relayed(way, *words)
    way.postfix.wait_for_log(rf"smtpd\[\d+\]: {queue_id}: client=\S+, {origin}")
    way.arrived()


ADDRESSES = (
    "bob+extension@example.net",
    "-f@example.net",
    "--@example.net",
    '"a b"@example.net',
    '"a> NOTIFY=NEVER <b"@example.net',
    '"a\\"b"@example.net',
    '"a\\\\b"@example.net',
    '"a,b"@example.net',
    '"@"@example.net',
    "$HOME&*@example.net",
    "{a}@example.net",
    "ö@example.net",  # does not become SMTPUTF8 mail, which would bounce: the listener does not offer it
)


def test_addresses_arrive_as_they_were_sent(way: Way) -> None:
    way.submit(recipients=ADDRESSES)
    (message,) = way.arrived()
    assert sorted(message.recipients) == sorted(ADDRESSES)
    assert signed(message)
    for sender in ("", *ADDRESSES):
        way.submit(sender=sender)
    assert sorted(each.sender for each in way.arrived(1 + len(ADDRESSES))) == sorted(["", *ADDRESSES])


def test_999_recipients_are_one_message_with_one_signature(way: Way) -> None:
    recipients = tuple(f"r{number}@example.net" for number in range(999))
    way.submit(recipients=recipients)
    messages = way.arrived()
    assert sorted(each for message in messages for each in message.recipients) == sorted(recipients)
    assert len({message.data.partition(b"\r\nReceived: from client.test")[0] for message in messages}) == 1
    assert all(map(signed, messages))


def test_mail_waits_for_a_listener_that_is_stopped(way: Way) -> None:
    way.postfix.set_extra_services(way.argv, "")
    queue_id = way.submit()
    cause = rf"dkimpipe: cannot connect to relay 127\.0\.0\.1:{way.port}: Connection refused"
    way.postfix.wait_for_log(rf"{queue_id}: .* dsn=4\.4\.2, status=deferred \({cause}")
    assert way.sink.messages == []
    way.postfix.set_extra_services(way.argv, LISTENER.format(port=way.port))
    way.postfix.flush()
    (message,) = way.arrived()
    assert signed(message)


LARGE = MESSAGE + (b"0123456789" * 7 + b"\r\n") * 100_000


def unread(filter_: int) -> int:
    """Return how many octets pipe(8) has written that the filter has not read."""
    with open(f"/proc/{filter_}/fd/0", "rb") as file:
        return int.from_bytes(fcntl.ioctl(file, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


@pytest.mark.parametrize("has_begun", [False, True], ids=["before the filter runs", "while it reads"])
def test_half_a_message_stays_when_pipe_is_killed(way: Way, has_begun: bool) -> None:
    hold = Path(f"{way.argv[0]}.hold")
    hold.touch()
    way.submit(LARGE)
    found = wait(lambda: [one for one in way.postfix.processes() if one.state == "T"])
    assert found, way.postfix.log()
    hold.unlink()
    filter_, pipe = found[0].pid, found[0].parent
    assert wait(lambda: unread(filter_) > 60_000)
    if has_begun:
        os.kill(pipe, signal.SIGSTOP)
        os.kill(filter_, signal.SIGCONT)
        assert wait(lambda: not unread(filter_))
    os.kill(pipe, signal.SIGKILL)
    assert wait(lambda: all(pipe != one.pid for one in way.postfix.processes()))
    if not has_begun:
        os.kill(filter_, signal.SIGCONT)
    assert wait(lambda: all(filter_ != one.pid for one in way.postfix.processes()))
    assert way.sink.messages == []
    way.postfix.stop()
    way.postfix.start()
    way.postfix.flush()
    (message,) = way.arrived()
    assert signed(message, LARGE)


# SMTPUTF8, with the settings that dkimpipe writes

IDN = "j\u00f6rg@b\u00fccher.example"
IN_UTF8 = MESSAGE.replace(b"From: Alice <alice@", "From: J\u00f6rg <j\u00f6rg@".encode())
# Sender, recipients, and whether the next hop is asked for SMTPUTF8.
ENVELOPES = {
    "a recipient": (SENDER, (IDN,), True),
    "a sender": (IDN, (RECIPIENT,), True),
    "one of two recipients": (SENDER, (RECIPIENT, IDN), True),
    "the null sender": ("", (IDN,), True),
    "a domain": (SENDER, ("info@b\u00fccher.example",), True),
    "none: a header alone can do without": (SENDER, (RECIPIENT,), False),
}


@pytest.fixture(scope="module")
def applied(keys: Keys) -> Iterator[Way]:
    """Postfix as ``dkimpipe postfix --apply --relay`` sets it up."""
    with contextlib.ExitStack() as stack:
        fragments, directory = (stack.enter_context(shared_directory()) for _ in range(2))
        apply(fragments, "--relay")
        found = re.search(r"--relay=127\.0\.0\.1:(\d+)", (fragments / "master.cf").read_text())
        assert found
        argv = [*stack.enter_context(site(keys)), *options(int(found[1]))]
        sink = stack.enter_context(Sink())
        postfix = stack.enter_context(Postfix(directory, argv, sink.port, fragments=fragments))
        yield Way(postfix, sink, int(found[1]), argv)


@pytest.mark.parametrize(("sender", "recipients", "is_asked"), ENVELOPES.values(), ids=ENVELOPES)
def test_smtputf8_comes_back(applied: Way, sender: str, recipients: tuple[str, ...], is_asked: bool) -> None:
    applied.postfix.submit(sender, recipients, IN_UTF8, ["SMTPUTF8"])
    (message,) = applied.arrived()
    assert (message.sender, {*message.recipients}) == (sender, {*recipients})
    assert ("SMTPUTF8" in message.options) == is_asked
    assert signed(message, IN_UTF8)


def test_a_host_without_smtputf8_gets_what_needs_none(applied: Way) -> None:
    applied.sink.smtputf8 = False
    try:
        applied.postfix.submit(SENDER, [RECIPIENT], IN_UTF8, ["SMTPUTF8"])
        (message,) = applied.arrived()
    finally:
        applied.sink.smtputf8 = True
    assert signed(message, IN_UTF8)


def test_requests_for_notifications_do_not_come_back(applied: Way) -> None:
    with pytest.raises(smtplib.SMTPResponseException, match="DSN support is disabled"):
        applied.postfix.submit(SENDER, [RECIPIENT], MESSAGE, ["RET=HDRS"])
