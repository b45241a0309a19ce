"""The first mailbox of a From field (RFC 5322 section 3.4 and 4.4), and the two spellings of a domain."""

from __future__ import annotations

import time

import pytest

from dkimpipe.address import (
    first_mailbox,
    holds_one_address,
    is_at_or_below,
    is_domain,
    to_a_labels,
    to_u_labels,
)
from dkimpipe.errors import NotSigned

# Value of From, local part, domain.
MAILBOXES = {
    "bare": (b"alice@example.com", b"alice", b"example.com"),
    "angle": (b"<alice@example.com>", b"alice", b"example.com"),
    "name": (b"Alice <alice@example.com>", b"alice", b"example.com"),
    "name-no-blank": (b"Alice<alice@example.com>", b"alice", b"example.com"),
    "name-with-dots": (b"Alice B. Example <alice@example.com>", b"alice", b"example.com"),
    "name-in-utf-8": ("Älice <alice@example.com>".encode(), b"alice", b"example.com"),
    "name-in-latin-1": (b"\xc4lice <alice@example.com>", b"alice", b"example.com"),
    "name-with-at": (b"mallory@example.org <alice@example.com>", b"alice", b"example.com"),
    "name-with-control": (b"Al\x00ice\r\x0b <alice@example.com>", b"alice", b"example.com"),
    "name-quoted": (b'"Alice, <of> (Example)" <alice@example.com>', b"alice", b"example.com"),
    "name-quoted-address": (b'"mallory@example.org" <alice@example.com>', b"alice", b"example.com"),
    "name-quoted-escape": (b'"a \\" <m@example.org> \\\\" <alice@example.com>', b"alice", b"example.com"),
    "name-quoted-empty": (b'"" <alice@example.com>', b"alice", b"example.com"),
    "name-of-two-quoted": (b'"Alice" "B" <alice@example.com>', b"alice", b"example.com"),
    "name-encoded": (b"=?utf-8?q?m=40example=2Eorg?= <alice@example.com>", b"alice", b"example.com"),
    "comment-before": (b"(m@example.org) alice@example.com", b"alice", b"example.com"),
    "comment-after": (b"alice@example.com (m@example.org)", b"alice", b"example.com"),
    "comment-nested": (b"(a (b (c) d) <m@example.org>) alice@example.com", b"alice", b"example.com"),
    "comment-escaped": (b"(a \\) <m@example.org> \\( b) alice@example.com", b"alice", b"example.com"),
    "comment-with-quote": (b'(a " b) alice@example.com', b"alice", b"example.com"),
    "comment-everywhere": (
        b"(a)alice(b)@(c)example(d).(e)com(f)",
        b"alice",
        b"example.com",
    ),
    "comment-in-angle": (b"A <(x)alice(y)@(z)example.com(@example.org)>", b"alice", b"example.com"),
    "comment-as-name": (b"(Alice)<alice@example.com>", b"alice", b"example.com"),
    "blanks": (b" \t alice \t@ example . com \t", b"alice", b"example.com"),
    "blanks-in-angle": (b"Alice < alice @ example . com >", b"alice", b"example.com"),
    "line-ends-left-over": (b"Alice\r\n <alice@example.com>", b"alice", b"example.com"),
    "two": (b"alice@example.com, bob@example.org", b"alice", b"example.com"),
    "two-in-angles": (b"A <alice@example.com>, B <bob@example.org>", b"alice", b"example.com"),
    "two-comma-quoted": (b'"b, c" <alice@example.com>, bob@example.org', b"alice", b"example.com"),
    "two-comma-in-comment": (b"alice@example.com (b, c), bob@example.org", b"alice", b"example.com"),
    "list-begins-empty": (b" , ,alice@example.com", b"alice", b"example.com"),
    "list-ends-empty": (b"alice@example.com, ,", b"alice", b"example.com"),
    "list-of-no-address-first": (b"Example, Alice <alice@example.com>", b"alice", b"example.com"),
    "semicolon": (b"alice@example.com; bob@example.org", b"alice", b"example.com"),
    "group": (b"Team: Alice <alice@example.com>, bob@example.org;", b"alice", b"example.com"),
    "group-of-bare": (b"Team:alice@example.com;", b"alice", b"example.com"),
    "group-quoted": (b'"a: b": alice@example.com;', b"alice", b"example.com"),
    "group-empty-then-mailbox": (b"undisclosed:;, alice@example.com", b"alice", b"example.com"),
    "group-not-closed": (b"Team: alice@example.com", b"alice", b"example.com"),
    "route": (b"Alice <@relay.example.org:alice@example.com>", b"alice", b"example.com"),
    "route-of-two": (b"<@a.example.org,@b.example.org:alice@example.com>", b"alice", b"example.com"),
    "route-empty-element": (b"<,@a.example.org,,:alice@example.com>", b"alice", b"example.com"),
    "mailto": (b"<mailto:alice@example.com>", b"alice", b"example.com"),
    "junk-behind-angle": (b"<alice@example.com> m@example.org", b"alice", b"example.com"),
    "angle-twice-in-a-list": (
        b"<alice@example.com>, <m@example.org> <x@example.org>",
        b"alice",
        b"example.com",
    ),
    "angle-in-comment-behind": (b"<alice@example.com> (<m@example.org>)", b"alice", b"example.com"),
    "angle-in-quotes-behind": (b'<alice@example.com> "<m@example.org>"', b"alice", b"example.com"),
    "local-quoted": (b'"alice of example"@example.com', b'"alice of example"', b"example.com"),
    "local-quoted-at": (b'"m@example.org"@example.com', b'"m@example.org"', b"example.com"),
    "local-quoted-angle": (b'A <"<m@example.org>"@example.com>', b'"<m@example.org>"', b"example.com"),
    "local-quoted-escape": (b'"a\\"b\\\\"@example.com', b'"a\\"b\\\\"', b"example.com"),
    "local-quoted-pairs": (b'"a\\l\\ice\\\\"@example.com', b'"alice\\\\"', b"example.com"),
    "local-quoted-pairs-needlessly": (b'"a\\lice"@example.com', b"alice", b"example.com"),
    "local-quoted-empty": (b'""@example.com', b'""', b"example.com"),
    "local-quoted-needlessly": (b'"alice"@example.com', b"alice", b"example.com"),
    "local-quoted-dots": (b'"alice.b"@example.com', b"alice.b", b"example.com"),
    "local-quoted-in-part": (b'"alice".b."c d"@example.com', b'alice.b."c d"', b"example.com"),
    "local-extension": (b"alice+x@example.com", b"alice+x", b"example.com"),
    "local-upper-case": (b"ALICE@example.com", b"ALICE", b"example.com"),
    "local-odd": (b"!#$%&'*+-/=?^_`{|}~@example.com", b"!#$%&'*+-/=?^_`{|}~", b"example.com"),
    "local-dots": (b".a..b.@example.com", b".a..b.", b"example.com"),
    "local-utf-8": ("älice@example.com".encode(), "älice".encode(), b"example.com"),
    "domain-upper-case": (b"alice@EXAMPLE.Com", b"alice", b"example.com"),
    "domain-trailing-dot": (b"alice@example.com.", b"alice", b"example.com"),
    "domain-of-one-label": (b"alice@localhost", b"alice", b"localhost"),
    "domain-literal": (b"alice@[192.0.2.1]", b"alice", b"[192.0.2.1]"),
    "domain-literal-ipv6": (b"<alice@[IPv6:2001:db8::1]>", b"alice", b"[ipv6:2001:db8::1]"),
    "domain-underscore": (b"alice@a_b.example.com", b"alice", b"a_b.example.com"),
    "domain-u-label": ("alice@bücher.example".encode(), b"alice", b"xn--bcher-kva.example"),
    "domain-u-label-upper-case": ("alice@BÜCHER.Example".encode(), b"alice", b"xn--bcher-kva.example"),
    "domain-u-label-decomposed": (b"alice@bu\xcc\x88cher.example", b"alice", b"xn--bcher-kva.example"),
    "domain-a-label": (b"alice@xn--bcher-kva.example", b"alice", b"xn--bcher-kva.example"),
    "domain-a-label-upper-case": (b"alice@XN--BCHER-KVA.example", b"alice", b"xn--bcher-kva.example"),
    "domain-full-width": (
        "alice@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff43\uff4f\uff4d".encode(),
        b"alice",
        b"example.com",
    ),
    "domain-ideographic-dot": ("alice@example。com".encode(), b"alice", b"example.com"),
    "domain-ideographic-dot-trailing": ("alice@example.com。".encode(), b"alice", b"example.com"),
}

