"""Results that our own host recorded above its Received field: used, and carried over into our field."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import MAIN
from nameserver import NameServer
from policies import RECEIVED, REJECT, dmarc

from dkimpipe.message import Message
from dkimpipe.verify.authres import write
from dkimpipe.verify.ownresults import carried_over

US = "mx.example.net"
FROM = b"From: Alice <alice@mail.example.com>\n"
TOP = "Authentication-Results: mx.example.net;\n dkim=none"
SPF = b"Authentication-Results: mx.example.net; spf=pass smtp.mailfrom=a@mail.example.com\n"
OTHER = b"Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=a@example.org\n"


def carried(header: bytes) -> str:
    """Return the results that are carried over, as they are written."""
    message = Message(io.BytesIO(header + b"\nHello\n").read)
    found = carried_over(message, US, ("dkim", "domainkeys"))
    return write("", found).decode().partition(";")[2].replace("\n", "").strip() if found else ""


# Values of an Authentication-Results field above our Received field, and what is carried over.
VALUES = {
    "SPF": ("mx.example.net; spf=pass smtp.mailfrom=example.com", "spf=pass smtp.mailfrom=example.com"),
    "an address": (
        "mx.example.net; spf=fail smtp.mailfrom=a@example.com",
        "spf=fail smtp.mailfrom=a@example.com",
    ),
    "comments": (
        "mx.example.net (us); spf=pass (authorized; a) smtp.mailfrom=example.com (client-ip=192.0.2.1)",
        "spf=pass smtp.mailfrom=example.com",
    ),
    "folded": (
        "mx.example.net;\n\tspf=pass\n\tsmtp.mailfrom=example.com",
        "spf=pass smtp.mailfrom=example.com",
    ),
    "in capitals, with versions": (
        "MX.EXAMPLE.NET 1; SPF/1 = Pass smtp.mailfrom=Example.com",
        "spf=pass smtp.mailfrom=Example.com",
    ),
    "a reason": (
        'mx.example.net; spf=softfail reason="not listed" smtp.helo=x',
        'spf=softfail reason="not listed" smtp.helo=x',
    ),
    "a quoted value": (
        'mx.example.net; spf=pass smtp.mailfrom="a@example.com"',
        "spf=pass smtp.mailfrom=a@example.com",
    ),
    "a quoted local part": (
        'mx.example.net; spf=pass smtp.mailfrom="a; b"@example.com',
        "",
    ),
    "a quoted name": ('"mx.example.net"; spf=none', "spf=none"),
    "several methods": (
        "mx.example.net; dkim=pass header.d=a.example; iprev=pass policy.iprev=192.0.2.1;"
        " domainkeys=fail; auth=none",
        "iprev=pass policy.iprev=192.0.2.1; auth=none",
    ),
    "several methods, SPF among them, whose value may hold the others": (
        "mx.example.net; spf=none smtp.mailfrom=x; auth=pass smtp.auth=boss x.y=z@evil.example",
        "",
    ),
    "a reason that holds the end of a sender": (
        "mx.example.net; spf=pass smtp.mailfrom=victim.example reason=a.@evil.example",
        "",
    ),
    "MAIL FROM and HELO, of which one may be the client's": (
        "mx.example.net; spf=pass smtp.mailfrom=a.example; spf=none smtp.helo=b.example",
        "",
    ),
    "the same twice": (
        "mx.example.net; auth=none smtp.auth=x;  auth=none  smtp.auth=x",
        "auth=none smtp.auth=x",
    ),
    "a sender that ends a comment, a result": (
        "mx.example.net; spf=none smtp.mailfrom=evil.example (envelope-from=x); auth=pass smtp.auth=boss"
        " (@evil.example)",
        "",
    ),
    "a sender that ends the only comment, a property": (
        "mx.example.net; spf=none smtp.mailfrom=evil.example (x) smtp.auth=boss (@evil.example)",
        "",
    ),
    "a sender that ends a comment, a property": (
        "mx.example.net; spf=none (no SPF record) smtp.mailfrom=evil.example (envelope-from=x) smtp.auth=boss"
        " (@evil.example)",
        "",
    ),
    "no result": ("mx.example.net; none", ""),
    "DKIM alone": ("mx.example.net; dkim=pass header.d=example.com", ""),
    "no name": ("; spf=pass", ""),
    "two values of one name": (
        "mx.example.net; spf=pass smtp.mailfrom=evil.example smtp.mailfrom=example.com",
        "",
    ),
    "text behind a result of SPF": ("mx.example.net; iprev=pass x; spf=pass smtp.mailfrom=a.example", ""),
    "text behind, beside another": (
        "mx.example.net; iprev=pass x; auth=pass smtp.auth=a",
        "auth=pass smtp.auth=a",
    ),
    "text behind": ("mx.example.net; spf=pass smtp.mailfrom=a.example and more", ""),
    "not ASCII": (
        "mx.example.net; spf=pass smtp.mailfrom=\u00fc@example.com",
        'spf=pass smtp.mailfrom="?@example.com"',
    ),
    "a quote without an end": ('mx.example.net; spf=pass smtp.mailfrom="a', ""),
    "a comment without an end": ("mx.example.net; spf=pass (smtp.mailfrom=a", ""),
    "another host": ("mx.example.org; spf=pass smtp.mailfrom=example.com", ""),
    "a host whose name begins alike": ("mx.example.net.evil.example; spf=pass", ""),
    "a host below": ("a.mx.example.net; spf=pass", ""),
    "a name in an encoded word": ("=?utf-8?q?mx.example.net?=; spf=pass", ""),
    "our name behind another": ("mx.example.org; mx.example.net; spf=pass", ""),
    "30 results": (
        "mx.example.net" + "".join(f"; x{n}=pass" for n in range(30)),
        "; ".join(f"x{n}=pass" for n in range(20)),
    ),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_what_is_carried_over(value: str, expected: str) -> None:
    assert carried(b"Authentication-Results: " + value.encode() + b"\n" + RECEIVED + FROM) == expected


WRITTEN = "spf=pass smtp.mailfrom=a@mail.example.com"
PLACES = {
    "above": (SPF + RECEIVED + FROM, WRITTEN),
    "above, below other fields": (b"X-Spam: no\n" + SPF + b"X-Y: z\n" + RECEIVED + FROM, WRITTEN),
    "above, twice": (SPF + SPF + RECEIVED + FROM, WRITTEN),
    "above, two": (
        SPF + SPF.replace(b"pass", b"none").replace(b"mailfrom", b"helo") + RECEIVED + FROM,
        f"{WRITTEN}; spf=none smtp.helo=a@mail.example.com",
    ),
    "above and below": (SPF + RECEIVED + SPF.replace(b"pass", b"fail") + FROM, WRITTEN),
    "between two": (RECEIVED + SPF + RECEIVED + FROM, ""),
    "below": (RECEIVED + SPF + FROM, ""),
    "no Received": (SPF + FROM, ""),
    "beside another host's": (OTHER + SPF + RECEIVED + FROM, WRITTEN),
}


@pytest.mark.parametrize(("header", "expected"), PLACES.values(), ids=PLACES)
def test_only_what_our_host_can_have_added(header: bytes, expected: str) -> None:
    assert carried(header) == expected


# The whole command, under a policy that rejects what neither DKIM nor SPF passes for.


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer({name: list(texts) for name, texts in dmarc(REJECT).items()}) as running:
        yield running


def verified(server: NameServer, header: bytes) -> tuple[int, bytes]:
    """Return exit status and output of ``dkimpipe verify``."""
    options = ["--reject_fail", "--dmarc", f"--hostname={US}", f"--dns_server=127.0.0.1#{server.port}"]
    command = [sys.executable, "-IS", str(MAIN), "verify", "--syslog=no", *options]
    done = subprocess.run(command, input=header + b"\nHello\n", capture_output=True, check=False)
    return done.returncode, done.stdout


def test_it_counts_and_stays(server: NameServer) -> None:
    status, output = verified(server, SPF + OTHER + RECEIVED + FROM)
    assert (status, output.decode()) == (
        0,
        f"{TOP};\n dmarc=pass header.from=mail.example.com policy.dmarc=reject;\n"
        " spf=pass smtp.mailfrom=a@mail.example.com\n" + (OTHER + RECEIVED + FROM).decode() + "\nHello\n",
    )


def test_a_forged_one_further_down_is_removed_and_does_not_count(server: NameServer) -> None:
    assert verified(server, RECEIVED + SPF + FROM) == (69, b"")
    status, output = verified(server, SPF + RECEIVED + SPF.replace(b"pass", b"fail") + FROM)
    assert (status, output.count(b"Authentication-Results:"), output.count(b"spf=")) == (0, 1, 1)
    assert b"spf=pass" in output


def test_a_failure_is_carried_over(server: NameServer) -> None:
    """By mail that another policy lets pass."""
    server.records["_dmarc.mail.example.com"] = [b"v=DMARC1; p=none"]
    try:
        status, output = verified(server, SPF.replace(b"pass", b"fail") + RECEIVED + FROM)
    finally:
        server.records["_dmarc.mail.example.com"] = [REJECT]
    assert (status, output.decode()) == (
        0,
        f"{TOP};\n dmarc=fail header.from=mail.example.com policy.dmarc=none;\n"
        " spf=fail smtp.mailfrom=a@mail.example.com\n" + (RECEIVED + FROM).decode() + "\nHello\n",
    )
