"""``dkimpipe verify --explain``: it finds what happened to a message in transit."""

from __future__ import annotations

import base64
import quopri
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import in_memory
import pytest
from conftest import MAIN, Done, Keys

NOW = 1_700_000_000
MESSAGE = (
    b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: Re: hello\n there\n"
    b"Content-Type: text/plain; charset=utf-8\n\nHello, Bob.\nFrom here on: \xe2\x9c\x93\n\n"
    + b"x" * 1500
    + b"\n\nAlice\n"
)


def explain(signed: bytes, *arguments: str) -> Done:
    """Run ``dkimpipe verify --explain``."""
    command = [sys.executable, str(MAIN), "verify", "--hostname=mx.test", "--explain", *arguments]
    done = subprocess.run(command, input=signed, capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def sign(keys: Keys, c: str, key: str = "rsa2048", message: bytes = MESSAGE) -> bytes:
    arguments = (f"--method={c}", "--domain=example.com", "--selector=sel", "--normalize=no")
    return in_memory.sign(message, *arguments, f"--keyfile={keys.path(key)}", now=NOW)


def of_body(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return what changes the body of a message."""

    def changed(signed: bytes) -> bytes:
        header, end, body = signed.partition(b"\n\n")
        return header + end + change(body)

    return changed


def broken(body: bytes) -> bytes:
    return re.sub(rb"x{1500}", b"x" * 998 + b"\n " + b"x" * 502, body)


BODY = "dkim-signature: fail: body altered"
HEADER = "dkim-signature: fail: header altered"

# How it was signed, what happened, the result, and its explanation.
HAPPENED = {
    "nothing": ("relaxed", bytes, "dkim-signature: pass", ""),
    "footer": (
        "relaxed",
        lambda signed: signed + b"-- \nlist@example.org\n",
        BODY,
        "everything from line 7 of the body on was added after signing",
    ),
    "blanks": (
        "relaxed",
        of_body(lambda body: body.replace(b"Bob.", b"Bob. \t")),
        BODY,
        "white space at line ends was added after signing",
    ),
    "mbox": (
        "relaxed",
        of_body(lambda body: body.replace(b"From h", b">From h")),
        BODY,
        "'From ' at the start of a line became '>From ' after signing",
    ),
    "long lines": ("relaxed", of_body(broken), BODY, "lines over 998 octets were broken after signing"),
    "CRs": (
        "relaxed",
        of_body(lambda body: body.replace(b"Bob.", b"Bob.\r\r")),
        BODY,
        "CRs were added after signing",
    ),
    "lines at the top": (
        "relaxed",
        of_body(lambda body: b"\n\n" + body),
        BODY,
        "empty lines were added at the top after signing",
    ),
    "quoted-printable": (
        "relaxed",
        of_body(quopri.encodestring),
        BODY,
        "8-bit text was converted to quoted-printable after signing",
    ),
    "base64": (
        "relaxed",
        of_body(base64.encodebytes),
        BODY,
        "8-bit text was converted to base64 after signing",
    ),
    "base64, with CRLF within": (
        "relaxed",
        of_body(lambda body: base64.encodebytes(body.replace(b"\n", b"\r\n"))),
        BODY,
        "8-bit text was converted to base64 after signing",
    ),
    "other text": (
        "relaxed",
        lambda signed: signed.replace(b"Hello, B", b"Hallo, B"),
        BODY,
        "the text was changed after signing, perhaps by a mailing list, a virus scanner or a gateway",
    ),
    "tag": (
        "relaxed",
        lambda signed: signed.replace(b"Subject: Re: h", b"Subject: Re: [List] h"),
        HEADER,
        "subject was given a tag in brackets after signing",
    ),
    "unfolded": (
        "simple",
        lambda signed: signed.replace(b"text/plain; c", b"text/plain;\n c"),
        HEADER,
        "content-type was refolded after signing",
    ),
    "field added": (
        "relaxed",
        lambda signed: signed.replace(b"To: bob", b"To: carol@example.net\nTo: bob"),
        HEADER,
        "another to field was added after signing",
    ),
    "field changed": (
        "relaxed",
        lambda signed: signed.replace(b"bob@", b"carol@"),
        HEADER,
        "one of these was changed, added or removed after signing: from, subject, to, content-type",
    ),
}


@pytest.mark.parametrize(("c", "change", "verdict", "words"), HAPPENED.values(), ids=HAPPENED)
def test_what_happened(
    keys: Keys, c: str, change: Callable[[bytes], bytes], verdict: str, words: str
) -> None:
    done = explain(change(sign(keys, c)), f"--key-file=sel._domainkey.example.com={keys.path('rsa2048')}")
    lines = done.stdout.decode().splitlines()
    method = "relaxed/simple" if c == "relaxed" else "simple/simple"
    facts = [f"    d=example.com s=sel a=rsa-sha256 c={method}"]
    if verdict != BODY:
        facts.append("    key: sel._domainkey.example.com, rsa, 2048 bits")
    assert lines[:-1] == [verdict, *facts, *([f"    {words}"] if words else [])]
    assert lines[-1].startswith(f"    dkimpy, another verifier: {'valid' if not words else 'not valid'}")
    assert (done.status, done.stderr) == (78 if words else 0, "")


PARTS = (
    b"From: Alice <alice@example.com>\nMIME-Version: 1.0\n"
    b"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n"
    b"--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    b"Gr\xc3\xbc\xc3\x9fe = 1\n-- \nAlice\n\n"
    b"--b\nContent-Transfer-Encoding: 8bit\nContent-Type: text/html\n\n<p>\xe2\x9c\x93\n"
    b"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n"
    b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n--b--\n"
)
ENCODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"quoted-printable": quopri.encodestring,
    b"base64": base64.encodebytes,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_transfer_encoding_of_parts_was_changed(keys: Keys, encoding: bytes) -> None:
    signed = sign(keys, "relaxed", message=PARTS)
    header, *parts = signed.split(b"--b\n")
    for number, part in enumerate(parts[:2]):
        fields, _, content = part.partition(b"\n\n")
        encoded = ENCODINGS[encoding](content[:-1])
        parts[number] = fields.replace(b"8bit", encoding) + b"\n\n" + encoded + b"\n"
    done = explain(
        b"--b\n".join([header, *parts]), f"--key-file=sel._domainkey.example.com={keys.path('rsa2048')}"
    )
    lines = done.stdout.decode().splitlines()
    assert lines[0] == BODY
    assert lines[2] == ("    8-bit text in parts was converted to quoted-printable or base64 after signing")


def test_copies_show_the_original(keys: Keys) -> None:
    signed = sign(keys, "relaxed").replace(b" bh=", b" z=Subject:Good=20morning;\n bh=")
    done = explain(signed, f"--key-file=sel._domainkey.example.com={keys.path('rsa2048')}")
    assert "    subject was 'Good morning' when signed (z=)" in done.stdout.decode().splitlines()


OTHER = {
    "no key": (
        "rsa2048",
        "none",
        ["dkim-signature: permerror: no key", "    check: dig +short TXT sel._domainkey.example.com"],
    ),
    "another key": (
        "rsa2048",
        "rsa1024",
        [
            "dkim-signature: fail: signed with another key",
            "    the record was replaced, or the message was signed with a key that was never published",
        ],
    ),
}


@pytest.mark.parametrize(("signed_by", "published", "words"), OTHER.values(), ids=OTHER)
def test_what_is_wrong_with_the_key(
    keys: Keys, tmp_path: Path, signed_by: str, published: str, words: list[str]
) -> None:
    record = tmp_path / "record"
    name = "sel" if published != "none" else "other"
    record.write_bytes(keys.records[f"{published if name == 'sel' else 'rsa2048'}._domainkey.example.com"][0])
    server = "--dns-server=127.0.0.1#1" if published != "none" else ""
    arguments = [f"--key-file={name}._domainkey.example.com={record}", *filter(None, [server])]
    lines = explain(sign(keys, "relaxed", signed_by), *arguments).stdout.decode().splitlines()
    assert [line for line in lines if line in words] == words


def test_an_unsigned_message() -> None:
    assert explain(MESSAGE) == Done(78, b"no signature\n", "")
