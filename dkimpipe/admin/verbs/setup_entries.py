"""The entries of the senders file and the keys that ``setup`` writes, as it recognizes them later."""

from __future__ import annotations

import argparse
import itertools
import re
from pathlib import Path

from dkimpipe import publickey, senders
from dkimpipe.address import to_u_labels
from dkimpipe.admin import newkey
from dkimpipe.admin.maps import entries
from dkimpipe.admin.verbs import held_back
from dkimpipe.config import SENDER_MAP

DIRECTORY = Path(SENDER_MAP).parent
KEYS = Path(newkey.DIRECTORY)
KEY_TYPES = {"rsa": f"{newkey.BITS}-bit RSA", "ed25519": "Ed25519"}
HEADER = "# who    what to add\n"


def entry(domain: str, path: Path) -> senders.Entry | None:
    """Return the entry of the senders file for this very domain."""
    keys = dict.fromkeys([domain.encode(), to_u_labels(domain.encode())])
    return senders.lookup_in_all(str(path), list(keys)) if path.exists() else None


def has_entries(path: Path, lines: list[str]) -> bool:
    """Return whether there is an entry in these lines of the senders file, or in its directory."""
    octets = (line.encode(errors="surrogateescape") for line in lines)
    more = (entry for each in senders.more_maps(str(path)) for entry in entries.entries(each))
    return any(True for _ in itertools.chain(entries.entries_of(octets, str(path)), more))


def own_line(domain: str, path: Path) -> bytes:
    """Return the line that setup wrote for a domain, with its end; empty if there is none."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    ours = [line for line in lines if is_ours(line.decode(errors="surrogateescape"), [domain])]
    return ours[0] if len(ours) == 1 else b""


def is_ours(line: str, domains: list[str]) -> bool:
    """Return whether setup wrote this line, for one of these domains or, without domains, for any.

    An earlier version wrote lines without c=.
    """
    domain = line.split(" ")[0]
    key = rf"{re.escape(str(KEYS))}/{re.escape(domain)}\.[^,()/]+\.pem"
    item = rf"dkim\((c=relaxed/relaxed,)?s=[^,()]+,key={key}\)"
    return bool(re.fullmatch(rf"\S+  {item}(, {item})*\n?", line)) and (not domains or domain in domains)


def missing_pairs(domain: str, options: argparse.Namespace, path: Path) -> list[held_back.Pair]:
    """Return the selectors and key files that the entry of a domain is to get; none if it has them.

    An entry that setup wrote can get an Ed25519 key.
    """
    found = entry(domain, path)
    if not found:
        return _pairs_of(domain, options)
    if not (options.ed25519 and own_line(domain, path)):
        return []
    keys = [signature.options["keyfile"] for signature in senders.parse(found.text, found.place)]
    if any(publickey.public(key)[0] == "ed25519" for key in keys):
        return []
    earlier = held_back.ed25519_key(KEYS, domain) if options.selector is None else None
    selector = newkey.selectors(options.selector, tuple(KEY_TYPES))["ed25519"]
    return [earlier or (selector, newkey.key_path(KEYS, domain, selector))]


def _pairs_of(domain: str, options: argparse.Namespace) -> list[held_back.Pair]:
    """Return the selectors and key files of a new entry: those of an earlier run, if there are any."""
    earlier = held_back.keys(KEYS, domain) if options.selector is None else []
    if not (options.ed25519 or all(held_back.is_given_up(key) for _, key in earlier)):
        earlier = [pair for pair in earlier if not held_back.is_given_up(pair[1])] or earlier
    if earlier and options.ed25519 and not earlier[-1][0].endswith("e"):
        second = f"{earlier[0][0][:6]}e"
        earlier.append((second, newkey.key_path(KEYS, domain, second)))
    types = ("rsa", "ed25519") if options.ed25519 else ("rsa",)
    selectors = newkey.selectors(options.selector, types).values()
    return earlier or [(each, newkey.key_path(KEYS, domain, each)) for each in selectors]


def keys_of(domain: str) -> list[Path]:
    """Return the key files of a domain, and not those of another that begins with it."""
    return sorted(path for path in KEYS.glob(f"{domain}.*.pem") if "." not in path.stem[len(domain) + 1 :])
