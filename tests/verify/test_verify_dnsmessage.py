"""DNS messages: ours are read by dnspython, and thousands of responses are read as dnspython reads them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Union

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import pytest
from conftest import Report

from dkimpipe.verify.dnsmessage import PAYLOAD, Query

NAME = "sel._domainkey.example.com"
IDENTITY = b"\x12\x34"
Outcome = Union[str, "list[bytes]", None]  # None: not a response; "failed", "truncated", or the texts
MUTANTS = 8000


def query(name: str = NAME, edns: bool = True) -> Query:
    return Query(name, IDENTITY, edns)


def ours(wire: bytes) -> Outcome:
    """Return how we read a response to ``query()``."""
    response = query().response(wire)
    if response is None:
        return None
    if response.truncated:
        return "truncated"
    texts = response.texts()
    return "failed" if texts is None else texts


def theirs(wire: bytes, forgiving: bool = False) -> Outcome:
    """Return how dnspython's resolver reads it; ``forgiving``: without the records that it cannot read."""
    asked = dns.message.from_wire(query().octets)
    try:
        response = dns.message.from_wire(wire, raise_on_truncation=True, continue_on_error=forgiving)
    except dns.message.Truncated as truncated:
        begun = truncated.message()  # type: ignore[no-untyped-call]
        return "truncated" if asked.is_response(begun) else None
    except Exception:
        return None
    if not asked.is_response(response):
        return None
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return "failed"
    kind = dns.rdatatype.TXT if code == dns.rcode.NOERROR else dns.rdatatype.ANY
    try:
        assert isinstance(response, dns.message.QueryMessage)
        answer = dns.resolver.Answer(asked.question[0].name, kind, dns.rdataclass.IN, response)
    except Exception:
        return "failed"
    if code == dns.rcode.NXDOMAIN or answer.rrset is None:
        return []
    return list(dict.fromkeys(b"".join(record.strings) for record in answer.rrset))


# Queries.


@pytest.mark.parametrize("edns", [True, False])
@pytest.mark.parametrize("name", [NAME, "A.b-C_d", "x" * 63 + ".example", ".".join(["a" * 49] * 5), "com."])
def test_a_query_is_what_dnspython_understands(name: str, edns: bool) -> None:
    message = dns.message.from_wire(query(name, edns).octets)
    (question,) = message.question
    assert (question.name, question.rdtype, question.rdclass) == (
        dns.name.from_text(name),
        dns.rdatatype.TXT,
        dns.rdataclass.IN,
    )
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload) == ((0, PAYLOAD) if edns else (-1, 0))
    assert query(name, edns).octets[:2] == IDENTITY


IMPOSSIBLE = ["", ".", "a..b", ".a", "x" * 64, ".".join(["a" * 49] * 6), "\u00fc" * 40]


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_name_that_cannot_exist(name: str) -> None:
    with pytest.raises(ValueError, match=r"^not a domain name$"):
        query(name)


# Responses.

CNAME = "{} 60 IN CNAME {}"
TXT = '{} 60 IN TXT "{}"'


def response(
    *records: str, code: str = "NOERROR", flags: str = "QR RD RA", authority: str = "", name: str = NAME
) -> bytes:
    """Return a response with these records in its answer section."""
    lines = ["id 4660", "opcode QUERY", f"flags {flags}", ";QUESTION", f"{name}. IN TXT"]
    lines += [";ANSWER", *records, ";AUTHORITY", authority, ";ADDITIONAL"]
    message = dns.message.from_text("\n".join(lines))
    message.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    message.set_rcode(dns.rcode.from_text(code))
    return message.to_wire(max_size=65535, want_shuffle=False)


def chain(length: int) -> bytes:
    """Return a response with that many aliases."""
    names = [f"{NAME}.", *(f"a{n}.example.net." for n in range(length))]
    aliases = [CNAME.format(one, other) for one, other in zip(names, names[1:])]
    return response(*aliases, TXT.format(names[-1], "end"))


