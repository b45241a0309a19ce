"""No fault on the filter's path loses a message, cuts it, or sends it unsigned: a part of all faults.

``make soak`` lets each system call fail, with each error that it can give.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import Keys, Report
from faults import EXPECTED, Place, outcome

STEP = 9


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_part_of_all_faults(tmp_path: Path, keys: Keys, report: Report) -> None:
    place = Place(tmp_path, keys)
    status, _, whole = place.run()
    assert (status, whole is not None) == (0, True)
    assert whole
    assert whole.startswith(b"DKIM-Signature: ")
    outcomes = {fault: outcome(place, fault, whole) for fault in list(place.faults())[::STEP]}
    assert {fault: word for fault, word in outcomes.items() if word not in EXPECTED} == {}
    counts = Counter(outcomes.values())
    report(f"{len(outcomes)} faults of system calls: {dict(counts)}")
    assert counts["deferred"] > 5
