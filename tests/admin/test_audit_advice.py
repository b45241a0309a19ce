"""``dkimpipe audit``: what it advises for mail that left unsigned; commands that it prints are run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import in_memory
import pytest
from auditing import Q1, USER, audit, lines, recent, returned, sent, site_of, written
from conftest import settled
from dovecot import Dovecot, certificate

from dkimpipe.admin.audit import verdict
from dkimpipe.admin.audit.advice import Advice, Row
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.postfix.kinds import KINDS

if not shutil.which("postconf"):
    pytest.skip("the tests of audit need Postfix's postconf", allow_module_level=True)

NOT_FILTERED = verdict.NOT_FILTERED
NOW_PASSED = (
    "Postfix passes such mail to the filter now, after postfix reload; dkimpipe check --postfix tests it"
)
PORT_587 = "let these users log in at the submission service (port 587), not on port 25"
AUTHOR = "correct the From field in the program that writes this mail"
RETRY = "retry mail by postqueue -f: what postsuper -r queues anew does not pass the filter again"
POSTMASTER = "let error_notice_recipient be a mailbox on this host: these notices are not signed"
AGAIN = ", and again when DNS has its record"
# What left unsigned, and what is said; ETC is the configuration directory.
ADVICE = {
    "login on a port without a name": (("submission", "postfix, login al", NOT_FILTERED), PORT_587),
    "submission": (
        ("submission", "postfix/users, login al", NOT_FILTERED),
        "dkimpipe postfix -c ETC --apply --sign submission",
    ),
    "network": (
        ("networks", "postfix, client 192.0.2.7", NOT_FILTERED),
        "dkimpipe postfix -c ETC --apply --sign networks",
    ),
    "bounce": (("bounces", "", NOT_FILTERED), "dkimpipe postfix -c ETC --apply --sign bounces"),
    "local": (("local", "www-data", NOT_FILTERED), "dkimpipe postfix -c ETC --apply --sign local"),
    "relayed": (
        ("relayed", "postfix, client 203.0.113.9", NOT_FILTERED),
        "let these clients log in at the submission service, or add them to mynetworks",
    ),
    "too many to list": (("(others)", "", NOT_FILTERED), "dkimpipe postfix -c ETC --apply --sign all"),
    "queued anew, and signed before": (
        ("submission", "postfix/users, login al", verdict.REQUEUED),
        RETRY,
    ),
    "queued anew, and not signed before": (
        ("local", "www-data", verdict.REQUEUED),
        "dkimpipe postfix -c ETC --apply --sign local",
    ),
    "no entry": (
        ("submission", "postfix, login al", "no entry for @example.org"),
        "if example.org is your domain: dkimpipe setup -c ETC example.org" + AGAIN,
    ),
    "no entry for a domain of this server": (
        ("submission", "postfix, login al", "no entry for @backup.test"),
        f"dkimpipe setup -c ETC backup.test{AGAIN}",
    ),
    "no entry, cut": (("local", "x", "no entry for @x..."), "dkimpipe setup -c ETC DOMAIN"),
    "no entry for a command": (("local", "x", "no entry for @$(reboot).test"), AUTHOR),
    "no entry for two commands": (("local", "x", "no entry for @x;reboot"), AUTHOR),
    "no entry for a name that is none": (("local", "x", "no entry for @a..b"), AUTHOR),
    "no entry for an address": (("local", "x", "no entry for @[192.0.2.1]"), AUTHOR),
    "no address": (("local", "x", "no address in From"), AUTHOR),
    "no From": (("local", "x", "no From field"), AUTHOR),
    "several From": (("local", "x", "2 From fields"), AUTHOR),
    "no report": (("local", "x", verdict.NO_REPORT), "see DIAGNOSTICS in dkimpipe(1)"),
    "no key": (
        ("local", "x", "no key for example.org"),
        "dkimpipe explain postmaster@example.org names the key file that is missing",
    ),
    "no key for an address": (("local", "x", "no key for [192.0.2.1]"), "see DIAGNOSTICS in dkimpipe(1)"),
    "no key for a command": (("local", "x", "no key for $(id)"), "see DIAGNOSTICS in dkimpipe(1)"),
}


def row(fields: tuple[str, str, str]) -> Row:
    kind, source, reason = fields
    return Row(kind, source, "example.com", reason)


@pytest.mark.parametrize("name", ADVICE)
def test_advice(audited: Site, etc: Path, name: str) -> None:
    fields, said = ADVICE[name]
    assert Advice(audited).on(row(fields)) == said.replace("ETC", str(etc))


@pytest.fixture(scope="module")
def complete(etc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same configuration after the commands that are printed for it were run."""
    directory = tmp_path_factory.mktemp("complete") / "etc"
    shutil.copytree(etc, directory)
    commands = [Advice(site_of(directory)).on(row(ADVICE[kind][0])) for kind in OF_KINDS]
    for command in commands:
        run(command, directory)
    return directory


