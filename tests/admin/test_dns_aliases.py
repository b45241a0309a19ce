"""``dkimpipe dns`` with fixed selectors: the aliases (CNAME) of customers, and the records behind them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import dns.name
import dns.zone
import pytest
from bind import PROGRAMS, SOA, needs_bind, serving, tsig_key
from conftest import Keys
from recording import ED, plain, run, value

from dkimpipe.admin.dns import alias

ZONE = "keys.hoster.example"
FIXED = ("--selectors=a,b", f"--zone={ZONE}")
CUSTOMERS = (
    f"example.com dkim(s=a,{ED.partition(',')[2]})\nsub.example.org dkim(s=b,{ED.partition(',')[2]})\n"
)

FORMATS = {
    "bind": (
        f"a._domainkey.example.com. 60 IN CNAME a.example.com.{ZONE}.\n"
        f"b._domainkey.example.com. 60 IN CNAME b.example.com.{ZONE}.\n"
    ),
    "plain": (
        f"a._domainkey.example.com\na.example.com.{ZONE}\n\nb._domainkey.example.com\nb.example.com.{ZONE}\n"
    ),
    "tinydns": (
        f"Ca._domainkey.example.com:a.example.com.{ZONE}:60\nCb._domainkey.example.com:b.example.com.{ZONE}:60\n"
    ),
    "nsupdate": (
        "update delete a._domainkey.example.com. CNAME\n"
        f"update add a._domainkey.example.com. 60 CNAME a.example.com.{ZONE}.\n"
        "send\n"
        "update delete b._domainkey.example.com. CNAME\n"
        f"update add b._domainkey.example.com. 60 CNAME b.example.com.{ZONE}.\n"
        "send\n"
    ),
}


@pytest.mark.parametrize(("name", "text"), FORMATS.items(), ids=FORMATS)
def test_the_aliases_in_each_format(keys: Keys, name: str, text: str) -> None:
    path = keys.senders(CUSTOMERS)
    done = run("--sender_map", path, "--cname", *FIXED, "--format", name, "--ttl=60", "example.com")
    assert done == (0, text.encode(), "")


def test_the_aliases_as_json(keys: Keys) -> None:
    path = keys.senders(CUSTOMERS)
    done = run("--sender_map", path, "--cname", *FIXED, "--format=json")
    assert json.loads(done.stdout) == [
        {
            "name": f"{selector}._domainkey.{domain}",
            "ttl": 3600,
            "type": "CNAME",
            "value": f"{selector}.{domain}.{ZONE}",
        }
        for domain in ("example.com", "sub.example.org")
        for selector in "ab"
    ]


def test_relative_aliases(keys: Keys) -> None:
    path = keys.senders(CUSTOMERS)
    done = run("--sender_map", path, "--cname", *FIXED, "--relative=example.com", "example.com")
    assert done.stdout.decode().splitlines()[0] == f"a._domainkey 3600 IN CNAME a.example.com.{ZONE}."


def test_a_domain_that_has_no_entry_yet(keys: Keys) -> None:
    """Its owner publishes the aliases before the first message is signed."""
    path = keys.senders(CUSTOMERS)
    done = run("--sender_map", path, "--cname", *FIXED, "--format=plain", "B\u00fccher.example")
    assert done.stdout.decode() == (
        f"a._domainkey.xn--bcher-kva.example\na.xn--bcher-kva.example.{ZONE}\n\n"
        f"b._domainkey.xn--bcher-kva.example\nb.xn--bcher-kva.example.{ZONE}\n"
    )
    assert (done.status, done.stderr) == (0, "dkimpipe: xn--bcher-kva.example: no entry for it yet\n")


def test_what_is_neither_an_entry_nor_a_domain(keys: Keys) -> None:
    done = run("--sender_map", keys.senders(CUSTOMERS), "--cname", *FIXED, "exam ple")
    words = "dkimpipe: 'exam ple' is not a valid domain\nhint: such as example.com\n"
    assert done == (78, b"", words)


def test_an_entry_with_an_error_has_no_aliases(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/nothing)\n")
    done = run("--sender_map", path, "--cname", *FIXED)
    assert (done.status, done.stdout) == (78, b"")
    assert "nothing: No such file or directory" in done.stderr


def test_the_records_are_in_the_zone(keys: Keys) -> None:
    path = keys.senders(f"{CUSTOMERS}example.net dkim({ED})\n")
    assert plain(path, *FIXED) == {
        f"a.example.com.{ZONE}": value(keys, "ed25519"),
        f"b.sub.example.org.{ZONE}": value(keys, "ed25519"),
        "ed25519._domainkey.example.net": value(keys, "ed25519"),  # not one of these selectors
    }


def test_a_policy_stays_at_its_domain(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/ed25519.pem)\n")
    names = list(plain(path, *FIXED, "--policy=~", "--dmarc"))
    assert names == [f"a.example.com.{ZONE}", "_domainkey.example.com", "_dmarc.example.com"]


def test_a_name_that_is_too_long(keys: Keys) -> None:
    domain = ".".join(["x" * 58] * 4)
    path = keys.senders(f"{domain} dkim(s=a,key=KEYS/ed25519.pem)\n")
    for arguments in (FIXED, (*FIXED, "--cname")):
        assert run("--sender_map", path, *arguments) == (
            78,
            b"",
            f"dkimpipe: a.{domain}.{ZONE} is too long for DNS\nhint: choose a shorter --zone\n",
        )


def test_no_two_records_share_a_name() -> None:
    """A selector is one label, so the rest is the domain."""
    assert alias.target("a._domainkey.b.example", "z") == "a.b.example.z"
    assert alias.target("a._domainkey.example", "b.z") != alias.target("a._domainkey.b.example", "z")


@needs_bind
def test_a_name_server_follows_the_aliases(keys: Keys, tmp_path: Path) -> None:
    """The lines as the customer's zone, the records by update in the hoster's."""
    path = keys.senders("static.example dkim(s=a,key=KEYS/ed25519.pem)\n")
    fixed = ("--selectors=a,b", "--zone=dynamic.example")
    lines = run("--sender_map", path, *fixed, "--cname", "--relative=static.example").stdout.decode()
    (rdata,) = dns.zone.from_text(SOA + lines, "static.example").find_rdataset("b._domainkey", "CNAME")
    assert rdata.target == dns.name.from_text("b.static.example.dynamic.example")
    with serving(tmp_path, static=SOA + lines) as bind:
        update = ("--publish", "--server", bind.server, "--tsig", tmp_path / "good.key")
        done = run("--sender_map", path, *fixed, *update)
        assert done == (0, b"a.static.example.dynamic.example: added\n", "")
        names = ("a._domainkey.static.example", "a.static.example.dynamic.example")
        command = [PROGRAMS["dig"], "@127.0.0.1", "-p", str(bind.port), "+short", names[0], "TXT"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert shown == [f"{names[1]}."]  # BIND does not follow it into another zone
        assert bind.dig(names[1]) == [value(keys, "ed25519")]
        done = run("--sender_map", path, *fixed, "--delete", *update[1:], "static.example")
        assert done.stdout.decode() == f"{names[1]}: deleted\n"
        assert bind.dig(names[1]) == []


@needs_bind
def test_the_zone_need_not_be_a_zone_of_its_own(keys: Keys, tmp_path: Path) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/ed25519.pem)\n")
    tsig_key(tmp_path, "x", "x")
    with serving(tmp_path) as bind:
        update = ("--publish", "--server", bind.server, "--tsig", tmp_path / "good.key")
        done = run("--sender_map", path, "--selectors=a,b", "--zone=keys.dynamic.example", *update)
        assert done == (0, b"a.example.com.keys.dynamic.example: added\n", "")
