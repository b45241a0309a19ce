"""``dkimpipe postfix``: the jobs that sign and verify, applied together and undone one by one."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from applying import NOTHING, VERIFY, apply, content, faults, revert, said, write
from configurations import postconf_of

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix")

JOBS = {"sign": ["--sign", "all"], "sign by sendmail": ["--sign", "networks,bounces"], "verify": [*VERIFY]}
TWO = [order for sign in ("sign", "sign by sendmail") for order in itertools.permutations([sign, "verify"])]


class Applied(NamedTuple):
    """A configuration before and after both jobs were applied."""

    directory: Path
    before: dict[str, tuple[bytes, int]]
    after: Path

    def restore(self) -> Path:
        """Bring back the directory as it was after."""
        shutil.rmtree(self.directory)
        return shutil.copytree(self.after, self.directory)


@pytest.fixture(scope="module")
def applied_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, str], str], Applied]:
    """Apply two jobs with a version of Postfix, once for all tests."""

    @functools.cache
    def make(jobs: tuple[str, str], version: str) -> Applied:
        place = tmp_path_factory.mktemp("both")
        directory = write(place / "postfix", "submission")
        before = content(directory)
        for job in jobs:
            apply(directory, *JOBS[job])
        for job in jobs:
            assert said(directory, *JOBS[job], "--apply") == NOTHING
        return Applied(directory, before, shutil.copytree(directory, place / "after"))

    return make


@pytest.mark.parametrize("version", ["3.7.11", "3.6.4"])
@pytest.mark.parametrize("undone", ["as applied", "newest first"])
@pytest.mark.parametrize("applied", TWO, ids=", ".join)
def test_with_the_verifier_each_is_undone_without_the_other(
    applied: tuple[str, str],
    undone: str,
    version: str,
    applied_by: Callable[[tuple[str, str], str], Applied],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", postconf_of(version, tmp_path)["PATH"])
    both = applied_by(applied, version)
    directory = both.restore()
    for job in applied if undone == "as applied" else reversed(applied):
        assert faults(directory) == []
        revert(directory, *(["--verify"] if job == "verify" else []))
    assert content(directory) == both.before


def test_while_local_mail_is_signed_the_verifier_comes_back_by_smtp_too(tmp_path: Path) -> None:
    directory = write(tmp_path / "postfix", "submission")
    apply(directory, *VERIFY)
    assert "--relay" not in (directory / "master.cf").read_text()
    apply(directory, "--sign", "local")
    assert (directory / "master.cf").read_text().count("--relay=127.0.0.1:") == 2
    assert apply(directory, *VERIFY) == "nothing to change\n"
