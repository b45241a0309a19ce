"""Private keys as other tools write them: read with the right public key, or converted by the hint."""

from __future__ import annotations

import base64
import os
import pty
import re
import select
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Union

import pytest
from conftest import write_key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from test_keys import (
    DIGESTS,
    ED25519,
    OPENSSH,
    PKCS1,
    PKCS8,
    PUBLIC_HALF,
    RSA,
    SECRET,
    SEED,
    SMALL,
    block,
    certificate,
    der,
    forbid_libcrypto,
    pem,
    verifies,
)

from dkimpipe import publickey
from dkimpipe.errors import PrivateKeyError
from dkimpipe.keys import PrivateKey, read_key

AnyKey = Union[rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey]
NEW_KEY = "generate a new key: openssl genrsa -out NEWFILE 2048"


def spki(key: AnyKey) -> bytes:
    """Return the public half of a key, as ``openssl pkey -pubout -outform DER`` writes it."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: AnyKey, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, form)


def p_of(key: AnyKey) -> str:
    """Return p= of a key's record."""
    octets = spki(key)
    return base64.b64encode(octets[-32:] if isinstance(key, ed25519.Ed25519PrivateKey) else octets).decode()


def openssl_reads(path: Path) -> bytes:
    """Return the public key that openssl reads in a file, in DER; empty if it reads none."""
    command = ["openssl", "pkey", "-in", str(path), "-passin", "pass:", "-pubout", "-outform", "DER"]
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else b""


