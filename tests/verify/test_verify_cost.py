"""What verification of a message costs: modules loaded, system calls, CPU time as a ratio of medians."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import in_memory
import pytest
from conftest import MAIN, MESSAGE, Keys, Report
from measure import ratio
from nameserver import NameServer

pytestmark = pytest.mark.alone

PYTHON = os.path.realpath(sys.executable)
FASTEST = [PYTHON, "-IS", str(MAIN), "verify", "--hostname=mx.example.com"]
NOTHING = [PYTHON, "-I", "-c", "pass"]

# Messages, by name: an entry of the senders file.
SIGNATURES = {
    "unsigned": "",
    "RSA": "dkim(s=rsa2048,key=KEYS/rsa2048.pem)",
    "Ed25519": "dkim(s=ed25519,key=KEYS/ed25519.pem)",
    "DomainKeys": "domainkeys(s=rsa2048,key=KEYS/rsa2048.pem)",
    "RSA, 10 times": ", ".join(["dkim(s=rsa2048,key=KEYS/rsa2048.pem)"] * 10),
}


class Mail(NamedTuple):
    """Messages by name, as files, and the option for the name server that has their keys."""

    files: dict[str, Path]
    server: str

    def command(self, *more: str) -> list[str]:
        """Return the command that verifies one."""
        return [*FASTEST, self.server, *more]


@pytest.fixture(scope="module")
def mail(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mail]:
    directory = tmp_path_factory.mktemp("mail")
    files = {}
    for number, (name, entry) in enumerate(SIGNATURES.items()):
        files[name] = directory / str(number)
        senders = keys.senders(f"example.com {entry}\n", f"cost-{number}") if entry else None
        files[name].write_bytes(in_memory.sign(MESSAGE, f"--sender_map={senders}") if senders else MESSAGE)
    files["results of another host"] = directory / "results"
    files["results of another host"].write_bytes(
        b"Received: x\nAuthentication-Results: mx.example.net; none\n" + MESSAGE
    )
    names = [f"{key}._domainkey.example.com" for key in ("rsa2048", "ed25519")]
    with NameServer({name: keys.records[name] for name in names}) as server:
        yield Mail(files, f"--dns_server={server.address}#{server.port}")


# The modules that a message adds to those of a bare ``python3 -IS``. One more is a decision.
UNSIGNED = """
    __future__ _socket gc dkimpipe dkimpipe.verify
    .address .body .canonical .command .config .digest .errors .files .guard .handover .log .longlines
    .message .spool .tags .verify.authres .verify.filter .verify.nameserver .verify.resolvconf
    .verify.resolver .verify.settings .verify.summary .verify.verdict .verify.verifier
"""
SIGNED = (
    UNSIGNED
    + """
    _ctypes binascii .dkim .libcrypto .options .verify.dnsmessage .verify.exchange .verify.keyrecord
    .verify.openssl
    .verify.signature .verify.taglist .verify.verificationkey
"""
)
SHA256 = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
# With ``re`` and what that loads: only ours is listed.
RESULTS = UNSIGNED + ".verify.forged .verify.structured"
POLICY = (
    UNSIGNED
    + """
    .verify.dnsmessage .verify.exchange .verify.policy .verify.policyrecord .verify.structured .verify.taglist
