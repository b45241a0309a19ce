"""``dkimpipe verify`` as it is run: what goes in comes out, with the verdicts on top, or is kept back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import in_memory
import pytest
from conftest import MAIN, MESSAGE, Done, Keys
from nameserver import NameServer

TOP = b"Authentication-Results: mx.test;\n dkim="
SEL = "sel._domainkey.example.com"


def verify(*arguments: str, message: bytes = MESSAGE, env: dict[str, str] | None = None) -> Done:
    """Run ``dkimpipe verify --hostname=mx.test ARGUMENTS < message``."""
    command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", *arguments]
    done = subprocess.run(
        command,
        input=message,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.fixture(scope="module")
def server(keys: Keys) -> Iterator[NameServer]:
    with NameServer({SEL: keys.records["rsa2048._domainkey.example.com"]}) as running:
        yield running


@pytest.fixture(scope="module")
def dns(server: NameServer) -> str:
    return f"--dns-server=127.0.0.1#{server.port}"


@pytest.fixture(scope="module")
def signed(keys: Keys) -> bytes:
    arguments = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    return in_memory.sign(MESSAGE, *arguments)


def test_a_signed_message(dns: str, signed: bytes) -> None:
    beginning = signed.rpartition(b" b=")[2][:8].decode()
    if "/" in beginning:  # no token
        beginning = f'"{beginning}"'
    field = (
        "Authentication-Results: mx.test;\n"
        " dkim=pass header.d=example.com header.i=@example.com header.s=sel\n"
        f" header.a=rsa-sha256 header.b={beginning}\n"
    )
    assert verify(dns, message=signed) == Done(
        0,
        field.encode() + signed,
        "dkimpipe: verified: dkim=pass d=example.com s=sel a=rsa-sha256; from=Alice <alice@example.com>\n",
    )


# The values of b=, and those of header.b (RFC 6008 section 4).
BEGINNINGS = {
    "different": (["abcdefgh1111", "Abcdefgh1111"], ["abcdefgh", "Abcdefgh"]),
    "different from the ninth letter": (
        ["abcdefgh" + "1" * 12, "abcdefgh" + "2" * 12],
        ["abcdefgh11111111", "abcdefgh22222222"],
    ),
    "two of three alike": (
        ["abcdefgh" + "1" * 12, "abcdefgh" + "2" * 12, "x" * 12],
        ["abcdefgh11111111", "abcdefgh22222222", "x" * 8],
    ),
    "the same": (["abcdefgh" * 2] * 2, ["abcdefgh"] * 2),
    "the beginning of another": (["abcdefgh", "abcdefgh1234"], ["abcdefgh", "abcdefgh1234"]),
    "different at the end": (["a" * 400 + "1111", "a" * 400 + "2222"], ["a" * 8] * 2),
    "folded in different places": (["ab cdefgh1111", "abcde fgh2222"], ["abcdefgh1111", "abcdefgh2222"]),
    "short": (["abcd", "efgh"], ["abcd", "efgh"]),
}


@pytest.mark.parametrize(("values", "expected"), BEGINNINGS.values(), ids=BEGINNINGS)
def test_signatures_are_told_apart(dns: str, values: list[str], expected: list[str]) -> None:
    tags = "v=1; a=rsa-sha256; d=example.com; s=sel; h=from; bh=AAAA; b="
    fields = "".join(f"DKIM-Signature: {tags}{value}\n" for value in values)
    done = verify(dns, message=fields.encode() + MESSAGE)
    assert re.findall(r" header\.b=(\S+?);?\n", done.stdout.decode()) == expected


def test_an_unsigned_message(dns: str) -> None:
    assert verify(dns) == Done(
        0,
        b"Authentication-Results: mx.test;\n dkim=none\n" + MESSAGE,
        "dkimpipe: verified: dkim=none; from=Alice <alice@example.com>\n",
    )


# What follows the new field is the input.
MESSAGES = {
    "LF": MESSAGE,
    "no line end": MESSAGE.rstrip(b"\n"),
    "8 bit": MESSAGE.replace(b"hello", b"\xe4\xff\x00"),
    "no body": b"From: a@example.com\n\n",
    "header only": b"From: a@example.com\n",
    "no empty line": b"From: a@example.com\nno field\n",
    "results of others": b"Authentication-Results: mx.test.example; dkim=pass\n" + MESSAGE,
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_everything_else_is_the_input(dns: str, message: bytes) -> None:
    done = verify(dns, message=message)
    assert (done.status, done.stdout) == (0, TOP + b"none\n" + message)


@pytest.mark.parametrize("message", [b"", b" ;\n dkim=pass header.d=bank.example\n", b"\nbody\n"])
def test_a_message_without_a_header_continues_no_field(dns: str, message: bytes) -> None:
    gap = b"" if message.startswith(b"\n") else b"\n"
    assert verify(dns, message=message).stdout == TOP + b"none\n" + gap + message


# What --key-file may hold, and openssl's arguments for it.
KEY_FILES = {"private key": ["rsa"], "public key": ["rsa", "-pubout"], "PKCS#1": ["rsa", "-RSAPublicKey_out"]}


@pytest.mark.parametrize("command", KEY_FILES.values(), ids=KEY_FILES)
def test_a_key_that_is_not_in_dns(keys: Keys, tmp_path: Path, signed: bytes, command: list[str]) -> None:
    openssl = ["openssl", *command, "-in", str(keys.path("rsa2048")), "-out", str(tmp_path / "key")]
    subprocess.run(openssl, check=True, capture_output=True)
    (tmp_path / "key").chmod(0o600)
    assert verify(f"--key-file={SEL}={tmp_path / 'key'}", message=signed).stdout.startswith(TOP + b"pass ")


def test_a_record_that_is_not_in_dns(keys: Keys, tmp_path: Path, signed: bytes) -> None:
    (tmp_path / "record").write_bytes(keys.records["rsa2048._domainkey.example.com"][0] + b"\n")
    assert verify(f"--key-file={SEL}={tmp_path / 'record'}", message=signed).stdout.startswith(TOP + b"pass ")


def test_lines_end_as_those_of_the_message(dns: str) -> None:
    message = MESSAGE.replace(b"\n", b"\r\n")
    assert verify(dns, message=message).stdout == TOP.replace(b"\n", b"\r\n") + b"none\r\n" + message


def test_the_from_line_of_an_mbox_stays_on_top(dns: str) -> None:
    assert (
        verify(dns, message=b"From alice\n" + MESSAGE).stdout == b"From alice\n" + TOP + b"none\n" + MESSAGE
    )


def test_forged_results_are_removed(dns: str) -> None:
    forged = b"Authentication-Results: mx.test; dkim=pass\n\theader.d=bank.example\n"
    message = b"Received: x\n" + forged + MESSAGE.replace(b"To:", forged + b"To:")
    assert verify(dns, message=message).stdout == TOP + b"none\nReceived: x\n" + MESSAGE


def test_forged_results_behind_a_bare_cr_are_removed(dns: str) -> None:
    message = b"X: a\rAuthentication-results: mx.test; dkim=pass\n" + MESSAGE
    assert verify(dns, message=message).stdout == TOP + b"none\n" + MESSAGE


# Errors defer the mail.
TROUBLE = {
    "unknown option": (
        ["--nosuch"],
        "4.3.5 dkimpipe: unknown option '--nosuch'\nhint: see dkimpipe verify --help\n",
    ),
    "no value": (["--dns-server"], "4.3.5 dkimpipe: --dns-server needs a value\n"),
    "bad value": (
        ["--reject-fail=maybe"],
        "4.3.5 dkimpipe: command line: reject_fail must be yes or no, not 'maybe'\n",
    ),
    "bad server": (
        ["--dns-server=ns.example"],
        "4.3.5 dkimpipe: command line: dns_server 'ns.example' is not a valid address\n"
        "hint: for example 192.0.2.1 or 192.0.2.1#5353\n",
    ),
    "bad port": (
        ["--dns-server=192.0.2.1#65536"],
        "4.3.5 dkimpipe: command line: dns_server '192.0.2.1#65536' is not a valid address\n"
        "hint: for example 192.0.2.1 or 192.0.2.1#5353\n",
    ),
    "bad host": (
        ["--hostname=a b"],
        "4.3.5 dkimpipe: command line: hostname 'a b' is not a valid domain\n"
        "hint: set one: --hostname=mx.example.com\n",
    ),
    "no conf file": (
        ["--conf-file=/nowhere"],
        "4.3.5 dkimpipe: conf file /nowhere: No such file or directory\nhint: create it, or fix the path\n",
    ),
    "no key file": (
        ["--key-file=a=/nowhere"],
        "4.3.5 dkimpipe: command line: key file /nowhere: No such file or directory\n"
        "hint: create it, or fix the path\n",
    ),
    "key file without name": (
        ["--key-file=/nowhere"],
        "4.3.5 dkimpipe: command line: key_file must be NAME=FILE, not '/nowhere'\n"
        "hint: for example mail._domainkey.example.com=key.pem\n",
    ),
    "explain and recipients": (
        ["--explain", "-f", "", "--", "a@example.com"],
        "4.3.5 dkimpipe: --explain cannot be used with recipients\n",
    ),
    "no sendmail": (
        ["--sendmail=/nowhere", "-f", "", "--", "a@example.com"],
        "4.3.0 dkimpipe: cannot run /nowhere\n"
        "hint: set --sendmail=PATH to Postfix's sendmail(1); see postconf sendmail_path\n",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), TROUBLE.values(), ids=TROUBLE)
def test_an_error_defers_the_mail(dns: str, arguments: list[str], message: str) -> None:
    assert verify(dns, *arguments) == Done(75, b"", message)


def test_a_full_disk_defers_the_mail(dns: str) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", dns]
        done = subprocess.run(command, input=MESSAGE, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (
        75,
        "4.3.0 dkimpipe: cannot write to standard output: No space left on device\n",
    )


def hidden(directory: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which these modules cannot be imported."""
    for module in modules:
        (directory / f"{module}.py").write_text("raise ImportError('hidden')\n")
    return {"PYTHONPATH": str(directory)}


