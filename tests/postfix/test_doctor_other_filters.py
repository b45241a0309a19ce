"""``check --postfix``: other filters that end in sendmail(1), and how they sign."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import check, edit, error, hints

from dkimpipe.admin import invocation
from dkimpipe.admin.postfix import coverage, other_filters, planning
from dkimpipe.admin.postfix.postconf import Postconf

IDENTITY = "--login=${sasl_username} --client=${client_address}"
ENVELOPE = "-f ${sender} -- ${recipient}"
ONE_FILTER = "submission/inet/content_filter: another:dummy gets this mail, and a service can have only one"
SIMPLE = """\
#!/bin/sh
SENDMAIL="/usr/sbin/sendmail -G -i" # NEVER NEVER NEVER use "-t" here.
cat >in.$$
$SENDMAIL "$@" <in.$$
"""
POSITIONS = '#!/bin/sh\nS=$1; shift\n/usr/sbin/sendmail -G -i -f "$S" -- "$@"\n'

# A script, the arguments that pipe(8) gives it, and those that it gets if commands can be printed.
COMMANDS = {
    "as in FILTER_README": (SIMPLE, ENVELOPE, f"{IDENTITY} {ENVELOPE}"),
    "a path alone in a variable": (
        '#!/bin/sh\nSENDMAIL=/usr/sbin/sendmail\n$SENDMAIL "$@" <in.$$\n',
        ENVELOPE,
        f"{IDENTITY} {ENVELOPE}",
    ),
    "a variable in quotes": (
        '#!/bin/bash\nset -e\nMTA="/usr/sbin/sendmail"\n"$MTA" -G -i "$@"\n',
        ENVELOPE,
        f"{IDENTITY} {ENVELOPE}",
    ),
    "options in master.cf": (
        '#!/bin/bash\ncat | /usr/sbin/sendmail -i "$@"\n',
        "-oi -f ${sender} ${recipient}",
        f"{IDENTITY} -oi -f ${{sender}} ${{recipient}}",
    ),
    "another path, and options without effect": (
        '#!/bin/sh\n/usr/lib/sendmail -oi -oem "$@"\n',
        ENVELOPE,
        f"{IDENTITY} {ENVELOPE}",
    ),
    "arguments by position": (POSITIONS, "${sender} ${recipient}", "${sender} ${recipient}"),
    "sendmail(1) in a comment, too": (
        SIMPLE.replace("cat >", "# not /usr/sbin/sendmail -t\ncat >"),
        ENVELOPE,
        f"{IDENTITY} {ENVELOPE}",
    ),
}
# Scripts of which it is not known whether they would work.
BY_HAND = {
    "Perl": ('#!/usr/bin/perl\nopen(O, "|-", "/usr/sbin/sendmail", "-G", "-i", @ARGV);\n', ENVELOPE),
    "Python": ('#!/usr/bin/python3\nrun(["/usr/sbin/sendmail", "-G"] + sys.argv[1:])\n', ENVELOPE),
    "recipients from the message": ("#!/bin/sh\n/usr/sbin/sendmail -i -t\n", ENVELOPE),
    "its own option by a variable": ('#!/bin/sh\nM=/usr/sbin/sendmail\n$M -t -f "$@"\n', ENVELOPE),
    "two calls": ('#!/bin/sh\n/usr/sbin/sendmail "$@"\n/usr/sbin/sendmail root\n', ENVELOPE),
    "options of its own": (SIMPLE, f"--verbose {ENVELOPE}"),
    "within a longer path": ('#!/bin/sh\n/usr/sbin/sendmail "$@" >/usr/sbin/sendmail.log\n', ENVELOPE),
}


def with_filter(directory: Path, script: str, arguments: str) -> Path:
    """Let mail from users pass a script; return it."""
    path = directory.parent / "filter"
    path.write_text(script)
    path.chmod(0o755)
    line = f"another unix - n n - 4 pipe flags=Rq user=daemon argv={path} {arguments}"
    edit(directory, f"-M 'another/unix={line}'\n-P submission/inet/content_filter=another:dummy", {})
    return path


def hints_on_the_filter(directory: Path) -> list[str]:
    output = check(directory)[1]
    assert ONE_FILTER in output
    return hints(output.partition(ONE_FILTER)[2].partition("dkimpipe: ")[0])


@pytest.mark.parametrize(("script", "given", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_commands_are_printed_and_end_the_error(
    script: str, given: str, expected: str, directory: Path
) -> None:
    path = with_filter(directory, script, given)
    program = invocation.in_place_of_sendmail()
    commands = hints_on_the_filter(directory)
    assert [each.split()[0] for hint in commands for each in hint.split(" && ")] == ["sed", "postconf"]
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)
    assert f"{program}" in path.read_text()
    master = " ".join((directory / "master.cf").read_text().split())
    assert master.endswith(f"flags=Rq user=daemon:nogroup argv={path} {expected}")
    assert "one filter" not in check(directory)[1]


@pytest.mark.parametrize(("script", "given"), BY_HAND.values(), ids=BY_HAND)
def test_no_command_is_printed(script: str, given: str, directory: Path) -> None:
    path = with_filter(directory, script, given)
    first, second = hints_on_the_filter(directory)
    assert first.startswith(f"# by hand: let {path} run {invocation.in_place_of_sendmail()} in place of")
    assert second.startswith("# or let another return its mail by SMTP to a listener of Postfix")


def test_a_script_of_two_services_is_edited_by_hand(directory: Path) -> None:
    path = with_filter(directory, SIMPLE, ENVELOPE)
    line = f"third unix - n n - 4 pipe flags=Rq user=daemon argv={path} {ENVELOPE}"
    edit(directory, f"-M 'third/unix={line}'", {})
    assert hints_on_the_filter(directory)[0].startswith("# by hand: ")


STRANGERS = "dkimpipe: error: smtp/inet/content_filter: mail from strangers is signed\n"
FOR_STRANGERS = "-P smtp/inet/content_filter=another:dummy"


def test_mail_of_strangers_that_passes_it_is_not_signed(directory: Path) -> None:
    with_filter(directory, SIMPLE, ENVELOPE)
    edit(directory, FOR_STRANGERS, {})
    for command in hints_on_the_filter(directory):
        subprocess.run(["sh", "-c", command], check=True)
    assert STRANGERS not in check(directory)[1]


def test_a_filter_that_cannot_know_strangers_is_edited_by_hand(directory: Path) -> None:
    with_filter(directory, POSITIONS, "${sender} ${recipient}")
    edit(directory, FOR_STRANGERS, {})
    assert hints_on_the_filter(directory)[0].startswith("# by hand: ")


def test_where_strangers_are_signed_no_hint_switches_the_filter_off(directory: Path) -> None:
    script = POSITIONS.replace("/usr/sbin/sendmail", "/opt/dkimpipe/bin/dkimpipe-sendmail")
    with_filter(directory, script, "${sender} ${recipient}")
    edit(directory, FOR_STRANGERS, {})
    output = check(directory)[1]
    assert error("smtp/inet/content_filter: mail from strangers is signed").strip() in output
    found = hints(output.partition(STRANGERS)[2].partition("dkimpipe: ")[0])
    assert [each.split("${")[0] for each in found] == [
        "# give --login=",
        "# or give mail from users a service of its own in master.cf, a copy of another under another name,"
        " and let another itself run sendmail(1) again",
    ]


# Settings with which smtpd(8) does not start, or does, and the services that are reported.
RELAY = "smtpd_relay_restrictions"
STARTS = {
    "nothing at submission": (f"-P submission/inet/{RELAY}=", "submission/inet"),
    "nothing in main.cf": (f"-e {RELAY}=", "smtp/inet"),
    "permit before it": (f"-e {RELAY}=permit,reject_unauth_destination", "smtp/inet"),
    "only a warning": (f"-e {RELAY}=warn_if_reject,reject_unauth_destination", "smtp/inet"),
    "in the other list": (f"-e {RELAY}= smtpd_recipient_restrictions=reject_unauth_destination", ""),
    "in upper case": (f"-e {RELAY}=DEFER", ""),
    "in a class": (f"-e {RELAY}=local smtpd_restriction_classes=local local=defer_unauth_destination", ""),
    "in a class that is none": (f"-e {RELAY}=local local=defer_unauth_destination", "smtp/inet"),
}


@pytest.mark.parametrize(("edits", "service"), STARTS.values(), ids=STARTS)
def test_smtpd_that_does_not_start(edits: str, service: str, directory: Path) -> None:
    edit(directory, edits, {})
    lines = [line for line in check(directory)[1].splitlines() if "does not start" in line]
    assert [line.split(": ")[2] for line in lines] == [service] * bool(service)


@pytest.mark.parametrize("name", ["nothing at submission", "nothing in main.cf", "only a warning"])
def test_the_hint_lets_it_start(name: str, directory: Path) -> None:
    edit(directory, STARTS[name][0], {})
    output = check(directory)[1].partition("does not start")[2]
    subprocess.run(["sh", "-c", hints(output)[0]], check=True)
    assert "does not start" not in check(directory)[1]


@pytest.mark.parametrize(("program", "is_noted"), [("sendmail", True), ("dkimpipe-sendmail", False)])
def test_the_note_leaves_out_networks_if_another_filter_signs_their_mail(
    program: str, is_noted: bool, directory: Path
) -> None:
    with_filter(directory, SIMPLE.replace("/sendmail", f"/{program}"), ENVELOPE)
    edit(directory, "-P smtp/inet/content_filter=another:dummy", {})
    postconf = Postconf(directory)
    note = coverage.unsigned(postconf, planning.kinds_in_use(postconf))
    assert ("networks:" in str(note and note.what)) is is_noted


# Scripts by which mail comes back by SMTP, and by sendmail(1).
METHODS = {
    "smtplib": ("smtplib.SMTP('localhost', 25).sendmail(sender, recipients, text)", False),
    "smtplib, in two steps": (
        "server = smtplib.SMTP('localhost')\nserver.sendmail (sender, to, text)",
        False,
    ),
    "sendmail(1)": ("subprocess.run(['/usr/lib/sendmail', '-i'] + sys.argv[1:], input=text)", True),
    "both": ("server.sendmail(sender, to, text)\nos.execv('/usr/sbin/sendmail', sys.argv)", True),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_smtplib_sends_by_smtp(name: str, directory: Path, tmp_path: Path) -> None:
    code, is_sendmail = METHODS[name]
    script = tmp_path / "script"
    script.write_text(f"#!/usr/bin/python3\n{code}\n")
    edit(directory, f"-M 'another/unix=another unix - n n - - pipe user=nobody argv={script}'", {})
    assert other_filters.calls_sendmail(Postconf(directory).services["another/unix"]) is is_sendmail
