"""Mail that gets no signature aligned with its From field, and so no pass for DMARC: RFC 9989."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe import senders
from dkimpipe.admin.findings import Finding
from dkimpipe.options import SignatureOptions
from dkimpipe.senders import Signature
from dkimpipe.verify.alignment import have_common_parent, is_aligned


def findings(author_domain: bytes, made: Sequence[tuple[Signature, SignatureOptions]]) -> Iterator[Finding]:
    """Yield the signatures of an entry that are not aligned, without one beside them that is.

    A provider's signature may be beside an aligned one that everyone, or the same sender, may use.
    """
    dkim = [(signature, options) for signature, options in made if options.type == "dkim"]
    aligned = [
        _who_may(signature)
        for signature, options in dkim
        if is_aligned(options.domain, author_domain) and options.algorithm != "rsa-sha1"
    ]
    for signature, options in dkim:
        if is_aligned(options.domain, author_domain) or {} in aligned or _who_may(signature) in aligned:
            continue
        place, d, domain = options.place, options.domain.decode(), author_domain.decode()
        if have_common_parent(options.domain, author_domain):
            what = f"d={d} is aligned with {domain} only if both are in one organizational domain"
            yield Finding(f"{place}: {what} (DMARC, RFC 9989)", level="warning")
        else:
            what = f"d={d} is not aligned with {domain}: no pass for DMARC (RFC 9989)"
            yield Finding(f"{place}: {what}", level="warning")


def _who_may(signature: Signature) -> dict[str, str]:
    """Return the options that limit who may use a signature, empty for everyone."""
    return {name: value for name, value in signature.options.items() if name in senders.PERMISSIONS}
