"""The way of mail through a real Postfix: submission, pipe(8), dkimpipe, sendmail(1), and out to a sink.

The settings are those of the fragments in the directory postfix. The filter runs as it does in production,
as a user without privileges and by the system's interpreter, on a copy of the package.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from conftest import PROJECT, Keys, settled
from nameserver import NameServer
from relaying import HEADER, MESSAGE, PYTHON, RECIPIENT, SENDER, new_fields, wait

from postfix import Message, Postfix, Sink, process, shared_directory

ENTRY = (
    "dkim(s=rsa2048,key=KEYS/rsa2048.pem), dkim(s=ed25519,key=KEYS/ed25519.pem), "
    "domainkeys(s=rsa2048,key=KEYS/rsa2048.pem)"
)
REPORT = (
    "signed d=example.com s=rsa2048 a=rsa-sha256, d=example.com s=ed25519 a=ed25519-sha256, "
    "d=example.com s=rsa2048 a=rsa-sha1 domainkeys; from=Alice <alice@example.com>"
)
SIGNATURES = ["DKIM-Signature", "DKIM-Signature", "DomainKey-Signature"]
PASSED = {
    "dkimpy": ["pass", "pass"],
    "OpenDKIM": ["pass", "pass"],
    "Mail::DKIM": ["dkim:pass", witness.mail_dkim_on_ed25519(), "domainkeys:pass"],
}


class Site:
    """What a mail server has of dkimpipe: the package, a senders file, keys that only the filter can read."""

    def __init__(self, directory: Path, template: Path, nameserver: NameServer) -> None:
        self.directory = directory
        self.nameserver = nameserver
        self.senders = directory / "senders"
        self.conf = directory / "dkimpipe.conf"  # empty, so that the system's counts for nothing
        self.key = directory / "keys" / "rsa2048.pem"
        self._template = template
        self.restore()

    def restore(self) -> None:
        """Make everything as it was at the beginning."""
        shutil.rmtree(self.directory / "keys", ignore_errors=True)
        shutil.rmtree(self.directory / "dkimpipe", ignore_errors=True)
        shutil.copytree(self._template, self.directory, dirs_exist_ok=True)
        self.conf.write_text("")
        self.senders.write_text(f"example.com {ENTRY}\n".replace("KEYS", str(self.directory / "keys")))
        settled(self.senders)
        user = pwd.getpwnam("nobody")
        os.chown(self.key, 0, user.pw_gid)
        self.key.chmod(0o440)
        os.chown(self.directory / "keys" / "ed25519.pem", user.pw_uid, 0)
        (self.directory / "keys" / "ed25519.pem").chmod(0o400)

    def argv(self, *options: str) -> list[str]:
        """Return the command of the filter, without addresses."""
        main = str(self.directory / "dkimpipe" / "__main__.py")
        maps = [f"--conf_file={self.conf}", f"--sender_map={self.senders}"]
        return [PYTHON, "-IS", main, *maps, *options]

    def script(self, text: str, interpreter: str = "/bin/sh") -> str:
        """Return the path of a new program that anybody may run."""
        path = self.directory / "script"
        path.write_text(f"#!{interpreter}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def verdicts(self, *messages: Message, without: str = "") -> list[dict[str, list[str]]]:
        """Return what the verifiers, but for the one named, say of the octets of each that the sink got."""
        records = self.nameserver.records
        verifiers: dict[str, Callable[[list[bytes]], list[list[str]]]] = {
            "dkimpy": lambda messages: witness.dkimpy_verdicts(messages, records),
            "OpenDKIM": lambda messages: witness.opendkim_verdicts(messages, records),
            "Mail::DKIM": lambda messages: witness.mail_dkim_verdicts(messages, self.nameserver.port),
        }
        octets = [message.data for message in messages]
        found = {name: verify(octets) for name, verify in verifiers.items() if name != without}
        return [{name: each[place] for name, each in found.items()} for place in range(len(octets))]


class Relay(NamedTuple):
    """A Postfix that sends through the filter of a site, and the sink behind it."""

    postfix: Postfix
    sink: Sink
    site: Site

    def submit(
        self, message: bytes = MESSAGE, sender: str = SENDER, recipients: Sequence[str] = (RECIPIENT,)
    ) -> str:
        """Submit a message and return its queue ID."""
        return self.postfix.submit(sender, recipients, message)

    def arrived(self, count: int = 1) -> list[Message]:
        """Return what the sink got once it has at least `count` messages and the queue is empty."""
        self.sink.wait(count)
        assert wait(lambda: not self.postfix.has_mail()), self.postfix.log()
        return list(self.sink.messages)

    def relayed(self, message: bytes = MESSAGE) -> Message:
        """Submit a message and return the one that comes out of it."""
        self.submit(message)
        (out,) = self.arrived()
        return out

    def filter_log(self, queue_id: str) -> str:
        """Return what pipe(8) logs of the first delivery of a message, from `dsn=` on."""
        return self.postfix.wait_for_log(rf"pipe\[\d+\]: {queue_id}: .* (dsn=.*)$")[1]


def assert_signed(site: Site, message: Message, original: bytes = MESSAGE, *, without: str = "") -> None:
    """Assert that each signature stands once above the original, and that every verifier passes it."""
    assert new_fields(message, original) == ["Received", *SIGNATURES, "Received"]
    expected = {name: verdicts for name, verdicts in PASSED.items() if name != without}
    assert site.verdicts(message, without=without) == [expected]


@pytest.fixture(scope="module")
def template(keys: Keys) -> Iterator[Path]:
    """Return a directory with keys, and what the filter needs of the package, compiled."""
    with shared_directory() as directory:
        package = directory / "dkimpipe"
        left_out = shutil.ignore_patterns("__pycache__", "admin", "man", "verify")
        shutil.copytree(PROJECT / "dkimpipe", package, ignore=left_out)
        subprocess.run([PYTHON, "-m", "compileall", "-q", package], check=True)
        (directory / "keys").mkdir()
        for name in ("rsa2048", "ed25519"):
            shutil.copyfile(keys.path(name), directory / "keys" / f"{name}.pem")
        yield directory


@pytest.fixture(scope="module")
def nameserver(keys: Keys) -> Iterator[NameServer]:
    with NameServer(dict(keys.records)) as server:
        yield server


@pytest.fixture
def site(template: Path, nameserver: NameServer) -> Iterator[Site]:
    with shared_directory() as directory:
        yield Site(directory, template, nameserver)


@pytest.fixture(scope="module")
def standing(template: Path, nameserver: NameServer) -> Iterator[Relay]:
    with shared_directory() as directory, relay_through(Site(directory, template, nameserver)) as relay:
        yield relay


@pytest.fixture
def relay(standing: Relay) -> Relay:
    """A relay for tests that leave its files, its command and its queue as they are."""
    assert wait(lambda: not standing.postfix.has_mail())  # of a test that did not wait for its message
    standing.sink.messages.clear()
    standing.sink.eightbitmime = True
    return standing


@pytest.fixture
def own_relay(site: Site) -> Iterator[Relay]:
    """A relay to be damaged."""
    with relay_through(site) as relay:
        yield relay


@contextlib.contextmanager
def relay_through(site: Site, argv: Sequence[str] = (), **extra_main: str) -> Iterator[Relay]:
    """Yield a new relay with this filter and these parameters in main.cf."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(shared_directory())
        sink = stack.enter_context(Sink(smtputf8=False))  # what became SMTPUTF8 mail would bounce
        postfix = Postfix(directory, argv or site.argv(), sink.port, extra_main=extra_main)
        yield Relay(stack.enter_context(postfix), sink, site)


