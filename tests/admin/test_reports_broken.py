"""What is not a report: one clear line each, nothing stored, and memory that does not grow with it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from forked import Ended
from reporting import MONDAY, Flow, mail, packed, report, zipped

from dkimpipe.admin.reports import database, store
from dkimpipe.admin.reports.documents import from_path

XML = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))] * 3)
# Octets; Python and its modules take 21 MiB. JSON, zip files and mail are kept in memory, XML is not.
MEMORY = 96 << 20
MEMORY_FOR_MAIL = 160 << 20


def encrypted() -> bytes:
    """Return a zip file with the flag that its member is encrypted (APPNOTE 4.4.4)."""
    octets = bytearray(zipped(XML))
    octets[6] |= 1
    octets[octets.index(b"PK\1\2") + 8] |= 1
    return bytes(octets)


def many_members() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}.xml", b"")
    return file.getvalue()


def compressed(size: int, begin: bytes = b"") -> bytes:
    """Return so many octets by gzip, made in small steps."""
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * (1 << 20)
    return b"".join([packer.compress(begin), *[packer.compress(block) for _ in range(size >> 20)],
                     packer.flush()])  # fmt: skip


def zip_bomb(method: int = zipfile.ZIP_DEFLATED, size: int = 200) -> bytes:
    """Return a zip file of so many MiB, which takes seconds to make."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, archive.open("r.xml", "w") as member:
        member.write(b"<feedback>")
        for _ in range(size):
            member.write(b" " * (1 << 20))
    return file.getvalue()


def of_method(method: int) -> bytes:
    """Return a zip file whose member is marked as compressed by a method."""
    octets = bytearray(zipped(XML))
    for place in (8, octets.index(b"PK\1\2") + 10):
        octets[place : place + 2] = method.to_bytes(2, "little")
    return bytes(octets)


ZLIB = "compressed by zlib without gzip: only gzip and zip are read"


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("r.xml")
        member.size = len(XML)
        archive.addfile(member, io.BytesIO(XML))
    return file.getvalue()


def many_names(tag: bytes) -> bytes:
    return XML.replace(b"</feedback>", b"".join(tag % number for number in range(500_000)))


def layers(count: int) -> bytes:
    octets = XML
    for _ in range(count):
        octets = gzip.compress(octets)
    return octets


LAUGHS = (
    b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><feedback><version>&c;</version></feedback>'
)
TLS = {
    "organization-name": "x",
    "date-range": {"start-datetime": "2026-11-02T00:00:00Z", "end-datetime": "2026-11-02T23:59:59Z"},
    "report-id": "1",
    "policies": [],
}


def tls(**changes: object) -> bytes:
    return json.dumps({**TLS, **changes}).encode()


def policy(count: object) -> bytes:
    summary = {"total-successful-session-count": count}
    return tls(policies=[{"policy": {"policy-domain": "example.com"}, "summary": summary}])


