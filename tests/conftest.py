"""What all tests share: throwaway keys, and the filter run as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import witness

PROJECT = Path(__file__).resolve().parent.parent
MAIN = PROJECT / "dkimpipe" / "__main__.py"
MESSAGE = b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n\nHello, Bob.\n"


class Keys(NamedTuple):
    """Key files by a name such as ``rsa2048``, each with its record for ``NAME._domainkey.example.com``."""

    directory: Path
    records: dict[str, list[bytes]]

    def path(self, name: str) -> Path:
        """Return the file of a key."""
        return self.directory / f"{name}.pem"

    def senders(self, text: str, name: str = "senders") -> Path:
        """Return a new senders file beside the keys; ``KEYS`` in its text is their directory."""
        path = self.directory / name
        path.write_text(text.replace("KEYS", str(self.directory)))
        return path


def write_key(path: Path, octets: bytes) -> Path:
    """Write a key file that only its owner can read."""
    path.write_bytes(octets)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys of each kind, in PKCS#8 and, for RSA, in PKCS#1 (``rsa2048-pkcs1``)."""
    directory = tmp_path_factory.mktemp("keys")
    records = {}
    made = {f"rsa{bits}": rsa.generate_private_key(65537, bits) for bits in (1024, 2048, 4096)}
    for name, key in {**made, "ed25519": ed25519.Ed25519PrivateKey.generate()}.items():
        forms = {name: PrivateFormat.PKCS8}
        if name != "ed25519":
            forms[f"{name}-pkcs1"] = PrivateFormat.TraditionalOpenSSL
        for form_name, form in forms.items():
            pem = key.private_bytes(Encoding.PEM, form, NoEncryption())
            write_key(directory / f"{form_name}.pem", pem)
            records[f"{form_name}._domainkey.example.com"] = [witness.record(pem)]
    return Keys(directory, records)


class Done(NamedTuple):
    """How a run of the filter ended."""

    status: int
    stdout: bytes
    stderr: str


def run_filter(*arguments: str, message: bytes = MESSAGE, env: dict[str, str] | None = None) -> Done:
    """Run ``dkimpipe ARGUMENTS < message`` in a process of its own, by the fastest start."""
    done = subprocess.run(
        [sys.executable, "-IS", str(MAIN), *arguments],
        input=message,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())
