"""``dkimpipe audit``: the lines of a log, in the forms that programs write; and what is not understood."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from auditing import (
    NOW,
    Q1,
    Q2,
    Q3,
    SIGNED,
    SIGNED_VERDICT,
    SIGNED_WAY,
    STAMP,
    USER,
    audit,
    filtered,
    json_report,
    lines,
    recent,
    returned,
    sent,
    submitted,
    traced,
    written,
)

from dkimpipe.admin.audit.events import Event
from dkimpipe.admin.audit.lines import Lines
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.timestamps import STAMP as STAMP_FORMS
from dkimpipe.admin.audit.timestamps import Clock

if not shutil.which("postconf"):
    pytest.skip("the tests of audit need Postfix's postconf", allow_module_level=True)

# Time stamps: as they are written, and the time in UTC.
STAMPS = {
    "rsyslog": ("2026-11-27T07:02:05.123456+00:00", "2026-11-27 07:02:05"),
    "another zone": ("2026-11-27T07:02:05+05:30", "2026-11-27 01:32:05"),
    "west": ("2026-11-27T07:02:05.5-0800", "2026-11-27 15:02:05"),
    "hours": ("2026-11-27T07:02:05+02", "2026-11-27 05:02:05"),
    "journal": ("2026-11-27T07:02:05.123456+0100", "2026-11-27 06:02:05"),
    "UTC": ("2026-11-27T07:02:05Z", "2026-11-27 07:02:05"),
    "space": ("2026-11-27 07:02:05+01:00", "2026-11-27 06:02:05"),
    "local time": ("2026-11-27 07:02:05", "2026-11-27 07:02:05"),
    "comma": ("2026-11-27 07:02:05,123", "2026-11-27 07:02:05"),
    "short-full": ("Fri 2026-11-27 07:02:05 UTC", "2026-11-27 07:02:05"),
    "short-full, offset": ("Fri 2026-11-27 07:02:05 +04", "2026-11-27 03:02:05"),
    "short-precise": ("Nov 27 07:02:05.123456", "2026-11-27 07:02:05"),
    "short-unix": ("1795762925.123456", "2026-11-27 07:02:05"),
    "seconds": ("1795762925", "2026-11-27 07:02:05"),
    "traditional": ("Nov 27 07:02:05", "2026-11-27 07:02:05"),
    "day of one digit": ("Nov  7 07:02:05", "2026-11-07 07:02:05"),
    "day without a space": ("Nov 7 07:02:05", "2026-11-07 07:02:05"),
    "syslog-ng, full": ("2025 Nov 27 07:02:05", "2025-11-27 07:02:05"),
    "OpenWrt": ("Thu Nov 27 07:02:05 2025", "2025-11-27 07:02:05"),
    "a year behind": ("Nov 27 07:02:05 2025", "2025-11-27 07:02:05"),
    "a day ahead": ("Nov 28 07:02:05", "2026-11-28 07:02:05"),
    "last year": ("Dec 31 23:59:59", "2025-12-31 23:59:59"),
    "29 February": ("Feb 29 12:00:00", "2024-02-29 12:00:00"),
}


@pytest.mark.parametrize("name", STAMPS)
def test_time_stamps(name: str, zone: Callable[[str], None]) -> None:
    zone("UTC")
    stamp, expected = STAMPS[name]
    assert re.fullmatch(STAMP_FORMS, stamp.encode())
    seconds = Clock(NOW).seconds(stamp.encode())
    assert seconds and time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) == expected


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-13-27T07:02:05Z",
        "2026-11-31T07:02:05Z",
        "2026-11-27T25:02:05Z",
        "2026-11-27T07:02:05+25:00",
        "2026-11-27 07:61:05",
        "Fri 2026-11-27 07:02:05 XYZ",
        "Feb 30 07:02:05",
        "Nov 99 07:02:05",
        "Nov 27 24:02:05",
    ],
)
def test_time_stamps_that_are_none(stamp: str) -> None:
    assert Clock(NOW).seconds(stamp.encode()) is None


ZONES = {
    "winter": ("Fri 2026-11-27 02:02:05 EST", 1795762925.0),
    "summer": ("Fri 2026-07-10 03:02:05 EDT", 1783666925.0),
    "the hour that comes twice, first": ("Sun 2026-11-01 01:30:00 EDT", 1793511000.0),
    "the hour that comes twice, then": ("Sun 2026-11-01 01:30:00 EST", 1793514600.0),
    "without a zone": ("2026-11-27T02:02:05", 1795762925.0),
}


@pytest.mark.parametrize("name", ZONES)
def test_abbreviations_of_the_local_zone(name: str, zone: Callable[[str], None]) -> None:
    zone("America/New_York")
    stamp, expected = ZONES[name]
    assert Clock(NOW).seconds(stamp.encode()) == expected


def test_local_time(zone: Callable[[str], None]) -> None:
    zone("America/New_York")
    assert Clock(NOW).seconds(b"Nov 27 02:02:05") == NOW - 3600


def test_the_turn_of_the_year(audited: Site) -> None:
    reference = NOW + 40 * 86400  # 6 January 2027
    log = lines(submitted(Q1) + sent(Q1), "Dec 31 23:59:59") + lines(
        returned(Q2, USER) + sent(Q2), "Jan  1 00:00:00"
    )
    found, _, _ = traced(audited, [log.encode()], reference - 7 * 86400, reference)
    assert [each.kind for each in found] == ["submission", "local"]


def test_the_same_days_of_last_year_do_not_count(audited: Site) -> None:
    """A log that nobody rotates: without a year, its lines seem to be of this week."""
    old = lines(submitted(Q1) + sent(Q1), "Nov 26 07:02:05") + lines(
        submitted(Q1) + sent(Q1), "Dec 26 07:02:05"
    )
    log = old + lines(returned(Q2, USER) + sent(Q2), "Nov 26 08:02:05")
    assert [each.kind for each in traced(audited, [log.encode()])[0]] == ["local"]


def test_only_what_left_within_the_time_counts(audited: Site) -> None:
    before = lines(submitted() + returned() + filtered(Q1, SIGNED), "2026-11-19T07:02:05Z")
    log = before + lines(submitted(Q3) + sent(Q3), "2026-11-20T07:02:05Z") + lines(sent(Q2))
    assert traced(audited, [log.encode()])[0] == [SIGNED_VERDICT]


def test_weeks_within_one_block_are_one_year(audited: Site) -> None:
    """The first line of a block is older than its others, and that is not the turn of a year."""
    days = ("Nov  1", "Nov  8", "Nov 15", "Nov 26")
    log = lines("smtpd connect from far[203.0.113.9]", "Nov  1 07:02:00")
    log += "".join(lines(submitted(Q1) + sent(Q1), f"{day} 07:02:05") for day in days)
    assert len(traced(audited, [log.encode()], NOW - 40 * 86400)[0]) == len(days)


# The forms of a line. What stands for the program is PROG, and for its message TEXT.
FORMS = {
    "rsyslog": f"{STAMP} mx PROG[123]: TEXT",
    "traditional": "Nov 27 07:02:05 mx PROG[123]: TEXT",
    "name with a domain": "Nov 27 07:02:05 mx.example.com PROG[123]: TEXT",
    "IPv6 address": "Nov 27 07:02:05 2001:db8::1 PROG[123]: TEXT",
    "no host": "Nov 27 07:02:05 PROG[123]: TEXT",
    "no host, RFC 3339": f"{STAMP} PROG[123]: TEXT",
    "no process ID": "Nov 27 07:02:05 mx PROG: TEXT",
    "priority": "<22>Nov 27 07:02:05 mx PROG[123]: TEXT",
    "space": "2026-11-27 07:02:05 mx PROG[123]: TEXT",
    "CRLF": "Nov 27 07:02:05 mx PROG[123]: TEXT\r",
    "busybox": "Nov 27 07:02:05 mx mail.info PROG[123]: TEXT",
    "busybox -S": "Nov 27 07:02:05 PROG[123]: TEXT",
    "OpenWrt": "Fri Nov 27 07:02:05 2026 mail.info PROG[123]: TEXT",
    "FreeBSD": "Nov 27 07:02:05 <mail.info> mx PROG[123]: TEXT",
    "Solaris": "Nov 27 07:02:05 mx PROG[123]: [ID 197553 mail.info] TEXT",
    "syslog-ng, full": "2026 Nov 27 07:02:05 mx PROG[123]: TEXT",
    "syslog-ng, unix": "1795762925.123 mx PROG[123]: TEXT",
    "RFC 5424": "<22>1 2026-11-27T07:02:05.123456Z mx PROG 123 - - TEXT",
    "RFC 5424, structured data": '1 2026-11-27T07:02:05Z mx PROG 123 - [x@1 a="\\"]"][y b="c"] \ufeffTEXT',
    "short": "Nov 27 07:02:05 mx PROG[123]: TEXT",
    "short-precise": "Nov 27 07:02:05.123456 mx PROG[123]: TEXT",
    "short-iso": "2026-11-27T07:02:05+0000 mx PROG[123]: TEXT",
    "short-iso-precise": "2026-11-27T07:02:05.123456+0000 mx PROG[123]: TEXT",
    "short-full": "Fri 2026-11-27 07:02:05 UTC mx PROG[123]: TEXT",
    "short-unix": "1795762925.123456 mx PROG[123]: TEXT",
    "docker logs --timestamps": "2026-11-27T07:02:05.123456789Z Nov 27 07:02:05 mx PROG[123]: TEXT",
    "docker compose": "mail-1  | Nov 27 07:02:05 mx PROG[123]: TEXT",
    "docker compose, RFC 3339": "mail-1  | 2026-11-27T07:02:05.123456+00:00 mx PROG[123]: TEXT",
    "docker compose, colours": "\x1b[36mmail-1  | \x1b[0mNov 27 07:02:05 mx PROG[123]: TEXT",
    "docker compose with time stamps": (
        "mail-1  | 2026-11-27T07:02:05.123456789Z Nov 27 07:02:05 mx PROG[123]: TEXT"
    ),
    "docker service logs": "mail.1.abc@node    | Nov 27 07:02:05 mx PROG[123]: TEXT",
    "Docker in the host's syslog": (
        "Nov 27 07:02:05 host 0123456789ab[77]: Nov 27 07:02:05 mx PROG[123]: TEXT"
    ),
    "Kubernetes": "2026-11-27T07:02:05.123456789Z stdout F Nov 27 07:02:05 mx PROG[123]: TEXT",
    "kubectl logs --prefix": "[pod/mail-0/postfix] Nov 27 07:02:05 mx PROG[123]: TEXT",
}
_FIELDS = {
    "__CURSOR": "s=67a6;i=1;b=bbbb;m=3e8;t=6614710ff4101;x=95b9",
    "__REALTIME_TIMESTAMP": "1795762925123456",
    "_HOSTNAME": "mx",
    "SYSLOG_FACILITY": "2",
    "SYSLOG_IDENTIFIER": "PROG",
    "SYSLOG_PID": "123",
    "MESSAGE": "TEXT",
    "_PID": "7",
}
_VERBOSE = f"Fri 2026-11-27 07:02:05.123456 UTC [s=67a6;i=1;b=bbbb;m=3e8;t={1795762925123456:x};x=95b9]\n"
_OBJECT = json.dumps(_FIELDS)
RECORDS = {
    "json": _OBJECT,
    "json-sse": f"data: {_OBJECT}\n",
    "json-seq": f"\x1e{_OBJECT}",
    "json-pretty": json.dumps(_FIELDS, indent="\t", separators=(",", " : ")),
    "export": "".join(f"{name}={value}\n" for name, value in _FIELDS.items()),
    "verbose": _VERBOSE
    + "\n".join(f"    {name}={value}" for name, value in _FIELDS.items() if name[1] != "_"),
    "Docker's json-file": json.dumps(
        {"log": "Nov 27 07:02:05 mx PROG[123]: TEXT\n", "stream": "stdout", "time": "2026-11-27T07:02:05.1Z"}
    ),
}


def formed(text: str, form: str) -> bytes:
    """Return the lines of a log in another form."""

    def one(line: str) -> str:
        found = re.fullmatch(r"\S+ mx (\S+)\[123\]: (.*)", line)
        assert found
        message = json.dumps(found[2])[1:-1] if '"' in form else found[2]
        return form.replace("PROG", found[1]).replace("TEXT", message)

    return "".join(f"{one(line)}\n" for line in lines(text).splitlines()).encode()


def doubt(log: bytes) -> str:
    """Return what is not understood of a log."""
    read = Lines()
    found = [*read.events(log), *read.rest()]
    assert len(found) < log.count(b"\n") + 2
    return read.doubt


@pytest.mark.parametrize("form", [*FORMS.values(), *RECORDS.values()], ids=[*FORMS, *RECORDS])
def test_forms(audited: Site, form: str, zone: Callable[[str], None]) -> None:
    zone("UTC")
    log = formed(SIGNED_WAY, form)
    found, _, trace = traced(audited, [log])
    assert found == [SIGNED_VERDICT]
    assert (trace.first, trace.last, doubt(log)) == (NOW - 3600, NOW - 3600, "")


@pytest.mark.parametrize("form", RECORDS.values(), ids=RECORDS)
def test_a_record_across_blocks(form: str) -> None:
    read = Lines()
    found = [event for line in formed(SIGNED_WAY, form).splitlines(True) for event in read.events(line)]
    assert len([*found, *read.rest()]) == SIGNED_WAY.count("\n")


def test_text_that_is_not_utf_8_in_the_journal() -> None:
    fields = {
        **_FIELDS,
        "SYSLOG_IDENTIFIER": "postfix/qmgr",
        "MESSAGE": [*f"{Q1}: from=<\xff>, x".encode("latin-1")],
    }
    (event,) = lines_of(json.dumps(fields).encode() + b"\n")
    assert event.text == b"\xff>, x"


def lines_of(log: bytes) -> list[Event]:
    return [*Lines().events(log)]


# Lines of Postfix that are not understood, and what is said of them: without this, they would be overlooked.
NOT_UNDERSTOOD = {
    "unknown time stamp": "27/Nov/2026:07:02:05 mx PROG[123]: TEXT",
    "no time stamp": "mx PROG[123]: TEXT",
    "cat": "TEXT",
    "short-monotonic": "[    0.012000] mx PROG[123]: TEXT",
    "with-unit": "Fri 2026-11-27 07:02:05 UTC mx postfix@-.service[123]: TEXT",
    "%programname% of rsyslog": "Nov 27 07:02:05 mx postfix[123]: TEXT",
    "a name in place of the program": "Nov 27 07:02:05 mx mail[123]: TEXT",
    "the journal without a program": '{"__REALTIME_TIMESTAMP": "1795762925123456", "MESSAGE": "TEXT"}',
    "JSON without an end": '{\n"PROG": "TEXT"',
    "before the text": "Nov 27 07:02:05 mx PROG[123]: info TEXT",
    "unknown zone": "Fri 2026-11-27 07:02:05 XYZ mx PROG[123]: TEXT",
    "no such day": "Feb 30 07:02:05 mx PROG[123]: TEXT",
    "other columns": "2026-11-27;07:02:05;mx;PROG;123;TEXT",
    "other JSON": '{"@timestamp": "2026-11-27T07:02:05Z", "program": "PROG", "message": "TEXT"}',
    "not quite JSON": '{"__REALTIME_TIMESTAMP": "1795762925123456", "MESSAGE": "TEXT"',
    "a part of a line in Kubernetes": "2026-11-27T07:02:05.1Z stdout P Nov 27 07:02:05 mx PROG[123]: TEXT",
    "in the line of another program": "Nov 27 07:02:05 host mail[77]: Nov 27 07:02:05 mx PROG[123]: TEXT",
}


@pytest.mark.parametrize("form", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_what_is_not_understood_is_not_good(etc: Path, tmp_path: Path, form: str) -> None:
    """Alone, beside a file that is understood, and in the same file."""
    understood = written(tmp_path / "a", lines(SIGNED_WAY, recent()).encode())
    other = written(tmp_path / "b", formed(submitted(Q3) + sent(Q3), form))
    mixed = written(tmp_path / "c", understood.read_bytes() + other.read_bytes())
    for paths in ([other], [understood, other], [mixed]):
        done = audit("-c", str(etc), "--cron", *map(str, paths))
        assert done.status == 78
        said = done.stdout.decode() + done.stderr
        assert f"{paths[-1]}: " in said and "not understood: " in said


def test_lines_that_continue_nothing(etc: Path, tmp_path: Path) -> None:
    """Indented lines belong to the one before, as in the journal, but here there is none."""
    path = written(tmp_path / "log", formed(submitted() + sent(Q1), "   mx PROG[123]: TEXT"))
    assert audit("-c", str(etc), str(path)).stderr.startswith(f"dkimpipe: {path}: 5 lines are not understood")


def test_the_line_is_shown(etc: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"\n\n" + formed(submitted(), NOT_UNDERSTOOD["unknown time stamp"]))
    done = audit("-c", str(etc), str(path))
    assert done.stderr == (
        f"dkimpipe: {path}: 3 lines are not understood: line 3, '27/Nov/2026:07:02:05 mx postfix/smtpd[123]: "
        "07CF823D69C: client=far[203.0.113.9]...'\n"
        "hint: LOGS in dkimpipe-audit(1) lists the forms that it reads\n"
    )


NOT_TEXT = {
    "octets after a crash": b"\0" * 400 + b"\n",
    "UTF-16": "Nov 27 07:02:05 mx postfix/smtpd[1]: connect\n".encode("utf-16-le"),
    "a very long line": b"x" * (3 << 20) + b"\n",
    "a very long line at the end": b"x" * (3 << 20),
    "a message that journalctl left out": (
        b'{"__REALTIME_TIMESTAMP":"1795762925123456","SYSLOG_IDENTIFIER":"postfix/smtp","MESSAGE":null}\n'
    ),
}


@pytest.mark.parametrize("name", NOT_TEXT)
def test_a_hole_in_a_log_is_not_good(etc: Path, tmp_path: Path, name: str) -> None:
    good = lines(SIGNED_WAY, recent()).encode()
    path = written(tmp_path / "log", good + NOT_TEXT[name])
    found = json_report("-c", str(etc), str(path))
    assert found["signed"] == found["left"] == 1
    assert found["not_understood"]


# What may be between the lines of Postfix, and is not doubted.
HARMLESS = {
    "empty": b"\n\n",
    "journalctl": b"-- Boot 0123456789abcdef --\n",
    "another program": b"Nov 27 07:02:05 mx dovecot: imap-login: Login: user=<a>\n",
    "kernel": b"Nov 27 07:02:05 mx kernel: [  1.5] x: y\n",
    "repeated": b"Nov 27 07:02:05 mx last message repeated 2 times\n",
    "repeated, by rsyslog": (
        b"Nov 27 07:02:05 mx postfix/qmgr[1]: message repeated 2 times: [ 07CF823D69C: from=<x>, size=1]\n"
    ),
    "start of a container": b"Starting postfix ...\n * done\n",
    "indented by journalctl": b"Nov 27 07:02:05 mx a[1]: x\n      mx postfix/smtp[1]: 07CF823D69C: to=<x>\n",
    "warning": b"Nov 27 07:02:05 mx postfix/cleanup[1]: warning: 07CF823D69C: from=<x>\n",
    "header": b"Nov 27 07:02:05 mx postfix/cleanup[1]: 0262123D6B8: warning: header X: 07CF823D69C: to=<x>\n",
    "other JSON": b'{"level": "info", "msg": "started"}\n',
    "another record of the journal": b'{"__REALTIME_TIMESTAMP": "1795762925123456", "MESSAGE": "x"}\n',
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_doubted(name: str) -> None:
    assert doubt(lines(SIGNED_WAY).encode() + HARMLESS[name]) == ""


def test_a_log_without_mail_proves_that_none_left(etc: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "log", lines("smtpd connect from far[203.0.113.9]", recent()).encode())
    assert json_report("-c", str(etc), str(path), status=0)["left"] == 0


# Text of others at the place of the program or before it.
@pytest.mark.parametrize(
    "line",
    [
        f"{STAMP} prog[1]: postfix/smtp[2]: {sent(Q1)[5:]}",
        f"{STAMP} mx prog[1]: postfix/smtp[2]: {sent(Q1)[5:]}",
        f"{STAMP} mx prog: {STAMP} mx postfix/smtp[2]: {sent(Q1)[5:]}",
        f"{STAMP} mx some words postfix/smtp[2]: {sent(Q1)[5:]}",
    ],
)
def test_only_the_program_of_the_line_counts(audited: Site, line: str) -> None:
    log = lines(submitted()) + line.partition("\n")[0] + "\n"
    assert traced(audited, [log.encode()])[0] == []