# The octets of a file, and why they are not a report.
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "truncated XML": (lambda: XML[:-40], "XML, line 5: unclosed token"),
    "truncated gzip": (lambda: gzip.compress(XML)[:-20], "the gzip file is cut off"),
    "damaged gzip": (lambda: gzip.compress(XML)[:-8] + b"x" * 8,
                     "damaged gzip file: Error -3 while decompressing data: incorrect data check"),
    "truncated zip": (lambda: zipped(XML)[:-30], "damaged zip file: File is not a zip file"),
    "damaged zip": (lambda: zipped(XML).replace(zipped(XML)[60:80], b"\xff" * 20),
                    "damaged zip file: Error -3 while decompressing data:"
                    " invalid code -- missing end-of-block"),
    "encrypted zip": (encrypted, "encrypted"),
    "zip with many files": (many_members, "a zip file with more than 100 files"),
    "zip bomb": (zip_bomb, "larger than 64 MiB"),
    "zip bomb by bzip2": (lambda: zip_bomb(zipfile.ZIP_BZIP2, 100), "compressed by bzip2 (method 12)"),
    "zip bomb by LZMA": (lambda: zip_bomb(zipfile.ZIP_LZMA, 100), "compressed by LZMA (method 14)"),
    "zip by Deflate64": (lambda: of_method(9), "compressed by Deflate64 (method 9)"),
    "zip by a method of the future": (lambda: of_method(177), "compressed by an unknown method (method 177)"),
    "zip without files": (lambda: archive(), "a zip file without files"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + XML, "compressed by 7z: only gzip and zip are read"),
    "xz": (lambda: lzma.compress(XML), "compressed by xz: only gzip and zip are read"),
    "bzip2": (lambda: bz2.compress(XML), "compressed by bzip2: only gzip and zip are read"),
    "compress": (lambda: b"\x1f\x9d\x90" + XML, "compressed by compress: only gzip and zip are read"),
    "zlib": (lambda: zlib.compress(XML), ZLIB),
    "zlib, fastest": (lambda: zlib.compress(XML, 1), ZLIB),
    "zlib, best": (lambda: zlib.compress(XML, 9), ZLIB),
    "tar": (tar, "a tar archive: only gzip and zip are read"),
    "tgz": (lambda: gzip.compress(tar()), "a tar archive: only gzip and zip are read"),
    "cabinet": (lambda: b"MSCF" + bytes(32) + XML, "a cabinet: only gzip and zip are read"),
    "JSON list": (lambda: b"[" + tls() + b"]", "the report is not an object"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n", "neither a mail nor XML nor JSON"),
    "gzip bomb": (lambda: compressed(200 << 20, b"<feedback>"), "larger than 64 MiB"),
    "gzip in gzip in ...": (lambda: layers(5), "compressed more than 3 times"),
    "100 MB of XML": (lambda: XML[:-13] + b" " * 100_000_000 + b"</feedback>", "larger than 64 MiB"),
    "billion laughs": (lambda: LAUGHS, "XML with a document type declaration"),
    "wrong root": (lambda: b"<rss version='2.0'/>", "XML, but not a report: <rss>"),
    "wrong encoding": (lambda: XML.replace(b"google.com", b"R\xe9seau"),
                       "XML, line 2: not well-formed (invalid token)"),
    "unknown encoding": (lambda: XML.replace(b"UTF-8", b"KLINGON"), "XML: unknown encoding: KLINGON"),
    "dates in milliseconds": (lambda: XML.replace(b"%d<" % MONDAY, b"%d000<" % MONDAY),
                              f"date_range: '{MONDAY}000' is not a time in seconds since 1970"),
    "dates in days": (lambda: XML.replace(b"%d<" % MONDAY, b"20759<"),
                      "date_range: '20759' is not a time in seconds since 1970"),
    "dates in words": (lambda: XML.replace(b"%d<" % MONDAY, b"2026-11-02<"),
                       "date_range: '2026-11-02' is not a time in seconds since 1970"),
    "dates in the future": (lambda: XML.replace(b"<end>%d" % (MONDAY + 86399), b"<end>4102444800"),
                            "the report is about the future"),
    "end before begin": (lambda: XML.replace(b"<end>%d" % (MONDAY + 86399), b"<end>1500000000"),
                         "date_range ends before it begins"),
    "negative count": (lambda: b"<count>-5</count>".join(XML.rsplit(b"<count>1</count>", 1)),
                       "count '-5' is not a number of messages"),
    "huge count": (lambda: XML.replace(b"<count>1<", b"<count>" + b"9" * 5000 + b"<"),
                   f"count '{'9' * 60}' is not a number of messages"),
    "not an address": (lambda: XML.replace(b"192.0.2.1", b"mail\x09example"),
                       "source_ip 'mail\\texample' is not an IP address"),
    "no domain": (lambda: XML.replace(b"<domain>example.com</domain>", b""), "no domain"),
    "deep nesting": (lambda: b"<feedback>" + b"<a>" * 100_000, "elements more than 20 deep"),
    "a tag of 50 MB": (lambda: b"<feedback><a b='" + b"x" * 50_000_000 + b"'/></feedback>",
                       "a tag or comment of more than 1 MiB"),
    "many names of elements": (lambda: many_names(b"<a%d/>"), "more than 1,000 kinds of elements"),
    "many names of attributes": (lambda: many_names(b"<a b%d=''/>"), "more than 1,000 kinds of elements"),
    "JSON cut off": (lambda: tls()[:-1], "JSON: Expecting ',' delimiter: line 1 column 158 (char 157)"),
    "JSON with a huge number": (lambda: policy(0).replace(b": 0}", b": " + b"9" * 1_000_000 + b"}"),
                                "a number of 1,000,000 digits"),
    "JSON with a negative count": (lambda: policy(-1), "total-successful-session-count '-1'"
                                   " is not a number of sessions"),
    "JSON with a fraction": (lambda: policy(0.5), "total-successful-session-count '0.5'"
                             " is not a number of sessions"),
    "JSON with a list as a count": (lambda: policy([[1]]), "total-successful-session-count 'list'"
                                    " is not a number of sessions"),
    "deep JSON": (lambda: b'{"a":' + b"[" * 1_000_000, "JSON: nested too deeply"),
    "other JSON": (lambda: b"{}", "date-range is not an object"),
    "JSON of 3 MB": (lambda: tls(x="y" * 3_000_000), "larger than 2 MiB"),
    "JSON without dates": (lambda: tls(**{"date-range": {}}), "'NoneType' is not a time as in RFC 3339"),
}  # fmt: skip


