"""``--publish-command``: the program of the administrator, how it is called, and how it fails."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Keys, write_key
from nameserver import NameServer, silent
from panel import Call, Panel
from recording import ED, run, value
from rolling import BEGIN, DAY, HOUR, NAME, NEW, ONE, START, House

from dkimpipe.admin.dns import lookup
from dkimpipe.admin.dns import program as programs

NAMES = ("ed25519._domainkey.example.com", "ed25519._domainkey.example.org")
TWO = f"example.com dkim({ED})\nexample.org dkim({ED})\n"


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    panel = Panel(tmp_path)
    with panel:
        yield panel


def publish(panel: Panel, path: Path, *arguments: object, command: object = None) -> tuple[int, str, str]:
    """Run ``dkimpipe dns`` there; return its status, and what it prints to both streams."""
    where = ("--publish-command", command or panel.command, panel.look_at)
    done = run("--sender_map", path, *where, *arguments)
    return done.status, done.stdout.decode(), done.stderr.replace(str(panel.directory), "DIRECTORY")


# How it is called.


def test_what_the_program_is_given(keys: Keys, panel: Panel) -> None:
    path = keys.senders("example.com dkim(s=r,key=KEYS/rsa2048.pem)\n")
    text = value(keys, "rsa2048")
    done = publish(panel, path, "--ttl=60", "--zone=example.com")
    assert done == (0, "r._domainkey.example.com: added\n", "")
    described = {
        "action": "add",
        "name": "r._domainkey.example.com",
        "ttl": 60,
        "type": "TXT",
        "value": text,
        "strings": [text[:255], text[255:]],
        "zone": "example.com",
    }
    assert panel.calls() == [Call("add", "r._domainkey.example.com", "60", text, described)]
    done = publish(panel, path, "--delete", "example.com")
    assert done == (0, "r._domainkey.example.com: deleted\n", "")
    (call,) = panel.calls()
    assert call[:4] == ("delete", "r._domainkey.example.com", "3600", text)
    assert call.description == {**described, "action": "delete", "ttl": 3600, "zone": None}


def test_what_surrounds_the_program(keys: Keys, panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what started dkimpipe: no variable, no open file, no directory."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PATH", "/elsewhere")
    text = (
        '#!/bin/sh\nexec 9<&-; { env | sort; pwd; ls /proc/self/fd; echo "$#"; } >DIRECTORY/seen\n'
    ).replace("DIRECTORY", str(panel.directory))
    publish(panel, keys.senders(TWO), "example.com", command=panel.program(text, "look"))
    home = Path("~").expanduser()
    env = [f"HOME={home}", "LANG=C.UTF-8", f"PATH={programs.PATH}", "PWD=/"]
    assert (panel.directory / "seen").read_text().splitlines() == [*env, "/", "0", "1", "2", "3", "3"]


def test_a_program_by_its_name(keys: Keys, panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fixed list of directories, not in PATH."""
    monkeypatch.setenv("PATH", str(panel.directory))
    assert publish(panel, keys.senders(TWO), command="change-dns") == (
        78,
        "",
        "dkimpipe: change-dns: no such program in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
        "/bin\nhint: use its absolute path\n",
    )
    status, said, _ = publish(panel, keys.senders(TWO), "example.com", command="true")
    assert (status, said) == (0, f"{NAMES[0]}: added\n")


# When it is called: only if a name server has other records.


def test_what_is_there_is_not_added_again(keys: Keys, panel: Panel) -> None:
    path = keys.senders(TWO)
    panel.set({NAMES[0]: [value(keys, "ed25519")]})
    assert publish(panel, path) == (0, f"{NAMES[0]}: already there\n{NAMES[1]}: added\n", "")
    assert [call[:2] for call in panel.calls()] == [("add", NAMES[1])]
    assert publish(panel, path, "--publish") == (0, "".join(f"{name}: already there\n" for name in NAMES), "")
    assert publish(panel, path, "--delete", "example.org")[1] == f"{NAMES[1]}: deleted\n"
    assert publish(panel, path, "--delete", "example.org")[1] == f"{NAMES[1]}: not there\n"
    assert [call[:2] for call in panel.calls()] == [("delete", NAMES[1])]


