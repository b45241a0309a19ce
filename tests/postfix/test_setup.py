"""``dkimpipe setup`` in throwaway copies of this machine: set up the signing of mail, or undo it."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import dns.zonefile
import pytest
import throwaway
import witness
from configurations import CONFIGURATIONS, SHIPPED
from conftest import PROJECT
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from nameserver import NameServer
from throwaway import Done, File, Machine, tree

from postfix import Message, Sink

PYTHON = Path("/usr/bin/python3")
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
NEEDS = {
    "Debian's package postfix": (SHIPPED / "main.cf.debian").exists(),
    "Debian's package swaks": shutil.which("swaks") is not None,
    f"{PYTHON} to be {VERSION}": PYTHON.resolve().name == VERSION,
    f"a throwaway copy of this machine: {throwaway.why_not()}": not throwaway.why_not(),
}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests of setup need {missing}", allow_module_level=True)

DKIMPIPE = "/opt/dkimpipe/bin/dkimpipe"
PACKAGES = f"opt/dkimpipe/lib/{VERSION}/site-packages"
MAIN = "mynetworks = 127.0.0.0/8\nmaillog_file = /var/log/mail.log\n"
SUBMISSION = """\
submission inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
"""
NO_WAIT = "touch -d @0 /etc/postfix/main.cf"  # Postfix waits until it is two seconds old
KEY = "etc/dkimpipe/keys/example.com.s1.pem"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

# What setup says for a first domain; S stands for the settings that ``dkimpipe postfix`` shows, V for the
# value of the record, and Z for its strings in a zone file.
FIRST = """\
# the user that the filter runs as: it owns nothing and cannot log in
useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin\
 --comment 'dkimpipe setup' dkimpipe
# a directory for conf files and the senders file
install -d -o root -g root -m 0755 /etc/dkimpipe
# a directory for the keys
install -d -o root -g dkimpipe -m 0750 /etc/dkimpipe/keys
# a key for example.com, 2048-bit RSA
dkimpipe genkey example.com --type rsa --selector s1 --group dkimpipe
# sign mail of example.com
echo 'example.com  dkim(s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)' >> /etc/dkimpipe/senders
# Postfix: pass mail to dkimpipe (main.cf and master.cf are backed up in dkimpipe-backup-...)
{S}
dkimpipe: Postfix is set up, and signs mail from example.com

Publish in DNS:

    s1._domainkey.example.com. IN TXT ( {Z} )

In a web form, the name is s1._domainkey.example.com, the type TXT, and the value

    {V}

Test it:

    dig +short TXT s1._domainkey.example.com

Make Postfix use the new configuration:

    postfix reload
"""
LISTING = """\
drwxr-xr-x root:root /etc/dkimpipe
drwxr-x--- root:dkimpipe /etc/dkimpipe/keys
-r--r----- root:dkimpipe /etc/dkimpipe/keys/example.com.s1.pem
-rw-r----- root:dkimpipe /etc/dkimpipe/senders
"""
SENDERS = """\
# who    what to add
example.com  dkim(s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)
"""
# The same for a further domain.
SECOND = """\
# a key for example.org, 2048-bit RSA
dkimpipe genkey example.org --type rsa --selector s2r --group dkimpipe
# a key for example.org, Ed25519
dkimpipe genkey example.org --type ed25519 --selector s2e --group dkimpipe
# sign mail of example.org
echo '{LINE}' >> /etc/dkimpipe/senders

