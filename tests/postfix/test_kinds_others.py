"""Another filter for mail from outside while local mail is signed; and mail under way when that changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from arriving import Server, serving
from installing import DKIMPIPE, NO_WAIT, dkimpipe, printed_records, setup

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' alias_maps=hash:/etc/postfix/aliases local_recipient_maps=
echo 'forward: friend@example.net' >/etc/postfix/aliases; postalias /etc/postfix/aliases
ip addr add 203.0.113.5/24 dev lo
"""
# As FILTER_README of Postfix has it: sed in place of what a disclaimer would do.
FILTER = """\
cat >/usr/local/bin/disclaimer <<'END'
#!/bin/sh
sed 's/^Hello/& (from outside)/' | /usr/sbin/sendmail -G -i "$@"
END
chmod 755 /usr/local/bin/disclaimer; useradd --system --no-create-home disclaimer
line='flags=Rq null_sender= user=disclaimer argv=/usr/local/bin/disclaimer -f ${sender} -- ${recipient}'
postconf -M "disclaimer/unix=disclaimer unix - n n - 4 pipe $line"
postconf -P smtp/inet/content_filter=disclaimer:dummy
"""
SWAKS = "swaks --silent 2 --helo c.test --local-interface {0} --server {0} --port {1} --body Hello"
HEADER = "--header-From alice@example.com --header-Subject"
FORGED = f"{SWAKS.format('203.0.113.5', 25)} --from alice@example.com --to forward@local.test {HEADER}"
LOCAL = "printf 'From: alice@example.com\\nSubject: {}\\n\\nHello\\n' | sendmail -i bob@example.net"
INTO_LISTENER = f"{SWAKS.format('127.0.0.1', 10028)} --from alice@example.com --to bob@example.net {HEADER}"


@pytest.fixture
def server(fresh: Path) -> Iterator[Server]:
    """A server set up with the defaults: local mail is not signed, and mail comes back by sendmail(1)."""
    with serving(fresh, MAIN) as bare:
        done = setup(bare.machine, "example.com", "--selector", "s1")
        assert done.status == 0, done
        yield bare._replace(records=printed_records(done))


def test_another_filter_that_ends_in_sendmail_is_refused_and_the_advice_works(server: Server) -> None:
    machine = server.machine
    dkimpipe(machine, "postfix", "--revert")
    machine.shell(FILTER)
    refused = dkimpipe(machine, "postfix", "--apply", "--sign", "local")
    what = "disclaimer/unix: mail from outside comes back from it by sendmail(1), and would be signed"
    assert (refused.status, refused.stderr.splitlines()[0]) == (78, f"dkimpipe: --sign local: {what}")
    (command,) = re.findall(r"let it run (\S.*) -f SENDER -- RECIPIENT\.\.\.$", refused.stderr, re.MULTILINE)
    machine.shell(f"sed -i 's|/usr/sbin/sendmail -G -i|{command}|' /usr/local/bin/disclaimer")
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "bounces,local").status == 0
    checked = dkimpipe(machine, "check", "--postfix")
    assert checked.stdout.startswith("dkimpipe: Postfix is set up\n"), checked.stdout
    machine.shell(f"{NO_WAIT}; postfix start; {FORGED} forged; {LOCAL.format('local')}")
    assert server.arrived("forged", "local") == {"forged": 0, "local": 1}
    assert b"Hello (from outside)" in server.message("forged").data


EMPTY = "until postqueue -p | grep -q 'queue is empty'; do sleep 0.1; done"
# What sendmail(1) is given besides bob@example.net, and as what it is logged that it bounces.
NOT_VALID = {
    "one": (["typo@remote..example"], ["typo@remote..example"]),
    "two": (["typo@remote..example", "x@-bad-.example"], ["typo@remote..example", "x@-bad-.example"]),
    "thirty": ([f"{number}@a..b" for number in range(30)], [f"{number}@a..b" for number in range(30)]),
    "two words": (["'a@\"b c\"'"], ["a@b?c"]),
    "a comma": (["'a@\"b,c\"'"], ["a@b??c"]),
}


@pytest.mark.parametrize(("given", "logged"), NOT_VALID.values(), ids=NOT_VALID)
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_a_recipient_that_is_not_valid_bounces_and_holds_up_no_other(
    server: Server, given: list[str], logged: list[str], is_first: bool
) -> None:
    machine = server.machine
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    words = " ".join([*given, "bob@example.net"] if is_first else ["bob@example.net", *given])
    local = LOCAL.format("typo").replace("bob@example.net", f"-f alice@example.com {words}")
    machine.shell(f"{NO_WAIT}; postfix start; {local}")
    assert server.arrived("typo", "Undelivered Mail Returned to Sender")["typo"] == 1
    log = machine.shell(f"{EMPTY}; cat /var/log/mail.log")
    for recipient in logged:
        assert re.search(rf"to=<{re.escape(recipient)}>, .* dsn=5\.1\.3, status=bounced", log)
    assert "status=deferred" not in log
    assert log.count("status=sent (250") == 2  # to bob, and the notice


