"""What is signed is what arrives: a corpus through a real Postfix, with the filter and without it.

Every message goes to four hosts at once, by the settings that ``dkimpipe postfix --apply`` makes: one run of
the filter, and four deliveries, to hosts with and without 8BITMIME and SMTPUTF8. The same messages go through
the same Postfix by a second submission service, which differs in having no filter.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from conftest import MAIN, PROJECT, Keys, Report
from corpus import FROM, HEAD, LARGE, MESSAGES, RECIPIENTS, REST, TEXT, body, fields
from judging import NO_DOMAINKEYS, SHORT, judge
from nameserver import NameServer

from postfix import Message, Postfix, Sink, shared_directory

PYTHON = "/usr/bin/python3"
NEEDS = {
    "Linux": sys.platform == "linux",
    "root: master(8) runs as nobody else": os.geteuid() == 0,
    "Postfix": shutil.which("postconf") is not None,
    PYTHON: Path(PYTHON).exists(),
}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests through Postfix need {missing}", allow_module_level=True)

# Each canonicalization by a key of each type: ten signatures on every message.
SIGNATURES = SHORT
ENTRY = ", ".join(re.sub(r"s=(\w+)", r"s=\1,key=KEYS/\1.pem", signature) for signature in SIGNATURES)

# Where mail goes, by the domain of the recipient: 8BITMIME, SMTPUTF8.
HOSTS = {
    "both.test": (True, True),
    "8bitmime.test": (True, False),
    "smtputf8.test": (False, True),
    "neither.test": (False, False),
}

# Messages, in LF, that the corpus lacks.


def part(charset: str, octets: bytes, subtype: str = "plain") -> bytes:
    """A message of one part, declared as 8bit."""
    return (
        HEAD
        + f"MIME-Version: 1.0\nContent-Type: text/{subtype}; charset={charset}\n".encode()
        + b"Content-Transfer-Encoding: 8bit\n\n"
        + octets
    )


def header(value: bytes) -> bytes:
    """A message with these fields beside From, and no others."""
    return FROM + value + b"\n" + TEXT


CHARSETS = {
    "utf-8": "Grüße, Привет, こんにちは 🙂\n",
    "iso-8859-1": "Grüße aus Köln, à bientôt\n",
    "iso-8859-15": "20 € für Grüße\n",
    "windows-1252": "„Grüße“ … 20 €\n",
    "windows-1251": "Привет из Москвы\n",
    "koi8-r": "Привет из Москвы\n",
    "shift_jis": "こんにちは、ソ表示\n",
    "euc-jp": "こんにちは\n",
    "iso-2022-jp": "こんにちは\n",
    "gb18030": "你好,世界\n",
    "big5": "你好,世界\n",
}

HTML = "<p class=x>Grüße, <a href='https://example.com/?a=1&amp;b=2'>hier</a></p>".encode()
SIZES = (999, 1500, 1995, 1996, 5000, 20000, 100000)

PARTS = b"""\
MIME-Version: 1.0
Content-Type: multipart/signed; micalg=sha-256; protocol="application/pkcs7-signature"; boundary="0"

--0
Content-Type: multipart/mixed; boundary="1"

--1
Content-Type: multipart/alternative; boundary="2"

--2
Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes
Content-Transfer-Encoding: 8bit

Gr\xc3\xbc\xc3\x9fe \n--\x20
 From the signature \n
--2
Content-Type: multipart/related; boundary="3"

--3
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: 8bit

%b
--3
Content-Type: image/gif
Content-ID: <1@example.com>
Content-Transfer-Encoding: base64

R0lGODlhAQABAAAAACwAAAAAAQABAAA=
--3--

--2--
--1
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Received: from a by b
From: Carol <carol>
To: dave
Subject: Gr\xc3\xbc\xc3\x9fe

.
..
inner \xe9 text
--1
Content-Type: application/octet-stream
Content-Transfer-Encoding: binary

