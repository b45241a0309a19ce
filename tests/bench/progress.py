"""Where the benchmark is: one line on standard error, and at the end what each part took."""

from __future__ import annotations

import sys
import time


class Progress:
    """Called with what comes next, it shows that behind the part and the time since the beginning."""

    def __init__(self) -> None:
        self._begin = self._part_begin = time.monotonic()
        self._part = ""
        self.took: dict[str, float] = {}  # seconds, by part

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            line = f"bench: {_clock(time.monotonic() - self._begin)} {self._part}: {text}"
            print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)

    def part(self, name: str) -> None:
        """Begin a part, and print what the one before took; the empty one ends all."""
        now = time.monotonic()
        if self._part:
            self.took[self._part] = round(now - self._part_begin, 1)
            end = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{end}bench: {self._part} took {_clock(now - self._part_begin)}", file=sys.stderr)
        self._part, self._part_begin = name, now


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
