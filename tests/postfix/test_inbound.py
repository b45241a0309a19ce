"""The way of mail from outside through a real Postfix: port 25, pipe(8), the verifier, sendmail(1), the sink.

The settings are those of the fragments in the directory postfix: the signer's and the verifier's together.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import witness
from conftest import INTERPRETER, Keys, copy_program, run_filter
from nameserver import NameServer
from relaying import HEADER, MESSAGE, PYTHON, RECIPIENT, SENDER, new_fields, wait

from postfix import FRAGMENTS, Message, Postfix, Sink, shared_directory

VERIFIED = ["Received", "Authentication-Results", "Received"]
SIGNED = ["Received", "DKIM-Signature", "Received"]
PASSED_BY = ["Received"]
NAME = "rsa2048._domainkey.example.com"

# Before the verifier: while the file beside it is there, that is its output, and the first line its status.
GATE = """\
#!/bin/sh
if [ -e "$0.says" ]; then tail -n +2 "$0.says"; exit "$(head -n 1 "$0.says")"; fi
exec "$@"
"""


class Host:
    """A mail server that signs for its users and verifies what comes from outside, and the sink behind it."""

    def __init__(self, postfix: Postfix, sink: Sink, nameserver: NameServer, directory: Path) -> None:
        self.postfix, self.sink, self.nameserver = postfix, sink, nameserver
        self.conf = directory / "verify.conf"
        self._says = directory / "gate.says"

    def receive(
        self,
        message: bytes = MESSAGE,
        sender: str = SENDER,
        recipients: Sequence[str] = (RECIPIENT,),
        options: Sequence[str] = (),
    ) -> str:
        """Hand in a message from outside and return its queue ID."""
        return self.postfix.submit(sender, recipients, message, options, self.postfix.inbound_port)

    def arrived(self, count: int = 1) -> list[Message]:
        """Return what the sink got once it has at least `count` messages and the queue is empty."""
        self.sink.wait(count)
        assert wait(lambda: not self.postfix.has_mail()), self.postfix.log()
        return list(self.sink.messages)

    def received(self, message: bytes = MESSAGE) -> Message:
        """Hand in a message from outside and return the one that comes out of it."""
        self.receive(message)
        (out,) = self.arrived()
        return out

    def tell_verifier(self, option: str) -> None:
        """Add a line to the verifier's conf file."""
        with self.conf.open("a") as file:
            file.write(f"{option}\n")

    def let_verifier_say(self, says: str, status: int) -> None:
        """Let the verifier end so, until `fix`."""
        self._says.write_text(f"{status}\n{says}\n")

    def fix(self) -> None:
        """Let the verifier do its work again."""
        self._says.unlink()

    def runs(self) -> list[str]:
        """Return the service of each run of a filter that passed a message on."""
        return re.findall(r"delivered via (\S+) service", self.postfix.log())


@contextlib.contextmanager
def host_with(
    site: Path, extra_main: Mapping[str, str] | None = None, fragments: Path = FRAGMENTS
) -> Iterator[Host]:
    """Yield a new host with these parameters in main.cf."""
    with contextlib.ExitStack() as stack:
        files, directory = (stack.enter_context(shared_directory()) for _ in range(2))
        nameserver = stack.enter_context(NameServer({NAME: [witness.record((site / "key").read_bytes())]}))
        sink = stack.enter_context(Sink())
        gate = files / "gate"
        gate.write_text(GATE)
        gate.chmod(0o755)
        (files / "verify.conf").write_text(f"hostname mx.test\ndns_server 127.0.0.1#{nameserver.port}\n")
        main = f"{site}/dkimpipe/__main__.py"
        verifier = [INTERPRETER, "-I", main, "verify", f"--conf_file={files}/verify.conf"]
        postfix = Postfix(
            directory,
            [PYTHON, "-IS", main, f"--conf_file={site}/conf"],
            sink.port,
            extra_main=extra_main,
            fragments=fragments,
            verifier=[str(gate), *verifier],
        )
        yield Host(stack.enter_context(postfix), sink, nameserver, files)