PLAIN = "login on a port without a name"
OF_KINDS = ("submission", "network", "bounce", "local")
# After that, no command would change anything.
AFTERWARDS = {
    "submission": NOW_PASSED,
    "network": NOW_PASSED,
    "bounce": NOW_PASSED,
    "local": NOW_PASSED,
    "login on a port without a name": PORT_587,
    "too many to list": NOW_PASSED,
    "queued anew, and not signed before": RETRY,
}


def run(command: str, directory: Path) -> str:
    """Run a command of dkimpipe that was printed, and return its output."""
    program, *words = shlex.split(command)
    assert program == "dkimpipe" and "-c" in words and str(directory) in words
    settled(directory / "main.cf")
    done = in_memory.verb(*words)
    settled(directory / "main.cf")
    assert (done.status, done.stderr) == (0, "")
    return done.stdout.decode()


@pytest.mark.parametrize("name", AFTERWARDS)
def test_no_command_is_printed_twice(complete: Path, name: str) -> None:
    assert Advice(site_of(complete)).on(row(ADVICE[name][0])) == AFTERWARDS[name]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_printed_would_change_nothing(complete: Path, kind: str) -> None:
    assert run(f"dkimpipe postfix -c {complete} --apply --sign {kind}", complete) == "nothing to change\n"


def test_notices_of_other_programs_than_bounce(complete: Path) -> None:
    """smtpd(8) and others send them (notify_classes): there is no command that has them signed."""
    fields = ("bounces", verdict.NOTICE, NOT_FILTERED)
    assert Advice(site_of(complete)).on(row(fields)) == POSTMASTER


