"""``dkimpipe verify --explain`` of what came back: the returned message is explained, octet for octet."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable

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
        command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", "--explain"]
        command += ["--key_file", f"sel._domainkey.example.com={record}"]
        done = subprocess.run(command, input=octets, capture_output=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr.decode())

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


SHAPES: dict[str, Change] = {
    "Postfix": lambda signed: report("delivery-status", POSTFIX, "message/rfc822", signed),
    "Exchange": exchange,
    "Gmail": gmail,
    "Yahoo, ARF": lambda signed: report("feedback-report", ARF, "message/rfc822", signed),
    "Microsoft, ARF in base64": encoded,
    "DMARC failure report": lambda signed: report("feedback-report", FAILURE, "message/rfc822", signed),
    "SMTPUTF8": lambda signed: report("delivery-status", POSTFIX, "message/global", signed),
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
    assert explain(octets) == Done(78, b"no signature\n", "")


def test_nothing_unprintable_is_printed(signed: bytes, explain: Explain) -> None:
    facts = POSTFIX.replace(b"failed", b"\x1b[2J\xff")
    done = explain(report("delivery-status", facts, "message/rfc822", signed))
    assert all(line.isprintable() for line in done.stdout.decode().splitlines())
