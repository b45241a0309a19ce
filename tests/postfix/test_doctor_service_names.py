"""``check --postfix``: settings that name a service which master.cf does not have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, Fault, check, checks_of, damage, error, run

from dkimpipe.admin.postfix.postconf import Postconf

WAITS = "and mail that needs it waits"


def fault(where: str, name: str, hint: str) -> str:
    return error(f"{where}: there is no service {name} in master.cf, {WAITS}", f"postconf -c DIR {hint}")


def in_table(where: str, name: str, key: str, meant: str = "") -> str:
    what = f"{where}: there is no service {name} in master.cf, and mail for {key} waits"
    return error(what, f"# add {name} to master.cf, or correct the table{meant}")


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
    "in a table in line": (
        "-e 'transport_maps=inline:{{example.net=outx:[127.0.0.9]:2525}}'",
        in_table("transport_maps: inline:{{example.net=outx:[127.0.0.9]:2525}}", "outx", "example.net"),
    ),
    "in a table in line, without braces within": (
        "-e 'transport_maps=inline:{example.com=smtp:,example.net=outx:}'",
        in_table("transport_maps: inline:{example.com=smtp:,example.net=outx:}", "outx", "example.net"),
    ),
    "for all mail": (
        "-e transport_maps=static:outx:",
        in_table("transport_maps: static:outx:", "outx", "anything"),
    ),
    "misspelt": (
        "-e 'transport_maps=inline:{{example.net=smtq:}}'",
        in_table("transport_maps: inline:{{example.net=smtq:}}", "smtq", "example.net", ", if smtp is meant"),
    ),
    "by sender": (
        "-e 'sender_dependent_default_transport_maps=inline:{{@example.com=outx:}}'",
        in_table(
            "sender_dependent_default_transport_maps: inline:{{@example.com=outx:}}", "outx", "@example.com"
        ),
    ),
    "proxymap(8)": (
        "-MX proxymap/unix\n-e mailbox_command_maps=proxy:static:x proxy_read_maps=proxy:static:x",
        error(
            "proxymap/unix: there is no such service, and mail waits for the proxy: tables of"
            " mailbox_command_maps",
            "postconf -c DIR -M 'proxymap/unix=proxymap unix - - n - - proxymap'",
        ),
    ),
    "proxymap(8) for writing": (
        "-e postscreen_cache_map=proxy:btree:/var/lib/postfix/x",
        error(
            "proxywrite/unix: there is no such service, and mail waits for the proxy: tables of"
            " postscreen_cache_map",
            "postconf -c DIR -M 'proxywrite/unix=proxywrite unix - - n - 1 proxymap'",
        ),
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
    "tables of services that are there": (
        "-e 'transport_maps=inline:{{a.example=smtp:x} {b.example=:x} {c.example=:} {d=local}}'"
    ),
    "a table without decision": "-e 'sender_dependent_default_transport_maps=inline:{{@example.com=DUNNO}}'",
    "a transport of a pattern": "-e 'transport_maps=regexp:{{/^(\\w+)@/ $1:}}'",
    "permission alone": "-e proxy_read_maps=proxy:static:x",
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


@pytest.mark.parametrize("kind", ["texthash", "hash", "hash without its text", "proxy:texthash"])
def test_a_service_in_the_file_of_a_table(kind: str, directory: Path, words: dict[str, str]) -> None:
    file = directory / "transport"
    file.write_text("# here\nexample.com smtp:[mx.example.com]\nexample.net\n    outx:[127.0.0.9]:2525\n")
    settled(file)
    table = f"{kind.partition(' ')[0]}:{file}"
    if kind.startswith("hash"):
        subprocess.run(["postmap", table], check=True)
    if "without" in kind:
        file.unlink()
    damage(directory, (f"-e transport_maps={table} proxy_read_maps={table}", ""), words)
    assert check(directory) == (78, in_table(f"transport_maps: {table}", "outx", "example.net"))


@pytest.mark.parametrize("before", ["", "virtual_alias_maps=static:x"])
def test_the_hints_for_a_listener_do_not_undo_each_other(directory: Path, before: str) -> None:
    """All of them, run by sh(1) in their order, heal it at once."""
    if before:
        subprocess.run(["postconf", "-c", str(directory), "-e", before], check=True)
    assert run(directory, "postfix", "--apply", "--relay")[0] == 0
    (listener,) = (
        each.id for each in Postconf(directory).running("smtpd") if each.name.startswith("127.0.0.1:")
    )
    edit = f"{listener}/cleanup_service_name=nope"
    subprocess.run(["postconf", "-c", str(directory), "-P", edit], check=True)
    hints = [line[6:] for line in check(directory)[1].splitlines() if line.startswith("hint: ")]
    assert len([each for each in hints if "cleanup_service_name" in each]) == 1
    subprocess.run(["sh", "-ec", "\n".join(hints)], check=True)
    settled(directory / "main.cf")
    settled(directory / "master.cf")
    assert "cleanup_service_name" not in check(directory)[1]
