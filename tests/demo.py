"""``make demo``: sign a real message with a throwaway key, verify it, show both."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

MESSAGE = b"""\
From: Alice <alice@example.com>
To: Bob <bob@example.net>
Subject: Is dinner ready?
Date: Thu, 01 Jan 2026 12:00:00 +0000
Message-ID: <1@example.com>

We lost the game. Are you hungry yet?
"""


def main() -> int:
    """Return 0 if the signature is valid, for ``dkimpipe verify`` and for dkimpy."""
    with tempfile.TemporaryDirectory() as name:
        key = rsa.generate_private_key(65537, 2048)
        key_file, senders = Path(name, "key.pem"), Path(name, "senders")
        key_file.touch(0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        senders.write_text(f"example.com dkim(s=demo,key={key_file})\n")
        print(f"$ cat {senders}\n{senders.read_text()}")
        signed = run(MESSAGE, "--sender_map", str(senders))
        print(signed.decode())
        record = f"demo._domainkey.example.com={key_file}"
        explained = run(signed, "verify", "--explain", "--key-file", record).decode()
        print(explained)
    return 0 if ": pass" in explained and "dkimpy, another verifier: valid" in explained else 1


def run(message: bytes, *arguments: str) -> bytes:
    """Show a command and run it; return what it prints."""
    print(f"$ dkimpipe {shlex.join(arguments)} < message", flush=True)
    command = [str(Path(sys.executable).with_name("dkimpipe")), *arguments]
    return subprocess.run(command, input=message, stdout=subprocess.PIPE, check=False).stdout


if __name__ == "__main__":
    raise SystemExit(main())
