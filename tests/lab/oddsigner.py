"""Signatures that our own signer refuses to make: with any tags, in any form, by any key."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable
from typing import Any

import in_memory
import witness
from conftest import Keys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from dkimpipe import canonical
from dkimpipe.body import EMPTY
from dkimpipe.dkim import signed_data
from dkimpipe.message import Message

MESSAGE = (
    b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n there\n"
    b"Date: Thu, 01 Jan 2026 12:00:00 +0000\n\nHello,  Bob. \n\nAlice\n\n\n"
)
H = "from:to:subject:date"


class Signer:
    """Makes signatures that our own signer refuses to make: with any tags, in any form."""

    def __init__(self, keys: Keys) -> None:
        self._keys: dict[str, Any] = {
            name: load_pem_private_key(keys.path(name).read_bytes(), None)
            for name in ("rsa1024", "rsa2048", "rsa4096", "ed25519")
        }
        short = subprocess.run(["openssl", "genrsa", "1008"], capture_output=True, check=True).stdout
        self._keys["rsa1008"] = load_pem_private_key(short, None)
        self.selector = "sel"

    def record(self, key: str) -> bytes:
        """Return the record of a key."""
        public = self._keys[key].public_key()
        return witness.record(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def bare_record(self, key: str) -> bytes:
        """Return the record that holds an RSAPublicKey."""
        public = self._keys[key].public_key()
        return b"p=" + base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.PKCS1))

    def dkim(
        self,
        message: bytes = MESSAGE,
        key: str = "rsa2048",
        form: Callable[[str], str] = str,
        length: int | None = None,
        **tags: str | None,
    ) -> bytes:
        """Return a message signed with these tags; None leaves one out. ``form`` rewrites the field."""
        kind = "ed25519" if key == "ed25519" else "rsa"
        defaults = {
            "v": "1",
            "a": f"{kind}-sha256",
            "c": "relaxed/simple",
            "d": "example.com",
            "s": self.selector,
            "h": H,
        }
        wanted = {**defaults, "bh": "", **tags, "b": tags.get("b", "")}
        c = (wanted["c"] or "simple/simple").lower()
        header_form, _, body_form = c.partition("/")
        body_form = body_form or "simple"
        if wanted["bh"] == "":
            hash_name = (wanted["a"] or "-sha256").lower().partition("-")[2]
            digest = hashlib.new(hash_name if hash_name in ("sha1", "sha256") else "sha256")
            digest.update(body(message, body_form)[:length])
            wanted["bh"] = base64.b64encode(digest.digest()).decode()
        text = "; ".join(f"{tag}={value}" for tag, value in wanted.items() if value is not None)
        field = form(f"DKIM-Signature: {text}").encode()
        if wanted["b"] == "":
            names = [name.strip().lower().encode() for name in (wanted["h"] or "").split(":")]
            data = signed_data(Message(in_memory.reader(message)).by_name, names, field, header_form)
            value = base64.b64encode(self._sign(key, data, wanted["a"] or ""))
            field = re.sub(rb"(;\s*b\s*=)", lambda found: found[1] + value, field, count=1)
        return field + b"\n" + message

    def _sign(self, key: str, data: bytes, algorithm: str) -> bytes:
        private = self._keys[key]
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return private.sign(hashlib.sha256(data).digest())
        assert isinstance(private, rsa.RSAPrivateKey)
        return private.sign(
            data, padding.PKCS1v15(), hashes.SHA1() if "sha1" in algorithm else hashes.SHA256()
        )

    def domainkeys(self, form: str, message: bytes = MESSAGE, h: bool = True, **tags: str | None) -> bytes:
        """Return a message with a DomainKey-Signature."""
        _, _, text = message.partition(b"\n\n")
        fields = Message(in_memory.reader(message)).fields
        octets: list[bytes] = [canonical.field(form, field.text) for field in fields]
        stream = canonical.Body(form, octets.append)
        stream.update(b"\n" + text)
        stream.finish()
        defaults = {"a": "rsa-sha1", "q": "dns", "c": form, "d": "example.com", "s": self.selector}
        wanted = {**defaults, **({"h": H} if h else {}), **tags}
        value = base64.b64encode(self._sign("rsa2048", b"".join(octets), "rsa-sha1")).decode()
        written = "; ".join(f"{tag}={value}" for tag, value in wanted.items() if value is not None)
        return f"DomainKey-Signature: {written}; b={value}\n".encode() + message


def body(message: bytes, form: str) -> bytes:
    """Return the canonical body."""
    octets: list[bytes] = []
    stream = canonical.Body(form, octets.append, EMPTY[form])
    stream.update(message.partition(b"\n\n")[2])
    stream.finish()
    return b"".join(octets)
