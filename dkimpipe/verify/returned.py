"""The message that came back: in a bounce (RFC 3464), a complaint (RFC 5965) or failure report (RFC 9991).

All three are multipart/report (RFC 6522): text for people, facts for programs, and the returned message, or
its header. Others do without: qmail and Exim write the message below a line of a text, some label the parts
multipart/mixed, and people attach a bounce to a mail. It is taken out octet for octet; the email package
would write it anew.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from email.utils import parseaddr
from typing import NamedTuple

from dkimpipe.body import BodyHashes
from dkimpipe.errors import HeaderError, printable
from dkimpipe.message import Message
from dkimpipe.verify import keyrecord, signature, transit
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.mimepart import Part
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verdict import Verdict

_DEEPEST = 10  # parts in parts
_WHOLE = ("message/rfc822", "message/global")
_HEADERS = ("text/rfc822-headers", "message/rfc822-headers", "message/global-headers")
_HEADER_LIMIT = 8 << 20  # octets
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FACTS_FOR_PROGRAMS = ("message/delivery-status", "message/feedback-report")
# The line above a message in a text: of qmail, Exim, Sendmail, Courier, Gmail, Exchange and their kind.
_MARK = re.compile(
    rb"^[ \t]*(?:[-=*_]{2}[^\r\n]{0,80}?\b(?:copy|original|returned|unsent|undelivered)\b[^\r\n]{0,40}?"
    rb"\b(?:message|mail|headers?)\b|original message headers:)[^\r\n]{0,100}\r?\n",
    re.IGNORECASE | re.MULTILINE,
)
# What may be between it and the message: empty lines, and more lines of this kind (Exim, of a long message).
_MARGIN = re.compile(rb"(?:[ \t]*(?:[-=*_]{2}[^\r\n]*)?\r?\n)*")
# A message that was sent has one of these; what people quote below such a line does not.
_SENT = (b"received", b"dkim-signature", b"return-path", b"message-id")
NOT_FOUND = "a bounce, in which the returned message was not found; explained is the bounce itself:"
_MOST_MARKS = 20  # lines of a text
_BOUNCERS = ("mailer-daemon", "postmaster")
_KINDS = {
    "delivery-status": "a bounce",
    "feedback-report": "a complaint or failure report",
    "disposition-notification": "a receipt",
}
# Fields of the facts for programs that say why the message came back.
_FACTS = (
    *(b"reporting-mta", b"status", b"diagnostic-code", b"feedback-type", b"auth-failure"),
    *(b"reported-domain", b"dkim-domain", b"dkim-selector"),
)


class Returned(NamedTuple):
    """A returned message.

    ``message``  whose body is empty if only the header came back (``has_body``)
    ``body``     raw octets
    ``notes``    what it came back in, and why, line by line
    """

    message: Message
    body: bytes
    has_body: bool
    notes: list[str]


def take_out(message: Message, body: bytes) -> Returned | None:
    """Return the message that came back in this one, if this is a report, or one is attached."""
    return _take_out(_header(message.header), body, _DEEPEST)


def is_bounce(message: Message) -> bool:
    """Return whether a message is a bounce by its header, or by its type; perhaps without what it returns."""
    outer = _header(message.header)
    return outer.get_content_type() == "multipart/report" or _is_from_bouncer(outer)


def _take_out(outer: Part, body: bytes, depth: int) -> Returned | None:
    is_report = outer.get_content_type() == "multipart/report"
    notes = [_KINDS.get(str(outer.get_param("report-type")).lower(), "a report") if is_report else "a bounce"]
    if outer.get_content_maintype() == "text":
        return _in_text(outer, _decoded(outer, body), notes)
    is_from_bouncer = _is_from_bouncer(outer)
    parts = _parts(outer, body, _DEEPEST)
    for part, octets in parts:
        kind = part.get_content_type()
        if kind in _FACTS_FOR_PROGRAMS:
            notes += _facts(octets)
            if not is_report:
                is_report, notes[0] = True, _KINDS[kind.partition("/")[2]]
        elif kind in (*_WHOLE, *_HEADERS):
            if is_report or is_from_bouncer:
                return _returned(octets, notes)
            header, content = _split(octets)
            if depth and (found := _take_out(_header(header), content, depth - 1)):
                return found
        elif is_from_bouncer and kind == "text/plain" and (found := _in_text(outer, octets, notes)):
            return found
    return None


def _in_text(outer: Part, text: bytes, notes: list[str]) -> Returned | None:
    """Return the message below a line that announces it, unless a person has signed the text with it."""
    if "DKIM-Signature" in outer and not _is_from_bouncer(outer):
        return None
    for mark in itertools.islice(_MARK.finditer(text), _MOST_MARKS):
        margin = _MARGIN.match(text, mark.end())
        found = _returned(text[margin.end() if margin else mark.end() :], notes)
        if found and not found.message.by_name.keys().isdisjoint(_SENT):
            return found
    return None


def _is_from_bouncer(outer: Part) -> bool:
    """Return whether a header is that of a bounce: a null sender (RFC 5321 section 4.5.5), or its name."""
    local_part = parseaddr(str(outer.get("From", "")))[1].partition("@")[0].lower()
    return (
        str(outer.get("Return-Path", "")).strip() == "<>"
        or local_part in _BOUNCERS
        or "X-Failed-Recipients" in outer
    )


def explain_header(message: Message, resolver: Resolver) -> Iterator[str]:
    """Yield what the header alone shows of each DKIM signature, line by line."""
    fields = message.by_name.get(b"dkim-signature", [])
    if not fields:
        yield "no signature"
    for field in fields:
        try:
            parsed = signature.parse(field)
            check = DkimCheck(parsed, message, BodyHashes(large=False))
            keys = [keyrecord.parse(text) for text in resolver.texts(parsed.key_name).texts]
            hash_value = check.digest()
            matches = any(key.verifies(parsed.signature, hash_value, parsed.hash_name) for key in keys)
        except Verdict as verdict:
            yield f"dkim-signature: {verdict.result}: {verdict}"
            continue
        who = f"    d={parsed.domain.decode()} s={parsed.selector.decode()} a={parsed.algorithm}"
        if not keys:
            yield from ("dkim-signature: permerror: no key", who)
        elif matches:
            yield from ("dkim-signature: the header is unchanged", who)
        else:
            yield from ("dkim-signature: the header was altered, or signed with another key", who)
            yield from (f"    {line}" for line in transit.changes_of_header(keys[0], check, message))


def _header(octets: bytes) -> Part:
    return BytesHeaderParser(Part).parsebytes(octets)


def _parts(outer: Part, body: bytes, depth: int) -> Iterator[tuple[Part, bytes]]:
    """Yield header and content of each part that is not a multipart itself."""
    boundary = str(outer.get_boundary("")).encode("ascii", "replace")
    delimiter = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r?\n|$)")
    for piece in delimiter.split(body)[1:] if boundary and depth else []:
        piece = piece.removeprefix(b"\r").removeprefix(b"\n")
        header, content = _split(piece)
        part = _header(header)
        if part.get_content_maintype() == "multipart":
            yield from _parts(part, content, depth - 1)
        else:
            yield part, _decoded(part, content)


def _split(octets: bytes) -> tuple[bytes, bytes]:
    if octets.startswith((b"\n", b"\r\n")):  # no header at all
        return b"", octets.lstrip(b"\r").removeprefix(b"\n")
    end = _HEADER_END.search(octets)
    return (octets[: end.start()], octets[end.end() :]) if end else (octets, b"")


def _decoded(part: Part, content: bytes) -> bytes:
    """Return the octets that were encoded: not allowed for messages (RFC 2046 section 5.2.1), but done."""
    if str(part.get("Content-Transfer-Encoding", "")).strip().lower() not in ("base64", "quoted-printable"):
        return content
    part.set_payload(content.decode("ascii", "surrogateescape"))
    decoded = part.get_payload(decode=True)
    return decoded if isinstance(decoded, bytes) else content


def _facts(octets: bytes) -> list[str]:
    try:
        blocks = [Message(io.BytesIO(block).read) for block in re.split(_HEADER_END, octets)]
    except HeaderError:
        return []
    return [
        f"    {field.name.decode()}: {printable(field.value, 300)}"
        for block in blocks
        for field in block.fields
        if field.name in _FACTS
    ]


def _returned(octets: bytes, notes: list[str]) -> Returned | None:
    try:
        message = Message(io.BytesIO(octets).read, _HEADER_LIMIT)
    except HeaderError:
        return None
    body = b"".join(message.body())
    has_body = bool(body.strip())
    what = "the returned message" if has_body else "the returned header; its body did not come back"
    return Returned(message, body, has_body, [*notes, f"explained is {what}:"])
