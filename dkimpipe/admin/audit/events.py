"""The grammar of Postfix's log lines, as far as they show the life of a message.

Addresses, Message-IDs, host names and the replies of other servers are written by others, who may put text
like ``status=sent`` there. So everything is read by its position: each line begins with a time stamp, a host
name, a program and a queue ID; what follows is read from the left up to the first text of others, and from
the right only where nothing of others can follow. A line that does not match is not an event. ``lines.py``
reads the beginning of a line, up to the queue ID.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Short: hexadecimal, microseconds and inode. Long: no vowels, so that no word looks like one.
QUEUE_ID = rb"(?:[0-9A-F]{6,15}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20})"
KEYWORDS = (
    rb"client=|uid=|(?:resent-)?message-id=|from=<|to=<|removed$|requeued$"
    rb"|(?:sender|postmaster) [a-z -]{1,40} notification: |DKIM-Signature field added "
)

_HOST = rb"[^\s\[\],]+\[([\w.:]+)\](?::\w+)?"
_CLIENT = re.compile(
    _HOST + rb"(?:(?:, orig_queue_id=(" + QUEUE_ID + rb"))?(?:, orig_client=" + _HOST + rb")?"
    rb"|, sasl_method=[^\s,]+(?:, sasl_username=(.*))?)$"
)
_PICKUP = re.compile(rb"(\d+) from=<(.*)>(?: orig_id=(" + QUEUE_ID + rb"))?$")
_QUEUED = re.compile(rb"(.*)>, size=\d+, nrcpt=(\d+) \(queue [^()]*\)$")
# An address as Postfix 3.5 and later log it: one with special characters has its local part in quotes.
_ADDRESS = rb'<((?:"(?:[^"\\]|\\.)*"|[^"<>\s])*)>'
_DELIVERY = re.compile(
    _ADDRESS + rb", (?:orig_to=" + _ADDRESS + rb", )?relay=([^\s,]+), "
    rb"(?:[a-z_]+=[^\s,]*, )*dsn=\d\.\d+\.\d+, status=([a-z]+) \((.*)\)$"
)
_FORWARDED = re.compile(rb"forwarded as (" + QUEUE_ID + rb")")
_QUEUED_AS = re.compile(rb"2\d\d .*queued as (" + QUEUE_ID + rb")\)?")
_MILTER = re.compile(rb"\(s=([\w.-]+), d=([\w.-]+)\)")
_RELAY = re.compile(rb"[^\s\[\]]+\[([\w.:]+)\]:\d+")
_FILTERED = re.compile(rb"delivered via (\S+) service \(dkimpipe: (.*)\)")
_SIGNATURE = re.compile(rb"d=([\w.-]+) s=([\w.-]+) a=[a-z0-9]+-[a-z0-9]+(?: domainkeys)?(?=, d=|;|$)")
_CUT = re.compile(rb"d=([\w.-]*)(?: s=([\w.-]*))?")
_RELAYED = re.compile(rb"; (?:2\d\d [\d.]+ [^;]*)?queued as (" + QUEUE_ID + rb")(?:;|$)")
# Where pipe(8) cuts: octets of the filter's output.
PIPE_LIMIT = 100


class Event(NamedTuple):
    """One line.

    ``stamp``     its time stamp
    ``path``      what precedes the program in the syslog name: ``postfix/submission/``, ``postfix-out/``
    ``program``   such as ``smtpd``
    ``queue_id``  of the message
    ``keyword``   what the line begins with after the queue ID, such as ``client=``
    ``text``      the rest
    """

    stamp: bytes
    path: bytes
    program: bytes
    queue_id: bytes
    keyword: bytes
    text: bytes


class Client(NamedTuple):
    """``Q: client=...``.

    ``address``   of the original client, if another filter passed it on (XFORWARD)
    ``is_local``  whether it was passed on from this host
    ``login``     of a client that logged in
    ``parent``    the former queue ID, if another filter passed it on; never of a client that logged in, whose
                  login may look like one
    """

    address: bytes
    is_local: bool
    login: bytes
    parent: bytes


class Delivery(NamedTuple):
    """``Q: to=<...>``.

    ``domain``    of the recipient, in lower case
    ``is_alias``  whether it replaces another recipient
    ``relay``     host, address and port, or the name of a service
    ``status``    sent, deferred, bounced, ...
    ``text``      the reason, in part or all in the words of another server
    """

    domain: bytes
    is_alias: bool
    relay: bytes
    status: bytes
    text: bytes


class Signature(NamedTuple):
    """Signing domain and selector. ``by`` is the program. A name ends in ``...`` where Postfix has cut it."""

    domain: str
    selector: str
    by: str


class Filtered(NamedTuple):
    """What the filter reports.

    ``signatures``  empty for none, and then ``reason`` is the reason
    ``next_id``     the new queue ID, if the message went back by SMTP and the reply is not cut off
    ``is_cut``      whether it is cut before the place of a reply
    """

    signatures: tuple[Signature, ...] = ()
    reason: str = ""
    next_id: bytes = b""
    is_cut: bool = False


def client(text: bytes) -> Client | None:
    """Return what is known of an SMTP client."""
    found = _CLIENT.match(text)
    if not found:
        return None
    address, parent, original, login = found.groups(b"")
    return Client(original or address, _is_this_host(address), login, parent)


def picked_up(text: bytes) -> tuple[int, bytes, bytes] | None:
    """Return user ID and sender of local mail, and its former queue ID if it was queued anew."""
    found = _PICKUP.match(text)
    return (int(found[1]), found[2], found[3] or b"") if found and len(found[1]) < 12 else None


def queued(text: bytes) -> tuple[bytes, int] | None:
    """Return the sender, and the number of recipients."""
    found = _QUEUED.match(text)
    return (found[1], int(found[2])) if found and len(found[2]) < 9 else None


def delivery(text: bytes) -> Delivery | None:
    """Return one delivery, or attempt at it. ``text`` begins after ``to=<``."""
    found = _DELIVERY.match(b"<" + text)
    return Delivery(domain_of(found[1]), found[2] is not None, *found.group(3, 4, 5)) if found else None


def recipients(text: bytes) -> tuple[bytes, bytes]:
    """Return the recipient of a delivery, and the one that it replaces; nothing twice if it is not one."""
    found = _DELIVERY.match(b"<" + text)
    return (found[1], found[2] or b"") if found else (b"", b"")


def domain_of(address: bytes) -> bytes:
    """Return the domain of an address in lower case; nothing if it has none."""
    return address.rpartition(b"@")[2].lower() if b"@" in address else b""


def forwarded_as(text: bytes) -> bytes:
    """Return the queue ID of the copy that local(8) has forwarded; nothing if there is none."""
    found = _FORWARDED.fullmatch(text)
    return found[1] if found else b""


def queued_as(text: bytes) -> bytes:
    """Return the queue ID that a server replied with; nothing if there is none. It may be any server."""
    found = _QUEUED_AS.fullmatch(text)
    return found[1] if found else b""


def is_loopback(relay: bytes) -> bool:
    """Return whether a server is on this host."""
    found = _RELAY.fullmatch(relay)
    return found is not None and _is_this_host(found[1])


def _is_this_host(address: bytes) -> bool:
    return address == b"::1" or address.startswith(b"127.")


def by_milter(text: bytes) -> tuple[Signature, ...]:
    """Return the signature that OpenDKIM reports, which does not know the instance; none if it is not one."""
    found = _MILTER.match(text)
    return (Signature(found[2].decode().lower(), found[1].decode(), "opendkim"),) if found else ()


def filtered(found: Delivery) -> Filtered | None:
    """Return the report of dkimpipe, by its own grammar; None if it is not one.

    It is ``signed SIGNATURE, SIGNATURE; FACT; ...`` or ``not signed: REASON; FACT; ...``.
    """
    report = _FILTERED.fullmatch(found.text)
    if not report or report[1] != found.relay:
        return None
    text = report[2]
    is_cut = len(text) + len(b"dkimpipe: ") >= PIPE_LIMIT
    if text.startswith(b"signed "):
        return _signed(text, is_cut)
    if text.startswith(b"not signed: "):
        reason = text.removeprefix(b"not signed: ").partition(b"; ")[0].rstrip(b";")
        is_cut = is_cut and b"; " not in text
        next_id = _RELAYED.search(text)
        shown = reason.decode("utf-8", "backslashreplace") + ("..." if is_cut else "")
        return Filtered((), shown, next_id[1] if next_id else b"", is_cut)
    return Filtered()


def _signed(text: bytes, is_cut: bool) -> Filtered:
    signatures = []
    at = len(b"signed ")
    while part := _SIGNATURE.match(text, at):
        signatures.append(Signature(part[1].decode().lower(), part[2].decode(), "dkimpipe"))
        at = part.end() + 2 if text[part.end() : part.end() + 2] == b", " else part.end()
    if not signatures:
        part = _CUT.match(text, at) if is_cut else None
        if not part:
            return Filtered()
        signatures.append(_cut_off(*part.groups()))
        at = len(text)
    next_id = _RELAYED.match(text, at)
    is_cut = is_cut and not next_id and b"; from=" not in text[at:]
    return Filtered(tuple(signatures), "", next_id[1] if next_id else b"", is_cut)


def _cut_off(domain: bytes, selector: bytes | None) -> Signature:
    """Return the first signature of a report that is cut within it."""
    if selector is None:
        return Signature(f"{domain.decode().lower()}...", "...", "dkimpipe")
    return Signature(domain.decode().lower(), f"{selector.decode()}...", "dkimpipe")
