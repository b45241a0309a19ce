"""Printed commands run when they are pasted: the name only where PATH has this very installation."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MAIN

from dkimpipe.admin import invocation
from dkimpipe.admin.findings import Finding, error_lines
from dkimpipe.errors import ConfigError


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that is not in PATH, and runs."""
    script = tmp_path / "venv/bin/dkimpipe"
    script.parent.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return script


def link(directory: Path, target: Path | str) -> None:
    (directory / "bin/dkimpipe").symlink_to(target)


TEXTS = {
    "a verb": ("dkimpipe check --dns", "SCRIPT check --dns"),
    "the filter that verifies": ("dkimpipe verify --explain", "SCRIPT verify --explain"),
    "within a line": ("run dkimpipe check as root", "run SCRIPT check as root"),
    "twice": ("dkimpipe dns\nthen dkimpipe rotate", "SCRIPT dns\nthen SCRIPT rotate"),
    "sudo": ("sudo dkimpipe check", "sudo SCRIPT check"),
    "a user": ("user dkimpipe cannot read it", "user dkimpipe cannot read it"),
    "a path": ("/opt/x/dkimpipe check", "/opt/x/dkimpipe check"),
    "a word that begins so": ("dkimpipe checks", "dkimpipe checks"),
    "an option": ("--user=dkimpipe --x", "--user=dkimpipe --x"),
    "no command": ("postfix reload", "postfix reload"),
}


@pytest.mark.parametrize(("text", "printed"), TEXTS.values(), ids=TEXTS)
def test_outside_path_it_is_the_path(venv: Path, text: str, printed: str) -> None:
    assert invocation.runnable(text) == printed.replace("SCRIPT", str(venv))


@pytest.mark.parametrize(("text", "printed"), TEXTS.values(), ids=TEXTS)
def test_in_path_it_is_the_name_except_behind_sudo(
    venv: Path, tmp_path: Path, text: str, printed: str
) -> None:
    link(tmp_path, venv)
    printed = printed.replace("sudo SCRIPT", f"sudo {venv}").replace("SCRIPT", "dkimpipe")
    assert invocation.runnable(text) == printed


@pytest.mark.parametrize("target", ["/bin/true", "/nowhere"])
def test_another_program_in_path_is_not_it(venv: Path, tmp_path: Path, target: str) -> None:
    link(tmp_path, target)
    assert invocation.runnable("dkimpipe check") == f"{venv} check"


def test_started_by_the_link_it_is_the_program_itself(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(tmp_path, venv)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin/dkimpipe")])
    assert (invocation.script(), invocation.runnable("dkimpipe check")) == (venv, "dkimpipe check")


def test_an_installation_without_a_program_is_run_by_its_file(
    venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    venv.with_name("python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(venv.with_name("python")))
    venv.unlink()
    command = shlex.split(invocation.runnable("dkimpipe check --help"))
    assert command[:2] == [str(venv.with_name("python")), "-I"]
    assert command[3:] == ["check", "--help"]
    done = subprocess.run(["/usr/bin/env", *command], capture_output=True, text=True, check=False)
    assert "usage: dkimpipe check" in done.stdout


def test_a_path_with_a_space_is_quoted(venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "a b"
    venv.parent.rename(moved)
    monkeypatch.setattr(sys, "argv", [str(moved / "dkimpipe")])
    assert shlex.split(invocation.runnable("dkimpipe check")) == [str(moved / "dkimpipe"), "check"]


def test_hints_pass_through_it(venv: Path) -> None:
    hint = "dkimpipe check --dns"
    assert error_lines(ConfigError("x", hint)) == ["dkimpipe: x", f"hint: {venv} check --dns"]
    assert Finding("x", hint).as_dict()["hint"] == f"{venv} check --dns"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("words", ["rotate --now --directory KEYS", "rotate --dry-run --directory KEYS"])
def test_a_verb_of_another_user_is_sent_to_root(words: str, tmp_path: Path) -> None:
    for place in (*tmp_path.parents, tmp_path):
        if place.owner() == "root" and str(place) not in ("/", "/tmp"):
            place.chmod(0o755)
    closed, senders = tmp_path / "keys", tmp_path / "senders"
    closed.mkdir(0o700)
    senders.write_text("example.com dkim(s=mail,key=/none)\n")
    command = [sys.executable, str(MAIN), *words.replace("KEYS", str(closed)).split()]
    done = subprocess.run(
        [*command, f"--sender_map={senders}"],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"dkimpipe: {closed}: Permission denied\nhint: run it as root\n"