def split(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the BEGIN line, the body and the END line of PEM."""
    lines = text.decode().splitlines()
    return lines[0].encode(), "\n".join(lines[1:-1]).encode(), lines[-1].encode()


def relabelled(label: str) -> Callable[[bytes], bytes]:
    return lambda text: re.sub(rb"(BEGIN|END) [A-Z ]*-", rf"\1 {label}-".encode(), text)


# What happens to PEM on its way: the change, and whether openssl(1) still reads it.
SHAPES: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "one line": (lambda text: text.replace(b"\n", b""), False),
    "lines joined by spaces": (lambda text: text.replace(b"\n", b" "), False),
    "lines joined by tabs": (lambda text: text.replace(b"\n", b"\t"), False),
    "body in the line of BEGIN": (lambda text: text.replace(b"-----\n", b"-----", 1), False),
    "END in the line of the body": (lambda text: text.replace(b"\n-----END", b"-----END"), False),
    r"literal \n": (lambda text: text.replace(b"\n", b"\\n"), False),
    r"literal \r\n": (lambda text: text.replace(b"\n", b"\\r\\n"), False),
    r"literal \n, escaped twice": (lambda text: text.replace(b"\n", b"\\\\n"), False),
    "JSON": (lambda text: b'{"type": "x", "key": "' + text.replace(b"\n", b"\\n") + b'"}\n', False),
    "shell variable": (lambda text: b'KEY="' + text + b'"\n', False),
    "YAML": (lambda text: b"key: |\n  " + text.replace(b"\n", b"\n  "), False),
    "quoted in mail": (lambda text: b"> " + text.replace(b"\n", b"\n> "), False),
    "CR only": (lambda text: text.replace(b"\n", b"\r"), False),
    "CR CR LF": (lambda text: text.replace(b"\n", b"\r\r\n"), True),
    "LF CR": (lambda text: text.replace(b"\n", b"\n\r"), False),
    "blank lines in between": (lambda text: text.replace(b"\n", b"\n\n"), False),
    "indented": (lambda text: b"  " + text.replace(b"\n", b"\n  "), False),
    "UTF-8 with mark": (lambda text: b"\xef\xbb\xbf" + text, False),
    "UTF-16 LE": (lambda text: text.decode().encode("utf-16"), False),
    "UTF-16 BE": (lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"), False),
    "base64 once more": (base64.b64encode, False),
    "base64 once more, in lines": (base64.encodebytes, False),
    "no armour": (lambda text: split(text)[1], False),
    "no armour, one line": (lambda text: split(text)[1].replace(b"\n", b""), False),
    "no armour, CRLF": (lambda text: split(text)[1].replace(b"\n", b"\r\n") + b"\r\n", False),
    "certificate first": (lambda text: certificate() + text, True),
    "chain first": (lambda text: certificate() + certificate() + text, True),
    "certificate first, CRLF": (lambda text: (certificate() + text).replace(b"\n", b"\r\n"), True),
    "certificate first, one line": (lambda text: (certificate() + text).replace(b"\n", b" "), False),
    "certificate behind": (lambda text: text + certificate(), True),
    "public key first": (lambda text: public_pem(SMALL) + text, True),
    "public key of PKCS#1 first": (lambda text: public_pem(SMALL, PublicFormat.PKCS1) + text, True),
    "parameters first": (lambda text: block("DH PARAMETERS", b"0\3\2\1\1") + text, True),
    "label of PKCS#1": (relabelled("RSA PRIVATE KEY"), True),
    "label of PKCS#8": (relabelled("PRIVATE KEY"), True),
    "label of its own": (relabelled("DKIM PRIVATE KEY"), False),
}
KEYS: dict[str, tuple[AnyKey, bytes]] = {
    "pkcs1": (RSA, pem(RSA, PKCS1)),
    "pkcs8": (RSA, pem(RSA)),
    "ed25519": (ED25519, pem(ED25519)),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_in_another_shape_is_read(shape: str, name: str, tmp_path: Path) -> None:
    change, by_openssl = SHAPES[shape]
    key, text = KEYS[name]
    path = write_key(tmp_path / "key", change(text))
    assert verifies(key, read_key(str(path)).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert publickey.public(str(path))[1] == p_of(key)
    publickey.sound(str(path))
    assert openssl_reads(path) in ({spki(key)} if by_openssl else {spki(key), b""})


# Ed25519 keys without ASN.1: what the file contains, all of the key SEED.
MADE = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
PAIR = base64.b64encode(SEED + PUBLIC_HALF)
ED25519_FORMS = {
    "dkimpy": base64.b64encode(SEED) + b"\n",  # dknewkey --ktype ed25519
    "dkimpy, no line end": base64.b64encode(SEED),
    "dkimpy, CRLF": base64.b64encode(SEED) + b"\r\n",
    "dkimpy, with mark": b"\xef\xbb\xbf" + base64.b64encode(SEED),
    "dkimpy, blank line first": b"\n  " + base64.b64encode(SEED) + b"\n",
    "rspamd": PAIR,  # rspamadm dkim_keygen -t ed25519
    "rspamd, line end": PAIR + b"\n",
    "rspamd, in lines": base64.encodebytes(SEED + PUBLIC_HALF),
    "rspamd, CRLF": base64.encodebytes(SEED + PUBLIC_HALF).replace(b"\n", b"\r\n"),
    "OpenSSH": pem(MADE, OPENSSH),
    "OpenSSH, CRLF": pem(MADE, OPENSSH).replace(b"\n", b"\r\n"),
    "OpenSSH, one line": pem(MADE, OPENSSH).replace(b"\n", b" "),
    "OpenSSH, behind its public half": public_pem(MADE) + pem(MADE, OPENSSH),
}


@pytest.mark.parametrize("name", ED25519_FORMS)
@pytest.mark.parametrize("way", ["library", "package"])
def test_an_ed25519_key_without_asn1_is_read(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "package":
        forbid_libcrypto(monkeypatch)
    path = write_key(tmp_path / "mail.key", ED25519_FORMS[name])
    assert verifies(MADE, read_key(str(path)).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert publickey.public(str(path)) == ("ed25519", p_of(MADE))
    assert openssl_reads(path) in (b"", spki(MADE))


def test_the_public_half_of_rspamd_must_be_that_of_the_key() -> None:
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", base64.b64encode(SEED + bytes(32)))
    assert str(raised.value) == "key file KEY is damaged: its public half belongs to another Ed25519 key"


@pytest.mark.parametrize("length", [1, 16, 31, 33, 48, 63, 65, 96, 128])
def test_base64_of_another_length_is_no_key(length: int) -> None:
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", base64.b64encode(b"x" * length))
    assert (str(raised.value), raised.value.hint) == ("key file KEY contains no PEM block", NEW_KEY)


# What cannot be read: the file, the fault, and a hint whose command writes NEWFILE.


def encrypted_der() -> bytes:
    command = ["openssl", "pkcs8", "-topk8", "-outform", "DER", "-passout", f"pass:{SECRET.decode()}"]
    return subprocess.run(command, input=pem(SMALL), capture_output=True, check=True).stdout


def pkcs12(key: AnyKey) -> bytes:
    return serialize_key_and_certificates(b"mail", key, None, None, NoEncryption())


def openssh_encrypted(key: AnyKey) -> bytes:
    """Return a key as ssh-keygen(1) encrypts it."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_key(Path(directory) / "key", pem(key, OPENSSH))
        command = ["ssh-keygen", "-p", "-N", SECRET.decode(), "-f", str(path)]
        subprocess.run(command, capture_output=True, check=True)
        return path.read_bytes()


NO_PASSPHRASE = "openssl pkey -in PATH -out NEWFILE writes a copy without a passphrase"
FROM_DER = "openssl pkey -inform DER -in PATH -out NEWFILE converts it to PEM"
FROM_PKCS12 = "openssl pkcs12 -in PATH -nodes -nocerts -out NEWFILE extracts the key"
SSH_KEYGEN = "install -m 600 PATH NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE "
NO_END = "(umask 077; (awk '/BEGIN/||!/^-/' PATH; echo '-----END {}-----') >NEWFILE) adds it"
NO_BEGIN = "(umask 077; (echo '-----BEGIN {}-----'; cat PATH) >NEWFILE) adds it"
TRUNCATED = "is truncated: no END line"

CONVERTED: dict[str, tuple[AnyKey, bytes, str, str]] = {
    "DER of PKCS#8": (RSA, der(RSA), "is in DER", FROM_DER),
    "DER of PKCS#1": (RSA, der(RSA, PKCS1), "is in DER", FROM_DER),
    "DER of PKCS#8, small": (SMALL, der(SMALL), "is in DER", FROM_DER),
    "DER of Ed25519": (ED25519, der(ED25519), "is in DER", FROM_DER),
    "DER and a line end": (RSA, der(RSA) + b"\n", "is in DER", FROM_DER),
    "DER, encrypted": (
        SMALL,
        encrypted_der(),
        "is encrypted, in DER",
        "openssl pkey -inform DER -in PATH -out NEWFILE writes a copy without a passphrase, in PEM",
    ),
    "base64 of DER, encrypted": (
        SMALL,
        base64.encodebytes(encrypted_der()),
        "is encrypted, in DER",
        "base64 -d PATH | openssl pkey -inform DER -out NEWFILE writes a copy without a passphrase, in PEM",
    ),
    "PKCS #12": (RSA, pkcs12(RSA), "is in PKCS #12 format", FROM_PKCS12),
    "PKCS #12 of Ed25519": (ED25519, pkcs12(ED25519), "is in PKCS #12 format", FROM_PKCS12),
    "encrypted PKCS#8": (RSA, pem(RSA, PKCS8, SECRET), "is encrypted", NO_PASSPHRASE),
    "encrypted PKCS#1": (RSA, pem(RSA, PKCS1, SECRET), "is encrypted", NO_PASSPHRASE),
    "encrypted Ed25519": (ED25519, pem(ED25519, PKCS8, SECRET), "is encrypted", NO_PASSPHRASE),
    "encrypted, behind a certificate": (
        RSA,
        certificate() + pem(RSA, PKCS8, SECRET),
        "is encrypted",
        NO_PASSPHRASE,
    ),
    "encrypted, base64 once more": (
        RSA,
        base64.b64encode(pem(RSA, PKCS8, SECRET)),
        "is encrypted",
        "base64 -d PATH | openssl pkey -out NEWFILE writes a copy without a passphrase",
    ),
    "OpenSSH": (RSA, pem(RSA, OPENSSH), "is in OpenSSH format", SSH_KEYGEN + "converts it"),
    "OpenSSH, encrypted": (
        RSA,
        openssh_encrypted(RSA),
        "is encrypted, in OpenSSH format",
        SSH_KEYGEN + "writes a copy without a passphrase",
    ),
    "OpenSSH, encrypted Ed25519": (
        ED25519,
        openssh_encrypted(ED25519),
        "is encrypted, in OpenSSH format",
        SSH_KEYGEN + "writes a copy without a passphrase",
    ),
    "no END": (RSA, pem(RSA).partition(b"-----END")[0], TRUNCATED, NO_END.format("PRIVATE KEY")),
    "no END, no line end": (
        RSA,
        pem(RSA, PKCS1).partition(b"\n-----END")[0],
        TRUNCATED,
        NO_END.format("RSA PRIVATE KEY"),
    ),
    "half of END": (ED25519, pem(ED25519)[:-9], TRUNCATED, NO_END.format("PRIVATE KEY")),
    "END of another": (
        RSA,
        pem(RSA).replace(b"END PRIVATE", b"END RSA PRIVATE"),
        TRUNCATED,
        NO_END.format("PRIVATE KEY"),
    ),
    "no BEGIN": (
        RSA,
        pem(RSA).partition(b"\n")[2],
        "is damaged: no BEGIN line",
        NO_BEGIN.format("PRIVATE KEY"),
    ),
    "no BEGIN, PKCS#1": (
        RSA,
        pem(RSA, PKCS1).partition(b"\n")[2],
        "is damaged: no BEGIN line",
        NO_BEGIN.format("RSA PRIVATE KEY"),
    ),
}
_WORDS = r" (converts it|converts it to PEM|extracts .*|adds it|writes a copy .*)$"


@pytest.mark.parametrize("name", ["key", "the key of O'Brien; $(false)"], ids=["plain", "quoted"])
@pytest.mark.parametrize("case", CONVERTED)
def test_the_hint_converts(case: str, name: str, tmp_path: Path) -> None:
    """Run by sh(1), with the passphrase where one is asked for: the old key, with its public half."""
    key, octets, fault, hint = CONVERTED[case]
    path = write_key(tmp_path / name, octets)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    quoted = str(path) if name == "key" else "'" + str(path).replace("'", "'\\''") + "'"
    assert (str(raised.value), raised.value.hint) == (
        f"key file {path} {fault}",
        hint.replace("PATH", quoted),
    )
    new = tmp_path / "new.pem"
    command = re.sub(_WORDS, "", raised.value.hint).replace("NEWFILE", str(new))
    run_at_a_terminal(command, b"" if fault == "is in PKCS #12 format" else SECRET)
    assert verifies(key, read_key(str(new)).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert publickey.public(str(new))[1] == p_of(key)
    stays_openssh = case == "OpenSSH, encrypted Ed25519"  # there is no other format of ssh-keygen for it
    assert openssl_reads(new) == (b"" if stays_openssh else spki(key))
    assert path.read_bytes() == octets


def run_at_a_terminal(command: str, answer: bytes) -> None:
    """Run a command with sh(1), and give this answer to each question for a password."""
    child, terminal = pty.fork()
    if not child:
        os.execv("/bin/sh", ["sh", "-c", command])
    said = b""
    while chunk := read_terminal(terminal):
        said += chunk
        if re.search(rb"pass ?(word|phrase)[^\n]*: ?$", said, re.IGNORECASE):
            os.write(terminal, answer + b"\n")
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, said


def read_terminal(terminal: int) -> bytes:
    """Return what was written there; nothing once the last process has closed it, or after 30 seconds."""
    if not select.select([terminal], [], [], 30)[0]:
        return b""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


# What holds no private key, or none for DKIM: nothing is there to convert.
PUBLIC = "give the private key file; the public key belongs in DNS"
CERTIFICATE = "give the private key file; a certificate contains only the public key"
NO_PRIVATE_KEY = {
    "public": (public_pem(RSA), "contains a public key", PUBLIC),
    "public in DER": (spki(RSA), "contains a public key", PUBLIC),
    "public in DER, PKCS#1": (
        RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "contains a public key",
        PUBLIC,
    ),
    "public in DER, Ed25519": (spki(ED25519), "contains a public key", PUBLIC),
    "public in base64, as in p=": (base64.b64encode(spki(RSA)), "contains a public key", PUBLIC),
    "public in one line": (public_pem(RSA).replace(b"\n", b""), "contains a public key", PUBLIC),
    "certificate": (certificate(), "contains a certificate", CERTIFICATE),
    "certificate and public": (certificate() + public_pem(RSA), "contains a certificate", CERTIFICATE),
    "certificate in DER": (
        base64.b64decode(split(certificate())[1]),
        "contains a certificate",
        CERTIFICATE,
    ),
    "parameters and public": (
        block("DH PARAMETERS", b"0\3\2\1\1") + public_pem(RSA),
        "contains a public key",
        PUBLIC,
    ),
}


@pytest.mark.parametrize(("octets", "fault", "hint"), NO_PRIVATE_KEY.values(), ids=NO_PRIVATE_KEY)
def test_a_file_without_a_private_key(octets: bytes, fault: str, hint: str, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", octets)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    assert (str(raised.value), raised.value.hint) == (f"key file {path} {fault}", hint)
    assert openssl_reads(path) == b""


# Damaged beyond repair, or of a type that DKIM does not have: only a new key helps.
NOTHING_TO_CONVERT = {
    "empty": b"",
    "text": b"hello\n",
    "half": pem(RSA)[: len(pem(RSA)) // 2],
    "damaged": pem(RSA).replace(b"\nM", b"\n=", 1),
    "of elliptic curves": ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ),
    "too short": subprocess.run(["openssl", "genrsa", "1008"], capture_output=True, check=True).stdout,
}


@pytest.mark.parametrize("octets", NOTHING_TO_CONVERT.values(), ids=NOTHING_TO_CONVERT)
def test_a_new_key_is_the_hint_only_where_none_can_be_converted(octets: bytes, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", octets)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    assert raised.value.hint == NEW_KEY
    command = NEW_KEY.partition(": ")[2].replace("NEWFILE", str(path))
    subprocess.run(["sh", "-ec", f"umask 077; {command}"], check=True, capture_output=True)
    assert read_key(str(path)).bits == 2048
    assert openssl_reads(path) != b""
