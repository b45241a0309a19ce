"""Entries that ``dkimpipe setup`` holds back while Postfix signs already, until DNS has their records.

The senders file applies to the next message, and a signature whose record is missing is worth less than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.dns.compare import Need

Pair = tuple[str, Path]  # a selector, and the path of its key
_DEFAULT = re.compile(r"(\d{6})[re]?")  # the selectors that setup chooses: year and month


def keys(directory: Path, domain: str) -> list[Pair]:
    """Return the newest keys of a domain with selectors that setup chose itself; none if there are none.

    A second key is not enough: one of them is RSA, which every verifier supports.
    """
    found: dict[str, list[Pair]] = {}
    for path in sorted(directory.glob(f"{domain}.*.pem")):
        selector = path.name[len(domain) + 1 : -len(".pem")]
        if match := _DEFAULT.fullmatch(selector):
            found.setdefault(match[1], []).append((selector, path))
    months = [month for month, pairs in found.items() if not all(pair[0].endswith("e") for pair in pairs)]
    return sorted(found[max(months)], key=lambda pair: pair[0].endswith("e")) if months else []


def ed25519_key(directory: Path, domain: str) -> Pair | None:
    """Return the newest Ed25519 key of a domain with a selector that setup chose itself, if there is one."""
    paths = sorted(directory.glob(f"{domain}.{'[0-9]' * 6}e.pem"))
    return (paths[-1].name[len(domain) + 1 : -len(".pem")], paths[-1]) if paths else None


def records(domain: str, pairs: list[Pair]) -> Iterator[tuple[str, str]]:
    """Yield name and value of the record of each key."""
    from dkimpipe import publickey

    for selector, path in pairs:
        yield publickey.record_name(selector, domain), publickey.record_value(str(path))


def are_published(domain: str, pairs: list[Pair]) -> bool:
    """Return whether every name server has the records of these keys, without errors."""
    from dkimpipe.admin.dns.lookup import NameServers

    if not all(path.exists() for _, path in pairs):
        return False
    servers = NameServers()
    return not any(
        finding.level == "error"
        for name, value in records(domain, pairs)
        for finding in servers.findings(name, [Need(value)])
    )