\x00\x01\xff\xfe \x0b\x0c
--1--
--0
Content-Type: application/pkcs7-signature; name=smime.p7s
Content-Transfer-Encoding: base64

AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4
--0--
"""

TRANSIT: dict[str, bytes] = {
    **{f"charset-{name}-mime": part(name, line.encode(name) * 3) for name, line in CHARSETS.items()},
    **{f"charset-{name}": body(line.encode(name) * 3) for name, line in CHARSETS.items()},
    **{f"text-{size}": body((b"lorem ipsum " * size)[:size] + b"\n" + TEXT) for size in SIZES},
    **{f"text-8bit-{size}": part("utf-8", "é".encode() * (size // 2) + b"x\n") for size in SIZES},
    **{f"html-{size}": part("utf-8", (HTML * size)[:size] + b"\n", "html") for size in SIZES},
    **{f"subject-{size}": header(b"Subject: " + (b"word " * size)[: size - 9] + b"\n") for size in SIZES},
    **{f"subject-{size}-unbroken": header(b"Subject: " + b"x" * (size - 9) + b"\n") for size in SIZES},
    **{f"subject-{size}-8bit": header(b"Subject: " + "ö".encode() * (size // 2) + b"\n") for size in SIZES},
    **{
        f"unsigned-field-{size}": fields(b"X-Data: " + (b"a b\tc  d " * size)[: size - 8] + b"\n")
        for size in SIZES
    },
    "subject-encoded-words-3000": header(b"Subject:" + b" =?utf-8?q?Gr=C3=BC=C3=9Fe?=" * 120 + b"\n"),
    "subject-long-with-trailing-blanks": header(b"Subject: " + b"x" * 980 + b" " * 40 + b"\n y\n"),
    "long-line-then-dots": body(b"x" * 998 + b".\n.\n" + b"x" * 997 + b"..\n"),
    "long-line-then-from": body(b"x" * 998 + b"From \nFrom x\n" + b" " * 1500 + b"From x\n"),
    "long-lines-of-blanks": body(b" " * 998 + b"\n" + b" " * 999 + b"\n" + b"\t" * 3000 + b"\nx\n"),
    "long-line-at-end": body(b"x" * 998 + b" " * 1200 + b"\n\n\n"),
    "long-line-with-bare-cr": body(b"x" * 997 + b"\rx\n" + b"x" * 998 + b"\r\rx\n" + b"\r" * 2000 + b"x\n"),
    "long-line-with-nul": body(b"x" * 997 + b"\0\0x\n"),
    "references-3000": header(b"References: " + b"<abcdefgh.12345678@example.com> " * 96 + b"\n" + REST),
    "references-3000-folded": header(b"References:" + b"\n <abcdefgh.12345678@example.com>" * 96 + b"\n"),
    "references-3000-folded-twice": header(
        b"References: " + (b"<abcdefgh.12345678@example.com> " * 48 + b"\n\t") * 2 + b"<1@example.com>\n"
    ),
    "to-160": header(b"To: " + b", ".join(RECIPIENTS) + b"\nSubject: hello\n"),
    "to-160-no-blanks": header(b"To:" + b",".join(b"r%d@example.net" % n for n in range(160)) + b"\n"),
    "to-160-folded": header(b"To: " + b",\n ".join(RECIPIENTS) + b"\nSubject: hello\n"),
    "to-160-incomplete": header(b"To: " + b", ".join(b"r%d" % number for number in range(160)) + b"\n"),
    "to-and-cc-2000": header(
        b"To: "
        + b", ".join(b"r%d@example.net" % n for n in range(2000))
        + b"\nCc: "
        + b"a@b.test, " * 999
        + b"\n"
    ),
    "dots": body(b".\n..\n...\n.x\n. \n.\t.\n\n.\n"),
    "dots-8bit": part("utf-8", ".é\n..é\n.\n".encode()),
    "from-lines": body(b"From \nFrom x\n>From x\n>>From x\nFrom: x\n\nFrom alice Mon Jan  1 00:00:00 2026\n"),
    "bare-cr": body(b"a\rb\n\r\n\r\rc\r\r\nd\n"),
    "trailing-blanks": body(b"a \nb\t\nc \t \n \n\t\n\nd  \n \n\n"),
    "body-empty": HEAD + b"\n",
    "body-of-empty-lines": body(b"\n\n\n"),
    "body-of-blanks": body(b" \n\t\n"),
    "nested": HEAD + PARTS.replace(b"%b", HTML),
    "nested-long-lines": HEAD + PARTS.replace(b"%b", HTML * 40),
    "nested-boundary-long": HEAD
    + b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="'
    + b"b" * 69
    + b'"\n\n--'
    + b"b" * 69
    + b"\nContent-Type: text/plain\nX-Long: "
    + b"x" * 1200
    + b"\n\n\xe9\n--"
    + b"b" * 69
    + b"--\n",
    "nested-rfc822-long-header": HEAD
    + b"MIME-Version: 1.0\nContent-Type: message/rfc822\n\nSubject: "
    + b"word " * 300
    + b"\nTo: bob\n\n\xe9\n",
    "calendar": part(
        "utf-8", b"BEGIN:VCALENDAR\nX-A:" + b"x" * 80 + b"\n folded\nEND:VCALENDAR\n", "calendar"
    ),
    "utf-8-header": (
        "From: Älice <alice@example.com>\nTo: Böb <böb@exämple.net>, Çarol\nSubject: Grüße\n\t🙂\n"
        "Reply-To: älice@example.com\nX-Größe: no field\n\nhello\n"
    ).encode(),
    "utf-8-header-8bit-body": (
        "From: Älice <alice@example.com>\nSubject: Grüße\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\nGrüße\n"
    ).encode(),
    "latin-1-header": "From: Älice <alice@example.com>\nSubject: Grüße\n\nhello\n".encode("latin-1"),
    "utf-8-domain": "From: alice@bücher.example.com\nTo: bob@bücher.test\n\nhello\n".encode(),
    "utf-8-mime-fields": (
        "From: alice@example.com\nContent-Type: application/pdf; name=Grüße.pdf\nMIME-Version: 1.0\n\nhello\n"
    ).encode(),
    "incomplete-to": header(b"To: bob\n"),
    "incomplete-many": header(
        b"Reply-To: bob (the one)\nTo: bob,\n carol@example.net, Dave  <dave> , \n\t(x) eve\n"
        b'Cc: friends: bob, carol;, "a b", undisclosed:;\nErrors-To: bob\nReturn-Receipt-To: bob\n'
        b"Disposition-Notification-To: bob\nX-To: bob\nMail-Followup-To: bob\n"
    ),
    "incomplete-to-folded-8bit": header("To: Bjørn  <bjorn>,\n  åse\nCc:\n bob\n".encode()),
    "host-without-domain": header(b"To: bob@localhost, bob@host, bob@host.\n"),
    "uucp-percent-route": header(b"To: host!bob, bob%example.net@relay.test, <@a.test,@b.test:bob@c.test>\n"),
    "to-broken": header(b'To: bob@, @example.net, <>, ;,, "bob <bob@example.net\nCc: (bob\n'),
    "to-undisclosed": header(b"To: undisclosed-recipients:;\n"),
    "to-without-value": header(b"To:\nCc: \n"),
    "to-missing": header(b"Subject: hello\n"),
    "date-missing": header(b"To: bob@example.net\nMessage-ID: <1@example.com>\n"),
    "message-id-missing": header(b"Date: Thu, 01 Jan 2026 00:00:00 +0000\nTo: bob@example.net\n"),
    "date-and-message-id-missing": header(b"To: bob@example.net\n"),
    "date-and-message-id-without-value": header(b"Date:\nMessage-ID: \nTo: bob@example.net\n"),
    "all-but-from-missing": FROM + b"\nhello\n",
    "bcc-and-return-path": header(
        b"Bcc: eve@example.net,\n bob\nReturn-Path: <x@y.test>\nTo: bob@example.net\n"
    ),
    "content-length": header(b"Content-Length: 99999\nTo: bob@example.net\n"),
    "apparently-to-and-delivered-to": header(b"Apparently-To: bob\nDelivered-To: bob\nX-Original-To: bob\n"),
    "resent": header(
        REST + b"Resent-From: Carol <carol@example.net>\nResent-To: dave@example.net\n"
        b"Resent-Date: Fri, 02 Jan 2026 00:00:00 +0000\nResent-Message-ID: <r@example.net>\n"
    ),
    "resent-by-us": header(REST + b"Resent-From: carol@example.com\nResent-To: dave\nResent-Cc: eve\n"),
    "resent-incomplete": header(
        b"Resent-From: carol\nResent-Sender: dave\nResent-Bcc: eve\nResent-To: bob\n"
    ),
    "resent-on-top": b"Resent-From: carol@example.net\nResent-To: bob@example.net\n" + HEAD + b"\n" + TEXT,
    "list": header(
        REST + b"Sender: friends-bounces@example.com\nErrors-To: friends-bounces@example.com\n"
        b"List-Id: Friends <friends.example.com>\nList-Post: <mailto:friends@example.com>\n"
        b"List-Help: <mailto:friends-request@example.com?subject=help>\nPrecedence: list\n"
        b"List-Unsubscribe: <https://example.com/" + b"u" * 1100 + b">,\n <mailto:leave@example.com>\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\nList-Archive: <https://example.com/>\n"
        b"Mailing-List: contact friends\nX-Mailman-Version: 2.1\n"
    ),
    "list-with-footer": HEAD
    + b"List-Id: <f.example.com>\n\n"
    + TEXT
    + b"_" * 47
    + b"\nFriends mailing list \n",
    "bounce": header(
        b"To: bob@example.net\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\n\xe9\n--b\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nAction: failed\n\n--b--\n"
    ),
    "signed-before": header(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s; h=from;\n\tbh=QUJD; b=QUJD\n"
        b"Authentication-Results: mx.example.org; dkim=pass\nReceived: from a (b [192.0.2.1])\n\tby c; x\n"
        + REST
    ),
}

# By default cleanup(8) cuts a field that reaches header_size_limit, 102,400 octets. These have not reached
# that when they come to the filter, or are beyond it, and are longer when cleanup(8) sees them again: the
# filter has folded them.
GROWING = {
    "folded": header(b"Subject: " + (b"word " * 20500)[:102291] + b"\n"),
    "folded-in-word": header(b"Subject: " + b"x" * 102291 + b"\n"),
    "cut-then-folded": header(b"Subject: " + b"word " * 40000 + b"\n"),
    "cut-then-folded-unsigned": LARGE["header-1000000-of-one-line"],
}

ALL = {
    **MESSAGES,
    **{f"transit-{name}": message for name, message in TRANSIT.items()},
    **{f"large-{name}": message for name, message in LARGE.items() if message not in GROWING.values()},
    **{f"growing-{name}": message for name, message in GROWING.items()},
}

# Where a verifier is wrong, or cannot read the message at all, as in test_matrix.py.
DKIMPY_CANNOT = [("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space")]
OPENDKIM_CANNOT = [
    ("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space"),
    ("field-odd-names", "*", "takes a name with a semicolon for no field"),
    ("field-2000-to", "*", "reads 4,095 octets of h= at the most"),
]
MAIL_DKIM_CANNOT = [
    ("subject-vt-ff", "dkim(c=relaxed/*", "takes VT and FF for white space"),
    ("from-route-long", "domainkeys*", "does not read a long route"),
]
if witness.mail_dkim_on_ed25519() != "dkim:pass":
    MAIL_DKIM_CANNOT.append(("*", "dkim(c=*,s=ed25519)", "does not know ed25519-sha256"))


def signatures_of(name: str) -> list[str]:
    """Return the signatures that a message gets, top to bottom."""
    return [one for one in SIGNATURES if one.startswith("dkim(") or name not in NO_DOMAINKEYS]


class Transit(NamedTuple):
    """What became of all messages, with the filter or without it."""

    refused: dict[str, str]  # by name, the reply
    arrived: dict[str, list[tuple[str, Message]]]  # by name, at which host, and what


@contextlib.contextmanager
def site(keys: Keys) -> Iterator[list[str]]:
    """Yield the command of a filter that runs as nobody, on a copy of the package."""
    user = pwd.getpwnam("nobody")
    with shared_directory() as directory:
        ignored = shutil.ignore_patterns("__pycache__")
        package = Path(shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe", ignore=ignored))
        subprocess.run([PYTHON, "-m", "compileall", "-q", package], check=True)
        for name in ("rsa2048", "ed25519"):
            shutil.copyfile(keys.path(name), directory / f"{name}.pem")
            os.chown(directory / f"{name}.pem", user.pw_uid, user.pw_gid)
            (directory / f"{name}.pem").chmod(0o400)
        (directory / "conf").write_text("")
        (directory / "senders").write_text(f"example.com {ENTRY}\n".replace("KEYS", str(directory)))
        maps = [f"--conf_file={directory}/conf", f"--sender_map={directory}/senders"]
        yield [PYTHON, "-IS", str(package / "__main__.py"), *maps]


def apply(directory: Path, *options: str) -> None:
    """Write main.cf and master.cf as ``dkimpipe postfix --apply OPTIONS`` completes bare ones."""
    (directory / "main.cf").write_text("")
    (directory / "master.cf").write_text(
        "submission inet n - n - - smtpd\n"
        "  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
        "pickup unix n - n 60 1 pickup\n"
    )
    command = [sys.executable, str(MAIN), "postfix", "-c", str(directory), "--apply", *options]
    subprocess.run(command, check=True, capture_output=True)


def submission_without_filter(master: str) -> tuple[int, str]:
    """Return a free port and a service that listens there and has no filter, else as in this master.cf."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    found = re.search(r"^submission (inet .*\n(?:[ \t].*\n)+)", master, re.MULTILINE)
    assert found
    service, removed = re.subn(r"[ \t]+-o content_filter=.*\n", "", found[1])
    assert removed == 1
    return port, f"127.0.0.1:{port} {service}"


