"""When ``dkimpipe verify`` turns a message away: on a published policy, if asked, and never in doubt."""

from __future__ import annotations

from collections.abc import Iterator

import in_memory
import pytest
from conftest import Keys
from nameserver import NameServer

from dkimpipe.config import read_command_line
from dkimpipe.errors import Trouble
from dkimpipe.message import Message
from dkimpipe.verify import policy
from dkimpipe.verify.options import VerifySettings
from dkimpipe.verify.resolver import Resolver

UNSIGNED = b"Received: by mx.test\nFrom: a@sub.example.com\nSubject: x\n\nx\n"
DK, ADSP, DMARC = (f"{name}sub.example.com" for name in ("_domainkey.", "_adsp._domainkey.", "_dmarc."))
DMARC_ABOVE = "_dmarc.example.com"
ALL = "--reject-fail", "--dmarc"


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def rejected(server: NameServer, message: bytes, records: dict[str, list[bytes]], *arguments: str) -> str:
    """Return enhanced status code and reason, or nothing if the message goes on."""
    server.records = records
    settings = VerifySettings()
    read_command_line(["--hostname=mx.test", *arguments], settings)
    resolver = Resolver((server.address, server.port))
    read = Message(in_memory.reader(message))
    try:
        policy.reject(read, in_memory.verify(message, resolver), resolver, settings)
    except Trouble as trouble:
        return f"{trouble.code} {trouble}"
    return ""


SIGNS_ALL = "5.7.1 no good signature; sub.example.com signs all its mail (DomainKeys o={})"
DISCARD = "5.7.1 no good signature of sub.example.com, which wants this discarded (ADSP)"
REJECT = "5.7.1 neither DKIM nor SPF passes for sub.example.com, which wants this rejected (DMARC)"

# Records, and what comes of an unsigned message.
POLICIES: dict[str, tuple[dict[str, list[bytes]], str]] = {
    "nothing": ({}, ""),
    "domainkeys o=~": ({DK: [b"o=~"]}, ""),
    "domainkeys o=-": ({DK: [b"o=-; n=note"]}, SIGNS_ALL.format("-")),
    "domainkeys o=!": ({DK: [b"t=n;o=!"]}, SIGNS_ALL.format("!")),
    "domainkeys o=- in test mode": ({DK: [b"t=y; o=-"]}, ""),
    "domainkeys, no o=": ({DK: [b"n=note"]}, ""),
    "domainkeys, no tags": ({DK: [b"v=spf1 -all"]}, ""),
    "adsp all": ({ADSP: [b"dkim=all"]}, ""),
    "adsp discardable": ({ADSP: [b"dkim=discardable"]}, DISCARD),
    "dmarc none": ({DMARC: [b"v=DMARC1; p=none"]}, ""),
    "dmarc quarantine": ({DMARC: [b"v=DMARC1; p=quarantine"]}, ""),
    "dmarc reject": ({DMARC: [b"v=DMARC1; p=reject; rua=mailto:a@example.com"]}, REJECT),
    "dmarc reject of a part": ({DMARC: [b"v=DMARC1; p=reject; pct=50"]}, ""),
    "dmarc reject in test mode": ({DMARC: [b"v=DMARC1; p=reject; t=y"]}, ""),
    "dmarc, two records": ({DMARC: [b"v=DMARC1; p=reject", b"v=DMARC1; p=reject; pct=100"]}, ""),
    "dmarc beside another record": ({DMARC: [b"v=spf1 -all", b"v=DMARC1; p=reject"]}, REJECT),
    "dmarc, v= not first": ({DMARC: [b"p=reject; v=DMARC1"]}, ""),
    "dmarc of the parent": ({DMARC_ABOVE: [b"v=DMARC1; p=reject"]}, REJECT),
    "dmarc of the parent, sp=none": ({DMARC_ABOVE: [b"v=DMARC1; p=reject; sp=none"]}, ""),
    "dmarc of the parent, sp=reject": ({DMARC_ABOVE: [b"v=DMARC1; p=none; sp=reject"]}, REJECT),
    "dmarc of the domain before the parent": (
        {DMARC: [b"v=DMARC1; p=none"], DMARC_ABOVE: [b"v=DMARC1; p=reject"]},
        "",
    ),
    "dmarc of a top level": ({"_dmarc.com": [b"v=DMARC1; p=reject"]}, ""),
}


@pytest.mark.parametrize(("records", "expected"), POLICIES.values(), ids=POLICIES)
def test_an_unsigned_message(server: NameServer, records: dict[str, list[bytes]], expected: str) -> None:
    assert rejected(server, UNSIGNED, records, *ALL) == expected
    assert rejected(server, UNSIGNED, records) == ""
    if expected == REJECT:
        assert rejected(server, UNSIGNED, records, "--reject-fail") == ""


