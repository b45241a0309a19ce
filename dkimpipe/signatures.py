"""All signatures of one message, or the reason for having none."""

from dkimpipe.choose import choose
from dkimpipe.dkim import DkimSignature
from dkimpipe.errors import (
    ConfigError,
    MissingFileError,
    NoKey,
    NotSigned,
    SigningError,
    Trouble,
    printable,
)
from dkimpipe.keys import read_key
from dkimpipe.log import Report
from dkimpipe.options import DEFER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.body import BodyHashes
    from dkimpipe.config import Settings
    from dkimpipe.domainkeys import DomainKeysSignature
    from dkimpipe.errors import Level
    from dkimpipe.keys import PrivateKey
    from dkimpipe.message import Message
    from dkimpipe.options import SignatureOptions

_ROOM = 1 << 20


def key_of(options: "SignatureOptions", wait: bool = False) -> "PrivateKey":
    """Return the key of a signature. Raises NoKey if it is missing and may be, otherwise ConfigError.

    ``wait`` for a missing key until nothing was added to its directory for a second.
    """
    try:
        return _read_key(options)
    except MissingFileError:
        if options.missing == DEFER:
            raise
    from dkimpipe.templates import settle

    settle(options, wait)
    try:
        return _read_key(options)
    except MissingFileError:
        domain = options.template.domain if options.template else b""
        raise NoKey(f"no key for {printable(domain or options.domain)}") from None


def _read_key(options: "SignatureOptions") -> "PrivateKey":
    try:
        if options.template:
            options.template.refuse_links(options.keyfile)
        return read_key(options.keyfile)
    except ConfigError as error:
        raise error.at(options.keyfile_place) from None


class Signatures:
    """The signatures in progress: their fields are available after the body has passed through ``bodies``.

    ``making``   the signatures that are being made
    ``reasons``  why others, or all, are not made
    ``room``     an upper bound for the octets of the fields
    """

    def __init__(self, message: "Message", settings: "Settings", bodies: "BodyHashes") -> None:
        """Raise Trouble, unless the settings let the message pass unsigned after an error."""
        self._message = message
        self._settings = settings
        self.making: list[DkimSignature | DomainKeysSignature] = []
        self.reasons: list[str] = []
        self._chosen_by = ""
        self._level: Level = "info"
        try:
            self._begin(bodies)
        except NotSigned as reason:
            self.reasons.append(str(reason))
            self._level = reason.level
        except (ConfigError, SigningError) as trouble:
            self._accept(trouble)
        self.room = len(self.making) * (_ROOM + 8 * len(message.header))

    def fields(self, now: int) -> bytes:
        """Return the new header fields, raw, with the line ends of the message.

        ``now`` is the time in seconds since 1970.
        """
        try:
            fields = [signature.field(self._message, now) for signature in self.making]
        except (ConfigError, SigningError) as trouble:
            self._accept(trouble)
            fields = []
        line_end = self._message.line_end
        return b"".join([field.replace(b"\n", line_end) + line_end for field in fields])

    @property
    def report(self) -> Report:
        """What was signed, or why not."""
        facts = [f"signed {', '.join(map(str, self.making))}"] if self.making else []
        facts += [f"not signed: {reason}" for reason in self.reasons]
        if self._message.long_lines:
            facts.append(f"lines over 998 octets broken: {self._message.long_lines}")
        if self._settings.yes("verbose") and self._chosen_by:
            facts.append(self._chosen_by)
        return Report("; ".join(facts), self._message, self._level)

    def _begin(self, bodies: "BodyHashes") -> None:
        choice = choose(self._message, self._settings)
        if self._settings.yes("verbose"):
            place = choice.signatures[0].place
            self._chosen_by = f"chosen by '{printable(choice.match.key)}', {place}"
        if self._settings.yes("normalize", True):
            self._message.break_long_lines()
        reasons = list(choice.refused)
        for options in choice.signatures:
            try:
                self.making.append(self._signature(options, bodies))
            except NotSigned as reason:
                reasons.append(reason)
        self.reasons += dict.fromkeys(map(str, reasons))
        if not self.making and any(reason.level == "warning" for reason in reasons):
            self._level = "warning"

    def _signature(
        self, options: "SignatureOptions", bodies: "BodyHashes"
    ) -> "DkimSignature | DomainKeysSignature":
        key = key_of(options, wait=bool(self._settings.recipients))
        if options.type == "dkim":
            return DkimSignature(options, key, bodies)
        from dkimpipe.domainkeys import DomainKeysSignature

        return DomainKeysSignature(options, key, self._message, bodies)

    def _accept(self, trouble: Trouble) -> None:
        """Record why there is no signature and continue, if the settings allow that; otherwise raise."""
        if self._settings.get("on_error") != "accept" or self._settings.yes("reject_error"):
            raise trouble
        self.making = []
        self.reasons = [str(trouble)]
        self._level = "warning"
