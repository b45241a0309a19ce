"""Whole processes: a message on standard input, and what it costs."""

from __future__ import annotations

import base64
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import measure
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from figures import Figures, Series
from progress import Progress

PROJECT = Path(__file__).resolve().parent.parent.parent
PYTHON = "/usr/bin/python3"
OPENSSL = "/usr/bin/openssl"
NOTHING = "python3 -I -c pass"
MESSAGE = (
    b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n"
    b"Date: Wed, 25 Nov 2026 10:00:00 +0000\nMessage-ID: <1@example.com>\n\n"
)
LINE = b"Some text as people write it, with  blanks, a little longer than half a line.\n"
RSA = "dkim(s=rsa2048,key=rsa2048)"

Command = list[str]


class Place:
    """A directory that every user may read, with the program, keys, maps and messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: dict[str, str] = {}  # of DNS, below example.com
        shutil.copytree(
            PROJECT / "dkimpipe", directory / "dkimpipe", ignore=shutil.ignore_patterns("__pycache__")
        )
        subprocess.run([PYTHON, "-m", "compileall", "-q", str(directory / "dkimpipe")], check=True)
        for name in ("rsa2048", "rsa4096"):
            self._add(name, rsa.generate_private_key(65537, int(name[3:])))
        self._add("ed25519", ed25519.Ed25519PrivateKey.generate())

    def _add(self, name: str, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
        path = self.key(name)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o440)
        if os.geteuid() == 0:
            shutil.chown(path, group="nogroup")
        public = key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            kind, octets = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            kind, octets = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        record = f"v=DKIM1; k={kind}; p={base64.b64encode(octets).decode()}"
        self.records[f"{name}._domainkey"] = record

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
        os.utime(senders, (0, 0))  # the filter waits for a map that was changed just now
        return [*self._program(), f"--sender_map={senders}"]

    def verifier(self) -> Command:
        """Return ``dkimpipe verify`` as master.cf starts it."""
        return [*self._program(), "verify", "--hostname=mx.test"]

    def _program(self) -> Command:
        return [PYTHON, "-IS", f"{self.directory}/dkimpipe/__main__.py"]

    def signed(self, name: str, message: Path, *signatures: str) -> Path:
        """Return a message with these signatures, as a new file."""
        with message.open("rb") as stdin:
            octets = subprocess.check_output(
                self.dkimpipe(name, *signatures), stdin=stdin, stderr=subprocess.DEVNULL
            )
        return self.write(f"signed.{name}", octets)


def signing(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure one small message through each signer."""
    message = place.write("message", MESSAGE + LINE)
    rsa2048 = str(place.key("rsa2048"))
    programs = {
        NOTHING: [PYTHON, "-I", "-c", "pass"],
        "dkimpipe, RSA-2048": place.dkimpipe("rsa2048", RSA),
        "dkimpipe, RSA-4096": place.dkimpipe("rsa4096", "dkim(s=rsa4096,key=rsa4096)"),
        "dkimpipe, Ed25519": place.dkimpipe("ed25519", "dkim(s=ed25519,key=ed25519)"),
        "dkimpipe, RSA and Ed25519": place.dkimpipe("dual", RSA, "dkim(s=ed25519,key=ed25519)"),
        "dkimpipe, DomainKeys": place.dkimpipe("domainkeys", "domainkeys(s=rsa2048,key=rsa2048)"),
        "dkimpy's dkimsign": dkimsign(place),
        "Mail::DKIM": ["/usr/bin/perl", str(place.write("sign.pl", _SIGN)), rsa2048],
        "openssl dgst -sign": [OPENSSL, "dgst", "-sha256", "-sign", rsa2048],
    }
    figures = in_turn(programs, dict.fromkeys(programs, message), rounds, progress)
    if shutil.which("valgrind") and rounds > 1:  # it takes half a minute
        for name, command in programs.items():
            progress(f"instructions of {name}")
            figures[name]["instructions"] = [float(_instructions(command, message))]
    return {"message": figures}


