"""What signs mail without the filter, and what becomes of mail that waits for it: said after ``--revert``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dkimpipe.admin.postfix import milter_actions, milter_lists, milters, networks, queue, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.milter_programs import (
    DKIMPY,
    OPENDKIM,
    RSPAMD,
    Files,
    endpoint,
    may_sign,
    mode_of,
    program_at,
    rspamd_is_off,
)
from dkimpipe.admin.postfix.postconf import Postconf

_WAITING = ("incoming", "active", "deferred")  # not what the administrator holds
_NONE = "# no milter in main.cf or master.cf signs mail now"


def lines(postconf: Postconf, files: Files | None = None) -> Iterator[str]:
    """Yield, as comments, which milters sign mail from users, and which mail none signs."""
    files = files or Files()
    everything = _milters(postconf)
    places: dict[str, list[str]] = {}
    for service, addresses in everything.items():
        for address in addresses:
            places.setdefault(address, []).append(service)
    maybe = []
    for address, services in places.items():
        if may_sign(postconf, address, files):
            maybe.append(address)
            yield from _signer(postconf, address, services, files)
        elif text := _silent(postconf, address, files):
            yield text
        elif why := _unknown(postconf, address, files):
            maybe.append(address)
            command = milters.who_listens(address)
            yield f"# the milter {address} is unknown here, and may sign ({why}): {command}"
    unsigned = [service for service, addresses in everything.items() if not {*maybe} & {*addresses}]
    for service in unsigned:
        if content_filter := postconf.value("content_filter", service):
            yield f"# mail from {service} passes the content filter {content_filter}: see whether that signs"
    if not maybe:
        yield _NONE
    elif unsigned:
        yield f"# no milter signs mail from {', '.join(unsigned)}"


def not_back(before: Postconf, now: Postconf, files: Files | None = None) -> Iterator[str]:
    """Yield, as comments, the signers that lists of milters had before ``--apply`` and have no more."""
    files, left = files or Files(), {address for _, address in milter_lists.addresses(now)}
    lists: dict[str, list[str]] = {}
    for where, address in milter_lists.addresses(before):
        if address not in left and program_at(now, address, files) in (OPENDKIM, DKIMPY, RSPAMD):
            lists.setdefault(address, []).append(where)
    for address, names in lists.items():
        name, where = program_at(now, address, files), ", ".join(dict.fromkeys(names))
        yield f"# {name} ({address}) was in {where} before, and is not back, since that was changed meanwhile"


def waiting(postconf: Postconf, job: Job) -> Iterator[str]:
    """Yield, as a comment, how mail that waits for the filter gets on its way, if mail is in the queue.

    Milters do not get it: it leaves unsigned.
    """
    if any(name in _WAITING for name in queue.names(postconf).values()):
        options = ["-c", str(postconf.directory)] if postconf.is_chosen else []
        command = shlex.join(["postsuper", *options, "-r", "ALL", "deferred"])
        yield f"# mail that waits for the filter leaves un{job.participle} by: {command}"


def _milters(postconf: Postconf) -> dict[str, list[str]]:
    """Return the milters of mail from users, from mynetworks and from this host, by service."""
    services = [*sources.submission_services(postconf), *networks.services(postconf)]
    lists = {service.id: "smtpd_milters" for service in services}
    if (pickup := sources.pickup(postconf)) in postconf.services:
        lists[pickup] = "non_smtpd_milters"
    found = {}
    for service, parameter in lists.items():
        options = map(str.lower, postconf.words("receive_override_options", service))
        words = postconf.words(parameter, service) if "no_milters" not in options else []
        found[service] = list(dict.fromkeys(map(endpoint, words)))
    return found


def _signer(postconf: Postconf, address: str, services: list[str], files: Files) -> Iterator[str]:
    """Yield that a milter signs, and that it has to be started if it does not answer."""
    name = f"{program_at(postconf, address, files)} ({address})"
    yield f"# {name} gets mail from {', '.join(services)}, and signs that of the domains in its configuration"
    try:
        milter_actions.may_add_fields(address, postconf.value("queue_directory"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or error
        yield f"# {name} does not answer: {why}: start it, or mail is not signed"


def _silent(postconf: Postconf, address: str, files: Files) -> str:
    """Return how a milter that could sign does so again; empty if it is another one."""
    name = program_at(postconf, address, files)
    if name in (OPENDKIM, DKIMPY) and (mode := mode_of(name, files)):
        setting = f"{mode.name} sv in {mode.place}"
        return f"# {name} ({address}) only verifies: set {setting}, and restart it, or mail is not signed"
    if name == RSPAMD and (places := rspamd_is_off(files)):
        where = ", ".join(map(str, places))
        return (
            f"# {name} ({address}): signing is off in {where}: undo that and reload it, or mail is not signed"
        )
    return ""


def _unknown(postconf: Postconf, address: str, files: Files) -> str:
    """Return why a milter that is unknown may sign; empty if it is known, or cannot."""
    return "" if program_at(postconf, address, files) else milters.suspicion(postconf, address, files)
