"""Rejection of messages: only by a policy that their domain has published, and only if configured.

``reject_fail``: the DomainKeys policy of the sending domain, ``o=-`` or ``o=!`` (RFC 4870 section 3.6: all
its mail is signed, and signed by itself; both are treated as Mail::DKIM treats ``o=-``), and ADSP
``dkim=discardable`` of the author domain (RFC 5617; the record shows that the domain exists). ``dmarc``:
DMARC ``p=reject``, too. ``reject_error``: the message is deferred if DNS does not answer.

The authors are all mailboxes of all From fields, and the policy of each author domain applies: a second
author does not circumvent the first one's policy, nor do slow servers: each domain has a share of the time.
At most four author domains are queried. Without From there is no policy. The sending domain is that of the
first Sender, by default the author domains.

In doubt a message is not rejected: if DNS failed for a signature that could have been valid, in test mode
(``t=y``), or with several policies at one name.
"""

from __future__ import annotations

from dkimpipe.address import as_a_labels, first_mailbox, is_at_or_below, is_domain
from dkimpipe.errors import NotSigned, RejectedError, UnverifiedError
from dkimpipe.verify import policyrecord
from dkimpipe.verify.structured import parts
from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from dkimpipe.message import Message
    from dkimpipe.verify.resolver import Resolver
    from dkimpipe.verify.settings import VerifySettings
    from dkimpipe.verify.verifier import SignatureResult

    # A function that raises RejectedError if the policy is violated, and its arguments but for the resolver.
    Policy = tuple[Any, ...]

_MAX_AUTHORS = 4  # domains whose policies are queried
_AFTER_AT = rb"@[ \t]*([^\s<>()\[\],;:\\\"@]{1,255})"


def reject(
    message: Message, results: Sequence[SignatureResult], resolver: Resolver, settings: VerifySettings
) -> None:
    """Raise RejectedError to reject the message, UnverifiedError if DNS is needed to decide."""
    needs_dns = settings.yes("reject_error")
    for each in results:
        if each.result == "temperror" and needs_dns:
            raise UnverifiedError(each.reason)
    if not settings.yes("reject_fail"):
        return
    domains = _policies(message, results, settings)
    for number, policies in enumerate(domains):
        resolver.share(len(domains) - number)
        for enforce, *known in policies:
            try:
                enforce(*known, resolver)
            except TemporaryError as error:
                if needs_dns:
                    raise UnverifiedError(str(error)) from None


def _policies(
    message: Message, results: Sequence[SignatureResult], settings: VerifySettings
) -> list[list[Policy]]:
    """Return the policies of each domain."""
    authors = _domains(message, b"from")[:_MAX_AUTHORS]
    senders = _domains(message, b"sender")[:1] or authors
    dkim, domainkeys = (_signers(results, method) for method in ("dkim", "domainkeys"))
    domains: dict[bytes, list[Policy]] = {domain: [] for domain in senders + authors}
    for domain in dict.fromkeys(senders):
        domains[domain].append((_domainkeys, domain, dkim + domainkeys))
    for domain in authors:
        domains[domain].append((_adsp, domain, dkim))
    if authors and settings.yes("dmarc"):
        from dkimpipe.verify import dmarc, spf

        passed = list(spf.passed(message, settings.authserv_id))
        for domain in authors:
            domains[domain].append((dmarc.enforce, domain, dkim, passed))
    return list(domains.values())


def _signers(results: Sequence[SignatureResult], method: str) -> list[bytes]:
    """Return the domains whose signatures are valid, could be if DNS answered, or are for other verifiers."""
    return [
        each.signature.domain if each.signature and each.result in ("pass", "temperror") else each.vouching
        for each in results
        if each.method == method
    ]


def _domains(message: Message, name: bytes) -> list[bytes]:
    """Return the domains of all addresses in the fields of this name, each once."""
    domains: list[bytes] = []
    for field in message.by_name.get(name, []):
        try:
            found = [_domain(mailbox) for mailbox in parts(field.value, b",") if b"@" in mailbox]
        except ValueError:  # an unterminated comment or quoted string
            found = [b""]
        if b"" in found:
            found += _in_any_reading(field.value)
        domains += filter(None, found)
    return list(dict.fromkeys(domains))


def _in_any_reading(value: bytes) -> list[bytes]:
    """Return the domains of all that looks like an address: a syntax error must not evade a policy."""
    import re

    without_comments = re.sub(rb"\([^()]*\)", b"", value)
    words = [word for text in (value, without_comments) for word in re.findall(_AFTER_AT, text)]
    return [domain for domain in map(as_a_labels, dict.fromkeys(words)) if is_domain(domain)]


def _domain(mailbox: bytes) -> bytes:
    """Return the domain of an address, empty if it has none or is invalid."""
    try:
        domain = first_mailbox(mailbox).domain
    except NotSigned:
        return b""
    return domain if is_domain(domain) else b""


def _domainkeys(domain: bytes, signers: Sequence[bytes], resolver: Resolver) -> None:
    tags = policyrecord.one(f"_domainkey.{domain.decode()}", lambda tags: b"o" in tags, resolver)
    signs = tags.get(b"o", b"~")
    testing = b"y" in tags.get(b"t", b"").lower()
    if signs in (b"-", b"!") and not testing and not any(is_at_or_below(domain, each) for each in signers):
        raise RejectedError(
            f"no valid signature; {domain.decode()} signs all its mail (DomainKeys o={signs.decode()})"
        )


def _adsp(domain: bytes, signers: Sequence[bytes], resolver: Resolver) -> None:
    name = f"_adsp._domainkey.{domain.decode()}"
    tags = policyrecord.one(name, lambda tags: next(iter(tags)) == b"dkim", resolver)
    if tags.get(b"dkim", b"").lower() == b"discardable" and domain not in signers:
        raise RejectedError(f"no valid signature from {domain.decode()}, whose policy is discardable (ADSP)")
