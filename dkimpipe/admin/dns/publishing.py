"""The two ways to change DNS: dynamic update (RFC 2136), and a program of the administrator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol

from dkimpipe.address import is_domain
from dkimpipe.admin.dns import program, update
from dkimpipe.admin.dns.lookup import NameServers
from dkimpipe.admin.dns.program import Program
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.dns.update import DynamicUpdate
from dkimpipe.admin.maps import entries

TTL = 3600  # seconds
MAX_TIMEOUT = 3600.0
_MAX_TTL = (1 << 31) - 1  # RFC 2181 section 8


class Publisher(Protocol):
    """Publishes and deletes TXT records, and prints the outcome for each. All methods raise ConfigError."""

    def texts(self, name: str) -> list[bytes]:
        """Return all TXT records of a name."""

    def publish(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Publish records.

        Another TXT record at a name is an error, before anything is changed, unless ``replace`` is set.
        """

    def delete(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Delete records; otherwise like ``publish``."""


def publisher(options: argparse.Namespace, servers: NameServers) -> Publisher:
    """Return what the options name. Raises ConfigError."""
    if options.publish_command:
        timeout = options.timeout or program.TIMEOUT
        return Program(options.publish_command, servers, options.zone or "", timeout)
    # Fixed selectors: --zone need not be a zone of its own, so that the server is asked.
    return DynamicUpdate(update.primary(options), "" if options.selectors else options.zone or "")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Describe the options that ``publisher`` reads, but for ``--selectors``."""
    add = group.add_argument
    update.add_arguments(group)
    words = "change DNS by a program, for zones that take no updates"
    add("--publish-command", type=_program, metavar="PROGRAM", help=words)
    add("--zone", type=domain, help="the zone (default: ask the server)")
    words = f"for one query ({update.TIMEOUT:g}), or for the program ({program.TIMEOUT:g})"
    add("--timeout", type=_seconds, metavar="SECONDS", help=words)


def conflicts(options: argparse.Namespace, has_change: bool, needs: str) -> list[tuple[bool, str]]:
    """Return usage errors, each with whether it applies.

    ``has_change``  whether DNS is to be changed
    ``needs``       the options that request it
    """
    by_update = bool(options.server or options.tsig)
    by_program = bool(options.publish_command)
    is_complete = (options.server and options.tsig) or by_program
    return [
        (by_update and by_program, "--server and --tsig, or --publish-command, not both"),
        (has_change and not is_complete, f"{needs} needs --server and --tsig, or --publish-command"),
        (not has_change and by_update, f"--server and --tsig require {needs}"),
        (not (has_change or options.selectors) and bool(options.zone), f"--zone requires {needs}"),
        (bool(options.selectors) and not options.zone, "--selectors requires --zone"),
    ]


def domain(text: str) -> str:
    """Return a domain of the command line in A-labels."""
    name = entries.canonical(text.rstrip("."))
    if not is_domain(name):
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid domain")
    return name.decode()


def ttl(text: str) -> int:
    """Return a time to live of the command line."""
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_TTL:
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid number of seconds")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < MAX_TIMEOUT:
        raise ValueError(text)
    return seconds


def _program(text: str) -> str:
    if not text or ("/" in text and not text.startswith("/")):
        raise argparse.ArgumentTypeError(f"'{text}' is not an absolute path, nor a name in {program.PATH}")
    return text
