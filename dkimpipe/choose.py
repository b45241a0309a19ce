"""Which signatures a message gets, and their options, chosen by its List-Id or its addresses."""

from dkimpipe import senders
from dkimpipe.address import (
    Mailbox,
    as_a_labels,
    first_mailbox,
    is_at_or_below,
    is_domain,
    spellings,
    to_lower,
)
from dkimpipe.config import ANY, AUTHENTICATED, MYNETWORKS, SENDER_MAP
from dkimpipe.errors import ConfigError, NotAllowed, NotSigned, printable
from dkimpipe.files import exists
from dkimpipe.options import SignatureOptions, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from dkimpipe.config import Settings
    from dkimpipe.message import Message
    from dkimpipe.senders import Signature


_MAX_LIST_ID = 255  # octets, RFC 2919 section 6
_MAX_LOCAL_PART = 64  # octets, RFC 5321 section 4.5.3.1.1
_IPV6 = "ipv6:"  # Postfix writes IPv6 addresses as in RFC 5321 section 4.1.3
_MACRO_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


class Choice:
    """The signatures chosen for a message, and why.

    ``signatures``  their options, in the order of the entry
    ``mailbox``     the value of ``$sender``
    ``key``         the map key that matched, or the domain of the conf file
    ``domain``      the value of ``$key``, and of d= if the entry has none
    ``where``       returns the place of the entry, such as ``PATH, line N``
    ``refused``     the reasons why other signatures of the entry were left out
    """

    __slots__ = ("domain", "key", "mailbox", "refused", "signatures", "where")

    def __init__(
        self, mailbox: Mailbox, key: bytes, domain: bytes, signatures: "list[Signature]", settings: "Settings"
    ) -> None:
        """Complete the signatures of an entry. Raises ConfigError and NotSigned."""
        self.mailbox = mailbox
        self.key = key
        self.domain = domain
        self.where = signatures[0].where
        self.refused: list[NotAllowed] = []
        self.signatures = []
        for signature in signatures:
            options = SignatureOptions(signature, settings)
            options.domain = self._domain(signature)
            if options.type == "dkim":
                text, where = given(signature, "identity", settings, "identity")
                options.identity = self._identity(text, where, options.domain)
            self.signatures.append(options)

    def _domain(self, signature: "Signature") -> bytes:
        """Return d= with its macros expanded. Raises NotSigned if the expansion is not a valid domain."""
        text = signature.options.get("domain", "$keydomain")
        expanded = self._expand(text, signature.where)
        if not expanded:
            raise ConfigError(f"{signature.where()}: {signature.type} without d=")
        domain = as_a_labels(expanded)
        if is_domain(domain):
            return domain
        if "$" in text:
            raise NotSigned(f"'{printable(expanded)}' is not a valid signing domain")
        raise ConfigError(f"{signature.where()}: d={text} is not a valid domain")

    def _identity(self, text: str, where: "Callable[[], str]", domain: bytes) -> bytes:
        """Return i= with its macros expanded; empty if an expanded address is not at or below d=."""
        if not text:
            return b""
        local_part, at, host = self._expand(text, where).rpartition(b"@")
        host = as_a_labels(host)
        if at and is_domain(host) and is_at_or_below(host, domain) and len(local_part) <= _MAX_LOCAL_PART:
            return local_part + at + host
        if at and "$" in text:
            return b""
        raise ConfigError(f"{where()}: i={text} is not at or below d={domain.decode()}")

    def _expand(self, text: str, where: "Callable[[], str]") -> bytes:
        """Return a value with its macros expanded; ``$$`` is a dollar sign."""
        return b"$".join([self._expand_macros(part, where) for part in text.split("$$")])

    def _expand_macros(self, text: str, where: "Callable[[], str]") -> bytes:
        first, *rest = text.split("$")
        expanded = first.encode("utf-8", "surrogateescape")
        for part in rest:
            after = part.lstrip(_MACRO_LETTERS)
            name = part[: len(part) - len(after)]
            if name not in _MACROS:
                raise ConfigError(
                    f"{where()}: unknown macro '${name}'", f"known macros: ${' $'.join(_MACROS)}"
                )
            expanded += _MACROS[name](self) + after.encode("utf-8", "surrogateescape")
        return expanded


