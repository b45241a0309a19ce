"""5,000 messages of all sizes from 20 sessions, as many filters at once as the settings say."""

from __future__ import annotations

import os
import pwd
import random
from pathlib import Path

import mailstorm
from conftest import Keys

MESSAGES = int(os.environ.get("LOAD_MESSAGES", "5000"))
SIZES = (1_000, 2_000, 4_000, 8_000, 20_000, 60_000, 200_000, 1_000_000, 20_000_000)
WEIGHTS = (30, 20, 20, 10, 8, 6, 4, 1.8, 0.2)
TEMPORARY = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm")]


def files() -> set[Path]:
    """Return what the filter's user has in the directories for temporary files."""
    found = (path for directory in TEMPORARY for path in directory.iterdir())
    return {path for path in found if path.lstat().st_uid == pwd.getpwnam("nobody").pw_uid}


def test_all_arrive(keys: Keys) -> None:
    chance = random.Random(5)
    sizes = chance.choices(SIZES, WEIGHTS, k=MESSAGES)
    with mailstorm.storm(keys, sizes) as storm:
        there = files()

        def send() -> None:
            storm.submit_all(20)
            storm.run_dry(1800)

        mailstorm.while_running(storm.watch, 0.1, send)
        left = files() - there
        filters = [each for each in storm.postfix.processes() if each.name == "python3"]
        zombies = mailstorm.zombies()
        verdict = storm.verdict(keys)
    print(f"\n{MESSAGES} messages of {sum(sizes) >> 20} MiB: {verdict}")
    print(f"at most {storm.most['python3']} filters at once, {storm.most['memory']} MiB each")
    print(f"left: {len(filters)} filters, {len(zombies)} zombies, {len(left)} temporary files")
    assert set(verdict.values()) == {0}
    assert storm.most["python3"] <= 4
    assert storm.most["memory"] <= 40
    assert (filters, zombies, left) == ([], [], set())
