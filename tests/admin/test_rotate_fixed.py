"""``dkimpipe rotate --selectors``: a few selectors that are used in turn, behind aliases (CNAME)."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import pytest
import throwaway
import witness
from bind import SOA, Bind, needs_bind, serving, tsig_key
from conftest import MAIN, Keys, Report
from panel import Panel
from recording import value
from rolling import (
    AGE,
    BEGIN,
    DAY,
    HOUR,
    NEW,
    START,
    TTL,
    House,
    Order,
    Resolver,
    Zone,
    killed_at,
    obey,
    orders,
    restore,
    snapshot,
)
from throwaway import Machine

from dkimpipe import publickey
from dkimpipe.admin.rotation import state as rotation

HOSTER = "keys.example"
FIXED = ("--selectors=a,b", f"--zone={HOSTER}")
ONE = "example.com dkim(s=a,key=KEYS/rsa1024.pem)\n"
A, B = "a._domainkey.example.com", "b._domainkey.example.com"
AT_A, AT_B = f"a.example.com.{HOSTER}", f"b.example.com.{HOSTER}"


@pytest.fixture
def zone(keys: Keys) -> Iterator[Zone]:
    """A server for all zones: the customer has published the aliases, the hoster the key that signs."""
    server = Zone({AT_A: [value(keys, "rsa1024").encode()]})
    server.aliases = {A: AT_A, B: AT_B}
    with server:
        yield server


# One key after another.


def test_the_way_of_a_selector(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    assert house.said(START + AGE - 1) == ""
    said = house.said(BEGIN)
    text = witness.record((tmp_path / f"example.com.b.{NEW}.pem").read_bytes()).decode()
    assert said == (
        f"{B}: a new key, KEYS/example.com.b.{NEW}.pem\n"
        f"{AT_B}: there is no such name (NXDOMAIN), according to 127.0.0.1#{zone.port}\n"
        f'hint: # publish: {AT_B}. IN TXT ( "{text[:255]}" "{text[255:]}" )\n'
    )
    zone.obey(said)
    assert house.said(BEGIN + DAY) == f"{B}: published; it will sign from 2025-07-01 01:00 UTC\n"
    assert house.said(BEGIN + DAY + HOUR) == ""
    signs = BEGIN + DAY + HOUR + 1
    assert house.said(signs) == f"{B}: signs from now on, replacing s=a\n"
    assert house.senders.read_text() == f"example.com dkim(s=b,key={tmp_path}/example.com.b.{NEW}.pem)\n"

    assert house.said(signs + 30 * DAY - 1) == ""
    said = house.said(signs + 30 * DAY)
    assert said == f"{AT_A}: delete this record from DNS: its key no longer signs\n"
    zone.obey(said)
    revoked = signs + 31 * DAY
    assert house.said(revoked) == f"{A}: revoked; its file is no longer needed: rm KEYS/rsa1024.pem\n"

    (tmp_path / "rsa1024.pem").unlink()  # and yet its selector is remembered
    assert house.said(revoked + 60) == ""
    assert house.said(revoked + HOUR, "--now") == (
        f"{B}: no selector is free: s=a is revoked since 2025-08-01 01:00 UTC, "
        "s=b is active since 2025-07-01 01:00 UTC\n"
    )
    assert house.said(revoked + HOUR + 1, "--now").startswith(
        f"{A}: a new key, KEYS/example.com.a.202508.pem\n{AT_A}: there is no such name (NXDOMAIN)"
    )
    assert [(key.selector, key.state, key.zone) for key in house.keys] == [
        ("b", "active", HOSTER),
        ("a", "generated", HOSTER),
    ]


@needs_bind
@pytest.mark.parametrize("revoke", [(), ("--revoke",)], ids=["deleted", "revoked"])
def test_a_selector_is_used_again_when_no_resolver_has_its_record(
    keys: Keys, tmp_path: Path, revoke: tuple[str, ...]
) -> None:
    """The record of a is kept for 10 days, and was cached for up to 2 days more."""
    with hosting(keys, tmp_path, *revoke) as (house, _):
        begin = START + 60 * DAY
        house.said(begin)
        house.said(begin + 3 * DAY)
        assert house.states == {"a": "retiring", "b": "active"}
        gone = begin + 13 * DAY
        house.said(gone - 1, "--now")
        assert house.states == {"a": "retiring", "b": "active"}
        said = house.said(gone, "--now")
        assert [(key.selector, key.state) for key in house.keys] == [("a", "revoked"), ("b", "active")]
        assert f"{NAME_A}: revoked" in said
        house.said(gone + TTL, "--now")
        assert len(house.keys) == 2
        said = house.said(gone + TTL + 1, "--now")
        assert f"{PLACE_A}: {'replaced' if revoke else 'added'}\n" in said
        assert [(key.selector, key.state) for key in house.keys][2:] == [("a", "published")]
        assert house.keys[2].wait == TTL


# The name server of the hoster takes updates; that of the customer knows nothing of the hoster's zone.

SHOP = "shop.customers.example"
NAME_A, NAME_B = f"a._domainkey.{SHOP}", f"b._domainkey.{SHOP}"
PLACE_A, PLACE_B = f"a.{SHOP}.dynamic.example", f"b.{SHOP}.dynamic.example"


def hosting(keys: Keys, directory: Path, *arguments: str, senders: str = "", negative: int = TTL) -> Hosting:
    """Return a house of a hoster; ``negative`` is how long it is remembered that nothing is there."""
    senders = senders or f"{SHOP} dkim(s=a,key=KEYS/rsa1024.pem)\n"
    return Hosting(keys, directory, arguments, senders, negative)


class Hosting:
    """A context manager: a house whose hoster has the zone dynamic.example, and BIND, which serves it."""

    def __init__(
        self, keys: Keys, directory: Path, arguments: tuple[str, ...], senders: str, negative: int
    ) -> None:
        zone_file = SOA.replace("$TTL 60", f"$TTL {negative}").replace("86400 60", f"86400 {negative}")
        self._serving = serving(directory, dynamic=zone_file)
        self._house = keys, senders, arguments
        self._directory = directory

    def __enter__(self) -> tuple[House, Bind]:
        bind = self._serving.__enter__()
        keys, senders, arguments = self._house
        update = ("--publish", f"--server={bind.server}", f"--tsig={self._directory}/good.key")
        house = House(
            self._directory,
            keys,
            senders,
            f"--look-at={bind.server}",
            *("--age=60d", "--keep=10d", f"--ttl={TTL}"),
            *("--selectors=a,b", "--zone=dynamic.example"),
            *(() if "by hand" in arguments else (*update, *arguments)),
        )
        for order in aliases(SHOP):
            obey(bind, order)
        obey(bind, Order(PLACE_A, publickey.record_value(f"{self._directory}/rsa1024.pem")))
        return house, bind

    def __exit__(self, *error: object) -> None:
        self._serving.__exit__(None, None, None)


def aliases(domain: str, selectors: str = "ab") -> list[Order]:
    """Return what a customer publishes once."""
    return [
        Order(f"{selector}._domainkey.{domain}", f"{selector}.{domain}.dynamic.example", "CNAME")
        for selector in selectors
    ]


@needs_bind
@pytest.mark.parametrize("longest", ["nothing", "the old record", "the alias", "that nothing is there"])
def test_what_is_cached_for_longest_is_waited_for(keys: Keys, tmp_path: Path, longest: str) -> None:
    times = {each: 3 * DAY if each == longest else 60 for each in ("the old record", "the alias")}
    negative = 3 * DAY if longest == "that nothing is there" else 60
    with hosting(keys, tmp_path, negative=negative) as (house, bind):
        for order in aliases(SHOP):
            obey(bind, order, times["the alias"])
        old = publickey.record_value(f"{tmp_path}/rsa1024.pem")
        obey(bind, Order(PLACE_A, old), times["the old record"])
        house.said(START + 60 * DAY)
        assert house.keys[1].state == "published"
        assert house.keys[1].wait == (HOUR if longest == "nothing" else 3 * DAY)


# Eight months with a new key every 30 days, and kills.

STEP = 2 * DAY  # between the runs; a day in make soak

LIST = "list.customers.example"
NEWCOMER = "new.customers.example"
MONTHS = (
    f"{SHOP} dkim(s=a,key=KEYS/rsa1024.pem), domainkeys(s=a,key=KEYS/rsa1024.pem),\n"
    "    dkim(s=b,key=KEYS/ed25519.pem)  # both\n"
    f"{LIST} dkim(s=a,key=KEYS/rsa1024.pem)\n"
)
ON_ITS_WAY = 5 * DAY


def a_customer_comes(house: House, bind: Bind, key: rotation.Key) -> None:
    """Somebody gives another domain the key that signs; its owner has published only one alias."""
    old, path = key.replaces
    obey(bind, Order(f"{old}.{NEWCOMER}.dynamic.example", publickey.record_value(path)))
    obey(bind, aliases(NEWCOMER, old)[0])
    house.senders.write_text(house.senders.read_text() + f"{NEWCOMER} dkim(s={old},key={path})\n")


def an_alias_is_lost(house: House, bind: Bind, key: rotation.Key) -> None:
    obey(bind, Order(key.names[0], "", "CNAME"))


def an_alias_is_wrong(house: House, bind: Bind, key: rotation.Key) -> None:
    obey(bind, Order(key.names[0], "elsewhere.customers.example", "CNAME"))


def its_key_is_lost(house: House, bind: Bind, key: rotation.Key) -> None:
    Path(key.keyfile).unlink()


@needs_bind
@pytest.mark.parametrize("by_hand", [False, True], ids=["published", "by hand"])
def test_eight_months(keys: Keys, tmp_path: Path, report: Report, by_hand: bool) -> None:
    """Each message verifies when it is sent and days later, though resolvers remember and runs are killed."""
    chance = random.Random(by_hand)
    arguments = ("by hand",) if by_hand else ()
    with hosting(keys, tmp_path, *arguments, senders=MONTHS) as (house, bind):
        house.arguments = (*(each.replace("=a,b", "=a,b,c") for each in house.arguments), "--age=30d")
        for order in (*aliases(SHOP, "c"), *aliases(LIST, "abc")):
            obey(bind, order)
        for name, kind in ((f"a.{LIST}", "rsa1024"), (f"b.{SHOP}", "ed25519")):
            text = publickey.record_value(str(tmp_path / f"{kind}.pem"))
            obey(bind, Order(f"{name}.dynamic.example", text))
        resolver = Resolver(bind.port)
        on_their_way: list[tuple[int, bytes]] = []
        told: list[tuple[int, Order]] = []
        domains = [SHOP, LIST]
        events = [a_customer_comes, an_alias_is_lost, its_key_is_lost, an_alias_is_wrong]
        disturbed: set[str] = set()
        verified = killed = 0
        used: set[tuple[str, str]] = set()
        for now in range(START, START + 240 * DAY, STEP):
            resolver.now = now
            for domain, selector in itertools.product(domains, "abc"):
                resolver.look_up(f"{selector}._domainkey.{domain}")  # at the worst moment: just before
            killed += killed_at(chance.randrange(1, 100), house, now)
            told += [(now + 3 * DAY, order) for order in orders(house.rotate(now).stdout.decode())]
            while told and told[0][0] <= now:
                obey(bind, told.pop(0)[1])
            for key in house.keys:
                used.add(key.pair)
                if key.state == "published" and not disturbed & {key.keyfile, key.replaces[1]} and events:
                    disturbed.add(key.keyfile)
                    events.pop(0)(house, bind, key)
                    domains = sorted({*domains, NEWCOMER} if not events[3:] else domains)
            for domain in domains:
                message = house.sign(now, domain.encode())
                on_their_way += [(now, message), (now + ON_ITS_WAY, message)]
            due = [message for at, message in on_their_way if at <= now]
            on_their_way = [(at, message) for at, message in on_their_way if at > now]
            verdicts = [
                each for message in witness.dkimpy_verdicts(due, {}, resolver.look_up) for each in message
            ]
            assert set(verdicts) == {"pass"}, (now, house.keys)
            verified += len(verdicts)
    most = max(sum(selector == each for selector, _ in used) for each in "abc")
    report(
        f"eight months of fixed selectors: {verified} signatures verified, {len(used)} keys, "
        f"{most} of one selector, {killed} runs killed"
    )
    assert not events
    assert len(used) >= 8
    assert most >= 3
    assert killed > 100 * DAY // STEP


# Killed at any moment, from the first step to the second use of a selector.

PACE = 3  # a kill at every third place, from one of the first three on; at each in make soak


@needs_bind
def test_a_killed_run_is_gone_on_with(keys: Keys, tmp_path: Path, report: Report) -> None:
    """After a kill and the next run, all is as if nobody had been killed; and all that is signed verifies."""
    begin = START + 60 * DAY
    times = [begin, begin + 3 * DAY, begin + 14 * DAY, begin + 63 * DAY, begin + 66 * DAY, begin + 80 * DAY]
    kept = tmp_path / "kept"
    kills = 0
    quick = f"{SHOP} dkim(s=a,key=KEYS/ed25519.pem)\n"  # a new RSA key takes longer than all else
    with hosting(keys, tmp_path, negative=60, senders=quick) as (house, bind):
        obey(bind, Order(PLACE_A, publickey.record_value(f"{tmp_path}/ed25519.pem")))
        for order in aliases(SHOP):
            obey(bind, order, 60)  # only the records are cached for long
        for number, now in enumerate(times):
            there = {place: bind.dig(place) for place in (PLACE_A, PLACE_B)}
            snapshot(tmp_path, kept)
            kill, killed = -random.randrange(PACE), True
            while killed:
                restore(kept, tmp_path)
                for place, texts in there.items():
                    obey(bind, Order(place, texts[0] if texts else ""))
                kill += PACE
                killed = killed_at(kill, house, now)
                (verdict,) = witness.dkimpy_verdicts(
                    [house.sign(now, SHOP.encode())], {}, Resolver(bind.port).look_up
                )
                assert verdict == ["pass"], (number, kill)
                house.said(now)
                assert [(key.selector, key.state) for key in house.keys] == STATES_AFTER[number], kill
                assert list(tmp_path.glob(".*.pem.new")) == []
                assert all(key.wait == TTL for key in house.keys if key.state == "revoked"), kill
            kills += max(0, kill - PACE)
    report(f"rotation of fixed selectors killed at {kills} places, and gone on with")
    assert kills > 80


FIRST, SECOND, THIRD = "a", "b", "a"
STATES_AFTER = [
    [(FIRST, "active"), (SECOND, "published")],
    [(FIRST, "retiring"), (SECOND, "active")],
    [(FIRST, "revoked"), (SECOND, "active")],
    [(FIRST, "revoked"), (SECOND, "active"), (THIRD, "published")],
    [(FIRST, "revoked"), (SECOND, "retiring"), (THIRD, "active")],
    [(FIRST, "revoked"), (SECOND, "revoked"), (THIRD, "active")],
]


# What a customer's zone must have before a key signs, on every server.


def without(house: House, zone: Zone) -> None:
    del zone.aliases[B]


def elsewhere(house: House, zone: Zone) -> None:
    zone.aliases[B] = "b.elsewhere.example"


def nowhere(house: House, zone: Zone) -> None:
    zone.aliases[B] = A  # of the key that signs


def a_copy(house: House, zone: Zone) -> None:
    zone.records[B] = zone.records.get(AT_B, [b"v=DKIM1; p="])
    del zone.aliases[B]


def nothing_of_this_type(house: House, zone: Zone) -> None:
    zone.records[B] = []
    del zone.aliases[B]


def a_failure(house: House, zone: Zone) -> None:
    zone.broken.add(B)
    del zone.aliases[B]


CNAME = f"hint: # publish: {B}. IN CNAME {AT_B}.\n"
# What the customer does, and what is said, before the server; the hint.
CUSTOMERS: dict[str, tuple[Callable[[House, Zone], None], str, str]] = {
    "no alias": (without, "there is no such name (NXDOMAIN)", CNAME),
    "another alias": (
        elsewhere,
        f"it is an alias (CNAME) of b.elsewhere.example, not of {AT_B}",
        CNAME,
    ),
    "an alias of the other selector": (
        nowhere,
        f"it is an alias (CNAME) of {AT_A}, not of {AT_B}",
        CNAME,
    ),
    "a copy of the record": (a_copy, "it has a TXT record, and is not an alias (CNAME)", CNAME),
    "an empty name": (nothing_of_this_type, "the name exists, but has no TXT record", CNAME),
    "a server that fails": (
        a_failure,
        "the server failed (SERVFAIL)",
        "hint: # check that 127.0.0.1 answers on port PORT, over UDP and TCP\n",
    ),
}


@pytest.mark.parametrize("state", ["generated", "published"])
@pytest.mark.parametrize(("do", "words", "hint"), CUSTOMERS.values(), ids=CUSTOMERS)
def test_a_customer_without_the_alias_keeps_the_old_key(
    keys: Keys,
    tmp_path: Path,
    zone: Zone,
    do: Callable[[House, Zone], None],
    words: str,
    hint: str,
    state: str,
) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    now = BEGIN
    zone.obey(house.said(now))
    if state == "published":
        house.said(now + 1)
    assert [key.state for key in house.keys] == ["active", state]
    do(house, zone)
    for later in (3 * HOUR, 30 * DAY):
        said = house.said(now + later)
        expected = f"{B}: {words}, according to 127.0.0.1#{zone.port}\n{hint}"
        assert said == expected.replace("PORT", str(zone.port))
        assert [key.state for key in house.keys] == ["active", "generated"]
    assert house.senders.read_text() == ONE.replace("KEYS", str(tmp_path))
    zone.records.pop(B, None)
    zone.broken.clear()
    zone.aliases[B] = AT_B
    assert f"{B}: published; " in house.said(now + 31 * DAY)
    house.said(now + 32 * DAY)
    assert [key.state for key in house.keys] == ["retiring", "active"]


def test_an_alias_may_lead_through_another(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    zone.aliases.update({B: "b.example.com", "b.example.com": AT_B.upper()})
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    zone.obey(house.said(BEGIN))
    assert house.said(BEGIN + 1).startswith(f"{B}: published; ")


RESOLVER = """
options {{
    directory "/srv"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; lock-file none;
    recursion yes; session-keyfile "/srv/session"; dnssec-validation no; empty-zones-enable no; notify no;
}};
controls {{ }};
zone "example.com" {{ type static-stub; server-addresses {{ 127.0.0.2; }}; }};
zone "keys.example" {{ type static-stub; server-addresses {{ 127.0.0.4; }}; }};
"""
AUTHORITATIVE = """
options {{
    directory "/srv"; listen-on {{ {0}; }}; listen-on-v6 {{ none; }}; pid-file none; lock-file none;
    recursion no; session-keyfile "/srv/session.{0}"; dnssec-validation no; empty-zones-enable no; notify no;
}};
controls {{ }};
include "/srv/good.key";
zone "{1}" {{ type primary; file "zone.{0}"; update-policy {{ grant good subdomain {1} ANY; }}; }};
"""
OF_CUSTOMER = """\
$TTL 1
@ IN SOA ns1 h 1 3600 600 86400 1
@ IN NS ns1
@ IN NS ns2
ns1 IN A 127.0.0.2
ns2 IN A 127.0.0.3
"""
OF_HOSTER = "$TTL 1\n@ IN SOA ns h 1 3600 600 86400 1\n@ IN NS ns\nns IN A 127.0.0.4\n"


@needs_bind
@pytest.mark.skipif(bool(throwaway.why_not()), reason="no copy of this machine")
def test_each_name_server_of_the_customer_must_have_the_alias(keys: Keys, tmp_path: Path) -> None:
    """They do not know the zone of the hoster; the resolver knows both."""
    House(tmp_path, keys, ONE)
    (tmp_path / "rsa1024.pem").touch()
    key = tsig_key(tmp_path, "good", "good", b"x" * 32)
    files = {
        "resolver": RESOLVER.format(),
        "zone.127.0.0.2": OF_CUSTOMER,
        "zone.127.0.0.3": OF_CUSTOMER,
        "zone.127.0.0.4": OF_HOSTER,
        "127.0.0.2": AUTHORITATIVE.format("127.0.0.2", "example.com"),
        "127.0.0.3": AUTHORITATIVE.format("127.0.0.3", "example.com"),
        "127.0.0.4": AUTHORITATIVE.format("127.0.0.4", "keys.example"),
        "good.key": key.read_text(),
    }
    rotate = [
        *(sys.executable, str(MAIN), "rotate", f"--sender_map={tmp_path}/senders", *FIXED),
        *(f"--directory={tmp_path}", "--publish", "--server=127.0.0.4", f"--tsig={key}", "--ttl=1"),
    ]
    with Machine(network=True) as machine:

        def add(address: str, name: str, target: str) -> None:
            """Add an alias at one server of the customer; no resolver has an older answer."""
            text = f"server {address}\nupdate add {name}. 1 CNAME {target}.\nsend\n"
            done = machine.run("nsupdate", "-k", "/srv/good.key", stdin=text)
            assert (done.status, done.stderr) == (0, "")
            time.sleep(1.1)

        for name, text in files.items():
            (machine.root / "srv" / name).write_text(text)
        (machine.root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        machine.shell(
            "for i in 2 3 4; do ip address add 127.0.0.$i/32 dev lo; named -c /srv/127.0.0.$i; done"
        )
        machine.shell("named -c /srv/resolver")
        add("127.0.0.2", A, AT_A)
        add("127.0.0.3", A, AT_A)
        machine.run(*rotate)
        time.sleep(1.1)
        assert machine.run(*rotate) == (0, "", "")  # the record of the key that signs is there

        machine.run(*rotate, "--now")
        time.sleep(1.1)
        missing = "there is no such name (NXDOMAIN), according to"
        assert machine.run(*rotate) == (
            0,
            f"{B}: {missing} the resolver, ns1.example.com (127.0.0.2) and ns2.example.com (127.0.0.3)\n"
            f"{CNAME}",
            "",
        )
        add("127.0.0.2", B, AT_B)
        said = f"{B}: {missing} ns2.example.com (127.0.0.3)\n{CNAME}"
        assert machine.run(*rotate) == (0, said, "")
        add("127.0.0.3", B, "elsewhere.example.com")
        said = f"{B}: it is an alias (CNAME) of elsewhere.example.com, not of {AT_B}, according to"
        assert machine.run(*rotate).stdout == f"{said} ns2.example.com (127.0.0.3)\n{CNAME}"
        text = f"server 127.0.0.3\nupdate delete {B}. CNAME\nsend\n"
        assert machine.run("nsupdate", "-k", "/srv/good.key", stdin=text).status == 0
        add("127.0.0.3", B, AT_B)
        assert machine.run(*rotate).stdout.startswith(f"{B}: published; it will sign from ")


# Several domains, several keys.


def test_one_key_for_several_domains_waits_for_all_their_aliases(
    keys: Keys, tmp_path: Path, zone: Zone
) -> None:
    org = ONE.replace("example.com", "example.org")
    zone.aliases["a._domainkey.example.org"] = f"a.example.org.{HOSTER}"
    zone.records[f"a.example.org.{HOSTER}"] = zone.records[AT_A]
    house = House(tmp_path, keys, ONE + org, zone.look_at, *FIXED)
    said = house.said(BEGIN)
    assert [order.name for order in orders(said)] == [
        AT_B,
        f"b.example.org.{HOSTER}",
        "b._domainkey.example.org",
    ]
    for order in orders(said):
        if order.type == "TXT":
            zone.records[order.name] = [order.value.encode()]
    said = house.said(BEGIN + DAY)
    assert orders(said) == [Order("b._domainkey.example.org", f"b.example.org.{HOSTER}", "CNAME")]
    assert [key.state for key in house.keys] == ["active", "generated"]
    zone.obey(said)
    house.said(BEGIN + 2 * DAY)
    house.said(BEGIN + 3 * DAY)
    new = f"dkim(s=b,key={tmp_path}/example.com.b.{NEW}.pem)\n"
    assert house.senders.read_text() == f"example.com {new}example.org {new}"


def test_a_key_file_for_each_domain(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """Then nobody waits for the aliases of others."""
    zone.aliases["a._domainkey.example.org"] = f"a.example.org.{HOSTER}"
    zone.records[f"a.example.org.{HOSTER}"] = [value(keys, "rsa2048").encode()]
    house = House(tmp_path, keys, f"{ONE}example.org dkim(s=a,key=KEYS/rsa2048.pem)\n", zone.look_at, *FIXED)
    said = house.said(BEGIN)
    for order in orders(said):
        if order.type == "TXT":
            zone.records[order.name] = [order.value.encode()]
    house.said(BEGIN + DAY)
    house.said(BEGIN + 2 * DAY)
    assert house.senders.read_text() == (
        f"example.com dkim(s=b,key={tmp_path}/example.com.b.{NEW}.pem)\n"
        f"example.org dkim(s=a,key={tmp_path}/rsa2048.pem)\n"
    )


TWO_KEYS = "example.com dkim(s=a,key=KEYS/rsa1024.pem), dkim(s=b,key=KEYS/ed25519.pem)\n"


def test_two_keys_and_two_selectors(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """None can ever become free."""
    zone.records[AT_B] = [value(keys, "ed25519").encode()]
    house = House(tmp_path, keys, TWO_KEYS, zone.look_at, *FIXED)
    since = "is active since 2025-01-01 00:00 UTC"
    done = house.rotate(BEGIN)
    assert (done.status, done.stdout.decode()) == (78, "")
    assert done.stderr == (
        f"dkimpipe: {A}: no selector is free: s=a {since}, s=b {since}\n"
        "hint: # name one more selector, or delete records that no signature needs\n"
        f"dkimpipe: {B}: no selector is free: s=a {since}, s=b {since}\n"
        "hint: # name one more selector, or delete records that no signature needs\n"
    )


def test_two_keys_and_three_selectors(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """One key waits, silently, until the selector of the other is free again."""
    zone.records[AT_B] = [value(keys, "ed25519").encode()]
    zone.aliases["c._domainkey.example.com"] = f"c.example.com.{HOSTER}"
    where = (zone.look_at, f"--zone={HOSTER}", "--selectors=a,b,c")
    house = House(tmp_path, keys, TWO_KEYS, *where)
    for day in range(40):
        zone.obey(house.said(BEGIN + day * DAY))
    made = [(key.selector, key.state) for key in house.keys]
    assert made == [("a", "revoked"), ("b", "retiring"), ("c", "active"), ("a", "active")]


# What is not as it was.


def leave_a_record(house: House, zone: Zone) -> None:
    (house.directory / rotation.NAME).unlink()
    zone.records[AT_B] = [b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]


def take_the_selector(house: House, zone: Zone) -> None:
    del zone.aliases[B]
    zone.records[B] = [b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]


@pytest.mark.parametrize(("do", "place"), [(leave_a_record, AT_B), (take_the_selector, B)])
def test_a_selector_with_a_key_that_is_not_ours(
    keys: Keys, tmp_path: Path, zone: Zone, do: Callable[[House, Zone], None], place: str
) -> None:
    """The state was lost, or the customer gave the selector to somebody else."""
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    house.said(START)
    do(house, zone)
    done = house.rotate(BEGIN)
    assert (done.status, done.stdout.decode(), done.stderr) == (
        78,
        "",
        f"dkimpipe: {A}: no selector is free: s=a is active since 2025-01-01 00:00 UTC, "
        f"s=b has a key at {place} that is not in rotation\n"
        "hint: # name one more selector, or delete records that no signature needs\n",
    )


def test_a_domain_that_moves_to_another_key(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """The next key needs a name that still has the record of the domain's former key, for mail in transit."""
    org = {each: f"{each}.example.org.{HOSTER}" for each in "ab"}
    zone.aliases.update({f"{each}._domainkey.example.org": target for each, target in org.items()})
    zone.records[org["b"]] = [value(keys, "rsa2048").encode()]
    house = House(tmp_path, keys, f"{ONE}example.org dkim(s=b,key=KEYS/rsa2048.pem)\n", zone.look_at, *FIXED)
    os.utime(tmp_path / "rsa2048.pem", (BEGIN, BEGIN))  # it is not due
    zone.obey(house.said(BEGIN))
    zone.records[org["a"]] = zone.records[AT_A]
    house.senders.write_text((ONE + ONE.replace("com", "org")).replace("KEYS", str(tmp_path)))
    now = BEGIN + HOUR
    said = house.said(now)
    assert "b._domainkey.example.org: the key s=b will also sign for this\n" in said
    assert [(key.selector, key.state) for key in house.keys] == [
        ("a", "active"),
        ("b", "retiring"),
        ("b", "generated"),
    ]
    assert "the key does not match the private key" in house.said(now + 29 * DAY)
    said = house.said(now + 30 * DAY)
    assert f"{org['b']}: delete this record from DNS: its key no longer signs\n" in said
    del zone.records[org["b"]]
    zone.obey("\n".join(line for line in house.said(now + 31 * DAY).splitlines() if "publish" in line))
    house.said(now + 32 * DAY)
    house.said(now + 33 * DAY)
    assert [(key.selector, key.state) for key in house.keys] == [
        ("a", "retiring"),
        ("b", "revoked"),
        ("b", "active"),
    ]
    assert house.senders.read_text().count("s=b") == 2


