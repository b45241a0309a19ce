"""``dkimpipe audit``: from lines of a log to verdicts, counts and reports. Whole ways: tests/postfix."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from auditing import (
    NOW,
    SIGNER,
    STAMP,
    USER,
    VERIFIER,
    audit,
    configuration,
    filtered,
    lines,
    measured,
    queued,
    recent,
    sent,
    site_of,
    traced,
)
from conftest import PROJECT, Report

from dkimpipe.admin.audit import events, logfiles, verdict
from dkimpipe.admin.audit.events import Signature
from dkimpipe.admin.audit.report import Counts, Row
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.timestamps import Clock
from dkimpipe.admin.audit.verdict import Verdict
from dkimpipe.errors import ConfigError

if not shutil.which("postconf"):
    pytest.skip("the tests of audit need Postfix's postconf", allow_module_level=True)

Q1, Q2, Q3 = "07CF823D69C", "0262123D6B8", "1ADC623D6AB"
LONG_NAME = "a" * 54 + ".example.com"
LONG = ("4jbPVc6mtmzKh01", "4jbPVd07DzzKh09")
SIGNED = "signed d=example.com s=mail a=rsa-sha256; from=a; message-id=<1@x>"
MAIL = Signature("example.com", "mail", "dkimpipe")
OPENDKIM = Signature("example.com", "od", "opendkim")
SENDER = "a@example.com"


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration directory of a Postfix that signs and verifies."""
    return configuration(tmp_path_factory.mktemp("etc"))


@pytest.fixture(scope="module")
def site(etc: Path) -> Site:
    return site_of(etc)


def submitted(
    queue_id: str = Q1, client: str = "far[203.0.113.9], sasl_method=PLAIN, sasl_username=al"
) -> str:
    return f"smtpd {queue_id}: client={client}\n{queued(queue_id, SENDER)}"


def returned(queue_id: str = Q2, uid: int = SIGNER) -> str:
    return f"pickup {queue_id}: uid={uid} from=<{SENDER}>\n{queued(queue_id, SENDER)}"


def unsigned(kind: str, source: str, reason: str = verdict.NOT_FILTERED) -> Verdict:
    return Verdict("unsigned", (), kind, source, "example.com", reason)


END = f"qmgr {Q1}: removed\n"
SIGNED_VERDICT = Verdict("signed", (MAIL,), domain="example.com")
UNKNOWN = Verdict("unknown", domain="example.com")
FORWARDED = Verdict("forwarded", domain="example.com")
LOGIN = ("submission", "postfix, login al")
NO_ENTRY = "not signed: no entry for a@example.com; from=a@example.com"
AMAVIS = (
    f"smtp {Q1}: to=<b@y.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, dsn=2.0.0, "
    f"status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {Q2})\n"
)
STRANGER = "far[203.0.113.9]"

