"""rspamd itself as the witness: how it merges its files, and what it signs.

What is compared are d=, s= and c= of each signature, for mail of many senders from many places.
"""

from __future__ import annotations

import ipaddress
import random
import re
import shutil
from pathlib import Path

import pytest
from conftest import Keys
from rspamd import NEEDS_RSPAMD, SHAPES, configdump, enabled_modules, running, write

from dkimpipe.admin.migration import rspamd
from dkimpipe.admin.migration.foreign import Foreign, Rule
from dkimpipe.admin.rspamd import signing, ucl
from dkimpipe.admin.rspamd.conf import Conf

pytestmark = NEEDS_RSPAMD

MESSAGES = 200
DOMAINS = """
    example.com Example.COM sub.example.com a.b.example.com example.net shop.example.net
    x.shop.example.net sub.example.net example.org alpha.example.org example.info evilexample.com
    example.test com mail.example.co.uk
""".split()
LOCAL_PARTS = ("boss", "Boss", "alice", "alice+lists", "o'hara")
CLIENTS = ("10.1.2.3", "127.0.0.1", "203.0.113.9", "198.51.100.7", "192.0.2.1")
# Addresses that rspamd does not sign for: a domain that is not registrable, as a remark says, and letters in
# upper case that rspamd 3.4 does not look up in signing_table; later releases do.
SIGNED_FROM_NOW_ON = {"modoboa": r"shop\.example\.net$", "addy.io": r"[A-Z]"}


def _keys_of(address: str) -> list[str]:
    """Return the keys of the senders file that apply to an address, in their order: dkimpipe-senders(5)."""
    local_part, _, domain = address.lower().rpartition("@")
    parents = [domain.split(".", number)[-1] for number in range(1, domain.count(".") + 1)]
    plain = local_part.partition("+")[0]
    own = [f"{local_part}@{domain}", f"{plain}@{domain}", f"*@{domain}", domain]
    return [*own, *(key for each in parents for key in (f"*@*.{each}", each)), "."]


def _rule(foreign: Foreign, address: str) -> Rule | None:
    rules = {rule.key: rule for rule in foreign.rules}
    return next((rules[key] for key in _keys_of(address) if key in rules), None)


def _signed(foreign: Foreign, address: str, login: str, client: str) -> list[tuple[str, str]]:
    """Return d= and s= of the signatures for a message; a key that is not there makes none."""
    words = foreign.directives["sign_clients"][0].split(",")
    networks = [ipaddress.ip_network(word) for word in words if word not in ("authenticated", "mynetworks")]
    rule = _rule(foreign, address)
    if not rule or not (
        ("authenticated" in words and login)
        or any(ipaddress.ip_address(client) in network for network in networks)
    ):
        return []
    domain = address.lower().rpartition("@")[2]
    return [
        (each.domain.replace("$senderdomain", domain), each.selector)
        for each in rule.signatures
        if each.key or Path(each.keyfile.replace("$senderdomain", domain)).is_file()
    ]


def _tags(field: str) -> dict[str, str]:
    items = (item.strip().partition("=") for item in field.split(";"))
    return {name.strip(): value.strip() for name, _, value in items}


@pytest.mark.parametrize("name", SHAPES)
def test_signs_the_same(tmp_path: Path, keys: Keys, name: str) -> None:
    etc = write(SHAPES[name], keys, tmp_path)
    foreign = rspamd.read(etc)
    choice = random.Random(name)
    differences, signed = [], 0
    with running(etc, tmp_path / "work") as witness:
        for number in range(MESSAGES):
            address = f"{choice.choice(LOCAL_PARTS)}@{choice.choice(DOMAINS)}"
            login, client = choice.choice(["", address]), choice.choice(CLIENTS)
            message = (
                f"From: Alice <{address}>\r\nTo: reader@example.test\r\nSubject: {number}\r\n\r\nHello.\r\n"
            )
            tags = [_tags(field) for field in witness.sign(message.encode(), address, login, client)]
            expected = [(each["d"], each["s"]) for each in tags]
            assert {each["c"] for each in tags} <= {foreign.directives["dkim_method"][0]}
            found = _signed(foreign, address, login, client)
            signed += bool(expected)
            if found != expected:
                differences.append((address, found, expected))
    for address, found, expected in differences:
        assert re.search(SIGNED_FROM_NOW_ON.get(name, "^$"), address), (address, found, expected)
        assert found and not expected
    assert signed > MESSAGES // 20


