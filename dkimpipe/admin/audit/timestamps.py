"""The time stamps of log lines: the forms that syslog daemons, Postfix, journalctl(1) and containers write.

They are ISO 8601 (RFC 3339, also with a space, and without a zone), the traditional ``Nov 27 07:02:05``,
which has no year, the same with a year, and seconds since 1970. What has no zone is local time.
"""

from __future__ import annotations

import re
import time
from calendar import timegm

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
_CLOCK = rb"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_OFFSET = rb"(?:Z|[+-]\d\d(?::?\d\d)?)"
RFC_3339 = rb"\d{4}-\d\d-\d\d[T ]" + _CLOCK + _OFFSET
# With a weekday: journalctl -o short-full, which writes the abbreviation of the zone.
_ISO = (
    rb"\d{4}-\d\d-\d\d[T ]" + _CLOCK + _OFFSET + rb"?"
    rb"|" + _WEEKDAY + rb"\d{4}-\d\d-\d\d " + _CLOCK + rb" (?:[A-Z]{1,5}|[+-]\d\d(?:\d\d)?)"
)
_TRADITIONAL = rb"(?:" + "|".join(_MONTHS).encode() + rb") [ \d]?\d " + _CLOCK
# With a year: ts-format(full) of syslog-ng, and logread of OpenWrt.
_WITH_YEAR = rb"\d{4} " + _TRADITIONAL + rb"|(?:" + _WEEKDAY + rb")?" + _TRADITIONAL + rb" \d{4}"
_UNIX = rb"\d{10}(?:\.\d{1,9})?"
STAMP = rb"|".join((_ISO, _WITH_YEAR, _TRADITIONAL, _UNIX))

_READ_ISO = re.compile(rb"(?:[A-Z]..)? ?(\d+)-(\d+)-(\d+).(\d+):(\d+):(\d+)(?:[.,]\d+)? ?(.*)")
_READ_OTHER = re.compile(
    rb"(\d{4})? ?(?:[MTWFS]..(?= [A-Z]))? ?(...) +(\d+) (\d+):(\d+):(\d+)\S*(?: (\d{4}))?"
)
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
        self._known: dict[tuple[bytes, ...], float] = {}
        self._last = 0.0
        self.turned = False

    def seconds(self, stamp: bytes) -> float | None:
        """Return the time of a stamp, in whole seconds since 1970; None if there is no such time."""
        try:
            if found := _READ_ISO.fullmatch(stamp):
                *minute, second, zone = found.groups()
                return self._minute((*minute, zone)) + _within(second, 61)
            if found := _READ_OTHER.fullmatch(stamp):
                before, month, *numbers, after = found.groups(b"")
                named = _MONTHS.index(month.decode("ascii")) + 1
                day, hour, minutes, seconds = map(int, numbers)
                year = int(before or after or 0)
                when = (named, day, hour, minutes, seconds)
                return _local((year, *when)) if year else self._without_year(when)
            return float(int(stamp.partition(b".")[0]))
        except (ValueError, OverflowError):
            return None

    def _minute(self, parts: tuple[bytes, ...]) -> float:
        """Return the time of year, month, day, hour, minute and zone. Raises ValueError."""
        known = self._known.get(parts)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            *numbers, zone = parts
            known = self._known[parts] = _in_zone((*map(int, numbers), 0), zone.decode("ascii"))
        return known

    def _without_year(self, when: tuple[int, ...]) -> float:
        """Return the time in the latest year in which it is not after the reference. Raises ValueError."""
        found = 0.0
        for year in range(self._year + 1, self._year - 9, -1):
            if when[:2] == (2, 29) and (year % 4 or (year % 100 == 0 and year % 400)):
                continue
            found = _local((year, *when))
            if found <= self._reference + _DAY:
                break
        if found < self._last - _TURN:
            self.turned, self._last = True, found
        self._last = max(found, self._last)
        return found


def _in_zone(when: tuple[int, ...], zone: str) -> float:
    """Return the time in a zone: an offset, an abbreviation, or local time. Raises ValueError."""
    if not zone:
        return _local(when)
    if zone in time.tzname and zone not in ("UTC", "GMT"):
        return _local(when, time.tzname.index(zone))
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset = _within(digits[:2].encode(), 24) * 3600 + _within(digits[2:].encode() or b"0", 60) * 60
    elif zone in ("Z", "UTC", "GMT"):
        offset = 0
    else:
        raise ValueError(zone)
    found = timegm(when)
    _refuse_others(time.gmtime(found), when)
    return found + offset if zone[0] == "-" else found - offset


def _local(when: tuple[int, ...], is_summer: int = -1) -> float:
    found = time.mktime((*when, 0, 0, is_summer))  # type: ignore[arg-type]
    _refuse_others(time.localtime(found), when)
    return found


def _refuse_others(found: time.struct_time, when: tuple[int, ...]) -> None:
    """Raise ValueError if there is no such day: 30 February is read as 2 March."""
    if found[1:3] != when[1:3] or when[3] > 23 or when[4] > 59 or when[5] > 60:
        raise ValueError(when)


def _within(number: bytes, limit: int) -> int:
    if int(number) >= limit:
        raise ValueError(number)
    return int(number)
