"""Sign messages from a Python program, without another process.

SYNOPSIS
    from dkimpipe.api import Signer

    signer = Signer(sender_map="/etc/dkimpipe/senders")
    signed = signer.sign(message)
    send(signed.message)
    print(signed.report)

    report = signer.sign_file(source, target)

DESCRIPTION
    A Signer signs messages as dkimpipe(1) does, with DKIM and historic DomainKeys: the address in From
    chooses an entry of the senders file, see dkimpipe-senders(5). No process is started, nothing is sent.

    A message is an RFC 5322 message with LF or CRLF line ends, as bytes (bytearray, memoryview) or as a
    binary file that is read to its end. The result has the same line ends; all bytes below the new header
    fields are those of the message, except in lines over 998 bytes, see ``normalize`` in dkimpipe.conf(5).

    A message that is not to be signed comes back unchanged; the report has the reasons. Any error raises one
    of the classes of dkimpipe.errors, all of them subclasses of ``Trouble``, with the cause as its text and
    the correction in ``hint``:

        ConfigError       a setting, the conf file, a map or its entry is wrong
        PrivateKeyError   a key file is missing, unsafe or damaged, or OpenSSL's configuration does not allow
                          its use; a subclass of ConfigError
        HeaderError       the header of the message exceeds 1 MiB
        InputError        the message cannot be read
        SpoolError        there is no space for a large message
        SigningError      OpenSSL is not available
        OutputError       the target cannot be written to

    An argument of the wrong type, or one that the settings require and that is missing, raises TypeError.

    With ``on_error="accept"`` ConfigError and SigningError are not raised for a message: it comes back
    unsigned, and the level of the report is ``warning``.

    ``sign`` returns the message in memory. ``sign_file`` writes it to a file, and nothing before it is
    complete; memory does not grow with the message, which goes through an unnamed file in /var/tmp.

    The maps and keys are read for each message, so that edits apply at once; replace them with mv(1), since
    half a file could choose another entry. The conf file is read once.

THREADS
    A Signer can be used by many threads at once. No state is kept from one message to the next, no signal
    handler is set, and no file stays open. OpenSSL's library is shared with Python's hashlib and ssl, and its
    settings stay as they are.

SEE ALSO
    dkimpipe(1), dkimpipe-senders(5), dkimpipe.conf(5)
"""

from __future__ import annotations

import hashlib  # noqa: F401 - initializes OpenSSL as Python does, before libcrypto would
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Literal, Protocol, Union

from dkimpipe import pipe
from dkimpipe.config import OPTIONS, Settings, read_conf
from dkimpipe.errors import InputError, OutputError, one_line
from dkimpipe.files import Place, why
from dkimpipe.libcrypto import Library
from dkimpipe.message import Message
from dkimpipe.spool import SpoolMemory
from dkimpipe.spoolfile import SpoolFile

if TYPE_CHECKING:
    from dkimpipe.errors import Level
    from dkimpipe.message import Read
    from dkimpipe.signatures import Signatures
    from dkimpipe.spool import Spool

__all__ = ["Report", "Signature", "Signed", "Signer"]

Text = Union[str, "os.PathLike[str]"]
Texts = Union[str, Sequence[str]]
Octets = Union[bytes, bytearray, memoryview]

with suppress(OSError, AttributeError, TypeError):  # keys then signs with the cryptography package
    Library()  # once, before there are threads


class Readable(Protocol):
    """A binary file that can be read."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most that many bytes, none at the end."""


class Writable(Protocol):
    """A binary file that can be written to."""

    def write(self, octets: bytes, /) -> int | None:
        """Write bytes, and return how many."""


@dataclass(frozen=True)
class Signature:
    """A signature that was added: ``type`` is dkim or domainkeys, ``algorithm`` a=, such as rsa-sha256."""

    type: str
    domain: str
    selector: str
    algorithm: str


@dataclass(frozen=True)
class Report:
    """What became of a message.

    ``signatures``  those that were added, top down
    ``reasons``     why the message is not signed, or why a signature of its entry is missing
    ``level``       warning if that is unusual: an error, a user who may not sign, a From field with errors
    ``long_lines``  the number of lines over 998 bytes that were broken before signing
    ``text``        the line that the filter would log, see LOG LINES in dkimpipe-audit(1)
    """

    signatures: tuple[Signature, ...]
    reasons: tuple[str, ...]
    level: Level
    long_lines: int
    text: str

    @property
    def is_signed(self) -> bool:
        """Whether there is a signature."""
        return bool(self.signatures)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Signed:
    """The complete ``message``, with the new header fields on top, and the ``report``."""

    message: bytes
    report: Report


