"""Which mail passes to the filter that signs, and which does not: by choice, by mistake, or twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import (
    content_redirects,
    filter_service,
    kinds,
    network_bypasses,
    networks,
    notices,
    other_filters,
    planning,
    redirects,
)
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import LOCAL
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield what is signed by mistake or by two programs, and a note of what is not signed."""
    found = list(networks.findings(postconf))
    yield from found or network_bypasses.findings(postconf)
    yield from redirects.findings(postconf)
    yield from content_redirects.findings(postconf)
    signed = planning.kinds_in_use(postconf)
    yield from _local_through_outsiders(postconf, signed)
    signers = [
        service.name
        for service in postconf.running("pipe")
        if filter_service.options(service, SIGN) is not None and service.name != VERIFY.name
    ]
    if len(signers) > 1:
        what = f"master.cf: {len(signers)} services run the filter that signs: {', '.join(signers)}"
        yield Finding(what, f"only {filter_service.name(postconf)} is checked", "warning")
    if note := unsigned(postconf, signed):
        yield note
    yield from notices.unsigned(postconf) if kinds.BOUNCES in signed else ()


def unsigned(postconf: Postconf, signed: Sequence[str]) -> Finding | None:
    """Return a note of the mail that is not signed by choice, with the command that changes it."""
    left = [kind for kind in left_out(postconf, signed) if kind != kinds.SUBMISSION]
    if not left:
        return None
    obstacles = {kind: planning.obstacle(postconf, kind) for kind in left}
    what = "; ".join(f"{kind}: {kinds.MEANING[kind]}" for kind in left)
    possible = [kind for kind in left if not obstacles[kind][0]]
    hints = [kinds.command(postconf.directory, possible)] if possible else []
    for kind, (cause, hint) in obstacles.items():
        separator = "\n" if "\n" in hint else "; "
        hints += [f"{kind}: {cause}" + f"{separator}{hint}" * bool(hint)] if cause else []
    return Finding(f"not signed: {what}", "\n".join(hints), NOTE)


def left_out(postconf: Postconf, signed: Sequence[str]) -> list[str]:
    """Return the kinds of mail that do not pass to the filter, without those of which there is none."""
    left = [kind for kind in kinds.KINDS if kind not in signed]
    if all(_signs(postconf, service) for service in networks.services(postconf)):
        left = [kind for kind in left if kind != kinds.NETWORKS]  # there is none, or all of it is signed
    return left


def _signs(postconf: Postconf, service: Service) -> bool:
    """Return whether the content filter of a service is another one, and signs its mail."""
    transport = postconf.value("content_filter", service.id).partition(":")[0]
    return other_filters.signs(postconf.services.get(f"{transport}/unix"))


def _local_through_outsiders(postconf: Postconf, signed: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if mail from outside comes back from another filter as local mail, and is signed."""
    cause, hint = planning.obstacle(postconf, LOCAL) if LOCAL in signed else ("", "")
    if cause:
        yield Finding(cause.replace("would be signed", "is signed"), hint)