@pytest.mark.parametrize("sender", ["www-data@web..lan", "a@", "$(printf 'j\\366rg@example.com')"])
def test_a_sender_that_is_not_valid_holds_up_nothing(server: Server, sender: str) -> None:
    machine = server.machine
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    local = LOCAL.format("typo").replace("bob@example.net", f'-f "{sender}" bob@example.net')
    machine.shell(f"{NO_WAIT}; postfix start; {local}")
    assert server.arrived("typo") == {"typo": 1}
    assert server.message("typo").sender == ""


def test_mail_into_the_listener_is_not_signed(server: Server) -> None:
    machine = server.machine
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "all").status == 0
    machine.shell(f"{NO_WAIT}; postfix start; {INTO_LISTENER} listener")
    assert server.arrived("listener") == {"listener": 0}


def test_mail_on_its_way_back_by_sendmail_at_the_change_arrives_once(server: Server) -> None:
    """It passes the filter once more, and has a second signature: nothing is lost, and nothing loops."""
    machine = server.machine
    message = "printf 'From: alice@example.com\\nSubject: returning\\n\\nHello\\n'"
    become = "setpriv --reuid=dkimpipe --regid=dkimpipe --clear-groups"
    arguments = "--sender_map=/etc/dkimpipe/senders -f alice@example.com -- bob@example.net"
    machine.shell(f"{message} | {become} {DKIMPIPE} {arguments}")  # it waits in the maildrop directory
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    machine.shell(f"{NO_WAIT}; postfix start")
    assert server.arrived("returning") == {"returning": 2}


def test_mail_waiting_for_the_filter_at_the_change_is_signed_once(server: Server) -> None:
    machine = server.machine
    machine.shell("postconf -e defer_transports=dkimpipe")
    machine.shell(
        f"{NO_WAIT}; postfix start; {SWAKS.format('127.0.0.1', 587)} --from alice@example.com"
        f" --to bob@example.net {HEADER} waiting"
    )
    machine.shell("until postqueue -p | grep -q 'deferred transport'; do sleep 0.1; done")
    machine.shell("postconf -X defer_transports")
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    machine.shell(f"{NO_WAIT}; postfix reload; sleep 0.5; postqueue -f")
    assert server.arrived("waiting") == {"waiting": 1}


def test_after_revert_mail_that_waits_for_the_relay_arrives(server: Server) -> None:
    """The queue names the service, which is back as it was: by sendmail(1)."""
    machine = server.machine
    machine.shell("postconf -e defer_transports=dkimpipe")
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    machine.shell(f"{NO_WAIT}; postfix start; {LOCAL.format('waiting')}")
    machine.shell("until postqueue -p | grep -q 'deferred transport'; do sleep 0.1; done")
    assert dkimpipe(machine, "postfix", "--revert").status == 0
    assert dkimpipe(machine, "postfix", "--apply").status == 0
    machine.shell(f"postconf -X defer_transports; {NO_WAIT}; postfix reload; sleep 0.5; postqueue -f")
    assert server.arrived("waiting") == {"waiting": 1}


def test_removed_from_a_running_postfix_no_mail_stays_behind(server: Server) -> None:
    machine, subjects = server.machine, [f"n{number}" for number in range(30)]
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "all").status == 0
    machine.shell(f"{NO_WAIT}; postfix start; {'; '.join(map(LOCAL.format, subjects))}")
    done = dkimpipe(machine, "setup", "--remove")
    assert (done.status, re.sub(".*refreshing.*\\n", "", done.stderr)) == (0, "")
    assert set(server.arrived(*subjects)) == set(subjects)
    log = machine.shell(f"{EMPTY}; ! getent passwd dkimpipe; cat /var/log/mail.log")
    assert "status=deferred" not in log


def test_after_revert_mail_that_waits_for_the_filter_leaves_by_the_command_that_is_printed(
    server: Server,
) -> None:
    machine = server.machine
    machine.shell("postconf -e defer_transports=dkimpipe")
    assert dkimpipe(machine, "postfix", "--apply", "--sign", "local").status == 0
    machine.shell(f"{NO_WAIT}; postfix start; {LOCAL.format('waiting')}")
    machine.shell("until postqueue -p | grep -q 'deferred transport'; do sleep 0.1; done")
    reverted = dkimpipe(machine, "postfix", "--revert").stdout
    assert reverted.endswith(
        "\n# mail that waits for the filter leaves unsigned by: postsuper -r ALL deferred\n"
    )
    again = dkimpipe(machine, "postfix", "--revert", "--reload")
    assert (again.status, again.stderr.splitlines()[1:]) == (
        78,
        [
            "hint: # dkimpipe postfix --apply was not run here, or is undone already; if Postfix still uses"
            " the settings:",
            "hint: postfix reload",
        ],
    )
    command = reverted.rpartition(": ")[2]
    machine.shell(f"postconf -X defer_transports; {NO_WAIT}; postfix reload; sleep 0.5; {command}")
    machine.shell(LOCAL.format("triggers pickup"))
    assert server.arrived("waiting", "triggers pickup") == {"waiting": 0, "triggers pickup": 0}
    assert dkimpipe(machine, "postfix", "--apply").status == 0
    assert "# mail that waits" not in dkimpipe(machine, "postfix", "--revert").stdout  # the queue is empty
