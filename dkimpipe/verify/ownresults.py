"""Authentication results that our own host recorded in the header, such as those of SPF by a policy server.

Only fields above the topmost Received field are believed. smtpd(8) writes what a policy server or a table
returns (PREPEND, access(5)), then its Received field, then what the client sends: nothing above it can be
forged, unless header_checks(5) remove that Received field. Most milters insert their fields below it, where
they cannot be distinguished from the client's, so those are ignored.

Policy servers write the client's sender address into these fields as they get it from smtpd(8): without
quotes, whatever its local part contains. policyd-spf (spf-engine 3.1) has it in the comment at the end of an
Authentication-Results field, and as a value in a Received-SPF field. So a comment may end early, and what
follows it may be the client's: a field with comments, and any result of SPF, is read as in module
``spfrecord``.
"""

from __future__ import annotations

import re

from dkimpipe.address import as_a_labels
from dkimpipe.verify import spfrecord
from dkimpipe.verify.authres import NAME, ResInfo
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from dkimpipe.message import Field, Message

_MAX_RESULTS, _MAX_PROPERTIES = 20, 20
_HEAD = re.compile(rb'\s*"?([^\s"();\\]+)"?\s*(?:\([^();"\\]*\))?\s*[0-9]*\s*')
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
        head, _, text = field.value.partition(b";")
        name = _HEAD.fullmatch(head)
        if name and as_a_labels(name[1]).rstrip(b".") == authserv_id.encode():
            yield from _results(text)


def _results(text: bytes) -> Iterator[ResInfo]:
    """Yield the results in the text behind an authserv-id."""
    if found := spfrecord.result(text):
        method, word, name, value = found
        yield ResInfo(method, word, ((name, value),))
    elif not any(octet in text for octet in b"()\\"):
        yield from _without_comments(text)


def _without_comments(text: bytes) -> Iterator[ResInfo]:
    """Yield the results in text without comments, but no pass of SPF, and none beside a result of SPF."""
    try:
        items = [item.strip() for item in parts(text)]
    except ValueError:  # an unterminated quoted string
        return
    found = [parsed(item) for item in items if item not in (b"", b"none")]
    of_spf = [each for each in found if each and each.method == "spf"]
    if of_spf and (len(found) > 1 or of_spf[0].result == "pass"):
        return
    yield from filter(None, found)


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