# What is signed arrives

ARRIVES_AS_SENT = {
    "plain": MESSAGE,
    "8-bit body": HEADER
    + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    + b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\xfe\r\n",
    "8-bit subject": HEADER.replace(b"hello", "Grüße".encode()) + b"\r\nHello.\r\n",
    "header only": HEADER,
    "header and empty line": HEADER + b"\r\n",
    "empty lines at the end": MESSAGE + b"\r\n\r\n \r\n\r\n",
    "lines that begin with a dot": HEADER + b"\r\n.\r\n..\r\n.hidden\r\n...\r\n",
    "first line of the body is a dot": HEADER + b"\r\n.\r\nmore\r\n",
    "From at a line's beginning": HEADER + b"\r\nFrom here to there\r\n\r\nFrom alice Mon\r\n>From\r\n",
    "NUL in the body": HEADER + b"\r\none\0two\r\n\0\r\n",
    "folded and odd fields": HEADER.replace(b"hello", b" two  \r\n\t blanks ")
    + b"X-Empty:\r\n\r\nHello.\r\n",
    "lines of 998 octets": HEADER + b"\r\n" + (b"x" * 998 + b"\r\n") * 3,
}


class Judged(NamedTuple):
    """A message as it arrived, and what the verifiers say of it."""

    message: Message
    verdicts: dict[str, list[str]]


