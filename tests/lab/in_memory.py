"""The filter, the verifier and the verbs without a process: for thousands of runs, or with a fixed clock."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

from conftest import Done

from dkimpipe.admin.cli import run_verb
from dkimpipe.api import Signer
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_command_line
from dkimpipe.message import Message
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verifier import SignatureResult, Verifier


def reader(message: bytes, cuts: Iterable[int] = ()) -> Callable[[int], bytes]:
    """Return ``read(size)`` for a message that arrives cut at these offsets."""
    if not cuts:
        return io.BytesIO(message).read
    bounds = [0, *sorted({cut % (len(message) + 1) for cut in cuts} - {0}), len(message)]
    chunks = [message[start:end] for start, end in zip(bounds, bounds[1:]) if end > start]
    return lambda size: chunks.pop(0) if chunks else b""


def sign(message: bytes, *arguments: str, cuts: Iterable[int] = (), now: int = 1_700_000_000) -> bytes:
    """Return a message signed as by ``dkimpipe ARGUMENTS``."""
    return signer(*arguments, now=now).sign(_Pieces(message, cuts)).message


def signer(*arguments: str, now: int = 1_700_000_000) -> Signer:
    """Return a signer with the settings of a command line."""
    given = read_command_line(list(arguments))
    keywords: dict[str, Any] = {**given.values, "signature": [text for text, _ in given.signatures]}
    if "normalize" in keywords:
        keywords["normalize"] = given.yes("normalize")
    return Signer(**keywords, clock=lambda: now)


class _Pieces:
    """A file that is read in these pieces."""

    def __init__(self, message: bytes, cuts: Iterable[int]) -> None:
        self.read = reader(message, cuts)


def verify(
    message: bytes,
    resolver: Resolver,
    now: int = 1_700_000_000,
    limit: int = 1000,
    lenient: bool = False,
) -> list[SignatureResult]:
    """Return what ``dkimpipe verify`` finds of each signature, top down."""
    read = Message(reader(message))
    bodies = BodyHashes(large=not read.small)
    verifier = Verifier(read, bodies, limit, lenient)
    for chunk in read.body():
        bodies.update(chunk)
    bodies.finish()
    return verifier.verify(resolver, now)


def verb(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run ``dkimpipe VERB OPTIONS``; ``env`` is all of its environment."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, os.environ if env is None else env, clear=True),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        try:
            status = run_verb(list(arguments))
        except SystemExit as end:
            status = int(str(end.code))
    octets = []
    for stream in (out, err):
        stream.flush()
        octets.append(stream.detach().getvalue())
    return Done(status, octets[0], octets[1].decode())