@pytest.mark.parametrize("name", OF_KINDS)
def test_each_command_changes_something(etc: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "etc"
    shutil.copytree(etc, directory)
    command = Advice(site_of(directory)).on(row(ADVICE[name][0]))
    assert "# backup in" in run(command, directory)
    again = Advice(site_of(directory)).on(row(ADVICE[name][0]))
    assert again == NOW_PASSED


def test_users_without_a_submission_service(etc: Path, tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    shutil.copytree(etc, directory)
    master = directory / "master.cf"
    master.write_text(re.sub(r"(?m)^587.*\n(  .*\n)", "", master.read_text()))
    refused = Advice(site_of(directory)).on(row(ADVICE["submission"][0]))
    assert refused.startswith(f"{PORT_587}, which cannot be created yet: nobody could log in: ")
    pem = written(tmp_path / "server.pem", certificate("mx.example.com", "ca.example"))
    with Dovecot() as dovecot:
        with (directory / "main.cf").open("a") as file:
            file.write(f"smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {dovecot.path}\n")
            file.write(f"smtpd_tls_cert_file = {pem}\n")
        command = f"dkimpipe postfix -c {directory} --apply --submission"
        found = Advice(site_of(directory)).on(row(ADVICE["submission"][0]))
        assert found == f"{PORT_587}, which does not exist yet: {command}"
        assert "# backup in" in run(command, directory)
        assert Advice(site_of(directory)).on(row(ADVICE[PLAIN][0])) == PORT_587


def test_what_is_in_the_way_is_said(etc: Path, tmp_path: Path) -> None:
    """Without permission no command is printed that is refused."""
    directory = tmp_path / "etc"
    shutil.copytree(etc, directory)
    with (directory / "master.cf").open("a") as file:
        file.write("25 inet n - n - - smtpd -o content_filter=spamassassin:dummy\n")
    found = Advice(site_of(directory)).on(row(ADVICE["local"][0]))
    cause = "mail from outside comes back from it by sendmail(1)"
    assert found.startswith(f"not possible yet: --sign local: spamassassin/unix: {cause}")


def test_the_default_instance_needs_no_directory(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(etc)
    monkeypatch.setattr(type(site.postconf), "is_chosen", False)
    assert Advice(site).on(row(ADVICE["no entry"][0])).endswith(f": dkimpipe setup example.org{AGAIN}")


# The senders file.


@pytest.fixture
def with_senders(etc: Path, tmp_path: Path) -> Path:
    """The configuration directory of a Postfix whose filter has a senders file of its own."""
    directory = tmp_path / "etc"
    shutil.copytree(etc, directory)
    master = directory / "master.cf"
    option = f"/opt/dkimpipe/bin/dkimpipe --sender_map={tmp_path}/senders -f"
    master.write_text(master.read_text().replace("/opt/dkimpipe/bin/dkimpipe -f", option))
    (tmp_path / "keys").mkdir()
    return directory


def test_an_entry_that_was_made_since(with_senders: Path, tmp_path: Path) -> None:
    settled(written(tmp_path / "senders", b"example.org dkim(s=m,key=/k.pem)\n"))
    found = Advice(site_of(with_senders)).on(row(ADVICE["no entry"][0]))
    assert found == "the senders file has an entry for example.org now"


def test_the_key_that_an_entry_for_all_domains_lacks(with_senders: Path, tmp_path: Path) -> None:
    """The command that is printed creates the very file, and after that there is nothing to do."""
    entry = f". dkim(s=mail,key={tmp_path}/keys/$keydomain.$selector.pem)\n"
    settled(written(tmp_path / "senders", entry.encode()))
    fields = ("submission", "postfix, login al", "no key for backup.test")
    command = Advice(site_of(with_senders)).on(row(fields))
    assert command == f"dkimpipe genkey --directory {tmp_path}/keys --selector mail backup.test"
    assert in_memory.verb(*shlex.split(command)[1:], "--owner", "root").status == 0
    found = Advice(site_of(with_senders)).on(row(fields))
    assert found == "the key of backup.test is there now"


def test_a_senders_file_that_is_not_used(etc: Path, tmp_path: Path) -> None:
    """The filter signs by its conf file alone: an entry in the senders file would change nothing."""
    directory = tmp_path / "etc"
    shutil.copytree(etc, directory)
    conf = written(tmp_path / "conf", b"domain example.com\nselector mail\nkeyfile /k.pem\n")
    master = directory / "master.cf"
    option = f"/opt/dkimpipe/bin/dkimpipe --conf_file={conf} -f"
    master.write_text(master.read_text().replace("/opt/dkimpipe/bin/dkimpipe -f", option))
    found = Advice(site_of(directory)).on(row(ADVICE["no entry"][0]))
    assert found == f"if example.org is your domain: add example.org to domain in {conf}"


def test_the_report_prints_it(etc: Path) -> None:
    log = lines(returned(Q1, USER) + sent(Q1), recent()).encode()
    done = audit("-c", str(etc), "--json", "-", log=log)
    (source,) = json.loads(done.stdout)["sources"]
    assert source["hint"] == f"dkimpipe postfix -c {etc} --apply --sign local"
