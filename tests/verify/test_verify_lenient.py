"""Signatures that we refuse and another verifier accepts: the message is not rejected, a forger's is.

Each fault is shown three times: what dkimpy, Mail::DKIM and OpenDKIM say; our result and that no policy
rejects the message; and that they reject the same fault in a signature by a key that was not published.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import in_memory
import pytest
import witness
from conftest import Keys, Report
from nameserver import NameServer, silent
from oddsigner import MESSAGE, Signer

from dkimpipe.config import read_command_line
from dkimpipe.errors import RejectedError
from dkimpipe.message import Message
from dkimpipe.verify import policy
from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.settings import VerifySettings

Make = Callable[[Signer, str], bytes]
Change = Callable[[bytes], bytes]
POLICIES = {
    "_domainkey.example.com": b"o=-",
    "_adsp._domainkey.example.com": b"dkim=discardable",
    "_dmarc.example.com": b"v=DMARC1; p=reject",
}
OUR_KEY, ANOTHER_KEY = "rsa2048", "rsa4096"
RSA, PSS, OAEP = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("01", "0a", "07"))


def tags(**tags: str | None) -> Make:
    """Return what makes a message with a signature that has these tags."""
    return lambda signer, key: signer.dkim(key=key, **tags)  # type: ignore[arg-type]


def replaced(old: str, new: str) -> Make:
    """Return what makes a message whose signature field has something replaced, before it is signed."""
    return lambda signer, key: signer.dkim(key=key, form=lambda field: field.replace(old, new, 1))


def b_changed(change: Change) -> Make:
    """Return what makes a message with another spelling of b=."""

    def make(signer: Signer, key: str) -> bytes:
        field, _, message = signer.dkim(key=key).partition(b"\nFrom: ")
        before, b, value = field.rpartition(b"; b=")
        return before + b + change(value) + b"\nFrom: " + message

    return make


def bh_changed(old: str, new: str) -> Make:
    """Return what makes a message with another spelling of bh=, before it is signed."""
    return lambda signer, key: signer.dkim(
        key=key, form=lambda field: re.sub(r"bh=[^;]*", lambda found: re.sub(old, new, found[0]), field)
    )


def in_octets(old: bytes, new: bytes) -> Change:
    """Return a change of the octets behind base64."""
    return lambda text: base64.b64encode(base64.b64decode(text).replace(old, new))


SIGNATURES: dict[str, tuple[Make, str]] = {
    "a tag twice": (replaced("; s=", "; zz=1; zz=1; s="), "permerror the tag zz= appears twice"),
    "d= twice": (
        replaced("; d=", "; d=example.net; d="),
        "permerror the tag d= appears twice",
    ),
    "s= twice": (replaced("; s=", "; s=other; s="), "permerror the tag s= appears twice"),
    "h= twice": (replaced("; h=", "; h=from; h="), "permerror the tag h= appears twice"),
    "two semicolons": (replaced("; s=", ";; s="), "permerror not a tag list"),
    "a semicolon first": (replaced(": v=", ": ; v="), "permerror not a tag list"),
    "junk at the end": (
        lambda s, key: s.dkim(key=key, form=lambda f: f + "; junk"),
        "permerror not a tag list",
    ),
    "a name with a dash": (replaced("; s=", "; x-a=1; s="), "permerror not a tag list"),
    "a name with a dot": (replaced("; s=", "; a.b=1; s="), "permerror not a tag list"),
    "a name with a space": (replaced("; s=", "; a b=1; s="), "permerror not a tag list"),
    "a name that begins with a digit": (replaced("; s=", "; 1a=1; s="), "permerror not a tag list"),
    "no name": (replaced("; s=", "; =1; s="), "permerror not a tag list"),
    "a control character": (
        replaced("; s=", "; zz=\x01; s="),
        "permerror zz= contains invalid characters",
    ),
    "no v=": (tags(v=None), "permerror v= is missing"),
    "v=0.5": (tags(v="0.5"), "permerror v= is not 1"),
    "v= empty": (tags(v=""), "permerror v= is not 1"),
    "rsa-sha1": (tags(a="rsa-sha1"), "permerror a= is unknown or obsolete"),
    "a= folded within": (tags(a="rsa-\n sha256"), "permerror a= is unknown or obsolete"),
    "c= empty": (tags(c=""), "permerror c= is unknown"),
    "q=http": (tags(q="http"), "permerror q= is unknown"),
    "q= quoted": (tags(q='"dns/txt"'), "permerror q= is unknown"),
    "d= with a dot at the end": (tags(d="example.com."), "permerror d= is not a valid domain"),
    "d= with a space": (tags(d="example .com"), "permerror d= is not a valid domain"),
    "l= empty": (tags(l=""), "permerror l= is not a number"),
    "l= with a sign": (tags(l="+24"), "permerror l= is not a number"),
    "l= with a space": (tags(l="2 4"), "permerror l= is not a number"),
    "l= of 80 digits": (tags(l="9" * 80), "permerror l= is not a number"),
    "l= longer than the body": (tags(l="25"), "fail body is shorter than l="),
    "t= a word": (tags(t="now"), "permerror t= is not a number"),
    "t= a date": (tags(t="2026-11-27"), "permerror t= is not a number"),
    "x= a fraction": (tags(x="4000000000.5"), "permerror x= is not a number"),
    "x= of 80 digits": (tags(x="1" + "0" * 79), "permerror x= is not a number"),
    "x= before t=": (tags(t="4000000001", x="4000000000"), "permerror x= is before t="),
    "b= with an exclamation mark": (
        b_changed(lambda b: b[:9] + b"!" + b[9:]),
        "permerror b= is not valid base64",
    ),
    "b= quoted": (b_changed(lambda b: b'"' + b + b'"'), "permerror b= is not valid base64"),
    "b= without padding": (b_changed(lambda b: b.rstrip(b"=")), "permerror b= is not valid base64"),
    "b= with more padding": (
        b_changed(lambda b: b.rstrip(b"=") + b"==="),
        "permerror b= is not valid base64",
    ),
    "b= with a dot at the end": (b_changed(lambda b: b + b"."), "permerror b= is not valid base64"),
    "b= with a control character": (
        b_changed(lambda b: b[:9] + b"\x01" + b[9:]),
        "permerror b= contains invalid characters",
    ),
    "b= with a zero before it": (
        b_changed(lambda b: base64.b64encode(b"\0" + base64.b64decode(b))),
        "fail signed with another key",
    ),
    "bh= without padding": (bh_changed("=$", ""), "permerror bh= is not valid base64"),
    "bh= quoted": (bh_changed("=(.+)", r'="\1"'), "permerror bh= is not valid base64"),
    "bh= with text after it": (bh_changed("$", "abcd"), "permerror bh= is not valid base64"),
    "a field of 70 KB": (
        replaced("; s=", f"; zz={'a' * 60}" + ("\n " + "a" * 60) * 1130 + "; s="),
        "permerror signature field is too large",
    ),
}


def part(tag: bytes) -> Change:
    """Return what puts a tag into a record."""
    return lambda record: record.replace(b"; p=", b"; " + tag + b"; p=")


def key(change: Change) -> Change:
    """Return what changes p=."""
    return lambda record: record.partition(b"p=")[0] + b"p=" + change(record.partition(b"p=")[2])


RECORDS: dict[str, tuple[Change, str]] = {
    "test mode": (part(b"t=y"), "neutral key record: t=y, the key is in test mode"),
    "test mode, in capitals": (part(b"t=Y"), "neutral key record: t=y, the key is in test mode"),
    "p= twice": (
        lambda record: b"p=AAAA; " + record,
        "permerror key record: the tag p= appears twice",
    ),
    "k= twice": (part(b"k=rsa"), "permerror key record: the tag k= appears twice"),
    "n= twice": (part(b"n=a; n=b"), "permerror key record: the tag n= appears twice"),
    "v= last": (
        lambda record: record.replace(b"v=DKIM1; ", b"") + b"; v=DKIM1",
        "permerror key record: v=DKIM1 must be first",
    ),
    "v= empty": (lambda record: record.replace(b"DKIM1", b""), "permerror key record: v= is not DKIM1"),
    "v= with a space": (
        lambda record: record.replace(b"DKIM1", b"DKIM 1"),
        "permerror key record: v= is not DKIM1",
    ),
    "k= empty": (lambda record: record.replace(b"=rsa", b"="), "permerror key record: k= is unknown"),
    "k= with a space": (
        lambda record: record.replace(b"=rsa", b"=r sa"),
        "permerror key record: k= is unknown",
    ),
    "k=ed25519": (
        lambda record: record.replace(b"=rsa", b"=ed25519"),
        "permerror key record: p= is not a valid key",
    ),
    "h=sha1": (part(b"h=sha1"), "permerror key record: h= does not allow sha256"),
    "h= empty": (part(b"h="), "permerror key record: h= does not allow sha256"),
    "h= with commas": (part(b"h=sha1,sha256"), "permerror key record: h= does not allow sha256"),
    "h=rsa-sha256": (part(b"h=rsa-sha256"), "permerror key record: h= does not allow sha256"),
    "s= empty": (part(b"s="), "permerror key record: s= does not allow email"),
    "s= with a space": (part(b"s=e mail"), "permerror key record: s= does not allow email"),
    "n= in Latin-1": (part(b"n=\xfc"), "permerror key record: n= contains invalid characters"),
    "n= with NUL": (part(b"n=a\0b"), "permerror key record: n= contains invalid characters"),
    "a non-breaking space": (
        lambda record: record.replace(b"; k", b";\xc2\xa0k"),
        "permerror key record: not a tag list",
    ),
    "a byte order mark": (lambda record: b"\xef\xbb\xbf" + record, "permerror key record: not a tag list"),
    "quotes": (lambda record: b'"' + record + b'"', "permerror key record: not a tag list"),
    "two semicolons": (lambda record: record + b";;", "permerror key record: not a tag list"),
    "a semicolon first": (lambda record: b";" + record, "permerror key record: not a tag list"),
    "a name with a dash": (part(b"x-a=1"), "permerror key record: not a tag list"),
    "no name": (part(b"=1"), "permerror key record: not a tag list"),
    "its own name": (
        lambda record: b"sel._domainkey IN TXT " + record,
        "permerror key record: not a tag list",
    ),
    "more padding": (key(lambda p: p + b"===="), "permerror key record: p= is not a valid key"),
    "padding within": (
        key(lambda p: p[:8] + b"==" + p[8:]),
        "permerror key record: p= is not a valid key",
    ),
    "text after the key": (key(lambda p: p + b"abcd"), "permerror key record: p= is not a valid key"),
    "typographic quotes": (
        key(lambda p: "\u201c".encode() + p + "\u201d".encode()),
        "permerror key record: p= is not a valid key",
    ),
    "p= in Latin-1": (
        key(lambda p: p[:9] + b"\xa0" + p[9:]),
        "permerror key record: p= contains invalid characters",
    ),
    "octets after the key": (
        key(lambda p: base64.b64encode(base64.b64decode(p) + b"xyz")),
        "permerror key record: p= is not a valid key",
    ),
    "not DER": (
        key(in_octets(b"\x30\x82\x01\x22", b"\x30\x83\x00\x01\x22")),
        "permerror key record: p= is not a valid key",
    ),
    "a negative modulus": (
        key(in_octets(b"\x02\x82\x01\x01\x00", b"\x02\x82\x01\x00")),
        "permerror key record: p= is not a valid key",
    ),
    "RSASSA-PSS": (
        key(in_octets(RSA, PSS)),
        "permerror key record: p= is a key for RSASSA-PSS, not for DKIM",
    ),
    "RSAES-OAEP": (key(in_octets(RSA, OAEP)), "permerror key record: p= is not a valid key"),
    "20 KB": (lambda record: record + b"; n=" + b"x" * 20_000, "permerror key record is too large"),
}

# What some accept, and a forger could use: it is refused, and rejected.
REFUSED: dict[str, tuple[Make, Change, str]] = {
    "no h=": (tags(h=None), bytes, "permerror h= is missing"),
    "no bh=": (tags(bh=None), bytes, "permerror bh= is missing"),
    "From is not signed": (tags(h="to:subject:date"), bytes, "permerror h= does not include from"),
    "h= with commas": (tags(h="from,to"), bytes, "permerror h= does not include from"),
    "l= leaves text unsigned": (
        lambda signer, key: signer.dkim(key=key, l="5", length=5),
        bytes,
        "policy l= leaves 19 octets of the body unsigned",
    ),
    "l= leaves text unsigned, in a field with a fault": (
        lambda signer, key: signer.dkim(key=key, l="5", length=5, zz="\x01"),
        bytes,
        "permerror zz= contains invalid characters",
    ),
    "a key that can be factored": (
        lambda signer, key: signer.dkim(key="rsa1008"),
        lambda record: record,
        "permerror key has 1008 bits, less than 1024",
    ),
}

# What nobody accepts either.
JUDGED: dict[str, tuple[Make, Change, str]] = {
    "expired": (tags(t="1600000000", x="1600000001"), bytes, "permerror expired on 2020-09-13 12:26 UTC"),
    "expired, in a field with a fault": (
        tags(x="1600000001", zz="a\x01"),
        bytes,
        "permerror zz= contains invalid characters",
    ),
    "revoked": (tags(), key(lambda p: b""), "permerror key is revoked"),
    "revoked, p= twice": (
        tags(),
        lambda record: record + b"; p=",
        "permerror key record: the tag p= appears twice",
    ),
    "not for email": (tags(), part(b"s=tlsrpt"), "permerror key record: s= does not allow email"),
    "DKIM2": (
        tags(),
        lambda record: record.replace(b"DKIM1", b"DKIM2"),
        "permerror key record: v= is not DKIM1",
    ),
    "i= elsewhere": (tags(i="@example.net"), bytes, "permerror i= is not at or below d="),
    "the body altered": (
        lambda signer, key: signer.dkim(key=key, zz="\x01").replace(b"Bob. ", b"Rob. "),
        bytes,
        "permerror zz= contains invalid characters",
    ),
    "the header altered": (
        lambda signer, key: signer.dkim(key=key, zz="\x01").replace(b"hello", b"hallo"),
        bytes,
        "permerror zz= contains invalid characters",
    ),
    "another From": (
        lambda signer, key: b"From: x@example.com\n" + signer.dkim(key=key, zz="\x01"),
        bytes,
        "permerror zz= contains invalid characters",
    ),
}


class Case(NamedTuple):
    """A message, the selector and record of its signature, and our result; ``twin``: by another key."""

    message: bytes
    twin: bytes
    name: str
    record: bytes
    expected: str


@pytest.fixture(scope="module")
def signer(keys: Keys) -> Signer:
    return Signer(keys)


@pytest.fixture(scope="module")
def cases(signer: Signer) -> dict[str, Case]:
    """All cases, each with a selector of its own, so that a verifier judges all of them in one run."""
    rows: dict[str, tuple[Make, Change, str]] = {
        **{f"signature: {name}": (make, bytes, expected) for name, (make, expected) in SIGNATURES.items()},
        **{f"record: {name}": (tags(), change, expected) for name, (change, expected) in RECORDS.items()},
        **{f"refused: {name}": row for name, row in REFUSED.items()},
        **{f"judged: {name}": row for name, row in JUDGED.items()},
    }
    made = {}
    for number, (name, (make, change, expected)) in enumerate(rows.items()):
        signer.selector = f"s{number}"
        record = signer.record("rsa1008" if "factored" in name else OUR_KEY)
        made[name] = Case(
            make(signer, OUR_KEY),
            make(signer, ANOTHER_KEY),
            f"{signer.selector}._domainkey.example.com",
            change(record),
            expected,
        )
    return made


@pytest.fixture(scope="module")
def server(cases: dict[str, Case]) -> Iterator[NameServer]:
    records = {case.name: [case.record] for case in cases.values()}
    with NameServer({**records, **{name: [text] for name, text in POLICIES.items()}}) as running:
        yield running


@pytest.fixture(scope="module")
def accepted(cases: dict[str, Case], server: NameServer) -> dict[str, set[str]]:
    """The verifiers that accept each message."""
    messages = [case.message for case in cases.values()]
    records = {case.name: [case.record] for case in cases.values()}
    verdicts = {
        "dkimpy": witness.dkimpy_verdicts(messages, records),
        "Mail::DKIM": witness.mail_dkim_verdicts(messages, server.port),
        "OpenDKIM": witness.opendkim_verdicts(messages, records),
    }
    return {
        name: {who for who, each in verdicts.items() if any(one.endswith("pass") for one in each[number])}
        for number, name in enumerate(cases)
    }


def rejected(message: bytes, server: NameServer) -> tuple[str, bool]:
    """Return our result for its first signature, and whether policies reject it."""
    settings = VerifySettings()
    read_command_line(["--hostname=mx.example.net", "--reject_fail", "--dmarc"], settings)
    keys, policies = (Resolver(Server(server.address, server.port), budget=3) for _ in range(2))
    results = in_memory.verify(message, keys, lenient=True)
    try:
        policy.apply(Message(io.BytesIO(message).read), results, policies, settings)
    except RejectedError:
        return f"{results[0].result} {results[0].reason}", True
    return f"{results[0].result} {results[0].reason}", False


NAMES = [
    *(f"signature: {name}" for name in SIGNATURES),
    *(f"record: {name}" for name in RECORDS),
]


@pytest.mark.parametrize("name", NAMES)
def test_what_another_verifier_accepts_is_not_rejected(
    name: str, cases: dict[str, Case], server: NameServer, accepted: dict[str, set[str]]
) -> None:
    case = cases[name]
    assert accepted[name]
    assert rejected(case.message, server) == (case.expected, False)
    assert rejected(case.twin, server)[1]


@pytest.mark.parametrize("name", [f"refused: {name}" for name in REFUSED])
def test_what_a_forger_could_use_is_rejected(
    name: str, cases: dict[str, Case], server: NameServer, accepted: dict[str, set[str]]
) -> None:
    assert accepted[name]
    assert rejected(cases[name].message, server) == (cases[name].expected, True)


@pytest.mark.parametrize("name", [f"judged: {name}" for name in JUDGED])
def test_what_is_judged_is_rejected(
    name: str, cases: dict[str, Case], server: NameServer, accepted: dict[str, set[str]]
) -> None:
    assert rejected(cases[name].message, server) == (cases[name].expected, True)


def test_how_many_accept_what_we_refuse(accepted: dict[str, set[str]], report: Report) -> None:
    counts = {
        who: sum(who in accepted[name] for name in NAMES) for who in ("dkimpy", "Mail::DKIM", "OpenDKIM")
    }
    report(f"{len(NAMES)} faults that we call permerror, and others accept: {counts}")
    assert all(counts.values())


# DomainKeys, which only Mail::DKIM verifies.
DOMAINKEYS = {
    "no q=": (b"q=dns; ", b"", "permerror q= is missing"),
    "no c=": (b"c=simple; ", b"", "permerror c= is missing"),
    "a tag twice": (b"; b=", b"; zz=1; zz=1; b=", "permerror the tag zz= appears twice"),
    "b= with a dot at the end": (b"\nFrom: ", b".\nFrom: ", "permerror b= is not valid base64"),
}


@pytest.mark.parametrize(("old", "new", "expected"), DOMAINKEYS.values(), ids=DOMAINKEYS)
def test_domainkeys(signer: Signer, old: bytes, new: bytes, expected: str) -> None:
    """A DomainKey-Signature does not cover itself, so its field can be changed after signing."""
    signer.selector = "sel"
    message = signer.domainkeys("simple").replace(old, new, 1)
    policies = {"_domainkey.example.com": [b"o=-"]}
    with NameServer({"sel._domainkey.example.com": [signer.record(OUR_KEY)], **policies}) as server:
        ((theirs,),) = witness.mail_dkim_verdicts([message], server.port)
        assert theirs == "domainkeys:pass"
        assert rejected(message, server) == (expected, False)
        assert rejected(message.replace(b"hello", b"hallo"), server) == (expected, True)
        server.records["sel._domainkey.example.com"] = [signer.record("rsa4096")]
        assert rejected(message, server) == (expected, True)


def test_domainkeys_do_not_count_for_dmarc(signer: Signer) -> None:
    signer.selector = "sel"
    message = signer.domainkeys("simple").replace(b"q=dns; ", b"", 1)
    policies = {"_dmarc.example.com": [b"v=DMARC1; p=reject"]}
    with NameServer({"sel._domainkey.example.com": [signer.record(OUR_KEY)], **policies}) as server:
        assert rejected(message, server) == ("permerror q= is missing", True)


def test_a_domain_vouches_for_itself_alone(signer: Signer) -> None:
    """A valid signature with a fault, by another domain."""
    signer.selector = "sel"
    message = signer.dkim(d="evil.example", zz="\x01")
    records = {name: [text] for name, text in POLICIES.items()}
    with NameServer({"sel._domainkey.evil.example": [signer.record(OUR_KEY)], **records}) as server:
        assert rejected(message, server) == ("permerror zz= contains invalid characters", True)


def test_without_dns_it_may_be_right(signer: Signer) -> None:
    """As for any other signature whose key cannot be looked up."""
    signer.selector = "sel"
    message = signer.dkim(zz="\x01")
    records = {name: [text] for name, text in POLICIES.items()}
    with NameServer(records) as server:
        assert rejected(message, server) == ("permerror zz= contains invalid characters", True)
        server.faults["sel._domainkey.example.com"] = silent
        assert rejected(message, server) == ("permerror zz= contains invalid characters", False)


def test_a_good_signature_beside_it_is_not_needed(signer: Signer) -> None:
    signer.selector = "sel"
    message = signer.dkim(signer.dkim(key=ANOTHER_KEY), zz="\x01")
    assert message.count(b"DKIM-Signature") == 2 and message.endswith(MESSAGE)
    records = {name: [text] for name, text in POLICIES.items()}
    with NameServer({"sel._domainkey.example.com": [signer.record(OUR_KEY)], **records}) as server:
        assert rejected(message, server) == ("permerror zz= contains invalid characters", False)


def test_nothing_is_looked_up_where_no_policy_is_enforced(signer: Signer) -> None:
    signer.selector = "sel"
    with NameServer({"sel._domainkey.example.com": [signer.record(OUR_KEY)]}) as server:
        resolver = Resolver(Server(server.address, server.port))
        (result,) = in_memory.verify(signer.dkim(zz="\x01"), resolver)
        assert (result.vouching, server.asked) == (b"", [])
