"""One line a message, on stderr (Postfix puts it into its own log, beside the queue ID) and to syslog."""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Level = Literal["info", "warning", "error"]


def say(text: str, level: "Level" = "info", to_syslog: bool = False) -> None:
    """Write one line; that nobody listens is no reason to hold up the mail."""
    if to_syslog:
        import syslog

        priority = {"info": syslog.LOG_INFO, "warning": syslog.LOG_WARNING, "error": syslog.LOG_ERR}[level]
        syslog.openlog("dkimpipe", syslog.LOG_PID, syslog.LOG_MAIL)
        syslog.syslog(priority, text)
    try:
        posix.write(2, f"dkimpipe: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
