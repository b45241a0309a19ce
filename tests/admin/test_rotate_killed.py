"""``dkimpipe rotate`` killed at any moment."""

from __future__ import annotations

import random
from pathlib import Path

import witness
from bind import needs_bind, serving
from conftest import Keys, Report
from rolling import AGE, DAY, NEW, START, House, Order, killed_at, obey, restore, snapshot

from dkimpipe import publickey

PACE = 3  # a kill at every third place, from one of the first three on; at each in make soak


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
            kill = -random.randrange(PACE)
            killed = True
            while killed:
                restore(before, tmp_path)
                obey(bind, Order(name, there[0] if there else ""))
                obey(bind, old)
                kill += PACE
                killed = killed_at(kill, house, now)
                signed = house.sign(now, b"dynamic.example")
                (verdict,) = witness.dkimpy_verdicts([signed], {}, witness.nameserver_dnsfunc(bind.port))
                assert verdict == ["pass"], (number, kill)
                house.said(now)
                assert house.states == STATES_AFTER[number], (number, kill)
                left = {path.name for path in tmp_path.glob("*.pem")}
                assert left == {"rsa1024.pem", "rsa2048.pem", "ed25519.pem", f"dynamic.example.{NEW}.pem"}
                assert list(tmp_path.glob(".*.pem.new")) == []
            kills += max(0, kill - PACE)
    report(f"rotation killed at {kills} places, and gone on with")
    assert kills > 40


STATES_AFTER = [
    {"old": "active", NEW: "published"},
    {"old": "retiring", NEW: "active"},
    {"old": "revoked", NEW: "active"},
]
