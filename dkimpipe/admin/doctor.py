"""What in a Postfix configuration breaks signatures, loops, doubles or loses mail, and how to mend it.

First what `wanted` misses; then what stands in its way. Nothing is found in a configuration that works,
however it is written.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import filter_service, wanted
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postconf import FILE, Change, Postconf, Service
from dkimpipe.config import Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.sendmail import SENDMAIL

# Parameters of smtp(8) that change what it sends. Some are mostly used to drop a Received field: no harm.
REWRITES = {
    "smtp_generic_maps": "error",
    "smtp_header_checks": "warning",
    "smtp_mime_header_checks": "warning",
    "smtp_nested_header_checks": "error",
    "smtp_body_checks": "error",
}
HEADER_REWRITES = {
    "canonical_maps": "canonical_classes",
    "sender_canonical_maps": "sender_canonical_classes",
    "recipient_canonical_maps": "recipient_canonical_classes",
    "masquerade_domains": "masquerade_classes",
}
LINE_LENGTH = 998  # octets, RFC 5321 section 4.5.3.1.6, and where the filter breaks lines
SIGNING_MILTERS = re.compile(r"dkim|rspamd|:8891\b|:11332\b")  # by name, or by their usual ports
OTHER_MILTERS = re.compile(r"rspamd|:11332\b")
OPENDKIM_CONF = Path("/etc/opendkim.conf")


def findings(postconf: Postconf, user: str) -> list[Finding]:
    """Return all that is wrong with a configuration; ``user`` is for a filter that is still to be made."""
    found, before = [], ""
    for change in wanted.missing(postconf, user):
        mend = before + postconf.command(change)
        before = f"{mend}\n" if change.option == FILE else ""
        if change.option != FILE:  # which the next one needs
            found.append(Finding(f"{change.what}: {change.why}", mend))
    for look in (_roads, _milters, _second_pass, _smtp, _rewriting, _service, _filter_settings, _main):
        found += look(postconf)
    return found


def _finding(postconf: Postconf, option: str, argument: str, why: str, level: str = "error") -> Finding:
    change = Change(option, argument, why)
    return Finding(f"{change.what}: {why}", postconf.command(change), level)


def _roads(postconf: Postconf) -> Iterator[Finding]:
    """Look for mail that takes a wrong road: around the filter, through it twice, or in from outside."""
    name = filter_service.name(postconf)
    submission = wanted.submission_services(postconf)
    yield from _after_signing(postconf, name)
    if not submission and not any(
        wanted.goes_elsewhere(postconf, each) for each in postconf.running("smtpd")
    ):
        why = "there is no service for mail from users, so nothing is signed"
        yield Finding(f"submission/inet: {why}", f"{_submission(postconf)}\n{_apply(postconf)}")
    for place in ("", *postconf.services):
        if road := postconf.own("content_filter", place):
            transport = road.partition(":")[0]
            if f"{transport}/unix" not in postconf.services:
                what = f"{place}/content_filter".lstrip("/")
                yield Finding(f"{what}: there is no service {transport} in master.cf")
    for service in submission:
        if road := wanted.another_filter(postconf, service):
            yield Finding(*_behind(service, road))
        if postconf.value("smtpd_proxy_filter", service.id):
            why = "what the proxy filter gives back comes in where nothing is signed"
            yield _finding(postconf, "-P", f"{service.id}/smtpd_proxy_filter=", why)
    for service in postconf.running("smtpd"):
        if service not in submission and not wanted.goes_elsewhere(postconf, service):
            yield from _unsigned(postconf, service, name)


def _after_signing(postconf: Postconf, name: str) -> Iterator[Finding]:
    """Look at what pickup(8) does with signed mail."""
    pickup = wanted.pickup(postconf)
    road = postconf.value("content_filter", pickup)
    before = [
        postconf.value("content_filter", service.id)
        for service in postconf.running("smtpd")
        if wanted.goes_elsewhere(postconf, service)
    ]
    if road.partition(":")[0] == name:
        if "content_filter" in postconf.overrides.get(pickup, {}):
            yield _finding(postconf, "-PX", f"{pickup}/content_filter", "signed mail loops")
        if postconf.own("content_filter").partition(":")[0] == name:
            why = "here it filters the signed mail again and again, until it has too many hops"
            yield _finding(postconf, "-e", "content_filter=", why)
    elif road and road in before:
        why = f"{road} gets the mail after it was signed, and gives it back to be signed: it loops"
        yield _finding(postconf, "-P", f"{pickup}/content_filter=", why)
    elif f"{road.partition(':')[0]}/unix" in postconf.services:
        why = f"{road} gets the mail after it was signed; it must change nothing"
        yield _finding(postconf, "-P", f"{pickup}/content_filter=", why, "warning")


def _unsigned(postconf: Postconf, service: Service, name: str) -> Iterator[Finding]:
    """Look at a service whose mail is not to be signed."""
    if wanted.passes_to(postconf, service.id, name):
        why = "mail from strangers is signed"
        if postconf.own("content_filter").partition(":")[0] == name:
            yield _finding(postconf, "-P", f"{service.id}/content_filter=", why)
        else:
            yield _finding(postconf, "-PX", f"{service.id}/content_filter", why)
    what = f"{service.id}/smtpd_sasl_auth_enable"
    why = "users who log in here are not signed for"
    if service.port in wanted.PUBLIC_PORTS:
        if postconf.value("smtpd_sasl_auth_enable", service.id) == "yes":
            yield _finding(postconf, "-P", f"{what}=no", f"{why}; let them use submission", "warning")
    elif postconf.own("smtpd_sasl_auth_enable", service.id) == "yes":
        change = Change("-P", f"{service.id}/content_filter={name}:dummy", "")
        yield Finding(f"{what}: {why}", f"{postconf.command(change)}\n{_apply(postconf)}", "warning")


def _apply(postconf: Postconf) -> str:
    return shlex.join(["dkimpipe", "postfix", "-c", str(postconf.directory), "--apply"])


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
    pattern = OTHER_MILTERS if _opendkim_verifies() else SIGNING_MILTERS
    for service in wanted.submission_services(postconf):
        milters = postconf.value("smtpd_milters", service.id)
        if pattern.search(milters) and "no_milters" not in postconf.words(
            "receive_override_options", service.id
        ):
            words = postconf.words("smtpd_milters", service.id)
            signing, others = ([w for w in words if bool(pattern.search(w)) is way] for way in (True, False))
            why = f"{', '.join(signing)} may sign as well; take the domain out there, or let it check only"
            argument = f"{service.id}/smtpd_milters={','.join(others)}"
            yield _finding(postconf, "-P", argument, why, "warning")


def _opendkim_verifies() -> bool:
    """Tell whether the one OpenDKIM that has its usual conf file never signs."""
    try:
        text = OPENDKIM_CONF.read_text(errors="replace")
    except OSError:
        return False
    return bool(re.search(r"^\s*Mode\s+v\s*(#.*)?$", text, re.MULTILINE | re.IGNORECASE))


def _second_pass(postconf: Postconf) -> Iterator[Finding]:
    """Look at the way back from the filter: sendmail(1), pickup(8), cleanup(8)."""
    if wanted.pickup(postconf) not in postconf.services:
        yield Finding(f"{wanted.PICKUP}: without it signed mail stays in the maildrop directory for ever")
        return
    if postconf.value("remote_header_rewrite_domain"):
        why = "header fields are rewritten after they were signed"
        yield _finding(postconf, "-e", "remote_header_rewrite_domain=", why)
    user = _user(postconf)
    why = f"the filter's user {user} may not hand its mail to sendmail(1)"
    parameter = "authorized_submit_users"
    if not _matches(postconf, user, postconf.words(parameter)):
        yield _finding(postconf, "-e", f"{parameter}={user}, {postconf.value(parameter)}", why)
    parameter = "local_login_sender_maps"  # from Postfix 3.6
    if parameter in postconf.effective and not _may_be_anyone(postconf, user):
        yield _finding(postconf, "-e", f"{parameter}=inline:{{{user}=*}}, {postconf.value(parameter)}", why)
    names = [word.partition("=")[0] for word in postconf.words("export_environment")]
    if "MAIL_CONFIG" not in names:
        why = "without MAIL_CONFIG sendmail(1) may hand the mail to another Postfix"
        words = [*postconf.words("export_environment"), "MAIL_CONFIG"]
        yield _finding(postconf, "-e", f"export_environment={' '.join(words)}", why)


def _matches(postconf: Postconf, user: str, words: list[str]) -> bool:
    """Tell whether a user is in a list: of names, tables, and files with more of these; ! is but for."""
    for word in words:
        pattern = word.lstrip("!")
        if pattern.startswith("/"):
            found = _matches(postconf, user, _words_of(pattern))
        else:
            found = pattern == user or (":" in pattern and bool(postconf.lookup(pattern, user)))
        if found:
            return (len(word) - len(pattern)) % 2 == 0
    return False


def _words_of(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").replace(",", " ").split()
    except OSError:
        return []


def _may_be_anyone(postconf: Postconf, user: str) -> bool:
    """Tell whether a user may hand in mail from every sender."""
    results = (postconf.lookup(table, user) for table in postconf.words("local_login_sender_maps"))
    return "*" in next(filter(None, results), "").replace(",", " ").split()


def _smtp(postconf: Postconf) -> Iterator[Finding]:
    """Look at what smtp(8) does to signed mail on its way out."""
    places = ["", *(service.id for service in postconf.running("smtp"))]
    for place in places:
        for parameter, level in REWRITES.items():
            if postconf.own(parameter, place):
                why = {"error": "changes mail after it was signed", "warning": "may change what is signed"}[
                    level
                ]
                yield _drop(postconf, place, parameter, why)._replace(level=level)
        own = "smtp_line_length_limit" in (postconf.overrides[place] if place else postconf.explicit)
        if own and 0 < postconf.number("smtp_line_length_limit", place) < LINE_LENGTH:
            yield _drop(postconf, place, "smtp_line_length_limit", "breaks lines after they were signed")
        if place and postconf.own("disable_mime_output_conversion", place) not in ("", "yes"):
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
    owner = pwd.getpwnam(postconf.value("mail_owner"))
    if not name:
        yield Finding(f"{service.id}: there is no user=: pipe(8) does not start")
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        mend = f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        yield Finding(f"{service.id}: there is no user {name}", mend)
        return
    try:
        number = grp.getgrnam(group).gr_gid if group else user.pw_gid
    except KeyError:
        yield Finding(f"{service.id}: there is no group {group}", f"groupadd --system {group}")
        return
    maildrop = grp.getgrnam(postconf.value("setgid_group")).gr_gid
    if user.pw_uid in (0, owner.pw_uid) or number in (0, owner.pw_gid, maildrop):
        yield Finding(f"{service.id}: {_refused(service.attribute('user') or '')}")


def refuse_user(postconf: Postconf, user: str, group: str) -> None:
    """Raise ConfigError if pipe(8) runs nothing as this user."""
    owner = postconf.value("mail_owner")
    if user in ("root", owner) or group in ("root", postconf.value("setgid_group"), owner):
        raise ConfigError(_refused(f"{user}:{group}" if group != user else user))


def _refused(user: str) -> str:
    return f"pipe(8) refuses user={user}: take a user of its own"


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
    except Trouble:
        return  # the trial names it
    yield from _sendmail(postconf, settings)
    if not settings.yes("normalize", True) and postconf.number("smtp_line_length_limit"):
        yield Finding(
            f"{settings.where['normalize']}: normalize no: lines over 998 octets break after signing",
            postconf.command(Change("-e", "smtp_line_length_limit=0", "")),
        )
    if settings.get("on_error") == "accept":
        what = f"{settings.where['on_error']}: on_error accept: after an error mail leaves unsigned"
        yield Finding(what, level="warning")


def options(service: Service) -> list[str]:
    """Return the options in the filter's command line."""
    envelope = filter_service.ENVELOPE.split()
    return [word for word in filter_service.options(service) or [] if word not in envelope]


