"""Faults of Postfix's configuration on a real server: what mail shows, and the check's commands fix it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from installing import NO_WAIT, dkimpipe, printed_records, setup
from throwaway import Machine

from postfix import Message, Sink

SERVER = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' alias_maps= local_recipient_maps= compatibility_level=3.6 \\
    minimal_backoff_time=600s queue_run_delay=600s
ip addr add 203.0.113.5/24 dev lo
postconf -P submission/inet/smtpd_authorized_xclient_hosts=127.0.0.1
postconf -P submission/inet/smtpd_sasl_auth_enable=yes
postconf -M 'amavis/unix=amavis unix - - n - 2 smtp -o smtp_send_xforward_command=yes'
"""
# OpenDKIM signs with the same key, on a port that only its conf file names.
OPENDKIM = """\
cp /etc/dkimpipe/keys/example.com.s1.pem /root/od.pem; chmod 600 /root/od.pem
printf '%s\\n' 'Domain example.com' 'Selector s1' 'KeyFile /root/od.pem' 'Socket inet:9123@127.0.0.1' \\
    'Mode s' 'InternalHosts 198.51.100.0/24' 'UserID root' 'RequireSafeKeys no' >/etc/opendkim.conf
opendkim -x /etc/opendkim.conf
"""
AS_ALICE = "--xclient 'ADDR=198.51.100.7 LOGIN=alice'"
SWAKS = (
    "swaks --silent 2 --server 127.0.0.1 --port 587 --helo c.test --from alice@example.com"
    " --to bob@example.net --header-From alice@example.com --header-Subject"
)
RELOAD = f"{NO_WAIT}; postfix reload || postfix start; sleep 0.3"
# By rename: programs of Postfix that start meanwhile read one or the other.
RESTORE = (
    "for file in main.cf master.cf; do cp -a /root/good/$file /etc/postfix/new;"
    " mv /etc/postfix/new /etc/postfix/$file; done"
)
LOOKUP_FAILURE = "451 4.3.0 .*: Temporary lookup failure"
SERVER_ERROR = "451 4.3.5 .*Server configuration error"


class Fault(NamedTuple):
    """What makes a fault; what mail, or Postfix, shows of it; and the finding whose hint fixes it."""

    shell: str
    shows: str
    finding: str
    restart: bool = False  # programs that end at once are started again only after a minute