@pytest.fixture(scope="module")
def site(keys: Keys) -> Iterator[Path]:
    """A directory with the package, what it needs beside it, and a senders file and a key for example.com."""
    with shared_directory() as site:
        copy_program(site)
        shutil.copyfile(keys.path("rsa2048"), site / "key")
        shutil.chown(site / "key", "nobody")
        (site / "key").chmod(0o400)
        (site / "conf").write_text(f"sender_map {site}/senders\n")
        (site / "senders").write_text(f"example.com dkim(s=rsa2048,key={site}/key)\n")
        yield site


@pytest.fixture
def host(site: Path) -> Iterator[Host]:
    with host_with(site) as host:
        yield host


@pytest.fixture(scope="module")
def signed(site: Path) -> bytes:
    """The message with a good signature of example.com."""
    return run_filter(f"--conf_file={site}/conf", message=MESSAGE).stdout


# Which mail passes which filter


def test_mail_from_outside_is_verified_once_and_not_signed(host: Host) -> None:
    """It arrives octet for octet, and the sender's domain is one that we sign for."""
    out = host.received()
    assert new_fields(out) == VERIFIED
    assert b"\r\nAuthentication-Results: mx.test;\r\n dkim=none\r\n" in out.data
    assert host.runs() == ["dkimpipe-verify"]


def test_a_good_signature_passes(host: Host, signed: bytes) -> None:
    out = host.received(signed)
    assert new_fields(out, signed) == VERIFIED
    assert re.search(rb"\r\nAuthentication-Results: mx\.test;\r\n dkim=pass ", out.data)


def test_what_a_stranger_says_in_our_name_is_taken_out(host: Host) -> None:
    forged = b"Authentication-Results: mx.test; dkim=pass header.d=example.org\r\n"
    assert new_fields(host.received(forged + MESSAGE)) == VERIFIED


def test_mail_from_users_is_signed_once_and_not_verified(host: Host, keys: Keys) -> None:
    host.postfix.submit(SENDER, [RECIPIENT], MESSAGE)
    (out,) = host.arrived()
    assert new_fields(out) == SIGNED
    assert witness.dkimpy_verdicts([out.data], keys.records) == [["pass"]]
    assert host.runs() == ["dkimpipe"]


def test_local_mail_passes_neither_filter(host: Host) -> None:
    local = ["/usr/sbin/sendmail", "-i", "-f", SENDER, RECIPIENT]
    text = MESSAGE.replace(b"\r\n", b"\n")
    subprocess.run(local, input=text, env=host.postfix.environment, check=True)
    (out,) = host.arrived()
    assert new_fields(out) == PASSED_BY
    assert host.runs() == []


def test_behind_postscreen_it_is_the_same(site: Path) -> None:
    with shared_directory() as directory:
        fragments = directory / "postfix"
        shutil.copytree(FRAGMENTS, fragments)
        text = (fragments / "verify.master.cf").read_text()
        behind, replaced = re.subn(
            r"^(smtp +inet +n +- +y +- +)- +smtpd$",
            r"\g<1>1 postscreen\nsmtpd pass - - n - - smtpd",
            text,
            flags=re.M,
        )
        assert replaced == 1
        (fragments / "verify.master.cf").write_text(behind)
        with host_with(site, fragments=fragments) as host:
            assert new_fields(host.received()) == VERIFIED
            host.postfix.wait_for_log(r"postscreen\[\d+\]: CONNECT from ")
            assert host.runs() == ["dkimpipe-verify"]


# The envelope

ODD_ADDRESSES = [
    "bob@example.net",
    '"a b"@example.net',
    '"a,b"@example.net',
    '"a\\"b"@example.net',
    '"a;b|c`d$(e)"@example.net',
    "bob+extension@example.net",
    "-f@example.net",
    "--@example.net",
    "verify@example.net",
    "{a}@example.net",
]


def test_odd_recipients_arrive_as_they_were_sent(host: Host) -> None:
    host.receive(recipients=ODD_ADDRESSES)
    (out,) = host.arrived()
    assert sorted(out.recipients) == sorted(ODD_ADDRESSES)
    assert new_fields(out) == VERIFIED


def test_odd_senders_and_the_null_sender_arrive_as_they_were_sent(host: Host) -> None:
    for sender in ("", *ODD_ADDRESSES):
        host.receive(sender=sender)
    messages = host.arrived(1 + len(ODD_ADDRESSES))
    assert sorted(message.sender for message in messages) == sorted(["", *ODD_ADDRESSES])
    assert [new_fields(message) for message in messages] == [VERIFIED] * len(messages)


