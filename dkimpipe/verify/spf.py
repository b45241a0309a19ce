"""SPF results that our own host recorded in the header; SPF itself is not checked.

A pass is trusted in a Received-SPF field (RFC 7208 section 9.1), or in an Authentication-Results field with
our authserv-id, above the topmost Received field. DMARC uses the MAIL FROM identity only (RFC 9989 section
4.4.2), which for the null sender is postmaster at the HELO name (RFC 7208 section 2.4).

A pass that does not name its domain, or not clearly, is for no domain: the client may have written it, in its
address (module ``ownresults``).
"""

from __future__ import annotations

from dkimpipe.address import to_a_labels
from dkimpipe.verify.ownresults import COMMENT, fields_of_our_host, parsed, results
from dkimpipe.verify.structured import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from dkimpipe.message import Message


def passed(message: Message, authserv_id: str) -> Iterator[bytes]:
    """Yield the domains for which SPF passed, in lower-case A-labels."""
    for field in fields_of_our_host(message):
        if field.name == b"received-spf":
            yield from _domain(_of_received_spf(field.value))
    for resinfo in results(message, authserv_id):
        # Two properties could be one, an address with a space.
        if (resinfo.method, resinfo.result, len(resinfo.properties)) == ("spf", "pass", 1):
            name, value = resinfo.properties[0]
            yield from _domain(value if name in ("smtp.mailfrom", "smtp.helo") else "")


def _of_received_spf(value: bytes) -> str:
    """Return the sender or HELO name that passed; nothing if there is none, or anything is unclear."""
    try:
        text = b" ".join(parts(value, comment=COMMENT))
    except ValueError:
        return ""
    result, *behind = text.split(COMMENT)
    if len(behind) > 1 or (behind and len(result.split()) != 1):  # a comment that is not behind the result
        return ""
    resinfo = parsed(b"spf=" + b" ".join([result, *behind]).lstrip())
    values = dict(resinfo.properties) if resinfo and resinfo.result == "pass" else {}
    sender, helo = values.pop("envelope-from", ""), values.get("helo", "")
    values.pop("receiver", "")
    if any("@" in other for other in values.values()):  # the end of a sender that contains a semicolon
        return ""
    if values.get("identity", "mailfrom").lower() == "mailfrom":
        return sender if "@" in sender else ""
    return helo if values["identity"].lower() == "helo" and sender in ("", "<>") else ""


def _domain(identity: str) -> Iterator[bytes]:
    """Yield the domain of an address, or of a name; none if there is none."""
    domain = identity.strip('"<>').rpartition("@")[2].rstrip(".").lower()
    try:
        labels = to_a_labels(domain.encode())
    except ValueError:  # too long
        return
    if labels:
        yield labels
