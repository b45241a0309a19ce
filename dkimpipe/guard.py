"""What must hold around a message, so that none is lost and none is cut: descriptors, time, parent."""

import posix
from _signal import SIG_DFL, SIGALRM, SIGCHLD, alarm, signal

from dkimpipe.config import ARGV
from dkimpipe.errors import HandoverError, TimeLimitError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Seconds. Postfix bounces what runs past dkimpipe_time_limit (300 s as we set it up); a deferral comes first.
# The alarm outlives the exec: a sendmail(1) that hangs dies of it, and death by signal defers, too.
TIME_LIMIT = 280


def limit_time() -> None:
    """Set the alarm. Children can be waited for, even if the parent ignored SIGCHLD."""
    signal(SIGCHLD, SIG_DFL)
    signal(SIGALRM, _out_of_time)
    alarm(TIME_LIMIT)


def _out_of_time(number: int, frame: object) -> "NoReturn":
    raise TimeLimitError(f"not done after {TIME_LIMIT} seconds")


def refuse_to_lose(recipients: "list[str]") -> None:
    """Raise UsageError if pipe(8) started us without recipients: it would take the message for talk.

    pipe(8) gives MAIL_CONFIG to its commands, and one pipe for both standard output and standard error.
    """
    if not recipients and b"MAIL_CONFIG" in posix.environ and _one_pipe(1, 2):
        raise UsageError("started by Postfix without recipients", ARGV)


def _one_pipe(first: int, second: int) -> bool:
    try:
        one, other = posix.fstat(first), posix.fstat(second)
    except OSError:
        return False
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev and one.st_mode & 0o170000 == 0o010000


def same_parent(parent: int) -> None:
    """Raise HandoverError unless our parent is still the one that we began with.

    A pipe(8) that is killed while it writes to us leaves half a message that looks whole; it will
    start another filter with all of it.
    """
    if posix.getppid() != parent:
        raise HandoverError("the program that sent this message ended before it was handed on")
