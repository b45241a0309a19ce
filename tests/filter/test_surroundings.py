"""Descriptors, signals, time, limits and the environment: whatever they are, no mail is lost."""

from __future__ import annotations

import configparser
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import witness
from commandline import (
    AS_MODULE,
    AS_SCRIPT,
    BY_PATH,
    ENVIRONMENTS,
    LOG_LINE,
    PYTHON,
    ROOT,
    TEMPORARY_FAILURE,
    TIMEOUT,
    TO_BOB,
    UNSIGNED,
    FakeSendmail,
    Place,
    assert_deferred,
    in_process,
    is_signed,
    limit,
    of_size,
    run,
    shell,
    wait_until_read,
    with_senders,
)
from conftest import MAIN, MESSAGE, PROJECT, Done, Keys

REDIRECTIONS = {
    "stdin closed": ("<&-", "cannot read standard input: Bad file descriptor"),
    "stdin write-only": ("0>/dev/null", "cannot read standard input: Bad file descriptor"),
    "stdout closed": (">&-", "cannot write to standard output: Bad file descriptor"),
    "stdout full": (">/dev/full", "cannot write to standard output: No space left on device"),
    "stdout read-only": ("1</dev/null", "cannot write to standard output: Bad file descriptor"),
    "stdin and stdout closed": ("<&- >&-", "cannot read standard input: Bad file descriptor"),
}


@pytest.mark.parametrize(("redirection", "cause"), REDIRECTIONS.values(), ids=REDIRECTIONS)
def test_input_and_output_that_fail_defer(place: Place, redirection: str, cause: str) -> None:
    done = shell(with_senders(place), redirection)
    assert_deferred(done)
    assert done.stderr == f"4.3.0 dkimpipe: {cause}\n"


def test_an_error_of_input_is_no_end_of_input(place: Place) -> None:
    with socket.socket() as unconnected:
        done = subprocess.run(
            with_senders(place), stdin=unconnected.fileno(), capture_output=True, timeout=TIMEOUT, check=False
        )
    cause = b"4.3.0 dkimpipe: cannot read standard input: Transport endpoint is not connected\n"
    assert (done.returncode, done.stdout, done.stderr) == (TEMPORARY_FAILURE, b"", cause)


