"""From fields with a syntax error in the display name: which address is signed for, and what others read."""

from __future__ import annotations

import random
import re
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import MESSAGE, Keys, run_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from other_parsers import PARSERS

from dkimpipe import lenient
from dkimpipe.address import Mailbox, first_mailbox, holds_one_address
from dkimpipe.choose import author_of
from dkimpipe.errors import NoAuthor, NotSigned
from dkimpipe.message import Message

A = "a@example.com"
# Fields of a@example.com that are not in the syntax of RFC 5322, not even of its section 4.4.
READ = {
    "backslash": rf"ACME\Sales <{A}>",
    "backslash at the end": rf"ACME\ <{A}>",
    "backslashes from a script": rf"\"Doe\" <{A}>",
    "backslashed apostrophe": rf"O\'Brien <{A}>",
    "domain of a login": rf'"Doe, John" ACME\jdoe <{A}>',
    "closing parenthesis": f"O'Brien) <{A}>",
    "opening parenthesis": f"O'Brien (Sales <{A}>",
    "opening parenthesis at the end": f"Sales (<{A}>",
    "smiley": f"Bob :-) <{A}>",
    "smiley on the left": f"(-: Bob <{A}>",
    "full-width closing parenthesis": f"111(aaa\uff09 <{A}>",
    "parentheses of two kinds": f"Bob (a] <{A}>",
    "opening bracket": f"[ACME <{A}>",
    "closing bracket": f"ACME] <{A}>",
    "bracket in a word": f"a[0 <{A}>",
    "opening quote": f'"Bob <{A}>',
    "closing quote": f'Bob" <{A}>',
    "inch": f'TV 24" <{A}>',
    "quotes within quotes": f'"a" b" <{A}>',
    "quotes within quotes, by a script": f'"Bob "the builder" Jones" \\ <{A}>',
    "escaped closing quote": rf'"Bob\" <{A}>',
    "colon": rf"Racing: Team \ <{A}>",
    "escaped comma": rf"Doe\, John <{A}>",
    "escaped comma, no space": rf"Doe\,John <{A}>",
    "escaped semicolon": rf"Doe\; John <{A}>",
    "dot": rf"J. R. \ <{A}>",
    "no space": rf"ACME\Sales<{A}>",
    "spaces in the angle brackets": rf"ACME\Sales < {A} >",
    "text after it": f"O'Brien) <{A}> Sales",
    "comment after it": rf"ACME\Sales <{A}> (Bob)",
    "open comment after it": f"O'Brien) <{A}> (Bob",
    "UTF-8": f"M\u00fcller) <{A}>",
    "Latin-1": f"M\udcfcller) <{A}>",
    "encoded word": f"=?utf-8?q?M=C3=BCller?=) <{A}>",
    "encoded word, base64": f"=?ISO-8859-1?B?TfxsbGVy?=) <{A}>",
    "encoded word with a language": f"=?utf-8*de?q?M=C3=BCller?=) <{A}>",
    "encoded word, Chinese": f"[ACME =?gb2312?B?1tDOxA==?= <{A}>",
    "encoded comma": f"=?utf-8?q?Doe=2C_John?=) <{A}>",
    "full-width comma": f"\u5f20\uff0c\u4e09) <{A}>",
    "quoted list": f'"Doe, John; Sales") <{A}>',
}
# Fields in which something else could be an address, or the address could be in a name; Mail::Address or
# OpenDKIM finds one in most.
REFUSED = {
    "no angle brackets": rf"ACME\Sales {A}",
    "not closed": rf"ACME\Sales <{A}",
    "not opened": rf"ACME\Sales {A}>",
    "closed before": rf"ACME\Sales >{A}<",
    "twice": rf"ACME\Sales <{A}> <{A}>",
    "another angle before": rf"ACME\<Sales> <{A}>",
    "another angle after": rf"ACME\Sales <{A}> <b>",
    "angle in angle": rf"ACME\Sales <<{A}>>",
    "another address in the name": rf"boss@example.net \ <{A}>",
    "the same address in the name": rf"{A} \ <{A}>",
    "half an address": rf"boss@ \ <{A}>",
    "another address after": rf"ACME\Sales <{A}> boss@example.net",
    "another address in quotes": rf'"boss@example.net" \ <{A}>',
    "another address in open quotes": f'"boss@example.net <{A}>',
    "another address in a comment": rf"(boss@example.net) \ <{A}>",
    "angle in quotes": f'"boss <{A}>" x)',
    "angle in quotes, with text between": f'"boss" "x <{A}>" x)',
    "angle in a comment": f"boss (x <{A}>) y)",
    "angle in a nested comment": f"boss ((x <{A}>)",
    "angle in brackets": f"boss [x <{A}>]",
    "full-width at": f"boss\uff20example.net) <{A}>",
    "small at": f"boss\ufe6bexample.net) <{A}>",
    "full-width angle": f"boss) \uff1c{A}>",
    "another full-width angle": f"boss) \uff1cx\uff1e <{A}>",
    "encoded at": f"=?utf-8?q?boss=40example.net?=) <{A}>",
    "encoded at, base64": f"=?utf-8?B?Ym9zc0BleGFtcGxlLm5ldA==?=) <{A}>",
    "encoded full-width at": f"=?utf-8?q?boss=EF=BC=A0example.net?=) <{A}>",
    "encoded full-width at, Chinese": f"=?gbk?q?boss=A3=C0example.net?=) <{A}>",
    "encoded at, UTF-7": f"=?utf-7?q?boss+AEA-example.net?=) <{A}>",
    "encoded at, UTF-16": f"=?utf-16?B?/v8AYgBAAGM=?=) <{A}>",
    "encoded word in half": f"=?utf-8?q?M=C3?= =?utf-8?q?=BCller?=) <{A}>",
    "encoded word without an end": f"=?utf-8?q?boss) <{A}>",
    "encoded word without a charset": f"=??q?boss?=) <{A}>",
    "encoded word in another encoding": f"=?utf-8?x?boss?=) <{A}>",
    "encoded word behind padding": f"=?utf-8?B?Yg==?= =?utf-8?q?=40?=) <{A}>",
    "encoded word, broken base64": f"=?utf-8?B?Y?=) <{A}>",
    "a list": rf"boss, ACME\Sales <{A}>",
    "a list behind an escaped comma": rf"Doe\, John, ACME\Sales <{A}>",
    "a list behind an escaped backslash": rf"boss\\, Sales <{A}>",
    "a list behind an escaped quote": rf'boss\"a", Sales <{A}>',
    "an escaped comma, and another address": rf"boss@example.net\, Sales <{A}>",
    "a list after it, escaped": rf"ACME\Sales <{A}> \, <b@example.net>",
    "twice, in the syntax": f"Boss <boss@example.net> <{A}>",
    "the same twice, in the syntax": f"Boss <{A}> <{A}>",
    "a list after it": rf"ACME\Sales <{A}>, boss",
    "a list with semicolons": rf"boss; ACME\Sales <{A}>",
    "a list behind a quoted one": rf'"a, b", c\d <{A}>',
    "a list in quotes without an end": f'"Doe, John <{A}>',
    "two at": r"ACME\Sales <a@example.net@example.com>",
    "full-width at within": "ACME\\Sales <a\uff20example.net@example.com>",
    "encoded at within": r"ACME\Sales <=?utf-8?q?boss=40example.net?=@example.com>",
    "route": rf"ACME\Sales <@example.net:{A}>",
    "comment within": r"ACME\Sales <a@example.com(b)>",
    "quoted within": r'ACME\Sales <"a"@example.com>',
    "two words within": r"ACME\Sales <a b@example.com>",
    "mailto": rf"ACME\Sales <mailto:{A}>",
    "literal": r"ACME\Sales <a@[192.0.2.1]>",
    "no local part": r"ACME\Sales <@example.com>",
    "no domain": r"ACME\Sales <a@>",
    "dots": r"ACME\Sales <a@example..com>",
    "no address": r"ACME\Sales <sales>",
    "null": r"ACME\Sales <>",
    "NUL within": "ACME\\Sales <a\0@example.com>",
}


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def message(value: bytes) -> Message:
    parts = iter([b"From: " + value + b"\n\n"])
    return Message(lambda size: next(parts, b""))


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_the_only_address_is_that_of_the_author(text: str) -> None:
    with pytest.raises(NotSigned):
        first_mailbox(octets(text))
    assert author_of(message(octets(text))).address == b"a@example.com"


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_in_doubt_there_is_none(text: str) -> None:
    with pytest.raises(NoAuthor, match=r"^no address in '") as raised:
        author_of(message(octets(text)))
    assert raised.value.level == "warning"


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_it_does_not_satisfy_a_rule_that_wants_one_address(text: str) -> None:
    assert not holds_one_address(octets(text))


