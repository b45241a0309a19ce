"""``dkimpipe check``: each fault in conf, maps, keys and DNS by its own message; none where all is good."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bind
import pytest
import throwaway
from conftest import MAIN, Done, Keys, Report, write_key
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from nameserver import NameServer
from records import SAMPLES
from throwaway import Machine

from dkimpipe.admin.dns import compare, formats, lookup
from postfix import shared_directory

GOOD = "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n"
KEY = "key=KEYS/rsa2048.pem"


def verb(*arguments: str) -> Done:
    """Run ``dkimpipe check ARGUMENTS``; the user that has to read the files is this one."""
    command = [sys.executable, str(MAIN), "check", "-c", "/nonexistent", "--user", "root", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def checked(keys: Keys, text: str, *arguments: str) -> tuple[int, str]:
    """Check a senders file; return the status, and what is said, with SENDERS and KEYS for the paths."""
    path = keys.senders(text, "checked")
    done = verb(f"--sender_map={path}", *arguments)
    assert done.stderr == ""
    said = done.stdout.decode().replace(f"{path}", "SENDERS").replace(str(keys.directory), "KEYS")
    return done.status, said


def findings(said: str) -> list[str]:
    """Return the findings without the hints."""
    return [line.removeprefix("dkimpipe: ") for line in said.splitlines() if not line.startswith("    ")]


GOOD_MAPS = {
    "one": (GOOD, 1),
    "comments": (f"# x\n; y\n\n{GOOD} # continued\n  , domainkeys(s=rsa2048,{KEY})\n", 2),
    "dual": (f"example.com dkim(s=a,{KEY}), dkim(s=b,key=KEYS/ed25519.pem)\n", 2),
    "one key, two types": (f"example.com dkim(s=a,{KEY}), domainkeys(c=simple,s=a,{KEY})\n", 2),
    "one key, two domains": (f"example.com dkim(s=a,{KEY})\nexample.org dkim(s=a,{KEY})\n", 2),
    "one selector, one key, two files": (
        f"example.com dkim(s=a,{KEY})\na@example.com dkim(s=a,key=KEYS/rsa2048-pkcs1.pem)\n",
        2,
    ),
    "everybody": (f". dkim(s=a,{KEY})\n", 1),
    "everybody by one domain": (f". dkim(d=example.com,s=a,{KEY})\n", 1),
    "macros": (f"example.com dkim(d=$senderdomain,i=$sender,s=a,{KEY})\n", 1),
    "parent domain": (f"mail.example.com dkim(d=example.com,s=a,{KEY})\n", 1),
    "extension": (f"a+b@example.com dkim(s=a,{KEY})\n", 1),
    "IDN": (f"b\u00fccher.example dkim(s=a,{KEY})\n", 1),
    "who may have it": (
        f"example.com dkim(s=a,{KEY},login=a:b c,envelope=b\u00fccher.example:a@b.example:@example.org:*)\n"
        f". dkim(s=a,{KEY},login=*,d=$senderdomain)\n",
        2,
    ),
    "all options": (f"example.com dkim(c=simple,h=from:to,i=@example.com,x=30d,t=yes,s=a,{KEY})\n", 1),
}


@pytest.mark.parametrize(("text", "count"), GOOD_MAPS.values(), ids=GOOD_MAPS)
def test_nothing_is_found_where_all_is_good(keys: Keys, text: str, count: int) -> None:
    signatures = "1 signature is" if count == 1 else f"{count} signatures are"
    assert checked(keys, text) == (0, f"dkimpipe: SENDERS and {signatures} good\n")


# What stands in the senders file, and what is found, without the hints.
FAULTS = {
    "no value": (f"example.com dkim(s=,{KEY})", ["error: SENDERS, line 1: no value: 's='"]),
    "no selector": (f"example.com dkim({KEY})", ["error: SENDERS, line 1: dkim without s="]),
    "no key": ("example.com dkim(s=a)", ["error: SENDERS, line 1: dkim without key="]),
    "no signature": ("example.com", ["error: SENDERS, line 1: no signature behind the key"]),
    "unknown option": (f"example.com dkim(s=a,{KEY},q=1)", ["error: SENDERS, line 1: unknown option: 'q=1'"]),
    "unknown type": (
        "example.com arc(s=a)",
        ["error: SENDERS, line 1: unknown type of signature: 'arc(s=a)'"],
    ),
    "given twice": (f"example.com dkim(s=a,s=b,{KEY})", ["error: SENDERS, line 1: given twice: 's=b'"]),
    "not closed": ("example.com dkim(s=a", ["error: SENDERS, line 1: no closing parenthesis: 'dkim(s=a'"]),
    "text behind": (
        f"example.com dkim(s=a,{KEY})x",
        ["error: SENDERS, line 1: text behind the closing parenthesis: 'dkim(s=a,key=KEYS/rsa2048.pem)x'"],
    ),
    "comma at the end": (
        f"example.com dkim(s=a,{KEY}),",
        ["error: SENDERS, line 1: nothing between two commas, or behind the last"],
    ),
    "bad selector": (
        f"example.com dkim(s=a b,{KEY})",
        ["error: SENDERS, line 1: s=a b can be no name in DNS"],
    ),
    "bad method": (
        f"example.com dkim(s=a,c=nofws,{KEY})",
        [
            "error: SENDERS, line 1: dkim knows c=simple, relaxed, simple/simple, simple/relaxed, "
            "relaxed/simple, relaxed/relaxed; not nofws"
        ],
    ),
    "bad domain": (f"example.com dkim(d=a..b,s=a,{KEY})", ["error: SENDERS, line 1: d=a..b is no domain"]),
    "bad identity": (
        f"example.com dkim(i=@example.org,s=a,{KEY})",
        ["error: SENDERS, line 1: i=@example.org is not at or below d=example.com"],
    ),
    "bad macro": (
        f"example.com dkim(d=$domain,s=a,{KEY})",
        ["error: SENDERS, line 1: unknown macro '$domain'"],
    ),
    "bad lifetime": (
        f"example.com dkim(x=1y,s=a,{KEY})",
        ["error: SENDERS, line 1: x=1y is no time: 30d, 12h, or seconds"],
    ),
    "h without from": (
        f"example.com dkim(h=to,s=a,{KEY})",
        ["error: SENDERS, line 1: h= does not name from (RFC 6376 section 5.4)"],
    ),
    "ed25519 for an RSA key": (
        f"example.com dkim(a=ed25519-sha256,s=a,{KEY})",
        ["error: SENDERS, line 1: a=ed25519-sha256, but key file KEYS/rsa2048.pem is for rsa"],
    ),
    "rsa for an Ed25519 key": (
        "example.com dkim(a=rsa-sha256,s=a,key=KEYS/ed25519.pem)",
        ["error: SENDERS, line 1: a=rsa-sha256, but key file KEYS/ed25519.pem is for ed25519"],
    ),
    "domainkeys with sha256": (
        f"example.com domainkeys(a=rsa-sha256,s=a,{KEY})",
        ["error: SENDERS, line 1: domainkeys knows a=rsa-sha1, not rsa-sha256"],
    ),
    "domainkeys with Ed25519": (
        "example.com domainkeys(s=a,key=KEYS/ed25519.pem)",
        ["error: SENDERS, line 1: domainkeys is rsa-sha1, but key file KEYS/ed25519.pem is for ed25519"],
    ),
    "key missing": (
        "example.com dkim(s=a,key=KEYS/none.pem)",
        ["error: SENDERS, line 1: key file KEYS/none.pem: No such file or directory"],
    ),
    "key readable by all": (
        "example.com dkim(s=a,key=KEYS/open.pem)",
        ["error: SENDERS, line 1: key file KEYS/open.pem is readable by others (mode 0644)"],
    ),
    "weak key": (
        "example.com dkim(s=a,key=KEYS/rsa1024.pem)",
        ["warning: SENDERS, line 1: key file KEYS/rsa1024.pem has 1024 bits; 2048 are the least (RFC 8301)"],
    ),
    "rsa-sha1": (
        f"example.com dkim(a=rsa-sha1,s=a,{KEY})",
        ["warning: SENDERS, line 1: a=rsa-sha1: verifiers refuse it (RFC 8301)"],
    ),
    "not aligned": (
        f"example.com dkim(d=example.org,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "it does not count for DMARC (RFC 7489)"
        ],
    ),
    "domainkeys of another domain": (
        f"example.com domainkeys(d=example.org,s=a,{KEY})",
        ["warning: SENDERS, line 1: never signed: domainkeys d=example.org does not cover from"],
    ),
    "key twice": (
        f"{GOOD}# again\nEXAMPLE.com dkim(s=rsa2048,{KEY})",
        ["warning: SENDERS, line 3: EXAMPLE.com stands in line 1 already; only this line counts"],
    ),
    "key in both spellings": (
        f"b\u00fccher.example dkim(s=a,{KEY})\nxn--bcher-kva.example dkim(s=a,{KEY})",
        ["warning: SENDERS, line 2: xn--bcher-kva.example stands in line 1 already; only this line counts"],
    ),
    "key with an at sign in front": (
        f"@example.com dkim(s=a,{KEY})",
        ["warning: SENDERS, line 1: no address matches @example.com"],
    ),
    "key with a dot in front": (
        f".example.com dkim(s=a,{KEY})",
        ["warning: SENDERS, line 1: no address matches .example.com"],
    ),
    "key with a dot at the end": (
        f"example.com. dkim(s=a,{KEY})",
        ["warning: SENDERS, line 1: no address matches example.com."],
    ),
    "key with a star": (
        f"*@example.com dkim(s=a,{KEY})\n*.example.com dkim(s=a,{KEY})",
        ["warning: SENDERS, line 2: no address matches *.example.com"],
    ),
    "nobody": (
        f"example.com dkim(s=a,{KEY},login=a:)",
        ["error: SENDERS, line 1: nobody on one side of a colon: 'login=a:'"],
    ),
    "a pattern of logins": (
        f"example.com dkim(s=a,{KEY},login=bob:*@example.com)",
        ["warning: SENDERS, line 1: login=*@example.com: * is no part of a pattern"],
    ),
    "a pattern of envelope senders": (
        f"example.com dkim(s=a,{KEY},envelope=*@example.com:*)",
        ["warning: SENDERS, line 1: envelope=*@example.com: * is no part of a pattern"],
    ),
    "an envelope sender that can be none": (
        f"example.com dkim(s=a,{KEY},envelope=bob:alice@:a b@exa mple.com:.example.com:bob@example.com)",
        [
            "warning: SENDERS, line 1: envelope=alice@ is no address, and no domain",
            "warning: SENDERS, line 1: envelope=a b@exa mple.com is no address, and no domain",
            "warning: SENDERS, line 1: envelope=.example.com is no address, and no domain",
        ],
    ),
    "two keys on one selector": (
        f"example.com dkim(s=a,{KEY}), dkim(s=a,key=KEYS/ed25519.pem)",
        [
            "error: SENDERS, line 1: a._domainkey.example.com is the name of another key already, "
            "KEYS/rsa2048.pem"
        ],
    ),
    "several in one entry": (
        f"example.com dkim(s=a), dkim({KEY})\n  , arc, dkim(s=b,{KEY})",
        [
            "error: SENDERS, line 1: dkim without key=",
            "error: SENDERS, line 1: dkim without s=",
            "error: SENDERS, line 1: unknown type of signature: 'arc'",
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named(keys: Keys, text: str, expected: list[str]) -> None:
    open_key = keys.path("open")
    open_key.write_bytes(keys.path("rsa2048").read_bytes())
    open_key.chmod(0o644)
    status, said = checked(keys, text + "\n")
    assert findings(said) == expected
    assert status == (78 if any(line.startswith("error") for line in expected) else 0)


NEW_KEY = "openssl genrsa -out NEWFILE 2048 makes a key that can sign"


def pem(label: str, der: bytes = b"") -> bytes:
    """Return a PEM block of this label."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


