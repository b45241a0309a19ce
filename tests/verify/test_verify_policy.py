"""The messages that ``dkimpipe verify`` rejects, by DomainKeys policies, ADSP and DMARC."""

from __future__ import annotations

import base64
import hashlib
import io
import time

import in_memory
import pytest
from nameserver import NameServer
from policies import BROKEN, DMARC, FIELDS, FROM, RECEIVED, REJECT, Records, Zone, dmarc, verdict

from dkimpipe.config import read_command_line
from dkimpipe.errors import RejectedError, UnverifiedError
from dkimpipe.message import Message
from dkimpipe.verify import policy
from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.settings import VerifySettings

KEYS = "no valid signature; mail.example.com signs all its mail (DomainKeys o=-)"
STRICT_KEYS = "no valid signature; mail.example.com signs all its mail (DomainKeys o=!)"
ADSP = "no valid signature from mail.example.com, whose policy is discardable (ADSP)"


def keys(*texts: bytes) -> Records:
    """Return DomainKeys policies of mail.example.com."""
    return {"_domainkey.mail.example.com": list(texts)}


def adsp(*texts: bytes) -> Records:
    """Return ADSP records of mail.example.com."""
    return {"_adsp._domainkey.mail.example.com": list(texts)}


# Records, signatures, and why the message is rejected.
REJECTED: dict[str, tuple[Records, tuple[str, ...], str]] = {
    "DomainKeys, unsigned": (keys(b"o=-"), (), KEYS),
    "DomainKeys, strict": (keys(b"o=!; n=notes; r=a@example.com"), (), STRICT_KEYS),
    "DomainKeys, failed": (keys(b"o=-"), ("domainkeys fail mail.example.com",), KEYS),
    "DomainKeys, a key in test mode": (keys(b"o=-"), ("dkim neutral mail.example.com",), KEYS),
    "DomainKeys, of another domain": (keys(b"o=-"), ("dkim pass example.net",), KEYS),
    "DomainKeys, of a host below": (keys(b"o=-"), ("dkim pass a.mail.example.com",), KEYS),
    "DomainKeys, beside other records": (keys(b"v=spf1 -all", b"o=-"), (), KEYS),
    "ADSP, unsigned": (adsp(b"dkim=discardable"), (), ADSP),
    "ADSP, in any case and form": (adsp(b" dkim = DISCARDABLE ;"), (), ADSP),
    "ADSP, of the parent": (adsp(b"dkim=discardable"), ("dkim pass example.com",), ADSP),
    "ADSP, DomainKeys is not enough": (
        adsp(b"dkim=discardable"),
        ("domainkeys pass mail.example.com",),
        ADSP,
    ),
    "DMARC, unsigned": (dmarc(REJECT), (), DMARC),
    "DMARC, failed": (dmarc(REJECT), ("dkim fail mail.example.com",), DMARC),
    "DMARC, l= too short": (dmarc(REJECT), ("dkim policy mail.example.com",), DMARC),
    "DMARC, of another domain": (dmarc(REJECT), ("dkim pass example.net",), DMARC),
    "DMARC, of one whose name ends alike": (dmarc(REJECT), ("dkim pass email.example.com",), DMARC),
    "DMARC, DomainKeys is not enough": (dmarc(REJECT), ("domainkeys pass mail.example.com",), DMARC),
    "DMARC, servers of another domain fail": (dmarc(REJECT), ("dkim temperror evil.example",), DMARC),
    "DMARC, strict": (dmarc(REJECT + b"; adkim=s"), ("dkim pass example.com",), DMARC),
    "DMARC, of all": (dmarc(REJECT + b"; pct=100; t=n; ruf=mailto:a@example.com"), (), DMARC),
    "DMARC, of the parent": (dmarc(REJECT, at="example.com"), (), DMARC),
    "DMARC, of the parent for those below": (
        dmarc(b"v=DMARC1; p=none; sp=reject", at="example.com"),
        (),
        DMARC,
    ),
    "DMARC, of the parent for those below, whether they exist or not": (
        dmarc(b"v=DMARC1; p=none; sp=reject; np=reject", at="example.com"),
        (),
        DMARC,
    ),
    "DMARC, for those below that do not exist": (dmarc(REJECT + b"; np=none"), (), DMARC),
    "DMARC, its own before the parent's": (
        {**dmarc(REJECT), **dmarc(b"v=DMARC1; p=none", at="example.com")},
        (),
        DMARC,
    ),
    "DMARC, of the parent, for those below that do not exist": (
        dmarc(b"v=DMARC1; p=none; np=reject", at="example.com"),
        (),
        DMARC,
    ),
    "DMARC, of a part, by a tag that is no more": (dmarc(REJECT + b"; pct=99"), (), DMARC),
    "DMARC, of the top": (dmarc(REJECT, at="com"), (), DMARC),
    "DMARC, of a registry": (dmarc(REJECT + b"; psd=y", at="example.com"), (), DMARC),
    "DMARC, DNS fails for the parent of an unsigned one": (
        {**dmarc(REJECT), "_dmarc.example.com": BROKEN},
        (),
        DMARC,
    ),
    "DMARC, beside other records": (dmarc(b"v=spf1 -all", b"hello", REJECT), (), DMARC),
    "DNS fails for the others": (
        {"_domainkey.mail.example.com": BROKEN, "_adsp._domainkey.mail.example.com": BROKEN, **dmarc(REJECT)},
        (),
        DMARC,
    ),
}


