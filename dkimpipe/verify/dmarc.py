"""DMARC (RFC 9989): the result for an author domain, and the policy that applies to the message.

No public suffix list is used: records and organizational domains are found by DNS tree walks (section 4.10).
Syntax errors within a record are ignored (section 4.8); a tag that appears twice is one. Tag names are
case-insensitive, and so are values, except DMARC1 (section 4.8, RFC 5234 section 2.3).

The result is that of the RFC. The rejection is left to us, and in doubt there is none: see ``Evaluation``.
"""

from __future__ import annotations

import re

from dkimpipe.address import is_at_or_below
from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dkimpipe.verify.policyrecord import Tags
    from dkimpipe.verify.resolver import Resolver

_MAX_QUERIES = 8  # of one tree walk
POLICIES = (b"none", b"quarantine", b"reject")
_RESULTS = ("pass", "none", "permerror", "temperror", "fail")
_DMARC = re.compile(rb"\s*[vV]\s*=\s*DMARC1\s*(;|\Z)")
_URI = re.compile(rb"\s*[A-Za-z][A-Za-z0-9+.-]*:[^\s,;!]")


class Identifiers:
    """The domains that may be aligned with an author domain, in lower-case A-labels.

    ``dkim``       those with a valid DKIM signature
    ``spf``        those for which SPF passed
    ``uncertain``  those with a signature whose key DNS did not return
    ``vouching``   those with a signature that only more lenient verifiers accept (module ``lenient``)
    ``doubtful``   those for which SPF may have passed
    """

    __slots__ = ("dkim", "doubtful", "spf", "uncertain", "vouching")

    def __init__(
        self,
        dkim: Sequence[bytes] = (),
        spf: Sequence[bytes] = (),
        uncertain: Sequence[bytes] = (),
        vouching: Sequence[bytes] = (),
        doubtful: Sequence[bytes] = (),
    ) -> None:
        self.dkim = dkim
        self.spf = spf
        self.uncertain = uncertain
        self.vouching = vouching
        self.doubtful = doubtful


class Evaluation:
    """The result for one author domain.

    ``result``   pass, fail, none, temperror or permerror (section 9.2)
    ``policy``   none, quarantine or reject, after sp=, np= and t=; empty if no policy applies
    ``reason``   in words, for an error
    ``rejects``  whether the message fails, and the policy is beyond doubt. It is not if other verifiers may
                 see an aligned signature, if the author domain has several records, which RFC 7489 took for
                 none, or if the name of a tag is in capitals: rspamd and Mail::DMARC do not see that tag
    """

    __slots__ = ("policy", "reason", "rejects", "result")

    def __init__(self, result: str, policy: str = "", reason: str = "", rejects: bool = False) -> None:
        self.result = result
        self.policy = policy
        self.reason = reason
        self.rejects = rejects

    @property
    def severity(self) -> tuple[int, int]:
        """The order of the results for several author domains, of which the worst applies."""
        return _RESULTS.index(self.result), POLICIES.index(self.policy.encode() or b"none")


def evaluate(author: bytes, identifiers: Identifiers, resolver: Resolver) -> Evaluation:
    """Return the result for an author domain, in lower-case A-labels."""
    try:
        return _evaluate(author, identifiers, resolver)
    except TemporaryError as error:
        return Evaluation("temperror", reason=str(error))


def _evaluate(author: bytes, identifiers: Identifiers, resolver: Resolver) -> Evaluation:
    own = records_of(author, resolver)
    alone = len(own) == 1 and not _organization_matters(author, identifiers, _tags(own[0]))
    found = {author: _tags(own[0])} if alone else dict(_walk(author, resolver))
    if not found:
        several = f"several DMARC records at _dmarc.{author.decode()}" if own else ""
        return Evaluation("permerror" if several else "none", reason=several)
    organization = _organization(author, found)
    # Section 4.10.1: the record of the author domain, of the organizational domain, or of the registry.
    place = next((name for name in (author, organization) if name in found), list(found)[-1])
    tags = found[place]
    policy = _policy(tags, place, author, resolver)
    if policy.encode() not in POLICIES:
        return Evaluation("permerror" if policy else "none", reason=policy)
    alignment = _Alignment(author, organization, tags, resolver)
    if alignment.of_any(identifiers.dkim, identifiers.spf):
        return Evaluation("pass", policy)
    if alignment.of_any(identifiers.uncertain):
        return Evaluation("temperror", reason="no answer for the key of an aligned signature")
    doubt = len(own) > 1 or alignment.elsewhere(identifiers)
    doubt = doubt or alignment.of_any(identifiers.vouching, identifiers.doubtful)
    doubt = doubt or any(map(has_capitals, records_of(place, resolver)))
    return Evaluation("fail", policy, rejects=policy == "reject" and not doubt)