@pytest.fixture(scope="module")
def judged(standing: Relay) -> dict[str, Judged]:
    """The messages of the two tables, one relayed after the other, and then judged together."""
    found = {}
    for name, message in {**ARRIVES_AS_SENT, **CHANGED_ON_THE_WAY}.items():
        standing.sink.messages.clear()
        found[name] = standing.relayed(message)
    verdicts = standing.site.verdicts(*found.values())
    return {name: Judged(found[name], each) for name, each in zip(found, verdicts)}


@pytest.mark.parametrize("name", ARRIVES_AS_SENT)
def test_a_message_is_signed_once_and_arrives_as_it_was_sent(judged: dict[str, Judged], name: str) -> None:
    message, verdicts = judged[name]
    assert new_fields(message, ARRIVES_AS_SENT[name]) == ["Received", *SIGNATURES, "Received"]
    assert verdicts == PASSED


def test_a_message_as_large_as_submission_takes(relay: Relay) -> None:
    message = HEADER + b"\r\n" + (b"0123456789 abcdefghijklmnopqrstuvwxyz .,;:-" * 2 + b"\r\n") * 115_000
    assert 10_000_000 < len(message) < 10_223_616
    assert_signed(relay.site, relay.relayed(message), message)


CHANGED_ON_THE_WAY = {
    "body line over 998 octets": HEADER + b"\r\n" + b"x" * 3000 + b"\r\nmore\r\n",
    "header line over 998 octets": MESSAGE.replace(b"hello", b"x" * 3000),
    "first line From": b"From alice Mon Jan  1 00:00:00 2024\r\n" + MESSAGE,
    "no Date, no Message-ID": b"From: Alice <alice@example.com>\r\n\r\nHello.\r\n",
    "blank before a colon": MESSAGE.replace(b"Subject:", b"Subject :"),
    "bare CR, NUL in a field": HEADER + b"X-Odd: a\0b\r\n\r\none\rtwo\r\n",
}


@pytest.mark.parametrize("name", CHANGED_ON_THE_WAY)
def test_what_postfix_changes_is_changed_before_it_is_signed(judged: dict[str, Judged], name: str) -> None:
    assert judged[name].verdicts == PASSED


def test_an_8_bit_body_passes_a_next_hop_without_8bitmime(relay: Relay) -> None:
    relay.sink.eightbitmime = False
    assert relay.site.verdicts(relay.relayed(ARRIVES_AS_SENT["8-bit body"])) == [PASSED]


def test_what_postfix_adds_is_signed(relay: Relay) -> None:
    out = relay.relayed(b"From: Alice <alice@example.com>\r\n\r\nHello.\r\n")
    assert re.search(rb"\r\nMessage-Id: .*\r\nDate: ", out.data)
    assert re.search(rb"\sh=from:from:date:date:\s*message-id:message-id;", out.data)


# The envelope

ADDRESSES = [
    "bob@example.net",
    '"a b"@example.net',
    '"a,b"@example.net',
    '"a\\"b"@example.net',
    '"a\\\\b"@example.net',
    '"@"@example.net',
    '"a;b|c`d$(e)"@example.net',
    "bob+extension@example.net",
    "-lead@example.net",
    "-f@example.net",
    "--@example.net",
    "$HOME&*@example.net",
    "{a}@example.net",
    "ö@example.net",
]


def test_recipients_arrive_as_they_were_sent(relay: Relay) -> None:
    relay.submit(recipients=ADDRESSES)
    (out,) = relay.arrived()
    assert sorted(out.recipients) == sorted(ADDRESSES)
    assert_signed(relay.site, out)


