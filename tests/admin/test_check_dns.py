"""``dkimpipe check --dns``: each fault of a record by its own message; none where all is good."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bind
import pytest
import throwaway
from checking import CONF_FAULTS, FAULTS, GOOD, KEY, KEY_FAULTS, checked, findings, verb
from conftest import MAIN, Keys, Report, write_key
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from nameserver import NO_EDNS, NameServer
from records import PRIVATE, SAMPLES
from throwaway import Machine

from dkimpipe.admin.dns import compare, edwards25519, formats, lookup
from dkimpipe.verify.nameserver import Server

# DNS: the record as it is published, and what is found.

OWNER = "rsa2048._domainkey.example.com"


@pytest.fixture
def nameserver(keys: Keys) -> Iterator[NameServer]:
    with NameServer({OWNER: list(keys.records[OWNER])}) as server:
        yield server


def in_dns(keys: Keys, nameserver: NameServer, text: str = GOOD) -> tuple[int, list[str]]:
    """Check a senders file with this server; return the status and the findings."""
    server = f"127.0.0.1#{nameserver.port}"
    status, said = checked(keys, text, "--dns", f"--server={server}")
    return status, [line.replace(f", according to {server}", "") for line in findings(said)]


def test_a_record_that_is_right(keys: Keys, nameserver: NameServer) -> None:
    assert in_dns(keys, nameserver) == (0, ["SENDERS and 1 signature is good"])


RIGHT_IN_ANOTHER_WAY = {
    "blanks": lambda value: value.replace(b"; ", b" ;\t").replace(b"p=M", b"p= M"),
    "no version": lambda value: value.replace(b"v=DKIM1; ", b""),
    "no key type": lambda value: value.replace(b"k=rsa; ", b""),
    "notes": lambda value: value + b"; n=hello; s=email; h=sha1:sha256; t=s",
    "semicolon at the end": lambda value: value + b";",
}


@pytest.mark.parametrize("change", RIGHT_IN_ANOTHER_WAY.values(), ids=RIGHT_IN_ANOTHER_WAY)
def test_a_record_that_says_the_same(keys: Keys, nameserver: NameServer, change) -> None:  # type: ignore[no-untyped-def]
    nameserver.records[OWNER] = [change(nameserver.records[OWNER][0])]
    assert in_dns(keys, nameserver)[0] == 0


def test_a_bare_key_in_the_record(keys: Keys, nameserver: NameServer) -> None:
    """As RFC 6376 section 3.6.1 has it, and hardly anybody: RSAPublicKey (erratum 3017)."""
    key = load_pem_private_key(keys.path("rsa2048").read_bytes(), None)
    bare = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1))
    nameserver.records[OWNER] = [b"v=DKIM1; k=rsa; p=" + bare]
    what = "p= as the bare key (RSAPublicKey): Mail::DKIM and OpenDKIM would refuse it"
    assert in_dns(keys, nameserver) == (78, [f"error: {OWNER}: {what}"])


@pytest.mark.parametrize("tag", [b"h", b"s"])
def test_controls_in_a_record_do_not_reach_the_terminal(
    keys: Keys, nameserver: NameServer, tag: bytes
) -> None:
    nameserver.records[OWNER][0] += b"; " + tag + b"=\x1b[2J"
    _, said = in_dns(keys, nameserver)
    assert len(said) == 1
    assert said[0].isprintable()
    assert f"{tag.decode()}= contains invalid characters: '\\x1b'" in said[0]


# The DMARC records of the author domain, and the warnings.
DMARC = {
    "none": ([], []),
    "all is good": (
        [
            b"v=DMARC1; p=reject; sp=none; np=reject; adkim=s; aspf=r; t=n; psd=u; "
            b"rua=mailto:a@a.example.com!10m;"
        ],
        [],
    ),
    "historic and unknown tags": (
        [b"v=DMARC1; p=none; pct=100; rf=afrf; ri=86400; fo=1; zz=1"],
        [
            "pct= is ignored (RFC 9989)",
            "rf= is ignored (RFC 9989)",
            "ri= is ignored (RFC 9989)",
            "zz= is not a tag of DMARC, and ignored",
        ],
    ),
    "tested by pct=0": (
        [b"v=DMARC1; p=reject; pct=0"],
        ["pct= is ignored (RFC 9989): the policy applies to all mail, and with t=y the next weaker one"],
    ),
    "tag names in capitals": (
        [b"V=DMARC1; P=REJECT"],
        ["a tag name in capitals, which some receivers do not know: 'V=DMARC1; P=REJECT'"],
    ),
    "no domain": (
        [b"v=DMARC1; p=none; rua=mailto:dmarc"],
        ["rua= has an address without a valid domain: 'mailto:dmarc'"],
    ),
    "no local part, and no valid domain": (
        [b"v=DMARC1; p=none; rua=mailto:@example.com, mailto:a@b/c ,mailto:a!b@example.com"],
        [
            "rua= has an invalid address: 'mailto:@example.com'",
            "rua= has an address without a valid domain: 'mailto:a@b/c'",
            "rua= has an invalid address: 'mailto:a!b@example.com'",
        ],
    ),
    "capitals and spaces": ([b" v = DMARC1 ;p=Reject; rua=MAILTO:a@example.com , mailto:b@example.com"], []),
    "other records": ([b"v=spf1 -all", b"hello"], []),
    "invalid p": ([b"v=DMARC1; p=foo"], ["p= is invalid: 'foo'"]),
    "invalid sp and np": (
        [b"v=DMARC1; p=none; sp=; np=bar"],
        ["sp= is invalid: ''", "np= is invalid: 'bar'"],
    ),
    "invalid modes": (
        [b"v=DMARC1; p=none; adkim=x; t=1"],
        ["adkim= is invalid: 'x'", "t= is invalid: '1'"],
    ),
    "no p": (
        [b"v=DMARC1; rua=mailto:a@example.com"],
        ["no p=: receivers apply no policy"],
    ),
    "p twice": ([b"v=DMARC1; p=none; p=reject"], ["p= appears twice, and is ignored"]),
    "no mailto": (
        [b"v=DMARC1; p=none; rua=mailto:a@example.com,b@example.com"],
        ["rua= needs mailto: before each address: 'mailto:a@example.com,b@example.com'"],
    ),
    "no mailto for failures": (
        [b"v=DMARC1; p=none; ruf=a@example.com"],
        ["ruf= needs mailto: before each address: 'a@example.com'"],
    ),
    "junk": ([b"v=DMARC1; p=none; \x1bjunk"], ["not a tag, and ignored: '\\x1bjunk'"]),
    "two records": (
        [b"v=DMARC1; p=none", b"v=DMARC1; p=reject"],
        ["2 DMARC records: receivers ignore all of them"],
    ),
    "v= is not the first": (
        [b"p=none; v=DMARC1"],
        ["it is not a DMARC record: 'p=none; v=DMARC1'"],
    ),
    "in quotes": ([b'"v=DMARC1; p=none"'], ["it is not a DMARC record: '\"v=DMARC1; p=none\"'"]),
    "v= in lower case": ([b"v=dmarc1; p=none"], ["it is not a DMARC record: 'v=dmarc1; p=none'"]),
}


@pytest.mark.parametrize(("texts", "expected"), DMARC.values(), ids=DMARC)
def test_the_dmarc_record_of_an_author_domain(
    keys: Keys, nameserver: NameServer, texts: list[bytes], expected: list[str]
) -> None:
    nameserver.records["_dmarc.example.com"] = texts
    warnings = [f"warning: _dmarc.example.com: {what}" for what in expected]
    assert in_dns(keys, nameserver) == (0, warnings or ["SENDERS and 1 signature is good"])


def consent_of(host: str) -> list[str]:
    what = f"no reports are sent to {host}, which does not accept them by a record (RFC 9990)"
    return [f"warning: _dmarc.example.com: {what}"]


CONSENT = {
    "none": ("rua=mailto:d@other.example", {}, consent_of("other.example")),
    "given": ("rua=mailto:d@other.example", {"other.example": b"v=DMARC1"}, []),
    "given, with an address": (
        "rua=mailto:d@other.example",
        {"other.example": b"v=DMARC1; rua=mailto:e@other.example;"},
        [],
    ),
    "another record": (
        "rua=mailto:d@other.example",
        {"other.example": b"v=spf1 -all"},
        consent_of("other.example"),
    ),
    "of failures": ("ruf=mailto:d@other.example", {}, consent_of("other.example")),
    "one of two": (
        "rua=mailto:d@other.example,mailto:e@third.example!1m; ruf=mailto:f@other.example",
        {"third.example": b"v=DMARC1"},
        consent_of("other.example"),
    ),
    "above and below": ("rua=mailto:d@a.example.com,mailto:d@example.com", {}, []),
    "in capitals": ("RUA=MAILTO:d@EXAMPLE.COM", {}, None),
}


@pytest.mark.parametrize(("tags", "records", "expected"), CONSENT.values(), ids=CONSENT)
def test_reports_to_another_organization_need_its_consent(
    keys: Keys, nameserver: NameServer, tags: str, records: dict[str, bytes], expected: list[str] | None
) -> None:
    nameserver.records["_dmarc.example.com"] = [f"v=DMARC1; p=none; {tags}".encode()]
    for host, text in records.items():
        nameserver.records[f"example.com._report._dmarc.{host}"] = [text]
    if expected is None:
        expected = [
            "warning: _dmarc.example.com: a tag name in capitals, which some receivers do not know:"
            f" 'v=DMARC1; p=none; {tags[:22]}...'"
        ]
    assert in_dns(keys, nameserver) == (0, expected or ["SENDERS and 1 signature is good"])


def test_the_record_of_consent_is_the_hint(keys: Keys, nameserver: NameServer) -> None:
    nameserver.records["_dmarc.example.com"] = [b"v=DMARC1; p=none; rua=mailto:d@other.example"]
    _, said = checked(keys, GOOD, "--dns", f"--server=127.0.0.1#{nameserver.port}")
    assert said.splitlines()[1:] == [
        "hint: # let other.example publish example.com._report._dmarc.other.example TXT v=DMARC1"
    ]


@pytest.mark.parametrize("registry", ["", "psd=y"], ids=["one organization", "two"])
def test_consent_is_needed_between_organizational_domains(
    keys: Keys, nameserver: NameServer, registry: str
) -> None:
    nameserver.records["_dmarc.example.com"] = [f"v=DMARC1; p=none; {registry}".encode()]
    nameserver.records["_dmarc.a.example.com"] = [b"v=DMARC1; p=none; rua=mailto:d@b.example.com"]
    text = f"a.example.com dkim(s=rsa2048,d=example.com,{KEY})\n"
    _, said = in_dns(keys, nameserver, text)
    assert any("b.example.com" in line for line in said) == bool(registry)


def test_a_server_that_fails_is_reported_for_consent(keys: Keys, nameserver: NameServer) -> None:
    nameserver.records["_dmarc.example.com"] = [b"v=DMARC1; p=none; rua=mailto:d@other.example"]
    name = "example.com._report._dmarc.other.example"
    nameserver.faults[name] = lambda wire, transport: wire[:2] + b"\x81\x82" + wire[4:]
    assert in_dns(keys, nameserver) == (0, [f"warning: {name}: the name servers of {name} fail"])


def test_dmarc_takes_one_query_for_each_author_domain(keys: Keys, nameserver: NameServer) -> None:
    text = (
        f"example.com dkim(s=rsa2048,{KEY})\n"
        f"a@Example.com dkim(s=rsa2048,{KEY})\n"
        f"b@b\u00fccher.example dkim(s=rsa2048,d=example.com,{KEY})\n"
        f". dkim(s=rsa2048,d=example.com,{KEY})\n"
    )
    in_dns(keys, nameserver, text)
    asked = [name for _, name in nameserver.asked if name.startswith("_dmarc.")]
    assert sorted(asked) == ["_dmarc.example.com", "_dmarc.xn--bcher-kva.example"]


def test_a_server_that_fails_is_reported_for_dmarc(keys: Keys, nameserver: NameServer) -> None:
    nameserver.faults["_dmarc.example.com"] = lambda wire, transport: wire[:2] + b"\x81\x82" + wire[4:]
    assert in_dns(keys, nameserver) == (
        0,
        ["warning: _dmarc.example.com: the name servers of _dmarc.example.com fail"],
    )


# The record is made from the right one, as a table of what stands at which name.
DNS_FAULTS = {
    "no name": (lambda value: {}, "error: {}: there is no such name (NXDOMAIN)"),
    "no TXT": (lambda value: {OWNER: []}, "error: {}: the name exists, but has no TXT record"),
    "domain doubled": (
        lambda value: {f"{OWNER}.example.com": [value]},
        "error: {0}: the record is at {0}.example.com; omit the domain when entering the name",
    ),
    "another key": (
        lambda value: {OWNER: SAMPLES["other key"].make(value)},
        "error: {}: the key does not match the private key",
    ),
    "revoked": (lambda value: {OWNER: [b"v=DKIM1; k=rsa; p="]}, "error: {}: the key is revoked: p= is empty"),
    "two records": (
        lambda value: {OWNER: [value, b"v=spf1 -all"]},
        "error: {}: 2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "no key record": (
        lambda value: {OWNER: [b"v=spf1 -all"]},
        "error: {}: it is not a key record: 'v=spf1 -all'",
    ),
    "cut at 255": (
        lambda value: {OWNER: [value[:255]]},
        "error: {}: p= is truncated: 237 of 392 characters are present",
    ),
    "second half only": (
        lambda value: {OWNER: [b"v=DKIM1; k=rsa; p=" + value[255:]]},
        "error: {}: p= is truncated: 155 of 392 characters are present",
    ),
    "quotes within": (
        lambda value: {OWNER: [value[:255] + b'" "' + value[255:]]},
        "warning: {}: the value contains quotes or backslashes where it was split",
    ),
    "backslash before semicolon": (
        lambda value: {OWNER: [value.replace(b";", b"\\;")]},
        "error: {}: backslashes before semicolons",
    ),
    "wrong version": (
        lambda value: {OWNER: [value.replace(b"DKIM1", b"DKIM2")]},
        "error: {}: v= is not DKIM1: 'DKIM2'",
    ),
    "wrong key type": (
        lambda value: {OWNER: [value.replace(b"k=rsa", b"k=ed25519")]},
        "error: {}: the key in p= is not of the type in k=",
    ),
    "sha1 only": (lambda value: {OWNER: [value + b"; h=sha1"]}, "error: {}: h=sha1 does not allow sha256"),
    "another service": (
        lambda value: {OWNER: [value + b"; s=tlsrpt"]},
        "error: {}: s=tlsrpt does not allow email",
    ),
    "testing": (
        lambda value: {OWNER: [value + b"; t=s:y"]},
        "warning: {}: t=y is left on: verifiers treat the mail as unsigned",
    ),
    "blanks are no fault, but backslashes are": (
        lambda value: {OWNER: [value[:255] + b"\\ " + value[255:]]},
        "error: {}: the value contains quotes or backslashes where it was split",
    ),
}


@pytest.mark.parametrize(("records", "expected"), DNS_FAULTS.values(), ids=DNS_FAULTS)
def test_each_fault_in_dns_is_named(  # type: ignore[no-untyped-def]
    keys: Keys, nameserver: NameServer, records, expected: str
) -> None:
    (value,) = nameserver.records[OWNER]
    nameserver.records.clear()
    nameserver.records.update(records(value))
    status, found = in_dns(keys, nameserver)
    assert found == [expected.format(OWNER)]
    assert status == (78 if expected.startswith("error") else 0)


def test_an_alias_that_leads_to_the_record_is_good(keys: Keys, nameserver: NameServer) -> None:
    nameserver.records["elsewhere.example.net"] = nameserver.records.pop(OWNER)
    nameserver.aliases[OWNER] = "elsewhere.example.net"
    assert in_dns(keys, nameserver)[0] == 0


# Target of an alias, and its records; what is found.
ALIASES: dict[str, tuple[str, list[bytes] | None, str]] = {
    "no such name": ("nowhere.example.net", None, "there is no such name (NXDOMAIN)"),
    "no TXT": ("elsewhere.example.net", [], "the name exists, but has no TXT record"),
}


@pytest.mark.parametrize(("target", "records", "what"), ALIASES.values(), ids=ALIASES)
def test_an_alias_that_leads_nowhere(
    keys: Keys, nameserver: NameServer, target: str, records: list[bytes] | None, what: str
) -> None:
    del nameserver.records[OWNER]
    if records is not None:
        nameserver.records[target] = records
    nameserver.aliases[OWNER] = target
    assert in_dns(keys, nameserver)[1] == [f"error: {OWNER}: it is an alias (CNAME) of {target}: {what}"]


# More entries beside the good one, with the same selector; tags of the record; what is found.
G_OF_DKIM = "error: {}: g= other than *, for DKIM: Mail::DKIM would refuse it"
SHARED = {
    "DKIM alone": ("", "h=sha256; s=email; t=s; g=*", []),
    "DKIM alone, granularity": ("", "g=boss", [G_OF_DKIM]),
    "DomainKeys alone": (
        f"example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha1",
        [],
    ),
    "both": (f"a@example.com domainkeys(s=rsa2048,{KEY})", "h=sha1:sha256; g=*", []),
    "DomainKeys alone, granularity": (f"example.com domainkeys(s=rsa2048,{KEY})", "g=", []),
    "sha256 alone": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha256",
        ["error: {}: h=sha256 does not allow sha1"],
    ),
    "sha256 alone, and rsa-sha1": (
        f"a@example.com dkim(a=rsa-sha1,s=rsa2048,{KEY})",
        "h=sha256",
        [
            "warning: SENDERS, line 2: a=rsa-sha1: verifiers refuse it (RFC 8301)",
            "error: {}: h=sha256 does not allow sha1",
        ],
    ),
    "sha1 alone": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha1",
        ["error: {}: h=sha1 does not allow sha256"],
    ),
    "strict": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "t=s",
        ["warning: {}: t=s: DomainKeys, which also uses the key, defines only t=y (RFC 4870 section 3.2.3)"],
    ),
    "strict, and i= below": (
        f"a@example.com dkim(i=@news.example.com,s=rsa2048,{KEY})",
        "t=s",
        ["error: {}: t=s does not allow i= in a subdomain of d="],
    ),
    "granularity of another": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "g=boss",
        [G_OF_DKIM, "warning: {}: g=boss: DomainKeys verifies mail of this local part only"],
    ),
    "granularity of a domain": (
        f"sub.example.com domainkeys(d=example.com,s=rsa2048,{KEY})",
        "g=a",
        [G_OF_DKIM, "warning: {}: g=a: DomainKeys verifies mail of this local part only"],
    ),
    "granularity of all": (f"a@example.com domainkeys(s=rsa2048,{KEY})", "g=*", []),
    "granularity of some": (f"news-b@example.com domainkeys(s=rsa2048,{KEY})", "g=news-*", [G_OF_DKIM]),
    "all at once": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha256; s=tlsrpt; t=y:s; g=b",
        [
            "error: {}: s=tlsrpt does not allow email",
            "warning: {}: t=y is left on: verifiers treat the mail as unsigned",
            G_OF_DKIM,
            "error: {}: h=sha256 does not allow sha1",
            "warning: {}: t=s: DomainKeys, which also uses the key, defines only t=y (RFC 4870"
            " section 3.2.3)",
            "warning: {}: g=b: DomainKeys verifies mail of this local part only",
        ],
    ),
}


@pytest.mark.parametrize(("more", "tags", "expected"), SHARED.values(), ids=SHARED)
def test_a_record_serves_all_the_signatures_with_its_key(
    keys: Keys, nameserver: NameServer, more: str, tags: str, expected: list[str]
) -> None:
    nameserver.records[OWNER] = [nameserver.records[OWNER][0] + f"; {tags}".encode()]
    text = f"{more}\n" if more.startswith("example.com") else f"{GOOD}{more}\n"
    found = in_dns(keys, nameserver, text)[1]
    count = text.count("(s=")
    good = f"SENDERS and {'1 signature is' if count == 1 else f'{count} signatures are'} good"
    assert found == [line.format(OWNER) for line in expected or [good]]


def test_only_the_last_entry_of_a_key_needs_a_record(keys: Keys, nameserver: NameServer) -> None:
    found = in_dns(keys, nameserver, f"example.com dkim(s=old,{KEY})\n{GOOD}")[1]
    assert found == ["warning: SENDERS, line 2: example.com is already in line 1; only this line applies"]


def test_a_signature_whose_record_has_no_fixed_name_needs_none(keys: Keys, nameserver: NameServer) -> None:
    assert in_dns(keys, nameserver, f". dkim(s=a,{KEY})\n") == (0, ["SENDERS and 1 signature is good"])
    assert nameserver.asked == []


def test_a_key_that_cannot_be_read_hides_no_other_finding(keys: Keys, nameserver: NameServer) -> None:
    begin, body, *end = keys.path("ed25519").read_bytes().split(b"\n")
    der = base64.b64decode(body).replace(b"\x04\x22\x04\x20", b"\x04\x22\x05\x20")  # no OCTET STRING
    write_key(keys.path("damaged"), b"\n".join([begin, base64.b64encode(der), *end]))
    text = "a.example dkim(s=a,key=KEYS/none.pem)\nb.example dkim(s=a,key=KEYS/damaged.pem)\n"
    del nameserver.records[OWNER]
    assert in_dns(keys, nameserver, text + GOOD)[1] == [
        "error: SENDERS, line 1: key file KEYS/none.pem: No such file or directory",
        "error: SENDERS, line 2: key file KEYS/damaged.pem is damaged: not a key structure",
        f"error: {OWNER}: there is no such name (NXDOMAIN)",
    ]


def test_the_conf_file_and_a_listid_map_need_records_too(keys: Keys, nameserver: NameServer) -> None:
    listid_map = keys.senders(
        f"news.lists.example dkim(d=lists.example,s=l,{KEY})\na.b.example dkim(s=depends,{KEY})\n", "listids"
    )
    conf = keys.senders(
        f"listid_map {listid_map}\ndomain example.com,example.org\n"
        f"signature dkim\nsignature domainkeys(s=c)\nselector s\nkeyfile {keys.path('rsa2048')}\n",
        "checked.conf",
    )
    nameserver.records.clear()
    server = f"127.0.0.1#{nameserver.port}"
    done = verb(f"--conf_file={conf}", "--dns", f"--server={server}")
    assert findings(done.stdout.decode()) == [
        f"error: {name}: there is no such name (NXDOMAIN), according to {server}"
        for name in (
            "l._domainkey.lists.example",
            "s._domainkey.example.com",
            "c._domainkey.example.com",
            "s._domainkey.example.org",
            "c._domainkey.example.org",
        )
    ]


@bind.needs_bind
def test_a_wildcard_is_named_whatever_it_says(keys: Keys, tmp_path: Path) -> None:
    """By BIND: what a wildcard answers for, RFC 4592 tells in many words."""
    zone = '*.w IN TXT "v=spf1 -all"\n*._domainkey.x IN TXT "v=DKIM1; p="\n*._domainkey.y IN CNAME t\n'
    (right,) = keys.records[OWNER]
    zone += f't IN TXT ( "{right[:255].decode()}" "{right[255:].decode()}" )\n'
    text = "".join(f"{name}.static.example dkim(s=a,{KEY})\n" for name in "wxy")
    with bind.serving(tmp_path, bind.SOA + zone) as server:
        status, said = checked(keys, text, "--dns", f"--server={server.server}")
    what = "a wildcard record answers; the name itself has none"
    assert (status, findings(said)) == (
        78,
        [
            f"error: a._domainkey.w.static.example: {what}: 'v=spf1 -all', according to {server.server}",
            f"error: a._domainkey.x.static.example: {what}: 'v=DKIM1; p=', according to {server.server}",
        ],
    )


class Silent:
    """A name server that takes questions and gives no answer, from entry to exit."""

    def __enter__(self) -> Silent:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_silent_server_is_asked_no_more(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, the silence of a server costs three times the time of a question."""
    monkeypatch.setattr(lookup, "TIME_OUT", 0.2)
    begin = time.monotonic()
    with Silent() as server:
        asked = lookup.NameServers([Server("127.0.0.1", server.port)])
        found = [
            finding.what.replace(f"127.0.0.1#{server.port}", "SERVER")
            for name in "abcde"
            for finding in asked.findings(name, [compare.Need("v=DKIM1; k=rsa; p=AA==")])
        ]
    assert found == [
        *(f"{name}: no answer within 0.2 s, according to SERVER" for name in "abc"),
        *(f"{name}: not queried, after 3 queries without an answer, according to SERVER" for name in "de"),
    ]
    assert 0.6 <= time.monotonic() - begin < 5


