"""sign_clients: which SMTP clients have their mail signed, the rest of which is up to the senders file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import INTERPRETER, MAIN, MESSAGE, Done, Keys, settled

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Postfix")

FROM = "; from=Alice <alice@example.com>\n"
SIGNED = f"dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256{FROM}"


def refused(client: str, where: str = "mynetworks") -> str:
    return f"dkimpipe: not signed: client {client} did not log in and is not in {where}{FROM}"


class Place:
    """A senders file, and a Postfix that has nothing but its mynetworks."""

    def __init__(self, directory: Path, keys: Keys) -> None:
        self.directory = directory
        self._senders = keys.senders("example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n", "clients")

    def run(self, *options: str, mynetworks: str = "127.0.0.0/8", message: bytes = MESSAGE) -> Done:
        mynetworks = mynetworks.replace("HERE", str(self.directory))
        text = f"compatibility_level = 3.6\nunused = 1\nlan = 10.1.0.0/16\nmynetworks = {mynetworks}\n"
        (self.directory / "main.cf").write_text(text)
        settled(self.directory / "main.cf")
        (self.directory / "master.cf").touch()
        done = subprocess.run(
            [INTERPRETER, "-IS", str(MAIN), f"--sender_map={self._senders}", *options],
            input=message,
            capture_output=True,
            env={**os.environ, "MAIL_CONFIG": str(self.directory)},
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Place:
    return Place(tmp_path, keys)


# Client, login, sign_clients (nothing: the default), and what is said.
WHO = {
    "logged in, from anywhere": ("192.0.2.7", "alice", "", SIGNED),
    "a stranger": ("192.0.2.7", "", "", refused("192.0.2.7")),
    "a stranger by IPv6": ("2001:db8::7", "", "", refused("2001:db8::7")),
    "a stranger by IPv6, as Postfix writes it": ("IPv6:2001:db8::7", "", "", refused("2001:db8::7")),
    "a network of IPv6, as Postfix writes it": ("IPV6:2001:db8::7", "", "2001:db8::/32", SIGNED),
    "this host by IPv6, as Postfix writes it": ("IPv6:::1", "", "", SIGNED),
    "nobody knows": ("unknown", "", "", refused("unknown")),
    "in mynetworks": ("10.1.2.3", "", "", SIGNED),
    "in mynetworks, mapped": ("::ffff:10.1.2.3", "", "", SIGNED),
    "this host": ("127.0.0.1", "", "", SIGNED),
    "this host by IPv6": ("::1", "", "", SIGNED),
    "no client": ("", "", "", SIGNED),
    "no client, and none is listed": ("", "", "192.0.2.7", SIGNED),
    "this host is not listed": ("127.0.0.1", "", "authenticated", refused("127.0.0.1", "sign_clients")),
    "logins only": ("10.1.2.3", "", "authenticated", refused("10.1.2.3", "sign_clients")),
    "logins only, logged in": ("10.1.2.3", "alice", "authenticated", SIGNED),
    "mynetworks only, logged in": ("192.0.2.7", "alice", "mynetworks", refused("192.0.2.7")),
    "anybody": ("192.0.2.7", "", "any", SIGNED),
    "anybody, among others": ("192.0.2.7", "", "authenticated any", SIGNED),
    "an address": ("192.0.2.7", "", "192.0.2.7", SIGNED),
    "another address": ("192.0.2.70", "", "192.0.2.7", refused("192.0.2.70", "sign_clients")),
    "a network": ("192.0.2.7", "", "authenticated, mynetworks, 192.0.2.0/24", SIGNED),
    "a network of IPv6": ("2001:db8::7", "", "2001:db8::/32", SIGNED),
    "a network as Postfix writes it": ("2001:db8::7", "", "[2001:db8::]/32", SIGNED),
    "a network of the other kind": ("192.0.2.7", "", "::/0", refused("192.0.2.7", "sign_clients")),
    "controls": ("192.0.2.7\n\x1b[2J", "", "", refused(r"192.0.2.7\n\x1b[2J")),
    "endless": ("1" * 9999, "", "", refused("1" * 64 + "...")),
}


@pytest.mark.parametrize(("client", "login", "rule", "said"), WHO.values(), ids=WHO)
def test_who_has_mail_signed(place: Place, client: str, login: str, rule: str, said: str) -> None:
    options = [f"--client={client}", f"--login={login}", *([f"--sign_clients={rule}"] if rule else [])]
    done = place.run(*options, mynetworks="127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128 $lan")
    assert (done.status, done.stderr) == (0, said)
    assert done.stdout.startswith(b"DKIM-Signature: ") is (said == SIGNED)
    assert done.stdout.endswith(MESSAGE)


LISTS = {
    "an address": ("192.0.2.7", True),
    "commas": ("10.0.0.0/8,192.0.2.0/24", True),
    "not in it": ("192.0.2.0/29, !192.0.2.0/24", True),
    "excepted first": ("!192.0.2.7, 192.0.2.0/24", False),
    "excepted too late": ("192.0.2.0/24, !192.0.2.7", True),
    "excepted twice": ("!!192.0.2.7", True),
    "everything": ("0.0.0.0/0", True),
    "nothing": ("", False),
    "a file": ("HERE/networks", True),
    "a file of files": ("HERE/files", True),
    "excepted by a file": ("!HERE/networks, 192.0.2.0/24", False),
    "a table": ("cidr:HERE/cidr", True),
    "a table without it": ("cidr:HERE/empty", False),
    "a table in line": ("inline:{192.0.2.7=yes}", True),
    "a table in line with spaces": ("10.0.0.1, inline:{ {192.0.2.8 = no}, {192.0.2.7 = yes} }", True),
    "IPv6 only": ("[2001:db8::]/32", False),
    "mapped": ("[::ffff:192.0.2.0]/120", True),
}


@pytest.mark.parametrize(("mynetworks", "is_in_it"), LISTS.values(), ids=LISTS)
def test_mynetworks_as_postfix_reads_it(place: Place, mynetworks: str, is_in_it: bool) -> None:
    (place.directory / "networks").write_text("# of mine\n10.0.0.0/8\n192.0.2.7, 192.0.2.8\n")
    (place.directory / "files").write_text(f"{place.directory}/networks\n")
    (place.directory / "cidr").write_text("192.0.2.0/24 yes\n")
    (place.directory / "empty").touch()
    done = place.run("--client=192.0.2.7", "--login=", mynetworks=mynetworks)
    assert (done.status, done.stderr) == (0, SIGNED if is_in_it else refused("192.0.2.7"))


def test_mynetworks_is_never_out_of_date(place: Place) -> None:
    for mynetworks, said in (("192.0.2.7", SIGNED), ("192.0.2.8", refused("192.0.2.7"))):
        assert place.run("--client=192.0.2.7", "--login=", mynetworks=mynetworks).stderr == said


CANNOT = "cannot look up mynetworks: "
HINT = "see postconf mynetworks, or list the networks in sign_clients\n"
TROUBLE = {
    "no postconf": (
        ["--sendmail=/nowhere/sendmail"],
        "",
        f"{CANNOT}/nowhere/postconf: No such file or directory",
    ),
    "a file that is missing": ([], "HERE/missing", "file of mynetworks "),
    "files without end": ([], "HERE/loop", "HERE/loop: the files refer to each other"),
    "a table that is missing": ([], "hash:HERE/missing", f"{CANNOT}/usr/sbin/postmap: postmap: fatal: open "),
    "a host name": ([], "example.com", "mynetworks: 'example.com' is not a network"),
    "bits behind the mask": ([], "192.0.2.7/24", "mynetworks: '192.0.2.7/24' is not a network"),
}


@pytest.mark.parametrize(("options", "mynetworks", "said"), TROUBLE.values(), ids=TROUBLE)
def test_what_cannot_be_looked_up_defers(
    place: Place, options: list[str], mynetworks: str, said: str
) -> None:
    (place.directory / "loop").write_text(f"{place.directory}/loop\n")
    done = place.run("--client=192.0.2.7", "--login=", *options, mynetworks=mynetworks)
    assert (done.status, done.stdout) == (75, b"")
    assert done.stderr.startswith(f"4.3.5 dkimpipe: {said.replace('HERE', str(place.directory))}")
    assert "Traceback" not in done.stderr


def test_the_fatal_error_is_shown_and_not_the_warnings_before_it(place: Place) -> None:
    """Postfix 3.11 warns of each table of type hash."""
    commands = place.directory / "bin"
    commands.mkdir()
    (commands / "postconf").symlink_to("/usr/sbin/postconf")
    (commands / "postmap").write_text(
        "#!/bin/sh\necho 'postmap: warning: x\npostmap: fatal: y' >&2; exit 1\n"
    )
    (commands / "postmap").chmod(0o755)
    place.directory.chmod(0o755)
    done = place.run(
        "--client=192.0.2.7", "--login=", f"--sendmail={commands}/sendmail", mynetworks="hash:/x"
    )
    assert done.status == 75
    assert done.stderr.startswith(f"4.3.5 dkimpipe: {CANNOT}{commands}/postmap: postmap: fatal: y\n")


def test_on_error_accept_passes_it_unsigned(place: Place) -> None:
    done = place.run("--client=192.0.2.7", "--login=", "--on_error=accept", mynetworks="example.com")
    assert (done.status, done.stdout) == (0, MESSAGE)


def test_a_client_without_a_login_option_defers(place: Place) -> None:
    done = place.run("--client=192.0.2.7")
    assert (done.status, done.stdout, done.stderr) == (
        75,
        b"",
        "4.3.5 dkimpipe: --client was given, but no --login\n"
        "hint: add --login=${sasl_username} to argv in master.cf\n",
    )


@pytest.mark.parametrize("rule", ["authentic", "192.0.2.0/33", "192.0.2.7/24", "example.com", "-"])
def test_an_item_that_matches_nothing_is_an_error(place: Place, rule: str) -> None:
    done = place.run("--client=192.0.2.7", "--login=", f"--sign_clients=mynetworks, {rule}")
    assert done.status == 75
    assert done.stderr.startswith(f"4.3.5 dkimpipe: command line: sign_clients: '{rule}' ")
    assert done.stderr.endswith(
        "hint: use authenticated, mynetworks, any, addresses, and networks such as 192.0.2.0/24\n"
    )


def test_without_the_option_all_is_as_before(place: Place) -> None:
    assert place.run("--sign_clients=192.0.2.7").stderr == SIGNED
