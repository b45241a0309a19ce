"""Help; and with recipients, what sendmail(1) gets, and what becomes of its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commandline import (
    AS_MODULE,
    BY_PATH,
    ENVIRONMENTS,
    LOG_LINE,
    PYTHON,
    TEMPORARY_FAILURE,
    TIMEOUT,
    TO_BOB,
    UNSIGNED,
    FakeSendmail,
    Place,
    assert_deferred,
    is_signed,
    reinject,
    run,
    shell,
    with_senders,
)
from conftest import MESSAGE, PROJECT

# Help


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_help_alone_prints_the_options(command: tuple[str, ...]) -> None:
    done = run("--help", message=b"", command=command)
    assert (done.status, done.stderr) == (0, "")
    text = done.stdout.decode()
    assert text.startswith("usage: dkimpipe [OPTION]... [-f SENDER] [-- RECIPIENT...]\n")
    for option in (
        "conf_file",
        "sender_map",
        "listid_map",
        "match",
        "on_error",
        "sendmail",
        "syslog",
        "verbose",
    ):
        assert f"  --{option}" in text


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_version_alone_prints_the_version(command: tuple[str, ...]) -> None:
    init = (PROJECT / "dkimpipe" / "__init__.py").read_text()
    version = re.search(r'__version__ = "([0-9.]+[a-z0-9]*)"', init)
    assert version
    done = run("--version", message=b"", command=command)
    assert done == (0, f"dkimpipe {version[1]}\n".encode(), "")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_an_error(option: str) -> None:
    done = shell([*BY_PATH, option], ">/dev/full", b"")
    assert_deferred(done, "4.3.0 dkimpipe: ")


RECIPIENTS: dict[str, list[bytes]] = {
    "one": [b"bob@example.net"],
    "many": [b"r%d@example.net" % number for number in range(1000)],
    "hyphen": [b"-bob@example.net", b"-oQ/tmp", b"-", b"--", b"-f", b"--help"],
    "blanks": [b'"a b"@example.net', b" ", b"a\tb@example.net", b"a\nb@example.net"],
    "quotes": [b'"a\'b\\"c"@example.net', b"`id`@example.net", b"$(id)@example.net", b"${x};|&<>*?[a]"],
    "commas": [b"a,b@example.net", b'"a,b"@example.net'],
    "UTF-8": ["bøb@ex☃mple.net".encode()],
    "no UTF-8": [b"b\xf8b@example.net", b"\xff\xfe", b"\xed\xa0\x80"],
    "empty": [b"", b"bob@example.net", b""],
    "twice": [b"bob@example.net", b"bob@example.net"],
    "long": [b"b" * 100000 + b"@example.net"],
}


@pytest.mark.parametrize("recipients", RECIPIENTS.values(), ids=RECIPIENTS)
def test_recipients_reach_sendmail_as_they_are(
    place: Place, sendmail: FakeSendmail, recipients: list[bytes]
) -> None:
    done = reinject(place, sendmail, "-f", "alice@example.com", "--", *recipients)
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", b"alice@example.com", b"--", *recipients]
    assert is_signed(sendmail.message)


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b"<>",
        b"-alice@example.com",
        b"--",
        b'"a b"@example.com',
        b"al\xefce@example.com",
        "ålice@ø".encode(),
    ],
    ids=["null", "angles", "hyphen", "two hyphens", "blank", "no UTF-8", "UTF-8"],
)
@pytest.mark.parametrize("match", ["from,sender", "envelope,from"])
def test_the_sender_reaches_sendmail_as_it_is(
    place: Place, sendmail: FakeSendmail, sender: bytes, match: str
) -> None:
    done = reinject(place, sendmail, "--match", match, "-f", sender, "--", "bob@example.net")
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", sender, b"--", b"bob@example.net"]


@pytest.mark.parametrize("environment", [{}, ENVIRONMENTS["ASCII"]], ids=["empty", "ASCII"])
def test_octets_reach_sendmail_in_any_locale(
    place: Place, sendmail: FakeSendmail, environment: dict[str, str]
) -> None:
    recipient = "bøb@example.net".encode()
    options = ("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), "--syslog=no")
    env = {**environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
    done = run(*options, "-f", b"\xff", "--", recipient, b"\xff", command=AS_MODULE, env=env)
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", b"\xff", b"--", recipient, b"\xff"]


@pytest.mark.parametrize("status", [1, 64, 65, 67, 69, 70, 71, 75, 78, 255])
def test_the_exit_status_of_sendmail_is_ours(place: Place, sendmail: FakeSendmail, status: int) -> None:
    sendmail.ends(f"exit {status}")
    assert reinject(place, sendmail, *TO_BOB) == (status, b"", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda n: n.name)
def test_a_sendmail_that_was_killed_defers(
    place: Place, sendmail: FakeSendmail, number: signal.Signals
) -> None:
    sendmail.ends(f"ulimit -c 0; kill -{number.name[3:]} $$")
    done = reinject(place, sendmail, *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: {sendmail.path} was killed by signal {number.value}\n")


def test_sendmail_speaks_for_itself(place: Place, sendmail: FakeSendmail) -> None:
    sendmail.ends("echo 5.7.1 no; echo and more >&2; exit 65")
    assert reinject(place, sendmail, *TO_BOB) == (65, b"5.7.1 no\n", "and more\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_sendmail_gets_the_message_whatever_our_output_is(
    place: Place, sendmail: FakeSendmail, redirection: str
) -> None:
    arguments = with_senders(place, "--sendmail", str(sendmail.path), "--syslog=no", *TO_BOB)
    assert shell(arguments, redirection).status == 0
    assert is_signed(sendmail.message)


def test_a_message_not_to_be_signed_passes_as_it_is(place: Place, sendmail: FakeSendmail) -> None:
    done = reinject(place, sendmail, *TO_BOB, message=UNSIGNED)
    assert (done.status, done.stdout) == (0, b"")
    assert done.stderr.startswith("dkimpipe: not signed: no entry for alice@example.org; ")
    assert sendmail.message == UNSIGNED


UNFIT = {
    "missing": None,
    "not executable": (b"#!/bin/sh\n", 0o644),
}
# What only the exec itself shows.
BROKEN = {
    "no program": (b"echo text\n", 0o755),
    "empty": (b"", 0o755),
    "interpreter missing": (b"#!/no/such/interpreter\n", 0o755),
}


@pytest.mark.parametrize("file", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("message", [MESSAGE, UNSIGNED], ids=["to be signed", "not to be signed"])
def test_a_sendmail_that_cannot_run_defers(
    place: Place, file: tuple[bytes, int] | None, message: bytes
) -> None:
    path = place.directory / "unfit"
    if file:
        place.file("unfit", *file)
    done = reinject(place, FakeSendmail(path), *TO_BOB, message=message)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {path}")


@pytest.mark.parametrize("file", BROKEN.values(), ids=BROKEN)
def test_a_sendmail_that_does_not_start_defers(place: Place, file: tuple[bytes, int]) -> None:
    path = place.file("unfit", *file)
    done = reinject(place, FakeSendmail(path), *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {path}: ")


@pytest.mark.parametrize("option", ["/", "/dev/null", "sendmail", "/bin/sh/x"])
def test_a_sendmail_that_is_no_program_defers(place: Place, option: str) -> None:
    done = reinject(place, FakeSendmail(Path(option)), *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {option}")


@pytest.mark.parametrize("fault", ["key", "entry", "senders"])
def test_after_an_error_sendmail_never_runs(place: Place, sendmail: FakeSendmail, fault: str) -> None:
    if fault == "senders":
        place.senders.unlink()
    else:
        place.senders.write_text(
            "example.com dkim(s=a,key=/no/such)\n" if fault == "key" else "example.com x\n"
        )
    assert_deferred(reinject(place, sendmail, *TO_BOB), "4.3.5 dkimpipe: ")
    assert not sendmail.ran


# A subreaper (see prctl(2)) waits for the filter, as init would, when the filter's parent has died.
ORPHAN = """
import ctypes, fcntl, os, struct, subprocess, sys, termios, time
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
come, go = os.pipe()
parent = os.fork()
if not parent:
    os.close(go)
    subprocess.Popen(sys.argv[1:], stdin=come)
    time.sleep(60)
    os._exit(0)
