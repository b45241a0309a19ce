"""``dkimpipe setup`` in throwaway copies of this machine: the first run, and further ones."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
import throwaway
import witness
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from installing import (
    AS_NOBODY,
    DKIMPIPE,
    FIRST,
    IS_SET_UP,
    KEY,
    LISTING,
    NO_WAIT,
    PACKAGES,
    PYTHON,
    SECOND,
    SECOND_LINE,
    SENDERS,
    State,
    dkimpipe,
    listing,
    postfix_files,
    printed_records,
    senders,
    setup,
    steps,
    trial,
)
from throwaway import Done, Machine

# The copy.


def test_a_copy_cannot_change_the_machine(machine: Machine) -> None:
    machine.shell("echo x > /etc/dkimpipe-test")
    assert (machine.root / "etc/dkimpipe-test").read_text() == "x\n"
    assert not Path("/etc/dkimpipe-test").exists()


# The first run.


def test_it_prints_the_steps_and_what_remains_to_be_done(first: State, untouched: Machine) -> None:
    settings = dkimpipe(untouched, "postfix").stdout.partition("# not signed: ")[0]
    value = witness.record((first.machine.root / KEY).read_bytes()).decode()
    zone = f'"{value[:255]}" "{value[255:]}"'
    assert first.done == Done(0, FIRST.format(S=settings, Z=zone, V=value), "")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("getent passwd dkimpipe | cut -d : -f 6", "/nonexistent\n"),
        ("getent passwd dkimpipe | cut -d : -f 7", "/usr/sbin/nologin\n"),
        ("getent shadow dkimpipe | cut -d : -f 2", "!\n"),
        ("id --name --groups dkimpipe", "dkimpipe\n"),
        ("[ $(id -u dkimpipe) -lt 1000 ] && echo yes", "yes\n"),
        ("ls -d /nonexistent 2>&1 || true", "ls: cannot access '/nonexistent': No such file or directory\n"),
    ],
    ids=["home", "shell", "password", "groups", "a system account", "home is not there"],
)
def test_the_user_cannot_log_in(first: State, question: str, answer: str) -> None:
    assert first.machine.shell(question) == answer


def test_the_user_owns_nothing(first: State) -> None:
    number = int(first.machine.shell("id --user dkimpipe"))
    assert number not in {file.owner for file in first.machine.changes().values()}


def test_the_user_reads_keys_and_senders_and_nobody_else_does(first: State) -> None:
    assert listing(first.machine) == LISTING


def test_the_senders_file_has_the_domain(first: State) -> None:
    assert senders(first.machine) == SENDERS


def test_the_key_is_rsa_of_2048_bits(first: State) -> None:
    key = load_pem_private_key((first.machine.root / KEY).read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 2048


def test_the_selector_is_year_and_month_if_none_is_wanted(untouched: Machine) -> None:
    months = [time.strftime("%Y%m")]
    printed = setup(untouched, "example.com", "--dry-run").stdout
    months.append(time.strftime("%Y%m"))
    assert re.findall(r"--selector (\S+)", printed)[0] in months


def test_check_finds_nothing(first: State) -> None:
    assert dkimpipe(first.machine, "check", "--postfix") == Done(0, IS_SET_UP, "")


def test_the_filter_signs_as_its_user(first: State) -> None:
    said = trial(first.machine, "bob@example.com")
    assert said == "dkimpipe: signed d=example.com s=s1 a=rsa-sha256; from=bob@example.com\n"


# Without changes.


DRY = {
    "the same domain": (True, ["example.com"]),
    "further domains": (True, ["example.org", "example.net", "--ed25519"]),
    "without a domain": (True, ["--remove", "example.com"]),
    "without any": (True, ["--remove"]),
    "without any, as there was none": (False, ["--remove"]),
}


def test_a_first_dry_run_prints_the_steps_and_takes_none(first: State, untouched: Machine) -> None:
    before = untouched.changes()
    done = setup(untouched, "example.com", "--selector", "s1", "--dry-run")
    assert done.stdout.splitlines() == steps(first.done)
    assert untouched.changes() == before


@pytest.mark.parametrize(("is_set_up", "arguments"), DRY.values(), ids=DRY)
def test_a_dry_run_prints_the_steps_and_takes_none(
    fresh: Path, first: State, is_set_up: bool, arguments: list[str]
) -> None:
    with Machine(first.files if is_set_up else fresh) as machine:
        before = machine.changes()
        dry = steps(setup(machine, *arguments, "--dry-run"))
        assert machine.changes() == before
        wet = steps(setup(machine, *arguments))
    said = ("restored /etc/postfix/", "# no milter ")  # of what --revert has done
    assert dry == [line for line in wet if not line.startswith(said)]


def test_a_dry_run_is_for_everybody(untouched: Machine) -> None:
    arguments = ["setup", "example.com", "--dry-run"]
    assert untouched.run(*AS_NOBODY, DKIMPIPE, *arguments) == dkimpipe(untouched, *arguments)


@pytest.mark.parametrize("arguments", [["example.org"], ["--remove"]], ids=" ".join)
def test_a_dry_run_says_what_only_root_may_read(first: State, arguments: list[str]) -> None:
    done = first.machine.run(*AS_NOBODY, DKIMPIPE, "setup", *arguments, "--dry-run")
    assert done.status == 78
    assert re.match(r"dkimpipe: .*/etc/\S*dkimpipe\S*: Permission denied\n", done.stderr)


def test_what_a_dry_run_prints_does_the_same_in_a_shell(machine: Machine) -> None:
    printed = setup(machine, "example.com", "--selector", "s1", "--dry-run").stdout
    machine.shell(f"PATH=/opt/dkimpipe/bin:$PATH\n{printed}{NO_WAIT}")
    assert dkimpipe(machine, "check", "--postfix").stdout == IS_SET_UP
    said = trial(machine, "bob@example.com")
    assert said == "dkimpipe: signed d=example.com s=s1 a=rsa-sha256; from=bob@example.com\n"


# Again.


def test_a_further_domain_is_added(second: State) -> None:
    assert steps(second.done) == SECOND.format(LINE=SECOND_LINE).splitlines()[:-2]
    assert second.done.stdout.startswith(SECOND.format(LINE=SECOND_LINE))


def test_a_further_domain_changes_nothing_but_the_senders_file(second: State) -> None:
    now = second.machine.changes()
    assert [path for path, file in second.before.items() if now[path] != file] == ["etc/dkimpipe/senders"]


def test_a_further_domain_adds_nothing_but_its_keys(second: State) -> None:
    keys = {"etc/dkimpipe/keys/example.org.s2e.pem", "etc/dkimpipe/keys/example.org.s2r.pem"}
    assert second.machine.changes().keys() - second.before.keys() == keys


def test_a_further_domain_is_a_further_line(second: State) -> None:
    assert senders(second.machine) == f"{SENDERS}{SECOND_LINE}\n"


@pytest.mark.parametrize(
    ("selector", "kind"), [("s2r", RSAPrivateKey), ("s2e", Ed25519PrivateKey)], ids=["rsa", "ed25519"]
)
def test_the_keys_are_of_both_types(second: State, selector: str, kind: type) -> None:
    path = second.machine.root / f"etc/dkimpipe/keys/example.org.{selector}.pem"
    assert isinstance(load_pem_private_key(path.read_bytes(), None), kind)


def test_the_records_are_those_of_the_keys(second: State) -> None:
    keys = second.machine.root / "etc/dkimpipe/keys"
    assert printed_records(second.done) == {
        f"{selector}._domainkey.example.org": [
            witness.record((keys / f"example.org.{selector}.pem").read_bytes())
        ]
        for selector in ("s2r", "s2e")
    }


def test_the_same_domain_changes_nothing(signing: Machine) -> None:
    before = signing.changes()
    setup(signing, "example.com")
    assert signing.changes() == before


def test_the_same_domain_shows_its_record_again(first: State, signing: Machine) -> None:
    assert setup(signing, "example.com", "--selector", "s9") == Done(
        0,
        "# example.com has an entry in /etc/dkimpipe/senders, which is left unchanged\nnothing to do\n\n"
        + first.done.stdout.partition("\n\n")[2],
        "",
    )


def test_a_domain_in_its_own_script_is_signed_for_in_both_spellings(signing: Machine) -> None:
    assert setup(signing, "Bücher.example", "--selector", "s3", "--now").status == 0
    key = "/etc/dkimpipe/keys/xn--bcher-kva.example.s3.pem"
    line = f"xn--bcher-kva.example  dkim(c=relaxed/relaxed,s=s3,key={key})\n"
    assert senders(signing) == SENDERS + line
    for spelling in ("bücher.example", "xn--bcher-kva.example"):
        assert "dkimpipe: signed d=xn--bcher-kva.example s=s3 " in trial(signing, f"a@{spelling}")


def test_a_senders_file_without_a_last_line_end_gets_one(signing: Machine) -> None:
    signing.shell("printf %s '# no more' >> /etc/dkimpipe/senders")
    setup(signing, "example.org", "--selector", "s1", "--now")
    line = "example.org  dkim(c=relaxed/relaxed,s=s1,key=/etc/dkimpipe/keys/example.org.s1.pem)\n"
    assert senders(signing) == f"{SENDERS}# no more\n{line}"


def test_a_domain_whose_entry_is_for_some_is_set_up(signing: Machine) -> None:
    signing.shell("sed -i '/^example.com/s/)/,login=alice,envelope=example.net)/' /etc/dkimpipe/senders")
    before = signing.changes()
    done = setup(signing, "example.com")
    assert (done.status, done.stderr) == (0, "")
    assert "Postfix is set up, and signs mail from example.com\n" in done.stdout
    assert signing.changes() == before


def test_a_directory_of_an_earlier_version_lets_the_verifier_in(signing: Machine) -> None:
    signing.shell("chgrp dkimpipe /etc/dkimpipe; chmod 0750 /etc/dkimpipe")
    done = setup(signing, "example.com", "--selector", "s1")
    assert "install -d -o root -g root -m 0755 /etc/dkimpipe\n" in done.stdout
    assert signing.shell("stat -c '%A %U:%G' /etc/dkimpipe") == "drwxr-xr-x root:root\n"


def test_a_filter_that_is_given_no_login_is_fixed(signing: Machine) -> None:
    """As one that was set up by a version that knew no login=."""
    signing.shell(
        "sed -i 's/ --login=[^ ]*//' /etc/postfix/master.cf\n"
        "sed -i '/^example.com/s/)/,login=alice)/' /etc/dkimpipe/senders"
    )
    assert dkimpipe(signing, "check", "--postfix").status == 78
    assert setup(signing, "example.com").status == 0
    assert (
        "--login=${sasl_username} --client=${client_address} -f ${sender} -- ${recipient}"
        in signing.shell("postconf -M dkimpipe/unix")
    )
    assert dkimpipe(signing, "check", "--postfix").status == 0


def test_what_an_earlier_version_set_on_submission_is_replaced_and_undone(
    machine: Machine, signing: Machine
) -> None:
    """It added header fields by a setting that damages From and To, and made no cleanup service."""
    before = postfix_files(machine)
    signing.shell(
        "sed -i 's/cleanup_service_name=dkimpipe-cleanup/local_header_rewrite_clients=static:all/;"
        " /^dkimpipe-cleanup /,+1d' /etc/postfix/master.cf /etc/postfix/dkimpipe-backup-*/after/master.cf"
    )
    assert dkimpipe(signing, "check", "--postfix").status == 78
    assert setup(signing, "example.com").status == 0
    assert "rewrite_clients" not in signing.shell("postconf -P")
    assert dkimpipe(signing, "check", "--postfix") == Done(0, IS_SET_UP, "")
    assert setup(signing, "--remove").status == 0
    assert postfix_files(signing) == before


# After an interruption.


INTERRUPTED = {
    "nothing but the user": "rm -r /etc/dkimpipe",
    "no directory of keys": "rm -r /etc/dkimpipe/*",
    "no key": "rm /etc/dkimpipe/keys/* /etc/dkimpipe/senders",
    "no line": "rm /etc/dkimpipe/senders",
}


@pytest.mark.parametrize("script", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_run_is_completed(signing: Machine, script: str) -> None:
    signing.shell(script)
    assert setup(signing, "example.com", "--selector", "s1", "--now").status == 0
    assert (listing(signing), senders(signing)) == (LISTING, SENDERS)


def test_a_key_that_is_there_is_used(first: State, signing: Machine) -> None:
    signing.shell("rm /etc/dkimpipe/senders && chmod 400 /etc/dkimpipe/keys/*")
    done = setup(signing, "example.com", "--selector", "s1", "--now")
    assert printed_records(done) == printed_records(first.done)
    assert listing(signing) == LISTING


def test_a_filter_that_is_not_compiled_is_compiled(signing: Machine) -> None:
    package = f"/{PACKAGES}/dkimpipe"
    signing.shell(f"rm {package}/__pycache__/pipe.*.pyc")
    steps = setup(signing, "example.com").stdout.partition("\n\n")[0]
    assert steps.endswith(
        f"\n# compile once, not again for each message\n{PYTHON} -Im compileall -q {package}"
    )
    signing.shell(f"ls {package}/__pycache__/pipe.*.pyc")


def test_a_run_that_was_killed_between_the_settings_of_postfix_is_completed_and_undone(
    machine: Machine,
) -> None:
    before = postfix_files(machine)
    machine.shell(
        "mkdir /killing\ncat > /killing/postconf <<'END'\n#!/bin/sh\n"
        'case " $* " in *" -e "*) kill -9 $PPID;; esac\nexec /usr/sbin/postconf "$@"\nEND\n'
        "chmod 755 /killing/postconf"
    )
    killed = machine.run(DKIMPIPE, "setup", "example.com", environment={"PATH": f"/killing:{throwaway.PATH}"})
    assert killed.status == -signal.SIGKILL
    machine.shell(NO_WAIT)
    time.sleep(1.1)  # what it left behind has a name of its own
    assert dkimpipe(machine, "check", "--postfix").status == 78
    assert setup(machine, "example.com").status == 0
    assert dkimpipe(machine, "check", "--postfix").status == 0
    setup(machine, "--remove")
    assert postfix_files(machine) == before


# With another user.


@pytest.mark.parametrize(
    ("make", "user", "group"),
    [
        ("true", "signer", "signer"),
        ("useradd --system signer", "signer", "signer"),
        ("useradd --system signer --gid mail", "signer", "mail"),
        ("useradd --system signer", "signer:mail", "mail"),
        ("true", "dkimpipe:mail", "mail"),
    ],
    ids=["not there", "there", "there, without a group of its own", "with a group", "ours, with a group"],
)
def test_the_user_that_master_cf_names_reads_the_keys(
    signing: Machine, make: str, user: str, group: str
) -> None:
    signing.shell(
        f"rm -r /etc/dkimpipe; userdel dkimpipe; {make}\n"
        f"sed -i s/user=dkimpipe/user={user}/ /etc/postfix/master.cf"
    )
    done = setup(signing, "example.com", "--selector", "s1", "--now")
    assert (done.status, done.stderr) == (0, "")
    assert listing(signing) == LISTING.replace("root:dkimpipe", f"root:{group}")


def test_a_group_that_is_there_becomes_the_users(signing: Machine) -> None:
    signing.shell("rm -r /etc/dkimpipe; userdel dkimpipe; groupadd --system dkimpipe")
    assert setup(signing, "example.com", "--selector", "s1", "--now").status == 0
    assert listing(signing) == LISTING


def test_it_goes_on_if_nobody_reads_the_output(machine: Machine) -> None:
    command = f"{DKIMPIPE} setup example.com --selector s1 2>/srv/said; echo $? >>/srv/said"
    said = machine.shell(f"( {command} ) | true; cat /srv/said")
    assert said == (
        "dkimpipe: nobody reads the output: the rest is done without it\n"
        f"hint: {DKIMPIPE} dns prints the records of the keys\n0\n"
    )
    assert (listing(machine), senders(machine)) == (LISTING, SENDERS)


# An installation that others cannot read, and users who are not root.


def test_an_installation_under_a_strict_umask(machine: Machine) -> None:
    machine.shell("chmod -R go-rwx /opt/dkimpipe")
    done = setup(machine, "example.com")
    assert done.status == 78
    assert "\nhint: chmod -R go+rX /opt/dkimpipe\n" in done.stdout
    assert "\nhint: chmod -R go+rX /opt/dkimpipe\n" in dkimpipe(machine, "check", "--postfix").stdout
    machine.shell("chmod -R go+rX /opt/dkimpipe")
    assert "error" not in dkimpipe(machine, "check", "--postfix").stdout


def test_an_installation_in_a_closed_directory(machine: Machine) -> None:
    machine.shell("chmod 0700 /opt")
    hint = "\nhint: # install it where every user can enter, such as /opt/dkimpipe\n"
    assert hint in setup(machine, "example.com").stdout


GIVEN = {
    "no options": ("--dry-run example.net", "--dry-run example.net"),
    "a second key": ("--dry-run --ed25519 example.net", "--ed25519 --dry-run example.net"),
    "a selector": ("example.net --dry-run --selector a", "--selector a --dry-run example.net"),
    "two domains": ("--dry-run a.example b.example", "--dry-run a.example b.example"),
}


@pytest.mark.parametrize(("words", "again"), GIVEN.values(), ids=GIVEN)
def test_a_dry_run_of_another_user_says_that_it_is_set_up(signing: Machine, words: str, again: str) -> None:
    done = signing.run(*AS_NOBODY, DKIMPIPE, "setup", *words.split())
    assert (done.status, done.stdout) == (78, "")
    assert done.stderr == (
        "dkimpipe: dkimpipe is set up here, and only root can see which steps are left:"
        " /etc/dkimpipe/senders: Permission denied\n"
        f"hint: sudo /opt/dkimpipe/bin/dkimpipe setup {again}\n"
    )


def test_check_sends_another_user_to_root(signing: Machine) -> None:
    said = signing.run(*AS_NOBODY, DKIMPIPE, "check").stdout
    assert "/etc/dkimpipe/senders: Permission denied\nhint: # run it as root\n" in said
    assert "namei" not in said


def test_a_test_message_is_not_sent_if_the_log_cannot_be_read(signing: Machine) -> None:
    signing.shell("touch /var/log/mail.log; chmod 0600 /var/log/mail.log")
    done = signing.run(*AS_NOBODY, DKIMPIPE, "test", "bob@example.net")
    said = "dkimpipe: /var/log/mail.log: Permission denied\nhint: run it as root\n"
    assert (done.status, done.stdout, done.stderr) == (78, "", said)
