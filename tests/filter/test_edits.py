"""Files that are edited while mail flows: a message is signed by the old state or the new, or deferred."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Done, Keys, run_filter

from dkimpipe import files, senders
from dkimpipe.errors import ConfigError

TO_BOB = ("-f", "", "--", "bob@x.example")
OLD, NEW = ({f"old{n}" for n in range(2)}, {f"new{n}" for n in range(2)})


def text_of(keys: Keys, names: set[str], padding: int) -> bytes:
    """Return a map that begins with the wrong entry; one that takes precedence has these signatures."""
    items = ", ".join(f"dkim(s={name},key={keys.path('ed25519')})" for name in sorted(names))
    others = "".join(f"{n}.example dkim(s=x,key=/k)\n" for n in range(padding))
    return (
        f"example.com dkim(s=wrong,key={keys.path('ed25519')})\n{others}alice@example.com {items}\n".encode()
    )


def by_rename(path: Path, octets: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(octets)
    new.replace(path)


def in_place(path: Path, octets: bytes) -> None:
    """As a careless program does it: first nothing is there, then a part, then all of it."""
    with path.open("wb", buffering=0) as file:
        for part in (octets[:40], octets[40 : len(octets) // 2], octets[len(octets) // 2 :]):
            time.sleep(0.15)
            file.write(part)


@pytest.fixture
def sendmail(tmp_path: Path) -> Path:
    """A program that keeps what it gets in a file of its own."""
    path = tmp_path / "sendmail"
    path.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {tmp_path}/sent.XXXXXX)"\n')
    path.chmod(0o755)
    return path


def while_edited(edit: Callable[[], object], filters: int, run: Callable[[], Done]) -> list[Done]:
    """Run filters one after another, from before an edit until it is over, and after it."""
    editor = threading.Thread(target=edit)
    done = [run()]
    editor.start()
    while editor.is_alive() or len(done) < filters:
        done.append(run())
    editor.join()
    return [*done, run()]


@pytest.mark.parametrize("write", [by_rename, in_place])
def test_a_map_that_is_edited(
    keys: Keys, tmp_path: Path, sendmail: Path, write: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "senders"
    path.write_bytes(text_of(keys, OLD, 2000))
    os.utime(path, (0, 0))
    arguments = (f"--sender_map={path}", f"--sendmail={sendmail}", "--syslog=no", *TO_BOB)
    done = while_edited(lambda: write(path, text_of(keys, NEW, 2000)), 3, lambda: run_filter(*arguments))
    sent = [set(re.findall(rb" s=(\w+)", each.read_bytes())) for each in tmp_path.glob("sent.*")]
    states = [{name.encode() for name in names} for names in (OLD, NEW)]
    assert all(each in states for each in sent), sent
    assert states[0] in sent
    assert states[1] in sent
    assert [each.status for each in done] == [0] * len(sent)


@pytest.mark.parametrize("write", [by_rename, in_place])
def test_a_conf_file_that_is_edited(
    keys: Keys, tmp_path: Path, sendmail: Path, write: Callable[[Path, bytes], None]
) -> None:
    """Half of it is a conf file, too: one that signs otherwise."""
    conf = tmp_path / "conf"

    def text(selector: str) -> bytes:
        head = f"domain example.com\nkeyfile {keys.path('ed25519')}\nselector wrong\nsendmail {sendmail}\n"
        return f"{head}{'# padding' * 50}\nsyslog no\nselector {selector}\n".encode()

    conf.write_bytes(text("old"))
    os.utime(conf, (0, 0))
    arguments = (f"--conf_file={conf}", f"--sendmail={sendmail}", *TO_BOB)
    while_edited(lambda: write(conf, text("new")), 3, lambda: run_filter(*arguments))
    sent = {b"".join(re.findall(rb" s=(\w+)", each.read_bytes())) for each in tmp_path.glob("sent.*")}
    assert sent == {b"old", b"new"}


@pytest.mark.parametrize("write", [by_rename, in_place])
def test_a_key_that_is_replaced(
    keys: Keys, tmp_path: Path, sendmail: Path, write: Callable[[Path, bytes], None]
) -> None:
    """Half of a key is none, and the mail is deferred."""
    key = Path(shutil.copy2(keys.path("rsa2048"), tmp_path / "key.pem"))
    path = tmp_path / "senders"
    path.write_text(f"example.com dkim(s=a,key={key})\n")
    os.utime(path, (0, 0))
    arguments = (f"--sender_map={path}", f"--sendmail={sendmail}", "--syslog=no", *TO_BOB)
    mask = os.umask(0o077)
    done = while_edited(
        lambda: write(key, keys.path("rsa1024").read_bytes()), 3, lambda: run_filter(*arguments)
    )
    os.umask(mask)
    bad = [each for each in done if each.status]
    assert all(each.status == 75 and each.stderr.startswith("4.3.5 dkimpipe: ") for each in bad)
    assert bool(bad) == (write is in_place)
    sent = [each.read_bytes() for each in tmp_path.glob("sent.*")]
    assert len(sent) == len(done) - len(bad)
    sizes = {len(re.sub(rb"\s", b"", re.findall(rb" b=([^:;]*)\nFrom", each)[0])) for each in sent}
    assert sizes == {344, 172}  # signatures of 2048 and 1024 bits


def test_an_emptied_map_keeps_the_mail_back(keys: Keys, tmp_path: Path, sendmail: Path) -> None:
    path = tmp_path / "senders"
    path.touch()
    os.utime(path, (0, 0))
    done = run_filter(f"--sender_map={path}", f"--sendmail={sendmail}", *TO_BOB)
    assert done == Done(
        75,
        b"",
        f"4.3.5 dkimpipe: map {path} is empty\nhint: if this is intended, put a comment in it\n",
    )


def test_a_map_that_never_comes_to_rest_keeps_the_mail_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "senders"
    path.write_text("x")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        path.touch()

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(ConfigError) as caught:
        files.open_file(str(path), "map", wait=True)
    assert str(caught.value) == f"map {path}: it keeps changing"
    assert len(waits) == 20
    assert all(0 < seconds <= 1 for seconds in waits)


@pytest.mark.parametrize("keys", [[b"a.example"], [b"nobody.example"]], ids=["an entry", "none"])
def test_a_map_that_is_changed_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[bytes]
) -> None:
    path = tmp_path / "senders"
    path.write_text("a.example dkim(s=a,key=/k)\n" * 9000)
    os.utime(path, (0, 0))
    scan = senders._scan

    def edit(descriptor: int, wanted: Sequence[bytes]) -> object:
        path.write_text("")
        return scan(descriptor, wanted)

    monkeypatch.setattr(senders, "_scan", edit)
    with pytest.raises(ConfigError) as caught:
        senders.lookup(str(path), keys, wait=True)
    assert str(caught.value) == f"map {path}: it changed while it was being read"
