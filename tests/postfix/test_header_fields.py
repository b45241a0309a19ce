"""The header of mail from users leaves as it was sent, through a real Postfix: completed, not rewritten.

The client is one from afar: Postfix rewrites the header of mail from its own host unless it is told not to.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import witness
from conftest import MAIN, Keys, copy_program
from relaying import PYTHON, RECIPIENT

from postfix import FRAGMENTS, Message, Postfix, Sink, shared_directory

DATE = b"Date: Fri, 11 Jul 2003 21:00:37 -0700\n"
MESSAGE_ID = b"Message-ID: <1@example.com>\n"
FROM = b"From: a@example.com\n"
BODY = b"\nHello.\n"

# The fields of a header beside Date and Message-ID. All of this is signed.
FIELDS = {
    # The names of the issue: none of them is quoted.
    "a comma in From": b"From: Mueller, Joerg <a@example.com>\n",
    "a colon in From": b"From: Shop: News <a@example.com>\n",
    "a comma in To": FROM + b"To: Doe, Jane <jane@example.net>\n",
    "a comma in an encoded word": b"From: =?utf-8?q?M=C3=BCller,_J=C3=B6rg?= <a@example.com>\n",
    # Others of that kind.
    "an encoded comma": b"From: =?utf-8?q?M=C3=BCller=2C_J=C3=B6rg?= <a@example.com>\n",
    "a colon in an encoded word": b"From: =?utf-8?q?Shop:_News?= <a@example.com>\n",
    "a comma between encoded words": b"From: =?utf-8?q?M=C3=BCller?=, =?utf-8?b?SsO2cmc=?= <a@example.com>\n",
    "encoded words folded": b"From: =?utf-8?q?M=C3=BCller,?=\n =?utf-8?q?_J=C3=B6rg?=\n\t<a@example.com>\n",
    "UTF-8": "From: Jörg Müller <a@example.com>\n".encode(),
    "UTF-8 with a comma": "From: Müller, Jörg <a@example.com>\nTo: Dœ, Jäne <jane@example.net>\n".encode(),
    "Latin-1 with a comma": "From: Müller, Jörg <a@example.com>\n".encode("latin-1"),
    "a semicolon": b"From: Doe; Jane <a@example.com>\n",
    "a dot": b"From: J. Doe <a@example.com>\nTo: J. R. Roe <r@example.net>\n",
    "an at sign": b"From: jane@home <a@example.com>\n",
    "brackets": b"From: [Shop] News <a@example.com>\n",
    "a comment": b"From: Jane (Sales, North: 1) Doe <a@example.com>\n",
    "an address before its comment": b"From: a@example.com (Mueller, Joerg)\n",
    "a quoted comma": b'From: "Mueller, Joerg" <a@example.com>\n',
    "a comma behind quotes": b'From: "Mueller", Joerg <a@example.com>\n',
    "several commas": b"From: Mueller, Joerg, Dr. <a@example.com>\n",
    "odd spaces": b"From:   Mueller ,  Joerg   <a@example.com>  \n",
    "folded": b"From: Mueller,\n Joerg\n\t<a@example.com>\nTo: Doe,\n\tJane <j@example.net>,\n  x@y.test\n",
    "a quote half open in To": FROM + b'To: "Jane Doe <jane@example.net>\n',
    "a parenthesis half open in Cc": FROM + b"Cc: Jane (Sales <jane@example.net>, Joe :) <joe@example.net>\n",
    "a quote half open": b'From: "Jane Doe <a@example.com>\n',
    "a quote half open within": b'From: Jane" Doe <a@example.com>\n',
    "a parenthesis half open": b"From: Jane (Sales <a@example.com>\n",
    "a parenthesis too many": b"From: Jane :) <a@example.com>\n",
    "a login": b"From: ACME\\Jane <a@example.com>\n",
    "a backslash and a comma": b"From: Doe\\, Jane <a@example.com>\n",
    "a bracket half open": b"From: [ACME <a@example.com>\n",
    "no recipients": FROM + b"To: undisclosed-recipients:;\n",
    "a group": FROM + b"To: Friends: Doe, Jane <jane@example.net>, bob;, x@example.net\n",
    "every address field": b"From: Doe, Jane <a@example.com>\nSender: Doe: Jane <a@example.com>\n"
    b"Reply-To: Doe, Jane <a@example.com>\nTo: Roe, R. <r@example.net>\nCc: Roe: R <r@example.net>\n"
    b"Errors-To: Roe, R <r@example.net>\nDisposition-Notification-To: Doe, Jane <a@example.com>\n",
    "To and Cc twice": FROM
    + b"To: Doe, Jane <j@example.net>\nTo: Roe: R <r@example.net>\nCc: x, y <x@example.net>\nCc: y\n",
    "addresses without a domain": FROM + b"To: bob, carol@host, Dave <dave>\nSender: alice\n",
    "spelling of the names": b"FROM: Doe, Jane <a@example.com>\nto:Doe, Jane <jane@example.net>\n",
}
# From holds no address then, or none with a domain: not signed, and not changed either.
UNSIGNED = {
    "an angle in a comment": b"From: Jane (Sales <a@example.com>)\n",
    "two angles": b"From: Doe\\ <b@example.com> <a@example.com>\n",
    "no domain": b"From: alice\n",
    "no domain behind a name": b'From: "Alice, A." <alice>\n',
}
COMPLETE = {name: fields + DATE + MESSAGE_ID for name, fields in {**FIELDS, **UNSIGNED}.items()}

# A header without one of these, and the fields that it gets.
MISSING = {
    "no Date": (FROM + MESSAGE_ID, [b"Date"]),
    "no Message-ID": (FROM + DATE, [b"Message-Id"]),
    "no From": (b"Subject: x\n" + DATE + MESSAGE_ID, [b"From"]),
    "From alone": (FIELDS["a comma in From"], [b"Message-Id", b"Date"]),
    "none of them": (b"To: Doe, Jane <jane@example.net>\n", [b"Message-Id", b"Date", b"From"]),
}
TRACE = re.compile(rb"\A[\s\S]*?^Received: from client\.test .*\n(?:[ \t].*\n)*", re.MULTILINE)


@pytest.fixture(scope="module")
def site(keys: Keys) -> Iterator[Path]:
    """A directory with the package, and a senders file and a key for example.com."""
    with shared_directory() as site:
        copy_program(site)
        shutil.copyfile(keys.path("rsa2048"), site / "key")
        shutil.chown(site / "key", "nobody")
        (site / "key").chmod(0o400)
        (site / "conf").write_text(f"sender_map {site}/senders\n")
        (site / "senders").write_text(f"example.com dkim(s=rsa2048,key={site}/key)\n")
        yield site


def sent(site: Path, headers: Mapping[str, bytes], fragments: Path = FRAGMENTS) -> dict[str, bytes]:
    """Send a message with each of these headers, and return what arrived, by name."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(smtputf8=False))
        argv = [PYTHON, "-IS", f"{site}/dkimpipe/__main__.py", f"--conf_file={site}/conf"]
        directory = stack.enter_context(shared_directory())
        postfix = stack.enter_context(Postfix(directory, argv, sink.port, fragments=fragments))
        for number, header in enumerate(headers.values()):
            message = witness.as_smtp_carries(header + BODY)
            postfix.submit(f"{number}@example.com", [RECIPIENT], message)
        arrived: list[Message] = sink.wait(len(headers))
    by_number = {int(message.sender.partition("@")[0]): message.data for message in arrived}
    return {name: by_number[number] for number, name in enumerate(headers)}


