"""The DMARC policy of an author domain (RFC 9989), as far as it can lead to a rejection: ``p=reject``.

No public suffix list is used. The organizational domain is found by a DNS tree walk (section 4.10): it is the
widest domain, down to two labels, that has a DMARC record, except that a registry's record (``psd=y``) makes
it the domain below. Records between the organizational domain and the author domain are ignored.

In doubt a message is not rejected: in test mode (``t=y``), if the policy is for a part of the mail (``pct``
of RFC 7489), if ``sp`` and ``np`` differ, or if there are several records at one name.
"""

from __future__ import annotations

import re

from dkimpipe.errors import RejectedError
from dkimpipe.verify import taglist
from dkimpipe.verify.alignment import is_aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dkimpipe.verify.policyrecord import Tags
    from dkimpipe.verify.resolver import Resolver

_MAX_PARENTS = 8  # names that are queried above one author domain
_POLICIES = (b"none", b"quarantine", b"reject")
_DMARC = re.compile(rb"\s*v\s*=\s*DMARC1\s*(;|\Z)")


def enforce(author: bytes, signers: Sequence[bytes], spf: Sequence[bytes], resolver: Resolver) -> None:
    """Raise RejectedError if the policy is p=reject and nothing aligned passed. Raises TemporaryError.

    ``signers`` are the domains with a valid DKIM signature, ``spf`` those for which SPF passed. An empty
    one, which our host did not record, is taken for aligned.
    """
    own = _record(author, resolver)
    organization, tags = _organization(author, own, resolver)
    if not _rejects(tags, below=not own):
        return

    def aligned(domain: bytes, mode: bytes) -> bool:
        return is_aligned(domain, author, organization, strict=tags.get(mode, b"r").lower() == b"s")

    if any(aligned(domain, b"adkim") for domain in signers):
        return
    if any(not domain or aligned(domain, b"aspf") for domain in spf):
        return
    raise RejectedError(f"neither DKIM nor SPF passes for {author.decode()}, whose policy is reject (DMARC)")


def _rejects(tags: Tags, below: bool) -> bool:
    """Return whether a record demands rejection, of mail from its domain or from domains below."""
    own = tags.get(b"p", b"").lower()
    subdomain = tags.get(b"sp", own).lower()
    nonexistent = tags.get(b"np", subdomain).lower()
    if not {own, subdomain, nonexistent}.issubset(_POLICIES):  # an invalid record is ignored
        return False
    if tags.get(b"pct", b"100") != b"100" or tags.get(b"t", b"n").lower() == b"y":
        return False
    # Whether a subdomain exists is not looked up: both of its policies must demand the rejection.
    return subdomain == nonexistent == b"reject" if below else own == b"reject"


def _organization(author: bytes, own: Tags, resolver: Resolver) -> tuple[bytes, Tags]:
    """Return the organizational domain of an author domain, and the record that applies to the latter.

    ``own`` is the record of the author domain, empty if it has none.
    """
    found, widest, below = author, own, author
    for parent in _parents(author) if own.get(b"psd", b"u") == b"u" else ():
        record = _record(parent, resolver)
        if record.get(b"psd") == b"y":
            return below, own or (widest if found == below else {})
        if record:
            found, widest = parent, record
        if record.get(b"psd") == b"n":
            break
        below = parent
    return found, own or widest


def _record(domain: bytes, resolver: Resolver) -> Tags:
    """Return the tags of the DMARC record of a domain, empty if it has none."""

    texts = resolver.texts(f"_dmarc.{domain.decode()}").texts
    found = [text for text in texts if _DMARC.match(text)]
    if len(found) > 1:  # no policy, not even that of a parent; a record with errors counts, too
        return {b"v": b"DMARC1"}
    try:
        return taglist.parse(found[0]) if found else {}
    except ValueError:
        return {}


def _parents(domain: bytes) -> Iterator[bytes]:
    """Yield the domains above a domain, down to two labels; if there are many, the widest."""
    labels = domain.split(b".")
    for first in range(max(1, len(labels) - _MAX_PARENTS), len(labels) - 1):
        yield b".".join(labels[first:])
