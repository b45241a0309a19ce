"""What a signature field says: which fields h= names and how often, and how each tag is written."""

from __future__ import annotations

import re

import pytest
import witness
from conftest import Keys
from in_memory import sign

from dkimpipe.dkim import quoted
from dkimpipe.options import RECOMMENDED

NOW = 1_700_000_000
ONCE = (
    "From Reply-To Subject Date To Cc Message-ID MIME-Version Content-Type Content-Transfer-Encoding".split()
)
MAYBE_ADDED = """
    Sender In-Reply-To References Content-ID Content-Description
    Resent-Date Resent-From Resent-Sender Resent-To Resent-Cc Resent-Message-ID
    List-Id List-Help List-Unsubscribe List-Unsubscribe-Post List-Subscribe List-Post List-Owner List-Archive
""".split()
NEVER = """
    Return-Path Received Comments Keywords Bcc Resent-Bcc Delivered-To X-Original-To Content-Length
    Authentication-Results DKIM-Signature DomainKey-Signature X-Anything
""".split()


def tags(keys: Keys, message: bytes, options: str = "", type: str = "dkim") -> dict[str, str]:
    """Return the tags of the only signature, unfolded, blanks gone."""
    key = "rsa1024" if type == "domainkeys" else "ed25519"
    entry = f"example.com {type}(s={key},key=KEYS/{key}.pem{options})\n"
    signed = sign(message, "--sender_map", str(keys.senders(entry, "senders-dkim")), now=NOW)
    value = re.sub(rb"\s", b"", signed[: signed.index(b"From: ")].partition(b":")[2]).decode()
    return dict(tag.split("=", 1) for tag in value.split(";"))


def message(*names: str) -> bytes:
    """Return a message with a From field, and these below it."""
    return b"From: a@example.com\n" + b"".join(f"{name}: x\n".encode() for name in names) + b"\nhello\n"


@pytest.mark.parametrize("name", ONCE[1:])
def test_a_field_that_stands_once_is_signed_and_a_second_one_forbidden(keys: Keys, name: str) -> None:
    names = tags(keys, message(name))["h"].split(":")
    assert sorted(names) == sorted(["from", "from", name.lower(), name.lower()])


@pytest.mark.parametrize("name", MAYBE_ADDED)
def test_a_field_that_others_may_add_is_signed_where_it_stands(keys: Keys, name: str) -> None:
    assert tags(keys, message(name))["h"].split(":") == ["from", "from", name.lower()]


@pytest.mark.parametrize("name", NEVER)
def test_a_field_of_the_way_is_never_signed(keys: Keys, name: str) -> None:
    value = message(name).replace(b"-Signature: x", b"-Signature: v=1; a=b; b=")
    senders = keys.senders("example.com dkim(s=e,key=KEYS/ed25519.pem)\n", "senders-never")
    signed = sign(value, "--sender_map", str(senders))
    assert b"; h=from:from;" in signed.replace(b"\n ", b" ")


def test_an_absent_field_is_not_named(keys: Keys) -> None:
    assert tags(keys, message())["h"] == "from:from"


def test_several_fields_of_a_name_are_all_signed(keys: Keys) -> None:
    assert tags(keys, message("To", "Received", "to", "TO"))["h"] == "from:from:to:to:to:to"


def test_h_of_the_entry_stands_as_it_is(keys: Keys) -> None:
    assert (
        tags(keys, message("Subject", "X-Mine"), ",h=From:X-Mine:x-mine:List-Id")["h"]
        == "from:x-mine:x-mine:list-id"
    )


# Relative h= of the entry, names of the fields of the message beside From, and h= of the signature.
RELATIVE = {
    "without": ("-date:-message-id", ["Date", "Message-ID", "To"], "from:from:to:to"),
    "with, absent": ("+x-foo", ["To"], "from:from:to:to"),
    "with, once": ("+x-foo", ["X-Foo", "To"], "from:from:to:to:x-foo"),
    "with, twice": ("+x-foo", ["X-Foo", "To", "x-foo"], "from:from:to:to:x-foo:x-foo"),
    "oversigned, absent": ("++x-foo", ["To"], "from:from:to:to:x-foo"),
    "oversigned, once": ("++X-Foo", ["X-Foo"], "from:from:x-foo:x-foo"),
    "of the default, oversigned, absent": ("++subject", [], "from:from:subject"),
    "of the default, oversigned, once": ("++subject", ["Subject"], "from:from:subject:subject"),
    "of mailing lists, oversigned": ("++list-id", ["List-Id"], "from:from:list-id:list-id"),
    "all out": ("-*:+from:+x-a:+to", ["X-B", "Date", "To", "Sender"], "from:from:to:to"),
    "as OpenDKIM": ("-*:++from:+x-a:+x-b", ["X-B", "Date"], "from:from:x-b"),
}


