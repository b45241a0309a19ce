"""``dkimpipe rotate``: keys change while mail flows, and no signature is ever without its record."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query
import dns.rdatatype
import in_memory
import pytest
import witness
from bind import SOA, Bind, needs_bind, serving
from conftest import MAIN, Done, Keys, Report
from nameserver import NameServer
from records import SAMPLES

from dkimpipe import publickey
from dkimpipe.admin import atomic
from dkimpipe.admin.dns import lookup
from dkimpipe.admin.dns import update as publish
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.rotation import state as rotation
from dkimpipe.admin.verbs import rotate
from dkimpipe.errors import Trouble
from dkimpipe.keys import read_key
from dkimpipe.verify.resolver import Resolver as Resolving

HOUR, DAY = 3600, 86400
START = 1_735_689_600  # 2025-01-01 00:00 UTC
MESSAGE = b"From: Alice <alice@%b>\nTo: bob@example.net\nSubject: hello\nDate: x\n\nHello, Bob.\n"


class House:
    """A directory with keys and a senders file, and how it is rotated."""

    def __init__(self, directory: Path, keys: Keys, senders: str, *arguments: str) -> None:
        self.directory = directory
        self.senders = directory / "senders"
        self.arguments = arguments
        for name in ("rsa1024", "rsa2048", "ed25519"):
            shutil.copy2(keys.path(name), directory / f"{name}.pem")
            os.utime(directory / f"{name}.pem", (START, START))
        self.senders.write_text(senders.replace("KEYS", str(directory)))

    def rotate(self, now: int, *arguments: str) -> Done:
        """Run ``dkimpipe rotate`` at a time; paths are shown as KEYS."""
        parser = argparse.ArgumentParser()
        rotate.add_arguments(parser)
        common = (f"--directory={self.directory}", f"--sender_map={self.senders}", *self.arguments)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = rotate.rotate(parser.parse_args([*common, *arguments]), now)
            except Trouble as trouble:
                status = 78
                print(f"dkimpipe: {trouble}\n{trouble.hint}", file=sys.stderr)
        shown = [each.getvalue().replace(str(self.directory), "KEYS") for each in (out, err)]
        return Done(status, shown[0].encode(), shown[1])

    def said(self, now: int, *arguments: str) -> str:
        """Run it without trouble, and return what it says."""
        done = self.rotate(now, *arguments)
        assert (done.status, done.stderr) == (0, "")
        return done.stdout.decode()

    @property
    def keys(self) -> list[rotation.Key]:
        return rotation.load(self.directory, [str(self.senders), f"{self.directory}/lists"])

    @property
    def states(self) -> dict[str, str]:
        """The state of each key by its selector."""
        return {key.selector: key.state for key in self.keys}

    def sign(self, now: int, domain: bytes = b"example.com") -> bytes:
        """Return a message signed by the filter's code at a time."""
        return in_memory.sign(MESSAGE % domain, f"--sender_map={self.senders}", now=now)


class Order(NamedTuple):
    """What ``dkimpipe rotate`` tells the administrator to do at a name: a value, or empty for no record."""

    name: str
    value: str


def orders(said: str) -> list[Order]:
    """Return what an administrator is told to do."""
    found = []
    for line in said.splitlines():
        if line.startswith("publish: "):
            name, _, strings = line.removeprefix("publish: ").partition(". IN TXT ")
            found.append(Order(name, "".join(re.findall(r'"([^"]*)"', strings))))
        elif "take this record out" in line:
            found.append(Order(line.partition(":")[0], ""))
    return found


class Zone(NameServer):
    """A name server with a zone that is edited by hand."""

    @property
    def look_at(self) -> str:
        return f"--look-at=127.0.0.1#{self.port}"

    def obey(self, said: str) -> None:
        for order in orders(said):
            self.records.pop(order.name, None)
            if order.value:
                self.records[order.name] = [order.value.encode()]


@pytest.fixture
def zone(keys: Keys) -> Iterator[Zone]:
    records = {
        f"old._domainkey.{domain}": keys.records["rsa1024._domainkey.example.com"] for domain in DOMAINS
    }
    records["oldd._domainkey.example.com"] = keys.records["ed25519._domainkey.example.com"]
    records["other._domainkey.example.org"] = keys.records["rsa2048._domainkey.example.com"]
    server = Zone(records)
    with server:
        yield server


DOMAINS = ("example.com", "example.org")
ONE = "example.com dkim(s=old,key=KEYS/rsa1024.pem)\n"
AGE = 180 * DAY
NEW = "202506"  # START and 180 days


# One key from its birth to its end.


