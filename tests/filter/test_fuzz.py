"""What fuzzing begins with, and mutants of it: no more comes of it than errors that the filter knows."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "soak"))
import targets

MUTANTS = 200


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_and_mutants(name: str) -> None:
    chance = random.Random(name)
    target = targets.TARGETS[name]
    for seed in target.seeds:
        targets.run(target, seed)
        for _ in range(MUTANTS):
            octets = bytearray(seed)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(octets) + 1)
                octets[at : at + chance.randrange(3)] = chance.choice(
                    (b"", b"\0", b"\n", b" ", b"\xff", b"(", b"=", b"a")
                )
            targets.run(target, bytes(octets))
