"""Through a real Postfix: how many messages a second, what each costs, how long one alone takes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from figures import Series
from load import Group
from processes import PROJECT, Place
from progress import Progress

from postfix import FRAGMENTS, Postfix, Sink

MESSAGES, SESSIONS, ALONE, WARM = 120, 4, 8, 20
TIMEOUT = 120  # seconds
# On a machine that others use, too: what they may take of it, how often it is looked at before, and how often
# the same is measured.
QUIET, PATIENCE, TRIALS = 0.05, 8, 2


class Way(NamedTuple):
    """A way through Postfix.

    ``argv``      the filter, nothing for none
    ``settings``  of the service where mail comes in, in the place of the filter's
    ``services``  further lines of master.cf
    ``daemon``    a command that must run meanwhile, and the port that it listens on
    ``apply``     options of ``dkimpipe postfix``, which then completes the settings; nothing: it is not run
    ``inbound``   the message that comes in on port 25; none: mail comes in by submission
    ``mark``      what a message has at the end, and none has at the end of a way without it
    """

    argv: list[str]
    settings: str = ""
    services: str = ""
    daemon: tuple[list[str], int] | None = None
    apply: tuple[str, ...] = ()
    inbound: Path | None = None
    mark: bytes = b""


class Load(NamedTuple):
    """What is sent: messages, at once, and the recipients of each."""

    messages: int = MESSAGES
    sessions: int = SESSIONS
    recipients: int = 1
    alone: int = ALONE  # messages, afterwards, one by one


class Measurement:
    """Ways in turn, each with an instance of Postfix of its own."""

    def __init__(self, place: Place, sink: Sink, group: Group, progress: Progress) -> None:
        self._place, self._sink, self._group, self._progress = place, sink, group, progress

    def figures(
        self, ways: Mapping[str, Way], loads: Mapping[str, Load], rounds: int, part: str
    ) -> dict[str, Series]:
        """Return what each way costs under each load, by the names of both."""
        instances = {
            name: _instance(self._place, f"{part}-{name}", way, self._sink) for name, way in ways.items()
        }
        most = max(load.sessions for load in loads.values())
        warm = Load(max(WARM, 2 * most), most)  # then all processes are there
        figures: dict[str, Series] = {}
        for number, (name, way) in itertools.product(range(1, rounds + 1), ways.items()):
            with _daemon(way), instances[name]:
                source = _Source(way, instances[name], self._sink)
                source.send(warm)
                source.refuse_unmarked(name, {each.mark for each in ways.values()} - {b""})
                for label, load in loads.items():
                    self._progress(f"round {number} of {rounds}: {name}{label}")
                    series = figures.setdefault(name + label, {})
                    for unit, each in self._undisturbed(source, load).items():
                        series.setdefault(unit, []).append(each)
        return figures

    def _undisturbed(self, source: _Source, load: Load) -> dict[str, float]:
        """Measure when the machine is quiet; if others began meanwhile, again. Return the quietest."""
        costs = []
        for _ in range(TRIALS):
            self._wait_for_quiet()
            costs.append(self._cost(source, load))
            if costs[-1]["others"] <= QUIET:
                break
        return min(costs, key=lambda cost: cost["others"])

    def _cost(self, source: _Source, load: Load) -> dict[str, float]:
        """Return messages a second, CPU seconds of one, seconds of one alone, and the share of others."""
        clock = self._group.clock()
        rate = load.messages / source.send(load)
        cost = {"rate": rate, "cpu": clock.load().ours / load.messages}
        if load.alone:
            cost["latency"] = median(source.send(Load(1, 1)) for _ in range(load.alone))
        return {**cost, "others": clock.load().others}

    def _wait_for_quiet(self) -> None:
        for _ in range(PATIENCE):
            clock = self._group.clock()
            time.sleep(0.25)
            if clock.load().others <= QUIET:
                break


class _Source:
    """Sends mail into one way, and sees it arrive."""

    def __init__(self, way: Way, instance: Postfix, sink: Sink) -> None:
        self._way, self._sink = way, sink
        port = instance.inbound_port if way.inbound else instance.submission_port
        text = ["-F", str(way.inbound)] if way.inbound else ["-l", "4096"]
        self._command = ["smtp-source", *text, "-f", "a@example.com", "-t", "b@example.net"]
        self._to = f"127.0.0.1:{port}"

    def send(self, load: Load) -> float:
        """Send messages, and return the seconds until the last has arrived, for all its recipients."""
        there = len(self._sink.messages)
        options = [f"-s{load.sessions}", f"-m{load.messages}", f"-r{load.recipients}"]
        begin = time.perf_counter()
        subprocess.run([*self._command, *options, self._to], check=True)
        if load.recipients == 1:
            self._sink.wait(there + load.messages, TIMEOUT)
        else:  # one delivery for some of them
            self._wait_for_recipients(there, load.messages * load.recipients)
        return time.perf_counter() - begin

    def _wait_for_recipients(self, there: int, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT
        while sum(len(message.recipients) for message in self._sink.messages[there:]) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all of {count} recipients after {TIMEOUT} s")
            time.sleep(0.005)

    def refuse_unmarked(self, name: str, marks: set[bytes]) -> None:
        """Raise RuntimeError unless the last message has the mark of its way, or none if that has none."""
        data = self._sink.messages[-1].data
        found = {mark for mark in marks if mark in data}
        if not (self._way.mark in found if self._way.mark else not found):
            raise RuntimeError(f"{name}: {found} in {data!r}")


def _instance(place: Place, name: str, way: Way, sink: Sink) -> Postfix:
    slug = name.replace(" ", "-").replace(",", "")
    directory, fragments = place.directory / f"postfix-{slug}", place.directory / f"fragments-{slug}"
    directory.mkdir()
    shutil.copytree(FRAGMENTS, fragments)
    if way.settings:
        file, service = ("verify.master.cf", "dkimpipe-verify") if way.inbound else ("master.cf", "dkimpipe")
        usual = f"-o content_filter={service}:dummy"
        master = (fragments / file).read_text()
        assert master.count(usual) == 1
        (fragments / file).write_text(master.replace(usual, way.settings.replace(" -o", "\n    -o")))
    argv = way.argv or ["/bin/false"]
    verifier = argv if way.inbound else ()
    instance = Postfix(
        directory, argv, sink.port, fragments=fragments, extra_master=way.services, verifier=verifier
    )
    if way.apply:
        command = [sys.executable, "-m", "dkimpipe", "postfix", "-c", str(directory / "etc"), *way.apply]
        subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
        os.utime(directory / "etc/main.cf", (0, 0))  # every process waits until it is two seconds old
    return instance


@contextlib.contextmanager
def _daemon(way: Way) -> Iterator[None]:
    """Let the daemon of a way run."""
    if not way.daemon:
        yield
        return
    command, port = way.daemon
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"does not listen: {' '.join(command)}")
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
