"""Steps of ``setup``: each is printed as the command that does the same, and taken."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from typing import Callable, NamedTuple

from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError


class Step(NamedTuple):
    """One step: its reason, its command, and a function that does the same."""

    why: str
    command: str
    take: Callable[[], object]


def take(steps: Iterator[Step], dry_run: bool) -> None:
    """Print each step, and take it unless this is a dry run."""
    taken = False
    for step in steps:
        print(f"# {step.why}\n{step.command}")
        taken = True
        if not dry_run:
            step.take()
    if not taken:
        print("nothing to do")


def by_command(why: str, command: list[str]) -> Step:
    """Return a step that runs a command. Taking it raises ConfigError if the command fails."""
    return Step(why, shlex.join(command), lambda: _run(command))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    except OSError as error:
        hint = install_command(command[0]) if command[0] == "useradd" else ""
        raise ConfigError(f"cannot run {command[0]}: {error.strerror}", hint) from None
    if done.returncode:
        raise ConfigError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")
