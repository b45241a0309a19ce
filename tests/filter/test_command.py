"""The command as a process, seen from outside: its exit status, its output, what it says and what it does
under every fault that can be forced on it. It never exits 0 unless all of the message has left, and signed
if it was to be signed."""

from __future__ import annotations

import configparser
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import pytest
import witness
from conftest import MAIN, MESSAGE, PROJECT, Done, Keys

PYTHON = sys.executable
BY_PATH = (PYTHON, "-IS", str(MAIN))
AS_MODULE = (PYTHON, "-m", "dkimpipe")
AS_SCRIPT = (PYTHON, "-c", "import sys; from dkimpipe.command import main; sys.exit(main())")
TEMPORARY_FAILURE = 75
LOG_LINE = "dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; from=Alice <alice@example.com>\n"
UNSIGNED = MESSAGE.replace(b"example.com", b"example.org")
TO_BOB = ("-f", "alice@example.com", "--", "bob@example.net")
TIMEOUT = 60

Word = Union[str, bytes]


class Place(NamedTuple):
    """A directory of a test's own, and a senders file that signs for example.com."""

    directory: Path
    senders: Path

    def file(self, name: str, octets: bytes, mode: int = 0o644) -> Path:
        """Return a new file."""
        path = self.directory / name
        path.write_bytes(octets)
        path.chmod(mode)
        return path


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Place:
    senders = tmp_path / "senders"
    senders.write_text(f"example.com dkim(s=rsa2048,key={keys.path('rsa2048')})\n")
    return Place(tmp_path, senders)


