"""A stand-in for selinuxfs, which answers from a small policy.

``access`` and ``create`` take a query and give the answer on one descriptor, which no plain file can do: here
they are symbolic links to terminals in raw mode, and a thread at their other ends answers. What only has to
be read is in plain files.
"""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

LABEL = "security.selinux"
FILE = (
    "ioctl read write create getattr setattr lock relabelfrom relabelto append map unlink link rename execute"
    " open execute_no_trans entrypoint"
).split()
# Permissions by class, in the order of their numbers; those that nobody asks for are left out.
CLASSES = {
    "process": ["fork", "transition", "sigchld"],
    "fd": ["use"],
    "file": FILE,
    "dir": [*FILE[:14], "open", "add_name", "remove_name", "reparent", "search", "rmdir"],
    "lnk_file": FILE[:14],
    "fifo_file": FILE[:14],
}


class Policy:
    """Rules, by type.

    ``allow``       ``SOURCE TARGET CLASS PERMISSION...``, as many classes as needed with commas between
    ``become``      the type that is created, or that an exec leads to, by ``SOURCE TARGET CLASS``
    ``permissive``  the permissive domains
    ``enforce``     what that file says
    ``no_types``    types that the policy does not have
    ``unknown``     permissions that the policy does not know
    """

    def __init__(self, allow: str, become: Mapping[str, str], unknown: Iterable[str] = ()) -> None:
        self.allowed = {tuple(rule) for line in allow.splitlines() if line for rule in _rules(line)}
        self.become = dict(become)
        self.permissive: set[str] = set()
        self.enforce = "1"
        self.no_types = {""}
        self.classes = {
            kind: [each for each in permissions if each not in unknown]
            for kind, permissions in CLASSES.items()
        }

    def deny(self, source: str, target: str, kind: str) -> None:
        """Take out all rules for a class."""
        self.allowed = {rule for rule in self.allowed if rule[:3] != (source, target, kind)}

    def allow(self, line: str) -> None:
        """Add rules."""
        self.allowed |= {tuple(rule) for rule in _rules(line)}

    def access(self, source: str, target: str, number: str) -> str:
        """Return the answer of ``access``."""
        source, target, kind = source.split(":")[2], target.split(":")[2], list(self.classes)[int(number) - 1]
        if target in self.no_types:
            raise ValueError
        bits = (
            1 << at
            for at, each in enumerate(self.classes[kind])
            if (source, target, kind, each) in self.allowed
        )
        return f"{sum(bits):x} ffffffff 0 ffffffff 17 {int(source in self.permissive):x}"

    def create(self, source: str, target: str, number: str) -> str:
        """Return that of ``create``: without a rule a process keeps its type, a file gets its directory's."""
        kind = list(self.classes)[int(number) - 1]
        key = f"{source.split(':')[2]} {target.split(':')[2]} {kind}"
        if kind == "process":
            return ":".join([*source.split(":")[:2], self.become.get(key, source.split(":")[2]), "s0"])
        return f"system_u:object_r:{self.become.get(key, target.split(':')[2])}:s0"


def _rules(line: str) -> Iterable[list[str]]:
    source, targets, kinds, *permissions = line.split()
    for target in targets.split(","):
        for kind in kinds.split(","):
            for permission in permissions:
                yield [source, target, kind, permission]


class Selinuxfs:
    """A context manager: the stand-in at a directory, which must not be there yet.

    ``garble``: makes another answer of the name of a file and its right answer
    """

    def __init__(
        self, directory: Path, policy: Policy, garble: Callable[[str, str], str] = lambda _, answer: answer
    ) -> None:
        self._directory, self._policy, self._garble = directory, policy, garble
        self.queries: list[str] = []

    def __enter__(self) -> Selinuxfs:
        for number, (kind, permissions) in enumerate(self._policy.classes.items(), 1):
            (self._directory / "class" / kind / "perms").mkdir(parents=True)
            (self._directory / "class" / kind / "index").write_text(str(number))
            for at, each in enumerate(permissions, 1):
                (self._directory / "class" / kind / "perms" / each).write_text(str(at))
        (self._directory / "enforce").write_text(self._policy.enforce)
        (self._directory / "initial_contexts").mkdir()
        (self._directory / "initial_contexts/file").write_text("system_u:object_r:unlabeled_t:s0")
        self._ends = {}
        self._descriptors = [*os.pipe()]
        for name in ("access", "create"):
            ours, theirs = os.openpty()
            tty.setraw(theirs)
            (self._directory / name).symlink_to(os.ttyname(theirs))
            self._ends[ours] = name
            self._descriptors += [ours, theirs]  # with none open at their side, ours is at its end
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._descriptors[1], b"x")
        self._thread.join()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _serve(self) -> None:
        stop = self._descriptors[0]
        while stop not in (ready := select.select([stop, *self._ends], [], [])[0]):
            for end in ready:
                name, query = self._ends[end], os.read(end, 4096).decode()
                self.queries.append(f"{name} {query}")
                try:
                    if "\0" in query:
                        raise ValueError
                    answer = getattr(self._policy, name)(*query.split())
                except (TypeError, ValueError, IndexError):
                    answer = "not a query"  # or the test would wait for ever
                os.write(end, self._garble(name, answer).encode())
