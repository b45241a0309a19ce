"""``check --postfix``: what smtp_header_checks and its relatives change, by their tables."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import GOOD, check

from dkimpipe.admin.postfix import outgoing_checks
from dkimpipe.admin.postfix.outgoing_checks import Verdict
from dkimpipe.admin.postfix.postconf import Postconf

HARMLESS = {
    "Received": "/^Received:/ IGNORE",
    "user agent": "/^User-Agent:/ IGNORE\n/^X-Mailer:/ STRIP",
    "several names": "/^(Received|X-Originating-IP|User-Agent): / IGNORE",
    "several names with the colon": "/^(?:X-PHP-Script:|X-Mailer:)/ IGNORE",
    "names by their beginning": "/^X-M/ IGNORE",
    "an optional letter": "/^X-Foos?:/ IGNORE",
    "a field is replaced by itself": "/^Received: from [^ ]+ (.*)/ REPLACE Received: from localhost $1",
    "a field is added": "/^Subject:/ PREPEND X-Sent-By: mx",
    "only logged": "/^Subject:/ WARN\n/./ DUNNO\n/^To:/ INFO text",
    "within if": "if /^Received:/\n/ESMTPA/ IGNORE\nendif",
    "continued": "/^Received:/\n  IGNORE",
    "comments": "# /^Subject:/ IGNORE\n\n",
    "flags": "/^received:/im IGNORE",
}
CHANGED = {
    "Subject": "/^Subject: (.*)/ REPLACE Subject: $1 x",
    "in lower case": "/^subject:/ IGNORE",
    "one of several": "/^(X-Mailer|Message-ID):/ IGNORE",
    "From": "/^From: .*@a.example/ REPLACE From: b@example.com",
    "the signature": "/^DKIM-Signature:/ IGNORE",
    "of an entry": "/^X-Ours:/ IGNORE",
    "another name for it": "/^Date:/ REPLACE X-Date: y",
    "a second Subject": "/^Received:/ PREPEND Subject: x",
    "to a Subject": "/^X-Subject: (.*)/ REPLACE Subject: $1",
    "within if": "if /^Subject:/\n/secret/ REPLACE Subject: x\nendif",
    "a field that is not often there": "/^Reply-To:/ IGNORE",
}
UNSURE = {
    "anywhere": "/192\\.0\\.2\\.1/ IGNORE",
    "a beginning": "/^X-/ IGNORE",
    "all but one": "!/^Received:/ IGNORE",
    "an alternative": "/^Received:|secret/ IGNORE",
    "a list field": "/^Received:/ PREPEND List-Id: x",
    "a name of its own": "/^(.*): x/ REPLACE $1: y",
    "a rule that is not understood": "nonsense",
}


def judged(directory: Path, rules: str, parameter: str = "smtp_header_checks") -> Verdict | None:
    """Return the verdict on a table; an entry has X-Ours in h=."""
    table = directory / "table"
    if not table.exists():
        table.write_text(f"{rules}\n")
        (directory / "senders").write_text("example.com dkim(s=a,key=/k.pem,h=+x-ours)\n")
        main = directory / "master.cf"
        main.write_text(
            main.read_text().replace("--conf_file", f"--sender_map={directory}/senders --conf_file")
        )
        with (directory / "main.cf").open("a") as file:
            file.write(f"{parameter} = regexp:{table}\n")
    return outgoing_checks.verdict(Postconf(directory), parameter, "")


@pytest.mark.parametrize("rules", HARMLESS.values(), ids=HARMLESS)
def test_what_is_not_signed_may_be_changed(directory: Path, rules: str) -> None:
    assert judged(directory, rules) == ("", "", "")


@pytest.mark.parametrize("rules", CHANGED.values(), ids=CHANGED)
def test_what_is_signed_may_not(directory: Path, rules: str) -> None:
    found = judged(directory, rules)
    assert found is not None
    assert found[0] == "error"
    assert found[2] == ""


@pytest.mark.parametrize("rules", CHANGED.values(), ids=CHANGED)
def test_the_other_rules_stay(directory: Path, rules: str) -> None:
    """The hint, run by sh(1): the rules for privacy are still there."""
    other = "/^X-Mailer:/ IGNORE"
    found = judged(directory, f"{other}\n{rules}\n{other}")
    assert found is not None
    subprocess.run(["sh", "-ec", found.hint], check=True)
    assert judged(directory, "") == ("", "", "")
    assert (directory / "table").read_text().splitlines()[:: rules.count("\n") + 2] == [other, other]


@pytest.mark.parametrize("rules", UNSURE.values(), ids=UNSURE)
def test_what_is_not_known_may_be_harmful(directory: Path, rules: str) -> None:
    found = judged(directory, rules)
    assert found is None or found == ("warning", "may change what is signed", "")


OTHERS = {
    "attachments": ("smtp_mime_header_checks", "/^Content-Type:/ IGNORE", "error"),
    "attachments, no field of theirs": ("smtp_mime_header_checks", "/^X-Mailer:/ IGNORE", ""),
    "attachments, any field": ("smtp_mime_header_checks", "/name=/ IGNORE", "warning"),
    "attached messages": ("smtp_nested_header_checks", "/^Received:/ IGNORE", "error"),
    "attached messages, logged": ("smtp_nested_header_checks", "/^Received:/ WARN", ""),
    "body": ("smtp_body_checks", "/secret/ REPLACE x", "error"),
    "body, logged": ("smtp_body_checks", "/secret/ INFO x", ""),
}


@pytest.mark.parametrize(("parameter", "rules", "level"), OTHERS.values(), ids=OTHERS)
def test_the_body_is_signed(directory: Path, parameter: str, rules: str, level: str) -> None:
    found = judged(directory, rules, parameter)
    assert found is not None
    assert found.level == level


def test_rules_for_privacy_are_good(directory: Path) -> None:
    """In main.cf as it stands, and also for one service."""
    edits = ["smtp_header_checks=regexp:{{/^Received:/ IGNORE} {/^User-Agent:/ IGNORE}}"]
    subprocess.run(["postconf", "-c", str(directory), "-e", *edits], check=True)
    assert check(directory) == GOOD
