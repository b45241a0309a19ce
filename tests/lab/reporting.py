"""Reports as receivers write them: from a table of flows, and the mail that carries them."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from typing import NamedTuple

DAY = 86400
MONDAY = 1_793_577_600  # 2026-11-02 00:00 UTC


class Flow(NamedTuple):
    """Messages that a receiver reports together.

    ``domain``    of From
    ``dkim``      signatures: domain, selector, result
    ``spf``       domain and result
    ``is_spf_aligned``  as the receiver has evaluated it
    """

    ip: str
    messages: int
    domain: str
    dkim: Sequence[tuple[str, str, str]]
    spf: tuple[str, str]
    is_spf_aligned: bool = False
    disposition: str = "none"

    def xml(self) -> str:
        """Return the record."""
        aligned = any(domain == self.domain and result == "pass" for domain, _, result in self.dkim)
        signatures = "".join(
            f"<dkim><domain>{domain}</domain><selector>{selector}</selector><result>{result}</result></dkim>"
            for domain, selector, result in self.dkim
        )
        return (
            f"<record><row><source_ip>{self.ip}</source_ip><count>{self.messages}</count><policy_evaluated>"
            f"<disposition>{self.disposition}</disposition><dkim>{'pass' if aligned else 'fail'}</dkim>"
            f"<spf>{'pass' if self.is_spf_aligned else 'fail'}</spf></policy_evaluated></row>"
            f"<identifiers><header_from>{self.domain}</header_from></identifiers><auth_results>{signatures}"
            f"<spf><domain>{self.spf[0]}</domain><result>{self.spf[1]}</result></spf></auth_results></record>\n"
        )


def report(
    flows: Sequence[Flow],
    organisation: str = "google.com",
    domain: str = "example.com",
    begin: int = MONDAY,
    number: str = "",
    policy: str = "none",
) -> bytes:
    """Return an aggregate report about one day."""
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<feedback><report_metadata>'
        f"<org_name>{organisation}</org_name><email>noreply@{organisation}</email>"
        f"<report_id>{number or begin}</report_id><date_range>"
        f"<begin>{begin}</begin><end>{begin + DAY - 1}</end></date_range></report_metadata>"
        f"<policy_published><domain>{domain}</domain><adkim>r</adkim><aspf>r</aspf><p>{policy}</p>"
        f"</policy_published>\n{''.join(flow.xml() for flow in flows)}</feedback>\n"
    ).encode()


def zipped(octets: bytes, name: str = "report.xml") -> bytes:
    """Return a zip file with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return file.getvalue()


def mail(octets: bytes, media_type: str = "application/gzip", name: str = "r.xml.gz") -> bytes:
    """Return a report mail with one attachment."""
    message = EmailMessage()
    message["From"] = "noreply-dmarc-support@google.com"
    message["Message-ID"] = "<1@google.com>"
    message["Subject"] = "Report domain: example.com"
    message.set_content("This is an aggregate report.")
    main, _, sub = media_type.partition("/")
    message.add_attachment(octets, maintype=main, subtype=sub, filename=name)
    return message.as_bytes()


def packed(octets: bytes) -> bytes:
    """Return a mail with a report, compressed by gzip."""
    return mail(gzip.compress(octets))
