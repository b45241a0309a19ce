"""The filter run from a command line, and what is said and done."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import pytest
from conftest import MAIN, MESSAGE, PROJECT, Done, Keys, settled

PYTHON = sys.executable
BY_PATH = (PYTHON, "-IS", str(MAIN))
AS_MODULE = (PYTHON, "-m", "dkimpipe")
AS_SCRIPT = (PYTHON, "-c", "import sys; from dkimpipe.command import main; sys.exit(main())")
TEMPORARY_FAILURE = 75
LOG_LINE = "dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; from=Alice <alice@example.com>\n"
UNSIGNED = MESSAGE.replace(b"example.com", b"example.org")
TO_BOB = ("-f", "alice@example.com", "--", "bob@example.net")
TIMEOUT = 60

Word = Union[str, bytes]


class Place(NamedTuple):
    """A directory of a test's own, and a senders file that signs for example.com."""

    directory: Path
    senders: Path

    def file(self, name: str, octets: bytes, mode: int = 0o644) -> Path:
        """Return a new file."""
        path = self.directory / name
        path.write_bytes(octets)
        path.chmod(mode)
        return path


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Place:
    senders = tmp_path / "senders"
    senders.write_text(f"example.com dkim(s=rsa2048,key={keys.path('rsa2048')})\n")
    return Place(tmp_path, settled(senders))


def run(
    *arguments: Word,
    message: bytes = MESSAGE,
    command: Sequence[Word] = BY_PATH,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    limits: Callable[[], None] | None = None,
) -> Done:
    """Run the filter; ``env`` is all of its environment, ``limits`` runs in the new process."""
    done = subprocess.run(
        [*command, *arguments],
        input=message,
        capture_output=True,
        env={"PYTHONPATH": str(PROJECT), **os.environ} if env is None else env,
        cwd=cwd,
        preexec_fn=limits,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def with_senders(place: Place, *arguments: Word) -> list[Word]:
    """Return the command line of a filter that finds its senders file."""
    return [*BY_PATH, "--sender_map", str(place.senders), *arguments]


def in_process(program: str) -> tuple[str, ...]:
    """Return a command that sets what a test must bend, and then is the filter."""
    return (
        PYTHON,
        "-ISc",
        f"import sys; sys.path.append({str(PROJECT)!r})\n{program}\n"
        "from dkimpipe.command import main\nraise SystemExit(main(sys.argv[1:]))",
    )


def new_fields(output: bytes, message: bytes) -> bytes:
    """Return what stands in the output above the message, which must be there to the last octet."""
    assert output.endswith(message)
    return output[: len(output) - len(message)]


def is_signed(output: bytes, message: bytes = MESSAGE) -> bool:
    """Tell whether this is the message, whole, with one new signature on top and nothing else."""
    field = rb"DKIM-Signature: v=1;[^\n]*\n(?: [^\n]+\n)*"
    return re.fullmatch(field, new_fields(output, message)) is not None


def without_time(output: bytes) -> bytes:
    """Return signed mail without what the time of signing makes: the values of t= and b=."""
    return re.sub(
        rb"(?s)\bb=[^:]*?(?=\n[^ ])", b"b=", re.sub(rb"\bt=[0-9]+", b"t=", output, count=1), count=1
    )


def assert_deferred(done: Done, begin: str = "4.3.") -> None:
    """The mail stays in the queue, nothing has left, and the first output is what pipe(8) reads."""
    assert done.stderr.startswith(begin)
    assert re.match(r"4\.3\.[0-5] dkimpipe: [^\n]+\n", done.stderr)
    assert "Traceback" not in done.stderr
    assert (done.status, done.stdout) == (TEMPORARY_FAILURE, b"")


FROM = "from=Alice <alice@example.com>"


# Descriptors


def shell(command: Sequence[Word], redirection: str, message: bytes = MESSAGE) -> Done:
    """Run a command as sh(1) redirects it."""
    return run(*command, message=message, command=("sh", "-c", f'"$@" {redirection}', "sh"))


# Signals and time


def wait_until_read(pipe: int) -> None:
    """Wait until the reader has taken all that is in a pipe."""
    deadline = time.monotonic() + TIMEOUT
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.02)


# Limits


def limit(what: int, amount: int) -> Callable[[], None]:
    """Return what sets a resource limit in a new process."""
    return lambda: resource.setrlimit(what, (amount, amount))


ROOT = os.geteuid() == 0


# Surroundings

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "empty": {},
    "C": {"LC_ALL": "C", "LANG": "C"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "unknown locale": {"LC_ALL": "xx_XX.latin1"},
    "no home, no path": {"HOME": "/nonexistent", "PATH": ""},
    "Python's own": {"PYTHONSTARTUP": "/nonexistent", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"},
}


# With recipients


class FakeSendmail(NamedTuple):
    """Stands for sendmail(1): it writes down its arguments and its standard input, and ends as told."""

    path: Path

    @property
    def ran(self) -> bool:
        return (self.path.parent / "arguments").exists()

    @property
    def arguments(self) -> list[bytes]:
        return (self.path.parent / "arguments").read_bytes().split(b"\0")[:-1]

    @property
    def message(self) -> bytes:
        return (self.path.parent / "message").read_bytes()

    def ends(self, command: str) -> None:
        """Let it end so, when it has read everything."""
        script = f'd={self.path.parent}\nprintf "%s\\0" "$@" >$d/arguments\ncat >$d/message\n{command}\n'
        self.path.write_text(f"#!/bin/sh\n{script}")
        self.path.chmod(0o755)


@pytest.fixture
def sendmail(tmp_path: Path) -> FakeSendmail:
    directory = tmp_path / "sendmail"
    directory.mkdir()
    fake = FakeSendmail(directory / "sendmail")
    fake.ends("exit 0")
    return fake


def reinject(
    place: Place,
    sendmail: FakeSendmail,
    *arguments: Word,
    message: bytes = MESSAGE,
    command: Sequence[Word] = BY_PATH,
) -> Done:
    """Run the filter as pipe(8) does, but with a sendmail(1) of our own."""
    options = ("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), "--syslog=no")
    return run(*options, *arguments, message=message, command=command)


def of_size(size: int, line_end: bytes = b"\n") -> bytes:
    """Return a message of so many octets, of which no two chunks are the same."""
    start = MESSAGE.replace(b"\n", line_end)
    lines = [b"line %d of a body \t " % number + line_end for number in range((size - len(start)) // 20)]
    return (start + b"".join(lines))[: size - 1].ljust(size - 1, b"x") + b"\n"
