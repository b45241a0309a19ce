"""The configuration of one Postfix, read and edited by postconf(1), which keeps all that it does not edit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from dkimpipe.errors import ConfigError


class Change(NamedTuple):
    """One edit: ``postconf OPTION ARGUMENT``.

    ``option``  -e a parameter of main.cf, -P one of a service in master.cf, -M a service
    ``why``     what goes wrong without it
    """

    option: str
    argument: str
    why: str


class Postconf:
    """One instance of Postfix, by its configuration directory; the system's own for None."""

    def __init__(self, directory: str | None = None) -> None:
        """Raise ConfigError if there is no Postfix, or no such configuration."""
        self._choice = ["-c", directory] if directory else []
        self.directory = Path(self.run("-h", "config_directory").strip())
        self.version = tuple(
            int(number) for number in re.findall(r"\d+", self.run("-dh", "mail_version"))[:2]
        )

    def run(self, *arguments: str) -> str:
        """Return what postconf(1) prints; raise ConfigError with its words if it fails."""
        command = ["postconf", *self._choice, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
        except OSError as error:
            raise ConfigError(f"cannot run postconf: {error.strerror}", "is Postfix installed?") from None
        if done.returncode:
            raise ConfigError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def parameter(self, name: str) -> str:
        """Return the value of a main.cf parameter, or its default."""
        return self.run("-h", name).strip()

    def explicit(self) -> dict[str, str]:
        """Return what main.cf says itself, by parameter."""
        lines = (line.partition("=") for line in self.run("-n").splitlines())
        return {name.strip(): value.strip() for name, _, value in lines}

    def services(self) -> dict[str, str]:
        """Return the lines of master.cf, each as one line, by ``name/type``."""
        lines = self.run("-M").splitlines()
        return {"/".join(line.split()[:2]): " ".join(line.split()) for line in lines if line.strip()}

    def overrides(self, service: str) -> dict[str, str]:
        """Return the ``-o`` parameters of a service."""
        found = {}
        for line in self.run("-P", service).splitlines():
            name, _, value = line.partition(" = ")
            found[name.rpartition("/")[2].strip()] = value.strip()
        return found

    def apply(self, change: Change) -> None:
        """Make one edit."""
        self.run(change.option, change.argument)

    def files(self) -> list[Path]:
        """Return main.cf and master.cf."""
        return [self.directory / "main.cf", self.directory / "master.cf"]


def write_like(path: Path, octets: bytes, model: Path) -> None:
    """Write a file whole or not at all, with owner and mode of another."""
    new = path.with_name(f".{path.name}.dkimpipe")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        like(new, model)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def like(path: Path, model: Path) -> None:
    """Give a file owner and mode of another."""
    status = model.stat()
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o777)
