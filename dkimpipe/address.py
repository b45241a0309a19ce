"""The first mailbox of a From or Sender field (RFC 5322 section 3.4), and the two spellings of a domain.

One pass from left to right: the time is linear in the length of the field, whatever its content.
Obsolete forms (section 4.4) are accepted: routes, white space and comments anywhere, empty list elements.
"""

from dkimpipe.errors import NotSigned, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Token = tuple[bytes, bytes]

_WHITE_SPACE = b" \t\r\n"
_ATOM_ENDS = b'()<>[]:;@\\,."' + _WHITE_SPACE
_CONTROLS = bytes([*range(32), 127])
_LABEL_OCTETS = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
_MAX_DOMAIN = 253  # octets in A-labels, RFC 1035 section 2.3.4 less length octets
_MAX_UTF8_DOMAIN = 4 * _MAX_DOMAIN
_ATOM, _QUOTED, _LITERAL = b"a", b'"', b"["


class Mailbox:
    """``local_part`` as written, without unneeded quotes; ``domain`` in lower case, in A-labels."""

    __slots__ = ("domain", "local_part")

    def __init__(self, local_part: bytes, domain: bytes) -> None:
        self.local_part = local_part
        self.domain = domain

    @property
    def address(self) -> bytes:
        """The address, RFC 5322 addr-spec."""
        return self.local_part + b"@" + self.domain


def first_mailbox(value: bytes) -> Mailbox:
    """Return the first mailbox of an unfolded field value.

    Raises NotSigned if there is none, and for a second pair of angle brackets behind the first: other
    programs differ in which address they take.
    """
    words: list[Token] = []
    angle = False
    try:
        tokens = _tokens(value)
        for kind, text in tokens:
            if kind == b"<" and not angle:
                angle, words = True, []
            elif kind == b">" and angle:
                if _has_another_angle(tokens, value):
                    raise ValueError("two addresses")
                return _mailbox(words)
            elif kind == b":":  # preceded by a group name, or by a route, which begins with @
                is_route = angle and words[:1] == [(b"@", b"@")]
                if (b"@", b"@") in words and not is_route:
                    raise ValueError("an address before a colon")
                words = []
            elif kind in b",;" and not angle:
                if (b"@", b"@") in words:
                    break
                words = []
            elif not (angle and kind == b","):
                words.append((kind, text))
        if angle:
            raise ValueError("no closing angle")
        return _mailbox(words)
    except ValueError:
        raise NotSigned(f"no address in '{printable(value)}'") from None


def _has_another_angle(tokens: "Iterator[Token]", value: bytes) -> bool:
    """Return whether the rest of a mailbox has an opening angle bracket; with a syntax error, if it could."""
    try:
        for kind, _ in tokens:
            if kind in b",;<":
                return kind == b"<"
    except ValueError:
        return value.count(b"<") > 1
    return False


def holds_one_address(value: bytes) -> bool:
    """Return whether an unfolded field value contains exactly one address, counting malformed ones."""
    try:
        return sum(kind == b"@" for kind, _ in _tokens(value)) == 1
    except ValueError:
        return False


def is_at_or_below(domain: bytes, parent: bytes) -> bool:
    """Return whether a domain is ``parent`` or a subdomain of it."""
    return domain == parent or domain.endswith(b"." + parent)


def is_domain(domain: bytes) -> bool:
    """Return whether this is valid in d= or s=: labels of letters, digits, hyphens and underscores."""
    labels = domain.split(b".")
    return len(domain) <= _MAX_DOMAIN and all(
        0 < len(label) < 64 and not label.translate(None, _LABEL_OCTETS) for label in labels
    )


def selector_in(name: bytes) -> bytes:
    """Return the part of a record's name before ``_domainkey``; the name itself if it is only a selector."""
    labels = to_lower(name).split(b".")
    return b".".join(labels[: labels.index(b"_domainkey")]) if b"_domainkey" in labels else name


def domain_in(name: bytes) -> bytes:
    """Return the part of a record's name after ``_domainkey``; the name itself if it is only a domain."""
    labels = to_lower(name).split(b".")
    while b"_domainkey" in labels:
        labels = labels[labels.index(b"_domainkey") + 1 :]
    return b".".join(labels)


def to_lower(octets: bytes) -> bytes:
    """Return octets in lower case: all letters in UTF-8, only US-ASCII letters in anything else."""
    if octets.isascii():
        return octets.lower()
    return octets.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


