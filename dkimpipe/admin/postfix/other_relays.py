"""Where the mail of other filters comes back by SMTP: they, or their scripts, run dkimpipe with a relay.

Without a listener there, all mail that passes such a filter stays in the queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe import relay
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service, listener, other_filters, strangers
from dkimpipe.admin.postfix.filter_service import SIGN, Job
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

_VALUE = r"[= \t]+[\"']?([^\s\"';|&()]+)"
_RELAY = re.compile(rf"--relay{_VALUE}")
_CONF_FILE = re.compile(rf"--conf[-_]file{_VALUE}")


class _Use(NamedTuple):
    """A relay, and what names it: a script or conf file, or nothing for the command line."""

    address: str
    place: str


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield the filters whose mail comes back to an address where there is no listener."""
    for pipe in postconf.running("pipe"):
        for use in dict.fromkeys(_uses(pipe)):
            if fault := _fault(postconf, use.address):
                where = f" in {use.place}" if use.place else ""
                what = f"relay {use.address}{where}: {fault}: mail stays in the queue"
                yield Finding(f"{pipe.id}: {what}", "\n".join(listener_commands(postconf, use.address)))


def listener_commands(postconf: Postconf, address: str) -> list[str]:
    """Return the commands that create a listener on this host; none if it is there, or elsewhere."""
    try:
        changes = listener.missing(postconf, address, True)
        return [] if listener.find(postconf, address) else list(map(postconf.command, changes))
    except ConfigError:
        return []


def _uses(pipe: Service) -> Iterator[_Use]:
    """Yield the relays of the commands of dkimpipe in a command line, and in its scripts."""
    if any(filter_service.program(pipe, job) for job in filter_service.JOBS):
        return
    for place, code in (
        ("", " ".join(pipe.argv)),
        *((word, other_filters.code_of(word)) for word in pipe.argv),
    ):
        for command in other_filters.commands(code):
            named = _RELAY.search(command)
            conf_file = _CONF_FILE.search(command)
            path = conf_file[1] if conf_file else SIGN.conf_file
            address, where = (named[1], place) if named else (filter_service.relay_in(path), path)
            if address and "$" not in address:
                yield _Use(address, where)


def _fault(postconf: Postconf, address: str) -> str:
    """Return why mail cannot come back there; empty if it can, or this Postfix has a listener there."""
    try:
        host, _ = relay.address(address, "relay")
    except ConfigError as error:
        return str(error)
    from dkimpipe.admin.postfix import answering  # smtplib takes 10 ms

    if listener.find(postconf, address) or not (cause := answering.fault(address)):
        return ""
    if strangers.is_loopback(host.decode()):
        return "there is no such listener"
    return f"no SMTP server answers: {cause}"
