"""Files that other users or groups can change: each is named, and its hint, run by sh(1), fixes it."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from checking import verb
from conftest import MAIN, Keys, write_key

from dkimpipe.admin.maps import acl, exposure
from dkimpipe.senders import LONG_MAP
from postfix import shared_directory

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users"),
    pytest.mark.skipif(not shutil.which("setfacl"), reason="needs Debian's package acl"),
]
STAFF, GAMES = grp.getgrnam("staff").gr_gid, pwd.getpwnam("games").pw_uid
UNKNOWN = 4711
MOVE = "# move the files to a directory that only root can write, such as /etc/dkimpipe"


class House(NamedTuple):
    """A conf file, a map and keys, in directories with names that sh(1) would take apart."""

    top: Path

    @property
    def conf(self) -> Path:
        return self.top / "it's a conf"

    @property
    def senders(self) -> Path:
        return self.top / "maps" / "senders"

    @property
    def keys(self) -> Path:
        return self.top / "$keys" / "b"

    @property
    def key(self) -> Path:
        return self.keys / "one.pem"

    def findings(self) -> list[tuple[str, str]]:
        """Return what ``check`` prints, with TOP for the directory: each finding with its hints."""
        done = verb(f"--conf_file={self.conf}")
        assert done.stderr == ""
        found: list[tuple[str, str]] = []
        for line in done.stdout.decode().replace(str(self.top), "TOP").splitlines():
            if line.startswith("hint: "):
                found[-1] = found[-1][0], f"{found[-1][1]}{line.removeprefix('hint: ')}"
            else:
                found.append((line.removeprefix("dkimpipe: "), ""))
        return [each for each in found if not each[0].endswith("signatures are good; DNS was not checked")]


@pytest.fixture
def house(keys: Keys) -> Iterator[House]:
    with shared_directory() as directory:
        made = House(directory)
        made.senders.parent.mkdir()
        made.keys.mkdir(parents=True)
        for name in ("one", "two", "three"):
            write_key(made.keys / f"{name}.pem", keys.path("rsa2048").read_bytes()).chmod(0o400)
        items = ", ".join(f"dkim(s={name},key={made.keys}/{name}.pem)" for name in ("one", "two", "three"))
        made.senders.write_text(f"example.com {items}\n".replace("$", "$$"))
        made.conf.write_text(f"sender_map {made.senders}\n")
        yield made


def mode(path: Path, bits: int, group: int = 0, user: int = 0) -> Path:
    os.chown(path, user, group)
    path.chmod(bits)
    return path


def acl_of(path: Path, *entries: str) -> None:
    subprocess.run(["setfacl", *(f"-m{entry}" for entry in entries), path], check=True)


def through_link(house: House, spoil: Callable[[House], object]) -> None:
    """Have the senders file reached through a link among its directories."""
    (house.top / "link").symlink_to("maps/../maps")
    house.conf.write_text(f"sender_map {house.top}/link/./../maps/senders\n")
    spoil(house)


def long_map(house: House) -> None:
    """Make the map so long that the filter looks for an index."""
    with house.senders.open("a") as file:
        file.write("#" * LONG_MAP)


def link_in_sticky(house: House) -> None:
    sticky = house.top / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "link").symlink_to(house.senders.parent)
    os.lchown(sticky / "link", GAMES, 0)
    house.conf.write_text(f"sender_map {sticky}/link/senders\n")


def index(house: House) -> Path:
    path = Path(f"{house.senders}.index")
    path.touch()
    return path


# What is done to the files, and what is found, with its hint.
FAULTS: dict[str, tuple[Callable[[House], object], str, str]] = {
    "map, group": (
        lambda house: mode(house.senders, 0o664, STAFF),
        "TOP/maps/senders: writable by group staff (mode 0664)",
        "chmod g-w TOP/maps/senders",
    ),
    "map, others": (
        lambda house: mode(house.senders, 0o666),
        "TOP/maps/senders: writable by others (mode 0666)",
        "chmod o-w TOP/maps/senders",
    ),
    "map, group and others": (
        lambda house: mode(house.senders, 0o666, STAFF),
        "TOP/maps/senders: writable by group staff and others (mode 0666)",
        "chmod go-w TOP/maps/senders",
    ),
    "map, unknown group": (
        lambda house: mode(house.senders, 0o660, UNKNOWN),
        "TOP/maps/senders: writable by group ID 4711 (mode 0660)",
        "chmod g-w TOP/maps/senders",
    ),
    "map, owner": (
        lambda house: mode(house.senders, 0o400, 0, GAMES),
        "TOP/maps/senders: owned by user games",
        "chown root TOP/maps/senders",
    ),
    "map, unknown owner": (
        lambda house: mode(house.senders, 0o400, 0, UNKNOWN),
        "TOP/maps/senders: owned by user ID 4711",
        "chown root TOP/maps/senders",
    ),
    "map, all at once": (
        lambda house: acl_of(
            mode(house.senders, 0o646, STAFF, GAMES), "u:games:rw", "u:daemon:rw", f"g:{UNKNOWN}:rw", "g::rw"
        ),
        "TOP/maps/senders: owned by user games, writable by group staff and others (mode 0666), "
        "writable by user daemon and user games and group ID 4711 (ACL)",
        "chown root TOP/maps/senders && setfacl -x u:1,u:5,g:4711 TOP/maps/senders && "
        "chmod go-w TOP/maps/senders",
    ),
    "map, ACL for a user": (
        lambda house: acl_of(house.senders, "u:games:rw"),
        "TOP/maps/senders: writable by user games (ACL)",
        "setfacl -x u:5 TOP/maps/senders",
    ),
    "map, ACL for a group": (
        lambda house: acl_of(house.senders, "g:staff:rwx", "u:games:r"),
        "TOP/maps/senders: writable by group staff (ACL)",
        "setfacl -x g:50 TOP/maps/senders",
    ),
    "map, ACL for its own group": (
        lambda house: acl_of(mode(house.senders, 0o640, STAFF), "u:games:r", "g::rw"),
        "TOP/maps/senders: writable by group staff (mode 0660)",
        "chmod g-w TOP/maps/senders",
    ),
    "index": (
        lambda house: mode(index(house), 0o664, STAFF),
        "TOP/maps/senders.index: writable by group staff (mode 0664)",
        "chmod g-w TOP/maps/senders.index",
    ),
    "conf": (
        lambda house: mode(house.conf, 0o664, STAFF),
        "TOP/it's a conf: writable by group staff (mode 0664)",
        """chmod g-w 'TOP/it'"'"'s a conf'""",
    ),
    "conf, owner": (
        lambda house: mode(house.conf, 0o644, 0, GAMES),
        "TOP/it's a conf: owned by user games",
        """chown root 'TOP/it'"'"'s a conf'""",
    ),
    "key, group": (  # as the filter itself reports it
        lambda house: mode(house.key, 0o460),
        "TOP/maps/senders, line 1: key file TOP/$keys/b/one.pem is writable by the group (mode 0460)",
        "chmod 0440 'TOP/$keys/b/one.pem'",
    ),
    "key, owner": (
        lambda house: mode(house.key, 0o400, 0, GAMES),
        "TOP/$keys/b/one.pem: owned by user games",
        "chown root 'TOP/$keys/b/one.pem'",
    ),
    "key, ACL to read for a user": (
        lambda house: acl_of(house.key, "u:games:r", "u:root:r"),
        "TOP/$keys/b/one.pem: readable by user games (ACL)",
        "setfacl -x u:5 'TOP/$keys/b/one.pem'",
    ),
    "key, ACL to read for groups": (
        lambda house: acl_of(house.key, "g:staff:r", f"g:{UNKNOWN}:rx", "u:games:x"),
        "TOP/$keys/b/one.pem: readable by group staff and group ID 4711 (ACL)",
        "setfacl -x g:50,g:4711 'TOP/$keys/b/one.pem'",
    ),
    "key, readable by a group": (
        lambda house: mode(house.key, 0o440, STAFF),
        "TOP/$keys/b/one.pem: readable by group staff (mode 0440)",
        "chmod g-r 'TOP/$keys/b/one.pem'",
    ),
    "key, readable by a group without a name, and not root's": (
        lambda house: mode(house.key, 0o640, UNKNOWN, GAMES),
        "TOP/$keys/b/one.pem: owned by user games, readable by group ID 4711 (mode 0640)",
        "chown root 'TOP/$keys/b/one.pem' && chmod g-r 'TOP/$keys/b/one.pem'",
    ),
    "key, readable by its group and by an ACL": (
        lambda house: acl_of(mode(house.key, 0o440, STAFF), "u:games:r"),
        "TOP/$keys/b/one.pem: readable by group staff (mode 0440), readable by user games (ACL)",
        "setfacl -x u:5 'TOP/$keys/b/one.pem' && setfacl -m g::- 'TOP/$keys/b/one.pem'",
    ),
    "directory of keys": (
        lambda house: mode(house.keys, 0o2775, STAFF),
        "TOP/$keys/b: writable by group staff (mode 2775)",
        "chmod g-w 'TOP/$keys/b'",
    ),
    "directory of keys, owner": (
        lambda house: mode(house.keys, 0o755, 0, GAMES),
        "TOP/$keys/b: owned by user games",
        "chown root 'TOP/$keys/b'",
    ),
    "directory of keys, ACL": (
        lambda house: acl_of(house.keys, "u:games:rwx"),
        "TOP/$keys/b: writable by user games (ACL)",
        "setfacl -x u:5 'TOP/$keys/b'",
    ),
    "above them": (
        lambda house: mode(house.keys.parent, 0o777),
        "TOP/$keys: writable by others (mode 0777)",
        "chmod o-w 'TOP/$keys'",
    ),
    "above all": (
        lambda house: mode(house.top, 0o775, STAFF),
        "TOP: writable by group staff (mode 0775)",
        "chmod g-w TOP",
    ),
    "sticky, but its owner": (
        lambda house: mode(house.keys, 0o1777, 0, GAMES),
        "TOP/$keys/b: owned by user games",
        "chown root 'TOP/$keys/b'",
    ),
    "behind a link": (
        lambda house: through_link(house, lambda house: mode(house.senders.parent, 0o775, STAFF)),
        "TOP/maps: writable by group staff (mode 0775)",
        "chmod g-w TOP/maps",
    ),
    "a link in a sticky directory": (
        link_in_sticky,
        "TOP/sticky/link: owned by user games",
        "chown -h root TOP/sticky/link",
    ),
}


@pytest.mark.parametrize(("spoil", "what", "hint"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_once_and_its_hint_removes_it(
    house: House, spoil: Callable[[House], object], what: str, hint: str
) -> None:
    spoil(house)
    found = [each for each in house.findings() if "is out of date" not in each[0]]
    assert found == [(f"error: {what}", hint)]
    subprocess.run(["sh", "-euc", hint.replace("TOP", str(house.top))], check=True)
    assert [each for each in house.findings() if "is out of date" not in each[0]] == []


GOOD: dict[str, Callable[[House], object]] = {
    "root's group": lambda house: mode(house.senders, 0o664),
    "root's group, directory": lambda house: mode(house.keys, 0o2775),
    "readable by others": lambda house: mode(house.senders, 0o644, STAFF),
    "directory readable by a group": lambda house: mode(house.keys, 0o750, STAFF),
    "sticky directory": lambda house: mode(house.top, 0o1777),
    "sticky directory of keys": lambda house: mode(house.keys, 0o1777, STAFF),
    "sticky directory of a map that needs no index": lambda house: mode(house.senders.parent, 0o1777),
    "ACL that gives root a right": lambda house: acl_of(house.senders, "u:root:rw", "g:root:rw"),
    "ACL for its own group, root's": lambda house: acl_of(house.senders, "u:games:r", "g::rw"),
    "ACL to read": lambda house: acl_of(house.senders, "u:games:r", "g:staff:rx"),
    "ACL to read a key, limited by its mask": lambda house: acl_of(house.key, "u:games:r", "m::-"),
    "ACL that lets root read a key": lambda house: acl_of(house.key, "u:root:r", "g:root:r"),
    "ACL limited by its mask": lambda house: acl_of(house.senders, "u:games:rw", "g:staff:rw", "m::r"),
    "ACL for new files": lambda house: subprocess.run(
        ["setfacl", "-dm", "u:games:rwx", house.keys], check=True
    ),
    "foreign link in a directory of root's": lambda house: through_link(
        house, lambda house: os.lchown(house.top / "link", GAMES, STAFF)
    ),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_what_nobody_else_can_change_is_good(house: House, change: Callable[[House], object]) -> None:
    change(house)
    assert house.findings() == []


def test_an_index_that_others_could_create(house: House) -> None:
    """In a sticky directory a file is safe only if it is there."""
    long_map(house)
    mode(house.senders.parent, 0o1777)
    assert house.findings() == [("error: TOP/maps: others can create senders.index there", MOVE)]
    index(house)
    assert [what for what, _ in house.findings() if "out of date" not in what] == []


def test_the_conf_file_that_others_could_create(house: House) -> None:
    mode(house.top, 0o1775, STAFF)
    there = exposure.exposed([f"{house.top}/none.conf"])
    assert [(each.what, each.hint) for each in there] == [
        (f"{house.top}: group staff can create none.conf there", MOVE)
    ]


def test_files_come_first_and_directories_from_within(house: House) -> None:
    for path in (house.top, house.keys.parent, house.keys, house.senders):
        mode(path, 0o777)
    assert [what for what, _ in house.findings()] == [
        "error: TOP/maps/senders: writable by others (mode 0777)",
        "error: TOP: writable by others (mode 0777)",
        "error: TOP/$keys/b: writable by others (mode 0777)",
        "error: TOP/$keys: writable by others (mode 0777)",
    ]


def test_the_filters_user_may_own_its_files(house: House) -> None:
    for path in (house.top, house.keys, house.senders):
        mode(path, 0o755, 0, GAMES)
        acl_of(path, "u:games:rwx")
    assert exposure.exposed([str(house.senders), str(house.key)], "games:staff") == []
    assert len(exposure.exposed([str(house.senders), str(house.key)], "daemon")) == 3


def test_the_filters_user_and_its_group_may_read_keys_by_an_acl(house: House) -> None:
    acl_of(house.key, "u:games:r", "g:staff:r")
    files = [str(house.key)]
    assert exposure.exposed(files, "games:staff", files) == []
    found = [exposure.exposed(files, user, files)[0].what for user in ("games", "daemon:staff", "nosuchuser")]
    assert [what.partition(": ")[2] for what in found] == [
        "readable by group staff (ACL)",
        "readable by user games (ACL)",
        "readable by user games and group staff (ACL)",
    ]


@pytest.mark.parametrize(
    ("user", "is_good"), [("games:staff", True), ("games", False), ("nosuchuser", True), ("", True)]
)
def test_the_filters_group_may_read_keys(house: House, user: str, is_good: bool) -> None:
    """If there is no such user yet, nobody knows its group."""
    mode(house.key, 0o440, STAFF)
    files = [str(house.key)]
    assert (exposure.exposed(files, user, files) == []) is is_good


def test_the_calling_users_group_may_read_keys(house: House) -> None:
    mode(house.key, 0o440, STAFF, GAMES)
    os.setegid(STAFF)
    os.seteuid(GAMES)
    try:
        assert exposure.exposed([str(house.key)], "root", [str(house.key)]) == []
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_directory_for_keys_that_is_empty_yet(house: House) -> None:
    directory = house.top / "new"
    directory.mkdir(0o755)
    with house.senders.open("a") as file:
        file.write(f". dkim(s=a,key={directory}/$senderdomain.pem)\n")
    (none,) = house.findings()
    assert none[0] == "warning: TOP/maps/senders, line 2: there is no key file TOP/new/*.pem"
    directory.chmod(0o777)
    assert house.findings()[1:] == [("error: TOP/new: writable by others (mode 0777)", "chmod o-w TOP/new")]


def test_the_calling_user_may_own_them(house: House) -> None:
    for path in (house.top, house.senders):
        mode(path, 0o755, 0, GAMES)
    assert len(exposure.exposed([str(house.senders)])) == 2
    os.seteuid(GAMES)
    try:
        assert exposure.exposed([str(house.senders)]) == []
    finally:
        os.seteuid(0)


def test_a_home_directory_keeps_its_owner(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mode(house.top, 0o755, 0, GAMES)
    games = pwd.getpwuid(GAMES)
    entry = pwd.struct_passwd((*games[:5], str(house.top), games[6]))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: entry)
    assert house.top.stat().st_uid == GAMES
    (found,) = exposure.exposed([str(house.senders)])
    assert (found.what, found.hint) == (f"{house.top}: owned by user games", MOVE)


PERSON = 4711  # not in passwd(5), as with LDAP


def test_a_persons_directory_keeps_its_owner(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint, run by sh(1), copies the keys, and changes nothing there."""
    monkeypatch.setattr(exposure, "_KEYS", f"{tmp_path}/new keys")
    key = house.keys / "it's a key.pem"
    key.write_text("secret")
    mode(key, 0o640, STAFF, PERSON)
    mode(house.keys, 0o755, 0, PERSON)
    mode(house.keys.parent, 0o755, 0, PERSON)
    found = exposure.exposed([str(key)], "", [str(key)])
    assert [each.what.rpartition(": ")[2] for each in found] == ["owned by user ID 4711"] * 3
    (hint,) = {each.hint for each in found}
    command, rest = hint.splitlines()
    assert rest == f"# then write key={tmp_path}/new keys/it's a key.pem in the entry, and delete {key}"
    subprocess.run(["sh", "-euc", command], check=True)
    new = tmp_path / "new keys" / key.name
    assert new.read_text() == "secret"
    status = new.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, STAFF, 0o440)
    assert {path.stat().st_uid for path in (key, house.keys, house.keys.parent)} == {PERSON}
    # The next hint does not overwrite that file.
    assert all("/b-it" in each.hint for each in exposure.exposed([str(key)], "", [str(key)]))


