"""Checks a DomainKeys signature against the message (RFC 4870 section 3.4, historic)."""

from __future__ import annotations

from dkimpipe import canonical, digest
from dkimpipe.address import first_mailbox, is_at_or_below
from dkimpipe.canonical import Body
from dkimpipe.errors import NotSigned
from dkimpipe.verify.verdict import PermanentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dkimpipe.address import Mailbox
    from dkimpipe.body import BodyHashes
    from dkimpipe.message import Field, Message
    from dkimpipe.verify.keyrecord import KeyRecord
    from dkimpipe.verify.signature import Signature


class DomainKeysCheck:
    """A DomainKey-Signature of a message. The body has to pass through ``bodies`` before the check.

    One hash covers header, separator and body: all fields below the signature, or those among them in h=.
    """

    covers = "message"

    def __init__(self, signature: Signature, message: Message, bodies: BodyHashes) -> None:
        """Raise PermanentError if it is not for the sending address."""
        self.signature = signature
        self._sending = _sending_address(message, signature)
        self._hash = digest.new(signature.hash_name, bodies.large)
        below = message.fields[message.fields.index(signature.field) + 1 :]
        for field in _covered(below, signature.names):
            self._hash.update(canonical.field(signature.header_canonicalization, field.text))
        body = Body(signature.body_canonicalization, self._hash.update)
        body.update(b"\n")
        bodies.add(body)

    def check_body(self) -> None:
        """Do nothing: the body has no hash of its own."""

    def has_right_body(self) -> bool:
        """Return True, likewise."""
        return True

    def check_coverage(self) -> None:
        """Do nothing: fields added above the signature are allowed (RFC 4870 section 3.3)."""

    def check_key(self, record: KeyRecord) -> None:
        """Raise PermanentError if the key may not sign this (RFC 4870 section 3.2.3)."""
        if not record.allows_local_part(self._sending.local_part):
            raise PermanentError("key record: g= does not allow this address")

    def digest(self) -> bytes:
        """Return the signed hash, if the message is unchanged."""
        return self._hash.digest()


def _covered(below: Sequence[Field], names: Sequence[bytes]) -> Iterator[Field]:
    """Yield the fields that were hashed: all, or those in h= in its order.

    A name listed once means all fields of that name, as signers do it; otherwise each mention is one field.
    """
    if not names:
        yield from below
        return
    left: dict[bytes, list[Field]] = {name: [] for name in names}
    for field in reversed(below):
        if field.name in left:
            left[field.name].append(field)
    mentions: dict[bytes, int] = {}
    for name in names:
        mentions[name] = mentions.get(name, 0) + 1
    for name in names:
        for _ in range(1 if mentions[name] > 1 else len(left[name])):
            if left[name]:
                yield left[name].pop()


def _sending_address(message: Message, signature: Signature) -> Mailbox:
    """Return the address of the first Sender, or of From, which d= and h= must cover."""
    name = b"sender" if b"sender" in message.by_name else b"from"
    try:
        sending = first_mailbox(message.by_name[name][0].value)
    except (KeyError, NotSigned):
        raise PermanentError("no sending address") from None
    if not is_at_or_below(sending.domain, signature.domain):
        raise PermanentError(f"d= does not cover {name.decode()}")
    if signature.names and name not in signature.names:
        raise PermanentError(f"h= does not include {name.decode()}")
    return sending
