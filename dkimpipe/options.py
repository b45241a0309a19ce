"""The options of one signature: from the entry, completed from conf file and message, and checked."""

from dkimpipe import address
from dkimpipe.errors import ConfigError, NotSigned, printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dkimpipe.address import Mailbox
    from dkimpipe.config import Settings
    from dkimpipe.files import Place
    from dkimpipe.senders import Signature
    from dkimpipe.templates import Template

CANONICALIZATIONS = {
    "dkim": ("simple", "relaxed", "simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"),
    "domainkeys": ("simple", "nofws"),
}
ALGORITHMS = {"dkim": ("rsa-sha256", "ed25519-sha256", "rsa-sha1"), "domainkeys": ("rsa-sha1",)}
# How often h= mentions a field: as often as it occurs, or once more if it occurs, or always once more. One
# more mention (oversigning) prevents that another field of this name is added (RFC 6376 section 8.15).
AS_IT_OCCURS, OVERSIGNED, ALWAYS = range(3)
# RFC 6376 section 5.4.1 and RFC 8058 section 4. Single-instance fields (RFC 5322 section 3.6) are oversigned.
# Sender and the fields of mailing lists are legitimately added in transit, so they are never oversigned.
RECOMMENDED = {
    b"from": OVERSIGNED,
    b"reply-to": OVERSIGNED,
    b"subject": OVERSIGNED,
    b"date": OVERSIGNED,
    b"to": OVERSIGNED,
    b"cc": OVERSIGNED,
    b"sender": AS_IT_OCCURS,
    b"message-id": OVERSIGNED,
    b"in-reply-to": AS_IT_OCCURS,
    b"references": AS_IT_OCCURS,
    b"mime-version": OVERSIGNED,
    b"content-type": OVERSIGNED,
    b"content-transfer-encoding": OVERSIGNED,
    b"content-id": AS_IT_OCCURS,
    b"content-description": AS_IT_OCCURS,
    b"resent-date": AS_IT_OCCURS,
    b"resent-from": AS_IT_OCCURS,
    b"resent-sender": AS_IT_OCCURS,
    b"resent-to": AS_IT_OCCURS,
    b"resent-cc": AS_IT_OCCURS,
    b"resent-message-id": AS_IT_OCCURS,
    b"list-id": AS_IT_OCCURS,
    b"list-help": AS_IT_OCCURS,
    b"list-unsubscribe": AS_IT_OCCURS,
    b"list-unsubscribe-post": AS_IT_OCCURS,
    b"list-subscribe": AS_IT_OCCURS,
    b"list-post": AS_IT_OCCURS,
    b"list-owner": AS_IT_OCCURS,
    b"list-archive": AS_IT_OCCURS,
}
# What a sign before a name in h= adds.
_SIGNS = {"dkim": {b"+": AS_IT_OCCURS, b"++": ALWAYS}, "domainkeys": {b"+": AS_IT_OCCURS}}
_DEFAULT_METHODS = {"dkim": "relaxed", "domainkeys": "nofws"}
_MAX_LOCAL_PART = 64  # octets, RFC 5321 section 4.5.3.1.1
_MACRO_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
# What happens to a message if there is no key file: by default the second if the path depends on a domain.
DEFER, UNSIGNED = "defer", "unsigned"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class SignatureOptions:
    """The complete and checked options of a signature to be made.

    ``type``       dkim or domainkeys
    ``keyfile``    path of the private key; ``keyfile_place`` is where it is set
    ``template``   the macros of s= and key=; None if there are none
    ``missing``    DEFER or UNSIGNED: what happens if there is no key file
    ``domain``     the SDID, d=, in A-labels and lower case
    ``selector``   s=
    ``identity``   the AUID, i=, not yet quoted; empty for none
    ``algorithm``  a=, or empty: follows from the key
    ``header_canonicalization``, ``body_canonicalization``   the two halves of c=
    ``headers``    the names of h= in lower case; empty if h= is the default or relative to it: then
    ``fields``     are the names of the fields to sign, each with AS_IT_OCCURS, OVERSIGNED or ALWAYS
    ``lifetime``   seconds from t= to x=; 0 for no x=
    ``timestamp``  whether to write t=
    ``place``      of the entry
    """

    __slots__ = (
        "algorithm",
        "body_canonicalization",
        "domain",
        "fields",
        "header_canonicalization",
        "headers",
        "identity",
        "keyfile",
        "keyfile_place",
        "lifetime",
        "missing",
        "place",
        "selector",
        "template",
        "timestamp",
        "type",
    )

    def __init__(self, signature: "Signature", settings: "Settings") -> None:
        """Complete a signature from the conf file, except what has macros: see ``complete``."""
        self.type = signature.type
        self.place = signature.place
        self.domain = self.identity = b""
        selector, place = _from_entry_or_conf(signature, "selector", settings, "selector")
        self.keyfile, self.keyfile_place = _from_entry_or_conf(signature, "keyfile", settings, "keyfile")
        self.template: Template | None = None
        if "$" in selector or "$" in self.keyfile:
            from dkimpipe import templates

            self.template = templates.Template(
                pieces(selector, place, templates.IN_SELECTOR),
                place,
                pieces(self.keyfile, self.keyfile_place, templates.IN_PATH),
                self.keyfile_place,
            )
        else:
            self._set_selector(selector, place)
        self._set_missing(signature.options.get("missing", ""))
        if not self.keyfile:
            raise ConfigError(f"{self.place}: {self.type} without key=")
        if not self.keyfile.startswith("/") and shown(self.keyfile) != self.keyfile:
            raise ConfigError(
                f"{self.keyfile_place}: key= contains a key, not the path of a key file",
                "store the key in a file",
            )
        self._set_algorithm(signature.options.get("algorithm", ""))
        self._set_canonicalization(
            *_from_entry_or_conf(signature, "method", settings, f"{self.type}_method", "method")
        )
        self._set_headers(signature.options.get("headers", ""))
        self._set_times(signature.options.get("timestamp", "yes"), signature.options.get("lifetime", "0"))

    def expand(self, values: "dict[str, bytes]") -> None:
        """Set selector and key file by the values of the macros. Raises NoKey if they allow for no key."""
        if self.template:
            selector, self.keyfile = self.template.expand(values, self.missing == DEFER)
            self._set_selector(selector, self.template.selector_place)

    def _set_missing(self, missing: str) -> None:
        if missing not in (DEFER, UNSIGNED, ""):
            raise ConfigError(f"{self.place}: missing must be {DEFER} or {UNSIGNED}, not '{shown(missing)}'")
        self.missing = missing or (UNSIGNED if self.template and self.template.domains else DEFER)

    def _set_selector(self, selector: str, place: "Place") -> None:
        if not selector:
            raise ConfigError(f"{place}: {self.type} without s=")
        try:
            self.selector = address.to_a_labels(selector.encode())
        except ValueError:
            self.selector = b""
        meant = address.selector_in(self.selector)
        if meant != self.selector and (not meant or address.is_domain(meant)):
            raise ConfigError(
                f"{place}: s={shown(selector)} is the name of a record, not a selector",
                f"s={meant.decode()}" if meant else "s= is what comes before ._domainkey",
            )
        if not address.is_domain(self.selector):
            raise ConfigError(f"{place}: s={shown(selector)} is not a valid selector")

    def _set_algorithm(self, algorithm: str) -> None:
        self.algorithm = algorithm
        known = ALGORITHMS[self.type]
        if algorithm and algorithm not in known:
            raise ConfigError(f"{self.place}: {self.type} supports a={' and '.join(known)}, not {algorithm}")

    def _set_canonicalization(self, method: str, place: "Place") -> None:
        method = method or _DEFAULT_METHODS[self.type]
        if method not in CANONICALIZATIONS[self.type]:
            known = ", ".join(CANONICALIZATIONS[self.type])
            raise ConfigError(f"{place}: {self.type} supports c={known}; not {method}")
        self.header_canonicalization, _, body = method.partition("/")
        self.body_canonicalization = body or ("simple" if self.type == "dkim" else method)

    def _set_headers(self, text: str) -> None:
        self.headers = tuple(
            name.strip().lower().encode("utf-8", "surrogateescape")
            for name in text.split(":")
            if name.strip()
        )
        self.fields = RECOMMENDED
        names = self.headers
        if any(name[:1] in (b"+", b"-") for name in names):
            from dkimpipe.relative import changed

            self.headers = ()
            self.fields = changed(RECOMMENDED, names, _SIGNS[self.type], self.place)
            names = tuple(self.fields)
        if names and self.type == "dkim" and b"from" not in names:
            raise ConfigError(f"{self.place}: h= does not include from (RFC 6376 section 5.4)")
        for name in names:
            if name == b"dkim-signature" and self.type == "dkim":
                raise ConfigError(f"{self.place}: h= must not include dkim-signature (RFC 6376 section 3.5)")
            if any(not 33 <= octet < 127 or octet in b":;" for octet in name) or len(name) > 76:
                raise ConfigError(
                    f"{self.place}: h= includes '{printable(name)}', which is not a valid field name"
                )

    def _set_times(self, timestamp: str, lifetime: str) -> None:
        if timestamp not in ("yes", "no"):
            raise ConfigError(f"{self.place}: t must be yes or no, not '{timestamp}'")
        self.timestamp = timestamp == "yes"
        try:
            self.lifetime = seconds(lifetime)
        except ValueError as error:
            raise ConfigError(f"{self.place}: x=: {error}") from None


