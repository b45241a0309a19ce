"""The commands of dkimpipe-reports(1) and dkimpipe-reflect(1), as written, in both orders.

What local(8) then runs works for the users of both: none takes away the other's directory.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from conftest import MESSAGE, PROJECT
from installing import DKIMPIPE
from reporting import Flow, packed, report
from throwaway import Done, Machine

LIB = "/var/lib/dkimpipe"
MAIL = packed(report([Flow("192.0.2.1", 1, "example.com", (), ("", "none"))])).decode()
SENDMAIL = "/tmp/sendmail"


def commands(verb: str, first: str) -> str:
    """Return the commands of a page in the paragraph that begins with this word."""
    text = (PROJECT / f"dkimpipe/man/dkimpipe-{verb}.1.md").read_text()
    (found,) = re.findall(rf"^((?:    .*\n)*    {first} .*\n(?:    .*\n)*)", text, re.MULTILINE)
    return str(found).replace("sendmail -bv", "true")


PAGES = {"reports": commands("reports", "useradd"), "reflect": commands("reflect", "install")}


def store(machine: Machine) -> Done:
    """Store a report as local(8) does: by the command in the file .forward, as its user."""
    home = machine.shell("getent passwd dmarc").split(":")[5]
    command = machine.shell(f"cat {home}/.forward").strip().strip('"').removeprefix("|")
    return as_user(machine, "dmarc", command, MAIL)


def reflect(machine: Machine) -> Done:
    return as_user(machine, "nobody", f"{DKIMPIPE} reflect --sendmail {SENDMAIL}", MESSAGE.decode())


def as_user(machine: Machine, user: str, command: str, stdin: str = "") -> Done:
    group = machine.shell(f"id -g {user}").strip()
    words = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "sh",
        "-c",
        f"umask 077; exec {command}",
    ]
    environment = {"SENDER": "alice@example.com", "RECIPIENT": "dkim-test@example.com"}
    return machine.run(*words, stdin=stdin, environment=environment)


def prepared(machine: Machine) -> Machine:
    machine.shell(f"rm -rf {LIB}; if getent passwd dmarc; then userdel dmarc; fi")
    machine.shell(f"printf '#!/bin/sh\ncat >/dev/null\n' >{SENDMAIL}; chmod 755 {SENDMAIL}")
    return machine


@pytest.mark.parametrize("order", [*itertools.permutations(PAGES)], ids="-".join)
@pytest.mark.parametrize("as_root", [False, True], ids=["", "root stores a report first"])
def test_both_pages(fresh: Path, order: tuple[str, ...], as_root: bool) -> None:
    with Machine(fresh) as copy:
        machine = prepared(copy)
        for page in order:
            machine.shell(PAGES[page])
        if as_root:
            (machine.root / "tmp/report").write_text(MAIL.replace("192.0.2.1", "192.0.2.2"))
            machine.shell(f"chmod 644 /tmp/report; {DKIMPIPE} reports --store /tmp/report")
        assert store(machine) == Done(0, "", "")
        done = reflect(machine)
        assert done == Done(0, "", ""), done.stderr
        assert machine.run(DKIMPIPE, "reports", "--cron").stderr == ""
        listing = machine.shell(
            f"find {LIB} -maxdepth 2 -not -path '*/reflect/*' -printf '%m %u %p\n' | sort -k3"
        )
        assert listing.splitlines() == [
            f"755 root {LIB}",
            f"700 nobody {LIB}/reflect",
            f"750 dmarc {LIB}/reports",
            f"644 dmarc {LIB}/reports/.forward",
            f"640 dmarc {LIB}/reports/reports.db",
        ]


def test_the_database_of_an_earlier_version_is_found(fresh: Path) -> None:
    with Machine(fresh) as copy:
        machine = prepared(copy)
        machine.shell(f"useradd --system --home-dir {LIB} --create-home dmarc; chmod 750 {LIB}")
        assert (
            as_user(machine, "dmarc", f"{DKIMPIPE} reports --store --database {LIB}/reports.db", MAIL).status
            == 0
        )
        for command in ("reports", "reports --store"):
            assert as_user(machine, "dmarc", f"{DKIMPIPE} {command}", MAIL).status == 0
        assert machine.shell(f"ls {LIB}") == "reports.db\n"


# What is wrong, as which user what is run, and what it says.
WRONG = {
    "the parent is closed to reflect": (
        f"install -d -m 0750 {LIB}; install -d -m 0700 -o nobody {LIB}/reflect",
        reflect,
        f"{LIB}/reflect: Permission denied: nobody cannot enter {LIB} (mode 0750)\nhint: chmod a+x {LIB}",
    ),
    "the parent is closed to reports": (
        f"{PAGES['reports']}chmod 700 {LIB}",
        lambda machine: as_user(machine, "dmarc", f"{DKIMPIPE} reports --store", MAIL),
        f"{LIB}/reports/reports.db: Permission denied: dmarc cannot enter {LIB} (mode 0700)\n"
        f"hint: chmod a+x {LIB}",
    ),
    "the directory is root's": (
        f"{PAGES['reports']}chown root: {LIB}/reports; chmod 755 {LIB}/reports",
        store,
        f"{LIB}/reports/reports.db: Permission denied: dmarc cannot write to {LIB}/reports\n"
        f"hint: chown -h dmarc: {LIB}/reports",
    ),
    "the database is root's": (
        f"{PAGES['reports']}install -m 0640 /dev/null {LIB}/reports/reports.db",
        store,
        f"{LIB}/reports/reports.db: Permission denied: it belongs to root, not to dmarc\n"
        f"hint: chown -h dmarc: {LIB}/reports/reports.db",
    ),
    "there is no directory": (
        f"{PAGES['reports']}mv {LIB}/reports /tmp/home; usermod -d /tmp/home dmarc",
        store,
        f"{LIB}/reports/reports.db: No such file or directory\n"
        f"hint: install -d -m 0750 -o dmarc {LIB}/reports",
    ),
}


@pytest.mark.parametrize(("what", "run", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_owner_is_named_and_the_hint_fixes_it(
    fresh: Path, what: str, run: object, message: str
) -> None:
    assert callable(run)
    with Machine(fresh) as copy:
        machine = prepared(copy)
        machine.shell(what)
        assert run(machine) == Done(75, "", f"4.3.0 dkimpipe: {message}\n")
        machine.shell(message.partition("hint: ")[2])
        assert run(machine) == Done(0, "", "")
