"""``dkimpipe setup`` of a further domain or key: it signs when its record is in DNS, or with --now."""

from __future__ import annotations

from collections.abc import Iterator

import bind
import pytest
from installing import DKIMPIPE, SENDERS, State, dkimpipe, printed_records, senders, setup, trial
from throwaway import Done, Machine

pytestmark = bind.needs_bind

ZONE = """\
$TTL 60
@ IN SOA ns1 h 1 3600 600 86400 60
@ IN NS ns1
ns1 IN A 127.0.0.1
"""
NAMED = """
options {
    directory "/srv"; listen-on { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none; lock-file none;
    recursion no; session-keyfile "/srv/session"; dnssec-validation no; empty-zones-enable no; notify no;
};
controls { };
zone "example.org" { type primary; file "zone"; };
zone "example.com" { type primary; file "zone"; };
"""
ANSWERS = "dig +short +time=1 +tries=1 @127.0.0.1 example.com SOA | grep -q ^ns1"


@pytest.fixture
def online(first: State) -> Iterator[Machine]:
    """A copy where example.com is signed for, with a name server for example.org."""
    with Machine(first.files, network=True) as machine:
        (machine.root / "srv/named.conf").write_text(NAMED)
        (machine.root / "etc/resolv.conf").unlink(missing_ok=True)
        (machine.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        serve(machine, "")
        yield machine


def serve(machine: Machine, record: str) -> None:
    """Start the name server, or start it again with this record."""
    (machine.root / "srv/zone").write_text(ZONE + record)
    machine.shell(f"if [ -f /srv/pid ]; then kill $(cat /srv/pid); while {ANSWERS}; do sleep 0.05; done; fi")
    machine.shell("named -f -c /srv/named.conf >/srv/log 2>&1 </dev/null & echo $! >/srv/pid")
    machine.shell(f"until {ANSWERS}; do sleep 0.05; done")


def zone_lines(stdout: str) -> str:
    return "".join(f"{line}\n" for line in stdout.splitlines() if " IN TXT " in line)


def of_type(kind: str, lines: str) -> str:
    """Return the record of a key of this type."""
    return "".join(line for line in lines.splitlines(True) if f"k={kind};" in line)


@pytest.mark.parametrize("options", [(), ("--ed25519",), ("--selector", "s2")], ids=str)
def test_a_further_domain_is_signed_when_its_record_is_in_dns(
    online: Machine, options: tuple[str, ...]
) -> None:
    done = setup(online, "example.org", *options)
    assert (done.status, done.stderr) == (0, "")
    assert senders(online) == SENDERS
    assert "# mail of example.org is not signed before its record is in DNS: see below\n" in done.stdout
    assert f"\n    {' '.join(['dkimpipe setup', *options, 'example.org'])}\n" in done.stdout
    assert "not signed: no entry for" in trial(online, "a@example.org")

    serve(online, zone_lines(done.stdout))
    later = setup(online, "example.org", *(options if "s2" in options else ()))
    assert (later.status, later.stderr) == (0, "")
    assert "Postfix is set up, and signs mail from example.org\n" in later.stdout
    assert printed_records(later) == printed_records(done)
    assert "dkimpipe: signed d=example.org " in trial(online, "a@example.org")


@pytest.mark.parametrize("options", [(), ("--selector", "s2")], ids=str)
def test_a_second_key_signs_when_its_record_is_in_dns(online: Machine, options: tuple[str, ...]) -> None:
    arguments = (*options, "--ed25519", "example.com")
    done = setup(online, *arguments)
    assert (done.status, done.stderr, senders(online)) == (0, "", SENDERS)
    assert (
        "\n# mail of example.com is not signed with the second key before its record is in DNS" in done.stdout
    )
    assert f"\n    {' '.join(['dkimpipe setup', *arguments])}\n" in done.stdout

    serve(online, zone_lines(done.stdout))
    later = setup(online, *arguments)
    assert (later.status, later.stderr) == (0, "")
    (second,) = (name.partition(".")[0] for name in printed_records(later) if not name.startswith("s1."))
    key = f"/etc/dkimpipe/keys/example.com.{second}.pem"
    assert senders(online) == f"{SENDERS[:-1]}, dkim(c=relaxed/relaxed,s={second},key={key})\n"
    assert f"s={second} a=ed25519-sha256" in trial(online, "a@example.com")
    assert printed_records(later) == printed_records(done)

    before = online.changes()
    assert "# example.com has an entry in" in setup(online, *arguments).stdout
    assert online.changes() == before


def test_a_second_key_signs_at_once_with_now(online: Machine) -> None:
    copy = f"# {SENDERS.splitlines()[1]}\n"
    (online.root / "etc/dkimpipe/senders").write_text(copy + SENDERS)
    assert setup(online, "--ed25519", "--selector", "s2", "--now", "example.com").status == 0
    assert senders(online).startswith(copy + SENDERS[:-1] + ", dkim(c=relaxed/relaxed,s=s2e,")
    assert "s=s2e a=ed25519-sha256" in trial(online, "a@example.com")


def test_an_entry_written_by_hand_gets_no_second_key(online: Machine) -> None:
    online.shell("sed -i 's/c=relaxed.relaxed/c=simple/' /etc/dkimpipe/senders")
    before = online.changes()
    done = setup(online, "--ed25519", "example.com")
    assert (
        "unchanged (setup did not write it: add a second signature by hand)\nnothing to do\n" in done.stdout
    )
    assert (done.status, online.changes()) == (0, before)


def test_a_second_key_may_be_wanted_while_the_first_is_held_back(online: Machine) -> None:
    setup(online, "example.org")
    done = setup(online, "--ed25519", "example.org")
    assert len(printed_records(done)) == 2
    serve(online, zone_lines(done.stdout))
    setup(online, "example.org")
    assert "a=rsa-sha256" in (said := trial(online, "a@example.org"))
    assert "a=ed25519-sha256" in said


def test_the_second_key_does_not_hold_the_first_back(online: Machine) -> None:
    done = setup(online, "--ed25519", "example.org")
    serve(online, of_type("rsa", zone_lines(done.stdout)))
    warned = dkimpipe(online, "check", "--dns").stdout
    later = setup(online, "example.org")
    assert (later.status, later.stderr) == (0, "")
    assert (said := trial(online, "a@example.org")).startswith("dkimpipe: signed d=example.org ")
    assert "ed25519" not in said

    first, second = (name.partition(".")[0] for name in printed_records(done))
    path = f"/etc/dkimpipe/keys/example.org.{second}.pem"
    assert f"record of /etc/dkimpipe/keys/example.org.{first}.pem, but no entry" in warned
    assert (
        f"# DNS does not have {second}._domainkey.example.org\n"
        "# when it has, sign with this key, too: dkimpipe setup --ed25519 example.org\n"
        f"# to give this key up: chown root:root {path}\n" in later.stdout
    )
    assert f"example.org waits for its record: {path} " in dkimpipe(online, "check", "--files").stdout

    serve(online, zone_lines(done.stdout))
    setup(online, "--ed25519", "example.org")
    assert "a=ed25519-sha256" in trial(online, "a@example.org")


def test_the_first_key_holds_the_second_back(online: Machine) -> None:
    done = setup(online, "--ed25519", "example.org")
    serve(online, of_type("ed25519", zone_lines(done.stdout)))
    later = setup(online, "example.org")
    assert senders(online) == SENDERS
    (first, *_) = printed_records(done)
    assert f"see below\n# DNS does not have {first}\n" in later.stdout


def test_a_second_key_that_was_given_up_stays_so(online: Machine) -> None:
    setup(online, "--ed25519", "example.org")
    hint = dkimpipe(online, "check", "--files").stdout.partition("to give only the second key up: ")[2]
    online.shell(hint.partition("\n")[0])
    said = dkimpipe(online, "check", "--files").stdout
    assert "example.org waits for its record: /etc/dkimpipe/keys/example.org." in said
    assert "e.pem" not in said
    done = setup(online, "example.org")
    assert len(printed_records(done)) == 1
    assert "chgrp" not in done.stdout
    serve(online, zone_lines(done.stdout))
    setup(online, "example.org")
    assert "a=rsa-sha256" in trial(online, "a@example.org")
    assert len(printed_records(setup(online, "--ed25519", "example.org"))) == 2  # one of each kind of key


def test_a_second_key_that_is_left_does_not_sign_alone(online: Machine) -> None:
    online.shell("cd /etc/dkimpipe/keys && touch example.org.202601e.pem example.org.202501.pem")
    steps = setup(online, "--dry-run", "example.org").stdout
    assert "example.org.202501.pem" in steps
    assert "202601" not in steps


def test_another_record_is_not_enough(online: Machine) -> None:
    done = setup(online, "example.org")
    serve(online, zone_lines(done.stdout).replace("p=MII", "p=MIJ"))
    setup(online, "example.org")
    assert senders(online) == SENDERS


def test_now_signs_at_once(online: Machine) -> None:
    assert setup(online, "example.org", "--now").status == 0
    assert "dkimpipe: signed d=example.org " in trial(online, "a@example.org")


WAITING = {
    "a domain": ("example.org", ()),
    "with two keys": ("example.org", ("--ed25519",)),
    "with a selector": ("example.org", ("--selector", "s2")),
    "with two keys and a selector": ("example.org", ("--ed25519", "--selector", "s2")),
    "a second key": ("example.com", ("--ed25519",)),
}


@pytest.mark.parametrize(("domain", "options"), WAITING.values(), ids=WAITING)
def test_what_is_held_back_is_not_forgotten(online: Machine, domain: str, options: tuple[str, ...]) -> None:
    done = setup(online, *options, domain)
    is_told = f"note: {domain} waits for its record: /etc/dkimpipe/keys/{domain}."
    assert f"dkimpipe: {is_told}" in dkimpipe(online, "check", "--files").stdout
    assert f"dkimpipe: {is_told}" in dkimpipe(online, "check", "--dns").stdout
    assert dkimpipe(online, "rotate").stdout == ""
    assert f"\n{domain} waits for its record: " in dkimpipe(online, "rotate", "--dry-run").stdout

    serve(online, zone_lines(done.stdout))
    wrong = f"dkimpipe: warning: DNS has the record of /etc/dkimpipe/keys/{domain}."
    said = dkimpipe(online, "check", "--dns").stdout
    assert wrong in said
    (command,) = (
        line[len("hint: ") :] for line in said.splitlines() if line.startswith("hint: dkimpipe setup")
    )
    rotated = dkimpipe(online, "rotate").stdout
    assert f"hint: {command}\nhint: # to give the key up: chown root:root /etc" in rotated
    assert dkimpipe(online, *command.split()[1:]).status == 0
    assert f"dkimpipe: signed d={domain} " in trial(online, f"a@{domain}")
    assert "record of" not in dkimpipe(online, "check", "--dns").stdout
    assert dkimpipe(online, "rotate").stdout == ""


GIVEN_UP = {
    "by setup": f"{DKIMPIPE} setup --remove example.org",
    "by the hint": "chown root:root /etc/dkimpipe/keys/example.org.*",
    "for a pattern": "echo 'x.example dkim(s=a,key=/etc/$domain.pem)' >>/etc/dkimpipe/senders",
    "for an entry with limits": (
        "cd /etc/dkimpipe/keys; key=$(ls example.org.*)\n"
        'echo "a@example.org dkim(s=a,key=/etc/dkimpipe/keys/$key,login=a)" >>/etc/dkimpipe/senders'
    ),
}


@pytest.mark.parametrize("command", GIVEN_UP.values(), ids=GIVEN_UP)
def test_what_was_given_up_does_not_wait(online: Machine, command: str) -> None:
    serve(online, zone_lines(setup(online, "example.org").stdout))
    assert "example.org" in dkimpipe(online, "check", "--files").stdout
    online.shell(command)
    assert " for example.org uses" not in dkimpipe(online, "check").stdout
    assert dkimpipe(online, "rotate").stdout == ""


TWO = "/etc/dkimpipe/senders.two"
MOVED = "mv /etc/dkimpipe/senders /etc/dkimpipe/production"
ARGV = "sed -i '/__main__.py/s|__main__.py|& --{}|' /etc/postfix/master.cf"
PRODUCTION = {
    "the default file": "true",
    "its directory": (
        "mkdir -m 755 /etc/dkimpipe/senders.d && mv /etc/dkimpipe/senders /etc/dkimpipe/senders.d/a.conf"
        " && cp /etc/dkimpipe/senders.two /etc/dkimpipe/senders"
    ),
    "the conf file's": f"{MOVED}; echo sender_map /etc/dkimpipe/production >/etc/dkimpipe/dkimpipe.conf",
    "the filter's option": f"{MOVED}; {ARGV.format('sender_map=/etc/dkimpipe/production')}",
    "the filter's conf file": (
        f"{MOVED}; echo sender_map /etc/dkimpipe/production >/etc/dkimpipe/x.conf"
        f"; {ARGV.format('conf_file=/etc/dkimpipe/x.conf')}"
    ),
    "another path to the key": "sed -i 's|/keys/|/keys/../keys/|' /etc/dkimpipe/senders",
    "a file that cannot be read": f"{MOVED}; echo nonsense >/etc/dkimpipe/dkimpipe.conf",
}


@pytest.mark.parametrize("production", PRODUCTION.values(), ids=PRODUCTION)
def test_a_key_that_other_files_use_does_not_wait(online: Machine, production: str) -> None:
    """The hint of a key that waits takes it from the filter."""
    online.shell("dkimpipe genkey example.net --directory=/srv >/srv/said; cd /srv; mv *.pem two.pem")
    online.shell(f"echo 'example.net dkim(s=s,key=/srv/two.pem)' >{TWO}; {production}")
    online.shell("touch /srv/empty")
    done = dkimpipe(online, "rotate", "--dry-run", "--conf_file=/srv/empty", f"--sender_map={TWO}")
    assert "/srv/two.pem" in done.stdout
    assert "example.com" not in done.stdout


def test_a_key_that_no_file_uses_waits_whatever_is_rotated(online: Machine) -> None:
    setup(online, "example.org")
    online.shell(f"cp /etc/dkimpipe/senders {TWO}")
    said = dkimpipe(online, "rotate", "--dry-run", f"--sender_map={TWO}").stdout
    assert "\nexample.org waits for its record: " in said
    assert "\nhint: # to give the key up: chown root:root /etc/dkimpipe/keys/example.org." in said


def test_a_record_that_other_files_need_is_kept(online: Machine) -> None:
    """The key of a map is replaced by hand; the default file still signs with it."""
    value = online.shell("dkimpipe dns example.com | grep -A1 TXT")
    (online.root / "srv/com").write_text(ZONE + value)
    online.shell('sed -i \'/example.com/s/"zone"/"com"/\' /srv/named.conf')
    serve(online, "")
    online.shell(f"cp /etc/dkimpipe/senders {TWO}; mkdir /srv/two")
    arguments = ("rotate", f"--sender_map={TWO}", "--directory=/srv/two", "--keep=0")
    dkimpipe(online, *arguments)
    online.shell("dkimpipe genkey example.com --selector=s2 --directory=/srv >/srv/said")
    online.shell(f"sed -i 's|s=s1|s=s2|; s|/etc/dkimpipe/keys/example.com.s1|/srv/example.com.s2|' {TWO}")
    said = "".join(dkimpipe(online, *arguments).stdout for _ in range(3))
    assert "s1._domainkey.example.com: no longer signs; " in said
    assert "delete" not in said
    assert "rm " not in said


def test_a_key_that_is_damaged_waits(online: Machine) -> None:
    setup(online, "example.org")
    online.shell("cd /etc/dkimpipe/keys && for key in example.org.*; do echo >$key; done")
    assert "note: example.org waits for its record: " in dkimpipe(online, "check", "--dns").stdout


def test_access_to_a_key_is_given_once(online: Machine) -> None:
    setup(online, "example.org")
    assert "chgrp" not in setup(online, "example.org").stdout


@pytest.mark.parametrize("options", [(), ("--selector", "s2")], ids=str)
def test_dns_names_the_command_that_prints_its_record(online: Machine, options: tuple[str, ...]) -> None:
    done = setup(online, "example.org", *options)
    command = " ".join(["dkimpipe setup", *options, "example.org"])
    asked = dkimpipe(online, "dns", "Example.ORG")
    hint = f"hint: example.org waits for its record, which this prints: {command}\n"
    what = "dkimpipe: /etc/dkimpipe/senders: no entry for Example.ORG\n"
    assert (asked.status, asked.stdout, asked.stderr) == (78, "", what + hint)
    assert printed_records(Done(0, online.shell(command), "")) == printed_records(done)
    assert dkimpipe(online, "dns", "example.net").stderr == what.replace("Example.ORG", "example.net")