def test_every_character_that_may_become_a_mark_is_one() -> None:
    alike = {
        letter
        for letter in map(chr, range(0x110000))
        if set(unicodedata.normalize("NFKD", letter)) & set("@<>")
    }
    assert alike == set(lenient._MARKS)


def test_each_charset_is_known() -> None:
    assert all("a".encode(name) == b"a" for name in lenient._CHARSETS)


# Any field

PIECES = st.sampled_from(
    [
        *(bytes([octet]) for octet in b" \t()<>[]:;@\\,.\"'=?/\x00\xff"),
        *(b"=?utf-8?q?a=40b?=", b"=?utf-8?q?a?=", b"\\\"", b"\\\\", b"\\("),
        *(b"<a@example.com>", b"b@example.net"),
        *("\uff20".encode(), "\u00fc".encode(), b"ACME", b"a"),
    ]
)  # fmt: skip
FIELDS = st.lists(PIECES, max_size=10).map(b"".join)


@settings(max_examples=2000)
@given(FIELDS, FIELDS)
def test_any_field(before: bytes, after: bytes) -> None:
    """The address is that of the only angle brackets; and what can be read by the rules is read by them."""
    value = before + b"<a@example.com>" + after
    found = lenient.only_mailbox(value)
    if found:
        assert re.findall(rb"<([^<>]*)>", value) == [b"a@example.com"]
        assert found.address == b"a@example.com"
        assert value.count(b"@") == 1
    read: Mailbox | None
    try:
        read = first_mailbox(value)
    except NotSigned:
        read = found
    try:
        author: Mailbox | None = author_of(message(value))
    except NoAuthor:
        author = None
    assert (author and author.address) == (read and read.address)


