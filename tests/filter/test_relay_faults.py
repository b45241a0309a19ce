"""No fault on the way to a relay, and no death, loses a message, cuts it, or sends it unsigned."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MESSAGE, Keys, Report
from faults import EXPECTED, RelayPlace, outcome
from listener import Listener

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Iterator[RelayPlace]:
    with Listener() as listener:
        yield RelayPlace(tmp_path, keys, listener)


def test_each_system_call_of_the_session_fails(place: RelayPlace, report: Report) -> None:
    status, _, whole = place.run()
    assert status == 0
    assert whole
    assert whole.startswith(b"DKIM-Signature: ")
    faults = list(place.faults())
    first = next(number for number, fault in enumerate(faults) if fault.call == "socket")
    outcomes = {fault: outcome(place, fault, whole) for fault in faults[first:]}
    assert {fault: word for fault, word in outcomes.items() if word not in EXPECTED} == {}
    counts = Counter(outcomes.values())
    report(f"{len(outcomes)} faults in the session with a relay: {dict(counts)}")
    assert counts["deferred"] > 40
    assert {fault.call for fault in outcomes} >= {"connect", "ioctl", "poll", "recvfrom", "sendto", "socket"}


LARGE = MESSAGE + b"0123456789abcde\n" * 40_000


NOT_HERE = ("exit_group", "getpid")  # the end itself; OpenSSL and syslog(3), not always as often


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_killed_at_each_system_call_of_the_session(
    place: RelayPlace, tmp_path: Path, message: bytes, report: Report
) -> None:
    """The listener has nothing then, or all of it."""
    place.strace(message=message)
    (whole,) = place.accepted()
    calls = re.findall(r"^\w+", (tmp_path / "trace").read_text(), re.MULTILINE)
    seen: Counter[str] = Counter()
    accepted = []
    for number, call in enumerate(calls):
        seen[call] += number > 0 or call != "execve"  # the first is strace's own
        if number < calls.index("socket") or (message is LARGE and call != "sendto") or call in NOT_HERE:
            continue
        kill = f"inject={call}:signal=SIGKILL:when={seen[call]}"
        done = place.strace("-e", f"trace={call}", "-e", kill, message=message)
        assert done.returncode == -9, (call, seen[call], done.stderr)
        accepted.append(place.accepted())
    assert [mails for mails in accepted if mails not in ([], [whole])] == []
    assert accepted.index([whole]) < len(accepted)
    assert accepted == sorted(accepted)  # nothing up to a certain call, and all of it after that
    report(
        f"killed at {len(accepted)} calls of the session: {accepted.count([whole])} times sent, else nothing"
    )
