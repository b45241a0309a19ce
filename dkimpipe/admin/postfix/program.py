"""The program in master.cf: whether it is this one, and compiled for its interpreter.

After an upgrade of Python or a different installation, master.cf still names the previous program.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dkimpipe import __version__
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import MAIN, Job
from dkimpipe.admin.postfix.postconf import Postconf, of_change

_SAMPLE = "pipe.py"  # no verb compiles it by an import
_HEADER = 16  # bytes of a .pyc: magic number, flags, then modification time and size of the source


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield an outdated program, or one that is not compiled."""
    service = filter_service.find(postconf, job)
    command = filter_service.program(service, job) if service else []
    main = next((word for word in command if word.startswith("/") and word.endswith(MAIN)), "")
    if not (service and main):
        return
    package = Path(main).parent
    version = _version(package)
    if version not in ("", __version__):
        line = filter_service.renewed(service, job).line
        why = f"argv runs dkimpipe {version}, but this is {__version__}"
        yield of_change(postconf, "-M", f"{service.id}={line}", why, "warning")
    elif not is_compiled(package, command[0]):
        what = f"{package} is not compiled for {command[0]}: each message costs several times as much"
        yield Finding(what, shlex.join(compiling(package, command[0])), "warning")


def compiling(package: Path, interpreter: str) -> list[str]:
    """Return the command that compiles it; without -I, root's working directory could supply other code."""
    return [interpreter, "-Im", "compileall", "-q", str(package)]


def is_compiled(package: Path, interpreter: str) -> bool:
    """Return whether the package is compiled for an interpreter; True also if one of them is missing."""
    code = "import sys; print(sys.implementation.cache_tag)"
    try:
        tag = subprocess.check_output([interpreter, "-ISc", code], text=True).strip()  # noqa: S603 - no shell
        source = (package / _SAMPLE).stat()
    except (OSError, subprocess.CalledProcessError):
        return True  # the trial reports it
    try:
        header = (package / "__pycache__" / f"{Path(_SAMPLE).stem}.{tag}.pyc").read_bytes()[:_HEADER]
    except OSError:
        return False
    numbers = (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    times = b"".join(number.to_bytes(4, "little") for number in numbers)
    return any(header[4:8]) or header[8:] == times  # with flags, it is validated by a hash (PEP 552)


def _version(package: Path) -> str:
    try:
        text = (package / "__init__.py").read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    return text.partition('__version__ = "')[2].partition('"')[0]
