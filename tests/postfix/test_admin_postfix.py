"""``dkimpipe postfix`` on configurations of all sorts: applied, applied again, checked, undone."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from configurations import CONFIGURATIONS, SHIPPED, SUBMISSION, postconf_of
from conftest import MAIN, PROJECT, Done

import postfix as harness
from dkimpipe.admin.postfix.filter_service import ENVELOPE

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")


@pytest.fixture(params=CONFIGURATIONS)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A configuration directory, comments and all."""
    return write(tmp_path / "postfix", request.param)


def write(directory: Path, name: str) -> Path:
    main, master = CONFIGURATIONS[name]
    directory.mkdir()
    ours = {line.partition(" ")[0] for line in main.splitlines()}
    shipped = (SHIPPED / "main.cf.debian").read_text().splitlines(keepends=True)
    kept = [line for line in shipped if line.partition("=")[0].strip() not in ours]  # none stands twice
    (directory / "main.cf").write_text("".join(kept) + "# ours\n" + main)
    (directory / "master.cf").write_text((SHIPPED / "master.cf.dist").read_text() + master)
    (directory / "master.cf").chmod(0o640)
    return directory


def verb(directory: Path, *options: str, env: dict[str, str] | None = None) -> Done:
    """Run ``dkimpipe postfix -c DIRECTORY OPTIONS``."""
    os.utime(directory / "main.cf", (0, 0))  # postconf(1) waits until it is two seconds old
    command = [sys.executable, "-IS", str(MAIN), "postfix", "-c", str(directory), *options]
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return octets and mode of all files."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode) for path in files}


def test_without_option_it_only_prints(directory: Path) -> None:
    before = content(directory)
    done = verb(directory)
    assert done.status == 0
    assert content(directory) == before


def test_what_it_prints_makes_the_changes(directory: Path) -> None:
    commands = verb(directory).stdout.decode()
    subprocess.run(["sh", "-e"], input=commands, text=True, check=True)
    assert verb(directory).stdout == b"nothing to change\n"


def test_applied_a_second_time_it_changes_nothing(directory: Path) -> None:
    assert verb(directory, "--apply").status == 0
    once = content(directory)
    assert verb(directory, "--apply").stdout == b"nothing to change\n"
    assert content(directory) == once


def test_reverted_every_octet_and_mode_is_as_before(directory: Path) -> None:
    before = content(directory)
    verb(directory, "--apply")
    assert content(directory) != before
    assert verb(directory, "--revert").status == 0
    assert content(directory) == before


