"""Signing and verifying without a process, for tests that do so thousands of times or need a fixed clock."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from dkimpipe.body import BodyHashes
from dkimpipe.config import read_command_line
from dkimpipe.message import Message
from dkimpipe.signatures import Signatures
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
    read = Message(reader(message, cuts))
    bodies = BodyHashes(large=not read.small)
    signatures = Signatures(read, read_command_line(list(arguments)), bodies)
    body = b""
    for chunk in read.body():
        body += chunk
        bodies.update(chunk)
    bodies.finish()
    return read.envelope_line + signatures.fields(now) + read.header + body


def verify(
    message: bytes, resolver: Resolver, now: int = 1_700_000_000, limit: int = 1000
) -> list[SignatureResult]:
    """Return what ``dkimpipe verify`` finds of each signature, top down."""
    read = Message(reader(message))
    bodies = BodyHashes(large=not read.small)
    verifier = Verifier(read, bodies, limit)
    for chunk in read.body():
        bodies.update(chunk)
    bodies.finish()
    return verifier.verify(resolver, now)
