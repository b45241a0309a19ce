"""Each system call of the filter made to fail, once, by strace(1); and what has come of the message then."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conftest import INTERPRETER, MAIN, MESSAGE, Keys
from listener import Listener

# What each can fail with that a machine in trouble would give.
ERRORS = {
    "access": ("EACCES",),
    "alarm": (),
    "brk": (),  # it gives no error, but an address, and strace(1) cannot give another
    "clone": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN", "ENOMEM"),
    "close": ("EIO",),
    "connect": ("ECONNREFUSED", "ENOENT", "ETIMEDOUT"),
    "dup2": ("EBADF", "EMFILE"),
    "execve": ("ENOENT", "EACCES", "ENOMEM", "E2BIG"),
    "exit_group": (),
    "fcntl": ("EINVAL",),
    "fstat": ("EIO",),
    "ftruncate": ("EIO",),
    "futex": (),
    "getcwd": ("ENOENT",),
    "getdents64": ("EIO",),
    "getpid": (),
    "getppid": (),
    "getrandom": ("ENOSYS",),
    "getsockopt": ("EINVAL",),
    "ioctl": ("ENOTTY",),
    "lseek": ("EINVAL",),
    "lstat": ("EACCES",),
    "memfd_create": ("EMFILE", "ENOMEM"),
    "mmap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "munmap": ("ENOMEM",),
    "newfstatat": ("EACCES", "EIO"),
    "prlimit64": ("EPERM",),
    "pipe2": ("EMFILE", "ENFILE"),
    "openat": ("EMFILE", "EACCES", "ENOENT", "EIO"),
    "poll": ("ENOMEM",),
    "ppoll": ("ENOMEM",),
    "pread64": ("EIO",),
    "pwrite64": ("ENOSPC", "EIO"),
    "read": ("EIO",),
    "readlink": ("EACCES",),
    "recvfrom": ("ECONNRESET", "ETIMEDOUT"),
    "rt_sigaction": ("EINVAL",),
    "rt_sigprocmask": ("EINVAL",),
    "sendto": ("ECONNREFUSED", "ECONNRESET", "EPIPE"),
    "setsockopt": ("EINVAL",),
    "socket": ("EMFILE",),
    "stat": ("EIO",),
    "uname": ("EFAULT",),
    "vfork": ("EAGAIN", "ENOMEM"),
    "wait4": ("ECHILD",),
    "write": ("EIO", "ENOSPC", "EPIPE"),
}


EXPECTED = ("signed", "deferred", "sent, and deferred")


class Fault(NamedTuple):
    """The n-th call of this name, in the life of the process, fails with this error.

    ``late``: sendmail(1) runs by then, or has run, or the relay has the message.
    """

    call: str
    number: int
    error: str
    late: bool = False


class Place:
    """A filter with recipients, and a sendmail(1) that keeps what it gets."""

    handover = re.compile("wait4")  # the system call after which the message may have been sent

    def __init__(self, directory: Path, keys: Keys) -> None:
        self.sent = directory / "sent"
        sendmail = directory / "sendmail"
        sendmail.write_text(f"#!/bin/sh\nexec cat > {self.sent}\n")
        sendmail.chmod(0o755)
        senders = directory / "faulty-senders"
        senders.write_text(f"example.com dkim(t=no,s=rsa2048,key={keys.path('rsa2048')})\n")
        os.utime(senders, (0, 0))  # nobody is writing to it
        self.command = [INTERPRETER, "-IS", str(MAIN), f"--sender_map={senders}", f"--sendmail={sendmail}"]
        self.command += ["-f", "alice@example.com", "--", "bob@example.net"]
        self._trace = directory / "trace"

    def run(self, *strace: str) -> tuple[int, str, bytes | None]:
        """Run it under strace; return the exit status, what was said, and what was sent, if anything was."""
        self.sent.unlink(missing_ok=True)
        done = self.strace(*strace)
        return done.returncode, done.stderr.decode(), self.sent.read_bytes() if self.sent.exists() else None

    def strace(self, *options: str, message: bytes = MESSAGE) -> subprocess.CompletedProcess[bytes]:
        """Run it under strace, and no more."""
        command = ["strace", "-o", str(self._trace), *options, *self.command]
        return subprocess.run(command, input=message, capture_output=True, check=False, timeout=60)

    def faults(self) -> Iterator[Fault]:
        """Yield all that can fail from the first line of the filter to its end."""
        self.run()
        seen: Counter[str] = Counter()
        begun = late = False
        for line in self._trace.read_text().splitlines():
            call = re.match(r"\w+", line)
            if not call:
                continue
            if len(seen) or call[0] != "execve":  # the one that began it all is strace's own
                seen[call[0]] += 1
            begun = begun or '/dkimpipe/.."' in line  # the filter looks for its other files
            late = late or bool(self.handover.match(line))
            for error in ERRORS[call[0]] if begun else ():
                yield Fault(call[0], seen[call[0]], error, late)


class RelayPlace(Place):
    """A filter with recipients, and a relay that keeps what it accepts."""

    handover = re.compile(r'sendto\(\d+, "DKIM-Signature')

    def __init__(self, directory: Path, keys: Keys, listener: Listener) -> None:
        super().__init__(directory, keys)
        self._listener = listener
        self.command[4] = f"--relay={listener.address}"

    def run(self, *strace: str) -> tuple[int, str, bytes | None]:
        """Run it under strace; return the exit status, what was said, and what was accepted, if anything."""
        done = self.strace(*strace)
        accepted = self.accepted()
        return done.returncode, done.stderr.decode(), b"".join(accepted) if accepted else None

    def accepted(self) -> list[bytes]:
        """Return the messages that the relay has accepted since it was asked last, as LF text."""
        self._listener.finish()
        mails = [mail.text.replace(b"\r\n", b"\n") for mail in self._listener.mails if mail.accepted]
        self._listener.mails.clear()
        return mails


def outcome(place: Place, fault: Fault, whole: bytes) -> str:
    """Return what came of a message: ``signed``, ``deferred``, or both; otherwise what is wrong with that.

    ``whole``: what is sent where nothing fails.
    """
    injected = f"inject={fault.call}:error={fault.error}:when={fault.number}"
    status, said, sent = place.run("-e", f"trace={fault.call}", "-e", injected)
    if status == 0 and sent == whole:
        return "signed"
    if status == 75 and sent is None and re.match(r"4\.[34]\.\d dkimpipe: [^\n]+\n", said):
        return "deferred" if "Traceback" not in said else f"traceback: {said}"
    if status == 75 and sent == whole and fault.late:
        return "sent, and deferred"  # whether it was read cannot be seen, so it is sent again
    return f"status {status}, {'nothing' if sent is None else len(sent)} sent, said {said!r}"
