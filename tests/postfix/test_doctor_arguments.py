"""``dkimpipe check --postfix``: arguments in master.cf with which Postfix's programs do not start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from diagnosis import GOOD, MAIN, MASTER, check, edit, error, fix, hints, run, write

FILTER = "-o content_filter=dkimpipe:dummy"
RELAY = "-o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject"
# What stands in place of the option, and what the check says of smtpd(8).
ARGUMENT = "the argument {!r}: a value that contains spaces needs braces, and each setting its own -o"
COMMENT = "the argument {!r}: a comment needs a line of its own"
SETTING = "-o {}: a setting needs a name and a value, name=value without spaces or in braces"
FAULTS = {
    "a list with spaces": (
        RELAY,
        RELAY.replace(",", ", "),
        ARGUMENT.format("permit_sasl_authenticated,"),
    ),
    "a list with spaces before the commas": (
        RELAY,
        RELAY.replace(",", " ,"),
        ARGUMENT.format(",permit_sasl_authenticated"),
    ),
    "a list without commas": (
        RELAY,
        RELAY.replace(",", " "),
        ARGUMENT.format("permit_sasl_authenticated"),
    ),
    "spaces around the equals sign": (FILTER, FILTER.replace("=", " = "), SETTING.format("content_filter")),
    "a space before the equals sign": (FILTER, FILTER.replace("=", " ="), SETTING.format("content_filter")),
    "a space after the equals sign": (FILTER, FILTER.replace("=", "= "), ARGUMENT.format("dkimpipe:dummy")),
    "no equals sign": (FILTER, FILTER.replace("=", " "), SETTING.format("content_filter")),
    "a colon for the equals sign": (
        FILTER,
        "-o content_filter:dkimpipe:dummy",
        SETTING.format("content_filter:dkimpipe:dummy"),
    ),
    "a colon and spaces": (
        FILTER,
        "-o content_filter : dkimpipe:dummy",
        SETTING.format("content_filter"),
    ),
    "quotes around a list with spaces": (
        RELAY,
        f"-o '{RELAY[3:].replace(',', ', ')}'",
        "-o 'smtpd_relay_restrictions=permit_mynetworks,: the quotes become part of the name",
    ),
    "quotes around a value with spaces": (
        RELAY,
        RELAY.replace("=", '="').replace(",", ", ") + '"',
        ARGUMENT.format("permit_sasl_authenticated,"),
    ),
    "a comment": (FILTER, f"{FILTER} # sign", COMMENT.format("#")),
    "a comment with a setting in it": (FILTER, f"{FILTER} #was content_filter=", COMMENT.format("#was")),
    "a comment in another language": (FILTER, f"{FILTER} // sign", COMMENT.format("//")),
    "a closing brace alone": (FILTER, f"{FILTER} }}", ARGUMENT.format("}")),
    "no -o": (FILTER, FILTER[3:], ARGUMENT.format("content_filter=dkimpipe:dummy")),
    "a dash of a word processor": (FILTER, f"\u2013{FILTER[1:]}", ARGUMENT.format("\u2013o")),
    "a text with spaces": (
        FILTER,
        f"-o smtpd_banner=$myhostname ESMTP mail {FILTER}",
        ARGUMENT.format("ESMTP"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_argument_is_the_one_error_and_the_command_corrects_it(
    name: str, directory: Path, words: dict[str, str]
) -> None:
    option, wrong, why = FAULTS[name]
    edit(directory, f"{option} => {wrong}", words)
    status, output = check(directory)
    (hint,) = hints(output)
    assert (status, output) == (
        78,
        error(f"submission/inet: smtpd(8) does not start with {why}", hint),
    )
    assert hint.startswith(f"postconf -c {directory} -M 'submission/inet=submission inet n - y - - smtpd")
    fix(directory, output)
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param(
            f'-o "{FILTER[3:]}"',
            f'smtpd(8) ignores -o "{FILTER[3:]}": the quotes become part of the name',
            id="quotes around a setting",
        ),
        pytest.param(
            f"-o \u201c{FILTER[3:]}\u201d",
            f"smtpd(8) ignores -o \u201c{FILTER[3:]}\u201d: the quotes become part of the name",
            id="quotes of a word processor",
        ),
        pytest.param(
            FILTER.replace("-o ", "-o { "),
            "master(8) does not start with -o {content_filter=dkimpipe:dummy: it lacks the closing brace",
            id="no closing brace",
        ),
    ],
)
def test_what_programs_ignore_or_master_refuses_is_the_one_error_and_the_command_corrects_it(
    wrong: str, why: str, directory: Path, words: dict[str, str]
) -> None:
    edit(directory, f"{FILTER} => {wrong}", words)
    output = check(directory)[1]
    (hint,) = hints(output)
    assert output == error(f"submission/inet: {why}", hint)
    fix(directory, output)
    assert check(directory) == GOOD


def test_what_else_is_wrong_is_said_of_the_corrected_service(directory: Path, words: dict[str, str]) -> None:
    edit(directory, f"{RELAY} => {RELAY.replace(',', ', ')}", words)
    edit(directory, f"{FILTER} => -o content_filter=", words)
    _, output = check(directory)
    assert [line for line in output.splitlines() if "error: " in line] == [
        f"dkimpipe: error: submission/inet: smtpd(8) does not start with {FAULTS['a list with spaces'][2]}",
        "dkimpipe: error: submission/inet/content_filter: nothing is signed",
    ]
    fix(directory, output)
    assert check(directory) == GOOD


def test_smtp_starts_but_ignores_the_options_that_follow(directory: Path, words: dict[str, str]) -> None:
    edit(
        directory,
        "-o syslog_name=postfix/$service_name =>"
        " -o syslog_name=postfix/relay mail -o smtp_line_length_limit=0",
        words,
    )
    why = ARGUMENT.format("mail").replace("the argument", "ignores the options after the argument")
    _, output = check(directory)
    assert output.splitlines()[0] == error(f"relay/unix: smtp(8) {why}").strip()
    fix(directory, output)
    assert check(directory) == GOOD


def _joined(option: str) -> str:
    return option.replace("-o ", "-o")


@pytest.mark.parametrize(
    "joined",
    [
        pytest.param(_joined(FILTER), id="the filter"),
        pytest.param("-ocontent_filter=", id="no filter"),
        pytest.param(f"-v{_joined(FILTER)[1:]}", id="after a flag"),
        pytest.param(f"{_joined(FILTER)}\n  -osyslog_name=foo -osmtpd_timeout=9s", id="several"),
    ],
)
def test_options_that_postconf_misreads_are_refused_and_the_command_corrects_them(
    joined: str, directory: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(directory, f"{FILTER} => {joined}", words)
    master = directory / "master.cf"
    lines = master.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "ocontent_filter=" in text)
    flags = joined.partition("content_filter=")[0]
    why = f"{master}, line {line}: postconf(1) misreads {flags}content_filter=: -o needs a space after it"
    for verb in (["check", "--postfix"], ["postfix", "--apply"]):
        assert run(directory, *verb) == (78, "")
        said = capsys.readouterr().err
        assert f"dkimpipe: {why}\nhint: sed -i " in said
        assert master.read_text().splitlines() == lines
    fix(directory, said)
    assert master.read_text().count(f"{flags} content_filter=") == 1
    fix(directory, check(directory)[1])
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    "right",
    [
        pytest.param("vacation unix - n n - - pipe user=nobody argv=/bin/sh\n  -ofoo=bar", id="of a command"),
        pytest.param("# smtps inet n - n - - smtpd -osyslog_name=foo", id="in a comment"),
        pytest.param("qmqp unix n - n - - qmqpd -omessage_size_limit=9", id="read as it is"),
    ],
)
def test_options_that_postconf_reads_are_good(right: str, directory: Path, words: dict[str, str]) -> None:
    with (directory / "master.cf").open("a") as file:
        file.write(f"{right}\n")
    assert check(directory) == GOOD


def test_an_option_among_the_attributes_of_a_pipe(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "null_sender= => null_sender= -o syslog_name=x", words)
    _, output = check(directory)
    why = "pipe(8) does not understand '-o' among its attributes: -o comes before them"
    assert output.splitlines()[0] == error(f"dkimpipe/unix: {why}").strip()
    fix(directory, output)
    assert check(directory) == GOOD


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("-o =dkimpipe:dummy", id="no name"),
        pytest.param(f"{FILTER} -o content_filter= reject {FILTER}", id="twice"),
    ],
)
def test_what_is_meant_is_not_guessed(wrong: str, directory: Path, words: dict[str, str]) -> None:
    edit(directory, f"{FILTER} => {wrong}", words)
    output = check(directory)[1]
    assert hints(output)[0] == "# write -o name=value, or -o {name = value}"
    assert output.count("does not start") == 1


@pytest.mark.parametrize(
    "right",
    [
        "-o { content_filter = dkimpipe:dummy }",
        f"-v {FILTER}",
        f"-o smtpd_milters= {FILTER}",
    ],
)
def test_right_arguments_are_good(right: str, directory: Path, words: dict[str, str]) -> None:
    edit(directory, f"{FILTER} => {right}", words)
    assert check(directory) == GOOD


def test_nothing_is_applied_to_a_service_with_wrong_arguments(
    tmp_path: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    master = MASTER.replace(RELAY, RELAY.replace(",", ", ")).replace(FILTER, "-o content_filter=")
    directory = write(tmp_path / "postfix", MAIN, master, words)
    before = (directory / "master.cf").read_bytes()
    assert run(directory, "postfix", "--apply") == (78, "")
    said = capsys.readouterr().err
    assert re.match(r"dkimpipe: submission/inet: smtpd\(8\) does not start with the argument", said)
    assert (directory / "master.cf").read_bytes() == before
    assert hints(said)[0].startswith(f"postconf -c {directory} -M ")
