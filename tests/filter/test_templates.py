"""Macros in s= and key=: the key file of each domain, what happens without one, and that none is outside."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import MESSAGE, PROJECT, Keys, run_filter, settled
from hypothesis import given
from hypothesis import strategies as st

from dkimpipe.address import Mailbox
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_command_line
from dkimpipe.errors import ConfigError, NoKey, printable
from dkimpipe.files import Place
from dkimpipe.message import Message
from dkimpipe.options import SignatureOptions, complete, macros
from dkimpipe.senders import parse
from dkimpipe.signatures import Signatures

KEY = "key=/k/$keydomain.$selector.pem"


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def completed(entry: str, sender: str = "sub.example.com", domain: str = "example.com") -> SignatureOptions:
    """Return the options of an entry's only signature for a sender's domain, and that of the key."""
    (signature,) = parse(entry, Place("HERE"))
    values = macros(Mailbox(b"../a", _octets(sender)), _octets(domain))
    return complete(signature, read_command_line([]), values)


# Entry, selector, path; the sender is in sub.example.com, the key is example.com.
EXPANDED = {
    "keydomain and selector": (f"dkim(s=mail,{KEY})", "mail", "/k/example.com.mail.pem"),
    "key": ("dkim(s=mail,key=/k/$key.pem)", "mail", "/k/example.com.pem"),
    "senderdomain": ("dkim(s=mail,key=/k/$senderdomain.pem)", "mail", "/k/sub.example.com.pem"),
    "component": ("dkim(s=mail,key=/k/$keydomain/mail.private)", "mail", "/k/example.com/mail.private"),
    "two components": ("dkim(s=m,key=/k/$keydomain/$selector/x)", "m", "/k/example.com/m/x"),
    "part of a directory": ("dkim(s=m,key=/k/d-$keydomain.d/x)", "m", "/k/d-example.com.d/x"),
    "twice": ("dkim(s=m,key=/k/$keydomain/$keydomain.pem)", "m", "/k/example.com/example.com.pem"),
    "both domains": ("dkim(s=m,key=/k/$key/$senderdomain)", "m", "/k/example.com/sub.example.com"),
    "selector alone": ("dkim(s=m,key=/k/$selector.pem)", "m", "/k/m.pem"),
    "selector in upper case": ("dkim(s=Mail,key=/k/$selector.pem)", "mail", "/k/mail.pem"),
    "selector in U-labels": ("dkim(s=bücher,key=/k/$selector)", "xn--bcher-kva", "/k/xn--bcher-kva"),
    "macro in s=": ("dkim(s=m-$keydomain,key=/k/x)", "m-example.com", "/k/x"),
    "macro in both": ("dkim(s=$senderdomain,key=/k/$selector)", "sub.example.com", "/k/sub.example.com"),
    "dollar sign": ("dkim(s=m,key=/k/$$$key/$$)", "m", "/k/$example.com/$"),
    "dollar sign alone": ("dkim(s=m,key=/k/$$key)", "m", "/k/$key"),
    "dots before the macro": ("dkim(s=m,key=/k/../l/$key)", "m", "/k/../l/example.com"),
    "domainkeys": (f"domainkeys(s=mail,{KEY})", "mail", "/k/example.com.mail.pem"),
}


@pytest.mark.parametrize(("entry", "selector", "path"), EXPANDED.values(), ids=EXPANDED)
def test_selector_and_path(entry: str, selector: str, path: str) -> None:
    options = completed(entry)
    assert (options.selector.decode(), options.keyfile) == (selector, path)


KNOWN = "known macros: $key $keydomain $senderdomain"
SENDER = "'$sender' is not allowed in s= and key=, where only domains are safe"
DOWN = "key= with macros must lead down from a fixed directory"
SUCH_AS = "such as key=/etc/dkimpipe/keys/$keydomain.$selector.pem"
WRONG = {
    "unknown in key=": ("s=m,key=/k/$domain", "unknown macro '$domain'", f"{KNOWN} $selector"),
    "unknown in s=": ("s=$domain,key=/k/x", "unknown macro '$domain'", KNOWN),
    "selector in s=": ("s=$selector,key=/k/x", "unknown macro '$selector'", KNOWN),
    "upper case": ("s=m,key=/k/$Key", "unknown macro '$Key'", f"{KNOWN} $selector"),
    "longer": ("s=m,key=/k/$keydomains", "unknown macro '$keydomains'", f"{KNOWN} $selector"),
    "dollar alone": ("s=m,key=/k/$", "unknown macro '$'", f"{KNOWN} $selector"),
    "sender in key=": ("s=m,key=/k/$sender", SENDER, f"{KNOWN} $selector"),
    "sender in s=": ("s=$sender,key=/k/x", SENDER, KNOWN),
    "no directory": ("s=m,key=$key", DOWN, SUCH_AS),
    "relative": ("s=m,key=keys/$key", DOWN, SUCH_AS),
    "root": ("s=m,key=/$key", DOWN, SUCH_AS),
    "directory in the root": ("s=m,key=/$key/mail.pem", DOWN, SUCH_AS),
    "up again": ("s=m,key=/k/$key/../x", DOWN, SUCH_AS),
    "no selector": ("key=/k/$key", "dkim without s=", ""),
    "bad selector": ("s=a b,key=/k/$key", "s=a b is not a valid selector", ""),
    "no key": ("s=$key", "dkim without key=", ""),
    "missing": ("s=m,key=/k/x,missing=yes", "missing must be defer or unsigned, not 'yes'", ""),
    "missing in upper case": (
        "s=m,key=/k/x,missing=Defer",
        "missing must be defer or unsigned, not 'Defer'",
        "",
    ),
}


@pytest.mark.parametrize(("options", "cause", "hint"), WRONG.values(), ids=WRONG)
def test_wrong(options: str, cause: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        completed(f"dkim({options})")
    assert (str(raised.value), raised.value.hint) == (f"HERE: {cause}", hint)


# Values of a macro, were the address not checked before.
NO_HOST_NAMES = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "dots and slash": "../outside",
    "slash": "/",
    "slash within": "a/b.example",
    "NUL": "a\0.example",
    "line end": "a.example\n",
    "space": "a b.example",
    "empty label": "a..example",
    "dot first": ".example",
    "dot last": "example.",
    "upper case": "A.example",
    "underscore": "a_b.example",
    "hyphen first": "-a.example",
    "hyphen last": "a.example-",
    "hyphen before a dot": "a-.example",
    "hyphen after a dot": "a.-example",
    "asterisk": "*.example",
    "backslash": "a\\b.example",
    "dollar": "$key",
    "address literal": "[192.0.2.1]",
    "U-labels": "bücher.example",
    "lone surrogate": "a\udcff.example",
    "label of 64": "a" * 64 + ".example",
    "254 octets": "a." * 126 + "aa",
}


@pytest.mark.parametrize("value", NO_HOST_NAMES.values(), ids=NO_HOST_NAMES)
def test_what_is_no_host_name_has_no_key(value: str) -> None:
    """Whatever the macro, and wherever it is."""
    shown = printable(_octets(value))
    for options in (
        "s=m,key=/k/$keydomain",
        "s=m,key=/k/$key/x",
        "s=m$key,key=/k/x",
        "s=$key,key=/k/$selector",
    ):
        with pytest.raises(NoKey) as no_key:
            completed(f"dkim(d=example.com,{options},missing=unsigned)", domain=value)
        assert str(no_key.value) == f"no key for {shown}"
        with pytest.raises(ConfigError) as deferred:
            completed(f"dkim(d=example.com,{options},missing=defer)", domain=value)
        assert str(deferred.value) == f"HERE: no key for {shown}"
    with pytest.raises(NoKey):
        completed("dkim(d=example.com,s=m,key=/k/$senderdomain)", sender=value)


def test_a_selector_that_is_too_long_has_no_key() -> None:
    domain = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    with pytest.raises(NoKey) as raised:
        completed("dkim(d=example.com,s=mail-$key,key=/k/$selector)", domain=domain)
    assert str(raised.value) == f"no key for {domain[:120]}..."


def test_the_conf_file_can_have_the_macros(keys: Keys, tmp_path: Path) -> None:
    shutil.copy2(keys.path("rsa2048"), tmp_path / "example.com.mail.pem")
    conf = tmp_path / "conf"
    conf.write_text(f"sender_map {keys.senders('. dkim', 'bare')}\nselector mail\n")
    with conf.open("a") as file:
        file.write(f"keyfile {tmp_path}/$senderdomain.$selector.pem\n")
    assert run_filter(f"--conf_file={conf}").stderr.startswith("dkimpipe: signed d=example.com s=mail ")
    conf.write_text(conf.read_text().replace("$senderdomain", "$sender"))
    assert run_filter(f"--conf_file={conf}").stderr.startswith(f"4.3.5 dkimpipe: {conf}, line 3: {SENDER}")


# Entries for all senders of example.com, with DIR for an empty directory; status, what is logged.
NO_KEY = "dkimpipe: not signed: no key for example.com; from="
GONE = "No such file or directory\nhint: create it, or fix the path\n"
MISSING = {
    "by default": (". dkim(s=m,key=DIR/$keydomain)", 0, NO_KEY),
    "macro of s= in key=": (". dkim(s=$key,key=DIR/$selector)", 0, NO_KEY),
    "directory of a domain": (". dkim(s=m,key=DIR/$keydomain/mail.pem)", 0, NO_KEY),
    "unsigned": (". dkim(s=m,key=DIR/$keydomain,missing=unsigned)", 0, NO_KEY),
    "too long a name": (f". dkim(s=m,key=DIR/{'x' * 250}$keydomain)", 0, NO_KEY),
    "too long a path": (
        f". dkim(s=m,key=DIR{'/x' * 2500}/$keydomain)",
        75,
        "4.3.5 dkimpipe: PATH, line 1: key",
    ),
    "defer": (
        ". dkim(s=m,key=DIR/$keydomain,missing=defer)",
        75,
        f"4.3.5 dkimpipe: PATH, line 1: key file DIR/example.com: {GONE}",
    ),
    "fixed path": (". dkim(s=m,key=DIR/x)", 75, f"4.3.5 dkimpipe: PATH, line 1: key file DIR/x: {GONE}"),
    "fixed path with a macro in s=": (
        ". dkim(s=$key,key=DIR/x)",
        75,
        f"4.3.5 dkimpipe: PATH, line 1: key file DIR/x: {GONE}",
    ),
    "fixed path, selector": (
        ". dkim(s=m,key=DIR/$selector)",
        75,
        f"4.3.5 dkimpipe: PATH, line 1: key file DIR/m: {GONE}",
    ),
    "fixed path, unsigned": (". dkim(s=m,key=DIR/x,missing=unsigned)", 0, NO_KEY),
    "directory that is not there": (
        ". dkim(s=m,key=DIR/none/$keydomain)",
        75,
        f"4.3.5 dkimpipe: PATH, line 1: key directory DIR/none/: {GONE}",
    ),
    "directory that is a file": (
        ". dkim(s=m,key=DIR/file/$keydomain)",
        75,
        "4.3.5 dkimpipe: PATH, line 1: key file DIR/file/example.com: Not a directory\n",
    ),
    "file in place of the domain's directory": (
        ". dkim(s=m,key=DIR/$keydomain/mail.pem)",
        75,
        "4.3.5 dkimpipe: PATH, line 1: key directory DIR/example.com: Not a directory\n",
    ),
    "another signature is made": (
        ". dkim(s=m,key=DIR/$keydomain), dkim(s=m,key=KEYS/rsa2048.pem)",
        0,
        "dkimpipe: signed d=example.com s=m a=rsa-sha256; not signed: no key for example.com; from=",
    ),
}


@pytest.mark.parametrize(("entry", "status", "said"), MISSING.values(), ids=MISSING)
def test_a_missing_key(keys: Keys, tmp_path: Path, entry: str, status: int, said: str) -> None:
    (tmp_path / "file").touch()
    if "Not a directory" in said:
        (tmp_path / "example.com").touch()
    path = keys.senders(entry.replace("DIR", str(tmp_path)) + "\n", "templates")
    done = run_filter(f"--sender_map={path}")
    assert done.status == status
    assert done.stderr.replace(str(path), "PATH").replace(str(tmp_path), "DIR").startswith(said)


@pytest.mark.parametrize("key", ["bücher.example", "*@bücher.example", "a@bücher.example", "*@*.example"])
@pytest.mark.parametrize("author", ["a@bücher.example", "a@xn--bcher-kva.example"])
@pytest.mark.parametrize("macro", ["$keydomain", "$key"])
def test_the_file_is_named_in_a_labels(keys: Keys, tmp_path: Path, key: str, author: str, macro: str) -> None:
    domain = "example" if key.endswith(".example") and "b" not in key else "xn--bcher-kva.example"
    shutil.copy(keys.path("rsa2048"), tmp_path / f"{domain}.pem")
    path = keys.senders(f"{key} dkim(s=m,key={tmp_path}/{macro}.pem)\n", "templates")
    done = run_filter(f"--sender_map={path}", message=f"From: {author}\n\n".encode())
    assert done.stderr.startswith(f"dkimpipe: signed d={domain} s=m ")


def test_level_of_the_log(keys: Keys, tmp_path: Path) -> None:
    """A warning if the message is not signed for want of a key, not if another signature is made."""
    none, one = f"dkim(s=m,key={tmp_path}/$keydomain)", "dkim(s=m,key=KEYS/rsa2048.pem)"
    levels = {}
    for text in (none, f"{none}, {one}", f"{one}, {none}"):
        settings = read_command_line([f"--sender_map={keys.senders(f'. {text}', 'levels')}"])
        message = Message(io.BytesIO(MESSAGE).read)
        levels[text] = Signatures(message, settings, BodyHashes(large=False)).report.level
    assert list(levels.values()) == ["warning", "info", "info"]


@pytest.mark.parametrize("name", ["example.com.pem", "example.com/mail.pem"])
def test_a_key_that_is_replaced_by_deleting_it_first(keys: Keys, tmp_path: Path, name: str) -> None:
    """Under Postfix the filter waits until the directory has not changed for a second."""
    path = keys.senders(f". dkim(s=m,key={tmp_path}/keys/{name.replace('example.com', '$key')})", "replaced")
    key = tmp_path / "keys" / name
    key.parent.mkdir(parents=True)

    def write() -> None:
        shutil.copy2(keys.path("rsa2048"), tmp_path / "new")
        (tmp_path / "new").rename(key)

    write()
    key.unlink()
    later = threading.Timer(0.5, write)
    later.start()
    done = run_filter(
        f"--sender_map={path}", "--sendmail=/bin/true", "--syslog=no", "-f", "", "--", "b@x.example"
    )
    later.join()
    assert "not signed" not in done.stderr
    key.unlink()
    assert run_filter(f"--sender_map={path}").stderr.startswith(
        "dkimpipe: not signed: no key for example.com"
    )


# From, as octets; what comes of it: signed for example.com, or nothing.
SIGNED, NOTHING = "signed for example.com", "not signed"
LONGEST = b".".join([b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61])
HOSTILE: dict[str, tuple[bytes, str]] = {
    "good": (b"a@example.com", SIGNED),
    "upper case": (b"a@EXAMPLE.Com", SIGNED),
    "dot at the end": (b"a@example.com.", SIGNED),
    "full-width letters": ("a@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com".encode(), SIGNED),
    "ideographic full stop": ("a@example\u3002com".encode(), SIGNED),
    "slashes in the local part": (b'"../../outside/"@example.com', SIGNED),
    "macro in the local part": (b"$keydomain@example.com", SIGNED),
    "dots": (b"a@..", NOTHING),
    "dot": (b"a@.", NOTHING),
    "dots and slash": (b"a@../outside", NOTHING),
    "up from a domain": (b"a@example.com/../../outside/example.com", NOTHING),
    "absolute path": (b"a@/etc/passwd", NOTHING),
    "absolute path, quoted": (b'a@"/etc/passwd"', NOTHING),
    "dots, quoted": (b'a@"../outside"', NOTHING),
    "dots in a literal": (b"a@[../outside/example.com]", NOTHING),
    "dots that make up a literal": (b"a@[..]", NOTHING),
    "absolute path in a literal": (b"a@[/etc/passwd]", NOTHING),
    "address literal": (b"a@[192.0.2.1]", NOTHING),
    "NUL": (b"a@example.com\0", NOTHING),
    "NUL before the suffix": (b"a@outside\0.example.com", NOTHING),
    "NUL in a literal": (b"a@[example.com\0]", NOTHING),
    "line end": (b"a@example\n .com", SIGNED),
    "backslash": (b"a@..\\outside", NOTHING),
    "full-width slash": ("a@..\uff0foutside".encode(), NOTHING),
    "account of, which contains a slash": ("a@outside\u2100example.com".encode(), NOTHING),
    "division slash": ("a@outside\u2215example.com".encode(), NOTHING),
    "one dot leaders": ("a@\u2024\u2024/outside".encode(), NOTHING),
    "two dot leader": ("a@\u2025".encode(), NOTHING),
    "two dot leader within": ("a@outside\u2025example.com".encode(), NOTHING),
    "percent": (b"a@%2e%2e%2foutside", NOTHING),
    "overlong UTF-8": (b"a@\xc0\xae\xc0\xae\xc0\xafoutside", NOTHING),
    "lone surrogate": (b"a@\xed\xa0\x80.example.com", NOTHING),
    "U-labels": ("a@bücher.example".encode(), NOTHING),
    "homograph": ("a@ex\u0430mple.com".encode(), NOTHING),
    "zero-width joiner": ("a@exam\u200dple.com".encode(), NOTHING),
    "A-label of nothing": (b"a@xn--.com", NOTHING),
    "A-label of a slash": (b"a@xn--/-.com", NOTHING),
    "underscore": (b"a@_domainkey.example.com", NOTHING),
    "hyphen first": (b"a@-example.com", NOTHING),
    "hyphen last": (b"a@example-.com", NOTHING),
    "macro": (b"a@$keydomain", NOTHING),
    "shell": (b"a@`id`.example.com", NOTHING),
    "253 octets": (b"a@" + LONGEST, NOTHING),
    "254 octets": (b"a@" + LONGEST + b"e", NOTHING),
    "10,000 octets": (b"a@" + b"a." * 5000 + b"com", NOTHING),
    "127 labels": (b"a@" + b"a." * 126 + b"b", NOTHING),
    "label of 64": (b"a@" + b"a" * 64 + b".com", NOTHING),
    "no domain": (b"a@", NOTHING),
    "name of the other directory": (b"a@outside", NOTHING),
    "name of the selector": (b"a@mail", NOTHING),
    "two addresses": (b"a@../outside, a@example.com", NOTHING),
}
TEMPLATES = (
    "s=mail,key=DIR/keys/$keydomain.$selector.pem",
    "s=mail,key=DIR/keys/$senderdomain/mail.pem",
    "s=mail,key=DIR/keys/$keydomain/$selector/$senderdomain.pem",
    "s=$keydomain,key=DIR/keys/$selector.mail.pem",
)


@pytest.fixture(scope="module")
def place(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with keys for example.com by each of TEMPLATES, and beside it keys by many names."""
    directory = tmp_path_factory.mktemp("place")
    names = ("example.com.mail.pem", "example.com/mail.pem", "example.com/mail/example.com.pem")
    for name in names:
        target = directory / "keys" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(keys.path("rsa1024"), target)
    shutil.copytree(directory / "keys", directory / "outside")
    for name in ("mail.pem", "outside.mail.pem", ".mail.pem", "passwd.mail.pem"):
        shutil.copy2(keys.path("rsa1024"), directory / "outside" / name)
        shutil.copy2(keys.path("rsa1024"), directory / name)
    for text in TEMPLATES:
        path = directory / f"senders{TEMPLATES.index(text)}"
        path.write_text(f". dkim({text.replace('DIR', str(directory))})\n")
        settled(path)
    return directory


