"""Awkward From, To and Reply-To fields, by each kind of mail and each way back: unchanged, and signed.

Postfix itself rewrites some of them in mail from this host (local_header_rewrite_clients, and sendmail(1)):
there the result is the same as without the filter.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from arriving import subject
from installing import NO_WAIT, printed_records, setup
from throwaway import Machine

from postfix import Message, Sink

FROM = [
    "Doe, Jane <alice@example.com>",
    "=?utf-8?q?M=C3=BCller=2C_J=C3=B6rg?= <alice@example.com>",
    "=?utf-8?Q?M=C3=BCller,_J=C3=B6rg?= <alice@example.com>",
    "alice@example.com (Alice, of Sales: here)",
    "(Sales) alice@example.com (a (nested) comment)",
    '"Doe, Jane" <alice@example.com>',
    "Jane O'Hara <alice@example.com>",
    "J. R. Doe [Sales] <alice@example.com>",
    "Alice @ Example <alice@example.com>",
    "Alice\n <alice@example.com>",
    "M\xfcller <alice@example.com>",
]
TO = [
    "undisclosed-recipients:;",
    "Friends: bob@example.net, carol@example.net;",
    "Bob, the Builder <bob@example.net>",
    "Re: you <bob@example.net>",
    "bob",
    "bob@example.net, , <carol@example.net>",
    '"bob, jr"@example.net',
    "=?iso-8859-1?Q?B=F6b=2C?= <bob@example.net>",
]
PLAIN = "alice@example.com"
FIELDS = [
    *({"From": field, "To": "bob@example.net"} for field in FROM),
    *({"From": PLAIN, "To": field, "Reply-To": field} for field in TO),
    {"From": "Doe: Jane <alice@example.com>", "To": "bob@example.net"},
]
UNREADABLE = len(FIELDS) - 1  # what Postfix makes of it on this host has no address

# A client on another host: in a network of its own.
NETWORK = """\
ip link add server type veth peer name client
ip addr add 192.168.7.1/24 dev server; ip link set server up
mkdir -p /run/netns; ip netns add elsewhere; ip link set client netns elsewhere
ip netns exec elsewhere ip addr add 192.168.7.2/24 dev client
ip netns exec elsewhere ip link set client up
postconf -e myhostname=mx.example.com 'mynetworks=127.0.0.0/8 192.168.7.0/24' inet_protocols=ipv4 \\
    'relayhost=[127.0.0.1]:SINK' smtpd_peername_lookup=no
"""
CLIENT = """\
import json, smtplib, subprocess, sys
name, host, port = sys.argv[1:]
for number, text in enumerate(json.load(open("/tmp/messages"))):
    octets = text.replace("NAME", f"{name} {number}").encode("latin-1")
    if port == "sendmail":
        subprocess.run([port, "-i", "-f", "alice@example.com", "bob@example.net"], input=octets, check=True)
        continue
    with smtplib.SMTP(host, int(port), "client.test") as client:
        client.sendmail("alice@example.com", ["bob@example.net"], octets)
"""
FROM_ELSEWHERE = {
    "submission": "ip netns exec elsewhere python3 /tmp/client submission 192.168.7.1 587",
    "networks": "ip netns exec elsewhere python3 /tmp/client networks 192.168.7.1 25",
}
ON_THIS_HOST = {
    "submission-here": "python3 /tmp/client submission-here 127.0.0.1 587",
    "networks-here": "python3 /tmp/client networks-here 127.0.0.1 25",
    "local": "python3 /tmp/client local - sendmail",
}
WAYS = {"by sendmail(1)": (), "by SMTP": ("--sign", "all")}


class Results(NamedTuple):
    """What arrived without the filter, and with it, by subject; and how many signatures verify."""

    before: dict[str, Message]
    after: dict[str, Message]
    verified: dict[str, int]
    signs_local: bool


def fields(message: Message) -> dict[str, str]:
    """Return From, To and Reply-To, folded as they are, with LF."""
    header = message.data.partition(b"\r\n\r\n")[0].decode("latin-1").replace("\r\n", "\n")
    return dict(re.findall(r"^(From|To|Reply-To): (.*(?:\n[ \t].*)*)", header, re.MULTILINE))


@pytest.fixture(scope="module", params=WAYS)
def results(fresh: Path, request: pytest.FixtureRequest) -> Iterator[Results]:
    options = WAYS[request.param]
    texts = [
        "".join(f"{name}: {value}\n" for name, value in each.items())
        + "Subject: NAME\nDate: Fri, 11 Jul 2003 21:00:37 -0700\nMessage-ID: <1@example.com>\n\nHello.\n"
        for each in FIELDS
    ]
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        (machine.root / "tmp/messages").write_text(json.dumps(texts))
        (machine.root / "tmp/client").write_text(CLIENT)
        machine.shell(NETWORK.replace("SINK", str(sink.port)))
        machine.shell(f"{NO_WAIT}; postfix start")
        for command in ON_THIS_HOST.values():
            machine.shell(command)
        before = {subject(each): each for each in sink.wait(len(texts) * len(ON_THIS_HOST))}
        machine.shell("postfix stop")
        sink.messages.clear()
        done = setup(machine, "example.com", "--selector", "s1", *options)
        assert done.status == 0, done
        machine.shell(f"{NO_WAIT}; postfix start")
        commands = {**FROM_ELSEWHERE, **ON_THIS_HOST}
        for command in commands.values():
            machine.shell(command)
        after = {subject(each): each for each in sink.wait(len(texts) * len(commands), timeout=40)}
        verdicts = witness.dkimpy_verdicts([each.data for each in after.values()], printed_records(done))
        verified = {name: each.count("pass") for name, each in zip(after, verdicts)}
        yield Results(before, after, verified, bool(options))


@pytest.mark.parametrize("kind", FROM_ELSEWHERE)
@pytest.mark.parametrize("number", range(len(FIELDS)))
def test_from_another_host_they_arrive_unchanged_and_signed(results: Results, kind: str, number: int) -> None:
    name = f"{kind} {number}"
    assert (fields(results.after[name]), results.verified[name]) == (FIELDS[number], 1)


@pytest.mark.parametrize("kind", ON_THIS_HOST)
@pytest.mark.parametrize("number", range(len(FIELDS)))
def test_from_this_host_they_arrive_as_without_the_filter_and_signed(
    results: Results, kind: str, number: int
) -> None:
    name = f"{kind} {number}"
    signed = number != UNREADABLE and (kind != "local" or results.signs_local)
    expected = (fields(results.before[name]), int(signed))
    assert (fields(results.after[name]), results.verified[name]) == expected


def test_on_this_host_postfix_itself_rewrites_names_without_quotes(results: Results) -> None:
    assert fields(results.before["networks-here 0"])["From"].startswith("Doe@example.com, Jane <")
    assert fields(results.before[f"local {UNREADABLE}"])["From"].startswith("Doe@example.com:Jane <")
