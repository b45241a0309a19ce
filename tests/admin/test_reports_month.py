"""The database, and a simulated month: ``reports --cron`` says what is wrong, once, and nothing else."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MAIN, Done
from reporting import DAY, Flow, packed, report

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.reports.concerns import Concern, unsaid
from dkimpipe.admin.reports.store import Store

TODAY = int(time.time()) // DAY * DAY
DOMAINS = ("example.com", "example.net", "example.org")
OWN = {"example.com": "192.0.2.1", "example.net": "192.0.2.1", "example.org": "2001:db8::1"}
KEY_MISSING = 3  # days ago
LIST = 10  # days ago, the first message to it


def reports(*arguments: object, octets: bytes = b"", user: int | None = None) -> Done:
    """Run ``dkimpipe reports``."""
    done = subprocess.run(
        [sys.executable, str(MAIN), "reports", *map(str, arguments)],
        input=octets,
        capture_output=True,
        user=user,
        extra_groups=[] if user else None,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def sent(domain: str, count: int, result: str = "pass") -> Flow:
    """Return mail that our server has sent to the receiver directly."""
    return Flow(OWN[domain], count, domain, ((domain, "s1", result),), (domain, "pass"), True)


def forwarded(domain: str, ip: str, count: int, by: str, result: str) -> Flow:
    return Flow(ip, count, domain, ((domain, "s1", result),), (by, "pass" if by else "softfail"))


def flows(domain: str, receiver: str, days_ago: int) -> list[Flow]:
    """Return what a receiver got in the name of a domain on one day."""
    is_missing = domain == "example.net" and receiver == "google.com" and days_ago == KEY_MISSING
    found = [sent(domain, 14 if is_missing else 100, "permerror" if is_missing else "pass")]
    found.append(forwarded(domain, "198.51.100.7", 5, "keeps.test", "pass"))
    found.append(forwarded(domain, "198.51.100.8", 1, "", "pass"))  # without SRS
    if domain == "example.com" and days_ago % 7 == 2:
        found.append(forwarded(domain, "198.51.100.20", 2, "alumni.test", "fail"))
    if domain == "example.com" and receiver == "google.com" and days_ago <= LIST:
        found.append(Flow("198.51.100.30", 1, domain, ((domain, "s1", "fail"), ("list.test", "l", "pass")),
                          ("list.test", "pass")))  # fmt: skip
    if domain == "example.org" and days_ago in (5, 6):
        found.append(Flow(f"203.0.113.{days_ago}", 40, domain, (), (domain, "fail")))
        found.append(Flow("203.0.113.66", 1, domain, ((domain, "stolen", "permerror"),), (domain, "fail")))
    return found


def month() -> list[bytes]:
    """Return the mail with the reports on the last 28 days."""
    found = []
    for days_ago in range(27, 0, -1):
        for receiver in ("google.com", "Yahoo", "Enterprise Outlook"):
            for domain in DOMAINS:
                octets = report(flows(domain, receiver, days_ago), receiver, domain, TODAY - days_ago * DAY)
                found.append(packed(octets))
    return found


def day(days_ago: int) -> str:
    form = "%A" if days_ago * DAY + time.time() % DAY < 6 * DAY else "%Y-%m-%d"
    return time.strftime(form, time.gmtime(TODAY - days_ago * DAY))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the month, read from an mbox."""
    directory = tmp_path_factory.mktemp("month")
    box = directory / "mbox"
    box.write_bytes(b"".join(b"From x Thu Jan  1 00:00:00 1970\n" + octets + b"\n" for octets in month()))
    assert reports("--store", "--database", directory / "reports.db", box) == Done(0, b"", "")
    return directory / "reports.db"


def test_cron_says_what_is_wrong_and_then_is_silent(stored: Path) -> None:
    done = reports("--cron", "--database", stored)
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("hint: ")]
    assert lines == [
        "dkimpipe: error: selector s1 of example.net failed at google.com: 14 of 2,776 since"
        f" {day(KEY_MISSING)} (permerror)",
        "dkimpipe: warning: example.com: 24 messages altered by alumni.test, a mailing list or forwarder,"
        f" since {day(23)}; reported by google.com, Yahoo, Enterprise Outlook",
        f"dkimpipe: warning: example.com: 10 messages altered by list.test, a mailing list or forwarder,"
        f" since {day(LIST)}; reported by google.com",
        f"dkimpipe: warning: example.org: 246 messages forged since {day(6)}, from 3 addresses; 246 of them"
        " delivered (p=none)",
    ]
    assert (done.status, done.stderr) == (78, "")
    assert reports("--cron", "--database", stored) == Done(0, b"", "")
    new = packed(report([sent("example.com", 5)], "google.com", begin=TODAY, number="new"))
    reports("--store", "--database", stored, octets=new)
    assert reports("--cron", "--database", stored) == Done(0, b"", "")
    bad = packed(report([sent("example.com", 5, "fail")], "google.com", begin=TODAY, number="bad"))
    reports("--store", "--database", stored, octets=bad)
    done = reports("--cron", "--database", stored)
    assert done.stdout.startswith(
        b"dkimpipe: error: selector s1 of example.com failed at google.com: 5 of 2,890 "
    )


