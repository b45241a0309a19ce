"""Lines of a log that come as records: JSON of journalctl(1) and docker(1), and others of journalctl.

A record is turned into the line that syslog would have had. The forms are those of ``journalctl -o``: json,
json-sse, json-seq, json-pretty, export and verbose; and Docker's json-file.
"""

from __future__ import annotations

import json
import re
from typing import Any

_LIMIT = 1 << 16  # octets of one record
_FIELD = re.compile(rb"(?:    )?(_*[A-Z][A-Z0-9_]*)=(.*)")
_VERBOSE = re.compile(rb"[A-Z][a-z]{2} \d{4}-\d\d-\d\d \S+ \S+ \[.*;t=([0-9a-f]{1,15});.*\]")
_CURSOR = b"__CURSOR="
_BEFORE = (b"data: ", b"\x1e")  # of Server-Sent Events, and of JSON sequences (RFC 7464)
_TIME = "__REALTIME_TIMESTAMP"
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that are not octets
_USED = (_TIME, "_HOSTNAME", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "MESSAGE")


class Records:
    """Puts records together: a record has one line, or several."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] | None = None  # of one in lines KEY=value
        self._json: list[bytes] = []  # the lines of one in JSON that has several

    def read(self, line: bytes) -> list[bytes] | None:
        """Return the lines of the records that end here; None if this is not a part of any."""
        if self._json:
            return self._continued(line)
        if self._fields is not None and (not line or line.startswith(b"    ") or _FIELD.match(line)):
            return self._field(line)
        found = self.rest()
        if verbose := _VERBOSE.fullmatch(line):
            self._fields = {_TIME: int(verbose[1], 16)}
            return found
        if line.startswith(_CURSOR):
            self._fields = {}
            return found
        for prefix in _BEFORE:
            line = line[len(prefix) :] if line.startswith(prefix) else line
        if line == b"{":
            self._json = [line]
            return found
        if line.startswith(b"{"):
            return [*found, _of_json(line)]
        return found or None

    def rest(self) -> list[bytes]:
        """Return the line of a record that the end of the log, or of its part, completes."""
        fields, self._fields = self._fields, None
        unfinished, self._json = self._json, []
        found = [_line(fields)] if fields else []
        return [*found, b" ".join(unfinished)] if unfinished else found

    def _field(self, line: bytes) -> list[bytes]:
        if not line:  # export
            return self.rest()
        found = _FIELD.fullmatch(line)
        if found and self._fields is not None and not line.startswith(_CURSOR):
            name = found[1].decode("ascii")
            if name in _USED and name not in self._fields:
                self._fields[name] = found[2].decode("utf-8", "surrogateescape")
        return []

    def _continued(self, line: bytes) -> list[bytes]:
        self._json.append(line)
        if line not in (b"}", b"},") and sum(map(len, self._json)) < _LIMIT:
            return []
        text, self._json = b"\n".join(self._json).rstrip(b","), []
        return [_of_json(text)]


def _of_json(text: bytes) -> bytes:
    """Return the line of a JSON object; the text itself if it is not one of these."""
    try:
        found = json.loads(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict) and isinstance(found.get("log"), str) and "stream" in found:  # Docker
        return _octets(found["log"].partition("\n")[0])
    return _line(found) if isinstance(found, dict) and _TIME in found else text


def _line(fields: dict[str, Any]) -> bytes:
    """Return the line of a record of the journal; with a NUL in front if its message is missing."""
    values = [_text(fields.get(name, "")) for name in _USED]
    stamp, host, program, pid, other_pid, message = values
    if program.startswith("postfix") and not message:  # journalctl without --all leaves out long values
        return _octets(f"\0a record of {program} without a message")
    if not (stamp.isdigit() and program):
        return _octets(message)
    seconds = f"{int(stamp) // 1_000_000}.{int(stamp) % 1_000_000:06}"
    head = " ".join(filter(None, [seconds, host, f"{program}[{pid or other_pid}]:"]))
    return _octets(f"{head} {message.partition(chr(10))[0]}")


def _text(value: Any) -> str:
    """Return the value of a field: text that is not UTF-8 comes as a list of octets."""
    if isinstance(value, list) and all(isinstance(each, int) and 0 <= each < 256 for each in value):
        return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace" if _LONE.search(text) else "surrogateescape")
