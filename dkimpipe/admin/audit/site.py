"""What the log does not show: services, networks, domains and users, from the settings of Postfix."""

from __future__ import annotations

import ipaddress
import pwd
from functools import lru_cache
from pathlib import Path

from dkimpipe.admin.postfix import filter_service, other_filters, planning, sources
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.restrictions import Restrictions
from dkimpipe.admin.postfix.service import Service

_OWN_DOMAINS = ("mydestination", "relay_domains", "virtual_alias_domains", "virtual_mailbox_domains")
_KNOWN = 4096  # answers kept


class Site:
    """The facts about one Postfix.

    ``log``          the file that it logs to by itself (maillog_file); None if it uses syslog
    ``filters``      the names of the services that run the filter that signs, ``verifiers`` the other one
    ``filter_uids``  the users that both filters run as: their local mail comes back from a filter
    ``other_filters``  the names of services that run other filters, which may bring mail back;
                       ``other_uids`` their users. ``filters`` has those that sign, too
    """

    def __init__(self, postconf: Postconf) -> None:
        self.postconf = self._postconf = postconf
        named = postconf.value("maillog_file")
        self.log = Path(named) if named else None
        self.filter_uids: set[int] = set()
        names: dict[str, set[bytes]] = {}
        for job in JOBS:
            services = [each for each in postconf.running("pipe") if _does(each, job)]
            users = {_user_of(each) for each in services}
            self.filter_uids |= {uid for uid in map(_uid, users or {job.name}) if uid is not None}
            names[job.name] = {each.name.encode() for each in services} or {job.name.encode()}
        self.filters, self.verifiers = names[SIGN.name], names[VERIFY.name]
        others = [each for each in postconf.running("pipe") if _brings_back(postconf, each)]
        self.other_filters = {each.name.encode() for each in others}
        self.other_uids = {uid for uid in (_uid(_user_of(each)) for each in others) if uid is not None}
        self.other_uids -= self.filter_uids
        self.filters |= {each.name.encode() for each in others if other_filters.signs(each)}
        self._restrictions = Restrictions(postconf, "")
        self._names = {b"submission", b"submissions", b"smtps"}
        for service in postconf.running("smtpd"):
            name = postconf.own("syslog_name", service.id).rstrip("/").rpartition("/")[2]
            if service.port in sources.SUBMISSION_PORTS and name and not name.startswith("postfix"):
                self._names.add(name.encode())
        self.is_in_mynetworks = lru_cache(_KNOWN)(self._has_network)
        self.has_domain = lru_cache(_KNOWN)(self._has_domain)
        self.user = lru_cache(_KNOWN)(_user)

    def is_submission(self, path: bytes) -> bool:
        """Return whether a syslog name, such as ``postfix/submission/``, is that of a service for users."""
        return path.rstrip(b"/").rpartition(b"/")[2] in self._names

    def _has_network(self, address: bytes) -> bool:
        """Return whether a client address is in mynetworks."""
        try:
            text = str(ipaddress.ip_address(address.decode("ascii")))
        except ValueError:  # such as "unknown"
            return False
        return self._restrictions.is_in("mynetworks", "unknown", text)

    def _has_domain(self, domain: bytes) -> bool:
        """Return whether strangers' mail may go to a domain: one of this server, or that of always_bcc."""
        name = domain.decode("utf-8", "surrogateescape")
        if name == self._postconf.value("always_bcc").lower().rpartition("@")[2]:
            return True
        if not name or "\0" in name:
            return True
        if name.startswith("["):
            return True  # an address literal of this host: others are not accepted from strangers
        return any(self._lists(parameter, name) for parameter in _OWN_DOMAINS)

    def _lists(self, parameter: str, name: str) -> bool:
        parents = parameter in self._postconf.words("parent_domain_matches_subdomains")
        labels = name.split(".")
        names = [".".join(labels[start:]) for start in range(len(labels) if parents else 1)]
        for word in self._postconf.words(parameter):
            pattern = word.lstrip("!")
            if pattern.startswith("/"):
                found = any(each in _words_of(pattern) for each in names)
            elif ":" in pattern:
                found = any(self._postconf.lookup(pattern, each, names) for each in names)
            else:
                found = pattern.lower() in names
            if found:
                return (len(word) - len(pattern)) % 2 == 0
        return False


def _does(service: Service, job: filter_service.Job) -> bool:
    return filter_service.options(service, job) is not None


def _user_of(service: Service) -> str:
    return (service.attribute("user") or "").partition(":")[0]


def _brings_back(postconf: Postconf, service: Service) -> bool:
    """Return whether a service is another filter, which may bring mail back."""
    if any(_does(service, job) for job in JOBS):
        return False
    if planning.gets_mail_from_outside(postconf, service.name):
        return True
    texts = [*service.argv, *map(other_filters.code_of, service.argv)]
    return any("sendmail" in text or "dkimpipe" in text for text in texts)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _user(uid: int) -> str:
    """Return the name of a user, or the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _words_of(path: str) -> list[str]:
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return []
    return [word.lower() for line in text.splitlines() for word in line.partition("#")[0].split()]
