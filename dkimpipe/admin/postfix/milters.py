"""Milters that sign mail as well, or did so until the filter took their place.

They are recognised by the names and the ports that they usually have, and by the sockets in the conf files of
OpenDKIM, dkimpy-milter and rspamd. Others are asked whether they may add header fields: a note names those.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import hosts, kinds, milter_actions, networks, planning, sources
from dkimpipe.admin.postfix.filter_service import SIGN, Job
from dkimpipe.admin.postfix.kinds import LOCAL
from dkimpipe.admin.postfix.milter_lists import Use
from dkimpipe.admin.postfix.postconf import Postconf, finding_for, list_command
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table, split
from dkimpipe.admin.rspamd import signing
from dkimpipe.admin.rspamd.conf import Conf
from dkimpipe.errors import ConfigError

_RSPAMD_DIRECTORIES = (Path("/etc/rspamd"), Path("/usr/local/etc/rspamd"))
_RSPAMD_FILES = tuple(
    Path(directory, name)
    for directory in _RSPAMD_DIRECTORIES
    for name in (
        "worker-proxy.inc",
        "local.d/worker-proxy.inc",
        "override.d/worker-proxy.inc",
        "rspamd.conf.local",
    )
)


class Files(NamedTuple):
    """The conf files of programs that sign; all sockets in them are theirs.

    ``rspamd_directories``  where rspamd's configuration may be, which says whether it signs
    """

    opendkim: tuple[Path, ...] = (
        Path("/etc/opendkim.conf"),
        Path("/etc/default/opendkim"),
        Path("/etc/mail/opendkim.conf"),
        Path("/etc/opendkim/opendkim.conf"),
        Path("/usr/local/etc/mail/opendkim.conf"),
    )
    dkimpy: tuple[Path, ...] = (
        Path("/etc/dkimpy-milter/dkimpy-milter.conf"),
        Path("/usr/local/etc/dkimpy-milter.conf"),
    )
    rspamd: tuple[Path, ...] = _RSPAMD_FILES
    opendmarc: tuple[Path, ...] = (
        Path("/etc/opendmarc.conf"),
        Path("/etc/default/opendmarc"),
        Path("/usr/local/etc/mail/opendmarc.conf"),
    )
    rspamd_directories: tuple[Path, ...] = _RSPAMD_DIRECTORIES


_RSPAMD = re.compile(r"rspamd|:11332\b")
_DKIM = re.compile(r"dkim|:8891\b|:12301\b|:12345\b")
# Milters for other purposes, by the names and the ports that they usually have.
_OTHER = re.compile(
    r"clamav|clamd|spamass|spamd|opendmarc|openarc|grey|milter-regex|milter-manager|policyd|spf|srs|virus"
    r"|:8893\b|:7357\b"
)
_DMARC = re.compile(r"opendmarc|:8893\b")
_ADDRESS = re.compile(r"\b(?:inet6?|unix|local):[^\s,{}]+")
_SOCKET = re.compile(r"^\s*(?:Socket\s+|SOCKET=)[\"']?([^\s\"'#]+)", re.MULTILINE)
_BIND_SOCKET = re.compile(r"^\s*bind_socket\s*=\s*[\"']?([^\s\"';]+)", re.MULTILINE)
_LOCAL_LIST = "non_smtpd_milters"
_KEEP_OFF = "remove the domain there, or let it verify only"
_VERIFIES = re.compile(r"^\s*Mode\s+v\s*(#.*)?$", re.MULTILINE | re.IGNORECASE)
_ONLY_SIGNS = re.compile(r"^\s*Mode\s+s\s*(#.*)?$", re.MULTILINE | re.IGNORECASE)


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
    if _ONLY_SIGNS.search(_text(files.opendkim)):
        return []
    lists = {(use.parameter, use.service) for use in used if use.parameter == "smtpd_milters"}
    addresses = [endpoint(each) for one in sorted(lists) for each in postconf.words(*one)]
    gone = [endpoint(each) for use in used for each in use.milters]
    left = [each for each in dict.fromkeys(addresses) if each not in gone]
    return [each for each in left if _is_dmarc(postconf, each, files)]


def _is_dmarc(postconf: Postconf, address: str, files: Files) -> bool:
    return bool(_DMARC.search(address)) or _is_at(postconf, address, _SOCKET, _text(files.opendmarc))


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
        if any(any(map(str.isspace, each)) for each in others):  # postconf -P takes no spaces
            yield Finding(f"{service.id}/smtpd_milters: {why}", "", "warning")
        else:
            yield finding_for(postconf, "-P", argument, why, "warning")
    if spam_filters:
        what = f"{service.id}/smtpd_milters: {', '.join(spam_filters)} may sign as well, and filters spam"
        yield Finding(what, _rspamd_off(files), "warning")


def _of_some_clients(postconf: Postconf, files: Files) -> Iterator[Finding]:
    """Yield the milters that a table gives to some clients in place of smtpd_milters (Postfix 3.2)."""
    for service in sources.submission_services(postconf):
        for table in postconf.words("smtpd_milter_maps", service.id):
            kind, _, rest = real_table(table).partition(":")
            text = rest if "{" in rest or kind == "static" else _text((Path(rest),))
            same = [each for each in _ADDRESS.findall(text) if _may_sign(postconf, each, files, False)]
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
        why = "" if _may_sign(postconf, address, files, verifies=True) else suspicion(postconf, address)
        if not why:
            continue
        what = f"{', '.join(where)}: the milter {address} is unknown here, and may sign as well: {why}"
        yield Finding(what, f"see which program it is: {who_listens(address)}", NOTE)


def suspicion(postconf: Postconf, address: str) -> str:
    """Return why a milter may sign, as far as anyone can tell; empty if it is another, or cannot."""
    if _OTHER.search(address):
        return ""
    try:
        may_add = milter_actions.may_add_fields(address, postconf.value("queue_directory"))
        return "it can add header fields" if may_add else ""
    except (OSError, ValueError) as error:
        return f"asked, it does not answer: {getattr(error, 'strerror', '') or error}"


def is_spam_filter(postconf: Postconf, address: str) -> bool:
    """Return whether a milter is rspamd."""
    return _is_rspamd(postconf, address, Files())


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
    found = [each for each in milters if _is_rspamd(postconf, endpoint(each), files)]
    return found, [each for each in milters if each not in found]


def _rspamd(files: Files) -> list[Conf]:
    """Return the configurations of rspamd that can be read."""
    found = []
    for directory in files.rspamd_directories:
        with contextlib.suppress(ConfigError):
            found.append(Conf(directory))
    return found


def _rspamd_off(files: Files) -> str:
    """Return how rspamd stops signing."""
    return signing.to_switch_off(next((each for each in _rspamd(files) if not signing.off(each)), None))


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
        if _may_sign(postconf, endpoint(milter), files, verifies)
    ]


def endpoint(milter: str) -> str:
    """Return the address of an item of smtpd_milters, without its options: ``{ inet:host:port, ... }``."""
    if milter.startswith("{"):
        return next(iter(split(milter.strip("{} \t"), ",")), "")
    return milter


def _may_sign(postconf: Postconf, address: str, files: Files, verifies: bool) -> bool:
    """Return whether a milter at this address may sign, or if ``verifies`` is set, verify."""
    opendkim = _text(files.opendkim)
    if _is_rspamd(postconf, address, files):
        confs = _rspamd(files)
        return verifies or not confs or not all(map(signing.off, confs))
    if _is_at(postconf, address, _SOCKET, _text(files.dkimpy)):
        return True
    is_opendkim = bool(_DKIM.search(address)) or _is_at(postconf, address, _SOCKET, opendkim)
    return is_opendkim and (verifies or not _VERIFIES.search(opendkim))


def _is_rspamd(postconf: Postconf, address: str, files: Files) -> bool:
    return bool(_RSPAMD.search(address)) or _is_at(postconf, address, _BIND_SOCKET, _text(files.rspamd))


def _text(paths: tuple[Path, ...]) -> str:
    """Return the text of these files that can be read."""
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _is_at(postconf: Postconf, address: str, pattern: re.Pattern[str], text: str) -> bool:
    """Return whether an address is one of the sockets in the text of a conf file."""
    ours = _places(postconf, address)
    return any(not ours.isdisjoint(_places(postconf, socket)) for socket in pattern.findall(text))


def _places(postconf: Postconf, address: str) -> set[str]:
    """Return what an address may mean, as Postfix, OpenDKIM or rspamd write it: ports, or paths.

    A port of any name or address of this host is the same one. A path may be relative to the queue directory,
    which is also the root of a service that is chrooted.
    """
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local") or address.startswith("/"):
        path = rest if kind in ("unix", "local") else address
        paths = [path, os.path.join(postconf.value("queue_directory"), path.lstrip("/"))]
        return {re.sub(r"^/var/run/", "/run/", os.path.normpath(each)) for each in paths}
    rest = rest if kind in ("inet", "inet6") else address
    if "@" in rest:  # OpenDKIM: port@host
        port, _, host = rest.partition("@")
    else:
        host, _, port = rest.rpartition(":")
    return {f"{meaning}:{port}" for meaning in hosts.meanings(host)}