os.close(come)
os.write(go, sys.stdin.buffer.read())
while struct.unpack("i", fcntl.ioctl(go, termios.FIONREAD, b"1234"))[0]:
    time.sleep(0.005)
os.kill(parent, 9)
os.waitpid(parent, 0)
os.close(go)
_, status = os.wait()
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
"""
ORPHANED = (PYTHON, "-c", ORPHAN, *BY_PATH)


def test_after_the_death_of_the_parent_sendmail_never_runs(place: Place, sendmail: FakeSendmail) -> None:
    """pipe(8) was killed while it wrote: what looks like the end of the message may be its middle."""
    done = reinject(place, sendmail, *TO_BOB, command=ORPHANED)
    assert_deferred(done)
    assert done.stderr == (
        "4.3.0 dkimpipe: the program that sent this message exited before it was handed over\n"
    )
    assert not sendmail.ran


def test_to_stdout_the_parent_may_be_gone(place: Place) -> None:
    """`(cat message | dkimpipe &)` has no parent to be relied on, and its reader sees our status."""
    done = run("--sender_map", str(place.senders), command=ORPHANED)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


RECIPIENTS_FORGOTTEN = (
    "4.3.5 dkimpipe: started by Postfix without recipients\n"
    "hint: in master.cf: argv=... -f ${sender} -- ${recipient}\n"
)


@pytest.mark.parametrize("mail_config", ["/etc/postfix", ""])
def test_postfix_without_recipients_would_lose_the_message(place: Place, mail_config: str) -> None:
    done = subprocess.run(
        with_senders(place),
        input=MESSAGE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"MAIL_CONFIG": mail_config},
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (TEMPORARY_FAILURE, RECIPIENTS_FORGOTTEN)


def test_postfix_with_recipients_has_one_pipe_too(place: Place, sendmail: FakeSendmail) -> None:
    done = subprocess.run(
        with_senders(place, "--sendmail", str(sendmail.path), "--syslog=no", *TO_BOB),
        input=MESSAGE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "MAIL_CONFIG": "/etc/postfix"},
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, LOG_LINE)
    assert is_signed(sendmail.message)


NOT_PIPE = {
    "two pipes": ("", {"MAIL_CONFIG": "/etc/postfix"}),
    "one pipe, no MAIL_CONFIG": ("2>&1", {}),
    "one file": (">FILE 2>&1; s=$?; cat FILE; exit $s", {"MAIL_CONFIG": "/etc/postfix"}),
    "stderr closed": ("2>&-", {"MAIL_CONFIG": "/etc/postfix"}),
    "another pipe": ("| cat", {"MAIL_CONFIG": "/etc/postfix"}),
}


@pytest.mark.parametrize(("redirection", "environment"), NOT_PIPE.values(), ids=NOT_PIPE)
def test_by_hand_no_recipients_are_needed(
    place: Place, redirection: str, environment: dict[str, str]
) -> None:
    redirection = redirection.replace("FILE", str(place.directory / "output"))
    command = ("sh", "-c", f'"$@" {redirection}', "sh")
    env = {**environment, "PATH": os.environ["PATH"]}
    done = run(*with_senders(place), command=command, env=env)
    assert done.status == 0
    assert is_signed(done.stdout.replace(LOG_LINE.encode(), b""))
