"""What an import would write, and what becomes of each setting, as lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.maps import entries
from dkimpipe.admin.maps.entries import Line
from dkimpipe.admin.migration.files import CONF, KEYS, SENDERS, Files
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, Remark
from dkimpipe.admin.migration.sources import without_keys
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.options import SignatureOptions, complete, macros
from dkimpipe.senders import Signature

_EFFECTS = (SAME, CHANGED, LOST)  # what needs attention comes last


def lines(made: Files, foreign: Foreign, directory: Path) -> Iterator[str]:
    """Yield the files, the keys and the remarks."""
    if made.keys:
        for name, text in ((SENDERS, made.senders), (CONF, made.conf)):
            yield f"### {directory / name}"
            yield from text.splitlines()
            yield ""
        for key in made.keys:
            yield f"key: {without_keys(key.source)} becomes {directory / KEYS / key.name}"
        yield ""
    remarks = [f"{each.effect}: {each.place}: {without_keys(each.text)}" for each in foreign.remarks]
    for effect in _EFFECTS:
        yield from dict.fromkeys(line for line in remarks if line.startswith(f"{effect}: "))


def faults(made: Files, directory: Path) -> list[Remark]:
    """Return what the filter itself would not accept in the entries."""
    octets = made.senders.encode("utf-8", "surrogateescape").splitlines(keepends=True)
    found = []
    for line in entries.entries_of(octets, str(directory / SENDERS)):
        try:
            for signature in line.signatures():
                _refuse_invalid(line, signature)
        except ConfigError as error:
            text = str(error).removeprefix(f"{line.place}: ")
            found.append(Remark(line.place, LOST, f"{line.key}: {text}"))
    return found


def _refuse_invalid(line: Line, signature: Signature) -> None:
    """Raise ConfigError unless the filter accepts all options. The keys need not be there yet."""
    if "$" in signature.options["keyfile"]:
        SignatureOptions(signature, Settings())
        return
    try:
        complete(signature, Settings(), macros(*entries.samples(line)[0]))
    except NotSigned:  # of this sender
        pass
