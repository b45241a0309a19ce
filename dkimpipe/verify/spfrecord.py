"""An SPF result as policy servers record it, read by a grammar that a client cannot bend.

They copy the client's sender address, HELO name and recipient into a field without quotes, whatever these
contain. So a field is not parsed leniently: all of it has one of the forms below, or it has no result. A
value has no spaces, quotes, parentheses, backslashes or semicolons, and at most one at sign; each key appears
once, in the order of a known server. Text of the client that contains more changes the form, and a sender
such as ``"a b"@example.com`` has no result at all.

An equals sign is allowed within a value: it ends nothing, and VERP, SRS and BATV put one into local parts.
Names are in US-ASCII: servers that map U-labels differently would mean different domains.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_NAME = rb"(?:[\w-]+\.)*[\w-]+\.?"
_ADDRESS = rb'(?:[^\x00-\x20\x7f"(),:;<>@\[\\\]]+@)?' + _NAME
_VALUES = {
    b"identity": re.compile(rb"mailfrom|helo"),
    b"client-ip": re.compile(rb"[0-9A-Fa-f.:]+"),
    b"helo": re.compile(rb"(?:%b|\[[0-9A-Za-z.:]+\])" % _NAME),
    b"envelope-from": re.compile(rb"%b|<>" % _ADDRESS),
    b"receiver": re.compile(rb"(?:%b|<UNKNOWN>)?" % _ADDRESS),
}
# The keys of policyd-spf (spf-engine), of Mail::SPF (postfix-policyd-spf-perl), and of the least.
_CLIENT = (b"client-ip", b"helo", b"envelope-from", b"receiver")
_OF_SENDER = (
    (b"identity", *_CLIENT),
    (b"receiver", b"identity", b"envelope-from", b"helo", b"client-ip"),
    (b"identity", b"envelope-from"),
    (b"envelope-from",),
)
_OF_HELO = (
    (b"identity", *_CLIENT),
    (b"receiver", b"identity", b"helo", b"client-ip"),
    (b"identity", b"helo"),
)
_IN_COMMENT = (_CLIENT, (b"client-ip",))
# The comment of Mail::SPF has parentheses within: it ends at the last one, before the first semicolon.
_RECEIVED_SPF = re.compile(rb'(pass|fail)(?:\s*\([^;"\\]*\)|(?=\s))([^()]*)', re.IGNORECASE)
_RESULT = re.compile(
    rb"\s*([A-Za-z][\w-]*)(?:\s*/\s*1)?\s*=\s*([A-Za-z]+)"
    rb'(?:\s*\([^()"\\]*\)\s*|\s+)'
    rb'([A-Za-z]+\.[\w.-]+)\s*=\s*("?)([^\s"();\\]+)\4\s*'
    rb'(?:\(([^()"\\]*)\)\s*)?'
)


def received(value: bytes) -> tuple[str, str, bytes]:
    """Return pass or fail, the identity, and its domain, of a Received-SPF field (RFC 7208 section 9.1).

    The identity is mailfrom, or helo for the null sender. The domain is empty if there is no such result.
    ``value`` is unfolded.
    """
    found = _RECEIVED_SPF.fullmatch(value)
    values = _values(found[2], _OF_SENDER + _OF_HELO) if found else {}
    sender = values.get(b"envelope-from", b"<>")
    word, domain = (found[1].decode().lower() if found else ""), b""
    if tuple(values) in _OF_SENDER and values.get(b"identity", b"mailfrom") == b"mailfrom":
        return word, "mailfrom", domain_of(sender) if b"@" in sender else b""
    if tuple(values) in _OF_HELO and values[b"identity"] == b"helo" and sender == b"<>":
        domain = domain_of(values[b"helo"])
    return word, "helo", domain


def result(text: bytes) -> tuple[str, str, str, str] | None:
    """Return method, result, and the name and value of the only property, of an Authentication-Results field.

    ``text`` is what follows the authserv-id: one result, with a comment behind it and one at the end, or
    without. None if it has another form, or names two senders.
    """
    found = _RESULT.fullmatch(text)
    if not found:
        return None
    method, word, name = (found[group].decode().lower() for group in (1, 2, 3))
    value, comment = found[5], found[6]
    if method == "spf":
        domain = domain_of(value)
        values = {b"": b""} if comment is None else _values(comment, _IN_COMMENT)
        sender = values.get(b"envelope-from", value if name == "smtp.mailfrom" else b"<>")
        helo = values.get(b"helo", value)
        same = {"smtp.mailfrom": domain_of(sender), "smtp.helo": domain_of(helo) if sender == b"<>" else b""}
        if not domain or not values or same.get(name) != domain:
            return None
    return method, word, name, value.decode("utf-8", "replace")


def domain_of(identity: bytes) -> bytes:
    """Return the domain of an address, or a name, in lower case; nothing if it is neither."""
    if not re.fullmatch(_ADDRESS, identity):
        return b""
    return identity.rpartition(b"@")[2].rstrip(b".").lower()


def _values(text: bytes, forms: Collection[tuple[bytes, ...]]) -> dict[bytes, bytes]:
    """Return the values by key; nothing if these are not the keys, or the values not such values."""
    values = {}
    pairs = [pair.partition(b"=") for pair in text.split(b";")]
    if tuple(key.strip() for key, _, _ in pairs) not in forms:
        return {}
    for key, _, value in pairs:
        value = value.strip()
        if len(value) > 1 and value[:1] == value[-1:] == b'"':
            value = value[1:-1]
        if not _VALUES[key.strip()].fullmatch(value):
            return {}
        values[key.strip()] = value
    return values
