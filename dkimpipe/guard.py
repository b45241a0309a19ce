"""Checks that keep messages from being lost or truncated: time limit, recipients, and parent process."""

import posix
from _signal import SIG_DFL, SIGALRM, SIGCHLD, alarm, signal

from dkimpipe.config import ARGV
from dkimpipe.errors import HandoverError, TimeLimitError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Seconds. Postfix bounces mail after dkimpipe_time_limit, by default 1000 s; the filter defers it earlier.
# A sendmail(1) that hangs is killed.
TIME_LIMIT = 280

_ENDED = "the program that sent this message exited before it was handed over"
_FIFO = 0o010000  # inode(7), the type in st_mode
_PF_EXITING = 4  # Linux, include/linux/sched.h


def limit_time() -> None:
    """Set the alarm, and reset SIGCHLD: sendmail(1) must be able to wait for its children."""
    signal(SIGCHLD, SIG_DFL)
    signal(SIGALRM, _out_of_time)
    alarm(TIME_LIMIT)


def stop_alarm() -> int:
    """Turn the alarm off; return the seconds that were left."""
    return alarm(0) or TIME_LIMIT


def resume_alarm(seconds: float) -> None:
    """Set the alarm again, for the time that is left."""
    alarm(max(int(seconds), 1))


def _out_of_time(number: int, frame: object) -> "NoReturn":
    raise TimeLimitError(f"timed out after {TIME_LIMIT} seconds")


def refuse_to_lose(recipients: "list[str]", parent: int) -> None:
    """Raise if pipe(8) started the filter without recipients, or has exited since.

    Without recipients pipe(8) would treat the message as command output and drop it. It gives its commands
    MAIL_CONFIG, and one pipe for both standard output and standard error. An orphaned process has process 1
    as parent.
    """
    if b"MAIL_CONFIG" not in posix.environ:
        return
    if not recipients and _one_pipe(1, 2):
        raise UsageError("started by Postfix without recipients", ARGV)
    if recipients and parent == 1:
        raise HandoverError(_ENDED)


def _one_pipe(first: int, second: int) -> bool:
    try:
        one, other = posix.fstat(first), posix.fstat(second)
    except OSError:
        return False
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev and one.st_mode & 0o170000 == _FIFO


def same_parent(parent: int) -> None:
    """Raise HandoverError unless the parent is still the original one, and not about to exit.

    If pipe(8) is killed while it writes to the filter, half a message looks complete; Postfix will deliver
    all of it to another filter later. Linux closes the files of an exiting process before it reparents its
    children; in between, its flags show that it is exiting.
    """
    if _is_ending(parent) or posix.getppid() != parent:
        raise HandoverError(_ENDED)


def _is_ending(process: int) -> bool:
    try:
        descriptor = posix.open(f"/proc/{process}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        status = posix.read(descriptor, 4096)
        posix.close(descriptor)
    except OSError:  # exited, which getppid() shows, or hidden from us (hidepid)
        return False
    # proc(5): the name of the program ends with the last parenthesis, the flags are the seventh word after.
    return bool(int(status.rpartition(b")")[2].split()[6]) & _PF_EXITING)
