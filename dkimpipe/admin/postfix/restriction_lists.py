"""The lists of restrictions of smtpd(8) as written: which parameters are such lists, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.admin.postfix.postconf import Postconf

# The lists in order of evaluation, and what a table without a check_..._access before it means there.
LISTS = {
    "client": "check_client_access",
    "helo": "check_helo_access",
    "sender": "check_sender_access",
    "relay": "check_recipient_access",
    "recipient": "check_recipient_access",
    "data": "",
    "end_of_data": "",
}
REJECTS = ("reject", "defer")
UNAUTH_DESTINATION = ("reject_unauth_destination", "defer_unauth_destination")
_REQUIRED = (*REJECTS, "defer_if_permit", "check_relay_domains", *UNAUTH_DESTINATION)
_WITH_ARGUMENT = re.compile(
    r"check_\w+_access|check_policy_service|sleep|reject_rbl(_client)?|reject_rhsbl_\w+|permit_\w+wl_client"
)
DEPTH = 50  # of nested classes; in access(5), also of the lists that tables have


def is_list(postconf: Postconf, parameter: str) -> bool:
    """Return whether a parameter is a list of restrictions of smtpd(8)."""
    is_ours = parameter.startswith("smtpd_") and parameter.endswith("_restrictions")
    return is_ours or parameter in postconf.words("smtpd_restriction_classes")


def split_restrictions(words: list[str]) -> Iterator[list[str]]:
    """Yield the restrictions of a list: name and argument, after any warn_if_reject.

    A table without a name has an empty name, and a restriction without an argument an empty argument.
    """
    left, warnings = iter(words), []
    for word in left:
        name = word.lower()
        if name == "warn_if_reject":
            warnings.append(word)
            continue
        if ":" in word:
            yield [*warnings, "", word]
        else:
            yield [*warnings, word, next(left, "") if _WITH_ARGUMENT.fullmatch(name) else ""]
        warnings = []


def takes_argument(name: str) -> bool:
    """Return whether a restriction is followed by a table, a domain, a policy server or a number."""
    return bool(_WITH_ARGUMENT.fullmatch(name.lower()))


def has_required(postconf: Postconf, service: str) -> bool:
    """Return whether the lists of a service contain what smtpd(8) requires to start (smtpd_check_init())."""
    lists = (postconf.words(f"smtpd_{each}_restrictions", service) for each in ("relay", "recipient"))
    return any(_has(postconf, service, words) for words in lists)


def _has(postconf: Postconf, service: str, words: list[str], depth: int = 0) -> bool:
    classes = postconf.words("smtpd_restriction_classes", service)
    left = iter(words)
    for word in left:
        name = word.lower()
        if name == "warn_if_reject":
            next(left, "")
        elif name == "permit":
            return False
        elif name in _REQUIRED or (word in classes and _has_in(postconf, service, word, depth)):
            return True
    return False


def _has_in(postconf: Postconf, service: str, restriction_class: str, depth: int) -> bool:
    words = postconf.words(restriction_class, service)
    return depth < DEPTH and _has(postconf, service, words, depth + 1)
