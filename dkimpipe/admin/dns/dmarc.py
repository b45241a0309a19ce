"""The problems with the DMARC record of an author domain, as ``dkimpipe verify`` reads it (RFC 9989).

Receivers ignore a part with an error (section 4.8), so a policy or a report address is lost without notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.address import as_a_labels, is_domain
from dkimpipe.admin.dns import record
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.entries import BY_SENDER
from dkimpipe.admin.maps.outcomes import Use
from dkimpipe.errors import printable
from dkimpipe.verify.alignment import have_common_parent
from dkimpipe.verify.dmarc import POLICIES, has_capitals, is_record, organizational_domain, records_of
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
_OTHER_TAGS = (b"v", b"rua", b"ruf", b"fo")
_REMOVED = (b"pct", b"rf", b"ri")  # RFC 9989 appendix C
_URI_LISTS = (b"rua", b"ruf")
_SIZE = re.compile(rb"![0-9]+[kmgt]?\s*$", re.IGNORECASE)
_LOCAL_PART = re.compile(rb"[^\s,!@]+")
_ALL_MAIL = ": the policy applies to all mail, and with t=y the next weaker one"
_LIKE_ONE = re.compile(rb"v\W*=\W*DMARC", re.IGNORECASE)


def author_domain(use: Use) -> str:
    """Return the author domain of a signature, in A-labels: that of the sender, or else its d=."""
    domain = use.line.key.rpartition("@")[2] if use.line.by == BY_SENDER else ""
    octets = as_a_labels(domain.encode("utf-8", "surrogateescape"))
    return (octets if is_domain(octets) else use.options.domain).decode()


def findings(domain: str, resolver: Resolver) -> Iterator[Finding]:
    """Yield the problems with the DMARC record of a domain, none if it has no record.

    It takes one query, and more for each foreign domain to which reports go.
    """
    name = record.dmarc_name(domain)
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
    for host in dict.fromkeys(host for text in records for host in _hosts(text)):
        yield from _without_consent(domain, host, resolver)


def _faults(text: bytes) -> Iterator[str]:
    seen: set[bytes] = set()
    for tag, equals, value, spec in _specs(text):
        if not equals or not tag:
            yield f"not a tag, and ignored: {_quoted(spec)}"
        elif tag in seen:
            yield f"{printable(tag, _SHOWN)}= appears twice, and is ignored"
        elif tag in _REMOVED:
            is_part = tag == b"pct" and value != b"100"
            yield f"{tag.decode()}= is ignored (RFC 9989){_ALL_MAIL if is_part else ''}"
        elif tag not in (*_VALUES, *_OTHER_TAGS):
            yield f"{printable(tag, _SHOWN)}= is not a tag of DMARC, and ignored"
        elif value.lower() not in _VALUES.get(tag, (value.lower(),)):
            yield f"{tag.decode()}= is invalid: {_quoted(value)}"
        elif tag in _URI_LISTS:
            yield from (f"{tag.decode()}= {fault}" for fault in _faults_of_addresses(value))
        seen.add(tag)
    if b"p" not in seen:
        yield "no p=: receivers apply no policy"
    if has_capitals(text):
        yield f"a tag name in capitals, which some receivers do not know: {_quoted(text)}"


def _specs(text: bytes) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Yield the lower-case name, equals sign and value of each part of a record, and the part itself."""
    for spec in filter(None, map(bytes.strip, text.split(b";"))):
        tag, equals, value = (part.strip() for part in spec.partition(b"="))
        yield tag.lower(), equals, value, spec


def _faults_of_addresses(value: bytes) -> Iterator[str]:
    uris = _uris(value)
    if not all(uri[:7].lower() == b"mailto:" for uri in uris):
        yield f"needs mailto: before each address: {_quoted(value)}"
        return
    for uri in uris:
        if not _host(uri):
            yield f"has an address without a valid domain: {_quoted(uri)}"
        elif not _LOCAL_PART.fullmatch(uri[7:].partition(b"?")[0].rpartition(b"@")[0]):
            yield f"has an invalid address: {_quoted(uri)}"


def _uris(value: bytes) -> list[bytes]:
    """Return the addresses in a list, without the limits on size of RFC 7489, which are ignored."""
    return [_SIZE.sub(b"", each).strip() for each in value.split(b",")]


def _host(uri: bytes) -> str:
    """Return the domain of a mailto: address, in A-labels; nothing if it has none that is valid."""
    _, at, host = uri.partition(b"?")[0].rpartition(b"@")
    domain = as_a_labels(host)
    return domain.decode() if at and is_domain(domain) else ""


def _hosts(text: bytes) -> list[str]:
    """Return the domains to which a record has reports sent."""
    lists = [value for tag, _, value, _ in _specs(text) if tag in _URI_LISTS]
    uris = [uri for value in lists for uri in _uris(value) if uri[:7].lower() == b"mailto:"]
    return list(filter(None, map(_host, uris)))


def _without_consent(domain: str, host: str, resolver: Resolver) -> Iterator[Finding]:
    """Yield whether a host receives no reports, since it does not accept them (RFC 9990 section 4)."""
    consent = record.consent(domain, host)
    if not consent:
        return
    try:
        one, other = domain.encode(), host.encode()
        if have_common_parent(one, other) and (
            organizational_domain(one, resolver) == organizational_domain(other, resolver)
        ):
            return
        if any(map(is_record, resolver.texts(consent.name).texts)):
            return
    except TemporaryError as error:
        yield Finding(f"{consent.name}: {error}", level="warning")
        return
    what = f"no reports are sent to {host}, which does not accept them by a record (RFC 9990)"
    hint = f"let {host} publish {consent.name} TXT {consent.value}"
    yield Finding(f"{record.dmarc_name(domain)}: {what}", hint, level="warning")


def _quoted(text: bytes) -> str:
    return f"'{printable(text, _SHOWN)}'"