def test_999_recipients_are_one_run(host: Host) -> None:
    recipients = [f"user{number}@example.net" for number in range(999)]
    host.receive(recipients=recipients)
    messages = host.arrived()
    assert sorted(to for message in messages for to in message.recipients) == sorted(recipients)
    assert len(re.findall(r" postfix/pickup\[", host.postfix.log())) == 1
    assert new_fields(messages[0]) == VERIFIED


def test_aliases_and_always_bcc_apply_once(site: Path) -> None:
    main = {
        "virtual_alias_maps": "inline:{{team@example.net = bob@example.net, carol@example.net}}",
        "always_bcc": "archive@example.org",
    }
    with host_with(site, main) as host:
        host.receive(recipients=["team@example.net"])
        messages = host.arrived()
        people = ["archive@example.org", "bob@example.net", "carol@example.net"]
        assert sorted(to for out in messages for to in out.recipients) == people
        assert [new_fields(out) for out in messages] == [VERIFIED] * len(messages)
        assert host.runs() == ["dkimpipe-verify"]


OURS = {
    "virtual_mailbox_domains": "example.net",
    "virtual_mailbox_maps": "inline:{{bob@example.net = bob}}",
    "virtual_alias_maps": "inline:{{team@example.net = bob@example.net}}",
}


def test_who_is_not_known_here_is_refused_at_smtp_time(site: Path) -> None:
    with host_with(site, OURS) as host:
        with pytest.raises(smtplib.SMTPResponseException, match=r"^\(550, '5\.1\.1 <mallory@example\.net>"):
            host.receive(recipients=["mallory@example.net"])
        host.receive(recipients=["team@example.net"])
        assert host.postfix.wait_for_log(r"status=sent \(delivered via dkimpipe-verify service")


def test_port_25_does_not_offer_dsn(host: Host) -> None:
    """NOTIFY would be lost at the filter. So the server that sends tells its user (RFC 3461)."""
    with pytest.raises(smtplib.SMTPResponseException, match=r"^\(5\d\d, .*MAIL FROM"):
        host.receive(options=["RET=HDRS"])


# The message


def test_an_8_bit_body_arrives_as_it_was_sent(host: Host) -> None:
    mime = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    message = HEADER + mime + b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\xfe\r\n"
    host.receive(message, options=["BODY=8BITMIME"])
    (out,) = host.arrived()
    assert new_fields(out, message) == VERIFIED
    assert out.options == ["BODY=8BITMIME"]


def test_smtputf8_mail_is_taken_and_passed_on_without_that_word(host: Host) -> None:
    """It is local mail that comes to port 25; a next hop may want the word."""
    message = HEADER.replace(b"hello", "Grüße".encode()) + b"\r\nHello.\r\n"
    host.receive(message, sender="ö@example.com", recipients=["ä@example.net"], options=["SMTPUTF8"])
    (out,) = host.arrived()
    assert (out.sender, out.recipients, out.options) == ("ö@example.com", ["ä@example.net"], [])
    assert new_fields(out, message) == VERIFIED


def test_a_message_as_large_as_port_25_takes(host: Host) -> None:
    line = b"0123456789 abcdefghijklmnopqrstuvwxyz .,;:-" * 2 + b"\r\n"
    message = HEADER + b"\r\n" + line * 115_000
    assert 10_000_000 < len(message) < 10_223_616
    assert new_fields(host.received(message), message) == VERIFIED


def test_what_goes_beyond_the_limit_of_port_25_is_refused_there(host: Host) -> None:
    """The field on top would make it larger than the limit of main.cf."""
    with pytest.raises(smtplib.SMTPResponseException, match=r"^\(552, "):
        host.receive(HEADER + b"\r\n" + (b"x" * 98 + b"\r\n") * 102_300)


def test_what_main_cf_checks_is_checked_before_the_verifier_and_not_after_it(site: Path) -> None:
    """The milter is not there: mail that comes to it stays in the queue."""
    main = {
        "header_checks": "regexp:{{/^Subject: bad/ REJECT}, {/^Authentication-Results:/ IGNORE}}",
        "non_smtpd_milters": "inet:127.0.0.1:1",
        "milter_default_action": "tempfail",
    }
    with host_with(site, main) as host:
        with pytest.raises(smtplib.SMTPResponseException, match=r"^\(550, b?'5\.7\.1 "):
            host.receive(MESSAGE.replace(b"hello", b"bad"))
        assert new_fields(host.received()) == VERIFIED