def submit(port: int, name: str, hosts: Iterable[str] = HOSTS) -> str:
    """Submit a message to these hosts, from an address that holds its name; return the reply to DATA."""
    message = witness.as_smtp_carries(ALL[name])
    options = ["BODY=8BITMIME"] * (not message.isascii())
    with smtplib.SMTP("127.0.0.1", port, "client.test", timeout=60) as client:
        try:
            client.sendmail(f"{name}@example.com", [f"bob@{host}" for host in hosts], message, options)
        except smtplib.SMTPResponseException as refusal:
            return f"{refusal.smtp_code} {refusal.smtp_error!r}"
    return ""


def send_all(port: int, sinks: dict[str, Sink]) -> Transit:
    """Send all messages through a submission service to these hosts."""
    with ThreadPoolExecutor(4) as pool:
        replies = dict(zip(ALL, pool.map(lambda name: submit(port, name, sinks), ALL)))
    refused = {name: reply for name, reply in replies.items() if reply}
    arrived: dict[str, list[tuple[str, Message]]] = {name: [] for name in ALL if name not in refused}
    for host, sink in sinks.items():
        with contextlib.suppress(TimeoutError):
            sink.wait(len(arrived), 60)
        for message in sink.messages:
            arrived.setdefault(message.sender.partition("@")[0], []).append((host, message))  # "": a bounce
        sink.messages.clear()
    return Transit(refused, arrived)


