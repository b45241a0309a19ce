"""``check --postfix``: entries of access lists by which mail from mynetworks bypasses the table of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, check, edit, fill, fix, hints, run, write

LIST = "smtpd_end_of_data_restrictions"
OURS = "check_client_access,cidr:DIR/dkimpipe-networks.cidr"
PLACE = f"smtp/inet/{LIST}"
PERMITTED = "mail from mynetworks that matches {} is not signed"
LED_ON = "mail from mynetworks that matches {} goes to smtp:[127.0.0.9]:2525, and is not signed"
UNKNOWN = "mail from mynetworks is not signed if that permits it, which is unknown"
PATTERN = r"/@example\.com$/"
FILTER = "FILTER smtp:[127.0.0.9]:2525"

# The list, a table FILE, and what is found.
FAULTS = {
    "each recipient": (
        f"check_recipient_access,static:OK,{OURS}",
        "",
        "error: smtp/inet: mail from 127.0.0.0/8 is not signed: a restriction permits it",
    ),
    "local recipients": (
        f"permit_auth_destination,{OURS}",
        "",
        "error: smtp/inet: mail from 127.0.0.0/8 is not signed: a restriction permits it",
    ),
    "a sender with a key": (
        f"check_sender_access,texthash:FILE,{OURS}",
        "example.com OK",
        f"error: {PLACE}: texthash:FILE: {PERMITTED.format('example.com')}",
    ),
    "a sender with a key, in an index": (
        f"check_sender_access,hash:FILE,{OURS}",
        "boss@example.com 1",
        f"error: {PLACE}: hash:FILE: {PERMITTED.format('boss@example.com')}",
    ),
    "senders by a pattern": (
        f"check_sender_access,regexp:FILE,{OURS}",
        f"{PATTERN} permit_mynetworks",
        f"warning: {PLACE}: regexp:FILE: {PERMITTED.format(PATTERN)}",
    ),
    "a recipient": (
        f"check_recipient_access,texthash:FILE,{OURS}",
        "partner.example.net OK",
        f"warning: {PLACE}: texthash:FILE: {PERMITTED.format('partner.example.net')}",
    ),
    "a client within a network": (
        f"check_client_access,cidr:FILE,{OURS}",
        "192.0.2.5 OK",
        f"error: {PLACE}: cidr:FILE: {PERMITTED.format('192.0.2.5')}",
    ),
    "the first numbers of an address": (
        f"check_client_access,texthash:FILE,{OURS}",
        "127.0.1 OK",
        f"error: {PLACE}: texthash:FILE: {PERMITTED.format('127.0.1')}",
    ),
    "the name of a client": (
        f"check_client_access,texthash:FILE,{OURS}",
        "web.example.com OK",
        f"warning: {PLACE}: texthash:FILE: {PERMITTED.format('web.example.com')}",
    ),
    "a policy service": (
        f"check_policy_service,inet:127.0.0.1:10031,{OURS}",
        "",
        "warning: smtp/inet: mail from mynetworks that check_policy_service permits is not signed:"
        " it comes before the table of networks",
    ),
    "this host": (
        f"permit_inet_interfaces,{OURS}",
        "",
        "error: smtp/inet: mail from mynetworks that permit_inet_interfaces permits is not signed:"
        " it comes before the table of networks",
    ),
    "another filter for a client": (
        f"{OURS},check_client_access,cidr:FILE",
        f"127.0.0.1 {FILTER}",
        f"error: {PLACE}: cidr:FILE: {LED_ON.format('127.0.0.1')}",
    ),
    "another filter for a sender": (
        f"{OURS},check_sender_access,texthash:FILE",
        f"example.com {FILTER}",
        f"error: {PLACE}: texthash:FILE: {LED_ON.format('example.com')}",
    ),
    "another filter for a recipient": (
        f"{OURS},check_recipient_access,texthash:FILE",
        f"partner.example.net {FILTER}",
        f"warning: {PLACE}: texthash:FILE: {LED_ON.format('partner.example.net')}",
    ),
}
NO_FAULTS = {
    "a client elsewhere": (f"check_client_access,cidr:FILE,{OURS}", "198.51.100.0/24 OK"),
    "a sender without a key": (f"check_sender_access,texthash:FILE,{OURS}", "example.invalid OK"),
    "no decision": (f"check_recipient_access,texthash:FILE,{OURS}", "partner.example.net DUNNO"),
    "a reject": (f"check_recipient_access,texthash:FILE,{OURS}", "partner.example.net REJECT"),
    "another filter before it": (f"check_client_access,cidr:FILE,{OURS}", f"127.0.0.1 {FILTER}"),
    "another filter for a client elsewhere": (
        f"{OURS},check_client_access,cidr:FILE",
        f"198.51.100.9 {FILTER}",
    ),
    "ours again": (f"{OURS},check_client_access,cidr:FILE", "127.0.0.1 FILTER dkimpipe:dummy"),
    "a policy service after it": (f"{OURS},check_policy_service,inet:127.0.0.1:10031", ""),
    "OK after it": (f"{OURS},check_sender_access,texthash:FILE", "example.com OK"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, words: dict[str, str]) -> Path:
    main = f"{MAIN}mynetworks = 127.0.0.0/8 192.0.2.0/28\n"
    directory = write(tmp_path_factory.mktemp("networks") / "postfix", main, MASTER, words)
    assert run(directory, "postfix", "--sign", "networks", "--apply")[0] == 0
    return directory


@pytest.fixture
def signed(template: Path, tmp_path: Path) -> Path:
    """A good configuration by which mail from mynetworks is signed, to be damaged."""
    directory = tmp_path / "postfix"
    directory.mkdir()
    for name in ("main.cf", "master.cf", "dkimpipe-networks.cidr"):
        (directory / name).write_text((template / name).read_text().replace(str(template), str(directory)))
        settled(directory / name)
    return directory


def damaged(signed: Path, fault: tuple[str, ...], words: dict[str, str]) -> dict[str, str]:
    entries, text, *_ = fault
    file = signed / "access"
    file.write_text(f"{text}\n")
    settled(file)
    words = {**words, "FILE": str(file), "DIR": str(signed)}
    edit(signed, f"-P {PLACE}={entries}", words)
    if "hash:FILE" in entries and "texthash" not in entries:
        subprocess.run(["postmap", f"hash:{file}"], check=True)
    return words


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_found_and_the_command_fixes_it(name: str, signed: Path, words: dict[str, str]) -> None:
    words = damaged(signed, FAULTS[name], words)
    status, output = check(signed)
    level, _, _ = FAULTS[name][2].partition(":")
    assert f"dkimpipe: {fill(FAULTS[name][2], words)}\n" in output
    assert status == (78 if level == "error" else 0)
    assert output.count("dkimpipe: ") == 1
    assert any(line.startswith(("postconf", "sed")) for line in hints(output))
    fix(signed, output)
    for file in (signed / "access", signed / "main.cf"):
        settled(file)
    assert check(signed) == GOOD


def test_a_table_without_a_text_is_unknown(signed: Path, words: dict[str, str]) -> None:
    words = damaged(signed, (f"check_sender_access,hash:FILE,{OURS}", "example.com OK"), words)
    (signed / "access").unlink()
    status, output = check(signed)
    assert f"dkimpipe: warning: {fill(PLACE, words)}: {fill('hash:FILE', words)}: {UNKNOWN}\n" in output
    assert status == 0
    fix(signed, output)
    assert check(signed) == GOOD


@pytest.mark.parametrize("name", NO_FAULTS)
def test_nothing_is_found(name: str, signed: Path, words: dict[str, str]) -> None:
    damaged(signed, NO_FAULTS[name], words)
    assert check(signed) == GOOD
