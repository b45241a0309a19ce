"""SPF results that our own host recorded in the header; SPF itself is not checked.

A pass is trusted in a Received-SPF field (RFC 7208 section 9.1), or in an Authentication-Results field with
our authserv-id, above the topmost Received field. DMARC uses the MAIL FROM identity only (RFC 9989 section
4.4.2), which for the null sender is postmaster at the HELO name (RFC 7208 section 2.4).

The domain of MAIL FROM is that in the field, not that of ``-f``: canonical(5), which does SRS, changes the
envelope sender after the policy server has seen it. In doubt a pass does not count, but nothing is rejected.

A field that is not exactly in the form of a known policy server is no pass: the client may have written part
of it, in its address (module ``spfrecord``).
"""

from __future__ import annotations

from dkimpipe.verify import spfrecord
from dkimpipe.verify.ownresults import fields_of_our_host, results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from dkimpipe.message import Message


def passed(message: Message, authserv_id: str, sender: str | None = None) -> tuple[list[bytes], list[bytes]]:
    """Return the domains for which SPF passed, and those for which it may have, in lower-case A-labels.

    In doubt is a pass beside a fail of the same identity, and one of HELO if the envelope sender is not null:
    ``sender`` is that of ``-f``, None if unknown.
    """
    found = list(_recorded(message, authserv_id))
    failed = {(identity, domain) for word, identity, domain in found if word == "fail"}
    certain: list[bytes] = []
    doubtful: list[bytes] = []
    for word, identity, domain in found:
        if word == "pass" and domain:
            is_doubtful = (identity, domain) in failed or (identity == "helo" and bool(sender))
            (doubtful if is_doubtful else certain).append(domain)
    return certain, doubtful


def _recorded(message: Message, authserv_id: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield each result with its identity, mailfrom or helo, and the domain of it."""
    for field in fields_of_our_host(message):
        if field.name == b"received-spf":
            yield spfrecord.received(field.value)
    for resinfo in results(message, authserv_id):
        for name, value in resinfo.properties if resinfo.method == "spf" else ():
            yield resinfo.result, name.removeprefix("smtp."), spfrecord.domain_of(value.encode())