@pytest.mark.parametrize("message", [MESSAGE, UNSIGNED], ids=["to be signed", "not to be signed"])
def test_all_three_closed_is_status_75(place: Place, message: bytes) -> None:
    done = shell(with_senders(place), "<&- >&- 2>&-", message)
    assert done == (TEMPORARY_FAILURE, b"", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2</dev/null"])
def test_a_lost_log_line_spoils_nothing(place: Place, redirection: str) -> None:
    done = shell(with_senders(place), redirection)
    assert (done.status, done.stderr) == (0, "")
    assert is_signed(done.stdout)


def test_stdout_and_stderr_closed_is_status_75(place: Place) -> None:
    assert shell(with_senders(place), ">&- 2>&-") == (TEMPORARY_FAILURE, b"", "")


@pytest.mark.parametrize("size", [0, 1 << 21], ids=["small", "large"])
def test_a_reader_that_is_gone_defers(place: Place, size: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        with_senders(place),
        input=MESSAGE + b"x\n" * (size // 2),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(writer)
    expected = b"4.3.0 dkimpipe: cannot write to standard output: Broken pipe\n"
    assert (done.returncode, done.stderr) == (TEMPORARY_FAILURE, expected)


def test_a_slow_reader_gets_all_of_it(place: Place) -> None:
    message = MESSAGE + b"0123456789\n" * 60000
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        with_senders(place), stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        assert process.stdin
        process.stdin.write(message)
        process.stdin.close()
        time.sleep(0.2)  # the pipe is full by now
        output = b""
        while chunk := os.read(reader, 4000):
            output += chunk
            if len(output) < 100000:
                time.sleep(0.002)
        os.close(reader)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr
        assert process.stderr.read().decode() == LOG_LINE
    assert is_signed(output, message)


def test_a_slow_writer_is_waited_for(place: Place) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(
        with_senders(place), stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(reader)
        for octets in (MESSAGE[:10], MESSAGE[10:11], MESSAGE[11:]):
            time.sleep(0.1)
            os.write(writer, octets)
        os.close(writer)
        output, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, said.decode()) == (0, LOG_LINE)
    assert is_signed(output)


def test_files_of_the_caller_are_left_alone(place: Place) -> None:
    """A log file that stands at a low descriptor of the caller gets nothing of the message."""
    other = place.file("other", b"untouched\n")
    done = shell(with_senders(place), f"2>&- 3<>{other}")
    assert done.status == 0
    assert other.read_bytes() == b"untouched\n"


def test_an_interrupt_defers(place: Place) -> None:
    with subprocess.Popen(
        with_senders(place), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=TIMEOUT)
    assert_deferred(Done(process.returncode, output, said.decode()), "4.3.0 dkimpipe: ")


# Interrupts before the Nth line of __main__.py that is run, from the first one after the imports of modules.
INTERRUPTING = """
import runpy, sys
count = [0]
def at_line(frame, event, argument):
    if event == "line" and frame.f_lineno > first:
        count[0] += 1
        if count[0] == wanted: raise KeyboardInterrupt
    return at_line
def at_call(frame, event, argument):
    return at_line if frame.f_code.co_filename == path and frame.f_code.co_name == "<module>" else None
path, wanted = sys.argv[1], int(sys.argv[2])
first = open(path).read().partition("\\ntry:")[0].count("\\n") + 2
sys.argv[1:] = ["--version"]
sys.settrace(at_call)
runpy.run_path(path, run_name="__main__")
"""


def test_an_interrupt_while_it_starts_shows_no_traceback() -> None:
    for number in range(1, 50):
        command = [PYTHON, "-c", INTERRUPTING, str(MAIN), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            break
        assert (done.returncode, done.stderr) == (75, "4.3.0 dkimpipe: KeyboardInterrupt()\n")
    assert number > 7
    assert done.stdout.startswith("dkimpipe ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_that_ends_it_leaves_nothing_behind(
    place: Place, sendmail: FakeSendmail, number: signal.Signals
) -> None:
    arguments = with_senders(place, "--sendmail", str(sendmail.path), *TO_BOB)
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        process.send_signal(number)
        output, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output, said) == (-number, b"", b"")
    assert not sendmail.ran


OUT_OF_TIME = "4.3.0 dkimpipe: timed out after 1 seconds\n"
SHORT = in_process("from dkimpipe import guard; guard.TIME_LIMIT = 1")


@pytest.fixture
def endless() -> Iterator[int]:
    """The reading end of a pipe into which half a message was written, and nothing follows."""
    reader, writer = os.pipe()
    os.write(writer, MESSAGE)
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("options", [(), TO_BOB], ids=["stdout", "sendmail"])
def test_input_without_end_is_out_of_time(
    place: Place, endless: int, sendmail: FakeSendmail, options: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*SHORT, "--sender_map", place.senders, "--sendmail", sendmail.path, *options],
        stdin=endless,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.decode()) == (TEMPORARY_FAILURE, b"", OUT_OF_TIME)
    assert not sendmail.ran


def test_a_reader_that_does_not_read_is_out_of_time(place: Place) -> None:
    reader, writer = os.pipe()
    done = subprocess.run(
        [*SHORT, "--sender_map", place.senders],
        input=MESSAGE + b"x\n" * 100000,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (TEMPORARY_FAILURE, OUT_OF_TIME)


def test_sendmail_that_hangs_is_killed(place: Place) -> None:
    hangs = place.file("hangs", b"#!/bin/sh\nexec sleep 20\n", 0o755)
    done = run("--sender_map", str(place.senders), "--sendmail", str(hangs), *TO_BOB, command=SHORT)
    assert (done.status, done.stdout, done.stderr) == (TEMPORARY_FAILURE, b"", OUT_OF_TIME)


def test_sendmail_that_finishes_as_time_runs_out_has_sent_it(place: Place) -> None:
    """The alarm comes when sendmail(1) is done already, but has not been waited for."""
    sends = place.file("sends", b"#!/bin/sh\ncat >/dev/null\n", 0o755)
    late = in_process(
        "from dkimpipe import guard; import posix, time; wait = posix.waitpid\n"
        "def late(child, options):\n"
        " posix.waitpid = wait; time.sleep(0.5); guard._out_of_time(0, None)\n"
        "posix.waitpid = late"
    )
    done = run("--sender_map", str(place.senders), "--sendmail", str(sends), *TO_BOB, command=late)
    assert (done.status, done.stdout, done.stderr) == (0, b"", LOG_LINE)


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE], ids=lambda n: n.name)
def test_a_signal_that_the_parent_ignored_changes_nothing(place: Place, number: signal.Signals) -> None:
    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    done = run("--sender_map", str(place.senders), limits=ignore)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


def assert_signed_or_deferred(done: Done, message: bytes = MESSAGE) -> None:
    """Whatever the limit, no mail leaves unsigned, none is lost and none bounces."""
    if done.status == 0:
        assert done.stderr == LOG_LINE
        assert is_signed(done.stdout, message)
    else:
        assert_deferred(done)


@pytest.mark.parametrize("amount", range(4, 13))
def test_too_few_descriptors(place: Place, amount: int) -> None:
    done = run("--sender_map", str(place.senders), limits=limit(resource.RLIMIT_NOFILE, amount))
    assert_signed_or_deferred(done)


def test_too_little_memory(place: Place) -> None:
    """From the least memory in which the interpreter compiles a program of our size, up to enough."""
    program = (
        f"__file__ = ''\n{MAIN.read_text().partition('try:')[0]}\nimport time, binascii\nx = [0] * 20000\n"
    )
    least = 0
    statuses = []
    for megabytes in range(8, 400):
        limits = limit(resource.RLIMIT_AS, megabytes << 20)
        if not least and run(command=(PYTHON, "-IS", "-c", program), limits=limits).status:
            continue
        least = least or megabytes
        done = run("--sender_map", str(place.senders), limits=limits)
        assert_signed_or_deferred(done)
        statuses.append(done.status)
        if statuses[-3:] == [0, 0, 0]:
            break
    assert statuses[-3:] == [0, 0, 0]


def test_memory_does_not_grow_with_the_message(place: Place) -> None:
    message = MESSAGE + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n" * (1 << 20)
    done = run(
        "--sender_map", str(place.senders), message=message, limits=limit(resource.RLIMIT_AS, 60 << 20)
    )
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout, message)


