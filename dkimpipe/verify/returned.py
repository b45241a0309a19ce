"""The message that came back: in a bounce (RFC 3464), a complaint (RFC 5965) or failure report (RFC 9991).

All three are multipart/report (RFC 6522): text for people, facts for programs, and the returned message, or
its header. Others do without: qmail and Exim write it below a line of a text, some label the parts
multipart/mixed, and people attach a bounce to a mail. The message is taken out octet for octet; the email
package would write it anew.

Nothing but what is returned is copied: parts are views of the body.
"""

from __future__ import annotations

import itertools
import re
from binascii import Error as NotBase64
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from email.utils import parseaddr
from io import BytesIO
from typing import Callable, NamedTuple

from dkimpipe.body import BodyHashes
from dkimpipe.errors import HeaderError, printable
from dkimpipe.message import Message
from dkimpipe.verify import signature, transit
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.mimepart import Part
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verdict import Verdict

_DEEPEST = 10  # parts in parts
_MOST_PARTS = 1000  # of a multipart, and of a message
_WHOLE = ("message/rfc822", "message/global")
_HEADERS = ("text/rfc822-headers", "message/rfc822-headers", "message/global-headers")
_MAYBE = ("text/plain", "text/rfc822", "application/octet-stream")  # searched if there is none of these
_HEADER_LIMIT = 8 << 20  # octets
_MIME_LIMIT = 1 << 16  # octets of a header that are searched for MIME fields; and of facts
_LINE_END = re.compile(rb"\r?\n")
_HEADER_END = re.compile(rb"\A\r?\n|\r?\n\r?\n")
_FACTS_FOR_PROGRAMS = (
    *("message/delivery-status", "message/feedback-report"),
    *("message/global-delivery-status", "message/global-disposition-notification"),
)
# The line above a message in a text: of qmail, Exim, Sendmail, Courier, Gmail, Exchange and their kind.
_MARK = re.compile(
    rb"^[ \t]*(?:[-=*_|]{2}[^\r\n]{0,80}?\b"
    rb"(?:(?:copy|original|returned|unsent|undelivered)\b[^\r\n]{0,40}?\b(?:message|mail|headers?)"
    rb"|(?:message|mail|headers?)\b[^\r\n]{0,40}?\b(?:follows?|below))\b"
    rb"|original message headers:)[^\r\n]{0,100}\r?\n",
    re.IGNORECASE | re.MULTILINE,
)
# The first line that is not between it and the message: neither empty nor another line of this kind (Exim, of
# a long message).
_BELOW = re.compile(rb"^(?![ \t]*(?:[-=*_|]{2}[^\r\n]*)?\r?$)", re.MULTILINE)
# What says that the end is missing: above a message (Exim), or below it (qmail, Gmail).
_CUT_ABOVE = re.compile(rb"\bonly the first\b|\btruncated\b", re.IGNORECASE)
_CUT_BELOW = re.compile(
    rb"^[ \t]*(?:[-=*_|]{2}|\[)[^\r\n]{0,80}?\b(?:truncated|stripped|clipped|cut off|suppressed)\b",
    re.IGNORECASE | re.MULTILINE,
)
_NOTE = 500  # octets that are searched for such a line
# A message that was sent has one of these; what people quote below such a line does not.
_SENT = (b"received", b"dkim-signature", b"return-path", b"message-id")
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
# The same in a text: of Exim's failure reports.
_FACTS_IN_TEXT = re.compile(
    rb"^[ \t]+(sender domain|sender ip address|(?:spf|dkim) alignment|dmarc results):[ \t]*([^\r\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64)
_WHAT = {
    "whole": "explained is the returned message:",
    "beginning": "explained is the returned header; only the beginning of its body came back:",
    "header": "explained is the returned header; its body did not come back:",
}


class Returned(NamedTuple):
    """A returned message.

    ``message``  its header
    ``body``     raw octets
    ``extent``   how much came back, as far as it is known: whole, beginning or header
    ``notes``    what it came back in, and why, line by line
    """

    message: Message
    body: bytes
    extent: str
    notes: list[str]

    def introduction(self, is_valid: bool) -> list[str]:
        """Return the notes, and what is explained: with a valid signature, nothing is missing."""
        return [*self.notes, _WHAT["whole" if is_valid else self.extent]]


def take_out(message: Message, body: bytes) -> Returned | None:
    """Return the message that came back in this one, if this is a report, or one is attached."""
    return _take_out(_header(message.header), memoryview(body), _DEEPEST)


def not_found(message: Message) -> list[str]:
    """Return what to say of a bounce or report without a returned message, nothing of other mail."""
    outer = _header(message.header)
    if not _is_report(outer) and not _is_from_bouncer(outer):
        return []
    kind = _kind(outer)
    itself = "bounce" if kind == "a bounce" else "report"
    return [f"{kind}, in which the returned message was not found; explained is the {itself} itself:"]


def _take_out(outer: Part, body: memoryview, depth: int) -> Returned | None:
    is_report, is_from_bouncer = _is_report(outer), _is_from_bouncer(outer)
    notes = [_kind(outer)]
    if outer.get_content_maintype() == "text":
        is_of_person = "DKIM-Signature" in outer and not is_from_bouncer and not _is_reply_of_program(outer)
        return None if is_of_person else _in_text(_decoded(outer, body), notes)
    texts = []
    for part, octets in itertools.islice(_parts(outer, body, _DEEPEST), _MOST_PARTS):
        kind = part.get_content_type()
        if kind in _FACTS_FOR_PROGRAMS:
            notes += _facts(octets)
            if not is_report:
                is_report, notes[0] = True, _KINDS[kind.partition("/")[2].replace("global-", "")]
        elif kind in (*_WHOLE, *_HEADERS):
            if is_report or is_from_bouncer:
                return _returned(octets, notes)
            header, content = _split(octets)
            if depth and (found := _take_out(_header(header), content, depth - 1)):
                return found
        elif kind in _MAYBE:
            texts.append(octets)
    for text in texts if is_report or is_from_bouncer else ():
        if found := _in_text(text, notes, is_report):
            return found
    return None


def _in_text(text: memoryview, notes: list[str], is_report: bool = False) -> Returned | None:
    """Return the message below a line that announces it; in a report, perhaps without such a line."""
    if is_report and (found := _if_sent(text, notes)):
        return found
    at = 0
    for _ in range(_MOST_MARKS):
        mark = _MARK.search(text, at)
        below = mark and _BELOW.search(text, mark.end())
        if not mark or not below:
            break
        at = below.start()
        facts = [
            f"    {name.decode().lower()}: {printable(value, 300)}"
            for name, value in _FACTS_IN_TEXT.findall(bytes(text[: min(mark.start(), _MIME_LIMIT)]))
        ]
        is_cut = bool(_CUT_ABOVE.search(text[mark.start() : min(at, mark.end() + _NOTE)]))
        if found := _if_sent(text[at:], notes + facts, is_cut):
            return found
    return None


def _is_report(outer: Part) -> bool:
    return outer.get_content_type() == "multipart/report"


def _is_from_bouncer(outer: Part) -> bool:
    """Return whether a header is that of a bounce: a null sender (RFC 5321 section 4.5.5), or its name."""
    local_part = parseaddr(str(outer.get("From", "")))[1].partition("@")[0].lower()
    return (
        str(outer.get("Return-Path", "")).strip() == "<>"
        or local_part in _BOUNCERS
        or "X-Failed-Recipients" in outer
    )


def _is_reply_of_program(outer: Part) -> bool:
    """Return whether a header is that of a response by a program (RFC 3834 section 5)."""
    return str(outer.get("Auto-Submitted", "")).strip().lower().startswith("auto-replied")


def _kind(outer: Part) -> str:
    """Return what a mail is by its header, if a message came back in it."""
    if not _is_report(outer):
        return "a bounce" if _is_from_bouncer(outer) else "a report"
    kind = str(outer.get_param("report-type")).lower().replace("global-", "")
    return _KINDS.get(kind, "a report")


def explain_header(message: Message, resolver: Resolver) -> Iterator[str]:
    """Yield what the header alone shows of each DKIM signature, line by line."""
    fields = message.by_name.get(b"dkim-signature", [])
    if not fields:
        yield "no signature"
    for field in fields:
        try:
            parsed = signature.parse(field)
            check = DkimCheck(parsed, message, BodyHashes(large=False))
            first, *others = transit.state_of_header(check, message, resolver) or ["permerror: no key"]
        except Verdict as verdict:
            yield f"dkim-signature: {verdict.result}: {verdict}"
            continue
        yield f"dkim-signature: {first}"
        yield f"    d={parsed.domain.decode()} s={parsed.selector.decode()} a={parsed.algorithm}"
        yield from (f"    {line}" for line in others)


def _header(octets: bytes | memoryview) -> Part:
    return BytesHeaderParser(Part).parsebytes(bytes(octets[:_MIME_LIMIT]))


def _boundary(part: Part) -> bytes:
    return str(part.get_boundary("")).encode("ascii", "replace")


def _parts(outer: Part, body: memoryview, depth: int) -> Iterator[tuple[Part, memoryview]]:
    """Yield header and content of each part that is not a multipart itself."""
    boundary = _boundary(outer)
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r?\n|\Z)")
    for piece in _between(delimiter, body) if boundary and depth else ():
        header, content = _split(piece)
        part = _header(header)
        if part.get_content_maintype() == "multipart":
            yield from _parts(part, content, depth - 1)
        else:
            yield part, _decoded(part, content)


