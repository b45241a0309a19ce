"""``dkimpipe check`` on h=: what it reports breaks signatures, according to dkimpy too; the rest does not."""

from __future__ import annotations

import pytest
from checking import KEY, checked, findings
from conftest import Keys, run_filter
from witness import as_smtp_carries, dkimpy_verdicts, record

BREAKS = (
    "error: SENDERS, line 1: h= oversigns received: Postfix adds one after signing, so the signature fails"
)
UNSTABLE = (
    "warning: SENDERS, line 1: h= includes {}, "
    "which may be changed or removed on the way (RFC 6376 section 5.4)"
)
REMOVED = "warning: SENDERS, line 1: h= includes {}, which Postfix removes"
ON_DELIVERY = (
    "warning: SENDERS, line 1: h= oversigns {}: "
    "the program that delivers the mail adds it, and the signature fails then"
)
ON_THE_WAY = (
    "warning: SENDERS, line 1: h= oversigns {}: servers on the way add it, and the signature fails then"
)
BY_FILTERS = (
    "warning: SENDERS, line 1: h= oversigns {}: "
    "filters of spam and viruses add it, and the signature fails then"
)
RESENT = (
    "warning: SENDERS, line 1: h= oversigns {}: "
    "users who resend the message add it, and the signature fails then"
)
NO_FIELD = "error: SENDERS, line 1: h= includes '{}', which no field is called"

# h=, what is found, and the field added after signing that breaks the signature, if any does.
ADDED = {
    "++received": ("++received", BREAKS, "Received"),
    "received twice": ("from:received:received", BREAKS, "Received"),
    "received thrice": ("from:received:received:received", BREAKS, "Received"),
    "received": ("from:received", UNSTABLE.format("received"), ""),
    "+received": ("+received", UNSTABLE.format("received"), ""),
    "++return-path": ("++return-path", ON_DELIVERY.format("return-path"), "Return-Path"),
    "return-path": ("from:Return-Path", ON_DELIVERY.format("return-path"), "Return-Path"),
    "+return-path": ("+return-path", UNSTABLE.format("return-path"), ""),
    "++delivered-to": ("++delivered-to", ON_DELIVERY.format("delivered-to"), "Delivered-To"),
    "delivered-to": ("from:delivered-to", ON_DELIVERY.format("delivered-to"), "Delivered-To"),
    "x-original-to": ("from:x-original-to", ON_DELIVERY.format("x-original-to"), "X-Original-To"),
    "++authentication-results": (
        "++authentication-results",
        ON_THE_WAY.format("authentication-results"),
        "Authentication-Results",
    ),
    "+authentication-results": (
        "+authentication-results",
        UNSTABLE.format("authentication-results"),
        "",
    ),
    "received-spf": ("from:received-spf", ON_THE_WAY.format("received-spf"), "Received-SPF"),
    "++arc-seal": ("++arc-seal", ON_THE_WAY.format("arc-seal"), "ARC-Seal"),
    "arc-message-signature": (
        "from:arc-message-signature",
        ON_THE_WAY.format("arc-message-signature"),
        "ARC-Message-Signature",
    ),
    "arc-authentication-results": (
        "from:arc-authentication-results",
        ON_THE_WAY.format("arc-authentication-results"),
        "ARC-Authentication-Results",
    ),
    "++domainkey-signature": (
        "++domainkey-signature",
        ON_THE_WAY.format("domainkey-signature"),
        "DomainKey-Signature",
    ),
    "++x-google-dkim-signature": (
        "++x-google-dkim-signature",
        ON_THE_WAY.format("x-google-dkim-signature"),
        "X-Google-DKIM-Signature",
    ),
    "++x-spam-status": ("++x-spam-status", BY_FILTERS.format("x-spam-status"), "X-Spam-Status"),
    "x-spam-level": ("from:x-spam-level", BY_FILTERS.format("x-spam-level"), "X-Spam-Level"),
    "+x-spam-status": ("+x-spam-status", UNSTABLE.format("x-spam-status"), ""),
    "++x-virus-scanned": ("++x-virus-scanned", BY_FILTERS.format("x-virus-scanned"), "X-Virus-Scanned"),
    "++x-ms-exchange-": (
        "++x-ms-exchange-organization-scl",
        ON_THE_WAY.format("x-ms-exchange-organization-scl"),
        "X-MS-Exchange-Organization-SCL",
    ),
    "++resent-from": ("++resent-from", RESENT.format("resent-from"), "Resent-From"),
    "resent-to twice": ("from:resent-to:resent-to", RESENT.format("resent-to"), "Resent-To"),
}
SENT = b"Received: from client by mail.example.com (Postfix) id 1;\n\tFri, 27 Nov 2026 12:00:00 +0000\n"
HOP = (
    "Received: by mail.example.com (Postfix, from userid 999)\r\n\tid 2; Fri, 27 Nov 2026 12:00:01 +0000\r\n"
)


