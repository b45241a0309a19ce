"""Whether the running Postfix uses main.cf and master.cf as they are now, as far as that is certain.

master(8) reads master.cf when it starts and when it is reloaded, which also replaces qmgr(8), and
``inet_interfaces`` and ``inet_protocols`` only when it starts. So its sockets and the age of qmgr(8) show
what it has not read. Only root can see the sockets; nothing is said of a Postfix that is stopped.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import sources, strangers
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service

_PROC = Path("/proc")
_LISTENING = "0A"  # TCP_LISTEN, <linux/tcp_states.h>
_TABLES = ("net/tcp", "net/tcp6")
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - of sockets that are there
_MOMENT = 1.0  # seconds in which a reload takes effect
_MARGIN = 1.0  # seconds: the kernel counts the start of a process in hundredths
_LONGEST = 20.0  # seconds that a reload takes on a busy machine
_UNSEEN = 5.0  # seconds after which it is taken for done, if nothing shows it
# A process that master(8) started just before still reads main.cf: again each second until that is no longer
# new (Postfix's src/util/dict.c, dict_load_file_xt).
_SETTLING = 2.0


class Listener(NamedTuple):
    """A socket of master(8): where it accepts connections."""

    address: str
    port: int


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield a warning for what the running Postfix has not read, with the command that helps."""
    master = _master(postconf)
    if master and any(_stale(postconf, master)):
        time.sleep(_MOMENT)
        yield from _stale(postconf, master)


def _stale(postconf: Postconf, master: Path) -> Iterator[Finding]:
    found = list(_listeners(master))
    services = _expected(postconf) if found else []
    closed = [service.id for service, port in services if port not in {each.port for each in found}]
    with_address = {port for service, port in services if ":" in service.name}
    open_ports = {
        service.id: {each.address for each in found if each.port == port}
        for service, port in services
        if service.id not in closed and port not in with_address
    }
    ours = _own_ipv6(master)
    elsewhere = [name for name, at in open_ports.items() if not _is_at_interfaces(postconf, at)]
    if elsewhere:
        what = f"{', '.join(elsewhere)}: Postfix listens at other addresses than inet_interfaces names"
        yield Finding(f"{what}: it was not restarted since that was edited", _restart(postconf), "warning")
    others = [name for name, at in open_ports.items() if not _has_protocols(postconf, at, ours)]
    if others and not elsewhere:
        what = f"{', '.join(others)}: Postfix listens by other protocols than inet_protocols names"
        yield Finding(f"{what}: it was not restarted since that was edited", _restart(postconf), "warning")
    if closed:
        what = f"Postfix has not read master.cf since it was edited: nobody listens for {', '.join(closed)}"
        yield Finding(what, postconf.program_command("reload"), "warning")
    elif edited := _edited_since(postconf, max(_managers(master).values(), default=0)):
        verb = "were" if " and " in edited else "was"
        what = f"Postfix was not reloaded since {edited} {verb} edited"
        yield Finding(what, postconf.program_command("reload"), "warning")


def unreachable(postconf: Postconf) -> Iterator[Finding]:
    """Yield a note of services for users that listen on this host only."""
    interfaces = postconf.words("inet_interfaces")
    names = [
        each.id
        for each in sources.submission_services(postconf)
        if each.port in sources.SUBMISSION_PORTS and ":" not in each.name
    ]
    if names and interfaces and all(map(strangers.is_loopback, interfaces)):
        edit = postconf.command(Change("-e", "inet_interfaces=all", ""))
        what = f"{', '.join(names)}: users on other hosts cannot connect: inet_interfaces has only this host"
        yield Finding(what, f"{edit} && {_restart(postconf)}", NOTE)


def _restart(postconf: Postconf) -> str:
    return f"{postconf.program_command('stop')} && {postconf.program_command('start')}"


def _master(postconf: Postconf) -> Path | None:
    """Return the directory in proc(5) of this instance's master(8), if it runs and can be seen."""
    try:
        number = Path(postconf.value("queue_directory"), "pid/master.pid").read_text().strip()
        process = _PROC / number
        is_master = number.isdigit() and (process / "comm").read_text() == "master\n"
    except OSError:
        return None
    return process if is_master and postconf.is_running else None


def _listeners(master: Path) -> Iterator[Listener]:
    """Yield where master(8) listens; nothing if its sockets cannot be seen."""
    try:
        sockets = {os.readlink(each) for each in (master / "fd").iterdir()}
    except OSError:
        return
    for table in _TABLES:
        with contextlib.suppress(OSError):  # there is no IPv6
            for line in (master / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENING and f"socket:[{words[9]}]" in sockets:
                    address, _, port = words[1].partition(":")
                    yield Listener(_address(address), int(port, 16))


def _address(digits: str) -> str:
    """Return an address from proc(5): hexadecimal, in words of 32 bits, each in the order of this machine."""
    words = [bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8)]
    octets = b"".join(int.from_bytes(word, "big").to_bytes(4, sys.byteorder) for word in words)
    return str(ipaddress.ip_address(octets))


