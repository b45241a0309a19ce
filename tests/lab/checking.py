"""dkimpipe check, run on a senders file of a test."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from pathlib import Path

import in_memory
from conftest import Done, Keys

GOOD = "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n"
KEY = "key=KEYS/rsa2048.pem"


def verb(*arguments: str, name: str = "check") -> Done:
    """Run ``dkimpipe NAME ARGUMENTS`` as without Postfix; the user that has to read the files is root."""
    user = ["--user", "root"] if name == "check" else []
    env = {**os.environ, "PATH": str(Path(sys.executable).parent)}  # no Postfix
    return in_memory.verb(name, *user, *arguments, env=env)


def checked(keys: Keys, text: str, *arguments: str) -> tuple[int, str]:
    """Check a senders file; return the status, and what is said, with SENDERS and KEYS for the paths."""
    path = keys.senders(text, "checked")
    done = verb(f"--sender_map={path}", *arguments)
    assert done.stderr == ""
    said = done.stdout.decode().replace(f"{path}", "SENDERS").replace(str(keys.directory), "KEYS")
    return done.status, said


def findings(said: str) -> list[str]:
    """Return the findings without the hints."""
    return [line.removeprefix("dkimpipe: ") for line in said.splitlines() if not line.startswith("hint: ")]


# What stands in the senders file, and what is found, without the hints.
FAULTS = {
    "no value": (f"example.com dkim(s=,{KEY})", ["error: SENDERS, line 1: no value: 's='"]),
    "no selector": (f"example.com dkim({KEY})", ["error: SENDERS, line 1: dkim without s="]),
    "no key": ("example.com dkim(s=a)", ["error: SENDERS, line 1: dkim without key="]),
    "no signature": ("example.com", ["error: SENDERS, line 1: no signature after the key"]),
    "unknown option": (f"example.com dkim(s=a,{KEY},q=1)", ["error: SENDERS, line 1: unknown option: 'q=1'"]),
    "unknown type": (
        "example.com arc(s=a)",
        ["error: SENDERS, line 1: unknown signature type: 'arc(s=a)'"],
    ),
    "given twice": (f"example.com dkim(s=a,s=b,{KEY})", ["error: SENDERS, line 1: duplicate option: 's=b'"]),
    "not closed": ("example.com dkim(s=a", ["error: SENDERS, line 1: no closing parenthesis: 'dkim(s=a'"]),
    "text behind": (
        f"example.com dkim(s=a,{KEY})x",
        ["error: SENDERS, line 1: text after the closing parenthesis: 'dkim(s=a,key=KEYS/rsa2048.pem)x'"],
    ),
    "comma at the end": (
        f"example.com dkim(s=a,{KEY}),",
        ["error: SENDERS, line 1: empty item or trailing comma"],
    ),
    "bad selector": (
        f"example.com dkim(s=a b,{KEY})",
        ["error: SENDERS, line 1: s=a b is not a valid selector"],
    ),
    "bad method": (
        f"example.com dkim(s=a,c=nofws,{KEY})",
        [
            "error: SENDERS, line 1: dkim supports c=simple, relaxed, simple/simple, simple/relaxed, "
            "relaxed/simple, relaxed/relaxed; not nofws"
        ],
    ),
    "bad domain": (
        f"example.com dkim(d=a..b,s=a,{KEY})",
        ["error: SENDERS, line 1: d=a..b is not a valid domain"],
    ),
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
        ["error: SENDERS, line 1: x=: invalid duration 1y (use 30d, 12h or seconds)"],
    ),
    "h without from": (
        f"example.com dkim(h=to,s=a,{KEY})",
        ["error: SENDERS, line 1: h= does not include from (RFC 6376 section 5.4)"],
    ),
    "h mixed": (
        f"example.com dkim(h=-date:subject,s=a,{KEY})",
        ["error: SENDERS, line 1: h= mixes names with and without a sign: 'subject'"],
    ),
    "h without all": (
        f"example.com dkim(h=-*,s=a,{KEY})",
        ["error: SENDERS, line 1: h= does not include from (RFC 6376 section 5.4)"],
    ),
    "h of domainkeys oversigned": (
        f"example.com domainkeys(h=++date,s=a,{KEY})",
        ["error: SENDERS, line 1: h= oversigns a field, which DomainKeys cannot do: '++date'"],
    ),
    "ed25519 for an RSA key": (
        f"example.com dkim(a=ed25519-sha256,s=a,{KEY})",
        ["error: SENDERS, line 1: a=ed25519-sha256, but key file KEYS/rsa2048.pem contains an rsa key"],
    ),
    "rsa for an Ed25519 key": (
        "example.com dkim(a=rsa-sha256,s=a,key=KEYS/ed25519.pem)",
        ["error: SENDERS, line 1: a=rsa-sha256, but key file KEYS/ed25519.pem contains an ed25519 key"],
    ),
    "domainkeys with sha256": (
        f"example.com domainkeys(a=rsa-sha256,s=a,{KEY})",
        ["error: SENDERS, line 1: domainkeys supports a=rsa-sha1, not rsa-sha256"],
    ),
    "domainkeys with Ed25519": (
        "example.com domainkeys(s=a,key=KEYS/ed25519.pem)",
        ["error: SENDERS, line 1: domainkeys: key file KEYS/ed25519.pem contains an ed25519 key, not rsa"],
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
        [
            "warning: SENDERS, line 1: key file KEYS/rsa1024.pem has 1024 bits; at least 2048 are"
            " recommended (RFC 8301)"
        ],
    ),
    "rsa-sha1": (
        f"example.com dkim(a=rsa-sha1,s=a,{KEY})",
        ["warning: SENDERS, line 1: a=rsa-sha1: verifiers refuse it (RFC 8301)"],
    ),
    "not aligned": (
        f"example.com dkim(d=example.org,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)"
        ],
    ),
    "not aligned, twice": (
        f"example.com dkim(d=example.org,s=a,{KEY}), dkim(d=example.net,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)",
            "warning: SENDERS, line 1: d=example.net is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)",
        ],
    ),
    "not aligned, beside one of DomainKeys": (
        f"example.com dkim(d=example.org,s=a,{KEY}), domainkeys(s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)"
        ],
    ),
    "not aligned, beside one that not all may have": (
        f"example.com dkim(d=example.org,s=a,{KEY}), dkim(s=a,{KEY},login=boss)",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)"
        ],
    ),
    "not aligned, beside one that verifiers refuse": (
        f"example.com dkim(d=example.org,s=a,{KEY}), dkim(a=rsa-sha1,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: a=rsa-sha1: verifiers refuse it (RFC 8301)",
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)",
        ],
    ),
    "aligned in another entry": (
        f"example.com dkim(d=example.org,s=a,{KEY})\na@example.com dkim(s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=example.org is not aligned with example.com: "
            "no pass for DMARC (RFC 9989)"
        ],
    ),
    "perhaps aligned": (
        f"mail.example.com dkim(d=news.example.com,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: d=news.example.com is aligned with mail.example.com "
            "only if both are in one organizational domain (DMARC, RFC 9989)"
        ],
    ),
    "domainkeys of another domain": (
        f"example.com domainkeys(d=example.org,s=a,{KEY})",
        ["warning: SENDERS, line 1: never signed: domainkeys d=example.org does not cover from"],
    ),
    "key twice": (
        f"{GOOD}# again\nEXAMPLE.com dkim(s=rsa2048,{KEY})",
        ["warning: SENDERS, line 3: EXAMPLE.com is already in line 1; only this line applies"],
    ),
    "key in both spellings": (
        f"b\u00fccher.example dkim(s=a,{KEY})\nxn--bcher-kva.example dkim(s=a,{KEY})",
        ["warning: SENDERS, line 2: xn--bcher-kva.example is already in line 1; only this line applies"],
    ),
    "pattern twice": (
        f"*@b\u00fccher.example dkim(s=a,{KEY})\n*@XN--bcher-kva.example dkim(s=a,{KEY})",
        ["warning: SENDERS, line 2: *@XN--bcher-kva.example is already in line 1; only this line applies"],
    ),
    "key with an at sign in front": (
        f"@example.com dkim(s=a,{KEY})",
        ["error: SENDERS, line 1: no address matches @example.com"],
    ),
    "key with a dot in front": (
        f".example.com dkim(s=a,{KEY})",
        ["error: SENDERS, line 1: no address matches .example.com"],
    ),
    "key with a dot at the end": (
        f"example.com. dkim(s=a,{KEY})",
        ["error: SENDERS, line 1: no address matches example.com."],
    ),
    "key that is the name of a record": (
        f"mail._domainkey.example.com dkim(s=a,{KEY})\n*@a._domainkey.example.com dkim(s=a,{KEY})",
        [
            "error: SENDERS, line 1: mail._domainkey.example.com is the name of a record, not a domain",
            "error: SENDERS, line 2: *@a._domainkey.example.com is the name of a record, not a domain",
        ],
    ),
    "record's name as domain": (
        f"example.com dkim(d=a._domainkey.example.com,s=a,{KEY})",
        ["error: SENDERS, line 1: d=a._domainkey.example.com is the name of a record, not a domain"],
    ),
    "key with a star": (
        f"info@*.example.com dkim(s=a,{KEY})\n*.example.com dkim(s=a,{KEY})",
        [
            "error: SENDERS, line 1: no address matches info@*.example.com",
            "error: SENDERS, line 2: no address matches *.example.com",
        ],
    ),
    "nobody": (
        f"example.com dkim(s=a,{KEY},login=a:)",
        ["error: SENDERS, line 1: empty item next to a colon: 'login=a:'"],
    ),
    "a pattern of logins": (
        f"example.com dkim(s=a,{KEY},login=bob:*@example.com)",
        ["warning: SENDERS, line 1: login=*@example.com: patterns are not supported"],
    ),
    "a pattern of envelope senders": (
        f"example.com dkim(s=a,{KEY},envelope=*@example.com:*)",
        ["warning: SENDERS, line 1: envelope=*@example.com: patterns are not supported"],
    ),
    "an envelope sender that can be none": (
        f"example.com dkim(s=a,{KEY},envelope=bob:alice@:a b@exa mple.com:.example.com:bob@example.com)",
        [
            "warning: SENDERS, line 1: envelope=alice@ is neither an address nor a domain",
            "warning: SENDERS, line 1: envelope=a b@exa mple.com is neither an address nor a domain",
            "warning: SENDERS, line 1: envelope=.example.com is neither an address nor a domain",
        ],
    ),
    "two keys on one selector": (
        f"example.com dkim(s=a,{KEY}), dkim(s=a,key=KEYS/ed25519.pem)",
        ["error: SENDERS, line 1: a._domainkey.example.com already belongs to another key, KEYS/rsa2048.pem"],
    ),
    "a record's name that is too long": (
        f"{'.'.join(['a' * 60] * 3)} dkim(s={'b' * 60},{KEY})",
        [
            f"error: SENDERS, line 1: {'b' * 60}._domainkey.{'.'.join(['a' * 60] * 3)} is too long for DNS",
        ],
    ),
    "several in one entry": (
        f"example.com dkim(s=a), dkim({KEY})\n  , arc, dkim(s=b,{KEY})",
        [
            "error: SENDERS, line 1: dkim without key=",
            "error: SENDERS, line 1: dkim without s=",
            "error: SENDERS, line 1: unknown signature type: 'arc'",
        ],
    ),
}


RESTORE = (
    "restore the key of the published record from a backup, or export it again; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)
OTHER_FILE = (
    "name the file with the key of the published record, RSA or Ed25519; "
    "a new key needs a new record: dkimpipe genkey DOMAIN"
)


def pem(label: str, der: bytes = b"") -> bytes:
    """Return a PEM block of this label."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


