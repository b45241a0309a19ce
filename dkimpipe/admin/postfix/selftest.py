"""Test runs of the filter, to find beforehand what it cannot read, and what OpenSSL does not sign."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.outcomes import Use
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError
from dkimpipe.keys import read_key

NOBODY = "dkimpipe-check@invalid"  # RFC 2606; only an entry for all senders matches it
# A process such as the filter's. The one that checks has read OpenSSL's configuration, which may differ.
_SIGN = """
import sys
sys.path.append(sys.argv[1])
from dkimpipe.errors import Trouble
from dkimpipe.keys import read_key
try:
    read_key(sys.argv[2]).sign(bytes(int(sys.argv[4])), sys.argv[3])
except Trouble as error:
    print(error, error.hint, sep="\\n")
"""
_SIZES = {"sha1": "20", "sha256": "32"}  # octets


def trial(service: Service, author: str = NOBODY, report: str = "") -> list[Finding]:
    """Run the filter with a message from this author; return a finding unless it reports ``report``."""
    name, _, group_name = (service.attribute("user") or "").partition(":")
    command = filter_service.command(service)
    if not command:
        return []  # another program, which the doctor reports
    try:
        user = pwd.getpwnam(name)
        group = grp.getgrnam(group_name).gr_gid if group_name else user.pw_gid
        identity: dict[str, Any] = {"user": user.pw_uid, "group": group, "extra_groups": []}
        completed = subprocess.run(  # noqa: S603 - what pipe(8) runs
            [*command, "-f", author],
            input=f"From: {author}\n\n".encode(),
            capture_output=True,
            check=False,
            cwd=_directory(service),
            env={"PATH": "/usr/bin:/bin"},
            **(identity if os.geteuid() == 0 else {}),
        )
    except KeyError:
        return []  # the doctor reports it
    except OSError as error:
        return [Finding(f"user {name} cannot run {command[0]}: {error.strerror}", _opening(command))]
    output = completed.stderr.decode(errors="backslashreplace").strip()
    if completed.returncode or not output.startswith(f"dkimpipe: {report}"):
        cause, _, hint = output.replace("\nhint: ", "\n").partition("\n")
        if not _is_from_filter(output):
            hint = _opening(command)
        who = name if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        return [
            Finding(
                f"as user {who}: {cause or f'exit status {completed.returncode}, no error message'}", hint
            )
        ]
    return []


def _directory(service: Service) -> str:
    """Return the directory in which pipe(8) runs the filter, if that is set and exists."""
    directory = service.attribute("directory") or ""
    return directory if os.path.isabs(directory) and os.path.isdir(directory) else "/"


def _is_from_filter(output: str) -> bool:
    """Return whether an output is the filter's own, and not that of an interpreter that cannot start it."""
    return "dkimpipe: " in output.partition("\n")[0]


def _opening(command: Sequence[str]) -> str:
    """Return what lets every user run the program of a filter; empty if they can, or it is not in a venv."""
    program = Path(
        next((word for word in command if word.endswith(("/dkimpipe", "/__main__.py"))), command[0])
    )
    prefix = next((each for each in program.parents if (each / "pyvenv.cfg").exists()), None)
    if not prefix:
        return ""
    if not all(each.stat().st_mode & 0o001 for each in prefix.parents):
        return "# install it where every user can enter, such as /opt/dkimpipe"
    closed = (each for each in (prefix, *prefix.rglob("*")) if not each.is_symlink() and _is_closed(each))
    return f"chmod -R go+rX {shlex.quote(str(prefix))}" if any(closed) else ""


def _is_closed(path: Path) -> bool:
    wanted = 0o005 if path.is_dir() else 0o004
    return path.stat().st_mode & wanted != wanted


def refusals(uses: Iterable[Use], interpreter: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what OpenSSL does not sign for the filter: each algorithm is tried, with each length of key."""
    filter_interpreter, flags, main = filter_service.installed_command(SIGN)
    command = [*(interpreter or [filter_interpreter]), flags, "-c", _SIGN, str(Path(main).parent.parent)]
    kinds: dict[tuple[str, int, str], Use] = {}
    for use in uses:
        is_sha1 = use.options.type == "domainkeys" or use.options.algorithm == "rsa-sha1"
        try:
            key = read_key(use.options.keyfile)
        except ConfigError:
            continue  # reported elsewhere
        kinds.setdefault((key.type, key.bits, "sha1" if is_sha1 else "sha256"), use)
    for (_, _, hash_name), use in kinds.items():
        words = [*command, use.options.keyfile, hash_name, _SIZES[hash_name]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        cause, _, hint = (done.stdout or done.stderr).strip().partition("\n")
        if cause or done.returncode:
            yield Finding(f"{use.options.place}: {cause or f'exit status {done.returncode}'}", hint)