class _Alignment:
    """What is aligned with an author domain, by the record that applies to it (section 4.10.2)."""

    def __init__(self, author: bytes, organization: bytes, tags: Tags, resolver: Resolver) -> None:
        self._author = author
        self._organization = organization
        self._tags = tags
        self._resolver = resolver

    def of_any(self, dkim: Iterable[bytes], spf: Iterable[bytes] = ()) -> bool:
        """Return whether one is aligned. Raises TemporaryError if only DNS could say so."""
        failure = None
        relaxed = []
        for domains, mode in (dkim, b"adkim"), (spf, b"aspf"):
            if self._author in domains:
                return True
            relaxed += [] if _is_strict(self._tags, mode) else list(domains)
        for domain in dict.fromkeys(relaxed):
            try:
                if self._is_in_organization(domain):
                    return True
            except TemporaryError as error:
                failure = error
        if failure:
            raise failure
        return False

    def elsewhere(self, identifiers: Identifiers) -> bool:
        """Return whether one is a domain above: aligned for verifiers that use a public suffix list."""
        dkim = [*identifiers.dkim, *identifiers.uncertain, *identifiers.vouching]
        return any(
            is_at_or_below(self._author, domain)
            for domains, mode in ((dkim, b"adkim"), ([*identifiers.spf, *identifiers.doubtful], b"aspf"))
            for domain in domains
            if not _is_strict(self._tags, mode)
        )

    def _is_in_organization(self, domain: bytes) -> bool:
        if not is_at_or_below(domain, self._organization):
            return False
        return organizational_domain(domain, self._resolver) == self._organization


def _organization_matters(author: bytes, identifiers: Identifiers, own: Tags) -> bool:
    """Return whether the result depends on the organizational domain of an author domain with a record."""
    if author in identifiers.dkim or author in identifiers.spf:
        return False
    dkim = [*identifiers.dkim, *identifiers.uncertain, *identifiers.vouching]
    relaxed = [] if _is_strict(own, b"adkim") else dkim
    relaxed += [] if _is_strict(own, b"aspf") else [*identifiers.spf, *identifiers.doubtful]
    return any(domain.rpartition(b".")[2] == author.rpartition(b".")[2] for domain in relaxed)


def _organization(domain: bytes, found: dict[bytes, Tags]) -> bytes:
    """Return the organizational domain of a domain, by the records of a tree walk that began there."""
    for name, tags in found.items():
        psd = tags.get(b"psd", b"u").lower()
        if psd == b"n":
            return name
        if psd == b"y":  # one label below, or the domain itself
            return b".".join(domain.split(b".")[-name.count(b".") - 2 :])
    return list(found)[-1] if found else domain


def _walk(domain: bytes, resolver: Resolver) -> Iterator[tuple[bytes, Tags]]:
    """Yield the domains at and above a domain that have one DMARC record, from the longest (section 4.10)."""
    labels = domain.split(b".")
    for first in (0, *range(max(1, len(labels) - _MAX_QUERIES + 1), len(labels))):
        name = b".".join(labels[first:])
        texts = records_of(name, resolver)
        if len(texts) == 1:
            tags = _tags(texts[0])
            yield name, tags
            if tags.get(b"psd", b"u").lower() in (b"y", b"n"):
                return


def records_of(domain: bytes, resolver: Resolver) -> list[bytes]:
    """Return the DMARC records of a domain, in A-labels. Raises TemporaryError."""
    return [text for text in resolver.texts(f"_dmarc.{domain.decode()}").texts if is_record(text)]


def is_record(text: bytes) -> bool:
    """Return whether a TXT record is one of DMARC, by its beginning."""
    return bool(_DMARC.match(text))


def organizational_domain(domain: bytes, resolver: Resolver) -> bytes:
    """Return the organizational domain of a domain (section 4.10.2). Raises TemporaryError."""
    return _organization(domain, dict(_walk(domain, resolver)))


def has_capitals(text: bytes) -> bool:
    """Return whether the name of a tag in a record is not in lower case."""
    names = [name for name, equals, _ in (spec.partition(b"=") for spec in text.split(b";")) if equals]
    return any(name != name.lower() for name in names)


def _tags(text: bytes) -> Tags:
    """Return the tags of a record by lower-case name, without those that appear twice."""
    tags: Tags = {}
    twice = set()
    for spec in text.split(b";"):
        name, equals, value = spec.partition(b"=")
        name = name.strip().lower()
        if equals and name in tags:
            twice.add(name)
        elif equals:
            tags[name] = value.strip()
    return {name: value for name, value in tags.items() if name not in twice}


def _is_strict(tags: Tags, mode: bytes) -> bool:
    return tags.get(mode, b"r").lower() == b"s"


def _policy(tags: Tags, place: bytes, author: bytes, resolver: Resolver) -> str:
    """Return the policy for an author domain by the record that applies to it, or what is wrong with that.

    Nothing is returned if it has neither p= nor rua=: DMARC does not apply (section 4.10.1).
    """
    published = {name: tags[name].lower() for name in (b"p", b"sp", b"np") if name in tags}
    invalid = [name.decode() for name, value in published.items() if value not in POLICIES]
    if invalid or b"p" not in published:
        if any(map(_URI.match, tags.get(b"rua", b"").split(b","))):
            return "none"
        return f"{invalid[0]}= is invalid at _dmarc.{place.decode()}" if invalid else ""
    policy = published[b"p"]
    if place != author:
        existing = published.get(b"sp", policy)
        nonexistent = published.get(b"np", existing)
        exists = existing == nonexistent or resolver.texts(author.decode()).exists
        policy = existing if exists else nonexistent
    testing = tags.get(b"t", b"n").lower() == b"y"
    return POLICIES[max(0, POLICIES.index(policy) - testing)].decode()
