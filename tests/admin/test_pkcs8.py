"""Private keys of other signers, converted: openssl(1) reads what was written, and finds the same key."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Keys
from rspamd import NEEDS_RSPAMD, RSPAMADM, in_base64

from dkimpipe.admin.migration.pkcs8 import pkcs8
from dkimpipe.errors import PrivateKeyError


def openssl(*arguments: str, octets: bytes) -> bytes:
    """Return what openssl(1) prints."""
    return subprocess.run(["openssl", *arguments], input=octets, capture_output=True, check=True).stdout


def public(octets: bytes, *form: str) -> bytes:
    """Return the public half of a key, which openssl(1) derives."""
    return openssl("pkey", *form, "-pubout", octets=octets)


def der(octets: bytes) -> bytes:
    """Return a key in DER."""
    return openssl("pkey", "-outform", "DER", octets=octets)


def pkcs1_der(octets: bytes) -> bytes:
    """Return an RSA key as PKCS#1 in DER, as ``rspamadm dkim_keygen --priv-output der`` writes it."""
    return openssl("rsa", "-traditional", "-outform", "DER", octets=octets)


def halves(path: Path) -> bytes:
    """Return the octets of both halves of an Ed25519 key."""
    return base64.b64decode(in_base64(path))


RSA: dict[str, Callable[[bytes], bytes]] = {
    "PKCS#8": lambda pem: pem,
    "PKCS#1": lambda pem: openssl("rsa", "-traditional", octets=pem),
    "DER": der,
    "PKCS#1 in DER": pkcs1_der,
    "base64 of DER": lambda pem: base64.encodebytes(der(pem)),
    "base64 of PKCS#1": lambda pem: base64.b64encode(pkcs1_der(pem)),
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
}
ED25519: dict[str, Callable[[Path], bytes]] = {
    "PKCS#8": lambda path: path.read_bytes(),
    "DER": lambda path: der(path.read_bytes()),
    "both halves in base64, as rspamd": in_base64,
    "without a line end": lambda path: in_base64(path).strip(),
    "private half in base64, as dkimpy": lambda path: base64.b64encode(halves(path)[:32]),
    "both halves": halves,
    "private half": lambda path: halves(path)[:32],
}


@pytest.mark.parametrize("form", RSA)
def test_rsa(keys: Keys, form: str) -> None:
    pem = keys.path("rsa2048").read_bytes()
    converted = pkcs8("x.key", RSA[form](pem))
    assert converted == openssl("pkcs8", "-topk8", "-nocrypt", octets=pem)
    assert public(converted) == public(pem)


@pytest.mark.parametrize("form", ED25519)
def test_ed25519(keys: Keys, form: str) -> None:
    path = keys.path("ed25519")
    converted = pkcs8("x.key", ED25519[form](path))
    assert converted == openssl("pkey", octets=path.read_bytes())
    assert public(converted) == public(path.read_bytes())


@NEEDS_RSPAMD
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_keys_of_rspamadm(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.key"
    command = [
        RSPAMADM,
        "dkim_keygen",
        "-d",
        "example.com",
        "-s",
        "x",
        "-t",
        kind,
        "-b",
        "2048",
        "-k",
        str(path),
    ]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    record = "".join(printed.split('"')[1::2])
    converted = public(pkcs8(str(path), path.read_bytes()))
    in_der = openssl("pkey", "-pubin", "-outform", "DER", octets=converted)
    assert in_der.endswith(base64.b64decode(record.partition("p=")[2]))


REFUSED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "two keys in one": (lambda path: halves(path)[:32] + bytes(32), "is damaged: its public half belongs to"),
    "text": (lambda path: b"p=MIGfMA0\n", "contains no PEM block"),
    "nothing": (lambda path: b"", "is empty"),
    "DER that is cut off": (lambda path: der(path.read_bytes())[:40], "is damaged: OpenSSL rejects it"),
    "DER with a passphrase": (
        lambda path: openssl(
            "pkcs8", "-topk8", "-outform", "DER", "-passout", "pass:x", octets=path.read_bytes()
        ),
        "is encrypted",
    ),
    "small RSA key": (
        lambda path: openssl("genrsa", "512", octets=b""),
        "contains an RSA key of 512 bits; verifiers reject keys below 1024",
    ),
    "EC key": (
        lambda path: openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", octets=b""),
        "contains an EC key",
    ),
}


@pytest.mark.parametrize(("make", "fault"), REFUSED.values(), ids=REFUSED)
def test_refused(keys: Keys, make: Callable[[Path], bytes], fault: str) -> None:
    with pytest.raises(PrivateKeyError) as refused:
        pkcs8("x.key", make(keys.path("ed25519")))
    assert str(refused.value).startswith(f"key file x.key {fault}")