def test_each_name_server_must_have_it(keys: Keys, panel: Panel) -> None:
    path = keys.senders(f"example.com dkim({ED})\n")
    panel.set({NAMES[0]: [value(keys, "ed25519")]})
    with NameServer() as late:
        done = publish(panel, path, f"--look-at=127.0.0.1#{late.port}")
    assert done == (0, f"{NAMES[0]}: added\n", "")
    assert [call.action for call in panel.calls()] == ["add"]


def test_a_name_server_that_is_silent(keys: Keys, panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others decide; if no server answers, nothing is changed."""
    monkeypatch.setattr(lookup, "TIME_OUT", 0.2)
    path = keys.senders(f"example.com dkim({ED})\n")
    panel.set({NAMES[0]: [value(keys, "ed25519")]})
    with NameServer() as dead:
        dead.faults[NAMES[0]] = silent
        done = publish(panel, path, f"--look-at=127.0.0.1#{dead.port}")
        assert done == (0, f"{NAMES[0]}: already there\n", "")
        panel.faults[NAMES[0]] = silent
        done = publish(panel, path, f"--look-at=127.0.0.1#{dead.port}")
    words = f"cannot look up what is there: no answer within 0.2 s, according to 127.0.0.1#{panel.port}"
    assert done == (78, "", f"dkimpipe: {NAMES[0]}: {words}\n")
    assert panel.calls() == []


def test_another_record_is_replaced_only_if_told_so(keys: Keys, panel: Panel) -> None:
    """Before anything is changed."""
    path = keys.senders(TWO)
    panel.set({NAMES[1]: ['a "b"', "c"]})
    words = f"{NAMES[1]} has another TXT record: 'a \"b\"' and 'c'\nhint: --replace overwrites it\n"
    for arguments in ((), ("--delete", "example.com", "example.org")):
        assert publish(panel, path, *arguments) == (78, "", f"dkimpipe: {words}")
    assert panel.calls() == []
    assert publish(panel, path, "--replace") == (0, f"{NAMES[0]}: added\n{NAMES[1]}: replaced\n", "")
    assert [call[:2] + call[3:4] for call in panel.calls()] == [
        ("add", NAMES[0], value(keys, "ed25519")),
        ("delete", NAMES[1], 'a "b"'),
        ("delete", NAMES[1], "c"),
        ("add", NAMES[1], value(keys, "ed25519")),
    ]
    panel.set({NAMES[1]: [value(keys, "ed25519"), "c"]})
    assert publish(panel, path, "--replace", "example.org")[1] == f"{NAMES[1]}: replaced\n"
    assert [call[:2] for call in panel.calls()] == [("delete", NAMES[1])]


def test_the_record_of_a_public_half_is_not_published(keys: Keys, panel: Panel, tmp_path: Path) -> None:
    """The key file contains p= of the record that is there: anyone could sign."""
    text = value(keys, "ed25519")
    write_key(tmp_path / "swapped", text.rpartition("p=")[2].encode())
    path = keys.senders(f"example.com dkim(s=ed25519,key={tmp_path}/swapped)\n")
    panel.set({NAMES[0]: [text]})
    for arguments in ((), ("--replace",)):
        status, said, errors = publish(panel, path, *arguments)
        assert (status, said) == (78, "")
        assert errors.startswith(f"dkimpipe: {NAMES[0]}: the key file contains the public half: p= is")
        assert "--replace" not in errors
    assert panel.calls() == []
    assert publish(panel, path, "--delete", "--replace", "example.com")[1] == f"{NAMES[0]}: deleted\n"


def test_a_record_that_is_not_one_line_of_text(keys: Keys, panel: Panel) -> None:
    """It could not be told from the second line of the input."""
    panel.set({NAMES[0]: ["a\n{}"]})
    done = publish(panel, keys.senders(TWO), "--replace")
    words = f"{NAMES[0]} has a TXT record that is not text: 'a\\n{{}}'\nhint: delete it\n"
    assert done == (78, "", f"dkimpipe: {words}")
    assert panel.calls() == []


def test_an_alias_is_left_alone(keys: Keys, panel: Panel) -> None:
    panel.aliases[NAMES[0]] = "elsewhere.example"
    words = f"{NAMES[0]} is an alias (CNAME) of elsewhere.example\nhint: publish the record there\n"
    assert publish(panel, keys.senders(TWO)) == (78, "", f"dkimpipe: {words}")


def test_a_wildcard_is_not_at_the_name(keys: Keys, panel: Panel) -> None:
    class Everywhere(NameServer):
        def answer(self, wire: bytes, transport: str) -> bytes:
            self.records = {name: [b"v=spf1 -all"] for name in (NAMES[0], _name(wire))}
            return super().answer(wire, transport)

    with Everywhere() as server:
        path = keys.senders(f"example.com dkim({ED})\n")
        where = ("--publish-command", panel.command, f"--look-at=127.0.0.1#{server.port}")
        done = run("--sender_map", path, *where)
    assert done == (0, f"{NAMES[0]}: added\n".encode(), "")


def _name(wire: bytes) -> str:
    return ".".join(label.decode() for label in re.findall(rb"[\x01-\x3f]([a-z0-9_-]+)", wire[12:]))


# How it fails. CALL is what failed, in what is said.

CALL = f"{NAMES[0]}: DIRECTORY/bad add"
FAULTS: dict[str, tuple[str, int, str]] = {
    "an exit status": ("#!/bin/sh\necho on stdout; exit 3\n", 0o755, f"{CALL} failed with exit status 3"),
    "with a reason": (
        "#!/bin/sh\necho 'HTTP error 403:' >&2; printf ' forbidden\\033[2J\\n\\n' >&2; exit 1\n",
        0o755,
        f"{CALL} failed with exit status 1: HTTP error 403:; forbidden\\x1b[2J",
    ),
    "much on stderr": (
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1\n",
        0o755,
        f"{CALL} failed with exit status 1: ...{'x' * 300}",
    ),
    "not UTF-8": (
        "#!/bin/sh\nprintf '\\377\\n' >&2; exit 1\n",
        0o755,
        f"{CALL} failed with exit status 1: \ufffd",
    ),
    "a signal": ("#!/bin/sh\nkill -SEGV $$\n", 0o755, f"{CALL} was killed by SIGSEGV"),
    "a signal without a name": ("#!/bin/sh\nkill -40 $$\n", 0o755, f"{CALL} was killed by signal 40"),
    "it hangs": (
        "#!/bin/sh\necho waiting >&2; sleep 60\n",
        0o755,
        f"{CALL} did not end within 0.5 seconds: waiting",
    ),
    "it hangs with its output closed": (
        "#!/bin/sh\nexec >&- 2>&-; sleep 60\n",
        0o755,
        f"{CALL} did not end within 0.5 seconds",
    ),
    "it prints without end": (
        "#!/bin/sh\nexec yes >&2\n",
        0o755,
        f"{CALL} did not end within 0.5 seconds: ...{('; y' * 150)[-300:]}",
    ),
    "not executable": (
        "#!/bin/sh\n",
        0o644,
        "DIRECTORY/bad cannot be run: Permission denied\nhint: chmod +x DIRECTORY/bad",
    ),
    "no first line": (
        "echo hello\n",
        0o755,
        "DIRECTORY/bad cannot be run: Exec format error\n"
        "hint: let it begin with #! and an interpreter, such as #!/bin/sh",
    ),
    "no such interpreter": (
        "#!/nonexistent\n",
        0o755,
        "DIRECTORY/bad cannot be run: No such file or directory\n"
        "hint: check that it exists, and the interpreter in its first line",
    ),
}


@pytest.mark.parametrize(("text", "mode", "words"), FAULTS.values(), ids=FAULTS)
def test_a_program_that_fails(keys: Keys, panel: Panel, text: str, mode: int, words: str) -> None:
    path = keys.senders(TWO)
    begin = time.monotonic()
    status, said, errors = publish(panel, path, "--timeout=0.5", command=panel.program(text, "bad", mode))
    assert (status, said, errors) == (78, "", f"dkimpipe: {words}\n")
    assert time.monotonic() - begin < 10
    assert publish(panel, path) == (0, "".join(f"{name}: added\n" for name in NAMES), "")


def test_a_directory_is_not_a_program(keys: Keys, panel: Panel) -> None:
    done = publish(panel, keys.senders(TWO), command=panel.directory)
    assert done[2].startswith("dkimpipe: DIRECTORY cannot be run: Permission denied\n")


ODD: dict[str, str] = {
    "it does not read": "#!/bin/sh\nexit 0\n",
    "it closes its input": "#!/bin/sh\nexec <&-; sleep 0.2\n",
    "much on stdout": "#!/bin/sh\nyes | head -c 3000000\n",
    "complaints": "#!/bin/sh\nyes | head -c 3000000 >&2\n",
    "it leaves a process behind": "#!/bin/sh\nsleep 30 &\n",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_a_program_that_does_not_fail(keys: Keys, panel: Panel, text: str) -> None:
    """Its exit status is the answer. The value is longer than what a pipe holds."""
    begin = time.monotonic()
    done = publish(
        panel,
        keys.senders(TWO),
        "--timeout=10",
        *("--notes", "x" * 60000, "example.com"),
        command=panel.program(text, "odd"),
    )
    assert done[:2] == (0, f"{NAMES[0]}: added\n")
    assert time.monotonic() - begin < 8


def test_a_long_value_arrives(keys: Keys, panel: Panel) -> None:
    publish(panel, keys.senders(TWO), "--notes", "x" * 60000, "example.com")
    (call,) = panel.calls()
    assert call.value == call.description["value"] == "".join(_strings(call.description["strings"]))
    assert len(call.value) > 60000


def _strings(found: object) -> list[str]:
    assert isinstance(found, list)
    return found


def test_what_hangs_is_ended_with_its_children(keys: Keys, panel: Panel) -> None:
    text = f"#!/bin/sh\nsleep 61 & echo $! >{panel.directory}/child; echo $$ >{panel.directory}/self; wait\n"
    publish(panel, keys.senders(TWO), "--timeout=0.5", command=panel.program(text, "hang"))
    for name in ("self", "child"):
        assert _has_ended(int((panel.directory / name).read_text()))


def _has_ended(process: int) -> bool:
    """Return whether a process has ended; init may not have waited for it yet."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


# dkimpipe rotate.


@pytest.fixture
def house(keys: Keys, panel: Panel) -> House:
    panel.set({"old._domainkey.example.com": [value(keys, "rsa1024")]})
    return House(panel.directory, keys, ONE, panel.look_at)


def test_a_rotation(house: House, panel: Panel) -> None:
    command = f"--publish-command={panel.command}"
    assert house.said(START, command) == ""
    assert house.said(BEGIN, command) == (
        f"{NAME}: a new key, KEYS/example.com.{NEW}.pem\n"
        f"{NAME}: added\n"
        f"{NAME}: published; it will sign from 2025-06-30 01:00 UTC\n"
    )
    assert [call[:3] for call in panel.calls()] == [("add", NAME, "3600")]
    assert house.said(BEGIN + HOUR, command) == ""
    assert house.said(BEGIN + HOUR + 1, command) == f"{NAME}: signs from now on, replacing s=old\n"
    assert panel.calls() == []
    old = "old._domainkey.example.com"
    assert house.said(BEGIN + 31 * DAY, command) == (
        f"{old}: deleted\n{old}: revoked; its file is no longer needed: rm KEYS/rsa1024.pem\n"
    )
    assert [call[:2] for call in panel.calls()] == [("delete", old)]
    assert list(panel.zone) == [NAME]
    assert house.states == {"old": "revoked", NEW: "active"}


def test_every_name_server_is_waited_for(house: House, panel: Panel) -> None:
    """The exit status says that the panel has the record, not that the name servers do."""
    late = NameServer({"old._domainkey.example.com": [panel.zone["old._domainkey.example.com"][0].encode()]})
    with late:
        where = (f"--publish-command={panel.command}", f"--look-at=127.0.0.1#{late.port}")
        said = house.said(BEGIN, *where)
        assert f"{NAME}: added\n{NAME}: there is no such name (NXDOMAIN), according to 127.0.0.1#" in said
        assert house.states[NEW] == "generated"
        late.records[NAME] = [panel.zone[NAME][0].encode()]
        assert house.said(BEGIN + DAY, *where).startswith(f"{NAME}: published; ")
        assert [call.action for call in panel.calls()] == ["add"]


def test_a_revoked_record(house: House, panel: Panel) -> None:
    where = (f"--publish-command={panel.command}", "--revoke")
    for days in (0, 2, 33):
        house.said(BEGIN + days * DAY, *where)
    old = "old._domainkey.example.com"
    assert panel.zone[old] == ["v=DKIM1; k=rsa; p="]
    assert [call[:2] for call in panel.calls()] == [("add", NAME), ("delete", old), ("add", old)]
    assert house.states == {"old": "revoked", NEW: "active"}


def test_a_dry_run_calls_nothing(house: House, panel: Panel) -> None:
    where = (f"--publish-command={panel.command}",)
    house.said(START)
    house.said(BEGIN)  # without --publish-command: a key, and no record
    assert house.said(BEGIN, *where, "--dry-run").splitlines()[-3:-1] == [
        f"{NAME}: to be published",
        f"{NAME}: there is no such name (NXDOMAIN), according to 127.0.0.1#{panel.port}",
    ]
    assert panel.calls() == []


@pytest.mark.parametrize(("text", "mode", "words"), FAULTS.values(), ids=FAULTS)
def test_the_next_run_tries_again(house: House, panel: Panel, text: str, mode: int, words: str) -> None:
    """The old key signs meanwhile, the new one is kept, and no record is lost."""
    bad = (f"--publish-command={panel.program(text, 'bad', mode)}", "--timeout=0.5")
    words = words.replace(NAMES[0], NAME).replace("DIRECTORY", "KEYS")
    words = re.sub("^hint: (?=let|check)", "hint: # ", words, flags=re.MULTILINE)  # no command
    kept: list[object] = []
    for run_number in range(2):
        done = house.rotate(BEGIN + run_number * DAY, *bad)
        assert (done.status, done.stderr) == (78, f"dkimpipe: {words}\n")
        assert house.states == {"old": "active", NEW: "generated"}
        made = house.directory / f"example.com.{NEW}.pem"
        kept.append((made.read_bytes(), panel.zone))
    assert kept[0] == kept[1]
    house.said(BEGIN + 2 * DAY, f"--publish-command={panel.command}")
    assert house.states == {"old": "active", NEW: "published"}
    house.said(BEGIN + 3 * DAY, f"--publish-command={panel.command}")
    assert house.states == {"old": "retiring", NEW: "active"}
    done = house.rotate(BEGIN + 40 * DAY, *bad)
    gone = words.replace(NAME, "old._domainkey.example.com").replace("bad add", "bad delete")
    assert (done.status, done.stderr) == (78, f"dkimpipe: {gone}\n")
    assert house.states == {"old": "retiring", NEW: "active"}
    house.said(BEGIN + 41 * DAY, f"--publish-command={panel.command}")
    assert house.states == {"old": "revoked", NEW: "active"}
