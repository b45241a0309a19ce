"""Whether two reports are the same one, sent twice.

The database has a report once for each kind, sender, domain, beginning and identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator


class Content:
    """The content of a report, hashed while it is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._digest = hashlib.sha256()
        self.chunks = self._hashed(chunks)

    def _hashed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            yield chunk

    def identity(self, report_id: str, end: int) -> str:
        """Return what distinguishes a report from others of the same sender, domain and beginning.

        Not all senders have unique identifiers, and some have none: then the content decides. ``chunks`` must
        have been read. ``end`` is in seconds since 1970.
        """
        return f"{report_id}\n{end}" if report_id else self._digest.hexdigest()