def test_a_copy_of_the_record_that_signs_is_reported(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """It verifies, but the next key would not."""
    zone.records[A] = zone.records[AT_A]
    del zone.aliases[A]
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    done = house.rotate(START)
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {A}: it has a TXT record, and is not an alias (CNAME), "
        f"according to 127.0.0.1#{zone.port}\n"
        f"hint: # publish: {A}. IN CNAME {AT_A}.\n",
    )
    assert house.states == {"a": "active"}


@needs_bind
def test_from_selectors_with_a_date(keys: Keys, tmp_path: Path) -> None:
    """Only the zone of the hoster is changed; the old record is for its owner to delete."""
    old = f"old._domainkey.{SHOP}"
    with hosting(keys, tmp_path, senders=f"{SHOP} dkim(s=old,key=KEYS/rsa2048.pem)\n") as (house, bind):
        text = publickey.record_value(f"{tmp_path}/rsa2048.pem")
        obey(bind, Order(old, text))
        obey(bind, Order(PLACE_A, ""))
        fixed = house.arguments
        house.arguments = fixed[:1]
        assert house.said(START) == ""
        house.arguments = fixed
        begin = START + 60 * DAY
        assert f"{PLACE_A}: added\n" in house.said(begin)
        house.said(begin + 3 * DAY)
        assert [(key.selector, key.state, key.zone) for key in house.keys] == [
            ("old", "retiring", ""),
            ("a", "active", "dynamic.example"),
        ]
        told = f"{old}: delete this record from DNS: its key no longer signs\n"
        assert house.said(begin + 13 * DAY) == told
        assert bind.dig(old) == [text]
        obey(bind, Order(old, ""))
        assert house.said(begin + 14 * DAY).startswith(f"{old}: revoked")