WARNING = Finding("altered", level="warning")
UNSAID = {
    "a new warning": (Concern("a", 1, 8, WARNING), True),
    "a warning of this week": (Concern("said", 19, 8, WARNING), False),
    "ten times as many messages": (Concern("said", 20, 8, WARNING), True),
    "an error of this week": (Concern("said", 3, 8, Finding("failed")), True),
    "no new report": (Concern("b", 1, 7, Finding("failed")), False),
}


@pytest.mark.parametrize(("concern", "is_said"), UNSAID.values(), ids=UNSAID)
def test_what_cron_repeats(concern: Concern, is_said: bool) -> None:
    assert unsaid([concern], 7, {"said": 2}) == ([concern] if is_said else [])


def test_a_warning_is_repeated_after_a_week(tmp_path: Path) -> None:
    with Store(tmp_path / "reports.db") as base:
        base.remember(1, {"a": 5}, 1000)
        assert [base.said(since) for since in (999, 1000)] == [{"a": 5}, {}]
        base.remember(2, {"b": 7}, 2000)
        base.remember(3, {"a": 6}, 3000)
        assert (base.said(0), base.said(2500), base.last_cron()) == ({"a": 6, "b": 7}, {"a": 6}, 3)


def test_a_database_of_the_first_version(tmp_path: Path) -> None:
    """It can be read as it is; what is missing is added when it is written to."""
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    base = sqlite3.connect(path)
    base.executescript("DROP TABLE said; PRAGMA user_version = 1;")
    base.close()
    before = path.read_bytes()
    assert counts(reports("--database", path).stdout) == [b"1"]
    assert path.read_bytes() == before
    assert reports("--cron", "--database", path) == Done(0, b"", "")
    reports("--store", "--database", path, octets=one(4, "2"))
    assert counts(reports("--database", path).stdout) == [b"5"]


def counts(output: bytes) -> list[bytes]:
    return re.findall(rb"([0-9,]+) messages?, ", output)


def test_the_same_reports_again_count_once(stored: Path, tmp_path: Path) -> None:
    before = reports("--database", stored).stdout
    for octets in month()[:5]:
        assert reports("--store", "--database", stored, octets=octets) == Done(0, b"", "")
    assert reports("--database", stored).stdout == before
    assert len(counts(before)) == len(DOMAINS)


# The database


def one(count: int = 1, number: str = "1", days_ago: int = 1) -> bytes:
    return packed(report([sent("example.com", count)], begin=TODAY - days_ago * DAY, number=number))


def test_it_is_readable_by_its_group_only(tmp_path: Path) -> None:
    path = tmp_path / "a?b#%.db"
    reports("--store", "--database", path, octets=one())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [name.name for name in tmp_path.iterdir()] == [path.name]


