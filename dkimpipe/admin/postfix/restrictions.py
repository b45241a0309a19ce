"""The access restrictions of smtpd(8), evaluated for one session: whether it may hand in a message.

They are evaluated as smtpd(8) does (SMTPD_ACCESS_README, and src/smtpd/smtpd_check.c of Postfix). What
depends on DNS, a policy service or the user database, such as reject_unknown_client_hostname, rejects some
clients and not all, so it decides nothing here. Neither does a name that Postfix does not know, though
smtpd(8) itself then defers all mail: a service is better called open once too often.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.postfix.postconf import Postconf, split

PERMIT, REJECT, UNDECIDED = "permit", "reject", ""
# In the order of evaluation: the lists, and what a table means that has no check_..._access before it.
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
_AUTH_DESTINATION = ("permit_auth_destination", "permit_mx_backup", "check_relay_domains")
_SOME_CLIENTS = ("permit_dnswl_client", "permit_rhswl_client")  # anybody may be on such a list
# Clients that the owner lets in on purpose, who are no strangers.
_BY_CERTIFICATE = ("permit_tls_clientcerts", "permit_tls_all_clientcerts")
_GUESTS = ("permit_inet_interfaces", "check_policy_service", "check_ccert_access", "check_sasl_access")
_WITH_ARGUMENT = re.compile(
    r"check_\w+_access|check_policy_service|sleep|reject_rbl(_client)?|reject_rhsbl_\w+|permit_\w+wl_client"
)
# Actions of access(5). What is discarded is as good as rejected here.
_NO_DECISION = ("DUNNO", "INFO", "WARN", "FILTER", "HOLD", "REDIRECT", "BCC", "PREPEND", "DEFER_IF_REJECT")
_REJECTING = ("REJECT", "DEFER", "DISCARD", "HANGUP")
_REPLY = re.compile(r"[45]\d\d\s.*")
_PATTERNS = ("regexp", "pcre", "cidr", "tcp")  # looked up by the whole key only
_MAY_PERMIT = re.compile(r"\b(ok|relay|permit\w*)\b|\s\d+\s*$", re.IGNORECASE | re.MULTILINE)
_DEPTH = 50  # of classes and tables within each other


def each(words: list[str]) -> Iterator[list[str]]:
    """Yield the restrictions of a list: name and argument, and before them each warn_if_reject.

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


class Session(NamedTuple):
    """What smtpd(8) knows of a client that has not logged in, and of its message.

    ``name``       ``unknown`` if DNS has none for the address
    ``helo``       empty for a client that has said neither HELO nor EHLO
    ``sender``     empty for the null sender; None before MAIL FROM
    ``recipient``  empty before RCPT TO, and after it if there are several
    ``is_final``   whether Postfix takes mail for this recipient from everybody: it is not relaying
    """

    name: str
    address: str
    helo: str
    sender: str | None
    recipient: str
    is_final: bool


