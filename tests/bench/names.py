"""A name server of its own for the benchmark: BIND with the keys of example.com.

All programs find it where they look for one: /etc/resolv.conf is another file in the mount namespace of this
process and its children, and its address is on the loopback interface of their network namespace
(namespaces(7)). It is not a loopback address, which OpenDKIM's resolver would not ask. It needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query

ADDRESS = "192.0.2.53"
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # sched.h
_CONF = """\
options {{
    directory "{directory}"; listen-on port 53 {{ {address}; }}; listen-on-v6 {{ none; }}; pid-file none;
    session-keyfile none; dnssec-validation no; recursion yes; allow-recursion {{ any; }}; forwarders {{ }};
}};
controls {{ }};
zone "example.com" {{ type primary; file "zone"; }};
"""
_ZONE = "$TTL 3600\n@ IN SOA ns h 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n@ IN A 127.0.0.1\n"


@contextlib.contextmanager
def answering(directory: Path, records: Mapping[str, str]) -> Iterator[None]:
    """Let a name server answer from entry to exit. ``records``: TXT records by name, below example.com."""
    directory.mkdir()
    strings = {
        name: " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
        for name, value in records.items()
    }
    lines = [f"{name} IN TXT ( {value} )\n" for name, value in strings.items()]
    (directory / "zone").write_text("".join([_ZONE, *lines]))
    (directory / "named.conf").write_text(_CONF.format(directory=directory, address=ADDRESS))
    (directory / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    _enter_namespaces(directory / "resolv.conf")
    named = shutil.which("named", path="/usr/sbin:/usr/bin") or "named"
    command = [named, "-f", "-4", "-n", "1", "-c", str(directory / "named.conf")]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, "-L", str(directory / "named.log")], stderr=log)
    try:
        _wait_for_answer()
        yield
    finally:
        process.terminate()
        process.wait()


def _enter_namespaces(resolv_conf: Path) -> None:
    """Have a network and an /etc/resolv.conf of its own, for this process and what it starts from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"no namespaces: {os.strerror(ctypes.get_errno())}")
    for command in (
        "mount --make-rprivate /",
        f"mount --bind {resolv_conf} /etc/resolv.conf",
        "ip link set lo up",
        f"ip address add {ADDRESS}/32 dev lo",
    ):
        subprocess.run(command.split(), check=True)


def _wait_for_answer() -> None:
    query = dns.message.make_query("example.com", "SOA")
    for _ in range(100):
        with contextlib.suppress(dns.exception.Timeout, OSError):
            if dns.query.udp(query, ADDRESS, timeout=0.2).answer:
                return
        time.sleep(0.05)
    raise RuntimeError("the name server does not answer")