"""
)

# A message, options, and the modules.
MODULES: dict[str, tuple[str, list[str], str]] = {
    "unsigned": ("unsigned", [], UNSIGNED),
    "RSA": ("RSA", [], f"{SIGNED} .verify.dkim {SHA256}"),
    "Ed25519": ("Ed25519", [], f"{SIGNED} .verify.dkim {SHA256}"),
    "DomainKeys": ("DomainKeys", [], f"{SIGNED} .verify.domainkeys _sha1"),
    "results of another host": ("results of another host", [], RESULTS),
    "policies": ("unsigned", ["--reject_fail"], POLICY),
    "DMARC": (
        "unsigned",
        ["--reject_fail", "--dmarc"],
        f"{POLICY} .verify.dmarc .verify.ownresults .verify.spf .verify.spfrecord",
    ),
    "the result of DMARC": (
        "unsigned",
        ["--dmarc"],
        f"{POLICY} .verify.dmarc .verify.ownresults .verify.spf .verify.spfrecord",
    ),
}


def modules_loaded(command: list[str], message: Path) -> set[str]:
    """Return the modules that a run adds to those of a bare ``python3 -IS``."""
    code = (
        "import sys; before = set(sys.modules); sys.argv[:] = sys.argv[1:];"
        f"sys.path.append({str(MAIN.parent.parent)!r});"
        "from dkimpipe.command import main; status = main();"
        "sys.stderr.write(' '.join(sorted(set(sys.modules) - before)))"
    )
    program = [PYTHON, "-IS", "-c", code, *command[2:]]
    done = subprocess.run(program, stdin=message.open("rb"), capture_output=True, check=True)
    return set(done.stderr.decode().splitlines()[-1].split())


@pytest.mark.parametrize(("name", "options", "expected"), MODULES.values(), ids=MODULES)
def test_the_modules_that_are_loaded(mail: Mail, name: str, options: list[str], expected: str) -> None:
    loaded = modules_loaded(mail.command(*options), mail.files[name])
    wanted = {f"dkimpipe{each}" if each.startswith(".") else each for each in expected.split()}
    if "re" in loaded:
        assert "dkimpipe.verify.structured" in wanted
        loaded = {each for each in loaded if each.startswith("dkimpipe")}
        wanted = {each for each in wanted if each.startswith("dkimpipe")}
    assert loaded == wanted


# What one small message may do beside what a bare ``python3 -IS`` does: system calls and files opened.
CEILINGS = {
    "unsigned": (430, 35),  # 399, 32
    "RSA": (640, 53),  # 594, 49
    "RSA, 10 times": (640, 53),  # the same: one query, one key
    "Ed25519": (640, 53),  # 601, 49
    "DomainKeys": (640, 53),
}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(("name", "most"), CEILINGS.items(), ids=CEILINGS)
def test_the_system_calls(
    mail: Mail, tmp_path: Path, name: str, most: tuple[int, int], report: Report
) -> None:
    def calls(command: list[str], trace: Path) -> tuple[int, int]:
        program = ["strace", "-f", "-o", str(trace), *command]
        subprocess.run(program, stdin=mail.files[name].open("rb"), capture_output=True, check=True)
        lines = [line.partition(" ")[2].strip() for line in trace.read_text().splitlines()]
        assert not [line for line in lines if line.startswith(("clone", "fork", "vfork"))]
        opened = [line for line in lines if line.startswith("openat(") and " = -1 " not in line]
        return sum("(" in line for line in lines), len(opened)

    ours = calls(mail.command(), tmp_path / "ours")
    bare = calls([PYTHON, "-IS", "-c", "pass"], tmp_path / "bare")
    more = ours[0] - bare[0], ours[1] - bare[1]
    report(f"{name}: {more[0]} system calls and {more[1]} files more than a bare interpreter")
    assert more[0] <= most[0] and more[1] <= most[1], more


# CPU time against ``python3 -I -c pass``.
TIMES = {
    "unsigned": 1.6,
    "results of another host": 1.9,
    "RSA": 2.6,
    "Ed25519": 2.6,
    "DomainKeys": 2.6,
    "RSA, 10 times": 3.0,
}


@pytest.mark.parametrize(("name", "bar"), TIMES.items(), ids=TIMES)
def test_the_time_against_a_bare_interpreter(mail: Mail, name: str, bar: float, report: Report) -> None:
    measured = ratio(mail.command(), NOTHING, mail.files[name], bar)
    report(f"{name}: {measured:.2f} times the CPU time of python3 -I -c pass")
    assert measured <= bar
