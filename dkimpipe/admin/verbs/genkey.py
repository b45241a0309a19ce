"""``dkimpipe genkey``: a new private key, the line of the senders file for it, and its record."""

from __future__ import annotations

import argparse
import base64
import hashlib
from pathlib import Path

from dkimpipe import publickey
from dkimpipe.admin.dns import record
from dkimpipe.admin.newkey import BITS, DIRECTORY, GROUP, key_path, make, selectors, senders_line, to_domain
from dkimpipe.keys import read_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    parser.add_argument("domain", metavar="DOMAIN", help="the domain to sign for; with --show, a key file")
    parser.add_argument(
        "--show", action="store_true", help="tell what a key file holds, and whether it is sound"
    )
    parser.add_argument("--selector", help="its name in DNS; year and month if not given")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="(%(default)s)")
    parser.add_argument("--bits", type=int, help=f"of an RSA key ({BITS})")
    parser.add_argument("--dual", action="store_true", help="one of each type")
    parser.add_argument("--directory", type=Path, default=Path(DIRECTORY), help="(%(default)s)")
    words = "the user that the key belongs to, and nobody else may read it; without root's rights it is you"
    parser.add_argument("--owner", metavar="USER", help=words)
    words = f"the group that may read the key, which belongs to root ({GROUP})"
    parser.add_argument("--group", help=words)


def run(options: argparse.Namespace) -> int:
    """Make the key, or one of each type, and print what has to be done with it; or show one."""
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
    for kind, selector in selectors(options.selector, types).items():
        path = key_path(options.directory.absolute(), domain, selector)  # pipe(8) starts elsewhere
        make(path, kind, options.bits or BITS, options.group, options.owner)
        paths.append((selector, path))
    print(senders_line(domain, paths))
    for selector, path in paths:
        print(record.zone_line(publickey.record_name(selector, domain), publickey.record_value(str(path))))
    return 0


def _show(path: str) -> None:
    """Print type, size and public half of a key. Raises ConfigError if it is none, or is not sound."""
    key = read_key(path)
    kind, public = publickey.public(path)
    publickey.sound(path)
    print(f"key file:    {path}")
    print(f"type:        {kind}, {key.bits} bits")
    print(f"public key:  {public}")
    print(f"fingerprint: {hashlib.sha256(base64.b64decode(public)).hexdigest()} (SHA-256 of the public key)")
    print("sound:       yes, says OpenSSL")