def test_a_server_that_fails(keys: Keys, nameserver: NameServer) -> None:
    nameserver.broken.add(OWNER)
    assert in_dns(keys, nameserver)[1] == [f"error: {OWNER}: the server failed (SERVFAIL)"]


@pytest.mark.parametrize("fault", NO_EDNS.values(), ids=NO_EDNS)
def test_a_server_without_edns(
    keys: Keys, nameserver: NameServer, monkeypatch: pytest.MonkeyPatch, fault: Callable[[bytes, str], bytes]
) -> None:
    monkeypatch.setattr(lookup, "TIME_OUT", 0.4)
    nameserver.edns_fault = fault
    assert in_dns(keys, nameserver) == (0, ["SENDERS and 1 signature is good"])
    assert nameserver.asked[:2] == [("udp", OWNER)] * 2
    nameserver.records[OWNER] = [b"v=DKIM1; p="]
    assert in_dns(keys, nameserver)[1] == [f"error: {OWNER}: the key is revoked: p= is empty"]


def test_a_server_that_is_silent(keys: Keys) -> None:
    status, said = checked(keys, GOOD, "--dns", "--server=127.0.0.1#9")
    assert status == 78
    assert findings(said)[0].startswith(f"error: {OWNER}: no answer")


def test_a_name_that_is_too_long_for_dns(keys: Keys, nameserver: NameServer) -> None:
    domain = ".".join(["a" * 60] * 4)
    found = in_dns(keys, nameserver, f"{domain} dkim(s=rsa2048,{KEY})\n{GOOD}")[1]
    owner = f"rsa2048._domainkey.{domain}"
    assert found == [f"error: SENDERS, line 1: {owner} is too long for DNS"]


