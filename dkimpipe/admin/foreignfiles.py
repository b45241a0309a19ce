"""The files of another signer: links are followed, and their size is not limited."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.errors import ConfigError
from dkimpipe.files import is_regular, why

_SHOWN = 16  # of a key
_PEM = re.compile(r"-----BEGIN.*?(?:-----END[^-]*-----|\Z)", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/=\n]{40,}")
_IN_A_ROW = re.compile(r"[A-Za-z0-9+=]{40}")


def read(path: Path) -> bytes:
    """Return the octets of a file. Raises ConfigError."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not is_regular(os.fstat(file.fileno())):
                raise ConfigError(f"{path}: not a regular file")
            return file.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {why(error)}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a FIFO without a writer, too."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file without their ends, each with its number, from 1. Raises ConfigError."""
    yield from enumerate(read(path).decode("utf-8", "surrogateescape").split("\n"), 1)


def without_keys(text: str) -> str:
    """Return text that may contain a private key, as where a path should be, with no more than its start."""
    return _BASE64.sub(lambda match: _cut(match[0]), _PEM.sub("-----BEGIN...", text))


def _cut(run: str) -> str:
    """Return a run of letters of base64, cut off unless it may be the path of a file."""
    is_mixed = all(re.search(letters, run) for letters in ("[a-z]", "[A-Z]", "[0-9]"))
    return f"{run[:_SHOWN]}..." if is_mixed or _IN_A_ROW.search(run) else run
