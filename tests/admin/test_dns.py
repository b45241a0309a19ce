"""``dkimpipe dns``: the records that a senders file needs, in each format."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from checking import FAULTS
from conftest import Keys, write_key
from hypothesis import given
from hypothesis import strategies as st
from recording import ED, plain, run, value, with_tags

from dkimpipe import publickey, senders
from dkimpipe.address import to_lower
from dkimpipe.admin.dns import formats, record
from dkimpipe.admin.maps import entries
from dkimpipe.errors import ConfigError

RSA = "s=rsa1024,key=KEYS/rsa1024.pem"

NAMES = {
    "one": (f"example.com dkim({ED})\n", [], ["ed25519._domainkey.example.com"]),
    "for-some": (
        f"a@example.com dkim({ED},login=alice)\n. dkim(d=example.org,{ED},login=*,envelope=example.org)\n",
        [],
        ["ed25519._domainkey.example.com", "ed25519._domainkey.example.org"],
    ),
    "relative-h": (f"example.com dkim({ED},h=-*:+from:++x-foo)\n", [], ["ed25519._domainkey.example.com"]),
    "two": (
        f"example.com dkim({ED}), dkim({RSA})\n",
        [],
        ["ed25519._domainkey.example.com", "rsa1024._domainkey.example.com"],
    ),
    "d": (f"boss@example.com dkim(d=example.org,{ED})\n", [], ["ed25519._domainkey.example.org"]),
    "domain-of-an-address": (f"boss@example.com dkim({ED})\n", [], ["ed25519._domainkey.example.com"]),
    "macro-that-is-fixed": (
        f"example.com dkim(d=x.$keydomain,{ED})\n",
        [],
        ["ed25519._domainkey.x.example.com"],
    ),
    "sender-of-an-address": (
        f"a@example.com dkim(d=$senderdomain,{ED})\n",
        [],
        ["ed25519._domainkey.example.com"],
    ),
    "everybody-with-d": (f". dkim(d=example.org,{ED})\n", [], ["ed25519._domainkey.example.org"]),
    "u-labels": (f"bücher.example dkim({ED})\n", [], ["ed25519._domainkey.xn--bcher-kva.example"]),
    "once-for-two-entries": (
        f"a@example.com dkim({ED})\nexample.com dkim({ED})\n",
        [],
        ["ed25519._domainkey.example.com"],
    ),
    "last-line-of-a-key": (
        f"example.com dkim({RSA})\nEXAMPLE.com dkim({ED})\n",
        [],
        ["ed25519._domainkey.example.com"],
    ),
    "asked-for": (
        f"example.com dkim({ED})\nexample.org dkim({ED})\n",
        ["example.org"],
        ["ed25519._domainkey.example.org"],
    ),
    "asked-for-in-another-spelling": (
        f"example.com dkim({ED})\nXN--bcher-kva.example dkim({ED})\n",
        ["Bücher.example"],
        ["ed25519._domainkey.xn--bcher-kva.example"],
    ),
    "asked-for-an-address": (
        f"example.com dkim({RSA})\nBoss@example.com dkim({ED})\n",
        ["boss@EXAMPLE.com"],
        ["ed25519._domainkey.example.com"],
    ),
    "pattern": (f"*@example.com dkim({ED})\n", [], ["ed25519._domainkey.example.com"]),
    "pattern-with-the-sender": (
        f"*@example.com dkim(d=$senderdomain,{ED})\n",
        [],
        ["ed25519._domainkey.example.com"],
    ),
    "pattern-of-subdomains": (f"*@*.example.com dkim({ED})\n", [], ["ed25519._domainkey.example.com"]),
    "asked-for-a-pattern": (
        f"*@example.com dkim({ED})\n*@example.org dkim({ED})\n",
        ["*@example.org"],
        ["ed25519._domainkey.example.org"],
    ),
    "asked-for-the-domain-of-patterns": (
        f"*@example.com dkim({ED})\n*@*.example.com dkim({RSA})\n*@example.org dkim({ED})\n",
        ["example.com"],
        ["ed25519._domainkey.example.com", "rsa1024._domainkey.example.com"],
    ),
    "not-asked-for-and-wrong": (
        f"example.org dkim(\nexample.net dkim(s=x,key=/x)\n. dkim({ED})\nexample.com dkim({ED})\n",
        ["example.com"],
        ["ed25519._domainkey.example.com"],
    ),
}


@pytest.mark.parametrize(("text", "arguments", "names"), NAMES.values(), ids=NAMES)
def test_names(keys: Keys, text: str, arguments: list[str], names: list[str]) -> None:
    assert list(plain(keys.senders(text), *arguments)) == names


def test_the_records_for_subdomains_can_depend_on_the_sender(keys: Keys) -> None:
    path = keys.senders(f"*@*.example.com dkim(d=$senderdomain,{ED})\n")
    words = "d=$senderdomain of *@*.example.com depends on the sender: its records have no fixed name"
    assert run("--sender-map", path).stderr.splitlines()[0] == f"dkimpipe: {path}, line 1: {words}"


def test_selector_and_key_may_stand_in_the_conf_file(keys: Keys, tmp_path: Path) -> None:
    path = keys.senders("example.com dkim\n")
    conf = tmp_path / "conf"
    conf.write_text(f"sender_map {path}\nselector s1\nkeyfile {keys.path('ed25519')}\n")
    done = run("--conf-file", conf, "--format", "plain")
    assert done.stdout.decode() == f"s1._domainkey.example.com\n{value(keys, 'ed25519')}\n"


SHA1_NOTE = "h=sha1:sha256, not sha256 alone: PATH, line 1 signs with rsa-sha1"
TAGS = {
    "hash": ("dkim", "", ["--hash", "sha256"], "h=sha256", ""),
    "service": ("dkim", "", ["--service", "email"], "s=email", ""),
    "testing": ("dkim", "", ["--testing"], "t=y", ""),
    "strict": ("dkim", "", ["--strict"], "t=s", ""),
    "testing-strict": ("dkim", "", ["--testing", "--strict"], "t=y:s", ""),
    "notes": ("dkim", "", ["--notes", 'a "b"; ü=\\'], 'n=a=20"b"=3B=20=C3=BC=3D\\', ""),
    "all": (
        "dkim",
        "",
        ["--hash=sha256", "--service=*", "--testing", "--strict", "--notes=x"],
        "h=sha256; s=*; t=y:s; n=x",
        "",
    ),
    "granularity": ("domainkeys", "", ["--granularity", "news*"], "g=news*", ""),
    "granularity-dkim": (
        "dkim",
        "",
        ["--granularity=x", "--testing"],
        "t=y",
        "g= is left out: nothing signs with DomainKeys",
    ),
    "hash-domainkeys": ("domainkeys", "", ["--hash", "sha256"], "h=sha1:sha256", SHA1_NOTE),
    "hash-both": ("domainkeys", "", ["--hash", "sha1:sha256"], "h=sha1:sha256", ""),
    "hash-rsa-sha1": ("dkim", "a=rsa-sha1,", ["--hash", "sha256"], "h=sha1:sha256", SHA1_NOTE),
    "strict-domainkeys": (
        "domainkeys",
        "",
        ["--testing", "--strict"],
        "t=y",
        "t=s is left out: PATH, line 1 is for DomainKeys",
    ),
    "strict-below": (
        "dkim",
        "i=@sub.example.com,",
        ["--testing", "--strict"],
        "t=y",
        "t=s is left out: PATH, line 1 has i= below d=",
    ),
    "strict-sender-below": (
        "dkim",
        "i=$sender,",
        ["--testing", "--strict"],
        "t=y",
        "t=s is left out: PATH, line 1 has i= below d=",
    ),
    "strict-identity": ("dkim", "i=@example.com,", ["--strict"], "t=s", ""),
}


@pytest.mark.parametrize(("type", "option", "arguments", "tags", "note"), TAGS.values(), ids=TAGS)
def test_tags(keys: Keys, type: str, option: str, arguments: list[str], tags: str, note: str) -> None:
    path = keys.senders(f"example.com {type}({option}{RSA})\n")
    done = run("--sender_map", path, "--format", "plain", *arguments)
    name = "rsa1024._domainkey.example.com"
    assert done.stdout.decode() == f"{name}\n{with_tags(keys, 'rsa1024', tags)}\n"
    assert done.stderr == (f"dkimpipe: {name}: {note}\n".replace("PATH", str(path)) if note else "")
    assert done.status == 0


def test_granularity_is_not_for_dkim(keys: Keys) -> None:
    """RFC 6376 dropped g=, but a verifier enforces it: the signatures of all others would fail."""
    path = keys.senders(f"example.com dkim({RSA}), domainkeys({RSA})\n")
    done = run("--sender_map", path, "--format", "plain", "--granularity", "news*")
    name = "rsa1024._domainkey.example.com"
    assert done.stdout.decode() == f"{name}\n{value(keys, 'rsa1024')}\n"
    why = f"{path}, line 1 is for DKIM, where Mail::DKIM enforces it"
    assert (done.status, done.stderr) == (0, f"dkimpipe: {name}: g= is left out: {why}\n")


def test_a_record_that_verifiers_would_refuse_is_told(keys: Keys) -> None:
    path = keys.senders(f"example.com dkim({ED})\n")
    done = run("--sender_map", path, "--format", "plain", "--notes", "x" * 1000)
    assert done.stderr == (
        "dkimpipe: ed25519._domainkey.example.com: more than 1024 bytes: OpenDKIM would refuse it\n"
    )
    assert done.status == 0


def test_tags_serve_the_entries_that_nobody_asked_for_too(keys: Keys) -> None:
    path = keys.senders(f"example.com dkim({RSA})\na@example.com domainkeys({RSA})\n")
    done = run("--sender_map", path, "--format", "plain", "--hash", "sha256", "--strict", "example.com")
    name = "rsa1024._domainkey.example.com"
    assert done.stdout.decode() == f"{name}\n{with_tags(keys, 'rsa1024', 'h=sha1:sha256')}\n"
    assert done.stderr == (
        f"dkimpipe: {name}: {SHA1_NOTE.replace('line 1', 'line 2')}\n"
        f"dkimpipe: {name}: t=s is left out: PATH, line 2 is for DomainKeys\n"
    ).replace("PATH", str(path))


POLICIES = {
    "policy": (["--policy", "~"], {"_domainkey.example.com": "o=~"}, ""),
    "policy-all": (["--policy", "-"], {"_domainkey.example.com": "o=-"}, ""),
    "policy-full": (
        ["--policy", "!", "--testing", "--notes", "a b", "--report", "Post <p@Example.COM>"],
        {"_domainkey.example.com": "o=!; t=y; n=a=20b; r=p@example.com"},
        "",
    ),
    "dmarc": (["--dmarc"], {"_dmarc.example.com": "v=DMARC1; p=none"}, ""),
    "dmarc-report": (
        ["--dmarc", "--report", "d+x!y@sub.example.com"],
        {"_dmarc.example.com": "v=DMARC1; p=none; rua=mailto:d+x%21y@sub.example.com"},
        "",
    ),
    "dmarc-report-elsewhere": (
        ["--dmarc", "--report", "d@example.net"],
        {"_dmarc.example.com": "v=DMARC1; p=none; rua=mailto:d@example.net"},
        "dkimpipe: example.com: DMARC reports go to example.net only if"
        " example.com._report._dmarc.example.net publishes v=DMARC1 (RFC 9990)\n",
    ),
    "dmarc-reports": (
        [
            "--dmarc",
            "--report",
            "d@example.com,e@example.com, mailto:f@b\u00fccher.example",
            "--report",
            "d@example.com",
            "--report",
            "G <g@example.com>",
        ],
        {
            "_dmarc.example.com": "v=DMARC1; p=none; rua=mailto:d@example.com,mailto:e@example.com,"
            "mailto:f@xn--bcher-kva.example,mailto:g@example.com"
        },
        "dkimpipe: example.com: DMARC reports go to xn--bcher-kva.example only if"
        " example.com._report._dmarc.xn--bcher-kva.example publishes v=DMARC1 (RFC 9990)\n",
    ),
    "dmarc-report-encoded": (
        ["--dmarc", "--report", "a%b?c#d@example.com"],
        {"_dmarc.example.com": "v=DMARC1; p=none; rua=mailto:a%25b%3Fc%23d@example.com"},
        "",
    ),
    "both": (
        ["--policy", ".", "--dmarc"],
        {"_domainkey.example.com": "o=.", "_dmarc.example.com": "v=DMARC1; p=none"},
        "",
    ),
}


@pytest.mark.parametrize(("arguments", "policies", "note"), POLICIES.values(), ids=POLICIES)
def test_policies(keys: Keys, arguments: list[str], policies: dict[str, str], note: str) -> None:
    path = keys.senders(f"example.com dkim({ED}), dkim({RSA})\n")
    done = run("--sender_map", path, "--format", "json", *arguments)
    assert {r["name"]: r["value"] for r in json.loads(done.stdout)[2:]} == policies
    assert (done.status, done.stderr) == (0, note)


# What is wrong, what stderr says, with PATH for the senders file, and the exit status.
WRONG = {
    "everybody": (
        f". dkim({ED})\n",
        "PATH, line 1: d=$keydomain of . depends on the sender: its records have no fixed name\n",
        0,
    ),
    "sender": (
        f"example.com dkim(d=$senderdomain,{ED})\n",
        "PATH, line 1: d=$senderdomain of example.com depends on the sender: "
        "its records have no fixed name\n",
        0,
    ),
    "no-domain": (
        f".example.com dkim({ED})\n",
        "PATH, line 1: no address matches .example.com\n"
        "hint: *@*.example.com matches its subdomains alone; example.com matches the whole domain\n",
        78,
    ),
    "sometimes-too-long": (
        f"{'.'.join(['a' * 62] * 4)} dkim(d=$senderdomain,{ED})\n",
        f"PATH, line 1: d=$senderdomain of {'.'.join(['a' * 62] * 4)} depends on the sender: "
        "its records have no fixed name\n",
        0,
    ),
    "two-keys": (
        f"example.com dkim({RSA})\na@example.com dkim(s=rsa1024,key=KEYS/rsa2048.pem)\n",
        "PATH, line 2: rsa1024._domainkey.example.com has another key in PATH, line 1\n"
        "hint: use a separate selector for each key\n",
        78,
    ),
    "two-types": (
        f"example.com dkim({RSA})\na@example.com\n dkim(s=rsa1024,key=KEYS/ed25519.pem)\n",
        "PATH, line 2: rsa1024._domainkey.example.com has a key for rsa, and here one for ed25519,"
        " in PATH, line 1\n"
        "hint: use a separate selector for each key\n",
        78,
    ),
    "other-algorithm": (
        f"example.com dkim(a=rsa-sha256,{ED})\n",
        "PATH, line 1: a=rsa-sha256, but key file KEYS/ed25519.pem contains an ed25519 key\n",
        78,
    ),
    "domainkeys-ed25519": (
        f"example.com domainkeys({ED})\n",
        "PATH, line 1: domainkeys: key file KEYS/ed25519.pem contains an ed25519 key, not rsa\n",
        78,
    ),
    "no-key": (
        "example.com dkim(s=x,key=KEYS/nothing)\n",
        "PATH, line 1: key file KEYS/nothing: No such file or directory\nhint: create it, or fix the path\n",
        78,
    ),
    "no-selector": ("example.com dkim(key=KEYS/x)\n", "PATH, line 1: dkim without s=\n", 78),
    "grammar": ("# x\nexample.com dkim(\n", "PATH, line 2: no closing parenthesis: 'dkim('\n", 78),
    "macro": (
        f"example.com dkim(d=$x,{ED})\n",
        "PATH, line 1: unknown macro '$x'\nhint: known macros: $sender $senderdomain $key $keydomain\n",
        78,
    ),
    "long-name": (
        f"example.com dkim(d={'.'.join(['a' * 60] * 4)},{ED})\n",
        f"PATH, line 1: ed25519._domainkey.{'.'.join(['a' * 60] * 4)} is too long for DNS\n"
        "hint: choose a shorter selector\n",
        78,
    ),
    "long-entry": (
        f"example.com {'x' * 65537}\n",
        "PATH, line 1: the entry is longer than 65536 bytes\n",
        78,
    ),
}


@pytest.mark.parametrize(("text", "words", "status"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_one_entry_stops_no_other(keys: Keys, text: str, words: str, status: int) -> None:
    path = keys.senders(f"{text}example.net dkim({ED})\n")
    done = run("--sender_map", path, "--format", "plain")
    assert done.stderr == f"dkimpipe: {words}".replace("PATH", str(path)).replace("KEYS", str(keys.directory))
    assert done.stdout.decode() == f"ed25519._domainkey.example.net\n{value(keys, 'ed25519')}\n"
    assert done.status == status


ERRORS = {name: text for name, (text, said) in FAULTS.items() if said[0].startswith("error: ")}


@pytest.mark.parametrize("text", ERRORS.values(), ids=ERRORS)
def test_no_record_for_an_entry_that_check_calls_an_error(keys: Keys, text: str) -> None:
    write_key(keys.path("open"), keys.path("rsa2048").read_bytes()).chmod(0o644)
    path = keys.senders(f"{text}\n")
    done = run("--sender_map", path, "--format", "plain")
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.startswith(f"dkimpipe: {path}, line 1: ")


NEVER_SIGNED = {
    "alone": ("example.com domainkeys(d=example.org,KEY)", ""),
    "beside one that is": ("example.com domainkeys(d=example.org,KEY), dkim(KEY)", "example.com"),
    "in another entry": (
        "example.com domainkeys(d=example.org,KEY)\nexample.org domainkeys(KEY)",
        "example.org",
    ),
}


@pytest.mark.parametrize(("text", "domain"), NEVER_SIGNED.values(), ids=NEVER_SIGNED)
def test_no_record_for_a_signature_that_is_never_made(keys: Keys, text: str, domain: str) -> None:
    path = keys.senders(text.replace("KEY", RSA) + "\n")
    done = run("--sender_map", path, "--format", "plain")
    assert f"{path}, line 1: never signed: domainkeys d=example.org does not cover from\n" in done.stderr
    names = [line for line in done.stdout.decode().splitlines() if "_domainkey" in line]
    assert names == ([f"rsa1024._domainkey.{domain}"] if domain else [])


@pytest.mark.parametrize("arguments", [(), ("example.net",)])
def test_an_entry_that_never_signs_stops_no_other_with_its_selector(
    keys: Keys, arguments: tuple[str, ...]
) -> None:
    path = keys.senders(f"example.net dkim({RSA})\nb*@example.net dkim(s=rsa1024,key=KEYS/ed25519.pem)\n")
    done = run("--sender_map", path, "--format", "plain", *arguments)
    assert done.stdout.startswith(b"rsa1024._domainkey.example.net\n")


def test_no_such_entry(keys: Keys) -> None:
    path = keys.senders(f"example.com dkim({ED})\n")
    assert run("--sender_map", path, "example.org") == (
        78,
        b"",
        f"dkimpipe: {path}: no entry for example.org\n",
    )
    words = "hint: the entry that signs for it: example.com\n"
    assert run("--sender_map", path, "a@example.com").stderr.endswith(f"no entry for a@example.com\n{words}")


# Conf file, List-Id map, names of the records, what stderr says.
SOURCES: dict[str, tuple[str, str, list[str], str]] = {
    "one domain": ("domain Example.com\n", "", ["s1._domainkey.example.com"], ""),
    "domains": (
        "domain example.com, b\u00fccher.example\nsignature dkim\nsignature domainkeys(s=s2)\n",
        "",
        [
            "s1._domainkey.example.com",
            "s2._domainkey.example.com",
            "s1._domainkey.xn--bcher-kva.example",
            "s2._domainkey.xn--bcher-kva.example",
        ],
        "",
    ),
    "signature alone": ("signature dkim(d=example.com)\n", "", ["s1._domainkey.example.com"], ""),
    "signature for each sender": (
        "signature dkim(d=example.com)\nsignature dkim(d=$senderdomain)\n",
        "",
        ["s1._domainkey.example.com"],
        "CONF, line 4: d=$senderdomain depends on the sender: its records have no fixed name\n",
    ),
    "lists": (
        "listid_map LISTS\n",
        "lists.example dkim\nnews.a.example dkim(d=a.example)\n",
        ["s1._domainkey.lists.example", "s1._domainkey.a.example"],
        "",
    ),
    "lists of one name or below it": (
        "listid_map LISTS\n",
        "news.b.example dkim\n. dkim(s=x)\nsolo dkim\nc.example dkim\n",
        ["s1._domainkey.c.example"],
        "LISTS, line 1: d=$keydomain of news.b.example depends on List-Id or sender: its records have no"
        " fixed name\n"
        "dkimpipe: LISTS, line 2: d=$keydomain of . depends on List-Id or sender: its records have no"
        " fixed name\n"
        "dkimpipe: LISTS, line 3: d=$keydomain of solo depends on List-Id or sender: its records have no"
        " fixed name\n",
    ),
    "lists, and what stands for the rest": (
        "listid_map LISTS\ndomain example.com\nsignature dkim(s=rest)\n",
        "lists.example dkim\n",
        ["s1._domainkey.lists.example", "rest._domainkey.example.com"],
        "",
    ),
}


@pytest.mark.parametrize(("conf", "lists", "names", "note"), SOURCES.values(), ids=SOURCES)
def test_conf_file_and_listid_map(keys: Keys, conf: str, lists: str, names: list[str], note: str) -> None:
    listid_map = keys.senders(lists, "listids")
    path = keys.senders(
        f"selector s1\nkeyfile KEYS/rsa1024.pem\n{conf.replace('LISTS', str(listid_map))}", "dns.conf"
    )
    done = run("--conf-file", path, "--format", "json")
    assert [each["name"] for each in json.loads(done.stdout)] == names
    said = f"dkimpipe: {note}".replace("LISTS", str(listid_map)).replace("CONF", str(path))
    assert (done.status, done.stderr) == (0, said if note else "")


def test_a_listid_map_by_option_and_key(keys: Keys) -> None:
    path = keys.senders(f"lists.example dkim({ED})\nb.example dkim({ED})\n", "listids")
    conf = keys.senders("domain example.com\nselector s\nkeyfile KEYS/ed25519.pem\n", "dns.conf")
    done = run("--conf-file", conf, "--listid-map", path, "--format", "json", "b.example")
    assert [each["name"] for each in json.loads(done.stdout)] == ["ed25519._domainkey.b.example"]


def test_an_entry_with_a_bad_signature_signs_nothing_and_has_no_record(keys: Keys) -> None:
    path = keys.senders(f"example.com arc, dkim({ED})\n")
    done = run("--sender_map", path, "--format", "json")
    assert json.loads(done.stdout) == []
    assert done.stderr.startswith(f"dkimpipe: {path}, line 1: unknown signature type: 'arc'\n")
    assert done.status == 78


def test_a_domain_that_is_none(keys: Keys) -> None:
    conf = keys.senders("domain a..b\n", "dns.conf")
    assert run("--conf-file", conf) == (78, b"", f"dkimpipe: {conf}, line 1: 'a..b' is not a valid domain\n")


def test_no_record_is_an_error(keys: Keys) -> None:
    path = keys.senders("# nothing\n")
    assert run("--sender_map", path) == (78, b"", f"dkimpipe: {path}: no records to print or publish\n")


def test_damaged_key(tmp_path: Path, keys: Keys) -> None:
    begin, text, *end = keys.path("ed25519").read_bytes().split(b"\n")
    der = base64.b64decode(text).replace(b"\x30\x2e", b"\x30\x2d", 1)  # an octet less
    der = der.replace(b"\x04\x22\x04\x20", b"\x04\x21\x04\x1f")[:-1]
    path = write_key(tmp_path / "key.pem", b"\n".join([begin, base64.b64encode(der), *end]))
    with pytest.raises(ConfigError) as error:
        publickey.public(str(path))
    assert str(error.value) == f"key file {path} is damaged: its Ed25519 key has 31 bytes, not 32"


def test_map_that_is_not_there(tmp_path: Path) -> None:
    words = f"map {tmp_path}/x: No such file or directory\nhint: create it, or fix the path\n"
    assert run("--sender_map", tmp_path / "x") == (78, b"", f"dkimpipe: {words}")


USAGE = {
    "server-alone": ["--server", "127.0.0.1"],
    "no-tsig": ["--publish", "--server", "127.0.0.1"],
    "publish-and-delete": ["--publish", "--delete", "--server", "127.0.0.1", "--tsig", "x"],
    "replace": ["--replace"],
    "delete-all": ["--delete", "--server", "127.0.0.1", "--tsig", "x"],
    "no-address-of-a-server": ["--publish", "--server", "ns.example", "--tsig", "x"],
    "no-port": ["--publish", "--server", "127.0.0.1#", "--tsig", "x"],
    "no-digit": ["--publish", "--server", "127.0.0.1#\u00b2", "--tsig", "x"],
    "port-0": ["--publish", "--server", "127.0.0.1#0", "--tsig", "x"],
    "control": ["--publish", "--server", "\x1b[2J", "--tsig", "x"],
    "large-port": ["--publish", "--server", "127.0.0.1#65536", "--tsig", "x"],
    "ttl": ["--ttl", "2147483648"],
    "timeout": ["--timeout", "0"],
    "report": ["--report", "a@example.com"],
    "no-address": ["--dmarc", "--report", "a"],
    "address-with-semicolon": ["--policy=~", "--report", '"a;b"@example.com'],
    "address-with-semicolon-without-quotes": ["--dmarc", "--report", "a;b@example.com"],
    "address-with-comma": ["--dmarc", "--report", '"a,b"@example.com'],
    "two-at-signs": ["--dmarc", "--report", "a@b@example.com"],
    "no-local-part": ["--dmarc", "--report", "@example.com"],
    "empty-address": ["--dmarc", "--report", "a@example.com,"],
    "text-behind-an-address": ["--dmarc", "--report", "<a@example.com> b"],
    "two-addresses-for-a-policy": ["--policy=~", "--report", "a@example.com,b@example.com"],
    "address-twice-for-a-policy": ["--policy=~", "--report=a@example.com", "--report=b@example.com"],
    "granularity": ["--granularity", "a;b"],
    "relative": ["--format", "json", "--relative", "example.com"],
    "no-domain": ["--relative", "a b"],
    "format": ["--format", "yaml"],
    "cname-alone": ["--cname"],
    "selectors-alone": ["--selectors", "a,b"],
    "one-selector": ["--selectors", "a", "--zone", "keys.example"],
    "cname-and-publish": [
        *("--cname", "--selectors=a,b", "--zone=keys.example"),
        *("--publish", "--server=127.0.0.1", "--tsig=x"),
    ],
    "two-ways": ["--publish-command", "x", "--server", "127.0.0.1", "--tsig", "x"],
    "relative-program": ["--publish-command", "bin/x"],
    "no-program": ["--publish-command", ""],
    "look-at-alone": ["--look-at", "127.0.0.1"],
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.status, done.stdout) == (64, b"")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dkimpipe dns: ")
    assert last.isprintable()


# Formats.

SAMPLE = [
    record.Record("s._domainkey.example.com", 'n=a"b\\c:' + "x" * 300),
    record.Record("example.org", "y"),
]
FORMATS = {
    "bind": (
        's._domainkey.example.com. 60 IN TXT ( "n=a\\"b\\\\c:' + "x" * 247 + '" "' + "x" * 53 + '" )\n'
        'example.org. 60 IN TXT ( "y" )\n'
    ),
    "plain": 's._domainkey.example.com\nn=a"b\\c:' + "x" * 300 + "\n\nexample.org\ny\n",
    "tinydns": ("'s._domainkey.example.com:n=a\"b\\134c\\072" + "x" * 300 + ":60\n'example.org:y:60\n"),
    "nsupdate": (
        "update delete s._domainkey.example.com. TXT\n"
        'update add s._domainkey.example.com. 60 TXT "n=a\\"b\\\\c:' + "x" * 247 + '" "' + "x" * 53 + '"\n'
        "send\n"
        "update delete example.org. TXT\n"
        'update add example.org. 60 TXT "y"\n'
        "send\n"
    ),
}


@pytest.mark.parametrize(("name", "text"), FORMATS.items(), ids=FORMATS)
def test_format(name: str, text: str) -> None:
    assert formats.FORMATS[name](SAMPLE, 60) == text


def test_json() -> None:
    first, second = json.loads(formats.as_json(SAMPLE, 60))
    assert second == {"name": "example.org", "ttl": 60, "type": "TXT", "value": "y", "strings": ["y"]}
    assert first["value"] == SAMPLE[0].value == "".join(first["strings"])
    assert [len(string) for string in first["strings"]] == [255, 53]


def test_tinydns_escapes_what_is_no_printable_letter() -> None:
    assert (
        formats.tinydns([record.Record("a", "\r\n\t ü\x7f")], 1) == "'a:\\015\\012\\011 \\303\\274\\177:1\n"
    )


@given(st.text(min_size=1))
def test_tinydns_line_parses_back(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    name, octets, ttl = formats.tinydns([record.Record("a.example", text)], 60).split(":")
    assert (name, ttl) == ("'a.example", "60\n")
    assert re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8)]), octets.encode()) == text.encode()


RELATIVE = {
    "below": ("example.com", "s._domainkey", "example.org."),
    "apex": ("example.org", "s._domainkey.example.com.", "@"),
    "not-a-label": ("ample.com", "s._domainkey.example.com.", "example.org."),
}


@pytest.mark.parametrize(("origin", "first", "second"), RELATIVE.values(), ids=RELATIVE)
def test_relative_names(origin: str, first: str, second: str) -> None:
    assert [line.split()[0] for line in formats.bind(SAMPLE, 60, origin).splitlines()] == [first, second]


@given(st.text(max_size=20))
def test_notes_parse_back(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    encoded = record.notes(text)
    assert re.fullmatch(r"([!-:<>-~]|=[0-9A-F]{2})*", encoded)
    assert re.sub(rb"=(..)", lambda m: bytes.fromhex(m[1].decode()), encoded.encode()) == text.encode()


# A whole senders file: each entry is what the filter finds, and no other is there.

_words = st.sampled_from(["a", "B.c", "ü", "d@e", ".", "#x", ";y", "x#y", "z;", "dkim(s=1)", ",", "ÄÖ"])
_blanks = st.sampled_from([" ", "\t", "  ", " \t", "\r", "\x0c", "\xa0"])
_map_line = st.lists(_words | _blanks, max_size=6).map("".join)
_maps = st.builds(
    lambda mark, lines, last: (mark + "".join(line + end for line, end in lines) + last).encode(),
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(_map_line, st.sampled_from(["\n", "\r\n"])), max_size=8),
    _map_line,
)


@given(_maps, st.binary(max_size=2))
def test_entries_are_what_the_filter_finds(keys: Keys, octets: bytes, junk: bytes) -> None:
    path = keys.directory / "map"
    path.write_bytes(octets + junk)
    last = {to_lower(_octets(line.key)): line for line in entries.entries(str(path))}
    for key, line in last.items():
        if not line.key.strip():
            continue  # U+00A0 and the like: no address has such a key
        entry = senders.lookup(str(path), [key])
        assert entry is not None
        assert (entry.text.split(), str(entry.place)) == (line.text.split(), str(line.place))
    first_words = re.findall(rb"(?:^|\n)(?:\xef\xbb\xbf)?([^ \t\r\n]+)", octets + junk)
    for key in map(to_lower, first_words):
        if key not in last and key.decode("utf-8", "replace").strip():
            assert senders.lookup(str(path), [key]) is None


def test_a_map_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="map /proc/self/mem: Input/output error"):
        list(entries.entries("/proc/self/mem"))


def test_a_key_that_is_no_text(tmp_path: Path, keys: Keys) -> None:
    item = f"dkim({ED})".replace("KEYS", str(keys.directory)).encode()
    path = tmp_path / "map"
    path.write_bytes(b"\xff.example %b\nexample.net %b\n" % (item, item))
    done = run("--sender_map", path, "--format", "plain")
    assert done.stderr == f"dkimpipe: {path}, line 1: no address matches \\udcff.example\n"
    assert done.stdout.decode() == f"ed25519._domainkey.example.net\n{value(keys, 'ed25519')}\n"


def test_a_record_without_wishes(keys: Keys) -> None:
    line = record.zone_line("a.example", publickey.record_value(str(keys.path("ed25519"))))
    assert line == f'a.example. IN TXT ( "{value(keys, "ed25519")}" )'


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