@needs_bind
def test_a_record_of_a_key_that_signs_is_put_back(keys: Keys, tmp_path: Path) -> None:
    with hosting(keys, tmp_path) as (house, bind):
        obey(bind, Order(PLACE_A, ""))
        assert house.said(START) == f"{PLACE_A}: added\n"
        assert house.said(START) == ""


def test_a_program_changes_the_zone(keys: Keys, tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    panel.aliases = {A: AT_A, B: AT_B}
    panel.set({AT_A: [value(keys, "rsa1024")]})
    with panel:
        house = House(tmp_path, keys, ONE, panel.look_at, *FIXED, f"--publish-command={panel.command}")
        for days in (0, 1, 40):
            house.said(BEGIN + days * DAY)
        calls = panel.calls()
        assert [call[:2] for call in calls] == [("add", AT_B), ("delete", AT_A)]
        assert {str(call.description["zone"]) for call in calls} == {HOSTER}
        assert list(panel.zone) == [AT_B]


# What is kept.


def test_the_file_of_an_earlier_version(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """It has no zone: the keys of fixed selectors get theirs, all others have none."""
    plain = House(tmp_path, keys, ONE + "example.org dkim(s=x,key=KEYS/ed25519.pem)\n", zone.look_at)
    plain.rotate(START)
    assert "zone" not in (tmp_path / rotation.NAME).read_text()
    house = House(tmp_path, keys, ONE + "example.org dkim(s=x,key=KEYS/ed25519.pem)\n", zone.look_at, *FIXED)
    house.rotate(START + DAY)
    assert [(key.selector, key.zone) for key in house.keys] == [("a", HOSTER), ("x", "")]
    saved = json.loads((tmp_path / rotation.NAME).read_text())["keys"]
    assert [each.get("zone") for each in saved] == [HOSTER, None]


@pytest.mark.parametrize("value", [5, "a b", "..", "\x1b"])
def test_a_zone_that_is_none(keys: Keys, tmp_path: Path, zone: Zone, value: object) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    house.said(START)
    path = tmp_path / rotation.NAME
    saved = json.loads(path.read_text())
    saved["keys"][0]["zone"] = value
    path.write_text(json.dumps(saved))
    done = house.rotate(START)
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.startswith("dkimpipe: KEYS/rotation.json is damaged: ")


def test_another_zone_asks_for_other_aliases(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """The record of the key that signs stays where it is, and is withdrawn from there."""
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    house.said(START)
    house.arguments = (zone.look_at, "--selectors=a,b", "--zone=new.example")
    said = house.said(BEGIN)
    assert f"hint: # publish: {B}. IN CNAME b.example.com.new.example.\n" in said
    zone.obey(said)
    house.said(BEGIN + DAY)
    house.said(BEGIN + 2 * DAY)
    assert orders(house.said(BEGIN + 40 * DAY)) == [Order(AT_A, "")]


def test_key_files_of_one_month(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """A selector has many keys, each with a file of its own, which is never replaced."""
    (tmp_path / f"example.com.b.{NEW}.pem").touch()
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    assert f"{B}: a new key, KEYS/example.com.b.{NEW}-2.pem\n" in house.said(BEGIN)
    assert (tmp_path / f"example.com.b.{NEW}.pem").read_bytes() == b""


def test_a_key_that_is_lost_keeps_its_selector_for_its_time(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    zone.obey(house.said(BEGIN))
    house.said(BEGIN + 1)
    (tmp_path / f"example.com.b.{NEW}.pem").unlink()
    assert "given up" in house.said(BEGIN + 2 * HOUR)
    assert house.said(BEGIN + DAY) == ""
    zone.obey(house.said(BEGIN + 31 * DAY))
    assert house.said(BEGIN + 32 * DAY) == f"{B}: revoked\n"
    assert [(key.selector, key.state) for key in house.keys] == [("a", "active"), ("b", "revoked")]
    assert f"{B}: a new key, KEYS/example.com.b.202508.pem\n" in house.said(BEGIN + 33 * DAY)
    assert house.senders.read_text() == ONE.replace("KEYS", str(tmp_path))


def test_a_dry_run(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    house.said(START)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert house.said(BEGIN, "--dry-run") == (
        f"active     since 2025-01-01 00:00 UTC: {A}, KEYS/rsa1024.pem\n"
        f"{B}: a new key, KEYS/example.com.b.{NEW}.pem\n"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_alias_that_was_cached_for_long_is_waited_for(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """A wrong one is replaced while the key waits for it: a resolver may have it for a day."""

    def keep_for_a_day(wire: bytes, transport: str) -> bytes:
        response = dns.message.from_wire(wire)
        response.answer[0].ttl = DAY
        return response.to_wire()

    house = House(tmp_path, keys, ONE, zone.look_at, *FIXED)
    zone.obey(house.said(BEGIN))
    zone.aliases[B] = "elsewhere.example"
    zone.faults[B] = keep_for_a_day
    house.said(BEGIN + HOUR)
    zone.aliases[B] = AT_B
    del zone.faults[B]
    assert house.said(BEGIN + 2 * HOUR) == f"{B}: published; it will sign from 2025-07-01 02:00 UTC\n"
