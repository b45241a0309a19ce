"""Patterns as keys of the senders file: which sender each of them matches, and which key wins."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dkimpipe import senders
from dkimpipe.address import Mailbox
from dkimpipe.admin.maps import index
from dkimpipe.choose import choose, lookup_keys
from dkimpipe.config import read_settings
from dkimpipe.errors import NotSigned
from dkimpipe.message import Message


def matched(path: Path, sender: str) -> tuple[str, str] | None:
    """Return the key that matches a sender, and d= of its signature."""
    message = Message(io.BytesIO(f"From: {sender}\n\n".encode()).read)
    settings = read_settings([f"--sender_map={path}", "--selector=mail", "--keyfile=/key.pem"])
    try:
        choice = choose(message, settings)
    except NotSigned:
        return None
    return choice.match.key.decode(), choice.signatures[0].domain.decode()


ALL = """\
.                          dkim
com                        dkim
*@*.com                    dkim
example.com                dkim
*@*.example.com            dkim
mail.example.com           dkim
*@mail.example.com         dkim
alice@mail.example.com     dkim
alice+x@mail.example.com   dkim
"""
MAIL = ("mail.example.com", "mail.example.com")

# Keys that are left out of ALL, the sender, the key that matches, d=.
ORDER: dict[str, tuple[int, str, tuple[str, str] | None]] = {
    "address with extension": (0, "alice+x@mail.example.com", ("alice+x@mail.example.com", MAIL[0])),
    "address": (1, "alice+x@mail.example.com", ("alice@mail.example.com", MAIL[0])),
    "every address in a domain": (2, "alice+x@mail.example.com", ("*@mail.example.com", MAIL[0])),
    "domain": (3, "alice+x@mail.example.com", MAIL),
    "subdomains": (4, "alice+x@mail.example.com", ("*@*.example.com", "example.com")),
    "parent": (5, "alice+x@mail.example.com", ("example.com", "example.com")),
    "subdomains of the parent's parent": (6, "alice+x@mail.example.com", ("*@*.com", "com")),
    "parent's parent": (7, "alice+x@mail.example.com", ("com", "com")),
    "every sender": (8, "alice+x@mail.example.com", (".", MAIL[0])),
    "nothing": (9, "alice+x@mail.example.com", None),
}


@pytest.mark.parametrize(("without", "sender", "expected"), ORDER.values(), ids=ORDER)
@pytest.mark.parametrize("turn", [list, reversed], ids=["as-listed", "reversed"])
def test_the_most_particular_key_wins(
    tmp_path: Path, turn: Callable[[list[str]], list[str]], without: int, sender: str, expected: object
) -> None:
    """Wherever its line is."""
    lines = ALL.splitlines(keepends=True)
    path = tmp_path / "map"
    path.write_text("# a comment\n" + "".join(turn(lines[: len(lines) - without])))
    assert matched(path, sender) == expected


# Key, sender, whether it matches.
MATCHES = {
    "in the domain": ("*@example.com", "a@example.com", True),
    "in a subdomain": ("*@example.com", "a@b.example.com", False),
    "in the parent": ("*@example.com", "a@com", False),
    "ends alike": ("*@example.com", "a@badexample.com", False),
    "extension": ("*@example.com", "a+b@example.com", True),
    "quoted": ("*@example.com", '"a b"@example.com', True),
    "asterisk as local part": ("*@example.com", "*@example.com", True),
    "any case": ("*@Example.COM", "A@EXAMPLE.com", True),
    "U-labels in the map": ("*@Bücher.example", "a@xn--bcher-kva.example", True),
    "A-labels in the map": ("*@XN--bcher-kva.example", "a@BÜCHER.example", True),
    "subdomain": ("*@*.example.com", "a@b.example.com", True),
    "subdomain of a subdomain": ("*@*.example.com", "a@c.b.example.com", True),
    "not the domain itself": ("*@*.example.com", "a@example.com", False),
    "subdomain that ends alike": ("*@*.example.com", "a@b.badexample.com", False),
    "subdomain in any case": ("*@*.EXAMPLE.com", "a@B.example.COM", True),
    "subdomain, U-labels in the map": ("*@*.bücher.example", "a@b.xn--bcher-kva.example", True),
    "subdomain, A-labels in the map": ("*@*.xn--bcher-kva.example", "a@b.bücher.example", True),
    "subdomain with U-labels": ("*@*.example.com", "a@bücher.example.com", True),
    "asterisk as subdomain": ("*@*.example.com", "a@*.example.com", False),
    "no pattern of addresses": ("a*@example.com", "ab@example.com", False),
    "no pattern of domains": ("a@*.example.com", "a@b.example.com", False),
    "no pattern within a label": ("*@b*.example.com", "a@bc.example.com", False),
}


@pytest.mark.parametrize(("key", "sender", "expected"), MATCHES.values(), ids=MATCHES)
def test_what_a_pattern_matches(tmp_path: Path, key: str, sender: str, expected: bool) -> None:
    path = tmp_path / "map"
    path.write_text(f"{key} dkim(d=example.org)\n")
    assert (matched(path, sender) is not None) == expected


def test_a_pattern_is_found_wherever_it_is_and_with_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with a search in all lines, for maps of many chunks, of all kinds of keys."""
    monkeypatch.setattr(index, "_SETTLED", 0)
    chance = random.Random(17)
    labels = ["a", "b", "c", "example"]
    found = set()
    for number in range(12):
        keys = []
        for _ in range(6):
            domain = ".".join(chance.choices(labels, k=chance.randrange(1, 4)))
            keys.append(chance.choice(["*@", "*@*.", "", "a@", "*."]) + domain)
        others = [f"*@*.{n}.other dkim(s=x,key=/x)\n" if n % 3 else f"{n}.other dkim\n" for n in range(9000)]
        lines = others + [f"{key} dkim(s=mail,key=/key)\n" for key in dict.fromkeys(keys)]
        chance.shuffle(lines)
        path = tmp_path / f"map{number}"
        path.write_text("".join(lines))
        for indexed in (False, True):
            monkeypatch.setattr(senders, "LONG_MAP", 0 if indexed else 1 << 40)
            if indexed:
                index.make(str(path))
            for _ in range(40):
                mailbox = Mailbox(b"a", ".".join(chance.choices(labels, k=chance.randrange(1, 5))).encode())
                looked_up = lookup_keys(mailbox)
                expected = next((key for key in looked_up if key.decode() in keys), None)
                entry = senders.lookup(str(path), looked_up)
                assert (entry.key if entry else None) == expected, (keys, mailbox.domain)
                if entry and b"*" in entry.key:
                    found.add((indexed, b"*@*." in entry.key))
    assert found == {(False, False), (False, True), (True, False), (True, True)}
