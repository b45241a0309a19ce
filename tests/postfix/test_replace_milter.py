"""``dkimpipe postfix --apply --replace-milter``: exactly one milter goes, and --revert restores each byte."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from applying import content, edit, verb, write

from dkimpipe.admin.postfix.milter_lists import PARAMETERS
from dkimpipe.admin.postfix.postconf import Postconf

INET = "inet:localhost:8891"


class Case(NamedTuple):
    """Settings of main.cf, overrides in master.cf, the milter, and the lists that remain."""

    main: dict[str, str]
    overrides: dict[str, str]
    milter: str
    left: dict[str, str]


CASES = {
    "the only one": Case({"smtpd_milters": INET}, {}, INET, {"smtpd_milters": ""}),
    "one of several": Case(
        {"smtpd_milters": f"inet:127.0.0.1:11332, {INET} unix:/run/x"},
        {},
        INET,
        {"smtpd_milters": "inet:127.0.0.1:11332, unix:/run/x"},
    ),
    "by its address": Case(
        {"smtpd_milters": "inet:[127.0.0.1]:8891", "non_smtpd_milters": "inet:127.0.0.1:8891"},
        {},
        INET,
        {"smtpd_milters": "", "non_smtpd_milters": ""},
    ),
    "in one list that follows the other": Case(
        {"smtpd_milters": INET, "non_smtpd_milters": "$smtpd_milters"},
        {},
        INET,
        {"smtpd_milters": "", "non_smtpd_milters": "$smtpd_milters"},
    ),
    "with settings of its own": Case(
        {"smtpd_milters": "{ inet:localhost:8891, default_action=accept }, inet:localhost:9"},
        {},
        INET,
        {"smtpd_milters": "inet:localhost:9"},
    ),
    "by a macro": Case(
        {"opendkim": INET, "smtpd_milters": "inet:localhost:9, $opendkim"},
        {},
        INET,
        {"smtpd_milters": "inet:localhost:9"},
    ),
    "by a macro for several": Case(
        {"both": f"{INET}, inet:localhost:9", "smtpd_milters": "$both", "non_smtpd_milters": "$both"},
        {"smtp/inet/smtpd_milters": "${both}"},
        INET,
        dict.fromkeys(("smtpd_milters", "non_smtpd_milters", "smtp/inet/smtpd_milters"), "inet:localhost:9"),
    ),
    "a socket in the queue directory": Case(
        {
            "smtpd_milters": "local:opendkim/opendkim.sock",
            "non_smtpd_milters": "unix:/opendkim/opendkim.sock",
        },
        {},
        "unix:QUEUE/opendkim/opendkim.sock",
        {"smtpd_milters": "", "non_smtpd_milters": ""},
    ),
    "of one service": Case(
        {"smtpd_milters": "inet:localhost:9"},
        {"smtp/inet/smtpd_milters": f"{INET},inet:localhost:9"},
        INET,
        {"smtpd_milters": "inet:localhost:9", "smtp/inet/smtpd_milters": "inet:localhost:9"},
    ),
    "the only one of a service": Case(
        {"smtpd_milters": INET},
        {"smtp/inet/smtpd_milters": INET},
        INET,
        {"smtpd_milters": "", "smtp/inet/smtpd_milters": ""},
    ),
    "another port": Case(
        {"smtpd_milters": "inet:localhost:8892"}, {}, INET, {"smtpd_milters": "inet:localhost:8892"}
    ),
    "another host": Case(
        {"smtpd_milters": "inet:192.0.2.1:8891"}, {}, INET, {"smtpd_milters": "inet:192.0.2.1:8891"}
    ),
}
UNTOUCHED = ("another port", "another host")


def lists(directory: Path) -> dict[str, str]:
    """Return the lists of milters that are set, but for those of dkimpipe's own services."""
    postconf = Postconf(directory)
    found = {name: value for name, value in postconf.explicit.items() if name in PARAMETERS}
    others = {name: each for name, each in postconf.overrides.items() if not name.startswith("dkimpipe")}
    for service, overrides in others.items():
        found |= {f"{service}/{name}": value for name, value in overrides.items() if name in PARAMETERS}
    return found


def written(tmp_path: Path, case: Case) -> Path:
    directory = write(tmp_path / "etc", "internet site")
    edit(directory, *(["-e", f"{name}={value}"] for name, value in case.main.items()))
    edit(directory, *(["-P", f"{name}={value}"] for name, value in case.overrides.items()))
    return directory