def _between(delimiter: re.Pattern[bytes], body: memoryview) -> Iterator[memoryview]:
    """Yield what is in the lines below each delimiter."""
    found = list(itertools.islice(delimiter.finditer(body), _MOST_PARTS))
    for each, following in itertools.zip_longest(found, found[1:]):
        piece = body[each.end() : following.start() if following else len(body)]
        line_end = _LINE_END.match(piece)
        yield piece[line_end.end() :] if line_end else piece


def _split(octets: memoryview) -> tuple[memoryview, memoryview]:
    end = _HEADER_END.search(octets)
    return (octets[: end.start()], octets[end.end() :]) if end else (octets, octets[:0])


def _decoded(part: Part, content: memoryview) -> memoryview:
    """Return the octets that were encoded: not allowed for messages (RFC 2046 section 5.2.1), but done."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "base64":
        return memoryview(_of_base64(content))
    return memoryview(a2b_qp(content)) if encoding == "quoted-printable" else content


def _of_base64(content: memoryview) -> bytes:
    """Return the octets of base64 text, which may end anywhere; the text itself if it is something else."""
    digits = bytes(content).translate(None, _NOT_BASE64)
    for complete in (digits + b"==", digits[: len(digits) // 4 * 4]):
        try:
            return a2b_base64(complete)
        except NotBase64:
            continue
    return bytes(content)


def _facts(octets: memoryview) -> list[str]:
    try:
        blocks = re.split(rb"\r?\n\r?\n", bytes(octets[:_MIME_LIMIT]))
        fields = [field for block in blocks if block for field in Message(BytesIO(block).read).fields]
    except HeaderError:
        return []
    return [
        f"    {field.name.decode()}: {printable(field.value, 300)}"
        for field in fields
        if field.name in _FACTS
    ]


def _if_sent(octets: memoryview, notes: list[str], is_cut: bool = False) -> Returned | None:
    """Return a message if it looks as if it was sent."""
    message = _message(octets)
    if not message or message.by_name.keys().isdisjoint(_SENT):
        return None
    return _returned(octets, notes, is_cut)


def _returned(octets: memoryview, notes: list[str], is_cut: bool = False) -> Returned | None:
    read = _message(octets)
    if not read:
        return None
    begin = len(read.envelope_line) + len(read.header)
    message, body = Message(BytesIO(octets[:begin]).read, _HEADER_LIMIT), bytes(octets[begin:])
    if not body.strip():
        return Returned(message, body, "header", notes)
    is_cut = is_cut or bool(_CUT_BELOW.search(body[-_NOTE:])) or _ends_early(message, body)
    return Returned(message, body, "beginning" if is_cut else "whole", notes)


def _ends_early(message: Message, body: bytes) -> bool:
    """Return whether a multipart lacks its last boundary, after which nothing is displayed."""
    outer = _header(message.header)
    boundary = _boundary(outer) if outer.get_content_maintype() == "multipart" else b""
    return bool(boundary) and b"--" + boundary + b"--" not in body


def _message(octets: memoryview) -> Message | None:
    """Return the message that begins here, None if its header is too large."""
    try:
        return Message(_reader(octets), _HEADER_LIMIT)
    except HeaderError:
        return None


def _reader(octets: memoryview) -> Callable[[int], bytes]:
    """Return a function that reads, as from a file, without a copy of everything."""
    left = octets

    def read(size: int) -> bytes:
        nonlocal left
        chunk, left = bytes(left[:size]), left[size:]
        return chunk

    return read