@pytest.mark.parametrize(("records", "signatures", "expected"), REJECTED.values(), ids=REJECTED)
def test_rejected(records: Records, signatures: tuple[str, ...], expected: str) -> None:
    assert verdict(records, FROM, *signatures) == expected


# Records and signatures of messages that pass.
ACCEPTED: dict[str, tuple[Records, tuple[str, ...]]] = {
    "no policy": ({}, ()),
    "DomainKeys, signed": (keys(b"o=-"), ("domainkeys pass mail.example.com",)),
    "DomainKeys, signed by DKIM": (keys(b"o=!"), ("dkim pass mail.example.com",)),
    "DomainKeys, signed by the parent": (keys(b"o=-"), ("domainkeys pass example.com",)),
    "DomainKeys, a good one and a bad one": (
        keys(b"o=-"),
        ("dkim fail mail.example.com", "dkim pass mail.example.com"),
    ),
    "DomainKeys, servers fail": (keys(b"o=-"), ("domainkeys temperror mail.example.com",)),
    "DomainKeys, some mail": (keys(b"o=~"), ()),
    "DomainKeys, default": (keys(b"n=notes"), ()),
    "DomainKeys, testing": (keys(b"t=y; o=-"), ()),
    "DomainKeys, testing among flags": (keys(b"o=-; t=s:Y"), ()),
    "DomainKeys, two policies": (keys(b"o=-", b"o=~"), ()),
    "DomainKeys, not policies": (keys(b"o=-;o=!", b"o-", b"\xff", b""), ()),
    "DomainKeys, of the parent": ({"_domainkey.example.com": [b"o=-"]}, ()),
    "ADSP, signed": (adsp(b"dkim=discardable"), ("dkim pass mail.example.com",)),
    "ADSP, servers fail": (adsp(b"dkim=discardable"), ("dkim temperror mail.example.com",)),
    "ADSP, all": (adsp(b"dkim=all"), ()),
    "ADSP, unknown": (adsp(b"dkim=unknown"), ()),
    "ADSP, not the first tag": (adsp(b"t=s; dkim=discardable"), ()),
    "ADSP, two policies": (adsp(b"dkim=discardable", b"dkim=all"), ()),
    "DMARC, signed": (dmarc(REJECT), ("dkim pass mail.example.com",)),
    "DMARC, signed by a host below": (dmarc(REJECT), ("dkim pass a.mail.example.com",)),
    "DMARC, signed by the parent": (dmarc(REJECT), ("dkim pass example.com",)),
    "DMARC, signed by a sister": (dmarc(REJECT, at="example.com"), ("dkim pass news.example.com",)),
    "DMARC, signed by a sister, with its own policy": (
        {**dmarc(REJECT), **dmarc(REJECT, at="example.com")},
        ("dkim pass news.example.com",),
    ),
    "DMARC, strict, signed": (dmarc(REJECT + b"; adkim=s"), ("dkim pass mail.example.com",)),
    "DMARC, servers of the signer fail": (dmarc(REJECT), ("dkim temperror example.com",)),
    "DMARC, quarantine": (dmarc(b"v=DMARC1; p=quarantine"), ()),
    "DMARC, none": (dmarc(b"v=DMARC1; p=none; sp=reject"), ()),
    "DMARC, no p=": (dmarc(b"v=DMARC1; sp=reject", at="example.com"), ()),
    "DMARC, unknown sp=": (dmarc(REJECT + b"; sp=discard"), ()),
    "DMARC, unknown np=": (dmarc(REJECT + b"; np=discard"), ()),
    "DMARC, of the parent, not for those below that do not exist": (
        dmarc(REJECT + b"; np=none", at="example.com"),
        (),
    ),
    "DMARC, of the parent, only for those below that do not exist": (
        {**dmarc(b"v=DMARC1; p=none; np=reject", at="example.com"), "mail.example.com": []},
        (),
    ),
    "DMARC, signed by the parent of one with several policies": (
        dmarc(REJECT, REJECT + b"; t=n"),
        ("dkim pass example.com",),
    ),
    "DMARC, testing": (dmarc(REJECT + b"; t=y"), ()),
    "DMARC, two policies": (dmarc(REJECT, REJECT), ()),
    "DMARC, two policies, and the parent's": (
        {**dmarc(REJECT, REJECT), **dmarc(REJECT, at="example.com")},
        (),
    ),
    "DMARC, the version is not first": (dmarc(b"p=reject; v=DMARC1"), ()),
    "DMARC, another version": (dmarc(b"v=DMARC2; p=reject", b"v=dmarc1; p=reject"), ()),
    "DMARC, broken": (dmarc(b"v=DMARC1; p=reject; p=none", b"v=DMARC1 p=reject"), ()),
    "DMARC, of the parent, not for those below": (dmarc(REJECT + b"; sp=none", at="example.com"), ()),
    "DMARC, DNS fails": ({"_dmarc.mail.example.com": BROKEN}, ()),
    "DMARC, DNS fails for the parent": (
        {**dmarc(REJECT), "_dmarc.example.com": BROKEN},
        ("dkim pass news.example.com",),
    ),
    "DMARC, DNS fails for the domain itself, and the policy depends on it": (
        {**dmarc(b"v=DMARC1; p=none; np=reject", at="example.com"), "mail.example.com": BROKEN},
        (),
    ),
}


