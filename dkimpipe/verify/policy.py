"""Rejection of messages: only by a policy that their domain has published, and only if configured.

``reject_fail``: the DomainKeys policy of the sending domain, ``o=-`` or ``o=!`` (RFC 4870 section 3.6: all
its mail is signed, by itself: both are read as Mail::DKIM reads the first), and ADSP ``dkim=discardable`` of
the author's (RFC 5617; the record shows that the domain exists). With ``dmarc``, too, DMARC
``p=reject`` (RFC 7489). ``reject_error``: no verdict without an answer of DNS; the message is deferred.

The authors are all mailboxes of all From fields, and each domain's policy applies (RFC 7489 section 6.6.1): a
second author does not circumvent the first one's, nor do slow servers: each domain has a share of the time.
At most four author domains are queried. Without From there is no policy. The sending domain is that of the
first Sender, by default of the authors.

In doubt a message is not rejected: if DNS failed for a signature that could have saved it, in test mode
(``t=y``), under a policy for part of the mail (``pct``), or with several policies at one name.

No public suffix list is used. The organizational domain of DMARC is found as in its successor (DMARCbis, tree
walk): it is the widest domain, down to two labels, that has a DMARC record, but a registry's
(``psd=y``) makes it the one below. Records between it and the author's domain are ignored.

SPF is not checked, but a pass recorded by our own host is trusted: a Received-SPF field (RFC 7208
section 9.1), or a results field with our name, above the topmost Received. smtpd(8) writes what a policy
server or a table returns (PREPEND, access(5)), then its Received, then what the client sends: it cannot be
forged, unless header_checks(5) take that Received away. Most milters insert below it, where it cannot be
distinguished from the client's, so theirs is ignored. The domain that passed, if given, has to be aligned.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Callable

from dkimpipe.address import first_mailbox, is_at_or_below, is_domain, to_a_labels
from dkimpipe.errors import NotSigned, RejectedError, UnverifiedError
from dkimpipe.message import Message
from dkimpipe.verify import taglist
from dkimpipe.verify.forged import NAME, claims_to_be_ours
from dkimpipe.verify.judge import Judged
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.settings import VerifySettings
from dkimpipe.verify.structured import parts
from dkimpipe.verify.verdict import TemporaryError

_MAX_AUTHORS = 4  # domains whose policies are queried
_MAX_PARENTS = 8  # names that are queried for one DMARC policy
_POLICIES = (b"none", b"quarantine", b"reject")

Tags = dict[bytes, bytes]


def reject(message: Message, judged: Sequence[Judged], resolver: Resolver, settings: VerifySettings) -> None:
    """Raise RejectedError to reject the message, UnverifiedError if DNS is needed to decide."""
    must_know = settings.yes("reject_error")
    for each in judged:
        if each.word == "temperror" and must_know:
            raise UnverifiedError(each.reason)
    if not settings.yes("reject_fail"):
        return
    signers = {
        method: [
            each.signature.domain
            for each in judged
            if each.signature and each.method == method and each.word in ("pass", "temperror")
        ]
        for method in ("dkim", "domainkeys")
    }
    domains = _policies(message, signers, resolver, settings)
    for number, policies in enumerate(domains):
        resolver.share(len(domains) - number)
        for policy in policies:
            try:
                policy()
            except TemporaryError as error:
                if must_know:
                    raise UnverifiedError(str(error)) from None


def _policies(
    message: Message, signers: dict[str, list[bytes]], resolver: Resolver, settings: VerifySettings
) -> list[list[Callable[[], None]]]:
    """Return for each domain functions that look up a policy and raise RejectedError if it is violated."""
    authors = _domains(message, b"from")[:_MAX_AUTHORS]
    senders = _domains(message, b"sender")[:1] or authors
    spf = list(_passed_spf(message, settings.authserv_id)) if settings.yes("dmarc") else []
    signed = signers["dkim"] + signers["domainkeys"]
    domains = []
    for domain in dict.fromkeys(senders + authors):
        policies: list[Callable[[], None]] = []
        if domain in senders:
            policies.append(functools.partial(_domainkeys, domain, signed, resolver))
        if domain in authors:
            policies.append(functools.partial(_adsp, domain, signers["dkim"], resolver))
        if domain in authors and settings.yes("dmarc"):
            policies.append(functools.partial(_dmarc, domain, signers["dkim"], spf, resolver))
        domains.append(policies)
    return domains


def _domains(message: Message, name: bytes) -> list[bytes]:
    """Return the domains of all addresses in the fields of this name, each once."""
    domains = []
    for field in message.by_name.get(name, []):
        try:
            for mailbox in parts(field.value, b","):
                domains.append(_domain(mailbox) if b"@" in mailbox else b"")
        except ValueError:  # an unterminated comment or quote: those before it apply
            continue
    return list(dict.fromkeys(filter(None, domains)))


def _domain(mailbox: bytes) -> bytes:
    """Return the domain of an address, empty if it has none or is invalid."""
    try:
        domain = first_mailbox(mailbox).domain
    except NotSigned:
        return b""
    return domain if is_domain(domain) else b""


def _domainkeys(domain: bytes, signers: Sequence[bytes], resolver: Resolver) -> None:
    tags = _record(f"_domainkey.{domain.decode()}", lambda tags: b"o" in tags, resolver)
    signs = tags.get(b"o", b"~")
    testing = b"y" in tags.get(b"t", b"").lower()
    if signs in (b"-", b"!") and not testing and not any(is_at_or_below(domain, each) for each in signers):
        raise RejectedError(
            f"no valid signature; {domain.decode()} signs all its mail (DomainKeys o={signs.decode()})"
        )


def _adsp(domain: bytes, signers: Sequence[bytes], resolver: Resolver) -> None:
    tags = _record(f"_adsp._domainkey.{domain.decode()}", lambda tags: next(iter(tags)) == b"dkim", resolver)
    if tags.get(b"dkim", b"").lower() == b"discardable" and domain not in signers:
        raise RejectedError(f"no valid signature from {domain.decode()}, whose policy is discardable (ADSP)")


def _dmarc(domain: bytes, signers: Sequence[bytes], spf: Sequence[bytes], resolver: Resolver) -> None:
    """``spf`` are the domains for which SPF passed, empty for one that is not given."""
    own = _dmarc_record(domain, resolver)
    organization, tags = _organization(domain, own, resolver)
    wanted = tags.get(b"p", b"").lower()
    below = tags.get(b"sp", wanted).lower()
    if not {wanted, below}.issubset(_POLICIES):  # RFC 7489 section 6.6.3: such a record is ignored
        return
    if (wanted if own else below) != b"reject":
        return
    if tags.get(b"pct", b"100") != b"100" or tags.get(b"t", b"n").lower() == b"y":
        return

    def aligned(other: bytes, mode: bytes) -> bool:
        if tags.get(mode, b"r").lower() == b"s":
            return other == domain
        return is_at_or_below(other, organization) or is_at_or_below(domain, other)

    if any(aligned(each, b"adkim") for each in signers) or any(not i or aligned(i, b"aspf") for i in spf):
        return
    raise RejectedError(f"neither DKIM nor SPF passes for {domain.decode()}, whose policy is reject (DMARC)")


def _organization(domain: bytes, own: Tags, resolver: Resolver) -> tuple[bytes, Tags]:
    """Return the organizational domain of an author's domain, and the record that applies to it."""
    found, widest, below = domain, own, domain
    for parent in _parents(domain) if own.get(b"psd", b"u") == b"u" else ():
        record = _dmarc_record(parent, resolver)
        if record.get(b"psd") == b"y":
            return below, own or (widest if found == below else {})
        if record:
            found, widest = parent, record
        if record.get(b"psd") == b"n":
            break
        below = parent
    return found, own or widest


