"""The conf directive ``sign_clients``: the SMTP clients whose mail is signed.

This is a second line of defence. The first is Postfix itself: a submission service accepts only clients that
log in or are in mynetworks. Without its restrictions strangers could have their mail signed, and replay it.

This module is loaded only for a client on another host that did not log in.
"""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
from typing import TYPE_CHECKING, Union

from dkimpipe.config import ANY, AUTHENTICATED, MYNETWORKS, SENDMAIL
from dkimpipe.errors import ConfigError, NotAllowed, printable, shown
from dkimpipe.files import read_file, why

if TYPE_CHECKING:
    from dkimpipe.config import Settings

_WORDS = (AUTHENTICATED, MYNETWORKS, ANY)
_HINT = "see postconf mynetworks, or list the networks in sign_clients"
_TABLE = re.compile(r"[a-z]+:.")
_ITEM = re.compile(r"(?:[^\s,{}]|\{(?:[^{}]|\{[^{}]*\})*\})+")
_MAX_DEPTH = 9  # of nested files
_TIME_LIMIT = 20  # seconds for a Postfix command
_MAX_SHOWN = 64  # octets of an address in the log

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def refuse_stranger(settings: Settings, client: str) -> None:
    """Raise NotAllowed unless an address is one of ``sign_clients``, ConfigError if that is unknown."""
    address = _address(client)
    if any(address in network for network in networks(settings) if address):
        return
    what = "is not in sign_clients"
    if MYNETWORKS in settings.sign_clients:
        if address and _Mynetworks(settings).has(address):
            return
        what = "is not in mynetworks"
    shown_client = printable(client.encode("utf-8", "surrogateescape"), _MAX_SHOWN)
    reason = f"client {shown_client} did not log in and {what}"
    raise NotAllowed(reason, f"sign_clients {', '.join(settings.sign_clients)}")


def networks(settings: Settings) -> list[_Network]:
    """Return the networks listed in ``sign_clients`` itself. Raises ConfigError for an invalid item."""
    place = settings.places.get("sign_clients", "default")
    found = []
    for item in settings.sign_clients:
        if item not in _WORDS:
            try:
                found.append(ipaddress.ip_network(item.replace("[", "").replace("]", "")))
            except ValueError:
                raise ConfigError(
                    f"{place}: sign_clients: '{shown(item)}' is not an address or network",
                    f"use {', '.join(_WORDS)}, addresses, and networks such as 192.0.2.0/24",
                ) from None
    return found


def _address(text: str) -> _Address | None:
    """Return an address, an IPv4-mapped one as IPv4; None if it is not an address, such as ``unknown``."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class _Mynetworks:
    """The current value of Postfix's mynetworks: a copy would become out of date.

    It lists addresses, networks, files of such items, and tables; ``!`` before one negates it (postconf(5)).
    """

    def __init__(self, settings: Settings) -> None:
        self._directory = os.path.dirname(settings.get("sendmail", SENDMAIL))

    def has(self, address: _Address) -> bool:
        """Return whether an address is in it. Raises ConfigError if that cannot be determined."""
        items = self._ask("postconf", "-xh", MYNETWORKS)
        return self._is_listed(address, _split(items), MYNETWORKS)

    def _is_listed(self, address: _Address, items: list[str], where: str, depth: int = 0) -> bool:
        """Return whether a list includes an address; the first matching item decides."""
        for item in items:
            pattern = item.lstrip("!")
            if pattern.startswith("/"):
                if depth == _MAX_DEPTH:
                    raise ConfigError(f"{where}: the files refer to each other", _HINT)
                found = self._is_listed(address, _lines(pattern), pattern, depth + 1)
            else:
                found = self._matches(address, pattern, where)
            if found:
                return (len(item) - len(pattern)) % 2 == 0
        return False

    def _matches(self, address: _Address, pattern: str, where: str) -> bool:
        try:
            network = ipaddress.ip_network(pattern.replace("[", "").replace("]", ""))
        except ValueError:
            if not _TABLE.match(pattern):
                raise ConfigError(f"{where}: '{shown(pattern)}' is not a network", _HINT) from None
            return bool(self._ask("postmap", "-q", str(address), pattern))
        if address.version == 4 and network.version == 6:  # by default 127.0.0.0/8 is listed as such, too
            address = ipaddress.IPv6Address(f"::ffff:{address}")
        return address in network

    def _ask(self, program: str, *arguments: str) -> str:
        """Return the output of a Postfix command; empty for no match, exit status 1."""
        command = [os.path.join(self._directory, program), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME_LIMIT, check=False
            )
            fault = b""
            fatal = [line for line in done.stderr.splitlines() if b"fatal:" in line]  # warnings precede it
            if done.returncode not in (0, 1) or fatal:
                fault = b"".join(fatal[:1]) or done.stderr or b"exit status %d" % done.returncode
        except (OSError, subprocess.SubprocessError) as error:
            fault = why(error).encode("utf-8", "surrogateescape")
        if fault:
            raise ConfigError(f"cannot look up mynetworks: {command[0]}: {printable(fault)}", _HINT)
        return done.stdout.decode("utf-8", "surrogateescape")


def _lines(path: str) -> list[str]:
    lines = read_file(path, "file of mynetworks").decode("utf-8", "surrogateescape").splitlines()
    return [item for line in lines if not line.startswith("#") for item in _split(line)]


def _split(text: str) -> list[str]:
    """Return the items of a list, separated by white space and commas except within braces."""
    return _ITEM.findall(text)
