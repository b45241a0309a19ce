"""The problems with the DMARC record of an author domain, as ``dkimpipe verify`` reads it (RFC 9989).

Receivers ignore a part with an error (section 4.8), so a policy or a report address is lost without notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.address import as_a_labels, is_domain
from dkimpipe.admin.dns.record import dmarc_name
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.entries import BY_SENDER, Use
from dkimpipe.errors import printable
from dkimpipe.verify.dmarc import POLICIES, records_of
from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.verify.resolver import Resolver

_SHOWN = 40  # bytes of a value in a message
_VALUES = {
    **dict.fromkeys((b"p", b"sp", b"np"), POLICIES),
    **dict.fromkeys((b"adkim", b"aspf"), (b"r", b"s")),
    b"t": (b"y", b"n"),
    b"psd": (b"y", b"n", b"u"),
}
_MAILTO = re.compile(rb"\s*mailto:[^\s,!@]+@[^\s,!@]+\s*", re.IGNORECASE)
_LIKE_ONE = re.compile(rb"v\W*=\W*DMARC", re.IGNORECASE)


def author_domain(use: Use) -> str:
    """Return the author domain of a signature, in A-labels: that of the sender, or else its d=."""
    domain = use.line.key.rpartition("@")[2] if use.line.by == BY_SENDER else ""
    octets = as_a_labels(domain.encode("utf-8", "surrogateescape"))
    return (octets if is_domain(octets) else use.options.domain).decode()


def findings(domain: str, resolver: Resolver) -> Iterator[Finding]:
    """Yield the problems with the DMARC record of a domain, none if it has no record. It takes one query."""
    name = dmarc_name(domain)
    try:
        records = records_of(domain.encode(), resolver)
        others = [text for text in resolver.texts(name).texts if text not in records]
    except TemporaryError as error:
        yield Finding(f"{name}: {error}", level="warning")
        return
    faults = [f"it is not a DMARC record: {_quoted(text)}" for text in others if _LIKE_ONE.search(text)]
    if len(records) > 1:
        faults.append(f"{len(records)} DMARC records: receivers ignore all of them")
    for text in records:
        faults += _faults(text)
    for fault in dict.fromkeys(faults):
        yield Finding(f"{name}: {fault}", level="warning")


def _faults(text: bytes) -> Iterator[str]:
    seen: set[bytes] = set()
    for spec in filter(bytes.strip, text.split(b";")):
        tag, equals, value = (part.strip() for part in spec.partition(b"="))
        if not equals or not tag:
            yield f"not a tag, and ignored: {_quoted(spec.strip())}"
        elif tag in seen:
            yield f"{printable(tag, _SHOWN)}= appears twice, and is ignored"
        elif value.lower() not in _VALUES.get(tag, (value.lower(),)):
            yield f"{tag.decode()}= is invalid: {_quoted(value)}"
        elif tag in (b"rua", b"ruf") and not all(map(_MAILTO.fullmatch, _addresses(value))):
            yield f"{tag.decode()}= needs mailto: before each address: {_quoted(value)}"
        seen.add(tag)
    if b"p" not in seen:
        yield "no p=: receivers apply no policy"


def _addresses(value: bytes) -> list[bytes]:
    """Return the addresses in a list, without the limits on size of RFC 7489, which are ignored."""
    return [re.sub(rb"![0-9]+[kmgt]?\s*$", b"", each) for each in value.split(b",")]


def _quoted(text: bytes) -> str:
    return f"'{printable(text, _SHOWN)}'"
