"""``check --postfix``: filters that run dkimpipe with a relay, and whether there is a listener."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, PORT_25, check, error, fill, fix, hints, run, write

from dkimpipe.admin.postfix import coverage, planning
from dkimpipe.admin.postfix.postconf import Postconf

PASSES_ON = "--sign_clients=authenticated --login= --client=0.0.0.0"
MISSING = "there is no such listener: mail stays in the queue"
SPAM = "spam unix - n n - - pipe flags=q user=nobody argv={} -f ${{sender}} -- ${{recipient}}\n"


def _script(directory: Path, *lines: str) -> Path:
    path = directory / "spam-filter"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def _written(tmp_path: Path, words: dict[str, str], argv: str) -> Path:
    """Write a configuration in which mail from outside passes another filter."""
    master = MASTER.replace(PORT_25, f"{PORT_25}  -o content_filter=spam:dummy\n") + SPAM.format(argv)
    return write(tmp_path / "postfix", f"{MAIN}mynetworks = 127.0.0.1\n", master, words)


# What a script has, or the command line, and what names the relay.
NAMED = {
    "in a script": ('cat | PROGRAM PASSES_ON --relay=LISTENER "$@"', " in SCRIPT"),
    "as two words": ('cat | PROGRAM PASSES_ON --relay LISTENER "$@"', " in SCRIPT"),
    "in quotes": ("cat | PROGRAM PASSES_ON --relay='LISTENER' \"$@\"", " in SCRIPT"),
    "on two lines": ('cat | PROGRAM PASSES_ON \\\n  --relay=LISTENER "$@"', " in SCRIPT"),
    "for one of two": (
        'if true; then PROGRAM PASSES_ON --relay=LISTENER "$@"; else PROGRAM PASSES_ON "$@"; fi',
        " in SCRIPT",
    ),
    "in a conf file": ('PYTHON --conf_file=CONF PASSES_ON "$@"', " in CONF"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_relay_without_a_listener_is_an_error_and_the_commands_create_it(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    line, place = NAMED[name]
    conf = tmp_path / "conf"
    listens = f"127.0.0.1:{words['RETURN_PORT']}"
    conf.write_text(f"relay {listens}\n")
    more = {
        "PYTHON": words["PROGRAM"].partition(" --conf_file")[0],
        "PASSES_ON": PASSES_ON,
        "LISTENER": listens,
        "CONF": str(conf),
        "SCRIPT": str(tmp_path / "spam-filter"),
        **words,
    }
    directory = _written(tmp_path, words, str(_script(tmp_path, fill(line, more))))
    status, output = check(directory)
    assert status == 78
    assert output.startswith(error(f"spam/unix: relay {listens}{fill(place, more)}: {MISSING}"))
    fix(directory, output)
    assert check(directory) == GOOD


def test_a_relay_in_the_command_line(tmp_path: Path, words: dict[str, str]) -> None:
    argv = f'/bin/sh -c {{PROGRAM {PASSES_ON} --relay=127.0.0.1:RETURN_PORT "$@"}} sh'
    directory = _written(tmp_path, words, argv)
    output = check(directory)[1]
    assert f"spam/unix: relay 127.0.0.1:{words['RETURN_PORT']}: {MISSING}" in output
    fix(directory, output)
    assert check(directory) == GOOD


GOODS = {
    "a variable": 'PROGRAM PASSES_ON --relay="$RELAY" "$@"',
    "in a comment": '# PROGRAM PASSES_ON --relay=127.0.0.1:RETURN_PORT "$@"\nexec /usr/bin/true',
    "of another program": 'PROGRAM PASSES_ON "$@"; other --relay=127.0.0.1:RETURN_PORT',
}


@pytest.mark.parametrize("name", GOODS)
def test_what_is_no_relay_of_dkimpipe(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    script = _script(tmp_path, fill(GOODS[name], {"PASSES_ON": PASSES_ON, **words}))
    assert MISSING not in check(_written(tmp_path, words, str(script)))[1]


def test_the_hint_for_local_mail_creates_the_listener_first(tmp_path: Path, words: dict[str, str]) -> None:
    """What it says, step by step, up to a server that signs local mail."""
    script = _script(tmp_path, '/usr/bin/spamc | /usr/sbin/sendmail -oi "$@"')
    directory = _written(tmp_path, words, str(script))
    postconf = Postconf(directory)
    note = coverage.unsigned(postconf, planning.kinds_in_use(postconf))
    assert note
    lines = note.hint.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("create the listener ")]
    relay = lines[at].split()[3].rstrip(",")
    commands = [line for line in lines[at:] if line.startswith("postconf ")]
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)
        settled(directory / "main.cf")
    assert commands and relay in (directory / "master.cf").read_text()
    new = lines[-1].partition(" let it run ")[2].partition(" -f SENDER")[0]
    assert lines[-1].startswith("then let it come back by SMTP: in place of sendmail") and relay in new
    script.write_text(f'#!/bin/sh\n/usr/bin/spamc | {new} "$@"\n')
    assert check(directory) == GOOD
    assert run(directory, "postfix", "--apply", "--sign", "local")[0] == 0
    settled(directory / "main.cf")
    assert check(directory) == GOOD
    assert (directory / "master.cf").read_text().count(f"\n{relay} ") == 1
    again = Postconf(directory)
    assert not planning.obstacle(again, "local")[0]
    assert hints(check(directory)[1]) == []
