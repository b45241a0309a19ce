"""``check``: mail that FILTER in header or body checks leads elsewhere; the verifier's conf file."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import MAIN, MAIN_BOTH, MASTER, MASTER_BOTH, check, run, write

NOTE = (
    "mail that matches goes to spam:dummy, and is not signed\nhint: sign it where it comes back from there\n"
)
# Lines of main.cf, and the table that the note names.
REDIRECTED = {
    "in line": (
        "header_checks = regexp:{{/^X-Spam:/ FILTER spam:dummy}}",
        "header_checks: regexp:{{/^X-",
    ),
    "in a file": ("header_checks = regexp:FILE", "header_checks: regexp:FILE"),
    "of bodies": ("body_checks = regexp:FILE", "body_checks: regexp:FILE"),
    "of MIME headers": ("mime_header_checks = regexp:FILE", "mime_header_checks: regexp:FILE"),
    "of attached messages": ("nested_header_checks = regexp:FILE", "nested_header_checks: regexp:FILE"),
    "among others": ("header_checks = regexp:{{/^X:/ IGNORE}}, regexp:FILE", "header_checks: regexp:FILE"),
}
NOT_REDIRECTED = {
    "to our own filter": "header_checks = regexp:{{/^X-Spam:/ FILTER dkimpipe:dummy}}",
    "in a comment": "header_checks = regexp:COMMENT",
    "after the way out": "smtp_header_checks =",
    "an indexed table": "body_checks = texthash:INDEXED",
    "no such action": "header_checks = regexp:{{/^X-FILTER: spam:x/ IGNORE}}",
}


def _written(directory: Path, line: str, words: dict[str, str]) -> dict[str, str]:
    files = {
        "FILE": directory / "redirecting",
        "COMMENT": directory / "comment",
        "INDEXED": directory / "indexed",
    }
    files["FILE"].write_text("/^X-Spam: yes/\n    FILTER spam:dummy\n")
    files["INDEXED"].write_text("spam FILTER spam:dummy\n")
    files["COMMENT"].write_text("# /^X-Spam: yes/ FILTER spam:dummy\n/^X:/ IGNORE\n")
    return {**words, **{name: str(path) for name, path in files.items()}}


@pytest.mark.parametrize("name", REDIRECTED)
def test_a_filter_by_content_is_noted(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    line, table = REDIRECTED[name]
    words = _written(tmp_path, line, words)
    status, output = check(write(tmp_path / "postfix", f"{MAIN}{line}\n", MASTER, words))
    assert f"note: {table.replace('FILE', words['FILE'])}" in output
    assert (status, NOTE in output) == (0, True)


@pytest.mark.parametrize("name", NOT_REDIRECTED)
def test_what_leads_nowhere_else_is_not_noted(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    line = NOT_REDIRECTED[name]
    words = _written(tmp_path, line, words)
    _, output = check(write(tmp_path / "postfix", f"{MAIN}{line}\n", MASTER, words))
    assert "mail that matches goes to" not in output


def test_where_no_checks_apply_it_is_not_noted(tmp_path: Path, words: dict[str, str]) -> None:
    main = f"{MAIN}header_checks = regexp:{{{{/^X-Spam:/ FILTER spam:dummy}}}}\n"
    master = MASTER.replace("no_address_mappings", "no_address_mappings,no_header_body_checks")
    assert "mail that matches goes to" not in check(write(tmp_path / "postfix", main, master, words))[1]


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
