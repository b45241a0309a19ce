"""SPF results that our own host recorded in the header; SPF itself is not checked.

A pass is trusted in a Received-SPF field (RFC 7208 section 9.1), or in an Authentication-Results field with
our authserv-id, above the topmost Received field. DMARC uses the MAIL FROM identity only (RFC 9989 section
4.4.2), which for the null sender is postmaster at the HELO name (RFC 7208 section 2.4).

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


def passed(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield the domains for which SPF passed, in lower-case A-labels."""
    for field in fields_of_our_host(message):
        if field.name == b"received-spf" and (domain := spfrecord.passed(field.value)):
            yield domain
    for resinfo in results(message, authserv_id):
        if (resinfo.method, resinfo.result) == ("spf", "pass"):
            yield spfrecord.domain_of(resinfo.properties[0][1].encode())
