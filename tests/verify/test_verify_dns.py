"""``dkimpipe verify`` and name servers: each fault has its result, and none takes forever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import dns.flags
import in_memory
import pytest
from conftest import MESSAGE, Keys, Report
from nameserver import NO_EDNS, NameServer, silent, with_code

from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver

NAME = "sel._domainkey.example.com"
BUDGET = 1.0  # seconds


@pytest.fixture
def server(keys: Keys) -> Iterator[NameServer]:
    with NameServer({NAME: keys.records["rsa2048._domainkey.example.com"]}) as running:
        yield running


@pytest.fixture(scope="module")
def signed(keys: Keys) -> bytes:
    arguments = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    return in_memory.sign(MESSAGE, *arguments)


def verdict(signed: bytes, server: NameServer, budget: float = BUDGET) -> str:
    """Return what comes of the one signature."""
    (judged,) = in_memory.verify(signed, Resolver(Server(server.address, server.port), budget=budget))
    return f"{judged.result} {judged.reason}".strip()


def late(wire: bytes, transport: str) -> bytes:
    time.sleep(0.3)
    return wire


def truncated(wire: bytes, transport: str) -> bytes:
    """Set TC and drop all records (RFC 1035 section 4.1.1), as a server whose answer is too long."""
    if transport == "tcp":
        return wire
    flags = int.from_bytes(wire[2:4], "big") | dns.flags.TC
    question = wire.index(b"\0", 12) + 5
    return wire[:2] + flags.to_bytes(2, "big") + wire[4:6] + bytes(6) + wire[12:question]


def without_tcp(wire: bytes, transport: str) -> bytes:
    return truncated(wire, transport) if transport == "udp" else b""


SILENT = f"temperror no answer for {NAME}"
FAIL = f"temperror the name servers of {NAME} fail"

FAULTS: dict[str, tuple[Callable[[bytes, str], bytes], str]] = {
    "late": (late, "pass"),
    "truncated, then by TCP": (truncated, "pass"),
    "silent": (silent, SILENT),
    "wrong ID": (lambda wire, transport: bytes([wire[0] ^ 1]) + wire[1:], SILENT),
    "another question": (lambda wire, transport: wire.replace(b"\3sel", b"\3xel"), SILENT),
    "truncated, and no TCP": (without_tcp, FAIL),
    "garbage": (lambda wire, transport: wire[:2] + b"\xff" * 40, SILENT),
    "cut": (lambda wire, transport: wire[:-7], SILENT),
    "SERVFAIL": (with_code(2), FAIL),
    "REFUSED": (with_code(5), FAIL),
}


@pytest.mark.alone
@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_server(
    signed: bytes, server: NameServer, fault: Callable[[bytes, str], bytes], expected: str
) -> None:
    server.faults[NAME] = fault
    started = time.monotonic()
    assert verdict(signed, server) == expected
    assert time.monotonic() - started < 3 * BUDGET


@pytest.mark.alone
@pytest.mark.parametrize("fault", NO_EDNS.values(), ids=NO_EDNS)
def test_a_server_without_edns(
    signed: bytes, server: NameServer, fault: Callable[[bytes, str], bytes]
) -> None:
    server.edns_fault = fault
    started = time.monotonic()
    assert verdict(signed, server) == "pass"
    assert time.monotonic() - started < BUDGET
    assert len(server.asked) == 2


def test_a_long_answer_without_edns_comes_by_tcp(signed: bytes, server: NameServer) -> None:
    server.edns_fault = NO_EDNS["FORMERR"]
    server.records[NAME] = [server.records[NAME][0] + b"; n=" + b"x" * 600]
    assert verdict(signed, server) == "pass"
    assert server.asked == [("udp", NAME), ("udp", NAME), ("tcp", NAME)]


def test_a_server_that_always_refuses(signed: bytes, server: NameServer) -> None:
    server.faults[NAME] = NO_EDNS["FORMERR"]
    assert verdict(signed, server) == FAIL
    assert len(server.asked) == 2


def test_no_server_at_all(signed: bytes) -> None:
    (judged,) = in_memory.verify(signed, Resolver(Server("127.0.0.1", 1), budget=BUDGET))
    assert judged.result == "temperror"


# The records of the name.

RECORDS: dict[str, tuple[Callable[[bytes], list[bytes]], str]] = {
    "empty": (lambda record: [b""], "permerror key record: not a tag list"),
    "several, the last": (lambda record: [b"v=spf1 -all", b"v=DKIM1; p=", record], "pass"),
    "long": (lambda record: [record + b"; n=" + b"x" * 15000], "pass"),
    "64 KB": (lambda record: [record + b"; n=" + b"x" * 60000], "permerror key record is too large"),
    "no US-ASCII": (lambda record: [b"\xff\xfe"], "permerror key record: not a tag list"),
    "many": (
        lambda record: [b"v=DKIM1; n=%d; p=" % n for n in range(200)] + [record],
        "permerror key is revoked",
    ),
}


@pytest.mark.parametrize(("change", "expected"), RECORDS.values(), ids=RECORDS)
def test_the_records_of_a_name(
    signed: bytes, server: NameServer, change: Callable[[bytes], list[bytes]], expected: str
) -> None:
    server.records[NAME] = change(server.records[NAME][0])
    assert verdict(signed, server) == expected


def test_no_such_name(signed: bytes, server: NameServer) -> None:
    server.records.clear()
    assert verdict(signed, server) == "permerror no key"


def test_a_name_without_text(signed: bytes, server: NameServer) -> None:
    server.records[NAME] = []
    assert verdict(signed, server) == "permerror no key"


# Names, and whether they exist.
EXISTENCE = {
    "with text": (NAME, True),
    "without text": ("example.net", True),
    "an alias": ("alias.example.net", True),
    "an alias of a name that does not exist": ("dangling.example.net", True),
    "no such name": ("none.example.net", False),
    "an impossible name": (f"{'x' * 64}.example.net", False),
}


@pytest.mark.parametrize(("name", "expected"), EXISTENCE.values(), ids=EXISTENCE)
def test_whether_a_name_exists(server: NameServer, name: str, expected: bool) -> None:
    server.records["example.net"] = []
    server.aliases = {"alias.example.net": NAME, "dangling.example.net": "none.example.net"}
    assert Resolver(Server(server.address, server.port)).texts(name).exists is expected


def test_an_alias(signed: bytes, server: NameServer) -> None:
    server.records["key.example.net"] = server.records.pop(NAME)
    server.aliases = {NAME: "a.example.net", "a.example.net": "key.example.net"}
    assert verdict(signed, server) == "pass"


def test_aliases_in_a_circle(signed: bytes, server: NameServer) -> None:
    server.records.clear()
    server.aliases = {NAME: "a.example.net", "a.example.net": NAME}
    assert verdict(signed, server) == FAIL


def test_dnssec_is_noted(signed: bytes, server: NameServer) -> None:
    server.faults[NAME] = lambda wire, transport: wire[:3] + bytes([wire[3] | 0x20]) + wire[4:]
    (judged,) = in_memory.verify(signed, Resolver(Server(server.address, server.port)))
    assert (judged.result, judged.authentic) == ("pass", True)


def test_each_name_is_queried_once(signed: bytes, server: NameServer, keys: Keys) -> None:
    arguments = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    again = in_memory.sign(signed, *arguments)
    assert [
        each.result for each in in_memory.verify(again, Resolver(Server(server.address, server.port)))
    ] == [
        "pass",
        "pass",
    ]
    assert server.asked == [("udp", NAME)]


@pytest.mark.alone
def test_all_names_together_have_one_budget(keys: Keys, server: NameServer, report: Report) -> None:
    """Ten signatures, and ten names that nobody answers for: as long as one of them, and no longer."""
    text = ", ".join(f"dkim(s=s{number},key=KEYS/ed25519.pem)" for number in range(10))
    signed = in_memory.sign(MESSAGE, f"--sender_map={keys.senders(f'example.com {text}', 'ten')}")
    for number in range(10):
        server.faults[f"s{number}._domainkey.example.com"] = lambda wire, transport: b""
    started = time.monotonic()
    judged = in_memory.verify(signed, Resolver(Server(server.address, server.port), budget=BUDGET))
    took = time.monotonic() - started
    assert [each.result for each in judged] == ["temperror"] * 10
    report(f"ten silent names: {took / BUDGET:.2f} of the time for all")
    assert took < 2 * BUDGET
