"""The services that give mail to the filters: which ones there are, and what each passes to a filter."""

from __future__ import annotations

from dkimpipe.admin.postfix import dkimproxy, filter_service, incoming, listener, other_filters, strangers
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.networks import PUBLIC_PORTS
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service

PICKUP = "pickup/unix"  # receives mail from sendmail(1)
SUBMISSION_PORTS = incoming.SUBMISSION_PORTS


def submission_services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is to be signed.

    They are the submission services, by port (RFC 6409, RFC 8314), and those with our filter, except a public
    port 25. Services with another filter are excluded if ours is behind it.
    """
    name = filter_service.name(postconf)
    listeners = listener.all_of(postconf)
    ours = [
        service
        for service in postconf.running("smtpd")
        if passes_to(postconf, service.id, name)
        and service not in listeners
        and not _is_public(postconf, service)
    ]
    return [
        service
        for service in postconf.running("smtpd")
        if service in ours
        or (service.port in SUBMISSION_PORTS and not another_filter_is_first(postconf, service))
    ]


def inbound_services(postconf: Postconf) -> list[Service]:
    """Return the services whose mail is to be verified.

    They are those on port 25, also behind postscreen(8), and those with our filter; not those whose mail is
    signed, which are for users, nor those with another filter if ours is behind it.
    """
    name, signed = filter_service.name(postconf, VERIFY), submission_services(postconf)
    return [
        service
        for service in postconf.running("smtpd")
        if service not in (*signed, *listener.all_of(postconf))
        and (
            passes_to(postconf, service.id, name)
            or (service.port in PUBLIC_PORTS and not another_filter_is_first(postconf, service, VERIFY))
        )
    ]


def of(postconf: Postconf, job: Job) -> list[Service]:
    """Return the services whose mail a job handles."""
    return submission_services(postconf) if job is SIGN else inbound_services(postconf)


def in_use(postconf: Postconf) -> list[Job]:
    """Return the jobs that are set up, at least in part; signing if there are none."""
    return [
        job
        for job in filter_service.JOBS
        if filter_service.find(postconf, job)
        or any(
            passes_to(postconf, each.id, filter_service.name(postconf, job))
            for each in postconf.running("smtpd")
        )
    ] or [SIGN]


def pickup(postconf: Postconf) -> str:
    """Return the service that receives mail from sendmail(1): a fifo in old versions of Postfix."""
    return PICKUP if PICKUP in postconf.services or "pickup/fifo" not in postconf.services else "pickup/fifo"


def is_local_filtered(postconf: Postconf) -> bool:
    """Return whether mail from programs on this host passes to the filter that signs."""
    content_filter = postconf.own("content_filter", pickup(postconf))
    return content_filter.partition(":")[0] == filter_service.name(postconf)


def passes_to(postconf: Postconf, service: str, name: str) -> bool:
    """Return whether a service passes mail to a filter; main.cf counts only if pickup overrides it.

    Another filter that signs counts as the one that signs.
    """
    pickup_overrides = "content_filter" in postconf.overrides.get(pickup(postconf), {})
    content_filter = (postconf.value if pickup_overrides else postconf.own)("content_filter", service)
    transport = content_filter.partition(":")[0]
    if transport != name and name == filter_service.name(postconf):
        return other_filters.signs(postconf.services.get(f"{transport}/unix"))
    return transport == name


def another_filter(postconf: Postconf, service: Service, job: Job = SIGN) -> str:
    """Return the content_filter of a service itself, if it is not ours and exists in master.cf.

    For mail to be verified, one in main.cf and a proxy filter count as well: the mail would pass both.
    DKIMproxy does not count: ours replaces it.
    """
    if job is SIGN:
        return foreign_filter(postconf, postconf.own("content_filter", service.id))
    proxy = postconf.value("smtpd_proxy_filter", service.id)
    if dkimproxy.is_replaced(postconf, proxy, job):
        proxy = ""
    return foreign_filter(postconf, postconf.value("content_filter", service.id), job) or proxy


def another_filter_is_first(postconf: Postconf, service: Service, job: Job = SIGN) -> bool:
    """Return whether mail passes another filter first, and returns to a service with ours."""
    name = filter_service.name(postconf, job)
    behind = any(
        passes_to(postconf, each.id, name) and each.port not in (*SUBMISSION_PORTS, *PUBLIC_PORTS)
        for each in postconf.running("smtpd")
    )
    content_filter = postconf.value("content_filter", service.id)
    return behind and bool(
        foreign_filter(postconf, content_filter, job) or postconf.value("smtpd_proxy_filter", service.id)
    )


def before_another_filter(postconf: Postconf, job: Job) -> list[Service]:
    """Return the services whose mail passes another filter, and returns to be signed or verified."""
    ports = SUBMISSION_PORTS if job is SIGN else PUBLIC_PORTS
    return [
        service
        for service in postconf.running("smtpd")
        if service.port in ports and another_filter_is_first(postconf, service, job)
    ]


def foreign_filter(postconf: Postconf, content_filter: str, job: Job = SIGN) -> str:
    """Return this content_filter if it exists in master.cf, and is neither ours nor replaced by ours."""
    transport = content_filter.partition(":")[0]
    ours = [filter_service.name(postconf, each) for each in filter_service.JOBS]
    if transport in ours or f"{transport}/unix" not in postconf.services:
        return ""
    if job is SIGN and other_filters.signs(postconf.services[f"{transport}/unix"]):
        return ""
    return "" if dkimproxy.is_replaced(postconf, content_filter, job) else content_filter


def guest_setting(postconf: Postconf) -> str:
    """Return the first setting that admits clients with neither a login nor an address in mynetworks.

    Their mail has to be signed, although pipe(8) passes neither a login nor an address in mynetworks.
    """
    found = ((each.id, strangers.guest_setting(postconf, each)) for each in submission_services(postconf))
    return next((f"{service}/{setting}" for service, setting in found if setting), "")


def _is_public(postconf: Postconf, service: Service) -> bool:
    """Return whether this is port 25 and open to strangers."""
    return service.port in PUBLIC_PORTS and strangers.may_send(postconf, service)
