"""Aggregate and TLS reports as receivers write them, read to the last record, in whatever they come in."""

from __future__ import annotations

import gzip
import json
import mailbox
import re
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest
from reporting import MONDAY, Flow, mail, packed, report, zipped

from dkimpipe.admin.reports import aggregate, tls
from dkimpipe.admin.reports.aggregate import Dkim, Reader, Record
from dkimpipe.admin.reports.documents import Document, Fault, Unreadable, from_mail, from_path

SAMPLES = Path(__file__).parent.parent / "vectors" / "reports"


def read(octets: bytes) -> tuple[tuple[object, ...], list[Record]]:
    """Return the identity of a report and its records, read in two chunks."""
    reader = Reader()
    records = list(reader.records(iter([octets[:100], octets[100:]])))
    return reader.identity, records


def record(
    ip: str,
    messages: int,
    signatures: tuple[Dkim, ...],
    spf: tuple[str, str],
    aligned: str = "both",
    envelope_from: str = "",
    disposition: str = "none",
    reasons: tuple[str, ...] = (),
) -> Record:
    by_dkim, by_spf = aligned in ("both", "dkim"), aligned in ("both", "spf")
    return Record(
        ip, messages, "example.com", envelope_from, disposition, by_dkim, by_spf, reasons, signatures, spf
    )


OURS = (Dkim("example.com", "s1", "pass"),)
SPF = ("example.com", "pass")

# Written after public samples, with the peculiarities of each sender.
DIALECTS = {
    "google": (
        ("google.com", "1234567890123456789", "example.com", "none", MONDAY, MONDAY + 86399),
        [
            record("192.0.2.1", 12, OURS, SPF),
            record("203.0.113.9", 2, (Dkim("example.com", "s1", "fail"),), ("list.test", "pass"), "no"),
        ],
    ),
    "microsoft": (
        ("Enterprise Outlook", "0123abcd", "example.com", "reject", MONDAY, MONDAY + 86400),
        [
            record("192.0.2.1", 3, OURS, SPF, envelope_from="example.com"),
            record(
                "2001:db8::9",
                1,
                (Dkim("example.com", "s1", "permerror"),),
                ("", "none"),
                "no",
                disposition="reject",
                reasons=("local_policy", "other"),
            ),
        ],
    ),
    "yahoo": (
        ("Yahoo", "1793577600.123456", "example.com", "none", MONDAY, MONDAY + 86399),
        [record("192.0.2.1", 7, OURS, SPF)],
    ),
    "mailru": (
        ("Mail.Ru", "123456789012345678901793664000", "example.com", "reject", MONDAY, MONDAY + 86400),
        [
            record("192.0.2.1", 1, OURS, SPF),
            record("203.0.113.9", 2, (), ("example.com", "softfail"), "no", disposition="reject"),
        ],
    ),
    "gmx": (
        ("GMX", "0123456789abcdef0123456789abcdef", "example.com", "quarantine none", MONDAY, MONDAY + 86399),
        [record("192.0.2.1", 5, OURS, SPF, envelope_from="example.com")],
    ),
    "fastmail": (
        ("FastMail Pty Ltd", "102675056", "example.com", "none", MONDAY, MONDAY + 86399),
        [record("192.0.2.1", 4, (*OURS, Dkim("x.test", "k", "pass")), SPF, envelope_from="example.com")],
    ),
    "amazon": (
        ("AMAZON-SES", "01234567-89ab-cdef-0123-456789abcdef", "example.com", "none", MONDAY, MONDAY + 86400),
        [
            record(
                "192.0.2.1", 4, (Dkim("amazonses.com", "", "pass"), Dkim("example.com", "", "pass")),
                ("us-west-2.amazonses.com", "pass"), "dkim", "us-west-2.amazonses.com",
            )
        ],
    ),
    "aol": (
        ("AOL", "example.com_1793664000", "example.com", "reject", MONDAY, MONDAY + 86400),
        [record("192.0.2.1", 6, (Dkim("example.com", "", "pass"),), SPF)],
    ),
    "mimecast": (
        ("Mimecast", "0123456789abcdef" * 4, "example.com", "reject none", MONDAY, MONDAY + 86399),
        [record("192.0.2.1", 1, OURS, SPF)],
    ),
    "alphabetical": (
        ("Mail.Ru", "987654321", "example.com", "none", MONDAY, MONDAY + 86400),
        [record("192.0.2.1", 1, OURS, SPF), record("192.0.2.2", 2, (), SPF, "spf")],
    ),
    "rspamd": (
        ("Réseau", "r.1", "example.com", "none", MONDAY, MONDAY + 86400),
        [record("192.0.2.1", 9, (Dkim("example.com", "s1", "temperror"),), ("", "none"), "no")],
    ),
    "rfc9990": (
        (
            *("Sample Reporter", "3v98abbp8ya9n3va8yr8oa3ya", "example.com", "quarantine none"),
            *(MONDAY, MONDAY + 86399),
        ),
        [
            record(
                "192.0.2.123", 123, (Dkim("example.com", "abc123", "pass"),),
                ("example.com", "fail"), "dkim", "example.com",
                "pass",
            )
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_reports_of_large_senders(name: str) -> None:
    assert read((SAMPLES / f"{name}.xml").read_bytes()) == DIALECTS[name]


def test_each_sample_is_read() -> None:
    assert {path.stem for path in SAMPLES.glob("*.xml")} == set(DIALECTS)


def test_utf_16_and_a_prefix() -> None:
    text = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))]).decode()
    text = text.replace("UTF-8", "UTF-16").replace("<feedback>", '<d:feedback xmlns:d="urn:x">')
    text = text.replace("</feedback>", "</d:feedback>")
    assert len(read(text.encode("utf-16"))[1]) == 1