class Ways(NamedTuple):
    """Both ways through one Postfix."""

    signed: Transit
    plain: Transit


@pytest.fixture(scope="module")
def ways(keys: Keys) -> Iterator[Ways]:
    with contextlib.ExitStack() as stack:
        sinks = {
            host: stack.enter_context(Sink(eightbitmime=eightbitmime, smtputf8=smtputf8))
            for host, (eightbitmime, smtputf8) in HOSTS.items()
        }
        routes = (f"{{{host} = smtp:[127.0.0.1]:{sink.port}}}" for host, sink in sinks.items())
        main = {"myorigin": "example.com", "transport_maps": f"inline:{{{' '.join(routes)}}}"}
        fragments = stack.enter_context(shared_directory())
        apply(fragments)
        port, service = submission_without_filter((fragments / "master.cf").read_text())
        postfix = stack.enter_context(
            Postfix(
                stack.enter_context(shared_directory()),
                stack.enter_context(site(keys)),
                sinks["both.test"].port,
                extra_main=main,
                extra_master=service,
                fragments=fragments,
            )
        )
        signed = send_all(postfix.submission_port, sinks)
        plain = send_all(port, sinks)
        yield Ways(signed, plain)


@pytest.fixture(scope="module")
def signed(ways: Ways) -> dict[str, bytes]:
    """What arrived of each message at the host without 8BITMIME and SMTPUTF8."""
    return at_last_host(ways.signed)


