"""FILTER in header and body checks: it passes mail of our own to another filter, and overrides ours.

REDIRECT does not: the mail is signed first, and then goes to another recipient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import networks, notices, redirects, sources
from dkimpipe.admin.postfix.postconf import Postconf, list_command
from dkimpipe.admin.postfix.redirects import Redirect
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table, split

# Lines that about every message has. What a table says of these, it says of all mail.
_HEADER = (
    "Received: from localhost (localhost [127.0.0.1])",
    "From: Someone <someone@example.com>",
    "To: someone@example.net",
    "Subject: test",
    "Date: Fri, 27 Nov 2026 12:00:00 +0000",
    "Message-ID: <1@example.com>",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
)
_BODY = ("text", "")
_CHECKS = {
    "header_checks": _HEADER,
    "body_checks": _BODY,
    "mime_header_checks": (),
    "nested_header_checks": (),
}
_OF_MILTERS = "milter_header_checks"


class _Use(NamedTuple):
    """A table, and which parameter of which cleanup(8) service has it; without one, main.cf."""

    cleanup: str
    parameter: str
    table: str


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the tables that pass mail to be signed to another filter."""
    uses: dict[tuple[str, str], tuple[_Use, list[str]]] = {}
    for service in _services(postconf):
        for use in _uses(postconf, service):
            _, services = uses.setdefault((use.cleanup, use.table), (use, []))
            services.append(service.id)
    for use, services in uses.values():
        yield from _findings(postconf, use, ", ".join(dict.fromkeys(services)))


def _services(postconf: Postconf) -> Iterator[Service]:
    """Yield the services whose mail is signed, at least in part."""
    yield from sources.submission_services(postconf)
    if networks.in_use(postconf):
        yield from networks.services(postconf)
    pickup = sources.pickup(postconf)
    if pickup in postconf.services and sources.is_local_filtered(postconf):
        yield postconf.services[pickup]
    if notices.in_use(postconf):
        yield from postconf.running("bounce")


def _uses(postconf: Postconf, service: Service) -> Iterator[_Use]:
    """Yield the tables that cleanup(8) applies to mail from a service."""
    options = [word.lower() for word in postconf.words("receive_override_options", service.id)]
    cleanup = f"{postconf.value('cleanup_service_name', service.id)}/unix"
    milters = "smtpd_milters" if service.command == "smtpd" else "non_smtpd_milters"
    place = service.id if service.command == "smtpd" else cleanup
    has_milters = "no_milters" not in options and bool(postconf.value(milters, place))
    checks = _CHECKS if "no_header_body_checks" not in options else ()
    for parameter in (*checks, *([_OF_MILTERS] if has_milters else [])):
        where = cleanup if parameter in postconf.overrides.get(cleanup, {}) else ""
        for table in postconf.words(parameter, cleanup):
            yield _Use(where, parameter, table)


def _findings(postconf: Postconf, use: _Use, services: str) -> Iterator[Finding]:
    place = f"{use.cleanup}/{use.parameter}".lstrip("/")
    found: dict[str, list[str]] = {}
    for key, content_filter in redirects.redirecting(use.table):
        if not redirects.is_signed(postconf, content_filter):
            found.setdefault(content_filter, []).append(key)
    samples = _CHECKS.get(use.parameter, ()) if found else ()
    answers = [postconf.lookup(use.table, sample, samples).upper() for sample in samples]
    for content_filter, keys in found.items():
        is_certain = any(answer.split() == ["FILTER", content_filter.upper()] for answer in answers)
        mail = f"mail from {services}" if is_certain else f"mail that matches {keys[0]}"
        what = f"{place}: {use.table}: {mail} goes to {content_filter}, and is not signed"
        lines = [Redirect(place, "", use.table, key, content_filter) for key in keys]
        hint = _without(postconf, use, content_filter) or redirects.hint(content_filter, lines)
        yield Finding(what, hint, "error" if is_certain else "warning")


def _without(postconf: Postconf, use: _Use, content_filter: str) -> str:
    """Return the command that takes the lines with a filter out of a table in main.cf; empty for others."""
    settings = postconf.overrides[use.cleanup] if use.cleanup else postconf.explicit
    words = split(settings.get(use.parameter, ""), ",")
    kind, _, rest = real_table(use.table).partition(":")
    if use.table not in words or not (rest.startswith("{") or kind == "static"):
        return ""
    rules = redirects.rules(rest)
    kept = [f"{{{rule}}}" for rule in rules if content_filter.lower() not in rule.lower()]
    table = f"{kind}:{{{' '.join(kept)}}}"
    new = [table if word == use.table else word for word in words if kept or word != use.table]
    command = list_command(postconf, use.cleanup, use.parameter, new)
    return command and "\n".join([redirects.remark(content_filter), command])
