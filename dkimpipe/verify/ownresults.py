"""Authentication results that our own host recorded in the header, such as those of SPF by a policy server.

Only fields above the topmost Received field are believed. smtpd(8) writes what a policy server or a table
returns (PREPEND, access(5)), then its Received field, then what the client sends: nothing above it can be
forged, unless header_checks(5) remove that Received field. Most milters insert their fields below it, where
they cannot be distinguished from the client's, so those are ignored.
"""

from __future__ import annotations

import re

from dkimpipe.address import to_a_labels
from dkimpipe.verify.authres import METHODS, NAME, ResInfo
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dkimpipe.message import Field, Message

_MAX_RESULTS, _MAX_PROPERTIES = 20, 20
# RFC 8601 section 2.2: a method, perhaps with its version, its result, and then names and values.
_RESULT = re.compile(rb"\s*([A-Za-z][\w-]*)(?:\s*/\s*[0-9]+)?\s*=\s*([A-Za-z]+)(?!\S)")
_PAIR = re.compile(rb'\s+([A-Za-z][\w.-]*)\s*=\s*((?:"[^"\\]*(?:\\.[^"\\]*)*"|[^"\s])+)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def fields_of_our_host(message: Message) -> Sequence[Field]:
    """Return the fields above the topmost Received field, none if there is no such field."""
    names = [field.name for field in message.fields]
    return message.fields[: names.index(b"received")] if b"received" in names else ()


def results(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield each result in a field with our authserv-id, ``method=result`` and its properties.

    Without comments; the values are as written, by anybody.
    """
    for field in fields_of_our_host(message):
        if field.name != NAME:
            continue
        try:
            name, *items = parts(field.value)
            if to_a_labels(name.split()[0].strip(b'"')).rstrip(b".") == authserv_id.encode():
                yield from _unambiguous(items)
        except (ValueError, IndexError):  # not to be parsed, or without a name
            continue


def _unambiguous(items: Sequence[bytes]) -> Sequence[bytes]:
    """Leave out SPF results if two are for MAIL FROM: the client's HELO may have ended a comment early."""
    spf = [item for item in items if item.lower().lstrip().startswith(b"spf")]
    if sum(b"smtp.mailfrom" in item.lower() for item in spf) < 2:
        return items
    return [item for item in items if item not in spf]


def carried_over(message: Message, authserv_id: str) -> list[ResInfo]:
    """Return these results, each once, but for those of DKIM and DomainKeys, which are our own to judge.

    What is not exactly a result is left out, as is one with two values of one name: the client may have
    written one of them.
    """
    found: dict[bytes, ResInfo] = {}
    for item in results(message, authserv_id):
        resinfo = _resinfo(item)
        if resinfo and resinfo.method not in METHODS.values() and len(found) < _MAX_RESULTS:
            found[b" ".join(item.split())] = resinfo
    return list(found.values())


def _resinfo(item: bytes) -> ResInfo | None:
    """Return a result as parsed, None if it is not one."""
    head = _RESULT.match(item)
    at = head.end() if head else 0
    pairs: list[tuple[str, str]] = []
    while found := _PAIR.match(item, at):
        pairs.append((found[1].decode().lower(), _plain(found[2])))
        at = found.end()
    values = dict(pairs)
    if not head or item[at:].strip() or len(values) < len(pairs) or len(pairs) > _MAX_PROPERTIES:
        return None
    reason = values.pop("reason", "")
    return ResInfo(head[1].decode().lower(), head[2].decode().lower(), tuple(values.items()), reason)


def _plain(value: bytes) -> str:
    """Return a value without quotes; what is quoted within it stays so."""
    text = value.decode("utf-8", "replace")
    return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if text[:1] == text[-1:] == '"' and len(text) > 1 else text
