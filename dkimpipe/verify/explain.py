"""``dkimpipe verify --explain``: what is wrong with a signature, in terms that a postmaster can act on.

This keeps the message in memory, and is for interactive use.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from dkimpipe.distribution import install_command
from dkimpipe.message import LineEnds, Message
from dkimpipe.verify import second_opinion, transit
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.signature import Signature
from dkimpipe.verify.verdict import Verdict
from dkimpipe.verify.verifier import SignatureResult, Verifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.verify.verifier import Check


_CHANGED = "the text was changed after signing, perhaps by a mailing list, a virus scanner or a gateway"


def explain(
    message: Message,
    body: bytes,
    verifier: Verifier,
    results: Sequence[SignatureResult],
    resolver: Resolver,
    *,
    came_back: bool = False,
) -> Iterator[str]:
    """Yield the result of each signature and its cause, line by line; ``body`` is raw.

    ``came_back``  the message was taken out of a bounce, perhaps without its end
    """
    ends = LineEnds()
    text = ends.update(body) + ends.finish()
    if not results:
        yield "no signature"
    for number, each in enumerate(results):
        signature = each.signature
        yield f"{each.field.name.decode()}: {each.result}{': ' if each.reason else ''}{each.reason}"
        if signature:
            yield from _facts(each, signature)
        if each.result != "pass":
            check = verifier.check(number)
            yield from _why(each, check, message, text)
            if each.reason == "body altered" and isinstance(check, DkimCheck):
                yield from (f"    {line}" for line in _of_body(check, message, text, resolver, came_back))
        if signature and each.method == "dkim":
            opinion = second_opinion.ask(message, body, each.field, resolver)
            yield f"    dkimpy, another verifier: {opinion}"
    if verifier.unchecked:
        yield f"{verifier.unchecked} more signatures were not checked"


def _of_body(
    check: DkimCheck, message: Message, text: bytes, resolver: Resolver, came_back: bool
) -> Iterator[str]:
    """Yield the change of the body; if it is not found in what came back, what the header shows, too."""
    change = transit.change_of_body(check.signature, text)
    if change or not came_back:
        yield change or _CHANGED
        return
    yield f"{_CHANGED}, or only its beginning came back"
    try:
        yield from transit.state_of_header(check, message, resolver)
    except Verdict as verdict:
        yield f"{verdict.result}: {verdict}"


def _facts(each: SignatureResult, signature: Signature) -> Iterator[str]:
    c = signature.header_canonicalization
    if signature.method == "dkim":
        c += f"/{signature.body_canonicalization}"
    yield f"    d={signature.domain.decode()} s={signature.selector.decode()} a={signature.algorithm} c={c}"
    if each.record:
        proven = ", secured by DNSSEC" if each.authentic else ""
        yield f"    key: {signature.key_name}, {each.record.type}, {each.record.bits} bits{proven}"


def _why(each: SignatureResult, check: Check | None, message: Message, text: bytes) -> Iterator[str]:
    """Yield the probable cause, and how to proceed."""
    signature = each.signature
    if each.reason == "no key" and signature:
        install = "" if shutil.which("dig") else f"{install_command('dig')} && "
        yield f"    check: {install}dig +short TXT {signature.key_name}"
    elif each.record and each.reason.endswith("another key"):
        yield "    the record was replaced, or the message was signed with a key that was never published"
    if each.record and isinstance(check, DkimCheck) and each.reason.startswith("header "):
        yield from (f"    {line}" for line in transit.changes_of_header(each.record, check, message))
