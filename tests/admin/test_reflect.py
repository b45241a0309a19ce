"""``dkimpipe reflect``: whom it answers, what with, and how often."""

from __future__ import annotations

import email
import email.policy
import os
import time
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
from conftest import MESSAGE, Done

from dkimpipe.admin import responder

TRY_AGAIN = 75
ALIAS = "dkim-test@mx.example"


class Alias(NamedTuple):
    """What local(8) runs for an alias, with a sendmail(1) that writes its mail to a file."""

    directory: Path
    sendmail: Path
    sent: Path
    conf: Path

    def deliver(
        self,
        message: bytes = MESSAGE,
        sender: str = "alice@example.com",
        *options: str,
        recipient: str = ALIAS,
    ) -> Done:
        """Deliver a message as local(8) does."""
        top = f"From {sender} Fri Nov 27 10:00:00 2026\nReturn-Path: <{sender}>\nDelivered-To: {ALIAS}\n"
        words = f"--directory={self.directory} --sendmail={self.sendmail} --conf-file={self.conf}".split()
        env = {"PATH": os.environ["PATH"], "SENDER": sender, "RECIPIENT": recipient}
        done = forked.run("reflect", *words, *options, stdin=os.fsencode(top) + message, env=env)
        return Done(*done[:3])

    def reply(self) -> EmailMessage | None:
        """Return the reply, None if there is none."""
        if not self.sent.exists():
            return None
        return email.message_from_bytes(self.sent.read_bytes(), policy=email.policy.default)


@pytest.fixture
def alias(tmp_path: Path) -> Alias:
    directory = tmp_path / "reflect"
    directory.mkdir(0o700)
    sent, sendmail = tmp_path / "sent", tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\nprintf "X-Arguments: %s\\n" "$*" > {sent}\ncat >> {sent}\n')
    sendmail.chmod(0o755)
    conf = tmp_path / "verify.conf"
    conf.touch()
    return Alias(directory, sendmail, sent, conf)


def test_the_reply(alias: Alias) -> None:
    message = b"Subject: =?utf-8?q?t=C3=A4st?=\nMessage-ID: <1@example.com>\n" + MESSAGE.replace(
        b"Subject: ", b"X-Subject: "
    ).replace(b"Message-ID: ", b"X-Message-ID: ")
    assert alias.deliver(message) == Done(0, b"", "")
    reply = alias.reply()
    assert reply
    assert reply["X-Arguments"] == "-i -f  -- alice@example.com"
    wanted = {
        "From": ALIAS,
        "To": "alice@example.com",
        "Subject": "Re: täst",
        "In-Reply-To": "<1@example.com>",
        "References": "<1@example.com>",
        "Auto-Submitted": "auto-replied",
    }
    assert {name: reply[name] for name in wanted} == wanted
    assert reply.get_content() == "no signature\n"


