"""rspamd, where it is installed: the witness of how its configuration is read and of what it signs.

The configurations are written after public ones. In their files, KEYS is a directory of keys.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Keys
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

RSPAMADM = shutil.which("rspamadm") or ""
NEEDS_RSPAMD = pytest.mark.skipif(not RSPAMADM, reason="needs rspamd: apt-get install rspamd")

# What Debian's modules.d/dkim_signing.conf contains, without its comments.
MODULE = """
dkim_signing {
  allow_envfrom_empty = true;
  allow_hdrfrom_mismatch = false;
  allow_hdrfrom_multiple = false;
  allow_username_mismatch = false;
  selector = "dkim";
  sign_authenticated = true;
  sign_local = true;
  symbol = "DKIM_SIGNED";
  try_fallback = true;
  use_domain = "header";
  use_esld = true;
  use_redis = false;
  key_prefix = "DKIM_KEYS";
  .include(try=true,priority=5) "${DBDIR}/dynamic/dkim_signing.conf"
  .include(try=true,priority=1,duplicate=merge) "$LOCAL_CONFDIR/local.d/dkim_signing.conf"
  .include(try=true,priority=10) "$LOCAL_CONFDIR/override.d/dkim_signing.conf"
}
"""


class Shape(NamedTuple):
    """A configuration.

    ``files``  the text of each file, by its path in /etc/rspamd
    ``keys``   the names of the files in KEYS, each with what it contains: rsa2048 or ed25519
    """

    files: Mapping[str, str]
    keys: Mapping[str, str]


SHAPES = {
    "as installed": Shape(
        {"local.d/dkim_signing.conf": 'path = "KEYS/$domain.$selector.key"; # as DBDIR/dkim\n'},
        {"example.com.dkim.key": "rsa2048", "example.net.dkim.key": "rsa2048"},
    ),
    "one domain": Shape(
        {
            "local.d/dkim_signing.conf": (
                "domain {\n  example.com {\n    # Private key\n"
                '    path = "KEYS/example.key";\n    selector = "ds";\n  }\n}\n'
            )
        },
        {"example.key": "rsa2048"},
    ),
    "docker-mailserver": Shape(
        {
            "override.d/dkim_signing.conf": (
                "# documentation: https://rspamd.com/doc/modules/dkim_signing.html\n"
                "enabled = true;\nsign_authenticated = true;\nsign_local = false;\ntry_fallback = false;\n"
                'use_domain = "header";\nuse_redis = false; # no\nuse_esld = true;\n'
                "allow_username_mismatch = true;\ncheck_pubkey = true; # first\n"
                "domain {\n"
                '    example.com {\n        path = "KEYS/rsa-2048-mail-example.com.private.txt";\n'
                '        selector = "mail";\n    }\n'
                '    example.net {\n        path = "KEYS/rsa-2048-mail-$domain.private.txt";\n'
                '        selector = "mail";\n    }\n'
                '    shop.example.net { path = "KEYS/rsa-2048-mail-$domain.private.txt"; selector = m; }\n'
                "}\n"
            )
        },
        {
            f"rsa-2048-mail-{name}.private.txt": "rsa2048"
            for name in ("example.com", "example.net", "shop.example.net")
        },
    ),
    "two keys": Shape(
        {
            "local.d/dkim_signing.conf": (
                "domain {\n  alpha.example.org {\n    selectors [\n"
                '     {\n       path: "KEYS/dkim.key";\n       selector: "dkim";\n     },\n'
                '     {\n       path: "KEYS/eddsa.key";\n       selector: "eddsa";\n     }\n'
                "    ]\n  }\n"
                '  example.net {\n    selector = "2024";\n    path = "KEYS/dkim.key";\n'
                '    selectors = [{ selector = e1, path = "KEYS/eddsa.key" }]\n  }\n'
                "}\nuse_esld = false\nallow_username_mismatch = yes\n"
            )
        },
        {"dkim.key": "rsa2048", "eddsa.key": "ed25519"},
    ),
    "modoboa": Shape(
        {
            "local.d/dkim_signing.conf": (
                'try_fallback = false;\nselector_map = "KEYS/selectors.map";\npath_map = "KEYS/keys.map";\n'
            )
        },
        {"example.com.pem": "rsa2048", "other.key": "rsa2048"},
    ),
    "YunoHost": Shape(
        {
            "local.d/dkim_signing.conf": (
                "allow_envfrom_empty = true;\nallow_hdrfrom_mismatch = false;\n"
                "allow_hdrfrom_multiple = false;\nallow_username_mismatch = true;\nauth_only = true;\n"
                'path = "KEYS/$domain.$selector.key";\nselector = "mail";\nsign_local = true;\n'
                'symbol = "DKIM_SIGNED";\ntry_fallback = true;\nuse_domain = "header";\nuse_esld = false;\n'
                'use_redis = false;\nkey_prefix = "DKIM_KEYS";\n'
            )
        },
        {"example.com.mail.key": "rsa2048", "sub.example.com.mail.key": "rsa2048"},
    ),
    "addy.io": Shape(
        {
            "local.d/dkim_signing.conf": (
                'signing_table = [\n"*@example.com example.com",\n"*@*.example.com example.com",\n'
                '"boss@example.net %",\n"*@example.org two",\n];\n\n'
                'key_table = [\n"example.com example.com:default:KEYS/example.com.default.key",\n'
                '"example.net %:eddsa:KEY",\n"two %:KEYS/%.key",\n];\n\n'
                'use_domain = "envelope";\nallow_hdrfrom_mismatch = true;\n'
                "allow_hdrfrom_mismatch_sign_networks = true;\nallow_username_mismatch = true;\n"
                "use_esld = true;\nsign_authenticated = false;\n"
            )
        },
        {"example.com.default.key": "rsa2048", "example.org.key": "rsa2048"},
    ),
    "one domain for all": Shape(
        {
            "local.d/dkim_signing.conf": (
                'use_domain = "example.com"; selector = hoster; path = "KEYS/all.key";\n'
                "allow_username_mismatch = true; sign_networks = [203.0.113.0/24, 198.51.100.7];\n"
            )
        },
        {"all.key": "rsa2048"},
    ),
    "panel with a map": Shape(
        {
            "local.d/dkim_signing.conf": (
                'path = "KEYS/$domain.$selector.key";\nselector_map = "KEYS/panel.map";\n'
                'use_domain = "header";\nallow_username_mismatch = true;\nuse_esld = false;\n'
                'domain { example.org { selector = own } }\n'
            ),
            "override.d/dkim_signing.conf": "selector = fallback;\n",
        },
        {
            "example.com.s1.key": "rsa2048",
            "example.org.own.key": "rsa2048",
            "example.net.fallback.key": "rsa2048",
            "sub.example.net.fallback.key": "rsa2048",
        },
    ),
}  # fmt: skip
MAPS = {
    "selectors.map": "# by modoboa\nexample.com modoboa\nshop.example.net   2024 # x\nexample.org s\n",
    "keys.map": "example.com KEYS/$domain.pem\nshop.example.net\tKEYS/other.key\nExample.org KEYS/other.key",
    "panel.map": "example.com s1\nexample.info gone\n",
}


def in_base64(path: Path) -> bytes:
    """Return an Ed25519 key as ``rspamadm dkim_keygen`` writes it: both halves in base64."""
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return base64.b64encode(private + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)) + b"\n"


def write(shape: Shape, keys: Keys, directory: Path) -> Path:
    """Write a configuration with its keys into a directory; return it."""
    key_directory, etc = directory / "keys", directory / "etc"
    key_directory.mkdir()
    octets = {"rsa2048": keys.path("rsa2048").read_bytes(), "ed25519": in_base64(keys.path("ed25519"))}
    for name, kind in shape.keys.items():
        (key_directory / name).write_bytes(octets[kind])
    for name, text in MAPS.items():
        (key_directory / name).write_text(text.replace("KEYS", str(key_directory)))
    inline = "m5kGxtckRfsNe5EuYTe7bvkDjSh7LXaX3aXyIMPGLR0="
    for name, text in {"modules.d/dkim_signing.conf": MODULE, **shape.files}.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("KEYS", str(key_directory)).replace('KEY"', f'{inline}"'))
    return etc


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self.path))


class Rspamd:
    """A running rspamd that signs, and does nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = _Connection(path)

    def sign(self, message: bytes, sender: str, login: str, client: str) -> list[str]:
        """Return the DKIM-Signature fields that rspamd adds, without their name."""
        headers = {"From": sender, "IP": client, "Rcpt": "reader@example.test", "Flags": "milter"}
        if login:
            headers["User"] = login
        self._connection.request("POST", "/checkv2", message, headers)
        answer = json.loads(self._connection.getresponse().read())
        found = answer.get("dkim-signature", [])
        return [found] if isinstance(found, str) else found


