"""``dkimpipe check``: each fault in conf file, maps and keys by its own message; none where all is good."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checking import CONF_FAULTS, FAULTS, GOOD, KEY, KEY_FAULTS, RESTORE, checked, findings, verb
from conftest import MAIN, Done, Keys, run_filter, write_key
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dkimpipe.admin.maps import permissions
from postfix import shared_directory

GOOD_MAPS = {
    "one": (GOOD, 1),
    "comments": (f"# x\n; y\n\n{GOOD} # continued\n  , domainkeys(s=rsa2048,{KEY})\n", 2),
    "dual": (f"example.com dkim(s=a,{KEY}), dkim(s=b,key=KEYS/ed25519.pem)\n", 2),
    "one key, two types": (f"example.com dkim(s=a,{KEY}), domainkeys(c=simple,s=a,{KEY})\n", 2),
    "one key, two domains": (f"example.com dkim(s=a,{KEY})\nexample.org dkim(s=a,{KEY})\n", 2),
    "one selector, one key, two files": (
        f"example.com dkim(s=a,{KEY})\na@example.com dkim(s=a,key=KEYS/rsa2048-pkcs1.pem)\n",
        2,
    ),
    "everybody": (f". dkim(s=a,{KEY})\n", 1),
    "everybody by one domain": (f". dkim(d=example.com,s=a,{KEY})\n", 1),
    "macros": (f"example.com dkim(d=$senderdomain,i=$sender,s=a,{KEY})\n", 1),
    "parent domain": (f"mail.example.com dkim(d=example.com,s=a,{KEY})\n", 1),
    "of a provider beside it": (
        f"example.com dkim(s=a,{KEY}), dkim(d=provider.example,s=a,{KEY})\n",
        2,
    ),
    "of a provider before it": (
        f"a@mail.example.com dkim(d=provider.example,s=a,{KEY}), dkim(d=example.com,s=a,{KEY})\n",
        2,
    ),
    "of a provider, for the same login": (
        f"example.com dkim(d=provider.example,s=a,{KEY},login=a), dkim(s=a,{KEY},login=a)\n",
        2,
    ),
    "perhaps aligned, beside one that is": (
        f"mail.example.com dkim(s=a,{KEY}), dkim(d=news.example.com,s=a,{KEY})\n",
        2,
    ),
    "pattern of a domain": (f"*@example.com dkim(s=a,{KEY})\n", 1),
    "pattern of subdomains": (f"*@*.example.com dkim(s=a,{KEY})\n", 1),
    "pattern in the other spelling": (f"*@*.B\u00dccher.example dkim(s=a,{KEY})\n", 1),
    "extension": (f"a+b@example.com dkim(s=a,{KEY})\n", 1),
    "IDN": (f"b\u00fccher.example dkim(s=a,{KEY})\n", 1),
    "who may have it": (
        f"example.com dkim(s=a,{KEY},login=a:b c,envelope=b\u00fccher.example:a@b.example:@example.org:*)\n"
        f". dkim(s=a,{KEY},login=*,d=$senderdomain)\n",
        2,
    ),
    "relative h": (f"example.com dkim(h=-date:++x-foo,s=a,{KEY}), dkim(h=-*:+from,s=a,{KEY})\n", 2),
    "all options": (f"example.com dkim(c=simple,h=from:to,i=@example.com,x=30d,t=yes,s=a,{KEY})\n", 1),
}


@pytest.mark.parametrize(("text", "count"), GOOD_MAPS.values(), ids=GOOD_MAPS)
def test_nothing_is_found_where_all_is_good(keys: Keys, text: str, count: int) -> None:
    signatures = "1 signature is" if count == 1 else f"{count} signatures are"
    assert checked(keys, text) == (0, f"dkimpipe: SENDERS and {signatures} good; DNS was not checked\n")


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named(keys: Keys, text: str, expected: list[str]) -> None:
    open_key = keys.path("open")
    open_key.write_bytes(keys.path("rsa2048").read_bytes())
    open_key.chmod(0o644)
    status, said = checked(keys, text + "\n")
    assert findings(said) == expected
    assert status == (78 if any(line.startswith("error") for line in expected) else 0)


# Keys that match nothing; what to write instead, a sender that this matches, the hint.
SUBDOMAINS = "*@*.example.com matches its subdomains alone; example.com matches the whole domain"
PATTERNS = {
    "*@.example.com": ("*@*.example.com", "a@b.example.com", SUBDOMAINS),
    "*.example.com": ("*@*.example.com", "a@b.c.example.com", SUBDOMAINS),
    ".example.com": ("*@*.example.com", "a@b.example.com", SUBDOMAINS),
    "*@*example.com": ("example.com", "a@b.example.com", SUBDOMAINS),
    "*@*.*.example.com": ("*@*.example.com", "a@b.c.example.com", SUBDOMAINS),
    "@example.com": (
        "*@example.com",
        "a@example.com",
        "*@example.com matches this domain alone; example.com matches its subdomains, too",
    ),
    "**@example.com": (
        "*@example.com",
        "a@example.com",
        "*@example.com matches this domain alone; example.com matches its subdomains, too",
    ),
    "example.com.": ("example.com", "a@example.com", "example.com matches the whole domain"),
    "a*@Example.com": (
        "*@example.com",
        "a@example.com",
        "an address matches only itself, *@example.com every address in it",
    ),
    "info@*.example.com": (
        "*@*.example.com",
        "info@b.example.com",
        "an address matches only itself, *@*.example.com every address in subdomains",
    ),
    "info@*": (".", "info@example.com", "an address matches only itself; . matches every sender"),
    "*": (".", "a@example.com", ". matches every sender"),
    "*@*": (".", "a@example.com", ". matches every sender"),
    "@": (".", "a@example.com", ". matches every sender"),
}


@pytest.mark.parametrize(
    ("pattern", "key", "sender", "hint"), [(k, *v) for k, v in PATTERNS.items()], ids=PATTERNS
)
def test_another_pattern_as_key_is_an_error_and_the_hint_helps(
    keys: Keys, pattern: str, key: str, sender: str, hint: str
) -> None:
    entry = f" dkim(d=example.com,s=rsa2048,{KEY})\n"
    said = f"dkimpipe: error: SENDERS, line 1: no address matches {pattern}\nhint: # {hint}\n"
    assert checked(keys, pattern + entry) == (78, said)
    assert f" {key} " in f" {hint} "
    assert checked(keys, key + entry) == (
        0,
        "dkimpipe: SENDERS and 1 signature is good; DNS was not checked\n",
    )
    message = f"From: {sender}\n\n".encode()
    before, after = (
        run_filter(f"--sender_map={keys.senders(each + entry)}", message=message).stderr
        for each in (pattern, key)
    )
    assert "not signed: no entry for" in before
    assert "signed d=example.com s=rsa2048" in after


@pytest.mark.parametrize(("change", "fault", "hint"), KEY_FAULTS.values(), ids=KEY_FAULTS)
def test_each_fault_of_a_key_is_named_and_stops_nothing(
    keys: Keys, tmp_path: Path, change: Callable[[Path], object], fault: str, hint: str
) -> None:
    path = write_key(tmp_path / "seeded.pem", keys.path("rsa2048").read_bytes())
    change(path)
    text = f"example.com dkim(s=a,key={path})\nexample.org dkim(s=a)\n"
    status, said = checked(keys, text, "--dns", "--server=127.0.0.1#9")
    lines = [f"dkimpipe: error: SENDERS, line 1: key file {path} {fault}"]
    lines += [f"hint: {hint.replace('PATH', str(path))}"] if hint else []
    lines += ["dkimpipe: error: SENDERS, line 2: dkim without key=", ""]
    assert (status, said) == (78, "\n".join(lines))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_the_terminal_cannot_show_is_escaped(keys: Keys, locale: str) -> None:
    path = keys.senders(
        f"b\u00fccher..example dkim(s=a,{KEY})\n\x1b[2J..example dkim(s=a,{KEY})\n", "checked"
    )
    command = [
        sys.executable,
        str(MAIN),
        "check",
        "-c",
        "/nonexistent",
        "--user",
        "root",
        f"--sender_map={path}",
    ]
    env = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    letter = "\u00fc" if locale == "C.UTF-8" else "\\xfc"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (
        78,
        f"dkimpipe: error: {path}, line 1: no address matches b{letter}cher..example\n"
        f"dkimpipe: error: {path}, line 2: no address matches \\x1b[2J..example\n",
        b"",
    )


def test_findings_for_machines(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=a,key=KEYS/none.pem)\n", "checked")
    done = verb(f"--sender_map={path}", "--json")
    what = f"{path}, line 1: key file {keys.path('none')}: No such file or directory"
    assert (done.status, json.loads(done.stdout)) == (
        78,
        [{"what": what, "hint": "# create it, or fix the path", "level": "error"}],
    )


def test_nothing_found_for_machines(keys: Keys) -> None:
    assert verb(f"--sender_map={keys.senders(GOOD, 'checked')}", "--json") == Done(0, b"[]\n", "")


@pytest.mark.parametrize(("text", "expected"), CONF_FAULTS.values(), ids=CONF_FAULTS)
def test_each_fault_in_the_conf_file_is_named(keys: Keys, text: str, expected: list[str]) -> None:
    conf = keys.directory / "checked.conf"
    conf.write_text(f"sender_map {keys.senders(GOOD, 'checked')}\n{text}\n")
    done = verb(f"--conf_file={conf}")
    assert findings(done.stdout.decode().replace(str(conf), "CONF")) == expected


def test_an_error_has_one_place(keys: Keys) -> None:
    """That of the option, though the key file is named in the conf file."""
    conf = keys.directory / "checked.conf"
    conf.write_text(f"sender_map {keys.senders('example.com dkim(a=ed25519-sha256,s=a)', 'checked')}\n")
    with conf.open("a") as file:
        file.write(f"keyfile {keys.path('rsa2048')}\n")
    done = verb(f"--conf_file={conf}")
    assert findings(done.stdout.decode().replace(f"{keys.directory}/", "")) == [
        "error: checked, line 1: a=ed25519-sha256, but key file rsa2048.pem contains an rsa key"
    ]


def test_a_listid_map_is_checked_too(keys: Keys) -> None:
    conf = keys.directory / "checked.conf"
    listid_map = keys.senders("l.example.com dkim(s=a)\na@example.com dkim(s=a)\n", "listids")
    conf.write_text(f"sender_map {keys.senders(GOOD, 'checked')}\nlistid_map {listid_map}\n")
    done = verb(f"--conf_file={conf}")
    assert findings(done.stdout.decode().replace(str(listid_map), "MAP")) == [
        "error: MAP, line 1: dkim without key=",
        "error: MAP, line 2: no List-Id matches a@example.com, which is an address",
    ]


# Addresses that the filter reads in another way, and those that it reads as they are.
READ_OTHERWISE = [
    '"b"@example.com',
    '"john.doe"@example.com',
    "a@b@example.com",
    "mailto:a@example.com",
    "a(b)@example.com",
    "a,b@example.com",
    "<a>@example.com",
    "a\\@b@example.com",
    "a@ex(x)ample.com",
    "\uff45xample.com",
    "example\u3002com",
]
READ_AS_WRITTEN = [
    '"a b"@example.com',
    '"a@b"@example.com',
    "a+b@example.com",
    "A@Example.COM",
    "\u00f6@example.com",
    "a@b\u00fccher.example",
    "a@xn--bcher-kva.example",
    "B\u00fccher.example",
    "*@b\u00fccher.example",
]


@pytest.mark.parametrize("key", READ_OTHERWISE)
def test_a_key_that_the_filter_never_looks_for(keys: Keys, key: str) -> None:
    done = verb(f"--sender_map={keys.senders(f'{key} dkim(s=a,key=KEYS/rsa2048.pem){chr(10)}', 'checked')}")
    assert done.status == 78
    assert f"line 1: no address matches {key}" in done.stdout.decode()


@pytest.mark.parametrize("key", ["a@[192.0.2.1]", "*@[192.0.2.1]"])
def test_an_address_literal(keys: Keys, key: str) -> None:
    path = keys.senders(f"{key} dkim(d=example.com,s=a,key=KEYS/rsa2048.pem)\n", "checked")
    assert "no address matches" not in verb(f"--sender_map={path}").stdout.decode()
    done = run_filter(f"--sender_map={path}", message=b"From: a@[192.0.2.1]\n\n")
    assert done.stderr.startswith("dkimpipe: signed d=example.com ")


@pytest.mark.parametrize("key", READ_AS_WRITTEN)
def test_a_key_that_the_filter_looks_for(keys: Keys, key: str) -> None:
    path = keys.senders(f"{key} dkim(s=a,key=KEYS/rsa2048.pem)\n", "checked")
    assert verb(f"--sender_map={path}").status == 0
    done = run_filter(
        f"--sender_map={path}", message=f"From: {key if '@' in key else 'a@' + key}\n\n".encode()
    )
    assert done.stderr.startswith("dkimpipe: signed ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_files_are_tried_as_the_filters_user(keys: Keys) -> None:
    with shared_directory() as top:
        key = write_key(top / "rsa.pem", keys.path("rsa2048").read_bytes())
        path = write_key(top / "senders", f"example.com dkim(s=a,key={key})\n".encode())
        done = verb(f"--sender_map={path}", "--user", "nobody")
        assert done.status == 78
        assert done.stdout.decode().splitlines() == [
            f"dkimpipe: error: {path}: user nobody cannot read it",
            f"hint: chgrp nogroup {path} && chmod g+r {path}",
            f"dkimpipe: error: {path}, line 1: key file {key}: user nobody cannot read it",
            f"hint: chgrp nogroup {key} && chmod g+r {key}",
        ]


# What is done to TOP/a b/c/senders, and the hint. The filter's user is nobody, its group daemon.
BLOCKED: dict[str, tuple[Callable[[Path, int], object], str]] = {
    "the file": (
        lambda top, group: (top / "a b/c/senders").chmod(0o600),
        "chgrp daemon 'TOP/a b/c/senders' && chmod g+r 'TOP/a b/c/senders'",
    ),
    "the file, of its group": (
        lambda top, group: mode(top / "a b/c/senders", 0o600, group),
        "chmod g+r 'TOP/a b/c/senders'",
    ),
    "the file, its own": (
        lambda top, group: mode(top / "a b/c/senders", 0o044, 0, pwd.getpwnam("nobody").pw_uid),
        "chmod u+r 'TOP/a b/c/senders'",
    ),
    "the directory": (
        lambda top, group: (top / "a b/c").chmod(0o700),
        "chgrp daemon 'TOP/a b/c' && chmod g+x 'TOP/a b/c'",
    ),
    "the directory, of its group": (
        lambda top, group: mode(top / "a b/c", 0o700, group),
        "chmod g+x 'TOP/a b/c'",
    ),
    "a directory above": (
        lambda top, group: (top / "a b").chmod(0o744),
        "chgrp daemon 'TOP/a b' && chmod g+x 'TOP/a b'",
    ),
    "all of them": (
        lambda top, group: closed(top / "a b/c/senders", top / "a b/c", top / "a b"),
        "chgrp daemon 'TOP/a b' && chmod g+x 'TOP/a b'\n"
        "chgrp daemon 'TOP/a b/c' && chmod g+x 'TOP/a b/c'\n"
        "chgrp daemon 'TOP/a b/c/senders' && chmod g+r 'TOP/a b/c/senders'",
    ),
    "the directory of another group, which keeps it": (
        lambda top, group: mode(top / "a b/c", 0o750, grp.getgrnam("staff").gr_gid),
        "chmod o+x 'TOP/a b/c'",
    ),
    "the directory of a group that does not exist any more": (
        lambda top, group: mode(top / "a b/c", 0o750, 64999),
        "chgrp daemon 'TOP/a b/c' && chmod g+x 'TOP/a b/c'",
    ),
    "behind a link": (
        lambda top, group: behind_link(top / "a b", top / "d"),
        "chgrp daemon TOP/d && chmod g+x TOP/d",
    ),
    "more maps": (
        lambda top, group: (top / "a b/c/senders.d").mkdir(0o700),
        "chgrp daemon 'TOP/a b/c/senders.d' && chmod g+rx 'TOP/a b/c/senders.d'",
    ),
}


def closed(*paths: Path) -> None:
    for path in paths:
        path.chmod(0o600)


def behind_link(path: Path, target: Path) -> None:
    """Make a directory a link to a closed one."""
    path.rename(target)
    path.symlink_to(target.name)
    target.chmod(0o700)


def mode(path: Path, bits: int, group: int = 0, user: int = 0) -> None:
    os.chown(path, user, group)
    path.chmod(bits)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
@pytest.mark.parametrize(("block", "hint"), BLOCKED.values(), ids=BLOCKED)
def test_the_hint_lets_the_filters_user_in(block: Callable[[Path, int], object], hint: str) -> None:
    with shared_directory() as top:
        path = top / "a b/c/senders"
        path.parent.mkdir(parents=True)
        path.touch()
        block(top, grp.getgrnam("daemon").gr_gid)
        files = [str(each) for each in (path, top / "a b/c/senders.d")]
        found = list(permissions.unreadable(dict.fromkeys(files), "nobody:daemon"))
        assert [each.hint.replace(str(top), "TOP") for each in found] == [hint]
        subprocess.run(["sh", "-euc", found[0].hint], check=True)
        assert list(permissions.unreadable(dict.fromkeys(files), "nobody:daemon")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_no_other_group_keeps_the_directory_of_dkimpipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the filter's user was deleted, and another group got the number of its group."""
    with shared_directory() as top:
        monkeypatch.setattr(permissions, "_OURS", str(top))
        keys, path = top / "keys", top / "keys/example.com.mail.pem"
        keys.mkdir()
        path.touch()
        mode(keys, 0o750, grp.getgrnam("staff").gr_gid)
        (found,) = permissions.unreadable({str(path): None}, "nobody:daemon")
        assert found.hint == f"chgrp daemon {keys} && chmod g+x {keys}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_a_home_directory_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with shared_directory() as top:
        path = write_key(top / "senders", b"")
        top.chmod(0o700)
        root = pwd.getpwuid(0)
        monkeypatch.setattr(pwd, "getpwuid", lambda number: pwd.struct_passwd((*root[:5], str(top), root[6])))
        (found,) = permissions.unreadable({str(path): None}, "nobody")
        assert (
            found.hint == "# move the files to a directory that user nobody can enter, such as /etc/dkimpipe"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
@pytest.mark.parametrize(
    ("user", "mode", "status"),
    [("nobody", 0o440, 78), ("nobody:daemon", 0o440, 0), ("nobody:daemon", 0o400, 78)],
)
def test_keys_are_tried_with_the_one_group_that_pipe_leaves(
    keys: Keys, user: str, mode: int, status: int
) -> None:
    with shared_directory() as directory:
        key = Path(shutil.copy(keys.path("rsa2048"), directory))
        shutil.chown(key, "root", "daemon")
        key.chmod(mode)
        path = directory / "senders"
        path.write_text(f"example.com dkim(s=a,key={key})\n")
        assert verb(f"--sender_map={path}", "--user", user).status == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_the_hint_lets_the_filters_user_read(keys: Keys) -> None:
    with shared_directory() as directory:
        key = write_key(directory / "the key; $(false)", keys.path("rsa2048").read_bytes())
        path = directory / "senders"
        path.write_text(f"example.com dkim(s=a,key={key})\n".replace("$", "$$"))
        path.chmod(0o600)
        done = verb(f"--sender_map={path}", "--user", "nobody")
        hints = [line.removeprefix("hint: ") for line in done.stdout.decode().splitlines() if "chgrp" in line]
        assert (done.status, len(hints)) == (78, 2)
        for hint in hints:
            subprocess.run(["sh", "-ec", hint], check=True)
        assert verb(f"--sender_map={path}", "--user", "nobody").status == 0


def test_a_user_who_is_not_there_cannot_read(keys: Keys) -> None:
    path = keys.senders(GOOD, "checked")
    done = verb(f"--sender_map={path}", "--user", "nouserofthisname")
    assert done.status == 78
    assert done.stdout.decode() == (
        "dkimpipe: error: there is no user nouserofthisname to read the files\n"
        "hint: # name the filter's user: --user\n"
    )


def test_a_key_whose_numbers_are_damaged(keys: Keys) -> None:
    broken = keys.path("broken")
    key = load_pem_private_key(keys.path("rsa1024").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    exponent = key.private_numbers().d.to_bytes(128, "big").lstrip(b"\0")
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der = der.replace(exponent, exponent[:-1] + bytes([exponent[-1] ^ 2]))
    label = b"RSA PRIVATE KEY-----\n"
    write_key(broken, b"-----BEGIN " + label + base64.encodebytes(der) + b"-----END " + label)
    assert checked(keys, "example.com dkim(s=a,key=KEYS/broken.pem)\n") == (
        78,
        "dkimpipe: error: SENDERS, line 1: key file KEYS/broken.pem is damaged: its components are "
        f"inconsistent\nhint: # {RESTORE}\n",
    )


def test_a_directory_of_keys_that_others_can_write(keys: Keys) -> None:
    with shared_directory() as directory:
        inner = directory / "keys"
        inner.mkdir()
        key = Path(shutil.copy(keys.path("rsa2048"), inner))
        key.chmod(0o400)
        path = keys.senders(f"example.com dkim(s=a,key={key})\n", "checked")
        inner.chmod(0o777)
        directory.chmod(0o757)
        done = verb(f"--sender_map={path}")
    assert findings(done.stdout.decode()) == [
        f"error: {inner}: writable by others (mode 0777)",
        f"error: {directory}: writable by others (mode 0757)",
    ]


NO_ENTRIES = {
    "empty": (b"", ["error: map SENDERS is empty"]),
    "comments": (b"# x\n\n", ["warning: SENDERS: it contains no entries"]),
    "blank in front": (
        b"\xef\xbb\xbf# x\n  example.com dkim(s=a)\n\ta\n",
        [
            "warning: SENDERS, line 2: it begins with white space, but there is no entry to continue",
            "warning: SENDERS, line 3: it begins with white space, but there is no entry to continue",
            "warning: SENDERS: it contains no entries",
        ],
    ),
    "UTF-16": (
        "example.com dkim(s=a)\n".encode("utf-16"),
        [
            "error: SENDERS, line 1: no address matches \\udcff\\udcfee\\x00x\\x00a\\x00m\\x00p\\x00l\\x00"
            "e\\x00.\\x00c\\x00o\\x00m\\x00",
            "error: SENDERS, line 2: no address matches \\x00",
        ],
    ),
}


@pytest.mark.parametrize(("octets", "expected"), NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_a_map_without_entries(keys: Keys, octets: bytes, expected: list[str]) -> None:
    path = keys.senders("", "checked")
    path.write_bytes(octets)
    done = verb(f"--sender_map={path}")
    assert findings(done.stdout.decode().replace(str(path), "SENDERS")) == expected
    assert ("save the file as UTF-8" in done.stdout.decode()) == (b"\0" in octets)


def test_an_index_that_is_out_of_date(keys: Keys) -> None:
    old = keys.directory / "checked.index"
    old.write_bytes(b"")
    status, said = checked(keys, GOOD)
    old.unlink()
    assert (status, said) == (
        0,
        "dkimpipe: warning: SENDERS.index is out of date: the map is scanned\nhint: dkimpipe index\n",
    )


def test_a_key_file_without_a_directory(keys: Keys) -> None:
    """pipe(8) starts the filter elsewhere."""
    path = keys.senders("example.com dkim(s=a,key=rsa2048.pem)\n", "checked")
    command = [sys.executable, str(MAIN), "check", "-c", "/nonexistent", f"--sender_map={path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=keys.directory, check=False)
    assert (done.returncode, done.stdout) == (
        0,
        f"dkimpipe: warning: {path}, line 1: key file rsa2048.pem is relative to Postfix's "
        f"queue directory\nhint: # if you mean this one: {keys.path('rsa2048')}\n",
    )


def test_what_others_can_write_is_named(keys: Keys) -> None:
    path = keys.senders(GOOD, "checked")
    path.chmod(0o646)
    keys.directory.chmod(0o777)
    done = verb(f"--sender_map={path}")
    path.unlink()
    keys.directory.chmod(0o700)
    assert (done.status, findings(done.stdout.decode())) == (
        78,
        [
            f"error: {path}: writable by others (mode 0646)",
            f"error: {keys.directory}: writable by others (mode 0777)",
        ],
    )
