"""The Authentication-Results field: what is written, what others read in it, and which forged ones go."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkimpipe.message import Field, Message
from dkimpipe.verify.results import Result, claims, without_claims, write

OURS = "mx.example.com"
SIGNER = (("header.d", "example.com"), ("header.s", "s1"))

# The results, and the field.
WRITTEN = {
    "nothing": ([], "Authentication-Results: mx.example.com;\n none"),
    "not signed": ([Result("dkim", "none")], "Authentication-Results: mx.example.com;\n dkim=none"),
    "pass": (
        [Result("dkim", "pass", SIGNER)],
        "Authentication-Results: mx.example.com;\n dkim=pass header.d=example.com header.s=s1",
    ),
    "two, one with a reason": (
        [Result("dkim", "pass", SIGNER), Result("domainkeys", "fail", SIGNER[:1], "body altered")],
        "Authentication-Results: mx.example.com;\n dkim=pass header.d=example.com header.s=s1;\n"
        ' domainkeys=fail reason="body altered" header.d=example.com',
    ),
    "a property without a value": (
        [Result("dkim", "pass", (("header.i", ""), *SIGNER))],
        "Authentication-Results: mx.example.com;\n dkim=pass header.d=example.com header.s=s1",
    ),
    "folded": (
        [Result("dkim", "pass", (*SIGNER, ("header.i", "@news.example.com"), ("header.a", "rsa-sha256")))],
        "Authentication-Results: mx.example.com;\n"
        " dkim=pass header.d=example.com header.s=s1 header.i=@news.example.com\n"
        " header.a=rsa-sha256",
    ),
    "76 columns with the semicolon": (
        [Result("dkim", "pass", (("header.d", "d" * 55),)), Result("dkim", "none")],
        f"Authentication-Results: mx.example.com;\n dkim=pass header.d={'d' * 55};\n dkim=none",
    ),
    "77 columns": (
        [Result("dkim", "pass", (("header.d", "d" * 56),)), Result("dkim", "none")],
        f"Authentication-Results: mx.example.com;\n dkim=pass\n header.d={'d' * 56};\n dkim=none",
    ),
}


@pytest.mark.parametrize(("results", "field"), WRITTEN.values(), ids=WRITTEN)
def test_field_is_written(results: list[Result], field: str) -> None:
    assert write(OURS, results).decode() == field


# A value of foreign origin, and how it is written.
VALUES = {
    "domain": ("mail.example.com", "mail.example.com"),
    "token": ("rsa-sha256", "rsa-sha256"),
    "address": ("a.b+c/d=e@example.com", "a.b+c/d=e@example.com"),
    "domain of an address": ("@example.com", "@example.com"),
    "base64": ("ab/c+d==", '"ab/c+d=="'),
    "blank": ("a b", '"a b"'),
    "semicolon": ("a;dkim=pass", '"a;dkim=pass"'),
    "comment": ("a(b)", '"a(b)"'),
    "quote": ('a" header.d=b', r'"a\" header.d=b"'),
    "backslash": ("a\\", r'"a\\"'),
    "quoted local part": ('"a;b"@example.com', r'"\"a;b\"@example.com"'),
    "two at": ("a@b@c", '"a@b@c"'),
    "no domain behind at": ("a@b..c", '"a@b..c"'),
    "line ends": ("a\r\nBcc: b\n\nc\r", '"a??Bcc: b??c?"'),
    "line end at the end": ("example.com\n", '"example.com?"'),
    "NUL and controls": ("a\0\t\x0b\x7f", '"a????"'),
    "not US-ASCII": ("b\u00fccher\u2028\udcff", '"b?cher??"'),
    "as long as can be": ("a" * 320, "a" * 320),
    "longer": ("a" * 321, "a" * 317 + "..."),
    "a million quotes": ('"' * 1000000, '"' + r"\"" * 317 + '..."'),
}


@pytest.mark.parametrize(("value", "written"), VALUES.values(), ids=VALUES)
def test_value_is_quoted_where_it_is_not_safe(value: str, written: str) -> None:
    field = write(OURS, [Result("dkim", "pass", (("header.i", value),))]).decode()
    assert re.split(r"dkim=pass\s+", field) == [
        "Authentication-Results: mx.example.com;\n ",
        f"header.i={written}",
    ]


def test_reason_and_authserv_id_are_no_addresses() -> None:
    field = write("a@example.com", [Result("dkim", "fail", (), "a@example.com")])
    assert field == b'Authentication-Results: "a@example.com";\n dkim=fail reason="a@example.com"'


def test_authserv_id_is_written_in_lower_case_and_a_labels() -> None:
    assert write("MX.B\u00fccher.example.", []) == b"Authentication-Results: mx.xn--bcher-kva.example;\n none"


anything = (
    st.text(max_size=30) | st.text('"\\;=@.() \r\n\0aheader.d', max_size=30) | st.text("ab", min_size=300)
)
plain = st.sampled_from(["example.com", "@example.com", "a@example.com", "s1", "rsa-sha256"])
verdicts = st.sampled_from("none pass fail policy neutral temperror permerror".split())
methods = st.sampled_from(["dkim", "domainkeys"])
names = st.sampled_from([f"header.{letter}" for letter in "adisb"])


def results(values: st.SearchStrategy[str], last: st.SearchStrategy[str]) -> st.SearchStrategy[list[Result]]:
    """Return lists of results whose properties have such values, the last of each such a one."""
    some = st.lists(st.tuples(names, values), max_size=3)
    properties = st.builds(lambda some, last: (*some, last), some, st.tuples(names, last))
    result = st.builds(Result, methods, verdicts, properties | st.just(()), anything)
    return st.lists(result, min_size=1, max_size=3)


def cleaned(value: str) -> str:
    """Return a value as far as it can be written."""
    value = value if len(value) <= 320 else value[:317] + "..."
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in value)


def as_written(some: list[Result]) -> list[Result]:
    """Return results as far as their values can be written."""
    return [
        Result(
            method,
            verdict,
            tuple((name, cleaned(value)) for name, value in properties if value),
            cleaned(reason),
        )
        for method, verdict, properties, reason in some
    ]


def read_by_authres(field: bytes) -> list[Result]:
    """Return what the PyPI package authres reads; it leaves quoted pairs as they are."""
    authres: Any = pytest.importorskip("authres")
    header = authres.AuthenticationResultsHeader.parse(field.decode())
    assert header.authserv_id == OURS

    def unquoted(value: str | None) -> str:
        return re.sub(r"\\(.)", r"\1", str(value or ""))

    return [
        Result(
            read.method,
            read.result,
            tuple((f"{each.type}.{each.name}", unquoted(each.value)) for each in read.properties),
            unquoted(read.reason),
        )
        for read in header.results
    ]


@given(results(plain, anything))
def test_others_read_what_was_written(some: list[Result]) -> None:
    assert read_by_authres(write(OURS, some)) == as_written(some)


@given(results(anything, anything))
def test_others_never_read_more(some: list[Result]) -> None:
    """authres passes over a property whose quoted-string another property follows."""
    expected = as_written(some)
    read = read_by_authres(write(OURS, some))
    assert [result._replace(properties=()) for result in read] == [
        result._replace(properties=()) for result in expected
    ]
    for result, whole in zip(read, expected):
        left = iter(whole.properties)
        assert all(each in left for each in result.properties)


@given(anything.filter(str.strip), results(anything, anything))
def test_any_field_is_printable_folded_and_ours(authserv_id: str, some: list[Result]) -> None:
    field = write(authserv_id, some)
    assert re.fullmatch(rb"[!-~][ -~]*(\n [!-~][ -~]*)*", field)
    assert max(map(len, field.split(b"\n"))) <= 998
    assert claims(Field(b"authentication-results", field), authserv_id)


# Values of fields that go.
FORGED = {
    "as we write it": " mx.example.com; dkim=pass header.d=bank.example",
    "no blank": "mx.example.com;dkim=pass",
    "upper case": " MX.Example.COM; dkim=pass",
    "folded before": "\n mx.example.com; dkim=pass",
    "folded behind": " mx.example.com\n\t; dkim=pass",
    "folded twice, a blank line": "\n \n mx.example.com; dkim=pass",
    "no results": " mx.example.com",
    "none": " mx.example.com; none",
    "version": " mx.example.com 1; dkim=pass",
    "unknown version": " mx.example.com 99; dkim=pass",
    "comment before": " (mail) mx.example.com; dkim=pass",
    "comment touching": "(mail)mx.example.com(mail);dkim=pass",
    "comment before the version": " mx.example.com (a) 1 (b); dkim=pass",
    "nested comments": " (a (b (c) d) (e)) mx.example.com; dkim=pass",
    "comment with escapes": r" (a \) mx.other.example; \( \\) mx.example.com; dkim=pass",
    "comment with a quote": ' (") mx.example.com (") ; dkim=pass',
    "comment naming another": " (mx.other.example;) mx.example.com; dkim=pass",
    "folded comment": " (a\n b) mx.example.com; dkim=pass",
    "quoted": ' "mx.example.com"; dkim=pass',
    "quoted pairs": r' "\m\x.ex\ample.com"; dkim=pass',
    "quoted, upper case, version": ' "MX.EXAMPLE.COM" 1; dkim=pass',
    "quoted and folded": ' "\n mx.example.com"; dkim=pass',
    "quoted with blanks": ' " mx.example.com "; dkim=pass',
    "quoted with the version": ' "mx.example.com 1"; dkim=pass',
    "quoted with a semicolon": ' "mx.example.com; dkim=pass"',
    "quoted in part": ' mx."example".com; dkim=pass',
    "trailing dot": " mx.example.com.; dkim=pass",
    "two trailing dots": " mx.example.com..; dkim=pass",
    "trailing dot and version": " mx.example.com. 1; dkim=pass",
    "blanks round the dots": " mx . example\n . com; dkim=pass",
    "comments round the dots": " mx(a).(b)example(c (d)).com; dkim=pass",
    "another behind a blank": " mx.example.com .other.example; dkim=pass",
    "another behind a blank, and in a comment": " mx.example.com .b.example (mx.example.com.b.example);",
    "full-width letters": " \uff4d\uff58.example\uff0e\uff43om; dkim=pass",
    "ideographic full stop": " mx\u3002example.com; dkim=pass",
    "no-break space": "\u00a0mx.example.com; dkim=pass",
    "zero-width space": " \u200bmx.example.com\u200b; dkim=pass",
    "soft hyphen": " mx.exam\u00adple.com; dkim=pass",
    "octet that is no UTF-8": " mx.example.com\udcff; dkim=pass",
    "octet that is no UTF-8 within": " mx.exam\udcffple.com; dkim=pass",
    "control before": " \x0bmx.example.com; dkim=pass",
    "NUL behind": " mx.example.com\0; dkim=pass",
    "CR within": " mx.exam\rple.com; dkim=pass",
    "garbage behind": " mx.example.com \\)]>; dkim=pass",
    "equals": " mx.example.com=1; dkim=pass",
    "slash": " mx.example.com/1; dkim=pass",
    "comma": " mx.other.example, mx.example.com; dkim=pass",
    "angles": " <mx.example.com>; dkim=pass",
    "semicolon before": " ; mx.example.com; dkim=pass",
    "comment without end": " (mx.example.com; dkim=pass",
    "comment without end behind": " mx.example.com (; dkim=pass",
    "parenthesis before": " ) mx.example.com; dkim=pass",
    "quote without end": ' "mx.example.com; dkim=pass',
    "quote without end, quoted pairs": r' "mx.\example.com; dkim=pass',
    "backslash at the end": ' "mx.example.com\\',
    "encoded word": " =?utf-8?b?bXguZXhhbXBsZS5jb20=?=; dkim=pass",
    "results before it": " dkim=pass (mx.example.com)",
}


def field(value: str) -> Field:
    """Return the field of such a value."""
    return Field(
        b"authentication-results", f"Authentication-Results:{value}".encode("utf-8", "surrogateescape")
    )


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
def test_forged_field_claims_our_id(value: str) -> None:
    assert claims(field(value), OURS)


# Values of fields that stay.
OTHERS = {
    "another host": " mx.other.example; dkim=pass header.d=example.com",
    "another host, version": " mx.other.example 1; dkim=pass",
    "our domain": " example.com; dkim=pass",
    "another host of our domain": " mx2.example.com; dkim=pass",
    "ends like ours": " a.mx.example.com; dkim=pass",
    "ends like ours, no dot": " amx.example.com; dkim=pass",
    "begins like ours": " mx.example.com.other.example; dkim=pass",
    "begins like ours, no dot": " mx.example.community; dkim=pass",
    "begins like ours, a digit": " mx.example.com1; dkim=pass",
    "begins like ours, a number": " mx.example.com.1; dkim=pass",
    "ends like ours, quoted": ' "a.mx.example.com"; dkim=pass',
    "ends like ours, U-labels": " b\u00fccher.mx.example.com; dkim=pass",
    "ends like ours, long U-labels": " " + "b\u00fccher." * 40 + "mx.example.com; dkim=pass",
    "homograph": " mx.ex\u0430mple.com; dkim=pass",
    "ours in a comment before": " (mx.example.com) mx.other.example; dkim=pass",
    "ours in a comment behind": " mx.other.example (mx.example.com;) ; dkim=pass",
    "ours in a nested comment": r" (a (\) mx.example.com) b) mx.other.example; dkim=pass",
    "ours in the results": " mx.other.example; dkim=pass header.d=mx.example.com",
    "ours in the results, version": " mx.other.example (a) 1 (b); dkim=pass header.d=mx.example.com",
    "ours in a reason": ' mx.other.example; dkim=fail reason="; mx.example.com; dkim=pass"',
    "ours in garbage of the results": " mx.other.example; mx.example.com; (dkim=pass",
    "ours in a comment, no results": " mx.other.example (mx.example.com)",
    "no grammar, not ours": " spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=a@other.example; dkim=none",
    "nothing": "",
    "blanks": "  \n ",
}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
def test_field_of_another_host_does_not_claim_our_id(value: str) -> None:
    assert not claims(field(value), OURS)


def test_other_fields_never_claim_our_id() -> None:
    for name in (b"x-authentication-results", b"arc-authentication-results", b"received"):
        assert not claims(Field(name, name + b": mx.example.com; dkim=pass"), OURS)


IDS = ["b\u00fccher.example", "xn--bcher-kva.example", "XN--Bcher-KVA.example.", "bu\u0308cher.example"]
DISGUISES = {
    "U-label": " b\u00fccher.example; none",
    "U-label, upper case": " B\u00dcCHER.example; none",
    "U-label, not composed": " bu\u0308cher.example; none",
    "U-label, quoted": ' "b\u00fc\\cher.example"; none',
    "U-label in garbage": " <B\u00dcCHER.example>; none",
    "A-label": " xn--bcher-kva.example; none",
    "A-label, upper case": " XN--BCHER-KVA.EXAMPLE; none",
    "A-label in garbage": " <XN--BCHER-KVA.EXAMPLE>; none",
}


@pytest.mark.parametrize("authserv_id", IDS)
@pytest.mark.parametrize("value", DISGUISES.values(), ids=DISGUISES)
def test_u_labels_and_a_labels_are_the_same(authserv_id: str, value: str) -> None:
    assert claims(field(value), authserv_id)
    assert not claims(field(value), "bucher.example")


# Headers with what is to go between angles.
HEADERS = {
    "none of ours": "From: a@example.com\nAuthentication-Results: mx.other.example; none\n\n",
    "first": "<Authentication-Results: mx.example.com; none\n>From: a@example.com\n\n",
    "last": "From: a@example.com\n<Authentication-Results: mx.example.com; none\n>\n",
    "all": "<Authentication-Results: mx.example.com; none\n><AUTHENTICATION-results:MX.example.com\n>\n",
    "folded": "X: a\n b\n<Authentication-Results:\n mx.example.com;\n\tnone\n>Y:  c\n\td\n\n",
    "blank lines in it": "X: a\n<Authentication-Results: mx.example.com;\n \n none\n \n>Y: c\n\n",
    "blanks before the colon": "<Authentication-Results \t: mx.example.com; none\n>X \t:a\n\n",
    "no empty line, body begins": "X: a\n<Authentication-Results: mx.example.com; none\n>",
    "no line end": "X: a\n<Authentication-Results: mx.example.com; none>",
    "no line end, another stays": "<Authentication-Results: mx.example.com; none\n>X: a",
    "nothing else": "<Authentication-Results: mx.example.com; none>",
    "CR within": "X: a\rb\n<Authentication-Results: mx.example.com;\r none\n>Y: \r\n\n",
    "similar names": "X-Authentication-Results: mx.example.com\nAuthentication-Result: mx.example.com\n\n",
    "in another field": "X: a\n Authentication-Results: mx.example.com; none\n\n",
    "no header": "\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("body", ["", "Authentication-Results mx.example.com\n"], ids=["no body", "body"])
def test_only_these_fields_go(header: str, line_end: str, body: str) -> None:
    octets = header.replace("\n", line_end).encode()
    whole = octets.translate(None, b"<>") + (body.encode() if header.endswith(("\n", "\n>")) else b"")
    message = Message(io.BytesIO(whole).read)
    assert without_claims(message, OURS) == re.sub(rb"<[^>]*>", b"", octets)


parts = st.sampled_from(
    [
        b"X: a",
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\t",
        b"authentication-results",
        b":",
        b"mx.example.com",
        b";",
        b"(",
        b'"',
    ]
)


@given(st.lists(parts, max_size=30).map(b"".join))
def test_what_is_kept_is_the_header_less_whole_fields(octets: bytes) -> None:
    message = Message(io.BytesIO(octets).read)
    assert without_claims(message, "no.such.example") == message.header
    again = Message(io.BytesIO(without_claims(message, OURS)).read)
    kept = [field.text for field in message.fields if not claims(field, OURS)]
    assert [field.text for field in again.fields] == kept


MEGABYTE = 1 << 20
HARMLESS = f" ({'a' * MEGABYTE}) mx.other.example; none"
HOSTILE = {
    "opening parentheses": "(" * MEGABYTE,
    "pairs of parentheses": "()" * (MEGABYTE // 2),
    "nested parentheses": "(" * (MEGABYTE // 2) + ")" * (MEGABYTE // 2),
    "pairs, one more opens": "()" * (MEGABYTE // 2) + "(",
    "escapes": '"' + "\\" * MEGABYTE,
    "quotes": '"' * MEGABYTE,
    "blanks": " " * MEGABYTE,
    "folds": "\n " * (MEGABYTE // 2),
    "digits": "mx.other.example " + "1" * MEGABYTE + "x",
    "dots": "a." * (MEGABYTE // 2),
    "encoded": "=" * MEGABYTE,
    "letters outside US-ASCII": "\u00fc" * (MEGABYTE // 2),
    "many letters outside US-ASCII": "".join(map(chr, range(0x4E00, 0x4F00))) * (MEGABYTE // 768),
    "letters that are no UTF-8": "\udcff" * MEGABYTE,
    "marks out of order": "a" + "\u0301\u0327" * (MEGABYTE // 4) + "=",
    "almost ours": "mx.example.co" * (MEGABYTE // 13) + "=",
}


def seconds(value: str) -> float:
    """Return the CPU time that a field costs."""
    made = field(value)
    start = time.process_time()
    claims(made, OURS)
    return time.process_time() - start


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_costs_no_more_than_a_few_times_a_harmless_one(value: str) -> None:
    ratios = [seconds(value) / seconds(HARMLESS) for _ in range(3)]
    assert min(ratios) < 8
