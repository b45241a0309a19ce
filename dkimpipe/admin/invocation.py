"""How a user runs this installation: every command that is printed must run when it is pasted.

It is ``dkimpipe`` if that name in PATH is this very installation, and otherwise its path. Behind sudo(8) it
is always the path: PATH is another one there, without /usr/local/bin on the RHEL family.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "dkimpipe"
_VERBS = ("verify", *(module.stem for module in Path(__file__).with_name("verbs").glob("[!_]*.py")))
_COMMAND = re.compile(rf"(?<![\w./@-])(sudo )?{NAME}(?= (?:{'|'.join(_VERBS)})\b)")


def script() -> Path | None:
    """Return the program that pip(1) installed, without links to it; None if this is run in another way."""
    started = Path(sys.argv[0] or NAME)
    path = started if started.name == NAME else Path(sys.executable).with_name(NAME)
    return Path(os.path.realpath(path)) if path.is_file() else None


def in_place_of_sendmail() -> Path | None:
    """Return the program that filters run in place of sendmail(1); None if it is not installed."""
    path = script()
    program = path.with_name("dkimpipe-sendmail") if path else None
    return program if program and program.is_file() else None


def by_path() -> str:
    """Return the command that runs this installation whatever PATH is."""
    main = Path(__file__).resolve().parents[1] / "__main__.py"
    path = script()
    return shlex.join([str(path)] if path else [sys.executable, "-I", str(main)])


def in_path() -> Path | None:
    """Return the program that the name runs, without links to it; None if PATH does not have the name."""
    found = shutil.which(NAME)
    return Path(os.path.realpath(found)) if found else None


def runnable(text: str) -> str:
    """Return text, such as a hint, in which the commands of dkimpipe run when they are pasted."""
    if not _COMMAND.search(text):
        return text
    path = by_path()
    name = NAME if in_path() == script() is not None else path
    return _COMMAND.sub(lambda found: f"sudo {path}" if found[1] else name, text)
