"""Reinjection by SMTP (RFC 5321): ``relay`` is a listener of Postfix that takes the message.

The message is sent once the listener has replied 2xx to the end of it, and not before: after any other reply,
or if the connection fails, the mail is deferred. If that last reply itself is lost, the message may arrive
twice. SMTP cannot exclude that (RFC 5321 section 4.5.3.2.6), and the alternative is to lose it.

Commands up to DATA are pipelined (RFC 2920). If any is refused the session ends, even after DATA: without its
final dot the listener discards the mail. Only DATA is answered by 354, so a reply too many or too few before
it ends the session there. After it there must be none until the final dot is sent.

pipe(8) takes one status for all recipients. Those whose addresses are not valid must not hold up the mail for
the others for days: once the others have it, sendmail(1) gets a copy for them. Postfix bounces that, or
passes it to the filter again, where no recipient is valid: then the error bounces it. A sender whose address
is not valid could get no notice, so the null sender replaces it.

From the connection on there is no alarm. The time that is left limits each system call instead, so a reply
that has arrived is never overlooked. This module is loaded only where ``relay`` is set.
"""

import _socket
import posix
from time import monotonic

from dkimpipe import guard
from dkimpipe.errors import (
    ConfigError,
    HandoverError,
    RecipientError,
    RelayError,
    UsageError,
    one_line,
    printable,
)
from dkimpipe.files import why
from dkimpipe.message import LineEnds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Callable

    from dkimpipe.config import Settings
    from dkimpipe.files import Place
    from dkimpipe.spool import Spool

_CHUNK = 65536
_MAIL, _RCPT = b"MAIL FROM:", b"RCPT TO:"
_NULL = b"<>"
_BATCH = 50  # commands before their replies are read, so that no buffer fills up
_MAX_REPLY = 65536  # octets
_MAX_SHOWN = 200  # octets of a reply in an error
# Octets. Postfix cuts a command after line_length_limit, by default 2048.
_MAX_PATH = 2000
_MAX_ORIGIN = 150  # one value of XFORWARD, before it is encoded
_HOST_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
# RFC 3463: a bad address; bad syntax, as Postfix says of octets that are not UTF-8.
_NOT_VALID = ("5.1.3", "5.5.2")
_SENDER_NOT_VALID = ("5.1.7", "5.5.2")
_EARLIER = 0.75  # part of the time; the rest is for the last reply: without it the mail would be sent again
_UNQUOTED = "in master.cf the pipe(8) service needs flags=q, which puts quotes where they are needed"
_HINT = "dkimpipe check --postfix tests whether Postfix has this listener"


def send(spool: "Spool", settings: "Settings", copy: "Callable[[list[str], float], str]") -> str:
    """Send a complete message and return what the log needs of the final reply: ``queued as 4FxyzQ``.

    ``copy`` passes a copy on to recipients whose addresses are not valid, in so many seconds, and returns
    what the log needs of it. Raises ConfigError, UsageError, HandoverError and RelayError, and RecipientError
    if no recipient is valid.
    """
    envelope = _Envelope(settings)
    session = _Session(settings)
    try:
        _begin(session, settings, envelope, spool.size)
    except _SenderRefused:
        envelope.sender = _NULL
        _begin(session, settings, envelope, spool.size)
    reply = session.data(spool.pieces())
    session.quit()
    before, queued, place = reply.partition("queued as ")
    said = printable((queued + place or f"relay said: {before}").encode(), _MAX_SHOWN)
    if envelope.sender == _NULL and settings.sender not in ("", "<>", None):
        said += f"; sender not valid, sent from <>: {one_line(settings.sender)}"
    not_valid = [*envelope.without_path, *[envelope.recipients[path] for path in session.refused]]
    if not_valid:
        said += copy([_undeliverable(each) for each in not_valid], session.seconds_left())
    return said


