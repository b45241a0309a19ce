"""Whether programs of Postfix start is asked once for the same settings: a check asks two dozen of them.

The same goes for the filter itself, whose start takes longer.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import daemons, selftest
from dkimpipe.admin.postfix.daemons import Start
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.verbs import postfix

_SETTING = re.compile(r"([\w.-]+)\s*=.*(?:\n[ \t#].*)*\n?")


@pytest.fixture(scope="session", autouse=True)
def remembered_starts() -> Iterator[None]:
    """The answer depends on the settings that a program knows and on its arguments, not on the directory.

    One that names the directory is not remembered.
    """
    ask, known = daemons._messages, dict[tuple[str, str], str]()
    if shutil.which("postconf"):
        _libraries()  # tests count programs

    def messages(postconf: Postconf, starts: Sequence[Start]) -> dict[Start, str]:
        directory = str(postconf.directory)
        text = (postconf.directory / "main.cf").read_text(errors="surrogateescape")
        places = {
            each: (
                _known_settings(text, each).replace(directory, "DIR"),
                repr(each).replace(directory, "DIR"),
            )
            for each in starts
        }
        asked = ask(postconf, [each for each in starts if places[each] not in known])
        known.update({places[each]: text for each, text in asked.items() if directory not in text})
        remembered = {each: known[places[each]] for each in starts if places[each] in known}
        return {**remembered, **asked}

    with mock.patch.object(daemons, "_messages", messages):
        yield


def _known_settings(main: str, start: Start) -> str:
    """Return main.cf without the settings whose names a program does not contain, and nothing refers to."""
    everything = main + " ".join(start.arguments)

    def kept(setting: re.Match[str]) -> str:
        name = setting[1]
        is_used = re.search(rf"\$[({{]?{re.escape(name)}\b", everything)
        return setting[0] if is_used or _contains(start.path, name) else ""

    lines = "".join(line for line in main.splitlines(keepends=True) if not re.match(r"\s*(#|$)", line))
    return re.sub(rf"^{_SETTING.pattern}", kept, lines, flags=re.MULTILINE)


@functools.cache
def _contains(program: str, name: str) -> bool:
    return os.fsencode(name) + b"\0" in _code(program)


@functools.cache
def _code(program: str) -> bytes:
    """Return a program of Postfix and the libraries of all of them."""
    return Path(program).read_bytes() + _libraries()


@functools.cache
def _libraries() -> bytes:
    asked = ["postconf", "-dh", "shlib_directory"]
    directory = Path(subprocess.check_output(asked, text=True).strip())
    return b"".join(path.read_bytes() for path in sorted(directory.glob("libpostfix-*")))


@pytest.fixture(scope="session", autouse=True)
def remembered_trials() -> Iterator[None]:
    """A check of Postfix runs the filter anew if its command, its user or a file near those named differs."""
    known: dict[object, list[Finding]] = {}

    def trial(service: Service) -> list[Finding]:
        question = tuple(service.argv), service.attribute("user"), os.geteuid(), _files(service.argv)
        if question not in known:
            known[question] = selftest.trial(service)
        return known[question]

    with mock.patch.object(postfix, "trial", trial):
        yield


def _files(words: Sequence[str]) -> tuple[object, ...]:
    """Return the state of the files that a command line names, of all beside them, and of all above."""
    named = {Path(path) for word in words for path in re.findall(r"/[^\s=,:{}$]+", word)}
    beside = {each for path in named if path.parent.parts[1:2] != ("usr",) for each in _all_in(path.parent)}
    above = {parent for path in named for parent in path.parents}
    return tuple((path, *_state(path)) for path in sorted({*named, *beside, *above}))


def _all_in(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    content = (found.st_size, found.st_mtime_ns, found.st_ctime_ns) if path.is_file() else ()
    return (found.st_mode, found.st_uid, found.st_gid, found.st_ino, *content)
