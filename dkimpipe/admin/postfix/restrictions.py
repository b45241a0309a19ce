"""The access restrictions of smtpd(8), evaluated for one session: whether it may send a message.

They are evaluated as in smtpd(8) (SMTPD_ACCESS_README, and src/smtpd/smtpd_check.c of Postfix). Restrictions
that depend on DNS, a policy service or the user database, such as reject_unknown_client_hostname, reject some
clients but not all, so they decide nothing here. Nor does a name unknown to Postfix, although smtpd(8) then
defers all mail: better to report one open service too many.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from dkimpipe.admin.postfix.network_patterns import network
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.restriction_lists import (
    DEPTH,
    LISTS,
    REJECTS,
    UNAUTH_DESTINATION,
    split_restrictions,
)
from dkimpipe.admin.postfix.syntax import split

PERMIT, REJECT, UNDECIDED = "permit", "reject", ""
_AUTH_DESTINATION = ("permit_auth_destination", "permit_mx_backup", "check_relay_domains")
_SOME_CLIENTS = ("permit_dnswl_client", "permit_rhswl_client")  # strangers may be on such a list
# Restrictions by which the administrator admits clients on purpose: these are not strangers.
_BY_CERTIFICATE = ("permit_tls_clientcerts", "permit_tls_all_clientcerts")
_GUESTS = ("permit_inet_interfaces", "check_policy_service", "check_ccert_access", "check_sasl_access")
# Actions of access(5). A discarded message counts as rejected.
_NO_DECISION = ("DUNNO", "INFO", "WARN", "FILTER", "HOLD", "REDIRECT", "BCC", "PREPEND", "DEFER_IF_REJECT")
_REJECTING = ("REJECT", "DEFER", "DISCARD", "HANGUP")
_REPLY = re.compile(r"[45]\d\d\s.*")
_PATTERNS = ("regexp", "pcre", "cidr", "tcp")  # these are given only the whole key
_MAY_PERMIT = re.compile(r"\b(ok|relay|permit\w*)\b|\s\d+\s*$", re.IGNORECASE | re.MULTILINE)


class Session(NamedTuple):
    """What smtpd(8) knows of a client that has not logged in, and of its message.

    ``name``       ``unknown`` if DNS has none for the address
    ``helo``       empty for a client that has sent neither HELO nor EHLO
    ``sender``     empty for the null sender; None before MAIL FROM
    ``recipient``  empty before RCPT TO, and after it if there are several
    ``is_final``   whether Postfix accepts mail for this recipient from anyone: it is not relaying
    """

    name: str
    address: str
    helo: str
    sender: str | None
    recipient: str
    is_final: bool


class Restrictions:
    """The restrictions of one service.

    With ``guest`` they are evaluated for a client that the administrator admits on purpose, without a login:
    by certificate, table, or policy service. With ``has_login`` the client has logged in. ``expected``
    returns sessions that may follow: what a table has for them is looked up at the same time.

    ``filter``        the FILTER action of the last session; empty if it got none
    ``for_one``       the same for mail to a single recipient, which lists evaluated after DATA know only then
    ``permitted_by``  the restriction that admitted a guest in the last session
    """

    def __init__(
        self,
        postconf: Postconf,
        service: str,
        expected: Callable[[], Iterable[Session]] = tuple,
        guest: bool = False,
        has_login: bool = False,
    ) -> None:
        self._postconf, self._service, self._guest = postconf, service, guest
        self._has_login, self._expected = has_login, expected
        self._classes = postconf.words("smtpd_restriction_classes", service)
        self._is_delayed = postconf.value("smtpd_delay_reject", service) != "no"
        self._is_deferred = False
        self.filter = self.permitted_by = self.for_one = ""

    def accepts(self, session: Session) -> bool:
        """Return whether no list rejects this session."""
        self.filter = self.permitted_by = ""
        self._is_deferred = False
        before = ""
        for stage in LISTS:
            if stage == "helo" and not session.helo:
                continue
            before = self.filter if stage == "data" else before
            words = self._postconf.words(f"smtpd_{stage}_restrictions", self._service)
            if all(
                self.evaluate(words, known, stage) == REJECT for known in self._sessions_at(session, stage)
            ):
                return False
        is_accepted, found = not self._is_deferred, self.filter
        self.filter = before
        for stage in ("data", "end_of_data"):
            self.evaluate(self._postconf.words(f"smtpd_{stage}_restrictions", self._service), session, stage)
        self.filter, self.for_one = found, self.filter
        return is_accepted

    def _sessions_at(self, session: Session, stage: str) -> Iterator[Session]:
        """Yield the session as known at a stage: only in part, if rejects are not delayed until RCPT TO."""
        if stage in ("data", "end_of_data"):
            yield session._replace(recipient="")  # for a message to several recipients
        if self._is_delayed or stage in ("relay", "recipient", "data", "end_of_data"):
            yield session
        else:
            helo = "" if stage == "client" else session.helo
            yield session._replace(
                helo=helo, sender=session.sender if stage == "sender" else None, recipient=""
            )

    def evaluate(
        self, words: list[str], session: Session, stage: str, depth: int = 0, warn_only: bool = False
    ) -> str:
        """Return what a list decides. With ``warn_only``, after warn_if_reject, it rejects nothing."""
        for *warning, name, argument in split_restrictions(words):
            warns = warn_only or bool(warning)
            restriction = name or LISTS[stage]  # a bare table
            result = self._evaluate_one(restriction, argument, session, stage, depth, warns)
            if result == PERMIT or (result == REJECT and not warns):
                return result
        return UNDECIDED

    def _evaluate_one(
        self, word: str, argument: str, session: Session, stage: str, depth: int, warns: bool
    ) -> str:
        """Return what one restriction decides."""
        name = word.lower()
        if name == "defer_if_permit":
            self._is_deferred |= not warns
        elif name in REJECTS or not name:  # a bare table where smtpd(8) does not know what to look up
            return REJECT
        elif name in UNAUTH_DESTINATION:
            return REJECT if session.recipient and not session.is_final else UNDECIDED
        elif word in self._classes and depth < DEPTH:
            inner = self._postconf.words(word, self._service)
            return self.evaluate(inner, session, stage, depth + 1, warns)
        elif self._permits(name, argument, session):
            return PERMIT
        elif argument and not self._guest:
            found = self._look_up(name, argument, session)
            return self._evaluate_action(found, session, stage, depth, warns)
        return UNDECIDED

    def _permits(self, name: str, argument: str, session: Session) -> bool:
        """Return whether one restriction permits this client."""
        if self._guest and self._admits_guests(name, argument):
            self.permitted_by = name
            return True
        if name == "permit_sasl_authenticated":
            return self._has_login
        if name == "permit_mynetworks":
            return self.is_in("mynetworks", session.name, session.address)
        if name in _AUTH_DESTINATION:
            return bool(session.recipient) and session.is_final
        if name == "permit_naked_ip_address":
            return self._postconf.version < (3, 9)
        return name == "permit" or name in _SOME_CLIENTS

    def _admits_guests(self, name: str, argument: str) -> bool:
        if name in _BY_CERTIFICATE:
            parameters = ("smtpd_tls_ask_ccert", "smtpd_tls_req_ccert")
            return "yes" in [self._postconf.value(each, self._service) for each in parameters]
        return name in _GUESTS or (name.startswith("check_") and self._may_permit(argument))

    def _may_permit(self, table: str) -> bool:
        """Return whether a table may permit any client; True if it cannot be read as text."""
        kind, _, path = table.partition(":")
        is_inline = kind in ("inline", "static") or "{" in path
        text = table if is_inline else _text(path)
        return text is None or bool(_MAY_PERMIT.search(text)) or any(each in text for each in self._classes)

    def is_in(self, parameter: str, name: str, address: str) -> bool:
        """Return whether a client is in a list of hosts and networks, such as mynetworks."""
        return self._matches(
            self._postconf.words(parameter, self._service), self._parent_prefix(parameter), name, address
        )

    def _matches(self, patterns: list[str], prefix: str, name: str, address: str) -> bool:
        for word in patterns:
            pattern = word.lstrip("!")
            if pattern.startswith("/"):
                found = self._matches(_words_in_file(pattern), prefix, name, address)
            elif listed := network(pattern):
                found = _address(address) in listed
            elif ":" in pattern:
                keys = name, address
                found = any(self._postconf.lookup(pattern, key, keys) for key in keys)
            else:
                found = pattern.lower() in (key for key, _ in _domain_keys(name, prefix))
            if found:
                return (len(word) - len(pattern)) % 2 == 0
        return False

    def _look_up(self, name: str, table: str, session: Session) -> str:
        """Return what an access table has for a session; empty if it has no entry or is of another kind."""
        later = (key for each in self._expected() for key in self._table_keys(name, table, each))
        found = (self._postconf.lookup(table, key, later) for key in self._table_keys(name, table, session))
        return next(filter(None, found), "")

    def _table_keys(self, name: str, table: str, session: Session) -> Iterator[str]:
        """Yield the keys by which a restriction looks up a session in a table."""
        kind, _, path = table.removeprefix("proxy:").partition(":")
        null_sender = self._postconf.value("smtpd_null_access_lookup_key", self._service)
        for key, is_whole in _keys(name, session, null_sender, self._parent_prefix("smtpd_access_maps")):
            if path and (is_whole or kind not in _PATTERNS):
                yield key

    def _parent_prefix(self, parameter: str) -> str:
        """Return the prefix of parent domains in a list: a dot, or nothing."""
        listed = self._postconf.words("parent_domain_matches_subdomains", self._service)
        return "" if parameter in listed else "."

    def _evaluate_action(self, found: str, session: Session, stage: str, depth: int, warns: bool) -> str:
        """Return what an action of an access(5) table decides."""
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
        if action in _REJECTING or _REPLY.fullmatch(found) or depth >= DEPTH:
            return REJECT
        return self.evaluate(words, session, stage, depth + 1, warns)


def _keys(name: str, session: Session, null_sender: str, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield the keys by which a restriction looks up a session, and whether each is the whole key."""
    if name in ("check_client_access", "check_reverse_client_hostname_access"):
        yield from _domain_keys(session.name, prefix)
        yield session.address, True
        delimiter = ":" if ":" in session.address else "."
        parts = session.address.split(delimiter)
        yield from ((delimiter.join(parts[:end]), False) for end in range(len(parts) - 1, 0, -1))
    elif name == "check_helo_access" and session.helo:
        yield from _domain_keys(session.helo, prefix)
    elif name == "check_sender_access" and session.sender == "":
        yield null_sender, True
    elif name == "check_sender_access" and session.sender:
        yield from _address_keys(session.sender, prefix)
    elif name == "check_recipient_access" and session.recipient:
        yield from _address_keys(session.recipient, prefix)


def _address_keys(address: str, prefix: str) -> Iterator[tuple[str, bool]]:
    local_part, _, domain = address.rpartition("@")
    yield address, True
    yield from ((key, False) for key, _ in _domain_keys(domain, prefix))
    yield f"{local_part}@", False


def _domain_keys(domain: str, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield a domain and its parent domains, which have this prefix."""
    yield domain, True
    labels = domain.split(".")
    yield from ((prefix + ".".join(labels[start:]), False) for start in range(1, len(labels)))


@functools.lru_cache(maxsize=256)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _words_in_file(path: str) -> list[str]:
    """Return the patterns in a file; none if it cannot be read."""
    lines = (_text(path) or "").splitlines()
    return split(" ".join(line.partition("#")[0] for line in lines), ",")


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