@pytest.mark.parametrize(
    ("recipient", "shown"),
    [
        ("dkim-test+a@mx.example", "dkim-test+a@mx.example"),
        ("t@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "t@xn--bcher-kva.example"),
    ],
)
def test_the_address_of_the_alias(alias: Alias, recipient: str, shown: str) -> None:
    assert alias.deliver(recipient=recipient) == Done(0, b"", "")
    reply = alias.reply()
    assert reply
    assert reply["From"] == shown
    assert reply["Message-ID"].endswith(f"@{shown.partition('@')[2]}>")


@pytest.mark.parametrize(
    ("recipient", "cause"),
    [
        ("t+:;@example.com", "cannot be written in From: 't+:;@example.com'"),
        ("t\udcff@example.com", "cannot be written in From: 't\\xff@example.com'"),
        (
            "\N{LATIN SMALL LETTER U WITH DIAERESIS}@example.com",
            "cannot be written in From: '\xfc@example.com'",
        ),
        ("t@\udcff.example", "cannot be written in From: 't@\\xff.example'"),
        ("t", "is unknown"),
        ("", "is unknown"),
    ],
)
def test_an_alias_that_cannot_be_in_from(alias: Alias, recipient: str, cause: str) -> None:
    done = alias.deliver(recipient=recipient)
    assert (done.status, done.stderr) == (
        TRY_AGAIN,
        f"4.3.0 dkimpipe: the address of the alias {cause}\nhint: dkimpipe reflect --from=ADDRESS\n",
    )
    assert alias.deliver(MESSAGE, "", recipient=recipient) == Done(0, b"", "")  # it needs no reply
    assert alias.reply() is None
    assert alias.deliver(MESSAGE, "alice@example.com", f"--from={ALIAS}", recipient=recipient).status == 0
    assert alias.reply()


NOT_ANSWERED: dict[str, tuple[str, bytes]] = {
    "null sender": ("", b""),
    "null sender as local(8) names it": ("MAILER-DAEMON", b""),
    "a program": ("mailer-daemon@example.com", b""),
    "a list's owner": ("owner-list@example.com", b""),
    "a list's bounces": ("list-bounces+bob=example.com@example.com", b""),
    "noreply": ("no-reply@example.com", b""),
    "automatic": ("alice@example.com", b"Auto-Submitted: auto-generated\n"),
    "automatic, with a parameter": ("alice@example.com", b"Auto-Submitted: auto-replied; a=b\n"),
    "bulk": ("alice@example.com", b"Precedence: Bulk\n"),
    "list": ("alice@example.com", b"List-Id: <a.example.com>\n"),
    "campaign": ("alice@example.com", b"Feedback-ID: 1:2:3\n"),
    **{
        name: ("alice@example.com", f"{name}: x\n".encode())
        for name in (
            *("List-Archive", "List-Owner", "LIST-SUBSCRIBE", "List-Unknown", "X-Mailing-List"),
            *("X-Failed-Recipients", "X-Autoreply", "X-Autorespond"),
        )
    },
    "bulk, with a comment": ("alice@example.com", b"Precedence: bulk (x)\n"),
    "report": ("alice@example.com", b"Content-Type: Multipart/Report; report-type=delivery-status\n"),
    **{
        name: (f"{name}@example.com", b"")
        for name in (
            *("bounce", "Bounces", "bounces+bob=example.com", "bounce-123", "no_reply", "no.reply"),
            *("noreply-123", "do.not.reply", "daemon", "nobody", "auto-reply", "autoreply"),
        )
    },
    "two addresses": ("alice@example.com,bob@example.com", b""),
    "an option": ("-v", b""),
    "line break": ("alice\n@example.com", b""),
    "long": ("a" * 250 + "@example.com", b""),
    "quoted": ('"a b"@example.com', b""),
    "not UTF-8": ("a\udcff@example.com", b""),
}


@pytest.mark.parametrize(("sender", "field"), NOT_ANSWERED.values(), ids=NOT_ANSWERED)
def test_no_reply(alias: Alias, sender: str, field: bytes) -> None:
    assert alias.deliver(field + MESSAGE, sender) == Done(0, b"", "")
    assert alias.reply() is None
    assert list(alias.directory.iterdir()) == []


ANSWERED: dict[str, tuple[str, bytes]] = {
    "not automatic": ("alice@example.com", b"Auto-Submitted: no\n"),
    "multipart": ("alice@example.com", b"Content-Type: multipart/mixed; boundary=report\n"),
    "another precedence": ("alice@example.com", b"Precedence: listless\n"),
    "similar to a program": ("bouncer@example.com", b"Listen: a\n"),
    "begins as a program": ("nobody.else@example.com", b""),
    "first class": ("alice@example.com", b"Precedence: first-class\n"),
    "extension": ("alice+test@example.com", b""),
    "hyphen": ("-alice@example.com", b""),
    "UTF-8": ("j\N{LATIN SMALL LETTER O WITH DIAERESIS}rg@example.com", b""),
}


@pytest.mark.parametrize(("sender", "field"), ANSWERED.values(), ids=ANSWERED)
def test_others_are_answered(alias: Alias, sender: str, field: bytes) -> None:
    assert alias.deliver(field + MESSAGE, sender) == Done(0, b"", "")
    reply = alias.reply()
    assert reply
    assert reply["X-Arguments"] == f"-i -f  -- {sender}"
    assert f"\nTo: {sender}\n".encode() in alias.sent.read_bytes()


IDENTIFIERS = {
    "usual": (b"<1@example.com>", True),
    "as long as a line": (b"<" + b"a" * 78 + b"@example.com>", True),
    "250 octets": (b"<" + b"a" * 236 + b"@example.com>", True),
    "251 octets": (b"<" + b"a" * 237 + b"@example.com>", False),
    "encoded word": (b"<=?utf-8?q?=0ABcc:x?=@example.com>", True),
}


@pytest.mark.parametrize(("identifier", "is_kept"), IDENTIFIERS.values(), ids=IDENTIFIERS)
def test_the_message_it_answers(alias: Alias, identifier: bytes, is_kept: bool) -> None:
    alias.deliver(b"Message-ID: " + identifier + b"\nFrom: alice@example.com\n\nhi\n")
    sent = alias.sent.read_bytes()
    for name in (b"In-Reply-To", b"References"):
        assert (b"\n%s: %s\n" % (name, identifier) in sent) == is_kept
        assert (name in sent) == is_kept


def test_one_reply_an_hour(alias: Alias) -> None:
    for sender, is_answered in (("a@example.com", True), ("A@Example.com", False), ("b@example.com", True)):
        alias.deliver(MESSAGE, sender)
        assert bool(alias.reply()) == is_answered, sender
        alias.sent.unlink(missing_ok=True)
    for file in alias.directory.iterdir():
        os.utime(file, (time.time() - 3601,) * 2)
    alias.deliver(MESSAGE, "a@example.com")
    assert alias.reply()
    assert len(list(alias.directory.iterdir())) == 1


def test_no_more_than_100_an_hour(tmp_path: Path) -> None:
    replies = responder.Replies(tmp_path)
    now = time.time()
    assert {replies.refusal(b"%d@example.com" % number, now) for number in range(100)} == {""}
    assert replies.refusal(b"100@example.com", now) == "100 replies within the hour"
    assert replies.refusal(b"100@example.com", now + 3601) == ""


def test_what_fails_is_tried_again(alias: Alias) -> None:
    alias.sendmail.write_text("#!/bin/sh\nexit 75\n")
    done = alias.deliver()
    assert (done.status, done.stderr) == (
        TRY_AGAIN,
        f"4.3.0 dkimpipe: {alias.sendmail} ended with exit status 75\n",
    )
    assert list(alias.directory.iterdir()) == []


def test_without_a_memory_there_is_no_reply(alias: Alias) -> None:
    alias.directory.rmdir()
    done = alias.deliver()
    assert (done.status, done.stderr) == (
        TRY_AGAIN,
        f"4.3.0 dkimpipe: {alias.directory}: No such file or directory\n"
        f"hint: install -d -m 0700 -o root {alias.directory}\n",
    )
    assert alias.reply() is None


def test_a_large_message_is_read_and_not_answered(alias: Alias) -> None:
    assert alias.deliver(MESSAGE + b"a" * (11 << 20)) == Done(0, b"", "")
    assert alias.reply() is None


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        (b"Subject: a\n b\n", "Re: a b"),
        (b"Subject: =?utf-8?q?a=0D=0ABcc:_eve@example.com?=\n", "Re: a\\r\\nBcc: eve@example.com"),
        (b"Subject: =?x?q?a?=\n", "Re: =?x?q?a?="),
        (b"Subject: =?us-ascii?b?a?=\n", "Re: =?us-ascii?b?a?="),
        (b"Subject: =?utf-7?q?+2AA-?=\n", "Re: \\ud800"),
        (b"Subject: " + b"\xc3\xa4" * 300 + b"\n", "Re: " + "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 200),
        (b"Subject: " + b"a" * 500 + b"\n", f"Re: {'a' * 200}"),
        (b"Subject: \xff\n", "Re: \N{REPLACEMENT CHARACTER}"),
        (b"", "Re: "),
    ],
)
def test_the_subject_cannot_inject(alias: Alias, field: bytes, subject: str) -> None:
    alias.deliver(field + b"Message-ID: <a>\x0d<b>\nFrom: alice@example.com\n\nhi\n")
    reply = alias.reply()
    assert reply
    assert (reply["Subject"] or "").strip() == subject.strip()
    assert reply["Bcc"] is None
    assert reply["In-Reply-To"] is None