def test_a_recipient_alone_is_no_option_of_sendmail(relay: Relay) -> None:
    relay.submit(recipients=["-bm@example.net"])
    (out,) = relay.arrived()
    assert out.recipients == ["-bm@example.net"]


def test_senders_arrive_as_they_were_sent(relay: Relay) -> None:
    for sender in ("", *ADDRESSES):
        relay.submit(sender=sender)
    messages = relay.arrived(1 + len(ADDRESSES))
    assert sorted(message.sender for message in messages) == sorted(["", *ADDRESSES])
    assert {tuple(new_fields(message)) for message in messages} == {("Received", *SIGNATURES, "Received")}


# Who may have a signature

ALLOWED = "dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=%s)"
XCLIENT = {"smtpd_authorized_xclient_hosts": "127.0.0.1"}
# SASL login, the login that the entry names, whether it signs, and what pipe(8) logs of the login if not.
LOGINS = {
    "the one": (b"alice", b"bob:alice", ""),
    "any": (b"alice", b"*", ""),
    "another": (b"eve", b"bob:alice", "eve"),
    "nobody": (b"", b"*:alice", ""),
    "an option": (b"--sender_map=/etc/passwd", b"alice", "--sender_map=/etc/passwd"),
    "a letter of an option": (b"-f", b"alice", "-f"),
    "the end of the options": (b"--", b"-f", "--"),
    "a macro": (b"${recipient}", b"bob@example.net", "${recipient}"),
    "blanks": (b"a b", b"a b", ""),
    "braces, which hold words together in master.cf": (b"{ a }", b"a", "{ a }"),
    "a quote, which flags=q would quote": (b'a"b', b'"a"b"', 'a"b'),
    "commas, colons, parentheses": (b"alice:x),dkim(s=a", b"alice", "alice:x),dkim(s=a"),
    "another line": (b"alice\ndkimpipe: signed", b"alice", "alice?dkimpipe: signed"),
    "UTF-8": ("\u00fc".encode(), "\u00fc".encode(), ""),
    "no UTF-8": (b"\xff", b"\xff", "?"),
}


@pytest.fixture(scope="module")
def for_some(template: Path, nameserver: NameServer) -> Iterator[Relay]:
    """A relay that is told the login as the fragment says, and takes it by XCLIENT."""
    with shared_directory() as directory:
        site = Site(directory, template, nameserver)
        with relay_through(site, site.argv("--login=${sasl_username}"), **XCLIENT) as relay:
            yield relay


@pytest.mark.parametrize(("login", "named", "refused"), LOGINS.values(), ids=LOGINS)
def test_who_logged_in_has_what_the_entry_lets_him(
    for_some: Relay, login: bytes, named: bytes, refused: str
) -> None:
    site, sink = for_some.site, for_some.sink
    entry = ALLOWED.replace("KEYS", str(site.directory / "keys")).encode() % named
    site.senders.write_bytes(
        b"alice@example.com " + entry + b"\n. " + entry.replace(named, b"nobody") + b"\n"
    )
    settled(site.senders)
    sink.messages.clear()
    queue_id = for_some.postfix.submit(SENDER, [RECIPIENT], MESSAGE, login=login)
    said = for_some.filter_log(queue_id).removeprefix(
        "dsn=2.0.0, status=sent (delivered via dkimpipe service ("
    )
    (out,) = for_some.arrived()
    signed = ["DKIM-Signature"] if login and not refused else []
    assert new_fields(out) == ["Received", *signed, "Received"]
    if signed:
        assert said.startswith("dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; ")
    else:
        assert said.startswith(f"dkimpipe: not signed: login '{refused}' may not use {site.senders}"[:90])


def test_mail_waits_until_the_filter_is_told_the_login(site: Site) -> None:
    site.senders.write_text(
        f"example.com {ENTRY.replace(')', ',login=*)')}\n".replace("KEYS", f"{site.directory}/keys")
    )
    settled(site.senders)
    with relay_through(site, **XCLIENT) as relay:
        queue_id = relay.postfix.submit(SENDER, [RECIPIENT], MESSAGE, login=b"alice")
        log = relay.filter_log(queue_id)
        cause = f"dkimpipe: {site.senders}, line 1: login= is set, but no --login was given"
        assert log.startswith(f"dsn=4.3.5, status=deferred ({cause}")
        relay.postfix.set_argv(site.argv("--login=${sasl_username}"))
        assert_leaves_signed(relay)


