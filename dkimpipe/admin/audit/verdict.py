"""Whether a message that has left was signed, and if not, where it came from and why.

Signed means proven: the filter, or a milter, reported it of this queue ID, or of one that this one continues.
"""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe.admin.audit.events import Client, Signature
from dkimpipe.admin.audit.message import Message
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION
from dkimpipe.errors import printable

RELAYED = "relayed"
SIGNED, UNSIGNED, FORWARDED, UNKNOWN = "signed", "unsigned", "forwarded", "unknown"
NOT_FILTERED = "did not pass the filter"
REQUEUED = "queued anew by postsuper -r, and so did not pass the filter"
NOTICE = "notice to the postmaster"
NO_REPORT = "the filter reported neither a signature nor a reason"


class Verdict(NamedTuple):
    """A message that has left, once for each queue ID under which it left.

    ``outcome``     signed, unsigned, forwarded or unknown
    ``signatures``  if it is signed
    ``kind``        submission, networks, bounces, local, or relayed: for a client that neither logged in nor
                    is in mynetworks, and not to a domain of this server
    ``source``      service and client, or the user, or what kind of notice
    ``domain``      of the envelope sender; empty for the null sender
    ``reason``      why it is not signed
    """

    outcome: str
    signatures: tuple[Signature, ...] = ()
    kind: str = ""
    source: str = ""
    domain: str = ""
    reason: str = ""


def verdict(message: Message, site: Site) -> Verdict:
    """Return the verdict on a message that has left."""
    chain = message.chain()
    signatures = dict.fromkeys(one for each in chain for one in (*each.added, *(each.reported or ())))
    domain = printable(message.domain, 253)
    if signatures:
        return Verdict(SIGNED, tuple(signatures), domain=domain)
    origin = chain[-1]
    reason = next((each.reason or NO_REPORT for each in chain if each.reported is not None), "")
    reason = reason or (REQUEUED if any(_passed_by(each, site) for each in chain) else NOT_FILTERED)
    if origin.client:
        kind, source = _client_of(origin.client, origin.path, site)
        if kind == RELAYED and (any(each.is_forwarded for each in chain) or _is_for_us(chain, site)):
            return Verdict(FORWARDED, domain=domain)
        return Verdict(UNSIGNED, (), kind, source, domain, reason)
    if origin.uid is not None:
        return Verdict(UNSIGNED, (), LOCAL, site.user(origin.uid), domain, reason)
    if origin.is_bounce:
        # bounce(8) names its notices; those of smtpd(8) and others (notify_classes) are known by the sender.
        return Verdict(UNSIGNED, (), BOUNCES, "" if origin.is_named else NOTICE, domain, reason)
    return Verdict(UNKNOWN, domain=domain)


def _passed_by(message: Message, site: Site) -> bool:
    """Return whether a message missed the filter because it was queued anew before the filter took it."""
    if not message.is_requeued or not message.parent:
        return False
    deferred = message.parent.deferred
    return not deferred or deferred.service.encode() in site.filters


def _is_for_us(chain: list[Message], site: Site) -> bool:
    """Return whether this server is the destination of a stranger's mail, also by an alias.

    What another filter brings back has the recipients that aliases lead to.
    """
    carried = next((each for each in chain if each.is_carried), chain[0])
    return all(map(site.has_domain, carried.domains))


def _client_of(client: Client, path: bytes, site: Site) -> tuple[str, str]:
    """Return the kind of mail that comes from a client, and the service and client."""
    service = printable(path.rstrip(b"/"), 40)
    address = printable(client.address, 45)
    if client.login:
        return SUBMISSION, f"{service}, login {printable(client.login, 80)}"
    if site.is_submission(path):
        return SUBMISSION, f"{service}, client {address}"
    kind = NETWORKS if site.is_in_mynetworks(client.address) else RELAYED
    return kind, f"{service}, client {address}"