def test_the_way_of_a_key(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    assert house.said(START + AGE - 1) == ""
    assert house.states == {"old": "active"}

    begun = START + AGE
    said = house.said(begun)
    value = witness.record((tmp_path / f"example.com.{NEW}.pem").read_bytes()).decode()
    name = f"{NEW}._domainkey.example.com"
    assert said == (
        f"{name}: a new key, KEYS/example.com.{NEW}.pem\n"
        f"{name}: there is no such name (NXDOMAIN), says 127.0.0.1#{zone.port}\n"
        f'publish: {name}. IN TXT ( "{value[:255]}" "{value[255:]}" )\n'
    )
    assert house.states == {"old": "active", NEW: "generated"}
    assert house.said(begun + DAY) == "".join(said.splitlines(keepends=True)[1:])

    zone.obey(said)
    assert house.said(begun + 2 * DAY) == f"{name}: published; it signs from 2025-07-02 01:00 UTC on\n"
    assert house.states == {"old": "active", NEW: "published"}
    assert house.said(begun + 2 * DAY + HOUR) == ""

    signs = begun + 2 * DAY + HOUR + 1
    assert house.said(signs) == f"{name}: signs from now on, in the place of s=old\n"
    assert house.senders.read_text() == f"example.com dkim(s={NEW},key={tmp_path}/example.com.{NEW}.pem)\n"
    assert house.states == {"old": "retiring", NEW: "active"}

    assert house.said(signs + 30 * DAY - 1) == ""
    said = house.said(signs + 30 * DAY)
    assert (
        said
        == "old._domainkey.example.com: take this record out of DNS: nothing signs with its key any more\n"
    )
    assert house.said(signs + 31 * DAY) == said
    zone.obey(said)
    assert house.said(signs + 32 * DAY) == (
        "old._domainkey.example.com: revoked; its file is of no more use: rm KEYS/rsa1024.pem\n"
    )
    assert house.states == {"old": "revoked", NEW: "active"}
    (tmp_path / "rsa1024.pem").unlink()
    assert house.said(signs + 33 * DAY) == ""
    assert house.states == {NEW: "active"}


# A year.


class Resolver:
    """A resolver that keeps answers as long as it may, also that nothing is there; ``now`` is its clock."""

    def __init__(self, port: int) -> None:
        self.now = 0
        self._port = port
        self._kept: dict[str, tuple[int, bytes | None]] = {}

    def look_up(self, name: bytes | str, timeout: float = 5) -> bytes | None:
        """Return the TXT record of a name."""
        text = (name.decode() if isinstance(name, bytes) else name).rstrip(".")
        until, value = self._kept.get(text, (0, None))
        if until <= self.now:
            query = dns.message.make_query(text, "TXT")
            response, _ = dns.query.udp_with_fallback(query, "127.0.0.1", 5, self._port)
            sets = [each for each in response.answer if each.rdtype == dns.rdatatype.TXT]
            value = b"".join(sets[0][0].strings) if sets else None
            ttl = sets[0].ttl if sets else response.authority[0].ttl
            self._kept[text] = self.now + ttl, value
        return value


YEAR = (
    "dynamic.example dkim(s=old,key=KEYS/rsa1024.pem), domainkeys(s=old,key=KEYS/rsa1024.pem),\n"
    "    dkim(s=olde,key=KEYS/ed25519.pem)  # both\n"
    "list.dynamic.example dkim(s=old,key=KEYS/rsa1024.pem)\n"
)
STEP = DAY
TTL = 2 * DAY  # of answers that nothing is there, too
ON_ITS_WAY = 5 * DAY


def obey(bind: Bind, order: Order) -> None:
    """Change the zone of BIND."""
    server = publish.Server("127.0.0.1", bind.port, publish.read_tsig_key(f"{bind.directory}/good.key"))
    if order.value:
        publish.publish(server, [Record(*order)], TTL, "", replace=True)
    else:
        publish.delete(server, [Record(*order)], "", replace=True)


def a_domain_comes(house: House, bind: Bind, key: rotation.Key) -> None:
    """Somebody gives another domain the key that signs, and publishes its record there."""
    old, path = key.replaces
    obey(bind, Order(f"{old}._domainkey.new.dynamic.example", publickey.record_value(path)))
    entry = f"new.dynamic.example dkim(s={old},key={path})\n"
    house.senders.write_text(house.senders.read_text() + entry)


def its_key_is_lost(house: House, bind: Bind, key: rotation.Key) -> None:
    Path(key.keyfile).unlink()


def its_key_is_replaced(house: House, bind: Bind, key: rotation.Key) -> None:
    Path(key.keyfile).unlink()
    shutil.copy2(house.directory / "rsa2048.pem", key.keyfile)


@needs_bind
@pytest.mark.parametrize("by_hand", [False, True], ids=["published", "by hand"])
def test_a_year(keys: Keys, tmp_path: Path, report: Report, by_hand: bool) -> None:
    """Every message verifies when it is sent, and when it arrives days later, though resolvers remember."""
    zone_file = SOA.replace("$TTL 60", f"$TTL {TTL}").replace("86400 60", f"86400 {TTL}")
    with serving(tmp_path, dynamic=zone_file) as bind:
        update = ["--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key", f"--ttl={TTL}"]
        where = [f"--look-at={bind.server}", "--age=60d", "--keep=10d", *([] if by_hand else update)]
        house = House(tmp_path, keys, YEAR, *where)
        for name, kind in (
            ("old._domainkey.dynamic.example", "rsa1024"),
            ("olde._domainkey.dynamic.example", "ed25519"),
            ("old._domainkey.list.dynamic.example", "rsa1024"),
        ):
            obey(bind, Order(name, publickey.record_value(str(tmp_path / f"{kind}.pem"))))
        resolver = Resolver(bind.port)
        on_their_way: list[tuple[int, bytes]] = []
        told: list[tuple[int, Order]] = []
        domains = ["dynamic.example", "list.dynamic.example"]
        events = [a_domain_comes, its_key_is_lost, its_key_is_replaced]
        disturbed: set[str] = set()
        verified = 0
        for now in range(START, START + 365 * DAY, STEP):
            resolver.now = now
            month = time.strftime("%Y%m", time.gmtime(now))
            for domain, letter in itertools.product(domains, ("", "r", "e", "r2", "e2")):
                resolver.look_up(f"{month}{letter}._domainkey.{domain}")  # at the worst moment: just before
            told += [(now + 3 * DAY, order) for order in orders(house.said(now))]
            while told and told[0][0] <= now:
                obey(bind, told.pop(0)[1])
            for key in house.keys:
                if key.state == "published" and not disturbed & {key.selector, key.replaces[0]} and events:
                    disturbed.add(key.selector)
                    events.pop(0)(house, bind, key)
                    domains = sorted({*domains, "new.dynamic.example"})
            for domain in domains:
                message = house.sign(now, domain.encode())
                on_their_way += [(now, message), (now + ON_ITS_WAY, message)]
            due = [message for at, message in on_their_way if at <= now]
            on_their_way = [(at, message) for at, message in on_their_way if at > now]
            verdicts = [
                each for message in witness.dkimpy_verdicts(due, {}, resolver.look_up) for each in message
            ]
            assert set(verdicts) == {"pass"}, now
            verified += len(verdicts)
        states = [key.state for key in house.keys]
    report(f"a year of rotation: {verified} signatures verified, {states.count('revoked')} keys revoked")
    assert not events
    assert states.count("revoked") >= 6
    assert states.count("active") == 2


# What can come between.

NAME = f"{NEW}._domainkey.example.com"
BEGIN = START + AGE


def at(house: House, zone: Zone, state: str) -> int:
    """Bring the new key of a house into this state, and return when that is."""
    now = BEGIN
    zone.obey(house.said(now))
    for wanted, later in (("published", 1), ("active", 2 * HOUR)):
        if state != "generated" and house.states.get(NEW) != state:
            now += later
            house.said(now)
            assert house.states[NEW] == wanted
    return now


def test_all_that_share_a_key_change_together(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    both = "dkim(s=old,key=KEYS/rsa1024.pem)"
    house = House(
        tmp_path,
        keys,
        f"example.com {both}, domainkeys(s=old,key=KEYS/rsa1024.pem)\nexample.org {both}\n",
        zone.look_at,
    )
    told = orders(house.said(BEGIN))
    assert [order.name for order in told] == [NAME, f"{NEW}._domainkey.example.org"]
    zone.records[NAME] = [told[0].value.encode()]
    house.said(BEGIN + DAY)
    assert house.states[NEW] == "generated"  # one of two is not enough
    zone.records[told[1].name] = [told[1].value.encode()]
    house.said(BEGIN + 2 * DAY)
    house.said(BEGIN + 3 * DAY)
    new = f"(s={NEW},key={tmp_path}/example.com.{NEW}.pem)"
    assert house.senders.read_text() == f"example.com dkim{new}, domainkeys{new}\nexample.org dkim{new}\n"


def test_the_list_id_map_changes_too(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    lists = tmp_path / "lists"
    lists.write_text(f"news.example.com dkim(d=example.com,s=old,key={tmp_path}/rsa1024.pem)\n")
    house = House(tmp_path, keys, ONE, zone.look_at, f"--listid_map={lists}")
    at(house, zone, "active")
    assert lists.read_text() == (
        f"news.example.com dkim(d=example.com,s={NEW},key={tmp_path}/example.com.{NEW}.pem)\n"
    )
    assert house.states == {"old": "retiring", NEW: "active"}


def test_who_may_have_a_signature_stays(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    entry = "example.com dkim(login=alice:*,s=old,key=KEYS/rsa1024.pem,envelope=example.com)\n"
    house = House(tmp_path, keys, entry, zone.look_at)
    at(house, zone, "active")
    new = f"s={NEW},key={tmp_path}/example.com.{NEW}.pem"
    assert house.senders.read_text() == f"example.com dkim(login=alice:*,{new},envelope=example.com)\n"


def test_keys_of_two_types_get_a_selector_each(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    two = "example.com dkim(s=old,key=KEYS/rsa1024.pem), dkim(s=oldd,key=KEYS/ed25519.pem)\n"
    house = House(tmp_path, keys, two, zone.look_at)
    house.said(BEGIN)
    values = {key.selector: key.value for key in house.keys}
    assert values[NEW].startswith("v=DKIM1; k=rsa; ")
    assert values[f"{NEW}e"].startswith("v=DKIM1; k=ed25519; ")


def test_the_new_key_is_for_the_same_user(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    (tmp_path / "rsa1024.pem").chmod(0o440)
    if os.geteuid() == 0:
        os.chown(tmp_path / "rsa1024.pem", 0, 65534)
    house.said(BEGIN)
    old, new = ((tmp_path / name).stat() for name in ("rsa1024.pem", f"example.com.{NEW}.pem"))
    assert (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid)
    assert read_key(f"{tmp_path}/example.com.{NEW}.pem").bits == 2048


def test_every_server_must_have_the_record(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    late = Zone(dict(zone.records))
    with late:
        house = House(tmp_path, keys, ONE, zone.look_at, late.look_at)
        said = house.said(BEGIN)
        zone.obey(said)
        assert house.said(BEGIN + DAY).splitlines()[0] == (
            f"{NAME}: there is no such name (NXDOMAIN), says 127.0.0.1#{late.port}"
        )
        late.obey(said)
        assert "published" in house.said(BEGIN + 2 * DAY)


def test_a_record_that_vanishes_begins_anew(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    there = zone.records.pop(NAME)
    assert orders(house.said(now + 2 * HOUR)) == [Order(NAME, there[0].decode())]
    zone.records[NAME] = there
    house.said(now + 2 * HOUR + 1)
    house.said(now + 3 * HOUR)
    assert house.states == {"old": "active", NEW: "published"}
    house.said(now + 3 * HOUR + 2)
    assert house.states == {"old": "retiring", NEW: "active"}


def test_a_clock_put_back_begins_anew(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    before = now - 300 * DAY
    assert house.said(before) == (
        "old._domainkey.example.com: active since 2025-01-01 00:00 UTC, says a clock; it counts from now on\n"
        f"{NAME}: published since 2025-06-30 00:00 UTC, says a clock; it counts from now on\n"
        f"{NAME}: published; it signs from 2024-09-03 01:00 UTC on\n"
    )
    assert {key.since for key in house.keys} == {before}
    assert house.said(before + HOUR) == ""


TAKEN = {
    "a record": lambda house, zone: zone.records.update({NAME: zone.records["old._domainkey.example.com"]}),
    "a file": lambda house, zone: (house.directory / f"example.com.{NEW}.pem").touch(),
    "an entry": lambda house, zone: house.senders.write_text(
        house.senders.read_text() + f"x@example.com dkim(s={NEW},key={house.directory}/rsa2048.pem)\n"
    ),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_selector_that_is_taken_is_left_alone(
    keys: Keys, tmp_path: Path, zone: Zone, take: Callable[[House, Zone], object]
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    take(house, zone)
    house.rotate(BEGIN, "--age=179d")
    assert [key.selector for key in house.keys if key.replaces == ["old", f"{tmp_path}/rsa1024.pem"]] == [
        f"{NEW}r"
    ]


def test_an_edit_by_hand_is_minded(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """Somebody goes back to the old key: it signs, and the new one retires; nothing fights him."""
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "active")
    house.senders.write_text(ONE.replace("KEYS", str(tmp_path)))
    assert house.said(now + DAY) == (
        "old._domainkey.example.com: signs again\n"
        f"{NAME}: signs no more; its records stay until 2025-07-31 02:00 UTC\n"
    )
    assert house.states == {"old": "active", NEW: "retiring"}
    assert house.said(now + 2 * DAY) == ""


def test_a_revoked_key_must_not_sign_again_unnoticed(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "active")
    zone.obey(house.said(now + 31 * DAY))
    house.said(now + 32 * DAY)
    assert house.states == {"old": "revoked", NEW: "active"}
    house.senders.write_text(ONE.replace("KEYS", str(tmp_path)))
    done = house.rotate(now + 33 * DAY)
    value = witness.record((tmp_path / "rsa1024.pem").read_bytes()).decode()
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: old._domainkey.example.com: there is no such name (NXDOMAIN), "
        f"says 127.0.0.1#{zone.port}\n"
        f'publish: old._domainkey.example.com. IN TXT ( "{value}" )\n',
    )
    assert house.rotate(now + 34 * DAY).stderr == done.stderr  # as long as it is so


def test_a_key_without_an_heir_retires(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    house.senders.write_text(f"example.org dkim(s=other,key={tmp_path}/rsa2048.pem)\n")
    house.said(now + DAY)
    assert (house.states["old"], house.states[NEW]) == ("retiring", "retiring")


def test_a_record_that_something_else_needs_stays(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    conf = tmp_path / "conf"
    conf.write_text(f"selector old\nkeyfile {tmp_path}/rsa1024.pem\n")
    both = ONE + "a@example.com dkim\n"
    house = House(tmp_path, keys, both, zone.look_at, f"--conf_file={conf}")
    now = at(house, zone, "active")
    said = house.said(now + 31 * DAY)
    assert orders(said) == []
    assert "old._domainkey.example.com" in zone.records


def test_a_dry_run_does_nothing(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    moving = ". dkim(s=old,key=KEYS/rsa2048.pem)\n"
    house = House(tmp_path, keys, ONE + moving, zone.look_at)
    house.said(START)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert house.said(BEGIN, "--dry-run") == (
        "active     since 2025-01-01 00:00 UTC: old._domainkey.example.com, KEYS/rsa1024.pem\n"
        "never       KEYS/senders, line 2: d=$keydomain of . depends on the sender: "
        "its records have no fixed name\n"
        f"{NAME}: a new key, KEYS/example.com.{NEW}.pem\n"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_dry_run_takes_nothing_away(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "generated")
    left = tmp_path / f".example.com.{NEW}.pem.new"
    os.link(tmp_path / f"example.com.{NEW}.pem", left)  # as after a kill
    house.said(now, "--dry-run")
    assert left.exists()
    house.said(now)
    assert not left.exists()


def test_only_the_domains_that_are_named(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    other = "example.org dkim(s=other,key=KEYS/rsa2048.pem)\n"
    house = House(tmp_path, keys, ONE + other, zone.look_at)
    assert [order.name for order in orders(house.said(START, "--now", "EXAMPLE.org"))] == [
        "202501._domainkey.example.org"
    ]


ORG = f"{NEW}._domainkey.example.org"
BOTH = ONE + ONE.replace("com", "org")


def unless_signed_in_vain(house: House, zone: Zone, now: int) -> None:
    """Assert that every signature for both domains verifies."""
    for domain in (b"example.com", b"example.org"):
        (verdict,) = witness.dkimpy_verdicts(
            [house.sign(now, domain)], {}, witness.nameserver_dnsfunc(zone.port)
        )
        assert set(verdict) <= {"pass"}


@pytest.mark.parametrize("state", ["generated", "published"])
def test_a_domain_that_comes_to_the_old_key_is_waited_for(
    keys: Keys, tmp_path: Path, zone: Zone, state: str
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, state)
    house.senders.write_text(BOTH.replace("KEYS", str(tmp_path)))
    said = house.said(now + 2 * HOUR)
    assert f"{ORG}: the key s={NEW} will sign for this, too\n" in said
    assert [order.name for order in orders(said)] == [ORG]
    assert house.states == {"old": "active", NEW: "generated"}
    house.said(now + 4 * HOUR)
    unless_signed_in_vain(house, zone, now + 4 * HOUR)
    zone.obey(said)
    published = now + 5 * HOUR
    assert house.said(published).startswith(f"{NAME}, {ORG}: published; it signs from ")
    house.said(published + HOUR + 1)
    assert house.states == {"old": "retiring", NEW: "active"}
    assert house.senders.read_text().count(f"s={NEW}") == 2
    unless_signed_in_vain(house, zone, published + HOUR + 1)


def test_the_wait_is_the_longest_of_all_domains(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    def keep_for_a_day(wire: bytes, transport: str) -> bytes:
        response = dns.message.from_wire(wire)
        response.answer[0].ttl = DAY
        return response.to_wire()

    zone.faults["old._domainkey.example.org"] = keep_for_a_day
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    house.senders.write_text(BOTH.replace("KEYS", str(tmp_path)))
    zone.obey(house.said(now))
    assert house.said(now + HOUR) == f"{NAME}, {ORG}: published; it signs from 2025-07-01 01:00 UTC on\n"


def test_a_domain_that_comes_while_the_maps_are_changed_is_not_signed_for_in_vain(
    keys: Keys, tmp_path: Path, zone: Zone
) -> None:
    """It comes after the run has read the map: while it waits for DNS."""
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")

    def edit(wire: bytes, transport: str) -> bytes:
        house.senders.write_text(BOTH.replace("KEYS", str(tmp_path)))
        return wire

    zone.faults[NAME] = edit
    done = house.rotate(now + 2 * HOUR)
    assert (done.status, done.stderr) == (78, "dkimpipe: KEYS/senders: changed at this moment\ntry again\n")
    assert house.senders.read_text() == BOTH.replace("KEYS", str(tmp_path))
    unless_signed_in_vain(house, zone, now + 2 * HOUR)
    assert [order.name for order in orders(house.said(now + 3 * HOUR))] == [ORG]


def test_an_entry_for_any_domain_keeps_the_new_key_waiting(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    senders = house.senders.read_text() + ONE.replace("example.com", ".").replace("KEYS", str(tmp_path))
    house.senders.write_text(senders)
    done = house.rotate(now + 2 * HOUR)
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {NAME}: cannot take the place of s=old: KEYS/senders, line 2: d=$keydomain of . "
        "depends on the sender: its records have no fixed name\n"
        "give it a d=, or a selector and a key of its own\n",
    )
    assert house.senders.read_text() == senders


def lose(path: Path, keys: Keys) -> None:
    path.unlink()


def replace(path: Path, keys: Keys) -> None:
    path.unlink()
    shutil.copy2(keys.path("rsa2048"), path)


@pytest.mark.parametrize("state", ["generated", "published"])
@pytest.mark.parametrize("change", [lose, replace])
def test_a_new_key_that_is_lost_or_another_by_now_never_signs(
    keys: Keys, tmp_path: Path, zone: Zone, change: Callable[[Path, Keys], None], state: str
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, state)
    change(tmp_path / f"example.com.{NEW}.pem", keys)
    assert house.said(now + 2 * HOUR) == (
        f"{NAME}: given up: its key is no longer in KEYS/example.com.{NEW}.pem\n"
    )
    assert house.senders.read_text() == ONE.replace("KEYS", str(tmp_path))
    (order,) = orders(house.said(now + 3 * HOUR))
    assert order.name == f"{NEW}r._domainkey.example.com"
    assert house.states == {"old": "active", NEW: "retiring", f"{NEW}r": "generated"}
    said = house.said(now + 40 * DAY)
    assert Order(NAME, "") in orders(said)
    zone.obey(said)
    assert f"{NAME}: revoked\n" in house.said(now + 41 * DAY)


def test_a_new_key_that_cannot_be_read_does_not_sign(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "published")
    (tmp_path / f"example.com.{NEW}.pem").chmod(0o444)
    done = house.rotate(now + 2 * HOUR)
    assert (done.status, done.stderr.splitlines()[0]) == (
        78,
        f"dkimpipe: key file KEYS/example.com.{NEW}.pem is readable by others (mode 0444)",
    )
    assert house.states == {"old": "active", NEW: "published"}


def test_a_record_of_a_key_that_signs_is_missed(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """For as long as it is so; and it comes back as soon as it may."""
    house = House(tmp_path, keys, BOTH, zone.look_at)
    there = zone.records.pop("old._domainkey.example.org")
    value = there[0].decode()
    for day in range(2):
        assert house.rotate(START + day * DAY) == Done(
            78,
            b"",
            "dkimpipe: old._domainkey.example.org: there is no such name (NXDOMAIN), "
            f'says 127.0.0.1#{zone.port}\npublish: old._domainkey.example.org. IN TXT ( "{value}" )\n',
        )
    zone.records["old._domainkey.example.org"] = there
    assert house.said(START + 3 * DAY) == ""


@needs_bind
def test_a_record_of_a_key_that_signs_is_put_back(keys: Keys, tmp_path: Path) -> None:
    with serving(tmp_path) as bind:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key")
        senders = ONE.replace("example.com", "dynamic.example")
        house = House(tmp_path, keys, senders, f"--look-at={bind.server}", *update)
        assert house.said(START) == "old._domainkey.dynamic.example: added\n"
        assert bind.dig("old._domainkey.dynamic.example") == [house.keys[0].value]
        assert house.said(START) == ""


def test_other_maps_do_not_retire_the_keys_of_these(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(START)
    before = (tmp_path / rotation.NAME).read_bytes()
    other = tmp_path / "other"
    other.write_text(f"example.org dkim(s=other,key={tmp_path}/rsa2048.pem)\n")
    assert house.rotate(START + DAY, f"--sender_map={other}") == Done(
        78,
        b"",
        "dkimpipe: KEYS/rotation.json is about KEYS/senders, too, which this run does not read\n"
        "--directory names another place for other maps; take one that is given up out of this file\n",
    )
    assert (tmp_path / rotation.NAME).read_bytes() == before
    assert house.said(START + DAY, f"--listid_map={other}") == ""  # one map more is none less


@pytest.mark.parametrize("left", ["", "# nothing but a comment\n", "example.com dkim\n"])
def test_an_emptied_map_retires_no_key(keys: Keys, tmp_path: Path, zone: Zone, left: str) -> None:
    conf = tmp_path / "conf"
    conf.write_text(f"selector other\nkeyfile {tmp_path}/rsa2048.pem\n")
    house = House(tmp_path, keys, ONE, zone.look_at, f"--conf_file={conf}")
    house.said(START)
    house.senders.write_text(left)
    assert house.rotate(START + DAY) == Done(
        78,
        b"",
        "dkimpipe: KEYS/senders: no signature any more, of those that were there\n"
        "if this is meant: rm KEYS/rotation.json\n",
    )
    assert house.states == {"old": "active"}


def test_the_file_that_another_selector_uses_is_not_said_to_be_of_no_use(
    keys: Keys, tmp_path: Path, zone: Zone
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(START)
    zone.records["two._domainkey.example.com"] = zone.records["old._domainkey.example.com"]
    house.senders.write_text(ONE.replace("s=old", "s=two").replace("KEYS", str(tmp_path)))
    house.said(START + DAY)
    zone.obey(house.said(START + 32 * DAY))
    assert house.said(START + 33 * DAY) == "old._domainkey.example.com: revoked\n"


# Records of the new key, right and wrong. Each begins where the new key waits for its time.

RECORDS = {name: sample for name, sample in SAMPLES.items() if sample.key == "rsa2048"}


class Waiting(NamedTuple):
    """A house whose new key waits, and what can be brought back after each step."""

    house: House
    zone: Zone
    value: bytes
    now: int
    files: dict[Path, bytes]

    def turn(self, records: list[bytes], now: int) -> tuple[str | None, Done]:
        """Run rotate with these records in DNS; return the state of the new key, and bring all back."""
        self.zone.records[NAME] = records
        done = self.house.rotate(now)
        state = self.house.states.get(NEW)
        assert (b"signs from now on" in done.stdout) == (state == "active")
        for path, octets in self.files.items():
            path.write_bytes(octets)
        return state, done


@pytest.fixture(scope="module", params=["generated", "published"])
def waiting(
    keys: Keys, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Waiting]:
    directory = tmp_path_factory.mktemp("waiting")
    zone = Zone({"old._domainkey.example.com": keys.records["rsa1024._domainkey.example.com"]})
    with zone:
        house = House(directory, keys, ONE, zone.look_at)
        now = at(house, zone, request.param)
        files = {path: path.read_bytes() for path in (house.senders, directory / rotation.NAME)}
        yield Waiting(house, zone, zone.records[NAME][0], now, files)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_verifiers_refuse_is_waited_for(waiting: Waiting, name: str) -> None:
    """As long as it is so: it is told each time, with the right one, and the old key goes on signing."""
    error = RECORDS[name].error
    was = waiting.house.states[NEW]
    state, done = waiting.turn(RECORDS[name].make(waiting.value), waiting.now + 2 * DAY)
    if not error:
        assert state == {"generated": "published", "published": "active"}[was]
        return
    assert state == "generated"
    assert f"{NAME}: {error}, says 127.0.0.1#{waiting.zone.port}\n" in done.stdout.decode()
    assert orders(done.stdout.decode()) == [Order(NAME, waiting.value.decode())]


def test_a_record_must_serve_all_that_will_sign(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """As check --dns has it: DomainKeys needs sha1, and t=s is in the way of i= below d=."""
    key = "s=old,key=KEYS/rsa1024.pem"
    senders = f"example.com dkim(i=@news.example.com,{key}), domainkeys({key})\n"
    house = House(tmp_path, keys, senders, zone.look_at)
    now = at(house, zone, "published")
    (right,) = zone.records[NAME]
    for tag, words in (
        (b"h=sha256", "h=sha256 does not allow sha1"),
        (b"t=s", "t=s does not allow i= in a subdomain of d="),
    ):
        zone.records[NAME] = [right.replace(b"; p=", b"; " + tag + b"; p=")]
        now += DAY
        assert f"{NAME}: {words}, says " in house.said(now)
        assert house.states == {"old": "active", NEW: "generated"}


TAKEN_BY = {
    "a comment behind it": b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=; <br>",
    "a type of key that we do not know": b"v=DKIM1; k=dsa; p=AAAA",
    "a byte order mark": b"\xef\xbb\xbfv=DKIM1; p=AAAA",
    "text": b"hello",
}


@pytest.mark.parametrize("text", TAKEN_BY.values(), ids=TAKEN_BY)
def test_a_selector_with_a_record_that_is_not_valid_is_not_free(
    keys: Keys, tmp_path: Path, zone: Zone, text: bytes
) -> None:
    zone.records[NAME] = [text]
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(BEGIN)
    assert set(house.states) == {"old", f"{NEW}r"}


@pytest.mark.parametrize("text", [b"v=spf1 -all", b"v=DKIM1; p="])
def test_a_selector_with_a_record_without_a_key_is_free(
    keys: Keys, tmp_path: Path, zone: Zone, text: bytes
) -> None:
    """As a wildcard may have it."""
    zone.records[NAME] = [text]
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(BEGIN)
    assert set(house.states) == {"old", NEW}


GOING = {name: SAMPLES[name] for name in ("<br> after ;", "p twice same", "bom8", "utf16", "v last", "bare")}


@pytest.mark.parametrize("name", GOING)
def test_a_record_of_an_old_key_is_not_gone_because_it_is_not_valid(
    keys: Keys, tmp_path: Path, zone: Zone, name: str
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    now = at(house, zone, "active")
    old = "old._domainkey.example.com"
    zone.records[old] = GOING[name].make(zone.records[old][0])
    said = house.said(now + 31 * DAY)
    assert orders(said) == [Order(old, "")]
    zone.obey(said)
    house.said(now + 32 * DAY)
    assert house.states == {"old": "revoked", NEW: "active"}


# Anything, in any order.


class Walk:
    """An administrator who edits his maps at will, but publishes what he adds and does what he is told."""

    def __init__(self, house: House, zone: Zone, chance: random.Random) -> None:
        self.house, self.zone, self.chance = house, zone, chance
        self.lines = {"a.example": ("old", f"{house.directory}/ed25519.pem")}
        self.zone.records = {"old._domainkey.a.example": [self._value("a.example")]}
        self._write()

    def _value(self, domain: str) -> bytes:
        return publickey.record_value(self.lines[domain][1]).encode()

    def _write(self) -> None:
        text = "".join(f"{domain} dkim(s={s},key={key})\n" for domain, (s, key) in self.lines.items())
        self.house.senders.write_text(text)

    def read(self) -> None:
        """See what the map says now."""
        found = re.findall(r"(\S+) dkim\(s=(\w+),key=(\S+)\)", self.house.senders.read_text())
        self.lines = {domain: (selector, key) for domain, selector, key in found}

    def add(self) -> None:
        """Give another domain the key of one that there is."""
        domain = f"d{self.chance.randrange(10**6)}.example"
        self.lines[domain] = self.chance.choice(list(self.lines.values()))
        self.zone.records[f"{self.lines[domain][0]}._domainkey.{domain}"] = [self._value(domain)]
        self._write()

    def remove(self) -> None:
        """Take a domain away, if it is not the last."""
        if len(self.lines) > 1:
            del self.lines[self.chance.choice(list(self.lines))]
            self._write()

    def go_back(self) -> None:
        """Let a domain have another key, if its record is there."""
        domain = self.chance.choice(list(self.lines))
        others = [
            key.pair
            for key in self.house.keys
            if key.value and Path(key.keyfile).exists() and publickey.record_value(key.keyfile) == key.value
            if self.zone.records.get(f"{key.selector}._domainkey.{domain}") == [key.value.encode()]
        ]
        if others:
            self.lines[domain] = self.chance.choice(others)
            self._write()

    def lose_a_new_key(self) -> None:
        """Remove or replace the file of a key that does not sign."""
        for key in self.house.keys:
            if key.state in rotation.WAITING and Path(key.keyfile).exists():
                Path(key.keyfile).unlink()
                if self.chance.random() < 0.5:
                    shutil.copy2(self.house.directory / "rsa1024.pem", key.keyfile)

    def lose_a_new_record(self) -> None:
        """Take a record of a key that does not sign out of DNS."""
        for key in self.house.keys:
            if key.state in rotation.WAITING:
                self.zone.records.pop(self.chance.choice(key.names), None)

    def forget(self) -> None:
        """Remove what rotate remembers."""
        (self.house.directory / rotation.NAME).unlink(missing_ok=True)

    def rest(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_every_signature_has_its_record(
    keys: Keys, tmp_path: Path, zone: Zone, seed: int
) -> None:
    chance = random.Random(seed)
    house = House(tmp_path, keys, "", zone.look_at, "--age=20d", "--keep=10d")
    walk = Walk(house, zone, chance)
    told: list[tuple[int, str]] = []
    on_their_way: list[tuple[int, bytes]] = []
    signed = 0
    for now in range(START, START + 120 * DAY, 2 * DAY):
        event = chance.choice(
            (Walk.add, Walk.remove, Walk.go_back, Walk.lose_a_new_key, Walk.lose_a_new_record)
            + (Walk.rest,) * 10
            + (Walk.forget,) * (seed % 4 == 0)
        )
        event(walk)
        done = house.rotate(now, *(["--now"] if chance.random() < 0.1 else []))
        assert "Traceback" not in done.stderr
        told.append((now + chance.choice((0, 2, 6)) * DAY, done.stdout.decode()))
        for _, said in [each for each in told if each[0] <= now]:
            still_said = [line for line in said.splitlines() if line in done.stdout.decode().splitlines()]
            zone.obey("\n".join(still_said))
        told = [each for each in told if each[0] > now]
        walk.read()
        on_their_way += [
            (now + days * DAY, house.sign(now, domain.encode())) for domain in walk.lines for days in (0, 4)
        ]
        for message in [message for at, message in on_their_way if at <= now]:
            known = {name: values[0] for name, values in zone.records.items()}
            (judged,) = in_memory.verify(message, Resolving(known=known), now)
            assert judged.word == "pass", (event, now, judged, house.keys, done)
            signed += 1
        on_their_way = [each for each in on_their_way if each[0] > now]
    assert signed > 60


# What is wrong, and is said.


def test_a_server_that_does_not_know_stops_one_key_and_no_other(
    keys: Keys, tmp_path: Path, zone: Zone
) -> None:
    zone.broken.add(NAME)
    other = "example.org dkim(s=other,key=KEYS/rsa2048.pem)\n"
    house = House(tmp_path, keys, ONE + other, zone.look_at)
    done = house.rotate(BEGIN)
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {NAME}: the server fails (SERVFAIL), says 127.0.0.1#{zone.port}\n",
    )
    assert [order.name for order in orders(done.stdout.decode())] == [f"{NEW}._domainkey.example.org"]


def test_a_wildcard_record_leaves_no_selector_free(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    class Everywhere(dict[str, list[bytes]]):
        def __contains__(self, name: object) -> bool:
            return True

        def __missing__(self, name: str) -> list[bytes]:
            return [b"v=DKIM1; p=AAAA"]

    zone.records = Everywhere(zone.records)
    house = House(tmp_path, keys, ONE, zone.look_at)
    done = house.rotate(BEGIN)
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {NEW}r19._domainkey.example.com: there is a key already\n"
        "is there a wildcard record in the zone?\n",
    )
    assert house.states == {"old": "active"}


def damage(house: House) -> None:
    (house.directory / rotation.NAME).write_text('{"keys": [{"state": "asleep"}]}')


FAULTS: dict[str, tuple[Callable[[House], object], list[str], str]] = {
    "senders": (
        lambda house: house.senders.write_text("example.com dkim(s=old\n"),
        [],
        "KEYS/senders, line 1: no closing parenthesis: 'dkim(s=old'\n",
    ),
    "key": (
        lambda house: (house.directory / "rsa1024.pem").chmod(0o644),
        [],
        "key file KEYS/rsa1024.pem is readable by others (mode 0644)\nchmod 0640 KEYS/rsa1024.pem",
    ),
    "state": (
        damage,
        [],
        "KEYS/rotation.json is damaged: Key.__init__() missing 4 required positional arguments: 'selector', "
        "'keyfile', 'names', and 'since'\n"
        "move it away: rotation begins anew, and records of keys that were retiring stay in DNS",
    ),
    "domain": (
        lambda house: None,
        ["example.net"],
        "KEYS/senders: no signature for example.net that can be rotated\n",
    ),
}


@pytest.mark.parametrize(("spoil", "arguments", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_told(
    keys: Keys,
    tmp_path: Path,
    zone: Zone,
    spoil: Callable[[House], object],
    arguments: list[str],
    message: str,
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    spoil(house)
    assert house.rotate(START, *arguments) == Done(78, b"", f"dkimpipe: {message}\n")


SPOILED: dict[str, object] = {
    "selector": 1,
    "keyfile": ["/k"],
    "names": "example.com",
    "state": "asleep",
    "since": 1e300,
    "value": "\x1b[2J",
    "wait": -1,
    "replaces": ["old"],
    "switching": "no",
    "\x1b[2J": 0,
}


@pytest.mark.parametrize(("field", "value"), SPOILED.items())
def test_a_state_of_odd_values_is_damaged(
    keys: Keys, tmp_path: Path, zone: Zone, field: str, value: object
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(START)
    path = tmp_path / rotation.NAME
    kept = json.loads(path.read_text())
    kept["keys"][0][field] = value
    path.write_text(json.dumps(kept))
    done = house.rotate(START)
    assert (done.status, done.stdout) == (78, b"")
    first, hint = done.stderr.splitlines()
    assert first.startswith("dkimpipe: KEYS/rotation.json is damaged: ")
    assert first.isprintable()
    assert hint.startswith("move it away: ")


def test_a_silent_server_does_not_hold_up_a_run(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys there are: three questions, then no more."""
    monkeypatch.setattr(lookup, "TIME_OUT", 0.2)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        entries = "".join(f"{n}.example.com dkim(s=old{n},key=KEYS/ed25519.pem)\n" for n in range(50))
        house = House(tmp_path, keys, entries, f"--look-at=127.0.0.1#{silent.getsockname()[1]}")
        begin = time.monotonic()
        done = house.rotate(BEGIN)
        assert time.monotonic() - begin < 5
    assert done.status == 78
    assert done.stderr.count("no answer within 0.2 s") == 3
    assert set(house.states.values()) == {"active"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_key_that_its_user_could_not_read_is_not_made() -> None:
    """Run without root's rights, it cannot give the new key the group of the old one."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        child = os.fork()
        if not child:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                atomic.create(directory / "mine", b"", 0o440, 65534, 65534)
                atomic.create(directory / "key", b"", 0o440, 65534, 12345)
            except PermissionError as error:
                status = error.filename != str(directory / "key")
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [path.name for path in directory.iterdir()] == ["mine"]


def test_a_full_disk_is_told_with_its_file(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            house.rotate(START)
        except OSError as error:
            os._exit(error.filename == str(tmp_path / rotation.NAME))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not (tmp_path / rotation.NAME).exists()
    assert house.said(START) == ""


def test_one_run_at_a_time(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    with rotation.lock(tmp_path):
        assert house.rotate(START).stderr == "dkimpipe: KEYS: another run is at work\n\n"


def command(*arguments: str) -> Done:
    """Run ``dkimpipe rotate ARGUMENTS`` as its users do."""
    done = subprocess.run([sys.executable, str(MAIN), "rotate", *arguments], capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--publish"], "--publish needs --server and --tsig"),
        (["--server=127.0.0.1"], "no --publish"),
        (["--age=soon"], "argument --age: soon is no time: 30d, 12h, or seconds"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert (done.status, done.stderr.splitlines()[-1]) == (64, f"dkimpipe rotate: {message}")


def test_the_command(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    arguments = [f"--directory={tmp_path}", f"--sender_map={house.senders}", zone.look_at]
    done = command(*arguments, "--age=100000d")
    assert done == Done(0, b"", "")
    assert json.loads((tmp_path / rotation.NAME).read_text()) == {
        "maps": [str(house.senders)],
        "keys": [
            {
                "selector": "old",
                "keyfile": f"{tmp_path}/rsa1024.pem",
                "names": ["old._domainkey.example.com"],
                "state": "active",
                "since": "2025-01-01T00:00:00Z",
                "value": keys.records["rsa1024._domainkey.example.com"][0].decode(),
                "wait": 0,
                "replaces": [],
                "switching": False,
            }
        ],
    }


@needs_bind
@pytest.mark.parametrize(("revoke", "left"), [((), []), (("--revoke",), ["v=DKIM1; k=rsa; p="])])
def test_the_end_of_a_record(keys: Keys, tmp_path: Path, revoke: tuple[str, ...], left: list[str]) -> None:
    with serving(tmp_path) as bind:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key", *revoke)
        senders = ONE.replace("example.com", "dynamic.example")
        house = House(tmp_path, keys, senders, f"--look-at={bind.server}", *update)
        old = "old._domainkey.dynamic.example"
        value = publickey.record_value(str(tmp_path / "rsa1024.pem"))
        obey(bind, Order(old, value))
        for days in (0, 2, 4):
            house.said(BEGIN + days * DAY)
        house.said(BEGIN + 41 * DAY)
        assert bind.dig(old) == left
        assert house.states == {"old": "revoked", NEW: "active"}


@needs_bind
def test_the_record_of_another_key_is_left_alone(keys: Keys, tmp_path: Path) -> None:
    """Somebody took the selector for a key that we do not know; one server has not noticed yet."""
    old = "old._domainkey.dynamic.example"
    value = publickey.record_value(
        str(tmp_path / shutil.copy2(keys.path("rsa1024"), tmp_path / "rsa1024.pem"))
    )
    late = Zone({old: [value.encode()], f"{NEW}._domainkey.dynamic.example": []})
    with serving(tmp_path) as bind, late:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key")
        house = House(tmp_path, keys, ONE.replace("example.com", "dynamic.example"), *update)
        obey(bind, Order(old, value))
        for days in (0, 2, 4):
            house.said(BEGIN + days * DAY, f"--look-at={bind.server}")
        assert house.states == {"old": "retiring", NEW: "active"}
        other = publickey.record_value(str(tmp_path / "rsa2048.pem"))
        obey(bind, Order(old, other))
        late.records[f"{NEW}._domainkey.dynamic.example"] = [house.keys[1].value.encode()]
        done = house.rotate(BEGIN + 40 * DAY, f"--look-at={bind.server}", late.look_at)
        assert (done.status, done.stderr) == (
            78,
            f"dkimpipe: {old} holds another key than the one that was there\nlook what it is for\n",
        )
        late.records[old] = [other.encode()]
        house.said(BEGIN + 41 * DAY, f"--look-at={bind.server}", late.look_at)
        assert house.states == {"old": "revoked", NEW: "active"}
        assert bind.dig(old) == [other]


ED25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
# What is at the name of a key that retires, with VALUE for its record; what is left, and what is said.
WITHDRAWN: dict[str, tuple[str, list[str] | None, str]] = {
    "a comment": ("VALUE; <br>", [], ""),
    "twice": ("VALUE; VALUE", [], ""),
    "and another key": (f"VALUE; {ED25519}", None, "a record that may be of another key"),
    "another key, a comment": (f"{ED25519}; <br>", None, "a record that may be of another key"),
}


@needs_bind
@pytest.mark.parametrize(("text", "left", "words"), WITHDRAWN.values(), ids=WITHDRAWN)
def test_only_our_key_is_withdrawn(
    keys: Keys, tmp_path: Path, text: str, left: list[str] | None, words: str
) -> None:
    with serving(tmp_path) as bind:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key")
        senders = ONE.replace("example.com", "dynamic.example")
        house = House(tmp_path, keys, senders, f"--look-at={bind.server}", *update)
        old = "old._domainkey.dynamic.example"
        value = publickey.record_value(str(tmp_path / "rsa1024.pem"))
        obey(bind, Order(old, value))
        for days in (0, 2, 4):
            house.said(BEGIN + days * DAY)
        there = text.replace("VALUE", value)
        obey(bind, Order(old, there))
        done = house.rotate(BEGIN + 40 * DAY)
        assert bind.dig(old) == ([there] if left is None else left)
        assert house.states == {"old": "retiring" if words else "revoked", NEW: "active"}
        error = f"dkimpipe: {old} holds {words} than the one that was there\nlook what it is for\n"
        assert (done.status, done.stderr) == ((78, error) if words else (0, ""))


# Killed at any moment.


def killed_at(number: int, house: House, now: int) -> bool:
    """Run it in a process that kills itself before its n-th operation on a file or the network."""
    child = os.fork()
    if not child:
        left = number

        def count(event: str, arguments: object) -> None:
            nonlocal left
            if event.startswith(("os.", "open", "socket.")):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        house.rotate(now)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@needs_bind
def test_a_killed_run_is_gone_on_with(keys: Keys, tmp_path: Path, report: Report) -> None:
    """At each step of a rotation: after a kill, and the next run, all is as if nobody had been killed."""
    times = (START + AGE, START + AGE + 3 * DAY, START + AGE + 40 * DAY)
    with serving(tmp_path) as bind:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key", "--ttl=60")
        look_at = f"--look-at={bind.server}"
        entry = "dynamic.example dkim(s=old,key=KEYS/ed25519.pem)\n"
        lists = tmp_path / "lists"
        lists.write_text(f"news.{entry}".replace("(", "(d=dynamic.example,").replace("KEYS", str(tmp_path)))
        house = House(tmp_path, keys, entry, look_at, f"--listid_map={lists}", *update)
        old = Order("old._domainkey.dynamic.example", publickey.record_value(str(tmp_path / "ed25519.pem")))
        obey(bind, old)
        kills = 0
        for number, now in enumerate(times):
            before, name = tmp_path / "before", f"{NEW}._domainkey.dynamic.example"
            there = bind.dig(name)
            snapshot(tmp_path, before)
            kill = 0
            killed = True
            while killed:
                restore(before, tmp_path)
                obey(bind, Order(name, there[0] if there else ""))
                obey(bind, old)
                kill += 1
                killed = killed_at(kill, house, now)
                signed = house.sign(now, b"dynamic.example")
                (verdict,) = witness.dkimpy_verdicts([signed], {}, witness.nameserver_dnsfunc(bind.port))
                assert verdict == ["pass"], (number, kill)
                house.said(now)
                assert house.states == STATES_AFTER[number], (number, kill)
                left = {path.name for path in tmp_path.glob("*.pem")}
                assert left == {"rsa1024.pem", "rsa2048.pem", "ed25519.pem", f"dynamic.example.{NEW}.pem"}
                assert list(tmp_path.glob(".*.pem.new")) == []
            kills += kill - 1
    report(f"rotation killed at {kills} places, and gone on with")
    assert kills > 40


STATES_AFTER = [
    {"old": "active", NEW: "published"},
    {"old": "retiring", NEW: "active"},
    {"old": "revoked", NEW: "active"},
]


def snapshot(directory: Path, to: Path) -> None:
    """Keep the files of a house."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    maps = (directory / "senders", directory / "lists")
    for path in (*directory.glob("*.pem"), *maps, *directory.glob(rotation.NAME)):
        shutil.copy2(path, to)


def restore(kept: Path, directory: Path) -> None:
    """Bring them back."""
    for path in (*directory.glob("*.pem"), *directory.glob(rotation.NAME)):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy2(path, directory)
