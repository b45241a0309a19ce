"""What helps against a fatal error of Postfix, as far as its message tells."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from dkimpipe.admin.postfix.syntax import parameters

# What becomes of a server without a setting, if it is not harmless.
_WITHOUT = {"inet_interfaces": "# correct it, or remove it, with which Postfix listens on all interfaces:"}
_SHORT = 3  # characters; a value of so few may be a word of any message


def for_fatal_error(directory: Path, message: str, settings: Mapping[str, str] | None = None) -> str:
    """Return the command that removes the cause of a fatal error in main.cf; empty if it is not known.

    It is a setting that the message names, or one whose value it shows, or the line that it names.

    ``settings``  those of main.cf, with macros expanded; without them, they are read as written
    """
    if "Permission denied" in message and os.geteuid() != 0:
        return "run it as root"
    if found := re.search(r"(main|master)\.cf[,:] line (\d+): (missing|bad field)", message):
        return _without_line(directory / f"{found[1]}.cf", int(found[2]))
    if settings is None:
        settings = parameters("\n".join(line for line in _lines(directory / "main.cf") if line[:1].isalpha()))
    text = re.sub(r"^\w+: (fatal|warning): ", "", message)
    words = [word.rstrip(":.") for word in re.findall(r"[\w./:-]+", text)]
    quoted = re.findall(r'"([^"]+)"', text)
    named = [name for name in settings if name in words]
    shown = [name for name, value in settings.items() if _is_shown(value, words, quoted)]
    if not named and not shown:
        return ""
    name = (named or shown)[0]
    command = shlex.join(["postconf", "-c", str(directory), "-X", name])
    return f"{_WITHOUT[name]}\n{command}" if name in _WITHOUT else command


def _is_shown(value: str, words: list[str], quoted: list[str]) -> bool:
    """Return whether a message has a value: as a word, if it is no short one, or in quotes; or its macro."""
    if value in quoted or (value in words and len(value) > _SHORT):
        return True
    return any("$" in each and each in value for each in quoted)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _without_line(path: Path, number: int) -> str:
    """Return the command that turns a line into a comment, if no other line continues it."""
    lines = _lines(path)
    following = lines[number] if number < len(lines) else ""
    if following[:1].isspace():
        return f"correct line {number} of {path}"
    return f"sed -i '{number}s/^/# /' {shlex.quote(str(path))}"