@pytest.mark.parametrize("amount", [0, 100, 1 << 20, 5 << 20])
def test_a_limit_on_the_size_of_files(place: Place, amount: int) -> None:
    message = MESSAGE + b"0123456789abcdef\n" * 400000
    done = run(
        "--sender_map", str(place.senders), message=message, limits=limit(resource.RLIMIT_FSIZE, amount)
    )
    assert_deferred(done)
    assert done.stderr == ("4.3.1 dkimpipe: cannot spool the message in /var/tmp: File too large\n")


def test_a_limit_on_the_size_of_files_stops_output_to_a_file(place: Place) -> None:
    """The spool stays below the limit; the file that the message is added to does not."""
    output = place.file("output", b"\n" * (4 << 20))
    done = run(
        *with_senders(place),
        message=of_size(400000),
        command=("sh", "-c", f'"$@" >>{output}', "sh"),
        limits=limit(resource.RLIMIT_FSIZE, (4 << 20) + 200000),
    )
    assert_deferred(done)
    assert done.stderr == "4.3.0 dkimpipe: cannot write to standard output: File too large\n"


NO_CHILDREN = (
    *("setpriv", "--ruid=65534", "--bounding-set=-sys_admin,-sys_resource"),
    *("prlimit", "--nproc=0"),
)
can_forbid_children = pytest.mark.skipif(
    not (ROOT and shutil.which("setpriv") and shutil.which("prlimit")),
    reason="needs root, setpriv and prlimit",
)


