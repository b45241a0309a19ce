"""Compressed files and mail that are damaged or odd: each is read, or is one fault."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import MAIN
from reporting import MONDAY, Flow, mail, report, zipped

from dkimpipe.admin.reports import database, store
from dkimpipe.admin.reports.documents import Document, Fault, from_mail, from_path

XML = report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))])


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as found:
        for name, octets in members.items():
            found.writestr(name, octets)
    return file.getvalue()


def zip64() -> bytes:
    """Return a zip file as for a file of unknown size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as found, found.open("r.xml", "w", force_zip64=True) as member:
        member.write(XML)
    return file.getvalue()


def read(path: Path) -> tuple[int, list[Fault]]:
    """Return how many reports are in a file, and what is not one."""
    with store.Store(database.IN_MEMORY) as base:
        faults = store.add_all(base, from_path(path), MONDAY)
        return len(list(base.records(store.Which(0, base.latest(), 0)))), faults


def without_names() -> bytes:
    """Return a zip file whose member has an empty name, as the reports of some senders have."""
    octets = archive({"r": XML})
    entry = octets.index(b"PK\1\2")
    local = octets[:26] + b"\0\0" + octets[28:30] + octets[31:entry]
    central = octets[entry : entry + 28] + b"\0\0" + octets[entry + 30 : entry + 46]
    end = octets[entry + 47 :]
    sizes = len(central).to_bytes(4, "little") + len(local).to_bytes(4, "little")
    return local + central + end[:12] + sizes + end[20:]


READ = {
    "a member without a name": without_names(),
    "a directory": archive({"reports/": b"", "reports/r.xml": XML}),
    "a size of 64 bits": zip64(),
    "stored": archive({"r.xml": XML}, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("octets", READ.values(), ids=READ)
def test_oddities_are_read(octets: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.zip").write_bytes(octets)
    assert read(tmp_path / "r.zip") == (1, [])


def test_a_damaged_file_does_not_stop_the_others(tmp_path: Path) -> None:
    octets = archive({"r.xml": XML}, zipfile.ZIP_LZMA)
    (tmp_path / "a.zip").write_bytes(octets[:60] + bytes(8) + octets[68:])
    (tmp_path / "b.zip").write_bytes(without_names())
    (tmp_path / "c.zip").write_bytes(zipped(XML)[:-9])
    (tmp_path / "d.xml").write_bytes(XML.replace(b"google", b"yahoo"))
    count, faults = read(tmp_path)
    assert (count, [fault.name for fault in faults]) == (
        2, [f"{tmp_path}/a.zip, r.xml", f"{tmp_path}/c.zip"],
    )  # fmt: skip


SEEDS = {
    "deflated": archive({"r.xml": XML, "d/x": b"<a/>"}),
    "stored": archive({"r.xml": XML}, zipfile.ZIP_STORED),
    "bzip2": archive({"r.xml": XML}, zipfile.ZIP_BZIP2),
    "LZMA": archive({"r.xml": XML}, zipfile.ZIP_LZMA),
    "a size of 64 bits": zip64(),
    "a name in UTF-8": archive({"\xfc.xml": XML}),
    "no name": without_names(),
    "gzip": gzip.compress(XML),
    "gzip in zip": zipped(gzip.compress(XML)),
    "two members of gzip": gzip.compress(XML[:9]) + gzip.compress(XML[9:]),
}
STARTS = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\x1f\x8b")


def mutant(octets: bytes, chance: random.Random) -> bytes:
    """Return octets with a few of them changed, removed or inserted, most of them in headers."""
    changed = bytearray(octets)
    starts = [changed.find(start) for start in STARTS if start in changed]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice(starts) + chance.randrange(46) if chance.random() < 0.7 else chance.randrange(9999)
        at %= len(changed)
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            del changed[at : at + chance.choice((1, 2, 8))]
        elif kind == 2:
            changed[at:at] = chance.choice((b"\0", b"\xff\xff", b"PK\1\2"))
        else:
            changed[at : at + 4] = chance.choice((bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"))
    return bytes(changed)


@pytest.mark.parametrize("octets", SEEDS.values(), ids=SEEDS)
def test_mutants_are_read_or_named(octets: bytes, tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "r"
    for _ in range(500):
        path.write_bytes(mutant(octets, chance))
        for found in from_path(path):
            assert found.kind if isinstance(found, Document) else found.cause


# Parameters as in RFC 2231 that the email package raises an error for.
PARAMETERS = {
    "sections numbered in two ways": b"boundary*=us-ascii''x; boundary*0=y",
    "a charset that cannot replace": b"boundary*=idna''x%ff",
    "a null octet in the charset": b"boundary*=a%00b''x",
    "a number of 5000 digits": b"boundary*" + b"9" * 5000 + b"=x",
    "a charset that is not for text": b"boundary*=hex''x",
}


VERBS = {
    "reports --store": (["reports", "--store"], 0),
    "reports -": (["reports", "--json", "-"], 78),
    "verify --explain": (["verify", "--explain"], 78),
}


@pytest.mark.parametrize(("verb", "status"), VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_unreadable_parameters(parameter: bytes, verb: list[str], status: int, tmp_path: Path) -> None:
    octets = b"From: mailer-daemon@example.net\nContent-Type: multipart/report; " + parameter
    more = ["--database", str(tmp_path / "reports.db")] if "--store" in verb else []
    command = [sys.executable, str(MAIN), *verb, *more]
    done = subprocess.run(command, input=octets + b"\n\n--x\n\ny\n", capture_output=True, check=False)
    assert (done.returncode, b"dkimpipe:" in done.stdout + done.stderr) == (status, False)


MAIL = "mail, from noreply-dmarc-support@google.com, message-id <1@google.com>"
NAMES = {
    "not read": (b"filename*=idna''%ff", MAIL),
    "read": (b"filename*=utf-8''r%2Exml", f"{MAIL}, r.xml"),
}


@pytest.mark.parametrize(("parameter", "expected"), NAMES.values(), ids=NAMES)
def test_the_name_of_an_attachment(parameter: bytes, expected: str) -> None:
    octets = mail(XML, "text/xml").replace(b'filename="r.xml.gz"', parameter)
    assert [each.name for each in from_mail("mail", iter([octets]))] == [expected]
