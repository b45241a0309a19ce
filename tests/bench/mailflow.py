"""Through a real Postfix: how many messages a second, what each costs, how long one alone takes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from figures import Figures
from load import Group
from processes import PROJECT, PYTHON, Place

from postfix import FRAGMENTS, Postfix, Sink

MESSAGES, SESSIONS, ALONE, WARM = 120, 4, 8, 20
# On a machine that others use, too: what they may take of it, how often it is looked at before, and how often
# the same is measured.
QUIET, PATIENCE, TRIALS = 0.05, 8, 2
SENDMAIL = "/usr/sbin/sendmail"
SIGNED = ("dkimpipe", "dkimpy", "OpenDKIM", "DKIMproxy")  # how the names of the ways that sign begin


class Way(NamedTuple):
    """A way through Postfix.

    ``argv``      the filter, nothing for none
    ``settings``  of submission, in the place of the filter's
    ``services``  further lines of master.cf
    ``daemon``    a command that must run meanwhile, and the port that it listens on
    ``apply``     options of ``dkimpipe postfix``, which then completes the settings; nothing: it is not run
    """

    argv: list[str]
    settings: str = ""
    services: str = ""
    daemon: tuple[list[str], int] | None = None
    apply: tuple[str, ...] = ()


def through_postfix(place: Place, rounds: int, dkimproxy: Path | None) -> Figures:
    """Measure each way in turn, with an instance of its own."""
    with Sink() as sink, Group() as group:
        ways = _ways(place, sink, dkimproxy)
        instances = {name: _instance(place, name, way, sink) for name, way in ways.items()}
        figures: dict[str, dict[str, list[float]]] = {
            name: {unit: [] for unit in _Cost._fields} for name in ways
        }
        for _, name in itertools.product(range(rounds), ways):
            with _daemon(ways[name]), instances[name]:
                _send(instances[name], sink, WARM, SESSIONS)  # all processes are there
                _refuse_unsigned(name, sink)
                cost = _undisturbed(instances[name], sink, group)
            for unit, value in cost._asdict().items():
                figures[name][unit].append(value)
    return {"postfix": figures}


class _Cost(NamedTuple):
    """Messages a second, CPU seconds of one, seconds of one alone, and what others took of the machine."""

    rate: float
    cpu: float
    latency: float
    others: float


def _undisturbed(instance: Postfix, sink: Sink, group: Group) -> _Cost:
    """Measure when the machine is quiet; if others began meanwhile, again. Return the quietest."""
    costs = []
    for _ in range(TRIALS):
        _wait_for_quiet(group)
        costs.append(_cost(instance, sink, group))
        if costs[-1].others <= QUIET:
            break
    return min(costs, key=lambda cost: cost.others)


def _cost(instance: Postfix, sink: Sink, group: Group) -> _Cost:
    clock = group.clock()
    rate = MESSAGES / _send(instance, sink, MESSAGES, SESSIONS)
    load = clock.load()
    alone = median(_send(instance, sink, 1, 1) for _ in range(ALONE))
    return _Cost(rate, load.ours / MESSAGES, alone, clock.load().others)


def _wait_for_quiet(group: Group) -> None:
    for _ in range(PATIENCE):
        clock = group.clock()
        time.sleep(0.25)
        if clock.load().others <= QUIET:
            break


def _ways(place: Place, sink: Sink, dkimproxy: Path | None) -> dict[str, Way]:
    copy = place.write("copy.py", _COPY)
    key = place.key("rsa2048")
    ours = place.dkimpipe("postfix", "dkim(s=a,key=rsa2048)")
    packages = [path for path in map(Path, sys.path) if (path / "dkim").is_dir()]
    for name in ("dkim", "dns", "nacl"):
        if (packages[0] / name).is_dir():
            shutil.copytree(packages[0] / name, place.directory / "packages" / name)
    dkimpy = place.write("dkimpy.py", _DKIMPY % {b"packages": str(place.directory / "packages").encode()})
    ways = {
        "no filter": Way([], "-o content_filter="),
        "sendmail as filter": Way([SENDMAIL, "-G", "-i"]),
        "copy and exec": Way([PYTHON, "-IS", str(copy)]),
        "dkimpipe": Way(ours, apply=_APPLY),
        "dkimpipe, relay": Way(ours, apply=(*_APPLY, "--relay")),
        "dkimpy in the filter": Way([PYTHON, "-I", str(dkimpy), str(key)]),
    }
    if shutil.which("opendkim"):
        port = _free_port()
        conf = place.write(
            "opendkim.conf",
            f"Mode s\nDomain example.com\nSelector a\nKeyFile {key}\nRequireSafeKeys no\nUserID root\n"
            f"Canonicalization relaxed/simple\nSocket inet:{port}@127.0.0.1\n".encode(),
        )
        command = ["opendkim", "-f", "-x", str(conf)]
        milter = f"-o content_filter= -o smtpd_milters=inet:127.0.0.1:{port}"
        ways["OpenDKIM, milter"] = Way([], milter, daemon=(command, port))
    if dkimproxy:
        more = ("--min_servers=20", "--max_spare_servers=25")
        ways["DKIMproxy"] = _dkimproxy(dkimproxy, key, _DOCUMENTED)
        ways["DKIMproxy, no XFORWARD"] = _dkimproxy(dkimproxy, key, _PROXY.format(10))
        ways["DKIMproxy, 20 processes"] = _dkimproxy(dkimproxy, key, _PROXY.format(20), *more)
    return ways


def _dkimproxy(source: Path, key: Path, services: str, *more: str) -> Way:
    """Return the way through DKIMproxy, with these lines of master.cf for there and back."""
    port, back = _free_port(), _free_port()
    program = ["/usr/bin/perl", f"-I{source}/lib", str(source / "scripts/dkimproxy.out")]
    options = ["--domain=example.com", f"--keyfile={key}", "--selector=a", "--signature=dkim", *more]
    command = [*program, *options, f"127.0.0.1:{port}", f"127.0.0.1:{back}"]
    filtered = f"-o content_filter=proxy:[127.0.0.1]:{port}"
    return Way([], filtered, services.replace("BACK", f"127.0.0.1:{back}"), (command, port))


def _instance(place: Place, name: str, way: Way, sink: Sink) -> Postfix:
    slug = name.replace(" ", "-").replace(",", "")
    directory, fragments = place.directory / f"postfix-{slug}", place.directory / f"fragments-{slug}"
    directory.mkdir()
    shutil.copytree(FRAGMENTS, fragments)
    master = (fragments / "master.cf").read_text()
    if way.settings:
        assert master.count("-o content_filter=dkimpipe:dummy") == 1
        master = master.replace("-o content_filter=dkimpipe:dummy", way.settings.replace(" -o", "\n    -o"))
        (fragments / "master.cf").write_text(master)
    argv = way.argv or ["/bin/false"]
    instance = Postfix(directory, argv, sink.port, fragments=fragments, extra_master=way.services)
    if way.apply:
        command = [sys.executable, "-m", "dkimpipe", "postfix", "-c", str(directory / "etc"), *way.apply]
        subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
        os.utime(directory / "etc/main.cf", (0, 0))  # every process waits until it is two seconds old
    return instance


@contextlib.contextmanager
def _daemon(way: Way) -> Iterator[None]:
    """Let the daemon of a way run."""
    if not way.daemon:
        yield
        return
    command, port = way.daemon
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"does not listen: {' '.join(command)}")
        yield
    finally:
        process.terminate()
        process.wait()


def _refuse_unsigned(name: str, sink: Sink) -> None:
    """Raise RuntimeError unless the last message is signed if it should be."""
    is_signed = b"DKIM-Signature:" in sink.messages[-1].data
    if is_signed != name.startswith(SIGNED):
        raise RuntimeError(f"{name}: {'signed' if is_signed else 'not signed'}")


def _send(instance: Postfix, sink: Sink, count: int, sessions: int) -> float:
    """Send messages, and return the seconds until the last has arrived."""
    there = len(sink.messages)
    command = ["smtp-source", "-s", str(sessions), "-m", str(count), "-l", "4096", "-f", "a@example.com"]
    begin = time.perf_counter()
    subprocess.run([*command, "-t", "b@example.net", f"127.0.0.1:{instance.submission_port}"], check=True)
    sink.wait(there + count, timeout=120)
    return time.perf_counter() - begin


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_APPLY = ("--apply", "--user", "nobody", "--sign", "submission")

# Lines of master.cf for DKIMproxy: as its documentation has them, and with what makes it faster.
_DOCUMENTED = """\
proxy unix - - n - 10 smtp
    -o smtp_send_xforward_command=yes
    -o smtp_discard_ehlo_keywords=8bitmime