# RFC 8410 section 7, but for the second OCTET STRING, which is none.
NO_OCTET_STRING = bytes.fromhex("302e020100300506032b657004220520") + bytes(32)

# What is done to a good key file, and what is then said of it, with its hint.
KEY_FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "holds no PEM block", NEW_KEY),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:400]),
        "is truncated: it has no END line",
        NEW_KEY,
    ),
    "cut within": (
        lambda path: path.write_bytes(pem("PRIVATE KEY", b"0\x82\x04\xbe\x02\x01\x00")),
        "is truncated",
        NEW_KEY,
    ),
    "no base64": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"\nM", b"\n=", 1)),
        "is damaged: its base64 does not decode",
        NEW_KEY,
    ),
    "no numbers": (
        lambda path: path.write_bytes(pem("RSA PRIVATE KEY", b"\x04\x02ab")),
        "is damaged: it is no key structure",
        NEW_KEY,
    ),
    "encrypted": (
        lambda path: path.write_bytes(pem("ENCRYPTED PRIVATE KEY")),
        "is encrypted",
        "openssl pkey -in PATH -out NEWFILE makes one without a passphrase",
    ),
    "public": (
        lambda path: path.write_bytes(pem("PUBLIC KEY")),
        "holds a public key",
        "name the private key; the public one belongs into DNS",
    ),
    "certificate": (
        lambda path: path.write_bytes(pem("CERTIFICATE")),
        "holds a certificate",
        NEW_KEY,
    ),
    "EC": (lambda path: path.write_bytes(pem("EC PRIVATE KEY")), "holds an EC key", NEW_KEY),
    "OpenSSH": (
        lambda path: path.write_bytes(pem("OPENSSH PRIVATE KEY")),
        "is in the format of OpenSSH",
        "ssh-keygen -p -m PEM -f PATH makes an RSA key PEM; an Ed25519 key must be made anew",
    ),
    "writable by the group": (
        lambda path: path.chmod(0o660),
        "is writable by the group (mode 0660)",
        "chmod 0640 PATH",
    ),
    "no key structure": (
        lambda path: path.write_bytes(pem("PRIVATE KEY", NO_OCTET_STRING)),
        "is damaged: it is no key structure",
        NEW_KEY,
    ),
}


