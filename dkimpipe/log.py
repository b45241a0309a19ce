"""One line per message, on stderr (Postfix logs it next to the queue ID) and to syslog."""

import posix

from dkimpipe.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.errors import Level


def to_stderr(text: str) -> None:
    """Write one line; a failure to log does not hold up the mail."""
    try:
        posix.write(2, f"dkimpipe: {one_line(text)}\n".encode())
    except OSError:
        pass


def to_syslog(text: str, level: "Level") -> None:
    """Send one line, facility mail."""
    import syslog

    priority = {"info": syslog.LOG_INFO, "warning": syslog.LOG_WARNING, "error": syslog.LOG_ERR}[level]
    syslog.openlog("dkimpipe", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(priority, one_line(text))
