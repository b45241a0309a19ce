"""``dkimpipe check --postfix`` on a running Postfix that has not read its files since they were edited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installing import AS_NOBODY, DKIMPIPE, IS_SET_UP, NO_WAIT, run, setup
from throwaway import Machine

STALE = "Postfix has not read master.cf since it was edited: nobody listens for"
START = "postfix stop && postfix start"
MORE = "smtps inet n - y - - smtpd"


@pytest.fixture(scope="module")
def machine(fresh: Path) -> Iterator[Machine]:
    """Postfix runs, and signs mail of example.com."""
    with Machine(fresh, network=True) as machine:
        machine.shell(f"postconf -e myorigin=example.com inet_interfaces=all\n{NO_WAIT}")
        assert setup(machine, "example.com").status == 0
        machine.shell(f"{NO_WAIT}; touch -d -1hour /etc/postfix/master.cf; postfix start; sleep 2")
        yield machine


def said(machine: Machine) -> list[str]:
    """Return the warnings of settings that Postfix has not read, each with its hint."""
    lines = run(machine, "check", "--postfix").stdout.splitlines()
    return [
        f"{line[len('dkimpipe: warning: ') :]} => {hint[len('hint: ') :]}"
        for line, hint in zip(lines, lines[1:])
        if "since" in line
    ]


def edited(machine: Machine, *edits: str) -> None:
    machine.shell("\n".join(f"postconf {edit}" for edit in edits))
    machine.shell(NO_WAIT)


def test_nothing_is_wrong_after_start_and_reload(machine: Machine) -> None:
    assert run(machine, "check", "--postfix").stdout == IS_SET_UP
    edited(machine, "-P submission/inet/smtpd_timeout=300s")
    machine.shell("postfix reload; sleep 1")
    assert run(machine, "check", "--postfix").stdout == IS_SET_UP


def test_a_new_service_before_the_reload(machine: Machine) -> None:
    edited(machine, f"-M 'smtps/inet={MORE}'")
    assert said(machine) == [f"{STALE} smtps/inet => postfix reload"]
    machine.shell("postfix reload; sleep 1")
    assert said(machine) == []
    edited(machine, "-MX smtps/inet")
    machine.shell("postfix reload; sleep 1")


def test_a_test_message_names_it(machine: Machine) -> None:
    edited(machine, f"-M 'smtps/inet={MORE}'")
    done = run(machine, "test", "root@localhost", "--via", "sendmail")
    edited(machine, "-MX smtps/inet")
    machine.shell("postfix reload; sleep 1")
    assert done.stdout.endswith(f"error: not signed: {STALE} smtps/inet\nhint: postfix reload\n")


def test_two_files_that_were_edited_later(machine: Machine) -> None:
    machine.shell("sleep 2; echo '# edited' | tee -a /etc/postfix/main.cf >>/etc/postfix/master.cf")
    what = "Postfix was not reloaded since main.cf and master.cf were edited"
    assert said(machine) == [f"{what} => postfix reload"]
    machine.shell("sleep 2; postfix reload; sleep 1")
    assert said(machine) == []


@pytest.mark.parametrize("name", ["main.cf", "master.cf"])
def test_a_file_that_was_edited_later(machine: Machine, name: str) -> None:
    path = machine.root / "etc/postfix" / name
    machine.shell("sleep 2")
    path.write_bytes(path.read_bytes() + b"# edited\n")
    assert said(machine) == [f"Postfix was not reloaded since {name} was edited => postfix reload"]
    machine.shell("sleep 2; postfix reload; sleep 1")
    assert said(machine) == []


def test_a_reload_a_moment_ago(machine: Machine) -> None:
    edited(machine, f"-M 'smtps/inet={MORE}'")
    machine.shell("sleep 2; postfix reload")
    assert said(machine) == []
    edited(machine, "-MX smtps/inet")
    machine.shell("postfix reload; sleep 1")


def test_interfaces_need_a_restart(machine: Machine) -> None:
    edited(machine, "-e inet_interfaces=loopback-only")
    machine.shell("postfix reload; sleep 1")
    what = "smtp/inet, submission/inet: Postfix listens at other addresses than inet_interfaces names"
    assert said(machine) == [f"{what}: it was not restarted since that was edited => {START}"]
    machine.shell("postfix stop; postfix start; sleep 1")
    assert said(machine) == []
    edited(machine, "-e inet_interfaces=all")
    machine.shell("postfix reload; sleep 1")
    assert said(machine) == [f"{what}: it was not restarted since that was edited => {START}"]
    edited(machine, "-e inet_interfaces=127.0.0.1")
    assert said(machine) == []
    edited(machine, "-e inet_interfaces=all")
    machine.shell("postfix stop; postfix start; sleep 1")


@pytest.mark.parametrize("interfaces", ["all", "loopback-only"])
def test_protocols_need_a_restart(machine: Machine, interfaces: str) -> None:
    edited(machine, f"-e inet_protocols=ipv4 inet_interfaces={interfaces}")
    machine.shell("postfix stop; postfix start; sleep 1")
    assert said(machine) == []
    what = "smtp/inet, submission/inet: Postfix listens by other protocols than inet_protocols names"
    for protocols in ("all", "ipv6", "ipv4, ipv6"):
        edited(machine, f"-e 'inet_protocols={protocols}'")
        machine.shell("postfix reload; sleep 1")
        assert said(machine) == [f"{what}: it was not restarted since that was edited => {START}"]
    machine.shell("postfix stop; postfix start; sleep 1")
    assert said(machine) == []
    edited(machine, "-e inet_protocols=ipv4")
    machine.shell("postfix reload; sleep 1")
    assert said(machine) == [f"{what}: it was not restarted since that was edited => {START}"]
    edited(machine, "-e inet_protocols=all inet_interfaces=all")
    machine.shell("postfix stop; postfix start; sleep 1")


def test_a_host_without_ipv6(machine: Machine) -> None:
    """Postfix leaves out what the kernel does not have."""
    machine.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && postfix stop; postfix start; sleep 1")
    try:
        assert said(machine) == []
    finally:
        machine.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0; postfix stop; postfix start; sleep 1")


def test_users_on_other_hosts_cannot_connect(machine: Machine) -> None:
    edited(machine, "-e inet_interfaces=loopback-only")
    done = run(machine, "check", "--postfix")
    edited(machine, "-e inet_interfaces=all")
    assert (
        "dkimpipe: note: submission/inet: users on other hosts cannot connect: inet_interfaces has only this"
        f" host\nhint: postconf -c /etc/postfix -e inet_interfaces=all && {START}\n" in done.stdout
    )
    assert done.status == 0


def test_a_port_of_another_program_does_not_count(machine: Machine) -> None:
    edited(machine, f"-M 'smtps/inet={MORE}'")
    listen = "import socket, time; s = socket.create_server(('', 465)); time.sleep(9)"
    machine.shell(f'python3 -c "{listen}" >/dev/null 2>&1 & sleep 1')
    assert said(machine) == [f"{STALE} smtps/inet => postfix reload"]
    edited(machine, "-MX smtps/inet")


def test_another_user_or_a_stopped_postfix(machine: Machine) -> None:
    edited(machine, f"-M 'smtps/inet={MORE}'")
    assert "since" not in machine.run(*AS_NOBODY, DKIMPIPE, "check", "--postfix").stdout
    machine.shell("postfix stop")
    assert said(machine) == []
