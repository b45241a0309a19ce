"""login= and envelope= in an entry: who may have its signatures, and who may not."""

from __future__ import annotations

import re

import pytest
from commandline import ENVIRONMENTS, FROM, Place, Word, assert_deferred, is_signed, run
from conftest import MESSAGE, Keys

# Who may have a signature

SIGNED = "signed d=example.com s=rsa2048 a=rsa-sha256"


def refused(what: str, who: str) -> str:
    return f"not signed: {what} '{who}' may not use SENDERS, line 1"


# Options of a signature, options of the filter, and what it says.
WHO: dict[str, tuple[Word, list[Word], str]] = {
    "the one": ("login=alice", ["--login=alice"], SIGNED),
    "the one, in two words": ("login=alice", ["--login", "alice"], SIGNED),
    "one of several": ("login=bob: alice :carol", ["--login=alice"], SIGNED),
    "another": ("login=alice", ["--login=bob"], refused("login", "bob")),
    "nobody": ("login=alice", ["--login="], refused("login", "")),
    "nobody, in two words": ("login=alice", ["--login", ""], refused("login", "")),
    "anybody": ("login=*", ["--login=bob"], SIGNED),
    "anybody, but nobody logged in": ("login=*", ["--login="], refused("login", "")),
    "anybody among others": ("login=alice:*", ["--login=bob"], SIGNED),
    "anybody, by that name": ("login=alice", ["--login=*"], refused("login", "*")),
    "no patterns": ("login=*@example.com", ["--login=a@example.com"], refused("login", "a@example.com")),
    "part of it": ("login=alice", ["--login=alic"], refused("login", "alic")),
    "more than it": ("login=alice", ["--login=alice@example.com"], refused("login", "alice@example.com")),
    "another case": ("login=alice", ["--login=Alice"], refused("login", "Alice")),
    "a blank behind": ("login=alice", ["--login=alice "], refused("login", "alice ")),
    "a blank within": ("login=a b", ["--login=a b"], SIGNED),
    "both of them": ("login=alice:bob", ["--login=alice:bob"], refused("login", "alice:bob")),
    "a hyphen": ("login=alice", ["--login=-f"], refused("login", "-f")),
    "an option": ("login=alice", ["--login=--sender_map=/x"], refused("login", "--sender_map=/x")),
    "commas and parentheses": ("login=alice", ["--login=x),dkim(s=a"], refused("login", "x),dkim(s=a")),
    "parentheses that are there": ("login=a(1)", ["--login=a(1)"], SIGNED),
    "a line": ("login=alice", ["--login=alice\ndkimpipe: x"], refused("login", r"alice\ndkimpipe: x")),
    "controls": ("login=alice", ["--login=\x1b[2J\x07\u2028"], refused("login", r"\x1b[2J\x07\u2028")),
    "octets": (b"login=a\xff", [b"--login=a\xff"], SIGNED),
    "other octets": (b"login=a\xff", [b"--login=a\xfe"], refused("login", r"a\xfe")),
    "another form of a letter": ("login=\u00e9", ["--login=e\u0301"], refused("login", "e\u0301")),
    "10 KB": ("login=alice", ["--login=" + "x" * 10240], refused("login", "x" * 64 + "...")),
    "the last login": ("login=alice", ["--login=alice", "--login=bob"], refused("login", "bob")),
    "an address": ("envelope=a@example.com", ["-f", "a@example.com"], SIGNED),
    "at a domain": ("envelope=@example.com", ["-f", "a@example.com"], SIGNED),
    "a domain": ("envelope=example.net:example.com", ["-f", "a@example.com"], SIGNED),
    "a domain in another case": ("envelope=example.COM", ["-f", "a@Example.com"], SIGNED),
    "an IDN": ("envelope=b\u00fccher.example", ["-f", "a@xn--bcher-kva.example"], SIGNED),
    "any sender": ("envelope=*", ["-f", "a@example.net"], SIGNED),
    "the null sender": ("envelope=*:example.com", ["-f", ""], refused("envelope sender", "")),
    "another address": (
        "envelope=a@example.com",
        ["-f", "b@example.com"],
        refused("envelope sender", "b@example.com"),
    ),
    "a local part in another case": (
        "envelope=a@example.com",
        ["-f", "A@example.com"],
        refused("envelope sender", "A@example.com"),
    ),
    "an extension": (
        "envelope=a@example.com",
        ["-f", "a+b@example.com"],
        refused("envelope sender", "a+b@example.com"),
    ),
    "a subdomain": (
        "envelope=example.com",
        ["-f", "a@x.example.com"],
        refused("envelope sender", "a@x.example.com"),
    ),
    "the end of a domain": (
        "envelope=example.com",
        ["-f", "a@notexample.com"],
        refused("envelope sender", "a@notexample.com"),
    ),
    "no domain": ("envelope=example.com", ["-f", "example.com"], refused("envelope sender", "example.com")),
    "two at signs": (
        "envelope=a@example.com",
        ["-f", "a@example.com@example.net"],
        refused("envelope sender", "a@example.com@example.net"),
    ),
    "quoted": (
        "envelope=a@example.com",
        ["-f", '"<a@example.com>"@example.net'],
        refused("envelope sender", '"<a@example.com>"@example.net'),
    ),
    "full width": (
        "envelope=example.com",
        ["-f", "a@\uff45xample.com"],
        refused("envelope sender", "a@\uff45xample.com"),
    ),
    "Kelvin": (
        "envelope=kelvin.example",
        ["-f", "a@\u212aelvin.example"],
        refused("envelope sender", "a@\u212aelvin.example"),
    ),
    "both": ("login=alice,envelope=example.com", ["--login=alice", "-f", "a@example.com"], SIGNED),
    "one of both": (
        "login=alice,envelope=example.com",
        ["--login=alice", "-f", "a@example.net"],
        refused("envelope sender", "a@example.net"),
    ),
    "the other": (
        "login=alice,envelope=example.com",
        ["--login=", "-f", "a@example.com"],
        refused("login", ""),
    ),
}


