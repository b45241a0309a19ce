"""Which signatures a message gets, and their options, chosen by its List-Id or its addresses."""

from dkimpipe import senders
from dkimpipe.address import Mailbox, as_a_labels, first_mailbox, is_domain, spellings, to_lower
from dkimpipe.config import ANY, AUTHENTICATED, MYNETWORKS, SENDER_MAP
from dkimpipe.errors import ConfigError, NoAuthor, NotAllowed, NotSigned, printable
from dkimpipe.files import exists
from dkimpipe.options import complete, macros
from dkimpipe.senders import AT_ANY, AT_SUBDOMAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.config import Settings
    from dkimpipe.files import Place
    from dkimpipe.message import Message
    from dkimpipe.options import SignatureOptions
    from dkimpipe.senders import Signature

_MAX_LIST_ID = 255  # octets, RFC 2919 section 6
_IPV6 = "ipv6:"  # Postfix writes IPv6 addresses as in RFC 5321 section 4.1.3


class Match:
    """What was found for a message.

    ``mailbox``  the address that it was found for: the value of ``$sender``
    ``key``      the map key that matched, or the domain of the conf file
    ``domain``   the value of ``$key``, and of d= if a signature has none; in A-labels
    ``lists``    the lists of signatures as text, each with its place
    """

    __slots__ = ("domain", "key", "lists", "mailbox")

    def __init__(self, mailbox: Mailbox, key: bytes, domain: bytes, lists: "list[tuple[str, Place]]") -> None:
        self.mailbox = mailbox
        self.key = key
        self.domain = domain
        self.lists = lists


class Choice:
    """The signatures chosen for a message, and why.

    ``match``       what was found
    ``signatures``  the options of those that the sending user may use, in order: one at least
    ``refused``     the reasons why others are left out
    """

    __slots__ = ("match", "refused", "signatures")

    def __init__(
        self, match: Match, signatures: "list[SignatureOptions]", refused: "list[NotSigned]"
    ) -> None:
        self.match = match
        self.signatures = signatures
        self.refused = refused


def choose(message: "Message", settings: "Settings") -> Choice:
    """Return the signatures for a message: from the List-Id map, the sender map or the conf file.

    Raises NotSigned if it is to pass unchanged, ConfigError if its entry or the settings are wrong.
    """
    author = author_of(message)
    refuse_stranger(settings)
    candidates = candidates_of(message, settings, author)
    match = (
        _by_list_id(message, settings, author)
        or _by_map(settings, candidates)
        or _by_domain(settings, candidates or [author])
    )
    if not match:
        raise NotSigned(f"no entry for {printable((candidates or [author])[0].address)}")
    return _choice(match, message, settings)


def _by_list_id(message: "Message", settings: "Settings", author: Mailbox) -> "Match | None":
    path = settings.get("listid_map")
    list_id = _list_id(message)
    wait = bool(settings.recipients)
    entry = senders.lookup(path, _domain_keys(list_id), wait) if path and list_id else None
    if not entry:
        return None
    domain = as_a_labels(domain_of_list(entry.key, list_id, author))
    return Match(author, entry.key, domain, [(entry.text, entry.place)])


def _by_map(settings: "Settings", candidates: "list[Mailbox]") -> "Match | None":
    path = sender_map(settings)
    for mailbox in candidates if path else ():
        entry = senders.lookup_in_all(path, lookup_keys(mailbox), wait=bool(settings.recipients))
        if entry:
            domain = mailbox.domain if entry.key == b"." else as_a_labels(domain_of_key(entry.key))
            return Match(mailbox, entry.key, domain, [(entry.text, entry.place)])
    return None


def _by_domain(settings: "Settings", candidates: "list[Mailbox]") -> "Match | None":
    """Match as DKIMproxy does without maps: ``domain`` lists the domains to sign for, ``signature`` how."""
    known = domains(settings)
    lists = signatures_without_map(settings)
    for mailbox in candidates if lists else ():
        for domain in _domain_keys(mailbox.domain) if len(known) > 1 else known:
            if domain in known:
                return Match(mailbox, domain, domain, lists)
    return None


