"""Private key files: every form that can sign, every fault by name and hint, and OpenSSL in both its ways."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha1, sha256
from pathlib import Path
from typing import Union

import pytest
import witness
from conftest import INTERPRETER, PROJECT, Keys, run_filter, write_key
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from dkimpipe import libcrypto, publickey
from dkimpipe.errors import ConfigError, PrivateKeyError
from dkimpipe.keys import PrivateKey, read_key
from dkimpipe.libhash import LibraryHash

AnyKey = Union[
    rsa.RSAPrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    x25519.X25519PrivateKey,
    ec.EllipticCurvePrivateKey,
    dsa.DSAPrivateKey,
]
PKCS1, PKCS8, OPENSSH = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8, PrivateFormat.OpenSSH
FORMS = {"pkcs1": PKCS1, "pkcs8": PKCS8}
DIGESTS = {"sha1": sha1(b"text").digest(), "sha256": sha256(b"text").digest()}
SECRET = b"correct horse"

RESTORE = (
    "restore the key of the published record from a backup, or export it again; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
CONVERT = (
    "convert it to PEM, or restore the key of the published record from a backup; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
OTHER_FILE = (
    "name the file with the key of the published record, RSA or Ed25519; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
REPLACE = "replace it: dkimpipe genkey DOMAIN writes a new key, and the record to publish"
NO_PASSPHRASE = "openssl pkey -in PATH -out NEWFILE writes a copy without a passphrase"
OPENSSH_HINT = "install -m 600 PATH NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE converts it"
PUBLIC = "give the private key file; the public key belongs in DNS"
CERTIFICATE = "give the private key file; a certificate contains only the public key"
FROM_DER = "openssl pkey -inform DER -in PATH -out NEWFILE converts it to PEM"

RSA = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem(key: AnyKey, form: PrivateFormat = PKCS8, secret: bytes = b"") -> bytes:
    """Return a private key in PEM."""
    encryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)


def der(key: AnyKey, form: PrivateFormat = PKCS8) -> bytes:
    """Return a private key in DER."""
    return key.private_bytes(Encoding.DER, form, NoEncryption())


def block(label: str, octets: bytes, width: int = 64) -> bytes:
    """Return DER in PEM with lines of this width."""
    text = base64.b64encode(octets).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def huge() -> rsa.RSAPrivateKey:
    """Return a key of 8192 bits, of two primes that everybody knows (RFC 3526 and RFC 7919)."""
    primes = []
    for group in ("modp_4096", "ffdhe4096"):
        made = subprocess.run(
            ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", f"group:{group}"],
            capture_output=True,
            check=True,
        )
        parsed = subprocess.run(["openssl", "asn1parse"], input=made.stdout, capture_output=True, check=True)
        primes.append(int(re.findall(r"INTEGER +:([0-9A-F]+)", parsed.stdout.decode())[0], 16))
    p, q = sorted(primes, reverse=True)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def verifies(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, signature: bytes, hash_name: str) -> bool:
    """Tell whether a signature of the digest is right, by the public key."""
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}[hash_name]
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            prehashed = Prehashed(algorithm)
            key.public_key().verify(signature, DIGESTS[hash_name], padding.PKCS1v15(), prehashed)
        else:
            key.public_key().verify(signature, DIGESTS[hash_name])
    except InvalidSignature:
        return False
    return True


# Forms that can sign.

Signer = tuple[Union[rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey], bytes]


def rsa_pss() -> Signer:
    """Return a key for RSASSA-PSS, of which the numbers are the same as of any RSA key."""
    done = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:1024"],
        capture_output=True,
        check=True,
    )
    made = load_pem_private_key(done.stdout, None)
    assert isinstance(made, rsa.RSAPrivateKey)
    return made, done.stdout


SIGNERS: dict[str, Signer] = {
    "rsa-pss": rsa_pss(),
    "rsa2048-pkcs1": (RSA, pem(RSA, PKCS1)),
    "rsa2048-pkcs8": (RSA, pem(RSA)),
    "rsa1024-pkcs1": (SMALL, pem(SMALL, PKCS1)),
    "rsa1024-pkcs8": (SMALL, pem(SMALL)),
    "ed25519": (ED25519, pem(ED25519)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("bits", [1024, 1028, 1536, 2047, 2048, 3072])
def test_rsa_of_a_size(tmp_path: Path, bits: int, form: PrivateFormat) -> None:
    made = {1024: SMALL, 2048: RSA}.get(bits) or rsa.generate_private_key(65537, bits)
    key = read_key(str(write_key(tmp_path / "key", pem(made, form))))
    assert (key.type, key.bits) == ("rsa", bits)
    assert verifies(made, key.sign(DIGESTS["sha256"], "sha256"), "sha256")


@pytest.mark.parametrize("name", ["rsa4096", "rsa4096-pkcs1"])
def test_rsa_of_4096_bits(keys: Keys, name: str) -> None:
    key = read_key(str(keys.path(name)))
    assert (key.type, key.bits, len(key.sign(DIGESTS["sha256"], "sha256"))) == ("rsa", 4096, 512)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rsa_of_8192_bits(tmp_path: Path, form: PrivateFormat) -> None:
    made = huge()
    key = read_key(str(write_key(tmp_path / "key", pem(made, form))))
    assert key.bits == 8192
    assert verifies(made, key.sign(DIGESTS["sha256"], "sha256"), "sha256")


def test_ed25519(tmp_path: Path) -> None:
    key = read_key(str(write_key(tmp_path / "key", pem(ED25519))))
    assert (key.type, key.bits) == ("ed25519", 256)
    assert verifies(ED25519, key.sign(DIGESTS["sha256"], "sha256"), "sha256")


@pytest.mark.parametrize("exponent", [3, 65537])
def test_public_exponent(exponent: int) -> None:
    made = rsa.generate_private_key(exponent, 1024)  # type: ignore[arg-type,unused-ignore]
    assert verifies(made, PrivateKey("KEY", pem(made)).sign(DIGESTS["sha256"], "sha256"), "sha256")


def public_pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, form: PublicFormat) -> bytes:
    """Return the public half of a key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, form)


