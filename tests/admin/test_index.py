"""``dkimpipe index``: a long map is looked up at once, and the index never changes what is found."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MAIN, Done, Keys, run_filter

from dkimpipe import mapindex, senders
from dkimpipe.admin.maps import index

PIECES = [
    b"a",
    b"B",
    b".",
    b"@",
    b"+",
    b"#",
    b";",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\n",
    b"\xc3\x9c",
    b"\xff",
    b"\0",
]


def make(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the index of a map, however short, and however young."""
    monkeypatch.setattr(senders, "LONG_MAP", 0)
    monkeypatch.setattr(index, "_SETTLED", 0)
    index.make(str(path))


def look_up(path: Path, keys: list[bytes]) -> object:
    """Return what an entry says, and where."""
    entry = senders.lookup(str(path), keys)
    return entry and (entry.key, entry.text, str(entry.place))


def scan(path: Path, keys: list[bytes], monkeypatch: pytest.MonkeyPatch) -> object:
    """Return the same without an index."""
    with monkeypatch.context() as patch:
        patch.setattr(senders, "LONG_MAP", 1 << 40)
        return look_up(path, keys)


def test_it_finds_what_a_scan_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In maps of all that can stand in one."""
    chance = random.Random(1)
    found = 0
    for number in range(300):
        path = tmp_path / f"map{number}"
        lines = [b"".join(chance.choices(PIECES, k=chance.randrange(8))) for _ in range(40)]
        path.write_bytes(b"\xef\xbb\xbf" * (number % 3 == 0) + b"\n".join(lines))
        make(path, monkeypatch)
        for _ in range(20):
            keys = [b"".join(chance.choices(PIECES[:5], k=chance.randrange(1, 4))).lower() for _ in range(3)]
            expected = scan(path, keys, monkeypatch)
            assert look_up(path, keys) == expected, (path.read_bytes(), keys)
            found += expected is not None
    assert found > 300


def test_it_finds_quoted_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map"
    keys = [b'"a %d"@a.example' % number for number in range(50)]
    path.write_bytes(b"a.example dkim\n" + b"".join(key + b" dkim(s=b)\n" for key in keys))
    make(path, monkeypatch)
    found = [senders.lookup(str(path), [key, b"a.example"]) for key in keys]
    assert [entry and entry.key for entry in found] == keys


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"b.example dkim(s=new,key=/k)\n")


def rewrite(path: Path) -> None:
    """As long as it was, and as old, as far as anybody says."""
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"s=old", b"s=new"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes().replace(b"b.example", b"x.example") + b"b.example dkim(s=new,key=/k)\n")
    new.replace(path)


@pytest.mark.parametrize("edit", [append, rewrite, replace])
def test_a_map_that_was_changed_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None]
) -> None:
    path = tmp_path / "map"
    path.write_bytes(b"a.example dkim(s=a,key=/k)\nb.example dkim(s=old,key=/k)\n")
    make(path, monkeypatch)
    assert "s=old" in str(look_up(path, [b"b.example"]))
    edit(path)
    assert "s=new" in str(look_up(path, [b"b.example"]))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda octets: b"",
    "header only": lambda octets: octets[:40],
    "cut": lambda octets: octets[:-1],
    "no mark": lambda octets: b"x" + octets[1:],
    "beyond the end": lambda octets: octets[:40] + b"\xff" * (len(octets) - 40),
    "within a line": lambda octets: octets[:40] + b"\3".ljust(8, b"\0") * (len(octets) // 8 - 5),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index_gives_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "map"
    path.write_bytes(b"# a.example dkim(s=no,key=/k)\na.example dkim(s=a,key=/k)\n")
    make(path, monkeypatch)
    at = Path(mapindex.path_of(str(path)))
    at.write_bytes(damage(at.read_bytes()))
    assert "s=no" not in str(look_up(path, [b"a.example"]))


def run(path: Path) -> Done:
    """Run ``dkimpipe index``; the path is shown as MAP."""
    command = [sys.executable, str(MAIN), "index", f"--sender_map={path}"]
    done = subprocess.run(command, capture_output=True, check=False)
    return Done(done.returncode, done.stdout.replace(bytes(path), b"MAP"), done.stderr.decode())


def test_the_command(keys: Keys) -> None:
    """It makes what is missing, and nothing twice; a short map needs none; and check tells if it is old."""
    line = "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n"
    path = keys.senders(line, "indexed")
    at = Path(mapindex.path_of(str(path)))
    assert run(path) == Done(0, b"", "")
    assert not at.exists()

    others = "".join(f"{n}.example dkim(s=mail,key=/etc/dkimpipe/keys/{n}.pem)\n" for n in range(30_000))
    keys.senders(others + line, "indexed").chmod(0o640)
    assert run(path) == Done(0, b"MAP.index: 30001 keys\n", "")
    assert run(path) == Done(0, b"", "")
    assert at.stat().st_mode & 0o777 == 0o640
    opened = subprocess.run(
        ["strace", "-e", "trace=pread64", sys.executable, "-IS", str(MAIN), f"--sender_map={path}"],
        input=b"From: a@example.com\n\n",
        capture_output=True,
        check=True,
    )
    assert opened.stderr.count(b"pread64(") < 20  # and not the whole map
    assert b"signed d=example.com s=rsa2048" in opened.stderr
    path.touch()
    assert run_filter(f"--sender_map={path}").stderr.startswith("dkimpipe: signed d=example.com s=rsa2048")
