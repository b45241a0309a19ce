"""``dkimpipe genkey``: create a private key, and print its senders file entry and DNS record."""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from pathlib import Path

from dkimpipe import publickey
from dkimpipe.address import is_domain
from dkimpipe.admin.dns import record
from dkimpipe.admin.newkey import BITS, DIRECTORY, GROUP, create, key_path, selectors, senders_line, to_domain
from dkimpipe.errors import ConfigError
from dkimpipe.keys import read_key

_RECORD_FIRST = "hint: publish the record first: the entry in the senders file applies to the next message"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(fail=parser.error)
    parser.add_argument("domain", metavar="DOMAIN", help="the domain to sign for; with --show, a key file")
    parser.add_argument(
        "--show", action="store_true", help="print what a key file contains, and whether the key is valid"
    )
    parser.add_argument("--selector", help="its selector (default: year and month)")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="(%(default)s)")
    parser.add_argument("--bits", type=int, help=f"size of an RSA key ({BITS})")
    parser.add_argument("--dual", action="store_true", help="create one key of each type")
    parser.add_argument("--directory", type=Path, default=Path(DIRECTORY), help="(%(default)s)")
    words = "owner of the key, and the only user who can read it; without root privileges, you"
    parser.add_argument("--owner", metavar="USER", help=words)
    words = f"group that may read the key, which root owns ({GROUP})"
    parser.add_argument("--group", help=words)


def run(options: argparse.Namespace) -> int:
    """Create the key, or one of each type, and print its entry and record; or show an existing key."""
    if options.show:
        _show(options.domain)
        return 0
    if options.owner and options.group:
        options.fail("--owner or --group, not both")
    if options.bits and options.type == "ed25519" and not options.dual:
        options.fail("--bits is for RSA keys: an Ed25519 key has 256")
    domain = to_domain(options.domain)
    paths = []
    types = ("rsa", "ed25519") if options.dual else (options.type,)
    chosen = selectors(options.selector, types)
    for selector in chosen.values():
        _refuse_long(publickey.record_name(selector, domain))
    for kind, selector in chosen.items():
        path = key_path(options.directory.absolute(), domain, selector)  # pipe(8) starts elsewhere
        create(path, kind, options.bits or BITS, options.group, options.owner)
        paths.append((selector, path))
    print(senders_line(domain, paths))
    for selector, path in paths:
        print(record.zone_line(publickey.record_name(selector, domain), publickey.record_value(str(path))))
    print(_RECORD_FIRST, file=sys.stderr)
    return 0


def _refuse_long(name: str) -> None:
    if not is_domain(name.encode()):
        raise ConfigError(f"{name} is too long for DNS", "choose a shorter selector: --selector")


def _show(path: str) -> None:
    """Print the type, size and public half of a key. Raises ConfigError if it is not a valid key."""
    key = read_key(path)
    kind, public = publickey.public(path)
    publickey.sound(path)
    print(f"key file:    {path}")
    print(f"type:        {kind}, {key.bits} bits")
    print(f"public key:  {public}")
    print(f"fingerprint: {hashlib.sha256(base64.b64decode(public)).hexdigest()} (SHA-256 of the public key)")
    print("valid:       yes, according to OpenSSL")
