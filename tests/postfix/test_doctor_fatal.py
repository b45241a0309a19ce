"""``dkimpipe check --postfix``: fatal errors of Postfix's own programs are shown as what they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import GOOD, MAIN, MASTER, check, edit, error, fill, fix, run, warning, write

MISSING = "cannot open file: No such file or directory"
# Lines of main.cf, Postfix's message, and the setting to be removed.
FATAL = {
    "myorigin is a missing file": (
        "myorigin = /nowhere/mailname",
        f"/nowhere/mailname: {MISSING}",
        "myorigin",
    ),
    "myorigin is a missing file, by a macro": (
        "own_name = /nowhere/name\nmyorigin = $own_name",
        f"/nowhere/name: {MISSING}",
        "myorigin",
    ),
    "setgid_group is empty": ("setgid_group =", "bad string length 0 < 1: setgid_group =", "setgid_group"),
    "setgid_group is missing": (
        "setgid_group = nogroup-here",
        "file DIR/main.cf: parameter setgid_group: unknown group name: nogroup-here",
        "setgid_group",
    ),
    "setgid_group is that of mail_owner": (
        "setgid_group = OWNER",
        "file DIR/main.cf: parameters mail_owner and setgid_group: user OWNER and group OWNER have the same"
        " group ID: GROUP",
        "setgid_group",
    ),
    "setgid_group is that of mail_owner, and both are set": (
        "mail_owner = OWNER\nsetgid_group = OWNER",
        "file DIR/main.cf: parameters mail_owner and setgid_group: user OWNER and group OWNER have the same"
        " group ID: GROUP",
        "setgid_group",
    ),
    "mail_owner is empty": ("mail_owner =", "bad string length 0 < 1: mail_owner =", "mail_owner"),
    "mail_owner is missing": (
        "mail_owner = nobody-here",
        "file DIR/main.cf: parameter mail_owner: unknown user name value: nobody-here",
        "mail_owner",
    ),
    "mail_owner is root": (
        "mail_owner = root",
        "file DIR/main.cf: parameter mail_owner: user root has privileged user ID",
        "mail_owner",
    ),
    "default_privs is missing": (
        "default_privs = nobody-here",
        "file DIR/main.cf: parameter default_privs: unknown user name value: nobody-here",
        "default_privs",
    ),
    "mydomain is a path": (
        "mydomain = /nowhere/domain",
        "file DIR/main.cf: parameter mydomain: bad parameter value: /nowhere/domain",
        "mydomain",
    ),
    "a number has a letter": (
        "message_size_limit = 10M",
        "bad numerical configuration: message_size_limit = 10M",
        "message_size_limit",
    ),
    "a yes is neither yes nor no": (
        "smtputf8_enable = maybe",
        "bad boolean configuration: smtputf8_enable = maybe",
        "smtputf8_enable",
    ),
    "a default is empty": (
        "default_database_type =",
        "bad string length 0 < 1: default_database_type =",
        "default_database_type",
    ),
}
VERBS = (("check", "--postfix"), ("postfix", "--check"), ("postfix",), ("postfix", "--apply"))


def starts(directory: Path) -> bool:
    """Return whether programs of Postfix start: this one does nothing else here."""
    command = ["postalias", "-c", str(directory), "-q", "x", "static:x"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", FATAL)
def test_a_fatal_error_is_shown_and_the_hint_fixes_it(
    name: str, tmp_path: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, message, setting = FATAL[name]
    group = subprocess.check_output(["id", "-g", words["OWNER"]], text=True).strip()
    words = {**words, "GROUP": group}
    directory = write(tmp_path / "postfix", f"{MAIN}{lines}\n", MASTER, words)
    before = (directory / "main.cf").read_bytes()
    assert not starts(directory)
    message = fill(message, {**words, "DIR": str(directory)})
    hint = f"postconf -c {directory} -X {setting}"
    for verb in VERBS:
        assert run(directory, *verb) == (78, "")
        printed = f"dkimpipe: no program of Postfix starts: postmap: fatal: {message}\nhint: {hint}\n"
        assert capsys.readouterr().err == printed
    assert (directory / "main.cf").read_bytes() == before
    edit(directory, f"-X {setting}", words)
    assert starts(directory)
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inet_protocols = ipv9", 'postconf: fatal: unknown inet_protocols value "ipv9" in "ipv9"'),
        ("mynetworks_style = a", 'postconf: fatal: unknown mynetworks mask style value "a" in "a"'),
        (
            "inet_interfaces = host.invalid",
            "postconf: fatal: config variable inet_interfaces: host not found: host.invalid",
        ),
        (
            "compatibility_level = x",
            'postconf: warning: malformed compatibility level syntax: "x"; postconf: fatal: macro processing'
            " error",
        ),
    ],
)
def test_a_fatal_error_of_postconf_is_shown(
    line: str, message: str, tmp_path: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main = MAIN.replace(
        "compatibility_level = 3.6\n", "smtpd_relay_restrictions = reject_unauth_destination\n"
    )
    directory = write(tmp_path / "postfix", f"{main}{line}\n", MASTER, words)
    assert check(directory) == (78, "")
    hint = f"hint: postconf -c {directory} -X {line.partition(' = ')[0]}\n"
    if "interfaces" in line:
        hint = f"hint: # correct it, or remove it, with which Postfix listens on all interfaces:\n{hint}"
    assert capsys.readouterr().err == f"dkimpipe: postconf -c {directory} -n: {message}\n{hint}"
    fix(directory, hint)
    assert check(directory) == GOOD


# A table, where it is, and Postfix's message.
BROKEN = {
    "users who may submit": (
        "authorized_submit_users = TABLE",
        "hash:/nowhere",
        "open database /nowhere.db: No such file or directory",
    ),
    "logins and their senders": (
        "local_login_sender_maps = TABLE",
        "regexp:/nowhere",
        "open /nowhere: No such file or directory",
    ),
    "a type that this Postfix lacks": (
        "authorized_submit_users = TABLE",
        "mysql9:/nowhere",
        "unsupported dictionary type: mysql9",
    ),
    "an access table": (
        "smtpd_sender_restrictions = check_sender_access TABLE",
        "hash:/nowhere",
        "open database /nowhere.db: No such file or directory",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_that_cannot_be_read_is_the_finding_and_nothing_derived_from_it(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    line, table, message = BROKEN[name]
    directory = write(tmp_path / "postfix", f"{MAIN}{line.replace('TABLE', table)}\n", MASTER, words)
    parameter = line.partition(" = ")[0]
    what = f"{parameter}: {table}: Postfix cannot read it: {message}"
    status, output = check(directory)
    assert (status, output.splitlines()[0]) == (78, error(what).rstrip())
    assert [each for each in output.splitlines() if each.startswith("dkimpipe:")] == [error(what).rstrip()]


def test_a_table_behind_a_program_that_does_not_run_is_a_warning(
    tmp_path: Path, words: dict[str, str]
) -> None:
    main = f"{MAIN}authorized_submit_users = socketmap:inet:127.0.0.1:1:x\n"
    output = warning(
        "authorized_submit_users: socketmap:inet:127.0.0.1:1:x: Postfix cannot read it: table"
        " socketmap:inet:127.0.0.1:1:x: query error: Connection refused"
    )
    assert check(write(tmp_path / "postfix", main, MASTER, words)) == (0, output)


def test_check_of_the_files_says_that_postfix_cannot_be_read(tmp_path: Path, words: dict[str, str]) -> None:
    directory = write(tmp_path / "postfix", f"{MAIN}inet_protocols = ipv9\n", MASTER, words)
    _, output = run(directory, "check", "--conf_file", str(Path(words["SITE"]) / "conf"))
    what = f'postconf -c {directory} -n: postconf: fatal: unknown inet_protocols value "ipv9" in "ipv9"'
    assert warning(f"{what}: the filter's default files are checked") in output
