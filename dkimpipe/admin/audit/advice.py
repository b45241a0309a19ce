"""What to do about mail that left unsigned: the command that would have it signed, if one would.

A command that changes nothing is never printed: each is tried first, without making its changes.
"""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dkimpipe import senders
from dkimpipe.address import Mailbox
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.verdict import NOT_FILTERED, NOTICE, RELAYED, REQUEUED
from dkimpipe.admin.invocation import runnable
from dkimpipe.admin.postfix import (
    arguments,
    fatal,
    filter_service,
    open_services,
    planning,
    requirements,
    routing,
    sources,
    submission,
)
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.kinds import BOUNCES, KINDS, SUBMISSION
from dkimpipe.choose import lookup_keys, sender_map
from dkimpipe.config import CONF_FILE, Settings, read_settings
from dkimpipe.errors import ConfigError, NotSigned, Trouble
from dkimpipe.files import exists
from dkimpipe.options import complete, macros

OTHERS = "(others)"
_NO_ENTRY = re.compile(r"no entry for \S*@([^\s@]+)")
_NO_AUTHOR = re.compile(r"no address in From|no From field|\d+ From fields")
_NO_KEY = re.compile(r"no key for ([a-z0-9.-]+)")
_NO_DOMAIN = "correct the From field in the program that writes this mail"
_NOW = "Postfix passes such mail to the filter now, after postfix reload; dkimpipe check --postfix tests it"
_FIXED = {
    RELAYED: "let these clients log in at the submission service, or add them to mynetworks",
    REQUEUED: "retry mail by postqueue -f: what postsuper -r queues anew does not pass the filter again",
    NOTICE: "let error_notice_recipient be a mailbox on this host: these notices are not signed",
}


class Row(NamedTuple):
    """Mail that left unsigned, by its origin; the fields are those of a Verdict."""

    kind: str
    source: str
    domain: str
    reason: str


