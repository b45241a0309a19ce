"""Who gets an automatic reply, and how often (RFC 3834): no program, and nobody twice within an hour."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from email.errors import MessageError
from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from dkimpipe.address import as_a_labels
from dkimpipe.admin import access
from dkimpipe.errors import ConfigError, HandoverError, one_line, printable
from dkimpipe.files import why
from dkimpipe.message import Field

_AGAIN = 3600  # seconds until the same address may have another reply
_MOST = 100  # replies in that time, so that forged senders cannot make us write to many addresses
_MAX_ADDRESS = 254  # octets, RFC 5321 section 4.5.3.1.3
_ADDRESS = re.compile(rb"[^\s<>()\[\]\\,;:\"@\x00-\x20\x7f]+@[A-Za-z0-9.-]+")
_MAX_SUBJECT = 200  # characters
_MESSAGE_ID = re.compile(rb"<[^\s<>\x00-\x20\x7f-\xff]{1,248}>")
# Local parts behind which there is no person (RFC 3834 section 2, RFC 2142, and usual names).
_PROGRAMS = re.compile(
    rb"(?:mailer-daemon|postmaster|double-bounce|listserv|majordomo|root|daemon|nobody"
    rb"|owner-.*|.*-(?:request|owner|relay|bounces?|confirm|errors?))(?:\+.*)?"
    rb"|(?:bounces?|(?:no|do[-._]?not|auto)[-._]?reply)(?:[-+].*)?",
    re.IGNORECASE,
)
# Fields that only lists and other programs write.
_LISTS = (b"mailing-list", b"x-mailing-list", b"x-loop", b"x-failed-recipients", b"x-autoreply",
          b"x-autorespond", b"x-auto-response-suppress", b"feedback-id")  # fmt: skip
_BULK = re.compile(rb"(?:bulk|list|junk)\b", re.IGNORECASE)


def refusal(sender: bytes, by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return why this message gets no reply, nothing if it does."""
    if not sender:
        return "null sender"
    if not _is_address(sender):
        return "the sender is not an address to reply to"
    if _PROGRAMS.fullmatch(sender.rpartition(b"@")[0]):
        return "the sender is a program"
    for field in by_name.get(b"auto-submitted", []):
        if field.value.partition(b";")[0].strip().lower() != b"no":
            return "submitted automatically"
    for field in by_name.get(b"precedence", []):
        if _BULK.match(field.value):
            return "bulk mail"
    for field in by_name.get(b"content-type", []):
        if b"".join(field.value.split()).lower().startswith(b"multipart/report"):
            return "it is a report"
    for name in by_name:
        if name in _LISTS or name.startswith(b"list-"):
            return f"it has a {name.decode()} field"
    return ""


class Replies:
    """Remembers whom replies went to: a file for each address, named by its hash, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def refusal(self, sender: bytes, now: float) -> str:
        """Return why the sender gets no reply now; if it does, nothing, and that is remembered.

        Raises ConfigError if it cannot be remembered.
        """
        path = self._directory / hashlib.sha256(sender.lower()).hexdigest()
        try:
            recent = self._recent(now)
            if path.name in recent:
                return "a reply went there within the hour"
            if len(recent) >= _MOST:
                return f"{_MOST} replies within the hour"
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            os.utime(path, (now, now))
        except OSError as error:
            cause, way = access.barrier(self._directory.absolute())
            what = f"{why(error)}: {cause}" if cause else why(error)
            hint = way or f"install -d -m 0700 -o {access.user()} {self._directory}"
            raise ConfigError(f"{self._directory}: {what}", hint) from None
        return ""

    def forget(self, sender: bytes) -> None:
        """Let the sender have a reply again: this one could not be sent."""
        (self._directory / hashlib.sha256(sender.lower()).hexdigest()).unlink(missing_ok=True)

    def _recent(self, now: float) -> set[str]:
        """Return the names of those within the hour, and remove the others."""
        recent = set()
        for each in os.scandir(self._directory):
            if 0 <= now - each.stat(follow_symlinks=False).st_mtime < _AGAIN:
                recent.add(each.name)
            elif len(each.name) == hashlib.sha256().digest_size * 2:
                Path(each.path).unlink(missing_ok=True)
        return recent


def from_address(recipient: str) -> str:
    """Return the address of the alias in US-ASCII. Raises HandoverError if From cannot have it."""
    octets = recipient.encode("utf-8", "surrogateescape")
    local_part, at, domain = octets.rpartition(b"@")
    address = local_part + at + as_a_labels(domain)
    if not address.isascii() or not _is_address(address):
        what = f"the address of the alias cannot be written in From: '{printable(octets)}'"
        raise HandoverError(
            what if at else "the address of the alias is unknown", "dkimpipe reflect --from=ADDRESS"
        )
    return address.decode("ascii")


def reply(
    sender: bytes, recipient: str, by_name: Mapping[bytes, Sequence[Field]], findings: Sequence[str]
) -> bytes:
    """Return the reply: findings as text, and fields as RFC 3834 section 3.1 requires.

    The fields are not built by EmailMessage, which decodes, folds or refuses some values from a sender.
    """
    identifier = _message_id(by_name)
    fields = {
        "From": recipient,
        "To": sender.decode("utf-8"),
        "Subject": _encoded(f"Re: {_subject(by_name)}"),
        "Date": formatdate(time.time(), localtime=True),
        "Message-ID": make_msgid("dkimpipe", recipient.rpartition("@")[2]),
        **({"In-Reply-To": identifier, "References": identifier} if identifier else {}),
        "Auto-Submitted": "auto-replied",
        "X-Auto-Response-Suppress": "All",
        "Precedence": "junk",
    }
    text = EmailMessage()
    text.set_content("".join(f"{line}\n" for line in findings))
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode() + text.as_bytes()


def _is_address(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except ValueError:
        return False
    return len(octets) <= _MAX_ADDRESS and bool(_ADDRESS.fullmatch(octets))


def _encoded(text: str) -> str:
    """Return a line of text as the value of a field, in encoded words (RFC 2047) if it needs them."""
    if text.isascii() and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name="Subject").encode()


def _subject(by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return the subject, decoded, in one short line."""
    fields = by_name.get(b"subject", [])
    text = fields[0].value.decode("utf-8", "replace") if fields else ""
    try:
        text = str(make_header(decode_header(text)))
    except (ValueError, LookupError, MessageError):  # an encoding that is unknown, or not kept to
        pass
    return one_line(text)[:_MAX_SUBJECT]


def _message_id(by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return the Message-ID, nothing if it is not a valid one."""
    fields = by_name.get(b"message-id", [])
    found = _MESSAGE_ID.fullmatch(fields[0].value) if fields else None
    return found[0].decode("ascii") if found else ""