def test_an_invalid_server(keys: Keys) -> None:
    done = verb(f"--sender_map={keys.senders(GOOD, 'checked')}", "--dns", "--server=ns.example.com")
    assert (done.status, done.stderr.splitlines()[-1]) == (
        64,
        "dkimpipe check: argument --server: 'ns.example.com' is not a valid server address:"
        " such as 192.0.2.1 or 192.0.2.1#5353",
    )


def test_a_key_of_4096_bits_comes_by_tcp(keys: Keys, nameserver: NameServer) -> None:
    owner = "rsa4096._domainkey.example.com"
    nameserver.records[owner] = list(keys.records[owner])
    text = "example.com dkim(s=rsa4096,key=KEYS/rsa4096.pem)\n"
    assert checked(keys, text, "--dns", f"--server=127.0.0.1#{nameserver.port}")[0] == 0


# Without --server: the system's resolver, and every name server of the zone.

ZONE = """\
$TTL 60
@ IN SOA ns1 h 1 3600 600 86400 60
@ IN NS ns1
@ IN NS ns2
ns1 IN A 127.0.0.1
ns2 IN A 127.0.0.2
"""
NAMED = """
options {{
    directory "{0}"; listen-on {{ {1}; }}; listen-on-v6 {{ none; }}; pid-file none; lock-file none;
    recursion no; session-keyfile "{0}/session.{1}"; dnssec-validation no; empty-zones-enable no; notify no;
}};
controls {{ }};
zone "example.com" {{ type primary; file "zone.{1}"; }};
"""
ALIAS = "alias._domainkey IN CNAME record.example.org.\n"
ANOTHER_ZONE = 'zone "example.org" { type primary; file "another"; };\n'


