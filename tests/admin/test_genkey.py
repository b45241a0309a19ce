"""``dkimpipe genkey``: keys that others accept, in files that nobody else can read."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import witness
from conftest import INTERPRETER, MAIN, Done, copy_program, run_filter, write_key
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postfix import shared_directory

GROUP = "root"
HINT = "hint: publish the record first: the entry in the senders file applies to the next message\n"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a key to a group")


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """The program where every user can run it: the project may be in a home that nobody else enters."""
    with shared_directory() as directory:
        yield copy_program(directory)


def verb(*arguments: str, user: str | None = None, main: Path = MAIN) -> Done:
    """Run ``dkimpipe genkey ARGUMENTS``, as another user if one is named."""
    python = [INTERPRETER, "-IS"] if user else [sys.executable]
    command = [*python, "-B", str(main), "genkey", *arguments]
    group = pwd.getpwnam(user).pw_gid if user else None
    groups: list[int] | None = [] if user else None
    done = subprocess.run(
        command, capture_output=True, check=False, user=user, group=group, extra_groups=groups
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def make(directory: Path, *arguments: str) -> Done:
    """Make a key in a directory."""
    return verb("example.com", f"--directory={directory}", f"--group={GROUP}", *arguments)


def test_it_prints_the_line_and_the_record(tmp_path: Path) -> None:
    done = make(tmp_path, "--selector=mail")
    path = tmp_path / "example.com.mail.pem"
    value = witness.record(path.read_bytes()).decode()
    assert done == Done(
        0,
        f"example.com  dkim(c=relaxed/relaxed,s=mail,key={path})\n"
        f'mail._domainkey.example.com. IN TXT ( "{value[:255]}" "{value[255:]}" )\n'.encode(),
        HINT,
    )


def test_the_line_names_the_whole_path(tmp_path: Path) -> None:
    command = [sys.executable, str(MAIN), "genkey", "example.com", "--selector=mail", "--directory=."]
    done = subprocess.run(
        [*command, f"--group={GROUP}"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.startswith(
        f"example.com  dkim(c=relaxed/relaxed,s=mail,key={tmp_path}/example.com.mail.pem)\n"
    )


def test_the_selector_is_year_and_month(tmp_path: Path) -> None:
    make(tmp_path, "--dual")
    month = time.strftime("%Y%m")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"example.com.{month}e.pem",
        f"example.com.{month}r.pem",
    ]


def test_only_owner_and_group_can_read_it(tmp_path: Path) -> None:
    make(tmp_path, "--selector=mail")
    status = (tmp_path / "example.com.mail.pem").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o440, 0)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    done = verb("example.com", f"--directory={tmp_path}", "--selector=mail", "--owner=nobody")
    status = (tmp_path / "example.com.mail.pem").stat()
    nobody = pwd.getpwnam("nobody")
    assert done.status == 0
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o400, nobody.pw_uid, nobody.pw_gid)


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A directory of nobody's own, which pytest's are not."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.chown(directory, "nobody")
        yield Path(directory)


def test_who_is_not_root_makes_keys_for_himself(of_nobody: Path, shared: Path) -> None:
    done = verb("example.com", f"--directory={of_nobody}", "--selector=mail", user="nobody", main=shared)
    assert (done.status, done.stderr) == (0, HINT)
    status = (of_nobody / "example.com.mail.pem").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o400, pwd.getpwnam("nobody").pw_uid)


NOT_ROOT = {
    "for another user": (
        ["--owner=root"],
        "only root can create a key for user root\nhint: without --owner, the key is your own",
    ),
    "for another group": (
        ["--group=root"],
        "only root can create a key for group root\nhint: without --group, the key is your own",
    ),
    "elsewhere": (
        ["--directory=/etc"],
        "/etc/example.com.mail.pem: Permission denied\nhint: name another directory: --directory",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), NOT_ROOT.values(), ids=NOT_ROOT)
def test_what_it_refuses_to_who_is_not_root(
    of_nobody: Path, shared: Path, arguments: list[str], message: str
) -> None:
    options = [f"--directory={of_nobody}", "--selector=mail", *arguments]
    done = verb("example.com", *options, user="nobody", main=shared)
    assert done == Done(78, b"", f"dkimpipe: {message}\n")
    assert os.listdir(of_nobody) == []


def test_one_owner_or_a_group(tmp_path: Path) -> None:
    done = make(tmp_path, "--owner=nobody")
    assert done.status == 64
    assert done.stderr.endswith("\ndkimpipe genkey: --owner or --group, not both\n")


def test_bits_are_of_rsa_keys(tmp_path: Path) -> None:
    done = make(tmp_path, "--type=ed25519", "--bits=4096")
    assert done.status == 64
    assert done.stderr.endswith("\ndkimpipe genkey: --bits is for RSA keys: an Ed25519 key has 256\n")


def test_the_selector_is_in_lower_case_as_the_senders_file_has_it(tmp_path: Path) -> None:
    assert make(tmp_path, "--selector=Mail").stdout.startswith(
        b"example.com  dkim(c=relaxed/relaxed,s=mail,key="
    )


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    make(tmp_path, "--selector=mail")
    path = tmp_path / "example.com.mail.pem"
    before = path.read_bytes()
    assert make(tmp_path, "--selector=mail") == Done(
        78, b"", f"dkimpipe: {path} already exists and is kept\nhint: choose another selector: --selector\n"
    )
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_that_leads_away_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "example.com.mail.pem").symlink_to(tmp_path / "elsewhere")
    assert make(tmp_path, "--selector=mail").status == 78
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("options", [["--bits=1024"], [], ["--bits=4096"], ["--type=ed25519"]])
def test_openssl_and_the_filter_accept_it(tmp_path: Path, options: list[str]) -> None:
    make(tmp_path, "--selector=mail", *options)
    path = tmp_path / "example.com.mail.pem"
    checked = subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-check", "-noout"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0 or "not supported" in checked.stderr  # Ed25519, by some versions
    done = run_filter("--domain=example.com", "--selector=mail", f"--keyfile={path}")
    assert done.stderr.startswith("dkimpipe: signed d=example.com s=mail a=")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nodomain"], "dkimpipe: 'nodomain' is not a valid domain\nhint: such as example.com\n"),
        (["192.0.2.1"], "dkimpipe: '192.0.2.1' is not a valid domain\nhint: such as example.com\n"),
        (["a.-x.example"], "dkimpipe: 'a.-x.example' is not a valid domain\nhint: such as example.com\n"),
        (["x-.example"], "dkimpipe: 'x-.example' is not a valid domain\nhint: such as example.com\n"),
        (["\x1b.example"], "dkimpipe: '\\x1b.example' is not a valid domain\nhint: such as example.com\n"),
        (
            ["mail._domainkey.Example.com"],
            "dkimpipe: 'mail._domainkey.Example.com' is the name of a record, not a domain\n"
            "hint: such as example.com\n",
        ),
        (
            ["example.com", "--selector=mail._domainkey"],
            "dkimpipe: 'mail._domainkey' is the name of a record, not a selector\nhint: such as mail\n",
        ),
        (
            ["example.com", "--selector=S.2026._DomainKey.example.com"],
            "dkimpipe: 's.2026._domainkey.example.com' is the name of a record, not a selector\n"
            "hint: such as s.2026\n",
        ),
        (
            ["example.com", "--selector=_domainkey"],
            "dkimpipe: '_domainkey' is the name of a record, not a selector\nhint: such as mail\n",
        ),
        (
            ["example.com", "--selector="],
            "dkimpipe: '' is not a valid selector\nhint: such as mail\n",
        ),
        (["example.com", "--bits=512"], "dkimpipe: RSA keys have 1024 to 8192 bits, not 512\n"),
        (
            ["example.com", "--group=nogroupofthisname"],
            "dkimpipe: there is no group nogroupofthisname\nhint: dkimpipe setup creates it; or name"
            " another one: --group\n",
        ),
        (
            ["example.com", "--owner=nouserofthisname"],
            "dkimpipe: there is no user nouserofthisname\nhint: use the user that user= in master.cf names\n",
        ),
        (
            ["--show", "/nowhere"],
            "dkimpipe: key file /nowhere: No such file or directory\nhint: create it, or fix the path\n",
        ),
        (
            ["example.com", "--selector=../x"],
            "dkimpipe: '../x' is not a valid selector\nhint: such as mail\n",
        ),
    ],
)
def test_what_it_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert verb(*arguments, f"--directory={tmp_path}") == Done(78, b"", message)
    assert os.listdir(tmp_path) == []


def test_show(tmp_path: Path) -> None:
    make(tmp_path, "--selector=mail")
    path = tmp_path / "example.com.mail.pem"
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-pubout", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    lines = verb("--show", str(path)).stdout.decode().splitlines()
    assert lines[0:2] == [f"key file:    {path}", "type:        rsa, 2048 bits"]
    assert lines[3].startswith(f"fingerprint: {hashlib.sha256(public).hexdigest()} ")
    assert lines[4] == "valid:       yes, according to OpenSSL"


def test_show_finds_a_damaged_key(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    exponent = key.private_numbers().d.to_bytes(128, "big").lstrip(b"\0")
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der = der.replace(exponent, exponent[:-1] + bytes([exponent[-1] ^ 2]))
    body = base64.encodebytes(der)
    label = b"RSA PRIVATE KEY-----\n"
    broken = write_key(tmp_path / "broken.pem", b"-----BEGIN " + label + body + b"-----END " + label)
    assert verb("--show", str(broken)) == Done(
        78,
        b"",
        f"dkimpipe: key file {broken} is damaged: its components are inconsistent\n"
        "hint: restore the key of the published record from a backup, or export it again; "
        "a new key needs a new record: dkimpipe genkey DOMAIN\n",
    )


def test_a_name_that_dns_does_not_allow(tmp_path: Path) -> None:
    """Not made, though each part is valid; check calls it an error, too."""
    domain, selector = ".".join(["a" * 60] * 3), "b" * 60
    name = f"{selector}._domainkey.{domain}"
    done = verb(domain, f"--directory={tmp_path}", f"--group={GROUP}", f"--selector={selector}")
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {name} is too long for DNS\nhint: choose a shorter selector: --selector\n",
    )
    assert list(tmp_path.iterdir()) == []
    done = verb(domain, f"--directory={tmp_path}", f"--group={GROUP}", f"--selector={selector[:50]}")
    assert done.status == 0
