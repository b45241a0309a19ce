"""Services that master_service_disable switches off: master(8) creates no socket for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe.admin.postfix import filter_service, listener, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.kinds import LOCAL, Plan
from dkimpipe.admin.postfix.postconf import Change, Postconf

_PARAMETER = "master_service_disable"
# Settings with the names of services without which no mail arrives or leaves.
_NAMES = (
    "bounce_service_name",
    "default_transport",
    "defer_service_name",
    "queue_service_name",
    "rewrite_service_name",
    "trace_service_name",
)


def changes(postconf: Postconf, job: Job, plan: Plan) -> list[Change]:
    """Return the edit that switches the services on that a job needs; none if they are."""
    off = [each for each in dict.fromkeys(_needed(postconf, job, plan)) if postconf.is_disabled(each)]
    if not off:
        return []
    ways = {*off, *(".".join(each.rsplit("/", 1)) for each in off)}
    words = [word for word in postconf.words(_PARAMETER) if word not in ways]
    rest = [each for each in off if _is_disabled_by(words, each)]
    value = ", ".join([*(f"!{each}" for each in rest), *words])
    why = f"master(8) does not start {', '.join(off)}, and mail to be {job.participle} stays in the queue"
    return [Change("-e", f"{_PARAMETER}={value}", why)]


def _is_disabled_by(words: Sequence[str], service: str) -> bool:
    return any(word in (service.rpartition("/")[2], service) for word in words)


def _needed(postconf: Postconf, job: Job, plan: Plan) -> Iterator[str]:
    """Yield the services that mail passes on its way to the filter, back and out."""
    yield f"{filter_service.name(postconf, job)}/unix"
    places = [each.id for each in sources.of(postconf, job) if not postconf.is_disabled(each.id)]
    if plan.relay:
        found = listener.find(postconf, plan.relay)
        yield found.id if found else f"{plan.relay}/inet"
        places += [found.id] if found else []
    if not plan.relay or LOCAL in plan.kinds:
        pickup = sources.pickup(postconf)
        yield pickup
        places.append(pickup)
    names = [postconf.value("cleanup_service_name", each) for each in ("", "bounce/unix", *places)]
    names += [postconf.value(each).partition(":")[0] for each in _NAMES]
    yield from (
        each.id for each in postconf.services.values() if each.name in names and "/inet" not in each.id
    )
