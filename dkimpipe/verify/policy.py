"""What the policies of domains make of a message: a rejection, or a result in the field.

``reject_fail``: mail is rejected by the DomainKeys policy of the sending domain, ``o=-`` or ``o=!`` (RFC 4870
section 3.6: all its mail is signed, and signed by itself; both are treated as Mail::DKIM treats ``o=-``), and
by ADSP ``dkim=discardable`` of the author domain (RFC 5617; the record shows that the domain exists).
``dmarc``: the result of DMARC is reported, and with ``reject_fail``, ``p=reject`` is applied.
``reject_error``: the message is deferred if DNS does not answer.

The authors are all mailboxes of all From fields, and the policy of each author domain applies: a second
author does not circumvent the first one's policy, nor do slow servers: each domain has a share of the time.
Authors are found as lenient readers find them: between semicolons, behind another address, and in a domain
without the characters that are not shown. At most four author domains are queried. With more, or with an
address that nobody can read, DMARC cannot be evaluated, and where it is applied, the message is rejected (RFC
9989 section 11.5). Without an address in From there is no policy. The sending domain is that of the first
Sender, by default the author domains.

In doubt a message is not rejected: if DNS failed for a signature that could have been valid, in test mode
(``t=y``), or with several policies at one name.
"""

from __future__ import annotations

from dkimpipe.address import (
    as_a_labels,
    first_mailbox,
    holds_one_address,
    is_at_or_below,
    is_domain,
)
from dkimpipe.errors import NotSigned, RejectedError, UnverifiedError
from dkimpipe.verify import policyrecord
from dkimpipe.verify.authres import ResInfo
from dkimpipe.verify.structured import parts
from dkimpipe.verify.verdict import TemporaryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from dkimpipe.message import Message
    from dkimpipe.verify.dmarc import Evaluation, Identifiers
    from dkimpipe.verify.resolver import Resolver
    from dkimpipe.verify.settings import VerifySettings
    from dkimpipe.verify.verifier import SignatureResult

    # A function that raises RejectedError if the policy is violated, and its arguments but for the resolver.
    Policy = tuple[Any, ...]

_MAX_AUTHORS = 4  # domains whose policies are queried
_AFTER_AT = rb"@[ \t]*([^\s<>()\[\],;:\\\"@]{0,255})"
_IN_LITERAL = b"[]ipv0123456789abcdef:."  # RFC 5321 section 4.1.3, in lower case
_UNREADABLE = b""  # among domains: an address without one
# Unicode's Default_Ignorable_Code_Point: mail programs show a domain without these, and IDNA drops most.
_NOT_SHOWN = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def apply(
    message: Message, results: Sequence[SignatureResult], resolver: Resolver, settings: VerifySettings
) -> list[ResInfo]:
    """Return the result of DMARC, if it is configured.

    Raises RejectedError to reject the message, UnverifiedError if DNS is needed to decide.
    """
    needs_dns = settings.yes("reject_error")
    for each in results:
        if each.result == "temperror" and needs_dns:
            raise UnverifiedError(each.reason)
    authors = _domains(message, b"from")
    evaluated: dict[bytes, Evaluation] = {}
    if settings.yes("dmarc") and (obstacle := _obstacle(authors)):
        if settings.yes("reject_fail"):
            raise RejectedError(obstacle)
        return [ResInfo("dmarc", "permerror", (), obstacle)]
    authors = [domain for domain in authors if domain]
    domains = _policies(message, authors[:_MAX_AUTHORS], results, settings, evaluated)
    for number, policies in enumerate(domains):
        resolver.share(len(domains) - number)
        for enforce, *known in policies:
            try:
                enforce(*known, resolver)
            except TemporaryError as error:
                if needs_dns:
                    raise UnverifiedError(str(error)) from None
    return [_worst(evaluated)] if settings.yes("dmarc") else []


def _policies(
    message: Message,
    authors: Sequence[bytes],
    results: Sequence[SignatureResult],
    settings: VerifySettings,
    evaluated: dict[bytes, Evaluation],
) -> list[list[Policy]]:
    """Return the policies of each domain; that of DMARC adds its evaluation."""
    rejects = settings.yes("reject_fail")
    senders = (
        ([domain for domain in _domains(message, b"sender") if domain][:1] or authors) if rejects else ()
    )
    dkim, domainkeys = (_signers(results, method) for method in ("dkim", "domainkeys"))
    domains: dict[bytes, list[Policy]] = {domain: [] for domain in (*senders, *authors)}
    for domain in senders:
        domains[domain].append((_domainkeys, domain, dkim + domainkeys))
    for domain in authors if rejects else ():
        domains[domain].append((_adsp, domain, dkim))
    if authors and settings.yes("dmarc"):
        identifiers = _identifiers(message, results, settings)
        for domain in authors:
            domains[domain].append((_dmarc, domain, identifiers, rejects, evaluated))
    return list(domains.values())


