"""postfix/dns_panel.py, the sample for --publish-command, with stand-ins for the APIs that it calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Keys
from panelapi import KEY, ZONE, Api, Cloudflare, PowerDns
from recording import run, value
from rolling import BEGIN, DAY, START, House

from dkimpipe.admin.dns import formats

A = f"a.example.com.keys.{ZONE}"
FIXED = ("--selectors=a,b", f"--zone=keys.{ZONE}")


@pytest.fixture(params=[PowerDns, Cloudflare], ids=["powerdns", "cloudflare"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    api: Api = request.param(tmp_path)
    with api:
        yield api


def change(api: Api, action: str, text: str, name: str = A, ttl: int = 3600) -> tuple[int, str]:
    """Run the program as dkimpipe does; return its status and what it says."""
    described = json.dumps({"strings": formats.strings(text)})
    done = subprocess.run(
        [api.program, action, name, str(ttl)],
        input=f"{text}\n{described}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert KEY not in done.stderr
    return done.returncode, done.stderr.replace(str(api.directory), "DIRECTORY")


def test_publish_and_delete(keys: Keys, api: Api) -> None:
    """The zone is found though the name is five labels below it; other records stay."""
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n")
    where = ("--sender_map", path, *FIXED, "--publish-command", api.program, api.look_at, "--ttl=60")
    assert run(*where) == (0, f"{A}: added\n".encode(), "")
    assert api.values(A) == [value(keys, "rsa2048")]
    assert api.ttls == {A: 60}
    assert run(*where) == (0, f"{A}: already there\n".encode(), "")
    assert run(*where, "--testing", "--replace") == (0, f"{A}: replaced\n".encode(), "")
    assert api.values(A) == [value(keys, "rsa2048").replace("; p=", "; t=y; p=")]
    assert run(*where, "--replace", "--delete", "example.com") == (0, f"{A}: deleted\n".encode(), "")
    assert api.values(A) == []


def test_twice_is_once(api: Api) -> None:
    text = 'v=DKIM1; n=a"b\\c; p=' + "x" * 400
    for _ in range(2):
        assert change(api, "add", text) == (0, "")
        assert api.values(A) == [text]
    api.add(A, '"of somebody else"')
    for _ in range(2):
        assert change(api, "delete", text) == (0, "")
        assert api.values(A) == ["of somebody else"]
    assert change(api, "add", text) == (0, "")
    assert sorted(api.values(A)) == ["of somebody else", text]


def test_a_value_is_the_same_however_it_is_split(api: Api) -> None:
    api.add(A, '"v=DKIM1; " "p=AAAA"')
    assert change(api, "add", "v=DKIM1; p=AAAA") == (0, "")
    assert len(api.contents[A]) == 1
    api.contents[A] = {"r": "v=DKIM1; p=AAAA"}  # Cloudflare shows some without quotes
    assert change(api, "delete", "v=DKIM1; p=AAAA") == (0, "")
    assert not api.contents[A]


def test_a_disabled_record_of_powerdns(tmp_path: Path) -> None:
    with PowerDns(tmp_path) as api:
        api.disabled = {api.add(A, '"v=DKIM1; p=AAAA"'), api.add(A, '"of somebody else"')}
        for _ in range(2):
            assert change(api, "add", "v=DKIM1; p=AAAA") == (0, "")
            assert api.values(A) == ["v=DKIM1; p=AAAA"]
        assert sorted(api.contents[A].values()) == ['"of somebody else"', '"v=DKIM1; p=AAAA"']
        assert change(api, "delete", "v=DKIM1; p=AAAA") == (0, "")
        assert (api.values(A), [*api.contents[A].values()]) == ([], ['"of somebody else"'])
        assert [each for each in api.requests if each[:5] == "PATCH"] == [f"PATCH /zones/{ZONE}."] * 2


REFUSED = {"success": False, "errors": [{"code": 9109, "message": "Invalid access token"}], "result": None}
REFUSED_TEXT = '[{"code": 9109, "message": "Invalid access token"}]'
# What the list of zones is; what is said.
ANSWERS: dict[str, tuple[object, str]] = {
    "null": (None, "GET /zones: the answer is empty"),
    "refused": (REFUSED, f"GET /zones: {REFUSED_TEXT}"),
    "of something else": ([1], "API: an answer is not one of KIND: "),
    "number": (1, "API: an answer is not one of KIND: "),
}


@pytest.mark.parametrize(("answer", "words"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_another_kind(api: Api, answer: object, words: str) -> None:
    api.answers = {"GET /zones": answer}
    status, said = change(api, "add", "x")
    assert status == 1
    assert said.startswith(words.replace("API", api.url).replace("KIND", api.kind))
    assert said.count("\n") == 1


def test_a_change_that_is_refused(tmp_path: Path) -> None:
    with Cloudflare(tmp_path) as api:
        api.answers = {"POST /zones/z1/dns_records": REFUSED}
        assert change(api, "add", "x") == (1, f"POST /zones/z1/dns_records: {REFUSED_TEXT}\n")


def test_a_short_time_to_live(api: Api) -> None:
    """Cloudflare takes no less than a minute."""
    assert change(api, "add", "x", ttl=5) == (0, "")
    assert api.ttls == {A: 60 if isinstance(api, Cloudflare) else 5}


def test_a_name_outside_the_zone(api: Api) -> None:
    status, said = change(api, "add", "x", "a.example.com")
    assert status == 1
    assert said.startswith("a.example.com: there is no zone for it")
    assert api.requests == ["GET /zones"] * 2


def test_a_wrong_key(keys: Keys, api: Api) -> None:
    api.conf(f"api {api.kind}\nurl {api.url}\nkey wr0ng\n")
    path = keys.senders("example.com dkim(s=a,key=KEYS/rsa2048.pem)\n")
    done = run("--sender_map", path, *FIXED, "--publish-command", api.program, api.look_at)
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr == (
        f"dkimpipe: {A}: {api.program} add failed with exit status 1: GET /zones: HTTP status 403: "
        '{"error": "Forbidden"}\n'
    )


def test_a_redirection_does_not_get_the_key(api: Api) -> None:
    api.redirect = f"{api.url}/elsewhere"
    assert change(api, "add", "x") == (1, "GET /zones: HTTP status 302: {}\n")
    assert api.requests == ["GET /zones"]


def test_a_server_that_is_down(api: Api) -> None:
    api.conf(f"api {api.kind}\nurl http://127.0.0.1:1/\nkey {KEY}\n")
    status, said = change(api, "add", "x")
    assert (status, said) == (1, "GET /zones: <urlopen error [Errno 111] Connection refused>\n")


def test_an_answer_that_is_not_json(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", lambda _: "<html>")
    described = '{"strings": ["x"]}'
    done = subprocess.run(
        [api.program, "add", A, "60"], input=f"x\n{described}\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("GET /zones: Expecting value")


# Settings and mode; what is said.
SETTINGS = {
    "open to others": (
        "",
        0o640,
        "DIRECTORY/panel.conf is accessible to others: chmod 600 DIRECTORY/panel.conf",
    ),
    "no key": ("api powerdns\nurl http://127.0.0.1/\nkey\n", 0o600, "DIRECTORY/panel.conf: no key"),
    "no url": ("api powerdns\nkey x\n", 0o600, "DIRECTORY/panel.conf: no url"),
    "another api": (
        "api other\nurl http://127.0.0.1/\nkey x\n",
        0o600,
        "DIRECTORY/panel.conf: unknown api other; known: powerdns, cloudflare",
    ),
}


@pytest.mark.parametrize(("text", "mode", "words"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_wrong(tmp_path: Path, text: str, mode: int, words: str) -> None:
    with PowerDns(tmp_path) as api:
        api.conf(text, mode)
        assert change(api, "add", "x") == (1, f"{words}\n")
        (tmp_path / "panel.conf").unlink()
        words = "[Errno 2] No such file or directory: 'DIRECTORY/panel.conf'\n"
        assert change(api, "add", "x") == (1, words)
        assert not api.requests


def test_wrong_usage(tmp_path: Path) -> None:
    with PowerDns(tmp_path) as api:
        done = subprocess.run([api.program, "add"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:27]) == (1, "usage: dkimpipe-dns-panel a")


def test_a_rotation(keys: Keys, api: Api) -> None:
    """From the first key to the second use of a selector."""
    for selector in "ab":
        api.aliases[f"{selector}._domainkey.example.com"] = f"{selector}.example.com.keys.{ZONE}"
    arguments = (*FIXED, f"--publish-command={api.program}", api.look_at)
    house = House(api.directory, keys, "example.com dkim(s=a,key=KEYS/rsa1024.pem)\n", *arguments)
    assert house.said(START) == f"{A}: added\n"
    for days in (0, 1, 40, 180, 181):
        house.said(BEGIN + days * DAY, *(["--now"] if days == 180 else []))
    assert [(key.selector, key.state) for key in house.keys] == [
        ("a", "revoked"),
        ("b", "retiring"),
        ("a", "active"),
    ]
    assert api.values(A) == [house.keys[2].value]
