"""Whether a message is turned away: only by what its domain has published, and only if that is asked for.

``reject_fail``: the DomainKeys policy of the sending domain, ``o=-`` (RFC 4870 section 3.6: all mail is
signed) or ``o=!`` (and by nobody else), and ADSP ``dkim=discardable`` of the author's (RFC 5617). With
``dmarc``, too, DMARC ``p=reject`` (RFC 7489). ``reject_error``: no verdict without an answer of DNS; the
message is deferred.

In doubt a message is not turned away: with several From fields or none, when DNS has failed for a signature,
in test mode (``t=y``), and under a DMARC policy for a part of the mail (``pct``). There is no list of public
suffixes here; the policy of a parent domain counts as far up as two labels, as in the successor of RFC 7489.

SPF is not checked, but believed where our own host wrote that it passed: a Received-SPF field, or a results
field with our name, above the topmost Received. What a client sends stands below that, so nobody can forge
it; Postfix puts there what a policy server tells it to (PREPEND, access(5)), milters do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe.address import first_mailbox, is_at_or_below
from dkimpipe.choose import author_of
from dkimpipe.errors import NotSigned, RejectedError, UnverifiedError
from dkimpipe.message import Message
from dkimpipe.verify import taglist
from dkimpipe.verify.check import Judged
from dkimpipe.verify.options import VerifySettings
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.results import NAME, claims
from dkimpipe.verify.verdict import TemporaryError

_MAX_PARENTS = 8  # names that are asked for one DMARC policy


def reject(message: Message, judged: Sequence[Judged], resolver: Resolver, settings: VerifySettings) -> None:
    """Raise RejectedError if the message is not wanted, UnverifiedError if that cannot be told today."""
    without_answer = [each for each in judged if each.word == "temperror"]
    if without_answer and settings.yes("reject_error"):
        raise UnverifiedError(without_answer[0].reason)
    if without_answer or not settings.yes("reject_fail"):
        return
    good = [each.signature.domain for each in judged if each.word == "pass" and each.signature]
    good_dkim = [
        each.signature.domain
        for each in judged
        if each.word == "pass" and each.signature and each.method == "dkim"
    ]
    try:
        author = author_of(message).domain
        sending = (
            first_mailbox(message.by_name[b"sender"][0].value).domain
            if b"sender" in message.by_name
            else author
        )
    except NotSigned:
        return
    try:
        _domainkeys(sending, good, resolver)
        _adsp(author, good_dkim, resolver)
        if settings.yes("dmarc") and not _passed_spf(message, settings.authserv_id):
            _dmarc(author, good_dkim, resolver)
    except TemporaryError as error:
        if settings.yes("reject_error"):
            raise UnverifiedError(str(error)) from None


def _domainkeys(domain: bytes, good: Sequence[bytes], resolver: Resolver) -> None:
    for tags in _records(f"_domainkey.{domain.decode()}", resolver):
        signs = tags.get(b"o", b"~")
        first_party = any(is_at_or_below(domain, each) for each in good)
        if tags.get(b"t") != b"y" and ((signs == b"-" and not good) or (signs == b"!" and not first_party)):
            raise RejectedError(
                f"no good signature; {domain.decode()} signs all its mail (DomainKeys o={signs.decode()})"
            )


def _adsp(domain: bytes, good: Sequence[bytes], resolver: Resolver) -> None:
    for tags in _records(f"_adsp._domainkey.{domain.decode()}", resolver):
        if tags.get(b"dkim", b"").lower() == b"discardable" and domain not in good:
            raise RejectedError(f"no good signature of {domain.decode()}, which wants this discarded (ADSP)")


def _dmarc(domain: bytes, good: Sequence[bytes], resolver: Resolver) -> None:
    for parent in _parents(domain):
        found = [
            tags
            for tags in _records(f"_dmarc.{parent.decode()}", resolver)
            if tags.get(b"v") == b"DMARC1" and next(iter(tags)) == b"v"
        ]
        if len(found) == 1:
            break
    else:
        return
    (tags,) = found
    wanted = tags.get(b"p", b"") if parent == domain else tags.get(b"sp", tags.get(b"p", b""))
    is_for_all = tags.get(b"pct", b"100") == b"100" and tags.get(b"t", b"n").lower() != b"y"
    if tags.get(b"adkim", b"r").lower() == b"s":
        aligned = domain in good
    else:
        aligned = any(is_at_or_below(each, parent) or is_at_or_below(domain, each) for each in good)
    if wanted.lower() == b"reject" and is_for_all and not aligned:
        raise RejectedError(
            f"neither DKIM nor SPF passes for {domain.decode()}, which wants this rejected (DMARC)"
        )


def _parents(domain: bytes) -> Iterator[bytes]:
    """Yield a domain and those above it, as far as two labels, the nearest ones and the widest."""
    labels = domain.split(b".")
    firsts = list(range(max(1, len(labels) - 1)))
    for first in [*firsts[:1], *firsts[1:][-_MAX_PARENTS + 1 :]]:
        yield b".".join(labels[first:])


def _records(name: str, resolver: Resolver) -> Iterator[dict[bytes, bytes]]:
    """Yield the tags of the records of a name; what is no list of tags is none of ours."""
    for text in resolver.texts(name).texts:
        try:
            yield taglist.parse(text)
        except ValueError:
            continue


def _passed_spf(message: Message, authserv_id: str) -> bool:
    """Tell whether our own host wrote that SPF passed."""
    names = [field.name for field in message.fields]
    for field in message.fields[: names.index(b"received")] if b"received" in names else ():
        words = field.value.lower().split()
        if field.name == b"received-spf" and words[:1] == [b"pass"]:
            return True
        spf = (part.split()[:1] == [b"spf=pass"] for part in field.value.lower().split(b";"))
        if field.name == NAME and claims(field, authserv_id) and any(spf):
            return True
    return False
