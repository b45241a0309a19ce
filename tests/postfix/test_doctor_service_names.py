"""``check --postfix``: settings that name a service which master.cf does not have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, Fault, check, checks_of, damage, error, run

WAITS = "and mail that needs it waits"


def fault(where: str, name: str, hint: str) -> str:
    return error(f"{where}: there is no service {name} in master.cf, {WAITS}", f"postconf -c DIR {hint}")


FAULTS: dict[str, Fault] = {
    "cleanup(8) of notices": (
        "-P bounce/unix/cleanup_service_name=clean",
        fault("bounce/unix/cleanup_service_name", "clean", "-PX bounce/unix/cleanup_service_name"),
    ),
    "cleanup(8) of local mail": (
        "-P pickup/unix/cleanup_service_name=pre-cleanup",
        fault("pickup/unix/cleanup_service_name", "pre-cleanup", "-PX pickup/unix/cleanup_service_name"),
    ),
    "cleanup(8) of port 25": (
        "-P smtp/inet/cleanup_service_name=dkimpipe-return",
        fault("smtp/inet/cleanup_service_name", "dkimpipe-return", "-PX smtp/inet/cleanup_service_name"),
    ),
    "trivial-rewrite(8) of a service": (
        "-P smtp/inet/rewrite_service_name=resolve",
        fault("smtp/inet/rewrite_service_name", "resolve", "-PX smtp/inet/rewrite_service_name"),
    ),
    "bounce(8)": (
        "-e bounce_service_name=bounces",
        fault("bounce_service_name", "bounces", "-X bounce_service_name"),
    ),
    "by a macro": (
        "-e mine=bounces 'bounce_service_name=$mine'",
        fault("bounce_service_name", "bounces", "-X bounce_service_name"),
    ),
    "the transport of a service": (
        "-P local/unix/mailbox_transport=dovecot",
        fault("local/unix/mailbox_transport", "dovecot", "-PX local/unix/mailbox_transport"),
    ),
    "a transport with a next hop": (
        "-e virtual_transport=lmpt:unix:private/dovecot-lmtp",
        fault("virtual_transport", "lmpt", "-X virtual_transport"),
    ),
    "no cleanup(8)": (
        "-MX cleanup/unix",
        error(
            "cleanup/unix: there is no service cleanup, which all mail needs",
            "postconf -c DIR -M 'cleanup/unix=cleanup unix n - n - 0 cleanup'",
        ),
    ),
}
GOODS = {
    "one that is there": "-M 'c2/unix=c2 unix n - n - 0 cleanup'\n-P bounce/unix/cleanup_service_name=c2",
    "a transport with a next hop": "-e default_transport=smtp:[mx.example.net]",
    "an empty transport": "-e mailbox_transport=",
    "a parameter of one's own": "-e my_service_name=nowhere",
}

test_it_prints_this_and_nothing_else, test_the_commands_fix_it = checks_of(FAULTS)


@pytest.mark.parametrize("name", GOODS)
def test_nothing_is_found(name: str, directory: Path, words: dict[str, str]) -> None:
    damage(directory, (GOODS[name], ""), words)
    assert check(directory) == GOOD


def test_each_parameter_of_this_postfix(directory: Path, words: dict[str, str]) -> None:
    """Whatever ends in _service_name there names a service."""
    text = subprocess.run(["postconf", "-d"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^(\w+_service_name) =", text, re.MULTILINE)
    assert len(names) > 15
    damage(directory, ("-e " + " ".join(f"{name}=nowhere" for name in names), ""), words)
    output = check(directory)[1]
    assert [name for name in names if f"error: {name}: there is no service nowhere in" not in output] == []


@pytest.mark.parametrize("service", ["dkimpipe-sign", "dkimpipe-return", "dkimpipe-cleanup"])
def test_a_service_of_dkimpipe_is_created_again(service: str, directory: Path, words: dict[str, str]) -> None:
    """Once by the hints, and once by --apply: with what is signed as before."""
    damage(directory, ("-e always_bcc=archive@example.com mynetworks=127.0.0.1", ""), words)
    assert run(directory, "postfix", "--apply", "--sign", "bounces,networks")[0] == 0
    settled(directory / "main.cf")
    assert check(directory) == GOOD
    before = (directory / "master.cf").read_text()
    for verb in (("check", "--postfix"), ("postfix", "--apply")):
        damage(directory, (f"-M# {service}/unix", ""), words)
        output = run(directory, *verb)[1]
        for line in re.findall(r"hint: (postconf .*)", output):
            subprocess.run(["sh", "-c", line], check=True)
        settled(directory / "main.cf")
        assert check(directory) == GOOD
        assert f"{service}  unix" in re.sub(r"^(\S+) +unix", r"\1  unix", before, flags=re.MULTILINE)
        assert WAITS not in output
        assert re.search(rf"^{service}\s+unix", (directory / "master.cf").read_text(), re.MULTILINE)
