"""SPF results that our own host recorded in the header; SPF itself is not checked.

A pass is trusted in a Received-SPF field (RFC 7208 section 9.1), or in an Authentication-Results field with
our authserv-id, above the topmost Received field.
"""

from __future__ import annotations

import re

from dkimpipe.address import to_a_labels
from dkimpipe.verify.ownresults import fields_of_our_host, results
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from dkimpipe.message import Message

# A name and a value, which consists of quoted strings and unquoted text without white space.
_PAIR = re.compile(rb'(?<![\w.-])([\w.-]+)[ \t]*=[ \t]*((?:"[^"\\]*(?:\\.[^"\\]*)*"|[^" \t])*)', re.DOTALL)
_NAMES = (b"identity", b"envelope-from", b"helo", b"smtp.mailfrom", b"smtp.helo")


def passed(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield the domains for which SPF passed, in A-labels; an empty one if the field names none."""
    for field in fields_of_our_host(message):
        try:
            items = list(parts(field.value)) if field.name == b"received-spf" else [b""]
        except ValueError:
            continue
        if items[0].lower().split()[:1] == [b"pass"]:
            yield from _domain(b" ".join(items), b"envelope-from", b"helo")
    for item in results(message, authserv_id):
        if item.lower().split()[:1] == [b"spf=pass"]:
            yield from _domain(item, b"smtp.mailfrom", b"smtp.helo")


def _domain(text: bytes, mail_from: bytes, helo: bytes) -> Iterator[bytes]:
    """Yield the domain that passed: of the MAIL FROM identity, or of HELO if that was checked instead.

    Nothing is yielded if a name appears twice: one of the two may come from the client.
    """
    pairs = [(name.lower(), value) for name, value in _PAIR.findall(text) if name.lower() in _NAMES]
    values = {name: value.strip(b'"<>').lower() for name, value in pairs}
    if len(values) < len(pairs):
        return
    names = [helo] if values.get(b"identity") == b"helo" else [mail_from, helo]
    domains = (values.get(name, b"").rpartition(b"@")[2].rstrip(b".") for name in names)
    try:
        yield to_a_labels(next(filter(None, domains), b""))
    except ValueError:  # not UTF-8
        return
