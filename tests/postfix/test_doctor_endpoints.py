"""``dkimpipe check --postfix``: network services for which master(8) cannot listen, as it shows itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, Fault, check, checks_of, damage, error, fix, run

from dkimpipe.admin.postfix.postconf import Postconf
from postfix import shared_directory

STOPS = "Postfix does not start"
SMTPD = "inet n - n - - smtpd"


def added(name: str) -> str:
    """Return the edit that adds a service."""
    return f"-M '{name}/inet={name} {SMTPD}'"


def without(name: str, better: str = "correct it") -> str:
    """Return the hint that turns a service into a comment."""
    quoted = f"'{name}/inet'" if "[" in name else f"{name}/inet"
    return f"# {better}; without {name}/inet:\npostconf -c DIR '-M#' {quoted}"


def both(family: str) -> str:
    return f"# correct the address, or allow {family} as well:\npostconf -c DIR -e inet_protocols=all"


# Faults with which master(8) does not start.
FAULTS: dict[str, Fault] = {
    "IPv4 without IPv4": (
        f"{added('127.0.0.1:2525')}\n-e inet_protocols=ipv6",
        error(f"127.0.0.1:2525/inet: {STOPS}: inet_protocols = ipv6 excludes IPv4", both("IPv4")),
    ),
    "IPv6 without IPv6": (
        f"{added('[::1]:2525')}\n-e inet_protocols=ipv4",
        error(f"[::1]:2525/inet: {STOPS}: inet_protocols = ipv4 excludes IPv6", both("IPv6")),
    ),
    "an address of another host": (
        added("192.0.2.77:2525"),
        error(
            f"192.0.2.77:2525/inet: {STOPS}: this host does not have the address 192.0.2.77",
            without("192.0.2.77:2525"),
        ),
    ),
    "an IPv6 address of another host": (
        added("[2001:db8::77]:2525"),
        error(
            f"[2001:db8::77]:2525/inet: {STOPS}: this host does not have the address 2001:db8::77",
            without("[2001:db8::77]:2525"),
        ),
    ),
    "a name that nobody has": (
        added("nowhere.invalid:2525"),
        error(
            f"nowhere.invalid:2525/inet: {STOPS}: the host name nowhere.invalid cannot be resolved",
            without("nowhere.invalid:2525"),
        ),
    ),
    "a star": (
        f"{added('star:2525')}\nstar:2525 => *:2525",
        error(
            f"*:2525/inet: {STOPS}: the host name * cannot be resolved",
            "# correct or remove the line of *:2525 in master.cf",
        ),
    ),
    "an unknown port": (
        added("127.0.0.1:reinject"),
        error(
            f"127.0.0.1:reinject/inet: {STOPS}: services(5) has no port 'reinject'",
            without("127.0.0.1:reinject"),
        ),
    ),
    "a misspelt port": (
        "submission inet => submision inet",
        error(
            f"submision/inet: {STOPS}: services(5) has no port 'submision'",
            "postconf -c DIR -F submision/inet/service=587",
        ),
    ),
    "a misspelt port of a service that is there": (
        added("submissionz"),
        error(f"submissionz/inet: {STOPS}: services(5) has no port 'submissionz'", without("submissionz")),
    ),
    "no port": (
        added("127.0.0.1"),
        error(f"127.0.0.1/inet: {STOPS}: services(5) has no port '127.0.0.1'", without("127.0.0.1")),
    ),
    "an empty port": (
        added("127.0.0.1:"),
        error(f"127.0.0.1:/inet: {STOPS}: services(5) has no port ''", without("127.0.0.1:")),
    ),
    "a bracket too few": (
        added("[127.0.0.1:2525"),
        error(
            f"[127.0.0.1:2525/inet: {STOPS}: [127.0.0.1:2525 is not an address and a port",
            without("[127.0.0.1:2525"),
        ),
    ),
}
SHARED = "listen at the same address and port: mail goes to either of them"
# Postfix starts, and each connection goes to one of them, or all to the last.
TWICE: dict[str, Fault] = {
    "by name and number": (
        added("25"),
        error(f"smtp/inet and 25/inet {SHARED}", without("25", "keep one of them")),
    ),
    "by address and name": (
        f"{added('127.0.0.1:2525')}\n{added('localhost:2525')}\n-e inet_protocols=ipv4",
        error(
            f"127.0.0.1:2525/inet and localhost:2525/inet {SHARED}",
            without("localhost:2525", "keep one of them"),
        ),
    ),
    "by interface and address": (
        f"{added('127.0.0.1:25')}\n-e inet_interfaces=127.0.0.1",
        error(f"smtp/inet and 127.0.0.1:25/inet {SHARED}", without("127.0.0.1:25", "keep one of them")),
    ),
}
# What master(8) accepts.
GOODS = {
    "addresses of both families": f"{added('127.0.0.1:2525')}\n{added('[::1]:2525')}",
    "IPv6 without brackets": added("::1:2525"),
    "IPv4 in brackets": added("[127.0.0.1]:2525"),
    "a name": f"{added('localhost:2525')}\n-e inet_protocols=ipv4",
    "all addresses of both families": f"{added('0.0.0.0:2525')}\n{added('[::]:2525')}",
    "one address, and the rest": f"{added('127.0.0.1:2525')}\n{added('127.0.0.2:2525')}\n{added('2525')}",
    "a service that is off": f"{added('192.0.2.77:2525')}\n-e master_service_disable=192.0.2.77:2525/inet",
    "all but one are off": (
        f"{added('192.0.2.77:2525')}\n-e 'master_service_disable=!smtp/inet !submission/inet inet'"
    ),
}

test_a_service_that_cannot_listen, test_its_commands = checks_of(FAULTS)
test_two_services_at_one_address, test_its_commands_there = checks_of(TWICE)


@pytest.mark.parametrize("name", GOODS)
def test_what_master_accepts_is_no_fault(name: str, directory: Path, words: dict[str, str]) -> None:
    damage(directory, (GOODS[name], ""), words)
    faults = [each for each in check(directory)[1].splitlines() if STOPS in each or SHARED in each]
    assert faults == []


# A service with PORT, inet_interfaces, and where another program listens.
HELD = {
    "at an address": ("127.0.0.1:PORT", "all", "127.0.0.1"),
    "at an IPv6 address": ("[::1]:PORT", "all", "::1"),
    "by a name": ("localhost:PORT", "all", "127.0.0.1"),
    "at all addresses": ("PORT", "all", "0.0.0.0"),
    "at all IPv6 addresses": ("PORT", "all", "::"),
    "at one of all addresses": ("PORT", "all", "127.0.0.1"),
    "at all of loopback": ("PORT", "loopback-only", "127.0.0.1"),
    "at one in inet_interfaces": ("PORT", "127.0.0.1", "127.0.0.1"),
}


@contextmanager
def listening(address: str) -> Iterator[int]:
    """A program that listens at a free port of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address, 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can tell whether Postfix runs")
