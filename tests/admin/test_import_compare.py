"""``dkimpipe import opendkim --compare``: what both sign messages with."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Keys
from opendkim import CONF, NEEDED, Shape, run_import

from dkimpipe.admin.migration.corpus import messages

pytestmark = NEEDED

SHAPE = Shape(
    {
        CONF: (
            "Mode s\nSenderHeaders Sender,From\nDomain example.com,example.org\nSelector mail\n"
            "KeyFile DIR/mail.private\n"
        )
    },
    {"mail.private": "rsa2048"},
)
MESSAGES = {
    "a.eml": "From: a@example.com\nSubject: x\nMessage-ID: <1@x>\n\nx\n",
    "b.eml": "From: a@example.net\n\nx\n",
    "c.eml": "From: a@example.com\nSender: b@example.org\n\nx\n",
    "d.eml": "From: a@example.com\nSender: b@example.net\n\nx\n",
}
SAME = """\
CORPUS/a.eml: same: d=example.com s=mail c=simple/simple; h= +from +message-id +message-id +subject
CORPUS/b.eml: same: nothing
CORPUS/c.eml: same: d=example.org s=mail c=simple/simple; h= +from +sender
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    directory = tmp_path / "corpus"
    directory.mkdir()
    for name, text in MESSAGES.items():
        (directory / name).write_text(text)
    return directory


def compared(tmp_path: Path, keys: Keys, *corpus: Path) -> tuple[int, str, str]:
    conf = SHAPE.write(tmp_path / "foreign", keys)
    done = run_import(conf, "--compare", *corpus)
    return done.status, done.stdout.decode().replace(str(tmp_path / "corpus"), "CORPUS"), done.stderr


def test_the_same_signatures_with_the_difference_of_their_fields(
    tmp_path: Path, keys: Keys, corpus: Path
) -> None:
    (corpus / "d.eml").unlink()
    expected = SAME + "3 messages, 0 of them with another d=, s= or c=\n"
    assert compared(tmp_path, keys, corpus) == (0, expected, "")


def test_a_difference_is_an_error(tmp_path: Path, keys: Keys, corpus: Path) -> None:
    expected = (
        "CORPUS/d.eml: differs: opendkim nothing; dkimpipe d=example.com s=mail c=simple/simple\n"
        "1 messages, 1 of them with another d=, s= or c=\n"
    )
    assert compared(tmp_path, keys, corpus / "d.eml") == (78, expected, "")


def test_mail_that_opendkim_defers_is_a_difference(tmp_path: Path, keys: Keys, corpus: Path) -> None:
    SHAPE.write(tmp_path / "foreign", keys)
    conf = tmp_path / "foreign/tables.conf"
    conf.write_text(
        f"KeyTable csl:k=example.com:k:{tmp_path}/foreign/mail.private\n"
        "SigningTable example.com=k,example.org=missing\n"
    )
    (corpus / "d.eml").write_text("From: a@example.org\n\n")
    done = run_import(conf, "--compare", corpus / "d.eml")
    assert done.status == 78
    assert done.stdout.decode().partition(": ")[2].startswith("differs: opendkim defers; dkimpipe nothing\n")


# Two messages, and mailboxes that contain them.
_ONE, _TWO = "From: a@example.com\n\nx\n", "From: a@example.net\n\nx\nFrom here\n>From there\n\n"
MAILBOXES = {
    "two messages": (
        f"From a@example.com Mon Jan  1 00:00:00 2024\n{_ONE}\nFrom b Mon Jan  1 00:00:00 2024\n{_TWO}"
    ),
    "CRLF": f"From a\n{_ONE}\nFrom b\n{_TWO}".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", MAILBOXES.values(), ids=MAILBOXES)
def test_the_messages_of_a_mailbox_are_compared_one_by_one(
    tmp_path: Path, keys: Keys, corpus: Path, text: str
) -> None:
    mailbox = corpus / "mbox"
    mailbox.write_bytes(text.encode())
    expected = (
        "CORPUS/mbox, message 1: same: d=example.com s=mail c=simple/simple; h= +from\n"
        "CORPUS/mbox, message 2: same: nothing\n"
        "2 messages, 0 of them with another d=, s= or c=\n"
    )
    assert compared(tmp_path, keys, mailbox) == (0, expected, "")


def test_a_mailbox_is_split_between_its_messages(tmp_path: Path) -> None:
    (tmp_path / "mbox").write_text(f"From a\n{_ONE}\nFrom b\n{_TWO}\nFrom c\nSubject: no end")
    found = [(each.name, each.path.read_text()) for each in messages([tmp_path / "mbox"], tmp_path)]
    assert found == [
        (f"{tmp_path}/mbox, message 1", _ONE),
        (f"{tmp_path}/mbox, message 2", _TWO),
        (f"{tmp_path}/mbox, message 3", "Subject: no end"),
    ]


def test_a_corpus_that_is_not_there(tmp_path: Path, keys: Keys) -> None:
    assert compared(tmp_path, keys, tmp_path / "corpus") == (
        78,
        "",
        f"dkimpipe: {tmp_path}/corpus: there is no such file\n",
    )
