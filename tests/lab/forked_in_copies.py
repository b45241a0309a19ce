"""The command ``dkimpipe`` in throwaway copies of this machine, without a start of Python for each run.

The installed interpreter has imported the verbs once, in a copy of its own. For each run it forks, enters the
copy in question, and forks again, for the namespace of processes: the last process is as one that was started
there, with the same root, user, network, arguments and environment, and what it has not imported yet it
imports from that copy. How it ended comes back by a socket, and its output in files in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence

import throwaway
from throwaway import Done, Machine

_SCRIPT = """
import ctypes, importlib, json, os, socket, sys
from dkimpipe.__main__ import main
from dkimpipe.admin import cli
for name in "check", "dns", "postfix", "rotate", "setup":
    importlib.import_module(f"dkimpipe.admin.verbs.{name}")
for name in "admin.dns.lookup", "admin.maps.lint", "admin.postfix.answering", "admin.postfix.handshake":
    importlib.import_module(f"dkimpipe.{name}")
enter = ctypes.CDLL(None, use_errno=True).setns
requests = socket.socket(fileno=int(sys.argv[1]))

def forked(run):
    process = os.fork()
    if not process:
        try:
            status = run()
        except SystemExit as end:
            status = end.code or 0
        sys.stdout.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def command(arguments, streams):
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(arguments[0])
    return main()

def in_copy(arguments, root, streams, namespaces, answer):
    for each in namespaces:
        if enter(each, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.fchdir(root)
    os.chroot(".")
    answer.send(json.dumps(forked(lambda: command(arguments, streams))).encode())
    return 0

while True:
    request, files, *_ = socket.recv_fds(requests, 65536, 8)
    if not request:
        break
    root, *streams = files[:4]
    failed = forked(lambda: in_copy(json.loads(request), root, streams, files[4:], requests))
    if failed:
        requests.send(b"null")
    for each in files:
        os.close(each)
"""


class Commands:
    """A context manager: runs of a command that is installed in this copy, in this and others of its kind."""

    def __init__(self, machine: Machine, command: str) -> None:
        self._machine, self._command = machine, command

    def __enter__(self) -> Commands:
        """Import what most runs need."""
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        interpreter = os.path.join(os.path.dirname(self._command), "python3")
        words = [*self._machine.entering("--mount"), interpreter, "-c", _SCRIPT, str(theirs.fileno())]
        self._process = subprocess.Popen(
            words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env={"PATH": throwaway.PATH}
        )
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._process.wait()

    def run(self, machine: Machine, arguments: Sequence[str], timeout: float = 60) -> Done:
        """Run the command in a copy, as ``machine.run`` does."""
        with contextlib.ExitStack() as stack:
            outputs = [os.memfd_create(name) for name in ("stdout", "stderr")]
            stack.callback(os.close, outputs[0])
            stack.callback(os.close, outputs[1])
            nothing = stack.enter_context(open(os.devnull, "rb"))
            files = [
                stack.enter_context(_descriptor(str(machine.root))),
                nothing.fileno(),
                *outputs,
                *(stack.enter_context(_descriptor(path)) for path in machine.namespaces()),
            ]
            self._requests.settimeout(timeout)
            socket.send_fds(self._requests, [json.dumps([self._command, *arguments]).encode()], files)
            try:
                status = json.loads(self._requests.recv(100) or b"null")
            except OSError:  # a late answer must not be taken for that of the next run
                self._process.kill()
                raise
            if status is None:
                raise OSError("the copy cannot be entered")
            texts = (os.pread(each, os.fstat(each).st_size, 0).decode() for each in outputs)
            return Done(status, *texts)


@contextlib.contextmanager
def _descriptor(path: str) -> Iterator[int]:
    number = os.open(path, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)