dkimpipe: Postfix is set up, and signs mail from example.org
"""
SECOND_LINE = (
    "example.org  dkim(s=s2r,key=/etc/dkimpipe/keys/example.org.s2r.pem),"
    " dkim(s=s2e,key=/etc/dkimpipe/keys/example.org.s2e.pem)"
)


def dkimpipe(machine: Machine, *arguments: str) -> Done:
    """Run ``dkimpipe ARGUMENTS`` as root."""
    return machine.run(DKIMPIPE, *arguments)


def setup(machine: Machine, *arguments: str) -> Done:
    """Run ``dkimpipe setup ARGUMENTS``."""
    return dkimpipe(machine, "setup", *arguments)


def listing(machine: Machine) -> str:
    """Return mode, owner and path of all in /etc/dkimpipe."""
    return machine.shell(r"find /etc/dkimpipe -printf '%M %u:%g %p\n' | sort -k 3")


def senders(machine: Machine) -> str:
    """Return what stands in the senders file."""
    return (machine.root / "etc/dkimpipe/senders").read_text()


def postfix_files(machine: Machine) -> dict[str, File]:
    """Return all that is in /etc/postfix."""
    return tree(machine.root / "etc/postfix")


def trial(machine: Machine, author: str, user: str = "dkimpipe") -> str:
    """Return what the filter says about a message of this author, run as its user."""
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", DKIMPIPE]
    return machine.run(*command, stdin=f"From: {author}\n\n").stderr


def steps(done: Done) -> list[str]:
    """Return the steps that were printed, and not what comes after them."""
    assert done.status == 0, done.stderr
    return done.stdout.partition("\n\n")[0].splitlines()


def printed_records(done: Done) -> dict[str, list[bytes]]:
    """Return the records that were printed, as a name server reads them."""
    zone = "".join(line.strip() + "\n" for line in done.stdout.splitlines() if " IN TXT " in line)
    return {
        rrset.name.to_text(omit_final_dot=True): [b"".join(rdata.strings) for rdata in rrset]
        for rrset in dns.zonefile.read_rrsets(zone, rdclass=None, default_ttl=1)
    }


class State(NamedTuple):
    """A copy that tests only look at, how setup ended there, what was there before it, and what is now."""

    machine: Machine
    done: Done
    before: dict[str, File]
    files: Path


@contextlib.contextmanager
def after(files: Path, kept: Path, *arguments: str) -> Iterator[State]:
    """Run setup in a copy that begins with these files."""
    with Machine(files) as machine:
        before = machine.changes()
        done = setup(machine, *arguments)
        assert done.status == 0, done.stdout + done.stderr
        yield State(machine, done, before, machine.keep(kept))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dkimpipe installed as README.md says, and Postfix as Debian ships it with a submission service."""
    main, _ = CONFIGURATIONS["internet site"]
    with Machine() as machine:
        machine.shell("rm -rf /opt/dkimpipe /etc/dkimpipe /etc/postfix/dkimpipe-*")
        machine.shell("if getent passwd dkimpipe; then userdel dkimpipe; fi")
        machine.shell("if getent group dkimpipe; then groupdel dkimpipe; fi")
        configuration = machine.root / "etc/postfix"
        (configuration / "main.cf").write_text((SHIPPED / "main.cf.debian").read_text() + main + MAIN)
        (configuration / "master.cf").write_text((SHIPPED / "master.cf.dist").read_text() + SUBMISSION)
        machine.shell(NO_WAIT)
        machine.shell("cd /var/spool/postfix && rm -rf active/* deferred/* hold/* incoming/* maildrop/*")
        install(machine)
        return machine.keep(tmp_path_factory.mktemp("fresh"))


def install(machine: Machine) -> None:
    """Do what ``pip install`` does, with the packages that these tests run with."""
    machine.shell(f"{PYTHON} -m venv --without-pip /opt/dkimpipe")
    packages = machine.root / PACKAGES
    shutil.copytree(PROJECT / "dkimpipe", packages / "dkimpipe", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("cryptography", "cffi", "dnspython"):
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), packages / file)
    script = machine.root / DKIMPIPE[1:]
    script.write_text(
        "#!/opt/dkimpipe/bin/python3\nfrom dkimpipe.__main__ import main\nraise SystemExit(main())\n"
    )
    machine.shell(f"chmod 755 {DKIMPIPE} && {PYTHON} -m compileall -q /{PACKAGES}")
    machine.shell("chmod -R a+rX /opt/dkimpipe /etc/postfix")


