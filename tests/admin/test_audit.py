"""``dkimpipe audit``: from lines of a log to verdicts, counts and reports. Whole ways: tests/postfix."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from auditing import (
    AMAVIS,
    END,
    FORWARDED,
    LOGIN,
    LONG,
    LONG_NAME,
    MAIL,
    NO_ENTRY,
    OPENDKIM,
    Q1,
    Q2,
    Q3,
    SENDER,
    SIGNED,
    SIGNED_VERDICT,
    SIGNER,
    STRANGER,
    UNKNOWN,
    USER,
    VERIFIER,
    audit,
    filtered,
    lines,
    measured,
    queued,
    recent,
    returned,
    sent,
    submitted,
    traced,
    unsigned,
)
from conftest import Report

from dkimpipe.admin.audit import events, verdict
from dkimpipe.admin.audit.events import Signature
from dkimpipe.admin.audit.report import Counts
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.verdict import Verdict

if not shutil.which("postconf"):
    pytest.skip("the tests of audit need Postfix's postconf", allow_module_level=True)

OTHER_USER = 2  # bin
DEFERRED_BY_FILTER = (
    f"pipe {Q1}: to=<bob@example.net>, relay=dkimpipe, delay=0.01, delays=0.01/0/0/0, dsn=4.3.5, "
    "status=deferred (dkimpipe: /etc/dkimpipe/senders, line 2: key file k.pem: Permission denied)\n"
)


def by_other_filter(text: str = "delivered", orig_to: str = "orig_to=<b@alias.test>, ") -> str:
    """Return the line of pipe(8) for another filter, which got the recipient that an alias leads to."""
    return (
        f"pipe {Q1}: to=<bob@example.net>, {orig_to}relay=spamassassin, delay=1, delays=0/0/0/1, "
        f"dsn=2.0.0, status=sent (delivered via spamassassin service ({text}))\n" + END
    )


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
        unsigned("bounces", verdict.NOTICE),
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
    "queued anew before it was signed": (
        submitted()
        + DEFERRED_BY_FILTER
        + f"pickup {Q3}: uid=103 from=<{SENDER}> orig_id={Q1}\n"
        + queued(Q3, SENDER)
        + sent(Q3),
        unsigned(*LOGIN, verdict.REQUEUED),
    ),
    "queued anew before any attempt": (
        submitted() + f"pickup {Q3}: uid=103 from=<{SENDER}> orig_id={Q1}\n" + queued(Q3, SENDER) + sent(Q3),
        unsigned(*LOGIN, verdict.REQUEUED),
    ),
    "queued anew, but not from the filter": (
        submitted()
        + sent(Q1).replace("status=sent", "status=deferred").replace(END, "")
        + f"pickup {Q3}: uid=103 from=<{SENDER}> orig_id={Q1}\n"
        + queued(Q3, SENDER)
        + sent(Q3),
        unsigned(*LOGIN),
    ),
    "queued anew, and then signed": (
        submitted()
        + f"pickup {Q3}: uid=103 from=<{SENDER}> orig_id={Q1}\n"
        + queued(Q3, SENDER)
        + returned()
        + filtered(Q3, SIGNED)
        + sent(Q2),
        SIGNED_VERDICT,
    ),
    "through another filter, to an alias": (
        submitted(client=STRANGER) + by_other_filter() + returned(uid=OTHER_USER) + sent(Q2),
        FORWARDED,
    ),
    "through another filter, reported last": (
        submitted(client=STRANGER) + returned(uid=OTHER_USER) + sent(Q2) + by_other_filter(),
        FORWARDED,
    ),
    "through another filter, without a Message-ID": (
        submitted(client=STRANGER).replace("<1@x>", "<>")
        + by_other_filter()
        + returned(uid=OTHER_USER)
        + sent(Q2),
        FORWARDED,
    ),
    "through another filter, from a login": (
        submitted() + by_other_filter() + returned(uid=OTHER_USER) + sent(Q2),
        unsigned(*LOGIN),
    ),
    "through another filter, and relayed": (
        submitted(client=STRANGER) + by_other_filter(orig_to="") + returned(uid=OTHER_USER) + sent(Q2),
        unsigned("relayed", "postfix, client 203.0.113.9"),
    ),
    "through another filter, and dkimpipe": (
        submitted(client=STRANGER)
        + submitted(Q2, "localhost[127.0.0.1], orig_client=unknown[0.0.0.0]")
        + by_other_filter(f"dkimpipe: not signed: client 0.0.0.0 did not log in; queued as {Q2}")
        + sent(Q2),
        FORWARDED,
    ),
    "through another filter, and back by SMTP": (
        submitted(client=STRANGER) + by_other_filter() + submitted(Q2, "localhost[127.0.0.1]") + sent(Q2),
        FORWARDED,
    ),
    "by the user of another filter": (
        returned(Q1, OTHER_USER) + sent(Q1),
        unsigned("local", "bin"),
    ),
    "another message by the user of another filter": (
        submitted(client=STRANGER)
        + by_other_filter()
        + returned(uid=OTHER_USER).replace("<1@x>", "<2@x>")
        + sent(Q2),
        unsigned("local", "bin"),
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
def test_the_way_of_a_message(audited: Site, name: str) -> None:
    text, verdict = WAYS[name]
    assert traced(audited, [lines(text).encode()])[0] == [verdict]


@pytest.mark.parametrize("name", WAYS)
def test_long_queue_ids(audited: Site, name: str) -> None:
    text, verdict = WAYS[name]
    for short, long in zip((Q1, Q2), LONG):
        text = text.replace(short, long)
    assert traced(audited, [lines(text).encode()])[0] == [verdict]


@pytest.mark.parametrize("name", [name for name in WAYS if not name.startswith("by ")])
def test_another_instance(audited: Site, name: str) -> None:
    text, verdict = WAYS[name]
    found = traced(audited, [lines(text, path="postfix-out/").encode()])[0]
    assert found == [verdict._replace(source=verdict.source.replace("postfix,", "postfix-out,"))]


def test_instances_have_queue_ids_of_their_own(audited: Site) -> None:
    one, other = lines(submitted()), lines(returned(Q1, USER), path="postfix-out/")
    ends = lines(sent(Q1), path="postfix-out/") + lines(sent(Q1))
    found, _, _ = traced(audited, [(one + other + ends).encode()])
    assert found == [unsigned("local", "www-data"), unsigned(*LOGIN)]


# Services of an instance with a syslog_name of their own, such as the listener for mail that comes back.
OTHER_NAMES = {
    "the listener": ("postfix-two/", "postfix/dkimpipe/"),
    "the listener of the default instance": ("postfix/", "postfix-two/dkimpipe/"),
    "submission": ("postfix-two/", "postfix/submission/"),
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_service_with_another_name_than_its_instance(audited: Site, name: str) -> None:
    instance, service = OTHER_NAMES[name]
    relayed = filtered(Q1, f"signed d=example.com s=mail a=rsa-sha256; queued as {Q2}")
    back = submitted(Q2, f"localhost[127.0.0.1], orig_queue_id={Q1}").replace("smtpd ", f"{service}smtpd ")
    for text in (returned(Q1, USER) + back + relayed + END, returned(Q1, USER) + relayed + END + back):
        log = lines(text + sent(Q2), path=instance)
        assert traced(audited, [log.encode()])[0] == [SIGNED_VERDICT]


def test_the_same_queue_id_at_once_in_two_instances(audited: Site) -> None:
    """Of the one that cleanup(8) has seen already, nothing is taken for the other."""
    one = lines(submitted(), path="postfix/")
    other = lines(queued(Q1, SENDER) + sent(Q1), path="postfix-two/")
    found, _, _ = traced(audited, [(one + other + lines(sent(Q1))).encode()])
    assert found == [UNKNOWN, unsigned(*LOGIN)]


def test_what_was_queued_anew_is_not_in_the_queue_under_its_old_id(audited: Site) -> None:
    """postsuper -r ALL logs one line for all."""
    text, _ = WAYS["queued anew before it was signed"]
    assert traced(audited, [lines(text).encode()])[1] == []


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
def test_what_has_not_left(audited: Site, name: str) -> None:
    assert traced(audited, [lines(submitted() + HERE[name]).encode()])[0] == []


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
def test_text_of_others_proves_nothing(audited: Site, name: str) -> None:
    text, verdict = FORGED[name]
    assert traced(audited, [lines(text).encode()])[0] == ([verdict] if verdict else [])


def test_a_delivery_that_cannot_be_read_is_not_good(etc: Path, tmp_path: Path) -> None:
    text = submitted() + filtered(Q1, SIGNED) + returned() + sent(Q2, "<x> <y>")
    done = audit("-c", str(etc), "-", log=lines(text, recent()).encode())
    assert (done.status, b"1 deliveries that could not be read" in done.stdout) == (78, True)


def test_two_that_cannot_be_distinguished_are_counted_each(audited: Site) -> None:
    """The same sender and Message-ID, one signed and one not, and both back before the first report."""
    text = submitted(Q1) + submitted(Q3) + returned(Q2) + returned("0AAAAAAAAAA")
    text += sent(Q2) + sent("0AAAAAAAAAA") + filtered(Q1, SIGNED) + filtered(Q3, NO_ENTRY)
    outcomes = [each.outcome for each in traced(audited, [lines(text).encode()])[0]]
    assert sorted(outcomes) == ["signed", "unsigned"]


def test_no_more_signed_than_went_to_the_filter(audited: Site) -> None:
    text = submitted() + filtered(Q1, SIGNED) + returned(Q2) + returned(Q3) + sent(Q2) + sent(Q3)
    assert [each.outcome for each in traced(audited, [lines(text).encode()])[0]] == ["signed", "unknown"]


def test_of_two_that_cannot_be_distinguished_the_worse_one(audited: Site) -> None:
    """Of two recipients of the first message one is left, because both are aliases of the same."""
    text = submitted(Q1) + filtered(Q1, SIGNED) + filtered(Q1, SIGNED, "c@y.test") + returned(Q2) + sent(Q2)
    text += submitted(Q3) + filtered(Q3, NO_ENTRY) + returned("0AAAAAAAAAA") + sent("0AAAAAAAAAA")
    outcomes = [each.outcome for each in traced(audited, [lines(text).encode()])[0]]
    assert outcomes == ["signed", "unsigned"]


def test_many_recipients_in_several_runs(audited: Site) -> None:
    text = submitted() + "".join(filtered(Q1, SIGNED, f"{number}@y.test") for number in range(4))
    text += returned(Q2).replace("nrcpt=1", "nrcpt=2") + returned(Q3).replace("nrcpt=1", "nrcpt=2")
    found, _, _ = traced(audited, [lines(text + sent(Q2) + sent(Q3)).encode()])
    assert found == [SIGNED_VERDICT, SIGNED_VERDICT]


def test_a_queue_id_that_is_used_again(audited: Site) -> None:
    """Its first life was signed by OpenDKIM, and has no end in the log."""
    signed = submitted() + f"opendkim {Q1}: DKIM-Signature field added (s=od, d=example.com)\n"
    assert traced(audited, [lines(signed + submitted() + sent(Q1)).encode()])[0] == [unsigned(*LOGIN)]


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
                  if example.org is your domain: dkimpipe setup -c ETC example.org, AGAIN
            1 local: www-data, example.com: did not pass the filter
                  dkimpipe postfix -c ETC --apply --sign local
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


def _constant(output: bytes, directory: Path) -> str:
    """Return output without what differs between runs."""
    text = output.decode().replace(str(directory), "ETC")
    text = text.replace("and again when DNS has its record", "AGAIN")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)


def test_the_text(etc: Path) -> None:
    done = audit("-c", str(etc), "-", log=everything())
    assert (done.status, done.stderr) == (78, "")
    assert _constant(done.stdout, etc) == TEXT


def test_cron_prints_the_same_if_something_left_unsigned(etc: Path) -> None:
    done = audit("-c", str(etc), "--cron", "-", log=everything())
    assert _constant(done.stdout, etc) == TEXT


def test_cron_is_quiet_otherwise(etc: Path) -> None:
    log = lines(WAYS["signed"][0] + WAYS["to an alias"][0] + submitted(Q3) + DEFERRED, recent()).encode()
    assert audit("-c", str(etc), "--cron", "-", log=log) == (0, b"", "")


@pytest.mark.parametrize("name", ["without a beginning", "no entry", "bounce", "relayed"])
def test_cron_is_not_quiet(etc: Path, name: str) -> None:
    done = audit("-c", str(etc), "--cron", "-", log=lines(WAYS[name][0], recent()).encode())
    assert done.status == 78
    assert done.stdout


def test_all_fields_without_an_address_are_one_cause() -> None:
    counts = Counts()
    for text in ("'Bob'", "'Eve \\'", "'" + "a" * 60 + "..."):
        counts.add(unsigned("local", "x", f"no address in {text}"))
    assert [(row.reason, number) for row, number in counts.unsigned.items()] == [("no address in From", 3)]


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
# HELP dkimpipe_audit_not_understood Logs of which something was not understood.
# TYPE dkimpipe_audit_not_understood gauge
dkimpipe_audit_not_understood 0
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