RESHAPES: dict[str, Callable[[bytes], bytes]] = {
    "lf": lambda text: text,
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "no-final-line-end": lambda text: text.rstrip(b"\n"),
    "text-before": lambda text: b"The key of example.com.\nBag Attributes\n    friendlyName: x\n\n" + text,
    "text-before-without-line-end": lambda text: b"\xef\xbb\xbf" + text,
    "text-behind": lambda text: text + b"\nEnd of the key.\n",
    "public-key-behind": lambda text: text + public_pem(RSA, PublicFormat.SubjectPublicKeyInfo),
    "blanks-at-line-ends": lambda text: text.replace(b"\n", b" \n"),
}


@pytest.mark.parametrize("reshape", RESHAPES.values(), ids=RESHAPES)
@pytest.mark.parametrize("name", SIGNERS)
def test_shape_of_the_file(tmp_path: Path, name: str, reshape: Callable[[bytes], bytes]) -> None:
    made, text = SIGNERS[name]
    key = read_key(str(write_key(tmp_path / "key", reshape(text))))
    assert verifies(made, key.sign(DIGESTS["sha256"], "sha256"), "sha256")


@pytest.mark.parametrize("width", [1, 60, 63, 64, 65, 76, 80, 100000])
@pytest.mark.parametrize("label", ["PRIVATE KEY", "RSA PRIVATE KEY"])
def test_width_of_the_lines(label: str, width: int) -> None:
    octets = der(SMALL, PKCS8 if label == "PRIVATE KEY" else PKCS1)
    signature = PrivateKey("KEY", block(label, octets, width)).sign(DIGESTS["sha256"], "sha256")
    assert verifies(SMALL, signature, "sha256")


# Faults: what stands in the file, what is wrong, the hint.


def encrypted_pkcs1() -> bytes:
    return pem(SMALL, PKCS1, SECRET)


def certificate() -> bytes:
    """Return a certificate, as the openssl program makes it."""
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x"],
        capture_output=True,
        check=True,
    )
    return done.stdout


def ec_with_parameters() -> bytes:
    """Return an EC key behind a block with its parameters, as `openssl ecparam -genkey` writes it."""
    done = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey"], capture_output=True, check=True
    )
    return done.stdout


def rsa_512() -> bytes:
    return subprocess.run(["openssl", "genrsa", "512"], capture_output=True, check=True).stdout


EC = ec.generate_private_key(ec.SECP256R1())
TRUNCATED = "is truncated: no END line"
UNKNOWN = "contains a key type that DKIM does not support"

REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty": (lambda: b"", "is empty", RESTORE),
    "line-end": (lambda: b"\n", "is empty", RESTORE),
    "text": (lambda: b"password = secret\n", "contains no PEM block", CONVERT),
    "junk": (lambda: random.Random(1).randbytes(4000), "contains no PEM block", CONVERT),
    "der": (lambda: der(SMALL), "is in DER", FROM_DER),
    "der-cut": (lambda: der(SMALL)[:-1], "contains no PEM block", CONVERT),
    "begin-only": (lambda: b"-----BEGIN nothing", "contains no private key", RESTORE),
    "key-at-the-end-of-much": (lambda: b"x" * 70000 + pem(SMALL), "contains no PEM block", CONVERT),
    "encrypted-pkcs8": (lambda: pem(SMALL, PKCS8, SECRET), "is encrypted", NO_PASSPHRASE),
    "encrypted-ed25519": (lambda: pem(ED25519, PKCS8, SECRET), "is encrypted", NO_PASSPHRASE),
    "encrypted-pkcs1": (encrypted_pkcs1, "is encrypted", NO_PASSPHRASE),
    "encrypted-pkcs1-crlf": (
        lambda: encrypted_pkcs1().replace(b"\n", b"\r\n"),
        "is encrypted",
        NO_PASSPHRASE,
    ),
    "public": (lambda: public_pem(RSA, PublicFormat.SubjectPublicKeyInfo), "contains a public key", PUBLIC),
    "public-pkcs1": (lambda: public_pem(RSA, PublicFormat.PKCS1), "contains a public key", PUBLIC),
    "public-ed25519": (
        lambda: public_pem(ED25519, PublicFormat.SubjectPublicKeyInfo),
        "contains a public key",
        PUBLIC,
    ),
    "certificate": (certificate, "contains a certificate", CERTIFICATE),
    "ec-pkcs8": (lambda: pem(EC), "contains an EC key", OTHER_FILE),
    "ec-sec1": (lambda: pem(EC, PKCS1), "contains an EC key", OTHER_FILE),
    "ec-behind-parameters": (ec_with_parameters, "contains an EC key", OTHER_FILE),
    "dsa-pkcs8": (lambda: pem(dsa.generate_private_key(1024)), "contains a DSA key", OTHER_FILE),
    "dsa-traditional": (lambda: pem(dsa.generate_private_key(1024), PKCS1), "contains a DSA key", OTHER_FILE),
    "ed448": (lambda: pem(ed448.Ed448PrivateKey.generate()), UNKNOWN, OTHER_FILE),
    "x25519": (lambda: pem(x25519.X25519PrivateKey.generate()), UNKNOWN, OTHER_FILE),
    "openssh-rsa": (
        lambda: pem(SMALL, OPENSSH),
        "is in OpenSSH format",
        OPENSSH_HINT,
    ),
    "openssh-cut": (
        lambda: block("OPENSSH PRIVATE KEY", b"openssh-key-v1\0"),
        "is in OpenSSH format",
        OPENSSH_HINT,
    ),
    "rsa-512": (rsa_512, "contains an RSA key of 512 bits; verifiers reject keys below 1024", REPLACE),
    "another-label": (lambda: block("DH PARAMETERS", der(EC)), "contains no private key", RESTORE),
    "no-end": (lambda: pem(EC).partition(b"-----END")[0], TRUNCATED, RESTORE),
    "no-end-in-one-line": (
        lambda: pem(SMALL).partition(b"-----END")[0].replace(b"\n", b"")[:-9],
        TRUNCATED,
        RESTORE,
    ),
    "end-of-another": (
        lambda: pem(EC).replace(b"END PRIVATE", b"END RSA PRIVATE"),
        TRUNCATED,
        RESTORE,
    ),
    "no-begin": (lambda: pem(EC).partition(b"\n")[2], "contains no PEM block", CONVERT),
    "cut-in-the-middle": (lambda: pem(SMALL)[:400], TRUNCATED, RESTORE),
    "base64": (
        lambda: pem(SMALL).replace(b"\nMII", b"\nMI"),
        "is damaged: invalid base64",
        RESTORE,
    ),
    "no-structure": (
        lambda: block("PRIVATE KEY", b"this is no structure"),
        "is truncated",
        RESTORE,
    ),
    "wrong-structure": (
        lambda: block("PRIVATE KEY", b"\x04\x82" + der(SMALL)[2:]),
        "is damaged: not a key structure",
        RESTORE,
    ),
    "empty-structure": (lambda: block("PRIVATE KEY", b""), "is truncated", RESTORE),
    "structure-of-another-label": (
        lambda: block("RSA PRIVATE KEY", b"\x04\x82" + der(SMALL)[2:]),
        "is damaged: not a key structure",
        RESTORE,
    ),
    "pkcs8-of-nothing": (
        lambda: block("PRIVATE KEY", bytes.fromhex("3012020100300d06092a864886f70d0101010500")),
        "is truncated",
        RESTORE,
    ),
}


