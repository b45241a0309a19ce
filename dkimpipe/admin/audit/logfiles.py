"""Where the lines of Postfix's log come from: files, rotated and compressed ones, a pipe, or the journal.

Lines are delivered in blocks of whole lines, as octets: memory does not grow with the log.
"""

from __future__ import annotations

import grp
import io
import lzma
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from dkimpipe.admin.audit import compression, text
from dkimpipe.admin.audit.compression import Readable
from dkimpipe.admin.audit.lines import first_stamp
from dkimpipe.admin.audit.timestamps import Clock
from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError
from dkimpipe.files import why

# Of rsyslog and syslog-ng on Debian and RHEL, on SUSE; and of busybox and others, which have one for all.
USUAL = (Path("/var/log/mail.log"), Path("/var/log/maillog"), Path("/var/log/mail"))
_FOR_ALL = (Path("/var/log/messages"), Path("/var/log/syslog"))
STANDARD_INPUT = "-"
# journalctl: everything of the facility mail, whatever the instances and their syslog_name are called.
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
JOURNAL = ("journalctl", "--output=short-iso-precise", "--all", "--quiet", "--no-pager", "SYSLOG_FACILITY=2")


_BLOCK = 1 << 20
_LONGEST = 1 << 16  # octets of a line; syslog daemons cut at 8192
_TOO_LONG = (
    b"\0line of more than %d octets\n" % _LONGEST
)  # stands for it: lines with a NUL are not understood


class Log(NamedTuple):
    """One log that can be read.

    ``name``    for messages
    ``blocks``  its lines, in blocks; raises ConfigError
    ``clock``   of its time stamps
    """

    name: str
    blocks: Iterator[bytes]
    clock: Clock


def usual(since: float) -> Path | None:
    """Return the file that syslog daemons write to, if it is in use; None for the journal.

    After a system has given up its syslog daemon, the file of that time is still there.
    """
    has_journal = any(path.is_dir() for path in _JOURNALS)
    for path in USUAL if has_journal else (*USUAL, *_FOR_ALL):
        if modified(path) >= since and path.is_file():
            return path
    return None


def files(paths: Iterable[Path]) -> list[Log]:
    """Return these files in the order of their first lines. Raises ConfigError if one cannot be read."""
    opened = {}
    for path in paths:
        file = _open(path)
        status = os.fstat(file.fileno())
        opened[status.st_dev, status.st_ino] = (path, file, status)
    logs = []
    beginnings: dict[bytes, list[Path]] = {}  # by the first line
    for path, file, status in opened.values():
        clock = Clock(status.st_mtime)
        blocks = _blocks(path, file)
        first = next(blocks, b"")
        stamp = first_stamp(first)
        begun = Clock(status.st_mtime).seconds(stamp) if stamp else None
        logs.append((begun or status.st_mtime, str(path), Log(str(path), _joined(first, blocks), clock)))
        if first:
            beginnings.setdefault(first.partition(b"\n")[0], []).append(path)
    copies = {str(path) for paths in beginnings.values() for path in _copies(paths)}
    return [log for _, name, log in sorted(logs, key=lambda each: each[:2]) if name not in copies]


def _copies(paths: list[Path]) -> list[Path]:
    """Return those of several files whose lines another one has: a copy, such as one in compression."""
    found: list[Path] = []
    for number, path in enumerate(paths):
        others = [each for each in paths[number + 1 :] + paths[:number] if each not in found]
        if any(_is_beginning(path, other) for other in others):
            found.append(path)
    return found


def _is_beginning(path: Path, other: Path) -> bool:
    """Return whether another file begins with all of this one. What cannot be read is reported later."""
    one = two = b""
    try:
        with _open(path) as file, _open(other) as other_file:
            blocks, others = _blocks(path, file), _blocks(other, other_file)
            while one := one or next(blocks, b""):
                two = two or next(others, b"")
                size = min(len(one), len(two))
                if not size or one[:size] != two[:size]:
                    return False
                one, two = one[size:], two[size:]
    except ConfigError:
        return False
    return True


def standard_input() -> Log:
    """Return what comes by standard input, now or earlier."""
    blocks = _uncompressed(_whole_lines("standard input", sys.stdin.buffer))
    return Log("standard input", blocks, Clock(time.time()))


