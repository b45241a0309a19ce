"""BIND, the name server, on 127.0.0.1 for tests, with a zone that takes updates."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

NEEDED = ("named", "named-checkzone", "nsupdate", "dig", "opendkim-testkey")
PROGRAMS = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or "" for name in NEEDED}
missing = [name for name, path in PROGRAMS.items() if not path]
needs_bind = pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}")


class Bind(NamedTuple):
    """BIND on 127.0.0.1 with the zones static.example, dynamic.example and customers.example.

    The last two take updates: dynamic.example of TXT records only.
    """

    directory: Path
    port: int

    @property
    def server(self) -> str:
        return f"127.0.0.1#{self.port}"

    def dig(self, name: str, *options: str) -> list[str]:
        """Return the values of the TXT records of a name, as dig(1) shows them, the strings joined."""
        command = [
            PROGRAMS["dig"],
            "@127.0.0.1",
            "-p",
            str(self.port),
            "+short",
            "+time=2",
            *options,
            name,
            "TXT",
        ]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return [re.sub(r"\\(.)", r"\1", "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', line))) for line in lines]


CONF = """
options {{
    directory "{0}"; listen-on port {1} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none;
    session-keyfile "{0}/session.key"; recursion no; dnssec-validation no; empty-zones-enable no; notify no;
}};
controls {{ }};
include "{0}/good.key"; include "{0}/powerless.key";
zone "static.example" {{ type primary; file "static"; }};
zone "dynamic.example" {{
    type primary; file "dynamic"; update-policy {{ grant good subdomain dynamic.example TXT; }};
}};
zone "customers.example" {{
    type primary; file "customers"; update-policy {{ grant good subdomain customers.example ANY; }};
}};
"""
SOA = """\
$TTL 60
@ IN SOA ns h 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
alias._domainkey IN CNAME ns
*.text IN TXT "a wildcard"
*.alias IN CNAME ns
"""


def tsig_key(directory: Path, file: str, name: str, secret: bytes = b"secret", mode: int = 0o600) -> Path:
    """Return a new key file in BIND's form."""
    path = directory / f"{file}.key"
    path.write_text(
        f'// a comment\nkey "{name}" {{ # one\n algorithm hmac-sha256; /* "two" */\n'
        f'\tsecret "{base64.b64encode(secret).decode()}";\n}};\n'
    )
    path.chmod(mode)
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free for UDP and TCP alike."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


@contextlib.contextmanager
def serving(directory: Path, static: str = SOA, dynamic: str = SOA) -> Iterator[Bind]:
    """Let BIND serve, with these zone files, as long as the context lasts."""
    directory.chmod(0o755)
    server = Bind(directory, free_port())
    tsig_key(directory, "good", "good")
    tsig_key(directory, "powerless", "powerless")
    (directory / "static").write_text(static)
    (directory / "dynamic").write_text(dynamic)
    (directory / "customers").write_text(dynamic)
    (directory / "named.conf").write_text(CONF.format(directory, server.port))
    with (directory / "log").open("wb") as log:
        command = [PROGRAMS["named"], "-g", "-n", "1", "-c", str(directory / "named.conf")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def wait_for(server: Bind, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    question = dns.message.make_query("static.example", "SOA")
    for _ in range(200):
        with contextlib.suppress(OSError, dns.exception.Timeout):
            if dns.query.udp(question, "127.0.0.1", 0.1, server.port).rcode() == dns.rcode.NOERROR:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail((server.directory / "log").read_text())
