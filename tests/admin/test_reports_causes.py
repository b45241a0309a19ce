"""What ``reports`` makes of records: the right cause, of our domains only, however many strangers report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import forked
import pytest
from conftest import Done
from reporting import DAY, Flow, report

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.reports.concerns import shown

TODAY = int(time.time()) // DAY * DAY
BEGIN = TODAY - DAY
OUR, OTHER = "192.0.2.1", "203.0.113.5"
Signatures = Sequence[tuple[str, str, str]]
SENDERS = "example.com dkim(s=s1,key=/none)\nshop.example dkim(d=mail.example.net,s=s1,key=/none)\n"


def flow(
    messages: int, dkim: Signatures, ip: str = OUR, domain: str = "example.com", is_spf_aligned: bool = False
) -> Flow:
    spf = (domain, "pass") if is_spf_aligned else ("bounces.test", "none")
    return Flow(ip, messages, domain, dkim, spf, is_spf_aligned)


def ours(result: str, selector: str = "s1", domain: str = "example.com") -> Signatures:
    return ((domain, selector, result),)


def run(*arguments: object) -> Done:
    return Done(*forked.run("reports", "--own", OUR, *map(str, arguments))[:3])


def day() -> str:
    return time.strftime("%A", time.gmtime(BEGIN))


def said(*arguments: object) -> list[str]:
    """Return what ``--cron`` prints, without hints; the day is DAY."""
    done = run("--cron", *arguments)
    lines = done.stdout.decode().replace(day(), "DAY").splitlines()
    is_error = any(line.startswith("dkimpipe: error") for line in lines)
    assert (done.status, done.stderr) == (78 if is_error else 0, "")
    return [line.removeprefix("dkimpipe: ") for line in lines if not line.startswith("hint: ")]


FAILED = "error: selector {} of {} failed at google.com: {} since DAY ({})"
UNSIGNED = "error: example.com: {} messages from 192.0.2.1 {} since DAY{}: this server"
SILENT = ", as reported by google.com, which does not say whether there was one"
FORGED = "warning: {}: 20 messages forged since DAY, from 1 address; 20 of them delivered ({})"
INVALID = "warning: example.com: 9 messages from 203.0.113.5 with an invalid signature since DAY; {}"
ALTERED = "warning: example.com: 9 messages altered by {}, a mailing list or forwarder, since DAY; {}"
BY = "reported by google.com"
UNPROVEN = (
    "warning: example.com: 50 messages with a signature of selector s1 that could not be verified (permerror)"
    " since DAY, from 203.0.113.5"
)
# Records, and what is said of them.
CAUSES: dict[str, tuple[list[Flow], list[str]]] = {
    "RSA and Ed25519: the key that is wrong is named": (
        [flow(5, (*ours("neutral", "ed"), *ours("permerror", "rsa")))],
        [FAILED.format("rsa", "example.com", "5 of 5", "permerror")],
    ),
    "both keys are wrong": (
        [flow(5, (*ours("fail", "ed"), *ours("permerror", "rsa")))],
        [
            FAILED.format("ed", "example.com", "5 of 5", "fail"),
            FAILED.format("rsa", "example.com", "5 of 5", "permerror"),
        ],
    ),
    "none, without a selector: there was no signature": (
        [flow(3, ours("none", ""))],
        [UNSIGNED.format(3, "unsigned", "")],
    ),
    "d= of a sibling": (
        [flow(3, ours("fail", domain="mail.example.com"), domain="news.example.com")],
        [FAILED.format("s1", "news.example.com", "3 of 3", "fail")],
    ),
    "d= in A-labels, From in U-labels": (
        [flow(3, ours("fail", domain="xn--mller-kva.example"), domain="müller.example")],
        [FAILED.format("s1", "xn--mller-kva.example", "3 of 3", "fail")],
    ),
    "permerror, of a selector that is valid otherwise, from elsewhere": (
        [flow(100, ours("pass")), flow(50, ours("permerror"), OTHER)],
        [UNPROVEN],
    ),
    "the same, while our own mail fails": (
        [flow(100, ours("pass")), flow(10, ours("permerror")), flow(50, ours("permerror"), OTHER)],
        [FAILED.format("s1", "example.com", "60 of 160", "permerror")],
    ),
    "a server whose address alone is known": (
        [flow(100, ours("pass")), flow(9, ours("fail"), OTHER)],
        [INVALID.format(BY)],
    ),
    "a server that answers in another name": (
        [flow(100, ours("pass")), flow(9, (*ours("fail"), ("list.test", "k", "pass")), OTHER)],
        [ALTERED.format("list.test", BY)],
    ),
    "no messages": ([flow(0, ())], []),
}


HINTS = {
    "an unknown server": (
        [flow(9, ours("pass")), flow(9, ours("fail"), OTHER)],
        "# if 203.0.113.5 is a server of yours: --own 203.0.113.5, and add it to the SPF record;"
        " otherwise a mailing list or forwarder altered them",
    ),
    "our own": (
        [flow(9, ours("fail"))],
        "# permerror: its key was not found, or is not valid; fail: the mail was altered after signing,"
        " or signed with another key than the one in DNS;"
        " pass: the domain is not aligned with From (adkim=s)",
    ),
}


@pytest.mark.parametrize(("flows", "hint"), HINTS.values(), ids=HINTS)
def test_hints(flows: list[Flow], hint: str, tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_bytes(report(flows, begin=BEGIN))
    assert run("--cron", tmp_path / "r.xml").stdout.decode().splitlines()[-1] == f"hint: {hint}"


@pytest.mark.parametrize(("flows", "expected"), CAUSES.values(), ids=CAUSES)
def test_causes(flows: list[Flow], expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_bytes(report(flows, begin=BEGIN))
    assert said(tmp_path / "r.xml") == expected


def test_a_receiver_that_does_not_list_signatures(tmp_path: Path) -> None:
    """OpenDMARC reports whether one was valid, and nothing else."""
    octets = report([flow(100, ours("pass")), flow(5, ())], begin=BEGIN)
    start, _, rest = octets.partition(b"<auth_results><dkim>")
    octets = start + b"<auth_results>" + rest.partition(b"</dkim>")[2]
    (tmp_path / "r.xml").write_bytes(octets)
    assert said(tmp_path / "r.xml") == [UNSIGNED.format(5, "without a valid signature", SILENT)]


POLICIES = {
    "p=": ("example.com", "none", "p=none", "p=none to p=quarantine in the record _dmarc.example.com"),
    "sp= of a subdomain": (
        "news.example.com",
        "reject</p><sp>none</sp><p>reject",
        "sp=none",
        "sp=none to sp=quarantine in the record _dmarc.example.com",
    ),
    "np= of a subdomain, which may not exist": (
        "nx.example.com",
        "reject</p><np>none</np><p>reject",
        "p=reject, np=none",
        "np=none to np=quarantine in the record _dmarc.example.com",
    ),
    "sp= and np=": (
        "nx.example.com",
        "reject</p><sp>none</sp><np>quarantine</np><p>reject",
        "sp=none, np=quarantine",
        "sp=none to sp=quarantine in the record _dmarc.example.com",
    ),
    "np= as sp=": ("nx.example.com", "none</p><sp>reject</sp><np>reject</np><p>none", "sp=reject", ""),
    "np= does not apply to the domain": (
        "example.com",
        "reject</p><np>none</np><p>reject",
        "p=reject",
        "",
    ),
    "a test": (
        "example.com",
        "reject</p><testing>y</testing><p>reject",
        "p=reject, t=y",
        "t=y to t=n in the record _dmarc.example.com",
    ),
    "a part of the messages": (
        "example.com",
        "none</p><pct>20</pct><p>none",
        "p=none, pct=20",
        "p=none to p=quarantine and change pct=20 to pct=100 in the record _dmarc.example.com",
    ),
    "all messages": ("example.com", "reject</p><pct>100</pct><testing>n</testing><p>reject", "p=reject", ""),
    "not a policy": (
        "example.com",
        "a=b c",
        "p=none",
        "p=none to p=quarantine in the record _dmarc.example.com",
    ),
    "p=, with another sp=": ("example.com", "reject</p><sp>none</sp><p>reject", "p=reject", ""),
}


@pytest.mark.parametrize(("domain", "policy", "applied", "change"), POLICIES.values(), ids=POLICIES)
def test_the_policy_that_applied(domain: str, policy: str, applied: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / "r.xml"
    path.write_bytes(report([flow(20, (), OTHER, domain)], begin=BEGIN, policy=policy))
    assert said(path) == [FORGED.format(domain, applied)]
    hint = f"hint: # once all your own mail is signed, change {change}\n" if change else ""
    assert run("--cron", path).stdout.decode().partition("\n")[2] == hint


# Domains that are not ours


@pytest.fixture
def senders(tmp_path: Path) -> str:
    path = tmp_path / "senders"
    path.write_text(SENDERS)
    return f"--sender_map={path}"


WHOSE = {
    "another": ("bank.example", False),
    "one that only ends alike": ("evilexample.com", False),
    "above d=": ("example.net", False),
    "in the senders file": ("example.com", True),
    "below one": ("a.b.example.com", True),
    "only in d=": ("mail.example.net", True),
    "only as a key": ("shop.example", True),
}


@pytest.mark.parametrize(("domain", "is_ours"), WHOSE.values(), ids=WHOSE)
def test_whose_domain(domain: str, is_ours: bool, senders: str, tmp_path: Path) -> None:
    unsigned = flow(3, (), "198.51.100.1", domain, is_spf_aligned=True)
    (tmp_path / "r.xml").write_bytes(report([unsigned], "anyone", domain, BEGIN))
    where = "unsigned since DAY: a server that its SPF record authorises"
    strangers = f"warning: 1 report on domains that are not in the senders file, such as {domain}"
    ours_said = f"error: {domain}: 3 messages from 198.51.100.1 {where}"
    assert said(senders, tmp_path / "r.xml") == [ours_said if is_ours else strangers]
    assert bool(json.loads(run("--json", senders, tmp_path / "r.xml").stdout)["domains"]) == is_ours


def test_an_entry_for_any_domain(tmp_path: Path) -> None:
    (tmp_path / "senders").write_text(". dkim(s=s1,key=/none)\n")
    (tmp_path / "r.xml").write_bytes(report([flow(3, (), domain="bank.example")], begin=BEGIN))
    assert "bank.example: 3 messages" in said(f"--sender_map={tmp_path}/senders", tmp_path / "r.xml")[0]


def test_a_senders_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("--cron", f"--sender_map={tmp_path}/none", tmp_path)
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.startswith(f"dkimpipe: map {tmp_path}/none: No such file or directory\n")


# Floods

COUNT = 10_000
FLOODS = {
    "domains": [flow(1, (), domain=f"d{n}.test", is_spf_aligned=True) for n in range(COUNT)],
    "subdomains": [flow(1, (), domain=f"d{n}.example.com") for n in range(COUNT)],
    "addresses": [flow(1, (), f"10.0.{n // 256}.{n % 256}", is_spf_aligned=True) for n in range(COUNT)],
    "selectors": [flow(1, ours("fail", f"s{n}")) for n in range(COUNT)],
    "selectors that were valid": [flow(1, ours("pass", f"s{n}")) for n in range(COUNT)],
}
MEMORY = 34 << 20  # octets; 21 MiB of them are Python and its modules


@pytest.mark.parametrize("flows", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("form", ["--cron", "--html"])
def test_floods(flows: list[Flow], form: str, tmp_path: Path) -> None:
    path, page = tmp_path / "r.xml", tmp_path / "page.html"
    path.write_bytes(report(flows, begin=BEGIN))
    command = ["reports", "--own", OUR, form, *([str(page)] * (form == "--html"))]
    done = forked.run(*command, str(path))
    assert done.stderr == ""
    assert done.peak < MEMORY
    assert len(done.stdout) < 20_000
    assert form == "--cron" or page.stat().st_size < 200_000


def test_a_domain_that_an_entry_names_is_never_crowded_out(senders: str, tmp_path: Path) -> None:
    names = [f"d{n}.example.com" for n in range(200)]
    flood = [flow(9, ours("pass", domain=name), domain=name) for name in names]
    (tmp_path / "r.xml").write_bytes(report([*flood, flow(1, ours("fail"))], begin=BEGIN))
    more = "warning: and 150 more domains not shown: no entry of the senders file names them"
    assert said(senders, tmp_path / "r.xml") == [FAILED.format("s1", "example.com", "1 of 1", "fail"), more]


SHOWN = {
    "few": (["error", "warning"], ["error", "warning"]),
    "many": (
        ["warning"] * 60 + ["error"] * 51,
        ["error"] * 50 + ["warning"] * 50 + ["note"],
    ),
}


@pytest.mark.parametrize(("levels", "expected"), SHOWN.values(), ids=SHOWN)
def test_how_many_findings_are_shown(levels: list[str], expected: list[str]) -> None:
    found = shown([Finding("x", level=level) for level in levels])
    assert [each.level for each in found] == expected
    assert [each.what for each in found if each.level == "note"] == ["and 11 more"] * ("note" in expected)


# Files that are not reports


def test_cron_names_files_that_are_not_reports(tmp_path: Path) -> None:
    paths = [tmp_path / "u.xml", tmp_path / "v.xml"]
    for path in paths:
        path.write_text("unused\n")
    lines = [f"dkimpipe: error: not a report: {path}: neither a mail nor XML nor JSON" for path in paths]
    assert run("--cron", *paths) == Done(78, "".join(f"{line}\n" for line in lines).encode(), "")


# TLS


def tls(details: list[tuple[str, int]], failed: int, successful: int = 0) -> bytes:
    when = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(BEGIN))
    failures = [
        {"result-type": result, "receiving-mx-hostname": "mx.example.com", "failed-session-count": count}
        for result, count in details
    ]
    policy = {
        "policy": {"policy-type": "sts", "policy-domain": "example.com"},
        "summary": {"total-successful-session-count": successful, "total-failure-session-count": failed},
        "failure-details": failures,
    }
    return json.dumps(
        {
            "organization-name": "Mail.ru",
            "report-id": "1",
            "date-range": {"start-datetime": when, "end-datetime": when},
            "policies": [policy],
        }
    ).encode()


# Details, the sum of the report; sessions, those that failed, and the sessions by what failed.
SESSIONS = {
    "mail.ru: one session with two servers": (
        ([("certificate-expired", 1), ("certificate-expired", 1)], 1),
        ("1 session, 1 failed", ["1 TLS session"]),
    ),
    "one session, two causes": (
        ([("certificate-expired", 1), ("starttls-not-supported", 1)], 1),
        ("1 session, 1 failed", ["1 TLS session", "1 TLS session"]),
    ),
    "no sum": (([("certificate-expired", 4)], 0), ("4 sessions, 4 failed", ["4 TLS sessions"])),
    "no details": (([], 3), ("3 sessions, 3 failed", [])),
}


@pytest.mark.parametrize(("given", "expected"), SESSIONS.values(), ids=SESSIONS)
def test_tls_sessions(
    given: tuple[list[tuple[str, int]], int], expected: tuple[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_bytes(tls(*given))
    lines = run(tmp_path / "r.json").stdout.decode().splitlines()
    assert f"example.com, TLS (sts): {expected[0]}" in lines
    failed = [line.split(": ")[2].partition(" with ")[0] for line in lines if line.startswith("error: ")]
    assert failed == expected[1]


def test_tls_of_a_domain_that_is_not_ours(senders: str, tmp_path: Path) -> None:
    octets = tls([("certificate-expired", 1)], 1).replace(b"example.com", b"bank.example")
    (tmp_path / "r.json").write_bytes(octets)
    strangers = "warning: 1 report on domains that are not in the senders file, such as bank.example"
    assert said(senders, tmp_path / "r.json") == [strangers]


# What a receiver writes of the same messages in two places, and what they are taken for: changes of a record
# of five messages with a valid signature, and from a server for which SPF passes.
EVALUATED = (
    "<policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated>"
)
FAILING = EVALUATED.replace("pass", "fail")
SUBDOMAIN = ("<dkim><domain>example.com<", "<dkim><domain>mail.example.com<")
INVALID_SIGNATURE = ("<result>pass</result></dkim>", "<result>fail</result></dkim>")
VALID, LATER = "100 % with a valid signature", "0 % with a valid signature"
PLACES: dict[str, tuple[list[tuple[str, str]], str]] = {
    "they agree": ([], VALID),
    "nothing evaluated": ([(EVALUATED, "")], VALID),
    "nothing evaluated, a subdomain": ([(EVALUATED, ""), SUBDOMAIN], VALID),
    "nothing evaluated, another domain": (
        [(EVALUATED, ""), ("<dkim><domain>example.com<", "<dkim><domain>example.net<")],
        LATER,
    ),
    "nothing evaluated, a top-level domain": (
        [(EVALUATED, ""), ("<dkim><domain>example.com<", "<dkim><domain>com<")],
        LATER,
    ),
    "nothing evaluated, not valid": ([(EVALUATED, ""), INVALID_SIGNATURE], LATER),
    "only SPF evaluated": ([("<dkim>pass</dkim><spf>", "<spf>")], VALID),
    "fail, but the domain itself has signed": ([(EVALUATED, FAILING)], VALID),
    "fail, a subdomain has signed": ([(EVALUATED, FAILING), SUBDOMAIN], LATER),  # adkim=s
    "fail, not valid": ([(EVALUATED, FAILING), INVALID_SIGNATURE], LATER),
}


@pytest.mark.parametrize(("changes", "expected"), PLACES.values(), ids=PLACES)
def test_a_receiver_that_contradicts_itself(
    changes: list[tuple[str, str]], expected: str, tmp_path: Path
) -> None:
    text = report([flow(5, ours("pass"), OTHER, is_spf_aligned=True)], begin=BEGIN).decode()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "r.xml").write_text(text)
    lines = run(tmp_path / "r.xml").stdout.decode().splitlines()
    assert [line for line in lines if "messages," in line] == [f"example.com: 5 messages, {expected} of it"]


def test_spf_without_an_evaluation_shows_a_server_of_ours(tmp_path: Path) -> None:
    text = report([flow(5, (), OTHER, is_spf_aligned=True)], begin=BEGIN).decode()
    without = text.replace(EVALUATED.replace("<dkim>pass", "<dkim>fail"), "")
    assert without != text
    (tmp_path / "r.xml").write_text(without)
    assert said(tmp_path / "r.xml") == [
        "error: example.com: 5 messages from 203.0.113.5 unsigned since DAY: "
        "a server that its SPF record authorises"
    ]
