"""The command line, the conf file, and which of them wins."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import run_filter

from dkimpipe.config import read_command_line, read_conf, read_settings
from dkimpipe.errors import ConfigError, UsageError

ARGV = "in master.cf: argv=... -f ${sender} -- ${recipient}"
YES_OR_NO = ["reject_error", "syslog", "verbose"]
NAMES = [
    "conf_file",
    "domain",
    "dkim_method",
    "domainkeys_method",
    "identity",
    "keyfile",
    "listid_map",
    "method",
    "selector",
    "sender_map",
    "sendmail",
    "signature",
]

# Command line, its values.
COMMAND_LINES = {
    "nothing": ([], {}),
    "equals": (["--selector=mail"], {"selector": "mail"}),
    "blank": (["--selector", "mail"], {"selector": "mail"}),
    "underscore": (["--sender_map=/x"], {"sender_map": "/x"}),
    "hyphen": (["--sender-map=/x"], {"sender_map": "/x"}),
    "hyphen-and-blank": (["--sender-map", "/x"], {"sender_map": "/x"}),
    "equals-inside-value": (["--keyfile=/a=b"], {"keyfile": "/a=b"}),
    "value-begins-with-hyphens": (["--keyfile", "--x"], {"keyfile": "--x"}),
    "value-with-blanks": (["--identity", "a b"], {"identity": "a b"}),
    "no-utf-8": (["--keyfile=/\udcff"], {"keyfile": "/\udcff"}),
    "several": (["--domain=a", "--selector", "b"], {"domain": "a", "selector": "b"}),
    "twice": (["--domain=a", "--domain=b"], {"domain": "b"}),
    "on-error-defer": (["--on_error=defer"], {"on_error": "defer"}),
    "on-error-accept": (["--on-error", "accept"], {"on_error": "accept"}),
    "match": (["--match=sender,from,envelope"], {"match": "sender,from,envelope"}),
    "match-blanks-and-case": (["--match", " Sender , FROM"], {"match": "sender,from"}),
    "yes-alone-then-option": (["--verbose", "--syslog"], {"verbose": "yes", "syslog": "yes"}),
    "yes-alone-then-sender": (["--verbose", "-f", "a"], {"verbose": "yes"}),
    "yes-alone-with-hyphen": (["--reject-error"], {"reject_error": "yes"}),
    "yes-or-no-and-blank": (["--syslog", "no"], {"syslog": "no"}),
}


@pytest.mark.parametrize(("arguments", "values"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_command_line(arguments: list[str], values: dict[str, str]) -> None:
    assert read_command_line(arguments).values == values


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["--{}=VALUE", "--{} VALUE"])
def test_every_option(name: str, form: str) -> None:
    assert read_command_line(form.format(name).split()).values == {name: "VALUE"}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_with_hyphens(name: str) -> None:
    assert read_command_line([f"--{name.replace('_', '-')}=VALUE"]).values == {name: "VALUE"}


@pytest.mark.parametrize("name", YES_OR_NO)
def test_yes_or_no_alone_is_yes(name: str) -> None:
    assert read_command_line([f"--{name}"]).yes(name, False) is True


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *((word, True) for word in ("yes", "YES", "1", "true", "on", "")),
        *((word, False) for word in ("no", "No", "0", "false", "off")),
    ],
)
def test_words_for_yes_and_no(word: str, expected: bool) -> None:
    assert read_command_line([f"--verbose={word}"]).yes("verbose", not expected) is expected


@pytest.mark.parametrize("default", [True, False])
def test_yes_or_no_that_is_not_given(default: bool) -> None:
    assert read_command_line([]).yes("verbose", default) is default


def test_value_that_is_not_given() -> None:
    assert read_command_line([]).get("selector", "mail") == "mail"


@pytest.mark.parametrize(
    "words",
    [["--listen=127.0.0.1:10027"], ["--listen", "127.0.0.1:10027"], ["--daemonize"], ["--min-servers", "5"]],
    ids=" ".join,
)
def test_server_options_have_no_effect(words: list[str]) -> None:
    settings = read_command_line([*words, "--selector=a", "-f", "", "--", "b@example.net"])
    assert (settings.values, settings.recipients) == ({"selector": "a"}, ["b@example.net"])


def test_match_that_is_not_given() -> None:
    assert read_command_line([]).match == ["from", "sender"]


def test_signatures_of_the_command_line_in_order() -> None:
    settings = read_command_line(["--signature=dkim(s=a)", "--domain=x", "--signature", "domainkeys"])
    assert [text for text, _ in settings.signatures] == ["dkim(s=a)", "domainkeys"]


# Command line, sender, recipients.
ENVELOPES = {
    "none": ([], None, []),
    "sender-only": (["-f", "a@example.com"], "a@example.com", []),
    "null-sender": (["-f", "", "--", "b@example.net"], "", ["b@example.net"]),
    "one": (["-f", "a@example.com", "--", "b@example.net"], "a@example.com", ["b@example.net"]),
    "two": (["-f", "a", "--", "b", "c"], "a", ["b", "c"]),
    "two-equal": (["-f", "a", "--", "b", "b"], "a", ["b", "b"]),
    "option-before": (["--verbose", "-f", "a", "--", "b"], "a", ["b"]),
    "option-behind-sender": (["-f", "a", "--domain", "x", "--", "b"], "a", ["b"]),
    "recipient-begins-with-hyphen": (["-f", "a", "--", "-b@example.net"], "a", ["-b@example.net"]),
    "recipient-like-options": (["-f", "a", "--", "-f", "--domain=x"], "a", ["-f", "--domain=x"]),
    "recipient-like-the-end": (["-f", "a", "--", "--"], "a", ["--"]),
    "recipient-empty": (["-f", "a", "--", ""], "a", [""]),
    "sender-begins-with-hyphen": (["-f", "-a@example.com", "--", "b"], "-a@example.com", ["b"]),
    "sender-like-the-end": (["-f", "--", "--", "b"], "--", ["b"]),
    "sender-twice": (["-f", "a", "-f", "b", "--", "c"], "b", ["c"]),
}


@pytest.mark.parametrize(("arguments", "sender", "recipients"), ENVELOPES.values(), ids=ENVELOPES)
def test_envelope(arguments: list[str], sender: str | None, recipients: list[str]) -> None:
    settings = read_command_line(arguments)
    assert (settings.sender, settings.recipients) == (sender, recipients)


LISTS = "see dkimpipe --help"
HELP = "recipients follow --; see dkimpipe --help"

# Command line, what is wrong, the hint.
MISUSES: dict[str, tuple[list[str], str, str]] = {
    "unknown-option": (["--selektor=a"], "unknown option '--selektor'", LISTS),
    "unknown-option-with-hyphens": (["--sender-maps", "a"], "unknown option '--sender-maps'", LISTS),
    "abbreviation": (["--sel=a"], "unknown option '--sel'", LISTS),
    "upper-case": (["--Selector=a"], "unknown option '--Selector'", LISTS),
    "no-name": (["--=a"], "unknown option '--'", LISTS),
    "three-hyphens": (["---selector=a"], "unknown option '---selector'", LISTS),
    "help-not-alone": (["--help", "--verbose"], "unknown option '--help'", LISTS),
    "word": (["b@example.net"], "unknown argument 'b@example.net'", HELP),
    "empty-word": ([""], "unknown argument ''", HELP),
    "hyphen": (["-"], "unknown argument '-'", HELP),
    "short-option": (["-v"], "unknown argument '-v'", HELP),
    "sender-without-blank": (["-fa@example.com"], "unknown argument '-fa@example.com'", HELP),
    "no-value": (["--selector"], "--selector needs a value", ""),
    "no-value-with-hyphen": (["--sender-map"], "--sender-map needs a value", ""),
    "no-sender": (["-f"], "-f needs a value", ARGV),
    "no-recipients": (["-f", "a", "--"], "no recipients after --", ARGV),
    "recipients-without-sender": (["--", "b"], "recipients without -f SENDER", ARGV),
}


@pytest.mark.parametrize(("arguments", "cause", "hint"), MISUSES.values(), ids=MISUSES)
def test_misuse(arguments: list[str], cause: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_command_line(arguments)
    assert (str(raised.value), raised.value.hint) == (cause, hint)


# Name, value, what is wrong with it.
BAD_VALUES = {
    "empty": ("selector", "", "selector has no value"),
    "empty-match": ("match", "", "match has no value"),
    "yes-or-no": ("syslog", "maybe", "syslog must be yes or no, not 'maybe'"),
    "on-error": ("on_error", "bounce", "on_error must be defer or accept, not 'bounce'"),
    "on-error-upper-case": ("on_error", "Accept", "on_error must be defer or accept, not 'Accept'"),
    "on-error-empty": ("on_error", "", "on_error must be defer or accept, not ''"),
    "match": ("match", "from,to", "match accepts from, sender, envelope; not 'to'"),
    "match-empty-element": ("match", "from,", "match accepts from, sender, envelope; not ''"),
}


@pytest.mark.parametrize(("name", "value", "cause"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_bad_value_on_the_command_line(name: str, value: str, cause: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_command_line([f"--{name}={value}"])
    assert str(raised.value) == f"command line: {cause}"


# A name that is yes or no may stand alone; the others need a value in a conf file, too.
@pytest.mark.parametrize(("name", "value", "cause"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_bad_value_in_the_conf_file(tmp_path: Path, name: str, value: str, cause: str) -> None:
    path = tmp_path / "conf"
    path.write_text(f"# first\n{name} {value}\n")
    with pytest.raises(ConfigError) as raised:
        read_settings([f"--conf_file={path}"])
    assert str(raised.value) == f"{path}, line 2: {cause}"


def directives(directory: Path, octets: bytes) -> list[tuple[str, str, int]]:
    """Return name, value and line number of the directives in a conf file of these octets."""
    path = directory / "conf"
    path.write_bytes(octets)
    found = read_conf(str(path))
    assert all(place.path == str(path) for *_, place in found)
    return [(name, value, place.line) for name, value, place in found]


# Conf file, its directives.
CONF_FILES = {
    "empty": (b"", []),
    "blank": (b"selector mail\n", [("selector", "mail", 1)]),
    "blanks": (b"selector \t  mail \t\n", [("selector", "mail", 1)]),
    "htab": (b"selector\tmail\n", [("selector", "mail", 1)]),
    "indented": (b"  selector mail\n", [("selector", "mail", 1)]),
    "equals": (b"selector=mail\n", [("selector", "mail", 1)]),
    "equals-with-blanks": (b"selector = mail\n", [("selector", "mail", 1)]),
    "colon": (b"selector: mail\n", [("selector", "mail", 1)]),
    "colon-with-blanks": (b"selector : mail\n", [("selector", "mail", 1)]),
    "hyphens-before": (b"--selector mail\n", [("selector", "mail", 1)]),
    "hyphens-before-and-equals": (b"--sender-map=/x\n", [("sender_map", "/x", 1)]),
    "hyphen-inside": (b"sender-map /x\n", [("sender_map", "/x", 1)]),
    "underscore-inside": (b"sender_map /x\n", [("sender_map", "/x", 1)]),
    "no-final-line-end": (b"selector mail", [("selector", "mail", 1)]),
    "crlf": (b"selector mail\r\ndomain a.example\r\n", [("selector", "mail", 1), ("domain", "a.example", 2)]),
    "comments": (b"# x\n; y\n  # z\nselector mail\n", [("selector", "mail", 4)]),
    "comment-behind": (b"selector mail # why\n", [("selector", "mail", 1)]),
    "comment-behind-htab": (b"selector mail\t# why\n", [("selector", "mail", 1)]),
    "hash-inside-a-word": (b"keyfile /a#b\n", [("keyfile", "/a#b", 1)]),
    "blank-lines": (b"\n\n \n\t\r\nselector mail\n\n", [("selector", "mail", 5)]),
    "equals-inside-value": (b"signature dkim(c=relaxed,s=a)\n", [("signature", "dkim(c=relaxed,s=a)", 1)]),
    "blank-inside-value": (b"domain a.example, b.example\n", [("domain", "a.example, b.example", 1)]),
    "colon-inside-value": (b"signature dkim(h=from:to)\n", [("signature", "dkim(h=from:to)", 1)]),
    "repeated": (b"domain a\ndomain b\n", [("domain", "a", 1), ("domain", "b", 2)]),
    "yes-or-no-alone": (b"reject_error\n", [("reject_error", "", 1)]),
    "utf-8": ("domain bücher.example\n".encode(), [("domain", "bücher.example", 1)]),
    "no-utf-8": (b"keyfile /\xff\n", [("keyfile", "/\udcff", 1)]),
    "server": (b"listen 127.0.0.1:10027\nuser dkim\ndomain a\n", [("domain", "a", 3)]),
}


@pytest.mark.parametrize(("octets", "expected"), CONF_FILES.values(), ids=CONF_FILES)
def test_conf_file(tmp_path: Path, octets: bytes, expected: list[tuple[str, str, int]]) -> None:
    assert directives(tmp_path, octets) == expected


# What DKIMproxy and the Perl module Net::Server know, and a filter has no use for.
SERVER = [
    "listen 127.0.0.1:10027",
    "relay_host 127.0.0.1",
    "relay_port 25",
    "min_servers 5",
    "min_spare_servers 2",
    "max_servers 10",
    "max_spare_servers 5",
    "max_requests 1000",
    "user dkim",
    "group dkim",
    "daemonize 1",
    "setsid 1",
    "background 1",
    "pidfile /run/x.pid",
    "pid_file /run/x.pid",
    "log_level 2",
    "log_file Sys::Syslog",
    "syslog_facility mail",
    "syslog_ident dkimproxy.out",
    "debugtrace /tmp/x",
    "chroot /x",
    "host localhost",
    "port 10027",
    "proto tcp",
    "ipv 4",
    "server_type PreFork",
    "reverse_lookups 1",
]


@pytest.mark.parametrize("line", SERVER)
def test_server_directives_are_ignored(tmp_path: Path, line: str) -> None:
    assert directives(tmp_path, line.encode() + b"\n") == []


UNKNOWN = {
    "name": b"selektor mail",
    "upper-case": b"Selector mail",
    "section": b"[dkim]",
    "no-name": b"= mail",
    "senders-entry": b"example.com dkim",
    "conf-file-inside": b"conf_file /x",
    "utf-8": "sélector mail".encode(),
    "prefix": b"sender /x",
    "byte-order-mark": b"\xef\xbb\xbfselector mail",
}


@pytest.mark.parametrize("line", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_directive(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "conf"
    path.write_bytes(b"# first\n\n" + line + b" \nselector mail\n")
    with pytest.raises(ConfigError) as raised:
        read_conf(str(path))
    assert str(raised.value) == f"{path}, line 3: unknown directive: '{line.decode()}'"


def test_unknown_directive_ends_with_its_own_line(tmp_path: Path) -> None:
    """The name must not run on: `selector.mail` is no selector."""
    path = tmp_path / "conf"
    path.write_bytes(b"selector.mail\n")
    with pytest.raises(ConfigError) as raised:
        read_conf(str(path))
    assert str(raised.value) == f"{path}, line 1: unknown directive: 'selector.mail'"


def settings_values(directory: Path, conf: str, *arguments: str) -> dict[str, str]:
    """Return the values of a command line and a conf file together."""
    path = directory / "conf"
    path.write_text(conf)
    values = dict(read_settings([f"--conf_file={path}", *arguments]).values)
    del values["conf_file"]
    return values


def test_conf_file_adds_to_the_command_line(tmp_path: Path) -> None:
    values = settings_values(tmp_path, "selector conf\n", "--domain=a.example")
    assert values == {"domain": "a.example", "selector": "conf"}


@pytest.mark.parametrize("order", [0, 1], ids=["conf-file-first", "conf-file-last"])
def test_command_line_wins(tmp_path: Path, order: int) -> None:
    path = tmp_path / "conf"
    path.write_text("selector conf\n")
    arguments = [f"--conf_file={path}", "--selector=mine"]
    assert read_settings(arguments[:: -1 if order else 1]).get("selector") == "mine"


def test_command_line_wins_over_a_yes(tmp_path: Path) -> None:
    assert settings_values(tmp_path, "verbose yes\n", "--verbose=no") == {"verbose": "no"}


def test_last_directive_of_a_name_counts(tmp_path: Path) -> None:
    assert settings_values(tmp_path, "selector a\nselector b\n") == {"selector": "b"}


def test_signatures_of_the_conf_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("signature domainkeys\nselector a\nsignature dkim(s=b)\n")
    given = read_settings([f"--conf_file={path}"]).signatures
    assert [(text, str(place)) for text, place in given] == [
        ("domainkeys", f"{path}, line 1"),
        ("dkim(s=b)", f"{path}, line 3"),
    ]


def test_signatures_of_the_command_line_replace_those_of_the_conf_file(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("signature domainkeys\nsignature dkim\n")
    given = read_settings([f"--conf_file={path}", "--signature=dkim(s=x)"]).signatures
    assert [(text, str(place)) for text, place in given] == [("dkim(s=x)", "command line")]


def test_place_of_each_value(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("# x\nselector a\nverbose\n")
    settings = read_settings([f"--conf_file={path}", "--domain=a.example"])
    assert {name: str(place) for name, place in settings.places.items()} == {
        "conf_file": "command line",
        "domain": "command line",
        "selector": f"{path}, line 2",
        "verbose": f"{path}, line 3",
    }


# How the path fails, the words for it, the hint.
NO_CONF_FILES = {
    "missing": ("No such file or directory", "create it, or fix the path"),
    "directory": ("not a regular file", "name the file itself: ls -l PATH"),
    "fifo": ("not a regular file", "name the file itself: ls -l PATH"),
    "symlink": ("not a regular file", "name the file itself: /etc/passwd"),
    "too-long": ("larger than 1048576 bytes", ""),
}


@pytest.mark.parametrize(
    ("kind", "words", "hint"), [(k, *v) for k, v in NO_CONF_FILES.items()], ids=NO_CONF_FILES
)
def test_no_conf_file(tmp_path: Path, kind: str, words: str, hint: str) -> None:
    path = tmp_path / "conf"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/etc/passwd")
    elif kind == "too-long":
        path.write_bytes(b"#" * 1048577)
    with pytest.raises(ConfigError) as raised:
        read_settings([f"--conf_file={path}"])
    assert (str(raised.value), raised.value.hint) == (
        f"conf file {path}: {words}",
        hint.replace("PATH", str(path)),
    )


# By the command itself: arguments, all that it says.
SAID = {
    "unknown-option": (
        ["--selektor=a"],
        "4.3.5 dkimpipe: unknown option '--selektor'\nhint: see dkimpipe --help\n",
    ),
    "no-recipients": (
        ["-f", "a", "--"],
        f"4.3.5 dkimpipe: no recipients after --\nhint: {ARGV}\n",
    ),
    "no-value": (["--selector"], "4.3.5 dkimpipe: --selector needs a value\n"),
    "bad-value": (
        ["--on-error=bounce"],
        "4.3.5 dkimpipe: command line: on_error must be defer or accept, not 'bounce'\n",
    ),
    "control-in-argument": (
        ["--sel\nektor\x1b=a"],
        "4.3.5 dkimpipe: unknown option '--sel?ektor?'\nhint: see dkimpipe --help\n",
    ),
    "no-conf-file": (
        ["--conf_file=/nowhere/conf"],
        "4.3.5 dkimpipe: conf file /nowhere/conf: No such file or directory\n"
        "hint: create it, or fix the path\n",
    ),
}


@pytest.mark.parametrize(("arguments", "said"), SAID.values(), ids=SAID)
def test_the_command_defers_and_says_why(arguments: list[str], said: str) -> None:
    assert run_filter(*arguments) == (75, b"", said)


def test_help_tells_every_option() -> None:
    done = run_filter("--help", message=b"")
    told = set(re.findall(r"--([a-z_]+)", done.stdout.decode()))
    assert told >= {*NAMES, *YES_OR_NO, "match", "on_error"}