@pytest.mark.parametrize(("records", "signatures"), ACCEPTED.values(), ids=ACCEPTED)
def test_not_rejected(records: Records, signatures: tuple[str, ...]) -> None:
    assert verdict(records, FROM, *signatures) == ""


# The organizational domain: an author, policies, a signer, and whether the message passes.
ORGANIZATIONS: dict[str, tuple[str, dict[str, bytes], str, bool]] = {
    "the widest policy": (
        "a.b.shop.example",
        {"b.shop.example": REJECT, "shop.example": b"v=DMARC1; p=none"},
        "evil.example",
        True,
    ),
    "the widest policy rejects": (
        "a.b.shop.example",
        {"b.shop.example": b"v=DMARC1; p=none", "shop.example": REJECT},
        "evil.example",
        False,
    ),
    "two shops below a registry": ("shop.co.example", {"shop.co.example": REJECT}, "evil.co.example", False),
    "two shops below a registry with a policy": (
        "shop.co.example",
        {"shop.co.example": REJECT, "co.example": b"v=DMARC1; p=none; psd=y"},
        "evil.co.example",
        False,
    ),
    "two hosts of a shop below a registry": (
        "a.shop.co.example",
        {"shop.co.example": REJECT, "co.example": b"v=DMARC1; p=none; psd=y"},
        "b.shop.co.example",
        True,
    ),
    "unsigned host of a shop below a registry": (
        "a.shop.co.example",
        {"shop.co.example": REJECT, "co.example": b"v=DMARC1; p=none; psd=y"},
        "evil.co.example",
        False,
    ),
    "the organization below a registry has no policy": (
        "a.b.shop.co.example",
        {"b.shop.co.example": REJECT, "co.example": b"v=DMARC1; p=none; psd=y"},
        "evil.example",
        True,
    ),
    "the organization below a registry has no policy, but signs": (
        "b.shop.co.example",
        {"b.shop.co.example": REJECT, "co.example": b"v=DMARC1; p=none; psd=y"},
        "c.shop.co.example",
        True,
    ),
    "an organization by psd=n": (
        "a.b.example.org",
        {"b.example.org": REJECT + b"; psd=n", "example.org": b"v=DMARC1; p=none"},
        "c.example.org",
        False,
    ),
    "an author domain that is one by psd=n": (
        "b.example.org",
        {"b.example.org": REJECT + b"; psd=n", "example.org": b"v=DMARC1; p=none"},
        "c.example.org",
        False,
    ),
}