BACK inet n - n - 10 smtpd
    -o content_filter=
    -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks
    -o smtpd_helo_restrictions=
    -o smtpd_client_restrictions=
    -o smtpd_sender_restrictions=
    -o smtpd_recipient_restrictions=permit_mynetworks,reject
    -o mynetworks=127.0.0.0/8
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8
"""
_PROXY = """\
proxy unix - - n - {} smtp
    -o smtp_send_xforward_command=no
BACK inet n - n - - smtpd
    -o content_filter=
"""

_COPY = b"""\
import os, sys
memory = os.memfd_create("copy")
while chunk := os.read(0, 65536):
    os.write(memory, chunk)
os.lseek(memory, 0, 0)
os.dup2(memory, 0)
os.execv("/usr/sbin/sendmail", ["/usr/sbin/sendmail", "-G", "-i", *sys.argv[1:]])
"""

_DKIMPY = b"""\
import os, sys
sys.path.append("%(packages)s")
import dkim
message = sys.stdin.buffer.read()
key = open(sys.argv[1], "rb").read()
signature = dkim.sign(message, b"a", b"example.com", key, canonicalize=(b"relaxed", b"simple"))
memory = os.memfd_create("signed")
os.write(memory, signature.replace(b"\\r\\n", b"\\n") + message)
os.lseek(memory, 0, 0)
os.dup2(memory, 0)
os.execv("/usr/sbin/sendmail", ["/usr/sbin/sendmail", "-G", "-i", *sys.argv[2:]])
"""
