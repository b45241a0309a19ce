"""selinuxfs: the kernel's interface to query what its SELinux policy allows, for any two contexts.

The forms of the queries and answers are those of the kernel's security/selinux/selinuxfs.c.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dkimpipe.errors import ConfigError, printable

_LONGEST = 4096  # bytes of an answer: one page
_FIELDS = 6  # allowed decided auditallow auditdeny seqno flags
_PERMISSIVE = 1  # of the flags: AVD_FLAGS_PERMISSIVE


class Answer(NamedTuple):
    """The access that a domain does not have.

    ``missing``     the missing permissions
    ``permissive``  the kernel only logs the refusal: a permissive domain
    """

    missing: tuple[str, ...]
    permissive: bool


class Kernel:
    """The kernel, by the mount point of selinuxfs. Without a usable answer all methods raise ConfigError."""

    def __init__(self, mount: str) -> None:
        self._mount = Path(mount)

    def enforces(self) -> bool | None:
        """Return whether the policy is enforced; None if there is no SELinux. It raises nothing."""
        try:
            return {"1": True, "0": False}.get(self._read("enforce"))
        except ConfigError:
            return None

    def create(self, source: str, target: str, kind: str) -> str:
        """Return the context of what a domain creates in a directory, or of a process after an exec."""
        context = self._ask("create", f"{source} {target} {self._number(f'class/{kind}/index')}")
        if not type_of(context):
            raise self._unexpected("create", context)
        return context

    def after_exec(self, source: str, program: str | Path) -> str:
        """Return the domain that a process of another domain gets by the exec of a program."""
        return self.create(source, self.label(os.path.realpath(program)), "process")

    def access(self, source: str, target: str, kind: str, permissions: Iterable[str]) -> Answer:
        """Return what a domain may not do to a target. What the policy does not know it does not forbid."""
        answer = self._ask("access", f"{source} {target} {self._number(f'class/{kind}/index')}")
        try:
            numbers = [int(word, 16) for word in answer.split()]
        except ValueError:
            numbers = []
        if len(numbers) != _FIELDS:
            raise self._unexpected("access", answer)
        bits = {each: self._bit(f"class/{kind}/perms/{each}") for each in permissions}
        missing = tuple(each for each, bit in bits.items() if bit & ~numbers[0])
        return Answer(missing, bool(numbers[-1] & _PERMISSIVE))

    def label(self, path: str) -> str:
        """Return the context of a file itself; of one without a label, that which the kernel takes for it."""
        try:
            octets = os.getxattr(path, "security.selinux", follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return self._read("initial_contexts/file")
            raise ConfigError(f"{path}: {error.strerror}") from None
        return octets.decode(errors="replace").rstrip("\0")

    def _bit(self, name: str) -> int:
        """Return the bit of a permission, 0 if the policy does not know it."""
        return 1 << (self._number(name) - 1) if (self._mount / name).exists() else 0

    def _number(self, name: str) -> int:
        text = self._read(name)
        if not (text.isdecimal() and int(text)):
            raise self._unexpected(name, text)
        return int(text)

    def _ask(self, name: str, query: str) -> str:
        """Return the answer to a query. Both go through one descriptor: one open is one transaction."""
        try:
            descriptor = os.open(self._mount / name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                os.write(descriptor, query.encode())
                return os.read(descriptor, _LONGEST).decode(errors="replace").strip("\0\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"{self._mount / name}: {error.strerror}") from None

    def _read(self, name: str) -> str:
        try:
            return (self._mount / name).read_text(errors="replace").strip("\0\n")
        except OSError as error:
            raise ConfigError(f"{self._mount / name}: {error.strerror}") from None

    def _unexpected(self, name: str, answer: str) -> ConfigError:
        return ConfigError(f"{self._mount / name}: unexpected answer '{printable(answer.encode())}'")


def type_of(context: str) -> str:
    """Return the type in a context, ``USER:ROLE:TYPE`` or ``USER:ROLE:TYPE:LEVEL``; nothing in other text."""
    found = re.fullmatch(r"[\w.-]+:[\w.-]+:([\w.-]+)(:\S+)?", context, re.ASCII)
    return found[1] if found else ""


def with_type(context: str, name: str) -> str:
    """Return a context with another type."""
    user, role, _, *level = context.split(":", 3)
    return ":".join([user, role, name, *level])