def _uncompressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks of standard input. Raises ConfigError if they are compressed."""
    first = next(blocks, b"")
    if method := compression.of("", first[: compression.MAGIC]):
        raise ConfigError(
            f"standard input: compressed by {method.name}", "name the file, or unpack it: dkimpipe audit FILE"
        )
    yield from _joined(first, blocks)


def journal(since: float, directories: Iterable[Path] = _JOURNALS) -> Log:
    """Return the journal from a time on, in seconds since 1970.

    Raises ConfigError if this user can read only a part of it: journalctl(1) would not say so.
    """
    for path in (path for each in directories for path in each.glob("*/system.journal")):
        if not os.access(path, os.R_OK, effective_ids=True):
            raise ConfigError(f"{path}: Permission denied", _HINTS[JOURNAL[0]][1])
    return Log(
        "the journal", _output([*JOURNAL, f"--since=@{int(since)}"], "the journal"), Clock(time.time())
    )


def _open(path: Path) -> IO[bytes]:
    try:
        file = path.open("rb")
    except PermissionError:
        raise ConfigError(f"{path}: Permission denied", _as_whom(path)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {why(error)}", "name the log: dkimpipe audit FILE") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ConfigError(f"{path}: not a regular file", "pipe it in: dkimpipe audit -")
    return file


def _as_whom(path: Path) -> str:
    """Return who may read a log."""
    try:
        status = path.stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "run it as root"
    may_read = status.st_mode & stat.S_IRGRP and group != "root"
    return f"run it as root, or as a user in the group {group}" if may_read else "run it as root"


def modified(path: Path) -> float:
    """Return when a file was last written to; 0 if that is unknown."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _blocks(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of a file, which may be compressed. Raises ConfigError."""
    method = compression.of(path.name, os.pread(file.fileno(), compression.MAGIC, 0))
    if not method:
        return _whole_lines(str(path), file)
    if method.reader:
        return _whole_lines(str(path), method.reader(file))
    if method.command:
        return _output([*method.command], str(path), file)
    how = method.hint.format(path=shlex.quote(str(path)))
    raise ConfigError(f"{path}: compressed by {method.name}, which audit does not read", how)


def _whole_lines(name: str, file: Readable) -> Iterator[bytes]:
    """Yield blocks that end with a line end."""
    rest, skipping = b"", False
    try:
        for block in text.blocks(file, _BLOCK):
            end = block.rfind(b"\n") + 1
            if not end:
                rest = rest + block if not skipping else b""
                skipping = skipping or len(rest) > _LONGEST
                continue
            start = block.find(b"\n") + 1 if skipping else 0
            yield (_TOO_LONG if skipping else rest) + block[start:end]
            rest, skipping = block[end:], False
        if rest or skipping:
            yield _TOO_LONG if skipping else rest + b"\n"
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ConfigError(f"{name}: {why(error)}") from None


def _output(command: list[str], name: str, stdin: IO[bytes] | None = None) -> Iterator[bytes]:
    """Yield the output of a program in blocks of whole lines. Raises ConfigError if it fails or complains."""
    missing, refused = _HINTS.get(command[0], _NO_HINTS)
    with tempfile.TemporaryFile() as complaints:  # a pipe that nobody reads could fill up
        try:
            child = subprocess.Popen(  # noqa: S603 - no shell
                command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
            )
        except OSError as error:
            hint = missing or install_command(command[0])
            raise ConfigError(f"{name}: cannot run {command[0]}: {why(error)}", hint) from None
        with child:
            try:
                yield from _whole_lines(name, child.stdout or io.BytesIO())
            except GeneratorExit:
                child.kill()
                raise
        complaints.seek(0)
        said = complaints.readline(4096).decode(errors="backslashreplace").strip()
        if child.returncode or said:
            raise ConfigError(f"{name}: {said or f'{command[0]} failed'}", refused)


# Of a program: what to do if it is missing, unless it is to be installed, and if it fails.
_HINTS = {
    "journalctl": (
        "name the log: dkimpipe audit FILE",
        "run it as root, or as a user in the group systemd-journal",
    ),
}
_NO_HINTS = ("", "")


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