opened: list[str] | None = None  # what is opened, while it is a list


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and opened is not None:
        opened.append(os.fsdecode(str(arguments[0])))


sys.addaudithook(_note)


def outcome(place: Path, number: int, author: bytes) -> tuple[str, list[str]]:
    """Return what comes of a message with one of TEMPLATES, and the files opened below ``place``."""
    global opened
    message = Message(io.BytesIO(b"From: " + author + b"\n\nx\n").read)
    settings = read_command_line([f"--sender_map={place}/senders{number}"])
    opened = []
    try:
        report = Signatures(message, settings, BodyHashes(large=False)).report.result
        found = [path for path in opened if str(place) in path and "/senders" not in path]
    finally:
        opened = None
    if report.startswith("signed d=example.com "):
        return SIGNED, found
    return NOTHING if report.startswith("not signed: ") else report, found


@pytest.mark.parametrize("number", range(len(TEMPLATES)))
@pytest.mark.parametrize(("author", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_no_domain_leads_outside(place: Path, number: int, author: bytes, expected: str) -> None:
    result, found = outcome(place, number, author)
    assert result == expected
    for path in found:
        assert os.path.realpath(path) == os.path.normpath(path)
        assert (os.path.realpath(path) + "/").startswith(f"{place}/keys/")


_parts = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "\0",
        "\uff0f",
        "\u2024",
        "\u2025",
        "\u2100",
        "outside",
        "example",
        "com",
        "[",
        "]",
        '"',
        "@",
    ]
)


