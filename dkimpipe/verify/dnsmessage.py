"""DNS messages (RFC 1035 section 4): a query for TXT records, and the response to it.

Other types are skipped by their length. A response that is malformed anywhere, or that answers another
query, is not a response at all: it may be forged.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Records = dict[tuple[bytes, int], list[bytes]]

PAYLOAD = 1232  # octets over UDP, DNS Flag Day 2020

_IN, _CNAME, _TXT, _OPT = 1, 5, 16, 41
_RESPONSE, _OPCODE, _TRUNCATED, _RECURSION, _AUTHENTIC = 0x8000, 0x7800, 0x0200, 0x0100, 0x0020
_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP, _REFUSED = range(6)
_MAY_LACK_QUESTION = (_FORMERR, _SERVFAIL, _NOTIMP, _REFUSED)
_MAX_NAME = 255  # octets
_MAX_ALIASES = 16
_EDNS = bytes([0, 0, _OPT, *divmod(PAYLOAD, 256), 0, 0, 0, 0, 0, 0])  # RFC 6891 section 6.1.2


class Query:
    """A query for the TXT records of a name. Raises ValueError if there cannot be such a name.

    ``octets``  the message
    """

    __slots__ = ("_head", "_name", "_question", "octets")

    def __init__(self, name: str, identity: bytes, edns: bool) -> None:
        """``name`` is in A-labels, with or without the final dot, ``identity`` two random octets."""
        labels = name.rstrip(".").encode().split(b".")
        if (
            not all(0 < len(label) < 64 for label in labels)
            or sum(map(len, labels), len(labels)) >= _MAX_NAME
        ):
            raise ValueError("not a domain name")
        wire = b"".join([bytes([len(label)]) + label for label in labels])
        self._head = identity
        self._name = wire.lower()
        self._question = bytes([0, 0, _TXT, 0, _IN])
        flags = _RECURSION | _AUTHENTIC  # RFC 6840 section 5.7
        counts = bytes([0, 1, 0, 0, 0, 0, 0, 1 if edns else 0])
        question = wire + self._question
        self.octets = identity + flags.to_bytes(2, "big") + counts + question + (_EDNS if edns else b"")

    def response(self, octets: bytes) -> Response | None:
        """Return the response in a message, None if it is not a response to this query."""
        try:
            return self._response(octets)
        except (IndexError, ValueError):
            return None

    def _response(self, octets: bytes) -> Response | None:
        flags, questions, *sections = [_number(octets, at) for at in range(2, 12, 2)]
        code = flags & 15
        if octets[:2] != self._head or flags & _OPCODE or not flags & _RESPONSE:
            return None
        at = 12
        if questions == 1:
            name, at = _name(octets, at)
            at += 4
            if name + octets[at - 5 : at] != self._name + self._question:
                return None
        elif questions or code not in _MAY_LACK_QUESTION:
            return None
        if flags & _TRUNCATED:
            return Response(code, truncated=True)
        answer, code = _records(octets, at, sections, code)
        return Response(code, answer, self._name, authentic=bool(flags & _AUTHENTIC))


class Response:
    """A response: ``truncated``, to be asked for by TCP; ``authentic``, by the flag AD (RFC 4035)."""

    __slots__ = ("_answer", "_code", "_name", "authentic", "truncated")

    def __init__(
        self,
        code: int,
        answer: Records | None = None,
        name: bytes = b"",
        truncated: bool = False,
        authentic: bool = False,
    ) -> None:
        self._code = code
        self._answer = answer or {}
        self._name = name
        self.truncated = truncated
        self.authentic = authentic

    @property
    def exists(self) -> bool:
        """Whether the name exists: of an alias, NXDOMAIN is for its target (RFC 6604 section 3)."""
        return self._code != _NXDOMAIN or (self._name, _CNAME) in self._answer

    def texts(self) -> list[bytes] | None:
        """Return the TXT records of the name or of what it is an alias of, the strings of each joined.

        None means that the server failed.
        """
        name = self._name
        for _ in range(_MAX_ALIASES):
            texts = self._answer.get((name, _TXT))
            aliases = self._answer.get((name, _CNAME))
            if texts or not aliases:
                break
            name = aliases[-1]
        else:
            return None
        if self._code == _NXDOMAIN:
            return None if texts else []
        return list(dict.fromkeys(texts or [])) if self._code == _NOERROR else None


def _records(octets: bytes, at: int, sections: list[int], code: int) -> tuple[Records, int]:
    """Return the texts and aliases in the answer section by name and type, and the complete code.

    Raises ValueError and IndexError if any section is malformed.
    """
    answer: Records = {}
    for place, count in enumerate(sections):
        for _ in range(count):
            name, at = _name(octets, at)
            kind, group, start = _number(octets, at), _number(octets, at + 2), at + 10
            end = at = start + _number(octets, start - 2)
            if end > len(octets):
                raise ValueError("truncated")
            if kind == _OPT:
                code |= octets[start - 6] << 4  # RFC 6891 section 6.1.3
            elif kind in (_TXT, _CNAME) and group == _IN:
                value = _text(octets[start:end]) if kind == _TXT else _target(octets, start, end)
                if not place:
                    answer.setdefault((name, kind), []).append(value)
    if at != len(octets):
        raise ValueError("octets after the last record")
    return answer, code


def _text(octets: bytes) -> bytes:
    """Return the strings of a TXT record, joined."""
    strings, at = [], 0
    while at < len(octets) or not at:
        end = at + 1 + octets[at]
        strings.append(octets[at + 1 : end])
        at = end
    if at > len(octets):
        raise ValueError("a string that is too long")
    return b"".join(strings)


def _target(octets: bytes, start: int, end: int) -> bytes:
    name, after = _name(octets, start)
    if after != end:
        raise ValueError("octets after a name")
    return name


def _name(octets: bytes, at: int) -> tuple[bytes, int]:
    """Return a name in lower case, without compression and the final zero, and where it ends.

    A pointer leads to an earlier place (RFC 1035 section 4.1.4), so this ends.
    """
    name, end, earliest = b"", 0, at
    for _ in range(_MAX_NAME):
        length = octets[at]
        if not length:
            return name.lower(), end or at + 1
        if length < 64:
            label = octets[at : at + 1 + length]
            if len(label) <= length:
                raise ValueError("truncated")
            name += label
            at += len(label)
        else:
            pointer = _number(octets, at) - 0xC000
            if not 0 <= pointer < earliest:
                raise ValueError("not a pointer to an earlier place")
            end = end or at + 2
            at = earliest = pointer
        if len(name) >= _MAX_NAME:
            break
    raise ValueError("too long")


def _number(octets: bytes, at: int) -> int:
    return octets[at] << 8 | octets[at + 1]
