"""Another filter of mail from users that ends in sendmail(1), on a real Postfix: the hint lets it sign."""

from __future__ import annotations

from pathlib import Path

import pytest
from arriving import serving
from installing import NO_WAIT, dkimpipe, printed_records, setup

MAIN = """\
postconf -e myhostname=mx.example.com mydestination=local.test inet_protocols=ipv4 mynetworks=127.0.0.0/8 \\
    'relayhost=[127.0.0.1]:SINK' alias_maps=hash:/etc/postfix/aliases local_recipient_maps=
echo 'forward: friend@example.net' >/etc/postfix/aliases; postalias /etc/postfix/aliases
ip addr add 203.0.113.5/24 dev lo; useradd --system --no-create-home another
"""
# spamc(1) -e runs a command with the message on its standard input.
SPAMC = """\
cat >/usr/local/bin/spamc <<'END'
#!/bin/sh
while [ "$1" != -e ]; do shift; done; shift
sed 's/^Hello/& (scanned)/' | "$@"
END
"""
SCRIPT = """\
cat >/usr/local/bin/disclaimer <<'END'
#!/bin/sh
# As in FILTER_README of Postfix.
EX_TEMPFAIL=75
SENDMAIL="/usr/sbin/sendmail -G -i"
trap "rm -f /tmp/in.$$" 0 1 2 3 15
cat >/tmp/in.$$ || exit $EX_TEMPFAIL
sed -i 's/^Hello/& (scanned)/' /tmp/in.$$
$SENDMAIL "$@" </tmp/in.$$
exit $?
END
"""
FILTERS = {
    "spamc, as in many a how-to": (
        SPAMC,
        "user=another argv=/usr/local/bin/spamc -f -e /usr/sbin/sendmail -oi -f ${sender} ${recipient}",
    ),
    "a script, as in FILTER_README": (
        SCRIPT,
        "flags=Rq user=another argv=/usr/local/bin/disclaimer -f ${sender} -- ${recipient}",
    ),
    "a script with a command of one line": (
        """cat >/usr/local/bin/disclaimer <<'END'
#!/bin/sh
sed 's/^Hello/& (scanned)/' | /usr/sbin/sendmail -i "$@"
END
""",
        "flags=Rq user=another null_sender= argv=/usr/local/bin/disclaimer -f ${sender} -- ${recipient}",
    ),
    "a script with the path alone in a variable": (
        """cat >/usr/local/bin/disclaimer <<'END'
#!/bin/sh
SENDMAIL=/usr/sbin/sendmail
sed 's/^Hello/& (scanned)/' | $SENDMAIL "$@"
END
""",
        "flags=Rq user=another argv=/usr/local/bin/disclaimer -oi -f ${sender} ${recipient}",
    ),
    "a script with arguments by position": (
        """cat >/usr/local/bin/disclaimer <<'END'
#!/bin/sh
S=$1; shift
sed 's/^Hello/& (scanned)/' | /usr/sbin/sendmail -G -i -f "$S" -- "$@"
END
""",
        "flags=Rq user=another argv=/usr/local/bin/disclaimer ${sender} ${recipient}",
    ),
}
# It exits with 69 on purpose, as in FILTER_README.
REFUSING = SCRIPT.replace("\n$SENDMAIL", "\ngrep -q ^Subject:.refused /tmp/in.$$ && exit 69\n$SENDMAIL", 1)
PROGRAM = "/opt/dkimpipe/bin/dkimpipe-sendmail"
SWAKS = (
    "swaks --silent 2 --helo c.test --local-interface {0} --server {0} --port {1} --from alice@example.com"
    " --to {2} --header-From alice@example.com --header-Subject {3} --body Hello"
)
FROM_USER = SWAKS.format("127.0.0.1", 587, "bob@example.net", "submission")
FROM_OUTSIDE = SWAKS.format("203.0.113.5", 25, "forward@local.test", "outside")
LOCAL = "printf 'From: alice@example.com\\nSubject: local\\n\\nHello\\n' | sendmail -i bob@example.net"


@pytest.mark.parametrize("name", FILTERS)
def test_the_hint_lets_it_sign(name: str, fresh: Path) -> None:
    script, arguments = FILTERS[name]
    with serving(fresh, MAIN) as server:
        machine = server.machine
        done = setup(machine, "example.com", "--selector", "s1")
        assert done.status == 0, done
        server = server._replace(records=printed_records(done))
        machine.shell(f"{script}chmod 755 /usr/local/bin/*")
        machine.shell(f"postconf -M 'another/unix=another unix - n n - 4 pipe {arguments}'")
        machine.shell("postconf -P submission/inet/content_filter=another:dummy")
        what = "submission/inet/content_filter: another:dummy gets this mail, and a service can have only one"
        checked = dkimpipe(machine, "check", "--postfix")
        assert (checked.status, f"dkimpipe: error: {what}" in checked.stdout) == (78, True), checked.stdout
        machine.shell(server.hints(what))
        checked = dkimpipe(machine, "check", "--postfix")
        assert checked.stdout.startswith("dkimpipe: Postfix is set up\n"), checked.stdout
        assert dkimpipe(machine, "postfix", "--apply").stdout == "nothing to change\n"
        machine.shell(f"{NO_WAIT}; postfix start; {FROM_USER}; {FROM_OUTSIDE}; {LOCAL}")
        expected = {"submission": 1, "outside": 0, "local": 0}
        assert server.arrived(*expected) == expected
        assert b"Hello (scanned)" in server.message("submission").data


def test_while_the_program_is_away_mail_waits_for_it(fresh: Path) -> None:
    with serving(fresh, MAIN) as server:
        machine = server.machine
        done = setup(machine, "example.com", "--selector", "s1")
        server = server._replace(records=printed_records(done))
        _, arguments = FILTERS["a script, as in FILTER_README"]
        machine.shell(f"{REFUSING}chmod 755 /usr/local/bin/*")
        machine.shell(f"postconf -M 'another/unix=another unix - n n - 4 pipe {arguments}'")
        machine.shell("postconf -P submission/inet/content_filter=another:dummy")
        machine.shell(server.hints("submission/inet/content_filter: another:dummy gets this mail"))
        machine.shell(f"mv {PROGRAM} {PROGRAM}.away; {NO_WAIT}; postfix start; {FROM_USER}")
        deferred = "status=deferred (Command died with status 127: "
        machine.shell(
            f"timeout 20 sh -c 'until grep -qF \"{deferred}\" /var/log/mail.log; do sleep .1; done'"
        )
        checked = dkimpipe(machine, "check", "--postfix")
        what = f"another/unix: {PROGRAM}, which /usr/local/bin/disclaimer runs, does not exist"
        assert f"dkimpipe: error: {what}: its mail stays in the queue\n" in checked.stdout
        machine.shell(f"mv {PROGRAM}.away {PROGRAM}; postqueue -f")
        assert server.arrived("submission") == {"submission": 1}
        assert dkimpipe(machine, "check", "--postfix").status == 0
        refused = SWAKS.format("127.0.0.1", 587, "bob@example.net", "refused")
        machine.shell(refused)
        notice = "Undelivered Mail Returned to Sender"
        assert server.arrived("submission", notice) == {"submission": 1, notice: 1}
