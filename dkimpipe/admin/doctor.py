"""What in a Postfix configuration breaks signatures, loops, doubles or loses mail, and how to mend it.

First what `wanted` misses; then what stands in its way. Nothing is found in a configuration that works,
however it is written.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import filter_service, wanted
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postconf import Change, Postconf, Service
from dkimpipe.config import Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.sendmail import SENDMAIL

# Parameters of smtp(8) that change what it sends.
REWRITES = (
    "smtp_generic_maps",
    "smtp_header_checks",
    "smtp_mime_header_checks",
    "smtp_nested_header_checks",
    "smtp_body_checks",
)
HEADER_REWRITES = {
    "canonical_maps": "canonical_classes",
    "sender_canonical_maps": "sender_canonical_classes",
    "recipient_canonical_maps": "recipient_canonical_classes",
    "masquerade_domains": "masquerade_classes",
}
LINE_LENGTH = 998  # octets, RFC 5321 section 4.5.3.1.6, and where the filter breaks lines
SIGNING_MILTERS = re.compile(r"dkim|rspamd|:8891\b|:11332\b")  # by name, or by their usual ports
OPENDKIM_CONF = Path("/etc/opendkim.conf")


def findings(postconf: Postconf, user: str) -> list[Finding]:
    """Return all that is wrong with a configuration; ``user`` is for a filter that is still to be made."""
    found = [
        Finding(f"{change.what}: {change.why}", postconf.command(change))
        for change in wanted.missing(postconf, user)
    ]
    for look in (_roads, _milters, _second_pass, _smtp, _rewriting, _service, _filter_settings, _main):
        found += look(postconf)
    return found


def _finding(postconf: Postconf, option: str, argument: str, why: str, level: str = "error") -> Finding:
    change = Change(option, argument, why)
    return Finding(f"{change.what}: {why}", postconf.command(change), level)


def _roads(postconf: Postconf) -> Iterator[Finding]:
    """Look for mail that takes a wrong road: around the filter, through it twice, or in from outside."""
    name = filter_service.name(postconf)
    road = postconf.explicit.get("content_filter", "")
    if road.partition(":")[0] == name:
        why = "here it filters the signed mail again and again, until it has too many hops"
        yield _finding(postconf, "-e", "content_filter=", why)
    elif road and postconf.value("content_filter", wanted.PICKUP):
        why = f"{road} gets the mail after it was signed; it must change nothing"
        yield _finding(postconf, "-P", f"{wanted.PICKUP}/content_filter=", why, "warning")
    submission = wanted.submission_services(postconf)
    if not submission:
        why = "there is no service for mail from users, so nothing is signed"
        yield Finding(f"submission/inet: {why}", f"{_submission(postconf)}\ndkimpipe postfix --apply")
    for service in postconf.services.values():
        own = postconf.overrides[service.id].get("content_filter", "")
        transport = own.partition(":")[0]
        if own and f"{transport}/unix" not in postconf.services:
            yield Finding(f"{service.id}/content_filter: there is no service {transport} in master.cf")
        if service in submission and wanted.another_filter(postconf, service):
            yield Finding(*_behind(service, own))
        elif transport == name and service not in submission:
            why = "mail from strangers is signed" if service.command == "smtpd" else "signed mail loops"
            yield _finding(postconf, "-PX", f"{service.id}/content_filter", why)
    for service in submission:
        if postconf.value("smtpd_proxy_filter", service.id):
            why = "what the proxy filter gives back comes in where nothing is signed"
            yield _finding(postconf, "-P", f"{service.id}/smtpd_proxy_filter=", why)
    for service in postconf.running("smtpd"):
        if service not in submission and postconf.value("smtpd_sasl_auth_enable", service.id) == "yes":
            why = "users who log in here are not signed for; let them use submission"
            argument = f"{service.id}/smtpd_sasl_auth_enable=no"
            yield _finding(postconf, "-P", argument, why, "warning")


def _submission(postconf: Postconf) -> str:
    """Return the command that makes the service of RFC 6409, for users who log in by TLS."""
    line = (
        "submission inet n - y - - smtpd"
        " -o syslog_name=postfix/submission -o smtpd_tls_security_level=encrypt"
        " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
    )
    return postconf.command(Change("-M", f"submission/inet={line}", ""))


def refuse_another_filter(postconf: Postconf) -> None:
    """Raise ConfigError if a submission service has another filter: ours would take its place."""
    for service in wanted.submission_services(postconf):
        if road := wanted.another_filter(postconf, service):
            raise ConfigError(*_behind(service, road))


def _behind(service: Service, road: str) -> tuple[str, str]:
    return (
        f"{service.id}/content_filter: {road} gets this mail, and a service has one filter only",
        "put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail comes back from there",
    )


def _milters(postconf: Postconf) -> Iterator[Finding]:
    """Look for a milter that signs as well."""
    if OPENDKIM_CONF.exists() and re.search(r"^Mode\s+v\s*$", OPENDKIM_CONF.read_text(), re.MULTILINE):
        pattern = re.compile("rspamd|:11332\\b")
    else:
        pattern = SIGNING_MILTERS
    for service in wanted.submission_services(postconf):
        milters = postconf.value("smtpd_milters", service.id)
        if pattern.search(milters) and "no_milters" not in postconf.words(
            "receive_override_options", service.id
        ):
            why = f"{milters} may sign as well; take the domain out there, or let it check only"
            yield _finding(postconf, "-P", f"{service.id}/smtpd_milters=", why, "warning")


def _second_pass(postconf: Postconf) -> Iterator[Finding]:
    """Look at the way back from the filter: sendmail(1), pickup(8), cleanup(8)."""
    pickup = wanted.PICKUP
    if pickup not in postconf.services:
        yield Finding(f"{pickup}: without it signed mail stays in the maildrop directory for ever")
        return
    if "no_address_mappings" in postconf.words("receive_override_options", pickup):
        words = [
            word for word in postconf.words("receive_override_options", pickup) if "mappings" not in word
        ]
        why = "with no_address_mappings aliases apply neither before nor after the filter"
        yield _finding(postconf, "-P", f"{pickup}/receive_override_options={','.join(words)}", why)
    if postconf.value("remote_header_rewrite_domain"):
        why = "header fields are rewritten after they were signed"
        yield _finding(postconf, "-e", "remote_header_rewrite_domain=", why)
    user = _user(postconf)
    for parameter, everybody in (
        ("authorized_submit_users", "static:anyone"),
        ("local_login_sender_maps", "static:*"),
    ):
        words = postconf.words(parameter)
        allowed = {user, everybody}.intersection(words) or any(
            postconf.lookup(word, user) for word in words if ":" in word
        )
        if parameter in postconf.effective and not allowed:
            why = f"the filter's user {user} may not hand its mail to sendmail(1)"
            yield _finding(postconf, "-e", f"{parameter}={everybody}", why)
    if "MAIL_CONFIG" not in postconf.words("export_environment"):
        why = "without MAIL_CONFIG sendmail(1) may hand the mail to another Postfix"
        words = [*postconf.words("export_environment"), "MAIL_CONFIG"]
        yield _finding(postconf, "-e", f"export_environment={' '.join(words)}", why)


def _smtp(postconf: Postconf) -> Iterator[Finding]:
    """Look at what smtp(8) does to signed mail on its way out."""
    places = ["", *(service.id for service in postconf.running("smtp"))]
    for place in places:
        standing = postconf.overrides[place] if place else postconf.explicit
        for parameter in REWRITES:
            if standing.get(parameter):
                yield _drop(postconf, place, parameter, "changes mail after it was signed")
        limit = standing.get("smtp_line_length_limit", "0")
        if 0 < int(limit) < LINE_LENGTH:
            yield _drop(postconf, place, "smtp_line_length_limit", "breaks lines after they were signed")
        if place and standing.get("disable_mime_output_conversion", "yes") != "yes":
            yield _drop(
                postconf, place, "disable_mime_output_conversion", "converts 8-bit text after signing"
            )


def _drop(postconf: Postconf, service: str, parameter: str, why: str) -> Finding:
    if service:
        return _finding(postconf, "-PX", f"{service}/{parameter}", why)
    return _finding(postconf, "-X", parameter, why)


def _rewriting(postconf: Postconf) -> Iterator[Finding]:
    """Look for rewriting of header addresses, which mail through the filter does not get any more."""
    for parameter, classes in HEADER_REWRITES.items():
        if postconf.value(parameter) and "header" in postconf.value(classes):
            yield Finding(
                f"{parameter}: mail from submission keeps its header fields: only the envelope is rewritten",
                "let mail programs use the addresses that shall be seen, or rewrite before submission",
                "warning",
            )


def _service(postconf: Postconf) -> Iterator[Finding]:
    """Look at the user that the filter runs as."""
    service = filter_service.find(postconf)
    if not service:
        return
    name, _, group = (service.attribute("user") or "").partition(":")
    owner = postconf.value("mail_owner")
    if not name:
        yield Finding(f"{service.id}: there is no user=: pipe(8) does not start")
    elif name in ("root", owner) or group in ("root", "postdrop", owner):
        yield Finding(
            f"{service.id}: pipe(8) refuses user={service.attribute('user')}: take a user of its own"
        )
    else:
        try:
            pwd.getpwnam(name)
            if group:
                grp.getgrnam(group)
        except KeyError:
            mend = f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
            yield Finding(f"{service.id}: there is no user or group {service.attribute('user')}", mend)


def _user(postconf: Postconf) -> str:
    service = filter_service.find(postconf)
    return ((service.attribute("user") if service else "") or "dkimpipe").partition(":")[0]


def _filter_settings(postconf: Postconf) -> Iterator[Finding]:
    """Look at what the filter's own settings make of this Postfix."""
    service = filter_service.find(postconf)
    if not service:
        return
    try:
        settings = read_settings(options(service))
    except Trouble as trouble:
        yield Finding(f"{service.id}: {trouble}", trouble.mend)
        return
    yield from _sendmail(postconf, settings)
    if not settings.yes("normalize", True) and postconf.number("smtp_line_length_limit"):
        yield Finding(
            f"{settings.where['normalize']}: normalize no: lines over 998 octets break after signing"
        )
    if settings.get("on_error") == "accept":
        what = f"{settings.where['on_error']}: on_error accept: after an error mail leaves unsigned"
        yield Finding(what, level="warning")


def options(service: Service) -> list[str]:
    """Return the options in the filter's command line."""
    words = [word for word in service.argv if word not in filter_service.ENVELOPE.split()]
    return next(
        (words[at + 1 :] for at, word in enumerate(words) if word.endswith(("/dkimpipe", "/__main__.py"))), []
    )


def _sendmail(postconf: Postconf, settings: Settings) -> Iterator[Finding]:
    ours, theirs = settings.get("sendmail", SENDMAIL), postconf.value("sendmail_path")
    if os.path.realpath(ours) != os.path.realpath(theirs):
        yield Finding(
            f"{ours} is not this Postfix's sendmail(1)", f"--sendmail={theirs}, or in dkimpipe.conf"
        )


def _main(postconf: Postconf) -> Iterator[Finding]:
    if filter_service.name(postconf) in postconf.words("defer_transports"):
        why = "mail to be signed stays in the queue"
        words = [word for word in postconf.words("defer_transports") if word != filter_service.name(postconf)]
        yield _finding(postconf, "-e", f"defer_transports={','.join(words)}", why)