def _expected(postconf: Postconf) -> list[tuple[Service, int]]:
    """Return the network services in master.cf that are to listen, each with its port."""
    found = []
    for service in postconf.services.values():
        if service.id.endswith("/inet") and not postconf.is_disabled(service.id):
            with contextlib.suppress(OSError):  # an unknown name: master(8) would not start
                name = service.port
                found.append((service, int(name) if name.isdigit() else socket.getservbyname(name, "tcp")))
    return found


def _own_ipv6(master: Path) -> set[str]:
    """Return the IPv6 addresses of this host; none if the kernel has no IPv6, and Postfix leaves it out."""
    try:
        lines = (master / "net/if_inet6").read_text().splitlines()
    except OSError:
        return set()
    return {str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in lines}


def _is_at_interfaces(postconf: Postconf, at: set[str]) -> bool:
    """Return whether these are the addresses of inet_interfaces; True if that is unknown.

    IPv6 is not judged: ``_has_protocols`` does that.
    """
    wanted = postconf.words("inet_interfaces")
    if wanted == ["all"]:
        return not at.isdisjoint(_WILDCARDS)
    if wanted == ["loopback-only"]:
        return all(map(strangers.is_loopback, at))
    if not _protocols(postconf) & {"all", "ipv4"}:
        return True
    try:
        return at >= {str(ipaddress.IPv4Address(each)) for each in wanted if ":" not in each}
    except ValueError:  # a host name
        return True


def _protocols(postconf: Postconf) -> set[str]:
    return set(map(str.lower, postconf.words("inet_protocols")))


def _has_protocols(postconf: Postconf, at: set[str], ours: set[str]) -> bool:
    """Return whether these addresses are of the protocols in inet_protocols, as far as the host has them.

    ``ours``  the IPv6 addresses of this host
    """
    wanted = _protocols(postconf)
    is_used = {"ipv4": any(":" not in each for each in at), "ipv6": any(":" in each for each in at)}
    if "all" not in wanted and any(is_used[each] for each in is_used.keys() - wanted):
        return False
    everywhere = {"all": bool(ours), "loopback-only": "::1" in ours}
    has_ipv6 = everywhere.get(postconf.value("inet_interfaces"))
    if has_ipv6 is None:  # single addresses
        return True
    needed = {"ipv4", *(("ipv6",) if has_ipv6 else ())}
    return all(is_used[each] for each in needed if wanted & {"all", each})


def managers(postconf: Postconf) -> frozenset[str]:
    """Return the process IDs of this instance's qmgr(8), one, or two during a reload; empty if unknown."""
    master = _master(postconf)
    return frozenset(_managers(master) if master else ())


def wait_for_reload(postconf: Postconf, before: frozenset[str]) -> None:
    """Wait until new processes have the options of master.cf as it is now.

    ``before``  the managers before the reload
    """
    deadline = time.monotonic() + (_LONGEST if before else _UNSEEN)
    while time.monotonic() < deadline and not managers(postconf) - before:
        time.sleep(0.1)
    time.sleep(_SETTLING)


def has_older(postconf: Postconf, name: str) -> bool:
    """Return whether this instance still has a daemon of this name from before the last reload."""
    master = _master(postconf)
    if not master:
        return False
    reloaded = max(_managers(master).values(), default=0)
    return any(start < reloaded for start in _starts(master, name).values())


def _managers(master: Path) -> dict[str, float]:
    """Return when each qmgr(8) of a master(8) started, in seconds since the epoch, by process ID."""
    return _starts(master, "qmgr", "nqmgr", "oqmgr")


def _starts(master: Path, *names: str) -> dict[str, float]:
    """Return when the daemons of these names started, in seconds since the epoch, by process ID."""
    starts = {}
    for process in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = process.read_text().partition("(")[2].rpartition(")")
            words = rest.split()  # from the third field of proc(5) on
            if name in names and words[1] == master.name:
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(words[19]) / os.sysconf("SC_CLK_TCK")
                starts[process.parent.name] = time.time() - age
    return starts


def _edited_since(postconf: Postconf, start: float) -> str:
    """Return the names of the files that were edited after this time; empty if it is 0."""
    names = []
    for name in ("main.cf", "master.cf"):
        with contextlib.suppress(OSError):
            edited = (postconf.directory / name).stat().st_mtime
            if start and start + _MARGIN < edited <= time.time():
                names.append(name)
    return " and ".join(names)
