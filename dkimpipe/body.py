"""The body of a message on its way to every hash that wants it, each in its own canonical form."""

from dkimpipe import digest
from dkimpipe.canonical import Body
from dkimpipe.message import LineEnds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.digest import Hash

# What an empty body becomes in DKIM: RFC 6376 sections 3.4.3 and 3.4.4.
EMPTY = {"simple": b"\r\n", "relaxed": b""}


class BodyHashes:
    """All hashes of one body. Signatures that want the same one share it."""

    __slots__ = ("_bodies", "_hashes", "_line_ends", "large")

    def __init__(self, large: bool) -> None:
        """``large``: worth the start of a faster hash function."""
        self.large = large
        self._line_ends = LineEnds()
        self._bodies: list[Body] = []
        self._hashes: dict[tuple[str, str], Hash] = {}

    def hash(self, canonicalization: str, hash_name: str) -> "Hash":
        """Return the hash for bh= (RFC 6376 section 3.7), complete after ``finish``."""
        wanted = (canonicalization, hash_name)
        if wanted not in self._hashes:
            self._hashes[wanted] = digest.new(hash_name, self.large)
            self.add(Body(canonicalization, self._hashes[wanted].update, EMPTY[canonicalization]))
        return self._hashes[wanted]

    def add(self, body: Body) -> None:
        """Let one more canonicalization have the body."""
        self._bodies.append(body)

    def update(self, octets: bytes) -> None:
        """Take some more of the body, raw."""
        self._feed(self._line_ends.update(octets))

    def finish(self) -> None:
        """The body is complete."""
        self._feed(self._line_ends.finish())
        for body in self._bodies:
            body.finish()

    def _feed(self, text: bytes) -> None:
        for body in self._bodies:
            body.update(text)