class Restrictions:
    """The restrictions of one service.

    With ``guest`` they are evaluated for a client that the owner lets in on purpose, without a login: by its
    certificate, a table, or a policy service.

    ``filter``  the FILTER action of the last session, empty if it got none
    ``by``      what let a guest in during the last session
    """

    def __init__(self, postconf: Postconf, service: str, guest: bool = False) -> None:
        self._postconf, self._service, self._guest = postconf, service, guest
        self._classes = postconf.words("smtpd_restriction_classes", service)
        self._is_delayed = postconf.value("smtpd_delay_reject", service) != "no"
        self._is_deferred = False
        self.filter = self.by = ""

    def let_in(self, session: Session) -> bool:
        """Return whether no list rejects this session."""
        self.filter = self.by = ""
        self._is_deferred = False
        for stage in LISTS:
            if stage == "helo" and not session.helo:
                continue
            words = self._postconf.words(f"smtpd_{stage}_restrictions", self._service)
            if all(self.result(words, known, stage) == REJECT for known in self._known(session, stage)):
                return False
        return not self._is_deferred

    def _known(self, session: Session, stage: str) -> Iterator[Session]:
        """Yield what may be known at a stage: not yet all, if rejects are not delayed until RCPT TO."""
        if stage in ("data", "end_of_data"):
            yield session._replace(recipient="")  # of a message to several
        if self._is_delayed or stage in ("relay", "recipient", "data", "end_of_data"):
            yield session
        else:
            helo = "" if stage == "client" else session.helo
            yield session._replace(
                helo=helo, sender=session.sender if stage == "sender" else None, recipient=""
            )

    def result(
        self, words: list[str], session: Session, stage: str, depth: int = 0, harmless: bool = False
    ) -> str:
        """Return what a list decides; with ``harmless``, behind warn_if_reject, it rejects nothing."""
        for *warning, name, argument in each(words):
            warns = harmless or bool(warning)
            restriction = name or LISTS[stage]  # a table alone
            result = self._one(restriction, argument, session, stage, depth, warns)
            if result == PERMIT or (result == REJECT and not warns):
                return result
        return UNDECIDED

    def _one(self, word: str, argument: str, session: Session, stage: str, depth: int, warns: bool) -> str:
        """Return what one restriction decides."""
        name = word.lower()
        if name == "defer_if_permit":
            self._is_deferred |= not warns
        elif name in REJECTS or not name:  # a table where smtpd(8) does not know what to look up
            return REJECT
        elif name in UNAUTH_DESTINATION:
            return REJECT if session.recipient and not session.is_final else UNDECIDED
        elif word in self._classes and depth < _DEPTH:
            inner = self._postconf.words(word, self._service)
            return self.result(inner, session, stage, depth + 1, warns)
        elif self._permits(name, argument, session):
            return PERMIT
        elif argument and not self._guest:
            found = self._find(name, argument, session)
            return self._action(found, session, stage, depth, warns)
        return UNDECIDED

    def _permits(self, name: str, argument: str, session: Session) -> bool:
        """Return whether one restriction lets this client in."""
        if self._guest and self._lets_guests_in(name, argument):
            self.by = name
            return True
        if name == "permit_mynetworks":
            return self.is_in("mynetworks", session.name, session.address)
        if name in _AUTH_DESTINATION:
            return bool(session.recipient) and session.is_final
        if name == "permit_naked_ip_address":
            return self._postconf.version < (3, 9)
        return name == "permit" or name in _SOME_CLIENTS

    def _lets_guests_in(self, name: str, argument: str) -> bool:
        if name in _BY_CERTIFICATE:
            asked = ("smtpd_tls_ask_ccert", "smtpd_tls_req_ccert")
            return "yes" in [self._postconf.value(each, self._service) for each in asked]
        return name in _GUESTS or (name.startswith("check_") and self._may_permit(argument))

    def _may_permit(self, table: str) -> bool:
        """Return whether a table may let somebody in; True for one that cannot be read as text."""
        kind, _, path = table.partition(":")
        is_here = kind in ("inline", "static") or "{" in path
        text = table if is_here else _text(path)
        return text is None or bool(_MAY_PERMIT.search(text)) or any(each in text for each in self._classes)

    def is_in(self, parameter: str, name: str, address: str) -> bool:
        """Return whether a client is in a list of hosts and networks, such as mynetworks."""
        return self._matches(
            self._postconf.words(parameter, self._service), self._dot(parameter), name, address
        )

    def _matches(self, patterns: list[str], dot: str, name: str, address: str) -> bool:
        for word in patterns:
            pattern = word.lstrip("!")
            if pattern.startswith("/"):
                found = self._matches(_words_of(pattern), dot, name, address)
            elif listed := network(pattern):
                found = ipaddress.ip_address(address) in listed
            elif ":" in pattern:
                found = any(self._postconf.lookup(pattern, key) for key in (name, address))
            else:
                found = pattern.lower() in (key for key, _ in _parents(name, dot))
            if found:
                return (len(word) - len(pattern)) % 2 == 0
        return False

    def _find(self, name: str, table: str, session: Session) -> str:
        """Return what an access table has for a session; nothing if it has nothing, or is of another kind."""
        kind, _, path = table.removeprefix("proxy:").partition(":")
        null_sender = self._postconf.value("smtpd_null_access_lookup_key", self._service)
        for key, is_whole in _keys(name, session, null_sender, self._dot("smtpd_access_maps")):
            is_looked_up = path and (is_whole or kind not in _PATTERNS)
            if is_looked_up and (found := self._postconf.lookup(table, key)):
                return found
        return ""

    def _dot(self, parameter: str) -> str:
        """Return what a parent domain begins with in a list."""
        listed = self._postconf.words("parent_domain_matches_subdomains", self._service)
        return "" if parameter in listed else "."

    def _action(self, found: str, session: Session, stage: str, depth: int, warns: bool) -> str:
        """Return what an action of access(5) decides."""
        words = split(found, ",")
        action = words[0].upper() if words else "DUNNO"
        if action == "DEFER_IF_PERMIT":
            self._is_deferred |= not warns
            return UNDECIDED
        if action == "FILTER" and ":" in words[-1] and session.sender is not None:
            self.filter = words[-1]
        if action in _NO_DECISION:
            return UNDECIDED
        if action in ("OK", "RELAY") or found.isdigit():
            return PERMIT
        if action in _REJECTING or _REPLY.fullmatch(found) or depth >= _DEPTH:
            return REJECT
        return self.result(words, session, stage, depth + 1, warns)


def _keys(name: str, session: Session, null_sender: str, dot: str) -> Iterator[tuple[str, bool]]:
    """Yield the keys by which a restriction looks up a session, and whether each is the whole one."""
    if name in ("check_client_access", "check_reverse_client_hostname_access"):
        yield from _parents(session.name, dot)
        yield session.address, True
        delimiter = ":" if ":" in session.address else "."
        parts = session.address.split(delimiter)
        yield from ((delimiter.join(parts[:end]), False) for end in range(len(parts) - 1, 0, -1))
    elif name == "check_helo_access" and session.helo:
        yield from _parents(session.helo, dot)
    elif name == "check_sender_access" and session.sender == "":
        yield null_sender, True
    elif name == "check_sender_access" and session.sender:
        yield from _of_address(session.sender, dot)
    elif name == "check_recipient_access" and session.recipient:
        yield from _of_address(session.recipient, dot)


def _of_address(address: str, dot: str) -> Iterator[tuple[str, bool]]:
    local_part, _, domain = address.rpartition("@")
    yield address, True
    yield from ((key, False) for key, _ in _parents(domain, dot))
    yield f"{local_part}@", False


def _parents(domain: str, dot: str) -> Iterator[tuple[str, bool]]:
    """Yield a domain and its parent domains, which begin with a dot or not."""
    yield domain, True
    labels = domain.split(".")
    yield from ((dot + ".".join(labels[start:]), False) for start in range(1, len(labels)))


def network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network, or address, that a pattern of a list is; None if it is another kind of pattern."""
    try:
        return ipaddress.ip_network(pattern.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _words_of(path: str) -> list[str]:
    """Return the patterns in a file; none if it cannot be read."""
    lines = (_text(path) or "").splitlines()
    return split(" ".join(line.partition("#")[0] for line in lines), ",")


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
