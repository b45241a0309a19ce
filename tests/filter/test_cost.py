"""What a message costs: modules loaded, CPU time as a ratio, memory. Ratios are of runs in turn, medians."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MAIN, MESSAGE, Keys, Report
from listener import Listener
from measure import cost, ratio

pytestmark = pytest.mark.alone

PYTHON = os.path.realpath(sys.executable)  # without what a virtual environment adds to the start
FASTEST = [PYTHON, "-IS", str(MAIN)]
NOTHING = [PYTHON, "-I", "-c", "pass"]

# Every message pays for each of these. A module more is a decision: the commit says what it costs.
OURS = """
    address body canonical choose command config digest dkim errors files guard handover keys libcrypto log
    longlines message options pipe senders signatures spool tags
"""
MODULES = {
    "dkimpipe",
    *(f"dkimpipe.{name}" for name in OURS.split()),
    "_ctypes",
    "binascii",
    "gc",
    "_sha2" if sys.version_info >= (3, 12) else "_sha256",
}


def modules_loaded(*command: str) -> set[str]:
    """Return the modules that a run of the filter adds to those of a bare ``python3 -IS``."""
    code = (
        "import sys; before = set(sys.modules); sys.argv[:] = ['dkimpipe', *sys.argv[1:]];"
        f"sys.path.append({str(MAIN.parent.parent)!r});"
        "from dkimpipe.command import main; status = main();"
        "sys.stderr.write(' '.join(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [PYTHON, "-IS", "-c", code, *command], input=MESSAGE, capture_output=True, check=True
    )
    return set(done.stderr.decode().splitlines()[-1].split())


@pytest.fixture(scope="module")
def one_line(keys: Keys) -> Path:
    return keys.senders("example.com dkim(c=relaxed/relaxed,s=rsa2048,key=KEYS/rsa2048.pem)\n", "one-line")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("message") / "small.eml"
    path.write_bytes(MESSAGE)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A message of 100 MB, text with blanks."""
    path = tmp_path_factory.mktemp("message") / "large.eml"
    line = b"Some text as people write it, with  blanks, a little longer than half a line.\n"
    with path.open("wb") as file:
        file.write(MESSAGE)
        for _ in range(100_000_000 // len(line) // 1000):
            file.write(line * 1000)
    return path


def dkimsign(keys: Keys) -> list[str]:
    """Return the command of dkimpy's signer, which stands beside the interpreter."""
    program = Path(sys.executable).with_name("dkimsign")
    assert program.exists()
    return [sys.executable, str(program), "rsa2048", "example.com", str(keys.path("rsa2048"))]


def test_modules_on_the_way_of_a_message(one_line: Path) -> None:
    assert modules_loaded("--sender_map", str(one_line)) == MODULES


# What one small message may do, beside what a bare ``python3 -IS`` does: a little above what it did when this
# was written, which is what the comments say. No clock is needed to see that something became dearer.
CEILINGS = {
    "system calls": 480,  # 443
    "files opened": 39,  # 36: modules and their directories, libraries, conf, map, key
    "processes": 0,
}


def calls(command: list[str], trace: Path, message: bytes = MESSAGE) -> dict[str, int]:
    """Return how often a command, given a message, does each of these, counted by strace(1)."""
    strace = ["strace", "-f", "-o", str(trace)]
    subprocess.run([*strace, *command], input=message, capture_output=True, check=True)
    lines = [line.partition(" ")[2].strip() for line in trace.read_text().splitlines()]
    return {
        "system calls": sum("(" in line for line in lines),
        "files opened": sum(line.startswith("openat(") and " = -1 " not in line for line in lines),
        "processes": sum(line.startswith(("clone", "fork", "vfork")) for line in lines),
    }


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_budget_of_a_small_message(one_line: Path, tmp_path: Path, report: Report) -> None:
    ours = calls([*FASTEST, "--sender_map", str(one_line)], tmp_path / "ours")
    bare = calls([PYTHON, "-IS", "-c", "pass"], tmp_path / "bare")
    more = {what: ours[what] - bare[what] for what in CEILINGS}
    report(f"one small message, beside a bare interpreter: {more}")
    assert all(more[what] <= most for what, most in CEILINGS.items()), more


def test_small_message_against_a_bare_interpreter(one_line: Path, small: Path, report: Report) -> None:
    measured = ratio([*FASTEST, "--sender_map", str(one_line)], NOTHING, small, bar=2.0)
    report(f"one small message, CPU time against python3 -I -c pass: {measured:.2f}")
    assert measured <= 2.0


def test_small_message_against_dkimsign(keys: Keys, one_line: Path, small: Path, report: Report) -> None:
    measured = ratio([*FASTEST, "--sender_map", str(one_line)], dkimsign(keys), small, bar=1 / 6, pairs=7)
    report(f"one small message, CPU time against dkimsign: {measured:.2f}")
    assert measured <= 1 / 6


def test_100_mb_message(keys: Keys, one_line: Path, large: Path, report: Report) -> None:
    ours = cost([*FASTEST, "--sender_map", str(one_line)], large)
    theirs = cost(dkimsign(keys), large)
    report(
        f"100 MB: {ours.memory >> 10} MiB resident, CPU time against dkimsign: {ours.cpu / theirs.cpu:.2f}"
    )
    assert ours.memory <= 40 * 1024
    assert ours.cpu <= 0.4 * theirs.cpu


def test_100_000_domains(keys: Keys, one_line: Path, small: Path, report: Report) -> None:
    lines = [
        f"domain{n}.example dkim(s=mail,key=/etc/dkimpipe/keys/domain{n}.example.pem)\n"
        for n in range(100_000)
    ]
    lines.insert(70_000, one_line.read_text())
    many = keys.senders("".join(lines), "many-lines")
    measured = ratio(
        [*FASTEST, "--sender_map", str(many)], [*FASTEST, "--sender_map", str(one_line)], small, bar=1.5
    )
    report(f"100,000 lines in senders, CPU time against one line: {measured:.2f}")
    assert measured <= 1.5


# Many domains by one line

TEMPLATE_CEILING = 20  # system calls: 14, for its module


@pytest.fixture(scope="module")
def template(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A senders file of one line, and key files of 100,000 domains."""
    directory = tmp_path_factory.mktemp("keys")
    for number in range(100_000):
        (directory / f"domain{number}.example.mail.pem").touch()
    shutil.copy2(keys.path("rsa2048"), directory / "example.com.mail.pem")
    line = f". dkim(c=relaxed/relaxed,s=mail,key={directory}/$keydomain.$selector.pem)\n"
    return keys.senders(line, "template")


def test_modules_for_macros(template: Path) -> None:
    assert modules_loaded("--sender_map", str(template)) - MODULES == {"dkimpipe.templates"}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_budget_of_100_000_key_files(template: Path, one_line: Path, tmp_path: Path, report: Report) -> None:
    by_template = calls([*FASTEST, "--sender_map", str(template)], tmp_path / "by-template")
    by_domain = calls([*FASTEST, "--sender_map", str(one_line)], tmp_path / "by-domain")
    more = {what: by_template[what] - by_domain[what] for what in CEILINGS}
    report(f"one of 100,000 key files by macros, beside a line of its own: {more}")
    assert more["system calls"] <= TEMPLATE_CEILING
    assert more["files opened"] <= 2  # 1: the module
    assert more["processes"] == 0


def test_100_000_key_files(template: Path, one_line: Path, small: Path, report: Report) -> None:
    by_template, by_domain = ([*FASTEST, "--sender_map", str(path)] for path in (template, one_line))
    measured = ratio(by_template, by_domain, small, bar=1.1)
    report(f"one of 100,000 key files by macros, CPU time against a line of its own: {measured:.2f}")
    assert measured <= 1.1


# By relay

TO_BOB = ("--syslog=no", "-f", "alice@example.com", "--", "bob@example.net")
RELAY_CEILING = 66  # 57 to 60, for the way to the relay beside the way to standard output


def test_modules_on_the_way_to_a_relay(one_line: Path) -> None:
    with Listener() as listener:
        loaded = modules_loaded("--sender_map", str(one_line), f"--relay={listener.address}", *TO_BOB)
    assert loaded - MODULES == {"dkimpipe.relay", "_socket"}
    assert len(listener.mails) == 1


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_budget_of_a_small_message_by_relay(one_line: Path, tmp_path: Path, report: Report) -> None:
    with Listener() as listener:
        options = ["--sender_map", str(one_line), f"--relay={listener.address}", *TO_BOB]
        by_relay = calls([*FASTEST, *options], tmp_path / "by-relay")
    to_stdout = calls([*FASTEST, "--sender_map", str(one_line)], tmp_path / "to-stdout")
    more = {what: by_relay[what] - to_stdout[what] for what in CEILINGS}
    report(f"one small message by relay, beside standard output: {more}")
    assert more["system calls"] <= RELAY_CEILING
    assert more["files opened"] <= 4  # 2: the module, and the status of the parent; perhaps _socket
    assert more["processes"] == 0


def test_small_message_by_relay_against_sendmail(
    one_line: Path, small: Path, tmp_path: Path, report: Report
) -> None:
    """A relay costs the filter no more than a sendmail(1) that only reads."""
    reads = tmp_path / "sendmail"
    reads.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    reads.chmod(0o755)
    filter_ = [*FASTEST, "--sender_map", str(one_line)]
    with Listener() as listener:
        by_relay = [*filter_, f"--relay={listener.address}", *TO_BOB]
        measured = ratio(by_relay, [*filter_, f"--sendmail={reads}", *TO_BOB], small, bar=1.1, pairs=9)
    report(f"one small message by relay, CPU time against a sendmail(1) that only reads: {measured:.2f}")
    assert measured <= 1.1


# As things grow

RECIPIENTS = [f"bob{number}@example.net" for number in range(1_000)]
# What there is more of, a message, options and recipients, and system calls beside those of a small message.
GROWTH: dict[str, tuple[bytes, list[str], int]] = {
    "5,000 fields": (b"X-Field: short\n" * 5_000 + MESSAGE, [], 16),  # 6: two chunks
    "1.6 MB": (MESSAGE + b"A line of text.\n" * 100_000, [], 140),  # 106: 25 chunks, and what cat(1) does
    "1,000 recipients": (MESSAGE, RECIPIENTS, 16),  # 4
    "1,000 recipients by relay": (MESSAGE, ["relay", *RECIPIENTS], 1_000),  # 180; one by one 2,000
}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("name", GROWTH)
def test_system_calls_of_more_work(one_line: Path, tmp_path: Path, name: str, report: Report) -> None:
    message, words, most = GROWTH[name]
    reads = tmp_path / "sendmail"
    reads.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    reads.chmod(0o755)
    with Listener() as listener:
        by_relay, recipients = words[:1] == ["relay"], [word for word in words if "@" in word]
        back = f"--relay={listener.address}" if by_relay else f"--sendmail={reads}"
        command = [*FASTEST, "--sender_map", str(one_line), back, *TO_BOB]
        calls(command, tmp_path / "compiled")
        small = calls(command, tmp_path / "small")["system calls"]
        more = calls([*command, *recipients], tmp_path / "more", message)["system calls"] - small
    report(f"{name}: {more} system calls more than a small message")
    assert more <= most
