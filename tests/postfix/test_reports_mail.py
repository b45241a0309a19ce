"""A simulated month: mail that a real Postfix signed, receivers that report it, and what cron(8) prints.

Three domains sign. Each message is verified once for each way that it takes and each state of DNS. The month
repeats that day by day, with a clock of its own: reports about the day before are stored, then cron(8) runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import in_memory
import pytest
from conftest import Keys, copy_program, settled
from nameserver import NameServer
from relaying import PYTHON
from reporting import DAY, MONDAY, Flow, packed, report

from dkimpipe.admin.verbs import reports
from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver
from postfix import Postfix, Sink, shared_directory

DOMAINS = {"example.com": "rsa2048", "example.net": "ed25519", "example.org": "rsa1024"}
MESSAGE = (
    b"From: Alice <alice@%b>\r\nTo: bob@receiver.test\r\nSubject: hello\r\n"
    b"Date: Mon, 02 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@%b>\r\n\r\nHello, Bob.\r\n"
)
RECEIVERS = ("google.com", "Yahoo", "Enterprise Outlook")
OURS, KEEPS, ALUMNI, LIST, FORGER = (
    "192.0.2.1",
    "198.51.100.7",
    "198.51.100.20",
    "198.51.100.30",
    "203.0.113.5",
)
# Whose mail a server may send, by SPF.
AUTHORIZED = {OURS: set(DOMAINS), KEEPS: {"keeps.test"}, ALUMNI: {"alumni.test"}, LIST: {"list.test"}}
DAYS = 28
KEY_MISSING, ALUMNI_FROM, LIST_FROM, FORGED = 20, 12, 9, (5, 6)


class World:
    """What reaches the receivers, and what they find: the mail that Postfix signed, and DNS."""

    def __init__(self, signed: dict[str, bytes], keys: Keys, server: NameServer) -> None:
        self._signed = signed
        self._server = server
        self._verified: dict[tuple[bytes, bool], list[tuple[str, str, str]]] = {}
        entry = f"example.com dkim(d=list.test,s=l,key={keys.path('rsa2048')})\n"
        self._list = f"--sender_map={settled(keys.senders(entry, 'list'))}"
        server.records["l._domainkey.list.test"] = keys.records["rsa2048._domainkey.example.com"]

    def results(self, octets: bytes, key_is_missing: bool) -> list[tuple[str, str, str]]:
        """Return domain, selector and result of each signature."""
        found = self._verified.get((octets, key_is_missing))
        if found is None:
            name = "s1._domainkey.example.net"
            kept = self._server.records.pop(name) if key_is_missing else None
            resolver = Resolver(Server(self._server.address, self._server.port))
            judged = in_memory.verify(octets, resolver, 1_800_000_000)
            if kept:
                self._server.records[name] = kept
            found = [
                (each.signature.domain.decode(), each.signature.selector.decode(), each.result)
                for each in judged
                if each.signature
            ]
            self._verified[octets, key_is_missing] = found
        return found

    def flow(self, ip: str, count: int, domain: str, sender: str, octets: bytes, missing: bool) -> Flow:
        """Return what a receiver reports of messages."""
        spf = "pass" if sender in AUTHORIZED.get(ip, ()) else "fail"
        is_aligned = spf == "pass" and sender == domain
        return Flow(ip, count, domain, self.results(octets, missing), (sender, spf), is_aligned)

    def flows(self, domain: str, receiver: str, day: int) -> Iterator[Flow]:
        """Yield what a receiver gets in the name of a domain on a day."""
        octets = self._signed[domain]
        missing = domain == "example.net" and day == KEY_MISSING
        yield self.flow(OURS, 14 if missing else 100, domain, domain, octets, missing)
        yield self.flow(KEEPS, 5, domain, "keeps.test", octets, missing)
        yield self.flow(KEEPS, 1, domain, domain, octets, missing)  # without SRS
        if domain == "example.com" and day >= ALUMNI_FROM and day % 2:
            altered = octets.replace(b"Hello, Bob.", b"Hello, Bob.\r\nVirus-free.")
            yield self.flow(ALUMNI, 2, domain, "alumni.test", altered, missing)
        if domain == "example.com" and day >= LIST_FROM and receiver == "google.com":
            altered = (
                octets.replace(b"Subject: hello", b"Subject: [list] hello") + b"-- \r\nlist@list.test\r\n"
            )
            yield self.flow(LIST, 1, domain, "list.test", in_memory.sign(altered, self._list), missing)
        if domain == "example.org" and day in FORGED:
            yield self.flow(FORGER, 40, domain, domain, MESSAGE % ((domain.encode(),) * 2), missing)
            stolen = octets.replace(b"s=s1", b"s=x1").replace(b"Hello, Bob.", b"Buy!")
            yield self.flow(FORGER, 1, domain, domain, stolen, missing)


@pytest.fixture(scope="module")
def world(keys: Keys) -> Iterator[World]:
    """Mail of three domains as it leaves a Postfix that signs."""
    records = {
        f"s1._domainkey.{domain}": keys.records[f"{kind}._domainkey.example.com"]
        for domain, kind in DOMAINS.items()
    }
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(shared_directory())
        main = copy_program(directory)
        senders = directory / "senders"
        for kind in DOMAINS.values():
            shutil.copyfile(keys.path(kind), directory / f"{kind}.pem")
            shutil.chown(directory / f"{kind}.pem", "nobody")
            (directory / f"{kind}.pem").chmod(0o400)
        senders.write_text(
            "".join(f"{domain} dkim(s=s1,key={directory}/{kind}.pem)\n" for domain, kind in DOMAINS.items())
        )
        settled(senders)
        (directory / "conf").touch()
        sink = stack.enter_context(Sink())
        argv = [PYTHON, "-IS", str(main), f"--conf_file={directory}/conf", f"--sender_map={senders}"]
        (directory / "postfix").mkdir(mode=0o755)
        postfix = stack.enter_context(Postfix(directory / "postfix", argv, sink.port))
        for domain in DOMAINS:
            name = domain.encode()
            postfix.submit(f"alice@{domain}", ["bob@receiver.test"], MESSAGE % (name, name))
        arrived = sink.wait(len(DOMAINS))
        server = stack.enter_context(NameServer(records))
        signed = {each.sender.partition("@")[2]: each.data for each in arrived}
        yield World(signed, keys, server)


class Clock(NamedTuple):
    """``dkimpipe reports`` at a time."""

    database: Path
    now: int

    def run(self, *arguments: object) -> str:
        """Return what it prints, without hints."""
        parser = argparse.ArgumentParser()
        reports.add_arguments(parser)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            words = ["--database", str(self.database), *map(str, arguments)]
            status = reports.report(parser.parse_args(words), self.now)
        lines = [line for line in out.getvalue().splitlines(keepends=True) if not line.startswith("hint: ")]
        assert status == (78 if any(": error: " in line for line in lines) else 0)
        return "".join(lines).replace("dkimpipe: ", "")


def test_a_month(world: World, tmp_path: Path) -> None:
    said = {}
    for day in range(1, DAYS + 1):
        begin = MONDAY + (day - 1) * DAY
        box = tmp_path / f"{day}.mbox"
        mails = [
            packed(report(list(world.flows(domain, receiver, day)), receiver, domain, begin))
            for receiver in RECEIVERS
            for domain in DOMAINS
        ]
        box.write_bytes(b"".join(b"From x\n" + each + b"\n" for each in mails))
        clock = Clock(tmp_path / "reports.db", begin + DAY + DAY // 4)
        clock.run("--store", box)
        if output := clock.run("--cron"):
            said[day] = output
        assert clock.run("--cron") == ""
    assert said == SAID


# Mail of day 1, Monday 2026-11-02, is reported on Tuesday. A warning is repeated after a week.
ALTERED = "warning: example.com: {} altered by {}, a mailing list or forwarder, since {}; reported by {}\n"
EVERYWHERE = "google.com, Yahoo, Enterprise Outlook"
FAILED = "20 of 2,034"  # 14 that we sent, and 6 forwarded
SAID = {
    5: "warning: example.org: 123 messages forged since Friday, from 1 address;"
    " 123 of them delivered (p=none)\n",
    9: ALTERED.format("1 message", "list.test", "Tuesday", "google.com"),
    13: ALTERED.format("6 messages", "alumni.test", "Saturday", EVERYWHERE),
    16: ALTERED.format("8 messages", "list.test", "2026-11-10", "google.com"),
    20: f"error: selector s1 of example.net failed at google.com: {FAILED}, Yahoo: {FAILED},"
    f" Enterprise Outlook: {FAILED} since Saturday (permerror)\n",
    21: ALTERED.format("30 messages", "alumni.test", "2026-11-14", EVERYWHERE),
    23: ALTERED.format("15 messages", "list.test", "2026-11-10", "google.com"),
}


def test_what_postfix_sent_is_valid(world: World) -> None:
    """The month begins with mail that is signed, and that receivers find signed."""
    for domain in DOMAINS:
        (flow, *_) = world.flows(domain, "Yahoo", 1)
        assert list(flow.dkim) == [(domain, "s1", "pass")]