FAULTS = {
    "a table that is missing": Fault(
        "postconf -e transport_maps=hash:/etc/postfix/transport",
        LOOKUP_FAILURE,
        "transport_maps: hash:/etc/postfix/transport: Postfix cannot read it",
    ),
    "a table that is not indexed": Fault(
        "echo '@example.com [127.0.0.1]:SINK' >/etc/postfix/relays;"
        " postconf -e sender_dependent_relayhost_maps=hash:/etc/postfix/relays",
        "status=deferred|Temporary lookup failure|open database /etc/postfix/relays.db",
        "sender_dependent_relayhost_maps: hash:/etc/postfix/relays: Postfix cannot read it",
    ),
    "checks that are missing": Fault(
        "postconf -e header_checks=regexp:/etc/postfix/checks",
        "451 4.3.0 Error: queue file write error",
        "header_checks: regexp:/etc/postfix/checks: Postfix cannot read it",
    ),
    "a table without a type": Fault(
        "echo '@example.com alice@example.com' >/etc/postfix/virtual;"
        " postconf -e virtual_alias_maps=/etc/postfix/virtual",
        'expecting "type:name" form|451 4.3.0',
        "virtual_alias_maps: /etc/postfix/virtual: Postfix cannot read it: it has no type",
        restart=True,
    ),
    "users who may submit, in a file that the filter cannot read": Fault(
        "printf 'root x\\ndkimpipe x\\n' >/etc/postfix/submitters; chmod 600 /etc/postfix/submitters;"
        " postconf -e authorized_submit_users=texthash:/etc/postfix/submitters",
        r"status=deferred \(.*open database /etc/postfix/submitters: Permission denied",
        "authorized_submit_users: texthash:/etc/postfix/submitters: user dkimpipe cannot read it",
    ),
    "main.cf that the filter cannot read": Fault(
        "chmod 600 /etc/postfix/main.cf",
        r"main.cf: Permission denied",
        "/etc/postfix/main.cf: user dkimpipe cannot read it",
    ),
    "a restriction with a typing error": Fault(
        "postconf -P submission/inet/smtpd_relay_restrictions="
        "permit_mynetwork,permit_sasl_authenticated,reject",
        SERVER_ERROR,
        "submission/inet/smtpd_relay_restrictions: permit_mynetwork is not a restriction of this Postfix",
    ),
    "a network that is none": Fault(
        "postconf -e mynetworks=127.0.0.0/33",
        "451 4.3.[05] ",
        "mynetworks: 127.0.0.0/33: not an address and a prefix length",
    ),
    "a network with host bits": Fault(
        "postconf -e mynetworks=127.0.0.1/8",
        "451 4.3.[05] ",
        "mynetworks: 127.0.0.1/8: it has host bits set",
    ),
    "a fatal error": Fault(
        "postconf -e myorigin=/etc/nowhere",
        "fatal: .*/etc/nowhere",
        "no program of Postfix starts: ",
        restart=True,
    ),
    "a line that is no setting": Fault(
        "echo 'smtpd_banner hello' >>/etc/postfix/main.cf",
        "missing '=' after attribute name",
        "missing '=' after attribute name",
        restart=True,
    ),
    "a directory that is missing": Fault(
        "postfix stop; postconf -e queue_directory=/var/spool/nowhere",
        "fatal: .*/var/spool/nowhere",
        "Postfix does not start: queue_directory = /var/spool/nowhere",
    ),
    "a filter by sender": Fault(
        "printf 'example.com FILTER smtp:[127.0.0.1]:SINK\\n' >/etc/postfix/senders;"
        " postconf -e 'smtpd_sender_restrictions=check_sender_access texthash:/etc/postfix/senders'",
        r"(?s)Received: (?!.*DKIM-Signature).*Subject: before-a-filter-by-sender\r",
        "submission/inet: a table has FILTER smtp:[127.0.0.1]:",
    ),
    "spaces in a value of master.cf": Fault(
        "sed -i 's/-o message_size_limit=/-o smtpd_helo_restrictions=permit_mynetworks, permit &/'"
        " /etc/postfix/master.cf",
        "fatal: unexpected command-line argument: permit",
        "submission/inet: smtpd(8) does not start with the argument 'permit'",
        restart=True,
    ),
    "spaces around an equals sign in master.cf": Fault(
        "sed -i 's/-o content_filter=dkimpipe:dummy/-o content_filter = dkimpipe:dummy/'"
        " /etc/postfix/master.cf",
        "fatal: invalid \"-o content_filter\" option value: missing '='",
        "submission/inet: smtpd(8) does not start with -o content_filter: a setting needs",
        restart=True,
    ),
    "a time in words": Fault(
        "postconf -e 'smtp_connect_timeout=30 sec'",
        "fatal: parameter smtp_connect_timeout: bad time value or unit: 30 sec",
        "smtp(8) does not start: parameter smtp_connect_timeout: bad time value or unit: 30 sec",
        restart=True,
    ),
    "a program with a typing error": Fault(
        "postconf -F rewrite/unix/command=trivial-rewrit",
        "fatal: .*trivial-rewrit: No such file",
        "Postfix cannot run /usr/lib/postfix/sbin/trivial-rewrit: no such file",
        restart=True,
    ),
    "a private cleanup": Fault(
        "postconf -F cleanup/unix/private=-",
        "connect #.* to subsystem public/cleanup|timed out|connect to public/cleanup",
        "cleanup/unix: private is -: other programs do not find cleanup(8)",
        restart=True,
    ),
    "a concurrency of none": Fault(
        "postconf -e dkimpipe_initial_destination_concurrency=0",
        "fatal: invalid dkimpipe_initial_destination_concurrency parameter value 0 < 1",
        "dkimpipe_initial_destination_concurrency: 0 is less than 1",
        restart=True,
    ),
    "a milter that signs as well": Fault(
        "postconf -P submission/inet/smtpd_milters=inet:127.0.0.1:9123",
        r"(?s)DKIM-Signature: .*DKIM-Signature: ",
        "submission/inet/smtpd_milters: inet:127.0.0.1:9123 may sign as well",
    ),
    "another filter that gets mail from pickup": Fault(
        "postconf -M '127.0.0.1:10027/inet=127.0.0.1:10027 inet n - n - - smtpd"
        " -o content_filter=dkimpipe:dummy -o smtpd_relay_restrictions=permit_mynetworks,reject';"
        " postconf -P 'submission/inet/content_filter=amavis:[127.0.0.1]:10027'"
        " 'pickup/unix/content_filter=amavis:[127.0.0.1]:10027'",
        r"(?s)relay=dkimpipe,.*relay=dkimpipe,.*relay=dkimpipe,",
        "pickup/unix/content_filter: amavis:[127.0.0.1]:10027 gets the mail after it was signed",
    ),
}