@bind.needs_bind
@pytest.mark.skipif(bool(throwaway.why_not()), reason="no copy of this machine")
def test_every_name_server_of_the_zone_is_asked(keys: Keys, tmp_path: Path) -> None:
    """The first one has the record, the second one does not have it yet; an alias leads out of the zone.

    The first one is the resolver as well, and the only one that knows that other zone.
    """
    items = f"dkim(s=rsa2048,{KEY}), dkim(s=alias,{KEY})"
    path = keys.senders(f"example.com {items}\nexample.net dkim(s=a,{KEY})\n", "checked")
    value = formats.quoted(keys.records[OWNER][0].decode())
    files = {
        "zone.127.0.0.1": f"{ZONE}{ALIAS}rsa2048._domainkey IN TXT ( {value} )\n",
        "127.0.0.1.conf": NAMED.format("/srv", "127.0.0.1") + ANOTHER_ZONE,
        "another": f"{ZONE}record IN TXT ( {value} )\n",
        "zone.127.0.0.2": f"{ZONE}{ALIAS}",
        "127.0.0.2.conf": NAMED.format("/srv", "127.0.0.2"),
    }
    command = [sys.executable, str(MAIN), "check", "-c", "/nonexistent", "--user", "root"]
    with Machine(network=True) as machine:
        for name, text in files.items():
            (machine.root / "srv" / name).write_text(text)
        (machine.root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        machine.shell("ip address add 127.0.0.2/32 dev lo")
        machine.shell("named -c /srv/127.0.0.1.conf; named -c /srv/127.0.0.2.conf")
        done = machine.run(*command, f"--sender_map={path}", "--dns")
    assert done.stderr == ""
    assert [line.partition(": All nameservers")[0] for line in findings(done.stdout)] == [
        f"error: {OWNER}: there is no such name (NXDOMAIN), according to ns2.example.com (127.0.0.2)",
        "error: cannot find the name servers of a._domainkey.example.net",
        "warning: _dmarc.example.net: the name servers of _dmarc.example.net fail",
    ]


# Where a conf file, a map, a key, a mode or a record is wrong, and what is said of it.
MESSAGES = [
    *(line for _, lines in [*FAULTS.values(), *CONF_FAULTS.values()] for line in lines),
    *(f"error: SENDERS, line 1: key file {fault}" for _, fault, _ in KEY_FAULTS.values()),
    *(expected for _, expected in DNS_FAULTS.values()),
    *(line for _, _, lines in SHARED.values() for line in lines),
    *(what for _, _, what in ALIASES.values()),
]


def test_each_fault_has_words_of_its_own(report: Report) -> None:
    """Files, lines, names and values apart."""
    kinds = {re.sub(r"'[^']*'|\b[a-z]=\S*|[0-9]+", "_", line) for line in MESSAGES}
    in_dns = [line for line in MESSAGES if "{" in line or line in [what for _, _, what in ALIASES.values()]]
    report(
        f"{len(set(MESSAGES))} messages of seeded faults, {len(kinds)} kinds; {len(set(in_dns))} about DNS"
    )
    assert len(set(MESSAGES)) >= len(kinds) >= 40


def test_no_map_at_all(tmp_path: Path) -> None:
    done = verb(f"--sender_map={tmp_path}/none")
    assert done.status == 78
    assert done.stdout.decode().startswith(
        f"dkimpipe: error: map {tmp_path}/none: No such file or directory\n"
    )


def raw(octets: bytes) -> bytes:
    return base64.b64encode(octets)


# The public half as the key file, and the record that has it, at any place and in any form.
SWAPPED: dict[str, Callable[[bytes], list[bytes]]] = {
    "as it should be": lambda p: [b"v=DKIM1; k=ed25519; p=" + p],
    "no k=": lambda p: [b"v=DKIM1; p=" + p],
    "split": lambda p: [b"v=DKIM1; k=ed25519; p=" + p[:20] + b'" "' + p[20:]],
    "no padding": lambda p: [b"v=DKIM1; k=ed25519; p=" + p.rstrip(b"=")],
    "no semicolons": lambda p: [b"v=DKIM1 k=ed25519 p=" + p],
    "base64url": lambda p: [b"k=ed25519; p=" + p.translate(bytes.maketrans(b"+/", b"-_"))],
    "hexadecimal": lambda p: [b"k=ed25519; p=" + base64.b64decode(p).hex().encode()],
    "SubjectPublicKeyInfo": lambda p: [
        b"k=ed25519; p=" + raw(bytes.fromhex("302a300506032b6570032100") + base64.b64decode(p))
    ],
    "one of two records": lambda p: [b"v=spf1 -all", b"v=DKIM1; k=ed25519; p=" + p],
}


@pytest.mark.parametrize("records", SWAPPED.values(), ids=SWAPPED)
def test_the_public_half_as_the_key_file(
    keys: Keys, nameserver: NameServer, tmp_path: Path, records: Callable[[bytes], list[bytes]]
) -> None:
    """Any 32 octets are an Ed25519 key: the record of this one would let anyone sign."""
    public = keys.records["ed25519._domainkey.example.com"][0].rpartition(b"p=")[2]
    nameserver.records = {OWNER: records(public)}
    path = write_key(tmp_path / "swapped", public + b"\n")
    status, said = checked(
        keys, f"example.com dkim(s=rsa2048,key={path})\n", "--dns", f"--server=127.0.0.1#{nameserver.port}"
    )
    assert status == 78
    first, hint = said.splitlines()
    assert first.startswith(f"dkimpipe: error: {OWNER}: the key file contains the public half: p= is the key")
    assert hint == (
        "hint: # sign with the private half of the published record instead, or with another key: "
        "dkimpipe genkey example.com"
    )


def test_the_public_half_of_another_record_as_the_key_file(
    keys: Keys, nameserver: NameServer, tmp_path: Path
) -> None:
    other = "ed25519._domainkey.example.com"
    nameserver.records = {other: keys.records[other]}
    path = write_key(tmp_path / "swapped", keys.records[other][0].rpartition(b"p=")[2])
    text = f"example.com dkim(s=rsa2048,key={path}), dkim(s=ed25519,key=KEYS/ed25519.pem)\n"
    status, (found,) = in_dns(keys, nameserver, text)
    assert status == 78
    assert found.startswith(
        f"error: {OWNER}: the key file contains the public half: p= is the key that signs"
    )


def seed_and_public(number: int) -> tuple[bytes, bytes]:
    """Return both halves of a key; of the first twelve numbers, no private half can be a public one."""
    seed = hashlib.sha256(b"%d" % number).digest()
    return seed, public_of(seed)


def public_of(seed: bytes) -> bytes:
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def pkcs8(seed: bytes) -> bytes:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


# The private half in the record, in any form, and in the key file.
PUBLISHED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "PKCS#8 in the file": (raw, pkcs8),
    "base64 in both": (raw, raw),
    "hexadecimal in DNS": (lambda seed: seed.hex().encode(), pkcs8),
    "base64url in DNS": (lambda seed: base64.urlsafe_b64encode(seed).rstrip(b"="), raw),
    "PKCS#8 in both": (
        lambda seed: raw(bytes.fromhex("302e020100300506032b657004220420") + seed),
        pkcs8,
    ),
    "both halves in DNS": (
        lambda seed: raw(seed + public_of(seed)),
        pkcs8,
    ),
}


