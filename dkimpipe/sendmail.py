"""Handing the message back to Postfix: sendmail(1) takes our place, and its exit status is ours."""

import posix
from _stat import S_ISREG

from dkimpipe.errors import HandoverError
from dkimpipe.files import why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from dkimpipe.spool import Spool

SENDMAIL = "/usr/sbin/sendmail"


def find(path: str) -> str:
    """Return the path if there is a program, else raise HandoverError: before anything is logged."""
    try:
        runs = S_ISREG(posix.stat(path).st_mode) and posix.access(path, posix.X_OK)
    except (OSError, ValueError):
        runs = False
    if not runs:
        raise HandoverError(
            f"cannot run {path}", "name Postfix's sendmail(1): --sendmail=PATH; postconf sendmail_path tells"
        )
    return path


def feed(path: str, spool: "Spool") -> None:
    """Let the message be our standard input, for the program at this path. Raises HandoverError."""
    try:
        posix.dup2(spool.rewind(), 0)
    except OSError as error:
        raise HandoverError(f"cannot feed {path}: {why(error)}") from None


def become(path: str, sender: str, recipients: "list[str]") -> "NoReturn":
    """Become sendmail(1), with our standard input. Raises HandoverError if that fails.

    -G: no additions to the header, which is signed. -i: a line with a lone dot is text. No shell, and
    nothing behind -- is an option, whatever an address looks like.
    """
    try:
        posix.execv(path, [path, "-G", "-i", "-f", sender, "--", *recipients])
    except OSError as error:
        raise HandoverError(f"cannot run {path}: {why(error)}") from None
