"""``dkimpipe rotate``: records that verifiers refuse; anything in any order; each error by its message."""

from __future__ import annotations

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

import forked
import in_memory
import pytest
from bind import needs_bind, serving
from conftest import MAIN, Done, Keys
from nameserver import NO_EDNS
from records import PRIVATE, SAMPLES, warnings
from rolling import BEGIN, DAY, HOUR, NAME, NEW, ONE, START, House, Order, Zone, at, obey, orders

from dkimpipe import publickey
from dkimpipe.admin import atomic
from dkimpipe.admin.dns import lookup
from dkimpipe.admin.rotation import state as rotation
from dkimpipe.verify.resolver import Resolver as Resolving

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
def test_a_record_that_is_not_exactly_right_is_waited_for(waiting: Waiting, name: str) -> None:
    """As long as it is so: it is told each time, with the right one, and the old key goes on signing."""
    error = RECORDS[name].words(waiting.value)
    faults = [error] if error else warnings(name)
    was = waiting.house.states[NEW]
    state, done = waiting.turn(RECORDS[name].make(waiting.value), waiting.now + 2 * DAY)
    if not faults:
        assert state == {"generated": "published", "published": "active"}[was]
        return
    assert state == "generated"
    at_server = f"according to 127.0.0.1#{waiting.zone.port}\n"
    assert done.stdout.decode().startswith("".join(f"{NAME}: {what}, {at_server}" for what in faults))
    if error == PRIVATE:
        assert done.stdout.decode().endswith(f"hint: # {ANOTHER}:\nhint: rm KEYS/example.com.{NEW}.pem\n")
    else:
        assert orders(done.stdout.decode()) == [Order(NAME, waiting.value.decode())]


ANOTHER = "the next runs choose another key"


def test_a_private_key_that_was_published_never_signs(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """The hint, run by sh(1): another key is chosen, and signs."""
    house = House(tmp_path, keys, ONE, zone.look_at)
    house.said(BEGIN)
    octets = Path(house.keys[-1].keyfile).read_bytes()
    zone.records[NAME] = [b"v=DKIM1; k=rsa; p=" + b"".join(octets.split(b"\n")[1:-2])]
    hints = [line[6:] for line in house.said(BEGIN + HOUR).splitlines() if line.startswith("hint: ")]
    subprocess.run(["sh", "-ec", "\n".join(hints).replace("KEYS", str(tmp_path))], check=True)
    assert "given up" in house.said(BEGIN + 2 * HOUR)
    for hours in (3, 4, 6):
        zone.obey(house.said(BEGIN + hours * HOUR))
    assert house.states == {"old": "retiring", NEW: "retiring", f"{NEW}r": "active"}


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
        assert f"{NAME}: {words}, according to " in house.said(now)
        assert house.states == {"old": "active", NEW: "generated"}


def test_a_server_without_edns(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    zone.edns_fault = NO_EDNS["FORMERR"]
    at(House(tmp_path, keys, ONE, zone.look_at), zone, "active")


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
def test_whatever_is_done_outcomes_has_its_record(keys: Keys, tmp_path: Path, zone: Zone, seed: int) -> None:
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
        for message in [message for when, message in on_their_way if when <= now]:
            known = {name: values[0] for name, values in zone.records.items()}
            (judged,) = in_memory.verify(message, Resolving(known=known), now)
            assert judged.result == "pass", (event, now, judged, house.keys, done)
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
        f"dkimpipe: {NAME}: the server failed (SERVFAIL), according to 127.0.0.1#{zone.port}\n",
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
        f"dkimpipe: {NEW}r19._domainkey.example.com: a key already exists\n"
        "hint: # check for a wildcard record in the zone\n",
    )
    assert house.states == {"old": "active"}


@pytest.mark.parametrize("state", ["active", "generated"])
def test_an_entry_that_never_signs_gets_no_new_key(
    keys: Keys, tmp_path: Path, zone: Zone, state: str
) -> None:
    """Not even a record for one that it has already got; other keys go on."""
    other = "example.org dkim(s=other,key=KEYS/rsa2048.pem)\n"
    house = House(tmp_path, keys, ONE + other, zone.look_at)
    if state == "generated":
        house.said(BEGIN)
    wrong = house.senders.read_text().replace("example.com", "@example.com", 1)
    house.senders.write_text(wrong)
    done = house.rotate(BEGIN)
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: KEYS/senders, line 1: no address matches @example.com\n"
        "hint: # *@example.com matches this domain alone; example.com matches its subdomains, too\n",
    )
    assert [order.name for order in orders(done.stdout.decode())] == [f"{NEW}._domainkey.example.org"]


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
        "key file KEYS/rsa1024.pem is readable by others (mode 0644)\nhint: chmod 0640 KEYS/rsa1024.pem",
    ),
    "state": (
        damage,
        [],
        "KEYS/rotation.json is damaged: Key.__init__() missing 4 required positional arguments: 'selector', "
        "'keyfile', 'names', and 'since'\n"
        "move it away: rotation starts over, and records of keys that were retiring stay in DNS",
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
        assert house.rotate(START).stderr == "dkimpipe: KEYS: another run is in progress\n\n"


def command(*arguments: str) -> Done:
    """Run ``dkimpipe rotate ARGUMENTS`` as its users do."""
    done = subprocess.run([sys.executable, str(MAIN), "rotate", *arguments], capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--publish"], "--publish needs --server and --tsig, or --publish-command"),
        (["--server=127.0.0.1"], "--server and --tsig require --publish"),
        (["--zone=example.com"], "--zone requires --publish"),
        (["--revoke"], "--revoke requires --publish"),
        (["--selectors=a,b"], "--selectors requires --zone"),
        (
            ["--publish-command=x", "--server=127.0.0.1"],
            "--server and --tsig, or --publish-command, not both",
        ),
        (
            ["--publish-command=./x"],
            "argument --publish-command: './x' is not an absolute path, nor a name in "
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        (["--selectors=a"], "argument --selectors: 'a' are not two or more different selectors: such as a,b"),
        (
            ["--selectors=a,A"],
            "argument --selectors: 'a,A' are not two or more different selectors: such as a,b",
        ),
        (["--selectors=a,b.c"], "argument --selectors: 'b.c' is not a valid selector: one label"),
        (["--selectors=a,"], "argument --selectors: '' is not a valid selector: one label"),
        (["--age=soon"], "argument --age: invalid duration soon (use 30d, 12h or seconds)"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = forked.run("rotate", *arguments)
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
            f"dkimpipe: {old} holds a different key from the one that was there\n"
            "hint: # check what it is for\n",
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
    "and another key": (f"VALUE; {ED25519}", None, "a record that may be for a different key"),
    "another key, a comment": (f"{ED25519}; <br>", None, "a record that may be for a different key"),
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
        error = f"dkimpipe: {old} holds {words} from the one that was there\nhint: # check what it is for\n"
        assert (done.status, done.stderr) == ((78, error) if words else (0, ""))
