"""The filter from a command line: what it signs, what it says, and each error by its own message."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import witness
from commandline import (
    FROM,
    LOG_LINE,
    PYTHON,
    TO_BOB,
    Place,
    Word,
    assert_deferred,
    in_process,
    is_signed,
    limit,
    new_fields,
    run,
)
from conftest import MESSAGE, PROJECT, Keys

# Signed, and what is said


def test_stdout_has_the_signed_message_and_nothing_else(place: Place, keys: Keys) -> None:
    done = run("--sender_map", str(place.senders))
    assert (done.status, done.stderr) == (0, LOG_LINE)
    assert is_signed(done.stdout)
    assert witness.dkimpy_verdicts([done.stdout], keys.records) == [["pass"]]


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
        "not signed: '[192.0.2.1]' is not a valid signing domain; from=a@[192.0.2.1]",
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
    "unknown option": (["--frobnicate"], "unknown option '--frobnicate'", "see dkimpipe --help"),
    "unknown, value": (["--frob=1"], "unknown option '--frob'", "see dkimpipe --help"),
    "controls": (["--a\nb\x1b\udcff"], "unknown option '--a?b??'", "see dkimpipe --help"),
    "short option": (
        ["-x"],
        "unknown argument '-x'",
        "recipients follow --; see dkimpipe --help",
    ),
    "recipient in front": (
        ["-f", "a@example.com", "b@example.net"],
        "unknown argument 'b@example.net'",
        "recipients follow --; see dkimpipe --help",
    ),
    "empty argument": (
        [""],
        "unknown argument ''",
        "recipients follow --; see dkimpipe --help",
    ),
    "no recipients after --": (
        ["-f", "a@example.com", "--"],
        "no recipients after --",
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
    "yes or no": (["--syslog=maybe"], "command line: syslog must be yes or no, not 'maybe'", ""),
    "on_error": (["--on_error=bounce"], "command line: on_error must be defer or accept, not 'bounce'", ""),
    "match": (["--match=to"], "command line: match accepts from, sender, envelope; not 'to'", ""),
    "help and more": (["--help", "--verbose"], "unknown option '--help'", "see dkimpipe --help"),
    "version and more": (
        ["--verbose", "--version"],
        "unknown option '--version'",
        "see dkimpipe --help",
    ),
    "version and recipients": (
        ["--version", *TO_BOB],
        "unknown option '--version'",
        "see dkimpipe --help",
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
        "name the file itself: DIR/senders",
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
    lines = [f"4.3.5 dkimpipe: {cause}", f"hint: {hint}"] if hint else [f"4.3.5 dkimpipe: {cause}"]
    assert done.stderr == "".join(f"{line.replace('DIR', here)}\n" for line in lines)


CONF_FILES = {
    "unknown directive": (b"# c\nfrobnicate 1\n", "line 2: unknown directive: 'frobnicate 1'"),
    "no directive": (b"\n\n(\n", "line 3: unknown directive: '('"),
    "conf_file in a conf file": (b"conf_file x\n", "line 1: unknown directive: 'conf_file x'"),
    "no value": (b"keyfile\n", "line 1: keyfile has no value"),
    "wrong value": (
        b"verbose no\non_error=bounce\n",
        "line 2: on_error must be defer or accept, not 'bounce'",
    ),
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
        "line 1: unknown signature type: 'pgp(s=a)'\nhint: known types: dkim, domainkeys\n",
    ),
    "option": (
        b"# comment\nexample.com dkim(q=a)",
        "line 2: unknown option: 'q=a'\nhint: known options: a c d envelope h i key login missing s t x\n",
    ),
    "in a continued line": (
        b"example.net dkim\n\nexample.com\n  dkim(s=a,\n  q=a)\n",
        "line 3: unknown option: 'q=a'\nhint: known options: a c d envelope h i key login missing s t x\n",
    ),
    "parenthesis": (b"example.com dkim(s=a", "line 1: no closing parenthesis: 'dkim(s=a'\n"),
    "parenthesis of the second": (
        b"example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem), dkim(s=a",
        "line 1: no closing parenthesis: 'dkim(s=a'\n",
    ),
    "nothing": (
        b"example.com",
        "line 1: no signature after the key\nhint: for example: dkim(s=SELECTOR,key=FILE)\n",
    ),
    "no key": (b"example.com dkim(s=a)", "line 1: dkim without key=\n"),
    "no selector": (b"example.com dkim(key=KEYS/rsa2048.pem)", "line 1: dkim without s=\n"),
    "twice": (b"example.com dkim(s=a,s=b)", "line 1: duplicate option: 's=b'\n"),
    "key of another type": (
        b"example.com dkim(s=a,a=rsa-sha256,key=KEYS/ed25519.pem)",
        "line 1: a=rsa-sha256, but key file KEYS/ed25519.pem contains an ed25519 key\n",
    ),
    "controls": (
        b"example.com dkim(\x1b[31m\xe2\x80\xae=a)",
        "line 1: unknown option: '?[31m?=a'\n"
        "hint: known options: a c d envelope h i key login missing s t x\n",
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
        " is empty",
        "restore the key of the published record from a backup, or export it again; "
        "a new key needs a new record: dkimpipe genkey DOMAIN",
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
    assert (
        done.stderr
        == f"4.3.5 dkimpipe: {where}: key file {key}{fault}\nhint: {hint.replace('KEY', str(key))}\n"
    )


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
        "4.3.4 dkimpipe: the header block is larger than 1048576 bytes\n"
        "hint: no mail program writes such a header: inspect the message, then remove it from the queue\n"
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
