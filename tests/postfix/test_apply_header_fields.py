"""``dkimpipe postfix``: missing header fields are added by a cleanup service, and none is rewritten."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from applying import content, edit, overrides, settings, verb, write

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")


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
