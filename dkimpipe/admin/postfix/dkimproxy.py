"""DKIMproxy in Postfix's configuration: a content filter by SMTP, which the filter replaces.

Its documentation has ``content_filter=dksign:[127.0.0.1]:10027`` for mail from users, where ``dksign`` runs
smtp(8), and for mail from outside ``smtpd_proxy_filter=127.0.0.1:10025``, or a content filter. It is known by
the name of that service, or by ``listen`` in its conf file. The port alone is not enough: virus scanners are
documented with the same ones.
"""

from __future__ import annotations

import re

from dkimpipe.admin.postfix import filter_service, listener, strangers
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Postconf

_ETC = ("/etc/dkimproxy", "/etc", "/usr/local/dkimproxy/etc", "/usr/local/etc", "/etc/mail")
CONF_FILES = {
    SIGN: tuple(f"{directory}/dkimproxy_out.conf" for directory in _ETC),
    VERIFY: tuple(f"{directory}/dkimproxy_in.conf" for directory in _ETC),
}
_NAME = re.compile(r"dk(im)?[-_.]?(proxy|sign|verify|filter|out|in\b)", re.IGNORECASE)
_VERIFIES = re.compile(r"verif|[-_.]?in$", re.IGNORECASE)
_PORTS = {SIGN: ("10027", "10028"), VERIFY: ("10025", "10026")}  # in its documentation
_DESTINATION = re.compile(r"(?:inet:)?(\[[^]]*\]|[^:\[]*):(\d+)")


def job_of(postconf: Postconf, content_filter: str) -> Job | None:
    """Return what DKIMproxy does as this content filter or proxy filter; None if it is another filter."""
    transport, port = _parts(postconf, content_filter)
    for job in JOBS:
        if port and port in _ports(postconf, job):
            return job
    if not port or not _NAME.search(transport):
        return None
    by_port = port in _PORTS[VERIFY] and not re.search("sign|out", transport)
    return VERIFY if _VERIFIES.search(transport) or by_port else SIGN


def possible_address(postconf: Postconf, content_filter: str, job: Job) -> str:
    """Return where a filter listens that may be DKIMproxy, by its port; empty if it has another port."""
    _, port = _parts(postconf, content_filter)
    return f"127.0.0.1:{port}" if port in _PORTS[job] else ""


def _parts(postconf: Postconf, content_filter: str) -> tuple[str, str]:
    """Return the name of the service and the port of a filter by SMTP on this host; empty for any other."""
    transport, _, destination = content_filter.partition(":")
    service = postconf.services.get(f"{transport}/unix")
    if not service:  # smtpd_proxy_filter has no transport
        transport, destination = "", content_filter
    elif service.command not in ("smtp", "lmtp"):
        return "", ""
    found = _DESTINATION.fullmatch(destination)
    is_here = found and strangers.is_loopback(found[1].strip("[]") or "localhost")
    return (transport, found[2]) if found and is_here else ("", "")


def is_replaced(postconf: Postconf, content_filter: str, job: Job) -> bool:
    """Return whether a content filter is DKIMproxy, does this job, and is the only filter of its mail."""
    if not content_filter or job_of(postconf, content_filter) is not job:
        return False
    port = content_filter.rpartition(":")[2]
    service = listener.find(postconf, relay(job) or f"127.0.0.1:{int(port) + 1}")
    following = postconf.overrides[service.id].get("content_filter", "") if service else ""
    names = ("", *(filter_service.name(postconf, each) for each in JOBS))
    return following.partition(":")[0] in names


def _ports(postconf: Postconf, job: Job) -> list[str]:
    """Return the ports of ``listen`` in the conf files of DKIMproxy, of which our service may read one."""
    service = filter_service.find(postconf, job)
    paths = [*CONF_FILES[job], *([filter_service.conf_file(service, job)] if service else ())]
    values = [value for path in paths for value in filter_service.directives(path, "listen")]
    return [value.rpartition(":")[2] for value in values]


def relay(job: Job) -> str:
    """Return the address to which DKIMproxy sends its mail, from its conf file; empty if it is unknown."""
    values = [value for path in CONF_FILES[job] for value in filter_service.directives(path, "relay")]
    return next(iter(values), "")


def fed(postconf: Postconf, job: Job) -> list[str]:
    """Return the services that pass mail to DKIMproxy by content_filter, and main.cf as an empty name."""
    places = ["", *(each.id for each in postconf.running("smtpd", "pickup", "qmqpd"))]
    return [each for each in places if is_replaced(postconf, postconf.own("content_filter", each), job)]