@pytest.fixture(scope="module")
def plain(ways: Ways) -> dict[str, bytes]:
    """The same, without the filter."""
    return at_last_host(ways.plain)


def at_last_host(transit: Transit) -> dict[str, bytes]:
    """Return what arrived there, by name."""
    return {name: arrived[-1][1].data for name, arrived in transit.arrived.items()}


def test_every_message_is_taken_and_arrives_once_at_every_host(ways: Ways) -> None:
    for transit in ways:
        assert transit.refused == {}
        hosts = {name: [host for host, _ in arrived] for name, arrived in transit.arrived.items()}
        assert {name: at for name, at in hosts.items() if at != list(HOSTS)} == {}


def test_every_host_gets_the_same_octets(ways: Ways) -> None:
    """Nothing is converted for hosts without 8BITMIME, and no mail needs SMTPUTF8."""
    for transit in ways:
        arrived = transit.arrived.items()
        assert [name for name, got in arrived if len({message.data for _, message in got}) != 1] == []
        assert [name for name, got in arrived for _, message in got if "SMTPUTF8" in message.options] == []


def test_outcomes_verifies(keys: Keys, signed: dict[str, bytes], report: Report) -> None:
    report(valid_signatures(keys, signed))


def valid_signatures(keys: Keys, signed: dict[str, bytes]) -> str:
    """Assert that every signature verifies, and return how many there are."""
    signed = {name: octets for name, octets in signed.items() if not name.startswith("growing-")}
    octets = list(signed.values())
    dkim = [signature for signature in SIGNATURES if signature.startswith("dkim(")]
    with NameServer(dict(keys.records)) as server:
        mail_dkim = witness.mail_dkim_verdicts(octets, server.port)
    valid = {}
    for verifier, verdicts, judged, cannot in (
        ("dkimpy", witness.dkimpy_verdicts(octets, keys.records), dkim, DKIMPY_CANNOT),
        ("OpenDKIM", witness.opendkim_verdicts(octets, keys.records), dkim, OPENDKIM_CANNOT),
        ("Mail::DKIM", mail_dkim, SIGNATURES, MAIL_DKIM_CANNOT),
    ):
        by_name = dict(zip(signed, verdicts))
        few = [name for name in by_name if len(by_name[name]) < len(set(judged) & set(signatures_of(name)))]
        assert [name for name in few if not by_name[name][:1] or "unreadable" not in by_name[name][0]] == []
        used: set[int] = set()
        valid[verifier] = judge(by_name, judged, cannot, used)
        assert [line for number, line in enumerate(cannot) if number not in used] == []
    made = sum(len(signatures_of(name)) for name in signed)
    return f"{len(signed)} messages, {made} signatures, valid by {valid}"


