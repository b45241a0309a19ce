"""What makes two reports the same one, and the file that they are stored in."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import in_memory
import pytest
from conftest import MAIN, Done
from reporting import DAY, MONDAY, Flow, packed, report

from dkimpipe.admin.reports import database, store
from dkimpipe.admin.reports.documents import from_path
from dkimpipe.admin.reports.own import address, own_addresses
from dkimpipe.admin.reports.store import Store, Which
from dkimpipe.errors import ConfigError

NOW = MONDAY + 7 * DAY


def dmarc(count: int = 1, **facts: object) -> bytes:
    """Return a report by Google on example.com on Monday, unless ``facts`` of report() say otherwise."""
    return report([Flow("192.0.2.1", count, "example.com", (), ("", "none"))], **facts)  # type: ignore[arg-type]


def without_id(octets: bytes) -> bytes:
    start, _, rest = octets.partition(b"<report_id>")
    return start + rest.partition(b"</report_id>")[2]


def ending(octets: bytes, end: int) -> bytes:
    return octets.replace(b"<end>%d" % (MONDAY + DAY - 1), b"<end>%d" % end)


def tls(*domains: str, name: str = "1", end: str = "2026-11-02T23:59:59Z", successful: int = 1) -> bytes:
    policies = [
        {
            "policy": {"policy-type": "sts", "policy-domain": domain},
            "summary": {"total-successful-session-count": successful, "total-failure-session-count": 0},
        }
        for domain in domains
    ]
    return json.dumps(
        {
            "organization-name": "x",
            "report-id": name,
            "date-range": {"start-datetime": "2026-11-02T00:00:00Z", "end-datetime": end},
            "policies": policies,
        }
    ).encode()


# Two reports, and how many are stored.
PAIRS = {
    "the same": (dmarc(), dmarc(), 1),
    "the same, without an identifier": (without_id(dmarc()), without_id(dmarc()), 1),
    "no identifier, another content": (without_id(dmarc(7)), without_id(dmarc(9)), 2),
    "another identifier": (dmarc(number="1"), dmarc(number="2"), 2),
    "another beginning": (dmarc(number="1"), dmarc(number="1", begin=MONDAY - 1), 2),
    "another end": (dmarc(), ending(dmarc(), MONDAY + DAY), 2),
    "another domain": (dmarc(), dmarc(domain="example.net"), 2),
    "another organisation": (dmarc(), dmarc(organisation="Yahoo"), 2),
    "the same identifier, written anew": (dmarc(), dmarc().replace(b"<adkim>r</adkim>", b""), 1),
    "TLS: the same": (tls("example.com"), tls("example.com"), 1),
    "TLS: another domain": (tls("example.com"), tls("example.net"), 2),
    "TLS: one domain more": (tls("example.com"), tls("example.com", "example.net"), 2),
    "TLS: the domains in another order": (
        tls("example.com", "example.net"),
        tls("example.net", "example.com"),
        1,
    ),
    "TLS: another end": (tls("example.com"), tls("example.com", end="2026-11-03T23:59:59Z"), 2),
    "TLS: no identifier, another content": (
        tls("example.com", name=""),
        tls("example.com", name="", successful=2),
        2,
    ),
    "TLS: no identifier, the same": (tls("example.com", name=""), tls("example.com", name=""), 1),
}


def stored(base: Store, path: Path, *reports: bytes) -> int:
    """Return how many reports are stored after these."""
    for octets in reports:
        path.write_bytes(octets)
        assert store.add_all(base, from_path(path), NOW) == []
    which = Which(0, base.latest(), 0)
    numbers = {each.number for each in base.records(which)}
    return len(numbers | {each.number for each in base.tls_results(which)})


@pytest.mark.parametrize(("first", "second", "count"), PAIRS.values(), ids=PAIRS)
def test_what_counts_once(first: bytes, second: bytes, count: int, tmp_path: Path) -> None:
    with Store(database.IN_MEMORY) as base:
        assert stored(base, tmp_path / "r", first, second) == count


# Two reports of which the second is refused: it has the key of the first, but other counts.
DIFFERENT = {
    "other messages": (dmarc(7, number="a"), dmarc(9, number="a"), "a"),
    "a record more": (
        dmarc(number="a"),
        dmarc(number="a").replace(b"</feedback>", dmarc(1).partition(b"</policy_published>")[2]),
        "a",
    ),
    "TLS": (tls("example.com"), tls("example.com", successful=2), "1"),
}


@pytest.mark.parametrize(("first", "second", "name"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_report_with_the_same_identifier_is_named(
    first: bytes, second: bytes, name: str, tmp_path: Path
) -> None:
    with Store(database.IN_MEMORY) as base:
        assert stored(base, tmp_path / "r", first) == 1
        (tmp_path / "r").write_bytes(second)
        (fault,) = store.add_all(base, from_path(tmp_path / "r"), NOW)
        assert fault.cause == f"other counts than in the report '{name}' stored before: not counted"
        assert stored(base, tmp_path / "r", first) == 1
        assert base.unreadable(0) == [fault]


def of_version_2(path: Path, *reports: bytes) -> None:
    """Write a database as an earlier version did, with these reports."""
    with Store(path) as base:
        stored(base, path.with_name("r"), *reports)
    old = sqlite3.connect(path)
    old.execute("UPDATE report SET report_id = substr(report_id, 1, instr(report_id, char(10)) - 1)")
    old.execute("UPDATE report SET domain = '' WHERE kind = 'tls'")
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()


def test_a_database_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    old = (dmarc(7), tls("example.net", "example.com"))
    of_version_2(path, *old)
    with Store(path, "ro") as base:
        assert stored(base, tmp_path / "r") == 2
    with Store(path) as base:
        assert stored(base, tmp_path / "r", *old) == 2
        assert stored(base, tmp_path / "r", ending(dmarc(), MONDAY + DAY), tls("example.com")) == 4


# The file

LINES = "dkimpipe: {}: not a database of reports\nhint: store reports first: see dkimpipe-reports(1)\n"


def test_a_file_without_an_octet(tmp_path: Path) -> None:
    """A full disk can leave one."""
    path = tmp_path / "reports.db"
    path.touch()
    done = in_memory.verb("reports", "--database", str(path))
    assert done == Done(78, b"", LINES.format(path))
    (tmp_path / "mail").write_bytes(packed(dmarc()))
    done = in_memory.verb("reports", "--store", "--database", str(path), str(tmp_path / "mail"))
    assert done == Done(0, b"", "")
    done = in_memory.verb("reports", "--since=9999d", "--database", str(path))
    assert b"example.com: 1 message," in done.stdout


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE report (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"^{path}: a database of another program$"):
        Store(path)
    assert path.read_bytes() == before


MOVE = "# restore it from a backup, or store the reports again in a new one:"
DAMAGED = {
    "text": (lambda octets: b"garbage\n" * 99, "file is not a database", ""),
    "zeros": (lambda octets: bytes(len(octets)), "file is not a database", ""),
    "a page lost": (
        lambda octets: octets[:4096] + bytes(len(octets) - 4096),
        "database disk image is malformed",
        MOVE,
    ),
}


@pytest.mark.parametrize("words", [(), ("--cron",), ("--store", "-")])
@pytest.mark.parametrize(("change", "cause", "advice"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_database(
    change: Callable[[bytes], bytes], cause: str, advice: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "reports.db"
    with Store(path) as base:
        stored(base, tmp_path / "r", dmarc())
    octets = change(path.read_bytes())
    path.write_bytes(octets)
    hint = "name the database of the reports: --database"
    if advice:
        hint = f"{advice}\nhint: mv {path} {path}.damaged"
    done = in_memory.verb("reports", *words, "--database", str(path))
    assert (done.status, done.stderr) == (78, f"dkimpipe: {path}: {cause}\nhint: {hint}\n")
    assert path.read_bytes() == octets


def test_a_file_in_the_usual_place_that_is_not_a_database_may_go() -> None:
    hint = database._hint(Path(database.DATABASE), "file is not a database")
    assert hint == f"{MOVE}\nmv {database.DATABASE} {database.DATABASE}.damaged"


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_the_mode_does_not_depend_on_the_umask(mask: int, tmp_path: Path) -> None:
    """local(8) sets it to 077."""
    path = tmp_path / "reports.db"
    command = [sys.executable, str(MAIN), "reports", "--store", "--database", str(path)]
    subprocess.run(command, input=b"\n", check=True, preexec_fn=lambda: os.umask(mask))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_more_records_than_a_true_report_has(tmp_path: Path) -> None:
    record = b"<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row></record>"
    (tmp_path / "r.xml").write_bytes(report([]).replace(b"</feedback>", record * 200_001 + b"</feedback>"))
    with Store(database.IN_MEMORY) as base:
        (fault,) = store.add_all(base, from_path(tmp_path / "r.xml"), NOW)
        assert (fault.cause, base.latest()) == ("more than 200,000 records and signatures", 0)


# The command line: what would be ignored is an error.
WRONG = {
    "--store --cron": "--store prints nothing: it cannot be combined with --cron",
    "--store --json": "--store prints nothing: it cannot be combined with --json",
    "--store --html=page": "--store prints nothing: it cannot be combined with --html",
    "--store --since=7d": "--store prints nothing: it cannot be combined with --since",
    "--store --own=192.0.2.1": "--store prints nothing: it cannot be combined with --own",
    "--own=192.0.2.300": "argument --own: '192.0.2.300' is not a valid IP address",
    "--own=mx.example.com": "argument --own: 'mx.example.com' is not a valid IP address",
    "--own=": "argument --own: '' is not a valid IP address",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage(words: str, tmp_path: Path) -> None:
    done = in_memory.verb("reports", f"--database={tmp_path}/reports.db", *words.split())
    assert (done.status, done.stdout) == (64, b"")
    assert done.stderr.endswith(f"dkimpipe reports: {WRONG[words]}\n")
    assert list(tmp_path.iterdir()) == []


OWN = {"192.0.2.1": "192.0.2.1", "2001:DB8::0:1": "2001:db8::1", "::ffff:192.0.2.1": "192.0.2.1"}


@pytest.mark.parametrize("given", OWN)
def test_addresses_of_this_server_are_compared_in_one_form(given: str) -> None:
    assert OWN[given] in own_addresses([address(given)])
