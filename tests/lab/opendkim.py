"""Configurations of OpenDKIM as they are found on servers, each in a directory; written after public ones.

In the texts ``DIR`` is that directory. A file of a name in ``KEYS`` is a private key.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
from conftest import Done, Keys, write_key

CONF = "opendkim.conf"
PROGRAM = shutil.which("opendkim", path="/usr/sbin:/usr/bin") or ""
OF_THIS_HOST = "OpenDKIM is started with "  # begins the remark that it has another configuration
NEEDED = pytest.mark.skipif(not PROGRAM, reason="needs Debian's package opendkim")


class Shape(NamedTuple):
    """A configuration: its files by name, and its key files, each with the kind of its key.

    ``files``    without the line that lets OpenDKIM use keys in a directory for all users
    ``signed``   how many of the 200 messages are signed, at least
    """

    files: dict[str, str]
    keys: dict[str, str]
    signed: int = 40

    def write(self, directory: Path, keys: Keys, name: str = "") -> Path:
        """Write all of it, and return the path of opendkim.conf. ``name`` stands for ``DIR`` in its texts."""
        for file, kind in self.keys.items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            write_key(directory / file, keys.path(kind).read_bytes())
        for file, text in self.files.items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(text.replace("DIR", name or str(directory)))
        return directory / CONF


_TABLES = """\
KeyTable                refile:DIR/KeyTable
SigningTable            refile:DIR/SigningTable
ExternalIgnoreList      refile:DIR/TrustedHosts
InternalHosts           refile:DIR/TrustedHosts
"""
_LOCAL = "127.0.0.1\nlocalhost\n"

SHAPES = {
    "one domain": Shape(
        {CONF: "Domain example.com\nSelector mail\nKeyFile DIR/mail.private\nSocket inet:8891@localhost\n"},
        {"mail.private": "rsa2048"},
        10,
    ),
    "one key for many domains": Shape(
        {
            CONF: (
                "Canonicalization relaxed/relaxed\nMode s\nDomain example.com, example.org,sub.example.net\n"
                "Selector default\nKeyFile DIR/keys/default.private\nInternalHosts 127.0.0.1, 10.0.0.0/8\n"
            )
        },
        {"keys/default.private": "rsa2048-pkcs1"},
    ),
    "domains in a file, and their subdomains": Shape(
        {
            CONF: "Domain file:DIR/domains\nSubDomains yes\nSelector s1\nKeyFile DIR/s1.pem\n",
            "domains": "# ours\n\nexample.com   # the first\n   Example.ORG\nsub.example.com\n",
        },
        {"s1.pem": "rsa2048"},
    ),
    "any domain": Shape({CONF: "Domain *\nSelector s1\nKeyFile DIR/s1.pem\n"}, {"s1.pem": "rsa2048"}, 150),
    "pattern for each domain": Shape(
        {
            CONF: f"Canonicalization relaxed/simple\nMode sv\nOversignHeaders From\n{_TABLES}",
            "KeyTable": (
                "mail._domainkey.example.com example.com:mail:DIR/keys/example.com/mail.private\n"
                "mail._domainkey.example.org example.org:mail:DIR/keys/example.org/mail.private\n"
                "sub\tsub.example.com:2020:DIR/keys/sub.private\n"
            ),
            "SigningTable": (
                "*@example.com mail._domainkey.example.com\n"
                "*@example.org     mail._domainkey.example.org\n"
                "*@sub.example.com\tsub\n"
            ),
            "TrustedHosts": f"{_LOCAL}192.168.0.1/24\n\n*.example.com\n",
        },
        {
            "keys/example.com/mail.private": "rsa2048",
            "keys/example.org/mail.private": "rsa1024",
            "keys/sub.private": "rsa4096",
        },
    ),
    "tables without patterns": Shape(
        {
            CONF: "Canonicalization relaxed\nKeyTable DIR/KeyTable\nSigningTable file:DIR/SigningTable\n",
            "KeyTable": (
                "com example.com:a:DIR/a.pem\norg example.org:b:DIR/b.pem\nboss example.com:c:DIR/a.pem\n"
            ),
            "SigningTable": (
                ".example.com com\nexample.com com\n*@example.net org\nboss@example.com boss\n.org org\n"
                "alice@SUB.example.com org\n"
            ),
        },
        {"a.pem": "rsa2048", "b.pem": "rsa2048-pkcs1"},
    ),
    "tables without patterns, several signatures": Shape(
        {
            CONF: "MultipleSignatures yes\nKeyTable DIR/KeyTable\nSigningTable DIR/SigningTable\n",
            "KeyTable": (
                "com example.com:a:DIR/a.pem\norg example.org:b:DIR/b.pem\nboss example.com:c:DIR/a.pem\n"
            ),
            "SigningTable": "* org\n.example.com com\nexample.com com\nboss@example.com boss\n",
        },
        {"a.pem": "rsa2048", "b.pem": "rsa2048-pkcs1"},
        150,
    ),
    "lists in the configuration": Shape(
        {
            CONF: (
                "KeyTable csl:a=example.com:a:DIR/a.pem, b = %:b:DIR/a.pem\n"
                "SigningTable example.com=a,example.org = b,sub.example.com=b\n"
            )
        },
        {"a.pem": "rsa2048"},
    ),
    "percent in the key table": Shape(
        {
            CONF: f"{_TABLES}",
            "KeyTable": "all %:2020:DIR/keys/%/2020.private\n",
            "SigningTable": "*@* all\n",
            "TrustedHosts": _LOCAL,
        },
        {
            f"keys/{domain}/2020.private": "rsa2048"
            for domain in ("example.com", "example.org", "sub.example.com")
        },
    ),
    "percent as the name of the key": Shape(
        {
            CONF: f"{_TABLES}",
            "KeyTable": (
                "example.com example.com:a:DIR/a.pem\nsub.example.com %:b:DIR/%.pem\n"
                "example.net %:b:DIR/a.pem\n"
            ),
            "SigningTable": "*@example.com %:%@%\n*@*.example.com % # all of them\n*@example.net %\n",
            "TrustedHosts": _LOCAL,
        },
        {"a.pem": "rsa2048", "sub.example.com.pem": "rsa1024"},
    ),
    "subdomains by a pattern": Shape(
        {
            CONF: f"{_TABLES}Canonicalization simple/relaxed\n",
            "KeyTable": "k example.com:k:DIR/k.pem\n",
            "SigningTable": "*@example.com k\n*@*.example.com k\n",
            "TrustedHosts": _LOCAL,
        },
        {"k.pem": "rsa2048"},
    ),
    "several signatures": Shape(
        {
            CONF: f"{_TABLES}MultipleSignatures yes\nCanonicalization relaxed/relaxed\n",
            "KeyTable": (
                "own example.com:own:DIR/own.pem\nall provider.example:all:DIR/all.pem\n"
                "b example.com:b:DIR/b.pem\n"
            ),
            "SigningTable": "boss@example.com own\n*@example.com b\n*@*.com b\n* all\n",
            "TrustedHosts": _LOCAL,
        },
        {"own.pem": "rsa2048", "all.pem": "rsa1024", "b.pem": "rsa4096"},
        150,
    ),
    "Ed25519": Shape(
        {
            CONF: f"{_TABLES}SignatureAlgorithm ed25519-sha256\nCanonicalization relaxed/relaxed\n",
            "KeyTable": "e example.com:ed:DIR/e.pem\n",
            "SigningTable": "*@example.com e\n",
            "TrustedHosts": _LOCAL,
        },
        {"e.pem": "ed25519"},
        10,
    ),
    "the first match is not the most particular": Shape(
        {
            CONF: _TABLES,
            "KeyTable": "a example.com:a:DIR/a.pem\nb example.org:b:DIR/a.pem\nc example.net:c:DIR/a.pem\n",
            "SigningTable": (
                "boss@example.com a\n*@example.com b\nalice@example.com c\n*@*.example.com c\n"
                "alice@sub.example.com a\n*@sub.example.com b\n*@*.com a\n*@evilexample.com b\n"
                "* c\n*@example.org a\n"
            ),
            "TrustedHosts": _LOCAL,
        },
        {"a.pem": "rsa2048"},
        150,
    ),
    "fields": Shape(
        {
            CONF: (
                "Domain example.com,example.org\nSelector s\nKeyFile DIR/s.pem\n"
                "SignHeaders Subject,to,Date,X-Foo,Message-ID\nOmitHeaders to\n"
                "OversignHeaders From,Subject,Cc\n"
                "SignatureTTL 604800\n"
            )
        },
        {"s.pem": "rsa2048"},
        20,
    ),
    "fields relative to the default": Shape(
        {
            CONF: (
                "Domain example.com,example.org\nSelector s\nKeyFile DIR/s.pem\n"
                "SignHeaders *,+X-Foo,-Subject\nOmitHeaders *,+Cc\nOversignHeaders From\n"
            )
        },
        {"s.pem": "rsa2048"},
        20,
    ),
    "included files": Shape(
        {
            CONF: "Domain example.net\nInclude DIR/more.conf\nSelector last\n",
            "more.conf": (
                "Domain example.com\nSelector first\nKeyFile DIR/s.pem # its key\nCanonicalization simple\n"
            ),
        },
        {"s.pem": "rsa2048"},
        10,
    ),
    "Debian's default": Shape(
        {
            CONF: (
                "Syslog\t\t\tyes\nSyslogSuccess\t\tyes\n#LogWhy\t\t\tno\nCanonicalization\trelaxed/simple\n"
                "OversignHeaders\t\tFrom\n#Domain\t\t\texample.com\n#Selector\t\t2020\n"
                "UserID\t\t\topendkim\nUMask\t\t\t007\nSocket\t\t\tlocal:DIR/opendkim.sock\n"
                "PidFile\t\t\tDIR/opendkim.pid\n"
            )
        },
        {},
        0,
    ),
    "Debian's default, completed": Shape(
        {
            CONF: (
                "Syslog\t\t\tyes\nSyslogSuccess\t\tyes\nCanonicalization\trelaxed/simple\n"
                "OversignHeaders\t\tFrom\nDomain\t\t\texample.com\nSelector\t\t2020\n"
                "KeyFile\t\tDIR/example.private\nUserID\t\t\topendkim\nUMask\t\t\t007\n"
                "Socket\t\t\tlocal:DIR/opendkim.sock\nPidFile\t\t\tDIR/opendkim.pid\n"
            )
        },
        {"example.private": "rsa2048"},
        10,
    ),
    "RHEL's default": Shape(
        {
            CONF: (
                "PidFile\tDIR/opendkim.pid\nMode\tv\nSyslog\tyes\nSyslogSuccess\tyes\nLogWhy\tyes\n"
                "UserID\topendkim:opendkim\nSocket\tlocal:DIR/opendkim.sock\nUmask\t002\nSendReports\tyes\n"
                "SoftwareHeader\tyes\nCanonicalization\trelaxed/relaxed\nSelector\tdefault\n"
                "MinimumKeyBits\t1024\nKeyFile\tDIR/keys/default.private\nOversignHeaders\tFrom\n"
            )
        },
        {"keys/default.private": "rsa2048"},
        0,
    ),
    "FreeBSD's default": Shape(
        {
            CONF: (
                "# LogWhy\t\tno\n\nDomain\t\t\texample.com\nKeyFile\t\t\tDIR/example.private\n"
                "Selector\t\tmy-selector-name\nSocket\t\t\tinet:8891@localhost\nSyslog\t\t\tYes\n"
            )
        },
        {"example.private": "rsa2048"},
        10,
    ),
    "Mail-in-a-Box": Shape(
        {
            CONF: (
                "Syslog yes\nUMask 007\nSocket inet:8891@127.0.0.1\nPidFile DIR/opendkim.pid\n"
                "Canonicalization relaxed/simple\nMinimumKeyBits 1024\nRequireSafeKeys false\n" + _TABLES
            ),
            "KeyTable": "".join(
                f"{domain} {domain}:mail:DIR/mail.private\n" for domain in ("example.com", "example.org")
            ),
            "SigningTable": "*@example.com example.com\n*@example.org example.org\n",
            "TrustedHosts": "",
        },
        {"mail.private": "rsa2048"},
        20,
    ),
    "docker-mailserver": Shape(
        {
            CONF: (
                "Canonicalization relaxed/simple\nMode sv\nPidFile DIR/opendkim.pid\n"
                "SignatureAlgorithm rsa-sha256\n"
                "Socket inet:8891@localhost\nSyslog yes\nSyslogSuccess Yes\nLogWhy Yes\nUMask 002\n"
                "UserID opendkim:opendkim\nTemporaryDirectory /tmp\nAutoRestart Yes\nAutoRestartRate 10/1h\n"
                + _TABLES
            ),
            "KeyTable": "".join(
                f"mail._domainkey.{domain} {domain}:mail:DIR/keys/{domain}/mail.private\n"
                for domain in ("example.com", "example.org")
            ),
            "SigningTable": (
                "*@example.com mail._domainkey.example.com\n*@example.org mail._domainkey.example.org\n"
            ),
            "TrustedHosts": _LOCAL,
        },
        {f"keys/{domain}/mail.private": "rsa2048" for domain in ("example.com", "example.org")},
        20,
    ),
    "YunoHost": Shape(
        {
            CONF: (
                "Syslog yes\nUMask 022\nSocket local:DIR/opendkim.sock\nSubDomains no\n"
                "SigningTable refile:DIR/signingtable\nKeyTable refile:DIR/keytable\nOversignHeaders From\n"
                "InternalHosts refile:DIR/hosts\nExternalIgnoreList refile:DIR/hosts\n"
            ),
            "keytable": "".join(
                f"mail._domainkey.{domain} {domain}:mail:DIR/{domain}.mail.key\n"
                for domain in ("example.com", "sub.example.com", "example.net")
            ),
            "signingtable": "".join(
                f"*@{domain} mail._domainkey.{domain}\n"
                for domain in ("example.com", "sub.example.com", "example.net")
            ),
            "hosts": "127.0.0.1\n[::1]\n",
        },
        {f"{domain}.mail.key": "rsa2048" for domain in ("example.com", "sub.example.com", "example.net")},
        20,
    ),
}

_DOMAINS = (
    *("example.com", "example.org", "example.net", "sub.example.com", "a.b.example.com", "sub.example.net"),
    *(
        "evilexample.com",
        "EXAMPLE.com",
        "example.com.evil.test",
        "other.test",
        "xn--bcher-kva.example",
        "com",
    ),
)
_LOCAL_PARTS = ("alice", "boss", "Boss", "bob", "info", "a.b", "o'hara", "root", "x+y")
_FORMS = ("{}", "<{}>", "Name <{}>", '"Name, with comma" <{}>', "{} (comment)", "=?utf-8?q?N=C3=A4me?= <{}>")
_MORE = (
    "Cc: c@example.net",
    "X-Foo: 1",
    "X-Foo: 2",
    "MIME-Version: 1.0",
    "Content-Type: text/plain",
    "List-Id: <l.example.com>",
    "Reply-To: r@example.com",
    "In-Reply-To: <x@example.com>",
)


def generate(count: int, seed: int = 1) -> list[bytes]:
    """Return messages from all kinds of senders, with all kinds of fields; the same for the same seed."""
    choose = random.Random(seed)
    made = []
    for number in range(count):
        sender, other = (f"{choose.choice(_LOCAL_PARTS)}@{choose.choice(_DOMAINS)}" for _ in range(2))
        fields = [
            f"From: {choose.choice(_FORMS).format(sender)}",
            f"To: to{number}@example.net",
            f"Subject: {'long ' * choose.randrange(30)}",
            "Date: Fri, 27 Nov 2026 10:00:00 +0000",
            f"Message-ID: <{number}@example.com>",
            *choose.sample(_MORE, choose.randrange(len(_MORE))),
            *([f"Sender: {other}"] if choose.random() < 0.3 else []),
        ]
        choose.shuffle(fields)
        body = "line\n" * choose.randrange(4) + "\n" * choose.randrange(3)
        made.append("".join(f"{field}\n" for field in fields).encode() + b"\n" + body.encode())
    return made


_FIELD = re.compile(r"hname='DKIM-Signature' hvalue='(.*?)'\n(?=###|opendkim: |\Z)", re.DOTALL)
_NUMBER = re.compile(r"\b(?:To:=20to|Message-ID:=20<)(\d+)@")
_ENDED = re.compile(r"^opendkim: (/.*): mlfi_eom\(\) returned SMFIS_ACCEPT$", re.MULTILINE)
# A message that is not signed ends the run, unless OpenDKIM also verifies.
_SIGN = "Mode sv\nInternalHosts csl:127.0.0.1\nRequireSafeKeys no\nSyslog no\nDiagnostics yes\n"


def signed(conf: Path, messages: list[Path]) -> dict[Path, list[dict[str, str]]]:
    """Return the signatures by OpenDKIM on messages of `generate`: the tags of each, without white space.

    One process signs all of them, up to one that it defers. It does not show which message a signature is
    for; but z= has the signed fields, and the number of the message is in To and Message-ID.
    """
    found: dict[Path, list[dict[str, str]]] = {message: [] for message in messages}
    if re.search(r"^Mode\s+v$", conf.read_text(), re.MULTILINE):
        return found
    again = conf.with_suffix(".test")
    again.write_text(f"Include {conf}\n{_SIGN}")
    left = list(map(str, messages))
    while left:
        command = [PROGRAM, "-x", str(again), "-u", "root", "-vv", "-t", ",".join(left)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        ended = _ENDED.findall(done.stderr)
        assert ended == left[: len(ended)]
        left = left[len(ended) :]
        if left:
            assert f"{left.pop(0)}: mlfi_eoh() returned SMFIS_TEMPFAIL" in done.stderr
        for field in _FIELD.findall(done.stdout):
            tags = dict(tag.split("=", 1) for tag in "".join(field.split()).split(";"))
            (number,) = {*_NUMBER.findall(tags["z"])}
            found[messages[int(number)]].append(tags)
    return found


def run_import(*arguments: object) -> Done:
    """Run ``dkimpipe import opendkim ARGUMENTS``."""
    return Done(*forked.run("import", "opendkim", *map(str, arguments))[:3])


@contextlib.contextmanager
def listening(conf: Path, path: Path) -> Iterator[None]:
    """Run OpenDKIM as a milter at a socket in the file system."""
    more = conf.with_name("listening.conf")
    more.write_text(f"{conf.read_text()}\nRequireSafeKeys no\nSyslog no\nUMask 000\n")
    user = pwd.getpwuid(os.geteuid()).pw_name
    command = [PROGRAM, "-f", "-x", str(more), "-u", user, "-p", f"local:{path}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + 20
            while not _answers(path):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < until, "OpenDKIM does not listen"
                time.sleep(0.01)
            yield
        finally:
            process.kill()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0
