"""A private Postfix and an SMTP sink: mail goes in by SMTP, through the filter, and out to the sink.

The services submission, pickup and dkimpipe and the lines of main.cf that belong to them are those of the
fragments that administrators get, in the directory postfix. Only what cannot be the same in a private
instance is replaced in them: where submission listens, which user runs which command, and how many at once;
and where mail from outside comes in, if there is a verifier.

The instance lives in one directory and listens on loopback only; the system's own Postfix and its files
are not touched. It needs root, because master(8) does, and Linux, because it reads /proc. The filter runs as
`nobody`: the filter, its files and every directory above them must be open to that user. Take a
`shared_directory`, not pytest's `tmp_path`, which only its owner may enter.

The filter calls the system's sendmail(1) as in production. pipe(8) exports MAIL_CONFIG to it, so sendmail(1)
reads the private main.cf and takes postdrop(1) from the private command_directory. That copy has no set-gid
bit: a set-gid postdrop refuses a configuration directory that the system's main.cf does not list. The
maildrop and the public sockets belong to the filter's group instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import socketserver
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")
_HOST = "127.0.0.1"

_MAIN = {
    "compatibility_level": "3.6",
    "export_environment": "TZ MAIL_CONFIG LANG",
    "inet_interfaces": _HOST,
    "inet_protocols": "ipv4",
    "mynetworks": _HOST,
    "myhostname": "mx.test",
    "mydestination": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    "local_header_rewrite_clients": "",  # as for clients from afar
    "fast_flush_domains": "",
    "notify_classes": "",
    "allow_min_user": "yes",  # a local part may begin with "-"
    "message_size_limit": "10240000",
    "smtpd_recipient_limit": "10000",
    "smtpd_peername_lookup": "no",
    "smtp_connection_cache_on_demand": "no",  # there is no scache(8)
    "in_flow_delay": "0",
    "queue_run_delay": "3s",
    "minimal_backoff_time": "3s",
    "maximal_backoff_time": "3s",
}

# postlog comes last: master(8) logs what it finds wrong here by itself only while that socket is not there.
_MASTER = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
retry unix - - n - - error
showq unix n - n - - showq
{services}
{extra}
postlog unix-dgram n - n - 1 postlogd
"""

FRAGMENTS = Path(__file__).resolve().parents[2] / "postfix"


def fragment_lines(path: Path) -> list[str]:
    """Return the lines of a fragment, each with those that continue it, without comments and empty lines."""
    text = re.sub(r"^\s*(#.*)?\n", "", path.read_text(), flags=re.MULTILINE)
    return re.findall(r"^\S.*(?:\n[ \t].*)*", text, re.MULTILINE)


def _replace(pattern: str, new: str, text: str) -> str:
    """Return the text with the one match of the first group replaced; raise ValueError if it is not one."""
    (found,) = re.finditer(pattern, text, re.MULTILINE)
    return text[: found.start(1)] + new + text[found.end(1) :]


def _parameters(path: Path) -> dict[str, str]:
    """Return what a fragment of main.cf says."""
    return dict(line.split(" = ", 1) for line in fragment_lines(path))


def _command(argv: Sequence[str]) -> str:
    """Return a command line as pipe(8) takes it, each word in braces."""
    return " ".join(f"{{ {word} }}" for word in (f"argv={argv[0]}", *argv[1:]))


