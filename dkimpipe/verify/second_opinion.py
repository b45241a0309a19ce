"""What dkimpy, a verifier that shares no line with ours, says of a signature. It is slow, and for people."""

from __future__ import annotations

import re

import dkim

from dkimpipe.message import Field, Message
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verdict import TemporaryError

_MAX_MESSAGE = 1 << 20  # octets
_MANY_BLANKS = re.compile(rb"[ \t\r\n]{500}")  # for these it takes quadratic time
# What it raises besides its own errors, for messages that it cannot read.
_OTHER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError)


def ask(message: Message, body: bytes, field: Field, resolver: Resolver) -> str:
    """Return its verdict on a DKIM-Signature, or why it has none."""
    octets = message.header + body
    if len(octets) > _MAX_MESSAGE:
        return "nothing: the message is too large for it"
    if _MANY_BLANKS.search(octets):
        return "nothing: so many blanks are too much for it"
    position = [other for other in message.fields if other.name == field.name].index(field)
    try:
        valid = dkim.DKIM(octets).verify(position, lambda name, timeout=5: _record(name, resolver))
    except dkim.NaClNotFoundError:
        return "nothing: it needs the package PyNaCl for Ed25519"
    except (dkim.DKIMException, *_OTHER_ERRORS) as error:
        return f"not valid: {error}"
    return "valid" if valid else "not valid"


def _record(name: bytes, resolver: Resolver) -> bytes | None:
    try:
        texts = resolver.texts(name.decode("ascii").rstrip(".")).texts
    except TemporaryError:
        return None
    return texts[0] if texts else None
