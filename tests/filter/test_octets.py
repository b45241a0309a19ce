"""The octets of a message, of any size, come out as they went in; in memory, on disk, and many at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import forked
import pytest
import witness
from commandline import (
    BY_PATH,
    FROM,
    LOG_LINE,
    PYTHON,
    ROOT,
    TEMPORARY_FAILURE,
    TIMEOUT,
    TO_BOB,
    UNSIGNED,
    FakeSendmail,
    Place,
    Word,
    assert_deferred,
    in_process,
    is_signed,
    new_fields,
    of_size,
    reinject,
    run,
    wait_until_read,
    with_senders,
    without_time,
)
from conftest import MESSAGE, PROJECT, Done, Keys

from dkimpipe.command import VERBS

# The octets

HEADER = b"From: Alice <alice@example.com>\nSubject: octets\n"
CRLF_HEADER = HEADER.replace(b"\n", b"\r\n")
OCTETS = {
    "LF": MESSAGE,
    "CRLF": MESSAGE.replace(b"\n", b"\r\n"),
    "no body": HEADER + b"\n",
    "no body, CRLF": CRLF_HEADER + b"\r\n",
    "no empty line": HEADER,
    "no final newline": MESSAGE[:-1],
    "no final newline in the header": HEADER[:-1],
    "NUL": HEADER + b"\n\0a\0\n\0",
    "8-bit": HEADER + b"\n" + bytes(range(128, 256)) + b"\n",
    "8-bit in the header": b"Subject: \xe9\xff\n" + HEADER + b"\n\xe9\n",
    "UTF-8": "Subject: ☃\n".encode() + HEADER + "\n☃\n".encode(),
    "bare CR": HEADER + b"\na\rb\n\r\r\n\rc\r",
    "LF in a CRLF message": CRLF_HEADER + b"\r\na\nb\r\nc",
    "CRLF in an LF message": HEADER + b"\na\r\nb\nc\r\n",
    "blank lines": HEADER + b"\n\n \n\t\n\n\n",
    "a lone dot": HEADER + b"\n.\n..\n.\nQUIT\n",
    "From in the body": HEADER + b"\nFrom here\n>From there\n",
    "every octet": HEADER
    + b"\n"
    + b"".join(b"%c%c\n" % (a, b) for a in range(0, 256, 5) for b in range(256)),
    "a line that is no field": HEADER + b"no field\n\nbody\n",
    "blanks before a colon": b"Subject : x\n" + HEADER + b"\nbody\n",
    "a signature from elsewhere": b"DKIM-Signature: v=1; d=example.net; s=x; b=\n" + HEADER + b"\nbody\n",
}


@pytest.mark.parametrize("message", OCTETS.values(), ids=OCTETS)
@pytest.mark.parametrize("chunk", [1 << 20, 3], ids=["whole", "in drops"])
def test_below_the_new_fields_the_input_stands_octet_for_octet(
    place: Place, message: bytes, chunk: int
) -> None:
    if chunk == 3:
        message = message[:600]
    with subprocess.Popen(
        with_senders(place),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        for at in range(0, len(message), chunk):
            process.stdin.write(message[at : at + chunk])
        process.stdin.close()
        output = process.stdout.read()
        assert process.wait(TIMEOUT) == 0
    fields = new_fields(output, message)
    line_end = b"\r\n" if message.partition(b"\n")[0].endswith(b"\r") else b"\n"
    lines = fields.split(line_end)
    assert lines[0].startswith(b"DKIM-Signature: v=1; ")
    assert lines[-1] == b""
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:-1])
    assert not any(b"\r" in line or b"\n" in line for line in lines)


def test_what_other_programs_can_read_they_find_signed(place: Place, keys: Keys) -> None:
    names = [name for name in OCTETS if name not in ("a line that is no field", "blanks before a colon")]
    outputs = [forked.run("--sender_map", str(place.senders), stdin=OCTETS[name]).stdout for name in names]
    verdicts = dict(zip(names, witness.dkimpy_verdicts(outputs, keys.records)))
    expected = {name: ["pass"] for name in names}
    for name in verdicts:
        if name == "a signature from elsewhere":
            verdicts[name] = verdicts[name][:1]
    assert verdicts == expected


def test_an_empty_input_is_an_empty_output(place: Place, sendmail: FakeSendmail) -> None:
    said = "dkimpipe: not signed: no From field\n"
    assert run("--sender_map", str(place.senders), message=b"") == (0, b"", said)
    assert reinject(place, sendmail, *TO_BOB, message=b"") == (0, b"", said)
    assert sendmail.message == b""


ENVELOPE_LINES = {
    "LF": b"From alice@example.com Thu Jan  1 00:00:00 1970\n",
    "CRLF": b"From alice@example.com Thu Jan  1 00:00:00 1970\r\n",
    "quoted": b">From alice@example.com Thu Jan  1 00:00:00 1970\n",
    "two": b"From a\n>From b\n",
    "8-bit": b"From \xff\0\n",
}


@pytest.mark.parametrize("line", ENVELOPE_LINES.values(), ids=ENVELOPE_LINES)
def test_an_mbox_line_stays_first(place: Place, keys: Keys, line: bytes) -> None:
    message = MESSAGE.replace(b"\n", b"\r\n") if b"\r" in line else MESSAGE
    done = run("--sender_map", str(place.senders), message=line + message)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert done.stdout.startswith(line + b"DKIM-Signature: ")
    signed = done.stdout[len(line) :]
    assert is_signed(signed, message)
    assert witness.dkimpy_verdicts([signed], keys.records) == [["pass"]]


@pytest.mark.parametrize(
    "message",
    [*OCTETS.values(), *[line + MESSAGE for line in ENVELOPE_LINES.values()]],
    ids=[*OCTETS, *[f"mbox line: {name}" for name in ENVELOPE_LINES]],
)
def test_sendmail_gets_what_stdout_would(place: Place, sendmail: FakeSendmail, message: bytes) -> None:
    printed = run("--sender_map", str(place.senders), message=message)
    done = reinject(place, sendmail, *TO_BOB, message=message)
    assert (done.status, done.stdout, done.stderr) == (0, b"", printed.stderr)
    expected = re.sub(rb"\A(>?From .*\n)+", b"", printed.stdout)  # sendmail(1) would strip these
    assert without_time(sendmail.message) == without_time(expected)
    assert len(sendmail.message) == len(expected)


# Sizes

_KIB = 1 << 10
SIZES = sorted(
    {
        edge + by
        for edge in (64 * _KIB, 128 * _KIB, 256 * _KIB, 320 * _KIB, 1024 * _KIB, 1280 * _KIB, 2048 * _KIB)
        for by in (-1, 0, 1)
    }
    | {1024 * _KIB + 64 * _KIB + 1, 5000 * _KIB}
)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_messages_of_every_size_are_whole_and_signed(
    tmp_path: Path, keys: Keys, line_end: bytes, body: str
) -> None:
    senders = tmp_path / "senders"
    senders.write_text(f"example.com dkim(c=relaxed/{body},s=rsa2048,key={keys.path('rsa2048')})\n")
    outputs = []
    for size in SIZES:
        message = of_size(size, line_end)
        assert len(message) == size
        done = forked.run("--sender_map", str(senders), stdin=message)
        assert (done.status, done.stderr) == (0, LOG_LINE), size
        assert new_fields(done.stdout, message).startswith(b"DKIM-Signature: v=1; "), size
        outputs.append(done.stdout)
    verdicts = witness.dkimpy_verdicts(outputs, keys.records)
    assert dict(zip(SIZES, verdicts)) == {size: ["pass"] for size in SIZES}


HEADER_SIZES = [edge + by for edge in (64 * _KIB, 256 * _KIB, 320 * _KIB, 1024 * _KIB) for by in (-1, 0, 1)]


@pytest.mark.parametrize("size", HEADER_SIZES)
@pytest.mark.parametrize("body", [b"", b"body\n" * 20000], ids=["no body", "body"])
def test_header_blocks_of_every_size(place: Place, size: int, body: bytes) -> None:
    start, end = b"X: y\n" * 11000, HEADER + b"\n"
    lines = (size - len(start) - len(end)) // 64
    header = start + b"Y:".ljust((size - len(start) - len(end)) - 64 * lines + 63, b"y") + b"\n"
    header += (b" " + b"z" * 62 + b"\n") * (lines - 1) + end
    assert len(header) == size
    done = run("--sender_map", str(place.senders), message=header + body)
    if size > 1 << 20:
        assert_deferred(done, "4.3.4 dkimpipe: the header block is larger than 1048576 bytes\n")
    else:
        assert (done.status, done.stderr) == (0, LOG_LINE)
        assert is_signed(done.stdout, header + body)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 5 << 20])
def test_large_messages_reach_sendmail_whole(place: Place, sendmail: FakeSendmail, size: int) -> None:
    message = of_size(size)
    assert reinject(place, sendmail, *TO_BOB, message=message) == (0, b"", LOG_LINE)
    assert is_signed(sendmail.message, message)


@pytest.mark.parametrize("directories", [(), ("/no/such", "/proc")], ids=["none", "unwritable"])
def test_without_a_directory_the_spool_stays_in_memory(
    place: Place, keys: Keys, directories: tuple[str, ...]
) -> None:
    message = of_size(3 << 20)
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = {directories!r}")
    done = run("--sender_map", str(place.senders), message=message, command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout, message)


def test_what_goes_to_disk_has_no_name_and_no_other_reader(place: Place) -> None:
    """While the rest of a large message is awaited its spool is a file without a name, mode 0600."""
    spools = place.directory / "spools"
    spools.mkdir()
    try:
        os.close(os.open(spools, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("a file system without O_TMPFILE")
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(spools)!r},)")
    with subprocess.Popen(
        [*command, "--sender_map", place.senders],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        process.stdin.write(of_size(2 << 20))
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        descriptors = Path(f"/proc/{process.pid}/fd").iterdir()
        (spool,) = [path for path in descriptors if os.readlink(path).startswith(str(spools))]
        assert os.readlink(spool).endswith(" (deleted)")
        assert (spool.stat().st_mode & 0o777, spool.stat().st_nlink) == (0o600, 0)
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


# Where something of the system must be replaced: in a mount namespace of its own


def _namespaces() -> bool:
    if not (ROOT and shutil.which("unshare") and shutil.which("mount")):
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(not _namespaces(), reason="needs root and mount namespaces")


@needs_namespace
@pytest.mark.parametrize("options", [(), TO_BOB], ids=["stdout", "sendmail"])
def test_a_full_disk_defers(place: Place, sendmail: FakeSendmail, options: tuple[str, ...]) -> None:
    disk = place.directory / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=4m none {disk} && exec "$@"'
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(disk)!r},)")
    done = reinject(
        place,
        sendmail,
        *options,
        message=of_size(8 << 20),
        command=("unshare", "-m", "sh", "-c", script, "sh", *command),
    )
    assert_deferred(done)
    assert done.stderr == (
        f"4.3.1 dkimpipe: cannot spool the message in {disk}: No space left on device\n"
        f"hint: free space there (df -h {disk}), then run postqueue -f\n"
    )
    assert not sendmail.ran


# A /dev of its own, in which it listens: what came to /dev/log follows the filter's own output on stdout.
LISTENER = """
import os, socket, subprocess, sys
directory, *arguments = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
os.mknod(directory + "/null", 0o020666, os.makedev(1, 3))
os.symlink("/proc/self/fd", directory + "/fd")
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(directory + "/log")
subprocess.run(["mount", "--bind", directory, "/dev"], check=True)
status = subprocess.run(arguments, stdout=subprocess.DEVNULL).returncode
log.setblocking(False)
try:
    while True:
        os.write(1, log.recv(65536).rstrip(b"\\0") + b"\\n")