def verifying(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure one small message through each verifier; the name server must be there."""
    plain = place.write("message", MESSAGE + LINE)
    by_rsa = place.signed("v.rsa", plain, RSA)
    dkimverify = [sys.executable, str(Path(sys.executable).with_name("dkimverify"))]
    mail_dkim = ["/usr/bin/perl", str(place.write("verify.pl", _VERIFY))]
    programs = {
        NOTHING: ([PYTHON, "-I", "-c", "pass"], plain),
        "dkimpipe verify, unsigned": (place.verifier(), plain),
        "dkimpipe verify, RSA-2048": (place.verifier(), by_rsa),
        "dkimpipe verify, Ed25519": (
            place.verifier(),
            place.signed("v.ed25519", plain, "dkim(s=ed25519,key=ed25519)"),
        ),
        "dkimpipe verify, DomainKeys": (
            place.verifier(),
            place.signed("v.domainkeys", plain, "domainkeys(s=rsa2048,key=rsa2048)"),
        ),
        "dkimpipe verify, 10 signatures": (place.verifier(), place.signed("v.ten", plain, *[RSA] * 10)),
        "dkimpy's dkimverify": (dkimverify, by_rsa),
        "Mail::DKIM": (mail_dkim, by_rsa),
        "Mail::DKIM, unsigned": (mail_dkim, plain),
    }
    for name, (command, message) in programs.items():
        _refuse_failure(name, command, message)
    commands = {name: command for name, (command, _) in programs.items()}
    messages = {name: message for name, (_, message) in programs.items()}
    return {"verify": in_turn(commands, messages, rounds, progress)}


def _refuse_failure(name: str, command: Command, message: Path) -> None:
    """Raise RuntimeError unless a verifier finds the signatures valid, if there are any."""
    with message.open("rb") as stdin:
        printed = subprocess.run(command, stdin=stdin, capture_output=True, check=True).stdout
    passes = printed.count(b"=pass") + printed.count(b"signature ok")
    expected = 0 if name in (NOTHING, "Mail::DKIM, unsigned") or "unsigned" in name else 1
    if min(passes, 1) != expected or ("10 signatures" in name and passes != 10):
        raise RuntimeError(f"{name}: {passes} valid signatures: {printed!r}")


def dkimsign(place: Place) -> Command:
    """Return the command of dkimpy's signer."""
    program = Path(sys.executable).with_name("dkimsign")
    return [sys.executable, str(program), "rsa2048", "example.com", str(place.key("rsa2048"))]


def in_turn(
    commands: Mapping[str, Command], messages: Mapping[str, Path], rounds: int, progress: Progress
) -> dict[str, Series]:
    """Run all commands in each round, and one round more, before the others, that does not count."""
    figures: dict[str, Series] = {name: {"cpu": [], "wall": [], "memory": []} for name in commands}
    for number, name in itertools.product(range(rounds + 1), commands):
        progress(f"round {number} of {rounds}: {name}")
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


_SIGN = b"""\
use strict;
use Mail::DKIM::Signer;
my $signer = Mail::DKIM::Signer->new(
    Algorithm => "rsa-sha256", Method => "relaxed", Domain => "example.com", Selector => "rsa2048",
    KeyFile => $ARGV[0]);
my @lines;
while (my $line = <STDIN>) { push @lines, $line; $line =~ s/\\n/\\r\\n/; $signer->PRINT($line); }
$signer->CLOSE;
print $signer->signature->as_string, "\\n", @lines;
"""
_VERIFY = b"""\
use strict;
use Mail::DKIM::Verifier;
my $verifier = Mail::DKIM::Verifier->new;
my @lines;
while (my $line = <STDIN>) { push @lines, $line; $line =~ s/\\n/\\r\\n/; $verifier->PRINT($line); }
$verifier->CLOSE;
print "Authentication-Results: mx.test; dkim=", $verifier->result_detail, "\\n", @lines;
"""
