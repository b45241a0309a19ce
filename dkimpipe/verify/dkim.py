"""Checks a DKIM signature against the message: body hash and header hash (RFC 6376 section 6.1.3)."""

from __future__ import annotations

from dkimpipe import digest
from dkimpipe.body import EMPTY
from dkimpipe.canonical import Body
from dkimpipe.dkim import signed_data
from dkimpipe.verify.signature import without_value
from dkimpipe.verify.verdict import Failure, PermanentError, Unacceptable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dkimpipe.body import BodyHashes
    from dkimpipe.digest import Hash
    from dkimpipe.message import Field, Message
    from dkimpipe.verify.keyrecord import KeyRecord
    from dkimpipe.verify.signature import Signature


class DkimCheck:
    """A DKIM signature of a message. The body has to pass through ``bodies`` before the check."""

    covers = "header"  # the part that remains, once the body matches

    def __init__(self, signature: Signature, message: Message, bodies: BodyHashes) -> None:
        self.signature = signature
        self._message = message
        self._length: _Length | None = None
        if signature.body_length is None:
            self._hash = bodies.hash(signature.body_canonicalization, signature.hash_name)
        else:
            self._hash = digest.new(signature.hash_name, bodies.large)
            self._length = _Length(self._hash, signature.body_length)
            form = signature.body_canonicalization
            bodies.add(Body(form, self._length.update, EMPTY[form]))

    def check_body(self) -> None:
        """Raise Failure if the body is not the one that was signed."""
        if self._length and self._length.missing:
            raise Failure("body is shorter than l=")
        if not self.has_right_body():
            raise Failure("body altered")

    def has_right_body(self) -> bool:
        """Return whether the body, or as much of it as l= covers, is the one that was signed."""
        return self._hash.digest() == self.signature.body_hash

    def check_key(self, record: KeyRecord) -> None:
        """Raise PermanentError if the key may not sign this (section 6.1.2)."""
        if not record.allows_email:
            raise PermanentError("key record: s= does not allow email")
        host = self.signature.identity.rpartition(b"@")[2]
        if b"s" in record.flags and host != self.signature.domain:
            raise PermanentError("key record: t=s, but i= is in a subdomain of d=")

    def data(self, by_name: Mapping[bytes, Sequence[Field]] | None = None) -> bytes:
        """Return the signed data, if unchanged; ``by_name`` replaces the fields of the message."""
        signature = self.signature
        fields = dict(self._message.by_name if by_name is None else by_name)
        own = fields.get(signature.field.name, ())
        fields[signature.field.name] = [field for field in own if field is not signature.field]
        own_field = without_value(signature)
        return signed_data(fields, signature.names, own_field, signature.header_canonicalization)

    def digest(self) -> bytes:
        """Return the hash that was signed."""
        header = digest.new(self.signature.hash_name)
        header.update(self.data())
        return header.digest()

    def check_coverage(self) -> None:
        """Raise Unacceptable if unsigned content would be displayed (sections 8.2 and 8.15)."""
        if self._length and self._length.beyond:
            raise Unacceptable(f"l= leaves {self._length.beyond} octets of the body unsigned")
        if len(self._message.by_name.get(b"from", ())) > self.signature.names.count(b"from"):
            raise Unacceptable("a From field is not signed")


class _Length:
    """A hash of a limited number of octets."""

    def __init__(self, hash: Hash, length: int) -> None:
        self._hash = hash
        self.missing = length
        self.beyond = 0

    def update(self, octets: bytes) -> None:
        """Hash octets up to the limit, and count the others."""
        wanted = octets[: self.missing]
        self._hash.update(wanted)
        self.missing -= len(wanted)
        self.beyond += len(octets) - len(wanted)
