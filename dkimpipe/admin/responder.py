"""Who gets an automatic reply, and how often (RFC 3834): no program, and nobody twice within an hour."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import time
from collections.abc import Mapping, Sequence
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from dkimpipe.errors import ConfigError, one_line
from dkimpipe.files import why
from dkimpipe.message import Field

_AGAIN = 3600  # seconds until the same address may have another reply
_MOST = 100  # replies in that time: whoever forges senders must not have us write to all of them
_MAX_ADDRESS = 254  # octets, RFC 5321 section 4.5.3.1.3
_ADDRESS = re.compile(rb"[^\s<>()\[\]\\,;:\"@\x00-\x20\x7f]+@[A-Za-z0-9.-]+")
_MAX_SUBJECT = 200  # characters
_MESSAGE_ID = re.compile(rb"<[^\s<>\x00-\x20\x7f-\xff]{1,500}>")
# Local parts behind which there is no person (RFC 3834 section 2, RFC 2142, and usual names).
_PROGRAMS = re.compile(
    rb"(?:mailer-daemon|postmaster|double-bounce|listserv|majordomo|root|no-?reply|do-?not-?reply"
    rb"|owner-.*|.*-(?:request|owner|relay|bounces?|confirm|errors?))(?:\+.*)?",
    re.IGNORECASE,
)
# Fields that only lists and other programs write.
_LISTS = (b"list-id", b"list-post", b"list-unsubscribe", b"list-help", b"mailing-list", b"x-loop",
          b"x-auto-response-suppress", b"feedback-id")  # fmt: skip
_BULK = (b"bulk", b"list", b"junk")


def refusal(sender: bytes, by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return why this message gets no reply, nothing if it does."""
    if not sender:
        return "null sender"
    if len(sender) > _MAX_ADDRESS or not _ADDRESS.fullmatch(sender):
        return "the sender is not an address to reply to"
    if _PROGRAMS.fullmatch(sender.rpartition(b"@")[0]):
        return "the sender is a program"
    for field in by_name.get(b"auto-submitted", []):
        if field.value.partition(b";")[0].strip().lower() != b"no":
            return "submitted automatically"
    for field in by_name.get(b"precedence", []):
        if field.value.strip().lower() in _BULK:
            return "bulk mail"
    for name in _LISTS:
        if name in by_name:
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
            raise ConfigError(
                f"{self._directory}: {why(error)}",
                f"install -d -m 0700 -o {_user()} {self._directory}",
            ) from None
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


def reply(
    sender: bytes, recipient: str, by_name: Mapping[bytes, Sequence[Field]], findings: Sequence[str]
) -> EmailMessage:
    """Return the reply: findings as text, and fields as RFC 3834 section 3.1 requires."""
    answer = EmailMessage()
    answer["From"] = recipient
    answer["To"] = sender.decode("utf-8", "replace")
    answer["Subject"] = f"Re: {_subject(by_name)}"
    answer["Date"] = formatdate(time.time(), localtime=True)
    answer["Message-ID"] = make_msgid("dkimpipe", recipient.rpartition("@")[2] or None)
    identifier = _message_id(by_name)
    if identifier:
        answer["In-Reply-To"] = answer["References"] = identifier
    answer["Auto-Submitted"] = "auto-replied"
    answer["X-Auto-Response-Suppress"] = "All"
    answer["Precedence"] = "junk"
    answer.set_content("".join(f"{line}\n" for line in findings))
    return answer


def _subject(by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return the subject, decoded, in one short line."""
    fields = by_name.get(b"subject", [])
    text = fields[0].value.decode("utf-8", "replace") if fields else ""
    try:
        text = str(make_header(decode_header(text)))
    except (ValueError, LookupError):  # an encoding that is unknown, or not kept to
        pass
    return one_line(text)[:_MAX_SUBJECT]


def _message_id(by_name: Mapping[bytes, Sequence[Field]]) -> str:
    """Return the Message-ID, nothing if it is not a valid one."""
    fields = by_name.get(b"message-id", [])
    found = _MESSAGE_ID.fullmatch(fields[0].value) if fields else None
    return found[0].decode("ascii") if found else ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