# On top of what the filter was given: the trace of sendmail(1), and the signatures.
NEW_FIELDS = re.compile(
    rb"Received: by mx\.test \(Postfix, from userid \d+\)\r\n\tid [^\r\n]+\r\n"
    rb"((?:(?:DKIM|DomainKey)-Signature: [^\n]{,62}\n(?: [^\n]{,78}\n)+)+)(?=Received: from client\.test )"
)
# What no two ways of a message have in common, in the fields that the first pass adds: queue ID and time.
PASSING = [
    (re.compile(rb"\A(Received: from client\.test [^;]+ id )\w+;\r\n\t[^\r\n]+"), rb"\1"),
    (re.compile(rb"^((?:Resent-)?Message-Id: <)\d{14}\.\w+@mx\.test>", re.MULTILINE), rb"\1"),
    (re.compile(rb"^((?:Resent-)?Date: )[^\r]+ \(\w+\)(?=\r|\Z)", re.MULTILINE), rb"\1"),
]
BROKEN_BY_SMTP = re.compile(rb"(?<=[^\n]{998})\r\n ")
BLANKS = re.compile(rb"(?:(?:\r\n)?[ \t]+)+")


def below_new_fields(name: str, octets: bytes, new_fields: re.Pattern[bytes] = NEW_FIELDS) -> bytes:
    """Return what follows the new fields, which are no more and no less than they should be."""
    new = new_fields.match(octets)
    assert new, name
    fields = re.findall(rb"^(DKIM|DomainKey)-Signature:", new[1], re.MULTILINE)
    types = {"dkim": b"DKIM", "domainkeys": b"DomainKey"}
    assert fields == [types[signature.partition("(")[0]] for signature in signatures_of(name)], name
    return octets[new.end() :]


