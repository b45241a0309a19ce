"""Fields that another signer signs although mail servers add, change or remove them: not without a word."""

from __future__ import annotations

from collections.abc import Sequence

from dkimpipe.admin.maps import headerfields
from dkimpipe.admin.migration.foreign import CHANGED, SAME, Foreign
from dkimpipe.files import Place


def without_broken(names: Sequence[str], setting: str, place: Place, foreign: Foreign) -> list[str]:
    """Return the names without those that no signature survives if they are oversigned; they are remarked."""
    kept = []
    for name in names:
        cause = headerfields.breaks(name.encode("utf-8", "surrogateescape"))
        if cause:
            foreign.remark(place, CHANGED, f"{setting}: {name} is not oversigned: {cause}")
        else:
            kept.append(name)
    return kept


def remark_unstable(names: Sequence[str], setting: str, place: Place, foreign: Foreign) -> None:
    """Remark each field that should not be signed. It stays in h=."""
    for name in names:
        cause = headerfields.unstable(name.encode("utf-8", "surrogateescape"))
        if cause:
            foreign.remark(place, SAME, f"{setting}: {name} is signed, as today, {cause}")
