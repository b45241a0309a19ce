"""dkimpipe in processes that need not start Python: they are forked from one that has imported it.

Each has its own descriptors, environment, directory, memory and exit status, as a process that was started.
The process that they come from runs nothing itself, so that no run finds what another has left in memory.
How Python starts, and what an installation lacks, is not tested this way.

Run as a program, with a socket as standard input and the names of modules to import, this is that process.
"""

from __future__ import annotations

import functools
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from dkimpipe.command import VERBS, main

PROJECT = Path(__file__).resolve().parents[2]
MAIN = PROJECT / "dkimpipe" / "__main__.py"
# What a verb needs, where it imports it only as it runs: it would be imported for each run.
_IMPORTS: dict[str, tuple[str, ...]] = {
    "": ("dkimpipe.pipe",),
    "reflect": ("dkimpipe.verify.explain", "dkim", "syslog"),
    "reports": ("dkimpipe.admin.reports.page", "encodings.idna"),
    "verify": ("dkimpipe.verify.filter", "dkimpipe.verify.explain", "dkimpipe.publickey"),
}
_REQUEST = 1 << 17  # octets


class Ended(NamedTuple):
    """How a run ended. ``peak`` is the most memory that it had, in octets."""

    status: int
    stdout: bytes
    stderr: str
    peak: int


def run(
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run ``dkimpipe ARGUMENTS``; ``env`` is all of its environment."""
    verb = arguments[0] if arguments and arguments[0] in (*VERBS, "verify") else ""
    return _server(verb).run(arguments, stdin, os.environ if env is None else env)


@functools.cache
def _server(verb: str) -> _Server:
    admin = ("dkimpipe.admin.cli", f"dkimpipe.admin.verbs.{verb}") if verb in VERBS else ()
    return _Server((*admin, *_IMPORTS.get(verb, ())))


class _Server:
    """The process from which runs are forked. It ends with this one."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", __file__, *modules]
        with theirs:
            # Its streams are those of each run: not a terminal, and not seekable.
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.PIPE)
        self._lock = threading.Lock()

    def run(self, arguments: tuple[str, ...], stdin: bytes, env: Mapping[str, str]) -> Ended:
        request = json.dumps([arguments, dict(env), os.getcwd()]).encode()
        assert len(request) < _REQUEST
        (their_stdin, writer), *pipes = (os.pipe() for _ in range(3))
        readers, theirs = zip(*pipes)
        with self._lock:
            socket.send_fds(self._socket, [request], [their_stdin, *theirs])
            for descriptor in (their_stdin, *theirs):
                os.close(descriptor)
            found = [io.BytesIO(), io.BytesIO()]
            threads = [threading.Thread(target=_write, args=(writer, stdin))]
            threads += [threading.Thread(target=_read, args=pair) for pair in zip(readers, found)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            status, peak = json.loads(self._socket.recv(_REQUEST))
        return Ended(status, found[0].getvalue(), found[1].getvalue().decode(), peak)


def _write(descriptor: int, octets: bytes) -> None:
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for at in range(0, len(octets), 1 << 20):
                file.write(octets[at : at + (1 << 20)])
    except BrokenPipeError:
        pass


def _read(descriptor: int, into: io.BytesIO) -> None:
    with open(descriptor, "rb", buffering=0) as file:
        into.write(file.read())


def _child(request: bytes, descriptors: list[int]) -> int:
    """Be a process that was started with these arguments, and return its exit status."""
    arguments, env, directory = json.loads(request)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    sys.argv = [str(MAIN), *arguments]
    try:
        status = main()
    except SystemExit as end:
        status = int(str(end.code or 0))
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def serve() -> None:
    """Fork for each request, and answer with the exit status and the peak of memory."""
    requests = socket.socket(fileno=os.dup(0))
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST, 3)
        if not request:
            return
        if not (child := os.fork()):
            requests.close()
            os._exit(_child(request, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        _, status, used = os.wait4(child, 0)
        requests.send(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss << 10]).encode())


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    for name in sys.argv[1:]:
        import_module(name)
    serve()
