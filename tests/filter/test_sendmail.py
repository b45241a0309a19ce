"""dkimpipe-sendmail: the arguments of sendmail(1), as other filters give them."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MESSAGE, Keys

from dkimpipe.errors import UsageError
from dkimpipe.sendmail import of_filter

PROGRAM = Path(__file__).parents[2] / "postfix/dkimpipe-sendmail"

# Arguments of sendmail(1), and those of the filter.
ACCEPTED = {
    "FILTER_README": ("-G -i -f s@x -- a@x b@x", "-f s@x -- a@x b@x"),
    "SpamAssassin's wiki": ("-i -oi -f s@x a@x b@x", "-f s@x -- a@x b@x"),
    "options without effect": ("-oem -odi -om -bm -B 8BITMIME -Fname -U -f s@x a@x", "-f s@x -- a@x"),
    "options in one word": ("-Gif s@x a@x", "-f s@x -- a@x"),
    "the sender in the word": ("-fs@x -i a@x", "-f s@x -- a@x"),
    "the sender by -r": ("-r s@x a@x", "-f s@x -- a@x"),
    "recipients first": ("a@x -f s@x b@x", "-f s@x -- a@x b@x"),
    "a value in the next word": ("-o i -f s@x a@x", "-f s@x -- a@x"),
    "the filter's own options": ("-G --login=x --client= -f s@x -- a@x", "--login=x --client= -f s@x -- a@x"),
    "recipients like options": ("-f s@x -- --login=x@x -t", "-f s@x -- --login=x@x -t"),
    "a sender like an option": ("-f --login=x a@x", "-f --login=x -- a@x"),
    "the last sender counts": ("-f s@x -f t@x a@x", "-f t@x -- a@x"),
}


@pytest.mark.parametrize(("given", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(given: str, expected: str) -> None:
    assert of_filter(given.split()) == expected.split()


def test_the_null_sender() -> None:
    assert of_filter(["-f", "", "--", "a@x"]) == ["-f", "", "--", "a@x"]


def test_without_a_sender_it_is_the_user() -> None:
    assert of_filter(["-i", "a@x"]) == ["-f", getpass.getuser(), "--", "a@x"]


REFUSED = {
    "recipients in the message": ("-t -f s@x a@x", "dkimpipe-sendmail has no option -t"),
    "SMTP": ("-bs", "dkimpipe-sendmail has no option -b"),
    "the queue": ("-q", "dkimpipe-sendmail has no option -q"),
    "notifications": ("-N never -f s@x a@x", "dkimpipe-sendmail has no option -N"),
    "another configuration": ("-C /etc/x -f s@x a@x", "dkimpipe-sendmail has no option -C"),
    "within a word": ("-Git -f s@x a@x", "dkimpipe-sendmail has no option -t"),
    "no recipients": ("-i -f s@x", "dkimpipe-sendmail: no recipients"),
    "no recipients after --": ("-f s@x --", "dkimpipe-sendmail: no recipients"),
    "no value": ("-i -f", "dkimpipe-sendmail: -f needs a value"),
    "nothing": ("", "dkimpipe-sendmail: no recipients"),
    "an option of the filter as a recipient": (
        "-f s@x a@x --login=x",
        "dkimpipe-sendmail has no option --",
    ),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(given: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        of_filter(given.split())
    assert str(error.value) == message


def run(*arguments: str, path: str = str(PROGRAM.parents[1])) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, input=MESSAGE, capture_output=True, env=environment, check=False)


def test_it_signs_and_passes_on(keys: Keys, tmp_path: Path) -> None:
    senders = keys.senders("example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n", "sendmail")
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat >{tmp_path}/message\n')
    program.chmod(0o755)
    done = run(f"--sender_map={senders}", f"--sendmail={program}", "-oi", "-f", "s@x", "a@x")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert (tmp_path / "arguments").read_text() == "-G -i -f s@x -- a@x\n"
    message = (tmp_path / "message").read_bytes()
    assert message.startswith(b"DKIM-Signature: ")
    assert message.endswith(MESSAGE)


def test_what_it_refuses_is_deferred() -> None:
    done = run("-t")
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr.startswith(b"4.3.5 dkimpipe: dkimpipe-sendmail has no option -t\n")


def test_a_broken_installation_defers(tmp_path: Path) -> None:
    (tmp_path / "dkimpipe").mkdir()
    (tmp_path / "dkimpipe/__init__.py").write_text("raise ImportError('gone')\n")
    done = run("-f", "s@x", "a@x", path=str(tmp_path))
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr == b"4.3.0 dkimpipe: ImportError('gone')\n"
