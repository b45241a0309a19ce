"""Senders that an entry is for: with them the filter's own code shows what it makes of the entry."""

from __future__ import annotations

from typing import Callable

from dkimpipe import choose, senders
from dkimpipe.address import Mailbox
from dkimpipe.admin.maps.entries import BY_LIST, BY_NOTHING, BY_SENDER, Line, canonical

_TWO_DOMAINS = (b"a.example", b"b.example")


def samples(line: Line) -> list[tuple[Mailbox, bytes]]:
    """Return senders that an entry is for, each with the domain that stands for ``$keydomain``.

    It is the only one, or two that differ in all that macros can stand for; the first is one that the
    domain of the key covers.
    """
    if line.only:
        return [(_sender(line.only[0]), line.only[1])]
    return _SAMPLES[line.by](canonical(line.key))


def _by_sender(key: bytes) -> list[tuple[Mailbox, bytes]]:
    if key == b".":
        return [(_sender(domain), domain) for domain in _TWO_DOMAINS]
    local_part, at, _ = key.rpartition(b"@")
    domain = choose.domain_of_key(key)
    if key.startswith(senders.AT_SUBDOMAINS):
        return [(_sender(below + b"." + domain), domain) for below in (b"a", b"b")]
    if key.startswith(senders.AT_ANY):
        return [(_sender(domain), domain)]
    if at:
        return [(Mailbox(local_part, domain), domain)]
    return [(_sender(domain), domain), (_sender(b"sub." + domain), domain)]


def _by_list(key: bytes) -> list[tuple[Mailbox, bytes]]:
    """Return a List-Id below the key, and one that is the key."""
    cases = ((b"x." + key, _TWO_DOMAINS[0] if key == b"." else key), (key, _TWO_DOMAINS[1]))
    return [
        (_sender(domain), choose.domain_of_list(key, list_id, _sender(domain))) for list_id, domain in cases
    ]


def _by_nothing(key: bytes) -> list[tuple[Mailbox, bytes]]:
    return [(_sender(domain), key) for domain in (key or _TWO_DOMAINS[0], _TWO_DOMAINS[1])]


_SAMPLES: dict[str, Callable[[bytes], list[tuple[Mailbox, bytes]]]] = {
    BY_SENDER: _by_sender,
    BY_LIST: _by_list,
    BY_NOTHING: _by_nothing,
}


def _sender(domain: bytes) -> Mailbox:
    return Mailbox(b"postmaster", domain)
