"""``dkimpipe audit`` on the log of a real Postfix: for each message what the sink got of it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import smtplib
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from auditing import audit, site_of, traced
from conftest import Keys, copy_program
from relaying import PYTHON, wait

from dkimpipe.admin.audit.message import Deferred
from dkimpipe.admin.audit.trace import Trace
from dkimpipe.admin.audit.verdict import FORWARDED, SIGNED, UNSIGNED, Verdict
from postfix import Message, Postfix, Sink, _free_port, shared_directory

STRANGER = "203.0.113.9"
MESSAGE = (
    "From: {author}\r\nTo: bob@example.net\r\nMessage-ID: <{author}>\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHello.\r\n"
)
_RELAY = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"
# A filter that hands the signed message back by SMTP, with the former queue ID or without.
RELAYING = """#!/usr/bin/python3
import smtplib, subprocess, sys
queue_id, _, sender, _, *recipients = sys.argv[1:]
done = subprocess.run(FILTER, stdin=0, capture_output=True, check=True)
with smtplib.SMTP("127.0.0.1", PORT, "filter.test", timeout=20) as client:
    client.ehlo()
    if queue_id != "-":
        client.docmd(f"XFORWARD NAME=far.test ADDR=203.0.113.9 IDENT={queue_id}")
    client.mail(sender)
    for recipient in recipients:
        client.rcpt(recipient)
    code, reply = client.data(done.stdout)
report, _, rest = done.stderr.decode().partition("; ")
print(f"{report}; {reply.decode().rpartition('Ok: ')[2]}; {rest}", end="")
sys.exit(code != 250)
"""


class _Refuser(socketserver.StreamRequestHandler):
    """An SMTP server that refuses each recipient, in words that look like a line of the log."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.wfile.write(b"220 no\r\n")
            for line in self.rfile:
                is_recipient = line[:4].upper() == b"RCPT"
                self.wfile.write(b"550 5.1.1 no, status=sent (250 ok)\r\n" if is_recipient else b"250 ok\r\n")


class Ports(NamedTuple):
    """Where mail comes in, beside submission; each listens on loopback."""

    inbound: int
    by_name: int
    relayed: int
    relayed_plainly: int
    returned: int
    carried: int
    failing: int


class Mail(NamedTuple):
    """A Postfix after a mixed day."""

    postfix: Postfix
    sink: Sink

    def traced(self) -> tuple[list[Verdict], list[Deferred], Trace]:
        """Return the verdicts on all that left, what is deferred, and the trace."""
        log = self.postfix.directory / "log"
        now = log.stat().st_mtime
        return traced(site_of(self.postfix.directory / "etc"), [log.read_bytes()], now - 86400, now)

    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdict on each message that left, by the domain of its sender; each has its own."""
        found, _, trace = self.traced()
        assert len({each.domain for each in found}) == len(found)
        assert trace.unreadable == trace.forgotten == 0
        return {each.domain: each for each in found}


def is_signed(message: Message) -> bool:
    return re.search(rb"^DKIM-Signature:", message.data.partition(b"\r\n\r\n")[0], re.MULTILINE) is not None


def domain(message: Message) -> str:
    return message.sender.rpartition("@")[2]


@pytest.fixture(scope="module")
def mail(keys: Keys, request: pytest.FixtureRequest) -> Iterator[Mail]:
    """Return a Postfix through which mail of each kind has gone."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(shared_directory())
        sink = stack.enter_context(Sink())
        refuser = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refuser))
        refuser.daemon_threads = True
        threading.Thread(target=refuser.serve_forever, args=(0.02,), daemon=True).start()
        stack.callback(refuser.shutdown)
        ports = Ports(*(_free_port() for _ in Ports._fields))
        postfix = _postfix(directory, keys, ports, sink.port, refuser.server_address[1])
        stack.enter_context(postfix)
        _send(postfix, ports)
        sink.wait(len(EXPECTED))
        postfix.wait_for_log(r"status=deferred")
        assert wait(lambda: [each["queue_name"] for each in postfix.queue()] == ["deferred"]), postfix.log()
        yield Mail(postfix, sink)


