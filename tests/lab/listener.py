"""An SMTP listener on loopback that follows a script, and records each octet that it receives.

The script has the reply to each step of a session: one reply, or the parts of one, with what happens between
them. A step is ``CONNECT``, the verb of a command, ``RCPT 2`` for the second of its kind, a whole command,
``text`` for the first octets of a message, or ``dot`` for its end.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Union

TIMEOUT = 20


class Then(Enum):
    """What a listener may do instead of replying."""

    CLOSE = "close"  # end what it sends, and read on
    RESET = "reset"  # end the connection by RST
    NOTHING = "nothing"  # read on, without a reply


CLOSE, RESET, NOTHING = Then.CLOSE, Then.RESET, Then.NOTHING
Part = Union[bytes, float, Then]  # octets to send, seconds to wait, or an end
Reply = Union[bytes, tuple[Part, ...]]

ALL = (b"PIPELINING", b"SIZE 10240000", b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT", b"8BITMIME")
QUEUED = b"250 2.0.0 Ok: queued as 4FxyzQ\r\n"
REPLIES: dict[str, Reply] = {
    "CONNECT": b"220 mx.test ESMTP Postfix\r\n",
    "DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    "text": b"",
    "dot": QUEUED,
    "QUIT": b"221 2.0.0 Bye\r\n",
}


def keywords(*words: bytes) -> bytes:
    """Return a reply to EHLO."""
    lines = [b"mx.test", *words]
    return b"".join(b"250%c%b\r\n" % (b"- "[line is lines[-1]], line) for line in lines)


class Mail(NamedTuple):
    """A message that came with its end: commands since EHLO, and the text without dot-stuffing."""

    commands: list[bytes]
    text: bytes
    accepted: bool  # as the script replies


class Listener:
    """Runs inside a ``with`` statement. ``sessions`` has the octets of each session, ``mails`` the mail."""

    def __init__(self, script: Mapping[str, Reply] | None = None, host: str = "127.0.0.1") -> None:
        self._script = {**REPLIES, "EHLO": keywords(*ALL), **(script or {})}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.sessions: list[bytes] = []
        self.mails: list[Mail] = []
        self._running: list[threading.Thread] = []
        self._waiting = threading.Event()

    def __enter__(self) -> Listener:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join(TIMEOUT)
        self._socket.close()
        self.finish()

    def waits(self, seconds: float) -> bool:
        """Wait until a session does nothing but read on, as the script says; return whether it does."""
        return self._waiting.wait(seconds)

    def finish(self) -> None:
        """Wait until all sessions have ended."""
        for thread in self._running:
            thread.join(TIMEOUT)

    def reply(self, step: str, number: int = 1, command: str = "") -> tuple[Part, ...]:
        """Return the reply to the step of that number, or to this command."""
        names = (command, f"{step} {number}", step)
        found = next((self._script[name] for name in names if name in self._script), b"250 2.0.0 Ok\r\n")
        return (found,) if isinstance(found, bytes) else found

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT)
            thread = threading.Thread(target=_Session(self, connection).run, daemon=True)
            thread.start()
            self._running.append(thread)


class _Session:
    def __init__(self, listener: Listener, connection: socket.socket) -> None:
        self._listener = listener
        self._connection = connection
        self._received = bytearray()
        self._at = 0  # what is before has been processed
        self._seen: Counter[str] = Counter()

    def run(self) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                self._converse()
        finally:
            self._listener.sessions.append(bytes(self._received))
            self._connection.close()

    def _converse(self) -> None:
        self._act("CONNECT")
        commands: list[bytes] = []
        while True:
            line = self._until(b"\r\n")
            step = line[:8].split(b" ")[0].split(b"\r")[0].decode("ascii", "replace")
            if step == "DATA":
                self._act(step)
                text = self._text()
                reply = self._listener.reply("dot")[0]
                accepted = isinstance(reply, bytes) and bool(re.match(rb"2\d\d[- \r]", reply))
                self._listener.mails.append(Mail([*commands], text, accepted))
                self._act("dot")
                continue
            commands.append(line[:-2])
            self._act(step, commands[-1].decode("ascii", "replace"))
            if step == "EHLO":
                commands = []
            if step == "QUIT":
                return

    def _text(self) -> bytes:
        self._read()
        self._act("text")
        while len(self._received) < self._at + 3:
            self._read()
        if self._received[self._at : self._at + 3] == b".\r\n":
            return self._until(b".\r\n")[:-3]
        return self._until(b"\r\n.\r\n")[:-3].replace(b"\r\n..", b"\r\n.").removeprefix(b".")

    def _until(self, end: bytes) -> bytes:
        """Return the octets up to and including these."""
        looked = self._at
        while (found := self._received.find(end, looked)) < 0:
            looked = max(self._at, len(self._received) - len(end) + 1)
            self._read()
        start, self._at = self._at, found + len(end)
        return bytes(self._received[start : self._at])

    def _read(self) -> None:
        octets = self._connection.recv(1 << 20)
        if not octets:
            raise EOFError
        self._received += octets

    def _act(self, step: str, command: str = "") -> None:
        self._seen[step] += 1
        for part in self._listener.reply(step, self._seen[step], command):
            if isinstance(part, bytes):
                self._connection.sendall(part)
            elif isinstance(part, float):
                time.sleep(part)
            elif part is RESET:
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise EOFError
            else:
                if part is CLOSE:
                    self._connection.shutdown(socket.SHUT_WR)
                self._listener._waiting.set()
                while True:
                    self._read()