# Who signed, the policy, and what comes of it.
D_DMARC, D_STRICT = [b"v=DMARC1; p=reject"], [b"v=DMARC1; p=reject; adkim=s"]
SIGNED: dict[str, tuple[str, dict[str, list[bytes]], str]] = {
    "the domain": ("sub.example.com", {DK: [b"o=!"], ADSP: [b"dkim=discardable"], DMARC: D_STRICT}, ""),
    "the parent": ("example.com", {DK: [b"o=!"], DMARC: D_DMARC}, ""),
    "the parent, strict": ("example.com", {DMARC: D_STRICT}, REJECT),
    "the parent, for ADSP": ("example.com", {ADSP: [b"dkim=discardable"]}, DISCARD),
    "a sister, policy above": ("news.example.com", {DMARC_ABOVE: D_DMARC}, ""),
    "somebody else, o=-": ("example.org", {DK: [b"o=-"]}, ""),
    "somebody else, o=!": ("example.org", {DK: [b"o=!"]}, SIGNS_ALL.format("!")),
    "somebody else": ("example.org", {DMARC: D_DMARC}, REJECT),
    "a name that ends alike": ("badsub.example.com.example.org", {DMARC: D_DMARC}, REJECT),
}


@pytest.mark.parametrize(("domain", "records", "expected"), SIGNED.values(), ids=SIGNED)
def test_a_signed_message(
    keys: Keys, server: NameServer, domain: str, records: dict[str, list[bytes]], expected: str
) -> None:
    arguments = (f"--domain={domain}", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    signed = in_memory.sign(UNSIGNED, *arguments)
    key = {f"sel._domainkey.{domain}": keys.records["rsa2048._domainkey.example.com"]}
    assert rejected(server, signed, {**records, **key}, *ALL) == expected


def test_a_bad_signature_is_none(keys: Keys, server: NameServer) -> None:
    arguments = ("--domain=sub.example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    signed = in_memory.sign(UNSIGNED, *arguments).replace(b"\n\nx", b"\n\ny")
    assert rejected(server, signed, {DMARC: D_DMARC}, *ALL) == REJECT


# Fields above Received, and fields below it, which anybody can send.
SPF = {
    "Received-SPF": b"Received-SPF: Pass (x) identity=mailfrom\n",
    "results": b"Authentication-Results: MX.test; spf=pass smtp.mailfrom=a@example.com\n",
    "results, not first": b"Authentication-Results: mx.test; dkim=none;\n\tspf=pass smtp.mailfrom=a\n",
}
NO_SPF = {
    "Received-SPF": b"Received-SPF: Fail (Pass)\n",
    "results of another": b"Authentication-Results: other.test; spf=pass\n",
    "results": b'Authentication-Results: mx.test; spf=fail reason="spf=pass"\n',
}


@pytest.mark.parametrize("field", SPF.values(), ids=SPF)
def test_spf_is_believed_above_our_received_and_nowhere_else(server: NameServer, field: bytes) -> None:
    records = {DMARC: D_DMARC}
    assert rejected(server, field + UNSIGNED, records, *ALL) == ""
    assert rejected(server, UNSIGNED.replace(b"From:", field + b"From:"), records, *ALL) == REJECT
    assert rejected(server, field + UNSIGNED.replace(b"Received", b"X"), records, *ALL) == REJECT


@pytest.mark.parametrize("field", NO_SPF.values(), ids=NO_SPF)
def test_what_is_no_pass_of_spf(server: NameServer, field: bytes) -> None:
    assert rejected(server, field + UNSIGNED, {DMARC: D_DMARC}, *ALL) == REJECT


# In doubt it goes on.
DOUBT = {
    "no From": UNSIGNED.replace(b"From", b"X-From"),
    "two From": UNSIGNED.replace(b"Subject", b"From: b@example.org\nSubject"),
    "no address": UNSIGNED.replace(b"a@sub.example.com", b"nobody"),
}


@pytest.mark.parametrize("message", DOUBT.values(), ids=DOUBT)
def test_in_doubt_it_goes_on(server: NameServer, message: bytes) -> None:
    assert rejected(server, message, {DK: [b"o=-"], DMARC: D_DMARC}, *ALL) == ""


@pytest.mark.parametrize("name", [DK, ADSP, DMARC])
def test_without_an_answer_it_goes_on_or_waits(server: NameServer, name: str) -> None:
    server.broken = {name}
    try:
        assert rejected(server, UNSIGNED, {}, *ALL) == ""
        wait = f"4.7.5 the name servers of {name} fail"
        assert rejected(server, UNSIGNED, {}, *ALL, "--reject-error") == wait
    finally:
        server.broken = set()


def test_no_verdict_on_a_signature_is_no_reason_to_reject(keys: Keys, server: NameServer) -> None:
    arguments = ("--domain=sub.example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    signed = in_memory.sign(UNSIGNED, *arguments)
    server.broken = {"sel._domainkey.sub.example.com"}
    try:
        assert rejected(server, signed, {DMARC: D_DMARC}, *ALL) == ""
    finally:
        server.broken = set()
