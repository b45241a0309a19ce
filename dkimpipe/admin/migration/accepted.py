"""What the filter itself would not accept in an imported entry."""

from __future__ import annotations

from collections.abc import Sequence

from dkimpipe.admin.maps import entries
from dkimpipe.admin.maps.entries import Line
from dkimpipe.admin.maps.samples import samples
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.options import SignatureOptions, complete, macros
from dkimpipe.senders import Signature


def fault(lines: Sequence[str], path: str) -> str:
    """Return what is wrong with the lines of one entry in a senders file; empty if nothing is."""
    octets = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    for line in entries.entries_of(octets.splitlines(keepends=True), path):
        try:
            for signature in line.signatures():
                _refuse_invalid(line, signature)
        except ConfigError as error:
            return str(error).removeprefix(f"{line.place}: ")
    return ""


def _refuse_invalid(line: Line, signature: Signature) -> None:
    """Raise ConfigError unless the filter accepts all options. The keys need not be there yet."""
    if "$" in signature.options["keyfile"]:
        SignatureOptions(signature, Settings())
        return
    try:
        complete(signature, Settings(), macros(*samples(line)[0]))
    except NotSigned:  # of this sender
        pass
