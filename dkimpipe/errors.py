"""The one table of what can go wrong: error, exit status, enhanced status code (RFC 3463).

Every error of the filter defers the mail: pipe(8) reads exit status 75, and a first output
of the form ``4.x.x text``, as "try again later". No error here loses a message, and one alone bounces it:
that of ``dkimpipe verify`` for what is not wanted.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Level = Literal["info", "warning", "error"]


class Trouble(Exception):
    """Why a message is neither signed nor handed on. ``str()`` is the cause, one line, no full stop.

    ``hint`` is what to do about it, a line of its own, or empty.
    """

    status = 75
    code = "4.3.0"

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.hint = hint


class UsageError(Trouble):
    """The command line is wrong."""

    code = "4.3.5"


class ConfigError(Trouble):
    """The conf file, a map or a signature entry is wrong."""

    code = "4.3.5"


class PrivateKeyError(ConfigError):
    """A key file is missing, unsafe or no private key that can sign."""


class HeaderError(Trouble):
    """The header block of the message is beyond the limit."""

    code = "4.3.4"


class InputError(Trouble):
    """The message could not be read whole."""


class SpoolError(Trouble):
    """The message could not be kept until it was complete."""

    code = "4.3.1"


class OutputError(Trouble):
    """The signed message could not be written to standard output."""


class SigningError(Trouble):
    """OpenSSL could not be asked to sign."""


class HandoverError(Trouble):
    """The signed message could not be handed to sendmail(1)."""


class TimeLimitError(Trouble):
    """The filter ran for so long that pipe(8) would soon have killed it."""


class UnverifiedError(Trouble):
    """``verify`` was told not to pass on what it cannot verify today."""

    code = "4.7.5"


class RejectedError(Trouble):
    """``verify`` does not want the message: a policy disowns it, or its header is beyond the limits.

    Not 5.3.4 for the latter: with the settings that we advise Postfix takes all 5.3.x for a fault of ours.
    """

    status = 69
    code = "5.7.1"


class NotSigned(Exception):
    """Not a fault: the message passes on as it came, and ``str()`` is the reason for the log."""

    level: "Level" = "info"


class NotAllowed(NotSigned):
    """Whoever sends may not have this signature: ``rule`` is the option of the entry that tells who may."""

    level = "warning"

    def __init__(self, reason: str, rule: str) -> None:
        super().__init__(reason)
        self.rule = rule


_LONG_WORD = 40  # letters and digits in a row: base64, and hardly anything else


def printable(octets: bytes, limit: int = 120) -> str:
    """Return octets of unknown origin as text that is safe in a log: one line, no controls, not endless."""
    text = one_line(octets[:limit].decode("utf-8", "backslashreplace"))
    return text + "..." if len(octets) > limit else text


def shown(text: str) -> str:
    """Return what a file holds as an error may show it, without a key that was pasted there."""
    longest = max(map(len, "".join([c if c.isalnum() or c in "+=" else " " for c in text]).split(" ")))
    return text if longest < _LONG_WORD and "BEGIN" not in text else text[:16] + "..."


def one_line(text: str) -> str:
    """Return text with all that cannot be printed, line ends and lone surrogates too, as escapes."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])