@pytest.mark.parametrize(("make", "fault", "hint"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, make: Callable[[], bytes], fault: str, hint: str) -> None:
    path = write_key(tmp_path / "key", make())
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    assert (str(raised.value), raised.value.hint) == (
        f"key file {path} {fault}",
        hint.replace("PATH", str(path)),
    )


# How the path fails, the words for it, the hint.
NO_FILES = {
    "missing": ("No such file or directory", "create it, or fix the path"),
    "directory": ("not a regular file", "name the file itself: ls -l PATH"),
    "fifo": ("not a regular file", "name the file itself: ls -l PATH"),
    "device": ("not a regular file", "name the file itself: ls -l PATH"),
    "symlink": ("not a regular file", "name the file itself: DIR/real"),
    "relative-symlink": ("not a regular file", "name the file itself: DIR/real"),
    "symlink-loop": ("not a regular file", "name the file itself: ls -l PATH"),
    "dangling-symlink": ("not a regular file", "name the file itself: ls -l PATH"),
}


@pytest.mark.parametrize(("kind", "words", "hint"), [(k, *v) for k, v in NO_FILES.items()], ids=NO_FILES)
def test_no_file(tmp_path: Path, kind: str, words: str, hint: str) -> None:
    path = tmp_path / "key"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "symlink":
        path.symlink_to(write_key(tmp_path / "real", pem(SMALL)))
    elif kind == "relative-symlink":
        write_key(tmp_path / "real", pem(SMALL))
        path.symlink_to("real")
    elif kind == "symlink-loop":
        path.symlink_to("key")
    elif kind == "dangling-symlink":
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError) as raised:
        read_key(str(path))
    assert (str(raised.value), raised.value.hint) == (
        f"key file {path}: {words}",
        hint.replace("PATH", str(path)).replace("DIR", str(tmp_path)),
    )


def test_a_secret_of_kubernetes(tmp_path: Path) -> None:
    """The hint names a path that stays right when the secret is replaced."""
    for version, made in (("..1", SMALL), ("..2", OTHER)):
        (tmp_path / version).mkdir()
        write_key(tmp_path / version / "key.pem", pem(made))
    data, path = tmp_path / "..data", tmp_path / "key.pem"
    data.symlink_to("..1")
    path.symlink_to("..data/key.pem")
    with pytest.raises(ConfigError) as raised:
        read_key(str(path))
    assert raised.value.hint == f"name the file itself: {data}/key.pem"
    named = raised.value.hint.partition(": ")[2]
    assert verifies(SMALL, read_key(named).sign(DIGESTS["sha256"], "sha256"), "sha256")
    data.unlink()
    data.symlink_to("..2")
    assert verifies(OTHER, read_key(named).sign(DIGESTS["sha256"], "sha256"), "sha256")


# Mode, what is wrong, the mode that the hint gives.
EXPOSED = {
    0o644: ("readable by others (mode 0644)", "0640"),
    0o604: ("readable by others (mode 0604)", "0600"),
    0o444: ("readable by others (mode 0444)", "0440"),
    0o666: ("readable by others (mode 0666)", "0640"),
    0o777: ("readable by others (mode 0777)", "0640"),
    0o602: ("writable by others (mode 0602)", "0600"),
    0o662: ("writable by others (mode 0662)", "0640"),
    0o620: ("writable by the group (mode 0620)", "0600"),
    0o660: ("writable by the group (mode 0660)", "0640"),
    0o464: ("readable by others (mode 0464)", "0440"),
}


@pytest.mark.parametrize(
    ("mode", "words", "fixed"),
    [(k, *v) for k, v in EXPOSED.items()],
    ids=[f"{mode:04o}" for mode in EXPOSED],
)
def test_exposed(tmp_path: Path, mode: int, words: str, fixed: str) -> None:
    path = write_key(tmp_path / "the key; $(false)", pem(SMALL))
    path.chmod(mode)
    with pytest.raises(PrivateKeyError) as raised:
        read_key(str(path))
    assert (str(raised.value), raised.value.hint) == (
        f"key file {path} is {words}",
        f"chmod {fixed} '{path}'",
    )
    subprocess.run(["sh", "-ec", raised.value.hint], check=True)
    assert read_key(str(path)).bits == 1024


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o700, 0o4600], ids="{:04o}".format)
def test_safe_mode(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "key", pem(SMALL))
    path.chmod(mode)
    assert read_key(str(path)).bits == 1024


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_unreadable(open_directory: Path) -> None:
    path = write_key(open_directory / "key", pem(SMALL))
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as raised:
            read_key(str(path))
    finally:
        os.seteuid(0)
    assert (str(raised.value), raised.value.hint) == (
        f"key file {path}: Permission denied",
        f"namei -l {path} shows what blocks user nobody",
    )