def run(
    *arguments: Word,
    message: bytes = MESSAGE,
    command: Sequence[Word] = BY_PATH,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    limits: Callable[[], None] | None = None,
) -> Done:
    """Run the filter; ``env`` is all of its environment, ``limits`` runs in the new process."""
    done = subprocess.run(
        [*command, *arguments],
        input=message,
        capture_output=True,
        env={"PYTHONPATH": str(PROJECT), **os.environ} if env is None else env,
        cwd=cwd,
        preexec_fn=limits,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def with_senders(place: Place, *arguments: Word) -> list[Word]:
    """Return the command line of a filter that finds its senders file."""
    return [*BY_PATH, "--sender_map", str(place.senders), *arguments]


def in_process(program: str) -> tuple[str, ...]:
    """Return a command that sets what a test must bend, and then is the filter."""
    return (
        PYTHON,
        "-ISc",
        f"import sys; sys.path.append({str(PROJECT)!r})\n{program}\n"
        "from dkimpipe.command import main\nraise SystemExit(main(sys.argv[1:]))",
    )


def new_fields(output: bytes, message: bytes) -> bytes:
    """Return what stands in the output above the message, which must be there to the last octet."""
    assert output.endswith(message)
    return output[: len(output) - len(message)]


def is_signed(output: bytes, message: bytes = MESSAGE) -> bool:
    """Tell whether this is the message, whole, with one new signature on top and nothing else."""
    field = rb"DKIM-Signature: v=1;[^\n]*\n(?: [^\n]+\n)*"
    return re.fullmatch(field, new_fields(output, message)) is not None


def without_time(output: bytes) -> bytes:
    """Return signed mail without what the time of signing makes: the values of t= and b=."""
    return re.sub(
        rb"(?s)\bb=[^:]*?(?=\n[^ ])", b"b=", re.sub(rb"\bt=[0-9]+", b"t=", output, count=1), count=1
    )


def assert_deferred(done: Done, begin: str = "4.3.") -> None:
    """The mail stays in the queue, nothing has left, and the first output is what pipe(8) reads."""
    assert done.stderr.startswith(begin)
    assert re.match(r"4\.3\.[0-5] dkimpipe: [^\n]+\n", done.stderr)
    assert "Traceback" not in done.stderr
    assert (done.status, done.stdout) == (TEMPORARY_FAILURE, b"")


# Signed, and what is said


def test_stdout_has_the_signed_message_and_nothing_else(place: Place, keys: Keys) -> None:
    done = run("--sender_map", str(place.senders))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


FROM = "from=Alice <alice@example.com>"
SAID = {
    "message-id": (
        "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)",
        b"Message-ID: <1@example.com>\n" + MESSAGE,
        (),
        f"signed d=example.com s=rsa2048 a=rsa-sha256; {FROM}; message-id=<1@example.com>",
    ),
    "two signatures": (
        "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem), dkim(s=ed25519,key=KEYS/ed25519.pem)",
        MESSAGE,
        (),
        f"signed d=example.com s=rsa2048 a=rsa-sha256, d=example.com s=ed25519 a=ed25519-sha256; {FROM}",
    ),
    "domainkeys": (
        "example.com domainkeys(s=rsa1024,key=KEYS/rsa1024.pem)",
        MESSAGE,
        (),
        f"signed d=example.com s=rsa1024 a=rsa-sha1 domainkeys; {FROM}",
    ),
    "verbose": (
        "# comment\n\nexample.com dkim(s=rsa2048,\n key=KEYS/rsa2048.pem)",
        b"Message-ID: <1@example.com>\n" + MESSAGE,
        ("--verbose",),
        "signed d=example.com s=rsa2048 a=rsa-sha256; chosen by 'example.com', SENDERS, line 3; "
        f"{FROM}; message-id=<1@example.com>",
    ),
    "no entry": ("example.net dkim", MESSAGE, (), f"not signed: no entry for alice@example.com; {FROM}"),
    "no entry, verbose": (
        "example.net dkim",
        MESSAGE,
        ("--verbose",),
        f"not signed: no entry for alice@example.com; {FROM}",
    ),
    "no From": ("example.com dkim", b"To: bob@example.net\n\n", (), "not signed: no From field"),
    "no From, message-id": (
        "example.com dkim",
        b"Message-ID: <1@example.com>\n\n",
        (),
        "not signed: no From field; message-id=<1@example.com>",
    ),
    "two From": (
        "example.com dkim",
        b"From: eve@example.org\n" + MESSAGE,
        (),
        "not signed: 2 From fields; from=eve@example.org",
    ),
    "no address": (
        "example.com dkim",
        b"From: nobody in particular\n\n",
        (),
        "not signed: no address in 'nobody in particular'; from=nobody in particular",
    ),
    "no domain": (
        ". dkim(s=rsa2048,key=KEYS/rsa2048.pem)",
        b"From: a@[192.0.2.1]\n\n",
        (),
        "not signed: '[192.0.2.1]' is no domain that can sign; from=a@[192.0.2.1]",
    ),
    "domainkeys does not cover": (
        "example.com domainkeys(d=example.net,s=rsa1024,key=KEYS/rsa1024.pem)",
        MESSAGE,
        (),
        f"not signed: domainkeys d=example.net does not cover from; {FROM}",
    ),
    "one of two": (
        "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem),"
        " domainkeys(d=example.net,s=rsa1024,key=KEYS/rsa1024.pem)",
        MESSAGE,
        (),
        "signed d=example.com s=rsa2048 a=rsa-sha256; "
        f"not signed: domainkeys d=example.net does not cover from; {FROM}",
    ),
    "empty message": ("example.com dkim", b"", (), "not signed: no From field"),
    "error accepted": (
        "example.com dkim(s=rsa2048,key=KEYS/none.pem)",
        MESSAGE,
        ("--on_error", "accept"),
        f"not signed: SENDERS, line 1: key file KEYS/none.pem: No such file or directory; {FROM}",
    ),
}


@pytest.mark.parametrize(("senders", "message", "options", "line"), SAID.values(), ids=SAID)
def test_one_line_says_what_was_done(
    tmp_path: Path, keys: Keys, senders: str, message: bytes, options: tuple[str, ...], line: str
) -> None:
    path = tmp_path / "senders"
    path.write_text(senders.replace("KEYS", str(keys.directory)) + "\n")
    done = run("--sender_map", str(path), *options, message=message)
    line = line.replace("KEYS", str(keys.directory)).replace("SENDERS", str(path))
    assert (done.status, done.stderr) == (0, f"dkimpipe: {line}\n")
    fields = new_fields(done.stdout, message)
    assert (b"-Signature: " in fields) == line.startswith("signed"), "said and done are the same"
    assert fields == b"" or line.startswith("signed")


HOSTILE = {
    "folded": (b"Alice\n\t<alice@example.com>", r"Alice\t<alice@example.com>"),
    "folded, forged line": (
        b"Alice\n dkimpipe: signed d=bank.example <alice@example.com>",
        "Alice dkimpipe: signed d=bank.example <alice@example.com>",
    ),
    "CRLF": (b"Alice\r\n <alice@example.com>", "Alice <alice@example.com>"),
    "bare CR": (b'"Alice\rdkimpipe: x" <alice@example.com>', r'"Alice\rdkimpipe: x" <alice@example.com>'),
    "NUL": (b'"A\0B" <alice@example.com>', r'"A\x00B" <alice@example.com>'),
    "escape": (b'"\x1b[2J\x07" <alice@example.com>', r'"\x1b[2J\x07" <alice@example.com>'),
    "DEL": (b'"\x7f" <alice@example.com>', r'"\x7f" <alice@example.com>'),
    "C1": ('"\x9b2J" <alice@example.com>'.encode(), r'"\x9b2J" <alice@example.com>'),
    "NEL": ('"\x85" <alice@example.com>'.encode(), r'"\x85" <alice@example.com>'),
    "bidi": (
        '"\u202emoc\u202c\u2066" <alice@example.com>'.encode(),
        r'"\u202emoc\u202c\u2066" <alice@example.com>',
    ),
    "line separator": ('"\u2028\u2029" <alice@example.com>'.encode(), r'"\u2028\u2029" <alice@example.com>'),
    "zero width": ('"\u200b\ufeff" <alice@example.com>'.encode(), r'"\u200b\ufeff" <alice@example.com>'),
    "tag characters": ('"\U000e0041" <alice@example.com>'.encode(), r'"\U000e0041" <alice@example.com>'),
    "surrogate": (b'"\xed\xa0\x80" <alice@example.com>', r'"\xed\xa0\x80" <alice@example.com>'),
    "no UTF-8": (b'"\xe9\xff" <alice@example.com>', r'"\xe9\xff" <alice@example.com>'),
    "UTF-8": ('"Ålice ☃" <alice@example.com>'.encode(), '"Ålice ☃" <alice@example.com>'),
    "per cent": (b"%s%n <alice@example.com>", "%s%n <alice@example.com>"),
    "10 KB": (b"<alice@example.com> (" + b"\n x" * 3400 + b")", "<alice@example.com> (" + " x" * 49 + " ..."),
}


@pytest.mark.parametrize(("value", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_a_field_can_neither_spoil_nor_add_a_line(place: Place, value: bytes, shown: str) -> None:
    message = b"From: %s\nMessage-ID: %s\n\n" % (value, value.replace(b"alice", b"1"))
    done = run("--sender_map", str(place.senders), message=message)
    facts = "dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256"
    message_id = shown.replace("alice", "1")
    if shown.endswith("..."):
        message_id = "<1@example.com> (" + " x" * 51 + " ..."
    assert (done.status, done.stderr) == (0, f"{facts}; from={shown}; message-id={message_id}\n")


# Errors

CALLS = {
    "unknown option": (["--frobnicate"], "unknown option '--frobnicate'", "dkimpipe --help lists them"),
    "unknown, value": (["--frob=1"], "unknown option '--frob'", "dkimpipe --help lists them"),
    "controls": (["--a\nb\x1b\udcff"], "unknown option '--a?b??'", "dkimpipe --help lists them"),
    "short option": (
        ["-x"],
        "unknown argument '-x'",
        "recipients stand behind --; dkimpipe --help tells the rest",
    ),
    "recipient in front": (
        ["-f", "a@example.com", "b@example.net"],
        "unknown argument 'b@example.net'",
        "recipients stand behind --; dkimpipe --help tells the rest",
    ),
    "empty argument": (
        [""],
        "unknown argument ''",
        "recipients stand behind --; dkimpipe --help tells the rest",
    ),
    "no recipients behind --": (
        ["-f", "a@example.com", "--"],
        "no recipients behind --",
        "in master.cf: argv=... -f ${sender} -- ${recipient}",
    ),
    "no sender": (
        ["--", "b@example.net"],
        "recipients without -f SENDER",
        "in master.cf: argv=... -f ${sender} -- ${recipient}",
    ),
    "-f at the end": (
        ["-f"],
        "-f needs a value",
        "in master.cf: argv=... -f ${sender} -- ${recipient}",
    ),
    "option at the end": (["--sender_map"], "--sender_map needs a value", ""),
    "empty value": (["--sender_map="], "command line: sender_map has no value", ""),
    "yes or no": (["--syslog=maybe"], "command line: syslog is yes or no, not 'maybe'", ""),
    "on_error": (["--on_error=bounce"], "command line: on_error is defer or accept, not 'bounce'", ""),
    "match": (["--match=to"], "command line: match is a list of from, sender, envelope; not 'to'", ""),
    "help and more": (["--help", "--verbose"], "unknown option '--help'", "dkimpipe --help lists them"),
    "version and more": (
        ["--verbose", "--version"],
        "unknown option '--version'",
        "dkimpipe --help lists them",
    ),
    "version and recipients": (
        ["--version", *TO_BOB],
        "unknown option '--version'",
        "dkimpipe --help lists them",
    ),
    "no conf file": (
        ["--conf_file=DIR/none"],
        "conf file DIR/none: No such file or directory",
        "create it, or fix the path",
    ),
    "conf file a directory": (
        ["--conf_file=DIR"],
        "conf file DIR: not a regular file",
        "name the file itself: ls -l DIR",
    ),
    "no senders": (
        ["--sender_map=DIR/none"],
        "map DIR/none: No such file or directory",
        "create it, or fix the path",
    ),
    "senders below a file": (
        ["--sender_map=DIR/senders/none"],
        "map DIR/senders/none: Not a directory",
        "",
    ),
    "senders a FIFO": (
        ["--sender_map=DIR/fifo"],
        "map DIR/fifo: not a regular file",
        "name the file itself: ls -l DIR/fifo",
    ),
    "senders a link": (
        ["--sender_map=DIR/link"],
        "map DIR/link: not a regular file",
        "name the file itself: ls -l DIR/link",
    ),
    "no List-Id map": (
        ["--listid_map=DIR/none"],
        "map DIR/none: No such file or directory",
        "create it, or fix the path",
    ),
}


@pytest.mark.parametrize(("arguments", "cause", "hint"), CALLS.values(), ids=CALLS)
def test_a_wrong_command_line_defers(place: Place, arguments: list[str], cause: str, hint: str) -> None:
    os.mkfifo(place.directory / "fifo")
    (place.directory / "link").symlink_to(place.senders)
    here = str(place.directory)
    words = [os.fsencode(word.replace("DIR", here)) for word in arguments]
    done = run(*words, message=b"List-Id: <list.example.com>\n" + MESSAGE)
    assert_deferred(done)
    lines = [f"4.3.5 dkimpipe: {cause}", hint] if hint else [f"4.3.5 dkimpipe: {cause}"]
    assert done.stderr == "".join(f"{line.replace('DIR', here)}\n" for line in lines)


CONF_FILES = {
    "unknown directive": (b"# c\nfrobnicate 1\n", "line 2: unknown directive: 'frobnicate 1'"),
    "no directive": (b"\n\n(\n", "line 3: unknown directive: '('"),
    "conf_file in a conf file": (b"conf_file x\n", "line 1: unknown directive: 'conf_file x'"),
    "no value": (b"keyfile\n", "line 1: keyfile has no value"),
    "wrong value": (b"verbose no\non_error=bounce\n", "line 2: on_error is defer or accept, not 'bounce'"),
    "a binary": (b"\x7fELF\x02\0\xff\n", "line 1: unknown directive: '?ELF???'"),
}


@pytest.mark.parametrize(("octets", "fault"), CONF_FILES.values(), ids=CONF_FILES)
def test_a_wrong_line_in_the_conf_file_defers(place: Place, octets: bytes, fault: str) -> None:
    conf = place.file("conf", octets)
    done = run("--conf_file", str(conf), "--sender_map", str(place.senders))
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {conf}, {fault}\n"


ENTRIES = {
    "type": (
        b"example.com pgp(s=a)",
        "line 1: unknown type of signature: 'pgp(s=a)'\nknown are dkim and domainkeys\n",
    ),
    "option": (
        b"# comment\nexample.com dkim(q=a)",
        "line 2: unknown option: 'q=a'\nknown are a c d envelope h i key login s t x\n",
    ),
    "in a continued line": (
        b"example.net dkim\n\nexample.com\n  dkim(s=a,\n  q=a)\n",
        "line 3: unknown option: 'q=a'\nknown are a c d envelope h i key login s t x\n",
    ),
    "parenthesis": (b"example.com dkim(s=a", "line 1: no closing parenthesis: 'dkim(s=a'\n"),
    "parenthesis of the second": (
        b"example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem), dkim(s=a",
        "line 1: no closing parenthesis: 'dkim(s=a'\n",
    ),
    "nothing": (
        b"example.com",
        "line 1: no signature behind the key\nsuch as: dkim(s=SELECTOR,key=FILE)\n",
    ),
    "no key": (b"example.com dkim(s=a)", "line 1: dkim without key=\n"),
    "no selector": (b"example.com dkim(key=KEYS/rsa2048.pem)", "line 1: dkim without s=\n"),
    "twice": (b"example.com dkim(s=a,s=b)", "line 1: given twice: 's=b'\n"),
    "key of another type": (
        b"example.com dkim(s=a,a=rsa-sha256,key=KEYS/ed25519.pem)",
        "line 1: a=rsa-sha256, but key file KEYS/ed25519.pem is for ed25519\n",
    ),
    "controls": (
        b"example.com dkim(\x1b[31m\xe2\x80\xae=a)",
        "line 1: unknown option: '?[31m?=a'\nknown are a c d envelope h i key login s t x\n",
    ),
}


@pytest.mark.parametrize(("entry", "fault"), ENTRIES.values(), ids=ENTRIES)
def test_a_wrong_entry_defers_with_file_and_line(place: Place, keys: Keys, entry: bytes, fault: str) -> None:
    here = str(keys.directory)
    senders = place.file("wrong", entry.replace(b"KEYS", here.encode()) + b"\n")
    done = run("--sender_map", str(senders))
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {senders}, {fault.replace('KEYS', here)}"


@pytest.mark.parametrize("option", [b"s=\xff", b"s=a,d=\xff", b"s=a,i=a@\xff", b"s=a,h=\xff"])
def test_octets_that_are_no_text_are_an_error_in_their_line(place: Place, keys: Keys, option: bytes) -> None:
    key = str(keys.path("rsa2048")).encode()
    senders = place.file("wrong", b"\nexample.com dkim(key=%s,%s)\n" % (key, option))
    done = run("--sender_map", str(senders))
    assert_deferred(done, f"4.3.5 dkimpipe: {senders}, line 2: ")


def test_octets_that_are_no_text_are_an_error_of_the_command_line(keys: Keys) -> None:
    done = run("--domain", b"\xff", "--selector", "a", "--keyfile", str(keys.path("rsa2048")))
    assert_deferred(done, "4.3.5 dkimpipe: command line: ")


KEY_FILES = {
    "missing": ("none.pem", None, 0, ": No such file or directory", "create it, or fix the path"),
    "mode 0644": (
        "open.pem",
        b"-",
        0o644,
        " is readable by others (mode 0644)",
        "chmod 0640 KEY",
    ),
    "empty": (
        "empty.pem",
        b"",
        0o600,
        " holds no PEM block",
        "openssl genrsa -out NEWFILE 2048 makes a key that can sign",
    ),
}


@pytest.mark.parametrize(("name", "octets", "mode", "fault", "hint"), KEY_FILES.values(), ids=KEY_FILES)
def test_a_key_that_cannot_serve_defers(
    place: Place, name: str, octets: bytes | None, mode: int, fault: str, hint: str
) -> None:
    key = place.directory / name if octets is None else place.file(name, octets, mode)
    place.senders.write_text(f"example.com dkim(s=a,key={key})\n")
    done = run("--sender_map", str(place.senders))
    assert_deferred(done)
    where = f"{place.senders}, line 1"
    assert done.stderr == f"4.3.5 dkimpipe: {where}: key file {key}{fault}\n{hint.replace('KEY', str(key))}\n"


BREAKS = {
    "missing": None,
    "syntax": b"def (\n",
    "octets": b"\xff\xfe\0\n",
    "import": b"import no_such_module_here\n",
    "name": b"from posix import no_such_name_here\n",
    "raises": b"raise ZeroDivisionError('late')\n",
}


def modules_in_use(arguments: Sequence[Word]) -> list[str]:
    """Return the names of the package's modules that a run of the filter imports."""
    report = "import atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    names = run(*arguments, command=in_process(report)).stderr.split()
    return sorted(name.partition(".")[2] for name in names if re.match(r"dkimpipe\.[a-z]", name))


@pytest.mark.parametrize("octets", BREAKS.values(), ids=BREAKS)
def test_a_broken_package_defers(tmp_path: Path, keys: Keys, octets: bytes | None) -> None:
    package = tmp_path / "dkimpipe"
    shutil.copytree(PROJECT / "dkimpipe", package, ignore=shutil.ignore_patterns("__pycache__"))
    senders = tmp_path / "senders"
    senders.write_text(f"example.com domainkeys(s=a,key={keys.path('rsa1024')})\n")
    arguments = ("--sender_map", str(senders))
    command = (PYTHON, "-ISB", str(package / "__main__.py"))
    assert run(*arguments, command=command).status == 0
    modules = modules_in_use(arguments)
    assert {"pipe", "errors", "message", "domainkeys"} <= set(modules)
    for name in modules:
        module = package / f"{name}.py"
        whole = module.read_bytes()
        if octets is None:
            module.unlink()
        else:
            module.write_bytes(octets)
        done = run(*arguments, command=command)
        module.write_bytes(whole)
        assert_deferred(done, "4.3.0 dkimpipe: ")


def test_a_header_block_over_the_limit_defers(place: Place) -> None:
    done = run("--sender_map", str(place.senders), message=b"X: y\n" * 300000 + MESSAGE)
    assert_deferred(done)
    assert done.stderr == (
        "4.3.4 dkimpipe: the header block is over 1048576 octets\n"
        "no mail program makes such a header: look at the message, then remove it from the queue\n"
    )


def test_a_header_block_just_below_the_limit_is_signed(place: Place, keys: Keys) -> None:
    message = b"X: y\n" * ((1 << 20) // 5 - 30) + MESSAGE
    done = run("--sender_map", str(place.senders), message=message)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout, message)


def test_a_long_list_id_takes_no_memory(place: Place) -> None:
    message = b"List-Id: <" + b"a." * 50000 + b"example.com>\n" + MESSAGE
    done = run(
        *("--listid_map", str(place.senders), "--sender_map", str(place.senders)),
        message=message,
        limits=limit(resource.RLIMIT_AS, 1 << 28),
    )
    assert (done.status, done.stderr) == (
        0,
        LOG_LINE.replace("; from", "; lines over 998 octets broken: 1; from"),
    )


# Descriptors


def shell(command: Sequence[Word], redirection: str, message: bytes = MESSAGE) -> Done:
    """Run a command as sh(1) redirects it."""
    return run(*command, message=message, command=("sh", "-c", f'"$@" {redirection}', "sh"))


REDIRECTIONS = {
    "stdin closed": ("<&-", "cannot read standard input: Bad file descriptor"),
    "stdin write-only": ("0>/dev/null", "cannot read standard input: Bad file descriptor"),
    "stdout closed": (">&-", "cannot write to standard output: Bad file descriptor"),
    "stdout full": (">/dev/full", "cannot write to standard output: No space left on device"),
    "stdout read-only": ("1</dev/null", "cannot write to standard output: Bad file descriptor"),
    "stdin and stdout closed": ("<&- >&-", "cannot read standard input: Bad file descriptor"),
}


@pytest.mark.parametrize(("redirection", "cause"), REDIRECTIONS.values(), ids=REDIRECTIONS)
def test_input_and_output_that_fail_defer(place: Place, redirection: str, cause: str) -> None:
    done = shell(with_senders(place), redirection)
    assert_deferred(done)
    assert done.stderr == f"4.3.0 dkimpipe: {cause}\n"


def test_an_error_of_input_is_no_end_of_input(place: Place) -> None:
    with socket.socket() as unconnected:
        done = subprocess.run(
            with_senders(place), stdin=unconnected.fileno(), capture_output=True, timeout=TIMEOUT, check=False
        )
    cause = b"4.3.0 dkimpipe: cannot read standard input: Transport endpoint is not connected\n"
    assert (done.returncode, done.stdout, done.stderr) == (TEMPORARY_FAILURE, b"", cause)


@pytest.mark.parametrize("message", [MESSAGE, UNSIGNED], ids=["to be signed", "not to be signed"])
def test_all_three_closed_is_status_75(place: Place, message: bytes) -> None:
    done = shell(with_senders(place), "<&- >&- 2>&-", message)
    assert done == (TEMPORARY_FAILURE, b"", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2</dev/null"])
def test_a_lost_log_line_spoils_nothing(place: Place, redirection: str) -> None:
    done = shell(with_senders(place), redirection)
    assert (done.status, done.stderr) == (0, "")
    assert is_signed(done.stdout)


def test_stdout_and_stderr_closed_is_status_75(place: Place) -> None:
    assert shell(with_senders(place), ">&- 2>&-") == (TEMPORARY_FAILURE, b"", "")


@pytest.mark.parametrize("size", [0, 1 << 21], ids=["small", "large"])
def test_a_reader_that_is_gone_defers(place: Place, size: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        with_senders(place),
        input=MESSAGE + b"x\n" * (size // 2),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(writer)
    expected = b"4.3.0 dkimpipe: cannot write to standard output: Broken pipe\n"
    assert (done.returncode, done.stderr) == (TEMPORARY_FAILURE, expected)


def test_a_slow_reader_gets_all_of_it(place: Place) -> None:
    message = MESSAGE + b"0123456789\n" * 60000
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        with_senders(place), stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        assert process.stdin
        process.stdin.write(message)
        process.stdin.close()
        time.sleep(0.2)  # the pipe is full by now
        output = b""
        while chunk := os.read(reader, 4000):
            output += chunk
            if len(output) < 100000:
                time.sleep(0.002)
        os.close(reader)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr
        assert process.stderr.read().decode() == LOG_LINE
    assert is_signed(output, message)


def test_a_slow_writer_is_waited_for(place: Place) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(
        with_senders(place), stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(reader)
        for octets in (MESSAGE[:10], MESSAGE[10:11], MESSAGE[11:]):
            time.sleep(0.1)
            os.write(writer, octets)
        os.close(writer)
        output, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, said.decode()) == (0, LOG_LINE)
    assert is_signed(output)


def test_files_of_the_caller_are_left_alone(place: Place) -> None:
    """A log file that stands at a low descriptor of the caller gets nothing of the message."""
    other = place.file("other", b"untouched\n")
    done = shell(with_senders(place), f"2>&- 3<>{other}")
    assert done.status == 0
    assert other.read_bytes() == b"untouched\n"


# Signals and time


def wait_until_read(pipe: int) -> None:
    """Wait until the reader has taken all that is in a pipe."""
    deadline = time.monotonic() + TIMEOUT
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.02)


def test_an_interrupt_defers(place: Place) -> None:
    with subprocess.Popen(
        with_senders(place), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=TIMEOUT)
    assert_deferred(Done(process.returncode, output, said.decode()), "4.3.0 dkimpipe: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_that_ends_it_leaves_nothing_behind(
    place: Place, sendmail: FakeSendmail, number: signal.Signals
) -> None:
    arguments = with_senders(place, "--sendmail", str(sendmail.path), *TO_BOB)
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        process.send_signal(number)
        output, said = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output, said) == (-number, b"", b"")
    assert not sendmail.ran


OUT_OF_TIME = "4.3.0 dkimpipe: not done after 1 seconds\n"
SHORT = in_process("from dkimpipe import guard; guard.TIME_LIMIT = 1")


@pytest.fixture
def endless() -> Iterator[int]:
    """The reading end of a pipe into which half a message was written, and nothing follows."""
    reader, writer = os.pipe()
    os.write(writer, MESSAGE)
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("options", [(), TO_BOB], ids=["stdout", "sendmail"])
def test_input_without_end_is_out_of_time(
    place: Place, endless: int, sendmail: FakeSendmail, options: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*SHORT, "--sender_map", place.senders, "--sendmail", sendmail.path, *options],
        stdin=endless,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.decode()) == (TEMPORARY_FAILURE, b"", OUT_OF_TIME)
    assert not sendmail.ran


def test_a_reader_that_does_not_read_is_out_of_time(place: Place) -> None:
    reader, writer = os.pipe()
    done = subprocess.run(
        [*SHORT, "--sender_map", place.senders],
        input=MESSAGE + b"x\n" * 100000,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (TEMPORARY_FAILURE, OUT_OF_TIME)


def test_sendmail_that_hangs_is_killed(place: Place) -> None:
    hangs = place.file("hangs", b"#!/bin/sh\nexec sleep 20\n", 0o755)
    done = run("--sender_map", str(place.senders), "--sendmail", str(hangs), *TO_BOB, command=SHORT)
    assert (done.status, done.stdout, done.stderr) == (TEMPORARY_FAILURE, b"", OUT_OF_TIME)


def test_sendmail_that_finishes_as_time_runs_out_has_sent_it(place: Place) -> None:
    """The alarm comes when sendmail(1) is done already, but has not been waited for."""
    sends = place.file("sends", b"#!/bin/sh\ncat >/dev/null\n", 0o755)
    late = in_process(
        "from dkimpipe import guard; import posix, time; wait = posix.waitpid\n"
        "def late(child, options):\n"
        " posix.waitpid = wait; time.sleep(0.5); guard._out_of_time(0, None)\n"
        "posix.waitpid = late"
    )
    done = run("--sender_map", str(place.senders), "--sendmail", str(sends), *TO_BOB, command=late)
    assert (done.status, done.stdout, done.stderr) == (0, b"", LOG_LINE)


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE], ids=lambda n: n.name)
def test_a_signal_that_the_parent_ignored_changes_nothing(place: Place, number: signal.Signals) -> None:
    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    done = run("--sender_map", str(place.senders), limits=ignore)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


# Limits


def limit(what: int, amount: int) -> Callable[[], None]:
    """Return what sets a resource limit in a new process."""
    return lambda: resource.setrlimit(what, (amount, amount))


def assert_signed_or_deferred(done: Done, message: bytes = MESSAGE) -> None:
    """Whatever the limit, no mail leaves unsigned, none is lost and none bounces."""
    if done.status == 0:
        assert done.stderr == LOG_LINE
        assert is_signed(done.stdout, message)
    else:
        assert_deferred(done)


@pytest.mark.parametrize("amount", range(4, 13))
def test_too_few_descriptors(place: Place, amount: int) -> None:
    done = run("--sender_map", str(place.senders), limits=limit(resource.RLIMIT_NOFILE, amount))
    assert_signed_or_deferred(done)


def test_too_little_memory(place: Place) -> None:
    """From the least memory in which the interpreter compiles a program of our size, up to enough."""
    program = (
        f"__file__ = ''\n{MAIN.read_text().partition('try:')[0]}\nimport time, binascii\nx = [0] * 20000\n"
    )
    least = 0
    statuses = []
    for megabytes in range(8, 400):
        limits = limit(resource.RLIMIT_AS, megabytes << 20)
        if not least and run(command=(PYTHON, "-IS", "-c", program), limits=limits).status:
            continue
        least = least or megabytes
        done = run("--sender_map", str(place.senders), limits=limits)
        assert_signed_or_deferred(done)
        statuses.append(done.status)
        if statuses[-3:] == [0, 0, 0]:
            break
    assert statuses[-3:] == [0, 0, 0]


def test_memory_does_not_grow_with_the_message(place: Place) -> None:
    message = MESSAGE + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n" * (1 << 20)
    done = run(
        "--sender_map", str(place.senders), message=message, limits=limit(resource.RLIMIT_AS, 60 << 20)
    )
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout, message)


@pytest.mark.parametrize("amount", [0, 100, 1 << 20, 5 << 20])
def test_a_limit_on_the_size_of_files(place: Place, amount: int) -> None:
    message = MESSAGE + b"0123456789abcdef\n" * 400000
    done = run(
        "--sender_map", str(place.senders), message=message, limits=limit(resource.RLIMIT_FSIZE, amount)
    )
    assert_deferred(done)
    assert done.stderr == (
        "4.3.1 dkimpipe: cannot keep the message in /var/tmp until it is complete: File too large\n"
    )


def test_a_limit_on_the_size_of_files_stops_output_to_a_file(place: Place) -> None:
    """The spool stays below the limit; the file that the message is added to does not."""
    output = place.file("output", b"\n" * (4 << 20))
    done = run(
        *with_senders(place),
        message=of_size(400000),
        command=("sh", "-c", f'"$@" >>{output}', "sh"),
        limits=limit(resource.RLIMIT_FSIZE, (4 << 20) + 200000),
    )
    assert_deferred(done)
    assert done.stderr == "4.3.0 dkimpipe: cannot write to standard output: File too large\n"


ROOT = os.geteuid() == 0
NO_CHILDREN = (
    *("setpriv", "--ruid=65534", "--bounding-set=-sys_admin,-sys_resource"),
    *("prlimit", "--nproc=0"),
)
can_forbid_children = pytest.mark.skipif(
    not (ROOT and shutil.which("setpriv") and shutil.which("prlimit")),
    reason="needs root, setpriv and prlimit",
)


@can_forbid_children
def test_no_other_process_is_needed(place: Place, keys: Keys) -> None:
    done = run("--sender_map", str(place.senders), command=(*NO_CHILDREN, *BY_PATH))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


A_CLASS = re.compile(r"\b[A-Z][A-Za-z]*(Error|Interrupt)\b|\.py, line")


def test_without_library_and_package_it_defers_and_tells_in_words(place: Place) -> None:
    command = in_process("from dkimpipe import libcrypto; libcrypto._NAMES = ('no-such-library.so',)")
    done = run("--sender_map", str(place.senders), command=command)
    assert_deferred(done)
    assert not A_CLASS.search(done.stderr), done.stderr
    assert done.stderr == (
        "4.3.0 dkimpipe: cannot sign by libcrypto: no-such-library.so: cannot open shared object file: "
        "No such file or directory\ninstall OpenSSL's library (libssl3), or cryptography beside dkimpipe\n"
    )


def test_too_few_descriptors_are_told_in_words(place: Place) -> None:
    options = ("--sender_map", str(place.senders), "--sendmail=/bin/true", "--syslog=no", *TO_BOB)
    done = run(*options, limits=limit(resource.RLIMIT_NOFILE, 4))
    assert_deferred(done)
    assert done.stderr == "4.3.1 dkimpipe: cannot put the message into a pipe: Too many open files\n"


# Surroundings

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "empty": {},
    "C": {"LC_ALL": "C", "LANG": "C"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "unknown locale": {"LC_ALL": "xx_XX.latin1"},
    "no home, no path": {"HOME": "/nonexistent", "PATH": ""},
    "Python's own": {"PYTHONSTARTUP": "/nonexistent", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_the_environment_changes_nothing(
    place: Place, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    env = {**environment, "PYTHONPATH": str(PROJECT)} if command == AS_MODULE else environment
    message = "From: Ålice <alice@example.com>\nSubject: ☃\n\n☃ \n".encode() + b"\xff\n"
    done = run("--sender_map", str(place.senders), message=message, command=command, env=env)
    line = "dkimpipe: signed d=example.com s=rsa2048 a=rsa-sha256; from=Ålice <alice@example.com>\n"
    assert (done.status, done.stderr) == (0, line)
    assert is_signed(done.stdout, message)


@pytest.mark.parametrize("command", [AS_MODULE, AS_SCRIPT], ids=["-m", "console script"])
def test_each_way_to_start_it_is_the_same(place: Place, command: tuple[str, ...]) -> None:
    done = run("--sender_map", str(place.senders), command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)
    assert_deferred(run("--frobnicate", command=command), "4.3.5 dkimpipe: unknown option '--frobnicate'\n")


def test_the_console_script_is_the_main_function() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert "dkimpipe = dkimpipe.command:main" in scripts


def test_a_directory_that_cannot_be_written_is_no_hindrance(place: Place) -> None:
    cwd = place.directory / "cwd"
    cwd.mkdir(mode=0o555)
    message = MESSAGE + b"0123456789\n" * 200000
    for directory in (cwd, "/proc"):
        done = run("--sender_map", str(place.senders), message=message, cwd=directory)
        assert (done.status, done.stderr) == (0, LOG_LINE)
        assert is_signed(done.stdout, message)
    assert not list(cwd.iterdir())


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_a_directory_that_was_removed_is_no_hindrance(place: Place, command: tuple[str, ...]) -> None:
    gone = place.directory / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = run(*("--sender_map", str(place.senders)), command=("sh", "-c", script, "sh", str(gone), *command))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


def test_a_module_in_the_directory_is_not_taken(place: Place) -> None:
    """Whoever can write where the filter is started cannot make it run their code."""
    for name in ("sys", "posix", "time", "syslog", "binascii", "dkimpipe", "hashlib", "cryptography"):
        place.file(f"{name}.py", b"raise SystemExit('taken')\n")
    done = run("--sender_map", str(place.senders), "--syslog", "--verbose", cwd=place.directory)
    assert done.status == 0
    assert is_signed(done.stdout)


def test_no_file_is_left_behind(place: Place) -> None:
    spools = place.directory / "spools"
    spools.mkdir()
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(spools)!r},)")
    done = run("--sender_map", str(place.senders), message=of_size(2 << 20), command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert not list(spools.iterdir())


# Who may have a signature

SIGNED = "signed d=example.com s=rsa2048 a=rsa-sha256"


def refused(what: str, who: str) -> str:
    return f"not signed: {what} '{who}' may not use SENDERS, line 1"


# Options of a signature, options of the filter, and what it says.
WHO: dict[str, tuple[Word, list[Word], str]] = {
    "the one": ("login=alice", ["--login=alice"], SIGNED),
    "the one, in two words": ("login=alice", ["--login", "alice"], SIGNED),
    "one of several": ("login=bob: alice :carol", ["--login=alice"], SIGNED),
    "another": ("login=alice", ["--login=bob"], refused("login", "bob")),
    "nobody": ("login=alice", ["--login="], refused("login", "")),
    "nobody, in two words": ("login=alice", ["--login", ""], refused("login", "")),
    "anybody": ("login=*", ["--login=bob"], SIGNED),
    "anybody, but nobody logged in": ("login=*", ["--login="], refused("login", "")),
    "anybody among others": ("login=alice:*", ["--login=bob"], SIGNED),
    "anybody, by that name": ("login=alice", ["--login=*"], refused("login", "*")),
    "no patterns": ("login=*@example.com", ["--login=a@example.com"], refused("login", "a@example.com")),
    "part of it": ("login=alice", ["--login=alic"], refused("login", "alic")),
    "more than it": ("login=alice", ["--login=alice@example.com"], refused("login", "alice@example.com")),
    "another case": ("login=alice", ["--login=Alice"], refused("login", "Alice")),
    "a blank behind": ("login=alice", ["--login=alice "], refused("login", "alice ")),
    "a blank within": ("login=a b", ["--login=a b"], SIGNED),
    "both of them": ("login=alice:bob", ["--login=alice:bob"], refused("login", "alice:bob")),
    "a hyphen": ("login=alice", ["--login=-f"], refused("login", "-f")),
    "an option": ("login=alice", ["--login=--sender_map=/x"], refused("login", "--sender_map=/x")),
    "commas and parentheses": ("login=alice", ["--login=x),dkim(s=a"], refused("login", "x),dkim(s=a")),
    "parentheses that are there": ("login=a(1)", ["--login=a(1)"], SIGNED),
    "a line": ("login=alice", ["--login=alice\ndkimpipe: x"], refused("login", r"alice\ndkimpipe: x")),
    "controls": ("login=alice", ["--login=\x1b[2J\x07\u2028"], refused("login", r"\x1b[2J\x07\u2028")),
    "octets": (b"login=a\xff", [b"--login=a\xff"], SIGNED),
    "other octets": (b"login=a\xff", [b"--login=a\xfe"], refused("login", r"a\xfe")),
    "another form of a letter": ("login=\u00e9", ["--login=e\u0301"], refused("login", "e\u0301")),
    "10 KB": ("login=alice", ["--login=" + "x" * 10240], refused("login", "x" * 64 + "...")),
    "the last login": ("login=alice", ["--login=alice", "--login=bob"], refused("login", "bob")),
    "an address": ("envelope=a@example.com", ["-f", "a@example.com"], SIGNED),
    "at a domain": ("envelope=@example.com", ["-f", "a@example.com"], SIGNED),
    "a domain": ("envelope=example.net:example.com", ["-f", "a@example.com"], SIGNED),
    "a domain in another case": ("envelope=example.COM", ["-f", "a@Example.com"], SIGNED),
    "an IDN": ("envelope=b\u00fccher.example", ["-f", "a@xn--bcher-kva.example"], SIGNED),
    "any sender": ("envelope=*", ["-f", "a@example.net"], SIGNED),
    "the null sender": ("envelope=*:example.com", ["-f", ""], refused("envelope sender", "")),
    "another address": (
        "envelope=a@example.com",
        ["-f", "b@example.com"],
        refused("envelope sender", "b@example.com"),
    ),
    "a local part in another case": (
        "envelope=a@example.com",
        ["-f", "A@example.com"],
        refused("envelope sender", "A@example.com"),
    ),
    "an extension": (
        "envelope=a@example.com",
        ["-f", "a+b@example.com"],
        refused("envelope sender", "a+b@example.com"),
    ),
    "a subdomain": (
        "envelope=example.com",
        ["-f", "a@x.example.com"],
        refused("envelope sender", "a@x.example.com"),
    ),
    "the end of a domain": (
        "envelope=example.com",
        ["-f", "a@notexample.com"],
        refused("envelope sender", "a@notexample.com"),
    ),
    "no domain": ("envelope=example.com", ["-f", "example.com"], refused("envelope sender", "example.com")),
    "two at signs": (
        "envelope=a@example.com",
        ["-f", "a@example.com@example.net"],
        refused("envelope sender", "a@example.com@example.net"),
    ),
    "quoted": (
        "envelope=a@example.com",
        ["-f", '"<a@example.com>"@example.net'],
        refused("envelope sender", '"<a@example.com>"@example.net'),
    ),
    "full width": (
        "envelope=example.com",
        ["-f", "a@\uff45xample.com"],
        refused("envelope sender", "a@\uff45xample.com"),
    ),
    "Kelvin": (
        "envelope=kelvin.example",
        ["-f", "a@\u212aelvin.example"],
        refused("envelope sender", "a@\u212aelvin.example"),
    ),
    "both": ("login=alice,envelope=example.com", ["--login=alice", "-f", "a@example.com"], SIGNED),
    "one of both": (
        "login=alice,envelope=example.com",
        ["--login=alice", "-f", "a@example.net"],
        refused("envelope sender", "a@example.net"),
    ),
    "the other": (
        "login=alice,envelope=example.com",
        ["--login=", "-f", "a@example.com"],
        refused("login", ""),
    ),
}


def for_whom(place: Place, keys: Keys, options: Word) -> str:
    """Write a senders file whose entry for an address is only for some, and that for the domain for all."""
    key = str(keys.path("rsa2048")).encode()
    octets = options.encode() if isinstance(options, str) else options
    place.senders.write_bytes(
        b"alice@example.com dkim(s=rsa2048,key=%s,%s)\nexample.com dkim(s=all,key=%s)\n" % (key, octets, key)
    )
    return str(place.senders)


@pytest.mark.parametrize(("options", "arguments", "said"), WHO.values(), ids=WHO)
@pytest.mark.parametrize("environment", [{}, ENVIRONMENTS["ASCII"]], ids=["empty", "ASCII"])
def test_who_may_have_a_signature(
    place: Place,
    keys: Keys,
    options: Word,
    arguments: list[Word],
    said: str,
    environment: dict[str, str],
) -> None:
    """Nobody else gets it, nor that of the domain in its place."""
    path = for_whom(place, keys, options)
    done = run(f"--sender_map={path}", *arguments, env=environment)
    said = said.replace("SENDERS", path)
    assert (done.status, done.stderr) == (0, f"dkimpipe: {said}; {FROM}\n")
    assert is_signed(done.stdout) if said.startswith("signed") else done.stdout == MESSAGE


NOT_TOLD = {
    "login": (
        "login=alice:*",
        ["-f", "alice@example.com"],
        "login= is here, but the filter is told no login\n"
        "add --login=${sasl_username} to argv in master.cf\n",
    ),
    "envelope": (
        "envelope=*",
        ["--login=alice"],
        "envelope= is here, but the filter is told no envelope sender\n"
        "in master.cf: argv=... -f ${sender} -- ${recipient}\n",
    ),
}


@pytest.mark.parametrize(("options", "arguments", "fault"), NOT_TOLD.values(), ids=NOT_TOLD)
def test_who_is_not_told_who_sends_defers(
    place: Place, keys: Keys, options: str, arguments: list[str], fault: str
) -> None:
    path = for_whom(place, keys, options)
    done = run(f"--sender_map={path}", *arguments)
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {path}, line 1: {fault}"


def test_the_conf_file_knows_no_login(place: Place) -> None:
    conf = place.file("conf", b"login alice\n")
    done = run(f"--sender_map={place.senders}", f"--conf_file={conf}")
    assert_deferred(done)
    assert done.stderr == f"4.3.5 dkimpipe: {conf}, line 1: unknown directive: 'login alice'\n"


def test_what_another_may_not_have_is_left_out(place: Place, keys: Keys) -> None:
    """Its key is not even read; the other signatures of the entry are made."""
    path = for_whom(place, keys, "login=bob),dkim(s=a,login=carol,key=/none),dkim(s=b,login=bob,key=/none")
    done = run(f"--sender_map={path}", "--login=bob")
    assert_deferred(done, f"4.3.5 dkimpipe: {path}, line 1: key file /none: No such file or directory\n")
    path = for_whom(
        place, keys, "login=alice:bob),dkim(s=a,login=carol,key=/none),dkim(s=b,login=dave,key=/none"
    )
    done = run(f"--sender_map={path}", "--login=bob")
    said = f"{SIGNED}; {refused('login', 'bob').replace('SENDERS', path)}; {FROM}"
    assert (done.status, done.stderr) == (0, f"dkimpipe: {said}\n")
    assert is_signed(done.stdout)


ELSEWHERE = {
    "Sender has an entry for all": (
        b"alice@example.com dkim(login=alice)\neve@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n",
        ["--sender_map=SENDERS"],
    ),
    "everybody has one": (
        b"alice@example.com dkim(login=alice)\n. dkim(s=rsa2048,key=KEYS/rsa2048.pem)\n",
        ["--sender_map=SENDERS", "--domain=example.com"],
    ),
    "the List-Id map": (b"example.com dkim(login=alice)\n", ["--listid_map=SENDERS", "--domain=example.com"]),
    "the command line": (
        b"",
        ["--domain=example.com", "--signature=dkim(login=alice,s=rsa2048,key=KEYS/rsa2048.pem)"],
    ),
}


@pytest.mark.parametrize(("senders", "options"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_nothing_else_signs_for_whom_the_entry_is_not(
    place: Place, keys: Keys, senders: bytes, options: list[str]
) -> None:
    directory = str(keys.directory)
    path = place.file("elsewhere", senders.replace(b"KEYS", directory.encode()))
    words = [each.replace("SENDERS", str(path)).replace("KEYS", directory) for each in options]
    message = b"Sender: eve@example.com\nList-Id: <l.example.com>\n" + MESSAGE
    done = run(*words, "--login=eve", message=message)
    where = "command line" if "--sender_map=SENDERS" not in options and not senders else f"{path}, line 1"
    assert (done.status, done.stderr) == (
        0,
        f"dkimpipe: not signed: login 'eve' may not use {where}; {FROM}\n",
    )
    assert done.stdout == message


# What alice, who may be herself alone, writes into From to be taken for bob.
DISGUISES = (
    "bob@example.com",
    "BOB@EXAMPLE.COM",
    "Alice <bob@example.com>",
    '"bob"@example.com',
    '"b\\ob"@example.com',
    "bob(alice)@example.com (alice@example.com)",
    "bob @ example . com",
    "bob@example.com.",
    "bob+alice@example.com",
    '"bob+ alice"@example.com',
    "<bob@example.com> <alice@example.com>",
    "<alice@example.com> <bob@example.com>",
    "<alice@example.com> bob@example.com",
    "bob@example.com <alice@example.com>",
    "alice@example.com, bob@example.com",
    "Team: alice@example.com, bob@example.com;",
    "bob@\uff45xample.com",
)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_nobody_is_taken_for_another(place: Place, keys: Keys, disguise: str) -> None:
    names = ("bob", "alice")
    entry = "%s@example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=%s)\n"
    text = "".join([entry % (name, name) for name in names]) + entry.replace("%s@", "") % "*"
    path = place.file("for-each", text.replace("KEYS", str(keys.directory)).encode())
    message = MESSAGE.replace(b"Alice <alice@example.com>", disguise.encode())
    assert message != MESSAGE
    done = run("--sender_map", str(path), "--login=alice", message=message)
    assert (done.status, done.stdout) == (0, message)
    assert re.match(r"dkimpipe: not signed: (login 'alice'|with more than one address in From)", done.stderr)


# Help


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_help_alone_prints_the_options(command: tuple[str, ...]) -> None:
    done = run("--help", message=b"", command=command)
    assert (done.status, done.stderr) == (0, "")
    text = done.stdout.decode()
    assert text.startswith("usage: dkimpipe [OPTION]... [-f SENDER] [-- RECIPIENT...]\n")
    for option in (
        "conf_file",
        "sender_map",
        "listid_map",
        "match",
        "on_error",
        "sendmail",
        "syslog",
        "verbose",
    ):
        assert f"  --{option}" in text


@pytest.mark.parametrize("command", [BY_PATH, AS_MODULE], ids=["by path", "-m"])
def test_version_alone_prints_the_version(command: tuple[str, ...]) -> None:
    init = (PROJECT / "dkimpipe" / "__init__.py").read_text()
    version = re.search(r'__version__ = "([0-9.]+[a-z0-9]*)"', init)
    assert version
    done = run("--version", message=b"", command=command)
    assert done == (0, f"dkimpipe {version[1]}\n".encode(), "")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_an_error(option: str) -> None:
    done = shell([*BY_PATH, option], ">/dev/full", b"")
    assert_deferred(done, "4.3.0 dkimpipe: ")


# With recipients


class FakeSendmail(NamedTuple):
    """Stands for sendmail(1): it writes down its arguments and its standard input, and ends as told."""

    path: Path

    @property
    def ran(self) -> bool:
        return (self.path.parent / "arguments").exists()

    @property
    def arguments(self) -> list[bytes]:
        return (self.path.parent / "arguments").read_bytes().split(b"\0")[:-1]

    @property
    def message(self) -> bytes:
        return (self.path.parent / "message").read_bytes()

    def ends(self, command: str) -> None:
        """Let it end so, when it has read everything."""
        script = f'd={self.path.parent}\nprintf "%s\\0" "$@" >$d/arguments\ncat >$d/message\n{command}\n'
        self.path.write_text(f"#!/bin/sh\n{script}")
        self.path.chmod(0o755)


@pytest.fixture
def sendmail(tmp_path: Path) -> FakeSendmail:
    directory = tmp_path / "sendmail"
    directory.mkdir()
    fake = FakeSendmail(directory / "sendmail")
    fake.ends("exit 0")
    return fake


def reinject(
    place: Place,
    sendmail: FakeSendmail,
    *arguments: Word,
    message: bytes = MESSAGE,
    command: Sequence[Word] = BY_PATH,
) -> Done:
    """Run the filter as pipe(8) does, but with a sendmail(1) of our own."""
    options = ("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), "--syslog=no")
    return run(*options, *arguments, message=message, command=command)


RECIPIENTS: dict[str, list[bytes]] = {
    "one": [b"bob@example.net"],
    "many": [b"r%d@example.net" % number for number in range(1000)],
    "hyphen": [b"-bob@example.net", b"-oQ/tmp", b"-", b"--", b"-f", b"--help"],
    "blanks": [b'"a b"@example.net', b" ", b"a\tb@example.net", b"a\nb@example.net"],
    "quotes": [b'"a\'b\\"c"@example.net', b"`id`@example.net", b"$(id)@example.net", b"${x};|&<>*?[a]"],
    "commas": [b"a,b@example.net", b'"a,b"@example.net'],
    "UTF-8": ["bøb@ex☃mple.net".encode()],
    "no UTF-8": [b"b\xf8b@example.net", b"\xff\xfe", b"\xed\xa0\x80"],
    "empty": [b"", b"bob@example.net", b""],
    "twice": [b"bob@example.net", b"bob@example.net"],
    "long": [b"b" * 100000 + b"@example.net"],
}


@pytest.mark.parametrize("recipients", RECIPIENTS.values(), ids=RECIPIENTS)
def test_recipients_reach_sendmail_as_they_are(
    place: Place, sendmail: FakeSendmail, recipients: list[bytes]
) -> None:
    done = reinject(place, sendmail, "-f", "alice@example.com", "--", *recipients)
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", b"alice@example.com", b"--", *recipients]
    assert is_signed(sendmail.message)


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b"<>",
        b"-alice@example.com",
        b"--",
        b'"a b"@example.com',
        b"al\xefce@example.com",
        "ålice@ø".encode(),
    ],
    ids=["null", "angles", "hyphen", "two hyphens", "blank", "no UTF-8", "UTF-8"],
)
@pytest.mark.parametrize("match", ["from,sender", "envelope,from"])
def test_the_sender_reaches_sendmail_as_it_is(
    place: Place, sendmail: FakeSendmail, sender: bytes, match: str
) -> None:
    done = reinject(place, sendmail, "--match", match, "-f", sender, "--", "bob@example.net")
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", sender, b"--", b"bob@example.net"]


@pytest.mark.parametrize("environment", [{}, ENVIRONMENTS["ASCII"]], ids=["empty", "ASCII"])
def test_octets_reach_sendmail_in_any_locale(
    place: Place, sendmail: FakeSendmail, environment: dict[str, str]
) -> None:
    recipient = "bøb@example.net".encode()
    options = ("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), "--syslog=no")
    env = {**environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
    done = run(*options, "-f", b"\xff", "--", recipient, b"\xff", command=AS_MODULE, env=env)
    assert done == (0, b"", LOG_LINE)
    assert sendmail.arguments == [b"-G", b"-i", b"-f", b"\xff", b"--", recipient, b"\xff"]


@pytest.mark.parametrize("status", [1, 64, 65, 67, 69, 70, 71, 75, 78, 255])
def test_the_exit_status_of_sendmail_is_ours(place: Place, sendmail: FakeSendmail, status: int) -> None:
    sendmail.ends(f"exit {status}")
    assert reinject(place, sendmail, *TO_BOB) == (status, b"", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda n: n.name)
def test_a_sendmail_that_was_killed_defers(
    place: Place, sendmail: FakeSendmail, number: signal.Signals
) -> None:
    sendmail.ends(f"ulimit -c 0; kill -{number.name[3:]} $$")
    done = reinject(place, sendmail, *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: {sendmail.path} was killed by signal {number.value}\n")


def test_sendmail_speaks_for_itself(place: Place, sendmail: FakeSendmail) -> None:
    sendmail.ends("echo 5.7.1 no; echo and more >&2; exit 65")
    assert reinject(place, sendmail, *TO_BOB) == (65, b"5.7.1 no\n", "and more\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_sendmail_gets_the_message_whatever_our_output_is(
    place: Place, sendmail: FakeSendmail, redirection: str
) -> None:
    arguments = with_senders(place, "--sendmail", str(sendmail.path), "--syslog=no", *TO_BOB)
    assert shell(arguments, redirection).status == 0
    assert is_signed(sendmail.message)


def test_a_message_not_to_be_signed_passes_as_it_is(place: Place, sendmail: FakeSendmail) -> None:
    done = reinject(place, sendmail, *TO_BOB, message=UNSIGNED)
    assert (done.status, done.stdout) == (0, b"")
    assert done.stderr.startswith("dkimpipe: not signed: no entry for alice@example.org; ")
    assert sendmail.message == UNSIGNED


UNFIT = {
    "missing": None,
    "not executable": (b"#!/bin/sh\n", 0o644),
}
# What only the exec itself shows.
BROKEN = {
    "no program": (b"echo text\n", 0o755),
    "empty": (b"", 0o755),
    "interpreter missing": (b"#!/no/such/interpreter\n", 0o755),
}


@pytest.mark.parametrize("file", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("message", [MESSAGE, UNSIGNED], ids=["to be signed", "not to be signed"])
def test_a_sendmail_that_cannot_run_defers(
    place: Place, file: tuple[bytes, int] | None, message: bytes
) -> None:
    path = place.directory / "unfit"
    if file:
        place.file("unfit", *file)
    done = reinject(place, FakeSendmail(path), *TO_BOB, message=message)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {path}")


@pytest.mark.parametrize("file", BROKEN.values(), ids=BROKEN)
def test_a_sendmail_that_does_not_start_defers(place: Place, file: tuple[bytes, int]) -> None:
    path = place.file("unfit", *file)
    done = reinject(place, FakeSendmail(path), *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {path}: ")


@pytest.mark.parametrize("option", ["/", "/dev/null", "sendmail", "/bin/sh/x"])
def test_a_sendmail_that_is_no_program_defers(place: Place, option: str) -> None:
    done = reinject(place, FakeSendmail(Path(option)), *TO_BOB)
    assert_deferred(done, f"4.3.0 dkimpipe: cannot run {option}")


@pytest.mark.parametrize("fault", ["key", "entry", "senders"])
def test_after_an_error_sendmail_never_runs(place: Place, sendmail: FakeSendmail, fault: str) -> None:
    if fault == "senders":
        place.senders.unlink()
    else:
        place.senders.write_text(
            "example.com dkim(s=a,key=/no/such)\n" if fault == "key" else "example.com x\n"
        )
    assert_deferred(reinject(place, sendmail, *TO_BOB), "4.3.5 dkimpipe: ")
    assert not sendmail.ran


# A subreaper (see prctl(2)) waits for the filter, as init would, when the filter's parent has died.
ORPHAN = """
import ctypes, fcntl, os, struct, subprocess, sys, termios, time
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
come, go = os.pipe()
parent = os.fork()
if not parent:
    os.close(go)
    subprocess.Popen(sys.argv[1:], stdin=come)
    time.sleep(60)
    os._exit(0)
os.close(come)
os.write(go, sys.stdin.buffer.read())
while struct.unpack("i", fcntl.ioctl(go, termios.FIONREAD, b"1234"))[0]:
    time.sleep(0.005)
os.kill(parent, 9)
os.waitpid(parent, 0)
os.close(go)
_, status = os.wait()
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
"""
ORPHANED = (PYTHON, "-c", ORPHAN, *BY_PATH)


def test_after_the_death_of_the_parent_sendmail_never_runs(place: Place, sendmail: FakeSendmail) -> None:
    """pipe(8) was killed while it wrote: what looks like the end of the message may be its middle."""
    done = reinject(place, sendmail, *TO_BOB, command=ORPHANED)
    assert_deferred(done)
    assert done.stderr == (
        "4.3.0 dkimpipe: the program that sent this message ended before it was handed on\n"
    )
    assert not sendmail.ran


def test_to_stdout_the_parent_may_be_gone(place: Place) -> None:
    """`(cat message | dkimpipe &)` has no parent to be relied on, and its reader sees our status."""
    done = run("--sender_map", str(place.senders), command=ORPHANED)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


RECIPIENTS_FORGOTTEN = (
    "4.3.5 dkimpipe: started by Postfix without recipients\n"
    "in master.cf: argv=... -f ${sender} -- ${recipient}\n"
)


@pytest.mark.parametrize("mail_config", ["/etc/postfix", ""])
def test_postfix_without_recipients_would_lose_the_message(place: Place, mail_config: str) -> None:
    done = subprocess.run(
        with_senders(place),
        input=MESSAGE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"MAIL_CONFIG": mail_config},
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (TEMPORARY_FAILURE, RECIPIENTS_FORGOTTEN)


def test_postfix_with_recipients_has_one_pipe_too(place: Place, sendmail: FakeSendmail) -> None:
    done = subprocess.run(
        with_senders(place, "--sendmail", str(sendmail.path), "--syslog=no", *TO_BOB),
        input=MESSAGE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "MAIL_CONFIG": "/etc/postfix"},
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, LOG_LINE)
    assert is_signed(sendmail.message)


NOT_PIPE = {
    "two pipes": ("", {"MAIL_CONFIG": "/etc/postfix"}),
    "one pipe, no MAIL_CONFIG": ("2>&1", {}),
    "one file": (">FILE 2>&1; s=$?; cat FILE; exit $s", {"MAIL_CONFIG": "/etc/postfix"}),
    "stderr closed": ("2>&-", {"MAIL_CONFIG": "/etc/postfix"}),
    "another pipe": ("| cat", {"MAIL_CONFIG": "/etc/postfix"}),
}


@pytest.mark.parametrize(("redirection", "environment"), NOT_PIPE.values(), ids=NOT_PIPE)
def test_by_hand_no_recipients_are_needed(
    place: Place, redirection: str, environment: dict[str, str]
) -> None:
    redirection = redirection.replace("FILE", str(place.directory / "output"))
    command = ("sh", "-c", f'"$@" {redirection}', "sh")
    env = {**environment, "PATH": os.environ["PATH"]}
    done = run(*with_senders(place), command=command, env=env)
    assert done.status == 0
    assert is_signed(done.stdout.replace(LOG_LINE.encode(), b""))


# The octets

HEADER = b"From: Alice <alice@example.com>\nSubject: octets\n"
CRLF_HEADER = HEADER.replace(b"\n", b"\r\n")
OCTETS = {
    "LF": MESSAGE,
    "CRLF": MESSAGE.replace(b"\n", b"\r\n"),
    "no body": HEADER + b"\n",
    "no body, CRLF": CRLF_HEADER + b"\r\n",
    "no empty line": HEADER,
    "no final newline": MESSAGE[:-1],
    "no final newline in the header": HEADER[:-1],
    "NUL": HEADER + b"\n\0a\0\n\0",
    "8-bit": HEADER + b"\n" + bytes(range(128, 256)) + b"\n",
    "8-bit in the header": b"Subject: \xe9\xff\n" + HEADER + b"\n\xe9\n",
    "UTF-8": "Subject: ☃\n".encode() + HEADER + "\n☃\n".encode(),
    "bare CR": HEADER + b"\na\rb\n\r\r\n\rc\r",
    "LF in a CRLF message": CRLF_HEADER + b"\r\na\nb\r\nc",
    "CRLF in an LF message": HEADER + b"\na\r\nb\nc\r\n",
    "blank lines": HEADER + b"\n\n \n\t\n\n\n",
    "a lone dot": HEADER + b"\n.\n..\n.\nQUIT\n",
    "From in the body": HEADER + b"\nFrom here\n>From there\n",
    "every octet": HEADER
    + b"\n"
    + b"".join(b"%c%c\n" % (a, b) for a in range(0, 256, 5) for b in range(256)),
    "a line that is no field": HEADER + b"no field\n\nbody\n",
    "blanks before a colon": b"Subject : x\n" + HEADER + b"\nbody\n",
    "a signature from elsewhere": b"DKIM-Signature: v=1; d=example.net; s=x; b=\n" + HEADER + b"\nbody\n",
}


@pytest.mark.parametrize("message", OCTETS.values(), ids=OCTETS)
@pytest.mark.parametrize("chunk", [1 << 20, 3], ids=["whole", "in drops"])
def test_below_the_new_fields_the_input_stands_octet_for_octet(
    place: Place, message: bytes, chunk: int
) -> None:
    if chunk == 3:
        message = message[:600]
    with subprocess.Popen(
        with_senders(place),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        for at in range(0, len(message), chunk):
            process.stdin.write(message[at : at + chunk])
        process.stdin.close()
        output = process.stdout.read()
        assert process.wait(TIMEOUT) == 0
    fields = new_fields(output, message)
    line_end = b"\r\n" if message.partition(b"\n")[0].endswith(b"\r") else b"\n"
    lines = fields.split(line_end)
    assert lines[0].startswith(b"DKIM-Signature: v=1; ")
    assert lines[-1] == b""
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:-1])
    assert not any(b"\r" in line or b"\n" in line for line in lines)


def test_what_other_programs_can_read_they_find_signed(place: Place, keys: Keys) -> None:
    names = [name for name in OCTETS if name not in ("a line that is no field", "blanks before a colon")]
    outputs = [run("--sender_map", str(place.senders), message=OCTETS[name]).stdout for name in names]
    verdicts = dict(zip(names, witness.dkimpy_verdicts(outputs, keys.records)))
    expected = {name: ["pass"] for name in names}
    for name in verdicts:
        if name == "a signature from elsewhere":
            verdicts[name] = verdicts[name][:1]
    assert verdicts == expected


def test_an_empty_input_is_an_empty_output(place: Place, sendmail: FakeSendmail) -> None:
    said = "dkimpipe: not signed: no From field\n"
    assert run("--sender_map", str(place.senders), message=b"") == (0, b"", said)
    assert reinject(place, sendmail, *TO_BOB, message=b"") == (0, b"", said)
    assert sendmail.message == b""


ENVELOPE_LINES = {
    "LF": b"From alice@example.com Thu Jan  1 00:00:00 1970\n",
    "CRLF": b"From alice@example.com Thu Jan  1 00:00:00 1970\r\n",
    "quoted": b">From alice@example.com Thu Jan  1 00:00:00 1970\n",
    "two": b"From a\n>From b\n",
    "8-bit": b"From \xff\0\n",
}


@pytest.mark.parametrize("line", ENVELOPE_LINES.values(), ids=ENVELOPE_LINES)
def test_an_mbox_line_stays_first(place: Place, keys: Keys, line: bytes) -> None:
    message = MESSAGE.replace(b"\n", b"\r\n") if b"\r" in line else MESSAGE
    done = run("--sender_map", str(place.senders), message=line + message)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert done.stdout.startswith(line + b"DKIM-Signature: ")
    signed = done.stdout[len(line) :]
    assert is_signed(signed, message)
    assert witness.dkimpy_verdicts([signed], keys.records) == [["pass"]]


@pytest.mark.parametrize(
    "message",
    [*OCTETS.values(), *[line + MESSAGE for line in ENVELOPE_LINES.values()]],
    ids=[*OCTETS, *[f"mbox line: {name}" for name in ENVELOPE_LINES]],
)
def test_sendmail_gets_what_stdout_would(place: Place, sendmail: FakeSendmail, message: bytes) -> None:
    printed = run("--sender_map", str(place.senders), message=message)
    done = reinject(place, sendmail, *TO_BOB, message=message)
    assert (done.status, done.stdout, done.stderr) == (0, b"", printed.stderr)
    assert without_time(sendmail.message) == without_time(printed.stdout)
    assert len(sendmail.message) == len(printed.stdout)


# Sizes

_KIB = 1 << 10
SIZES = sorted(
    {
        edge + by
        for edge in (64 * _KIB, 128 * _KIB, 256 * _KIB, 320 * _KIB, 1024 * _KIB, 1280 * _KIB, 2048 * _KIB)
        for by in (-1, 0, 1)
    }
    | {1024 * _KIB + 64 * _KIB + 1, 5000 * _KIB}
)


def of_size(size: int, line_end: bytes = b"\n") -> bytes:
    """Return a message of so many octets, of which no two chunks are the same."""
    start = MESSAGE.replace(b"\n", line_end)
    lines = [b"line %d of a body \t " % number + line_end for number in range((size - len(start)) // 20)]
    return (start + b"".join(lines))[: size - 1].ljust(size - 1, b"x") + b"\n"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_messages_of_every_size_are_whole_and_signed(
    tmp_path: Path, keys: Keys, line_end: bytes, body: str
) -> None:
    senders = tmp_path / "senders"
    senders.write_text(f"example.com dkim(c=relaxed/{body},s=rsa2048,key={keys.path('rsa2048')})\n")
    outputs = []
    for size in SIZES:
        message = of_size(size, line_end)
        assert len(message) == size
        done = run("--sender_map", str(senders), message=message)
        assert (done.status, done.stderr) == (0, LOG_LINE), size
        assert new_fields(done.stdout, message).startswith(b"DKIM-Signature: v=1; "), size
        outputs.append(done.stdout)
    verdicts = witness.dkimpy_verdicts(outputs, keys.records)
    assert dict(zip(SIZES, verdicts)) == {size: ["pass"] for size in SIZES}


HEADER_SIZES = [edge + by for edge in (64 * _KIB, 256 * _KIB, 320 * _KIB, 1024 * _KIB) for by in (-1, 0, 1)]


@pytest.mark.parametrize("size", HEADER_SIZES)
@pytest.mark.parametrize("body", [b"", b"body\n" * 20000], ids=["no body", "body"])
def test_header_blocks_of_every_size(place: Place, size: int, body: bytes) -> None:
    start, end = b"X: y\n" * 11000, HEADER + b"\n"
    lines = (size - len(start) - len(end)) // 64
    header = start + b"Y:".ljust((size - len(start) - len(end)) - 64 * lines + 63, b"y") + b"\n"
    header += (b" " + b"z" * 62 + b"\n") * (lines - 1) + end
    assert len(header) == size
    done = run("--sender_map", str(place.senders), message=header + body)
    if size > 1 << 20:
        assert_deferred(done, "4.3.4 dkimpipe: the header block is over 1048576 octets\n")
    else:
        assert (done.status, done.stderr) == (0, LOG_LINE)
        assert is_signed(done.stdout, header + body)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 5 << 20])
def test_large_messages_reach_sendmail_whole(place: Place, sendmail: FakeSendmail, size: int) -> None:
    message = of_size(size)
    assert reinject(place, sendmail, *TO_BOB, message=message) == (0, b"", LOG_LINE)
    assert is_signed(sendmail.message, message)


@pytest.mark.parametrize("directories", [(), ("/no/such", "/proc")], ids=["none", "unwritable"])
def test_without_a_directory_the_spool_stays_in_memory(
    place: Place, keys: Keys, directories: tuple[str, ...]
) -> None:
    message = of_size(3 << 20)
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = {directories!r}")
    done = run("--sender_map", str(place.senders), message=message, command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout, message)


def test_what_goes_to_disk_has_no_name_and_no_other_reader(place: Place) -> None:
    """While the rest of a large message is awaited its spool is a file without a name, mode 0600."""
    spools = place.directory / "spools"
    spools.mkdir()
    try:
        os.close(os.open(spools, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("a file system without O_TMPFILE")
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(spools)!r},)")
    with subprocess.Popen(
        [*command, "--sender_map", place.senders],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        process.stdin.write(of_size(2 << 20))
        process.stdin.flush()
        wait_until_read(process.stdin.fileno())
        descriptors = Path(f"/proc/{process.pid}/fd").iterdir()
        (spool,) = [path for path in descriptors if os.readlink(path).startswith(str(spools))]
        assert os.readlink(spool).endswith(" (deleted)")
        assert (spool.stat().st_mode & 0o777, spool.stat().st_nlink) == (0o600, 0)
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


# Where something of the system must be replaced: in a mount namespace of its own


def _namespaces() -> bool:
    if not (ROOT and shutil.which("unshare") and shutil.which("mount")):
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(not _namespaces(), reason="needs root and mount namespaces")


@needs_namespace
@pytest.mark.parametrize("options", [(), TO_BOB], ids=["stdout", "sendmail"])
def test_a_full_disk_defers(place: Place, sendmail: FakeSendmail, options: tuple[str, ...]) -> None:
    disk = place.directory / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=4m none {disk} && exec "$@"'
    command = in_process(f"from dkimpipe import spoolfile; spoolfile._DIRECTORIES = ({str(disk)!r},)")
    done = reinject(
        place,
        sendmail,
        *options,
        message=of_size(8 << 20),
        command=("unshare", "-m", "sh", "-c", script, "sh", *command),
    )
    assert_deferred(done)
    assert done.stderr == (
        f"4.3.1 dkimpipe: cannot keep the message in {disk} until it is complete: No space left on device\n"
    )
    assert not sendmail.ran


# A /dev of its own, in which it listens: what came to /dev/log follows the filter's own output on stdout.
LISTENER = """
import os, socket, subprocess, sys
directory, *arguments = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
os.mknod(directory + "/null", 0o020666, os.makedev(1, 3))
os.symlink("/proc/self/fd", directory + "/fd")
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(directory + "/log")
subprocess.run(["mount", "--bind", directory, "/dev"], check=True)
status = subprocess.run(arguments, stdout=subprocess.DEVNULL).returncode
log.setblocking(False)
try:
    while True:
        os.write(1, log.recv(65536).rstrip(b"\\0") + b"\\n")
except BlockingIOError:
    sys.exit(status)
"""

FACTS = LOG_LINE.partition(": ")[2].rstrip("\n")
MAIL_INFO, MAIL_WARNING = 22, 20
SYSLOG: dict[str, tuple[tuple[Word, ...], bytes, int, str]] = {
    "stdout": ((), MESSAGE, 0, ""),
    "stdout, wanted": (("--syslog",), MESSAGE, MAIL_INFO, FACTS),
    "sendmail": (TO_BOB, MESSAGE, MAIL_INFO, FACTS),
    "sendmail, not wanted": (("--syslog=no", *TO_BOB), MESSAGE, 0, ""),
    "not signed": (
        TO_BOB,
        UNSIGNED,
        MAIL_INFO,
        "not signed: no entry for alice@example.org; from=Alice <alice@example.org>",
    ),
    "accepted": (
        ("--on_error=accept", "--sender_map=/no/such", *TO_BOB),
        MESSAGE,
        MAIL_WARNING,
        f"not signed: map /no/such: No such file or directory; {FROM}",
    ),
    "not allowed": (
        ("--domain=example.org", "--signature=dkim(login=alice)", "--login=eve\nx", *TO_BOB),
        UNSIGNED,
        MAIL_WARNING,
        r"not signed: login 'eve\nx' may not use command line; from=Alice <alice@example.org>",
    ),
    "per cent": (
        TO_BOB,
        b"From: %s%n <alice@example.com>\n\n",
        MAIL_INFO,
        FACTS.replace("Alice", "%s%n"),
    ),
    "controls": (
        TO_BOB,
        b'From: "\x1b\r\xff\0" <alice@example.com>\n\n',
        MAIL_INFO,
        FACTS.replace("Alice", r'"\x1b\r\xff\x00"'),
    ),
    "UTF-8": (
        TO_BOB,
        "From: Ålice <alice@example.com>\n\n".encode(),
        MAIL_INFO,
        FACTS.replace("Alice", "Ålice"),
    ),
}


@needs_namespace
@pytest.mark.parametrize(("options", "message", "priority", "line"), SYSLOG.values(), ids=SYSLOG)
def test_syslog_gets_the_line_too(
    place: Place,
    sendmail: FakeSendmail,
    options: tuple[Word, ...],
    message: bytes,
    priority: int,
    line: str,
) -> None:
    dev = place.directory / "dev"
    dev.mkdir()
    done = run(
        *("--sender_map", str(place.senders), "--sendmail", str(sendmail.path), *options),
        message=message,
        command=("unshare", "-m", PYTHON, "-c", LISTENER, str(dev), *BY_PATH),
    )
    assert done.status == 0, done.stderr
    received = done.stdout.decode()
    if line:
        assert done.stderr == f"dkimpipe: {line}\n"
        assert re.fullmatch(
            rf"<{priority}>[A-Z][a-z]{{2}} [ 0-9]{{2}} [0-9:]{{8}} dkimpipe\[[0-9]+\]: {re.escape(line)}\n",
            received,
        ), received
    else:
        assert received == ""


@needs_namespace
def test_nobody_at_dev_log_is_no_hindrance(place: Place) -> None:
    dev = place.directory / "dev"
    dev.mkdir()
    script = (
        f"mount -t tmpfs none {dev} && mknod {dev}/null c 1 3 && ln -s /proc/self/fd {dev}/fd"
        f' && mount --bind {dev} /dev && exec "$@"'
    )
    command = ("unshare", "-m", "sh", "-c", script, "sh", *BY_PATH)
    done = run("--sender_map", str(place.senders), "--syslog", command=command)
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)


def test_names_that_are_no_text_are_no_hindrance_to_syslog(place: Place) -> None:
    senders = os.fsencode(place.directory) + b"/s\xff"
    shutil.copy(os.fsencode(place.senders), senders)
    done = run("--sender_map", senders, "--verbose", "--syslog")
    assert done.status == 0, done.stderr
    assert is_signed(done.stdout)


def test_an_accepted_error_that_is_no_text_is_no_hindrance_to_syslog(place: Place) -> None:
    place.senders.write_bytes(b"example.com dkim(q\xff=a)\n")
    done = run("--sender_map", str(place.senders), "--on_error=accept", "--syslog")
    assert (done.status, done.stdout) == (0, MESSAGE), done.stderr
    assert done.stderr.startswith(f"dkimpipe: not signed: {place.senders}, line 1: unknown option: 'q")


def test_an_accepted_error_is_one_line_without_controls(place: Place) -> None:
    place.senders.write_bytes(b"example.com dkim(q\x1b[31m\r\xe2\x80\xae=a)\n")
    done = run("--sender_map", str(place.senders), "--on_error=accept")
    assert (done.status, done.stdout) == (0, MESSAGE)
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable(), done.stderr


# Many at once


def test_many_at_once_do_not_disturb_each_other(place: Place) -> None:
    messages = [b"X-Number: %d\n" % number + MESSAGE for number in range(24)]
    results: dict[int, Done] = {}

    def work(number: int) -> None:
        results[number] = run("--sender_map", str(place.senders), message=messages[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(messages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, message in enumerate(messages):
        assert (results[number].status, results[number].stderr) == (0, LOG_LINE)
        assert is_signed(results[number].stdout, message)


# The first word


@pytest.mark.parametrize(
    ("word", "verb"),
    [("chekc", "check"), ("verfy", "verify"), ("genky", "genkey"), ("Setup", "setup"), ("rotat", "rotate")],
)
def test_the_nearest_verb_is_suggested(word: str, verb: str) -> None:
    said = f"4.3.5 dkimpipe: unknown argument '{word}'\ndid you mean: dkimpipe {verb}\n"
    assert run(word) == Done(TEMPORARY_FAILURE, b"", said)


def test_with_recipients_no_verb_is_suggested() -> None:
    assert "did you mean" not in run("chekc", *TO_BOB).stderr


def test_with_nothing_on_a_terminal_it_shows_how_it_is_used() -> None:
    leader, terminal = os.openpty()
    done = subprocess.run(BY_PATH, stdin=terminal, capture_output=True, timeout=TIMEOUT, check=False)
    os.close(leader)
    os.close(terminal)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.startswith(b"usage: dkimpipe ")


@pytest.mark.parametrize("flags", ["-I", "-IS", "-s", "-E"])
def test_started_by_path_it_is_this_package_and_no_other(tmp_path: Path, flags: str) -> None:
    """Another version may be installed where the interpreter looks first."""
    other = tmp_path / "other"
    shutil.copytree(PROJECT / "dkimpipe", other / "dkimpipe", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "dkimpipe" / "__init__.py").write_text("__version__ = '9.9.9'\n")
    command = [sys.executable, flags, str(other / "dkimpipe" / "__main__.py"), "--version"]
    assert subprocess.check_output(command) == b"dkimpipe 9.9.9\n"