@pytest.mark.parametrize(("in_record", "in_file"), PUBLISHED.values(), ids=PUBLISHED)
@pytest.mark.parametrize("number", range(3))
def test_the_private_half_in_the_record(
    keys: Keys,
    nameserver: NameServer,
    tmp_path: Path,
    number: int,
    in_record: Callable[[bytes], bytes],
    in_file: Callable[[bytes], bytes],
) -> None:
    seed, _ = seed_and_public(number)
    nameserver.records = {OWNER: [b"v=DKIM1; k=ed25519; p=" + in_record(seed)]}
    path = write_key(tmp_path / "key", in_file(seed))
    entry = f"example.com dkim(s=rsa2048,key={path})\n"
    server = f"127.0.0.1#{nameserver.port}"
    assert checked(keys, entry, "--dns", f"--server={server}") == (
        78,
        f"dkimpipe: error: {OWNER}: {PRIVATE}, according to {server}\n"
        "hint: # create another key: dkimpipe genkey example.com\n"
        "hint: # sign with it, and delete this record\n",
    )


@pytest.mark.parametrize("value", ["right", "wrong"])
def test_the_private_half_in_the_record_of_another_name(
    keys: Keys, nameserver: NameServer, tmp_path: Path, value: str
) -> None:
    """The other record is not accused, but its key must be replaced too."""
    seed, public = seed_and_public(1)
    other = "rsa2048._domainkey.example.org"
    nameserver.records = {
        OWNER: [b"v=DKIM1; k=ed25519; p=" + raw(seed)],
        other: [b"v=DKIM1; k=ed25519; p=" + (raw(public) if value == "right" else b"")],
    }
    path = write_key(tmp_path / "key", pkcs8(seed))
    text = f"example.com dkim(s=rsa2048,key={path})\nexample.org dkim(s=rsa2048,key={path})\n"
    server = f"127.0.0.1#{nameserver.port}"
    assert checked(keys, text, "--dns", f"--server={server}") == (
        78,
        f"dkimpipe: error: {OWNER}: {PRIVATE}, according to {server}\n"
        "hint: # create another key: dkimpipe genkey example.com\n"
        "hint: # sign with it, and delete this record\n"
        f"dkimpipe: error: {other}: its private key is p= of {OWNER}, so anyone can sign with it: "
        "stop signing with it\n"
        "hint: # create another key: dkimpipe genkey example.org\n"
        "hint: # sign with it, and delete this record\n",
    )