@pytest.mark.parametrize(("h", "expected", "added"), ADDED.values(), ids=ADDED)
def test_a_field_that_is_added_on_the_way(keys: Keys, h: str, expected: str, added: str) -> None:
    entry = f"example.com dkim(s=rsa2048,{KEY},h={h})\n"
    status, said = checked(keys, entry)
    assert findings(said) == [expected]
    assert status == (78 if expected == BREAKS else 0)
    signed = run_filter(
        f"--sender_map={keys.senders(entry)}",
        message=SENT + b"From: a@example.com\nSubject: s\n\nbody\n",
    ).stdout
    records = {"rsa2048._domainkey.example.com": [record(keys.path("rsa2048").read_bytes())]}
    arrived = HOP.encode() + as_smtp_carries(signed)
    later = f"{added}: x\r\n".encode() if added not in ("", "Received") else b""
    verdicts = dkimpy_verdicts([arrived, later + arrived], records)
    passes = [verdict == ["pass"] for verdict in verdicts]
    assert passes == [added != "Received", not added]


OTHERS = {
    "bcc": ("from:bcc", [REMOVED.format("bcc")]),
    "+resent-bcc": ("+resent-bcc", [REMOVED.format("resent-bcc")]),
    "++content-length": ("++content-length", [REMOVED.format("content-length")]),
    "comments": ("+comments", [UNSTABLE.format("comments")]),
    "keywords": ("from:keywords", [UNSTABLE.format("keywords")]),
    "several": ("++bcc:++received", [REMOVED.format("bcc"), BREAKS]),
    "*": ("from:*", [NO_FIELD.format("*")]),
    "pattern": ("from:list-*", [NO_FIELD.format("list-*")]),
    "added pattern": ("+x-*", [NO_FIELD.format("x-*")]),
    "quotes": ("'from:from", [NO_FIELD.format("'from")]),
    "brackets": ("from:<subject>", [NO_FIELD.format("<subject>")]),
    "slash": ("from:subject/date", [NO_FIELD.format("subject/date")]),
}


@pytest.mark.parametrize(("h", "expected"), OTHERS.values(), ids=OTHERS)
def test_a_field_that_is_removed_or_that_does_not_exist(keys: Keys, h: str, expected: list[str]) -> None:
    status, said = checked(keys, f"example.com dkim(s=rsa2048,{KEY},h={h})\n")
    assert findings(said) == expected
    assert status == (78 if any(each.startswith("error") for each in expected) else 0)


GOOD = (
    "from:to:cc:subject:date:message-id:reply-to:in-reply-to:references:mime-version:content-type:sender",
    "from:from:subject:subject:list-id:list-unsubscribe:list-unsubscribe-post:openpgp:autocrypt",
    "from:x-mailer:x_foo:x.foo:resent-from:resent-date:feedback-id:auto-submitted",
    "++list-id:+resent-from:++sender:+x-ticket",
    "-*:+from:+to",
)


@pytest.mark.parametrize("h", GOOD)
def test_a_field_that_stays_as_it_is(keys: Keys, h: str) -> None:
    said = "dkimpipe: SENDERS and 1 signature is good; DNS was not checked\n"
    assert checked(keys, f"example.com dkim(s=rsa2048,{KEY},h={h})\n") == (0, said)


def test_domainkeys_signs_only_what_is_there(keys: Keys) -> None:
    said = "dkimpipe: SENDERS and 1 signature is good; DNS was not checked\n"
    assert checked(keys, f"example.com domainkeys(s=rsa2048,{KEY},h=from:received)\n") == (0, said)
    status, said = checked(keys, f"example.com domainkeys(s=rsa2048,{KEY},h=from:*)\n")
    assert (status, findings(said)) == (78, [NO_FIELD.format("*")])


def test_the_hint_omits_the_name(keys: Keys) -> None:
    assert checked(keys, f"example.com dkim(s=rsa2048,{KEY},h=++received)\n")[1].endswith(
        "\nhint: # omit received\n"
    )
    assert checked(keys, f"example.com dkim(s=rsa2048,{KEY},h=from:*)\n")[1].endswith(
        "\nhint: # omit h= to sign the default fields\n"
    )
