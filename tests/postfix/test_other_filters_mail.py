"""Another filter of mail from users that ends in sendmail(1), on a real Postfix: the hint lets it sign."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import witness
from installing import NO_WAIT, dkimpipe, printed_records, setup
from throwaway import Machine

from postfix import Message, Sink

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
}
SWAKS = (
    "swaks --silent 2 --helo c.test --local-interface {0} --server {0} --port {1} --from alice@example.com"
    " --to {2} --header-From alice@example.com --header-Subject {3} --body Hello"
)
FROM_USER = SWAKS.format("127.0.0.1", 587, "bob@example.net", "submission")
FROM_OUTSIDE = SWAKS.format("203.0.113.5", 25, "forward@local.test", "outside")
LOCAL = "printf 'From: alice@example.com\\nSubject: local\\n\\nHello\\n' | sendmail -i bob@example.net"


def subject(message: Message) -> str:
    found = re.search(rb"^Subject: (.*)\r$", message.data, re.MULTILINE)
    return found[1].decode() if found else ""


@pytest.mark.parametrize("name", FILTERS)
def test_the_hint_lets_it_sign(name: str, fresh: Path) -> None:
    script, arguments = FILTERS[name]
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(MAIN.replace("SINK", str(sink.port)))
        done = setup(machine, "example.com", "--selector", "s1")
        assert done.status == 0, done
        machine.shell(f"{script}chmod 755 /usr/local/bin/*")
        machine.shell(f"postconf -M 'another/unix=another unix - n n - 4 pipe {arguments}'")
        machine.shell("postconf -P submission/inet/content_filter=another:dummy")
        what = "submission/inet/content_filter: another:dummy gets this mail, and a service can have only one"
        checked = dkimpipe(machine, "check", "--postfix")
        assert (checked.status, f"dkimpipe: error: {what}" in checked.stdout) == (78, True), checked.stdout
        hints = checked.stdout.partition(what)[2].split("dkimpipe: ")[0].splitlines()[1:]
        machine.shell("\n".join(hint.removeprefix("hint: ") for hint in hints))
        checked = dkimpipe(machine, "check", "--postfix")
        assert checked.stdout.startswith("dkimpipe: Postfix is set up\n"), checked.stdout
        assert dkimpipe(machine, "postfix", "--apply").stdout == "nothing to change\n"
        machine.shell(f"{NO_WAIT}; postfix start; {FROM_USER}; {FROM_OUTSIDE}; {LOCAL}")
        found = sink.wait(3)
        verdicts = witness.dkimpy_verdicts([each.data for each in found], printed_records(done))
        signed = {subject(each): verdict.count("pass") for each, verdict in zip(found, verdicts)}
        assert signed == {"submission": 1, "outside": 0, "local": 0}
        (submitted,) = [each for each in found if subject(each) == "submission"]
        assert b"Hello (scanned)" in submitted.data
