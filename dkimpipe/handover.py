"""Reinjection: the message goes back to Postfix through sendmail(1) or a relay, or to standard output.

Exit status 0 of sendmail(1) does not prove that it has read the message. Under SELinux the kernel replaces a
descriptor that the domain of a program may not use with the null device; sendmail(1) then sends an empty
message and exits 0. So the filter waits for it and checks: its standard input and our descriptor share one
position, and nothing may be left to read there.
"""

import posix
from _signal import SIGKILL

from dkimpipe import guard, log
from dkimpipe.config import SENDMAIL
from dkimpipe.errors import HandoverError, OutputError, TimeLimitError, Trouble, one_line
from dkimpipe.files import CHUNK, is_regular, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dkimpipe.config import Settings
    from dkimpipe.log import Report
    from dkimpipe.spool import Spool


def hand_over(spool: "Spool", settings: "Settings", parent: int, report: "Report") -> int:
    """Hand over a complete message, log the report, and return the exit status.

    The status is that of sendmail(1); without recipients the message goes to standard output. ``parent`` is
    the process that started the filter. Raises Trouble.
    """
    line = report.result + report.origin
    if not settings.recipients:
        _write_out(spool.pieces())
        log.to_stderr(line)
    elif settings.get("relay"):
        from dkimpipe.relay import send

        guard.same_parent(parent)
        queued = f"; {send(spool, settings, lambda *those: _copy(spool, settings, parent, *those))}"
        log.to_stderr(report.result + queued)  # Postfix truncates it to 100 characters
        line += queued
    else:
        status = _by_sendmail(spool, settings, settings.recipients, parent)
        if status:  # sendmail(1) itself has reported the cause
            return status
        log.to_stderr(line)
    if settings.yes("syslog", bool(settings.recipients)):
        log.to_syslog(line, report.level)
    return 0


def _by_sendmail(spool: "Spool", settings: "Settings", recipients: "list[str]", parent: int) -> int:
    """Hand over a message by sendmail(1), and return its exit status. Raises Trouble."""
    program = find(settings.get("sendmail", SENDMAIL))
    message = spool.reader()
    guard.same_parent(parent)
    status = _run(program, message, settings.sender or "", recipients)
    if not status:
        _refuse_unread(program, message)
    elif settings.yes("syslog", default=True):
        log.to_syslog(f"not sent: {program} ended with exit status {status}", "error")
    return status


def _copy(spool: "Spool", settings: "Settings", parent: int, recipients: "list[str]", seconds: float) -> str:
    """Hand over a copy for recipients whose addresses are not valid, so that Postfix bounces it for them.

    Return what the log says of it. There is no error: others have the message, and must not get it again.
    """
    names = one_line(", ".join(recipients))
    try:
        guard.resume_alarm(seconds)
        status = _by_sendmail(spool, settings, recipients, parent)
        guard.stop_alarm()
    except Trouble as trouble:
        return f"; not valid, not bounced: {names}: {trouble}"
    if status:
        return f"; not valid, not bounced: {names}: sendmail(1) ended with exit status {status}"
    return f"; not valid, bounced: {names}"


def find(path: str) -> str:
    """Return the path of an executable program. Raises HandoverError if it is not one."""
    try:
        runs = is_regular(posix.stat(path)) and posix.access(path, posix.X_OK)
    except (OSError, ValueError):
        runs = False
    if not runs:
        raise HandoverError(
            f"cannot run {path}",
            "set --sendmail=PATH to Postfix's sendmail(1); see postconf sendmail_path",
        )
    return path


def _run(path: str, message: int, sender: str, recipients: "list[str]") -> int:
    """Run sendmail(1) with this descriptor as its standard input, and return its exit status.

    -G: add nothing to the header, which is signed. -i: a line with a single dot is text. There is no shell,
    and nothing after -- is an option, whatever the address looks like.
    """
    command = [path, "-G", "-i", "-f", sender, "--", *recipients]
    try:
        child = posix.posix_spawn(
            path, command, posix.environ, file_actions=[(posix.POSIX_SPAWN_DUP2, message, 0)]
        )
    except OSError as error:
        raise HandoverError(f"cannot run {path}: {why(error)}") from None
    status = _wait(child)
    if posix.WIFSIGNALED(status):
        raise HandoverError(f"{path} was killed by signal {posix.WTERMSIG(status)}")
    return posix.WEXITSTATUS(status)


def _wait(child: int) -> int:
    """Return the wait status of the child. When our time is up kill it, unless it has just finished."""
    try:
        return posix.waitpid(child, 0)[1]
    except (TimeLimitError, KeyboardInterrupt):
        posix.kill(child, SIGKILL)
        status = posix.waitpid(child, 0)[1]
        if status == SIGKILL:
            raise
        return status


def _write_out(pieces: "Iterable[bytes]") -> None:
    """Write octets to standard output. Raises OutputError unless all of them were written."""
    try:
        for octets in pieces:
            while octets:
                try:
                    octets = octets[posix.write(1, octets) :]
                except BlockingIOError:
                    posix.set_blocking(1, True)
        posix.close(posix.dup(1))  # a network file system reports a full disk only on close
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {why(error)}") from None


def _refuse_unread(path: str, message: int) -> None:
    """Raise HandoverError if sendmail(1) has left any of the message unread."""
    try:
        left = 0
        while chunk := posix.read(message, CHUNK):
            left += len(chunk)
    except OSError as error:
        raise HandoverError(f"cannot tell whether {path} read the message: {why(error)}") from None
    if left:
        raise HandoverError(
            f"{path} did not read the whole message: {left} bytes are left",
            "run dkimpipe check as root: it reports what SELinux denies",
        )
