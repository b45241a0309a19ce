"""The path of an incoming message: verified, given the field with the results, and reinjected or written out.

The guarantees are those of the signing filter: exit status 0 only after the complete message was handed over;
after any error it is deferred, and nothing has been sent. There is one more outcome: the message is rejected.
This includes a message whose header exceeds the limits. Only an attacker sends one: deferred, it would be
retried for days; passed on unverified, it could contain a forged Authentication-Results field.
"""

from __future__ import annotations

import posix
import time

from dkimpipe import guard, log, spool
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_settings
from dkimpipe.errors import HeaderError, RejectedError, Trouble, UsageError, one_line
from dkimpipe.files import CHUNK
from dkimpipe.handover import hand_over
from dkimpipe.message import Message, read_standard_input
from dkimpipe.verify import authres, summary
from dkimpipe.verify.settings import VerifySettings
from dkimpipe.verify.verifier import Verifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dkimpipe.verify.resolver import Resolver

# Octets. Postfix limits a field by header_size_limit, but the whole header only by the size of a message: a
# header below this limit is checked, for otherwise it would wait in the queue, or pass unchecked.
HEADER_LIMIT = 8 << 20
_ROOM = 1 << 20
_NONE_VALID = 78  # exit status of --explain, as of the verbs that check something


def verify(arguments: list[str]) -> int:
    """Verify one message and return exit status 0, or 69 if it is rejected, or raise Trouble."""
    if arguments == ["--help"]:
        from dkimpipe.verify.usage import HELP

        posix.write(1, HELP.encode())
        return 0
    parent = posix.getppid()
    guard.limit_time()
    settings = VerifySettings()
    read_settings(arguments, settings)
    if settings.yes("explain") and settings.recipients:
        raise UsageError("--explain cannot be used with recipients")
    guard.refuse_to_lose(settings.recipients, parent)
    syslog = settings.yes("syslog", bool(settings.recipients))
    try:
        return _pass_on(settings, parent)
    except RejectedError as rejected:
        posix.write(2, f"{rejected.code} dkimpipe: {one_line(str(rejected))}\n".encode())
        if syslog:
            log.to_syslog(f"rejected: {rejected}", "warning")
        return rejected.status
    except Trouble as trouble:
        if syslog:
            log.to_syslog(f"deferred: {trouble}", "error")
        raise


def _pass_on(settings: VerifySettings, parent: int) -> int:
    resolver, hostname = settings.resolver(), settings.authserv_id
    message = _read_header()
    bodies = BodyHashes(large=not message.small)
    verifier = Verifier(message, bodies, lenient=settings.yes("reject_fail"))

    if settings.yes("explain"):
        return _explain(message, bodies, verifier, resolver)

    complete = spool.new(message.small, room=_ROOM + len(message.envelope_line))
    complete.write(_without_forged(message, hostname))
    for chunk in message.body():
        complete.write(chunk)
        bodies.update(chunk)
    bodies.finish()
    results = verifier.verify(resolver, int(time.time()))
    resinfos = summary.resinfos(results, verifier.unchecked)
    if any(map(settings.yes, ("reject_fail", "reject_error", "dmarc"))):
        from dkimpipe.verify import policy

        # With a separate time limit: otherwise slow servers for many keys would circumvent every policy.
        resinfos += policy.apply(message, results, settings.resolver(), settings)
    written = authres.write(hostname, [*resinfos, *_carried_over(message, hostname, resinfos)])
    field = written.replace(b"\n", message.line_end)
    # A message without a header may begin with white space, which would continue our field.
    gap = b"" if message.header else message.line_end
    top = b"" if settings.recipients else message.envelope_line
    complete.put_on_top(top + field + message.line_end + gap)

    return hand_over(complete, settings, parent, log.Report(summary.line(resinfos), message))


def _without_forged(message: Message, hostname: str) -> bytes:
    if authres.NAME not in message.by_name and b"\r" + authres.NAME not in message.header.lower():
        return message.header
    from dkimpipe.verify.forged import without_forged

    return without_forged(message, hostname)


def _carried_over(message: Message, hostname: str, own: Iterable[authres.ResInfo]) -> list[authres.ResInfo]:
    """Return the results that our own host recorded before, in fields that are removed."""
    order = [field.name for field in message.fields if field.name in (authres.NAME, b"received")]
    if order[:1] != [authres.NAME] or b"received" not in order:
        return []
    from dkimpipe.verify.ownresults import carried_over

    return carried_over(message, hostname, {*authres.METHODS.values(), *(each.method for each in own)})


def _read_header() -> Message:
    try:
        return Message(read_standard_input, HEADER_LIMIT)
    except HeaderError as error:
        raise RejectedError(str(error)) from None


def _explain(message: Message, bodies: BodyHashes, verifier: Verifier, resolver: Resolver) -> int:
    """Print the explanation; return 0 if a signature is valid, otherwise 78."""
    from dkimpipe.verify import returned
    from dkimpipe.verify.explain import explain  # imports dkimpy, which is slow

    body = b"".join(message.body())
    found = returned.take_out(message, body)
    if found:
        message, body, bodies = found.message, found.body, BodyHashes(large=True)
        verifier = Verifier(message, bodies)
    else:
        _print(returned.not_found(message))
    for at in range(0, len(body), CHUNK):
        bodies.update(body[at : at + CHUNK])
    bodies.finish()
    results = verifier.verify(resolver, int(time.time()))
    is_valid = any(each.result == "pass" for each in results)
    if found:
        _print(found.introduction(is_valid))
    if found and found.extent != "whole" and not is_valid:
        _print(returned.explain_header(message, resolver))
    else:
        _print(explain(message, body, verifier, results, resolver, came_back=bool(found)))
    return 0 if is_valid else _NONE_VALID


def _print(lines: Iterable[str]) -> None:
    posix.write(1, "".join([f"{one_line(line)}\n" for line in lines]).encode())
