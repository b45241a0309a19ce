"""The route of mail: once through the right filter, and back; settings that misroute it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import (
    dkimproxy,
    filter_service,
    listener,
    networks,
    other_filters,
    planning,
    sources,
)
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf, finding_for
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield the settings by which mail bypasses the filter, passes it twice, or goes to the wrong one."""
    services = sources.of(postconf, job)
    yield from _after_filter(postconf, job)
    if not services and not any(
        sources.another_filter_is_first(postconf, each, job) for each in postconf.running("smtpd")
    ):
        yield _nothing_to_do(postconf, job)
    for place in ("", *postconf.services):
        if content_filter := postconf.own("content_filter", place):
            transport = content_filter.partition(":")[0]
            if f"{transport}/unix" not in postconf.services:
                what = f"{place}/content_filter".lstrip("/")
                yield Finding(f"{what}: there is no service {transport} in master.cf")
    for service in services:
        if content_filter := sources.another_filter(postconf, service, job):
            yield Finding(*_only_one_filter(postconf, service, content_filter, job))
        if job is SIGN and (fault := _behind_proxy(postconf, service)):
            yield Finding(*fault)
    others = (*services, *listener.all_of(postconf))
    for service in postconf.running("smtpd"):
        if service not in others and not sources.another_filter_is_first(postconf, service, job):
            yield from (_unsigned if job is SIGN else _unverified)(postconf, service)


def _nothing_to_do(postconf: Postconf, job: Job) -> Finding:
    if job is SIGN:
        hint = f"{_apply_command(postconf)} --submission"
        why = "there is no service for mail from users"
        if planning.kinds_in_use(postconf):
            return Finding(f"submission/inet: {why}", hint, NOTE)
        return Finding(f"submission/inet: {why}, so nothing is signed", hint)
    hint = postconf.command(Change("-M", f"smtp/inet=smtp inet n - {postconf.smtp_chroot} - - smtpd", ""))
    why = "there is no service for mail from outside, so nothing is verified"
    return Finding(f"smtp/inet: {why}", f"{hint} && {_apply_command(postconf, job)}")


