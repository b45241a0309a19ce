"""``dkimpipe check`` without options: files, keys, Postfix and DNS; what it leaves out; the options."""

from __future__ import annotations

import json
import time

import pytest
from installing import IS_SET_UP, KEY, dkimpipe
from throwaway import Machine

SENDERS = "/etc/dkimpipe/senders"
GOOD_FILES = f"{SENDERS} and 1 signature is good"
NOTE = IS_SET_UP.partition("\n")[2]
NO_DNS = "dkimpipe: warning: DNS was not checked: the resolver gave no answer within 5 s\n"
OWNER = "s1._domainkey.example.com"


@pytest.fixture
def alone(signing: Machine) -> Machine:
    """A copy where example.com is signed for, and no resolver answers: nothing listens there."""
    resolver = signing.root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.write_text("nameserver 127.0.0.127\n")
    return signing


FAULTS = {
    "a key was deleted": (f"rm /{KEY}", f"{SENDERS}, line 2: key file /{KEY}: No such file or directory"),
    "others can read a key": (
        f"chmod 0644 /{KEY}",
        f"{SENDERS}, line 2: key file /{KEY} is readable by others",
    ),
    "the filter's user cannot read a key": (
        f"chgrp root /{KEY}",
        f"{SENDERS}, line 2: key file /{KEY}: user dkimpipe cannot read it",
    ),
    "an error in the senders file": (
        f"echo 'example.org dkim(s=a' >> {SENDERS}",
        f"{SENDERS}, line 3: no closing parenthesis: 'dkim(s=a'",
    ),
}


@pytest.mark.parametrize("options", [(), ("--postfix",)], ids=["everything", "Postfix"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_defers_mail_is_an_error(alone: Machine, fault: str, options: tuple[str, ...]) -> None:
    command, what = FAULTS[fault]
    alone.shell(command)
    done = dkimpipe(alone, "check", *options)
    assert (done.status, done.stderr) == (78, "")
    assert f"dkimpipe: error: {what}" in done.stdout
    assert "Postfix is set up" not in done.stdout


@pytest.mark.parametrize("options", [(), ("--postfix",), ("--files", "--postfix")], ids=str)
def test_a_program_that_is_gone_is_an_error(alone: Machine, options: tuple[str, ...]) -> None:
    alone.shell("sed -i 's|/opt/dkimpipe/|/srv/gone/|' /etc/postfix/master.cf")
    done = dkimpipe(alone, "check", *options)
    assert done.status == 78
    assert done.stdout.startswith("dkimpipe: error: ")
    assert "/srv/gone/" in done.stdout


def test_without_dns_the_rest_is_checked_and_it_says_so(alone: Machine) -> None:
    begin = time.monotonic()
    done = dkimpipe(alone, "check")
    assert (done.status, done.stdout, done.stderr) == (0, NO_DNS + NOTE, "")
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("options", "success"),
    [
        (("--files",), f"{GOOD_FILES}; DNS was not checked"),
        (("--files", "--postfix"), f"{GOOD_FILES}; Postfix is set up; DNS was not checked"),
        (("--postfix",), "Postfix is set up"),
    ],
    ids=["files", "files and Postfix", "Postfix"],
)
def test_options_name_the_parts(alone: Machine, options: tuple[str, ...], success: str) -> None:
    done = dkimpipe(alone, "check", *options)
    note = NOTE if "--postfix" in options else ""
    assert (done.status, done.stdout) == (0, f"dkimpipe: {success}\n{note}")


@pytest.mark.parametrize("options", [("--dns",), ("--postfix", "--dns")], ids=str)
def test_records_that_are_asked_for_and_cannot_be_looked_up_are_an_error(
    alone: Machine, options: tuple[str, ...]
) -> None:
    done = dkimpipe(alone, "check", *options)
    assert done.status == 78
    assert f"dkimpipe: error: cannot find the name servers of {OWNER}: " in done.stdout


def test_a_postfix_without_the_filter_is_left_out(alone: Machine) -> None:
    alone.shell("rm -r /etc/postfix/dkimpipe-*; cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf")
    done = dkimpipe(alone, "check")
    left_out = "dkimpipe: note: Postfix was not checked: /etc/postfix/master.cf does not run dkimpipe\n"
    assert (done.status, done.stdout) == (0, NO_DNS + left_out)


def test_a_filter_that_is_named_and_gone_from_master_cf_is_an_error(alone: Machine) -> None:
    alone.shell("postconf -MX dkimpipe/unix")
    done = dkimpipe(alone, "check")
    assert done.status == 78
    assert "dkimpipe: error: dkimpipe/unix: " in done.stdout


def test_json_has_the_findings_of_all_parts(alone: Machine) -> None:
    alone.shell(f"rm /{KEY}")
    done = dkimpipe(alone, "check", "--json")
    levels = [each["level"] for each in json.loads(done.stdout)]
    assert done.status == 78
    assert levels.count("error") == 1
    assert "note" in levels
