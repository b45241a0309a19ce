"""``dkimpipe postfix`` run on configurations of Postfix."""

from __future__ import annotations

import subprocess
from pathlib import Path

import in_memory
from configurations import CONFIGURATIONS, SHIPPED
from conftest import Done, settled

# The service that verifies, run as a user that there is.
VERIFY = ("--verify", "--user", "daemon")


def write(directory: Path, name: str) -> Path:
    main, master = CONFIGURATIONS[name]
    directory.mkdir()
    ours = {line.partition(" ")[0] for line in main.splitlines()}
    shipped = (SHIPPED / "main.cf.debian").read_text().splitlines(keepends=True)
    kept = [line for line in shipped if line.partition("=")[0].strip() not in ours]  # none stands twice
    (directory / "main.cf").write_text("".join(kept) + "# ours\n" + main)
    (directory / "master.cf").write_text((SHIPPED / "master.cf.dist").read_text() + master)
    (directory / "master.cf").chmod(0o640)
    return directory


NOTHING = (0, "nothing to change\n", "")
NETWORKS = "dkimpipe-networks.cidr"


# There is no Dovecot here, and no certificate.
LOGINS = ("nobody can log in: ", "TLS cannot start")


def verb(directory: Path, *options: str, env: dict[str, str] | None = None) -> Done:
    """Run ``dkimpipe postfix -c DIRECTORY OPTIONS``."""
    settled(directory / "main.cf")
    done = in_memory.verb("postfix", "-c", str(directory), *options, env=env)
    if (directory / "main.cf").exists():
        settled(directory / "main.cf")
    return done


def said(directory: Path, *options: str) -> tuple[int, str, str]:
    """Run it, and return status, output and errors."""
    done = verb(directory, *options)
    return done.status, done.stdout.decode(), done.stderr


def apply(directory: Path, *options: str) -> str:
    """Apply it without trouble, and return what it prints."""
    status, output, errors = said(directory, *options, "--apply")
    assert (status, errors) == (0, "")
    return output


def revert(directory: Path, *options: str) -> str:
    """Undo it without trouble, and return what it prints."""
    status, output, errors = said(directory, *options, "--revert")
    assert (status, errors) == (0, "")
    return output


def faults(directory: Path) -> list[str]:
    """Return what the check finds, but for the user and the logins that are not there, and the notes."""
    lines = said(directory, "--check")[1].splitlines()
    expected = ("dkimpipe: note: ", "hint: ", "dkimpipe: warning: ", "dkimpipe: Postfix is set up")
    missing = ("there is no user", *LOGINS)
    return [
        line for line in lines if not line.startswith(expected) and not any(each in line for each in missing)
    ]


def postfix_check(directory: Path) -> str:
    """Return what ``postfix check`` says of the configuration, but for the directories it lacks."""
    done = subprocess.run(
        ["postconf", "-c", str(directory), "-nx"], capture_output=True, text=True, check=True
    )
    services = subprocess.run(
        ["postconf", "-c", str(directory), "-Mx"], capture_output=True, text=True, check=True
    )
    checked = subprocess.run(
        ["postfix", "-c", str(directory), "check"], capture_output=True, text=True, check=False
    )
    return (done.stderr + services.stderr + checked.stderr).replace(str(directory), "DIR")


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return octets and mode of all files."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode) for path in files}


def settings(directory: Path) -> list[str]:
    """Return all that main.cf and master.cf say."""
    settled(directory / "main.cf")
    text = "".join(
        subprocess.run(
            ["postconf", "-c", str(directory), option], capture_output=True, text=True, check=True
        ).stdout
        for option in ("-n", "-M", "-P")
    )
    return sorted(text.replace(str(directory), "DIRECTORY").splitlines())


def overrides(directory: Path) -> set[str]:
    """Return the -o parameters of all services."""
    settled(directory / "main.cf")
    asked = ["postconf", "-c", str(directory), "-P"]
    return set(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines())


def edit(directory: Path, *edits: list[str]) -> None:
    """Make these edits by postconf(1)."""
    for each in edits:
        settled(directory / "main.cf")
        subprocess.run(["postconf", "-c", str(directory), *each], check=True)


def with_program(fragment: Path, directory: Path) -> str:
    """Return a fragment of master.cf that runs a program which is there."""
    program = directory / "dkimpipe"
    program.touch()
    text = fragment.read_text()
    assert text.count("argv=/opt/dkimpipe/bin/dkimpipe ") == 1
    return text.replace("/opt/dkimpipe/bin/dkimpipe", str(program))
