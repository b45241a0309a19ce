"""``check --postfix``: other filters that sign, when the program that signs for them is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PROJECT
from diagnosis import PYTHON, check, edit, error, hints, warning

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import other_signers, status_filter
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf

FILTER = r"regexp:{{/^5(\.3\.0 Command died with status 12[67]:.*)/ 4$$1}}"
SET = f"-o {{pipe_delivery_status_filter={FILTER}}}"
ARGUMENTS = "--login=${sasl_username} --client=${client_address} -f ${sender} -- ${recipient}"
ONE_DAY = warning(
    "another/unix/pipe_delivery_status_filter: should the program that signs be missing one day, as during an"
    " upgrade, mail bounces"
)
SHIPPED = (PROJECT / "postfix/dkimpipe-sendmail").read_text()
BOUNCES, STAYS = "its mail bounces", "its mail stays in the queue"


class Case(NamedTuple):
    """A program, its mode and that of its directory, the cause that is reported, and how it is repaired.

    ``text``   None if there is no program; SITE is where the package is
    ``there``  the end of the mail with a status filter; BOUNCES without one, unless the program runs
    """

    text: str | None
    modes: tuple[int, int]
    cause: str
    there: str
    repair: str


REINSTALL = "# reinstall dkimpipe, as its README.md describes, so that PROGRAM runs again"
GOOD = SHIPPED.replace("#!python", f"#!{PYTHON} -IS").replace(
    "import os\n", 'import os, sys\nsys.path.append("SITE")\n'
)
CASES = {
    "missing": Case(None, (0o755, 0o755), "does not exist", STAYS, REINSTALL),
    "its venv moved": Case(
        GOOD.replace(PYTHON, "/nowhere/bin/python"), (0o755, 0o755), "has no interpreter", STAYS, REINSTALL
    ),
    "not executable": Case(GOOD, (0o644, 0o755), "cannot be run by user daemon", STAYS, "chmod a+rx PROGRAM"),
    "in a closed directory": Case(
        GOOD,
        (0o755, 0o700),
        "cannot be run by user daemon",
        STAYS,
        "# namei -l PROGRAM shows what user daemon may not enter or run",
    ),
    "no script": Case("os._exit(0)\n", (0o755, 0o755), "does not run: Exec format error", STAYS, REINSTALL),
    "its package is gone": Case(
        SHIPPED.replace("#!python", f"#!{PYTHON} -IS"),
        (0o755, 0o755),
        """does not run: 4.3.0 dkimpipe: ModuleNotFoundError("No module named 'dkimpipe'")""",
        STAYS,
        REINSTALL,
    ),
    "its interpreter is broken": Case(
        "#!/bin/sh\necho 'cannot load libpython' >&2; exit 1\n",
        (0o755, 0o755),
        "does not run: cannot load libpython",
        BOUNCES,
        REINSTALL,
    ),
}
RUNS = ("its package is gone",)  # and defers the mail itself


class Away(NamedTuple):
    """A configuration, the program that its filter names, the one that is installed, and the script."""

    directory: Path
    program: Path
    installed: Path
    script: Path


@pytest.fixture
def away(directory: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Away:
    """A filter that signs by a program which is not there, beside an installation that is complete."""
    there = site / tmp_path.name
    (there / "away").mkdir(parents=True)
    for name in ("dkimpipe", "dkimpipe-sendmail"):
        write(there / name, GOOD.replace("SITE", str(site)))
    monkeypatch.setattr(sys, "argv", [str(there / "dkimpipe")])
    program = there / "away/dkimpipe-sendmail"
    script = write(tmp_path / "filter", f'#!/bin/sh\nMTA="{program} -G -i"\n$MTA "$@"\n')
    return Away(directory, program, there / "dkimpipe-sendmail", script)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def put(away: Away, case: Case, site: Path) -> None:
    """Put the program of a case where the filter names it."""
    file_mode, directory_mode = case.modes
    if case.text is not None:
        write(away.program, case.text.replace("SITE", str(site))).chmod(file_mode)
    away.program.parent.chmod(directory_mode)


def through(away: Away, argv: str, options: str = SET) -> None:
    """Let mail from users pass a filter with this command line."""
    line = f"another unix - n n - 4 pipe {options} flags=Rq user=daemon:nogroup argv={argv} {ARGUMENTS}"
    edit(away.directory, f"-M 'another/unix={line}'\n-P submission/inet/content_filter=another:dummy", {})


def reported(away: Away) -> str:
    """Return what is reported of the filter."""
    findings = re.split("^(?=dkimpipe: )", check(away.directory)[1], flags=re.MULTILINE)
    return "".join(each for each in findings if "another/unix" in each.partition("\n")[0])


@pytest.mark.parametrize("options", [SET, ""], ids=["with a status filter", "without"])
@pytest.mark.parametrize("name", CASES)
def test_of_a_script(name: str, options: str, away: Away, site: Path) -> None:
    case = CASES[name]
    put(away, case, site)
    through(away, str(away.script), options)
    end = case.there if options or name in RUNS else BOUNCES
    hint = f"sed -i 's|{away.program}|{away.installed}|g' {away.script}"
    what = f"another/unix: {away.program}, which {away.script} runs, {case.cause}: {end}"
    output = reported(away)
    assert output.partition(ONE_DAY)[:2] == (error(what, hint), "" if options else ONE_DAY)
    run(output)
    assert str(away.program) not in away.script.read_text()
    assert reported(away) == ""


@pytest.mark.parametrize("options", [SET, ""], ids=["with a status filter", "without"])
@pytest.mark.parametrize("name", CASES)
def test_of_a_command_line(name: str, options: str, away: Away, site: Path) -> None:
    case = CASES[name]
    put(away, case, site)
    through(away, f"/usr/bin/spamc -e {away.program}", options)
    output = reported(away)
    assert output.startswith(error(f"another/unix: {away.program} {case.cause}: {case.there}"))
    run(output)
    assert reported(away) == ""
    line = Postconf(away.directory).services["another/unix"].line
    argv = f"argv=/usr/bin/spamc -e {away.installed} {ARGUMENTS}"
    assert line == f"another unix - n n - 4 pipe {SET} flags=Rq user=daemon:nogroup {argv}"


# Command lines, and what becomes of the mail without a status filter.
COMMAND_LINES = {
    "alone": ("PROGRAM", STAYS),
    "behind spamc(1)": ("/usr/bin/spamc -u x -e PROGRAM", STAYS),
    "behind env(1)": ("/usr/bin/env LC_ALL=C PROGRAM", BOUNCES),
    "in a shell": ("/bin/sh -c {sed s/a/b/ | PROGRAM -f x y}", BOUNCES),
}


@pytest.mark.parametrize(("argv", "end"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_what_runs_the_program_decides(argv: str, end: str, away: Away) -> None:
    through(away, argv.replace("PROGRAM", str(away.program)), "")
    output = reported(away)
    assert output.startswith(error(f"another/unix: {away.program} does not exist: {end}"))
    run(output)
    assert reported(away) == ""
    new = argv.replace("PROGRAM", str(away.installed))
    assert f"argv={new} {ARGUMENTS}" in Postconf(away.directory).services["another/unix"].line


def run(output: str) -> None:
    """Run the commands of the hints, one after the other."""
    for command in hints(output):
        subprocess.run(["sh", "-c", command], check=True)


@pytest.mark.parametrize("name", CASES)
def test_where_no_other_is_installed(name: str, away: Away, site: Path) -> None:
    """The hint is about the program itself."""
    case = CASES[name]
    away.installed.unlink()
    put(away, case, site)
    through(away, str(away.script))
    assert hints(reported(away)) == [case.repair.replace("PROGRAM", str(away.program))]


@pytest.mark.parametrize("name", ["missing", "not executable"])
def test_where_the_installed_one_does_not_work_either(name: str, away: Away, site: Path) -> None:
    case = CASES[name]
    put(away, case, site)
    away.installed.chmod(0o600)
    through(away, str(away.script))
    assert hints(reported(away)) == [case.repair.replace("PROGRAM", str(away.program))]


def test_the_chmod_is_right(away: Away, site: Path) -> None:
    put(away, CASES["not executable"], site)
    away.installed.unlink()
    through(away, str(away.script))
    run(reported(away))
    assert reported(away) == ""


# Scripts whose program is there, cannot be known, or is not run.
SILENT = {
    "it works": '#!/bin/sh\nINSTALLED -G -i "$@"\n',
    "in quotes": '#!/bin/sh\n"INSTALLED" -G -i "$@"\n',
    "below a variable": '#!/bin/sh\nD=/nowhere\n$D/bin/dkimpipe-sendmail "$@"\n',
    "below a variable in braces": '#!/bin/sh\nD=/nowhere\n${D}/bin/dkimpipe-sendmail "$@"\n',
    "below a variable in quotes": '#!/bin/sh\nD=/nowhere\n"$D"/bin/dkimpipe-sendmail "$@"\n',
    "below both": '#!/bin/sh\nD=/nowhere\n"${D}"/bin/dkimpipe-sendmail "$@"\n',
    "below the output of a command": '#!/bin/sh\n$(pwd)/bin/dkimpipe-sendmail "$@"\n',
    "by PATH": '#!/bin/sh\ndkimpipe-sendmail "$@"\n',
    "in a comment": "#!/bin/sh\n# /nowhere/bin/dkimpipe-sendmail\nINSTALLED # /no/dkimpipe-sendmail\n",
    "in the name of another file": '#!/bin/sh\nINSTALLED "$@" 2>/nowhere/dkimpipe-sendmail.log\n',
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_nothing_is_reported(text: str, away: Away) -> None:
    away.script.write_text(text.replace("INSTALLED", str(away.installed)))
    through(away, str(away.script))
    assert reported(away) == ""


def test_a_service_without_its_user_is_not_tried(away: Away) -> None:
    through(away, str(away.script))
    edit(away.directory, "user=daemon:nogroup => user=nobody-here", {})
    assert reported(away) == ""
    edit(away.directory, "user=nobody-here => user=root", {})
    assert reported(away) == ""


# Status filters, how a service and main.cf have them, and what the command makes of them; None: it is good.
OWN = r"regexp:{{/^5\.7/ 5.7.1 no}}"
STATUS_FILTERS = {
    "none": ("", "", FILTER),
    "ours": (SET, "", None),
    "that of our own services": (
        r"-o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}",
        "",
        None,
    ),
    "that of all in main.cf": ("", r"default_delivery_status_filter=regexp:{{/^5(\.3\.0 .*)/ 4$$1}}", None),
    "one for another purpose": (f"-o {{pipe_delivery_status_filter={OWN}}}", "", f"{OWN}, {FILTER}"),
    "two for other purposes": (
        rf"-o {{pipe_delivery_status_filter={OWN} regexp:{{{{/^5(\.1\..*)/ 4$$1}}}}}}",
        "",
        rf"{OWN}, regexp:{{{{/^5(\.1\..*)/ 4$$1}}}}, {FILTER}",
    ),
    "one in main.cf": ("", f"pipe_delivery_status_filter={OWN}", f"{OWN}, {FILTER}"),
    "one that keeps just these": (
        f"-o {{pipe_delivery_status_filter=regexp:{{{{/12[67]/ 5.3.0}}}}, {FILTER}}}",
        "",
        f"regexp:{{{{/12[67]/ 5.3.0}}}}, {FILTER}, {FILTER}",
    ),
}


@pytest.mark.parametrize(("options", "main", "expected"), STATUS_FILTERS.values(), ids=STATUS_FILTERS)
def test_the_status_filter(options: str, main: str, expected: str | None, away: Away) -> None:
    away.script.write_text(SILENT["it works"].replace("INSTALLED", str(away.installed)))
    if main:
        edit(away.directory, f"-e '{main}'", {})
    through(away, str(away.script), options)
    output = reported(away)
    assert output.startswith("" if expected is None else ONE_DAY)
    assert len(hints(output)) == (expected is not None)
    if expected is None:
        return
    run(output)
    postconf = Postconf(away.directory)
    assert postconf.overrides["another/unix"] == {status_filter.NAME: expected}
    line = postconf.services["another/unix"].line
    assert line.endswith(f"flags=Rq user=daemon:nogroup argv={away.script} {ARGUMENTS}")


# Statuses as pipe(8) logs them, and the same when they have passed the filter; empty: unchanged.
STATUSES = {
    '5.3.0 Command died with status 127: "/f". Command output: /f: 3: /p: not found': "4",
    '5.3.0 Command died with status 126: "/f"': "4",
    '5.3.0 Command died with status 1: "/f"': "",
    '5.3.0 Command died with status 12: "/f"': "",
    "5.3.0 service unavailable": "",  # EX_UNAVAILABLE, 69
    "5.7.1 Command died with status 127: on purpose": "",
    "2.0.0 delivered via another service": "",
}


@pytest.mark.parametrize("version", [(3, 6), (3, 7)], ids=["in a file", "inline"])
def test_only_missing_programs_are_deferred(version: tuple[int, int], away: Away) -> None:
    away.script.write_text(SILENT["it works"].replace("INSTALLED", str(away.installed)))
    through(away, str(away.script), "")
    postconf = Postconf(away.directory)
    postconf.version = version
    (finding,) = other_signers.findings(postconf, SIGN)
    table = away.directory / "dkimpipe-not-found.regexp"
    assert finding.hint.startswith("printf '%s\\n' " if version < (3, 7) else "postconf ")
    subprocess.run(["sh", "-c", finding.hint], check=True)
    assert table.exists() == (version < (3, 7))
    after = Postconf(away.directory)
    found = {each: status_filter.answer(after, "another/unix", each) for each in STATUSES}
    assert found == {each: code and f"{code}{each[1:]}" for each, code in STATUSES.items()}
    assert list(other_signers.findings(after, SIGN)) == list[Finding]()
