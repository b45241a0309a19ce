"""Which mail passes to the filter that signs, and which does not: by choice, by mistake, or twice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import filter_service, kinds, networks, requirements
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.kinds import LOCAL
from dkimpipe.admin.postfix.postconf import Postconf

SIGNING_MILTERS = re.compile(r"dkim|rspamd|:8891\b|:11332\b")  # by name, or by their usual ports


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield what is signed by mistake or by two programs, and a note of what is not signed."""
    yield from networks.findings(postconf)
    signed = requirements.kinds_in_use(postconf)
    yield from _silenced_milters(postconf, signed)
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


def unsigned(postconf: Postconf, signed: Sequence[str]) -> Finding | None:
    """Return a note of the mail that is not signed by choice, with the command that changes it."""
    left = [kind for kind in kinds.KINDS if kind not in (*signed, kinds.SUBMISSION)]
    if not left:
        return None
    what = "; ".join(f"{kind}: {kinds.MEANING[kind]}" for kind in left)
    command = ["dkimpipe", "postfix", "-c", str(postconf.directory), "--apply", "--sign", ",".join(left)]
    return Finding(f"not signed: {what}", shlex.join(command), NOTE)


def _silenced_milters(postconf: Postconf, signed: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if a milter that signs no longer gets local mail, which nothing else signs."""
    service = requirements.pickup(postconf)
    milters = [each for each in postconf.words("non_smtpd_milters") if SIGNING_MILTERS.search(each)]
    if (
        milters
        and LOCAL not in signed
        and "no_milters" in postconf.words("receive_override_options", service)
    ):
        command = ["dkimpipe", "postfix", "-c", str(postconf.directory), "--apply", "--sign", LOCAL]
        why = f"mail from local programs no longer passes {', '.join(milters)}, and is not signed"
        yield Finding(f"{service}/receive_override_options: {why}", shlex.join(command), "warning")
