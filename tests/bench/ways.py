"""The ways through Postfix that are compared: dkimpipe, and what its users would take instead."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import names
from dkimproxy_master import DKSIGN, LISTENER
from figures import Dimension, Figures
from load import Group
from mailflow import Load, Measurement, Way, free_port
from processes import LINE, MESSAGE, PYTHON, RSA, Place
from progress import Progress

from postfix import FRAGMENTS, Sink, fragment_lines

SENDMAIL = "/usr/sbin/sendmail"
SIGNED, VERIFIED = b"DKIM-Signature:", b"dkim=pass"
CONCURRENCY = Dimension(
    "concurrency",
    "Sessions at once",
    "rate",
    {each: f"{each} session{'s'[: each > 1]}" for each in (1, 2, 4, 8, 16, 32)},
    ("dkimpipe", "dkimpipe, relay", "dkimpipe verify"),
)
LISTS = Dimension(
    "lists",
    "Recipients, through Postfix",
    "cpu",
    {each: f"{each:,} recipient{'s'[: each > 1]}" for each in (1, 10, 100, 500, 1_000)},
    ("no filter", "dkimpipe", "dkimpipe, relay"),
)


class Server:
    """What the measurements through Postfix share."""

    def __init__(self, place: Place, dkimproxy: Path | None, progress: Progress) -> None:
        self._place, self._dkimproxy, self._progress = place, dkimproxy, progress
        self._message = place.write("4096", MESSAGE + LINE * ((4096 - len(MESSAGE)) // len(LINE)))
        self._copy = [PYTHON, "-IS", str(place.write("copy.py", _COPY))]

    def postfix(self, rounds: int) -> Figures:
        """Measure all that sign."""
        return self._measured("postfix", self._signers(), {"": Load()}, rounds)

    def inbound(self, rounds: int) -> Figures:
        """Measure all that verify; the name server must be there."""
        return self._measured("inbound", self._verifiers(), {"": Load()}, rounds)

    def concurrency(self, rounds: int) -> Figures:
        """Measure dkimpipe with one session to many."""
        ways = {**self._signers(), **self._verifiers()}
        loads = {f", {label}": Load(sessions=count, alone=0) for count, label in CONCURRENCY.points.items()}
        chosen = {name: ways[name] for name in CONCURRENCY.series}
        return self._measured("concurrency", chosen, loads, rounds)

    def lists(self, rounds: int) -> Figures:
        """Measure messages with one recipient to many."""
        ways = self._signers()
        loads = {f", {label}": Load(4, 2, count, alone=0) for count, label in LISTS.points.items()}
        return self._measured("lists", {name: ways[name] for name in LISTS.series}, loads, rounds)

    def _measured(self, part: str, ways: dict[str, Way], loads: dict[str, Load], rounds: int) -> Figures:
        with Sink() as sink, Group() as group:
            measurement = Measurement(self._place, sink, group, self._progress)
            return {part: measurement.figures(ways, loads, rounds, part)}

    def _signers(self) -> dict[str, Way]:
        key = self._place.key("rsa2048")
        ours = self._place.dkimpipe("postfix", RSA)
        dkimpy = [PYTHON, "-I", str(self._dkimpy()), str(key)]
        ways = {
            "no filter": Way([], "-o content_filter="),
            "sendmail as filter": Way([SENDMAIL, "-G", "-i"]),
            "copy and exec": Way(self._copy),
            "dkimpipe": Way(ours, apply=_APPLY, mark=SIGNED),
            "dkimpipe, relay": Way(ours, apply=(*_APPLY, "--relay"), mark=SIGNED),
            "dkimpy in the filter": Way(dkimpy, mark=SIGNED),
        }
        if shutil.which("opendkim"):
            conf = (
                f"Mode s\nDomain example.com\nSelector rsa2048\nKeyFile {key}\nRequireSafeKeys no\n"
                "Canonicalization relaxed/simple\n"
            )
            ways["OpenDKIM, milter"] = self._opendkim("signs", conf)._replace(mark=SIGNED)
        if self._dkimproxy:
            for name, services, *more in (
                ("DKIMproxy", _DOCUMENTED),
                ("DKIMproxy, no XFORWARD", _PROXY.format(10)),
                ("DKIMproxy, 20 processes", _PROXY.format(20), "--min_servers=20", "--max_spare_servers=25"),
            ):
                ways[name] = self._dkimproxy_out(services, *more)
        return ways

    def _verifiers(self) -> dict[str, Way]:
        message = self._place.signed("4096", self._message, RSA)
        port = free_port()
        ours = self._place.verifier()
        by_relay = [*ours, f"--relay=127.0.0.1:{port}"]
        ways = {
            "no filter": Way([], "-o content_filter="),
            "copy and exec": Way(self._copy),
            "dkimpipe verify": Way(ours, mark=VERIFIED),
            "dkimpipe verify, relay": Way(by_relay, services=_listener(port), mark=VERIFIED),
        }
        if shutil.which("opendkim"):
            conf = f"Mode v\nInternalHosts 192.0.2.1\nNameservers {names.ADDRESS}\n"
            ways["OpenDKIM, milter"] = self._opendkim("verifies", conf)._replace(mark=VERIFIED)
        if self._dkimproxy:
            ways["DKIMproxy.in"] = self._dkimproxy_in()
        return {name: way._replace(inbound=message) for name, way in ways.items()}

    def _dkimpy(self) -> Path:
        """Return a filter that signs with dkimpy, which every user may read."""
        packages = self._place.directory / "packages"
        found = next(path for path in map(Path, sys.path) if (path / "dkim").is_dir())
        for name in ("dkim", "dns", "nacl"):
            if (found / name).is_dir():
                shutil.copytree(found / name, packages / name, dirs_exist_ok=True)
        return self._place.write("dkimpy.py", _DKIMPY % {b"packages": str(packages).encode()})

    def _opendkim(self, name: str, conf: str) -> Way:
        port = free_port()
        common = f"UserID root\nSocket inet:{port}@127.0.0.1\n"
        path = self._place.write(f"opendkim.{name}.conf", (conf + common).encode())
        milter = f"-o content_filter= -o smtpd_milters=inet:127.0.0.1:{port}"
        return Way([], milter, daemon=(["opendkim", "-f", "-x", str(path)], port))

    def _dkimproxy_out(self, services: str, *more: str) -> Way:
        """Return the way through DKIMproxy, with these lines of master.cf for there and back."""
        key = self._place.key("rsa2048")
        options = [
            "--domain=example.com",
            f"--keyfile={key}",
            "--selector=rsa2048",
            "--signature=dkim",
            *more,
        ]
        port, back, command = self._dkimproxy_command("dkimproxy.out", *options)
        filtered = f"-o content_filter=proxy:[127.0.0.1]:{port}"
        return Way([], filtered, services.replace("BACK", back), (command, port), mark=SIGNED)

    def _dkimproxy_in(self) -> Way:
        """Return the way through its verifier, before the queue, as its documentation sets it."""
        port, back, command = self._dkimproxy_command("dkimproxy.in", "--hostname=mx.test")
        proxy = f"-o smtpd_proxy_filter=127.0.0.1:{port} -o smtpd_client_connection_count_limit=10"
        services = _DOCUMENTED_IN.replace("BACK", back)
        return Way([], f"-o content_filter= {proxy}", services, (command, port), mark=VERIFIED)

    def _dkimproxy_command(self, program: str, *options: str) -> tuple[int, str, list[str]]:
        """Return the port where it listens, where mail comes back, and the command."""
        port, back = free_port(), f"127.0.0.1:{free_port()}"
        perl = ["/usr/bin/perl", f"-I{self._dkimproxy}/lib", f"{self._dkimproxy}/scripts/{program}"]
        return port, back, [*perl, *options, f"127.0.0.1:{port}", back]


def _listener(port: int) -> str:
    """Return the service of the fragment where mail comes back by SMTP, on this port."""
    services = fragment_lines(FRAGMENTS / "relay.master.cf") + fragment_lines(FRAGMENTS / "kinds.master.cf")
    chosen = [line for line in services if re.match(r"127\.0\.0\.1:10028|dkimpipe-return ", line)]
    assert chosen[0].startswith("127.")
    text = "\n".join(chosen).replace("127.0.0.1:10028", f"127.0.0.1:{port}")
    return re.sub(r"^(\S+ +unix +n +- +)y", r"\1n", text, flags=re.MULTILINE)  # nothing is chrooted


_APPLY = ("--apply", "--user", "nobody", "--sign", "submission")

# Lines of master.cf for DKIMproxy: as its documentation has them, and with what makes it faster.
_DOCUMENTED = (
    (DKSIGN.replace(",starttls", "") + LISTENER)
    .replace("dksign unix - - n - 4 ", "proxy unix - - n - 10 ")
    .replace("127.0.0.1:10028 ", "BACK ")
)
_PROXY = """\
proxy unix - - n - {} smtp
    -o smtp_send_xforward_command=no
BACK inet n - n - - smtpd
    -o content_filter=
"""
_DOCUMENTED_IN = """\
BACK inet n - n - - smtpd
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8
    -o smtpd_client_restrictions=
    -o smtpd_helo_restrictions=
    -o smtpd_sender_restrictions=
    -o smtpd_recipient_restrictions=permit_mynetworks,reject
    -o smtpd_data_restrictions=
    -o mynetworks=127.0.0.0/8
    -o receive_override_options=no_unknown_recipient_checks
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
signature = dkim.sign(message, b"rsa2048", b"example.com", key, canonicalize=(b"relaxed", b"simple"))
memory = os.memfd_create("signed")
os.write(memory, signature.replace(b"\\r\\n", b"\\n") + message)
os.lseek(memory, 0, 0)
os.dup2(memory, 0)
os.execv("/usr/sbin/sendmail", ["/usr/sbin/sendmail", "-G", "-i", *sys.argv[2:]])
"""
