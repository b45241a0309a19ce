"""What OpenSSL refuses by policy: the error names algorithm, policy and reason, and no key is called damaged.

The library is the system's own, with a configuration that it cannot fulfil, or with one function that fails
as RHEL's does: it leaves the error in OpenSSL's own queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import INTERPRETER, MESSAGE, PROJECT, run_filter, write_key
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dkimpipe import cryptopolicy, libcrypto
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.lint import Lint
from dkimpipe.admin.postfix import selftest
from dkimpipe.cryptopolicy import RefusedKeyError
from dkimpipe.errors import PrivateKeyError, SigningError
from dkimpipe.keys import PrivateKey
from dkimpipe.verify import opensslpackage
from dkimpipe.verify.openssl import PublicLibrary
from dkimpipe.verify.opensslpackage import PublicPackage
from dkimpipe.verify.verdict import Neutral
from dkimpipe.verify.verificationkey import VerificationKey

KEYS: dict[str, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {
    "rsa1024": rsa.generate_private_key(65537, 1024),
    "rsa2048": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
DIGESTS = {"sha1": bytes(20), "sha256": bytes(32)}
LIBRARY = libcrypto._NAMES[0]
RSA, EVP = 4, 6  # of openssl/err.h: ERR_LIB_...

FUNCTIONS = ("RSA_sign", "EVP_DigestSign", "RSA_verify", "EVP_DigestVerify")

TO_SHA256 = "sign with rsa-sha256: remove a=rsa-sha1 and domainkeys(...) from the entry"
TO_2048 = "use a key of 2048 bits: dkimpipe genkey"
TO_RSA = "use an RSA key: dkimpipe genkey --type rsa"
PROVIDERS = "openssl list -providers shows whether its configuration is complete"
NEW_KEY = "generate a new key: openssl genrsa -out NEWFILE 2048"


def pem(name: str) -> bytes:
    return KEYS[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return what gives this system a FIPS flag and a crypto-policy."""

    def give(flag: str, policy: str) -> None:
        for name, text in (("_FIPS", flag), ("_CRYPTO_POLICY", policy)):
            path = tmp_path / name
            monkeypatch.setattr(cryptopolicy, name, str(path))
            if text:
                path.write_text(f"{text}\n")

    return give


@contextlib.contextmanager
def refusing(library: int, reason: int) -> Iterator[None]:
    """Have OpenSSL's functions fail, and leave an error in its queue; none if the reason is 0."""
    real = ctypes.CDLL(LIBRARY)

    def fail(*_: object) -> int:
        if reason:
            real.ERR_new()
            real.ERR_set_error(library, reason, None)
        return 0

    stub = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 5)(fail)
    address = ctypes.cast(stub, ctypes.c_void_p).value
    find = libcrypto._ctypes.dlsym

    def dlsym(handle: int, name: str) -> object:
        return address if name in FUNCTIONS else find(handle, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libcrypto._ctypes, "dlsym", dlsym)
        yield


def no_package(self: PrivateKey, digest: bytes, hash_name: str) -> bytes:
    raise ImportError


class Refused(NamedTuple):
    """What is refused: key, hash, OpenSSL's error, the system; and the error that comes of it."""

    key: str
    hash: str
    error: tuple[int, int]
    system: tuple[str, str]
    cause: str
    hint: str


