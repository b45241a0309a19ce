"""``dkimpipe postfix``: services that take mail from clients that do not log in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from applying import VERIFY, content, edit, overrides, verb, write
from conftest import Done

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")


OPEN = "clients that do not log in may send here, and their mail is signed"


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A configuration with a submission service that says nothing of who may send."""
    directory = write(tmp_path / "postfix", "submission")
    rule = "submission/inet/smtpd_relay_restrictions"
    edit(directory, ["-PX", rule])
    return directory


@pytest.mark.parametrize("options", [(), ("--apply",)], ids=["shown", "applied"])
def test_a_service_that_is_open_to_strangers_is_refused(opened: Path, options: tuple[str, ...]) -> None:
    before = content(opened)
    assert verb(opened, *options) == Done(
        78,
        b"",
        f"dkimpipe: submission/inet: {OPEN}\n"
        f"hint: postconf -c {opened} -P submission/inet/smtpd_relay_restrictions="
        "permit_mynetworks,permit_sasl_authenticated,reject\n"
        "hint: use --open to connect it anyway\n",
    )
    assert content(opened) == before


def test_closed_as_it_says_it_is_connected(opened: Path) -> None:
    subprocess.run(["sh", "-c", verb(opened).stderr.splitlines()[1].removeprefix("hint: ")], check=True)
    assert verb(opened, "--apply").status == 0
    assert "submission/inet/content_filter = dkimpipe:dummy" in overrides(opened)


def test_told_to_it_connects_an_open_service_and_the_filter_keeps_strangers_out(opened: Path) -> None:
    assert verb(opened, "--apply", "--open").status == 0
    assert "submission/inet/content_filter = dkimpipe:dummy" in overrides(opened)
    assert "--client=${client_address} -f" in (opened / "master.cf").read_text()
    assert verb(opened, "--apply", "--open").stdout == b"nothing to change\n"
    assert verb(opened, "--apply").status == 78


def test_an_open_service_is_refused_again_if_the_filter_signs_for_any(opened: Path, tmp_path: Path) -> None:
    verb(opened, "--apply", "--open")
    conf = tmp_path / "conf"
    conf.write_text("sign_clients any\n")
    master = opened / "master.cf"
    master.write_text(master.read_text().replace("--client=", f"--conf_file={conf} --client="))
    assert verb(opened, "--apply").stderr.startswith(f"dkimpipe: submission/inet: {OPEN}\n")


def test_mail_that_is_to_be_verified_comes_from_strangers(opened: Path) -> None:
    assert verb(opened, *VERIFY, "--apply").status == 0


def test_a_filter_of_before_gets_the_client_address(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    master = directory / "master.cf"
    master.write_text(master.read_text().replace(" --client=${client_address}", ""))
    done = verb(directory, "--apply")
    assert done.stdout.decode().startswith("# argv does not pass the client address: ")
    words = " ".join(master.read_text().split())
    assert " --login=${sasl_username} --client=${client_address} -f ${sender} --" in words


# What lets others in on purpose, whom the filter would take for strangers.
GUESTS = {
    "by certificate": [
        "submission/inet/smtpd_tls_ask_ccert=yes",
        "submission/inet/smtpd_relay_restrictions=permit_tls_all_clientcerts,reject",
    ],
    "all who have one": [
        "submission/inet/smtpd_tls_req_ccert=yes",
        "submission/inet/smtpd_relay_restrictions=reject_unauth_destination",
    ],
    "by a table that cannot be read": [
        "submission/inet/smtpd_relay_restrictions=check_client_access,hash:/nowhere,reject"
    ],
    "by a policy service": [
        "submission/inet/smtpd_relay_restrictions=check_policy_service,unix:private/policy,reject"
    ],
    "by its address on this host": [
        "submission/inet/smtpd_relay_restrictions=permit_inet_interfaces,permit_sasl_authenticated,reject"
    ],
}
# What is like it and lets nobody else in.
NO_GUESTS = {
    "no certificate is asked for": [
        "submission/inet/smtpd_relay_restrictions=permit_tls_clientcerts,permit_sasl_authenticated,reject"
    ],
    "a table that only rejects": [
        "submission/inet/smtpd_relay_restrictions=check_client_access,inline:{a=reject},permit_mynetworks,reject"
    ],
    "a table in another list": [
        "submission/inet/smtpd_client_restrictions=check_client_access,hash:/nowhere"
    ],
    "a policy service behind the login": [
        "submission/inet/smtpd_recipient_restrictions=check_policy_service,unix:private/policy"
    ],
}


@pytest.mark.parametrize("name", [*GUESTS, *NO_GUESTS])
def test_the_filter_gets_the_client_address_unless_that_would_cost_signatures(
    name: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    for setting in {**GUESTS, **NO_GUESTS}[name]:
        edit(directory, ["-P", setting])
    assert verb(directory, "--apply").stderr == ""
    assert ("--client=" in (directory / "master.cf").read_text()) is (name in NO_GUESTS)
    assert verb(directory).stdout == b"nothing to change\n"
