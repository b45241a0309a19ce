"""What the host of a milter means on this host."""

from __future__ import annotations

import socket

import pytest

from dkimpipe.admin.postfix.hosts import meanings

MEANINGS = {
    "": "localhost",
    "localhost": "localhost",
    "LocalHost": "localhost",
    "127.0.0.1": "localhost",
    "127.0.1.1": "localhost",
    "[::1]": "localhost",
    "::1": "localhost",
    "0.0.0.0": "localhost",
    "[::]": "localhost",
    "*": "localhost",
    "192.0.2.1": "192.0.2.1",
    "[2001:DB8::1]": "2001:db8::1",
    "no-such-host.invalid": "no-such-host.invalid",
    "a..b": "a..b",
    f"{'a' * 64}.example": f"{'a' * 64}.example",
}


@pytest.mark.parametrize(("host", "meaning"), MEANINGS.items())
def test_a_host_means(host: str, meaning: str) -> None:
    assert meanings(host) == {meaning}


def test_an_address_of_this_host() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("no address but loopback")
        own = probe.getsockname()[0]
    assert meanings(own) == {"localhost"}