# Results of SPF as XML, and what counts: the envelope sender's, whatever the order.
SPF_RESULTS = {
    "none": ("", ("", "none")),
    "HELO alone": ("<spf><domain>h.test</domain><result>pass</result><scope>helo</scope></spf>",
                   ("h.test", "pass")),
    "HELO first": ("<spf><domain>h.test</domain><scope>helo</scope><result>none</result></spf>"
                   "<spf><domain>m.test</domain><scope>mfrom</scope><result>pass</result></spf>",
                   ("m.test", "pass")),
    "HELO last": ("<spf><domain>m.test</domain><scope>MFROM</scope><result>fail</result></spf>"
                  "<spf><domain>h.test</domain><scope>helo</scope><result>pass</result></spf>",
                  ("m.test", "fail")),
    "no scope": ("<spf><domain>h.test</domain><scope>helo</scope><result>pass</result></spf>"
                 "<spf><domain>m.test</domain><result>none</result></spf>", ("m.test", "none")),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SPF_RESULTS.values(), ids=SPF_RESULTS)
def test_the_result_of_spf(text: str, expected: tuple[str, str]) -> None:
    octets = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))])
    octets = octets.replace(b"<spf><domain></domain><result>none</result></spf>", text.encode())
    assert read(octets)[1][0].spf == expected


SCHEMA = b'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
START, _, REST = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))]).partition(b"<feedback>")
# An element around the report, and whether it is read.
WRAPPED = {
    "a schema that is left open": START + SCHEMA + b"<feedback>" + REST,
    "a schema": START + SCHEMA + b"<feedback>" + REST + b"</xs:schema>",
    "another": START + b"<reports><feedback>" + REST + b"</reports>",
}
NOT_WRAPPED = {
    "cut off": (START + SCHEMA + b"<feedback>" + REST[:-13], "XML, line 3: no element found"),
    "two": (START + b"<a><feedback>" + REST + b"<feedback>" + REST, "more than one report in a file"),
    "two deep": (START + b"<a><b><feedback>" + REST, "XML, but not a report: <a>"),
    "nothing in it": (START + SCHEMA, "XML, line 2: no element found"),
    "closed": (START + b"<a></a>", "XML, but not a report: <a>"),
}


@pytest.mark.parametrize("octets", WRAPPED.values(), ids=WRAPPED)
def test_an_element_around_the_report(octets: bytes) -> None:
    assert read(octets) == read(START + b"<feedback>" + REST)


@pytest.mark.parametrize(("octets", "cause"), NOT_WRAPPED.values(), ids=NOT_WRAPPED)
def test_what_is_not_a_report_in_an_element(octets: bytes, cause: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(cause)):
        read(octets)


def test_elements_of_extensions_are_ignored() -> None:
    """They have a prefix of their own, or declare another namespace."""
    text = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))]).decode()
    foreign = '<x:row><x:count>9</x:count></x:row><row xmlns="urn:y"><count>9</count></row>'
    text = text.replace("<feedback>", '<d:feedback xmlns:d="urn:d" xmlns:x="urn:x">')
    text = text.replace("</feedback>", "</d:feedback>").replace(
        "<policy_published>", '<policy_published xmlns="">'
    )
    assert read(text.replace("</record>", f"{foreign}</record>").encode())[1] == read(text.encode())[1]
    assert read(text.encode())[1][0].messages == 1


def test_the_domain_of_from_may_be_missing(tmp_path: Path) -> None:
    """Then it is the domain of the report; see the test of the database for what is stored."""
    octets = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))])
    octets = octets.replace(b"<header_from>example.com</header_from>", b"")
    assert read(octets)[1][0].header_from == ""


