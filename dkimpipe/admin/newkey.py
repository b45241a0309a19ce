"""A new private key: its domain, selector, file and permissions, and its senders file entry."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import time
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dkimpipe import cryptopolicy
from dkimpipe.address import domain_in, is_domain, selector_in, to_a_labels
from dkimpipe.admin import atomic
from dkimpipe.errors import ConfigError, for_shell, one_line
from dkimpipe.keys import MIN_RSA_BITS

DIRECTORY = "/etc/dkimpipe/keys"
GROUP = "dkimpipe"
BITS = 2048  # RFC 8301 section 3.2: the minimum; longer keys do not fit into a UDP answer to old resolvers
MAX_BITS = 8192
_HYPHENS = re.compile(rb"^-|-$")  # not allowed at the ends of a host's labels (RFC 1123 section 2.1)


def to_domain(text: str) -> str:
    """Return a domain in lower-case A-labels (RFC 5890). Raises ConfigError."""
    try:
        domain = to_a_labels(text.lower().rstrip(".").encode())
    except ValueError:
        domain = b""
    labels = domain.split(b".")
    is_address = labels[-1].isdigit()
    if not is_domain(domain) or len(labels) < 2 or is_address or any(map(_HYPHENS.search, labels)):
        raise ConfigError(f"'{one_line(text)}' is not a valid domain", "such as example.com")
    meant = domain_in(domain)
    if meant != domain:
        raise ConfigError(
            f"'{one_line(text)}' is the name of a record, not a domain",
            f"such as {meant.decode() or 'example.com'}",
        )
    return domain.decode()


def selectors(wanted: str | None, types: tuple[str, ...]) -> dict[str, str]:
    """Return a selector for each type of key: by default year and month, plus a letter if there are several.

    Raises ConfigError if ``wanted`` is not a valid selector.
    """
    base = time.strftime("%Y%m") if wanted is None else wanted.lower()
    if not is_domain(base.encode("utf-8", "surrogateescape")):
        raise ConfigError(f"'{one_line(base)}' is not a valid selector", "such as mail")
    meant = selector_in(base.encode())
    if meant != base.encode():
        raise ConfigError(
            f"'{base}' is the name of a record, not a selector", f"such as {meant.decode() or 'mail'}"
        )
    return {kind: base + kind[0] if len(types) > 1 else base for kind in types}


def key_path(directory: Path, domain: str, selector: str) -> Path:
    """Return the path of the key file for a domain and selector."""
    return directory / f"{domain}.{selector}.pem"


def senders_line(domain: str, paths: list[tuple[str, Path]]) -> str:
    """Return the line of the senders file that signs for a domain with these selectors and keys.

    Its canonicalization survives relays that fold runs of blanks, or strip them at the end of a line.
    """
    items = [
        f"dkim(c=relaxed/relaxed,s={selector},key={path})".replace("$", "$$") for selector, path in paths
    ]
    return f"{domain}  " + ", ".join(items)


def create(path: Path, kind: str, bits: int, group: str | None, owner: str | None = None) -> None:
    """Create a key file (PKCS#8, RFC 5208). Raises ConfigError; never replaces a file.

    It is readable by root and a group, or by one user: by default the group ``GROUP``, or without root
    privileges the current user.
    """
    if not MIN_RSA_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"RSA keys have {MIN_RSA_BITS} to {MAX_BITS} bits, not {bits}")
    uid = os.geteuid()
    if owner:
        access = _for_user(owner, uid)
    elif group or not uid:
        access = _for_group(group or GROUP, uid)
    else:
        access = 0o400, uid, os.getegid()
    try:
        atomic.create(path, new_key(kind, bits), *access)
    except FileExistsError:
        raise ConfigError(
            f"{path} already exists and is kept", "choose another selector: --selector"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", _remedy(error, path)) from None


def _remedy(error: OSError, path: Path) -> str:
    """Return what helps if a key file cannot be created. Only genkey can be refused a directory."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space: df {for_shell(str(path.parent))}"
    refused = error.errno in (errno.EACCES, errno.ENOENT, errno.ENOTDIR)
    return "name another directory: --directory" if refused else ""


def _for_user(owner: str, uid: int) -> tuple[int, int, int]:
    """Return mode, user and group of a key that only its owner can read. Raises ConfigError."""
    try:
        account = pwd.getpwnam(owner)
    except KeyError:
        raise ConfigError(f"there is no user {owner}", "use the user that user= in master.cf names") from None
    if uid not in (0, account.pw_uid):
        raise ConfigError(
            f"only root can create a key for user {owner}", "without --owner, the key is your own"
        )
    return 0o400, account.pw_uid, account.pw_gid


def _for_group(group: str, uid: int) -> tuple[int, int, int]:
    """Return mode, user and group of a key that its owner and a group can read. Raises ConfigError."""
    try:
        group_id = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"there is no group {group}", "dkimpipe setup creates it; or name another one: --group"
        ) from None
    if uid and group_id != os.getegid():
        raise ConfigError(
            f"only root can create a key for group {group}", "without --group, the key is your own"
        )
    return 0o440, uid, group_id


def new_key(kind: str, bits: int) -> bytes:
    """Return a new private key, rsa or ed25519, as PKCS#8 PEM (RFC 5208). Raises ConfigError."""
    try:
        key = rsa.generate_private_key(65537, bits) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except (InternalError, UnsupportedAlgorithm, ValueError):
        name = f"{bits}-bit RSA" if kind == "rsa" else "Ed25519"
        what = f"OpenSSL refuses to generate a key of type {name}{cryptopolicy.policy()}"
        hint = "openssl list -providers shows what it has" if kind == "rsa" else "use an RSA key: --type rsa"
        raise ConfigError(what, hint) from None
