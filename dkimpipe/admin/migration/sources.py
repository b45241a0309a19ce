"""The files of another signer: links are followed, and their size is not limited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dkimpipe.errors import ConfigError


def read(path: Path) -> bytes:
    """Return the octets of a file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file without their ends, each with its number, from 1. Raises ConfigError."""
    yield from enumerate(read(path).decode("utf-8", "surrogateescape").split("\n"), 1)
