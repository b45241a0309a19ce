"""``dkimpipe verify`` on good, bad and odd signatures, and whether three other verifiers agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import in_memory
import pytest
import witness
from conftest import PROJECT, Keys, Report
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st
from nameserver import NameServer
from oddsigner import MESSAGE, H, Signer

from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verifier import SignatureResult

NOW = 1_700_000_000
NAME = "sel._domainkey.example.com"


class Case(NamedTuple):
    """A message, the records of sel._domainkey.example.com, and what comes of its signatures."""

    make: Callable[[Signer], bytes]
    expected: list[str]
    records: Callable[[Signer], list[bytes]] = lambda signer: [signer.record("rsa2048")]
    disagree: str = ""  # who differs, and why


def changed(old: bytes, new: bytes, **options: str | None) -> Callable[[Signer], bytes]:
    """Return what makes a message that is changed after signing."""
    return lambda signer: signer.dkim(**options).replace(old, new)  # type: ignore[arg-type]


def tags(**options: object) -> Callable[[Signer], bytes]:
    return lambda signer: signer.dkim(**options)  # type: ignore[arg-type]


def domainkeys(form: str, h: bool, name: bytes = b"Bob") -> Callable[[Signer], bytes]:
    return lambda signer: signer.domainkeys(form, h=h).replace(b"Bob", name)


def with_tag(tag: bytes, key: str = "rsa2048") -> Callable[[Signer], list[bytes]]:
    """Return the record with one more tag."""
    return lambda signer: [signer.record(key).replace(b"; p=", b"; " + tag + b"; p=")]


def text(*records: bytes) -> Callable[[Signer], list[bytes]]:
    return lambda signer: list(records)


def record_of(key: str) -> Callable[[Signer], list[bytes]]:
    return lambda signer: [signer.record(key)]


def long_record(bits: int) -> bytes:
    """Return the record of what could be a key of so many bits."""
    key = rsa.RSAPublicNumbers(65537, (1 << bits - 1) + 1).public_key()
    return witness.record(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


FORMS = ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed")
PASS = ["dkim=pass"]
NO_ED25519 = "" if witness.mail_dkim_on_ed25519() == "dkim:pass" else "Mail::DKIM: does not know Ed25519"

CASES: dict[str, Case] = {
    **{f"good {c}": Case(tags(c=c), PASS) for c in FORMS},
    **{f"good {key}": Case(tags(key=key), PASS, record_of(key)) for key in ("rsa1024", "rsa4096")},
    "good ed25519": Case(tags(key="ed25519"), PASS, record_of("ed25519"), NO_ED25519),
    "good, c= left out": Case(tags(c=None), PASS),
    "good, c=relaxed": Case(tags(c="relaxed"), PASS),
    "good, l= of all": Case(tags(l="24"), PASS),
    "good, t= in the future": Case(tags(t=str(NOW + 7200)), PASS),
    "good, i= below d=": Case(tags(i="a@sub.example.com"), PASS),
    "good, i= quoted": Case(tags(i="=61@example.com"), PASS),
    "good, h= with absent fields": Case(tags(h=f"{H}:from:sender:resent-from"), PASS),
    "good, upper case in h= and d=": Case(tags(h=H.upper(), d="EXAMPLE.com"), PASS),
    "good, unknown tag": Case(tags(zz="1"), PASS),
    "good, semicolon at the end": Case(tags(form=lambda field: field.replace("; b=", "; b=") + ";"), PASS),
    "good, folded everywhere": Case(
        tags(
            form=lambda field: field.replace("; ", ";\n\t").replace("=", " =\n ", 4).replace(":", ":\n ", 5)
        ),
        PASS,
    ),
    "body altered": Case(changed(b"Bob", b"Rob"), ["dkim=fail body altered"]),
    "line added": Case(changed(b"Alice\n", b"Alice\nfooter\n"), ["dkim=fail body altered"]),
    "blanks, simple": Case(changed(b"Hello,  B", b"Hello, B"), ["dkim=fail body altered"]),
    "blanks, relaxed": Case(changed(b"Hello,  B", b"Hello, B", c="relaxed/relaxed"), PASS),
    "header altered": Case(changed(b"hello", b"hallo"), ["dkim=fail header altered"]),
    "header refolded, relaxed": Case(changed(b"hello\n there", b"hello there"), PASS),
    "header refolded, simple": Case(
        changed(b"hello\n there", b"hello there", c="simple"), ["dkim=fail header altered"]
    ),
    "signed field added below": Case(changed(b"Date:", b"Subject: x\nDate:"), ["dkim=fail header altered"]),
    "From added above": Case(
        lambda s: b"From: bank@example.org\n" + s.dkim(),
        ["dkim=policy a From field is not signed"],
        disagree="Mail::DKIM OpenDKIM: leave that to others; RFC 6376 section 8.15",
    ),
    "From added above, forbidden": Case(
        lambda s: b"From: bank@example.org\n" + s.dkim(h=f"from:{H}"), ["dkim=fail header altered"]
    ),
    "signature altered": Case(
        lambda signer: signer.dkim().replace(b"; s=", b"; x=2000000000; s="), ["dkim=fail header altered"]
    ),
    "another key": Case(tags(), ["dkim=fail signed with another key"], record_of("rsa1024")),
    "another key, ed25519": Case(
        tags(key="ed25519"),
        ["dkim=fail header altered, or signed with another key"],
        text(b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    ),
    **{
        f"no {tag}=": Case(
            tags(**{tag: None}),
            [f"dkim=permerror {tag}= is missing"],
            disagree="Mail::DKIM: does without, against RFC 6376 section 3.5"
            if tag in ("v", "bh", "h")
            else "",
        )
        for tag in ("v", "a", "bh", "d", "h", "s")
    },
    "no b=": Case(tags(b=None), ["dkim=permerror b= is missing"]),
    "b= empty": Case(
        tags(form=lambda field: re.sub("b=$", "b= ", field), b=" "), ["dkim=permerror b= is not valid base64"]
    ),
    "b= no base64": Case(tags(b="!!!!"), ["dkim=permerror b= is not valid base64"]),
    "tag twice": Case(
        tags(form=lambda field: field.replace("; b=", "; zz=1; zz=1; b=")),
        ["dkim=permerror the tag zz= appears twice"],
        disagree="Mail::DKIM OpenDKIM: accept it, against RFC 6376 section 3.2",
    ),
    "no tag list": Case(
        tags(form=lambda field: field.replace("; b=", "; nonsense; b=")),
        ["dkim=permerror not a tag list"],
    ),
    "v=2": Case(tags(v="2"), ["dkim=permerror v= is not 1"]),
    "a= unknown": Case(tags(a="rsa-md5"), ["dkim=permerror a= is unknown or obsolete"]),
    "rsa-sha1": Case(
        tags(a="rsa-sha1"),
        ["dkim=permerror a= is unknown or obsolete"],
        disagree="dkimpy Mail::DKIM OpenDKIM: accept it, against RFC 8301 section 3.1",
    ),
    "c= unknown": Case(tags(c="nofws"), ["dkim=permerror c= is unknown"]),
    "q= unknown": Case(
        tags(q="http"), ["dkim=permerror q= is unknown"], disagree="OpenDKIM: does not look at q="
    ),
    "q= folded within": Case(
        tags(q="d\n ns/txt"), ["dkim=permerror q= is unknown"], disagree="OpenDKIM: does not look at q="
    ),
    "record h= folded round the colon": Case(
        tags(),
        PASS,
        with_tag(b"h=sha1 : sha256"),
        "Mail::DKIM: takes no blanks, against RFC 6376 section 3.6.1",
    ),
    "record h= with a blank within": Case(
        tags(),
        ["dkim=permerror key record: h= does not allow sha256"],
        with_tag(b"h=sha 256"),
        "dkimpy OpenDKIM: do not look at h=, or take the blank out; RFC 6376 section 3.6.1 allows none",
    ),
    "q= known among others": Case(
        tags(q="http:dns/txt"), PASS, disagree="dkimpy: wants no other; RFC 6376 section 3.5 takes a list"
    ),
    "d= no name": Case(
        tags(d="exa mple.com"),
        ["dkim=permerror d= is not a valid domain"],
        disagree="OpenDKIM: takes the blank out; RFC 6376 section 3.5 allows none",
    ),
    "i= elsewhere": Case(tags(i="a@badexample.com"), ["dkim=permerror i= is not at or below d="]),
    "h= without from": Case(
        tags(h="to:subject:date"),
        ["dkim=permerror h= does not include from"],
        disagree="dkimpy Mail::DKIM: accept it, against RFC 6376 section 3.5",
    ),
    "expired": Case(tags(t="1600000000", x="1600000001"), ["dkim=permerror expired on 2020-09-13 12:26 UTC"]),
    "x= before t=": Case(
        tags(t="4000000001", x="4000000000"),
        ["dkim=permerror x= is before t="],
        disagree="Mail::DKIM: does not look at that, RFC 6376 section 3.5",
    ),
    "t= no number": Case(
        tags(t="now"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM: does not look at it, RFC 6376 section 6.1.1",
    ),
    "t= empty": Case(
        tags(t=""),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM: does not look at it, RFC 6376 section 6.1.1",
    ),
    "t= negative": Case(
        tags(t="-1"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM: does not look at it, RFC 6376 section 6.1.1",
    ),
    "t= a fraction": Case(
        tags(t="1600000000.5"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM OpenDKIM: do not look at it, RFC 6376 section 6.1.1",
    ),
    "t= a date": Case(
        tags(t="2026-11-27"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM OpenDKIM: do not look at it, RFC 6376 section 6.1.1",
    ),
    "t= with a sign": Case(
        tags(t="+1600000000"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM OpenDKIM: do not look at it, RFC 6376 section 6.1.1",
    ),
    "t= hexadecimal": Case(
        tags(t="0x5f5e1000"),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM: does not look at it, RFC 6376 section 6.1.1",
    ),
    "t= of 77 digits": Case(
        tags(t="1" * 77),
        ["dkim=permerror t= is not a number"],
        disagree="Mail::DKIM: does not look at it, RFC 6376 section 6.1.1",
    ),
    "x= no number": Case(tags(x="never"), ["dkim=permerror x= is not a number"]),
    "l= short": Case(
        tags(l="5", length=5),
        ["dkim=policy l= leaves 19 octets of the body unsigned"],
        disagree="dkimpy Mail::DKIM OpenDKIM: leave that to others, who do not do it",
    ),
    "l=0": Case(
        tags(l="0", length=0),
        ["dkim=policy l= leaves 24 octets of the body unsigned"],
        disagree="dkimpy OpenDKIM: leave that to others, who do not do it",
    ),
    "l= longer than the body": Case(
        tags(l="25"),
        ["dkim=fail body is shorter than l="],
        disagree="dkimpy Mail::DKIM: accept it; RFC 6376 section 3.5: MUST NOT be greater",
    ),
    "l= no number": Case(tags(l="-1"), ["dkim=permerror l= is not a number"]),
    "no record": Case(tags(), ["dkim=permerror no key"], text()),
    "revoked": Case(tags(), ["dkim=permerror key is revoked"], text(b"v=DKIM1; p=")),
    "record without p=": Case(tags(), ["dkim=permerror not a key record: no p="], text(b"v=DKIM1; k=rsa")),
    "record of something else": Case(
        tags(), ["dkim=permerror not a key record: no p="], text(b"v=spf1 -all")
    ),
    "record with a tag twice": Case(
        tags(),
        ["dkim=permerror key record: the tag k= appears twice"],
        with_tag(b"k=rsa"),
        "Mail::DKIM OpenDKIM: accept it, against RFC 6376 section 3.2",
    ),
    "record v=2": Case(
        tags(),
        ["dkim=permerror key record: v= is not DKIM1"],
        lambda s: [s.record("rsa2048").replace(b"DKIM1", b"DKIM2")],
    ),
    "record k= unknown": Case(
        tags(),
        ["dkim=permerror key record: k= is unknown"],
        lambda s: [s.record("rsa2048").replace(b"k=rsa", b"k=dsa")],
    ),
    "record k= for another a=": Case(
        tags(), ["dkim=permerror key record: k= does not match a="], record_of("ed25519")
    ),
    "record h=sha256": Case(tags(), PASS, with_tag(b"h=sha1:sha256")),
    "record h=sha1": Case(
        tags(),
        ["dkim=permerror key record: h= does not allow sha256"],
        with_tag(b"h=sha1"),
        "dkimpy: does not look at h=",
    ),
    "record s=email": Case(
        tags(), PASS, with_tag(b"s=other:email"), "dkimpy: reads no list; RFC 6376 section 3.6.1 has one"
    ),
    "record s=other": Case(
        tags(),
        ["dkim=permerror key record: s= does not allow email"],
        with_tag(b"s=other"),
    ),
    "record t=s": Case(tags(i="@example.com"), PASS, with_tag(b"t=s")),
    "record t=s, i= below": Case(
        tags(i="@sub.example.com"),
        ["dkim=permerror key record: t=s, but i= is in a subdomain of d="],
        with_tag(b"t=s"),
        "dkimpy: does not look at t=s",
    ),
    "record t=y": Case(
        tags(),
        ["dkim=neutral key record: t=y, the key is in test mode"],
        with_tag(b"t=y"),
        "dkimpy Mail::DKIM OpenDKIM: leave that to others; RFC 6376 section 3.6.1: as unsigned",
    ),
    "record t=y, altered": Case(
        changed(b"hello", b"hallo"),
        ["dkim=neutral key record: t=y, the key is in test mode"],
        with_tag(b"t=y"),
    ),
    "record g=": Case(tags(), PASS, with_tag(b"g=bob"), "Mail::DKIM: minds g=, which RFC 6376 dropped"),
    "record n=, folded by blanks": Case(tags(), PASS, with_tag(b"n=a note=3B ; zz = 1")),
    "p= no base64": Case(
        tags(), ["dkim=permerror key record: p= is not a valid key"], text(b"v=DKIM1; p=****")
    ),
    "p= no key": Case(tags(), ["dkim=permerror key record: p= is not a valid key"], text(b"v=DKIM1; p=AAAA")),
    "p= of RSAPublicKey": Case(
        tags(),
        PASS,
        lambda s: [s.bare_record("rsa2048")],
        "Mail::DKIM OpenDKIM: cannot read it, against RFC 6376 section 3.6.1",
    ),
    "p= of 1008 bits": Case(
        tags(key="rsa1008"),
        ["dkim=permerror key has 1008 bits, less than 1024"],
        record_of("rsa1008"),
        "Mail::DKIM: accepts it, against RFC 8301 section 3.2",
    ),
    "p= of 16385 bits": Case(
        tags(),
        ["dkim=permerror key has 16385 bits, more than 16384"],
        lambda s: [long_record(16385)],
    ),
    "two records, the second": Case(
        tags(),
        PASS,
        lambda s: [s.record("rsa1024"), s.record("rsa2048")],
        "dkimpy Mail::DKIM OpenDKIM: look at the first alone",
    ),
    "two signatures, one bad": Case(
        lambda s: s.dkim(s.dkim(), h=f"{H}:x-nothing").replace(
            b"h=from:to:subject:date;", b"h=from:to:subject;"
        ),
        ["dkim=pass", "dkim=fail header altered"],
    ),
    **{
        f"domainkeys {form}{' without h=' if not h else ''}": Case(domainkeys(form, h), ["domainkeys=pass"])
        for form in ("simple", "nofws")
        for h in (True, False)
    },
    **{
        f"domainkeys {form} altered": Case(
            domainkeys(form, True, b"Rob"), ["domainkeys=fail message altered"]
        )
        for form in ("simple", "nofws")
    },
    "domainkeys, blanks, simple": Case(
        lambda s: s.domainkeys("simple").replace(b"Hello,  ", b"Hello, "), ["domainkeys=fail message altered"]
    ),
    "domainkeys, blanks, nofws": Case(
        lambda s: s.domainkeys("nofws").replace(b"Hello,  ", b"Hello, "), ["domainkeys=pass"]
    ),
    "domainkeys, d= elsewhere": Case(
        lambda s: s.domainkeys("nofws", d="example.org"), ["domainkeys=permerror d= does not cover from"]
    ),
    "domainkeys, no q=": Case(
        lambda s: s.domainkeys("nofws", q=None),
        ["domainkeys=permerror q= is missing"],
        disagree="Mail::DKIM: does without, against RFC 4870 section 3.3",
    ),
    "domainkeys, tags of DKIM": Case(
        lambda s: s.domainkeys("nofws", i="x", l="1", t="9", x="8"), ["domainkeys=pass"]
    ),
    "domainkeys, g= of the sender": Case(
        lambda s: s.domainkeys("nofws"), ["domainkeys=pass"], with_tag(b"g=alice")
    ),
    "domainkeys, g= with a star": Case(
        lambda s: s.domainkeys("nofws"), ["domainkeys=pass"], with_tag(b"g=al*ce")
    ),
    "domainkeys, g= with a star, too long": Case(
        lambda s: s.domainkeys("nofws"),
        ["domainkeys=permerror key record: g= does not allow this address"],
        with_tag(b"g=alic*ice"),
    ),
    "domainkeys, no a=": Case(lambda s: s.domainkeys("nofws", a=None), ["domainkeys=pass"]),
    "domainkeys, no c=": Case(
        lambda s: s.domainkeys("simple", c=None),
        ["domainkeys=permerror c= is missing"],
        disagree="Mail::DKIM: does without, against RFC 4870 section 3.3",
    ),
    "domainkeys, g= of another": Case(
        lambda s: s.domainkeys("nofws"),
        ["domainkeys=permerror key record: g= does not allow this address"],
        with_tag(b"g=bob"),
    ),
    "domainkeys, h=sha256": Case(
        lambda s: s.domainkeys("nofws"),
        ["domainkeys=permerror key record: h= does not allow sha1"],
        with_tag(b"h=sha256"),
    ),
}


@pytest.fixture(scope="module")
def signer(keys: Keys) -> Signer:
    return Signer(keys)


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def told(judged: list[SignatureResult]) -> list[str]:
    return [f"{each.method}={each.result} {each.reason}".strip() for each in judged]


def verdicts(message: bytes, server: NameServer) -> list[str]:
    """Return what ``dkimpipe verify`` says, with a new resolver."""
    return told(in_memory.verify(message, Resolver(Server(server.address, server.port)), NOW))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_verdict(signer: Signer, server: NameServer, case: Case) -> None:
    server.records = {NAME: case.records(signer)} if case.records(signer) else {}
    assert verdicts(case.make(signer), server) == case.expected
    crlf = case.make(signer).replace(b"\n", b"\r\n")
    assert verdicts(crlf, server) == case.expected


def test_agreement(signer: Signer, server: NameServer, report: Report) -> None:
    """Whether others say pass where we do; each exception is known, with its reason, and real."""
    judged = agree = 0
    found = {}
    messages = []
    server.records = {}
    for number, case in enumerate(CASES.values()):
        signer.selector = f"s{number}"  # all in one run of each program
        messages.append(case.make(signer))
        if records := case.records(signer):
            server.records[f"s{number}._domainkey.example.com"] = records
    signer.selector = "sel"
    others = {
        "dkimpy": witness.dkimpy_verdicts(messages, server.records),
        "Mail::DKIM": witness.mail_dkim_verdicts(messages, server.port),
        "OpenDKIM": witness.opendkim_verdicts(messages, server.records),
    }
    for number, (name, case) in enumerate(CASES.items()):
        differ = set()
        for who, verdicts_of in others.items():
            theirs = verdicts_of[number]
            ours = [one for one in case.expected if who == "Mail::DKIM" or one.startswith("dkim=")]
            passes = sum(one in ("pass", "dkim:pass", "domainkeys:pass") for one in theirs)
            judged += 1
            if passes == sum(one.endswith("=pass") for one in ours):
                agree += 1
            else:
                differ.add(who)
        if differ != set(case.disagree.partition(": ")[0].split()):
            found[name] = (differ, {who: theirs[number] for who, theirs in others.items()})
    report(f"{len(CASES)} cases, {judged} verdicts of three others, {agree} as ours, the rest with a reason")
    assert found == {}


SAMPLES = {"rfc6376": 1, "rfc8463": 2}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_the_rfcs(name: str) -> None:
    directory = PROJECT / "tests" / "vectors"
    lines = (directory / f"{name}-records.txt").read_text().splitlines()
    records = dict(line.split("\t") for line in lines)
    resolver = Resolver(known={name: value.encode() for name, value in records.items()})
    signed = (directory / f"{name}-signed.eml").read_bytes()
    assert told(in_memory.verify(signed, resolver, NOW)) == ["dkim=pass"] * SAMPLES[name]


@given(at=st.integers(0, 10_000), octet=st.integers(33, 126), c=st.sampled_from(FORMS))
def test_one_octet_is_enough(keys: Keys, at: int, octet: int, c: str) -> None:
    """Whatever is changed in what was signed, blanks and case apart, makes the signature bad."""
    options = (f"--method={c}", "--domain=example.com", "--selector=sel", f"--keyfile={keys.path('ed25519')}")
    signed = in_memory.sign(MESSAGE, *options, now=NOW)
    begin = len(signed) - len(MESSAGE)
    at = begin + at % len(MESSAGE)
    assume(not signed[at : at + 1].isspace() and signed[at : at + 1].lower() != bytes([octet]).lower())
    resolver = Resolver(known={NAME: keys.records["ed25519._domainkey.example.com"][0]})
    words = [
        [each.result for each in in_memory.verify(message, resolver, NOW)]
        for message in (signed, signed[:at] + bytes([octet]) + signed[at + 1 :])
    ]
    assert words == [["pass"], ["fail"]]