def to_a_labels(domain: bytes) -> bytes:
    """Return a domain in lower case, with UTF-8 labels outside US-ASCII as A-labels (RFC 5890).

    Raises ValueError for invalid UTF-8 and for too many octets: punycode takes quadratic time.
    """
    if domain.isascii():
        return domain.lower()
    if len(domain) > _MAX_UTF8_DOMAIN:
        raise ValueError("too long for a domain")
    from unicodedata import normalize

    text = normalize("NFKC", normalize("NFKC", domain.decode("utf-8")).lower())
    labels = text.replace("\u3002", ".").split(".")
    return b".".join([i.encode() if i.isascii() else b"xn--" + i.encode("punycode") for i in labels])


def to_u_labels(domain: bytes) -> bytes:
    """Return a domain with A-labels converted to U-labels, UTF-8; labels that do not decode are unchanged."""
    if b"xn--" not in domain:
        return domain
    return b".".join([_u_label(label) for label in domain.split(b".")])


def _u_label(label: bytes) -> bytes:
    if not label.startswith(b"xn--"):
        return label
    try:
        u_label = label[4:].decode("punycode").encode("utf-8")
        return u_label if to_a_labels(u_label) == label else label
    except ValueError:
        return label


def _mailbox(words: "list[Token]") -> Mailbox:
    """Return the mailbox of a tokenized addr-spec; raise ValueError if the tokens are not one."""
    at = words.index((b"@", b"@"))
    local_part = _joined(words[:at])
    domain = _joined(words[at + 1 :])
    if not local_part or len(domain) > _MAX_UTF8_DOMAIN:
        raise ValueError("no address")
    domain = to_a_labels(domain)  # first: full-width characters can become dots, spaces and at signs
    if domain.endswith(b".") and not domain.startswith(b"."):
        domain = domain[:-1]
    address = local_part + domain
    if address.translate(None, _CONTROLS) != address:
        raise ValueError("a control character")
    is_literal = len(words) == at + 2 and words[-1][0] == _LITERAL
    if not is_literal and not is_domain(domain):
        raise ValueError("no domain")
    return Mailbox(local_part, domain)


def _joined(words: "list[Token]") -> bytes:
    """Return words and dots joined; two words without a dot between them are an error."""
    if any(first != b"." != second for (first, _), (second, _) in zip(words, words[1:])):
        raise ValueError("two words in a row")
    if any(kind == b"@" for kind, _ in words):
        raise ValueError("two @")
    return b"".join([_unquoted(text) if kind == _QUOTED else text for kind, text in words])


def _unquoted(quoted: bytes) -> bytes:
    """Return a quoted string without redundant quotes and backslashes (RFC 5322 section 3.2.4)."""
    octets = iter(quoted[1:-1])
    content = bytes([next(octets, octet) if octet == ord("\\") else octet for octet in octets])
    plain = content and not any(octet in _ATOM_ENDS for octet in content.replace(b".", b""))
    return content if plain else b'"%s"' % content.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _tokens(value: bytes) -> "Iterator[Token]":
    """Yield kind and text of each token except white space and comments. Raises ValueError."""
    at = 0
    while at < len(value):
        octet = value[at : at + 1]
        if octet in _WHITE_SPACE:
            at += 1
        elif octet == b"(":
            at = after_comment(value, at)
        elif octet == b'"':
            start, at = at, after_quoted(value, at)
            yield _QUOTED, value[start:at]
        elif octet == b"[":
            start, at = at, value.index(b"]", at) + 1
            yield _LITERAL, value[start:at]
        elif octet in b"<>@,:;.":
            at += 1
            yield octet, octet
        elif octet in b")]\\":
            raise ValueError("out of place")
        else:
            start = at
            while at < len(value) and value[at] not in _ATOM_ENDS:
                at += 1
            yield _ATOM, value[start:at]


def after_comment(value: bytes, at: int) -> int:
    """Return the end of a comment, including nested ones."""
    depth = 0
    while at < len(value):
        octet = value[at]
        at += 1
        if octet == ord("\\"):
            at += 1
        elif octet == ord("("):
            depth += 1
        elif octet == ord(")"):
            depth -= 1
            if not depth:
                return at
    raise ValueError("no closing parenthesis")


def after_quoted(value: bytes, at: int) -> int:
    """Return the end of a quoted string."""
    at += 1
    while at < len(value):
        octet = value[at]
        at += 1
        if octet == ord("\\"):
            at += 1
        elif octet == ord('"'):
            return at
    raise ValueError("no closing quote")


def as_a_labels(domain: bytes) -> bytes:
    """Return a domain in A-labels; one that cannot be decoded is unchanged, and so not a valid domain."""
    try:
        return to_a_labels(domain)
    except ValueError:
        return domain


def spellings(domain: bytes) -> "list[bytes]":
    u_labels = to_u_labels(domain)
    return [domain] if u_labels == domain else [domain, u_labels]
