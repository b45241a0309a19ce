"""The domains whose mail this server signs; a report on any other domain says nothing about this server."""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe import choose
from dkimpipe.admin.maps import configured, entries
from dkimpipe.admin.maps.entries import BY_SENDER, Line
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError


class Signed(NamedTuple):
    """``domains`` in lower-case A-labels; None if any domain can be one: then all are."""

    domains: frozenset[str] | None

    def names(self, domain: str) -> bool:
        """Return whether it is one of them."""
        return self.domains is not None and domain in self.domains

    def covers(self, domain: str) -> bool:
        """Return whether it is one of them, or a subdomain: entries of the senders file are for both."""
        if self.domains is None:
            return True
        labels = domain.split(".")
        return any(".".join(labels[at:]) in self.domains for at in range(len(labels)))


def signed_domains(settings: Settings) -> Signed:
    """Return the domains in d= of all signatures, and of the keys of the senders file. Raises ConfigError."""
    lines = configured.lines_by_domain(settings)
    if any(map(_signs_for_any_domain, lines)):
        return Signed(None)
    found = {each.use.options.domain for each in outcomes(lines, settings) if isinstance(each.use, Use)}
    found |= {choose.domain_of_key(entries.canonical(line.key)) for line in lines if line.by == BY_SENDER}
    found |= {line.only[0] for line in lines if line.only}
    return Signed(frozenset(domain.decode("utf-8", "replace") for domain in found - {b"", b"."}))


def _signs_for_any_domain(line: Line) -> bool:
    """Return whether d= can be the domain of any sender, without a key file for it."""
    if not line.is_for_all or line.only:
        return False
    try:
        return any("domain" not in each.options and "$" not in each.options.get("keyfile", "")
                   for each in line.signatures())  # fmt: skip
    except ConfigError:
        return False