TLS = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2026-11-02T00:00:00Z", "end-datetime": "2026-11-02T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example"],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "sending-mta-ip": "2001:db8:abcd:0013::1",
                    "receiving-mx-hostname": "MX2.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                    "additional-information": "https://reports.company-x.example/report_info",
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                },
            ],
        }
    ],
}


def test_the_example_of_rfc_8460() -> None:
    """Appendix B, with the dates of the other tests."""
    found = tls.read(iter([json.dumps(TLS).encode()]))
    assert found[:4] == ("Company-X", TLS["report-id"], MONDAY, MONDAY + 86399)
    (policy,) = found.policies
    assert policy[:4] == ("sts", "company-y.example", 5326, 303)
    assert policy.failures[1] == (
        "starttls-not-supported", "mx2.mail.company-y.example", "2001:db8:abcd:0013::1", 200,
    )  # fmt: skip
    assert [each.sessions for each in policy.failures] == [100, 200, 3]


TLS_DIALECTS = {
    "google: no failures, no policy text": (
        {"policies": [{"policy": {"policy-type": "no-policy-found", "policy-domain": "Example.com."},
                       "summary": {"total-successful-session-count": 4, "total-failure-session-count": 0}}]},
        [("no-policy-found", "example.com", 4, 0, ())],
    ),
    "microsoft: several policies, TLSA records as JSON in a string": (
        {"report-id": "133925885310113267+example.com", "policies": [
            {"policy": {"policy-type": kind, "policy-string": [text], "policy-domain": "example.com"},
             "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0}}
            for kind, text in (("sts", "version: STSv1"), ("tlsa", '["3 1 1 6007EEE5","3 1 1 837C773D"]'))]},
        [("sts", "example.com", 1, 0, ()), ("tlsa", "example.com", 1, 0, ())],
    ),
    "microsoft: a failure without servers": (
        {"policies": [{"policy": {"policy-type": "sts", "policy-domain": "example.com"},
                       "summary": {"total-successful-session-count": 0, "total-failure-session-count": 3},
                       "failure-details": [{"result-type": "sts-policy-fetch-error",
                                            "failed-session-count": 3}]}]},
        [("sts", "example.com", 0, 3, (("sts-policy-fetch-error", "", "", 3),))],
    ),
    "nothing where something may be": (
        {"contact-info": None,
         "policies": [{"policy": {"policy-type": "sts", "policy-domain": "example.com", "mx-host": None},
                       "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
                       "failure-details": None}]},
        [("sts", "example.com", 1, 0, ())],
    ),
    "counts that are missing": (
        {"policies": [{"policy": {"policy-type": "sts", "policy-domain": "example.com"}, "summary": {}}]},
        [("sts", "example.com", 0, 0, ())],
    ),
    "a time without a zone": (
        {"date-range": {"start-datetime": "2026-11-02T00:00:00", "end-datetime": "2026-11-02T23:59:59+00:00"},
         "policies": []},
        [],
    ),
    "lone surrogates, which no database takes": (
        {"policies": [{"policy": {"policy-type": "\ud800", "policy-domain": "example.com"}, "summary": {}}]},
        [("?", "example.com", 0, 0, ())],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), TLS_DIALECTS.values(), ids=TLS_DIALECTS)
def test_tls_reports_of_others(change: dict[str, object], expected: list[tuple[object, ...]]) -> None:
    found = tls.read(iter([b"\xef\xbb\xbf" + json.dumps({**TLS, **change}).encode()]))
    assert (found.begin, [tuple(each) for each in found.policies]) == (MONDAY, expected)


# In whatever people have

XML = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))])
TLS_JSON = json.dumps(TLS).encode()


def single(octets: bytes, media_type: str, encoding: str = "base64") -> bytes:
    message = EmailMessage()
    main, _, sub = media_type.partition("/")
    message.set_content(octets, maintype=main, subtype=sub, cte=encoding, filename="r")
    return message.as_bytes()


def mixed(*parts: Message) -> Message:
    message = MIMEMultipart("mixed")
    message.attach(MIMEText("a report\n"))
    message.attach(MIMEText("<html><body>a report</body></html>", "html"))
    for part in parts:
        message.attach(part)
    return message


def rfc_2231() -> bytes:
    return packed(XML).replace(
        b'filename="r.xml.gz"', b"filename*0*=utf-8''google.com%21example.com;\n filename*1=.xml.gz"
    )