def macros(sender: "Mailbox", domain: bytes) -> "dict[str, bytes]":
    """Return the value of each macro in d= and i=. ``domain`` is that of the map key which matched."""
    return {"sender": sender.address, "senderdomain": sender.domain, "key": domain, "keydomain": domain}


def complete(signature: "Signature", settings: "Settings", values: "dict[str, bytes]") -> SignatureOptions:
    """Return the options of a signature, with the values of ``macros``.

    Raises ConfigError, and NotSigned if the macros do not expand to a valid domain, or not to one that can
    have a key.
    """
    options = SignatureOptions(signature, settings)
    options.expand(values)
    options.domain = _domain(signature, values)
    if options.type == "dkim":
        text, place = _from_entry_or_conf(signature, "identity", settings, "identity")
        options.identity = _identity(text, place, options.domain, values)
    return options


def _domain(signature: "Signature", values: "dict[str, bytes]") -> bytes:
    """Return d= with its macros expanded. Raises NotSigned if the expansion is not a valid domain."""
    text = signature.options.get("domain", "$keydomain")
    expanded = _expand(text, signature.place, values)
    if not expanded:
        raise ConfigError(f"{signature.place}: {signature.type} without d=")
    domain = address.as_a_labels(expanded)
    if b"_domainkey" in domain and "$" not in text and domain != (meant := address.domain_in(domain)):
        raise ConfigError(
            f"{signature.place}: d={text} is the name of a record, not a domain",
            f"d={meant.decode()}" if meant else "d= is what comes after ._domainkey",
        )
    if address.is_domain(domain):
        return domain
    if "$" in text:
        raise NotSigned(f"'{printable(expanded)}' is not a valid signing domain")
    raise ConfigError(f"{signature.place}: d={text} is not a valid domain")