@pytest.fixture(scope="module")
def first(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After the first run: ``dkimpipe setup example.com``."""
    with after(fresh, tmp_path_factory.mktemp("first"), "example.com", "--selector", "s1") as state:
        yield state


@pytest.fixture(scope="module")
def second(first: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After a second run, for a further domain and with keys of both types."""
    arguments = ("example.org", "--selector", "s2", "--ed25519")
    with after(first.files, tmp_path_factory.mktemp("second"), *arguments) as state:
        yield state


@pytest.fixture(scope="module")
def removed(first: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After ``dkimpipe setup --remove``."""
    with after(first.files, tmp_path_factory.mktemp("removed"), "--remove") as state:
        yield state


@pytest.fixture(scope="module")
def untouched(fresh: Path) -> Iterator[Machine]:
    """A copy where setup was never run, for tests that change nothing."""
    with Machine(fresh) as machine:
        yield machine


@pytest.fixture
def machine(fresh: Path) -> Iterator[Machine]:
    """A copy where setup was never run."""
    with Machine(fresh) as machine:
        yield machine


@pytest.fixture
def signing(first: State) -> Iterator[Machine]:
    """A copy where example.com is signed for."""
    with Machine(first.files) as machine:
        yield machine


# The copy.


def test_a_copy_cannot_change_the_machine(machine: Machine) -> None:
    machine.shell("echo x > /etc/dkimpipe-test")
    assert (machine.root / "etc/dkimpipe-test").read_text() == "x\n"
    assert not Path("/etc/dkimpipe-test").exists()


# The first run.


def test_it_prints_the_steps_and_what_remains_to_be_done(first: State, untouched: Machine) -> None:
    settings = dkimpipe(untouched, "postfix").stdout.replace(
        "# dkimpipe postfix --apply makes these changes\n", ""
    )
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
    assert dkimpipe(first.machine, "check", "--postfix") == Done(0, "dkimpipe: Postfix is set up\n", "")


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
    assert dry == [line for line in wet if not line.startswith("restored /etc/postfix/")]


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
    assert dkimpipe(machine, "check", "--postfix").stdout == "dkimpipe: Postfix is set up\n"
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
    assert setup(signing, "Bücher.example", "--selector", "s3").status == 0
    line = "xn--bcher-kva.example  dkim(s=s3,key=/etc/dkimpipe/keys/xn--bcher-kva.example.s3.pem)\n"
    assert senders(signing) == SENDERS + line
    for spelling in ("bücher.example", "xn--bcher-kva.example"):
        assert "dkimpipe: signed d=xn--bcher-kva.example s=s3 " in trial(signing, f"a@{spelling}")


def test_a_senders_file_without_a_last_line_end_gets_one(signing: Machine) -> None:
    signing.shell("printf %s '# no more' >> /etc/dkimpipe/senders")
    setup(signing, "example.org", "--selector", "s1")
    line = "example.org  dkim(s=s1,key=/etc/dkimpipe/keys/example.org.s1.pem)\n"
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
    assert dkimpipe(signing, "check", "--postfix") == Done(0, "dkimpipe: Postfix is set up\n", "")
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
    assert setup(signing, "example.com", "--selector", "s1").status == 0
    assert (listing(signing), senders(signing)) == (LISTING, SENDERS)


def test_a_key_that_is_there_is_used(first: State, signing: Machine) -> None:
    signing.shell("rm /etc/dkimpipe/senders && chmod 400 /etc/dkimpipe/keys/*")
    done = setup(signing, "example.com", "--selector", "s1")
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
    done = setup(signing, "example.com", "--selector", "s1")
    assert (done.status, done.stderr) == (0, "")
    assert listing(signing) == LISTING.replace("root:dkimpipe", f"root:{group}")


def test_a_group_that_is_there_becomes_the_users(signing: Machine) -> None:
    signing.shell("rm -r /etc/dkimpipe; userdel dkimpipe; groupadd --system dkimpipe")
    assert setup(signing, "example.com", "--selector", "s1").status == 0
    assert listing(signing) == LISTING


# Removing it.


def test_a_domain_is_taken_out_and_all_else_stays(second: State) -> None:
    with Machine(second.files) as machine:
        before = machine.changes()
        assert setup(machine, "--remove", "example.com").status == 0
        now = machine.changes()
        assert [path for path in before if now.get(path) != before[path]] == ["etc/dkimpipe/senders"]
        assert senders(machine) == f"# who    what to add\n{SECOND_LINE}\n"


def test_postfix_is_as_before_octet_for_octet(removed: State, machine: Machine) -> None:
    assert postfix_files(removed.machine) == postfix_files(machine)


@pytest.mark.parametrize("path", ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"])
def test_the_user_is_gone(removed: State, machine: Machine, path: str) -> None:
    assert (removed.machine.root / path).read_text() == (machine.root / path).read_text()


def test_the_keys_stay_for_root_only(removed: State) -> None:
    assert listing(removed.machine) == (
        "drwxr-xr-x root:root /etc/dkimpipe\n"
        "drwxr-x--- root:root /etc/dkimpipe/keys\n"
        "-r--r----- root:root /etc/dkimpipe/keys/example.com.s1.pem\n"
    )


def test_the_keys_are_named(removed: State) -> None:
    assert "# /etc/dkimpipe/keys/example.com.s1.pem is kept\n" in removed.done.stdout


def test_removing_it_twice_is_harmless(removed: State) -> None:
    with Machine(removed.files) as machine:
        before = machine.changes()
        done = setup(machine, "--remove")
        assert machine.changes() == before
        assert (done.status, done.stdout.splitlines()[-1], done.stderr) == (0, "nothing to do", "")


def test_set_up_again_it_uses_the_key_that_is_there(first: State, removed: State) -> None:
    with Machine(removed.files) as machine:
        done = setup(machine, "example.com", "--selector", "s1")
        assert (done.status, done.stderr) == (0, "")
        assert printed_records(done) == printed_records(first.done)
        assert listing(machine) == LISTING


def test_lines_written_by_hand_stay(signing: Machine) -> None:
    by_hand = (
        "# who    what to add\n"
        "; ours\n"
        "example.net  dkim(s=x,key=/etc/dkimpipe/keys/x.pem)\n"
        "edited.example  dkim(c=simple,s=s1,key=/etc/dkimpipe/keys/edited.example.s1.pem)\n"
        "elsewhere.example  dkim(s=s1,key=/root/elsewhere.example.s1.pem)\n"
        "two.example  dkim(s=s1,key=/etc/dkimpipe/keys/two.example.s1.pem),\n"
        "             dkim(s=s2,key=/root/two.example.s2.pem)\n"
        ".  dkim(d=example.com,s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)\n"
    )
    ours = SENDERS.splitlines(keepends=True)[1]
    (signing.root / "etc/dkimpipe/senders").write_text(by_hand.replace("; ours\n", f"; ours\n{ours}"))
    assert setup(signing, "--remove").status == 0
    assert senders(signing) == by_hand


LINE = "dkimpipe unix - n n - 4 pipe flags=q null_sender= user={} argv=/opt/dkimpipe/bin/dkimpipe"
NOT_OURS = {
    "nobody": f"postconf -M 'dkimpipe/unix={LINE.format('nobody')}'",
    "dkimpipe": "useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin dkimpipe",
    "signer": f"useradd --system signer; postconf -M 'dkimpipe/unix={LINE.format('signer')}'",
}


@pytest.mark.parametrize(("user", "script"), NOT_OURS.items(), ids=NOT_OURS)
def test_a_user_that_setup_did_not_make_stays(machine: Machine, user: str, script: str) -> None:
    machine.shell(script)
    assert setup(machine, "--remove").status == (0 if user == "dkimpipe" else 78)
    assert f"\n{user}:" in (machine.root / "etc/passwd").read_text()


def test_as_long_as_another_instance_runs_the_filter_nothing_is_removed(signing: Machine) -> None:
    signing.shell("cp -a /etc/postfix /etc/postfix2 && rm -r /etc/postfix2/dkimpipe-backup-*")
    signing.shell("postconf -e multi_instance_directories=/etc/postfix2")
    for directory, other in (("/etc/postfix", "/etc/postfix2"), ("/etc/postfix2", "/etc/postfix")):
        before = signing.changes()
        assert setup(signing, "-c", directory, "--remove") == Done(
            78,
            "",
            f"dkimpipe: {other}/master.cf still runs the filter, and was not changed by setup\n"
            f"hint: dkimpipe postfix -c {other} --revert, or remove the service by hand\n",
        )
        assert signing.changes() == before


def test_a_domain_whose_line_somebody_edited_is_named(signing: Machine) -> None:
    path = signing.root / "etc/dkimpipe/senders"
    path.write_text(path.read_text().replace("example.com  ", "example.com\t"))
    assert setup(signing, "--remove", "example.com").stdout == (
        "# the entry of example.com was not written by setup: remove it from /etc/dkimpipe/senders by hand\n"
        "nothing to do\n"
    )


ODD = {
    "senders is a FIFO": (
        "rm /etc/dkimpipe/senders; mkfifo -m 640 /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "senders is a directory": (
        "rm /etc/dkimpipe/senders; mkdir /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "senders leads nowhere": (
        "rm /etc/dkimpipe/senders; ln -s /nowhere /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "a key leads away": (
        "install -m 640 /dev/null /srv/k; ln -s /srv/k /etc/dkimpipe/keys/example.org.s1.pem",
        "/etc/dkimpipe/keys/example.org.s1.pem is not a regular file\n"
        "see what it is: ls -ld /etc/dkimpipe/keys/example.org.s1.pem",
    ),
    "others can write the senders file": (
        "chmod 666 /etc/dkimpipe/senders",
        "others can write /etc/dkimpipe/senders\n"
        "chown root /etc/dkimpipe/senders; chmod 0644 /etc/dkimpipe/senders",
    ),
    "others can write the keys": (
        "chmod 777 /etc/dkimpipe/keys",
        "others can write /etc/dkimpipe/keys\nchown root /etc/dkimpipe/keys; chmod 0755 /etc/dkimpipe/keys",
    ),
    "the keys are the filter's": (
        "chown dkimpipe /etc/dkimpipe/keys",
        "others can write /etc/dkimpipe/keys\nchown root /etc/dkimpipe/keys; chmod 0750 /etc/dkimpipe/keys",
    ),
}


@pytest.mark.parametrize(
    "arguments", [["example.org", "--selector", "s1"], ["--remove"]], ids=["add", "remove"]
)
@pytest.mark.parametrize(("script", "message"), ODD.values(), ids=ODD)
def test_no_step_is_taken_on_what_is_not_as_it_should_be(
    signing: Machine, script: str, message: str, arguments: list[str]
) -> None:
    signing.shell(script)
    before = signing.changes()
    done = setup(signing, *arguments)
    assert (done.status, done.stderr) == (78, f"dkimpipe: {message}\n".replace("\n", "\nhint: ", 1))
    assert signing.changes() == before


# What it refuses, before it changes anything.


NO_DOMAIN = "dkimpipe: '{0}' is not a valid domain\nhint: such as example.com\n"
NOT_ROOT = (
    "dkimpipe: setup must be run as root\nhint: --dry-run prints the steps, and can be run as any user\n"
)
REFUSED = {
    "not root": (AS_NOBODY, ["example.com"], NOT_ROOT),
    "not root, to remove it": (AS_NOBODY, ["--remove"], NOT_ROOT),
    "no Postfix": (
        ["env", "PATH=/nonexistent"],
        ["example.com"],
        "dkimpipe: cannot run postconf: No such file or directory\nhint: is Postfix installed?\n",
    ),
    "no domain": ([], [], "dkimpipe: no domain given\nhint: dkimpipe setup example.com\n"),
    **{
        f"domain {text!r}": ([], ["example.com", text], NO_DOMAIN.format(text))
        for text in ("", ".", "com", "a@example.com", "*.example.com", "../x.example", "a b.example", "a..b")
    },
}


@pytest.mark.parametrize(("prefix", "arguments", "stderr"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_and_changes_nothing(
    untouched: Machine, prefix: list[str], arguments: list[str], stderr: str
) -> None:
    before = untouched.changes()
    assert untouched.run(*prefix, DKIMPIPE, "setup", *arguments) == Done(78, "", stderr)
    assert untouched.changes() == before


def test_it_does_not_take_the_place_of_another_filter(machine: Machine) -> None:
    machine.shell("postconf -M 'scan/unix=scan unix - - n - 2 smtp'")
    machine.shell("postconf -P 'submission/inet/content_filter=scan:[::1]:9'")
    before = machine.changes()
    assert setup(machine, "example.com") == Done(
        78,
        "",
        "dkimpipe: submission/inet/content_filter: "
        "scan:[::1]:9 gets this mail, and a service can have only one filter\n"
        "hint: put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it\n",
    )
    assert machine.changes() == before


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["taken", "dry run"])
def test_a_service_that_is_open_to_strangers_is_refused(machine: Machine, options: list[str]) -> None:
    machine.shell("postconf -PX submission/inet/smtpd_relay_restrictions")
    before = machine.changes()
    assert setup(machine, "example.com", *options) == Done(
        78,
        "",
        "dkimpipe: submission/inet: clients that do not log in may send here, and their mail is signed\n"
        "hint: postconf -c /etc/postfix -P submission/inet/smtpd_relay_restrictions="
        "permit_mynetworks,permit_sasl_authenticated,reject\n"
        "hint: use --open to connect it anyway\n",
    )
    assert machine.changes() == before


def test_told_to_it_connects_an_open_service_and_reports_it(machine: Machine) -> None:
    machine.shell("postconf -PX submission/inet/smtpd_relay_restrictions")
    done = setup(machine, "example.com", "--open")
    assert (done.status, done.stderr) == (78, "")
    assert machine.shell("postconf -Ph submission/inet/content_filter") == "dkimpipe:dummy\n"
    assert "dkimpipe: error: submission/inet: clients that do not log in may send here" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--user", "root"],
        ["--user", "postfix"],
        *(["--selector", text] for text in ("a b", "a,b", "../x")),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_and_nothing_changed(machine: Machine, arguments: list[str]) -> None:
    before = machine.changes()
    assert setup(machine, "example.com", *arguments).status == 78
    assert machine.changes() == before


# The whole way.


class Arrived(NamedTuple):
    """What came out at the other end, and what setup and the log said."""

    setup: Done
    signed: Message
    log: str
    unsigned: Message


@pytest.fixture(scope="module")
def arrived(fresh: Path) -> Iterator[Arrived]:
    """A message through this machine's own Postfix after setup, and one more after ``setup --remove``."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(f"postconf -e 'relayhost=[127.0.0.1]:{sink.port}'\n{NO_WAIT}")
        done = setup(machine, "example.com")
        swaks = "swaks --server 127.0.0.1 --port 587 --silent 2 --from alice@example.com --to bob@example.net"
        machine.shell("postfix start")
        machine.shell(swaks)
        (signed,) = sink.wait()
        machine.shell(f"{DKIMPIPE} setup --remove\n{NO_WAIT}\npostfix reload")
        machine.shell("until grep 'reload -- version' /var/log/mail.log; do sleep 0.1; done")
        machine.shell(swaks)
        yield Arrived(done, signed, (machine.root / "var/log/mail.log").read_text(), sink.wait(2)[1])


def test_the_message_arrives(arrived: Arrived) -> None:
    assert (arrived.signed.sender, arrived.signed.recipients) == ("alice@example.com", ["bob@example.net"])


def test_the_log_says_how_it_was_signed(arrived: Arrived) -> None:
    said = r"\(delivered via dkimpipe service \(dkimpipe: signed d=example\.com s=\d{6} a=rsa-sha256; "
    assert re.search(f"status=sent {said}", arrived.log)


def test_it_verifies_with_the_record_that_was_printed(arrived: Arrived) -> None:
    with NameServer(printed_records(arrived.setup)) as server:
        look_up = witness.nameserver_dnsfunc(server.port)
        assert witness.dkimpy_verdicts([arrived.signed.data], {}, look_up) == [["pass"]]


def test_after_its_removal_mail_arrives_unsigned(arrived: Arrived) -> None:
    assert witness.dkimpy_verdicts([arrived.unsigned.data], {}) == [[]]


def unfolded(message: bytes) -> bytes:
    return re.sub(rb"\r\n[ \t]+", b" ", message)


def test_a_verifier_that_may_not_look_for_its_conf_file_is_named(signing: Machine) -> None:
    """/etc/dkimpipe as earlier versions made it: all mail from outside was deferred."""
    signing.shell(
        "\n".join(
            [
                *printed_commands("Verify mail from port 25")[:2],
                "chgrp dkimpipe /etc/dkimpipe; chmod 0750 /etc/dkimpipe",
            ]
        )
    )
    done = dkimpipe(signing, "check", "--postfix")
    what = "/etc/dkimpipe: user dkimpipe-verify cannot look for verify.conf there: its mail stays queued"
    assert (done.status, done.stdout.splitlines()[:2]) == (
        78,
        [f"dkimpipe: error: {what}", "hint: chmod 0755 /etc/dkimpipe"],
    )
    signing.shell("chmod 0755 /etc/dkimpipe")
    assert dkimpipe(signing, "check", "--postfix").stdout == "dkimpipe: Postfix is set up\n"


def printed_commands(heading: str) -> list[str]:
    """Return the commands that README.md prints under a heading."""
    text = (PROJECT / "README.md").read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^    (\S.*)$", text, re.MULTILINE)


def test_signing_and_verifying_by_the_commands_of_the_readme(fresh: Path) -> None:
    """As printed, one after the other; then Postfix signs mail from users and verifies mail from outside."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(f"postconf -e 'relayhost=[127.0.0.1]:{sink.port}'\n{NO_WAIT}\npostfix start")
        signing = [line for line in printed_commands("Five minutes to a signed message") if "setup" in line]
        assert len(signing) == 1
        verifying = printed_commands("Verify mail from port 25")
        assert len(verifying) == 3
        machine.shell("\n".join([*signing, "postfix reload", "sleep 1.1", *verifying]))
        machine.shell(
            "echo hostname mx.example.com > /etc/dkimpipe/verify.conf\n"
            "until [ $(grep -c 'reload -- version' /var/log/mail.log) = 2 ]; do sleep 0.1; done"
        )
        swaks = "swaks --server 127.0.0.1 --silent 2 --to bob@example.net --from"
        machine.shell(f"{swaks} eve@example.org --port 25\n{swaks} alice@example.com --port 587")
        mail = {message.sender: message.data for message in sink.wait(2)}
        log = (machine.root / "var/log/mail.log").read_text()
    assert b"\r\nAuthentication-Results: mx.example.com; dkim=none\r\n" in unfolded(
        mail["eve@example.org"]
    ), log
    assert b"DKIM-Signature: " not in mail["eve@example.org"]
    assert re.search(rb"\r\nDKIM-Signature: .* d=example\.com;", unfolded(mail["alice@example.com"])), log
    assert b"Authentication-Results: " not in mail["alice@example.com"]
