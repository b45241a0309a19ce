"""``dkimpipe postfix --sign KIND,... --relay``: applied, applied again, checked, and undone byte for byte."""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from applying import LOGINS, VERIFY, content, edit, overrides, write
from configurations import CONFIGURATIONS, postconf_of
from conftest import PROJECT, Keys, settled

from dkimpipe.admin.cli import run_verb
from dkimpipe.admin.postfix.kinds import KINDS, MEANING

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")

NOTHING = (0, "nothing to change\n", "")
COMBINATIONS = [
    ",".join(chosen)
    for number in range(1, len(KINDS) + 1)
    for chosen in itertools.combinations(KINDS, number)
]
RELAYED = [["--sign", kind, "--relay"] for kind in ("submission", "networks", "bounces")]
CHOICES = [(name, ["--sign", each]) for name in CONFIGURATIONS for each in COMBINATIONS]
CHOICES += [("submission", options) for options in RELAYED]
NETWORKS = "dkimpipe-networks.cidr"


def verb(directory: Path, *options: str) -> tuple[int, str, str]:
    """Run ``dkimpipe postfix -c DIRECTORY OPTIONS``; return status, output and errors."""
    settled(directory / "main.cf")
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        status = run_verb(["postfix", "-c", str(directory), *options])
    settled(directory / "main.cf")
    return status, output.getvalue(), errors.getvalue()


def apply(directory: Path, *options: str) -> str:
    status, output, errors = verb(directory, *options, "--apply")
    assert (status, errors) == (0, "")
    return output


def revert(directory: Path, *options: str) -> str:
    status, output, errors = verb(directory, *options, "--revert")
    assert (status, errors) == (0, "")
    return output


def faults(directory: Path) -> list[str]:
    """Return what the check finds, but for the user and the logins that are not there, and the notes."""
    lines = verb(directory, "--check")[1].splitlines()
    expected = ("dkimpipe: note: ", "hint: ", "dkimpipe: warning: ", "dkimpipe: Postfix is set up")
    missing = ("there is no user", *LOGINS)
    return [
        line for line in lines if not line.startswith(expected) and not any(each in line for each in missing)
    ]


