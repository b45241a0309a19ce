"""/etc/resolv.conf, read as the C library reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkimpipe.verify.resolvconf import SystemResolvers, read

LOCAL = ["127.0.0.1"]

# A file, and the addresses of the servers.
SERVERS = {
    "one": ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
    "three": (
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 2001:db8::1\n",
        ["192.0.2.1", "192.0.2.2", "2001:db8::1"],
    ),
    "four": (
        "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 5)),
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
    ),
    "with a scope": ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
    "tabs, and text behind": ("nameserver\t192.0.2.1 \t # ours\n", ["192.0.2.1"]),
    "no line end": ("nameserver 192.0.2.1", ["192.0.2.1"]),
    "CRLF": ("nameserver 192.0.2.1\r\n", ["192.0.2.1"]),
    "comments": ("# nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", LOCAL),
    "indented": (" nameserver 192.0.2.1\n", LOCAL),
    "no address": ("nameserver\nnameserver ns.example.com\n", LOCAL),
    "not an address beside one": ("nameserver 192.0.2.256\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
    "in capitals": ("NAMESERVER 192.0.2.1\n", LOCAL),
    "search lists": ("search example.com\ndomain example.com\nsortlist 192.0.2.0\n", LOCAL),
    "nothing": ("", LOCAL),
}


@pytest.mark.parametrize(("text", "addresses"), SERVERS.values(), ids=SERVERS)
def test_servers(text: str, addresses: list[str]) -> None:
    assert SystemResolvers(text).servers == [(address, 53) for address in addresses]


# Options: timeout, attempts, rotate, trust-ad, use-vc.
NONE = (None, None, False, False, False)
OPTIONS = {
    "none": ("", NONE),
    "all": ("timeout:3 attempts:4 rotate trust-ad use-vc", (3, 4, True, True, True)),
    "with others": ("edns0 ndots:2\ttimeout:1 single-request", (1, None, False, False, False)),
    "too large": ("timeout:300 attempts:99", (30, 5, False, False, False)),
    "zero": ("timeout:0 attempts:0", (1, 1, False, False, False)),
    "not numbers": ("timeout:x attempts: timeout attempts:-1", NONE),
    "endless": ("timeout:" + "9" * 10_000, (30, None, False, False, False)),
    "in capitals": ("ROTATE", NONE),
    "twice": ("timeout:2 timeout:5", (5, None, False, False, False)),
}


@pytest.mark.parametrize(("text", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_options(text: str, expected: tuple[object, ...]) -> None:
    found = SystemResolvers(f"nameserver 192.0.2.1\noptions {text}\n")
    assert (found.timeout, found.attempts, found.rotate, found.trust_ad, found.use_tcp) == expected


def test_several_lines_of_options() -> None:
    found = SystemResolvers("options timeout:3\noptions rotate\n")
    assert (found.timeout, found.rotate) == (3, True)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"# \xff\nnameserver 192.0.2.1\n")
    assert read(str(path)).servers == [("192.0.2.1", 53)]


def test_no_file(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none")).servers == [("127.0.0.1", 53)]
    assert read(str(tmp_path)).servers == [("127.0.0.1", 53)]
