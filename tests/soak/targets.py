"""What is fuzzed: what may be done with any octets, what must hold then, and seeds to begin with.

An error that the filter knows (Trouble, NotSigned, a Verdict) is an answer; all else is a finding.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "lab"), str(_TESTS.parent)]

import in_memory  # noqa: E402

from dkimpipe import canonical, config, publickey, senders  # noqa: E402
from dkimpipe.address import first_mailbox, to_a_labels  # noqa: E402
from dkimpipe.admin.dns import compare  # noqa: E402
from dkimpipe.admin.maps import entries as mapfile  # noqa: E402
from dkimpipe.errors import NotSigned, Trouble  # noqa: E402
from dkimpipe.keys import PrivateKey  # noqa: E402
from dkimpipe.message import Message  # noqa: E402
from dkimpipe.verify import forged, keyrecord, lenient, resolver, taglist  # noqa: E402
from dkimpipe.verify.authres import METHODS  # noqa: E402
from dkimpipe.verify.dnsmessage import Query  # noqa: E402
from dkimpipe.verify.verdict import Verdict  # noqa: E402

US = "mx.example.com"
_DIRECTORY = Path(tempfile.mkdtemp(prefix="dkimpipe-fuzz-"))
_KEY = _DIRECTORY / "key.pem"
_KEY.touch(0o600)
_KEY.write_bytes(
    Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
)
_NAME = "s._domainkey.example.com"
_RESOLVER = resolver.Resolver(known={_NAME: publickey.record_value(str(_KEY)).encode()})
_OPTIONS = ("--domain=example.com", "--selector=s", f"--keyfile={_KEY}")


class Target(NamedTuple):
    """Something to do with octets, octets to begin with, and the error that is its answer to wrong ones."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    error: type[Exception] = Trouble


def _message(octets: bytes) -> None:
    """No octet is lost between header and body, however the message is cut."""
    cuts = octets[:4]
    message = Message(in_memory.reader(octets, cuts))
    whole = message.envelope_line + message.header + b"".join(message.body())
    assert whole == octets


def _faults(octets: bytes) -> None:
    """Whatever is in DNS, it is put into words that a terminal can show, and it is ours or not."""
    ours = publickey.record_value(str(_KEY))
    for what, _ in compare.faults(compare.Need(ours), [octets]):
        assert what.isprintable()
        assert len(what) < 130
    compare.holds(octets, ours)


def _senders(octets: bytes) -> None:
    """The filter, which reads one entry, and check, which reads all, find the same."""
    path = _file(octets)
    entries = {mapfile.canonical(line.key): line for line in mapfile.entries(path)}
    for line in list(entries.values())[:20]:
        raw = line.key.encode("utf-8", "surrogateescape")
        found = senders.lookup(path, [senders.lower(raw)])
        if found and b"\0" not in raw:
            assert found.text.split() == [*line.text.split()] or found.key != mapfile.canonical(line.key)
        line.signatures()


def _conf(octets: bytes) -> None:
    config.read_settings([f"--conf_file={_file(octets)}"])


def _key(octets: bytes) -> None:
    key = PrivateKey("KEY", octets)
    key.sign(bytes(32), "sha256")


def _results(octets: bytes) -> None:
    """What claims to be ours is gone, and what is left does not claim it; nothing else is gone."""
    message = Message(in_memory.reader(octets))
    left = forged.without_forged(message, US)
    again = Message(in_memory.reader(left))
    assert not [field for field in again.fields if forged.claims_to_be_ours(field, US)]
    kept = [field.text for field in message.fields if not forged.claims_to_be_ours(field, US)]
    assert all(text.replace(b"\r\n", b"\n") in left.replace(b"\r\n", b"\n") for text in kept)


def _sign(octets: bytes) -> None:
    """What is signed verifies, and below the new fields it is the message."""
    signed = in_memory.sign(octets, *_OPTIONS, cuts=octets[:4])
    if signed != octets and b"normalize" not in octets:
        judged = in_memory.verify(signed, _RESOLVER)
        assert judged
        assert judged[0].result == "pass", judged[0]


