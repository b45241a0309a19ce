"""The Authentication-Results field that ``dkimpipe verify`` writes."""

from __future__ import annotations

import io
import re
import string

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from perl_reader import needs_reader, read_by_perl

from dkimpipe.message import Message
from dkimpipe.verify.authres import ResInfo, write

US = "mx.example.com"

# What is written.

B = ("header.b", "AbCd/+12")
WRITTEN = {
    "nothing checked": ([], "Authentication-Results: mx.example.com; none"),
    "no signature": ([ResInfo("dkim", "none")], "Authentication-Results: mx.example.com;\n dkim=none"),
    "one": (
        [
            ResInfo(
                "dkim",
                "pass",
                (("header.d", "example.com"), ("header.i", "@example.com"), ("header.s", "mail"), B),
            )
        ],
        "Authentication-Results: mx.example.com;\n"
        " dkim=pass header.d=example.com header.i=@example.com header.s=mail\n"
        ' header.b="AbCd/+12"',
    ),
    "two, with a reason": (
        [
            ResInfo("dkim", "fail", (("header.d", "example.com"),), "body altered"),
            ResInfo("domainkeys", "pass", (("header.d", "example.org"),)),
        ],
        "Authentication-Results: mx.example.com;\n"
        ' dkim=fail reason="body altered" header.d=example.com;\n'
        " domainkeys=pass header.d=example.org",
    ),
    "a domain of 253 octets has a line of its own": (
        [ResInfo("dkim", "pass", (("header.d", "a." * 125 + "com"), ("header.s", "mail")))],
        f"Authentication-Results: mx.example.com;\n dkim=pass\n header.d={'a.' * 125}com\n header.s=mail",
    ),
}


@pytest.mark.parametrize(("results", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_the_whole_field(results: list[ResInfo], expected: str) -> None:
    assert write(US, results).decode() == expected


# A value, and how it stands in the field.
VALUES = {
    "domain": ("example.com", "example.com"),
    "underscore": ("a_b.example.com", "a_b.example.com"),
    "A-labels": ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    "address": ("joe.doe+x@example.com", "joe.doe+x@example.com"),
    "slash": ("/joe@example.com", '"/joe@example.com"'),
    "equals sign": ("dkim=pass@example.com", '"dkim=pass@example.com"'),
    "no local part": ("@example.com", "@example.com"),
    "algorithm": ("rsa-sha256", "rsa-sha256"),
    "nothing": ("", '""'),
    "base64": ("ab/c+d==", '"ab/c+d=="'),
    "space": ("joe doe@example.com", '"joe doe@example.com"'),
    "dots in a row": ("joe..doe@example.com", '"joe..doe@example.com"'),
    "dot at the end of a domain": ("@example.com.", '"@example.com."'),
    "two at signs": ("joe@doe@example.com", '"joe@doe@example.com"'),
    "quotes": ('"joe doe"@example.com', '"?joe doe?@example.com"'),
    "quoted pairs": ('\\";\\', '"????"'),
    "another result": ("x; dkim=pass", '"x? dkim=pass"'),
    "comments": ("(x)", '"?x?"'),
    "another field": ("x\r\nBcc: all@example.com", '"x??Bcc: all@example.com"'),
    "the body": ("x\n\nHello", '"x??Hello"'),
    "controls": ("a\0b\x1bc\x7f", '"a?b?c?"'),
    "letters of others": ("b\u00fccher\u2028", '"b?cher?"'),
    "what is no text": ("\ud800", '"?"'),
    "endless": ("a" * 100_000, "a" * 255),
    "endless, quoted": ('"' * 100_000, f'"{"?" * 255}"'),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_no_value_is_more_than_a_value(value: str, expected: str) -> None:
    field = write(US, [ResInfo("dkim", "fail", (("header.d", value), ("header.i", value)))]).decode()
    assert (
        field.replace("\n", "")
        == f"Authentication-Results: mx.example.com; dkim=fail header.d={expected} header.i={expected}"
    )
    reason = write(US, [ResInfo("dkim", "fail", (), value or "-")]).decode()
    assert reason.replace("\n", "").endswith(f"; dkim=fail reason={expected if value else '-'}")


# Each example is a process, and holds many values: smaller ones need no search.
few = settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)

telling = st.sampled_from(
    [*'"\\;()=@./:\r\n\t \0', "\u00fc", "\udcff", "; dkim=pass", "\n ", "\r\n\r\n", "/*"]
)
value = st.lists(telling | st.sampled_from(string.ascii_letters), max_size=60).map("".join)
result = st.builds(
    ResInfo,
    st.sampled_from(["dkim", "domainkeys"]),
    st.sampled_from("none pass fail policy neutral temperror permerror".split()),
    st.lists(st.tuples(st.sampled_from("header.d header.i header.s header.a header.b".split()), value)).map(
        tuple
    ),
    value,
)


@needs_reader
@few
@given(st.lists(st.lists(result, max_size=3), min_size=3, max_size=8))
def test_as_many_results_are_read_as_were_written(fields: list[list[ResInfo]]) -> None:
    written = [write(US, results) for results in fields]
    for name, colon, _ in (field.partition(b": ") for field in written):
        assert (name, colon) == (b"Authentication-Results", b": ")
    for read, results in zip(read_by_perl([field.partition(b": ")[2] for field in written]), fields):
        assert read["name"] == US
        assert [each[:2] for each in read["results"]] == [[one.method, one.result] for one in results]
        assert [[name for name, _ in each[2:]] for each in read["results"]] == [
            ["reason"] * bool(one.reason) + [name for name, _ in one.properties] for one in results
        ]


@given(st.lists(result, max_size=5))
def test_the_field_is_one_field(results: list[ResInfo]) -> None:
    written = write(US, results)
    message = Message(io.BytesIO(written + b"\nFrom: a@example.com\n\n").read)
    assert [field.name for field in message.fields] == [b"authentication-results", b"from"]
    assert message.fields[0].text == written
    assert not re.search(rb"[^ -~\n]", written)
    assert all(len(line) <= 76 or line.count(b" ") == 1 or b'"' in line for line in written.split(b"\n"))
    assert max(map(len, written.split(b"\n"))) < 998