@pytest.mark.parametrize("modules", [("dns", "cryptography"), ("_ctypes",)], ids=" ".join)
def test_what_can_be_done_without_is_not_needed(
    dns: str, signed: bytes, tmp_path: Path, modules: tuple[str, ...]
) -> None:
    done = verify(dns, message=signed, env=hidden(tmp_path, *modules))
    assert done.status == 0
    assert done.stdout.startswith(TOP + b"pass header.d=")


def test_a_missing_package_defers_the_mail(dns: str, signed: bytes, tmp_path: Path) -> None:
    done = verify(dns, message=signed, env=hidden(tmp_path, "_ctypes", "cryptography"))
    assert (done.status, done.stdout) == (75, b"")
    assert done.stderr.startswith("4.3.0 dkimpipe: ImportError: hidden")


def test_without_recipients_the_mail_is_deferred(dns: str) -> None:
    command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", dns]
    done = subprocess.run(
        command,
        input=MESSAGE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "MAIL_CONFIG": "/etc/postfix"},
        check=False,
    )
    assert done.returncode == 75
    assert done.stdout.startswith(b"4.3.5 dkimpipe: started by Postfix without recipients\n")


def test_sendmail_gets_all_of_it(dns: str, tmp_path: Path) -> None:
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\nexec cat >{tmp_path}/message\n'
    )
    sendmail.chmod(0o755)
    done = verify(
        dns, f"--sendmail={sendmail}", "--syslog=no", "-f", "", "--", "-x@example.com", "b c@example.com"
    )
    assert (done.status, done.stdout) == (0, b"")
    arguments = (tmp_path / "arguments").read_text().split("\n")
    assert arguments == ["-G", "-i", "-f", "", "--", "-x@example.com", "b c@example.com", ""]
    assert (tmp_path / "message").read_bytes() == TOP + b"none\n" + MESSAGE


