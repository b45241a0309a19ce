"""The body of a message, fed to every hash that needs it, each in its own canonical form."""

from dkimpipe import digest
from dkimpipe.canonical import Body
from dkimpipe.message import LineEnds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.digest import Hash

# The canonical form of an empty body in DKIM: RFC 6376 sections 3.4.3 and 3.4.4.
EMPTY = {"simple": b"\r\n", "relaxed": b""}


class BodyHashes:
    """All hashes of one body. Signatures that need the same hash share it."""

    __slots__ = ("_bodies", "_hashes", "_line_ends", "large")

    def __init__(self, large: bool) -> None:
        """``large``: large enough to justify loading a faster hash function."""
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
        """Feed the body to one more canonicalization."""
        self._bodies.append(body)

    def update(self, octets: bytes) -> None:
        """Process the next raw octets of the body."""
        self._feed(self._line_ends.update(octets))

    def finish(self) -> None:
        """The body is complete."""
        self._feed(self._line_ends.finish())
        for body in self._bodies:
            body.finish()

    def _feed(self, text: bytes) -> None:
        for body in self._bodies:
            body.update(text)