class _Envelope:
    """The addresses of a message.

    ``sender``        the path of the sender
    ``recipients``    those who have a path, by their paths
    ``without_path``  the other recipients
    """

    __slots__ = ("recipients", "sender", "without_path")

    def __init__(self, settings: "Settings") -> None:
        """Raise UsageError, or RecipientError if no recipient has a path."""
        try:
            self.sender = _path(settings.sender or "")
        except RecipientError:
            self.sender = _NULL
        self.recipients: dict[bytes, str] = {}
        self.without_path: list[str] = []
        for mailbox in settings.recipients:
            try:
                self.recipients[_path(mailbox)] = mailbox
            except RecipientError as error:
                self.without_path.append(mailbox)
                last = error
        if not self.recipients:
            raise last


def _begin(session: "_Session", settings: "Settings", envelope: _Envelope, size: int) -> None:
    """Begin a session, and send the commands up to DATA."""
    sender, recipients = envelope.sender, envelope.recipients
    session.connect(len(recipients))
    lines = session.requests([(b"EHLO " + _host_name(), "2")]).upper().split("\n")[1:]
    offered = {line.partition(" ")[0]: line.split()[1:] for line in lines}

    mail = _MAIL + sender
    if "8BITMIME" in offered:
        mail += b" BODY=8BITMIME"
    if "SIZE" in offered:
        mail += b" SIZE=%d" % size
    if "SMTPUTF8" in offered and not all(path.isascii() for path in (sender, *recipients)):
        mail += b" SMTPUTF8"
    requests = [(mail, "2"), *[(_RCPT + path, "2") for path in recipients], (b"DATA", "354")]
    origin = _origin(settings, offered.get("XFORWARD", ()))
    if origin:
        requests.insert(0, (origin, ""))  # only the listener's log needs it: a refusal does no harm
    batch = _BATCH if "PIPELINING" in offered else 1
    for first in range(0, len(requests), batch):
        session.requests(requests[first : first + batch])


