"""The options of one signature: what an entry says, completed by the conf file, checked."""

from dkimpipe import address
from dkimpipe.errors import ConfigError, printable

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
    """One signature to be made, checked and complete.

    ``type``       dkim or domainkeys
    ``keyfile``    path of the private key
    ``domain``     the SDID, d=, in A-labels and lower case
    ``selector``   s=
    ``identity``   the AUID, i=, not yet quoted; empty for none
    ``algorithm``  a=, or empty: as the key says
    ``header_canonicalization``, ``body_canonicalization``   the two halves of c=
    ``headers``    the names of h= in lower case; empty for the usual ones
    ``lifetime``   seconds from t= to x=; 0 for no x=
    ``timestamp``  whether to write t=
    ``where``      gives ``PATH, line N`` to begin an error with
    """

    __slots__ = (
        "algorithm",
        "body_canonicalization",
        "domain",
        "header_canonicalization",
        "headers",
        "identity",
        "keyfile",
        "lifetime",
        "selector",
        "timestamp",
        "type",
        "where",
    )

    def __init__(self, signature: "Signature", settings: "Settings", where: "Callable[[], str]") -> None:
        """Complete what an entry says by the conf file. Domain and identity come later, from the message."""
        options = signature.options
        self.type = signature.type
        self.where = where
        self.keyfile = options.get("keyfile") or settings.get("keyfile")
        selector = options.get("selector") or settings.get("selector")
        for name, value in (("key", self.keyfile), ("s", selector)):
            if not value:
                raise ConfigError(f"{where()}: {self.type} without {name}=")
        try:
            self.selector = address.to_a_labels(selector.encode())
        except ValueError:
            self.selector = b""
        if not address.is_domain(self.selector):
            raise ConfigError(f"{where()}: s={selector} can be no name in DNS")
        self.algorithm = options.get("algorithm", "")
        if self.algorithm and self.algorithm not in ALGORITHMS[self.type]:
            raise ConfigError(
                f"{where()}: {self.type} knows a={' and '.join(ALGORITHMS[self.type])}, not {self.algorithm}"
            )
        self._set_canonicalization(options.get("method") or _default_method(self.type, settings))
        self._set_headers(options.get("headers", ""))
        self._set_times(options.get("timestamp", "yes"), options.get("lifetime", "0"))
        self.domain = self.identity = b""

    def _set_canonicalization(self, method: str) -> None:
        if method not in CANONICALIZATIONS[self.type]:
            known = ", ".join(CANONICALIZATIONS[self.type])
            raise ConfigError(f"{self.where()}: {self.type} knows c={known}; not {method}")
        self.header_canonicalization, _, body = method.partition("/")
        self.body_canonicalization = body or ("simple" if self.type == "dkim" else method)

    def _set_headers(self, names: str) -> None:
        self.headers = tuple(
            name.strip().lower().encode("utf-8", "surrogateescape")
            for name in names.split(":")
            if name.strip()
        )
        if self.headers and self.type == "dkim" and b"from" not in self.headers:
            raise ConfigError(f"{self.where()}: h= does not name from (RFC 6376 section 5.4)")
        for name in self.headers:
            if not name.isascii() or any(octet < 33 or octet in b":;" for octet in name) or len(name) > 76:
                raise ConfigError(
                    f"{self.where()}: h= names '{printable(name)}', which can be no header field"
                )

    def _set_times(self, timestamp: str, lifetime: str) -> None:
        if timestamp not in ("yes", "no"):
            raise ConfigError(f"{self.where()}: t={timestamp}: yes or no")
        self.timestamp = timestamp == "yes"
        number, unit = (lifetime[:-1], lifetime[-1]) if lifetime[-1] in _UNITS else (lifetime, "s")
        if not (number.isascii() and number.isdigit()):
            raise ConfigError(f"{self.where()}: x={lifetime} is no time: 30d, 12h, or seconds")
        self.lifetime = int(number) * _UNITS[unit]


def _default_method(type: str, settings: "Settings") -> str:
    return settings.get(f"{type}_method") or settings.get("method") or _DEFAULT_METHODS[type]
