"""Private keys in the less usual encodings: dumps, arrays of C, uuencode, base32 and base85."""

from __future__ import annotations

import base64
import binascii
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_key
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dkimpipe import publickey
from dkimpipe.errors import PrivateKeyError
from dkimpipe.keyforms import structure
from dkimpipe.keys import read_key

RSA_KEY = rsa.generate_private_key(65537, 1024)
ED25519_KEY = ed25519.Ed25519PrivateKey.generate()


def private(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, encoding: Encoding, pkcs1: bool) -> bytes:
    form = PrivateFormat.TraditionalOpenSSL if pkcs1 else PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, NoEncryption())


SEED = private(ED25519_KEY, Encoding.DER, False)[-32:]
KEYS = {
    "RSA, DER, PKCS #1": ("rsa", private(RSA_KEY, Encoding.DER, True)),
    "RSA, DER, PKCS #8": ("rsa", private(RSA_KEY, Encoding.DER, False)),
    "RSA, PEM": ("rsa", private(RSA_KEY, Encoding.PEM, False)),
    "Ed25519, DER": ("ed25519", private(ED25519_KEY, Encoding.DER, False)),
    "Ed25519, PEM": ("ed25519", private(ED25519_KEY, Encoding.PEM, False)),
}
P = {
    "rsa": RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "ed25519": ED25519_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
}


def rows(octets: bytes) -> list[tuple[int, bytes]]:
    return [(at, octets[at : at + 16]) for at in range(0, len(octets), 16)]


def shown(octets: bytes) -> str:
    return "".join(chr(octet) if 32 <= octet < 127 else "." for octet in octets)


def xxd(octets: bytes) -> bytes:
    return "".join(f"{at:08x}: {row.hex(' ', -2):<39}  {shown(row)}\n" for at, row in rows(octets)).encode()


def hexdump(octets: bytes) -> bytes:
    def line(at: int, row: bytes) -> str:
        halves = f"{row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}"
        return f"{at:08x}  {halves}  |{shown(row)}|\n"

    return "".join([*(line(at, row) for at, row in rows(octets)), f"{len(octets):08x}\n"]).encode()


def array(octets: bytes) -> bytes:
    lines = ",\n".join("  " + ", ".join(f"0x{octet:02x}" for octet in row) for _, row in rows(octets))
    return f"unsigned char key_der[] = {{\n{lines}\n}};\nunsigned int key_der_len = {len(octets)};\n".encode()


def uuencode(octets: bytes) -> bytes:
    lines = [binascii.b2a_uu(octets[at : at + 45]) for at in range(0, len(octets), 45)]
    return b"begin 600 mail.pem\n" + b"".join(lines) + b"`\nend\n"


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "xxd": xxd,
    "xxd, capitals": lambda octets: xxd(octets).upper(),
    "hexdump -C": hexdump,
    "hexdump -C, CRLF": lambda octets: hexdump(octets).replace(b"\n", b"\r\n"),
    "an array of C": array,
    "an array of C, one line": lambda octets: array(octets).replace(b"\n", b" "),
    "backslashes and x": lambda octets: "".join(f"\\x{octet:02x}" for octet in octets).encode(),
    "bytea of PostgreSQL": lambda octets: b"\\x" + octets.hex().encode() + b"\n",
    "uuencode": uuencode,
    "uuencode, in a mail": lambda octets: b"Here it is:\n\n" + uuencode(octets) + b"\nBob\n",
    "base32": lambda octets: base64.b32encode(octets) + b"\n",
    "base32, in lines": lambda octets: b"\n".join(
        base64.b32encode(octets)[at : at + 76] for at in range(0, len(base64.b32encode(octets)), 76)
    ),
    "base85": base64.b85encode,
    "Ascii85": lambda octets: base64.a85encode(octets, wrapcol=72),
    "Ascii85 of Adobe": lambda octets: base64.a85encode(octets, adobe=True) + b"\n",
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_is_read(encoding: str, key: str, tmp_path: Path) -> None:
    algorithm, octets = KEYS[key]
    path = write_key(tmp_path / "mail.key", ENCODINGS[encoding](octets))
    assert publickey.public(str(path)) == (algorithm, base64.b64encode(P[algorithm]).decode())


TOOLS = {"xxd": ("xxd",), "hexdump -C": ("hexdump", "-C"), "base32": ("base32",)}


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(t, marks=pytest.mark.skipif(not shutil.which(c[0]), reason=c[0]))
        for t, c in TOOLS.items()
    ],
)
def test_as_the_tool_itself_writes_it(tool: str, tmp_path: Path) -> None:
    _, octets = KEYS["RSA, DER, PKCS #1"]
    written = subprocess.run(TOOLS[tool], input=octets, stdout=subprocess.PIPE, check=True).stdout
    path = write_key(tmp_path / "mail.key", written)
    assert publickey.public(str(path))[0] == "rsa"


def test_an_octet_string_alone_is_read(tmp_path: Path) -> None:
    path = write_key(tmp_path / "mail.key", b"\x04\x20" + SEED)
    assert publickey.public(str(path)) == ("ed25519", base64.b64encode(P["ed25519"]).decode())


CUT = {name: encode for name, encode in ENCODINGS.items() if "mail" not in name}


@pytest.mark.parametrize("encoding", CUT)
def test_half_of_it_is_refused(encoding: str, tmp_path: Path) -> None:
    _, octets = KEYS["Ed25519, DER"]
    path = write_key(tmp_path / "mail.key", CUT[encoding](octets[:-4]))
    with pytest.raises(PrivateKeyError):
        read_key(str(path))


def test_it_is_never_read_as_another_key() -> None:
    """An Ed25519 key has no checksum: an encoding that is read with an error in it would sign all mail."""
    for _ in range(60):
        key = ed25519.Ed25519PrivateKey.generate()
        expected = private(key, Encoding.DER, False)
        for name, encode in ENCODINGS.items():
            for form in (Encoding.DER, Encoding.PEM):
                assert structure("FILE", encode(private(key, form, False))) == expected, name
