"""The senders file, the conf file and the keys that do what another signer does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.migration.foreign import Foreign, ForeignSignature, Rule
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
    entries = [line for rule in foreign.rules for line in _entry(rule, keys, directory / KEYS)]
    directives = [line for name in foreign.directives for line in _directive(foreign, name)]
    return Files(_text(["# who    what to add", *entries]), _text(directives), tuple(keys.files.values()))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _directive(foreign: Foreign, name: str) -> Iterator[str]:
    value, place = foreign.directives[name]
    yield f"# {place}"
    yield f"{name} {value}"


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
