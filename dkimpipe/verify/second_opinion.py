"""The result of dkimpy, an independent verifier, for a signature. It is slow, and for interactive use."""

from __future__ import annotations

import re

import dkim

from dkimpipe.message import Field, Message
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verdict import TemporaryError

_MAX_MESSAGE = 1 << 20  # octets
_LONG_WHITE_SPACE = re.compile(rb"[ \t\r\n]{500}")  # takes quadratic time
# Exceptions that it raises besides its own, for messages that it cannot parse.
_OTHER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError)


def ask(message: Message, body: bytes, field: Field, resolver: Resolver) -> str:
    """Return its result for a DKIM-Signature, or why it has none."""
    octets = message.header + body
    if len(octets) > _MAX_MESSAGE:
        return "no verdict, the message is too large"
    if _LONG_WHITE_SPACE.search(octets):
        return "no verdict, too much white space in a row"
    position = [other for other in message.fields if other.name == field.name].index(field)
    try:
        valid = dkim.DKIM(octets).verify(position, lambda name, timeout=5: _record(name, resolver))
    except dkim.NaClNotFoundError:
        return "no verdict, Ed25519 needs the package PyNaCl"
    except (dkim.DKIMException, *_OTHER_ERRORS) as error:
        return f"not valid: {error}"
    return "valid" if valid else "not valid"


def _record(name: bytes, resolver: Resolver) -> bytes | None:
    try:
        texts = resolver.texts(name.decode("ascii").rstrip(".")).texts
    except TemporaryError:
        return None
    return texts[0] if texts else None