SHAPES: dict[str, tuple[bytes, list[bytes]]] = {
    "one part, zip": (single(zipped(XML), "application/zip"), [XML]),
    "one part, gzip": (single(gzip.compress(XML), "application/gzip"), [XML]),
    "one part, wrong type": (single(gzip.compress(XML), "application/octet-stream"), [XML]),
    "one part, base64 text/xml": (single(XML, "text/xml"), [XML]),
    "one part, quoted-printable": (single(XML, "text/xml", "quoted-printable"), [XML]),
    "mixed": (packed(XML), [XML]),
    "mimecast: a line end after gzip": (mail(gzip.compress(XML) + b"\r\n"), [XML]),
    "two members of gzip, then zeros": (
        mail(gzip.compress(XML[:9]) + gzip.compress(XML[9:]) + b"\0" * 9),
        [XML],
    ),
    "mixed, zip": (mail(zipped(XML), "application/x-zip-compressed"), [XML]),
    "several reports": (
        mixed(MIMEApplication(gzip.compress(XML)), MIMEApplication(zipped(XML))).as_bytes(),
        [XML, XML],
    ),
    "forwarded": (mixed(MIMEMessage(message_from_bytes(packed(XML)))).as_bytes(), [XML]),
    "a name by RFC 2231": (rfc_2231(), [XML]),
    "gzip in zip": (mail(zipped(gzip.compress(XML), "r.xml.gz"), "application/zip"), [XML]),
    "tls": (mail(gzip.compress(TLS_JSON), "application/tlsrpt+gzip", "r.json.gz"), [TLS_JSON]),
    "tls, not compressed": (mail(TLS_JSON, "application/tlsrpt+json", "r.json"), [TLS_JSON]),
    "as local(8) pipes it": (b"From x@google.com  Thu Nov  5 00:00:00 2026\n" + packed(XML), [XML]),
    "CRLF": (packed(XML).replace(b"\n", b"\r\n"), [XML]),
}


def contents(found: Document | Fault) -> bytes | str:
    """Return the octets of a document, or what is wrong."""
    return b"".join(found.chunks) if isinstance(found, Document) else found.cause


@pytest.mark.parametrize(("octets", "expected"), SHAPES.values(), ids=SHAPES)
def test_shapes_of_mail(octets: bytes, expected: list[bytes]) -> None:
    assert [contents(each) for each in from_mail("mail", iter([octets]))] == expected


def test_a_name_of_rfc_2231_is_shown() -> None:
    (found,) = from_mail("mail", iter([rfc_2231()]))
    assert found.name == (
        "mail, from noreply-dmarc-support@google.com, message-id <1@google.com>,"
        " google.com!example.com.xml.gz"
    )


def test_mail_without_a_report() -> None:
    text = b"From: Eve <eve@example.net>\r\n (\x1b[2J)\r\nMessage-ID: <" + b"x" * 200 + b">\r\n\r\nHello.\r\n"
    (found,) = from_mail("standard input", iter([text]))
    assert found == Fault(
        f"standard input, from Eve <eve@example.net> (\\x1b[2J), message-id <{'x' * 99}...",
        "no report in this mail",
    )


def maildir(directory: Path) -> Path:
    for name in ("cur", "new", "tmp", ".Other/new"):
        (directory / name).mkdir(parents=True)
    (directory / "cur" / "1.host:2,S").write_bytes(packed(XML))
    (directory / "new" / "2.host").write_bytes(packed(XML))
    (directory / "tmp" / "3.host").write_bytes(packed(XML)[:100])
    (directory / "dovecot-uidlist").write_text("3 V1 N2\n")
    return directory


def mbox(path: Path) -> Path:
    box = mailbox.mbox(path)
    for _ in range(2):
        box.add(packed(XML))
    box.close()
    return path


def directory(path: Path) -> Path:
    (path / "below").mkdir(parents=True)
    (path / "r.xml").write_bytes(XML)
    (path / "below" / "r.zip").write_bytes(zipped(XML))
    (path / ".hidden").write_bytes(b"x")
    (path / "round").symlink_to(path)
    return path


PLACES: dict[str, Callable[[Path], Path]] = {"Maildir": maildir, "mbox": mbox, "directory": directory}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_places(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert [contents(each) for each in from_path(make(tmp_path / "place"))] == [XML, XML]


def test_a_file_of_a_directory_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/proc/self/mem")
    (tmp_path / "b.xml").write_bytes(XML)
    assert [contents(each) for each in from_path(tmp_path)] == ["Input/output error", XML]


def test_addresses_are_compared_in_one_form() -> None:
    octets = XML.replace(b"192.0.2.1", b"::ffff:192.0.2.1")
    assert read(octets)[1][0].ip == "192.0.2.1"
    assert aggregate.Reader().identity == ("", "", "", "", 0, 0)