# Damaged keys.


@pytest.mark.parametrize(
    ("label", "octets"),
    [("PRIVATE KEY", der(SMALL)), ("RSA PRIVATE KEY", der(SMALL, PKCS1)), ("PRIVATE KEY", der(ED25519))],
    ids=["pkcs8", "pkcs1", "ed25519"],
)
def test_structure_cut_anywhere(label: str, octets: bytes) -> None:
    """Read or signed with, a key that was cut raises PrivateKeyError and nothing else."""
    usable = []
    for length in range(len(octets)):
        try:
            PrivateKey("KEY", block(label, octets[:length])).sign(DIGESTS["sha256"], "sha256")
            usable.append(length)
        except PrivateKeyError:
            pass
    assert usable == []


@pytest.mark.parametrize("cut", [*range(1, 21), *range(50, 900, 50)])
def test_file_cut_anywhere(cut: int) -> None:
    """As long as all base64 is there, the key is; padding and the END line add nothing."""
    text = pem(SMALL).partition(b"\n-----END")[0].rstrip(b"=")
    assert PrivateKey("KEY", text).modulus == SMALL.private_numbers().public_numbers.n
    with pytest.raises(PrivateKeyError):
        PrivateKey("KEY", text[:-cut])


def damaged(octets: bytes, count: int) -> list[tuple[int, int]]:
    """Return positions and other values for them, the same places in every run."""
    chance = random.Random(len(octets))
    at = sorted({*range(40), *chance.sample(range(len(octets)), count)})
    return [(position, octets[position] ^ chance.choice((1, 0x80, 0xFF, 0x20, 2))) for position in at]


@pytest.mark.parametrize(
    ("label", "octets"), [("PRIVATE KEY", der(SMALL)), ("RSA PRIVATE KEY", der(SMALL, PKCS1))], ids=FORMS
)
def test_one_octet_of_an_rsa_key_damaged(label: str, octets: bytes) -> None:
    """Read or signed with, such a key raises PrivateKeyError, or its signature is right all the same."""
    wrong = []
    for at, value in damaged(octets, 160):
        changed = octets[:at] + bytes([value]) + octets[at + 1 :]
        try:
            signature = PrivateKey("KEY", block(label, changed)).sign(DIGESTS["sha256"], "sha256")
        except PrivateKeyError:
            continue
        if not verifies(SMALL, signature, "sha256"):
            wrong.append((at, octets[at], value))
    assert wrong == []


def test_one_octet_of_an_ed25519_key_damaged() -> None:
    """Its seed has no redundancy, but nothing else than PrivateKeyError is ever raised."""
    octets = der(ED25519)
    for at in range(len(octets)):
        for value in (octets[at] ^ 1, octets[at] ^ 0xFF):
            changed = octets[:at] + bytes([value]) + octets[at + 1 :]
            try:
                PrivateKey("KEY", block("PRIVATE KEY", changed)).sign(DIGESTS["sha256"], "sha256")
            except PrivateKeyError:
                pass


