"""What OpenDKIM signs a message with, and what dkimpipe signs it with: both by their own code.

OpenDKIM runs in its test mode, in which it treats a message as if it came from this host.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.migration.corpus import Sample
from dkimpipe.admin.opendkim.programs import OPENDKIM
from dkimpipe.admin.opendkim.started import Started
from dkimpipe.body import BodyHashes
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.message import Message
from dkimpipe.signatures import Signatures

_FIELD = re.compile(rb"hname='DKIM-Signature' hvalue='([^']*)'")
_TAG = re.compile(r"(?:^|;)\s*([a-z]+)\s*=([^;]*)")
_AS_HERE = "Mode s\nInternalHosts csl:127.0.0.1\nRequireSafeKeys no\nSyslog no\n"
_NOT = ("UserID", "PidFile", "Background", "AutoRestart")
_SHOWN = ("d", "s", "c", "h")


class Signed(NamedTuple):
    """The tags of one signature; h= in lower case and sorted, as the order of names has no meaning."""

    d: str
    s: str
    c: str
    h: str

    def __str__(self) -> str:
        return f"d={self.d} s={self.s} c={self.c}"


def by_opendkim(path: Path | None, message: Path) -> list[Signed] | None:
    """Return the signatures that OpenDKIM makes, sorted; None if it defers the message.

    Raises ConfigError if it cannot be run.
    """
    program = shutil.which("opendkim", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}")
    if not program:
        raise ConfigError("opendkim is not installed: there is nothing to compare with")
    conf = Started(OPENDKIM).configuration(path)
    mode = conf.get("Mode")
    if mode and "s" not in mode.value:
        return []
    user = pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        # Of several settings with one name the last applies.
        file.write(f"Include {path.absolute()}\n" if path else "")
        file.write("".join(f"{each.name} {each.value}\n" for each in conf.options if each.name not in _NOT))
        file.write(_AS_HERE)
        file.flush()
        command = [program, "-x", file.name, "-u", user, "-vv", "-t", str(message.absolute())]
        done = subprocess.run(command, capture_output=True, cwd="/", check=False)  # noqa: S603 - no shell
    if b"SMFIS_TEMPFAIL" in done.stderr:
        return None
    if done.returncode and b"SMFIS_" not in done.stderr:
        text = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(f"opendkim: {text[-1] if text else f'exit status {done.returncode}'}")
    return sorted(_signed(field) for field in _FIELD.findall(done.stdout))


def by_dkimpipe(settings: Settings, message: Path) -> list[Signed]:
    """Return the signatures that dkimpipe makes, sorted. Raises ConfigError."""
    with message.open("rb") as file:
        read = Message(file.read)
        bodies = BodyHashes(large=False)
        signatures = Signatures(read, settings, bodies)
        for chunk in read.body():
            bodies.update(chunk)
    bodies.finish()
    fields = signatures.fields(0).split(b"DKIM-Signature:")[1:]
    return sorted(_signed(field) for field in fields)


def _signed(field: bytes) -> Signed:
    tags = dict(_TAG.findall(field.decode("ascii", "replace")))
    names = sorted("".join(tags.get("h", "").split()).lower().split(":"))
    d, s, c = ("".join(tags.get(name, "").split()) for name in _SHOWN[:3])
    return Signed(d.lower(), s, c, ":".join(names))


def differences(path: Path | None, settings: Settings, sample: Sample) -> tuple[str, bool]:
    """Return what both sign a message with, in words, and whether d=, s= and c= are the same."""
    theirs, message = by_opendkim(path, sample.path), sample.name
    try:
        ours = by_dkimpipe(settings, sample.path)
    except Trouble as trouble:
        return f"{message}: differs: opendkim {_list(theirs)}; dkimpipe defers: {trouble}", False
    if theirs is None or list(map(str, theirs)) != list(map(str, ours)):
        return f"{message}: differs: opendkim {_list(theirs)}; dkimpipe {_list(ours)}", False
    text = f"{message}: same: {_list(ours)}"
    for their, our in zip(theirs, ours):
        text += "" if their.h == our.h else f"; {_names(their.h, our.h)}"
    return text, True


def _list(signatures: list[Signed] | None) -> str:
    return "defers" if signatures is None else ", ".join(map(str, signatures)) or "nothing"


def _names(theirs: str, ours: str) -> str:
    """Return the difference of two h= in words."""
    before, after = theirs.split(":"), ours.split(":")
    for name in theirs.split(":"):
        if name in after:
            before.remove(name)
            after.remove(name)
    words = [*(f"-{name}" for name in before), *(f"+{name}" for name in after)]
    return f"h= {' '.join(words)}"
