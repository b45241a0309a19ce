"""How busy the machine is: with what is measured, and with all else.

Linux counts the CPU time of a control group exactly (``cpu.stat`` in cgroup-v2.rst), and the time that a
processor is idle. What is neither is the time of other programs. The other counts of proc(5) are samples, in
which a process that runs for less than a hundredth of a second at a time hardly shows.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple


class Load(NamedTuple):
    """CPU time in seconds since a clock began, and the share of the machine that others took, 0 to 1."""

    ours: float
    others: float


class Group:
    """A context manager: a control group of this process and all that it starts. It needs root."""

    def __enter__(self) -> Group:
        """Raise OSError if there are no control groups of version 2 here."""
        mounts = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
        own = re.search(r"^0::/(.*)", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        if not (mounts and own):
            raise OSError("no control groups of version 2")
        self._before = Path(mounts[1]) / own[1]
        self._group = self._before / f"dkimpipe-bench-{os.getpid()}"
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_: object) -> None:
        (self._before / "cgroup.procs").write_text(str(os.getpid()))
        for _attempt in range(100):  # until the last process that was started has gone
            if not (self._group / "cgroup.procs").read_text():
                self._group.rmdir()
                break
            time.sleep(0.05)

    def clock(self) -> Clock:
        """Return a clock that starts now."""
        return Clock(self._group / "cpu.stat")


class Clock:
    """It counts from the moment when it is made."""

    def __init__(self, stat: Path) -> None:
        self._stat = stat
        self._start = self._now()

    def load(self) -> Load:
        """Return what was used since."""
        wall, ours, idle = (now - start for now, start in zip(self._now(), self._start))
        cores = os.cpu_count() or 1
        return Load(ours, max(0.0, 1 - (idle + ours) / (wall * cores)))

    def _now(self) -> tuple[float, float, float]:
        ours = int(self._stat.read_text().split()[1]) / 1e6
        idle, waiting = map(int, Path("/proc/stat").read_text().split()[4:6])
        return time.perf_counter(), ours, (idle + waiting) / os.sysconf("SC_CLK_TCK")
