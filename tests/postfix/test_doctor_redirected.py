"""``check``: mail that FILTER in header or body checks leads elsewhere; the verifier's conf file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import (
    GOOD,
    MAIN,
    MAIN_BOTH,
    MASTER,
    MASTER_BOTH,
    SUBMISSION,
    check,
    edit,
    fill,
    fix,
    hints,
    run,
    write,
)

WHERE = "sign it where it comes back from spam:dummy"
COMMENT = f"# {WHERE}, or, which switches spam:dummy off for it:"
MATCHES = "mail that matches {} goes to spam:dummy, and is not signed"
ALL = "mail from submission/inet goes to spam:dummy, and is not signed"
RULE = "{{/^X-Spam:/ FILTER spam:dummy}}"
# Lines of main.cf, the parameter and the table that check names, the level, and what it says of them.
REDIRECTED = {
    "in line": (f"header_checks = regexp:{RULE}", "warning", MATCHES.format("/^X-Spam:/")),
    "in a file": ("header_checks = regexp:FILE", "warning", MATCHES.format("/^X-Spam: yes/")),
    "in a file, on two lines": ("header_checks = regexp:TWO", "warning", MATCHES.format("/^X-Spam: yes/")),
    "of bodies": ("body_checks = regexp:FILE", "warning", MATCHES.format("/^X-Spam: yes/")),
    "of MIME headers": ("mime_header_checks = regexp:FILE", "warning", MATCHES.format("/^X-Spam: yes/")),
    "of attached messages": (
        "nested_header_checks = regexp:FILE",
        "warning",
        MATCHES.format("/^X-Spam: yes/"),
    ),
    "of milters": (
        "smtpd_milters = inet:127.0.0.1:9\nmilter_header_checks = regexp:FILE",
        "warning",
        MATCHES.format("/^X-Spam: yes/"),
    ),
    "among others": (
        "header_checks = regexp:{{/^X:/ IGNORE}}, regexp:FILE",
        "warning",
        MATCHES.format("/^X-Spam: yes/"),
    ),
    "among other rules": (
        "header_checks = regexp:{{/^X:/ IGNORE} {/^X-Spam:/ FILTER spam:dummy}}",
        "warning",
        MATCHES.format("/^X-Spam:/"),
    ),
    "in a text that is indexed": ("body_checks = texthash:INDEXED", "warning", MATCHES.format("spam")),
    "by proxymap(8)": ("header_checks = proxy:regexp:FILE", "warning", MATCHES.format("/^X-Spam: yes/")),
    "one of several tables": (
        "header_checks = unionmap:{regexp:COMMENT,regexp:FILE}",
        "warning",
        MATCHES.format("/^X-Spam: yes/"),
    ),
    "of each message": ("header_checks = regexp:{{/^Subject:/ FILTER spam:dummy}}", "error", ALL),
    "of each message, in a file": ("header_checks = regexp:EACH", "error", ALL),
    "of each body": ("body_checks = regexp:{{/./ FILTER spam:dummy}}", "error", ALL),
    "always": ("header_checks = static:{FILTER spam:dummy}", "error", ALL),
}
if "pcre" in subprocess.check_output(["postconf", "-m"], text=True).split():
    REDIRECTED["in line, pcre"] = (f"header_checks = pcre:{RULE}", "warning", MATCHES.format("/^X-Spam:/"))
NOT_REDIRECTED = {
    "to our own filter": "header_checks = regexp:{{/^X-Spam:/ FILTER dkimpipe:dummy}}",
    "in a comment": "header_checks = regexp:COMMENT",
    "after the way out": "smtp_header_checks =",
    "no such action": "header_checks = regexp:{{/^X-FILTER: spam:x/ IGNORE}}",
    "to another recipient": "header_checks = regexp:{{/^X-Spam:/ REDIRECT spam@example.com}}",
    "of milters, without milters": "milter_header_checks = regexp:FILE",
}


def _written(directory: Path, words: dict[str, str]) -> dict[str, str]:
    names = ("FILE", "TWO", "EACH", "COMMENT", "INDEXED")
    files = {name: directory / name.lower() for name in names}
    files["FILE"].write_text("/^X-Spam: yes/ FILTER spam:dummy\n")
    files["TWO"].write_text("/^X-Spam: yes/\n    FILTER spam:dummy\n")
    files["EACH"].write_text("/^X:/ IGNORE\n/^from:/ FILTER spam:dummy\n")
    files["INDEXED"].write_text("spam FILTER spam:dummy\n")
    files["COMMENT"].write_text("# /^X-Spam: yes/ FILTER spam:dummy\n/^X:/ IGNORE\n")
    return {**words, **{name: str(path) for name, path in files.items()}}


@pytest.mark.parametrize("name", REDIRECTED)
def test_a_filter_by_content_is_found_and_the_command_removes_it(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    line, level, what = REDIRECTED[name]
    words = _written(tmp_path, words)
    directory = write(tmp_path / "postfix", f"{MAIN}{line}\n", MASTER, words)
    parameter, table = fill(line, words).split("\n")[-1].split(" = ")
    table = table.rpartition(", ")[2]
    status, output = check(directory)
    assert status == (78 if level == "error" else 0)
    assert f"dkimpipe: {level}: {parameter}: {table}: {what}\n" in output
    fixes = [each for each in hints(output) if "spam:dummy" in each or each.startswith(("postconf", "sed"))]
    if not any(each.startswith(("postconf", "sed")) for each in fixes):
        assert fixes == [f"# {WHERE}, or remove FILTER in {table}"]
        return
    assert fixes[0] == COMMENT
    for command in fixes:
        subprocess.run(["sh", "-c", command], check=True)
    settled(directory / "main.cf")
    assert "spam:dummy" not in check(directory)[1]
    if "IGNORE" in line:
        assert "IGNORE" in (directory / "main.cf").read_text()


@pytest.mark.parametrize("name", NOT_REDIRECTED)
def test_what_leads_nowhere_else_is_not_found(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    words = _written(tmp_path, words)
    directory = write(tmp_path / "postfix", f"{MAIN}{NOT_REDIRECTED[name]}\n", MASTER, words)
    assert check(directory) == GOOD


KINDS = {
    "networks": "smtp/inet",
    "local": "pickup/unix",
    "networks,local": "smtp/inet, pickup/unix",
}


@pytest.mark.parametrize("name", KINDS)
def test_mail_that_does_not_come_from_submission(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    """The header checks of main.cf apply to it, and FILTER there overrides ours."""
    master = MASTER.replace(SUBMISSION, "").replace("no_header_body_checks,", "")
    main = f"{MAIN}mynetworks = 127.0.0.1\n"
    directory = write(tmp_path / "postfix", main, master, words)
    assert run(directory, "postfix", "--apply", "--relay", "--sign", name)[0] == 0
    edit(directory, "-e 'header_checks=regexp:{{/^Subject:/ FILTER spam:dummy}}'", words)
    status, output = check(directory)
    all_mail = f"mail from {KINDS[name]} goes to spam:dummy, and is not signed"
    assert (status, all_mail in output) == (78, True)
    assert run(directory, "check", "--postfix")[1].count("goes to spam:dummy") == 1


def test_a_cleanup_service_of_its_own(directory: Path, words: dict[str, str]) -> None:
    place = "dkimpipe-cleanup/unix/header_checks"
    path = directory / "redirecting"
    path.write_text("/^X-Spam:/ FILTER spam:dummy\n")
    edit(directory, f"-P {place}=regexp:{path}", words)
    output = check(directory)[1]
    assert f"warning: {place}: regexp:{path}: {MATCHES.format('/^X-Spam:/')}\n" in output
    fix(directory, output)
    assert check(directory) == GOOD


def test_notices_by_checks_of_their_own(directory: Path, words: dict[str, str]) -> None:
    """Those of dkimpipe-sign have no other checks; one who adds some overrides ours."""
    assert run(directory, "postfix", "--apply", "--sign", "bounces")[0] == 0
    edit(directory, "-e 'body_checks=regexp:{{/./ FILTER spam:dummy}}'", words)
    edit(
        directory, "-P submission/inet/receive_override_options=no_address_mappings,no_header_body_checks", {}
    )
    assert check(directory) == GOOD
    edit(directory, "-PX dkimpipe-sign/unix/body_checks", words)
    assert "mail from bounce/unix goes to spam:dummy" in check(directory)[1]


def test_where_no_checks_apply_it_is_not_noted(tmp_path: Path, words: dict[str, str]) -> None:
    main = f"{MAIN}header_checks = regexp:{{{{/^X-Spam:/ FILTER spam:dummy}}}}\n"
    master = MASTER.replace("no_address_mappings", "no_address_mappings,no_header_body_checks")
    assert check(write(tmp_path / "postfix", main, master, words)) == GOOD


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("relay 127.0.0.1", "line 1: "),
        ("reject_fial yes", "line 1: "),
        ("reject_fail perhaps", "line 1: "),
        ("dns_server nowhere", "line 1: dns_server 'nowhere' is not a valid address"),
        ("key_file mail.pem", "line 1: key_file must be NAME=FILE"),
        ("key_file a=/nowhere/a", "/nowhere/a"),
        ("hostname a..b", "line 1: hostname 'a..b' is not a valid domain"),
    ],
)
def test_check_reads_the_conf_file_of_the_verifier(
    line: str, message: str, tmp_path: Path, words: dict[str, str]
) -> None:
    path = tmp_path / "verify.conf"
    path.write_text(f"{line}\n")
    master = MASTER_BOTH.replace("SITE/verify.conf", str(path)).replace(
        "VERIFIER", words["VERIFIER"].replace("SITE/verify.conf", str(path))
    )
    directory = write(tmp_path / "postfix", MAIN_BOTH, master, words)
    status, output = run(directory, "check", "--files")
    found = [each for each in output.splitlines() if str(path) in each and message in each]
    assert (status, len(found)) == (78, 1), output
    path.write_text("hostname mx.example.com\n")
    assert str(path) not in run(directory, "check", "--files")[1]
