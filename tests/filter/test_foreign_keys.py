"""Private keys as other tools write them: read with the right public key, or converted by the hint."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import pty
import quopri
import re
import select
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Union
from urllib.parse import quote, quote_plus

import pytest
from conftest import MAIN, write_key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from test_keys import (
    CONVERT,
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

from dkimpipe import keytext, publickey
from dkimpipe.errors import PrivateKeyError
from dkimpipe.keys import PrivateKey, read_key

AnyKey = Union[rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey]
RESTORE = (
    "restore the key of the published record from a backup, or export it again; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
OTHER_FILE = (
    "name the file with the key of the published record, RSA or Ed25519; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
REPLACE = "replace it: dkimpipe genkey DOMAIN writes a new key, and the record to publish"


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
    # Under a label that says something else: what is in it decides.
    "label of OpenSSH": (relabelled("OPENSSH PRIVATE KEY"), False),
    "label of EC": (relabelled("EC PRIVATE KEY"), False),
    "label of DSA": (relabelled("DSA PRIVATE KEY"), False),
    "label of an encrypted key": (relabelled("ENCRYPTED PRIVATE KEY"), True),
    "label of a public key": (relabelled("PUBLIC KEY"), True),
    "label of a certificate": (relabelled("CERTIFICATE"), False),
    "label of parameters": (relabelled("DH PARAMETERS"), False),
    "END of another": (lambda text: re.sub(rb"END [A-Z ]*-", b"END CERTIFICATE-", text), False),
    # Armour.
    "no END": (lambda text: text.partition(b"-----END")[0], False),
    "no END, no line end": (lambda text: text.partition(b"\n-----END")[0], False),
    "no END, one line": (lambda text: text.partition(b"-----END")[0].replace(b"\n", b""), False),
    "half of END": (lambda text: text[:-9], False),
    "no BEGIN": (lambda text: text.partition(b"\n")[2], False),
    "four dashes": (lambda text: text.replace(b"-----", b"----"), False),
    "six dashes": (lambda text: text.replace(b"-----", b"------"), False),
    "four dashes in front": (lambda text: text[1:], False),
    "no dashes": (lambda text: text.replace(b"-", b""), False),
    "no dashes, one line": (lambda text: text.replace(b"-", b"").replace(b"\n", b""), False),
    "a space between the dashes and BEGIN": (lambda text: text.replace(b"-----BEGIN", b"----- BEGIN"), False),
    "armour in lower case": (
        lambda text: re.sub(rb"-----[^-]*-----", lambda found: found[0].lower(), text),
        False,
    ),
    "en dashes": (lambda text: text.replace(b"--", "\u2013".encode()), False),
    "em dashes": (lambda text: text.replace(b"-----", "\u2014\u2014-".encode()), False),
    "no-break spaces": (lambda text: text.replace(b" ", "\u00a0".encode()), False),
    "zero-width spaces": (lambda text: text.replace(b"\n", "\u200b\n".encode()), False),
    "underscores in the label": (lambda text: text.replace(b" ", b"_"), False),
    "n for line ends": (lambda text: text.replace(b"\n", b"n"), False),
    "n for line ends, in lines of 76": (
        lambda text: b"n".join([split(text)[0], *wrapped_at_76(text), split(text)[2]]),
        False,
    ),
    "\\012 for line ends": (lambda text: text.replace(b"\n", b"\\012"), False),
    "\\015\\012 for line ends": (lambda text: text.replace(b"\n", b"\\015\\012"), False),
    "cat -A": (lambda text: text.replace(b"\n", b"$\n"), False),
    "cat -A, CRLF": (lambda text: text.replace(b"\n", b"^M$\n"), False),
    "cat -v, CRLF": (lambda text: text.replace(b"\n", b"^M\n"), False),
    # In front of each line.
    "quoted twice in mail": (lambda text: prefixed(text, b">> "), False),
    "comment": (lambda text: prefixed(text, b"# "), False),
    "comment of C": (lambda text: prefixed(text, b"// "), False),
    "patch": (lambda text: b"@@ -0,0 +1,4 @@\n" + prefixed(text, b"+"), False),
    "log": (lambda text: prefixed(text, b"Nov 27 12:00:00 mail key[1234]: "), False),
    "line numbers": (lambda text: numbered(text, b"%6d\t"), False),
    "line numbers with a colon": (lambda text: numbered(text, b"%d:"), False),
    "line numbers with a dot": (lambda text: numbered(text, b" %2d. "), False),
    "line numbers with a bar": (lambda text: numbered(text, b"%d | "), False),
    # Encodings of the web, of mail, and of configuration files.
    "percent": (lambda text: quote(text).encode(), False),
    "percent, only what must be": (
        lambda text: text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D"),
        False,
    ),
    "form": (lambda text: quote_plus(text).encode(), False),
    "form, with its name": (lambda text: b"a=b&key=" + quote_plus(text).encode() + b"&c=d", False),
    "plus signs lost to spaces": (lambda text: swapped(text, b"+", b" "), False),
    "entities": (lambda text: swapped(text, b"+", b"&#43;").replace(b"=", b"&#x3D;"), False),
    "entities by name": (
        lambda text: swapped(swapped(text, b"+", b"&plus;"), b"/", b"&sol;").replace(b"=", b"&equals;"),
        False,
    ),
    "<br>": (lambda text: text.replace(b"\n", b"<br>"), False),
    "<br />, with line ends": (lambda text: text.replace(b"\n", b"<br />\n"), False),
    "HTML": (
        lambda text: b"<html><body><pre class='key'>" + text.replace(b"\n", b"<br>") + b"</pre></body>",
        False,
    ),
    "XML of a panel": (lambda text: b"<?xml version='1.0'?><dkim><pk>" + text + b"</pk></dkim>", False),
    "quoted-printable": (quopri.encodestring, False),
    "quoted-printable, one line": (lambda text: quopri.encodestring(text.replace(b"\n", b" ")), False),
    "JSON of Go": (lambda text: json_of(text).replace(b"+", b"\\u002b").replace(b"=", b"\\u003d"), False),
    "JSON of PHP": (lambda text: json_of(text).replace(b"/", b"\\/"), False),
    "JSON in JSON": (lambda text: json.dumps(json_of(text).decode()).encode(), False),
    "JSON of base64": (lambda text: json_of(base64.b64encode(text)), False),
    "JSON of the body": (lambda text: json_of(split(text)[1]), False),
    "JSON of the body, one line": (lambda text: json_of(split(text)[1].replace(b"\n", b"")), False),
    "YAML, folded": (lambda text: b"key: >-\n  " + text.replace(b"\n", b"\n\n  "), False),
    "YAML of the body": (lambda text: b"dkim:\n  key: " + split(text)[1].replace(b"\n", b"") + b"\n", False),
    "secret of Kubernetes": (
        lambda text: (
            b"kind: Secret\ndata:\n  crt: %b\n  key: %b\n"
            % (base64.b64encode(certificate()), base64.b64encode(text))
        ),
        False,
    ),
    "TOML": (lambda text: b'[signature."rsa"]\nprivate-key = """\n' + text + b'"""\nselector = "r"\n', False),
    "Lua": (lambda text: b"key = [[\n" + text + b"]]\n", False),
    "environment": (lambda text: b"export DKIM='" + text.replace(b"\n", b"\\n") + b"'\n", False),
    "shell, with line ends escaped": (lambda text: b'K="' + text.replace(b"\n", b"\\n\\\n") + b'"\n', False),
    "UTF-16 LE, one line": (lambda text: text.replace(b"\n", b" ").decode().encode("utf-16"), False),
    "UTF-16 LE, no armour": (lambda text: split(text)[1].decode().encode("utf-16"), False),
    "UTF-16 BE, no mark": (lambda text: text.decode().encode("utf-16-be"), False),
    "UTF-16 LE, certificate first": (
        lambda text: (certificate() + text).decode().encode("utf-16"),
        False,
    ),
    # base64 and hexadecimal digits.
    "base64url": (lambda text: split(text)[1].translate(bytes.maketrans(b"+/", b"-_")), False),
    "base64url, no padding": (
        lambda text: split(text)[1].translate(bytes.maketrans(b"+/", b"-_")).rstrip(b"="),
        False,
    ),
    "base64url in armour": (lambda text: armour_around(text, bytes.maketrans(b"+/", b"-_")), False),
    "no padding": (lambda text: split(text)[1].rstrip(b"="), False),
    "no padding, in armour": (lambda text: text.replace(b"=", b""), False),
    "base64 of the body": (lambda text: base64.b64encode(split(text)[1]), False),
    "base64 of the body, twice": (lambda text: base64.b64encode(base64.encodebytes(split(text)[1])), False),
    "base64 twice": (lambda text: base64.b64encode(base64.b64encode(text)), False),
    "hexadecimal": (lambda text: base64.b64decode(split(text)[1]).hex().encode(), False),
    "hexadecimal, in lines": (lambda text: wrapped(base64.b64decode(split(text)[1]).hex(), 60), False),
    "hexadecimal, capitals and colons": (
        lambda text: base64.b64decode(split(text)[1]).hex(":").upper().encode(),
        False,
    ),
    "hexadecimal, of C": (
        lambda text: ", ".join(f"0x{octet:02x}" for octet in base64.b64decode(split(text)[1])).encode(),
        False,
    ),
    "hexadecimal of PEM": (lambda text: text.hex().encode(), False),
    "octet string around it": (lambda text: in_octet_string(text), False),
    "an encrypted key first": (lambda text: pem(SMALL, PKCS8, SECRET) + text, False),
}


def prefixed(text: bytes, prefix: bytes) -> bytes:
    """Return lines with the same in front of each."""
    return b"".join([prefix + line for line in text.splitlines(keepends=True)])


def numbered(text: bytes, form: bytes) -> bytes:
    return b"".join([form % number + line for number, line in enumerate(text.splitlines(keepends=True), 1)])


def wrapped_at_76(text: bytes) -> list[bytes]:
    body = split(text)[1].replace(b"\n", b"")
    return [body[at : at + 76] for at in range(0, len(body), 76)]


def wrapped(text: str, width: int) -> bytes:
    return "\n".join([text[at : at + width] for at in range(0, len(text), width)]).encode()


def swapped(text: bytes, old: bytes, new: bytes) -> bytes:
    """Return PEM with another character in its body."""
    begin, body, end = split(text)
    return b"\n".join([begin, body.replace(old, new), end, b""])


def armour_around(text: bytes, table: bytes) -> bytes:
    begin, body, end = split(text)
    return b"\n".join([begin, body.translate(table), end, b""])


def json_of(text: bytes) -> bytes:
    """Return a secret as AWS and others write it."""
    return json.dumps({"DomainSigningSelector": "s1", "DomainSigningPrivateKey": text.decode()}).encode()


def in_octet_string(text: bytes) -> bytes:
    octets = base64.b64decode(split(text)[1])
    length = bytes([len(octets)]) if len(octets) < 128 else b"\x82" + len(octets).to_bytes(2, "big")
    return block("PRIVATE KEY", b"\x04" + length + octets)


ELLIPTIC = ec.generate_private_key(ec.SECP256R1())


def full_of_signs() -> ed25519.Ed25519PrivateKey:
    """Return a key with + and / in its base64. It has no redundancy: a wrong character is a wrong key."""
    made = (ed25519.Ed25519PrivateKey.from_private_bytes(sha256(bytes([n])).digest()) for n in range(256))
    return next(key for key in made if min(pem(key).count(b"+"), pem(key).count(b"/")) > 1)


SIGNS = full_of_signs()
KEYS: dict[str, tuple[AnyKey, bytes]] = {
    "pkcs1": (RSA, pem(RSA, PKCS1)),
    "pkcs8": (RSA, pem(RSA)),
    "ed25519": (SIGNS, pem(SIGNS)),
}


CHECKED: set[bytes] = set()


def assert_sound(path: Path) -> None:
    """Have OpenSSL check a key: the same octets once, for it is slow, and most shapes hold the same."""
    secret = read_key(str(path)).secret
    if secret not in CHECKED:
        publickey.sound(str(path))
    CHECKED.add(secret)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_in_another_shape_is_read(shape: str, name: str, tmp_path: Path) -> None:
    change, by_openssl = SHAPES[shape]
    key, text = KEYS[name]
    path = write_key(tmp_path / "key", change(text))
    assert verifies(key, read_key(str(path)).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert publickey.public(str(path))[1] == p_of(key)
    assert_sound(path)
    assert openssl_reads(path) in ({spki(key)} if by_openssl else {spki(key), b""})


def test_an_n_where_a_line_of_another_width_would_end() -> None:
    """That is so for one key of 64 in lines of 76."""
    lines = ["A" * 64 + "n" + "B" * 11, "C" * 76, "D" * 9]
    text = ["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"]
    assert keytext.plain("n".join(text).encode()).decode().split() == " ".join(text).split()


def printed(key: AnyKey) -> bytes:
    """Return a key as openssl(1) shows it."""
    command = ["openssl", "pkey", "-text", "-noout"]
    return subprocess.run(command, input=pem(key), capture_output=True, check=True).stdout


# Ed25519 keys without ASN.1: what the file contains, all of the key SEED.
MADE = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
PAIR = base64.b64encode(SEED + PUBLIC_HALF)
RSPAMD_RECORD = (
    b'mail._domainkey IN TXT ( "v=DKIM1; k=ed25519; "\n\t"p=' + base64.b64encode(PUBLIC_HALF) + b'" ) ;\n'
)
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
    "base64url, no padding": base64.urlsafe_b64encode(SEED).rstrip(b"="),  # as WildDuck takes it
    "rspamd, with its record": PAIR + b"\n" + RSPAMD_RECORD,  # rspamadm dkim_keygen without -k
    "rspamd, with its record, CRLF": (PAIR + b"\n" + RSPAMD_RECORD).replace(b"\n", b"\r\n"),
    "rspamd's seed, with its record": base64.b64encode(SEED) + b"\n" + RSPAMD_RECORD,  # -t ed25519-seed
    "octets of both halves": SEED + PUBLIC_HALF,
    "dkimpy, in quotes": b'"' + base64.b64encode(SEED) + b'"\n',
    "seed in hexadecimal digits": SEED.hex().encode() + b"\n",
    "seed in hexadecimal digits, with colons": SEED.hex(":").upper().encode(),
    "seed in hexadecimal digits, of C": ", ".join(f"0x{octet:02x}" for octet in SEED).encode(),
    "seed in armour": block("PRIVATE KEY", SEED),
    "seed in armour of its own": block("ED25519 PRIVATE KEY", SEED),
    "seed in armour, one line": block("PRIVATE KEY", SEED).replace(b"\n", b""),
    "seed below a comment": b"# dkim key; not to be shown\n" + base64.b64encode(SEED) + b"\n",
    "seed above a comment": SEED.hex().encode() + b"\n\n; of dkim\n",
    "rspamd, below a comment": b"# dkim key\n" + PAIR + b"\n",
    "openssl pkey -text": printed(MADE),
    "openssl pkey -text, CRLF": printed(MADE).replace(b"\n", b"\r\n"),
    "rspamd, in JSON": json.dumps({"key": PAIR.decode()}).encode(),
    "both halves in JSON": json.dumps(
        {"private": base64.b64encode(SEED).decode(), "public": base64.b64encode(PUBLIC_HALF).decode()}
    ).encode(),
    "JWK": (
        b'{"kty":"OKP","crv":"Ed25519","x":"%b","d":"%b"}'
        % tuple(base64.urlsafe_b64encode(half).rstrip(b"=") for half in (PUBLIC_HALF, SEED))
    ),
    "public half first": base64.b64encode(PUBLIC_HALF) + b"\n" + base64.b64encode(SEED) + b"\n",
    "public half first, one line": base64.b64encode(PUBLIC_HALF) + b" " + base64.b64encode(SEED),
    "public half first, in hexadecimal digits": f"{PUBLIC_HALF.hex()}\n{SEED.hex()}\n".encode(),
    "public half second": base64.b64encode(SEED) + b"\n" + base64.b64encode(PUBLIC_HALF) + b"\n",
    "public half first, no padding": (
        base64.urlsafe_b64encode(PUBLIC_HALF).rstrip(b"=")
        + b"\n"
        + base64.urlsafe_b64encode(SEED).rstrip(b"=")
    ),
    "public half first, labelled": b"pub: %b\npriv: %b\n"
    % (base64.b64encode(PUBLIC_HALF), base64.b64encode(SEED)),
    "keys without labels that say so": b"a=%b\nb=%b\n"
    % (base64.b64encode(PUBLIC_HALF), base64.b64encode(SEED)),
    "private:": b"private: " + base64.b64encode(SEED) + b"\n",
    "private=": b"private=" + base64.b64encode(SEED) + b"\n",
    "PRIVATE_KEY=": b"DKIM_PRIVATE_KEY='" + base64.b64encode(SEED) + b"'\n",
    "private key in JSON": json.dumps({"priv": base64.b64encode(SEED).decode(), "s": "mail"}).encode(),
    "private-key in TOML": b'private-key = "' + base64.b64encode(SEED) + b'"\n',
    "seed in hexadecimal digits, labelled": b"seed: " + SEED.hex().encode() + b"\n",
    "secret key, base64url": b"ed25519.secretkey: " + base64.urlsafe_b64encode(SEED).rstrip(b"=") + b"\n",
    "dnssec-keygen": b"Private-key-format: v1.3\nAlgorithm: 15 (ED25519)\nPrivateKey: %b\nCreated: 20261127\n"
    % base64.b64encode(SEED),
    "octet string alone": base64.b64encode(b"\x04\x20" + SEED),
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


def numbers(key: rsa.RSAPrivateKey) -> list[bytes]:
    """Return the numbers of a key, in the order of RFC 8017 appendix A.1.2."""
    own = key.private_numbers()
    public = own.public_numbers
    found = (public.n, public.e, own.d, own.p, own.q, own.dmp1, own.dmq1, own.iqmp)
    return [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in found]


def pss(key: rsa.RSAPrivateKey) -> bytes:
    """Return PKCS#8 of which the algorithm is RSASSA-PSS (RFC 4055), as openssl genpkey writes it."""
    inner = der(key, PKCS1)
    content = bytes.fromhex("020100300b06092a864886f70d01010a0482") + len(inner).to_bytes(2, "big") + inner
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def jwk(key: rsa.RSAPrivateKey) -> bytes:
    names = ("n", "e", "d", "p", "q", "dp", "dq", "qi")
    values = [base64.urlsafe_b64encode(number).decode().rstrip("=") for number in numbers(key)]
    return json.dumps({"kty": "RSA", "kid": "mail", **dict(zip(names, values))}, indent=1).encode()