NONE = {
    "empty": b"",
    "blanks": b" \t ",
    "null": b"<>",
    "null-with-name": b"Alice <>",
    "null-first": b"<>, alice@example.com",
    "name-only": b"Alice",
    "local-only": b"<alice>",
    "local-missing": b"@example.com",
    "local-missing-in-angle": b"<@example.com>",
    "domain-missing": b"alice@",
    "domain-missing-in-angle": b"<alice@>",
    "at-only": b"@",
    "at-twice": b"alice@example.org@example.com",
    "dot-only": b"alice@.",
    "dots-in-domain": b"alice@example..com",
    "dot-before-domain": b"alice@.example.com",
    "dots-behind-domain": b"alice@example.com..",
    "ideographic-dots-in-domain": "alice@example。。com".encode(),
    "ideographic-dot-only": "alice@。".encode(),
    "leader-dot-before-domain": "alice@\u2024example.com".encode(),
    "no-break-space-in-domain": "alice@exam\u00a0ple.com".encode(),
    "full-width-at-in-domain": "alice@example.org\uff20example.com".encode(),
    "two-words": b"alice bob@example.com",
    "two-words-in-domain": b"alice@example com",
    "quoted-then-word": b'"Alice" alice@example.com',
    "group-empty": b"undisclosed-recipients: ;",
    "comment-only": b"(alice@example.com)",
    "quoted-only": b'"alice@example.com"',
    "encoded-word-only": b"=?utf-8?q?alice=40example=2Ecom?=",
    "commas": b", ,,",
    "angle-not-closed": b"Alice <alice@example.com",
    "angle-in-angle": b"<<alice@example.com>>",
    "angle-twice": b"<alice@example.com> <m@example.org>",
    "angle-twice-with-name": b"Mallory <m@example.org> <alice@example.com>",
    "angle-twice-the-same": b"<alice@example.com> <alice@example.com>",
    "angle-twice-with-text": b"<alice@example.com> and (x) <m@example.org>",
    "angle-twice-no-address": b"<alice@example.com> <m>",
    "angle-twice-in-group": b"Team: <alice@example.com> <m@example.org>;",
    "angle-behind-an-error": b"<alice@example.com> ) <m@example.org>",
    "angle-closed-only": b"alice@example.com>",
    "quote-not-closed": b'"Alice <alice@example.com>',
    "quote-not-closed-by-escape": b'"Alice\\" <alice@example.com>',
    "quote-ends-in-backslash": b'"Alice\\',
    "comment-not-closed": b"(Alice <alice@example.com>",
    "comment-not-closed-by-escape": b"(Alice \\) alice@example.com",
    "comment-not-closed-inner": b"((Alice) alice@example.com",
    "comment-ends-in-backslash": b"(Alice\\",
    "comment-closed-only": b"Alice) <alice@example.com>",
    "literal-not-closed": b"alice@[192.0.2.1",
    "literal-closed-only": b"alice@192.0.2.1]",
    "backslash": b"al\\ice@example.com",
    "nul-in-local": b"al\x00ice@example.com",
    "nul-in-domain": b"alice@exam\x00ple.com",
    "delete-in-domain": b"alice@exam\x7fple.com",
    "vt-in-domain": b"alice@example.com\x0b",
    "cr-in-quoted-local": b'"al\rice"@example.com',
    "latin-1-domain": b"alice@b\xfccher.example",
    "domain-over-1000-octets": b"alice@" + b"a." * 500 + b"b",
}


