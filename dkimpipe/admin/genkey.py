"""``dkimpipe genkey``: a new private key, the line of the senders file for it, and its record."""

from __future__ import annotations

import argparse
import base64
import grp
import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dkimpipe.address import is_domain, to_a_labels
from dkimpipe.admin import atomic, record
from dkimpipe.errors import ConfigError
from dkimpipe.keys import MIN_RSA_BITS, read_key

DIRECTORY = "/etc/dkimpipe/keys"
BITS = 2048  # RFC 8301 section 3.2: at least; longer ones do not fit into one UDP answer of old resolvers
MAX_BITS = 8192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("domain", metavar="DOMAIN", help="the domain to sign for; with --show, a key file")
    parser.add_argument(
        "--show", action="store_true", help="tell what a key file holds, and whether it is sound"
    )
    parser.add_argument("--selector", help="its name in DNS; year and month if not given")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="(%(default)s)")
    parser.add_argument("--bits", type=int, default=BITS, help="of an RSA key (%(default)s)")
    parser.add_argument("--dual", action="store_true", help="one of each type")
    parser.add_argument("--directory", type=Path, default=Path(DIRECTORY), help="(%(default)s)")
    parser.add_argument("--group", default="dkimpipe", help="the group that may read the key (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Make the key, or one of each type, and print what has to be done with it; or show one."""
    if options.show:
        _show(options.domain)
        return 0
    domain = to_domain(options.domain)
    paths = []
    types = ("rsa", "ed25519") if options.dual else (options.type,)
    for kind, selector in selectors(options.selector, types).items():
        path = key_path(options.directory, domain, selector)
        make(path, kind, options.bits, options.group)
        paths.append((selector, path))
    print(senders_line(domain, paths))
    for selector, path in paths:
        print(record.zone_line(record.name(selector, domain), record.value(str(path))))
    return 0


def _show(path: str) -> None:
    """Print type, size and public half of a key. Raises ConfigError if it is none, or is not sound."""
    key = read_key(path)
    kind, public = record.public(path)
    octets = Path(path).read_bytes()
    try:
        load_pem_private_key(
            octets[octets.index(b"-----BEGIN") :], None
        )  # with OpenSSL's check of its numbers
    except ValueError:
        raise ConfigError(f"key file {path} is damaged: its numbers do not fit each other") from None
    print(f"key file:    {path}")
    print(f"type:        {kind}, {key.bits} bits")
    print(f"public key:  {public}")
    print(f"fingerprint: {hashlib.sha256(base64.b64decode(public)).hexdigest()} (SHA-256 of the public key)")
    print("sound:       yes, says OpenSSL")


def to_domain(text: str) -> str:
    """Return a domain in lower-case A-labels (RFC 5890). Raises ConfigError."""
    try:
        domain = to_a_labels(text.lower().rstrip(".").encode())
    except ValueError:
        domain = b""
    if not is_domain(domain) or b"." not in domain:
        raise ConfigError(f"'{text}' is no domain", "such as example.com")
    return domain.decode()


def selectors(wanted: str | None, types: tuple[str, ...]) -> dict[str, str]:
    """Return a selector for each type of key: year and month, and a letter if there are several.

    Raises ConfigError if the wanted one can be none.
    """
    if wanted and not is_domain(wanted.encode()):
        raise ConfigError(f"selector '{wanted}' can be no name in DNS", "such as mail")
    base = wanted or time.strftime("%Y%m")
    return {kind: base + kind[0] if len(types) > 1 else base for kind in types}


def key_path(directory: Path, domain: str, selector: str) -> Path:
    """Return where the key of a selector is kept."""
    return directory / f"{domain}.{selector}.pem"


def senders_line(domain: str, paths: list[tuple[str, Path]]) -> str:
    """Return the line of the senders file that signs for a domain with these selectors and keys."""
    return f"{domain}  " + ", ".join(f"dkim(s={selector},key={path})" for selector, path in paths)


def make(path: Path, kind: str, bits: int, group: str) -> None:
    """Make a key that root and a group can read (PKCS#8, RFC 5208). Raises ConfigError; replaces no file."""
    if not MIN_RSA_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"RSA keys have {MIN_RSA_BITS} to {MAX_BITS} bits, not {bits}")
    try:
        group_id = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"there is no group {group}", "dkimpipe setup makes it, or name one: --group"
        ) from None
    try:
        atomic.create(path, pem(kind, bits), 0o440, 0, group_id)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already, and is kept", "choose another name: --selector"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def pem(kind: str, bits: int) -> bytes:
    """Return a new private key, rsa or ed25519, as PKCS#8 PEM (RFC 5208)."""
    key = rsa.generate_private_key(65537, bits) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
