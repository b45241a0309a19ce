"""``dkimpipe postfix --verify``: the service that verifies mail from outside."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from applying import VERIFY, content, edit, overrides, verb, with_program, write
from configurations import CONFIGURATIONS, postconf_of
from conftest import MAIN, PROJECT, Done, settled

from dkimpipe.admin.postfix.filter_service import ENVELOPE

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")


@pytest.fixture(params=CONFIGURATIONS)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A configuration directory, comments and all."""
    return write(tmp_path / "postfix", request.param)


INBOUND = {
    "smtp/inet/content_filter = dkimpipe-verify:dummy",
    "smtp/inet/receive_override_options = no_address_mappings",
    "smtp/inet/smtpd_discard_ehlo_keywords = dsn,silent-discard",
    "pickup/unix/receive_override_options = no_header_body_checks,no_milters",
    "pickup/unix/smtputf8_autodetect_classes = verify",
}


def test_verify_alone_touches_port_25_and_pickup_and_makes_its_service(directory: Path) -> None:
    before = overrides(directory)
    verb(directory, *VERIFY, "--apply")
    new = overrides(directory) - before
    assert new >= INBOUND
    assert {line.partition("/")[0] for line in new} == {"smtp", "pickup", "dkimpipe-verify"}
    assert "\ndkimpipe " not in (directory / "master.cf").read_text()