@pytest.mark.parametrize(("value", "local_part", "domain"), MAILBOXES.values(), ids=MAILBOXES)
def test_first_mailbox(value: bytes, local_part: bytes, domain: bytes) -> None:
    mailbox = first_mailbox(value)
    assert (mailbox.local_part, mailbox.domain) == (local_part, domain)


# From fields, each of alice's as the filter reads it, and whether a reader sees no other address in it.
ALONE = {
    b"alice@example.com": True,
    b"Alice <alice@example.com>": True,
    b'"boss@example.com" <alice@example.com>': True,  # a name
    b"alice@example.com (boss@example.com)": True,
    b'"a@b"@example.com': True,
    b"alice@example.com, boss": True,
    b"alice@example.com, boss@example.com": False,
    b"Team: alice@example.com; , boss@example.com": False,
    b"<alice@example.com> boss@example.com": False,
    b"<alice@example.com>, <boss@example.com>": False,
    b"boss@example.com <alice@example.com>": False,
    b"<@boss.example:alice@example.com>": False,
    b'<alice@example.com> "': False,
    b"<alice@example.com> \\": False,
}


@pytest.mark.parametrize(("value", "alone"), ALONE.items())
def test_one_address_and_no_other(value: bytes, alone: bool) -> None:
    assert holds_one_address(value) is alone
    assert first_mailbox(value).domain == b"example.com"


