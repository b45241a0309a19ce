"""Whole processes: a message on standard input, and what it costs."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import measure
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from figures import Figures

PROJECT = Path(__file__).resolve().parent.parent.parent
PYTHON = "/usr/bin/python3"
OPENSSL = "/usr/bin/openssl"
MESSAGE = (
    b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n"
    b"Date: Wed, 25 Nov 2026 10:00:00 +0000\nMessage-ID: <1@example.com>\n\n"
)
LINE = b"Some text as people write it, with  blanks, a little longer than half a line.\n"

Command = list[str]


class Place:
    """A directory that every user may read, with the program, keys, maps and messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(
            PROJECT / "dkimpipe", directory / "dkimpipe", ignore=shutil.ignore_patterns("__pycache__")
        )
        subprocess.run([PYTHON, "-m", "compileall", "-q", str(directory / "dkimpipe")], check=True)
        keys: dict[str, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {
            "rsa2048": rsa.generate_private_key(65537, 2048),
            "rsa4096": rsa.generate_private_key(65537, 4096),
            "ed25519": ed25519.Ed25519PrivateKey.generate(),
        }
        for name, key in keys.items():
            path = self.key(name)
            path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            path.chmod(0o440)
            if os.geteuid() == 0:
                shutil.chown(path, group="nogroup")

    def key(self, name: str) -> Path:
        """Return the file of a key."""
        return self.directory / f"{name}.pem"

    def write(self, name: str, octets: bytes) -> Path:
        """Return a new file."""
        path = self.directory / name
        path.write_bytes(octets)
        return path

    def dkimpipe(self, name: str, *signatures: str, before: str = "") -> Command:
        """Return the filter as master.cf starts it, with a map of its own."""
        items = ", ".join(re.sub(r"key=(\w+)", rf"key={self.directory}/\1.pem", each) for each in signatures)
        senders = self.write(f"senders.{name}", f"{before}example.com {items}\n".encode())
        return [PYTHON, "-IS", f"{self.directory}/dkimpipe/__main__.py", f"--sender_map={senders}"]


def one_message(place: Place, rounds: int) -> Figures:
    """Measure one small message through each of them."""
    message = place.write("message", MESSAGE + LINE)
    rsa2048 = "dkim(s=a,key=rsa2048)"
    perl = place.write("sign.pl", _PERL)
    dkimsign = str(Path(sys.executable).with_name("dkimsign"))
    programs = {
        "python3 -I -c pass": [PYTHON, "-I", "-c", "pass"],
        "dkimpipe, RSA-2048": place.dkimpipe("rsa2048", rsa2048),
        "dkimpipe, RSA-4096": place.dkimpipe("rsa4096", "dkim(s=a,key=rsa4096)"),
        "dkimpipe, Ed25519": place.dkimpipe("ed25519", "dkim(s=a,key=ed25519)"),
        "dkimpipe, RSA and Ed25519": place.dkimpipe("dual", rsa2048, "dkim(s=b,key=ed25519)"),
        "dkimpipe, DomainKeys": place.dkimpipe("domainkeys", "domainkeys(s=a,key=rsa2048)"),
        "dkimpy's dkimsign": [sys.executable, dkimsign, "a", "example.com", str(place.key("rsa2048"))],
        "Mail::DKIM": ["/usr/bin/perl", str(perl), str(place.key("rsa2048"))],
        "openssl dgst -sign": [OPENSSL, "dgst", "-sha256", "-sign", str(place.key("rsa2048"))],
    }
    figures = _in_turn(programs, dict.fromkeys(programs, message), rounds)
    if shutil.which("valgrind") and rounds > 1:  # it takes half a minute
        for name, command in programs.items():
            figures[name]["instructions"] = [float(_instructions(command, message))]
    return {"message": figures}


def sizes(place: Place, rounds: int) -> Figures:
    """Measure messages of text of all sizes."""
    commands: dict[str, Command] = {}
    messages: dict[str, Path] = {}
    dkimsign = str(Path(sys.executable).with_name("dkimsign"))
    for word, octets in {
        "4 KB": 4_000,
        "100 KB": 100_000,
        "1 MB": 10**6,
        "25 MB": 25 * 10**6,
        "100 MB": 10**8,
    }.items():
        path = place.write(f"text{octets}", MESSAGE + LINE * (octets // len(LINE)))
        for name, command in {
            "dkimpipe": place.dkimpipe("sizes", "dkim(s=a,key=rsa2048)"),
            "openssl dgst": [OPENSSL, "dgst", "-sha256"],
            "cat": ["/bin/cat"],
            "dkimsign": [sys.executable, dkimsign, "a", "example.com", str(place.key("rsa2048"))],
        }.items():
            commands[f"{name}, {word}"] = command
            messages[f"{name}, {word}"] = path
    measured = _in_turn(commands, messages, rounds)
    figures: dict[str, dict[str, list[float]]] = {}
    for name, values in measured.items():
        program, _, word = name.partition(", ")
        if program == "openssl dgst":
            cat = measured[f"cat, {word}"]
            figures[f"openssl dgst and cat, {word}"] = {
                "cpu": [one + other for one, other in zip(values["cpu"], cat["cpu"])],
                "memory": list(map(max, values["memory"], cat["memory"])),
            }
        elif program != "cat":
            figures[name] = values
    return {"sizes": figures}


def maps(place: Place, rounds: int) -> Figures:
    """Measure senders files of one line to a million, scanned and with an index."""
    message = place.write("message", MESSAGE + LINE)
    commands = {"1 line": place.dkimpipe("1", "dkim(s=a,key=rsa2048)")}
    for lines in (1_000, 100_000, 1_000_000):
        before = "".join(
            f"d{n}.example dkim(s=mail,key=/etc/dkimpipe/keys/d{n}.pem)\n" for n in range(lines - 1)
        )
        command = place.dkimpipe(f"{lines}", "dkim(s=a,key=rsa2048)", before=before)
        commands[f"{lines:,} lines"] = command
        if lines >= 100_000:
            indexed = place.dkimpipe(f"{lines}.indexed", "dkim(s=a,key=rsa2048)", before=before)
            subprocess.run(
                [sys.executable, "-m", "dkimpipe", "index", indexed[-1]],
                check=True,
                cwd=PROJECT,
                stdout=subprocess.DEVNULL,
            )
            commands[f"{lines:,} lines, index"] = indexed
    return {"maps": _in_turn(commands, dict.fromkeys(commands, message), rounds)}


def _in_turn(
    commands: dict[str, Command], messages: dict[str, Path], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Run all commands in each round, and one round more, before the others, that does not count."""
    figures: dict[str, dict[str, list[float]]] = {
        name: {"cpu": [], "wall": [], "memory": []} for name in commands
    }
    for number, name in itertools.product(range(rounds + 1), commands):
        cost = measure.cost(commands[name], messages[name])
        if number:
            for unit, value in cost._asdict().items():
                figures[name][unit].append(value)
    return figures


def _instructions(command: Command, message: Path) -> int:
    """Return how many instructions a command and its children execute in user mode."""
    tool = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null"]
    with message.open("rb") as stdin:
        done = subprocess.run([*tool, *command], stdin=stdin, capture_output=True, check=True)
    return sum(int(number) for number in re.findall(rb"Collected : (\d+)", done.stderr))


_PERL = b"""\
use strict;
use Mail::DKIM::Signer;
my $signer = Mail::DKIM::Signer->new(
    Algorithm => "rsa-sha256", Method => "relaxed", Domain => "example.com", Selector => "a",
    KeyFile => $ARGV[0]);
my @lines;
while (my $line = <STDIN>) { push @lines, $line; $line =~ s/\\n/\\r\\n/; $signer->PRINT($line); }
$signer->CLOSE;
print $signer->signature->as_string, "\\n", @lines;
"""