class Server(NamedTuple):
    """A server, where its mail goes, and the records of its key."""

    machine: Machine
    sink: Sink
    records: dict[str, list[bytes]]

    def shell(self, script: str) -> str:
        """Return what a script and Postfix's log show, also if it fails."""
        machine = self.machine
        return machine.run("sh", "-c", f"({script}) 2>&1").stdout

    def log(self) -> str:
        return (self.machine.root / "var/log/mail.log").read_text()

    def all_of(self, name: str) -> str:
        """Return the log, and the messages with this subject."""
        messages = [
            each.data.decode() for each in self.sink.messages if f"Subject: {name}".encode() in each.data
        ]
        return "".join([self.log(), *messages])

    def wait_for(self, pattern: str, name: str, output: str = "") -> None:
        """Wait until output, log or messages show a pattern. After a reload, qmgr(8) may need a push."""
        end = time.monotonic() + 20
        while not re.search(pattern, shown := output + self.all_of(name)):
            if time.monotonic() > end:
                raise TimeoutError(f"no {pattern} of {name}:\n{shown}")
            time.sleep(0.2)
            self.shell("postqueue -f")

    def arrived(self, name: str) -> Message:
        """Return the message with this subject, once it is there."""
        self.wait_for(f"Subject: {name}\r", name)
        subject = f"Subject: {name}\r".encode()
        return next(each for each in self.sink.messages if subject in each.data)

    def hints(self, what: str) -> str:
        """Return the commands with which the check fixes this."""
        done = dkimpipe(self.machine, "check", "--postfix")
        output = done.stdout + done.stderr
        assert what in output, output
        lines = output.partition(what)[2].split("dkimpipe: ")[0].splitlines()
        return "\n".join(line.removeprefix("hint: ") for line in lines if re.match("hint: (?!or)", line))


@pytest.fixture(scope="module")
def server(fresh: Path) -> Iterator[Server]:
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(SERVER.replace("SINK", str(sink.port)))
        done = setup(machine, "example.com", "--selector", "s1")
        machine.shell(f"{OPENDKIM}\n{NO_WAIT}; postfix start; cp -a /etc/postfix /root/good")
        yield Server(machine, sink, printed_records(done))


@pytest.mark.parametrize("name", FAULTS)
def test_mail_shows_the_fault_and_the_commands_fix_it(name: str, server: Server) -> None:
    fault = FAULTS[name]
    subject = re.sub(r"\W", "-", name)
    server.machine.shell(
        f"postsuper -d ALL || true; {RESTORE}; : >/var/log/mail.log\n"
        + fault.shell.replace("SINK", str(server.sink.port))
    )
    output = server.shell(f"{RELOAD}; timeout 3 {SWAKS} before-{subject} {AS_ALICE}; postqueue -p")
    server.wait_for(fault.shows, f"before-{subject}", output)
    server.machine.shell(server.hints(fault.finding))
    done = dkimpipe(server.machine, "check", "--postfix")
    assert fault.finding not in done.stdout + done.stderr
    reload = f"postfix stop; {RELOAD}" if fault.restart else RELOAD
    server.machine.shell(f"postsuper -d ALL || true; {reload}; {SWAKS} after-{subject} {AS_ALICE}")
    assert signatures(server, f"after-{subject}") == (1, 1)
    server.machine.shell(f"! {SWAKS} stranger-{subject} --xclient ADDR=198.51.100.7")


def signatures(server: Server, subject: str) -> tuple[int, int]:
    """Return how many signatures a message has, and how many of them verify."""
    message = server.arrived(subject)
    (verdict,) = witness.dkimpy_verdicts([message.data], server.records)
    return message.data.count(b"DKIM-Signature:"), verdict.count("pass")
