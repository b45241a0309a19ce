"""Policies in a table instead of DNS, and the verdict of ``dkimpipe verify`` on a message under them."""

from __future__ import annotations

import io

from dkimpipe.config import read_command_line
from dkimpipe.errors import RejectedError
from dkimpipe.message import Field, Message
from dkimpipe.verify import policy, signature
from dkimpipe.verify.resolver import Answer, Resolver
from dkimpipe.verify.settings import VerifySettings
from dkimpipe.verify.verdict import TemporaryError
from dkimpipe.verify.verifier import SignatureResult

Records = dict[str, list[bytes]]
BROKEN: list[bytes] = []  # a name whose servers fail

FIELDS = {
    "dkim": b"DKIM-Signature: v=1; a=rsa-sha256; d=%b; s=s; h=from; bh=YWJj; b=YWJj",
    "domainkeys": b"DomainKey-Signature: a=rsa-sha1; q=dns; c=nofws; d=%b; s=s; h=from; b=YWJj",
}
FROM = b"From: Alice <alice@mail.example.com>\n"


class Zone(Resolver):
    """Answers from a table, and records the queries. A name exists if it, or one below it, has a record."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self.records = records
        self.asked: list[str] = []

    def texts(self, name: str) -> Answer:
        self.asked.append(name)
        if self.records.get(name) is BROKEN:
            raise TemporaryError(f"no answer for {name}")
        exists = any(f".{known}".endswith(f".{name}") for known in self.records)
        return Answer(self.records.get(name, []), exists=exists)


def signature_result(text: str) -> SignatureResult:
    """Return the result of a signature, such as ``dkim pass example.com``."""
    method, word, domain = text.split()
    octets = FIELDS[method] % domain.encode()
    field = Field(octets.partition(b":")[0].lower(), octets)
    return SignatureResult(field, word, "no answer" if word == "temperror" else "", signature.parse(field))


def verdict(records: Records, header: bytes = FROM, *signatures: str, options: str = "--dmarc") -> str:
    """Return why a message is rejected, or nothing."""
    settings = VerifySettings()
    read_command_line(["--hostname=mx.example.net", "--reject_fail", *options.split()], settings)
    message = Message(io.BytesIO(header + b"\nHello\n").read)
    try:
        policy.apply(message, [signature_result(each) for each in signatures], Zone(records), settings)
    except RejectedError as rejected:
        return str(rejected)
    return ""


DMARC = "neither DKIM nor SPF passes for mail.example.com, whose policy is reject (DMARC)"
RECEIVED = b"Received: from client by mx.example.net (Postfix) with ESMTP\n"


def dmarc(*texts: bytes, at: str = "mail.example.com") -> Records:
    """Return DMARC records of a domain."""
    return {f"_dmarc.{at}": list(texts)}


REJECT = b"v=DMARC1; p=reject"
