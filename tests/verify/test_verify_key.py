"""Public keys: read as the cryptography package reads them; OpenSSL's library does what that package does."""

from __future__ import annotations

import hashlib
import random

import pytest
from conftest import Keys, Report
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from dkimpipe.keys import read_key
from dkimpipe.verify.openssl import PublicLibrary
from dkimpipe.verify.opensslpackage import PublicPackage
from dkimpipe.verify.verificationkey import OtherKeyError, PssKeyError, VerificationKey

MUTANTS = 3000
DIGESTS = {name: hashlib.new(name, b"text").digest() for name in ("sha1", "sha256")}


@pytest.fixture(scope="module", params=[PublicLibrary, PublicPackage], ids=["libcrypto", "cryptography"])
def openssl(request: pytest.FixtureRequest) -> PublicLibrary:
    made: PublicLibrary = request.param()
    return made


def public(keys: Keys, name: str, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    """Return the public half of a key in DER, or the octets of an Ed25519 key."""
    key = load_pem_private_key(keys.path(name).read_bytes(), None).public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return key.public_bytes(Encoding.DER, form)


RSA = ("rsa1024", "rsa2048", "rsa4096")


@pytest.mark.parametrize("name", RSA)
def test_both_forms_of_an_rsa_key(keys: Keys, name: str) -> None:
    bare = VerificationKey("rsa", public(keys, name, PublicFormat.PKCS1))
    whole = VerificationKey("rsa", public(keys, name))
    assert bare.octets == whole.octets == public(keys, name, PublicFormat.PKCS1)
    assert bare.bits == whole.bits == int(name[3:])
    assert bare.base64 == whole.base64
    assert f"v=DKIM1; k=rsa; p={bare.base64}".encode() == keys.records[f"{name}._domainkey.example.com"][0]


def test_an_ed25519_key(keys: Keys) -> None:
    key = VerificationKey("ed25519", public(keys, "ed25519"))
    assert (key.octets, key.bits) == (public(keys, "ed25519"), 256)
    for octets in (b"", key.octets[:-1], key.octets + b"\0"):
        with pytest.raises(ValueError, match="32 octets"):
            VerificationKey("ed25519", octets)


def test_keys_of_other_types(keys: Keys) -> None:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    for other in (curve, ed25519.Ed25519PrivateKey.generate().public_key()):
        with pytest.raises(OtherKeyError):
            VerificationKey("rsa", other.public_bytes(*form))
    with pytest.raises(PssKeyError):
        VerificationKey(
            "rsa",
            public(keys, "rsa2048").replace(bytes.fromhex("f70d010101"), bytes.fromhex("f70d01010a")),
        )


@pytest.mark.parametrize("exponent", [1, 2, 4, 65536, 65538])
def test_an_exponent_that_rsa_does_not_have(keys: Keys, exponent: int) -> None:
    """With 1, anybody could sign."""
    der = public(keys, "rsa2048", PublicFormat.PKCS1)
    octets = exponent.to_bytes(3, "big").lstrip(b"\0")
    head, _, _ = der.rpartition(b"\x02\x03\x01\x00\x01")
    body = head[4:] + bytes([2, len(octets)]) + octets
    with pytest.raises(ValueError, match="exponent"):
        VerificationKey("rsa", b"\x30\x82" + len(body).to_bytes(2, "big") + body)


def test_mutants_are_read_as_by_the_package(keys: Keys, report: Report) -> None:
    chance = random.Random(5280)
    forms = [
        public(keys, "rsa1024", form) for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    ]
    read = 0
    for _ in range(MUTANTS):
        octets = bytearray(chance.choice(forms))
        at = chance.choice((chance.randrange(40), chance.randrange(len(octets)), len(octets) - 3))
        new = bytes(chance.choice((0, 1, 2, 3, 5, 6, 48, 128, 129, 130, chance.randrange(256))) for _ in "x")
        octets[at : at + chance.choice((0, 1, 1, 2))] = chance.choice((new, new, b""))
        try:
            theirs = load_der_public_key(bytes(octets))
            bits = theirs.key_size if isinstance(theirs, rsa.RSAPublicKey) else 0
        except (ValueError, UnsupportedAlgorithm):
            bits = 0
        try:
            ours = VerificationKey("rsa", bytes(octets)).bits
        except ValueError:
            ours = 0
        assert ours == bits, octets.hex()
        read += bool(bits)
    report(f"{MUTANTS} mutants of RSA keys, {read} of them still keys")
    assert 100 < read < MUTANTS - 100


# The operations.


@pytest.mark.parametrize("hash_name", DIGESTS)
@pytest.mark.parametrize("name", RSA)
def test_rsa(keys: Keys, openssl: PublicLibrary, name: str, hash_name: str) -> None:
    key, digest = public(keys, name, PublicFormat.PKCS1), DIGESTS[hash_name]
    good = read_key(str(keys.path(name))).sign(digest, hash_name)
    assert openssl.verifies_rsa(key, good, digest, hash_name)
    assert openssl.made_rsa(key, good)
    other = "sha1" if hash_name == "sha256" else "sha256"
    assert not openssl.verifies_rsa(key, good, DIGESTS[other], other)
    for bad in (
        good[:-1],
        good[:-1] + bytes([good[-1] ^ 1]),
        b"\0" + good,
        bytes(len(good)),
        b"\xff" * 9,
        b"x",
    ):
        assert not openssl.verifies_rsa(key, bad, digest, hash_name)
        assert not openssl.made_rsa(key, bad) or bad == b"\0" + good
    assert not openssl.verifies_rsa(key, good, digest[:-1] + b"x", hash_name)
    assert not openssl.verifies_rsa(key[:-1], good, digest, hash_name)
    assert not openssl.made_rsa(b"", good)


def test_ed25519(keys: Keys, openssl: PublicLibrary) -> None:
    key, digest = public(keys, "ed25519"), DIGESTS["sha256"]
    good = read_key(str(keys.path("ed25519"))).sign(digest, "sha256")
    assert openssl.verifies_ed25519(key, good, digest)
    for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), good + b"\0", bytes(64), b""):
        assert not openssl.verifies_ed25519(key, bad, digest)
    assert not openssl.verifies_ed25519(key, good, digest[:-1])
    assert not openssl.verifies_ed25519(key[:-1], good, digest)
    assert not openssl.verifies_ed25519(bytes(32), good, digest)
