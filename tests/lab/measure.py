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


NOWHERE = Path(os.devnull)


def cost(command: Sequence[str], message: Path, outputs: tuple[Path, Path] = (NOWHERE, NOWHERE)) -> Cost:
    """Run a command with a message on standard input; it must succeed.

    ``outputs``  the files that get standard output and standard error
    """
    with message.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-IS", __file__, *map(str, outputs), *command],
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
    """Run the command of the arguments, after the files that get its output, and print what it cost."""
    outputs, command = sys.argv[1:3], sys.argv[3:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, at, path, flags, 0o600) for at, path in enumerate(outputs, 1)]
    begin = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, used = os.wait4(child, 0)
    print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss, time.perf_counter() - begin]))
    raise SystemExit(bool(status))


if __name__ == "__main__":
    main()