def test_999_recipients_are_one_run_and_one_signature(own_relay: Relay) -> None:
    relay = own_relay
    recipients = [f"user{number}@example.net" for number in range(999)]
    relay.submit(recipients=recipients)
    messages = relay.arrived()
    assert sorted(to for message in messages for to in message.recipients) == sorted(recipients)
    assert len(re.findall(r" postfix/pickup\[", relay.postfix.log())) == 1
    assert len({message.data for message in messages}) == 1
    assert_signed(relay.site, messages[0])


def test_submission_offers_neither_dsn_nor_smtputf8(relay: Relay) -> None:
    """The filter could not hand these on: NOTIFY would be lost, SMTPUTF8 be guessed."""
    for option in ("RET=HDRS", "SMTPUTF8"):
        with pytest.raises(smtplib.SMTPResponseException, match=r"^\(5\d\d, .*MAIL FROM"):
            relay.postfix.submit(SENDER, [RECIPIENT], MESSAGE, [option])


def test_what_goes_beyond_the_limit_of_submission_is_refused_there(relay: Relay) -> None:
    """The filter would make it larger than the limit of main.cf."""
    with pytest.raises(smtplib.SMTPResponseException, match=r"^\(552, "):
        relay.submit(HEADER + b"\r\n" + (b"x" * 98 + b"\r\n") * 102_300)


def test_what_main_cf_adds_checks_and_rewrites_breaks_no_signature(site: Site) -> None:
    """The milter is not there: mail that comes to it stays in the queue."""
    main = {
        "always_bcc": "archive@example.org",
        "canonical_maps": "inline:{{alice@example.com = changed@example.com}}",
        "header_checks": "regexp:{{/^Subject:/ PREPEND X-Seen: yes}}",
        "non_smtpd_milters": "inet:127.0.0.1:1",
        "milter_default_action": "tempfail",
    }
    with relay_through(site, **main) as relay:
        relay.submit()
        messages = relay.arrived()
        assert sorted(to for out in messages for to in out.recipients) == ["archive@example.org", RECIPIENT]
        assert [out.data.count(b"X-Seen: yes\r\n") for out in messages] == [1] * len(messages)
        assert site.verdicts(*messages) == [PASSED] * len(messages)


# The log


def test_the_log_says_what_was_signed_beside_the_queue_id(relay: Relay) -> None:
    queue_id = relay.submit()
    talk = f"dkimpipe: {REPORT}"[:100]
    expected = rf"dsn=2\.0\.0, status=sent \(delivered via dkimpipe service \({re.escape(talk)}"
    assert re.match(expected, relay.filter_log(queue_id))
    assert "signed d=example.com s=rsa2048 a=rsa-sha256, d=example.com s=ed25519 a=ed25519-sha256" in talk


def test_who_has_no_entry_passes_unsigned_and_the_log_says_so(relay: Relay) -> None:
    message = MESSAGE.replace(b"alice@example.com", b"mallory@example.org")
    queue_id = relay.submit(message)
    (out,) = relay.arrived()
    assert new_fields(out, message) == ["Received", "Received"]
    assert (
        "dsn=2.0.0, status=sent (delivered via dkimpipe service "
        "(dkimpipe: not signed: no entry for mallory@example.org; from=" in relay.filter_log(queue_id)
    )


# What goes wrong defers


def assert_deferred(relay: Relay, log: str) -> None:
    """Submit a message; assert that it stays in the queue, and what pipe(8) logs: code, blank, cause."""
    queue_id = relay.submit()
    code, _, cause = log.replace("SITE", str(relay.site.directory)).partition(" ")
    assert relay.filter_log(queue_id).startswith(f"dsn={code}, status=deferred ({cause}")
    assert [entry["queue_id"] for entry in relay.postfix.queue()] == [queue_id]
    assert relay.sink.messages == []


