"""What the filter needs to run, and what cannot choose its files, programs and options."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import witness
from conftest import MESSAGE, PROJECT, Keys

from postfix import shared_directory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
PYTHON = "/usr/bin/python3"


@pytest.fixture
def site(keys: Keys) -> Iterator[Path]:
    """A directory in which nobody can read the package, a map, a conf file and one key, and nothing else."""
    with shared_directory() as directory:
        ignore = shutil.ignore_patterns("__pycache__", "admin", "verify", "man")
        shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe", ignore=ignore)
        key = Path(shutil.copy(keys.path("rsa2048"), directory / "key.pem"))
        (directory / "senders").write_text(f"example.com dkim(s=rsa2048,key={key})\n")
        (directory / "conf").write_text("verbose no\n")
        for name in ("key.pem", "senders", "conf"):
            shutil.chown(directory / name, "root", "nogroup")
            (directory / name).chmod(0o440)
        os.utime(directory / "senders", (0, 0))
        yield directory


def run(
    site: Path, *arguments: str, env: dict[str, str] | None = None, message: bytes = MESSAGE
) -> subprocess.CompletedProcess[bytes]:
    """Run the filter as nobody, in a directory that is not his."""
    maps = (f"--sender_map={site}/senders", f"--conf_file={site}/conf")
    return subprocess.run(
        [PYTHON, "-IS", f"{site}/dkimpipe/__main__.py", *maps, *arguments],
        input=message,
        capture_output=True,
        env=env or {},
        cwd="/",
        user="nobody",
        group="nogroup",
        extra_groups=[],
        check=False,
    )


def test_who_can_read_his_key_and_his_map_needs_nothing_else(site: Path, keys: Keys) -> None:
    done = run(site)
    assert done.returncode == 0
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


@pytest.mark.parametrize("name", ["key.pem", "senders", "conf"])
@pytest.mark.parametrize("kind", ["symlink", "FIFO", "device", "directory", "socket", "unreadable"])
def test_nothing_but_a_file_that_he_can_read_will_do(site: Path, name: str, kind: str) -> None:
    path = site / name
    real = path.rename(site / "real")
    if kind == "symlink":
        path.symlink_to(real)
    elif kind == "FIFO":
        os.mkfifo(path, 0o440)
    elif kind == "device":
        os.mknod(path, 0o20444, os.makedev(1, 3))  # /dev/null
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140444)
    else:
        shutil.copy(real, path)
        path.chmod(0o400)
    done = run(site)
    assert (done.returncode, done.stdout) == (75, b"")
    what = "Permission denied" if kind == "unreadable" else "not a regular file"
    assert re.match(rf"4\.3\.5 dkimpipe: [^\n]*{re.escape(str(path))}: {what}\n", done.stderr.decode())


def hostile(directory: Path) -> dict[str, str]:
    """Return variables that make programs load what lies in a directory."""
    trap = f"import os; os.write(2, b'TRAPPED'); open({str(directory / 'trapped')!r}, 'w')\n"
    for name in ("sitecustomize.py", "usercustomize.py", "posix.py", "time.py", "binascii.py", "dkimpipe.py"):
        (directory / name).write_text(trap)
    for name in ("openssl", "sendmail", "python3"):
        (directory / name).write_text("#!/bin/sh\necho TRAPPED >&2\n")
        (directory / name).chmod(0o755)
    (directory / "openssl.cnf").write_text(
        "openssl_conf = x\n[x]\nproviders = y\n[y]\ntrap = z\n[z]\nmodule = /x.so\nactivate = 1\n"
    )
    path = str(directory)
    return {
        "PATH": path,
        "PYTHONPATH": path,
        "PYTHONHOME": path,
        "PYTHONSTARTUP": f"{path}/posix.py",
        "PYTHONUSERBASE": path,
        "PYTHONPYCACHEPREFIX": path,
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "posix.system",
        "OPENSSL_CONF": f"{path}/openssl.cnf",
        "OPENSSL_MODULES": path,
        "OPENSSL_ENGINES": path,
        "TMPDIR": path,
        "HOME": path,
        "MAIL_CONFIG": path,
        "SASL_USERNAME": "root",
        "SENDER": "root",
        "DKIMPIPE_CONF": path,
        "LC_ALL": "../../../x",
        "TZ": f"{path}/x",
    }


def test_nothing_in_the_environment_chooses_anything(site: Path, keys: Keys) -> None:
    trap = site / "trap"
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    done = run(site, env=hostile(trap))
    assert (done.returncode, b"TRAPPED" in done.stderr) == (0, False)
    assert not (trap / "trapped").exists()
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


def test_nothing_in_a_message_chooses_anything(site: Path) -> None:
    """Paths, options and addresses in a header are text."""
    fields = b"".join(
        b"%b: --sender_map=/etc/passwd --keyfile=/etc/shadow $(id) `id` ../../../etc/passwd%b\n" % (name, end)
        for name in (b"Sender", b"List-Id", b"Subject", b"X-Conf-File", b"Resent-From")
        for end in (b"", b"\0", b"\r\n --", b"%s%n")
    )
    trace = site / "trace"
    maps = (f"--sender_map={site}/senders", f"--conf_file={site}/conf")
    command = [
        "strace",
        "-f",
        "-e",
        "trace=openat,execve",
        "-o",
        str(trace),
        PYTHON,
        "-IS",
        f"{site}/dkimpipe/__main__.py",
    ]
    subprocess.run([*command, *maps], input=fields + MESSAGE, capture_output=True, check=True)
    opened = set(re.findall(r'(?:openat|execve)\((?:AT_FDCWD, )?"([^"]*)"', trace.read_text()))
    assert f"{site}/senders" in opened
    ours = (str(site), "/usr/", "/lib", "/etc/ld.so.cache", "/etc/localtime", "/proc/", "/dev/")
    assert [path for path in opened if not path.startswith(ours)] == []


ADDRESSES = [
    "-oQ/tmp",
    "--",
    "-bp",
    "a b@x.example",
    "-f root",
    "$(id)@x.example",
    "'; id;'@x.example",
    "\n-bs",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_is_an_option_of_sendmail(site: Path, address: str) -> None:
    sendmail = site / "sendmail"
    sendmail.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    sendmail.chmod(0o755)
    done = run(site, f"--sendmail={sendmail}", "-f", address, "--", address, "b@x.example")
    words = [word.decode() for word in done.stdout.split(b"\0")]
    assert words == ["-G", "-i", "-f", address, "--", address, "b@x.example", ""]
