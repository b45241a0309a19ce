"""What signs: the signatures in the maps, by the pair of selector and key file that they use."""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe.admin.maps import configured, edit
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned


class Uses(NamedTuple):
    """The signatures that use a pair of selector and key file.

    ``signatures``  by the name of the record that they need
    ``varying``     the reasons why further record names are unknown: they depend on the sender
    """

    signatures: dict[str, list[Use]]
    varying: set[str]

    @property
    def names(self) -> set[str]:
        """The names of the records that they need."""
        return set(self.signatures)


def signing_pairs(settings: Settings) -> dict[Pair | None, Uses]:
    """Return the pairs in the maps; None is for signatures with a selector or key from the conf file.

    Raises ConfigError for the first error: an entry that cannot be parsed may sign as well.
    """
    maps = configured.maps(settings)
    uses: dict[Pair | None, Uses] = {}
    for line, signature, use in outcomes(configured.lines_by_domain(settings), settings):
        if isinstance(use, ConfigError):
            raise use
        pair = edit.pair(signature) if signature and line.place.path in maps else None
        found = uses.setdefault(pair, Uses({}, set()))
        if signature and edit.has_macros(signature):
            found.varying.add(f"{line.place}: s= or key= has macros: one line, but many keys")
        if isinstance(use, NotSigned):
            found.varying.add(str(use))
        else:
            found.signatures.setdefault(use.name, []).append(use)
    return uses