def assert_leaves_signed(relay: Relay) -> None:
    """Try the deferred message again; assert that it comes out once and signed, and that nobody was told."""
    relay.postfix.flush()
    (out,) = relay.arrived()
    assert_signed(relay.site, out)
    assert "status=bounced" not in relay.postfix.log()


def append(site: Site, module: str, text: str) -> None:
    with (site.directory / "dkimpipe" / module).open("a") as file:
        file.write(text)


# What happens to the files, and what pipe(8) logs.
DAMAGE: dict[str, tuple[Callable[[Site], object], str]] = {
    "no key": (
        lambda site: site.key.unlink(),
        "4.3.5 dkimpipe: SITE/senders, line 1: key file SITE/keys/rsa2048.pem: No such file or directory",
    ),
    "key that the filter cannot read": (
        lambda site: site.key.chmod(0o400),
        "4.3.5 dkimpipe: SITE/senders, line 1: key file SITE/keys/rsa2048.pem: Permission denied",
    ),
    "key that all can read": (
        lambda site: site.key.chmod(0o444),
        "4.3.5 dkimpipe: SITE/senders, line 1: key file SITE/keys/rsa2048.pem is readable by others"
        " (mode 0444)",
    ),
    "slip in the senders line": (
        lambda site: (
            site.senders.write_text("#\nexample.com dkim(s=rsa2048,kay=x)\n"),
            settled(site.senders),
        ),
        "4.3.5 dkimpipe: SITE/senders, line 2: unknown option: 'kay=x'",
    ),
    "no senders file": (
        lambda site: site.senders.unlink(),
        "4.3.5 dkimpipe: map SITE/senders: No such file or directory",
    ),
    "module that does not compile": (
        lambda site: append(site, "message.py", "class Message(:\n"),
        "4.3.0 dkimpipe: SyntaxError: invalid syntax (message.py, line ",
    ),
    "module that raises": (
        lambda site: append(site, "spool.py", "raise SystemError('one\\ntwo')\n"),
        "4.3.0 dkimpipe: SystemError: one?two (SITE/dkimpipe/",
    ),
    "no module": (
        lambda site: (site.directory / "dkimpipe" / "signatures.py").unlink(),
        "4.3.0 dkimpipe: ModuleNotFoundError: No module named 'dkimpipe.signatures'",
    ),
    "no package": (lambda site: shutil.rmtree(site.directory / "dkimpipe"), "4.3.0 "),
}


@pytest.mark.parametrize(("damage", "log"), DAMAGE.values(), ids=DAMAGE)
def test_mail_waits_until_the_files_are_fixed(
    own_relay: Relay, damage: Callable[[Site], object], log: str
) -> None:
    relay = own_relay
    damage(relay.site)
    assert_deferred(relay, log)
    assert "Traceback" not in relay.postfix.log()
    relay.site.restore()
    assert_leaves_signed(relay)


# What stands in master.cf for the program, and what pipe(8) logs.
COMMANDS: dict[str, tuple[Callable[[Site], list[str]], str]] = {
    "no sendmail": (
        lambda site: site.argv("--sendmail=/nonexistent"),
        "4.3.0 dkimpipe: cannot run /nonexistent",
    ),
    "sendmail that fails": (lambda site: site.argv("--sendmail", site.script("exit 69")), "4.3.0 "),
    "sendmail that dies": (lambda site: site.argv("--sendmail", site.script("kill -9 $$")), "4.3.0 "),
    "unknown option": (
        lambda site: site.argv("--nonsense"),
        "4.3.5 dkimpipe: unknown option '--nonsense'",
    ),
    "no conf file": (
        lambda site: site.argv("--conf_file=/nonexistent"),
        "4.3.5 dkimpipe: conf file /nonexistent: No such file or directory",
    ),
    "no interpreter": (lambda site: ["/nonexistent/python3", *site.argv()[1:]], "4.3.0 "),
    "no interpreter behind env": (
        lambda site: ["/usr/bin/env", "python3.nonexistent", *site.argv()[1:]],
        "4.3.0 ",
    ),
    "interpreter that the filter cannot run": (lambda site: [f"{site.senders}", *site.argv()[1:]], "4.3.0 "),
    "script without its interpreter": (
        lambda site: [site.script("", interpreter="/nonexistent/python3")],
        "4.3.0 ",
    ),
}