def test_a_file_of_a_person_elsewhere_becomes_roots(house: House) -> None:
    mode(house.key, 0o400, 0, PERSON)
    (found,) = exposure.exposed([str(house.key)], "", [str(house.key)])
    assert found.hint == f"chown root '{house.key}'"


def test_var_tmp_without_its_sticky_bit(house: House) -> None:
    """A hint that took the right to write from others would break other programs."""
    code = f"""
    mount -t tmpfs -o mode=777 none /var/tmp && touch /var/tmp/senders || exit 1
    run() {{ {sys.executable} -c "
from dkimpipe.admin.maps import exposure
for each in exposure.exposed(['/var/tmp/senders']): print(each.what, each.hint, sep='|')"; }}
    cd {MAIN.parent.parent} && found=$(run) && echo "$found" && sh -c "${{found#*|}}" && run"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "/var/tmp: writable by others (mode 0777)|chmod +t /var/tmp\n"


def test_an_owner_outside_the_container_is_a_warning(house: House) -> None:
    """In a user namespace an ID that is not mapped is shown as nobody's: no command there can change it."""
    mode(house.senders, 0o400, 0, GAMES)
    mode(house.keys, 0o775, STAFF)
    house.senders.chmod(0o444)
    unshare = [shutil.which("unshare") or "unshare", "--user", "--map-root-user"]
    command = [*unshare, sys.executable, str(MAIN), "check", "--user", "root", f"--conf_file={house.conf}"]
    env = {**os.environ, "PATH": "/nonexistent"}
    inside = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    lines = [line for line in inside.stdout.replace(str(house.top), "TOP").splitlines() if "TOP" in line]
    assert lines == [
        "dkimpipe: warning: TOP/maps/senders: owned by user nobody; "
        "nobody may be a user outside this container",
        "hint: # check it outside the container: namei -l TOP/maps/senders",
        "dkimpipe: warning: TOP/$keys/b: writable by group nogroup (mode 0775); "
        "nobody may be a user outside this container",
        "hint: # check it outside the container: namei -l 'TOP/$keys/b'",
    ]


