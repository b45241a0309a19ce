"""``dkimpipe rotate`` killed at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import witness
from bind import needs_bind, serving
from conftest import Keys, Report
from rolling import AGE, DAY, NEW, START, House, Order, obey

from dkimpipe import publickey
from dkimpipe.admin.rotation import state as rotation

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