def test_address_is_local_part_and_domain() -> None:
    assert first_mailbox(b'A <"a b"@EXAMPLE.com>').address == b'"a b"@example.com'


@pytest.mark.parametrize("value", NONE.values(), ids=NONE)
def test_no_mailbox(value: bytes) -> None:
    with pytest.raises(NotSigned):
        first_mailbox(value)


# Value of From, the reason in the log.
REASONS = {
    "name-only": (b"Alice", "no address in 'Alice'"),
    "empty": (b"", "no address in ''"),
    "control": (b"a\x00b\r", "no address in 'a\\x00b\\r'"),
    "no-utf-8": (b"\xff@", "no address in '\\xff@'"),
    "utf-8": ("Älice".encode(), "no address in 'Älice'"),
    "bidirectional": ("a\u202eb".encode(), "no address in 'a\\u202eb'"),
    "long": (b"a" * 500, "no address in '" + "a" * 120 + "...'"),
}


@pytest.mark.parametrize(("value", "reason"), REASONS.values(), ids=REASONS)
def test_reason_for_the_log(value: bytes, reason: str) -> None:
    with pytest.raises(NotSigned) as raised:
        first_mailbox(value)
    assert str(raised.value) == reason


# What is repeated to make a value long.
LONG = {
    "parens": b"(",
    "pairs-of-parens": b"()",
    "quotes": b'"',
    "quoted-pairs": b'"\\a"',
    "open-angles": b"<",
    "angles": b"<>",
    "ats": b"@",
    "commas": b",",
    "colons": b"a:",
    "semicolons": b";",
    "blanks": b" \t",
    "dots": b"a.",
    "words": b"word ",
    "mailboxes-without-at": b"a, ",
    "comments": b"(a)",
    "encoded-words": b"=?utf-8?q?a?= ",
    "literals": b"[a]",
    "literals-not-closed": b"[",
    "backslashes": b"\\",
    "controls": b"\x00",
    "high-octets": b"\xff",
}