@given(st.lists(_parts | st.characters(), max_size=8).map("".join), st.sampled_from(range(len(TEMPLATES))))
def test_nothing_leads_outside(place: Path, domain: str, number: int) -> None:
    _, found = outcome(place, number, b"a@" + domain.encode("utf-8", "surrogatepass"))
    assert all((os.path.realpath(path) + "/").startswith(f"{place}/keys/") for path in found)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_the_kernel_sees_no_path_outside(place: Path, tmp_path: Path) -> None:
    """All of HOSTILE, in one process: neither opened nor asked about."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1].split(':'); import test_templates as t;"
        "from pathlib import Path;"
        "[t.outcome(Path(sys.argv[2]), n, a) for n in range(len(t.TEMPLATES)) for a, _ in t.HOSTILE.values()]"
    )
    trace = tmp_path / "trace"
    tests = PROJECT / "tests"
    directories = [f"{PROJECT}:{tests}:{tests}/lab:{tests}/filter"]
    strace = ["strace", "-o", str(trace), "-e", "trace=%file", sys.executable, "-c", code]
    subprocess.run([*strace, *directories, str(place)], check=True)
    named = set(re.findall(rf'"({place}/[^"]*)"', trace.read_text()))
    within = {path for path in named if path.startswith(f"{place}/keys/")}
    maps = {f"{place}/senders{number}" for number in range(len(TEMPLATES))}
    assert named - within == maps | {f"{path}.d" for path in maps}
    assert {path for path in within if path.endswith("example.com.mail.pem")}
    assert not {path for path in within if "/../" in path or "//" in path or not path.isascii()}


# A symbolic link below the directory, what it leads to, and what is said of it.
LINKS = {
    "key file": (
        "link.example.mail.pem",
        "../outside/mail.pem",
        "key file KEYS/link.example.mail.pem: not a regular file",
    ),
    "dangling": (
        "link.example.mail.pem",
        "../none",
        "key file KEYS/link.example.mail.pem: not a regular file",
    ),
    "directory": ("link.example", "../outside", "key directory KEYS/link.example: Not a directory"),
    "parent": ("link.example", "..", "key directory KEYS/link.example: Not a directory"),
    "another domain": ("link.example", "example.com", "key directory KEYS/link.example: Not a directory"),
    "loop": ("link.example", "link.example", "key directory KEYS/link.example: Not a directory"),
}


@pytest.mark.parametrize(("name", "target", "said"), LINKS.values(), ids=LINKS)
def test_a_link_is_refused(place: Path, name: str, target: str, said: str) -> None:
    link = place / "keys" / name
    link.symlink_to(target)
    try:
        with pytest.raises(ConfigError) as raised:
            outcome(place, 0 if name.endswith(".pem") else 1, b"a@link.example")
    finally:
        link.unlink()
    number = 0 if name.endswith(".pem") else 1
    assert str(raised.value).replace(f"{place}/keys", "KEYS") == f"{place}/senders{number}, line 1: {said}"


def test_links_that_the_entry_names_are_followed(keys: Keys, place: Path, tmp_path: Path) -> None:
    """As among the directories of any key file: what is mounted there may change its version by a link."""
    (tmp_path / "current").symlink_to(place / "keys")
    text = f". dkim(s=mail,key={tmp_path}/current/$keydomain.$selector.pem)"
    assert "signed d=example.com" in run_filter(f"--sender_map={keys.senders(text, 'current')}").stderr