def _identity(text: str, place: "Place", domain: bytes, values: "dict[str, bytes]") -> bytes:
    """Return i= with its macros expanded; empty if an expanded address is not at or below d=."""
    if not text:
        return b""
    local_part, at, host = _expand(text, place, values).rpartition(b"@")
    host = address.as_a_labels(host)
    is_below = address.is_domain(host) and address.is_at_or_below(host, domain)
    if at and is_below and len(local_part) <= _MAX_LOCAL_PART:
        return local_part + at + host
    if at and "$" in text:
        return b""
    raise ConfigError(f"{place}: i={text} is not at or below d={domain.decode()}")


def _expand(text: str, place: "Place", values: "dict[str, bytes]") -> bytes:
    """Return a value with its macros expanded; ``$$`` is a dollar sign."""
    found = pieces(text, place, values)
    return b"".join(
        [values.get(name, b"") + after.encode("utf-8", "surrogateescape") for name, after in found]
    )


def pieces(text: str, place: "Place", known: "Iterable[str]") -> "list[tuple[str, str]]":
    """Return the macros of a value, each with the text after it; first the text before them, without a name.

    ``$$`` is a dollar sign. Raises ConfigError for a macro that is not known.
    """
    found = [("", "")]
    for number, part in enumerate(text.split("$$")):
        first, *rest = part.split("$")
        name, before = found[-1]
        found[-1] = (name, f"{before}{'$' if number else ''}{first}")
        for each in rest:
            after = each.lstrip(_MACRO_LETTERS)
            found.append((each[: len(each) - len(after)], after))
    for name, after in found[1:]:
        if name not in known:
            refused = "is not allowed in s= and key=, where only domains are safe"
            what = f"'$sender' {refused}" if name == "sender" else f"unknown macro '${name}'"
            if after.startswith("{") and not name:
                what = f"macros have no braces: '${after.partition('}')[0]}}}'"
            raise ConfigError(f"{place}: {what}", f"known macros: ${' $'.join(known)}")
    return found


def seconds(text: str) -> int:
    """Return a duration such as ``30d``, ``12h`` or ``3600`` in seconds. Raises ValueError with a message."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdigit()) or len(number) > 12:
        raise ValueError(f"invalid duration {text} (use 30d, 12h or seconds)")
    return int(number) * _UNITS[unit]


def _from_entry_or_conf(
    signature: "Signature", option: str, settings: "Settings", *directives: str
) -> "tuple[str, Place]":
    """Return a value and its place: from the entry, otherwise from the first directive set."""
    if option in signature.options:
        return signature.options[option], signature.place
    for directive in directives:
        if directive in settings.values:
            return settings.values[directive], settings.places[directive]
    return "", signature.place