SOA = "example.com. 60 IN SOA ns.example.com. root.example.com. 1 2 3 4 5"
LONG = " ".join(f'"{"x" * 255}"' for _ in range(20))
A_POINTER = b"\xc0\x0c"
SEVERAL_STRINGS = f'{NAME}. 60 IN TXT "v=DKIM1; " "p=" "" "abc"'
GOOD = response(TXT.format(f"{NAME}.", "v=DKIM1; p=abc"))
RESPONSES: dict[str, tuple[bytes, Outcome]] = {
    "one record": (GOOD, [b"v=DKIM1; p=abc"]),
    "several strings": (response(SEVERAL_STRINGS), [b"v=DKIM1; p=abc"]),
    "several records": (
        response(*(TXT.format(f"{NAME}.", text) for text in "bca")),
        [b"b", b"c", b"a"],
    ),
    "a record twice": (
        response(TXT.format(f"{NAME}.", "a"), TXT.format("SEL._DomainKey.Example.COM.", "a")),
        [b"a"],
    ),
    "5 KB": (response(f"{NAME}. 60 IN TXT {LONG}"), [b"x" * 5100]),
    "any octets": (response(TXT.format(f"{NAME}.", r"\000\255\"\\")), [b'\0\xff"\\']),
    "an empty string": (response(TXT.format(f"{NAME}.", "")), [b""]),
    "another case": (
        GOOD.replace(b"\3sel\x0a_domainkey\7example", b"\3SeL\x0a_DOMAINkey\7eXample"),
        [b"v=DKIM1; p=abc"],
    ),
    "an alias": (chain(1), [b"end"]),
    "15 aliases": (chain(15), [b"end"]),
    "16 aliases": (chain(16), "failed"),
    "an alias, in another order": (
        response(TXT.format("b.example.net.", "end"), CNAME.format(f"{NAME}.", "B.example.net.")),
        [b"end"],
    ),
    "an alias without its target": (response(CNAME.format(f"{NAME}.", "b.example.net.")), []),
    "aliases in a circle": (
        response(CNAME.format(f"{NAME}.", "b.example.net."), CNAME.format("b.example.net.", f"{NAME}.")),
        "failed",
    ),
    "an alias of itself": (response(CNAME.format(f"{NAME}.", f"{NAME}.")), "failed"),
    "no records": (response(authority=SOA), []),
    "records of another name": (response(TXT.format("x.example.com.", "a")), []),
    "records of another type": (response(f"{NAME}. 60 IN A 192.0.2.1", f"{NAME}. 60 IN MX 1 x."), []),
    "records of another class": (response(f'{NAME}. 60 CH TXT "a"'), []),
    "no such name": (response(code="NXDOMAIN", authority=SOA), []),
    "no such name, behind an alias": (
        response(CNAME.format(f"{NAME}.", "b.example.net."), code="NXDOMAIN", authority=SOA),
        [],
    ),
    "no such name, and a record": (response(TXT.format(f"{NAME}.", "a"), code="NXDOMAIN"), "failed"),
    **{code: (response(code=code), "failed") for code in ("SERVFAIL", "REFUSED", "FORMERR", "NOTIMP")},
    "BADVERS": (response(TXT.format(f"{NAME}.", "a"), code="BADVERS"), "failed"),
    "a lame server": (response(flags="QR", authority="com. 60 IN NS ns.example.com."), []),
    "truncated": (response(flags="QR TC"), "truncated"),
    "truncated within a record": (response(TXT.format(f"{NAME}.", "a"), flags="QR TC")[:-20], "truncated"),
    "a refusal without a question": (IDENTITY + b"\x80\x01" + bytes(8), "failed"),
    "an answer without a question": (IDENTITY + b"\x80\x00" + bytes(8), None),
    "wrong ID": (b"\x12\x35" + GOOD[2:], None),
    "a query": (query().octets, None),
    "another question": (response(TXT.format(f"{NAME}.", "a"), name="x." + NAME), None),
    "another opcode": (GOOD[:2] + bytes([GOOD[2] | 0x10]) + GOOD[3:], None),
    "nothing": (b"", None),
    "a header alone": (GOOD[:12], None),
    "octets behind": (GOOD + b"\0", None),
    "cut": (GOOD[:-3], None),
    "a pointer to itself": (GOOD.replace(A_POINTER, b"\xc0\x2c", 1), None),
    "a pointer forward": (GOOD.replace(A_POINTER, b"\xc0\x40", 1), None),
    "a pointer beyond the end": (GOOD.replace(A_POINTER, b"\xff\xff", 1), None),
    "a label of an unknown type": (GOOD.replace(A_POINTER, b"\x80\x0c", 1), None),
    "no string": (GOOD.replace(b"\0\x0f\x0ev=DKIM1; p=abc", b"\0\0"), None),
    "a string that is too long": (GOOD.replace(b"\x0ev=DKIM1", b"\x0fv=DKIM1"), None),
}


