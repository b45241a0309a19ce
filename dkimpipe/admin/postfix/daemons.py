"""Whether the programs in master.cf start: each of them reads its settings before anything else.

A program is run with the arguments that master(8) would give it, but with a type of socket that does not
exist. It ends with that error once it has accepted all of its settings, and before it opens, locks or changes
anything. Its messages come to a socket of our own instead of the log, since Postfix 3.4.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import arguments, filter_service, remedies
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service

_TIME_LIMIT = 5.0  # seconds for all programs; each takes about 10 ms
_SOCKET, _NAME = "log", "check"
_ACCEPTED = "unsupported transport type: "  # a program that has accepted its settings
_ARGUMENT = 'invalid "-o '  # arguments.py reports it
_FATAL = re.compile(rb"\[(\d+)\]: (?:fatal|panic): (.*)", re.DOTALL)
_COLUMN = re.compile(r"requires (?:a (process limit) of (\d)|(privileged) operation)")
# virtual(8) does not start in a new installation, which does not use it.
_UNUSED = "virtual_mailbox_base"


class Start(NamedTuple):
    """A program with its arguments; services with the same one start or fail alike."""

    path: str
    arguments: tuple[str, ...]


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the services whose program does not exist, or does not start, with Postfix's message."""
    yield from _missing(postconf)
    starts: dict[Start, list[Service]] = {}
    for service in postconf.running(*arguments.DAEMONS):
        start = _start(postconf, service)
        if postconf.version >= (3, 4) and os.access(start.path, os.X_OK):
            starts.setdefault(start, []).append(service)
    messages = _messages(postconf, list(starts))
    filters = [filter_service.find(postconf, job) for job in filter_service.JOBS]
    faults: dict[tuple[str, str], list[Service]] = {}
    for start, services in starts.items():
        message = messages.get(start, "")
        for service in services if message else ():
            # The column of the filter service is reported with its others.
            is_reported = service in filters and "privileged" in message
            if not is_reported and not _is_unused(postconf, service, message):
                key = message, _hint(postconf, service, message)
                faults.setdefault(key, []).append(service)
    for (message, hint), services in faults.items():
        *others, last = dict.fromkeys(f"{each.command}(8)" for each in services)
        who = f"{', '.join(others)} and {last} do" if others else f"{last} does"
        what = f"{who} not start: {message}"
        yield Finding(f"{', '.join(each.id for each in services)}: {what}", hint)


def _missing(postconf: Postconf) -> Iterator[Finding]:
    """Yield the services whose program is not in daemon_directory, which is where master(8) looks for it."""
    directory = Path(postconf.value("daemon_directory"))
    for service in postconf.services.values():
        path = directory / service.command
        if os.access(path, os.X_OK) or not directory.is_dir():
            continue
        cause = "it is not executable" if path.exists() else "no such file"
        hint = f"chmod a+x {path}" if path.exists() else _similar(postconf, service)
        yield Finding(f"{service.id}: Postfix cannot run {path}: {cause}", hint)


def _similar(postconf: Postconf, service: Service) -> str:
    """Return the command that corrects the name of a program; empty if none is similar."""
    close = difflib.get_close_matches(service.command, arguments.DAEMONS, 1)
    if not close:
        return ""
    line = service._replace(command=close[0]).line  # postconf -F would drop the arguments
    return postconf.command(Change("-M", f"{service.id}={line}", ""))


def _start(postconf: Postconf, service: Service) -> Start:
    """Return the program of a service and its arguments: those of master(8), the name left out."""
    limit = service.process_limit
    limit = postconf.value("default_process_limit") if limit == "-" else limit
    words = {"0": ["-z"], "1": ["-l"]}.get(limit, [])
    if service.unprivileged != "n":
        words = [*words, "-u"]
    path = str(Path(postconf.value("daemon_directory"), service.command))
    return Start(path, (*words, *arguments.options(service)))


def _messages(postconf: Postconf, starts: Sequence[Start]) -> dict[Start, str]:
    """Return the fatal error of each program that logged how it ended; empty if it starts."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        (directory / "public").mkdir()
        try:
            listener.bind(str(directory / "public" / _SOCKET))
        except OSError:  # the path is too long
            return {}
        running = {}
        for start in starts:
            process = _run(postconf, start, directory)
            stack.callback(_end, process)
            running[process.pid] = start, process
        return dict(_received(listener, running))


def _run(postconf: Postconf, start: Start, directory: Path) -> subprocess.Popen[bytes]:
    """Start a program that logs to a socket in a directory."""
    settings = {
        "queue_directory": directory,
        "maillog_file": directory / "file",
        "maillog_file_prefixes": directory,
        "postlog_service_name": _SOCKET,
    }
    ours = [f"-o{name}={value}" for name, value in settings.items()]
    log = str(directory / "public" / _SOCKET)  # before it has read its settings
    env = {"MAIL_CONFIG": str(postconf.directory), "POSTLOG_SERVICE": log, "POSTLOG_HOSTNAME": _NAME}
    command = [start.path, "-n", _NAME, "-t", "none", *ours, *start.arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=quiet)  # noqa: S603 - no shell


def _received(
    listener: socket.socket, running: dict[int, tuple[Start, subprocess.Popen[bytes]]]
) -> Iterator[tuple[Start, str]]:
    """Yield the programs that logged how they ended, and each message; then they wait for a second."""
    end = time.monotonic() + _TIME_LIMIT
    while running and (left := end - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            found = _FATAL.search(listener.recv(1 << 16))
        except socket.timeout:  # TimeoutError from Python 3.10
            return
        if found and int(found[1]) in running:
            start, process = running.pop(int(found[1]))
            process.kill()
            message = found[2].decode(errors="backslashreplace").strip()
            message = message.replace(f"service {_NAME} requires", "it requires")
            yield start, "" if message.startswith((_ACCEPTED, _ARGUMENT)) else message


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _is_unused(postconf: Postconf, service: Service, message: str) -> bool:
    """Return whether an error is that of virtual(8) without mailboxes."""
    transport = postconf.value("virtual_transport").partition(":")[0]
    is_used = transport == service.name and bool(postconf.value("virtual_mailbox_domains"))
    return f" {_UNUSED} = " in f"{message} " and not is_used


def _hint(postconf: Postconf, service: Service, message: str) -> str:
    """Return the command with which the program starts; empty if that is not known."""
    if found := _COLUMN.search(message):
        column = f"process_limit={found[2]}" if found[1] else "unprivileged=n"
        return postconf.command(Change("-F", f"{service.id}/{column}", ""))
    own = postconf.overrides.get(service.id, {})
    named = [word for word in re.findall(r"[\w.-]+", message) if word in own]
    if named:
        return postconf.correction(named[0], service.id, message)
    known = {name: postconf.value(name) for name in postconf.explicit}
    return remedies.for_fatal_error(postconf.directory, message, postconf.defaults, known)