@settings(max_examples=2000)
@given(FIELDS)
def test_any_field_without_a_certain_address(value: bytes) -> None:
    found = lenient.only_mailbox(value)
    assert not found or [found.address] == [each.strip(b" \t") for each in re.findall(rb"<([^<>]*)>", value)]


@pytest.mark.parametrize(
    "unit", ['"', '"\\', "\\", "(", "()", "[", "=?", "=?utf-8?q?a?= ", "u\u0308", "\udcff"]
)
def test_time_is_linear(unit: str) -> None:
    def seconds(size: int) -> float:
        value = octets(unit) * (size // len(octets(unit))) + b") <a@example.com>"
        start = time.process_time()
        lenient.only_mailbox(value)
        return time.process_time() - start

    size = 20_000
    ratio = min(min(seconds(4 * size) for _ in range(3)) / max(seconds(size), 1e-4) for _ in range(2))
    assert ratio < 10


# Other programs

TELLING = [
    *(b"ACME", b"\\", b"Sales", b" ", b" ", b"(", b")", b"[", b"]", b'"', b'"', b",", b";", b":", b".", b"'"),
    *(b"=?utf-8?q?M=C3=BCller?=", b"\xc3\xbc", b"\xfc", b"\t", b"<", b">", b"@", b"=", b"/", b"?", b"\r"),
    *(b'\\"', b"\\\\", b"\\(", b"\\)", b"<a@example.com>", b"b@example.net", b"b", b"()", b'""'),
]


def accepted(number: int) -> list[bytes]:
    """Return that many different values that are read although they have an error."""
    chance = random.Random(5322)
    values = set(map(octets, READ.values()))
    while len(values) < number:
        before, after = (chance.choices(TELLING, k=chance.choice((0, 1, 2, 3, 6))) for _ in range(2))
        value = b"".join([*before, b"<a@example.com>", *after]).strip()
        try:
            first_mailbox(value)
        except NotSigned:
            if lenient.only_mailbox(value):
                values.add(value)
    return sorted(values)


@pytest.mark.parametrize("name", PARSERS)
def test_no_other_program_finds_another_address(name: str) -> None:
    values = accepted(3000)
    found = PARSERS[name](values)
    assert {address for address in found if address} == {A}
    assert [value for value, address in zip(values, found) if address not in ("", A)] == []


# Samples that each program reads, so that a signature by it was lost on the way to this one.
def test_other_programs_find_it() -> None:
    values = [octets(READ[name]) for name in ("backslash", "closing parenthesis", "closing bracket")]
    assert PARSERS["OpenDKIM"](values) == PARSERS["Mail::Address"](values) == [A] * 3
    assert PARSERS["email.utils"](values[:1]) == [A]


# A name with an at sign before a comma is an address by RFC 5322 section 4.4, which allows spaces in one.
NAMES = {
    "Team @other.org, Sales <a@example.com>": "Team@other.org",
    "Twitter @foo, Inc. <a@example.com>": "Twitter@foo",
}


@pytest.mark.parametrize("name", ["OpenDKIM", "Mail::Address"])
def test_a_name_that_is_an_address_comes_first_for_all(name: str) -> None:
    values = [octets(value) for value in NAMES]
    assert PARSERS[name](values) == [*NAMES.values()]
    assert [first_mailbox(value).address.decode() for value in values] == [*NAMES.values()]
    assert not any(map(holds_one_address, values))  # no login= is satisfied
    assert [each.split()[0] for each in PARSERS["email.utils"](values)] == [*NAMES.values()]


# Display names with an at sign that is not in quotes: an address in angle brackets comes before them.
AT_SIGNS = {
    "an address": f"b@other.org <{A}>",
    "the same address": f"{A} <{A}>",
    "an address behind a name": f"Foo b@other.org <{A}>",
    "two addresses": f"Foo b@other.org c@example.net <{A}>",
    "a handle": f"Foo @other <{A}>",
    "a domain": f"@other.org <{A}>",
    "no domain": f"Foo@ <{A}>",
    "a comment behind it": f"b@other.org (Foo) <{A}>",
    "behind the address": f"Foo <{A}> b@other.org",
    "behind a comma": f"Foo, b@other.org <{A}>",
    "behind a semicolon": f"Foo; b@other.org <{A}>",
}


@pytest.mark.parametrize("text", AT_SIGNS.values(), ids=AT_SIGNS)
def test_an_at_sign_in_the_name_does_not_choose_the_key(text: str) -> None:
    assert author_of(message(octets(text))).address == b"a@example.com"
    assert not holds_one_address(octets(text))  # no login= is satisfied


@pytest.mark.parametrize("name", PARSERS)
def test_nor_does_it_for_another_program(name: str) -> None:
    assert set(PARSERS[name]([octets(text) for text in AT_SIGNS.values()])) <= {A, ""}


# The filter


@pytest.fixture
def senders(keys: Keys) -> Path:
    return keys.senders(
        "a@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n"
        "b@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=b)\n",
        "lenient",
    )


def with_author(value: str) -> bytes:
    changed = MESSAGE.replace(b"Alice <alice@example.com>", value.encode())
    assert changed != MESSAGE
    return changed


def test_it_is_signed(senders: Path) -> None:
    done = run_filter(f"--sender_map={senders}", message=with_author(READ["backslash"]))
    assert (done.status, done.stderr) == (
        0,
        f"dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; from={READ['backslash']}\n",
    )
    assert done.stdout.endswith(with_author(READ["backslash"]))


def test_permission_wants_a_field_without_errors(senders: Path) -> None:
    done = run_filter(f"--sender_map={senders}", "--login=b", message=with_author(r"ACME\B <b@example.com>"))
    said = f"not signed: syntax error in From: cannot use {senders}, line 2; from="
    assert done.stderr.startswith(f"dkimpipe: {said}")
    assert run_filter(
        f"--sender_map={senders}", "--login=b", message=with_author("B <b@example.com>")
    ).stderr.startswith("dkimpipe: signed ")