def address(text: str, place: "Place | str") -> "tuple[bytes, int]":
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``. Raises ConfigError."""
    host, _, port = text.encode("utf-8", "surrogateescape").rpartition(b":")
    bare = host[1:-1] if host[:1] == b"[" and host[-1:] == b"]" else host
    is_host = bare and not bare.strip(_HOST_LETTERS if bare is host else _HOST_LETTERS + b":%")
    if not (is_host and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ConfigError(
            f"{place}: relay '{text}' is not an address with a port",
            "for example 127.0.0.1:10028 or [::1]:10028",
        )
    return bare, int(port)


def _path(mailbox: str) -> bytes:
    """Return an address as a path (RFC 5321 section 4.1.2).

    Raises UsageError if its local part lacks quotes, and RecipientError if it is too long, or could end the
    path otherwise, and so add a parameter or a command.
    """
    octets = mailbox.encode("utf-8", "surrogateescape")
    if octets[:1] == b"<" and octets[-1:] == b">":
        octets = octets[1:-1]
    local, _, domain = octets.rpartition(b"@")
    parts = local.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    unquoted = b"".join(parts[::2])
    is_mixed = len(parts) > 1 and unquoted.strip(b".")
    if is_mixed or len(parts) % 2 == 0 or _has_any(unquoted, b" <>\\"):
        raise UsageError(f"'{printable(octets)}' cannot be an address in SMTP", _UNQUOTED)
    if _has_any(domain, b' <>\\"') or _has_any(octets, b""):
        raise RecipientError(f"'{printable(octets)}' cannot be an address in SMTP")
    if len(octets) > _MAX_PATH:
        raise RecipientError(f"'{printable(octets)}' is too long for SMTP")
    return b"<%b>" % octets


def _has_any(octets: bytes, these: bytes) -> bool:
    """Return whether there are control characters, or any of these octets."""
    return any(octet < 32 or octet == 127 or octet in these for octet in octets)


def _undeliverable(mailbox: str) -> str:
    """Return an address that is not valid in a form that sendmail(1) takes for one address.

    It reads ``a@b c`` or ``a@b,c`` as two, and ``a@b\\c`` as ``a@bc``. No host has a name with ``?``.
    """
    local, at, domain = mailbox.rpartition("@")
    is_literal = domain[:1] == "[" and domain[-1:] == "]"
    safe = "".join([c if c.isalnum() or c in "-._" or (is_literal and c in "[:]") else "?" for c in domain])
    return local + at + safe


def _host_name() -> bytes:
    name = posix.uname().nodename.encode("utf-8", "surrogateescape")
    return b"localhost" if not name or name.strip(_HOST_LETTERS) else name


def _origin(settings: "Settings", offered: "Iterable[str]") -> bytes:
    """Return the XFORWARD command with client and queue ID of the first pass; empty if nothing is known."""
    words = []
    for name, option in (("NAME", "client_name"), ("ADDR", "client"), ("IDENT", "queue_id")):
        value = settings.get(option).encode("utf-8", "surrogateescape")[:_MAX_ORIGIN]
        if value and name in offered:
            if name == "ADDR" and b":" in value:  # pipe(8) writes IPv6 addresses as in RFC 5321
                value = b"IPV6:" + value.rpartition(b"v6:")[2]
            words.append(f" {name}=".encode() + (b"[UNAVAILABLE]" if value == b"unknown" else _xtext(value)))
    return b"XFORWARD" + b"".join(words) if words else b""


def _xtext(octets: bytes) -> bytes:
    """Return octets in the encoding of RFC 3461 section 4."""
    return b"".join([b"%c" % c if 32 < c < 127 and c not in b"+=" else b"+%02X" % c for c in octets])


def _transparent(pieces: "Iterable[bytes]") -> "Iterator[bytes]":
    """Yield a message for DATA: CRLF, leading dots doubled (RFC 5321 section 4.5.2), the final dot."""
    line_ends = LineEnds()
    last = b"\n"
    for piece in pieces:
        text = line_ends.update(piece)
        if text:
            yield (last + text).replace(b"\n.", b"\n..")[1:].replace(b"\n", b"\r\n")
            last = text[-1:]
    rest = line_ends.finish()
    yield b".\r\n" if last == b"\n" and not rest else rest + b"\r\n.\r\n"


class _SenderRefused(HandoverError):
    """The relay refused the sender because the address is not valid."""


class _Session:
    """One SMTP session. Each method raises RelayError if the connection fails or the time is up."""

    __slots__ = (
        *("_command", "_deadline", "_end", "_name", "_place", "_recipients"),
        *("_request", "_socket", "_unread"),
        "refused",
    )

    def __init__(self, settings: "Settings") -> None:
        """Raise ConfigError if ``relay`` is not an address."""
        self._name = settings.get("relay")
        self._place = address(self._name, settings.places["relay"])
        self._deadline = self._end = 0.0

    def connect(self, recipients: int) -> None:
        """Connect to the first address of the host that accepts, for so many recipients.

        Raises HandoverError for a bad greeting.
        """
        self._recipients = recipients
        self._request = "CONNECT"
        self.refused: list[bytes] = []  # the paths of those whose addresses are not valid
        self._command = self._unread = b""
        try:
            places = _socket.getaddrinfo(*self._place, 0, _socket.SOCK_STREAM)
            self._replace_alarm()
            self._connect(places)
        except OSError as error:
            raise RelayError(f"cannot connect to relay {self._name}: {why(error)}", _HINT) from None
        self._expect("2")

    def requests(self, requests: "Sequence[tuple[bytes, str]]") -> str:
        """Send commands before reading their replies, and return the last one's text, lines separated by LF.

        Raises HandoverError for the first whose code does not begin as its command requires. Recipients whose
        addresses are not valid are only noted; RecipientError is raised if that is so for all of them.
        """
        text = ""
        self._send(b"".join([command + b"\r\n" for command, _ in requests]))
        for command, code in requests:
            self._command, self._request = command, printable(command)
            try:
                text = self._expect(code)
            except RecipientError:
                self.refused.append(command[len(_RCPT) :])
                if len(self.refused) == self._recipients:
                    raise
        return text

    def data(self, pieces: "Iterable[bytes]") -> str:
        """Send the message and return the text of the final reply. Raises HandoverError if it is refused."""
        held = b""
        for octets in _transparent(pieces):
            if len(held) >= _CHUNK:
                self._refuse_early_reply()
                self._send(held)
                held = b""
            held += octets
        self._refuse_early_reply()
        if monotonic() > self._deadline:
            raise self._failure("timed out")
        self._deadline = self._end
        self._request = "end of DATA"
        self._send(held)
        return self._expect("2")

    def quit(self) -> None:
        """End the session; what the listener replies no longer matters."""
        try:
            self._send(b"QUIT\r\n")
        except RelayError:
            pass

    def _replace_alarm(self) -> None:
        """Let the time that is left limit each system call; it began with the first connection."""
        now, left = monotonic(), guard.stop_alarm()
        if not self._end:
            self._deadline, self._end = now + left * _EARLIER, now + left

    def _connect(self, places: "Sequence[tuple[int, int, int, str, tuple[object, ...]]]") -> None:
        for at, (family, kind, protocol, _, place) in enumerate(places, 1):
            try:
                self._socket = _socket.socket(family, kind, protocol)
                self._socket.settimeout(self.seconds_left())
                self._socket.connect(place)
                # Do not let the end of the message wait for the acknowledgement of its beginning.
                self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                return
            except OSError:
                if at == len(places):
                    raise

    def _expect(self, kind: str) -> str:
        code, text = self._reply()
        if not code.startswith(kind):
            raise self._refusal(code, text)
        return text

    def _reply(self) -> "tuple[str, str]":
        """Return code and text of one reply (RFC 5321 section 4.2)."""
        codes: set[bytes] = set()
        lines: list[str] = []
        left = _MAX_REPLY
        while True:
            line = self._line(left)
            left -= len(line) + 2
            code, mark, text = line[:3], line[3:4], line[4:]
            codes.add(code)
            if len(code) < 3 or not code.isdigit() or mark not in (b"", b" ", b"-") or len(codes) > 1:
                said = printable(line, _MAX_SHOWN)
                raise HandoverError(f"relay {self._name} does not speak SMTP: {said}")
            lines.append(text.decode("utf-8", "backslashreplace"))
            if mark != b"-":
                return code.decode(), "\n".join(lines)

    def _line(self, limit: int) -> bytes:
        while b"\n" not in self._unread and len(self._unread) <= limit:
            self._unread += self._receive(self.seconds_left())
        line, _, self._unread = self._unread.partition(b"\n")
        if len(line) > limit:
            raise HandoverError(f"relay {self._name}: reply to {self._request} too long")
        return line.rstrip(b"\r")

    def _receive(self, seconds: float) -> bytes:
        """Return octets as soon as there are any; after 0 seconds there may be none."""
        try:
            self._socket.settimeout(seconds)
            octets = self._socket.recv(4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failure(why(error)) from None
        if not octets:
            raise self._failure("connection closed")
        return octets

    def _refuse_early_reply(self) -> None:
        """Raise HandoverError if a reply is there already: it cannot be about the whole message."""
        self._unread += self._receive(0)
        if self._unread:
            raise self._refusal(*self._reply())

    def _send(self, octets: bytes) -> None:
        try:
            self._socket.settimeout(self.seconds_left())
            self._socket.sendall(octets)
        except OSError as error:
            raise self._failure(why(error)) from None

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, which is another one once the whole message is sent."""
        return max(self._deadline - monotonic(), 0.001)  # 0 would not wait at all

    def _refusal(self, code: str, text: str) -> HandoverError:
        said = printable(f"{code} {text}".replace("\n", " ").encode(), _MAX_SHOWN)
        cause = f"relay {self._name} said: {said} (in reply to {self._request})"
        words = text.split(maxsplit=1)
        if code[:1] == "5" and words:
            if self._command.startswith(_RCPT) and words[0] in _NOT_VALID:
                return RecipientError(cause)
            has_sender = self._command.startswith(_MAIL) and not self._command.startswith(_MAIL + _NULL)
            if has_sender and words[0] in _SENDER_NOT_VALID:
                return _SenderRefused(cause)
        return HandoverError(cause)

    def _failure(self, cause: str) -> RelayError:
        return RelayError(f"relay {self._name}: {cause} after {self._request}", _HINT)
