"""Exit status 0 means that sendmail(1) has read the whole message, whatever became of its standard input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import INTERPRETER, MAIN, PROJECT, Done

from postfix import shared_directory

SIGNER = ("--sender_map=/dev/null",)
VERIFIER = ("verify", "--hostname=mx.example.com")
FILTER = (INTERPRETER, "-IS", str(MAIN))
TO_BOB = ("-f", "", "--", "bob@example.net")
HINT = "run dkimpipe check as root: it reports what SELinux denies\n"

# What becomes of standard input, as commands of a shell that stands for sendmail(1), and of N octets how
# many it leaves unread. Under SELinux the kernel opens the null device in its place.
SHIMS: dict[str, tuple[str, Callable[[int], int]]] = {
    "the null device": ("exec </dev/null; cat >message", lambda n: n),
    "closed": ("exec <&-", lambda n: n),
    "another file": ("exec <$0; cat >message", lambda n: n),
    "nothing read": (":", lambda n: n),
    "half read": ("head -c $((N / 2)) >message", lambda n: n - n // 2),
    "one octet unread": ("head -c $((N - 1)) >message", lambda n: 1),
}
PIPE = "pipe:"
SMALL = 4 * 65536 - 1  # at most so much is read ahead, and goes through a pipe
SIZES = [1, 4096, 4097, 65535, 65536, 65537, SMALL, SMALL + 1, (1 << 20) + 1, 3_000_000]


class Shim(NamedTuple):
    """A program in place of sendmail(1). It writes down what its standard input is, and how it was opened."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "sendmail"

    @property
    def read(self) -> bytes:
        return (self.directory / "message").read_bytes()

    @property
    def stdin(self) -> str:
        return (self.directory / "stdin").read_text().strip()

    @property
    def flags(self) -> int:
        words = (self.directory / "fdinfo").read_text().split()
        return int(words[words.index("flags:") + 1], 8)

    def write(self, commands: str, size: int = 0) -> None:
        lines = ["#!/bin/sh", f"cd {self.directory}", f"N={size}"]
        lines += ["readlink /proc/$$/fd/0 >stdin; cat /proc/$$/fdinfo/0 >fdinfo", commands, "exit 0"]
        self.path.write_text("\n".join(lines) + "\n")
        self.path.chmod(0o755)


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