_CONF = """
options {
  filters = ["dkim"]; pidfile = "WORK/pid"; url_tld = "WORK/suffixes";
  control_socket = "WORK/control mode=0600";
  local_addrs = [10.0.0.0/8];
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1; retransmits = 1; }
}
logging { type = "file"; filename = "WORK/log"; level = "info"; }
worker "normal" { bind_socket = "WORK/socket mode=0600"; count = 1; }
.include "ETC/modules.d/dkim_signing.conf"
dkim {}
modules { path = "/usr/share/rspamd/plugins/dkim_signing.lua"; }
lua = "/usr/share/rspamd/rules/rspamd.lua";
"""
_SUFFIXES = "com\nnet\norg\ninfo\ntest\nco.uk\nuk\n"


@contextmanager
def running(etc: Path, work: Path) -> Iterator[Rspamd]:
    """Run rspamd with a configuration; its list of public suffixes is short, so that it starts at once."""
    work.mkdir()
    (work / "suffixes").write_text(_SUFFIXES)
    conf = work / "rspamd.conf"
    conf.write_text(_CONF.replace("WORK", str(work)).replace("ETC", str(etc)))
    variables = [f"--var={name}={etc}" for name in ("CONFDIR", "LOCAL_CONFDIR")]
    command = [
        "rspamd",
        "-f",
        "-i",
        "-u",
        "root",
        "-g",
        "root",
        *variables,
        f"--var=DBDIR={work}",
        "-c",
        str(conf),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 60
        while not (work / "socket").exists():
            assert process.poll() is None, (work / "log").read_text()
            assert time.monotonic() < end, "rspamd does not start"
            time.sleep(0.05)
        yield Rspamd(work / "socket")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def configdump(etc: Path, section: str) -> dict[str, object]:
    """Return a section as ``rspamadm configdump`` prints it; of repeated ones the last of each setting."""
    variables = [f"--var={name}={etc}" for name in ("CONFDIR", "LOCAL_CONFDIR")]
    done = subprocess.run(
        [RSPAMADM, *variables, "configdump", "-c", etc / "rspamd.conf", "--json", section],
        capture_output=True,
        check=True,
        text=True,
    )
    settings: dict[str, object] = {}
    left = done.stdout.strip()
    while left:
        block, end = json.JSONDecoder().raw_decode(left)
        settings.update(block)
        left = left[end:].strip()
    return settings


def enabled_modules(etc: Path) -> list[str]:
    """Return the modules that rspamd would load with a configuration."""
    variables = [f"--var={name}={etc}" for name in ("CONFDIR", "LOCAL_CONFDIR")]
    command = [RSPAMADM, *variables, "configdump", "-c", str(etc / "rspamd.conf"), "--modules-state"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    prefix = "Modules enabled: "
    lines: list[str] = [each for each in done.stdout.splitlines() if each.startswith(prefix)]
    return lines[0][len(prefix) :].split(", ")
