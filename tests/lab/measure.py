"""What commands cost as whole processes, children included: in pairs, so that only ratios are compared.

Run as a program it starts one command and prints CPU seconds, peak memory in KiB, and wall time in seconds.
A process started by a large one inherits its parent's peak; this program is small.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """CPU and wall time in seconds, peak resident memory in KiB, of a command and its children."""

    cpu: float
    memory: int
    wall: float


def cost(command: Sequence[str], message: Path) -> Cost:
    """Run a command with a message on standard input; it must succeed."""
    with message.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-IS", __file__, *command],
            stdin=stdin,
            capture_output=True,
            check=True,
            timeout=300,
        )
    return Cost(*json.loads(done.stdout))


def ratio(command: Sequence[str], other: Sequence[str], message: Path, bar: float, pairs: int = 15) -> float:
    """Return how many times the CPU time of another command a command takes: the median of pairs.

    What is over the bar is measured again, twice at the most: a busy machine is not slow each time.
    """
    for each in (command, other):
        cost(each, message)
    for _ in range(3):
        median = statistics.median(
            cost(command, message).cpu / cost(other, message).cpu for _ in range(pairs)
        )
        if median <= bar:
            break
    return median


def main() -> None:
    """Run the command of the arguments, its output thrown away, and print what it cost."""
    null = os.open(os.devnull, os.O_WRONLY)
    silence = [(os.POSIX_SPAWN_DUP2, null, output) for output in (1, 2)]
    begin = time.perf_counter()
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silence)
    _, status, used = os.wait4(child, 0)
    print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss, time.perf_counter() - begin]))
    raise SystemExit(bool(status))


if __name__ == "__main__":
    main()