def _postfix(directory: Path, keys: Keys, ports: Ports, sink: int, refuser: int) -> Postfix:
    program = copy_program(directory)
    key = directory / "mail.pem"
    shutil.copy(keys.path("rsa2048"), key)
    os.chown(key, 0, pwd.getpwnam("nobody").pw_gid)
    key.chmod(0o440)
    (directory / "senders").write_text(f"example.com dkim(s=mail,key={key})\n")
    (directory / "conf").write_text("")
    (directory / "mailboxes").mkdir()
    (directory / "mailboxes").chmod(0o777)
    maps = [f"--conf_file={directory}/conf", f"--sender_map={directory}/senders"]
    command = [PYTHON, "-IS", str(program), *maps]
    relaying = directory / "relaying" / "dkimpipe"
    relaying.parent.mkdir()
    relaying.write_text(RELAYING.replace("FILTER", repr(command)).replace("PORT", str(ports.returned)))
    relaying.chmod(0o755)
    carrier = directory / "carrier"
    carrier.write_text('#!/bin/sh\nexec /usr/sbin/sendmail -i "$@"\n')
    carrier.chmod(0o755)
    failing = [PYTHON, "-IS", str(program), f"--sender_map={directory}/nowhere"]
    return Postfix(
        directory,
        command,
        sink,
        extra_main={
            "mynetworks": "127.0.0.1",
            "mydestination": "here.test",
            "local_transport": "local:",
            "alias_maps": "inline:{{ away = bob@example.net }}",
            "mail_spool_directory": f"{directory}/mailboxes/",
            "virtual_alias_domains": "alias.test",
            "virtual_alias_maps": "inline:{{ bob@alias.test = bob@example.net }}",
            "relay_domains": "",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_relay_restrictions": _RELAY,
            "transport_maps": "inline:{ "
            f"{{ refused.test = smtp:[127.0.0.1]:{refuser} }}, {{ dead.test = smtp:[127.0.0.1]:1 }} }}",
        },
        extra_master=_services(ports, relaying, carrier, failing),
    )


def _services(ports: Ports, relaying: Path, carrier: Path, failing: list[str]) -> str:
    xclient = "-o smtpd_authorized_xclient_hosts=127.0.0.1"
    options = {
        "inbound": xclient,
        "by_name": f"{xclient} -o syslog_name=postfix/submission",
        "relayed": f"{xclient} -o content_filter=relaying:dummy",
        "relayed_plainly": f"{xclient} -o content_filter=relaying-plainly:dummy",
        "returned": "-o smtpd_authorized_xforward_hosts=127.0.0.1",
        "carried": f"{xclient} -o content_filter=carrier:dummy",
        "failing": "-o content_filter=failing:dummy",
    }
    lines = [
        f"127.0.0.1:{port} inet n - n - - smtpd {options[name]}" for name, port in ports._asdict().items()
    ]
    for name, queue_id in (("relaying", "${queue_id}"), ("relaying-plainly", "-")):
        argv = f"argv={relaying} {queue_id} -f ${{sender}} -- ${{recipient}}"
        lines.append(f"{name} unix - n n - 2 pipe flags=q null_sender= user=nobody {argv}")
    envelope = "-f ${sender} -- ${recipient}"
    pipe = "unix - n n - 2 pipe flags=q null_sender="
    lines.append(f"carrier {pipe} user=games:nogroup argv={carrier} {envelope}")
    lines.append(f"failing {pipe} user=nobody argv={' '.join(failing)} {envelope}")
    return "\n".join([*lines, "local unix - n n - - local"])


def _send(postfix: Postfix, ports: Ports) -> None:
    """Send a message of each kind, each with a sender's domain of its own."""

    def submit(sender: str, *recipients: str, author: str = "", port: int | None = None) -> None:
        text = MESSAGE.format(author=author or sender).encode()
        postfix.submit(sender, recipients or ["bob@example.net"], text, port=port)

    def from_afar(sender: str, recipient: str, login: str = "", port: int = ports.inbound) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.test", timeout=20) as client:
            client.ehlo()
            client.docmd(f"XCLIENT NAME=far.test ADDR={STRANGER} {login}".strip())
            client.ehlo()
            client.sendmail(sender, recipient, MESSAGE.format(author=sender).encode())

    submit("alice@signed.example.com")
    submit("alice@signed-many.example.com", "bob@example.net", "carol@example.net", "dan@other.test")
    submit("alice@rewritten.test", author="alice@example.com")
    submit("alice@no-entry.test")
    submit('"a>, size=1, nrcpt=1 (queue active)"@strange.example.com')
    submit("alice@bounce.example.com", "bob@refused.test")
    submit("alice@deferred.example.com", "bob@dead.test")
    submit(
        "alice@network.test",
        '"x>, relay=none, dsn=4.0.0, status=deferred (y"@example.net',
        port=ports.inbound,
    )
    submit("alice@network-local.test", "nobody@here.test", port=ports.inbound)
    submit("alice@network-forwarded.test", "away@here.test", port=ports.inbound)
    from_afar("eve@alias-forwarded.test", "bob@alias.test")
    from_afar("eve@forwarded.test", "away@here.test")
    from_afar("alice@logged-in.test", "bob@example.net", "LOGIN=alice")
    from_afar("alice@by-port.test", "bob@alias.test", port=ports.by_name)
    for port, name in ((ports.relayed, "relayed"), (ports.relayed_plainly, "relayed-plainly")):
        from_afar(f"alice@{name}.example.com", "bob@example.net", "LOGIN=alice", port)
        from_afar(f"alice@{name}.test", "bob@example.net", "LOGIN=alice", port)
    from_afar("eve@carried.test", "bob@alias.test", port=ports.carried)
    from_afar("alice@carried-login.test", "bob@example.net", "LOGIN=alice", ports.carried)
    submit("alice@requeued.example.com", port=ports.failing)
    deferred = postfix.wait_for_log(r"pipe\[\d+\]: (\w+): .* relay=failing, .* status=deferred")
    subprocess.run(["postsuper", "-c", postfix.directory / "etc", "-r", deferred[1]], check=True)
    for sender in ("cron@local.example.com", "www@local.test"):
        command = ["/usr/sbin/sendmail", "-f", sender, "bob@example.net"]
        subprocess.run(command, input=b"From: cron\n\nhi\n", env=postfix.environment, check=True)


