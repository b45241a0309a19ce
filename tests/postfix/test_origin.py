"""A host whose own name is not in a domain that is signed: its notices, and ``dkimpipe test``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installing import DKIMPIPE, NO_WAIT, setup
from throwaway import Done, Machine

CHOICE = "postconf -c /etc/postfix -e myorigin=example.com && postfix reload"
ENTRY = "an entry for {} with d=example.com in /etc/dkimpipe/senders"
UNSIGNED = "not signed: bounces: no entry for MAILER-DAEMON@{} (myorigin)"


@pytest.fixture(scope="module")
def done(fresh: Path) -> Iterator[tuple[Machine, Done]]:
    """A running Postfix that signs mail of example.com, and how setup ended."""
    with Machine(fresh, network=True) as machine:
        (machine.root / "etc/mailname").write_text("vm.internal\n")
        machine.shell(f"postconf -e myorigin=/etc/mailname myhostname=vm.internal; {NO_WAIT}")
        said = setup(machine, "example.com")
        machine.shell(f"{NO_WAIT}; touch -d -1hour /etc/postfix/master.cf; postfix start; sleep 1")
        yield machine, said


def test_setup_names_what_is_not_signed(done: tuple[Machine, Done]) -> None:
    assert done[1].status == 0
    assert done[1].stdout.endswith(
        f"\n{UNSIGNED.format('vm.internal').capitalize().replace('mailer-daemon', 'MAILER-DAEMON')}\n\n"
        f"    dkimpipe setup vm.internal\n    or: {CHOICE}\n    or: {ENTRY.format('vm.internal')}\n"
    )


def test_check_notes_it(done: tuple[Machine, Done]) -> None:
    found = done[0].run(DKIMPIPE, "check", "--postfix")
    assert found.status == 0
    hints = f"hint: dkimpipe setup vm.internal\nhint: # or: {CHOICE}\n"
    hints += f"hint: # or: {ENTRY.format('vm.internal')}\n"
    assert f"dkimpipe: note: {UNSIGNED.format('vm.internal')}\n{hints}" in found.stdout


def test_a_bounce_is_from_that_author(done: tuple[Machine, Done]) -> None:
    machine = done[0]
    machine.run(DKIMPIPE, "test", "nobody-there@vm.internal", "--via", "sendmail", "--wait", "3")
    log = machine.shell("sleep 1; cat /var/log/mail.log")
    assert "not signed: no entry for MAILER-DAEMON@vm.internal" in log


def test_a_test_message_has_an_author_that_is_signed(done: tuple[Machine, Done]) -> None:
    found = done[0].run(DKIMPIPE, "test", "root@localhost")
    assert "from root@example.com to root@localhost, by smtp\n" in found.stdout
    assert "dkimpipe: signed d=example.com " in found.stdout


def test_no_hint_has_an_invalid_domain(done: tuple[Machine, Done]) -> None:
    machine = done[0]
    found = machine.run(DKIMPIPE, "test", "root@localhost", "--from", "root@internal")
    assert found.stdout.endswith(
        "not signed: no entry for root@internal\n"
        "hint: --from with an ADDRESS whose domain is in the senders file\n"
    )
    (machine.root / "etc/mailname").write_text("internal\n")
    said = machine.run(DKIMPIPE, "check", "--postfix").stdout
    (machine.root / "etc/mailname").write_text("vm.internal\n")
    assert f"{UNSIGNED.format('internal')}\nhint: {CHOICE}\n" in said


def test_a_domain_that_covers_the_host_is_enough(done: tuple[Machine, Done]) -> None:
    machine = done[0]
    (machine.root / "etc/mailname").write_text("mx.example.com\n")
    said = machine.run(DKIMPIPE, "check", "--postfix").stdout
    (machine.root / "etc/mailname").write_text("vm.internal\n")
    assert "MAILER-DAEMON" not in said
