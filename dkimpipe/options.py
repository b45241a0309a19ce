"""The options of one signature: from the entry, completed from the conf file, and checked."""

from dkimpipe import address
from dkimpipe.errors import ConfigError, printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from dkimpipe.config import Settings
    from dkimpipe.senders import Signature

CANONICALIZATIONS = {
    "dkim": ("simple", "relaxed", "simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"),
    "domainkeys": ("simple", "nofws"),
}
ALGORITHMS = {"dkim": ("rsa-sha256", "ed25519-sha256", "rsa-sha1"), "domainkeys": ("rsa-sha1",)}
_DEFAULT_METHODS = {"dkim": "relaxed", "domainkeys": "nofws"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class SignatureOptions:
    """The complete and checked options of a signature to be made.

    ``type``       dkim or domainkeys
    ``keyfile``    path of the private key; ``keyfile_where`` returns the place where it is set
    ``domain``     the SDID, d=, in A-labels and lower case
    ``selector``   s=
    ``identity``   the AUID, i=, not yet quoted; empty for none
    ``algorithm``  a=, or empty: follows from the key
    ``header_canonicalization``, ``body_canonicalization``   the two halves of c=
    ``headers``    the names of h= in lower case; empty for the default
    ``lifetime``   seconds from t= to x=; 0 for no x=
    ``timestamp``  whether to write t=
    ``where``      returns ``PATH, line N``, as a prefix for errors
    """

    __slots__ = (
        "algorithm",
        "body_canonicalization",
        "domain",
        "header_canonicalization",
        "headers",
        "identity",
        "keyfile",
        "keyfile_where",
        "lifetime",
        "selector",
        "timestamp",
        "type",
        "where",
    )

    def __init__(self, signature: "Signature", settings: "Settings") -> None:
        """Complete an entry from the conf file. Domain and identity are set later, from the message."""
        self.type = signature.type
        self.where = signature.where
        self.domain = self.identity = b""
        self._set_selector(*given(signature, "selector", settings, "selector"))
        self.keyfile, self.keyfile_where = given(signature, "keyfile", settings, "keyfile")
        if not self.keyfile:
            raise ConfigError(f"{self.where()}: {self.type} without key=")
        if not self.keyfile.startswith("/") and shown(self.keyfile) != self.keyfile:
            raise ConfigError(
                f"{self.keyfile_where()}: key= contains a key, not the path of a key file",
                "store the key in a file",
            )
        self._set_algorithm(signature.options.get("algorithm", ""))
        self._set_canonicalization(*given(signature, "method", settings, f"{self.type}_method", "method"))
        self._set_headers(signature.options.get("headers", ""))
        self._set_times(signature.options.get("timestamp", "yes"), signature.options.get("lifetime", "0"))

    def _set_selector(self, selector: str, where: "Callable[[], str]") -> None:
        if not selector:
            raise ConfigError(f"{where()}: {self.type} without s=")
        try:
            self.selector = address.to_a_labels(selector.encode())
        except ValueError:
            self.selector = b""
        if not address.is_domain(self.selector):
            raise ConfigError(f"{where()}: s={shown(selector)} is not a valid selector")

    def _set_algorithm(self, algorithm: str) -> None:
        self.algorithm = algorithm
        known = ALGORITHMS[self.type]
        if algorithm and algorithm not in known:
            raise ConfigError(
                f"{self.where()}: {self.type} supports a={' and '.join(known)}, not {algorithm}"
            )

    def _set_canonicalization(self, method: str, where: "Callable[[], str]") -> None:
        method = method or _DEFAULT_METHODS[self.type]
        if method not in CANONICALIZATIONS[self.type]:
            known = ", ".join(CANONICALIZATIONS[self.type])
            raise ConfigError(f"{where()}: {self.type} supports c={known}; not {method}")
        self.header_canonicalization, _, body = method.partition("/")
        self.body_canonicalization = body or ("simple" if self.type == "dkim" else method)

    def _set_headers(self, names: str) -> None:
        self.headers = tuple(
            name.strip().lower().encode("utf-8", "surrogateescape")
            for name in names.split(":")
            if name.strip()
        )
        if self.headers and self.type == "dkim" and b"from" not in self.headers:
            raise ConfigError(f"{self.where()}: h= does not include from (RFC 6376 section 5.4)")
        for name in self.headers:
            if name == b"dkim-signature" and self.type == "dkim":
                raise ConfigError(
                    f"{self.where()}: h= must not include dkim-signature (RFC 6376 section 3.5)"
                )
            if any(not 33 <= octet < 127 or octet in b":;" for octet in name) or len(name) > 76:
                raise ConfigError(
                    f"{self.where()}: h= includes '{printable(name)}', which is not a valid field name"
                )

    def _set_times(self, timestamp: str, lifetime: str) -> None:
        if timestamp not in ("yes", "no"):
            raise ConfigError(f"{self.where()}: t must be yes or no, not '{timestamp}'")
        self.timestamp = timestamp == "yes"
        try:
            self.lifetime = seconds(lifetime)
        except ValueError as error:
            raise ConfigError(f"{self.where()}: x=: {error}") from None


def seconds(text: str) -> int:
    """Return a duration such as ``30d``, ``12h`` or ``3600`` in seconds. Raises ValueError with a message."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdigit()) or len(number) > 12:
        raise ValueError(f"invalid duration {text} (use 30d, 12h or seconds)")
    return int(number) * _UNITS[unit]


def given(
    signature: "Signature", option: str, settings: "Settings", *directives: str
) -> "tuple[str, Callable[[], str]]":
    """Return a value and a function for its place: from the entry, otherwise from the first directive set."""
    if option in signature.options:
        return signature.options[option], signature.where
    for directive in directives:
        if directive in settings.values:
            return settings.values[directive], settings.place(directive)
    return "", signature.where