except BlockingIOError:
    sys.exit(status)
"""

FACTS = LOG_LINE.partition(": ")[2].rstrip("\n")
MAIL_INFO, MAIL_WARNING = 22, 20
SYSLOG: dict[str, tuple[tuple[Word, ...], bytes, int, str]] = {
    "stdout": ((), MESSAGE, 0, ""),
    "stdout, wanted": (("--syslog",), MESSAGE, MAIL_INFO, FACTS),
    "sendmail": (TO_BOB, MESSAGE, MAIL_INFO, FACTS),
    "sendmail, not wanted": (("--syslog=no", *TO_BOB), MESSAGE, 0, ""),
    "not signed": (
        TO_BOB,
        UNSIGNED,
        MAIL_INFO,
        "not signed: no entry for alice@example.org; from=Alice <alice@example.org>",
    ),
    "no From": (TO_BOB, b"Subject: x\n\n", MAIL_WARNING, "not signed: no From field"),
    "two From": (
        TO_BOB,
        b"From: eve@example.org\n" + MESSAGE,
        MAIL_WARNING,
        "not signed: 2 From fields; from=eve@example.org",
    ),
    "no address": (TO_BOB, b"From: Eve\n\n", MAIL_WARNING, "not signed: no address in 'Eve'; from=Eve"),
    "syntax error": (
        TO_BOB,
        b"From: ACME\\Alice <alice@example.com>\n\n",
        MAIL_INFO,
        FACTS.replace("Alice", r"ACME\Alice"),
    ),
    "accepted": (
        ("--on_error=accept", "--sender_map=/no/such", *TO_BOB),
        MESSAGE,
        MAIL_WARNING,
        f"not signed: map /no/such: No such file or directory; {FROM}",
    ),
    "not allowed": (
        ("--domain=example.org", "--signature=dkim(login=alice)", "--login=eve\nx", *TO_BOB),
        UNSIGNED,
        MAIL_WARNING,
        r"not signed: login 'eve\nx' may not use command line; from=Alice <alice@example.org>",
    ),
    "per cent": (
        TO_BOB,
        b"From: %s%n <alice@example.com>\n\n",
        MAIL_INFO,
        FACTS.replace("Alice", "%s%n"),
    ),
    "controls": (
        TO_BOB,
        b'From: "\x1b\r\xff\0" <alice@example.com>\n\n',
        MAIL_INFO,
        FACTS.replace("Alice", r'"\x1b\r\xff\x00"'),
    ),
    "UTF-8": (
        TO_BOB,
        "From: Ålice <alice@example.com>\n\n".encode(),
        MAIL_INFO,
        FACTS.replace("Alice", "Ålice"),
    ),
}


@needs_namespace
@pytest.mark.parametrize(("options", "message", "priority", "line"), SYSLOG.values(), ids=SYSLOG)
def test_syslog_gets_the_line_too(
    place: Place,
    sendmail: FakeSendmail,
    options: tuple[Word, ...],
    message: bytes,
    priority: int,
    line: str,
) -> None:
    dev = place.directory / "dev"
    dev.mkdir()
    done = run(
        *("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), *options),
        message=message,
        command=("unshare", "-m", PYTHON, "-c", LISTENER, str(dev), *BY_PATH),
    )
    assert done.status == 0, done.stderr
    received = done.stdout.decode()
    if line:
        assert done.stderr == f"dkimpipe: {line}\n"
        assert re.fullmatch(
            rf"<{priority}>[A-Z][a-z]{{2}} [ 0-9]{{2}} [0-9:]{{8}} dkimpipe\[[0-9]+\]: {re.escape(line)}\n",
            received,
        ), received
    else:
        assert received == ""


@needs_namespace
def test_nobody_at_dev_log_is_no_hindrance(place: Place) -> None:
    dev = place.directory / "dev"
    dev.mkdir()
    script = (
        f"mount -t tmpfs none {dev} && mknod {dev}/null c 1 3 && ln -s /proc/self/fd {dev}/fd"
        f' && mount --bind {dev} /dev && exec "$@"'
    )
    command = ("unshare", "-m", "sh", "-c", script, "sh", *BY_PATH)
    done = run("--sender_map", str(place.senders), "--syslog", command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


def test_names_that_are_no_text_are_no_hindrance_to_syslog(place: Place) -> None:
    senders = os.fsencode(place.directory) + b"/s\xff"
    shutil.copy(os.fsencode(place.senders), senders)
    done = run("--sender_map", senders, "--verbose", "--syslog")
    assert done.status == 0, done.stderr
    assert is_signed(done.stdout)


def test_an_accepted_error_that_is_no_text_is_no_hindrance_to_syslog(place: Place) -> None:
    place.senders.write_bytes(b"example.com dkim(q\xff=a)\n")
    done = run("--sender_map", str(place.senders), "--on_error=accept", "--syslog")
    assert (done.status, done.stdout) == (0, MESSAGE), done.stderr
    assert done.stderr.startswith(f"dkimpipe: not signed: {place.senders}, line 1: unknown option: 'q")


def test_an_accepted_error_is_one_line_without_controls(place: Place) -> None:
    place.senders.write_bytes(b"example.com dkim(q\x1b[31m\r\xe2\x80\xae=a)\n")
    done = run("--sender_map", str(place.senders), "--on_error=accept")
    assert (done.status, done.stdout) == (0, MESSAGE)
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable(), done.stderr


# Many at once


def test_many_at_once_do_not_disturb_each_other(place: Place) -> None:
    messages = [b"X-Number: %d\n" % number + MESSAGE for number in range(24)]
    results: dict[int, Done] = {}

    def work(number: int) -> None:
        results[number] = run("--sender_map", str(place.senders), message=messages[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(messages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, message in enumerate(messages):
        assert (results[number].status, results[number].stderr) == (0, LOG_LINE)
        assert is_signed(results[number].stdout, message)


# The first word


@pytest.mark.parametrize(
    ("word", "verb"),
    [("chekc", "check"), ("verfy", "verify"), ("genky", "genkey"), ("Setup", "setup"), ("rotat", "rotate")],
)
def test_the_nearest_verb_is_suggested(word: str, verb: str) -> None:
    said = f"4.3.5 dkimpipe: unknown argument '{word}'\nhint: did you mean: dkimpipe {verb}\n"
    assert run(word) == Done(TEMPORARY_FAILURE, b"", said)


def test_with_recipients_no_verb_is_suggested() -> None:
    assert "did you mean" not in run("chekc", *TO_BOB).stderr


def test_with_nothing_on_a_terminal_it_shows_how_it_is_used() -> None:
    leader, terminal = os.openpty()
    done = subprocess.run(BY_PATH, stdin=terminal, capture_output=True, timeout=TIMEOUT, check=False)
    os.close(leader)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.startswith(b"usage: dkimpipe ")


@pytest.mark.parametrize("flags", ["-I", "-IS", "-s", "-E"])
def test_started_by_path_it_is_this_package_and_no_other(tmp_path: Path, flags: str) -> None:
    """Another version may be installed where the interpreter looks first."""
    other = tmp_path / "other"
    shutil.copytree(PROJECT / "dkimpipe", other / "dkimpipe", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "dkimpipe" / "__init__.py").write_text("__version__ = '9.9.9'\n")
    command = [sys.executable, flags, str(other / "dkimpipe" / "__main__.py"), "--version"]
    assert subprocess.check_output(command) == b"dkimpipe 9.9.9\n"


@pytest.mark.parametrize("arguments", [("foo",), ("convert-keys", "example.com")], ids=" ".join)
def test_an_unknown_verb_is_answered_with_the_verbs(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    known = " ".join(sorted((*VERBS, "verify")))
    said = f"4.3.5 dkimpipe: unknown verb '{arguments[0]}'\nhint: known verbs: {known}\n"
    assert done == Done(TEMPORARY_FAILURE, b"", said)
    assert "audit check " in known


@pytest.mark.parametrize("arguments", [("a@example.com",), ("foo", "-v"), ("foo", "--", "b")], ids=" ".join)
def test_what_may_be_meant_for_the_filter_is_not_taken_for_a_verb(arguments: tuple[str, ...]) -> None:
    assert "verb" not in run(*arguments).stderr