@pytest.mark.parametrize("name", CASES)
def test_the_milter_is_taken_out_and_comes_back(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    directory = written(tmp_path, case)
    before = content(directory)
    milter = case.milter.replace("QUEUE", Postconf(directory).value("queue_directory"))
    done = verb(directory, "--apply", "--replace-milter", milter, "--user", "daemon")
    said = f"dkimpipe: warning: no list of milters has {milter}\n" if name in UNTOUCHED else ""
    assert (done.status, done.stderr) == (0, said)
    assert lists(directory) == case.left
    assert ("is replaced" in done.stdout.decode()) == (name not in UNTOUCHED)
    again = verb(directory, "--apply", "--replace-milter", milter, "--user", "daemon")
    assert again.stdout == b"nothing to change\n"
    assert verb(directory, "--revert").status == 0
    assert content(directory) == before


# Overrides of cleanup(8), of which apply makes copies, and what the copies have.
CLEANUP = {
    "non_smtpd_milters": (INET, ""),
    "smtpd_milters": (INET, ""),
    "of several": (f"inet:localhost:9,{INET}", "inet:localhost:9"),
}


_CLIENTS = "smtpd_relay_restrictions=permit_sasl_authenticated,reject"


@pytest.mark.parametrize("name", CLEANUP)
@pytest.mark.parametrize("at_once", [True, False])
def test_copies_of_a_service_do_not_have_the_milter(tmp_path: Path, name: str, at_once: bool) -> None:
    value, left = CLEANUP[name]
    parameter = name if name in PARAMETERS else "non_smtpd_milters"
    directory = written(tmp_path, Case({}, {f"cleanup/unix/{parameter}": value}, INET, {}))
    edit(directory, ["-M", f"submission/inet=submission inet n - y - - smtpd -o {_CLIENTS}"])
    before = content(directory)
    options = ["--apply", "--sign", "submission,local", "--user", "daemon"]
    if not at_once:
        assert verb(directory, *options).status == 0
    assert verb(directory, *options, "--replace-milter", INET).status == 0
    found = {
        name: each[parameter] for name, each in Postconf(directory).overrides.items() if parameter in each
    }
    assert found == dict.fromkeys(("cleanup/unix", "dkimpipe-cleanup/unix", "dkimpipe-return/unix"), left)
    assert verb(directory, "--revert").status == 0
    assert content(directory) == before


REFUSED = {
    "OpenDMARC after it": f"{INET}, inet:localhost:8893",
    "OpenDMARC by a socket": f"{INET}, local:opendmarc/opendmarc.sock",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_signer_whose_results_opendmarc_needs_stays(tmp_path: Path, name: str) -> None:
    directory = written(tmp_path, Case({"smtpd_milters": REFUSED[name]}, {}, INET, {}))
    before = content(directory)
    done = verb(directory, "--apply", "--replace-milter", INET, "--user", "daemon")
    dmarc = REFUSED[name].partition(", ")[2]
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {dmarc} is OpenDMARC: without the results of {INET} it rejects good mail from outside\n"
        "hint: leave out --replace-milter, and let the other signer only verify: Mode v in its conf file\n",
    )
    assert content(directory) == before
    both = verb(directory, "--apply", "--replace-milter", f"{INET},{dmarc}", "--user", "daemon")
    assert (both.status, lists(directory)) == (0, {"smtpd_milters": ""})


def test_without_apply_it_is_only_printed(tmp_path: Path) -> None:
    directory = written(tmp_path, CASES["the only one"])
    before = content(directory)
    done = verb(directory, "--replace-milter", INET, "--user", "daemon")
    assert (
        f"# the milter {INET} is replaced\npostconf -c {directory} -e smtpd_milters=\n"
        in done.stdout.decode()
    )
    assert content(directory) == before


@pytest.mark.parametrize(
    "milters", ["inet:localhost:9", "unix:/nowhere", "inet:localhost:9,inet:localhost:8"]
)
def test_a_milter_in_no_list_is_named(tmp_path: Path, milters: str) -> None:
    directory = written(tmp_path, CASES["the only one"])
    done = verb(directory, "--replace-milter", milters)
    named = milters.replace(",", ", ")
    assert (done.status, done.stderr) == (0, f"dkimpipe: warning: no list of milters has {named}\n")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("${yes?{inet:localhost:8891}}, inet:localhost:9", "${yes?{inet:localhost:8891}} has conditions"),
        ("inet:localhost:9 ${no:{inet:localhost:8891}}", "${no:{inet:localhost:8891}} has conditions"),
    ],
)
@pytest.mark.parametrize("place", ["main.cf", "master.cf"])
def test_of_a_list_that_cannot_be_edited_the_command_is_printed(
    tmp_path: Path, value: str, word: str, place: str
) -> None:
    main = {"yes": "1"}
    if place == "main.cf":
        main["smtpd_milters"] = value
    directory = written(tmp_path, Case(main, {}, INET, {}))
    parameter = "smtpd_milters"
    if place == "master.cf":
        parameter = "smtp/inet/smtpd_milters"
        path = directory / "master.cf"
        line = re.compile(r"^(smtp +inet .*)", re.MULTILINE)
        path.write_text(
            line.sub(lambda found: f"{found[1]}\n  -o {{ smtpd_milters = {value} }}", path.read_text())
        )
    done = verb(directory, "--apply", "--replace-milter", INET, "--user", "daemon")
    option = "-P" if place == "master.cf" else "-e"
    hint = f"postconf -c {directory} {option} {parameter}=inet:localhost:9"
    assert (done.status, done.stderr.splitlines()[1]) == (78, f"hint: {hint}")
    assert done.stderr.startswith(f"dkimpipe: {parameter}: {word}")
    subprocess.run(["sh", "-c", hint], check=True)
    assert verb(directory, "--apply", "--replace-milter", INET, "--user", "daemon").status == 0
    assert INET not in "".join(lists(directory).values())