def header_and_body(octets: bytes) -> tuple[bytes, bytes]:
    """Return both, without what passes."""
    header, _, body = octets.partition(b"\r\n\r\n")
    for pattern, replacement in PASSING:
        header = pattern.sub(replacement, header)
    return header, body


def same_as_without_the_filter(
    name: str, octets: bytes, plain: bytes, new_fields: re.Pattern[bytes] = NEW_FIELDS
) -> bool:
    """Return whether nothing differs but where long header lines are folded; assert that it is no more."""
    header, body = header_and_body(below_new_fields(name, octets, new_fields))
    plain_header, plain_body = header_and_body(plain)
    assert body == plain_body, name
    if header == plain_header:
        return True
    assert BROKEN_BY_SMTP.search(plain_header), name
    assert BLANKS.sub(b" ", header) == BLANKS.sub(b" ", BROKEN_BY_SMTP.sub(b"", plain_header)), name
    return False


def test_below_the_new_fields_all_is_as_without_the_filter(
    signed: dict[str, bytes], plain: dict[str, bytes], report: Report
) -> None:
    """But for header lines over 998 octets: these smtp(8) would break inside a word. Their value stays."""
    names = [name for name in signed if not name.startswith("growing-")]
    folded = [name for name in names if not same_as_without_the_filter(name, signed[name], plain[name])]
    assert {"transit-references-3000", "transit-to-160", "transit-subject-1500"} <= {*folded}
    report(f"{len(names)} messages, {len(folded)} of them with header lines folded at other places")


@pytest.mark.parametrize("name", GROWING)
def test_a_field_that_grows_past_header_size_limit_stays_whole(
    keys: Keys, signed: dict[str, bytes], plain: dict[str, bytes], name: str
) -> None:
    octets = signed[f"growing-{name}"]
    same_as_without_the_filter(name, octets, plain[f"growing-{name}"])
    assert witness.opendkim_verdicts([octets], keys.records) == [["pass"] * 8]