@contextlib.contextmanager
def shared_directory() -> Iterator[Path]:
    """Yield a new directory that every user may enter and read; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dkimpipe-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


class Process(NamedTuple):
    """One process, as proc(5) tells of it: its state is "S" while it sleeps, "T" while it is stopped."""

    pid: int
    name: str
    state: str
    parent: int
    session: int


class Message(NamedTuple):
    """One message as the sink received it."""

    sender: str  # the path of MAIL FROM without its angle brackets, "" for the null sender
    recipients: list[str]  # the paths of RCPT TO in their order, without angle brackets
    options: list[str]  # the parameters of MAIL FROM: "BODY=8BITMIME", "SMTPUTF8"
    data: bytes  # header and body as sent (CRLF), without dot-stuffing and the closing dot


class _Session(socketserver.StreamRequestHandler):
    """One SMTP session: every command is accepted."""

    rbufsize = 1 << 18
    disable_nagle_algorithm = True  # a reply in two parts would wait for an acknowledgement, 40 ms
    server: Sink

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # Postfix was stopped in the middle
            self._converse()

    def _converse(self) -> None:
        sender = ""
        options: list[str] = []
        recipients: list[str] = []
        self._reply("220 sink ESMTP")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._reply("250-sink", *("250-" + keyword for keyword in self.server.keywords()))
            elif verb == b"MAIL":
                (sender, *options), recipients = _path(line), []
            elif verb == b"RCPT":
                recipients.append(_path(line)[0])
            elif verb == b"DATA":
                self._reply("354 go on")
                self.server.keep(Message(sender, recipients, options, self._data()))
            elif verb == b"QUIT":
                break
            self._reply("250 ok")
        self._reply("221 bye")

    def _reply(self, *lines: str) -> None:
        self.wfile.write("".join(line + "\r\n" for line in lines).encode())

    def _data(self) -> bytes:
        """Return what comes before the closing dot, after which the client waits for the reply."""
        received = bytearray(b"\r\n")
        while not received.endswith(b"\r\n.\r\n"):
            octets = self.rfile.read1()
            if not octets:
                raise ConnectionAbortedError("end of file within DATA")
            received += octets
        return bytes(received[:-3]).replace(b"\r\n.", b"\r\n")[2:]


def _path(line: bytes) -> list[str]:
    """Return the path of a MAIL or RCPT command, without its angle brackets, and then the parameters."""
    found = re.search(r'<((?:"(?:\\.|[^"\\])*"|[^">])*)>(.*)', line.decode("utf-8", "surrogateescape"))
    if not found:
        raise ConnectionAbortedError(f"no path in {line!r}")
    return [found[1], *found[2].split()]


class Sink(socketserver.ThreadingTCPServer):
    """An SMTP server on loopback and a free port that accepts and keeps every message.

    It runs inside a `with` statement. `eightbitmime` and `smtputf8` say what later sessions are offered.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, eightbitmime: bool = True, smtputf8: bool = True) -> None:
        super().__init__((_HOST, 0), _Session)
        self.port: int = self.socket.getsockname()[1]
        self.eightbitmime = eightbitmime
        self.smtputf8 = smtputf8
        self.messages: list[Message] = []
        self._arrival = threading.Condition()

    def __enter__(self) -> Sink:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def keywords(self) -> list[str]:
        """Return the EHLO keywords now offered."""
        return ["8BITMIME"] * self.eightbitmime + ["SMTPUTF8"] * self.smtputf8

    def keep(self, message: Message) -> None:
        """Add a message and wake those who wait for it."""
        with self._arrival:
            self.messages.append(message)
            self._arrival.notify_all()

    def wait(self, count: int = 1, timeout: float = 20) -> list[Message]:
        """Return all messages once there are at least `count`; raise TimeoutError after `timeout` seconds."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.messages) >= count, timeout):
                raise TimeoutError(f"{len(self.messages)} of {count} messages after {timeout} s")
            return list(self.messages)


class Postfix:
    """A Postfix whose submission service sends mail through the filter `argv`, and from there to the sink.

    `argv` takes the place of the program in the fragment's `argv=PROGRAM -f ${sender} -- ${recipient}`, and
    macros of pipe(8) in it are expanded. The subdirectories bin, data, etc and queue and the file log are
    made in `directory` and stay when the instance stops. `extra_main` adds parameters or replaces those of
    this file and of the fragment, `extra_master` adds services; `fragments` is a directory with other
    fragments. With a `verifier`, which takes the place of `PROGRAM verify`, there is a port for mail from
    outside, the `inbound_port`. Deferred mail is tried again after three seconds, or upon `flush`.
    `environment` is for commands that a test runs on this instance, such as sendmail(1).
    """

    def __init__(
        self,
        directory: Path,
        argv: Sequence[str],
        sink_port: int,
        *,
        user: str = "nobody",
        concurrency: int = 4,
        extra_main: Mapping[str, str] | None = None,
        extra_master: str = "",
        fragments: Path = FRAGMENTS,
        verifier: Sequence[str] = (),
    ) -> None:
        for path in (directory.resolve(), *directory.resolve().parents):
            if not path.stat().st_mode & 0o001:
                raise ValueError(f"not open to other users: {path}")
        built_in = ["postconf", "-dh", "command_directory", "daemon_directory", "mail_owner"]
        commands, daemons, owner = subprocess.check_output(built_in, text=True).splitlines()
        self.directory = directory
        self.environment = {
            **os.environ,
            "MAIL_CONFIG": f"{directory}/etc",
            "POSTLOG_SERVICE": f"{directory}/queue/public/postlog",  # errors in main.cf go to the log too
        }
        self.submission_port, self.inbound_port = _free_port(), _free_port()
        self._postqueue, self._master = f"{commands}/postqueue", f"{daemons}/master"
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()
        self._user, self._concurrency, self._extra_master = user, concurrency, extra_master
        self._fragments, self._verifier = fragments, verifier
        self._main = {
            **_MAIN,
            **_parameters(fragments / "main.cf"),
            **(_parameters(fragments / "verify.main.cf") if verifier else {}),
            "queue_directory": f"{directory}/queue",
            "data_directory": f"{directory}/data",
            "command_directory": f"{directory}/bin",
            "maillog_file": f"{directory}/log",
            "maillog_file_prefixes": f"{directory}",
            "relayhost": f"[{_HOST}]:{sink_port}",
            "local_transport": f"smtp:[{_HOST}]:{sink_port}",
            **(extra_main or {}),
        }
        self._make_directories(pwd.getpwnam(owner).pw_uid, pwd.getpwnam(user).pw_gid)
        shutil.copyfile(f"{commands}/postdrop", directory / "bin/postdrop")
        (directory / "bin/postdrop").chmod(0o755)
        self._write("main.cf", "".join(f"{name} = {value}\n" for name, value in self._main.items()))
        # Every process waits until main.cf is two seconds old: dict_load_file_xt() in util/dict.c.
        os.utime(directory / "etc/main.cf", (0, 0))
        self._write_master(argv)

    def _make_directories(self, owner: int, filter_group: int) -> None:
        def make(names: str, mode: int, uid: int = 0, gid: int = 0) -> None:
            for path in map(self.directory.joinpath, names.split()):
                path.mkdir()
                os.chown(path, uid, gid)
                path.chmod(mode)  # after chown, which clears the set-gid bit

        make("bin etc queue queue/pid", 0o755)
        make("data", 0o700, owner)
        make("queue/active queue/bounce queue/corrupt queue/defer queue/deferred queue/flush", 0o700, owner)
        make("queue/hold queue/incoming queue/private queue/saved queue/trace", 0o700, owner)
        make("queue/maildrop", 0o1730, owner, filter_group)
        make("queue/public", 0o2710, owner, filter_group)

    def _write_master(self, argv: Sequence[str], whole: bool = False) -> None:
        services = "\n".join(fragment_lines(self._fragments / "master.cf"))
        for pattern, new in (
            (r"^(submission) +inet ", f"{_HOST}:{self.submission_port}"),
            (r"^dkimpipe +(?:\S+ +){5}(\S+) +pipe$", str(self._concurrency)),
            (r" user=(\S+)", self._user),
            (r" (argv=[\s\S]*)" if whole else r" (argv=[\s\S]*?)\s+-f\s+\$", _command(argv)),
        ):
            services = _replace(pattern, new, services)
        if self._verifier:
            services += f"\n{self._inbound()}"
        self._write("master.cf", _MASTER.format(services=services, extra=self._extra_master))

    def _inbound(self) -> str:
        """Return the services of the fragment for mail from outside, but for pickup, which is there."""
        lines = fragment_lines(self._fragments / "verify.master.cf")
        services = "\n".join(line for line in lines if not line.startswith("pickup "))
        for pattern, new in (
            (r"^(smtp +inet +n +- +y) ", f"{_HOST}:{self.inbound_port} inet n - n"),
            (r" user=(\S+)", self._user),
            (r" (argv=[\s\S]*?)\s+-f\s+\$", _command(self._verifier)),
        ):
            services = _replace(pattern, new, services)
        return services

    def _write(self, name: str, text: str) -> None:
        path = self.directory / "etc" / name
        path.write_text(text)
        path.chmod(0o644)

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, or start again after `stop`; raise RuntimeError, with the log, if that fails."""
        earlier = len(self.log())
        process = subprocess.Popen([self._master], env=self.environment, start_new_session=True)
        self._process, self._sessions = process, {process.pid}
        try:
            _wait(lambda: "daemon started" in self.log()[earlier:] or process.poll() is not None, 20)
            if "daemon started" not in self.log()[earlier:]:
                raise RuntimeError(f"Postfix did not start:\n{self.log()}")
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = 1) -> None:
        """Stop as `postfix stop` does; kill filters and all else that still runs after `grace` seconds."""
        if self._process:
            self.processes()  # to know the filters, whose parents end first
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
            _wait(lambda: not self.processes(), grace)
            while running := self.processes():
                for process in running:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def set_argv(self, argv: Sequence[str], *, whole: bool = False) -> None:
        """Start again with another filter; a mere reload would leave pipe(8) processes with the old one.

        If `whole`, the addresses of the fragment go as well: nothing follows `argv`.
        """
        self.stop()
        self._write_master(argv, whole)
        self.start()

    def set_extra_services(self, argv: Sequence[str], extra_master: str) -> None:
        """Start again with this filter and these additional services."""
        self._extra_master = extra_master
        self.set_argv(argv)

    def processes(self) -> list[Process]:
        """Return the processes of the instance: the daemons, the filters, and what these started."""
        table = list(_process_table())
        daemons = {process.pid for process in table if process.session in self._sessions}
        # pipe(8) runs every filter in a session of its own, which outlives its parent
        self._sessions |= {process.session for process in table if process.parent in daemons}
        return [process for process in table if process.session in self._sessions]

    def submit(
        self,
        sender: str,
        recipients: Sequence[str],
        message: bytes,
        options: Sequence[str] = (),
        port: int | None = None,
        login: bytes = b"",
    ) -> str:
        """Submit `message` (CRLF) and return its queue ID; raise smtplib.SMTPResponseException on a refusal.

        It goes to the submission service, or to another `port`. Addresses stand between the angle brackets as
        they are, in UTF-8; `options` are those of MAIL FROM. A `login` is as if SASL had made it: by XCLIENT,
        if smtpd_authorized_xclient_hosts lets it (XCLIENT_README of Postfix).
        """
        commands = [" ".join([f"MAIL FROM:<{sender}>", *options]), *(f"RCPT TO:<{to}>" for to in recipients)]
        with smtplib.SMTP(_HOST, port or self.submission_port, "client.test", timeout=60) as client:
            client.command_encoding = "utf-8"
            client.ehlo()
            if login:
                xtext = "".join(f"+{octet:02X}" for octet in login)
                code, reply = client.docmd(f"XCLIENT LOGIN={xtext}")
                if code != 220:
                    raise smtplib.SMTPResponseException(code, reply)
                client.ehlo()
            for command in commands:
                code, reply = client.docmd(command)
                if code != 250:
                    raise smtplib.SMTPResponseException(code, f"{reply.decode()} after {command}")
            code, reply = client.data(message)
            if code != 250:
                raise smtplib.SMTPResponseException(code, reply)
            return reply.decode().rpartition(" ")[2]

    def log(self) -> str:
        """Return the log of this instance."""
        path = self.directory / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def wait_for_log(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """Return the first match in the log; raise TimeoutError, with the log, after `timeout` seconds."""
        found = _wait(lambda: re.search(pattern, self.log(), re.MULTILINE), timeout)
        if not found:
            raise TimeoutError(f"not in the log after {timeout} s: {pattern}\n{self.log()}")
        return found

    def flush(self, timeout: float = 20) -> None:
        """Try all deferred mail again, once nothing is under way; raise TimeoutError after `timeout` seconds.

        The log says "deferred" before qmgr(8) has put the message there; a flush in between would miss it.
        """

        if not _wait(lambda: not self.has_mail("maildrop", "incoming", "active"), timeout):
            raise TimeoutError(f"mail under way after {timeout} s: {self.queue()}")
        subprocess.run([self._postqueue, "-f"], env=self.environment, check=True)

    def has_mail(self, *queues: str) -> bool:
        """Return whether there is mail in these queues, or in any: to be asked again and again.

        A message that moves on meanwhile is seen: deferred mail goes back to the active queue.
        """
        order = queues or ("deferred", "hold", "maildrop", "incoming", "active", "deferred")
        return any(
            _is_mail(Path(directory, name))
            for each in order
            for directory, _, names in os.walk(self.directory / "queue" / each)
            for name in names
        )

    def queue(self) -> list[dict[str, Any]]:
        """Return the messages in the queue, as `postqueue -j` describes them."""
        lines = subprocess.check_output([self._postqueue, "-j"], env=self.environment)
        return [json.loads(line) for line in lines.splitlines()]


def _is_mail(path: Path) -> bool:
    """Return whether a file in the queue is mail; what a killed process left unfinished is not.

    A file is finished when it is executable (Postfix's src/global/mail_queue.h).
    """
    try:
        if path.stat().st_mode & stat.S_IXUSR or _is_open(path):
            return True
        return bool(path.stat().st_mode & stat.S_IXUSR)
    except FileNotFoundError:  # it moves on
        return True


def _is_open(path: Path) -> bool:
    """Return whether a process has this file open."""
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(each) == str(path):
                return True
    return False


def _wait(probe: Callable[[], _T], timeout: float, pause: float = 0.01) -> _T:
    """Return what `probe()` returns as soon as that is true, or its last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := probe()) and time.monotonic() < deadline:
        time.sleep(pause)
    return result


def _process_table() -> Iterator[Process]:
    """Yield every process that is not a zombie."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        if found := process(int(name)):
            yield found


def process(number: int) -> Process | None:
    """Return the process with this number; None if there is none, or only a zombie."""
    try:
        with open(f"/proc/{number}/stat", errors="replace") as file:
            name, _, rest = file.read().partition(" (")[2].rpartition(") ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, _, session = rest.split()[:4]
    return None if state == "Z" else Process(number, name, state, int(parent), int(session))


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as probe:
        return int(probe.getsockname()[1])