REFUSED = {
    "a short key in FIPS mode": Refused(
        "rsa1024", "sha256", (RSA, 120), ("1", "FIPS"),
        "OpenSSL refuses rsa-sha256 (FIPS mode) with key file KEY: key size too small", TO_2048,
    ),
    "SHA-1, a crypto-policy": Refused(
        "rsa2048", "sha1", (EVP, 152), ("0", "DEFAULT"),
        "OpenSSL refuses rsa-sha1 (crypto-policy DEFAULT) with key file KEY: invalid digest", TO_SHA256,
    ),
    "SHA-1, and a short key": Refused(
        "rsa1024", "sha1", (RSA, 145), ("0", "FUTURE"),
        "OpenSSL refuses rsa-sha1 (crypto-policy FUTURE) with key file KEY: digest not allowed", TO_SHA256,
    ),
    "Ed25519 in FIPS mode": Refused(
        "ed25519", "sha256", (EVP, 156), ("1", "FIPS:OSPP"),
        "OpenSSL refuses ed25519-sha256 (FIPS mode) with key file KEY: unsupported algorithm", TO_RSA,
    ),
    "no reason in FIPS mode": Refused(
        "rsa2048", "sha256", (0, 0), ("1", ""),
        "OpenSSL refuses rsa-sha256 (FIPS mode) with key file KEY: no reason given", PROVIDERS,
    ),
    "neither mode nor policy: a configuration": Refused(
        "rsa2048", "sha256", (EVP, 0x8010C), ("", ""),
        "OpenSSL refuses rsa-sha256 with key file KEY: unsupported", PROVIDERS,
    ),
    "a short key is not the cause": Refused(
        "rsa1024", "sha256", (EVP, 0x8010C), ("", ""),
        "OpenSSL refuses rsa-sha256 with key file KEY: unsupported", PROVIDERS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_named(
    name: str, system: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = REFUSED[name]
    system(*row.system)
    monkeypatch.setattr(PrivateKey, "_signed_by_package", no_package)
    with refusing(*row.error), pytest.raises(RefusedKeyError) as raised:
        PrivateKey("KEY", pem(row.key)).sign(DIGESTS[row.hash], row.hash)
    assert (str(raised.value), raised.value.hint) == (row.cause, row.hint)


@pytest.mark.parametrize("name", KEYS)
def test_the_package_signs_where_the_library_refuses(name: str) -> None:
    with refusing(RSA, 120):
        assert PrivateKey("KEY", pem(name)).sign(DIGESTS["sha256"], "sha256")


PACKAGE = {
    "as RHEL's own package says it": (UnsupportedAlgorithm("sha1 is not supported"), "unsupported"),
    "as one says it that finds no reason": (InternalError("Unknown OpenSSL error.", []), "unsupported"),
    "too old a package": (TypeError("unexpected keyword argument"), "invalid digest"),
    "a wrong value": (ValueError(), "invalid digest"),
}


@pytest.mark.parametrize("name", PACKAGE)
@pytest.mark.parametrize("library", ["refuses", "is missing"])
def test_a_refusal_by_the_package(
    name: str, library: str, system: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    error, reason = PACKAGE[name]

    def fails(self: PrivateKey, digest: bytes, hash_name: str) -> bytes:
        raise error

    system("0", "DEFAULT")
    monkeypatch.setattr(PrivateKey, "_signed_by_package", fails)
    if library == "is missing":
        monkeypatch.setattr(libcrypto, "_NAMES", ("no-such-library.so",))
    with refusing(EVP, 152), pytest.raises((PrivateKeyError, SigningError)) as raised:
        PrivateKey("KEY", pem("rsa2048")).sign(DIGESTS["sha1"], "sha1")
    refused = "OpenSSL refuses rsa-sha1 (crypto-policy DEFAULT) with key file KEY: "
    if library == "refuses":
        assert str(raised.value) == f"{refused}invalid digest"
    elif reason == "unsupported":
        assert str(raised.value) == f"{refused}unsupported"
    elif isinstance(error, TypeError):
        assert str(raised.value) == f"the Python package cryptography is too old: {error}"
    else:
        assert str(raised.value) == "key file KEY is damaged: OpenSSL rejects it"


def test_another_reason_is_not_a_policy(
    system: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    system("1", "FIPS")
    monkeypatch.setattr(PrivateKey, "_signed_by_package", no_package)
    with refusing(RSA, 112), pytest.raises(SigningError) as raised:
        PrivateKey("KEY", pem("rsa2048")).sign(DIGESTS["sha256"], "sha256")
    assert str(raised.value) == "cannot sign with libcrypto: digest too big for rsa key"
    assert raised.value.hint.endswith(", or install the Python package cryptography")


def test_errors_of_the_program_around_it_are_not_the_reason(
    system: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    system("", "")
    real = ctypes.CDLL(LIBRARY)
    real.ERR_new()
    real.ERR_set_error(EVP, 0x8010C, None)
    monkeypatch.setattr(PrivateKey, "_signed_by_package", no_package)
    with refusing(RSA, 120), pytest.raises(RefusedKeyError, match="key size too small"):
        PrivateKey("KEY", pem("rsa1024")).sign(DIGESTS["sha256"], "sha256")
    assert real.ERR_peek_error() == 0


# A configuration of OpenSSL that asks for a provider that is not there.

ONLY_FIPS = "openssl_conf = i\n[i]\nalg_section = a\n[a]\ndefault_properties = fips=yes\n"
IN_A_PROGRAM = """
import hashlib, sys
sys.path.append(sys.argv[1])
from dkimpipe.api import Signer
from dkimpipe.errors import Trouble
try:
    Signer(domain="example.com", selector="mail", keyfile=sys.argv[2]).sign(b"From: a@example.com\\n\\n")
except Trouble as error:
    print(type(error).__name__, error, error.hint, sep="\\n")
"""


@pytest.fixture(scope="module")
def only_fips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("openssl") / "openssl.cnf"
    path.write_text(ONLY_FIPS)
    return {"OPENSSL_CONF": str(path), "PATH": os.environ["PATH"]}


@pytest.mark.parametrize("interpreter", [INTERPRETER, sys.executable], ids=["no package", "a package"])
@pytest.mark.parametrize("name", KEYS)
def test_a_program_with_a_restricted_openssl(
    name: str, interpreter: str, only_fips: dict[str, str], tmp_path: Path
) -> None:
    path = write_key(tmp_path / "key", pem(name))
    flags = "-ISc" if interpreter == INTERPRETER else "-Ic"
    done = run_python(interpreter, flags, IN_A_PROGRAM, str(PROJECT), str(path), env=only_fips)
    algorithm, hint = ("ed25519-sha256", TO_RSA) if name == "ed25519" else ("rsa-sha256", PROVIDERS)
    policy = cryptopolicy.policy()
    assert done.splitlines() == [
        "RefusedKeyError",
        f"OpenSSL refuses {algorithm}{policy} with key file {path}: unsupported",
        hint,
    ]


@pytest.mark.parametrize("name", KEYS)
def test_the_filter_does_not_read_that_configuration(
    name: str, only_fips: dict[str, str], tmp_path: Path
) -> None:
    path = write_key(tmp_path / "key", pem(name))
    arguments = ("--domain=example.com", "--selector=mail", f"--keyfile={path}")
    done = run_filter(*arguments, message=MESSAGE, env=only_fips)
    assert done.status == 0
    assert done.stderr.startswith("dkimpipe: signed d=example.com ")


VERBS = {
    "genkey, Ed25519": (
        ["genkey", "--type", "ed25519", "--directory", "DIRECTORY", "--group", "root", "example.com"],
        "dkimpipe: OpenSSL refuses to generate a key of type Ed25519POLICY\n"
        "hint: use an RSA key: --type rsa\n",
    ),
    "genkey, RSA": (
        ["genkey", "--type", "rsa", "--directory", "DIRECTORY", "--group", "root", "example.com"],
        "dkimpipe: OpenSSL refuses to generate a key of type 2048-bit RSAPOLICY\n"
        "hint: openssl list -providers shows what it has\n",
    ),
    "check": (
        ["check", "--sender_map", "DIRECTORY/senders"],
        "dkimpipe: error: DIRECTORY/senders, line 1: OpenSSL refuses ed25519-sha256POLICY with key file"
        f" DIRECTORY/ed25519: unsupported\nhint: # {TO_RSA}\n"
        "dkimpipe: error: DIRECTORY/senders, line 2: OpenSSL refuses rsa-sha256POLICY with key file"
        f" DIRECTORY/rsa2048: unsupported\nhint: # {PROVIDERS}\n",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_verbs_name_it_too(verb: str, only_fips: dict[str, str], tmp_path: Path) -> None:
    words, expected = VERBS[verb]
    for name in ("ed25519", "rsa2048"):
        write_key(tmp_path / name, pem(name))
    lines = (f"example.com dkim(s=a,key={tmp_path}/{name})\n" for name in ("ed25519", "rsa2048"))
    (tmp_path / "senders").write_text("".join(lines).replace("example.com", "example.org", 1))
    code = "import sys; from dkimpipe.command import main; sys.exit(main())"
    words = [word.replace("DIRECTORY", str(tmp_path)) for word in words]
    said = run_python(sys.executable, "-c", code, *words, env=only_fips)
    assert said.replace(str(tmp_path), "DIRECTORY") == expected.replace("POLICY", cryptopolicy.policy())


def run_python(interpreter: str, flags: str, code: str, *words: str, env: dict[str, str]) -> str:
    """Return what Python prints, on both its outputs."""
    done = subprocess.run(
        [interpreter, flags, code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=PROJECT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout


# What ``check`` asks a process such as the filter's, whose library may refuse more than its own.

REFUSES = """#!/bin/sh
flags=$1 code=$3; shift 3
exec {interpreter} "$flags" -c "import sys; sys.path.append('{project}')
from dkimpipe import libcrypto
libcrypto.Library.sign_rsa = lambda self, key, digest, name: b'' if len(digest) == 20 else digest
libcrypto.Library.reason = lambda self: 'invalid digest'
from dkimpipe.keys import PrivateKey
PrivateKey._fits = lambda self, signature, digest: bool(signature)
$code" "$@"
"""
LINES = {
    "a=rsa-sha1": "a.example dkim(a=rsa-sha1,s=a,key=DIRECTORY/rsa2048)",
    "domainkeys": "b.example domainkeys(s=a,key=DIRECTORY/rsa2048)",
}


@pytest.mark.parametrize("name", LINES)
def test_check_tries_each_algorithm_once(name: str, tmp_path: Path) -> None:
    """The signature with SHA-256 is allowed; the second one with SHA-1 by such a key is not tried."""
    write_key(tmp_path / "rsa2048", pem("rsa2048"))
    (tmp_path / "python").write_text(REFUSES.format(interpreter=INTERPRETER, project=PROJECT))
    (tmp_path / "python").chmod(0o755)
    text = (
        f"good.example dkim(s=a,key=DIRECTORY/rsa2048)\n{LINES[name]}\n{LINES[name].replace('.ex', 'x.ex')}\n"
    )
    (tmp_path / "senders").write_text(text.replace("DIRECTORY", str(tmp_path)))
    uses = Lint(["--sender_map", str(tmp_path / "senders")]).uses
    assert len(uses) == 3
    assert list(selftest.refusals(uses, [str(tmp_path / "python")])) == [
        Finding(
            f"{tmp_path}/senders, line 2: OpenSSL refuses rsa-sha1{cryptopolicy.policy()} with key file"
            f" {tmp_path}/rsa2048: invalid digest",
            TO_SHA256,
        )
    ]
    assert not list(selftest.refusals(uses))


def test_check_says_how_such_a_process_failed(tmp_path: Path) -> None:
    write_key(tmp_path / "rsa2048", pem("rsa2048"))
    (tmp_path / "senders").write_text(f"good.example dkim(s=a,key={tmp_path}/rsa2048)\n")
    uses = Lint(["--sender_map", str(tmp_path / "senders")]).uses
    assert list(selftest.refusals(uses, ["/bin/false"])) == [
        Finding(f"{tmp_path}/senders, line 1: exit status 1")
    ]


# What the verifier makes of it: a signature that OpenSSL does not look at is not a failed one.


@pytest.mark.parametrize("openssl", [PublicLibrary, PublicPackage])
@pytest.mark.parametrize("name", KEYS)
def test_a_signature_that_may_not_be_verified_is_neutral(
    name: str, openssl: type[PublicLibrary | PublicPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise UnsupportedAlgorithm("not supported")

    monkeypatch.setattr(opensslpackage, "_rsa", unsupported)
    monkeypatch.setattr(ed25519.Ed25519PublicKey, "from_public_bytes", unsupported)
    key = VerificationKey("rsa" if name.startswith("rsa") else name, public(name))
    with refusing(EVP, 0x8010C), pytest.raises(Neutral, match="OpenSSL does not allow this algorithm"):
        monkeypatch.setattr("dkimpipe.verify.verificationkey._libraries", [openssl()])
        key.verifies(bytes(len(public(name))), DIGESTS["sha256"], "sha256")


@pytest.mark.parametrize("reason", [104, 0], ids=["bad signature", "no reason"])
@pytest.mark.parametrize("name", KEYS)
def test_any_other_reason_is_the_signature(
    name: str, reason: int, system: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    system("1", "FIPS")
    key = VerificationKey("rsa" if name.startswith("rsa") else name, public(name))
    with refusing(RSA, reason):
        monkeypatch.setattr("dkimpipe.verify.verificationkey._libraries", [PublicLibrary()])
        assert not key.verifies(bytes(64), DIGESTS["sha256"], "sha256")


def public(name: str) -> bytes:
    half = KEYS[name].public_key()
    if isinstance(half, ed25519.Ed25519PublicKey):
        return half.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return half.public_bytes(Encoding.DER, PublicFormat.PKCS1)
