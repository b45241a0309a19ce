"""One line per message, on stderr (Postfix logs it next to the queue ID) and to syslog."""

import posix

from dkimpipe.errors import one_line, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.errors import Level
    from dkimpipe.message import Message


class Report:
    """What became of a message: ``result``, and From and Message-ID in ``origin``."""

    __slots__ = ("level", "origin", "result")

    def __init__(self, result: str, message: "Message", level: "Level" = "info") -> None:
        self.result = result
        self.origin = "".join(
            [
                f"; {name.decode()}={printable(message.by_name[name][0].value)}"
                for name in (b"from", b"message-id")
                if name in message.by_name
            ]
        )
        self.level = level


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
