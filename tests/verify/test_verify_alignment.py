"""Identifier alignment for DMARC, with and without the organizational domain."""

from __future__ import annotations

import pytest

from dkimpipe.verify.alignment import have_common_parent, is_aligned

# The authenticated domain, the author domain, its organizational domain if known, and whether they are
# aligned: strictly, in relaxed mode.
PAIRS: dict[str, tuple[str, str, str, tuple[bool, bool]]] = {
    "the same": ("example.com", "example.com", "", (True, True)),
    "below": ("mail.example.com", "example.com", "", (False, True)),
    "above": ("example.com", "mail.example.com", "", (False, True)),
    "sibling": ("news.example.com", "mail.example.com", "", (False, False)),
    "sibling in one organization": ("news.example.com", "mail.example.com", "example.com", (False, True)),
    "sibling in another organization": ("b.co.example", "a.co.example", "a.co.example", (False, False)),
    "the name ends alike": ("notexample.com", "example.com", "example.com", (False, False)),
    "another": ("example.org", "example.com", "example.com", (False, False)),
}


@pytest.mark.parametrize(("domain", "author", "organization", "expected"), PAIRS.values(), ids=PAIRS)
def test_aligned(domain: str, author: str, organization: str, expected: tuple[bool, bool]) -> None:
    three = domain.encode(), author.encode(), organization.encode() or None
    assert (is_aligned(*three, strict=True), is_aligned(*three)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("news.example.com", "mail.example.com", True),
        ("a.b.example.com", "c.example.com", True),
        ("example.com", "example.org", False),
        ("example.com", "notexample.com", False),
        ("com", "com", False),
    ],
)
def test_a_common_parent(one: str, other: str, expected: bool) -> None:
    assert have_common_parent(one.encode(), other.encode()) is expected
