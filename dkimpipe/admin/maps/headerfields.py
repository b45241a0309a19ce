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
}
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
    return f"{_ADDED[name]} it, and the signature fails then" if name in _ADDED else ""


def unstable(name: bytes) -> str:
    """Return why a field should not be signed, as a clause that begins with 'which'; empty if it may be."""
    if name in (_RECEIVED, *_ADDED, *_UNSTABLE):
        return "which may be changed or removed on the way (RFC 6376 section 5.4)"
    return "which Postfix removes" if name in _REMOVED else ""


def _is_oversigned(options: SignatureOptions, name: bytes) -> bool:
    """Return whether h= of the signature has a name more often than the field occurs in mail from Postfix.

    There a message has a Received field, of the server that got it; the other fields are added later.
    """
    if not options.headers:
        return options.fields[name] == ALWAYS
    return options.headers.count(name) > (1 if name == _RECEIVED else 0)
