"""``dkimpipe check --postfix``: FILTER in access tables, which passes mail from users to another filter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, check, edit, error, fix, warning, write

OTHER = "spam:[127.0.0.1]:10024"
SERVICE = "spam unix - - n - 2 smtp\n"
COMMANDS = (
    f"# sign it where it comes back from {OTHER}, or, which switches {OTHER} off for it:\n"
    r"sed -i '\|FILTER[[:space:]]*spam:\[127\.0\.0\.1\]:10024|Is/^/# /' TABLE"
)
INLINE = f"# sign it where it comes back from {OTHER}, or remove FILTER in "


def certain(whose: str, hint: str = COMMANDS) -> str:
    what = f"a table has FILTER {OTHER}, so mail from {whose} is not signed"
    return error(f"submission/inet: {what}", hint)


def possible(place: str, table: str, key: str, hint: str = COMMANDS) -> str:
    what = f"{place}: {table}: mail that matches {key} goes to {OTHER}, and is not signed"
    return warning(what, hint)


# The restrictions in main.cf, the text of TABLE, and what the check prints.
SENDER = "smtpd_sender_restrictions = check_sender_access "
FAULTS = {
    "a domain with a key": (f"{SENDER}texthash:TABLE", f"example.com FILTER {OTHER}", certain("example.com")),
    "an address of such a domain": (
        f"{SENDER}texthash:TABLE",
        f"boss@example.com FILTER {OTHER}",
        possible("smtpd_sender_restrictions", "texthash:TABLE", "boss@example.com"),
    ),
    "in lower case, and on two lines": (
        f"{SENDER}regexp:TABLE",
        f"/@example\\.com$/ filter {OTHER}",
        certain("example.com"),
    ),
    "a local part": (
        f"{SENDER}texthash:TABLE",
        f"news@ FILTER {OTHER}",
        possible("smtpd_sender_restrictions", "texthash:TABLE", "news@"),
    ),
    "an indexed table": (
        f"{SENDER}hash:TABLE",
        f"example.com FILTER {OTHER}",
        certain("example.com", f"{COMMANDS} && postmap hash:TABLE"),
    ),
    "a pattern for all": (f"{SENDER}regexp:TABLE", f"/./ FILTER {OTHER}", certain("users")),
    "in the list of recipients": (
        "smtpd_recipient_restrictions = check_sender_access texthash:TABLE",
        f"example.com FILTER {OTHER}",
        certain("example.com"),
    ),
    "a table without a name": (
        "smtpd_sender_restrictions = texthash:TABLE",
        f"example.com FILTER {OTHER}",
        certain("example.com"),
    ),
    "at the end of the data": (
        "smtpd_end_of_data_restrictions = check_sender_access texthash:TABLE",
        f"example.com FILTER {OTHER}",
        certain("example.com"),
    ),
    "in a class": (
        "smtpd_restriction_classes = spam\nspam = check_sender_access texthash:TABLE\n"
        "smtpd_sender_restrictions = spam",
        f"example.com FILTER {OTHER}",
        certain("example.com"),
    ),
    "an action before it": (
        f"{SENDER}inline:{{example.com=DUNNO}}, check_sender_access texthash:TABLE",
        f"example.com FILTER {OTHER}",
        certain("example.com"),
    ),
    "in main.cf itself": (
        f"{SENDER}inline:{{{{example.com=FILTER {OTHER}}}}}",
        "",
        certain("example.com", f"{INLINE}inline:{{{{example.com=FILTER {OTHER}}}}}"),
    ),
    "for all, without a file": (
        f"{SENDER}static:{{FILTER {OTHER}}}",
        "",
        certain(
            "users",
            f"# sign it where it comes back from {OTHER}, or remove FILTER in static:{{FILTER {OTHER}}}",
        ),
    ),
    "some recipients": (
        "smtpd_recipient_restrictions = check_recipient_access texthash:TABLE",
        f"example.org FILTER {OTHER}",
        possible("smtpd_recipient_restrictions", "texthash:TABLE", "example.org"),
    ),
    "some clients": (
        "smtpd_client_restrictions = check_client_access cidr:TABLE",
        f"192.0.2.0/24 FILTER {OTHER}",
        possible("smtpd_client_restrictions", "cidr:TABLE", "192.0.2.0/24"),
    ),
    "all clients": (
        "smtpd_client_restrictions = check_client_access cidr:TABLE",
        f"0.0.0.0/0 FILTER {OTHER}",
        certain("users"),
    ),
    "some HELO names": (
        "smtpd_helo_restrictions = check_helo_access regexp:TABLE",
        f"/^printer/ FILTER {OTHER}",
        possible("smtpd_helo_restrictions", "regexp:TABLE", "/^printer/"),
    ),
    "some logins": (
        "smtpd_sender_restrictions = check_sasl_access texthash:TABLE",
        f"alice FILTER {OTHER}",
        possible("smtpd_sender_restrictions", "texthash:TABLE", "alice"),
    ),
}


def _damaged(directory: Path, lines: str, text: str, words: dict[str, str]) -> tuple[Path, str]:
    table = directory / "table"
    table.write_text(f"# FILTER other:[127.0.0.1]:1\n{text}\n")
    if "hash:TABLE" in lines and "texthash" not in lines:
        subprocess.run(["postmap", f"hash:{table}"], check=True)
    main = f"{MAIN}{lines.replace('TABLE', str(table))}\n"
    return write(directory / "postfix", main, MASTER + SERVICE, words), str(table)


@pytest.mark.parametrize("name", FAULTS)
def test_mail_that_a_table_leads_elsewhere(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    lines, text, output = FAULTS[name]
    directory, table = _damaged(tmp_path, lines, text, words)
    found = check(directory)[1]
    assert found == output.replace("TABLE", table)
    if "sed " in found:
        fix(directory, found)
        assert check(directory) == GOOD


# Restrictions and tables that lead no mail of ours elsewhere.
HARMLESS = {
    "another domain": (f"{SENDER}texthash:TABLE", f"example.net FILTER {OTHER}"),
    "a pattern of another domain": (f"{SENDER}regexp:TABLE", f"/@example\\.net$/ FILTER {OTHER}"),
    "a domain with a similar end": (f"{SENDER}texthash:TABLE", f"myexample.com FILTER {OTHER}"),
    "the null sender": (f"{SENDER}texthash:TABLE", f"<> FILTER {OTHER}"),
    "our filter": (f"{SENDER}texthash:TABLE", "example.com FILTER dkimpipe:dummy"),
    "after users are permitted": (
        "smtpd_recipient_restrictions = permit_sasl_authenticated, reject_unauth_destination,"
        " check_recipient_access texthash:TABLE",
        f"example.org FILTER {OTHER}",
    ),
    "another action": (f"{SENDER}texthash:TABLE", "example.com PREPEND X-Filter: FILTER a:b"),
    "a comment": (f"{SENDER}texthash:TABLE", f"# example.com FILTER {OTHER}"),
    "overridden later": (
        f"{SENDER}texthash:TABLE\nsmtpd_data_restrictions = check_client_access cidr:SITE/filter.cidr",
        f"boss@example.org FILTER {OTHER}",
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_tables_that_lead_no_mail_of_ours_elsewhere(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    directory, _ = _damaged(tmp_path, *HARMLESS[name], words)
    found = check(directory)[1]
    assert not [line for line in found.splitlines() if "is not signed" in line], found


def test_mail_that_comes_back_to_our_filter(tmp_path: Path, words: dict[str, str]) -> None:
    """The table names the filter that all mail from users passes first, and comes back from."""
    text = f"example.com FILTER {OTHER}"
    directory, _ = _damaged(tmp_path, f"{SENDER}texthash:TABLE", text, words)
    behind = "127.0.0.1:10025 inet n - n - - smtpd -o content_filter=dkimpipe:dummy"
    edit(directory, f"-M '127.0.0.1:10025/inet={behind}'", words)
    edit(directory, f"-P submission/inet/content_filter={OTHER}", words)
    settled(directory / "main.cf")
    assert "a table has FILTER" not in check(directory)[1]
