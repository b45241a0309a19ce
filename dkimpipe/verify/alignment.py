"""Identifier alignment for DMARC (RFC 9989 section 4.4), as far as it is known without DNS."""

from __future__ import annotations

from dkimpipe.address import is_at_or_below


def is_aligned(identifier: bytes, author: bytes, strict: bool = False) -> bool:
    """Return whether an authenticated domain, d= or the one of SPF, is aligned with the author domain.

    ``strict``  adkim=s or aspf=s: only the author domain itself is aligned

    Both are in lower-case A-labels. In relaxed mode, one that is above the other is taken for its
    organizational domain.
    """
    if strict:
        return identifier == author
    return is_at_or_below(identifier, author) or is_at_or_below(author, identifier)


def have_common_parent(one: bytes, other: bytes) -> bool:
    """Return whether both domains are below one of at least two labels: perhaps one organizational domain."""
    return one.split(b".")[-2:] == other.split(b".")[-2:] and b"." in one
