"""``dkimpipe verify --explain`` of what came back: the returned message is explained, octet for octet."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forked
import in_memory
import pytest
from conftest import MAIN, Done, Keys

Explain = Callable[[bytes], Done]
Change = Callable[[bytes], bytes]
MESSAGE = (
    b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n\n"
    b"Hello,  Bob. \n--not a boundary\nFrom here on: \xe2\x9c\x93\n\n\n"
)


@pytest.fixture(scope="module")
def signed(keys: Keys) -> bytes:
    """Signed simple/simple: every octet counts."""
    arguments = ("--method=simple/simple", "--domain=example.com", "--selector=sel", "--normalize=no")
    return in_memory.sign(MESSAGE, *arguments, f"--keyfile={keys.path('rsa2048')}", now=1_700_000_000)


@pytest.fixture(scope="module")
def explain(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Explain:
    """``dkimpipe verify --explain`` with the key at hand."""
    record = tmp_path_factory.mktemp("record") / "record"
    (text,) = keys.records["rsa2048._domainkey.example.com"]
    record.write_bytes(text)

    def run(octets: bytes) -> Done:
        key = ("--key_file", f"sel._domainkey.example.com={record}")
        return Done(*forked.run("verify", "--hostname=mx.test", "--explain", *key, stdin=octets)[:3])

    return run


def report(kind: str, facts: bytes, content_type: str, returned: bytes, boundary: str = "b=_1.test") -> bytes:
    """Return a multipart/report with its three parts."""
    line = b"--" + boundary.encode()
    facts_type = b"feedback-report" if kind == "feedback-report" else b"delivery-status"
    return b"\n".join(
        [
            b"From: MAILER-DAEMON@mx.example.net (Mail Delivery System)",
            b"Subject: Undelivered Mail Returned to Sender",
            b"Content-Type: multipart/report; report-type=%s;" % kind.encode(),
            b'\tboundary="%s"' % boundary.encode(),
            b"",
            b"This is a MIME-encapsulated message.",
            b"",
            line,
            b"Content-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\nsorry\n",
            line,
            b"Content-Description: Delivery report\nContent-Type: message/%s\n\n%s" % (facts_type, facts),
            line,
            b"Content-Description: Undelivered Message\nContent-Type: %s\n\n%s"
            % (content_type.encode(), returned),
            line + b"--",
            b"",
        ]
    )


POSTFIX = (
    b"Reporting-MTA: dns; mx.example.net\nX-Postfix-Queue-ID: 4FxyzQ1\n\n"
    b"Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.7.1\n"
    b"Diagnostic-Code: smtp; 550 5.7.1 DKIM\n    failed\n"
)
ARF = (
    b"Feedback-Type: abuse\nUser-Agent: Yahoo!-Mail-Feedback/2.0\nVersion: 0.1\n"
    b"Original-Mail-From: <alice@example.com>\nReported-Domain: example.com\n"
)
FAILURE = (
    b"Feedback-Type: auth-failure\nUser-Agent: x/1\nVersion: 1\nAuth-Failure: dmarc\n"
    b"DKIM-Domain: example.com\nDKIM-Selector: sel\nIdentity-Alignment: none\n"
)
WHOLE = "explained is the returned message:"


def exchange(signed: bytes) -> bytes:
    """Exchange puts text and HTML into a multipart of their own, and writes CRLF."""
    octets = report("delivery-status", POSTFIX, "message/rfc822", signed)
    inner = (
        b'Content-Type: multipart/alternative; differences=x; boundary="inner"\n\n'
        b"--inner\nContent-Type: text/plain\n\nsorry\n\n"
        b"--inner\nContent-Type: text/html\n\n<p>sorry\n\n--inner--\n"
    )
    return octets.replace(b"Content-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\n"
                          b"sorry\n", inner).replace(b"\n", b"\r\n")  # fmt: skip


def gmail(signed: bytes) -> bytes:
    """Gmail has a logo in a multipart/related, and ends without a line end."""
    octets = report("delivery-status", POSTFIX, "message/rfc822", signed, "000000000000a1b2")
    inner = (
        b"Content-Type: multipart/related; boundary=rel\n\n"
        b"--rel\nContent-Type: multipart/alternative; boundary=al\n\n"
        b"--al\nContent-Type: text/plain\n\nx\n--al--\n"
        b"--rel\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n--rel--\n"
    )
    part = b"Content-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\nsorry\n"
    return octets.replace(part, inner).rstrip(b"\n")


def encoded(signed: bytes) -> bytes:
    returned = base64.encodebytes(signed)
    return report("feedback-report", ARF, "message/rfc822\nContent-Transfer-Encoding: base64", returned)


def utf8_report(signed: bytes) -> bytes:
    """RFC 6533: the facts are in UTF-8, and so are addresses."""
    facts = POSTFIX.replace(b"rfc822; bob@", "utf-8; b\u00f6b@".encode()).replace(
        b"failed\n", "\u2717\n".encode()
    )
    octets = report("delivery-status", facts, "message/global", signed)
    return octets.replace(b"message/delivery-status", b"message/global-delivery-status")


def text(start: bytes, *lines: bytes) -> Change:
    """Return what writes a bounce that is one text, with the message below these lines."""
    outer = b"From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n\n"
    return lambda signed: outer + start + b"".join(line + b"\n" for line in lines) + signed


def encoded_text(signed: bytes) -> bytes:
    header, _, content = EXIM(signed).partition(b"\n\n")
    encoded = b"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n"
    return header + encoded + base64.encodebytes(content)


def mixed(kind: str, facts: bytes, sender: bytes = b"") -> Change:
    """Return what labels the parts of a report multipart/mixed, and has them from this sender."""

    def make(signed: bytes) -> bytes:
        octets = report(kind, facts, "message/rfc822", signed)
        octets = octets.replace(b"multipart/report; report-type=%s;" % kind.encode(), b"multipart/mixed;")
        return octets.replace(b"MAILER-DAEMON@mx.example.net", sender or b"antispam@netease.example")

    return make


def without_facts(signed: bytes) -> bytes:
    """As some gateways write it: a text, and the message."""
    octets = mixed("delivery-status", b"", b"postmaster@mx.example.net")(signed)
    return octets.replace(b"Content-Type: message/delivery-status", b"Content-Type: text/plain")


def attached(make: Change, header: bytes = b"") -> Change:
    """Return what attaches a bounce to the mail of a person."""
    outer = b"From: Alice <alice@example.com>\nSubject: what is this?\n" + header
    outer += b"Content-Type: multipart/mixed; boundary=person\n\n--person\n\nSee below.\n--person\n"
    return lambda signed: outer + b"Content-Type: message/rfc822\n\n" + make(signed) + b"\n--person--\n"


QMAIL = text(
    b"Hi. This is the qmail-send program at mx.example.net.\n\n<bob@example.net>:\n550 5.7.1 no\n\n",
    b"--- Below this line is a copy of the message.",
    b"",
    b"Return-Path: <alice@example.com>",
)
EXIM = text(
    b"This message was created automatically by mail delivery software.\n\n  bob@example.net\n\n",
    b"------ This is a copy of the message, including all the headers. ------",
    b"",
)
SHAPES: dict[str, Change] = {
    "qmail": QMAIL,
    "Exim": EXIM,
    "Exim, a limit that was not reached": text(
        b"x\n\n",
        b"------ This is a copy of your message, including all the headers.",
        b"------ No more than 100K characters of the body are included.",
        b"",
    ),
    "smail": text(b"x\n\n", b"|------------------------- Message text follows: ----------------------|", b""),
    "Exchange, header in the text, message in a part": lambda signed: report(
        "delivery-status", POSTFIX, "message/rfc822", signed
    ).replace(b"\n\nsorry\n", b"\n\nOriginal message headers:\n\nReceived: from a by b; x\nFrom: c@d\n"),
    "a report, message in a text": lambda signed: report("feedback-report", ARF, "text/plain", signed),
    "a report, message as a file": lambda signed: report(
        "feedback-report", ARF, "application/octet-stream; name=x.eml", signed
    ),
    "a text in base64 without its padding": lambda signed: encoded_text(signed).rstrip(b"=\n"),
    "Gmail, before 2016": text(b"x\n\n", b"----- Original message -----", b""),
    "Sendmail, without MIME": text(b"x\n\n", b"   ----- Original message follows -----", b""),
    "MMDF": text(b"x\n\n", b"    ----- Unsent message follows -----", b""),
    "Exchange, in a text": text(b"x\n\n", b"Original message headers:", b""),
    "a line that announces nothing, first": text(
        b"-- Your original message was too large --\nSorry.\n\n", b"--- Original message ---", b""
    ),
    "a text in base64": encoded_text,
    "CRLF, a text": lambda signed: QMAIL(signed).replace(b"\n", b"\r\n"),
    "Netease: a report as multipart/mixed": mixed("feedback-report", ARF),
    "a bounce as multipart/mixed": mixed("delivery-status", POSTFIX),
    "a gateway: text and message": without_facts,
    "attached: Postfix": attached(
        lambda signed: report("delivery-status", POSTFIX, "message/rfc822", signed)
    ),
    "attached: qmail": attached(QMAIL),
    "attached twice": attached(attached(QMAIL)),
    "Postfix": lambda signed: report("delivery-status", POSTFIX, "message/rfc822", signed),
    "Exchange": exchange,
    "Gmail": gmail,
    "Yahoo, ARF": lambda signed: report("feedback-report", ARF, "message/rfc822", signed),
    "Microsoft, ARF in base64": encoded,
    "DMARC failure report": lambda signed: report("feedback-report", FAILURE, "message/rfc822", signed),
    "SMTPUTF8": lambda signed: report("delivery-status", POSTFIX, "message/global", signed),
    "SMTPUTF8, facts": lambda signed: utf8_report(signed),
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_the_returned_message_is_explained(make: Change, signed: bytes, explain: Explain) -> None:
    done = explain(make(signed))
    lines = done.stdout.decode().splitlines()
    assert lines[lines.index(WHOLE) + 1] == "dkim-signature: pass"
    assert (done.status, done.stderr) == (0, "")
    altered = make(signed.replace(b"Bob.", b"Rob."))
    done = explain(altered)
    assert "dkim-signature: fail: body altered" in done.stdout.decode().splitlines()
    assert done.status == 78


def test_why_it_came_back(signed: bytes, explain: Explain) -> None:
    done = explain(SHAPES["Postfix"](signed))
    assert done.stdout.decode().splitlines()[:5] == [
        "a bounce",
        "    reporting-mta: dns; mx.example.net",
        "    status: 5.7.1",
        "    diagnostic-code: smtp; 550 5.7.1 DKIM    failed",
        WHOLE,
    ]
    done = explain(SHAPES["DMARC failure report"](signed))
    assert done.stdout.decode().splitlines()[:6] == [
        "a complaint or failure report",
        "    feedback-type: auth-failure",
        "    auth-failure: dmarc",
        "    dkim-domain: example.com",
        "    dkim-selector: sel",
        WHOLE,
    ]


WHY = {
    "RFC 6533": (
        utf8_report,
        [
            "a bounce",
            "    reporting-mta: dns; mx.example.net",
            "    status: 5.7.1",
            "    diagnostic-code: smtp; 550 5.7.1 DKIM    \u2717",
        ],
    ),
    "RFC 6533, as multipart/mixed": (
        lambda signed: utf8_report(signed).replace(
            b"multipart/report; report-type=delivery-status", b"multipart/mixed"
        ),
        [
            "a bounce",
            "    reporting-mta: dns; mx.example.net",
            "    status: 5.7.1",
            "    diagnostic-code: smtp; 550 5.7.1 DKIM    \u2717",
        ],
    ),
    "RFC 6533, report-type": (
        lambda signed: report("global-delivery-status", b"Status: 5.1.1\n", "message/rfc822", signed),
        ["a bounce", "    status: 5.1.1"],
    ),
}


@pytest.mark.parametrize(("make", "expected"), WHY.values(), ids=WHY)
def test_facts_in_utf8(make: Change, expected: list[str], signed: bytes, explain: Explain) -> None:
    lines = explain(make(signed)).stdout.decode().splitlines()
    assert lines[: lines.index(WHOLE)] == expected


HEADER = "explained is the returned header; its body did not come back:"


@pytest.mark.parametrize("kind", ["text/rfc822-headers", "message/rfc822"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((b"", b""), "dkim-signature: the header is unchanged"),
        ((b"hello", b"[list] hello"), "dkim-signature: the header was altered, or signed with another key"),
        ((b"s=sel", b"s=other"), "dkim-signature: permerror: no key"),
        ((b"DKIM-Signature", b"X-Signature"), "no signature"),
    ],
)
def test_only_the_header_came_back(
    kind: str, change: tuple[bytes, bytes], expected: str, signed: bytes, explain: Explain
) -> None:
    """As from Postfix for a message of more than bounce_size_limit."""
    header = signed.partition(b"\n\n")[0] + b"\n"
    done = explain(report("delivery-status", POSTFIX, kind, header.replace(*change)))
    lines = done.stdout.decode().splitlines()
    assert lines[lines.index(HEADER) + 1] == expected
    assert (done.status, done.stderr) == (78, "")


BEGINNING = "explained is the returned header; only the beginning of its body came back:"
CUT = {
    "Exim": text(
        b"x\n\n",
        b"------ This is a copy of the message, including all the headers.",
        b"------ The body of the message is 300000 characters long; only the first",
        b"------ 106496 or so are included here.",
        b"",
    ),
    "qmail": lambda signed: QMAIL(signed) + b"\n\n--- End of message stripped.\n",
    "Gmail": lambda signed: (
        text(b"x\n\n", b"----- Original message -----", b"")(signed)
        + b"\n\n   ----- Message truncated -----\n\n"
    ),
    "smail": text(b"x\n\n", b"|---- Message text follows: (body too large, truncated) ----|", b""),
    "in brackets": lambda signed: report(
        "delivery-status", POSTFIX, "message/rfc822", signed + b"[Truncated]\n"
    ),
}


@pytest.mark.parametrize("make", CUT.values(), ids=CUT)
def test_only_the_beginning_came_back(make: Change, signed: bytes, explain: Explain) -> None:
    done = explain(make(signed.partition(b"From here")[0]))
    lines = done.stdout.decode().splitlines()
    assert lines[lines.index(BEGINNING) + 1 :] == [
        "dkim-signature: the header is unchanged",
        "    d=example.com s=sel a=rsa-sha256",
    ]
    assert (done.status, done.stderr) == (78, "")
    lines = (
        explain(make(signed.replace(b"bob@", b"rob@").partition(b"From here")[0]))
        .stdout.decode()
        .splitlines()
    )
    assert (
        lines[lines.index(BEGINNING) + 1]
        == "dkim-signature: the header was altered, or signed with another key"
    )


@pytest.mark.parametrize("make", [CUT["Exim"], CUT["smail"]], ids=["Exim", "smail"])
def test_a_note_above_a_message_that_came_back_completely(
    make: Change, signed: bytes, explain: Explain
) -> None:
    lines = explain(make(signed)).stdout.decode().splitlines()
    assert lines[lines.index(WHOLE) + 1] == "dkim-signature: pass"


def test_a_multipart_without_its_last_boundary_is_cut(keys: Keys, explain: Explain) -> None:
    message = (
        b"From: a@example.com\nContent-Type: multipart/mixed; boundary=inner\n\n"
        b"--inner\n\nText.\n--inner\n\nMore.\n--inner--\n"
    )
    arguments = ("--method=simple/simple", "--domain=example.com", "--selector=sel", "--normalize=no")
    signed = in_memory.sign(message, *arguments, f"--keyfile={keys.path('rsa2048')}", now=1_700_000_000)
    lines = explain(QMAIL(signed)).stdout.decode().splitlines()
    assert lines[lines.index(WHOLE) + 1] == "dkim-signature: pass"
    lines = explain(QMAIL(signed.partition(b"More.")[0])).stdout.decode().splitlines()
    assert lines[lines.index(BEGINNING) + 1] == "dkim-signature: the header is unchanged"


@pytest.mark.parametrize(
    ("change", "header"),
    [
        ((b"", b""), ["    the header is unchanged"]),
        (
            (b"Subject: hello", b"Subject: [list] hello"),
            [
                "    the header was altered, or signed with another key",
                "    subject was given a tag in brackets after signing",
            ],
        ),
    ],
)
def test_a_body_that_is_shorter_without_a_note_has_two_causes(
    change: tuple[bytes, bytes], header: list[str], signed: bytes, explain: Explain
) -> None:
    lines = explain(QMAIL(signed.replace(*change).partition(b"From here")[0])).stdout.decode().splitlines()
    found = lines.index("dkim-signature: fail: body altered")
    assert lines[found + 2 : -1] == [
        "    the text was changed after signing, perhaps by a mailing list, a virus scanner or a gateway,"
        " or only its beginning came back",
        *header,
    ]


EXIM_DMARC = (
    b"A message claiming to be from you has failed the published DMARC policy for your domain.\n\n"
    b"  Sender Domain: example.com\n  Sender IP Address: 203.0.113.68\n"
    b"  Received date: Mon, 07 Apr 2025 23:16:09 +0200\n  SPF Alignment: no\n  DKIM Alignment: no\n"
    b"  DMARC Results: None, Accept\n\n"
    b"------ This is a copy of the headers that were received before the error was detected.\n\n"
)
FAILURES: dict[str, Change] = {
    "Exim, one part": lambda header: (
        b"From: no-reply@mx.example.net\nAuto-Submitted: auto-replied\n"
        b'Content-Type: multipart/report;\n boundary="==b=="\n\n--==b==\n'
        b'Content-Type: text/plain; charset="us-ascii"\n\n' + EXIM_DMARC + header + b"\n--==b==--\n"
    ),
    "Exim, a text": lambda header: (
        b"From: no-reply@mx.example.net\nAuto-Submitted: auto-replied\n\n" + EXIM_DMARC + header
    ),
    "Exim, a text that is signed": lambda header: (
        b"DKIM-Signature: v=1; d=example.net\n"
        b"From: no-reply@mx.example.net\nAuto-Submitted: auto-replied\n\n" + EXIM_DMARC + header
    ),
}


@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES)
def test_failure_reports_of_exim(make: Change, signed: bytes, explain: Explain) -> None:
    header = (
        b"Received: from [203.0.113.68] (helo=a)\n\tby mx.example.net; x\n" + signed.partition(b"\n\n")[0]
    )
    assert explain(make(header + b"\n")).stdout.decode().splitlines() == [
        "a report",
        "    sender domain: example.com",
        "    sender ip address: 203.0.113.68",
        "    spf alignment: no",
        "    dkim alignment: no",
        "    dmarc results: None, Accept",
        HEADER,
        "dkim-signature: the header is unchanged",
        "    d=example.com s=sel a=rsa-sha256",
    ]


def test_a_message_without_a_body_came_back_completely(keys: Keys, explain: Explain) -> None:
    arguments = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    signed = in_memory.sign(b"From: a@example.com\n\n", *arguments, now=1_700_000_000)
    done = explain(report("delivery-status", POSTFIX, "message/rfc822", signed))
    lines = done.stdout.decode().splitlines()
    assert lines[lines.index(WHOLE) + 1] == "dkim-signature: pass"
    assert done.status == 0


@pytest.mark.parametrize(
    "octets",
    [
        b"Content-Type: multipart/report; report-type=delivery-status\n\n--\n\nx\n",
        b"Content-Type: multipart/report; boundary=b\n\n--b\n\nnothing came back\n--b--\n",
        b"Content-Type: multipart/report; boundary=b\n\n"
        + b"--b\nContent-Type: multipart/x; boundary=b\n\n" * 50,
        b"Content-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: message/rfc822\n\nA: b\n\nx\n--b--\n",
    ],
    ids=["no boundary", "nothing returned", "nested", "forwarded"],
)
def test_other_mail_is_explained_itself(octets: bytes, explain: Explain) -> None:
    found = b""
    if b"multipart/report" in octets:
        found = NOT_FOUND if b"delivery-status" in octets else NOT_IN_REPORT
    assert explain(octets) == Done(78, found + b"no signature\n", "")


NOT_FOUND = b"a bounce, in which the returned message was not found; explained is the bounce itself:\n"
NOT_IN_REPORT = b"a report, in which the returned message was not found; explained is the report itself:\n"
BY_HEADER = {
    "null sender": b"Return-Path: <>\nFrom: x@example.net\n",
    "MAILER-DAEMON": b"From: Mail Delivery System <Mailer-Daemon@mx.example.net>\n",
    "postmaster": b"From: postmaster@mx.example.net\n",
    "Exim": b"X-Failed-Recipients: bob@example.net\nFrom: x@example.net\n",
}


@pytest.mark.parametrize("header", BY_HEADER.values(), ids=BY_HEADER)
def test_a_bounce_without_the_message(header: bytes, explain: Explain) -> None:
    for content in (b"Sorry.\n", b"--- Below this line is a copy of the message.\n\nnothing\n"):
        assert explain(header + b"\n" + content) == Done(78, NOT_FOUND + b"no signature\n", "")


def test_a_bounce_that_a_person_signed_and_sent_on_is_their_mail(signed: bytes, explain: Explain) -> None:
    octets = b"DKIM-Signature: v=0\n" + EXIM(signed).replace(b"MAILER-DAEMON@", b"alice@")
    assert b"dkim-signature: permerror" in explain(octets).stdout
    assert WHOLE.encode() not in explain(octets).stdout


LONG = {
    "dashes": b"-" * 1_000_000,
    "words": b"--" + b" copy original" * 70_000,
    "spaces": b" " * 1_000_000,
    "lines": b"-- copy of the message\n" * 50_000,
    "empty lines": (b"\n" * 200_000 + b"-- copy of the message\n") * 20,
    "parts": b"--b\n" * 1_000_000,
}


@pytest.mark.parametrize("content", LONG.values(), ids=LONG)
def test_long_texts_take_no_time(content: bytes, explain: Explain) -> None:
    outer = BY_HEADER["MAILER-DAEMON"]
    for header in (
        outer,
        outer + b"Content-Type: multipart/report; boundary=b; report-type=delivery-status\n",
    ):
        start = time.monotonic()
        assert explain(header + b"\n" + content) == Done(78, NOT_FOUND + b"no signature\n", "")
        assert time.monotonic() - start < 20


SIGNED = {  # octets that take much memory if each line or change becomes an object
    "empty lines": b"\n",
    "spaces at line ends": b"x \n",
    "From": b">From \n",
    "parts": b"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nw6Q=\n",
}
OUTER: dict[str, Change] = {
    "itself": bytes,
    "qmail": QMAIL,
    "Postfix, in base64": encoded,
    "empty facts": lambda signed: report("delivery-status", b"\n" * 2_000_000, "message/rfc822", signed),
}


@pytest.mark.parametrize("unit", SIGNED.values(), ids=SIGNED)
@pytest.mark.parametrize("make", OUTER.values(), ids=OUTER)
def test_memory_is_at_most_six_times_the_message(
    make: Change, unit: bytes, signed: bytes, keys: Keys, tmp_path: Path
) -> None:
    (record,) = keys.records["rsa2048._domainkey.example.com"]
    (tmp_path / "record").write_bytes(record)

    def peak(octets: bytes) -> int:
        """Return the most memory of a process that explains this, in octets."""
        path = tmp_path / "message"
        path.write_bytes(octets)
        command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", "--explain"]
        command.append(f"--key-file=sel._domainkey.example.com={tmp_path / 'record'}")
        with path.open("rb") as stdin:
            child = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 78
        return usage.ru_maxrss * 1024

    octets = make(signed + unit * (2_000_000 // len(unit)) + b"x\n")
    assert peak(octets) - peak(SHAPES["Postfix"](signed.replace(b"Bob", b"Rob"))) < 6 * len(octets)


QUOTED = {
    "a reply": b"Yes.\n\n-----Original Message-----\nFrom: bob@example.net\nSubject: hello\n\nHello.\n",
    "a quotation": b"> --- Below this line is a copy of the message.\n> Message-ID: <1@x>\n\n",
}


@pytest.mark.parametrize("body", QUOTED.values(), ids=QUOTED)
def test_what_people_quote_is_not_a_returned_message(body: bytes, explain: Explain) -> None:
    assert explain(b"From: alice@example.com\n\n" + body) == Done(78, b"no signature\n", "")


def test_nothing_unprintable_is_printed(signed: bytes, explain: Explain) -> None:
    facts = POSTFIX.replace(b"failed", b"\x1b[2J\xff")
    done = explain(report("delivery-status", facts, "message/rfc822", signed))
    assert all(line.isprintable() for line in done.stdout.decode().splitlines())
