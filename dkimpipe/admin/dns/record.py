"""Policy records for DomainKeys (RFC 4870 section 3.6) and DMARC, and records as zone file lines.

The key record of a selector comes from dkimpipe.publickey, and serves DomainKeys as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from dkimpipe.admin.dns import formats
from dkimpipe.publickey import tag_list
from dkimpipe.verify.alignment import is_aligned

_POLICY_ORDER = "otnr"
_SAFE = "".join(chr(octet) for octet in range(33, 127) if chr(octet) not in ";=")


class Record(NamedTuple):
    """A record: its ``name`` in A-labels without the trailing dot, and its ``value``, in US-ASCII.

    The value of a CNAME is a name without the trailing dot.
    """

    name: str
    value: str
    type: str = "TXT"


def policy_name(domain: str) -> str:
    """Return the name of a domain's DomainKeys policy, without the trailing dot."""
    return f"_domainkey.{domain}"


def dmarc_name(domain: str) -> str:
    """Return the name of a domain's DMARC policy, without the trailing dot."""
    return f"_dmarc.{domain}"


def policy(signs: str, tags: Mapping[str, str]) -> str:
    """Return a DomainKeys policy.

    ``signs``: the domain signs ``~`` some of its mail, ``-`` all, ``!`` all, and nobody else may; ``.`` it
    sends no mail.
    """
    return tag_list(_POLICY_ORDER, {"o": signs, **tags})


def dmarc(reports: Sequence[str]) -> str:
    """Return an initial DMARC policy (RFC 9989 section 5.1.4): reports, to addresses if there are any."""
    uris = [f"mailto:{quote(address, safe='@+')}" for address in reports]  # RFC 9989 section 4.8: no , or !
    return "; ".join(["v=DMARC1; p=none", *([f"rua={','.join(uris)}"] if uris else [])])


def consent(domain: str, host: str) -> Record | None:
    """Return the record by which a host accepts reports about a domain of another organization.

    RFC 9990 section 4, RFC 9991 section 5. A domain above is taken for the organizational domain.
    """
    if is_aligned(host.encode(), domain.encode()):
        return None
    return Record(f"{domain}._report._dmarc.{host}", "v=DMARC1")


def notes(text: str) -> str:
    """Return text in the form of n=: dkim-quoted-printable (RFC 6376 section 2.11) of its UTF-8."""
    return "".join([chr(o) if chr(o) in _SAFE else f"={o:02X}" for o in text.encode("utf-8", "replace")])


def zone_line(owner: str, text: str) -> str:
    """Return a TXT record as one line of a zone file (RFC 1035 section 5.1), in strings that fit."""
    return line_of(Record(owner, text))


def line_of(record: Record) -> str:
    """Return a record as one line of a zone file, without its time to live."""
    return f"{record.name}. IN {formats.zone_data(record)}"
