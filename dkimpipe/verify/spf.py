"""SPF results that our own host recorded in the header; SPF itself is not checked.

A pass is trusted in a Received-SPF field (RFC 7208 section 9.1), or in an Authentication-Results field with
our authserv-id, above the topmost Received field. DMARC uses the MAIL FROM identity only (RFC 9989 section
4.4.2), which for the null sender is postmaster at the HELO name (RFC 7208 section 2.4).
"""

from __future__ import annotations

from dkimpipe.address import to_a_labels
from dkimpipe.verify.ownresults import fields_of_our_host, parsed, results
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from dkimpipe.message import Message


def passed(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield the domains for which SPF passed, in lower-case A-labels.

    A pass that does not name its domain, or not clearly, is for no domain: the client may have written it.
    """
    for field in fields_of_our_host(message):
        if field.name == b"received-spf":
            yield from _of_received_spf(field.value)
    for resinfo in results(message, authserv_id):
        if (resinfo.method, resinfo.result) == ("spf", "pass"):
            values = dict(resinfo.properties)
            yield from _domain(values.get("smtp.mailfrom", ""), values.get("smtp.helo", ""))


def _of_received_spf(value: bytes) -> Iterator[bytes]:
    try:
        resinfo = parsed(b"spf=" + b" ".join(parts(value)).lstrip())
    except ValueError:
        return
    if resinfo and resinfo.result == "pass":
        values = dict(resinfo.properties)
        sender = values.get("envelope-from", "")
        if _is_null(sender) or values.get("identity", "mailfrom").lower() == "mailfrom":
            yield from _domain(sender, values.get("helo", ""))


def _domain(sender: str, helo: str) -> Iterator[bytes]:
    """Yield the domain of a sender, or of HELO for the null sender."""
    domain = (helo if _is_null(sender) else sender).strip('"<>').rpartition("@")[2].rstrip(".")
    if domain:
        yield to_a_labels(domain.lower().encode())


def _is_null(sender: str) -> bool:
    return sender in ("", "<>")
