"""The senders file: looking keys up, the place of an entry, and the grammar of its list of signatures."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkimpipe.errors import ConfigError
from dkimpipe.files import Place
from dkimpipe.senders import Entry, lookup, parse, physical_lines

CHUNK = 262144  # a multiple of what the lookup reads at once
LONGEST_ENTRY = 65536


def write_map(directory: Path, octets: bytes) -> str:
    """Write a map and return its path."""
    path = directory / "map"
    path.write_bytes(octets)
    return str(path)


def look_up(directory: Path, octets: bytes, *keys: bytes) -> tuple[bytes, str, int] | None:
    """Return key, text (runs of blanks as one) and line number of what is found in a map of these octets."""
    path = write_map(directory, octets)
    entry = lookup(path, keys)
    if entry is None:
        return None
    assert entry.place.path == path
    return entry.key, " ".join(entry.text.split()), entry.place.line


A, B = b"a.example", b"b.example"

# Map, keys in order, what is found: key, text behind it, line.
FOUND = {
    "one": (b"a.example dkim\n", [A], (A, "dkim", 1)),
    "first-line": (b"a.example dkim\nb.example domainkeys\n", [A], (A, "dkim", 1)),
    "last-line": (b"b.example domainkeys\na.example dkim\n", [A], (A, "dkim", 2)),
    "no-final-line-end": (b"b.example domainkeys\na.example dkim", [A], (A, "dkim", 2)),
    "only-line-without-line-end": (b"a.example dkim", [A], (A, "dkim", 1)),
    "blank-is-htab": (b"a.example\tdkim\n", [A], (A, "dkim", 1)),
    "many-blanks": (b"a.example \t  dkim \t \n", [A], (A, "dkim", 1)),
    "crlf": (b"b.example domainkeys\r\na.example dkim\r\nc.example x\r\n", [A], (A, "dkim", 2)),
    "crlf-no-final-line-end": (b"b.example domainkeys\r\na.example dkim\r", [A], (A, "dkim", 2)),
    "crlf-continued": (b"a.example dkim,\r\n\tdomainkeys\r\n", [A], (A, "dkim, domainkeys", 1)),
    "byte-order-mark": (b"\xef\xbb\xbfa.example dkim\n", [A], (A, "dkim", 1)),
    "no-text": (b"a.example\n", [A], (A, "", 1)),
    "no-text-no-line-end": (b"a.example", [A], (A, "", 1)),
    "blank-lines": (b"\n\n \n\t\na.example dkim\n\n\n", [A], (A, "dkim", 5)),
    "comment-lines": (b"# x\n; y\n  # z\na.example dkim\n# x\n", [A], (A, "dkim", 4)),
    "comment-behind": (b"a.example dkim # a comment\n", [A], (A, "dkim", 1)),
    "comment-behind-semicolon": (b"a.example dkim\t; a comment\n", [A], (A, "dkim", 1)),
    "comment-at-once": (b"a.example # dkim\n", [A], (A, "", 1)),
    "hash-inside-a-word": (b"a.example dkim(key=/a#b;c)\n", [A], (A, "dkim(key=/a#b;c)", 1)),
    "continued": (b"a.example dkim,\n domainkeys\n", [A], (A, "dkim, domainkeys", 1)),
    "continued-at-once": (b"a.example\n dkim\n", [A], (A, "dkim", 1)),
    "continued-three-times": (b"a.example a\n b\n\tc\n  d\nb.example x\n", [A], (A, "a b c d", 1)),
    "continued-at-the-end": (b"a.example a\n b", [A], (A, "a b", 1)),
    "continued-over-a-comment": (b"a.example a\n# x\n b\n", [A], (A, "a b", 1)),
    "continued-over-a-blank-line": (b"a.example a\n\n b\n", [A], (A, "a b", 1)),
    "continued-with-comments": (b"a.example a # x\n b ; y\n # z\n c\n", [A], (A, "a b c", 1)),
    "behind-a-continued-line": (b"b.example a,\n  b,\n  c\na.example dkim\n", [A], (A, "dkim", 4)),
    "upper-case-in-map": (b"A.EXAMPLE DKIM\n", [A], (A, "DKIM", 1)),
    "text-keeps-its-case": (b"a.example dkim(key=/Keys/A.pem)\n", [A], (A, "dkim(key=/Keys/A.pem)", 1)),
    "first-key-wins": (b"a.example x\nb.example y\n", [A, B], (A, "x", 1)),
    "first-key-wins-though-later": (b"b.example y\na.example x\n", [A, B], (A, "x", 2)),
    "second-key": (b"b.example y\nc.example z\n", [A, B], (B, "y", 1)),
    "last-line-of-a-key": (b"a.example x\nb.example y\na.example z\n", [A], (A, "z", 3)),
    "last-line-of-a-key-in-any-case": (b"a.example x\nA.Example z\n", [A], (A, "z", 2)),
    "last-line-of-the-first-key": (b"a.example x\na.example y\nb.example z\n", [A, B], (A, "y", 2)),
    "key-is-prefix-of-another": (b"a.example.org x\na.example y\n", [A], (A, "y", 2)),
    "key-is-prefix-of-the-last": (b"a.example y\na.example.org x\n", [A], (A, "y", 1)),
    "key-is-prefix-with-hyphen": (b"a.example y\na.example-2 x\na.example\\ z\n", [A], (A, "y", 1)),
    "address": (b"a.example x\nme@a.example y\n", [b"me@a.example", A], (b"me@a.example", "y", 2)),
    "dot": (b". x\n", [b"me@a.example", A, b"."], (b".", "x", 1)),
    "dot-among-dots": (b".. y\n.a z\n. x\n", [b"."], (b".", "x", 3)),
    "utf-8": (
        "bücher.example x\n".encode(),
        ["bücher.example".encode()],
        ("bücher.example".encode(), "x", 1),
    ),
    "no-utf-8-in-text": (b"a.example dkim(key=/\xff)\n", [A], (A, "dkim(key=/\udcff)", 1)),
    "no-utf-8-elsewhere": (b"\xff\xfe x\na.example y\n", [A], (A, "y", 2)),
    "nul-elsewhere": (b"\x00\x00 x\na.example y\n", [A], (A, "y", 2)),
    "quoted-address": (b'"a b"@a.example x\n', [b'"a b"@a.example'], (b'"a b"@a.example', "x", 1)),
    "pattern-letters-mean-themselves": (b"axexample x\na.example y\n", [A], (A, "y", 2)),
    "comments-behind-are-no-part": (
        b"a.example x\n" + b"# a comment of some length\n" * 3000,
        [A],
        (A, "x", 1),
    ),
    "long": (b"a.example " + b"x" * 60000 + b"\n", [A], (A, "x" * 60000, 1)),
    "many-lines-before": (b"b.example y\n" * 100000 + b"a.example x\n", [A], (A, "x", 100001)),
    "many-lines-behind": (b"a.example x\n" + b"b.example y\n" * 100000, [A], (A, "x", 1)),
    "long-line-before": (b"b.example " + b"y" * 1000000 + b"\na.example x\n", [A], (A, "x", 2)),
}

NOT_FOUND = {
    "empty": (b"", [A]),
    "line-ends": (b"\n\n\r\n", [A]),
    "others": (b"b.example x\nc.example y\n", [A]),
    "key-of-others-text": (b"b.example a.example dkim\n", [A]),
    "key-inside-a-value": (b"b.example dkim(d=a.example )\n", [A]),
    "key-in-a-continuation": (b"b.example dkim,\n a.example dkim\n", [A]),
    "key-after-blanks": (b"  a.example dkim\n", [A]),
    "key-in-a-comment": (b"#a.example dkim\n# a.example dkim\n;a.example dkim\n", [A]),
    "key-is-end-of-another": (b"xa.example dkim\nme@a.example dkim\n.a.example dkim\n", [A]),
    "key-is-beginning-of-another": (b"a.example.org dkim\na.examples dkim\na.example, dkim\n", [A]),
    "key-and-other-white-space": (b"a.example\x0bdkim\na.example\x0cdkim\na.example\xa0dkim\n", [A]),
    "key-behind-bare-cr": (b"b.example x\ra.example y\n", [A]),
    "no-keys": (b"a.example x\n\n", []),
    "empty-key-blank-line": (b"a.example x\n\nb.example y\n", [b""]),
    "empty-key-continuation": (b"a.example x,\n y\n", [b""]),
    "empty-key-empty-map": (b"", [b""]),
    "comment-as-key": (b"#a.example dkim\n;a.example dkim\n", [b"#a.example", b";a.example"]),
    "comment-as-address": (b"#me@a.example dkim\n", [b"#me@a.example"]),
    "comment-sign-as-key": (b"# a.example dkim\n; a.example dkim\n", [b"#", b";"]),
}


@pytest.mark.parametrize(("octets", "keys", "expected"), FOUND.values(), ids=FOUND)
def test_found(tmp_path: Path, octets: bytes, keys: list[bytes], expected: tuple[bytes, str, int]) -> None:
    assert look_up(tmp_path, octets, *keys) == expected


@pytest.mark.parametrize(("octets", "keys"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_not_found(tmp_path: Path, octets: bytes, keys: list[bytes]) -> None:
    assert look_up(tmp_path, octets, *keys) is None


def test_any_letter_in_upper_case(tmp_path: Path) -> None:
    """The lookup changes a chunk to lower case only if it has one of the capitals that a key could have."""
    address = b"zxcvb@qwrty.example"
    keys = [address, b"*@qwrty.example", b"qwrty.example", b"*@*.example", b"example", b"."]
    for key in keys[:-1]:
        for at in range(len(key)):
            written = key[:at] + key[at : at + 1].upper() + key[at + 1 :]
            other = b"qwrty.examples x\nzxcvb@qwrty.exampl x"
            assert look_up(tmp_path, other + b"\n" + written + b" dkim\n", *keys) == (key, "dkim", 3)


def test_any_case_of_other_letters(tmp_path: Path) -> None:
    """Keys match in any case, and not the letters of US-ASCII alone."""
    for written in ("BÜCHER.Example", "bÜcher.example"):
        found = look_up(tmp_path, f"{written} x\n".encode(), "bücher.example".encode())
        assert found == ("bücher.example".encode(), "x", 1)


# Octets of a map; of each line that counts: number, offset, whether it continues an entry, key, value.
LINES: dict[str, tuple[bytes, list[tuple[int, int, bool, str, str]]]] = {
    "empty": (b"", []),
    "only-a-line-end": (b"\n", []),
    "one": (b"a b\n", [(1, 0, False, "a", "b")]),
    "no-line-end": (b"a b\nc d", [(1, 0, False, "a", "b"), (2, 4, False, "c", "d")]),
    "no-line-end-after-a-key": (b"a", [(1, 0, False, "a", "")]),
    "crlf": (b"a b\r\n\r\n c\r\n", [(1, 0, False, "a", "b"), (3, 7, True, "", "c")]),
    "crlf-after-a-key": (b"a\r\nb c\r", [(1, 0, False, "a", ""), (2, 3, False, "b", "c")]),
    "byte-order-mark": (b"\xef\xbb\xbfa b\nc\n", [(1, 3, False, "a", "b"), (2, 7, False, "c", "")]),
    "byte-order-mark-before-white-space": (b"\xef\xbb\xbf a\n", [(1, 3, True, "", "a")]),
    "byte-order-mark-before-a-comment": (b"\xef\xbb\xbf# x\na\n", [(2, 7, False, "a", "")]),
    "byte-order-mark-alone": (b"\xef\xbb\xbf", []),
    "byte-order-mark-on-line-2": (b"\n\xef\xbb\xbfa b\n", [(2, 1, False, "\ufeffa", "b")]),
    "first-line-begins-with-white-space": (
        b" a b\nc d\n",
        [(1, 0, True, "", "a b"), (2, 5, False, "c", "d")],
    ),
    "comments": (b"# x\n;y\n#\na b\n", [(4, 9, False, "a", "b")]),
    "comment-at-the-end": (b"a b # c ; d\n", [(1, 0, False, "a", "b")]),
    "comment-after-tab": (b"a\tb\t;c\n", [(1, 0, False, "a", "b")]),
    "comment-instead-of-a-value": (b"a #b\n", [(1, 0, False, "a", "")]),
    "comment-mark-in-a-word": (b"a#b c;d\n", [(1, 0, False, "a#b", "c;d")]),
    "continuation": (
        b"a b\n c\n\td\n",
        [(1, 0, False, "a", "b"), (2, 4, True, "", "c"), (3, 7, True, "", "d")],
    ),
    "continuation-after-a-comment": (b"a b\n# x\n\n c\n", [(1, 0, False, "a", "b"), (4, 9, True, "", "c")]),
    "continuation-with-only-a-comment": (b"a\n # x\n", [(1, 0, False, "a", ""), (2, 2, True, "", "")]),
    "white-space-alone": (b"a\n \t\r\n\xc2\xa0\n", [(1, 0, False, "a", "")]),
    "carriage-return-first": (b"a\n\rb c\n", [(1, 0, False, "a", ""), (2, 2, False, "", "b c")]),
    "quoted": (b'"a b"@c d\n', [(1, 0, False, '"a b"@c', "d")]),
    "quoted-mark-of-a-comment": (b'"a #b"@c d\n', [(1, 0, False, '"a #b"@c', "d")]),
    "quoted-quote": (rb""""a\" b\\" c""", [(1, 0, False, r'''"a\" b\\"''', "c")]),
    "quote-not-closed": (b'"a b\n', [(1, 0, False, '"a', "b")]),
    "not-utf-8": (b"\xff \xfe\n", [(1, 0, False, "\udcff", "\udcfe")]),
    "offsets-are-octets": ("ü ü\n ü\n".encode(), [(1, 0, False, "ü", "ü"), (2, 6, True, "", "ü")]),
    "very-long": (
        b"a " + b"b" * 300000 + b"\nc\n",
        [(1, 0, False, "a", "b" * 300000), (2, 300003, False, "c", "")],
    ),
}


@pytest.mark.parametrize(("octets", "expected"), LINES.values(), ids=LINES)
def test_lines_of_a_map(octets: bytes, expected: list[tuple[int, int, bool, str, str]]) -> None:
    found = physical_lines(io.BytesIO(octets))
    assert [(each.number, each.offset, each.continues, each.key, each.value) for each in found] == expected


# What stands before and behind the cut between two reads.
ENTRY = b"b.example y,\n y\na.example x,\n  x\nc.example z\n"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("chunks", [1, 2])
def test_entry_across_the_cut_between_reads(tmp_path: Path, chunks: int, line_end: bytes) -> None:
    entry = ENTRY.replace(b"\n", line_end)
    filler = b"# x" + line_end
    found = set()
    for before in range(len(entry) + 2):
        size = chunks * CHUNK - before
        lines = filler * (size // len(filler) - 1)
        lines += b"#" + b"x" * (size - len(lines) - 1 - len(line_end)) + line_end
        path = write_map(tmp_path, lines + entry + filler * 20)
        place = lookup(path, [A])
        assert place
        found.add((" ".join(place.text.split()), place.place.line - lines.count(b"\n")))
    assert found == {("x, x", 3)}


@pytest.mark.parametrize("before", range(len(A) + 3))
def test_key_without_line_end_across_the_cut(tmp_path: Path, before: int) -> None:
    octets = b"#" + b"x" * (CHUNK - before - 2) + b"\n" + A
    assert look_up(tmp_path, octets, A) == (A, "", 2)


def test_last_line_of_a_key_counts_across_reads(tmp_path: Path) -> None:
    filler = b"c.example x\n" * 30000
    octets = b"a.example 1\nb.example 1\n" + filler + b"a.example 2\n" + filler + b"b.example 2\n"
    found = [look_up(tmp_path, octets, *keys) for keys in ([A], [B], [A, B], [B, A])]
    assert [text for _, text, _ in filter(None, found)] == ["2", "2", "2", "2"]


def test_longest_entry(tmp_path: Path) -> None:
    text = "x" * (LONGEST_ENTRY - len(A) - 20)
    found = look_up(tmp_path, A + b" " + text.encode() + b"\nb.example y\n", A)
    assert found == (A, text, 1)


@pytest.mark.parametrize("line_end", [b"", b"\n x"], ids=["one-line", "continued"])
def test_entry_that_is_too_long(tmp_path: Path, line_end: bytes) -> None:
    path = write_map(tmp_path, b"# x\na.example " + (b"x" * 100 + line_end) * 700 + b"\nb.example y\n")
    with pytest.raises(ConfigError) as raised:
        lookup(path, [A])
    assert str(raised.value) == f"{path}, line 2: the entry is longer than 65536 bytes"


# How the path fails, the words for it, the hint.
NO_MAPS = {
    "missing": ("No such file or directory", "create it, or fix the path"),
    "directory": ("not a regular file", "name the file itself: ls -l PATH"),
    "fifo": ("not a regular file", "name the file itself: ls -l PATH"),
    "symlink": ("not a regular file", "name the file itself: DIR/real"),
    "dangling-symlink": ("not a regular file", "name the file itself: ls -l PATH"),
    "under-a-file": ("Not a directory", ""),
}


@pytest.mark.parametrize(("kind", "words", "hint"), [(k, *v) for k, v in NO_MAPS.items()], ids=NO_MAPS)
def test_no_map(tmp_path: Path, kind: str, words: str, hint: str) -> None:
    path = tmp_path / "map"
    (tmp_path / "real").write_bytes(b"a.example dkim\n")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(tmp_path / "real")
    elif kind == "dangling-symlink":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "under-a-file":
        path = tmp_path / "real" / "map"
    with pytest.raises(ConfigError) as raised:
        lookup(str(path), [A])
    assert (str(raised.value), raised.value.hint) == (
        f"map {path}: {words}",
        hint.replace("PATH", str(path)).replace("DIR", str(tmp_path)),
    )


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_unreadable_map(open_directory: Path) -> None:
    path = open_directory / "map"
    path.write_bytes(b"a.example dkim\n")
    path.chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as raised:
            lookup(str(path), [A])
    finally:
        os.seteuid(0)
    assert (str(raised.value), raised.value.hint) == (
        f"map {path}: Permission denied",
        f"namei -l {path} shows what blocks user nobody",
    )


def test_path_with_nul() -> None:
    with pytest.raises(ConfigError) as raised:
        lookup("/ma\x00p", [A])
    assert re.match("map /ma\x00p: .*embedded null ", str(raised.value))  # the rest is Python's own


def test_place_of_a_map_that_has_gone(tmp_path: Path) -> None:
    path = write_map(tmp_path, b"a.example dkim\n")
    entry = lookup(path, [A])
    os.unlink(path)
    assert isinstance(entry, Entry)
    with pytest.raises(ConfigError) as raised:
        str(entry.place)
    assert str(raised.value) == f"map {path}: No such file or directory"


def parsed(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the signatures of an entry as plain values."""
    return [(signature.type, signature.options) for signature in parse(text, Place("HERE"))]


