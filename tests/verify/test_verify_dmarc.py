"""DMARC by RFC 9989: its examples, and the queries that they take; policies; the result in the field."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import MAIN
from nameserver import NameServer
from policies import BROKEN, FROM, RECEIVED, REJECT, Records, Zone, dmarc, signature_result

from dkimpipe.config import read_command_line
from dkimpipe.errors import UnverifiedError
from dkimpipe.message import Message
from dkimpipe.verify import authres, policy
from dkimpipe.verify.dmarc import Identifiers, evaluate
from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.settings import VerifySettings

NONE = b"v=DMARC1; p=none"


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


class Evaluated(NamedTuple):
    """The result and policy of an author domain, and the domains whose DMARC records were queried, in order.

    A name that is queried itself, for its existence, has a dot at its end.
    """

    result: str
    policy: str
    asked: list[str]


def evaluated(
    server: NameServer,
    author: str,
    policies: dict[str, bytes],
    dkim: str = "",
    spf: str = "",
    hosts: str = "",
) -> Evaluated:
    """Evaluate DMARC; ``hosts`` are names that exist, with records of other types."""
    server.records = {f"_dmarc.{domain}": text.split(b"\n") for domain, text in policies.items()}
    server.records.update({host: [] for host in hosts.split()})
    server.asked.clear()
    identifiers = Identifiers(dkim.encode().split(), spf.encode().split())
    found = evaluate(author.encode(), identifiers, Resolver(Server(server.address, server.port)))
    asked = [name[7:] if name.startswith("_dmarc.") else f"{name}." for _, name in server.asked]
    return Evaluated(found.result, found.policy, asked)


def up(domain: str, *more: str) -> list[str]:
    """Return a domain and all above it."""
    labels = domain.split(".")
    return [".".join(labels[first:]) for first in range(len(labels))] + list(more)


class Example(NamedTuple):
    """An author domain, the policies, the aligned domain and the result, with the queries that it takes."""

    author: str
    policies: dict[str, bytes]
    dkim: str
    spf: str
    expected: Evaluated


SIMPLE = {"example.com": REJECT, "signing.example.com": NONE}
DEEP = "a.b.c.d.e.f.g.h.i.j.k.example.com"
DEEP_WALK = [DEEP, *up("g.h.i.j.k.example.com")]
BANK = {"bank.example": REJECT + b"; psd=y", "giant.bank.example": b"v=DMARC1; p=quarantine"}

# The section of RFC 9989 (of its text, where that has no example of its own), and the example.
EXAMPLES = {
    "4.10, eight queries": Example(
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        {},
        "",
        "",
        Evaluated("none", "", ["a.b.c.d.e.f.g.h.i.j.mail.example.com", *up("g.h.i.j.mail.example.com")]),
    ),
    "4.10.2, the fewest labels": Example(
        "a.mail.example.com",
        {"mail.example.com": NONE, "example.com": REJECT},
        "b.example.com",
        "",
        Evaluated("pass", "reject", [*up("a.mail.example.com"), "b.example.com"]),
    ),
    "4.10.2, psd=n": Example(
        "a.mail.example.com",
        {"mail.example.com": REJECT + b"; psd=n", "example.com": NONE},
        "b.example.com",
        "",
        Evaluated("fail", "reject", ["a.mail.example.com", "mail.example.com"]),
    ),
    "4.10.2, psd=y at the top": Example(
        "a.mail.example.com",
        {"com": REJECT + b"; psd=y"},
        "b.example.com",
        "",
        Evaluated("pass", "reject", [*up("a.mail.example.com"), "b.example.com"]),
    ),
    "4.10.2, psd=y above": Example(
        "mail.example.com",
        {"example.com": REJECT + b"; psd=y", "com": NONE},
        "news.example.com",
        "",
        Evaluated("fail", "reject", ["mail.example.com", "example.com"]),
    ),
    "4.4, table 1, relaxed": Example(
        "news.example.com",
        {"example.com": REJECT},
        "foo.example.com",
        "",
        Evaluated("pass", "reject", [*up("news.example.com"), "foo.example.com"]),
    ),
    "4.4, table 1, strict": Example(
        "news.example.com",
        {"example.com": REJECT + b"; adkim=s"},
        "news.example.com",
        "",
        Evaluated("pass", "reject", up("news.example.com")),
    ),
    "4.4, table 1, none": Example(
        "news.example.com",
        {"example.com": REJECT},
        "foo.example.net",
        "",
        Evaluated("fail", "reject", up("news.example.com")),
    ),
    "4.7, aspf=s": Example(
        "mail.example.com",
        {"example.com": REJECT + b"; aspf=s"},
        "",
        "news.example.com",
        Evaluated("fail", "reject", up("mail.example.com")),
    ),
    "4.7, adkim=s is not for SPF": Example(
        "mail.example.com",
        {"example.com": REJECT + b"; adkim=s"},
        "",
        "news.example.com",
        Evaluated("pass", "reject", [*up("mail.example.com"), "news.example.com"]),
    ),
    "11.8, an organization below another": Example(
        "evil.example.com",
        {"mail.example.com": REJECT + b"; psd=n", "example.com": REJECT},
        "mail.example.com",
        "",
        Evaluated("fail", "reject", [*up("evil.example.com"), "mail.example.com"]),
    ),
    "B.1.1, example 1": Example(
        "example.com",
        {"example.com": REJECT},
        "",
        "example.com",
        Evaluated("pass", "reject", ["example.com"]),
    ),
    "B.1.1, example 2": Example(
        "example.com",
        {"example.com": REJECT},
        "",
        "child.example.com",
        Evaluated("pass", "reject", ["example.com", "com", "child.example.com"]),
    ),
    "B.1.1, example 3": Example(
        "child.example.com",
        {"example.com": REJECT},
        "",
        "example.net",
        Evaluated("fail", "reject", up("child.example.com")),
    ),
    "B.1.2, example 1": Example(
        "example.com",
        {"example.com": REJECT},
        "example.com",
        "",
        Evaluated("pass", "reject", ["example.com"]),
    ),
    "B.1.2, example 2": Example(
        "child.example.com",
        {"example.com": REJECT},
        "example.com",
        "",
        Evaluated("pass", "reject", up("child.example.com")),
    ),
    "B.1.2, example 3": Example(
        "child.example.com",
        {"example.com": REJECT},
        "example.net",
        "",
        Evaluated("fail", "reject", up("child.example.com")),
    ),
    "B.3.1": Example(
        "example.com",
        {"example.com": REJECT + b"; aspf=r;\trua=mailto:dmarc-feedback@example.com"},
        "example.com",
        "mail.example.com",
        Evaluated("pass", "reject", ["example.com"]),
    ),
    "B.4.1, both": Example(
        "example.com",
        SIMPLE,
        "signing.example.com",
        "example.com",
        Evaluated("pass", "reject", ["example.com"]),  # a walk is needed only if no domain is the same
    ),
    "B.4.1, DKIM": Example(
        "example.com",
        SIMPLE,
        "signing.example.com",
        "",
        Evaluated("pass", "reject", ["example.com", "com", "signing.example.com"]),
    ),
    "B.4.1, neither": Example("example.com", SIMPLE, "", "", Evaluated("fail", "reject", ["example.com"])),
    "B.4.2, SPF": Example(DEEP, SIMPLE, "", "example.com", Evaluated("pass", "reject", DEEP_WALK)),
    "B.4.2, DKIM": Example(
        DEEP,
        SIMPLE,
        "signing.example.com",
        "",
        Evaluated("pass", "reject", [*DEEP_WALK, "signing.example.com"]),
    ),
    "B.4.2, neither": Example(DEEP, SIMPLE, "", "", Evaluated("fail", "reject", DEEP_WALK)),
    "B.4.3, SPF": Example(
        "giant.bank.example",
        BANK,
        "mail.mega.bank.example",
        "mail.giant.bank.example",
        Evaluated("pass", "quarantine", ["giant.bank.example", "bank.example", "mail.giant.bank.example"]),
    ),
    "B.4.3, DKIM": Example(
        "giant.bank.example",
        BANK,
        "mail.mega.bank.example",
        "",
        Evaluated("fail", "quarantine", ["giant.bank.example", "bank.example"]),
    ),
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_of_the_rfc(server: NameServer, example: Example) -> None:
    author, policies, dkim, spf, expected = example
    assert evaluated(server, author, policies, dkim, spf, hosts=author) == expected


# Author domains by their number of labels, and the domains that are queried.
LONG = [".".join("abcdefghijklmnopqrstuvwxyz"[:count]) for count in range(1, 14)]


@pytest.mark.parametrize("author", LONG, ids=map(str, range(1, 14)))
def test_a_walk_takes_at_most_eight_queries(server: NameServer, author: str) -> None:
    names = up(author)
    expected = names if len(names) <= 8 else [author, *names[-7:]]
    assert evaluated(server, author, {}, author) == ("none", "", expected)


def test_a_walk_for_each_identifier_within_the_organization(server: NameServer) -> None:
    """Names above it are not queried again, and no others at all."""
    dkim = "x.a.example.com y.a.example.com evil.example.net"
    policies = {"mail.example.com": REJECT, "a.example.com": NONE + b"; psd=n", "example.com": NONE}
    assert evaluated(server, "mail.example.com", policies, dkim) == (
        "fail",
        "reject",
        [*up("mail.example.com"), "x.a.example.com", "a.example.com", "y.a.example.com"],
    )


# The steps of section 4.10, one by one, against our walk in random zones.


def tree_walk(zone: dict[str, dict[str, str]], domain: str) -> dict[str, dict[str, str]]:
    """Return the records that a DNS tree walk finds, from the longest name, by steps 1 to 7."""
    labels, found = domain.split("."), {}
    while labels:
        name = ".".join(labels)
        if name in zone:
            found[name] = zone[name]
            if zone[name]["psd"] in "ny":  # steps 2 and 6
                break
        at_first = name == domain and len(labels) >= 8
        labels = labels[-7:] if at_first else labels[1:]  # steps 4 and 7
    return found


def organizational_domain(zone: dict[str, dict[str, str]], domain: str) -> str:
    """Return the organizational domain, by rules 1 to 3 of section 4.10.2."""
    found = tree_walk(zone, domain)
    for name, record in found.items():
        if record["psd"] == "n":
            return name
        if record["psd"] == "y" and name != domain:
            return domain[: -len(name) - 1].rpartition(".")[2] + "." + name
    return min(found, key=lambda name: name.count("."), default=domain)


def test_random_zones_as_by_the_steps_of_the_rfc() -> None:
    chosen = random.Random(9989)

    def near(domain: str) -> str:
        labels = domain.split(".")
        below = chosen.choices("abc", k=chosen.choice((0, 0, 1, 2)))
        return ".".join(below + labels[chosen.randrange(len(labels)) :])

    counts = {"pass": 0, "fail": 0, "none": 0}
    for _ in range(4000):
        base = ".".join(chosen.choices("abc", k=chosen.choice((1, 2, 3, 3, 4, 9, 12))))
        names = {near(base) for _ in range(chosen.randrange(5))}
        zone = {name: {"psd": chosen.choice("uuuuyn"), "adkim": chosen.choice("rrrs")} for name in names}
        author, signer = near(base), near(base)
        texts = [f"v=DMARC1; p=none; psd={tags['psd']}; adkim={tags['adkim']}" for tags in zone.values()]
        records = {f"_dmarc.{name}": [text.encode()] for name, text in zip(zone, texts)}
        found = evaluate(author.encode(), Identifiers([signer.encode()]), Zone(records)).result
        organization, walk = organizational_domain(zone, author), tree_walk(zone, author)
        record = walk.get(author) or walk.get(organization) or next(reversed(walk.values()), None)
        relaxed = organizational_domain(zone, signer) == organization
        aligned = author == signer or (record and record["adkim"] == "r" and relaxed)
        expected = "none" if not record else "pass" if aligned else "fail"
        assert found == expected, (author, signer, zone)
        counts[expected] += 1
    assert min(counts.values()) > 400, counts


# A record of example.com, and the policy for mail from: example.com, mail.example.com, none.example.com.
POLICIES = {
    "p": (b"p=reject", ("reject", "reject", "reject")),
    "sp": (b"p=none; sp=reject", ("none", "reject", "reject")),
    "np": (b"p=none; np=reject", ("none", "none", "reject")),
    "sp and np": (b"p=none; sp=quarantine; np=reject", ("none", "quarantine", "reject")),
    "np is laxer": (b"p=reject; np=none", ("reject", "reject", "none")),
    "in capitals": (b"P=Reject; Np=NONE", ("reject", "reject", "none")),
    "t=y": (b"p=reject; sp=quarantine; np=none; t=y", ("quarantine", "none", "none")),
    "t=Y": (b"t=Y; p=reject", ("quarantine", "quarantine", "quarantine")),
    "t=n": (b"p=reject; t=n", ("reject", "reject", "reject")),
    "invalid t, psd, adkim": (b"p=reject; t=x; psd=x; adkim=x", ("reject", "reject", "reject")),
    "historic tags": (b"p=reject; pct=0; rf=afrf; ri=3600", ("reject", "reject", "reject")),
    "unknown tags": (b"p=reject; x=y; new=p=none", ("reject", "reject", "reject")),
    "syntax errors": (b"junk; p=reject;; =; p2=none; \xff", ("reject", "reject", "reject")),
    "other tags twice": (b"p=reject; rua=mailto:a@a.example; rua=mailto:b@a.example", ("reject",) * 3),
    "white space": (b" p\t= reject\t; np =none;", ("reject", "reject", "none")),
    "no p, but reports": (b"rua=mailto:a@example.com; sp=reject", ("none", "none", "none")),
    "invalid p, but reports": (b"p=discard; rua=x,mailto:a@example.com", ("none", "none", "none")),
    "invalid sp, but reports": (b"p=reject; sp=x; rua=https://example.com/", ("none", "none", "none")),
    "p twice, but reports": (b"p=reject; p=reject; rua=mailto:a@example.com", ("none", "none", "none")),
    "psd=y": (b"p=quarantine; np=reject; psd=y", ("quarantine", "quarantine", "reject")),
}


@pytest.mark.parametrize(("tags", "expected"), POLICIES.values(), ids=POLICIES)
def test_the_policy_that_applies(server: NameServer, tags: bytes, expected: tuple[str, ...]) -> None:
    policies = {"example.com": b"v=DMARC1;" + tags}
    authors = ("example.com", "mail.example.com", "none.example.com")
    found = [evaluated(server, author, policies, hosts="mail.example.com") for author in authors]
    assert [(each.result, each.policy) for each in found] == [("fail", policy) for policy in expected]


def test_existence_is_looked_up_only_if_the_policy_depends_on_it(server: NameServer) -> None:
    walk = up("none.example.com")
    for tags, asked in ((b"; np=none", [*walk, "none.example.com."]), (b"; np=reject", walk), (b"", walk)):
        assert evaluated(server, "none.example.com", {"example.com": REJECT + tags}).asked == asked


# Records of example.com to which no DMARC processing applies, and the result.
NO_POLICY = {
    "none": (b"", "none"),
    "other records": (b"v=spf1 -all\nhello", "none"),
    "another version": (b"v=DMARC2; p=reject", "none"),
    "another version in name": (b"v=DMARC11; p=reject", "none"),
    "version in lower case": (b"v=dmarc1; p=reject", "none"),
    "p twice, once in capitals": (b"v=DMARC1; p=reject; P=none", "none"),
    "the version is not first": (b"p=reject; v=DMARC1", "none"),
    "no semicolon": (b"v=DMARC1 p=reject", "none"),
    "no p": (b"v=DMARC1", "none"),
    "no p, but sp": (b"v=DMARC1; sp=reject", "none"),
    "no p, and no valid address": (b"v=DMARC1; rua=a@example.com", "none"),
    "p twice": (b"v=DMARC1; p=reject; p=none", "none"),
    "p without a value": (b"v=DMARC1; p=", "permerror"),
    "invalid p": (b"v=DMARC1; p=discard", "permerror"),
    "invalid sp": (b"v=DMARC1; p=reject; sp=discard", "permerror"),
    "invalid np": (b"v=DMARC1; p=reject; np=", "permerror"),
    "not ASCII": (b"v=DMARC1; p=r\xc3\xa9ject", "permerror"),
    "two records": (REJECT + b"\n" + NONE, "permerror"),
}


@pytest.mark.parametrize(("text", "expected"), NO_POLICY.values(), ids=NO_POLICY)
def test_records_that_do_not_apply(server: NameServer, text: bytes, expected: str) -> None:
    assert evaluated(server, "example.com", {"example.com": text}, "example.com")[:2] == (expected, "")


def test_several_records_are_as_none(server: NameServer) -> None:
    policies = {"mail.example.com": NONE + b"\n" + NONE + b"; t=n", "example.com": REJECT}
    assert evaluated(server, "mail.example.com", policies)[:2] == ("fail", "reject")


# Domains whose servers fail, and the result for mail.example.com, whose signature is of news.example.com.
FAILURES = {
    "of the author domain": ("_dmarc.mail.example.com", "temperror"),
    "of the organization": ("_dmarc.example.com", "temperror"),
    "of the registry": ("_dmarc.com", "temperror"),
    "of the signer": ("_dmarc.news.example.com", "temperror"),
    "of another": ("_dmarc.example.net", "pass"),
}


@pytest.mark.parametrize(("name", "expected"), FAILURES.values(), ids=FAILURES)
def test_name_servers_that_fail(server: NameServer, name: str, expected: str) -> None:
    server.broken = {name}
    try:
        found = evaluated(server, "mail.example.com", {"example.com": REJECT}, "news.example.com")
    finally:
        server.broken = set()
    assert found.result == expected


def test_no_rejection_if_others_may_see_an_aligned_signature(server: NameServer) -> None:
    """It fails nevertheless."""
    server.records = {"_dmarc.mail.example.com": [REJECT]}
    resolver = Resolver(Server(server.address, server.port))
    for identifiers, rejects in (
        (Identifiers(), True),
        (Identifiers([b"news.example.com"], [b"example.net"], [b"example.org"], [b"com.example"]), True),
        (Identifiers([b"example.com"]), False),
        (Identifiers(spf=[b"example.com"]), False),
        (Identifiers(uncertain=[b"example.com"]), False),
        (Identifiers(vouching=[b"example.com"]), False),
        (Identifiers(vouching=[b"mail.example.com"]), False),
        (Identifiers(vouching=[b"a.mail.example.com"]), False),
    ):
        found = evaluate(b"mail.example.com", identifiers, resolver)
        assert (found.result, found.policy, found.rejects) == ("fail", "reject", rejects)


CAPITALS = {  # by whether other verifiers see the policy, too
    "none": (b"v=DMARC1; p=REJECT; adkim=S", True),
    "V": (b"V=DMARC1; p=reject", False),
    "P": (b"v=DMARC1; P=reject", False),
    "another tag": (b"v=DMARC1; p=reject; ADKIM=s", False),
}


@pytest.mark.parametrize(("text", "rejects"), CAPITALS.values(), ids=CAPITALS)
@pytest.mark.parametrize("author", [b"example.com", b"mail.example.com"])
def test_no_rejection_by_tag_names_that_others_do_not_see(
    server: NameServer, author: bytes, text: bytes, rejects: bool
) -> None:
    server.records = {"_dmarc.example.com": [text]}
    found = evaluate(author, Identifiers(), Resolver(Server(server.address, server.port)))
    assert (found.result, found.policy, found.rejects) == ("fail", "reject", rejects)


def test_what_fails_does_not_matter_if_the_result_is_known(server: NameServer) -> None:
    server.broken = {"_dmarc.com", "_dmarc.b.example.com"}
    try:
        policies = {"example.com": REJECT}
        assert evaluated(server, "example.com", policies, "example.com").result == "pass"
        assert evaluated(server, "example.com", policies, "example.net").result == "fail"
        assert (
            evaluated(server, "example.com", {"example.com": REJECT + b"; adkim=s"}, "a.example.com")[0]
            == "fail"
        )
        server.broken = {"_dmarc.b.example.com"}
        assert evaluated(server, "example.com", policies, "b.example.com a.example.com").result == "pass"
    finally:
        server.broken = set()


def result(records: Records, header: bytes, *signatures: str, options: str = "") -> str:
    """Return the result as it is written into the field."""
    settings = VerifySettings()
    read_command_line(["--hostname=mx.example.net", "--dmarc", *options.split()], settings)
    message = Message(io.BytesIO(header + b"\nHello\n").read)
    found = policy.apply(message, [signature_result(each) for each in signatures], Zone(records), settings)
    return " ".join(authres.write("", found).decode().partition(";")[2].split())


SPF = b"Received-SPF: pass envelope-from=a@example.com\n" + RECEIVED
# Records, header, signatures, and the result.
RESULTS: dict[str, tuple[Records, bytes, tuple[str, ...], str]] = {
    "pass": (
        dmarc(REJECT),
        FROM,
        ("dkim pass mail.example.com",),
        "dmarc=pass header.from=mail.example.com policy.dmarc=reject",
    ),
    "pass by SPF": (
        dmarc(NONE, at="example.com"),
        SPF + FROM,
        (),
        "dmarc=pass header.from=mail.example.com policy.dmarc=none",
    ),
    "fail": (dmarc(REJECT), FROM, (), "dmarc=fail header.from=mail.example.com policy.dmarc=reject"),
    "fail, in test mode": (
        dmarc(REJECT + b"; t=y"),
        FROM,
        (),
        "dmarc=fail header.from=mail.example.com policy.dmarc=quarantine",
    ),
    "fail, DomainKeys alone": (
        dmarc(REJECT),
        FROM,
        ("domainkeys pass mail.example.com",),
        "dmarc=fail header.from=mail.example.com policy.dmarc=reject",
    ),
    "fail, signed by the parent that has no record": (
        dmarc(REJECT),
        FROM,
        ("dkim pass example.com",),
        "dmarc=fail header.from=mail.example.com policy.dmarc=reject",
    ),
    "none": ({}, FROM, ("dkim pass mail.example.com",), "dmarc=none header.from=mail.example.com"),
    "temperror": (
        {"_dmarc.mail.example.com": BROKEN},
        FROM,
        (),
        'dmarc=temperror reason="no answer for _dmarc.mail.example.com" header.from=mail.example.com',
    ),
    "temperror, of a key": (
        dmarc(REJECT),
        FROM,
        ("dkim temperror mail.example.com",),
        'dmarc=temperror reason="no answer for the key of an aligned signature" header.from=mail.example.com',
    ),
    "permerror": (
        dmarc(b"v=DMARC1; p=discard"),
        FROM,
        (),
        'dmarc=permerror reason="p= is invalid at _dmarc.mail.example.com" header.from=mail.example.com',
    ),
    "permerror, several records": (
        dmarc(REJECT, NONE),
        FROM,
        (),
        'dmarc=permerror reason="several DMARC records at _dmarc.mail.example.com"'
        " header.from=mail.example.com",
    ),
    "no author domain": ({}, b"From: a\n", (), 'dmarc=permerror reason="no author domain"'),
    "no From": ({}, b"To: a@example.com\n", (), 'dmarc=permerror reason="no author domain"'),
    "U-labels": (
        dmarc(NONE, at="xn--bcher-kva.example"),
        "From: a@B\u00fccher.example\n".encode(),
        ("dkim pass xn--bcher-kva.example",),
        "dmarc=pass header.from=xn--bcher-kva.example policy.dmarc=none",
    ),
    "two authors, both pass": (
        {**dmarc(NONE, at="one.example"), **dmarc(REJECT, at="two.example")},
        b"From: a@one.example, b@two.example\n",
        ("dkim pass one.example", "dkim pass two.example"),
        "dmarc=pass header.from=two.example policy.dmarc=reject",
    ),
    "two authors, one without a policy": (
        dmarc(NONE, at="one.example"),
        b"From: a@one.example, b@two.example\n",
        ("dkim pass one.example",),
        "dmarc=none header.from=two.example",
    ),
    "two authors, the strictest policy of those that fail": (
        {**dmarc(NONE, at="one.example"), **dmarc(REJECT, at="two.example")},
        b"From: a@one.example, b@two.example\n",
        (),
        "dmarc=fail header.from=two.example policy.dmarc=reject",
    ),
    "two authors, one unreadable": (
        dmarc(REJECT, at="one.example"),
        b"From: a@one.example, a@two..example\n",
        ("dkim pass one.example",),
        'dmarc=permerror reason="From has an address without a valid domain"',
    ),
    "a soft hyphen in the author domain": (
        dmarc(REJECT, at="one.example"),
        "From: a@on\u00ade.example\n".encode(),
        (),
        "dmarc=fail header.from=one.example policy.dmarc=reject",
    ),
    "too many authors": (
        dmarc(REJECT, at="five.example"),
        b"From: a@one.example, a@two.example, a@three.example, a@four.example, a@five.example\n",
        ("dkim pass one.example",),
        'dmarc=permerror reason="From has 5 author domains, and DMARC is evaluated for at most 4"',
    ),
}


@pytest.mark.parametrize(("records", "header", "signatures", "expected"), RESULTS.values(), ids=RESULTS)
def test_the_result_in_the_field(
    records: Records, header: bytes, signatures: tuple[str, ...], expected: str
) -> None:
    assert result(records, header, *signatures) == expected


def test_no_result_unless_asked_for() -> None:
    assert result(dmarc(REJECT), FROM, options="--dmarc=no --reject_fail") == "none"


def test_a_result_that_needs_dns_defers_if_asked() -> None:
    with pytest.raises(UnverifiedError, match="no answer for _dmarc"):
        result({"_dmarc.mail.example.com": BROKEN}, FROM, options="--reject_error")


# The whole command.
FORGED = b"Authentication-Results: mx.example.net; dmarc=pass header.from=mail.example.com\n"


def verified(server: NameServer, header: bytes, *options: str) -> tuple[bytes, str]:
    """Return the output of ``dkimpipe verify`` for a message under p=reject, and its line in the log."""
    server.records = {"_dmarc.mail.example.com": [REJECT]}
    command = [sys.executable, "-IS", str(MAIN), "verify", "--syslog=no", "--hostname=mx.example.net"]
    command += [f"--dns_server=127.0.0.1#{server.port}", *options]
    done = subprocess.run(command, input=header + b"\nHello\n", capture_output=True, check=True)
    return done.stdout, done.stderr.decode()


def test_the_field_and_the_log(server: NameServer) -> None:
    output, log = verified(server, FROM, "--dmarc")
    assert output.startswith(
        b"Authentication-Results: mx.example.net;\n dkim=none;\n"
        b" dmarc=fail header.from=mail.example.com policy.dmarc=reject\nFrom: "
    )
    assert log.startswith("dkimpipe: verified: dkim=none; dmarc=fail from=mail.example.com policy=reject")


def test_results_in_our_name_are_removed(server: NameServer) -> None:
    """From the client always; our host's own, above its Received field, are kept if we do not evaluate."""
    for options, header, expected in (
        ((), RECEIVED + FORGED, b""),
        ((), FORGED + RECEIVED, b";\n dmarc=pass header.from=mail.example.com"),
        (("--dmarc",), RECEIVED + FORGED, b";\n dmarc=fail header.from=mail.example.com policy.dmarc=reject"),
        (("--dmarc",), FORGED + RECEIVED, b";\n dmarc=fail header.from=mail.example.com policy.dmarc=reject"),
    ):
        output, _ = verified(server, header + FROM, *options)
        ours = b"Authentication-Results: mx.example.net;\n dkim=none" + expected + b"\n"
        assert output == ours + RECEIVED + FROM + b"\nHello\n"
