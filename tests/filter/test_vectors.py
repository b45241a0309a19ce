"""The samples of RFC 6376 and RFC 8463, appendix A, signed again: octet for octet what they print."""

from __future__ import annotations

import re
from binascii import b2a_base64
from pathlib import Path

import pytest
import witness
from conftest import write_key
from in_memory import reader, sign

from dkimpipe import digest, dkim
from dkimpipe.body import BodyHashes
from dkimpipe.keys import PrivateKey, read_key
from dkimpipe.message import Message

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
FIELD = rb"\S.*\r\n(?:[ ].*\r\n)*"

SAMPLES = [
    pytest.param("rfc6376-signed.eml", 0, "rfc6376-key.pem", "simple", id="rfc6376-a2"),
    pytest.param("rfc8463-signed.eml", 0, "rfc8463-ed25519.pem", "relaxed", id="rfc8463-a3-ed25519"),
    pytest.param("rfc8463-signed.eml", 1, "rfc8463-rsa.pem", "relaxed", id="rfc8463-a3-rsa"),
]


def sample(name: str, number: int) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return a signature field of a sample, its tags without blanks, and the message below the signatures."""
    octets = (VECTORS / name).read_bytes()
    fields = re.findall(FIELD, octets)
    signatures = [field for field in fields if field.startswith(b"DKIM-Signature:")]
    field = signatures[number]
    value = re.sub(rb"\s", b"", field.partition(b":")[2])
    return (
        field,
        dict(tag.split(b"=", 1) for tag in value.split(b";") if tag),
        octets[len(b"".join(signatures)) :],
    )


def sample_key(tmp_path: Path, name: str) -> PrivateKey:
    return read_key(str(write_key(tmp_path / name, (VECTORS / name).read_bytes())))


@pytest.mark.parametrize(("name", "number", "key", "canonicalization"), SAMPLES)
def test_body_hash_is_the_printed_one(
    tmp_path: Path, name: str, number: int, key: str, canonicalization: str
) -> None:
    _, tags, rest = sample(name, number)
    bodies = BodyHashes(large=False)
    body_hash = bodies.hash(canonicalization, "sha256")
    for chunk in Message(reader(rest)).body():
        bodies.update(chunk)
    bodies.finish()
    assert b2a_base64(body_hash.digest(), newline=False) == tags[b"bh"]


@pytest.mark.parametrize(("name", "number", "key", "canonicalization"), SAMPLES)
def test_signature_is_the_printed_one_bit_for_bit(
    tmp_path: Path, name: str, number: int, key: str, canonicalization: str
) -> None:
    field, tags, rest = sample(name, number)
    unsigned = field[: field.rindex(b"b=") + 2] + (b";" if field.endswith(b";\r\n") else b"")
    unsigned = unsigned.replace(b"\r\n", b"\n")
    data = dkim.signed_data(
        Message(reader(rest)).by_name, tags[b"h"].lower().split(b":"), unsigned, canonicalization
    )
    hashed = digest.new("sha256")
    hashed.update(data)
    signature = sample_key(tmp_path, key).sign(hashed.digest(), "sha256")
    assert b2a_base64(signature, newline=False) == tags[b"b"]


@pytest.mark.parametrize(
    ("unsigned", "key", "records", "options"),
    [
        (
            "rfc6376-unsigned.eml",
            "rfc6376-key.pem",
            "rfc6376-records.txt",
            "d=example.com,s=brisbane,c=simple/simple",
        ),
        (
            "rfc8463-unsigned.eml",
            "rfc8463-ed25519.pem",
            "rfc8463-records.txt",
            "s=brisbane,c=relaxed/relaxed",
        ),
        ("rfc8463-unsigned.eml", "rfc8463-rsa.pem", "rfc8463-records.txt", "s=test,c=relaxed/relaxed"),
    ],
    ids=["rfc6376", "rfc8463-ed25519", "rfc8463-rsa"],
)
def test_our_signature_verifies_with_the_printed_record(
    tmp_path: Path, unsigned: str, key: str, records: str, options: str
) -> None:
    key_file = write_key(tmp_path / key, (VECTORS / key).read_bytes())
    senders = tmp_path / "senders"
    senders.write_text(
        f"football.example.com dkim(key={key_file},i=@football.example.com,{options})\n".replace(
            "i=@football.example.com,d=example.com", "i=joe@example.com,d=example.com"
        )
    )
    signed = sign((VECTORS / unsigned).read_bytes(), "--sender_map", str(senders), now=1528637909)
    lines = (VECTORS / records).read_text().splitlines()
    published = {name: [value.encode()] for name, _, value in (line.partition("\t") for line in lines)}
    assert witness.dkimpy_verdicts([signed], published) == [["pass"]]
    assert witness.opendkim_verdicts([signed], published) == [["pass"]]