def _sendmail(postconf: Postconf, settings: Settings) -> Iterator[Finding]:
    ours, theirs = settings.get("sendmail", SENDMAIL), postconf.value("sendmail_path")
    if os.path.realpath(ours) != os.path.realpath(theirs):
        yield Finding(
            f"{ours} is not this Postfix's sendmail(1)", f"--sendmail={theirs}, or in dkimpipe.conf"
        )


def _main(postconf: Postconf) -> Iterator[Finding]:
    name = filter_service.name(postconf)
    for parameter in ("default_transport", "relay_transport", "local_transport", "virtual_transport"):
        if postconf.value(parameter).partition(":")[0] == name:
            yield _finding(postconf, "-X", parameter, "signed mail goes to the filter again: it loops")
    if f":{name}:" in postconf.value("transport_maps") or f"static:{name}" in postconf.words(
        "transport_maps"
    ):
        yield Finding(
            "transport_maps: signed mail goes to the filter again: it loops", "take the filter out of it"
        )
    for each in wanted.submission_services(postconf):
        cleanup = postconf.value("cleanup_service_name", each.id)
        if f"{cleanup}/unix" not in postconf.services:
            yield Finding(f"{each.id}/cleanup_service_name: there is no service {cleanup} in master.cf")
    if postconf.seconds("maximal_queue_lifetime") == 0:
        why = "mail that the filter defers bounces at once"
        yield _finding(postconf, "-X", "maximal_queue_lifetime", why, "warning")
    if name in postconf.words("defer_transports"):
        why = "mail to be signed stays in the queue"
        words = [word for word in postconf.words("defer_transports") if word != name]
        yield _finding(postconf, "-e", f"defer_transports={','.join(words)}", why)
    for service in postconf.twice:
        yield Finding(
            f"{service}: master.cf has it twice, and Postfix takes the last", "take one of them out"
        )
