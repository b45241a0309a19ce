"""The servers of the system: their order, what is asked of each, and for how long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from nameserver import NO_EDNS, NameServer, silent, with_code

from dkimpipe.verify.resolvconf import SystemResolvers
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verdict import TemporaryError

NAME = "sel._domainkey.example.com"
NOBODY = ("127.0.0.1", 1)  # a port without a server


@pytest.fixture
def first() -> Iterator[NameServer]:
    with NameServer({NAME: [b"first"]}) as running:
        yield running


@pytest.fixture
def second() -> Iterator[NameServer]:
    with NameServer({NAME: [b"second"]}) as running:
        yield running


def system(*servers: NameServer | tuple[str, int], options: str = "") -> SystemResolvers:
    """Return what resolv.conf says, with these servers."""
    found = SystemResolvers(f"options {options}\n")
    found.servers = [(each.address, each.port) if isinstance(each, NameServer) else each for each in servers]
    return found


def texts(*servers: NameServer | tuple[str, int], options: str = "", budget: float = 3.0) -> list[bytes]:
    """Return the texts that are found."""
    return Resolver(system=system(*servers, options=options), budget=budget).texts(NAME).texts


def test_the_first_server_answers(first: NameServer, second: NameServer) -> None:
    assert texts(first, second) == [b"first"]
    assert second.asked == []


@pytest.mark.parametrize("code", [2, 5], ids=["SERVFAIL", "REFUSED"])
def test_the_next_one_is_asked_if_one_fails(first: NameServer, second: NameServer, code: int) -> None:
    first.faults[NAME] = with_code(code)
    assert texts(first, second) == [b"second"]
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_the_next_one_is_asked_if_none_is_there(second: NameServer) -> None:
    assert texts(NOBODY, second) == [b"second"]


def test_an_impossible_address_is_passed_over(second: NameServer) -> None:
    assert texts(("fe80::1%nowhere", 53), second) == [b"second"]


@pytest.mark.alone
def test_the_next_one_is_asked_if_one_is_silent(first: NameServer, second: NameServer) -> None:
    first.faults[NAME] = silent
    started = time.monotonic()
    assert texts(first, second, options="timeout:1") == [b"second"]
    assert 0.9 < time.monotonic() - started < 2


def test_no_record_is_an_answer(first: NameServer, second: NameServer) -> None:
    first.records.clear()
    assert texts(first, second) == []
    assert second.asked == []


@pytest.mark.alone
def test_attempts(first: NameServer) -> None:
    """Each with EDNS, and each without."""
    first.faults[NAME] = silent
    with pytest.raises(TemporaryError, match=f"^no answer for {NAME}$"):
        texts(first, options="timeout:1 attempts:1", budget=9)
    assert len(first.asked) == 2
    with pytest.raises(TemporaryError):
        texts(first, options="timeout:1 attempts:2", budget=9)
    assert len(first.asked) == 6


@pytest.mark.alone
def test_a_server_that_starts_meanwhile() -> None:
    """A resolver that is restarted refuses for a moment."""
    with NameServer() as free:
        port = free.port
    late = NameServer({NAME: [b"late"]})

    def start() -> None:
        time.sleep(0.4)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        wire, peer = sock.recvfrom(512)
        sock.sendto(late.answer(wire, "udp"), peer)
        sock.close()

    thread = threading.Thread(target=start)
    thread.start()
    assert texts(("127.0.0.1", port), budget=9) == [b"late"]
    thread.join()


def test_a_server_without_edns_among_several(first: NameServer, second: NameServer) -> None:
    first.edns_fault = second.edns_fault = NO_EDNS["FORMERR"]
    assert texts(first, second) == [b"first"]
    assert (len(first.asked), len(second.asked)) == (2, 1)


def test_rotate(first: NameServer, second: NameServer) -> None:
    found = {texts(first, second, options="rotate")[0] for _ in range(40)}
    assert found == {b"first", b"second"}


def test_by_tcp_alone(first: NameServer) -> None:
    assert texts(first, options="use-vc") == [b"first"]
    assert first.asked == [("tcp", NAME)]


@pytest.mark.parametrize(("options", "expected"), [("", False), ("trust-ad", True)])
def test_the_flag_ad_is_believed_only_if_it_is_to_be(first: NameServer, options: str, expected: bool) -> None:
    first.faults[NAME] = lambda wire, transport: wire[:3] + bytes([wire[3] | 0x20]) + wire[4:]
    answer = Resolver(system=system(first, options=options)).texts(NAME)
    assert (answer.texts, answer.authentic) == ([b"first"], expected)


def test_ids_and_ports_are_random() -> None:
    """As many as queries, and not one after the other."""
    seen: list[tuple[int, int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        resolver = Resolver(system=system(sock.getsockname()))
        resolver.ask([f"s{n}.example" for n in range(40)])
        for _ in range(40):
            wire, (_, port) = sock.recvfrom(512)
            seen.append((int.from_bytes(wire[:2], "big"), port))
    for numbers in zip(*seen):
        assert len(set(numbers)) > 35
        steps = {other - one for one, other in zip(numbers, numbers[1:])}
        assert len(steps) > 20


@pytest.mark.alone
def test_an_answer_from_elsewhere_is_not_received() -> None:
    """Another port, with the right ID and question: the socket is connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        forger = NameServer({NAME: [b"forged"]})

        def forge() -> None:
            wire, peer = sock.recvfrom(512)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 0))
                other.sendto(forger.answer(wire, "udp"), peer)

        thread = threading.Thread(target=forge)
        thread.start()
        with pytest.raises(TemporaryError, match=f"^no answer for {NAME}$"):
            texts(sock.getsockname(), budget=1)
        thread.join()


def late(wire: bytes, transport: str) -> bytes:
    time.sleep(0.3)
    return wire


@pytest.mark.alone
def test_names_that_are_asked_at_once_wait_at_once(first: NameServer) -> None:
    names = [f"s{n}.example" for n in range(8)]
    for name in names:
        first.records[name] = [b"x"]
        first.faults[name] = late
    resolver = Resolver(system=system(first))
    started = time.monotonic()
    resolver.ask([*names, names[0].upper()])
    assert [resolver.texts(name).texts for name in names] == [[b"x"]] * 8
    assert time.monotonic() - started < 1.2
    assert sorted(first.asked) == [("udp", name) for name in names]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.alone
def test_a_server_that_sends_octet_by_octet_ends(first: NameServer, transport: str) -> None:
    """Garbage without end by UDP, one octet at a time by TCP: within the time limit."""
    stop = threading.Event()
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if transport == "tcp":
            sock.listen()

        def send() -> None:
            while not stop.is_set():
                try:
                    if transport == "udp":
                        sock.settimeout(0.05)
                        peer = sock.recvfrom(512)[1]
                        while not stop.wait(0.01):
                            sock.sendto(b"x", peer)
                    else:
                        connection, _ = sock.accept()
                        connection.sendall(b"\xff\xff")
                        while not stop.wait(0.01):
                            connection.sendall(b"x")
                except OSError:
                    continue

        sock.settimeout(0.1)
        thread = threading.Thread(target=send)
        thread.start()
        started = time.monotonic()
        with pytest.raises(TemporaryError):
            texts(sock.getsockname(), options="use-vc" if transport == "tcp" else "", budget=1)
        took = time.monotonic() - started
        stop.set()
        thread.join()
    assert took < 2
