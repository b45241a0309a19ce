"""``dkimpipe audit``: which logs it reads: files, rotated and compressed ones, a pipe, the journal."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from auditing import (
    END,
    Q1,
    Q2,
    Q3,
    SIGNED,
    SIGNED_WAY,
    STRANGER,
    audit,
    configuration,
    filtered,
    json_report,
    lines,
    recent,
    returned,
    sent,
    submitted,
    written,
)
from conftest import PROJECT

from dkimpipe.admin.audit import logfiles, rotation
from dkimpipe.errors import ConfigError

if not shutil.which("postconf"):
    pytest.skip("the tests of audit need Postfix's postconf", allow_module_level=True)

# Files.


def packed(program: str, octets: bytes) -> bytes:
    return subprocess.check_output([program, "-cq"], input=octets)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda octets: lzma.compress(octets, lzma.FORMAT_ALONE),
}
for program, suffix in (("zstd", ".zst"), ("lz4", ".lz4"), ("lzip", ".lz"), ("lzop", ".lzo")):
    if shutil.which(program):
        COMPRESSORS[suffix] = partial(packed, program)
NAMES = {
    "logrotate": ("log.1", "log.2{}", "log.3{}"),
    "dateext": ("log-20260103", "log-20260102{}", "log-20260101{}"),
    "old": ("log.old", "log.1{}", "log.2{}"),
    "dateformat, year first": ("log.2026-01-03", "log.2026-01-02{}", "log.2026-01-01{}"),
    "dateformat, seconds": ("log-1767398400", "log-1767312000{}", "log-1767225600{}"),
    "dateformat, hours": ("log_2026-01-03T00:00", "log_2026-01-02T00:00{}", "log_2026-01-01T00:00{}"),
    "dateformat, weeks": ("log-2026W03", "log-2026W02{}", "log-2026W01{}"),
    "postfix logrotate": ("log.20260103-010101", "log.20260102-010101{}", "log.20260101-010101{}"),
}


@pytest.fixture
def logs_to(etc: Path, tmp_path: Path) -> Path:
    """A configuration directory of a Postfix that logs to the file log in the test's directory."""
    directory = configuration(tmp_path / "etc")
    with (directory / "main.cf").open("a") as file:
        file.write(f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\n")
    return directory


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("scheme", NAMES)
def test_rotation(logs_to: Path, tmp_path: Path, scheme: str, compression: str) -> None:
    """A message goes through all the files: its beginning is in the oldest, and it leaves in the newest."""
    one, two, three = NAMES[scheme]
    parts = [submitted(), returned(), filtered(Q1, SIGNED) + END, sent(Q2)]
    compress = COMPRESSORS[compression]
    for age, (name, part) in enumerate(zip((three, two), parts)):
        octets = compress(lines(part, recent(3 - age)).encode())
        written(tmp_path / name.format(compression), octets, 3 - age)
    written(tmp_path / one, lines(parts[2], recent(1)).encode(), 1)
    written(tmp_path / "log", lines(parts[3], recent()).encode())
    for other in ("log.offset", "log.lock", "logs", "log-of-others", "log.swp", "blog.1"):
        written(tmp_path / other, b"x")
    assert json_report("-c", str(logs_to), status=0)["signed"] == 1


EXTENSIONS = {
    "extension": ("mail.1.log", "mail-20260103.log.gz", "mail.2.log.xz"),
    "without": ("mail.log.1", "mail.log-20260103.gz", "mail.log.old", "mail.log~"),
    "compression that is not known": ("mail.log.1.foo",),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_names_of_rotated_files(tmp_path: Path, name: str) -> None:
    ours = [written(tmp_path / each, b"x") for each in EXTENSIONS[name]]
    for other in ("mail.err", "mail.info", "mailman.log", "mail.log.offset", "mail.err.1", "mail-x.log"):
        written(tmp_path / other, b"x")
    (tmp_path / "mail.log.9").mkdir()
    assert rotation.files(tmp_path / "mail.log", 0, ()) == sorted([tmp_path / "mail.log", *ours])


@pytest.mark.parametrize("directive", ["olddir old", "  olddir PATH/old", 'olddir "PATH/old"'])
def test_rotated_files_in_another_directory(tmp_path: Path, directive: str) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "logrotate.d").mkdir()
    written(tmp_path / "logrotate.d" / "mail", directive.replace("PATH", str(tmp_path)).encode() + b"\n")
    moved = written(tmp_path / "old" / "log.1.gz", b"x")
    found = rotation.files(tmp_path / "log", 0, (tmp_path / "none", tmp_path / "logrotate.d"))
    assert found == [tmp_path / "log", moved]


@pytest.mark.parametrize("compression", [each for each in COMPRESSORS if each])
def test_a_compressed_file_of_another_name(etc: Path, tmp_path: Path, compression: str) -> None:
    """What a file is called does not matter, only what is in it."""
    octets = COMPRESSORS[compression](lines(submitted() + sent(Q1), recent()).encode())
    assert json_report("-c", str(etc), str(written(tmp_path / "log.1", octets)))["unsigned"] == 1


@pytest.mark.parametrize("compression", [each for each in COMPRESSORS if each])
def test_compressed_standard_input(etc: Path, compression: str) -> None:
    octets = COMPRESSORS[compression](lines(submitted() + sent(Q1), recent()).encode())
    done = audit("-c", str(etc), "--cron", "-", log=octets)
    assert done.status == 78
    assert done.stderr.startswith("dkimpipe: standard input: compressed by ")
    assert done.stderr.endswith("\nhint: name the file, or unpack it: dkimpipe audit FILE\n")


UNSIGNED_WAY = submitted(Q3) + sent(Q3)
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "CR": lambda octets: octets.replace(b"\n", b"\r"),
    "CR, without the last": lambda octets: octets.replace(b"\n", b"\r")[:-1],
    "CRLF": lambda octets: octets.replace(b"\n", b"\r\n"),
    "CRCRLF": lambda octets: octets.replace(b"\n", b"\r\r\n"),
    "a byte order mark": lambda octets: b"\xef\xbb\xbf" + octets,
    "a byte order mark, CR": lambda octets: b"\xef\xbb\xbf" + octets.replace(b"\n", b"\r"),
    "UTF-16": lambda octets: octets.decode().encode("utf-16"),
    "UTF-16, CRLF": lambda octets: octets.replace(b"\n", b"\r\n").decode().encode("utf-16"),
    "UTF-16, big-endian": lambda octets: b"\xfe\xff" + octets.decode().encode("utf-16-be"),
    "UTF-16, its last byte lost": lambda octets: octets.decode().encode("utf-16")[:-1],
    "UTF-32": lambda octets: octets.decode().encode("utf-32"),
}


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_of_other_systems(etc: Path, tmp_path: Path, encoding: str, compression: str) -> None:
    octets = ENCODINGS[encoding](lines(SIGNED_WAY + UNSIGNED_WAY, recent()).encode())
    path = written(tmp_path / "log", COMPRESSORS[compression](octets))
    found = json_report("-c", str(etc), str(path))
    assert (found["signed"], found["unsigned"]) == (1, 1)
    assert not found["not_understood"]
    if not compression:
        assert json_report("-c", str(etc), "-", log=octets)["unsigned"] == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_of_another_system_after_other_text(etc: Path, tmp_path: Path, encoding: str) -> None:
    """Files that were put together: all is counted, or the log is not good."""
    octets = ENCODINGS[encoding](lines(UNSIGNED_WAY, recent()).encode())
    path = written(tmp_path / "log", lines(SIGNED_WAY, recent()).encode() + octets)
    found = json_report("-c", str(etc), str(path))
    assert found["unsigned"] == 1 or found["not_understood"]