@pytest.mark.parametrize(
    ("author", "policies", "signer", "passes"), ORGANIZATIONS.values(), ids=ORGANIZATIONS
)
def test_organizational_domain(author: str, policies: dict[str, bytes], signer: str, passes: bool) -> None:
    records = {f"_dmarc.{domain}": [text] for domain, text in policies.items()}
    why = f"neither DKIM nor SPF passes for {author}, whose policy is reject (DMARC)"
    assert verdict(records, b"From: <a@%b>\n" % author.encode(), f"dkim pass {signer}") == (
        "" if passes else why
    )


# The author domains: a header, and the domain whose policy rejects it.
AUTHORS = {
    "one": (b"From: a@one.example\n", "one.example"),
    "upper case": (b"From: a@ONE.example\n", "one.example"),
    "U-labels": ("From: a@b\u00fccher.example\n".encode(), "xn--bcher-kva.example"),
    "dot at the end": (b"From: a@one.example.\n", "one.example"),
    "comma in a name": (b'From: "One, a" <a@one.example>, two@two.example\n', "one.example"),
    "second of two": (b"From: a@none.example, b@one.example\n", "one.example"),
    "second of two, with a comment": (b"From: a@none.example (,), One, B <b@one.example>\n", "one.example"),
    "in a group": (b"From: us: a@none.example, b@one.example;\n", "one.example"),
    "second field": (b"From: a@none.example\nFrom: b@one.example\n", "one.example"),
    "first field, second broken": (b"From: b@one.example\nFrom: (\n", "one.example"),
    "before a comment without an end": (b"From: b@one.example, (a\n", "one.example"),
    "beside an unreadable Sender": (b"From: a@one.example\nSender: one\n", "one.example"),
    "backslash in the name": (b"From: ACME\\B <b@one.example>\n", "one.example"),
    "quote in the name": (b'From: "B <b@one.example>\n', "one.example"),
    "parenthesis in the name": (b"From: B) <b@one.example>\n", "one.example"),
    "quote without an end": (b'From: "a@one.example\n', "one.example"),
    "two addresses, backslash": (b"From: a@one.example\\ <b@two.example>\n", "two.example"),
    "error beside a good address": (b"From: A\\B <b@one.example>, c@two.example\n", "one.example"),
    "parenthesis beside a good address": (b'From: B) <b@one.example>, "c" <c@two.example>\n', "one.example"),
    "no closing angle": (b"From: B <b@one.example\n", "one.example"),
    "comment in the domain": (b"From: B <b@on(x)e.example>, c\\ <c@two.example>\n", "one.example"),
    "text after the address": (b"From: b@one.example B\n", "one.example"),
    "comment without an end": (b"From: b@one.example (B\n", "one.example"),
    "two angles": (b"From: <<b@one.example>>\n", "one.example"),
    "behind a semicolon": (b"From: a@none.example; b@one.example\n", "one.example"),
    "behind a semicolon, in angles": (b"From: <a@none.example>; B <b@one.example>\n", "one.example"),
    "between semicolons": (b"From: a@none.example;b@one.example;c@none.example\n", "one.example"),
    "behind a semicolon, in a group": (b"From: us: a@none.example; b@one.example\n", "one.example"),
    "in quotes": (b'From: "b@one.example"\n', "one.example"),
    "semicolon in a name": (b'From: "One; a" <a@one.example>; b@two.example\n', "one.example"),
    "behind another, no comma": (b"From: <a@none.example> <b@one.example>\n", "one.example"),
    "behind another, no angles": (b"From: A <a@none.example> b@one.example\n", "one.example"),
    **{
        f"U+{code:04X} in the domain": (f"From: a@on{chr(code)}e.example\n".encode(), "one.example")
        for code in (
            *(0xAD, 0x34F, 0x61C, 0x115F, 0x180B, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x202E),
            *(0x2060, 0x2064, 0x3164, 0xFE00, 0xFE0F, 0xFEFF, 0xFFA0, 0xE0001, 0xE0020, 0xE0100),
        )
    },
    "U+00AD at the end": ("From: a@one.example\u00ad\n".encode(), "one.example"),
    "U+00AD before the at sign, and behind": ("From: a\u00ad@\u00adone.example\n".encode(), "one.example"),
    "U+00AD instead of a label": ("From: B <a@one.example.\u00ad>\n".encode(), "one.example"),
    "U+200D that IDNA 2008 keeps": ("From: a@one.\u200dexample\n".encode(), "one.xn--example-g06c"),
    "U+00AD in a field with an error": ("From: A\\B <b@on\u00ade.example\n".encode(), "one.example"),
    "full-width letters": ("From: a@\uff4f\uff4e\uff45\uff0eexample\n".encode(), "one.example"),
    "U-labels in a field with an error": (
        "From: A\\B <b@b\u00fccher.example\n".encode(),
        "xn--bcher-kva.example",
    ),
    "parenthesis in the name, second field": (
        b"From: b@none.example\nFrom: B) <b@one.example>\n",
        "one.example",
    ),
}