def for_whom(place: Place, keys: Keys, options: Word) -> str:
    """Write a senders file whose entry for an address is only for some, and that for the domain for all."""
    key = str(keys.path("rsa2048")).encode()
    octets = options.encode() if isinstance(options, str) else options
    place.senders.write_bytes(
        b"alice@example.com dkim(s=rsa2048,key=%s,%s)\nexample.com dkim(s=all,key=%s)\n" % (key, octets, key)
    )
    return str(place.senders)


@pytest.mark.parametrize(("options", "arguments", "said"), WHO.values(), ids=WHO)
@pytest.mark.parametrize("environment", [{}, ENVIRONMENTS["ASCII"]], ids=["empty", "ASCII"])
def test_who_may_have_a_signature(
    place: Place,
    keys: Keys,
    options: Word,
    arguments: list[Word],
    said: str,
    environment: dict[str, str],
) -> None:
    """Nobody else gets it, nor that of the domain in its place."""
    path = for_whom(place, keys, options)
    done = run(f"--sender_map={path}", *arguments, env=environment)
    said = said.replace("SENDERS", path)
    assert (done.status, done.stderr) == (0, f"dkimpipe: {said}; {FROM}\n")
    assert is_signed(done.stdout) if said.startswith("signed") else done.stdout == MESSAGE


NOT_TOLD = {
    "login": (
        "login=alice:*",
        ["-f", "alice@example.com"],
        "login= is set, but no --login was given\nhint: add --login=${sasl_username} to argv in master.cf\n",
    ),
    "envelope": (
        "envelope=*",
        ["--login=alice"],
        "envelope= is set, but no -f SENDER was given\n"
        "hint: in master.cf: argv=... -f ${sender} -- ${recipient}\n",
    ),
}


@pytest.mark.parametrize(("options", "arguments", "fault"), NOT_TOLD.values(), ids=NOT_TOLD)
def test_who_is_not_told_who_sends_defers(
    place: Place, keys: Keys, options: str, arguments: list[str], fault: str
) -> None:
    path = for_whom(place, keys, options)
    done = run(f"--sender_map={path}", *arguments)
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {path}, line 1: {fault}"


