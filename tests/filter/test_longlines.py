"""Lines over 998 octets are broken where smtp(8) breaks them, and nothing else is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkimpipe.longlines import BodyLines, fold_header


def broken(octets: bytes, line_end: bytes = b"\n", cuts: tuple[int, ...] = ()) -> tuple[bytes, int]:
    """Return a body that came cut at these offsets, and how many lines were broken."""
    lines = BodyLines(line_end)
    bounds = [0, *sorted({cut % (len(octets) + 1) for cut in cuts}), len(octets)]
    pieces = [lines.update(octets[start:end]) for start, end in zip(bounds, bounds[1:])]
    return b"".join([*pieces, lines.finish()]), lines.broken


def model(octets: bytes, line_end: bytes) -> bytes:
    """Return what smtp(8) makes of a body: 998 octets, then 997 behind a blank (Postfix smtp_proto.c)."""
    done = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", octets):
        content = re.sub(rb"\r?\n\Z", b"", line)
        pieces = [content[:998], *(b" " + content[at : at + 997] for at in range(998, len(content), 997))]
        done.append(line_end.join(pieces) + line[len(content) :])
    return b"".join(done)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("length", [0, 1, 997, 998, 999, 1000, 1994, 1995, 1996, 2992, 2993, 70000])
@pytest.mark.parametrize("end", ["line end", "end of input"])
def test_body_line_is_broken_where_smtp_would(length: int, line_end: bytes, end: str) -> None:
    octets = b"short" + line_end + b"x" * length + (line_end + b"short" if end == "line end" else b"")
    assert broken(octets, line_end) == (model(octets, line_end), int(length > 998))


parts = st.sampled_from([b"\n", b"\r\n", b"\r", b" ", b"x" * 10, b"y" * 499, b"z" * 997, b"." * 998])


@given(
    st.lists(parts, max_size=12).map(b"".join),
    st.tuples(*[st.integers(0, 9999)] * 5),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_body_in_any_chunks(octets: bytes, cuts: tuple[int, ...], line_end: bytes) -> None:
    assert broken(octets, line_end, cuts)[0] == model(octets, line_end)


WORDS = b" ".join([b"<%010d@example.com>" % number for number in range(100)])  # 2299 octets

FOLDED = {
    "within the limit": (b"Subject: " + b"x" * 989, None),
    "unbroken": (b"Subject: " + b"x" * 990, [b"Subject: " + b"x" * 989, b" x"]),
    "unbroken, long": (b"X: " + b"x" * 2000, [b"X: " + b"x" * 995, b" " + b"x" * 997, b" " + b"x" * 8]),
    "at a blank": (b"X: " + b"a" * 500 + b" " + b"b" * 600, [b"X: " + b"a" * 500, b" " + b"b" * 600]),
    "at a run of blanks": (
        b"X: " + b"a" * 500 + b" \t " + b"b" * 600,
        [b"X: " + b"a" * 500, b" \t " + b"b" * 600],
    ),
    "at the last octet": (b"X: " + b"a" * 995 + b" b", [b"X: " + b"a" * 995, b" b"]),
    "a continuation": (
        b"X: a\n\t" + b"b" * 700 + b" " + b"c" * 700,
        [b"X: a", b"\t" + b"b" * 700, b" " + b"c" * 700],
    ),
    "a continuation unbroken": (b"X: a\n " + b"b" * 998, [b"X: a", b" " + b"b" * 997, b" b"]),
    "not behind the colon": (b"X:  " + b"x" * 1000, [b"X:  " + b"x" * 994, b" " + b"x" * 6]),
    "blanks only": (b"X: a\n" + b" " * 1000, [b"X: a", b" " * 998, b" " * 3]),
}


@pytest.mark.parametrize(("field", "lines"), FOLDED.values(), ids=FOLDED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_header_line_is_folded(field: bytes, lines: list[bytes] | None, line_end: bytes) -> None:
    header = b"From: a@example.com\n" + field + b"\nTo: b@example.com\n\n"
    expected = b"From: a@example.com\n" + b"\n".join(lines or [field]) + b"\nTo: b@example.com\n\n"
    folded = fold_header(header.replace(b"\n", line_end), line_end)
    assert folded == (expected.replace(b"\n", line_end), int(lines is not None))


def test_folding_at_blanks_keeps_the_unfolded_value() -> None:
    header = b"References: " + WORDS + b"\n"
    folded, count = fold_header(header, b"\n")
    assert count == 1
    assert folded.replace(b"\n ", b" ") == header
    assert max(map(len, folded.split(b"\n"))) <= 998