@pytest.mark.parametrize(("command", "log"), COMMANDS.values(), ids=COMMANDS)
def test_mail_waits_until_the_command_is_fixed(
    site: Site, command: Callable[[Site], list[str]], log: str
) -> None:
    with relay_through(site, command(site)) as relay:
        assert_deferred(relay, log)
        assert "Traceback" not in relay.postfix.log()
        relay.postfix.set_argv(site.argv())
        assert_leaves_signed(relay)


# What stands in master.cf behind the program, and what pipe(8) logs.
NO_ADDRESSES = {
    "": "4.3.5 dkimpipe: started by Postfix without recipients",
    "-f ${sender}": "4.3.5 dkimpipe: started by Postfix without recipients",
    "-f ${sender} --": "4.3.5 dkimpipe: no recipients after --",
    "-f ${sender} ${recipient}": "4.3.5 dkimpipe: unknown argument 'bob@example.net'",
    "-- ${recipient}": "4.3.5 dkimpipe: recipients without -f SENDER",
    "-f ${sender} -- ${recipients}": "4.3.5 ",  # pipe(8) itself stops at a macro that it does not know
}


@pytest.mark.parametrize(("words", "log"), NO_ADDRESSES.items(), ids=NO_ADDRESSES)
def test_mail_waits_until_the_filter_is_given_its_addresses(own_relay: Relay, words: str, log: str) -> None:
    relay = own_relay
    relay.postfix.set_argv([*relay.site.argv(), *words.split()], whole=True)
    assert_deferred(relay, log)
    relay.postfix.set_argv(relay.site.argv())
    assert_leaves_signed(relay)


def test_what_ends_with_the_status_of_an_interpreter_or_a_shell_defers(site: Site) -> None:
    command = site.script('for last; do :; done; exit "${last%@*}"')
    with relay_through(site, [command]) as relay:
        for status in (1, 2, 64, 69, 70, 71, 72, 75, 78, 126, 127, 255):
            queue_id = relay.submit(recipients=[f"{status}@example.net"])
            assert re.match(r"dsn=4\.3\.\d, status=deferred", relay.filter_log(queue_id)), status


def test_a_filter_that_runs_into_the_time_limit_defers(site: Site) -> None:
    command = site.script("exec sleep 60")
    with relay_through(site, [command], dkimpipe_time_limit="1s") as relay:
        assert_deferred(relay, "4.3.0 Command time limit exceeded")
        relay.postfix.set_argv(site.argv())
        assert_leaves_signed(relay)


def test_the_sender_of_delayed_mail_is_told_the_cause_and_no_more(site: Site) -> None:
    append(site, "message.py", "class Message(:\n")
    with relay_through(site, delay_warning_time="1s") as relay:
        relay.submit()
        time.sleep(1.1)
        relay.postfix.flush()
        (notice,) = relay.sink.wait()
        assert (notice.sender, notice.recipients) == ("", [SENDER])
        assert b"dkimpipe: SyntaxError: invalid syntax" in notice.data
        assert b"Diagnostic-Code: x-unix; dkimpipe: SyntaxError" in notice.data
        assert b"Status: 4.3.0" in notice.data
        assert b"Traceback" not in notice.data
        assert b"class Message" not in notice.data


@pytest.mark.parametrize("damage", ["no key", "slip in the senders line", "no senders file"])
def test_on_error_accept_passes_mail_unsigned_and_the_log_says_why(site: Site, damage: str) -> None:
    act, log = DAMAGE[damage]
    act(site)
    cause = log.replace("SITE", str(site.directory)).partition("dkimpipe: ")[2]
    with relay_through(site, site.argv("--on_error=accept")) as relay:
        queue_id = relay.submit()
        (out,) = relay.arrived()
        talk = f"dkimpipe: not signed: {cause}"[:100]
        assert f"status=sent (delivered via dkimpipe service ({talk}" in relay.filter_log(queue_id)
        assert new_fields(out) == ["Received", "Received"]


# Half a message

LARGE = HEADER + b"\r\n" + (b"0123456789" * 7 + b"\r\n") * 100_000

# Stops where pipe(8) starts it, before there is an interpreter, while the file beside it is there.
HOLD = 'if [ -e "$0.hold" ]; then echo $$ >"$0.hold"; kill -STOP $$; fi; exec "$@"'


