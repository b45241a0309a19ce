"""Identifier alignment for DMARC (RFC 9989 section 4.4)."""

from __future__ import annotations

from dkimpipe.address import is_at_or_below


def is_aligned(
    identifier: bytes, author: bytes, organization: bytes | None = None, strict: bool = False
) -> bool:
    """Return whether an authenticated domain, d= or the one of SPF, is aligned with the author domain.

    ``organization``  the organizational domain of the author domain. If it is unknown, as it is without DNS,
                      the author domain itself is used
    ``strict``        adkim=s or aspf=s: only the author domain itself is aligned

    All are in lower-case A-labels. A domain above the author domain is aligned in relaxed mode, even if it
    has no DMARC record: it is the organizational domain for verifiers that use a public suffix list.
    """
    if strict:
        return identifier == author
    return is_at_or_below(identifier, organization or author) or is_at_or_below(author, identifier)


def have_common_parent(one: bytes, other: bytes) -> bool:
    """Return whether both domains are below one of at least two labels: perhaps one organizational domain."""
    return one.split(b".")[-2:] == other.split(b".")[-2:] and b"." in one