def _dmarc_record(domain: bytes, resolver: Resolver) -> Tags:
    def fits(tags: Tags) -> bool:
        return next(iter(tags.items())) == (b"v", b"DMARC1")

    found = _records(f"_dmarc.{domain.decode()}", fits, resolver)
    # RFC 7489 section 6.6.3: with several there is no policy, and the search ends.
    if len(found) > 1:
        return {b"v": b"DMARC1"}
    return found[0] if found else {}


def _parents(domain: bytes) -> Iterator[bytes]:
    """Yield the domains above a domain, down to two labels; if there are many, the widest."""
    labels = domain.split(b".")
    for first in range(max(1, len(labels) - _MAX_PARENTS), len(labels) - 1):
        yield b".".join(labels[first:])


def _record(name: str, fits: Callable[[Tags], bool], resolver: Resolver) -> Tags:
    """Return the tags of a policy; none if the name has none, or several."""
    found = _records(name, fits, resolver)
    return found[0] if len(found) == 1 else {}


def _records(name: str, fits: Callable[[Tags], bool], resolver: Resolver) -> list[Tags]:
    """Return the tags of each record of a name that is such a policy. Raises TemporaryError."""
    found = []
    for text in resolver.texts(name).texts:
        try:
            tags = taglist.parse(text)
        except ValueError:
            continue
        if fits(tags):
            found.append(tags)
    return found


# A name and a value, which consists of quoted strings and unquoted text without white space.
_PAIR = re.compile(rb'(?<![\w.-])([\w.-]+)[ \t]*=[ \t]*((?:"[^"\\]*(?:\\.[^"\\]*)*"|[^" \t])*)', re.DOTALL)

_SENDER_NAMES = (b"envelope-from", b"smtp.mailfrom")
_HELO_NAMES = (b"helo", b"smtp.helo")
_SPF_NAMES = (b"identity", *_SENDER_NAMES, *_HELO_NAMES)


def _passed_spf(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield the domains for which SPF passed, as recorded by our own host; empty if not given."""
    names = [field.name for field in message.fields]
    for field in message.fields[: names.index(b"received")] if b"received" in names else ():
        try:
            items = list(parts(field.value))
        except ValueError:
            continue
        if field.name == b"received-spf" and items[0].lower().split()[:1] == [b"pass"]:
            yield from _spf_domain(b" ".join(items))
        if field.name == NAME and claims_to_be_ours(field, authserv_id):
            for part in items[1:]:
                if part.lower().split()[:1] == [b"spf=pass"]:
                    yield from _spf_domain(part)


def _spf_domain(text: bytes) -> Iterator[bytes]:
    """Yield the domain that passed: of the sender, or of HELO if that was checked or there is no sender.

    A name that appears twice proves nothing.
    """
    pairs = [(name.lower(), value) for name, value in _PAIR.findall(text) if name.lower() in _SPF_NAMES]
    values = {name: value.strip(b'"<>').lower() for name, value in pairs}
    if len(values) < len(pairs):
        return
    names = _HELO_NAMES if values.get(b"identity") == b"helo" else _SENDER_NAMES + _HELO_NAMES
    domains = (values.get(name, b"").rpartition(b"@")[2].rstrip(b".") for name in names)
    try:
        yield to_a_labels(next(filter(None, domains), b""))
    except ValueError:  # not UTF-8
        return
