"""Find Postfix settings that break signatures, or loop, duplicate or lose mail, and say how to fix them.

Missing settings come first, then conflicting ones. A working configuration has no findings, however it is
written.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Callable

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import exposure, inventory
from dkimpipe.admin.postfix import (
    amavis,
    certificate,
    cleanup_service,
    client_options,
    coverage,
    filter_service,
    filter_user,
    header_rewriting,
    listener,
    logins,
    milters,
    open_services,
    other_relays,
    other_signers,
    outgoing_checks,
    program,
    requirements,
    routing,
    running,
    service_names,
    sources,
    starting,
    submission,
)
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf, finding_for
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import real_table
from dkimpipe.config import SENDMAIL, Settings
from dkimpipe.errors import Trouble

# Parameters of smtp(8) that change what it sends. Some mostly drop a Received field, which is harmless.
REWRITES = {
    "smtp_generic_maps": "error",
    "smtp_header_checks": "warning",
    "smtp_mime_header_checks": "warning",
    "smtp_nested_header_checks": "error",
    "smtp_body_checks": "error",
}
LINE_LENGTH = 998  # bytes, RFC 5321 section 4.5.3.1.6, and where the filter breaks lines
# Parameters that apply to all mail: name, harmless value, effect of any other.
_REWRITTEN = {
    SIGN: [("remote_header_rewrite_domain", "", "header fields are rewritten after they were signed")],
    VERIFY: [
        ("remote_header_rewrite_domain", "", "header fields are rewritten before they are verified"),
        ("force_mime_input_conversion", "no", "8-bit text is converted before it is verified"),
    ],
}


def findings(postconf: Postconf, user: str, job: Job = SIGN) -> list[Finding]:
    """Return all problems for a job; ``user`` applies if the filter is not set up yet."""
    found, before = [], ""
    changes = requirements.missing(postconf, user, job)
    for change, following in zip_longest(changes, changes[1:]):
        hint = before + postconf.command(change)
        before = ""
        if change.option == FILE and following and change.what in following.argument:
            before = f"{hint} && "  # the next change needs it
        else:
            found.append(Finding(f"{change.what}: {change.why}", hint, change.level))
    made = [change.what for change in changes if change.option in ("-M", "-P")]
    found += service_names.findings(postconf, job, made)
    found += starting.findings(postconf) if job is sources.in_use(postconf)[0] else []
    found += open_services.findings(postconf) if job is SIGN else []
    for check in _CHECKS[job]:
        found += check(postconf, job)
    return found


def _before_filter(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check how cleanup(8) changes header fields before the filter, and for which mail."""
    signed = sources.submission_services(postconf)
    for service in postconf.running("smtpd", "pickup", "qmqpd"):
        from_users = service.port in sources.SUBMISSION_PORTS  # even if another filter comes first
        if service in signed or from_users:
            yield from cleanup_service.rewriting(postconf, service, signed)
        elif cleanup_service.is_ours(postconf.own("cleanup_service_name", service.id)):
            why = "missing header fields are added to mail that is not signed here: its signatures may break"
            yield finding_for(postconf, "-PX", f"{service.id}/cleanup_service_name", why, "warning")


