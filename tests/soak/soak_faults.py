"""Every system call of the filter fails, once, with each error that it can give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from conftest import Keys
from faults import EXPECTED, Place, RelayPlace, outcome
from listener import Listener


def test_all_faults(tmp_path: Path, keys: Keys) -> None:
    assert_all_faults(Place(tmp_path, keys))


def test_all_faults_with_a_relay(tmp_path: Path, keys: Keys) -> None:
    with Listener() as listener:
        assert_all_faults(RelayPlace(tmp_path, keys, listener))


def assert_all_faults(place: Place) -> None:
    """Let each system call fail with each error, print the counts, and see that nothing is lost."""
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
