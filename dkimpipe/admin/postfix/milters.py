"""Milters that sign mail as well, or did so until the filter took their place.

Milters that are unknown are asked whether they may add header fields: a note names those that may.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import kinds, milter_actions, networks, planning, sources
from dkimpipe.admin.postfix.filter_service import SIGN, Job
from dkimpipe.admin.postfix.kinds import LOCAL
from dkimpipe.admin.postfix.milter_lists import Use
from dkimpipe.admin.postfix.milter_programs import (
    OPENDMARC,
    RSPAMD,
    Files,
    endpoint,
    may_sign,
    opendkim_mode,
    program_at,
    rspamd_confs,
    text_of,
)
from dkimpipe.admin.postfix.postconf import Postconf, finding_for, list_command
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table
from dkimpipe.admin.rspamd import signing

# Milters for other purposes, by the names and the ports that they usually have.
_OTHER = re.compile(
    r"clamav|clamd|spamass|spamd|opendmarc|openarc|grey|milter-regex|milter-manager|policyd|spf|srs|virus"
    r"|:8893\b|:7357\b"
)
_ADDRESS = re.compile(r"\b(?:inet6?|unix|local):[^\s,{}]+")
_LOCAL_LIST = "non_smtpd_milters"
_KEEP_OFF = "remove the domain there, or let it verify only"


def findings(postconf: Postconf, job: Job, files: Files | None = None) -> Iterator[Finding]:
    """Yield the milters that do the same job as the filter."""
    files = files or Files()
    for service in sources.of(postconf, job):
        same = _signing(postconf, service, "smtpd_milters", files, verifies=job is not SIGN)
        if not same:
            continue
        if job is SIGN:
            yield from _of_users(postconf, service, same, files)
        else:
            what = f"{service.id}/smtpd_milters: {', '.join(same)} may verify as well"
            hint = "its results under this host's authserv-id are removed: give it another one (RFC 8601)"
            yield Finding(what, hint, "warning")
    if job is SIGN:
        yield from _of_networks(postconf, files)
        yield from _of_local_mail(postconf, files)
        yield from _of_dmarc(postconf, files)
        yield from _of_some_clients(postconf, files)
        yield from _unidentified(postconf, files)


def dmarc_after(postconf: Postconf, used: Sequence[Use], files: Files | None = None) -> list[str]:
    """Return the milters of OpenDMARC in the same lists as these, which get their results from them."""
    files = files or Files()
    mode = opendkim_mode(files)
    if mode and not mode.verifies:
        return []
    lists = {(use.parameter, use.service) for use in used if use.parameter == "smtpd_milters"}
    addresses = [endpoint(each) for one in sorted(lists) for each in postconf.words(*one)]
    gone = [endpoint(each) for use in used for each in use.milters]
    left = [each for each in dict.fromkeys(addresses) if each not in gone]
    return [each for each in left if _is_dmarc(postconf, each, files)]


def _is_dmarc(postconf: Postconf, address: str, files: Files) -> bool:
    return program_at(postconf, address, files) == OPENDMARC


def _of_dmarc(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield where OpenDMARC gets mail from outside, and no milter before it verifies that."""
    for service in networks.services(postconf):
        words = postconf.words("smtpd_milters", service.id)
        if words and _is_dmarc(postconf, endpoint(words[0]), files):
            what = f"{service.id}/smtpd_milters: no milter before OpenDMARC ({words[0]}) verifies DKIM"
            hint = "let OpenDKIM verify before it (Mode v): otherwise it can reject good mail from outside"
            yield Finding(what, hint, "warning")


def _of_users(postconf: Postconf, service: Service, same: list[str], files: Files) -> Iterator[Finding]:
    """Yield the milters of a service for users: a spam filter stays, and has only to stop signing."""
    spam_filters, rest = _split(postconf, same, files)
    if rest:
        others = [each for each in postconf.words("smtpd_milters", service.id) if each not in rest]
        why = f"{', '.join(rest)} may sign as well; remove the domain there, or let it verify only"
        argument = f"{service.id}/smtpd_milters={','.join(others)}"
        yield finding_for(postconf, "-P", argument, why, "warning")
    if spam_filters:
        what = f"{service.id}/smtpd_milters: {', '.join(spam_filters)} may sign as well, and filters spam"
        yield Finding(what, _rspamd_off(files), "warning")