_MACROS: "dict[str, Callable[[Choice], bytes]]" = {
    "sender": lambda choice: choice.mailbox.address,
    "senderdomain": lambda choice: choice.mailbox.domain,
    "key": lambda choice: choice.domain,
    "keydomain": lambda choice: choice.domain,
}


def choose(message: "Message", settings: "Settings") -> Choice:
    """Return the signatures for a message: from the List-Id map, the sender map or the conf file.

    Raises NotSigned if it is to pass unchanged, ConfigError if its entry or the settings are wrong.
    """
    author = author_of(message)
    refuse_stranger(settings)
    candidates = candidates_of(message, settings, author)
    return (
        _by_list_id(message, settings, author)
        or _by_map(message, settings, candidates)
        or _by_domain(message, settings, candidates or [author])
    )


def refuse_stranger(settings: "Settings") -> None:
    """Raise NotAllowed if the SMTP client is not one of ``sign_clients``.

    If Postfix gave no client, or no client sent the message, there is nothing to refuse.
    """
    client = settings.values.get("client")
    if not client:
        return
    if client[:5].lower() == _IPV6:
        client = client[5:]
    listed = settings.sign_clients
    if ANY in listed or (AUTHENTICATED in listed and _login(settings)):
        return
    if MYNETWORKS in listed and (client == "::1" or client.startswith("127.")):  # in it by default
        return
    from dkimpipe.clients import refuse_stranger as look_up

    look_up(settings, client)


def _login(settings: "Settings") -> str:
    """Return the login, empty if the client did not log in. Raises ConfigError if none was given."""
    login = settings.values.get("login")
    if login is None:
        raise ConfigError(
            "--client was given, but no --login", "add --login=${sasl_username} to argv in master.cf"
        )
    return login


def lookup_keys(mailbox: Mailbox) -> "list[bytes]":
    """Return the map keys to look up, most specific first.

    They are the address, the address without ``+extension``, its domain, the parent domains, and ``.``;
    each domain with A-labels is also included with U-labels.
    """
    local_parts = [to_lower(mailbox.local_part)]
    plain = local_parts[0].partition(b"+")[0].lstrip(b'"')
    if plain and plain != local_parts[0]:
        local_parts.append(plain)
    keys = [local_part + b"@" + domain for local_part in local_parts for domain in spellings(mailbox.domain)]
    return keys + _domain_keys(mailbox.domain)


def author_of(message: "Message") -> Mailbox:
    """Return the address of From. Raises NotSigned if there is none, or more than one From field."""
    fields = message.by_name.get(b"from", [])
    if len(fields) != 1:
        raise NotSigned(f"{len(fields)} From fields" if fields else "no From field")
    return first_mailbox(fields[0].value)


def candidates_of(message: "Message", settings: "Settings", author: Mailbox) -> "list[Mailbox]":
    """Return the addresses that may choose the entry, in the order of ``match``; ``author`` is From's."""
    fields = message.by_name.get(b"sender", [])
    values = {
        "sender": fields[0].value if len(fields) == 1 else b"",
        "envelope": (settings.sender or "").encode("utf-8", "surrogateescape"),
    }
    candidates = []
    for name in settings.match:
        try:
            candidates.append(author if name == "from" else first_mailbox(values[name]))
        except NotSigned:
            continue
    return candidates


def _by_list_id(message: "Message", settings: "Settings", author: Mailbox) -> "Choice | None":
    path = settings.get("listid_map")
    fields = message.by_name.get(b"list-id")
    if not path or not fields:
        return None
    list_id = to_lower(fields[0].value.rpartition(b"<")[2].partition(b">")[0].strip())
    if len(list_id) > _MAX_LIST_ID or list_id.split() != [list_id]:
        return None
    entry = senders.lookup(path, _domain_keys(list_id), still=bool(settings.recipients))
    if not entry:
        return None
    domain = domain_of_list(entry.key, list_id, author)
    signatures = senders.parse(entry.text, entry.place)
    return _allowed(message, settings, author, entry.key, domain, signatures)