class Advice:
    """What to do on one host, according to the configuration of its Postfix as it is now."""

    def __init__(self, site: Site) -> None:
        self._site, self._postconf = site, site.postconf
        self._instance = ["-c", str(self._postconf.directory)] if self._postconf.is_chosen else []
        self._trial = lru_cache(self._try)

    def on(self, row: Row) -> str:
        """Return what to do about a row, on one line; commands run when they are pasted."""
        return runnable(" ".join(self._on(row).split("\n")))

    def _on(self, row: Row) -> str:
        if row.reason in (NOT_FILTERED, REQUEUED):
            return self._not_filtered(row)
        if found := _NO_ENTRY.fullmatch(row.reason):
            return self._no_entry(found[1].lower())
        if _NO_AUTHOR.fullmatch(row.reason):
            return _NO_DOMAIN
        if found := _NO_KEY.fullmatch(row.reason):
            return self._no_key(found[1])
        return "see DIAGNOSTICS in dkimpipe(1)"

    def _not_filtered(self, row: Row) -> str:
        if row.kind == RELAYED:
            return _FIXED[RELAYED]
        if row.kind == OTHERS:
            changes = any(self._trial(kind)[0] for kind in KINDS)
            return self._command("postfix", "--apply", "--sign", "all") if changes else _NOW
        if row.kind == SUBMISSION and self._is_port_25(row.source.partition(",")[0]):
            return self._to_submission()
        changes, obstacle = self._trial(row.kind)
        if row.reason == REQUEUED and (not changes or row.kind in planning.kinds_in_use(self._postconf)):
            return _FIXED[REQUEUED]
        if changes:
            return self._command("postfix", "--apply", "--sign", row.kind)
        if obstacle:
            return obstacle
        return _FIXED[NOTICE] if row.kind == BOUNCES and row.source == NOTICE else _NOW

    def _try(self, kind: str) -> tuple[bool, str]:
        """Return whether ``dkimpipe postfix --apply --sign KIND`` changes something, or why it cannot."""
        postconf = self._postconf
        try:
            fatal.refuse(postconf)
            arguments.refuse(postconf)
            chosen = planning.plan(postconf, SIGN, (kind,))
            changes = requirements.missing(postconf, SIGN.name, SIGN, chosen)
            routing.refuse_another_filter(postconf, SIGN)
            planning.refuse_obstacles(postconf, chosen.kinds)
            open_services.refuse(postconf)
        except ConfigError as error:
            return False, f"not possible yet: {_with_hint(error)}"
        return bool(changes), ""

    def _is_port_25(self, name: str) -> bool:
        """Return whether a client that logged in did so at a service which is not for users."""
        services = sources.submission_services(self._postconf)
        has_names = all(self._postconf.own("syslog_name", each.id) for each in services)
        return has_names and not self._site.is_submission(name.encode())

    def _to_submission(self) -> str:
        text = "let these users log in at the submission service (port 587), not on port 25"
        if sources.submission_services(self._postconf):
            return text
        try:
            submission.missing(self._postconf)
        except ConfigError as error:
            return f"{text}, which cannot be created yet: {_with_hint(error)}"
        return f"{text}, which does not exist yet: {self._command('postfix', '--apply', '--submission')}"

    def _no_entry(self, domain: str) -> str:
        """Return how mail of a domain is signed that the senders file does not have."""
        from dkimpipe.admin.newkey import to_domain  # it imports cryptography

        if domain.endswith("..."):  # the report was cut there
            return self._command("setup", "DOMAIN")
        try:
            name = to_domain(domain)
        except ConfigError:
            return _NO_DOMAIN
        settings = self._settings()
        if not sender_map(settings):
            return self._if_yours(name, f"add {name} to domain in {settings.get('conf_file', CONF_FILE)}")
        if self._entry(name):
            return f"the senders file has an entry for {name} now"
        return self._if_yours(name, f"{self._command('setup', name)}, and again when DNS has its record")

    def _no_key(self, domain: str) -> str:
        """Return how the key is created that an entry for many domains lacks for this one."""
        from dkimpipe.admin.newkey import DIRECTORY, to_domain

        try:
            name = to_domain(domain)
            settings, entry = self._settings(), self._entry(name)
            given = macros(Mailbox(b"postmaster", name.encode()), name.encode())
            found = senders.parse(entry.text, entry.place) if entry else []
            signatures = [complete(each, settings, given) for each in found]
        except (ConfigError, NotSigned):
            return "see DIAGNOSTICS in dkimpipe(1)"
        missing = [each for each in signatures if not exists(each.keyfile)]
        if signatures and not missing:
            return f"the key of {name} is there now"
        for each in missing:
            path, selector = Path(each.keyfile), each.selector.decode()
            if path.name == f"{name}.{selector}.pem":
                place = [] if str(path.parent) == DIRECTORY else ["--directory", str(path.parent)]
                words = ["dkimpipe", "genkey", *place, "--selector", selector, name]
                return self._if_yours(name, shlex.join(words))
        return f"dkimpipe explain postmaster@{name} names the key file that is missing"

    def _if_yours(self, domain: str, command: str) -> str:
        """Return a command for a domain: others write domains, too, in mail that programs here pass on."""
        return command if self._site.has_domain(domain.encode()) else f"if {domain} is your domain: {command}"

    def _settings(self) -> Settings:
        """Return the settings of the filter; its defaults if there is none."""
        service = filter_service.find(self._postconf)
        try:
            return filter_service.settings_of(service, SIGN) if service else read_settings([])
        except Trouble:
            return Settings()

    def _entry(self, domain: str) -> senders.Entry | None:
        path = sender_map(self._settings())
        keys = lookup_keys(Mailbox(b"postmaster", domain.encode()))
        try:
            return senders.lookup_in_all(path, keys) if path and exists(path) else None
        except Trouble:
            return None

    def _command(self, verb: str, *words: str) -> str:
        return shlex.join(["dkimpipe", verb, *self._instance, *words])


def _with_hint(error: ConfigError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