@pytest.mark.parametrize("name", HELD)
def test_another_program_has_the_port(name: str, directory: Path, words: dict[str, str]) -> None:
    service, interfaces, where = HELD[name]
    with listening(where) as port:
        service = service.replace("PORT", str(port))
        damage(directory, (f"{added(service)}\n-e inet_interfaces={interfaces}", ""), words)
        status, output = check(directory)
    at = {"at one of all addresses": "0.0.0.0"}.get(name, where)
    what = f"{service}/inet: {STOPS}: another program listens at {at}, port {port}"
    hint = f"# stop it, or change the port; which one it is:\nss -ltnp sport = :{port}"
    assert status == 78
    assert error(what, hint) in output
    assert STOPS not in check(directory)[1]


@pytest.mark.parametrize("where", ["127.0.0.2", "::1"])
def test_a_port_of_another_address_is_free(where: str, directory: Path, words: dict[str, str]) -> None:
    with listening(where) as port:
        damage(directory, (added(f"127.0.0.1:{port}"), ""), words)
        assert STOPS not in check(directory)[1]


def test_a_port_where_nobody_listens_is_not_held(directory: Path, words: dict[str, str]) -> None:
    """It may be a client's, for a moment."""
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        damage(directory, (added(f"127.0.0.1:{client.getsockname()[1]}"), ""), words)
        assert STOPS not in check(directory)[1]


