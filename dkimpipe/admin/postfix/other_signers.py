"""Other content filters that sign, and what happens to mail if the program that signs for them is missing.

Where sh(1) cannot find or run it, as after an upgrade that moved it, pipe(8) bounces the mail unless a status
filter defers it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin import invocation
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import other_filters, status_filter
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Postconf, identity
from dkimpipe.admin.postfix.service import Service
from dkimpipe.files import exists

# Not the end of a path that begins with a variable.
_PROGRAM = re.compile(r"(?<![\w./})-])(?<![\w})][\"'])(?:/[\w.-]+)+/dkimpipe-sendmail(?![\w./-])")
_READY = b"dkimpipe-sendmail: no recipients"  # what it prints without arguments
_NOT_ALLOWED = "cannot be run by user"
_DEFERRING = (71, 75)  # exit statuses; pipe(8) bounces the mail after any other
_TIME_LIMIT = 10  # seconds


class _Use(NamedTuple):
    """A program that signs, and the script that names it; without one, the command line does."""

    program: str
    script: str


class _Fault(NamedTuple):
    """Why a program does not work, and its exit status; None if it does not even start."""

    cause: str
    status: int | None = None


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield the programs that do not work, and the services whose mail bounces once they do not."""
    for pipe in filter(other_filters.signs, postconf.running("pipe")):
        defers = status_filter.defers_missing_programs(postconf, pipe.id)
        words = pipe.command_line
        for use in _uses(pipe):
            try:
                fault = _fault(use.program, pipe.attribute("user") or "")
            except KeyError:  # no such user: pipe(8) does not start
                continue
            if not fault:
                continue
            place = f", which {use.script} runs," if use.script else ""
            waits = defers or _is_executed(pipe, use)
            is_deferred = fault.status in _DEFERRING or (fault.status is None and waits)
            end = "its mail stays in the queue" if is_deferred else "its mail bounces"
            new = _replacement(use.program, pipe)
            hint = _edit(postconf, pipe, use, new) if new else _repair(use.program, fault, pipe)
            if new and not use.script:
                words = [word.replace(use.program, new) for word in words]
            yield Finding(f"{pipe.id}: {use.program}{place} {fault.cause}: {end}", hint)
        if not defers:
            what = "should the program that signs be missing one day, as during an upgrade, mail bounces"
            hint = other_filters.edit(postconf, pipe, pipe.attributes, words)
            yield Finding(f"{pipe.id}/{status_filter.NAME}: {what}", hint, "warning")


def _uses(pipe: Service) -> list[_Use]:
    """Return the programs that sign for a filter; not one that is named by a variable or by PATH."""
    found = [_Use(program, "") for word in pipe.argv for program in _PROGRAM.findall(word)]
    for script in pipe.argv:
        found += [_Use(program, script) for program in _PROGRAM.findall(other_filters.code_of(script))]
    return list(dict.fromkeys(found))


def _is_executed(pipe: Service, use: _Use) -> bool:
    """Return whether pipe(8) itself, or spamc(1) -e, runs a program: both defer the mail if they cannot."""
    before = dict(zip(pipe.argv, ["", *pipe.argv]))
    return not use.script and before.get(use.program) in ("", "-e")


def _fault(program: str, user: str) -> _Fault | None:
    """Return why a program does not work for a user of pipe(8); None if it does, or cannot be tried.

    Raises KeyError if there is no such user.
    """
    settings, is_root = identity(user), os.geteuid() == 0
    if is_root and not settings.get("user"):
        return None  # pipe(8) does not start
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            [program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin"},
            timeout=_TIME_LIMIT,
            check=False,
            **{"cwd": "/", **settings},
        )
    except PermissionError:
        return _Fault(f"{_NOT_ALLOWED} {user.partition(':')[0]}") if is_root else None
    except FileNotFoundError:
        return _Fault("has no interpreter" if exists(program) else "does not exist")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Fault(f"does not run: {getattr(error, 'strerror', None) or 'no answer'}")
    if _READY in done.stderr:
        return None
    lines = done.stderr.decode(errors="backslashreplace").strip().splitlines()
    return _Fault(f"does not run: {''.join(lines[-1:]) or f'exit status {done.returncode}'}", done.returncode)


def _replacement(program: str, pipe: Service) -> str:
    """Return the path of this installation's program, if that one works; empty if not."""
    new = str(invocation.in_place_of_sendmail() or "")
    is_other = new not in ("", program) and bool(_PROGRAM.fullmatch(new))
    return new if is_other and not _fault(new, pipe.attribute("user") or "") else ""


def _edit(postconf: Postconf, pipe: Service, use: _Use, new: str) -> str:
    """Return the command that names another program."""
    if use.script:
        return f"sed -i 's|{use.program}|{new}|g' {shlex.quote(os.path.realpath(use.script))}"
    words = [word.replace(use.program, new) for word in pipe.command_line]
    return other_filters.edit(postconf, pipe, pipe.attributes, words)


def _repair(program: str, fault: _Fault, pipe: Service) -> str:
    """Return how this very program works again."""
    name = (pipe.attribute("user") or "").partition(":")[0]
    if fault.cause.startswith(_NOT_ALLOWED):
        if exists(program) and not Path(program).stat().st_mode & 0o001:
            return f"chmod a+rx {program}"
        return f"namei -l {program} shows what user {name} may not enter or run"
    return f"reinstall dkimpipe, as its README.md describes, so that {program} runs again"