MERGED = {
    "nothing": {},
    "a block in each": {
        "local.d/dkim_signing.conf": 'domain { a.test { selector = "x"; path = "/x" } }\nselector = one\n',
        "override.d/dkim_signing.conf": "selector = two;\n",
    },
    "override.d replaces a block": {
        "local.d/dkim_signing.conf": "domain { a.test { selector = x } }\n",
        "override.d/dkim_signing.conf": "domain { b.test { selector = y } }\n",
    },
    "local.d twice": {
        "local.d/dkim_signing.conf": "domain { a.test { selector = x } }\ndomain { a.test { path = /p } }\n",
    },
    "override.d twice": {
        "override.d/dkim_signing.conf": (
            "domain { a.test { selector = x } }\n"
            "domain { b.test { selector = y } }\n"
        )
    },
    "lists": {
        "local.d/dkim_signing.conf": "sign_networks = [192.0.2.0/24, 10.1.1.1]\nx = [1]; x = [2]\n"
    },
    "a map instead of a list": {"local.d/dkim_signing.conf": "sign_networks = /etc/rspamd/maps.d/x.map\n"},
    "rspamd.conf.local": {
        "rspamd.conf.local": "dkim_signing { selector = mine; use_esld = false }\n",
        "local.d/dkim_signing.conf": "use_esld = true\n",
    },
    "rspamd.conf.override": {
        "rspamd.conf.override": "dkim_signing { selector = mine }\n",
        "override.d/dkim_signing.conf": "use_esld = false\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("files", MERGED.values(), ids=MERGED)
def test_files_are_merged_the_same(tmp_path: Path, files: dict[str, str]) -> None:
    etc = _rspamd(tmp_path, files)
    settings = {name: setting.value for name, setting in Conf(etc).section("dkim_signing").items()}
    assert {name: ucl.plain(value) for name, value in settings.items()} == configdump(etc, "dkim_signing")


@pytest.mark.parametrize("section", ["arc", "dkim"])
def test_other_sections(tmp_path: Path, section: str) -> None:
    etc = tmp_path / "rspamd"
    shutil.copytree("/etc/rspamd", etc)
    (etc / "local.d" / f"{section}.conf").write_text("sign_headers = from:to\nselector = x\n")
    settings = Conf(etc).section(section)
    assert {name: ucl.plain(each.value) for name, each in settings.items()} == configdump(etc, section)


_LOCAL, _OVERRIDE = "local.d/dkim_signing.conf", "override.d/dkim_signing.conf"
_BLOCK = "dkim_signing {{ {} }}\n"
# Files, and whether rspamd signs with them.
SWITCHES = {
    "as installed": ({}, True),
    "local.d": ({_LOCAL: "enabled = false;\n"}, False),
    "override.d": ({_OVERRIDE: "enabled = false;\n"}, False),
    "override.d outranks local.d": ({_LOCAL: "enabled = false;", _OVERRIDE: "enabled = true;"}, True),
    "the first line applies": ({_OVERRIDE: "enabled = true;\nenabled = false;\n"}, True),
    "the first line switches off": ({_OVERRIDE: "enabled = false;\nenabled = true;\n"}, False),
    "the first line of local.d": ({_LOCAL: "enabled = true;\nenabled = false;\n"}, True),
    "no": ({_LOCAL: "enabled = No\n"}, False),
    "a word": ({_LOCAL: 'enabled = "OFF";'}, False),
    "an unknown word": ({_LOCAL: 'enabled = "maybe";'}, False),
    "a number": ({_LOCAL: "enabled = 0;"}, True),
    "disabled": ({_LOCAL: "disabled = true;"}, False),
    "disabled, by a word": ({_LOCAL: 'disabled = "on";'}, False),
    "disabled, by an unknown word": ({_LOCAL: 'disabled = "maybe";'}, False),
    "not disabled": ({_LOCAL: "disabled = false;"}, True),
    "disabled and enabled": ({_LOCAL: "disabled = true; enabled = true;"}, True),
    "disabled, and enabled by a word": ({_LOCAL: 'disabled = true; enabled = "yes";'}, False),
    "a block within the block": ({_OVERRIDE: _BLOCK.format("enabled = false;")}, True),
    "rspamd.conf.local": ({"rspamd.conf.local": _BLOCK.format("enabled = false;")}, True),
    "rspamd.conf.override": ({"rspamd.conf.override": _BLOCK.format("enabled = false;")}, False),
    "rspamd.conf.override outranks override.d": (
        {"rspamd.conf.override": _BLOCK.format("enabled = true;"), _OVERRIDE: "enabled = false;"},
        True,
    ),
    "loaded in any case": (
        {"local.d/options.inc": 'explicit_modules ["dkim_signing"];', _LOCAL: "enabled = false;"},
        True,
    ),
    "another is loaded in any case": (
        {"local.d/options.inc": 'explicit_modules ["spf"];', _LOCAL: "enabled = false;"},
        False,
    ),
}


def _rspamd(directory: Path, files: dict[str, str]) -> Path:
    etc = directory / "rspamd"
    shutil.copytree("/etc/rspamd", etc)
    for name, text in files.items():
        (etc / name).write_text(text)
    return etc


@pytest.mark.parametrize(("files", "signs"), SWITCHES.values(), ids=SWITCHES)
def test_the_switch_is_read_as_rspamd_reads_it(tmp_path: Path, files: dict[str, str], signs: bool) -> None:
    etc = _rspamd(tmp_path, files)
    assert ("dkim_signing" in enabled_modules(etc), not signing.off(Conf(etc))) == (signs, signs)


SIGNING = {name: files for name, (files, signs) in SWITCHES.items() if signs}


@pytest.mark.parametrize("files", SIGNING.values(), ids=SIGNING)
def test_what_the_import_advises_switches_it_off(tmp_path: Path, files: dict[str, str]) -> None:
    etc = _rspamd(tmp_path, files)
    advice = signing.to_switch_off(Conf(etc))
    if advice.startswith("take dkim_signing out of explicit_modules"):
        (etc / "local.d/options.inc").write_text("")
    change = re.search(r"change it to '(.*?)' in (\S+), line (\d+)", advice)
    write_ = re.search(r"write '(.*?)' into (\S+), and", advice)
    block = re.search(r"write '(.*?)' into its block dkim_signing in (\S+), line (\d+)", advice)
    if change:
        path = Path(change[2])
        lines = path.read_text().splitlines()
        number = int(change[3]) - 1
        lines[number] = re.sub(r"enabled = [^;]*;", change[1], lines[number], count=1)
        path.write_text("\n".join(lines) + "\n")
    elif block:
        path = Path(block[2])
        path.write_text(path.read_text().replace("{", f"{{ {block[1]}", 1))
    else:
        assert write_, advice
        with Path(write_[2]).open("a") as file:
            file.write(f"\n{write_[1]}\n")
    assert "dkim_signing" not in enabled_modules(etc), advice