def _starts(directory: Path) -> bool:
    """Return whether master(8) starts with the network services, in a network of its own."""
    queue = directory / "queue"
    for name in ("incoming", "active", "deferred", "maildrop", "private", "public", "pid", "data"):
        (queue / name).mkdir(parents=True, exist_ok=True)
    shutil.chown(queue / "data", Postconf(directory).value("mail_owner"))
    with (directory / "main.cf").open("a") as file:
        file.write(f"queue_directory = {queue}\ndata_directory = {queue}/data\n")
    settled(directory / "main.cf")
    master = Path(Postconf(directory).value("daemon_directory"), "master")
    script = f"ip link set lo up && MAIL_CONFIG={directory} exec {master} -c {directory} -d -e 1"
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="master(8) needs root")
def test_master_agrees(words: dict[str, str]) -> None:
    """It ends with each of the faults, and starts once the hint was followed, and with what is no fault."""
    shipped = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n"

    def tried(place: Path, name: str) -> tuple[bool, bool]:
        directory = place / name.replace(" ", "-")
        directory.mkdir()
        (directory / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example.com\n")
        (directory / "master.cf").write_text(shipped)
        settled(directory / "main.cf")
        output = damage(directory, (FAULTS | TWICE).get(name, (GOODS.get(name, ""), "")), words)
        before = _starts(directory)
        if "postconf" in output:
            fix(directory, output)
        return before, _starts(directory)

    names = [*FAULTS, *TWICE, *GOODS]
    with shared_directory() as place, ThreadPoolExecutor(len(names)) as pool:
        starts = dict(zip(names, pool.map(lambda name: tried(place, name), names)))
    assert starts == {name: (name not in FAULTS, name != "a star") for name in names}


@pytest.mark.parametrize("by_conf", [False, True], ids=["in argv", "in the conf file"])
def test_the_listener_follows_inet_protocols(
    by_conf: bool, tmp_path: Path, directory: Path, words: dict[str, str]
) -> None:
    """--apply moves it, both filters follow, and check says so before."""
    program = words["PROGRAM"].replace("SITE", words["SITE"])
    if by_conf:
        conf = Path(words["SITE"], "relay.conf")
        conf.write_text(f"sender_map {words['SITE']}/senders\nrelay 127.0.0.1:{words['RETURN_PORT']}\n")
        option = f"--conf_file {conf}"
        program, new = program, program.partition("--conf_file")[0] + option
    else:
        new = f"{program} --relay=127.0.0.1:{words['RETURN_PORT']}"
    master = directory / "master.cf"
    master.write_text(master.read_text().replace(program, new))
    assert run(directory, "postfix", "--apply")[0] == 0
    settled(directory / "main.cf")
    assert check(directory) == GOOD
    damage(directory, ("-e inet_protocols=ipv6", ""), words)
    output = check(directory)[1]
    old = f"127.0.0.1:{words['RETURN_PORT']}"
    assert f"{old}/inet: {STOPS}: inet_protocols = ipv6 excludes it" in output
    assert f"mail comes back by {old}, where Postfix cannot listen" in output
    by_hints = tmp_path / "by-hints"
    shutil.copytree(directory, by_hints)
    fix(by_hints, output.replace(str(directory), str(by_hints)))
    assert run(directory, "postfix", "--apply")[0] == 0
    for each in (directory, by_hints):
        settled(each / "main.cf")
        assert check(each) == GOOD
        assert old not in (each / "master.cf").read_text()
        assert "[::1]:10028" in (each / "master.cf").read_text()
    assert "nothing to change" in run(directory, "postfix", "--apply")[1]