@pytest.fixture(scope="module")
def arrived(site: Path) -> dict[str, bytes]:
    """What arrived of the headers that lack nothing."""
    return sent(site, COMPLETE)


@pytest.fixture(scope="module")
def completed(site: Path) -> dict[str, bytes]:
    """What arrived of the headers that lack something."""
    return sent(site, {name: header for name, (header, _) in MISSING.items()})


def original(octets: bytes) -> bytes:
    """Return what follows the trace and the signature, in LF."""
    found = TRACE.match(octets)
    assert found
    return octets[found.end() :].replace(b"\r\n", b"\n")


def verdicts(keys: Keys, octets: bytes) -> list[list[str]]:
    """Return what two verifiers say of the signatures."""
    verifiers = (witness.dkimpy_verdicts, witness.opendkim_verdicts)
    return [verify([octets], keys.records)[0] for verify in verifiers]


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_header_arrives_octet_for_octet(name: str, arrived: dict[str, bytes]) -> None:
    assert original(arrived[name]) == COMPLETE[name] + BODY


@pytest.mark.parametrize("name", FIELDS)
def test_it_is_signed_and_verifies(name: str, arrived: dict[str, bytes], keys: Keys) -> None:
    assert verdicts(keys, arrived[name]) == [["pass"], ["pass"]]


