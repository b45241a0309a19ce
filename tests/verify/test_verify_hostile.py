"""``dkimpipe verify`` and hostile messages: a result, in bounded time and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import forked
import in_memory
import measure
import pytest
from conftest import MAIN, Keys, Report

MB = 1_000_000
BODY = b"\nHello, Bob.\n"
FROM = b"From: alice@example.com\n"
TIMES, MORE = 8, 64 * 1024  # of a harmless message of this size: CPU time, and KiB of memory above it
NONE = "dkim=none"


LINE = b"Some text as people write it, with  blanks, a little longer than half a line.\n"


def signature(tags: bytes, method: bytes = b"DKIM-Signature") -> bytes:
    return method + b": " + tags + b"\n" + FROM + BODY


def like(tag: bytes, value: bytes) -> bytes:
    """Return a message with a signature that has everything, and this tag."""
    tags = {
        b"v": b"1",
        b"a": b"rsa-sha256",
        b"d": b"example.com",
        b"s": b"sel",
        b"h": b"from",
        b"bh": b"AAAA",
        b"b": b"AAAA",
    }
    return signature(b"; ".join(name + b"=" + each for name, each in {**tags, tag: value}.items()))


def permerror(reason: str) -> str:
    return f"dkim=permerror ({reason})"


TOO_LARGE = permerror("signature field is too large")

# A message, and the beginning of its log line.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "2,000 signatures": (
        lambda: (
            (b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=AAAA; b=AAAA\n" * 2000)
            + FROM
            + BODY
        ),
        "dkim=fail (body altered) d=example.com s=x a=rsa-sha256; " * 10
        + "dkim=policy (1990 more signatures were not checked)",
    ),
    "10 signatures whose b= differ at the end": (
        lambda: (
            b"".join(
                b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=AAAA; b=%s%04d\n"
                % (b"A" * 60_000, number)
                for number in range(10)
            )
            + FROM
            + BODY
        ),
        "; ".join(["dkim=fail (body altered) d=example.com s=x a=rsa-sha256"] * 10),
    ),
    "2,000 broken signatures": (
        lambda: b"DKIM-Signature: (((;\n" * 2000 + FROM + BODY,
        (permerror("not a tag list") + "; ") * 10 + "dkim=policy (1990 more signatures were not checked)",
    ),
    "5 MB of spaces in b=": (lambda: like(b"b", b"AA" + b" " * 5 * MB + b"AA"), TOO_LARGE),
    "5 MB of folding in b=": (lambda: like(b"b", b"AA" + b"\n " * 2_500_000 + b"AA"), TOO_LARGE),
    "5 MB of semicolons": (lambda: signature(b";" * 5 * MB), TOO_LARGE),
    "60 KB of semicolons": (lambda: signature(b";" * 60_000), permerror("not a tag list")),
    "60 KB of spaces before each b": (
        lambda: signature((b"x=1;" + b" " * 1000) * 59 + b"y"),
        permerror("the tag x= appears twice"),
    ),
    "h= with 20,000 names": (
        lambda: like(b"h", b"from:" + b"to:" * 19_999 + b"x"),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "DomainKeys, h= with 20,000 names": (
        lambda: signature(
            b"a=rsa-sha1; q=dns; c=nofws; d=example.com; s=sel; b=AAAA; h=from:" + b"to:" * 19_999 + b"x",
            b"DomainKey-Signature",
        ),
        "domainkeys=fail (signed with another key) d=example.com s=sel a=rsa-sha1",
    ),
    "d= with controls": (
        lambda: like(b"d", b"ex\x00am\x1bple.com"),
        permerror("d= contains invalid characters"),
    ),
    "d= with quotes": (lambda: like(b"d", b'"example.com"'), permerror("d= is not a valid domain")),
    "d= with CR": (lambda: like(b"d", b"a.example\rx: y"), permerror("d= is not a valid domain")),
    "d= in UTF-8": (
        lambda: like(b"d", "b\u00fccher.example".encode()),
        "dkim=fail (body altered) d=xn--bcher-kva.example s=sel a=rsa-sha256",
    ),
    "d= in no UTF-8": (lambda: like(b"d", b"\xff.example"), permerror("d= contains invalid characters")),
    "d= of 10,000 labels": (
        lambda: like(b"d", b"a." * 10_000 + b"example"),
        permerror("d= is not a valid domain"),
    ),
    "d= of long U-labels": (
        lambda: like(b"d", "\u00fc".encode() * 30_000 + b".example"),
        permerror("d= is not a valid domain"),
    ),
    "d= of 20,000 letters": (
        lambda: like(b"d", "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode() + b".example"),
        permerror("d= is not a valid domain"),
    ),
    "i= of 20,000 letters": (
        lambda: like(
            b"i", b"@" + "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode() + b".example.com"
        ),
        permerror("i= is not at or below d="),
    ),
    "i= with a results field": (
        lambda: like(b"i", b"=0D=0AX=3Ay@example.com"),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "l= of 76 digits": (
        lambda: like(b"l", b"9" * 76),
        "dkim=fail (body is shorter than l=) d=example.com s=sel a=rsa-sha256",
    ),
    "x= of 76 digits": (
        lambda: like(b"x", b"9" * 76),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "1 MB of parentheses in results": (
        lambda: b"Authentication-Results: " + b"(" * MB + b"\n" + FROM + BODY,
        NONE,
    ),
    "1 MB of quotes in results": (
        lambda: b"Authentication-Results: " + b'"\\' * (MB // 2) + b"\n" + FROM + BODY,
        NONE,
    ),
    "2,000 results": (lambda: b"Authentication-Results: mx.test; (x\n" * 2000 + FROM + BODY, NONE),
    "a header of 7 MB": (
        lambda: ((b"X-Y: " + LINE * 14)[:-1].replace(b"\n", b"\n ") + b"\n") * 6000 + FROM + BODY,
        NONE,
    ),
    "a body of spaces": (
        lambda: like(b"c", b"relaxed/relaxed").replace(BODY, b"\n" + b" " * 20 * MB + b"x\n"),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "a body of CRs": (
        lambda: like(b"c", b"relaxed/relaxed").replace(BODY, b"\n" + b"\r" * 20 * MB),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "a body of empty lines": (
        lambda: like(b"c", b"simple/simple").replace(BODY, b"\n" + b"\n" * 20 * MB + b"x"),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
    "a body of spaces and lines": (
        lambda: like(b"c", b"relaxed/relaxed").replace(BODY, b"\n" + b" \n" * 10 * MB),
        "dkim=fail (body altered) d=example.com s=sel a=rsa-sha256",
    ),
}


@pytest.fixture(scope="module")
def command(keys: Keys) -> list[str]:
    """The command, with a key, so that it asks no name server."""
    key = f"--key-file=sel._domainkey.example.com={keys.path('rsa2048')}"
    return [sys.executable, "-I", str(MAIN), "verify", "--hostname=mx.test", key]


@pytest.mark.parametrize(("make", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_message(
    command: list[str], tmp_path: Path, make: Callable[[], bytes], expected: str, report: Report
) -> None:
    """It takes no more time and memory than a harmless message of the same size, within TIMES and MORE."""
    message, octets = tmp_path / "message", make()
    message.write_bytes(octets)
    outputs = stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
    spent = measure.cost(command, message, outputs)
    assert stderr.read_text().splitlines() == [f"dkimpipe: verified: {expected}; from=alice@example.com"]
    assert stdout.read_bytes().startswith(b"Authentication-Results: mx.test;\n ")
    assert stdout.read_bytes().endswith(octets.rpartition(FROM)[2])
    message.write_bytes(FROM + b"\n" + LINE * (message.stat().st_size // len(LINE) + 1))
    harmless = measure.cost(command, message, outputs)
    times, more = spent.cpu / harmless.cpu, spent.memory - harmless.memory
    report(f"{times:.1f} times the CPU time of harmless text, {max(0, more) >> 10} MiB more")
    assert times <= TIMES
    assert more <= MORE


# A header, and why the message is rejected.
TOO_MUCH = {
    "fields": (b"X: y\n" * 1_000_000, "the header has more than 350000 fields"),
    "octets": (b"X: " + b"y" * 9 * MB + b"\n", "the header block is larger than 8388608 bytes"),
}


@pytest.mark.parametrize(("header", "cause"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_header_over_the_limits_is_rejected(command: list[str], header: bytes, cause: str) -> None:
    """Deferred, it would be retried for days."""
    done = forked.run(*command[command.index("verify") :], stdin=header + FROM + BODY)
    assert done[:3] == (69, b"", f"5.7.1 dkimpipe: {cause}\n")


# What --explain undoes, and how the last line of its answer begins.
NO_OPINION = "    dkimpy, another verifier: no verdict, too much white space in a row"
GUESSED = "    dkimpy, another verifier: not valid"
TEXT = FROM + b"Subject: x\nTo: bob@example.net\n\nx\n"
LONG: dict[str, tuple[bytes, Callable[[bytes], bytes], str]] = {
    "a body of spaces": (TEXT, lambda signed: signed + b" " * 900_000 + b"x\n", NO_OPINION),
    "lines of spaces": (TEXT, lambda signed: signed + (b" " * 400 + b"x\n") * 2000, GUESSED),
    "a field of spaces": (
        TEXT.replace(b"Subject: ", b"Subject: x" + b" " * 800_000),
        lambda signed: signed.replace(b"bob", b"rob"),
        NO_OPINION,
    ),
    "a million lines": (TEXT, lambda signed: signed + b"y\n" * 500_000, GUESSED),
    "20,000 fields of a signed name": (
        TEXT.replace(b"Subject", b"To: x\n" * 20_000 + b"Subject"),
        lambda signed: signed.replace(b"bob", b"rob"),
        GUESSED,
    ),
}


@pytest.mark.parametrize(("message", "change", "last"), LONG.values(), ids=LONG)
def test_explain_ends(
    keys: Keys, command: list[str], message: bytes, change: Callable[[bytes], bytes], last: str
) -> None:
    arguments = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    changed = change(in_memory.sign(message, *arguments, "--normalize=no"))
    done = forked.run(*command[command.index("verify") :], "--explain", stdin=changed)
    assert (done.status, done.stderr) == (78, "")
    assert done.stdout.decode().splitlines()[-1].startswith(last)