class Held(NamedTuple):
    """A filter that has not yet read all, and the pipe(8) that writes to it."""

    filter: int
    pipe: int

    def waiting(self) -> int:
        """Return how many octets pipe(8) has written that the filter has not read; 0 when it has ended."""
        with contextlib.suppress(OSError), open(f"/proc/{self.filter}/fd/0", "rb") as file:
            return int.from_bytes(fcntl.ioctl(file, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
        return 0

    def octets_read(self) -> int:
        """Return how many octets the filter has read, from all its files."""
        return int(Path(f"/proc/{self.filter}/io").read_text().split()[1])

    def read_on(self, octets: int = 0) -> None:
        """Stop pipe(8) as soon as the filter has read about so many octets, and let it read what is written.

        Without a number it reads no more than was written when it was held.
        """
        os.kill(self.pipe, signal.SIGSTOP)
        os.kill(self.filter, signal.SIGCONT)
        if octets:
            os.kill(self.pipe, signal.SIGCONT)
            wait(lambda: self.octets_read() > octets)
            os.kill(self.pipe, signal.SIGSTOP)
        assert wait(lambda: not self.waiting())

    def end_pipe(self, number: signal.Signals) -> None:
        """End pipe(8) by a signal."""
        os.kill(self.pipe, number)
        with contextlib.suppress(ProcessLookupError):  # SIGKILL ends what is stopped, too
            os.kill(self.pipe, signal.SIGCONT)


@contextlib.contextmanager
def holding_relay(site: Site) -> Iterator[Relay]:
    """Yield a relay whose filter can be held."""
    with relay_through(site, [site.script(HOLD), *site.argv()]) as relay:
        yield relay


def hold(relay: Relay, message: bytes) -> Held:
    """Submit a message, and return its filter: stopped, and the pipe to it is full."""
    hold = relay.site.directory / "script.hold"
    hold.touch()
    hold.chmod(0o666)
    relay.sink.messages.clear()
    relay.submit(message)

    def find() -> Held | None:
        found = process(int(hold.read_text() or 0))
        return Held(found.pid, found.parent) if found and found.state == "T" else None

    held = wait(find)
    assert held and wait(lambda: held.waiting() > 60_000), relay.postfix.log()
    hold.unlink()
    return held


def recovered(relay: Relay, held: Held) -> list[Message]:
    """Return what arrived once the filter has ended, Postfix runs again and the queue is empty."""
    assert wait(lambda: not process(held.filter))
    relay.postfix.stop()
    relay.postfix.start()
    relay.postfix.flush()
    return relay.arrived()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("octets", [0, 1_000_000, 3_000_000])
def test_half_a_message_stays_when_pipe_ends_while_it_writes(
    site: Site, number: signal.Signals, octets: int
) -> None:
    with holding_relay(site) as relay:
        held = hold(relay, LARGE)
        held.read_on(octets)
        held.end_pipe(number)
        for message in recovered(relay, held):
            assert_signed(site, message, LARGE, without="Mail::DKIM")


def test_half_a_message_stays_when_pipe_ends_before_the_interpreter_runs(site: Site) -> None:
    with holding_relay(site) as relay:
        held = hold(relay, LARGE)
        held.end_pipe(signal.SIGKILL)
        assert wait(lambda: not process(held.pipe))
        os.kill(held.filter, signal.SIGCONT)
        for message in recovered(relay, held):
            assert_signed(site, message, LARGE, without="Mail::DKIM")


def test_half_a_message_stays_however_quickly_the_filter_sees_its_end(site: Site) -> None:
    """The kernel closes the files of a process that is killed before its children get another parent.

    Without a signature to make, the filter is at its last check within that time once in some four runs.
    """
    original = LARGE[: LARGE.index(b"\r\n", 300_000) + 2].replace(
        b"alice@example.com", b"mallory@example.org"
    )
    with holding_relay(site) as relay:
        for _ in range(20):
            held = hold(relay, original)
            held.read_on()
            held.end_pipe(signal.SIGKILL)
            for message in recovered(relay, held):
                assert new_fields(message, original) == ["Received", "Received"]