# The conf file of dkimproxy.in.
CONF = """\
# specify what address/port DKIMproxy should listen on
listen    127.0.0.1:10025
relay     127.0.0.1:10026
hostname  other.test
reject_fail 1
"""


def test_the_conf_file_of_dkimproxy_in(server: NameServer, dns: str, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text(CONF)
    server.records["_domainkey.example.com"] = [b"o=-"]
    try:
        done = verify(dns, f"--conf-file={conf}")
    finally:
        del server.records["_domainkey.example.com"]
    assert done == Done(
        69, b"", "5.7.1 dkimpipe: no valid signature; example.com signs all its mail (DomainKeys o=-)\n"
    )


def test_an_error_in_the_conf_file(dns: str, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text("hostname mx.test\nselector x\n")
    assert verify(dns, f"--conf-file={conf}") == Done(
        75, b"", f"4.3.5 dkimpipe: {conf}, line 2: unknown directive: 'selector x'\n"
    )


# DNS that has no answer.


def test_without_dns_the_mail_goes_on(server: NameServer, dns: str, signed: bytes) -> None:
    server.broken.add(SEL)
    try:
        done, kept = verify(dns, message=signed), verify(dns, "--reject-error", message=signed)
    finally:
        server.broken.clear()
    assert done.status == 0
    assert done.stdout.startswith(
        TOP + b'temperror\n reason="the name servers of sel._domainkey.example.com fail"\n header.d='
    )
    assert kept == Done(75, b"", "4.7.5 dkimpipe: the name servers of sel._domainkey.example.com fail\n")


def test_help() -> None:
    done = subprocess.run([sys.executable, str(MAIN), "verify", "--help"], capture_output=True, check=True)
    assert done.stdout.startswith(b"usage: dkimpipe verify [OPTION]... [-f SENDER] [-- RECIPIENT...]\n")
