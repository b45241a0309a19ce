"""dkimpipe rotate with a clock and name servers of a test's own."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.update
import in_memory
import pytest
from bind import Bind
from conftest import Done, Keys
from nameserver import NameServer

from dkimpipe.admin.dns.formats import quoted
from dkimpipe.admin.dns.update import read_tsig_key
from dkimpipe.admin.rotation import state as rotation
from dkimpipe.admin.verbs import rotate
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
    type: str = "TXT"


def orders(said: str) -> list[Order]:
    """Return what an administrator is told to do."""
    found = []
    for line in said.splitlines():
        if line.startswith("hint: # publish: "):
            name, _, kind, data = line.removeprefix("hint: # publish: ").split(" ", 3)
            text = "".join(re.findall(r'"([^"]*)"', data)) if kind == "TXT" else data[:-1]
            found.append(Order(name[:-1], text, kind))
        elif "delete this record from DNS" in line:
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
            if order.type == "CNAME":
                self.aliases[order.name] = order.value
            elif order.value:
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
TTL = 2 * DAY  # of answers that nothing is there, too


def obey(bind: Bind, order: Order, ttl: int = TTL) -> None:
    """Change the zone of BIND."""
    key = read_tsig_key(f"{bind.directory}/good.key")
    name = dns.name.from_text(order.name)
    update = dns.update.UpdateMessage(name.split(3)[1], keyring=key)  # it may be an alias by now
    update.delete(name, *([] if order.type == "CNAME" else [order.type]))
    if order.value:
        text = quoted(order.value) if order.type == "TXT" else f"{order.value}."
        update.add(name, ttl, order.type, text)
    assert dns.query.udp(update, "127.0.0.1", 5, bind.port).rcode() == dns.rcode.NOERROR


class Resolver:
    """A resolver that keeps answers as long as it may, also that nothing is there; ``now`` is its clock.

    Each link of a chain of aliases is kept for its own time.
    """

    def __init__(self, port: int) -> None:
        self.now = 0
        self._port = port
        self._kept: dict[str, tuple[int, str, bytes | None]] = {}

    def look_up(self, name: bytes | str, timeout: float = 5) -> bytes | None:
        """Return the TXT record of a name."""
        text = (name.decode() if isinstance(name, bytes) else name).rstrip(".")
        for _ in range(8):
            until, alias, value = self._kept.get(text, (0, "", None))
            if until <= self.now:
                until, alias, value = self._ask(text)
                self._kept[text] = until, alias, value
            if not alias:
                return value
            text = alias
        return None

    def _ask(self, text: str) -> tuple[int, str, bytes | None]:
        query = dns.message.make_query(text, "TXT")
        response, _ = dns.query.udp_with_fallback(query, "127.0.0.1", 5, self._port)
        for each in response.answer:
            if each.name == dns.name.from_text(text):
                alias = str(each[0].target).rstrip(".") if each.rdtype == dns.rdatatype.CNAME else ""
                value = None if alias else b"".join(each[0].strings)
                return self.now + each.ttl, alias, value
        return self.now + response.authority[0].ttl, "", None


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


def snapshot(directory: Path, to: Path) -> None:
    """Keep the files of a house."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    maps = (path for path in (directory / "senders", directory / "lists") if path.exists())
    for path in (*directory.glob("*.pem"), *maps, *directory.glob(rotation.NAME)):
        shutil.copy2(path, to)


def restore(kept: Path, directory: Path) -> None:
    """Bring them back."""
    for path in (*directory.glob("*.pem"), *directory.glob(rotation.NAME)):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy2(path, directory)


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
