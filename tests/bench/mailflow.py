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
from processes import PYTHON, Place

from postfix import FRAGMENTS, Postfix, Sink

MESSAGES, SESSIONS, ALONE = 120, 4, 8
SENDMAIL = "/usr/sbin/sendmail"


class Way(NamedTuple):
    """A way through Postfix.

    ``argv``      the filter, nothing for none
    ``settings``  of submission, in the place of the filter's
    ``services``  further lines of master.cf
    ``daemon``    a command that must run meanwhile, and the port that it listens on
    """

    argv: list[str]
    settings: str = ""
    services: str = ""
    daemon: tuple[list[str], int] | None = None


def through_postfix(place: Place, rounds: int, dkimproxy: Path | None) -> Figures:
    """Measure each way in turn, with an instance of its own."""
    with Sink() as sink:
        ways = _ways(place, sink, dkimproxy)
        instances = {name: _instance(place, name, way, sink) for name, way in ways.items()}
        figures: dict[str, dict[str, list[float]]] = {
            name: {"rate": [], "cpu": [], "latency": []} for name in ways
        }
        for _, name in itertools.product(range(rounds), ways):
            with _daemon(ways[name]), instances[name]:
                _send(instances[name], sink, SESSIONS, SESSIONS)  # all processes are there
                before = _cpu()
                figures[name]["rate"].append(MESSAGES / _send(instances[name], sink, MESSAGES, SESSIONS))
                figures[name]["cpu"].append((_cpu() - before) / MESSAGES)
                alone = median(_send(instances[name], sink, 1, 1) for _ in range(ALONE))
                figures[name]["latency"].append(alone)
    return {"postfix": figures}


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
        "dkimpipe": Way(ours),
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
        port, back = _free_port(), _free_port()
        program = ["/usr/bin/perl", f"-I{dkimproxy}/lib", str(dkimproxy / "scripts/dkimproxy.out")]
        options = ["--domain=example.com", f"--keyfile={key}", "--selector=a", "--signature=dkim"]
        command = [*program, *options, f"127.0.0.1:{port}", f"127.0.0.1:{back}"]
        services = f"{_PROXY}\n127.0.0.1:{back} inet n - n - - smtpd\n    -o content_filter="
        filtered = f"-o content_filter=proxy:[127.0.0.1]:{port}"
        ways["DKIMproxy"] = Way([], filtered, services, (command, port))
    return ways


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
    return Postfix(directory, argv, sink.port, fragments=fragments, extra_master=way.services)


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


def _send(instance: Postfix, sink: Sink, count: int, sessions: int) -> float:
    """Send messages, and return the seconds until the last has arrived."""
    there = len(sink.messages)
    command = ["smtp-source", "-s", str(sessions), "-m", str(count), "-l", "4096", "-f", "a@example.com"]
    begin = time.perf_counter()
    subprocess.run([*command, "-t", "b@example.net", f"127.0.0.1:{instance.submission_port}"], check=True)
    sink.wait(there + count, timeout=120)
    return time.perf_counter() - begin


def _cpu() -> float:
    """Return the CPU time that the machine has spent, by proc(5): all processes, of which few are others'."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_PROXY = "proxy unix - - n - 10 smtp\n    -o smtp_send_xforward_command=no"

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