@pytest.mark.parametrize(("header", "domain"), AUTHORS.values(), ids=AUTHORS)
@pytest.mark.parametrize("place", ["_domainkey.", "_adsp._domainkey.", "_dmarc."])
def test_the_policy_of_every_author_applies(header: bytes, domain: str, place: str) -> None:
    text = {"_domainkey.": b"o=-", "_adsp._domainkey.": b"dkim=discardable", "_dmarc.": REJECT}[place]
    assert domain in verdict({place + domain: [text]}, header)


# Headers without an author domain.
NO_AUTHOR = {
    "no From": b"To: b@one.example\n",
    "empty From": b"From:\n",
    "no address": b"From: one.example\n",
    "address literal": b"From: a@[192.0.2.1]\n",
    "IPv6 address literal": b"From: a@[IPv6:2001:db8::1]\n",
    "address in a comment": b"From: B (<b@one.example>)\n",
}


@pytest.mark.parametrize("header", NO_AUTHOR.values(), ids=NO_AUTHOR)
def test_no_author_no_policy(header: bytes) -> None:
    zone, settings = Zone({}), VerifySettings()
    read_command_line(["--hostname=mx.example.net", "--reject_fail", "--dmarc"], settings)
    policy.apply(Message(io.BytesIO(header + b"\n").read), [], zone, settings)
    assert zone.asked == []


# Headers with an address whose domain nobody can read, though a mail program may show one.
UNREADABLE = {
    "empty label": b"From: a@one..example\n",
    "dots at the end": b"From: <b@one.example..>\n",
    "beside a good address": b"From: a@two.example, b@one.example..\n",
    "beside a good address, semicolon": b"From: b@one..example; a@two.example\n",
    "beside a good address in a comment without an end": b"From: b@one..example, (a@two.example\n",
    "slash": b"From: b@one.example/x\n",
    "NUL": b"From: b@one.\0example\n",
    "DEL": b"From: B <b@\x7fone.example>\n",
    "quotes within": b'From: b@"on"e.example\n',
    "percent": b"From: b@one%2eexample\n",
    "nothing": b"From: B <b@>\n",
    "only what is not shown": "From: b@\u200b\n".encode(),
    "invalid UTF-8": b"From: b@one\xff.example\n",
    "a name in brackets": b"From: b@[one.example]\n",
    "second field": b"From: a@two.example\nFrom: b@one..example\n",
    "too long": b"From: b@" + 64 * b"o" + b".example\n",
}


