"""dkimpipe behind another content filter by SMTP, on a real Postfix: faults as mail shows them, and fixes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import witness
from arriving import Server, serving
from installing import NO_WAIT, dkimpipe, printed_records, setup

# The other filter changes nothing: its service of smtp(8) returns the mail at once.
BEHIND = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' alias_maps= local_recipient_maps= \\
    message_size_limit=60000 mailbox_size_limit=0
ip addr add 203.0.113.5/24 dev lo
postconf -M 'amavis/unix=amavis unix - - n - 2 smtp -o smtp_send_xforward_command=yes'
postconf -M '127.0.0.1:10027/inet=127.0.0.1:10027 inet n - n - - smtpd -o content_filter=dkimpipe:dummy'
postconf -P 127.0.0.1:10027/inet/smtpd_relay_restrictions=permit_mynetworks,reject
postconf -P 'submission/inet/content_filter=amavis:[127.0.0.1]:10027'
postconf -P submission/inet/smtpd_authorized_xclient_hosts=127.0.0.1
postconf -P submission/inet/smtpd_sasl_auth_enable=yes
"""
SWAKS = (
    "swaks --silent 2 --server 127.0.0.1 --port 587 --helo c.test --from alice@example.com"
    " --to bob@example.net --header-From alice@example.com --header-Subject"
)
# A client elsewhere that has logged in.
AS_ALICE = "--xclient 'ADDR=198.51.100.7 LOGIN=alice'"


def signatures(server: Server, name: str) -> int:
    """Return how many signatures of the message with this subject verify, once it is there."""
    (verdict,) = witness.dkimpy_verdicts([server.message(name).data], server.records)
    return verdict.count("pass")


@pytest.fixture
def server(fresh: Path) -> Iterator[Server]:
    with serving(fresh, BEHIND) as bare:
        done = setup(bare.machine, "example.com", "--selector", "s1")
        assert "nobody can log in" in done.stdout, done  # but by XCLIENT
        yield bare._replace(records=printed_records(done))


def test_a_login_does_not_come_back(server: Server) -> None:
    machine = server.machine
    machine.shell(
        "sed -i 's/s=s1,/s=s1,login=alice,/' /etc/dkimpipe/senders; touch -d @0 /etc/dkimpipe/senders"
    )
    machine.shell(f"{NO_WAIT}; postfix start; {SWAKS} before {AS_ALICE}")
    assert signatures(server, "before") == 0
    what = (
        "login= never matches mail from submission/inet: it comes back from amavis:[127.0.0.1]:10027 without"
    )
    assert server.hints(what).startswith("# remove login= there; ")
    machine.shell("sed -i 's/login=alice,//' /etc/dkimpipe/senders")
    assert what not in dkimpipe(machine, "check", "--postfix").stdout
    machine.shell(f"{SWAKS} after {AS_ALICE}")
    assert signatures(server, "after") == 1
    machine.shell(f"! {SWAKS} stranger --xclient ADDR=198.51.100.7")


def test_the_size_is_limited_where_clients_submit(server: Server) -> None:
    machine = server.machine
    body = "yes 0123456789 | head -c {} >/tmp/{}; {} {} " + AS_ALICE + " --body @/tmp/{}"
    machine.shell("postconf -P 127.0.0.1:10027/inet/message_size_limit=43616")
    machine.shell("postconf -PX submission/inet/message_size_limit")
    machine.shell(f"{NO_WAIT}; postfix start; {body.format(47000, 'between', SWAKS, 'between', 'between')}")
    machine.shell("until grep -q 'status=bounced' /var/log/mail.log; do sleep 0.1; done")
    for what in (
        "127.0.0.1:10027/inet/message_size_limit: mail that",
        "submission/inet/message_size_limit: its",
    ):
        machine.shell(server.hints(what))
    machine.shell(f"{NO_WAIT}; postfix reload; sleep 1")
    assert "message_size_limit" not in dkimpipe(machine, "check", "--postfix").stdout
    machine.shell(f"! ({body.format(47000, 'refused', SWAKS, 'refused', 'refused')})")
    machine.shell(body.format(38000, "large", SWAKS, "large", "large"))
    machine.shell("until grep -q 'status=sent.*queued as' /var/log/mail.log; do sleep 0.1; done")
    assert signatures(server, "large") == 1
