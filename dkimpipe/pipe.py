"""The way of a message: in on standard input, signed, and back to Postfix or out on standard output.

Whatever goes wrong before the last step raises Trouble: the mail is deferred, and nothing has left.
"""

import posix
import time

from dkimpipe import guard, log, sendmail
from dkimpipe.body import BodyHashes
from dkimpipe.config import read_settings
from dkimpipe.errors import InputError, Trouble
from dkimpipe.files import why
from dkimpipe.message import Message
from dkimpipe.signatures import Signatures
from dkimpipe.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.config import Settings


def run(arguments: "list[str]") -> int:
    """Filter one message and return exit status 0, or raise Trouble. With recipients it never returns."""
    parent = posix.getppid()
    guard.limit_time()
    settings = read_settings(arguments)
    guard.refuse_to_lose(settings.recipients, parent)
    try:
        return _pass_on(settings, parent)
    except Trouble as trouble:
        if settings.yes("syslog", bool(settings.recipients)):
            log.to_syslog(f"deferred: {trouble}", "error")
        raise


def _pass_on(settings: "Settings", parent: int) -> int:
    message = Message(read_standard_input)
    bodies = BodyHashes(large=not message.small)
    signatures = Signatures(message, settings, bodies)

    spool = Spool(room=signatures.room + len(message.envelope_line))
    spool.write(message.header)
    for chunk in message.body():
        spool.write(chunk)
        bodies.update(chunk)
    bodies.finish()
    spool.put_on_top(message.envelope_line + signatures.fields(int(time.time())))

    if settings.recipients:
        program = sendmail.find(settings.get("sendmail", sendmail.SENDMAIL))
        sendmail.feed(program, spool)
        guard.same_parent(parent)
        _log(signatures, settings)
        sendmail.become(program, settings.sender or "", settings.recipients)
    spool.copy_to(1)
    _log(signatures, settings)
    return 0


def _log(signatures: Signatures, settings: "Settings") -> None:
    log.to_stderr(signatures.report)
    if settings.yes("syslog", bool(settings.recipients)):
        log.to_syslog(signatures.report, signatures.level)


def read_standard_input(size: int) -> bytes:
    """Return at most that many octets, none at the end. Raises InputError."""
    try:
        return posix.read(0, size)
    except BlockingIOError:
        posix.set_blocking(0, True)
        return read_standard_input(size)
    except OSError as error:
        raise InputError(f"cannot read standard input: {why(error)}") from None
