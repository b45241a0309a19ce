"""The senders file, the conf file and the keys that do what another signer does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.migration.accepted import fault
from dkimpipe.admin.migration.foreign import LOST, Foreign, ForeignSignature, Rule
from dkimpipe.admin.migration.keyfiles import KeyFile, KeyFiles

SENDERS, CONF, KEYS = "senders", "dkimpipe.conf", "keys"
_ORDER = "acxtih"  # of the options after s, key and d; h= is the longest


class Files(NamedTuple):
    """What is to be written: the text of both files, and the keys."""

    senders: str
    conf: str
    keys: tuple[KeyFile, ...]


def files(foreign: Foreign, directory: Path) -> Files:
    """Return the files for a directory, whose path is in the entries. Unusable keys are remarked."""
    keys = KeyFiles(foreign)
    entries = [line for rule in foreign.rules for line in _accepted(rule, keys, directory, foreign)]
    directives = [line for name in foreign.directives for line in _directive(foreign, name)]
    return Files(_text(["# who    what to add", *entries]), _text(directives), tuple(keys.files.values()))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _directive(foreign: Foreign, name: str) -> Iterator[str]:
    value, place = foreign.directives[name]
    yield f"# {place}"
    yield f"{name} {value}"


def _accepted(rule: Rule, keys: KeyFiles, directory: Path, foreign: Foreign) -> list[str]:
    """Return the lines of an entry, without an option that the filter refuses, or none if that is not all."""
    lines = list(_entry(rule, keys, directory / KEYS))
    found = fault(lines, str(directory / SENDERS))
    if not found:
        return lines
    names = dict.fromkeys(name for each in rule.signatures for name, _ in each.options)
    for name in names:
        without = list(_entry(_without(rule, name), keys, directory / KEYS))
        if not fault(without, str(directory / SENDERS)):
            foreign.remark(rule.place, LOST, f"{rule.key}: {found}: the entry has no {name}=")
            return without
    foreign.remark(rule.place, LOST, f"{rule.key}: {found}: there is no entry")
    return []


def _without(rule: Rule, name: str) -> Rule:
    signatures = [
        each._replace(options=tuple(option for option in each.options if option[0] != name))
        for each in rule.signatures
    ]
    return rule._replace(signatures=tuple(signatures))


def _entry(rule: Rule, keys: KeyFiles, directory: Path) -> Iterator[str]:
    """Yield the lines of an entry: its place as a comment, and one line for each signature."""
    usable = [(each, name) for each in rule.signatures if (name := keys.name_of(each))]
    if not usable:
        return
    yield f"# {rule.place}"
    for number, (signature, name) in enumerate(usable, 1):
        before = f"{rule.key}  " if number == 1 else "    "
        after = "," if number < len(usable) else ""
        yield f"{before}{_signature(rule.key, signature, directory / name)}{after}"


def _signature(key: str, signature: ForeignSignature, path: Path) -> str:
    options = dict(signature.options)
    domain = key.rpartition("@")[2].removeprefix("*.")
    named = {"s": signature.selector, "key": str(path)}
    if signature.domain not in (domain, "$keydomain"):
        named["d"] = signature.domain
    named.update({name: options[name] for name in sorted(options, key=_ORDER.index)})
    return f"dkim({','.join(f'{name}={value}' for name, value in named.items())})"
