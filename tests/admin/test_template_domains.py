"""Entries with macros in key=: the verbs know their domains from the key files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checking import verb
from conftest import Keys, settled, write_key
from recording import run, value
from rolling import START, House, Zone
from rolling import zone as zone  # a fixture

from dkimpipe.admin.maps import configured
from dkimpipe.admin.maps.expansion import expanded
from dkimpipe.config import read_command_line


class Place:
    """A senders file and key files: ``DIR`` in the senders file is their directory."""

    def __init__(self, directory: Path, keys: Keys) -> None:
        self.keys = keys
        self.directory = directory / "keys"
        self.directory.mkdir()
        self.senders = directory / "senders"

    def add(self, *names: str, key: str = "ed25519") -> None:
        for name in names:
            path = self.directory / name
            path.parent.mkdir(exist_ok=True)
            write_key(path, self.keys.path(key).read_bytes())

    def write(self, text: str) -> None:
        self.senders.write_text(text.replace("DIR", str(self.directory)) + "\n")
        settled(self.senders)

    def shown(self, text: str) -> str:
        return text.replace(str(self.directory), "DIR").replace(str(self.senders), "SENDERS")


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Place:
    return Place(tmp_path, keys)


ALL = ". dkim(s=mail,key=DIR/$keydomain.$selector.pem)"
BOTH = f"{ALL}, dkim(s=ed,key=DIR/$keydomain/$selector.pem)"

# Senders file, key files, the domains with the selectors of which records are printed.
KNOWN: dict[str, tuple[str, list[str], list[str]]] = {
    "all senders": (ALL, ["a.example.mail.pem", "b.example.mail.pem"], ["mail a.example", "mail b.example"]),
    "directories": (
        ". dkim(s=mail,key=DIR/$keydomain/mail.private)",
        ["a.example/mail.private", "b.example/mail.private", "c.example/other.private"],
        ["mail a.example", "mail b.example"],
    ),
    "directories with selectors": (
        ". dkim(s=mail,key=DIR/$keydomain/$selector/key)",
        ["a.example/x", "b.example.mail.pem"],
        [],
    ),
    "another selector": (ALL, ["a.example.mail.pem", "a.example.old.pem"], ["mail a.example"]),
    "selector by domain": (
        ". dkim(s=m-$keydomain,key=DIR/$selector.pem)",
        ["m-a.example.pem", "x-a.example.pem"],
        ["m-a.example a.example"],
    ),
    "two signatures": (
        BOTH,
        ["a.example.mail.pem", "b.example.mail.pem", "b.example/ed.pem", "c.example/ed.pem"],
        ["mail a.example", "mail b.example", "ed b.example", "ed c.example"],
    ),
    "beside a fixed one": (
        ". dkim(d=host.example,s=fix,key=DIR/fix.pem), dkim(s=mail,key=DIR/$key.$selector.pem)",
        ["fix.pem", "a.example.mail.pem"],
        ["fix host.example", "mail a.example"],
    ),
    "subdomains with their own": (
        "a.example dkim(d=$senderdomain,s=mail,key=DIR/$senderdomain.pem)",
        ["a.example.pem", "x.a.example.pem", "b.example.pem", "xa.example.pem"],
        ["mail a.example", "mail x.a.example"],
    ),
    "subdomains with the parent's d=": (
        "a.example dkim(s=$senderdomain,key=DIR/$selector.pem)",
        ["a.example.pem", "x.a.example.pem"],
        ["a.example a.example", "x.a.example a.example"],
    ),
    "subdomains alone": (
        "*@*.a.example dkim(d=$senderdomain,s=mail,key=DIR/$senderdomain.pem)",
        ["a.example.pem", "x.a.example.pem", "y.x.a.example.pem"],
        ["mail x.a.example", "mail y.x.a.example"],
    ),
    "a fixed key": (
        "a.example dkim(s=mail,key=DIR/$keydomain.$selector.pem)",
        ["a.example.mail.pem", "b.example.mail.pem"],
        ["mail a.example"],
    ),
    "more specific entries": (
        f"{ALL}\na.example dkim(s=own,key=DIR/own.pem)\n*@b.example dkim(s=own,key=DIR/own.pem)\n"
        "u@c.example dkim(s=own,key=DIR/own.pem)\n*@*.d.example dkim(d=d.example,s=own,key=DIR/own.pem)",
        [
            "own.pem",
            *(f"{each}.example.mail.pem" for each in ("a", "b", "c", "d", "x.a", "x.b", "x.d")),
        ],
        [
            *("own a.example", "own b.example", "own c.example", "own d.example"),
            *("mail c.example", "mail d.example", "mail x.b.example"),
        ],
    ),
    "names that are no domains": (
        ALL,
        [
            "A.example.mail.pem",
            "b\u00fccher.example.mail.pem",
            ".c.example.mail.pem",
            "d_.mail.pem",
            "e.mail.pem",
        ],
        ["mail e"],
    ),
    "nothing": (ALL, [], []),
}


@pytest.mark.parametrize(("text", "names", "expected"), KNOWN.values(), ids=KNOWN)
def test_records_of_the_domains_with_a_key(
    place: Place, text: str, names: list[str], expected: list[str]
) -> None:
    place.add(*names)
    place.write(text)
    printed = run("--sender_map", place.senders, "--format", "plain").stdout.decode()
    owners = [line for line in printed.splitlines() if "._domainkey." in line]
    assert owners == [f"{s}._domainkey.{d}" for s, d in map(str.split, expected)]
    for owner, line in zip(owners, expected):
        selector, domain = line.split()
        assert owner == f"{selector}._domainkey.{domain}"


@pytest.mark.parametrize("asked", ["b.example", "B.example"])
def test_one_domain_of_many(place: Place, asked: str) -> None:
    place.add("a.example.mail.pem", "b.example.mail.pem")
    place.write(ALL)
    done = run("--sender_map", place.senders, "--format", "plain", asked)
    assert done.stdout.decode() == f"mail._domainkey.b.example\n{value(place.keys, 'ed25519')}\n"
    assert done.stderr == ""


def test_a_domain_without_a_key(place: Place) -> None:
    place.add("a.example.mail.pem")
    place.write(ALL)
    done = run("--sender_map", place.senders, "b.example")
    assert place.shown(done.stderr).startswith("dkimpipe: SENDERS: no entry for b.example\n")


def test_no_domain_at_all(place: Place) -> None:
    place.write(ALL)
    done = run("--sender_map", place.senders)
    assert place.shown(done.stderr).splitlines() == [
        "dkimpipe: SENDERS, line 1: there is no key file DIR/*.mail.pem",
        "dkimpipe: SENDERS: no records to print or publish",
    ]


# Senders file, key files, what check finds.
CHECKED: dict[str, tuple[str, list[str], list[str]]] = {
    "good": (
        ALL,
        ["a.example.mail.pem", "b.example.mail.pem"],
        ["SENDERS and 2 signatures are good; DNS was not checked"],
    ),
    "good, of one kind": (
        BOTH,
        ["a.example.mail.pem", "b.example/ed.pem"],
        ["SENDERS and 2 signatures are good; DNS was not checked"],
    ),
    "no key": (
        ALL,
        ["a.example.old.pem"],
        [
            "warning: SENDERS, line 1: there is no key file DIR/*.mail.pem",
            "hint: # create one for each domain: dkimpipe genkey",
        ],
    ),
    "no directory": (
        ALL.replace("DIR", "DIR/none"),
        [],
        [
            "error: SENDERS, line 1: key directory DIR/none/: No such file or directory",
            "hint: # create it, or fix the path",
        ],
    ),
    "upper case": (
        ALL,
        ["A.example.mail.pem"],
        [
            "warning: SENDERS, line 1: no domain has the key file DIR/A.example.mail.pem",
            "hint: # write a.example in its name",
        ],
    ),
    "U-labels": (
        ALL,
        ["b\u00fccher.example.mail.pem"],
        [
            "warning: SENDERS, line 1: no domain has the key file DIR/b\u00fccher.example.mail.pem",
            "hint: # write xn--bcher-kva.example in its name",
        ],
    ),
    "underscore": (
        ALL,
        ["a_.example.mail.pem"],
        ["warning: SENDERS, line 1: no domain has the key file DIR/a_.example.mail.pem"],
    ),
    "unknown macro": (
        ". dkim(s=mail,key=DIR/$domain.pem)",
        [],
        [
            "error: SENDERS, line 1: unknown macro '$domain'",
            "hint: # known macros: $key $keydomain $senderdomain $selector",
        ],
    ),
    "braces": (
        ". dkim(s=mail,key=DIR/${keydomain}.pem)",
        [],
        [
            "error: SENDERS, line 1: macros have no braces: '${keydomain}'",
            "hint: # known macros: $key $keydomain $senderdomain $selector",
        ],
    ),
    "braces that do not close": (
        "example.com dkim(d=${keydomain,s=mail,key=DIR/a.pem)",
        [],
        [
            "error: SENDERS, line 1: macros have no braces: '${keydomain}'",
            "hint: # known macros: $sender $senderdomain $key $keydomain",
        ],
    ),
    "percent signs": (
        "example.com dkim(s=mail,key=DIR/%d.pem)",
        [],
        [
            "error: SENDERS, line 1: key file DIR/%d.pem: No such file or directory",
            "hint: # macros begin with a dollar sign: $key $keydomain $senderdomain $selector",
        ],
    ),
    "percent sign and braces": (
        "example.com dkim(s=mail,key=DIR/%{domain}.pem)",
        [],
        [
            "error: SENDERS, line 1: key file DIR/%{domain}.pem: No such file or directory",
            "hint: # macros begin with a dollar sign: $key $keydomain $senderdomain $selector",
        ],
    ),
    **{
        f"macro of another program, {macro}": (
            f"example.com dkim(s=mail,key=DIR/{macro}.pem)",
            [],
            [
                f"error: SENDERS, line 1: key file DIR/{macro}.pem: No such file or directory",
                "hint: # macros begin with a dollar sign: $key $keydomain $senderdomain $selector",
            ],
        )
        for macro in ("{domain}", "{{domain}}", "<domain>", "[domain]", "@DOMAIN@", "DOMAIN", "*")
    },
    "no macro": (
        "example.com dkim(s=mail,key=DIR/my-domain@mx.pem)",
        [],
        [
            "error: SENDERS, line 1: key file DIR/my-domain@mx.pem: No such file or directory",
            "hint: # create it, or fix the path",
        ],
    ),
    "a percent sign in the name of a file": (
        "example.com dkim(s=mail,key=DIR/%d.pem)",
        ["%d.pem"],
        ["SENDERS and 1 signature is good; DNS was not checked"],
    ),
    "selector of another key": (
        f"{ALL}, dkim(s=mail,key=DIR/$keydomain/key)",
        ["a.example.mail.pem", "a.example/key"],
        ["SENDERS and 2 signatures are good; DNS was not checked"],
    ),
}


@pytest.mark.parametrize(("text", "names", "expected"), CHECKED.values(), ids=CHECKED)
def test_check(place: Place, text: str, names: list[str], expected: list[str]) -> None:
    place.add(*names)
    place.write(text)
    done = verb(f"--sender_map={place.senders}")
    assert done.stderr == ""
    said = place.shown(done.stdout.decode()).replace("dkimpipe: ", "").splitlines()
    assert said == expected
    assert done.status == (78 if said[0].startswith("error") else 0)


def test_check_names_each_bad_key(place: Place) -> None:
    place.add("a.example.mail.pem", "b.example.mail.pem", "c.example.mail.pem")
    (place.directory / "b.example.mail.pem").chmod(0o644)
    (place.directory / "d.example.mail.pem").symlink_to("a.example.mail.pem")
    place.write(ALL)
    said = place.shown(verb(f"--sender_map={place.senders}").stdout.decode()).splitlines()
    assert said == [
        "dkimpipe: error: SENDERS, line 1: key file DIR/b.example.mail.pem is readable by others (mode 0644)",
        "hint: chmod 0640 DIR/b.example.mail.pem",
        "dkimpipe: error: SENDERS, line 1: key file DIR/d.example.mail.pem: not a regular file",
        "hint: # name the file itself: DIR/a.example.mail.pem",
    ]


def test_check_names_a_link_to_a_directory(place: Place) -> None:
    place.add("a.example/mail.pem")
    (place.directory / "b.example").symlink_to("a.example")
    place.write(". dkim(s=mail,key=DIR/$keydomain/mail.pem)")
    done = verb(f"--sender_map={place.senders}")
    assert place.shown(done.stdout.decode()).splitlines() == [
        "dkimpipe: error: SENDERS, line 1: key directory DIR/b.example: Not a directory",
    ]


def test_explain_names_the_file(place: Place) -> None:
    place.add("a.example.mail.pem")
    place.write(ALL)
    said = {
        domain: place.shown(
            verb(f"--sender_map={place.senders}", f"x@{domain}", name="explain").stdout.decode()
        )
        for domain in ("a.example", "b.example")
    }
    assert "           key file DIR/a.example.mail.pem: ed25519, 256 bits\n" in said["a.example"]
    assert said["b.example"].splitlines()[-2:] == [
        "dkim:      no key for b.example, which would be DIR/b.example.mail.pem",
        "result:    not signed: no key for b.example; from=x@b.example",
    ]


MACROS = "s= or key= has macros: one line, but many keys"


def test_rotate_leaves_the_line_alone_and_says_so(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    text = ". dkim(s=mail,key=KEYS/$keydomain.$selector.pem)\nexample.org dkim(s=$key,key=KEYS/rsa1024.pem)\n"
    house = House(tmp_path, keys, text, zone.look_at)
    write_key(tmp_path / "example.com.mail.pem", keys.path("ed25519").read_bytes())
    before = house.senders.read_bytes()
    assert house.said(START, "--now") == ""
    assert house.said(START, "--now", "--dry-run") == "".join(
        f"never       KEYS/senders, line {number}: {MACROS}\n" for number in (1, 2)
    )
    done = house.rotate(START, "--now", "example.com")
    assert (done.status, done.stderr.splitlines()) == (
        78,
        [
            "dkimpipe: KEYS/senders: no signature for example.com that can be rotated",
            f"KEYS/senders, line 1: {MACROS}",
            f"KEYS/senders, line 2: {MACROS}",
        ],
    )
    assert house.senders.read_bytes() == before


def test_rotate_keeps_the_records_that_macros_need(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """A line for one domain gives way to one for all, with the same key: its record is still needed."""
    line = "example.com dkim(s=mail,key=KEYS/example.com.mail.pem)\n"
    house = House(tmp_path, keys, line, zone.look_at)
    write_key(tmp_path / "example.com.mail.pem", keys.path("ed25519").read_bytes())
    zone.records["mail._domainkey.example.com"] = keys.records["ed25519._domainkey.example.com"]
    os.utime(tmp_path / "example.com.mail.pem", (START, START))
    house.said(START)
    assert house.states == {"mail": "active"}
    house.senders.write_text(f". dkim(s=mail,key={tmp_path}/$keydomain.$selector.pem)\n")
    assert "no longer signs" in house.said(START + 1)
    assert "delete" not in house.said(START + 100 * 86400)


def test_100_000_domains(place: Place) -> None:
    """Each is listed once."""
    for number in range(100_000):
        (place.directory / f"d{number}.example.mail.pem").touch()
    place.write(ALL)
    settings = read_command_line([f"--sender_map={place.senders}"])
    found = expanded(configured.lines(settings), settings)
    assert sorted(line.only[0] for line in found if line.only) == sorted(
        f"d{number}.example".encode() for number in range(100_000)
    )