def xml(key: rsa.RSAPrivateKey) -> bytes:
    names = ("Modulus", "Exponent", "D", "P", "Q", "DP", "DQ", "InverseQ")
    values = [base64.b64encode(number).decode() for number in numbers(key)]
    return f"<RSAKeyValue>{''.join(f'<{n}>{v}</{n}>' for n, v in zip(names, values))}</RSAKeyValue>".encode()


def of_bind(key: rsa.RSAPrivateKey) -> bytes:
    """Return a key as dnssec-keygen(8) writes it."""
    names = (
        *("Modulus", "PublicExponent", "PrivateExponent", "Prime1"),
        *("Prime2", "Exponent1", "Exponent2", "Coefficient"),
    )
    lines = [f"{name}: {base64.b64encode(number).decode()}" for name, number in zip(names, numbers(key))]
    return "\n".join(
        ["Private-key-format: v1.3", "Algorithm: 8 (RSASHA256)", *lines, "Created: 1", ""]
    ).encode()


STRUCTURES: dict[str, bytes] = {
    "dnssec-keygen": of_bind(RSA),
    "dnssec-keygen, CRLF": of_bind(RSA).replace(b"\n", b"\r\n"),
    "JWK": jwk(RSA),
    "JWK in a set": b'{"keys": [' + jwk(RSA) + b"]}",
    "openssl pkey -text": printed(RSA),
    "openssl pkey -text, indented": printed(RSA).replace(b"\n", b"\n  "),
    "XML of .NET": xml(RSA),  # as dkim-exchange keeps it
    "XML of .NET, in UTF-16": xml(RSA).decode().encode("utf-16"),
    "for RSASSA-PSS": block("PRIVATE KEY", pss(RSA)),
    "for RSASSA-PSS, no armour": base64.b64encode(pss(RSA)),
    "with bytes behind it": block("PRIVATE KEY", der(RSA) + b"\0\0"),
    "behind an EC key": pem(ELLIPTIC) + pem(RSA),
    "behind an EC key, SEC 1": pem(ELLIPTIC, PKCS1) + pem(RSA, PKCS1),
    "behind an encrypted EC key": pem(ELLIPTIC, PKCS8, SECRET) + pem(RSA),
    "behind half a key": pem(SMALL)[:200] + b"\n" + pem(RSA),
}