@pytest.mark.parametrize(("wire", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_a_response(wire: bytes, expected: Outcome) -> None:
    assert ours(wire) == theirs(wire) == expected


def test_the_flag_ad() -> None:
    for flags, authentic in (("QR AD", True), ("QR", False)):
        found = query().response(response(TXT.format(f"{NAME}.", "a"), flags=flags))
        assert found and found.authentic == authentic


def test_a_name_of_255_octets_is_the_longest() -> None:
    """In the answer section, where it needs no pointers: 63 octets three times, and the rest."""
    for last, expected in ((61, [b"a"]), (62, None)):
        labels = b"".join(bytes([size]) + b"x" * size for size in (63, 63, 63, last)) + b"\0"
        extra = labels + b"\0\x10\0\1\0\0\0\x3c\0\2\1a"
        wire = response(TXT.format(f"{NAME}.", "a"))
        first = wire.index(A_POINTER)
        wire = wire[:6] + b"\0\2" + wire[8:first] + extra + wire[first:]
        assert ours(wire) == theirs(wire) == expected


def test_pointers_take_no_time() -> None:
    """Pointers to pointers, one after the other, as far as an offset reaches."""
    chain = b"".join((12 + 32 + 2 * n).to_bytes(2, "big") for n in range(8000))
    records = b"\xff\xfe\0\1\0\1\0\0\0\0\0\0" * 3000
    assert ours(response()[:6] + b"\x0b\xb8\0\0\0\0" + response()[12:] + chain + records) is None


def changed(wire: bytes, chance: random.Random) -> bytes:
    """Return a response with something changed, put in, taken out, or copied from elsewhere in it."""
    at, other = chance.randrange(len(wire) + 1), chance.randrange(len(wire) + 1)
    size = chance.choice((1, 1, 2, 2, 4, 12))
    known = (0, 1, 5, 16, 41, 0x80, 0xC0, 0xFF)
    octets = bytes(chance.choice((*known, chance.randrange(256))) for _ in range(size))
    flipped = bytes([octet ^ 1 << chance.randrange(8) for octet in wire[at : at + 1]])
    new, old = chance.choice(
        ((octets, size), (octets, 0), (b"", size), (wire[other : other + size], size), (flipped, 1))
    )
    return wire[:at] + new + wire[at + old :]


def mutant(wire: bytes, chance: random.Random) -> bytes:
    """Return a response changed in one place or in a few."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        wire = changed(wire, chance)
    return wire


def test_mutants_are_read_as_by_dnspython(report: Report) -> None:
    """What it refuses for a record of another type, such as SOA, we read without that record, or refuse."""
    chance = random.Random(1035)
    wires = [wire for wire, _ in RESPONSES.values() if len(wire) > 12]
    counts: Counter[str] = Counter()
    for _ in range(MUTANTS):
        wire = mutant(chance.choice(wires), chance)
        we, they = ours(wire), theirs(wire)
        if we is None and they == "truncated":  # of a refusal, it reads no question that is malformed
            assert wire[3] & 15
        elif we != they:
            assert they is None, wire
            assert we in (theirs(wire, forgiving=True), "failed"), wire
            counts["for another type"] += 1
        counts["texts" if isinstance(we, list) else str(we)] += 1
    report(f"{MUTANTS} mutants of responses: {dict(counts)}")
    assert min(counts[each] for each in ("texts", "failed", "truncated", "None")) > 50


def test_garbage() -> None:
    chance = random.Random(1036)
    for _ in range(2000):
        head = IDENTITY + b"\x80\x00" if chance.random() < 0.8 else b""
        wire = head + bytes(chance.randrange(256) for _ in range(chance.randrange(80)))
        assert ours(wire) == theirs(wire) or theirs(wire) is None