# What goes wrong


@pytest.mark.parametrize(
    ("says", "status", "log"),
    [
        ("4.4.3 dkimpipe: no answer from DNS", 75, r"dsn=4\.4\.3, status=deferred \(dkimpipe: no answer"),
        ("", 1, r"dsn=4\.3\.0, status=deferred "),
        ("", 69, r"dsn=4\.3\.0, status=deferred "),
        ("", 127, r"dsn=4\.3\.0, status=deferred "),
    ],
    ids=["a temporary error", "exit 1", "exit 69 without a code", "no command"],
)
def test_mail_waits_until_it_can_be_verified(host: Host, says: str, status: int, log: str) -> None:
    host.let_verifier_say(says, status)
    queue_id = host.receive()
    host.postfix.wait_for_log(rf"pipe\[\d+\]: {queue_id}: .*{log}")
    assert [entry["queue_id"] for entry in host.postfix.queue()] == [queue_id]
    assert host.sink.messages == []
    host.fix()
    host.postfix.flush()
    (out,) = host.arrived()
    assert new_fields(out) == VERIFIED
    assert "status=bounced" not in host.postfix.log()


def test_without_an_answer_of_dns_mail_passes_and_the_field_says_so(host: Host, signed: bytes) -> None:
    host.nameserver.broken.add(NAME)
    out = host.received(signed)
    assert new_fields(out, signed) == VERIFIED
    assert b"\r\nAuthentication-Results: mx.test;\r\n dkim=temperror" in out.data


def test_with_reject_error_it_waits_for_an_answer_of_dns(host: Host, signed: bytes) -> None:
    host.tell_verifier("reject_error yes")
    host.nameserver.broken.add(NAME)
    queue_id = host.receive(signed)
    host.postfix.wait_for_log(rf"pipe\[\d+\]: {queue_id}: .*dsn=4\.7\.5, status=deferred \(dkimpipe: ")
    assert host.sink.messages == []
    host.nameserver.broken.clear()
    host.postfix.flush()
    (out,) = host.arrived()
    assert new_fields(out, signed) == VERIFIED
    assert b" dkim=pass " in out.data


WHY = "no valid signature from example.com, whose policy is discardable (ADSP)"


def reject(host: Host, sender: str) -> str:
    """Hand in a message that the policy of its domain disowns; return its queue ID."""
    host.tell_verifier("reject_fail yes")
    host.nameserver.records["_adsp._domainkey.example.com"] = [b"dkim=discardable"]
    return host.receive(sender=sender)


def test_a_rejected_message_bounces_with_its_code_and_the_bounce_passes_neither_filter(host: Host) -> None:
    queue_id = reject(host, SENDER)
    (notice,) = host.arrived()
    log = rf"pipe\[\d+\]: {queue_id}: .*dsn=5\.7\.1, status=bounced \(dkimpipe: {re.escape(WHY)} \)$"
    host.postfix.wait_for_log(log)
    assert (notice.sender, notice.recipients) == ("", [SENDER])
    assert b"\r\nStatus: 5.7.1\r\n" in notice.data
    header = notice.data.partition(b"\r\n\r\n")[0]
    assert b"Authentication-Results" not in header
    assert b"DKIM-Signature" not in header
    assert host.runs() == []


def test_a_header_without_measure_goes_back(host: Host) -> None:
    """Postfix takes it in; deferred it would come back for days."""
    queue_id = host.receive(b"X: y\n" * 360_000 + MESSAGE)
    log = r"dsn=5\.7\.1, status=bounced \(dkimpipe: the header has more than 350000 fields \)$"
    host.postfix.wait_for_log(rf"pipe\[\d+\]: {queue_id}: .*{log}")
    (notice,) = host.arrived()
    assert (notice.sender, notice.recipients) == ("", [SENDER])


def test_a_rejected_message_from_the_null_sender_makes_no_notice(host: Host) -> None:
    queue_id = reject(host, "")
    host.postfix.wait_for_log(rf"qmgr\[\d+\]: {queue_id}: removed")
    assert wait(lambda: not host.postfix.has_mail())
    assert host.sink.messages == []
