"""The one table of errors: class, exit status, enhanced status code (RFC 3463).

Every error of the filter defers the mail: pipe(8) takes exit status 75, with output that begins
``4.x.x text``, as "try again later". No error loses a message, and only two bounce it: the rejection by
``dkimpipe verify`` of unwanted mail, and an address that cannot be a recipient, which Postfix itself bounces.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Level = Literal["info", "warning", "error"]


class Trouble(Exception):
    """Why a message is neither signed nor handed over. ``str()`` is the cause, one line, no full stop.

    ``hint`` is how to fix it, a line of its own, or empty.
    """

    status = 75
    code = "4.3.0"

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.hint = hint

    def at(self, place: object) -> "Trouble":
        """Return the same error with a place before its cause."""
        return type(self)(f"{place}: {self}", self.hint)


class UsageError(Trouble):
    """The command line is wrong."""

    code = "4.3.5"


class ConfigError(Trouble):
    """The conf file, a map or a signature entry is wrong."""

    code = "4.3.5"


class MissingFileError(ConfigError):
    """There is no file of this name."""


class PrivateKeyError(ConfigError):
    """A key file is missing, unsafe, or not a usable private key."""


class HeaderError(Trouble):
    """The header block of the message exceeds a limit."""

    code = "4.3.4"


class InputError(Trouble):
    """The message could not be read completely."""


class SpoolError(Trouble):
    """The message could not be spooled."""

    code = "4.3.1"


class OutputError(Trouble):
    """The signed message could not be written to standard output."""


class SigningError(Trouble):
    """OpenSSL is not available for signing."""


class HandoverError(Trouble):
    """The signed message could not be handed to sendmail(1), or the relay refused it."""


class RelayError(HandoverError):
    """The connection to the relay failed."""

    code = "4.4.2"


class RecipientError(HandoverError):
    """The address of a recipient is not valid, and that of no other."""

    code = "5.1.3"


class TimeLimitError(Trouble):
    """The filter ran out of time; pipe(8) would soon have killed it."""


class UnverifiedError(Trouble):
    """``verify`` is set not to pass on mail that cannot be verified at present."""

    code = "4.7.5"


class RejectedError(Trouble):
    """``verify`` rejects the message: a policy disowns it, or its header exceeds the limits.

    Not 5.3.4 for the latter: with the recommended settings Postfix treats all 5.3.x as a fault of the filter.
    """

    status = 69
    code = "5.7.1"


class NotSigned(Exception):
    """Not an error: the message passes unchanged, and ``str()`` is the reason for the log."""

    level: "Level" = "info"


class NoAuthor(NotSigned):
    """From cannot be read, is missing, or is there more than once: mail that receivers may refuse."""

    level = "warning"


class NoKey(NotSigned):
    """There is no key for the sender's domain, and the entry allows for that."""

    level = "warning"


class NotAllowed(NotSigned):
    """The sending user may not use this signature: ``rule`` is the option of the entry that lists who may."""

    level = "warning"

    def __init__(self, reason: str, rule: str) -> None:
        super().__init__(reason)
        self.rule = rule


_LONG_WORD = 40  # letters and digits in a row: base64, and hardly anything else


def printable(octets: bytes, limit: int = 120) -> str:
    """Return octets of unknown origin as text that is safe in a log: one line, printable, limited."""
    text = one_line(octets[:limit].decode("utf-8", "backslashreplace"))
    return text + "..." if len(octets) > limit else text


def shown(text: str) -> str:
    """Return text from a file in a form that is safe in an error: a key that was pasted there is cut off."""
    longest = max(map(len, "".join([c if c.isalnum() or c in "+=" else " " for c in text]).split(" ")))
    return text if longest < _LONG_WORD and "BEGIN" not in text else text[:16] + "..."


def for_shell(path: str) -> str:
    """Return a path as sh(1) takes it, for a command in a hint. ``shlex`` would cost every message."""
    safe = path.replace("/", "").replace(".", "").replace("-", "").replace("_", "")
    return path if safe.isalnum() and safe.isascii() else "'" + path.replace("'", "'\\''") + "'"


def one_line(text: str) -> str:
    """Return text with everything unprintable, including line ends and lone surrogates, as escapes."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])