def child(*arguments: object, octets: bytes = b"") -> Ended:
    return forked.run("reports", *map(str, arguments), stdin=octets)


def rows(database: Path) -> list[int]:
    """Return how many rows each table has."""
    base = sqlite3.connect(database)
    tables = ("report", "record", "signature", "tls_policy", "unreadable")
    counts = [base.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    base.close()
    return counts


@pytest.mark.parametrize(("make", "cause"), BROKEN.values(), ids=BROKEN)
def test_one_line_and_nothing_stored(make: Callable[[], bytes], cause: str, tmp_path: Path) -> None:
    file, database = tmp_path / "file", tmp_path / "reports.db"
    file.write_bytes(make())
    done = child("--store", "--database", database, file)
    (line,) = done.stderr.splitlines()
    assert line in (f"dkimpipe: {file}{member}: {cause}" for member in ("", ", r.xml", ", report.xml"))
    assert done.status == 78
    assert rows(database) == [0, 0, 0, 0, 1]
    assert done.peak < MEMORY


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as found:
        for name, octets in members.items():
            found.writestr(name, octets)
    return file.getvalue()


def zips(count: int) -> bytes:
    octets = XML
    for _ in range(count):
        octets = zipped(octets, "r.zip")
    return octets


DOCTYPE = "XML with a document type declaration"
NUMBER = "is not a number of messages"
# What a parser might follow, resolve or misread. The octets of a file, and why they are not a report.
ATTACKS = {
    "external entity": (
        b'<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback><org_name>&x;</org_name></feedback>',
        DOCTYPE,
    ),
    "parameter entity": (b'<!DOCTYPE f [<!ENTITY % x SYSTEM "http://127.0.0.1/x"> %x;]><feedback/>', DOCTYPE),
    "external document type": (b'<!DOCTYPE feedback SYSTEM "http://127.0.0.1/x.dtd"><feedback/>', DOCTYPE),
    "entity that is not declared": (b"<feedback>&x;</feedback>", "XML, line 1: undefined entity"),
    "UTF-7": (XML.replace(b"UTF-8", b"UTF-7"), "XML: multi-byte encodings are not supported"),
    "zip in zip in ...": (zips(4), "compressed more than 3 times"),
    "two documents": (XML + XML, "XML, line 7: junk after document element"),
    "count with a sign": (XML.replace(b"<count>1<", b"<count>+1<"), f"count '+1' {NUMBER}"),
    "count in other digits": (
        XML.replace(b"<count>1<", "<count>\u0661<".encode()),
        f"count '\u0661' {NUMBER}",
    ),
    "count of another namespace": (
        XML.replace(b"<count>1</count>", b'<x:count xmlns:x="urn:x">1</x:count>'),
        f"count '' {NUMBER}",
    ),
    "XML of another kind": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "XML, but not a report: <svg>"),
}