def test_postfix_accepts_what_it_wrote(directory: Path) -> None:
    verb(directory, "--apply")
    done = subprocess.run(
        ["postconf", "-c", str(directory), "-n"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    done = subprocess.run(
        ["postconf", "-c", str(directory), "-P"], capture_output=True, text=True, check=True
    )
    lines = set(done.stdout.splitlines())
    assert lines >= {
        "submission/inet/syslog_name = postfix/submission",
        "submission/inet/smtpd_tls_security_level = encrypt",
        "submission/inet/smtpd_sasl_auth_enable = yes",
        "submission/inet/smtpd_discard_ehlo_keywords = chunking,dsn,smtputf8,silent-discard",
        "submission/inet/receive_override_options = no_unknown_recipient_checks,no_address_mappings",
        "submission/inet/content_filter = dkimpipe:dummy",
        "submission/inet/message_size_limit = 20463616",
        "submission/inet/cleanup_service_name = dkimpipe-cleanup",
        "submissions/inet/content_filter = dkimpipe:dummy",
        "submissions/inet/smtpd_tls_wrappermode = yes",
        "submissions/inet/cleanup_service_name = dkimpipe-cleanup",
        "dkimpipe-cleanup/unix/always_add_missing_headers = yes",
    }
    assert "  # mail from our users\n" in (directory / "master.cf").read_text()


def test_changed_since_it_is_undone_setting_by_setting(tmp_path: Path) -> None:
    """What the owner has written since stays, and what he has changed of ours is his."""
    directory = write(tmp_path / "postfix", "submission")
    expected = write(tmp_path / "expected", "submission")
    verb(directory, "--apply")
    since = [
        ["-e", "mynetworks=127.0.0.1"],
        ["-e", "header_size_limit=2000000"],
        ["-P", "submission/inet/smtpd_tls_auth_only=yes"],
        ["-P", "submissions/inet/message_size_limit=5000"],
    ]
    for edit in since:
        subprocess.run(["postconf", "-c", str(directory), *edit], check=True)
        subprocess.run(["postconf", "-c", str(expected), *edit], check=True)
    (expected / "master.cf").chmod(0o640)
    done = verb(directory, "--revert")
    assert done.status == 0
    assert f"{directory} was changed since dkimpipe-backup-" in done.stdout.decode()
    assert settings(directory) == settings(expected)
    assert [path.stat().st_mode for path in sorted(directory.iterdir())] == [
        path.stat().st_mode for path in sorted(expected.iterdir())
    ]


def settings(directory: Path) -> list[str]:
    """Return all that main.cf and master.cf say."""
    os.utime(directory / "main.cf", (0, 0))
    text = "".join(
        subprocess.run(
            ["postconf", "-c", str(directory), option], capture_output=True, text=True, check=True
        ).stdout
        for option in ("-n", "-M", "-P")
    )
    return sorted(text.replace(str(directory), "DIRECTORY").splitlines())


def test_applied_twice_with_changes_between_all_is_undone(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    before = content(directory)
    verb(directory, "--apply")
    with (directory / "master.cf").open("a") as master:
        master.write(SUBMISSION)
    verb(directory, "--apply")
    assert len(list(directory.glob("dkimpipe-backup-*"))) == 2
    assert verb(directory, "--revert").status == 0
    text = (directory / "master.cf").read_text()
    assert "dkimpipe" not in text
    assert "submission inet" in text
    assert (directory / "main.cf").read_bytes() == before["main.cf"][0]


def test_never_applied_there_is_nothing_to_revert(directory: Path) -> None:
    done = verb(directory, "--revert")
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.startswith(f"dkimpipe: no backup in {directory}\n")


# What may go wrong on the way, and must not cost main.cf or master.cf.


def test_without_room_for_the_backup_nothing_is_changed(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    command = [sys.executable, "-IS", str(MAIN), "postfix", "-c", str(directory), "--apply"]
    limited = ["prlimit", "--fsize=4000", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert (done.returncode, content(directory)) == (78, before)
    assert done.stderr.startswith(f"dkimpipe: nothing was changed: {directory}/.dkimpipe-backup-")
    assert verb(directory, "--revert").status == 78
    assert content(directory) == before


def test_killed_while_it_makes_the_backup(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    (directory / ".dkimpipe-backup-20260101T000000" / "before").mkdir(parents=True)
    assert verb(directory, "--revert").stderr.startswith(f"dkimpipe: no backup in {directory}\n")
    assert content(directory) == before


def test_killed_between_the_two_files(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    verb(directory, "--apply")
    (backup,) = directory.glob("dkimpipe-backup-*")
    shutil.copy2(backup / "before" / "main.cf", directory / "main.cf")
    assert verb(directory, "--revert").status == 0
    assert content(directory) == before


@pytest.mark.parametrize("part", ["before/main.cf", "before/master.cf", "after/main.cf", "after/master.cf"])
def test_a_backup_that_is_not_whole_is_not_used(tmp_path: Path, part: str) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    (backup,) = directory.glob("dkimpipe-backup-*")
    (backup / part).unlink()
    state = content(directory)
    done = verb(directory, "--revert")
    assert (done.status, content(directory)) == (78, state)
    assert done.stderr == f"dkimpipe: {backup}: {backup / part} is missing\nhint: move this directory away\n"


def test_what_others_call_so_is_no_backup(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    verb(directory, "--apply")
    shutil.copy2(directory / "main.cf", directory / "dkimpipe-backup-notes")
    (directory / "dkimpipe-backup-20990101T000000").symlink_to("/srv")
    assert verb(directory, "--revert").status == 0
    (directory / "dkimpipe-backup-notes").unlink()
    (directory / "dkimpipe-backup-20990101T000000").unlink()
    assert content(directory) == before


def test_a_link_in_place_of_main_cf_is_left_alone(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    (directory / "main.cf").rename(tmp_path / "main.cf")
    (directory / "main.cf").symlink_to(tmp_path / "main.cf")
    done = verb(directory, "--apply")
    assert (done.status, (directory / "main.cf").is_symlink()) == (78, True)
    assert done.stderr.startswith(f"dkimpipe: {directory}/main.cf is a symbolic link\n")


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (["-P", "submission/inet/content_filter="], "submission/inet/content_filter: nothing is signed"),
        (["-PX", "submissions/inet/content_filter"], "submissions/inet/content_filter: nothing is signed"),
        (["-P", "pickup/unix/receive_override_options=no_milters"], "pickup/unix/receive_override_options: "),
        (["-MX", "dkimpipe/unix"], "dkimpipe/unix: there is no filter"),
        (["-MX", "dkimpipe-cleanup/unix"], "dkimpipe-cleanup/unix: there is no cleanup service"),
        (
            ["-P", "submissions/inet/local_header_rewrite_clients=static:all"],
            "submissions/inet/local_header_rewrite_clients: names such as",
        ),
        (["-e", "dkimpipe_time_limit=60s"], "dkimpipe_time_limit: "),
        (["-X", "dkimpipe_destination_recipient_limit"], "dkimpipe_destination_recipient_limit: "),
        (["-e", "message_size_limit=1000000"], "submission/inet/message_size_limit: "),
        (["-M", "dkimpipe/unix=dkimpipe unix - n n - 4 pipe user=dkimpipe argv=/bin/cat"], "dkimpipe/unix: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check_finds_what_was_changed(tmp_path: Path, damage: list[str], finding: str) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    subprocess.run(["postconf", "-c", str(directory), *damage], check=True)
    done = verb(directory, "--check")
    assert done.status == 78
    assert f"dkimpipe: error: {finding}" in done.stdout.decode()


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to become the filter's user")
def test_check_runs_the_filter_as_its_user(tmp_path: Path) -> None:
    with harness.shared_directory() as shared:
        shutil.copytree(PROJECT / "dkimpipe", shared / "dkimpipe")
        (shared / "senders").write_text("example.com dkim(s=a,key=/nowhere)\n")
        directory = write(tmp_path / "postfix", "submission")
        (shared / "conf").write_text(f"sender_map {shared}/senders\n")
        argv = f"/usr/bin/python3 -IS {shared}/dkimpipe/__main__.py --conf_file {shared}/conf"
        line = f"dkimpipe unix - n n - 4 pipe user=nobody argv={argv} {ENVELOPE}"
        subprocess.run(["postconf", "-c", str(directory), "-M", f"dkimpipe/unix={line}"], check=True)
        verb(directory, "--apply")
        status, output, _ = verb(directory, "--check")
        assert (status, output.splitlines()[-1]) == (0, b"dkimpipe: Postfix is set up")
        (shared / "senders").chmod(0o600)
        done = verb(directory, "--check")
        assert done.status == 78
        assert (
            f"as user nobody: 4.3.5 dkimpipe: map {shared}/senders: Permission denied" in done.stdout.decode()
        )


# The cleanup service of mail that is signed: made like the one that is there, or the owner's is taken.

SUBCLEANUP = "subcleanup unix n - y - 0 cleanup -o header_checks=regexp:/x\n"
OURS, SUBMISSIONS = "cleanup_service_name=dkimpipe-cleanup", "submissions/inet/cleanup_service_name="
# What is edited first, by postconf or as lines for master.cf, and all that is then set for cleanup services.
CLEANUPS: dict[str, tuple[list[list[str]], str, set[str]]] = {
    "Debian's": (
        [],
        "",
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            f"submissions/inet/{OURS}",
        },
    ),
    "not chrooted, private or not, limited, with options": (
        [["-M", "cleanup/unix=cleanup unix - n n 9 7 cleanup -v -o {header_checks=regexp:{{/a b/ WARN}}}"]],
        "",
        {
            "dkimpipe-cleanup unix - n n 9 7 cleanup -v -o {header_checks=regexp:{{/a b/ WARN}}}"
            " -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            f"submissions/inet/{OURS}",
        },
    ),
    "told to add nothing": (
        [["-P", "cleanup/unix/always_add_missing_headers=no"], ["-P", "cleanup/unix/syslog_name=x"]],
        "",
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o syslog_name=x -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            f"submissions/inet/{OURS}",
        },
    ),
    "with another name": (
        [["-e", "cleanup_service_name=clean"], ["-M", "clean/unix=clean unix n - n - 3 cleanup"]],
        "",
        {
            "dkimpipe-cleanup unix n - n - 3 cleanup -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            f"submissions/inet/{OURS}",
        },
    ),
    "that adds already": ([["-P", "cleanup/unix/always_add_missing_headers=yes"]], "", set()),
    "that adds by main.cf": ([["-e", "always_add_missing_headers=yes"]], "", set()),
    "the owner's for all submission": (
        [["-P", f"{SUBMISSIONS}subcleanup"], ["-P", "submission/inet/cleanup_service_name=subcleanup"]],
        SUBCLEANUP,
        {"subcleanup/unix/always_add_missing_headers=yes"},
    ),
    "the owner's for one port": (
        [["-P", f"{SUBMISSIONS}subcleanup"]],
        SUBCLEANUP,
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            "subcleanup/unix/always_add_missing_headers=yes",
        },
    ),
    "the owner's, for mail from outside as well": (
        [["-P", f"{SUBMISSIONS}subcleanup"], ["-P", "smtp/inet/cleanup_service_name=subcleanup"]],
        SUBCLEANUP,
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            "dkimpipe-cleanup-subcleanup unix n - y - 0 cleanup -o header_checks=regexp:/x"
            " -o always_add_missing_headers=yes",
            f"submissions/inet/{OURS}-subcleanup",
        },
    ),
    "the owner's, for local mail as well": (
        [["-P", f"{SUBMISSIONS}subcleanup"], ["-P", "pickup/unix/cleanup_service_name=subcleanup"]],
        SUBCLEANUP,
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o always_add_missing_headers=yes",
            f"submission/inet/{OURS}",
            "dkimpipe-cleanup-subcleanup unix n - y - 0 cleanup -o header_checks=regexp:/x"
            " -o always_add_missing_headers=yes",
            f"submissions/inet/{OURS}-subcleanup",
        },
    ),
    "one that there is not": (
        [["-P", f"{SUBMISSIONS}subcleanup"], ["-P", "submission/inet/cleanup_service_name=subcleanup"]],
        "",
        set(),
    ),
    "ours, taken out of the owner's": (
        [["-P", f"{SUBMISSIONS}dkimpipe-cleanup-subcleanup"], ["-P", f"submission/inet/{OURS}"]],
        SUBCLEANUP,
        {
            "dkimpipe-cleanup unix n - y - 0 cleanup -o always_add_missing_headers=yes",
            "dkimpipe-cleanup-subcleanup unix n - y - 0 cleanup -o header_checks=regexp:/x"
            " -o always_add_missing_headers=yes",
        },
    ),
}


def edit(directory: Path, *edits: list[str]) -> None:
    """Make these edits by postconf(1)."""
    for each in edits:
        subprocess.run(["postconf", "-c", str(directory), *each], check=True)


def cleanup_edits(directory: Path) -> list[str]:
    """Return what the verb would do to cleanup services, or to which service uses which, sorted."""
    output = verb(directory, "--sign", "submission").stdout.decode()
    words = [shlex.split(line) for line in output.splitlines()]
    arguments = [line[-1] for line in words if line[:1] == ["postconf"]]
    ours = [each for each in arguments if "cleanup" in each or "rewrite_clients" in each]
    return sorted(re.sub(r"^\S+/unix=(?=\S+ unix )", "", each) for each in ours)


@pytest.mark.parametrize(("edits", "lines", "expected"), CLEANUPS.values(), ids=CLEANUPS)
def test_missing_fields_are_added_by_a_cleanup_service_like_the_one_there_is(
    edits: list[list[str]], lines: str, expected: set[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    with (directory / "master.cf").open("a") as master:
        master.write(lines)
    edit(directory, *edits)
    assert cleanup_edits(directory) == sorted(expected)


@pytest.mark.parametrize(("edits", "lines", "expected"), CLEANUPS.values(), ids=CLEANUPS)
def test_applied_the_cleanup_services_lack_nothing_and_are_reverted(
    edits: list[list[str]], lines: str, expected: set[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    with (directory / "master.cf").open("a") as master:
        master.write(lines)
    edit(directory, *edits)
    (directory / "master.cf").chmod(0o640)
    before = content(directory)
    verb(directory, "--apply")
    assert verb(directory).stdout == b"nothing to change\n"
    verb(directory, "--revert")
    assert content(directory) == before


# Earlier versions set local_header_rewrite_clients=static:all on submission, which damages From and To.

NEW = "    -o cleanup_service_name=dkimpipe-cleanup\n"
OLD = "    -o local_header_rewrite_clients=static:all\n"


def apply_earlier(directory: Path) -> None:
    """Apply what an earlier version did: another setting, and no cleanup service."""
    verb(directory, "--apply")
    (backup,) = directory.glob("dkimpipe-backup-*")
    for path in (directory / "master.cf", backup / "after" / "master.cf"):
        text = path.read_text()
        text, services = re.subn(r"^dkimpipe-cleanup .*\n(?:[ \t].*\n)+", "", text, flags=re.MULTILINE)
        assert (services, text.count(NEW) > 0) == (1, True)
        path.write_text(text.replace(NEW, OLD))


@pytest.mark.parametrize("spelling", [OLD, "  -o\t{ local_header_rewrite_clients = static:all }\n"])
def test_the_earlier_setting_is_replaced(spelling: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply_earlier(directory)
    master = directory / "master.cf"
    master.write_text(master.read_text().replace(OLD, spelling))
    before = overrides(directory)
    verb(directory, "--apply")
    assert before - overrides(directory) == {
        "submission/inet/local_header_rewrite_clients = static:all",
        "submissions/inet/local_header_rewrite_clients = static:all",
    }
    assert overrides(directory) - before == {
        "submission/inet/cleanup_service_name = dkimpipe-cleanup",
        "submissions/inet/cleanup_service_name = dkimpipe-cleanup",
        "dkimpipe-cleanup/unix/always_add_missing_headers = yes",
    }


def test_where_fields_are_added_anyway_the_earlier_setting_goes_alone(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply_earlier(directory)
    edit(directory, ["-e", "always_add_missing_headers=yes"])
    assert cleanup_edits(directory) == [
        "submission/inet/local_header_rewrite_clients",
        "submissions/inet/local_header_rewrite_clients",
    ]


@pytest.mark.parametrize(
    "owners",
    [
        ["-e", "local_header_rewrite_clients=static:all"],
        ["-e", "local_header_rewrite_clients=permit_mynetworks, permit_sasl_authenticated"],
        ["-P", "submission/inet/local_header_rewrite_clients=static:all,permit_mynetworks"],
        ["-P", "submission/inet/local_header_rewrite_clients=permit_sasl_authenticated"],
        ["-P", "submission/inet/local_header_rewrite_clients=permit_mynetworks"],
    ],
    ids=" ".join,
)
def test_what_the_owner_has_rewritten_stays(owners: list[str], tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, owners)
    before = rewrite_clients(directory)
    verb(directory, "--apply")
    assert rewrite_clients(directory) == before


def rewrite_clients(directory: Path) -> list[str]:
    """Return where local_header_rewrite_clients is set, and to what."""
    return [line for line in settings(directory) if re.match(r"(\S+/)?local_header_rewrite_clients = ", line)]


def test_both_applied_every_octet_is_brought_back(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    apply_earlier(directory)
    verb(directory, "--apply")
    assert len(list(directory.glob("dkimpipe-backup-*"))) == 2
    assert verb(directory, "--revert").status == 0
    assert content(directory) == before


SINCE = [["-e", "mynetworks=127.0.0.1"], ["-P", "submission/inet/smtpd_tls_auth_only=yes"]]


def test_both_applied_and_changed_since_it_is_undone_setting_by_setting(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    expected = write(tmp_path / "expected", "submission")
    apply_earlier(directory)
    verb(directory, "--apply")
    for each in (directory, expected):
        edit(each, *SINCE)
    assert verb(directory, "--revert").status == 0
    assert settings(directory) == settings(expected)


def test_what_was_taken_out_is_put_back_setting_by_setting(tmp_path: Path) -> None:
    """The owner had it before anything was applied, and a cleanup service of their own as well."""
    owners = [
        ["-P", "submission/inet/local_header_rewrite_clients=static:all"],
        ["-P", "submission/inet/cleanup_service_name=subcleanup"],
        ["-M", "subcleanup/unix=subcleanup unix n - y - 0 cleanup"],
    ]
    directory = write(tmp_path / "postfix", "submission")
    expected = write(tmp_path / "expected", "submission")
    for each in (directory, expected):
        edit(each, *owners)
    verb(directory, "--apply")
    assert "submission/inet/local_header_rewrite_clients = static:all" not in overrides(directory)
    for each in (directory, expected):
        edit(each, *SINCE)
    assert verb(directory, "--revert").status == 0
    assert overrides(directory) == overrides(expected)


def test_what_the_owner_put_in_its_place_since_stays(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    edit(directory, ["-P", "submission/inet/local_header_rewrite_clients=static:all"])
    verb(directory, "--apply")
    edit(directory, ["-P", "submission/inet/local_header_rewrite_clients=permit_mynetworks"])
    verb(directory, "--revert")
    assert rewrite_clients(directory) == [
        "submission/inet/local_header_rewrite_clients = permit_mynetworks",
    ]


# Services that take mail from strangers.

OPEN = "clients that do not log in may send here, and their mail is signed"


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A configuration with a submission service that says nothing of who may send."""
    directory = write(tmp_path / "postfix", "submission")
    rule = "submission/inet/smtpd_relay_restrictions"
    subprocess.run(["postconf", "-c", str(directory), "-PX", rule], check=True)
    return directory


@pytest.mark.parametrize("options", [(), ("--apply",)], ids=["shown", "applied"])
def test_a_service_that_is_open_to_strangers_is_refused(opened: Path, options: tuple[str, ...]) -> None:
    before = content(opened)
    assert verb(opened, *options) == Done(
        78,
        b"",
        f"dkimpipe: submission/inet: {OPEN}\n"
        f"hint: postconf -c {opened} -P submission/inet/smtpd_relay_restrictions="
        "permit_mynetworks,permit_sasl_authenticated,reject\n"
        "hint: use --open to connect it anyway\n",
    )
    assert content(opened) == before


def test_closed_as_it_says_it_is_connected(opened: Path) -> None:
    subprocess.run(["sh", "-c", verb(opened).stderr.splitlines()[1].removeprefix("hint: ")], check=True)
    assert verb(opened, "--apply").status == 0
    assert "submission/inet/content_filter = dkimpipe:dummy" in overrides(opened)


def test_told_to_it_connects_an_open_service_and_the_filter_keeps_strangers_out(opened: Path) -> None:
    assert verb(opened, "--apply", "--open").status == 0
    assert "submission/inet/content_filter = dkimpipe:dummy" in overrides(opened)
    assert "--client=${client_address} -f" in (opened / "master.cf").read_text()
    assert verb(opened, "--apply", "--open").stdout == b"nothing to change\n"
    assert verb(opened, "--apply").status == 78


def test_an_open_service_is_refused_again_if_the_filter_signs_for_any(opened: Path, tmp_path: Path) -> None:
    verb(opened, "--apply", "--open")
    conf = tmp_path / "conf"
    conf.write_text("sign_clients any\n")
    master = opened / "master.cf"
    master.write_text(master.read_text().replace("--client=", f"--conf_file={conf} --client="))
    assert verb(opened, "--apply").stderr.startswith(f"dkimpipe: submission/inet: {OPEN}\n")


def test_mail_that_is_to_be_verified_comes_from_strangers(opened: Path) -> None:
    assert verb(opened, *VERIFY, "--apply").status == 0


def test_a_filter_of_before_gets_the_client_address(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    master = directory / "master.cf"
    master.write_text(master.read_text().replace(" --client=${client_address}", ""))
    done = verb(directory, "--apply")
    assert done.stdout.decode().startswith("# argv does not pass the client address: ")
    words = " ".join(master.read_text().split())
    assert " --login=${sasl_username} --client=${client_address} -f ${sender} --" in words


# What lets others in on purpose, whom the filter would take for strangers.
GUESTS = {
    "by certificate": [
        "submission/inet/smtpd_tls_ask_ccert=yes",
        "submission/inet/smtpd_relay_restrictions=permit_tls_all_clientcerts,reject",
    ],
    "all who have one": [
        "submission/inet/smtpd_tls_req_ccert=yes",
        "submission/inet/smtpd_relay_restrictions=reject_unauth_destination",
    ],
    "by a table that cannot be read": [
        "submission/inet/smtpd_relay_restrictions=check_client_access,hash:/nowhere,reject"
    ],
    "by a policy service": [
        "submission/inet/smtpd_relay_restrictions=check_policy_service,unix:private/policy,reject"
    ],
    "by its address on this host": [
        "submission/inet/smtpd_relay_restrictions=permit_inet_interfaces,permit_sasl_authenticated,reject"
    ],
}
# What is like it and lets nobody else in.
NO_GUESTS = {
    "no certificate is asked for": [
        "submission/inet/smtpd_relay_restrictions=permit_tls_clientcerts,permit_sasl_authenticated,reject"
    ],
    "a table that only rejects": [
        "submission/inet/smtpd_relay_restrictions=check_client_access,inline:{a=reject},permit_mynetworks,reject"
    ],
    "a table in another list": [
        "submission/inet/smtpd_client_restrictions=check_client_access,hash:/nowhere"
    ],
    "a policy service behind the login": [
        "submission/inet/smtpd_recipient_restrictions=check_policy_service,unix:private/policy"
    ],
}


@pytest.mark.parametrize("name", [*GUESTS, *NO_GUESTS])
def test_the_filter_gets_the_client_address_unless_that_would_cost_signatures(
    name: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    for edit in {**GUESTS, **NO_GUESTS}[name]:
        subprocess.run(["postconf", "-c", str(directory), "-P", edit], check=True)
    assert verb(directory, "--apply").stderr == ""
    assert ("--client=" in (directory / "master.cf").read_text()) is (name in NO_GUESTS)
    assert verb(directory).stdout == b"nothing to change\n"


# Versions of Postfix, told apart by what postconf(1) says of itself.


def test_before_3_7_the_status_filter_is_a_file(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    env = postconf_of("3.6.4", tmp_path)
    verb(directory, "--apply", env=env)
    table = f"regexp:{directory}/dkimpipe-status.regexp"
    assert f"-o pipe_delivery_status_filter={table}\n" in (directory / "master.cf").read_text()
    asked = ["postmap", "-c", str(directory), "-q", "5.3.0 Command died", table]
    assert subprocess.run(asked, capture_output=True, check=True).stdout == b"4.3.0 Command died\n"
    assert verb(directory, env=env).stdout == b"nothing to change\n"
    verb(directory, "--revert", env=env)
    assert content(directory) == before


def test_before_3_7_what_it_prints_makes_the_changes(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    env = postconf_of("3.4.29", tmp_path)
    subprocess.run(["sh", "-e"], input=verb(directory, env=env).stdout, env=env, check=True)
    assert verb(directory, env=env).stdout == b"nothing to change\n"


def test_from_3_9_conversion_before_the_filter_is_as_good(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    env = postconf_of("3.9.1", tmp_path, "force_mime_input_conversion = yes")
    assert b"disable_mime_output_conversion" not in verb(directory, env=env).stdout
    assert b"disable_mime_output_conversion" in verb(directory).stdout


def test_without_a_last_line_end_nothing_is_glued(tmp_path: Path) -> None:
    """postconf(1) up to 3.7.14 writes behind the last line, whether it has ended or not."""
    directory = write(tmp_path / "postfix", "submission")
    for name in ("main.cf", "master.cf"):
        (directory / name).write_bytes((directory / name).read_bytes().rstrip(b"\n"))
    before = content(directory)
    verb(directory, "--apply")
    assert verb(directory).stdout == b"nothing to change\n"
    assert "smtpd_sasl_type = dovecot\n" in (directory / "main.cf").read_text()
    verb(directory, "--revert")
    assert content(directory) == before


def with_program(fragment: Path, directory: Path) -> str:
    """Return a fragment of master.cf that runs a program which is there."""
    program = directory / "dkimpipe"
    program.touch()
    text = fragment.read_text()
    assert text.count("argv=/opt/dkimpipe/bin/dkimpipe ") == 1
    return text.replace("/opt/dkimpipe/bin/dkimpipe", str(program))


def test_the_fragments_say_the_same(tmp_path: Path) -> None:
    """What postfix/ ships by hand and what the verb applies are one set of settings."""
    directory = write(tmp_path / "postfix", "internet site")
    fragment = with_program(PROJECT / "postfix" / "master.cf", tmp_path)
    services = ("submission inet", "pickup", "dkimpipe")
    master = (directory / "master.cf").read_text()
    kept = [line for line in master.splitlines() if not line.startswith("pickup ")]
    (directory / "master.cf").write_text("\n".join(kept) + "\n" + fragment)
    with (directory / "main.cf").open("a") as main:
        main.write((PROJECT / "postfix" / "main.cf").read_text())
    assert all(f"\n{service} " in fragment for service in services)
    assert verb(directory).stdout == b"nothing to change\n"


# The other service, which verifies mail from outside. The user is one that there is.

VERIFY = ("--verify", "--user", "daemon")
INBOUND = {
    "smtp/inet/content_filter = dkimpipe-verify:dummy",
    "smtp/inet/receive_override_options = no_address_mappings",
    "smtp/inet/smtpd_discard_ehlo_keywords = dsn,silent-discard",
    "pickup/unix/receive_override_options = no_header_body_checks,no_milters",
    "pickup/unix/smtputf8_autodetect_classes = verify",
}


def overrides(directory: Path) -> set[str]:
    """Return the -o parameters of all services."""
    asked = ["postconf", "-c", str(directory), "-P"]
    return set(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines())


def test_verify_alone_touches_port_25_and_pickup_and_makes_its_service(directory: Path) -> None:
    before = overrides(directory)
    verb(directory, *VERIFY, "--apply")
    new = overrides(directory) - before
    assert new >= INBOUND
    assert {line.partition("/")[0] for line in new} == {"smtp", "pickup", "dkimpipe-verify"}
    assert "\ndkimpipe " not in (directory / "master.cf").read_text()


def test_the_service_that_verifies_runs_this_interpreter_with_its_packages(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    argv = f"user=daemon argv={sys.executable} -I {MAIN} verify --hostname=mx.example.com {ENVELOPE}"
    assert argv in verb(directory, *VERIFY).stdout.decode()


def test_what_verify_prints_makes_the_changes(directory: Path) -> None:
    subprocess.run(["sh", "-e"], input=verb(directory, *VERIFY).stdout, check=True)
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"


def test_verify_applied_a_second_time_changes_nothing(directory: Path) -> None:
    assert verb(directory, *VERIFY, "--apply").status == 0
    once = content(directory)
    assert verb(directory, *VERIFY, "--apply").stdout == b"nothing to change\n"
    assert content(directory) == once


def test_verify_reverted_every_octet_and_mode_is_as_before(directory: Path) -> None:
    before = content(directory)
    verb(directory, *VERIFY, "--apply")
    assert content(directory) != before
    assert verb(directory, "--verify", "--revert").status == 0
    assert content(directory) == before


JOBS: dict[str, tuple[str, ...]] = {"sign": (), "verify": VERIFY}


@pytest.mark.parametrize("applied", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
@pytest.mark.parametrize("undone", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
@pytest.mark.parametrize("version", ["3.7.11", "3.6.4"])
def test_each_is_undone_without_the_other_in_any_order(
    applied: list[str], undone: list[str], version: str, tmp_path: Path
) -> None:
    """Both need what pickup is told; and the last one leaves every octet as it was."""
    directory = write(tmp_path / "postfix", "submission")
    env, before = postconf_of(version, tmp_path), content(directory)
    for job in applied:
        assert verb(directory, *JOBS[job], "--apply", env=env).status == 0
    first, last = undone
    assert verb(directory, *JOBS[first], "--revert", env=env).status == 0
    assert verb(directory, *JOBS[last], env=env).stdout == b"nothing to change\n"
    assert b"there is no filter" in verb(directory, *JOBS[first], env=env).stdout
    assert verb(directory, *JOBS[first], "--revert", env=env).status == 78
    assert verb(directory, *JOBS[last], "--revert", env=env).status == 0
    assert content(directory) == before


@pytest.mark.parametrize("applied", [["sign", "verify"], ["verify", "sign"]], ids=" ".join)
def test_what_was_changed_since_in_the_one_stays_when_the_other_is_undone(
    applied: list[str], tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "submission")
    for job in applied:
        verb(directory, *JOBS[job], "--apply")
    changes = [
        ["-F", "dkimpipe-verify/unix/process_limit=17"],
        ["-P", "smtp/inet/message_size_limit=5000"],
        ["-e", "mynetworks=127.0.0.1"],
    ]
    for change in changes:
        subprocess.run(["postconf", "-c", str(directory), *change], check=True)
    assert verb(directory, "--revert").status == 0
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"
    asked = ["postconf", "-c", str(directory), "-M", "dkimpipe-verify/unix"]
    assert " - 17 pipe" in " ".join(subprocess.check_output(asked, text=True).split())
    assert "smtp/inet/message_size_limit = 5000" in overrides(directory)
    assert "mynetworks = 127.0.0.1\n" in (directory / "main.cf").read_text()
    assert "dkimpipe:dummy" not in (directory / "master.cf").read_text()


def test_verify_never_applied_there_is_nothing_to_revert(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    verb(directory, "--apply")
    state = content(directory)
    done = verb(directory, "--verify", "--revert")
    assert done == Done(
        78,
        b"",
        f"dkimpipe: no backup in {directory}\nhint: dkimpipe postfix --verify --apply was not run here\n",
    )
    assert content(directory) == state


def test_what_stands_at_port_25_stays(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    for edit in ("smtpd_discard_ehlo_keywords=chunking", "receive_override_options=no_milters"):
        subprocess.run(["postconf", "-c", str(directory), "-P", f"smtp/inet/{edit}"], check=True)
    verb(directory, *VERIFY, "--apply")
    assert overrides(directory) >= {
        "smtp/inet/smtpd_discard_ehlo_keywords = chunking,dsn,silent-discard",
        "smtp/inet/receive_override_options = no_milters,no_address_mappings",
    }


def test_behind_postscreen_it_is_the_service_pass(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    postscreen = ["smtp/inet=smtp inet n - y - 1 postscreen", "smtpd/pass=smtpd pass - - y - - smtpd"]
    for line in postscreen:
        subprocess.run(["postconf", "-c", str(directory), "-M", line], check=True)
    verb(directory, *VERIFY, "--apply")
    assert "smtpd/pass/content_filter = dkimpipe-verify:dummy" in overrides(directory)
    assert not any(line.startswith("smtp/inet/") for line in overrides(directory))


# How mail comes to amavis first: what the postconf commands say, and where they say it.
OTHER_FILTERS = {
    "on port 25": ("-P", "content_filter=amavis:[127.0.0.1]:10024"),
    "in main.cf": ("-e", "content_filter=amavis:[127.0.0.1]:10024"),
    "before the queue": ("-P", "smtpd_proxy_filter=127.0.0.1:10024"),
}


@pytest.mark.parametrize(("option", "setting"), OTHER_FILTERS.values(), ids=OTHER_FILTERS)
def test_where_another_filter_stands_verify_changes_nothing_and_says_what_to_do(
    option: str, setting: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    where = "smtp/inet/" if option == "-P" else ""
    for edit in (["-M", "amavis/unix=amavis unix - - n - 2 smtp"], [option, where + setting]):
        subprocess.run(["postconf", "-c", str(directory), *edit], check=True)
    before = content(directory)
    done = verb(directory, *VERIFY, "--apply")
    parameter, _, road = setting.partition("=")
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr == (
        f"dkimpipe: smtp/inet/{parameter}: {road} gets this mail, and a service can have only one filter\n"
        "hint: put dkimpipe-verify behind it: -o content_filter=dkimpipe-verify:dummy"
        " where mail returns from it, on a port only for mail from outside\n"
    )
    assert content(directory) == before


# Users that may not run the service that verifies, and what is said.
USERADD = "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-verify\n"
READS_KEYS = "this user can read the keys, and verification needs none: use a separate user"
USERS = {
    "there is none": ([], "there is no user dkimpipe-verify"),
    "that of the filter": (["--user", "dkimpipe"], f"user=dkimpipe: {READS_KEYS}"),
}


@pytest.mark.skipif(
    bool({"dkimpipe", "dkimpipe-verify"} & {user.pw_name for user in pwd.getpwall()}),
    reason="needs a machine without these users",
)
@pytest.mark.parametrize(("options", "why"), USERS.values(), ids=USERS)
def test_without_a_user_of_its_own_verify_changes_nothing(
    options: list[str], why: str, tmp_path: Path
) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    before = content(directory)
    done = verb(directory, "--verify", *options, "--apply")
    assert done == Done(78, b"", f"dkimpipe: {why}\nhint: {USERADD}")
    assert content(directory) == before


def test_the_fragments_for_mail_from_outside_say_the_same(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    fragment = with_program(PROJECT / "postfix" / "verify.master.cf", tmp_path)
    assert " user=dkimpipe-verify " in fragment
    master = (directory / "master.cf").read_text()
    kept = [line for line in master.splitlines() if not line.startswith(("pickup ", "smtp      inet "))]
    text = fragment.replace(" user=dkimpipe-verify ", " user=daemon ")
    (directory / "master.cf").write_text("\n".join(kept) + "\n" + text)
    with (directory / "main.cf").open("a") as main:
        main.write((PROJECT / "postfix" / "verify.main.cf").read_text())
    assert verb(directory, *VERIFY).stdout == b"nothing to change\n"