def test_deliveries_at_once_are_all_stored(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    command = [sys.executable, str(MAIN), "reports", "--store", "--database", str(path)]
    running = []
    for number in range(8):
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(one(number=str(number)))
        process.stdin.close()
        running.append(process)
    assert [process.wait(60) for process in running] == [0] * 8
    assert counts(reports("--database", path).stdout) == [b"8"]


def newer(path: Path) -> str:
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.close()
    return "written by a newer version of dkimpipe"


def damaged(path: Path) -> str:
    path.write_bytes(b"x" * 4096)
    return "file is not a database\nhint: name the database of the reports: --database"


def directory(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


@pytest.mark.parametrize("make", [newer, damaged, directory])
def test_mail_waits_while_the_database_cannot_be_used(make: object, tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    assert callable(make)
    cause = make(path)
    done = reports("--store", "--database", path, octets=one())
    assert done == Done(75, b"", f"4.3.0 dkimpipe: {path}: {cause}\n")
    done = reports("--database", path)
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.startswith(f"dkimpipe: {path}: {cause}")


def test_mail_waits_while_the_database_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("BEGIN IMMEDIATE")
    program = (
        "import sys; from dkimpipe.admin.reports import database; database._WAIT = 0.1\n"
        "from dkimpipe.command import main; raise SystemExit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "reports", "--store", "--database", str(path)]
    done = subprocess.run(command, input=one(number="2"), capture_output=True, check=False)
    base.close()
    assert (done.returncode, done.stderr.decode()) == (
        75,
        f"4.3.0 dkimpipe: {path}: database is locked\n",
    )


def test_no_database(tmp_path: Path) -> None:
    path = tmp_path / "none" / "reports.db"
    done = reports("--database", path)
    hint = "hint: store reports first: see dkimpipe-reports(1)\n"
    assert done == Done(78, b"", f"dkimpipe: {path}: No such file or directory\n{hint}")
    done = reports("--store", "--database", path, octets=one())
    hint = f"hint: install -d -m 0750 -o root {path.parent}\n"
    assert done == Done(75, b"", f"4.3.0 dkimpipe: {path}: No such file or directory\n{hint}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_group_can_read_but_not_write(tmp_path: Path) -> None:
    for place in (*tmp_path.parents, tmp_path):
        if place.owner() == "root" and str(place) not in ("/", "/tmp"):
            place.chmod(0o755)
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    path.chmod(0o644)
    assert counts(reports("--database", path, user=65534).stdout) == [b"1"]
    cause = "Permission denied: it belongs to root, not to nobody\nhint: run it as root"
    done = reports("--cron", "--database", path, user=65534)
    assert done == Done(78, b"", f"dkimpipe: {path}: {cause}\n")
    path.chmod(0o600)
    assert reports("--database", path, user=65534) == Done(78, b"", f"dkimpipe: {path}: {cause}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("words", [("--cron",), ("--store", "-")])
def test_a_database_of_root_in_the_directory_of_another(words: tuple[str, ...], tmp_path: Path) -> None:
    for place in (*tmp_path.parents, tmp_path):
        if place.owner() == "root" and str(place) not in ("/", "/tmp"):
            place.chmod(0o755)
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    os.chown(tmp_path, 65534, 65534)
    cause = f"Permission denied: it belongs to root, not to nobody\nhint: chown -h nobody: {path}"
    done = reports(*words, "--database", path, octets=one())
    assert done == Done(78, b"", f"dkimpipe: {path}: {cause}\n")
    subprocess.run(cause.partition("hint: ")[2], shell=True, check=True)
    assert reports(*words, "--database", path, octets=one()) == Done(0, b"", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_cron_as_root_follows_no_link_of_the_owner(tmp_path: Path) -> None:
    for place in (*tmp_path.parents, tmp_path):
        if place.owner() == "root" and str(place) not in ("/", "/tmp"):
            place.chmod(0o755)
    target, theirs = tmp_path / "reports.db", tmp_path / "theirs"
    reports("--store", "--database", target, octets=one())
    theirs.mkdir()
    path = theirs / "reports.db"
    path.symlink_to(target)
    os.chown(theirs, 65534, 65534)
    before = target.read_bytes()
    assert reports("--cron", "--database", path) == Done(78, b"", f"dkimpipe: {path}: Permission denied\n")
    assert target.read_bytes() == before


def test_a_mail_that_is_not_a_report_is_accepted_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    spam = b"From: eve@example.net\n\nBuy!\n"
    assert reports("--store", "--database", path, octets=spam) == Done(0, b"", "")
    done = reports("--database", path)
    assert b"not a report: standard input, from eve@example.net: no report in this mail\n" in done.stdout
    assert done.status == 0
    assert reports("--cron", "--database", path) == Done(0, b"", "")


def test_old_reports_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    base = sqlite3.connect(path)
    base.execute("UPDATE report SET received = received - 401 * 86400")
    base.commit()
    base.close()
    reports("--store", "--database", path, octets=one(7, "2"))
    assert counts(reports("--database", path).stdout) == [b"7"]


def test_cron_misses_nothing_after_old_reports_were_deleted(tmp_path: Path) -> None:
    """Their numbers are not given again."""
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one())
    reports("--cron", "--database", path)
    base = sqlite3.connect(path)
    base.execute("UPDATE report SET received = 0")
    base.commit()
    base.close()
    bad = packed(report([sent("example.com", 5, "fail")], begin=TODAY - DAY, number="bad"))
    reports("--store", "--keep", "1d", "--database", path, octets=b"\n")
    reports("--store", "--database", path, octets=bad)
    assert reports("--cron", "--database", path).status == 78


def test_cron_repeats_what_it_could_not_print(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    bad = packed(report([sent("example.com", 5, "fail")], begin=TODAY - DAY))
    reports("--store", "--database", path, octets=bad)
    command = [sys.executable, str(MAIN), "reports", "--cron", "--database", str(path)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (78, b"dkimpipe: No space left on device\n")
    assert b"5 of 5" in reports("--cron", "--database", path).stdout


def test_since_restricts_the_period(tmp_path: Path) -> None:
    path = tmp_path / "reports.db"
    reports("--store", "--database", path, octets=one(3, "1", 20))
    reports("--store", "--database", path, octets=one(4, "2", 1))
    assert counts(reports("--database", path).stdout) == [b"7"]
    assert counts(reports("--since", "7d", "--database", path).stdout) == [b"4"]


def test_a_record_without_from_belongs_to_the_domain_of_the_report(tmp_path: Path) -> None:
    octets = report([sent("example.com", 5)], begin=TODAY - DAY)
    (tmp_path / "r.xml").write_bytes(octets.replace(b"<header_from>example.com</header_from>", b""))
    assert b"example.com: 5 messages" in reports(tmp_path / "r.xml").stdout


def test_ours_unsigned(tmp_path: Path) -> None:
    unsigned = Flow("192.0.2.1", 3, "example.com", (), ("example.com", "pass"), True)
    (tmp_path / "r.xml").write_bytes(report([unsigned], begin=TODAY - DAY))
    text = reports("--own", "192.0.2.1", tmp_path / "r.xml").stdout.decode()
    since = day(1)
    assert f"error: example.com: 3 messages from 192.0.2.1 unsigned since {since}: this server\n" in text
    assert "a server that its SPF record authorises" in reports(tmp_path / "r.xml").stdout.decode()
