"""dkimpipe installed in throwaway copies of this machine, before and after ``dkimpipe setup``."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import dns.zonefile
import pytest
import throwaway
from configurations import CONFIGURATIONS, SHIPPED
from conftest import PROJECT, settled
from forked_in_copies import Commands
from throwaway import Done, File, Machine, tree

PYTHON = Path("/usr/bin/python3")
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
DKIMPIPE = "/opt/dkimpipe/bin/dkimpipe"
PACKAGES = f"opt/dkimpipe/lib/{VERSION}/site-packages"
MAIN = "myorigin = example.com\nmynetworks = 127.0.0.0/8\nmaillog_file = /var/log/mail.log\n"
# Behind a proxy that has the logins.
SUBMISSION = """\
submission inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o smtpd_authorized_xclient_hosts=127.0.0.1
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
/opt/dkimpipe/bin/dkimpipe genkey example.com --type rsa --selector s1 --group dkimpipe
# sign mail of example.com
echo 'example.com  dkim(c=relaxed/relaxed,s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)'\
 >> /etc/dkimpipe/senders
# Postfix: pass mail to dkimpipe (main.cf and master.cf are backed up in dkimpipe-backup-...)
{S}# the command in PATH
ln -s /opt/dkimpipe/bin/dkimpipe /usr/local/bin/dkimpipe

dkimpipe: Postfix is set up, and signs mail from example.com

Publish in DNS:

s1._domainkey.example.com. IN TXT ( {Z} )

In a web form, the type is TXT. Many forms append example.com to the name themselves:

    the whole name: s1._domainkey.example.com
    the form appends example.com: s1._domainkey

The value is

    {V}

When DNS has this, the check finds no error:

    dkimpipe check --dns

Make Postfix use the new configuration:

    postfix reload

Not signed: local: mail from programs on this host by sendmail(1): cron, PHP

    dkimpipe postfix -c /etc/postfix --apply --sign local
"""
IS_SET_UP = """\
dkimpipe: Postfix is set up
dkimpipe: note: not signed: local: mail from programs on this host by sendmail(1): cron, PHP
hint: dkimpipe postfix -c /etc/postfix --apply --sign local
"""
LISTING = """\
drwxr-xr-x root:root /etc/dkimpipe
drwxr-x--- root:dkimpipe /etc/dkimpipe/keys
-r--r----- root:dkimpipe /etc/dkimpipe/keys/example.com.s1.pem
-rw-r----- root:dkimpipe /etc/dkimpipe/senders
"""
SENDERS = """\
# who    what to add
example.com  dkim(c=relaxed/relaxed,s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)
"""
# The same for a further domain.
SECOND = """\
# a key for example.org, 2048-bit RSA
/opt/dkimpipe/bin/dkimpipe genkey example.org --type rsa --selector s2r --group dkimpipe
# a key for example.org, Ed25519
/opt/dkimpipe/bin/dkimpipe genkey example.org --type ed25519 --selector s2e --group dkimpipe
# sign mail of example.org
echo '{LINE}' >> /etc/dkimpipe/senders

dkimpipe: Postfix is set up, and signs mail from example.org
"""
SECOND_LINE = (
    "example.org  dkim(c=relaxed/relaxed,s=s2r,key=/etc/dkimpipe/keys/example.org.s2r.pem),"
    " dkim(c=relaxed/relaxed,s=s2e,key=/etc/dkimpipe/keys/example.org.s2e.pem)"
)


def dkimpipe(machine: Machine, *arguments: str) -> Done:
    """Run ``dkimpipe ARGUMENTS`` as root."""
    settled(machine.root / "etc/postfix/main.cf")
    return run(machine, *arguments)


def run(machine: Machine, *arguments: str) -> Done:
    """Run ``dkimpipe ARGUMENTS`` as root, whenever main.cf was changed."""
    return _commands[-1].run(machine, arguments) if _commands else machine.run(DKIMPIPE, *arguments)


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


_commands: list[Commands] = []  # without them, each run is a start of Python


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


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """dkimpipe installed as README.md says, and Postfix as Debian ships it with a submission service."""
    if missing := _missing():
        pytest.skip(f"the tests of setup need {', '.join(missing)}")
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
        kept = machine.keep(tmp_path_factory.mktemp("fresh"))
        with Commands(machine, DKIMPIPE) as commands:
            _commands.append(commands)
            yield kept
            _commands.clear()


def install(machine: Machine) -> None:
    """Do what ``pip install`` does, with the packages that these tests run with."""
    machine.shell(f"{PYTHON} -m venv --without-pip /opt/dkimpipe")
    packages = machine.root / PACKAGES
    shutil.copytree(PROJECT / "dkimpipe", packages / "dkimpipe", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("cryptography", "cffi", "dnspython", "dkimpy"):
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), packages / file)
    script = machine.root / DKIMPIPE[1:]
    script.write_text(
        "#!/opt/dkimpipe/bin/python3\nfrom dkimpipe.__main__ import main\nraise SystemExit(main())\n"
    )
    text = (PROJECT / "postfix/dkimpipe-sendmail").read_text()
    script.with_name("dkimpipe-sendmail").write_text(
        text.replace("#!python", "#!/opt/dkimpipe/bin/python3", 1)
    )
    machine.shell(f"chmod 755 {DKIMPIPE} {DKIMPIPE}-sendmail && {PYTHON} -m compileall -q /{PACKAGES}")
    machine.shell("chmod -R a+rX /opt/dkimpipe /etc/postfix")


@pytest.fixture(scope="module")
def first(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After the first run: ``dkimpipe setup example.com``."""
    with after(fresh, tmp_path_factory.mktemp("first"), "example.com", "--selector", "s1") as state:
        yield state


@pytest.fixture(scope="module")
def second(first: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """After a second run, for a further domain and with keys of both types."""
    arguments = ("example.org", "--selector", "s2", "--ed25519", "--now")
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


def _missing() -> list[str]:
    """Return what copies of this machine need and do not have."""
    impossible = throwaway.why_not()
    needs = {
        "Debian's package postfix": (SHIPPED / "main.cf.debian").exists(),
        "Debian's package swaks": shutil.which("swaks") is not None,
        f"{PYTHON} to be {VERSION}": PYTHON.resolve().name == VERSION,
        f"a throwaway copy of this machine: {impossible}": not impossible,
    }
    return [need for need, there in needs.items() if not there]