def postfix_check(directory: Path) -> str:
    """Return what ``postfix check`` says of the configuration, but for the directories it lacks."""
    done = subprocess.run(
        ["postconf", "-c", str(directory), "-nx"], capture_output=True, text=True, check=True
    )
    services = subprocess.run(
        ["postconf", "-c", str(directory), "-Mx"], capture_output=True, text=True, check=True
    )
    checked = subprocess.run(
        ["postfix", "-c", str(directory), "check"], capture_output=True, text=True, check=False
    )
    return done.stderr + services.stderr + checked.stderr


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=lambda value: "".join(value))
def test_applied_twice_it_changes_nothing_and_reverted_every_octet_is_as_before(
    name: str, options: list[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", name)
    before = content(directory)
    apply(directory, *options)
    once = content(directory)
    assert once != before
    assert verb(directory, *options, "--apply") == NOTHING
    assert content(directory) == once
    revert(directory)
    assert content(directory) == before


@pytest.mark.parametrize(
    "options", [["--sign", "all"], ["--sign", "networks,bounces"], RELAYED[1]], ids=" ".join
)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_postfix_accepts_the_result_and_the_check_finds_nothing(
    name: str, options: list[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", name)
    clean = postfix_check(directory)
    apply(directory, *options)
    assert postfix_check(directory) == clean
    assert faults(directory) == []


@pytest.mark.parametrize("options", [["--sign", "all"], ["--sign", "networks,bounces"]], ids=" ".join)
def test_what_it_prints_makes_the_same_changes(options: list[str], tmp_path: Path) -> None:
    directory, printed = (write(tmp_path / name, "submission") for name in ("postfix", "printed"))
    apply(directory, *options)
    commands = verb(printed, *options)[1]
    subprocess.run(["sh", "-e"], input=commands, text=True, check=True)
    assert verb(printed, *options) == NOTHING
    names = {str(printed): str(directory)}
    ours, theirs = (sorted(overrides(each)) for each in (directory, printed))
    assert ours == [line.replace(*next(iter(names.items()))) for line in theirs]


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS[1:])), ids=" ".join)
def test_one_kind_after_the_other_in_any_order_ends_in_the_same(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    directory, expected = (write(tmp_path / name, "submission") for name in ("postfix", "expected"))
    before = content(directory)
    apply(expected, "--sign", "all")
    for kind in order:
        apply(directory, "--sign", kind)
        assert faults(directory) == []
    assert verb(directory, "--sign", "all", "--apply") == NOTHING
    results = [
        {line.replace(str(each), "DIR") for line in overrides(each) if not line.startswith("pickup/")}
        for each in (directory, expected)
    ]
    assert results[0] == results[1]
    revert(directory)
    assert content(directory) == before


JOBS = {"sign": ["--sign", "all"], "sign by sendmail": ["--sign", "networks,bounces"], "verify": [*VERIFY]}
TWO = [order for sign in ("sign", "sign by sendmail") for order in itertools.permutations([sign, "verify"])]


@pytest.mark.parametrize("version", ["3.7.11", "3.6.4"])
@pytest.mark.parametrize("undone", ["as applied", "newest first"])
@pytest.mark.parametrize("applied", TWO, ids=", ".join)
def test_with_the_verifier_each_is_undone_without_the_other(
    applied: tuple[str, str], undone: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    monkeypatch.setenv("PATH", postconf_of(version, tmp_path)["PATH"])
    for job in applied:
        apply(directory, *JOBS[job])
    for job in applied:
        assert verb(directory, *JOBS[job], "--apply") == NOTHING
    assert faults(directory) == []
    for job in applied if undone == "as applied" else reversed(applied):
        assert faults(directory) == []
        revert(directory, *(["--verify"] if job == "verify" else []))
    assert content(directory) == before


def test_while_local_mail_is_signed_the_verifier_comes_back_by_smtp_too(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, *VERIFY)
    assert "--relay" not in (directory / "master.cf").read_text()
    apply(directory, "--sign", "local")
    assert (directory / "master.cf").read_text().count("--relay=127.0.0.1:") == 2
    assert apply(directory, *VERIFY) == "nothing to change\n"


def test_before_3_7_the_tables_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    monkeypatch.setenv("PATH", postconf_of("3.6.4", tmp_path)["PATH"])
    apply(directory, "--sign", "all")
    names = {path.name for path in directory.iterdir() if path.is_file()}
    assert names == {"main.cf", "master.cf", NETWORKS, "dkimpipe-notices.regexp", "dkimpipe-status.regexp"}
    assert "inline:" not in (directory / "master.cf").read_text()
    assert "{{" not in (directory / "master.cf").read_text()
    assert faults(directory) == []
    assert verb(directory, "--sign", "all", "--apply") == NOTHING
    revert(directory)
    assert content(directory) == before


def test_without_ipv4_the_listener_is_on_ipv6(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, ["-e", "inet_protocols=ipv6"])
    before = content(directory)
    apply(directory, "--sign", "all")
    text = (directory / "master.cf").read_text()
    assert "\n[::1]:10028" in text or "\n[::1]:100" in text
    assert "--relay=[::1]:10" in text
    assert "mynetworks=[::1]/128" in text
    assert faults(directory) == []
    assert postfix_check(directory) == ""
    revert(directory)
    assert content(directory) == before


@pytest.fixture
def port_10028() -> Iterator[None]:
    """The port of the listener, taken: by this test, or by something else on this machine."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 10028)))
        yield


def test_a_port_in_use_is_not_taken(port_10028: None, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, ["-M", "127.0.0.1:10029/inet=127.0.0.1:10029 inet n - n - - smtpd"])
    edit(directory, ["-M", "[::1]:10030/inet=[::1]:10030 inet n - n - - smtpd"])
    apply(directory, "--sign", "local")
    port = int((directory / "master.cf").read_text().partition("--relay=127.0.0.1:")[2].split()[0])
    assert port > 10030


def test_two_instances_do_not_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of them runs, so both ports are free."""
    first, second = (write(tmp_path / name, "submission") for name in ("postfix", "postfix-out"))
    program = tmp_path / "postconf"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] || set -- -c {first} "$@"\nexec {shutil.which("postconf")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/bin")
    edit(first, ["-e", f"multi_instance_directories={second}"])
    for directory in (first, second):
        apply(directory, "--sign", "all")
    relays = [
        (each / "master.cf").read_text().partition("--relay=")[2].split()[0] for each in (first, second)
    ]
    assert len({*relays}) == 2


# The listener of DKIMproxy, as its documentation has it.
DKIMPROXY = (
    "127.0.0.1:{port} inet n - n - 10 smtpd -o content_filter="
    " -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks"
    " -o smtpd_helo_restrictions= -o smtpd_client_restrictions= -o smtpd_sender_restrictions="
    " -o smtpd_recipient_restrictions=permit_mynetworks,reject -o mynetworks=127.0.0.0/8"
    " -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_listener_that_is_there_is_completed_and_used(host: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    conf = tmp_path / "conf"
    conf.write_text(f"sender_map {tmp_path}/senders\nrelay 127.0.0.1:10028\n")
    line = DKIMPROXY.format(port=10028).replace("127.0.0.1:", f"{host}:", 1)
    argv = f"/usr/bin/dkimpipe --conf-file={conf} -f ${{sender}} -- ${{recipient}}"
    edit(
        directory,
        ["-M", f"{host}:10028/inet={line}"],
        ["-M", f"dkimpipe/unix=dkimpipe unix - n n - 4 pipe flags=q null_sender= user=nobody argv={argv}"],
        ["-e", "always_bcc=archive@example.com"],
    )
    before = content(directory)
    apply(directory, "--sign", "all")
    text = (directory / "master.cf").read_text()
    assert "--relay" not in text
    assert text.count(":10028") == 1
    assert verb(directory, "--sign", "all", "--apply") == NOTHING
    words = f"{host}:10028/inet/receive_override_options"
    assert f"{words} = no_unknown_recipient_checks,no_header_body_checks,no_milters" in overrides(directory)
    assert overrides(directory) >= {
        f"{host}:10028/inet/cleanup_service_name = dkimpipe-return",
        f"{host}:10028/inet/message_size_limit = 20496384",
        f"{host}:10028/inet/mynetworks = 127.0.0.0/8",
        "dkimpipe-return/unix/message_size_limit = 20496384",
        "dkimpipe-return/unix/enable_original_recipient = no",
    }
    revert(directory)
    assert content(directory) == before


def test_duplicates_are_prevented_only_where_aliases_apply(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, "--sign", "networks,bounces")
    assert "dkimpipe-return" not in (directory / "master.cf").read_text()
    edit(directory, ["-e", "virtual_alias_maps=static:postmaster"])
    (fault, _) = faults(directory)
    assert fault.startswith("dkimpipe: error: dkimpipe-return/unix: aliases and always_bcc apply before")
    apply(directory)
    assert faults(directory) == []


# Lists of port 25 that are set already, and where our table comes then.
TABLE = f"check_client_access,cidr:DIR/{NETWORKS}"
BEFORE = {
    "none": ([], f"smtpd_end_of_data_restrictions = {TABLE}"),
    "one": (
        ["smtpd_end_of_data_restrictions=check_policy_service,unix:private/policy"],
        f"smtpd_data_restrictions = {TABLE}",
    ),
    "all": (
        [
            "smtpd_end_of_data_restrictions=reject_multi_recipient_bounce",
            "smtpd_data_restrictions=reject_unauth_pipelining",
            "smtpd_sender_restrictions=reject_non_fqdn_sender",
            "smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination",
        ],
        f"smtpd_end_of_data_restrictions = {TABLE},reject_multi_recipient_bounce",
    ),
}


@pytest.mark.parametrize(("lists", "expected"), BEFORE.values(), ids=BEFORE)
def test_the_table_goes_where_the_list_is_empty(lists: list[str], expected: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, *(["-P", f"smtp/inet/{each}"] for each in lists))
    before = content(directory)
    apply(directory, "--sign", "networks")
    assert f"smtp/inet/{expected.replace('DIR', str(directory))}" in overrides(directory)
    assert faults(directory) == []
    revert(directory)
    assert content(directory) == before


def test_a_list_with_spaces_in_it_is_left_alone(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    text = (directory / "master.cf").read_text()
    first = "smtp      inet  n       -       y       -       -       smtpd\n"
    assert first in text
    setting = (
        "  -o { smtpd_end_of_data_restrictions = check_sender_access inline:{ {a@example.com = DUNNO} } }\n"
    )
    (directory / "master.cf").write_text(text.replace(first, first + setting))
    before = content(directory)
    apply(directory, "--sign", "networks")
    kept = "check_sender_access inline:{ {a@example.com = DUNNO} }"
    assert f"smtp/inet/smtpd_end_of_data_restrictions = {kept}" in overrides(directory)
    expected = f"smtp/inet/smtpd_data_restrictions = {TABLE}".replace("DIR", str(directory))
    assert expected in overrides(directory)
    revert(directory)
    assert content(directory) == before


def test_where_all_lists_have_spaces_it_says_so(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    lists = ("end_of_data", "data", "sender", "recipient")
    for each in lists:
        edit(
            directory,
            ["-e", f"smtpd_{each}_restrictions=check_sender_access inline:{{ {{a@example.com = DUNNO}} }}"],
        )
    before = content(directory)
    names = ", ".join(f"smtpd_{each}_restrictions" for each in lists)
    assert verb(directory, "--sign", "networks", "--apply") == (
        78,
        "",
        "dkimpipe: --sign networks: smtp/inet: there is no list for check_client_access:"
        f" {names}\nhint: take the spaces out of one\n",
    )
    assert content(directory) == before


# What mynetworks may be: the table, or why there is none.
STRANGERS = "list your own networks only"
MYNETWORKS = {
    "as Debian has it": (
        "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128",
        "127.0.0.0/8 F\n::ffff:7f00:0/104 F\n::1/128 F",
    ),
    "one that is excluded": ("!192.0.2.7, 192.0.2.0/28", "192.0.2.7/32 DUNNO\n192.0.2.0/28 F"),
    "private": ("10.0.0.0/8 [fd00::]/8", "10.0.0.0/8 F\nfd00::/8 F"),
    "host bits": ("192.0.2.9/28", "192.0.2.0/28 F"),
    "a table": ("127.0.0.1 hash:/etc/postfix/nets", "hash:/etc/postfix/nets is not a network"),
    "a name": ("127.0.0.1 .example.com", ".example.com is not a network"),
    "a file": ("/etc/postfix/nets", "/etc/postfix/nets is not a network"),
    "everyone": ("0.0.0.0/0", "0.0.0.0/0 includes strangers"),
    "half of everyone": ("127.0.0.1 0.0.0.0/1", "0.0.0.0/1 includes strangers"),
    "everyone by IPv6": ("[::]/0", "::/0 includes strangers"),
    "a whole class A": ("54.0.0.0/8", "54.0.0.0/8 includes strangers"),
}


@pytest.mark.parametrize(("value", "expected"), MYNETWORKS.values(), ids=MYNETWORKS)
def test_the_table_lists_mynetworks(value: str, expected: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, ["-e", f"mynetworks={value}"])
    before = content(directory)
    status, _, errors = verb(directory, "--sign", "networks", "--apply")
    if status:
        assert errors.splitlines()[0].startswith(f"dkimpipe: --sign networks: mynetworks: {expected}")
        assert content(directory) == before
        apply(directory)  # all else is signed
        assert not (directory / NETWORKS).exists()
    else:
        assert (directory / NETWORKS).read_text() == expected.replace(" F", " FILTER dkimpipe:dummy") + "\n"
        assert [line for line in faults(directory) if "host bits" not in line] == []


def test_networks_of_neighbours_are_not_signed_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the administrator has listed them: mynetworks_style = subnet has them all."""
    directory = write(tmp_path / "postfix", "internet site")
    edit(directory, ["-X", "mynetworks"], ["-e", "mynetworks_style=subnet"])
    program = tmp_path / "postconf"
    program.write_text(
        f'#!/bin/sh\n{shutil.which("postconf")} "$@" | sed "s,^mynetworks = .*,mynetworks = 54.1.2.0/24,"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/bin")
    assert verb(directory, "--sign", "networks", "--apply") == (
        78,
        "",
        "dkimpipe: --sign networks: mynetworks_style = subnet: 54.1.2.0/24 includes strangers\n"
        "hint: set mynetworks, and list your own networks only\n",
    )


def test_services_that_differ_in_mynetworks_are_left_alone(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    second = "192.0.2.1:smtp inet n - y - - smtpd -o mynetworks=192.0.2.0/28"
    edit(directory, ["-M", f"192.0.2.1:smtp/inet={second}"])
    before = content(directory)
    status, _, errors = verb(directory, "--sign", "networks", "--apply")
    assert (status, content(directory)) == (78, before)
    assert errors.startswith("dkimpipe: --sign networks: 192.0.2.1:smtp/inet and smtp/inet differ in")


def test_behind_postscreen_it_is_the_service_pass(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    for line in ("smtp/inet=smtp inet n - y - 1 postscreen", "smtpd/pass=smtpd pass - - y - - smtpd"):
        edit(directory, ["-M", line])
    before = content(directory)
    apply(directory, "--sign", "all")
    expected = f"smtpd/pass/smtpd_end_of_data_restrictions = {TABLE}".replace("DIR", str(directory))
    assert expected in overrides(directory)
    assert faults(directory) == []
    revert(directory)
    assert content(directory) == before


OTHERS = {
    "in main.cf": ["-e", "content_filter=amavis:[127.0.0.1]:10024"],
    "at port 25": ["-P", "smtp/inet/content_filter=amavis:[127.0.0.1]:10024"],
    "before the queue": ["-P", "smtp/inet/smtpd_proxy_filter=127.0.0.1:10024"],
    "by a table": ["-e", "smtpd_client_restrictions=check_client_access,static:{FILTER amavis:x}"],
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_filter_keeps_mail_of_the_networks(other: list[str], tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    edit(directory, ["-M", "amavis/unix=amavis unix - - n - 2 smtp"], other)
    before = content(directory)
    status, _, errors = verb(directory, "--sign", "networks", "--apply")
    assert (status, content(directory)) == (78, before)
    assert errors.startswith("dkimpipe: --sign networks: smtp/inet: ")
    assert "gets this mail, and a message can have only one filter\nhint: sign it where" in errors


# Interrupted, or changed since.


def test_killed_at_any_file_it_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    monkeypatch.setenv("PATH", postconf_of("3.6.4", tmp_path)["PATH"])
    for written in range(5):
        apply(directory, "--sign", "all")
        (backup,) = directory.glob("dkimpipe-backup-*")
        order = ["dkimpipe-status.regexp", "dkimpipe-notices.regexp", NETWORKS, "main.cf", "master.cf"]
        for name in order[written:]:  # not yet written
            (directory / name).unlink()
            if (backup / "before" / name).exists():
                shutil.copy2(backup / "before" / name, directory / name)
        revert(directory)
        assert content(directory) == before


def test_a_table_that_is_still_used_stays_but_signs_nothing(tmp_path: Path) -> None:
    """Without the table, smtpd(8) would refuse all mail; with FILTER, it would stay in the queue."""
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, "--sign", "networks")
    name = "smtp/inet/smtpd_end_of_data_restrictions"
    table = f"cidr:{directory / NETWORKS}"
    edit(directory, ["-P", f"{name}=check_client_access,{table},reject_multi_recipient_bounce"])
    output = revert(directory)
    assert f"{directory / NETWORKS} is still used, and now empty" in output
    found = subprocess.run(
        ["postmap", "-c", str(directory), "-q", "127.0.0.1", table], capture_output=True, check=False
    )
    assert (found.stdout, found.stderr) == (b"", b"")


# SMTPUTF8: the EHLO keywords withheld before, and after ``--relay``; nothing if check and apply leave them.

SUBMITTED = "submission/inet/content_filter"
DISCARDED = "submission/inet/smtpd_discard_ehlo_keywords"
WITHHELD = {
    "what apply wrote": ("dsn,smtputf8,silent-discard", "dsn,silent-discard"),
    "with words of the administrator": (
        "chunking,dsn,smtputf8,silent-discard",
        "chunking,dsn,silent-discard",
    ),
    "the administrator's": ("smtputf8,dsn", ""),
    "nothing": ("silent-discard", "silent-discard,dsn"),
}


@pytest.mark.parametrize(("before", "after"), WITHHELD.values(), ids=WITHHELD)
def test_with_a_relay_smtputf8_is_offered(before: str, after: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, "--relay")
    assert f"{DISCARDED} = chunking,dsn,silent-discard" in overrides(directory)
    edit(directory, ["-P", f"{DISCARDED}={before}"])
    hint = f"hint: postconf -c {directory} -P {DISCARDED}={after}\n"
    assert (hint in verb(directory, "--check")[1]) == bool(after)
    apply(directory)
    assert f"{DISCARDED} = {after or before}" in overrides(directory)


WITHHELD_TOO, NOT_WITHHELD = "chunking,dsn,smtputf8,silent-discard", "chunking,dsn,silent-discard"
SPAM = "spam/unix=spam unix - n n - 2 pipe flags=q null_sender= user=nobody argv=/usr/bin/spamc -e"
SENDERS = "-f ${sender} -- ${recipient}"
# Edits, another relay, and what submission withholds after another apply.
ELSEWHERE = {
    "a relay on another host": ([["-MX", "LISTENER/inet"]], "192.0.2.1:25", WITHHELD_TOO),
    "a listener without SMTPUTF8": ([["-P", "LISTENER/inet/smtputf8_enable=no"]], "", WITHHELD_TOO),
    "no SMTPUTF8 in main.cf": ([["-e", "smtputf8_enable=no"]], "", NOT_WITHHELD),
    "another filter, by sendmail(1)": (
        [["-M", f"{SPAM} /opt/dkimpipe/bin/dkimpipe {SENDERS}"], ["-P", f"{SUBMITTED}=spam:dummy"]],
        "",
        WITHHELD_TOO,
    ),
    "another filter, by SMTP": (
        [
            ["-M", f"{SPAM} /opt/dkimpipe/bin/dkimpipe --relay=LISTENER {SENDERS}"],
            ["-P", f"{SUBMITTED}=spam:dummy"],
        ],
        "",
        NOT_WITHHELD,
    ),
}


@pytest.mark.parametrize(("edits", "other", "expected"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_the_way_back_does_not_take_is_not_offered(
    edits: list[list[str]], other: str, expected: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, "--relay")
    master = directory / "master.cf"
    own = master.read_text().partition("--relay=")[2].split()[0]
    edit(directory, *([option, text.replace("LISTENER", own)] for option, text in edits))
    master.write_text(master.read_text().replace(f"--relay={own}", f"--relay={other or own}"))
    edit(directory, ["-P", f"{DISCARDED}=chunking"])
    apply(directory)
    assert f"{DISCARDED} = {expected}" in overrides(directory)


def test_the_fragment_for_the_relay_says_the_same(tmp_path: Path) -> None:
    """Apart from what apply adds for many recipients, and the port."""
    directory, fragment = write(tmp_path / "postfix", "submission"), tmp_path / "fragment"
    edit(directory, ["-e", "always_bcc=a@example.com"], ["-X", "message_size_limit"], ["-PX", DISCARDED])
    apply(directory, "--sign", "all")
    fragment.mkdir()
    (fragment / "main.cf").touch()
    shutil.copy(PROJECT / "postfix" / "relay.master.cf", fragment / "master.cf")
    port = (directory / "master.cf").read_text().partition("--relay=127.0.0.1:")[2].split()[0]
    services = (f"127.0.0.1:{port}/", "pickup/", "submission/")
    theirs = {line.replace("127.0.0.1:10028/", f"127.0.0.1:{port}/") for line in overrides(fragment)}
    ours = {line for line in overrides(directory) if line.startswith(services)}
    assert {line for line in theirs if line.startswith(services)} - ours == set()
    assert {line for line in ours - theirs if line.startswith(services[0])} == {
        f"127.0.0.1:{port}/inet/smtpd_recipient_limit = 1000000"
    }


# What explain says of an address: the options of apply, and the lines after the result.
NOT = {kind: f"not signed: {kind}: {MEANING[kind]}" for kind in KINDS}
EXPLAINED = {
    "not set up": (None, ["but DIR/master.cf passes no mail to the filter: dkimpipe check --postfix"]),
    "as in a new installation": ([], ["if it is sent by: submission, networks, bounces", NOT["local"]]),
    "local only": (
        ["--sign", "local"],
        ["if it is sent by: submission, local", NOT["networks"], NOT["bounces"]],
    ),
    "all": (["--sign", "all"], ["if it is sent by: submission, networks, bounces, local"]),
}


@pytest.mark.parametrize(("options", "expected"), EXPLAINED.values(), ids=EXPLAINED)
def test_explain_says_of_which_kinds_mail_is_signed(
    options: list[str] | None, expected: list[str], keys: Keys, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    if options is not None:
        apply(directory, *options)
    assert explained(directory, keys) == [line.replace("DIR", str(directory)) for line in expected]


def test_explain_without_postfix_says_what_it_depends_on(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    text = "that depends on the kind of mail, submission, networks, bounces, local; Postfix was not read: "
    assert explained(tmp_path, keys) == [f"{text}cannot run postconf: No such file or directory"]


def explained(directory: Path, keys: Keys) -> list[str]:
    """Return what ``explain`` says of a signed address after the result, without indentation."""
    senders = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n", "kinds")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        options = [f"--sender_map={senders}", f"--conf_file={senders.with_name('none')}"]
        senders.with_name("none").touch()
        assert run_verb(["explain", "-c", str(directory), *options, "shop@example.com"]) == 0
    return [line.strip() for line in output.getvalue().partition("\nresult: ")[2].splitlines()[1:]]
