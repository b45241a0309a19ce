"""Every canonicalization, algorithm and key form on awkward messages, judged by three other programs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import forked
import in_memory
import pytest
import witness
from conftest import Done, Keys, Report
from corpus import MESSAGES
from judging import METHODS, SHORT, judge
from nameserver import NameServer

from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver

RSA_FORMS = [f"rsa{bits}{form}" for bits in (1024, 2048, 4096) for form in ("", "-pkcs1")]

# All of it on every fifth message; one key of each type on all messages.
FULL = [
    *(f"dkim(c={c},a={a},s={s})" for c in METHODS for a in ("rsa-sha256", "rsa-sha1") for s in RSA_FORMS),
    *(f"dkim(c={c},s=ed25519)" for c in METHODS),
    *(f"domainkeys(c={c},s={s})" for c in ("simple", "nofws") for s in RSA_FORMS),
]
NAMES = sorted(MESSAGES)

# Where a verifier is wrong, or cannot read the message at all. Each line is a pattern of message names, a
# pattern of signatures, and why. A line that no verdict needs any more fails the test.
DKIMPY_CANNOT = [
    ("*-before-colon", "*", "takes a name with a blank before its colon for no field"),
    ("field-dkim-malformed", "*", "the same, in a DKIM-Signature of another"),
    ("header-only-ends-in-cr", "dkim(c=relaxed/*", "strips a CR from the end of a field"),
    ("subject-bare-cr-at-line-end", "dkim(c=relaxed/*", "the same"),
    ("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space"),
]
OPENDKIM_CANNOT = [
    ("body-bare-cr", "dkim(c=*/relaxed*", "takes a bare CR in the body for a line end"),
    ("body-bare-cr-after-blanks", "dkim(c=*/relaxed*", "the same"),
    ("body-bare-cr-then-lf-after", "*", "the same"),
    ("body-all-octets", "dkim(c=*/relaxed*", "the same"),
    ("read-*-bare-cr", "dkim(c=*/relaxed*", "the same"),
    ("body-bare-cr-at-line-end", "dkim(c=*/simple*", "drops bare CR from empty lines at the end"),
    ("body-bare-cr-lines-at-end", "dkim(c=*/simple*", "the same"),
    ("body-bare-cr-only", "dkim(c=*/simple*", "the same"),
    ("body-one-cr", "dkim(c=*/simple*", "the same"),
    ("header-only-ends-in-cr", "dkim(c=relaxed/*", "takes a bare CR for white space in a field"),
    ("subject-bare-cr*", "dkim(c=relaxed/*", "the same"),
    ("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space"),
    ("subject-nul", "dkim(c=relaxed/*", "cuts a field at NUL"),
    ("*-htab-before-colon", "*", "takes a name with a HTAB before its colon for no field"),
    ("field-obsolete-blank-before-colon", "*", "the same"),
    ("field-dkim-malformed", "*", "the same, in a DKIM-Signature of another"),
    ("field-odd-names", "*", "takes a name with a semicolon for no field"),
    ("field-2000-to", "*", "reads 4,095 octets of h= at the most"),
]
MAIL_DKIM_CANNOT = [
    ("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space"),
    ("from-route-long", "domainkeys*", "does not read a long route"),
]
if witness.mail_dkim_on_ed25519() != "dkim:pass":
    MAIL_DKIM_CANNOT.append(("*", "dkim(c=*,s=ed25519)", "does not know ed25519-sha256"))
OURS_CANNOT = [
    ("*", "dkim(*a=rsa-sha1*", "refuses rsa-sha1: it has permanently failed (RFC 8301 section 3.1)"),
]

MBOX_LINES = re.compile(rb"\A(?:>*From (?![ \t]*:)[^\n]*\n)+")
LONG_LINE = re.compile(rb"[^\n]{998}(?!\r?\n|\Z)")
NEW_FIELDS = re.compile(rb"(?:(?:DKIM|DomainKey)-Signature: [^\n]{,61}\n(?: [^\n]{,77}\n)+)+")


def sign(keys: Keys, signatures: list[str], names: list[str]) -> list[Done]:
    """Sign these messages of the corpus with one entry, by the command."""
    text = ", ".join(re.sub(r"s=([\w-]+)", r"s=\1,key=KEYS/\1.pem", signature) for signature in signatures)
    senders = str(keys.senders(f"example.com {text}\n", f"senders-{len(signatures)}"))
    return [Done(*forked.run("--sender_map", senders, stdin=MESSAGES[name])[:3]) for name in names]


def as_postfix_sends(message: bytes) -> bytes:
    """Return what Postfix makes of a message: no mbox lines on top, an empty line below the header."""
    lines = (
        message.splitlines(keepends=True)
        if b"\r" not in message
        else re.findall(rb"[^\n]*\n|[^\n]+", message)
    )
    while lines and re.match(rb">*From ", lines[0]) and not re.match(rb"From[ \t]*:", lines[0]):
        del lines[0]
    for number, line in enumerate(lines):
        if line in (b"\n", b"\r\n"):
            break
        if not re.match(rb"[!-9;-~]+[ \t]*:|[ \t]", line):
            lines.insert(number, b"\n")
            break
    return b"".join(lines)


@pytest.fixture(scope="module")
def server(keys: Keys) -> Iterator[NameServer]:
    with NameServer(keys.records) as running:
        yield running


def test_matrix(keys: Keys, server: NameServer, report: Report) -> None:
    """All else in the message is the input, and each fault that a verifier is excused for is real."""
    used: dict[str, set[int]] = {"dkimpy": set(), "OpenDKIM": set(), "Mail::DKIM": set(), "ours": set()}
    resolver = Resolver(Server("127.0.0.1", server.port))
    now = int(time.time())
    for signatures, names in ((FULL, NAMES[::5]), (SHORT, NAMES)):
        done = dict(zip(names, sign(keys, signatures, names)))
        assert {name: one.stderr for name, one in done.items() if one.status} == {}
        for name, one in done.items():
            same = MESSAGES[name] if not LONG_LINE.search(MESSAGES[name]) else broken_lines(one, name)
            assert NEW_FIELDS.fullmatch(new_fields(one.stdout, same)), name
        sent = {name: as_postfix_sends(one.stdout) for name, one in done.items()}
        dkim = [signature for signature in signatures if signature.startswith("dkim")]
        valid = {
            "dkimpy": judge(
                dict(zip(sent, witness.dkimpy_verdicts(list(sent.values()), keys.records))),
                dkim,
                DKIMPY_CANNOT,
                used["dkimpy"],
            ),
            "OpenDKIM": judge(
                dict(zip(sent, witness.opendkim_verdicts(list(sent.values()), keys.records))),
                dkim,
                OPENDKIM_CANNOT,
                used["OpenDKIM"],
            ),
            "Mail::DKIM": judge(
                dict(zip(sent, witness.mail_dkim_verdicts(list(sent.values()), server.port))),
                signatures,
                MAIL_DKIM_CANNOT,
                used["Mail::DKIM"],
            ),
            "ours": judge(
                {
                    name: [each.result for each in in_memory.verify(one, resolver, now)]
                    for name, one in sent.items()
                },
                signatures,
                OURS_CANNOT,
                used["ours"],
            ),
        }
        report(f"{len(names)} messages, {len(names) * len(signatures)} signatures, valid by {valid}")
    for name, cannot in (
        ("dkimpy", DKIMPY_CANNOT),
        ("OpenDKIM", OPENDKIM_CANNOT),
        ("Mail::DKIM", MAIL_DKIM_CANNOT),
        ("ours", OURS_CANNOT),
    ):
        assert [line for number, line in enumerate(cannot) if number not in used[name]] == []


def broken_lines(one: Done, name: str) -> bytes:
    """Return the message below the new fields where lines were broken: none is long, no text is lost."""
    assert "; lines over 998 octets broken: " in one.stderr
    assert not LONG_LINE.search(one.stdout), name
    mark = re.search(rb"^(?!(?:DKIM|DomainKey)-Signature:)[!-9;-~]+[ \t]*:", one.stdout, re.MULTILINE)
    assert mark
    below = one.stdout[mark.start() :]
    assert re.sub(rb"[\s]", b"", below) == re.sub(rb"[\s]", b"", MESSAGES[name])
    return below


def new_fields(signed: bytes, message: bytes) -> bytes:
    """Return what stands in a signed message and not in the message; all else must be the same octets."""
    before = len(message) - len(MBOX_LINES.sub(b"", message))
    after = len(message) - before
    assert signed[:before] + signed[len(signed) - after :] == message
    return signed[before : len(signed) - after]


@pytest.mark.parametrize("name", NAMES)
def test_without_normalization_every_octet_stays(keys: Keys, name: str) -> None:
    senders = keys.senders("example.com dkim(s=ed25519,key=KEYS/ed25519.pem)\n", "senders-as-it-is")
    signed = in_memory.sign(MESSAGES[name], "--sender_map", str(senders), "--normalize=no")
    assert NEW_FIELDS.fullmatch(new_fields(signed, MESSAGES[name]))