@pytest.mark.parametrize(("octets", "cause"), ATTACKS.values(), ids=ATTACKS)
def test_attacks_are_not_reports(octets: bytes, cause: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(octets)
    with store.Store(database.IN_MEMORY) as base:
        faults = store.add_all(base, from_path(tmp_path / "file"), MONDAY)
        assert ([fault.cause for fault in faults], base.latest()) == ([cause], 0)


# The octets of a file, and the messages of each report in it.
HARMLESS = {
    "zip in zip in zip": (zips(3), [3]),
    "names that lead elsewhere": (archive(**{"../../x": XML, "/x": XML.replace(b"google", b"b")}), [3, 3]),
    "garbage after gzip": (gzip.compress(XML) + b"garbage" * 100_000, [3]),
    "10,000 records of one address": (XML.replace(b"</record>", b"</record>" + b"".join(
        XML.partition(b"</policy_published>\n")[2].splitlines(keepends=True)[:1]) * 3333, 3), [10_002]),
    "no records": (report([]), [0]),
    "text that looks like markup": (XML.replace(b"google.com<", b"<![CDATA[<b>]]><"), [3]),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "messages"), HARMLESS.values(), ids=HARMLESS)
def test_oddities_are_read(octets: bytes, messages: list[int], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(octets)
    with store.Store(database.IN_MEMORY) as base:
        assert store.add_all(base, from_path(tmp_path / "file"), MONDAY) == []
        for number, count in enumerate(messages):
            records = base.records(store.Which(number, number + 1, 0))
            assert sum(each.record.messages for each in records) == count
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def deep() -> bytes:
    lines = [b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (at, at) for at in range(1500)]
    return b"From: a@example.net\n" + b"".join(lines)


# Mail that is not parsed at all, or would take too much memory.
MAIL: dict[str, tuple[Callable[[], bytes], str]] = {
    "a mail of 100 MB": (lambda: b"From: a@example.net\n\n" + b"x" * 100_000_000, "larger than 20 MiB"),
    "empty lines": (lambda: b"Content-Type: message/delivery-status\n\n" + b"\n" * 10_000_000,
                    "a mail of more than 400,000 lines"),
    "many parts": (lambda: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 100_000,
                   "a mail with too many parts"),
    "deep parts": (deep, "parts nested too deeply"),
    "a large attachment": (lambda: mail(b"\x00" * (13 << 20)), "no report in this mail"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "cause"), MAIL.values(), ids=MAIL)
def test_hostile_mail(make: Callable[[], bytes], cause: str) -> None:
    done = child("--json", "-", octets=make())
    (fault,) = json.loads(done.stdout)["unreadable"]
    assert (fault["cause"], done.stderr) == (cause, "")
    assert done.peak < MEMORY_FOR_MAIL


def test_a_faulty_attachment_is_named_by_its_mail() -> None:
    done = child("--json", "-", octets=mail(gzip.compress(XML)[:-20]))
    (fault,) = json.loads(done.stdout)["unreadable"]
    assert fault == {
        "name": "standard input, from noreply-dmarc-support@google.com, message-id <1@google.com>, r.xml.gz",
        "cause": "the gzip file is cut off",
    }


def test_a_large_report_takes_no_more_memory(tmp_path: Path) -> None:
    """16 MB of records, read and stored one by one: Python and its modules take 21 MiB."""
    flow = Flow(
        "192.0.2.1", 1, "example.com", (("example.com", "s1", "pass"),), ("example.com", "pass"), True
    )
    (tmp_path / "large.xml").write_bytes(report([flow] * (16_000_000 // len(flow.xml()))))
    done = child("--store", "--database", tmp_path / "reports.db", tmp_path / "large.xml")
    assert (done.status, done.stderr) == (0, "")
    assert done.peak < 32 << 20


def test_a_zip_file_whose_directory_is_long() -> None:
    """An object for each of half a million entries would take 400 MB."""
    entry = b"PK\x01\x02" + b"\0" * 42
    count = 400_000
    end = b"PK\x05\x06" + b"\0" * 4 + b"\xff" * 4 + (46 * count).to_bytes(4, "little") + b"\0" * 6
    done = child("--json", "-", octets=mail(b"PK\x03\x04" + entry * (count // 2) + end, "application/zip"))
    assert b"a zip file with more than 100 files" in done.stdout
    assert done.peak < MEMORY_FOR_MAIL


def test_good_reports_beside_a_broken_one_are_stored(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(XML[:-5])
    (tmp_path / "b.eml").write_bytes(packed(XML))
    database = tmp_path.parent / f"{tmp_path.name}.db"
    done = child("--store", "--database", database, tmp_path)
    assert done.stderr.count("\n") == 1
    assert rows(database) == [1, 3, 0, 0, 1]