@pytest.mark.parametrize(("change", "fault", "hint"), KEY_FAULTS.values(), ids=KEY_FAULTS)
def test_each_fault_of_a_key_is_named_and_stops_nothing(
    keys: Keys, tmp_path: Path, change: Callable[[Path], object], fault: str, hint: str
) -> None:
    path = write_key(tmp_path / "seeded.pem", keys.path("rsa2048").read_bytes())
    change(path)
    text = f"example.com dkim(s=a,key={path})\nexample.org dkim(s=a)\n"
    status, said = checked(keys, text, "--dns", "--server=127.0.0.1#9")
    lines = [f"dkimpipe: error: SENDERS, line 1: key file {path} {fault}"]
    lines += [f"    {hint.replace('PATH', str(path))}"] if hint else []
    lines += ["dkimpipe: error: SENDERS, line 2: dkim without key=", ""]
    assert (status, said) == (78, "\n".join(lines))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_the_terminal_cannot_show_is_escaped(keys: Keys, locale: str) -> None:
    path = keys.senders(
        f"b\u00fccher..example dkim(s=a,{KEY})\n\x1b[2J..example dkim(s=a,{KEY})\n", "checked"
    )
    command = [
        sys.executable,
        str(MAIN),
        "check",
        "-c",
        "/nonexistent",
        "--user",
        "root",
        f"--sender_map={path}",
    ]
    env = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    letter = "\u00fc" if locale == "C.UTF-8" else "\\xfc"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (
        0,
        f"dkimpipe: warning: {path}, line 1: no address matches b{letter}cher..example\n"
        f"dkimpipe: warning: {path}, line 2: no address matches \\x1b[2J..example\n",
        b"",
    )


def test_findings_for_machines(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/none.pem)\n", "checked")
    done = verb(f"--sender_map={path}", "--json")
    what = f"{path}, line 1: key file {keys.path('none')}: No such file or directory"
    assert (done.status, json.loads(done.stdout)) == (
        78,
        [{"what": what, "hint": "create it, or fix the path", "level": "error"}],
    )


def test_nothing_found_for_machines(keys: Keys) -> None:
    assert verb(f"--sender_map={keys.senders(GOOD, 'checked')}", "--json") == Done(0, b"[]\n", "")