def test_explain_reports_the_files_of_one_message(house: House) -> None:
    mode(house.keys, 0o775, STAFF)
    mode(house.senders, 0o644, 0, GAMES)
    command = [sys.executable, str(MAIN), "explain", f"--conf_file={house.conf}", "a@example.com"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.replace(str(house.top), "TOP").splitlines()
    start = lines.index("exposed:   TOP/maps/senders: owned by user games")
    assert lines[start + 1 : start + 4] == [
        "           hint: chown root TOP/maps/senders",
        "exposed:   TOP/$keys/b: writable by group staff (mode 0775)",
        "           hint: chmod g-w 'TOP/$keys/b'",
    ]


# The binary form, as the kernel has it.


def packed(version: int, *entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *each) for each in entries)


PARSED: dict[str, tuple[bytes, list[acl.Entry] | None]] = {
    "empty": (b"", None),
    "version 1": (packed(1, (2, 6, 5)), None),
    "no entries": (packed(2), []),
    "user": (packed(2, (1, 6, 0), (2, 6, 5), (4, 4, 0), (16, 6, 0), (32, 0, 0)), [acl.Entry(2, 6, 5)]),
    "masked": (packed(2, (2, 7, 5), (8, 7, 6), (16, 5, 0)), []),
    "no mask": (packed(2, (1, 6, 0), (4, 6, 0), (32, 2, 0)), [acl.Entry(4, 6, 0)]),
    "groups": (
        packed(2, (4, 2, 0), (8, 3, 7), (8, 4, 8), (16, 7, 0)),
        [acl.Entry(4, 2, 0), acl.Entry(8, 3, 7)],
    ),
    "cut": (packed(2, (4, 2, 0))[:-1], []),
}


@pytest.mark.parametrize(("octets", "expected"), PARSED.values(), ids=PARSED)
def test_the_binary_form(octets: bytes, expected: list[acl.Entry] | None) -> None:
    assert acl.parse(octets, acl.WRITE) == expected


def test_a_directory_in_which_others_could_create_a_map(house: House) -> None:
    directory = Path(f"{house.senders}.d")
    directory.mkdir(0o755)
    assert house.findings() == []
    directory.chmod(0o777)
    assert house.findings() == [
        ("error: TOP/maps/senders.d: writable by others (mode 0777)", "chmod o-w TOP/maps/senders.d")
    ]
