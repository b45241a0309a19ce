"""Identifier alignment for DMARC, as far as it is known without DNS."""

from __future__ import annotations

import pytest

from dkimpipe.verify.alignment import have_common_parent, is_aligned

# The authenticated domain, the author domain, and whether they are aligned: strictly, in relaxed mode.
PAIRS: dict[str, tuple[str, str, tuple[bool, bool]]] = {
    "the same": ("example.com", "example.com", (True, True)),
    "below": ("mail.example.com", "example.com", (False, True)),
    "above": ("example.com", "mail.example.com", (False, True)),
    "sibling": ("news.example.com", "mail.example.com", (False, False)),
    "the name ends alike": ("notexample.com", "example.com", (False, False)),
    "another": ("example.org", "example.com", (False, False)),
}


@pytest.mark.parametrize(("domain", "author", "expected"), PAIRS.values(), ids=PAIRS)
def test_aligned(domain: str, author: str, expected: tuple[bool, bool]) -> None:
    both = domain.encode(), author.encode()
    assert (is_aligned(*both, strict=True), is_aligned(*both)) == expected


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
