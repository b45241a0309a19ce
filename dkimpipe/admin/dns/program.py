"""Publish and delete records by a program of the administrator, for zones that take no updates (RFC 2136).

It is called without a shell as ``PROGRAM add|delete NAME TTL``, where NAME has no trailing dot and TTL is in
seconds. Its standard input is the value in one line, then a JSON object in one line: ``action``, ``name``,
``ttl``, ``type`` (TXT), ``value``, ``strings`` (the value in pieces of at most 255 bytes) and ``zone`` (of
``--zone``, or null). Exit status 0 means that the change is made, or was made before. Its standard output is
discarded; its standard error is shown if it fails.

The name servers are queried first: the program is called only if one of them has other records.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

from dkimpipe.admin.dns import formats, mangled
from dkimpipe.admin.dns.lookup import NameServers
from dkimpipe.admin.dns.record import Record
from dkimpipe.errors import ConfigError, one_line, printable
from dkimpipe.files import why

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT = 60.0  # seconds for one call
_TICK = 0.1  # seconds until the next look whether it has ended, while another process holds its output
_CHUNK = 65536
_KEPT = 4096  # bytes of its output
_SHOWN = 300
_HINTS = {
    PermissionError: "chmod +x {0}",
    FileNotFoundError: "check that it exists, and the interpreter in its first line",
}
_NO_INTERPRETER = "let it begin with #! and an interpreter, such as #!/bin/sh"

_Found = tuple[Record, list[list[bytes]]]  # with the TXT records of its name, as each server has them


class Program:
    """A program that changes DNS, and the name servers that show what is there."""

    def __init__(self, path: str, servers: NameServers, zone: str = "", timeout: float = TIMEOUT) -> None:
        """Take the absolute path of a program, or its name if it is in ``PATH``."""
        self._path = path
        self._servers = servers
        self._zone = zone
        self._timeout = timeout

    def texts(self, name: str) -> list[bytes]:
        """Return all TXT records that a name has at any of its name servers. Raises ConfigError."""
        return _all(self._there(name))

    def publish(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Publish records, and print the outcome for each. Raises ConfigError.

        Another TXT record at a name is an error, before anything is changed, unless ``replace`` is set.
        """
        found = self._look_up(records)
        for record, there in found:
            mangled.refuse_exposed(record.name, _all(there), record.value)
        _refuse_others(found, replace)
        for record, there in found:
            others = [text for text in _all(there) if text != record.value.encode()]
            for other in others:
                self._call("delete", Record(record.name, _text(record.name, other)), ttl)
            if not all(record.value.encode() in texts for texts in there):
                self._call("add", record, ttl)
                print(f"{record.name}: {'replaced' if others else 'added'}")
            else:
                print(f"{record.name}: {'replaced' if others else 'already there'}")

    def delete(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Delete records from DNS; otherwise like ``publish``."""
        found = self._look_up(records)
        _refuse_others(found, replace)
        for record, there in found:
            for text in _all(there):
                self._call("delete", Record(record.name, _text(record.name, text)), ttl)
            print(f"{record.name}: {'deleted' if _all(there) else 'not there'}")

    def _look_up(self, records: Sequence[Record]) -> list[_Found]:
        """Return each record with the TXT records of its name, as each server has them."""
        return [(record, self._there(record.name)) for record in records]

    def _there(self, name: str) -> list[list[bytes]]:
        found, failures = [], []
        for at, answer in self._servers.own_answers(name):
            if answer.alias:
                raise ConfigError(f"{name} is an alias (CNAME) of {answer.alias}", "publish the record there")
            if answer.certain:
                found.append(answer.texts)
            else:
                failures.append(f"{answer.failure}, according to {at}")
        if not found:
            what = failures[0] if failures else "its zone has no name server"
            raise ConfigError(f"{name}: cannot look up what is there: {what}")
        return found

    def _call(self, action: str, record: Record, ttl: int) -> None:
        """Call the program. Raises ConfigError if it fails."""
        path = self._path if "/" in self._path else shutil.which(self._path, path=PATH)
        if not path:
            raise ConfigError(f"{self._path}: no such program in {PATH}", "use its absolute path")
        described = {"action": action, **formats.as_object(record, ttl), "zone": self._zone or None}
        fault, said = self._run(
            [path, action, record.name, str(ttl)], f"{record.value}\n{json.dumps(described)}\n".encode()
        )
        if fault:
            output = _last_lines(said)
            raise ConfigError(f"{record.name}: {path} {action} {fault}{output and f': {output}'}")

    def _run(self, command: list[str], given: bytes) -> tuple[str, bytes]:
        """Return how a command failed, or an empty string, and the end of its standard error.

        It reads from a file, so that it need not read everything. Raises ConfigError if it cannot be run.
        """
        try:
            with tempfile.TemporaryFile() as stdin:
                stdin.write(given)
                stdin.seek(0)
                child = subprocess.Popen(  # noqa: S603 - no shell
                    command,
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            hint = _HINTS.get(type(error), _NO_INTERPRETER if "format" in why(error) else "")
            raise ConfigError(f"{command[0]} cannot be run: {why(error)}", hint.format(command[0])) from None
        try:
            said = _read_until_end(child, self._timeout)
            return _fault(child.poll(), self._timeout), said
        finally:
            _end(child)


def _environment() -> dict[str, str]:
    """Return the variables of the program, which are the same from cron(8) and from a shell."""
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = "/"
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home}


def _read_until_end(child: subprocess.Popen[bytes], limit: float) -> bytes:
    """Return the last bytes that a program prints until it ends, or the time limit in seconds has passed."""
    pipe = child.stderr.fileno() if child.stderr else -1
    deadline = time.monotonic() + limit
    said = b""
    while child.poll() is None and (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], min(left, _TICK))[0]:
            continue
        chunk = os.read(pipe, _CHUNK)
        said = (said + chunk)[-_KEPT:]
        if not chunk:  # it has closed its standard error
            try:
                child.wait(left)
            except subprocess.TimeoutExpired:
                break
    for _ in range(_CHUNK // _KEPT):  # what is left in the pipe, whose size is limited
        if not select.select([pipe], [], [], 0)[0] or not (chunk := os.read(pipe, _CHUNK)):
            break
        said = (said + chunk)[-_KEPT:]
    return said


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program that is still running, and its process group."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stderr:
        child.stderr.close()


def _fault(status: int | None, limit: float) -> str:
    if status is None:
        return f"did not end within {limit:g} seconds"
    if status < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"was killed by {names.get(-status, f'signal {-status}')}"
    return f"failed with exit status {status}" if status else ""


def _last_lines(said: bytes) -> str:
    """Return the end of what a program printed as one line."""
    lines = said.decode("utf-8", "replace").split("\n")
    text = one_line("; ".join([line.strip() for line in lines if line.strip()]))
    return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"


def _refuse_others(found: Sequence[_Found], replace: bool) -> None:
    """Raise ConfigError if there is another TXT record at a name, unless ``replace`` is set."""
    for record, there in found:
        others = [printable(text, 500) for text in _all(there) if text != record.value.encode()]
        if others and not replace:
            shown = " and ".join([f"'{other}'" for other in others])
            raise ConfigError(f"{record.name} has another TXT record: {shown}", "--replace overwrites it")


def _all(there: Sequence[Sequence[bytes]]) -> list[bytes]:
    return sorted({text for texts in there for text in texts})


def _text(name: str, value: bytes) -> str:
    """Return a record for the program. Raises ConfigError if it is not one line of US-ASCII."""
    text = value.decode("ascii", "replace")
    if not text.isprintable() or not text.isascii():
        raise ConfigError(f"{name} has a TXT record that is not text: '{printable(value)}'", "delete it")
    return text