def hand_over(
    shim: Shim, message: bytes, options: Sequence[str] = SIGNER, command: Sequence[str] = FILTER
) -> Done:
    arguments = [*options, f"--sendmail={shim.path}", "--syslog=no", *TO_BOB]
    done = subprocess.run(
        [*command, *arguments], input=message, capture_output=True, timeout=60, check=False, cwd="/"
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def of_size(size: int) -> bytes:
    """Return a message of so many octets that nobody signs."""
    return (b"\n" + b"0123456789abcde\n" * (size // 16 + 1))[:size]


def left(shim: Shim, octets: int) -> str:
    cause = f"{shim.path} did not read the whole message: {octets} bytes are left"
    return f"4.3.0 dkimpipe: {cause}\nhint: {HINT}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SHIMS)
def test_what_was_not_read_is_deferred(shim: Shim, name: str, size: int) -> None:
    commands, unread = SHIMS[name]
    shim.write(commands, size)
    assert hand_over(shim, of_size(size)) == (75, b"", left(shim, unread(size)))


@pytest.mark.parametrize("size", SIZES)
def test_what_was_read_whole_is_sent(shim: Shim, size: int) -> None:
    shim.write("cat >message")
    assert hand_over(shim, of_size(size)) == (0, b"", "dkimpipe: not signed: no From field\n")
    assert shim.read == of_size(size)
    assert shim.stdin.startswith(PIPE if size <= SMALL else "/var/tmp/#")
    assert shim.flags & os.O_ACCMODE == os.O_RDONLY


@pytest.mark.parametrize("name", SHIMS)
@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_the_verifier_is_as_careful(shim: Shim, name: str, size: int) -> None:
    commands, _ = SHIMS[name]
    shim.write(commands, size)
    done = hand_over(shim, of_size(size), VERIFIER, (sys.executable, "-I", str(MAIN)))
    assert (done.status, done.stdout) == (75, b"")
    assert " bytes are left\n" in done.stderr


@pytest.mark.parametrize(("commands", "status"), [("cat >message", 0), ("head -c 99999999 >message", 75)])
def test_100_mb(shim: Shim, commands: str, status: int) -> None:
    message = of_size(100_000_000)
    shim.write(commands)
    done = hand_over(shim, message)
    assert done.status == status
    assert (shim.read == message) is (status == 0)


def test_a_signed_message_is_left_unread_too(shim: Shim) -> None:
    """New fields and message are one: what is left is counted over both."""
    shim.write("head -c 20 >message")
    message = b"Authentication-Results: mx.example.com; none\nFrom: a@example.org\n\n" + of_size(1000)
    done = hand_over(shim, message, VERIFIER, (sys.executable, "-I", str(MAIN)))
    assert done.status == 75
    assert shim.read == b"Authentication-Resul"


# The kernel gives small pipes to a user who has many (pipe(7), pipe-user-pages-soft).

MANY_PIPES = """
import fcntl, os, subprocess, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
pipes = []
for size in 1 << 20, 1 << 16:
    for _ in range(100):
        pipes.append(os.pipe())
        try:
            fcntl.fcntl(pipes[-1][1], 1031, size)  # F_SETPIPE_SZ
        except PermissionError:
            break
pipes.append(os.pipe())
print(fcntl.fcntl(pipes[-1][1], 1032), file=sys.stderr, flush=True)  # F_GETPIPE_SZ
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
can_be_somebody_else = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


@can_be_somebody_else
@pytest.mark.parametrize("size", [1000, 4096, 4097, 8192, 8193, 65536, 200_000])
def test_a_user_with_many_pipes(size: int) -> None:
    with shared_directory() as directory:
        directory.chmod(0o777)
        shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe", ignore=shutil.ignore_patterns("admin"))
        shim = Shim(directory)
        shim.write("cat >message")
        command = ("/usr/bin/python3", "-c", MANY_PIPES, "/usr/bin/python3", "-IS")
        done = hand_over(shim, of_size(size), command=(*command, f"{directory}/dkimpipe/__main__.py"))
        capacity, _, said = done.stderr.partition("\n")
        assert (done.status, said) == (0, "dkimpipe: not signed: no From field\n")
        assert int(capacity) <= 8192
        assert shim.read == of_size(size)
        assert shim.stdin.startswith(PIPE if size <= int(capacity) else "/var/tmp/#")


def bent(program: str) -> tuple[str, ...]:
    """Return the filter with something in it replaced first."""
    code = f"import sys; sys.path.append({str(PROJECT)!r})\n{program}\n"
    return (INTERPRETER, "-ISc", f"{code}from dkimpipe.command import main; sys.exit(main())")


@pytest.mark.parametrize("size", [1000, 65537, 3_000_000])
@pytest.mark.parametrize("program", ["memfd_create", "open"])
def test_without_proc_the_file_itself_is_handed_over(shim: Shim, size: int, program: str) -> None:
    """Without a pipe, too; and without a directory it is a file in memory."""
    replaced = {
        "memfd_create": "from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ()",
        "open": (
            "import posix; real = posix.open\n"
            "def no_proc(path, *rest):\n"
            " if path.startswith('/proc/self/fd'): raise FileNotFoundError(2, path)\n"
            " return real(path, *rest)\n"
            "posix.open = no_proc"
        ),
    }[program]
    no_pipe = "from dkimpipe import spool; spool._filled_pipe = lambda octets: None"
    shim.write("cat >message")
    assert hand_over(shim, of_size(size), command=bent(f"{replaced}\n{no_pipe}")).status == 0
    assert shim.read == of_size(size)
    shim.write("head -c 999 >message")
    done = hand_over(shim, of_size(size), command=bent(f"{replaced}\n{no_pipe}"))
    assert (done.status, done.stderr) == (75, left(shim, size - 999))


# /var/tmp as it may be, in a mount namespace


def _namespaces() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


FULL = (
    "4.3.1 dkimpipe: cannot spool the message in /var/tmp: No space left on device\n"
    "hint: free space there (df -h /var/tmp), then run postqueue -f\n"
)
DISKS = {
    "read-only": ("mount -t tmpfs -o ro none /var/tmp", "/tmp/#"),
    "noexec": ("mount -t tmpfs -o noexec,nosuid,nodev none /var/tmp", "/var/tmp/#"),
    "missing": ("mount -t tmpfs none /var", "/tmp/#"),
    "not writable": ("mount -t tmpfs -o mode=0,ro none /var/tmp", "/tmp/#"),
    "full": ("mount -t tmpfs -o size=64k none /var/tmp", ""),
    "no inodes": ("mount -t tmpfs -o nr_inodes=1 none /var/tmp", "/tmp/#"),
    "no file without a name": ("mount -t proc none /var/tmp", "/tmp/#"),
}


@pytest.mark.skipif(not _namespaces(), reason="needs root and mount namespaces")
@pytest.mark.parametrize(("mount", "place"), DISKS.values(), ids=DISKS)
def test_the_state_of_var_tmp(shim: Shim, mount: str, place: str) -> None:
    command = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *FILTER)
    shim.write("cat >message")
    done = hand_over(shim, of_size(3_000_000), command=command)
    if place:
        assert (done.status, shim.read == of_size(3_000_000)) == (0, True)
        assert shim.stdin.startswith(place)
    else:
        assert done == (75, b"", FULL)
    assert hand_over(shim, of_size(SMALL), command=command).status == 0  # needs no disk
    assert shim.read == of_size(SMALL)
