"""The way to a file: each directory and symbolic link that the kernel passes (path_resolution(7))."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

_MAX_LINKS = 40  # path_resolution(7)


class Step(NamedTuple):
    """A directory or link on the way to a file, or the file itself, or the name of a missing one.

    ``directory``  the step before
    ``status``     of the link itself, if it is one; None if nothing is there
    """

    path: str
    directory: str
    status: os.stat_result | None


def way(path: str) -> list[Step]:
    """Return the steps from / to a file, in the order of the kernel; the last is the file, or a missing one.

    It ends early where this user cannot look: the filter's own code reports that.
    """
    steps = [Step("/", "/", os.lstat("/"))]
    here, names, links = "/", path.split("/"), 0
    while names:
        name = names.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        try:
            status = os.lstat(there)
        except FileNotFoundError:
            return [*steps, Step(there, here, None)]
        except OSError:
            return steps
        steps.append(Step(there, here, status))
        if not stat.S_ISLNK(status.st_mode):
            here = there
        elif links < _MAX_LINKS:
            links += 1
            target = os.readlink(there)
            here = "/" if target.startswith("/") else here
            names = [*target.split("/"), *names]
        else:
            break
    return steps
