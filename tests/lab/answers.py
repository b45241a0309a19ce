"""What Postfix's programs answer for the same configuration is asked once: a check asks a dozen of them.

They are the questions of ``Postconf`` that change nothing. The answer is kept for the program, its arguments
and all that it reads: the files of the configuration, and the file of a table. Whatever differs is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dkimpipe.admin.postfix.postconf import Postconf

STAND_IN = "# answers like postconf(1), and does nothing else\n"
# The options of postconf(1) that ask, and the files that it reads then.
_QUESTIONS = {
    **dict.fromkeys(("-d", "-M", "-P"), ("master.cf",)),
    **dict.fromkeys(("-n", "-x"), ("main.cf", "master.cf")),
    "-h": ("main.cf",),
    "-m": ("dynamicmaps.cf", "dynamicmaps.cf.d/*"),
}
# Tables that are their own name, or one text file.
_TABLES = ("static:", "inline:", "regexp:", "pcre:", "cidr:", "texthash:")
_DIRECTORY = b"\0"


@pytest.fixture(scope="session", autouse=True)
def remembered_answers() -> Iterator[None]:
    """Wherever a directory is named in an answer, it is the one that asks."""
    ask, known = Postconf._run, dict[object, subprocess.CompletedProcess[bytes]]()

    def run(
        postconf: Postconf, program: str, *arguments: str, **settings: Any
    ) -> subprocess.CompletedProcess[bytes]:
        question = _question(postconf, program, arguments, settings)
        if not question:
            return ask(postconf, program, *arguments, **settings)
        place = os.fsencode(postconf.directory)
        if question not in known:
            known[question] = _replaced(ask(postconf, program, *arguments, **settings), place, _DIRECTORY)
        return _replaced(known[question], _DIRECTORY, place)

    with mock.patch.object(Postconf, "_run", run):
        yield


def _replaced(
    done: subprocess.CompletedProcess[bytes], old: bytes, new: bytes
) -> subprocess.CompletedProcess[bytes]:
    texts = (text.replace(old, new) for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def _question(
    postconf: Postconf, program: str, arguments: tuple[str, ...], settings: dict[str, Any]
) -> object:
    """Return all that an answer depends on; None if that is not known, or something is changed."""
    files = _read(postconf, program, *arguments)
    path = shutil.which(program)
    if files is None or not path or settings.keys() - {"input", "timeout"}:
        return None
    with open(path, "rb") as opened:
        script = opened.read() if opened.read(2) == b"#!" else b""
    if script and os.fsencode(STAND_IN) not in script:
        return None
    try:
        texts = [file.read_bytes() for file in files]
    except OSError:
        return None
    place = os.fsencode(postconf.directory)
    read = [*map(os.fsencode, arguments), settings.get("input") or b"", *texts]
    known = tuple(each.replace(place, _DIRECTORY) for each in read)
    return program, script or path, postconf.is_chosen, os.geteuid(), known


def _read(postconf: Postconf, program: str, option: str, *rest: str) -> list[Path] | None:
    """Return the files that a program reads; None if that is not known, or it does something else."""
    if program == "postconf" and option in _QUESTIONS:
        return [path for name in _QUESTIONS[option] for path in sorted(postconf.directory.glob(name))]
    if program == "postmap" and option == "-q" and rest[-1].startswith(_TABLES):
        path = Path(rest[-1].partition(":")[2])
        return [postconf.directory / "main.cf", *([path] if path.is_absolute() else [])]
    return None