def test_the_conf_file_knows_no_login(place: Place) -> None:
    conf = place.file("conf", b"login alice\n")
    done = run(f"--sender_map={place.senders}", f"--conf_file={conf}")
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {conf}, line 1: unknown directive: 'login alice'\n"


def test_what_another_may_not_have_is_left_out(place: Place, keys: Keys) -> None:
    """Its key is not even read; the other signatures of the entry are made."""
    path = for_whom(place, keys, "login=bob),dkim(s=a,login=carol,key=/none),dkim(s=b,login=bob,key=/none")
    done = run(f"--sender_map={path}", "--login=bob")
    assert_deferred(done, f"4.3.5 dkimpipe: {path}, line 1: key file /none: No such file or directory\n")
    path = for_whom(
        place, keys, "login=alice:bob),dkim(s=a,login=carol,key=/none),dkim(s=b,login=dave,key=/none"
    )
    done = run(f"--sender_map={path}", "--login=bob")
    said = f"{SIGNED}; {refused('login', 'bob').replace('SENDERS', path)}; {FROM}"
    assert (done.status, done.stderr) == (0, f"dkimpipe: {said}\n")
    assert is_signed(done.stdout)


ELSEWHERE = {
    "Sender has an entry for all": (
        b"alice@example.com dkim(login=alice)\neve@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n",
        ["--sender_map=SENDERS"],
    ),
    "everybody has one": (
        b"alice@example.com dkim(login=alice)\n. dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n",
        ["--sender_map=SENDERS", "--domain=example.com"],
    ),
    "the List-Id map": (b"example.com dkim(login=alice)\n", ["--listid_map=SENDERS", "--domain=example.com"]),
    "the command line": (
        b"",
        ["--domain=example.com", "--signature=dkim(login=alice,s=rsa2048,key=KEYS/rsa2048.pem)"],
    ),
}


@pytest.mark.parametrize(("senders", "options"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_nothing_else_signs_for_whom_the_entry_is_not(
    place: Place, keys: Keys, senders: bytes, options: list[str]
) -> None:
    directory = str(keys.directory)
    path = place.file("elsewhere", senders.replace(b"KEYS", directory.encode()))
    words = [each.replace("SENDERS", str(path)).replace("KEYS", directory) for each in options]
    message = b"Sender: eve@example.com\nList-Id: <l.example.com>\n" + MESSAGE
    done = run(*words, "--login=eve", message=message)
    where = "command line" if "--sender_map=SENDERS" not in options and not senders else f"{path}, line 1"
    assert (done.status, done.stderr) == (
        0,
        f"dkimpipe: not signed: login 'eve' may not use {where}; {FROM}\n",
    )
    assert done.stdout == message


# What alice, who may be herself alone, writes into From to be taken for bob.
DISGUISES = (
    "bob@example.com",
    "BOB@EXAMPLE.COM",
    "Alice <bob@example.com>",
    '"bob"@example.com',
    '"b\\ob"@example.com',
    "bob(alice)@example.com (alice@example.com)",
    "bob @ example . com",
    "bob@example.com.",
    "bob+alice@example.com",
    '"bob+ alice"@example.com',
    "<bob@example.com> <alice@example.com>",
    "<alice@example.com> <bob@example.com>",
    "<alice@example.com> bob@example.com",
    "bob@example.com <alice@example.com>",
    "alice@example.com, bob@example.com",
    "Team: alice@example.com, bob@example.com;",
    "bob@\uff45xample.com",
)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_nobody_is_taken_for_another(place: Place, keys: Keys, disguise: str) -> None:
    names = ("bob", "alice")
    entry = "%s@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=%s)\n"
    text = "".join([entry % (name, name) for name in names]) + entry.replace("%s@", "") % "*"
    path = place.file("for-each", text.replace("KEYS", str(keys.directory)).encode())
    message = MESSAGE.replace(b"Alice <alice@example.com>", disguise.encode())
    assert message != MESSAGE
    done = run("--sender_map", str(path), "--login=alice", message=message)
    assert (done.status, done.stdout) == (0, message)
    assert re.match(
        r"dkimpipe: not signed: (login 'alice'|more than one address in From|no address in)", done.stderr
    )