# RFC 8410 section 7, but for the second OCTET STRING, which is none.
NO_OCTET_STRING = bytes.fromhex("302e020100300506032b657004220520") + bytes(32)

# What is done to a good key file, and what is then said of it, with its hint.
KEY_FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty", f"# {RESTORE}"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:400]),
        "is truncated: no END line",
        f"# {RESTORE}",
    ),
    "cut within": (
        lambda path: path.write_bytes(pem("PRIVATE KEY", b"0\x82\x04\xbe\x02\x01\x00")),
        "is truncated",
        f"# {RESTORE}",
    ),
    "no base64": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"\nM", b"\n=", 1)),
        "is damaged: invalid base64",
        f"# {RESTORE}",
    ),
    "no numbers": (
        lambda path: path.write_bytes(pem("RSA PRIVATE KEY", b"\x04\x02ab")),
        "is damaged: not a key structure",
        f"# {RESTORE}",
    ),
    "encrypted": (
        lambda path: path.write_bytes(pem("ENCRYPTED PRIVATE KEY")),
        "is encrypted",
        "# openssl pkey -in PATH -out NEWFILE writes a copy without a passphrase",
    ),
    "public": (
        lambda path: path.write_bytes(pem("PUBLIC KEY")),
        "contains a public key",
        "# give the private key file; the public key belongs in DNS",
    ),
    "certificate": (
        lambda path: path.write_bytes(pem("CERTIFICATE")),
        "contains a certificate",
        "# give the private key file; a certificate contains only the public key",
    ),
    "EC": (lambda path: path.write_bytes(pem("EC PRIVATE KEY")), "contains an EC key", f"# {OTHER_FILE}"),
    "OpenSSH": (
        lambda path: path.write_bytes(pem("OPENSSH PRIVATE KEY")),
        "is in OpenSSH format",
        "# install -m 600 PATH NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE converts it",
    ),
    "writable by the group": (
        lambda path: path.chmod(0o660),
        "is writable by the group (mode 0660)",
        "chmod 0640 PATH",
    ),
    "no key structure": (
        lambda path: path.write_bytes(pem("PRIVATE KEY", NO_OCTET_STRING)),
        "is damaged: not a key structure",
        f"# {RESTORE}",
    ),
}


CONF_FAULTS = {
    "unknown": ("foo bar", ["error: CONF, line 2: unknown directive: 'foo bar'"]),
    "wrong value": ("on_error maybe", ["error: CONF, line 2: on_error must be defer or accept, not 'maybe'"]),
    "no value": ("selector", ["error: CONF, line 2: selector has no value"]),
    "relay without a port": (
        "relay 127.0.0.1",
        ["error: CONF, line 2: relay '127.0.0.1' is not an address with a port"],
    ),
    "twice": (
        "selector a\nselector b",
        ["warning: CONF, line 3: selector is already in line 2; this one applies"],
    ),
    "several": (
        "foo\nbar\nverbose maybe",
        [
            "error: CONF, line 2: unknown directive: 'foo'",
            "error: CONF, line 3: unknown directive: 'bar'",
            "error: CONF, line 4: verbose must be yes or no, not 'maybe'",
        ],
    ),
}
