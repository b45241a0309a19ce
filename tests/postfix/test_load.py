"""Many messages at once, and processes killed: none is lost, cut or unsigned. ``make soak`` has more."""

from __future__ import annotations

import os
import random
import shutil
import time

import mailstorm
import pytest
from conftest import Keys, Report

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("postconf"), reason="needs Postfix, and root for it"
)

GOOD = {"missing": 0, "cut": 0, "unsigned": 0, "invalid": 0}


def test_processes_that_are_killed_lose_nothing(keys: Keys, report: Report) -> None:
    chance = random.Random(4)
    with mailstorm.storm(keys, [1000] * 30 + [200_000] * 10) as storm:
        storm.submit_all(4)
        mailstorm.while_running(lambda: storm.kill(chance), 0.03, lambda: time.sleep(3))
        storm.run_dry(60)
        verdict = storm.verdict(keys)
    surplus = verdict.pop("surplus")
    report(f"40 messages, killed {dict(storm.kills)}: {verdict}, {surplus} doubled")
    assert verdict == GOOD
    assert surplus <= sum(storm.kills.values())
    assert sum(storm.kills.values()) > 2


def test_many_at_once(keys: Keys, report: Report) -> None:
    with mailstorm.storm(keys, [1000] * 50 + [300_000] * 9 + [5_000_000]) as storm:

        def send() -> None:
            storm.submit_all(20)
            storm.run_dry(60)

        mailstorm.while_running(storm.watch, 0.02, send)
        verdict = storm.verdict(keys)
    report(f"60 messages in 20 sessions: {verdict}, at most {storm.most['python3']} filters at once")
    assert verdict == {**GOOD, "surplus": 0}
    assert 0 < storm.most["python3"] <= 4
    assert storm.most["memory"] <= 40
