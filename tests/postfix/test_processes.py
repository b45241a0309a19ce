"""How many programs of Postfix a verb starts, what it imports, and that one process does the same as many."""

from __future__ import annotations

import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from applying import apply, verb, write
from conftest import settled

from dkimpipe.admin.postfix.postconf import Change, Postconf

if not shutil.which("postconf"):
    pytest.skip("these tests need Debian's package postfix", allow_module_level=True)

PROGRAMS = ("postconf", "postmap")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each program that was started."""
    programs, log = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    for name in PROGRAMS:
        script = f'#!/bin/sh\necho {name} >>{log}\nexec {shutil.which(name)} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    log.write_text("")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return log


def counted(started: Path) -> int:
    """Return how many were started since this was asked last."""
    count = len(started.read_text().splitlines())
    started.write_text("")
    return count


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "postfix", "submission")


def test_many_networks_cost_no_more_processes_than_one(started: Path, directory: Path) -> None:
    counts = []
    for networks in (["10.0.0.0/16"], [f"10.{number}.0.0/16" for number in range(40)]):
        subprocess.run(["postconf", "-c", directory, f"mynetworks={' '.join(networks)}"], check=True)
        settled(directory / "main.cf")
        apply(directory)
        counted(started)
        verb(directory, "--check")
        counts.append(counted(started))
    assert counts[0] == counts[1] < 20


def test_a_configuration_is_read_by_five_processes(started: Path, directory: Path) -> None:
    Postconf(directory)
    assert counted(started) == 5  # -n, -x, -M, -P, and -x -P for macros in master.cf


def test_a_version_in_main_cf_is_not_that_of_postfix(directory: Path) -> None:
    version = Postconf(directory).version
    subprocess.run(["postconf", "-c", directory, "mail_version=2.1.0"], check=True)
    settled(directory / "main.cf")
    assert Postconf(directory).version == version != (2, 1)


# What a verb imports where it needs it, which most runs do not.
LATE = {"concurrent.futures", "html", "smtplib", "ssl"}


@pytest.mark.parametrize("verb", ["check", "postfix", "setup"])
def test_a_verb_starts_without_what_few_runs_need(verb: str) -> None:
    code = f"import sys, dkimpipe.admin.verbs.{verb}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert LATE & {*loaded} == set()


def test_an_edit_is_one_process_for_each_option(started: Path, directory: Path) -> None:
    verb(directory)
    without = counted(started)
    apply(directory)
    assert counted(started) == without + 3  # -M, -P and -e


def test_edits_of_one_service_keep_their_order(directory: Path) -> None:
    postconf = Postconf(directory)
    line = "new unix - n n - - pipe flags=q user=nobody argv=/bin/true"
    changes = [
        Change("-P", "submission/inet/content_filter=first", ""),
        Change("-M", f"new/unix={line}", ""),
        Change("-P", "new/unix/syslog_name=new", ""),
        Change("-e", "header_size_limit=1", ""),
        Change("-PX", "submission/inet/content_filter", ""),
        Change("-P", "submission/inet/content_filter=last", ""),
        Change("-X", "header_size_limit", ""),
        Change("-e", "header_size_limit=2", ""),
    ]
    settled(directory / "main.cf")
    postconf.edit(changes)
    settled(directory / "main.cf")
    after = Postconf(directory)
    assert after.overrides["new/unix"] == {"syslog_name": "new"}
    assert after.overrides["submission/inet"]["content_filter"] == "last"
    assert after.explicit["header_size_limit"] == "2"


class _Answer(socketserver.StreamRequestHandler):
    """A server of tcp_table(5) that fails for one key."""

    def handle(self) -> None:
        for line in self.rfile:
            key = line.decode().split()[1]
            replies = {"good": "200 it+is", "bad": "400 out%20of%20order"}
            self.wfile.write(f"{replies.get(key, '500 no')}\n".replace("+", "%20").encode())


@pytest.fixture
def table() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"tcp:127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_many_keys_are_looked_up_by_one_process(started: Path, directory: Path, table: str) -> None:
    postconf = Postconf(directory)
    counted(started)
    assert postconf.lookup(table, "good", ["other", "good"]) == "it is"
    assert postconf.lookup(table, "other") == ""
    assert postconf.lookup(f"proxy:{table}", "good") == "it is"
    assert counted(started) == 1
    assert postconf.broken_tables == {}


def test_a_key_that_fails_does_not_fail_for_others(directory: Path, table: str) -> None:
    postconf = Postconf(directory)
    assert postconf.lookup(table, "good", ["bad"]) == "it is"
    assert postconf.broken_tables == {}
    assert postconf.lookup(table, "bad", ["good"]) == ""
    assert list(postconf.broken_tables) == [table]
    assert "query error" in postconf.broken_tables[table]


def test_a_static_table_needs_no_process(started: Path, directory: Path) -> None:
    postconf = Postconf(directory)
    counted(started)
    values = {table: postconf.lookup(table, "x") for table in ("static:anyone", "static:*", "static:a,b")}
    assert counted(started) == 0
    for table, value in values.items():
        asked = ["postmap", "-c", str(directory), "-q", "x", table]
        assert subprocess.check_output(asked, text=True).strip() == value
