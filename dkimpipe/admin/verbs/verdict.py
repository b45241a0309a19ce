"""What ``dkimpipe test`` concludes from the lines about its message, and what helps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dkimpipe.admin.audit import actions, outcome
from dkimpipe.admin.audit.follow import Hop
from dkimpipe.admin.audit.outcome import Outcome
from dkimpipe.admin.findings import ERRORS_FOUND, hint_lines
from dkimpipe.admin.newkey import to_domain
from dkimpipe.admin.postfix import filter_service, queue, running
from dkimpipe.admin.postfix.filter_service import JOBS
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError, printable

_SIGNED = "(dkimpipe: signed "
_UNSIGNED = re.compile(r"\(dkimpipe: not signed: (?P<why>(?:no entry for \S+@(?P<domain>[^\s;)]+)|[^;)]+))")
_BY_FILTER = re.compile(r"(?:dkimpipe: )?(?P<why>.*?)(?: hint: (?P<hint>.*?))?")
_NOBODY_LISTENS = re.compile(r"connect to \S+?\[(127\.[\d.]+|::1)\]:(\d+): Connection refused")
_SHOWN = 300  # octets of a cause
_REASON = "dkimpipe explain ADDRESS shows how mail from there is signed"
_AUTHOR = "--from with an ADDRESS whose domain is in the senders file"
_KINDS = "dkimpipe check --postfix shows which kinds of mail are signed"


def conclude(hops: Sequence[Hop], recipient: str, postconf: Postconf) -> int:
    """Print what it comes to; return 0 if the message was delivered signed, otherwise 78."""
    services = {filter_service.name(postconf, job) for job in JOBS}
    queued = [hop for hop in hops if hop.event.queue_id != actions.NO_QUEUE_ID]
    discarded = [hop for hop in hops if hop.event.keyword == actions.DISCARD]
    if discarded:
        cause = printable(actions.parse(discarded[0].event.text).cause, _SHOWN)
        found = Outcome(outcome.DISCARDED, discarded[0].queue_id, cause, discarded[0].program)
    else:
        found = outcome.of(queued, recipient, services, queue.names(postconf))
    signed = [hop.text.partition(_SIGNED)[2] for hop in hops if _SIGNED in hop.text]
    if signed and found.state == outcome.DELIVERED:
        print(f"dkimpipe: signed {signed[0].partition(';')[0].rstrip(')')}, and delivered")
        return 0
    what, hint = (f"signed, but {_ending(found)}", _after(found, postconf)) if signed else ("", "")
    if not signed:
        what, hint = _unsigned(hops, found, postconf)
    hint = _tables(discarded, postconf) or hint
    print(f"dkimpipe: error: {what}", *hint_lines(hint), sep="\n")
    return ERRORS_FOUND


def _ending(found: Outcome) -> str:
    return found.state + f": {found.cause}" * bool(found.cause)


def _after(found: Outcome, postconf: Postconf) -> str:
    """Return what helps a message that has not arrived."""
    if found.state == outcome.HELD:
        return shlex.join(["postsuper", "-c", str(postconf.directory), "-H", found.queue_id])
    if found.state == outcome.GONE:
        return f"see the log: {found.queue_id}"
    if found.state != outcome.QUEUED:
        return ""  # the cause says it all
    if refused := _NOBODY_LISTENS.match(found.cause):
        return f"start the program that listens at {refused[1]}, port {refused[2]}; then: postqueue -f"
    return "postqueue -p"


def _unsigned(hops: Sequence[Hop], found: Outcome, postconf: Postconf) -> tuple[str, str]:
    """Return why the message was not signed, as the filter or pipe(8) logged it, and what helps."""
    ending = "" if found.state == outcome.DELIVERED else f", and {_ending(found)}"
    redirected = [hop for hop in hops if hop.event.keyword == actions.REDIRECT]
    for action in (actions.parse(hop.event.text) for hop in redirected):
        where = f"redirected to {printable(action.target)} by " if action.target else ""
        what = f"not signed{ending}: {where}{printable(action.cause, _SHOWN)}"
        return what, _tables(redirected, postconf)
    texts = [hop.text for hop in hops if hop.program == "pipe"]
    for reason in filter(None, map(_UNSIGNED.search, texts)):
        return f"not signed: {reason['why']}{ending}", _for_domain(reason["domain"])
    if found.state == outcome.QUEUED and found.program == "pipe":
        return _deferred_by_filter(found)
    for stale in running.findings(postconf):
        return f"not signed{ending}: {stale.what}", stale.hint
    if found.state == outcome.QUEUED and not _NOBODY_LISTENS.match(found.cause):
        return f"not signed{ending}", "dkimpipe check --postfix"
    return f"not signed{ending}", _KINDS if found.state == outcome.DELIVERED else _after(found, postconf)


def _tables(hops: Sequence[Hop], postconf: Postconf) -> str:
    """Return the command that shows which tables did something with the message; nothing if none did."""
    command = shlex.join(["postconf", "-c", str(postconf.directory)])
    contexts = {actions.parse(hop.event.text).context.decode() for hop in hops}
    shown = [f"{command} {each}_checks" if each else f"{command} -n | grep _access" for each in contexts]
    return "\n".join(sorted(shown))


def _for_domain(domain: str | None) -> str:
    """Return what helps mail of a domain without an entry, if that is the cause."""
    if not domain:
        return _REASON
    try:
        return f"dkimpipe setup {to_domain(domain)}"
    except ConfigError:
        return _AUTHOR


def _deferred_by_filter(found: Outcome) -> tuple[str, str]:
    """Return the filter's error, and its hint."""
    said = _BY_FILTER.fullmatch(found.cause)
    why, hint = said.group("why", "hint") if said else (found.cause, "")
    hint = (hint or "").strip()  # a command that was cut off must not be run
    hint = "dkimpipe check" if not hint or hint.endswith("...") else hint
    return f"not signed, and {found.state}: {why}", hint