class Signer:
    """Signs messages according to its settings; see the documentation of this module."""

    def __init__(
        self,
        *,
        conf_file: Text = "",
        sender_map: Text = "",
        listid_map: Text = "",
        keyfile: Text = "",
        selector: str = "",
        domain: Texts = "",
        identity: str = "",
        signature: Texts = (),
        method: str = "",
        dkim_method: str = "",
        domainkeys_method: str = "",
        match: Texts = "",
        on_error: Literal["", "defer", "accept"] = "",
        normalize: bool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take settings from keywords, named as in dkimpipe.conf(5), and from ``conf_file`` if one is given.

        A keyword that is not empty takes precedence. ``signature`` is what an entry of the senders file
        lists, or several of these. Without ``sender_map``, ``signature`` and ``domain``, the senders file is
        /etc/dkimpipe/senders. ``clock`` returns the time of the signatures in seconds since 1970.

        Raises ConfigError and TypeError.
        """
        if normalize is not None and not isinstance(normalize, bool):
            raise TypeError(f"normalize must be True, False or None, not {normalize!r}")
        self._clock = clock
        self._settings = Settings()
        given = {
            "sender_map": os.fspath(sender_map),
            "listid_map": os.fspath(listid_map),
            "keyfile": os.fspath(keyfile),
            "selector": selector,
            "domain": ",".join(_several("domain", domain)),
            "identity": identity,
            "method": method,
            "dkim_method": dkim_method,
            "domainkeys_method": domainkeys_method,
            "match": ",".join(_several("match", match)),
            "on_error": on_error,
            "normalize": "" if normalize is None else ("no", "yes")[normalize],
        }
        items = [(name, _text(name, value)) for name, value in given.items() if value != ""]
        for name, value in [*items, *(("signature", each) for each in _several("signature", signature))]:
            self._settings.set(name, value, Place(f"{name}="))
        chosen = set(self._settings.values)
        for name, value, place in read_conf(os.fspath(conf_file), OPTIONS) if conf_file else ():
            if name not in chosen:
                self._settings.set(name, value, place)

    def sign(
        self, message: Octets | Readable, *, envelope_sender: str | None = None, login: str | None = None
    ) -> Signed:
        """Return a message signed, and the report. ``login`` is the SASL login, empty for none.

        Entries with ``login=`` and ``envelope=`` require these two, and so does ``match="envelope"``, which
        raises TypeError without ``envelope_sender``.
        """
        read = Message(_reader(message))
        settings = self._for(envelope_sender, login)
        spool, signatures = pipe.signed(read, settings, self._clock, lambda small, room: SpoolMemory())
        return Signed(b"".join(spool.pieces()), _report(read, signatures))

    def sign_file(
        self,
        source: Octets | Readable,
        target: Writable,
        *,
        envelope_sender: str | None = None,
        login: str | None = None,
    ) -> Report:
        """Write a message to ``target``, signed, and return the report; see ``sign``."""
        if not hasattr(target, "write"):
            raise TypeError(f"target must be a binary file, not {type(target).__name__}")
        read = Message(_reader(source))
        with _spools() as new_spool:
            settings = self._for(envelope_sender, login)
            spool, signatures = pipe.signed(read, settings, self._clock, new_spool)
            _write(target, spool.pieces())
        return _report(read, signatures)

    def _for(self, envelope_sender: str | None, login: str | None) -> Settings:
        """Return the settings for one message."""
        settings = Settings()
        settings.values = dict(self._settings.values)
        settings.places = self._settings.places
        settings.signatures = self._settings.signatures
        if envelope_sender is not None:
            settings.sender = _text("envelope_sender", envelope_sender)
        elif "envelope" in settings.match:
            raise TypeError("envelope_sender is missing: match contains envelope")
        if login is not None:
            settings.values["login"] = _text("login", login)
        return settings


def _several(name: str, texts: Texts) -> Sequence[str]:
    if texts == "":
        return []
    several = [texts] if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable) else texts
    return [_text(name, each) for each in several]


def _text(name: str, value: object) -> str:
    """Return a value as the command line would have it: all lone surrogates are octets outside UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    return value


def _reader(message: Octets | Readable) -> Read:
    """Return a function that reads, and raises InputError."""
    file = io.BytesIO(message) if isinstance(message, (bytes, bytearray, memoryview)) else message
    if not hasattr(file, "read"):
        raise TypeError(f"a message must be bytes or a binary file, not {type(message).__name__}")

    def read(size: int) -> bytes:
        try:
            octets = file.read(size)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise InputError(f"cannot read the message: {why(error)}") from error
        if not isinstance(octets, bytes):
            fault = "it would block" if octets is None else "the file is not binary"
            raise InputError(f"cannot read the message: {fault}")
        return octets

    return read


@contextmanager
def _spools() -> Iterator[Callable[[bool, int], Spool]]:
    """Provide a function that returns a spool; close all of them at the end."""
    files = []

    def new_spool(small: bool, room: int) -> Spool:
        if small:
            return SpoolMemory()
        files.append(SpoolFile(room))
        return files[-1]

    try:
        yield new_spool
    finally:
        for file in files:
            file.close()


def _write(target: Writable, pieces: Iterable[bytes]) -> None:
    """Write all of it. Raises OutputError."""
    for octets in pieces:
        while octets:
            try:
                written = target.write(octets)
            except (OSError, ValueError, TypeError) as error:  # it is full, closed, or not binary
                raise OutputError(f"cannot write the signed message: {why(error)}") from error
            if not written or written < 0:
                raise OutputError("cannot write the signed message: the file accepts nothing")
            octets = octets[written:]


def _report(message: Message, signatures: Signatures) -> Report:
    report = signatures.report
    return Report(
        signatures=tuple(
            Signature(
                each.options.type,
                each.options.domain.decode(),
                each.options.selector.decode(),
                each.algorithm,
            )
            for each in signatures.making
        ),
        reasons=tuple(signatures.reasons),
        level=report.level,
        long_lines=message.long_lines,
        text=one_line(report.result + report.origin),
    )