def _canonical(octets: bytes) -> None:
    """In chunks or whole, a body is the same."""
    size = octets[0] % 7 + 1 if octets else 1
    for name in ("simple", "relaxed", "nofws"):
        whole: list[bytes] = []
        parts: list[bytes] = []
        for sink, step in ((whole, len(octets) or 1), (parts, size)):
            body = canonical.Body(name, sink.append)
            for at in range(0, len(octets), step):
                body.update(octets[at : at + step])
            body.finish()
        assert b"".join(whole) == b"".join(parts)


def _file(octets: bytes) -> str:
    path = _DIRECTORY / "file"
    path.write_bytes(octets)
    os.utime(path, (0, 0))
    return str(path)


def run(target: Target, octets: bytes) -> None:
    """Do it; what is wrong with the octets is no finding."""
    with contextlib.suppress(Trouble, NotSigned, Verdict, target.error):
        target.run(octets)


_FIELDS = (
    b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: x\r\n y\r\n\r\nbody  text\r\n\r\n"
)
_MAP = b"# x\nexample.com dkim(s=a,key=/k), domainkeys(s=b,\n\tkey=/k2) ; y\n. dkim\na@b.example dkim(x=3d)\n"
_AUTH = (
    b"Authentication-Results: mx.example.com 1; (c) dkim=pass\n header.d=example.com; spf=fail\nFrom: a@b\n\n"
)

_HEAD = b"\0\1\x81\x80\0\1\0\1\0\0\0\0"
_QUESTION = b"\1s\x0a_domainkey\1a\7example\0\0\x10\0\1"
_RECORD = b"\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\4\3abc"


def _lenient(octets: bytes) -> None:
    for field in Message(in_memory.reader(octets)).fields:
        if field.name in METHODS and (read := lenient.signature(field)):
            assert len(read.domain) < 254
            lenient._records(octets, read)


def _response(octets: bytes) -> None:
    response = Query("s._domainkey.a.example", b"\0\1", edns=False).response(octets)
    assert sum(map(len, (response and response.texts()) or [])) <= len(octets)


TARGETS = {
    "message": Target(_message, (_FIELDS, b"From x\n" + _FIELDS, b"\n", b">From y\nA: b")),
    "address": Target(first_mailbox, (b'"a b" <a@b.example>', b"x (c \\) d) @ e.example, f@g", b"<@h:i@j>")),
    "domain": Target(to_a_labels, ("bücher.example".encode(), b"xn--bcher-kva.example", b"a..b"), ValueError),
    "senders": Target(_senders, (_MAP, b"\xef\xbb\xbf" + _MAP.replace(b"\n", b"\r\n"))),
    "conf": Target(_conf, (b"domain a.example\nselector=s # x\nkeyfile: /k\nsignature dkim(c=relaxed)\n",)),
    "key": Target(
        _key, (_KEY.read_bytes(), b"-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n")
    ),
    "tag list": Target(taglist.parse, (b"v=1; a=rsa-sha256;\r\n b=ab c=; h=From : To",), ValueError),
    "key record": Target(
        keyrecord.parse,
        (b"v=DKIM1; k=rsa; h=sha256; t=s:y; p=MIGfMA0", publickey.record_value(str(_KEY)).encode()),
    ),
    "record in DNS": Target(
        _faults,
        (publickey.record_value(str(_KEY)).encode() + b"; <br>", b"\xef\xbb\xbfv=DKIM 1;; h=:; p=MIGf\\ MA0"),
    ),
    "lenient": Target(
        _lenient,
        (
            b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example.; s=s; h=from; x=1.5; l=; bh=YWJj; b=YWJj.\n\n",
            b"DomainKey-Signature: a=rsa-sha1; d=a.example; s=s; b=YWJj; p=MIGf\n\n",
        ),
    ),
    "response": Target(_response, (_HEAD + _QUESTION + _RECORD, _HEAD + _QUESTION)),
    "results": Target(_results, (_AUTH, _AUTH.replace(b"mx.", b'"mx.').replace(b".com 1", b'.com" 1'))),
    "sign": Target(
        _sign, (_FIELDS, _FIELDS.replace(b"\r\n", b"\n"), b"From: a@example.com\n\n" + b"x" * 2000)
    ),
    "canonical": Target(_canonical, (b"a  b \r\n\r\n c\t\n\n", b"\r\r\n \n")),
}