def test_utf_16_without_a_byte_order_mark_is_not_understood(etc: Path, tmp_path: Path) -> None:
    octets = lines(SIGNED_WAY, recent()).encode("utf-16-le")
    done = audit("-c", str(etc), str(written(tmp_path / "log", octets)))
    assert (done.status, "not understood" in done.stderr) == (78, True)


def test_a_cr_in_a_line_ends_none(etc: Path, tmp_path: Path) -> None:
    """A program's message can contain it, and what a log says of Postfix after it."""
    octets = lines(SIGNED_WAY + "logger x y", recent()).encode()[:-1] + b"\rz\n"
    assert json_report("-c", str(etc), str(written(tmp_path / "log", octets)), status=0)["signed"] == 1


LONG_WAY = SIGNED_WAY + UNSIGNED_WAY
COPIES = {
    "compressed": ("log.1", "log.1.gz"),
    "in three forms": ("log.1", "log.1.gz", "log.1.xz"),
    "of another name": ("log", "copy"),
    "each compressed": ("log.gz", "log.xz"),
    "in another directory": ("log", "old/log"),
}


@pytest.mark.parametrize("part", [1, 3, 100], ids=["one line", "half", "all"])
@pytest.mark.parametrize("names", COPIES.values(), ids=COPIES)
def test_lines_in_two_files_count_once(etc: Path, tmp_path: Path, names: tuple[str, ...], part: int) -> None:
    """A copy, or the beginning of a file that has grown since."""
    (tmp_path / "old").mkdir()
    whole = lines(LONG_WAY, recent()).encode()
    beginning = b"".join(whole.splitlines(keepends=True)[:part])
    for name, octets in zip(names, (whole, beginning, beginning)):
        written(tmp_path / name, COMPRESSORS.get(Path(name).suffix, bytes)(octets))
    paths = [str(tmp_path / name) for name in names]
    for order in (paths, paths[::-1], [*paths, *paths]):
        found = json_report("-c", str(etc), *order)
        assert (found["signed"], found["unsigned"], found["unknown"]) == (1, 1, 0)


