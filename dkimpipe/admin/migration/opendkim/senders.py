"""The keys of a SigningTable, and the entries of Domain, as keys of our senders file.

Two keys are for disjoint sets of addresses, or one set includes the other; so if several apply, all but the
most particular one apply to more.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dkimpipe.address import is_domain
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME

ANYONE = "."
SENDER_DOMAIN = "$senderdomain"
_OF_EXPRESSIONS = re.compile(r"[][(){}|?^$\\]")
_ADD_ADDRESSES = "add an entry for each address"


class Key(NamedTuple):
    """A key of the senders file, or why there is none.

    ``text``     empty if there is none
    ``reason``   what is not the same, or why there is no key; empty if it is exactly the same
    ``nothing``  whether OpenDKIM's own key fits no address
    """

    text: str
    reason: str = ""
    nothing: bool = False

    @property
    def effect(self) -> str:
        """The effect of what is not the same."""
        return SAME if self.nothing else CHANGED if self.text else LOST

    @property
    def domain(self) -> str:
        """The domain, if it is the only one of the senders; otherwise empty."""
        _, at, domain = self.text.rpartition("@")
        return domain if at and "*" not in domain else ""

    @property
    def is_extensible(self) -> bool:
        """Whether it is an address that here stands for those with a ``+extension``, too."""
        local_part, at, _ = self.text.rpartition("@")
        return bool(at) and local_part != "*" and "+" not in local_part

    @property
    def wider(self) -> list[str]:
        """The keys, itself first, for sets of senders that include those of this one."""
        if self.text == ANYONE:
            return [ANYONE]
        local_part, at, domain = self.text.rpartition("@")
        found = [self.text, *([f"*@{domain}"] if at and local_part != "*" else [])]
        labels = domain.removeprefix("*.").split(".")
        if at:
            found.append(".".join(labels))
        for first in range(1, len(labels)):
            parent = ".".join(labels[first:])
            found += [f"*@*.{parent}", parent]
        return list(dict.fromkeys([*found, ANYONE]))

    def includes(self, other: Key) -> bool:
        """Return whether all senders of another key are senders of this one."""
        return self.text in other.wider


def from_pattern(pattern: str) -> Key:
    """Return the key for a pattern that an address must fit (``refile:``)."""
    pattern = pattern.lower()
    if not pattern:
        return Key("", "the line begins with white space: OpenDKIM takes the pattern as empty", True)
    if _OF_EXPRESSIONS.search(pattern) or not pattern.isascii():
        return Key("", "it is a regular expression, for which there is no equivalent; " + _ADD_ADDRESSES)
    local_part, at, domain = pattern.rpartition("@")
    if not at and "*" not in pattern:
        return Key("", f"with refile: it fits no address: *@{pattern} would", True)
    if not at or (local_part == "*" and domain.startswith("*")):
        return from_domain_pattern(domain)
    if "*" in domain or ("*" in local_part and local_part != "*"):
        return Key("", "part of an address cannot choose an entry; " + _ADD_ADDRESSES)
    if not is_domain(domain.encode()):
        return Key("", f"'{domain}' is not a domain: it fits no address", True)
    return Key(pattern)


def from_domain_pattern(pattern: str) -> Key:
    """Return the key for a pattern that a domain must fit."""
    pattern = pattern.lower()
    if pattern.strip("*") == "":
        return Key(ANYONE)
    domain = pattern.lstrip("*")
    if domain.startswith(".") and is_domain(domain[1:].encode()) and domain != pattern:
        return Key(f"*@*{domain}")
    if not is_domain(domain.encode()):
        return Key("", "there is no equivalent; add an entry for each domain")
    if domain == pattern:
        return Key(f"*@{domain}")
    return Key(domain, f"it also fits domains such as evil{domain}; here {domain} and its subdomains only")


def from_word(word: str) -> Key:
    """Return the key for a word of a SigningTable without patterns: dkimf_apply_signtable in opendkim.c."""
    word = word.lower()
    local_part, at, domain = word.rpartition("@")
    if word == "*":
        return Key(ANYONE)
    if at and local_part != "*" and (domain == "*" or domain.startswith(".")):
        return Key("", "a local part without a domain cannot choose an entry; " + _ADD_ADDRESSES)
    if "*" in word:
        return Key("", "without refile: it fits no address, and its mail is unsigned today", True)
    if not is_domain(domain.removeprefix("." if not at else "").encode()):
        return Key("", "it fits no address", True)
    return Key(word if at else f"*@*{word}" if word.startswith(".") else f"*@{word}")


def from_domain_word(word: str, with_subdomains: bool) -> Key:
    """Return the key for a word of Domain without patterns."""
    word = word.lower()
    if word == "*":
        return Key(ANYONE)
    if not is_domain(word.encode("utf-8", "surrogateescape")):
        return Key("", f"'{word}' is not a domain: it fits no address", True)
    return Key(word if with_subdomains else f"*@{word}")