def test_which_half_32_octets_are() -> None:
    halves = [seed_and_public(number) for number in range(320)]
    assert all(edwards25519.is_public_half(public) for _, public in halves)
    assert not any(edwards25519.is_public_half(seed) for seed, _ in halves[:12])
    assert 10 <= sum(edwards25519.is_public_half(seed) for seed, _ in halves) <= 32  # 20 expected
    small_orders = (
        b"\x01" + bytes(31),
        bytes(32),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    )
    assert not any(map(edwards25519.is_public_half, (*small_orders, b"\xff" * 32)))


@bind.needs_bind
def test_the_public_half_behind_a_wildcard(keys: Keys, tmp_path: Path) -> None:
    """No hint to publish its record here, either."""
    public = keys.records["ed25519._domainkey.example.com"][0].rpartition(b"p=")[2]
    path = write_key(tmp_path / "swapped", public)
    zone = f'*.w IN TXT "v=DKIM1; k=ed25519; p={public.decode()}"\n'
    with bind.serving(tmp_path, bind.SOA + zone) as server:
        text = f"w.static.example dkim(s=a,key={path})\n"
        status, said = checked(keys, text, "--dns", f"--server={server.server}")
    assert status == 78
    assert "the key file contains the public half" in said
    assert "publish:" not in said


