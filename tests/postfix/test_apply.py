"""``dkimpipe postfix`` on configurations of all sorts: applied, applied again, checked, undone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from applying import content, edit, settings, verb, with_program, write
from configurations import CONFIGURATIONS, SUBMISSION, postconf_of
from conftest import MAIN, PROJECT, settled
from dovecot import Dovecot, certificate

import postfix as harness
from dkimpipe.admin.postfix.filter_service import ENVELOPE

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")


@pytest.fixture(params=CONFIGURATIONS)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A configuration directory, comments and all."""
    return write(tmp_path / "postfix", request.param)


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
    for each in (directory, expected):
        edit(each, *since)
    (expected / "master.cf").chmod(0o640)
    done = verb(directory, "--revert")
    assert done.status == 0
    for name in ("main.cf", "master.cf"):
        assert f"{directory / name} was changed since dkimpipe-backup-" in done.stdout.decode()
    assert settings(directory) == settings(expected)
    assert [path.stat().st_mode for path in sorted(directory.iterdir())] == [
        path.stat().st_mode for path in sorted(expected.iterdir())
    ]


def test_reverted_no_mail_waits_for_the_service_that_is_gone(tmp_path: Path) -> None:
    """What others have set since to pass mail to the filter goes with it; other filters stay."""
    directory = write(tmp_path / "postfix", "submission")
    expected = write(tmp_path / "expected", "submission")
    verb(directory, "--apply")
    edit(
        directory,
        ["-P", "smtp/inet/content_filter=dkimpipe:dummy"],
        ["-e", "content_filter=dkimpipe:"],
        ["-P", "submissions/inet/content_filter=other:dummy"],
    )
    done = verb(directory, "--revert")
    gone = "# the filter service is gone\npostconf -c"
    assert f"{gone} {directory} -X content_filter\n" in done.stdout.decode()
    assert f"{gone} {directory} -PX smtp/inet/content_filter\n" in done.stdout.decode()
    edit(expected, ["-P", "submissions/inet/content_filter=other:dummy"])
    assert settings(directory) == settings(expected)


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
    command = [sys.executable, "-BIS", str(MAIN), "postfix", "-c", str(directory), "--apply"]
    limited = ["prlimit", "--fsize=4000", *command]  # without -B, Python would cut off what it compiles
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
    edit(directory, damage)
    done = verb(directory, "--check")
    assert done.status == 78
    assert f"dkimpipe: error: {finding}" in done.stdout.decode()


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to become the filter's user")
def test_check_runs_the_filter_as_its_user(tmp_path: Path) -> None:
    with harness.shared_directory() as shared:
        shutil.copytree(PROJECT / "dkimpipe", shared / "dkimpipe")
        subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", shared / "dkimpipe"], check=True)
        (shared / "senders").write_text("example.com dkim(s=a,key=/nowhere)\n")
        directory = write(tmp_path / "postfix", "submission")
        (shared / "conf").write_text(f"sender_map {shared}/senders\n")
        (shared / "server.pem").write_bytes(certificate("mx.example.com", "ca.example"))
        argv = f"/usr/bin/python3 -IS {shared}/dkimpipe/__main__.py --conf_file {shared}/conf"
        line = f"dkimpipe unix - n n - 4 pipe user=nobody argv={argv} {ENVELOPE}"
        subprocess.run(["postconf", "-c", str(directory), "-M", f"dkimpipe/unix={line}"], check=True)
        with Dovecot() as dovecot:
            changes = [f"smtpd_sasl_path={dovecot.path}", f"smtpd_tls_cert_file={shared}/server.pem"]
            edit(directory, ["-e", *changes], ["-P", "submissions/inet/smtpd_sasl_auth_enable=yes"])
            verb(directory, "--apply")
            status, output, _ = verb(directory, "--check")
        assert (status, output.splitlines()[0]) == (0, b"dkimpipe: Postfix is set up")
        (shared / "senders").chmod(0o600)
        done = verb(directory, "--check")
        assert done.status == 78
        assert (
            f"as user nobody: 4.3.5 dkimpipe: map {shared}/senders: Permission denied" in done.stdout.decode()
        )


# Versions of Postfix, told apart by what postconf(1) says of itself.


def test_before_3_7_the_status_filter_is_a_file(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    before = content(directory)
    env = postconf_of("3.6.4", tmp_path)
    verb(directory, "--apply", env=env)
    table = f"regexp:{directory}/dkimpipe-status.regexp"
    assert f"-o pipe_delivery_status_filter={table}\n" in (directory / "master.cf").read_text()
    settled(directory / "main.cf")
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


def test_reverted_a_file_that_was_not_changed_since_is_as_before(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    before = (directory / "master.cf").read_bytes()
    verb(directory, "--apply")
    with (directory / "main.cf").open("a") as main:
        main.write("smtpd_banner = hello\n")
    assert verb(directory, "--revert").status == 0
    assert (directory / "master.cf").read_bytes() == before
    assert "smtpd_banner = hello\n" in (directory / "main.cf").read_text()


def test_reverted_in_whole_although_nobody_reads_on(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "internet site")
    before = content(directory)
    verb(directory, "--apply")
    command = [sys.executable, "-IS", str(MAIN), "postfix", "-c", str(directory), "--revert"]
    done = subprocess.run(["sh", "-c", '"$@" | true', "sh", *command], capture_output=True, check=False)
    assert done.returncode == 0
    assert content(directory) == before
