"""Name servers as users write them: one form for all commands."""

from __future__ import annotations

import pytest

from dkimpipe.verify.nameserver import Server

# The text, address and port, and the text in messages if it is another.
VALID: dict[str, tuple[str, tuple[str, int], str]] = {
    "IPv4": ("192.0.2.1", ("192.0.2.1", 53), ""),
    "IPv4, port": ("192.0.2.1#5353", ("192.0.2.1", 5353), ""),
    "IPv6": ("2001:db8::1", ("2001:db8::1", 53), ""),
    "IPv6, port": ("2001:db8::1#5353", ("2001:db8::1", 5353), ""),
    "IPv6, in full": ("2001:db8:0:0:0:0:0:1", ("2001:db8:0:0:0:0:0:1", 53), ""),
    "IPv6, loopback": ("::1", ("::1", 53), ""),
    "IPv6, a last part that looks like a port": ("::1:53", ("::1:53", 53), ""),
    "IPv6, link-local with its zone": ("fe80::1%eth0", ("fe80::1%eth0", 53), ""),
    "IPv6, link-local, port": ("fe80::1%eth0#5353", ("fe80::1%eth0", 5353), ""),
    "IPv6, mapped IPv4": ("::ffff:192.0.2.1", ("::ffff:192.0.2.1", 53), ""),
    "the default port": ("192.0.2.1#53", ("192.0.2.1", 53), "192.0.2.1"),
    "the last port": ("192.0.2.1#65535", ("192.0.2.1", 65535), ""),
    "a port with zeros": ("192.0.2.1#0053", ("192.0.2.1", 53), "192.0.2.1"),
}


@pytest.mark.parametrize(("text", "address_and_port", "shown"), VALID.values(), ids=VALID)
def test_a_server(text: str, address_and_port: tuple[str, int], shown: str) -> None:
    server = Server.parse(text)
    assert (server.address, server.port) == address_and_port
    assert str(server) == (shown or text)


INVALID = {
    "nothing": "",
    "a name": "ns.example.com",
    "a network": "192.0.2.0/24",
    "IPv4, three numbers": "192.0.2",
    "IPv4, colon before the port": "192.0.2.1:53",
    "IPv4, at sign before the port": "192.0.2.1@53",
    "IPv6, brackets": "[2001:db8::1]",
    "IPv6, brackets and a colon": "[2001:db8::1]:53",
    "IPv6, one colon too many": "2001:db8:::1",
    "no address": "#53",
    "no port": "192.0.2.1#",
    "port 0": "192.0.2.1#0",
    "port too large": "192.0.2.1#65536",
    "negative port": "192.0.2.1#-1",
    "port that is not a number": "192.0.2.1#domain",
    "port in other digits": "192.0.2.1#\u0665\u0663",
    "two ports": "192.0.2.1#53#53",
    "space": " 192.0.2.1",
    "line end": "192.0.2.1\n",
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_an_invalid_server(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a name server"):
        Server.parse(text)


def test_a_name_for_messages() -> None:
    assert str(Server("192.0.2.1", 5353, "the resolver")) == "the resolver"