CONF_FAULTS = {
    "unknown": ("foo bar", ["error: CONF, line 2: unknown directive: 'foo bar'"]),
    "wrong value": ("on_error maybe", ["error: CONF, line 2: on_error is defer or accept, not 'maybe'"]),
    "no value": ("selector", ["error: CONF, line 2: selector has no value"]),
    "twice": (
        "selector a\nselector b",
        ["warning: CONF, line 3: selector stands in line 2 already; this one counts"],
    ),
    "several": (
        "foo\nbar\nverbose maybe",
        [
            "error: CONF, line 2: unknown directive: 'foo'",
            "error: CONF, line 3: unknown directive: 'bar'",
            "error: CONF, line 4: verbose is yes or no, not 'maybe'",
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CONF_FAULTS.values(), ids=CONF_FAULTS)
def test_each_fault_in_the_conf_file_is_named(keys: Keys, text: str, expected: list[str]) -> None:
    conf = keys.directory / "checked.conf"
    conf.write_text(f"sender_map {keys.senders(GOOD, 'checked')}\n{text}\n")
    done = verb(f"--conf_file={conf}")
    assert findings(done.stdout.decode().replace(str(conf), "CONF")) == expected


def test_a_listid_map_is_checked_too(keys: Keys) -> None:
    conf = keys.directory / "checked.conf"
    listid_map = keys.senders("l.example.com dkim(s=a)\na@example.com dkim(s=a)\n", "listids")
    conf.write_text(f"sender_map {keys.senders(GOOD, 'checked')}\nlistid_map {listid_map}\n")
    done = verb(f"--conf_file={conf}")
    assert findings(done.stdout.decode().replace(str(listid_map), "MAP")) == [
        "error: MAP, line 1: dkim without key=",
        "warning: MAP, line 2: no List-Id matches a@example.com, which is an address",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_files_are_tried_as_the_filters_user(keys: Keys) -> None:
    path = keys.senders(GOOD, "checked")
    done = verb(f"--sender_map={path}", "--user", "nobody")
    assert done.status == 78
    key = keys.path("rsa2048")
    hints = [
        f"    {line}"
        for each in (path, key)
        for line in (
            f"chgrp nogroup {each} && chmod g+r {each}",
            f"namei -l {each} shows what else stands in the way",
        )
    ]
    assert done.stdout.decode().splitlines() == [
        f"dkimpipe: error: {path}: user nobody cannot read it",
        *hints[:2],
        f"dkimpipe: error: {path}, line 1: key file {key}: user nobody cannot read it",
        *hints[2:],
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
@pytest.mark.parametrize(
    ("user", "mode", "status"),
    [("nobody", 0o440, 78), ("nobody:daemon", 0o440, 0), ("nobody:daemon", 0o400, 78)],
)
def test_keys_are_tried_with_the_one_group_that_pipe_leaves(
    keys: Keys, user: str, mode: int, status: int
) -> None:
    with shared_directory() as directory:
        key = Path(shutil.copy(keys.path("rsa2048"), directory))
        shutil.chown(key, "root", "daemon")
        key.chmod(mode)
        path = directory / "senders"
        path.write_text(f"example.com dkim(s=a,key={key})\n")
        assert verb(f"--sender_map={path}", "--user", user).status == status


def test_a_user_who_is_not_there_cannot_read(keys: Keys) -> None:
    path = keys.senders(GOOD, "checked")
    done = verb(f"--sender_map={path}", "--user", "nouserofthisname")
    assert done.status == 78
    assert done.stdout.decode() == (
        "dkimpipe: error: there is no user nouserofthisname to read the files\n"
        "    --user names that of the filter\n"
    )


def test_a_key_whose_numbers_are_damaged(keys: Keys) -> None:
    broken = keys.path("broken")
    key = load_pem_private_key(keys.path("rsa1024").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    exponent = key.private_numbers().d.to_bytes(128, "big").lstrip(b"\0")
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der = der.replace(exponent, exponent[:-1] + bytes([exponent[-1] ^ 2]))
    label = b"RSA PRIVATE KEY-----\n"
    write_key(broken, b"-----BEGIN " + label + base64.encodebytes(der) + b"-----END " + label)
    assert checked(keys, "example.com dkim(s=a,key=KEYS/broken.pem)\n") == (
        78,
        "dkimpipe: error: SENDERS, line 1: key file KEYS/broken.pem is damaged: its numbers do not fit each "
        "other\n    make a new one: dkimpipe genkey\n",
    )


def test_a_directory_of_keys_that_others_can_write(keys: Keys) -> None:
    with shared_directory() as directory:
        inner = directory / "keys"
        inner.mkdir()
        key = Path(shutil.copy(keys.path("rsa2048"), inner))
        key.chmod(0o400)
        path = keys.senders(f"example.com dkim(s=a,key={key})\n", "checked")
        inner.chmod(0o777)
        directory.chmod(0o757)
        done = verb(f"--sender_map={path}")
    assert findings(done.stdout.decode()) == [
        f"error: {inner}: others can write it (mode 0777)",
        f"error: {directory}: others can write it (mode 0757)",
    ]


NO_ENTRIES = {
    "empty": (b"", ["error: map SENDERS is empty"]),
    "comments": (b"# x\n\n", ["warning: SENDERS: there is no entry in it"]),
    "blank in front": (
        b"\xef\xbb\xbf# x\n  example.com dkim(s=a)\n\ta\n",
        [
            "warning: SENDERS, line 2: it begins with a blank, but there is no entry that it continues",
            "warning: SENDERS, line 3: it begins with a blank, but there is no entry that it continues",
            "warning: SENDERS: there is no entry in it",
        ],
    ),
    "UTF-16": (
        "example.com dkim(s=a)\n".encode("utf-16"),
        [
            "warning: SENDERS, line 1: no address matches \\udcff\\udcfee\\x00x\\x00a\\x00m\\x00p\\x00l\\x00"
            "e\\x00.\\x00c\\x00o\\x00m\\x00",
            "warning: SENDERS, line 2: no address matches \\x00",
        ],
    ),
}


@pytest.mark.parametrize(("octets", "expected"), NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_a_map_without_entries(keys: Keys, octets: bytes, expected: list[str]) -> None:
    path = keys.senders("", "checked")
    path.write_bytes(octets)
    done = verb(f"--sender_map={path}")
    assert findings(done.stdout.decode().replace(str(path), "SENDERS")) == expected
    assert ("save the file as UTF-8" in done.stdout.decode()) == (b"\0" in octets)


def test_an_index_that_is_out_of_date(keys: Keys) -> None:
    old = keys.directory / "checked.index"
    old.write_bytes(b"")
    status, said = checked(keys, GOOD)
    old.unlink()
    assert (status, said) == (
        0,
        "dkimpipe: warning: SENDERS.index is out of date: the map is scanned\n    dkimpipe index\n",
    )


def test_a_key_file_without_a_directory(keys: Keys) -> None:
    """pipe(8) starts the filter elsewhere."""
    path = keys.senders("example.com dkim(s=a,key=rsa2048.pem)\n", "checked")
    command = [sys.executable, str(MAIN), "check", "-c", "/nonexistent", f"--sender_map={path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=keys.directory, check=False)
    assert (done.returncode, done.stdout) == (
        0,
        f"dkimpipe: warning: {path}, line 1: key file rsa2048.pem is where Postfix starts the filter: in its "
        f"queue directory\n    if it is where you are: {keys.path('rsa2048')}\n",
    )


def test_what_others_can_write_is_named(keys: Keys) -> None:
    path = keys.senders(GOOD, "checked")
    path.chmod(0o646)
    keys.directory.chmod(0o777)
    done = verb(f"--sender_map={path}")
    path.unlink()
    keys.directory.chmod(0o700)
    assert (done.status, findings(done.stdout.decode())) == (
        78,
        [
            f"error: {path}: others can write it (mode 0646)",
            f"error: {keys.directory}: others can write it (mode 0777)",
        ],
    )


# DNS: the record as it is published, and what is found.

OWNER = "rsa2048._domainkey.example.com"


@pytest.fixture
def nameserver(keys: Keys) -> Iterator[NameServer]:
    with NameServer({OWNER: list(keys.records[OWNER])}) as server:
        yield server


def in_dns(keys: Keys, nameserver: NameServer, text: str = GOOD) -> tuple[int, list[str]]:
    """Check a senders file with this server; return the status and the findings."""
    server = f"127.0.0.1#{nameserver.port}"
    status, said = checked(keys, text, "--dns", f"--server={server}")
    return status, [line.replace(f", says {server}", "") for line in findings(said)]


def test_a_record_that_is_right(keys: Keys, nameserver: NameServer) -> None:
    assert in_dns(keys, nameserver) == (0, ["SENDERS and 1 signature is good"])


RIGHT_IN_ANOTHER_WAY = {
    "blanks": lambda value: value.replace(b"; ", b" ;\t").replace(b"p=M", b"p= M"),
    "no version": lambda value: value.replace(b"v=DKIM1; ", b""),
    "no key type": lambda value: value.replace(b"k=rsa; ", b""),
    "notes": lambda value: value + b"; n=hello; s=email; h=sha1:sha256; t=s",
    "semicolon at the end": lambda value: value + b";",
}


@pytest.mark.parametrize("change", RIGHT_IN_ANOTHER_WAY.values(), ids=RIGHT_IN_ANOTHER_WAY)
def test_a_record_that_says_the_same(keys: Keys, nameserver: NameServer, change) -> None:  # type: ignore[no-untyped-def]
    nameserver.records[OWNER] = [change(nameserver.records[OWNER][0])]
    assert in_dns(keys, nameserver)[0] == 0


def test_a_bare_key_in_the_record(keys: Keys, nameserver: NameServer) -> None:
    """As RFC 6376 section 3.6.1 has it, and hardly anybody: RSAPublicKey (erratum 3017)."""
    key = load_pem_private_key(keys.path("rsa2048").read_bytes(), None)
    bare = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1))
    nameserver.records[OWNER] = [b"v=DKIM1; k=rsa; p=" + bare]
    what = "p= as the bare key (RSAPublicKey): Mail::DKIM and OpenDKIM would refuse it"
    assert in_dns(keys, nameserver) == (78, [f"error: {OWNER}: {what}"])


@pytest.mark.parametrize("tag", [b"h", b"s"])
def test_controls_in_a_record_do_not_reach_the_terminal(
    keys: Keys, nameserver: NameServer, tag: bytes
) -> None:
    nameserver.records[OWNER][0] += b"; " + tag + b"=\x1b[2J"
    _, said = in_dns(keys, nameserver)
    assert len(said) == 1
    assert said[0].isprintable()
    assert f"{tag.decode()}= holds what no tag can hold: '\\x1b'" in said[0]


# The record is made from the right one, as a table of what stands at which name.
DNS_FAULTS = {
    "no name": (lambda value: {}, "error: {}: there is no such name (NXDOMAIN)"),
    "no TXT": (lambda value: {OWNER: []}, "error: {}: the name is there, but has no TXT record"),
    "domain doubled": (
        lambda value: {f"{OWNER}.example.com": [value]},
        "error: {0}: the record stands at {0}.example.com; leave the domain out where it is entered",
    ),
    "another key": (
        lambda value: {OWNER: SAMPLES["other key"].make(value)},
        "error: {}: it is another key than the private key's",
    ),
    "revoked": (lambda value: {OWNER: [b"v=DKIM1; k=rsa; p="]}, "error: {}: the key is revoked: p= is empty"),
    "two records": (
        lambda value: {OWNER: [value, b"v=spf1 -all"]},
        "error: {}: 2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "no key record": (
        lambda value: {OWNER: [b"v=spf1 -all"]},
        "error: {}: it is not a key record: 'v=spf1 -all'",
    ),
    "cut at 255": (
        lambda value: {OWNER: [value[:255]]},
        "error: {}: p= is truncated: 237 of 392 characters are there",
    ),
    "second half only": (
        lambda value: {OWNER: [b"v=DKIM1; k=rsa; p=" + value[255:]]},
        "error: {}: p= is truncated: 155 of 392 characters are there",
    ),
    "quotes within": (
        lambda value: {OWNER: [value[:255] + b'" "' + value[255:]]},
        "error: {}: quotes or backslashes are within the value, where it was split",
    ),
    "backslash before semicolon": (
        lambda value: {OWNER: [value.replace(b";", b"\\;")]},
        "error: {}: v= is not DKIM1: 'DKIM1\\'",
    ),
    "wrong version": (
        lambda value: {OWNER: [value.replace(b"DKIM1", b"DKIM2")]},
        "error: {}: v= is not DKIM1: 'DKIM2'",
    ),
    "wrong key type": (
        lambda value: {OWNER: [value.replace(b"k=rsa", b"k=ed25519")]},
        "error: {}: p= is a key of another type than k= says",
    ),
    "sha1 only": (lambda value: {OWNER: [value + b"; h=sha1"]}, "error: {}: h=sha1 does not allow sha256"),
    "another service": (
        lambda value: {OWNER: [value + b"; s=tlsrpt"]},
        "error: {}: s=tlsrpt does not allow email",
    ),
    "testing": (
        lambda value: {OWNER: [value + b"; t=s:y"]},
        "warning: {}: t=y is left on: verifiers treat the mail as unsigned",
    ),
    "blanks are no fault, but backslashes are": (
        lambda value: {OWNER: [value[:255] + b"\\ " + value[255:]]},
        "error: {}: quotes or backslashes are within the value, where it was split",
    ),
}


@pytest.mark.parametrize(("records", "expected"), DNS_FAULTS.values(), ids=DNS_FAULTS)
def test_each_fault_in_dns_is_named(  # type: ignore[no-untyped-def]
    keys: Keys, nameserver: NameServer, records, expected: str
) -> None:
    (value,) = nameserver.records[OWNER]
    nameserver.records.clear()
    nameserver.records.update(records(value))
    status, found = in_dns(keys, nameserver)
    assert found == [expected.format(OWNER)]
    assert status == (78 if expected.startswith("error") else 0)


def test_an_alias_that_leads_to_the_record_is_good(keys: Keys, nameserver: NameServer) -> None:
    nameserver.records["elsewhere.example.net"] = nameserver.records.pop(OWNER)
    nameserver.aliases[OWNER] = "elsewhere.example.net"
    assert in_dns(keys, nameserver)[0] == 0


# Target of an alias, and its records; what is found.
ALIASES: dict[str, tuple[str, list[bytes] | None, str]] = {
    "no such name": ("nowhere.example.net", None, "there is no such name (NXDOMAIN)"),
    "no TXT": ("elsewhere.example.net", [], "the name is there, but has no TXT record"),
}


@pytest.mark.parametrize(("target", "records", "what"), ALIASES.values(), ids=ALIASES)
def test_an_alias_that_leads_nowhere(
    keys: Keys, nameserver: NameServer, target: str, records: list[bytes] | None, what: str
) -> None:
    del nameserver.records[OWNER]
    if records is not None:
        nameserver.records[target] = records
    nameserver.aliases[OWNER] = target
    assert in_dns(keys, nameserver)[1] == [f"error: {OWNER}: it is an alias (CNAME) of {target}: {what}"]


# More entries beside the good one, with the same selector; tags of the record; what is found.
G_OF_DKIM = "error: {}: g= other than *, for DKIM: Mail::DKIM would refuse it"
SHARED = {
    "DKIM alone": ("", "h=sha256; s=email; t=s; g=*", []),
    "DKIM alone, granularity": ("", "g=boss", [G_OF_DKIM]),
    "DomainKeys alone": (
        f"example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha1",
        [],
    ),
    "both": (f"a@example.com domainkeys(s=rsa2048,{KEY})", "h=sha1:sha256; g=*", []),
    "DomainKeys alone, granularity": (f"example.com domainkeys(s=rsa2048,{KEY})", "g=", []),
    "sha256 alone": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha256",
        ["error: {}: h=sha256 does not allow sha1"],
    ),
    "sha256 alone, and rsa-sha1": (
        f"a@example.com dkim(a=rsa-sha1,s=rsa2048,{KEY})",
        "h=sha256",
        [
            "warning: SENDERS, line 2: a=rsa-sha1: verifiers refuse it (RFC 8301)",
            "error: {}: h=sha256 does not allow sha1",
        ],
    ),
    "sha1 alone": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha1",
        ["error: {}: h=sha1 does not allow sha256"],
    ),
    "strict": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "t=s",
        ["warning: {}: t=s: DomainKeys, which uses the key, too, knows only t=y (RFC 4870 section 3.2.3)"],
    ),
    "strict, and i= below": (
        f"a@example.com dkim(i=@news.example.com,s=rsa2048,{KEY})",
        "t=s",
        ["error: {}: t=s does not allow i= in a subdomain of d="],
    ),
    "granularity of another": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "g=boss",
        [G_OF_DKIM, "warning: {}: g=boss: DomainKeys verifies mail of this local part only"],
    ),
    "granularity of a domain": (
        f"sub.example.com domainkeys(d=example.com,s=rsa2048,{KEY})",
        "g=a",
        [G_OF_DKIM, "warning: {}: g=a: DomainKeys verifies mail of this local part only"],
    ),
    "granularity of all": (f"a@example.com domainkeys(s=rsa2048,{KEY})", "g=*", []),
    "granularity of some": (f"news-b@example.com domainkeys(s=rsa2048,{KEY})", "g=news-*", [G_OF_DKIM]),
    "all at once": (
        f"a@example.com domainkeys(s=rsa2048,{KEY})",
        "h=sha256; s=tlsrpt; t=y:s; g=b",
        [
            "error: {}: s=tlsrpt does not allow email",
            "warning: {}: t=y is left on: verifiers treat the mail as unsigned",
            G_OF_DKIM,
            "error: {}: h=sha256 does not allow sha1",
            "warning: {}: t=s: DomainKeys, which uses the key, too, knows only t=y (RFC 4870 section 3.2.3)",
            "warning: {}: g=b: DomainKeys verifies mail of this local part only",
        ],
    ),
}


@pytest.mark.parametrize(("more", "tags", "expected"), SHARED.values(), ids=SHARED)
def test_a_record_serves_all_the_signatures_with_its_key(
    keys: Keys, nameserver: NameServer, more: str, tags: str, expected: list[str]
) -> None:
    nameserver.records[OWNER] = [nameserver.records[OWNER][0] + f"; {tags}".encode()]
    text = f"{more}\n" if more.startswith("example.com") else f"{GOOD}{more}\n"
    found = in_dns(keys, nameserver, text)[1]
    count = text.count("(s=")
    good = f"SENDERS and {'1 signature is' if count == 1 else f'{count} signatures are'} good"
    assert found == [line.format(OWNER) for line in expected or [good]]


def test_only_the_last_entry_of_a_key_needs_a_record(keys: Keys, nameserver: NameServer) -> None:
    found = in_dns(keys, nameserver, f"example.com dkim(s=old,{KEY})\n{GOOD}")[1]
    assert found == ["warning: SENDERS, line 2: example.com stands in line 1 already; only this line counts"]


def test_a_signature_whose_record_has_no_fixed_name_needs_none(keys: Keys, nameserver: NameServer) -> None:
    assert in_dns(keys, nameserver, f". dkim(s=a,{KEY})\n") == (0, ["SENDERS and 1 signature is good"])
    assert nameserver.asked == []


def test_a_key_that_cannot_be_read_hides_no_other_finding(keys: Keys, nameserver: NameServer) -> None:
    begin, body, *end = keys.path("ed25519").read_bytes().split(b"\n")
    der = base64.b64decode(body).replace(b"\x04\x22\x04\x20", b"\x04\x22\x05\x20")  # no OCTET STRING
    write_key(keys.path("damaged"), b"\n".join([begin, base64.b64encode(der), *end]))
    text = "a.example dkim(s=a,key=KEYS/none.pem)\nb.example dkim(s=a,key=KEYS/damaged.pem)\n"
    del nameserver.records[OWNER]
    assert in_dns(keys, nameserver, text + GOOD)[1] == [
        "error: SENDERS, line 1: key file KEYS/none.pem: No such file or directory",
        "error: SENDERS, line 2: key file KEYS/damaged.pem is damaged: it is no key structure",
        f"error: {OWNER}: there is no such name (NXDOMAIN)",
    ]


def test_the_conf_file_and_a_listid_map_need_records_too(keys: Keys, nameserver: NameServer) -> None:
    listid_map = keys.senders(
        f"news.lists.example dkim(d=lists.example,s=l,{KEY})\na.b.example dkim(s=depends,{KEY})\n", "listids"
    )
    conf = keys.senders(
        f"listid_map {listid_map}\ndomain example.com,example.org\n"
        f"signature dkim\nsignature domainkeys(s=c)\nselector s\nkeyfile {keys.path('rsa2048')}\n",
        "checked.conf",
    )
    nameserver.records.clear()
    server = f"127.0.0.1#{nameserver.port}"
    done = verb(f"--conf_file={conf}", "--dns", f"--server={server}")
    assert findings(done.stdout.decode()) == [
        f"error: {name}: there is no such name (NXDOMAIN), says {server}"
        for name in (
            "l._domainkey.lists.example",
            "s._domainkey.example.com",
            "c._domainkey.example.com",
            "s._domainkey.example.org",
            "c._domainkey.example.org",
        )
    ]


@bind.needs_bind
def test_a_wildcard_is_named_whatever_it_says(keys: Keys, tmp_path: Path) -> None:
    """By BIND: what a wildcard answers for, RFC 4592 tells in many words."""
    zone = '*.w IN TXT "v=spf1 -all"\n*._domainkey.x IN TXT "v=DKIM1; p="\n*._domainkey.y IN CNAME t\n'
    (right,) = keys.records[OWNER]
    zone += f't IN TXT ( "{right[:255].decode()}" "{right[255:].decode()}" )\n'
    text = "".join(f"{name}.static.example dkim(s=a,{KEY})\n" for name in "wxy")
    with bind.serving(tmp_path, bind.SOA + zone) as server:
        status, said = checked(keys, text, "--dns", f"--server={server.server}")
    what = "a wildcard record answers, there is none of this name"
    assert (status, findings(said)) == (
        78,
        [
            f"error: a._domainkey.w.static.example: {what}: 'v=spf1 -all', says {server.server}",
            f"error: a._domainkey.x.static.example: {what}: 'v=DKIM1; p=', says {server.server}",
        ],
    )


class Silent:
    """A name server that takes questions and gives no answer, from entry to exit."""

    def __enter__(self) -> Silent:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_silent_server_is_asked_no_more(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, the silence of a server costs three times the time of a question."""
    monkeypatch.setattr(lookup, "TIME_OUT", 0.2)
    begin = time.monotonic()
    with Silent() as server:
        asker = lookup.Asker([lookup.server(f"127.0.0.1#{server.port}")])
        found = [
            finding.what.replace(f"127.0.0.1#{server.port}", "SERVER")
            for name in "abcde"
            for finding in asker.findings(name, [compare.Need("v=DKIM1; k=rsa; p=AA==")])
        ]
    assert found == [
        *(f"{name}: no answer within 0.2 s, says SERVER" for name in "abc"),
        *(f"{name}: not asked for, after 3 questions without an answer, says SERVER" for name in "de"),
    ]
    assert 0.6 <= time.monotonic() - begin < 5


def test_a_server_that_fails(keys: Keys, nameserver: NameServer) -> None:
    nameserver.broken.add(OWNER)
    assert in_dns(keys, nameserver)[1] == [f"error: {OWNER}: the server fails (SERVFAIL)"]


def test_a_server_that_is_silent(keys: Keys) -> None:
    status, said = checked(keys, GOOD, "--dns", "--server=127.0.0.1#9")
    assert status == 78
    assert findings(said)[0].startswith(f"error: {OWNER}: no answer")


def test_a_name_that_is_too_long_for_dns(keys: Keys, nameserver: NameServer) -> None:
    domain = ".".join(["a" * 60] * 4)
    found = in_dns(keys, nameserver, f"{domain} dkim(s=rsa2048,{KEY})\n{GOOD}")[1]
    owner = f"rsa2048._domainkey.{domain}"
    assert found == [f"error: {owner}: no answer: A DNS name is > 255 octets long."]


def test_what_is_no_server(keys: Keys) -> None:
    done = verb(f"--sender_map={keys.senders(GOOD, 'checked')}", "--dns", "--server=ns.example.com")
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: 'ns.example.com' is no server\nsuch as 192.0.2.1 or 192.0.2.1#5353\n",
    )


def test_a_key_of_4096_bits_comes_by_tcp(keys: Keys, nameserver: NameServer) -> None:
    owner = "rsa4096._domainkey.example.com"
    nameserver.records[owner] = list(keys.records[owner])
    text = "example.com dkim(s=rsa4096,key=KEYS/rsa4096.pem)\n"
    assert checked(keys, text, "--dns", f"--server=127.0.0.1#{nameserver.port}")[0] == 0


# Without --server: the system's resolver, and every name server of the zone.

ZONE = """\
$TTL 60
@ IN SOA ns1 h 1 3600 600 86400 60
@ IN NS ns1
@ IN NS ns2
ns1 IN A 127.0.0.1
ns2 IN A 127.0.0.2
"""
NAMED = """
options {{
    directory "{0}"; listen-on {{ {1}; }}; listen-on-v6 {{ none; }}; pid-file none; lock-file none;
    recursion no; session-keyfile "{0}/session.{1}"; dnssec-validation no; empty-zones-enable no; notify no;
}};
controls {{ }};
zone "example.com" {{ type primary; file "zone.{1}"; }};
"""
ALIAS = "alias._domainkey IN CNAME record.example.org.\n"
ANOTHER_ZONE = 'zone "example.org" { type primary; file "another"; };\n'


@bind.needs_bind
@pytest.mark.skipif(bool(throwaway.why_not()), reason="no copy of this machine")
def test_every_name_server_of_the_zone_is_asked(keys: Keys, tmp_path: Path) -> None:
    """The first one has the record, the second one does not have it yet; an alias leads out of the zone.

    The first one is the resolver as well, and the only one that knows that other zone.
    """
    items = f"dkim(s=rsa2048,{KEY}), dkim(s=alias,{KEY})"
    path = keys.senders(f"example.com {items}\nexample.net dkim(s=a,{KEY})\n", "checked")
    value = formats.quoted(keys.records[OWNER][0].decode())
    files = {
        "zone.127.0.0.1": f"{ZONE}{ALIAS}rsa2048._domainkey IN TXT ( {value} )\n",
        "127.0.0.1.conf": NAMED.format("/srv", "127.0.0.1") + ANOTHER_ZONE,
        "another": f"{ZONE}record IN TXT ( {value} )\n",
        "zone.127.0.0.2": f"{ZONE}{ALIAS}",
        "127.0.0.2.conf": NAMED.format("/srv", "127.0.0.2"),
    }
    command = [sys.executable, str(MAIN), "check", "-c", "/nonexistent", "--user", "root"]
    with Machine(network=True) as machine:
        for name, text in files.items():
            (machine.root / "srv" / name).write_text(text)
        (machine.root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        machine.shell("ip address add 127.0.0.2/32 dev lo")
        machine.shell("named -c /srv/127.0.0.1.conf; named -c /srv/127.0.0.2.conf")
        done = machine.run(*command, f"--sender_map={path}", "--dns")
    assert done.stderr == ""
    assert [line.partition(": All nameservers")[0] for line in findings(done.stdout)] == [
        f"error: {OWNER}: there is no such name (NXDOMAIN), says ns2.example.com (127.0.0.2)",
        "error: cannot find the name servers of a._domainkey.example.net",
    ]


# Where a conf file, a map, a key, a mode or a record is wrong, and what is said of it.
MESSAGES = [
    *(line for _, lines in [*FAULTS.values(), *CONF_FAULTS.values()] for line in lines),
    *(f"error: SENDERS, line 1: key file {fault}" for _, fault, _ in KEY_FAULTS.values()),
    *(expected for _, expected in DNS_FAULTS.values()),
    *(line for _, _, lines in SHARED.values() for line in lines),
    *(what for _, _, what in ALIASES.values()),
]


def test_each_fault_has_words_of_its_own(report: Report) -> None:
    """Files, lines, names and values apart."""
    kinds = {re.sub(r"'[^']*'|\b[a-z]=\S*|[0-9]+", "_", line) for line in MESSAGES}
    in_dns = [line for line in MESSAGES if "{" in line or line in [what for _, _, what in ALIASES.values()]]
    report(
        f"{len(set(MESSAGES))} messages of seeded faults, {len(kinds)} kinds; {len(set(in_dns))} about DNS"
    )
    assert len(set(MESSAGES)) >= len(kinds) >= 40


def test_no_map_at_all(tmp_path: Path) -> None:
    done = verb(f"--sender_map={tmp_path}/none")
    assert done.status == 78
    assert done.stdout.decode().startswith(
        f"dkimpipe: error: map {tmp_path}/none: No such file or directory\n"
    )
