"""Maps in the directory of the senders file, such as /etc/dkimpipe/senders.d: lookup, check, dns, rotate."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from checking import KEY, verb
from conftest import MAIN, MESSAGE, Keys, run_filter, settled
from recording import run
from rolling import BEGIN, HOUR, House, Zone
from rolling import zone as zone  # a fixture


def write(keys: Keys, directory: Path, text: str, **more: str) -> Path:
    """Write a senders file, and the files of its directory; ``_`` in a name stands for a dot."""
    path = directory / "senders"
    path.write_text(text.replace("KEYS", str(keys.directory)))
    (directory / "senders.d").mkdir()
    for name, each in more.items():
        file = directory / "senders.d" / name.replace("_", ".")
        file.write_text(each.replace("KEYS", str(keys.directory)))
        settled(file)
    settled(directory / "senders.d")
    return settled(path)


def entry(key: str, selector: str) -> str:
    return f"{key} dkim(d=example.com,s={selector},{KEY})\n"


# The senders file, the files of the directory, the selector for a@sub.example.com; None for no entry.
FOUND: dict[str, tuple[str, dict[str, str], str | None]] = {
    "empty directory": (entry("example.com", "s"), {}, "s"),
    "only there": ("# none\n", {"a_conf": entry("example.com", "a")}, "a"),
    "first of equal rank": (
        entry("example.com", "s"),
        {"a_conf": entry("example.com", "a"), "b_conf": entry("example.com", "b")},
        "s",
    ),
    "in order of name": (
        "# none\n",
        {"b_conf": entry("example.com", "b"), "a_conf": entry("example.com", "a")},
        "a",
    ),
    "more particular in a later one": (
        entry("example.com", "s"),
        {"a_conf": entry("*@*.example.com", "a"), "b_conf": entry("sub.example.com", "b")},
        "b",
    ),
    "more particular in an earlier one": (
        entry("a@sub.example.com", "s"),
        {"a_conf": entry("sub.example.com", "a")},
        "s",
    ),
    "dot": (entry(".", "s"), {"a_conf": entry("com", "a")}, "a"),
    "last line within one": ("# none\n", {"a_conf": entry("com", "a") + entry("com", "b")}, "b"),
    "ignored": (
        "# none\n",
        {
            name: entry("example.com", "x")
            for name in ("_a_conf", "a_conf~", "a_conf_bak", "_#a_conf", "a", "#a_conf#")
        },
        None,
    ),
}


@pytest.mark.parametrize(("text", "more", "selector"), FOUND.values(), ids=FOUND)
def test_which_entry_applies(
    keys: Keys, tmp_path: Path, text: str, more: dict[str, str], selector: str | None
) -> None:
    path = write(keys, tmp_path, text, **more)
    done = run_filter(f"--sender_map={path}", message=b"From: a@sub.example.com\n\n")
    expected = f"signed d=example.com s={selector} " if selector else "not signed: no entry for "
    assert done.stderr.startswith(f"dkimpipe: {expected}")
    if selector:
        records = run("--sender_map", path, "--format", "plain").stdout.decode()
        assert f"{selector}._domainkey.example.com\n" in records


def test_an_error_names_file_and_line(keys: Keys, tmp_path: Path) -> None:
    path = write(keys, tmp_path, "# none\n", a_conf="# x\nexample.com dkim(s=a\n")
    done = run_filter(f"--sender_map={path}")
    assert done.status == 75
    assert done.stderr.startswith(f"4.3.5 dkimpipe: {path}.d/a.conf, line 2: no closing parenthesis")


TO_BOB = ("--sendmail=/bin/true", "--syslog=no", "-f", "", "--", "bob@x.example")


@pytest.mark.parametrize("fault", ["empty", "link", "file", "link to a directory"])
def test_what_cannot_be_read_defers(keys: Keys, tmp_path: Path, fault: str) -> None:
    path = write(keys, tmp_path, entry("com", "s"), a_conf=entry("example.com", "a"))
    directory = tmp_path / "senders.d"
    if fault == "empty":
        (directory / "a.conf").write_bytes(b"")
        settled(directory / "a.conf")
    elif fault == "link":
        (directory / "b.conf").symlink_to("a.conf")
    else:
        directory.rename(tmp_path / "real")
        if fault == "file":
            directory.touch()
        else:
            directory.symlink_to("real")
    said = {
        "empty": f"map {directory}/a.conf is empty",
        "link": f"map {directory}/b.conf: not a regular file",
    }.get(fault, f"directory {directory}: Not a directory")
    message = b"From: a@sub.example.com\n\n"
    done = run_filter(f"--sender_map={path}", *TO_BOB, message=message)
    assert (done.status, done.stderr.splitlines()[0]) == (75, f"4.3.5 dkimpipe: {said}")
    assert f"error: {said}" in verb(f"--sender_map={path}").stdout.decode()


def test_a_link_is_replaced_by_the_file(keys: Keys, tmp_path: Path) -> None:
    """No line names a file in the directory: the hint, run by sh(1)."""
    path = write(keys, tmp_path, entry("example.com", "s"), a_conf=entry("a.example.com", "a"))
    link, real = tmp_path / "senders.d" / "b.conf", tmp_path / "the others"
    real.write_text(entry("b.example.com", "b").replace("KEYS", str(keys.directory)))
    link.symlink_to(real)
    said = verb(f"--sender_map={path}").stdout.decode().splitlines()
    hint = f"cp --remove-destination '{real}' {link}"
    assert said == [
        f"dkimpipe: error: map {link}: not a regular file",
        "hint: # replace the link by the file:",
        f"hint: {hint}",
    ]
    subprocess.run(["sh", "-ec", hint], check=True)
    assert not link.is_symlink()
    assert "3 signatures are good" in verb(f"--sender_map={path}").stdout.decode()


NO_MAPS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a directory": (lambda path: path.mkdir(), "# only files are read:", "mv {path} {stem}"),
    "a link to a directory": (
        lambda path: path.symlink_to(path.parent),
        "# only files are read:",
        "mv {path} {stem}",
    ),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "# the link leads to nothing:", "rm {path}"),
}


@pytest.mark.parametrize(("make", "advice", "command"), NO_MAPS.values(), ids=NO_MAPS)
def test_what_is_not_a_file_is_taken_away(
    make: Callable[[Path], None], advice: str, command: str, keys: Keys, tmp_path: Path
) -> None:
    path = write(keys, tmp_path, entry("example.com", "s"), a_conf=entry("a.example.com", "a"))
    other = tmp_path / "senders.d" / "b.conf"
    make(other)
    said = verb(f"--sender_map={path}").stdout.decode().splitlines()
    command = command.format(path=other, stem=other.with_suffix(""))
    assert said == [
        f"dkimpipe: error: map {other}: not a regular file",
        f"hint: {advice}",
        f"hint: {command}",
    ]
    subprocess.run(["sh", "-ec", command], check=True)
    after = verb(f"--sender_map={path}")
    assert (after.status, b"b.conf" in after.stdout) == (0, False)


def test_a_file_that_is_replaced_by_deleting_it_first(keys: Keys, tmp_path: Path) -> None:
    path = write(keys, tmp_path, "# none\n", a_conf=entry("example.com", "a"))
    file = tmp_path / "senders.d" / "a.conf"
    octets = file.read_bytes()
    file.unlink()
    later = threading.Timer(0.5, lambda: file.write_bytes(octets))
    later.start()
    done = run_filter(f"--sender_map={path}", *TO_BOB, "--verbose=yes")
    later.join()
    assert "not signed" not in done.stderr


def test_check(keys: Keys, tmp_path: Path) -> None:
    good = f"example.com dkim(s=a,{KEY})\n"
    path = write(keys, tmp_path, good, a_conf=good.replace("example.com", "example.org"))
    assert verb(f"--sender_map={path}").stdout.decode() == (
        f"dkimpipe: {path}, {path}.d and 2 signatures are good; DNS was not checked\n"
    )
    (tmp_path / "senders.d" / "b.conf").write_text(f"# x\n{good}".replace("KEYS", str(keys.directory)))
    (tmp_path / "senders.d" / "c").touch()
    (tmp_path / "senders.d" / "d.conf~").touch()
    done = verb(f"--sender_map={path}")
    assert (done.status, done.stdout.decode().splitlines()) == (
        78,
        [
            f"dkimpipe: warning: {path}.d/c is ignored: its name does not end in .conf",
            f"dkimpipe: error: {path}.d/b.conf, line 2: example.com is already in {path}, line 1, "
            "which applies",
            "hint: # remove one of the two",
        ],
    )


def test_rotate_edits_the_right_file(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, "# none\n", zone.look_at)
    (tmp_path / "senders.d").mkdir()
    file = tmp_path / "senders.d" / "a.conf"
    file.write_text(f"example.com dkim(s=old,key={tmp_path}/rsa1024.pem)\n")
    zone.obey(house.said(BEGIN))
    house.said(BEGIN + 1)
    house.said(BEGIN + 2 + HOUR)
    assert house.senders.read_text() == "# none\n"
    assert "s=old" not in file.read_text()
    file.unlink()
    done = house.rotate(BEGIN + 3 + HOUR)
    assert done.stderr.startswith("dkimpipe: KEYS/senders, KEYS/senders.d: all signatures are gone\n")


def test_those_without_the_directory_pay_one_failed_open(keys: Keys, tmp_path: Path) -> None:
    path = keys.senders(entry("example.com", "a"), "alone")
    trace = tmp_path / "trace"
    command = [sys.executable, "-IS", str(MAIN), f"--sender_map={path}"]
    subprocess.run(["strace", "-o", trace, *command], input=MESSAGE, capture_output=True, check=True)
    lines = [line for line in trace.read_text().splitlines() if f"{path}.d" in line]
    assert len(lines) == 1
    assert lines[0].startswith("open")
    assert "ENOENT" in lines[0]
