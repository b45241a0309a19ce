"""``dkimpipe check --postfix``: fatal errors of Postfix's own programs are shown as what they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import GOOD, MAIN, MASTER, check, damage, error, fill, fix, removed, run, warning, write

MISSING = "cannot open file: No such file or directory"
# Lines of main.cf, Postfix's message, and the hint.
FATAL = {
    "myorigin is a missing file": (
        "myorigin = /nowhere/mailname",
        f"/nowhere/mailname: {MISSING}",
        removed("myorigin", "$myhostname"),
    ),
    "myorigin is a missing file, by a macro": (
        "own_name = /nowhere/name\nmyorigin = $own_name",
        f"/nowhere/name: {MISSING}",
        removed("myorigin", "$myhostname"),
    ),
    "setgid_group is empty": (
        "setgid_group =",
        "bad string length 0 < 1: setgid_group =",
        removed("setgid_group", "postdrop"),
    ),
    "setgid_group is missing": (
        "setgid_group = nogroup-here",
        "file DIR/main.cf: parameter setgid_group: unknown group name: nogroup-here",
        removed("setgid_group", "postdrop"),
    ),
    "setgid_group is that of mail_owner": (
        "setgid_group = OWNER",
        "file DIR/main.cf: parameters mail_owner and setgid_group: user OWNER and group OWNER have the same"
        " group ID: GROUP",
        removed("setgid_group", "postdrop"),
    ),
    "setgid_group is that of mail_owner, and both are set": (
        "mail_owner = OWNER\nsetgid_group = OWNER",
        "file DIR/main.cf: parameters mail_owner and setgid_group: user OWNER and group OWNER have the same"
        " group ID: GROUP",
        removed("setgid_group", "postdrop"),
    ),
    "mail_owner is empty": (
        "mail_owner =",
        "bad string length 0 < 1: mail_owner =",
        removed("mail_owner", "postfix"),
    ),
    "mail_owner is missing": (
        "mail_owner = nobody-here",
        "file DIR/main.cf: parameter mail_owner: unknown user name value: nobody-here",
        removed("mail_owner", "postfix"),
    ),
    "mail_owner is root": (
        "mail_owner = root",
        "file DIR/main.cf: parameter mail_owner: user root has privileged user ID",
        removed("mail_owner", "postfix"),
    ),
    "default_privs is missing": (
        "default_privs = nobody-here",
        "file DIR/main.cf: parameter default_privs: unknown user name value: nobody-here",
        removed("default_privs", "nobody"),
    ),
    "mydomain is a path": (
        "mydomain = /nowhere/domain",
        "file DIR/main.cf: parameter mydomain: bad parameter value: /nowhere/domain",
        removed("mydomain", "localdomain"),
    ),
    "a number has a letter": (
        "message_size_limit = 10M",
        "bad numerical configuration: message_size_limit = 10M",
        "postconf -c DIR -e message_size_limit=10485760",
    ),
    "a number has a comment": (
        "message_size_limit = 20480000 # 20 MB",
        "bad numerical configuration: message_size_limit = 20480000 # 20 MB",
        "postconf -c DIR -e message_size_limit=20480000",
    ),
    "a number is a word": (
        "message_size_limit = many",
        "bad numerical configuration: message_size_limit = many",
        removed("message_size_limit", "10240000"),
    ),
    "a yes has quotes": (
        'smtputf8_enable = "yes"',
        'bad boolean configuration: smtputf8_enable = "yes"',
        "postconf -c DIR -e smtputf8_enable=yes",
    ),
    "a yes is neither yes nor no": (
        "smtputf8_enable = maybe",
        "bad boolean configuration: smtputf8_enable = maybe",
        removed("smtputf8_enable"),
    ),
    "a default is empty": (
        "default_database_type =",
        "bad string length 0 < 1: default_database_type =",
        removed("default_database_type", "hash"),
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
    lines, message, hint = FATAL[name]
    group = subprocess.check_output(["id", "-g", words["OWNER"]], text=True).strip()
    words = {**words, "GROUP": group}
    directory = write(tmp_path / "postfix", f"{MAIN}{lines}\n", MASTER, words)
    before = (directory / "main.cf").read_bytes()
    assert not starts(directory)
    message = fill(message, {**words, "DIR": str(directory)})
    hint = fill(hint, {"DIR": str(directory)})
    for verb in VERBS:
        assert run(directory, *verb) == (78, "")
        printed = f"no program of Postfix starts: postmap: fatal: {message}"
        assert capsys.readouterr().err == error(printed, hint).replace("error: ", "")
    assert (directory / "main.cf").read_bytes() == before
    fix(directory, error("", hint))
    assert starts(directory)
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (
            "inet_protocols = ipv9",
            'postconf: fatal: unknown inet_protocols value "ipv9" in "ipv9"',
            removed("inet_protocols", "all"),
        ),
        (
            "inet_protocols = IPv4",
            'postconf: fatal: unknown inet_protocols value "IPv4" in "IPv4"',
            "postconf -c DIR -e inet_protocols=ipv4",
        ),
        (
            "mynetworks_style = a",
            'postconf: fatal: unknown mynetworks mask style value "a" in "a"',
            removed("mynetworks_style"),
        ),
        (
            "mynetworks_style = hosts",
            'postconf: fatal: unknown mynetworks mask style value "hosts" in "hosts"',
            "postconf -c DIR -e mynetworks_style=host",
        ),
        (
            "inet_interfaces = host.invalid",
            "postconf: fatal: config variable inet_interfaces: host not found: host.invalid",
            removed("inet_interfaces", "all, and Postfix listens on all interfaces"),
        ),
        (
            "compatibility_level = x",
            'postconf: warning: malformed compatibility level syntax: "x"; postconf: fatal: macro processing'
            " error",
            removed("compatibility_level", "0, and the defaults of old versions apply"),
        ),
    ],
)
def test_a_fatal_error_of_postconf_is_shown(
    line: str,
    message: str,
    hint: str,
    tmp_path: Path,
    words: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = MAIN.replace(
        "compatibility_level = 3.6\n", "smtpd_relay_restrictions = reject_unauth_destination\n"
    )
    directory = write(tmp_path / "postfix", f"{main}{line}\n", MASTER, words)
    assert check(directory) == (78, "")
    printed = error(f"postconf -c {directory} -n: {message}", fill(hint, {"DIR": str(directory)}))
    assert capsys.readouterr().err == printed.replace("error: ", "")
    fix(directory, printed)
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


@pytest.mark.parametrize(
    ("edits", "what", "hint"),
    [
        (
            "-P submission/inet/message_size_limit=10M",
            "message_size_limit = 10M: not a valid number",
            "postconf -c DIR -P submission/inet/message_size_limit=10485760",
        ),
        (
            "-P submission/inet/message_size_limit=big",
            "message_size_limit = big: not a valid number",
            removed("message_size_limit", "10240000", "submission/inet/"),
        ),
        (
            "-e dkimpipe_destination_recipient_limit=1k",
            "dkimpipe_destination_recipient_limit = 1k: not a valid number",
            "postconf -c DIR -e dkimpipe_destination_recipient_limit=1000",
        ),
        (
            "-e 'maximal_queue_lifetime = a week'",
            "maximal_queue_lifetime = a week: not a valid duration",
            removed("maximal_queue_lifetime", "5d"),
        ),
    ],
)
def test_a_number_that_prevents_the_check_is_corrected_or_removed_by_the_hint(
    edits: str,
    what: str,
    hint: str,
    directory: Path,
    words: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = damage(directory, (edits, error(f"{what}; Postfix rejects it", hint)), words)
    assert check(directory) == (78, "")
    said = capsys.readouterr().err
    assert said == printed.replace("error: ", "")
    fix(directory, said)
    check(directory)
    assert capsys.readouterr().err == ""