@pytest.mark.parametrize("name", ["d", "p", "q", "dmp1", "dmq1", "iqmp"])
def test_secret_number_damaged(name: str) -> None:
    """The public half tells: a wrong signature never leaves."""
    number: int = getattr(SMALL.private_numbers(), name)
    octets = der(SMALL, PKCS1)
    at = octets.index(number.to_bytes((number.bit_length() + 7) // 8, "big")) + 9
    changed = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
    try:
        signature = PrivateKey("KEY", block("RSA PRIVATE KEY", changed)).sign(DIGESTS["sha256"], "sha256")
    except PrivateKeyError as error:
        assert str(error).startswith("key file KEY is damaged: ")
    else:
        assert verifies(SMALL, signature, "sha256")


def swapped_modulus() -> bytes:
    """Return a key of which the modulus is another key's."""
    ours, other = (key.private_numbers().public_numbers.n for key in (SMALL, OTHER))
    return der(SMALL, PKCS1).replace(ours.to_bytes(128, "big"), other.to_bytes(128, "big"))


OTHER = rsa.generate_private_key(65537, 1024)


def test_public_half_of_another_key() -> None:
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", block("RSA PRIVATE KEY", swapped_modulus())).sign(DIGESTS["sha256"], "sha256")
    assert (str(raised.value), raised.value.hint) == (
        "key file KEY is damaged: its public key does not verify its signatures",
        RESTORE,
    )


def test_structure_without_the_octets_of_the_key() -> None:
    octets = der(ED25519)
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", block("PRIVATE KEY", octets.replace(b"\x04\x20", b"\x05\x20")))
    assert (str(raised.value), raised.value.hint) == (
        "key file KEY is damaged: not a key structure",
        RESTORE,
    )


CUT_SHORT: list[Callable[[bytes], bytes]] = [
    lambda text: text.partition(b"-----END")[0][:-9],
    lambda text: b"\n".join(text.split(b"\n")[2:]),
    lambda text: text.partition(b"-----END")[0].replace(b"\n", b"")[:-9],
    lambda text: b"".join(text.split(b"\n")[2:]),
    lambda text: text[:-60].replace(b"\n", b" "),
    lambda text: text[:-60].replace(b"\n", b"<br>"),
    lambda text: text[:-60].hex().encode(),
]


def test_no_message_shows_key_material(tmp_path: Path) -> None:
    """Whatever is wrong with the file, no eight characters of its base64 are told."""
    text = pem(SMALL)
    secret = base64.b64encode(der(SMALL)).decode()
    pieces = {secret[at : at + 8] for at in range(40, len(secret) - 8)}
    lines = text.split(b"\n")
    faulty = [
        *(change(text) for change in CUT_SHORT),
        b"\n".join([*lines[:3], b"*", *lines[4:]]),
        b"\n".join([lines[0], *lines[2:]]),
        b"".join(lines[1:-3]),
        b"\\n".join(lines[:-3]),
        base64.b64encode(b"\n".join(lines[:-3])),
        der(SMALL),
        pem(SMALL, OPENSSH),
        *(text[:at] + text[at + 1 :] for at in range(30, len(text) - 30, 40)),
    ]
    for number, octets in enumerate(faulty):
        path = write_key(tmp_path / f"key-{number}", octets)
        done = run_filter("--domain=example.com", "--selector=mail", f"--keyfile={path}")
        assert (done.status, done.stdout) == (75, b"")
        assert done.stderr.startswith(f"4.3.5 dkimpipe: command line: key file {path} ")
        assert not [piece for piece in pieces if piece in done.stderr]


# OpenSSL, by its library and by the cryptography package.

LIBRARIES: dict[str, tuple[str, ...]] = {
    "missing": ("no-such-library.so",),
    "another": ("libc.so.6",),  # which has none of the functions
}


def forbid_libcrypto(monkeypatch: pytest.MonkeyPatch, kind: str = "missing") -> None:
    """Let another library, or none, stand in place of libcrypto."""
    monkeypatch.setattr(libcrypto, "_NAMES", LIBRARIES[kind])


@pytest.mark.parametrize("hash_name", DIGESTS)
@pytest.mark.parametrize("name", SIGNERS)
def test_library_and_package_sign_alike(monkeypatch: pytest.MonkeyPatch, name: str, hash_name: str) -> None:
    """Neither RSASSA-PKCS1-v1_5 nor Ed25519 has a random part."""
    made, text = SIGNERS[name]
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}[hash_name]
    if isinstance(made, rsa.RSAPrivateKey):
        expected = made.sign(DIGESTS[hash_name], padding.PKCS1v15(), Prehashed(algorithm))
    else:
        expected = made.sign(DIGESTS[hash_name])
    key = PrivateKey("KEY", text)
    assert key._sign_by_libcrypto(DIGESTS[hash_name], hash_name) == expected
    assert key.sign(DIGESTS[hash_name], hash_name) == expected
    forbid_libcrypto(monkeypatch)
    assert key.sign(DIGESTS[hash_name], hash_name) == expected


@pytest.mark.parametrize("kind", LIBRARIES)
@pytest.mark.parametrize("name", ["rsa1024-pkcs8", "ed25519"])
def test_package_where_the_library_cannot_serve(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    forbid_libcrypto(monkeypatch, kind)
    made, text = SIGNERS[name]
    assert verifies(made, PrivateKey("KEY", text).sign(DIGESTS["sha256"], "sha256"), "sha256")
    assert capfd.readouterr() == ("", "")


def test_the_library_without_a_choice_of_drbg(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenSSL 1.1 is."""
    find, asked = libcrypto._ctypes.dlsym, []

    def dlsym(handle: int, name: str) -> object:
        asked.append(name)
        if name == "RAND_set_DRBG_type":
            raise OSError(f"undefined symbol: {name}")
        return find(handle, name)

    monkeypatch.setattr(libcrypto._ctypes, "dlsym", dlsym)
    made, text = SIGNERS["rsa1024-pkcs8"]
    monkeypatch.delitem(sys.modules, "hashlib")  # as in the filter
    signature = PrivateKey("KEY", text)._sign_by_libcrypto(DIGESTS["sha256"], "sha256")
    assert verifies(made, signature, "sha256")
    assert "RAND_set_DRBG_type" in asked


def test_the_library_of_a_program_that_uses_it_itself_keeps_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find, asked = libcrypto._ctypes.dlsym, []

    def dlsym(handle: int, name: str) -> object:
        asked.append(name)
        return find(handle, name)

    libcrypto.Library()  # from here on it is loaded
    monkeypatch.setattr(libcrypto._ctypes, "dlsym", dlsym)
    made, text = SIGNERS["rsa1024-pkcs8"]
    signature = PrivateKey("KEY", text)._sign_by_libcrypto(DIGESTS["sha256"], "sha256")
    assert verifies(made, signature, "sha256")
    assert asked == ["ERR_clear_error", "d2i_RSAPrivateKey", "RSA_sign", "RSA_free"]


@pytest.mark.parametrize("signature", [b"", b"x", bytes(64), bytes(128), bytes(129)])
def test_package_where_the_library_fails(monkeypatch: pytest.MonkeyPatch, signature: bytes) -> None:
    monkeypatch.setattr(libcrypto.Library, "sign_rsa", lambda *arguments: signature)
    made, text = SIGNERS["rsa1024-pkcs8"]
    assert verifies(made, PrivateKey("KEY", text).sign(DIGESTS["sha256"], "sha256"), "sha256")


# Private names of CPython that another version, or another build, may do without.
LACKING = {
    "_ctypes": "sys.modules['_ctypes'] = None",
    **{
        f"_ctypes.{name}": f"import _ctypes; del _ctypes.{name}"
        for name in ("CFuncPtr", "FUNCFLAG_CDECL", "_SimpleCData", "Array", "dlopen", "dlsym", "addressof")
    },
    "_ctypes.CFuncPtr that takes no class": "import _ctypes; _ctypes.CFuncPtr = 1",
    "_ctypes.dlopen of one argument": "import _ctypes; _ctypes.dlopen = lambda name: 1",
    "posix.O_TMPFILE": "import posix; del posix.O_TMPFILE",
    "posix.memfd_create": "import posix; del posix.memfd_create",
    "_stat": "sys.modules['_stat'] = None",
    "_sha256, _sha2 and _sha1": "sys.modules.update(_sha256=None, _sha2=None, _sha1=None)",
    "the functions of _sha256": "import types; sys.modules.update(_sha256=types, _sha2=types, _sha1=types)",
    "hashes, and a library": ("sys.modules.update(_sha256=None, _sha2=None, _sha1=None, _ctypes=None)"),
}
SIZES = {"small": b"Hello.\n", "large": b"Hello.\n" * 100_000}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lacking", LACKING)
def test_a_python_that_lacks_a_private_name_signs(tmp_path: Path, lacking: str, size: str) -> None:
    """In the venv, which has the cryptography package: what Debian's python3 -IS can do, too."""
    path = write_key(tmp_path / "key", pem(SMALL))
    main = "from dkimpipe.command import main; sys.exit(main())"
    command = [sys.executable, "-c", f"import sys; {LACKING[lacking]}\n{main}"]
    options = ["--domain=example.com", "--selector=mail", f"--keyfile={path}"]
    options += ["--signature=dkim", "--signature=domainkeys"]
    message = b"From: a@example.com\n\n" + SIZES[size]
    done = subprocess.run([*command, *options], input=message, capture_output=True, check=False)
    said = "dkimpipe: signed d=example.com s=mail a=rsa-sha256, d=example.com s=mail a=rsa-sha1 domainkeys; "
    assert (done.returncode, done.stderr.decode()) == (0, f"{said}from=a@example.com\n")
    records = {"mail._domainkey.example.com": [witness.record(pem(SMALL))]}
    assert witness.dkimpy_verdicts([done.stdout], records) == [["pass"]]


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_a_hash_by_the_library_is_that_of_hashlib(name: str) -> None:
    ours, theirs = LibraryHash(name), hashlib.new(name)
    for octets in (b"", b"a\0b", b"x" * 100, b"", bytes(70_000), b"y"):
        ours.update(octets)
        theirs.update(octets)
        assert ours.digest() == theirs.digest()


@pytest.mark.parametrize("damage", [b"", b"\x30", b"\x30\x03\x02\x01\x00", bytes(1000)])
def test_a_structure_that_is_no_key_is_refused_by_the_library(damage: bytes) -> None:
    assert libcrypto.Library().sign_rsa(damage, DIGESTS["sha256"], "sha256") == b""
    assert libcrypto.Library().sign_ed25519(damage, DIGESTS["sha256"]) == b""


def test_the_longest_key_that_openssl_takes() -> None:
    """A signature of 2048 octets; a longer one would not fit, and is not asked for."""
    made = huge()
    assert verifies(made, PrivateKey("KEY", pem(made)).sign(DIGESTS["sha256"], "sha256"), "sha256")


# PKCS#8 version 2 (RFC 5958): the public key is added, as ring and other programs of Rust write it.
SEED = bytes(range(32))
PUBLIC_HALF = ed25519.Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
_VERSION_2 = bytes.fromhex("020101300506032b657004220420") + SEED
VERSION_2 = {
    "as RFC 5958 and RFC 8410 have it": _VERSION_2 + bytes.fromhex("812100") + PUBLIC_HALF,
    "as older versions of ring write it": _VERSION_2 + bytes.fromhex("a123032100") + PUBLIC_HALF,
    "with attributes": _VERSION_2 + bytes.fromhex("a000812100") + PUBLIC_HALF,
    "version 1 with attributes": b"\x02\x01\x00" + _VERSION_2[3:] + bytes.fromhex("a000"),
}


def version_2(name: str) -> bytes:
    return block("PRIVATE KEY", b"\x30" + bytes([len(VERSION_2[name])]) + VERSION_2[name])


@pytest.mark.parametrize("name", VERSION_2)
@pytest.mark.parametrize("way", ["library", "package"])
def test_a_key_of_pkcs8_version_2_signs(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "package":
        forbid_libcrypto(monkeypatch)
    made = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
    assert verifies(made, PrivateKey("KEY", version_2(name)).sign(DIGESTS["sha256"], "sha256"), "sha256")


@pytest.mark.parametrize("name", VERSION_2)
def test_the_verbs_read_a_key_of_pkcs8_version_2(name: str, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", version_2(name))
    assert publickey.public(str(path)) == ("ed25519", base64.b64encode(PUBLIC_HALF).decode())
    publickey.sound(str(path))


NO_HASHES = "sys.modules.update(_sha256=None, _sha2=None, _sha1=None)"  # as RHEL builds its Python


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lacking", ["pass", NO_HASHES], ids=["all modules", "no hashes"])
def test_no_configuration_of_openssl_is_read(tmp_path: Path, size: str, lacking: str) -> None:
    """A provider that it names would be code in our process, with the key in its hands."""
    config = tmp_path / "openssl.cnf"
    os.mkfifo(config)  # who reads it waits
    path = write_key(tmp_path / "key", pem(SMALL))
    main = f"sys.path.append({str(PROJECT)!r}); from dkimpipe.command import main; sys.exit(main())"
    arguments = ["--domain=example.com", "--selector=mail", f"--keyfile={path}"]
    arguments += ["--signature=dkim", "--signature=domainkeys"]
    done = subprocess.run(
        [INTERPRETER, "-ISc", f"import sys; {lacking}; {main}", *arguments],
        input=b"From: a@example.com\n\n" + SIZES[size],
        capture_output=True,
        env={"OPENSSL_CONF": str(config)},
        timeout=20,
        check=False,
    )
    assert done.stderr.startswith(b"dkimpipe: signed d=example.com ")


def test_damaged_key_by_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_libcrypto(monkeypatch)
    with pytest.raises(PrivateKeyError) as raised:
        PrivateKey("KEY", block("RSA PRIVATE KEY", swapped_modulus())).sign(DIGESTS["sha256"], "sha256")
    assert str(raised.value).startswith("key file KEY is damaged: ")


def test_signing_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    key = PrivateKey("KEY", pem(SMALL))
    key.sign(DIGESTS["sha256"], "sha256")
    before = os.listdir("/dev/fd")
    key.sign(DIGESTS["sha256"], "sha256")
    forbid_libcrypto(monkeypatch)
    key.sign(DIGESTS["sha256"], "sha256")
    assert os.listdir("/dev/fd") == before


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", pem(SMALL))
    before = os.listdir("/dev/fd")
    read_key(str(path))
    path.chmod(0o644)
    with pytest.raises(PrivateKeyError):
        read_key(str(path))
    assert os.listdir("/dev/fd") == before
