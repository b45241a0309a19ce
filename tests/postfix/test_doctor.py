"""``dkimpipe check --postfix``: its exit status, and configurations that cannot be read.

The other modules of this name have a configuration of Postfix damaged, one fault at a time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import MAIN, MASTER, SUBMISSION, check, edit, error, fix, run, write


def test_an_error_among_warnings_ends_in_status_78(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "PROGRAM => PROGRAM --on_error accept\n-X header_size_limit", words)
    assert check(directory)[0] == 78


def test_warnings_alone_end_in_status_0(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "PROGRAM => PROGRAM --on_error accept", words)
    assert check(directory)[0] == 0


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param("-P smtp/inet/smtpd_sasl_auth_enable=yes", id="users on port 25"),
        pytest.param("-PX submission/inet/content_filter", id="no content_filter"),
    ],
)
def test_both_verbs_say_the_same(edits: str, directory: Path, words: dict[str, str]) -> None:
    edit(directory, edits, words)
    assert run(directory, "postfix", "--check") == check(directory)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "dkimpipe_destination_recipient_limit = all",
            "dkimpipe_destination_recipient_limit = all: not a valid number; Postfix rejects it\n"
            "hint: # correct it, or remove it (then dkimpipe_destination_recipient_limit is 50):\n"
            "hint: postconf -c DIR -X dkimpipe_destination_recipient_limit\n",
        ),
        (
            "dkimpipe_time_limit = 5M",
            "dkimpipe_time_limit = 5M: not a valid duration; Postfix rejects it\n"
            "hint: postconf -c DIR -e dkimpipe_time_limit=5m\n",
        ),
    ],
)
def test_numbers_that_are_none_are_named(
    setting: str, said: str, tmp_path: Path, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write(tmp_path / "postfix", f"{MAIN}{setting}\n", MASTER, words)
    assert check(directory) == (78, "")
    output = capsys.readouterr().err
    assert output == f"dkimpipe: {said}".replace("DIR", str(directory))
    fix(directory, output)
    check(directory)
    assert "not a valid" not in capsys.readouterr().err


def test_a_service_that_stands_twice_is_named(tmp_path: Path, words: dict[str, str]) -> None:
    directory = write(tmp_path / "postfix", MAIN, MASTER + SUBMISSION, words)
    output = error(
        "submission/inet: defined twice in master.cf; Postfix uses the last", "# remove one of them"
    )
    assert check(directory) == (78, output)
