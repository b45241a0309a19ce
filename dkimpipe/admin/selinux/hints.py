"""How to allow what SELinux refuses: another label on a file, or an additional rule in the policy."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Callable, NamedTuple

from dkimpipe.admin.selinux.kernel import type_of

_NO_RULE = "default_t"  # of a path that the policy does not know: nothing else relies on this label


class Place(NamedTuple):
    """The type to give to files of one purpose, and the directory where they belong; or neither."""

    type: str
    directory: str


CONFIG = Place("etc_t", "/etc/dkimpipe")
CODE = Place("lib_t", "/opt/dkimpipe")
PROGRAM = Place("bin_t", "/opt/dkimpipe")
SHIPPED = Place("", "")  # of the system: a label that is not the default is wrong


class Use(NamedTuple):
    """The access of a domain to a file, or to something else.

    ``permissions``  of the class of its target
    ``what``         in messages; ``{}`` is the file
    ``place``        of the file, None where labels are not the cause
    """

    permissions: tuple[str, ...]
    what: str
    place: Place | None = None


class Refusal(NamedTuple):
    """What the policy does not allow: ``source`` and ``target`` are contexts, ``kind`` is a class."""

    source: str
    target: str
    kind: str
    use: Use
    missing: tuple[str, ...]


class Types(NamedTuple):
    """The known facts about the types that a file could have.

    ``would_do``  returns whether a type would allow what was refused; False for unknown types
    ``default``   returns the type that the policy has for a path; nothing if it has none
    """

    would_do: Callable[[str], bool]
    default: Callable[[str], str]


def lines(refusal: Refusal, paths: list[str], types: Types) -> list[str]:
    """Return the commands that label these files, or add a rule to the policy if no label helps."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(os.path.dirname(path), []).append(path)
    if place := refusal.use.place:
        hints = [_label(refusal, place, group, types) for group in groups.values()]
        if all(hints):
            return [line for hint in hints for line in hint]
    return _rule(refusal)


def _label(refusal: Refusal, place: Place, paths: list[str], types: Types) -> list[str]:
    """Return the commands that label files of one directory, or directories; none if that does not help."""
    now, default = type_of(refusal.target), types.default(paths[0])
    is_directory = refusal.kind == "dir"
    paths, tree = _as_tree(refusal, paths)
    if types.would_do(default):
        return [_restorecon(paths, tree or (is_directory and place is not SHIPPED))]
    if not place.type:
        return []
    if is_directory and ("_home" in now or default == now != _NO_RULE):  # others rely on this label
        move = f"move the filter's files from {paths[0]} to {place.directory}"
        return [f"{move}, then: restorecon -Rv {place.directory}"]
    if types.would_do(place.type):
        return [*(_semanage(place.type, path, tree) for path in paths), _restorecon(paths, tree)]
    return []


def _as_tree(refusal: Refusal, paths: list[str]) -> tuple[list[str], bool]:
    """Return the paths to label, and whether recursively: a directory that contains only keys, or modules.

    Other files in a directory may need their present label.
    """
    if refusal.kind == "dir" and len(paths) == 1:
        directory, ours = paths[0], []
    else:
        directory, ours = os.path.dirname(paths[0]), [os.path.basename(path) for path in paths]
    is_code = refusal.use.place is CODE and refusal.use.what.startswith("read")
    is_ours = is_code or all(name in ours or name.endswith(".pem") for name in os.listdir(directory))
    return ([directory], True) if is_ours and len(ours) != 1 else (paths, False)


def _restorecon(paths: list[str], tree: bool) -> str:
    return shlex.join(["restorecon", "-Rv" if tree else "-v", *paths])


def _semanage(name: str, path: str, tree: bool) -> str:
    pattern = re.sub(r"[^\w/.@-]", r"\\\g<0>", path) + ("(/.*)?" if tree else "")
    return shlex.join(["semanage", "fcontext", "-a", "-t", name, pattern])


def default_type(matchpathcon: str, path: str) -> str:
    """Return the type that the policy has for a path; nothing if it has none, or the program is not there."""
    command = [matchpathcon, "-n", path]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    except OSError:
        return ""
    return type_of(done.stdout.decode(errors="replace").strip())


def _rule(refusal: Refusal) -> list[str]:
    """Return the commands that add a module with one rule to the policy, in its language CIL."""
    source, target = type_of(refusal.source), type_of(refusal.target)
    rule = f"(allow {source} {target} ({refusal.kind} ({' '.join(refusal.missing)})))"
    file = f"dkimpipe-{source}-{target}-{refusal.kind}.cil"
    return [f"echo {shlex.quote(rule)} > {file} && semodule -i {file}"]
