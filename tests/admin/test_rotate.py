"""``dkimpipe rotate``: a key from its birth to its end, half a year of them, and what can come between."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import pytest
import witness
from bind import SOA, Bind, needs_bind, serving
from conftest import Done, Keys, Report
from rolling import (
    AGE,
    BEGIN,
    DAY,
    HOUR,
    NAME,
    NEW,
    ONE,
    START,
    TTL,
    House,
    Order,
    Resolver,
    Zone,
    at,
    obey,
    orders,
)

from dkimpipe import publickey
from dkimpipe.admin.rotation import state as rotation
from dkimpipe.keys import read_key

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
        f"{name}: there is no such name (NXDOMAIN), according to 127.0.0.1#{zone.port}\n"
        f'hint: # publish: {name}. IN TXT ( "{value[:255]}" "{value[255:]}" )\n'
    )
    assert house.states == {"old": "active", NEW: "generated"}
    assert house.said(begun + DAY) == "".join(said.splitlines(keepends=True)[1:])

    zone.obey(said)
    assert house.said(begun + 2 * DAY) == f"{name}: published; it will sign from 2025-07-02 01:00 UTC\n"
    assert house.states == {"old": "active", NEW: "published"}
    assert house.said(begun + 2 * DAY + HOUR) == ""

    signs = begun + 2 * DAY + HOUR + 1
    assert house.said(signs) == f"{name}: signs from now on, replacing s=old\n"
    assert house.senders.read_text() == f"example.com dkim(s={NEW},key={tmp_path}/example.com.{NEW}.pem)\n"
    assert house.states == {"old": "retiring", NEW: "active"}

    assert house.said(signs + 30 * DAY - 1) == ""
    said = house.said(signs + 30 * DAY)
    assert said == "old._domainkey.example.com: delete this record from DNS: its key no longer signs\n"
    assert house.said(signs + 31 * DAY) == said
    zone.obey(said)
    assert house.said(signs + 32 * DAY) == (
        "old._domainkey.example.com: revoked; its file is no longer needed: rm KEYS/rsa1024.pem\n"
    )
    assert house.states == {"old": "revoked", NEW: "active"}
    (tmp_path / "rsa1024.pem").unlink()
    assert house.said(signs + 33 * DAY) == ""
    assert house.states == {NEW: "active"}


# Half a year, with a new key every 30 days.


HALF_A_YEAR = (
    "dynamic.example dkim(s=old,key=KEYS/rsa1024.pem), domainkeys(s=old,key=KEYS/rsa1024.pem),\n"
    "    dkim(s=olde,key=KEYS/ed25519.pem)  # both\n"
    "list.dynamic.example dkim(s=old,key=KEYS/rsa1024.pem)\n"
)
STEP = 2 * DAY  # between the runs; a day in make soak
ON_ITS_WAY = 5 * DAY


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
def test_half_a_year(keys: Keys, tmp_path: Path, report: Report, by_hand: bool) -> None:
    """Every message verifies when it is sent, and when it arrives days later, though resolvers remember."""
    zone_file = SOA.replace("$TTL 60", f"$TTL {TTL}").replace("86400 60", f"86400 {TTL}")
    with serving(tmp_path, dynamic=zone_file) as bind:
        update = ["--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key", f"--ttl={TTL}"]
        where = [f"--look-at={bind.server}", "--age=30d", "--keep=10d", *([] if by_hand else update)]
        house = House(tmp_path, keys, HALF_A_YEAR, *where)
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
        for now in range(START, START + 183 * DAY, STEP):
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
    report(f"half a year of rotation: {verified} signatures verified, {states.count('revoked')} keys revoked")
    assert not events
    assert states.count("revoked") >= 6
    assert states.count("active") == 2


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
            f"{NAME}: there is no such name (NXDOMAIN), according to 127.0.0.1#{late.port}"
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
        "old._domainkey.example.com: active since 2025-01-01 00:00 UTC, in the future; reset to now\n"
        f"{NAME}: published since 2025-06-30 00:00 UTC, in the future; reset to now\n"
        f"{NAME}: published; it will sign from 2024-09-03 01:00 UTC\n"
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
        f"{NAME}: no longer signs; its records are kept until 2025-07-31 02:00 UTC\n"
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
        f"according to 127.0.0.1#{zone.port}\n"
        f'hint: # publish: old._domainkey.example.com. IN TXT ( "{value}" )\n',
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
    assert f"{ORG}: the key s={NEW} will also sign for this\n" in said
    assert [order.name for order in orders(said)] == [ORG]
    assert house.states == {"old": "active", NEW: "generated"}
    house.said(now + 4 * HOUR)
    unless_signed_in_vain(house, zone, now + 4 * HOUR)
    zone.obey(said)
    published = now + 5 * HOUR
    assert house.said(published).startswith(f"{NAME}, {ORG}: published; it will sign from ")
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
    assert house.said(now + HOUR) == f"{NAME}, {ORG}: published; it will sign from 2025-07-01 01:00 UTC\n"


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
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: KEYS/senders: changed in the meantime\nhint: # try again\n",
    )
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
        f"dkimpipe: {NAME}: cannot replace s=old: KEYS/senders, line 2: d=$keydomain of . "
        "depends on the sender: its records have no fixed name\n"
        "hint: # give it a d=, or a separate selector and key\n",
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
            f"according to 127.0.0.1#{zone.port}\n"
            f'hint: # publish: old._domainkey.example.org. IN TXT ( "{value}" )\n',
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
        "dkimpipe: KEYS/rotation.json also covers KEYS/senders, which this run does not read\n"
        "use another --directory for other maps; remove a map that is no longer used from this file\n",
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
        "dkimpipe: KEYS/senders: all signatures are gone\nif this is intended: rm KEYS/rotation.json\n",
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
