"""``dkimpipe rotate``: keys change while mail flows, and no signature is ever without its record."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query
import dns.rdatatype
import in_memory
import pytest
import witness
from bind import SOA, Bind, needs_bind, serving
from conftest import Done, Keys, Report
from nameserver import NameServer

from dkimpipe.admin import publish, record, rotate, rotation
from dkimpipe.admin.record import Record
from dkimpipe.errors import Trouble

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
                print(f"dkimpipe: {trouble}\n{trouble.mend}", file=sys.stderr)
        shown = [each.getvalue().replace(str(self.directory), "KEYS") for each in (out, err)]
        return Done(status, shown[0].encode(), shown[1])

    def said(self, now: int, *arguments: str) -> str:
        """Run it without trouble, and return what it says."""
        done = self.rotate(now, *arguments)
        assert (done.status, done.stderr) == (0, "")
        return done.stdout.decode()

    @property
    def keys(self) -> list[rotation.Key]:
        return rotation.load(self.directory)

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
            name, _, value = line.removeprefix("publish: ").partition('. IN TXT "')
            found.append(Order(name, value.rstrip('"')))
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
    with Zone(records) as server:
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
        f'publish: {name}. IN TXT "{value}"\n'
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
STEP = 12 * HOUR
TTL = DAY  # of answers that nothing is there, too
ON_ITS_WAY = 5 * DAY


def obey(bind: Bind, order: Order) -> None:
    """Change the zone of BIND."""
    server = publish.Server("127.0.0.1", bind.port, publish.read_tsig_key(f"{bind.directory}/good.key"))
    if order.value:
        publish.publish(server, [Record(*order)], TTL, "", replace=True)
    else:
        publish.delete(server, [Record(*order)], "", replace=True)


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
            obey(bind, Order(name, record.value(str(tmp_path / f"{kind}.pem"))))
        resolver = Resolver(bind.port)
        on_their_way: list[tuple[int, bytes]] = []
        told: list[tuple[int, Order]] = []
        verified = 0
        for now in range(START, START + 365 * DAY, STEP):
            resolver.now = now
            told += [(now + 3 * DAY, order) for order in orders(house.said(now))]
            while told and told[0][0] <= now:
                obey(bind, told.pop(0)[1])
            for name in {name for key in house.keys for name in key.names}:
                resolver.look_up(name)  # at the worst moment: before the record is there
            for domain in (b"dynamic.example", b"list.dynamic.example"):
                message = house.sign(now, domain)
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
    assert states.count("revoked") >= 6
    assert states.count("active") == 2


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
    times = (START + AGE, START + AGE + DAY, START + AGE + 40 * DAY)
    with serving(tmp_path) as bind:
        update = ("--publish", f"--server={bind.server}", f"--tsig={tmp_path}/good.key", "--ttl=60")
        look_at = f"--look-at={bind.server}"
        house = House(tmp_path, keys, "dynamic.example dkim(s=old,key=KEYS/ed25519.pem)\n", look_at, *update)
        old = Order("old._domainkey.dynamic.example", record.value(str(tmp_path / "ed25519.pem")))
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
    for path in (*directory.glob("*.pem"), directory / "senders", *directory.glob(rotation.NAME)):
        shutil.copy2(path, to)


def restore(kept: Path, directory: Path) -> None:
    """Bring them back."""
    for path in (*directory.glob("*.pem"), *directory.glob(rotation.NAME)):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy2(path, directory)
