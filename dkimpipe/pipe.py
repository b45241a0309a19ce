"""The path of a message: read from standard input, signed, and reinjected or written to standard output.

Any error before the last step raises Trouble: the mail is deferred, and nothing has been sent.
"""

import posix
import time

from dkimpipe import guard, log, spool
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_settings
from dkimpipe.errors import Trouble
from dkimpipe.handover import hand_over
from dkimpipe.message import Message, read_standard_input
from dkimpipe.signatures import Signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from dkimpipe.config import Settings
    from dkimpipe.spool import Spool


def run(arguments: "list[str]") -> int:
    """Filter one message and return the exit status, 0 or that of sendmail(1), or raise Trouble."""
    parent = posix.getppid()
    guard.limit_time()
    settings = read_settings(arguments)
    guard.refuse_to_lose(settings.recipients, parent)
    try:
        return _pass_on(settings, parent)
    except Trouble as trouble:
        if settings.yes("syslog", bool(settings.recipients)):
            outcome = "bounced" if trouble.code.startswith("5.") else "deferred"
            log.to_syslog(f"{outcome}: {trouble}", "error")
        raise


def _pass_on(settings: "Settings", parent: int) -> int:
    complete, signatures = signed(Message(read_standard_input), settings)
    return hand_over(complete, settings, parent, signatures.report)


def signed(
    message: "Message",
    settings: "Settings",
    clock: "Callable[[], float]" = time.time,
    new_spool: "Callable[[bool, int], Spool]" = spool.new,
) -> "tuple[Spool, Signatures]":
    """Return the complete message with its new fields, and what is known of its signatures."""
    bodies = BodyHashes(large=not message.small)
    signatures = Signatures(message, settings, bodies)

    complete = new_spool(message.small, signatures.room + len(message.envelope_line))
    complete.write(message.header)
    for chunk in message.body():
        complete.write(chunk)
        bodies.update(chunk)
    bodies.finish()
    # For reinjection without the envelope line, which sendmail(1) would strip.
    top = b"" if settings.recipients else message.envelope_line
    complete.put_on_top(top + signatures.fields(int(clock())))
    return complete, signatures