EXPECTED = {
    "signed.example.com": (SIGNED, ""),
    "signed-many.example.com": (SIGNED, ""),
    "rewritten.test": (SIGNED, ""),
    "no-entry.test": (UNSIGNED, "submission"),
    "strange.example.com": (SIGNED, ""),
    "relayed.example.com": (SIGNED, ""),
    "relayed.test": (UNSIGNED, "submission"),
    "relayed-plainly.example.com": (SIGNED, ""),
    "relayed-plainly.test": (UNSIGNED, "submission"),
    "": (UNSIGNED, "bounces"),
    "network.test": (UNSIGNED, "networks"),
    "network-forwarded.test": (UNSIGNED, "networks"),
    "alias-forwarded.test": (FORWARDED, ""),
    "forwarded.test": (FORWARDED, ""),
    "carried.test": (FORWARDED, ""),
    "carried-login.test": (UNSIGNED, "submission"),
    "requeued.example.com": (UNSIGNED, "networks"),
    "logged-in.test": (UNSIGNED, "submission"),
    "by-port.test": (UNSIGNED, "submission"),
    "local.example.com": (UNSIGNED, "local"),
    "local.test": (UNSIGNED, "local"),
}


def test_each_message_is_what_the_sink_got(mail: Mail) -> None:
    verdicts = mail.verdicts()
    assert {each: verdict.outcome == SIGNED for each, verdict in verdicts.items()} == {
        domain(message): is_signed(message) for message in mail.sink.messages
    }


@pytest.mark.parametrize("sender", EXPECTED)
def test_each_message_has_its_source(mail: Mail, sender: str) -> None:
    verdict = mail.verdicts()[sender]
    # Without syslog_name and login, the log does not tell port 587 from port 25.
    kind = verdict.kind.replace("networks", "submission") if sender == "no-entry.test" else verdict.kind
    assert (verdict.outcome, kind) == EXPECTED[sender]


def test_what_is_deferred(mail: Mail) -> None:
    _, (deferred,), _ = mail.traced()
    assert deferred == ("smtp", "connect to 127.0.0.1[127.0.0.1]:1: Connection refused")


def test_the_report(mail: Mail) -> None:
    etc, log = mail.postfix.directory / "etc", mail.postfix.directory / "log"
    done = audit("-c", str(etc), "--json", str(log))
    report = json.loads(done.stdout)
    assert (done.status, done.stderr) == (78, "")
    signed = sum(map(is_signed, mail.sink.messages))
    assert (report["left"], report["signed"]) == (len(mail.sink.messages), signed) == (21, 6)
    assert (report["forwarded"], report["unsigned"], report["unknown"], report["deferred"]) == (3, 12, 0, 1)
    assert report["signatures"] == [
        {"domain": "example.com", "selector": "mail", "by": "dkimpipe", "messages": 6}
    ]
    assert report["not_understood"] == []
    hints = {row["domain"]: row["hint"] for row in report["sources"]}
    setup = f"dkimpipe setup -c {etc} no-entry.test, and again when DNS has its record"
    assert hints["no-entry.test"] == f"if no-entry.test is your domain: {setup}"
    assert hints["local.test"] == f"dkimpipe postfix -c {etc} --apply --sign local"
    assert hints[""] == f"dkimpipe postfix -c {etc} --apply --sign bounces"
    assert hints["requeued.example.com"].startswith("retry mail by postqueue -f: ")


def test_by_default_it_reads_what_postfix_logs_to(mail: Mail) -> None:
    done = audit("-c", str(mail.postfix.directory / "etc"), "--json")
    assert json.loads(done.stdout)["logs"] == [str(mail.postfix.directory / "log")]