SELECTOR_A = ("dkim", {"selector": "a"})

# Text of an entry, its signatures.
ENTRIES = {
    "dkim": ("dkim", [("dkim", {})]),
    "domainkeys": ("domainkeys", [("domainkeys", {})]),
    "no-options": ("dkim()", [("dkim", {})]),
    "blank-options": ("dkim(  )", [("dkim", {})]),
    "one-option": ("dkim(s=a)", [SELECTOR_A]),
    "long-name": ("dkim(selector=a)", [SELECTOR_A]),
    "two-options": ("dkim(s=a,key=/k)", [("dkim", {"selector": "a", "keyfile": "/k"})]),
    "blanks-everywhere": (" dkim ( s = a , key = /k ) ", [("dkim", {"selector": "a", "keyfile": "/k"})]),
    "no-blank-between-signatures": ("dkim,domainkeys", [("dkim", {}), ("domainkeys", {})]),
    "blanks-between-signatures": ("dkim  ,  domainkeys", [("dkim", {}), ("domainkeys", {})]),
    "two-of-a-type": ("dkim(s=a), dkim(s=b)", [SELECTOR_A, ("dkim", {"selector": "b"})]),
    "three": ("dkim(s=a),dkim, domainkeys", [SELECTOR_A, ("dkim", {}), ("domainkeys", {})]),
    "equals-inside-value": ("dkim(key=/a=b)", [("dkim", {"keyfile": "/a=b"})]),
    "blank-inside-value": ("dkim(key=/a b)", [("dkim", {"keyfile": "/a b"})]),
    "parentheses-inside-value": ("dkim(key=/a(1))", [("dkim", {"keyfile": "/a(1)"})]),
    "macro": ("dkim(i=$sender)", [("dkim", {"identity": "$sender"})]),
    "who-may-have-it": (
        "dkim(login=a:b@example.com: c d ,envelope=*)",
        [("dkim", {"login": "a:b@example.com: c d", "envelope": "*"})],
    ),
    "all-short-names": (
        "dkim(a=1,c=2,d=3,h=4,i=5,key=6,s=7,t=8,x=9)",
        [
            (
                "dkim",
                {
                    "algorithm": "1",
                    "method": "2",
                    "domain": "3",
                    "headers": "4",
                    "identity": "5",
                    "keyfile": "6",
                    "selector": "7",
                    "timestamp": "8",
                    "lifetime": "9",
                },
            )
        ],
    ),
    "all-long-names": (
        "dkim(algorithm=1,method=2,domain=3,headers=4,identity=5,keyfile=6,selector=7,timestamp=8,lifetime=9)",
        [
            (
                "dkim",
                {
                    "algorithm": "1",
                    "method": "2",
                    "domain": "3",
                    "headers": "4",
                    "identity": "5",
                    "keyfile": "6",
                    "selector": "7",
                    "timestamp": "8",
                    "lifetime": "9",
                },
            )
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_entry(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parsed(text) == expected


TYPES = "known types: dkim, domainkeys"
NAMES = "known options: a c d envelope h i key login missing s t x"
SUCH_AS = "for example: dkim(s=SELECTOR,key=FILE)"

# Text of an entry, what is wrong, the hint.
WRONG = {
    "nothing": ("", "no signature after the key", SUCH_AS),
    "blanks": ("  ", "no signature after the key", SUCH_AS),
    "comma": (",", "empty item or trailing comma", ""),
    "comma-at-the-end": ("dkim,", "empty item or trailing comma", ""),
    "comma-at-the-beginning": (",dkim", "empty item or trailing comma", ""),
    "two-commas": ("dkim,,dkim", "empty item or trailing comma", ""),
    "unknown-type": ("dkim2(s=a)", "unknown signature type: 'dkim2(s=a)'", TYPES),
    "type-in-upper-case": ("DKIM", "unknown signature type: 'DKIM'", TYPES),
    "no-comma": ("dkim domainkeys", "unknown signature type: 'dkim domainkeys'", TYPES),
    "options-only": ("(s=a)", "unknown signature type: '(s=a)'", TYPES),
    "second-is-wrong": ("dkim, arc(s=a)", "unknown signature type: 'arc(s=a)'", TYPES),
    "not-closed": ("dkim(s=a", "no closing parenthesis: 'dkim(s=a'", ""),
    "not-closed-first": ("dkim(s=a, domainkeys", "no closing parenthesis: 'dkim(s=a, domainkeys'", ""),
    "not-closed-last": ("dkim, dkim(s=b", "no closing parenthesis: 'dkim(s=b'", ""),
    "closed-only": ("dkim)", "unknown signature type: 'dkim)'", TYPES),
    "unknown-option": ("dkim(l=5)", "unknown option: 'l=5'", NAMES),
    "unknown-option-second": ("dkim(s=a, z = 5 )", "unknown option: 'z = 5'", NAMES),
    "option-in-upper-case": ("dkim(S=a)", "unknown option: 'S=a'", NAMES),
    "option-of-blanks": ("dkim(s=a, ,key=/k)", "unknown option: ''", NAMES),
    "comma-at-the-end-of-options": ("dkim(s=a,)", "unknown option: ''", NAMES),
    "value-only": ("dkim(=a)", "unknown option: '=a'", NAMES),
    "no-value": ("dkim(s=)", "no value: 's='", ""),
    "blank-value": ("dkim(s= ,key=/k)", "no value: 's='", ""),
    "no-equals": ("dkim(s)", "no value: 's'", ""),
    "twice": ("dkim(s=a,s=b)", "duplicate option: 's=b'", ""),
    "nobody": ("dkim(login=)", "no value: 'login='", ""),
    "nobody-before-a-colon": ("dkim(login=:a)", "empty item next to a colon: 'login=:a'", ""),
    "nobody-behind-a-colon": ("dkim(login=a: )", "empty item next to a colon: 'login=a:'", ""),
    "nobody-between-colons": ("dkim(login=a::b)", "empty item next to a colon: 'login=a::b'", ""),
    "nobody-at-all": ("dkim(login=:)", "empty item next to a colon: 'login=:'", ""),
    "at-of-nothing": ("dkim(envelope=a@b:@)", "empty item next to a colon: 'envelope=a@b:@'", ""),
    "login-twice": ("dkim(login=a,login=b)", "duplicate option: 'login=b'", ""),
    "twice-short-and-long": ("dkim(s=a,selector=b)", "duplicate option: 'selector=b'", ""),
}


@pytest.mark.parametrize(("text", "cause", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_entry(text: str, cause: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(text)
    assert (str(raised.value), raised.value.hint) == (f"HERE: {cause}", hint)


def test_junk_behind_the_parenthesis_is_called_so() -> None:
    """There is a closing parenthesis, so the message must not say that there is none."""
    with pytest.raises(ConfigError) as raised:
        parsed("dkim(s=a) domainkeys")
    assert "no closing parenthesis" not in str(raised.value)