@can_forbid_children
def test_no_other_process_is_needed(place: Place, keys: Keys) -> None:
    done = run("--sender_map", str(place.senders), command=(*NO_CHILDREN, *BY_PATH))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


A_CLASS = re.compile(r"\b[A-Z][A-Za-z]*(Error|Interrupt)\b|\.py, line")


def test_without_library_and_package_it_defers_and_tells_in_words(place: Place) -> None:
    command = in_process("from dkimpipe import libcrypto; libcrypto._NAMES = ('no-such-library.so',)")
    done = run("--sender_map", str(place.senders), command=command)
    assert_deferred(done)
    assert not A_CLASS.search(done.stderr), done.stderr
    assert done.stderr == (
        "4.3.0 dkimpipe: cannot sign with libcrypto: no-such-library.so: cannot open shared object file: "
        "No such file or directory\n"
        "hint: apt install openssl, or install the Python package cryptography\n"
    )


def test_too_few_descriptors_are_told_in_words(place: Place) -> None:
    options = ("--sender_map", str(place.senders), "--sendmail=/bin/true", "--syslog=no", *TO_BOB)
    done = run(*options, limits=limit(resource.RLIMIT_NOFILE, 4))
    assert_deferred(done)
    assert done.stderr == "4.3.1 dkimpipe: cannot write the message to a pipe: Too many open files\n"


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_the_environment_changes_nothing(
    place: Place, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    env = {**environment, "PYTHONPATH": str(PROJECT)} if command == AS_MODULE else environment
    message = "From: Ålice <alice@example.com>\nSubject: ☃\n\n☃ \n".encode() + b"\xff\n"
    done = run("--sender_map", str(place.senders), message=message, command=command, env=env)
    line = "dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; from=Ålice <alice@example.com>\n"
    assert (done.status, done.stderr) == (0, line)
    assert is_signed(done.stdout, message)


@pytest.mark.parametrize("command", [AS_MODULE, AS_SCRIPT], ids=["-m", "console script"])
def test_each_way_to_start_it_is_the_same(place: Place, command: tuple[str, ...]) -> None:
    done = run("--sender_map", str(place.senders), command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)
    assert_deferred(run("--frobnicate", command=command), "4.3.5 dkimpipe: unknown option '--frobnicate'\n")


def test_the_console_script_is_the_main_function() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert "dkimpipe = dkimpipe.command:main" in scripts


def test_a_directory_that_cannot_be_written_is_no_hindrance(place: Place) -> None:
    cwd = place.directory / "cwd"
    cwd.mkdir(mode=0o555)
    message = MESSAGE + b"0123456789\n" * 200000
    for directory in (cwd, "/proc"):
        done = run("--sender_map", str(place.senders), message=message, cwd=directory)
        assert (done.status, done.stderr) == (0, LOG_LINE)
        assert is_signed(done.stdout, message)
    assert not list(cwd.iterdir())


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_a_directory_that_was_removed_is_no_hindrance(place: Place, command: tuple[str, ...]) -> None:
    gone = place.directory / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = run(*("--sender_map", str(place.senders)), command=("sh", "-c", script, "sh", str(gone), *command))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


def test_a_module_in_the_directory_is_not_taken(place: Place) -> None:
    """Whoever can write where the filter is started cannot make it run their code."""
    for name in ("sys", "posix", "time", "syslog", "binascii", "dkimpipe", "hashlib", "cryptography"):
        place.file(f"{name}.py", b"raise SystemExit('taken')\n")
    done = run("--sender_map", str(place.senders), "--syslog", "--verbose", cwd=place.directory)
    assert done.status == 0
    assert is_signed(done.stdout)


def test_no_file_is_left_behind(place: Place) -> None:
    spools = place.directory / "spools"
    spools.mkdir()
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(spools)!r},)")
    done = run("--sender_map", str(place.senders), message=of_size(2 << 20), command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert not list(spools.iterdir())