def test_the_service_that_verifies_runs_this_interpreter_with_its_packages(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    argv = f"user=daemon argv={sys.executable} -I {MAIN} verify --hostname=mx.example.com {ENVELOPE}"
    assert argv in verb(directory, *VERIFY).stdout.decode()


def test_what_verify_prints_makes_the_changes(directory: Path) -> None:
    subprocess.run(["sh", "-e"], input=verb(directory, *VERIFY).stdout, check=True)
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"


def test_verify_applied_a_second_time_changes_nothing(directory: Path) -> None:
    assert verb(directory, *VERIFY, "--apply").status == 0
    once = content(directory)
    assert verb(directory, *VERIFY, "--apply").stdout == b"nothing to change\n"
    assert content(directory) == once


def test_verify_reverted_every_octet_and_mode_is_as_before(directory: Path) -> None:
    before = content(directory)
    verb(directory, *VERIFY, "--apply")
    assert content(directory) != before
    assert verb(directory, "--verify", "--revert").status == 0
    assert content(directory) == before


JOBS: dict[str, tuple[str, ...]] = {"sign": (), "verify": VERIFY}


@pytest.mark.parametrize("applied", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
@pytest.mark.parametrize("undone", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
@pytest.mark.parametrize("version", ["3.7.11", "3.6.4"])
def test_each_is_undone_without_the_other_in_any_order(
    applied: list[str], undone: list[str], version: str, tmp_path: Path
) -> None:
    """Both need what pickup is told; and the last one leaves every octet as it was."""
    directory = write(tmp_path / "postfix", "submission")
    env, before = postconf_of(version, tmp_path), content(directory)
    for job in applied:
        assert verb(directory, *JOBS[job], "--apply", env=env).status == 0
    first, last = undone
    assert verb(directory, *JOBS[first], "--revert", env=env).status == 0
    assert verb(directory, *JOBS[last], env=env).stdout == b"nothing to change\n"
    assert b"there is no filter" in verb(directory, *JOBS[first], env=env).stdout
    assert verb(directory, *JOBS[first], "--revert", env=env).status == 78
    assert verb(directory, *JOBS[last], "--revert", env=env).status == 0
    assert content(directory) == before


@pytest.mark.parametrize("applied", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
def test_what_was_changed_since_in_the_one_stays_when_the_other_is_undone(
    applied: list[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    for job in applied:
        verb(directory, *JOBS[job], "--apply")
    changes = [
        ["-F", "dkimpipe-verify/unix/process_limit=17"],
        ["-P", "smtp/inet/message_size_limit=5000"],
        ["-e", "mynetworks=127.0.0.1"],
    ]
    edit(directory, *changes)
    assert verb(directory, "--revert").status == 0
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"
    settled(directory / "main.cf")
    asked = ["postconf", "-c", str(directory), "-M", "dkimpipe-verify/unix"]
    assert " - 17 pipe" in " ".join(subprocess.check_output(asked, text=True).split())
    assert "smtp/inet/message_size_limit = 5000" in overrides(directory)
    assert "mynetworks = 127.0.0.1\n" in (directory / "main.cf").read_text()
    assert "dkimpipe:dummy" not in (directory / "master.cf").read_text()


def test_verify_never_applied_there_is_nothing_to_revert(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    state = content(directory)
    done = verb(directory, "--verify", "--revert")
    assert done == Done(
        78,
        b"",
        f"dkimpipe: no backup in {directory}\n"
        "hint: # dkimpipe postfix --verify --apply was not run here, or is undone already\n",
    )
    assert content(directory) == state


def test_what_stands_at_port_25_stays(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    for setting in ("smtpd_discard_ehlo_keywords=chunking", "receive_override_options=no_milters"):
        edit(directory, ["-P", f"smtp/inet/{setting}"])
    verb(directory, *VERIFY, "--apply")
    assert overrides(directory) >= {
        "smtp/inet/smtpd_discard_ehlo_keywords = chunking,dsn,silent-discard",
        "smtp/inet/receive_override_options = no_milters,no_address_mappings",
    }


def test_behind_postscreen_it_is_the_service_pass(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    postscreen = ["smtp/inet=smtp inet n - y - 1 postscreen", "smtpd/pass=smtpd pass - - y - - smtpd"]
    for line in postscreen:
        edit(directory, ["-M", line])
    verb(directory, *VERIFY, "--apply")
    assert "smtpd/pass/content_filter = dkimpipe-verify:dummy" in overrides(directory)
    assert not any(line.startswith("smtp/inet/") for line in overrides(directory))


# How mail comes to amavis first: what the postconf commands say, and where they say it.
OTHER_FILTERS = {
    "on port 25": ("-P", "content_filter=amavis:[127.0.0.1]:10024"),
    "in main.cf": ("-e", "content_filter=amavis:[127.0.0.1]:10024"),
    "before the queue": ("-P", "smtpd_proxy_filter=127.0.0.1:10024"),
}


@pytest.mark.parametrize(("option", "setting"), OTHER_FILTERS.values(), ids=OTHER_FILTERS)
def test_where_another_filter_stands_verify_changes_nothing_and_says_what_to_do(
    option: str, setting: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    where = "smtp/inet/" if option == "-P" else ""
    edit(directory, ["-M", "amavis/unix=amavis unix - - n - 2 smtp"], [option, where + setting])
    before = content(directory)
    done = verb(directory, *VERIFY, "--apply")
    parameter, _, road = setting.partition("=")
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr == (
        f"dkimpipe: smtp/inet/{parameter}: {road} gets this mail, and a service can have only one filter\n"
        "hint: put dkimpipe-verify behind it: -o content_filter=dkimpipe-verify:dummy"
        " where mail returns from it, on a port only for mail from outside\n"
    )
    assert content(directory) == before


# Users that may not run the service that verifies, and what is said.
USERADD = "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
READS_KEYS = "this user can read the keys, and verification needs none: use a separate user"
USERS = {
    "there is none": ([], "there is no user dkimpipe-verify"),
    "that of the filter": (["--user", "dkimpipe"], f"user=dkimpipe: {READS_KEYS}"),
}


@pytest.mark.skipif(
    bool({"dkimpipe", "dkimpipe-verify"} & {user.pw_name for user in pwd.getpwall()}),
    reason="needs a machine without these users",
)
@pytest.mark.parametrize(("options", "why"), USERS.values(), ids=USERS)
def test_without_a_user_of_its_own_verify_changes_nothing(
    options: list[str], why: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    before = content(directory)
    done = verb(directory, "--verify", *options, "--apply")
    assert done == Done(78, b"", f"dkimpipe: {why}\nhint: {USERADD}")
    assert content(directory) == before


def test_the_fragments_for_mail_from_outside_say_the_same(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    fragment = with_program(PROJECT / "postfix" / "verify.master.cf", tmp_path)
    assert " user=dkimpipe-verify " in fragment
    master = (directory / "master.cf").read_text()
    kept = [line for line in master.splitlines() if not line.startswith(("pickup ", "smtp      inet "))]
    text = fragment.replace(" user=dkimpipe-verify ", " user=daemon ")
    (directory / "master.cf").write_text("\n".join(kept) + "\n" + text)
    with (directory / "main.cf").open("a") as main:
        main.write((PROJECT / "postfix" / "verify.main.cf").read_text())
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"
