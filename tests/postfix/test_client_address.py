"""What pipe(8) passes to the filter of client and login, as postfix/README.md has it; who is signed for."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PROJECT, Keys

from postfix import Postfix, Sink, shared_directory

pytestmark = [
    pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix"),
    pytest.mark.skipif("os.geteuid() != 0", reason="needs root to start a Postfix"),
]

# It refuses one recipient for good.
PROGRAM = """\
#!/bin/sh
cat >/dev/null
(IFS='|'; echo "$*") >>ARGUMENTS
case "$*" in *bounce@*) echo 5.7.1 no; exit 70;; esac
"""
TOLD = ["--login=${sasl_username}", "--client=${client_address}"]
# The notices of Postfix, as if they were to be signed; and mail that sendmail(1) takes.
BOUNCE = """
signed-notices unix n - n - 0 cleanup -o { header_checks = regexp:{{/^From:/ FILTER dkimpipe:dummy}} }
"""
MAIN = {
    "inet_protocols": "all",
    "mynetworks": "127.0.0.0/8",
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_authorized_xforward_hosts": "127.0.0.1",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_relay_restrictions": "permit_mynetworks,reject_unauth_destination",
    "mydestination": "local.test",
}
# What a client says first, and what the filter gets: login and client.
BY_SMTP = {
    "this host": ([], "", "127.0.0.1"),
    "IPv4": (["XCLIENT ADDR=192.0.2.1"], "", "192.0.2.1"),
    "IPv6": (["XCLIENT ADDR=IPV6:2001:db8::1"], "", "IPv6:2001:db8::1"),
    "a login": (["XCLIENT ADDR=192.0.2.1 LOGIN=alice"], "alice", "192.0.2.1"),
    "a login through a proxy on this host": (["XCLIENT LOGIN=alice"], "alice", "127.0.0.1"),
    "a proxy that does not know": (["XCLIENT ADDR=[UNAVAILABLE]"], "", "unknown"),
    "another filter with XFORWARD": (["EHLO filter", "XFORWARD ADDR=192.0.2.1 HELO=x"], "", "192.0.2.1"),
    "another filter with XFORWARD, by IPv6": (
        ["EHLO filter", "XFORWARD ADDR=IPV6:2001:db8::1"],
        "",
        "IPv6:2001:db8::1",
    ),
    "another filter that does not know": (["EHLO filter", "XFORWARD ADDR=[UNAVAILABLE]"], "", "unknown"),
}


class Site(NamedTuple):
    """A Postfix whose filter writes its arguments to a file, a run a line, and takes the mail for good."""

    postfix: Postfix
    arguments: Path

    def next(self, runs: int) -> list[str]:
        """Return the arguments of the run after so many."""
        deadline = time.monotonic() + 20
        while len(lines := self.arguments.read_text().splitlines()) <= runs and time.monotonic() < deadline:
            time.sleep(0.05)
        return lines[runs].split("|")

    def runs(self) -> int:
        return len(self.arguments.read_text().splitlines())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with shared_directory() as directory, Sink() as sink:
        arguments, program = directory / "arguments", directory / "program"
        arguments.touch()
        arguments.chmod(0o666)
        program.write_text(PROGRAM.replace("ARGUMENTS", str(arguments)))
        program.chmod(0o755)
        fragments = directory / "fragments"
        shutil.copytree(PROJECT / "postfix", fragments)
        master = (fragments / "master.cf").read_text()
        pickup = "pickup    unix  n       -       n       60      1       pickup\n"
        assert pickup in master
        rule = "    -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
        assert rule in master
        master = master.replace(pickup, f"{pickup}    -o content_filter=dkimpipe:dummy\n").replace(rule, "")
        (fragments / "master.cf").write_text(master)
        postfix = Postfix(
            directory,
            [str(program), *TOLD],
            sink.port,
            extra_main=MAIN,
            extra_master=BOUNCE,
            fragments=fragments,
        )
        whole = directory / "etc" / "master.cf"
        bounce = "bounce unix - - n - 0 bounce\n"
        assert bounce in whole.read_text()
        options = "  -o cleanup_service_name=signed-notices\n  -o internal_mail_filter_classes=bounce\n"
        whole.write_text(whole.read_text().replace(bounce, bounce + options))
        with postfix:
            yield Site(postfix, arguments)


@pytest.mark.parametrize(("said", "login", "client"), BY_SMTP.values(), ids=BY_SMTP)
def test_of_a_client_by_smtp(said: list[str], login: str, client: str, site: Site) -> None:
    runs = site.runs()
    with smtplib.SMTP("127.0.0.1", site.postfix.submission_port, "client.test", timeout=20) as smtp:
        for line in said:
            assert smtp.docmd(line)[0] in (220, 250)
        smtp.docmd("MAIL FROM:<alice@example.com>")
        assert smtp.docmd("RCPT TO:<postmaster@local.test>")[0] == 250
        smtp.data(b"From: alice@example.com\r\n\r\n")
    assert site.next(runs)[:2] == [f"--login={login}", f"--client={client}"]


@pytest.mark.parametrize("batch", [False, True], ids=["message", "SMTP"])
def test_of_sendmail(batch: bool, site: Site) -> None:
    runs = site.runs()
    smtp = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@local.test>\r\nDATA\r\nFrom: a\r\n\r\n.\r\nQUIT\r\n"
    command, message = (["-bs"], smtp) if batch else (["b@local.test"], b"From: a\n\n")
    sendmail = ["/usr/sbin/sendmail", *command]
    subprocess.run(sendmail, input=message, env=site.postfix.environment, check=True, capture_output=True)
    assert site.next(runs)[:2] == ["--login=", "--client="]


def test_of_a_notice_of_postfix_itself(site: Site) -> None:
    """The first run refuses the message; the second has the notice of it."""
    runs = site.runs()
    site.postfix.submit("alice@example.com", ["bounce@local.test"], b"From: alice@example.com\r\n\r\n")
    assert site.next(runs + 1) == ["--login=", "--client=", "-f", "", "--", "alice@example.com"]


# A submission service without a login rule, and the filter: what the client says first, and the filter's log.
SIGNED = "signed d=example.com s=rsa2048 a=rsa-sha256"
WHO = {
    "a stranger": (["XCLIENT ADDR=192.0.2.1"], "not signed: client 192.0.2.1 did not log in and is not in"),
    "a stranger by IPv6": (
        ["XCLIENT ADDR=IPV6:2001:db8::1"],
        "not signed: client 2001:db8::1 did not log in and is not in mynetworks",
    ),
    "who logged in": (["XCLIENT ADDR=192.0.2.1 LOGIN=alice"], SIGNED),
    "who is in mynetworks": (["XCLIENT ADDR=10.1.2.3"], SIGNED),
    "who is in mynetworks by IPv6": (["XCLIENT ADDR=IPV6:2001:db8:1::5"], SIGNED),
    "this host": ([], SIGNED),
}


@pytest.fixture(scope="module")
def open_to_strangers(keys: Keys) -> Iterator[tuple[Postfix, Sink]]:
    with shared_directory() as directory, Sink() as sink:
        shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe")
        key = Path(shutil.copy(keys.path("rsa2048"), directory / "key.pem"))
        shutil.chown(key, group="nogroup")
        key.chmod(0o440)
        senders = directory / "senders"
        senders.write_text(f"example.com dkim(s=rsa2048,key={key})\n")
        program = ["/usr/bin/python3", "-IS", f"{directory}/dkimpipe/__main__.py", f"--sender_map={senders}"]
        fragments = directory / "fragments"
        shutil.copytree(PROJECT / "postfix", fragments)
        master = (fragments / "master.cf").read_text()
        assert "smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject" in master
        (fragments / "master.cf").write_text(
            master.replace("permit_mynetworks,permit_sasl_authenticated,reject", "reject_unauth_destination")
        )
        main = {
            **MAIN,
            "mynetworks": "127.0.0.0/8 [::1]/128 10.0.0.0/8 [2001:db8:1::]/48",
            "smtpd_relay_restrictions": "reject_unauth_destination",
        }
        postfix = Postfix(
            directory, [*program, *TOLD], sink.port, extra_main=main, fragments=fragments, concurrency=2
        )
        with postfix:
            yield postfix, sink


@pytest.mark.parametrize(("said", "log"), WHO.values(), ids=WHO)
def test_strangers_get_no_signature(
    said: list[str], log: str, open_to_strangers: tuple[Postfix, Sink]
) -> None:
    """They write to a local user, in the name of another; mail passes, and nobody can replay a signature."""
    postfix, sink = open_to_strangers
    before = len(sink.messages)
    with smtplib.SMTP("127.0.0.1", postfix.submission_port, "client.test", timeout=20) as smtp:
        for line in said:
            assert smtp.docmd(line)[0] in (220, 250)
        smtp.docmd("MAIL FROM:<eve@example.org>")
        assert smtp.docmd("RCPT TO:<someone@local.test>")[0] == 250
        queue_id = smtp.data(b"From: boss@example.com\r\n\r\nx\r\n")[1].decode().rpartition(" ")[2]
    line = postfix.wait_for_log(rf" {queue_id}: .*status=sent \(delivered via dkimpipe service \((.*)").group(
        1
    )
    assert line.startswith(f"dkimpipe: {log}")
    data = sink.wait(before + 1)[-1].data
    assert (b"DKIM-Signature: " in data) is (log == SIGNED)