@pytest.mark.parametrize("header", UNREADABLE.values(), ids=UNREADABLE)
def test_an_address_without_a_valid_domain_is_not_accepted_under_dmarc(header: bytes) -> None:
    assert verdict({}, header) == "From has an address without a valid domain"
    assert verdict({}, header, options="") == ""


# Fields with an at sign more, which mail programs do not show as an author's.
READABLE = {
    "in a name in quotes": b'From: "b@one..example" <a@two.example>\n',
    "in a name": b"From: b@one..example <a@two.example>\n",
    "in a name, alone": b"From: B @ work <a@two.example>\n",
    "in a comment": b"From: a@two.example (b@one..example)\n",
    "in a name with an angle": b'From: "B > b@one..example" <a@two.example>\n',
    "in a route": b"From: <@one.example:a@two.example>\n",
    "in an encoded word": b"From: =?utf-8?q?b=40one=2e=2eexample?= <a@two.example>\n",
}


@pytest.mark.parametrize("header", READABLE.values(), ids=READABLE)
def test_only_the_address_is_judged(header: bytes) -> None:
    assert verdict({"_dmarc.one.example": [REJECT]}, header) == ""
    assert "two.example" in verdict({"_dmarc.two.example": [REJECT]}, header)


def test_domainkeys_is_for_the_sender_and_the_others_for_the_author() -> None:
    header = b"From: a@one.example\nSender: b@two.example\n"
    assert "two.example signs all its mail" in verdict({"_domainkey.two.example": [b"o=-"]}, header)
    assert verdict({"_domainkey.one.example": [b"o=-"]}, header) == ""
    assert verdict({"_adsp._domainkey.two.example": [b"dkim=discardable"]}, header) == ""
    assert verdict({"_dmarc.two.example": [REJECT]}, header) == ""


def test_the_first_sender_applies() -> None:
    header = FROM + b"Sender: a@one.example, b@two.example\nSender: c@three.example\n"
    assert "one.example signs all its mail" in verdict({"_domainkey.one.example": [b"o=-"]}, header)
    assert verdict({"_domainkey.two.example": [b"o=-"]}, header) == ""
    assert verdict({"_domainkey.three.example": [b"o=-"]}, header) == ""


def test_more_than_four_author_domains_are_not_accepted_under_dmarc() -> None:
    """The forged one could be the fifth. No policy is queried."""
    authors = [b"a@author%d.example" % number for number in range(1000)]
    four = b"From: " + b", ".join(authors[:4] * 100) + b"\n"
    assert "author3" in verdict({"_dmarc.author3.example": [REJECT]}, four)
    assert verdict({}, four) == ""
    for header in (
        b"From: " + b", ".join(authors[:5]) + b"\n",
        b"".join(b"From: %b\n" % author for author in authors[:5]),
        b"From: (" + b" ".join(authors[:5]) + b"\n",
    ):
        assert verdict({}, header) == "From has 5 author domains, and DMARC is evaluated for at most 4"
        assert verdict({}, header, options="") == ""
    assert "has 1000 author domains" in verdict({}, b"From: " + b", ".join(authors) + b"\n")


# What a forger puts before example.com: names whose servers, the forger's own, never answer.
BUDGET = 3.0  # seconds
HEADERS = {
    "keys": b"".join(
        FIELDS["dkim"].replace(b"s=s;", b"s=s%d;" % n) % b"evil.example" + b"\n" for n in range(9)
    )
    + FIELDS["dkim"] % b"example.com"
    + b"\nFrom: a@example.com\n",
    "policies of an author": b"From: x@evil.example, a@example.com\n",
    "policies of a sender": b"Sender: x@evil.example\nFrom: a@example.com\n",
}