def test_files_that_begin_alike_all_count(etc: Path, tmp_path: Path) -> None:
    first = lines("smtpd x", recent())
    one = written(tmp_path / "one", (first + lines(SIGNED_WAY, recent())).encode())
    two = written(tmp_path / "two", (first + lines(UNSIGNED_WAY, recent())).encode())
    found = json_report("-c", str(etc), str(one), str(two))
    assert (found["signed"], found["unsigned"]) == (1, 1)


UNREADABLE = {
    "zip": (
        "log.zip",
        b"PK\x03\x04",
        "compressed by zip, which audit does not read\nhint: unzip -p PATH/log.zip | dkimpipe audit -\n",
    ),
    "zip by another name": (
        "log.1",
        b"PK\x03\x04",
        "compressed by zip, which audit does not read\nhint: unzip -p PATH/log.1 | dkimpipe audit -\n",
    ),
    "7-Zip": (
        "log.7z",
        b"7z\xbc\xaf\x27\x1c",
        "compressed by 7-Zip, which audit does not read\nhint: 7z x -so PATH/log.7z | dkimpipe audit -\n",
    ),
    "unknown": (
        "log.foo",
        b"\x02foo\x01\n\xff\xfe",
        "1 line is not understood: line 1, '\\x02foo\\x01'\n"
        "hint: LOGS in dkimpipe-audit(1) lists the forms that it reads\n",
    ),
    "text": (
        "log.1",
        b"no log at all\n",
        "nothing is understood: line 1, 'no log at all'\n"
        "hint: LOGS in dkimpipe-audit(1) lists the forms that it reads\n",
    ),
    "empty": (
        "log",
        b"",
        "PATH/log is empty\nhint: name the log that Postfix writes to: dkimpipe audit FILE\n",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_named(etc: Path, tmp_path: Path, name: str) -> None:
    file, octets, said = UNREADABLE[name]
    path = written(tmp_path / file, octets)
    done = audit("-c", str(etc), "--cron", str(path))
    said = said if said.startswith("PATH") else f"PATH/{file}: {said}"
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.replace(str(tmp_path), "PATH") == f"dkimpipe: {said}"


@pytest.mark.parametrize("name", [name for name in UNREADABLE if name != "empty"])
def test_what_cannot_be_read_beside_what_can(etc: Path, tmp_path: Path, name: str) -> None:
    """It may have what left unsigned: the audit is not good, and does not keep quiet."""
    file, octets, _ = UNREADABLE[name]
    good = written(tmp_path / "good", lines(SIGNED_WAY, recent()).encode())
    path = written(tmp_path / file, octets)
    done = audit("-c", str(etc), "--cron", str(good), str(path))
    assert done.status == 78
    assert f"{path}: " in done.stdout.decode() + done.stderr


def test_an_empty_file_beside_another_is_good(etc: Path, tmp_path: Path) -> None:
    """After rotation the new log is empty."""
    good = written(tmp_path / "good", lines(SIGNED_WAY, recent()).encode())
    empty = written(tmp_path / "empty", b"")
    assert json_report("-c", str(etc), str(good), str(empty), status=0)["signed"] == 1


def test_a_file_and_its_copy_in_compression(logs_to: Path, tmp_path: Path) -> None:
    octets = lines(submitted() + sent(Q1), recent()).encode()
    for name, text in (("log", b""), ("log.1", octets), ("log.1.gz", gzip.compress(octets)[:-9])):
        written(tmp_path / name, text)
    assert json_report("-c", str(logs_to))["unsigned"] == 1


def test_files_that_are_older_than_the_time_are_not_opened(logs_to: Path, tmp_path: Path) -> None:
    written(tmp_path / "log", lines(submitted() + sent(Q1), recent()).encode())
    written(tmp_path / "log.1.gz", b"not gzip", 8)
    assert json_report("-c", str(logs_to))["unsigned"] == 1


def test_the_order_of_the_arguments_does_not_matter(etc: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "a", lines(sent(Q2), recent()).encode())
    old = written(tmp_path / "b", lines(submitted() + returned() + filtered(Q1, SIGNED), recent(1)).encode())
    assert json_report("-c", str(etc), str(new), str(old), str(new), status=0)["left"] == 1


def test_a_last_line_without_an_end(etc: Path) -> None:
    log = lines(submitted() + sent(Q1).partition("\n")[0], recent()).rstrip("\n").encode()
    assert json_report("-c", str(etc), "-", log=log)["unsigned"] == 1


def test_lines_across_blocks(etc: Path) -> None:
    one = lines(submitted() + returned() + filtered(Q1, SIGNED) + END + sent(Q2), recent()).encode()
    noise = lines(f"smtpd connect from {STRANGER}\n", recent()).encode()
    count = 2 * (1 << 20) // len(one + noise)
    assert json_report("-c", str(etc), "-", log=(one + noise) * count, status=0)["signed"] == count


def test_a_line_without_end_takes_no_memory_and_hides_nothing(etc: Path) -> None:
    log = b"x" * (3 << 20) + b"\n" + lines(submitted() + sent(Q1), recent()).encode()
    assert json_report("-c", str(etc), "-", log=log)["unsigned"] == 1


def test_octets_that_are_not_utf_8(etc: Path) -> None:
    log = (
        lines(submitted() + sent(Q1), recent())
        .encode()
        .replace(b"a@example.com", b"\xff\x1b[2J@\xfe\x9b.test")
    )
    done = audit("-c", str(etc), "-", log=log)
    assert done.status == 78
    assert rb"\xfe\x9b.test: did not pass the filter" in done.stdout
    assert b"\x1b" not in done.stdout


# Errors.

ERRORS = {
    "missing": (["none"], "PATH/none: No such file or directory\nhint: name the log: dkimpipe audit FILE\n"),
    "directory": (["etc"], "PATH/etc: Is a directory\nhint: name the log: dkimpipe audit FILE\n"),
    "not compressed": (["bad.gz"], "PATH/bad.gz: Not a gzipped file (b'no')\n"),
    "truncated": (
        ["cut.gz"],
        "PATH/cut.gz: Compressed file ended before the end-of-stream marker was reached\n",
    ),
    "xz": (["bad.xz"], "PATH/bad.xz: Input format not supported by decoder\n"),
    "no Postfix": (
        ["other"],
        "PATH/other: no line of Postfix\nhint: name the log that Postfix writes to: dkimpipe audit FILE\n",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(etc: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "etc").mkdir()
    for file, octets in (
        ("bad.gz", b"not"),
        ("cut.gz", gzip.compress(lines(submitted(), recent()).encode())[:-20]),
        ("bad.xz", b"no xz file at all"),
        ("other", b"Nov 27 07:02:05 mx dovecot: imap\n"),
    ):
        (tmp_path / file).write_bytes(octets)
    files, said = ERRORS[name]
    done = audit("-c", str(etc), "--cron", *(str(tmp_path / file) for file in files))
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.replace(str(tmp_path), "PATH") == f"dkimpipe: {said}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_says_who_may_read_the_log(etc: Path) -> None:
    directory = Path("/tmp") / f"dkimpipe-audit-{os.getpid()}"
    directory.mkdir(mode=0o755)
    try:
        log = written(directory / "log", b"")
        log.chmod(0o640)
        os.chown(log, 0, 4)
        main, conf = directory / "dkimpipe", configuration(directory / "etc")
        shutil.copytree(PROJECT / "dkimpipe", main)
        command = ["/usr/bin/python3", "-I", str(main / "__main__.py"), "audit", "-c", str(conf), str(log)]
        done = subprocess.run(
            command, capture_output=True, user=65534, group=65534, extra_groups=[], check=False
        )
    finally:
        shutil.rmtree(directory)
    assert done.stderr.decode().replace(str(log), "LOG") == (
        "dkimpipe: LOG: Permission denied\nhint: run it as root, or as a user in the group adm\n"
    )
    assert done.returncode == 78


def test_a_log_that_is_no_file(etc: Path, tmp_path: Path) -> None:
    directory = configuration(tmp_path / "etc")
    with (directory / "main.cf").open("a") as file:
        file.write("maillog_file = /dev/stdout\n")
    done = audit("-c", str(directory))
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: Postfix logs to /dev/stdout, which cannot be read\n"
        "hint: read the log of the container: docker logs CONTAINER | dkimpipe audit -\n",
    )


@pytest.mark.parametrize("words", [["--since=x"], ["--json", "--cron"], ["--journal", "-"], ["--none"]])
def test_wrong_usage(words: list[str]) -> None:
    done = audit(*words)
    assert (done.status, done.stdout) == (64, b"")


# The journal: journalctl(1) is a program of the test, which writes down its arguments.


@pytest.fixture
def journalctl(tmp_path: Path) -> Iterator[Callable[[str, str], dict[str, str]]]:
    def make(output: str, end: str = "exit 0") -> dict[str, str]:
        directory = tmp_path / "bin"
        directory.mkdir()
        (tmp_path / "output").write_text(output)
        program = directory / "journalctl"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat {tmp_path}/output\n{end}\n'
        )
        program.chmod(0o755)
        return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}

    yield make


def test_the_journal(etc: Path, tmp_path: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    stamp = recent().replace("+00:00", "+0000")
    done = audit("-c", str(etc), "--journal", "--json", env=journalctl(lines(SIGNED_WAY, stamp)))
    assert (done.status, json.loads(done.stdout)["signed"], done.stderr) == (0, 1, "")
    *options, since = (tmp_path / "arguments").read_text().split()
    assert options == list(logfiles.JOURNAL[1:])
    assert abs(int(since.removeprefix("--since=@")) - (time.time() - 8 * 86400)) < 60


def test_a_journal_that_may_not_be_read(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    env = journalctl("", "echo No journal files were opened due to insufficient permissions. >&2; exit 1")
    done = audit("-c", str(etc), "--journal", env=env)
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: the journal: No journal files were opened due to insufficient permissions.\n"
        "hint: run it as root, or as a user in the group systemd-journal\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_journal_of_which_only_a_part_can_be_read() -> None:
    """A user who may not read the system's journal gets their own messages, and no word about it."""
    with tempfile.TemporaryDirectory() as name:
        journals = Path(name)
        journals.chmod(0o755)
        log = journals / "0123" / "system.journal"
        log.parent.mkdir()
        log.write_bytes(b"")
        log.chmod(0o600)
        assert logfiles.journal(0, [journals]).name == "the journal"
        os.seteuid(65534)
        try:
            with pytest.raises(ConfigError, match=f"{log}: Permission denied") as refused:
                logfiles.journal(0, [journals])
        finally:
            os.seteuid(0)
    assert refused.value.hint == "run it as root, or as a user in the group systemd-journal"


MISSING = {
    "journalctl": (
        ["--journal"],
        "the journal: cannot run journalctl: No such file or directory\n"
        "hint: name the log: dkimpipe audit FILE\n",
    ),
    "zstd": (
        ["PATH/log.zst"],
        "PATH/log.zst: cannot run zstd: No such file or directory\nhint: apt install zstd\n",
    ),
    "lz4": (
        ["PATH/log.lz4"],
        "PATH/log.lz4: cannot run lz4: No such file or directory\nhint: apt install lz4\n",
    ),
    "lzip": (
        ["PATH/log.lz"],
        "PATH/log.lz: cannot run lzip: No such file or directory\nhint: apt install lzip\n",
    ),
}


@pytest.mark.parametrize("program", MISSING)
def test_a_program_that_is_missing(etc: Path, tmp_path: Path, program: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postconf").symlink_to(shutil.which("postconf") or "")
    for suffix in ("zst", "lz4", "lz"):
        (tmp_path / f"log.{suffix}").write_bytes(b"")
    words, said = MISSING[program]
    words = [word.replace("PATH", str(tmp_path)) for word in words]
    done = audit(
        "-c", str(etc), *words, env={**os.environ, "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}"}
    )
    assert (done.status, done.stderr.replace(str(tmp_path), "PATH")) == (78, f"dkimpipe: {said}")


def test_a_program_that_complains_a_lot(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    env = journalctl(lines(SIGNED_WAY, recent()), "yes corrupted | head -c 300000 >&2")
    done = audit("-c", str(etc), "--journal", "--cron", env=env)
    assert (done.status, done.stderr.partition("\n")[0]) == (78, "dkimpipe: the journal: corrupted")


def test_a_line_end_in_the_journal_is_no_line(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    """journalctl indents what follows a line end in a message."""
    forged = "\n" + " " * 30 + lines(sent(Q1), recent())
    log = lines(submitted() + f"logger {Q1}: x", recent()).rstrip("\n") + forged
    done = audit("-c", str(etc), "--journal", "--json", env=journalctl(log))
    assert json.loads(done.stdout)["unsigned"] == 0


def test_the_real_journalctl_knows_the_options() -> None:
    if not shutil.which("journalctl"):
        pytest.skip("no journalctl")
    done = subprocess.run([*logfiles.JOURNAL, "--since=@1"], capture_output=True, check=False)
    assert b"option" not in done.stderr and b"Failed to parse" not in done.stderr


def test_a_file_of_a_former_syslog_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = written(tmp_path / "old", b"", 30), written(tmp_path / "new", b"")
    monkeypatch.setattr(logfiles, "USUAL", (old,))
    assert logfiles.usual(time.time() - 7 * 86400) is None
    monkeypatch.setattr(logfiles, "USUAL", (old, new))
    assert logfiles.usual(time.time() - 7 * 86400) == new


@pytest.mark.parametrize("has_journal", [True, False])
def test_one_log_for_all_where_there_is_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_journal: bool
) -> None:
    """As busybox syslogd has it. Where there is a journal, it has everything."""
    log = written(tmp_path / "messages", b"")
    monkeypatch.setattr(logfiles, "USUAL", (tmp_path / "none",))
    monkeypatch.setattr(logfiles, "_FOR_ALL", (log,))
    monkeypatch.setattr(logfiles, "_JOURNALS", (tmp_path if has_journal else tmp_path / "none",))
    assert logfiles.usual(time.time() - 7 * 86400) == (None if has_journal else log)
