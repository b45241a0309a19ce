"""``dkimpipe explain`` tells what the filter does, step by step."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MAIN, MESSAGE, Done, Keys, run_filter
from in_memory import reader
from nameserver import NameServer

from dkimpipe.admin.verbs.explain import explain
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_command_line
from dkimpipe.errors import Trouble
from dkimpipe.message import Message
from dkimpipe.signatures import Signatures

NOW = 1_700_000_000
DOMAINS = [
    "example.com",
    "sub.example.com",
    "example.org",
    "Example.NET",
    "b\u00fccher.example",
    "xn--bcher-kva.example",
]
LOCAL_PARTS = ["alice", "Bob", "alice+tag", "a.b", "+x"]
SIGNATURES = [
    "dkim(s=a,key=KEYS/rsa1024.pem)",
    "dkim(s=e,key=KEYS/ed25519.pem,c=simple)",
    "dkim(d=example.org,s=a,key=KEYS/rsa1024.pem)",
    "dkim(d=$senderdomain,i=$sender,s=a,key=KEYS/ed25519.pem)",
    "domainkeys(s=a,key=KEYS/rsa1024.pem)",
    "domainkeys(s=a,key=KEYS/ed25519.pem)",
    "dkim(s=a,key=KEYS/nowhere.pem)",
    "dkim(s=a,key=KEYS/ed25519.pem,a=rsa-sha256)",
    "dkim(s=a",
    "dkim(s=a,key=KEYS/ed25519.pem,q=1)",
    "dkim(s=a,key=KEYS/ed25519.pem,login=alice)",
    "dkim(s=a,key=KEYS/rsa1024.pem,login=*,envelope=example.com)",
]


def verb(*arguments: str, message: bytes = b"", name: str = "explain") -> Done:
    """Run ``dkimpipe NAME ARGUMENTS < message``."""
    done = subprocess.run(
        [sys.executable, str(MAIN), name, *arguments], input=message, capture_output=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def test_the_whole_of_it(keys: Keys) -> None:
    path = keys.senders("# ours\nexample.com dkim(s=a,key=KEYS/rsa2048.pem,c=simple)\n", "explained")
    done = verb(f"--sender_map={path}", message=MESSAGE)
    assert done.status == 0
    lines = done.stdout.decode().splitlines()
    assert lines[:6] == [
        "from:      Alice <alice@example.com>",
        "address:   alice@example.com; looked up as alice@example.com, *@example.com, example.com, *@*.com, "
        "com, .",
        f"entry:     example.com, {path}, line 2",
        "dkim:      d=example.com s=a a=rsa-sha256 c=simple/simple",
        f"           key file {keys.path('rsa2048')}: rsa, 2048 bits",
        "           DMARC: aligned with From",
    ]
    assert lines[6].startswith("field:     DKIM-Signature: v=1; a=rsa-sha256; ")
    assert "result:    signed d=example.com s=a a=rsa-sha256; from=Alice <alice@example.com>" in lines


def test_an_address_instead_of_a_message(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n", "explained")
    assert verb("bob@example.net", f"--sender_map={path}") == Done(
        0,
        b"from:      bob@example.net\n"
        b"address:   bob@example.net; looked up as bob@example.net, *@example.net, example.net, *@*.net, net,"
        b" .\n"
        b"result:    not signed: no entry for bob@example.net; from=bob@example.net\n",
        "",
    )


def test_a_syntax_error_in_from(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n", "explained")
    author = r"ACME\Bob <bob@example.com>"
    lines = verb(author, f"--sender_map={path}").stdout.decode().splitlines()
    assert lines[:3] == [
        f"from:      {author}",
        "           syntax error in From: some receivers refuse such mail",
        "address:   bob@example.com; looked up as"
        " bob@example.com, *@example.com, example.com, *@*.com, com, .",
    ]
    assert f"result:    signed d=example.com s=a a=rsa-sha256; from={author}" in lines


def test_relative_h(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem,h=-*:+from:++x-foo)\n", "explained")
    said = verb("bob@example.com", f"--sender_map={path}").stdout.decode()
    field = "".join(line[11:] for line in said.splitlines() if line.startswith("field:"))
    assert " h=from:from:x-foo;" in field


@pytest.mark.parametrize(
    "option", ["--conf_file", "--conf-file", "--sender_map", "--sender-map", "--listid_map", "--listid-map"]
)
def test_the_help_shows_the_options_that_name_files(option: str, keys: Keys) -> None:
    assert f"{option} FILE" in verb("--help").stdout.decode()
    path = keys.directory / "no-such-file"
    done = verb(option, str(path), message=b"From: alice@example.com\nList-Id: <a.example.com>\n\n")
    assert str(path) in done.stdout.decode() + done.stderr


@pytest.mark.parametrize("option", ["--on_error", "--on-error"])
def test_it_takes_the_other_options_of_the_filter_in_both_spellings(option: str, tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert verb("--sender_map", str(none), "alice@example.com").status == 78
    assert verb("--sender_map", str(none), option, "accept", "alice@example.com").status == 0


def test_the_envelope_sender_is_an_option(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n", "explained")
    done = verb("bob@example.net", "-f", "x@example.com", "--match=envelope", f"--sender_map={path}")
    assert b"address:   x@example.com; looked up as " in done.stdout
    assert b"DMARC: not aligned with From: no pass for example.net\n" in done.stdout
    assert b"result:    signed d=example.com " in done.stdout


FOR_SOME = (
    "alice@example.com dkim(s=a,key=KEYS/rsa2048.pem,login=alice:bob)\n"
    "carol@example.com dkim(s=a,key=KEYS/rsa2048.pem), dkim(s=b,key=/none,login=carol,envelope=example.com)\n"
)
# Arguments, and what is said of refusal.
REFUSED = {
    "the one": (
        ["alice@example.com", "--login=bob"],
        ["result:    signed d=example.com s=a a=rsa-sha256; from=alice@example.com"],
    ),
    "another": (
        ["alice@example.com", "--login", "eve"],
        [
            "refused:   login 'eve' may not use SENDERS, line 1, which has login=alice:bob",
            "result:    not signed: login 'eve' may not use SENDERS, line 1; from=alice@example.com",
        ],
    ),
    "nobody": (
        ["alice@example.com", "--login="],
        [
            "refused:   login '' may not use SENDERS, line 1, which has login=alice:bob",
            "result:    not signed: login '' may not use SENDERS, line 1; from=alice@example.com",
        ],
    ),
    "one signature of two": (
        ["carol@example.com", "--login=carol", "-f", "carol@example.net"],
        [
            "refused:   envelope sender 'carol@example.net' may not use SENDERS, line 2,"
            " which has envelope=example.com",
            "result:    signed d=example.com s=a a=rsa-sha256; not signed: envelope sender"
            " 'carol@example.net' may not use SENDERS, line 2; from=carol@example.com",
        ],
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_who_may_not_have_a_signature_is_told(keys: Keys, arguments: list[str], expected: list[str]) -> None:
    path = keys.senders(FOR_SOME, "explained")
    done = verb(*arguments, f"--sender_map={path}")
    assert (done.status, done.stderr) == (0, "")
    lines = done.stdout.decode().replace(str(path), "SENDERS").splitlines()
    assert [line for line in lines if line.startswith(("refused:", "result:"))] == expected


def test_without_a_login_it_says_what_the_filter_says(keys: Keys) -> None:
    path = keys.senders(FOR_SOME, "explained")
    done = verb("alice@example.com", f"--sender_map={path}")
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {path}, line 1: login= is set, but no --login was given\n"
        "hint: add --login=${sasl_username} to argv in master.cf\n",
    )


@pytest.mark.parametrize(
    ("domain", "worth"),
    [
        ("example.com", "aligned with From"),
        (
            "com",
            "aligned with From unless the policy of example.com has adkim=s,"
            " or com has no DMARC record (RFC 9989)",
        ),
        ("mail.example.com", "aligned with From unless the policy of example.com has adkim=s"),
        ("notexample.com", "not aligned with From: no pass for example.com"),
        ("example.com.evil.example", "not aligned with From: no pass for example.com"),
    ],
)
def test_what_the_signature_is_worth_for_dmarc(keys: Keys, domain: str, worth: str) -> None:
    path = keys.senders(f"example.com dkim(d={domain},s=a,key=KEYS/rsa2048.pem)\n", "explained")
    assert f"           DMARC: {worth}\n".encode() in verb("a@example.com", f"--sender_map={path}").stdout


def test_a_sibling_may_be_aligned(keys: Keys) -> None:
    path = keys.senders("mail.example.com dkim(d=news.example.com,s=a,key=KEYS/rsa2048.pem)\n", "explained")
    words = b"DMARC: aligned with From only if both are in one organizational domain, without adkim=s\n"
    assert words in verb("a@mail.example.com", f"--sender_map={path}").stdout


def test_the_state_in_dns(keys: Keys) -> None:
    """By published.py, which tests/test_check.py shows with all that can be wrong."""
    record = keys.records["rsa2048._domainkey.example.com"][0]
    records = {
        "right._domainkey.example.com": [record + b"; h=sha256; t=s"],
        "below._domainkey.example.com": [record + b"; t=s"],
        "dk._domainkey.example.com": [record + b"; h=sha256; g=alice"],
    }
    names = ["right", "below", "none", "dk"]
    key, i = "key=KEYS/rsa2048.pem", "i=@news.example.com,"
    items = [f"dkim(s={name},{i if name == 'below' else ''}{key})" for name in names[:3]]
    path = keys.senders(f"example.com {', '.join(items)}, domainkeys(s=dk,{key})\n", "explained")
    with NameServer(records) as server:
        at = f"127.0.0.1#{server.port}"
        done = verb("alice@example.com", f"--sender_map={path}", "--dns", f"--server={at}")
    assert (done.status, done.stderr) == (0, "")
    assert [line.strip() for line in done.stdout.decode().splitlines() if " DNS: " in line] == [
        "DNS: right._domainkey.example.com: the record is correct",
        f"DNS: below._domainkey.example.com: t=s does not allow i= in a subdomain of d=, according to {at}",
        f"DNS: none._domainkey.example.com: there is no such name (NXDOMAIN), according to {at}",
        f"DNS: dk._domainkey.example.com: h=sha256 does not allow sha1, according to {at}",
    ]


@pytest.mark.parametrize("name", ["explain", "rotate"])
def test_an_invalid_server_is_wrong_usage(name: str) -> None:
    option = "--look-at" if name == "rotate" else "--server"
    done = verb(f"{option}=ns.example.com", name=name)
    assert (done.status, done.stdout) == (64, b"")
    assert done.stderr.splitlines()[-1] == (
        f"dkimpipe {name}: argument {option}: 'ns.example.com' is not a valid server address:"
        " such as 192.0.2.1 or 192.0.2.1#5353"
    )


def test_an_error_is_the_filters_own(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a\n", "explained")
    done = verb("a@example.com", f"--sender_map={path}")
    filtered = run_filter(f"--sender_map={path}")
    assert (done.status, filtered.status) == (78, 75)
    assert filtered.stderr == f"4.3.5 {done.stderr}"


def random_case(seed: int, keys: Keys) -> tuple[list[str], bytes]:
    """Return options and a message."""
    choose = random.Random(seed)
    addresses = [f"{choose.choice(LOCAL_PARTS)}@{domain}" for domain in DOMAINS]
    lines = []
    for _ in range(choose.randrange(8)):
        key = choose.choice([*addresses, *DOMAINS, "com", ".", "alice@example.com"])
        items = choose.sample(SIGNATURES[: choose.choice([4, 6, 10, 12])], choose.randrange(1, 4))
        lines += [f"{key} {', '.join(items)}", choose.choice(["", "# a comment", "  , dkim", "  "])]
    path = keys.senders("\n".join(lines) + "\n", "random")
    options = [f"--sender_map={path}"]
    options += choose.choice(
        [[], [], ["--match=sender,from"], ["--on_error=accept"], ["--match=envelope,from"]]
    )
    options += choose.choice([[], ["-f", choose.choice(addresses)], ["--verbose"]])
    options += choose.choice([[], ["--login="], ["--login=alice"], ["--login=bob"]])
    header = [f"{name}: {choose.choice(addresses)}" for name in ("From", "Sender") if choose.random() < 0.9]
    header += choose.choice([[], ["From: two@example.com"], ["Subject: x"], ["List-Id: <l.example.com>"]])
    return options, "\n".join([*header, "", "body", ""]).encode()


def by_filter(options: list[str], message: bytes) -> tuple[list[str], str]:
    """Return the new fields, line by line, and the report; or the error."""
    try:
        read, bodies = Message(reader(message)), BodyHashes(large=False)
        signatures = Signatures(read, read_command_line(options), bodies)
        for chunk in read.body():
            bodies.update(chunk)
        bodies.finish()
        return signatures.fields(
            NOW
        ).decode().splitlines(), signatures.report.result + signatures.report.origin
    except Trouble as trouble:
        return [], str(trouble)


def test_it_agrees_with_the_filter_on_500_maps_and_messages(keys: Keys) -> None:
    ends = set()
    for seed in range(500):
        options, message = random_case(seed, keys)
        fields, end = by_filter(options, message)
        try:
            lines = list(explain(Message(reader(message)), read_command_line(options), NOW))
        except Trouble as trouble:
            assert str(trouble) == end, seed
            assert fields == [], seed
        else:
            assert lines[-1] == f"result:    {end}", seed
            told = [line.removeprefix("field:     ") for line in lines if line.startswith("field:")]
            assert told == fields, seed
        ends.add(end.split(":")[0].split(" ")[0])
    assert ends >= {"signed", "not"}, ends  # and errors, which begin with the map's path
    assert len(ends) > 2
