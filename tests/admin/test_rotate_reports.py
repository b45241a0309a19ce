"""``dkimpipe rotate --reports``: a new key is final once receivers report valid signatures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Keys
from reporting import Flow, packed, report
from rolling import BEGIN, DAY, HOUR, NAME, NEW, ONE, House, Zone, at, killed_at, restore, snapshot

from dkimpipe.admin.reports import documents, store
from dkimpipe.admin.rotation import state as rotation

OURS = "192.0.2.1"
BACK = "old._domainkey.example.com: signs again, replacing s=202506\n"
REPORTED = f"dkimpipe: {NAME}: signatures reported as invalid by "
HINTS = "hint: dkimpipe check --dns\nhint: # to return to s=old: --auto-back\n"


class Reported(House):
    """A house whose new key has begun to sign, and the reports on it."""

    def __init__(self, directory: Path, keys: Keys, zone: Zone, senders: str = ONE, *more: str) -> None:
        self.database = directory / "reports.db"
        words = ("--reports", f"--database={self.database}", *more)
        super().__init__(directory, keys, senders, zone.look_at, *words)
        self.begin = at(self, zone, "active")
        self._number = 0

    def receive(
        self,
        days: int,
        result: str,
        messages: int = 10,
        *,
        receiver: str = "google.com",
        selector: str = NEW,
        ip: str = OURS,
        domain: str = "example.com",
    ) -> None:
        """Store a report on the day this many days after the key began to sign."""
        aligned = ip == OURS
        flow = Flow(ip, messages, domain, ((domain, selector, result),), (domain, "pass"), aligned)
        self._number += 1
        begin = self.begin // DAY * DAY + days * DAY
        octets = packed(report([flow], receiver, domain, begin, str(self._number)))
        with store.Store(self.database) as base:
            assert store.add_all(base, documents.from_mail("", iter([octets])), begin + DAY) == []

    def after(self, days: float, *arguments: str) -> tuple[str, str]:
        """Run it this many days after the key began to sign, and return what it prints."""
        done = self.rotate(self.begin + int(days * DAY), *arguments)
        assert done.status == (78 if done.stderr else 0)
        return done.stdout.decode(), done.stderr

    @property
    def on_trial(self) -> bool:
        return any(key.trial for key in self.keys)


@pytest.fixture
def house(keys: Keys, tmp_path: Path, zone: Zone) -> Reported:
    return Reported(tmp_path, keys, zone)


def test_a_key_is_on_trial_until_it_is_reported_valid(house: Reported) -> None:
    assert house.on_trial
    assert house.after(1) == ("", "")
    assert "202506.pem, on trial\n" in house.after(1, "--dry-run")[0]
    house.receive(0, "pass")
    final = f"{NAME}: final: signatures reported as valid by google.com\n"
    assert house.after(2, "--dry-run")[0].endswith(final)
    assert house.after(2) == (final, "")
    assert not house.on_trial
    assert house.after(3) == ("", "")


def test_what_it_says_when_it_switches(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    arguments = ("--reports", f"--database={tmp_path}/none.db")
    house = House(tmp_path, keys, ONE, zone.look_at, *arguments)
    now = at(house, zone, "published")
    assert house.said(now + 2 * HOUR) == (
        f"{NAME}: signs from now on, replacing s=old; it is final once receivers report valid signatures\n"
    )


def test_without_reports_nothing_is_on_trial(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    house = House(tmp_path, keys, ONE, zone.look_at)
    at(house, zone, "active")
    assert '"trial"' not in (tmp_path / rotation.NAME).read_text()
    assert [key.trial for key in house.keys] == [False, False]


def test_a_domain_without_reports_is_not_waited_for(house: Reported) -> None:
    """There is not even a database: no report has ever come."""
    note = (
        f"{NAME}: final, although nobody has reported on it since 2025-06-30 02:00 UTC\n"
        "hint: # reports come to rua= of the DMARC record, "
        "and into the database by dkimpipe reports --store\n"
    )
    assert house.after(14 - 0.01) == ("", "")
    assert house.after(14) == (note, "")
    assert not house.on_trial
    assert house.after(15) == ("", "")


def test_the_time_limit_is_an_option(house: Reported) -> None:
    assert "although nobody" in house.after(2, "--reports-within=2d")[0]


def test_each_domain_is_waited_for(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """Each has a record of its own, which can be wrong alone."""
    both = ONE + ONE.replace("example.com", "example.org")
    house = Reported(tmp_path, keys, zone, both)
    house.receive(0, "pass")
    assert house.after(2) == ("", "")
    silent = f"{NEW}._domainkey.example.org: final, although nobody has reported on it since "
    assert house.after(14)[0].startswith(silent)


def test_the_domain_that_fails_is_named(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    both = ONE + ONE.replace("example.com", "example.org")
    house = Reported(tmp_path, keys, zone, both)
    house.receive(0, "pass")
    house.receive(0, "permerror", domain="example.org")
    assert "invalid by google.com: 10 of 10 (permerror) for example.org\n" in house.after(2)[1]


def test_a_domain_in_capitals(house: Reported) -> None:
    house.receive(0, "pass", domain="EXAMPLE.com")
    assert "final" in house.after(2)[0]


def test_failures_are_reported_until_they_end(house: Reported) -> None:
    house.receive(0, "pass", 3)
    house.receive(0, "permerror", 14)
    house.receive(0, "pass", receiver="Yahoo")
    cause = "google.com: 14 of 17 (permerror)\n"
    assert house.after(1.5) == ("", REPORTED + cause + HINTS)
    assert house.after(20) == ("", REPORTED + cause + HINTS)
    assert house.states == {"old": "retiring", NEW: "active"}
    house.receive(21, "pass")
    assert house.after(22) == (f"{NAME}: final: signatures reported as valid by google.com, Yahoo\n", "")


NOT_FAILURES = {
    "altered by others": {"result": "fail", "ip": "198.51.100.9"},
    "forged: an expired signature, rsa-sha1, i= outside d=": {"result": "permerror", "ip": "203.0.113.7"},
    "forged: a policy of the receiver": {"result": "policy", "ip": "203.0.113.7"},
    "not verified": {"result": "none"},
    "not for the moment": {"result": "temperror"},
    "the key before": {"result": "permerror", "selector": "old"},
    "another domain": {"result": "permerror", "domain": "example.org"},
    "before the key signed": {"result": "permerror", "days": -1},
}


@pytest.mark.parametrize("reported", NOT_FAILURES.values(), ids=NOT_FAILURES)
def test_what_says_nothing_about_the_key(house: Reported, reported: dict[str, object]) -> None:
    house.receive(**{"days": 0, **reported})  # type: ignore[arg-type]
    assert house.after(2) == ("", "")
    assert house.on_trial
    assert house.after(2, "--auto-back") == ("", "")
    assert house.states == {"old": "retiring", NEW: "active"}


def test_few_failures_are_normal(house: Reported) -> None:
    house.receive(0, "fail", 5)
    house.receive(0, "pass", 95)
    assert "final: signatures" in house.after(2)[0]


def test_a_receiver_that_never_liked_this_type_of_key_has_no_say(house: Reported) -> None:
    house.receive(-2, "permerror", selector="old", receiver="no Ed25519")
    house.receive(-2, "pass", selector="old")
    house.receive(1, "permerror", receiver="no Ed25519")
    assert house.after(2) == ("", "")
    house.receive(1, "pass")
    assert house.after(2) == (f"{NAME}: final: signatures reported as valid by google.com\n", "")


def test_the_old_record_is_kept_while_the_new_key_is_on_trial(house: Reported) -> None:
    house.receive(0, "permerror")
    delete = "old._domainkey.example.com: delete this record from DNS: its key no longer signs\n"
    assert house.after(40)[0] == ""
    house.receive(40, "pass")
    assert "final" in house.after(41)[0]
    assert house.after(42) == (delete, "")


def test_without_the_option_the_trial_is_over(house: Reported) -> None:
    house.receive(0, "permerror")
    house.arguments = house.arguments[:1]
    assert house.after(1) == ("", "")
    assert house.after(31)[0].startswith("old._domainkey.example.com: delete this record")


# --auto-back


def test_it_returns_to_the_old_key(house: Reported) -> None:
    before = house.senders.read_text()
    house.receive(0, "permerror")
    assert house.after(1, "--auto-back", "--dry-run")[0].endswith(BACK)
    assert house.senders.read_text() == before
    hint = HINTS.splitlines(keepends=True)[0]
    cause = f"{REPORTED}google.com: 10 of 10 (permerror)\n"
    assert house.after(1, "--auto-back") == (BACK, cause + hint)
    assert house.senders.read_text() == ONE.replace("KEYS", str(house.directory))
    assert house.states == {"old": "active", NEW: "retiring"}
    assert house.after(2, "--auto-back") == ("", "")
    assert house.after(31.5)[0] == f"{NAME}: delete this record from DNS: its key no longer signs\n"
    assert "202512._domainkey.example.com: a new key, " in house.after(181)[0]


def test_it_returns_by_itself_only_on_request(house: Reported) -> None:
    house.receive(0, "permerror")
    house.after(1)
    assert house.states == {"old": "retiring", NEW: "active"}


# Reports on the same key by day and receiver: messages, result, address. None of them is reason to return.
TOO_FEW: dict[str, list[dict[str, object]]] = {
    "nine messages": [{"messages": 9, "result": "permerror"}],
    "one, after many that passed": [
        {"messages": 5000, "result": "pass", "receiver": "Yahoo"},
        {"messages": 1, "result": "fail", "receiver": "tiny.example"},
    ],
    "ten of one receiver, of a thousand": [
        {"messages": 1000, "result": "pass", "receiver": "Yahoo"},
        {"messages": 10, "result": "fail", "receiver": "tiny.example"},
    ],
    "nine, and a thousand that were forged": [
        {"messages": 9, "result": "fail"},
        {"messages": 1000, "result": "permerror", "ip": "203.0.113.7"},
    ],
}


@pytest.mark.parametrize("reported", TOO_FEW.values(), ids=TOO_FEW)
def test_it_does_not_return_for_a_few_messages(house: Reported, reported: list[dict[str, object]]) -> None:
    for each in reported:
        house.receive(0, **each)  # type: ignore[arg-type]
    out, errors = house.after(1, "--auto-back")
    assert (out, errors.splitlines()[1:]) == ("", ["hint: dkimpipe check --dns", WAITS])
    assert errors.startswith(REPORTED)
    assert house.states == {"old": "retiring", NEW: "active"}


WAITS = "hint: # --auto-back waits for 10 failed messages, and more than 5% of all"


def test_a_little_mail_each_day_is_enough_in_time(house: Reported) -> None:
    for day in range(4):
        assert house.states[NEW] == "active"
        house.receive(day, "permerror", 3)
        house.after(day + 1, "--auto-back")
    assert house.states == {"old": "active", NEW: "retiring"}


OTHERS = f"{NAME}: final, although nobody has reported a valid signature since 2025-06-30 02:00 UTC: "
REPORTED_OTHERWISE = {
    "from an address that is not known": (
        {"messages": 500, "result": "fail", "ip": "203.0.113.20"},
        "messages whose signature was not valid (500 fail), most from 203.0.113.20\n"
        "hint: # if 203.0.113.20 is a server of yours: --own 203.0.113.20\n",
    ),
    "not judged": (
        {"messages": 500, "result": "temperror"},
        "messages whose signature was not valid (500 temperror)\n",
    ),
    "unsigned": (
        {"messages": 500, "result": "fail", "selector": "else"},
        "500 messages from servers of this domain without the signature\nhint: dkimpipe audit\n",
    ),
}


@pytest.mark.parametrize(("reported", "said"), REPORTED_OTHERWISE.values(), ids=REPORTED_OTHERWISE)
def test_it_says_what_was_reported(house: Reported, reported: dict[str, object], said: str) -> None:
    house.receive(0, **reported)  # type: ignore[arg-type]
    assert house.after(2, "--reports-within=1d") == (OTHERS + said, "")
    assert not house.on_trial


def test_an_address_can_be_given(house: Reported) -> None:
    house.receive(0, "fail", ip="203.0.113.20")
    assert house.after(1) == ("", "")
    assert house.after(1, "--own=203.0.113.20") == ("", f"{REPORTED}google.com: 10 of 10 (fail)\n{HINTS}")


def test_it_does_not_return_to_a_key_whose_record_is_gone(house: Reported, zone: Zone) -> None:
    house.receive(0, "permerror")
    del zone.records["old._domainkey.example.com"]
    out, errors = house.after(1, "--auto-back")
    assert out == ""
    assert f"dkimpipe: {NAME}: cannot return to s=old: old._domainkey.example.com: " in errors
    assert house.states == {"old": "retiring", NEW: "active"}


def test_it_does_not_return_to_a_key_whose_file_is_gone(house: Reported) -> None:
    house.receive(0, "permerror")
    (house.directory / "rsa1024.pem").unlink()
    _, errors = house.after(1, "--auto-back")
    assert f"dkimpipe: {NAME}: cannot return to s=old: its key or record is gone\n" in errors
    assert house.states == {"old": "retiring", NEW: "active"}


def test_it_does_not_return_for_a_domain_without_the_old_record(house: Reported, zone: Zone) -> None:
    """Somebody has given the new key to another domain, which never had the old one."""
    house.receive(0, "permerror")
    value = zone.records[NAME]
    zone.records[f"{NEW}._domainkey.more.example"] = value
    entry = house.senders.read_text().replace("example.com dkim", "more.example dkim")
    house.senders.write_text(house.senders.read_text() + entry)
    _, errors = house.after(1, "--auto-back")
    assert "cannot return to s=old: old._domainkey.more.example: there is no such name" in errors
    assert house.states == {"old": "retiring", NEW: "active"}


def test_auto_back_requires_reports(house: Reported, capsys: pytest.CaptureFixture[str]) -> None:
    house.arguments = house.arguments[:1]
    with pytest.raises(SystemExit) as end:
        house.after(1, "--auto-back")
    assert end.value.code == 2  # of a parser of its own; dkimpipe's ends with 64


def test_killed_while_it_returns(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """Two maps; after each kill the next run completes what was begun, and both keys have their records."""
    lists = tmp_path / "lists"
    lists.write_text(f"news.{ONE}".replace("(", "(d=example.com,").replace("KEYS", str(tmp_path)))
    house = Reported(tmp_path, keys, zone, ONE, f"--listid_map={lists}", "--auto-back")
    house.receive(0, "permerror")
    now = house.begin + DAY
    snapshot(tmp_path, tmp_path / "before")
    kills, killed = 0, True
    while killed:
        restore(tmp_path / "before", tmp_path)
        killed = killed_at(kills + 1, house, now)
        kills += killed
        house.rotate(now)
        assert house.states == {"old": "active", NEW: "retiring"}, kills
        assert NEW not in house.senders.read_text() + lists.read_text(), kills
    assert kills > 20


def test_killed_while_it_switches(keys: Keys, tmp_path: Path, zone: Zone) -> None:
    """The key is on trial, whenever the run that switched to it was killed."""
    house = House(tmp_path, keys, ONE, zone.look_at, "--reports", f"--database={tmp_path}/none.db")
    now = at(house, zone, "published") + 2 * HOUR
    snapshot(tmp_path, tmp_path / "before")
    kills, killed = 0, True
    while killed:
        restore(tmp_path / "before", tmp_path)
        killed = killed_at(kills + 1, house, now)
        kills += killed
        house.rotate(now)
        assert [(key.state, key.trial) for key in house.keys] == [("retiring", False), ("active", True)], (
            kills
        )
    assert kills > 10


# The database and the states


def test_a_database_that_cannot_be_read_is_an_error(house: Reported) -> None:
    house.database.write_bytes(b"x" * 4096)
    hint = "hint: # name the database of the reports: --database\n"
    assert house.after(20) == ("", f"dkimpipe: KEYS/reports.db: file is not a database\n{hint}")
    assert house.on_trial


def test_states_of_earlier_versions_are_read(house: Reported) -> None:
    path = house.directory / rotation.NAME
    saved = json.loads(path.read_text())
    for key in saved["keys"]:
        key.pop("trial", None)
    path.write_text(json.dumps(saved))
    assert not house.on_trial
    assert house.after(1) == ("", "")


@pytest.mark.parametrize("trial", ["yes", 1, None])
def test_damaged_states(house: Reported, trial: object) -> None:
    path = house.directory / rotation.NAME
    saved = json.loads(path.read_text())
    saved["keys"][1]["trial"] = trial
    path.write_text(json.dumps(saved))
    assert f"invalid 'trial': {trial!r}" in house.after(1)[1]


def test_a_clock_that_was_wrong_does_not_end_the_trial(house: Reported) -> None:
    assert "in the future; reset to now" in house.after(-10)[0]
    assert house.on_trial


def test_the_reports_that_the_command_stores(house: Reported) -> None:
    """They are in the file that dkimpipe reports --store writes; nothing in it is changed."""
    house.receive(0, "pass")
    before = house.database.read_bytes()
    os.utime(house.database, (BEGIN, BEGIN))
    assert "final" in house.after(2)[0]
    assert (house.database.read_bytes(), house.database.stat().st_mtime) == (before, BEGIN)
