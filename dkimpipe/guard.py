"""What must hold around a message, so that none is lost and none is cut: time, recipients, and a parent."""

import posix
from _signal import SIG_DFL, SIGALRM, SIGCHLD, alarm, signal

from dkimpipe.config import ARGV
from dkimpipe.errors import HandoverError, TimeLimitError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Seconds. Postfix bounces what runs past dkimpipe_time_limit, mostly 1000 s; a deferral comes first.
# A sendmail(1) that hangs is killed then.
TIME_LIMIT = 280

_ENDED = "the program that sent this message ended before it was handed on"
_FIFO = 0o010000  # inode(7), the type in st_mode
_PF_EXITING = 4  # Linux, include/linux/sched.h


def limit_time() -> None:
    """Set the alarm. sendmail(1) can wait for its children, even if our parent ignored SIGCHLD."""
    signal(SIGCHLD, SIG_DFL)
    signal(SIGALRM, _out_of_time)
    alarm(TIME_LIMIT)


def _out_of_time(number: int, frame: object) -> "NoReturn":
    raise TimeLimitError(f"not done after {TIME_LIMIT} seconds")


def refuse_to_lose(recipients: "list[str]", parent: int) -> None:
    """Raise if pipe(8) started us, but without recipients, or has ended since.

    Without recipients it would take the message for talk and drop it. It gives MAIL_CONFIG to its
    commands, and one pipe for both standard output and standard error. Whose parent has ended has process
    1 as parent.
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
    """Raise HandoverError unless our parent is still the one that we began with, and not about to end.

    A pipe(8) that is killed while it writes to us leaves half a message that looks whole; it will
    start another filter with all of it. Linux closes the files of a process that ends before it gives
    its children another parent; in between, its flags tell.
    """
    if _is_ending(parent) or posix.getppid() != parent:
        raise HandoverError(_ENDED)


def _is_ending(process: int) -> bool:
    try:
        descriptor = posix.open(f"/proc/{process}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        status = posix.read(descriptor, 4096)
        posix.close(descriptor)
    except OSError:  # ended, which getppid() tells, or hidden from us (hidepid)
        return False
    # proc(5): the name of the program ends with the last parenthesis, the flags are the seventh word after.
    return bool(int(status.rpartition(b")")[2].split()[6]) & _PF_EXITING)