def _signers(results: Sequence[SignatureResult], method: str) -> list[bytes]:
    """Return the domains whose signatures are valid, could be if DNS answered, or are for other verifiers."""
    return [
        each.signature.domain if each.signature and each.result in ("pass", "temperror") else each.vouching
        for each in results
        if each.method == method
    ]


def _identifiers(
    message: Message, results: Sequence[SignatureResult], settings: VerifySettings
) -> Identifiers:
    from dkimpipe.verify import spf
    from dkimpipe.verify.dmarc import Identifiers

    dkim = [each for each in results if each.method == "dkim"]
    passed, uncertain = (
        [each.signature.domain for each in dkim if each.signature and each.result == result]
        for result in ("pass", "temperror")
    )
    vouching = [each.vouching for each in dkim if each.vouching]
    by_spf, doubtful = spf.passed(message, settings.authserv_id, settings.sender)
    return Identifiers(passed, by_spf, uncertain, vouching, doubtful)


def _obstacle(authors: Sequence[bytes]) -> str:
    """Return why DMARC cannot be evaluated for these author domains; empty if it can."""
    if _UNREADABLE in authors:
        return "From has an address without a valid domain"
    if len(authors) > _MAX_AUTHORS:
        return f"From has {len(authors)} author domains, and DMARC is evaluated for at most {_MAX_AUTHORS}"
    return ""


def _worst(evaluated: dict[bytes, Evaluation]) -> ResInfo:
    """Return the result for the message: the worst for an author domain (RFC 9989 section 11.5)."""
    if not evaluated:
        return ResInfo("dmarc", "permerror", (), "no author domain")
    domain, worst = max(evaluated.items(), key=lambda pair: pair[1].severity)
    properties = [("header.from", domain.decode())]
    if worst.policy:
        properties.append(("policy.dmarc", worst.policy))
    return ResInfo("dmarc", worst.result, tuple(properties), worst.reason)


def _domains(message: Message, name: bytes) -> list[bytes]:
    """Return the domains of all addresses in the fields of this name, each once."""
    domains: list[bytes] = []
    for field in message.by_name.get(name, []):
        for value in dict.fromkeys((field.value, _as_shown(field.value))):
            domains += _in_value(value)
    return list(dict.fromkeys(domains))


def _as_shown(value: bytes) -> bytes:
    """Return a value without the characters that are not shown."""
    if value.isascii():
        return value
    import re

    text = value.decode("utf-8", "surrogateescape")
    return re.sub(_NOT_SHOWN, "", text).encode("utf-8", "surrogateescape")


def _in_value(value: bytes) -> list[bytes]:
    """Return the domains of the addresses in a list; if it has an error, of all that looks like one, too."""
    domains = []
    has_error = False
    try:
        for mailbox in [mailbox for each in parts(value, b",") for mailbox in parts(each)]:
            if b"@" in mailbox:
                found = _of_mailbox(mailbox)
                has_error = has_error or found is None
                domains += found or []
    except ValueError:  # an unterminated comment or quoted string
        has_error = True
    return domains + _in_any_reading(value) if has_error else domains


def _of_mailbox(mailbox: bytes) -> list[bytes] | None:
    """Return the domain of an address, none for an IP address; None for an invalid one, or several."""
    try:
        domain = first_mailbox(mailbox).domain
    except NotSigned:
        return None
    if b"@" in mailbox.partition(b">")[2] and not holds_one_address(mailbox):
        return None
    if is_domain(domain):
        return [domain]
    return None if domain.translate(None, _IN_LITERAL) else []


def _in_any_reading(value: bytes) -> list[bytes]:
    """Return the domains of all that looks like an address: a syntax error must not evade a policy."""
    import re

    without_comments = re.sub(rb"\([^()]*\)", b"", value)
    words = [word for text in (value, without_comments) for word in re.findall(_AFTER_AT, text)]
    found = [as_a_labels(word) for word in dict.fromkeys(words)]
    found = [domain[:-1] if domain.endswith(b".") else domain for domain in found]
    return [domain if is_domain(domain) else _UNREADABLE for domain in found]


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


def _dmarc(
    domain: bytes,
    identifiers: Identifiers,
    rejects: bool,
    evaluated: dict[bytes, Evaluation],
    resolver: Resolver,
) -> None:
    from dkimpipe.verify.dmarc import evaluate

    evaluation = evaluated[domain] = evaluate(domain, identifiers, resolver)
    if evaluation.result == "temperror":
        raise TemporaryError(evaluation.reason)
    if rejects and evaluation.rejects:
        raise RejectedError(
            f"neither DKIM nor SPF passes for {domain.decode()}, whose policy is reject (DMARC)"
        )
