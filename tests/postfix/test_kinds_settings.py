"""All kinds of mail on a server with many settings: each recipient gets one copy, signed once if it is ours.

Copies by always_bcc and maps, aliases that include themselves, rewritten envelopes, postscreen(8), lists
that are not delayed, many recipients, and messages just below the limit of size.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from arriving import subject
from installing import NO_WAIT, dkimpipe, printed_records, setup
from throwaway import Machine

from postfix import Message, Sink

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 \\
    'mynetworks=!192.168.7.9 192.168.7.0/24 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128' \\
    'relayhost=[127.0.0.1]:SINK' always_bcc=archive@example.org recipient_delimiter=+ \\
    'sender_bcc_maps=inline:{{alice@example.com=sent@example.org}}' \\
    'recipient_bcc_maps=inline:{{bob@example.net=copy@example.org}}' \\
    'virtual_alias_maps=inline:{{info@example.net=info@example.net,boss@example.net}}' \\
    'canonical_maps=inline:{{old@example.net=new@example.net}}' \\
    canonical_classes=envelope_sender,envelope_recipient smtpd_delay_reject=no \\
    message_size_limit=200000 'header_checks=regexp:{{/^Subject:/ PREPEND X-Checked: yes}}' \\
    postscreen_greet_wait=1s postscreen_access_list=permit_mynetworks smtpd_recipient_limit=60 \\
    mailbox_size_limit=0 alias_maps=hash:/etc/postfix/aliases mail_spool_directory=/var/mail \\
    'smtpd_client_restrictions=check_client_access inline:{{203.0.113.7=REJECT}}' \\
    smtpd_relay_restrictions=permit_mynetworks,reject_unauth_destination local_recipient_maps=
postconf -M 'smtp/inet=smtp inet n - y - 1 postscreen' 'smtpd/pass=smtpd pass - - y - - smtpd' \\
    'dnsblog/unix=dnsblog unix - - y - 0 dnsblog' 'tlsproxy/unix=tlsproxy unix - - y - 0 tlsproxy'
option='-o { smtpd_end_of_data_restrictions = check_sender_access inline:{{x@y = REJECT no}} }'
sed -i "s/^smtpd *pass.*/&\\n  $option/" /etc/postfix/master.cf
echo 'forward: friend@example.net' >/etc/postfix/aliases; postalias /etc/postfix/aliases
ip addr add 192.168.7.1/24 dev lo; ip addr add 192.168.7.9/24 dev lo; ip addr add 203.0.113.5/24 dev lo
"""
# Of a message near the limit of size, it sends the largest that is accepted, to 300 octets. From sendmail(1)
# there is room for what pickup(8) adds: each line takes one octet more in the queue.
CLIENT = """\
import smtplib, subprocess, sys
address, port, sender, recipients, subject, size = sys.argv[1:]
header = f"From: alice@example.com\\nTo: x@example.net\\nSubject: {subject}\\n\\n"
line = "0123456789" * 7 + "\\n"

def send(text):
    if port == "sendmail":
        command = [port, "-i", "-f", sender, "--", *recipients.split(",")]
        return subprocess.run(command, input=text.encode()).returncode == 0
    with smtplib.SMTP(address, int(port), "client.test", source_address=(address, 0)) as client:
        try:
            client.sendmail(sender, recipients.split(","), text)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            if error.smtp_code != 552:
                raise
            return False
    return True

if port == "sendmail" and size != "0":
    size = int(size) * 71 // 72 - 1500
for length in range(int(size), int(size) // 2 - 1, -300):
    if send(header + line * (length // len(line))):
        break
else:
    raise SystemExit("refused in all sizes")
"""
OURS = "alice@example.com"
LAN, HOST, EXCLUDED, WORLD = "192.168.7.1", "127.0.0.1", "192.168.7.9", "203.0.113.5"
MANY = ",".join(f"r{number}@example.net" for number in range(55))
FURTHER = ",".join(f"r{number}@example.net" for number in range(120))
COPIES = {"archive@example.org", "sent@example.org"}


class Mail(NamedTuple):
    """A message: where it comes from and goes to, who gets it at the sink, and the kind of mail it is."""

    address: str
    port: str
    recipients: str
    arrives: set[str]
    kind: str = ""
    size: int = 0
    sender: str = OURS


