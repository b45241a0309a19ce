"""A server with DKIMproxy becomes one with dkimpipe, and back: its mail, through a real Postfix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from arriving import Server, serving
from dkimproxy_master import DKSIGN, LISTENER, SUBMISSION
from installing import NO_WAIT, dkimpipe, postfix_files, printed_records, setup

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' alias_maps=hash:/etc/postfix/aliases local_recipient_maps= \\
    minimal_backoff_time=3s maximal_backoff_time=3s queue_run_delay=3s
echo 'forward: friend@example.net' >/etc/postfix/aliases; postalias /etc/postfix/aliases
ip addr add 203.0.113.5/24 dev lo
"""
FOR_CLIENTS = "submission inet n - n - - smtpd\n"
PROXIED = SUBMISSION.replace(FOR_CLIENTS, f"{FOR_CLIENTS}    -o smtpd_authorized_xclient_hosts=127.0.0.1\n")
MASTER = f"cat >>/etc/postfix/master.cf <<'END'\n{PROXIED}{DKSIGN}{LISTENER}END\n"
CONF = "listen 127.0.0.1:10027\nrelay 127.0.0.1:10028\n"
LOCAL_TOO = "postconf -P 'pickup/unix/content_filter=dksign:[127.0.0.1]:10027'"
SWAKS = (
    "swaks --silent 2 --helo c.test --local-interface {0} --server {0} --port {1} --from alice@example.com"
    " --to {2} --header-From alice@example.com --header-Subject {3} --body Hello"
)
REFUSED = """\
dkimpipe: Postfix is running: to change content_filter now would leave mail unsigned until the next reload
"""
BY_POSTFIX = """\
hint: # take over the files of DKIMproxy first: man dkimpipe-dkimproxy
hint: /opt/dkimpipe/bin/dkimpipe postfix --apply --reload
"""
FROM_USER = SWAKS.format("127.0.0.1", 587, "bob@example.net", "submission")
FROM_OUTSIDE = SWAKS.format("203.0.113.5", 25, "forward@local.test", "outside")
TO_USERS_FROM_OUTSIDE = SWAKS.format("203.0.113.5", 587, "forward@local.test", "refused")
LOCAL = "printf 'From: alice@example.com\\nSubject: local\\n\\nHello\\n' | sendmail -i bob@example.net"


@pytest.fixture
def server(fresh: Path) -> Iterator[Server]:
    """A server set up for DKIMproxy, which does not run."""
    with serving(fresh, f"postconf -MX submission/inet || true\n{MAIN}{MASTER}") as bare:
        yield bare


def test_dkimproxy_is_replaced_and_comes_back(server: Server) -> None:
    machine = server.machine
    before = postfix_files(machine)
    machine.shell(f"{NO_WAIT}; postfix start; {FROM_USER}")
    refused = "connect to 127.0.0.1.*:10027: Connection refused"
    machine.shell(f"until postqueue -p | grep -q '{refused}'; do sleep 0.1; done")
    machine.shell("postfix stop; postsuper -d ALL || true")  # its user may not open the log
    done = setup(machine, "example.com", "--selector", "s1")
    assert done.status == 0, done
    machine.shell(f"{NO_WAIT}; postfix start; {FROM_USER}; {FROM_OUTSIDE}; {LOCAL}")
    expected = {"submission": 1, "outside": 0, "local": 0}
    assert server._replace(records=printed_records(done)).arrived(*expected) == expected
    machine.shell(f"! {TO_USERS_FROM_OUTSIDE}")
    machine.shell("postfix stop")
    assert dkimpipe(machine, "postfix", "--revert").status == 0
    assert postfix_files(machine) == before


def test_mail_comes_back_by_the_listener_that_dkimproxy_used(server: Server) -> None:
    """With its conf file as that of the filter; and local mail, which DKIMproxy signed, is still signed."""
    machine = server.machine
    machine.shell(LOCAL_TOO)
    before = postfix_files(machine)
    (machine.root / "etc/dkimpipe").mkdir()
    (machine.root / "etc/dkimpipe/dkimpipe.conf").write_text(CONF)
    done = setup(machine, "example.com", "--selector", "s1")
    assert done.status == 0, done
    machine.shell(f"{NO_WAIT}; postfix start; {FROM_USER}; {FROM_OUTSIDE}; {LOCAL}")
    expected = {"submission": 1, "outside": 0, "local": 1}
    assert server._replace(records=printed_records(done)).arrived(*expected) == expected
    assert not re.search(r"pickup\[.*uid=(?!0 )", (machine.root / "var/log/mail.log").read_text())
    checked = dkimpipe(machine, "check", "--postfix")
    assert checked.stdout.startswith("dkimpipe: Postfix is set up\n"), checked.stdout
    machine.shell("postfix stop")
    assert dkimpipe(machine, "postfix", "--revert").status == 0
    assert postfix_files(machine) == before


def test_in_main_cf_it_gets_mail_until_postfix_passes_that_to_the_filter(server: Server) -> None:
    """A new process reads main.cf as it is, and has the options of master.cf as of the last reload."""
    machine = server.machine
    machine.shell(
        "postconf -PX submission/inet/content_filter; postconf -e 'content_filter=dksign:[127.0.0.1]:10027'"
    )
    before = postfix_files(machine)
    machine.shell(f"{NO_WAIT}; postfix start")
    refused = setup(machine, "example.com")
    assert refused.stderr == f"{REFUSED}{BY_POSTFIX}"
    refused = dkimpipe(machine, "postfix", "--apply", "--user", "nobody")
    assert refused.stderr == f"{REFUSED}hint: add --reload: this setting is then changed last\n"
    assert postfix_files(machine) == before
    done = dkimpipe(machine, "postfix", "--apply", "--reload", "--user", "nobody")
    assert done.status == 0, done
    first, second = sorted((machine.root / "etc/postfix").glob("dkimpipe-backup-*"))
    assert "dksign" in (first / "after/main.cf").read_text()
    assert "content_filter=dkimpipe:dummy" in (first / "after/master.cf").read_text()
    assert "dksign" not in (second / "after/main.cf").read_text()
    assert (second / "before/master.cf").read_bytes() == (second / "after/master.cf").read_bytes()
    assert dkimpipe(machine, "postfix", "--revert", "--reload").status == 0
    assert postfix_files(machine) == before


def test_a_listener_that_does_not_answer_yet_is_reported(server: Server) -> None:
    machine = server.machine
    machine.shell("postconf -MX 127.0.0.1:10028/inet")
    machine.shell(f"{NO_WAIT}; postfix start")
    assert dkimpipe(machine, "postfix", "--apply", "--relay", "--user", "nobody").status == 0
    what = "no SMTP server answers, and mail stays in the queue: connection refused"
    expected = f"dkimpipe: warning: relay 127.0.0.1:10028: {what}\nhint: postfix reload\n"
    assert expected in dkimpipe(machine, "check", "--postfix").stdout
    machine.shell(f"{NO_WAIT}; postfix reload; sleep 1")
    assert "no SMTP server answers" not in dkimpipe(machine, "check", "--postfix").stdout
