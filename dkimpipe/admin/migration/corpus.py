"""The messages to compare signers with: files, directories of files, and mailboxes (mbox, RFC 4155)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.errors import ConfigError

_SEPARATOR = b"From "  # begins the line in front of each message
_BLANK = (b"\n", b"\r\n", b"")


class Sample(NamedTuple):
    """A message: its name in reports, and the file that has this message alone."""

    name: str
    path: Path


def messages(paths: Sequence[Path], directory: Path) -> Iterator[Sample]:
    """Yield the messages of files, and of all files below directories.

    A message in a mailbox is written into ``directory``, and exists until the next one is asked for. Raises
    ConfigError.
    """
    for path in paths:
        if path.is_dir():
            for each in sorted(path.rglob("*")):
                yield from _of_file(each, directory) if each.is_file() else ()
        elif path.is_file():
            yield from _of_file(path, directory)
        else:
            raise ConfigError(f"{path}: there is no such file")


def _of_file(path: Path, directory: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        is_mailbox = file.read(len(_SEPARATOR)) == _SEPARATOR
    if not is_mailbox:
        yield Sample(str(path), path)
        return
    one = directory / "message"
    for number, octets in enumerate(_split(path), 1):
        one.write_bytes(octets)
        yield Sample(f"{path}, message {number}", one)


def _split(path: Path) -> Iterator[bytes]:
    """Yield the messages of a mailbox, without the lines that separate them."""
    lines: list[bytes] = []
    before = b""
    with path.open("rb") as file:
        next(file)
        for line in file:
            if line.startswith(_SEPARATOR) and before in _BLANK:
                yield b"".join(lines[:-1])
                lines = []
            else:
                lines.append(line)
            before = line
    if lines:
        yield b"".join(lines[:-1] if lines[-1] in _BLANK else lines)
