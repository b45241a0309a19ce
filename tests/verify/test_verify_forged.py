"""Forged Authentication-Results fields, which ``dkimpipe verify`` removes."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from perl_reader import needs_reader, read_by_perl

from dkimpipe.message import Field, Message
from dkimpipe.verify.forged import claims_to_be_ours, without_forged

US = "mx.example.com"

# Each example is a process, and holds many values: smaller ones need no search.
few = settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)

# The fields that claim to be ours.


def claimed(octets: bytes, authserv_id: str = US) -> bool:
    """Return whether the first field of this header claims our name."""
    return claims_to_be_ours(Message(io.BytesIO(octets + b"\nX: y\n\n").read).fields[0], authserv_id)


FORGED = {
    "plain": b"Authentication-Results: mx.example.com; dkim=pass header.d=bank.example",
    "upper case": b"AUTHENTICATION-RESULTS: MX.EXAMPLE.COM; dkim=pass",
    "no space": b"Authentication-Results:mx.example.com;dkim=pass",
    "spaces before the colon": b"Authentication-Results \t: mx.example.com; dkim=pass",
    "version": b"Authentication-Results: mx.example.com 1; dkim=pass",
    "version with a slash": b"Authentication-Results: mx.example.com/1; dkim=pass",
    "comment before": b"Authentication-Results: (by us) mx.example.com; dkim=pass",
    "comment behind": b"Authentication-Results: mx.example.com(by us); dkim=pass",
    "comment in the name": b"Authentication-Results: mx.example(x).com; dkim=pass",
    "nested comments": b"Authentication-Results: (a(b(c)d)e)mx.example.com; dkim=pass",
    "escaped parentheses": rb"Authentication-Results: (a\)b\(c\\)mx.example.com; dkim=pass",
    "a semicolon in a comment": b"Authentication-Results: (a;b) mx.example.com; dkim=pass",
    "a quote in a comment": b'Authentication-Results: (") mx.example.com; dkim=pass',
    "quoted": b'Authentication-Results: "mx.example.com"; dkim=pass',
    "quoted pairs": rb'Authentication-Results: "mx\.ex\ample.com"; dkim=pass',
    "partly quoted": b'Authentication-Results: mx."example".com; dkim=pass',
    "folded": b"Authentication-Results:\n mx.example.com;\n dkim=pass",
    "folded by CRLF and tabs": b"Authentication-Results:\r\n\tmx.example.com\r\n\t;dkim=pass",
    "folded within": b"Authentication-Results: mx.\n example.com; dkim=pass",
    "dot at the end": b"Authentication-Results: mx.example.com.; dkim=pass",
    "no result": b"Authentication-Results: mx.example.com",
    "none": b"Authentication-Results: mx.example.com; none",
    "garbage behind": b"Authentication-Results: mx.example.com ,:=<; dkim=pass",
    "a word behind": b"Authentication-Results: mx.example.com evil.example; dkim=pass",
    "NUL behind": b"Authentication-Results: mx.example.com\0evil.example; dkim=pass",
    "NUL within": b"Authentication-Results: mx.exa\0mple.com; dkim=pass",
    "bare CR within": b"Authentication-Results: mx.exa\rmple.com; dkim=pass",
    "no UTF-8 within": b"Authentication-Results: mx.exa\xffmple.com; dkim=pass",
    "wide letters": "Authentication-Results: \uff4d\uff58\uff0eexample\u3002com; dkim=pass".encode(),
    "a character of no width": "Authentication-Results: mx.exa\u200bmple.com; dkim=pass".encode(),
    "soft hyphen": "Authentication-Results: mx.exam\u00adple.com; dkim=pass".encode(),
    "accent": "Authentication-Results: mx.exa\u0301mple.com; dkim=pass".encode(),
    "without a name before": b"Authentication-Results: dkim=none; mx.example.com; dkim=pass",
    "behind another": b"Authentication-Results: evil.example; mx.example.com; dkim=pass",
    "for a reader without comments": b"Authentication-Results: evil.example (; mx.example.com; dkim=pass)",
    "for a reader without quotes": b'Authentication-Results: "evil; mx.example.com; dkim=pass"; spf=pass',
    # What is ambiguous is removed, whatever it contains.
    "encoded word": b"Authentication-Results: =?utf-8?q?mx=2Eexample=2Ecom?=; dkim=pass",
    "encoded word in a comment": b"Authentication-Results: x (=?us-ascii?B?Oy4uLg==?=); dkim=pass",
    "comment without an end": b"Authentication-Results: (mx.\\example.com; dkim=pass",
    "quote without an end": b'Authentication-Results: "mx\\.example.com; dkim=pass',
    "parenthesis too many": b"Authentication-Results: x) mx.example.com; dkim=pass",
    "no name": b"Authentication-Results: ; dkim=pass",
    "only a comment": b"Authentication-Results: (mx.example.com); dkim=pass",
    "nothing": b"Authentication-Results:",
}


@pytest.mark.parametrize("octets", FORGED.values(), ids=FORGED)
def test_a_forged_field_is_recognised(octets: bytes) -> None:
    assert claimed(octets)


IDN = "mx.xn--bcher-kva.example"
FORGED_IDN = {
    "A-labels": b"mx.xn--bcher-kva.example",
    "A-labels, upper case": b"MX.XN--BCHER-KVA.EXAMPLE",
    "U-labels": "mx.b\u00fccher.example".encode(),
    "U-labels, upper case": "MX.B\u00dcCHER.EXAMPLE".encode(),
    "U-labels, letter and accent": "mx.bu\u0308cher.example".encode(),
    "U-labels, quoted": '"mx.b\u00fccher.example" 1'.encode(),
}


@pytest.mark.parametrize("name", FORGED_IDN.values(), ids=FORGED_IDN)
def test_both_spellings_are_recognised(name: bytes) -> None:
    assert claimed(b"Authentication-Results: " + name + b"; dkim=pass", IDN)


# Fields of others, which stay.
OTHERS = {
    "another host": b"Authentication-Results: mx.example.net; dkim=pass header.d=example.com",
    "our domain": b"Authentication-Results: example.com; dkim=pass",
    "a host below us": b"Authentication-Results: a.mx.example.com; dkim=pass",
    "a name that begins with ours": b"Authentication-Results: mx.example.com.evil.example; dkim=pass",
    "a longer label in front": b"Authentication-Results: amx.example.com; dkim=pass",
    "a longer label behind": b"Authentication-Results: mx.example.community; dkim=pass",
    "a hyphen behind": b"Authentication-Results: mx.example.com-a; dkim=pass",
    "no dot": b"Authentication-Results: mxxexample.com; dkim=pass",
    "in a property": b"Authentication-Results: mx.example.net; dkim=pass header.d=mx.example.com",
    "in a comment": b"Authentication-Results: mx.example.net; iprev=pass (mx.example.com)",
    "in a quoted value": b'Authentication-Results: mx.example.net; dkim=fail reason="no mx.example.com"',
    "broken behind the name": b"Authentication-Results: mx.example.net; dkim=pass (a",
    "no name, as some write": b"Authentication-Results: spf=pass smtp.mailfrom=example.org; dkim=none",
    "sealed by ARC": b"ARC-Authentication-Results: i=1; mx.example.com; dkim=pass",
    "another field": b"X-Authentication-Results: mx.example.com; dkim=pass",
    "a longer name": b"Authentication-Results-Old: mx.example.com; dkim=pass",
    "ours in the subject": b"Subject: Authentication-Results: mx.example.com; dkim=pass",
}


@pytest.mark.parametrize("octets", OTHERS.values(), ids=OTHERS)
def test_a_field_of_others_is_not_ours(octets: bytes) -> None:
    assert not claimed(octets)


piece = st.sampled_from(
    [
        *b'mx.example.com;"\\() 1=/\t\n',
        b"mx.example.com",
        b"mx.",
        b"(a)",
        b'"',
        b"\n ",
        b"\\m",
        b"evil.example",
    ]
).map(lambda one: one if isinstance(one, bytes) else bytes([one]))
disguise = st.tuples(
    st.lists(piece, max_size=6).map(b"".join),
    st.sampled_from([b"mx.example.com", b"MX.example.COM", b'"mx.example.com"']),
    st.lists(piece, max_size=6).map(b"".join),
).map(lambda three: b"".join(three).replace(b"\n", b"\n ") + b"; dkim=pass")


@needs_reader
@few
@given(st.lists(disguise, min_size=20, max_size=60))
def test_what_another_program_reads_as_ours_is_recognised(values: list[bytes]) -> None:
    for value, read in zip(values, read_by_perl(values)):
        if read.get("name", "").lower() == US:
            assert claimed(b"Authentication-Results: " + value), value


# A header without them.


def cleaned(octets: bytes) -> bytes:
    """Return the header without the fields that claim our name."""
    return without_forged(Message(io.BytesIO(octets).read), US)


CLAIM = b"Authentication-Results: mx.example.com;\n dkim=pass\n"
OTHER = b"Authentication-Results: mx.example.net;\n\tdkim=pass \n"
HEADERS = {
    "first": (CLAIM + b"From: a@b\n\n", b"From: a@b\n\n"),
    "between": (b"A: b\n c\n" + CLAIM + b"D:e\n\n", b"A: b\n c\nD:e\n\n"),
    "last": (b"A: b\n" + CLAIM + b"\n", b"A: b\n\n"),
    "last, no empty line": (b"A: b\n" + CLAIM, b"A: b\n"),
    "last, no line end": (b"A: b\n" + CLAIM[:-1], b"A: b\n"),
    "alone": (CLAIM + b"\n", b"\n"),
    "alone, no empty line": (CLAIM, b""),
    "before a line that is no field": (b"A: b\n" + CLAIM + b"hello", b"A: b\n"),
    "several": (CLAIM + OTHER + CLAIM + b"A: b\n" + CLAIM + b"\n", OTHER + b"A: b\n\n"),
    "CRLF": (
        (b"A: b\n" + CLAIM + OTHER + b"\n").replace(b"\n", b"\r\n"),
        (b"A: b\n" + OTHER + b"\n").replace(b"\n", b"\r\n"),
    ),
    "mixed line ends": (b"A: b\r\n" + CLAIM + b"B: c\r\n\n", b"A: b\r\nB: c\r\n\n"),
    "obsolete name": (b"Authentication-Results : mx.example.com\nA: b\n\n", b"A: b\n\n"),
    "a line of white space within": (CLAIM + b" \nA: b\n\n", b"A: b\n\n"),
}


@pytest.mark.parametrize(("octets", "expected"), HEADERS.values(), ids=HEADERS)
def test_forged_fields_are_removed(octets: bytes, expected: bytes) -> None:
    assert cleaned(octets) == expected


# A bare CR, which ends a line for some readers: what is in the header, and what is left.
SMUGGLED = {
    "in another field": b"X: a\rAuthentication-Results: mx.example.com; dkim=pass\n",
    "in capitals": b"X: a\rAUTHENTICATION-RESULTS: mx.example.com; dkim=pass\n",
    "space before the colon": b"X: a\rAuthentication-Results \t: mx.example.com; dkim=pass\n",
    "after a field of others": b"Authentication-Results: a.example; x=y\r" + CLAIM,
    "behind one of others": b"X: a\r" + OTHER[:-2] + b"\r" + CLAIM,
    "behind several": b"X: a\r\r\rY: b\r" + CLAIM,
    "in a continuation": b"X: a\n b\r" + CLAIM,
    "in an empty field": b"X:\r" + CLAIM,
    "continued behind another": b"X: a\rAuthentication-Results:\r mx.example.com; dkim=pass\n",
}


@pytest.mark.parametrize("field", SMUGGLED.values(), ids=SMUGGLED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_field_behind_a_bare_cr_is_removed_with_its_field(field: bytes, line_end: bytes) -> None:
    header = (b"A: b\n" + field + b"C: d\n\n").replace(b"\n", line_end)
    assert cleaned(header) == b"A: b\nC: d\n\n".replace(b"\n", line_end)


UNTOUCHED = {
    "behind a bare CR, of others": b"A: b\r" + OTHER + b"\n",
    "behind a bare CR, a longer name": b"A: b\rX-" + CLAIM + b"\n",
    "no such field": b"From: a@b\r\nTo : c\n d\n\n",
    "of others": OTHER + b"A:\tb \n\t\n" + OTHER + b"\n",
    "no line end": OTHER[:-1],
    "no empty line": b"A: b\n" + OTHER,
    "nothing": b"",
    "no header": b"\n",
    "bare CR and NUL": b"A: b\rc\0\n" + OTHER + b"\n",
}


@pytest.mark.parametrize("octets", UNTOUCHED.values(), ids=UNTOUCHED)
def test_everything_else_stays(octets: bytes) -> None:
    assert cleaned(octets) == octets


folded_line = st.sampled_from([b"A: b\n", b"Subject: \n x\n", b"a : c\n\t\n", OTHER, b"B:\x80\r\r\n"])
fields = st.lists(st.tuples(st.just(False), folded_line) | st.just((True, CLAIM)), max_size=12)


@given(fields, st.sampled_from([b"", b"\n"]), st.booleans())
def test_the_rest_is_octet_for_octet_the_input(
    fields: list[tuple[bool, bytes]], end: bytes, crlf: bool
) -> None:
    def whole(some: list[bytes]) -> bytes:
        octets = b"".join([*some, end])
        return re.sub(rb"\r?\n", b"\r\n", octets) if crlf else octets

    assert cleaned(whole([one for _, one in fields])) == whole([one for ours, one in fields if not ours])


# Hostile sizes.

SIZE = 1 << 20
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "parentheses that open": lambda size: b"(" * size,
    "parentheses that open and close": lambda size: b"(" * (size // 2) + b")" * (size // 2),
    "comments": lambda size: b"()" * (size // 2),
    "quotes": lambda size: b'""' * (size // 2),
    "a quote without an end": lambda size: b'"' + b"\\a" * (size // 2),
    "backslashes": lambda size: b"(" + b"\\" * size,
    "semicolons": lambda size: b";" * size,
    "spaces": lambda size: b"mx.example.co" + b" " * size,
    "dots": lambda size: b"mx.example.com" + b"." * size + b"x",
    "our name, again and again": lambda size: b"mx.example.co;" * (size // 14),
    "equals and question marks": lambda size: b"x" + b"=?" * (size // 2),
    "letters with accents": lambda size: "\u00fc".encode() * (size // 2),
    "accents": lambda size: b"a" + "\u0301\u0323".encode() * (size // 4),
    "no UTF-8": lambda size: b"\xff" * size,
}


@pytest.mark.alone
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_field_takes_little_longer_than_a_harmless_one(
    make: Callable[[int], bytes],
) -> None:
    def seconds(value: bytes) -> float:
        field = Field(b"authentication-results", b"Authentication-Results: " + value)
        started = time.process_time()
        claims_to_be_ours(field, US)
        return time.process_time() - started

    harmless = seconds((b"mx.example.net;" + b' dkim=pass (1024 bits) header.b="abc";' * SIZE)[:SIZE])
    assert seconds(make(SIZE)) < 10 * harmless


def test_many_forged_fields() -> None:
    others = b"Authentication-Results: mx.example.net; dkim=pass\n" * 2000
    assert cleaned(others + CLAIM * 2000 + b"\n") == others + b"\n"


@pytest.mark.alone
def test_many_fields_behind_bare_crs_take_linear_time() -> None:
    def seconds(count: int) -> float:
        header = b"X: a" + b"\rAuthentication-Results: a.example; x=y" * count + b"\n"
        spent = []
        for _ in range(3):
            started = time.process_time()
            assert cleaned(header) == header
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(16_000) < 40 * seconds(1_000)
