"""The lines of one log, whatever has written it, and an account of those that are not understood.

A line begins with a time stamp, a host name and a program. A container, or a template of a syslog daemon, may
have put something in front or between. A line whose beginning is not understood is neither an event nor
nothing: if it may be of Postfix, the log does not prove that no mail left unsigned.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from dkimpipe.admin.audit.events import KEYWORDS, QUEUE_ID, Event
from dkimpipe.admin.audit.records import Records
from dkimpipe.admin.audit.timestamps import RFC_3339, STAMP
from dkimpipe.errors import printable

_FACILITY = (
    rb"(?:kern|user|mail|daemon|auth|authpriv|syslog|cron|local[0-7])"
    rb"\.(?:emerg|panic|alert|crit|err|error|warn|warning|notice|info|debug)"
)
_MESSAGE = rb"(?:(" + QUEUE_ID + rb"): (" + KEYWORDS + rb")(.*))?"
# Priority, stamp, facility (FreeBSD), host, facility (busybox), program, process ID, message ID (Solaris).
_LINE = re.compile(
    rb"(?:<\d{1,3}>)?(" + STAMP + rb") (?:<" + _FACILITY + rb"> )?(?:[^\s\[\]]*[^\s\[\]:] )?"
    rb"(?:" + _FACILITY + rb" )?([^\s\[\]:]+)(?:\[\d*\])?: (?:\[[^\]]{0,40}\] )?" + _MESSAGE
)
# RFC 5424: version, stamp, host, program, process ID, message ID, structured data.
_RFC_5424 = re.compile(
    rb"(?:<\d{1,3}>)?1 (" + RFC_3339 + rb") \S+ (\S+) \S+ \S+ "
    rb'(?:-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+) (?:\xef\xbb\xbf)?' + _MESSAGE
)
# What containers put in front: the name, colours, a stamp, the stream (Kubernetes).
_COLOUR = rb"(?:\x1b\[[\d;]*m)*"
_CONTAINER = (
    re.compile(rb"\[[\w./-]+\] |" + _COLOUR + rb"[\w.@-]+ *\| *" + _COLOUR + rb" *"),
    re.compile(RFC_3339 + rb" (?:std(?:out|err) F )?"),
)
_CONTAINER_ID = re.compile(rb"[0-9a-f]{12}")  # the program of a whole line in the log of Docker's host
# A line that may be of Postfix, in a form that is not known.
_SUSPECT = re.compile(
    rb"(?<![A-Za-z0-9])" + QUEUE_ID + rb": (?:client=|uid=|message-id=|from=|to=|removed\b|requeued\b)"
)
_NOT_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a]")
_WITH_QUEUE_IDS = (b"/qmgr", b"/cleanup", b"/pickup")  # a message of theirs that has one begins with it
_BEGINS_OTHERWISE = re.compile(
    QUEUE_ID + rb": |(?:warning|error|fatal|panic|statistics): |message repeated \d+ times: "
)
_SHOWN = 80  # octets of a line


class Lines:
    """Reads the blocks of one log in their order.

    ``understood``  lines with a time stamp and a program
    ``first``       the stamp of the first line of Postfix, ``last`` of the last one; nothing for no line
    ``misread``     lines that may be of Postfix, and are not understood
    ``doubt``       for people: the first of these lines, or the first line if none is understood
    """

    def __init__(self) -> None:
        self.first = self.last = b""
        self.understood = self.misread = 0
        self._number = 0  # of lines before this block
        self._is_inside = False  # after a line that is understood, where indented lines continue it
        self._shown = self._beginning = ""
        self._records = Records()

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to read."""
        return not (self._number or self.understood)

    @property
    def doubt(self) -> str:
        """What the log does not prove anything about; empty if all of it is understood."""
        if self.misread:
            lines = "1 line is" if self.misread == 1 else f"{self.misread} lines are"
            return f"{lines} not understood: {self._shown}"
        if self._beginning and not self.understood:
            return f"nothing is understood: {self._beginning}"
        return ""

    def events(self, block: bytes) -> Iterator[Event]:
        """Yield the events in a block of whole lines."""
        lines = block.replace(b"\r\n", b"\n").split(b"\n")
        lines.pop()  # what follows the last line end
        if b"\r" in block:
            lines = self._without_cr(lines)
        for number, found in enumerate(map(_LINE.match, lines)):
            if not found:
                yield from self._unusual(number, lines[number])
                continue
            self.understood += 1
            self._is_inside = True
            if event := self._event(found, number, lines[number]):
                yield event
        self._number += len(lines)

    def _without_cr(self, lines: list[bytes]) -> list[bytes]:
        """Return lines without CR at their ends, and note those in which one may be the end of a line."""
        lines = [line.rstrip(b"\r") for line in lines]
        for number, line in enumerate(lines):
            if any(_LINE.match(each) or _SUSPECT.search(each) for each in line.split(b"\r")[1:]):
                self._doubt(number, line)
        return lines

    def rest(self) -> Iterator[Event]:
        """Yield the event that the end of the log completes."""
        yield from self._of_records(0, self._records.rest())

    def refuse(self, what: bytes) -> None:
        """Note that a line was not understood after all."""
        self._misread(f"time stamp '{printable(what, _SHOWN)}'")

    def _event(self, found: re.Match[bytes], number: int, line: bytes) -> Event | None:
        """Return the event in a line whose beginning is understood; None if it has none."""
        stamp, tag, queue_id, keyword, text = found.groups()
        if not queue_id and b"/" not in tag and (inner := _LINE.match(line, found.end())):
            if _CONTAINER_ID.fullmatch(tag):
                return self._event(inner, number, line)
            if inner[3]:
                self._doubt(number, line)
        if queue_id:
            path, slash, program = tag.rpartition(b"/")
            if not slash and not keyword.startswith(b"DKIM-"):
                self._doubt(number, line)  # the template, or journalctl -o with-unit, leaves the program out
                return None
            self.first, self.last = self.first or stamp, stamp
            return Event(stamp, path + slash, program, queue_id, keyword, text)
        if tag.startswith(b"postfix"):
            self.first, self.last = self.first or stamp, stamp
        if (
            tag.endswith(_WITH_QUEUE_IDS)
            and _SUSPECT.search(line, found.end())
            and not _BEGINS_OTHERWISE.match(line, found.end())
        ):
            self._doubt(number, line)
        return None

    def _unusual(self, number: int, line: bytes) -> Iterator[Event]:
        """Yield the events of a line that has another form, and note it if it has none that is known."""
        if line.startswith(codecs.BOM_UTF8):  # also where files with one were put together
            line = line[len(codecs.BOM_UTF8) :]
        at, found = 0, _LINE.match(line) or _RFC_5424.match(line)
        for prefix in _CONTAINER:
            if not found and (before := prefix.match(line, at)):
                at = before.end()
                found = _LINE.match(line, at)
        if found:
            self.understood += 1
            self._is_inside = True
            event = self._event(found, number, line)
            yield from [event] if event else []
            return
        if (records := self._records.read(line)) is not None:
            yield from self._of_records(number, records)
        elif line and not (self._is_inside and line[:1].isspace()):
            self._is_inside = False
            self._beginning = self._beginning or self._show(number, line)
            if _SUSPECT.search(line) or _NOT_TEXT.search(line):
                self._doubt(number, line)

    def _of_records(self, number: int, lines: list[bytes]) -> Iterator[Event]:
        for line in filter(None, lines):
            found = _LINE.match(line)
            if found:
                self.understood += 1
                event = self._event(found, number, line)
                yield from [event] if event else []
            else:
                self._beginning = self._beginning or self._show(number, line)
                if _SUSPECT.search(line) or _NOT_TEXT.search(line):
                    self._doubt(number, line)

    def _doubt(self, number: int, line: bytes) -> None:
        self._misread(self._show(number, line))

    def _misread(self, shown: str) -> None:
        self.misread += 1
        self._shown = self._shown or shown

    def _show(self, number: int, line: bytes) -> str:
        text = printable(line.strip(b"\0 \t"), _SHOWN)
        return f"line {self._number + number + 1}, '{text}'"


def read(block: bytes) -> Iterator[Event]:
    """Yield the events in a block of whole lines."""
    return Lines().events(block)


def first_stamp(block: bytes) -> bytes:
    """Return the time stamp of the first line of Postfix; nothing if there is none."""
    lines = Lines()
    for _ in lines.events(block):
        break
    return lines.first
