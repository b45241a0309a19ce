"""Many messages at once through a real Postfix, while processes are killed; and what has come of each."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import witness
from conftest import PROJECT, Keys

from postfix import FRAGMENTS, Postfix, Sink, shared_directory

PYTHON = "/usr/bin/python3"
LIMIT = 40_000_000  # octets of a message
TARGETS = ("python3", "pipe", "sendmail", "postdrop")
_HEADER = b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: number %d\r\nX-Number: %d\r\n"
_REST = b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <%d@example.com>\r\n\r\n"
_LINE = b"Some text as people write it, with  blanks, a little longer than half a line.\r\n"


def message(number: int, size: int) -> bytes:
    """Return a message of about this size, which tells its number."""
    head = _HEADER % (number, number) + _REST % number
    return head + _LINE * max(1, (size - len(head)) // len(_LINE)) + b"end of %d\r\n" % number


@dataclass
class Storm:
    """What was sent, and what was done meanwhile.

    ``tries``  how often the data of a message was sent: without an answer nobody knows what became of it
    """

    postfix: Postfix
    sink: Sink
    sizes: list[int]
    tries: Counter[int] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def submit_all(self, sessions: int) -> None:
        """Submit every message until it is taken, in so many sessions at once."""
        with ThreadPoolExecutor(sessions) as pool:
            list(pool.map(self._submit, range(len(self.sizes))))

    def _submit(self, number: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                self.tries[number] += 1
                octets = message(number, self.sizes[number])
                self.postfix.submit("alice@example.com", ["bob@example.net"], octets)
            except smtplib.SMTPResponseException as refusal:
                if refusal.smtp_code >= 500:
                    raise
                time.sleep(0.1)
            except ConnectionRefusedError:
                self.tries[number] -= 1
                time.sleep(0.1)
            except (OSError, smtplib.SMTPException):  # Postfix was stopped
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"message {number} is not taken")

    def kill(self, chance: random.Random, names: tuple[str, ...] = TARGETS) -> None:
        """Kill one of these processes, if there is one."""
        found = [process for process in self.postfix.processes() if process.name in names]
        if found:
            victim = chance.choice(found)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
                self.kills[victim.name] += 1

    def watch(self) -> None:
        """Note the most filters that there were at once, and their memory in MiB.

        Each is in a session of its own; for a moment a second process of it is about to become sendmail(1).
        """
        counts = Counter(name for name, _ in {(each.name, each.session) for each in self.postfix.processes()})
        for name, count in counts.items():
            self.most[name] = max(self.most[name], count)
        for process in self.postfix.processes():
            if process.name == "python3":
                with contextlib.suppress(OSError):
                    peak = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
                    self.most["memory"] = max(self.most["memory"], int(peak[1]) >> 10 if peak else 0)

    def run_dry(self, timeout: float) -> None:
        """Deliver what is in the queue."""
        deadline = time.monotonic() + timeout
        while self.postfix.has_mail():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still in the queue: {self.postfix.queue()}")
            self.postfix.flush(timeout)
            time.sleep(0.3)

    def verdict(self, keys: Keys) -> dict[str, int]:
        """Return what came of the messages: how many are missing, cut, unsigned, badly signed, doubled."""
        copies: Counter[int] = Counter()
        found = Counter(missing=0, cut=0, unsigned=0, invalid=0, surplus=0)
        arrived = list(self.sink.messages)
        verdicts = witness.dkimpy_verdicts([each.data for each in arrived], keys.records)
        for each, verdict in zip(arrived, verdicts):
            number = re.search(rb"(?m)^X-Number: (\d+)\r$", each.data)
            assert number, each.data[:500]
            copies[int(number[1])] += 1
            found["cut"] += not each.data.endswith(message(int(number[1]), self.sizes[int(number[1])]))
            found["unsigned"] += not verdict
            found["invalid"] += bool(verdict) and verdict != ["pass"]
        found["missing"] = sum(not copies[number] for number in range(len(self.sizes)))
        found["surplus"] = sum(max(0, copies[number] - self.tries[number]) for number in copies)
        return dict(found)


@contextlib.contextmanager
def storm(keys: Keys, sizes: list[int]) -> Iterator[Storm]:
    """Yield an instance that signs by the filter of this tree, and a sink."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(shared_directory())
        shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe")
        key = Path(shutil.copy(keys.path("rsa2048"), directory / "key.pem"))
        shutil.chown(key, group="nogroup")
        key.chmod(0o440)
        senders = directory / "senders"
        senders.write_text(f"example.com dkim(s=rsa2048,key={key})\n")
        os.utime(senders, (0, 0))
        argv = [PYTHON, "-IS", f"{directory}/dkimpipe/__main__.py", f"--sender_map={senders}"]
        (directory / "postfix").mkdir()
        (directory / "postfix").chmod(0o755)
        sink = stack.enter_context(Sink())
        shutil.copytree(FRAGMENTS, directory / "fragments")
        master = directory / "fragments/master.cf"
        text = master.read_text()
        assert text.count("message_size_limit=10223616") == 1
        master.write_text(text.replace("message_size_limit=10223616", f"message_size_limit={LIMIT - 16384}"))
        # For a minute, otherwise, qmgr(8) and master(8) leave a transport alone whose process was killed.
        patience = {"transport_retry_time": "2s", "service_throttle_time": "2s"}
        settings = {"message_size_limit": f"{LIMIT}", **patience}
        where = directory / "postfix"
        postfix = Postfix(where, argv, sink.port, extra_main=settings, fragments=directory / "fragments")
        yield Storm(stack.enter_context(postfix), sink, sizes)


def while_running(action: Callable[[], object], pause: float, work: Callable[[], object]) -> None:
    """Do something again and again, with a pause between, as long as some work takes."""
    over = threading.Event()

    def again() -> None:
        while not over.wait(pause):
            action()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()


def in_thread(action: Callable[[], object]) -> threading.Thread:
    """Begin something, and return the thread in which it runs."""
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def zombies() -> list[int]:
    """Return the processes of this machine that have ended, and that nobody has waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text(errors="replace").rpartition(") ")[2].startswith("Z"):
                found.append(int(path.parent.name))
    return found
