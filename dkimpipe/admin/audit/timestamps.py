"""The time stamps of log lines: RFC 3339, or the traditional ``Nov 27 07:02:05``, which has no year."""

from __future__ import annotations

import time
from calendar import timegm

RFC_3339 = rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
TRADITIONAL = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d"

_MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"
_DAY = 86400
_TURN = 7 * _DAY  # more than a correction of the clock: the next stamp is of another year


class Clock:
    """The time of the lines of one log, in their order.

    ``reference``  when the log was last written to, seconds since 1970: no line is more than a day younger
    ``turned``     set when a year began unseen: all lines before this one are a year older than they seemed
    """

    def __init__(self, reference: float) -> None:
        self._reference = reference
        self._year = time.localtime(reference).tm_year
        self._known: dict[bytes, float] = {}
        self._last = 0.0
        self.turned = False

    def seconds(self, stamp: bytes) -> float | None:
        """Return the time of a stamp, in seconds since 1970, whole minutes and seconds; None if invalid."""
        minute = stamp[:16] + stamp[-6:] if stamp[:1].isdigit() else stamp
        known = self._known.get(minute)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            try:
                known = self._rfc_3339(stamp) if stamp[:1].isdigit() else self._traditional(stamp)
            except (ValueError, OverflowError):
                return None
            self._known[minute] = known
        return known + int(stamp[17:19]) if stamp[:1].isdigit() else known

    def _rfc_3339(self, stamp: bytes) -> float:
        """Return the time of the minute."""
        year, month, day = int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10])
        offset = 0
        if not stamp.endswith(b"Z"):
            zone = stamp[-6:].replace(b":", b"")[-5:]
            offset = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
            offset = -offset if zone[:1] == b"-" else offset
        return timegm((year, month, day, int(stamp[11:13]), int(stamp[14:16]), 0)) - offset

    def _traditional(self, stamp: bytes) -> float:
        """Return the time in the latest year in which it is not after the reference."""
        month = _MONTHS.index(stamp[:3]) // 3 + 1
        day, hour, minute, second = (int(stamp[at : at + 2]) for at in (4, 7, 10, 13))
        found = 0.0
        for year in range(self._year + 1, self._year - 9, -1):
            if (month, day) == (2, 29) and (year % 4 or (year % 100 == 0 and year % 400)):
                continue
            found = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
            if found <= self._reference + _DAY:
                break
        if found < self._last - _TURN:
            self.turned, self._last = True, found
            self._known.clear()
        self._last = max(found, self._last)
        return found