# What the log has of a message, and the verdict.
WAYS = {
    "signed": (submitted() + returned() + filtered(Q1, SIGNED) + END + sent(Q2), SIGNED_VERDICT),
    "signed, reported first": (
        submitted() + filtered(Q1, SIGNED) + END + returned() + sent(Q2),
        SIGNED_VERDICT,
    ),
    "signed, reported last": (
        submitted() + returned() + sent(Q2) + filtered(Q1, SIGNED) + END,
        SIGNED_VERDICT,
    ),
    "two signatures": (
        submitted()
        + returned()
        + filtered(Q1, "signed d=example.com s=mail a=rsa-sha256, d=b.test s=e a=ed25519-sha256; from=a")
        + sent(Q2),
        Verdict("signed", (MAIL, Signature("b.test", "e", "dkimpipe")), domain="example.com"),
    ),
    "no entry": (
        submitted() + returned() + filtered(Q1, NO_ENTRY) + END + sent(Q2),
        unsigned(*LOGIN, "no entry for a@example.com"),
    ),
    "no address": (
        submitted() + returned() + filtered(Q1, "not signed: no address in 'Bob'; from=Bob") + END + sent(Q2),
        unsigned(*LOGIN, "no address in 'Bob'"),
    ),
    "no From": (
        submitted() + returned() + filtered(Q1, "not signed: no From field") + END + sent(Q2),
        unsigned(*LOGIN, "no From field"),
    ),
    "several From": (
        submitted() + returned() + filtered(Q1, "not signed: 2 From fields; from=a@b.test") + END + sent(Q2),
        unsigned(*LOGIN, "2 From fields"),
    ),
    "a filter that reports nothing": (
        submitted() + returned() + filtered(Q1, "x") + END + sent(Q2),
        unsigned(*LOGIN, verdict.NO_REPORT),
    ),
    "no filter": (submitted() + sent(Q1), unsigned(*LOGIN)),
    "by the port": (
        submitted().replace("smtpd ", "postfix/submission/smtpd ").partition(", sasl")[0].replace("al", "al")
        + "\n"
        + queued(Q1, SENDER)
        + sent(Q1),
        unsigned("submission", "postfix/submission, client 203.0.113.9"),
    ),
    "by syslog_name": (
        submitted(client=STRANGER).replace("smtpd ", "postfix/users/smtpd ") + sent(Q1),
        unsigned("submission", "postfix/users, client 203.0.113.9"),
    ),
    "network": (
        submitted(client="h[192.0.2.7]") + sent(Q1),
        unsigned("networks", "postfix, client 192.0.2.7"),
    ),
    "network, IPv6": (
        submitted(client="h[2001:db8:1::7]:4711") + sent(Q1),
        unsigned("networks", "postfix, client 2001:db8:1::7"),
    ),
    "local": (returned(Q1, USER) + sent(Q1), unsigned("local", "www-data")),
    "unknown user": (returned(Q1, 54321) + sent(Q1), unsigned("local", "54321")),
    "to an alias": (
        submitted(client=STRANGER) + sent(Q1).replace(", relay", ", orig_to=<b@alias.test>, relay"),
        FORWARDED,
    ),
    "to a backup": (submitted(client=STRANGER) + sent(Q1, "b@backup.test"), FORWARDED),
    "below a backup": (submitted(client=STRANGER) + sent(Q1, "b@sub.BACKUP.test"), FORWARDED),
    "relayed": (
        submitted(client=STRANGER) + sent(Q1),
        unsigned("relayed", "postfix, client 203.0.113.9"),
    ),
    "through local": (
        submitted(client=STRANGER)
        + queued(Q3, SENDER)
        + f"local {Q1}: to=<u@mx.test>, relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent "
        f"(forwarded as {Q3})\n" + END + sent(Q3),
        FORWARDED,
    ),
    "verified": (
        submitted(client=STRANGER)
        + returned(uid=VERIFIER)
        + filtered(Q1, "verified: dkim=none; from=a", service="dkimpipe-verify")
        + END
        + sent(Q2, "b@backup.test"),
        FORWARDED,
    ),
    "verified, from a network": (
        submitted(client="h[192.0.2.7]")
        + returned(uid=VERIFIER)
        + filtered(Q1, "verified: dkim=none; from=a", service="dkimpipe-verify")
        + END
        + sent(Q2),
        unsigned("networks", "postfix, client 192.0.2.7"),
    ),
    "bounce": (
        queued(Q3, "") + f"bounce {Q1}: sender non-delivery notification: {Q3}\n" + sent(Q3),
        Verdict("unsigned", (), "bounces", "", "", verdict.NOT_FILTERED),
    ),
    "delay notice": (
        queued(Q3, "") + f"bounce {Q1}: sender delay notification: {Q3}\n" + sent(Q3),
        Verdict("unsigned", (), "bounces", "", "", verdict.NOT_FILTERED),
    ),
    "notice to postmaster": (
        queued(Q3, "double-bounce@example.com") + sent(Q3),
        unsigned("bounces", ""),
    ),
    "signed bounce": (
        queued(Q3, "")
        + f"bounce {Q1}: sender non-delivery notification: {Q3}\n"
        + f"pickup {Q2}: uid={SIGNER} from=<>\n"
        + queued(Q2, "")
        + filtered(Q3, SIGNED)
        + sent(Q2),
        Verdict("signed", (MAIL,)),
    ),
    "signed by OpenDKIM": (
        submitted() + f"opendkim {Q1}: DKIM-Signature field added (s=od, d=example.com)\n" + sent(Q1),
        Verdict("signed", (OPENDKIM,), domain="example.com"),
    ),
    "OpenDKIM, and no entry": (
        submitted()
        + f"opendkim {Q1}: DKIM-Signature field added (s=od, d=example.com)\n"
        + returned()
        + filtered(Q1, NO_ENTRY)
        + sent(Q2),
        Verdict("signed", (OPENDKIM,), domain="example.com"),
    ),
    "signed in the first run only": (
        submitted() + filtered(Q1, SIGNED) + filtered(Q1, NO_ENTRY) + returned() + sent(Q2),
        unsigned(*LOGIN, "no entry for a@example.com"),
    ),
    "signed in the second run only": (
        submitted() + filtered(Q1, NO_ENTRY) + filtered(Q1, SIGNED) + returned() + sent(Q2),
        unsigned(*LOGIN, "no entry for a@example.com"),
    ),
    "OpenDKIM, then another filter": (
        submitted()
        + f"opendkim {Q1}: DKIM-Signature field added (s=od, d=example.com)\n"
        + submitted(Q2, f"localhost[127.0.0.1], orig_queue_id={Q1}, orig_client={STRANGER}")
        + AMAVIS
        + END
        + sent(Q2),
        Verdict("signed", (OPENDKIM,), domain="example.com"),
    ),
    "another filter without XFORWARD": (
        submitted() + submitted(Q2, "localhost[127.0.0.1]") + AMAVIS + END + sent(Q2),
        unsigned(*LOGIN),
    ),
    "back by SMTP": (
        submitted()
        + submitted(Q2, f"localhost[127.0.0.1], orig_queue_id={Q1}, orig_client={STRANGER}")
        + filtered(Q1, SIGNED)
        + END
        + sent(Q2),
        SIGNED_VERDICT,
    ),
    "back by SMTP without XFORWARD": (
        submitted()
        + submitted(Q2, "localhost[127.0.0.1]")
        + filtered(Q1, f"signed d=example.com s=mail a=rsa-sha256; queued as {Q2}; from=a")
        + END
        + sent(Q2),
        SIGNED_VERDICT,
    ),
    "back by SMTP, with the whole reply": (
        submitted()
        + submitted(Q2, "localhost[127.0.0.1]")
        + filtered(Q1, f"signed d=example.com s=mail a=rsa-sha256; 250 2.0.0 Ok: queued as {Q2}; from=a")
        + END
        + sent(Q2),
        SIGNED_VERDICT,
    ),
    "back by SMTP, with the reply cut off": (
        submitted()
        + submitted(Q2, "localhost[127.0.0.1]")
        + filtered(Q1, f"signed d={LONG_NAME} s=mail a=rsa-sha256; queued as {Q2}; from=a")
        + END
        + sent(Q2),
        Verdict("signed", (Signature(LONG_NAME, "mail", "dkimpipe"),), domain="example.com"),
    ),
    "the same message by SMTP, from somebody else": (
        submitted() + submitted(Q2, "localhost[127.0.0.1]") + filtered(Q1, SIGNED) + END + sent(Q2),
        unsigned("networks", "postfix, client 127.0.0.1"),
    ),
    "queued anew": (
        submitted()
        + returned()
        + filtered(Q1, SIGNED)
        + END
        + f"postsuper {Q2}: requeued\npickup {Q3}: uid=103 from=<{SENDER}> orig_id={Q2}\n"
        + queued(Q3, SENDER)
        + sent(Q3),
        SIGNED_VERDICT,
    ),
    "signed before it was deferred": (
        submitted()
        + returned()
        + filtered(Q1, SIGNED)
        + END
        + sent(Q2).replace("sent", "deferred").partition("\n")[0]
        + "\n"
        + sent(Q2),
        SIGNED_VERDICT,
    ),
    "without a beginning": (queued(Q1, SENDER) + sent(Q1), UNKNOWN),
    "from the filter, without a beginning": (returned() + sent(Q2), UNKNOWN),
    "back by SMTP, without a beginning": (
        submitted(Q2, f"localhost[127.0.0.1], orig_queue_id={Q1}, orig_client={STRANGER}") + sent(Q2),
        UNKNOWN,
    ),
    "a frontend with a log of its own": (
        submitted(Q2, f"front[192.0.2.1], orig_queue_id={Q1}, orig_client=h[192.0.2.9]") + sent(Q2),
        unsigned("networks", "postfix, client 192.0.2.9"),
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_way_of_a_message(site: Site, name: str) -> None:
    text, verdict = WAYS[name]
    assert traced(site, [lines(text).encode()])[0] == [verdict]


@pytest.mark.parametrize("name", WAYS)
def test_long_queue_ids(site: Site, name: str) -> None:
    text, verdict = WAYS[name]
    for short, long in zip((Q1, Q2), LONG):
        text = text.replace(short, long)
    assert traced(site, [lines(text).encode()])[0] == [verdict]


@pytest.mark.parametrize("name", [name for name in WAYS if not name.startswith("by ")])
def test_another_instance(site: Site, name: str) -> None:
    text, verdict = WAYS[name]
    found = traced(site, [lines(text, path="postfix-out/").encode()])[0]
    assert found == [verdict._replace(source=verdict.source.replace("postfix,", "postfix-out,"))]


def test_instances_have_queue_ids_of_their_own(site: Site) -> None:
    one, other = lines(submitted()), lines(returned(Q1, USER), path="postfix-out/")
    ends = lines(sent(Q1), path="postfix-out/") + lines(sent(Q1))
    found, _, _ = traced(site, [(one + other + ends).encode()])
    assert found == [unsigned("local", "www-data"), unsigned(*LOGIN)]


# What does not leave: delivered on this host, or not at all.
HERE = {
    "local": sent(Q1).replace("smtp ", "local "),
    "virtual": sent(Q1).replace("smtp ", "virtual "),
    "lmtp": sent(Q1).replace("smtp ", "lmtp "),
    "pipe": filtered(Q1, "x", service="mailman"),
    "bounced": sent(Q1).replace("status=sent", "status=bounced"),
    "deferred": sent(Q1).replace("status=sent", "status=deferred"),
    "a probe": sent(Q1).replace("status=sent", "status=deliverable"),
    "refused": f"smtpd NOQUEUE: client={STRANGER}\nsmtpd NOQUEUE: reject: RCPT from {STRANGER}: 550 x\n",
    "postscreen": f"postscreen CONNECT from [203.0.113.9]:1 to [192.0.2.1]:25: {sent(Q1)}",
    "another program": sent(Q1).replace("smtp ", "dovecot/other "),
}


@pytest.mark.parametrize("name", HERE)
def test_what_has_not_left(site: Site, name: str) -> None:
    assert traced(site, [lines(submitted() + HERE[name]).encode()])[0] == []


# Text of others that looks like something else; the verdict is that on the way without it.
EVIL = f"x>, relay=dkimpipe, dsn=2.0.0, status=sent (delivered via dkimpipe service (dkimpipe: {SIGNED}))"
FORGED = {
    "reply of a server": (
        submitted() + sent(Q1).replace("250 ok", f"250 ok) {EVIL}"),
        unsigned(*LOGIN),
    ),
    "reply with a queue ID": (
        submitted() + submitted(Q2, "h[192.0.2.7]") + sent(Q1).replace("250 ok", f"250 ok: queued as {Q2}"),
        unsigned(*LOGIN),
    ),
    "refusal": (
        submitted()
        + sent(Q1).replace("status=sent (250 ok)", f"status=deferred ({EVIL} status=sent (250 ok))"),
        None,
    ),
    "recipient": (submitted() + sent(Q1, f'"{EVIL}"@y.test'), unsigned(*LOGIN)),
    "recipient, deferred": (
        submitted() + sent(Q1, '"x>, relay=none, dsn=4.0.0, status=deferred (y"@y.test'),
        unsigned(*LOGIN),
    ),
    "recipient with quotes": (submitted() + sent(Q1, '"\\"x>, relay=none\\\\"@y.test'), unsigned(*LOGIN)),
    "former recipient": (
        submitted() + sent(Q1).replace(">, relay", f'>, orig_to=<"{EVIL}"@y.test>, relay', 1),
        unsigned(*LOGIN),
    ),
    "sender": (
        submitted().replace(f"from=<{SENDER}", 'from=<"a>, size=1, nrcpt=1 (queue active)"@example.com')
        + sent(Q1),
        unsigned(*LOGIN),
    ),
    "local sender": (
        returned(Q1, USER).replace(f"<{SENDER}>", f'<"x> orig_id={Q2}"@example.com>') + sent(Q1),
        unsigned("local", "www-data"),
    ),
    "double-bounce": (
        returned(Q1, USER).replace(SENDER, "double-bounce@example.com") + sent(Q1),
        unsigned("local", "www-data"),
    ),
    "message-id": (
        submitted().replace("<1@x>", f"<1@x> {EVIL}") + sent(Q1),
        unsigned(*LOGIN),
    ),
    "message-id of a signed message": (
        submitted() + filtered(Q1, SIGNED) + END + returned(Q2, USER) + sent(Q2),
        unsigned("local", "www-data"),
    ),
    "login": (
        submitted()
        + filtered(Q1, SIGNED)
        + submitted(Q2, f"{STRANGER}, sasl_method=PLAIN, sasl_username=x, orig_queue_id={Q1}")
        + sent(Q2),
        unsigned("submission", f"postfix, login x, orig_queue_id={Q1}"),
    ),
    "from": (
        submitted()
        + returned()
        + filtered(Q1, "not signed: no From field; from=signed d=e.com s=m a=rsa-sha256"),
        None,
    ),
    "reason": (
        submitted()
        + returned()
        + filtered(Q1, 'not signed: no entry for "; signed d=a.b s=m a=rsa-sha256"@example.com')
        + sent(Q2),
        unsigned(*LOGIN, 'no entry for "'),
    ),
    "report of another service": (
        submitted()
        + returned()
        + filtered(Q1, SIGNED).replace("via dkimpipe service", "via mailman service")
        + sent(Q2),
        unsigned(*LOGIN, verdict.NO_REPORT),
    ),
    "another program of pipe(8)": (
        submitted() + returned() + filtered(Q1, SIGNED, service="mailman") + sent(Q2),
        UNKNOWN,
    ),
    "another program": (
        submitted() + filtered(Q1, SIGNED).replace("pipe ", "lmtp ") + returned() + sent(Q2),
        UNKNOWN,
    ),
    "milter line of another program": (
        submitted() + f"cleanup {Q1}: DKIM-Signature field added (s=od, d=example.com)\n" + sent(Q1),
        unsigned(*LOGIN),
    ),
    "in another line": (
        submitted() + f"cleanup {Q1}: warning: header Subject: {Q1}: {EVIL} from {STRANGER};\n" + sent(Q1),
        unsigned(*LOGIN),
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_text_of_others_proves_nothing(site: Site, name: str) -> None:
    text, verdict = FORGED[name]
    assert traced(site, [lines(text).encode()])[0] == ([verdict] if verdict else [])


def test_a_delivery_that_cannot_be_read_is_not_good(etc: Path, tmp_path: Path) -> None:
    text = submitted() + filtered(Q1, SIGNED) + returned() + sent(Q2, "<x> <y>")
    done = audit("-c", str(etc), "-", log=lines(text, recent()).encode())
    assert (done.status, b"1 deliveries that could not be read" in done.stdout) == (78, True)


def test_two_that_cannot_be_distinguished_are_counted_each(site: Site) -> None:
    """The same sender and Message-ID, one signed and one not, and both back before the first report."""
    text = submitted(Q1) + submitted(Q3) + returned(Q2) + returned("0AAAAAAAAAA")
    text += sent(Q2) + sent("0AAAAAAAAAA") + filtered(Q1, SIGNED) + filtered(Q3, NO_ENTRY)
    outcomes = [each.outcome for each in traced(site, [lines(text).encode()])[0]]
    assert sorted(outcomes) == ["signed", "unsigned"]


def test_no_more_signed_than_went_to_the_filter(site: Site) -> None:
    text = submitted() + filtered(Q1, SIGNED) + returned(Q2) + returned(Q3) + sent(Q2) + sent(Q3)
    assert [each.outcome for each in traced(site, [lines(text).encode()])[0]] == ["signed", "unknown"]


def test_of_two_that_cannot_be_distinguished_the_worse_one(site: Site) -> None:
    """Of two recipients of the first message one is left, because both are aliases of the same."""
    text = submitted(Q1) + filtered(Q1, SIGNED) + filtered(Q1, SIGNED, "c@y.test") + returned(Q2) + sent(Q2)
    text += submitted(Q3) + filtered(Q3, NO_ENTRY) + returned("0AAAAAAAAAA") + sent("0AAAAAAAAAA")
    outcomes = [each.outcome for each in traced(site, [lines(text).encode()])[0]]
    assert outcomes == ["signed", "unsigned"]


def test_many_recipients_in_several_runs(site: Site) -> None:
    text = submitted() + "".join(filtered(Q1, SIGNED, f"{number}@y.test") for number in range(4))
    text += returned(Q2).replace("nrcpt=1", "nrcpt=2") + returned(Q3).replace("nrcpt=1", "nrcpt=2")
    found, _, _ = traced(site, [lines(text + sent(Q2) + sent(Q3)).encode()])
    assert found == [SIGNED_VERDICT, SIGNED_VERDICT]


def test_a_queue_id_that_is_used_again(site: Site) -> None:
    """Its first life was signed by OpenDKIM, and has no end in the log."""
    signed = submitted() + f"opendkim {Q1}: DKIM-Signature field added (s=od, d=example.com)\n"
    assert traced(site, [lines(signed + submitted() + sent(Q1)).encode()])[0] == [unsigned(*LOGIN)]


# The report of the filter, as pipe(8) cuts it.
REPORTS = {
    "whole": (SIGNED, ((MAIL,), "", b"")),
    "domainkeys": (
        "signed d=example.com s=mail a=rsa-sha1 domainkeys; from=a",
        ((MAIL,), "", b""),
    ),
    "cut in the domain": (
        f"signed d={'a' * 63}.{'b' * 63}.com s=mail a=rsa-sha256",
        ((Signature(f"{'a' * 63}.{'b' * 17}...", "...", "dkimpipe"),), "", b""),
    ),
    "cut in the selector": (
        f"signed d={LONG_NAME} s=selector12345 a=rsa-sha256",
        ((Signature(LONG_NAME, "selector1234...", "dkimpipe"),), "", b""),
    ),
    "cut in the second": (
        f"signed d=example.com s=mail a=rsa-sha256, d={LONG_NAME} s=mail a=rsa-sha256",
        ((MAIL,), "", b""),
    ),
    "in part": (
        "signed d=example.com s=mail a=rsa-sha256; not signed: domainkeys d=x does not cover y",
        ((MAIL,), "", b""),
    ),
    "not cut, but not complete": ("signed d=example.com", ((), "", b"")),
    "nothing": ("signed ", ((), "", b"")),
    "reason": ("not signed: no From field; from=x", ((), "no From field", b"")),
    "reason, cut": (f"not signed: no entry for {'a' * 90}@x.test", ((), f"no entry for {'a' * 65}...", b"")),
    "an id of the sender": (
        f"signed d=example.com s=mail a=rsa-sha256; from=x; queued as {Q2}",
        ((MAIL,), "", b""),
    ),
    "UTF-8, cut": (f"not signed: no address in '{'ü' * 60}'", None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_of_the_filter(name: str) -> None:
    report, expected = REPORTS[name]
    octets = f"dkimpipe: {report}".encode()[:100]
    text = (
        b"bob@y.test>, relay=dkimpipe, dsn=2.0.0, status=sent (delivered via dkimpipe service (%b))" % octets
    )
    delivery = events.delivery(text)
    assert delivery
    found = events.filtered(delivery)
    assert found
    if expected:
        assert found[:3] == expected
    else:
        assert not found.signatures
        assert found.reason.isprintable()


# Time stamps: as they are written, the reference, and the time in UTC.
STAMPS = {
    "rsyslog": ("2026-11-27T07:02:05.123456+00:00", "2026-11-27 07:02:05"),
    "another zone": ("2026-11-27T07:02:05+05:30", "2026-11-27 01:32:05"),
    "west": ("2026-11-27T07:02:05.5-0800", "2026-11-27 15:02:05"),
    "journal": ("2026-11-27T07:02:05.123456+0100", "2026-11-27 06:02:05"),
    "UTC": ("2026-11-27T07:02:05Z", "2026-11-27 07:02:05"),
    "traditional": ("Nov 27 07:02:05", "2026-11-27 07:02:05"),
    "day of one digit": ("Nov  7 07:02:05", "2026-11-07 07:02:05"),
    "a day ahead": ("Nov 28 07:02:05", "2026-11-28 07:02:05"),
    "last year": ("Dec 31 23:59:59", "2025-12-31 23:59:59"),
    "29 February": ("Feb 29 12:00:00", "2024-02-29 12:00:00"),
}


@pytest.mark.parametrize("name", STAMPS)
def test_time_stamps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    stamp, expected = STAMPS[name]
    seconds = Clock(NOW).seconds(stamp.encode())
    assert seconds and time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) == expected


@pytest.mark.parametrize("stamp", ["2026-13-27T07:02:05Z", "Feb 30 07:02:05", "Nov 99 07:02:05"])
def test_time_stamps_that_are_none(stamp: str) -> None:
    Clock(NOW).seconds(stamp.encode())  # nothing is raised


def test_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    assert Clock(NOW).seconds(b"Nov 27 02:02:05") == NOW - 3600
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_turn_of_the_year(site: Site) -> None:
    reference = NOW + 40 * 86400  # 6 January 2027
    log = lines(submitted(Q1) + sent(Q1), "Dec 31 23:59:59") + lines(
        returned(Q2, USER) + sent(Q2), "Jan  1 00:00:00"
    )
    found, _, _ = traced(site, [log.encode()], reference - 7 * 86400, reference)
    assert [each.kind for each in found] == ["submission", "local"]


def test_the_same_days_of_last_year_do_not_count(site: Site) -> None:
    """A log that nobody rotates: without a year, its lines seem to be of this week."""
    old = lines(submitted(Q1) + sent(Q1), "Nov 26 07:02:05") + lines(
        submitted(Q1) + sent(Q1), "Dec 26 07:02:05"
    )
    log = old + lines(returned(Q2, USER) + sent(Q2), "Nov 26 08:02:05")
    assert [each.kind for each in traced(site, [log.encode()])[0]] == ["local"]


def test_only_what_left_within_the_time_counts(site: Site) -> None:
    before = lines(submitted() + returned() + filtered(Q1, SIGNED), "2026-11-19T07:02:05Z")
    log = before + lines(submitted(Q3) + sent(Q3), "2026-11-20T07:02:05Z") + lines(sent(Q2))
    assert traced(site, [log.encode()])[0] == [SIGNED_VERDICT]


# Lines with what other programs put around them.
PREFIXES = {
    "rsyslog": f"{STAMP} ",
    "traditional": "Nov 27 07:02:05 ",
    "docker logs --timestamps": "2026-11-27T07:02:05.123456789Z Nov 27 07:02:05 ",
    "docker compose": "mail-1  | Nov 27 07:02:05 ",
    "docker compose with time stamps": "mail-1  | 2026-11-27T07:02:05.123456789Z Nov 27 07:02:05 ",
    "Kubernetes": "2026-11-27T07:02:05.123456789Z stdout F Nov 27 07:02:05 ",
}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes(site: Site, name: str) -> None:
    text, verdict = WAYS["signed"]
    log = lines(text, "STAMP").replace("STAMP ", PREFIXES[name])
    assert traced(site, [log.encode()])[0] == [verdict]


# Files.

DAYS = 3
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
if shutil.which("zstd"):
    COMPRESSORS[".zst"] = lambda octets: subprocess.check_output(["zstd", "-cq"], input=octets)
NAMES = {
    "logrotate": ("log.1", "log.2{}", "log.3{}"),
    "dateext": ("log-20260103", "log-20260102{}", "log-20260101{}"),
    "postfix logrotate": ("log.20260103-010101", "log.20260102-010101{}", "log.20260101-010101{}"),
}


def written(path: Path, octets: bytes, days: float = 0) -> Path:
    """Return a file that was last written to so many days ago."""
    path.write_bytes(octets)
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


@pytest.fixture
def logs_to(etc: Path, tmp_path: Path) -> Path:
    """A configuration directory of a Postfix that logs to the file log in the test's directory."""
    directory = configuration(tmp_path / "etc")
    with (directory / "main.cf").open("a") as file:
        file.write(f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\n")
    return directory


def report(*arguments: str, status: int = 78, log: bytes | None = None) -> dict[str, int]:
    done = audit("--json", *arguments, log=log)
    assert (done.status, done.stderr) == (status, "")
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("scheme", NAMES)
def test_rotation(logs_to: Path, tmp_path: Path, scheme: str, compression: str) -> None:
    """A message goes through all the files: its beginning is in the oldest, and it leaves in the newest."""
    one, two, three = NAMES[scheme]
    parts = [submitted(), returned(), filtered(Q1, SIGNED) + END, sent(Q2)]
    compress = COMPRESSORS[compression]
    for age, (name, part) in enumerate(zip((three, two), parts)):
        octets = compress(lines(part, recent(3 - age)).encode())
        written(tmp_path / name.format(compression), octets, 3 - age)
    written(tmp_path / one, lines(parts[2], recent(1)).encode(), 1)
    written(tmp_path / "log", lines(parts[3], recent()).encode())
    written(tmp_path / "log.old", b"x")
    assert report("-c", str(logs_to), status=0)["signed"] == 1


def test_a_file_and_its_copy_in_compression(logs_to: Path, tmp_path: Path) -> None:
    octets = lines(submitted() + sent(Q1), recent()).encode()
    for name, text in (("log", b""), ("log.1", octets), ("log.1.gz", gzip.compress(octets)[:-9])):
        written(tmp_path / name, text)
    assert report("-c", str(logs_to))["unsigned"] == 1


def test_files_that_are_older_than_the_time_are_not_opened(logs_to: Path, tmp_path: Path) -> None:
    written(tmp_path / "log", lines(submitted() + sent(Q1), recent()).encode())
    written(tmp_path / "log.1.gz", b"not gzip", 8)
    assert report("-c", str(logs_to))["unsigned"] == 1


def test_the_order_of_the_arguments_does_not_matter(etc: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "a", lines(sent(Q2), recent()).encode())
    old = written(tmp_path / "b", lines(submitted() + returned() + filtered(Q1, SIGNED), recent(1)).encode())
    assert report("-c", str(etc), str(new), str(old), str(new), status=0)["left"] == 1


def test_a_last_line_without_an_end(etc: Path) -> None:
    log = lines(submitted() + sent(Q1).partition("\n")[0], recent()).rstrip("\n").encode()
    assert report("-c", str(etc), "-", log=log)["unsigned"] == 1


def test_lines_across_blocks(etc: Path) -> None:
    one = lines(submitted() + returned() + filtered(Q1, SIGNED) + END + sent(Q2), recent()).encode()
    noise = lines(f"smtpd connect from {STRANGER}\n", recent()).encode()
    count = 2 * (1 << 20) // len(one + noise)
    assert report("-c", str(etc), "-", log=(one + noise) * count, status=0)["signed"] == count


def test_a_line_without_end_takes_no_memory_and_hides_nothing(etc: Path) -> None:
    log = b"x" * (3 << 20) + b"\n" + lines(submitted() + sent(Q1), recent()).encode()
    assert report("-c", str(etc), "-", log=log)["unsigned"] == 1


def test_octets_that_are_not_utf_8(etc: Path) -> None:
    log = (
        lines(submitted() + sent(Q1), recent())
        .encode()
        .replace(b"a@example.com", b"\xff\x1b[2J@\xfe\x9b.test")
    )
    done = audit("-c", str(etc), "-", log=log)
    assert done.status == 78
    assert rb"\xfe\x9b.test: did not pass the filter" in done.stdout
    assert b"\x1b" not in done.stdout


# Errors.

ERRORS = {
    "missing": (["none"], "PATH/none: No such file or directory\nhint: name the log: dkimpipe audit FILE\n"),
    "directory": (["etc"], "PATH/etc: Is a directory\nhint: name the log: dkimpipe audit FILE\n"),
    "not compressed": (["bad.gz"], "PATH/bad.gz: Not a gzipped file (b'no')\n"),
    "truncated": (
        ["cut.gz"],
        "PATH/cut.gz: Compressed file ended before the end-of-stream marker was reached\n",
    ),
    "xz": (["bad.xz"], "PATH/bad.xz: Input format not supported by decoder\n"),
    "no Postfix": (
        ["other"],
        "PATH/other: no line of Postfix\nhint: run it as root, or name the log: dkimpipe audit FILE\n",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(etc: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "etc").mkdir()
    for file, octets in (
        ("bad.gz", b"not"),
        ("cut.gz", gzip.compress(lines(submitted(), recent()).encode())[:-20]),
        ("bad.xz", b"no xz file at all"),
        ("other", b"Nov 27 07:02:05 mx dovecot: imap\n"),
    ):
        (tmp_path / file).write_bytes(octets)
    files, said = ERRORS[name]
    done = audit("-c", str(etc), "--cron", *(str(tmp_path / file) for file in files))
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.replace(str(tmp_path), "PATH") == f"dkimpipe: {said}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_says_who_may_read_the_log(etc: Path) -> None:
    directory = Path("/tmp") / f"dkimpipe-audit-{os.getpid()}"
    directory.mkdir(mode=0o755)
    try:
        log = written(directory / "log", b"")
        log.chmod(0o640)
        os.chown(log, 0, 4)
        main, conf = directory / "dkimpipe", configuration(directory / "etc")
        shutil.copytree(PROJECT / "dkimpipe", main)
        command = ["/usr/bin/python3", "-I", str(main / "__main__.py"), "audit", "-c", str(conf), str(log)]
        done = subprocess.run(
            command, capture_output=True, user=65534, group=65534, extra_groups=[], check=False
        )
    finally:
        shutil.rmtree(directory)
    assert done.stderr.decode().replace(str(log), "LOG") == (
        "dkimpipe: LOG: Permission denied\nhint: run it as root, or as a user in the group adm\n"
    )
    assert done.returncode == 78


def test_a_log_that_is_no_file(etc: Path, tmp_path: Path) -> None:
    directory = configuration(tmp_path / "etc")
    with (directory / "main.cf").open("a") as file:
        file.write("maillog_file = /dev/stdout\n")
    done = audit("-c", str(directory))
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: Postfix logs to /dev/stdout, which cannot be read\n"
        "hint: read the log of the container: docker logs CONTAINER | dkimpipe audit -\n",
    )


@pytest.mark.parametrize("words", [["--since=x"], ["--json", "--cron"], ["--journal", "-"], ["--none"]])
def test_wrong_usage(words: list[str]) -> None:
    done = audit(*words)
    assert (done.status, done.stdout) == (64, b"")


# The journal: journalctl(1) is a program of the test, which writes down its arguments.


@pytest.fixture
def journalctl(tmp_path: Path) -> Iterator[Callable[[str, str], dict[str, str]]]:
    def make(output: str, end: str = "exit 0") -> dict[str, str]:
        directory = tmp_path / "bin"
        directory.mkdir()
        (tmp_path / "output").write_text(output)
        program = directory / "journalctl"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat {tmp_path}/output\n{end}\n'
        )
        program.chmod(0o755)
        return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}

    yield make


def test_the_journal(etc: Path, tmp_path: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    stamp = recent().replace("+00:00", "+0000")
    done = audit("-c", str(etc), "--journal", "--json", env=journalctl(lines(WAYS["signed"][0], stamp)))
    assert (done.status, json.loads(done.stdout)["signed"], done.stderr) == (0, 1, "")
    *options, since = (tmp_path / "arguments").read_text().split()
    assert options == list(logfiles.JOURNAL[1:])
    assert abs(int(since.removeprefix("--since=@")) - (time.time() - 8 * 86400)) < 60


def test_a_journal_that_may_not_be_read(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    env = journalctl("", "echo No journal files were opened due to insufficient permissions. >&2; exit 1")
    done = audit("-c", str(etc), "--journal", env=env)
    assert (done.status, done.stderr) == (
        78,
        "dkimpipe: the journal: No journal files were opened due to insufficient permissions.\n"
        "hint: run it as root, or as a user in the group systemd-journal\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_journal_of_which_only_a_part_can_be_read(tmp_path: Path) -> None:
    """A user who may not read the system's journal gets their own messages, and no word about it."""
    log = tmp_path / "0123" / "system.journal"
    log.parent.mkdir()
    log.write_bytes(b"")
    log.chmod(0o600)
    for each in (log.parent, tmp_path, *tmp_path.parents[:3]):
        each.chmod(0o755)
    assert logfiles.journal(0, [tmp_path]).name == "the journal"
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=f"{log}: Permission denied") as refused:
            logfiles.journal(0, [tmp_path])
    finally:
        os.seteuid(0)
    assert refused.value.hint == "run it as root, or as a user in the group systemd-journal"


MISSING = {
    "journalctl": (
        ["--journal"],
        "the journal: cannot run journalctl: No such file or directory\n"
        "hint: name the log: dkimpipe audit FILE\n",
    ),
    "zstd": (
        ["PATH/log.zst"],
        "PATH/log.zst: cannot run zstd: No such file or directory\nhint: apt install zstd\n",
    ),
}


@pytest.mark.parametrize("program", MISSING)
def test_a_program_that_is_missing(etc: Path, tmp_path: Path, program: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postconf").symlink_to(shutil.which("postconf") or "")
    (tmp_path / "log.zst").write_bytes(b"")
    words, said = MISSING[program]
    words = [word.replace("PATH", str(tmp_path)) for word in words]
    done = audit(
        "-c", str(etc), *words, env={**os.environ, "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}"}
    )
    assert (done.status, done.stderr.replace(str(tmp_path), "PATH")) == (78, f"dkimpipe: {said}")


def test_a_program_that_complains_a_lot(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    env = journalctl(lines(WAYS["signed"][0], recent()), "yes corrupted | head -c 300000 >&2")
    done = audit("-c", str(etc), "--journal", "--cron", env=env)
    assert (done.status, done.stderr.partition("\n")[0]) == (78, "dkimpipe: the journal: corrupted")


def test_a_line_end_in_the_journal_is_no_line(etc: Path, journalctl: Callable[..., dict[str, str]]) -> None:
    """journalctl indents what follows a line end in a message."""
    forged = "\n" + " " * 30 + lines(sent(Q1), recent())
    log = lines(submitted() + f"logger {Q1}: x", recent()).rstrip("\n") + forged
    done = audit("-c", str(etc), "--journal", "--json", env=journalctl(log))
    assert json.loads(done.stdout)["unsigned"] == 0


def test_the_real_journalctl_knows_the_options() -> None:
    if not shutil.which("journalctl"):
        pytest.skip("no journalctl")
    done = subprocess.run([*logfiles.JOURNAL, "--since=@1"], capture_output=True, check=False)
    assert b"option" not in done.stderr and b"Failed to parse" not in done.stderr


def test_a_file_of_a_former_syslog_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = written(tmp_path / "old", b"", 30), written(tmp_path / "new", b"")
    monkeypatch.setattr(logfiles, "USUAL", (old,))
    assert logfiles.usual(time.time() - 7 * 86400) is None
    monkeypatch.setattr(logfiles, "USUAL", (old, new))
    assert logfiles.usual(time.time() - 7 * 86400) == new


# The report.


DEFERRED = (
    f"smtp {Q3}: to=<x@dead.test>, relay=none, delay=0.01, delays=0.01/0/0/0, dsn=4.4.1, "
    "status=deferred (connect to dead.test[192.0.2.9]:25: Connection refused)\n"
)
BY_FILTER = (
    f"pipe {LONG[0]}: to=<x@dead.test>, relay=dkimpipe, delay=0.01, delays=0.01/0/0/0, dsn=4.3.5, "
    "status=deferred (dkimpipe: /etc/dkimpipe/senders, line 7: no closing parenthesis)\n"
)
TEXT = """\
log: standard input, TIME to TIME
left by SMTP since TIME: 5 messages
    the log does not reach further back than its first line
      1 signed
            1 d=example.com s=mail
      1 forwarded: mail of others, which is not signed
      1 of unknown source: the log does not have their beginning
      2 unsigned
            1 submission: postfix, login al, example.com: no entry for @example.org
                  dkimpipe genkey example.org
            1 local: www-data, example.com: did not pass the filter
                  dkimpipe postfix --apply --sign local
      2 deferred, still in the queue
            1 smtp: connect to dead.test[192.0.2.9]:25: Connection refused
            1 dkimpipe: dkimpipe: /etc/dkimpipe/senders, line 7: no closing parenthesis
"""


def everything() -> bytes:
    """Return a log with a message of each outcome, and two in the queue."""
    names = ("signed", "to an alias", "without a beginning", "no entry", "local")
    text = "".join(WAYS[name][0] for name in names).replace(
        "no entry for a@example.com", "no entry for a@example.org"
    )
    return lines(text + submitted(Q3) + DEFERRED + submitted(LONG[0]) + BY_FILTER, recent()).encode()


def test_the_text(etc: Path) -> None:
    done = audit("-c", str(etc), "-", log=everything())
    assert (done.status, done.stderr) == (78, "")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", done.stdout.decode()) == TEXT


def test_cron_prints_the_same_if_something_left_unsigned(etc: Path) -> None:
    done = audit("-c", str(etc), "--cron", "-", log=everything())
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", done.stdout.decode()) == TEXT


def test_cron_is_quiet_otherwise(etc: Path) -> None:
    log = lines(WAYS["signed"][0] + WAYS["to an alias"][0] + submitted(Q3) + DEFERRED, recent()).encode()
    assert audit("-c", str(etc), "--cron", "-", log=log) == (0, b"", "")


@pytest.mark.parametrize("name", ["without a beginning", "no entry", "bounce", "relayed"])
def test_cron_is_not_quiet(etc: Path, name: str) -> None:
    done = audit("-c", str(etc), "--cron", "-", log=lines(WAYS[name][0], recent()).encode())
    assert done.status == 78
    assert done.stdout


HINTS = {
    "no filter": "dkimpipe postfix --apply --sign submission",
    "network": "dkimpipe postfix --apply --sign networks",
    "bounce": "dkimpipe postfix --apply --sign bounces",
    "local": "dkimpipe postfix --apply --sign local",
    "relayed": "let these clients log in at the submission service, or add them to mynetworks",
    "no entry": "dkimpipe genkey example.com",
    "no address": "correct the From field in the program that writes this mail",
    "no From": "correct the From field in the program that writes this mail",
    "several From": "correct the From field in the program that writes this mail",
    "a filter that reports nothing": "see DIAGNOSTICS in dkimpipe(1)",
}


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (
            "no key for example.com",
            "dkimpipe explain postmaster@example.com names the key file that is missing",
        ),
        ("no key for [192.0.2.1]", "see DIAGNOSTICS in dkimpipe(1)"),
        ("no key for $(id)", "see DIAGNOSTICS in dkimpipe(1)"),
    ],
)
def test_the_command_for_a_domain_without_a_key(reason: str, hint: str) -> None:
    assert Row("submission", "postfix", "example.com", reason).hint == hint


@pytest.mark.parametrize("name", HINTS)
def test_the_command_that_would_have_it_signed(site: Site, name: str) -> None:
    counts = Counts()
    counts.add(WAYS[name][1])
    assert [row.hint for row in counts.unsigned] == [HINTS[name]]


def test_all_fields_without_an_address_are_one_cause() -> None:
    counts = Counts()
    for text in ("'Bob'", "'Eve \\'", "'" + "a" * 60 + "..."):
        counts.add(unsigned("local", "x", f"no address in {text}"))
    assert [(row.reason, number) for row, number in counts.unsigned.items()] == [("no address in From", 3)]


@pytest.mark.parametrize("domain", ["x;reboot", "$(reboot).test", "a..b", "x..."])
def test_a_domain_that_is_none_is_not_in_a_command(domain: str) -> None:
    counts = Counts()
    counts.add(unsigned("local", "x", f"no entry for a@{domain}"))
    assert [row.hint for row in counts.unsigned] == ["dkimpipe genkey DOMAIN"]


METRICS = """\
# HELP dkimpipe_audit_messages Messages that left by SMTP, by outcome.
# TYPE dkimpipe_audit_messages gauge
dkimpipe_audit_messages{outcome="signed"} 1
dkimpipe_audit_messages{outcome="unsigned"} 2
dkimpipe_audit_messages{outcome="forwarded"} 1
dkimpipe_audit_messages{outcome="unknown"} 1
# HELP dkimpipe_audit_not_followed Deliveries that could not be read or followed.
# TYPE dkimpipe_audit_not_followed gauge
dkimpipe_audit_not_followed 0
# HELP dkimpipe_audit_signed Signed messages, by signing domain and selector.
# TYPE dkimpipe_audit_signed gauge
dkimpipe_audit_signed{domain="example.com",selector="mail",by="dkimpipe"} 1
# HELP dkimpipe_audit_unsigned Unsigned messages, by kind and envelope domain.
# TYPE dkimpipe_audit_unsigned gauge
dkimpipe_audit_unsigned{kind="submission",domain="example.com"} 1
dkimpipe_audit_unsigned{kind="local",domain="example.com"} 1
# HELP dkimpipe_audit_deferred Messages in the queue after a failed attempt, by service.
# TYPE dkimpipe_audit_deferred gauge
dkimpipe_audit_deferred{service="smtp"} 1
dkimpipe_audit_deferred{service="dkimpipe"} 1
"""


def test_metrics(etc: Path, tmp_path: Path) -> None:
    path = tmp_path / "dkimpipe.prom"
    path.write_text("old")
    done = audit("-c", str(etc), "--prometheus", str(path), "-", log=everything())
    assert done.status == 78
    assert path.read_text().endswith(METRICS)
    assert [each.name for each in tmp_path.iterdir()] == ["dkimpipe.prom"]
    assert path.stat().st_mode & 0o777 == 0o644
    sample = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [0-9.]+|# (HELP|TYPE) .*')
    assert all(sample.fullmatch(line) for line in path.read_text().splitlines())


def test_labels_are_escaped_and_few(etc: Path, tmp_path: Path) -> None:
    path = tmp_path / "dkimpipe.prom"
    senders = [f'a@x{number}"\\\x07.test' for number in range(700)]
    text = "".join(submitted().replace(SENDER, sender) + sent(Q1) for sender in senders)
    done = audit("-c", str(etc), "--prometheus", str(path), "-", log=lines(text, recent()).encode())
    assert len(done.stdout.splitlines()) < 1100
    unsigned_lines = [
        line for line in path.read_text().splitlines() if line.startswith("dkimpipe_audit_unsigned{")
    ]
    assert len(unsigned_lines) == 51
    assert sum(int(line.rpartition(" ")[2]) for line in unsigned_lines) == 700
    assert all(r'\"\\\\x07.test"' in line or "(others)" in line for line in unsigned_lines)


# Memory and time.


def test_memory_does_not_grow_with_the_log(etc: Path, tmp_path: Path, report: Report) -> None:
    small, large = measured(etc, tmp_path, 20), measured(etc, tmp_path, 60)
    report(f"audit: {large}")
    assert large.cost.memory < 1.1 * small.cost.memory