def _after_filter(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check reinjection after the filter: sendmail(1), pickup(8), cleanup(8)."""
    for parameter, value, why in _REWRITTEN[job]:
        if postconf.value(parameter) not in ("", value):
            yield finding_for(postconf, "-e", f"{parameter}={value}", why)
    user = _user(postconf, job)
    if listener.relay_of(postconf, job):
        why = "nobody hears of recipients whose addresses are not valid"
        yield from _may_not_submit(postconf, user, why, "warning")
        return
    if sources.pickup(postconf) not in postconf.services:
        why = f"without it {job.participle} mail stays in the maildrop directory for ever"
        yield Finding(f"{sources.PICKUP}: {why}")
        return
    yield from filter_user.unreadable_configuration(postconf, user)
    why = f"the filter's user {user} may not submit mail with sendmail(1)"
    yield from _may_not_submit(postconf, user, "", "error")
    parameter = "local_login_sender_maps"  # from Postfix 3.6
    may_send = parameter not in postconf.effective or _may_use_any_sender(postconf, user)
    if not may_send and not _is_broken(postconf, parameter):
        yield finding_for(
            postconf, "-e", f"{parameter}=inline:{{{user}=*}}, {postconf.value(parameter)}", why
        )
    names = [word.partition("=")[0] for word in postconf.words("export_environment")]
    if "MAIL_CONFIG" not in names:
        why = "without MAIL_CONFIG sendmail(1) may submit the mail to another Postfix instance"
        words = [*postconf.words("export_environment"), "MAIL_CONFIG"]
        yield finding_for(postconf, "-e", f"export_environment={' '.join(words)}", why)


def _may_not_submit(postconf: Postconf, user: str, effect: str, level: str) -> Iterator[Finding]:
    """Yield a finding if the filter's user may not run sendmail(1)."""
    parameter = "authorized_submit_users"
    words = postconf.words(parameter)
    if not _matches(postconf, user, words) and not _is_broken(postconf, parameter):
        why = f"the filter's user {user} may not submit mail with sendmail(1)"
        value = ", ".join(filter(None, [user, postconf.value(parameter)]))
        yield finding_for(
            postconf, "-e", f"{parameter}={value}", ": ".join(filter(None, [why, effect])), level
        )


def _is_broken(postconf: Postconf, parameter: str) -> bool:
    """Return whether a table of a list could not be looked up: that is reported instead."""
    return not postconf.broken_tables.keys().isdisjoint(map(real_table, postconf.words(parameter)))


def _matches(postconf: Postconf, user: str, words: list[str]) -> bool:
    """Return whether a user is in a list of names, tables, and files that contain such lists; ! excludes."""
    for word in words:
        pattern = word.lstrip("!")
        if pattern.startswith("/"):
            found = _matches(postconf, user, _words_in_file(pattern))
        else:
            found = pattern == user or (":" in pattern and bool(postconf.lookup(pattern, user)))
        if found:
            return (len(word) - len(pattern)) % 2 == 0
    return False


def _words_in_file(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").replace(",", " ").split()
    except OSError:
        return []


def _may_use_any_sender(postconf: Postconf, user: str) -> bool:
    """Return whether a user may submit mail with any sender address."""
    results = (postconf.lookup(table, user) for table in postconf.words("local_login_sender_maps"))
    return "*" in next(filter(None, results), "").replace(",", " ").split()


def _smtp(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check for settings that make smtp(8) change signed mail."""
    places = ["", *(service.id for service in postconf.running("smtp"))]
    for place in places:
        for parameter, level in REWRITES.items():
            if postconf.own(parameter, place):
                yield from _rewriting(postconf, place, parameter, level)
        own = "smtp_line_length_limit" in (postconf.overrides[place] if place else postconf.explicit)
        if own and 0 < postconf.number("smtp_line_length_limit", place) < LINE_LENGTH:
            yield _removal(postconf, place, "smtp_line_length_limit", "breaks lines after they were signed")
        if place and postconf.own("disable_mime_output_conversion", place) not in ("", "yes"):
            yield _removal(
                postconf, place, "disable_mime_output_conversion", "converts 8-bit text after signing"
            )


def _rewriting(postconf: Postconf, place: str, parameter: str, level: str) -> Iterator[Finding]:
    """Yield what a parameter changes after signing: what its tables show, or what such tables may do."""
    is_read = parameter in (outgoing_checks.MAIN, outgoing_checks.MIME, *outgoing_checks.WHOLE)
    read = outgoing_checks.verdict(postconf, parameter, place) if is_read else None
    why = {"error": "changes mail after it was signed", "warning": "may change what is signed"}[level]
    level, why, hint = read or outgoing_checks.Verdict(level, why)
    if level:
        found = _removal(postconf, place, parameter, why)
        yield found._replace(level=level, hint=hint or found.hint)


def _removal(postconf: Postconf, service: str, parameter: str, why: str) -> Finding:
    if service:
        return finding_for(postconf, "-PX", f"{service}/{parameter}", why)
    return finding_for(postconf, "-X", parameter, why)


def _logins(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check whether users can log in where they may, and whether their programs accept the certificate."""
    yield from logins.findings(postconf)
    yield from certificate.findings(postconf)
    yield from submission.findings(postconf)
    yield from running.unreachable(postconf)


def _user(postconf: Postconf, job: Job) -> str:
    service = filter_service.find(postconf, job)
    return ((service.attribute("user") if service else "") or job.name).partition(":")[0]


def _filter_settings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check the filter's own settings against those of Postfix."""
    service = filter_service.find(postconf, job)
    if not service:
        return
    try:
        settings = filter_service.settings_of(service, job)
    except Trouble:
        return  # the test run reports it
    if not settings.get("relay"):
        yield from _sendmail(postconf, settings)
    if job is VERIFY:
        return
    if not settings.yes("normalize", True) and postconf.number("smtp_line_length_limit"):
        yield Finding(
            f"{settings.places['normalize']}: normalize no: lines over 998 bytes break after signing",
            postconf.command(Change("-e", "smtp_line_length_limit=0", "")),
        )
    yield from _lost_logins(postconf, settings)
    setting = sources.guest_setting(postconf)
    if setting and client_options.requires_known_client(options(service, job)):
        why = "the filter may not sign, or defers, mail from clients that this admits without a login"
        hint = f"set sign_clients any in {settings.get('conf_file', settings.conf_file)}"
        yield Finding(f"{setting}: {why}", hint, "warning")
    if settings.get("on_error") == "accept":
        what = f"{settings.places['on_error']}: on_error accept: after an error, mail is sent unsigned"
        yield Finding(what, level="warning")


def _lost_logins(postconf: Postconf, settings: Settings) -> Iterator[Finding]:
    """Check for entries with login= where mail comes back from another filter: XFORWARD passes no login."""
    try:
        place = client_options.first_login_entry(settings)
    except Trouble:
        return  # the test run reports it
    for service in sources.before_another_filter(postconf, SIGN) if place else ():
        proxy = postconf.value("smtpd_proxy_filter", service.id)
        other = proxy or postconf.value("content_filter", service.id)
        what = f"{place}: login= never matches mail from {service.id}: it comes back from {other} without"
        hint = "remove login= there; reject_sender_login_mismatch ties senders to logins before the filter"
        yield Finding(what, hint)


def options(service: Service, job: Job = SIGN) -> list[str]:
    """Return the options in the filter's command line, without the envelope."""
    return filter_service.own_options(service, job)


def _exposure(postconf: Postconf, job: Job) -> Iterable[Finding]:
    """Check who else can change the files of the filter."""
    service = filter_service.find(postconf, job)
    if not service:
        return ()
    try:
        settings = filter_service.settings_of(service, job)
    except Trouble:
        return ()  # reported elsewhere
    files = [settings.get("conf_file", settings.conf_file)]
    if job is SIGN:
        files = inventory.files(settings, inventory.keyfiles(settings))
    return exposure.exposed(files, service.attribute("user") or "")


def _sendmail(postconf: Postconf, settings: Settings) -> Iterator[Finding]:
    ours, theirs = settings.get("sendmail", SENDMAIL), postconf.value("sendmail_path")
    if os.path.realpath(ours) != os.path.realpath(theirs):
        hint = f"use --sendmail={theirs}, or sendmail in {Path(settings.conf_file).name}"
        command = alternative(ours, theirs)
        what = f"{ours} is {os.path.realpath(ours)}, not" if command else f"{ours} is not"
        yield Finding(f"{what} this Postfix's sendmail(1)", f"{command}\nor {hint}" if command else hint)
    elif command := alternative(SENDMAIL, theirs):
        what = f"{SENDMAIL} is {os.path.realpath(SENDMAIL)}: local programs do not send by this Postfix"
        yield Finding(what, command, "warning")


def alternative(link: str, program: str) -> str:
    """Return the command that leads a link of alternatives(8) to a program; empty if it does, or is none."""
    target = Path(os.readlink(link)) if os.path.islink(link) else Path()
    if target.parent.name != "alternatives" or os.path.realpath(link) == os.path.realpath(program):
        return ""
    command = "alternatives" if shutil.which("alternatives") else "update-alternatives"
    return shlex.join([command, "--set", target.name, program])


def _queue_and_transports(postconf: Postconf, job: Job) -> Iterator[Finding]:
    name = filter_service.name(postconf, job)
    for parameter in ("default_transport", "relay_transport", "local_transport", "virtual_transport"):
        if postconf.value(parameter).partition(":")[0] == name:
            why = f"{job.participle} mail goes to the filter again: it loops"
            yield finding_for(postconf, "-X", parameter, why)
    if f":{name}:" in postconf.value("transport_maps") or f"static:{name}" in postconf.words(
        "transport_maps"
    ):
        yield Finding(
            f"transport_maps: {job.participle} mail goes to the filter again: it loops",
            "remove the filter from it",
        )
    if postconf.seconds("maximal_queue_lifetime") == 0:
        why = "mail that the filter defers bounces at once"
        yield finding_for(postconf, "-X", "maximal_queue_lifetime", why, "warning")
    if name in postconf.words("defer_transports"):
        why = f"mail to be {job.participle} stays in the queue"
        words = [word for word in postconf.words("defer_transports") if word != name]
        yield finding_for(postconf, "-e", f"defer_transports={','.join(words)}", why)
    for service in postconf.duplicates:
        yield Finding(f"{service}: defined twice in master.cf; Postfix uses the last", "remove one of them")


_CHECKS: dict[Job, tuple[Callable[[Postconf, Job], Iterable[Finding]], ...]] = {
    SIGN: (
        routing.findings,
        _before_filter,
        milters.findings,
        amavis.findings,
        _after_filter,
        _smtp,
        header_rewriting.findings,
        filter_user.findings,
        program.findings,
        other_signers.findings,
        other_relays.findings,
        _filter_settings,
        _exposure,
        _queue_and_transports,
        listener.findings,
        _logins,
        coverage.findings,
    ),
    VERIFY: (
        routing.findings,
        milters.findings,
        _after_filter,
        filter_user.findings,
        program.findings,
        _filter_settings,
        _exposure,
        _queue_and_transports,
        listener.findings,
    ),
}
