"""What ``check --dns`` says of a key record, beside what three independent verifiers do with it.

The rule: a record that one of them refuses is an error, and so is one that our own verifier refuses. A record
that all accept is none.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import bind
import dkim  # type: ignore[import-untyped,unused-ignore]
import dns.zone
import in_memory
import pytest
import records
import witness
from conftest import MESSAGE, Keys, Report, write_key
from dns.rdtypes.ANY.TXT import TXT
from nameserver import NameServer
from records import SAMPLES, WARNINGS, Sample, warnings

from dkimpipe.admin.dns import compare
from dkimpipe.admin.dns.compare import Holds, Need
from dkimpipe.admin.dns.lookup import NameServers
from dkimpipe.verify import keyrecord
from dkimpipe.verify.nameserver import Server
from dkimpipe.verify.resolver import Resolver

WEAK = {"rsa512": ["512"], "rsa1008": ["1008"]}  # keys that our own signer refuses
MADE = {**WEAK, "e3": ["-3", "2048"]}


class Case(NamedTuple):
    """A sample, the right record of its key, and the name of its records."""

    name: str
    sample: Sample
    right: bytes
    owner: str
    message: bytes

    @property
    def texts(self) -> list[bytes]:
        """The records of its name."""
        return self.sample.make(self.right)


# RFC 6376 sections 2.8, 2.10, 3.2 and 3.6.1, RFC 2045 section 6.7, and white space after the last semicolon.
PARTS = {b"F": rb"(?:(?:[ \t]*\r\n)?[ \t]+)", b"W": rb"(?:[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"}
BASE64 = rb"[A-Za-z0-9+/](?:%(F)b?[A-Za-z0-9+/])*(?:%(F)b?=){0,2}" % PARTS
EQUALS = rb"%(F)b?=%(F)b?" % PARTS
WORDS = rb"(?:%(W)b|\*)(?:%(F)b?:%(F)b?(?:%(W)b|\*))*" % PARTS
VALUES = (
    rb"[hkt]" + EQUALS + WORDS.replace(rb"|\*", b""),
    rb"s" + EQUALS + WORDS,
    rb"v" + EQUALS + rb"DKIM1",
    rb"n" + EQUALS + rb"(?:[!-:<>-~]|=[0-9A-F]{2}|%(F)b)*" % PARTS,
    rb"p" + EQUALS + rb"(?:" + BASE64 + rb")?",
    rb"(?![hkstvnp]%(F)b?=)[A-Za-z][A-Za-z0-9_]*" % PARTS
    + EQUALS
    + rb"(?:[!-:<-~]+(?:%(F)b[!-:<-~]+)*)?" % PARTS,
)
TAG = rb"%(F)b?(?:" % PARTS + b"|".join(VALUES) + rb")%(F)b?" % PARTS
GRAMMAR = re.compile(TAG + rb"(?:;" + TAG + rb")*(?:;%(F)b?)?" % PARTS)


@pytest.fixture(scope="module")
def right(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """Key files by their names, each with its right record."""
    directory = tmp_path_factory.mktemp("records")
    paths = {name: keys.path(name) for name in ("rsa1024", "rsa2048", "rsa4096", "ed25519")}
    for name, arguments in MADE.items():
        made = subprocess.run(["openssl", "genrsa", *arguments], capture_output=True, check=True)
        paths[name] = write_key(directory / f"{name}.pem", made.stdout)
    return {name: (path, witness.record(path.read_bytes())) for name, path in paths.items()}


def signed(selector: str, key: str, path: Path) -> bytes:
    """Return a message that is signed with a key, a weak one too."""
    if key not in WEAK:
        options = ("--domain=example.com", f"--selector={selector}", f"--keyfile={path}")
        return in_memory.sign(MESSAGE, *options)
    pem = subprocess.run(["openssl", "rsa", "-in", path, "-traditional"], capture_output=True, check=True)
    message = witness.as_smtp_carries(MESSAGE)
    field: bytes = dkim.sign(message, selector.encode(), b"example.com", pem.stdout)
    return field + message


@pytest.fixture(scope="module")
def cases(right: dict[str, tuple[Path, bytes]]) -> list[Case]:
    made = []
    for number, (name, sample) in enumerate(SAMPLES.items()):
        path, value = right[sample.key]
        owner = f"s{number}._domainkey.example.com"
        made.append(Case(name, sample, value, owner, signed(f"s{number}", sample.key, path)))
    return made


@pytest.fixture(scope="module")
def server(cases: list[Case]) -> Iterator[NameServer]:
    with NameServer({case.owner: case.sample.make(case.right) for case in cases}) as running:
        yield running


@pytest.fixture(scope="module")
def refusals(cases: list[Case], server: NameServer) -> dict[str, set[str]]:
    """The verifiers that refuse each record, of those that know its type of key."""
    messages = [case.message for case in cases]
    verdicts = {
        "dkimpy": witness.dkimpy_verdicts(messages, server.records),
        "Mail::DKIM": witness.mail_dkim_verdicts(messages, server.port),
        "OpenDKIM": witness.opendkim_verdicts(messages, server.records),
    }
    found: dict[str, set[str]] = {case.name: set() for case in cases}
    for who, answers in verdicts.items():
        for case, verdict in zip(cases, answers):
            has_vote = who != "Mail::DKIM" or case.sample.key != "ed25519" or KNOWS_ED25519
            if has_vote and verdict not in (["pass"], ["dkim:pass"]):
                found[case.name].add(who)
    return found


KNOWS_ED25519 = witness.mail_dkim_on_ed25519() == "dkim:pass"


def test_what_one_verifier_refuses_is_an_error(
    cases: list[Case], server: NameServer, refusals: dict[str, set[str]], report: Report
) -> None:
    asked = NameServers([Server(server.address, server.port)])
    wrong = {}
    for case in cases:
        findings = list(asked.findings(case.owner, [Need(case.right.decode())]))
        errors = [finding.what for finding in findings if finding.level == "error"]
        warned = len(errors) < len(findings)
        (judged,) = in_memory.verify(case.message, Resolver(Server(server.address, server.port)))
        accepted = judged.result in ("pass", "neutral")  # t=y
        if bool(errors) != (bool(refusals[case.name]) or not accepted):
            wrong[case.name] = (errors, refusals[case.name], judged.result, judged.reason)
        if not errors and warned != (judged.result == "neutral" or not GRAMMAR.fullmatch(case.texts[0])):
            wrong[case.name] = ([finding.what for finding in findings], set(), judged.result, "grammar")
    counts = Counter(who for refused in refusals.values() for who in refused)
    report(f"{len(cases)} records: " + ", ".join(f"{counts[who]} refused by {who}" for who in sorted(counts)))
    assert wrong == {}
    assert min(counts.values()) > 100


@pytest.mark.parametrize("name", SAMPLES)
def test_each_is_put_into_words(right: dict[str, tuple[Path, bytes]], name: str) -> None:
    """Words that a terminal can show, on one line that is not endless."""
    sample = SAMPLES[name]
    value = right[sample.key][1]
    found = compare.faults(Need(value.decode()), sample.make(value))
    error = sample.words(value)
    assert [what for what, level in found if level == "error"] == ([error] if error else [])
    assert [what for what, level in found if level == "warning"] == warnings(name)
    assert all(what.isprintable() and len(what) < 120 for what, _ in found)


# Samples that our verifier accepts, as RFC 6376 has it, and who refuses them: each rule in recordfaults.
STRICTER = {
    "tag x=ü": {"OpenDKIM"},
    "n to 1025": {"OpenDKIM"},
    "bare": {"Mail::DKIM", "OpenDKIM"},
    "no NULL": {"dkimpy"},
    "k=RSA": {"dkimpy", "Mail::DKIM"},
    "h=sha1 : sha256": {"Mail::DKIM"},
    "s=email:other": {"dkimpy"},
    "g=alice": {"Mail::DKIM"},
}


@pytest.mark.parametrize("name", STRICTER)
def test_who_refuses_what_the_rfc_allows(
    right: dict[str, tuple[Path, bytes]], refusals: dict[str, set[str]], name: str
) -> None:
    (text,) = SAMPLES[name].make(right["rsa2048"][1])
    keyrecord.parse(text)
    assert refusals[name] == STRICTER[name]
    verifiers = SAMPLES[name].error.partition(": ")[2].removesuffix(" would refuse it")
    assert set(verifiers.split(" and ")) == STRICTER[name]


def test_each_stricter_rule_has_a_sample() -> None:
    found = {SAMPLES[name].error.partition(": ")[0] for name in STRICTER}
    assert found == {what for what, _, _ in compare._STRICTER}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_warned_of_all_verifiers_accept(refusals: dict[str, set[str]], name: str) -> None:
    assert refusals[name] == set()


# DomainKeys: only Mail::DKIM verifies it. g= is its own tag, and s= has no meaning in it.


@pytest.mark.parametrize("tag", ["g=alice", "s=email:other", "s=tlsrpt"])
def test_rules_of_dkim_alone(right: dict[str, tuple[Path, bytes]], tag: str) -> None:
    value = right["rsa2048"][1]
    need = Need(value.decode(), "sha1", domainkeys=True, local_part="alice")
    assert compare.faults(need, records.tag(tag.encode())(value)) == []


# Whose key it is.

ED25519 = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
NOT_OURS = {
    "right": (ED25519, Holds.OTHER),
    "of another type": (b"v=DKIM1; k=dsa; p=AAAA", Holds.UNCLEAR),
    "no valid list": (ED25519 + b"; <br>", Holds.UNCLEAR),
    "without semicolons": (ED25519.replace(b";", b""), Holds.UNCLEAR),
    "p= lost": (ED25519.replace(b"p=", b""), Holds.UNCLEAR),
    "UTF-16": (ED25519.decode().encode("utf-16"), Holds.UNCLEAR),
    "v= last": (b"p=AAAA; v=DKIM1", Holds.UNCLEAR),
    "too large": (ED25519 + b"; n=" + b"x" * 20000, Holds.UNCLEAR),
    "too short": (b"v=DKIM1; p=AAAA", Holds.UNCLEAR),
    "text": (b"hello", Holds.UNCLEAR),
    "revoked": (b"v=DKIM1; p=", Holds.NOTHING),
    "revoked, a comment": (b"v=DKIM1; p=; <br>", Holds.UNCLEAR),
    "SPF": (b"v=spf1 include:_spf.example.com ip4:192.0.2.0/24 -all", Holds.NOTHING),
    "a list without p=": (b"v=DKIM1; k=rsa", Holds.NOTHING),
}


@pytest.mark.parametrize(("text", "expected"), NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_not_ours(right: dict[str, tuple[Path, bytes]], text: bytes, expected: Holds) -> None:
    assert compare.holds(text, right["rsa2048"][1].decode()) is expected
    unknown = Holds.NOTHING if expected is Holds.NOTHING else Holds.UNCLEAR
    assert compare.holds(text) is compare.holds(text, "damaged") is unknown


OURS = {
    "right": records.same,
    "bare": records.der(records.bare),
    "comment": records.after(b" ; ----- DKIM key r for example.com"),
    "twice": SAMPLES["p twice same"].make,
    "quotes": SAMPLES["quotes round and split"].make,
    "byte order mark": SAMPLES["bom8"].make,
    "p= lost": SAMPLES["p lost"].make,
    "another v=": SAMPLES["v=DKIM2"].make,
    "another k=": SAMPLES["k=dsa"].make,
}


@pytest.mark.parametrize("change", OURS.values(), ids=OURS)
def test_what_is_ours_however_it_is_written(
    right: dict[str, tuple[Path, bytes]], change: records.Change
) -> None:
    value = right["rsa2048"][1]
    (text,) = change(value)
    assert compare.holds(text, value.decode()) is Holds.OURS


@pytest.mark.parametrize("name", ["p twice, other last", "<br> within", "utf16", "base64url"])
def test_what_may_be_ours_or_not(right: dict[str, tuple[Path, bytes]], name: str) -> None:
    value = right["rsa2048"][1]
    (text,) = SAMPLES[name].make(value)
    assert compare.holds(text, value.decode()) is Holds.UNCLEAR


def test_no_record_of_our_key_leaves_its_name_free(right: dict[str, tuple[Path, bytes]]) -> None:
    value = right["rsa2048"][1]
    made = {name: sample.make(value) for name, sample in SAMPLES.items() if sample.key == "rsa2048"}
    begin = value.partition(b"p=")[2][:40]
    of_ours = [name for name, texts in made.items() if any(begin in text for text in texts)]
    assert len(of_ours) > 250
    assert [
        name for name in of_ours if all(compare.holds(text) is Holds.NOTHING for text in made[name])
    ] == []


# The hint: what to publish.


@pytest.mark.parametrize("key", ["rsa1024", "rsa2048", "rsa4096", "ed25519"])
def test_the_hint_is_a_line_of_a_zone_file(
    right: dict[str, tuple[Path, bytes]], tmp_path: Path, key: str
) -> None:
    """BIND reads it, written by sh(1), as the right record."""
    value = right[key][1]
    owner = "s._domainkey.example.com"
    with NameServer({owner: [b"hello"]}) as wrong:
        asked = NameServers([Server(wrong.address, wrong.port)])
        findings = list(asked.findings(owner, [Need(value.decode())]))
    (hint,) = [finding.hint for finding in findings]
    assert hint.startswith("publish: ")
    zone = tmp_path / "zone"
    zone.write_text("$TTL 60\n@ IN SOA ns h 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n")
    script = f"cat >>{zone} <<'END'\n{hint.removeprefix('publish: ')}\nEND\n"
    subprocess.run(["sh", "-ec", script], check=True)
    checkzone = [bind.PROGRAMS["named-checkzone"], "-D", "-o", "-", "example.com", str(zone)]
    dumped = subprocess.run(checkzone, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in dumped.splitlines() if line.startswith("s._domainkey")]
    assert "".join(re.findall('"([^"]*)"', line)).encode() == value


HINTED = {name: sample for name, sample in SAMPLES.items() if sample.error not in ("", records.PRIVATE)}


def test_each_hint_removes_the_fault(cases: list[Case], server: NameServer) -> None:
    """What is wrong is replaced by the record in the hint, as a name server reads it."""
    asked = NameServers([Server(server.address, server.port)])
    left = {}
    for case in [case for case in cases if case.name in HINTED or case.name in WARNINGS]:
        needs = [Need(case.right.decode())]
        hints = {finding.hint for finding in asked.findings(case.owner, needs)}
        if case.sample.key in WEAK or not hints:  # no record helps such a key; not every key has a +
            continue
        lines = "\n".join(hint.removeprefix("publish: ") for hint in hints)
        zone = dns.zone.from_text(f"$TTL 60\n{lines}", ".", relativize=False, check_origin=False)
        texts = [b"".join(each.strings) for _, _, each in zone.iterate_rdatas("TXT") if isinstance(each, TXT)]
        with NameServer({case.owner: texts}) as fixed:
            found = list(NameServers([Server(fixed.address, fixed.port)]).findings(case.owner, needs))
        if found:
            left[case.name] = found
    assert left == {}