@pytest.mark.parametrize("name", UNSIGNED)
def test_without_an_address_in_from_it_is_not_signed(name: str, arrived: dict[str, bytes]) -> None:
    assert b"DKIM-Signature:" not in arrived[name]


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_added_and_the_rest_stays(name: str, completed: dict[str, bytes]) -> None:
    header, added = MISSING[name]
    octets = original(completed[name])
    assert octets.startswith(header)
    assert octets.endswith(b"\n" + BODY)
    assert re.findall(rb"^([\w-]+):", octets[len(header) : -len(BODY)], re.MULTILINE) == added


@pytest.mark.parametrize("name", MISSING)
def test_what_is_added_is_signed(name: str, completed: dict[str, bytes], keys: Keys) -> None:
    (fields,) = re.findall(rb"[\s;]h=([^;]+);", completed[name])
    assert {field.lower() for field in MISSING[name][1]} <= set(re.split(rb"[:\s]+", fields))
    assert verdicts(keys, completed[name]) == [["pass"], ["pass"]]


# What ``dkimpipe postfix --apply`` makes of these services is as good as what is shipped.

FILTERED = """\
submission inet n - n - - smtpd
  -o content_filter=dkimpipe:dummy
"""
PICKUP = "pickup unix n - n 60 1 pickup\n"
CHECKED = "subcleanup unix n - n - 0 cleanup -o syslog_name=postfix/subcleanup\n"
NAMED = "  -o cleanup_service_name=subcleanup\n"
MASTERS = {
    "fresh": FILTERED + PICKUP,
    "the old setting": f"{FILTERED}  -o local_header_rewrite_clients=static:all\n{PICKUP}",
    "a cleanup service of its own": FILTERED + NAMED + CHECKED + PICKUP,
    "one that local mail has as well": FILTERED + NAMED + CHECKED + PICKUP.replace("\n", f"\n{NAMED}"),
}
ISSUE = {
    **{name: FIELDS[name] for name in ("a comma in From", "a colon in From", "a comma in To")},
    "none of them": MISSING["none of them"][0],
}


@pytest.mark.parametrize("name", MASTERS)
def test_applied_the_header_is_completed_and_not_rewritten(name: str, site: Path, keys: Keys) -> None:
    with shared_directory() as fragments:
        (fragments / "main.cf").write_text("")
        (fragments / "master.cf").write_text(MASTERS[name])
        command = [sys.executable, str(MAIN), "postfix", "-c", str(fragments), "--apply", "--open"]
        subprocess.run(command, check=True, capture_output=True)
        octets = sent(site, ISSUE, fragments)
    for each, header in ISSUE.items():
        assert original(octets[each]).startswith(header)
        assert original(octets[each]).count(b"\nDate: ") == 1
        assert verdicts(keys, octets[each]) == [["pass"], ["pass"]]
