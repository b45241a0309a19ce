"""Every system call of the filter fails, once, with each error that it can give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from conftest import Keys
from faults import EXPECTED, Place, outcome


def test_all_faults(tmp_path: Path, keys: Keys) -> None:
    place = Place(tmp_path, keys)
    whole = place.run()[2]
    assert whole
    counts: Counter[tuple[str, str]] = Counter()
    wrong = {}
    for fault in list(place.faults()):
        word = outcome(place, fault, whole)
        counts[fault.call, word] += 1
        if word not in EXPECTED:
            wrong[fault] = word
    print(f"\n{sum(counts.values())} faults of {len({call for call, _ in counts})} system calls")
    for (call, word), count in sorted(counts.items()):
        print(f"{call:15} {word:10} {count:4}")
    assert wrong == {}
