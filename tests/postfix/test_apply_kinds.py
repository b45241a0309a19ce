"""``dkimpipe postfix --sign KIND,... --relay``: applied, applied again, checked, and undone byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import in_memory
import pytest
from applying import (
    NETWORKS,
    NOTHING,
    apply,
    content,
    edit,
    faults,
    overrides,
    postfix_check,
    revert,
    said,
    write,
)
from configurations import CONFIGURATIONS, postconf_of
from conftest import PROJECT, Keys
from dkimproxy_master import LISTENER

from dkimpipe.admin.postfix.kinds import KINDS, MEANING

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")

COMBINATIONS = [
    ",".join(chosen)
    for number in range(1, len(KINDS) + 1)
    for chosen in itertools.combinations(KINDS, number)
]
RELAYED = [["--sign", kind, "--relay"] for kind in ("submission", "networks", "bounces")]
CHOICES = [(name, ["--sign", each]) for name in CONFIGURATIONS for each in COMBINATIONS]
CHOICES += [("submission", options) for options in RELAYED]


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=lambda value: "".join(value))
def test_applied_twice_it_changes_nothing_and_reverted_every_octet_is_as_before(
    name: str, options: list[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", name)
    before = content(directory)
    apply(directory, *options)
    once = content(directory)
    assert once != before
    assert said(directory, *options, "--apply") == NOTHING
    assert content(directory) == once
    revert(directory)
    assert content(directory) == before


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``postfix check`` says of each configuration before anything is applied."""
    make = tmp_path_factory.mktemp
    return {name: postfix_check(write(make("clean") / "postfix", name)) for name in CONFIGURATIONS}


@pytest.mark.parametrize(
    "options", [["--sign", "all"], ["--sign", "networks,bounces"], RELAYED[1]], ids=" ".join
)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_postfix_accepts_the_result_and_the_check_finds_nothing(
    name: str, options: list[str], clean: dict[str, str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", name)
    apply(directory, *options)
    assert postfix_check(directory) == clean[name]
    assert faults(directory) == []


@pytest.mark.parametrize("options", [["--sign", "all"], ["--sign", "networks,bounces"]], ids=" ".join)
def test_what_it_prints_makes_the_same_changes(options: list[str], tmp_path: Path) -> None:
    directory, printed = (write(tmp_path / name, "submission") for name in ("postfix", "printed"))
    apply(directory, *options)
    commands = said(printed, *options)[1]
    subprocess.run(["sh", "-e"], input=commands, text=True, check=True)
    assert said(printed, *options) == NOTHING
    names = {str(printed): str(directory)}
    ours, theirs = (sorted(overrides(each)) for each in (directory, printed))
    assert ours == [line.replace(*next(iter(names.items()))) for line in theirs]


def services(directory: Path) -> set[str]:
    """Return the -o parameters, but for those of pickup(8)."""
    lines = {line.replace(str(directory), "DIR") for line in overrides(directory)}
    return {line for line in lines if not line.startswith("pickup/")}


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    directory = write(tmp_path_factory.mktemp("all") / "postfix", "submission")
    apply(directory, "--sign", "all")
    return services(directory)


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS[1:])), ids=" ".join)
def test_one_kind_after_the_other_in_any_order_ends_in_the_same(
    order: tuple[str, ...], all_at_once: set[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    for kind in order:
        apply(directory, "--sign", kind)
        assert faults(directory) == []
    assert said(directory, "--sign", "all", "--apply") == NOTHING
    assert services(directory) == all_at_once
    revert(directory)
    assert content(directory) == before


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
    assert said(directory, "--sign", "all", "--apply") == NOTHING
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


@pytest.mark.alone  # other tests look for the same port
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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_listener_that_is_there_is_completed_and_used(host: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    conf = tmp_path / "conf"
    conf.write_text(f"sender_map {tmp_path}/senders\nrelay 127.0.0.1:10028\n")
    line = " ".join(LISTENER.split()).replace("127.0.0.1:", f"{host}:", 1)
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
    assert said(directory, "--sign", "all", "--apply") == NOTHING
    words = f"{host}:10028/inet/receive_override_options"
    assert f"{words} = no_unknown_recipient_checks,no_header_body_checks,no_milters" in overrides(directory)
    assert overrides(directory) >= {
        f"{host}:10028/inet/cleanup_service_name = dkimpipe-return",
        f"{host}:10028/inet/message_size_limit = 20576384",
        f"{host}:10028/inet/mynetworks = 127.0.0.0/8",
        "dkimpipe-return/unix/message_size_limit = 20576384",
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
    assert (hint in said(directory, "--check")[1]) == bool(after)
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
    limits = ("recipient_limit", "soft_error_limit", "hard_error_limit")
    assert {line for line in ours - theirs if line.startswith(services[0])} == {
        f"127.0.0.1:{port}/inet/smtpd_{each} = 1000000" for each in limits
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
    senders.with_name("none").touch()
    options = [f"--sender_map={senders}", f"--conf_file={senders.with_name('none')}"]
    done = in_memory.verb("explain", "-c", str(directory), *options, "shop@example.com")
    assert done.status == 0
    return [line.strip() for line in done.stdout.decode().partition("\nresult: ")[2].splitlines()[1:]]
