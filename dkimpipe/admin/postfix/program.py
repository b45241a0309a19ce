"""The program in master.cf: whether it is this version, and compiled for its interpreter.

After an upgrade of Python, or an installation elsewhere, master.cf still names the old program.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dkimpipe import __version__
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import MAIN, Job
from dkimpipe.admin.postfix.postconf import Postconf, finding_for

_SAMPLE = "pipe.py"  # no verb imports it, which would compile it
_HEADER = 16  # bytes of a .pyc: magic number, flags, then modification time and size of the source


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield a finding if the program is outdated or not compiled."""
    service = filter_service.find(postconf, job)
    command = filter_service.program(service, job) if service else []
    main = next((word for word in command if word.startswith("/") and word.endswith(MAIN)), "")
    if not (service and main):
        return
    package = Path(main).parent
    version = _version(package)
    if version not in ("", __version__):
        line = filter_service.with_installed_program(service, job).line
        why = f"argv runs dkimpipe {version}, but this is {__version__}"
        yield finding_for(postconf, "-M", f"{service.id}={line}", why, "warning")
    elif not is_compiled(package, command[0]):
        what = f"{package} is not compiled for {command[0]}: each message costs several times as much"
        yield Finding(what, shlex.join(compile_command(package, command[0])), "warning")


def compile_command(package: Path, interpreter: str) -> list[str]:
    """Return the command that compiles a package. Without -I, code in root's working directory could run."""
    return [interpreter, "-Im", "compileall", "-q", str(package)]


def is_compiled(package: Path, interpreter: str) -> bool:
    """Return whether a package is compiled for an interpreter; also True if either is missing."""
    try:
        tag = _cache_tag(interpreter)
        source = (package / _SAMPLE).stat()
    except (OSError, subprocess.CalledProcessError):
        return True  # the test run reports it
    try:
        header = (package / "__pycache__" / f"{Path(_SAMPLE).stem}.{tag}.pyc").read_bytes()[:_HEADER]
    except OSError:
        return False
    numbers = (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    times = b"".join(number.to_bytes(4, "little") for number in numbers)
    return any(header[4:8]) or header[8:] == times  # flags mean a hash instead of time and size (PEP 552)


def _cache_tag(interpreter: str) -> str:
    """Return what is in the names of an interpreter's .pyc files, such as ``cpython-311``."""
    if os.path.realpath(interpreter) == os.path.realpath(sys.executable):
        return str(sys.implementation.cache_tag)
    code = "import sys; print(sys.implementation.cache_tag)"
    return subprocess.check_output([interpreter, "-ISc", code], text=True).strip()  # noqa: S603 - no shell


def _version(package: Path) -> str:
    try:
        text = (package / "__init__.py").read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    return text.partition('__version__ = "')[2].partition('"')[0]