def domain_of_list(key: bytes, list_id: bytes, author: Mailbox) -> bytes:
    """Return the signing domain for a List-Id that matched this key, for an entry without d=."""
    if key not in (list_id, b"."):
        return key
    # The first label of a List-Id is the name of the list (RFC 2919); the rest is the domain.
    _, _, parent = key.partition(b".")
    domain = key if b"." in key[1:] and b"." not in parent else parent
    return domain or author.domain


def sender_map(settings: "Settings") -> str:
    """Return the path of the sender map, empty if there is none."""
    path = settings.get("sender_map")
    if not path and settings.values.keys().isdisjoint(
        ("signature", "domain")
    ):  # no other source of signatures
        path = SENDER_MAP if "listid_map" not in settings.values or exists(SENDER_MAP) else ""
    return path


def _by_map(message: "Message", settings: "Settings", candidates: "list[Mailbox]") -> "Choice | None":
    path = sender_map(settings)
    for mailbox in candidates if path else ():
        entry = senders.lookup(path, lookup_keys(mailbox), still=bool(settings.recipients))
        if entry:
            domain = mailbox.domain if entry.key == b"." else entry.key.rpartition(b"@")[2]
            signatures = senders.parse(entry.text, entry.place)
            return _allowed(message, settings, mailbox, entry.key, domain, signatures)
    return None


def _by_domain(message: "Message", settings: "Settings", candidates: "list[Mailbox]") -> Choice:
    """Choose as DKIMproxy does without maps: ``domain`` lists the domains to sign for, ``signature`` how."""
    given_domains = domains(settings)
    signatures = []
    for text, where in signatures_without_map(settings):
        signatures += senders.parse(text, where)
    for mailbox in candidates if signatures else ():
        for domain in _domain_keys(mailbox.domain) if len(given_domains) > 1 else given_domains:
            if domain in given_domains:
                return _allowed(message, settings, mailbox, domain, domain, signatures)
    raise NotSigned(f"no entry for {printable(candidates[0].address)}")


def _allowed(
    message: "Message",
    settings: "Settings",
    mailbox: Mailbox,
    key: bytes,
    domain: bytes,
    signatures: "list[Signature]",
) -> Choice:
    """Return what the sending user may use of an entry. Raises NotAllowed if that is nothing."""
    refusals = [_refusal(message, settings, signature) for signature in signatures]
    refused = [refusal for refusal in refusals if refusal]
    if len(refused) == len(signatures):
        raise refused[0]
    allowed = [signature for signature, refusal in zip(signatures, refusals) if not refusal]
    choice = Choice(mailbox, key, domain, allowed, settings)
    choice.refused = refused
    return choice


def _refusal(message: "Message", settings: "Settings", signature: "Signature") -> "NotAllowed | None":
    """Return why the sending user may not use a signature; few signatures are limited to anyone."""
    if signature.options.keys().isdisjoint(senders.FOR_WHOM):
        return None
    from dkimpipe.permission import refusal

    return refusal(message, settings, signature)


def domains(settings: "Settings") -> "list[bytes]":
    """Return the domains of ``domain``, in A-labels; an empty one if it is not set. Raises ConfigError."""
    given_domains = settings.get("domain").encode("utf-8", "surrogateescape").split(b",")
    found = [as_a_labels(domain.strip()) for domain in given_domains]
    for domain in filter(None, found):
        if not is_domain(domain):
            raise ConfigError(f"{settings.where['domain']}: '{printable(domain)}' is not a valid domain")
    return found


def signatures_without_map(settings: "Settings") -> "list[tuple[str, Callable[[], str]]]":
    """Return the values of ``signature``; by default dkim if ``domain`` is set and there are no maps."""
    if settings.signatures:
        return settings.signatures
    if "domain" not in settings.values or "sender_map" in settings.values or "listid_map" in settings.values:
        return []
    return [("dkim", settings.place("domain"))]


def _domain_keys(domain: bytes) -> "list[bytes]":
    """Return a domain and each of its parents in both spellings, and ``.``."""
    keys = []
    labels = domain.split(b".")
    for first in range(len(labels)):
        keys += spellings(b".".join(labels[first:]))
    return [*keys, b"."]
