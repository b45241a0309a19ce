"""``dkimpipe postfix --sign networks``: the table of one's own networks, and where it comes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from applying import NETWORKS, apply, content, edit, faults, overrides, revert, said, write

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")

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
    assert said(directory, "--sign", "networks", "--apply") == (
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
    status, _, errors = said(directory, "--sign", "networks", "--apply")
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
    assert said(directory, "--sign", "networks", "--apply") == (
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
    status, _, errors = said(directory, "--sign", "networks", "--apply")
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
    status, _, errors = said(directory, "--sign", "networks", "--apply")
    assert (status, content(directory)) == (78, before)
    assert errors.startswith("dkimpipe: --sign networks: smtp/inet: ")
    assert "gets this mail, and a message can have only one filter\nhint: sign it where" in errors


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