@pytest.mark.parametrize("unit", LONG.values(), ids=LONG)
@pytest.mark.parametrize(
    "frame", [b"%s", b"alice@%s", b"(%s", b'"%s'], ids=["alone", "domain", "comment", "quote"]
)
def test_time_is_linear(frame: bytes, unit: bytes) -> None:
    """Quadratic time would take sixteen times as long for a value four times as long."""

    def seconds(size: int) -> float:
        value = frame % (unit * (size // len(unit)))
        start = time.process_time()
        try:
            first_mailbox(value)
        except NotSigned:
            pass
        return time.process_time() - start

    size = 6000
    ratio = min(min(seconds(4 * size) for _ in range(3)) / max(seconds(size), 1e-4) for _ in range(2))
    assert ratio < 10


# A domain and the same in A-labels.
A_LABELS = {
    "ascii": (b"example.com", b"example.com"),
    "ascii-upper-case": (b"EXAMPLE.Com", b"example.com"),
    "a-label": (b"XN--Bcher-KVA.example", b"xn--bcher-kva.example"),
    "u-label": ("bücher.example".encode(), b"xn--bcher-kva.example"),
    "u-label-upper-case": ("BÜCHER.EXAMPLE".encode(), b"xn--bcher-kva.example"),
    "u-label-decomposed": (b"bu\xcc\x88cher.example", b"xn--bcher-kva.example"),
    "sharp-s": ("straße.example".encode(), b"xn--strae-oqa.example"),
    "final-sigma": ("σας.example".encode(), b"xn--mxa8ab.example"),
    "cyrillic": ("почта.рф".encode(), b"xn--80a1acny.xn--p1ai"),
    "chinese": ("例子.中国".encode(), b"xn--fsqu00a.xn--fiqs8s"),
    "ideographic-dot": ("例子。中国".encode(), b"xn--fsqu00a.xn--fiqs8s"),
    "ligature": ("\ufb01.example".encode(), b"fi.example"),
    "empty": (b"", b""),
    "dot": (b".", b"."),
    "underscore": (b"_domainkey.example", b"_domainkey.example"),
}


@pytest.mark.parametrize(("domain", "expected"), A_LABELS.values(), ids=A_LABELS)
def test_to_a_labels(domain: bytes, expected: bytes) -> None:
    assert to_a_labels(domain) == expected


@pytest.mark.parametrize("domain", [b"b\xfccher.example", b"\xff", b"\xed\xa0\x80.example"], ids=repr)
def test_to_a_labels_of_no_utf_8(domain: bytes) -> None:
    with pytest.raises(ValueError):
        to_a_labels(domain)


# A domain in A-labels and the same in U-labels.
U_LABELS = {
    "u-label": (b"xn--bcher-kva.example", "bücher.example".encode()),
    "all-labels": (b"xn--80a1acny.xn--p1ai", "почта.рф".encode()),
    "ascii": (b"example.com", b"example.com"),
    "inside-a-label": (b"axn--bcher-kva.example", b"axn--bcher-kva.example"),
    "u-label-already": ("bücher.example".encode(), "bücher.example".encode()),
}

# What looks like an A-label and is none stays as it is: it must not become the name of another domain.
NO_A_LABELS = {
    "nothing-behind-the-prefix": b"xn--.example",
    "hyphen-only": b"xn---.example",
    "plain-ascii-inside": b"xn--example-.com",
    "no-punycode": b"xn--99999999.example",
    "code-point-too-high": b"xn--999999b.example",
    "upper-case-inside": b"xn--BCHER-KVA.example",
    "capital-letter-encoded": b"xn--cher-fna.example",
    "surrogate-inside": b"xn--ib9b.example",
    "high-octet-inside": b"xn--\xff.example",
    "not-normalized": b"xn--jm6c.example",
    "long": b"xn--" + b"9" * 500 + b".example",
}


@pytest.mark.parametrize(("domain", "expected"), U_LABELS.values(), ids=U_LABELS)
def test_to_u_labels(domain: bytes, expected: bytes) -> None:
    assert to_u_labels(domain) == expected


@pytest.mark.parametrize("domain", NO_A_LABELS.values(), ids=NO_A_LABELS)
def test_u_labels_go_back_to_the_same_a_labels(domain: bytes) -> None:
    """RFC 5890 section 2.3.2.1: an A-label is what the U-label makes, and nothing else is."""
    assert to_u_labels(domain) == domain


# Domain, parent, whether it is at or below it.
BELOW = {
    "same": (b"example.com", b"example.com", True),
    "below": (b"mail.example.com", b"example.com", True),
    "far-below": (b"a.b.c.example.com", b"example.com", True),
    "ends-alike": (b"evilexample.com", b"example.com", False),
    "ends-alike-with-hyphen": (b"evil-example.com", b"example.com", False),
    "above": (b"example.com", b"mail.example.com", False),
    "begins-alike": (b"example.com.example.org", b"example.com", False),
    "top-level": (b"example.com", b"com", True),
    "other": (b"example.org", b"example.com", False),
}


@pytest.mark.parametrize(("domain", "parent", "below"), BELOW.values(), ids=BELOW)
def test_is_at_or_below(domain: bytes, parent: bytes, below: bool) -> None:
    assert is_at_or_below(domain, parent) is below


# A name, whether it can stand in d= or s=.
DOMAINS = {
    "plain": (b"example.com", True),
    "one-label": (b"localhost", True),
    "a-label": (b"xn--bcher-kva.example", True),
    "underscore": (b"_a.example.com", True),
    "digits": (b"2026.example.com", True),
    "hyphens": (b"-a-.example.com", True),
    "label-of-63": (b"a" * 63 + b".com", True),
    "label-of-64": (b"a" * 64 + b".com", False),
    "octets-253": (b".".join([b"a" * 49] * 5) + b".com", True),
    "octets-254": (b".".join([b"a" * 49] * 5) + b".comm", False),
    "empty": (b"", False),
    "dot": (b".", False),
    "trailing-dot": (b"example.com.", False),
    "leading-dot": (b".example.com", False),
    "two-dots": (b"example..com", False),
    "upper-case": (b"Example.com", False),
    "literal": (b"[192.0.2.1]", False),
    "blank": (b"example .com", False),
    "semicolon": (b"example.com;l=0", False),
    "line-end": (b"example.com\n", False),
    "u-label": ("bücher.example".encode(), False),
    "at": (b"alice@example.com", False),
    "colon": (b"example.com:25", False),
}


@pytest.mark.parametrize(("name", "expected"), DOMAINS.values(), ids=DOMAINS)
def test_is_domain(name: bytes, expected: bool) -> None:
    assert is_domain(name) is expected


@pytest.mark.parametrize(
    "value",
    [
        b"a@evil.net:you@example.com",
        b"<a@evil.net:you@example.com>",
        b"a@[x@evil.net> ].example.com",
        b"a@evil.net/.example.com",
        b"a@=?utf-8?q?evil.net=2E?=.example.com",
    ],
)
def test_what_others_read_as_another_address_is_none(value: bytes) -> None:
    with pytest.raises(NotSigned):
        first_mailbox(value)
