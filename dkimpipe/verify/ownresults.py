"""Authentication results that our own host recorded in the header, such as those of SPF by a policy server.

Only fields above the topmost Received field are believed. smtpd(8) writes what a policy server or a table
returns (PREPEND, access(5)), then its Received field, then what the client sends: nothing above it can be
forged, unless header_checks(5) remove that Received field. Most milters insert their fields below it, where
they cannot be distinguished from the client's, so those are ignored.
"""

from __future__ import annotations

import re

from dkimpipe.address import to_a_labels
from dkimpipe.verify.authres import NAME, ResInfo
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

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


def results(message: Message, authserv_id: str) -> Iterator[ResInfo]:
    """Yield each result in a field with our authserv-id; what is not exactly a result is left out."""
    for field in fields_of_our_host(message):
        if field.name != NAME:
            continue
        try:
            name, *items = parts(field.value)
            if to_a_labels(name.split()[0].strip(b'"')).rstrip(b".") == authserv_id.encode():
                yield from _unambiguous(items)
        except (ValueError, IndexError):  # not to be parsed, or without a name
            continue


def _unambiguous(items: Sequence[bytes]) -> Iterator[ResInfo]:
    """Yield the results of a field, but none of SPF if the client may have written one.

    Its HELO may have ended a comment early, or its address contained a semicolon: then two results are for
    MAIL FROM, or something is not a result.
    """
    found = [parsed(item) for item in items if item.strip() not in (b"", b"none")]
    senders = sum(each.method == "spf" and "smtp.mailfrom" in dict(each.properties) for each in found if each)
    doubtful = None in found or senders > 1
    for each in found:
        if each and not (doubtful and each.method == "spf"):
            yield each


def carried_over(message: Message, authserv_id: str, judged: Collection[str]) -> list[ResInfo]:
    """Return these results, each once, but for those of methods that are ours to judge.

    One with two values of one name is left out: the client may have written one of them.
    """
    found: dict[tuple[object, ...], ResInfo] = {}
    for each in results(message, authserv_id):
        if each.method not in judged and len(found) < _MAX_RESULTS:
            found[each.method, each.result, each.properties, each.reason] = each
    return list(found.values())


def parsed(item: bytes) -> ResInfo | None:
    """Return a result, ``method=result`` and its properties; None if the text is not exactly one."""
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
