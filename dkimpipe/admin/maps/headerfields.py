"""Names in h= that break signatures, or name nothing: servers add, change or remove fields after signing.

RFC 6376 section 5.4: a signer should not sign fields that are likely to be modified or removed in transit. A
name that occurs in h= more often than in the message is oversigned: the signature fails as soon as such a
field is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.errors import printable
from dkimpipe.options import ALWAYS, SignatureOptions

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]*")  # RFC 5322 allows more, which nobody uses
_RECEIVED = b"received"
_DELIVERY = "the program that delivers the mail adds"
_SERVERS = "servers on the way add"
_FILTERS = "filters of spam and viruses add"
_PEOPLE = "users who resend the message add"
_ADDED = {
    b"return-path": _DELIVERY,  # RFC 5321 section 4.4
    b"delivered-to": _DELIVERY,
    b"x-original-to": _DELIVERY,
    b"authentication-results": _SERVERS,  # RFC 8601
    b"received-spf": _SERVERS,  # RFC 7208 section 9.1
    b"arc-seal": _SERVERS,  # RFC 8617
    b"arc-message-signature": _SERVERS,
    b"arc-authentication-results": _SERVERS,
    b"domainkey-signature": _SERVERS,
    b"x-google-dkim-signature": _SERVERS,
    b"x-gm-message-state": _SERVERS,
    b"x-received": _SERVERS,
    b"x-virus-scanned": _FILTERS,
    b"x-virus-status": _FILTERS,
}
# Families of fields of which each server and version adds some.
_ADDED_BY_PREFIX = {
    b"x-spam-": _FILTERS,
    b"x-rspamd-": _FILTERS,
    b"x-amavis-": _FILTERS,
    b"x-forefront-": _SERVERS,
    b"x-microsoft-antispam": _SERVERS,
    b"x-ms-exchange-": _SERVERS,
}
# RFC 6376 section 5.4.1 recommends to sign these, and RFC 5322 section 3.6.6 to add them.
_RESENT = tuple(b"resent-" + name for name in (b"from", b"sender", b"to", b"cc", b"date", b"message-id"))
_REMOVED = (b"bcc", b"resent-bcc", b"content-length")  # message_drop_headers of postconf(5), with Return-Path
_UNSTABLE = (b"comments", b"keywords")  # RFC 4871 section 5.5


def findings(options: SignatureOptions) -> Iterator[Finding]:
    """Yield the problems with h= of a signature; most do not concern DomainKeys, which cannot oversign."""
    names = options.headers or tuple(options.fields)
    for name in dict.fromkeys(names):
        place, shown = f"{options.place}: h=", printable(name)
        if not _NAME.fullmatch(name):
            hint = "omit h= to sign the default fields" if name == b"*" else ""
            yield Finding(f"{place} includes '{shown}', which no field is called", hint)
        elif options.type == "dkim":
            yield from _of_field(options, name, place)


def _of_field(options: SignatureOptions, name: bytes, place: str) -> Iterator[Finding]:
    shown = name.decode()
    cause = breaks(name) if _is_oversigned(options, name) else ""
    if cause:
        level = "error" if name == _RECEIVED else "warning"
        yield Finding(f"{place} oversigns {shown}: {cause}", f"omit {shown}", level)
    elif cause := unstable(name):
        yield Finding(f"{place} includes {shown}, {cause}", f"omit {shown}", "warning")


def breaks(name: bytes) -> str:
    """Return why a signature that oversigns a field fails, as a clause; empty if it does not."""
    if name == _RECEIVED:
        return "Postfix adds one after signing, so the signature fails"
    who = _PEOPLE if name in _RESENT else _added(name)
    return f"{who} it, and the signature fails then" if who else ""


def unstable(name: bytes) -> str:
    """Return why a field should not be signed, as a clause that begins with 'which'; empty if it may be."""
    if name == _RECEIVED or _added(name) or name in _UNSTABLE:
        return "which may be changed or removed on the way (RFC 6376 section 5.4)"
    return "which Postfix removes" if name in _REMOVED else ""


def _added(name: bytes) -> str:
    """Return who adds a field after signing; nothing if nobody does."""
    by_prefix = (who for prefix, who in _ADDED_BY_PREFIX.items() if name.startswith(prefix))
    return _ADDED.get(name) or next(by_prefix, "")


def _is_oversigned(options: SignatureOptions, name: bytes) -> bool:
    """Return whether h= of the signature has a name more often than the field occurs in mail from Postfix.

    There a message has a Received field, of the server that got it; the other fields are added later. Fields
    of a message that was sent on are only oversigned where that is plainly meant.
    """
    if not options.headers:
        return options.fields[name] == ALWAYS
    return options.headers.count(name) > (1 if name == _RECEIVED or name in _RESENT else 0)
