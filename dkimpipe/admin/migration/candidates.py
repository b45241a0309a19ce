"""Milters in Postfix's lists that may be the other signer, although its configuration does not name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dkimpipe.admin.migration.foreign import Foreign
from dkimpipe.admin.postfix import milter_lists, milters
from dkimpipe.admin.postfix.postconf import Postconf

LOCAL_LIST = milter_lists.PARAMETERS[1]
_STAYS = "# if it is, it stays there, and must no longer sign: see above"
_REPLACED = "# if it is, add --replace-milter {} to the next command: otherwise mail is signed twice"


def candidates(postconf: Postconf, foreign: Foreign) -> dict[str, list[str]]:
    """Return the addresses of milters that are not known as others, each with the lists that have it."""
    found: dict[str, list[str]] = {}
    for where, address in milter_lists.addresses(postconf):
        found.setdefault(address, []).append(where)
    return {address: where for address, where in found.items() if _may_be(postconf, address, foreign)}


def _may_be(postconf: Postconf, address: str, foreign: Foreign) -> bool:
    if milters.is_spam_filter(postconf, address):
        return foreign.stays
    return bool(milters.suspicion(postconf, address))


def lines(found: Mapping[str, Sequence[str]], foreign: Foreign) -> Iterator[str]:
    """Yield how to find out whether they are the other signer, and what to do then."""
    for address, lists in found.items():
        where = ", ".join(dict.fromkeys(lists))
        yield f"# {address} in {where} may be the other signer: see which program it is"
        yield milters.who_listens(address)
        yield _STAYS if foreign.stays else _REPLACED.format(address)