def _choice(match: Match, message: "Message", settings: "Settings") -> Choice:
    """Return what the sending user may use of a match. Raises NotSigned if that is nothing."""
    signatures = [each for text, place in match.lists for each in senders.parse(text, place)]
    refusals = [_refusal(message, settings, signature) for signature in signatures]
    refused: list[NotSigned] = [refusal for refusal in refusals if refusal]
    if len(refused) == len(signatures):
        raise refused[0]
    values = macros(match.mailbox, match.domain)
    completed = []
    for signature in [signature for signature, refusal in zip(signatures, refusals) if not refusal]:
        try:
            completed.append(complete(signature, settings, values))
        except NotSigned as reason:
            refused.append(reason)
    if not completed:
        raise refused[-1]
    return Choice(match, completed, refused)


def _refusal(message: "Message", settings: "Settings", signature: "Signature") -> "NotAllowed | None":
    """Return why the sending user may not use a signature; few signatures are limited to anyone."""
    if signature.options.keys().isdisjoint(senders.PERMISSIONS):
        return None
    from dkimpipe.permission import refusal

    return refusal(message, settings, signature)


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

    They are the address, the address without ``+extension``, ``*@`` and its domain, the domain, for each
    parent domain ``*@*.`` and that domain, and the domain, and finally ``.``; each domain with A-labels is
    also included with U-labels.
    """
    local_parts = [to_lower(mailbox.local_part)]
    plain = local_parts[0].partition(b"+")[0].lstrip(b'"')
    if plain and plain != local_parts[0]:
        local_parts.append(plain)
    local_ats = [local_part + b"@" for local_part in local_parts]
    return [*_keys(mailbox.domain, [*local_ats, AT_ANY, b""], [AT_SUBDOMAINS, b""]), b"."]


def domain_of_key(key: bytes) -> bytes:
    """Return the domain of a key of the sender map, also that of an address or pattern, not of ``.``."""
    domain = key.rpartition(b"@")[2]
    return domain[2:] if key.startswith(AT_SUBDOMAINS) else domain


def author_of(message: "Message") -> Mailbox:
    """Return the address of From. Raises NoAuthor if there is none, or more than one From field."""
    fields = message.by_name.get(b"from", [])
    if len(fields) != 1:
        raise NoAuthor(f"{len(fields)} From fields" if fields else "no From field")
    try:
        return first_mailbox(fields[0].value)
    except NotSigned as reason:
        from dkimpipe.lenient import only_mailbox

        mailbox = only_mailbox(fields[0].value)
        if not mailbox:
            raise NoAuthor(str(reason)) from None
        return mailbox


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


def _list_id(message: "Message") -> bytes:
    """Return the List-Id in lower case (RFC 2919 section 2), empty if there is no valid one."""
    fields = message.by_name.get(b"list-id")
    if not fields:
        return b""
    list_id = to_lower(fields[0].value.rpartition(b"<")[2].partition(b">")[0].strip())
    return list_id if len(list_id) <= _MAX_LIST_ID and list_id.split() == [list_id] else b""


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


def domains(settings: "Settings") -> "list[bytes]":
    """Return the domains of ``domain``, in A-labels; an empty one if it is not set. Raises ConfigError."""
    given_domains = settings.get("domain").encode("utf-8", "surrogateescape").split(b",")
    found = [as_a_labels(domain.strip()) for domain in given_domains]
    for domain in filter(None, found):
        if not is_domain(domain):
            raise ConfigError(f"{settings.places['domain']}: '{printable(domain)}' is not a valid domain")
    return found


def signatures_without_map(settings: "Settings") -> "list[tuple[str, Place]]":
    """Return the values of ``signature``; by default dkim if ``domain`` is set and there are no maps."""
    if settings.signatures:
        return settings.signatures
    if "domain" not in settings.values or "sender_map" in settings.values or "listid_map" in settings.values:
        return []
    return [("dkim", settings.places["domain"])]


def _domain_keys(domain: bytes) -> "list[bytes]":
    """Return a domain and each of its parents in both spellings, and ``.``."""
    return [*_keys(domain, [b""], [b""]), b"."]


def _keys(domain: bytes, before_domain: "list[bytes]", before_parents: "list[bytes]") -> "list[bytes]":
    """Return a domain and each of its parents in both spellings, with each of these before them."""
    keys = []
    labels = domain.split(b".")
    for first in range(len(labels)):
        both = spellings(b".".join(labels[first:]))
        keys += [before + each for before in (before_parents if first else before_domain) for each in both]
    return keys