def _after_filter(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Check how pickup(8) handles mail that returns from the filter."""
    name, pickup = filter_service.name(postconf, job), sources.pickup(postconf)
    content_filter = postconf.value("content_filter", pickup)
    before = [
        postconf.value("content_filter", service.id)
        for service in postconf.running("smtpd")
        if sources.another_filter_is_first(postconf, service, job)
    ]
    if content_filter.partition(":")[0] == name:
        if "content_filter" in postconf.overrides.get(pickup, {}) and job is VERIFY:
            yield finding_for(postconf, "-PX", f"{pickup}/content_filter", f"{job.participle} mail loops")
        if postconf.own("content_filter").partition(":")[0] == name:
            why = f"here it filters the {job.participle} mail again and again, until it has too many hops"
            yield finding_for(postconf, "-e", "content_filter=", why)
    elif listener.relay_of(postconf, job):
        return  # it does not come back that way
    elif content_filter and content_filter in before:
        past = job.participle
        why = f"{content_filter} gets the mail after it was {past} and returns it to be {past}: it loops"
        yield Finding(f"{pickup}/content_filter: {why}", _not_by_pickup(postconf, job, content_filter))
    elif job is SIGN and sources.foreign_filter(postconf, content_filter):
        why = f"{content_filter} gets the mail after it was signed, and must not change it"
        hint = _not_by_pickup(postconf, job, content_filter)
        yield Finding(f"{pickup}/content_filter: {why}", hint, "warning")


def _not_by_pickup(postconf: Postconf, job: Job, content_filter: str) -> str:
    """Return how mail is kept from a filter that gets it from pickup(8)."""
    change = Change("-P", f"{sources.pickup(postconf)}/content_filter=", "")
    off = _switched_off(content_filter, "mail from local programs, too", postconf.command(change))
    return f"{_apply_command(postconf, job)} --relay\n{off}"


def _switched_off(content_filter: str, mail: str, command: str) -> str:
    """Return a second way to fix a fault, with its price."""
    return f"or, which switches {content_filter} off for {mail}: {command}"


def _behind_proxy(postconf: Postconf, service: Service) -> tuple[str, str] | None:
    """Return the fault of a service whose mail a proxy filter returns unsigned, and a hint."""
    if not (proxy := postconf.value("smtpd_proxy_filter", service.id)):
        return None
    change = Change("-P", f"{service.id}/smtpd_proxy_filter=", "")
    hint = (
        f"put {SIGN.name} behind it: -o content_filter={SIGN.name}:dummy where mail returns from it, on a"
        " port only for mail from users\n"
    )
    hint += _switched_off(proxy, "mail from users", postconf.command(change))
    why = "mail returned by the proxy filter arrives where nothing is signed"
    return f"{service.id}/smtpd_proxy_filter: {why}", hint


def _unverified(postconf: Postconf, service: Service) -> Iterator[Finding]:
    """Check a service whose mail is not to be verified."""
    name = filter_service.name(postconf, VERIFY)
    if sources.passes_to(postconf, service.id, name):
        signer = filter_service.find(postconf)
        content_filter = f"{signer.name}:dummy" if signer else ""
        yield finding_for(
            postconf, "-P", f"{service.id}/content_filter={content_filter}", "mail from users is verified"
        )


def _unsigned(postconf: Postconf, service: Service) -> Iterator[Finding]:
    """Check a service whose mail is not to be signed."""
    name = filter_service.name(postconf)
    if sources.passes_to(postconf, service.id, name):
        why = "mail from strangers is signed"
        transport = postconf.value("content_filter", service.id).partition(":")[0]
        if transport != name:
            other = postconf.services[f"{transport}/unix"]
            if not other_filters.knows_strangers(other):
                hint = other_filters.to_know_strangers(other)
                yield Finding(f"{service.id}/content_filter: {why}", hint)
        elif postconf.own("content_filter").partition(":")[0] == name:
            yield finding_for(postconf, "-P", f"{service.id}/content_filter=", why)
        else:
            yield finding_for(postconf, "-PX", f"{service.id}/content_filter", why)
    what = f"{service.id}/smtpd_sasl_auth_enable"
    why = "mail from users who log in here is not signed"
    if service.port in networks.PUBLIC_PORTS:
        if postconf.value("smtpd_sasl_auth_enable", service.id) == "yes":
            yield finding_for(postconf, "-P", f"{what}=no", f"{why}; let them use submission", "warning")
    elif postconf.own("smtpd_sasl_auth_enable", service.id) == "yes":
        change = Change("-P", f"{service.id}/content_filter={name}:dummy", "")
        hint = f"{postconf.command(change)}\n{_apply_command(postconf)}"
        yield Finding(f"{what}: {why}", hint, "warning")


def _apply_command(postconf: Postconf, job: Job = SIGN) -> str:
    return shlex.join([*job.setup_command.split(), "-c", str(postconf.directory), "--apply"])


def refuse_another_filter(postconf: Postconf, job: Job = SIGN) -> None:
    """Raise ConfigError if a service for this job has another filter, which ours would replace."""
    for service in sources.of(postconf, job):
        if content_filter := sources.another_filter(postconf, service, job):
            raise ConfigError(*_only_one_filter(postconf, service, content_filter, job))
        proxy = postconf.value("smtpd_proxy_filter", service.id)
        is_replaced = dkimproxy.is_replaced(postconf, proxy, job)
        if job is SIGN and not is_replaced and (fault := _behind_proxy(postconf, service)):
            raise ConfigError(*fault)


def _only_one_filter(postconf: Postconf, service: Service, content_filter: str, job: Job) -> tuple[str, str]:
    proxy = content_filter == postconf.value("smtpd_proxy_filter", service.id)
    parameter = "smtpd_proxy_filter" if proxy else "content_filter"
    where = "where mail returns from it"
    if job is VERIFY:  # mail from users may return from there as well
        where += ", on a port only for mail from outside"
    what = (
        f"{service.id}/{parameter}: {content_filter} gets this mail, and a service can have only one filter"
    )
    other = postconf.services.get(f"{content_filter.partition(':')[0]}/unix")
    if other and other.command == "pipe" and not proxy:  # it probably comes back by sendmail(1)
        by_smtp = (
            f"let {other.name} return its mail by SMTP to a listener of Postfix with"
            f" -o content_filter={job.name}:dummy"
        )
        has_strangers = planning.gets_mail_from_outside(postconf, other.name)
        if job is SIGN and (hint := other_filters.to_sign(postconf, other, has_strangers)):
            by_hand = f"\nor {by_smtp}" if hint.startswith("by hand") else ""
            return f"{what}: let it sign in place of sendmail(1)", f"{hint}{by_hand}"
        return what, by_smtp
    hint = f"put {job.name} behind it: -o content_filter={job.name}:dummy {where}"
    if listen := dkimproxy.possible_address(postconf, content_filter, job):
        hint += f"\nif it is DKIMproxy, name its port in {dkimproxy.CONF_FILES[job][0]}: listen {listen}"
    return what, hint