@pytest.mark.alone
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_slow_servers_do_not_circumvent_a_policy(header: bytes) -> None:
    """Nor does it take longer: all domains share the time."""
    settings = VerifySettings()
    read_command_line(["--hostname=mx.example.net", "--reject_fail", "--dmarc"], settings)
    body = b"Hello\n"
    body_hash = base64.b64encode(hashlib.sha256(body.replace(b"\n", b"\r\n")).digest())
    octets = header.replace(b"bh=YWJj", b"bh=" + body_hash) + b"\n" + body
    with NameServer({"_dmarc.example.com": [REJECT]}) as server:
        for name in ("_domainkey", "_adsp._domainkey", "_dmarc", *(f"s{n}._domainkey" for n in range(9))):
            server.faults[f"{name}.evil.example"] = lambda wire, transport: b""
        keys, policies = (Resolver(Server(server.address, server.port), budget=BUDGET) for _ in range(2))
        started = time.monotonic()
        with pytest.raises(RejectedError) as rejected:
            policy.apply(Message(io.BytesIO(octets).read), in_memory.verify(octets, keys), policies, settings)
    assert str(rejected.value) == DMARC.replace("mail.", "")
    assert time.monotonic() - started < 3 * BUDGET


# Options, and the result for a message against all policies.
ALL = {**keys(b"o=-"), **adsp(b"dkim=discardable"), **dmarc(REJECT)}
OPTIONS = {
    "nothing": ("--reject_fail=no", ALL, ""),
    "DMARC alone rejects nothing": ("--reject_fail=no --dmarc", ALL, ""),
    "rejecting": ("", ALL, KEYS),
    "rejecting, no DMARC": ("", dmarc(REJECT), ""),
    "DMARC": ("--dmarc", dmarc(REJECT), DMARC),
}


@pytest.mark.parametrize(("options", "records", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_nothing_is_rejected_by_default(options: str, records: Records, expected: str) -> None:
    assert verdict(records, FROM, options=options) == expected


# With reject_error: options, records, signature, and why the message is deferred.
DEFERRED = {
    "a signature": ("--reject_fail=no", {}, "dkim temperror example.net", "no answer"),
    "a policy": (
        "",
        {"_domainkey.mail.example.com": BROKEN},
        "dkim fail example.net",
        "no answer for _domainkey.mail.example.com",
    ),
    "a DMARC policy": (
        "--dmarc",
        {"_dmarc.example.com": BROKEN},
        "dkim fail example.net",
        "no answer for _dmarc.example.com",
    ),
}


@pytest.mark.parametrize(("options", "records", "signed", "expected"), DEFERRED.values(), ids=DEFERRED)
def test_deferred_when_dns_fails(options: str, records: Records, signed: str, expected: str) -> None:
    with pytest.raises(UnverifiedError) as deferred:
        verdict(records, FROM, signed, options=f"--reject_error {options}")
    assert str(deferred.value) == expected


# Hostile sizes.

HOSTILE = {
    "authors": b"From: " + b"a@b.example, " * 20000,
    "commas": b"From: " + b"," * 260000,
    "comments": b"From: " + b"()" * 130000,
    "Received-SPF": b"Received-SPF: " + b"pass;" * 52000 + b"\n" + RECEIVED,
    "names without a value": b"Received-SPF: pass " + b"a" * 260000 + b"\n" + RECEIVED,
    "quotes": b"Received-SPF: pass x=" + b'""' * 130000 + b"\n" + RECEIVED,
}


@pytest.mark.alone
@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_takes_little_longer_than_a_harmless_one(header: bytes) -> None:
    def seconds(octets: bytes) -> float:
        started = time.process_time()
        verdict(dmarc(REJECT), octets)
        return time.process_time() - started

    harmless = b"From: " + b"Alice Example <alice@mail.example.com>,\n " * 6000 + b"a@b.example\n"
    assert seconds(header.rstrip(b"\n") + b"\n" + FROM) < 10 * seconds(harmless)