@pytest.mark.parametrize(("relative", "names", "expected"), RELATIVE.values(), ids=RELATIVE)
def test_h_relative_to_the_default(keys: Keys, relative: str, names: list[str], expected: str) -> None:
    assert tags(keys, message(*names), f",h={relative}")["h"] == expected


@pytest.mark.parametrize(("relative", "names", "expected"), RELATIVE.values(), ids=RELATIVE)
def test_it_verifies(keys: Keys, relative: str, names: list[str], expected: str) -> None:
    options = f"c=relaxed/relaxed,s=rsa2048,key=KEYS/rsa2048.pem,h={relative}"
    senders = keys.senders(f"example.com dkim({options})\n", "relative")
    signed = sign(message(*names), f"--sender_map={senders}")
    for verdicts in (witness.dkimpy_verdicts, witness.opendkim_verdicts):
        assert verdicts([signed], keys.records) == [["pass"]]


def test_h_of_domainkeys_relative_to_the_default(keys: Keys) -> None:
    written = tags(keys, message("To", "X-Foo", "Date"), ",h=-date:+x-foo", type="domainkeys")
    assert written["h"] == "from:to:x-foo"


def test_every_recommended_name_is_tested_here() -> None:
    assert set(RECOMMENDED) == {name.lower().encode() for name in ONCE + MAYBE_ADDED}


# Options of the entry, and tags as they are written; None for a tag that is left out.
WRITTEN = {
    "none": (
        "",
        {"v": "1", "a": "ed25519-sha256", "c": "relaxed/simple", "d": "example.com", "s": "ed25519"},
    ),
    "time": ("", {"t": str(NOW), "x": None, "i": None, "l": None}),
    "no time": (",t=no", {"t": None}),
    "lifetime of days": (",x=30d", {"t": str(NOW), "x": str(NOW + 30 * 86400)}),
    "lifetime of hours": (",x=12h", {"x": str(NOW + 12 * 3600)}),
    "lifetime of seconds": (",x=90", {"x": str(NOW + 90)}),
    "lifetime without time": (",t=no,x=90", {"t": None, "x": str(NOW + 90)}),
    "identity": (",i=boss@sub.example.com", {"i": "boss@sub.example.com"}),
    "identity of a domain": (",i=@example.com", {"i": "@example.com"}),
    "identity with what must be quoted": (",i=a;b=c@example.com", {"i": "a=3Bb=3Dc@example.com"}),
    "domain in upper case": (",d=EXAMPLE.com", {"d": "example.com"}),
    "domain in U-labels": (",d=bücher.example", {"d": "xn--bcher-kva.example"}),
}


@pytest.mark.parametrize(("options", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_tags_are_written(keys: Keys, options: str, expected: dict[str, str | None]) -> None:
    written = tags(keys, message(), options)
    assert {name: written.get(name) for name in expected} == expected


def test_the_order_of_the_tags(keys: Keys) -> None:
    assert list(tags(keys, message(), ",i=@example.com,x=30d")) == "v a c d s i t x h bh b".split()


def test_the_tags_of_domainkeys(keys: Keys) -> None:
    """Fields in the order in which they stand, each named once, and none of the tags of DKIM."""
    written = tags(keys, message("To", "Subject", "To"), ",x=30d,i=@example.com", type="domainkeys")
    del written["b"]
    assert written == {
        "a": "rsa-sha1",
        "q": "dns",
        "c": "nofws",
        "d": "example.com",
        "s": "rsa1024",
        "h": "from:to:subject:to",
    }


def test_every_octet_that_would_end_a_tag_is_quoted() -> None:
    """dkim-quoted-printable, RFC 6376 section 2.11."""
    text = quoted(bytes(range(256)))
    safe = [octet for octet in range(33, 127) if octet not in b";="]
    assert text == b"".join(b"%c" % octet if octet in safe else b"=%02X" % octet for octet in range(256))