def test_a_private_key_in_dns_needs_another_key(keys: Keys, nameserver: NameServer, tmp_path: Path) -> None:
    """The record of its public half would not help: the hint, run by sh(1), and what is then to do."""
    pem = keys.path("rsa2048").read_bytes()
    nameserver.records[OWNER] = [b"v=DKIM1; k=rsa; p=" + b"".join(pem.split(b"\n")[1:-2])]
    server = f"--server=127.0.0.1#{nameserver.port}"
    status, said = checked(keys, GOOD, "--dns", server)
    assert status == 78
    first, *hints = said.splitlines()
    assert first.startswith(
        f"dkimpipe: error: {OWNER}: p= is a private key, which is public now: stop signing"
    )
    assert hints == [
        "hint: # create another key: dkimpipe genkey example.com",
        "hint: # sign with it, and delete this record",
    ]
    genkey = f"{sys.executable} {MAIN} genkey --directory={tmp_path} --group=root"
    command = hints[0].partition("key: ")[2].replace("dkimpipe genkey", genkey)
    made = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=True).stdout
    line, record = made.splitlines()
    name, _, strings = record.partition(". IN TXT ")
    nameserver.records = {name: ["".join(re.findall('"([^"]*)"', strings)).encode()]}
    assert checked(keys, f"{line}\n", "--dns", server) == (0, "dkimpipe: SENDERS and 1 signature is good\n")