BOB = {"bob@example.net", "copy@example.org", *COPIES}
INFO = {"info@example.net", "boss@example.net", *COPIES}
RENAMED = {"new@example.net", *COPIES}
LIMIT = 200000
WAYS_IN = {"submission": (HOST, "587"), "networks": (LAN, "25"), "local": ("", "sendmail")}
MAILS = {
    **{f"{kind} to bob": Mail(*way, "bob@example.net", BOB, kind) for kind, way in WAYS_IN.items()},
    **{f"{kind} to info": Mail(*way, "info@example.net", INFO, kind) for kind, way in WAYS_IN.items()},
    **{f"{kind} to old": Mail(*way, "old@example.net", RENAMED, kind) for kind, way in WAYS_IN.items()},
    **{
        f"{kind} near the limit": Mail(*way, "big@example.net", {"big@example.net", *COPIES}, kind, LIMIT)
        for kind, way in WAYS_IN.items()
    },
    "submission to many": Mail(HOST, "587", MANY, {*MANY.split(","), *COPIES}, "submission"),
    "networks to many": Mail(LAN, "25", MANY, {*MANY.split(","), *COPIES}, "networks"),
    "local to many": Mail("", "sendmail", FURTHER, {*FURTHER.split(","), *COPIES}, "local"),
    "excluded from mynetworks": Mail(EXCLUDED, "25", "forward@local.test", {"friend@example.net", *COPIES}),
    "from outside, forged, forwarded": Mail(
        WORLD, "25", "forward@local.test", {"friend@example.net", *COPIES}
    ),
}
WAYS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "by sendmail(1)": ((), {"submission", "networks"}),
    "by SMTP": (("--sign", "all"), {"submission", "networks", "local"}),
}


class Results(NamedTuple):
    """What arrived, by subject, what is signed, and what the log and the queue say at the end."""

    messages: dict[str, list[Message]]
    kinds: set[str]
    records: dict[str, list[bytes]]
    log: str
    queue: str
    checked: str


@pytest.fixture(scope="module", params=WAYS)
def results(fresh: Path, request: pytest.FixtureRequest) -> Iterator[Results]:
    options, kinds = WAYS[request.param]
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(MAIN.replace("SINK", str(sink.port)))
        done = setup(machine, "example.com", "--selector", "s1", *options)
        assert done.status == 0, done
        checked = dkimpipe(machine, "check", "--postfix").stdout
        (machine.root / "tmp/client").write_text(CLIENT)
        machine.shell(f"{NO_WAIT}; postfix start")
        for name, mail in MAILS.items():
            words = [mail.address, mail.port, mail.sender, mail.recipients, name, str(mail.size)]
            sent = machine.run("python3", "/tmp/client", *words)
            assert sent.status == 0, f"{name}: {sent.stderr}"
        expected = sum(len(mail.arrives) for mail in MAILS.values())
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and sum(len(each.recipients) for each in sink.messages) < expected:
            time.sleep(0.2)
        time.sleep(1)  # for what comes twice
        messages: dict[str, list[Message]] = {name: [] for name in MAILS}
        for message in sink.messages:
            messages.setdefault(subject(message), []).append(message)
        log = (machine.root / "var/log/mail.log").read_text()
        queue = machine.shell("postqueue -p")
        yield Results(messages, kinds, printed_records(done), log, queue, checked)


@pytest.mark.parametrize("name", MAILS)
def test_each_recipient_gets_one_copy(results: Results, name: str) -> None:
    found = Counter(recipient for message in results.messages[name] for recipient in message.recipients)
    assert found == Counter(MAILS[name].arrives), results.log


@pytest.mark.parametrize("name", MAILS)
def test_it_is_signed_once_if_it_is_ours_and_else_not(results: Results, name: str) -> None:
    expected = ["pass"] if MAILS[name].kind in results.kinds else []
    data = [message.data for message in results.messages[name]]
    assert witness.dkimpy_verdicts(data, results.records) == [expected] * len(data)


@pytest.mark.parametrize("name", MAILS)
def test_header_checks_apply_once(results: Results, name: str) -> None:
    """But for local mail that does not pass the filter: pickup(8) is told to leave out what comes back."""
    expected = int(MAILS[name].kind in {*results.kinds, ""})
    assert {message.data.count(b"X-Checked: yes") for message in results.messages[name]} == {expected}


def test_nothing_else_arrives_and_nothing_is_left(results: Results) -> None:
    assert set(results.messages) == set(MAILS)
    assert results.queue == "Mail queue is empty\n"


def test_the_check_finds_nothing(results: Results) -> None:
    assert results.checked.startswith("dkimpipe: Postfix is set up\n")