@pytest.mark.parametrize("octets", STRUCTURES.values(), ids=STRUCTURES)
def test_an_rsa_key_in_another_structure_is_read(octets: bytes, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", octets)
    assert verifies(RSA, read_key(str(path)).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert publickey.public(str(path))[1] == p_of(RSA)
    assert_sound(path)


def test_the_public_half_of_rspamd_must_be_that_of_the_key() -> None:
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", base64.b64encode(SEED + bytes(32)))
    assert str(raised.value) == "key file KEY is damaged: its public half belongs to another Ed25519 key"


@pytest.mark.parametrize("length", [1, 16, 31, 33, 48, 63, 65, 96, 128])
def test_base64_of_another_length_is_no_key(length: int) -> None:
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", base64.b64encode(b"x" * length))
    assert (str(raised.value), raised.value.hint) == ("key file KEY contains no PEM block", CONVERT)


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
REWRAP = (
    "(echo '-----BEGIN ENCRYPTED PRIVATE KEY-----'; tr -d '\\n\\r\\t >\"' <PATH "
    "| sed 's/.*-BEGIN[^-]*-----//;s/-----END.*//;s/\\\\[nr]//g' | fold -w 64; echo; "
    "echo '-----END ENCRYPTED PRIVATE KEY-----') "
    "| openssl pkey -out NEWFILE writes a copy without a passphrase"
)
ENCRYPTED = pem(RSA, PKCS8, SECRET)


def by_openssl(*arguments: str) -> bytes:
    """Return the RSA key as openssl rsa writes it."""
    return subprocess.run(
        ["openssl", "rsa", *arguments], input=pem(RSA), capture_output=True, check=True
    ).stdout


def putty() -> bytes:
    """Return the RSA key as PuTTY saves it."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_key(Path(directory) / "key", pem(RSA, PKCS1))
        command = ["puttygen", str(path), "-O", "private", "-o", f"{path}.ppk"]
        subprocess.run(command, capture_output=True, check=True)
        return Path(f"{path}.ppk").read_bytes()


PUTTYGEN = "puttygen PATH -O private-openssh -o NEWFILE converts it"


def zipped(octets: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mail.private", octets)
    return file.getvalue()


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
    "DER in an octet string": (
        RSA,
        b"\x04\x82" + len(der(RSA)).to_bytes(2, "big") + der(RSA),
        "is in DER, in an octet string",
        "tail -c +5 PATH | openssl pkey -inform DER -out NEWFILE converts it to PEM",
    ),
    "DER for RSASSA-PSS": (RSA, pss(RSA), "is in DER", FROM_DER),
    "Microsoft key BLOB": (
        RSA,
        by_openssl("-outform", "MSBLOB"),
        "is a Microsoft key BLOB",
        "openssl pkey -inform MSBLOB -in PATH -out NEWFILE converts it to PEM",
    ),
    "PVK": (
        RSA,
        by_openssl("-outform", "PVK", "-pvk-none"),
        "is in PVK format",
        "openssl pkey -inform PVK -in PATH -out NEWFILE converts it to PEM",
    ),
    "PKCS #12 in PEM": (
        RSA,
        block("PKCS12", pkcs12(RSA)),
        "is in PKCS #12 format",
        "sed '/-BEGIN/,/-END/!d;/^-/d' PATH | base64 -d | openssl pkcs12 -nodes -nocerts -out NEWFILE "
        "extracts the key",
    ),
    "PKCS #12 in base64": (
        RSA,
        base64.encodebytes(pkcs12(RSA)),
        "is in PKCS #12 format",
        "base64 -d PATH | openssl pkcs12 -nodes -nocerts -out NEWFILE extracts the key",
    ),
    **({"PuTTY": (RSA, putty(), "is in PuTTY format", PUTTYGEN)} if shutil.which("puttygen") else {}),
    "gzip": (
        RSA,
        gzip.compress(pem(RSA)),
        "is compressed by gzip",
        "(umask 077; gzip -dc <PATH >NEWFILE) decompresses it",
    ),
    "bzip2": (
        RSA,
        bz2.compress(pem(RSA)),
        "is compressed by bzip2",
        "(umask 077; bzip2 -dc <PATH >NEWFILE) decompresses it",
    ),
    "xz": (
        RSA,
        lzma.compress(pem(RSA)),
        "is compressed by xz",
        "(umask 077; xz -dc <PATH >NEWFILE) decompresses it",
    ),
    "zip": (
        RSA,
        zipped(pem(RSA)),
        "is a ZIP archive",
        "(umask 077; unzip -p PATH >NEWFILE) extracts its files, one after another",
    ),
    "encrypted, one line": (RSA, ENCRYPTED.replace(b"\n", b""), "is encrypted", REWRAP),
    "encrypted, lines joined by spaces": (RSA, ENCRYPTED.replace(b"\n", b" "), "is encrypted", REWRAP),
    "encrypted, literal \\n": (RSA, ENCRYPTED.replace(b"\n", b"\\n"), "is encrypted", REWRAP),
    "encrypted, CR only": (RSA, ENCRYPTED.replace(b"\n", b"\r"), "is encrypted", REWRAP),
    "encrypted, YAML": (
        RSA,
        b"key: |\n  " + ENCRYPTED.replace(b"\n", b"\n  "),
        "is encrypted",
        REWRAP,
    ),
    "encrypted, JSON": (
        RSA,
        b'{"a": "b", "key": "' + ENCRYPTED.replace(b"\n", b"\\n") + b'", "c": "d"}\n',
        "is encrypted",
        REWRAP,
    ),
    "encrypted, CRLF": (RSA, ENCRYPTED.replace(b"\n", b"\r\n"), "is encrypted", NO_PASSPHRASE),
}
_WORDS = r" (converts it|converts it to PEM|extracts .*|decompresses it|writes a copy .*)$"


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
    assert (openssl_reads(new) == b"") is stays_openssh
    assert stays_openssh or openssl_reads(new).endswith(spki(key)[24:])  # the algorithm is before
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


def request(*arguments: str) -> bytes:
    """Return a certificate request for the RSA key."""
    command = ["openssl", "req", "-new", "-key", "/dev/stdin", "-subj", "/CN=x", *arguments]
    return subprocess.run(command, input=pem(RSA), capture_output=True, check=True).stdout


def pkcs7(*arguments: str) -> bytes:
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", *arguments]
    return subprocess.run(command, input=certificate(), capture_output=True, check=True).stdout


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
    "public, for ssh": (
        RSA.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" root@mail\n",
        "contains a public key",
        PUBLIC,
    ),
    "public, for ssh, Ed25519": (
        ED25519.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "contains a public key",
        PUBLIC,
    ),
    "public, labelled as private": (
        block("PRIVATE KEY", spki(RSA)),
        "contains a public key",
        PUBLIC,
    ),
    "record of opendkim-genkey": (
        b'mail._domainkey\tIN\tTXT\t( "v=DKIM1; h=sha256; k=rsa; "\n\t  "p=' + p_of(RSA).encode() + b'" )\n',
        "contains a DKIM record",
        "give the private key file; the record belongs in DNS",
    ),
    "certificate, labelled as private": (
        block("RSA PRIVATE KEY", base64.b64decode(split(certificate())[1])),
        "contains a certificate",
        CERTIFICATE,
    ),
    "request": (
        request("-outform", "PEM"),
        "contains a certificate request",
        "give the private key file; a request contains only the public key",
    ),
    "PKCS #7": (
        pkcs7("-outform", "PEM"),
        "is in PKCS #7 format",
        "give the private key file; PKCS #7 contains only certificates",
    ),
    "PKCS #7 in DER": (
        pkcs7("-outform", "DER"),
        "is in PKCS #7 format",
        "give the private key file; PKCS #7 contains only certificates",
    ),
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


# Damaged beyond repair, or of a type that DKIM does not have. The record of the right key is published all
# the same, so the hint asks for that key first.
def three_primes() -> bytes:
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_primes:3"]
    return subprocess.run(command, capture_output=True, check=True).stdout


THREE_PRIMES = "contains an RSA key with more than two primes, which few programs support"
NOTHING_TO_CONVERT: dict[str, tuple[bytes, str, str]] = {
    "three primes": (three_primes(), THREE_PRIMES, REPLACE),
    "two private keys": (
        b"private: %b\nprivate: %b\n" % (base64.b64encode(SEED), base64.b64encode(bytes(32))),
        "contains no PEM block",
        CONVERT,
    ),
    "a private key and the public half of another": (
        b"private: %b\npublic: %b\n" % (base64.b64encode(SEED), base64.b64encode(bytes(32))),
        "contains no PEM block",
        CONVERT,
    ),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 1704\n" % SEED.hex().encode(),
        "contains no PEM block",
        CONVERT,
    ),
    "two public halves": (
        base64.b64encode(PUBLIC_HALF) + b"\n" + base64.b64encode(b"\1" * 32),
        "contains no PEM block",
        CONVERT,
    ),
    "dnssec-keygen, ECDSA": (
        b"Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: %b\n"
        % base64.b64encode(SEED),
        "contains an EC key",
        OTHER_FILE,
    ),
    **{
        f"JWK of {curve}": (
            json.dumps({"kty": kind, "crv": curve, "d": "A" * 43, "x": "B" * 43}).encode(),
            f"contains {name} key",
            OTHER_FILE,
        )
        for kind, curve, name in (
            ("OKP", "X25519", "an X25519"),
            ("OKP", "Ed448", "an Ed448"),
            ("EC", "P-256", "an EC"),
            ("EC", "secp256k1", "an EC"),
        )
    },
    "of elliptic curves, OpenSSH": (pem(ELLIPTIC, OPENSSH), "contains an EC key", OTHER_FILE),
    "JWK without primes": (
        json.dumps({k: v for k, v in json.loads(jwk(RSA)).items() if k in ("kty", "n", "e", "d")}).encode(),
        "contains an RSA key without its primes",
        "export it again with p and q, or calculate them: rsa_recover_prime_factors(n, e, d) of the Python "
        "package cryptography",
    ),
    "JWK, public": (
        json.dumps({k: v for k, v in json.loads(jwk(RSA)).items() if k in ("kty", "n", "e")}).encode(),
        "contains a public key",
        "give the private key file; the public key belongs in DNS",
    ),
    "JWK of Ed25519, public": (
        json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}).encode(),
        "contains a public key",
        "give the private key file; the public key belongs in DNS",
    ),
    "XML of .NET, public": (
        re.sub(rb"<(D|P|Q|DP|DQ|InverseQ)>[^<]*</[^>]*>", b"", xml(RSA)),
        "contains a public key",
        "give the private key file; the public key belongs in DNS",
    ),
    "empty": (b"", "is empty", RESTORE),
    "white space": (b"\n \n", "is empty", RESTORE),
    "text": (b"hello\n", "contains no PEM block", CONVERT),
    "half": (pem(RSA)[: len(pem(RSA)) // 2], "is truncated: no END line", RESTORE),
    "damaged": (pem(RSA).replace(b"\nM", b"\n=", 1), "is damaged: invalid base64", RESTORE),
    "half of an Ed25519 key": (block("PRIVATE KEY", der(ED25519)[:32]), "is truncated", RESTORE),
    "half of an RSA key": (block("PRIVATE KEY", der(RSA)[:32]), "is truncated", RESTORE),
    "half of what openssl(1) prints": (
        printed(RSA).partition(b"exponent2")[0],
        "contains no PEM block",
        CONVERT,
    ),
    "another half in what openssl(1) prints": (
        b"pub:".join([printed(ED25519).partition(b"pub:")[0], printed(MADE).partition(b"pub:")[2]]),
        "contains no PEM block",
        CONVERT,
    ),
    "31 bytes in hexadecimal digits": (SEED[:-1].hex().encode(), "contains no PEM block", CONVERT),
    "a line lost": (
        b"".join(pem(RSA).splitlines(keepends=True)[:5] + pem(RSA).splitlines(keepends=True)[6:]),
        "is truncated",
        RESTORE,
    ),
    "bytes behind an Ed25519 key": (
        block("PRIVATE KEY", der(ED25519) + b"\0\0\0"),
        "is damaged: bytes after the key structure",
        RESTORE,
    ),
    "of elliptic curves": (pem(ELLIPTIC), "contains an EC key", OTHER_FILE),
    "of elliptic curves, SEC 1": (pem(ELLIPTIC, PKCS1), "contains an EC key", OTHER_FILE),
    "of elliptic curves, in DER": (der(ELLIPTIC, PKCS1), "contains an EC key", OTHER_FILE),
    "of OpenPGP": (
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQVYBGT=\n-----END PGP PRIVATE KEY BLOCK-----\n",
        "contains an OpenPGP key or message",
        OTHER_FILE,
    ),
    "Java": (b"\xfe\xed\xfe\xed\0\0\0\2", "is a Java keystore", RESTORE),
    "too short": (
        subprocess.run(["openssl", "genrsa", "1008"], capture_output=True, check=True).stdout,
        "contains an RSA key of 1008 bits; verifiers reject keys below 1024",
        REPLACE,
    ),
}


@pytest.mark.parametrize(("octets", "fault", "hint"), NOTHING_TO_CONVERT.values(), ids=NOTHING_TO_CONVERT)
def test_a_new_key_is_the_last_resort(octets: bytes, fault: str, hint: str, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", octets)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    assert (str(raised.value), raised.value.hint) == (f"key file {path} {fault}", hint)


def test_line_ends_are_restored_only_where_each_line_has_one(tmp_path: Path) -> None:
    """An Ed25519 key has no redundancy: a character too many would be another key."""
    begin, body, end = split(pem(SIGNS))
    for octets in (b"n".join([begin, body[:9] + b"n" + body[9:], end]), begin + b"nn" + body + b"n" + end):
        path = write_key(tmp_path / "key", octets)
        with pytest.raises(PrivateKeyError):
            read_key(str(path))
        path.unlink()


# 32 octets of which nothing says whether they are private: the hint extracts them, to compare the record.
EITHER_HALF = {
    "KEY=": b"KEY=" + base64.b64encode(SEED) + b"\n",
    "ed25519:": b"ed25519:" + base64.b64encode(SEED),
    "in JSON": json.dumps({"key": base64.b64encode(SEED).decode()}).encode(),
    "public:": b"public: " + base64.b64encode(SEED) + b"\n",
    "in hexadecimal digits": b"key: " + SEED.hex().encode() + b"\n",
}


@pytest.mark.parametrize("octets", EITHER_HALF.values(), ids=EITHER_HALF)
def test_a_half_without_a_label_is_not_read_but_extracted(octets: bytes, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", octets)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    fault = "contains 32 bytes that may be either half of an Ed25519 key"
    assert str(raised.value) == f"key file {path} {fault}"
    command, _, then = raised.value.hint.partition(" extracts them; ")
    made = tmp_path / "new"
    subprocess.run(["sh", "-ec", command.replace("NEWFILE", str(made))], check=True)
    assert publickey.public(str(made)) == ("ed25519", p_of(MADE))
    show = re.search("dkimpipe (genkey --show NEWFILE)", then)
    assert show
    words = [sys.executable, str(MAIN), *show[1].replace("NEWFILE", str(made)).split()]
    assert p_of(MADE) in subprocess.run(words, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("hint", [RESTORE, CONVERT, OTHER_FILE, REPLACE])
def test_the_last_resort_is_a_key_with_its_record(hint: str, tmp_path: Path) -> None:
    found = re.search("dkimpipe (genkey DOMAIN)", hint)
    assert found
    command = f"{sys.executable} {MAIN} {found[1]} --group root --directory {tmp_path}".replace(
        "DOMAIN", "example.com"
    )
    done = subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    assert read_key(str(path)).bits == 2048
    assert publickey.public(str(path))[1][:200].encode() in done.stdout
