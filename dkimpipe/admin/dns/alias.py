"""Fixed selectors behind aliases (CNAME), so that a change of keys needs no change in a customer's zone.

The customer publishes ``SELECTOR._domainkey.DOMAIN`` once, as an alias of ``SELECTOR.DOMAIN.ZONE``, for each
selector. ZONE belongs to the hoster, and contains the records.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from dkimpipe.address import is_domain
from dkimpipe.admin.dns.record import Record
from dkimpipe.errors import ConfigError, one_line
from dkimpipe.publickey import record_name

_MIN_SELECTORS = 2  # one that signs, and one for the next key


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Describe the option for the selectors; ``--zone`` is among those of an update."""
    words = "the fixed selectors, whose names are aliases (CNAME) of names in --zone"
    group.add_argument("--selectors", type=selectors, default=(), metavar="SELECTOR,...", help=words)


def selectors(text: str) -> tuple[str, ...]:
    """Return the selectors of the command line.

    Each is one label: ``SELECTOR.DOMAIN`` must not be ambiguous.
    """
    found = tuple(text.lower().split(","))
    for each in found:
        if "." in each or not is_domain(each.encode("utf-8", "surrogateescape")):
            raise argparse.ArgumentTypeError(f"'{one_line(each)}' is not a valid selector: one label")
    if len(set(found)) < max(_MIN_SELECTORS, len(found)):
        raise argparse.ArgumentTypeError(f"'{text}' are not two or more different selectors: such as a,b")
    return found


def zone_of(selector: str, options: argparse.Namespace) -> str:
    """Return the zone that the record of a selector is in, if it is a fixed one; otherwise empty."""
    return options.zone if selector.lower() in options.selectors else ""


def target(name: str, zone: str) -> str:
    """Return the name in a zone that the name of a record is an alias of; the name itself without a zone.

    Raises ConfigError if it is too long.
    """
    if not zone:
        return name
    selector, _, domain = name.partition("._domainkey.")
    found = f"{selector}.{domain}.{zone}"
    if not is_domain(found.encode()):
        raise ConfigError(f"{found} is too long for DNS", "choose a shorter --zone")
    return found


def record(name: str, zone: str) -> Record:
    """Return the CNAME record that a customer publishes. Raises ConfigError."""
    return Record(name, target(name, zone), "CNAME")


def records(domains: Iterable[str], options: argparse.Namespace) -> list[Record]:
    """Return the CNAME records of all selectors for these domains. Raises ConfigError."""
    names = [record_name(selector, domain) for domain in domains for selector in options.selectors]
    return [record(name, options.zone) for name in names]


def moved(found: Record, options: argparse.Namespace) -> Record:
    """Return the record of a key at the name that its own is an alias of, if its selector is a fixed one.

    Raises ConfigError.
    """
    selector, mark, _ = found.name.partition("._domainkey.")
    zone = zone_of(selector, options) if mark else ""
    return found._replace(name=target(found.name, zone))
