"""``make demo``: sign a real message with a throwaway key, verify it by another program, show both."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

MESSAGE = b"""\
From: Alice <alice@example.com>
To: Bob <bob@example.net>
Subject: Is dinner ready?
Date: Thu, 01 Jan 2026 12:00:00 +0000
Message-ID: <1@example.com>

We lost the game. Are you hungry yet?
"""


def main() -> int:
    """Return 0 if dkimpy calls the signature valid."""
    with tempfile.TemporaryDirectory() as name:
        key = rsa.generate_private_key(65537, 2048)
        key_file, senders = Path(name, "key.pem"), Path(name, "senders")
        key_file.touch(0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        senders.write_text(f"example.com dkim(s=demo,key={key_file})\n")
        command = [str(Path(sys.executable).with_name("dkimpipe")), "--sender_map", str(senders)]
        print(
            f"$ cat {senders}\n{senders.read_text()}\n$ dkimpipe --sender_map {senders} < message", flush=True
        )
        signed = subprocess.run(command, input=MESSAGE, stdout=subprocess.PIPE, check=True).stdout
    print(signed.decode())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    valid = dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)
    print(f"demo._domainkey.example.com TXT {record.decode()}\n")
    print("dkimpy says: " + ("the signature is valid" if valid else "THE SIGNATURE IS NOT VALID"))
    return 0 if valid else 1


if __name__ == "__main__":
    raise SystemExit(main())