def _of_some_clients(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield the milters that a table gives to some clients in place of smtpd_milters (Postfix 3.2)."""
    for service in sources.submission_services(postconf):
        for table in postconf.words("smtpd_milter_maps", service.id):
            kind, _, rest = real_table(table).partition(":")
            text = rest if "{" in rest or kind == "static" else text_of((Path(rest),))
            same = [each for each in _ADDRESS.findall(text) if may_sign(postconf, each, files)]
            place = f"{service.id}/smtpd_milter_maps: {table}"
            if same:
                what = f"{place}: {', '.join(same)} may sign as well; remove the domain there"
                yield Finding(f"{what}, or let it verify only", "", "warning")
            else:
                what = f"{place}: some clients have milters of their own, which are not checked"
                yield Finding(what, "see whether one of them signs mail from users", NOTE)


def _unidentified(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield a note of each milter for mail from users that may sign, as far as anyone can tell."""
    places: dict[str, list[str]] = {}
    for service in sources.submission_services(postconf):
        options = map(str.lower, postconf.words("receive_override_options", service.id))
        for milter in postconf.words("smtpd_milters", service.id) if "no_milters" not in options else ():
            places.setdefault(endpoint(milter), []).append(f"{service.id}/smtpd_milters")
    for address, where in places.items():
        why = suspicion(postconf, address, files) if not program_at(postconf, address, files) else ""
        if not why:
            continue
        what = f"{', '.join(where)}: the milter {address} is unknown here, and may sign as well: {why}"
        yield Finding(what, f"see which program it is: {who_listens(address)}", NOTE)


def suspicion(postconf: Postconf, address: str, files: Files | None = None) -> str:
    """Return why a milter may sign, as far as anyone can tell; empty if it is another, or cannot."""
    if _OTHER.search(address) or _is_dmarc(postconf, address, files or Files()):
        return ""
    try:
        may_add = milter_actions.may_add_fields(address, postconf.value("queue_directory"))
        return "it can add header fields" if may_add else ""
    except (OSError, ValueError) as error:
        return f"asked, it does not answer: {getattr(error, 'strerror', '') or error}"


def is_spam_filter(postconf: Postconf, address: str) -> bool:
    """Return whether a milter is rspamd."""
    return program_at(postconf, address, Files()) == RSPAMD


def who_listens(address: str) -> str:
    """Return the command that shows which program a milter is."""
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local"):
        return f"ss -lxp | grep {shlex.quote(os.path.basename(rest))}"
    return f"ss -ltnp 'sport = :{rest.rpartition(':')[2]}'"


def _of_networks(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield the milters of port 25 that sign mail from mynetworks as well: they may also verify there."""
    if not networks.in_use(postconf):
        return
    for service in networks.services(postconf):
        spam_filters, rest = _split(postconf, _signing(postconf, service, "smtpd_milters", files), files)
        for same, hint in ((rest, _KEEP_OFF), (spam_filters, _rspamd_off(files))):
            if same:
                what = f"{service.id}/smtpd_milters: {', '.join(same)} may sign mail from mynetworks as well"
                yield Finding(what, hint, "warning")


def _of_local_mail(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield a finding if a milter that signs no longer gets local mail, or signs it as well as we do."""
    name = sources.pickup(postconf)
    signed = planning.kinds_in_use(postconf)
    service = postconf.services.get(name)
    milters = _signing(postconf, service, _LOCAL_LIST, files, ignore_options=True) if service else []
    options = [word.lower() for word in postconf.words("receive_override_options", name)]
    if milters and LOCAL not in signed and "no_milters" in options:
        why = f"mail from local programs no longer passes {', '.join(milters)}, and is not signed"
        hint = kinds.command(postconf.directory, [LOCAL])
        yield Finding(f"{name}/receive_override_options: {why}", hint, "warning")
    elif milters and LOCAL in signed and "no_milters" not in options:
        spam_filters, rest = _split(postconf, milters, files)
        why = "may sign mail from local programs as well"
        if rest:
            yield _unmiltered(postconf, name, options, rest, f"{', '.join(rest)} {why}", files)
        if spam_filters:
            what = f"{name}/receive_override_options: {', '.join(spam_filters)} {why}"
            yield Finding(what, _rspamd_off(files), "warning")


def _unmiltered(
    postconf: Postconf, name: str, options: list[str], milters: list[str], why: str, files: Files
) -> Finding:
    """Return the finding that takes these milters off local mail, but never a spam filter."""
    others = [each for each in postconf.words(_LOCAL_LIST, name) if each not in milters]
    value = ",".join([*options, "no_milters"])
    removal = finding_for(postconf, "-P", f"{name}/receive_override_options={value}", why, "warning")
    if _split(postconf, others, files)[0]:
        return removal._replace(hint=list_command(postconf, "", _LOCAL_LIST, others))
    also = f"# this switches {', '.join(others)} off for this mail, too:\n" if others else ""
    return removal._replace(hint=also + removal.hint)


def _split(postconf: Postconf, milters: list[str], files: Files) -> tuple[list[str], list[str]]:
    """Return the spam filters among milters, and the rest."""
    found = [each for each in milters if program_at(postconf, endpoint(each), files) == RSPAMD]
    return found, [each for each in milters if each not in found]


def _rspamd_off(files: Files) -> str:
    """Return how rspamd stops signing."""
    return signing.to_switch_off(next((each for each in rspamd_confs(files) if not signing.off(each)), None))


def _signing(
    postconf: Postconf,
    service: Service,
    parameter: str,
    files: Files,
    verifies: bool = False,
    ignore_options: bool = False,
) -> list[str]:
    """Return the milters of a service that may sign, or if ``verifies`` is set, verify, as written."""
    options = map(str.lower, postconf.words("receive_override_options", service.id))
    if "no_milters" in options and not ignore_options:
        return []
    return [
        milter
        for milter in postconf.words(parameter, service.id)
        if may_sign(postconf, endpoint(milter), files, verifies)
    ]
